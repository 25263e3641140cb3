"""What differs between exchanges behind the common venue, and the answers ccxt's unified API gives to it.

A folder of its own overrides what it knows better: native parameters, raw answers, stream messages. The methods that
ask may raise whatever ccxt raises; the venue judges it by the raw answer.
"""

from __future__ import annotations

import json
from collections.abc import Awaitable, Callable, Coroutine, Iterable, Mapping, Sequence
from decimal import Decimal, InvalidOperation
from typing import Any, ClassVar

import msgspec

from trading.config import Credentials
from trading.exchanges.budget import Window
from trading.exchanges.ccxt_client import HttpAnswer
from trading.exchanges.generic import outcomes
from trading.exchanges.generic.socket_methods import METHODS, SocketMethods
from trading.exchanges.order_wire import OrderWire
from trading.exchanges.outcomes import Table
from trading.exchanges.protection import NOTHING, Exits
from trading.exchanges.retries import Trouble
from trading.instruments import MAX_MONEY, Market, MarketKind
from trading.messages import AccountIncome, AccountPosition, Fill, OrderEvent, OrderIntent, OrderState, TimeInForce

NS_PER_MS = 1_000_000
MOST_PLACES = 40
CLOCK_SECONDS = 5.0  # how far clocks and the way there may stretch what an exchange promises
# What exchanges write into a code field when nothing is wrong.
SUCCESS_CODES = frozenset({"0", "00000", "1000", "200", "200000"})
Raw = Mapping[str, Any]


class Incomplete(Exception):
    """An exchange holds more than can be asked for, so what was had is not the whole; the text says what."""


class Reading(msgspec.Struct, frozen=True):
    """What an answer's body says, whatever its HTTP status: the exchange's code and text, and the order it names."""

    code: str = ""
    message: str = ""
    exchange_order_id: str = ""
    client_order_id: str = ""


class Figures(msgspec.Struct, frozen=True):
    """One asset's balance."""

    asset: str
    free: Decimal
    used: Decimal
    wallet: Decimal | None = None  # what is there, where that isn't both together


class FeeRates(msgspec.Struct, frozen=True):
    """An account's fees as fractions of notional; a rebate is negative."""

    taker: Decimal
    maker: Decimal


class Acknowledged(msgspec.Struct, frozen=True):
    """The exchange confirmed a private subscription."""

    channel: str


class StreamEnded(msgspec.Struct, frozen=True):
    """The exchange ended the private stream, or refused it, though the socket may live on."""

    reason: str


class FiguresChanged(msgspec.Struct, frozen=True):
    """What the account has is no longer what was told: it is to be asked for."""


class ToldInPart(msgspec.Struct, frozen=True):
    """The stream has begun to tell what became of an order: unless the rest follows, it is to be asked for."""


News = OrderEvent | Figures | FiguresChanged | ToldInPart
StreamItem = News | Acknowledged | StreamEnded


class Names:
    """The markets a venue trades, by key and by the exchange's own name; that names one among those of a kind."""

    def __init__(self, account_id: int, kind: MarketKind = "spot") -> None:
        self.account_id = account_id
        self._kind = kind
        self._by_key: dict[str, Market] = {}
        self._by_native: dict[str, Market] = {}

    def add(self, markets: Iterable[Market]) -> None:
        for market in markets:
            self._by_key[market.key] = market
            if market.kind == self._kind:
                self._by_native[market.native_id] = market

    def assets(self) -> set[str]:
        """Return the assets the markets trade."""
        return {
            asset for market in self._by_key.values() for asset in (market.base, market.quote, market.settle) if asset
        }

    def market(self, key: str) -> Market | None:
        return self._by_key.get(key)

    def native(self, native_id: str) -> str:
        """Return the key of a market by the exchange's name; the name itself for one we don't follow."""
        market = self._by_native.get(native_id)
        return native_id if market is None else market.key

    def by_symbol(self, symbol: str) -> str:
        return next((market.key for market in self._by_key.values() if market.symbol == symbol), symbol)


class Dialect:
    """The generic exchange: ccxt's unified methods throughout, judged cautiously."""

    # What orders are sent to.
    kind: ClassVar[MarketKind] = "spot"
    # For how long the exchange takes a signed request, and how long its gateway waits for what is behind it before it
    # answers anyway. Nothing is known of a generic exchange, so these are long.
    window_seconds: ClassVar[float] = 35.0
    backend_seconds: ClassVar[float] = 20.0
    # Options of the ccxt client.
    options: ClassVar[Mapping[str, Any]] = {}
    table: ClassVar[Table] = outcomes.TABLE
    # Codes that answer a question with "no such order", and further ones that answer a cancellation with it.
    not_found: ClassVar[frozenset[str]] = frozenset()
    gone: ClassVar[frozenset[str]] = frozenset()
    # Codes that say our clock is wrong, or a request was under way for too long.
    clock_codes: ClassVar[frozenset[str]] = frozenset()
    # Codes that say the account is set otherwise than we know of: it is asked for its settings again.
    settings_codes: ClassVar[frozenset[str]] = frozenset()
    # Codes that say whether asking again is of use; without one the HTTP status says it.
    troubles: ClassVar[Mapping[str, Trouble]] = {}
    # Parts of texts that say the account may not trade at all, where their code says less.
    restricted: ClassVar[Sequence[str]] = ()
    windows: ClassVar[Mapping[str, Window]] = {"requests": Window(limit=10, seconds=1, kept=3, counts="address")}
    costs: ClassVar[Mapping[str, Mapping[str, float]]] = {}
    # Private channels whose subscription the exchange confirms; none: the exchange says nothing of it.
    channels: ClassVar[frozenset[str]] = frozenset()
    # What the exchange has of protective orders, as ``Venue.protects`` names it.
    protects: ClassVar[frozenset[str]] = NOTHING
    # HTTP methods of questions and of cancellations; empty: any.
    asks_by: ClassVar[str] = "GET"
    cancels_by: ClassVar[str] = "POST"

    def __init__(self, names: Names) -> None:
        self.names = names
        # Awaited before each further page of an operation's answer, for its budget; set by the venue.
        self.next_page: Callable[[str], Awaitable[None]] = _at_once

    @classmethod
    def absence_seconds(cls) -> float:
        """Return the seconds after which a request that was sent can no longer be executed."""
        return cls.window_seconds + cls.backend_seconds + CLOCK_SECONDS

    @classmethod
    def timeout_ms(cls) -> int:
        """Return how long an answer is waited for: longer than the exchange itself may take, else its word is lost."""
        return int((cls.backend_seconds + CLOCK_SECONDS) * 1000)

    def cost(self, operation: str) -> Mapping[str, float]:
        """Return what an operation takes of the budget's windows."""
        return self.costs.get(operation, {"requests": 1})

    def used(self, headers: Mapping[str, str]) -> Mapping[str, float]:
        """Return what an answer's headers report as used, by window."""
        return {}

    def told_to_wait(self, answer: HttpAnswer, reading: Reading, now_ns: int) -> float | None:
        """Return the seconds a limited answer tells to wait, other than by Retry-After; None if it doesn't."""
        return None

    async def fetch_settings(self, client: Any) -> None:
        """Ask for what orders depend on beside their market, where there is such."""

    # -- orders -------------------------------------------------------------------------------------------------

    def takes(self, client: Any, time_in_force: TimeInForce) -> bool:
        """Return whether the exchange has such orders, as far as ccxt knows: what it doesn't know of is tried."""
        if time_in_force not in {TimeInForce.IOC, TimeInForce.FOK}:
            return True
        features = ((client.features or {}).get("spot") or {}).get("createOrder") or {}
        return (features.get("timeInForce") or {}).get(time_in_force.value) is not False

    def wire_id(self, intent: OrderIntent) -> str:
        """Return our client order id as the exchange is told it."""
        return intent.client_order_id

    def local_refusal(self, intent: OrderIntent) -> str:
        """Return why the exchange could not carry the order as it stands; empty when it could."""
        return ""

    async def create_order(self, client: Any, intent: OrderIntent, market: Market) -> Raw:
        """Send a placement and return ccxt's order."""
        order: Raw = await client.create_order(
            market.symbol,
            self.order_type(intent),
            intent.side,
            plain(intent.quantity),
            plain(intent.price),
            self.order_params(intent),
        )
        return order

    def order_wire(self, client: Any, credentials: Credentials, now_ms: Callable[[], int]) -> OrderWire | None:
        """Return the exchange's order messages by WebSocket, None where there are none of ours.

        ``now_ms`` is the exchange's time. Raises ValueError for credentials they can't be made with.
        """
        return None

    def socket_methods(self, client: Any) -> SocketMethods | None:
        """Return how ccxt's WebSocket methods carry orders where there are no messages of ours; None: they don't."""
        methods = METHODS.get(client.id)
        return None if methods is None else methods(self)

    async def cancel_order(self, client: Any, intent: OrderIntent, market: Market) -> None:
        """Send a cancellation."""
        await client.cancel_order(None, market.symbol, self.cancel_params(intent))

    async def create_exits(self, client: Any, exits: Exits, market: Market) -> None:
        """Send protective orders in one request; for exchanges with ``protects``."""
        raise NotImplementedError("the exchange has no protective orders")

    def read_exits(self, body: str, exits: Exits) -> tuple[Reading, ...]:
        """Read the answer to protective orders, for each of them."""
        return (self.read(body),) * len(exits.intents)

    def order_type(self, intent: OrderIntent) -> str:
        return "limit"

    def order_params(self, intent: OrderIntent) -> dict[str, Any]:
        """Return the parameters of a placement beside symbol, type, side, amount and price."""
        return {"clientOrderId": intent.client_order_id, **_unified_time_in_force(intent)}

    def cancel_params(self, intent: OrderIntent) -> dict[str, Any]:
        return {"clientOrderId": intent.client_order_id}

    def read(self, body: str) -> Reading:
        """Read an answer's body; an empty Reading when it can't be read."""
        data = parse(body)
        code = next((str(data[key]) for key in ("code", "retCode", "errno", "error_code") if key in data), "")
        if code in SUCCESS_CODES:
            code = ""
        message = next((str(data[key]) for key in ("msg", "message", "retMsg", "error") if key in data), "")
        return Reading(code=code, message=message)

    def answer_events(self, intent: OrderIntent, body: str, order: Raw | None) -> tuple[OrderEvent, ...]:
        """Return what a successful placement's answer says of the order beyond its id."""
        return ()

    async def fetch_order(self, client: Any, intent: OrderIntent, market: Market) -> OrderEvent | None:
        """Return the order as the exchange knows it, with its fills; None when it answers that there is none."""
        order = await client.fetch_order(None, market.symbol, {"clientOrderId": intent.client_order_id})
        event = self.unified_event(order, "query")
        if event is None or event.filled == 0:
            return event
        trades = await client.fetch_my_trades(market.symbol, int(intent.created_ns // NS_PER_MS) - 60_000)
        fills = tuple(
            self.unified_fill(trade, intent.client_order_id) for trade in trades if trade["order"] == order["id"]
        )
        return msgspec.structs.replace(event, fills=fills)

    async def fetch_open_orders(self, client: Any) -> list[OrderEvent]:
        """Return every order open on the account."""
        events = [self.unified_event(order, "query") for order in await client.fetch_open_orders()]
        return [event for event in events if event is not None]

    def owes_news(self) -> bool:
        """Return whether the stream still owes a part of what became of some order, see :class:`ToldInPart`."""
        return False

    async def fetch_owed(self, client: Any) -> list[OrderEvent]:
        """Return what the stream still owes, by asking for it."""
        return []

    async def fetch_fills(self, client: Any, market: Market, since_ms: int, own: Mapping[str, str]) -> list[Fill]:
        """Return the account's executions on a market since a time; ``own`` maps exchange order ids to client ids."""
        trades = await client.fetch_my_trades(market.symbol, since_ms)
        return [self.unified_fill(trade, own.get(str(trade["order"]), "")) for trade in trades]

    async def fetch_balances(self, client: Any) -> list[Figures]:
        return self.unified_balances(await client.fetch_balance())

    async def fetch_fees(self, client: Any) -> dict[str, FeeRates]:
        """Return the account's own rates by the exchange's market name, or ``*`` for all; empty where it can't say."""
        if not client.has.get("fetchTradingFees"):
            return {}
        found = {}
        for symbol, row in (await client.fetch_trading_fees()).items():
            taker, maker = decimal(row.get("taker")), decimal(row.get("maker"))
            if symbol in client.markets and taker is not None and maker is not None:
                found[str(client.markets[symbol]["id"])] = FeeRates(taker, maker)
        return found

    def has_leverage(self, market: Market, leverage: int) -> bool:
        """Return whether a contract is known to be held with this leverage, so that nothing need be asked."""
        return False

    async def set_leverage(self, client: Any, market: Market, leverage: int) -> None:
        """Set the leverage of a contract; raise ValueError if the exchange says another one."""
        await client.set_leverage(leverage, market.symbol)

    async def fetch_positions(self, client: Any) -> list[AccountPosition]:
        """Return the open positions in contracts; of an exchange that is traded at spot none is asked for."""
        return []

    async def fetch_incomes(self, client: Any, since_ms: int) -> list[AccountIncome]:
        """Return the lines of the exchange's statement that no execution tells, since a moment of its clock."""
        return []

    # -- private stream -----------------------------------------------------------------------------------------

    def watches(self, client: Any) -> Sequence[Callable[[], Coroutine[Any, Any, Any]]]:
        """Return what keeps the private stream up: each is awaited again and again, and raises when it is down."""
        wanted = (
            ("watchOrders", "watch_orders"),
            ("watchMyTrades", "watch_my_trades"),
            ("watchBalance", "watch_balance"),
        )
        return [getattr(client, method) for feature, method in wanted if client.has.get(feature)]

    def read_stream(self, message: Any) -> list[StreamItem] | None:
        """Return what a stream message says; None leaves it to ccxt."""
        return None

    # -- ccxt's unified structures ------------------------------------------------------------------------------

    def unified_event(self, order: Raw, source: str) -> OrderEvent | None:
        client_id = order.get("clientOrderId") or ""
        filled = decimal(order.get("filled"))
        states = {
            "open": OrderState.PARTIALLY_FILLED if filled else OrderState.PLACED,
            "closed": OrderState.FILLED,
            "canceled": OrderState.CANCELLED,
            "expired": OrderState.CANCELLED,
            "rejected": OrderState.FAILED,
        }
        state = states.get(str(order.get("status")), OrderState.UNKNOWN)
        amount = decimal(order.get("amount"))
        if state is OrderState.FILLED and filled is not None and amount is not None and filled < amount:
            state = OrderState.CANCELLED  # ccxt calls an IOC order "closed" whatever it filled
        return OrderEvent(
            account_id=self.names.account_id,
            market=self.names.by_symbol(str(order.get("symbol"))),
            client_order_id=client_id,
            exchange_order_id=str(order.get("id") or ""),
            state=state,
            filled=filled,
            source=source,
            exchange_ns=int(order.get("timestamp") or 0) * NS_PER_MS,
        )

    def unified_fill(self, trade: Raw, client_order_id: str) -> Fill:
        """Return an execution; raise ValueError for one without an id, which can't be told from itself."""
        if not trade["id"]:
            raise ValueError("id: the execution has none")
        fee = trade.get("fee") or {}
        cost = decimal(fee.get("cost"))
        return Fill(
            account_id=self.names.account_id,
            market=self.names.by_symbol(str(trade.get("symbol"))),
            exchange_trade_id=str(trade["id"]),
            exchange_order_id=str(trade.get("order") or ""),
            client_order_id=client_order_id,
            side=trade["side"],
            price=required(trade["price"], "price"),
            quantity=required(trade["amount"], "amount"),
            fee=cost,
            fee_asset=str(fee.get("currency") or ""),
            liquidity=str(trade.get("takerOrMaker") or ""),
            exchange_ns=int(trade.get("timestamp") or 0) * NS_PER_MS,
        )

    def trade_event(self, trade: Raw) -> OrderEvent | None:
        """Return an execution from ccxt's stream as an event; whose order it was is told by the exchange's order id.

        The fee is left open: in streams its sign is not unified (OKX's comes out negative). Asking settles it, as it
        does an execution without an id, of which nothing is made here.
        """
        if not trade.get("id"):
            return None
        client_id = str(trade.get("clientOrderId") or "")
        fill = msgspec.structs.replace(self.unified_fill(trade, client_id), fee=None, fee_asset="")
        return executed(fill, "stream")

    def unified_balances(self, balance: Raw) -> list[Figures]:
        found = []
        for asset, free in (balance.get("free") or {}).items():
            used = (balance.get("used") or {}).get(asset)
            found.append(Figures(asset, decimal(free) or Decimal(0), decimal(used) or Decimal(0)))
        return found


def _unified_time_in_force(intent: OrderIntent) -> dict[str, Any]:
    if intent.time_in_force is TimeInForce.POST_ONLY:
        return {"postOnly": True}
    return {"timeInForce": intent.time_in_force.value}


def executed(fill: Fill, source: str) -> OrderEvent:
    """Return a fill as news of its order; how much of the order is filled in all it does not say."""
    return OrderEvent(
        account_id=fill.account_id,
        market=fill.market,
        client_order_id=fill.client_order_id,
        exchange_order_id=fill.exchange_order_id,
        state=OrderState.PARTIALLY_FILLED,
        fills=(fill,),
        source=source,
        exchange_ns=fill.exchange_ns,
    )


async def _at_once(operation: str) -> None:
    """Wait for nothing."""


def plain(number: Decimal) -> str:
    """Return a decimal as an exchange reads it: no exponent, no trailing zeros."""
    text = str(number)  # several times as quick as a format
    if "E" in text:
        text = f"{number:f}"
    return text.rstrip("0").rstrip(".") if text[-1] == "0" and "." in text else text


def parse(body: str) -> dict[str, Any]:
    """Return a JSON object's fields, an empty mapping for anything else."""
    try:
        data = json.loads(body)
    except (ValueError, RecursionError):
        return {}
    return data if isinstance(data, dict) else {}


def decimal(value: object) -> Decimal | None:
    """Return an exact decimal of what an exchange wrote, None for nothing or nonsense; floats are not accepted.

    Written out, a figure like 1E-999999 fills the memory: nothing beyond 1e20, or with more than 40 places, is meant.
    """
    if value is None or value == "" or isinstance(value, float | bool):
        return None
    try:
        number = Decimal(str(value))
    except InvalidOperation:
        return None
    if not number.is_finite() or abs(number) >= MAX_MONEY or not -MOST_PLACES <= number.adjusted() <= MOST_PLACES:
        return None
    return number


def required(value: object, field: str) -> Decimal:
    """Return an exact, non-negative decimal or raise ValueError naming the field."""
    number = decimal(value)
    if number is None or number < 0:
        raise ValueError(f"{field}: not a quantity (given {str(value)[:40]!r})")
    return number
