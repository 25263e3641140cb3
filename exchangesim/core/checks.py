"""The checks an order passes before it is accepted, in the order exchanges make them."""

from __future__ import annotations

from decimal import Decimal

from exchangesim.core.accounts import Account
from exchangesim.core.market import SimMarket
from exchangesim.core.matching import cost_of
from exchangesim.core.orders import NewOrder, OrderType, Reject, Rejected, Side
from exchangesim.core.rules import SymbolRules


def _positive(value: Decimal | None) -> bool:
    return value is not None and value.is_finite() and value > 0


def check_shape(new: NewOrder, market: SimMarket) -> None:
    """Refuse prices and quantities that break the market's rules. Raises Rejected."""
    rules = market.rules
    if market.halted:
        raise Rejected(Reject.SYMBOL_HALTED, f"{rules.native} is not trading.")
    if new.trigger is not None:
        check_tick("trigger price", new.trigger.price, rules)
        if new.quote_quantity is not None and new.side is Side.SELL:
            raise Rejected(Reject.BAD_QUANTITY, "A conditional sell is given by its base quantity.")
    if new.type is OrderType.LIMIT:
        _check_price(new.price, rules, market)
        if new.quantity is None:
            raise Rejected(Reject.BAD_QUANTITY, "A limit order needs a quantity.")
    if (new.quantity is None) == (new.quote_quantity is None):
        raise Rejected(Reject.BAD_QUANTITY, "Give either quantity or quote_quantity.")
    if new.quantity is not None:
        _check_quantity(new.quantity, rules)
        price = new.price if new.type is OrderType.LIMIT and new.price is not None else _market_price(new, market)
        notional = price * new.quantity
    else:
        if not _positive(new.quote_quantity):
            raise Rejected(Reject.BAD_QUANTITY, f"quote quantity {new.quote_quantity} is not a positive number.")
        assert new.quote_quantity is not None
        notional = new.quote_quantity
        if notional > rules.max_quantity * market.last_price:
            raise Rejected(Reject.QUANTITY_TOO_LARGE, f"quote quantity {notional} is above what the market allows.")
    if notional < rules.min_notional and not new.reduce_only:
        raise Rejected(
            Reject.NOTIONAL_TOO_SMALL,
            f"price x quantity is {notional.normalize():f} {rules.quote}, the least is {rules.min_notional}.",
        )


def check_funds(new: NewOrder, market: SimMarket, account: Account) -> Decimal:
    """Return what the order would reserve; raise Rejected when the account has less of it free.

    A market buy by base quantity reserves what it would cost against the book of now, a conditional one what it would
    cost at its trigger price.
    """
    rules = market.rules
    if new.side is Side.SELL:
        asset = rules.base
        if new.quantity is not None:
            needed = new.quantity
        else:  # enough base to raise the quote amount at the best bid; the fill stops at what is free
            assert new.quote_quantity is not None
            needed = min(new.quote_quantity / _market_price(new, market), account.free(asset))
            if needed < rules.min_quantity:
                raise Rejected(Reject.INSUFFICIENT_BALANCE, f"{account.free(asset)} {asset} free.", asset=asset)
            return account.free(asset)
    else:
        asset = rules.quote
        if new.quote_quantity is not None:
            needed = new.quote_quantity
        elif new.type is OrderType.LIMIT:
            assert new.price is not None
            assert new.quantity is not None
            needed = new.price * new.quantity
        elif new.trigger is not None:
            assert new.quantity is not None
            needed = new.trigger.price * new.quantity
        else:
            assert new.quantity is not None
            needed = cost_of(market.book.asks, new.quantity)
    free = account.free(asset)
    if needed > free:
        raise Rejected(
            Reject.INSUFFICIENT_BALANCE, f"The order needs {needed:f} {asset} and {free:f} is free.", asset=asset
        )
    return needed


def _check_price(price: Decimal | None, rules: SymbolRules, market: SimMarket) -> None:
    if price is None or not _positive(price):
        raise Rejected(Reject.BAD_PRICE, f"price {price} is not a positive number.")
    last = market.band_price or market.last_price
    if price > last * rules.price_band or price * rules.price_band < last:
        raise Rejected(Reject.PRICE_BAND, f"price {price} is more than {rules.price_band} times away from {last}.")
    check_tick("price", price, rules)


def check_tick(name: str, price: Decimal, rules: SymbolRules) -> None:
    """Refuse a price that is not a positive multiple of the tick. Raises Rejected."""
    if not _positive(price):
        raise Rejected(Reject.BAD_PRICE, f"{name} {price} is not a positive number.")
    if price % rules.tick != 0:
        raise Rejected(Reject.PRICE_TICK, f"{name} {price} is not a multiple of the tick {rules.tick}.")


def _check_quantity(quantity: Decimal, rules: SymbolRules) -> None:
    if not _positive(quantity):
        raise Rejected(Reject.BAD_QUANTITY, f"quantity {quantity} is not a positive number.")
    if quantity > rules.max_quantity:
        raise Rejected(Reject.QUANTITY_TOO_LARGE, f"quantity {quantity} is above the most, {rules.max_quantity}.")
    if quantity < rules.min_quantity:
        raise Rejected(Reject.QUANTITY_TOO_SMALL, f"quantity {quantity} is below the least, {rules.min_quantity}.")
    if quantity % rules.lot != 0:
        raise Rejected(Reject.QUANTITY_LOT, f"quantity {quantity} is not a multiple of the lot {rules.lot}.")


def _market_price(new: NewOrder, market: SimMarket) -> Decimal:
    """Return the price a market order is judged at: its trigger, else the best opposite one, or the last."""
    if new.trigger is not None:
        return new.trigger.price
    best = market.book.side(new.side.opposite).best
    return market.last_price if best is None else best
