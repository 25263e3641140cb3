"""Every message of the live dashboard as a type; docs/live-dashboard.md describes them.

The same types are what ``GET /api/dashboard`` and the lists of the API answer. Amounts of money are strings of decimals
or null where they cannot be known, instants are Unix seconds.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Literal

import msgspec

from bots.live_schema import Bot, Breaker, Error, Feed, Frame, Heartbeat, Opportunity, Switch, Trade
from trading.messages import TradeMode

__all__ = [
    "BATCHED", "FRAME_TYPES", "AccountState", "Balance", "Batch", "BatchItem", "Connected", "Connection", "Dashboard",
    "DeskMode", "EngineHealth", "Order", "Orders", "Position", "Positions", "Progress", "ProgressStep", "Stage",
    "check_frame", "json_schema",
]  # fmt: skip

# What a desk shows: paper money, or everything that is sent to an exchange (simulated, testnet and live apart).
DeskMode = Literal["paper", "live"]
OrderPath = Literal["websocket", "rest", "paper", ""]  # empty: not known
Light = Literal["green", "yellow", "red"]
StepName = Literal[
    "connecting", "withdrawing protection", "placing order", "placing protection", "done", "failed"
]  # fmt: skip


class Balance(msgspec.Struct, forbid_unknown_fields=True):
    """What an owner has in one environment, counted in one quote asset. Environments are never added together.

    ``wallet_balance`` is the quote asset itself and what is valued in it at the newest quotes; ``unvalued`` names the
    assets that have no quote. ``unrealized_pnl`` is that of the open positions, ``realized_pnl`` what all closed
    trades earned after fees, ``total_fees_paid`` the fees of all fills. ``net_balance`` is the wallet and what
    contracts have gained: a spot position is in the wallet already. ``price_improvement`` is what working the orders of
    trades by hand earned against taking the book at once, ``status_questions`` how often the state of one had to be
    asked for because its stream was silent.
    """

    environment: TradeMode
    quote: str
    wallet_balance: str
    unrealized_pnl: str
    realized_pnl: str
    total_fees_paid: str
    net_balance: str
    price_improvement: str
    status_questions: int
    unvalued: list[str]
    at: float


class Position(msgspec.Struct, forbid_unknown_fields=True):
    """A position that a trade made by hand holds. ``size`` is in the market's own unit, prices quote per base.

    ``figures_at`` is when the exchange was last asked for its figures of a contract (leverage and liquidation price,
    and the mark price while no quote is known); null where it tells none.
    """

    id: str
    trade_id: str
    environment: TradeMode
    account_id: int
    account: str
    exchange: str
    symbol: str
    side: Literal["long", "short"]
    entry_price: str | None
    mark_price: str | None
    size: str
    unrealized_pnl: str | None
    quote: str
    leverage: int | None
    liquidation_price: str | None
    take_profit: str | None
    stop_loss: str | None
    protected_by: Literal["exchange", "engine", ""]
    protection_note: str
    opened_at: float
    figures_at: float | None = None


class Positions(msgspec.Struct, forbid_unknown_fields=True):
    """All open positions: what is not in ``items`` is closed."""

    count: int
    items: list[Position]


class Order(msgspec.Struct, forbid_unknown_fields=True):
    """One order; ``id`` is our client order id, ``status`` our order state, ``trigger`` that of a protective order.

    Types from ``liquidation`` on are of orders that the exchange made itself, to close a position.

    ``by_hand`` is of a trade by hand; a page shows those, and what is open, however many others there are.
    """

    id: str
    trade_id: str
    environment: TradeMode
    exchange: str
    account: str
    symbol: str
    type: Literal["limit", "take_profit", "stop_loss", "liquidation", "deleveraging", "settlement"]
    side: Literal["buy", "sell"]
    status: str
    price: str
    trigger: str | None
    amount: str
    filled: str
    remaining: str
    average: str | None
    path: OrderPath
    by_hand: bool
    at: float


class Orders(msgspec.Struct, forbid_unknown_fields=True):
    """Orders that changed, by ``id``."""

    items: list[Order]


class ProgressStep(msgspec.Struct, forbid_unknown_fields=True):
    step: StepName
    state: Literal["done", "now", "failed"]
    at: float
    ms: float = 0.0
    text: str = ""


class Progress(msgspec.Struct, forbid_unknown_fields=True):
    """How far a request by hand has come. ``trade_id`` is empty until the engine has taken it up."""

    trade_id: str
    command_id: int
    step: StepName
    steps: list[ProgressStep]
    path: OrderPath
    message: str


class AccountState(msgspec.Struct, forbid_unknown_fields=True):
    """An account's connection: its private stream, and the path its orders take now."""

    account_id: int
    account: str
    exchange: str
    environment: TradeMode
    state: str
    reason: str
    path: OrderPath
    path_reason: str
    answer_ms: float | None


class Stage(msgspec.Struct, forbid_unknown_fields=True):
    """How long one stage of a trade took since the engine began, in microseconds."""

    stage: str
    count: int
    p50_us: int
    p99_us: int
    max_us: int


class EngineHealth(msgspec.Struct, forbid_unknown_fields=True):
    """What an owner's engine says of itself once a second. ``lag`` is empty while its loop keeps time."""

    owner_id: int
    at: float
    halted: str
    stopping: bool
    lag: str
    open_trades: int
    unresolved_orders: int
    accounts: list[AccountState]
    stages: list[Stage]


class Connection(msgspec.Struct, forbid_unknown_fields=True):
    """How the desk is connected; ``reason`` says what is not as it should be. ``engine`` is null while none runs."""

    state: Light
    reason: str
    accounts: list[AccountState]
    feeds: list[Feed]
    engine: EngineHealth | None
    stages: list[Stage]


class Dashboard(msgspec.Struct, forbid_unknown_fields=True):
    """Everything a desk shows at one moment."""

    mode: DeskMode
    balance: list[Balance]
    positions: Positions
    orders: list[Order]
    trades: list[Trade]
    opportunities: list[Opportunity]
    breakers: list[Breaker]
    switches: list[Switch]
    bots: list[Bot]
    progress: list[Progress]
    connection: Connection
    server_time: float


class Connected(msgspec.Struct, forbid_unknown_fields=True):
    user: str
    owner: str
    owner_id: int
    mode: DeskMode
    server_time: float


# What a `batch` may hold, and what leaves alone when it is the only change of a tick.
BATCHED: Mapping[str, type[msgspec.Struct]] = {
    "balance": Balance,
    "positions": Positions,
    "orders": Orders,
    "trade": Trade,
    "opportunity": Opportunity,
    "breaker": Breaker,
    "switch": Switch,
    "bot": Bot,
    "progress": Progress,
    "connection": Connection,
}


class BatchItem(msgspec.Struct, forbid_unknown_fields=True):
    type: str
    data: dict[str, Any]


class Batch(msgspec.Struct, forbid_unknown_fields=True):
    """Several changes of one tick, in the order in which they are to be taken."""

    items: list[BatchItem]


FRAME_TYPES: Mapping[str, type[msgspec.Struct]] = {
    "connected": Connected,
    "snapshot": Dashboard,
    **BATCHED,
    "batch": Batch,
    "heartbeat": Heartbeat,
    "error": Error,
}


def check_frame(raw: str | bytes) -> tuple[Frame, msgspec.Struct]:
    """Check one frame as sent and return it with its decoded data.

    Raises
    ------
    ValueError
        If the frame, or a message in it, is not what docs/live-dashboard.md says (msgspec's errors are ValueErrors).
    """
    frame = msgspec.json.decode(raw, type=Frame)
    data_type = FRAME_TYPES.get(frame.type)
    if data_type is None:
        raise ValueError(f"type: one of {', '.join(FRAME_TYPES)} (given {frame.type!r})")
    data = msgspec.json.decode(frame.data, type=data_type)
    if isinstance(data, Batch):
        for item in data.items:
            if item.type not in BATCHED:
                raise ValueError(f"type in a batch: one of {', '.join(BATCHED)} (given {item.type!r})")
            msgspec.convert(item.data, BATCHED[item.type])
    return frame, data


def json_schema() -> dict[str, Any]:
    """Return the JSON Schema (2020-12) of a frame: one variant a type, batches with theirs."""
    (*schemas,), definitions = msgspec.json.schema_components(FRAME_TYPES.values(), ref_template="#/$defs/{name}")
    by_type = dict(zip(FRAME_TYPES, schemas, strict=True))
    # A batched item's data is that of its type.
    definitions["BatchItem"] = {"oneOf": [_typed(kind, by_type[kind]) for kind in BATCHED]}
    return {
        "$schema": "https://json-schema.org/draft/2020-12/schema",
        "title": "Messages of /ws/live-dashboard",
        "oneOf": [
            _typed(kind, schema, timestamp={"type": "number"}, sequence={"type": "integer", "minimum": 1})
            for kind, schema in by_type.items()
        ],
        "$defs": definitions,
    }


def _typed(kind: str, data: dict[str, Any], **more: dict[str, Any]) -> dict[str, Any]:
    properties = {"type": {"const": kind}, "data": data, **more}
    return {"type": "object", "properties": properties, "required": list(properties), "additionalProperties": False}
