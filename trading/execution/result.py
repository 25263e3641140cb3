"""What a trade earned: every fill counted, fees valued, the unhedged rest stated. Decimal throughout."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from decimal import Decimal

import msgspec

from trading.execution.order import Order
from trading.instruments import Market, base_quantity

ZERO = Decimal(0)

# Price of one unit of an asset in a quote asset, or None when it is not known.
Valuation = Callable[[str, str], Decimal | None]


class Tally(msgspec.Struct, frozen=True, kw_only=True):
    """Sums over a trade's fills, fees apart. ``bought`` and ``sold`` are base, ``paid`` and ``received`` quote."""

    bought: Decimal = ZERO
    sold: Decimal = ZERO
    paid: Decimal = ZERO
    received: Decimal = ZERO
    fees: Mapping[str, Decimal] = {}
    fees_pending: int = 0

    @property
    def residual(self) -> Decimal:
        """Base bought and not sold; negative when more was sold."""
        return self.bought - self.sold

    @property
    def vwap(self) -> Decimal | None:
        """Volume-weighted price over all fills of both sides."""
        quantity = self.bought + self.sold
        return (self.paid + self.received) / quantity if quantity else None

    @property
    def entry_price(self) -> Decimal | None:
        """What the residual cost, or brought: the average price of the side that has more."""
        if self.residual > 0:
            return self.paid / self.bought
        if self.residual < 0:
            return self.received / self.sold
        return None


class Result(msgspec.Struct, frozen=True, kw_only=True):
    """A trade's result in its quote asset.

    ``profit`` is what was received less what was paid, plus the residual at its own entry price (so that it is the
    profit of what was matched), less all fees that could be valued. ``unvalued`` are fees in assets without a price.
    """

    tally: Tally
    profit: Decimal
    residual: Decimal
    unvalued: Mapping[str, Decimal]


def tally(orders: Iterable[Order], markets: Mapping[str, Market]) -> Tally:
    """Sum the fills of a trade's orders."""
    bought = sold = paid = received = ZERO
    fees: dict[str, Decimal] = {}
    pending = 0
    for order in orders:
        market = markets[order.intent.market]
        for fill in order.fills.values():
            base = base_quantity(market, fill.quantity, fill.price)
            value = base * fill.price if market.kind != "inverse" else fill.quantity * market.contract_size
            if order.intent.side == "buy":
                bought += base
                paid += value
            else:
                sold += base
                received += value
            if fill.fee is None:
                pending += 1
            elif fill.fee:
                fees[fill.fee_asset] = fees.get(fill.fee_asset, ZERO) + fill.fee
    return Tally(bought=bought, sold=sold, paid=paid, received=received, fees=fees, fees_pending=pending)


def result(tally: Tally, base: str, quote: str, value: Valuation) -> Result:
    """Close the account of a trade. Fees in base are valued at the trade's own VWAP, third assets by ``value``."""
    profit = tally.received - tally.paid
    if tally.residual:
        entry = tally.entry_price
        assert entry is not None
        profit += tally.residual * entry
    unvalued: dict[str, Decimal] = {}
    for asset, amount in tally.fees.items():
        if asset == quote:
            price: Decimal | None = Decimal(1)
        elif asset == base:
            price = tally.vwap
        else:
            price = value(asset, quote)
        if price is None:
            unvalued[asset] = amount
        else:
            profit -= amount * price
    return Result(tally=tally, profit=profit, residual=tally.residual, unvalued=unvalued)
