"""The score of an opportunity: worked examples, bounds, and that nothing worse ever raises it; the order of several."""

from __future__ import annotations

import math
from itertools import pairwise

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from risk.policy.score import (
    Candidate,
    Components,
    ExchangeHealth,
    ScoreScales,
    ScoreWeights,
    conditions,
    liquidity,
    profit,
    rank,
    score,
    success_rate,
    volatility,
    worth,
)
from tests.risk_policy.strategies import ANY, SIGMAS, UNIT

SCALES = ScoreScales()
WEIGHTS = ScoreWeights()
HEALTH = ExchangeHealth(
    latency_ms=200.0, error_rate=0.02, book_age_ms=500.0, breaker_factor=1.0, spread_bps=2.0, usual_spread_bps=1.2
)
WELL = ExchangeHealth(
    latency_ms=0.0, error_rate=0.0, book_age_ms=0.0, breaker_factor=1.0, spread_bps=1.0, usual_spread_bps=1.0
)
COMPONENTS = Components(profit=0.4, liquidity=0.3, volatility=0.25, success=0.6, conditions=0.6)
NAMES = ["profit", "liquidity", "volatility", "success", "conditions"]

WEIGHT = st.floats(0.0, 1000.0)
SOME_WEIGHTS = st.builds(
    ScoreWeights,
    profit=st.floats(0.001, 1000.0), liquidity=WEIGHT, volatility=WEIGHT, success=WEIGHT, conditions=WEIGHT,
)  # fmt: skip
SOME_COMPONENTS = st.builds(Components, profit=UNIT, liquidity=UNIT, volatility=UNIT, success=UNIT, conditions=UNIT)
WILD_COMPONENTS = st.builds(Components, profit=ANY, liquidity=ANY, volatility=ANY, success=ANY, conditions=ANY)
WILD_HEALTH = st.builds(
    ExchangeHealth,
    latency_ms=ANY, error_rate=ANY, book_age_ms=ANY, breaker_factor=ANY, spread_bps=ANY,
    usual_spread_bps=st.none() | ANY,
)  # fmt: skip
AMOUNTS = st.floats(0.0, 1e9)
COUNTS = st.integers(0, 100_000)


def test_the_worked_example() -> None:
    found = score(COMPONENTS, WEIGHTS)
    assert found.value == pytest.approx(0.4275)
    assert found.components == {
        "profit": 0.4, "liquidity": 0.3, "volatility": 0.25, "success": 0.6, "conditions": 0.6,
    }  # fmt: skip
    assert list(found.components) == NAMES


def test_only_the_proportion_of_the_weights_counts() -> None:
    tenfold = ScoreWeights(profit=3.0, liquidity=2.0, volatility=1.5, success=2.0, conditions=1.5)
    assert score(COMPONENTS, tenfold).value == pytest.approx(0.4275)


def test_a_single_weight_is_its_component() -> None:
    weights = ScoreWeights(profit=0.0, liquidity=7.0, volatility=0.0, success=0.0, conditions=0.0)
    assert score(COMPONENTS, weights).value == pytest.approx(0.3)


def test_conditions_of_nought_veto_whatever_their_weight() -> None:
    down = Components(profit=1.0, liquidity=1.0, volatility=1.0, success=1.0, conditions=0.0)
    assert score(down, WEIGHTS).value == 0.0
    assert score(down, msgspec.structs.replace(WEIGHTS, conditions=0.0)).value == 0.0
    assert score(down, WEIGHTS).components["profit"] == 1.0


@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize("value", [-0.1, math.nan, math.inf, -math.inf, 1001.0])
def test_a_weight_out_of_range_is_refused_by_name(name: str, value: float) -> None:
    with pytest.raises(ValueError, match=rf"^{name} is {value}; it must lie between 0 and 1000\.$"):
        ScoreWeights(**{name: value})


def test_weights_that_are_all_nought_are_refused() -> None:
    with pytest.raises(ValueError, match=r"^The weights add up to 0; at least one of them must be above 0\.$"):
        ScoreWeights(profit=0.0, liquidity=0.0, volatility=0.0, success=0.0, conditions=0.0)


@pytest.mark.parametrize("name", ScoreScales.__struct_fields__)
@pytest.mark.parametrize("value", [-0.1, math.nan, math.inf])
def test_a_scale_out_of_range_is_refused_by_name(name: str, value: float) -> None:
    with pytest.raises(ValueError, match=rf"^{name} is {value}; it must lie between"):
        ScoreScales(**{name: value})


def test_the_profit_by_hand() -> None:
    assert profit(12.0, SCALES) == pytest.approx(0.4)
    assert profit(31.0, SCALES) == 1.0
    assert [profit(bps, SCALES) for bps in (0.0, -3.0, math.nan, math.inf)] == [0.0] * 4


def test_the_liquidity_by_hand() -> None:
    assert liquidity(1000.0, 360_000.0, 1000.0, SCALES) == pytest.approx(0.3)
    assert liquidity(1e6, 1e9, 1000.0, SCALES) == 1.0
    assert liquidity(0.0, 1e9, 1000.0, SCALES) == 0.0
    assert liquidity(1e6, 0.0, 1000.0, SCALES) == 0.0
    assert liquidity(1e6, 1e9, 0.0, SCALES) == 0.0


def test_the_volatility_by_hand() -> None:
    assert volatility(6.0, SCALES) == 0.25
    assert volatility(2.0, SCALES) == 0.5
    assert volatility(0.0, SCALES) == 1.0
    assert volatility(None, SCALES) == 0.5
    assert [volatility(sigma, SCALES) for sigma in (-1.0, math.nan, math.inf)] == [0.0] * 3


def test_few_trades_do_not_decide_and_many_do() -> None:
    assert success_rate(0, 0, 4, 4) == 0.5
    assert success_rate(1, 0, 4, 4) == pytest.approx(5 / 9)
    assert success_rate(0, 1, 4, 4) == pytest.approx(4 / 9)
    assert success_rate(96, 4, 4, 4) == pytest.approx(100 / 108)
    assert success_rate(9600, 400, 4, 4) == pytest.approx(0.96, abs=0.001)


@pytest.mark.parametrize("counts", [(-1, 0, 4, 4), (1, -1, 4, 4), (math.nan, 0, 4, 4), (math.inf, 0, 4, 4), (0,) * 4])
def test_broken_counts_are_no_success(counts: tuple[float, float, float, float]) -> None:
    assert success_rate(*counts) == 0.0


def test_the_worst_figure_of_the_worst_exchange_by_hand() -> None:
    assert conditions([HEALTH], SCALES) == pytest.approx(0.6)
    assert conditions([WELL], SCALES) == 1.0
    assert conditions([WELL, HEALTH], SCALES) == conditions([HEALTH, WELL], SCALES) == pytest.approx(0.6)
    assert conditions([], SCALES) == 0.0


@pytest.mark.parametrize(
    ("field", "value", "expected"),
    [
        ("latency_ms", 200.0, 0.8), ("latency_ms", 1000.0, 0.0), ("error_rate", 0.02, 0.9), ("error_rate", 1.0, 0.0),
        ("book_age_ms", 500.0, 0.75), ("book_age_ms", 2001.0, 0.0), ("breaker_factor", 0.3, 0.3),
        ("breaker_factor", 0.0, 0.0), ("spread_bps", 4.0, 0.25), ("spread_bps", 0.5, 1.0),
        ("usual_spread_bps", None, 0.5), ("usual_spread_bps", 0.0, 0.0),
    ],
)  # fmt: skip
def test_each_figure_of_an_exchange_counts(field: str, value: float | None, expected: float) -> None:
    health = msgspec.structs.replace(WELL, **{field: value})
    assert conditions([WELL, health], SCALES) == pytest.approx(expected)


@pytest.mark.parametrize(
    "field", ["latency_ms", "error_rate", "book_age_ms", "breaker_factor", "spread_bps", "usual_spread_bps"]
)
@pytest.mark.parametrize("value", [-1.0, math.nan])
def test_a_broken_figure_of_an_exchange_is_the_worst(field: str, value: float) -> None:
    assert conditions([WELL, msgspec.structs.replace(WELL, **{field: value})], SCALES) == 0.0


def candidate(key: str, expected_profit: float, liquid: float = 1.0, scored: float = 1.0) -> Candidate:
    return Candidate(key=key, expected_profit=expected_profit, liquidity=liquid, score=scored)


def test_the_worked_example_of_the_order() -> None:
    large, sound = candidate("large", 12.0, 0.5, 0.4), candidate("sound", 5.0, 0.9, 0.8)
    assert worth(large) == pytest.approx(2.4)
    assert worth(sound) == pytest.approx(3.6)
    assert rank([large, sound]) == [sound, large]


def test_equal_worth_goes_by_key_and_broken_figures_go_last() -> None:
    broken = candidate("0", math.nan)
    endless = candidate("1", math.inf)
    loss = candidate("2", -5.0, 1.0, 0.1)
    assert [each.key for each in rank([broken, candidate("b", 2.0), loss, candidate("a", 2.0), endless])] == [
        "a", "b", "0", "1", "2",
    ]  # fmt: skip


WILD_CANDIDATES = st.lists(
    st.builds(Candidate, key=st.text(max_size=3), expected_profit=ANY, liquidity=ANY, score=ANY),
    max_size=6,
    unique_by=lambda each: each.key,
)


@given(WILD_CANDIDATES, st.randoms(use_true_random=False))
def test_the_order_is_that_of_worth_and_not_that_of_arrival(candidates: list[Candidate], source: object) -> None:
    ordered = rank(candidates)
    shuffled = list(candidates)
    source.shuffle(shuffled)  # type: ignore[attr-defined]
    assert [each.key for each in rank(shuffled)] == [each.key for each in ordered]
    assert all(worth(one) >= worth(two) >= 0.0 for one, two in pairwise(ordered))


@given(st.floats(0.0, 1e9), UNIT, UNIT, st.sampled_from(["expected_profit", "liquidity", "score"]), UNIT)
def test_a_worse_candidate_is_never_worth_more(
    profit_: float, liquid: float, scored: float, field: str, factor: float
) -> None:
    whole = candidate("a", profit_, liquid, scored)
    worse = msgspec.structs.replace(whole, **{field: getattr(whole, field) * factor})
    assert worth(worse) <= worth(whole)


@given(WILD_COMPONENTS, SOME_WEIGHTS)
def test_whatever_comes_the_score_is_one(components: Components, weights: ScoreWeights) -> None:
    found = score(components, weights)
    assert 0.0 <= found.value <= 1.0
    assert list(found.components) == NAMES
    assert all(0.0 <= part <= 1.0 for part in found.components.values())


@given(ANY, ANY, ANY, ANY, st.lists(WILD_HEALTH, max_size=3))
def test_whatever_comes_components_are_within_bounds(
    one: float, two: float, three: float, four: float, health: list[ExchangeHealth]
) -> None:
    for component in (
        profit(one, SCALES),
        liquidity(one, two, three, SCALES),
        volatility(one, SCALES),
        success_rate(one, two, three, four),
        conditions(health, SCALES),
    ):
        assert 0.0 <= component <= 1.0


@given(SOME_COMPONENTS, SOME_WEIGHTS, st.sampled_from(NAMES), UNIT)
def test_a_better_component_never_lowers_the_score(
    components: Components, weights: ScoreWeights, name: str, factor: float
) -> None:
    worse = msgspec.structs.replace(components, **{name: getattr(components, name) * factor})
    assert score(worse, weights).value <= score(components, weights).value + 1e-12


@given(SOME_COMPONENTS, SOME_WEIGHTS)
def test_a_score_lies_between_its_components_unless_vetoed(components: Components, weights: ScoreWeights) -> None:
    found = score(components, weights)
    if components.conditions:
        parts = msgspec.structs.astuple(components)
        assert min(parts) - 1e-12 <= found.value <= max(parts) + 1e-12


@given(SIGMAS, SIGMAS, AMOUNTS, AMOUNTS, AMOUNTS)
def test_more_volatility_or_a_thinner_book_never_raises_a_component(
    one: float, two: float, depth: float, volume: float, limit: float
) -> None:
    calm, wild = sorted((one, two))
    assert volatility(wild, SCALES) <= volatility(calm, SCALES)
    whole = liquidity(depth, volume, limit, SCALES)
    assert liquidity(depth / 2.0, volume, limit, SCALES) <= whole
    assert liquidity(depth, volume / 2.0, limit, SCALES) <= whole


@given(COUNTS, COUNTS, st.floats(0.01, 1e6), st.floats(0.01, 1e6))
def test_a_win_never_lowers_the_success_rate_nor_does_a_loss_raise_it(
    wins: int, losses: int, prior_wins: float, prior_losses: float
) -> None:
    rate = success_rate(wins, losses, prior_wins, prior_losses)
    assert 0.0 < rate < 1.0
    assert success_rate(wins + 1, losses, prior_wins, prior_losses) >= rate
    assert success_rate(wins, losses + 1, prior_wins, prior_losses) <= rate


@pytest.mark.parametrize("field", ["latency_ms", "error_rate", "book_age_ms", "spread_bps"])
def test_a_worse_exchange_never_has_better_conditions(field: str) -> None:
    @given(st.floats(0.0, 5000.0), st.floats(0.0, 5000.0))
    def tried(one: float, two: float) -> None:
        low, high = sorted((one, two))
        better, worse = (msgspec.structs.replace(HEALTH, **{field: value}) for value in (low, high))
        assert conditions([WELL, worse], SCALES) <= conditions([WELL, better], SCALES)

    tried()
