"""The trades a bot would have taken on a recording, from the depth the books really showed, and only once.

A recording does not react to us: the levels we buy from still stand in it afterwards, and a naive replay sells them
again with every message. So what was taken at a price is remembered, and that price offers only what it shows beyond
it, until the recorded book has been without that price once; whoever quotes there later is somebody new. Each route is
judged by itself, as if a bot traded that route alone: routes do not take each other's liquidity.

What this leaves out makes the result an upper bound: both legs fill at once at the prices seen (no latency, no rejected
or partly filled leg), balances are unlimited, and nobody else reacts to our trade.
"""

from __future__ import annotations

from collections.abc import Iterator

from trading.arbitrage.depth import (
    BaseLevels,
    Filled,
    JointQuote,
    LegTerms,
    Limits,
    PairTerms,
    joint_walk,
)
from trading.arbitrage.routes import Route
from trading.marketdata.book import Book, BookSide

__all__ = ["RouteTaker"]


class _TakenSide:
    """What one route took from one side of a book, in base units by price."""

    __slots__ = ("_taken", "side")

    def __init__(self, side: BookSide) -> None:
        self.side = side
        self._taken: dict[float, float] = {}

    def forget_vanished(self) -> None:
        """Drop what was taken at prices the book no longer holds. Called after every change of the book."""
        if self._taken:
            for price in [price for price in self._taken if not self.side.size_at(price)]:
                del self._taken[price]

    def take(self, filled: Filled, levels: BaseLevels) -> None:
        left = filled.quantity
        for price, size in levels:
            share = min(size, left)
            self._taken[price] = self._taken.get(price, 0.0) + share
            left -= share
            if price == filled.worst_price:
                return

    def remaining(self, price: float, size: float) -> float:
        return size - self._taken.get(price, 0.0)


class _RemainingLevels(BaseLevels):
    """A book side less what was taken from it."""

    __slots__ = ("taken",)

    def __init__(self, taken: _TakenSide, terms: LegTerms, top: float, top_size: float) -> None:
        super().__init__(taken.side, terms, top, top_size)
        self.taken = taken

    def __iter__(self) -> Iterator[tuple[float, float]]:
        for price, size in super().__iter__():
            left = self.taken.remaining(price, size)
            if left > 0.0:
                yield price, left


class RouteTaker:
    """One route's trades and their net, taken whenever the detector reports the route."""

    def __init__(self, route: Route, buy: Book, sell: Book, limits: Limits) -> None:
        self.route = route
        self.limits = limits
        self.terms = PairTerms.of(LegTerms.of(route.buy), LegTerms.of(route.sell))
        self.trades = 0
        self.net = 0.0  # quote, after both fees
        self.quantity = 0.0  # base
        self._asks = _TakenSide(buy.asks)
        self._bids = _TakenSide(sell.bids)

    def on_book(self, book_key: str) -> None:
        """Note that a book of the route changed."""
        if book_key == self.route.buy.key:
            self._asks.forget_vanished()
        else:
            self._bids.forget_vanished()

    def take(self, ask: tuple[float, float], bid: tuple[float, float]) -> JointQuote | None:
        """Take what is left and pays; ``ask`` and ``bid`` are the newest best prices and their sizes (own unit)."""
        asks = _RemainingLevels(self._asks, self.terms.buy, *ask)
        bids = _RemainingLevels(self._bids, self.terms.sell, *bid)
        quote = joint_walk(asks, bids, self.terms, self.limits)
        if not isinstance(quote, JointQuote):
            return None
        self._asks.take(quote.buy, asks)
        self._bids.take(quote.sell, bids)
        self.trades += 1
        self.net += quote.net_profit
        self.quantity += quote.quantity
        return quote
