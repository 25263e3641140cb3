"""Trades with a leg missing: who hedges it, at what price, for how long and at what cost; and legs sent one by one."""

from __future__ import annotations

from decimal import Decimal

import msgspec

from tests.engine.test_recovery import die, mortal_world, take_over
from tests.engine.worlds import World
from trading.messages import OrderState as S
from trading.messages import TradeState as T

D = Decimal


def repairs(world: World) -> list[tuple[str, str]]:
    """Where what was sent beyond the first orders."""
    return [(intent.market, intent.side) for intent in world.store.intents.values() if intent.attempt or intent.leg > 1]


async def end(world: World, seconds: float = 600.0) -> None:
    await world.clock.run_until(lambda: world.store.trades and not world.engine.status().open_trades, seconds)


async def test_a_missing_leg_is_completed_at_once_where_it_was_to_trade() -> None:
    world = World(faulty=True)
    world.other_venue.script = ["reject"]
    await world.start()
    record = await world.trade()
    assert record.state is T.CLOSED
    assert repairs(world) == [("beta:BTC/USDT", "sell")]
    assert record.realised_profit is not None
    assert record.realised_profit > 0
    assert record.repair_ms == 0  # its ladder is done with
    world.check_result(record)
    world.check_money()
    world.check_nothing_held()
    await world.stop()


async def test_completing_waits_for_its_widening_cap() -> None:
    world = World(faulty=True)
    world.other_venue.script = ["reject"]
    await world.start()
    await world.edge()
    # Everywhere 10 bps below the entry: inside the tolerance of 30, but not from the beginning.
    world.show(world.alpha, "49000", "50000")
    world.show(world.beta, "49950", "50510")
    began = world.clock.monotonic_ns()
    await end(world)
    (record,) = world.store.trades.values()
    (repair,) = [intent for intent in world.store.intents.values() if intent.attempt]
    assert record.state is T.CLOSED
    assert repair.price >= D("49950") * (1 - D("0.0002"))
    # From the limit of 50490 to 49850 in three seconds: 49950 is reached after 2.5.
    assert 2.0 < (world.clock.monotonic_ns() - began) / 1e9 < 3.1
    assert record.exposure > 0
    world.check_result(record)
    await world.stop()


async def test_a_third_exchange_hedges_when_it_is_the_cheapest() -> None:
    world = World(faulty=True, third=True)
    world.other_venue.script = ["reject"]
    await world.start()
    world.show(world.gamma, "49800", "50600")
    await world.edge()
    world.show(world.alpha, "49600", "50000")
    world.show(world.beta, "49600", "50510")
    await end(world)
    (record,) = world.store.trades.values()
    assert record.state is T.CLOSED
    assert record.residual_base == 0
    assert repairs(world) == [("gamma:BTC/USDT", "sell")]
    (hedge,) = [intent for intent in world.store.intents.values() if intent.leg == 2]
    assert (hedge.account_id, hedge.attempt) == (13, 0)
    assert record.realised_profit is not None
    assert record.realised_profit < 0
    world.check_result(record)
    await world.stop()


async def test_the_budget_of_seconds_ends_in_asking() -> None:
    world = World(faulty=True, unwind_seconds=7.0)
    world.other_venue.script = ["reject"]
    await world.start()
    await world.edge()
    world.show(world.alpha, "40000", "50000")
    world.show(world.beta, "40000", "50510")
    began = world.clock.monotonic_ns()
    await end(world)
    (record,) = world.store.trades.values()
    assert record.state is T.EXPOSED
    assert "no price within the cap of what may be paid, after 7 s and 0 orders" in record.reason
    assert 6.9 < (world.clock.monotonic_ns() - began) / 1e9 < 7.5
    assert repairs(world) == []
    bought = next(fill for fill in world.store.fills.values())
    assert record.exposure >= bought.price * record.residual_base * 6
    assert world.engine.desk.portfolio.reservations == {}
    await world.stop()


async def test_the_budget_of_money_is_never_overspent() -> None:
    world = World(faulty=True, unwind_tolerance_bps=2000.0, max_repair_loss=D(50))
    world.other_venue.script = ["reject"]
    await world.start()
    await world.edge()
    # 0.2 BTC bought: undoing at 49700 would lose 60 and both fees of ten, at 49900 20 and the fees.
    world.show(world.alpha, "49700", "50000")
    world.show(world.beta, "49700", "50510")
    await world.clock.advance(10)
    assert repairs(world) == []
    world.show(world.alpha, "49900", "50000")
    await end(world)
    (record,) = world.store.trades.values()
    assert record.state is T.CLOSED
    assert record.realised_profit is not None
    assert -50 <= record.realised_profit < -20
    world.check_result(record)
    world.check_money()
    await world.stop()


async def test_a_leg_that_is_refused_for_good_is_undone_before_its_orders_are_used_up() -> None:
    world = World(faulty=True)
    world.other_venue.script = ["reject"] * 100
    await world.start()
    await world.edge()
    began = world.clock.monotonic_ns()
    world.show(world.alpha, "49990", "50000")  # what our own order took of the old book is not in doubt
    await end(world)
    (record,) = world.store.trades.values()
    assert record.state is T.CLOSED
    seconds = (world.clock.monotonic_ns() - began) / 1e9
    completion = world.bot.completion_seconds
    assert completion <= seconds < completion + 2
    assert repairs(world)[-1] == ("alpha:BTC/USDT", "sell")
    assert repairs(world).count(("beta:BTC/USDT", "sell")) <= completion + 1
    world.check_result(record)
    world.check_money()
    world.check_nothing_held()
    await world.stop()


async def test_empty_answers_are_tried_again_but_not_for_ever() -> None:
    world = World(faulty=True)
    world.one_venue.script = ["ok", *["none"] * 60]
    world.other_venue.script = ["reject", *["none"] * 60]
    await world.start()
    await world.edge()
    for _ in range(120):  # books go on changing, as they do
        await world.clock.advance(0.5)
        world.show(world.alpha, "49990", "50000")
        world.show(world.beta, "50500", "50510")
        await world.clock.settle()
        if not world.engine.status().open_trades:
            break
    record = next(iter(world.store.trades.values()))
    assert record.state is T.EXPOSED
    assert 2 < len(repairs(world)) <= 24
    ids = [intent.client_order_id for venue in (world.one_venue, world.other_venue) for intent in venue.sent]
    assert len(ids) == len(set(ids))
    await world.stop()


async def test_a_restart_goes_on_where_the_ladder_stood() -> None:
    world = mortal_world(sell=["reject"])
    await world.start()
    await world.edge()
    world.show(world.alpha, "40000", "50000")
    world.show(world.beta, "40000", "50510")
    await world.clock.advance(20)
    (record,) = world.store.trades.values()
    assert record.state is T.REPAIRING
    assert world.engine.trades.under_way()[0].record.repair_ms > 19_000
    kept_ms = record.repair_ms
    assert kept_ms > 14_000  # written now and then, not only at its end
    await die(world)
    await take_over(world, token=4)
    world.show(world.alpha, "40000", "50000")
    world.show(world.beta, "40000", "50510")
    began = world.clock.monotonic_ns()
    await end(world)
    (record,) = world.store.trades.values()
    assert record.state is T.EXPOSED
    assert (world.clock.monotonic_ns() - began) / 1e9 < 30.5 - kept_ms / 1000
    await world.stop()


async def test_the_less_certain_leg_goes_first_and_the_other_is_sized_to_it() -> None:
    world = World(faulty=True, leg_policy="uncertain_first", price_tolerance_bps=0.0)
    world.other_venue.script = ["half"]  # beta's book is the thinner one
    await world.start()
    world.show(world.alpha, "49990", "50000", size="5")
    world.show(world.beta, "50500", "50510", size="1")
    await world.clock.settle()
    await end(world)
    (record,) = world.store.trades.values()
    assert record.state is T.CLOSED
    assert record.residual_base == 0
    assert record.repair_ms == 0
    first, second = sorted(world.store.intents.values(), key=lambda intent: intent.created_ns)
    assert (first.market, first.leg, first.attempt) == ("beta:BTC/USDT", 1, 0)
    assert (second.market, second.leg, second.attempt) == ("alpha:BTC/USDT", 0, 0)
    assert second.quantity == first.quantity / 2 // D("0.0001") * D("0.0001")
    assert T.REPAIRING not in world.trade_states(record.trade_id)
    world.check_result(record)
    world.check_money()
    world.check_nothing_held()
    await world.stop()


async def test_a_first_leg_that_fills_nothing_sends_no_second() -> None:
    world = World(faulty=True, leg_policy="uncertain_first")
    world.one_venue.script = ["none"]
    world.other_venue.script = ["none"]
    await world.start()
    record = await world.trade()
    assert record.state is T.FAILED
    assert len(world.store.intents) == 1
    world.check_nothing_held()
    world.check_money()
    await world.stop()


async def test_both_legs_are_reserved_though_one_leaves_later() -> None:
    world = World(faulty=True, leg_policy="uncertain_first")
    world.one_venue.script = world.other_venue.script = ["silent"]
    await world.start()
    await world.edge()
    await world.clock.settle()
    held = {(hold.purse.account_id, hold.asset) for hold in world.engine.desk.portfolio.reservations.values()}
    assert held == {(11, "USDT"), (12, "BTC")}
    await end(world)
    world.check_nothing_held()
    await world.stop()


async def test_a_held_leg_that_is_disputed_keeps_its_reservation() -> None:
    world = World(faulty=True, leg_policy="uncertain_first")
    world.other_venue.script = ["lose_request"]
    world.other_venue.answers_queries = False
    await world.start()
    await world.edge()
    await world.clock.run_until(lambda: world.store.trades and not world.engine.status().open_trades, 2000)
    (record,) = world.store.trades.values()
    assert record.state is T.EXPOSED
    disputed = [client_id for client_id, state in world.store.states.items() if state is S.DISPUTED]
    assert list(world.engine.desk.portfolio.reservations) == disputed
    assert len(disputed) == 1
    await world.stop()


async def test_a_crash_between_the_legs_completes_what_was_held_back() -> None:
    world = mortal_world()
    bot = msgspec.structs.replace(world.bot, leg_policy="uncertain_first", price_tolerance_bps=0.0)
    world.config = msgspec.structs.replace(world.config, bots=(bot,))
    world.engine = world.make_engine()
    world.other_venue.script = ["silent"]
    await world.start()
    world.show(world.alpha, "49990", "50000", size="5")
    world.show(world.beta, "50500", "50510", size="1")
    await world.clock.settle()
    await world.clock.advance(0.2)  # the first leg was acknowledged, its fills are not known
    assert len(world.store.intents) == 1
    await die(world)
    world.other_venue._listener = world.one_venue._listener = None
    world.engine = world.make_engine(4)
    await world.start()
    world.show(world.alpha, "49990", "50000", size="5")
    world.show(world.beta, "50000", "50510", size="1")
    await world.clock.run_until(lambda: not world.engine.status().open_trades, 2000)
    (record,) = world.store.trades.values()
    assert record.state is T.CLOSED
    assert record.residual_base == 0
    assert sorted((intent.leg, intent.attempt) for intent in world.store.intents.values()) == [(0, 0), (1, 0)]
    assert set(world.store.states.values()) == {S.FILLED}
    world.check_money()
    await world.stop()


async def test_a_repair_that_had_to_wait_for_the_store_is_not_sent() -> None:
    world = World(faulty=True)
    world.other_venue.script = ["reject"]
    real = world.store.commit_repair
    waits = [3.0]

    async def slow(*given: object) -> None:
        if waits:
            await world.clock.sleep(waits.pop())
        await real(*given)  # type: ignore[arg-type]

    world.store.commit_repair = slow  # type: ignore[method-assign,assignment]
    await world.start()
    record = await world.trade()
    assert record.state is T.CLOSED
    first, second = sorted((one for one in world.store.intents.values() if one.attempt), key=lambda one: one.attempt)
    assert world.store.states[first.client_order_id] is S.FAILED
    assert "not sent, the decision was 3.0 s old" in world.store.events[first.client_order_id][-1].cause
    sent = [intent.client_order_id for venue in (world.one_venue, world.other_venue) for intent in venue.sent]
    assert first.client_order_id not in sent
    assert second.client_order_id in sent
    world.check_result(record)
    world.check_nothing_held()
    await world.stop()
