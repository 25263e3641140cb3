"""Coinbase Advanced Trade: what its answers to a new order prove.

A refused order is HTTP 200 with ``success`` false and a reason; requests that are wrong as such are 4xx.
"""

from __future__ import annotations

from collections.abc import Mapping

from trading.exchanges.outcomes import OutcomeRow, Table, rejected, unknown
from trading.exchanges.retries import Trouble
from trading.messages import Outcome

CREATE = "docs.cdp.coinbase.com: Advanced Trade API, Create Order, error_response"
ERRORS = "docs.cdp.coinbase.com: Coinbase App, error codes"

# new_order_failure_reason, without those that tell nothing.
REASONS = (
    *("UNSUPPORTED_ORDER_CONFIGURATION", "INVALID_SIDE", "INVALID_PRODUCT_ID", "INVALID_SIZE_PRECISION"),
    *("INVALID_PRICE_PRECISION", "INSUFFICIENT_FUND", "INSUFFICIENT_FUNDS", "INVALID_LEDGER_BALANCE"),
    *("ORDER_ENTRY_DISABLED", "INELIGIBLE_PAIR", "INVALID_LIMIT_PRICE_POST_ONLY", "INVALID_LIMIT_PRICE"),
    *("INVALID_NO_LIQUIDITY", "INVALID_REQUEST", "COMMANDER_REJECTED_NEW_ORDER", "UNTRADABLE_PRODUCT"),
    *("GEOFENCING_RESTRICTION", "MISSING_MARKET_TRADE_DATA", "FOK_DISABLED", "FOK_ONLY_ALLOWED_ON_LIMIT_ORDERS"),
    *("POST_ONLY_NOT_ALLOWED_WITH_FOK", "END_TIME_TOO_FAR_IN_FUTURE", "LIMIT_PRICE_TOO_FAR_FROM_MARKET"),
)
# preview_failure_reason: the order did not get past its preview.
PREVIEW_REASONS = (
    *("PREVIEW_MISSING_COMMISSION_RATE", "PREVIEW_INVALID_SIDE", "PREVIEW_INVALID_ORDER_CONFIG"),
    *("PREVIEW_INVALID_PRODUCT_ID", "PREVIEW_INVALID_SIZE_PRECISION", "PREVIEW_INVALID_PRICE_PRECISION"),
    *("PREVIEW_MISSING_PRODUCT_PRICE_BOOK", "PREVIEW_INVALID_LEDGER_BALANCE", "PREVIEW_INSUFFICIENT_LEDGER_BALANCE"),
    *("PREVIEW_INVALID_LIMIT_PRICE_POST_ONLY", "PREVIEW_INVALID_LIMIT_PRICE", "PREVIEW_INVALID_NO_LIQUIDITY"),
    *("PREVIEW_INSUFFICIENT_FUND", "PREVIEW_INVALID_BASE_SIZE_TOO_LARGE", "PREVIEW_INVALID_BASE_SIZE_TOO_SMALL"),
    *("PREVIEW_INVALID_QUOTE_SIZE_TOO_LARGE", "PREVIEW_INVALID_QUOTE_SIZE_TOO_SMALL"),
    *("PREVIEW_INVALID_QUOTE_SIZE_PRECISION", "PREVIEW_INVALID_PRICE_TOO_LARGE", "PREVIEW_UNTRADABLE_PRODUCT"),
    *("PREVIEW_NOT_ALLOWED_BY_MARKET_STATE", "PREVIEW_GEOFENCING_RESTRICTION", "PREVIEW_MISSING_MARKET_TRADE_DATA"),
    *("PREVIEW_FOK_DISABLED", "PREVIEW_FOK_ONLY_ALLOWED_ON_LIMIT_ORDERS", "PREVIEW_POST_ONLY_NOT_ALLOWED_WITH_FOK"),
    *("PREVIEW_CLOSE_ONLY_FAILURE", "PREVIEW_LIMIT_PRICE_TOO_FAR_FROM_MARKET", "PREVIEW_INVALID_LIMIT_PRICE_PRECISION"),
)

TABLE = Table(
    [
        *unknown(
            CREATE,
            [
                ("UNKNOWN_FAILURE_REASON", "No reason given"),
                ("UNKNOWN_PREVIEW_FAILURE_REASON", "No reason given"),
                ("PREVIEW_RISK_PROXY_FAILURE", "A service behind it failed"),
                ("DUPLICATE_CLIENT_ORDER_ID", "The earlier order lives"),
            ],
        ),
        *unknown(ERRORS, [("internal_server_error", "Internal server error"), ("INTERNAL", "Internal error")]),
        *rejected(CREATE, [(reason, reason) for reason in (*REASONS, *PREVIEW_REASONS)]),
        *rejected(
            ERRORS,
            [
                ("INVALID_ARGUMENT", "Invalid argument"),
                ("PERMISSION_DENIED", "The key lacks the permission"),
                ("UNAUTHENTICATED", "Not authenticated"),
                ("param_required", "Missing parameter"),
                ("validation_error", "Unable to validate the request"),
                ("invalid_request", "Invalid request"),
                ("personal_details_required", "Personal details required"),
                ("identity_verification_required", "Identity verification required"),
                ("authentication_error", "Invalid authentication"),
                ("unauthorized", "Not authorized"),
                ("invalid_token", "Invalid token"),
                ("revoked_token", "Revoked token"),
                ("expired_token", "Expired token"),
                ("invalid_scope", "Scope not authorized"),
                ("rate_limit_exceeded", "Rate limit exceeded"),
                ("resource_exhausted", "Rate limit exceeded"),
            ],
        ),
        OutcomeRow(outcome=Outcome.REJECTED, http=401, meaning="Unauthorized", source=ERRORS),
        OutcomeRow(outcome=Outcome.REJECTED, http=429, meaning="Rate limit exceeded", source=ERRORS),
    ]
)

TROUBLES: Mapping[str, Trouble] = {
    **dict.fromkeys(("INTERNAL", "internal_server_error", "PREVIEW_RISK_PROXY_FAILURE"), Trouble.TRANSIENT),
    **dict.fromkeys(("rate_limit_exceeded", "resource_exhausted"), Trouble.LIMITED),
    **dict.fromkeys(
        (
            *("PERMISSION_DENIED", "UNAUTHENTICATED", "unauthorized", "authentication_error"),
            *("invalid_token", "revoked_token", "expired_token", "invalid_scope"),
            *("personal_details_required", "identity_verification_required"),
        ),
        Trouble.KEY,
    ),
}
