"""Trades over a store that fails half-way: every order that leaves is durable as it leaves, and nothing stays held."""

from __future__ import annotations

from collections.abc import Sequence
from decimal import Decimal

import msgspec

from tests.engine.worlds import World
from trading.execution.memory_store import MemoryStore
from trading.messages import Decision, OrderIntent, TradeRecord
from trading.messages import TradeState as T
from trading.ports import StoreUnavailable

D = Decimal


class DoubtfulStore(MemoryStore):
    """Commits the first repairs, but the answer to COMMIT is lost on its way back."""

    def __init__(self, lost_answers: int) -> None:
        super().__init__()
        self.lost_answers = lost_answers

    async def commit_repair(self, trade: TradeRecord, intent: OrderIntent) -> None:
        await super().commit_repair(trade, intent)
        if self.lost_answers:
            self.lost_answers -= 1
            raise StoreUnavailable("the connection was lost at COMMIT")


def world_on(store: MemoryStore) -> World:
    world = World(faulty=True)
    world.store = store
    world.engine = world.make_engine()
    return world


async def test_a_repair_whose_commit_is_in_doubt_is_followed_by_one_with_an_id_of_its_own() -> None:
    world = world_on(DoubtfulStore(lost_answers=1))
    world.other_venue.script = ["none"]
    await world.start()
    record = await world.trade()
    assert record.state is T.CLOSED
    repairs = [intent for intent in world.store.intents.values() if intent.attempt]
    sent = [intent for venue in (world.one_venue, world.other_venue) for intent in venue.sent if intent.attempt]
    # The one in doubt is durable and was not sent; the one that was sent is durable as it was sent.
    assert len(repairs) == 2
    assert len(sent) == 1
    assert sent[0] in repairs
    world.check_result(record)
    world.check_money()
    await world.stop()


async def test_a_store_that_takes_no_repair_leaves_the_trade_exposed_and_nothing_held() -> None:
    world = world_on(DoubtfulStore(lost_answers=1000))
    world.other_venue.script = ["none"]
    await world.start()
    record = await world.trade()
    assert record.state is T.EXPOSED
    assert "store" in record.reason
    assert not any(intent.attempt for venue in (world.one_venue, world.other_venue) for intent in venue.sent)
    assert world.engine.desk.portfolio.reservations == {}
    await world.stop()


class RefusingStore(MemoryStore):
    """Raises for one bot's trades what is neither a lost lease nor an absent database."""

    async def commit_trade(self, trade: TradeRecord, intents: Sequence[OrderIntent], decision: Decision) -> None:
        if trade.bot_id == 1:
            raise ValueError("bot_id: [1] is not of owner 7")
        await super().commit_trade(trade, intents, decision)


async def test_a_trade_the_store_refuses_stops_its_bot_and_holds_nothing_of_the_others() -> None:
    world = World(faulty=True)
    world.store = RefusingStore()
    second = msgspec.structs.replace(world.bot, bot_id=2, name="second")
    world.config = msgspec.structs.replace(world.config, bots=(world.bot, second))
    world.engine = world.make_engine()
    await world.start()
    await world.edge()
    await world.clock.settle()
    assert world.engine.desk.portfolio.reservations == {}
    world.show(world.alpha, "49980", "49999")
    await world.clock.run_until(lambda: world.store.trades and not world.engine.status().open_trades)
    assert [record.bot_id for record in world.store.trades.values()] == [2]
    assert [bot.observed for bot in world.engine.status().bots] == ["failed", "running"]
    world.check_nothing_held()
    await world.stop()


class AbsentStore(MemoryStore):
    """Takes no trade: its database is not there. ``given`` are the orders it was asked to make durable."""

    def __init__(self) -> None:
        super().__init__()
        self.given: list[OrderIntent] = []

    async def commit_trade(self, trade: TradeRecord, intents: Sequence[OrderIntent], decision: Decision) -> None:
        self.given += intents
        raise StoreUnavailable("the database is not there")


async def test_a_trade_that_does_not_become_durable_is_in_no_list_and_its_account_is_watched_as_before() -> None:
    store = AbsentStore()
    world = world_on(store)
    await world.start()
    await world.edge()
    await world.clock.settle()
    trades, desk = world.engine.trades, world.engine.desk
    assert len(store.given) == 2
    assert not any(venue.sent for venue in (world.one_venue, world.other_venue))
    assert trades.followed() == []
    assert trades.opening == {}
    assert all(trades.of_order(intent.client_order_id) is None for intent in store.given)
    assert not any(desk.explained._underway.values())
    world.check_nothing_held()
    await world.stop()
