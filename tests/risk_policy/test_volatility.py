"""The volatility of a stream of trades: by hand, against RiskMetrics' recursion, and with bad prints."""

from __future__ import annotations

import math
import random

import pytest
from hypothesis import given
from hypothesis import strategies as st

from risk.policy.volatility import GAP_HALF_LIVES, NS, Ewma
from tests.risk_policy.strategies import ANY


def after(price: float, bps: float) -> float:
    """The price a log return of ``bps`` later."""
    return price * math.exp(bps / 1e4)


def fed(returns_bps: list[float], *, apart_s: float = 1.0, **settings: float) -> Ewma:
    ewma, price = Ewma(**settings), 100.0  # type: ignore[arg-type]
    ewma.on_trade(price, 0)
    for number, bps in enumerate(returns_bps, start=1):
        price = after(price, bps)
        ewma.on_trade(price, int(number * apart_s * NS))
    return ewma


def known(ewma: Ewma) -> float:
    sigma = ewma.sigma()
    assert sigma is not None
    return sigma


def test_the_worked_example() -> None:
    assert known(fed([3.0, 4.0], half_life_s=1.0, min_samples=2)) == pytest.approx(math.sqrt(20.5 / 1.5))


def test_uneven_times_by_hand() -> None:
    # 3 bps in a second, then 4 bps in two: S = 9 / 4 + 16 = 18.25, T = 1 / 4 + 2 = 2.25.
    ewma = Ewma(half_life_s=1.0, min_samples=2)
    ewma.on_trade(100.0, 0)
    ewma.on_trade(after(100.0, 3.0), NS)
    ewma.on_trade(after(100.0, 7.0), 3 * NS)
    assert known(ewma) == pytest.approx(math.sqrt(18.25 / 2.25))


def test_even_times_are_riskmetrics_with_the_half_lifes_lambda() -> None:
    source = random.Random(7)
    returns = [source.gauss(0.0, 2.0) for _ in range(400)]
    decay = 0.5 ** (1.0 / 10.0)
    variance = returns[0] ** 2
    for bps in returns[1:]:
        variance = decay * variance + (1.0 - decay) * bps**2
    assert known(fed(returns, half_life_s=10.0, clamp_sigmas=1000.0)) == pytest.approx(math.sqrt(variance), rel=1e-6)


@pytest.mark.parametrize("apart_s", [1.0, 4.0])
def test_the_distance_of_trades_does_not_change_a_random_walks_volatility(apart_s: float) -> None:
    source = random.Random(11)
    returns = [source.gauss(0.0, 2.0 * math.sqrt(apart_s)) for _ in range(5000)]
    assert known(fed(returns, apart_s=apart_s, half_life_s=2000.0)) == pytest.approx(2.0, rel=0.1)


def test_there_is_no_estimate_before_the_minimum_of_samples() -> None:
    assert Ewma().sigma() is None
    assert fed([1.0] * 29, min_samples=30).sigma() is None
    assert fed([1.0] * 30, min_samples=30).sigma() == pytest.approx(1.0)


def test_prices_that_bounce_within_a_sample_are_no_movement() -> None:
    ewma = Ewma(min_samples=1)
    for number in range(10_001):
        ewma.on_trade(100.0 if number % 2 == 0 else 100.02, number * NS // 1000)
    assert known(ewma) == 0.0


def test_one_absurd_print_costs_two_cut_returns() -> None:
    ewma = fed([1.0, -1.0] * 100)
    quiet = known(ewma)
    ewma.on_trade(1000.0, 201 * NS)
    ewma.on_trade(100.0, 202 * NS)
    # At most 8 sigmas there and, at the sigma of then, 8 back; about 86 seconds are in the estimate.
    assert quiet == pytest.approx(1.0)
    assert 1.5 < known(ewma) < 2.0
    for number in range(203, 600):
        ewma.on_trade(after(100.0, number % 2), number * NS)
    assert known(ewma) == pytest.approx(1.0, abs=0.05)


def test_a_jump_that_stays_is_caught_up_with() -> None:
    ewma = fed([1.0, -1.0] * 100)
    for number in range(201, 240):
        ewma.on_trade(after(110.0, number % 2), number * NS)
    # 953 bps within the last minute: far above the quiet 1 bps.
    assert known(ewma) > 20.0
    last = known(ewma)
    ewma.on_trade(after(110.0, 0.0), 240 * NS)
    assert known(ewma) < last


def test_a_still_market_still_takes_in_its_first_move() -> None:
    ewma = fed([0.0] * 300)
    assert known(ewma) == 0.0
    ewma.on_trade(after(100.0, 4.0), 301 * NS)
    assert known(ewma) > 0.0


@pytest.mark.parametrize("price", [0.0, -1.0, math.nan, math.inf, -math.inf])
def test_a_price_that_is_none_is_passed_over(price: float) -> None:
    ewma = fed([3.0, 4.0], min_samples=2)
    before = known(ewma)
    ewma.on_trade(price, 9 * NS)
    assert known(ewma) == before


def test_trades_out_of_order_are_passed_over() -> None:
    ewma = fed([3.0, 4.0], min_samples=2)
    before = known(ewma)
    ewma.on_trade(200.0, NS)
    ewma.on_trade(200.0, 2 * NS)
    assert known(ewma) == before


def test_a_clock_that_was_wrong_does_not_stop_the_estimate() -> None:
    ewma = fed([1.0] * 30, half_life_s=60.0)
    ewma.on_trade(100.0, 10**9 * NS)
    assert ewma.sigma() is None
    price = 100.0
    for number in range(31, 62):
        price = after(price, 2.0)
        ewma.on_trade(price, number * NS)
    assert known(ewma) == pytest.approx(2.0)


def test_silence_beyond_the_gap_ends_the_estimate() -> None:
    ewma = fed([1.0] * 30, half_life_s=1.0)
    edge = (30 + GAP_HALF_LIVES) * NS
    assert ewma.sigma(edge) is not None
    assert ewma.sigma(edge + 1) is None
    ewma.on_trade(100.0, edge + 1)
    assert ewma.sigma() is None


@pytest.mark.parametrize(
    ("setting", "value"),
    [
        ("half_life_s", 0.0), ("half_life_s", math.nan), ("sample_s", 61.0), ("sample_s", 0.0), ("min_samples", 0),
        ("clamp_sigmas", 0.5), ("free_bps", math.inf),
    ],
)  # fmt: skip
def test_settings_out_of_range_are_refused_by_name(setting: str, value: float) -> None:
    with pytest.raises(ValueError, match=f"^{setting} is {value}; it must lie between"):
        Ewma(**{setting: value})  # type: ignore[arg-type]


@given(st.lists(st.tuples(ANY, st.integers(-(2**63), 2**63)), max_size=30))
def test_whatever_comes_the_estimate_is_none_or_a_number_not_below_zero(trades: list[tuple[float, int]]) -> None:
    ewma = Ewma(min_samples=1)
    for price, at_ns in trades:
        ewma.on_trade(price, at_ns)
        sigma = ewma.sigma()
        assert sigma is None or 0.0 <= sigma < math.inf


@given(
    st.lists(st.tuples(st.floats(1e-300, 1e300), st.integers(1, 20)), min_size=2, max_size=50), st.floats(0.1, 100.0)
)
def test_extreme_prices_keep_it_a_number(trades: list[tuple[float, int]], half_life_s: float) -> None:
    ewma, at_ns = Ewma(min_samples=1, half_life_s=half_life_s, sample_s=0.1), 0
    for price, seconds in trades:
        at_ns += seconds * NS
        ewma.on_trade(price, at_ns)
        sigma = ewma.sigma()
        assert sigma is None or 0.0 <= sigma < math.inf


@given(st.lists(st.floats(-4.0, 4.0), min_size=1, max_size=60), st.floats(0.1, 1.0))
def test_smaller_moves_are_never_a_larger_volatility(returns: list[float], factor: float) -> None:
    large = known(fed(returns, min_samples=1))
    small = known(fed([bps * factor for bps in returns], min_samples=1))
    assert small <= large + 1e-6
