"""USD-M's error codes and texts where they differ from spot's.

Source: https://developers.binance.com/docs/derivatives/usds-margined-futures/error-code
"""

from __future__ import annotations

from exchangesim.binance import errors as spot
from exchangesim.binance.errors import ApiError
from exchangesim.core.orders import NewOrder, OrderType, Reject, Rejected

_REFUSALS: dict[Reject, tuple[int, str]] = {
    Reject.UNKNOWN_SYMBOL: spot.BAD_SYMBOL,
    Reject.SYMBOL_HALTED: (-4141, "Symbol is closed."),
    Reject.PERMISSION: (-2015, "Invalid API-key, IP, or permissions for action."),
    Reject.BAD_PRICE: (-4001, "Price less than 0."),
    Reject.BAD_QUANTITY: (-4003, "Quantity less than or equal to zero."),
    Reject.PRICE_TICK: (-4014, "Price not increased by tick size."),
    Reject.PRICE_BAND: (-4131, "The counterparty's best price does not meet the PERCENT_PRICE filter limit."),
    Reject.QUANTITY_LOT: (-1111, "Precision is over the maximum defined for this asset."),
    Reject.QUANTITY_TOO_SMALL: (-4003, "Quantity less than or equal to zero."),
    Reject.QUANTITY_TOO_LARGE: (-4005, "Quantity greater than max quantity."),
    Reject.TOO_MANY_OPEN_ORDERS: (-2025, "Reach max open order limit."),
    Reject.INSUFFICIENT_BALANCE: (-2019, "Margin is insufficient."),
    Reject.DUPLICATE_CLIENT_ID: (-4116, "ClientOrderId is duplicated."),
    Reject.WOULD_TAKE: (
        -5022,
        "Due to the order could not be executed as maker, the Post Only order will be rejected. The order will not be "
        "recorded in the order history",
    ),
    Reject.UNFILLABLE: (
        -5021,
        "Due to the order could not be filled immediately, the FOK order has been rejected. The order will not be "
        "recorded in the order history",
    ),
    Reject.REDUCE_ONLY: (-2022, "ReduceOnly Order is rejected."),
    Reject.POSITION_SIDE: (-4061, "Order's position side does not match user's setting."),
    Reject.POSITION_LIMIT: (-2027, "Exceeded the maximum allowable position at current leverage."),
    Reject.WOULD_TRIGGER: (-2021, "Order would immediately trigger."),
    Reject.TOO_MANY_CONDITIONAL: (-4045, "Reach max stop order limit."),
    Reject.CLOSE_POSITION_TAKEN: (
        -4130,
        "An open stop or take profit order with GTE and closePosition in the direction is existing.",
    ),
    Reject.NO_POSITION: (
        -4509,
        "Time in Force (TIF) GTE can only be used with open positions or open orders. Please ensure that positions or "
        "orders are available.",
    ),
    Reject.ORDER_NOT_FOUND: spot.UNKNOWN_ORDER,
    Reject.ORDER_CLOSED: spot.UNKNOWN_ORDER,
}

# Refusals a fault asks for, where the code is not spot's.
_ASKED: dict[str, tuple[int, str]] = {
    "duplicate_client_id": (-4116, "ClientOrderId is duplicated."),
    "insufficient_balance": (-2019, "Margin is insufficient."),
    "market_closed": (-4141, "Symbol is closed."),
    "account_restricted": (-4402, "Based on our Terms of Use, only closing positions is allowed."),
}


def asked_for(reason: str, seconds: float, now_ms: int) -> ApiError:
    """Return the refusal a fault asks for."""
    if reason in _ASKED:
        return ApiError(*_ASKED[reason])
    error = spot.asked_for(reason, seconds, now_ms)
    error.msg = error.msg.replace("limit is 6000", "limit is 2400")
    return error


def refusal(rejected: Rejected, new: NewOrder | None = None, *, least: str = "") -> ApiError:
    """Return the documented error for a refusal; ``least`` is the market's smallest notional."""
    if rejected.reason is Reject.NOTIONAL_TOO_SMALL:
        return ApiError(-4164, f"Order's notional must be no smaller than {least} (unless you choose reduce only).")
    code, msg = _REFUSALS[rejected.reason]
    if rejected.reason is Reject.PRICE_BAND and new is not None and new.type is OrderType.LIMIT:
        code, msg = -4016, "Limit price is further from the mark price than the PERCENT_PRICE filter allows."
    return ApiError(code, msg, status=401 if code == -2015 else 400)
