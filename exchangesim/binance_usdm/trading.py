"""Orders: reading an order request, placing, cancelling, asking."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import msgspec

from exchangesim.binance.errors import (
    BAD_SYMBOL,
    NO_SUCH_ORDER,
    UNKNOWN_ORDER,
    ApiError,
    illegal_characters,
    missing,
    missing_both,
    not_required,
)
from exchangesim.binance.parameters import Parameters
from exchangesim.binance.trading import market_of
from exchangesim.binance_usdm import codec
from exchangesim.binance_usdm.errors import refusal
from exchangesim.core.accounts import Account
from exchangesim.core.futures.exchange import FuturesExchange
from exchangesim.core.market import SimMarket
from exchangesim.core.orders import NewOrder, Order, OrderType, PositionSide, Rejected, Side, Status, TimeInForce
from exchangesim.core.text import plain

CONDITIONAL = ("STOP", "STOP_MARKET", "TAKE_PROFIT", "TAKE_PROFIT_MARKET", "TRAILING_STOP_MARKET")
_TYPES = ("LIMIT", "MARKET")
_FORCES = ("GTC", "IOC", "FOK", "GTX")
_RESPONSES = ("ACK", "RESULT")
_STP_MODES = ("NONE", "EXPIRE_TAKER", "EXPIRE_MAKER", "EXPIRE_BOTH")
CLIENT_ID = r"^[\.A-Z\:/a-z0-9_-]{1,36}$"
MOST_IN_BATCH = 5
MOST_CANCELS = 10


class Trading:
    """The trading calls of one exchange. Each takes read parameters and returns the answer's value."""

    def __init__(self, exchange: FuturesExchange) -> None:
        self._exchange = exchange

    def read_order(self, account: Account, parameters: Parameters) -> tuple[NewOrder, str]:
        """Read a new order and the response type asked for; raises ApiError as Binance's gateway would."""
        market = market_of(self._exchange, parameters.symbol())
        side, position_side, reduce_only = self.read_sides(account, parameters)
        kind = parameters.need("type")
        if kind in CONDITIONAL:
            raise ApiError(
                -4120, "Order type not supported for this endpoint. Please use the Algo Order API endpoints instead."
            )
        if kind not in _TYPES:
            raise ApiError(-1116, "Invalid orderType.")
        force = parameters.word("timeInForce", _FORCES, ApiError(-1115, "Invalid timeInForce."))
        quantity, price = parameters.amount("quantity"), parameters.amount("price")
        if quantity is None:
            raise missing("quantity")
        if kind == "LIMIT":
            if force is None:
                raise missing("timeInForce")
            if price is None:
                raise missing("price")
        elif price is not None:
            raise not_required("price")
        elif force is not None:
            raise not_required("timeInForce")
        response = parameters.word(
            "newOrderRespType", _RESPONSES, ApiError(-1130, "Data sent for parameter 'newOrderRespType' is not valid.")
        )
        parameters.word("selfTradePreventionMode", _STP_MODES, ApiError(-4188, "Invalid selfTradePreventionMode."))
        if parameters.flag("closePosition", default=False):
            raise ApiError(-4136, "Target strategy invalid for orderType " + kind + ",closePosition true")
        new = NewOrder(
            native=market.native,
            side=side,
            type=OrderType(kind),
            time_in_force=TimeInForce(force) if force not in (None, "GTX") else TimeInForce.GTC,
            price=price,
            quantity=quantity,
            post_only=force == "GTX",
            client_id=read_client_id(parameters, "newClientOrderId") or "",
            reduce_only=reduce_only,
            position_side=position_side,
        )
        return new, response or "ACK"

    def read_sides(self, account: Account, parameters: Parameters) -> tuple[Side, PositionSide, bool]:
        """Read side, position side and whether the order may only reduce."""
        side = parameters.need("side")
        if side not in tuple(Side):
            raise ApiError(-1117, "Invalid side.")
        given = parameters.word("positionSide", tuple(PositionSide), ApiError(-4060, "Invalid position side."))
        reduce_only = parameters.flag("reduceOnly", default=False)
        if self._exchange.settings(account).hedged and "reduceOnly" in parameters:
            raise ApiError(-1106, "Parameter 'reduceonly' sent when not required.")
        return Side(side), PositionSide(given or "BOTH"), reduce_only

    def place(self, account: Account, new: NewOrder, response: str) -> dict[str, object]:
        """Place a read order; raises ApiError for a refusal."""
        try:
            order = self._exchange.place(account, new)
        except Rejected as rejected:
            raise self.refused(rejected, new) from None
        return self.placed(order, acknowledged=response == "ACK")

    def test(self, account: Account, new: NewOrder) -> dict[str, object]:
        """Check an order without placing it."""
        try:
            self._exchange.check(account, self._exchange.fitted(account, new))
        except Rejected as rejected:
            raise self.refused(rejected, new) from None
        return {}

    def placed(self, order: Order, *, acknowledged: bool = False) -> dict[str, object]:
        return codec.placed(order, self._exchange.markets[order.native].rules, acknowledged=acknowledged)

    def refused(self, rejected: Rejected, new: NewOrder) -> ApiError:
        market = self._exchange.markets.get(new.native)
        return refusal(rejected, new, least="" if market is None else plain(market.rules.min_notional))

    def cancel(self, account: Account, parameters: Parameters) -> dict[str, object]:
        market = market_of(self._exchange, parameters.symbol())
        order_id, client_id = _identity(parameters)
        return self._cancel(account, market, order_id, client_id)

    def _cancel(
        self, account: Account, market: SimMarket, order_id: int | None, client_id: str | None
    ) -> dict[str, object]:
        order = self._find(account, market, order_id, client_id)
        if order is None or not order.is_open:
            raise ApiError(*UNKNOWN_ORDER)
        return self.placed(self._exchange.cancel(account, order_id=order.id))

    def cancel_all(self, account: Account, parameters: Parameters) -> dict[str, object]:
        market = market_of(self._exchange, parameters.symbol())
        for order in self._exchange.shelf.open(account, market.native):
            self._exchange.cancel(account, order_id=order.id)
        return {"code": 200, "msg": "The operation of cancel all open order is done."}

    def cancel_batch(self, account: Account, parameters: Parameters) -> list[dict[str, object]]:
        market = market_of(self._exchange, parameters.symbol())
        ids = _list(parameters, "orderIdList", int)
        client_ids = _list(parameters, "origClientOrderIdList", str)
        if not ids and not client_ids:
            raise missing_both("orderIdList", "origClientOrderIdList")
        if len(ids) + len(client_ids) > MOST_CANCELS:
            raise ApiError(-4054, f"Cannot cancel more than {MOST_CANCELS} orders in one request.")
        wanted: list[tuple[int | None, str | None]] = [*((i, None) for i in ids), *((None, c) for c in client_ids)]
        answers: list[dict[str, object]] = []
        for order_id, client_id in wanted:
            try:
                answers.append(self._cancel(account, market, order_id, client_id))
            except ApiError as error:
                answers.append(error.body())
        return answers

    def query(self, account: Account, parameters: Parameters) -> dict[str, object]:
        market = market_of(self._exchange, parameters.symbol())
        order = self._find(account, market, *_identity(parameters))
        if order is None:
            raise ApiError(*NO_SUCH_ORDER)
        return self._queried(order)

    def query_open(self, account: Account, parameters: Parameters) -> dict[str, object]:
        market = market_of(self._exchange, parameters.symbol())
        order = self._find(account, market, *_identity(parameters))
        if order is None or not order.is_open:
            raise ApiError(*NO_SUCH_ORDER)
        return self._queried(order)

    def open_orders(self, account: Account, parameters: Parameters) -> list[dict[str, object]]:
        native = parameters.symbol()
        if native is not None:
            market_of(self._exchange, native)
        return [self._queried(order) for order in self._exchange.shelf.open(account, native)]

    def all_orders(self, account: Account, parameters: Parameters) -> list[dict[str, object]]:
        market = market_of(self._exchange, parameters.symbol())
        from_id, start = parameters.integer("orderId"), parameters.integer("startTime")
        orders = self._exchange.shelf.stored(
            account,
            native=market.native,
            from_id=from_id,
            start_ms=start,
            end_ms=parameters.integer("endTime"),
            newest=from_id is None and start is None,
            limit=parameters.limit(default=500, most=1000),
        )
        return [self._queried(order) for order in orders if order.is_open or order.status is not Status.EXPIRED]

    def trades(self, account: Account, parameters: Parameters) -> list[dict[str, object]]:
        market = market_of(self._exchange, parameters.symbol())
        from_id, start = parameters.integer("fromId"), parameters.integer("startTime")
        fills = self._exchange.shelf.fills(
            account,
            native=market.native,
            order_id=parameters.integer("orderId"),
            from_id=from_id,
            start_ms=start,
            end_ms=parameters.integer("endTime"),
            newest=from_id is None and start is None,
            limit=parameters.limit(default=500, most=1000),
        )
        return [codec.user_trade(fill, market.rules) for fill in fills]

    def read_batch(self, parameters: Parameters) -> list[Parameters]:
        """Read the orders of a batch, each as a request of its own."""
        text = parameters.need("batchOrders")
        try:
            rows = msgspec.json.decode(text, type=list[dict[str, Any]])
        except msgspec.MsgspecError:
            raise ApiError(-1130, "Data sent for parameter 'batchOrders' is not valid.") from None
        if not 1 <= len(rows) <= MOST_IN_BATCH:
            raise ApiError(-4082, "Invalid number of batch place orders.")
        return [Parameters(_texts(row), lenient=True) for row in rows]

    def _queried(self, order: Order) -> dict[str, object]:
        return codec.queried(order, self._exchange.markets[order.native].rules)

    def _find(self, account: Account, market: SimMarket, order_id: int | None, client_id: str | None) -> Order | None:
        return self._exchange.shelf.find(account, native=market.native, order_id=order_id, client_id=client_id)


def read_client_id(parameters: Parameters, name: str) -> str | None:
    value = parameters.text(name)
    if value is not None and len(value) > 36:
        raise ApiError(-4015, "Client order id length should be less than 36 chars")
    return parameters.matching(name, CLIENT_ID)


def known_symbol(exchange: FuturesExchange, native: str | None) -> str | None:
    """Return an optional symbol; raises -1121 for one that is not listed."""
    if native is not None and native not in exchange.markets:
        raise ApiError(*BAD_SYMBOL)
    return native


def _identity(parameters: Parameters) -> tuple[int | None, str | None]:
    order_id, client_id = parameters.integer("orderId"), parameters.text("origClientOrderId")
    if order_id is None and client_id is None:
        raise missing_both("origClientOrderId", "orderId")
    return order_id, None if order_id is not None else client_id


def _list(parameters: Parameters, name: str, kind: type) -> list[Any]:
    # Clients are known to send these two in lower case.
    text = parameters.text(name) or parameters.text(name.lower())
    if text is None:
        return []
    try:
        found: list[Any] = msgspec.json.decode(text, type=list[kind], strict=False)  # type: ignore[valid-type]
    except msgspec.MsgspecError:
        raise illegal_characters(name, "a JSON list") from None
    return found


def _texts(row: Mapping[str, Any]) -> dict[str, str]:
    return {name: str(value).lower() if isinstance(value, bool) else str(value) for name, value in row.items()}
