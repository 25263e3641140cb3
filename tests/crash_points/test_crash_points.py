"""An engine killed at any await and any commit of a trade loses nothing and does nothing twice, on the real adapters.

A sample in every run of the tests; ``python -m tests.crash_points`` tries every point.
"""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from tests.crash_points.broken import BROKEN, Broken
from tests.crash_points.points import Kind
from tests.crash_points.runs import ALL_TRADES, HAND_TRADES, TRADES, Runner, Totals, running, sampled, spread

pytestmark = [pytest.mark.django_db(transaction=True), pytest.mark.database, pytest.mark.timeout(600)]

UNFOLDING = "DjangoStore._unfold_one"
AWAITS_EVERY, CALLS_EVERY, FIRST, IN_RECOVERY = 25, 4, 1, 3


@pytest.fixture
def runner(transactional_db: None) -> Iterator[Runner]:
    with running() as runner:
        yield runner


@pytest.mark.parametrize("trade", ALL_TRADES)
def test_an_engine_killed_on_a_trades_path_is_recovered_from(trade: str, runner: Runner) -> None:
    path = runner.path(trade)
    # Every COMMIT, and all that happens to an intent that is in the journal and not unfolded.
    deadly = {Kind.UNDONE.value, Kind.DURABLE.value}
    commits = [point for point in path if point.kind in deadly or point.what == UNFOLDING]
    others = [point for point in path if point not in commits]
    plans = [[point] for point in (*commits, *sampled(others, AWAITS_EVERY, CALLS_EVERY))]
    for first in spread(commits, FIRST):
        plans += [[first, point] for point in spread(runner.path(trade, [first]), IN_RECOVERY)]
    totals = Totals()
    runner.try_all(totals, trade, plans)
    print("\n".join(totals.lines()))  # noqa: T201 - shown with -s, and where it fails
    assert totals.failing == []
    assert totals.tried == len(plans)
    assert {point.kind for point in path} == {kind.value for kind in Kind}
    assert {point.kind for point in path if point.what == UNFOLDING} == {"asked", "undone", "durable", "late"}


def test_every_trade_that_is_told_of_happens(runner: Runner) -> None:
    """The answers, refusals and repairs that make the trades different are on their paths."""
    orders = {}
    for trade in TRADES:
        run = runner.run(trade)
        assert run.outcome.anomalies == []
        orders[trade] = (run.sends, "FAILED" in run.states, "UNKNOWN" in run.states)
    assert orders == {
        "evenly": (2, False, False),
        "one_leg_fails": (3, True, False),
        "one_leg_half": (3, False, False),
        "answer_lost": (2, False, True),
        "request_lost": (3, True, True),
    }


def test_every_trade_by_hand_that_is_told_of_happens(runner: Runner) -> None:
    """Each is entered, and protected by what its name says: an entry, its protective orders, a close of its own."""
    orders = {}
    for trade in HAND_TRADES:
        run = runner.run(trade)
        assert run.outcome.anomalies == []
        assert run.outcome.trades == {"CLOSED": 1}
        orders[trade] = (run.sends, "UNKNOWN" in run.states)
    assert orders == {
        "hand_pair_close": (4, False),
        "hand_pair_take_profit": (3, False),
        "hand_separate_close": (4, False),
        "hand_separate_take_profit": (3, False),
        "hand_engine_close": (2, False),
        "hand_engine_take_profit": (2, False),
        "hand_pair_unanswered": (3, True),
    }


def test_one_plan_is_one_history(runner: Runner) -> None:
    path = runner.path("one_leg_fails")
    (point,) = spread([point for point in path if point.kind == Kind.AWAIT.value], 1)
    first, again = (runner.run("one_leg_fails", [point]).outcome for _ in range(2))
    assert [(at, what[:2]) for at, *what in first.trace] == [(at, what[:2]) for at, *what in again.trace]


@pytest.mark.parametrize("broken", BROKEN, ids=lambda broken: broken.name)
def test_a_platform_without_a_rule_is_caught(broken: Broken, transactional_db: None) -> None:
    with running(broken.world) as runner, broken.apply():
        undisturbed = runner.run("evenly")
        found = list(undisturbed.outcome.anomalies)
        for point in undisturbed.path:
            if (point.kind, point.what) == (broken.kind.value, broken.call):
                found += runner.run("evenly", [point]).outcome.anomalies
    assert {one.partition(":")[0] for one in found} >= {broken.anomaly}
