"""Slippage before a trade: by hand, against a scan of every size, and that nothing worse makes it cheaper."""

from __future__ import annotations

import math
from typing import TypedDict, Unpack

import msgspec
import pytest
from hypothesis import assume, given
from hypothesis import strategies as st

from risk.policy.slippage import (
    SlippageEstimate,
    SlippageRules,
    expected,
    judge,
    largest_size,
    threshold_bps,
)
from tests.risk_policy.strategies import ANY, ASKS, BIDS, LATENCIES, SIGMAS, UNIT, WILD_LEVELS, Levels

RULES = SlippageRules()
BARE = SlippageRules(drift_sigmas=0.0, impact_coefficient=0.0)
BUY = [(100.0, 1.0), (101.0, 3.0)]
SELL = [(110.0, 4.0)]


class Flight(TypedDict):
    latency_s_buy: float
    latency_s_sell: float
    sigma: float | None


FLIGHT: Flight = {"latency_s_buy": 0.04, "latency_s_sell": 0.09, "sigma": 2.0}
STILL: Flight = {"latency_s_buy": 0.0, "latency_s_sell": 0.0, "sigma": 0.0}

SOME_RULES = st.builds(
    SlippageRules,
    share_of_profit=UNIT,
    cap_bps=st.floats(0.0, 1000.0),
    drift_sigmas=st.floats(0.0, 3.0),
    unknown_sigma_bps=st.floats(0.0, 10.0),
    impact_coefficient=st.sampled_from([0.0, 0.3, 1.0, 25.0]),
)
FLIGHTS = st.fixed_dictionaries(
    {"latency_s_buy": LATENCIES, "latency_s_sell": LATENCIES, "sigma": st.none() | st.floats(0.0, 5.0)}
)
SIZES = st.floats(1.0, 500.0)
# Limits where something is left to decide as well as ones that refuse or allow everything.
ALLOWED = st.floats(0.0, 60.0)
# Rounding of the two ways to add up the same levels.
NOISE = 1e-7


def held(buy: Levels, sell: Levels) -> float:
    """The largest size both sides hold, added up as the walk does."""
    sums = []
    for levels in (buy, sell):
        total = 0.0
        for _, quantity in levels:
            total += quantity
        sums.append(total)
    return min(sums)


def total(buy: Levels, sell: Levels, size: float, rules: SlippageRules, **flight: Unpack[Flight]) -> float:
    estimate = expected(buy, sell, size, rules=rules, **flight)
    assert estimate is not None
    return estimate.total_bps


def test_the_worked_example() -> None:
    estimate = expected(BUY, SELL, 2.0, rules=RULES, **FLIGHT)
    assert estimate is not None
    assert estimate.walk_bps == pytest.approx(50.0)
    assert estimate.drift_bps == pytest.approx(0.8)
    assert estimate.impact_bps == pytest.approx(1.41421356)
    assert estimate.total_bps == pytest.approx(52.21421356)
    assert estimate.drift_bps + estimate.impact_bps == pytest.approx(2.21421356)


def test_both_walks_count_from_their_best_prices() -> None:
    # 101 and 0.5 down from 100 after 99.5: buy 0.5 x 100 of 100, sell 0.25 x 100 of 100.
    estimate = expected([(100.0, 1.0), (101.0, 1.0)], [(100.0, 1.0), (99.5, 1.0)], 2.0, rules=BARE, **STILL)
    assert estimate is not None
    assert estimate.walk_bps == pytest.approx(50.0 + 25.0)


def test_a_size_the_best_levels_hold_walks_nothing_at_all() -> None:
    assert expected(BUY, SELL, 0.7, rules=BARE, **STILL) == SlippageEstimate(0.0, 0.0, 0.0, 0.0)


def test_a_volatility_that_is_not_known_is_the_configured_one() -> None:
    unknown = expected(BUY, SELL, 1.0, rules=RULES, latency_s_buy=0.04, latency_s_sell=0.09, sigma=None)
    assert unknown == expected(BUY, SELL, 1.0, rules=RULES, **FLIGHT)


@pytest.mark.parametrize(
    ("buy", "sell", "size"),
    [
        (BUY, SELL, 4.0001), ([], SELL, 1.0), (BUY, [], 1.0), (BUY, SELL, 0.0), (BUY, SELL, -1.0),
        (BUY, SELL, math.nan), (BUY, SELL, math.inf), ([(math.nan, 5.0)], SELL, 1.0), ([(100.0, math.nan)], SELL, 1.0),
        ([(100.0, 2.0), (-101.0, 5.0)], SELL, 3.0), ([(100.0, 2.0), (101.0, math.inf)], SELL, 1.0),
    ],
)  # fmt: skip
def test_there_is_no_estimate_of_what_is_broken_or_not_there(buy: Levels, sell: Levels, size: float) -> None:
    assert expected(buy, sell, size, rules=RULES, **FLIGHT) is None


@pytest.mark.parametrize("field", ["latency_s_buy", "latency_s_sell", "sigma"])
@pytest.mark.parametrize("value", [-1.0, math.nan, math.inf])
def test_a_broken_latency_or_volatility_refuses(field: str, value: float) -> None:
    flight: Flight = {**FLIGHT, field: value}  # type: ignore[misc]
    assert expected(BUY, SELL, 1.0, rules=RULES, **flight) is None
    assert largest_size(BUY, SELL, 1.0, rules=RULES, limit_bps=1000.0, **flight) == 0.0
    assert not judge(BUY, SELL, 1.0, rules=RULES, expected_profit_bps=1000.0, **flight).allowed


def test_the_threshold_by_hand() -> None:
    assert threshold_bps(30.0, RULES) == 10.0
    assert threshold_bps(12.0, RULES) == 6.0
    assert threshold_bps(30.0, RULES, 0.5) == 5.0
    assert [threshold_bps(profit, RULES) for profit in (0.0, -5.0, math.nan, math.inf)] == [0.0] * 4
    assert [threshold_bps(30.0, RULES, factor) for factor in (0.0, -1.0, math.nan, 1.1)] == [0.0] * 4


def test_the_largest_size_by_hand() -> None:
    assert largest_size(BUY, SELL, 4.0, rules=BARE, limit_bps=50.0, **STILL) == pytest.approx(2.0)
    assert largest_size(BUY, SELL, 1.5, rules=BARE, limit_bps=50.0, **STILL) == 1.5
    assert largest_size(BUY, SELL, 9.0, rules=BARE, limit_bps=75.0, **STILL) == pytest.approx(4.0)
    assert largest_size(BUY, SELL, 4.0, rules=BARE, limit_bps=0.0, **STILL) == pytest.approx(1.0)


def test_the_largest_size_under_impact_alone_by_hand() -> None:
    # One level each: 2 x sqrt(q / 4) = 1 at q = 1; with a drift of 0.8 it is 0.2 that is left: q = 0.04.
    rules = msgspec.structs.replace(RULES, drift_sigmas=0.0)
    deep = [(100.0, 4.0)]
    assert largest_size(deep, SELL, 4.0, rules=rules, limit_bps=1.0, **FLIGHT) == pytest.approx(1.0)
    assert largest_size(deep, SELL, 4.0, rules=RULES, limit_bps=1.0, **FLIGHT) == pytest.approx(0.04)


def test_drift_beyond_the_limit_leaves_no_size() -> None:
    assert largest_size(BUY, SELL, 1.0, rules=RULES, limit_bps=0.79, **FLIGHT) == 0.0


@pytest.mark.parametrize("limit", [-1.0, math.nan, math.inf])
@pytest.mark.parametrize("wanted", [0.0, -1.0, math.nan, math.inf, 1.0])
def test_a_broken_limit_leaves_no_size(limit: float, wanted: float) -> None:
    assert largest_size(BUY, SELL, wanted, rules=BARE, limit_bps=limit, **STILL) == 0.0


def test_what_is_within_the_threshold_is_allowed_with_its_figures() -> None:
    verdict = judge([(100.0, 9.0)], [(110.0, 9.0)], 1.0, rules=RULES, expected_profit_bps=30.0, **FLIGHT)
    assert (verdict.allowed, verdict.factor, verdict.reason) == (True, 1.0, "")
    assert verdict.figures["slippage_limit_bps"] == 10.0
    assert verdict.figures["slippage_bps"] == pytest.approx(0.8 + 2.0 / 3.0)


def test_what_is_beyond_the_threshold_is_resized_to_it() -> None:
    # 100.1 for the second unit: a VWAP of 100.05 is 5 bps, the half of 10, at a size of 2.
    buy = [(100.0, 1.0), (100.1, 9.0)]
    verdict = judge(buy, [(110.0, 10.0)], 8.0, rules=BARE, expected_profit_bps=10.0, **STILL)
    assert verdict.allowed
    assert verdict.factor == pytest.approx(0.25)
    assert verdict.reason == ("The expected slippage of 8 is 8.75 bps; at most 5.00 bps are allowed: resized to 2.")


def test_a_book_that_holds_less_is_resized_to_what_it_holds() -> None:
    verdict = judge([(100.0, 1.0)], SELL, 4.0, rules=BARE, expected_profit_bps=10.0, **STILL)
    assert (verdict.allowed, verdict.factor) == (True, 0.25)


def test_where_no_size_keeps_to_the_threshold_it_is_refused() -> None:
    verdict = judge(BUY, SELL, 1.0, rules=RULES, expected_profit_bps=1.0, **FLIGHT)
    assert (verdict.allowed, verdict.factor) == (False, 0.0)
    assert verdict.reason == (
        "The expected slippage of 1 is 1.80 bps; at most 0.50 bps are allowed, and no smaller size keeps to it."
    )


@pytest.mark.parametrize(
    ("setting", "value"),
    [
        ("share_of_profit", 1.1), ("cap_bps", -1.0), ("cap_bps", math.inf), ("drift_sigmas", math.nan),
        ("unknown_sigma_bps", -0.1), ("impact_coefficient", -1.0), ("min_sample", 0), ("edge_floor_bps", -1.0),
        ("edge_cap_bps", math.inf), ("threshold_floor", 1.5),
    ],
)  # fmt: skip
def test_settings_out_of_range_are_refused_by_name(setting: str, value: float) -> None:
    with pytest.raises(ValueError, match=f"^{setting} is {value}; it must lie between"):
        SlippageRules(**{setting: value})  # type: ignore[arg-type]


def test_a_floor_above_its_cap_is_refused() -> None:
    with pytest.raises(ValueError, match=r"^edge_floor_bps is 3\.0, above edge_cap_bps of 2\.0\.$"):
        SlippageRules(edge_floor_bps=3.0, edge_cap_bps=2.0)


@given(ASKS, BIDS, SIZES, SOME_RULES, FLIGHTS, ALLOWED)
def test_the_largest_size_is_the_one_a_fine_scan_finds(
    buy: Levels, sell: Levels, wanted: float, rules: SlippageRules, flight: Flight, limit: float
) -> None:
    found = largest_size(buy, sell, wanted, rules=rules, limit_bps=limit, **flight)
    top = min(wanted, held(buy, sell))
    assert 0.0 <= found <= top
    if found:
        assert total(buy, sell, found, rules, **flight) <= limit + NOISE
    # Nothing in 500 even steps, nor a hair beyond what was found, is larger and within the limit.
    for size in (*(top * (step / 500) for step in range(1, 501)), min(found * (1.0 + 1e-6), top)):
        if size > found * (1.0 + 1e-9):
            assert total(buy, sell, size, rules, **flight) > limit - NOISE


@given(ASKS, BIDS, SOME_RULES, FLIGHTS, UNIT, UNIT)
def test_a_larger_size_never_slips_less(
    buy: Levels, sell: Levels, rules: SlippageRules, flight: Flight, one: float, other: float
) -> None:
    small, large = sorted(share * held(buy, sell) for share in (one, other))
    assume(small > 0.0)
    assert total(buy, sell, small, rules, **flight) <= total(buy, sell, large, rules, **flight) + NOISE


@given(ASKS, BIDS, SIZES, SOME_RULES, FLIGHTS, ALLOWED, st.floats(0.01, 1.0))
def test_a_thinner_book_never_slips_less_nor_allows_more(
    buy: Levels, sell: Levels, wanted: float, rules: SlippageRules, flight: Flight, limit: float, factor: float
) -> None:
    thin = [(price, quantity * factor) for price, quantity in buy]
    whole = largest_size(buy, sell, wanted, rules=rules, limit_bps=limit, **flight)
    assert largest_size(thin, sell, wanted, rules=rules, limit_bps=limit, **flight) <= whole * (1.0 + 1e-6)
    size = min(wanted, held(thin, sell))
    assert total(buy, sell, size, rules, **flight) <= total(thin, sell, size, rules, **flight) + NOISE


@given(ASKS, BIDS, SIZES, SOME_RULES, LATENCIES, LATENCIES, SIGMAS, SIGMAS, ALLOWED)
def test_more_volatility_never_slips_less_nor_allows_more(
    buy: Levels, sell: Levels, wanted: float, rules: SlippageRules, one: float, two: float,
    sigma: float, other: float, limit: float,
) -> None:  # fmt: skip
    calm, wild = sorted((sigma, other))
    flights: list[Flight] = [{"latency_s_buy": one, "latency_s_sell": two, "sigma": each} for each in (calm, wild)]
    size = min(wanted, held(buy, sell))
    assert total(buy, sell, size, rules, **flights[0]) <= total(buy, sell, size, rules, **flights[1])
    sizes = [largest_size(buy, sell, wanted, rules=rules, limit_bps=limit, **flight) for flight in flights]
    assert sizes[1] <= sizes[0] * (1.0 + 1e-6)


@given(ASKS, BIDS, SIZES, SOME_RULES, SIGMAS, LATENCIES, LATENCIES, LATENCIES, ALLOWED)
def test_more_latency_never_slips_less_nor_allows_more(
    buy: Levels, sell: Levels, wanted: float, rules: SlippageRules, sigma: float,
    one: float, two: float, three: float, limit: float,
) -> None:  # fmt: skip
    quick, slow = sorted((one, two))
    flights: list[Flight] = [{"latency_s_buy": each, "latency_s_sell": three, "sigma": sigma} for each in (quick, slow)]
    size = min(wanted, held(buy, sell))
    assert total(buy, sell, size, rules, **flights[0]) <= total(buy, sell, size, rules, **flights[1])
    sizes = [largest_size(buy, sell, wanted, rules=rules, limit_bps=limit, **flight) for flight in flights]
    assert sizes[1] <= sizes[0] * (1.0 + 1e-6)


@given(ASKS, BIDS, SIZES, SOME_RULES, FLIGHTS, ALLOWED, ALLOWED)
def test_a_higher_limit_never_allows_less(
    buy: Levels, sell: Levels, wanted: float, rules: SlippageRules, flight: Flight, one: float, other: float
) -> None:
    low, high = sorted((one, other))
    tight = largest_size(buy, sell, wanted, rules=rules, limit_bps=low, **flight)
    assert tight <= largest_size(buy, sell, wanted, rules=rules, limit_bps=high, **flight) * (1.0 + 1e-6)


@given(ASKS, BIDS, SIZES, SOME_RULES, FLIGHTS, st.floats(-10.0, 500.0), UNIT)
def test_a_verdict_never_allows_beyond_its_threshold(
    buy: Levels, sell: Levels, wanted: float, rules: SlippageRules, flight: Flight, profit: float, factor: float
) -> None:
    verdict = judge(buy, sell, wanted, rules=rules, expected_profit_bps=profit, factor=factor, **flight)
    assert 0.0 <= verdict.factor <= 1.0
    assert verdict.allowed == (verdict.factor > 0.0)
    limit = threshold_bps(profit, rules, factor)
    assert limit <= rules.cap_bps
    if verdict.allowed:
        assert total(buy, sell, wanted * verdict.factor * (1.0 - 1e-12), rules, **flight) <= limit + NOISE
    else:
        assert verdict.reason.endswith(".")


@given(ANY, ANY, SOME_RULES)
def test_whatever_comes_the_threshold_is_within_the_cap(profit: float, factor: float, rules: SlippageRules) -> None:
    assert 0.0 <= threshold_bps(profit, rules, factor) <= rules.cap_bps


WILD_FLIGHTS = st.fixed_dictionaries({"latency_s_buy": ANY, "latency_s_sell": ANY, "sigma": st.none() | ANY})
POSITIVE = st.floats(5e-324, 1.7e308)
EXTREME_LEVELS = st.lists(st.tuples(POSITIVE, POSITIVE), min_size=1, max_size=5)


def check_the_answers(
    buy: Levels, sell: Levels, size: float, rules: SlippageRules, flight: Flight, limit: float
) -> None:
    estimate = expected(buy, sell, size, rules=rules, **flight)
    if estimate is not None:
        assert all(0.0 <= figure < math.inf for figure in msgspec.structs.astuple(estimate))
    found = largest_size(buy, sell, size, rules=rules, limit_bps=limit, **flight)
    assert found == 0.0 or 0.0 < found <= size
    verdict = judge(buy, sell, size, rules=rules, expected_profit_bps=limit, **flight)
    assert 0.0 <= verdict.factor <= 1.0
    assert verdict.allowed == (verdict.factor > 0.0)


@given(WILD_LEVELS, WILD_LEVELS | BIDS, ANY, SOME_RULES, WILD_FLIGHTS | FLIGHTS, ANY)
def test_whatever_comes_the_answers_are_numbers(
    buy: Levels, sell: Levels, size: float, rules: SlippageRules, flight: Flight, limit: float
) -> None:
    check_the_answers(buy, sell, size, rules, flight, limit)


@given(EXTREME_LEVELS, EXTREME_LEVELS, POSITIVE, SOME_RULES, FLIGHTS, ALLOWED)
def test_the_answers_on_extreme_books_are_numbers(
    buy: Levels, sell: Levels, size: float, rules: SlippageRules, flight: Flight, limit: float
) -> None:
    check_the_answers(buy, sell, size, rules, flight, limit)
