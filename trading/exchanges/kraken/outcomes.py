"""Kraken spot: what its answers to a new order prove. The HTTP status is 200 throughout; ``error`` decides.

A code is an error's category and description; what some append after a second colon is left to the message.
"""

from __future__ import annotations

from collections.abc import Mapping

from trading.exchanges.outcomes import OutcomeRow, Table, rejected, unknown
from trading.exchanges.retries import Trouble
from trading.messages import Outcome

ERRORS = "docs.kraken.com: Error messages (exchange/guides/general/errors)"
CL_ORD_ID = "docs.kraken.com: Spot Client Order Identifiers (exchange/guides/general/clordid)"

TABLE = Table(
    [
        # The service doesn't know, or doesn't say, what became of the order.
        *unknown(
            ERRORS,
            [
                ("EService:Unavailable", "Matching engine or API offline"),
                ("EService:Busy", "Service busy"),
                ("EService:Timeout", "Service timeout"),
                ("EGeneral:Internal error", "Internal error"),
                ("EDatabase:Internal error", "Internal error"),
                (
                    "EAPI:Invalid nonce",
                    "Nonce not above the last one: overtaken, or received twice",
                ),
            ],
        ),
        OutcomeRow(
            outcome=Outcome.UNKNOWN,
            code="EGeneral:Invalid arguments",
            text="cl_ord_id",
            meaning="The client order id, which is refused while an order with it is open",
            source=CL_ORD_ID,
        ),
        OutcomeRow(
            outcome=Outcome.UNKNOWN,
            text="duplicate",
            meaning="An order with this client order id is open",
            source=CL_ORD_ID,
        ),
        *rejected(
            ERRORS,
            [
                ("EAPI:Invalid key", "API key missing, malformed, deleted or revoked"),
                ("EAPI:Invalid signature", "Signature doesn't match"),
                ("EAPI:Rate limit exceeded", "Too many calls"),
                ("EAuth:Account temporary disabled", "Account disabled"),
                ("EAuth:Account unconfirmed", "Account unconfirmed"),
                ("EAuth:Rate limit exceeded", "Too many authentications"),
                ("EAuth:Too many requests", "Too many authentications"),
                ("EGeneral:Temporary lockout", "Locked out after repeated invalid keys"),
                ("EGeneral:Permission denied", "The key lacks the permission"),
                ("EGeneral:Invalid arguments", "Malformed or missing parameters"),
                ("EOrder:Insufficient funds", "Insufficient funds"),
                ("EOrder:Order minimum not met", "Volume below the minimum"),
                ("EOrder:Cost minimum not met", "Cost below the minimum"),
                ("EOrder:Tick size check failed", "Price not a multiple of the tick"),
                ("EOrder:Invalid price", "Invalid price"),
                ("EOrder:Rate limit exceeded", "Too many orders"),
                ("EOrder:Orders limit exceeded", "Too many open orders"),
                ("EOrder:Domain rate limit exceeded", "Too many orders of master and subaccounts"),
                ("EOrder:Positions limit exceeded", "Too many positions"),
                ("EService:Market in cancel_only mode", "Only cancellations are taken"),
                ("EService:Market in post_only mode", "Only maker orders are taken"),
                ("EService:Deadline elapsed", "The order's deadline passed before it was processed"),
                ("ETrade:Invalid request", "Invalid request"),
                ("EAccount:Invalid permissions", "The account lacks the permission"),
                ("EQuery:Unknown asset pair", "Unknown pair"),
                ("EBM:limit exceeded", "Acquisition limit exceeded"),
            ],
        ),
        OutcomeRow(outcome=Outcome.REJECTED, http=429, meaning="too many requests", source="RFC 6585, section 4"),
    ]
)

NOT_FOUND = frozenset({"EOrder:Unknown order"})

CLOCK = frozenset({"EService:Deadline elapsed"})

TROUBLES: Mapping[str, Trouble] = {
    **dict.fromkeys(
        (
            *("EService:Unavailable", "EService:Busy", "EService:Timeout", "EService:Deadline elapsed"),
            *("EGeneral:Internal error", "EDatabase:Internal error", "EAPI:Invalid nonce"),
        ),
        Trouble.TRANSIENT,
    ),
    **dict.fromkeys(
        (
            *("EAPI:Rate limit exceeded", "EOrder:Rate limit exceeded", "EOrder:Domain rate limit exceeded"),
            *("EAuth:Rate limit exceeded", "EAuth:Too many requests", "EGeneral:Too many requests"),
            "EGeneral:Temporary lockout",
        ),
        Trouble.LIMITED,
    ),
    **dict.fromkeys(
        (
            *("EAPI:Invalid key", "EAPI:Invalid signature", "EGeneral:Permission denied"),
            *("EAuth:Account temporary disabled", "EAuth:Account unconfirmed", "EAccount:Invalid permissions"),
            "ETrade:User Locked",
        ),
        Trouble.KEY,
    ),
}
