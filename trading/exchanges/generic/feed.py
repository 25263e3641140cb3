"""Live market data of every other exchange, through ccxt.pro behind the same port.

Slower than a feed of our own and, depending on the exchange, without sequence checks: ccxt.pro verifies books for some
exchanges only.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Awaitable, Callable, Iterable, Mapping
from typing import Any

import ccxt.pro
import msgspec

from trading.config import ExchangeSpec
from trading.exchanges.connection import NS, ConnectionSettings, spread
from trading.exchanges.generic.client import UnusableExchange, make_client
from trading.exchanges.generic.readings import CcxtReadings
from trading.exchanges.streaming import Tap
from trading.instruments import Market
from trading.marketdata.book import Book
from trading.ports import Clock, FeedSink
from trading.tasks import end_tasks

logger = logging.getLogger(__name__)

# ccxt's Bybit puts the best prices of watch_bids_asks into the very book that is watched: one level is left of it, and
# the changes that follow are made to that.
ONE_BOOK_FOR_BOTH = (ccxt.pro.bybit,)


class GenericSettings(msgspec.Struct, frozen=True, kw_only=True):
    """Durations in seconds. A market silent for ``stale_seconds`` is stale; for ``renew_seconds``, watched anew.

    Watching anew takes the other markets of the exchange down for a moment. So one that was silent again after it
    waits twice as long for the next time, up to ``longest_renew_seconds``, until a change of its book is heard.
    """

    stale_seconds: float = 10.0
    renew_seconds: float = 60.0
    longest_renew_seconds: float = 3_600.0
    first_backoff: float = 0.5
    max_backoff: float = 30.0
    tick_seconds: float = 0.5


class GenericFeed:
    """Feed port on a ccxt.pro client."""

    def __init__(
        self,
        spec: ExchangeSpec,
        sink: FeedSink,
        clock: Clock,
        *,
        client: Callable[[ExchangeSpec], Any] = make_client,
        settings: GenericSettings | None = None,
        jitter: Callable[[], float] | None = None,
    ) -> None:
        self._spec = spec
        self._sink = sink
        self._clock = clock
        self._make_client = client
        self._settings = settings or GenericSettings()
        self._jitter = jitter or spread(spec.code, clock)
        self._readings = CcxtReadings(sink)
        self._heard_ns: dict[str, int] = {}
        self._stale: set[str] = set()
        self._patience: dict[str, float] = {}  # seconds a market may be silent, where they are no longer the usual
        self._taken: dict[str, tuple[object, object]] = {}  # nonce and timestamp of the book last taken, by symbol
        self._changed = asyncio.Event()
        self._counts = dict.fromkeys(("messages", "errors", "reconnects", "stale"), 0)

    # Feed port

    def add(self, market: Market) -> Book:
        book = self._readings.books.get(market.key)
        if book is None:
            book = self._readings.add(market)
            self._changed.set()
        return book

    def remove(self, key: str) -> None:
        book = self._readings.remove(key)
        if book is not None:
            self._taken.pop(book.market.symbol, None)
            self._heard_ns.pop(key, None)
            self._stale.discard(key)
            self._patience.pop(key, None)
            self._changed.set()

    def counters(self) -> Mapping[str, int | float]:
        return {
            **self._counts,
            **self._readings.counts,
            "markets": len(self._readings.books),
            "books_ready": sum(book.ready for book in self._readings.books.values()),
        }

    @property
    def bad_reasons(self) -> Mapping[str, int]:
        """How often each reason made a message bad."""
        return self._readings.bad_reasons

    async def run(self) -> None:
        failures = 0
        while True:
            client: Any = None
            began = self._clock.monotonic_ns()
            try:
                client = self._make_client(self._spec)
                await client.load_markets()
                await self._watch(client)
            except (_Renew, UnusableExchange) as refusal:
                reason = str(refusal)
            except (ccxt.pro.BaseError, OSError, TimeoutError) as error:
                self._counts["errors"] += 1
                reason = f"{type(error).__name__}: {str(error)[:160]}"
            finally:
                if client is not None:
                    await _close(client)
            self._counts["reconnects"] += 1
            self._down(reason)
            lived = (self._clock.monotonic_ns() - began) / NS
            failures = 1 if lived > self._settings.max_backoff else failures + 1
            backoff = min(self._settings.max_backoff, self._settings.first_backoff * 2.0 ** min(failures - 1, 20))
            await self._clock.sleep(backoff * (0.5 + 0.5 * self._jitter()))

    # Watching

    async def _watch(self, client: Any) -> None:
        """Watch all markets until something fails; a changed set of markets starts the watchers anew."""
        while True:
            self._changed.clear()
            # Reports may have their hearers leave markets, hence the copies here and below.
            symbols = [symbol for symbol in list(self._readings.by_symbol) if self._known(client, symbol)]
            now = self._clock.monotonic_ns()
            for symbol in symbols:
                if symbol in self._readings.by_symbol:
                    self._heard_ns.setdefault(self._readings.by_symbol[symbol].key, now)
            tasks = [asyncio.ensure_future(watcher) for watcher in self._watchers(client, symbols)]
            tasks.append(asyncio.ensure_future(self._look_after(client)))
            changed = asyncio.ensure_future(self._changed.wait())
            try:
                done, _ = await asyncio.wait((*tasks, changed), return_when=asyncio.FIRST_COMPLETED)
                for task in done:
                    task.result()
            finally:
                await end_tasks((*tasks, changed))

    def _known(self, client: Any, symbol: str) -> bool:
        book = self._readings.by_symbol.get(symbol)
        if book is None or symbol in client.markets:
            return book is not None
        self._sink.on_status(book.key, "down", f"{self._spec.code} has no market {symbol}")
        return False

    def _watchers(self, client: Any, symbols: list[str]) -> Iterable[Awaitable[None]]:
        if not symbols:
            return
        has = client.has
        if has.get("watchOrderBookForSymbols"):

            def take(update: Any) -> None:
                self._take_book(update)
                self._sweep(client)

            yield self._repeat(lambda: client.watch_order_book_for_symbols(symbols), take)
        else:
            for symbol in symbols:
                yield self._repeat(_bound(client.watch_order_book, symbol), self._take_book)
        if has.get("watchBidsAsks") and not isinstance(client, ONE_BOOK_FOR_BOTH):
            yield self._repeat(lambda: client.watch_bids_asks(symbols), self._take_tops, optional=True)
        if has.get("watchTradesForSymbols"):
            yield self._repeat(lambda: client.watch_trades_for_symbols(symbols), self._take_trades, optional=True)
        elif has.get("watchTrades"):
            for symbol in symbols:
                yield self._repeat(_bound(client.watch_trades, symbol), self._take_trades, optional=True)

    async def _repeat(
        self, watch: Callable[[], Awaitable[Any]], take: Callable[[Any], None], *, optional: bool = False
    ) -> None:
        """Take what is watched until it fails; without an optional stream the others go on."""
        while True:
            try:
                take(await watch())
            except (ccxt.pro.NotSupported, ccxt.pro.BadRequest, ccxt.pro.ArgumentsRequired) as error:
                if not optional:
                    raise
                logger.info("%s: a stream is not available: %s", self._spec.code, error)
                await asyncio.Event().wait()

    def _sweep(self, client: Any) -> None:
        """Take books that changed unannounced: of several that change at once, ccxt.pro wakes its watcher for one."""
        held = getattr(client, "orderbooks", None) or {}
        for symbol in list(self._readings.by_symbol):
            update = held.get(symbol)
            if update is not None and _mark(update) not in ((None, None), self._taken.get(symbol)):
                self._take_book(update)

    async def _look_after(self, client: Any) -> None:
        """Mark what is silent as stale; ask for a new connection when it stays so (ccxt.pro may take minutes)."""
        settings = self._settings
        while True:
            await self._clock.sleep(settings.tick_seconds)
            self._sweep(client)
            now = self._clock.monotonic_ns()
            for key, heard in list(self._heard_ns.items()):
                if key not in self._heard_ns:
                    continue
                silent = (now - heard) / NS
                patience = self._patience.get(key, settings.renew_seconds)
                if silent > patience:
                    self._patience[key] = min(2 * patience, settings.longest_renew_seconds)
                    self._heard_ns.clear()
                    raise _Renew(f"no book of {key} for {silent:.0f} s")
                if silent > settings.stale_seconds and key not in self._stale:
                    self._stale.add(key)
                    self._counts["stale"] += 1
                    self._readings.books[key].ready = False
                    self._sink.on_status(key, "stale", f"no book for {silent:.1f} s")

    def _down(self, reason: str) -> None:
        self._heard_ns.clear()
        self._stale.clear()
        self._taken.clear()
        for book in list(self._readings.books.values()):
            book.reset()
            self._sink.on_status(book.key, "down", reason)

    # Taking

    def _take_book(self, update: Any) -> None:
        self._counts["messages"] += 1
        symbol = update.get("symbol") or ""
        is_change = symbol in self._taken
        self._taken[symbol] = _mark(update)
        book = self._readings.take_book(update, self._clock.time_ns())
        if book is not None:
            if is_change:
                self._patience.pop(book.key, None)
            self._heard_ns[book.key] = self._clock.monotonic_ns()
            self._stale.discard(book.key)

    def _take_tops(self, tickers: Any) -> None:
        self._counts["messages"] += 1
        self._readings.take_tops(tickers, self._clock.time_ns())

    def _take_trades(self, trades: Any) -> None:
        self._counts["messages"] += 1
        self._readings.take_trades(trades, self._clock.time_ns())


class _Renew(Exception):
    """The client should be thrown away and made anew; the message says why."""


def _mark(update: Any) -> tuple[object, object]:
    return update.get("nonce"), update.get("timestamp")


def _bound(method: Callable[[str], Awaitable[Any]], symbol: str) -> Callable[[], Awaitable[Any]]:
    return lambda: method(symbol)


async def _close(client: Any) -> None:
    try:
        await client.close()
    except Exception:
        # A client that failed half-way may fail at closing too; there is nothing left to lose.
        logger.debug("closing a ccxt.pro client failed", exc_info=True)


def create_feed(
    spec: ExchangeSpec,
    sink: FeedSink,
    clock: Clock,
    *,
    connection: ConnectionSettings | None = None,
    tap: Tap | None = None,
    jitter: Callable[[], float] | None = None,
) -> GenericFeed:
    """Return a ccxt.pro feed.

    Raises
    ------
    ValueError
        If raw messages are to be tapped: ccxt.pro does not hand them out.
    """
    if tap is not None:
        raise ValueError(f"{spec.code}: recording needs a feed of our own (binance, okx, bybit), not ccxt.pro's")
    return GenericFeed(spec, sink, clock, jitter=jitter)
