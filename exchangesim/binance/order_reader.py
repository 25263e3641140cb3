"""Reading one order out of a request's parameters, whatever they are called there."""

from __future__ import annotations

from collections.abc import Mapping
from decimal import Decimal

from exchangesim.binance.errors import ApiError, missing, missing_both, not_required
from exchangesim.binance.parameters import Parameters
from exchangesim.core.market import SimMarket
from exchangesim.core.orders import NewOrder, OrderType, Side, TimeInForce, Trigger

# Type of order -> the parameters it must and must not have, in the order they are asked after.
# Source: https://developers.binance.com/docs/binance-spot-api-docs/rest-api/trading-endpoints#new-order-trade
_FIELDS: dict[str, tuple[tuple[str, ...], tuple[str, ...]]] = {
    "LIMIT": (("timeInForce", "quantity", "price"), ("quoteOrderQty", "stopPrice")),
    "LIMIT_MAKER": (("quantity", "price"), ("quoteOrderQty", "timeInForce", "stopPrice")),
    "MARKET": ((), ("price", "timeInForce", "stopPrice")),
    "STOP_LOSS": (("quantity", "stopPrice"), ("quoteOrderQty", "price", "timeInForce")),
    "STOP_LOSS_LIMIT": (("timeInForce", "quantity", "price", "stopPrice"), ("quoteOrderQty",)),
    "TAKE_PROFIT": (("quantity", "stopPrice"), ("quoteOrderQty", "price", "timeInForce")),
    "TAKE_PROFIT_LIMIT": (("timeInForce", "quantity", "price", "stopPrice"), ("quoteOrderQty",)),
}
TYPES = tuple(_FIELDS)
ORDER_NAMES = {"clientId": "newClientOrderId"}


def prefixed(prefix: str) -> dict[str, str]:
    """Return the names of an order list's parameters for one of its orders: ``aboveStopPrice``."""
    fields = ("price", "stopPrice", "timeInForce", "clientOrderId")
    names = {field: prefix + field[0].upper() + field[1:] for field in fields}
    return {**names, "clientId": names["clientOrderId"]}


def need_side(parameters: Parameters, name: str = "side") -> Side:
    side = parameters.need(name)
    if side not in tuple(Side):
        raise ApiError(-1117, "Invalid side.")
    return Side(side)


def read_order(
    parameters: Parameters,
    market: SimMarket,
    side: Side,
    kind: str,
    names: Mapping[str, str],
    *,
    quantity: str = "quantity",
) -> NewOrder:
    """Read an order of type ``kind``; ``names`` and ``quantity`` say what its parameters are called.

    Raises ApiError as Binance's gateway would.
    """
    if kind not in TYPES:
        raise ApiError(-1116, "Invalid orderType.")
    named = {field: names.get(field, field) for field in ("price", "stopPrice", "timeInForce", "clientId")}
    named |= {"quantity": quantity, "quoteOrderQty": "quoteOrderQty"}
    force = parameters.word(named["timeInForce"], tuple(TimeInForce), ApiError(-1115, "Invalid timeInForce."))
    given: dict[str, Decimal | str | None] = {"timeInForce": force}
    amounts = {field: parameters.amount(named[field]) for field in ("quantity", "quoteOrderQty", "price", "stopPrice")}
    given |= amounts
    needed, forbidden = _FIELDS[kind]
    for field in forbidden:
        if given[field] is not None:
            raise not_required(named[field])
    for field in needed:
        if given[field] is None:
            raise missing(named[field])
    if kind == "MARKET":
        if amounts["quantity"] is None and amounts["quoteOrderQty"] is None:
            raise missing_both(named["quantity"], "quoteOrderQty")
        if amounts["quantity"] is not None and amounts["quoteOrderQty"] is not None:
            raise ApiError(-1128, "Combination of optional parameters invalid.")
    stop = amounts["stopPrice"]
    return NewOrder(
        native=market.native,
        side=side,
        type=OrderType.MARKET if kind in ("MARKET", "STOP_LOSS", "TAKE_PROFIT") else OrderType.LIMIT,
        time_in_force=TimeInForce(force) if force is not None else TimeInForce.GTC,
        price=amounts["price"],
        quantity=amounts["quantity"],
        quote_quantity=amounts["quoteOrderQty"],
        post_only=kind == "LIMIT_MAKER",
        trigger=None if stop is None else Trigger(price=stop, rises=(side is Side.BUY) == kind.startswith("STOP_LOSS")),
        client_id=parameters.client_id(named["clientId"]) or "",
    )


def read_response_type(parameters: Parameters, default: str) -> str:
    """Read ``newOrderRespType``, and refuse a ``selfTradePreventionMode`` the symbol does not have."""
    error = ApiError(-1130, "Data sent for parameter 'newOrderRespType' is not valid.")
    response = parameters.word("newOrderRespType", ("ACK", "RESULT", "FULL"), error)
    parameters.word("selfTradePreventionMode", ("NONE",), ApiError(-1013, "This symbol does not support this mode."))
    return response or default
