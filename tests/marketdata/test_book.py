"""The book against the plainest possible model of one."""

from __future__ import annotations

from unittest import mock

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.exchanges.feed_servers import market
from trading.marketdata import book as book_module
from trading.marketdata.book import Book, BookSide

# Few prices, so that examples meet the same price again; sizes are often 0, which removes.
prices = st.integers(1, 60).map(lambda ticks: ticks / 8)
sizes = st.one_of(st.just(0.0), st.integers(1, 9).map(float))
levels = st.lists(st.tuples(prices, sizes), max_size=12)
operations = st.lists(st.tuples(st.sampled_from(["apply", "apply", "apply", "apply", "replace"]), levels), max_size=60)


class PlainSide:
    """A side as one would write it without a thought for speed."""

    def __init__(self, sign: int) -> None:
        self.sign = sign
        self.sizes: dict[float, float] = {}

    def replace(self, levels: list[tuple[float, float]]) -> None:
        self.sizes = {price: size for price, size in dict(levels).items() if size > 0}

    def apply(self, levels: list[tuple[float, float]]) -> None:
        for price, size in levels:
            self.sizes.pop(price, None)
            if size > 0:
                self.sizes[price] = size

    def levels(self) -> list[tuple[float, float]]:
        return sorted(self.sizes.items(), reverse=self.sign > 0)


@settings(max_examples=150, deadline=None)
@given(sign=st.sampled_from([1, -1]), operations=operations, room=st.sampled_from([1, 4, 64]), read=st.integers(1, 9))
def test_side_equals_the_plain_model(
    sign: int, operations: list[tuple[str, list[tuple[float, float]]]], room: int, read: int
) -> None:
    with mock.patch.object(book_module, "LEAST_ROOM", room), mock.patch.object(book_module, "FIRST_READ", read):
        side, plain = BookSide(sign), PlainSide(sign)
        for kind, change in operations:
            unique = list(dict(change).items()) if kind == "replace" else change
            getattr(side, kind)(unique)
            getattr(plain, kind)(unique)
            expected = plain.levels()
            assert (side.best, side.best_size) == (expected[0] if expected else (0.0, 0.0))
            assert list(side.levels()) == expected
            assert all(side.size_at(price) == size for price, size in expected)
            assert side.size_at(0.0625) == 0.0
        expected = plain.levels()
        assert list(side.levels(3)) == expected[:3]
        assert side.keys == [sign * price for price, _ in reversed(expected)]
        assert len(side) == len(expected)


@pytest.mark.parametrize("sign", [+1, -1], ids=["bids", "asks"])
def test_a_side_takes_the_room_of_its_levels_not_of_its_changes(sign: int) -> None:
    side = BookSide(sign)
    for number in range(1, 5_000):
        side.apply([(float(number), 1.0), (float(number - 5), 0.0)])
    assert list(side.keys) == sorted(sign * float(number) for number in range(4_995, 5_000))
    assert len(side.cells) <= 4 * book_module.LEAST_ROOM


def test_a_side_grows_by_as_many_levels_as_come_at_once() -> None:
    side = BookSide(+1)
    side.apply([(float(price), 2.0) for price in range(1, 3_001)])
    assert (len(side), side.best, side.size_at(1.0)) == (3_000, 3_000.0, 2.0)


@pytest.mark.parametrize("sign", [+1, -1], ids=["bids", "asks"])
def test_of_a_price_that_comes_twice_the_last_counts_in_whatever_order_the_levels_are(sign: int) -> None:
    side = BookSide(sign)
    side.apply([(3.0, 1.0), (1.0, 1.0), (2.0, 5.0), (3.0, 0.0), (2.0, 4.0), (1.0, 7.0), (4.0, 0.0)])
    assert sorted(side.levels()) == [(1.0, 7.0), (2.0, 4.0)]


def test_a_side_whose_near_prices_all_go_still_knows_its_best() -> None:
    side = BookSide(+1)
    side.replace([(float(price), 1.0) for price in range(1, 1_001)])
    side.apply([(float(price), 0.0) for price in range(501, 1_001)])
    assert (side.best, side.best_size) == (500.0, 1.0)
    assert list(side.levels(2)) == [(500.0, 1.0), (499.0, 1.0)]


def test_a_reset_book_holds_nothing() -> None:
    book = Book(market())
    book.bids.replace([(1.0, 1.0)])
    book.asks.replace([(2.0, 1.0)])
    book.update_id = book.version = 7
    book.ready = True
    book.reset()
    assert not book.ready
    assert (book.update_id, book.version, book.bids.best, book.asks.best) == (0, 0, 0.0, 0.0)


def test_crossed_needs_both_sides() -> None:
    book = Book(market())
    assert not book.crossed
    book.bids.replace([(2.0, 1.0)])
    assert not book.crossed
    book.asks.replace([(2.0, 1.0)])
    assert book.crossed
    book.asks.replace([(2.1, 1.0)])
    assert not book.crossed
