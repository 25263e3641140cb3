"""The messages' types, and that docs/live-messages.md says the same."""

from __future__ import annotations

import re
from pathlib import Path

import msgspec
import pytest

from bots import live_schema
from bots.live_schema import FRAME_TYPES, ITEM_TYPES, SNAPSHOT_LISTS, check_frame, check_item
from tests.live.items import quote, trade

DOCUMENT = (Path(__file__).parents[2] / "docs" / "live-messages.md").read_text()


def table(*, columns: int, header: str) -> dict[str, str]:
    """Return the last column of a table of the document by its first."""
    lines = DOCUMENT.split(header, 1)[1].splitlines()[2:]
    rows = {}
    for line in lines:
        if not line.startswith("|"):
            break
        cells = [cell.strip() for cell in re.split(r"(?<!\\)\|", line)[1:-1]]
        assert len(cells) == columns, line
        rows[cells[0].strip("`")] = cells[-1]
    return rows


def names(cell: str) -> list[str]:
    """Return the fields a cell names: code outside of parentheses, which explain."""
    while re.search(r"\([^()]*\)", cell):
        cell = re.sub(r"\([^()]*\)", "", cell)
    return re.findall(r"`([a-z_]+)`", cell)


def fields(kind: type[msgspec.Struct]) -> list[str]:
    return [field.name for field in msgspec.structs.fields(kind)]


def test_every_kind_is_documented_with_all_its_fields() -> None:
    rows = table(columns=4, header="| kind | key | to | data |")
    assert list(rows) == list(ITEM_TYPES)
    for kind, cell in rows.items():
        documented = names(cell)
        expected = fields(ITEM_TYPES[kind])
        if kind == "trade":
            expected = expected + fields(live_schema.Leg)
        assert sorted(documented) == sorted(expected), kind


def test_a_pair_is_documented_with_all_its_fields() -> None:
    rows = table(columns=2, header="| field | data |")
    documented = re.findall(r"[a-z_]+", " ".join(rows))
    assert sorted(documented) == sorted(fields(live_schema.Pair))


def test_every_frame_is_documented_with_all_its_fields() -> None:
    rows = table(columns=2, header="| type | data |")
    assert list(rows) == list(FRAME_TYPES)
    for kind, cell in rows.items():
        expected = fields(FRAME_TYPES[kind])
        if kind == "update":
            assert names(cell) == ["items"]
            continue
        if kind == "snapshot":
            expected = expected + fields(live_schema.Figures)
        assert sorted(names(cell)) == sorted(expected), kind


def test_the_snapshot_has_a_list_of_each_kind() -> None:
    assert set(SNAPSHOT_LISTS) == set(ITEM_TYPES)
    assert set(SNAPSHOT_LISTS.values()) <= set(fields(live_schema.Snapshot))


@pytest.mark.parametrize(
    ("change", "said"),
    [
        ({"bid": "50000"}, "bid"),
        ({"status": "fine"}, "status"),
        ({"extra": 1}, "extra"),
        ({"received_at": "2026-01-01T00:00:00Z"}, "received_at"),
    ],
)
def test_an_item_of_another_shape_is_refused_by_name(change: dict[str, object], said: str) -> None:
    item = quote()
    with pytest.raises(ValueError, match=said):
        check_item("quote", item["key"], {**item["data"], **change})


def test_a_missing_field_an_unknown_kind_and_a_wrong_key_are_refused() -> None:
    item = trade()
    without = {name: value for name, value in item["data"].items() if name != "legs"}
    with pytest.raises(ValueError, match="legs"):
        check_item("trade", item["key"], without)
    with pytest.raises(ValueError, match="kind: one of"):
        check_item("candle", item["key"], item["data"])
    with pytest.raises(ValueError, match="by its data"):
        check_item("trade", "another", item["data"])


def test_an_update_is_checked_to_its_items() -> None:
    bad = {"kind": "quote", "key": "x", "data": {"market": "x"}}
    frame = {"type": "update", "data": {"items": [bad]}, "timestamp": 1.0, "sequence": 1}
    with pytest.raises(ValueError, match="missing required field"):
        check_frame(msgspec.json.encode(frame))
