"""What a ticket's fills leave in its hands, and what they have earned. Pure arithmetic in Decimal."""

from __future__ import annotations

from collections.abc import Iterable
from decimal import Decimal

import msgspec

from trading.execution.order import Order
from trading.execution.result import ZERO, Result, Tally, Valuation, result
from trading.instruments import Market, Side, base_quantity, lot_quantity

OPPOSITE: dict[Side, Side] = {"buy": "sell", "sell": "buy"}


class Position(msgspec.Struct, frozen=True, kw_only=True):
    """What is held in the direction of the entry, in the market's own unit; negative when more was closed than there
    was. ``entry_price`` is the average price of the entry's side."""

    held: Decimal = ZERO
    entry_price: Decimal | None = None

    def whole(self, market: Market) -> Decimal:
        """Return what of it can be closed: whole lots."""
        return lot_quantity(max(self.held, ZERO), market)

    def surplus(self, market: Market) -> Decimal:
        """Return what was closed beyond what there was, in whole lots."""
        return lot_quantity(max(-self.held, ZERO), market)


def position_of(orders: Iterable[Order], market: Market, side: Side) -> Position:
    """Return the position that fills make whose entry is on ``side``.

    On a spot market a fee paid in the base asset is gone from what is held; one that is not known yet counts as the
    market's dearer fee, in base, so that no more is ever promised than there is.
    """
    entered = closed = value = fees = ZERO
    for order in orders:
        for fill in order.fills.values():
            if order.intent.side == side:
                entered += fill.quantity
                value += fill.quantity * fill.price
            else:
                closed += fill.quantity
            if market.kind != "spot":
                continue
            if fill.fee is not None and fill.fee_asset == market.base:
                fees += fill.fee
            elif fill.fee is None and order.intent.side == "buy":
                fees += fill.quantity * max(market.taker_fee, market.maker_fee, ZERO)
    held = entered - closed - fees if side == "buy" else entered - closed
    return Position(held=held, entry_price=value / entered if entered else None)


def result_of(tally: Tally, position: Position, market: Market, side: Side, value: Valuation) -> Result:
    """Return a ticket's result: what its closed part earned, fees included; what is held stands at its entry price.

    A fee in the base asset of a spot purchase has made what is held smaller, which is all it costs.
    """
    if market.kind != "spot" or side != "buy":
        return result(tally, market.base, market.quote, value)
    profit = tally.received - tally.paid
    residual = base_quantity(market, position.held, position.entry_price or Decimal(1))
    if residual > 0:
        profit += residual * (tally.paid / tally.bought)
    elif residual < 0:
        profit += residual * (tally.received / tally.sold)
    unvalued: dict[str, Decimal] = {}
    for asset, amount in tally.fees.items():
        if asset == market.base:
            continue
        price = Decimal(1) if asset == market.quote else value(asset, market.quote)
        if price is None:
            unvalued[asset] = amount
        else:
            profit -= amount * price
    return Result(tally=tally, profit=profit, residual=residual, unvalued=unvalued)
