"""Market data streams of contracts, and the sockets that carry them and user data."""

from __future__ import annotations

import re
from collections.abc import Iterable
from decimal import Decimal

from aiohttp import web

from exchangesim.binance.market_sockets import MarketSockets
from exchangesim.binance.streams import FAST, SLOW, Diffs, Levels, Listener, Stream, Streams
from exchangesim.binance_usdm import market_codec
from exchangesim.binance_usdm.codec import amount, price
from exchangesim.binance_usdm.users import ListenKeys
from exchangesim.core.cadence import Cadence
from exchangesim.core.futures.exchange import FuturesExchange
from exchangesim.core.market import SimMarket
from exchangesim.core.orders import BookChange, Order, PublicTrade, Side

_DEPTH = re.compile(r"^depth(5|10|20)?(?:@(0|100|250|500)ms)?$")
_MARK = re.compile(r"^markPrice(@1s)?$")
_OTHERS = frozenset({"bookTicker", "trade", "aggTrade", "ticker", "miniTicker", "forceOrder"})
DEPTH_SECONDS = {"0": FAST, "100": FAST, "250": 0.25, "500": 0.5, None: 0.25}
MARK_SECONDS = 3.0


class _Diffs(Diffs):
    """``@depth``: each message names the id of the one before it."""

    last_id = 0

    def joined(self) -> None:
        super().joined()
        self.last_id = self.market.update_id

    def message(self, first_id: int, bids: Levels, asks: Levels) -> dict[str, object]:
        last_id, self.last_id = self.last_id, self.market.update_id
        return {**_event(self, "depthUpdate", first_id, last_id), **_levels(self.market, bids, asks)}


class _Partial(Stream):
    """``@depth5``, ``10``, ``20``: the best levels whole, in the form of a diff."""

    def __init__(self, name: str, market: SimMarket, exchange: FuturesExchange, cadence: Cadence, depth: int) -> None:
        super().__init__(name, market, exchange)
        self._cadence, self._depth, self._last_id = cadence, depth, market.update_id

    def joined(self) -> None:
        self._last_id = self.market.update_id
        self._cadence.mark(self.flush)

    def on_book(self, change: BookChange) -> None:
        self._cadence.mark(self.flush)

    def flush(self) -> None:
        last_id, self._last_id = self._last_id, self.market.update_id
        book, depth = self.market.book, self._depth
        levels = _levels(self.market, book.bids.top(depth), book.asks.top(depth))
        self.send({**_event(self, "depthUpdate", last_id + 1, last_id), **levels})


class _BookTicker(Stream):
    def on_top(self) -> None:
        if self.market.top is None:
            return
        bid, bid_size, ask, ask_size = self.market.top
        rules = self.market.rules
        self.send(
            {
                "e": "bookTicker",
                "u": self.market.update_id,
                "s": self.market.native,
                "b": price(rules, bid),
                "B": amount(rules, bid_size),
                "a": price(rules, ask),
                "A": amount(rules, ask_size),
                "T": self.market.changed_ms,
                "E": self.exchange.clock.time_ms(),
            }
        )


class _Trades(Stream):
    def on_trades(self, trades: tuple[PublicTrade, ...]) -> None:
        rules, now = self.market.rules, self.exchange.clock.time_ms()
        for trade in trades:
            self.send(
                {
                    "e": "trade",
                    "E": now,
                    "T": trade.time_ms,
                    "s": self.market.native,
                    "t": trade.id,
                    "p": price(rules, trade.price),
                    "q": amount(rules, trade.quantity),
                    "X": "MARKET",
                    "m": trade.taker_side is Side.SELL,
                }
            )


class _AggregateTrades(Stream):
    def on_trades(self, trades: tuple[PublicTrade, ...]) -> None:
        now = self.exchange.clock.time_ms()
        for row in market_codec.aggregate(trades, self.market.rules):
            self.send({"e": "aggTrade", "E": now, "s": self.market.native, **row})


class _Conflated(Stream):
    """What is sent at most once in a while, when something changed."""

    def __init__(self, name: str, market: SimMarket, exchange: FuturesExchange, cadence: Cadence) -> None:
        super().__init__(name, market, exchange)
        self.contracts, self._cadence = exchange, cadence

    def joined(self) -> None:
        self._cadence.mark(self.flush)

    def flush(self) -> None:
        raise NotImplementedError


class _Ticker(_Conflated):
    def on_book(self, change: BookChange) -> None:
        self._cadence.mark(self.flush)

    def flush(self) -> None:
        self.send(market_codec.ticker_event(self.market, self.exchange.clock.time_ms()))


class _MiniTicker(_Ticker):
    def flush(self) -> None:
        event = market_codec.ticker_event(self.market, self.exchange.clock.time_ms())
        self.send({**{name: event[name] for name in "Escohlvq"}, "e": "24hrMiniTicker"})


class _MarkPrice(_Conflated):
    def on_mark(self) -> None:
        self._cadence.mark(self.flush)

    def flush(self) -> None:
        self.send(market_codec.mark_event(self.contracts, self.market))


class _ForceOrders(Stream):
    """Liquidations, once each when its order is done."""

    def on_liquidated(self, order: Order, time_ms: int) -> None:
        rules = self.market.rules
        body = {
            "s": order.native,
            "S": order.side,
            "o": "LIMIT",
            "f": "IOC",
            "q": amount(rules, order.quantity),
            "p": price(rules, order.average or order.price),
            "ap": price(rules, order.average or order.price),
            "X": order.status,
            "l": amount(rules, Decimal(0) if order.last_fill is None else order.last_fill.quantity),
            "z": amount(rules, order.filled),
            "T": time_ms,
        }
        self.send({"e": "forceOrder", "E": self.exchange.clock.time_ms(), "o": body})


class UsdmStreams(Streams):
    """All streams somebody listens to; a listen key is the name of its account's user data."""

    def __init__(self, exchange: FuturesExchange, users: ListenKeys) -> None:
        super().__init__(exchange)
        self._contracts, self._users = exchange, users
        self.cadences = {seconds: Cadence(seconds) for seconds in {*DEPTH_SECONDS.values(), SLOW, MARK_SECONDS}}

    def is_valid(self, name: str) -> bool:
        symbol, _, kind = name.partition("@")
        known = kind in _OTHERS or _DEPTH.match(kind) is not None or _MARK.match(kind) is not None
        return (bool(symbol) and known) or self._users.knows(name)

    def subscribe(self, listener: Listener, names: Iterable[str]) -> None:
        wanted = list(names)
        for name in wanted:
            if self._users.knows(name):
                self._users.join(listener, name)
                listener.streams[name] = None
        super().subscribe(listener, [name for name in wanted if "@" in name])

    def unsubscribe(self, listener: Listener, names: Iterable[str]) -> None:
        wanted = list(names)
        if any("@" not in name for name in wanted):
            self._users.leave(listener)
        super().unsubscribe(listener, wanted)

    def on_mark(self, market: SimMarket) -> None:
        for stream in self.of(market):
            if isinstance(stream, _MarkPrice):
                stream.on_mark()

    def on_liquidated(self, market: SimMarket, order: Order, time_ms: int) -> None:
        for stream in self.of(market):
            if isinstance(stream, _ForceOrders):
                stream.on_liquidated(order, time_ms)

    def make(self, name: str) -> Stream | None:
        symbol, _, kind = name.partition("@")
        exchange = self._contracts
        market = exchange.markets.get(symbol.upper())
        if market is None or symbol != symbol.lower():
            return None
        depth, mark = _DEPTH.match(kind), _MARK.match(kind)
        if depth is not None:
            count, speed = depth.groups()
            cadence = self.cadences[DEPTH_SECONDS[speed]]
            if count is None:
                return _Diffs(name, market, exchange, cadence)
            return _Partial(name, market, exchange, cadence, int(count))
        if mark is not None:
            return _MarkPrice(name, market, exchange, self.cadences[SLOW if mark[1] else MARK_SECONDS])
        if kind in ("ticker", "miniTicker"):
            ticker = _Ticker if kind == "ticker" else _MiniTicker
            return ticker(name, market, exchange, self.cadences[SLOW])
        plain: dict[str, type[Stream]] = {
            "bookTicker": _BookTicker,
            "trade": _Trades,
            "aggTrade": _AggregateTrades,
            "forceOrder": _ForceOrders,
        }
        return plain[kind](name, market, exchange)


class UsdmSockets(MarketSockets):
    """Sockets at the addresses of before and after the exchange divided them by what they carry."""

    paths = tuple(
        f"{part}{path}"
        for part in ("", "/public", "/market", "/private")
        for path in ("/ws", "/ws/{streams:.+}", "/stream")
    )
    messages_per_second = 10

    def _named(self, http: web.Request) -> str:
        return super()._named(http) or http.query.get("listenKey", "")


def _event(stream: Stream, name: str, first_id: int, last_id: int) -> dict[str, object]:
    return {
        "e": name,
        "E": stream.exchange.clock.time_ms(),
        "T": stream.market.changed_ms,
        "s": stream.market.native,
        "U": first_id,
        "u": stream.market.update_id,
        "pu": last_id,
    }


def _levels(market: SimMarket, bids: Levels, asks: Levels) -> dict[str, object]:
    return {"b": market_codec.levels(market.rules, bids), "a": market_codec.levels(market.rules, asks)}
