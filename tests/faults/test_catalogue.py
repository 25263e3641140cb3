"""The catalogue of faults is whole, and every test it names exists."""

from __future__ import annotations

import ast
import re
from functools import cache

from tests.exchangesim.simulator import ROOT
from tests.faults.catalogue import BOTH_PATHS, COUNT, LEVELS, ROWS
from tests.faults.wire import NAMES, WAYS

NUMBERED = re.compile(r"test_fault_(\d\d)_")
FOLDERS = ("crash", "engine", "execution", "faults", "host")


@cache
def names_in(path: str) -> frozenset[str]:
    """Return the names of a file's test functions."""
    tree = ast.parse((ROOT / path).read_text())
    return frozenset(
        node.name
        for node in ast.walk(tree)
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef) and node.name.startswith("test_")
    )


def test_every_number_has_one_row() -> None:
    assert [row.number for row in ROWS] == list(range(1, COUNT + 1))
    assert {row.level for row in ROWS} <= set(LEVELS)
    assert all(row.fault and row.expected for row in ROWS)


def test_every_test_named_exists() -> None:
    named = [(row.number, *test.split("::")) for row in ROWS for test in row.tests]
    missing = [(number, path, name) for number, path, name in named if name not in names_in(path)]
    assert missing == []


def test_every_fault_has_a_test() -> None:
    assert [row.number for row in ROWS if not row.tests] == []


def test_every_numbered_test_is_in_its_row() -> None:
    listed = {(row.number, test) for row in ROWS for test in row.tests}
    found = {
        (int(number[1]), f"{path.relative_to(ROOT)}::{name}")
        for folder in FOLDERS
        for path in sorted((ROOT / "tests" / folder).glob("test_*.py"))
        for name in names_in(str(path.relative_to(ROOT)))
        if (number := NUMBERED.match(name))
    }
    assert found <= listed


def test_every_fault_of_an_order_is_gone_through_on_both_paths() -> None:
    assert set(WAYS) == {*NAMES, *(f"{name}-{how}" for name in NAMES for how in ("websocket", "ccxt"))}
    orders = {*range(1, 40), *range(41, 46), *range(53, 57), 71}  # with the private streams, network and clock
    assert [row.number for row in ROWS if row.number in orders and not row.paths] == []


def test_the_files_said_to_go_through_both_paths_do() -> None:
    for path in BOTH_PATHS:
        text = (ROOT / path).read_text()
        assert "shared_rig" in text or 'params=["rest", "websocket"]' in text, path
