"""Bybit's public spot topics: one object per topic, encoding each message once for all subscribers."""

from __future__ import annotations

from typing import Protocol

import msgspec

from exchangesim.bybit import codec
from exchangesim.core.cadence import Cadence
from exchangesim.core.exchange import SimExchange
from exchangesim.core.market import SimMarket
from exchangesim.core.orders import BookChange, PublicTrade
from exchangesim.core.window import DepthWindow, Levels
from exchangesim.core.worth import usd_price

# Milliseconds between messages by depth of book (spot category).
BOOK_INTERVALS = {1: 10, 50: 20, 200: 100, 1000: 200}
TICKER_INTERVAL = 50
MAX_TRADES = 1024  # a message
REPEAT_SECONDS = 3.0  # a level 1 book is sent again when nothing has changed for so long

_encode = msgspec.json.encode


class Subscriber(Protocol):
    """A socket that has subscribed to a topic."""

    def send_market(self, payload: bytes, *, operation: str, symbol: str) -> None: ...


class Topic:
    """One public topic of one market."""

    interval_ms = 0

    def __init__(self, name: str, exchange: SimExchange, market: SimMarket, counters: dict[str, int]) -> None:
        self.name, self.exchange, self.market, self.counters = name, exchange, market, counters
        self.subscribers: set[Subscriber] = set()
        self.cadence: Cadence | None = None

    def open(self, cadence: Cadence | None) -> None:
        """Begin, with the cadence of this topic's interval."""
        self.cadence = cadence

    def join(self, subscriber: Subscriber) -> None:
        """Add a subscriber and send it what new subscribers are told first."""
        self.subscribers.add(subscriber)

    def leave(self, subscriber: Subscriber) -> None:
        self.subscribers.discard(subscriber)

    def on_book(self, change: BookChange) -> None: ...

    def on_trades(self, trades: tuple[PublicTrade, ...]) -> None: ...

    def keep_alive(self, now: float) -> None: ...

    def flush(self) -> None:
        """Send what has changed; called by the cadence."""

    def mark(self) -> None:
        assert self.cadence is not None
        self.cadence.mark(self.flush)

    def close(self) -> None:
        if self.cadence is not None:
            self.cadence.forget(self.flush)

    def broadcast(self, payload: bytes) -> None:
        for subscriber in self.subscribers:
            subscriber.send_market(payload, operation=self.name, symbol=self.market.native)

    def send_to(self, subscriber: Subscriber, payload: bytes) -> None:
        subscriber.send_market(payload, operation=self.name, symbol=self.market.native)

    def next_update(self) -> int:
        """Return the next ``u`` of this topic; it goes on counting when subscribers come back."""
        number = self.counters.get(self.name, self.market.update_id) + 1
        self.counters[self.name] = number
        return number


class OrderBook(Topic):
    """Best levels: a snapshot, then deltas whose ``u`` grows by one a message."""

    def __init__(
        self, name: str, exchange: SimExchange, market: SimMarket, counters: dict[str, int], depth: int
    ) -> None:
        super().__init__(name, exchange, market, counters)
        self.interval_ms = BOOK_INTERVALS[depth]
        self._window = DepthWindow(market, depth)
        self._window.reset()
        self._update = self.next_update()
        self._changed_ms = market.changed_ms or exchange.clock.time_ms()

    def join(self, subscriber: Subscriber) -> None:
        super().join(subscriber)
        self.send_to(subscriber, self._message("snapshot", self._window.shown()))

    def on_book(self, change: BookChange) -> None:
        self._window.touch(change)
        self.mark()

    def flush(self) -> None:
        changed = self._window.diff()
        if changed is not None:
            self._update = self.next_update()
            self._changed_ms = self.market.changed_ms
            self.broadcast(self._message("delta", changed))

    def _message(self, kind: str, shown: tuple[Levels, Levels]) -> bytes:
        data = codec.book_data(self.market.native, shown, self._update, self._window.update_id)
        return _encode(
            {
                "topic": self.name,
                "ts": self.exchange.clock.time_ms(),
                "type": kind,
                "data": data,
                "cts": self._changed_ms,
            }
        )


class TopOfBook(Topic):
    """Best bid and ask: snapshots only, sent again with the same ``u`` when nothing changes for three seconds."""

    interval_ms = BOOK_INTERVALS[1]

    def __init__(self, name: str, exchange: SimExchange, market: SimMarket, counters: dict[str, int]) -> None:
        super().__init__(name, exchange, market, counters)
        self._last = self._levels()
        self._update = self.next_update()
        self._sent = exchange.clock.monotonic()

    def join(self, subscriber: Subscriber) -> None:
        super().join(subscriber)
        self.send_to(subscriber, self._message())

    def on_book(self, change: BookChange) -> None:
        self.mark()

    def keep_alive(self, now: float) -> None:
        if now - self._sent >= REPEAT_SECONDS:
            self._publish()

    def flush(self) -> None:
        levels = self._levels()
        if levels != self._last:
            self._last, self._update = levels, self.next_update()
            self._publish()

    def _publish(self) -> None:
        self._sent = self.exchange.clock.monotonic()
        self.broadcast(self._message())

    def _levels(self) -> tuple[Levels, Levels]:
        book = self.market.book
        return book.bids.top(1), book.asks.top(1)

    def _message(self) -> bytes:
        now = self.exchange.clock.time_ms()
        data = codec.book_data(self.market.native, self._last, self._update, self.market.update_id)
        return _encode(
            {"topic": self.name, "ts": now, "type": "snapshot", "data": data, "cts": self.market.changed_ms or now}
        )


class Tickers(Topic):
    """The day's figures."""

    interval_ms = TICKER_INTERVAL

    def join(self, subscriber: Subscriber) -> None:
        super().join(subscriber)
        self.send_to(subscriber, self._message())

    def on_trades(self, trades: tuple[PublicTrade, ...]) -> None:
        self.mark()

    def flush(self) -> None:
        self.broadcast(self._message())

    def _message(self) -> bytes:
        now = self.exchange.clock.time_ms()
        data = codec.stream_ticker(self.market, self.market.day(now), lambda asset: usd_price(self.exchange, asset))
        return _encode({"topic": self.name, "ts": now, "type": "snapshot", "cs": self.market.update_id, "data": data})


class PublicTrades(Topic):
    """Every match, one message per taker order."""

    def on_trades(self, trades: tuple[PublicTrade, ...]) -> None:
        for first in range(0, len(trades), MAX_TRADES):
            rows = [codec.stream_trade(self.market.native, trade) for trade in trades[first : first + MAX_TRADES]]
            now = self.exchange.clock.time_ms()
            self.broadcast(_encode({"topic": self.name, "ts": now, "type": "snapshot", "data": rows}))


class UnknownTopic(Exception):
    """There is no such topic; ``reason`` is what Bybit says."""

    def __init__(self, reason: str) -> None:
        super().__init__(reason)
        self.reason = reason


class PublicTopics:
    """The topics somebody is subscribed to; others cost nothing."""

    def __init__(self, exchange: SimExchange) -> None:
        self._exchange = exchange
        self._topics: dict[str, Topic] = {}
        self._by_market: dict[str, list[Topic]] = {native: [] for native in exchange.markets}
        self._counters: dict[str, int] = {}
        self._cadences = {ms: Cadence(ms / 1000) for ms in {*BOOK_INTERVALS.values(), TICKER_INTERVAL}}

    def check(self, name: str) -> None:
        """Refuse a name that is no topic of the spot URL. Raises UnknownTopic."""
        self._parse(name)

    def join(self, name: str, subscriber: Subscriber) -> None:
        topic = self._topics.get(name)
        if topic is None:
            topic = self._topics[name] = self._make(name)
            topic.open(self._cadences.get(topic.interval_ms))
            self._by_market[topic.market.native].append(topic)
        topic.join(subscriber)

    def leave(self, name: str, subscriber: Subscriber) -> None:
        topic = self._topics.get(name)
        if topic is None:
            return
        topic.leave(subscriber)
        if not topic.subscribers:
            topic.close()
            del self._topics[name]
            self._by_market[topic.market.native].remove(topic)

    def open(self) -> list[str]:
        """Return every topic that somebody is subscribed to."""
        return list(self._topics)

    def on_book(self, market: SimMarket, change: BookChange) -> None:
        for topic in self._by_market[market.native]:
            topic.on_book(change)

    def on_trades(self, market: SimMarket, trades: tuple[PublicTrade, ...]) -> None:
        for topic in self._by_market[market.native]:
            topic.on_trades(trades)

    def keep_alive(self) -> None:
        now = self._exchange.clock.monotonic()
        for topic in self._topics.values():
            topic.keep_alive(now)

    def close(self) -> None:
        for cadence in self._cadences.values():
            cadence.close()

    def _parse(self, name: str) -> tuple[str, int, SimMarket]:
        parts = name.split(".")
        kind, native, depth = parts[0], parts[-1], 0
        if kind == "orderbook" and len(parts) == 3 and parts[1].isascii() and parts[1].isdigit():
            depth = int(parts[1])
        known = depth in BOOK_INTERVALS if kind == "orderbook" else kind in ("publicTrade", "tickers")
        if not known or len(parts) != (3 if depth else 2):
            raise UnknownTopic(f"error:handler not found,topic:{name}")
        market = self._exchange.markets.get(native)
        if market is None:
            raise UnknownTopic(f"Invalid symbol :[{name}]")
        return kind, depth, market

    def _make(self, name: str) -> Topic:
        kind, depth, market = self._parse(name)
        if depth > 1:
            return OrderBook(name, self._exchange, market, self._counters, depth)
        simple = {"orderbook": TopOfBook, "tickers": Tickers, "publicTrade": PublicTrades}[kind]
        return simple(name, self._exchange, market, self._counters)
