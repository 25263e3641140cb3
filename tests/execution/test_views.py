"""What pages are told is what docs/live-messages.md promises, field by field."""

from __future__ import annotations

import re
from collections.abc import Mapping
from decimal import Decimal
from pathlib import Path

import pytest

from tests.engine.worlds import World
from trading.execution.views import plain

DOCS = Path(__file__).resolve().parents[2] / "docs" / "live-messages.md"


def promised(kind: str) -> tuple[set[str], set[str]]:
    """Return the fields of a kind, and those of its list of legs, from the table in the documentation."""
    row = next(line for line in DOCS.read_text().splitlines() if line.startswith(f"| `{kind}` |"))
    data = row.split("|")[4]
    head, _, legs = data.partition("list of")
    names = [set(re.findall(r"`([a-z_]+)`", re.sub(r"\([^)]*\)", "", part))) for part in (head, legs)]
    return names[0], names[1]


@pytest.mark.parametrize("kind", ["bot", "opportunity", "trade", "balance"])
async def test_views_have_the_documented_fields(kind: str) -> None:
    world = World(faulty=True)
    await world.start()
    await world.trade()
    view = world.pages.of(kind)[0]
    fields, legs = promised(kind)
    assert set(view) == fields
    if kind == "trade":
        parts = view["legs"]
        assert isinstance(parts, list)
        for part in parts:
            assert isinstance(part, Mapping)
            assert set(part) == legs
    await world.stop()


@pytest.mark.parametrize(
    ("number", "text"),
    [("1E+3", "1000"), ("0E-8", "0"), ("1.500", "1.5"), ("-0.00000001", "-0.00000001"), ("100", "100")],
)
def test_plain_has_no_exponent_and_no_idle_zeros(number: str, text: str) -> None:
    assert plain(Decimal(number)) == text
