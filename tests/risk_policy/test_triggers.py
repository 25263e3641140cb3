"""Triggers: each trips at its limit and not before it, says so with figures, and counts anew afterwards."""

from __future__ import annotations

from decimal import Decimal
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from risk.policy.breakers import SECOND_NS
from risk.policy.triggers import Trigger, TriggerRules, Trip, Watch

D = Decimal
NOW = 1_796_000_000 * SECOND_NS
NAN, INF = float("nan"), float("inf")


def at(seconds: float) -> int:
    return NOW + round(seconds * SECOND_NS)


def names(trips: list[Trip | None]) -> list[str]:
    return ["" if trip is None else trip.trigger.value for trip in trips]


def test_everything_is_off_by_default() -> None:
    watch = Watch(TriggerRules())
    for number in range(100):
        assert watch.note_result(D(-1000), at(number)) is None
        assert watch.note_answer("error", 1e6, at(number)) is None
        assert watch.note_answer("rejected", 1e6, at(number)) is None
        assert watch.note_stale(1e6, at(number)) is None
        assert watch.note_one_legged(at(number)) is None
        assert watch.note_difference(at(number)) is None


def test_losses_in_a_row_trip_once_and_a_profit_breaks_the_row() -> None:
    watch = Watch(TriggerRules(consecutive_losses=3))
    profits = ["-1", "-1", "0", "-1", "-1", "-1", "-1", "-1", "-1"]
    trips = [watch.note_result(D(profit), at(number)) for number, profit in enumerate(profits)]
    assert names(trips) == ["", "", "", "", "", "consecutive_losses", "", "", "consecutive_losses"]
    assert trips[5] is not None
    assert trips[5].reason == "3 trades in a row ended at a loss; 3 stop trading."


def test_a_loss_in_the_window_is_net_of_what_was_earned_in_it() -> None:
    watch = Watch(TriggerRules(window_loss=D(100), window_seconds=60))
    given = [(0, "-60"), (10, "30"), (20, "-69.99"), (21, "-0.01"), (22, "-99")]
    trips = [watch.note_result(D(profit), at(second)) for second, profit in given]
    assert names(trips) == ["", "", "", "window_loss", ""]
    assert trips[3] is not None
    assert trips[3].figures == {"loss": "100.00", "window_loss": "100", "seconds": 60, "trades": 4}


def test_a_result_leaves_the_window_at_its_end() -> None:
    watch = Watch(TriggerRules(window_loss=D(100), window_seconds=60))
    assert watch.note_result(D(-99), at(0)) is None
    assert watch.note_result(D(-99), at(60)) is None
    assert watch.note_result(D(-1), at(119)) is not None


def test_one_loss_trips_only_once_where_both_count_it() -> None:
    watch = Watch(TriggerRules(consecutive_losses=1, window_loss=D(1)))
    assert names([watch.note_result(D(-5), at(0)), watch.note_result(D(0), at(1))]) == ["consecutive_losses", ""]


@given(st.lists(st.tuples(st.integers(0, 40), st.decimals(-50, 50, places=18)), max_size=60))
def test_the_window_is_what_a_plain_sum_over_it_says(given: list[tuple[int, Decimal]]) -> None:
    watch = Watch(TriggerRules(window_loss=D(100), window_seconds=60))
    now, kept = 0, []
    for step, profit in given:
        now += step
        kept.append((now, profit))
        lost = -sum((one for when, one in kept if when > now - 60), D(0))
        trip = watch.note_result(profit, at(now))
        assert (trip is not None) == (lost >= 100)
        if trip is not None:
            kept = []


def test_errors_trip_as_a_share_of_a_full_sample() -> None:
    watch = Watch(TriggerRules(error_rate=0.5, error_sample=4))
    answers = ["error", "error", "error", "ok", "ok", "ok", "error", "ok", "error", "ok"]
    trips = [watch.note_answer(answer, None, at(number)) for number, answer in enumerate(answers)]  # type: ignore[arg-type]
    assert names(trips) == ["", "", "", "error_rate", "", "", "", "", "error_rate", ""]


def test_rejected_orders_are_no_errors_and_count_within_their_time() -> None:
    watch = Watch(TriggerRules(error_rate=0.01, error_sample=1, rejects=3, rejects_seconds=10))
    trips = [watch.note_answer("rejected", None, at(second)) for second in (0, 5, 10, 14.9, 15, 16)]
    assert names(trips) == ["", "", "", "rejects", "", ""]


@pytest.mark.parametrize("bad", [NAN, INF, -1.0])
def test_a_latency_that_cannot_be_counts_as_the_worst(bad: float) -> None:
    watch = Watch(TriggerRules(latency_ms=100, latency_sample=3))
    assert names([watch.note_answer("ok", value, at(0)) for value in (1.0, bad, bad)]) == ["", "", "latency"]


def test_latency_is_the_median_of_the_last_answers() -> None:
    watch = Watch(TriggerRules(latency_ms=100, latency_sample=3))
    values = [500, 100, 100, 500, 101, None, 500, 100]
    trips = [watch.note_answer("ok", value, at(0)) for value in values]
    assert names(trips) == ["", "", "", "", "latency", "", "", ""]
    assert trips[4] is not None
    assert trips[4].reason == "The median of the last 3 answers took 101 ms; at most 100 ms are allowed."


def test_stale_data_trips_when_it_is_noticed_and_not_at_every_look() -> None:
    watch = Watch(TriggerRules(stale_seconds=5))
    looks = [(0, 5.0), (1, 5.1), (2, 6.1), (6, 10.1), (6.1, 10.2), (7, 0.1), (8, 5.1)]
    trips = [watch.note_stale(age, at(second)) for second, age in looks]
    assert names(trips) == ["", "stale", "", "", "stale", "", "stale"]


@pytest.mark.parametrize("age", [NAN, INF])
def test_an_age_that_is_no_number_is_stale(age: float) -> None:
    assert Watch(TriggerRules(stale_seconds=5)).note_stale(age, NOW) is not None


def test_one_legged_trades_count_within_their_time() -> None:
    watch = Watch(TriggerRules(one_legged=2, one_legged_seconds=100))
    assert names([watch.note_one_legged(at(second)) for second in (0, 100, 199, 200)]) == ["", "", "one_legged", ""]


def test_a_difference_trips_at_once_and_is_named() -> None:
    trip = Watch(TriggerRules(reconciliation_difference=True)).note_difference(NOW, "0.1 BTC on account 11")
    assert trip is not None
    assert trip.trigger is Trigger.RECONCILIATION
    assert trip.reason == "Our books differ from the exchange's: 0.1 BTC on account 11."


def test_reset_forgets_everything_counted() -> None:
    watch = Watch(TriggerRules(consecutive_losses=2, rejects=2, one_legged=2, error_rate=1, error_sample=2))
    watch.note_result(D(-1), NOW)
    watch.note_answer("rejected", None, NOW)
    watch.note_one_legged(NOW)
    watch.reset()
    assert watch.note_result(D(-1), NOW) is None
    assert watch.note_answer("rejected", None, NOW) is None
    assert watch.note_one_legged(NOW) is None


@pytest.mark.parametrize("profit", ["NaN", "Infinity", "-Infinity", "sNaN"])
def test_a_result_that_is_no_amount_is_refused(profit: str) -> None:
    with pytest.raises(ValueError, match="profit: must be finite"):
        Watch(TriggerRules(consecutive_losses=2)).note_result(D(profit), NOW)


@pytest.mark.parametrize(
    "bad",
    [
        {"consecutive_losses": 0}, {"rejects": -1}, {"one_legged": 10**6}, {"window_loss": D("NaN")},
        {"window_loss": D(0)}, {"window_loss": D("-1")}, {"window_loss": D("Infinity")}, {"window_seconds": NAN},
        {"window_seconds": 86_401.0}, {"error_rate": 1.01}, {"error_rate": 0.0}, {"error_rate": NAN},
        {"error_sample": 0}, {"rejects_seconds": 0.0}, {"stale_seconds": NAN}, {"stale_seconds": 0.0},
        {"latency_ms": INF}, {"latency_sample": 1001}, {"one_legged_seconds": -5.0},
    ],
    ids=str,
)  # fmt: skip
def test_rules_that_cannot_be_are_refused_by_field(bad: dict[str, Any]) -> None:
    with pytest.raises(ValueError, match=f"{next(iter(bad))}: must be .*given"):
        TriggerRules(**bad)
