"""What a market is like lately: volatility, volume and usual spread, from what the hub hears."""

from __future__ import annotations

import math

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.arbitrage.builders import market
from trading.marketdata.climate import DAY_SECONDS, NS, Climate, Decayed

SPOT = market("alpha", "BTC/USDT")


def test_a_decayed_rate_by_hand() -> None:
    sums = Decayed(60.0)
    sums.add(4.0, 0)
    sums.add(6.0, 60 * NS)  # 4 weighs half: 8 within a minute
    assert Decayed(60.0).rate(0) is None
    assert sums.rate(60 * NS) == pytest.approx(8 / 60)
    assert sums.rate(120 * NS) == pytest.approx((8 / 2) / (60 / 2 + 60))


def test_a_steady_market_shows_its_volume_and_spread() -> None:
    climate = Climate(SPOT)
    assert (climate.volume_a_day(0), climate.usual_spread_bps(0), climate.sigma(0)) == (None, None, None)
    for second in range(600):
        climate.on_trade(100.0, 0.5, second * NS)
        climate.on_top(100.0, 100.02, second * NS)
    now = 599 * NS
    assert climate.volume_a_day(now) == pytest.approx(50.0 * DAY_SECONDS, rel=0.01)
    assert climate.usual_spread_bps(now) == pytest.approx(2.0, rel=1e-6)
    assert climate.sigma(now) == 0.0


def test_a_spread_weighs_by_the_time_it_stood() -> None:
    climate = Climate(SPOT)
    climate.on_top(100.0, 100.01, 0)
    for second in range(1, 3000):
        climate.on_top(100.0, 100.03 if second % 2 else 100.01, second * NS)
    assert climate.usual_spread_bps(2999 * NS) == pytest.approx(2.0, rel=0.01)


def test_silence_lets_the_volume_fade() -> None:
    climate = Climate(SPOT)
    for second in range(100):
        climate.on_trade(100.0, 1.0, second * NS)
    busy, later = climate.volume_a_day(99 * NS), climate.volume_a_day(1000 * NS)
    assert busy is not None
    assert later is not None
    assert later < busy / 5


@given(st.lists(st.tuples(st.floats(), st.floats(), st.integers(-(10**12), 10**12)), max_size=50))
def test_whatever_it_is_told_it_says_nothing_that_is_no_number(told) -> None:
    climate = Climate(SPOT)
    for one, two, at_ns in told:
        climate.on_trade(one, two, at_ns)
        climate.on_top(one, two, at_ns)
    for said in (climate.volume_a_day(10**12), climate.usual_spread_bps(10**12), climate.sigma(10**12)):
        assert said is None or 0.0 <= said < math.inf
