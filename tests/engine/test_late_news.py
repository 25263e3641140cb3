"""What an exchange says late, of trades that this process has never seen: booked, alarmed, hedged."""

from __future__ import annotations

from decimal import Decimal

import msgspec

from tests.engine.test_recovery import die, mortal_world, take_over
from tests.engine.worlds import World
from tests.execution.makers import event, fill
from trading.execution.ids import client_order_id, trade_id
from trading.messages import OrderEvent
from trading.messages import OrderState as S
from trading.messages import TradeState as T

D = Decimal


async def finished_then_restarted() -> tuple[World, str]:
    """A trade whose sell leg filled nothing and whose repair undid it, ended under an earlier process."""
    world = mortal_world(buy=["none"], sell=["none"])
    await world.start()
    record = await world.trade()
    assert record.state is T.FAILED
    await die(world)
    await take_over(world, token=4)
    late = next(intent.client_order_id for intent in world.store.intents.values() if intent.leg == 1)
    return world, late


async def test_a_late_fill_of_an_earlier_process_s_trade_is_hedged() -> None:
    world, late = await finished_then_restarted()
    intent = world.store.intents[late]
    news = event(
        S.CANCELLED, client_order_id=late, account_id=12, market=world.beta.key, filled="0.05",
        fills=(fill("x9", "0.05", "50500", client_order_id=late, account_id=12, market=world.beta.key, side="sell"),),
    )  # fmt: skip
    world.other_venue._tell_any(news)
    await world.clock.run_until(lambda: world.engine.status().open_trades)
    world.show(world.alpha, "49990", "50000")
    await world.clock.run_until(lambda: not world.engine.status().open_trades)
    (record,) = world.store.trades.values()
    assert record.state is T.CLOSED
    assert record.residual_base == 0
    assert any("late fill" in alarm for alarm in world.alarms)
    (hedge,) = [one for one in world.store.intents.values() if one.attempt]
    assert (hedge.side, hedge.quantity) == ("buy", D("0.05"))
    assert intent.trade_id == record.trade_id
    world.check_result(record)
    await world.stop()


async def test_what_was_known_already_is_no_news() -> None:
    world, late = await finished_then_restarted()
    count = len(world.store.intents)
    for _ in range(3):
        world.other_venue._tell_any(
            event(S.CANCELLED, client_order_id=late, account_id=12, market=world.beta.key, filled="0")
        )
        await world.clock.settle()
    assert world.alarms == []
    assert len(world.store.intents) == count
    assert world.engine.status().counters["orphan_events"] == 1  # then the trade is known
    await world.stop()


async def test_an_order_with_our_id_that_the_store_does_not_know_blocks_its_account() -> None:
    world = World(faulty=True)
    await world.start()
    await world.no_edge()
    ours = client_order_id(trade_id("test", 7, 2, 99), 1, 0)
    stranger = fill("x9", "0.3", "50000", client_order_id=ours, account_id=12, market=world.beta.key)
    world.other_venue._tell_any(
        event(S.FILLED, client_order_id=ours, account_id=12, market=world.beta.key, filled="0.3", fills=(stranger,))
    )
    await world.clock.settle()
    status = world.engine.status().bots[0]
    assert status.observed == "blocked"
    assert ours in status.reason
    assert any(ours in alarm for alarm in world.alarms)
    assert stranger in world.store.fills.values()
    await world.edge()
    assert world.store.trades == {}
    await world.stop()


async def test_a_store_that_is_away_is_asked_again() -> None:
    world, late = await finished_then_restarted()
    world.store.available = False
    news = event(
        S.CANCELLED, client_order_id=late, account_id=12, market=world.beta.key, filled="0.05",
        fills=(fill("x9", "0.05", "50500", client_order_id=late, account_id=12, market=world.beta.key, side="sell"),),
    )  # fmt: skip
    world.other_venue._tell_any(news)
    await world.clock.advance(5)
    world.store.available = True
    world.show(world.alpha, "49990", "50000")
    await world.clock.run_until(lambda: world.store.trades[world.store.intents[late].trade_id].state is T.CLOSED)
    await world.stop()


async def test_a_total_named_after_the_end_of_an_order_gives_back_what_was_reserved() -> None:
    world = World(faulty=True)
    world.one_venue.script = ["silent"]
    world.one_venue.answers_queries = False
    await world.start()
    await world.edge()
    await world.clock.run_until(lambda: world.one_venue.sent and world.other_venue.sent)
    await world.clock.advance(0.5)
    (intent, *_) = world.one_venue.sent
    ended = OrderEvent(
        account_id=11,
        market=intent.market,
        client_order_id=intent.client_order_id,
        state=S.CANCELLED,
        source="query",
    )
    portfolio = world.engine.desk.portfolio
    world.one_venue._tell(ended)
    assert intent.client_order_id in portfolio.reservations, "how much it had filled is not known"
    world.one_venue._tell(msgspec.structs.replace(ended, filled=D(0)))
    assert intent.client_order_id not in portfolio.reservations
    await world.stop()
