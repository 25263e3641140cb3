"""Record what live feeds receive, byte for byte, in the format that :mod:`trading.marketdata.recording` reads."""

from __future__ import annotations

import asyncio
import gzip
import os
from collections.abc import Sequence
from pathlib import Path

import msgspec

from trading.basis import Funding
from trading.config import ExchangeSpec
from trading.exchanges.markets import load_markets
from trading.exchanges.registry import FOLDERS, feed_for
from trading.instruments import Market, MarketKind
from trading.marketdata.book import Book
from trading.marketdata.recording import FORMAT_VERSION, RecordingHeader, header_as_dict
from trading.messages import PublicTrade
from trading.ports import Clock
from trading.tasks import end_tasks

__all__ = ["RecordSummary", "RecordingWriter", "record"]

# Fast enough beside a feed; higher levels save little on text that repeats itself as much as this.
COMPRESSION = 4
# A crash loses at most this much of a recording.
FLUSH_NS = 5_000_000_000


class RecordingWriter:
    """Writes one recording.

    Lines go to ``<name>.part`` beside the wanted file, which takes its name only when it is complete: a recording cut
    off by a crash is there to be looked at, and nobody takes it for a whole one.

    Raises
    ------
    OSError
        From the constructor, if the folder can't be written to.
    FileExistsError
        If the wanted file exists: what was recorded is never overwritten.
    """

    def __init__(self, path: Path, header: RecordingHeader) -> None:
        if path.exists():
            raise FileExistsError(f"{path} exists already; recordings are not overwritten")
        self.path = path
        self.frames = 0
        self.snapshots = 0
        self._flushed_ns = 0
        self._part = path.with_name(path.name + ".part")
        self._file = gzip.GzipFile(self._part, "wb", compresslevel=COMPRESSION)
        self._file.write(msgspec.json.encode(header_as_dict(header)) + b"\n")

    def write(self, received_ns: int, hint: str, kind: str, data: bytes) -> None:
        """Add one message; the signature is a feed's tap."""
        if kind == "snapshot":
            self.snapshots += 1
            mark = b"#"
        else:
            self.frames += 1
            mark = b"@"
        # A line holds one message and a space ends the mark. In JSON a line end is only ever space between tokens.
        name = hint.replace(" ", "_").encode()
        line = data.replace(b"\n", b" ").replace(b"\r", b" ")
        self._file.write(b"%d %b%b %b\n" % (received_ns, mark, name, line))
        if received_ns - self._flushed_ns > FLUSH_NS:
            self._flushed_ns = received_ns
            self._file.flush()

    def close(self, *, keep: bool = True) -> None:
        """Finish the file and give it its name, or remove it."""
        self._file.close()
        if keep:
            os.replace(self._part, self.path)
        else:
            self._part.unlink()


class RecordSummary(msgspec.Struct, frozen=True, kw_only=True):
    """What was recorded. ``notes`` says which markets' books did not come together, and why."""

    path: str
    seconds: float
    frames: int
    snapshots: int
    markets: tuple[str, ...]
    notes: tuple[str, ...] = ()


class _Statuses:
    """The feed's sink: what the recording is of is in the bytes; only the state of the markets is looked at."""

    def __init__(self) -> None:
        self.last: dict[str, tuple[str, str]] = {}

    def on_book(self, book: Book) -> None: ...

    def on_top(
        self, key: str, bid: float, bid_size: float, ask: float, ask_size: float, exchange_ns: int, received_ns: int
    ) -> None: ...

    def on_trade(self, trade: PublicTrade) -> None: ...

    def on_funding(self, funding: Funding) -> None: ...

    def on_status(self, key: str, status: str, reason: str) -> None:
        self.last[key] = (status, reason)


async def record(spec: ExchangeSpec, symbols: Sequence[str], seconds: float, path: Path, clock: Clock) -> RecordSummary:
    """Follow markets for a time and write everything their feed receives; cancelling ends the recording early.

    Raises
    ------
    ValueError
        If the exchange has no feed that hands out its messages, or has no such market.
    ConnectionError
        If the exchange can't be reached, or sent nothing; then no file is left.
    OSError
        If the file can't be written.
    """
    if spec.ccxt_id not in FOLDERS:
        raise ValueError(f"exchange: {spec.ccxt_id} cannot be recorded; there are {', '.join(sorted(FOLDERS))}")
    markets = await _markets(spec, symbols)
    header = RecordingHeader(
        arb_record=FORMAT_VERSION,
        exchange=spec.code,
        ccxt_id=spec.ccxt_id,
        markets=tuple(markets),
        started_ns=clock.time_ns(),
    )
    writer = RecordingWriter(path, header)
    statuses = _Statuses()
    began = clock.monotonic_ns()
    try:
        feed = feed_for(spec, statuses, clock, tap=writer.write)
        for market in markets:
            feed.add(market)
        running = asyncio.ensure_future(feed.run())
        waiting = asyncio.ensure_future(clock.sleep(seconds))
        try:
            await asyncio.wait((running, waiting), return_when=asyncio.FIRST_COMPLETED)
            if running.done():
                running.result()  # a feed ends only by a bug of its own
        finally:
            await end_tasks((running, waiting))
    finally:
        writer.close(keep=writer.frames > 0)
    notes = tuple(
        f"{market.key}: {status} at the end ({reason})"
        for market in markets
        for status, reason in [statuses.last.get(market.key, ("connecting", "nothing received"))]
        if status != "live"
    )
    if not writer.frames:
        raise ConnectionError(f"exchange {spec.code}: nothing was received, so nothing was recorded: {notes[0]}")
    return RecordSummary(
        path=str(path),
        seconds=round((clock.monotonic_ns() - began) / 1e9, 3),
        frames=writer.frames,
        snapshots=writer.snapshots,
        markets=tuple(market.key for market in markets),
        notes=notes,
    )


async def _markets(spec: ExchangeSpec, symbols: Sequence[str]) -> list[Market]:
    kinds = frozenset(_kind(symbol) for symbol in symbols)
    known = {market.symbol: market for market in await load_markets(spec, kinds=kinds)}
    missing = [symbol for symbol in symbols if symbol not in known]
    if missing:
        shown = ", ".join(sorted(known)[:8]) + (", ..." if len(known) > 8 else "")
        raise ValueError(f"symbols: {spec.code} has no market {missing[0][:40]!r}; it has {shown or 'none'}")
    return [known[symbol] for symbol in dict.fromkeys(symbols)]


def _kind(symbol: str) -> MarketKind:
    pair, _, settle = symbol.partition(":")
    if not settle:
        return "spot"
    return "inverse" if settle == pair.partition("/")[0] else "linear"
