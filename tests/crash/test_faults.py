"""Faults 63 to 67 and 70 to 72: a database that is away, in doubt, in conflict, full or of another version.

The engine's own store adapter and a real database. What a store may never do: report a commit that is not durable,
leave an order that nobody sends as if it were sent, lose what an exchange said, or book it twice.
"""

from __future__ import annotations

import asyncio
import threading
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import suppress
from typing import Any

import msgspec
import psycopg
import pytest
import pytest_asyncio
from django.db import connections
from django.db.migrations.recorder import MigrationRecorder

from bots.engine_host import process
from bots.engine_host.database import DatabaseThreads
from bots.engine_host.host import EngineHost
from bots.engine_host.leases import Lease
from bots.engine_host.schema import schema_fault
from bots.engine_host.store import DjangoStore
from bots.models import Fill, JournaledIntent, LedgerEntry, Order, OrderEvent, OwnerLease, Trade
from bots.services.bots import bot_start
from bots.services.guard import ATTEMPTS, UNDONE
from bots.tasks import host_engines, offer_engines
from tests.bots.world import World
from tests.crash.broken import full_or_read_only, give_back_room, locked_database, through_proxy, undoing
from tests.crash.stage import database_url
from tests.host.conftest import until
from trading.clock import SystemClock
from trading.execution.ids import client_order_id
from trading.messages import OrderState
from trading.ports import StoreUnavailable

pytestmark = [pytest.mark.django_db(transaction=True), pytest.mark.database]


class Shop:
    """An owner's store whose connections are opened when it is first used, and a judge with one of his own."""

    def __init__(self) -> None:
        self.judge = DatabaseThreads("judge")
        self.threads = DatabaseThreads("commit", 2)
        self.writes = DatabaseThreads("write")

    async def open(self) -> None:
        self.world = await self.judge.run(World)
        self.bot = await self.judge.run(lambda: self.world.bot(self.world.anna))
        self.token = await self.judge.run(lambda: self.world.lease(self.world.anna, seconds=600))
        clock = SystemClock()
        lease = Lease(self.world.anna.pk, self.token, clock.monotonic_ns() + 600_000_000_000, clock)
        self.store = DjangoStore(lease=lease, clock=clock, commits=self.threads, writes=self.writes)
        self.writer = asyncio.create_task(self.store.run())

    async def close(self) -> None:
        self.writer.cancel()
        with suppress(asyncio.CancelledError):
            await self.writer
        loop = asyncio.get_running_loop()
        for threads in (self.threads, self.writes, self.judge):
            await loop.run_in_executor(None, threads.close)

    async def intents(self) -> tuple[Any, list[Any], Any]:
        def make() -> tuple[Any, list[Any], Any]:
            trade = self.world.trade(self.bot, self.token)
            return (
                trade,
                self.world.intents(self.bot, trade),
                self.world.decision(self.bot, trade_id=trade.trade_id),
            )

        return await self.judge.run(make)

    async def states(self, intents: list[Any]) -> set[str]:
        """Return the states of orders as stored; those of the journal are SENDING, as their rows will be."""
        ids = [intent.client_order_id for intent in intents]
        rows = Order.objects.filter(client_order_id__in=ids)
        journaled = JournaledIntent.objects.filter(client_order_id__in=ids)

        def read() -> set[str]:
            waiting = {OrderState.SENDING.value} if journaled.exists() else set()
            return waiting | set(rows.values_list("state", flat=True))

        return await self.judge.run(read)

    def record(self, intent: Any) -> None:
        """Say that an exchange has filled an order."""
        event = self.world.event(intent, OrderState.FILLED, self.world.fill(intent))
        self.store.record_event(event, OrderState.FILLED)

    async def booked(self, intents: list[Any]) -> tuple[int, int]:
        """Return how many fills are stored and how many are booked in the ledger (each with its fee)."""
        ids = [intent.client_order_id for intent in intents]

        def count() -> tuple[int, int]:
            fills = Fill.objects.filter(order__client_order_id__in=ids)
            return fills.count(), LedgerEntry.objects.filter(fill__in=fills).count()

        return await self.judge.run(count)


@pytest_asyncio.fixture
async def shop(transactional_db: None) -> AsyncIterator[Shop]:
    shop = Shop()
    await shop.open()
    yield shop
    await shop.close()


async def fails(shop: Shop, given: tuple[Any, list[Any], Any]) -> None:
    with pytest.raises(StoreUnavailable):
        await shop.store.commit_trade(*given)


def further(trade: Any, intents: list[Any]) -> Any:
    """Return a further order of a trade."""
    name = client_order_id(trade.trade_id, intents[1].leg, 1)
    return msgspec.structs.replace(intents[1], attempt=1, client_order_id=name)


async def never_sent(shop: Shop, given: tuple[Any, list[Any], Any]) -> None:
    """Wait until what was not confirmed is either not there or void, and stays so."""
    await shop.store.flush(60)
    async with asyncio.timeout(60):
        while not await shop.states(given[1]) <= {"FAILED"}:  # noqa: ASYNC110 (it waits for a database)
            await asyncio.sleep(0.05)


@pytest.mark.services
async def test_fault_63_the_network_to_the_database_is_down_before_the_intent(shop: Shop) -> None:
    given = await shop.intents()
    with through_proxy() as proxy:
        other = await shop.intents()
        await shop.store.commit_trade(*other)  # its connection goes through the proxy now
        proxy.silence()
        await fails(shop, given)
        proxy.resume()
        await never_sent(shop, given)
        await shop.threads.run(connections.close_all)
    assert await shop.states(other[1]) == {"SENDING"}


@pytest.mark.sqlite  # where one writer locks out the others
async def test_fault_63_the_database_is_locked_before_the_intent(shop: Shop) -> None:
    given = await shop.intents()
    with locked_database():
        await fails(shop, given)
    await never_sent(shop, given)


async def test_fault_64_what_exchanges_say_while_the_database_is_away_is_kept_and_booked_once(shop: Shop) -> None:
    given = await shop.intents()
    await shop.store.commit_trade(*given)
    await shop.judge.run(give_back_room)
    with full_or_read_only():
        await shop.writes.run(connections.close_all)
        for intent in given[1]:
            shop.record(intent)
            for number in range(300):  # a disk without room still has some
                event = shop.world.event(intent, OrderState.FILLED, raw="x" * 4000, received_ns=number + 1)
                shop.store.record_event(event, OrderState.FILLED)
        await until(lambda: bool(shop.store.failing))
        assert shop.store.waiting > 0
        with pytest.raises(StoreUnavailable, match="records wait"):
            await shop.store.commit_trade(*await shop.intents())
    await shop.store.flush(60)
    assert shop.store.failing == ""
    assert await shop.booked(given[1]) == (2, 4)
    assert await shop.states(given[1]) == {"FILLED"}


@pytest.mark.services
async def test_fault_65_a_commit_whose_answer_is_lost_is_not_sent_and_not_left(shop: Shop) -> None:
    with through_proxy() as proxy:
        first = await shop.intents()
        await shop.store.commit_trade(*first)
        given = await shop.intents()
        proxy.lose_answers()
        committing = asyncio.create_task(shop.store.commit_trade(*given))
        async with asyncio.timeout(60):
            while await shop.states(given[1]) != {"SENDING"}:  # durable, and nobody knows
                assert not committing.done()
                await asyncio.sleep(0.01)
        proxy.cut()
        proxy.resume()
        with pytest.raises(StoreUnavailable):
            await committing
        await never_sent(shop, given)
        await shop.threads.run(connections.close_all)
        await shop.writes.run(connections.close_all)
    assert await shop.states(given[1]) == {"FAILED"}
    trade = await shop.judge.run(lambda: Trade.objects.get(trade_id=given[0].trade_id))
    assert trade.state == "FAILED"


@pytest.mark.services
async def test_fault_66_a_deadlock_is_tried_again_and_booked_once(shop: Shop) -> None:
    given = await shop.intents()
    await shop.store.commit_trade(*given)
    await shop.store.flush(60)
    orders = Order.objects.filter(client_order_id__in=[intent.client_order_id for intent in given[1]])
    low, high = await shop.judge.run(lambda: sorted(orders.values_list("pk", flat=True)))
    url = await shop.judge.run(database_url)
    other = await psycopg.AsyncConnection.connect(url)
    async with other:
        # The store's transaction locks in ascending order; this one comes from the other end, and is patient.
        await other.execute("SET deadlock_timeout = '60s'")
        lock = "SELECT 1 FROM bots_order WHERE id = %s FOR UPDATE"
        await other.execute(lock, [high])
        for intent in given[1]:
            shop.record(intent)
        await until_waiting(other)
        await other.execute(lock, [low])  # the store's is ended by the server, and this one goes on
        await other.rollback()
    await shop.store.flush(60)
    assert shop.store.refused == 0
    assert await shop.booked(given[1]) == (2, 4)
    history = OrderEvent.objects.filter(order__in=orders, to_state="FILLED")
    assert await shop.judge.run(history.count) == 2


@pytest.mark.services
async def test_fault_66_a_repair_in_a_deadlock_is_made_durable_once(shop: Shop) -> None:
    trade, intents, _decision = given = await shop.intents()
    await shop.store.commit_trade(*given)
    await shop.store.flush(60)
    repair = further(trade, intents)
    url = await shop.judge.run(database_url)
    other = await psycopg.AsyncConnection.connect(url)
    async with other:
        # The store locks its lease, then the account; this one comes from the other end, and is patient.
        await other.execute("SET deadlock_timeout = '60s'")
        await other.execute("SELECT 1 FROM bots_exchangeaccount WHERE id = %s FOR UPDATE", [repair.account_id])
        committing = asyncio.create_task(shop.store.commit_repair(trade, repair))
        await until_waiting(other)
        await other.execute("SELECT 1 FROM bots_ownerlease WHERE owner_id = %s FOR UPDATE", [shop.world.anna.pk])
        assert not committing.done()  # undone, and being tried again
        await other.rollback()
        await committing
    await shop.store.flush(60)
    ids = [repair.client_order_id]
    assert await shop.judge.run(Order.objects.filter(client_order_id__in=ids).count) == 1
    assert await shop.states([repair]) == {"SENDING"}


@pytest.mark.services
async def test_fault_66_an_intent_in_a_deadlock_is_unfolded_once(shop: Shop) -> None:
    trade, intents, _decision = given = await shop.intents()
    await shop.store.commit_trade(*given)
    await shop.store.flush(60)
    repair = further(trade, intents)
    url = await shop.judge.run(database_url)
    other = await psycopg.AsyncConnection.connect(url)
    async with other:
        # Unfolding locks the journal's row, then the trade; this one comes from the other end, and is patient.
        await other.execute("SET deadlock_timeout = '60s'")
        await other.execute("SELECT 1 FROM bots_trade WHERE trade_id = %s FOR UPDATE", [trade.trade_id])
        changed = msgspec.structs.replace(trade, reason="one leg is missing")
        await shop.store.commit_repair(changed, repair)
        await until_waiting(other)
        lock = "SELECT 1 FROM bots_journaledintent WHERE client_order_id = %s FOR UPDATE"
        await other.execute(lock, [repair.client_order_id])  # the store's is ended by the server, and this one goes on
        await other.rollback()
    await shop.store.flush(60)
    assert shop.store.refused == 0
    assert await shop.states([repair]) == {"SENDING"}
    assert await shop.judge.run(JournaledIntent.objects.count) == 0
    assert await shop.judge.run(OrderEvent.objects.filter(order__client_order_id=repair.client_order_id).count) == 2


@pytest.mark.services
@pytest.mark.parametrize("code", sorted(UNDONE))
@pytest.mark.parametrize(("times", "tried"), [(ATTEMPTS - 1, ATTEMPTS), (ATTEMPTS, ATTEMPTS)])
async def test_fault_66_an_intent_that_the_database_undid_is_tried_a_few_times(
    shop: Shop, code: str, times: int, tried: int
) -> None:
    given = await shop.intents()
    with undoing("bots_journaledintent", code, times) as counted:
        if times < ATTEMPTS:
            await shop.store.commit_trade(*given)
        else:
            with pytest.raises(StoreUnavailable):
                await shop.store.commit_trade(*given)
        assert counted() == tried
    if times < ATTEMPTS:
        await shop.store.flush(60)
        assert await shop.states(given[1]) == {"SENDING"}
        trades = Trade.objects.filter(trade_id=given[0].trade_id)
        assert await shop.judge.run(trades.count) == 1
        assert await shop.judge.run(Order.objects.filter(trade__in=trades).count) == 2
    else:
        await never_sent(shop, given)


@pytest.mark.services
async def test_fault_66_another_refusal_of_the_database_is_not_tried_again(shop: Shop) -> None:
    given = await shop.intents()
    with undoing("bots_journaledintent", "53100", ATTEMPTS) as counted:  # disk full
        with pytest.raises(StoreUnavailable):
            await shop.store.commit_trade(*given)
        assert counted() == 1


async def until_waiting(other: psycopg.AsyncConnection[Any]) -> None:
    """Wait until somebody waits for a lock of this connection's."""
    me = other.info.backend_pid
    async with asyncio.timeout(60):
        while True:
            # Not pg_stat_activity: within a transaction that stays as it was first read.
            found = await other.execute(
                "SELECT 1 FROM pg_locks WHERE NOT granted AND %s = ANY(pg_blocking_pids(pid))", [me]
            )
            if await found.fetchone():
                return
            await asyncio.sleep(0.02)


async def test_fault_67_a_full_or_read_only_database_takes_no_trade(shop: Shop) -> None:
    good = await shop.intents()
    await shop.store.commit_trade(*good)
    await shop.judge.run(give_back_room)
    with full_or_read_only():
        await shop.threads.run(connections.close_all)
        await shop.threads.run(connections.close_all)
        for _ in range(500):  # a disk without room still has some
            given = await shop.intents()
            try:
                await shop.store.commit_trade(*given)
            except StoreUnavailable:
                break
        else:
            pytest.fail("the database took everything")
    await never_sent(shop, given)
    await shop.threads.run(connections.close_all)
    again = await shop.intents()
    await shop.store.commit_trade(*again)
    assert await shop.states(again[1]) == {"SENDING"}


@pytest.fixture
def hosting(transactional_db: None) -> Iterator[Callable[[], threading.Thread]]:
    """Return a function that hosts engines as a worker's thread does; the host ends with the test."""
    process.allow()
    began: list[threading.Thread] = []

    def start() -> threading.Thread:
        thread = threading.Thread(target=host_engines)
        thread.start()
        began.append(thread)
        return thread

    yield start
    process.stop()
    assert process.wait(60)
    for thread in began:
        thread.join(60)
    process.allow()


def test_fault_70_messages_delivered_again_and_a_second_beat_change_nothing(hosting, db) -> None:
    world = World()
    bot = world.bot(world.anna, mode="paper")
    bot_start(bot=bot, actor=world.anna)
    first = hosting()
    wait_for(lambda: OwnerLease.objects.filter(holder__contains=":").exists())
    lease = OwnerLease.objects.get()
    for _ in range(3):
        again = hosting()
        again.join(60)
        assert not again.is_alive()
        assert offer_engines() == 0  # somebody holds the lease: a second beat offers nothing
    assert first.is_alive()
    assert (OwnerLease.objects.get().holder, OwnerLease.objects.get().token) == (lease.holder, lease.token)


class SteppedClock(SystemClock):
    """A machine whose wall clock is set back and forth by five minutes at every look."""

    def __init__(self) -> None:
        self._sign = 1

    def time_ns(self) -> int:
        self._sign = -self._sign
        return super().time_ns() + self._sign * 300_000_000_000


async def test_fault_71_a_wall_clock_that_jumps_costs_no_lease_and_no_order(shop: Shop) -> None:
    shop.writer.cancel()
    clock = SteppedClock()
    host = EngineHost(clock=clock, lease_seconds=2.0)
    await shop.judge.run(lambda: OwnerLease.objects.update(expires_at="2000-01-01T00:00Z"))
    other = await shop.judge.run(lambda: shop.world.bot(shop.world.ben, mode="paper"))
    await shop.judge.run(lambda: bot_start(bot=other, actor=shop.world.ben))
    running = asyncio.create_task(host.run())
    try:
        read = OwnerLease.objects.filter(owner=shop.world.ben, holder=host.holder).values_list("token", "expires_at")
        async with asyncio.timeout(60):
            while (taken := await shop.judge.run(read.first)) is None:  # noqa: ASYNC110 (it waits for a database)
                await asyncio.sleep(0.02)
            while (now := await shop.judge.run(read.first)) is None or (now[1] - taken[1]).total_seconds() < 4:  # noqa: ASYNC110
                await asyncio.sleep(0.05)  # two lives of a lease later
        assert now[0] == taken[0]
    finally:
        host.request_stop()
        await asyncio.wait_for(running, 60)


def test_fault_72_code_and_schema_of_different_versions_start_no_engine(hosting, db) -> None:
    assert schema_fault() == ""
    recorder = MigrationRecorder(connections["default"])
    world = World()
    bot = world.bot(world.anna, mode="paper")
    recorder.record_applied("bots", "9999_of_a_later_version")
    try:
        assert "ahead of this code (migration bots.9999_of_a_later_version)" in schema_fault()
        bot_start(bot=bot, actor=world.anna)
        hosting()
        host = wait_for(lambda: process._host)
        looks = wait_for(lambda: host.looks)
        wait_for(lambda: host.looks > looks + 2)
        assert not OwnerLease.objects.exists()
    finally:
        recorder.record_unapplied("bots", "9999_of_a_later_version")
    wait_for(OwnerLease.objects.exists)  # once both are of one version it goes on by itself
    recorder.record_unapplied("risk", "0001_initial")
    try:
        assert "behind this code (migration risk.0001_initial is missing)" in schema_fault()
    finally:
        recorder.record_applied("risk", "0001_initial")


def wait_for(condition: Callable[[], Any]) -> Any:
    waiting = threading.Event()
    for _ in range(3000):
        if found := condition():
            return found
        waiting.wait(0.02)
    raise AssertionError("it did not come within 60 s")
