"""Binance market data without sockets: spot, USD-M and COIN-M.

A book is a REST snapshot with the diffs that follow it. The first diff must span the snapshot, each next diff must
continue the last: on spot ``U`` is the last ``u`` plus one, on futures ``pu`` is the last ``u``. Sources, under
https://developers.binance.com/docs/: binance-spot-api-docs/web-socket-streams and
derivatives/usds-margined-futures/websocket-market-streams/How-to-manage-a-local-order-book-correctly
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Collection
from typing import Any

import numpy as np

from trading.basis import Funding
from trading.exchanges.binance.messages import (
    BookTicker,
    Depth,
    MarkPrice,
    PartialDepth,
    Trade,
    decode_depth,
    decode_depth_frame,
    decode_envelope,
    decode_mark,
    decode_mark_frame,
    decode_partial_frame,
    decode_snapshot,
    decode_ticker,
    decode_ticker_frame,
    decode_trade,
    decode_trade_frame,
)
from trading.instruments import Market, MarketKind
from trading.marketdata.book import Book
from trading.marketdata.protocol import DECODE_ERRORS, NS_PER_MS, ProtocolBase
from trading.messages import PublicTrade
from trading.ports import FeedSink

# Diffs kept while a snapshot is under way: at one each 100 ms, more than eight minutes.
MAX_BUFFERED = 5_000

PARTIAL_DEPTHS = (5, 10, 20)

Handler = Callable[[bytes, int], None]

MOST_LEVELS = 2_000  # of both sides, in a frame that compiled code reads


class BinanceProtocol(ProtocolBase):
    """Market data of one kind of Binance market (see :class:`trading.marketdata.protocol.MarketDataProtocol`)."""

    def __init__(self, sink: FeedSink, kind: MarketKind = "spot") -> None:
        super().__init__(sink)
        self.kind = kind
        self._markets: dict[str, _MarketStreams] = {}  # by our key
        self._by_symbol: dict[str, _MarketStreams] = {}  # by native name, upper case
        # Stream names come first in every combined frame, so the bytes between the quotes pick the handler without
        # decoding anything.
        self._handlers: dict[bytes, Handler] = {}
        self._compiled: tuple[Callable[..., tuple[int, ...]], Any] | None = None

    def add(self, market: Market) -> Book:
        if market.key in self._markets:
            return self._markets[market.key].book
        if market.kind != self.kind:
            raise ValueError(f"{market.key}: a {market.kind} market cannot be followed on a {self.kind} connection")
        streams = _MarketStreams(self, market)
        self._markets[market.key] = self._by_symbol[market.native_id.upper()] = streams
        self.books[market.key] = streams.book
        self._handlers.update(streams.handlers())
        return streams.book

    def compiled(self) -> tuple[Callable[..., tuple[int, ...]], Any]:
        """Return what reads ordinary depth frames, and the memory their levels go to, one for all markets here."""
        if self._compiled is None:
            from trading.exchanges.binance.compiled import read_depth_frame  # noqa: PLC0415 (costly to import)

            self._compiled = read_depth_frame, np.zeros(2 * MOST_LEVELS)
        return self._compiled

    def remove(self, key: str) -> None:
        streams = self._markets.pop(key, None)
        if streams is None:
            return
        del self.books[key], self._by_symbol[streams.book.market.native_id.upper()]
        for name in streams.handlers():
            self._handlers.pop(name, None)

    def reset(self, key: str | None = None, reason: str = "disconnected", status: str = "down") -> None:
        for streams in list(self._markets.values()) if key is None else [self._markets[key]]:
            streams.restart(reason, status)

    def snapshots_wanted(self) -> Collection[str]:
        return [key for key, streams in self._markets.items() if streams.wants_snapshot]

    def on_frame(self, data: bytes, received_ns: int) -> None:
        self._messages += 1
        # A combined frame opens with {"stream":" and the name; in any other frame no stream's name stands there.
        handler = self._handlers.get(data[11 : data.find(b'"', 11)])
        if handler is not None:
            handler(data, received_ns)
        else:
            self._on_other(data, received_ns)

    def on_snapshot(self, key: str, data: bytes, received_ns: int) -> None:
        streams = self._markets.get(key)
        if streams is None:
            self._unknown += 1
            return
        try:
            snapshot = decode_snapshot(data)
        except DECODE_ERRORS as error:
            self._refuse_message(f"snapshot: {error}")
            return
        streams.on_snapshot(snapshot.last, snapshot.bids, snapshot.asks, snapshot.event_ms, received_ns)

    def _on_other(self, data: bytes, received_ns: int) -> None:
        """Take a frame that does not start like a combined stream we follow: spaced JSON, a raw payload, an answer."""
        try:
            frame = decode_envelope(data)
        except DECODE_ERRORS as error:
            self._refuse_message(f"frame: {error}")
            return
        if frame.stream:
            handler = self._handlers.get(frame.stream.encode())
            if handler is not None:
                handler(data, received_ns)
            else:
                self._on_unfollowed(frame.stream)
        elif frame.symbol:
            self._on_raw(frame.event, frame.symbol, bool(frame.update_id and frame.ask_size), data, received_ns)
        elif frame.error or frame.code:
            self._note_refusal(data.decode(errors="replace"))
        elif not frame.result and frame.event != "serverShutdown":
            self._refuse_message("frame: neither a stream, an event nor an answer")

    def _on_unfollowed(self, stream: str) -> None:
        symbol, _, name = stream.partition("@")
        if symbol.upper() not in self._by_symbol:
            self._unknown += 1
        elif not name:
            self._refuse_message("frame: a stream without a name")
        # else: a stream of a followed market that is not used here (kline, ticker)

    def _on_raw(self, event: str, symbol: str, looks_like_ticker: bool, data: bytes, received_ns: int) -> None:
        streams = self._by_symbol.get(symbol)
        if streams is None:
            self._unknown += 1
            return
        try:
            if event == "depthUpdate":
                streams.on_raw_depth(data, received_ns)
            elif event == "bookTicker" or (not event and looks_like_ticker):  # spot names no event
                streams.on_ticker(decode_ticker(data), received_ns)
            elif event in ("aggTrade", "trade"):
                streams.on_trade(decode_trade(data), received_ns)
            elif event == "markPriceUpdate":
                streams.on_mark(decode_mark(data), received_ns)
        except DECODE_ERRORS as error:
            self._refuse_message(f"{event or 'bookTicker'}: {error}")


class _MarketStreams:
    """One market: its book, the diffs that wait for a snapshot, its place in the chain."""

    __slots__ = (
        "_on_book",
        "_owner",
        "_pairs",
        "_read",
        "_sink",
        "_waiting",
        "book",
        "futures",
        "key",
        "seeded",
        "snapshot_id",
        "symbol",
        "wants_snapshot",
    )

    def __init__(self, owner: BinanceProtocol, market: Market) -> None:
        self._read, self._pairs = owner.compiled()
        self._owner = owner
        self._sink = owner.sink
        self._on_book = owner.sink.on_book
        self.book = Book(market)
        self.key = market.key
        self.symbol = market.native_id.lower()
        self.futures = owner.kind != "spot"
        self._waiting: deque[tuple[Depth, int]] = deque(maxlen=MAX_BUFFERED)
        self.wants_snapshot = False
        self.seeded = False  # a snapshot is in the book, no diff has continued it yet
        self.snapshot_id = -1  # update id of the snapshot the book started from

    def handlers(self) -> dict[bytes, Handler]:
        """Map stream names to what takes their frames; ``0ms`` and ``500ms`` exist on futures only."""
        names: dict[str, Handler] = {
            "bookTicker": self._on_ticker_frame,
            "aggTrade": self._on_trade_frame,
            "trade": self._on_trade_frame,
            "markPrice": self._on_mark_frame,
            "markPrice@1s": self._on_mark_frame,
        }
        for speed in ("", "@0ms", "@100ms", "@250ms", "@500ms", "@1000ms"):
            names[f"depth{speed}"] = self._on_depth_frame
            for levels in PARTIAL_DEPTHS:
                names[f"depth{levels}{speed}"] = self._on_partial_frame
        return {f"{self.symbol}@{name}".encode(): handler for name, handler in names.items()}

    def restart(self, reason: str, status: str = "connecting") -> None:
        self._waiting.clear()
        self.wants_snapshot = self.seeded = False
        self.book.top_version = 0
        self._owner._forget(self.book, reason, status)

    # Diffs

    def _on_depth_frame(self, data: bytes, received_ns: int) -> None:
        # The hot path: an ordinary diff that continues a book. Everything else is the decoder's and :meth:`on_depth`'s.
        book = self.book
        if book.ready:
            first, last, previous, event_ms, bids, levels = self._read(data, self._pairs)
            if (previous if self.futures else first - 1) == book.update_id <= last:
                book.apply_pairs(self._pairs, bids, levels)
                if self._advance(last, event_ms, received_ns):
                    self._on_book(book)
                return
        try:
            depth = decode_depth_frame(data).data
        except DECODE_ERRORS as error:
            self._owner._refuse_message(f"depth: {error}")
            self._doubt()
            return
        self.on_depth(depth, received_ns)

    def on_raw_depth(self, data: bytes, received_ns: int) -> None:
        try:
            depth = decode_depth(data)
        except DECODE_ERRORS:
            self._doubt()
            raise
        self.on_depth(depth, received_ns)

    def _doubt(self) -> None:
        """Start anew after a diff that could not be read: the next one may be long in coming."""
        if self.book.ready or self.seeded:
            self._resync("a change of the book could not be read")

    def on_depth(self, depth: Depth, received_ns: int) -> None:
        book = self.book
        if book.ready:
            previous = book.update_id
            if (depth.previous if self.futures else depth.first - 1) == previous <= depth.last:
                if self._apply(depth, received_ns):
                    self._on_book(book)
            elif depth.last <= previous:
                self._owner._stale += 1
            elif previous == self.snapshot_id and self._continues_snapshot(depth):
                # The snapshot was ahead of every diff that waited for it; this one began before it and spans it.
                if self._apply(depth, received_ns):
                    self._on_book(book)
            else:
                self._lost(f"gap: {depth.first} came after {previous}")
                self._wait(depth, received_ns)
        elif self.seeded:
            if self._continues_snapshot(depth):
                if self._apply(depth, received_ns):
                    self._become_ready()
            elif self._before_snapshot(depth):
                self._owner._stale += 1
            else:
                self._lost(f"gap: {depth.first} came after the snapshot of {book.update_id}")
                self._wait(depth, received_ns)
        else:
            self._wait(depth, received_ns)

    def _wait(self, depth: Depth, received_ns: int) -> None:
        if depth.first > depth.last:
            self._owner._refuse_message("depth: first update id above the last")
            return
        self._waiting.append((depth, received_ns))
        if not self.wants_snapshot:
            self.wants_snapshot = True
            self._owner.wake()

    def _before_snapshot(self, depth: Depth) -> bool:
        snapshot = self.book.update_id
        return depth.last < snapshot if self.futures else depth.last <= snapshot

    def _continues_snapshot(self, depth: Depth) -> bool:
        snapshot = self.book.update_id
        if self.futures:
            return depth.first <= snapshot <= depth.last or depth.previous == snapshot
        return depth.first <= snapshot + 1 <= depth.last

    def _apply(self, depth: Depth, received_ns: int) -> bool:
        self.book.bids.apply(depth.bids)
        self.book.asks.apply(depth.asks)
        return self._advance(depth.last, depth.event_ms, received_ns)

    def _advance(self, last: int, event_ms: int, received_ns: int) -> bool:
        """Note how far the book is after a diff; return False, and start anew, if it is crossed."""
        book = self.book
        book.update_id = book.version = last
        book.exchange_ns = event_ms * NS_PER_MS
        book.received_ns = received_ns
        bid, ask = book.bids.best, book.asks.best
        if bid < ask or not (bid and ask):
            return True
        self._crossed()
        return False

    def _crossed(self) -> None:
        self._owner._crossed += 1
        self._resync(f"crossed: bid {self.book.bids.best} is not below ask {self.book.asks.best}")

    def _lost(self, reason: str) -> None:
        self._owner._gaps += 1
        self._resync(reason)

    def _resync(self, reason: str) -> None:
        self._owner._resyncs += 1
        self._waiting.clear()
        self.seeded = False
        self.wants_snapshot = True
        self._owner._forget(self.book, reason)
        self._owner.wake()

    def _become_ready(self) -> None:
        if not self.book.ready:
            self._owner._live(self.book)
        self._sink.on_book(self.book)

    # Snapshot

    def on_snapshot(
        self,
        update_id: int,
        bids: list[tuple[float, float]],
        asks: list[tuple[float, float]],
        event_ms: int,
        received_ns: int,
    ) -> None:
        book = self.book
        if book.ready:
            self._owner._stale += 1  # asked for twice; the diffs are ahead of it
            return
        if self._waiting and not self._reaches(update_id, self._waiting[0][0]):
            self._owner._stale += 1  # older than the first diff: ask again (wants_snapshot stays)
            return
        book.bids.replace(bids)
        book.asks.replace(asks)
        book.update_id = book.version = self.snapshot_id = update_id
        book.exchange_ns = event_ms * NS_PER_MS
        book.received_ns = received_ns
        self.wants_snapshot = False
        if book.crossed:
            self._crossed()
            return
        self._replay_waiting()

    def _reaches(self, snapshot: int, depth: Depth) -> bool:
        if self.futures:
            return depth.first <= snapshot or depth.previous <= snapshot
        return depth.first <= snapshot + 1

    def _replay_waiting(self) -> None:
        """Apply the diffs that came before the snapshot was here. With none waiting, the first to come decides."""
        waiting = list(self._waiting)
        self._waiting.clear()
        self.seeded = True
        book = self.book
        for depth, received_ns in waiting:
            if self._before_snapshot(depth) and self.seeded:
                continue
            if self.seeded:
                continues = self._continues_snapshot(depth)
            else:
                continues = depth.previous == book.update_id if self.futures else depth.first == book.update_id + 1
            if not continues:
                self._lost(f"gap: {depth.first} came after {book.update_id} while the snapshot was awaited")
                self._wait(depth, received_ns)
                return
            if not self._apply(depth, received_ns):
                return
            self.seeded = False
        if waiting:
            # The stream ran before the snapshot was taken, so nothing can be missing between them. The snapshot may
            # still be ahead of every diff: then the first to come may begin before it (``seeded`` stays).
            self._become_ready()

    # Partial depth: the whole top of the book each time, no chain

    def _on_partial_frame(self, data: bytes, received_ns: int) -> None:
        try:
            if self.futures:
                depth = decode_depth_frame(data).data
                partial = PartialDepth(depth.last, depth.bids, depth.asks)
            else:
                partial = decode_partial_frame(data).data
        except DECODE_ERRORS as error:
            self._owner._refuse_message(f"partial depth: {error}")
            return
        self.on_partial(partial, received_ns)

    def on_partial(self, partial: PartialDepth, received_ns: int) -> None:
        book = self.book
        if partial.last < book.update_id:
            self._owner._stale += 1
            return
        book.bids.replace(partial.bids)
        book.asks.replace(partial.asks)
        book.update_id = book.version = partial.last
        book.received_ns = received_ns
        if book.crossed:
            self._owner._crossed += 1
            self._owner._forget(book, "crossed partial book")
            return
        if not book.ready:
            self._owner._live(book)
        self._sink.on_book(book)

    # Best bid and ask, trades

    def _on_ticker_frame(self, data: bytes, received_ns: int) -> None:
        try:
            ticker = decode_ticker_frame(data).data
        except DECODE_ERRORS as error:
            self._owner._refuse_message(f"bookTicker: {error}")
            return
        self.on_ticker(ticker, received_ns)

    def on_ticker(self, ticker: BookTicker, received_ns: int) -> None:
        book = self.book
        if ticker.update_id < book.top_version:
            self._owner._stale += 1
            return
        bid, ask = ticker.bid, ticker.ask
        if bid >= ask > 0:
            self._owner._crossed += 1
            return
        book.top_version = ticker.update_id
        self._sink.on_top(
            self.key, bid, ticker.bid_size, ask, ticker.ask_size, ticker.event_ms * NS_PER_MS, received_ns
        )

    def _on_trade_frame(self, data: bytes, received_ns: int) -> None:
        try:
            trade = decode_trade_frame(data).data
        except DECODE_ERRORS as error:
            self._owner._refuse_message(f"trade: {error}")
            return
        self.on_trade(trade, received_ns)

    def _on_mark_frame(self, data: bytes, received_ns: int) -> None:
        try:
            told = decode_mark_frame(data).data
        except DECODE_ERRORS as error:
            self._owner._refuse_message(f"mark price: {error}")
            return
        self.on_mark(told, received_ns)

    def on_mark(self, told: MarkPrice, received_ns: int) -> None:
        """Report a perpetual's funding, if it has any."""
        if not told.rate or not told.next_ms:
            return
        try:
            rate = float(told.rate)
        except ValueError:
            rate = float("nan")
        if not abs(rate) <= 1.0 or told.mark <= 0:
            self._owner._refuse_message(f"mark price: {told.mark} with a funding rate of {told.rate[:20]!r}")
            return
        self._sink.on_funding(
            Funding(self.key, rate, told.mark, told.next_ms * NS_PER_MS, told.event_ms * NS_PER_MS, received_ns)
        )

    def on_trade(self, trade: Trade, received_ns: int) -> None:
        if trade.price <= 0 or trade.size <= 0:
            return  # futures report insurance fund and settlement entries as trades at 0
        side = "sell" if trade.buyer_is_maker else "buy"
        self._sink.on_trade(
            PublicTrade(self.key, trade.price, trade.size, side, trade.trade_ms * NS_PER_MS, received_ns)  # type: ignore[arg-type]
        )
