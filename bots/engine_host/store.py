"""The Store port on the database: commits are awaited, everything else is queued and written in batches."""

from __future__ import annotations

import asyncio
import logging
import threading
from collections import deque
from collections.abc import Callable, Coroutine, Hashable, Mapping, Sequence
from contextlib import suppress
from itertools import islice
from typing import Any, NamedTuple

import msgspec

from bots.engine_host.counts import CountQueue
from bots.engine_host.database import DatabaseThreads
from bots.engine_host.journal_line import JournalLine
from bots.engine_host.leases import Lease
from bots.services import balances, decision_counts, decisions, events, positions, reconciliation, slippage, trades
from bots.services.guard import guarded
from bots.services.intents import Kind, intent_of
from risk.models.breakers import OWNED
from risk.policy.breakers import Breaker, BreakerNews
from risk.services.breakers import breaker_event
from trading.execution.progress import given_up
from trading.execution.reconciliation import Expected, Reconciliation
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
from trading.ports import Clock, LeaseLost, StoreUnavailable
from trading.tasks import failing

logger = logging.getLogger("arb.store")

COMMIT_SECONDS = 5.0
FLUSH_SECONDS = 5.0
GATHER_SECONDS = 0.005
COMMITS_FIRST_SECONDS = 0.05
BATCH = 200
FIRST_RETRY_SECONDS, LAST_RETRY_SECONDS = 0.2, 5.0
# With this many events or intents unwritten the store takes no new trade, which is what bounds the queues.
MAX_WAITING_EVENTS = 5_000
MAX_WAITING_INTENTS = 100
MAX_WAITING_DECISIONS = 2_000
NEVER_SENT = "never sent: the commit came too late"


class _Heard:
    """The newest that is told of a trade while a commit of it is under way: what is written of that before the commit
    is unfolded would be undone by it, so it is told again."""

    def __init__(self, trade_id: str) -> None:
        self.trade_id = trade_id
        self.newest: TradeRecord | None = None


class _Begun(NamedTuple):
    """A commit under way; ``inserting`` says whether the loop's own connection made it, where that was free."""

    heard: _Heard
    inserting: Coroutine[Any, Any, bool] | None


class DjangoStore:
    """Durable truth of one owner. Belongs to one event loop; :meth:`run` writes what is queued.

    What is committed is a row of the journal; it is unfolded into trade, orders and history before anything is written
    that was recorded after the commit. Events keep their order. Of trades, balances, positions and slippage the newest
    record of each waits, of decisions as many as fit, and counts are added up; a refused record is logged and left out,
    so that one bad figure cannot hold up the fills behind it.
    """

    def __init__(
        self,
        *,
        lease: Lease,
        clock: Clock,
        commits: DatabaseThreads,
        writes: DatabaseThreads,
        line: JournalLine | None = None,
    ) -> None:
        """``commits`` and ``writes`` are shared by the stores of a process, so that a batch never delays a commit; so
        is ``line``, which commits without a thread wherever it can."""
        self._lease = lease
        self._owner_id = lease.owner_id
        self._clock = clock
        self._commits, self._writes, self._line = commits, writes, line
        self._journaled: deque[str] = deque()  # to be unfolded, by the client id of the first order
        self._hearing: list[_Heard] = []
        self._no_commit = asyncio.Event()  # none is under way
        self._no_commit.set()
        self._events: deque[tuple[OrderEvent, str]] = deque()
        self._trades: dict[str, TradeRecord] = {}
        self._decisions: deque[Decision] = deque(maxlen=MAX_WAITING_DECISIONS)
        self._balances: dict[tuple[int, str], AccountBalance] = {}
        self._positions: dict[int, AccountPositions] = {}  # by account
        self._slippage: dict[str, LegSlippageRecord] = {}  # by client order id
        self._sampler = decisions.DecisionSampler()
        self._later: dict[str, tuple[str, float]] = {}  # by trade
        self._counts = CountQueue()
        self._wake = asyncio.Event()
        self._recorded = self._written = 0
        self._durable = asyncio.Condition()
        self.failing = ""  # why nothing can be written now
        self.refused = 0  # records the database will never take

    # --- awaited ---------------------------------------------------------------------------------------------

    def commit_trade(
        self, trade: TradeRecord, intents: Sequence[OrderIntent], decision: Decision | None
    ) -> Coroutine[Any, Any, None]:
        def write(token: int) -> None:
            trades.trade_commit(owner_id=self._owner_id, token=token, trade=trade, intents=intents, decision=decision)

        try:
            self._keeps_up_check()
            begun = self._begin(Kind.ENTRY, trade, intents, decision)
        except Exception as problem:
            return failing(problem)
        return self._commit(write, intents, begun, voided=trade)

    def _keeps_up_check(self) -> None:
        """Raise StoreUnavailable while what was recorded before waits for the database."""
        if self.failing:
            raise StoreUnavailable(f"records wait to be written: {self.failing}")
        for queue, limit, what in (
            (self._events, MAX_WAITING_EVENTS, "order events"),
            (self._journaled, MAX_WAITING_INTENTS, "journaled intents"),
        ):
            if len(queue) > limit:
                raise StoreUnavailable(f"{len(queue)} {what} wait to be written; the limit is {limit}")

    async def commit_repair(self, trade: TradeRecord, intent: OrderIntent) -> None:
        # The commit writes this newer state itself; the older one must not follow it.
        self._trades.pop(trade.trade_id, None)
        await self._commit(
            lambda token: trades.repair_commit(owner_id=self._owner_id, token=token, trade=trade, intent=intent),
            [intent],
            self._begin(Kind.FURTHER, trade, [intent]),
        )

    async def commit_protection(self, trade: TradeRecord, intents: Sequence[OrderIntent]) -> None:
        self._trades.pop(trade.trade_id, None)
        await self._commit(
            lambda token: trades.protection_commit(owner_id=self._owner_id, token=token, trade=trade, intents=intents),
            intents,
            self._begin(Kind.FURTHER, trade, intents),
        )

    def _begin(
        self, kind: str, trade: TradeRecord, intents: Sequence[OrderIntent], decision: Decision | None = None
    ) -> _Begun:
        """Begin to make intents durable, where the loop's own connection is free to; raises LeaseLost."""
        if not self._lease.is_held():
            raise LeaseLost(f"owner {self._owner_id}: {self._lease.lost or 'the lease runs out and is not renewed'}")
        line, inserting = self._line, None
        if line is not None and line.is_free:
            intent = intent_of(kind=kind, trade=trade, orders=intents, decision=decision)
            inserting = line.insert(self._owner_id, self._lease.token, intent)
        heard = _Heard(trade.trade_id)
        self._hearing.append(heard)
        self._no_commit.clear()
        return _Begun(heard, inserting)

    async def _commit(
        self,
        write: Callable[[int], None],
        intents: Sequence[OrderIntent],
        begun: _Begun,
        *,
        voided: TradeRecord | None = None,
    ) -> None:
        """Finish what has begun, by a thread where the loop's connection did not do it; ``voided`` is the trade that
        there is none of if it fails."""
        loop = asyncio.get_running_loop()
        late = threading.Event()
        heard = begun.heard

        def commit() -> None:
            write(self._lease.token)
            if late.is_set():
                loop.call_soon_threadsafe(self._void, voided, intents)

        try:
            async with asyncio.timeout(COMMIT_SECONDS):
                if begun.inserting is None or not await begun.inserting:
                    await self._commits.run(commit)
        except BaseException as problem:
            # Durable or not, nobody will send it. A row that is there already is voided now, one that comes later
            # by the thread that writes it; where there is none, nothing happens.
            late.set()
            self._void(voided, intents)
            if isinstance(problem, TimeoutError):
                raise StoreUnavailable(f"the database did not commit within {COMMIT_SECONDS:g} s") from None
            raise
        finally:
            self._hearing.remove(heard)
            if not self._hearing:
                self._no_commit.set()
        self._journal(intents)
        if heard.newest is not None:
            self.record_trade(heard.newest)
        # The commit may have waited; what counts is that the lease is ours when the order leaves.
        if not self._lease.is_held():
            self._void(voided, intents)
            raise LeaseLost(f"owner {self._owner_id}: the lease ran out during the commit")

    def _journal(self, intents: Sequence[OrderIntent]) -> None:
        """Have a journaled intent unfolded before whatever is recorded from now on."""
        self._journaled.append(intents[0].client_order_id)
        self._recording()

    def _void(self, trade: TradeRecord | None, intents: Sequence[OrderIntent]) -> None:
        """Book orders that became durable after we had given them up: they were never sent."""
        self._journal(intents)
        for intent in intents:
            event = OrderEvent(
                account_id=intent.account_id,
                market=intent.market,
                client_order_id=intent.client_order_id,
                state=OrderState.FAILED,
                source="engine",
                cause=NEVER_SENT,
                received_ns=self._clock.time_ns(),
            )
            self.record_event(event, OrderState.FAILED)
        if trade is not None:
            self.record_trade(_failed(trade, self._clock.time_ns()))

    async def open_trades(
        self,
    ) -> Sequence[tuple[TradeRecord, Sequence[tuple[OrderIntent, str, Sequence[OrderEvent]]]]]:
        return await self._writes.run(lambda: trades.open_trades(owner_id=self._owner_id))

    async def trade_of(
        self, client_order_id: str
    ) -> tuple[TradeRecord, Sequence[tuple[OrderIntent, str, Sequence[OrderEvent]]]] | None:
        return await self._writes.run(lambda: trades.trade_of(owner_id=self._owner_id, client_order_id=client_order_id))

    async def known_orders(self) -> Sequence[KnownOrder]:
        return await self._writes.run(lambda: trades.known_orders(owner_id=self._owner_id))

    async def expected(
        self,
        account_id: int,
        *,
        client_order_ids: frozenset[str] = frozenset(),
        exchange_order_ids: frozenset[str] = frozenset(),
    ) -> Expected:
        return await self._writes.run(
            lambda: reconciliation.expected_read(
                owner_id=self._owner_id,
                account_id=account_id,
                client_order_ids=client_order_ids,
                exchange_order_ids=exchange_order_ids,
            )
        )

    async def move_breaker(self, news: BreakerNews) -> Breaker:
        def move() -> Breaker:
            return breaker_event(
                scope=news.scope, key=news.key, event=news.event, now_ns=news.at_ns, reason=news.reason,
                trigger=news.trigger, seconds=news.seconds, holder=news.holder,
                owner_id=self._owner_id if news.scope in OWNED else None, figures=news.figures, event_id=news.event_id,
            )  # fmt: skip

        return await self._writes.run(lambda: guarded(move))

    async def record_reconciliation(self, done: Reconciliation) -> int:
        if not self._lease.is_held():
            raise LeaseLost(f"owner {self._owner_id}: {self._lease.lost or 'the lease runs out and is not renewed'}")
        # On the thread that writes fills, so that the books stand still meanwhile.
        return await self._writes.run(lambda: reconciliation.reconciliation_apply(owner_id=self._owner_id, done=done))

    # --- queued ----------------------------------------------------------------------------------------------

    def record_event(self, event: OrderEvent, state: str) -> None:
        self._events.append((event, state))
        self._recording()

    def record_trade(self, trade: TradeRecord) -> None:
        for heard in self._hearing:
            if heard.trade_id == trade.trade_id:
                heard.newest = trade
        self._trades.pop(trade.trade_id, None)
        self._trades[trade.trade_id] = trade
        self._recording()

    def record_decision(self, decision: Decision) -> None:
        self._decisions.append(decision)
        self._recording()

    def record_later_profit(self, trade_id: str, profit: float) -> None:
        self._later[trade_id] = (trade_id, profit)
        if len(self._later) > MAX_WAITING_DECISIONS:
            del self._later[next(iter(self._later))]
        self._recording()

    def record_counts(self, counts: Mapping[DecisionKey, int]) -> None:
        self._counts.add(counts, self._clock.time_ns())
        self._recording()

    def record_balance(self, balance: AccountBalance) -> None:
        self._balances[balance.account_id, balance.asset] = balance
        self._recording()

    def record_positions(self, positions: AccountPositions) -> None:
        self._positions[positions.account_id] = positions
        self._recording()

    def record_slippage(self, record: LegSlippageRecord) -> None:
        self._slippage[record.client_order_id] = record
        self._recording()

    async def flush(self, seconds: float | None = FLUSH_SECONDS) -> None:
        """Return once everything queued so far is durable, or refused for good.

        Raises
        ------
        StoreUnavailable
            If it takes longer than ``seconds``; what is queued stays queued.
        """
        target = self._recorded
        try:
            async with asyncio.timeout(seconds), self._durable:
                await self._durable.wait_for(lambda: self._written >= target)
        except TimeoutError:
            raise StoreUnavailable(
                f"{self.waiting} records are not written yet ({self.failing or 'it takes long'})"
            ) from None

    @property
    def waiting(self) -> int:
        """Records not yet durable."""
        queues = (
            self._journaled, self._events, self._trades, self._decisions, self._later, self._counts, self._balances,
            self._positions, self._slippage,
        )  # fmt: skip
        return sum(len(queue) for queue in queues)

    def _recording(self) -> None:
        self._recorded += 1
        self._wake.set()

    async def run(self) -> None:
        """Write what is queued until cancelled. After an outage it goes on where it stopped."""
        retry = FIRST_RETRY_SECONDS
        while True:
            await self._wake.wait()
            self._wake.clear()
            await asyncio.sleep(GATHER_SECONDS)  # a fill rarely comes alone
            target = self._recorded
            try:
                await self._write_all()
            except StoreUnavailable as problem:
                if not self.failing:
                    logger.error(
                        "owner %s: nothing can be written, so no new trades; %s records wait (%s)",
                        self._owner_id, self.waiting, problem,
                    )  # fmt: skip
                self.failing = str(problem)
                self._wake.set()
                await asyncio.sleep(retry)
                retry = min(retry * 2, LAST_RETRY_SECONDS)
                continue
            if self.failing:
                logger.info("owner %s: the database takes records again", self._owner_id)
                self.failing, retry = "", FIRST_RETRY_SECONDS
            async with self._durable:
                self._written = target
                self._durable.notify_all()

    async def _write_all(self) -> None:
        await self._unfold()
        # Orders and fills come before the trade states they led to.
        while self._events:
            batch = list(islice(self._events, BATCH))
            await self._write(
                "order event",
                batch,
                lambda some: events.events_apply(owner_id=self._owner_id, batch=some, token=self._lease.token),
            )
            for _ in batch:
                self._events.popleft()
        await self._write_latest(
            "trade",
            self._trades,
            lambda some: trades.trades_apply(owner_id=self._owner_id, token=self._lease.token, trades=some),
        )
        while self._decisions:
            await self._write(
                "decision",
                [self._decisions.popleft() for _ in range(min(BATCH, len(self._decisions)))],
                lambda some: decisions.decisions_store(owner_id=self._owner_id, decisions=some, sampler=self._sampler),
            )
        await self._write_latest(
            "later profit",
            self._later,
            lambda some: decisions.later_profits_store(owner_id=self._owner_id, later=some),
        )
        while (batch := self._counts.next_batch()) is not None:
            await self._write(
                "batch of counts",
                [batch],
                lambda some: [decision_counts.counts_add(owner_id=self._owner_id, batch=one) for one in some],
            )
            self._counts.written()
        await self._write_latest(
            "balance", self._balances, lambda some: balances.balances_apply(owner_id=self._owner_id, balances=some)
        )
        await self._write_latest(
            "reading of positions",
            self._positions,
            lambda some: positions.positions_apply(owner_id=self._owner_id, token=self._lease.token, told=some),
        )
        await self._write_latest(
            "slippage", self._slippage, lambda some: slippage.legs_store(owner_id=self._owner_id, records=some)
        )

    async def _behind_commits(self, work: Callable[[], object]) -> None:
        """Write on the thread for that, but not while orders wait for a commit and, after it, leave: all three would
        share the interpreter and the disk."""
        with suppress(TimeoutError):
            async with asyncio.timeout(COMMITS_FIRST_SECONDS):
                while not self._no_commit.is_set():
                    await self._no_commit.wait()
                    await asyncio.sleep(GATHER_SECONDS)
        await self._writes.run(work)

    async def _unfold(self) -> None:
        """Unfold what is journaled by now. What is journaled meanwhile waits for the next time: what is to be written
        after this was recorded before that, and would wait for as long as trades keep coming."""
        for _ in range(len(self._journaled)):
            await self._unfold_one(self._journaled[0])
            self._journaled.popleft()

    async def _unfold_one(self, key: str) -> None:
        try:
            await self._behind_commits(lambda: trades.intent_unfold(owner_id=self._owner_id, client_order_id=key))
        except StoreUnavailable:
            raise
        except Exception as problem:
            self.refused += 1
            logger.exception("owner %s: the intent of order %s stays in the journal: %s", self._owner_id, key, problem)

    async def _write_latest(self, what: str, queue: dict[Any, Any], write: Callable[[list[Any]], object]) -> None:
        while queue:
            batch = dict(islice(queue.items(), BATCH))
            await self._write(what, list(batch.values()), write)
            _remove_written(queue, batch)

    async def _write(self, what: str, batch: list[Any], write: Callable[[list[Any]], object]) -> None:
        """Write a batch; where the database refuses it, write its records one by one and leave out the bad ones."""
        await self._unfold()  # what was committed before these were recorded
        try:
            await self._behind_commits(lambda: write(batch))
        except StoreUnavailable:
            raise
        except Exception as problem:
            if len(batch) == 1:
                self.refused += 1
                logger.exception("owner %s: a %s is not stored, %r: %s", self._owner_id, what, batch[0], problem)
                return
            for record in batch:
                await self._write(what, [record], write)


def _remove_written(queue: dict[Hashable, Any], batch: dict[Hashable, Any]) -> None:
    for key, written in batch.items():
        if queue.get(key) is written:  # a newer one may have come meanwhile
            del queue[key]


def _failed(trade: TradeRecord, now_ns: int) -> TradeRecord:
    standing = trade.standing
    if standing is not None:
        standing = msgspec.structs.replace(standing, progress=given_up(standing.progress, NEVER_SENT, now_ns))
    return msgspec.structs.replace(
        trade, state=TradeState.FAILED, closed_ns=now_ns, reason=NEVER_SENT, standing=standing
    )
