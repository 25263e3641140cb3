"""What is said of orders by which an exchange closed a position itself."""

from __future__ import annotations

from collections.abc import Iterable
from decimal import Decimal

from trading.execution.order import ZERO, Order
from trading.execution.views import plain
from trading.messages import MADE_BY_EXCHANGE, OrderKind

PLACES = Decimal("1e-8")


def closed_words(kind: OrderKind) -> str:
    """Return who closed what an order that the exchange made has filled."""
    return {
        OrderKind.LIQUIDATION: "liquidated by the exchange",
        OrderKind.DELEVERAGING: "closed by the exchange to cover another's loss (ADL)",
        OrderKind.SETTLEMENT: "settled by the exchange",
    }[kind]


def what_was_closed(orders: Iterable[Order]) -> list[str]:
    """Return what an exchange closed by itself of a trade's position, a sentence's part each: how, how much, at what
    average price."""
    found: dict[OrderKind, list[Order]] = {}
    for order in orders:
        if order.intent.kind in MADE_BY_EXCHANGE and order.fills:
            found.setdefault(order.intent.kind, []).append(order)
    parts = []
    for kind, closed in found.items():
        quantity = sum((order.filled for order in closed), ZERO)
        price = sum((order.cost for order in closed), ZERO) / quantity
        parts.append(f"{plain(quantity)} {closed_words(kind)} at price {plain(price.quantize(PLACES))}")
    return parts
