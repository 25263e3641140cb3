"""Paper limit orders that rest, and when they fill: only where a real order standing there would have filled.

The real book knows nothing of a paper order, so what would have met it is read off two things. The other side's best
price reaches its limit: whoever stands there now would have sold to it (bought from it) first, as much as he shows.
And a public trade: one through its limit would have come to it first; one at its limit comes to it once the queue is
through that stood there when it was placed. The queue is what the level showed then, less what traded there since;
that others ahead of it withdrew is believed only when the whole level shows less.
"""

from __future__ import annotations

from collections.abc import Iterator
from decimal import Decimal

import msgspec

from trading.instruments import Market, Side, lot_quantity
from trading.marketdata.book import Book, BookSide
from trading.messages import OrderIntent, PublicTrade

ZERO = Decimal(0)


class RestingPaper(msgspec.Struct):
    """One order at rest. ``left`` and ``ahead`` are in the market's own unit; ``held`` of ``asset`` is set aside."""

    intent: OrderIntent
    market: Market
    left: Decimal
    ahead: Decimal
    asset: str
    held: Decimal

    @property
    def side(self) -> Side:
        return self.intent.side

    def is_reached(self, price: Decimal) -> bool:
        """Return whether whoever trades at ``price`` on the other side would trade with it."""
        return price <= self.intent.price if self.side == "buy" else price >= self.intent.price

    def shrink_queue(self, book: Book) -> None:
        """Believe that no more stands ahead of it than its level shows."""
        self.ahead = min(self.ahead, shown_at(own_side(book, self.side), self.intent.price))


def own_side(book: Book, side: Side) -> BookSide:
    """Return the side of a book on which orders of ``side`` rest."""
    return book.bids if side == "buy" else book.asks


def shown_at(levels: BookSide, limit: Decimal) -> Decimal:
    """Return what a side shows at exactly this price."""
    wanted = float(limit)
    for price, size in levels.levels():
        if price == wanted:
            return Decimal(repr(size))
        if (price - wanted) * levels.sign < 0:
            break
    return ZERO


def met_by_trade(resting: list[RestingPaper], trade: PublicTrade) -> Iterator[tuple[RestingPaper, Decimal]]:
    """Yield which of a market's resting orders a public trade would have filled, and by how much.

    Orders come in the order they were placed in. One trade's volume is given away once, to the best prices first.
    """
    price, volume = Decimal(repr(trade.price)), Decimal(repr(trade.size))
    met = [one for one in resting if one.side != trade.side and one.is_reached(price)]
    met.sort(key=lambda one: -one.intent.price if one.side == "buy" else one.intent.price)
    for one in met:
        reaching = volume
        if one.intent.price == price:
            reaching = max(ZERO, volume - one.ahead)
            one.ahead = max(ZERO, one.ahead - volume)
        quantity = lot_quantity(min(one.left, reaching), one.market)
        if quantity > 0:
            volume -= quantity
            yield one, quantity
