"""Order lists: OCO, OTO and OTOCO; placing, cancelling, asking."""

from __future__ import annotations

import uuid
from dataclasses import replace

from exchangesim.binance import codec
from exchangesim.binance.errors import NO_SUCH_ORDER, UNKNOWN_ORDER, ApiError, missing_both, not_required, refusal
from exchangesim.binance.order_reader import need_side, prefixed, read_order, read_response_type
from exchangesim.binance.parameters import Parameters
from exchangesim.binance.trading import cancelled_list, market_of, order_report
from exchangesim.core.accounts import Account
from exchangesim.core.exchange import SimExchange
from exchangesim.core.market import SimMarket
from exchangesim.core.order_lists import NewList, OrderList
from exchangesim.core.orders import NewOrder, Rejected, Side, Status

_LEG_TYPES = ("LIMIT_MAKER", "STOP_LOSS", "STOP_LOSS_LIMIT", "TAKE_PROFIT", "TAKE_PROFIT_LIMIT")


class Lists:
    """The order list calls of one exchange. Each takes read parameters and returns the answer's value."""

    def __init__(self, exchange: SimExchange) -> None:
        self._exchange = exchange

    # Reading: each returns the list asked for and the response type

    def read_oco(self, parameters: Parameters) -> tuple[NewList, str]:
        market, side = market_of(self._exchange, parameters.symbol()), need_side(parameters)
        new = NewList(legs=self._pair(parameters, market, side, "above", "below", "quantity"))
        return self._finish_reading(parameters, new)

    def read_old_oco(self, parameters: Parameters) -> tuple[NewList, str]:
        """Read the deprecated form: a limit leg, and a stop leg that may have a limit."""
        market, side = market_of(self._exchange, parameters.symbol()), need_side(parameters)
        limit_names = {"clientId": "limitClientOrderId", "stopPrice": "", "timeInForce": ""}
        stop_names = {
            "clientId": "stopClientOrderId",
            "price": "stopLimitPrice",
            "stopPrice": "stopPrice",
            "timeInForce": "stopLimitTimeInForce",
        }
        kind = "STOP_LOSS_LIMIT" if "stopLimitPrice" in parameters else "STOP_LOSS"
        stop = read_order(parameters, market, side, kind, stop_names)
        limit = read_order(parameters, market, side, "LIMIT_MAKER", limit_names)
        return self._finish_reading(parameters, NewList(legs=(stop, limit)))

    def read_oto(self, parameters: Parameters) -> tuple[NewList, str]:
        market = market_of(self._exchange, parameters.symbol())
        working = self._working(parameters, market)
        side, kind = need_side(parameters, "pendingSide"), parameters.need("pendingType")
        pending = read_order(parameters, market, side, kind, prefixed("pending"), quantity="pendingQuantity")
        if pending.quote_quantity is not None:
            raise not_required("quoteOrderQty")
        return self._finish_reading(parameters, NewList(legs=(pending,), working=working))

    def read_otoco(self, parameters: Parameters) -> tuple[NewList, str]:
        market = market_of(self._exchange, parameters.symbol())
        working = self._working(parameters, market)
        side = need_side(parameters, "pendingSide")
        legs = self._pair(parameters, market, side, "pendingAbove", "pendingBelow", "pendingQuantity")
        return self._finish_reading(parameters, NewList(legs=legs, working=working))

    def _working(self, parameters: Parameters, market: SimMarket) -> NewOrder:
        side, kind = need_side(parameters, "workingSide"), parameters.need("workingType")
        if kind not in ("LIMIT", "LIMIT_MAKER"):
            raise ApiError(-1116, "Invalid orderType.")
        return read_order(parameters, market, side, kind, prefixed("working"), quantity="workingQuantity")

    def _pair(
        self, parameters: Parameters, market: SimMarket, side: Side, above: str, below: str, quantity: str
    ) -> tuple[NewOrder, ...]:
        kinds = parameters.need(f"{above}Type"), parameters.need(f"{below}Type")
        _check_types(side, *kinds)
        legs = [
            read_order(parameters, market, side, kind, prefixed(prefix), quantity=quantity)
            for kind, prefix in zip(kinds, (above, below), strict=True)
        ]
        stop_first = kinds[0].startswith("STOP_LOSS")  # the order in which Binance numbers them
        return tuple(legs if stop_first else reversed(legs))

    def _finish_reading(self, parameters: Parameters, new: NewList) -> tuple[NewList, str]:
        response = read_response_type(parameters, "RESULT")
        return replace(new, client_id=parameters.client_id("listClientOrderId") or ""), response

    # Doing

    def place(self, account: Account, new: NewList, response: str) -> dict[str, object]:
        """Place a read list; raises ApiError for a refusal."""
        try:
            placed = self._exchange.lists.place(account, new)
        except Rejected as rejected:
            raise refusal(rejected) from None
        orders = self._exchange.lists.orders(placed)
        # The answer tells of the list as it was accepted: legs pending, though the working order may be filled.
        told = [
            replace(order, status=Status.PENDING_NEW, idle=True)
            if placed.working and order.id != placed.working
            else order
            for order in orders
        ]
        reports = [order_report(self._exchange, order, response) for order in told]
        return codec.order_list(replace(placed, is_open=True), orders) | {"orderReports": reports}

    def cancel(self, account: Account, parameters: Parameters) -> dict[str, object]:
        market = market_of(self._exchange, parameters.symbol())
        found = self._find(account, parameters, "listClientOrderId")
        cancel_id = parameters.client_id("newClientOrderId") or uuid.uuid4().hex[:22]
        parameters.refuse_unread()
        if found is None or not found.is_open or found.native != market.native:
            raise ApiError(*UNKNOWN_ORDER)
        self._exchange.lists.cancel(account, found, cancel_client_id=cancel_id)
        return cancelled_list(self._exchange, found)

    def query(self, account: Account, parameters: Parameters) -> dict[str, object]:
        found = self._find(account, parameters, "origClientOrderId")
        if found is None or self._hidden(found):
            raise ApiError(*NO_SUCH_ORDER)
        return self._described(found)

    def open_lists(self, account: Account, _: Parameters) -> list[dict[str, object]]:
        return [self._described(found) for found in self._exchange.lists.open_lists(account) if not self._hidden(found)]

    def all_lists(self, account: Account, parameters: Parameters) -> list[dict[str, object]]:
        from_id = parameters.integer("fromId")
        start, end = parameters.integer("startTime"), parameters.integer("endTime")
        if from_id is not None and (start is not None or end is not None):
            raise ApiError(-1128, "Combination of optional parameters invalid.")
        found = self._exchange.store.order_lists(
            self._exchange.name,
            api_key=account.api_key,
            from_id=from_id,
            start_ms=start,
            end_ms=end,
            newest=from_id is None and start is None,
            limit=parameters.limit(default=500, most=1000),
        )
        return [self._described(one) for one in found if not self._hidden(one)]

    def _hidden(self, order_list: OrderList) -> bool:
        return self._exchange.reads.hides(order_list.created_ms, self._exchange.clock.time_ms())

    def _described(self, order_list: OrderList) -> dict[str, object]:
        return codec.order_list(order_list, self._exchange.lists.orders(order_list))

    def _find(self, account: Account, parameters: Parameters, client_name: str) -> OrderList | None:
        list_id, client_id = parameters.integer("orderListId"), parameters.text(client_name)
        if list_id is None and client_id is None:
            raise missing_both(client_name, "orderListId")
        found = self._exchange.lists.find(account, list_id=list_id, client_id=client_id)
        return None if found is None or (client_id is not None and found.client_id != client_id) else found


def _check_types(side: Side, above: str, below: str) -> None:
    """Refuse two types of which an OCO pair cannot be made."""
    if above not in _LEG_TYPES or below not in _LEG_TYPES:
        raise ApiError(-1158, "Order type not supported in OCO.")
    if above == below == "LIMIT_MAKER":
        raise ApiError(-1168, "At least one OCO order must be contingent.")
    gains, stops = (above, below) if side is Side.SELL else (below, above)
    if side is Side.BUY and above == "LIMIT_MAKER":
        raise ApiError(-1165, "A limit order in a buy OCO must be below.")
    if side is Side.SELL and below == "LIMIT_MAKER":
        raise ApiError(-1166, "A limit order in a sell OCO must be above.")
    if gains.startswith("STOP_LOSS"):
        if side is Side.BUY:
            raise ApiError(-1196, "A stop loss order in a buy OCO must be above.")
        raise ApiError(-1197, "A stop loss order in a sell OCO must be below.")
    if stops.startswith("TAKE_PROFIT"):
        if side is Side.BUY:
            raise ApiError(-1198, "A take profit order in a buy OCO must be below.")
        raise ApiError(-1199, "A take profit order in a sell OCO must be above.")
