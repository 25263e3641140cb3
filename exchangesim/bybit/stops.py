"""Bybit's conditional orders on spot: TP/SL and stop orders, and the exits of a limit order.

A ``tpslOrder`` locks its funds while it waits, a ``StopOrder`` does not and is rejected when it is triggered without
them. A limit order's ``takeProfit`` and ``stopLoss`` become orders of their own when it is filled, for what it has
brought; of two (``BidirectionalTpslOrder``) one ends the other.

Source: https://bybit-exchange.github.io/docs/v5/order/create-order
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from decimal import Decimal

from exchangesim.bybit.errors import BybitError, bad_request, invalid
from exchangesim.core.market import SimMarket
from exchangesim.core.order_lists import NewList
from exchangesim.core.orders import CloseReason, NewOrder, Order, OrderType, Side, Status, Trigger
from exchangesim.core.text import plain, read_decimal

Arguments = Mapping[str, object]
PLAIN, TPSL, STOP, BOTH = "Order", "tpslOrder", "StopOrder", "BidirectionalTpslOrder"
FILTERS = (PLAIN, TPSL, STOP, "OcoOrder", BOTH)
_STOP_TYPES = {TPSL: "tpslOrder", STOP: "Stop", BOTH: "BidirectionalTpslOrder"}


def read_filter(arguments: Arguments) -> str:
    """Return the kind of order that ``orderFilter`` names, plain orders without it. Raises BybitError."""
    given = str(arguments.get("orderFilter") or PLAIN)
    if given not in FILTERS:
        raise BybitError(170202, "Invalid orderFilter parameter.")
    return given


def matches(order: Order, wanted: str) -> bool:
    """Tell whether an order is of a kind: a triggered one is a plain order too."""
    return wanted == order.tags.get("filter", PLAIN) or (wanted == PLAIN and not order.idle)


def is_hidden(order: Order) -> bool:
    """Tell whether an order is an exit that has not come to be: its limit order is not filled, or never was."""
    return order.status is Status.PENDING_NEW or (order.idle and order.close_reason is CloseReason.WORKING_ENDED)


def stop_type(order: Order) -> str:
    return _STOP_TYPES.get(order.tags.get("filter", PLAIN), "")


def make_conditional(arguments: Arguments, market: SimMarket, new: NewOrder) -> NewOrder:
    """Give an order read from these arguments the trigger they name. Raises BybitError."""
    kind = read_filter(arguments)
    price = _price(arguments, "triggerPrice")
    if kind == PLAIN and price is None:
        return new
    if kind not in (TPSL, STOP):
        raise BybitError(170202, "Invalid orderFilter parameter.")
    if price is None:
        raise BybitError(170203, "Please enter the TP/SL price.")
    if new.quote_quantity is not None and new.side is Side.SELL:
        raise bad_request("marketUnit of a conditional sell must be baseCoin.")
    trigger = Trigger(price=price, rises=price > market.last_price, reserves=kind == TPSL)
    return replace(new, trigger=trigger, tags=new.tags | {"filter": kind})


def read_exits(arguments: Arguments, new: NewOrder) -> NewList | None:
    """Return an order with the exits these arguments give it, None when they give none. Raises BybitError."""
    names = [name for name in ("takeProfit", "stopLoss") if _price(arguments, name) is not None]
    if not names:
        return None
    if new.type is not OrderType.LIMIT or new.trigger is not None:
        raise bad_request(f"{names[0]} is for limit orders only.")
    assert new.price is not None
    legs = []
    for name in names:
        price, short = _price(arguments, name), {"takeProfit": "tp", "stopLoss": "sl"}[name]
        assert price is not None
        rises = (name == "takeProfit") == (new.side is Side.BUY)
        if (price > new.price) != rises:
            raise invalid(name)
        legs.append(_exit(arguments, new, short, Trigger(price=price, rises=rises), BOTH if len(names) > 1 else TPSL))
    told = {name: str(arguments[name]) for name in (*names, "tpLimitPrice", "slLimitPrice") if arguments.get(name)}
    return NewList(legs=tuple(legs), working=replace(new, tags=new.tags | told), legs_take_fill=True)


def _exit(arguments: Arguments, new: NewOrder, short: str, trigger: Trigger, kind: str) -> NewOrder:
    order_type = str(arguments.get(f"{short}OrderType") or "Market")
    if order_type not in ("Market", "Limit"):
        raise invalid(f"{short}OrderType")
    limit = _price(arguments, f"{short}LimitPrice")
    if (order_type == "Limit") != (limit is not None):
        raise invalid(f"{short}LimitPrice")
    return NewOrder(
        native=new.native,
        side=new.side.opposite,
        type=OrderType.MARKET if limit is None else OrderType.LIMIT,
        price=limit,
        quantity=new.quantity,
        trigger=trigger,
        tags={"filter": kind, "last_price": new.tags.get("last_price", plain(trigger.price))},
    )


def _price(arguments: Arguments, name: str) -> Decimal | None:
    value = arguments.get(name)
    if value in (None, "", "0"):
        return None
    number = read_decimal(value)
    if number is None or number == 0:
        raise invalid(name)
    return number
