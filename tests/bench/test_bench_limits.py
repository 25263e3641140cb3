"""The bench of limit orders runs the real code on made books, and its document replaces only its own part."""

from __future__ import annotations

import asyncio
import json
from pathlib import Path

import pytest

from bench import limits
from bench.limit_tapes import Flow, made_stages, recorded_stages
from tests.recordings import recording


@pytest.fixture(scope="module")
def figures() -> dict[str, object]:
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(limits, "recorded_stages", list)
        return limits.run(seconds=90.0)


def test_every_style_is_worked_on_both_sides(figures: dict) -> None:
    rows = figures["rows"]
    assert {row["style"] for row in rows} == set(limits.STYLES)
    assert {row["side"] for row in rows if row["style"] == "default"} == {"both", "buy", "sell"}
    for row in rows:
        assert row["orders"] > 0
        assert 0 <= row["filled_at_limit"] <= 1
        assert 0 <= row["fallback_rate"] <= 1
        assert row["unfilled"] <= 1
    assert figures["status_questions"] == 0
    assert json.loads(json.dumps(figures)) == figures
    assert len(limits.table(figures).splitlines()) == len(rows) + 4


def test_the_same_seed_gives_the_same_figures() -> None:
    def play() -> list[dict]:
        stage = made_stages(7, 50.0)[1]
        one = limits.Play(stage)
        asyncio.run(one.run())
        return limits._rows(one)

    assert play() == play()


def test_giving_up_all_of_a_still_spread_gains_nothing_and_half_of_it_gains_half() -> None:
    """What comes out is what went in: a book that stands still, and sellers who meet every bid inside the spread."""
    from bench.limit_tapes import _made

    stage = _made("still", Flow(walk=0.0, takers=5.0, size=1e6), 3, 200.0)
    one = limits.Play(stage)
    asyncio.run(one.run())
    half = [outcome.improvement_bps for outcome in one.outcomes["half the spread"] if outcome.at_limit == 1.0]
    assert half
    # Nine or ten ticks of 0.01 around 15.275; half of them, rounded towards filling, are four or five.
    assert all(4 / 1533 * 1e4 - 1 < gained < 5 / 1522 * 1e4 + 1 for gained in half)
    eager = [outcome.improvement_bps for outcome in one.outcomes["all but 5 %"]]
    assert max(eager) < min(half)


def test_the_document_keeps_what_others_wrote(figures: dict, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(limits, "DOCUMENT", tmp_path / "execution.md")
    limits.DOCUMENT.write_text("# Execution\n\nBefore.\n")
    limits.document(figures)
    limits.DOCUMENT.write_text(limits.DOCUMENT.read_text() + "\n## After\n")
    limits.document(figures)
    text = limits.DOCUMENT.read_text()
    assert text.startswith("# Execution\n\nBefore.\n")
    assert text.rstrip().endswith("## After")
    assert text.count(limits.BEGIN) == text.count(limits.END) == text.count("What adaptive limit orders save") == 1
    assert limits.table(figures) in text


def test_the_recordings_are_found() -> None:
    recording("binance_three_markets/spot_btcusdt_20240808.gz")
    assert [stage.market.kind for stage in recorded_stages()] == ["spot", "linear", "inverse"]
