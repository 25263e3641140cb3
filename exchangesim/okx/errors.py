"""OKX's error codes and texts, and how the exchange's refusals become them."""

from __future__ import annotations

from decimal import Decimal

from exchangesim.core.market import SimMarket
from exchangesim.core.orders import Reject, Rejected
from exchangesim.core.text import plain


class OkxError(Exception):
    """A refusal with OKX's code and text; ``status`` is the HTTP status it travels with over REST."""

    def __init__(self, code: str, message: str, *, status: int = 200) -> None:
        super().__init__(f"{code} {message}")
        self.code = code
        self.message = message
        self.status = status


def missing(parameter: str) -> OkxError:
    return OkxError("50014", f"Parameter {parameter} cannot be empty", status=400)


def wrong(parameter: str) -> OkxError:
    return OkxError("51000", f"Parameter {parameter} error")


def unknown_instrument() -> OkxError:
    return OkxError("51001", "Instrument ID, Instrument ID code, or Spread ID doesn't exist.")


def too_frequent() -> OkxError:
    return OkxError(
        "50011",
        "Rate limit reached. Please refer to API documentation and throttle requests accordingly.",
        status=429,
    )


_TEXTS: dict[Reject, tuple[str, str]] = {
    Reject.UNKNOWN_SYMBOL: ("51001", "Instrument ID, Instrument ID code, or Spread ID doesn't exist."),
    Reject.SYMBOL_HALTED: ("51022", "Instrument is suspended."),
    Reject.PERMISSION: ("50120", "This API key doesn't have permission to use this function"),
    Reject.BAD_PRICE: ("51000", "Parameter px error"),
    Reject.BAD_QUANTITY: ("51000", "Parameter sz error"),
    # No code of OKX names the tick; a price between ticks is a bad parameter.
    Reject.PRICE_TICK: ("51000", "Parameter px error"),
    Reject.PRICE_BAND: (
        "51006",
        "Order price is not within the price limit (max buy price: {highest} min sell price: {lowest})",
    ),
    Reject.QUANTITY_LOT: ("51121", "Order quantity must be a multiple of the lot size."),
    Reject.QUANTITY_TOO_SMALL: ("51020", "Your order should meet or exceed the minimum order amount."),
    Reject.QUANTITY_TOO_LARGE: ("51005", "Your order amount exceeds the max order amount."),
    Reject.NOTIONAL_TOO_SMALL: ("51020", "Your order should meet or exceed the minimum order amount."),
    Reject.TOO_MANY_OPEN_ORDERS: ("51025", "Order count exceeds the limit"),
    Reject.INSUFFICIENT_BALANCE: ("51008", "Order failed. Insufficient {asset} balance in account"),
    Reject.DUPLICATE_CLIENT_ID: ("51016", "Duplicated client order ID"),
    Reject.WOULD_TAKE: ("51000", "Parameter ordType error"),
    Reject.WOULD_TRIGGER: ("51000", "Parameter triggerPx error"),
    Reject.PRICE_RELATION: ("51000", "Parameter attachAlgoOrds error"),
    Reject.TOO_MANY_CONDITIONAL: ("51261", "Each user can hold up to 200 pending stop orders at the same time"),
    Reject.TOO_MANY_LISTS: ("51261", "Each user can hold up to 200 pending stop orders at the same time"),
    Reject.DUPLICATE_LIST_ID: ("51065", "algoClOrdId already exists."),
    Reject.ORDER_NOT_FOUND: (
        "51400",
        "Cancellation failed as the order has been filled, canceled or does not exist",
    ),
    Reject.ORDER_CLOSED: (
        "51400",
        "Cancellation failed as the order has been filled, canceled or does not exist",
    ),
}


def from_reject(rejected: Rejected, market: SimMarket | None = None) -> OkxError:
    """Return the documented error for a refusal of the exchange."""
    code, text = _TEXTS[rejected.reason]
    last, band = (market.last_price, market.rules.price_band) if market else (Decimal(0), Decimal(1))
    message = text.format(asset=rejected.asset, highest=plain(last * band), lowest=plain(round(last / band, 8)))
    return OkxError(code, message, status=401 if rejected.reason is Reject.PERMISSION else 200)


# Refusals a fault asks for (``faults.REASONS``): HTTP status, code, text. OKX bans nobody for calling too often: who
# goes on is told the same again.
_LIMITED = (429, "50011", "Rate limit reached. Please refer to API documentation and throttle requests accordingly.")
_ASKED: dict[str, tuple[int, str, str]] = {
    "backend_timeout": (
        200,
        "50004",
        "API endpoint request timeout (does not mean that the request was successful or failed, "
        "please check the request result).",
    ),
    "unexpected": (500, "50026", "System error. Try again later"),
    "busy": (503, "50013", "Systems are busy. Please try again later."),
    "maintenance": (503, "50001", "Service temporarily unavailable. Try again later"),
    "rate_limited": _LIMITED,
    "banned": _LIMITED,
    "duplicate_client_id": (200, "51016", "Duplicated client order ID"),
    "insufficient_balance": (200, "51008", "Order failed. Insufficient USDT balance in account"),
    "market_closed": (200, "51022", "Instrument is suspended."),
    "account_restricted": (200, "50007", "Account blocked."),
    "key_revoked": (401, "50111", "Invalid OK-ACCESS-KEY"),
    "ip_not_allowed": (401, "50110", "Your IP 127.0.0.1 is not included in your API key's IP whitelist."),
    "permission": (401, "50120", "This API key doesn't have permission to use this function"),
}
OF_ORDERS = frozenset({"duplicate_client_id", "insufficient_balance", "market_closed"})
"""Reasons that are told of the order (``sCode``) and not of the request."""


def asked_for(reason: str) -> OkxError:
    """Return the refusal a fault asks for."""
    status, code, text = _ASKED[reason]
    return OkxError(code, text, status=status)


def amend_failed() -> OkxError:
    return OkxError("51503", "Order modification failed as the order has been filled, canceled or does not exist")
