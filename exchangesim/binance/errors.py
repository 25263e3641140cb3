"""Binance's error codes and texts, and what each refusal of the exchange becomes."""

from __future__ import annotations

import math

from exchangesim.core.orders import NewOrder, OrderType, Reject, Rejected


class ApiError(Exception):
    """An answer with an error code. ``status`` is HTTP's, and the WebSocket API's ``status`` field."""

    def __init__(
        self, code: int, msg: str, *, status: int = 400, data: dict[str, object] | None = None, retry_after: int = 0
    ) -> None:
        super().__init__(msg)
        self.code, self.msg, self.status, self.data, self.retry_after = code, msg, status, data, retry_after
        self.order_result: dict[str, object] | None = None

    def body(self) -> dict[str, object]:
        return {"code": self.code, "msg": self.msg}


def missing(name: str) -> ApiError:
    return ApiError(-1102, f"Mandatory parameter '{name}' was not sent, was empty/null, or malformed.")


def missing_both(first: str, second: str) -> ApiError:
    return ApiError(-1102, f"Param '{first}' or '{second}' must be sent, but both were empty/null!")


def not_required(name: str) -> ApiError:
    return ApiError(-1106, f"Parameter '{name}' sent when not required.")


def illegal_characters(name: str, legal: str) -> ApiError:
    return ApiError(-1100, f"Illegal characters found in parameter '{name}'; legal range is '{legal}'.")


UNKNOWN_ORDER = (-2011, "Unknown order sent.")
NO_SUCH_ORDER = (-2013, "Order does not exist.")
BAD_SYMBOL = (-1121, "Invalid symbol.")

# Refusals by the filters come before the matching engine (-1013), those by the engine are -2010.
_REFUSALS: dict[Reject, tuple[int, str]] = {
    Reject.UNKNOWN_SYMBOL: BAD_SYMBOL,
    Reject.SYMBOL_HALTED: (-2010, "Market is closed."),
    Reject.PERMISSION: (-2015, "Invalid API-key, IP, or permissions for action."),
    Reject.BAD_PRICE: (-1013, "Invalid price."),
    Reject.BAD_QUANTITY: (-1013, "Invalid quantity."),
    Reject.PRICE_TICK: (-1013, "Filter failure: PRICE_FILTER"),
    Reject.PRICE_BAND: (-1013, "Filter failure: PERCENT_PRICE_BY_SIDE"),
    Reject.QUANTITY_LOT: (-1013, "Filter failure: LOT_SIZE"),
    Reject.QUANTITY_TOO_SMALL: (-1013, "Filter failure: LOT_SIZE"),
    Reject.QUANTITY_TOO_LARGE: (-1013, "Filter failure: LOT_SIZE"),
    Reject.NOTIONAL_TOO_SMALL: (-1013, "Filter failure: NOTIONAL"),
    Reject.TOO_MANY_OPEN_ORDERS: (-1013, "Filter failure: MAX_NUM_ORDERS"),
    Reject.INSUFFICIENT_BALANCE: (-2010, "Account has insufficient balance for requested action."),
    Reject.DUPLICATE_CLIENT_ID: (-2010, "Duplicate order sent."),
    Reject.WOULD_TAKE: (-2010, "Order would immediately match and take."),
    Reject.WOULD_TRIGGER: (-2010, "Stop price would trigger immediately."),
    Reject.PRICE_RELATION: (-2010, "The relationship of the prices for the orders is not correct."),
    Reject.TOO_MANY_CONDITIONAL: (-1013, "Filter failure: MAX_NUM_ALGO_ORDERS"),
    Reject.TOO_MANY_LISTS: (-1013, "Filter failure: MAX_NUM_ORDER_LISTS"),
    Reject.DUPLICATE_LIST_ID: (-2010, "Duplicate order sent."),
    Reject.ORDER_NOT_FOUND: UNKNOWN_ORDER,
    Reject.ORDER_CLOSED: UNKNOWN_ORDER,
}


# Refusals a fault asks for (``faults.REASONS``): HTTP status, code, text. ``{until}`` is Unix milliseconds.
_ASKED: dict[str, tuple[int, int, str]] = {
    "backend_timeout": (
        400,
        -1007,
        "Timeout waiting for response from backend server. Send status unknown; execution status unknown.",
    ),
    "unexpected": (
        400,
        -1006,
        "An unexpected response was received from the message bus. Execution status unknown.",
    ),
    "busy": (503, -1008, "Server is currently overloaded with other requests. Please try again in a few minutes."),
    "maintenance": (503, -1016, "This service is no longer available."),
    "rate_limited": (
        429,
        -1003,
        "Too much request weight used; current limit is 6000 request weight per 1 MINUTE. "
        "Please use WebSocket Streams for live updates to avoid polling the API.",
    ),
    "banned": (
        418,
        -1003,
        "Way too much request weight used; IP banned until {until}. "
        "Please use WebSocket Streams for live updates to avoid bans.",
    ),
    "duplicate_client_id": (400, -2010, "Duplicate order sent."),
    "insufficient_balance": (400, -2010, "Account has insufficient balance for requested action."),
    "market_closed": (400, -2010, "Market is closed."),
    "account_restricted": (400, -2010, "This account may not place or cancel orders."),
    "key_revoked": (401, -2015, "Invalid API-key, IP, or permissions for action."),
    "ip_not_allowed": (401, -2015, "Invalid API-key, IP, or permissions for action."),
    "permission": (401, -2015, "Invalid API-key, IP, or permissions for action."),
}


def asked_for(reason: str, seconds: float, now_ms: int) -> ApiError:
    """Return the refusal a fault asks for; ``seconds`` is how long to stay away, 0 when that is not the matter."""
    status, code, text = _ASKED[reason]
    until = now_ms + round(seconds * 1000)
    data: dict[str, object] | None = {"serverTime": now_ms, "retryAfter": until} if code == -1003 else None
    return ApiError(code, text.format(until=until), status=status, data=data, retry_after=math.ceil(round(seconds, 3)))


def refusal(rejected: Rejected, new: NewOrder | None = None) -> ApiError:
    """Return the documented error for a refusal."""
    code, msg = _REFUSALS[rejected.reason]
    if rejected.reason is Reject.QUANTITY_TOO_LARGE and new is not None and new.type is OrderType.MARKET:
        msg = "Filter failure: MARKET_LOT_SIZE"
    return ApiError(code, msg, status=401 if code == -2015 else 400)
