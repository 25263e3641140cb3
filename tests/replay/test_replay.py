"""Recordings made here, replayed through decoders, books, hub and detector; and input that is none."""

from __future__ import annotations

import asyncio
import gzip
import json
from decimal import Decimal
from functools import partial
from io import StringIO
from pathlib import Path
from typing import Any

import pytest
from django.core.management import CommandError, call_command

from tests.replay.files import START, SpotTape
from trading.arbitrage.routes import AssetEquivalence
from trading.clock import SystemClock
from trading.marketdata.recording import NotARecording
from trading.marketdata.replay import ReplayOptions, ReplayReport, RouteRow, replay
from trading.marketdata.replay_sources import open_sources

# Without a time in it: the contents name their tests, and names must be the same in every process.
packed = partial(gzip.compress, mtime=0)


def run(named: list[tuple[str, Path]], **options: Any) -> ReplayReport:
    return asyncio.run(replay(open_sources(named, []), ReplayOptions(**options), SystemClock()))


def row(report: ReplayReport, buy: str, sell: str) -> RouteRow:
    return next(one for one in report.routes if (one.buy, one.sell) == (buy, sell))


@pytest.fixture
def pair(tmp_path: Path) -> list[tuple[str, Path]]:
    """Bitcoin at 100 in one dollar; in another it is dearer for two seconds."""
    one = SpotTape("BTCUSDT").snapshot(1, [(99.0, 5.0)], [(100.0, 2.0), (100.5, 3.0)]).book(10, bids=[(98.0, 1.0)])
    other = SpotTape("BTCUSDC").snapshot(1, [(99.5, 5.0)], [(101.5, 5.0)]).book(3, bids=[(101.0, 4.0)])
    other.book(5, bids=[(101.0, 0.0)]).book(10, bids=[(97.0, 1.0)])
    return [
        ("binance:BTC/USDT", one.write(tmp_path / "one.gz")),
        ("binance:BTC/USDC", other.write(tmp_path / "other.gz")),
    ]


EQUAL = AssetEquivalence.parse(["USDT=USDC"])


def test_an_episode_is_measured_and_traded_once(pair: list[tuple[str, Path]]) -> None:
    report = run(pair, fee_bps=0.0, equal=EQUAL)
    assert (report.messages, report.bad_messages, report.sequence_gaps) == (8, 0, 0)
    found = row(report, "binance:BTC/USDT", "binance:BTC/USDC")
    assert found.overlap_seconds == pytest.approx(9)
    assert (found.episodes, found.seconds_in_profit) == (1, 2.0)
    assert found.best_bps == pytest.approx(100.0)
    # 2 at 100 and 2 at 100.5 are sold at 101.
    assert (found.trades, found.net, found.quote) == (1, pytest.approx(2 * 1.0 + 2 * 0.5), "USDT")
    back = row(report, "binance:BTC/USDC", "binance:BTC/USDT")
    assert (back.episodes, back.trades, back.net) == (0, 0, 0.0)


def test_fees_decide_the_trades_and_not_the_edges(pair: list[tuple[str, Path]]) -> None:
    report = run(pair, fee_bps=50.0, equal=EQUAL)
    found = row(report, "binance:BTC/USDT", "binance:BTC/USDC")
    assert (found.episodes, found.trades, found.net) == (1, 0, 0.0)


def test_wanted_edge_and_notional_limit_the_trades(pair: list[tuple[str, Path]]) -> None:
    small = run(pair, fee_bps=0.0, equal=EQUAL, max_notional=Decimal(100))
    assert row(small, "binance:BTC/USDT", "binance:BTC/USDC").net == pytest.approx(1.0)
    choosy = run(pair, fee_bps=0.0, equal=EQUAL, min_edge_bps=90.0)
    # The average of the first two units is 100 bps; some of the next may come in until it is 90.
    assert 2.0 <= row(choosy, "binance:BTC/USDT", "binance:BTC/USDC").net < 2.7


def test_dollars_of_different_issuers_are_not_compared_unless_declared_equal(pair: list[tuple[str, Path]]) -> None:
    report = run(pair, fee_bps=0.0)
    assert report.routes == ()
    assert any("quote assets differ (USDT, USDC)" in note for note in report.notes)


def test_the_exchange_s_own_best_prices_come_before_the_book_s(tmp_path: Path) -> None:
    one = SpotTape("BTCUSDT").snapshot(1, [(99.0, 5.0)], [(100.0, 2.0)]).ticker(2, 99.0, 100.0).ticker(9, 99.0, 100.0)
    other = SpotTape("BTCUSDC").snapshot(1, [(101.0, 5.0)], [(102.0, 2.0)]).ticker(4, 99.5, 100.5)
    other.book(5, bids=[(101.0, 3.0)]).ticker(8, 99.5, 100.5)
    report = run(
        [("binance:BTC/USDT", one.write(tmp_path / "a.gz")), ("binance:BTC/USDC", other.write(tmp_path / "b.gz"))],
        equal=EQUAL,
    )
    found = row(report, "binance:BTC/USDT", "binance:BTC/USDC")
    assert found.overlap_seconds == pytest.approx(4)
    assert (found.episodes, found.best_bps) == (0, pytest.approx(-50.0))


def test_a_market_whose_recording_has_ended_is_not_traded(tmp_path: Path) -> None:
    ended = SpotTape("BTCUSDT").snapshot(1, [(99.0, 5.0)], [(100.0, 2.0)]).book(2, bids=[(98.0, 1.0)])
    later = SpotTape("BTCUSDC").snapshot(100, [(150.0, 5.0)], [(151.0, 5.0)]).book(101, bids=[(152.0, 1.0)])
    report = run(
        [("binance:BTC/USDT", ended.write(tmp_path / "a.gz")), ("binance:BTC/USDC", later.write(tmp_path / "b.gz"))],
        fee_bps=0.0,
        equal=EQUAL,
    )
    found = row(report, "binance:BTC/USDT", "binance:BTC/USDC")
    assert (found.overlap_seconds, found.episodes, found.best_bps) == (0.0, 0, None)
    assert (found.trades, found.net) == (0, 0.0)


def test_bad_messages_and_gaps_are_counted_and_the_rest_goes_on(pair: list[tuple[str, Path]], tmp_path: Path) -> None:
    tape = SpotTape("BTCUSDT").snapshot(1, [(99.0, 5.0)], [(100.0, 2.0)])
    tape.update_id += 7
    tape.book(2)
    tape.raw(3, '{"stream":"btcusdt@depth@100ms","data":{"U":"x"}}').raw(4, "not json")
    negative = {"e": "depthUpdate", "E": 1, "s": "BTCUSDT", "U": 1, "u": 2, "b": [["-1", "1"]], "a": []}
    tape.raw(5, json.dumps({"stream": "btcusdt@depth@100ms", "data": negative}, separators=(",", ":")))
    report = run([("binance:BTC/USDT", tape.write(tmp_path / "bad.gz")), pair[1]], equal=EQUAL)
    assert (report.messages, report.bad_messages, report.sequence_gaps) == (11, 3, 1)
    assert any("no whole book at the end (gap" in note for note in report.notes)
    assert any("bad message" in note for note in report.notes)


def test_a_snapshot_ahead_of_every_diff_so_far_is_continued_by_the_diff_that_spans_it(tmp_path: Path) -> None:
    tape = SpotTape("BTCUSDT").book(1)
    tape.update_id += 5
    snapshot = {"lastUpdateId": tape.update_id, "bids": [["99", "1"]], "asks": [["100", "1"]]}
    tape.raw(2, json.dumps(snapshot, separators=(",", ":")))
    spanning = {"e": "depthUpdate", "E": 1, "s": "BTCUSDT", "U": 1002, "u": 1010, "b": [["99.5", "1"]], "a": []}
    tape.raw(3, json.dumps({"stream": "btcusdt@depth@100ms", "data": spanning}, separators=(",", ":")))
    tape.update_id = 1010
    tape.book(4, bids=[(99.7, 1.0)])
    sources = open_sources([("binance:BTC/USDT", tape.write(tmp_path / "ahead.gz"))], [])
    report = asyncio.run(replay(sources, ReplayOptions(), SystemClock()))
    assert (report.bad_messages, report.sequence_gaps, report.notes) == (0, 0, ())
    assert sources[0].books["binance:BTC/USDT"].bids.best == 99.7


def test_a_file_cut_off_is_replayed_until_there_and_named(pair: list[tuple[str, Path]], tmp_path: Path) -> None:
    tape = SpotTape("BTCUSDT").snapshot(1, [(99.0, 5.0)], [(100.0, 2.0)])
    for number in range(3000):
        tape.book(2 + number / 1000, bids=[(90 + number / 1000, 1.0 + number * 0.37)])
    whole = tape.write(tmp_path / "whole.gz").read_bytes()
    cut = tmp_path / "cut.gz"
    cut.write_bytes(whole[: len(whole) // 2])
    report = run([("binance:BTC/USDT", cut), pair[1]], equal=EQUAL)
    assert 100 < report.messages < 3000
    assert any(note.startswith("read in part:") and "cut.gz" in note for note in report.notes)


def test_a_line_that_is_no_record_is_a_bad_message_and_the_rest_is_replayed(
    pair: list[tuple[str, Path]], tmp_path: Path
) -> None:
    lines = gzip.decompress(pair[0][1].read_bytes()).splitlines(keepends=True)
    spoilt = tmp_path / "spoilt.gz"
    spoilt.write_bytes(gzip.compress(b"".join([*lines[:2], b"garbage in the middle\n", *lines[2:]])))
    clean, report = run(pair, equal=EQUAL), run([(pair[0][0], spoilt), pair[1]], equal=EQUAL)
    assert (report.messages, report.bad_messages) == (clean.messages + 1, clean.bad_messages + 1)
    assert report.routes == clean.routes
    assert any("spoilt.gz, line 3" in note for note in report.notes)


@pytest.mark.parametrize(
    ("content", "said"),
    [
        (None, "cannot be opened (No such file or directory)"),
        (b"", "neither a gzip nor a zstd file"),
        (b"hello there", "neither a gzip nor a zstd file"),
        (packed(b""), "the recording is empty"),
        (packed(b"hello there\n"), "'<received ns> <json>' was expected"),
        (packed(b"1 {}\n" * 99)[:12], "damaged or cut off"),
        (b"\x28\xb5\x2f\xfdnonsense", "damaged or cut off"),
    ],
)
def test_a_file_that_is_no_recording_is_one_clear_sentence(content: bytes | None, said: str, tmp_path: Path) -> None:
    path = tmp_path / "file.gz"
    if content is not None:
        path.write_bytes(content)
    with pytest.raises(NotARecording) as refusal:
        run([("binance:BTC/USDT", path)])
    assert said in str(refusal.value)
    assert str(path) in str(refusal.value)


def test_a_file_of_another_exchange_or_market_is_refused(pair: list[tuple[str, Path]]) -> None:
    (_, path), _ = pair
    with pytest.raises(NotARecording, match=r"no price of okx:BTC/USDT in it; 3 messages are none of okx \(.*\)$"):
        run([("okx:BTC/USDT", path)])
    with pytest.raises(NotARecording, match=r"one.gz: no price of binance:ETH/USDT in it$"):
        run([("binance:ETH/USDT", path)])


def test_a_recording_that_names_its_exchange_is_not_read_as_anothers(tmp_path: Path) -> None:
    path = tmp_path / "own.gz"
    path.write_bytes(packed(b'{"arb_record": 1, "exchange": "bybit-sim", "ccxt_id": "bybit", "markets": []}\n'))
    with pytest.raises(ValueError, match=r"market: okx:BTC/USDT is not in .*own.gz; it is a recording of bybit"):
        open_sources([("okx:BTC/USDT", path)], [])


def test_a_market_may_not_come_from_pair(pair: list[tuple[str, Path]]) -> None:
    (name, first), (_, second) = pair
    with pytest.raises(ValueError, match=r"market: binance:BTC/USDT is in .*one.gz and again in .*other.gz"):
        open_sources([(name, first), (name, second)], [])


def test_a_file_of_one_market_cannot_be_two(pair: list[tuple[str, Path]]) -> None:
    (name, path), _ = pair
    with pytest.raises(ValueError, match="holds one market, but 2 were named"):
        open_sources([(name, path), ("binance:ETH/USDT", path)], [])
    with pytest.raises(ValueError, match="does not say which market it holds"):
        open_sources([], [path])


@pytest.mark.parametrize(
    ("options", "said"),
    [
        ({"fee_bps": -1.0}, "fee-bps"),
        ({"fee_bps": float("nan")}, "fee-bps"),
        ({"fee_bps": 10_000.0}, "fee-bps"),
        ({"min_edge_bps": float("inf")}, "min-edge-bps"),
    ],
)
def test_absurd_options_are_refused_by_name(options: dict[str, float], said: str) -> None:
    with pytest.raises(ValueError, match=f"{said}: must be"):
        ReplayOptions(**options)


def command(pair: list[tuple[str, Path]], *more: str) -> str:
    out = StringIO()
    markets = [word for name, path in pair for word in ("--market", f"{name}={path}")]
    call_command("replay", *markets, "--treat-as-equal", "USDT=USDC", *more, stdout=out)
    return out.getvalue()


def test_the_command_prints_one_json_object(pair: list[tuple[str, Path]]) -> None:
    printed = json.loads(command(pair, "--fee-bps", "0", "--max-notional", "100", "--json"))
    assert printed["messages"] == 8
    assert [(route["buy"], route["trades"], route["net"]) for route in printed["routes"]] == [
        ("binance:BTC/USDT", 1, pytest.approx(1.0)),
        ("binance:BTC/USDC", 0, 0.0),
    ]
    assert set(printed["routes"][0]) >= {
        "buy", "sell", "overlap_seconds", "episodes", "seconds_in_profit", "share", "best_bps", "trades", "net",
    }  # fmt: skip


def test_the_command_prints_a_table_to_read(pair: list[tuple[str, Path]]) -> None:
    printed = command(pair)
    head, first, *_ = printed.splitlines()
    assert head.split()[:2] == ["buy", "sell"]
    assert "+100.00" in first
    assert "8 messages (0 bad, 0 sequence gaps)" in printed


@pytest.mark.parametrize(
    "arguments",
    [
        [],
        ["--market", "binance:BTC/USDT=/nowhere/file.gz"],
        ["--file", "/nowhere/file.gz"],
        ["--market", "binance:BTC/USDT=/nowhere/file.gz", "--treat-as-equal", "USD"],
        ["--market", "binance:BTC/USDT=/nowhere/file.gz", "--fee-bps", "nan"],
    ],
)
def test_the_command_refuses_wrong_input_with_exit_code_2(arguments: list[str]) -> None:
    out = StringIO()
    with pytest.raises(CommandError) as refusal:
        call_command("replay", *arguments, stdout=out)
    assert refusal.value.returncode == 2
    assert out.getvalue() == ""
    assert "\n" not in str(refusal.value)


def test_records_of_all_files_are_played_by_their_time(pair: list[tuple[str, Path]]) -> None:
    sources = open_sources(pair, [])
    first = [record.received_ns for record in sources[0].records()]
    assert first[0] == START + 999_000_000
    assert first == sorted(first)
