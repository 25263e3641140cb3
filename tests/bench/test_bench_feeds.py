"""The feed benchmark: it runs, its three clients end with the right books, and its frames are what it says."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest

from bench import feeds
from bench.frames import make_frames
from tests.exchanges.feed_frames import JudgingSink
from trading.exchanges.binance.protocol import BinanceProtocol
from trading.instruments import Market

ROOT = Path(__file__).resolve().parents[2]


def test_figures_come_with_their_extremes_and_ratios() -> None:
    result = feeds.run(messages=400, repeats=2, markets=4, levels=5)
    for client in ("ours", "ccxt", "floor"):
        assert 0 < result[f"{client}_us_min"] <= result[f"{client}_us"] <= result[f"{client}_us_max"]
    for other in ("ccxt", "floor"):
        assert result[f"ratio_to_{other}"] == pytest.approx(
            result["ours_us"] / result[f"{other}_us"], rel=0.01, abs=0.002
        )
        assert result[f"ratio_to_{other}_min"] <= result[f"ratio_to_{other}_max"]
    assert (result["markets"], result["messages"], result["repeats"]) == (4, 400, 2)


def test_json_is_one_object_and_the_table_names_every_client(capsys: pytest.CaptureFixture[str]) -> None:
    small = ["--messages", "200", "--repeats", "1", "--markets", "2"]
    assert feeds.main([*small, "--json"]) == 0
    result = json.loads(capsys.readouterr().out)
    assert result["messages"] == 200
    table = feeds.table(result)
    assert all(client in table for client in ("ours", "ccxt", "floor"))


@pytest.mark.parametrize("option", ["--messages", "--repeats", "--markets", "--levels"])
def test_a_count_of_nothing_is_refused(option: str, capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit):
        feeds.main([option, "0"])
    assert f"{option} must be at least 1 (given 0)" in capsys.readouterr().err


def test_the_server_ends_when_its_parent_does() -> None:
    server = subprocess.Popen(
        [sys.executable, "-m", "bench.feed_server", "--markets=1", "--messages=1", "--levels=1", "--seed=1"],
        cwd=ROOT,
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
    )
    assert server.stdout is not None
    assert server.stdin is not None
    assert set(json.loads(server.stdout.readline())) == {"rest", "ws"}
    server.stdin.close()
    assert server.wait(timeout=20) == 0
    server.stdout.close()


def test_a_client_that_fails_is_told() -> None:
    with pytest.raises(RuntimeError, match="the ours client failed"):
        feeds._measure("ours", {"rest": 1, "ws": 1}, ["--markets=x"])


def test_frames_are_the_same_for_the_same_seed_and_chain_into_the_stated_books() -> None:
    frames = make_frames(3, 300, levels=10, seed=5)
    assert frames == make_frames(3, 300, levels=10, seed=5)
    assert frames != make_frames(3, 300, levels=10, seed=6)
    sink = JudgingSink()
    protocol = BinanceProtocol(sink, "spot")
    books = {
        symbol: protocol.add(Market(exchange="x", symbol=symbol, native_id=symbol, base="A", quote="USDT"))
        for symbol in frames.symbols
    }
    for frame in frames.first:
        protocol.on_frame(frame, 1)
    for symbol, body in frames.snapshots.items():
        protocol.on_snapshot(books[symbol].key, body, 1)
    for frame in frames.diffs:
        protocol.on_frame(frame, 1)
    for symbol, book in books.items():
        assert book.update_id == frames.last_ids[symbol]
        assert (book.bids.best, book.asks.best) == frames.final_tops[symbol]
    assert protocol.counters["sequence_gaps"] == 0
