"""KuCoin spot: what its answers to a new order prove. ``code`` decides, and the text where that says more."""

from __future__ import annotations

from collections.abc import Mapping

from trading.exchanges.outcomes import OutcomeRow, Table, rejected, unknown
from trading.exchanges.retries import Trouble
from trading.messages import Outcome

SPOT = "www.kucoin.com/docs: Basic Info, Errors Code, Spot Errors Code"
GATEWAY = "www.kucoin.com/docs-new: Error Code, Gateway Error Code"
LIMITS = "www.kucoin.com/docs: Basic Info, Request Rate Limit, REST API"
# What KuCoin answers about an order it has not got, whatever the code: ccxt 4.5, kucoin, and its issue 24154.
NO_SUCH_ORDER = "ORDER_NOT_EXIST"
NO_SUCH_ORDER_TEXTS = frozenset(
    {
        "order not exist",
        "order not exist.",
        "order_not_exist",
        "the order does not exist.",
        "order not exist or not allow to be cancelled",
        "order_not_exist_or_not_allow_to_cancel",
    }
)

TABLE = Table(
    [
        *unknown(
            SPOT,
            [
                ("500000", "Internal Server Error"),
                ("408000", "Network timeout"),
                ("126033", "Duplicate order: the earlier order lives"),
                ("126038", "Third-party service call failed"),
                ("126039", "Third-party service call failed"),
                ("126044", "clientOid duplicate: the earlier order lives"),
            ],
        ),
        OutcomeRow(
            outcome=Outcome.UNKNOWN,
            text="clientOid",
            meaning="The client order id, as of an earlier order",
            source=SPOT,
        ),
        OutcomeRow(outcome=Outcome.UNKNOWN, text="duplicate", meaning="An earlier order may live", source=SPOT),
        *rejected(
            SPOT,
            [
                ("200001", "Order creation for this pair suspended"),
                ("200002", "Too many requests to the endpoint"),
                ("200003", "Number of orders breached the limit"),
                ("200004", "Balance insufficient"),
                ("200009", "KYC needed to trade the asset"),
                ("400100", "Parameter error"),
                ("400200", "Forbidden to place an order"),
                ("400500", "Not supported in the region"),
                ("400600", "Pair not open to trading"),
                ("400700", "Transaction restricted: the account is at risk"),
                ("404000", "URL not found"),
                ("411100", "User is frozen"),
                ("415000", "Unsupported media type"),
                ("600203", "Symbol can't be traded"),
            ],
        ),
        *rejected(
            GATEWAY,
            [
                ("400001", "Request header missing"),
                ("400002", "Timestamp differs by more than 5 seconds"),
                ("400003", "API key doesn't exist"),
                ("400004", "Passphrase error"),
                ("400005", "Signature error"),
                ("400006", "IP not in the whitelist"),
                ("400007", "The key lacks the permission"),
                ("400008", "API key version no longer supported"),
                ("400009", "Invalid API key version"),
            ],
        ),
        *rejected(LIMITS, [("429000", "Server overloaded"), ("1015", "Too many requests from the address")]),
        OutcomeRow(outcome=Outcome.REJECTED, http=429, meaning="too many requests", source=LIMITS),
    ]
)

NOT_FOUND = frozenset({NO_SUCH_ORDER})

CLOCK = frozenset({"400002"})

TROUBLES: Mapping[str, Trouble] = {
    **dict.fromkeys(("500000", "408000", "400002"), Trouble.TRANSIENT),
    **dict.fromkeys(("429000", "1015", "200002"), Trouble.LIMITED),
    **dict.fromkeys(
        ("400003", "400004", "400005", "400006", "400007", "400008", "400009", "400700", "411100"), Trouble.KEY
    ),
}
