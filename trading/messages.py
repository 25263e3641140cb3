"""Frozen values that cross borders: market data in, intents out, events back.

Floats appear only in market data and detection; orders, fills, fees and balances are Decimal.
Times ending in ``_ns`` are wall-clock nanoseconds since the epoch unless named ``monotonic``.
"""

from __future__ import annotations

from collections.abc import Mapping
from decimal import Decimal
from enum import StrEnum
from typing import NamedTuple

import msgspec

from risk.policy.realised import LegExecution, LegSlippage
from risk.policy.verdict import ALLOWED, Verdict
from trading.instruments import Side

__all__ = [
    "ALLOWED", "AT_DEPTH", "COMPARED", "PAID", "AccountBalance", "Assessment", "BookTop", "Decision", "DecisionKey",
    "Fill", "KnownOrder", "LegPolicy", "LegQuote", "LegSlippageRecord", "Opportunity", "OrderEvent", "OrderIntent",
    "OrderKind", "OrderState", "Outcome", "PlaceResult", "PublicTrade", "StreamState", "TimeInForce", "TradeRecord",
    "TradeState", "Verdict",
]  # fmt: skip


class BookTop(msgspec.Struct, frozen=True, gc=False):
    """Best bid and ask of one market; sizes in the market's own unit."""

    market: str
    bid: float
    bid_size: float
    ask: float
    ask_size: float
    exchange_ns: int
    received_ns: int


class PublicTrade(msgspec.Struct, frozen=True, gc=False):
    """One (aggregated) public trade; ``side`` is the taker's."""

    market: str
    price: float
    size: float
    side: Side
    exchange_ns: int
    received_ns: int


class LegQuote(msgspec.Struct, frozen=True, gc=False):
    """One leg of an opportunity as the books price it.

    ``quantity`` is in base units, ``vwap`` and ``worst_price`` are quote per base before fees, ``fee_rate`` a
    fraction of notional, ``impact_bps`` the VWAP's distance from the best price (never negative).
    ``order_quantity`` is the leg in the market's own unit, whole lots: the float nearest to the decimal, so that
    ``Decimal(repr(order_quantity))`` is exact (an inverse leg's contracts can't be had back from base units).
    """

    market: str
    side: Side
    quantity: float
    vwap: float
    worst_price: float
    fee_rate: float
    impact_bps: float
    book_age_ms: float
    order_quantity: float = 0.0


class Opportunity(msgspec.Struct, frozen=True):
    """A route that is profitable now; edges in basis points of the buy notional, profit in the quote asset."""

    bot_id: int
    route: str
    base: str
    quote: str
    buy: LegQuote
    sell: LegQuote
    quantity: float
    gross_bps: float
    net_bps: float
    net_profit: float
    detected_ns: int
    detected_monotonic_ns: int


class Assessment(msgspec.Struct, frozen=True, kw_only=True):
    """How an opportunity was sized and rated; shares in [0, 1], basis points of notional, money in the quote asset.

    ``notional`` is the size after all ``factors``, ``score`` the weighted ``components``, ``costs_bps`` what is
    expected beyond fees: the walk through the books, drift while orders travel, impact, and the threshold they met.
    """

    notional: float
    factors: Mapping[str, float] = {}
    score: float = 0.0
    components: Mapping[str, float] = {}
    costs_bps: Mapping[str, float] = {}


class Decision(msgspec.Struct, frozen=True):
    """What was done about an opportunity, and the first check that refused it.

    ``later_profit`` is what it would have earned had it been taken LATER_SECONDS after it was seen (quote asset, for
    the same size; None: not looked at, or no longer to be had). ``wanted_bps`` is the net edge that was asked for.
    """

    opportunity: Opportunity
    verdict: Verdict
    check: str  # name of the deciding check; "" when taken
    trade_id: str = ""
    assessment: Assessment | None = None
    later_profit: float | None = None
    wanted_bps: float = 0.0


# What a DecisionKey's ``check`` says of an opportunity that was not judged: how far the detector got with it.
COMPARED = "seen:compared"  # a route's best prices were compared
PAID = "seen:paid"  # they paid the fees and the wanted edge
AT_DEPTH = "depth:"  # with the reason behind it: the books did not hold what the best prices promised


class DecisionKey(NamedTuple):
    """What is counted together: one bot's opportunities of one pair that ended at the same check.

    ``check`` is "" for those that became trades, the name of the check that refused, or COMPARED, PAID or AT_DEPTH
    with a reason. What paid and did not end at depth is an opportunity, and was judged.
    """

    bot_id: int
    base: str
    quote: str
    check: str


class OrderState(StrEnum):
    PENDING = "PENDING"
    SENDING = "SENDING"
    UNKNOWN = "UNKNOWN"
    PLACED = "PLACED"
    PARTIALLY_FILLED = "PARTIALLY_FILLED"
    FILLED = "FILLED"
    CANCELLED = "CANCELLED"
    FAILED = "FAILED"
    DISPUTED = "DISPUTED"


class OrderKind(StrEnum):
    LIMIT = "limit"


class TimeInForce(StrEnum):
    IOC = "IOC"
    FOK = "FOK"
    GTC = "GTC"
    POST_ONLY = "PO"


class TradeState(StrEnum):
    """The saga's states. CLOSED has nothing unhedged; EXPOSED holds a residual that needs an operator."""

    OPEN = "OPEN"
    REPAIRING = "REPAIRING"
    CLOSED = "CLOSED"
    EXPOSED = "EXPOSED"
    FAILED = "FAILED"  # nothing was executed


FINISHED_TRADES = frozenset({TradeState.CLOSED, TradeState.FAILED, TradeState.EXPOSED})


class TradeMode(StrEnum):
    """Whose money a trade moves. Amounts of two modes are never added together."""

    PAPER = "paper"  # fills against live books, nothing is sent
    SIMULATED = "simulated"  # real orders, at least one of them on a simulated exchange
    TESTNET = "testnet"
    LIVE = "live"


class LegPolicy(StrEnum):
    """How the first orders of a trade leave."""

    TOGETHER = "together"  # all at once
    UNCERTAIN_FIRST = "uncertain_first"  # the less certain leg, then the other, sized to what that filled


class OrderIntent(msgspec.Struct, frozen=True, kw_only=True):
    """An order to be made durable before it is sent. ``quantity`` is in the market's own unit."""

    client_order_id: str
    trade_id: str
    account_id: int
    market: str
    leg: int
    attempt: int
    side: Side
    kind: OrderKind = OrderKind.LIMIT
    time_in_force: TimeInForce = TimeInForce.IOC
    price: Decimal
    quantity: Decimal
    reduce_only: bool = False
    deadline_ns: int
    created_ns: int
    # Reserved while the order may live: (asset, amount).
    reserve_asset: str = ""
    reserve_amount: Decimal = Decimal(0)


class Outcome(StrEnum):
    """What the exchange's answer to a placement proves."""

    PLACED = "PLACED"
    REJECTED = "REJECTED"
    UNKNOWN = "UNKNOWN"


class PlaceResult(msgspec.Struct, frozen=True, kw_only=True):
    """Answer to one placement. ``raw`` has secrets removed. An immediate answer may carry the order's fills."""

    outcome: Outcome
    exchange_order_id: str = ""
    code: str = ""
    message: str = ""
    events: tuple[OrderEvent, ...] = ()
    raw: str = ""


class Fill(msgspec.Struct, frozen=True, kw_only=True):
    """One execution, keyed by (account, market, exchange trade id); quantity in the market's own unit."""

    account_id: int
    market: str
    exchange_trade_id: str
    exchange_order_id: str
    client_order_id: str
    side: Side
    price: Decimal
    quantity: Decimal
    fee: Decimal | None  # None: not known yet
    fee_asset: str
    liquidity: str  # "taker", "maker" or ""
    exchange_ns: int


class OrderEvent(msgspec.Struct, frozen=True, kw_only=True):
    """What the exchange said about one order, from a stream, an answer or a query.

    ``state`` is what the exchange's status means in our words; ``filled`` the cumulative quantity it names (None if
    it names none). ``source`` is ``stream``, ``answer``, ``query``, ``engine`` or ``operator``.
    """

    account_id: int
    market: str
    client_order_id: str
    exchange_order_id: str = ""
    state: OrderState
    filled: Decimal | None = None
    fills: tuple[Fill, ...] = ()
    source: str
    cause: str = ""
    raw: str = ""
    exchange_ns: int = 0
    received_ns: int = 0


class AccountBalance(msgspec.Struct, frozen=True, kw_only=True):
    """The exchange's figures for one asset of one account."""

    account_id: int
    asset: str
    free: Decimal
    used: Decimal
    received_ns: int


class StreamState(msgspec.Struct, frozen=True, kw_only=True):
    """State of an account's private stream: ``live``, ``down`` or ``failed``, with the reason when not live."""

    account_id: int
    state: str
    reason: str = ""
    received_ns: int = 0


class KnownOrder(msgspec.Struct, frozen=True, kw_only=True):
    """An order an account has had, as the store knows it.

    From ``since_ns`` (wall clock) on, what happened on the account may not be known: a process may have died between
    hearing of it and writing it down.
    """

    account_id: int
    market: str
    client_order_id: str
    exchange_order_id: str
    since_ns: int


class LegSlippageRecord(msgspec.Struct, frozen=True, kw_only=True):
    """What one filled order cost against its decision, and where it lost it; told again when late fills change it.

    ``pair`` is BASE/QUOTE. ``fees_unvalued`` counts fills whose fee is not known or has no price in the quote asset:
    they are left out of both fees. ``at_ns`` is when the order left.
    """

    client_order_id: str
    trade_id: str
    bot_id: int
    account_id: int
    market: str
    exchange: str
    pair: str
    attempt: int
    execution: LegExecution
    slippage: LegSlippage
    fees_unvalued: int = 0
    at_ns: int


class TradeRecord(msgspec.Struct, frozen=True, kw_only=True):
    """The durable head of a trade; its orders are intents. Expected figures are decimals of the opportunity's."""

    trade_id: str
    bot_id: int
    route: str
    base: str
    quote: str
    state: TradeState
    mode: str  # a TradeMode
    quantity: Decimal  # base units
    expected_net_bps: Decimal
    expected_profit: Decimal
    opened_ns: int
    closed_ns: int = 0
    # Result, once known. Base residual is what stayed unhedged (positive: bought more than sold).
    realised_profit: Decimal | None = None
    residual_base: Decimal = Decimal(0)
    fees: Mapping[str, Decimal] = {}
    reason: str = ""
    exposure: Decimal = Decimal(0)  # notional times seconds that were unhedged, in quote
    repair_ms: int = 0  # spent on the ladder of repairs
