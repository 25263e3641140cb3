"""Lists of an account's orders and fills, with Bybit's filters and cursors (newest first)."""

from __future__ import annotations

from collections.abc import Mapping
from decimal import Decimal
from typing import Any

from exchangesim.bybit import codec
from exchangesim.bybit.desk import read_id
from exchangesim.bybit.errors import bad_request
from exchangesim.bybit.stops import is_hidden, matches, read_filter
from exchangesim.core.accounts import Account
from exchangesim.core.exchange import SimExchange
from exchangesim.core.orders import Fill, Order

Json = dict[str, Any]
Parameters = Mapping[str, str]
RECENT_CLOSED = 500
"""How many closed orders order/realtime still knows."""
WEEK_MS = 7 * 24 * 3600 * 1000


def realtime(exchange: SimExchange, account: Account, parameters: Parameters) -> Json:
    """Return order/realtime: open orders; with ``openOnly=1`` the 500 newest closed ones; by id, whatever its state."""
    limit, below = _paging(parameters, default=20, most=50)
    native = parameters.get("symbol") or None
    orders: list[Order]
    if parameters.get("orderId") or parameters.get("orderLinkId"):
        orders = _one(exchange, account, parameters)
    elif parameters.get("openOnly") == "1":
        orders = exchange.shelf.stored(account, native=native, closed_only=True, limit=RECENT_CLOSED)
    else:
        orders = exchange.shelf.open(account, native)
    newest_first = [
        order for order in reversed(orders) if _wanted(order, parameters) and (below is None or order.id < below)
    ]
    return _page(newest_first, limit)


def history(exchange: SimExchange, account: Account, parameters: Parameters) -> Json:
    """Return order/history: closed orders of a week (of the last one unless times are given)."""
    limit, below = _paging(parameters, default=20, most=50)
    if parameters.get("orderId") or parameters.get("orderLinkId"):
        return _page([o for o in _one(exchange, account, parameters) if not o.is_open], limit)
    start, end = _span(exchange, parameters)
    orders = exchange.shelf.stored(
        account,
        native=parameters.get("symbol") or None,
        below_id=below,
        start_ms=start,
        end_ms=end,
        closed_only=True,
        limit=RECENT_CLOSED,
    )
    status = parameters.get("orderStatus")
    kept = [
        order
        for order in reversed(orders)
        if _wanted(order, parameters) and (not status or codec.order_status(order) == status)
    ]
    return _page(kept, limit)


def executions(exchange: SimExchange, account: Account, parameters: Parameters) -> Json:
    """Return execution/list: fills of a week, by symbol or order."""
    limit, below = _paging(parameters, default=50, most=100)
    order_id = None
    if parameters.get("orderId") or parameters.get("orderLinkId"):
        found = _one(exchange, account, parameters)
        order_id = found[0].id if found else -1
    start, end = _span(exchange, parameters)
    if parameters.get("execType", "Trade") != "Trade":
        fills: list[Fill] = []
    else:
        fills = exchange.shelf.fills(
            account,
            native=parameters.get("symbol") or None,
            order_id=order_id,
            below_id=below,
            start_ms=start,
            end_ms=end,
            limit=limit + 1,
        )[::-1]
    rows = []
    for fill in fills[:limit]:
        order = exchange.shelf.find(account, order_id=fill.order_id)
        if order is not None:
            rules = exchange.markets[fill.native].rules
            rows.append(codec.execution(fill, order, rules, _left_after(exchange, fill, order)))
    cursor = str(fills[limit - 1].trade_id) if len(fills) > limit else ""
    return {"nextPageCursor": cursor, "category": "spot", "list": rows}


def _left_after(exchange: SimExchange, fill: Fill, order: Order) -> Decimal:
    """Return what an order had left right after one of its fills."""
    later = exchange.store.fills(exchange.name, order_id=order.id, from_id=fill.trade_id + 1, limit=10_000)
    return order.quantity - order.filled + sum((one.quantity for one in later), Decimal(0))


def _one(exchange: SimExchange, account: Account, parameters: Parameters) -> list[Order]:
    native, order_id = parameters.get("symbol") or None, parameters.get("orderId")
    if order_id:
        order = exchange.shelf.find(account, native=native, order_id=read_id(order_id))
    else:
        order = exchange.shelf.find(account, native=native, client_id=parameters.get("orderLinkId"))
    return [] if order is None or is_hidden(order) else [order]


def _page(orders: list[Order], limit: int) -> Json:
    rows = [codec.order(order) for order in orders[:limit]]
    cursor = str(orders[limit - 1].id) if len(orders) > limit else ""
    return {"nextPageCursor": cursor, "category": "spot", "list": rows}


def _wanted(order: Order, parameters: Parameters) -> bool:
    """Tell whether an order is of the kind asked for by ``orderFilter``: of any without it."""
    return not is_hidden(order) and ("orderFilter" not in parameters or matches(order, read_filter(parameters)))


def _span(exchange: SimExchange, parameters: Parameters) -> tuple[int, int | None]:
    start, end = _whole(parameters, "startTime"), _whole(parameters, "endTime")
    if start is not None and end is not None and not 0 <= end - start <= WEEK_MS:
        raise bad_request("endTime must be within 7 days after startTime.")
    if start is None:
        start = (exchange.clock.time_ms() if end is None else end) - WEEK_MS
    return start, end if end is not None else start + WEEK_MS


def _paging(parameters: Parameters, *, default: int, most: int) -> tuple[int, int | None]:
    limit = _whole(parameters, "limit")
    if limit is not None and limit < 1:
        raise bad_request(f"limit must be from 1 to {most}.")
    cursor = _whole(parameters, "cursor")
    return min(limit or default, most), cursor


def _whole(parameters: Parameters, name: str) -> int | None:
    text = parameters.get(name, "")
    if not text:
        return None
    if not (text.isascii() and text.isdigit() and len(text) <= 19):
        raise bad_request(f"{name} must be a whole number.")
    return int(text)
