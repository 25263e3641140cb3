"""Seeded histories of the whole engine: none may show an anomaly, and one seed is one history."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest

from tests.simulation.faults import BY_NAME, FAULTS
from tests.simulation.incidents import POINTS
from tests.simulation.runs import Totals, outcomes, run_many

ROOT = Path(__file__).parents[2]
HISTORIES = 2000


@pytest.fixture(scope="module")
def totals() -> Totals:
    return run_many(1, HISTORIES, jobs=1)


def test_no_history_shows_an_anomaly(totals: Totals) -> None:
    assert totals.histories == HISTORIES
    assert totals.failing == []


def test_every_fault_is_injected(totals: Totals) -> None:
    assert [name for name in BY_NAME if not totals.faults[name]] == []


def test_a_process_dies_at_every_point(totals: Totals) -> None:
    died = {point.removesuffix("@recovery") for point in totals.crash_points}
    assert died == set(POINTS)
    assert sum(count for point, count in totals.crash_points.items() if point.endswith("@recovery")) >= 20


def test_trades_end_in_every_way(totals: Totals) -> None:
    assert set(totals.trades) == {"CLOSED", "FAILED", "EXPOSED"}
    assert totals.trades["CLOSED"] > totals.trades["FAILED"] > 0


def test_the_catalogue_is_whole() -> None:
    simulated = {one.number for one in FAULTS}
    assert simulated == set(range(1, 73))


def test_one_seed_is_one_history() -> None:
    seeds = range(900, 930)
    first, again = (list(outcomes(seeds.start, len(seeds), None)) for _ in range(2))
    assert [list(one.lines()) for one in first] == [list(one.lines()) for one in again]
    assert len({tuple(one.lines()) for one in first}) == len(first)


def test_another_process_replays_the_same_history() -> None:
    command = [sys.executable, "manage.py", "simulate", "--histories", "1", "--seed", "912", "--trace", "--jobs", "1"]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=True)
    (here,) = outcomes(912, 1, None)
    shown = done.stdout.splitlines()
    assert shown[0] == "history 912"
    assert shown[1 : 1 + len(here.trace)] == list(here.lines())


def test_the_command_reports_one_object() -> None:
    command = [sys.executable, "manage.py", "simulate", "--histories", "5", "--seed", "7", "--json", "--jobs", "1"]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=True)
    report = json.loads(done.stdout)
    assert report["histories"] == 5
    assert report["anomalies"] == 0
    assert report["histories_per_second"] > 0
    assert set(report["faults"]) == set(BY_NAME)


def test_the_command_refuses_an_unknown_fault() -> None:
    command = [sys.executable, "manage.py", "simulate", "--fault", "00_none"]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False)
    assert done.returncode == 2
    assert "00_none" in done.stderr
