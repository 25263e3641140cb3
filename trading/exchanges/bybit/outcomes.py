"""Bybit v5: what its answers to a new order prove. The HTTP status is 200 for most; ``retCode`` decides."""

from __future__ import annotations

from collections.abc import Mapping

from trading.exchanges.outcomes import OutcomeRow, Table, rejected, unknown
from trading.exchanges.retries import Trouble
from trading.messages import Outcome

ERRORS = "Bybit v5 API: Error Codes"
SOCKET = "Bybit v5 API: WebSocket Trade Guideline"

TABLE = Table(
    [
        *unknown(
            ERRORS,
            [
                ("10000", "Server Timeout"),
                ("5004", "Server Timeout"),
                ("10014", "Request is duplicate: the earlier one may live"),
                ("12141", "Duplicate clientOrderId: the earlier order lives"),
                ("10016", "Internal server error"),
                ("170001", "Internal error"),
                ("170007", "Timeout waiting for response from backend server"),
                ("170032", "Network error"),
                ("170035", "Submitted to the system for processing"),
                ("170141", "Duplicate clientOrderId: the earlier order lives"),
                ("170146", "Order creation timeout"),
                ("170149", "Create order failed"),
                ("170234", "System error"),
                ("110072", "OrderLinkedID is duplicate: the earlier order lives"),
            ],
        ),
        *rejected(
            ERRORS,
            [
                ("10001", "Request parameter error"),
                ("10002", "Request time exceeds the time window"),
                ("10003", "API key is invalid"),
                ("10004", "Error sign"),
                ("10005", "Permission denied"),
                ("10006", "Too many visits"),
                ("10007", "API key not found in the request"),
                ("10008", "User has been banned"),
                ("10009", "IP has been banned"),
                ("10010", "Unmatched IP"),
                ("10017", "Route not found"),
                ("10018", "Exceeded the IP rate limit"),
                ("10024", "Compliance rules triggered"),
                ("10027", "Transactions are banned"),
                ("10028", "API only for unified account users"),
                ("10029", "Symbol not whitelisted"),
                ("33004", "API key expired"),
                ("110007", "Available balance is insufficient"),
                ("170005", "Too many new orders"),
                ("170010", "Purchase failed: exceed the maximum position limit"),
                ("170031", "The feature has been suspended"),
                ("170033", "Insufficient account balance"),
                ("170105", "Parameter was empty"),
                ("170115", "Invalid timeInForce"),
                ("170116", "Invalid orderType"),
                ("170117", "Invalid side"),
                ("170121", "Invalid symbol"),
                ("170124", "Order amount too large"),
                ("170130", "Data sent for parameter is not valid"),
                ("170131", "Balance insufficient"),
                ("170132", "Order price too high"),
                ("170133", "Order price lower than the minimum"),
                ("170134", "Order price decimal too long"),
                ("170135", "Order quantity too large"),
                ("170136", "Order quantity lower than the minimum"),
                ("170137", "Order volume decimal too long"),
                ("170140", "Order value exceeded lower limit"),
                ("170148", "Market order amount decimal too long"),
                ("170151", "The trading pair is not open yet"),
                ("170157", "The trading pair is not available for api trading"),
                ("170159", "Market orders not supported yet"),
                ("170192", "Order price cannot be higher than the limit"),
                ("170193", "Buy order price cannot be higher than the limit"),
                ("170194", "Sell order price cannot be lower than the limit"),
                ("170197", "Buy quantity too large: the price may deviate"),
                ("170198", "Sell quantity too large: the price may deviate"),
                ("170199", "Buy quantity too large: the price may deviate"),
                ("170200", "Sell quantity too large: the price may deviate"),
                ("170201", "The account is restricted for trades"),
                ("170209", "The pair is not available in the region"),
                ("170210", "New order rejected"),
                ("170217", "Only LIMIT-MAKER orders for the pair"),
                ("170218", "LIMIT-MAKER order rejected for its price"),
                ("170221", "The coin does not exist"),
                ("170222", "Too many requests in this time frame"),
                ("170224", "Not a user of the Innovation Zone"),
                ("170228", "Purchase above the estimated maximum"),
                ("170229", "Sale above the estimated maximum"),
                ("170241", "Terms of the coin have to be confirmed first"),
                ("170371", "Order price cannot be lower than the limit"),
                ("170372", "Order price cannot be higher than the limit"),
                ("170810", "Cannot exceed maximum of active orders"),
            ],
        ),
        *unknown(
            SOCKET,
            [
                ("10019", "The service is restarting; requests under way are not affected"),
                ("20006", "reqId is duplicated: the earlier request may live"),
            ],
        ),
        *rejected(
            SOCKET,
            [
                ("10404", "The operation or the category is not known"),
                ("10429", "System level frequency protection"),
                ("20003", "Too frequent requests on one connection"),
            ],
        ),
        OutcomeRow(outcome=Outcome.REJECTED, http=429, meaning="Too many requests", source=ERRORS),
    ]
)

# "Order does not exist" of a question, and of a cancellation.
NOT_FOUND = frozenset({"110001", "170213"})

# A cancellation's answers: filled, cancelled or partly filled and cancelled already.
GONE = frozenset({"170139", "170142", "170143"})

# 10018: "wait for ten minutes" (rate limits page); 10009 says no time, and comes of the same.
IP_BAN_SECONDS = 600.0
IP_BANS = frozenset({"10009", "10018"})

# The request's time was outside the window.
CLOCK = frozenset({"10002"})

# The error codes page: HTTP and gateway codes, then those of spot trading.
TROUBLES: Mapping[str, Trouble] = {
    **dict.fromkeys(
        ("5004", "10000", "10002", "10016", "10019", "170001", "170007", "170032", "170234"), Trouble.TRANSIENT
    ),
    **dict.fromkeys(("10006", "10009", "10018", "10429", "20003", "170005", "170222"), Trouble.LIMITED),
    **dict.fromkeys(
        ("10003", "10004", "10005", "10007", "10008", "10010", "10024", "10027", "10028", "33004", "170201"),
        Trouble.KEY,
    ),
}
