"""The part of a book that a depth-limited stream shows, and how it changed since the last message.

A stream of the best N levels shows a level that enters the N as new, and one that leaves it as gone, so that its
receivers hold exactly the N best at every message (as recordings of such streams do).
"""

from __future__ import annotations

from collections.abc import Iterable
from decimal import Decimal

from exchangesim.core.book import BookSide
from exchangesim.core.market import SimMarket
from exchangesim.core.orders import ZERO, BookChange

Levels = list[tuple[Decimal, Decimal]]


class _Side:
    """One side as its receivers know it."""

    def __init__(self, side: BookSide, depth: int) -> None:
        self.side = side
        self.depth = depth
        self.shown: dict[Decimal, Decimal] = {}
        self.touched: set[Decimal] = set()

    def reset(self) -> None:
        self.shown = dict(self.side.top(self.depth))
        self.touched.clear()

    def diff(self) -> dict[Decimal, Decimal]:
        """Bring ``shown`` up to the book; return what changed, zero for a level that is gone."""
        changes: dict[Decimal, Decimal] = {}
        if len(self.side) <= self.depth and len(self.shown) < self.depth:
            # The whole side is and was in view: only touched prices can differ.
            for price in self.touched:
                total = self.side.total(price)
                if total != self.shown.get(price, ZERO):
                    changes[price] = total
        else:
            now = dict(self.side.top(self.depth))
            changes = {price: ZERO for price in self.shown if price not in now}
            changes.update((price, total) for price, total in now.items() if self.shown.get(price) != total)
        self.touched.clear()
        for price, total in changes.items():
            if total:
                self.shown[price] = total
            else:
                del self.shown[price]
        return changes


class DepthWindow:
    """The best ``depth`` levels a side of one market, as the receivers of one stream hold them."""

    def __init__(self, market: SimMarket, depth: int) -> None:
        self.market = market
        self._bids = _Side(market.book.bids, depth)
        self._asks = _Side(market.book.asks, depth)
        self.update_id = 0
        """The market's update id up to which receivers have been told."""

    def touch(self, change: BookChange) -> None:
        """Note the levels an event changed; to be called with every book change."""
        self._bids.touched.update(price for price, _ in change.bids)
        self._asks.touched.update(price for price, _ in change.asks)

    def reset(self) -> None:
        """Take the book as it is; the next ``diff`` starts from here."""
        self._bids.reset()
        self._asks.reset()
        self.update_id = self.market.update_id

    def shown(self) -> tuple[Levels, Levels]:
        """Return the levels as last told, bids then asks, best first."""
        return _best_first(self._bids.shown.items(), True), _best_first(self._asks.shown.items(), False)

    def diff(self) -> tuple[Levels, Levels] | None:
        """Return the levels that changed since they were last told, best first; None when there are none."""
        bids, asks = self._bids.diff(), self._asks.diff()
        if not bids and not asks:
            return None
        self.update_id = self.market.update_id
        return _best_first(bids.items(), True), _best_first(asks.items(), False)


def _best_first(levels: Iterable[tuple[Decimal, Decimal]], descending: bool) -> Levels:
    return sorted(levels, reverse=descending)
