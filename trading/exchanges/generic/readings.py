"""ccxt's unified books, tickers and trades as ours: what the live ccxt.pro feed and the replay through it share.

Books are taken over whole, so that a book is always one that ccxt held at one moment.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping
from typing import Any

from trading.instruments import Market
from trading.marketdata.book import Book
from trading.marketdata.protocol import NS_PER_MS, count_reason
from trading.messages import PublicTrade
from trading.ports import FeedSink

__all__ = ["CcxtReadings"]

MAX_LEVELS = 500
# The bounds of trading.marketdata.protocol.Price and Size.
MIN_PRICE, MAX_PRICE, MAX_SIZE = 1e-18, 1e15, 1e18


class CcxtReadings:
    """Books by key and by ccxt symbol, filled from ccxt's structures and reported to ``sink``.

    What cannot be read is counted in ``counts["bad_messages"]`` with its reason, never raised.
    """

    def __init__(self, sink: FeedSink) -> None:
        self.sink = sink
        self.books: dict[str, Book] = {}
        self.by_symbol: dict[str, Book] = {}
        self.counts = dict.fromkeys(("bad_messages", "crossed", "unknown_symbols"), 0)
        self.bad_reasons: dict[str, int] = {}

    def add(self, market: Market) -> Book:
        """Read a market's structures from now on."""
        book = self.books[market.key] = self.by_symbol[market.symbol] = Book(market)
        return book

    def remove(self, key: str) -> Book | None:
        """Stop reading a market; return its book, None if it was not read."""
        book = self.books.pop(key, None)
        if book is not None:
            self.by_symbol.pop(book.market.symbol, None)
        return book

    def take_book(self, update: Any, received_ns: int) -> Book | None:
        """Take a book over and report it; None when it is not ours, cannot be read or is crossed."""
        book = self.by_symbol.get(update.get("symbol") or "")
        if book is None:
            self.counts["unknown_symbols"] += 1
            return None
        try:
            bids = _levels(update["bids"])
            asks = _levels(update["asks"])
        except (ValueError, TypeError, LookupError) as error:
            self.refuse(f"book: {error}")
            return None
        book.bids.replace(bids)
        book.asks.replace(asks)
        if book.crossed:
            self.counts["crossed"] += 1
            book.reset()
            self.sink.on_status(book.key, "stale", "crossed: the bid is not below the ask")
            return None
        book.update_id = _whole(update.get("nonce"))
        book.exchange_ns = _whole(update.get("timestamp")) * NS_PER_MS
        book.received_ns = received_ns
        if not book.ready:
            book.ready = True
            self.sink.on_status(book.key, "live", "")
        self.sink.on_book(book)
        return book

    def take_tops(self, tickers: Mapping[str, Any], received_ns: int) -> None:
        """Report best prices from one ticker, or from several by symbol."""
        if "symbol" in tickers:
            tickers = {tickers["symbol"]: tickers}
        for symbol, ticker in tickers.items():
            book = self.by_symbol.get(symbol)
            if book is None:
                continue
            try:
                top = [_number(ticker.get(name)) for name in ("bid", "bidVolume", "ask", "askVolume")]
            except (ValueError, TypeError) as error:
                self.refuse(f"ticker: {error}")
                continue
            if not (0 < top[0] < top[2] and top[1] > 0 and top[3] > 0):
                continue  # many tickers carry no sizes, and a price without a size is no quote
            exchange_ns = _whole(ticker.get("timestamp")) * NS_PER_MS
            self.sink.on_top(book.key, top[0], top[1], top[2], top[3], exchange_ns, received_ns)

    def take_trades(self, trades: Iterable[Any], received_ns: int) -> None:
        """Report public trades; those without a side, price or size are left out."""
        for trade in trades:
            book = self.by_symbol.get(trade.get("symbol") or "")
            side = trade.get("side")
            if book is None or side not in ("buy", "sell"):
                continue
            try:
                price, size = _number(trade.get("price")), _number(trade.get("amount"))
            except (ValueError, TypeError) as error:
                self.refuse(f"trade: {error}")
                continue
            if price > 0 and size > 0:
                exchange_ns = _whole(trade.get("timestamp")) * NS_PER_MS
                self.sink.on_trade(PublicTrade(book.key, price, size, side, exchange_ns, received_ns))

    def refuse(self, reason: str) -> None:
        """Count a message that cannot be read."""
        self.counts["bad_messages"] += 1
        count_reason(self.bad_reasons, reason)


def _levels(levels: Iterable[Any]) -> list[tuple[float, float]]:
    taken: list[tuple[float, float]] = []
    for level in levels:
        price, size = float(level[0]), float(level[1])
        if not (MIN_PRICE <= price <= MAX_PRICE and 0 <= size <= MAX_SIZE):
            raise ValueError(f"price {price!r} or size {size!r} is out of bounds")
        taken.append((price, size))
        if len(taken) == MAX_LEVELS:
            break
    return taken


def _number(value: object) -> float:
    if value is None:
        return 0.0
    if not isinstance(value, (int, float, str)):
        raise TypeError(f"not a number: {type(value).__name__}")
    number = float(value)
    if not (math.isfinite(number) and 0 <= number <= MAX_SIZE):
        raise ValueError(f"{number!r} is out of bounds")
    return number


def _whole(value: object) -> int:
    return value if isinstance(value, int) and value > 0 else 0
