"""One market's order book: the market's own liquidity and users' resting orders, in price-time priority.

The market's liquidity (synthetic, played or set by hand) is a quantity per price. A user's order that joins a price
stands behind what the market shows there at that moment (``Order.ahead``); when that quantity shrinks, the part in
front of the user is assumed to have left last. What is published is the sum of both.
"""

from __future__ import annotations

from bisect import bisect_left, insort
from collections import deque
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from decimal import Decimal

from exchangesim.core.orders import ZERO, Order, Side


@dataclass(slots=True)
class Level:
    """One price: the market's quantity and the users' orders, oldest first."""

    market: Decimal = ZERO
    orders: deque[Order] = field(default_factory=deque)

    @property
    def total(self) -> Decimal:
        if not self.orders:
            return self.market
        return self.market + sum((order.remaining for order in self.orders), ZERO)


@dataclass(frozen=True, slots=True)
class Take:
    """A piece of one level that a taker consumed; ``maker`` is None for the market's own liquidity."""

    price: Decimal
    quantity: Decimal
    maker: Order | None


class BookSide:
    """Bids or asks. Prices are kept ascending, so the best bid is last and the best ask is first."""

    def __init__(self, side: Side) -> None:
        self.side = side
        self.levels: dict[Decimal, Level] = {}
        self._prices: list[Decimal] = []
        self.changed: set[Decimal] = set()
        """Prices whose total may have changed since the last published change."""

    def __len__(self) -> int:
        return len(self._prices)

    @property
    def best(self) -> Decimal | None:
        if not self._prices:
            return None
        return self._prices[-1] if self.side is Side.BUY else self._prices[0]

    def prices(self) -> Iterator[Decimal]:
        """Yield prices from the best outwards."""
        return reversed(self._prices) if self.side is Side.BUY else iter(self._prices)

    def top(self, count: int) -> list[tuple[Decimal, Decimal]]:
        """Return the best ``count`` levels as (price, total quantity), best first."""
        prices = self._prices[: -count - 1 : -1] if self.side is Side.BUY else self._prices[:count]
        return [(price, self.levels[price].total) for price in prices]

    def total(self, price: Decimal) -> Decimal:
        level = self.levels.get(price)
        return ZERO if level is None else level.total

    def set_market(self, price: Decimal, quantity: Decimal) -> None:
        """Set the market's own quantity at a price; zero takes it away."""
        level = self.levels.get(price)
        if level is None:
            if quantity <= 0:
                return
            level = self._add_level(price)
        elif level.market == quantity:
            return
        level.market = max(quantity, ZERO)
        for order in level.orders:
            order.ahead = min(order.ahead, level.market)
        self.changed.add(price)
        self._drop_if_empty(price, level)

    def clear_market(self) -> None:
        for price in list(self._prices):
            self.set_market(price, ZERO)

    def add(self, order: Order) -> None:
        """Rest a user's order behind everything at its price."""
        level = self.levels.get(order.price) or self._add_level(order.price)
        order.ahead = level.market
        level.orders.append(order)
        self.changed.add(order.price)

    def remove(self, order: Order) -> None:
        level = self.levels[order.price]
        level.orders.remove(order)
        self.changed.add(order.price)
        self._drop_if_empty(order.price, level)

    def remove_if_there(self, order: Order) -> None:
        """Take an order off the book that may have left it already."""
        level = self.levels.get(order.price)
        if level is not None and order in level.orders:
            self.remove(order)

    def crosses(self, price: Decimal, limit: Decimal | None) -> bool:
        """Tell whether a taker with price ``limit`` (None: any) may trade at ``price`` of this side."""
        if limit is None:
            return True
        return price <= limit if self.side is Side.SELL else price >= limit

    def available(self, limit: Decimal | None) -> Iterator[tuple[Decimal, Decimal]]:
        """Yield (price, total) a taker with ``limit`` could reach, best first."""
        for price in self.prices():
            if not self.crosses(price, limit):
                return
            yield price, self.levels[price].total

    def take(self, price: Decimal, quantity: Decimal) -> list[Take]:
        """Consume up to ``quantity`` at ``price`` in time priority; the makers' own state is left to the caller.

        A maker that is consumed whole leaves the queue; the caller must book its fill before anything else reads the
        book. Returns the pieces in the order they traded.
        """
        level = self.levels[price]
        self.changed.add(price)
        pieces: list[Take] = []
        while quantity > 0 and level.orders:
            order = level.orders[0]
            if order.ahead > 0:
                piece = min(quantity, order.ahead)
                self._take_market(level, piece)
                pieces.append(Take(price, piece, None))
                quantity -= piece
                continue
            piece = min(quantity, order.remaining)
            if piece == order.remaining:
                level.orders.popleft()
            pieces.append(Take(price, piece, order))
            quantity -= piece
            if piece < order.remaining:
                break
        if quantity > 0 and level.market > 0 and not level.orders:
            piece = min(quantity, level.market)
            self._take_market(level, piece)
            pieces.append(Take(price, piece, None))
        self._drop_if_empty(price, level)
        return pieces

    def take_users(self, price: Decimal, quantity: Decimal) -> list[Take]:
        """Let a played trade at ``price`` reach users' orders only: better-priced ones whole, then the queue at it.

        The market's own quantities are left alone: the recording's next book change says what became of them.
        """
        pieces: list[Take] = []
        for level_price in list(self.prices()):
            if quantity <= 0 or not self.crosses(level_price, price):
                break
            level = self.levels[level_price]
            while quantity > 0 and level.orders:
                order = level.orders[0]
                if level_price == price and order.ahead > 0:
                    passed = min(quantity, order.ahead)
                    for queued in level.orders:
                        queued.ahead -= passed
                    quantity -= passed
                    continue
                piece = min(quantity, order.remaining)
                if piece == order.remaining:
                    level.orders.popleft()
                pieces.append(Take(level_price, piece, order))
                quantity -= piece
                self.changed.add(level_price)
                if piece < order.remaining:
                    break
            self._drop_if_empty(level_price, level)
        return pieces

    def _take_market(self, level: Level, quantity: Decimal) -> None:
        level.market -= quantity
        for order in level.orders:
            order.ahead = max(order.ahead - quantity, ZERO)

    def _add_level(self, price: Decimal) -> Level:
        level = self.levels[price] = Level()
        insort(self._prices, price)
        return level

    def _drop_if_empty(self, price: Decimal, level: Level) -> None:
        if level.market <= 0 and not level.orders:
            del self.levels[price]
            del self._prices[bisect_left(self._prices, price)]


class Book:
    """Both sides of one market."""

    def __init__(self) -> None:
        self.bids = BookSide(Side.BUY)
        self.asks = BookSide(Side.SELL)

    def side(self, side: Side) -> BookSide:
        return self.bids if side is Side.BUY else self.asks

    def resting(self) -> Iterable[Order]:
        for side in (self.bids, self.asks):
            for level in side.levels.values():
                yield from level.orders

    def collect_changes(
        self,
    ) -> tuple[list[tuple[Decimal, Decimal]], list[tuple[Decimal, Decimal]]]:
        """Return and forget the levels touched since the last call, as (price, new total), best first."""
        bids = sorted(((p, self.bids.total(p)) for p in self.bids.changed), reverse=True)
        asks = sorted((p, self.asks.total(p)) for p in self.asks.changed)
        self.bids.changed.clear()
        self.asks.changed.clear()
        return bids, asks
