"""Bybit v5 market data without sockets.

``orderbook.N`` starts with a snapshot and goes on with deltas whose ``u`` counts up by one; a message with ``u`` 1, or
any later snapshot, replaces the book. Level 1 only ever sends snapshots, the same one again every three quiet seconds.
Source: https://bybit-exchange.github.io/docs/v5/websocket/public/orderbook
"""

from __future__ import annotations

from collections.abc import Callable

from trading.exchanges.bybit.messages import BookFrame, decode_book, decode_envelope, decode_ticker, decode_trade
from trading.instruments import Market, MarketKind
from trading.marketdata.book import Book
from trading.marketdata.protocol import DECODE_ERRORS, NS_PER_MS, SubscribedMarket, SubscriptionProtocol
from trading.messages import PublicTrade
from trading.ports import FeedSink

TOP_LEVEL = 1
BOOK_LEVELS = (50, 200, 500, 1000)
AFTER_RESTART = 1

Handler = Callable[[bytes, int], None]


class BybitProtocol(SubscriptionProtocol["_MarketTopics"]):
    """Market data of one kind of Bybit market (see :class:`trading.marketdata.protocol.MarketDataProtocol`).

    Spot, linear and inverse have sockets of their own, on which the same names mean different markets.
    """

    def __init__(self, sink: FeedSink, kind: MarketKind = "spot") -> None:
        super().__init__(sink)
        self.kind = kind
        self._by_symbol: dict[str, _MarketTopics] = {}
        self._handlers: dict[bytes, Handler] = {}  # by topic

    def add(self, market: Market) -> Book:
        if market.key in self._markets:
            return self._markets[market.key].book
        if market.kind != self.kind:
            raise ValueError(f"{market.key}: a {market.kind} market cannot be followed on a {self.kind} connection")
        topics = _MarketTopics(self, market)
        self._markets[market.key] = self._by_symbol[market.native_id] = topics
        self.books[market.key] = topics.book
        self._handlers.update({name.encode(): handler for name, handler in topics.handlers().items()})
        return topics.book

    def remove(self, key: str) -> None:
        topics = self._markets.pop(key, None)
        if topics is None:
            return
        del self.books[key], self._by_symbol[topics.book.market.native_id]
        for name in topics.handlers():
            self._handlers.pop(name.encode(), None)

    def on_frame(self, data: bytes, received_ns: int) -> None:
        self._messages += 1
        if data[:10] == b'{"topic":"':
            handler = self._handlers.get(data[10 : data.find(b'"', 10)])
            if handler is not None:
                handler(data, received_ns)
                return
        self._on_other(data, received_ns)

    def _on_other(self, data: bytes, received_ns: int) -> None:
        """Take an answer, a pong, or a topic written differently."""
        try:
            frame = decode_envelope(data)
        except DECODE_ERRORS as error:
            self._refuse_message(f"frame: {error}")
            return
        if frame.topic:
            handler = self._handlers.get(frame.topic.encode())
            if handler is not None:
                handler(data, received_ns)
            elif frame.topic.rpartition(".")[2] not in self._by_symbol:
                self._unknown += 1
            # else: a topic of a followed market that is not used here (kline, liquidation)
        elif frame.success is False:
            self._note_refusal(frame.message)
        elif not frame.op:
            self._refuse_message("frame: neither a topic nor an answer")


class _MarketTopics(SubscribedMarket):
    """One market: its book, its place in the chain, and the best prices last published."""

    __slots__ = ("symbol", "top")

    def __init__(self, owner: BybitProtocol, market: Market) -> None:
        super().__init__(owner, market)
        self.symbol = market.native_id
        self.top = (0.0, 0.0, 0.0, 0.0)  # of ``tickers``: deltas name only what changed

    def handlers(self) -> dict[str, Handler]:
        return {
            **{f"orderbook.{levels}.{self.symbol}": self.on_book for levels in BOOK_LEVELS},
            f"orderbook.{TOP_LEVEL}.{self.symbol}": self.on_level_one,
            f"publicTrade.{self.symbol}": self.on_trades,
            f"tickers.{self.symbol}": self.on_ticker,
        }

    def restart(self, reason: str, status: str = "connecting") -> None:
        self.top = (0.0, 0.0, 0.0, 0.0)
        super().restart(reason, status)

    def on_book(self, data: bytes, received_ns: int) -> None:
        try:
            frame = decode_book(data)
        except DECODE_ERRORS as error:
            self._refuse_change(f"orderbook: {error}")
            return
        book = self.book
        change = frame.data
        if frame.type == "snapshot" or change.update_id == AFTER_RESTART:
            book.bids.replace(change.bids)
            book.asks.replace(change.asks)
            if change.sequence < book.version:
                book.top_version = 0  # the exchange restarted its count
            self.wants_subscription = False
            self._finish(frame, received_ns)
        elif not book.ready:
            self._owner._stale += 1
        elif change.update_id == book.update_id + 1:
            if change.bids:
                book.bids.apply(change.bids)
            if change.asks:
                book.asks.apply(change.asks)
            self._finish(frame, received_ns)
        elif change.update_id <= book.update_id:
            self._owner._stale += 1
        else:
            self._lost(f"gap: {change.update_id} came after {book.update_id}")

    def _finish(self, frame: BookFrame, received_ns: int) -> None:
        book = self.book
        book.update_id = frame.data.update_id
        book.version = frame.data.sequence
        book.exchange_ns = (frame.matched_ms or frame.sent_ms) * NS_PER_MS
        book.received_ns = received_ns
        if book.crossed:
            self._crossed()
            return
        if not book.ready:
            self._owner._live(book)
        self._sink.on_book(book)

    def on_level_one(self, data: bytes, received_ns: int) -> None:
        try:
            frame = decode_book(data)
        except DECODE_ERRORS as error:
            self._owner._refuse_message(f"orderbook.1: {error}")
            return
        top = frame.data
        bid, bid_size = top.bids[0] if top.bids else (0.0, 0.0)
        ask, ask_size = top.asks[0] if top.asks else (0.0, 0.0)
        self._take_top(bid, bid_size, ask, ask_size, top.sequence, frame.matched_ms or frame.sent_ms, received_ns)

    def on_ticker(self, data: bytes, received_ns: int) -> None:
        try:
            frame = decode_ticker(data)
        except DECODE_ERRORS as error:
            self._owner._refuse_message(f"tickers: {error}")
            return
        given = (frame.data.bid, frame.data.bid_size, frame.data.ask, frame.data.ask_size)
        if given == (None, None, None, None):
            return
        before = self.top if frame.type == "delta" else (0.0, 0.0, 0.0, 0.0)
        bid, bid_size, ask, ask_size = self.top = (
            before[0] if given[0] is None else given[0],
            before[1] if given[1] is None else given[1],
            before[2] if given[2] is None else given[2],
            before[3] if given[3] is None else given[3],
        )
        self._take_top(bid, bid_size, ask, ask_size, frame.sequence, frame.sent_ms, received_ns)

    def on_trades(self, data: bytes, received_ns: int) -> None:
        try:
            frame = decode_trade(data)
        except DECODE_ERRORS as error:
            self._owner._refuse_message(f"publicTrade: {error}")
            return
        for trade in frame.data:
            self._sink.on_trade(
                PublicTrade(
                    self.key,
                    trade.price,
                    trade.size,
                    "buy" if trade.side == "Buy" else "sell",
                    trade.exchange_ms * NS_PER_MS,
                    received_ns,
                )
            )
