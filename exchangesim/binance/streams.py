"""Market data streams: what each stream sends, and who listens to it."""

from __future__ import annotations

import re
from collections.abc import Iterable
from decimal import Decimal

import msgspec

from exchangesim.binance import codec, market_codec
from exchangesim.core.cadence import Cadence
from exchangesim.core.exchange import SimExchange
from exchangesim.core.market import SimMarket
from exchangesim.core.orders import BookChange, PublicTrade, Side
from exchangesim.core.transit import StreamConnection

_DEPTH = re.compile(r"^depth(5|10|20)?(@(?:100|1000)ms)?$")
_OTHERS = frozenset({"bookTicker", "trade", "aggTrade", "ticker"})
FAST, SLOW = 0.1, 1.0

encode = msgspec.json.encode
Levels = list[tuple[Decimal, Decimal]]


class Listener:
    """One socket's subscriptions; ``combined`` wraps every message in its stream's name."""

    def __init__(self, connection: StreamConnection, *, combined: bool) -> None:
        self.connection, self.combined = connection, combined
        self.streams: dict[str, None] = {}


class Stream:
    """One stream of one market and its listeners. Nothing is made while nobody listens."""

    def __init__(self, name: str, market: SimMarket, exchange: SimExchange) -> None:
        self.name, self.market, self.exchange = name, market, exchange
        self.listeners: dict[Listener, None] = {}
        self._prefix = b'{"stream":' + encode(name) + b',"data":'

    def send(self, message: object) -> None:
        raw = encode(message)
        wrapped: bytes | None = None
        for listener in list(self.listeners):
            if listener.combined:
                wrapped = wrapped or self._prefix + raw + b"}"
                payload = wrapped
            else:
                payload = raw
            listener.connection.send_market(payload, operation=self.name, symbol=self.market.native)

    def joined(self) -> None:
        """Hear that the first listener has come."""

    def on_book(self, change: BookChange) -> None: ...

    def on_top(self) -> None: ...

    def on_trades(self, trades: tuple[PublicTrade, ...]) -> None: ...


class Diffs(Stream):
    """``@depth``: the levels that changed since the last message, whose ids chain without a hole."""

    def __init__(self, name: str, market: SimMarket, exchange: SimExchange, cadence: Cadence) -> None:
        super().__init__(name, market, exchange)
        self._cadence = cadence
        self._bids: dict[Decimal, Decimal] = {}
        self._asks: dict[Decimal, Decimal] = {}
        self._first_id = 0

    def joined(self) -> None:
        self._bids.clear()
        self._asks.clear()
        self._first_id = 0

    def on_book(self, change: BookChange) -> None:
        if not self._first_id:
            self._first_id = change.first_id
        self._bids.update(change.bids)
        self._asks.update(change.asks)
        self._cadence.mark(self.flush)

    def flush(self) -> None:
        if not self._first_id:
            return
        bids = sorted(self._bids.items(), reverse=True)
        asks = sorted(self._asks.items())
        message = self.message(self._first_id, bids, asks)
        self._bids.clear()
        self._asks.clear()
        self._first_id = 0
        self.send(message)

    def message(self, first_id: int, bids: Levels, asks: Levels) -> dict[str, object]:
        return {
            "e": "depthUpdate",
            "E": self.exchange.clock.time_ms(),
            "s": self.market.native,
            "U": first_id,
            "u": self.market.update_id,
            "b": market_codec.levels(bids),
            "a": market_codec.levels(asks),
        }


class Partial(Stream):
    """``@depth5``, ``10``, ``20``: the best levels whole, when anything changed."""

    def __init__(self, name: str, market: SimMarket, exchange: SimExchange, cadence: Cadence, depth: int) -> None:
        super().__init__(name, market, exchange)
        self._cadence, self._depth = cadence, depth

    def joined(self) -> None:
        self._cadence.mark(self.flush)

    def on_book(self, change: BookChange) -> None:
        self._cadence.mark(self.flush)

    def flush(self) -> None:
        book = self.market.book
        self.send(
            {
                "lastUpdateId": self.market.update_id,
                "bids": market_codec.levels(book.bids.top(self._depth)),
                "asks": market_codec.levels(book.asks.top(self._depth)),
            }
        )


class BookTicker(Stream):
    def on_top(self) -> None:
        if self.market.top is None:
            return
        bid, bid_size, ask, ask_size = self.market.top
        number = codec.number
        self.send(
            {
                "u": self.market.update_id,
                "s": self.market.native,
                "b": number(bid),
                "B": number(bid_size),
                "a": number(ask),
                "A": number(ask_size),
            }
        )


class Trades(Stream):
    def on_trades(self, trades: tuple[PublicTrade, ...]) -> None:
        now = self.exchange.clock.time_ms()
        for trade in trades:
            self.send(
                {
                    "e": "trade",
                    "E": now,
                    "s": self.market.native,
                    "t": trade.id,
                    "p": codec.number(trade.price),
                    "q": codec.number(trade.quantity),
                    "T": trade.time_ms,
                    "m": trade.taker_side is Side.SELL,
                    "M": True,
                }
            )


class AggregateTrades(Stream):
    def on_trades(self, trades: tuple[PublicTrade, ...]) -> None:
        now = self.exchange.clock.time_ms()
        for row in market_codec.aggregate(trades):
            self.send({"e": "aggTrade", "E": now, "s": self.market.native, **row})


class Ticker(Stream):
    def __init__(self, name: str, market: SimMarket, exchange: SimExchange, cadence: Cadence) -> None:
        super().__init__(name, market, exchange)
        self._cadence = cadence

    def joined(self) -> None:
        self._cadence.mark(self.flush)

    def on_book(self, change: BookChange) -> None:
        self._cadence.mark(self.flush)

    def flush(self) -> None:
        self.send(market_codec.ticker_event(self.market, self.exchange.clock.time_ms()))


class Streams:
    """All streams somebody listens to."""

    def __init__(self, exchange: SimExchange) -> None:
        self.exchange = exchange
        self._streams: dict[str, Stream] = {}
        self._by_market: dict[str, list[Stream]] = {native: [] for native in exchange.markets}
        self.cadences = {FAST: Cadence(FAST), SLOW: Cadence(SLOW)}

    def is_valid(self, name: str) -> bool:
        """Tell whether a name is that of a stream, whatever its symbol."""
        symbol, _, kind = name.partition("@")
        return bool(symbol) and (kind in _OTHERS or _DEPTH.match(kind) is not None)

    def subscribe(self, listener: Listener, names: Iterable[str]) -> None:
        """Start streams for a listener; a symbol that is not listed stays silent, as on the exchange."""
        for name in names:
            listener.streams[name] = None
            stream = self._streams.get(name) or self.make(name)
            if stream is None:
                continue
            first = not stream.listeners
            stream.listeners[listener] = None
            if first:
                self._streams[name] = stream
                self._by_market[stream.market.native].append(stream)
                stream.joined()

    def unsubscribe(self, listener: Listener, names: Iterable[str]) -> None:
        for name in list(names):
            listener.streams.pop(name, None)
            stream = self._streams.get(name)
            if stream is None:
                continue
            stream.listeners.pop(listener, None)
            if not stream.listeners:
                del self._streams[name]
                self._by_market[stream.market.native].remove(stream)

    def on_book(self, market: SimMarket, change: BookChange) -> None:
        for stream in self._by_market[market.native]:
            stream.on_book(change)

    def on_top(self, market: SimMarket) -> None:
        for stream in self._by_market[market.native]:
            stream.on_top()

    def on_trades(self, market: SimMarket, trades: tuple[PublicTrade, ...]) -> None:
        for stream in self._by_market[market.native]:
            stream.on_trades(trades)

    def of(self, market: SimMarket) -> list[Stream]:
        """Return the streams of a market that somebody listens to."""
        return self._by_market[market.native]

    def close(self) -> None:
        for cadence in self.cadences.values():
            cadence.close()

    def make(self, name: str) -> Stream | None:
        """Return a new stream of this name, None for a symbol that is not listed."""
        symbol, _, kind = name.partition("@")
        market = self.exchange.markets.get(symbol.upper())
        if market is None or symbol != symbol.lower():
            return None
        depth = _DEPTH.match(kind)
        if depth is not None:
            count, speed = depth.groups()
            cadence = self.cadences[FAST if speed == "@100ms" else SLOW]
            if count is None:
                return Diffs(name, market, self.exchange, cadence)
            return Partial(name, market, self.exchange, cadence, int(count))
        if kind == "ticker":
            return Ticker(name, market, self.exchange, self.cadences[SLOW])
        plain: dict[str, type[Stream]] = {"bookTicker": BookTicker, "trade": Trades, "aggTrade": AggregateTrades}
        return plain[kind](name, market, self.exchange) if kind in plain else None
