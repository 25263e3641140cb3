"""Our own limit orders that rest on a book: whoever prices a new order by the best price must not meet himself there.

A book reaches us some milliseconds after the exchange changed it, so an order that has ended counts a moment longer.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from decimal import Decimal

import msgspec

from trading.execution.order import Order
from trading.instruments import Side

GHOST_NS = 1_000_000_000  # for so long after its end an order may still be shown
SHARE_NOISE = 1e-9  # of a level: what is left of it when we are all of it


class _Resting(msgspec.Struct, frozen=True):
    market: str
    side: Side
    price: float
    quantity: float
    ended_ns: int | None = None


class RestingOrders:
    """Orders of real money on real books, by client id. All times are monotonic. One event loop uses it."""

    def __init__(self) -> None:
        self._orders: dict[str, _Resting] = {}

    def begin(self, order: Order) -> None:
        """Note an order that may come to rest.

        It counts whole until its end: what it has filled may reach us before the book that no longer shows it.
        """
        intent = order.intent
        self._orders[intent.client_order_id] = _Resting(
            intent.market, intent.side, float(intent.price), float(intent.quantity)
        )

    def end(self, order: Order, now_ns: int) -> None:
        """Note that an order rests no longer."""
        resting = self._orders.get(order.intent.client_order_id)
        if resting is not None:
            self._orders[order.intent.client_order_id] = msgspec.structs.replace(resting, ended_ns=now_ns)

    def best_of_others(
        self, market: str, side: Side, levels: Iterable[tuple[float, Decimal | float]], now_ns: int
    ) -> float:
        """Return the best price on the side where orders of ``side`` rest that is not ours alone; 0.0 if all is.

        ``levels`` are (price, quantity in the market's unit) from the best price outwards.
        """
        own = dict(self._own(market, side, now_ns))
        for price, size in levels:
            if float(size) - own.get(price, 0.0) > float(size) * SHARE_NOISE:
                return price
        return 0.0

    def _own(self, market: str, side: Side, now_ns: int) -> Iterator[tuple[float, float]]:
        gone = [
            client_id
            for client_id, order in self._orders.items()
            if order.ended_ns is not None and now_ns - order.ended_ns > GHOST_NS
        ]
        for client_id in gone:
            del self._orders[client_id]
        total: dict[float, float] = {}
        for order in self._orders.values():
            if (order.market, order.side) == (market, side):
                total[order.price] = total.get(order.price, 0.0) + order.quantity
        yield from total.items()
