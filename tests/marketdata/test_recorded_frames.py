"""Every protocol against real recordings: nothing bad, no gap, and books that show the exchange's own best prices."""

from __future__ import annotations

from collections import Counter
from typing import Any

import numpy as np
import pytest

from tests.exchanges.feed_frames import assert_sound
from tests.recordings import recording
from trading.basis import Funding
from trading.exchanges.binance.compiled import read_depth_frame
from trading.exchanges.binance.protocol import MOST_LEVELS, BinanceProtocol
from trading.exchanges.registry import protocol_for
from trading.instruments import Market, MarketKind
from trading.marketdata.book import Book
from trading.marketdata.protocol import MarketDataProtocol
from trading.marketdata.recording import Recording, open_recording
from trading.messages import PublicTrade

pytestmark = pytest.mark.recordings

BINANCE = "binance_three_markets"


class TopSink:
    """Compares the rebuilt book with the best prices the exchange published for the same update id."""

    def __init__(self) -> None:
        self.books: dict[str, Book] = {}
        self.tops: dict[tuple[str, int], tuple[float, ...]] = {}
        self.counts: Counter[str] = Counter()
        self.compared = 0
        self.different: list[Any] = []

    def on_book(self, book: Book) -> None:
        self.counts["book"] += 1
        assert book.ready
        assert not book.crossed
        top = self.tops.pop((book.key, book.version), None)
        if top is not None:
            self.compared += 1
            own = (book.bids.best, book.bids.best_size, book.asks.best, book.asks.best_size)
            if own != top:
                self.different.append((book.version, own, top))

    def on_top(
        self, key: str, bid: float, bid_size: float, ask: float, ask_size: float, exchange_ns: int, received_ns: int
    ) -> None:
        self.counts["top"] += 1
        self.tops[key, self.books[key].top_version] = (bid, bid_size, ask, ask_size)

    def on_trade(self, trade: PublicTrade) -> None:
        self.counts["trade"] += 1

    def on_funding(self, funding: Funding) -> None: ...

    def on_status(self, key: str, status: str, reason: str) -> None:
        self.counts[status] += 1


def market(native_id: str, kind: MarketKind = "spot") -> Market:
    return Market(
        exchange="recorded", symbol=f"{native_id} {kind}", native_id=native_id, base="A", quote="B", kind=kind
    )


def follow(sink: TopSink, ccxt_id: str, kind: MarketKind, *native_ids: str) -> MarketDataProtocol:
    protocol = protocol_for(ccxt_id, kind, sink)
    for native_id in native_ids:
        book = protocol.add(market(native_id, kind))
        sink.books[book.key] = book
    return protocol


def play(records: Recording, protocol: MarketDataProtocol, key: str) -> None:
    for record in records:
        if record.kind == "snapshot":
            protocol.on_snapshot(key, record.data, record.received_ns)
        else:
            protocol.on_frame(record.data, record.received_ns)


@pytest.mark.parametrize(
    ("file", "native_id", "kind", "depth", "tops", "trades"),
    [
        ("spot_btcusdt_20240808.gz", "BTCUSDT", "spot", 3_451, 28_040, 9_757),
        ("usdm_btcusdt_20240808.gz", "BTCUSDT", "linear", 6_551, 66_089, 21_313),
        ("coinm_btcusd_perp_20240808.gz", "BTCUSD_PERP", "inverse", 26_847, 19_136, 2_286),
    ],
)
def test_binance_books_show_the_published_best_prices_at_the_same_update_id(
    file: str, native_id: str, kind: MarketKind, depth: int, tops: int, trades: int
) -> None:
    sink = TopSink()
    protocol = follow(sink, "binance", kind, native_id)
    (book,) = sink.books.values()
    play(open_recording(recording(f"{BINANCE}/{file}")), protocol, book.key)
    counters = protocol.counters
    assert counters["messages"] == depth + tops + trades
    for name in ("bad_messages", "sequence_gaps", "unknown_symbols", "crossed", "resyncs", "stale_dropped"):
        assert counters[name] == 0, name
    assert (sink.counts["top"], sink.counts["trade"]) == (tops, trades)
    assert sink.counts["book"] > 0.99 * depth  # all but the few before the snapshot
    assert sink.compared > 400
    assert sink.different == []
    assert_sound(book)
    assert len(book.bids) > 500


@pytest.mark.parametrize(
    ("file", "native_id", "kind", "depth"),
    [
        ("spot_btcusdt_20240808.gz", "BTCUSDT", "spot", 3_451),
        ("usdm_btcusdt_20240808.gz", "BTCUSDT", "linear", 6_551),
        ("coinm_btcusd_perp_20240808.gz", "BTCUSD_PERP", "inverse", 26_847),
    ],
)
def test_compiled_code_takes_nearly_every_real_diff_and_the_decoder_alone_makes_the_same_book(
    file: str, native_id: str, kind: MarketKind, depth: int
) -> None:
    calls: Counter[bool] = Counter()

    def counting(*arguments: Any) -> Any:
        read = read_depth_frame(*arguments)
        calls[read[1] >= 0] += 1
        return read

    def leaving(*arguments: Any) -> Any:
        return -1, -1, -1, -1, 0, 0

    books = []
    for compiled in (counting, leaving):
        protocol = BinanceProtocol(TopSink(), kind)
        protocol._compiled = compiled, np.zeros(2 * MOST_LEVELS)
        books.append(protocol.add(market(native_id, kind)))
        protocol.sink.books[books[-1].key] = books[-1]
        play(open_recording(recording(f"{BINANCE}/{file}")), protocol, books[-1].key)
    assert calls[True] > 0.99 * depth
    fast, slow = books
    assert fast.update_id == slow.update_id
    assert list(fast.bids.levels()) == list(slow.bids.levels())
    assert list(fast.asks.levels()) == list(slow.asks.levels())


def test_okx_recording_of_2022_is_guarded_by_its_checksums() -> None:
    sink = TopSink()
    protocol = follow(sink, "okx", "spot", "BTC-USDT", "UNI-USD-SWAP", "BTC-USD-220527")
    play(open_recording(recording("raw_frames/OKX.jsonl.zst")), protocol, "")
    assert protocol.counters["messages"] == 410
    assert not any(value for name, value in protocol.counters.items() if name != "messages")
    assert (sink.counts["book"], sink.counts["trade"]) == (290, 74)


def test_okx_a_lost_update_of_a_real_recording_is_found_by_the_checksum() -> None:
    sink = TopSink()
    protocol = follow(sink, "okx", "spot", "BTC-USDT")
    updates = 0
    for record in open_recording(recording("raw_frames/OKX.jsonl.zst")):
        if b'"update"' in record.data and b'"BTC-USDT"' in record.data:
            updates += 1
            if updates == 10:
                continue
        protocol.on_frame(record.data, record.received_ns)
    assert protocol.counters["sequence_gaps"] == 1
    assert list(protocol.resubscribes_wanted()) == ["recorded:BTC-USDT spot"]
    assert sink.counts["book"] == 10


def test_bybit_keeps_the_same_names_on_two_connections_apart() -> None:
    sink = TopSink()
    linear = follow(sink, "bybit", "linear", "BTCUSDT", "ETHUSDT", "SOLUSDT", "DOGEUSDT")
    spot = follow(sink, "bybit", "spot", "BTCUSDT", "ETHUSDT")
    for record in open_recording(recording("raw_frames/BYBIT.jsonl.zst")):
        protocol = spot if record.hint.endswith("/spot") else linear
        protocol.on_frame(record.data, record.received_ns)
    assert spot.counters["messages"] + linear.counters["messages"] == 3_227
    for protocol in (spot, linear):
        assert not any(value for name, value in protocol.counters.items() if name != "messages")
    assert sink.counts["book"] == 1_594 + 4 + 548 + 2
    prices = {key: book.bids.best for key, book in sink.books.items()}
    assert prices["recorded:BTCUSDT spot"] != prices["recorded:BTCUSDT linear"]
    for book in sink.books.values():
        assert book.ready
        assert_sound(book)


@pytest.mark.parametrize(
    ("file", "kind", "symbols", "messages", "tops", "trades"),
    [
        ("BINANCE", "spot", ("NKNUSDT", "BLZETH", "LRCBTC", "RUNEEUR"), 265, 84, 2),
        ("BINANCE_FUTURES", "linear", ("SUSHIUSDT", "AKROUSDT", "KEEPUSDT", "CTKUSDT"), 1_535, 613, 91),
    ],
)
def test_binance_many_markets_on_one_connection(
    file: str, kind: MarketKind, symbols: tuple[str, ...], messages: int, tops: int, trades: int
) -> None:
    sink = TopSink()
    protocol = follow(sink, "binance", kind, *symbols)
    for record in open_recording(recording(f"raw_frames/{file}.jsonl.zst")):
        if record.kind == "snapshot":
            symbol = record.hint.partition("symbol=")[2].partition("&")[0]
            protocol.on_snapshot(market(symbol, kind).key, record.data, record.received_ns)
        else:
            protocol.on_frame(record.data, record.received_ns)
    counters = protocol.counters
    assert counters["messages"] == messages
    for name in ("bad_messages", "sequence_gaps", "unknown_symbols", "crossed", "resyncs"):
        assert counters[name] == 0, name
    assert (sink.counts["top"], sink.counts["trade"]) == (tops, trades)
    assert all(book.ready for book in sink.books.values())
    assert sink.compared > 0
    assert sink.different == []


def test_one_lost_diff_of_a_real_recording_is_found_and_nothing_is_shown_until_a_snapshot() -> None:
    sink = TopSink()
    protocol = follow(sink, "binance", "spot", "BTCUSDT")
    (book,) = sink.books.values()
    diffs = 0
    for record in open_recording(recording(f"{BINANCE}/spot_btcusdt_20240808.gz")):
        if record.kind == "snapshot":
            protocol.on_snapshot(book.key, record.data, record.received_ns)
            continue
        if b"@depth" in record.data[:40]:
            diffs += 1
            if diffs == 100:
                continue
        protocol.on_frame(record.data, record.received_ns)
        if diffs == 102:
            break
    assert not book.ready
    assert protocol.counters["sequence_gaps"] == 1
    assert list(protocol.snapshots_wanted()) == [book.key]
