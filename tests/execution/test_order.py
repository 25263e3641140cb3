"""An order's view: a join of evidence, whatever the order, the repetition and the lateness of its events."""

from __future__ import annotations

from decimal import Decimal

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.execution.makers import event, fill, intent
from trading.execution.order import Order
from trading.messages import OrderEvent
from trading.messages import OrderState as S

D = Decimal


def sending(quantity: str = "1") -> Order:
    return Order(intent(quantity), S.SENDING)


def seen(order: Order) -> tuple[object, ...]:
    """Everything the view says."""
    return (
        order.state,
        order.filled,
        order.cost,
        order.fees,
        order.fee_pending,
        order.settled,
        order.overfilled,
        sorted(order.fills),
    )


@st.composite
def histories(draw: st.DrawFn) -> list[OrderEvent]:
    """What an exchange says of one IOC order for 10: it fills in parts, and ends filled or cancelled."""
    parts = draw(st.lists(st.integers(1, 4), min_size=0, max_size=5).filter(lambda sizes: sum(sizes) <= 10))
    events = [event(S.PLACED, filled="0")]
    total = 0
    for number, part in enumerate(parts):
        total += part
        one = fill(f"t{number}", str(part), price=str(100 + number))
        # The same fill may first come without its fee.
        if draw(st.booleans()):
            bare = fill(f"t{number}", str(part), price=str(100 + number), fee=None, fee_asset="")
            events.append(event(S.PARTIALLY_FILLED, bare))
        events.append(event(S.PARTIALLY_FILLED, one, filled=str(total)))
    events.append(event(S.FILLED if total == 10 else S.CANCELLED, filled=str(total)))
    return events


@given(st.data())
def test_any_order_with_repetitions_leads_to_the_same_view(data: st.DataObject) -> None:
    events = data.draw(histories())
    straight = sending("10")
    for one in events:
        straight.apply(one)
    repeated = data.draw(st.lists(st.sampled_from(events), max_size=6))
    shuffled = data.draw(st.permutations([*events, *repeated]))
    mixed = sending("10")
    for one in shuffled:
        mixed.apply(one)
    assert seen(mixed) == seen(straight)
    assert straight.settled
    assert not straight.fee_pending


@given(histories(), st.integers(0, 12))
def test_a_restart_in_between_changes_nothing(events: list[OrderEvent], cut: int) -> None:
    straight = sending("10")
    for one in events:
        straight.apply(one)
    first = sending("10")
    for one in events[:cut]:
        first.apply(one)
    second = Order(first.intent, first.state)
    for one in events[:cut]:
        second.restore(one)
    for one in events[cut:]:
        second.apply(one)
    assert seen(second) == seen(straight)


def test_fills_are_keyed_by_the_exchanges_trade_id() -> None:
    order = sending("2")
    assert len(order.apply(event(S.PARTIALLY_FILLED, fill("a", "1"))).new_fills) == 1
    assert order.apply(event(S.PARTIALLY_FILLED, fill("a", "1"))).new_fills == ()
    assert order.filled == 1
    order.apply(event(S.PARTIALLY_FILLED, fill("b", "1", price="110")))
    assert order.state is S.FILLED
    assert order.average_price == D(105)


def test_a_fill_without_a_state_says_partly_filled() -> None:
    order = sending("2")
    order.apply(event(S.UNKNOWN, fill("a", "1")))
    assert order.state is S.PARTIALLY_FILLED


def test_overfill_is_booked_and_alarmed_once() -> None:
    order = sending("1")
    order.apply(event(S.FILLED, fill("a", "1"), filled="1"))
    change = order.apply(event(S.FILLED, fill("b", "0.5"), filled="1.5"))
    assert order.filled == D("1.5")
    assert order.overfilled
    assert "overfill" in change.alarm
    assert "overfill" not in order.apply(event(S.FILLED, fill("c", "0.5"))).alarm


def test_an_overfill_is_one_for_the_next_process_too() -> None:
    order = Order(intent("1"), S.FILLED)
    order.restore(event(S.FILLED, fill("a", "0.6"), fill("b", "0.6")))
    assert order.overfilled


@pytest.mark.parametrize("end", [S.CANCELLED, S.FAILED])
def test_a_late_fill_after_the_end_is_booked_and_alarmed(end: S) -> None:
    order = sending("1")
    order.apply(event(end, filled="0"))
    assert order.settled
    change = order.apply(event(S.PARTIALLY_FILLED, fill("a", "0.4")))
    assert "late fill" in change.alarm
    assert order.filled == D("0.4")
    assert order.state is not S.FAILED


def test_a_new_after_filled_changes_nothing() -> None:
    order = sending("1")
    order.apply(event(S.FILLED, fill("a", "1"), filled="1"))
    assert not order.apply(event(S.PLACED, filled="0")).anything
    assert order.state is S.FILLED


def test_terminal_without_its_fills_is_not_settled() -> None:
    order = sending("1")
    order.apply(event(S.CANCELLED, filled="0.6"))
    assert order.state is S.CANCELLED
    assert not order.settled
    order.apply(event(S.PARTIALLY_FILLED, fill("a", "0.6")))
    assert order.settled
    assert order.state is S.CANCELLED


def test_a_cancellation_that_names_no_quantity_leaves_the_question_open() -> None:
    order = sending("1")
    order.apply(event(S.CANCELLED))
    assert not order.settled
    order.apply(event(S.CANCELLED, filled="0"))
    assert order.settled


def test_fees_are_summed_by_asset_and_completed_later() -> None:
    order = sending("3")
    order.apply(event(S.PARTIALLY_FILLED, fill("a", "1", fee=D("0.1"), fee_asset="USDT")))
    order.apply(event(S.PARTIALLY_FILLED, fill("b", "1", fee=D("0.002"), fee_asset="BNB")))
    order.apply(event(S.PARTIALLY_FILLED, fill("c", "1", fee=None, fee_asset="")))
    assert order.fee_pending
    change = order.apply(event(S.FILLED, fill("c", "1", fee=D("0.3"), fee_asset="USDT"), filled="3"))
    assert change.late_fees
    assert change.new_fills == ()
    assert order.fees == {"USDT": D("0.4"), "BNB": D("0.002")}


def test_the_worst_case_of_an_unresolved_order_is_its_whole_quantity() -> None:
    order = sending("2")
    order.apply(event(S.UNKNOWN))
    assert order.unresolved
    assert (order.filled, order.most) == (0, 2)
    order.apply(event(S.CANCELLED, fill("a", "0.5"), filled="0.5"))
    assert (order.filled, order.most) == (D("0.5"), D("0.5"))


def test_an_illegal_report_changes_nothing_and_is_said() -> None:
    order = sending("1")
    change = order.apply(event(S.DISPUTED))
    assert order.state is S.SENDING
    assert "illegal" in change.alarm
