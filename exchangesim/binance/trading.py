"""Orders: reading an order request, placing, testing, cancelling, asking."""

from __future__ import annotations

import uuid
from decimal import Decimal

from exchangesim.binance import codec
from exchangesim.binance.errors import (
    BAD_SYMBOL,
    NO_SUCH_ORDER,
    UNKNOWN_ORDER,
    ApiError,
    missing,
    missing_both,
    not_required,
    refusal,
)
from exchangesim.binance.parameters import Parameters
from exchangesim.core.accounts import Account
from exchangesim.core.exchange import SimExchange
from exchangesim.core.market import SimMarket
from exchangesim.core.orders import NewOrder, Order, OrderType, Rejected, Side, Status, TimeInForce

_TYPES = ("LIMIT", "MARKET", "LIMIT_MAKER")
# Types the exchange knows and this simulation does not list for any symbol.
_UNSUPPORTED = {
    "STOP_LOSS": "Stop loss orders are not supported for this symbol.",
    "STOP_LOSS_LIMIT": "Stop loss limit orders are not supported for this symbol.",
    "TAKE_PROFIT": "Take profit orders are not supported for this symbol.",
    "TAKE_PROFIT_LIMIT": "Take profit limit orders are not supported for this symbol.",
}
_RESPONSES = ("ACK", "RESULT", "FULL")


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
        side = parameters.need("side")
        if side not in tuple(Side):
            raise ApiError(-1117, "Invalid side.")
        kind = parameters.need("type")
        if kind in _UNSUPPORTED:
            raise ApiError(-2010, _UNSUPPORTED[kind])
        if kind not in _TYPES:
            raise ApiError(-1116, "Invalid orderType.")
        force = parameters.word("timeInForce", tuple(TimeInForce), ApiError(-1115, "Invalid timeInForce."))
        quantity, quote_quantity = parameters.amount("quantity"), parameters.amount("quoteOrderQty")
        price = parameters.amount("price")
        if kind == "MARKET":
            self._check_market(price, force, quantity, quote_quantity)
        else:
            self._check_limit(kind, price, force, quantity, quote_quantity)
        response = parameters.word(
            "newOrderRespType", _RESPONSES, ApiError(-1130, "Data sent for parameter 'newOrderRespType' is not valid.")
        )
        parameters.word(
            "selfTradePreventionMode", ("NONE",), ApiError(-1013, "This symbol does not support this mode.")
        )
        client_id = parameters.client_id("newClientOrderId")
        new = NewOrder(
            native=market.native,
            side=Side(side),
            type=OrderType.MARKET if kind == "MARKET" else OrderType.LIMIT,
            time_in_force=TimeInForce(force) if force is not None else TimeInForce.GTC,
            price=price,
            quantity=quantity,
            quote_quantity=quote_quantity,
            post_only=kind == "LIMIT_MAKER",
            client_id=client_id or "",
        )
        return new, response or ("ACK" if kind == "LIMIT_MAKER" else "FULL")

    def place(self, account: Account, new: NewOrder, response: str) -> dict[str, object]:
        """Place a read order; raises ApiError for a refusal."""
        try:
            order = self._exchange.place(account, new)
        except Rejected as rejected:
            raise refusal(rejected, new) from None
        if response == "ACK":
            return codec.ack(order)
        if response == "RESULT":
            return codec.result(order)
        fills = self._exchange.store.fills(self._exchange.name, order_id=order.id, newest=False, limit=1000)
        return codec.full(order, fills)

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
        order = self._exchange.find_order(account, native=market.native, order_id=order_id, client_id=client_id)
        if order is None or not order.is_open or (client_id is not None and order.client_id != client_id):
            raise ApiError(*UNKNOWN_ORDER)
        if only is not None and (order.status is Status.NEW) != (only == "ONLY_NEW"):
            raise ApiError(-2011, "Order was not canceled due to cancel restrictions.")
        self._exchange.cancel(account, order_id=order.id, cancel_client_id=cancel_id)
        return codec.cancelled(order)

    def cancel_all(self, account: Account, parameters: Parameters) -> list[dict[str, object]]:
        market = market_of(self._exchange, parameters.symbol())
        parameters.refuse_unread()
        found = self._exchange.open_orders(account, market.native)
        if not found:
            raise ApiError(*UNKNOWN_ORDER)
        cancel_id = uuid.uuid4().hex[:22]
        return [
            codec.cancelled(self._exchange.cancel(account, order_id=order.id, cancel_client_id=cancel_id))
            for order in found
        ]

    def query(self, account: Account, parameters: Parameters) -> dict[str, object]:
        market = market_of(self._exchange, parameters.symbol())
        order_id, client_id = self._identity(parameters)
        order = self._exchange.find_order(account, native=market.native, order_id=order_id, client_id=client_id)
        if order is None or (client_id is not None and order.client_id != client_id):
            raise ApiError(*NO_SUCH_ORDER)
        return codec.queried(order)

    def open_orders(self, account: Account, parameters: Parameters) -> list[dict[str, object]]:
        native = parameters.symbol()
        if native is not None:
            market_of(self._exchange, native)
        return [codec.queried(order) for order in self._exchange.open_orders(account, native)]

    def all_orders(self, account: Account, parameters: Parameters) -> list[dict[str, object]]:
        market = market_of(self._exchange, parameters.symbol())
        from_id = parameters.integer("orderId")
        start, end = parameters.integer("startTime"), parameters.integer("endTime")
        orders: list[Order] = self._exchange.orders(
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
        fills = self._exchange.fills(
            account,
            native=market.native,
            order_id=parameters.integer("orderId"),
            from_id=from_id,
            start_ms=start,
            end_ms=end,
            newest=from_id is None and start is None,
            limit=parameters.limit(default=500, most=1000),
        )
        return [codec.account_trade(fill) for fill in fills]

    def _identity(self, parameters: Parameters) -> tuple[int | None, str | None]:
        order_id, client_id = parameters.integer("orderId"), parameters.text("origClientOrderId")
        if order_id is None and client_id is None:
            raise missing_both("origClientOrderId", "orderId")
        return order_id, client_id

    def _check_market(
        self, price: Decimal | None, force: str | None, quantity: Decimal | None, quote_quantity: Decimal | None
    ) -> None:
        if price is not None:
            raise not_required("price")
        if force is not None:
            raise not_required("timeInForce")
        if quantity is None and quote_quantity is None:
            raise missing_both("quantity", "quoteOrderQty")
        if quantity is not None and quote_quantity is not None:
            raise ApiError(-1128, "Combination of optional parameters invalid.")

    def _check_limit(
        self,
        kind: str,
        price: Decimal | None,
        force: str | None,
        quantity: Decimal | None,
        quote_quantity: Decimal | None,
    ) -> None:
        if quote_quantity is not None:
            raise not_required("quoteOrderQty")
        if kind == "LIMIT" and force is None:
            raise missing("timeInForce")
        if kind == "LIMIT_MAKER" and force is not None:
            raise not_required("timeInForce")
        if quantity is None:
            raise missing("quantity")
        if price is None:
            raise missing("price")
