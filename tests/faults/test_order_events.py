"""What private events and answers do to one order: lost, doubled, late, in the wrong order, or untrue in a detail."""

from __future__ import annotations

import asyncio
from decimal import Decimal

import pytest

from tests.exchanges.venue_rig import CANCEL_OPERATIONS, Rig
from tests.faults.wire import (  # noqa: F401
    FILL_EVENTS,
    NEW_EVENTS,
    followed,
    in_engine,
    on_call,
    on_event,
    on_order,
    resting,
    rig,
    shared_rig,
    shared_simulator,
)
from trading.exchanges.generic.dialect import Dialect, Names
from trading.execution.reconciliation import (
    MARGIN_NS,
    DifferenceCause,
    Executions,
    Expected,
    Reading,
    compare,
)
from trading.execution.states import CANCELLED, FILLED, PARTIAL, PLACED
from trading.messages import OrderState, Outcome

D = Decimal
pytestmark = pytest.mark.asyncio(loop_scope="module")

# What a cancellation is told of an order that is no longer open.
GONE_CODES = {"binance": "-2011", "okx": "51400", "bybit": "170213"}
NO_TRADE_ID = {"binance": {"t": -1}, "okx": {"tradeId": ""}, "bybit": {"execId": ""}}
NO_FEE = {
    "binance": {"n": None, "N": None},
    "okx": {"fillFee": "", "fillFeeCcy": ""},
    "bybit": {"execFee": "", "feeCurrency": ""},
}
NO_FEE_IN_THE_ANSWER = {"commission": None, "commissionAsset": None}


def take(rig: Rig, quantity: str, price: str = "40000") -> None:  # noqa: F811
    """Let somebody sell into our resting bids."""
    rig.simulator.set_book(rig.name, "BTC/USDT", bids=[("30000", "1")], asks=[("50000", "1")])
    rig.simulator.trade(rig.name, "BTC/USDT", "SELL", quantity, price)


async def test_fault_17_an_acknowledged_order_that_reads_lag_behind_is_asked_for_again(rig: Rig) -> None:  # noqa: F811
    on_event(rig, "silent")
    on_call(rig, "read_lag", "GET *", ms=600)
    status = "result.status" if rig.path == "websocket" else "status"
    on_order(rig, "edit", set={"fills": [], status: "NEW", "executedQty": "0"})  # only Binance's answer says more
    order = followed(rig)
    assert (await order.send()).outcome is Outcome.PLACED
    assert await order.ask() is None
    assert order.order.state is PLACED
    assert (await order.settle()).state is FILLED
    order.check_books()


async def test_fault_18_a_cancellation_that_lost_the_race_is_asked_about(rig: Rig) -> None:  # noqa: F811
    order = resting(rig)
    await order.send()
    on_event(rig, "silent")
    take(rig, "1")
    answer = await rig.venue.cancel(order.intent)
    assert (answer.outcome, answer.code) == (Outcome.REJECTED, GONE_CODES[rig.name])
    assert order.hear().state is PLACED, "nothing is concluded from it"
    assert (await order.settle()).state is FILLED
    order.check_books()


@pytest.mark.parametrize("kind", ["drop_request", "drop_response"])
async def test_fault_19_a_cancellation_that_gets_no_answer_is_asked_for_again(rig: Rig, kind: str) -> None:  # noqa: F811
    order = resting(rig)
    await order.send()
    on_call(rig, kind, rig.cancel_operation, count=1, how="reset")
    answer = await rig.venue.cancel(order.intent)
    if kind == "drop_request":
        assert answer.outcome is Outcome.PLACED
    else:  # the first one was carried out: the second finds nothing to cancel
        assert (answer.outcome, answer.code) == (Outcome.REJECTED, GONE_CODES[rig.name])
    assert (await order.settle()).state is CANCELLED
    order.check_books()


async def test_fault_19_a_cancellation_that_is_never_answered_is_asked_about(rig: Rig) -> None:  # noqa: F811
    order = resting(rig)
    await order.send()
    for operation in {rig.cancel_operation, CANCEL_OPERATIONS[rig.name]}:  # asked again, it goes by REST
        on_call(rig, "drop_request", operation, how="reset")
    assert (await rig.venue.cancel(order.intent)).outcome is Outcome.UNKNOWN
    await order.ask()
    assert order.order.state is PLACED
    rig.simulator.clear_faults()
    assert (await rig.venue.cancel(order.intent)).outcome is Outcome.PLACED
    assert (await order.settle()).state is CANCELLED
    order.check_books()


async def test_fault_20_a_fill_told_after_the_cancellation_is_booked(rig: Rig) -> None:  # noqa: F811
    order = resting(rig)
    await order.send()
    on_event(rig, "delay_event", where=FILL_EVENTS[rig.name], count=1, ms=300)
    take(rig, "0.4")
    assert (await rig.venue.cancel(order.intent)).outcome is Outcome.PLACED
    await order.heard(CANCELLED)
    await rig.until(lambda: order.hear().filled == D("0.4"))
    assert (await order.settle()).state is CANCELLED
    order.check_books()


async def test_fault_20_a_fill_made_after_the_cancellation_is_booked_with_an_alarm(rig: Rig) -> None:  # noqa: F811
    order = resting(rig)
    await order.send()
    await rig.venue.cancel(order.intent)
    await order.settle()
    rig.simulator.execute(rig.name, order.order.exchange_order_id, "0.25")
    await rig.until(lambda: order.hear().filled == D("0.25"))
    order.check_books()
    assert any("late fill" in alarm for alarm in order.alarms)


async def test_fault_21_fills_that_come_before_the_answer_are_the_orders(rig: Rig) -> None:  # noqa: F811
    on_order(rig, "delay_response", ms=500)
    order = followed(rig)
    sending = asyncio.ensure_future(order.send())
    await order.heard(FILLED)
    assert not sending.done()
    order.check_books()
    assert (await sending).outcome is Outcome.PLACED
    assert order.order.state is FILLED
    assert order.order.settled
    order.check_books()


async def test_fault_22_a_fill_told_twice_is_booked_once(rig: Rig) -> None:  # noqa: F811
    on_event(rig, "duplicate_event")
    order = followed(rig, quantity="1.5", price="50010")
    await order.send()
    await rig.until(lambda: sum(event.state is FILLED for event in rig.events(order.intent)) >= 2)
    assert order.hear().filled == D("1.5")
    order.check_books()


async def test_fault_23_a_fill_without_an_id_is_asked_for(rig: Rig) -> None:  # noqa: F811
    on_event(rig, "edit", where=FILL_EVENTS[rig.name], set=NO_TRADE_ID[rig.name])
    order = resting(rig)
    await order.send()
    take(rig, "1")
    await order.heard(FILLED)
    assert not order.order.settled, "its fill is still to come"
    assert (await order.settle()).state is FILLED
    order.check_books()


async def test_fault_23_a_unified_fill_without_an_id_is_not_booked_under_a_word() -> None:
    dialect = Dialect(Names(1))
    trade = {"id": None, "order": "7", "symbol": "BTC/USDT", "side": "buy", "price": "50000", "amount": "1"}
    assert dialect.trade_event(trade) is None
    with pytest.raises(ValueError, match="id"):
        dialect.unified_fill(trade, "ours")
    told = dialect.trade_event({**trade, "id": "9"})
    assert told is not None
    assert [fill.exchange_trade_id for fill in told.fills] == ["9"]


async def test_fault_24_an_event_that_comes_too_late_changes_nothing(rig: Rig) -> None:  # noqa: F811
    on_event(rig, "delay_event", where=NEW_EVENTS[rig.name], count=1, ms=300)
    order = followed(rig)
    await order.send()
    await order.heard(FILLED)
    await rig.until(lambda: [event.state for event in rig.events(order.intent)][-1:] == [PLACED])
    assert order.hear().state is FILLED
    assert order.order.settled
    assert order.alarms == []
    order.check_books()


async def test_fault_25_a_partial_fill_that_is_not_told_is_found_by_asking(rig: Rig) -> None:  # noqa: F811
    order = resting(rig)
    await order.send()
    on_event(rig, "silent")
    take(rig, "0.4")
    assert order.hear().state is PLACED
    await order.ask()
    assert (order.order.state, order.order.filled) == (PARTIAL, D("0.4"))
    await rig.venue.cancel(order.intent)
    assert (await order.settle()).state is CANCELLED
    order.check_books()


async def test_fault_26_an_order_that_found_less_ends_with_what_it_filled(rig: Rig) -> None:  # noqa: F811
    in_engine(rig, "cut_depth", quantity="0.3")
    order = followed(rig)
    await order.send()
    assert (await order.settle()).state is CANCELLED
    assert order.order.filled == D("0.3")
    order.check_books()


async def test_fault_27_an_overfill_is_booked_whole_with_an_alarm(rig: Rig) -> None:  # noqa: F811
    in_engine(rig, "overfill", quantity="0.25")
    order = followed(rig, quantity="0.5")
    await order.send()
    await rig.until(lambda: order.hear().filled == D("0.75"))
    assert order.order.overfilled
    assert any("overfill" in alarm for alarm in order.alarms)
    order.check_books()


async def test_fault_28_a_fee_that_is_left_out_stays_open_until_it_is_told(rig: Rig) -> None:  # noqa: F811
    on_event(rig, "edit", where=FILL_EVENTS[rig.name], set=NO_FEE[rig.name])
    if rig.name == "binance":
        on_order(rig, "edit", set=NO_FEE_IN_THE_ANSWER)
    order = followed(rig)
    await order.send()
    await order.heard(FILLED)
    assert order.order.fee_pending
    await order.ask()
    assert not order.order.fee_pending
    order.check_books()


async def test_fault_28_a_fee_in_a_third_asset_is_that_assets(rig: Rig) -> None:  # noqa: F811
    rig.simulator.transfer(rig.keys, "BNB", "5")
    in_engine(rig, "fee", asset="BNB", price="500")
    order = followed(rig)
    await order.send()
    assert (await order.settle()).fees == {"BNB": D("0.04")}
    order.check_books()


async def test_fault_29_a_fee_above_the_schedule_is_booked_as_it_is(rig: Rig) -> None:  # noqa: F811
    usual = followed(rig)
    await usual.send()
    await usual.settle()
    rig.show_book()
    in_engine(rig, "fee", times=3)
    order = followed(rig)
    await order.send()
    await order.settle()
    assert order.order.fees == {asset: 3 * fee for asset, fee in usual.order.fees.items()}
    order.check_books()


async def test_fault_30_a_price_the_exchange_rounded_is_booked_as_it_traded(rig: Rig) -> None:  # noqa: F811
    in_engine(rig, "reshape", price_step="1000")
    order = resting(rig, price="40500")
    await order.send()
    take(rig, "1")
    assert (await order.settle()).average_price == D(40000)
    order.check_books()


async def test_fault_30_a_quantity_the_exchange_cut_is_all_there_is(rig: Rig) -> None:  # noqa: F811
    in_engine(rig, "reshape", quantity_step="0.2")
    order = followed(rig, quantity="0.5")
    await order.send()
    await rig.until(lambda: order.hear().filled == D("0.4"))
    await order.ask()
    order.check_books()
    assert order.order.settled


async def test_fault_38_an_order_the_exchange_lost_is_not_taken_for_dead(rig: Rig) -> None:  # noqa: F811
    order = resting(rig)
    await order.send()
    await order.heard(PLACED)
    rig.simulator.roll_back(rig.name, order.order.exchange_order_id)
    assert await order.ask() is None
    assert order.order.state is PLACED, "it was acknowledged: what became of it is not known"
    assert not order.order.settled
    order.check_books(orders=0)


async def totals(rig: Rig) -> dict[str, Decimal]:  # noqa: F811
    return {balance.asset: balance.free + balance.used for balance in await rig.venue.balances()}


async def test_fault_39_a_trade_that_is_taken_back_is_noticed(rig: Rig) -> None:  # noqa: F811
    order = followed(rig, quantity="0.5")
    await order.send()
    await order.settle()
    (fill,) = order.order.fills.values()
    since_ns = fill.exchange_ns - 2 * MARGIN_NS
    listed, held = await rig.venue.trades(rig.market.key, since_ns), await totals(rig)
    assert fill.exchange_trade_id in {one.exchange_trade_id for one in listed or ()}
    (row,) = order.rows()
    rig.simulator.bust(rig.name, row["order_id"], row["trade_id"])
    listed = await rig.venue.trades(rig.market.key, since_ns)
    assert listed is not None
    books = Expected(
        account_id=1,
        opened_ns=1,
        since_ns=fill.exchange_ns,
        balances=held,
        fills={(fill.market, fill.exchange_trade_id): fill.exchange_ns},
    )
    reading = Reading(
        balances=await totals(rig),
        executions=Executions(
            fills=tuple(listed),
            markets=frozenset({fill.market}),
            since_ns=since_ns,
            due=frozenset({(fill.market, fill.exchange_trade_id)}),  # known for longer than any list lags behind
        ),
    )
    found = compare(books, reading, {rig.market.key: rig.market}, lambda client_id: False).differences
    assert {(one.cause, one.key.partition(" ")[0]) for one in found} == {
        (DifferenceCause.TAKEN_BACK, key) for key in (fill.exchange_trade_id, "BTC", "USDT")
    }


async def test_fault_45_a_fill_that_was_left_out_is_found_by_asking(rig: Rig) -> None:  # noqa: F811
    order = resting(rig)
    await order.send()
    on_event(rig, "drop_event", where=FILL_EVENTS[rig.name], count=1)
    take(rig, "0.4")
    take(rig, "0.1")
    await rig.until(lambda: order.hear().filled == D("0.1"))
    assert order.order.state is PARTIAL
    await order.ask()
    assert order.order.filled == D("0.5")
    await rig.venue.cancel(order.intent)
    await order.settle()
    order.check_books()


async def test_an_order_that_was_never_known_is_not_made_up(rig: Rig) -> None:  # noqa: F811
    order = followed(rig)
    assert await order.ask() is None
    assert order.order.state is OrderState.SENDING
