"""Binance spot: what its answers to a new order prove."""

from __future__ import annotations

from collections.abc import Mapping

from trading.exchanges.outcomes import OutcomeRow, Table, rejected, unknown
from trading.exchanges.retries import Trouble
from trading.messages import Outcome

# Its -1013 and -2010 also refuse what can't wait: MAX_NUM_ALGO_ORDERS, a stop that "would trigger immediately", a limit
# that "would immediately match and take", prices in a wrong relationship, too little of a balance.
ERRORS = "binance-spot-api-docs: errors.md"
REST = "binance-spot-api-docs: rest-api.md, HTTP return codes"

TABLE = Table(
    [
        *unknown(
            ERRORS,
            [
                ("-1000", "UNKNOWN"),
                ("-1001", "DISCONNECTED"),
                ("-1006", "UNEXPECTED_RESP: execution status unknown"),
                ("-1007", "TIMEOUT: execution status unknown"),
                ("-1008", "SERVER_BUSY"),
                ("-1016", "SERVICE_SHUTTING_DOWN"),
            ],
        ),
        # The first order with this id lives: this answer says nothing of it but that.
        OutcomeRow(
            outcome=Outcome.UNKNOWN,
            code="-2010",
            text="duplicate",
            meaning="NEW_ORDER_REJECTED: an order with this id is open",
            source=ERRORS,
        ),
        *rejected(
            ERRORS,
            [
                ("-1002", "UNAUTHORIZED"),
                ("-1003", "TOO_MANY_REQUESTS"),
                ("-1013", "INVALID_MESSAGE: a filter of the symbol"),
                ("-1014", "UNKNOWN_ORDER_COMPOSITION"),
                ("-1015", "TOO_MANY_ORDERS"),
                ("-1020", "UNSUPPORTED_OPERATION"),
                ("-1021", "INVALID_TIMESTAMP"),
                ("-1022", "INVALID_SIGNATURE"),
                ("-1100", "ILLEGAL_CHARS"),
                ("-1101", "TOO_MANY_PARAMETERS"),
                ("-1102", "MANDATORY_PARAM_EMPTY_OR_MALFORMED"),
                ("-1103", "UNKNOWN_PARAM"),
                ("-1104", "UNREAD_PARAMETERS"),
                ("-1105", "PARAM_EMPTY"),
                ("-1106", "PARAM_NOT_REQUIRED"),
                ("-1108", "PARAM_OVERFLOW"),
                ("-1111", "BAD_PRECISION"),
                ("-1112", "NO_DEPTH"),
                ("-1114", "TIF_NOT_REQUIRED"),
                ("-1115", "INVALID_TIF"),
                ("-1116", "INVALID_ORDER_TYPE"),
                ("-1117", "INVALID_SIDE"),
                ("-1118", "EMPTY_NEW_CL_ORD_ID"),
                ("-1121", "BAD_SYMBOL"),
                ("-1122", "INVALID_SYMBOLSTATUS"),
                ("-1128", "OPTIONAL_PARAMS_BAD_COMBO"),
                ("-1130", "INVALID_PARAMETER"),
                ("-1135", "INVALID_JSON"),
                ("-1158", "OCO_ORDER_TYPE_REJECTED"),
                ("-1160", "OCO_ICEBERGQTY_TIMEINFORCE"),
                ("-1165", "BUY_OCO_LIMIT_MUST_BE_BELOW"),
                ("-1166", "SELL_OCO_LIMIT_MUST_BE_ABOVE"),
                ("-1168", "BOTH_OCO_ORDERS_CANNOT_BE_LIMIT"),
                ("-1182", "PARAMS_BAD_COMBO"),
                ("-1196", "BUY_OCO_STOP_LOSS_MUST_BE_ABOVE"),
                ("-1197", "SELL_OCO_STOP_LOSS_MUST_BE_BELOW"),
                ("-1198", "BUY_OCO_TAKE_PROFIT_MUST_BE_BELOW"),
                ("-1199", "SELL_OCO_TAKE_PROFIT_MUST_BE_ABOVE"),
                ("-1220", "SYMBOL_DOES_NOT_MATCH_STATUS"),
                ("-2010", "NEW_ORDER_REJECTED"),
                ("-2014", "BAD_API_KEY_FMT"),
                ("-2015", "REJECTED_MBX_KEY"),
            ],
        ),
        OutcomeRow(outcome=Outcome.REJECTED, http=429, meaning="a request limit was reached", source=REST),
        OutcomeRow(outcome=Outcome.REJECTED, http=418, meaning="the IP address is banned", source=REST),
    ]
)

# Answers to a question about an order, or to a cancellation, that say the order is not known (any longer).
NOT_FOUND = frozenset({"-2013"})

# A cancellation's "Unknown order sent."
GONE = frozenset({"-2011"})

# The request's time was outside the window.
CLOCK = frozenset({"-1021"})

# errors.md: -1022 and -2014 are a wrong secret or key, -2015 a key revoked, or used from another address.
TROUBLES: Mapping[str, Trouble] = {
    **dict.fromkeys(("-1000", "-1001", "-1006", "-1007", "-1008", "-1016", "-1021"), Trouble.TRANSIENT),
    **dict.fromkeys(("-1003", "-1015", "-1034"), Trouble.LIMITED),
    **dict.fromkeys(("-1002", "-1022", "-2014", "-2015"), Trouble.KEY),
}

# errors.md, messages of -2010 and -2011: the account is restricted, whatever it orders.
RESTRICTED = ("This action is disabled on this account", "This account may not place or cancel orders")
