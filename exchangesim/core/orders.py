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
    PARTIALLY_FILLED = "PARTIALLY_FILLED"
    FILLED = "FILLED"
    CANCELED = "CANCELED"
    """Cancelled on request (or by the exchange, for ``post_only`` where it accepts and then cancels)."""
    EXPIRED = "EXPIRED"
    """Ended by its own terms: the rest of an IOC, FOK or market order."""


OPEN_STATUSES = frozenset({Status.NEW, Status.PARTIALLY_FILLED})


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
    ORDER_NOT_FOUND = "order_not_found"
    ORDER_CLOSED = "order_closed"
    """Asked to cancel an order that has already filled, expired or been cancelled."""


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


class CloseReason(StrEnum):
    """Why an order ended unfilled or partly filled."""

    NONE = ""
    REQUESTED = "requested"
    IOC_REST = "ioc_rest"
    FOK_UNFILLED = "fok_unfilled"
    MARKET_REST = "market_rest"
    """A market order ran out of liquidity or of quote amount."""
    POST_ONLY_WOULD_TAKE = "post_only_would_take"


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
    client_id: str = ""
    """Empty: the exchange makes one up (see ``SimExchange.place``)."""
    tags: dict[str, str] = field(default_factory=dict)
    """What a face wants back with the order later (OKX ``tag``, Bybit ``orderFilter``); stored, not interpreted."""


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
