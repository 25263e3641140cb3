"""The daily loss threshold, against figures worked out by hand."""

from __future__ import annotations

from decimal import Decimal
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from risk.policy.breakers import MIN_COOLDOWN_SECONDS, SECOND_NS
from risk.policy.threshold import Day, ThresholdRules, daily_loss, loss_threshold

D = Decimal
RULES = ThresholdRules(share_of_equity=D("0.02"), share_of_profit=D("0.5"), floor=D(50), ceiling=D(500))
DAY_NS = 86_400 * SECOND_NS
NOON = 20_000 * DAY_NS + DAY_NS // 2
MONEY = st.decimals(-(10**9), 10**9, places=8)


@pytest.mark.parametrize(
    ("equity", "peak", "threshold"),
    [
        ("10000", "150", "275"),  # the example of the module: 200 + 75
        ("10000", "0", "200"),
        ("10000", "-40", "200"),  # a day that never earned has no peak
        ("1000", "0", "50"),  # 20, below the floor
        ("0", "0", "50"),
        ("20000", "400", "500"),  # 400 + 200, above the ceiling
        ("12345.678901234567890123", "0", "246.91357802469135780246"),
    ],
)
def test_threshold_by_hand(equity: str, peak: str, threshold: str) -> None:
    assert loss_threshold(D(equity), D(peak), RULES) == D(threshold)


@pytest.mark.parametrize(
    ("realised", "peak", "trips"),
    [
        ("-124.99", "150", False),
        ("-125", "150", True),
        ("-199.99", "0", False),
        ("-200", "0", True),
        ("-200", "-1", True),
        ("0", "0", False),
        ("275", "550", False),  # 475 are allowed below a peak of 550
        ("75", "550", True),
    ],
)
def test_the_loss_is_measured_from_the_days_peak(realised: str, peak: str, trips: bool) -> None:
    trip = daily_loss(equity=D(10000), realised=D(realised), peak=D(peak), rules=RULES, now_ns=NOON)
    assert (trip is not None) == trips


def test_a_trip_says_the_figures_and_lasts_until_midnight() -> None:
    trip = daily_loss(equity=D(10000), realised=D("-125"), peak=D(150), rules=RULES, now_ns=NOON)
    assert trip is not None
    assert trip.reason == (
        "Today's result is -125, 275 below its peak; 275.00 below it stop trading until midnight UTC."
    )
    assert trip.seconds == 43_200
    assert trip.figures == {"realised": "-125", "peak": "150", "equity": "10000", "threshold": "275.00"}
    last = daily_loss(equity=D(0), realised=D(-900), peak=D(0), rules=RULES, now_ns=NOON + DAY_NS // 2 - 1)
    assert last is not None
    assert last.seconds == MIN_COOLDOWN_SECONDS


@given(equity=MONEY.map(abs), peak=MONEY, more=MONEY.map(abs))
def test_threshold_is_bounded_and_grows_with_equity_and_profit(equity: Decimal, peak: Decimal, more: Decimal) -> None:
    threshold = loss_threshold(equity, peak, RULES)
    assert RULES.floor <= threshold <= RULES.ceiling
    assert loss_threshold(equity + more, peak, RULES) >= threshold
    assert loss_threshold(equity, peak + more, RULES) >= threshold


@given(st.lists(MONEY, max_size=30))
def test_a_day_keeps_its_sum_and_the_highest_it_was(profits: list[Decimal]) -> None:
    day, sums = Day(number=20_000), [D(0)]
    for profit in profits:
        day = day.noted(profit, NOON)
        sums.append(sums[-1] + profit)
    assert (day.realised, day.peak) == (sums[-1], max(sums))


def test_a_day_begins_anew_at_midnight_and_late_results_count_to_the_present_one() -> None:
    day = Day(number=20_000).noted(D(100), NOON).noted(D(-30), NOON)
    midnight = 20_001 * DAY_NS
    assert day.noted(D(5), midnight - 1) == Day(number=20_000, realised=D(75), peak=D(100))
    fresh = day.noted(D(-5), midnight)
    assert fresh == Day(number=20_001, realised=D(-5), peak=D(0))
    assert fresh.noted(D(-1), NOON) == Day(number=20_001, realised=D(-6), peak=D(0))


@pytest.mark.parametrize("value", ["NaN", "Infinity", "-Infinity"])
def test_what_is_no_amount_is_refused(value: str) -> None:
    with pytest.raises(ValueError, match="equity: must be finite"):
        loss_threshold(D(value), D(0), RULES)
    with pytest.raises(ValueError, match="realised_peak: must be finite"):
        loss_threshold(D(1), D(value), RULES)
    with pytest.raises(ValueError, match="realised: must be finite"):
        daily_loss(equity=D(1), realised=D(value), peak=D(0), rules=RULES, now_ns=NOON)
    with pytest.raises(ValueError, match="profit: must be finite"):
        Day().noted(D(value), NOON)


def test_negative_equity_is_refused() -> None:
    with pytest.raises(ValueError, match=r"equity: must not be negative \(given -1\)"):
        loss_threshold(D(-1), D(0), RULES)


@pytest.mark.parametrize(
    "bad",
    [
        {"share_of_equity": D("1.01")}, {"share_of_equity": D("NaN")}, {"share_of_profit": D("-0.1")},
        {"floor": D(0)}, {"floor": D("NaN")}, {"floor": D(500), "ceiling": D("499.99")}, {"ceiling": D("Infinity")},
    ],
    ids=str,
)  # fmt: skip
def test_rules_that_cannot_be_are_refused_by_field(bad: dict[str, Any]) -> None:
    with pytest.raises(ValueError, match=f"{list(bad)[-1]}: must be .*given"):
        ThresholdRules(**bad)
