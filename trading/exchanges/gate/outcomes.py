"""Gate spot: what its answers to a new order prove. Refusals are HTTP 4xx with a ``label``; 5xx is the server's."""

from __future__ import annotations

from collections.abc import Mapping

from trading.exchanges.outcomes import OutcomeRow, Table, rejected, unknown
from trading.exchanges.retries import Trouble
from trading.messages import Outcome

LABELS = "www.gate.com/docs/developers/apiv4: Error Handling, label list"

TABLE = Table(
    [
        *unknown(
            LABELS,
            [
                ("INTERNAL", "Internal server error"),
                ("SERVER_ERROR", "Internal server error"),
                ("INTERNAL_SERVER_ERROR", "Operation failed"),
                ("TOO_BUSY", "Server is too busy"),
                ("SERVER_TIMEOUT", "Service timeout"),
                ("FAILED_RETRIEVE_ASSETS", "Failed to retrieve account assets"),
                ("DUPLICATE_REQUEST", "Duplicate request: the earlier one may live"),
                ("ORDER_EXISTS", "Order already exists: the earlier order lives"),
                ("REPEATED_CREATION", "Repeated creation: the earlier one may live"),
                ("ORDER_CLOSED", "Order already closed"),
                ("ORDER_CANCELLED", "Order already cancelled"),
            ],
        ),
        *rejected(
            LABELS,
            [
                ("INVALID_PARAM_VALUE", "Invalid parameter value"),
                ("INVALID_PROTOCOL", "Invalid parameter value"),
                ("INVALID_ARGUMENT", "Invalid argument"),
                ("INVALID_REQUEST_BODY", "Invalid request body"),
                ("MISSING_REQUIRED_PARAM", "Missing required parameter"),
                ("BAD_REQUEST", "Invalid request"),
                ("INVALID_CONTENT_TYPE", "Invalid Content-Type"),
                ("NOT_ACCEPTABLE", "Invalid Accept header"),
                ("METHOD_NOT_ALLOWED", "Method not allowed"),
                ("NOT_FOUND", "URL does not exist"),
                ("INVALID_CREDENTIALS", "Invalid credentials"),
                ("INVALID_KEY", "Invalid API key"),
                ("IP_FORBIDDEN", "IP not in the whitelist"),
                ("READ_ONLY", "API key is read-only"),
                ("INVALID_SIGNATURE", "Invalid signature"),
                ("MISSING_REQUIRED_HEADER", "Missing authentication header"),
                ("REQUEST_EXPIRED", "Timestamp far from the server's time"),
                ("ACCOUNT_LOCKED", "Account is locked"),
                ("FORBIDDEN", "Account lacks the permission"),
                ("SUB_ACCOUNT_LOCKED", "Sub account is locked"),
                ("INVALID_CLIENT_ORDER_ID", "Invalid client order id"),
                ("INVALID_PRECISION", "Invalid precision"),
                ("INVALID_CURRENCY", "Invalid currency"),
                ("INVALID_CURRENCY_PAIR", "Invalid currency pair"),
                ("POC_FILL_IMMEDIATELY", "Would match at once, so it is cancelled"),
                ("QUANTITY_NOT_ENOUGH", "Amount is not enough"),
                ("BALANCE_NOT_ENOUGH", "Balance is not enough"),
                ("AMOUNT_TOO_LITTLE", "Below the minimum"),
                ("AMOUNT_TOO_MUCH", "Above the maximum"),
                ("TOO_MANY_ORDERS", "Too many orders"),
                ("TRADE_RESTRICTED", "Trading is restricted"),
                ("FOK_NOT_FILL", "FOK order cannot be filled completely"),
                ("TOO_MANY_REQUESTS", "Too many requests"),
                ("REQUEST_FORBIDDEN", "Request forbidden"),
            ],
        ),
        OutcomeRow(outcome=Outcome.REJECTED, http=429, meaning="too many requests", source="RFC 6585, section 4"),
    ]
)

NOT_FOUND = frozenset({"ORDER_NOT_FOUND", "CLIENT_ID_NOT_FOUND"})

CLOCK = frozenset({"REQUEST_EXPIRED"})

TROUBLES: Mapping[str, Trouble] = {
    **dict.fromkeys(
        (
            *("INTERNAL", "SERVER_ERROR", "INTERNAL_SERVER_ERROR", "TOO_BUSY", "SERVER_TIMEOUT"),
            *("FAILED_RETRIEVE_ASSETS", "REQUEST_EXPIRED"),
        ),
        Trouble.TRANSIENT,
    ),
    **dict.fromkeys(("TOO_MANY_REQUESTS", "TOO_FAST"), Trouble.LIMITED),
    **dict.fromkeys(
        (
            *("INVALID_CREDENTIALS", "INVALID_KEY", "IP_FORBIDDEN", "READ_ONLY", "INVALID_SIGNATURE"),
            *("AUTHENTICATION_FAILED", "ACCOUNT_LOCKED", "SUB_ACCOUNT_LOCKED", "FORBIDDEN"),
        ),
        Trouble.KEY,
    ),
}
