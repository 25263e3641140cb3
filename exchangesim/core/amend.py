"""Changing price or quantity of an open order in place, for exchanges whose orders keep their id through it.

A part of ``SimExchange`` in a file of its own, hence the use of what that class keeps to itself.
"""

from __future__ import annotations

from dataclasses import replace
from decimal import Decimal
from typing import TYPE_CHECKING

from exchangesim.core.accounts import Account
from exchangesim.core.checks import check_shape
from exchangesim.core.matching import match_quantity
from exchangesim.core.orders import (
    CloseReason,
    ExecutionType,
    NewOrder,
    Order,
    Reject,
    Rejected,
    Side,
    Status,
)

if TYPE_CHECKING:
    from exchangesim.core.exchange import SimExchange


def amend(
    exchange: SimExchange,
    account: Account,
    order: Order,
    *,
    price: Decimal | None = None,
    quantity: Decimal | None = None,
) -> Order:
    """Give an open limit order a new price, a new total quantity, or both, and match it anew if it now crosses.

    The order keeps its place in the queue only when its price stays and its quantity shrinks. Raises Rejected (nothing
    is changed then): ORDER_CLOSED, BAD_QUANTITY when no more than the filled part would be left, and what a new order
    of that shape would be refused for.
    """
    if not order.is_open:
        raise Rejected(Reject.ORDER_CLOSED, f"The order is {order.status}.", order=order)
    if order.idle:
        raise Rejected(Reject.ORDER_CLOSED, "An order that waits for its trigger cannot be amended.", order=order)
    market = exchange.markets[order.native]
    new_price, new_quantity = price or order.price, quantity or order.quantity
    wanted = NewOrder(
        native=order.native,
        side=order.side,
        type=order.type,
        time_in_force=order.time_in_force,
        price=new_price,
        quantity=new_quantity,
        post_only=order.post_only,
    )
    check_shape(wanted, market)
    if new_quantity <= order.filled:
        raise Rejected(Reject.BAD_QUANTITY, f"{order.filled} of the order is filled, {new_quantity} is not more.")
    rest = new_quantity - order.filled
    needed = rest * new_price if order.side is Side.BUY else rest
    asset = order.reserved_asset
    if needed > account.free(asset) + order.reserved:
        raise Rejected(Reject.INSUFFICIENT_BALANCE, f"The order would need {needed:f} {asset}.", asset=asset)

    now = exchange.clock.time_ms()
    own = market.book.side(order.side)
    keeps_place = new_price == order.price and new_quantity <= order.quantity
    if not keeps_place:
        own.remove(order)
    account.release(asset, order.reserved)
    account.reserve(asset, needed)
    order.reserved, order.price, order.quantity = needed, new_price, new_quantity
    exchange._settlement.report(account, order, ExecutionType.AMENDED, now)
    if keeps_place:
        own.changed.add(order.price)
    elif order.post_only and exchange._would_take(replace(wanted, quantity=rest), market):
        exchange._settlement.end(account, order, Status.CANCELED, CloseReason.POST_ONLY_WOULD_TAKE, now)
    else:
        pieces = match_quantity(market.book.side(order.side.opposite), rest, order.price)
        exchange._settlement.settle(market, order.side, pieces, taker=order, now=now)
        exchange._rest_or_end(account, market, order, now)
    exchange._finish(market, now)
    return order
