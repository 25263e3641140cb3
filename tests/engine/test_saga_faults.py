"""Trades on exchanges that fail: nothing is lost, nothing is sent twice, every loss is booked to the last digit."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from decimal import Decimal

import msgspec
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from tests.engine.worlds import FaultyVenue, World
from tests.execution.makers import event
from trading.messages import OrderEvent, OrderIntent, Outcome, PlaceResult
from trading.messages import OrderState as S
from trading.messages import TradeState as T

D = Decimal


async def world_with(
    buy: list[str] | None = None,
    sell: list[str] | None = None,
    *,
    terms: dict[str, object] | None = None,
    **bot: object,
) -> World:
    world = World(faulty=True, terms=terms, **bot)
    world.one_venue.script = list(buy or [])
    world.other_venue.script = list(sell or [])
    await world.start()
    return world


def sent_once(world: World) -> None:
    ids = [intent.client_order_id for venue in (world.one_venue, world.other_venue) for intent in venue.sent]
    assert len(ids) == len(set(ids))
    assert set(ids) <= set(world.store.intents)


async def test_both_legs_fill() -> None:
    world = await world_with()
    record = await world.trade()
    assert record.state is T.CLOSED
    assert record.mode == "simulated"
    assert record.realised_profit is not None
    assert record.realised_profit > 0
    world.check_result(record)
    world.check_money()
    world.check_nothing_held()
    await world.stop()


async def test_both_legs_rejected_is_a_failed_trade_with_the_reasons() -> None:
    world = await world_with(["reject"], ["reject"])
    record = await world.trade()
    assert record.state is T.FAILED
    assert record.realised_profit is None
    assert "insufficient balance" in record.reason
    assert set(world.store.states.values()) == {S.FAILED}
    world.check_money()
    world.check_nothing_held()
    await world.stop()


async def test_one_leg_rejected_is_completed_or_undone() -> None:
    world = await world_with(sell=["reject"])
    record = await world.trade()
    assert record.state is T.CLOSED
    assert record.residual_base == 0
    attempts = sorted((intent.leg, intent.attempt) for intent in world.store.intents.values())
    assert attempts == [(0, 0), (1, 0), (1, 1)]
    world.check_result(record)
    world.check_money()
    world.check_nothing_held()
    sent_once(world)
    await world.stop()


async def test_repair_takes_the_better_market() -> None:
    world = await world_with(sell=["none"])
    await world.edge()
    await world.clock.settle()
    # While the sell leg comes back empty, beta's bid falls below alpha's: undoing on alpha is now the cheaper way out.
    world.show(world.beta, "49900", "49910")
    await world.clock.run_until(lambda: world.store.trades and not world.engine.status().open_trades)
    (record,) = world.store.trades.values()
    assert record.state is T.CLOSED
    repairs = [intent for intent in world.store.intents.values() if intent.attempt]
    assert [(intent.market, intent.side) for intent in repairs] == [("alpha:BTC/USDT", "sell")]
    assert record.realised_profit is not None
    assert record.realised_profit < 0
    world.check_result(record)
    world.check_money()
    await world.stop()


async def test_a_loss_beyond_the_cap_is_not_taken() -> None:
    world = await world_with(sell=["reject"])
    await world.edge()
    # Both bids fall 1 % below the entry; the cap never gets there.
    world.show(world.alpha, "49500", "50000")
    world.show(world.beta, "49500", "50510")
    await world.clock.run_until(lambda: world.store.trades and not world.engine.status().open_trades)
    (record,) = world.store.trades.values()
    assert record.state is T.EXPOSED
    assert record.residual_base > 0
    assert "bought and not sold" in record.reason
    assert world.engine.status().bots[0].observed == "blocked"
    world.check_result(record)
    world.check_money()
    assert world.engine.desk.portfolio.reservations == {}
    await world.stop()


async def test_partial_legs_are_evened_out() -> None:
    world = await world_with(buy=["half"])
    record = await world.trade()
    assert record.state is T.CLOSED
    assert record.residual_base == 0
    assert sum(1 for intent in world.store.intents.values() if intent.attempt) == 1
    world.check_result(record)
    world.check_money()
    world.check_nothing_held()
    await world.stop()


async def test_dust_is_inventory_and_said() -> None:
    world = await world_with(["half"], terms={"min_notional": D(10)}, max_trade_notional=D(12))
    record = await world.trade()
    assert record.state is T.CLOSED
    assert record.residual_base < 0
    assert "below the smallest order" in record.reason
    world.check_result(record)
    world.check_money()
    await world.stop()


async def test_a_lost_answer_is_adopted_by_asking() -> None:
    world = await world_with(buy=["lose_answer"])
    record = await world.trade()
    assert record.state is T.CLOSED
    lost = next(intent for intent in world.store.intents.values() if intent.leg == 0)
    assert world.store.history[lost.client_order_id] == [S.PENDING, S.SENDING, S.UNKNOWN, S.FILLED]
    assert set(world.store.states.values()) == {S.FILLED}
    world.check_result(record)
    world.check_money()
    world.check_nothing_held()
    sent_once(world)
    await world.stop()


async def test_a_lost_answer_is_adopted_from_the_stream() -> None:
    world = await world_with(buy=["lose_answer"])
    world.one_venue.answers_queries = False
    await world.edge()
    await world.clock.run_until(lambda: world.engine.status().unresolved_orders)
    assert world.engine.status().bots[0].observed == "blocked"
    world.one_venue.speak()
    await world.clock.run_until(lambda: not world.engine.status().open_trades)
    (record,) = world.store.trades.values()
    assert record.state is T.CLOSED
    world.check_result(record)
    world.check_money()
    await world.stop()


async def test_a_lost_request_is_absent_only_after_its_window_and_two_denials() -> None:
    world = await world_with(sell=["lose_request"])
    began = world.clock.monotonic_ns()
    record = await world.trade()
    lost = next(intent for intent in world.store.intents.values() if intent.leg == 1 and intent.attempt == 0)
    assert world.store.states[lost.client_order_id] is S.FAILED
    absent = next(event for event in world.store.events[lost.client_order_id] if event.state is S.FAILED)
    assert "absent" in absent.cause
    assert absent.received_ns - lost.created_ns >= 25 * 10**9
    assert world.clock.monotonic_ns() - began >= 25 * 10**9
    assert sum(at - began >= 25 * 10**9 for at in world.other_venue.denials) == 2
    # Nothing was repaired before that, afterwards the other leg was evened out.
    repair = next(intent for intent in world.store.intents.values() if intent.attempt == 1)
    assert repair.created_ns >= absent.received_ns
    assert record.state is T.CLOSED
    world.check_result(record)
    world.check_money()
    sent_once(world)
    await world.stop()


async def test_an_order_nobody_answers_for_is_disputed_and_counted_at_its_worst() -> None:
    world = await world_with(sell=["lose_request"])
    world.other_venue.answers_queries = False
    record = await world.trade(seconds=900)
    assert record.state is T.EXPOSED
    assert S.DISPUTED in world.store.states.values()
    assert "DISPUTED" in record.reason
    assert "unhedged" in record.reason
    assert not any(intent.attempt for intent in world.store.intents.values())
    assert world.engine.desk.portfolio.reservations
    assert world.engine.status().bots[0].observed == "blocked"
    await world.stop()


async def test_a_dispute_the_exchange_ends_itself_is_settled() -> None:
    world = await world_with(sell=["lose_request"])
    world.other_venue.answers_queries = False
    record = await world.trade(seconds=900)
    assert record.state is T.EXPOSED
    disputed = next(intent for intent in world.store.intents.values() if intent.leg == 1)
    world.other_venue.answers_queries = True
    world.other_venue._tell(
        event(
            S.CANCELLED,
            filled="0",
            account_id=12,
            market=disputed.market,
            client_order_id=disputed.client_order_id,
        )
    )
    await world.clock.run_until(lambda: not world.engine.status().open_trades)
    record = world.store.trades[record.trade_id]
    assert record.state is T.CLOSED
    assert record.residual_base == 0
    assert world.engine.status().bots[0].observed == "running"
    world.check_result(record)
    world.check_money()
    world.check_nothing_held()
    await world.stop()


async def test_a_decision_that_had_to_wait_is_not_sent() -> None:
    world = await world_with()
    commit = world.store.commit_trade

    async def slow(*arguments: object) -> None:
        await world.clock.sleep(3)
        await commit(*arguments)  # type: ignore[arg-type]

    world.store.commit_trade = slow  # type: ignore[method-assign, assignment]
    record = await world.trade()
    assert record.state is T.FAILED
    assert "3.0 s old" in record.reason
    assert world.one_venue.sent == world.other_venue.sent == []
    world.check_nothing_held()
    await world.stop()


async def test_silence_after_an_acknowledgement_is_ended_by_asking() -> None:
    world = await world_with(buy=["silent"])
    record = await world.trade()
    assert record.state is T.CLOSED
    world.check_result(record)
    world.check_money()
    await world.stop()


async def test_a_venue_that_raises_leaves_an_unknown_order() -> None:
    world = await world_with(buy=["raise"])
    record = await world.trade()
    assert any("venue raised RuntimeError" in alarm for alarm in world.alarms)
    first = next(intent for intent in world.store.intents.values() if intent.leg == 0 and intent.attempt == 0)
    assert world.store.history[first.client_order_id] == [S.PENDING, S.SENDING, S.UNKNOWN, S.FAILED]
    assert record.state in {T.CLOSED, T.EXPOSED}
    world.check_result(record)
    world.check_money()
    await world.stop()


async def test_a_venue_that_cannot_prepare_an_order_is_alarmed_and_sends_it_all_the_same() -> None:
    world = await world_with()

    def broken(intent: OrderIntent) -> None:
        raise RuntimeError("a bug in the venue")

    world.one_venue.prepare = broken  # type: ignore[method-assign]
    record = await world.trade()
    assert record.state is T.CLOSED
    assert any("preparing it raised RuntimeError" in alarm for alarm in world.alarms)
    sent_once(world)
    await world.stop()


async def test_an_order_that_is_written_within_the_call_is_sent_once_and_measured() -> None:
    world = await world_with()
    written: list[str] = []

    def write(venue: FaultyVenue) -> Callable[[OrderIntent], Awaitable[PlaceResult]]:
        def note(intent: OrderIntent) -> Awaitable[PlaceResult]:
            written.append(intent.client_order_id)
            return venue.place(intent)

        return note

    for venue in (world.one_venue, world.other_venue):
        venue.write = write(venue)  # type: ignore[assignment, method-assign]
    record = await world.trade()
    assert record.state is T.CLOSED
    assert set(written) == set(world.store.intents) == set(world.store.slippage)
    sent_once(world)
    world.check_result(record)
    world.check_money()
    await world.stop()


async def test_a_venue_that_raises_while_it_writes_leaves_an_unknown_order() -> None:
    world = await world_with()
    asked: list[OrderIntent] = []

    def breaks_once(intent: OrderIntent) -> None:
        asked.append(intent)
        if len(asked) == 1:
            raise RuntimeError("a bug in the venue")

    world.one_venue.write = breaks_once  # type: ignore[method-assign]
    await world.trade()
    assert any("venue raised RuntimeError" in alarm for alarm in world.alarms)
    first = asked[0]
    assert S.UNKNOWN in world.store.history[first.client_order_id]
    world.check_money()
    await world.stop()


async def test_a_late_fill_after_the_end_is_booked_alarmed_and_hedged() -> None:
    world = await world_with(sell=["lose_request"])
    record = await world.trade()
    assert record.state is T.CLOSED
    lost = next(intent for intent in world.store.intents.values() if intent.leg == 1 and intent.attempt == 0)
    # The exchange executes it after all, long after it was proven absent.
    late = world.other_venue._execute(lost)
    world.other_venue._orders[lost.client_order_id] = late
    world.other_venue._tell(late)
    world.other_venue._tell_balances({"BTC", "USDT"})
    await world.clock.run_until(lambda: not world.engine.status().open_trades)
    record = world.store.trades[record.trade_id]
    assert world.store.states[lost.client_order_id] is S.FILLED
    assert any("late fill" in alarm for alarm in world.alarms)
    assert record.state is T.CLOSED
    assert record.residual_base == 0
    world.check_result(record)
    world.check_money()
    await world.stop()


WORDS = st.lists(st.sampled_from(["ok", "reject", "lose_answer", "lose_request", "half", "none", "silent"]), max_size=3)


@settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(buy=WORDS, sell=WORDS)
async def test_whatever_goes_wrong_money_is_accounted_for(buy: list[str], sell: list[str]) -> None:
    world = await world_with(buy, sell)
    record = await world.trade(seconds=2000)
    assert record.state in {T.CLOSED, T.EXPOSED, T.FAILED}
    world.check_result(record)
    world.check_money()
    sent_once(world)
    assert world.engine.desk.portfolio.reservations == {}
    assert world.store.unresolved == []
    if record.state is T.CLOSED:
        assert abs(record.residual_base) < D("0.0002")
    await world.stop()


@pytest.mark.parametrize("word", ["lose_answer", "lose_request"])
async def test_an_account_with_an_unknown_order_takes_no_new_trade(word: str) -> None:
    world = await world_with(sell=[word], max_open_trades=5)
    world.other_venue.answers_queries = False
    await world.edge()
    await world.clock.run_until(lambda: world.engine.status().unresolved_orders)
    trades = len(world.store.trades)
    world.show(world.alpha, "49980", "49995")
    await world.clock.settle()
    assert len(world.store.trades) == trades
    await world.stop()


async def test_an_order_left_on_the_book_is_cancelled_though_a_cancellation_is_lost() -> None:
    world = await world_with(buy=["silent"])
    asked: list[int] = []

    async def cancel(intent: OrderIntent) -> PlaceResult:
        asked.append(world.clock.monotonic_ns())
        if len(asked) < 3:
            return PlaceResult(outcome=Outcome.UNKNOWN, message="timed out")
        world.one_venue.answers_queries = True
        return PlaceResult(outcome=Outcome.PLACED)

    world.one_venue.answers_queries = False
    world.one_venue.cancel = cancel  # type: ignore[method-assign]
    record = await world.trade()
    assert len(asked) == 3
    assert record.state is T.CLOSED
    world.check_money()
    await world.stop()


async def test_a_venue_that_raises_when_asked_is_asked_again() -> None:
    world = await world_with(buy=["lose_answer"])
    query, raised = world.one_venue.query, []

    async def raising(intent: OrderIntent) -> OrderEvent | None:
        if len(raised) < 2:
            raised.append(intent)
            raise RuntimeError("a bug in the venue")
        return await query(intent)

    world.one_venue.query = raising  # type: ignore[method-assign]
    record = await world.trade()
    assert record.state is T.CLOSED
    assert any("venue raised RuntimeError" in alarm for alarm in world.alarms)
    assert world.engine.status().bots[0].observed == "running"
    world.check_money()
    world.check_nothing_held()
    await world.stop()


async def test_settling_an_old_trade_leaves_the_route_to_the_trade_that_has_it() -> None:
    world = await world_with(sell=["lose_request"], max_open_trades=5)
    first = await world.trade()
    lost = next(intent for intent in world.store.intents.values() if intent.leg == 1 and intent.attempt == 0)
    world.other_venue.script = ["silent"]
    world.other_venue.answers_queries = False
    await world.clock.advance(0.001)
    world.show(world.beta, "50500", "50511")
    world.show(world.alpha, "49980", "49999")
    await world.clock.run_until(lambda: len(world.store.trades) == 2, 10)
    await world.clock.advance(0.1)  # its orders have arrived
    late = world.other_venue._execute(lost)
    world.other_venue._tell(late)
    await world.clock.run_until(lambda: first.trade_id not in world.engine.status().open_trades, 30)
    assert len(world.engine.status().open_trades) == 1
    busy = world.engine.status().bots[0].counters["refused_route_busy"]
    world.show(world.beta, "50500", "50512")
    world.show(world.alpha, "49970", "49998")
    await world.clock.settle()
    assert world.engine.status().bots[0].counters["refused_route_busy"] > busy
    await world.stop()


async def test_a_late_fill_while_the_engine_ends_starts_nothing() -> None:
    world = await world_with(sell=["lose_request"])
    await world.trade()
    lost = next(intent for intent in world.store.intents.values() if intent.leg == 1 and intent.attempt == 0)
    late = world.other_venue._execute(lost)
    await world.no_edge()
    intents = len(world.store.intents)
    await world.engine.trades.cancel()
    world.other_venue._tell(late)
    await world.clock.advance(1)
    assert world.store.states[lost.client_order_id] is S.FILLED  # booked all the same
    assert len(world.store.intents) == intents
    assert world.engine.status().open_trades == []
    await world.stop()


async def test_a_change_of_its_configuration_does_not_free_a_bot_that_is_exposed() -> None:
    world = await world_with(sell=["reject"])
    await world.edge()
    world.show(world.alpha, "49500", "50000")
    world.show(world.beta, "49500", "50510")
    await world.clock.run_until(lambda: world.store.trades and not world.engine.status().open_trades)
    assert world.engine.status().bots[0].observed == "blocked"
    changed = msgspec.structs.replace(world.bot, max_trade_notional=D(9000))
    world.engine.update(msgspec.structs.replace(world.config, bots=(changed,)))
    assert world.engine.status().bots[0].observed == "blocked"
    # Stopped and started again, somebody has looked.
    world.engine.update(msgspec.structs.replace(world.config, bots=()))
    world.engine.update(msgspec.structs.replace(world.config, bots=(changed,)))
    assert world.engine.status().bots[0].observed == "running"
    await world.stop()


async def test_a_bot_that_was_exposed_before_the_engine_started_is_blocked() -> None:
    world = World(faulty=True, exposed={"test0001": "0.1 BTC bought and not sold"})
    await world.start()
    await world.edge()
    await world.clock.settle()
    assert world.store.trades == {}
    (bot,) = world.engine.status().bots
    assert (bot.observed, bot.reason) == ("blocked", "trade test0001 is exposed: 0.1 BTC bought and not sold")
    await world.stop()
