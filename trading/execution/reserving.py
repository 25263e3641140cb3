"""What an order takes from its account: while it may live, and in the end."""

from __future__ import annotations

from decimal import Decimal

from trading.execution.order import Order
from trading.instruments import Market, Side, base_quantity
from trading.margin import initial_margin


def needed(
    market: Market,
    side: Side,
    quantity: Decimal,
    price: Decimal,
    *,
    leverage: int | None = None,
    mark: Decimal | None = None,
) -> tuple[str, Decimal]:
    """Return the asset and the most an order of ``quantity`` (own unit) at its limit can take, taker fee included.

    Spot buys take quote, spot sells base. A derivative's order is covered in its settlement asset: by its initial
    margin on a linear contract whose ``leverage`` is known, with what is lost at once where the limit is worse than
    ``mark`` (the middle, where the exchange's own price is not known); else by its whole notional, as if leverage were
    one.
    """
    base = base_quantity(market, quantity, price)
    if market.kind == "linear" and leverage is not None:
        fee = base * price * (market.most_with_fee - 1)
        return market.settle or market.quote, initial_margin(side, base, price, leverage, mark) + fee
    return taken(market, side, base, price)


def taken(market: Market, side: Side, base: Decimal, price: Decimal) -> tuple[str, Decimal]:
    """Return what :func:`needed` says of a quantity in base units, without leverage."""
    fees = market.most_with_fee
    if market.kind == "spot":
        return (market.quote, base * price * fees) if side == "buy" else (market.base, base)
    if market.kind == "inverse":
        return market.settle or market.base, base * fees
    return market.settle or market.quote, base * price * fees


def spent(order: Order, market: Market) -> Decimal:
    """Return what a settled order took of the asset :func:`needed` names, from its fills and their fees.

    A derivative's order took that part of its reservation that was filled: it says by which leverage.
    """
    if market.kind != "spot":
        return order.intent.reserve_amount * order.filled / order.intent.quantity
    asset, _ = needed(market, order.intent.side, order.intent.quantity, order.intent.price)
    amount = Decimal(0)
    for fill in order.fills.values():
        amount += needed(market, order.intent.side, fill.quantity, fill.price)[1]
        if order.intent.side == "buy":  # the fee may be in base, or in a third asset: count what is known
            amount -= amount_of_fee(market, fill.quantity, fill.price)
        if fill.fee is not None and fill.fee_asset == asset:
            amount += fill.fee
    return amount


def amount_of_fee(market: Market, quantity: Decimal, price: Decimal) -> Decimal:
    """Return the fee that :func:`needed` allows for on a spot buy."""
    return base_quantity(market, quantity, price) * price * max(market.taker_fee, market.maker_fee, Decimal(0))
