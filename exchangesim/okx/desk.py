"""OKX's order operations, for REST and WebSocket alike: arguments in, one result row a piece out.

A refusal is a row with ``sCode`` and ``sMsg``; what surrounds the rows differs by transport and is not made here.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping, Sequence
from decimal import Decimal
from typing import Any

from exchangesim.core.accounts import Account
from exchangesim.core.amend import amend
from exchangesim.core.exchange import SimExchange
from exchangesim.core.limits import Window
from exchangesim.core.market import SimMarket
from exchangesim.core.order_lists import NewList
from exchangesim.core.orders import NewOrder, Order, OrderType, Reject, Rejected, Side, TimeInForce
from exchangesim.core.text import read_decimal
from exchangesim.okx.errors import OkxError, amend_failed, from_reject, missing, too_frequent, unknown_instrument, wrong

Row = dict[str, Any]
Arguments = Mapping[str, object]
MAX_BATCH = 20

_CLIENT_ID = re.compile(r"[A-Za-z0-9]{1,32}")
_TAG = re.compile(r"[A-Za-z0-9]{0,16}")
SIDES = {"buy": Side.BUY, "sell": Side.SELL}
_LIMIT_TYPES = {
    "limit": (TimeInForce.GTC, False),
    "post_only": (TimeInForce.GTC, True),
    "ioc": (TimeInForce.IOC, False),
    "fok": (TimeInForce.FOK, False),
}


class OrderDesk:
    """Places, cancels and amends for one exchange, counting against the limits per user and instrument."""

    def __init__(
        self,
        exchange: SimExchange,
        read_attached: Callable[[Arguments, SimMarket, NewOrder], NewList | None],
        *,
        limits: bool,
    ) -> None:
        """``read_attached`` reads an order's ``attachAlgoOrds``."""
        self._exchange, self._read_attached = exchange, read_attached
        self._refuse = limits
        self.codes = dict(enumerate(exchange.markets.values(), start=1))
        """Markets by ``instIdCode``."""
        self._places, self._cancels, self._amends = (
            Window(exchange.clock, limit=60, seconds=2, aligned=False) for _ in range(3)
        )
        # Batches share one allowance of 300 orders in 2 seconds, apart from single orders.
        self._batch_places, self._batch_cancels = (
            Window(exchange.clock, limit=300, seconds=2, aligned=False) for _ in range(2)
        )

    def place(self, account: Account, arguments: Sequence[Arguments], *, batch: bool) -> list[Row]:
        rows = self._each(account, arguments, self._place, self._batch_places if batch else self._places)
        for row, one in zip(rows, arguments, strict=True):
            row["tag"] = str(one.get("tag") or "")
        return rows

    def cancel(self, account: Account, arguments: Sequence[Arguments], *, batch: bool) -> list[Row]:
        return self._each(account, arguments, self._cancel, self._batch_cancels if batch else self._cancels)

    def amend(self, account: Account, arguments: Sequence[Arguments]) -> list[Row]:
        return self._each(account, arguments, self._amend, self._amends)

    def market(self, arguments: Arguments) -> SimMarket:
        """Return the market that ``instId`` or ``instIdCode`` names. Raises OkxError."""
        native, code = arguments.get("instId"), arguments.get("instIdCode")
        if not native and code in (None, ""):
            raise missing("instId")
        market = self._exchange.markets.get(str(native)) if native else self.codes.get(whole(code))
        if market is None:
            raise unknown_instrument()
        return market

    def find(self, account: Account, arguments: Arguments) -> Order | None:
        """Return the order that ``ordId`` (first) or ``clOrdId`` names. Raises OkxError when neither is given."""
        market = self.market(arguments)
        order_id, client_id = str(arguments.get("ordId") or ""), str(arguments.get("clOrdId") or "")
        if order_id:
            return _shown(self._exchange.shelf.find(account, native=market.native, order_id=whole(order_id)))
        if not client_id:
            raise OkxError("51407", "Either order ID or client order ID is required")
        return _shown(self._exchange.shelf.find(account, native=market.native, client_id=client_id))

    def _each(
        self,
        account: Account,
        arguments: Sequence[Arguments],
        operate: Callable[[Account, Arguments], Row],
        window: Window,
    ) -> list[Row]:
        rows = []
        for one in arguments:
            row: Row = {"clOrdId": str(one.get("clOrdId") or ""), "ordId": str(one.get("ordId") or "")}
            try:
                key = f"{account.uid}:{one.get('instId') or one.get('instIdCode')}"
                if not window.spend(key).allowed and self._refuse:
                    raise too_frequent()
                row |= operate(account, one) | {"sCode": "0", "sMsg": ""}
            except OkxError as error:
                row |= {"sCode": error.code, "sMsg": error.message}
            row["ts"] = str(self._exchange.clock.time_ms())
            rows.append(row)
        return rows

    def _place(self, account: Account, arguments: Arguments) -> Row:
        _permit(account)
        market = self.market(arguments)
        new = read_order(arguments, market)
        attached = self._read_attached(arguments, market, new)
        try:
            if attached is not None:
                placed = self._exchange.lists.place(account, attached)
                return {"ordId": str(placed.working)}
            order = self._exchange.place(account, new)
        except Rejected as rejected:
            raise from_reject(rejected, market) from None
        return {"ordId": str(order.id)}

    def _cancel(self, account: Account, arguments: Arguments) -> Row:
        _permit(account)
        order = self.find(account, arguments)
        try:
            if order is None:
                raise Rejected(Reject.ORDER_NOT_FOUND, "no such order")
            self._exchange.cancel(account, order_id=order.id)
        except Rejected as rejected:
            raise from_reject(rejected) from None
        return {"ordId": str(order.id), "clOrdId": order.client_id}

    def _amend(self, account: Account, arguments: Arguments) -> Row:
        _permit(account)
        order = self.find(account, arguments)
        quantity, price = _optional(arguments, "newSz"), _optional(arguments, "newPx")
        if quantity is None and price is None:
            raise OkxError("50015", "Either parameter newSz or newPx is required")
        if order is None:
            raise amend_failed()
        try:
            amend(self._exchange, account, order, price=price, quantity=quantity)
        except Rejected as rejected:
            if rejected.reason in (Reject.ORDER_CLOSED, Reject.ORDER_NOT_FOUND):
                raise amend_failed() from None
            raise from_reject(rejected, self._exchange.markets[order.native]) from None
        return {"ordId": str(order.id), "clOrdId": order.client_id, "reqId": str(arguments.get("reqId") or "")}


def _shown(order: Order | None) -> Order | None:
    """Hide the legs of algo orders that have not been triggered: they are no orders yet."""
    return None if order is None or order.idle else order


def _permit(account: Account) -> None:
    if "trade" not in account.permissions:
        raise from_reject(Rejected(Reject.PERMISSION, "may not trade"))


def read_order(arguments: Arguments, market: SimMarket) -> NewOrder:
    """Read the arguments of a new spot order. Raises OkxError naming the first parameter that is wrong."""

    def text(name: str) -> str:
        value = arguments.get(name)
        if value in (None, ""):
            raise missing(name)
        return str(value)

    if text("tdMode") != "cash":
        raise wrong("tdMode")
    side = SIDES.get(text("side"))
    if side is None:
        raise wrong("side")
    kind = text("ordType")
    if kind != "market" and kind not in _LIMIT_TYPES:
        raise wrong("ordType")
    size = read_decimal(text("sz"))
    if size is None or size == 0:
        raise wrong("sz")
    client_id, tag = check_id(arguments, "clOrdId"), check_tag(arguments)
    if kind == "market":
        default = "quote_ccy" if side is Side.BUY else "base_ccy"
        target = str(arguments.get("tgtCcy") or default)
        if target not in ("base_ccy", "quote_ccy"):
            raise wrong("tgtCcy")
        by_quote = target == "quote_ccy"
        return NewOrder(
            native=market.native,
            side=side,
            type=OrderType.MARKET,
            time_in_force=TimeInForce.IOC,
            quantity=None if by_quote else size,
            quote_quantity=size if by_quote else None,
            client_id=client_id,
            tags={"tag": tag},
        )
    price = read_decimal(text("px"))
    if price is None or price == 0:
        raise wrong("px")
    time_in_force, post_only = _LIMIT_TYPES[kind]
    return NewOrder(
        native=market.native,
        side=side,
        type=OrderType.LIMIT,
        time_in_force=time_in_force,
        price=price,
        quantity=size,
        post_only=post_only,
        client_id=client_id,
        tags={"tag": tag},
    )


def check_id(arguments: Arguments, name: str) -> str:
    """Return a client's id, empty when there is none. Raises OkxError."""
    client_id = str(arguments.get(name) or "")
    if client_id and not _CLIENT_ID.fullmatch(client_id):
        raise wrong(name)
    return client_id


def check_tag(arguments: Arguments) -> str:
    tag = str(arguments.get("tag") or "")
    if not _TAG.fullmatch(tag):
        raise wrong("tag")
    return tag


def _optional(arguments: Arguments, name: str) -> Decimal | None:
    value = arguments.get(name)
    if value in (None, ""):
        return None
    number = read_decimal(value)
    if number is None or number == 0:
        raise wrong(name)
    return number


def whole(value: object) -> int:
    """Return a whole number of at most 19 digits, -1 for anything else."""
    text = str(value)
    return int(text) if text.isascii() and text.isdigit() and len(text) < 20 else -1
