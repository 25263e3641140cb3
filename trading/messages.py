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
from trading.basis import BasisStanding, BasisTerms
from trading.instruments import Side
from trading.tickets import TicketStanding, TicketTerms

__all__ = [
    "ALLOWED", "AT_DEPTH", "COMPARED", "PAID", "AccountBalance", "AccountIncome", "AccountPosition", "AccountPositions",
    "Assessment", "BookTop", "Decision", "DecisionKey", "Fill", "Forced", "IncomeKind", "KnownOrder", "LegPolicy",
    "LegQuote", "LegSlippageRecord", "Opportunity", "OrderEvent", "OrderIntent", "OrderKind", "OrderPath",
    "OrderState", "OrdersBy", "Outcome", "PlaceResult", "PublicTrade", "StreamState", "TicketStanding", "TicketTerms",
    "TimeInForce", "TradeRecord", "TradeState", "Verdict",
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


class WorstCase(msgspec.Struct, frozen=True, kw_only=True):
    """The most that a trade may hold unhedged where nothing follows its orders here.

    Its orders are being made durable; or an earlier process left it exposed, and ``trade_id`` names it. ``notional``
    is in the quote asset; ``exchanges`` are codes, ``accounts`` ids.
    """

    base: str
    quote: str
    notional: Decimal
    exchanges: tuple[str, ...]
    accounts: tuple[int, ...]
    paper: bool
    trade_id: str = ""


LIQUIDITY = "liquidity"  # the component of a score that says how much the books hold


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
    TAKE_PROFIT = "take_profit"
    STOP_LOSS = "stop_loss"
    # Made by the exchange itself, to close a position of ours: nothing of them is ours to send, ask for or cancel.
    LIQUIDATION = "liquidation"
    DELEVERAGING = "deleveraging"
    SETTLEMENT = "settlement"


PROTECTIVE = frozenset({OrderKind.TAKE_PROFIT, OrderKind.STOP_LOSS})  # they wait for their trigger
MADE_BY_EXCHANGE = frozenset({OrderKind.LIQUIDATION, OrderKind.DELEVERAGING, OrderKind.SETTLEMENT})


class TimeInForce(StrEnum):
    IOC = "IOC"
    FOK = "FOK"
    GTC = "GTC"
    POST_ONLY = "PO"


class TradeState(StrEnum):
    """The saga's states. CLOSED has nothing unhedged; EXPOSED holds a residual that needs an operator.

    HOLDING is a ticket's or a basis trade's: its position is held on purpose. It is unfinished, but nothing of it is in
    flight.
    """

    OPEN = "OPEN"
    HOLDING = "HOLDING"
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
    """An order to be made durable before it is sent. ``quantity`` is in the market's own unit.

    A protective order (take-profit, stop-loss) has a ``trigger``; its ``price`` is the limit after that, the worst
    price it may be filled at. Where the exchange sends a market order on the trigger, the price values the order.
    ``linked`` is the client id of the order it shares its fate with: the other one of a pair that cancels each other.
    """

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
    trigger: Decimal | None = None
    linked: str = ""
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
    """Answer to one placement. ``raw`` has secrets removed. An immediate answer may carry the order's fills.

    ``path`` is how it left, ``websocket`` or ``rest``; empty when it didn't leave, or nowhere (paper).
    """

    outcome: Outcome
    exchange_order_id: str = ""
    code: str = ""
    message: str = ""
    events: tuple[OrderEvent, ...] = ()
    raw: str = ""
    path: str = ""


class Forced(StrEnum):
    """Why an exchange itself closed a position."""

    LIQUIDATION = OrderKind.LIQUIDATION.value  # the account's margin no longer did
    DELEVERAGING = OrderKind.DELEVERAGING.value  # ADL: it was closed to cover somebody else's loss
    SETTLEMENT = OrderKind.SETTLEMENT.value  # the contract was delisted or delivered


class Fill(msgspec.Struct, frozen=True, kw_only=True):
    """One execution, keyed by (account, market, exchange trade id); quantity in the market's own unit.

    ``realized_pnl`` is what it realised of a position in a contract, in the settle asset, before the fee; None where
    the exchange doesn't tell it. ``forced`` is a :class:`Forced` of an order that the exchange made by itself.
    ``position_side`` is ``long`` or ``short`` where the account holds both sides of a contract apart, else empty.
    """

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
    realized_pnl: Decimal | None = None
    forced: str = ""
    position_side: str = ""


class OrderEvent(msgspec.Struct, frozen=True, kw_only=True):
    """What the exchange said about one order, from a stream, an answer or a query.

    ``state`` is what the exchange's status means in our words; ``filled`` the cumulative quantity it names (None if
    it names none). ``source`` is ``stream``, ``answer``, ``query``, ``engine`` or ``operator``. ``path`` is how the
    order left, as its placement's answer says it: ``websocket`` or ``rest``. ``made`` is the order itself where the
    exchange made it (MADE_BY_EXCHANGE): nobody has made it durable before.
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
    path: str = ""
    exchange_ns: int = 0
    received_ns: int = 0
    made: OrderIntent | None = None


class AccountBalance(msgspec.Struct, frozen=True, kw_only=True):
    """The exchange's figures for one asset of one account.

    ``wallet`` is what is there, where that isn't free and used together: behind contracts, what is free follows the
    gains and losses that are not realised yet.
    """

    account_id: int
    asset: str
    free: Decimal
    used: Decimal
    received_ns: int
    wallet: Decimal | None = None

    @property
    def total(self) -> Decimal:
        return self.free + self.used if self.wallet is None else self.wallet


class IncomeKind(StrEnum):
    """What moved an account's wallet without an execution."""

    FUNDING = "funding"
    INSURANCE = "insurance"  # the fee of a liquidation, and what an insurance fund covered


class AccountIncome(msgspec.Struct, frozen=True, kw_only=True):
    """A line of the exchange's own statement of one account, keyed by (account, kind, transaction id).

    ``market`` is empty for what is of no market, ``amount`` negative for what was paid.
    """

    account_id: int
    kind: IncomeKind
    transaction_id: str
    asset: str
    amount: Decimal
    market: str = ""
    exchange_ns: int


class AccountPosition(msgspec.Struct, frozen=True, kw_only=True):
    """The exchange's figures for one position in a contract.

    ``quantity`` is in the market's own unit, negative when short; ``side`` is ``both`` in one-way mode, else ``long``
    or ``short``. ``margin`` is ``cross`` or ``isolated``; None where the exchange gives no figure.
    """

    market: str
    side: str
    quantity: Decimal
    entry_price: Decimal | None = None
    mark_price: Decimal | None = None
    liquidation_price: Decimal | None = None
    unrealized_pnl: Decimal | None = None
    leverage: int | None = None
    margin: str = ""


class AccountPositions(msgspec.Struct, frozen=True, kw_only=True):
    """Every open position of one account, as of ``received_ns``, the moment of asking: what isn't there is closed."""

    account_id: int
    positions: tuple[AccountPosition, ...]
    received_ns: int


class StreamState(msgspec.Struct, frozen=True, kw_only=True):
    """State of an account's private stream: ``live``, ``down`` or ``failed``, with the reason when not live."""

    account_id: int
    state: str
    reason: str = ""
    received_ns: int = 0


class OrdersBy(StrEnum):
    """How an account's orders leave."""

    WEBSOCKET = "websocket"
    RECONNECTING = "reconnecting"  # the connection was lost a moment ago: what is to leave now leaves by REST
    REST = "rest"


class OrderPath(msgspec.Struct, frozen=True, kw_only=True):
    """How an account's orders leave from now on, with the reason when it isn't by WebSocket."""

    account_id: int
    by: OrdersBy
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
    """The durable head of a trade; its orders are intents. Expected figures are decimals of the opportunity's.

    A trade made by hand has a ``ticket``, and ``standing`` says how that stands; a spot-against-perpetual trade has
    ``basis`` and ``pair``.
    """

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
    # Of its opportunity, 0 to 1; None if that was not rated.
    score: float | None = None
    liquidity: float | None = None
    ticket: TicketTerms | None = None
    standing: TicketStanding | None = None
    basis: BasisTerms | None = None
    pair: BasisStanding | None = None
