"""An account's orders and fills in lists: OKX's filters and paging (newest first, ``after`` and ``before`` are ids)."""

from __future__ import annotations

from collections.abc import Mapping

from exchangesim.core.accounts import Account
from exchangesim.core.exchange import SimExchange
from exchangesim.core.orders import Order, Status
from exchangesim.okx import codec
from exchangesim.okx.codec import Json
from exchangesim.okx.errors import OkxError, wrong

Parameters = Mapping[str, str]
MAX_ROWS = 100
_PAGE = 500
_STATES = {
    "live": (Status.NEW,),
    "partially_filled": (Status.PARTIALLY_FILLED,),
    "filled": (Status.FILLED,),
    "canceled": (Status.CANCELED, Status.EXPIRED),
}


def pending(exchange: SimExchange, account: Account, parameters: Parameters) -> list[Json]:
    """Return trade/orders-pending."""
    if _not_spot(parameters):
        return []
    limit, after, before = _paging(parameters)
    orders = [
        order
        for order in reversed(exchange.shelf.open(account, parameters.get("instId") or None))
        if _wanted(order, parameters) and (after is None or order.id < after) and (before is None or order.id > before)
    ]
    return [_row(exchange, order) for order in orders[:limit]]


def history(exchange: SimExchange, account: Account, parameters: Parameters) -> list[Json]:
    """Return trade/orders-history and its archive: closed orders."""
    if _not_spot(parameters):
        return []
    limit, after, before = _paging(parameters)
    found: list[Order] = []
    while len(found) < limit:
        page = exchange.shelf.stored(
            account,
            native=parameters.get("instId") or None,
            below_id=after,
            from_id=None if before is None else before + 1,
            start_ms=_whole(parameters, "begin"),
            end_ms=_whole(parameters, "end"),
            closed_only=True,
            limit=_PAGE,
        )
        found += [order for order in reversed(page) if _wanted(order, parameters)]
        if len(page) < _PAGE:
            break
        after = page[0].id
    return [_row(exchange, order) for order in found[:limit]]


def fills(exchange: SimExchange, account: Account, parameters: Parameters) -> list[Json]:
    """Return trade/fills and fills-history; pages go by ``billId``."""
    if _not_spot(parameters):
        return []
    limit, after, before = _paging(parameters)
    rows = exchange.shelf.fills(
        account,
        native=parameters.get("instId") or None,
        order_id=_whole(parameters, "ordId"),
        below_id=None if after is None else after // 2 + 1,
        from_id=None if before is None else before // 2,
        start_ms=_whole(parameters, "begin"),
        end_ms=_whole(parameters, "end"),
        limit=limit + 2,
    )
    newest_first = sorted(rows, key=codec.bill_id, reverse=True)
    kept = [
        own
        for own in newest_first
        if (after is None or codec.bill_id(own) < after) and (before is None or codec.bill_id(own) > before)
    ]
    return [codec.fill(own, exchange.shelf.find(account, order_id=own.order_id)) for own in kept[:limit]]


def _row(exchange: SimExchange, order: Order) -> Json:
    return codec.order(order, exchange.markets[order.native].rules, order.last_fill)


def _wanted(order: Order, parameters: Parameters) -> bool:
    types, state = parameters.get("ordType", ""), parameters.get("state", "")
    if state and state not in _STATES:
        raise wrong("state")
    if order.idle:  # the leg of an algo order that was not triggered
        return False
    return (not types or codec.order_type(order) in types.split(",")) and (not state or order.status in _STATES[state])


def _not_spot(parameters: Parameters) -> bool:
    return parameters.get("instType", "SPOT") not in ("SPOT", "ANY", "")


def _paging(parameters: Parameters) -> tuple[int, int | None, int | None]:
    limit = _whole(parameters, "limit")
    if limit is not None and not 1 <= limit <= MAX_ROWS:
        raise wrong("limit")
    return limit or MAX_ROWS, _whole(parameters, "after"), _whole(parameters, "before")


def _whole(parameters: Parameters, name: str) -> int | None:
    text = parameters.get(name, "")
    if not text:
        return None
    if not (text.isascii() and text.isdigit() and len(text) <= 19):
        raise OkxError("51000", f"Parameter {name} error")
    return int(text)
