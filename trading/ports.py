"""What the engine needs from outside, as Protocols. Adapters live in trading.exchanges and bots.engine_host."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Mapping, Sequence
from typing import Protocol

from risk.policy.breakers import Breaker, BreakerNews
from trading.basis import Funding
from trading.execution.reconciliation import Expected, Reconciliation
from trading.instruments import Market
from trading.marketdata.book import Book
from trading.messages import (
    AccountBalance,
    AccountIncome,
    AccountPosition,
    AccountPositions,
    Decision,
    DecisionKey,
    Fill,
    KnownOrder,
    LegSlippageRecord,
    OrderEvent,
    OrderIntent,
    OrderPath,
    PlaceResult,
    PublicTrade,
    StreamState,
    TradeRecord,
)


class Clock(Protocol):
    """Time. Monotonic for ages and timeouts, wall time for records."""

    def monotonic_ns(self) -> int: ...

    def time_ns(self) -> int: ...

    async def sleep(self, seconds: float) -> None: ...


class FeedSink(Protocol):
    """Where a feed reports. Calls are synchronous and come from the feed's event loop."""

    def on_book(self, book: Book) -> None:
        """``book`` was changed in place and is consistent."""

    def on_top(
        self, key: str, bid: float, bid_size: float, ask: float, ask_size: float, exchange_ns: int, received_ns: int
    ) -> None:
        """The exchange published a new best bid and ask (bookTicker and its kin)."""

    def on_trade(self, trade: PublicTrade) -> None: ...

    def on_funding(self, funding: Funding) -> None:
        """The exchange said what a perpetual's funding is."""

    def on_status(self, key: str, status: str, reason: str) -> None:
        """``status`` is ``connecting``, ``live``, ``stale`` or ``down``; a market that is not live trades nothing."""


class Feed(Protocol):
    """Market data of one exchange."""

    def add(self, market: Market) -> Book:
        """Follow a market; allowed before and while running. Returns the book the feed keeps up to date."""

    def remove(self, key: str) -> None: ...

    async def run(self) -> None:
        """Run until cancelled. Reconnects by itself; raises only for bugs."""

    def counters(self) -> Mapping[str, int | float]: ...


class Watch(Protocol):
    """Follow a market without holding it: what it returns ends that."""

    def __call__(
        self,
        market: Market,
        on_change: Callable[[], None],
        on_trade: Callable[[PublicTrade], None] | None = None,
    ) -> Callable[[], None]:
        """Have ``on_change`` called whenever its best prices or status change, ``on_trade`` for each public trade."""


VenueListener = Callable[[OrderEvent | AccountBalance | AccountPositions | StreamState | OrderPath], None]


class Venue(Protocol):
    """One account on one exchange. No method raises for what an exchange answers or fails to answer."""

    account_id: int
    exchange: str
    # For how long after a request was sent the exchange may still take it: its window, its backend's timeout, a margin.
    absence_seconds: float
    # What :meth:`protect` can do here: ``oco`` (one pair of orders that cancels itself) and ``stops`` (separate
    # reduce-only orders, of which the engine cancels the other). Empty: the engine holds the levels itself. ``ahead``
    # beside ``stops``: they wait without a position too, so they may leave beside the entry that makes it.
    protects: frozenset[str]

    def recall(self, orders: Sequence[KnownOrder]) -> None:
        """Learn, before :meth:`start`, what the account traded before: the first sweep covers those markets from the
        earliest of their moments on, and what the exchange says of these orders is told with their client ids."""

    async def start(self, listener: VenueListener) -> None:
        """Open the private stream and report events until :meth:`close`; returns once the first balances are in."""

    async def close(self) -> None: ...

    def reserve_order(self, client_order_id: str) -> float:
        """Take the request budget of one order now: return 0.0, or the seconds until it could be had (nothing taken).

        The next :meth:`place` of this id uses it up; :meth:`release_order` gives back what won't be placed. So no leg
        goes before the budget of all is had. It holds for some seconds; asking again for the same id takes nothing.
        """

    def release_order(self, client_order_id: str) -> None:
        """Give back what :meth:`reserve_order` took; without effect if there is nothing."""

    def prepare(self, intent: OrderIntent) -> None:
        """Do what can be done for an order before it may leave; it may never be placed."""

    def write(self, intent: OrderIntent) -> Awaitable[PlaceResult] | None:
        """Send a prepared order once, within this call or with what else is sent in this turn of the event loop; return
        what waits for its answer, as :meth:`place` does. None: nothing was done, it is to be placed."""

    async def place(self, intent: OrderIntent) -> PlaceResult:
        """Send once. Whatever is not proven placed or rejected is ``Outcome.UNKNOWN``."""

    async def protect(self, take_profit: OrderIntent | None, stop_loss: OrderIntent | None) -> tuple[PlaceResult, ...]:
        """Place the protective orders that are given, together, once; return an answer for each, in this order.

        Two of them are linked to each other (``OrderIntent.linked``): they go as one pair where the venue has ``oco``.
        They are cancelled and asked for like any order. One that cannot be sent is ``Outcome.REJECTED``.
        """

    def has_leverage(self, market: str, leverage: int) -> bool:
        """Return whether new positions in a contract are known to be held with this leverage."""

    async def set_leverage(self, market: str, leverage: int) -> str:
        """Let new positions in a contract be held with this leverage; return why not, or an empty string once it is so.

        On paper any leverage is, and binds margin accordingly.
        """

    async def cancel(self, intent: OrderIntent) -> PlaceResult: ...

    async def query(self, intent: OrderIntent) -> OrderEvent | None:
        """Ask by client order id; None when the exchange says it does not know the order."""

    async def open_orders(self) -> Sequence[OrderEvent] | None:
        """Return every order of the account that is open on the exchange, ours or not; None without an answer."""

    async def trades(self, market: str, since_ns: int) -> Sequence[Fill] | None:
        """Return the account's executions in a market (by key) since a moment of our wall clock, ours or not.

        Where the exchange's clock differs from ours, and by how much is known, the moment is told in the exchange's.

        Fills name their client order id where the exchange or our own memory does. None without an answer.
        """

    async def balances(self) -> Sequence[AccountBalance]: ...

    async def positions(self) -> Sequence[AccountPosition] | None:
        """Return the account's open positions in contracts, none on a spot account; None without an answer."""

    async def incomes(self, since_ns: int) -> Sequence[AccountIncome] | None:
        """Return what moved a contracts account's wallet without an execution since a moment of our wall clock; nothing
        on a spot account. None without an answer."""


class LeaseLost(Exception):
    """The owner's lease is no longer held with this token: send nothing more."""


class StoreUnavailable(Exception):
    """The store cannot make anything durable now: no new trades."""


class SwitchedOff(StoreUnavailable):
    """The trading switch does not let this intent become durable: nothing is sent."""


class Store(Protocol):
    """Durable truth of one owner. ``commit_*`` is awaited before anything is sent; ``record_*`` is queued, in order."""

    def commit_trade(
        self, trade: TradeRecord, intents: Sequence[OrderIntent], decision: Decision | None
    ) -> Awaitable[None]:
        """Write trade, all its first intents and their reservations in one transaction, PENDING then SENDING under
        the lease's fencing token, unless the trading switch forbids it. A trade made by hand has no decision.

        It may begin within the call, so that the caller can do something else meanwhile; what is returned is to be
        awaited. That raises LeaseLost or StoreUnavailable (SwitchedOff among them); then nothing may be sent.
        """

    async def commit_repair(self, trade: TradeRecord, intent: OrderIntent) -> None:
        """Write one further intent of a trade (completing or undoing a leg), under the same rules."""

    async def commit_protection(self, trade: TradeRecord, intents: Sequence[OrderIntent]) -> None:
        """Write further orders that belong together (those that protect a position, the closing legs of a pair), all
        of them or none, under the same rules."""

    def record_event(self, event: OrderEvent, state: str) -> None:
        """Queue an order's event with the state it led to, and the event's fills."""

    def record_trade(self, trade: TradeRecord) -> None:
        """Queue the trade's new state or result."""

    def record_decision(self, decision: Decision) -> None:
        """Queue a decision; the store samples and bounds what it keeps."""

    def record_later_profit(self, trade_id: str, profit: float) -> None:
        """Queue what the opportunity of a trade would have earned LATER_SECONDS after it was seen."""

    def record_counts(self, counts: Mapping[DecisionKey, int]) -> None:
        """Queue what is to be added to the counts of decisions. It is added once, whatever fails on the way."""

    def record_balance(self, balance: AccountBalance) -> None: ...

    def record_positions(self, positions: AccountPositions) -> None:
        """Queue an account's positions as its exchange tells them; of an account the newest reading counts."""

    def record_slippage(self, record: LegSlippageRecord) -> None:
        """Queue what an order cost; of an order the newest record counts."""

    async def open_trades(
        self,
    ) -> Sequence[tuple[TradeRecord, Sequence[tuple[OrderIntent, str, Sequence[OrderEvent]]]]]:
        """Return the trades that are not finished, with each order's intent, state and the fills booked so far."""

    async def trade_of(
        self, client_order_id: str
    ) -> tuple[TradeRecord, Sequence[tuple[OrderIntent, str, Sequence[OrderEvent]]]] | None:
        """Return the trade that an order belongs to, finished or not; None if the store knows no such order."""

    async def known_orders(self) -> Sequence[KnownOrder]:
        """Return the newest orders of each account, for :meth:`Venue.recall`."""

    async def flush(self) -> None:
        """Return once everything queued so far is durable."""

    async def expected(
        self,
        account_id: int,
        *,
        client_order_ids: frozenset[str] = frozenset(),
        exchange_order_ids: frozenset[str] = frozenset(),
    ) -> Expected:
        """Return what the books say of an account's real money, and which of these orders they know."""

    async def move_breaker(self, news: BreakerNews) -> Breaker:
        """Let something happen to a circuit breaker, durably; return it as it stands then. Told again, nothing more
        happens. Raises StoreUnavailable."""

    async def record_reconciliation(self, done: Reconciliation) -> int:
        """Store an account's differences and open its ledger if that is due; return how many differences are new."""


class Publisher(Protocol):
    """Live updates for pages. Latest value per (owner, kind, key) wins; never blocks, never raises."""

    def publish(self, owner: int | None, kind: str, key: str, data: Mapping[str, object]) -> None:
        """``owner`` None is for everybody. Kinds and their data are listed in docs/live-messages.md."""
