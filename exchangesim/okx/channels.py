"""OKX's public channels: one object per channel and instrument, encoding each message once for all subscribers."""

from __future__ import annotations

from typing import Any, Protocol

import msgspec

from exchangesim.core.cadence import Cadence
from exchangesim.core.exchange import SimExchange
from exchangesim.core.market import SimMarket
from exchangesim.core.orders import BookChange, PublicTrade
from exchangesim.core.window import DepthWindow
from exchangesim.okx import codec

BOOK_DEPTH = 400
KEEPALIVE_SECONDS = 60.0  # ``books`` says that it lives when nothing has changed for so long

_encode = msgspec.json.encode


class Subscriber(Protocol):
    """A socket that has subscribed to a channel."""

    def send_market(self, payload: bytes, *, operation: str, symbol: str) -> None: ...


class Channel:
    """One channel of one instrument."""

    name = ""

    def __init__(self, exchange: SimExchange, market: SimMarket, cadences: Cadences) -> None:
        self.exchange, self.market, self.cadences = exchange, market, cadences
        self.arg = {"channel": self.name, "instId": market.native}
        self.subscribers: set[Subscriber] = set()
        self.start()

    def start(self) -> None:
        """Take stock before the first subscriber."""

    def join(self, subscriber: Subscriber) -> None:
        """Add a subscriber and send it what new subscribers are told first."""
        self.subscribers.add(subscriber)

    def leave(self, subscriber: Subscriber) -> None:
        self.subscribers.discard(subscriber)

    def on_book(self, change: BookChange) -> None: ...

    def on_trades(self, trades: tuple[PublicTrade, ...]) -> None: ...

    def keep_alive(self, now: float) -> None: ...

    def stop(self) -> None:
        """Forget what is still to be sent; nobody listens any more."""

    def payload(self, data: list[Any], **more: Any) -> bytes:
        return _encode({"arg": self.arg, **more, "data": data})

    def broadcast(self, payload: bytes) -> None:
        for subscriber in self.subscribers:
            subscriber.send_market(payload, operation=self.name, symbol=self.market.native)

    def send_to(self, subscriber: Subscriber, payload: bytes) -> None:
        subscriber.send_market(payload, operation=self.name, symbol=self.market.native)


class Books(Channel):
    """Best 400 levels: a snapshot, then every 100 ms what changed, chained by ``prevSeqId`` to ``seqId``.

    ``checksum`` is 0: OKX keeps the field but has not filled it since June 2026.
    """

    name = "books"

    def start(self) -> None:
        self._window = DepthWindow(self.market, BOOK_DEPTH)
        self._window.reset()
        self._sequence = self._window.update_id
        self._sent = self.exchange.clock.monotonic()

    def join(self, subscriber: Subscriber) -> None:
        super().join(subscriber)
        row = self._row(self._window.shown(), previous=-1)
        self.send_to(subscriber, self.payload([row], action="snapshot"))

    def on_book(self, change: BookChange) -> None:
        self._window.touch(change)
        self.cadences.every_100_ms.mark(self._flush)

    def keep_alive(self, now: float) -> None:
        if now - self._sent >= KEEPALIVE_SECONDS:
            self._publish(self._row(([], []), previous=self._sequence))

    def stop(self) -> None:
        self.cadences.every_100_ms.forget(self._flush)

    def _flush(self) -> None:
        changed = self._window.diff()
        if changed is not None:
            previous, self._sequence = self._sequence, self._window.update_id
            self._publish(self._row(changed, previous=previous))

    def _publish(self, row: dict[str, Any]) -> None:
        self._sent = self.exchange.clock.monotonic()
        self.broadcast(self.payload([row], action="update"))

    def _row(self, levels: Any, *, previous: int) -> dict[str, Any]:
        row = codec.book_body(self.market, levels, self.exchange.clock.time_ms())
        return row | {"checksum": 0, "prevSeqId": previous, "seqId": self._sequence}


class TopBooks(Channel):
    """The best levels whole, whenever they have changed."""

    depth = 5

    def start(self) -> None:
        self._last = self._levels()

    @property
    def cadence(self) -> Cadence:
        return self.cadences.every_100_ms

    def join(self, subscriber: Subscriber) -> None:
        super().join(subscriber)
        self.send_to(subscriber, self._message())

    def on_book(self, change: BookChange) -> None:
        self.cadence.mark(self._flush)

    def stop(self) -> None:
        self.cadence.forget(self._flush)

    def _flush(self) -> None:
        levels = self._levels()
        if levels != self._last:
            self._last = levels
            self.broadcast(self._message())

    def _levels(self) -> Any:
        book = self.market.book
        return book.bids.top(self.depth), book.asks.top(self.depth)

    def _message(self) -> bytes:
        row = codec.book_body(self.market, self._levels(), self.exchange.clock.time_ms())
        return self.payload([row | self._extra() | {"seqId": self.market.update_id}])

    def _extra(self) -> dict[str, Any]:
        return {}


class Books5(TopBooks):
    name = "books5"

    def _extra(self) -> dict[str, Any]:
        return {"instId": self.market.native}


class BestBidOffer(TopBooks):
    name = "bbo-tbt"
    depth = 1

    @property
    def cadence(self) -> Cadence:
        return self.cadences.every_10_ms


class Tickers(Channel):
    """The day's figures with the top of the book, at most every 100 ms."""

    name = "tickers"

    def join(self, subscriber: Subscriber) -> None:
        super().join(subscriber)
        self.send_to(subscriber, self._message())

    def on_book(self, change: BookChange) -> None:
        self.cadences.every_100_ms.mark(self._flush)

    def on_trades(self, trades: tuple[PublicTrade, ...]) -> None:
        self.cadences.every_100_ms.mark(self._flush)

    def stop(self) -> None:
        self.cadences.every_100_ms.forget(self._flush)

    def _flush(self) -> None:
        self.broadcast(self._message())

    def _message(self) -> bytes:
        now = self.exchange.clock.time_ms()
        return self.payload([codec.ticker(self.market, self.market.day(now), now)])


class Trades(Channel):
    """Matches of one taker at one price as one row, one row a message."""

    name = "trades"

    def on_trades(self, trades: tuple[PublicTrade, ...]) -> None:
        for row in codec.aggregate_trades(self.market.native, trades):
            self.broadcast(self.payload([row | {"seqId": self.market.update_id}]))


class AllTrades(Channel):
    """Every match on its own (business URL)."""

    name = "trades-all"

    def on_trades(self, trades: tuple[PublicTrade, ...]) -> None:
        for public in trades:
            self.broadcast(self.payload([codec.trade(self.market.native, public)]))


class Cadences:
    """The intervals at which conflated channels send."""

    def __init__(self) -> None:
        self.every_10_ms = Cadence(0.01)
        self.every_100_ms = Cadence(0.1)

    def close(self) -> None:
        self.every_10_ms.close()
        self.every_100_ms.close()


PUBLIC: dict[str, type[Channel]] = {kind.name: kind for kind in (Books, Books5, BestBidOffer, Tickers, Trades)}
BUSINESS: dict[str, type[Channel]] = {AllTrades.name: AllTrades}


class PublicChannels:
    """The channels somebody is subscribed to; others cost nothing."""

    def __init__(self, exchange: SimExchange) -> None:
        self._exchange = exchange
        self._cadences = Cadences()
        self._channels: dict[tuple[str, str], Channel] = {}
        self._by_market: dict[str, list[Channel]] = {native: [] for native in exchange.markets}

    def join(self, kind: type[Channel], market: SimMarket, subscriber: Subscriber) -> None:
        key = (kind.name, market.native)
        channel = self._channels.get(key)
        if channel is None:
            channel = self._channels[key] = kind(self._exchange, market, self._cadences)
            self._by_market[market.native].append(channel)
        channel.join(subscriber)

    def leave(self, name: str, native: str, subscriber: Subscriber) -> None:
        channel = self._channels.get((name, native))
        if channel is None:
            return
        channel.leave(subscriber)
        if not channel.subscribers:
            channel.stop()
            del self._channels[name, native]
            self._by_market[native].remove(channel)

    def open(self) -> list[tuple[str, str]]:
        """Return channel and instrument of every channel that somebody is subscribed to."""
        return list(self._channels)

    def on_book(self, market: SimMarket, change: BookChange) -> None:
        for channel in self._by_market[market.native]:
            channel.on_book(change)

    def on_trades(self, market: SimMarket, trades: tuple[PublicTrade, ...]) -> None:
        for channel in self._by_market[market.native]:
            channel.on_trades(trades)

    def keep_alive(self) -> None:
        now = self._exchange.clock.monotonic()
        for channel in self._channels.values():
            channel.keep_alive(now)

    def close(self) -> None:
        self._cadences.close()
