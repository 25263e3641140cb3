"""A process that dies at any point leaves a trade that the next one brings to its end, with nothing sent twice."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from decimal import Decimal

import msgspec
import pytest

from tests.engine.worlds import World, spot
from trading.execution.memory_store import MemoryStore
from trading.messages import Decision, OrderEvent, OrderIntent, TradeRecord
from trading.messages import OrderState as S
from trading.messages import TradeState as T

D = Decimal


class MortalStore(MemoryStore):
    """A store that, once its process is dead, takes nothing more."""

    def __init__(self) -> None:
        super().__init__()
        self.dead = False

    async def _alive(self) -> None:
        if self.dead:
            await asyncio.get_running_loop().create_future()

    async def commit_trade(self, trade: TradeRecord, intents: Sequence[OrderIntent], decision: Decision) -> None:
        await self._alive()
        await super().commit_trade(trade, intents, decision)

    async def commit_repair(self, trade: TradeRecord, intent: OrderIntent) -> None:
        await self._alive()
        await super().commit_repair(trade, intent)

    def record_event(self, event: OrderEvent, state: str) -> None:
        if not self.dead:
            super().record_event(event, state)

    def record_trade(self, trade: TradeRecord) -> None:
        if not self.dead:
            super().record_trade(trade)


async def die(world: World) -> None:
    """End the engine as a crash does: nothing it does on its way down reaches the store."""
    assert isinstance(world.store, MortalStore)
    world.store.dead = True
    assert world.task is not None
    world.task.cancel()
    await asyncio.gather(world.task, return_exceptions=True)
    world.store.dead = False


async def take_over(world: World, token: int) -> None:
    """Start another engine on the same store and the same exchanges."""
    world.one_venue._listener = world.other_venue._listener = None
    world.engine = world.make_engine(token)
    await world.start()
    if world.engine.config.bots:
        await world.no_edge()


def mortal_world(buy: Sequence[str] = (), sell: Sequence[str] = (), **bot: object) -> World:
    world = World(faulty=True, **bot)  # type: ignore[arg-type]
    world.store = MortalStore()
    world.one_venue.script, world.other_venue.script = list(buy), list(sell)
    world.engine = world.make_engine()
    return world


async def step(world: World) -> bool:
    """Let time jump to the next thing that happens."""
    sleepers = [entry for entry in world.clock._sleepers if not entry[2].done()]
    if not sleepers:
        return False
    at = min(sleepers)[0]
    await world.clock.advance(max(0.0, (at - world.clock._now) / 1e9))
    return True


SCRIPTS = [
    ((), ()),
    (("lose_answer",), ()),
    ((), ("lose_request",)),
    (("half",), ("silent",)),
    ((), ("reject", "half")),
]


@pytest.mark.parametrize(("buy", "sell"), SCRIPTS, ids=[f"{'-'.join(b)}_{'-'.join(s)}" for b, s in SCRIPTS])
@pytest.mark.parametrize("steps", range(12))
async def test_a_crash_at_any_step_is_recovered(buy: Sequence[str], sell: Sequence[str], steps: int) -> None:
    world = mortal_world(buy, sell)
    await world.start()
    await world.edge()
    for _ in range(steps):
        if world.store.trades and not world.engine.status().open_trades:
            break
        await step(world)
    await die(world)
    sent_before = len(world.one_venue.sent) + len(world.other_venue.sent)
    await take_over(world, token=4)
    await world.clock.run_until(lambda: not world.engine.status().open_trades, 2000)
    await world.stop()

    ids = [intent.client_order_id for venue in (world.one_venue, world.other_venue) for intent in venue.sent]
    assert len(ids) == len(set(ids))
    for record in world.store.trades.values():
        assert record.state in {T.CLOSED, T.EXPOSED, T.FAILED}
        world.check_result(record)
    assert world.store.unresolved == []
    world.check_money()
    assert world.engine.desk.portfolio.reservations == {}
    if sent_before and not buy and not sell:
        assert all(record.state is T.CLOSED for record in world.store.trades.values())


async def test_a_crash_during_recovery_is_recovered() -> None:
    world = mortal_world(("lose_answer",), ("lose_request",))
    await world.start()
    await world.edge()
    for token in range(4, 10):
        for _ in range(3):
            await step(world)
        await die(world)
        await take_over(world, token)
    await world.clock.run_until(lambda: not world.engine.status().open_trades, 2000)
    await world.stop()
    for record in world.store.trades.values():
        world.check_result(record)
    assert world.store.unresolved == []
    world.check_money()


async def test_an_intent_that_was_never_sent_is_void() -> None:
    world = mortal_world()
    await world.start()
    await world.edge()
    await die(world)
    for client_id in world.store.states:
        world.store.states[client_id] = S.PENDING
    await take_over(world, token=4)
    await world.clock.run_until(lambda: not world.engine.status().open_trades)
    assert set(world.store.states.values()) == {S.FAILED}
    (record,) = world.store.trades.values()
    assert record.state is T.FAILED
    assert "never" in record.reason or "before it was sent" in record.reason
    await world.stop()


async def test_accounts_with_unfinished_trades_wait_for_them() -> None:
    world = mortal_world(sell=("lose_request",))
    await world.start()
    await world.edge()
    await die(world)
    await take_over(world, token=4)
    assert world.engine.status().bots[0].observed in {"blocked", "starting"}
    assert all(S.UNKNOWN in history for history in world.store.history.values())
    assert len(world.engine.status().unresolved_orders) == 2
    trades = len(world.store.trades)
    await world.edge()
    assert len(world.store.trades) == trades
    await world.clock.run_until(lambda: not world.engine.status().open_trades, 2000)
    assert world.engine.status().bots[0].observed == "running"
    await world.stop()


async def test_a_trade_that_cannot_be_taken_up_is_alarmed_and_left_alone() -> None:
    world = mortal_world()
    await world.start()
    await world.edge()
    await die(world)
    (before,) = world.store.trades.values()
    world.config = msgspec.structs.replace(world.config, bots=())
    await take_over(world, token=4)
    await world.clock.settle()
    assert any("can't be taken up" in alarm for alarm in world.alarms)
    assert world.store.trades[before.trade_id] == before
    await world.stop()


async def test_a_stopped_bots_trade_is_settled_with_the_markets_given() -> None:
    world = mortal_world()
    await world.start()
    await world.edge()
    await die(world)
    world.config = msgspec.structs.replace(world.config, bots=(), markets=(world.alpha, world.beta))
    await take_over(world, token=4)
    await world.clock.run_until(lambda: not world.engine.status().open_trades, 2000)
    assert world.store.unresolved == []
    await world.stop()


async def test_accounts_of_a_trade_that_cannot_be_taken_up_take_no_new_one() -> None:
    world = mortal_world()
    await world.start()
    await world.edge()
    await die(world)
    (before,) = world.store.trades.values()
    gamma, buyer = spot("gamma"), world.one_venue
    # Its buy order's market is gone; the sell order's account is there, and another bot is to trade with it.
    other = msgspec.structs.replace(
        world.bot, bot_id=2, markets=(gamma, world.beta), accounts={"gamma": 13, "beta": 12}
    )
    accounts = (world.account(12, "beta"), world.account(13, "gamma"))
    world.venues = {12: world.other_venue, 13: world.faulty_venue(13, gamma)}
    world.config = msgspec.structs.replace(world.config, accounts=accounts, bots=(other,))
    buyer._listener = world.other_venue._listener = None
    world.engine = world.make_engine(4)
    await world.start()
    await world.clock.advance(1)
    (bot,) = world.engine.status().bots
    assert bot.observed == "blocked"
    assert f"account 12: trade {before.trade_id}" in bot.reason
    # With its market and account back, it is settled and the account free.
    world.venues[11] = buyer
    changed = msgspec.structs.replace(
        world.engine.config, accounts=(world.account(11, "alpha"), *accounts), markets=(world.alpha,)
    )
    world.engine.update(changed, world.venues)
    await world.clock.run_until(lambda: not world.engine.status().open_trades and not world.store.unresolved, 2000)
    assert world.engine.status().bots[0].observed == "running"
    await world.stop()
