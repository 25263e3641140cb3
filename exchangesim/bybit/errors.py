"""Bybit v5's error codes and texts for the spot category, and how the exchange's refusals become them."""

from __future__ import annotations

from decimal import Decimal

from exchangesim.core.market import SimMarket
from exchangesim.core.orders import Reject, Rejected
from exchangesim.core.text import plain


class BybitError(Exception):
    """A refusal with Bybit's ``retCode`` and ``retMsg``; ``status`` is the HTTP status, 200 but for IP limits."""

    def __init__(self, code: int, message: str, *, status: int = 200) -> None:
        super().__init__(f"{code} {message}")
        self.code = code
        self.message = message
        self.status = status


def empty(parameter: str) -> BybitError:
    return BybitError(170105, f"Parameter '{parameter}' was empty.")


def invalid(parameter: str) -> BybitError:
    return BybitError(170130, f"Data sent for paramter '{parameter}' is not valid.")


def bad_request(text: str) -> BybitError:
    return BybitError(10001, f"Request parameter error: {text}")


def too_frequent() -> BybitError:
    return BybitError(10006, "Too many visits! Exceeded the API Rate Limit.")


def not_allowed() -> BybitError:
    return BybitError(10005, "Permission denied, please check your API key permissions.")


_TEXTS: dict[Reject, tuple[int, str]] = {
    Reject.UNKNOWN_SYMBOL: (170121, "Invalid symbol."),
    Reject.SYMBOL_HALTED: (170157, "The trading pair is not available for api trading"),
    Reject.PERMISSION: (10005, "Permission denied, please check your API key permissions."),
    Reject.BAD_PRICE: (170130, "Data sent for paramter 'price' is not valid."),
    Reject.BAD_QUANTITY: (170130, "Data sent for paramter 'qty' is not valid."),
    Reject.PRICE_BAND: (170132, "Order price too high."),
    Reject.PRICE_TICK: (170134, "Order price decimal too long."),
    Reject.QUANTITY_LOT: (170137, "Order volume decimal too long"),
    Reject.QUANTITY_TOO_SMALL: (170136, "Order quantity lower than the minimum."),
    Reject.QUANTITY_TOO_LARGE: (170124, "Order amount too large."),
    Reject.NOTIONAL_TOO_SMALL: (170140, "Order value exceeded lower limit."),
    Reject.TOO_MANY_OPEN_ORDERS: (170810, "Cannot exceed maximum of 500 conditional, TP/SL and active orders."),
    Reject.INSUFFICIENT_BALANCE: (170131, "Insufficient balance."),
    Reject.DUPLICATE_CLIENT_ID: (170141, "Duplicate clientOrderId"),
    Reject.WOULD_TAKE: (170218, "The LIMIT-MAKER order is rejected due to invalid price."),
    Reject.WOULD_TRIGGER: (170130, "Data sent for paramter 'triggerPrice' is not valid."),
    Reject.PRICE_RELATION: (170130, "Data sent for paramter 'takeProfit' is not valid."),
    Reject.TOO_MANY_CONDITIONAL: (170810, "Cannot exceed maximum of 500 conditional, TP/SL and active orders."),
    Reject.TOO_MANY_LISTS: (170810, "Cannot exceed maximum of 500 conditional, TP/SL and active orders."),
    Reject.DUPLICATE_LIST_ID: (170141, "Duplicate clientOrderId"),
    # A closed order cannot be told from one that never was: both are simply not among the live ones.
    Reject.ORDER_NOT_FOUND: (170213, "Order does not exist."),
    Reject.ORDER_CLOSED: (170213, "Order does not exist."),
}


# Refusals a fault asks for (``faults.REASONS``): HTTP status, code, text.
_ASKED: dict[str, tuple[int, int, str]] = {
    "backend_timeout": (200, 10000, "Server Timeout"),
    "unexpected": (200, 170007, "Timeout waiting for response from backend server."),
    "busy": (429, 429, "The trading service is experiencing a high server load. Please retry."),
    "maintenance": (200, 10016, "Server error."),
    "rate_limited": (200, 10006, "Too many visits! Exceeded the API Rate Limit."),
    "banned": (403, 10018, "Exceeded the IP Rate Limit."),
    "duplicate_client_id": (200, 170141, "Duplicate clientOrderId"),
    "insufficient_balance": (200, 170131, "Insufficient balance."),
    "market_closed": (200, 170157, "The trading pair is not available for api trading"),
    "account_restricted": (200, 10027, "Transactions are banned."),
    "key_revoked": (200, 10003, "API key is invalid."),
    "ip_not_allowed": (200, 10010, "Unmatched IP, please check your API key's bound IP addresses."),
    "permission": (200, 10005, "Permission denied, please check your API key permissions."),
}


def asked_for(reason: str) -> BybitError:
    """Return the refusal a fault asks for."""
    status, code, text = _ASKED[reason]
    return BybitError(code, text, status=status)


def limit_headers(seconds: float, now_ms: int) -> dict[str, str]:
    """Return the headers of a spent limit that starts anew after so many seconds."""
    return {
        "X-Bapi-Limit": "20",
        "X-Bapi-Limit-Status": "0",
        "X-Bapi-Limit-Reset-Timestamp": str(now_ms + round(seconds * 1000)),
    }


def from_reject(rejected: Rejected, market: SimMarket | None = None, price: Decimal | None = None) -> BybitError:
    """Return the documented error for a refusal of the exchange; the other two tell where a price limit lies."""
    if rejected.reason is not Reject.PRICE_BAND or market is None or price is None:
        return BybitError(*_TEXTS[rejected.reason])
    highest, lowest = market.last_price * market.rules.price_band, market.last_price / market.rules.price_band
    if price > highest:
        return BybitError(170372, f"Order price cannot be higher than {plain(highest)}, the price limitation.")
    return BybitError(170371, f"Order price cannot be lower than {plain(round(lowest, 8))}, the price limitation.")
