"""Margin of linear contracts, before an order: what it binds, how much leverage its size may have, and where the
position it makes would be liquidated. Pure arithmetic in Decimal.

Quantities are base units, prices quote per base, margins quote.

Sources: https://www.binance.com/en/support/faq/b3c689c1f50a44cabb3a84e663b81d93 (liquidation price),
https://www.binance.com/en/support/faq/87fa7ee33b574f7084d42bd2ce2e463b (initial margin and the cost of an order).
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from decimal import Decimal

import msgspec

from trading.instruments import Side, Tier

__all__ = [
    "Held", "Tier", "initial_margin", "liquidation_price", "maintenance", "most_leverage", "tiers_of",
]  # fmt: skip

ZERO = Decimal(0)


class Held(msgspec.Struct, frozen=True):
    """A position: ``quantity`` is negative when short, ``cost`` the sum of quantity x entry price, signed alike."""

    quantity: Decimal = ZERO
    cost: Decimal = ZERO

    def with_trade(self, side: Side, quantity: Decimal, price: Decimal) -> Held:
        """Return the position after a trade; what it closes leaves the entry price of the rest as it was."""
        signed = quantity if side == "buy" else -quantity
        after = self.quantity + signed
        if self.quantity * signed >= 0:
            return Held(after, self.cost + signed * price)
        if after * self.quantity > 0:
            return Held(after, self.cost * after / self.quantity)
        return Held(after, after * price)


def tiers_of(rows: Iterable[tuple[Decimal, Decimal, Decimal, int]]) -> tuple[Tier, ...]:
    """Return tiers from their floors, caps, maintenance rates and largest leverages, smallest first.

    Deductions follow from the rates: margin does not jump from one tier to the next.

    Raises
    ------
    ValueError
        If the tiers do not follow each other, or a figure is none.
    """
    tiers: list[Tier] = []
    for floor, cap, rate, leverage in sorted(rows):
        last = tiers[-1] if tiers else Tier(ZERO, ZERO, rate, leverage)
        if floor != last.cap or not floor < cap:
            raise ValueError(f"tiers: must follow each other from 0 on (given {floor} to {cap} after {last.cap})")
        if not last.rate <= rate < 1 or rate <= 0 or leverage < 1:
            raise ValueError(f"tiers: rate must rise within 0 to 1, leverage be 1 or more (given {rate}, {leverage})")
        tiers.append(Tier(floor, cap, rate, leverage, last.deduction + floor * (rate - last.rate)))
    return tuple(tiers)


def most_leverage(tiers: Sequence[Tier], notional: Decimal) -> int:
    """Return the largest leverage of a position of this value: 0 if it is above all tiers."""
    return next((tier.leverage for tier in tiers if notional <= tier.cap), 0)


def maintenance(tiers: Sequence[Tier], notional: Decimal) -> Decimal:
    """Return the margin below which a position of this value (unsigned) is liquidated.

    As the rates rise, the tier that asks for the most is the one the value falls into.
    """
    return max(notional * tier.rate - tier.deduction for tier in tiers)


def initial_margin(
    side: Side, quantity: Decimal, price: Decimal, leverage: int | None, mark: Decimal | None = None
) -> Decimal:
    """Return what an order that opens a position binds until it is filled, fees aside.

    That is its value by the leverage (None: as if it were one), and what is lost at once where its limit ``price`` is
    worse than the ``mark`` price the exchange values positions by, if that is known.
    """
    bound = quantity * price / (leverage or 1)
    if mark is None:
        return bound
    return bound + quantity * max(ZERO, price - mark if side == "buy" else mark - price)


def liquidation_price(held: Held, margin: Decimal, tiers: Sequence[Tier]) -> Decimal | None:
    """Return the mark price at which a position is liquidated; None if no price does that.

    ``margin`` is what stands behind it. Isolated, that is its own margin; under cross margin the wallet's balance
    with the unrealised profit of all other positions and less their maintenance margin.

    At the price P the margin left, ``margin + quantity * P - cost``, is what maintenance asks for. Each tier gives a
    straight line for that; the position ends at the nearest of their prices, which is the one of the tier it has
    fallen, or risen, into by then. A long position of 1 at 100 with a margin of 20 and a rate of 1 %:

    >>> tiers = tiers_of([(Decimal(0), Decimal(1000), Decimal("0.01"), 20)])
    >>> liquidation_price(Held(Decimal(1), Decimal(100)), Decimal(20), tiers).quantize(Decimal("0.01"))
    Decimal('80.81')
    """
    if not held.quantity or not tiers:
        return None
    size = abs(held.quantity)
    prices = [(held.cost - margin - tier.deduction) / (held.quantity - size * tier.rate) for tier in tiers]
    nearest = max(prices) if held.quantity > 0 else min(prices)
    return nearest if nearest > 0 else None
