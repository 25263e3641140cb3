"""Orders: reading an order request, placing, testing, cancelling, asking."""

from __future__ import annotations

import uuid

from exchangesim.binance import codec
from exchangesim.binance.errors import (
    BAD_SYMBOL,
    NO_SUCH_ORDER,
    UNKNOWN_ORDER,
    ApiError,
    missing,
    missing_both,
    refusal,
)
from exchangesim.binance.order_reader import ORDER_NAMES, need_side, read_order, read_response_type
from exchangesim.binance.parameters import Parameters
from exchangesim.core.accounts import Account
from exchangesim.core.exchange import SimExchange
from exchangesim.core.market import SimMarket
from exchangesim.core.order_lists import OrderList
from exchangesim.core.orders import NewOrder, Order, Rejected, Status


def market_of(exchange: SimExchange, native: str | None) -> SimMarket:
    """Return the market of a mandatory symbol; raises -1102 or -1121."""
    if native is None:
        raise missing("symbol")
    market = exchange.markets.get(native)
    if market is None:
        raise ApiError(*BAD_SYMBOL)
    return market


class Trading:
    """The trading calls of one exchange. Each takes read parameters and returns the answer's value."""

    def __init__(self, exchange: SimExchange) -> None:
        self._exchange = exchange

    def read_order(self, parameters: Parameters) -> tuple[NewOrder, str]:
        """Read a new order and the response type asked for; raises ApiError as Binance's gateway would."""
        market = market_of(self._exchange, parameters.symbol())
        side, kind = need_side(parameters), parameters.need("type")
        new = read_order(parameters, market, side, kind, ORDER_NAMES)
        return new, read_response_type(parameters, "FULL" if kind in ("LIMIT", "MARKET") else "ACK")

    def place(self, account: Account, new: NewOrder, response: str) -> dict[str, object]:
        """Place a read order; raises ApiError for a refusal."""
        try:
            order = self._exchange.place(account, new)
        except Rejected as rejected:
            raise refusal(rejected, new) from None
        return order_report(self._exchange, order, response)

    def test(self, account: Account, new: NewOrder, *, rates: bool) -> dict[str, object]:
        """Check an order without placing it."""
        try:
            market = self._exchange.check(account, new)
        except Rejected as rejected:
            raise refusal(rejected, new) from None
        return codec.order_commission(market.rules) if rates else {}

    def cancel(self, account: Account, parameters: Parameters) -> dict[str, object]:
        market = market_of(self._exchange, parameters.symbol())
        order_id, client_id = self._identity(parameters)
        cancel_id = parameters.client_id("newClientOrderId") or uuid.uuid4().hex[:22]
        only = parameters.word(
            "cancelRestrictions", ("ONLY_NEW", "ONLY_PARTIALLY_FILLED"), ApiError(-1145, "Invalid cancelRestrictions")
        )
        parameters.refuse_unread()
        order = self._exchange.shelf.find(account, native=market.native, order_id=order_id, client_id=client_id)
        if order is None or not order.is_open or (client_id is not None and order.client_id != client_id):
            raise ApiError(*UNKNOWN_ORDER)
        order_list = self._list_of(account, order)
        if only is not None and (order.status is Status.NEW) != (only == "ONLY_NEW"):
            raise ApiError(-2011, "Order was not canceled due to cancel restrictions.")
        self._exchange.cancel(account, order_id=order.id, cancel_client_id=cancel_id)
        return codec.cancelled(order) if order_list is None else cancelled_list(self._exchange, order_list)

    def cancel_all(self, account: Account, parameters: Parameters) -> list[dict[str, object]]:
        market = market_of(self._exchange, parameters.symbol())
        parameters.refuse_unread()
        found = self._exchange.shelf.open(account, market.native)
        if not found:
            raise ApiError(*UNKNOWN_ORDER)
        cancel_id = uuid.uuid4().hex[:22]
        answers = []
        for order in found:
            if order.is_open:  # an order list goes as a whole
                order_list = self._list_of(account, order)
                self._exchange.cancel(account, order_id=order.id, cancel_client_id=cancel_id)
                answers.append(
                    codec.cancelled(order) if order_list is None else cancelled_list(self._exchange, order_list)
                )
        return answers

    def query(self, account: Account, parameters: Parameters) -> dict[str, object]:
        market = market_of(self._exchange, parameters.symbol())
        order_id, client_id = self._identity(parameters)
        order = self._exchange.shelf.find(account, native=market.native, order_id=order_id, client_id=client_id)
        if order is None or (client_id is not None and order.client_id != client_id):
            raise ApiError(*NO_SUCH_ORDER)
        return codec.queried(order)

    def open_orders(self, account: Account, parameters: Parameters) -> list[dict[str, object]]:
        native = parameters.symbol()
        if native is not None:
            market_of(self._exchange, native)
        return [codec.queried(order) for order in self._exchange.shelf.open(account, native)]

    def all_orders(self, account: Account, parameters: Parameters) -> list[dict[str, object]]:
        market = market_of(self._exchange, parameters.symbol())
        from_id = parameters.integer("orderId")
        start, end = parameters.integer("startTime"), parameters.integer("endTime")
        orders: list[Order] = self._exchange.shelf.stored(
            account,
            native=market.native,
            from_id=from_id,
            start_ms=start,
            end_ms=end,
            newest=from_id is None and start is None,
            limit=parameters.limit(default=500, most=1000),
        )
        return [codec.queried(order) for order in orders]

    def trades(self, account: Account, parameters: Parameters) -> list[dict[str, object]]:
        market = market_of(self._exchange, parameters.symbol())
        from_id = parameters.integer("fromId")
        start, end = parameters.integer("startTime"), parameters.integer("endTime")
        if from_id is not None and (start is not None or end is not None):
            raise ApiError(-1128, "Combination of optional parameters invalid.")
        fills = self._exchange.shelf.fills(
            account,
            native=market.native,
            order_id=parameters.integer("orderId"),
            from_id=from_id,
            start_ms=start,
            end_ms=end,
            newest=from_id is None and start is None,
            limit=parameters.limit(default=500, most=1000),
        )
        return [codec.account_trade(fill, self._exchange.shelf.any(fill.order_id)) for fill in fills]

    def _list_of(self, account: Account, order: Order) -> OrderList | None:
        """Return the open order list an order belongs to."""
        found = self._exchange.lists.find(account, list_id=order.list_id) if order.list_id else None
        return found if found is not None and found.is_open else None

    def _identity(self, parameters: Parameters) -> tuple[int | None, str | None]:
        order_id, client_id = parameters.integer("orderId"), parameters.text("origClientOrderId")
        if order_id is None and client_id is None:
            raise missing_both("origClientOrderId", "orderId")
        return order_id, client_id


def order_report(exchange: SimExchange, order: Order, response: str) -> dict[str, object]:
    """Answer a placed order in the form asked for."""
    if response == "ACK":
        return codec.ack(order)
    if response == "RESULT":
        return codec.result(order)
    return codec.full(order, exchange.store.fills(exchange.name, order_id=order.id, newest=False, limit=1000))


def cancelled_list(exchange: SimExchange, order_list: OrderList) -> dict[str, object]:
    """Answer the cancelling of an order list, or of one of its orders."""
    orders = exchange.lists.orders(order_list)
    reports = [codec.cancelled(order) for order in orders if order.status is Status.CANCELED]
    return codec.order_list(order_list, orders) | {"orderReports": reports}
