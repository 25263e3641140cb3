"""Slippage after a trade: the split to the last digit, rollups in any order, what is learned within its bounds."""

from __future__ import annotations

import math
import statistics
from decimal import Decimal

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from risk.policy.realised import Learned, LegExecution, Rollup, RollupKey, learned, roll_up, split
from risk.policy.slippage import SlippageRules

D = Decimal
BUY = LegExecution(
    side="buy",
    quantity=D(2),
    decided_price=D(100),
    sent_price=D("100.1"),
    sent_best=D(100),
    arrival_best=D("100.2"),
    filled_price=D("100.5"),
    expected_fee=D("0.2"),
    paid_fee=D("0.25"),
    charged_bps=D("12.5"),
)
SELL = LegExecution(
    side="sell",
    quantity=D(2),
    decided_price=D(100),
    sent_price=D("99.9"),
    sent_best=D(100),
    arrival_best=D("99.8"),
    filled_price=D("99.5"),
    expected_fee=D("0.2"),
    paid_fee=D("0.25"),
)
RULES = SlippageRules()

PRICES = st.decimals(D("0.000001"), D(1_000_000), places=8)
FEES = st.decimals(D(-10), D(1000), places=8)
LEGS = st.builds(
    LegExecution,
    side=st.sampled_from(["buy", "sell"]),
    quantity=st.decimals(D("0.00000001"), D(1_000_000), places=8),
    decided_price=PRICES,
    sent_price=PRICES,
    sent_best=PRICES,
    arrival_best=PRICES,
    filled_price=PRICES,
    expected_fee=FEES,
    paid_fee=FEES,
    charged_bps=st.decimals(D(-100), D(100), places=12),
)
BPS = st.decimals(D(-20_000), D(20_000), places=9)
ROLLUPS = st.lists(BPS, max_size=6).map(lambda legs: sum((Rollup.of(bps) for bps in legs), Rollup()))


@pytest.mark.parametrize("leg", [BUY, SELL], ids=["buy", "sell"])
def test_the_worked_example_costs_the_same_on_both_sides(leg: LegExecution) -> None:
    slippage = split(leg)
    assert slippage.before_send_bps == 10
    assert slippage.in_flight_bps == 20
    assert slippage.depth_bps == 20
    assert slippage.fee_bps == D("2.5")
    assert slippage.total_bps == D("52.5")


def test_the_surprise_is_what_was_not_charged_beforehand() -> None:
    assert split(BUY).surprise_bps == 40
    assert split(SELL).surprise_bps == D("52.5")


def test_a_leg_that_went_as_decided_has_no_slippage() -> None:
    leg = msgspec.structs.replace(
        BUY, sent_price=D(100), arrival_best=D(100), filled_price=D(100), paid_fee=D("0.2"), charged_bps=D(0)
    )
    assert set(msgspec.structs.astuple(split(leg))) == {D(0)}


def test_better_prices_and_a_rebate_are_negative() -> None:
    slippage = split(msgspec.structs.replace(BUY, arrival_best=D(99), filled_price=D(99), paid_fee=D("-0.02")))
    assert slippage.in_flight_bps == -100
    assert slippage.fee_bps == -11
    assert slippage.total_bps == -111


@given(LEGS)
def test_the_parts_add_up_to_the_last_digit(leg: LegExecution) -> None:
    slippage = split(leg)
    parts = (slippage.before_send_bps, slippage.in_flight_bps, slippage.depth_bps, slippage.fee_bps)
    assert sum(parts) == slippage.total_bps


@given(LEGS)
def test_the_total_is_the_money_lost(leg: LegExecution) -> None:
    sign = 1 if leg.side == "buy" else -1
    lost = sign * (leg.filled_price - leg.decided_price) * leg.quantity + leg.paid_fee - leg.expected_fee
    notional = leg.decided_price * leg.quantity
    # Two figures are rounded to a millionth of a basis point.
    assert abs(split(leg).total_bps * notional / 10_000 - lost) <= notional * D("1.1e-10") + abs(lost) * D("1e-20")


@given(LEGS)
def test_the_other_side_of_the_same_prices_is_the_opposite(leg: LegExecution) -> None:
    other = msgspec.structs.replace(leg, side="sell" if leg.side == "buy" else "buy")
    one, two = split(leg), split(other)
    assert one.before_send_bps == -two.before_send_bps
    assert one.in_flight_bps == -two.in_flight_bps
    assert one.depth_bps == -two.depth_bps
    assert one.fee_bps == two.fee_bps


@pytest.mark.parametrize(
    "field", ["quantity", "decided_price", "sent_price", "sent_best", "arrival_best", "filled_price"]
)
@pytest.mark.parametrize("value", ["0", "-1", "NaN", "sNaN", "Infinity", "-Infinity", "1E+30", "1E-30"])
def test_an_amount_that_is_none_is_refused_by_name(field: str, value: str) -> None:
    with pytest.raises(ValueError, match=rf"^{field} is .*; it must lie between 1e-18 and 1e\+20\.$"):
        msgspec.structs.replace(BUY, **{field: D(value)})


@pytest.mark.parametrize("field", ["expected_fee", "paid_fee", "charged_bps"])
@pytest.mark.parametrize("value", ["NaN", "sNaN", "Infinity", "-Infinity", "1E+30"])
def test_a_fee_that_is_none_is_refused_by_name(field: str, value: str) -> None:
    with pytest.raises(ValueError, match=f"^{field} is .*; it must lie between"):
        msgspec.structs.replace(BUY, **{field: D(value)})


def test_another_side_is_refused() -> None:
    with pytest.raises(ValueError, match=r"^side is 'hold'; it must be buy or sell\.$"):
        msgspec.structs.replace(BUY, side="hold")


def test_the_extremes_the_database_holds_are_split_exactly() -> None:
    leg = msgspec.structs.replace(BUY, decided_price=D("1E-18"), filled_price=D("1E+20"), quantity=D("1E-18"))
    slippage = split(leg)
    assert slippage.total_bps.is_finite()
    assert slippage.total_bps > D("1E+40")


def test_a_rollup_by_hand() -> None:
    rollup = Rollup.of(D(1)) + Rollup.of(D(4)) + Rollup.of(D(-2))
    assert (rollup.count, rollup.total, rollup.squares) == (3, 3, 21)
    assert rollup.mean_bps == 1.0
    # Variance (21 - 9 / 3) / 2 = 9, of the mean 9 / 3.
    assert rollup.standard_error_bps == pytest.approx(math.sqrt(3.0))


def test_nothing_rolled_up_has_no_average_and_no_certainty() -> None:
    assert Rollup().mean_bps == 0.0
    assert Rollup().standard_error_bps == math.inf
    assert Rollup.of(D(3)).standard_error_bps == math.inf


def test_an_absurd_leg_counts_as_its_whole_notional_at_most() -> None:
    assert Rollup.of(D("1E+40")).total == 10_000
    assert Rollup.of(D("-1E+40")).total == -10_000


@pytest.mark.parametrize("value", ["NaN", "sNaN", "Infinity", "-Infinity"])
def test_a_figure_that_is_no_number_is_not_rolled_up(value: str) -> None:
    with pytest.raises(ValueError, match="it must be a finite number"):
        Rollup.of(D(value))


@given(ROLLUPS, ROLLUPS, ROLLUPS)
def test_rollups_add_up_in_any_order_and_grouping(one: Rollup, two: Rollup, three: Rollup) -> None:
    assert one + two == two + one
    assert (one + two) + three == one + (two + three)
    assert one + Rollup() == one


@given(st.lists(st.decimals(D(-10_000), D(10_000), places=6), min_size=2, max_size=20))
def test_a_rollups_figures_are_the_samples(legs: list[Decimal]) -> None:
    rollup = sum((Rollup.of(bps) for bps in legs), Rollup())
    assert rollup.mean_bps == pytest.approx(float(statistics.mean(legs)), abs=1e-9)
    error = float(statistics.stdev(legs)) / math.sqrt(len(legs))
    assert rollup.standard_error_bps == pytest.approx(error, rel=1e-9, abs=1e-9)


def test_legs_are_rolled_up_by_pair_exchange_and_hour() -> None:
    hour = 3_600_000_000_000
    keys = [
        RollupKey.of("BTC/USDT", "okx", 5 * hour),
        RollupKey.of("BTC/USDT", "okx", 6 * hour - 1),
        RollupKey.of("BTC/USDT", "okx", 6 * hour),
        RollupKey.of("BTC/USDT", "bybit", 5 * hour),
        RollupKey.of("ETH/USDT", "okx", 5 * hour),
    ]
    rollups = roll_up((key, D(number)) for number, key in enumerate(keys, start=1))
    assert {key: (rollup.count, rollup.total) for key, rollup in rollups.items()} == {
        ("BTC/USDT", "okx", 5): (2, 3),
        ("BTC/USDT", "okx", 6): (1, 3),
        ("BTC/USDT", "bybit", 5): (1, 4),
        ("ETH/USDT", "okx", 5): (1, 5),
    }


@given(st.lists(st.tuples(st.builds(RollupKey, st.sampled_from("ab"), st.just("x"), st.integers(0, 2)), BPS)))
def test_two_halves_rolled_up_are_the_whole(legs: list[tuple[RollupKey, Decimal]]) -> None:
    one, two = roll_up(legs[::2]), roll_up(legs[1::2])
    merged = {key: one.get(key, Rollup()) + two.get(key, Rollup()) for key in one | two}
    assert merged == roll_up(legs)


def rolled(count: int, mean: int, error: int) -> Rollup:
    """A rollup of that average and standard error: squares = (count - 1) count error^2 + count mean^2."""
    return Rollup(count, D(count * mean), D((count - 1) * count * error**2 + count * mean**2))


@pytest.mark.parametrize(
    ("rollup", "extra", "factor"),
    [
        (rolled(100, 3, 1), 4.0, 0.6),
        (rolled(100, -3, 1), 0.0, 1.0),
        (rolled(100, 0, 0), 0.0, 1.0),
        (rolled(100, 50, 1), 20.0, 0.25),
        (rolled(30, 3, 1), 4.0, 0.6),
        (rolled(29, 50, 1), 0.0, 1.0),
        (Rollup(), 0.0, 1.0),
    ],
)
def test_what_is_learned_by_hand(rollup: Rollup, extra: float, factor: float) -> None:
    found = learned(rollup, RULES)
    assert (found.extra_edge_bps, found.threshold_factor) == pytest.approx((extra, factor))


def test_the_floor_is_demanded_before_anything_is_learned_and_after() -> None:
    rules = msgspec.structs.replace(RULES, edge_floor_bps=2.0)
    assert learned(Rollup(), rules) == Learned(2.0, 1.0)
    assert learned(rolled(100, -3, 1), rules).extra_edge_bps == 2.0


def test_one_leg_is_as_uncertain_as_can_be_where_one_is_enough() -> None:
    rules = msgspec.structs.replace(RULES, min_sample=1)
    assert learned(Rollup.of(D(-5)), rules) == Learned(20.0, 0.25)


SOME_RULES = st.builds(
    SlippageRules,
    cap_bps=st.floats(0.0, 100.0),
    min_sample=st.integers(1, 8),
    edge_floor_bps=st.floats(0.0, 5.0),
    edge_cap_bps=st.floats(5.0, 50.0),
    threshold_floor=st.floats(0.0, 1.0),
)


@given(ROLLUPS, SOME_RULES)
def test_what_is_learned_stays_within_its_bounds(rollup: Rollup, rules: SlippageRules) -> None:
    found = learned(rollup, rules)
    assert rules.edge_floor_bps <= found.extra_edge_bps <= rules.edge_cap_bps
    assert rules.threshold_floor <= found.threshold_factor <= 1.0
    if rollup.count < rules.min_sample:
        assert found == Learned(rules.edge_floor_bps, 1.0)


@given(st.lists(st.decimals(D(-100), D(100), places=6), min_size=2, max_size=8), st.integers(0, 50), SOME_RULES)
def test_more_slippage_never_demands_less(legs: list[Decimal], worse: int, rules: SlippageRules) -> None:
    one = learned(sum((Rollup.of(bps) for bps in legs), Rollup()), rules)
    two = learned(sum((Rollup.of(bps + worse) for bps in legs), Rollup()), rules)
    assert one.extra_edge_bps <= two.extra_edge_bps + 1e-9
    assert one.threshold_factor >= two.threshold_factor - 1e-9
