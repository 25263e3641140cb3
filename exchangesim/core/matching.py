"""Price-time priority matching of one incoming order against one side of a book."""

from __future__ import annotations

from collections.abc import Iterator
from decimal import ROUND_DOWN, Decimal

from exchangesim.core.book import BookSide, Take
from exchangesim.core.orders import ZERO


def floor_to(value: Decimal, step: Decimal) -> Decimal:
    """Return the largest multiple of ``step`` not above ``value``, in the step's own notation."""
    return (value / step).to_integral_value(ROUND_DOWN) * step


def match_quantity(side: BookSide, quantity: Decimal, limit: Decimal | None) -> Iterator[Take]:
    """Consume up to ``quantity`` base units at prices within ``limit``, yielding the pieces as they trade.

    The caller books each piece before asking for the next; what it has not asked for has not traded.
    """
    while quantity > 0:
        price = side.best
        if price is None or not side.crosses(price, limit):
            return
        for piece in side.take(price, quantity):
            quantity -= piece.quantity
            yield piece


def quantity_worth(side: BookSide, amount: Decimal, lot: Decimal) -> Decimal:
    """Return the quantity, in whole lots, that ``amount`` quote units would trade against the book of now."""
    quantity = ZERO
    for price, total in side.available(None):
        piece = min(total, floor_to(amount / price, lot))
        quantity += piece
        amount -= piece * price
        if piece < total:
            break
    return quantity


def reachable(side: BookSide, limit: Decimal | None) -> Decimal:
    """Return the quantity that an order with ``limit`` could take at once."""
    return sum((total for _, total in side.available(limit)), ZERO)


def cost_of(side: BookSide, quantity: Decimal) -> Decimal:
    """Return what taking ``quantity`` would cost now in quote units; of what is there, if there is less."""
    cost = ZERO
    for price, total in side.available(None):
        piece = min(total, quantity)
        cost += piece * price
        quantity -= piece
        if quantity <= 0:
            break
    return cost
