"""What a route takes from the books, and that it takes nothing twice."""

from __future__ import annotations

import math

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.arbitrage.builders import D, Levels, market
from trading.arbitrage.depth import Limits
from trading.arbitrage.routes import Route
from trading.marketdata.book import Book
from trading.marketdata.replay_trades import RouteTaker

ANY = (0.0, math.inf)


class Pair:
    def __init__(self, fee: str = "0") -> None:
        buy, sell = market("a", taker_fee=D(fee)), market("b", taker_fee=D(fee))
        self.buy, self.sell = Book(buy), Book(sell)
        self.taker = RouteTaker(Route(buy, sell), self.buy, self.sell, Limits())

    def asks(self, levels: Levels) -> None:
        self.buy.asks.apply(levels)
        self.taker.on_book(self.buy.key)

    def bids(self, levels: Levels) -> None:
        self.sell.bids.apply(levels)
        self.taker.on_book(self.sell.key)

    def take(self) -> float:
        quote = self.taker.take(ANY, ANY)
        return quote.quantity if quote else 0.0


def test_what_was_taken_is_not_offered_again() -> None:
    pair = Pair()
    pair.asks([(100.0, 1.0)])
    pair.bids([(101.0, 5.0)])
    assert [pair.take(), pair.take()] == [1.0, 0.0]
    pair.asks([(100.0, 1.5)])  # half a unit more than what we took
    assert [pair.take(), pair.take()] == [0.5, 0.0]
    assert pair.taker.trades == 2
    assert pair.taker.net == pytest.approx(1.5)
    assert pair.taker.quantity == 1.5


@pytest.mark.parametrize("standing", [[], [(99.0, 1.0)]], ids=["the best price", "a price behind the best"])
def test_a_price_that_was_empty_once_offers_something_new(standing: Levels) -> None:
    pair = Pair()
    pair.asks([*standing, (100.0, 1.0)])
    pair.bids([(101.0, 5.0)])
    first = pair.take()
    pair.asks([(100.0, 0.0)])
    assert pair.take() == 0.0
    pair.asks([(100.0, 1.0)])
    assert (first, pair.take()) == (1.0 + len(standing), 1.0)


def test_a_shrinking_level_offers_less_than_was_left() -> None:
    pair = Pair()
    pair.asks([(100.0, 4.0)])
    pair.bids([(101.0, 3.0)])
    assert pair.take() == 3.0
    pair.bids([(101.0, 0.0)])
    pair.bids([(101.0, 9.0)])
    pair.asks([(100.0, 3.5)])  # others took half of the one that was left
    assert pair.take() == 0.5


def test_a_walk_over_several_levels_takes_from_each_what_it_walked() -> None:
    pair = Pair()
    pair.asks([(100.0, 1.0), (100.5, 1.0), (103.0, 1.0)])
    pair.bids([(101.0, 1.5)])
    assert pair.take() == 1.5
    pair.bids([(100.9, 9.0)])
    assert pair.take() == 0.5  # the rest of 100.5


def test_fees_are_paid_on_both_legs() -> None:
    pair = Pair("0.001")
    pair.asks([(100.0, 1.0)])
    pair.bids([(101.0, 1.0)])
    pair.take()
    assert pair.taker.net == pytest.approx(1 - 0.1 - 0.101)


MOVES = st.lists(
    st.tuples(st.sampled_from(["ask", "bid"]), st.sampled_from([100.0, 100.5, 101.0, 101.5]), st.integers(0, 9)),
    max_size=30,
)


@given(MOVES)
def test_no_price_gives_more_than_it_ever_added(moves: list[tuple[str, float, int]]) -> None:
    """The most a taker may have had of a price is the sum of what appeared there."""
    pair = Pair()
    added = {"ask": 0, "bid": 0}
    sizes: dict[tuple[str, float], int] = {}
    for name, price, size in moves:
        added[name] += max(0, size - sizes.get((name, price), 0))
        sizes[name, price] = size
        (pair.asks if name == "ask" else pair.bids)([(price, float(size))])
        pair.take()
    assert pair.taker.quantity <= min(added.values()) + 1e-9
    assert pair.taker.net >= -1e-9
