"""Every message of the live page as a type: what the server sends, and what `docs/live-messages.md` describes.

Amounts of money are strings of decimals, figures of detection and ages are numbers, instants are Unix seconds.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Literal

import msgspec

from trading.messages import TradeMode

__all__ = [
    "ITEM_TYPES",
    "SNAPSHOT_LISTS",
    "Balance",
    "Bot",
    "Breaker",
    "Connected",
    "Error",
    "Feed",
    "Figures",
    "Frame",
    "Heartbeat",
    "Item",
    "Leg",
    "Opportunity",
    "Pnl",
    "Quote",
    "Snapshot",
    "Switch",
    "Trade",
    "Update",
    "check_frame",
    "check_item",
]

FeedStatus = Literal["connecting", "live", "stale", "down"]


class Quote(msgspec.Struct, forbid_unknown_fields=True):
    """Best bid and ask of a market; sizes in the market's own unit. Prices are null until the first book."""

    market: str
    exchange: str
    symbol: str
    bid: float | None
    bid_size: float | None
    ask: float | None
    ask_size: float | None
    status: FeedStatus
    reason: str
    received_at: float | None


class Feed(msgspec.Struct, forbid_unknown_fields=True):
    """Market data connection of one exchange. ``at`` is when these figures were taken."""

    exchange: str
    status: FeedStatus
    reason: str
    messages_per_second: float
    gaps: int
    reconnects: int
    bad_messages: int
    age_ms: float | None
    at: float


class Bot(msgspec.Struct, forbid_unknown_fields=True):
    id: int
    name: str
    mode: Literal["paper", "live"]
    desired: str
    observed: str
    reason: str


class Opportunity(msgspec.Struct, forbid_unknown_fields=True):
    """A route that was profitable, and what was done: taken, or the first check that refused it and why."""

    bot_id: int
    bot: str
    buy: str
    sell: str
    quantity: float
    buy_vwap: float
    sell_vwap: float
    gross_bps: float
    net_bps: float
    profit: float
    quote: str
    book_age_ms: float
    taken: bool
    check: str
    reason: str
    at: float


class Leg(msgspec.Struct, forbid_unknown_fields=True):
    """One order of a trade; legs and attempts count from 0. ``average`` and ``fee`` are null until it has a fill.

    ``path`` is how it left, empty if nowhere (paper) or not known.
    """

    leg: int
    attempt: int
    exchange: str
    symbol: str
    side: Literal["buy", "sell"]
    price: str
    quantity: str
    filled: str
    average: str | None
    fee: str | None
    fee_asset: str
    state: str
    client_order_id: str
    path: Literal["websocket", "rest", ""] = ""


class Pair(msgspec.Struct, forbid_unknown_fields=True):
    """How a spot-against-perpetual trade stands: market keys, what is held in base, average prices of the entry, edges
    in basis points. ``exit_bps`` is what closing at ``exit_at`` would have earned in all, ``liquidation_bps`` how far
    the mark price is from where the short would be liquidated; null while they are not known. ``closing`` is why it is
    being closed, or empty.
    """

    spot: str
    perp: str
    held: str
    spot_price: str | None
    perp_price: str | None
    entry_bps: str | None
    exit_bps: str | None
    exit_at: float | None
    funding: str  # received so far, in quote
    is_estimated: bool
    liquidation_bps: float | None
    closing: str


class Trade(msgspec.Struct, forbid_unknown_fields=True):
    id: str
    bot_id: int
    bot: str
    route: str
    state: str
    mode: TradeMode
    quantity: str
    base: str
    quote: str
    expected_bps: str
    expected_profit: str
    profit: str | None
    residual: str
    exposure: str  # quote times seconds unhedged
    reason: str
    opened_at: float
    closed_at: float | None
    legs: list[Leg]
    pair: Pair | None = None


class Balance(msgspec.Struct, forbid_unknown_fields=True):
    account_id: int
    account: str
    exchange: str
    asset: str
    free: str
    used: str
    at: float


class Pnl(msgspec.Struct, forbid_unknown_fields=True):
    """Sum of the realised profit of every closed trade of this mode in this quote asset, up to ``at``."""

    mode: TradeMode
    quote: str
    total: str
    at: float


class Breaker(msgspec.Struct, forbid_unknown_fields=True):
    """A circuit breaker. ``share`` is what it leaves of the size, in [0, 1]; ``until`` ends a cool-down or a probe."""

    scope: Literal["global", "owner", "bot", "account", "exchange", "pair", "pair_on_exchange"]
    key: str
    name: str
    state: Literal["closed", "open", "half_open", "probing", "ramping"]
    share: float
    until: float | None
    reason: str
    trigger: str
    trips: int
    since: float
    version: int


class Switch(msgspec.Struct, forbid_unknown_fields=True):
    """The trading switch of one scope; a scope that has none stands at normal, version 0."""

    scope: Literal["global", "owner", "bot"]
    key: str
    name: str
    state: Literal["normal", "reduce_only", "kill"]
    reason: str
    since: float
    version: int


class Figures(msgspec.Struct, forbid_unknown_fields=True):
    """What the page cannot count from the newest 50 trades, since ``since`` (midnight UTC)."""

    since: float
    trades: int
    profit: dict[TradeMode, dict[str, str]]


class Snapshot(msgspec.Struct, forbid_unknown_fields=True):
    quotes: list[Quote]
    feeds: list[Feed]
    bots: list[Bot]
    opportunities: list[Opportunity]
    trades: list[Trade]
    balances: list[Balance]
    pnl: list[Pnl]
    breakers: list[Breaker]
    switches: list[Switch]
    figures: Figures


class Item(msgspec.Struct, forbid_unknown_fields=True):
    kind: str
    key: str
    data: dict[str, Any]


class Update(msgspec.Struct, forbid_unknown_fields=True):
    items: list[Item]


class Connected(msgspec.Struct, forbid_unknown_fields=True):
    user: str
    owner: str
    mode: Literal["embedded", "services"]
    server_time: float


class Heartbeat(msgspec.Struct, forbid_unknown_fields=True):
    server_time: float


class Error(msgspec.Struct, forbid_unknown_fields=True):
    message: str


class Frame(msgspec.Struct, forbid_unknown_fields=True):
    """What every frame has in common."""

    type: str
    data: msgspec.Raw
    timestamp: float
    sequence: int


FRAME_TYPES: Mapping[str, type[msgspec.Struct]] = {
    "connected": Connected,
    "snapshot": Snapshot,
    "update": Update,
    "heartbeat": Heartbeat,
    "error": Error,
}
ITEM_TYPES: Mapping[str, type[msgspec.Struct]] = {
    "quote": Quote,
    "feed": Feed,
    "bot": Bot,
    "opportunity": Opportunity,
    "trade": Trade,
    "balance": Balance,
    "pnl": Pnl,
    "breaker": Breaker,
    "switch": Switch,
}
# Where a snapshot keeps each kind.
SNAPSHOT_LISTS: Mapping[str, str] = {
    "quote": "quotes",
    "feed": "feeds",
    "bot": "bots",
    "opportunity": "opportunities",
    "trade": "trades",
    "balance": "balances",
    "pnl": "pnl",
    "breaker": "breakers",
    "switch": "switches",
}


def check_item(kind: str, key: str, data: Mapping[str, object]) -> None:
    """Check one published item.

    Raises
    ------
    ValueError
        If the kind is unknown, a field is missing, unknown or of another type, or the key isn't the data's own.
    """
    item_type = ITEM_TYPES.get(kind)
    if item_type is None:
        raise ValueError(f"kind: one of {', '.join(ITEM_TYPES)} (given {kind!r})")
    item = msgspec.convert(data, item_type)
    expected = item_key(item)
    if key != expected:
        raise ValueError(f"key of a {kind}: {expected!r} by its data (given {key!r})")


def item_key(item: msgspec.Struct) -> str:
    """Return the key under which an item replaces its predecessor."""
    match item:
        case Quote():
            return item.market
        case Feed():
            return item.exchange
        case Bot() | Trade():
            return str(item.id)
        case Opportunity():
            return f"{item.bot_id}:{item.buy}>{item.sell}"
        case Balance():
            return f"{item.account_id}:{item.asset}"
        case Pnl():
            return f"{item.mode}:{item.quote}"
        case Breaker() | Switch():
            return f"{item.scope}:{item.key}"
    raise TypeError(f"not an item of the live page: {type(item).__name__}")


def check_frame(raw: str | bytes) -> tuple[Frame, msgspec.Struct]:
    """Check one frame as sent and return it with its decoded data.

    Raises
    ------
    ValueError
        If the frame, or an item in it, is not what docs/live-messages.md says (msgspec's errors are ValueErrors).
    """
    frame = msgspec.json.decode(raw, type=Frame)
    data_type = FRAME_TYPES.get(frame.type)
    if data_type is None:
        raise ValueError(f"type: one of {', '.join(FRAME_TYPES)} (given {frame.type!r})")
    data = msgspec.json.decode(frame.data, type=data_type)
    if isinstance(data, Update):
        for item in data.items:
            check_item(item.kind, item.key, item.data)
    return frame, data
