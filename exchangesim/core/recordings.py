"""Readers of recorded market data: file formats, and the three exchanges' messages in them.

Formats: gzip lines ``<received ns> <json>``, the same after a first line ``{"arb_record": 1, ..}`` in which a mark
``@<connection>`` or ``#<market>`` may stand before the JSON, and cryptofeed's zstd JSON lines. Only spot books and
trades are read; everything else in a file is passed over. A line that cannot be read is counted, not fatal.
"""

from __future__ import annotations

import gzip
import io
import zlib
from collections.abc import Iterator
from dataclasses import dataclass
from decimal import Decimal, InvalidOperation
from pathlib import Path
from typing import Any, BinaryIO

import msgspec
import zstandard

from exchangesim.core.orders import Side

MAX_LINE = 64 << 20
QUOTES = ("USDT", "USDC", "FDUSD", "TUSD", "BUSD", "DAI", "USD", "EUR", "GBP", "TRY", "BTC", "ETH", "BNB")
# Connections of derivatives: their markets bear the same names as spot ones, so they are told apart by address.
_DERIVATIVES = ("linear", "inverse", "option", "fstream", "dstream", "fapi", "dapi")

Levels = list[tuple[Decimal, Decimal]]


class RecordingError(Exception):
    """The file cannot be played; the text is one sentence."""


@dataclass(frozen=True, slots=True)
class Raw:
    """One received message: a frame, or the body of a REST snapshot (``snapshot`` is then its market or address)."""

    time_ns: int
    connection: str
    snapshot: str | None
    data: bytes


@dataclass(frozen=True, slots=True)
class PlayedBook:
    """A book, whole or as changes. Ids are None where the exchange gives none that need to chain."""

    time_ns: int
    native: str
    whole: bool
    bids: Levels
    asks: Levels
    last_id: int | None = None


@dataclass(frozen=True, slots=True)
class PlayedTrade:
    time_ns: int
    native: str
    price: Decimal
    quantity: Decimal
    taker_side: Side


Played = PlayedBook | PlayedTrade


def read_raw(path: Path) -> Iterator[Raw]:
    """Yield the messages of a recording in the order received. Raises RecordingError."""
    try:
        with path.open("rb") as file:
            magic = file.read(4)
    except OSError as error:
        raise RecordingError(f"The recording {path} cannot be opened ({error.strerror}).") from None
    if magic[:2] == b"\x1f\x8b":
        yield from _read_lines(path)
    elif magic == b"\x28\xb5\x2f\xfd":
        yield from _read_cryptofeed(path)
    else:
        raise RecordingError(f"{path} is neither a gzip nor a zstd file, so it is no recording.")


def _lines(path: Path, file: BinaryIO) -> Iterator[bytes]:
    try:
        with file:
            while line := file.readline(MAX_LINE):
                yield line
    except (OSError, EOFError, zlib.error, zstandard.ZstdError) as error:
        raise RecordingError(f"The recording {path} is damaged or cut off ({error}).") from None


def _open_gzip(path: Path) -> BinaryIO:
    return gzip.open(path, "rb")  # type: ignore[return-value]


def _read_lines(path: Path) -> Iterator[Raw]:
    connections: list[str] = []
    markets: list[str] = []
    for number, line in enumerate(_lines(path, _open_gzip(path)), start=1):
        if number == 1 and line.startswith(b"{"):
            try:
                header = msgspec.json.decode(line)
                connections = [str(name) for name in header.get("connections", ())]
                markets = [str(market["key"]) for market in header.get("markets", ())]
            except (msgspec.MsgspecError, AttributeError, KeyError, TypeError) as error:
                raise RecordingError(f"The header of the recording {path} cannot be read ({error}).") from None
            if header.get("arb_record") != 1:
                raise RecordingError(f"{path} is in record format {header.get('arb_record')!r}; this plays format 1.")
            continue
        stamp, _, data = line.strip().partition(b" ")
        if not stamp.isdigit() or len(stamp) > 19 or not data:
            if not line.strip():
                continue
            raise RecordingError(f"{path}, line {number}, is not '<received ns> <json>': {line[:40]!r}.")
        connection, snapshot = connections[0] if connections else "", None
        if data[:1] in (b"@", b"#"):
            mark, _, data = data.partition(b" ")
            hint = mark[1:].decode(errors="replace")
            if mark[:1] == b"#":
                snapshot = hint
            else:
                connection = hint
        elif data.startswith(b'{"lastUpdateId"'):
            snapshot = markets[0] if markets else ""
        yield Raw(int(stamp), connection, snapshot, data)


def _read_cryptofeed(path: Path) -> Iterator[Raw]:
    reader = zstandard.ZstdDecompressor().stream_reader(path.open("rb"), closefd=True)
    addresses: dict[str, str] = {}
    for number, line in enumerate(_lines(path, io.BufferedReader(reader, 1 << 18)), start=1):
        if not line.strip() or (line.startswith(b'{"t":"http"') and b"/depth?" not in line[:400]):
            continue
        try:
            entry: dict[str, Any] = msgspec.json.decode(line)
            kind = entry["t"]
            if kind == "connect":
                addresses[entry["conn"]] = entry["addr"]
            elif kind in ("recv", "http"):
                snapshot = entry["url"] if kind == "http" else None
                connection = addresses.get(entry.get("conn", ""), "")
                yield Raw(int(entry["ts"] * 1e9), connection, snapshot, entry["data"].encode())
        except (msgspec.MsgspecError, KeyError, TypeError, AttributeError) as error:
            raise RecordingError(f"{path}, line {number}, is not a recorded event ({error}).") from None


class Reader:
    """Turns an exchange's recorded messages into books and trades; ``bad`` counts what it could not read."""

    def __init__(self, path: Path, exchange: str) -> None:
        self.path, self.exchange = path, exchange
        self.bad = 0

    def __iter__(self) -> Iterator[Played]:
        sole = ""
        unnamed: list[Raw] = []  # snapshots that do not say their market, before the first message that does
        for raw in read_raw(self.path):
            if any(word in raw.connection for word in _DERIVATIVES):
                continue
            if raw.snapshot == "" and not sole:
                unnamed.append(raw)
                continue
            for played in self._parse(raw, sole):
                if not sole:
                    sole = played.native
                    for earlier in unnamed:
                        yield from self._parse(earlier, sole)
                yield played

    def _parse(self, raw: Raw, sole: str) -> list[Played]:
        try:
            return list(_PARSERS[self.exchange](raw, msgspec.json.decode(raw.data), sole))
        except (msgspec.MsgspecError, InvalidOperation, KeyError, IndexError, TypeError, ValueError, AttributeError):
            self.bad += 1
            return []


def _levels(given: list[list[str]]) -> Levels:
    levels = []
    for row in given:
        price, size = Decimal(row[0]), Decimal(row[1])
        if not (price.is_finite() and size.is_finite() and price > 0 and size >= 0):
            raise ValueError("a level is not a positive price and a quantity")
        levels.append((price, size))
    return levels


def _trade(time_ns: int, native: str, price: str, size: str, taker_side: Side) -> PlayedTrade:
    (level,) = _levels([[price, size]])
    return PlayedTrade(time_ns, native, level[0], level[1], taker_side)


def _binance(raw: Raw, message: dict[str, Any], sole: str) -> Iterator[Played]:
    if raw.snapshot is not None:
        native = _snapshot_native(raw.snapshot) or sole
        if native:
            bids, asks = _levels(message["bids"]), _levels(message["asks"])
            yield PlayedBook(raw.time_ns, native, True, bids, asks, message["lastUpdateId"])
        return
    data = message.get("data", message)
    kind = data.get("e")
    if kind == "depthUpdate":
        yield PlayedBook(raw.time_ns, data["s"], False, _levels(data["b"]), _levels(data["a"]), data["u"])
    elif kind in ("trade", "aggTrade"):
        yield _trade(raw.time_ns, data["s"], data["p"], data["q"], Side.SELL if data["m"] else Side.BUY)


def _snapshot_native(hint: str) -> str:
    """Return the market of a REST snapshot, from its address or our market key ``exchange:BTC/USDT``."""
    if "symbol=" in hint:
        return hint.partition("symbol=")[2].partition("&")[0]
    return hint.rpartition(":")[2].replace("/", "")


def _okx(raw: Raw, message: dict[str, Any], _sole: str) -> Iterator[Played]:
    argument = message.get("arg")
    if not isinstance(argument, dict) or "data" not in message or argument["instId"].count("-") != 1:
        return  # BTC-USD-SWAP and dated futures have three parts
    native, channel = argument["instId"], argument["channel"]
    for data in message["data"]:
        if channel in ("books", "books-l2-tbt", "books50-l2-tbt"):
            whole = message["action"] == "snapshot"
            yield PlayedBook(raw.time_ns, native, whole, _levels(data["bids"]), _levels(data["asks"]))
        elif channel == "books5":
            yield PlayedBook(raw.time_ns, native, True, _levels(data["bids"]), _levels(data["asks"]))
        elif channel in ("trades", "trades-all"):
            yield _trade(raw.time_ns, native, data["px"], data["sz"], Side(data["side"].upper()))


def _bybit(raw: Raw, message: dict[str, Any], _sole: str) -> Iterator[Played]:
    topic = message.get("topic", "")
    if topic.startswith("orderbook.") and not topic.startswith("orderbook.1."):
        data = message["data"]
        whole = message["type"] == "snapshot"
        yield PlayedBook(raw.time_ns, data["s"], whole, _levels(data["b"]), _levels(data["a"]))
    elif topic.startswith("publicTrade."):
        for trade in message["data"]:
            yield _trade(raw.time_ns, trade["s"], trade["p"], trade["v"], Side(trade["S"].upper()))


_PARSERS = {"binance": _binance, "okx": _okx, "bybit": _bybit}


def unified_symbol(native: str) -> str | None:
    """Return ``BTC/USDT`` for ``BTCUSDT`` or ``BTC-USDT``; None where the quote asset is not known."""
    if "-" in native:
        return native.replace("-", "/")
    for quote in QUOTES:
        if native.endswith(quote) and len(native) > len(quote):
            return f"{native.removesuffix(quote)}/{quote}"
    return None
