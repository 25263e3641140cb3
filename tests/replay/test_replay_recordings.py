"""Real recordings: the reference figures, computed independently of this project, must come out."""

from __future__ import annotations

import asyncio
import json
from io import StringIO
from pathlib import Path
from typing import Any

import pytest
from django.core.management import CommandError, call_command

from tests.recordings import recording
from trading.arbitrage.cycles import quote_cycle, three_leg_cycles
from trading.clock import SystemClock
from trading.marketdata.replay import CycleRow, ReplayOptions, ReplayReport, replay
from trading.marketdata.replay_markets import market_from_name
from trading.marketdata.replay_sources import open_sources
from trading.messages import BookTop

pytestmark = pytest.mark.recordings

SPOT, USDM, COINM = "binance:BTC/USDT", "binanceusdm:BTC/USDT:USDT", "binancecoinm:BTC/USD:BTC"
FILES = {
    SPOT: "binance_three_markets/spot_btcusdt_20240808.gz",
    USDM: "binance_three_markets/usdm_btcusdt_20240808.gz",
    COINM: "binance_three_markets/coinm_btcusd_perp_20240808.gz",
}
# buy, sell: overlap in seconds, episodes, share of time in profit in per cent, best edge in basis points.
REFERENCE = {
    (SPOT, USDM): (344.4, 2, 0.02, 0.80),
    (USDM, SPOT): (344.4, 5, 99.98, 11.04),
    (SPOT, COINM): (343.6, 6, 0.07, 5.71),
    (COINM, SPOT): (343.6, 21, 99.88, 4.85),
    (USDM, COINM): (343.2, 48, 96.04, 11.59),
    (COINM, USDM): (343.2, 32, 2.34, 2.38),
}


@pytest.fixture(scope="module")
def printed() -> dict[str, Any]:
    """What ``./arb replay`` prints of the three markets at 10 basis points a leg."""
    out = StringIO()
    markets = [word for name, file in FILES.items() for word in ("--market", f"{name}={recording(file)}")]
    call_command("replay", *markets, "--treat-as-equal", "USD=USDT", "--fee-bps", "10", "--json", stdout=out)
    return json.loads(out.getvalue())


def test_every_message_is_read_and_every_chain_is_whole(printed: dict[str, Any]) -> None:
    assert printed["messages"] == 41_249 + 93_954 + 48_270
    assert (printed["bad_messages"], printed["sequence_gaps"]) == (0, 0)
    assert printed["notes"] == []


@pytest.mark.parametrize("route", REFERENCE, ids=">".join)
def test_edges_are_those_of_the_reference(printed: dict[str, Any], route: tuple[str, str]) -> None:
    found = {(row["buy"], row["sell"]): row for row in printed["routes"]}
    assert set(found) == set(REFERENCE)
    row = found[route]
    overlap, episodes, share, best = REFERENCE[route]
    assert round(row["overlap_seconds"], 1) == overlap
    assert row["episodes"] == episodes
    assert row["share"] * 100 == pytest.approx(share, abs=0.05)
    assert round(row["best_bps"], 2) == best
    assert row["seconds_in_profit"] == pytest.approx(row["share"] * row["overlap_seconds"], abs=1e-5)


def test_at_ten_basis_points_a_leg_nothing_is_traded(printed: dict[str, Any]) -> None:
    assert [(row["trades"], row["net"]) for row in printed["routes"]] == [(0, 0.0)] * 6


def test_without_a_declaration_dollars_and_tethers_stay_apart() -> None:
    report = run([(SPOT, FILES[SPOT]), (COINM, FILES[COINM])], [], fee_bps=0.0)
    assert report.routes == ()
    assert any("quote assets differ (USDT, USD)" in note for note in report.notes)


def test_trades_shrink_as_fees_grow() -> None:
    results = [run([], ["raw_frames/BYBIT.jsonl.zst"], fee_bps=fee) for fee in (0.5, 1.0, 1.5, 3.0)]
    nets = [sum(row.net for row in report.routes) for report in results]
    assert nets == sorted(nets, reverse=True)
    assert nets[0] > nets[1] > 0
    assert nets[-1] == 0.0
    assert sum(row.trades for row in results[-1].routes) == 0


@pytest.mark.parametrize(
    ("file", "received", "books"),
    [
        ("BINANCE", 265 + 4, 4),
        ("BINANCE_FUTURES", 1_535 + 4, 4),
        ("BYBIT", 3_227, 6),
        ("OKX", 410, 3),
        ("BITGET", 1_157, 10),
        ("POLONIEX", 302, 11),
    ],
)
def test_every_market_of_a_recording_is_read_without_a_gap(file: str, received: int, books: int) -> None:
    sources = open_sources([], [recording(f"raw_frames/{file}.jsonl.zst")])
    report = asyncio.run(replay(sources, ReplayOptions(), SystemClock()))
    assert (report.messages, report.bad_messages, report.sequence_gaps) == (received, 0, 0)
    assert [note for note in report.notes if not note.startswith("not compared") and "read by ccxt" not in note] == []
    (source,) = sources
    assert len(source.books) == books
    assert all(book.ready and not book.crossed and len(book.bids) > 10 for book in source.books.values())


def test_a_recording_of_many_markets_that_is_cut_off_is_replayed_until_there(tmp_path: Path) -> None:
    cut = tmp_path / "BYBIT.jsonl.zst"
    cut.write_bytes(recording("raw_frames/BYBIT.jsonl.zst").read_bytes()[:150_000])
    report = asyncio.run(replay(open_sources([], [cut]), ReplayOptions(), SystemClock()))
    assert 1_000 < report.messages < 3_227
    assert (report.bad_messages, report.sequence_gaps) == (0, 0)
    assert any(note.startswith("read in part:") and "BYBIT.jsonl.zst" in note for note in report.notes)


def test_a_book_that_was_recorded_without_its_snapshot_is_named() -> None:
    sources = open_sources([], [recording("raw_frames/KUCOIN.jsonl.zst")])
    report = asyncio.run(replay(sources, ReplayOptions(), SystemClock()))
    assert (report.messages, report.bad_messages, report.sequence_gaps) == (4_721 + 9, 0, 0)
    (source,) = sources
    assert sorted(key for key, book in source.books.items() if not book.ready) == ["kucoin:LTX/USDT"]
    assert any(note.startswith("kucoin:LTX/USDT: no whole book") for note in report.notes)


def test_what_is_read_through_ccxt_says_whose_checks_were_made() -> None:
    report = run([("poloniex:BTC/USDT", "raw_frames/POLONIEX.jsonl.zst")], [])
    assert any("read by ccxt's handlers of poloniex" in note for note in report.notes)


def test_the_markets_of_two_connections_are_told_apart_through_ccxt_too() -> None:
    file = "raw_frames/BITGET.jsonl.zst"
    report = run([("bitget:EOS/USDT", file), ("bitget:UNI/USDT:USDT", file)], [])
    assert (report.messages, report.bad_messages) == (1_157, 0)


def test_a_recording_in_a_format_nobody_reads_any_more_is_refused_with_exit_code_2() -> None:
    out = StringIO()
    with pytest.raises(CommandError) as refusal:
        call_command("replay", "--file", str(recording("raw_frames/KRAKEN.jsonl.zst")), stdout=out)
    assert refusal.value.returncode == 2
    assert out.getvalue() == ""
    said = str(refusal.value)
    assert "KRAKEN.jsonl.zst is of kraken, in the array format of its WebSocket v1" in said
    assert "\n" not in said


# The reference triangle: POLONIEX, USDT > BTC > BCH > USDT


@pytest.fixture(scope="module")
def triangle() -> CycleRow:
    report = run([], ["raw_frames/POLONIEX.jsonl.zst"])
    return next(row for row in report.cycles if row.assets == "USDT>BTC>BCH>USDT")


def test_the_episodes_of_the_triangle_are_those_of_the_reference(triangle: CycleRow) -> None:
    found = [
        (round(episode.start_ns / 1e9, 3), round((episode.end_ns - episode.start_ns) / 1e9, 2))
        for episode in triangle.intervals
    ]
    assert found == [(1661123517.945, 2.12), (1661123528.614, 0.22), (1661123544.872, 0.11)]


def test_the_best_and_the_median_edge_of_the_triangle_are_those_of_the_reference(triangle: CycleRow) -> None:
    assert (round(triangle.best_bps, 2), round(triangle.best_ns / 1e9, 3)) == (16.79, 1661123528.754)
    assert (round(triangle.median_bps, 1), triangle.states) == (-23.5, 286)


def test_any_fee_above_five_point_six_basis_points_a_leg_kills_the_triangle(triangle: CycleRow) -> None:
    markets = [market_from_name(f"poloniex:{symbol}") for symbol in ("BTC/USDT", "BCH/BTC", "BCH/USDT")]
    cycle = next(one for one in three_leg_cycles(markets) if one.path == triangle.assets)
    tops = [
        BookTop("poloniex:BTC/USDT", 0.0, 0.0, 21615.95, 0.34, 0, 0),
        BookTop("poloniex:BCH/BTC", 0.0, 0.0, 0.00555, 0.01, 0, 0),
        BookTop("poloniex:BCH/USDT", 120.17, 0.27, 0.0, 0.0, 0, 0),
    ]
    quotes = {fee: quote_cycle(cycle, tops, [fee / 1e4] * 3) for fee in (0.0, 5.59, 5.6)}
    assert quotes[0.0].gross_bps == pytest.approx(triangle.best_bps)
    assert quotes[0.0].amount == pytest.approx(1.2, abs=0.001)
    assert quotes[5.59].net_bps > 0 > quotes[5.6].net_bps


def test_the_command_prints_the_cycles_of_a_recording() -> None:
    file = str(recording("raw_frames/POLONIEX.jsonl.zst"))
    out = StringIO()
    call_command("replay", "--file", file, "--json", stdout=out)
    cycles = {row["assets"]: row for row in json.loads(out.getvalue())["cycles"]}
    assert set(cycles) == {"USDT>BTC>BCH>USDT", "USDT>BCH>BTC>USDT"}
    row = cycles["USDT>BTC>BCH>USDT"]
    assert set(row) == {
        "exchange", "assets", "overlap_seconds", "episodes", "seconds_in_profit", "share", "best_bps", "median_bps",
    }  # fmt: skip
    assert (row["exchange"], row["episodes"], round(row["best_bps"], 2)) == ("poloniex", 3, 16.79)
    assert row["seconds_in_profit"] == pytest.approx(2.12 + 0.22 + 0.11, abs=0.01)
    assert row["share"] == pytest.approx(row["seconds_in_profit"] / row["overlap_seconds"])
    assert cycles["USDT>BCH>BTC>USDT"]["episodes"] == 0
    out = StringIO()
    call_command("replay", "--file", file, stdout=out)
    assert "USDT>BTC>BCH>USDT" in out.getvalue()


def test_two_markets_of_the_same_native_name_are_told_apart_by_their_connection() -> None:
    file = "raw_frames/BYBIT.jsonl.zst"
    report = run([("bybit:BTC/USDT", file), ("bybit:BTC/USDT:USDT", file)], [], fee_bps=1.0)
    assert (report.messages, report.sequence_gaps) == (3_227, 0)
    assert {(row.buy, row.sell, row.episodes) for row in report.routes} == {
        ("bybit:BTC/USDT", "bybit:BTC/USDT:USDT", 0),
        ("bybit:BTC/USDT:USDT", "bybit:BTC/USDT", 1),
    }


def test_a_market_the_recording_does_not_hold_is_named_with_those_it_holds() -> None:
    with pytest.raises(ValueError, match=r"bybit:XRP/USDT is not in .*; it holds BTC/USDT, BTC/USDT:USDT, "):
        run([("bybit:XRP/USDT", "raw_frames/BYBIT.jsonl.zst")], [])


def run(named: list[tuple[str, str]], whole: list[str], **options: Any) -> ReplayReport:
    sources = open_sources([(name, recording(file)) for name, file in named], [recording(file) for file in whole])
    return asyncio.run(replay(sources, ReplayOptions(**options), SystemClock()))
