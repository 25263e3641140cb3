"""Recorded frames of exchanges without a protocol of our own, through ccxt.pro's message handlers.

The live ccxt.pro feed runs the same handlers on its sockets. Here the frames come from a recording, so there is no
socket, no event loop and no REST: what a handler would do in the background is refused or turned into a wish that the
replay can fulfil. Sequences are checked where ccxt.pro checks them, and only there.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Coroutine, Mapping
from typing import Any

import msgspec

from trading.config import ExchangeSpec
from trading.exchanges.generic.client import make_client
from trading.exchanges.generic.readings import CcxtReadings
from trading.instruments import Market, MarketKind
from trading.marketdata.book import Book
from trading.marketdata.protocol import DECODE_ERRORS, MAX_REASONS
from trading.ports import FeedSink

__all__ = ["CcxtProtocol"]

# ccxt reads these as text, as its socket client hands them over.
PLAIN_TEXTS = frozenset({b"ping", b"pong"})


class CcxtProtocol:
    """Market data of one kind of market of one exchange, decoded by ccxt.pro.

    Raises
    ------
    ValueError
        If ccxt.pro has no such exchange.
    """

    def __init__(self, ccxt_id: str, kind: MarketKind, sink: FeedSink) -> None:
        self.kind = kind
        self.wake: Callable[[], None] = _nothing
        self.last_error = ""
        self._sink = sink
        self._readings = CcxtReadings(sink)
        # ccxt asks for a REST snapshot after some updates, to be sure it is newer than the first; a recording has the
        # snapshot its recorder asked for, which may be followed by a few updates only.
        options = {"watchOrderBook": {"snapshotDelay": 0}}
        self._exchange = make_client(ExchangeSpec(code=ccxt_id, ccxt_id=ccxt_id, environment="live"), options)
        self._exchange.enableRateLimit = False
        self._exchange.spawn = self._spawn
        self._exchange.fetch = self._fetch
        self._client = _Client()
        self._messages = self._gaps = self._resyncs = self._refused = 0
        self._gap_reasons: list[tuple[str, str]] = []
        self._loading: dict[str, str] = {}  # symbol -> key of books that wait for a REST snapshot
        self._snapshots: dict[str, bytes] = {}  # newest body by symbol, until a book wants it
        self._body: Any = None  # of the snapshot being taken
        self._lost: set[str] = set()  # keys of books that wait for a new subscription

    @property
    def counters(self) -> Mapping[str, int]:
        """Counts so far, by the names of :class:`trading.marketdata.protocol.MarketDataProtocol`."""
        return {
            "messages": self._messages,
            "sequence_gaps": self._gaps,
            "stale_dropped": 0,
            "resyncs": self._resyncs,
            "refused": self._refused,
            **self._readings.counts,
        }

    @property
    def bad_reasons(self) -> Mapping[str, int]:
        return self._readings.bad_reasons

    def add(self, market: Market) -> Book:
        book = self._readings.books.get(market.key)
        if book is None:
            book = self._readings.add(market)
            self._define_markets()
        return book

    def remove(self, key: str) -> None:
        book = self._readings.remove(key)
        if book is not None:
            symbol = book.market.symbol
            self._exchange.orderbooks.pop(symbol, None)
            self._loading.pop(symbol, None)
            self._snapshots.pop(symbol, None)
            self._lost.discard(key)
            self._define_markets()

    def _define_markets(self) -> None:
        self._exchange.set_markets([_ccxt_market(book.market) for book in self._readings.books.values()])

    def on_frame(self, data: bytes, received_ns: int) -> None:
        self._messages += 1
        try:
            message = data.decode() if data in PLAIN_TEXTS else msgspec.json.decode(data)
        except DECODE_ERRORS:
            self._readings.refuse("not JSON")
            return
        if not isinstance(message, (dict, str)):
            # Every handler we replay takes objects; arrays are formats that ccxt left behind.
            self._readings.refuse(f"a {type(message).__name__} where an object was expected")
            return
        try:
            self._exchange.handle_message(self._client, message)
        except Exception as error:
            # ccxt's handlers trust the exchange: a frame of another shape can raise anything.
            self._client.results.clear()
            self._readings.refuse(f"ccxt cannot read it ({type(error).__name__}: {str(error)[:80]})")
            return
        self._take_results(received_ns)
        self._note_gaps()
        for symbol in [symbol for symbol in self._loading if symbol in self._snapshots]:
            self._load(symbol, received_ns)

    def on_snapshot(self, key: str, data: bytes, received_ns: int) -> None:
        book = self._readings.books.get(key)
        if book is None:
            self._readings.counts["unknown_symbols"] += 1
            return
        self._snapshots[book.market.symbol] = data
        if book.market.symbol in self._loading:
            self._load(book.market.symbol, received_ns)

    def snapshots_wanted(self) -> Collection[str]:
        return tuple(self._loading.values())

    def resubscribes_wanted(self) -> Collection[str]:
        return tuple(self._lost)

    def resubscribed(self, key: str) -> None:
        self._lost.discard(key)

    def reset(self, key: str | None = None, reason: str = "disconnected", status: str = "down") -> None:
        books = self._readings.books
        for book in [books[key]] if key in books else books.values() if key is None else ():
            self._exchange.orderbooks.pop(book.market.symbol, None)
            self._loading.pop(book.market.symbol, None)
            self._snapshots.pop(book.market.symbol, None)
            book.reset()
            self._sink.on_status(book.key, status, reason)

    # What the handlers found

    def _take_results(self, received_ns: int) -> None:
        results, errors = self._client.results, self._client.errors
        for result, message_hash in results:
            if isinstance(result, Mapping) and "bids" in result and "asks" in result:
                book = self._readings.take_book(result, received_ns)
                if book is not None and book.key in self._lost:
                    self._lost.discard(book.key)
                    self._resyncs += 1
            elif message_hash.startswith("bidask") and isinstance(result, Mapping):
                self._readings.take_tops(result, received_ns)
            elif message_hash.startswith("trade") and hasattr(result, "getLimit"):
                # ccxt hands out its whole cache of trades and says how many of them are new.
                new = result.getLimit(None, None) or 0
                self._readings.take_trades(list(result)[-new:] if new else (), received_ns)
        results.clear()
        for error in errors:
            self._refused += 1
            self.last_error = str(error)[:200]
        errors.clear()

    # What the handlers would do in the background

    def _spawn(self, method: Callable[..., Any], *args: Any) -> None:
        """Stand in for ccxt's ``spawn``: keep what is to be done, start nothing.

        ccxt spawns ``load_order_book`` where a book starts from a REST snapshot, and else what ends in a new
        subscription, because its checksum told it that updates were lost.
        """
        symbol = next((arg for arg in args if isinstance(arg, str) and arg in self._readings.by_symbol), None)
        if symbol is None:
            return
        key = self._readings.by_symbol[symbol].key
        if method.__name__ == "load_order_book":
            self._loading[symbol] = key
        else:
            self._gap_reasons.append((symbol, method.__name__))

    def _note_gaps(self) -> None:
        for symbol, what in self._gap_reasons:
            book = self._readings.by_symbol[symbol]
            self._exchange.orderbooks.pop(symbol, None)
            if book.key in self._lost:
                continue  # what follows a gap does not fit either, until the exchange sends a whole book
            self._gaps += 1
            self._lost.add(book.key)
            book.reset()
            self._sink.on_status(book.key, "connecting", f"gap: ccxt asks for a new subscription ({what})")
        self._gap_reasons.clear()

    def _load(self, symbol: str, received_ns: int) -> None:
        """Start a book from its newest REST snapshot and the updates since, as ccxt's ``load_order_book`` does."""
        exchange = self._exchange
        data, stored = self._snapshots.pop(symbol), exchange.orderbooks.get(symbol)
        if stored is None:
            return
        try:
            self._body = msgspec.json.decode(data)
            snapshot = _finish(exchange.fetch_order_book(symbol))
            if snapshot["nonce"] is None:
                raise ValueError("it has no sequence number")
            index = exchange.get_cache_index(snapshot, stored.cache)
            if index < 0:
                return  # older than the first update: only a newer snapshot can start the book
            stored.reset(snapshot)
            stored["symbol"] = symbol
            exchange.handle_book_deltas(stored, stored.cache[index:])
            stored.cache.clear()
        except Exception as error:
            self._readings.refuse(f"ccxt cannot read the snapshot ({type(error).__name__}: {str(error)[:80]})")
            return
        finally:
            self._body = None
        self._loading.pop(symbol, None)
        self._readings.take_book(stored, received_ns)

    async def _fetch(self, url: str, method: str = "GET", headers: Any = None, body: Any = None) -> Any:
        if self._body is None:
            raise RuntimeError(f"{self._exchange.id}: a replay asks nothing of the exchange")
        return self._body


class _Client:
    """What ccxt's handlers need of a socket client: they say on it what they found."""

    def __init__(self) -> None:
        self.url = ""
        self.subscriptions: dict[str, Any] = {}
        self.futures: dict[str, Any] = {}
        self.rejections: dict[str, Any] = {}
        self.lastPong = 0
        self.keepAlive = 0
        self.error: BaseException | None = None
        self.results: list[tuple[Any, str]] = []
        self.errors: list[object] = []

    def resolve(self, result: Any, message_hash: object = None) -> Any:
        self.results.append((result, str(message_hash)))
        return result

    def reject(self, error: Any, message_hash: object = None) -> Any:
        if len(self.errors) < MAX_REASONS:
            self.errors.append(error)
        return error


def _finish(coroutine: Coroutine[Any, Any, Any]) -> Any:
    """Run a coroutine that waits for nothing."""
    try:
        coroutine.send(None)
    except StopIteration as done:
        return done.value
    coroutine.close()
    raise RuntimeError("ccxt waits for something that a replay does not have")


def _ccxt_market(market: Market) -> dict[str, Any]:
    spot = market.kind == "spot"
    return {
        "id": market.native_id,
        "symbol": market.symbol,
        "base": market.base,
        "quote": market.quote,
        "settle": market.settle,
        "baseId": market.base,
        "quoteId": market.quote,
        "settleId": market.settle,
        "type": "spot" if spot else "swap",
        "spot": spot,
        "margin": False,
        "swap": not spot,
        "future": False,
        "option": False,
        "contract": not spot,
        "linear": market.kind == "linear",
        "inverse": market.kind == "inverse",
        "contractSize": None if spot else float(market.contract_size),
        "active": market.active,
        "precision": {"price": float(market.tick), "amount": float(market.lot)},
        "limits": {"amount": {"min": float(market.min_amount)}, "cost": {"min": float(market.min_notional)}},
    }


def _nothing() -> None:
    """Replays look for wanted snapshots by themselves."""
