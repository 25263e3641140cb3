"""Bybit's order operations, for REST and WebSocket alike: create, amend, cancel, with Bybit's checks and limits."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from decimal import Decimal
from typing import Any

from exchangesim.bybit.errors import BybitError, bad_request, empty, from_reject, invalid, not_allowed
from exchangesim.bybit.stops import is_hidden, make_conditional, matches, read_exits, read_filter
from exchangesim.core.accounts import Account
from exchangesim.core.amend import amend
from exchangesim.core.exchange import SimExchange
from exchangesim.core.limits import Window
from exchangesim.core.market import SimMarket
from exchangesim.core.orders import NewOrder, Order, OrderType, Reject, Rejected, Side, TimeInForce
from exchangesim.core.text import plain, read_decimal

Json = dict[str, Any]
Arguments = Mapping[str, object]
CATEGORIES = ("spot", "linear", "inverse", "option")
MAX_BATCH = 10

_LINK_ID = re.compile(r"[A-Za-z0-9_-]{1,36}")
_SIDES = {"Buy": Side.BUY, "Sell": Side.SELL}
_TIMES = {
    "GTC": (TimeInForce.GTC, False),
    "IOC": (TimeInForce.IOC, False),
    "FOK": (TimeInForce.FOK, False),
    "PostOnly": (TimeInForce.GTC, True),
}


@dataclass(frozen=True, slots=True)
class Allowance:
    """What is left of a limit after a request: what the ``X-Bapi-Limit`` headers tell."""

    allowed: bool
    limit: int
    left: int
    reset_ms: int

    def headers(self) -> dict[str, str]:
        return {
            "X-Bapi-Limit": str(self.limit),
            "X-Bapi-Limit-Status": str(self.left),
            "X-Bapi-Limit-Reset-Timestamp": str(self.reset_ms),
        }


class Allowances:
    """Requests per second and user, by operation; REST and WebSocket orders count together."""

    def __init__(self, exchange: SimExchange, limits: Mapping[str, int]) -> None:
        self._clock = exchange.clock
        self._windows = {
            operation: Window(exchange.clock, limit=limit, seconds=1, aligned=False)
            for operation, limit in limits.items()
        }

    def spend(self, operation: str, account: Account, amount: int = 1) -> Allowance:
        spent = self._windows[operation].spend(str(account.uid), amount)
        now = self._clock.time_ms()
        reset = now if spent.allowed else now + int(spent.retry_after * 1000)
        return Allowance(spent.allowed, spent.limit, max(0, spent.limit - spent.used), reset)


class OrderDesk:
    """Creates, amends and cancels for one exchange. Every operation returns ``result`` or raises BybitError."""

    def __init__(self, exchange: SimExchange) -> None:
        self._exchange = exchange

    def create(self, account: Account, arguments: Arguments) -> Json:
        if "trade" not in account.permissions:
            raise not_allowed()
        market = self.market(arguments)
        new = make_conditional(arguments, market, read_order(arguments, market))
        exits = read_exits(arguments, new)
        try:
            if exits is not None:
                placed = self._exchange.lists.place(account, exits)
                return {"orderId": str(placed.working), "orderLinkId": new.client_id}
            order = self._exchange.place(account, new)
        except Rejected as rejected:
            raise from_reject(rejected, market, new.price) from None
        return _ids(order)

    def amend(self, account: Account, arguments: Arguments) -> Json:
        order = self._find_open(account, arguments)
        quantity, price = _optional(arguments, "qty"), _optional(arguments, "price")
        if quantity is None and price is None:
            raise bad_request("nothing to amend: give qty or price.")
        try:
            amend(self._exchange, account, order, price=price, quantity=quantity)
        except Rejected as rejected:
            raise from_reject(rejected, self._exchange.markets[order.native], price) from None
        return _ids(order)

    def cancel(self, account: Account, arguments: Arguments) -> Json:
        order = self._find_open(account, arguments)
        if not matches(order, read_filter(arguments)):
            raise from_reject(Rejected(Reject.ORDER_NOT_FOUND, "not of this kind"))
        try:
            self._exchange.cancel(account, order_id=order.id)
        except Rejected as rejected:
            raise from_reject(rejected) from None
        return _ids(order)

    def cancel_all(self, account: Account, arguments: Arguments) -> Json:
        check_category(arguments.get("category"))
        native = None
        if arguments.get("symbol"):
            native = self.market(arguments).native
        wanted = read_filter(arguments)
        orders = [order for order in self._exchange.shelf.open(account, native) if matches(order, wanted)]
        for order in orders:
            if order.is_open:  # one exit takes the other along
                self._exchange.cancel(account, order_id=order.id)
        return {"list": [_ids(order) for order in orders], "success": "1"}

    def market(self, arguments: Arguments) -> SimMarket:
        """Return the spot market that ``category`` and ``symbol`` name. Raises BybitError."""
        if check_category(arguments.get("category")) != "spot":
            raise BybitError(10001, "Illegal category: only spot is traded here.")
        symbol = arguments.get("symbol")
        if not symbol:
            raise empty("symbol")
        market = self._exchange.markets.get(str(symbol))
        if market is None:
            raise from_reject(Rejected(Reject.UNKNOWN_SYMBOL, "unknown"))
        return market

    def _find_open(self, account: Account, arguments: Arguments) -> Order:
        """Return the open order that ``orderId`` (first) or ``orderLinkId`` names. Raises BybitError."""
        if "trade" not in account.permissions:
            raise not_allowed()
        market = self.market(arguments)
        order_id, link_id = str(arguments.get("orderId") or ""), str(arguments.get("orderLinkId") or "")
        if order_id:
            order = self._exchange.shelf.find(account, native=market.native, order_id=read_id(order_id))
        elif link_id:
            order = self._exchange.shelf.find(account, native=market.native, client_id=link_id)
        else:
            raise empty("orderId")
        if order is None or not order.is_open or is_hidden(order):
            raise from_reject(Rejected(Reject.ORDER_NOT_FOUND, "not open"))
        return order


def check_category(value: object) -> str:
    """Return a product category. Raises BybitError for anything else."""
    if value not in CATEGORIES:
        raise BybitError(10001, "Illegal category")
    return str(value)


def read_id(text: str) -> int:
    """Return an order id as a number, -1 (which no order has) for text that is none."""
    return int(text) if text.isascii() and text.isdigit() and len(text) <= 19 else -1


def read_order(arguments: Arguments, market: SimMarket) -> NewOrder:
    """Read the arguments of a new spot order. Raises BybitError naming the first parameter that is wrong."""
    side = _SIDES.get(str(arguments.get("side") or ""))
    if side is None:
        raise BybitError(170117, "Invalid side.")
    kind = arguments.get("orderType")
    if kind not in ("Limit", "Market"):
        raise BybitError(170116, "Invalid orderType.")
    if str(arguments.get("isLeverage") or "0") not in ("0", "False"):
        raise BybitError(170036, "You haven't enabled Cross Margin Trading yet.")
    link_id = str(arguments.get("orderLinkId") or "")
    if link_id and not _LINK_ID.fullmatch(link_id):
        raise invalid("orderLinkId")
    quantity = _needed(arguments, "qty")
    tags = {"last_price": plain(market.last_price)}
    if kind == "Market":
        unit = str(arguments.get("marketUnit") or ("quoteCoin" if side is Side.BUY else "baseCoin"))
        if unit not in ("baseCoin", "quoteCoin"):
            raise invalid("marketUnit")
        by_quote = unit == "quoteCoin"
        return NewOrder(
            native=market.native,
            side=side,
            type=OrderType.MARKET,
            time_in_force=TimeInForce.IOC,
            quantity=None if by_quote else quantity,
            quote_quantity=quantity if by_quote else None,
            client_id=link_id,
            tags=tags,
        )
    time_in_force = _TIMES.get(str(arguments.get("timeInForce") or "GTC"))
    if time_in_force is None:
        raise BybitError(170115, "Invalid timeInForce.")
    return NewOrder(
        native=market.native,
        side=side,
        type=OrderType.LIMIT,
        time_in_force=time_in_force[0],
        post_only=time_in_force[1],
        price=_needed(arguments, "price"),
        quantity=quantity,
        client_id=link_id,
        tags=tags,
    )


def _needed(arguments: Arguments, name: str) -> Decimal:
    number = _optional(arguments, name)
    if number is None:
        raise empty(name)
    return number


def _optional(arguments: Arguments, name: str) -> Decimal | None:
    value = arguments.get(name)
    if value in (None, ""):
        return None
    number = read_decimal(value)
    if number is None or number == 0:
        raise invalid(name)
    return number


def _ids(order: Order) -> Json:
    return {"orderId": str(order.id), "orderLinkId": order.client_id}
