"""The snapshot benchmark runs, agrees with itself and prints what it measured; no figure is judged here."""

from __future__ import annotations

import json

import pytest

from bench.snapshot import measure, table

pytestmark = [pytest.mark.django_db, pytest.mark.database]


def test_it_compares_running_totals_with_the_trades() -> None:
    figures = measure(trades=(10, 60), runs=2)
    assert [row["trades"] for row in figures["results"]] == [10, 60]
    assert all(value > 0 for row in figures["results"] for value in row.values())
    assert json.loads(json.dumps(figures)) == figures
    assert len(table(figures).splitlines()) == 4


def test_it_refuses_totals_that_differ_from_the_trades(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("bench.snapshot.totals_by_summing", lambda owner_id: {})
    with pytest.raises(RuntimeError, match="running totals say"):
        measure(trades=(4,), runs=1)
