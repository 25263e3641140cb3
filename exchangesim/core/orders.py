"""Orders, fills, executions and refusals: the values that the exchange and its faces exchange."""

from __future__ import annotations

from dataclasses import dataclass, field
from decimal import Decimal
from enum import StrEnum

ZERO = Decimal(0)


class Side(StrEnum):
    BUY = "BUY"
    SELL = "SELL"

    @property
    def opposite(self) -> Side:
        return Side.SELL if self is Side.BUY else Side.BUY


class OrderType(StrEnum):
    LIMIT = "LIMIT"
    MARKET = "MARKET"


class TimeInForce(StrEnum):
    GTC = "GTC"
    IOC = "IOC"
    FOK = "FOK"


class Status(StrEnum):
    NEW = "NEW"
    PENDING_NEW = "PENDING_NEW"
    """Accepted as part of an order list, and waits until the list's working order is filled."""
    PARTIALLY_FILLED = "PARTIALLY_FILLED"
    FILLED = "FILLED"
    CANCELED = "CANCELED"
    """Cancelled on request (or by the exchange, for ``post_only`` where it accepts and then cancels)."""
    EXPIRED = "EXPIRED"
    """Ended by its own terms: the rest of an IOC, FOK or market order."""


OPEN_STATUSES = frozenset({Status.NEW, Status.PENDING_NEW, Status.PARTIALLY_FILLED})


class Reject(StrEnum):
    """Why an order or a request about one is refused. Every face maps these onto its documented error codes."""

    UNKNOWN_SYMBOL = "unknown_symbol"
    SYMBOL_HALTED = "symbol_halted"
    PERMISSION = "permission"
    BAD_PRICE = "bad_price"
    """Not above zero, or not a finite number."""
    BAD_QUANTITY = "bad_quantity"
    PRICE_TICK = "price_tick"
    PRICE_BAND = "price_band"
    QUANTITY_LOT = "quantity_lot"
    QUANTITY_TOO_SMALL = "quantity_too_small"
    QUANTITY_TOO_LARGE = "quantity_too_large"
    NOTIONAL_TOO_SMALL = "notional_too_small"
    TOO_MANY_OPEN_ORDERS = "too_many_open_orders"
    INSUFFICIENT_BALANCE = "insufficient_balance"
    DUPLICATE_CLIENT_ID = "duplicate_client_id"
    WOULD_TAKE = "would_take"
    """A post-only order that would have matched at once, on an exchange that refuses it."""
    WOULD_TRIGGER = "would_trigger"
    """A conditional order whose trigger the watched price has reached already."""
    PRICE_RELATION = "price_relation"
    """The legs of an order list do not stand on either side of the last price."""
    TOO_MANY_CONDITIONAL = "too_many_conditional"
    TOO_MANY_LISTS = "too_many_lists"
    DUPLICATE_LIST_ID = "duplicate_list_id"
    ORDER_NOT_FOUND = "order_not_found"
    ORDER_CLOSED = "order_closed"
    """Asked to cancel an order that has already filled, expired or been cancelled."""
    UNFILLABLE = "unfillable"
    """A fill-or-kill order that cannot be filled whole at once, on an exchange that refuses it."""
    REDUCE_ONLY = "reduce_only"
    """A reduce-only order with nothing (left) to reduce."""
    POSITION_SIDE = "position_side"
    """The position side does not fit the account's position mode."""
    CLOSE_POSITION_TAKEN = "close_position_taken"
    """Another conditional order of the kind closes the position already."""
    NO_POSITION = "no_position"
    """A conditional order that closes a position which is not there."""
    POSITION_LIMIT = "position_limit"
    """The position would be larger than its leverage allows."""


class Rejected(Exception):
    """An expected refusal. ``reason`` is what faces map; ``detail`` is one sentence for people."""

    def __init__(self, reason: Reject, detail: str, *, asset: str = "", order: Order | None = None) -> None:
        super().__init__(detail)
        self.reason = reason
        self.detail = detail
        self.asset = asset
        """The asset that was short, for ``INSUFFICIENT_BALANCE``."""
        self.order = order
        """The order concerned, for ``ORDER_CLOSED``."""


class ExecutionType(StrEnum):
    NEW = "NEW"
    TRADE = "TRADE"
    CANCELED = "CANCELED"
    EXPIRED = "EXPIRED"
    AMENDED = "AMENDED"
    """Price or quantity changed (see ``amend``); the order goes on."""
    TRIGGERED = "TRIGGERED"
    """A conditional order's trigger was reached: it goes to the book, its fills follow."""
    LIQUIDATED = "LIQUIDATED"
    """A trade by which the exchange closes an account's position."""


class CloseReason(StrEnum):
    """Why an order ended unfilled or partly filled."""

    NONE = ""
    REQUESTED = "requested"
    IOC_REST = "ioc_rest"
    FOK_UNFILLED = "fok_unfilled"
    MARKET_REST = "market_rest"
    """A market order ran out of liquidity or of quote amount."""
    POST_ONLY_WOULD_TAKE = "post_only_would_take"
    OTHER_LEG = "other_leg"
    """The other leg of its order list was triggered or began to fill, or ended."""
    WORKING_ENDED = "working_ended"
    """The working order of its list ended before it was filled."""
    REFUSED = "refused"
    """It could not be placed when its time came: too little balance, or a price on the wrong side by then."""
    NOTHING_TO_REDUCE = "nothing_to_reduce"
    """The position that a reduce-only order was to reduce is gone."""
    LIQUIDATION = "liquidation"
    """Taken away by the exchange before it closes the account's positions."""


class PositionSide(StrEnum):
    """Which of an account's positions in one contract. ``BOTH`` in one-way mode, the others in hedge mode."""

    BOTH = "BOTH"
    LONG = "LONG"
    SHORT = "SHORT"


@dataclass(frozen=True, slots=True, kw_only=True)
class Trigger:
    """What a conditional order waits for, outside the book."""

    price: Decimal
    rises: bool
    """Reached when the watched price is at or above ``price``; else when it is at or below."""
    source: str = "last"
    """Which price is watched: ``last`` is the last trade's; others see ``Triggers``."""
    reserves: bool = True
    """Funds are locked while it waits; False: only when it is triggered (and then it may be refused)."""

    def reached(self, price: Decimal) -> bool:
        return price >= self.price if self.rises else price <= self.price


@dataclass(frozen=True, slots=True, kw_only=True)
class NewOrder:
    """An order as asked for. Exactly one of ``quantity`` and (MARKET only) ``quote_quantity`` is given."""

    native: str
    """The market, by the exchange's own name."""
    side: Side
    type: OrderType
    time_in_force: TimeInForce = TimeInForce.GTC
    price: Decimal | None = None
    quantity: Decimal | None = None
    quote_quantity: Decimal | None = None
    post_only: bool = False
    trigger: Trigger | None = None
    """Given for a conditional order."""
    client_id: str = ""
    """Empty: the exchange makes one up (see ``SimExchange.place``)."""
    tags: dict[str, str] = field(default_factory=dict)
    """What a face wants back with the order later (OKX ``tag``, Bybit ``orderFilter``); stored, not interpreted."""
    reduce_only: bool = False
    """Contracts only: trades no more than the position holds."""
    position_side: PositionSide = PositionSide.BOTH
    liquidation: bool = False
    """Placed by the exchange itself to close a position."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Fill:
    """One user's side of one trade. A trade between two users makes two fills with the same ``trade_id``."""

    trade_id: int
    order_id: int
    client_id: str
    api_key: str
    native: str
    side: Side
    price: Decimal
    quantity: Decimal
    fee: Decimal
    """Positive is paid by the user, in ``fee_asset`` (the asset received)."""
    fee_asset: str
    maker: bool
    time_ms: int
    realized: Decimal = ZERO
    """Contracts only: the profit that the trade realised, fee not taken off."""
    position_side: PositionSide = PositionSide.BOTH

    @property
    def quote_quantity(self) -> Decimal:
        return self.price * self.quantity


@dataclass(slots=True, kw_only=True)
class Order:
    """An accepted order. Changed in place by the exchange: render or copy it inside the listener call."""

    id: int
    client_id: str
    api_key: str
    native: str
    side: Side
    type: OrderType
    time_in_force: TimeInForce
    post_only: bool
    price: Decimal
    """Limit price; zero for MARKET."""
    quantity: Decimal
    """Base quantity asked for. For a MARKET order by quote amount: what the amount was worth in the book, in lots (zero
    in the NEW report)."""
    quote_quantity: Decimal
    """Quote amount asked for; zero unless the order was given by quote amount."""
    created_ms: int
    updated_ms: int
    status: Status = Status.NEW
    filled: Decimal = ZERO
    filled_quote: Decimal = ZERO
    """Sum of price x quantity over the fills."""
    fees: dict[str, Decimal] = field(default_factory=dict)
    reserved: Decimal = ZERO
    """Still locked for this order, in ``reserved_asset``."""
    reserved_asset: str = ""
    close_reason: CloseReason = CloseReason.NONE
    cancel_client_id: str = ""
    """The id given with the request that cancelled it (Binance ``newClientOrderId`` of a cancel)."""
    tags: dict[str, str] = field(default_factory=dict)
    ahead: Decimal = ZERO
    """Quantity of the market's own liquidity that stands before this order at its price."""
    last_fill: Fill | None = None
    trigger: Trigger | None = None
    list_id: int = 0
    """The order list it belongs to; zero for none."""
    idle: bool = False
    """It waits outside the book for its trigger or its list's working order, or ended while it did."""
    working_ms: int = 0
    """When an order that had waited went to the book; zero for others."""
    reduce_only: bool = False
    position_side: PositionSide = PositionSide.BOTH
    liquidation: bool = False

    @property
    def remaining(self) -> Decimal:
        return self.quantity - self.filled

    @property
    def is_open(self) -> bool:
        return self.status in OPEN_STATUSES

    @property
    def average(self) -> Decimal | None:
        """Mean fill price, None before the first fill."""
        return self.filled_quote / self.filled if self.filled else None


@dataclass(frozen=True, slots=True, kw_only=True)
class Execution:
    """One thing that happened to an order; sent on private streams."""

    id: int
    type: ExecutionType
    time_ms: int
    fill: Fill | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class PublicTrade:
    """One match as the public sees it. Trades of one taker at one price share ``aggregate_id``."""

    id: int
    aggregate_id: int
    price: Decimal
    quantity: Decimal
    taker_side: Side
    time_ms: int


@dataclass(frozen=True, slots=True, kw_only=True)
class BookChange:
    """The levels that one event changed, with their new totals; quantity zero means the level is gone.

    Every level change takes one update id, so the next change's ``first_id`` is this one's ``last_id + 1``.
    """

    first_id: int
    last_id: int
    bids: tuple[tuple[Decimal, Decimal], ...]
    asks: tuple[tuple[Decimal, Decimal], ...]
    time_ms: int
