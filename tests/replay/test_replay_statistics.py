"""Overlaps, episodes, shares and best edges, against their definition written down a second time."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.arbitrage.builders import market
from trading.arbitrage.routes import Route
from trading.marketdata.replay_statistics import EdgeStatistics, RouteEdge

A, B = market("a"), market("b")
SECOND = 1_000_000_000
Quote = tuple[int, str, float, float]  # second, market, bid, ask


def play(quotes: list[Quote]) -> RouteEdge:
    statistics = EdgeStatistics([Route(A, B)])
    for second, key, bid, ask in quotes:
        statistics.on_stream(key, bid, ask, second * SECOND)
    return statistics.edges[0]


def reference(quotes: list[Quote]) -> tuple[int, int, int, float | None]:
    """Return (overlap, episodes, seconds in profit, best ratio) of buying A and selling B, second by second."""
    first, last = {}, {}
    for second, key, _, _ in quotes:
        first.setdefault(key, second)
        last[key] = second
    if len(first) < 2 or max(first.values()) > min(last.values()):
        return 0, 0, 0, None
    start, end = max(first.values()), min(last.values())

    def ratio_at(second: int) -> float:
        ask = [a for at, key, _, a in quotes if key == A.key and at <= second][-1]
        bid = [b for at, key, b, _ in quotes if key == B.key and at <= second][-1]
        return bid / ask

    ratios = [ratio_at(second) for second in range(start, end + 1)]
    paying = [ratio > 1 for ratio in ratios]
    episodes = sum(now and not before for before, now in zip([False, *paying], paying, strict=False))
    return end - start, episodes, sum(paying[:-1]), max(ratios)


def test_a_worked_example() -> None:
    edge = play(
        [
            (0, A.key, 99.0, 100.0),
            (2, B.key, 101.0, 102.0),  # both quote: in profit by 100 bps
            (5, A.key, 101.5, 102.5),  # out
            (7, B.key, 103.0, 104.0),  # in by 48.8 bps
            (9, B.key, 102.0, 104.0),  # out
            (10, A.key, 101.0, 102.0),  # level is not in profit
            (12, B.key, 110.0, 111.0),  # after A's last quote: outside
        ]
    )
    assert edge.overlap_seconds == 8
    assert edge.episodes == 2
    assert edge.seconds_in_profit == 5
    assert edge.share == pytest.approx(5 / 8)
    assert edge.best_bps == pytest.approx(100.0)


PRICES = st.tuples(st.integers(95, 105), st.integers(1, 4)).map(lambda pair: (float(pair[0]), float(sum(pair))))
TAPES = st.lists(st.tuples(st.integers(1, 3), st.sampled_from([A.key, B.key]), PRICES), max_size=25)


@given(TAPES)
def test_any_tape_agrees_with_the_definition(steps: list[tuple[int, str, tuple[float, float]]]) -> None:
    quotes, now = [], 0
    for step, key, (bid, ask) in steps:
        now += step
        quotes.append((now, key, bid, ask))
    edge = play(quotes)
    overlap, episodes, seconds, best = reference(quotes)
    assert edge.overlap_seconds == overlap
    if overlap:
        assert (edge.episodes, edge.seconds_in_profit) == (episodes, seconds)
        assert edge.best_bps == pytest.approx((best - 1) * 1e4)
        assert edge.share == pytest.approx(seconds / overlap)


def test_books_give_the_prices_until_the_market_publishes_them_itself() -> None:
    statistics = EdgeStatistics([Route(A, B)])
    edge = statistics.edges[0]
    statistics.on_book(A.key, 99.0, 100.0, 0)
    statistics.on_book(B.key, 110.0, 111.0, 1 * SECOND)
    statistics.on_book(A.key, 99.0, 100.0, 2 * SECOND)
    statistics.on_book(B.key, 110.0, 111.0, 3 * SECOND)
    assert (edge.overlap_seconds, edge.episodes) == (1, 1)
    # What the book said of B before is forgotten: the pair starts anew with B's own best prices.
    statistics.on_stream(B.key, 99.0, 100.0, 4 * SECOND)
    statistics.on_book(B.key, 110.0, 111.0, 5 * SECOND)
    statistics.on_book(A.key, 99.0, 100.0, 6 * SECOND)
    statistics.on_stream(B.key, 99.0, 100.0, 7 * SECOND)
    assert (edge.overlap_seconds, edge.episodes, edge.seconds_in_profit) == (2, 0, 0)
    assert edge.best_bps == pytest.approx(-100.0)


def test_a_lost_book_ends_the_episode() -> None:
    statistics = EdgeStatistics([Route(A, B)])
    edge = statistics.edges[0]
    statistics.on_book(A.key, 99.0, 100.0, 0)
    statistics.on_book(B.key, 101.0, 102.0, 0)
    statistics.on_lost(A.key, 3 * SECOND)
    statistics.on_book(B.key, 101.0, 102.0, 5 * SECOND)
    statistics.on_book(A.key, 99.0, 100.0, 8 * SECOND)
    statistics.on_book(B.key, 101.0, 102.0, 9 * SECOND)
    statistics.on_book(A.key, 99.0, 100.0, 9 * SECOND)
    assert (edge.seconds_in_profit, edge.episodes) == (4, 2)


def test_markets_that_never_quote_together_have_no_edge() -> None:
    edge = play([(1, A.key, 99.0, 100.0), (2, A.key, 99.0, 100.0), (3, B.key, 105.0, 106.0)])
    assert (edge.overlap_seconds, edge.episodes, edge.share, edge.best_bps) == (0, 0, 0, None)
