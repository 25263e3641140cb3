"""Books that may still show what our own orders took are not believed; others are."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from trading.execution.footprints import FORGET_NS, Footprint, Footprints

BUY = Footprint("alpha:BTC/USDT", "buy", False)


def test_order_on_its_way_makes_its_side_of_the_book_suspect() -> None:
    prints = Footprints()
    prints.begin("a", BUY)
    assert "on its way to alpha:BTC/USDT" in prints.refusal(BUY, book_ns=10, now_ns=10)
    for other in (
        Footprint("alpha:BTC/USDT", "sell", False),
        Footprint("alpha:BTC/USDT", "buy", True),
        Footprint("beta:BTC/USDT", "buy", False),
    ):
        assert prints.refusal(other, book_ns=10, now_ns=10) == ""


def test_book_is_believed_once_it_is_newer_than_the_orders_end() -> None:
    prints = Footprints()
    prints.begin("a", BUY)
    prints.end("a", 100)
    assert "older than the end of our last order" in prints.refusal(BUY, book_ns=100, now_ns=101)
    assert prints.refusal(BUY, book_ns=101, now_ns=101) == ""


def test_book_that_never_changes_is_believed_again_after_a_while() -> None:
    prints = Footprints()
    prints.begin("a", BUY)
    prints.end("a", 100)
    assert prints.refusal(BUY, book_ns=50, now_ns=100 + FORGET_NS)
    assert prints.refusal(BUY, book_ns=50, now_ns=101 + FORGET_NS) == ""


def test_order_that_was_never_sent_leaves_no_trace() -> None:
    prints = Footprints()
    prints.begin("a", BUY)
    prints.forget("a")
    assert prints.refusal(BUY, book_ns=0, now_ns=0) == ""


@given(st.lists(st.tuples(st.sampled_from("abc"), st.sampled_from(["begin", "end", "forget"])), max_size=30))
def test_something_is_on_its_way_exactly_while_a_begun_order_has_not_ended(steps: list[tuple[str, str]]) -> None:
    prints = Footprints()
    underway: set[str] = set()
    for order, step in steps:
        if step == "begin":
            prints.begin(order, BUY)
            underway.add(order)
        elif step == "end":
            prints.end(order, 5)
            underway.discard(order)
        else:
            prints.forget(order)
            underway.discard(order)
        assert bool(prints.refusal(BUY, book_ns=10, now_ns=10)) == bool(underway)
