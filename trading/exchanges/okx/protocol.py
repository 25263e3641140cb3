"""OKX v5 market data without sockets.

The ``books`` channel starts with a snapshot; each update names the id before it (``prevSeqId``). Old recordings carry a
CRC32 over the first 25 levels of both sides instead, which is checked when the ids are absent.
Source: https://www.okx.com/docs-v5/en/#order-book-trading-market-data-ws-order-book-channel
"""

from __future__ import annotations

from collections.abc import Callable
from zlib import crc32

from trading.exchanges.okx.messages import (
    BookData,
    Level,
    decode_book,
    decode_book_text,
    decode_envelope,
    decode_trade,
)
from trading.instruments import Market
from trading.marketdata.book import Book
from trading.marketdata.protocol import DECODE_ERRORS, NS_PER_MS, SubscribedMarket, SubscriptionProtocol
from trading.messages import PublicTrade
from trading.ports import FeedSink

# Channels that carry the book as snapshot and updates, as the whole top, as the best prices, and the trades.
DIFF_CHANNELS = ("books", "books-l2-tbt", "books50-l2-tbt")
WHOLE_CHANNELS = ("books5",)
TOP_CHANNELS = ("bbo-tbt",)
TRADE_CHANNELS = ("trades", "trades-all")

CHECKSUM_LEVELS = 25
EMPTY = Level(0.0, 0.0)  # the best level of a side without orders

Handler = Callable[[bytes, int], None]


class OkxProtocol(SubscriptionProtocol["_MarketChannels"]):
    """Market data of OKX (see :class:`trading.marketdata.protocol.MarketDataProtocol`).

    OKX gives every instrument a name of its own, so that one instance serves spot and derivatives alike.
    """

    def __init__(self, sink: FeedSink) -> None:
        super().__init__(sink)
        self._by_id: dict[str, _MarketChannels] = {}
        # ``{"arg":{"channel":..,"instId":..}`` opens every data frame: its bytes pick the handler undecoded.
        self._handlers: dict[bytes, Handler] = {}

    def add(self, market: Market) -> Book:
        if market.key in self._markets:
            return self._markets[market.key].book
        channels = _MarketChannels(self, market)
        self._markets[market.key] = self._by_id[market.native_id] = channels
        self.books[market.key] = channels.book
        for channel, handler in channels.handlers.items():
            self._handlers[_argument(channel, market.native_id)] = handler
        return channels.book

    def remove(self, key: str) -> None:
        channels = self._markets.pop(key, None)
        if channels is None:
            return
        native_id = channels.book.market.native_id
        del self.books[key], self._by_id[native_id]
        for channel in channels.handlers:
            self._handlers.pop(_argument(channel, native_id), None)

    def on_frame(self, data: bytes, received_ns: int) -> None:
        self._messages += 1
        if data[:7] == b'{"arg":':
            handler = self._handlers.get(data[7 : data.find(b"}", 7) + 1])
            if handler is not None:
                handler(data, received_ns)
                return
        self._on_other(data, received_ns)

    def _on_other(self, data: bytes, received_ns: int) -> None:
        """Take an answer, a notice, a pong, or a data frame written differently."""
        if data == b"pong":
            return
        try:
            frame = decode_envelope(data)
        except DECODE_ERRORS as error:
            self._refuse_message(f"frame: {error}")
            return
        if frame.event:
            if frame.event in ("error", "channel-conn-count-error"):
                self._note_refusal(f"{frame.code} {frame.message}")
            elif frame.event == "notice":
                self.last_error = f"{frame.code} {frame.message}"[:200]
            return
        if frame.arg is None or not frame.arg.channel:
            self._refuse_message("frame: neither a channel nor an event")
            return
        channels = self._by_id.get(frame.arg.native_id)
        if channels is None:
            self._unknown += 1
            return
        handler = channels.handlers.get(frame.arg.channel)
        if handler is not None:
            handler(data, received_ns)
        # else: a channel of a followed market that is not used here (tickers, candles)


def _argument(channel: str, native_id: str) -> bytes:
    return f'{{"channel":"{channel}","instId":"{native_id}"}}'.encode()


class _MarketChannels(SubscribedMarket):
    """One market: its book, its place in the chain, and the written digits while only a checksum guards it."""

    __slots__ = ("handlers", "texts")

    def __init__(self, owner: OkxProtocol, market: Market) -> None:
        super().__init__(owner, market)
        # Bids and asks as written, by price, while only a checksum guards the book.
        self.texts: tuple[dict[float, str], dict[float, str]] | None = None
        self.handlers: dict[str, Handler] = {
            **dict.fromkeys(DIFF_CHANNELS, self.on_book),
            **dict.fromkeys(WHOLE_CHANNELS, self.on_whole_book),
            **dict.fromkeys(TOP_CHANNELS, self.on_top),
            **dict.fromkeys(TRADE_CHANNELS, self.on_trades),
        }

    def restart(self, reason: str, status: str = "connecting") -> None:
        self.texts = None
        super().restart(reason, status)

    def on_book(self, data: bytes, received_ns: int) -> None:
        try:
            frame = decode_book(data)
        except DECODE_ERRORS as error:
            self._refuse_change(f"books: {error}")
            return
        for index, change in enumerate(frame.data):
            if frame.action == "snapshot":
                self._start(change, received_ns)
            elif frame.action == "update":
                if not self._continue(change, received_ns):
                    return
            else:
                self._owner._refuse_message("books: an action is needed (snapshot or update)")
                return
            if change.sequence is None and not self._checksum_fits(data, index, change.checksum):
                return
            self._finish(frame.action == "snapshot")

    def _start(self, change: BookData, received_ns: int) -> None:
        book = self.book
        book.bids.replace(pairs(change.bids))
        book.asks.replace(pairs(change.asks))
        self.wants_subscription = False
        self.texts = ({}, {}) if change.sequence is None else None
        self._stamp(change, received_ns)

    def _continue(self, change: BookData, received_ns: int) -> bool:
        book = self.book
        if not book.ready:
            self._owner._stale += 1
            return False
        if change.sequence is None:
            if self.texts is None:
                self._lost("an update without seqId in a book that counts")
                return False
        elif change.previous != book.update_id or self.texts is not None:
            self._lost(f"gap: the update follows {change.previous}, the book stands at {book.update_id}")
            return False
        if change.bids:
            book.bids.apply(pairs(change.bids))
        if change.asks:
            book.asks.apply(pairs(change.asks))
        self._stamp(change, received_ns)
        return True

    def _stamp(self, change: BookData, received_ns: int) -> None:
        book = self.book
        if change.sequence is not None:
            if change.sequence < book.version:
                book.top_version = 0  # the exchange restarted its count
            book.update_id = book.version = change.sequence
        book.exchange_ns = change.exchange_ms * NS_PER_MS
        book.received_ns = received_ns

    def _finish(self, is_snapshot: bool) -> None:
        book = self.book
        if book.crossed:
            self._crossed()
            return
        if is_snapshot and not book.ready:
            self._owner._live(book)
        self._sink.on_book(book)

    def _checksum_fits(self, data: bytes, index: int, checksum: int) -> bool:
        """Compare with the CRC32 of ``bid:size:ask:size:...`` as written; a mismatch is a lost or damaged message."""
        texts = self.texts
        if texts is None:
            return True
        try:
            written = decode_book_text(data).data[index]
        except DECODE_ERRORS as error:
            self._owner._refuse_message(f"books: {error}")
            self._resync("the levels of an update could not be read as written")
            return False
        sides = []
        for text, levels, side in zip(
            texts, (written.bids, written.asks), (self.book.bids, self.book.asks), strict=True
        ):
            text.update((float(level.price), f"{level.price}:{level.size}") for level in levels)
            sides.append([text[price] for price, _ in side.levels(CHECKSUM_LEVELS)])
        parts = [side[place] for place in range(CHECKSUM_LEVELS) for side in sides if place < len(side)]
        own = crc32(":".join(parts).encode())
        if own == checksum & 0xFFFFFFFF:
            return True
        self._lost("checksum mismatch: a message was lost or damaged")
        return False

    def on_whole_book(self, data: bytes, received_ns: int) -> None:
        try:
            frame = decode_book(data)
        except DECODE_ERRORS as error:
            self._owner._refuse_message(f"books5: {error}")
            return
        for change in frame.data:
            self._start(change, received_ns)
            self._finish(True)

    def on_top(self, data: bytes, received_ns: int) -> None:
        try:
            frame = decode_book(data)
        except DECODE_ERRORS as error:
            self._owner._refuse_message(f"bbo-tbt: {error}")
            return
        for top in frame.data:
            bid = top.bids[0] if top.bids else EMPTY
            ask = top.asks[0] if top.asks else EMPTY
            self._take_top(bid.price, bid.size, ask.price, ask.size, top.sequence or 0, top.exchange_ms, received_ns)

    def on_trades(self, data: bytes, received_ns: int) -> None:
        try:
            frame = decode_trade(data)
        except DECODE_ERRORS as error:
            self._owner._refuse_message(f"trades: {error}")
            return
        for trade in frame.data:
            self._sink.on_trade(
                PublicTrade(self.key, trade.price, trade.size, trade.side, trade.exchange_ms * NS_PER_MS, received_ns)
            )


def pairs(levels: list[Level]) -> list[tuple[float, float]]:
    return [(level.price, level.size) for level in levels]
