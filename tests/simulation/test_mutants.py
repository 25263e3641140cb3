"""An engine with one safety rule taken away is caught: the checks would notice if the rule were lost."""

from __future__ import annotations

import pytest

from tests.simulation.mutants import MUTANTS, Mutant, hunt


@pytest.mark.parametrize("one", MUTANTS, ids=lambda one: one.name)
def test_it_is_caught(one: Mutant) -> None:
    verdict = hunt(one)
    assert verdict.anomaly, f"{one.name} survived {verdict.histories} histories without: {one.rule}"
