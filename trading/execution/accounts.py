"""An engine's accounts: one venue a purse, the state of its private stream, its balances."""

from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import Callable, Iterable, Mapping
from functools import partial

from trading.config import OwnerConfig
from trading.exchanges.paper import PaperVenue
from trading.execution.desk import Desk
from trading.execution.views import balance_view
from trading.instruments import Market
from trading.marketdata.hub import ANY_AGE
from trading.messages import (
    AccountBalance,
    AccountPositions,
    KnownOrder,
    OrderEvent,
    OrderPath,
    OrdersBy,
    StreamState,
)
from trading.portfolio import Purse
from trading.ports import Venue
from trading.tasks import end_tasks

STARTING = "starting"
LIVE = "live"


class Accounts:
    """Opens purses and listens to them.

    ``on_order`` gets every order event, ``on_live`` is called when a purse's stream has come (back) to life, after the
    venue's own sweep; ``on_positions`` after a reading of a purse's positions; ``on_change`` after any change of a
    stream's state.
    """

    def __init__(
        self,
        desk: Desk,
        config: OwnerConfig,
        venues: Mapping[int, Venue],
        *,
        on_order: Callable[[Purse, OrderEvent], None],
        on_live: Callable[[Purse], None],
        on_change: Callable[[], None],
        on_positions: Callable[[Purse], None],
        paper_one_way_seconds: float | None = None,
    ) -> None:
        self.config = config
        self.counters: Counter[str] = Counter()
        self.streams: dict[Purse, str] = {}
        self.order_paths: dict[Purse, OrderPath] = {}  # as last told, of venues that have more than one
        self.swept: dict[Purse, int] = {}  # when a purse was last swept, by the wall clock
        self._desk = desk
        self._real = dict(venues)
        self._on_order = on_order
        self._on_live = on_live
        self._on_change = on_change
        self._on_positions = on_positions
        self._paper_one_way_seconds = paper_one_way_seconds
        self._tasks: dict[Purse, asyncio.Task[None]] = {}
        self._known: dict[int, list[KnownOrder]] = {}
        self._held: dict[int, bool] = {}  # whether an account's newest reading has any position

    def configure(self, config: OwnerConfig, venues: Mapping[int, Venue]) -> None:
        """Take a new configuration and further real accounts' venues."""
        self.config = config
        self._real.update(venues)

    def remember(self, orders: Iterable[KnownOrder]) -> None:
        """Take what the accounts traded before, for their first sweep; before any is opened."""
        for order in orders:
            self._known.setdefault(order.account_id, []).append(order)

    def open(self, purse: Purse, exchange: str) -> None:
        """Start a purse's venue unless it runs; raise ValueError if the account was given no venue."""
        markets = [market for market in self._desk.markets.values() if market.exchange == exchange]
        venue = self._desk.venues.get(purse)
        if venue is None:
            venue = self._make(purse, exchange, markets)
            if not purse.paper:
                venue.recall(self._known.pop(purse.account_id, []))
            self._desk.venues[purse] = venue
            self.streams[purse] = STARTING
            self._tasks[purse] = asyncio.get_running_loop().create_task(self._start(purse, venue))
        else:
            add_markets = getattr(venue, "add_markets", None)
            if add_markets is not None:
                add_markets(markets)

    def fault(self, purse: Purse) -> str:
        """Return why a purse takes no new trades as far as its stream goes, or an empty string."""
        if purse in self._desk.live_purses:
            return ""
        return f"account {purse.account_id}: {self.streams.get(purse, STARTING)}"

    def is_starting(self, purse: Purse) -> bool:
        return self.streams.get(purse, STARTING) == STARTING

    def summary(self) -> Mapping[str, str]:
        """Return each purse's stream state by ``<account id> paper`` or ``<account id> real``."""
        return {
            f"{purse.account_id} {'paper' if purse.paper else 'real'}": state for purse, state in self.streams.items()
        }

    def order_path(self, purse: Purse) -> str:
        """Return in a few words how a purse's orders leave, empty where there is but one way."""
        path = self.order_paths.get(purse)
        if path is None:
            return ""
        if path.by is OrdersBy.WEBSOCKET:
            return "orders by WebSocket"
        return f"orders by REST{' meanwhile' if path.by is OrdersBy.RECONNECTING else ''}: {path.reason}"

    def order_counters(self) -> Counter[str]:
        """Return the venues' own counts, summed: orders by path, fallbacks, reconnects, questions about orders."""
        total: Counter[str] = Counter()
        for venue in self._desk.venues.values():
            counters = getattr(venue, "counters", None)
            if counters is not None:
                total.update(counters())
        return total

    async def close(self) -> None:
        """Close every venue."""
        await end_tasks(self._tasks.values())
        await asyncio.gather(*(venue.close() for venue in self._desk.venues.values()), return_exceptions=True)

    def _make(self, purse: Purse, exchange: str, markets: Iterable[Market]) -> Venue:
        given = self._real.get(purse.account_id)
        if not purse.paper:
            if given is None:
                raise ValueError(f"account {purse.account_id}: has no venue for real orders")
            return given
        account = next(account for account in self.config.accounts if account.account_id == purse.account_id)
        if given is not None and account.credentials is None:
            return given
        desk = self._desk
        latency = {} if self._paper_one_way_seconds is None else {"one_way_seconds": self._paper_one_way_seconds}
        return PaperVenue(
            purse.account_id,
            exchange,
            markets,
            account.paper_balances,
            book_of=lambda market: desk.fresh_book(market, max_age_ms=ANY_AGE),
            clock=desk.clock,
            watch=desk.watch,
            mark_of=desk.mark,
            **latency,
        )

    async def _start(self, purse: Purse, venue: Venue) -> None:
        try:
            await venue.start(partial(self._on_message, purse))
        except Exception as error:
            self.streams[purse] = f"failed: {type(error).__name__}"
            self._desk.alarm(f"account {purse.account_id} can't be started: {type(error).__name__}: {error}")
            self._on_change()

    def _on_message(
        self, purse: Purse, message: OrderEvent | AccountBalance | AccountPositions | StreamState | OrderPath
    ) -> None:
        if isinstance(message, OrderEvent):
            self._on_order(purse, message)
        elif isinstance(message, AccountBalance):
            self._on_balance(purse, message)
        elif isinstance(message, AccountPositions):
            if self._desk.holdings.on_positions(purse, message):
                self._record_positions(message)
                self._on_positions(purse)
        elif isinstance(message, OrderPath):
            self.order_paths[purse] = message
            self._on_change()
        else:
            self._on_stream(purse, message)

    def _record_positions(self, told: AccountPositions) -> None:
        """Have a reading stored: the first, and all but those that find nothing again."""
        if told.positions or self._held.get(told.account_id, True):
            self._desk.store.record_positions(told)
        self._held[told.account_id] = bool(told.positions)

    def _on_stream(self, purse: Purse, message: StreamState) -> None:
        if message.state == LIVE:
            self.streams[purse] = LIVE
            self.swept[purse] = self._desk.clock.time_ns()
            self._desk.live_purses.add(purse)
            self._on_live(purse)
        else:
            self.streams[purse] = f"{message.state}: {message.reason}"
            if purse in self._desk.live_purses:
                self._desk.live_purses.discard(purse)
                self.counters["stream_losses"] += 1
        self._on_change()

    def _on_balance(self, purse: Purse, balance: AccountBalance) -> None:
        self._desk.explained.on_balance(purse, balance)
        if not self._desk.portfolio.on_balance(purse, balance):
            return
        # An account may have both; what pages and the store hold under its id is then the real money.
        if purse.paper and Purse(purse.account_id, False) in self._desk.venues:
            return
        self._desk.store.record_balance(balance)
        account = next((one for one in self.config.accounts if one.account_id == purse.account_id), None)
        if account is not None:
            key = f"{purse.account_id}:{balance.asset}"
            self._desk.publisher.publish(self._desk.owner_id, "balance", key, balance_view(account, balance))
