"""Positions and the settings they are held under."""

from __future__ import annotations

from dataclasses import dataclass, field
from decimal import ROUND_HALF_EVEN, Decimal
from typing import NamedTuple

from exchangesim.core.orders import ZERO, PositionSide, Side

PLACES = Decimal("0.00000001")
DEFAULT_LEVERAGE = 20


class Change(NamedTuple):
    """What one trade did to a position."""

    realized: Decimal
    opened: Decimal
    """Quantity by which the position grew, and"""
    reduced: Decimal
    """by which it shrank before that (both not negative; a trade through zero does both)."""


@dataclass(slots=True, kw_only=True)
class Position:
    """What an account holds of one contract on one position side.

    The cost is kept instead of the entry price, so that what is realised and what is left always add up exactly.
    """

    api_key: str
    native: str
    side: PositionSide = PositionSide.BOTH
    quantity: Decimal = ZERO
    """Base units, negative when short."""
    cost: Decimal = ZERO
    """Sum of quantity x price of what is open, with the quantity's sign."""
    paid: Decimal = ZERO
    """Fees paid for what is open."""
    realized: Decimal = ZERO
    """Profit realised so far, fees not taken off."""
    isolated_wallet: Decimal = ZERO
    """Part of the account's wallet that only this position may lose; zero under cross margin."""
    updated_ms: int = 0

    @property
    def entry_price(self) -> Decimal:
        return self.cost / self.quantity if self.quantity else ZERO

    @property
    def break_even_price(self) -> Decimal:
        """Price at which closing, before its own fee, gives back the fees of opening."""
        return (self.cost + self.paid) / self.quantity if self.quantity else ZERO

    def unrealized(self, price: Decimal) -> Decimal:
        return self.quantity * price - self.cost

    def reducible(self, side: Side) -> Decimal:
        """Return how much an order of this side could reduce the position by."""
        return max(ZERO, -self.quantity if side is Side.BUY else self.quantity)

    def trade(self, side: Side, quantity: Decimal, price: Decimal, fee: Decimal) -> Change:
        """Book a trade; what reduces comes first, what is left opens."""
        sign = 1 if side is Side.BUY else -1
        reduced = min(quantity, self.reducible(side))
        opened = quantity - reduced
        realized = ZERO
        if reduced:
            held = abs(self.quantity)
            cost, paid = share(self.cost, reduced, held), share(self.paid, reduced, held)
            realized = -cost - sign * reduced * price
            self.cost -= cost
            self.paid -= paid
            self.quantity += sign * reduced
            self.realized += realized
        if opened:
            self.quantity += sign * opened
            self.cost += sign * opened * price
            self.paid += fee * opened / quantity
        return Change(realized, opened, reduced)


def share(amount: Decimal, part: Decimal, whole: Decimal) -> Decimal:
    """Return ``part / whole`` of an amount, to eight places; all of it for the whole."""
    if part == whole:
        return amount
    return (amount * part / whole).quantize(PLACES, ROUND_HALF_EVEN)


@dataclass(slots=True, kw_only=True)
class Settings:
    """How an account holds its positions."""

    hedged: bool = False
    """Long and short positions side by side in one contract."""
    leverages: dict[str, int] = field(default_factory=dict)
    isolated: set[str] = field(default_factory=set)
    """Contracts under isolated margin, by native name; all others are under cross margin."""

    def leverage(self, native: str) -> int:
        return self.leverages.get(native, DEFAULT_LEVERAGE)
