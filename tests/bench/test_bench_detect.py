"""The detection benchmark's own conduct: its frames are in order and its work does not grow with the pairs followed."""

from __future__ import annotations

import json
from io import StringIO
from typing import Any

import pytest
from django.core.management import CommandError, call_command

from bench import detect


@pytest.fixture(scope="module")
def figures() -> dict[str, Any]:
    return detect.run(frames=300, runs=1, pairs=(2, 20))


def test_the_detector_looks_at_the_same_routes_however_many_pairs_are_followed(figures: dict[str, Any]) -> None:
    assert [(row["pairs"], row["active"], row["markets"], row["routes"]) for row in figures["results"]] == [
        (2, 2, 8, 24),
        (20, 2, 80, 240),
        (20, 20, 80, 240),
    ]
    # Six routes go through each of an asset's four markets; nearly every frame changes its market's best prices.
    evaluated = [row["evaluated"] for row in figures["results"]]
    assert evaluated[0] == evaluated[1]
    assert all(0.9 * 6 * 300 < count <= 6 * 300 for count in evaluated)


def test_some_frames_open_an_opportunity_and_most_do_not(figures: dict[str, Any]) -> None:
    assert all(0 < row["opportunities"] < 300 for row in figures["results"])


def test_figures_are_complete_and_readable(figures: dict[str, Any]) -> None:
    assert all(row["books_p50_us"] > 0 and 0 < row["p50_us"] <= row["p99_us"] for row in figures["results"])
    assert json.loads(json.dumps(figures)) == figures
    lines = detect.table(figures).splitlines()
    assert "4 exchanges" in lines[0]
    assert lines[-2].startswith("From 2 to 20 pairs, the same traffic: p50 x ")


def test_the_command_runs_the_benchmark_it_is_told_to(monkeypatch: pytest.MonkeyPatch, figures: dict[str, Any]) -> None:
    monkeypatch.setattr(detect, "run", lambda: figures)
    out = StringIO()
    call_command("bench", "detect", "--json", stdout=out)
    assert json.loads(out.getvalue()) == figures


def test_a_benchmark_that_has_nothing_to_measure_says_so_in_a_sentence(monkeypatch: pytest.MonkeyPatch) -> None:
    def fail() -> dict[str, Any]:
        raise RuntimeError("nothing was traded on")

    monkeypatch.setattr(detect, "run", fail)
    with pytest.raises(CommandError, match=r"^detect: nothing was traded on$"):
        call_command("bench", "detect")
