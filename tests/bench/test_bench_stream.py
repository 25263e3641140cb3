"""The stream benchmark runs, loses nothing, and ends with the reason when one of its processes does."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path

import pytest

from bench.stream import FLAT_SHARE, Pair, run, table


@pytest.fixture(autouse=True)
def _own_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Have what a killed process leaves behind go with the test."""
    monkeypatch.setenv("TMPDIR", str(tmp_path))


@pytest.fixture
def pair(monkeypatch: pytest.MonkeyPatch) -> Iterator[Pair]:
    monkeypatch.delenv("DATABASE_URL", raising=False)  # killed, a server leaves its database
    made = Pair(1, compress=True)
    yield made
    made.end()


@pytest.mark.database
def test_every_message_reaches_every_page_of_its_owner() -> None:
    figures = run(owners=2, each=2, rate=2.0, seconds=1.0, rounds=1)
    assert figures["clients"] == 4
    for one in (figures, figures["uncompressed"]):
        assert (one["lost"], one["gaps"], one["closed"]) == (0, 0, 0)
        assert one["messages"] >= 4
        assert 0 < one["p50_ms"] <= one["p99_ms"] <= one["max_ms"]
        assert one["memory_is_flat"] == (one["rss_mb_end"] - one["rss_mb_warm"] <= one["rss_mb_warm"] * FLAT_SHARE)
    assert figures["wire_ratio"] < 1
    assert json.loads(json.dumps(figures)) == figures
    assert len(table(figures).splitlines()) == 5


def test_a_server_that_cannot_start_ends_it_with_the_reason(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("ARB_ENV", "unheard of")
    with pytest.raises(RuntimeError, match=r"failed: ImproperlyConfigured: ARB_ENV is 'unheard of'"):
        run(owners=1, each=1, seconds=1.0, rounds=1)


def test_a_server_that_dies_ends_it_whosever_answer_is_waited_for(pair: Pair) -> None:
    pair.answer_of("server")
    pair._processes["server"].kill()
    with pytest.raises(RuntimeError, match=r"server of the benchmark ended with code -9"):
        pair.answer_of("clients")


def test_a_server_told_to_end_leaves_nothing(pair: Pair, tmp_path: Path) -> None:
    pair.answer_of("server")
    assert list(tmp_path.glob("arb-bench*"))
    pair._processes["server"].terminate()
    assert pair._processes["server"].wait(60) == 1
    assert not list(tmp_path.glob("arb-bench*"))


def test_clients_that_die_end_it_too(pair: Pair) -> None:
    pair.answer_of("server")
    pair.say("clients", "not JSON")
    with pytest.raises(RuntimeError, match=r"clients of the benchmark ended with code 1"):
        pair.pause(60)
