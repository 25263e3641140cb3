"""docs/reliability.md is what the simulation says of itself now."""

from __future__ import annotations

from datetime import date
from pathlib import Path

from tests.simulation.document import document
from tests.simulation.faults import FAULTS
from tests.simulation.incidents import POINTS
from tests.simulation.mutants import MUTANTS, Verdict
from tests.simulation.runs import run_many

WRITTEN = Path(__file__).parents[2] / "docs" / "reliability.md"


def test_the_document_shows_the_figures_it_is_given() -> None:
    totals = run_many(1, 20, jobs=1)
    verdicts = [Verdict(MUTANTS[0], 3, 2, "written_off: x"), Verdict(MUTANTS[1], 1500, 0, "")]
    text = document(totals, verdicts, 1, date(2026, 1, 2))
    assert "| histories | 20 |" in text
    assert "| seeds | 1 to 20 |" in text
    assert "| safety rules taken away, caught | 1 of 2 |" in text
    assert "| 3 | `written_off` |" in text
    assert "SURVIVED" in text


def test_the_written_document_is_of_these_faults_points_and_mutants() -> None:
    text = WRITTEN.read_text()
    names = [one.name for one in FAULTS] + [one.name for one in MUTANTS] + list(POINTS)
    assert [name for name in names if f"`{name}`" not in text] == [], "write it again: ./arb simulate --document"
