"""What entering and leaving a pair earns, by hand and for any books; and when it is left."""

from __future__ import annotations

import math
from decimal import Decimal

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.engine.basis_world import perpetual
from tests.engine.worlds import spot
from trading.arbitrage.basis import (
    Entry,
    Held,
    entry,
    exit_edge,
    expected_funding,
    funding_refusal,
    liquidation_distance,
    pair_refusal,
    payments_within,
    shortfall,
    why_leave,
)
from trading.arbitrage.depth import BPS, BaseLevels, LegTerms, Refusal
from trading.basis import EIGHT_HOURS_NS, BasisRules, Funding
from trading.instruments import Market
from trading.marketdata.book import Book

D = Decimal
HOUR_NS = 3600 * 10**9
SPOT = spot("alpha", taker_fee=D("0.001"))
PERP = perpetual("beta", taker_fee=D("0.0005"))
Levels = list[tuple[float, float]]


def asks(market: Market, levels: Levels) -> BaseLevels:
    book = Book(market)
    book.asks.replace(levels)
    return BaseLevels(book.asks, LegTerms.of(market))


def bids(market: Market, levels: Levels) -> BaseLevels:
    book = Book(market)
    book.bids.replace(levels)
    return BaseLevels(book.bids, LegTerms.of(market))


def funding(rate: float = 1e-4, hours: float = 4.0, interval_hours: float = 8.0) -> Funding:
    return Funding("beta:BTC/USDT:USDT", rate, 50_000.0, int(hours * HOUR_NS), 0, 0, int(interval_hours * HOUR_NS))


def test_an_entry_earns_the_difference_less_four_fees_and_the_reserve_plus_funding() -> None:
    found = entry(asks(SPOT, [(50_000.0, 1.0)]), bids(PERP, [(50_500.0, 1.0)]), BasisRules(slippage_bps=2.0), 3 * 1e-4)
    assert isinstance(found, Entry)
    assert found.gross_bps == pytest.approx(100)
    # spot twice 10, the perpetual 5 at 101 % of the spot price and 5 at the price both meet at
    assert found.fees_bps == pytest.approx(10 + 5.05 + 10 + 5)
    assert (found.reserve_bps, found.funding_bps) == (2.0, pytest.approx(3.0))
    assert found.edge_bps == pytest.approx(100 - 30.05 - 2 + 3)
    assert found.quote.quantity == 1.0


def test_a_pair_without_a_difference_is_entered_for_its_funding_alone() -> None:
    books = asks(SPOT, [(50_000.0, 1.0)]), bids(PERP, [(50_000.0, 1.0)])
    rules = BasisRules(min_entry_bps=5.0, slippage_bps=0.0)
    assert entry(*books, rules, 30e-4) is Refusal.NO_EDGE
    found = entry(*books, rules, 40e-4)
    assert isinstance(found, Entry)
    assert found.edge_bps == pytest.approx(40 - 30)


def test_what_pays_its_entry_but_not_its_exit_is_told_with_its_edge() -> None:
    books = asks(SPOT, [(50_000.0, 1.0)]), bids(PERP, [(50_150.0, 1.0)])
    rules = BasisRules(slippage_bps=2.0)
    assert isinstance(entry(*books, rules, 0.0), Refusal)
    found = shortfall(*books, rules, 0.0)
    assert isinstance(found, Entry)
    assert found.edge_bps == pytest.approx(found.gross_bps - found.fees_bps - found.reserve_bps)
    assert found.edge_bps == pytest.approx(30 - 30.015 - 2)


def test_the_size_ends_where_the_next_unit_would_not_earn() -> None:
    found = entry(
        asks(SPOT, [(50_000.0, 1.0), (50_300.0, 9.0)]),
        bids(PERP, [(50_500.0, 5.0)]),
        BasisRules(min_entry_bps=0.0, slippage_bps=10.0),
        0.0,
    )
    assert isinstance(found, Entry)
    assert found.quote.quantity == 1.0  # 200 of 50,300 are 40 bps, and 40 are paid


side = st.lists(st.tuples(st.floats(0.0, 0.02), st.floats(0.01, 5.0)), min_size=1, max_size=6)


@given(
    side, side, st.floats(-0.01, 0.03), st.floats(-0.002, 0.004), st.floats(0.0, 50.0), st.floats(0.0, 20.0),
    st.floats(100.0, 1e6),
)  # fmt: skip
def test_any_entry_has_the_edge_that_is_demanded_and_says_what_it_is_made_of(
    above: Levels, below: Levels, premium: float, expected: float, wanted: float, reserve: float, most: float
) -> None:
    rules = BasisRules(min_entry_bps=wanted, slippage_bps=reserve)
    low = sorted((round(100.0 * (1 + share), 4), size) for share, size in above)
    high = sorted(((round(100.0 * (1 + premium) * (1 - share), 4), size) for share, size in below), reverse=True)
    found = entry(asks(SPOT, low), bids(PERP, high), rules, expected, most)
    if isinstance(found, Refusal):
        return
    assert found.edge_bps >= wanted - 1e-6
    parts = found.gross_bps - found.fees_bps - found.reserve_bps + found.funding_bps
    assert found.edge_bps == pytest.approx(parts, abs=1e-6)
    assert found.quote.buy.quantity == found.quote.sell.quantity
    assert found.quote.buy.notional <= most * (1 + 1e-9)
    assert round(found.quote.quantity / 0.001, 6) == pytest.approx(round(found.quote.quantity / 0.001))


@given(side, side, st.floats(-0.01, 0.03), st.floats(-0.002, 0.004), st.floats(0.0, 0.003))
def test_more_funding_never_makes_an_entry_worse(
    above: Levels, below: Levels, premium: float, expected: float, more: float
) -> None:
    rules = BasisRules(min_entry_bps=0.0)
    low = sorted((round(100.0 * (1 + share), 4), size) for share, size in above)
    high = sorted(((round(100.0 * (1 + premium) * (1 - share), 4), size) for share, size in below), reverse=True)
    books = asks(SPOT, low), bids(PERP, high)
    before, after = entry(*books, rules, expected), entry(*books, rules, expected + more)
    if isinstance(before, Entry):
        assert isinstance(after, Entry)
        assert after.quote.quantity >= before.quote.quantity


# -- funding -------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(("hours", "count"), [(0.0, 0), (3.9, 0), (4.0, 1), (11.9, 1), (12.0, 2), (168.0, 21)])
def test_payments_are_counted_from_the_next_one_on(hours: float, count: int) -> None:
    assert payments_within(funding(), 0, hours) == count
    assert expected_funding(funding(2e-4), 0, hours) == pytest.approx(2e-4 * count)


def test_what_shorts_pay_is_counted_once_whatever_the_horizon() -> None:
    assert expected_funding(funding(-2e-4), 0, 0.0) == -2e-4
    assert expected_funding(funding(-2e-4), 0, 12.0) == -4e-4


@given(st.floats(-1e-2, 1e-2), st.floats(0, 500), st.floats(0, 8), st.floats(1, 8), st.floats(0, 100))
def test_a_longer_horizon_has_no_fewer_payments(
    rate: float, horizon: float, first: float, interval: float, more: float
) -> None:
    told = funding(rate, first, interval)
    assert payments_within(told, 0, horizon) <= payments_within(told, 0, horizon + more)
    assert math.copysign(1, expected_funding(told, 0, horizon)) == math.copysign(1, rate) or not rate or rate > 0


def test_the_interval_is_eight_hours_unless_it_is_told() -> None:
    assert Funding("perp", 0.0, 1.0, 0, 0, 0).interval_ns == EIGHT_HOURS_NS


@pytest.mark.parametrize(
    ("told", "age", "words"),
    [
        (None, 0.0, "not known"),
        (funding(), 10.1, "10.1 s old; at most 10.0 s"),
        (funding(), math.inf, "old"),
        (funding(), math.nan, "old"),
        (funding(-1.1e-4), 0.0, "-1.10 bps an interval; at least -1.00 bps"),
        (funding(-1e-4), 10.0, ""),
    ],
)
def test_funding_that_is_unknown_old_or_too_low_lets_nothing_be_opened(
    told: Funding | None, age: float, words: str
) -> None:
    said = funding_refusal(BasisRules(min_funding_bps=-1.0), told, age)
    assert words in said
    assert bool(said) is bool(words)


# -- leaving -------------------------------------------------------------------------------------------------------

HELD = Held(quantity=1.0, spot_price=100.0, perp_price=101.0, fees=0.15, funding=0.0, opened_ns=0)


def test_an_exit_earns_what_the_difference_has_shrunk_by_less_all_fees() -> None:
    free = Held(quantity=1.0, spot_price=100.0, perp_price=101.0, fees=0.0, funding=0.0, opened_ns=0)
    no_fee = spot("alpha", taker_fee=D(0)), perpetual("beta", taker_fee=D(0))
    books = bids(no_fee[0], [(100.5, 5.0)]), asks(no_fee[1], [(100.5, 5.0)])
    assert exit_edge(free, *books, 1.0, 1.0) == pytest.approx(100)
    # entry fees of 0.15, exit fees of 0.1005 and 0.05025, funding of 0.3
    priced = bids(SPOT, [(100.5, 5.0)]), asks(PERP, [(100.5, 5.0)])
    paid = msgspec.structs.replace(HELD, funding=0.3)
    assert exit_edge(paid, *priced, 1.0, 1.0) == pytest.approx((1 - 0.15 - 0.1005 - 0.05025 + 0.3) * 100)


def test_books_that_hold_too_little_have_no_exit_edge() -> None:
    assert math.isnan(exit_edge(HELD, bids(SPOT, [(100.5, 0.5)]), asks(PERP, [(100.5, 5.0)]), 1.0, 1.0))


@given(st.floats(50.0, 200.0), st.floats(-0.01, 0.02), st.floats(-5.0, 5.0))
def test_a_pair_earns_its_entry_edge_once_the_prices_have_met(price: float, premium: float, paid: float) -> None:
    """Wherever they meet: entry edge and exit edge are one scale, but for fees of notionals that have moved."""
    entered = entry(
        asks(SPOT, [(100.0, 1.0)]),
        bids(PERP, [(100.0 * (1 + premium), 1.0)]),
        BasisRules(min_entry_bps=-1e4, slippage_bps=0.0),
        0.0,
    )
    if isinstance(entered, Refusal):
        return
    fees = 100.0 * 0.001 + 100.0 * (1 + premium) * 0.0005
    pair = Held(quantity=1.0, spot_price=100.0, perp_price=100.0 * (1 + premium), fees=fees, funding=paid, opened_ns=0)
    left = exit_edge(pair, bids(SPOT, [(price, 1.0)]), asks(PERP, [(price, 1.0)]), 1.0, 1.0)
    moved = (price - 100.0) * 0.0015
    assert left == pytest.approx(entered.edge_bps + (paid - moved) / 100.0 * BPS, abs=1e-6)


RULES = BasisRules(exit_bps=10.0, min_funding_bps=0.0, max_hold_hours=24.0, min_liquidation_bps=500.0)


@pytest.mark.parametrize(
    ("changes", "told", "age", "edge", "hours", "words", "must"),
    [
        ({}, funding(), 1.0, 9.99, 1.0, "", False),
        ({}, funding(), 1.0, 10.0, 1.0, "exit edge was 10.00 bps", False),
        ({}, funding(-1e-5), 1.0, 0.0, 1.0, "funding is -0.10 bps", True),
        ({}, funding(-1e-5), 10.1, 0.0, 1.0, "", False),
        ({}, None, math.inf, math.nan, 1.0, "", False),
        ({}, funding(), 1.0, 0.0, 24.0, "held for 24.0 h", True),
        ({"liquidation_bps": 499.0}, funding(), 1.0, 0.0, 1.0, "499 bps from liquidation", True),
        ({"liquidation_bps": 500.0}, funding(), 1.0, 0.0, 1.0, "", False),
        ({"liquidation_bps": 499.0, "is_wanted": False}, funding(), 1.0, 0.0, 1.0, "from liquidation", True),
        ({"is_wanted": False}, funding(-1e-3), 1.0, 50.0, 99.0, "", False),
    ],
)  # fmt: skip
def test_when_a_pair_is_left(
    changes: dict[str, object], told: Funding | None, age: float, edge: float, hours: float, words: str, must: bool
) -> None:
    held = msgspec.structs.replace(HELD, **changes)
    closing = why_leave(RULES, held, told, age, edge, int(hours * HOUR_NS))
    if not words:
        assert closing is None
    else:
        assert closing is not None
        assert words in closing.cause
        assert closing.must is must


def test_the_distance_to_liquidation_is_counted_from_the_mark_price() -> None:
    assert liquidation_distance(100.0, 105.0) == pytest.approx(500)
    assert liquidation_distance(100.0, 99.0) == pytest.approx(-100)


@pytest.mark.parametrize(
    ("buy", "sell", "words"),
    [
        (SPOT, PERP, ""),
        (PERP, PERP, "is no spot leg"),
        (SPOT, spot("gamma"), "is no linear perpetual"),
        (spot("alpha", "ETH/USDT"), PERP, "assets differ"),
        (spot("alpha", active=False), PERP, "not active"),
        (SPOT, msgspec.structs.replace(PERP, settle="USDC"), "is settled in USDC"),
    ],
)
def test_which_markets_make_a_pair(buy: Market, sell: Market, words: str) -> None:
    said = pair_refusal(buy, sell)
    assert words in said
    assert bool(said) is bool(words)
