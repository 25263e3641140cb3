"""Recordings as market data: which file holds which markets, and who decodes its messages."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import suppress
from pathlib import Path

import msgspec

from trading.exchanges.registry import FOLDERS, protocol_for
from trading.instruments import Market, MarketKind
from trading.marketdata.book import Book
from trading.marketdata.protocol import MarketDataProtocol
from trading.marketdata.recording import NotARecording, Record, Recording, open_recording
from trading.marketdata.replay_definitions import recorded_markets
from trading.marketdata.replay_markets import (
    READABLE,
    MarketNameError,
    cryptofeed_exchange,
    market_from_name,
    no_reader,
    recorder_name,
)
from trading.ports import FeedSink

__all__ = ["ReplaySource", "open_sources"]

# What in the name of a connection or the URL of a snapshot tells the kind of market. The order matters: Binance's
# futures hosts contain its spot hosts' names.
KIND_MARKS: Sequence[tuple[str, MarketKind]] = (
    ("fstream", "linear"),
    ("fapi", "linear"),
    ("dstream", "inverse"),
    ("dapi", "inverse"),
    ("linear", "linear"),
    ("inverse", "inverse"),
    ("bitget.com/mix", "linear"),
    ("spot", "spot"),
    ("stream.binance", "spot"),
    ("api.binance", "spot"),
)


class ReplaySource:
    """One recording, its markets and the protocols that decode it.

    ``damage`` says why reading ended early; what was read until then counts.
    """

    def __init__(self, recording: Recording, ccxt_id: str, markets: Sequence[Market]) -> None:
        self.recording = recording
        self.ccxt_id = ccxt_id
        self.markets = tuple(markets)
        self.damage = ""
        self.books: dict[str, Book] = {}
        self._protocols: dict[MarketKind, MarketDataProtocol] = {}
        self._kinds: dict[str, MarketKind | None] = {}  # by hint
        self._by_native_id: dict[tuple[MarketKind, str], str] = {
            (market.kind, market.native_id.upper()): market.key for market in markets
        }

    def connect(self, sink: FeedSink) -> None:
        """Make the protocols, reporting to ``sink``, and the books they keep."""
        shared = protocol_for(self.ccxt_id, "spot", sink) if self.ccxt_id == "okx" else None
        for market in self.markets:
            if market.kind not in self._protocols:
                self._protocols[market.kind] = shared or protocol_for(self.ccxt_id, market.kind, sink)
            self.books[market.key] = self._protocols[market.kind].add(market)

    def records(self) -> Iterator[Record]:
        """Yield the records in the order received, until the file ends or proves damaged.

        cryptofeed writes one connection after the other, so those recordings are sorted in memory.
        """
        if self.recording.format == "cryptofeed":
            found: list[Record] = []
            self._read_into(found.append)
            yield from sorted(found, key=_received)
            return
        try:
            yield from self.recording
        except NotARecording as error:
            self.damage = str(error)

    def _read_into(self, add: Callable[[Record], None]) -> None:
        try:
            for record in self.recording:
                add(record)
        except NotARecording as error:
            self.damage = str(error)

    def play(self, record: Record) -> None:
        """Decode one record."""
        kind = self._kind(record.hint)
        if kind is None:
            return
        protocol = self._protocols[kind]
        if record.kind == "frame":
            protocol.on_frame(record.data, record.received_ns)
        else:
            protocol.on_snapshot(self._snapshot_key(record, kind), record.data, record.received_ns)

    @property
    def fruitless(self) -> str:
        """Say that the recording gave no price of its markets, and what it holds instead."""
        bad = self.counters["bad_messages"]
        strange = f"; {bad} messages are none of {self.ccxt_id} ({self.bad_reasons[0][0]})" if bad else ""
        return f"{self.recording.path}: no price of {', '.join(self.books)} in it{strange}"

    @property
    def notes(self) -> list[str]:
        """Say what the counters leave out."""
        if self.ccxt_id in FOLDERS:
            return []
        return [
            f"{self.recording.path}: read by ccxt's handlers of {self.ccxt_id}; sequence gaps are those ccxt looks for"
        ]

    @property
    def counters(self) -> Mapping[str, int]:
        """Return the protocols' counters, summed."""
        totals: Counter[str] = Counter()
        for protocol in self._distinct():
            totals.update(protocol.counters)
        return totals

    @property
    def bad_reasons(self) -> list[tuple[str, int]]:
        """Return why messages were bad and how often, the most frequent first."""
        totals: Counter[str] = Counter()
        for protocol in self._distinct():
            totals.update(protocol.bad_reasons)
        return totals.most_common()

    def _distinct(self) -> Iterable[MarketDataProtocol]:
        return {id(protocol): protocol for protocol in self._protocols.values()}.values()

    def _kind(self, hint: str) -> MarketKind | None:
        """Tell which protocol a record is for; None for a kind of market nobody asked for."""
        if hint not in self._kinds:
            marked = next((kind for mark, kind in KIND_MARKS if mark in hint), None)
            if marked is None or self.ccxt_id == "okx":
                marked = next(iter(self._protocols))
            self._kinds[hint] = marked if marked in self._protocols else None
        return self._kinds[hint]

    def _snapshot_key(self, record: Record, kind: MarketKind) -> str:
        if record.hint in {market.key for market in self.markets}:
            return record.hint
        if "symbol=" in record.hint:
            native_id = record.hint.partition("symbol=")[2].partition("&")[0].upper()
            return self._by_native_id.get((kind, native_id), record.hint)
        return self.markets[0].key


def _received(record: Record) -> int:
    return record.received_ns


def open_sources(named: Iterable[tuple[str, str | Path]], whole: Iterable[str | Path]) -> list[ReplaySource]:
    """Open recordings: ``named`` are (market name, file) pairs, ``whole`` files whose markets are all wanted.

    Markets named for the same file share its reading. No market may come from two places.

    Raises
    ------
    NotARecording, MarketNameError
        In one sentence that names the file or the market.
    """
    wanted: dict[Path, list[str]] = {}
    for name, file in named:
        wanted.setdefault(Path(file), []).append(name)
    sources = [_named_source(path, names) for path, names in wanted.items()]
    for file in whole:
        if Path(file) in wanted:
            raise MarketNameError(f"file: {file} is given by --market already")
        sources.append(_whole_source(Path(file)))
    seen: dict[str, Path] = {}
    for source in sources:
        for market in source.markets:
            if market.key in seen:
                raise MarketNameError(
                    f"market: {market.key} is in {seen[market.key]} and again in {source.recording.path}"
                )
            seen[market.key] = source.recording.path
    if not sources:
        raise MarketNameError("market: nothing to replay; give --market NAME=FILE or --file FILE")
    return sources


def _named_source(path: Path, names: Sequence[str]) -> ReplaySource:
    recording = open_recording(path)
    asked = [market_from_name(name) for name in dict.fromkeys(names)]
    exchanges = {market.exchange for market in asked}
    if len(exchanges) > 1:
        raise MarketNameError(
            f"market: {path} is one exchange's recording, but {', '.join(sorted(exchanges))} were named"
        )
    recorded = _ccxt_id(recording)
    if recorded and recorded != asked[0].exchange:
        raise MarketNameError(f"market: {asked[0].key} is not in {path}; it is a recording of {recorded}")
    known = _defined_markets(recording)
    if recording.format == "lines":
        if len(asked) > 1:
            raise MarketNameError(f"market: {path} holds one market, but {len(asked)} were named")
        return ReplaySource(recording, asked[0].exchange, asked)
    markets = []
    for market in asked:
        if market.symbol not in known:
            raise MarketNameError(f"market: {market.key} is not in {path}; it holds {_listed(known)}")
        markets.append(msgspec.structs.replace(known[market.symbol], exchange=market.exchange))
    return ReplaySource(recording, asked[0].exchange, markets)


def _whole_source(path: Path) -> ReplaySource:
    recording = open_recording(path)
    if recording.format == "lines":
        raise MarketNameError(f"file: {path} does not say which market it holds; give it as --market NAME={path}")
    ccxt_id = _ccxt_id(recording)
    if ccxt_id not in READABLE:
        raise MarketNameError(f"file: {path} is of {no_reader(ccxt_id)}")
    known = _defined_markets(recording)
    if not known:
        raise MarketNameError(f"file: {path} holds no market that can be read")
    return ReplaySource(recording, ccxt_id, list(known.values()))


def _defined_markets(recording: Recording) -> dict[str, Market]:
    """Return the markets the recording followed, by symbol, as it defines them itself."""
    if recording.format != "cryptofeed":
        return {market.symbol: market for market in recording.markets}
    followed = set(recording.subscribed)
    markets = recorded_markets(cryptofeed_exchange(recording.exchange), _until_damage(recording.http_bodies()))
    return {symbol: market for symbol, market in markets.items() if recorder_name(market) in followed}


def _until_damage(bodies: Iterator[tuple[str, bytes]]) -> Iterator[tuple[str, bytes]]:
    """Yield what comes before the damage of a recording; playing it says what is wrong."""
    with suppress(NotARecording):
        yield from bodies


def _ccxt_id(recording: Recording) -> str:
    if recording.format == "cryptofeed":
        return cryptofeed_exchange(recording.exchange)
    header = recording.header
    return (header.ccxt_id or header.exchange) if header is not None else ""


def _listed(markets: Mapping[str, Market]) -> str:
    symbols = sorted(markets)
    return ", ".join(symbols[:8]) + (f" and {len(symbols) - 8} more" if len(symbols) > 8 else "") if symbols else "none"
