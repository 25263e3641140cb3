"""The database and each process's way to it: what is durable when, and what a crash takes along.

:class:`Database` outlives every process. :class:`SimStore` is the Store port as the real one keeps it: commits are
awaited under the lease's token, everything else waits in the process's memory until it is written.
"""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from itertools import islice
from typing import TYPE_CHECKING, Any

import msgspec

from risk.policy.breakers import Breaker, BreakerNews
from tests.simulation.loop import Process
from trading.execution.memory_store import MemoryStore
from trading.execution.reconciliation import Expected, Reconciliation
from trading.execution.states import next_state
from trading.messages import (
    AccountBalance,
    AccountPositions,
    Decision,
    DecisionKey,
    KnownOrder,
    LegSlippageRecord,
    OrderEvent,
    OrderIntent,
    OrderState,
    TradeRecord,
    TradeState,
)
from trading.ports import LeaseLost, StoreUnavailable

if TYPE_CHECKING:
    from tests.simulation.world import World

LEASE_SECONDS = 4.0
FENCE_SHARE = 0.8
RENEW_SHARE = 0.25
RENEW_RETRY_SECONDS = 0.5
COMMIT_SECONDS = 5.0
GATHER_SECONDS = 0.005
FIRST_RETRY_SECONDS, LAST_RETRY_SECONDS = 0.2, 5.0
BATCH = 200


Stored = tuple[TradeRecord, Sequence[tuple[OrderIntent, str, Sequence[OrderEvent]]]]


@dataclass(frozen=True, slots=True)
class Operation:
    """One write: intents of a trade (its first or a further one), an order's event, or a trade's state.

    ``token`` is the writer's, ``present`` the lease's at that moment.
    """

    token: int
    present: int
    trade: TradeRecord | None = None
    intents: tuple[OrderIntent, ...] = ()
    first: bool = False
    event: OrderEvent | None = None
    state: str = ""


# What a backup holds. What only judges a history (``sent_under``, ``operations``) is no table.
TABLES = (
    "trades", "trade_history", "intents", "states", "events", "history", "fills", "opened", "differences", "dismissed",
    "breakers", "_told", "_matched", "_opened_ns", "token", "holder",
)  # fmt: skip


@dataclass(frozen=True, slots=True)
class Backup:
    """Tables by name."""

    tables: dict[str, Any]


def copied(table: Any) -> Any:
    """Return a copy that later writes to a table do not reach; rows themselves are frozen."""
    if isinstance(table, dict):
        return {key: list(rows) if isinstance(rows, list) else rows for key, rows in table.items()}
    return table


def next_token(token: int, now: float) -> int:
    """Return the token of the next lease. It is of the time, as the platform's is: a restored database has forgotten
    its newest."""
    return max(token + 1, int(now))


class Database(MemoryStore):
    """Tables of one owner, and the lease. ``now`` is its own clock."""

    def __init__(self, now: Callable[[], float]) -> None:
        super().__init__()
        self.now = now
        self.token = 0
        self.holder = ""
        self.expires_at = 0.0
        self.sent_under: dict[str, int] = {}  # the token each order became SENDING under
        self.operations: list[Operation] = []  # what was written, in order

    # -- the lease

    def take(self, holder: str) -> int | None:
        if self.now() < self.expires_at:
            return None
        self.token = next_token(self.token, self.now())
        self.holder, self.expires_at = holder, self.now() + LEASE_SECONDS
        return self.token

    def renew(self, holder: str, token: int) -> bool:
        if not self.holds(token) or holder != self.holder:
            return False
        self.expires_at = self.now() + LEASE_SECONDS
        return True

    def release(self, token: int) -> None:
        if self.holds(token):
            self.expires_at = self.now()

    def holds(self, token: int) -> bool:
        return token == self.token and self.now() < self.expires_at

    def fenced(self, token: int) -> bool:
        """Whether a write under this token is refused."""
        return not self.holds(token)

    # -- backups

    def backup(self) -> Backup:
        """Return a copy of all tables as they are now, the lease's among them."""
        return Backup({name: copied(getattr(self, name)) for name in TABLES})

    def restore(self, backup: Backup) -> None:
        for name, table in backup.tables.items():
            setattr(self, name, copied(table))
        self.expires_at = self.now()

    # -- transactions

    def insert(self, token: int, trade: TradeRecord, intents: Sequence[OrderIntent], *, first: bool) -> None:
        """Write a trade and its first intents, or one further intent, if the token still holds the lease."""
        if self.fenced(token):
            raise LeaseLost(f"the owner's lease is no longer held with token {token}")
        if first == (trade.trade_id in self.trades):
            raise ValueError(f"trade_id: {trade.trade_id} {'exists already' if first else 'does not exist'}")
        for intent in intents:
            if intent.client_order_id in self.intents:
                raise ValueError(f"client_order_id: {intent.client_order_id} exists already")
        for intent in intents:
            self._insert(intent)
            self.sent_under[intent.client_order_id] = token
        self.operations.append(Operation(token, self.token, trade=trade, intents=tuple(intents), first=first))
        self._keep(token, trade)

    def store_event(self, token: int, event: OrderEvent, state: str) -> None:
        """Write an event as the database does: its own state moves by the table of states alone, and not by what an
        engine concluded of an order that a later one has sent since under the same id."""
        self.operations.append(Operation(token, self.token, event=event, state=state))
        if event.source == "engine" and self.sent_under.get(event.client_order_id, 0) > token:
            return
        before = self.states.get(event.client_order_id)
        after = OrderState(state) if before is None else next_state(before, OrderState(state)) or before
        if before is not None and self.token > token and not event.fills:
            after = before
        self.record_event(event, after.value)

    def store_trade(self, token: int, trade: TradeRecord) -> None:
        self.operations.append(Operation(token, self.token, trade=trade))
        self._keep(token, trade)

    def _keep(self, token: int, trade: TradeRecord) -> None:
        known = self.trades.get(trade.trade_id)
        if self.token > token or (
            known is not None and trade.state is TradeState.OPEN and known.state is not TradeState.OPEN
        ):
            return
        self.record_trade(trade)

    def unfinished(self) -> list[Stored]:
        return [self._stored(trade) for trade in self.trades.values() if self._is_unfinished(trade)]

    def orders_known(self) -> list[KnownOrder]:
        return [self._known(client_id) for client_id in self.intents]

    def trade_with(self, client_order_id: str) -> Stored | None:
        intent = self.intents.get(client_order_id)
        return None if intent is None else self._stored(self.trades[intent.trade_id])


class Lease:
    """The right to send, by the process's own monotonic clock."""

    def __init__(self, world: World, process: Process, token: int) -> None:
        self.token = token
        self.lost = ""
        self._world = world
        self._process = process
        self._fenced_at = world.loop.time() + LEASE_SECONDS * FENCE_SHARE

    def is_held(self) -> bool:
        return not self.lost and self._world.loop.time() < self._fenced_at

    async def keep(self, on_lost: Callable[[str], None]) -> None:
        """Renew until the lease is lost."""
        world = self._world
        due = world.loop.time() + LEASE_SECONDS * RENEW_SHARE
        while True:
            await asyncio.sleep(max(0.0, due - world.loop.time()))
            asked = world.loop.time()
            try:
                kept = await world.query_database(
                    self._process, lambda: world.database.renew(self._process.name, self.token), lease=True
                )
            except StoreUnavailable:
                if not self.is_held():
                    self.lost = "it could not be renewed in time"
                    break
                due = world.loop.time() + RENEW_RETRY_SECONDS
                continue
            if not kept:
                self.lost = "it has expired or was taken over"
                break
            self._fenced_at = asked + LEASE_SECONDS * FENCE_SHARE
            due = asked + LEASE_SECONDS * RENEW_SHARE
        on_lost(self.lost)


class SimStore:
    """The Store port of one process. :meth:`run` writes what is queued."""

    def __init__(self, world: World, process: Process, lease: Lease) -> None:
        self._world = world
        self._process = process
        self._lease = lease
        self._events: deque[tuple[OrderEvent, str]] = deque()
        self._trades: dict[str, TradeRecord] = {}
        self._wake = asyncio.Event()
        self._recorded = self._written = 0
        self._durable = asyncio.Condition()
        self.failing = ""
        self.known_fills: set[str] = set()  # executions this process has been told of, by the exchange's ids

    @property
    def waiting(self) -> int:
        return len(self._events) + len(self._trades)

    # -- awaited

    async def commit_trade(self, trade: TradeRecord, intents: Sequence[OrderIntent], decision: Decision) -> None:
        if self.failing:
            raise StoreUnavailable(f"records wait to be written: {self.failing}")
        await self._commit("commit_trade", trade, intents, first=True)

    async def commit_repair(self, trade: TradeRecord, intent: OrderIntent) -> None:
        self._trades.pop(trade.trade_id, None)
        await self._commit("commit_repair", trade, [intent], first=False)

    async def commit_protection(self, trade: TradeRecord, intents: Sequence[OrderIntent]) -> None:
        self._trades.pop(trade.trade_id, None)
        await self._commit("commit_protection", trade, intents, first=False)

    async def _commit(self, name: str, trade: TradeRecord, intents: Sequence[OrderIntent], *, first: bool) -> None:
        world, process, token = self._world, self._process, self._lease.token
        if not self._lease.is_held():
            raise LeaseLost(self._lease.lost or "the lease runs out and is not renewed")
        world.asked_at.update((intent.client_order_id, world.loop.time()) for intent in intents)
        await world.point(process, f"{name}:before")
        given_up = False

        def write() -> None:
            world.database.insert(token, trade, intents, first=first)
            world.log("durable", process.name, *(intent.client_order_id for intent in intents))
            world.passes(process, f"{name}:durable")
            if given_up:
                world.loop.inside(process, 0.0, self._void, trade if first else None, intents)

        try:
            await world.query_database(process, write, commit=True)
        except BaseException:
            given_up = True
            self._void(trade if first else None, intents)
            raise
        await world.point(process, f"{name}:after")
        if not self._lease.is_held():
            self._void(trade if first else None, intents)
            raise LeaseLost("the lease ran out during the commit")

    def _void(self, trade: TradeRecord | None, intents: Sequence[OrderIntent]) -> None:
        """Book orders that became, or may become, durable after they were given up: they were never sent."""
        now = self._world.clock_of(self._process).time_ns()
        for intent in intents:
            event = OrderEvent(
                account_id=intent.account_id,
                market=intent.market,
                client_order_id=intent.client_order_id,
                state=OrderState.FAILED,
                source="engine",
                cause="never sent: the commit came too late",
                received_ns=now,
            )
            self.record_event(event, OrderState.FAILED)
        if trade is not None:
            reason = "never sent: the commit came too late"
            self.record_trade(msgspec.structs.replace(trade, state=TradeState.FAILED, closed_ns=now, reason=reason))

    async def open_trades(self) -> Sequence[Stored]:
        found = await self._world.query_database(self._process, self._world.database.unfinished)
        for trade in found:
            self._note_stored(trade)
        await self._world.point(self._process, "open_trades:read")
        return found  # type: ignore[no-any-return]

    async def trade_of(self, client_order_id: str) -> Stored | None:
        found = await self._world.query_database(
            self._process, lambda: self._world.database.trade_with(client_order_id)
        )
        if found is not None:
            self._note_stored(found)
        await self._world.point(self._process, "trade_of:read")
        return found  # type: ignore[no-any-return]

    async def known_orders(self) -> Sequence[KnownOrder]:
        found = await self._world.query_database(self._process, self._world.database.orders_known)
        await self._world.point(self._process, "known_orders:read")
        return found  # type: ignore[no-any-return]

    def _note_stored(self, trade: Stored) -> None:
        for _, _, events in trade[1]:
            self._note_fills(events)

    async def expected(
        self,
        account_id: int,
        *,
        client_order_ids: frozenset[str] = frozenset(),
        exchange_order_ids: frozenset[str] = frozenset(),
    ) -> Expected:
        return await self._world.query_database(  # type: ignore[no-any-return]
            self._process,
            lambda: self._world.database.books_of(account_id, client_order_ids, exchange_order_ids),
        )

    async def move_breaker(self, news: BreakerNews) -> Breaker:
        return await self._world.query_database(  # type: ignore[no-any-return]
            self._process, lambda: self._world.database.breaker_moved(news)
        )

    async def record_reconciliation(self, done: Reconciliation) -> int:
        if not self._lease.is_held():
            raise LeaseLost(self._lease.lost or "the lease runs out and is not renewed")
        return await self._world.query_database(  # type: ignore[no-any-return]
            self._process, lambda: self._world.database.reconciled(done)
        )

    # -- queued

    def record_event(self, event: OrderEvent, state: str) -> None:
        if self._process.alive:
            self._note_fills((event,))
            self._world.log("record", self._process.name, event.client_order_id, str(state))
            self._events.append((event, state))
            self._recording()

    def record_trade(self, trade: TradeRecord) -> None:
        if self._process.alive:
            self._world.log("trade", self._process.name, trade.trade_id, trade.state.value, str(trade.residual_base))
            self._trades.pop(trade.trade_id, None)
            self._trades[trade.trade_id] = trade
            self._recording()

    def record_decision(self, decision: Decision) -> None:
        """Decisions are for pages; nothing here depends on them."""

    def record_later_profit(self, trade_id: str, profit: float) -> None:
        """As decisions."""

    def record_counts(self, counts: Mapping[DecisionKey, int]) -> None:
        """As decisions."""

    def record_balance(self, balance: AccountBalance) -> None:
        """Balances are for pages; nothing here depends on them."""

    def record_positions(self, positions: AccountPositions) -> None:
        """Positions are for pages; nothing here depends on them."""

    def record_slippage(self, record: LegSlippageRecord) -> None:
        """What orders cost is learned from elsewhere; nothing here depends on it."""

    def _note_fills(self, events: Sequence[OrderEvent]) -> None:
        for event in events:
            self.known_fills.update(fill.exchange_trade_id for fill in event.fills)

    def _recording(self) -> None:
        self._recorded += 1
        self._wake.set()

    async def flush(self) -> None:
        target = self._recorded
        try:
            async with asyncio.timeout(COMMIT_SECONDS), self._durable:
                await self._durable.wait_for(lambda: self._written >= target)
        except TimeoutError:
            raise StoreUnavailable(f"{self.waiting} records are not written yet") from None

    async def run(self) -> None:
        retry = FIRST_RETRY_SECONDS
        while True:
            await self._wake.wait()
            self._wake.clear()
            await asyncio.sleep(GATHER_SECONDS)
            target = self._recorded
            try:
                await self._write_all()
            except StoreUnavailable as problem:
                self.failing = str(problem)
                self._wake.set()
                await asyncio.sleep(retry)
                retry = min(retry * 2, LAST_RETRY_SECONDS)
                continue
            self.failing, retry = "", FIRST_RETRY_SECONDS
            async with self._durable:
                self._written = target
                self._durable.notify_all()

    async def _write_all(self) -> None:
        world, process = self._world, self._process
        while self._events:
            batch = list(islice(self._events, BATCH))

            def write_events(batch: list[tuple[OrderEvent, str]] = batch) -> None:
                for event, state in batch:
                    world.database.store_event(self._lease.token, event, state)
                world.passes(process, "write_events:durable")

            await world.point(process, "write_events:before")
            await world.query_database(process, write_events)
            for _ in batch:
                self._events.popleft()
        while self._trades:
            trades = dict(self._trades)

            def write_trades(trades: dict[str, TradeRecord] = trades) -> None:
                for trade in trades.values():
                    world.database.store_trade(self._lease.token, trade)
                world.passes(process, "write_trades:durable")

            await world.point(process, "write_trades:before")
            await world.query_database(process, write_trades)
            for trade_id, written in trades.items():
                if self._trades.get(trade_id) is written:
                    del self._trades[trade_id]
