"""OKX v5: what its answers to a new order prove. The code is the order's own (``sCode``) where there is one."""

from __future__ import annotations

from collections.abc import Mapping

from trading.exchanges.outcomes import OutcomeRow, Table, rejected, unknown
from trading.exchanges.retries import Trouble
from trading.messages import Outcome

ERRORS = "OKX API v5 guide: Error Code"

TABLE = Table(
    [
        *unknown(
            ERRORS,
            [
                ("50001", "Service temporarily unavailable"),
                ("50004", "API endpoint request timeout: neither success nor failure"),
                ("50005", "API is offline or unavailable"),
                ("50013", "Systems are busy"),
                ("50026", "System error"),
                ("51011", "Duplicated order ID: the earlier order lives"),
                ("51016", "Duplicated client order ID: the earlier order lives"),
                ("51149", "Order timed out"),
            ],
        ),
        *rejected(
            ERRORS,
            [
                ("50000", "Body for POST request cannot be empty"),
                ("50002", "JSON syntax error"),
                ("50006", "Invalid Content-Type"),
                ("50007", "Account blocked"),
                ("50011", "Rate limit reached"),
                ("50014", "Parameter cannot be empty"),
                ("50015", "Either of two parameters is required"),
                ("50016", "Parameters don't match"),
                ("50024", "Parameters cannot exist at the same time"),
                ("50027", "Account restricted from trading"),
                ("50036", "The expTime can't be earlier than the current system time"),
                ("50061", "Order rate limit of the sub-account reached"),
                ("50100", "API frozen"),
                ("50101", "APIKey does not match current environment"),
                ("50102", "Timestamp request expired"),
                ("50103", "OK-ACCESS-KEY cannot be empty"),
                ("50104", "OK-ACCESS-PASSPHRASE cannot be empty"),
                ("50105", "OK-ACCESS-PASSPHRASE incorrect"),
                ("50106", "OK-ACCESS-SIGN cannot be empty"),
                ("50107", "OK-ACCESS-TIMESTAMP cannot be empty"),
                ("50110", "IP not in the API key's list"),
                ("50111", "Invalid OK-ACCESS-KEY"),
                ("50112", "Invalid OK-ACCESS-TIMESTAMP"),
                ("50113", "Invalid signature"),
                ("50114", "Invalid authorization"),
                ("50115", "Invalid request method"),
                ("50119", "API key doesn't exist"),
                ("50120", "API key lacks the permission"),
                ("51000", "Parameter error"),
                ("51001", "Instrument doesn't exist"),
                ("51003", "Either client order ID or order ID is required"),
                ("51005", "Order amount exceeds the maximum"),
                ("51006", "Order price out of the limit"),
                ("51008", "Insufficient balance"),
                ("51009", "Order placement blocked by the platform"),
                ("51010", "Operation not supported in the account mode"),
                ("51012", "Token doesn't exist"),
                ("51015", "Instrument doesn't match its type"),
                ("51020", "Below the minimum order amount"),
                ("51021", "Contract to be listed"),
                ("51022", "Contract suspended"),
                ("51024", "Trading account blocked"),
                ("51025", "Order count exceeds the limit"),
                ("51031", "Price not within the closing price range"),
                ("51100", "Below the minimum tradable amount"),
                ("51103", "Too many pending orders of the underlying"),
                ("51110", "Only limit orders after the call auction has started"),
                ("51111", "Too many orders in a batch"),
                ("51116", "Order price or trigger price out of range"),
                ("51119", "Insufficient balance"),
                ("51120", "Quantity below the minimum"),
                ("51121", "Quantity must be a multiple of the lot"),
                ("51122", "Price below the minimum"),
                ("51124", "Only limit orders during the call auction"),
                ("51127", "Available balance is 0"),
                ("51131", "Insufficient balance"),
                ("51137", "Buy price above the price limit"),
                ("51138", "Sell price below the price limit"),
                ("51155", "Pair not available to the account"),
                ("51174", "Too many pending orders"),
                ("51185", "Order value above the maximum"),
                ("51203", "Order amount exceeds the limit"),
                ("51204", "A limit order needs a price"),
                ("51250", "Algo order price out of the available range"),
                ("51252", "Algo order amount out of the available range"),
                ("51261", "Too many pending stop orders"),
                ("51275", "Amount of a stop order above the limit"),
                ("51277", "Take-profit trigger above the last price"),
                ("51278", "Stop-loss trigger below the last price"),
                ("51279", "Take-profit trigger below the last price"),
                ("51280", "Stop-loss trigger above the last price"),
            ],
        ),
        OutcomeRow(outcome=Outcome.REJECTED, http=429, meaning="Rate limit reached", source=ERRORS),
    ]
)

NOT_FOUND = frozenset({"51603"})

# A cancellation's answers: there is no such order, it is cancelled, or it is completed already.
GONE = frozenset({"51400", "51401", "51402"})

# The request's time was outside the window.
CLOCK = frozenset({"50036", "50102", "50112"})

# The classes of the guide's error code section: general, API and account.
TROUBLES: Mapping[str, Trouble] = {
    **dict.fromkeys(
        ("50001", "50004", "50005", "50013", "50026", "50036", "50102", "50112", "51149"), Trouble.TRANSIENT
    ),
    **dict.fromkeys(("50011", "50061"), Trouble.LIMITED),
    **dict.fromkeys(
        (
            *("50007", "50027", "50100", "50101", "50105", "50110", "50111", "50113", "50114", "50119", "50120"),
            "51024",
        ),
        Trouble.KEY,
    ),
}
