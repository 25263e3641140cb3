"""The size of a trade: worked examples, and that nothing worse ever makes it larger."""

from __future__ import annotations

import math

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from risk.policy.sizing import (
    SizingInputs,
    SizingRules,
    band_notional,
    depth_factor,
    reward_factor,
    score_factor,
    size,
    volatility_factor,
)
from tests.risk_policy.strategies import ANY, ASKS, SIGMAS, UNIT, WILD_LEVELS, Levels

RULES = SizingRules()
INPUTS = SizingInputs(
    limit_notional=1000.0,
    depth_buy_notional=8000.0,
    depth_sell_notional=2000.0,
    sigma=2.0,
    net_bps=12.0,
    min_net_bps=8.0,
    score=0.8,
    breaker_factor=1.0,
)
FACTORS = ["depth", "volatility", "reward", "score", "breaker"]

AMOUNTS = st.floats(0.0, 1e9)
EDGES = st.floats(-100.0, 1000.0)
SOME_RULES = st.builds(
    SizingRules,
    depth_share=UNIT,
    band_bps=st.floats(0.01, 1000.0),
    volatility_target_bps=st.floats(0.01, 10_000.0),
    volatility_floor=UNIT,
    volatility_unknown=UNIT,
    reward_full=st.floats(1.0, 1000.0),
    reward_floor=UNIT,
    score_floor=UNIT,
)
SOME_INPUTS = st.builds(
    SizingInputs,
    limit_notional=AMOUNTS,
    depth_buy_notional=AMOUNTS,
    depth_sell_notional=AMOUNTS,
    sigma=st.none() | SIGMAS,
    net_bps=EDGES,
    min_net_bps=EDGES,
    score=UNIT,
    breaker_factor=UNIT,
)
WILD_INPUTS = st.builds(
    SizingInputs,
    limit_notional=ANY,
    depth_buy_notional=ANY,
    depth_sell_notional=ANY,
    sigma=st.none() | ANY,
    net_bps=ANY,
    min_net_bps=ANY,
    score=ANY,
    breaker_factor=ANY,
)


def test_the_worked_example() -> None:
    sizing = size(INPUTS, RULES)
    # 10 bps a root minute over 2 x 7.746 = 15.492: 0.6455.
    assert list(sizing.factors) == FACTORS
    assert list(sizing.factors.values()) == pytest.approx([0.5, 0.6454972, 0.75, 0.8, 1.0])
    assert sizing.notional == pytest.approx(193.64917)


def test_the_depth_factor_by_hand() -> None:
    assert depth_factor(1000.0, 8000.0, 2000.0, 0.25) == 0.5
    assert depth_factor(1000.0, 2000.0, 8000.0, 0.25) == 0.5
    assert depth_factor(1000.0, 4000.0, 4000.0, 0.25) == 1.0
    assert depth_factor(1000.0, 4000.0, 0.0, 0.25) == 0.0
    assert depth_factor(0.0, 4000.0, 4000.0, 0.25) == 0.0


def test_the_volatility_factor_by_hand() -> None:
    at_target = 10.0 / math.sqrt(60.0)
    assert volatility_factor(0.0, RULES) == 1.0
    assert volatility_factor(at_target * 0.999, RULES) == 1.0
    assert volatility_factor(2.0 * at_target, RULES) == pytest.approx(0.5)
    assert volatility_factor(100.0 * at_target, RULES) == 0.1
    assert volatility_factor(None, RULES) == 0.5
    assert volatility_factor(math.inf, RULES) == 0.1
    assert volatility_factor(math.nan, RULES) == 0.1
    wary = msgspec.structs.replace(RULES, volatility_unknown=0.05)
    assert [volatility_factor(broken, wary) for broken in (math.nan, -1.0)] == [0.05, 0.05]


@pytest.mark.parametrize(
    ("net_bps", "min_net_bps", "factor"),
    [
        (7.99, 8.0, 0.0), (8.0, 8.0, 0.5), (12.0, 8.0, 0.75), (16.0, 8.0, 1.0), (99.0, 8.0, 1.0),
        (0.0, 0.0, 0.5), (0.01, 0.0, 1.0), (-0.01, 0.0, 0.0), (-1.0, -2.0, 0.0), (1.0, -2.0, 1.0),
        (math.inf, 8.0, 0.0), (math.nan, 8.0, 0.0), (12.0, math.nan, 0.0), (12.0, math.inf, 0.0),
    ],
)  # fmt: skip
def test_the_reward_factor_by_hand(net_bps: float, min_net_bps: float, factor: float) -> None:
    assert reward_factor(net_bps, min_net_bps, RULES) == pytest.approx(factor)


def test_a_reward_that_is_full_at_the_demanded_edge_is_full_there() -> None:
    rules = msgspec.structs.replace(RULES, reward_full=1.0)
    assert reward_factor(8.0, 8.0, rules) == 1.0
    assert reward_factor(7.9, 8.0, rules) == 0.0


def test_a_floor_lifts_a_low_score_but_not_a_veto() -> None:
    assert [score_factor(score, RULES) for score in (0.8, 0.05, 0.0, math.nan, -1.0, 7.0)] == [0.8, 0.1, 0, 0, 0, 1.0]


@pytest.mark.parametrize("field", ["limit_notional", "depth_buy_notional", "net_bps", "score", "breaker_factor"])
@pytest.mark.parametrize("value", [0.0, -1.0, math.nan])
def test_without_any_of_these_nothing_is_traded(field: str, value: float) -> None:
    assert size(msgspec.structs.replace(INPUTS, **{field: value}), RULES).notional == 0.0


def test_the_depth_within_the_band_by_hand() -> None:
    asks = [(100.0, 1.0), (100.05, 2.0), (100.2, 4.0)]
    bids = [(99.0, 3.0), (98.95, 1.0), (98.0, 9.0)]
    assert band_notional(asks, 10.0) == pytest.approx(300.1)
    assert band_notional(asks, 4.0) == 100.0
    assert band_notional(bids, 10.0) == pytest.approx(395.95)
    assert band_notional([], 10.0) == 0.0


@pytest.mark.parametrize(
    ("setting", "value"),
    [
        ("depth_share", 1.01), ("depth_share", -0.1), ("band_bps", 0.0), ("volatility_target_bps", 0.0),
        ("volatility_floor", math.nan), ("volatility_unknown", 2.0), ("reward_full", 0.99), ("reward_full", math.inf),
        ("reward_floor", 1.1), ("score_floor", -1.0),
    ],
)  # fmt: skip
def test_settings_out_of_range_are_refused_by_name(setting: str, value: float) -> None:
    with pytest.raises(ValueError, match=f"^{setting} is {value}; it must lie between"):
        SizingRules(**{setting: value})
    with pytest.raises(ValueError, match=f"^{setting} is"):
        msgspec.structs.replace(RULES, **{setting: value})


@given(WILD_INPUTS, SOME_RULES)
def test_whatever_comes_every_factor_is_a_factor(inputs: SizingInputs, rules: SizingRules) -> None:
    sizing = size(inputs, rules)
    assert list(sizing.factors) == FACTORS
    assert all(0.0 <= factor <= 1.0 for factor in sizing.factors.values())
    assert 0.0 <= sizing.notional < math.inf
    if sizing.notional:
        assert sizing.notional <= inputs.limit_notional


@given(SOME_INPUTS, SOME_RULES)
def test_never_more_than_the_share_of_the_thinner_book(inputs: SizingInputs, rules: SizingRules) -> None:
    allowed = rules.depth_share * min(inputs.depth_buy_notional, inputs.depth_sell_notional)
    assert size(inputs, rules).notional <= allowed * (1.0 + 1e-12) + 1e-300


@pytest.mark.parametrize(
    ("field", "values", "larger_is"),
    [
        ("sigma", SIGMAS, "smaller"),
        ("min_net_bps", EDGES, "smaller"),
        ("depth_buy_notional", AMOUNTS, "larger"),
        ("depth_sell_notional", AMOUNTS, "larger"),
        ("net_bps", EDGES, "larger"),
        ("score", UNIT, "larger"),
        ("breaker_factor", UNIT, "larger"),
        ("limit_notional", AMOUNTS, "larger"),
    ],
)
def test_a_worse_figure_is_never_a_larger_size(field: str, values: st.SearchStrategy[float], larger_is: str) -> None:
    @given(SOME_INPUTS, SOME_RULES, values, values)
    def tried(inputs: SizingInputs, rules: SizingRules, one: float, other: float) -> None:
        low, high = sorted((one, other), reverse=larger_is == "smaller")
        smaller = size(msgspec.structs.replace(inputs, **{field: low}), rules).notional
        larger = size(msgspec.structs.replace(inputs, **{field: high}), rules).notional
        # Results below the normal range of floats have no digits left to compare.
        assert smaller <= larger * (1.0 + 1e-12) + 1e-300

    tried()


@given(ASKS, st.floats(0.01, 1000.0), UNIT)
def test_a_thinner_book_never_has_more_within_the_band(levels: Levels, band_bps: float, factor: float) -> None:
    whole = band_notional(levels, band_bps)
    assert band_notional([(price, quantity * factor) for price, quantity in levels], band_bps) <= whole * (1 + 1e-12)
    assert band_notional(levels[:-1], band_bps) <= whole
    assert band_notional(levels, band_bps / 2.0) <= whole


@given(WILD_LEVELS, st.floats(0.01, 1000.0))
def test_a_broken_book_makes_no_depth_that_is_not_a_number(levels: Levels, band_bps: float) -> None:
    assert band_notional(levels, band_bps) >= 0.0
