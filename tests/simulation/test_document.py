"""docs/reliability.md is what the simulation says of itself now."""

from __future__ import annotations

from datetime import date
from pathlib import Path

from tests.simulation.document import document, kills_in, with_fault, with_kills, with_mutants
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


def test_one_fault_and_the_mutants_are_written_into_the_document_alone() -> None:
    name = "01_answer_lost"
    totals = run_many(1, 20, name, jobs=1)
    before = WRITTEN.read_text()
    text = before
    for _ in range(2):  # the second run takes the first one's place
        text = with_fault(text, totals, name, 1, date(2026, 1, 2))
    text = with_mutants(text, [Verdict(MUTANTS[0], 77, 2, "written_off: x")])
    (row,) = [line for line in text.splitlines() if line.startswith("| 1 | ")]
    assert f"| `{name}` | {totals.faults[name]} | 0 |" in row
    assert text.count(f"| 2026-01-02 | `{name}` | 1 to 20 | {totals.faults[name]} | 0 |") == 1
    assert f"| `{MUTANTS[0].name}` | {MUTANTS[0].rule} | 77 | `written_off` |" in text
    assert f"`{MUTANTS[1].name}`" not in text
    assert "| safety rules taken away, caught | 1 of 1 |" in text
    same = [line for line in before.splitlines() if line.startswith("| 2 | ")]
    assert same[0] in text
    assert text.endswith(before[before.index("## What this does not show") :])


def test_a_run_on_the_real_database_takes_the_place_of_the_last_one_and_stays() -> None:
    before = WRITTEN.read_text()
    text = with_kills(before, "hosts that wait", "sqlite", 10, 7, 1, date(2026, 1, 2))
    text = with_kills(text, "hosts that wait", "postgres", 12, 8, 0, date(2026, 1, 3))
    text = with_kills(text, "hosts that wait", "sqlite", 1_500, 900, 0, date(2026, 1, 4))
    assert kills_in(text) == [
        *kills_in(before),
        ("2026-01-04", "hosts that wait", "sqlite", "1,500", "900", "0"),
        ("2026-01-03", "hosts that wait", "postgres", "12", "8", "0"),
    ]
    written_again = document(run_many(1, 5, jobs=1), [], 1, date(2026, 1, 2), kills_in(text))
    assert kills_in(written_again) == kills_in(text)
    end = before.index("## What this does not show")
    assert text.endswith(before[end:])


def test_the_written_document_is_of_these_faults_points_and_mutants() -> None:
    text = WRITTEN.read_text()
    names = [one.name for one in FAULTS] + [one.name for one in MUTANTS] + list(POINTS)
    assert [name for name in names if f"`{name}`" not in text] == [], "write it again: ./arb simulate --document"
