"""Intents over the event loop's own connection: durable once whatever befalls it, with a thread behind it."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable
from typing import Any

import psycopg
import pytest
import pytest_asyncio

from bots.engine_host import journal_line as line_module
from bots.engine_host import store as store_module
from bots.engine_host.database import DatabaseThreads
from bots.engine_host.journal_line import JournalLine, journal_line
from bots.models import JournaledIntent, Order
from tests.bots.world import World
from tests.crash.broken import connecting_with, server_address
from tests.crash.proxy import Proxy
from tests.crash.stage import database_url
from tests.host.conftest import until
from trading.ports import LeaseLost, StoreUnavailable
from trading.tasks import end_tasks

pytestmark = [pytest.mark.django_db(transaction=True), pytest.mark.services]


class Owner:
    """Somebody with a bot and a lease, and a store that has the line."""

    def __init__(self, world: World, user: Any, make_store: Callable[..., Any], line: JournalLine) -> None:
        self.world = world
        self.bot = world.bot(user)
        self.owner_id = user.pk
        self.token = world.lease(user)
        self._make_store, self._line = make_store, line

    def begin(self) -> None:
        self.store = self._make_store(self.owner_id, self.token, line=self._line)

    def trade(self) -> tuple[Any, list[Any], Any]:
        trade = self.world.trade(self.bot, self.token)
        return trade, self.world.intents(self.bot, trade), self.world.decision(self.bot, trade_id=trade.trade_id)


@pytest_asyncio.fixture
async def line(transactional_db: None, monkeypatch: pytest.MonkeyPatch) -> AsyncIterator[JournalLine]:
    monkeypatch.setattr(line_module, "RETRY_SECONDS", 0.05)
    made = journal_line()
    assert made is not None
    task = asyncio.create_task(made.run())
    await until(lambda: made.is_free)
    yield made
    await end_tasks((task,))


@pytest_asyncio.fixture
async def anna(world: World, make_store: Callable[..., Any], line: JournalLine, threads: DatabaseThreads) -> Owner:
    owner = await threads.run(lambda: Owner(world, world.anna, make_store, line))
    owner.begin()
    return owner


@pytest_asyncio.fixture
async def other(transactional_db: None, threads: DatabaseThreads) -> AsyncIterator[psycopg.AsyncConnection[Any]]:
    """Somebody else's connection."""
    connection = await psycopg.AsyncConnection.connect(await threads.run(database_url))
    yield connection
    await connection.close()


async def hold_lease(other: psycopg.AsyncConnection[Any], owner: Owner) -> None:
    await other.execute("SELECT 1 FROM bots_ownerlease WHERE owner_id = %s FOR UPDATE", [owner.owner_id])


async def orders_of(threads: DatabaseThreads, given: tuple[Any, list[Any], Any]) -> int:
    """Return how many rows the intents have, unfolded or not."""
    ids = [intent.client_order_id for intent in given[1]]

    def count() -> int:
        journaled = JournaledIntent.objects.filter(client_order_id__in=ids).count()
        return journaled * len(ids) + Order.objects.filter(client_order_id__in=ids).count()

    return await threads.run(count)


def no_threads(owner: Owner, monkeypatch: pytest.MonkeyPatch) -> None:
    async def refuse(work: Callable[[], Any]) -> Any:
        raise AssertionError("it went by a thread")

    monkeypatch.setattr(owner.store._commits, "run", refuse)


async def test_an_intent_is_durable_without_a_thread(anna: Owner, line: JournalLine, threads: DatabaseThreads) -> None:
    given, further = await threads.run(anna.trade), await threads.run(anna.trade)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(anna.store, "_commits", None)
        await anna.store.commit_trade(*given)
        await anna.store.commit_trade(*further)
    assert line.inserted == 2
    await anna.store.flush()
    assert await threads.run(JournaledIntent.objects.count) == 0
    assert await threads.run(lambda: set(Order.objects.values_list("state", flat=True))) == {"SENDING"}
    assert await orders_of(threads, given) == 2


async def test_what_the_line_does_not_take_is_said_with_its_reason(
    world: World, make_store: Callable[..., Any], anna: Owner, line: JournalLine, threads: DatabaseThreads
) -> None:
    stale = make_store(anna.owner_id, anna.token - 1, line=line)
    given = await threads.run(anna.trade)
    with pytest.raises(LeaseLost, match="token"):
        await stale.commit_trade(*given)
    foreign = await threads.run(lambda: world.bot(world.ben).accounts.first().pk)
    trade, intents, decision = given
    stolen = await threads.run(lambda: world.intents(anna.bot, trade, account_id=foreign))
    with pytest.raises(ValueError, match="account_id"):
        await anna.store.commit_trade(trade, stolen, decision)
    assert await orders_of(threads, (trade, intents, decision)) == 0
    assert line.inserted == 0
    await anna.store.commit_trade(*given)
    await anna.store.commit_trade(*given)  # its answer was lost, say
    assert line.inserted == 1
    await anna.store.flush()
    assert await orders_of(threads, given) == 2


async def test_an_owner_who_waits_holds_up_no_other(
    world: World,
    make_store: Callable[..., Any],
    anna: Owner,
    line: JournalLine,
    threads: DatabaseThreads,
    other: psycopg.AsyncConnection[Any],
) -> None:
    ben = await threads.run(lambda: Owner(world, world.ben, make_store, line))
    ben.begin()
    annas, bens = await threads.run(anna.trade), await threads.run(ben.trade)
    await hold_lease(other, anna)
    waiting = asyncio.create_task(anna.store.commit_trade(*annas))
    await until(lambda: not line.is_free)
    await ben.store.commit_trade(*bens)
    assert not waiting.done()
    assert line.inserted == 0
    await other.rollback()
    await waiting
    assert line.inserted == 1


async def test_what_comes_too_late_is_not_left_and_the_line_goes_on(
    anna: Owner,
    line: JournalLine,
    threads: DatabaseThreads,
    other: psycopg.AsyncConnection[Any],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    given, later = await threads.run(anna.trade), await threads.run(anna.trade)
    monkeypatch.setattr(store_module, "COMMIT_SECONDS", 0.2)
    await hold_lease(other, anna)
    with pytest.raises(StoreUnavailable, match="did not commit within"):
        await anna.store.commit_trade(*given)
    assert line.is_free
    await other.rollback()
    await anna.store.flush()
    assert await orders_of(threads, given) == 0
    monkeypatch.setattr(store_module, "COMMIT_SECONDS", 5.0)
    no_threads(anna, monkeypatch)
    await anna.store.commit_trade(*later)
    assert line.inserted == 1


async def test_a_connection_that_ends_under_an_intent_leaves_it_to_a_thread(
    anna: Owner, line: JournalLine, threads: DatabaseThreads, other: psycopg.AsyncConnection[Any]
) -> None:
    given, later = await threads.run(anna.trade), await threads.run(anna.trade)
    await hold_lease(other, anna)
    waiting = asyncio.create_task(anna.store.commit_trade(*given))
    await until(lambda: not line.is_free)
    await end_backend(other, line)
    await other.rollback()
    await waiting
    assert line.inserted == 0
    await until(lambda: line.is_free)  # it is connected anew
    await anna.store.commit_trade(*later)
    assert line.inserted == 1
    await anna.store.flush()
    assert [await orders_of(threads, one) for one in (given, later)] == [2, 2]


async def test_a_connection_that_ended_while_nothing_went_over_it_costs_no_trade(
    anna: Owner, line: JournalLine, threads: DatabaseThreads, other: psycopg.AsyncConnection[Any]
) -> None:
    given = await threads.run(anna.trade)
    await end_backend(other, line)
    await anna.store.commit_trade(*given)
    await until(lambda: line.is_free)
    await anna.store.flush()
    assert await orders_of(threads, given) == 2


async def test_an_intent_whose_answer_is_lost_is_found_to_be_durable(
    anna: Owner, threads: DatabaseThreads, make_store: Callable[..., Any], other: psycopg.AsyncConnection[Any]
) -> None:
    first, given = await threads.run(anna.trade), await threads.run(anna.trade)
    made = journal_line()
    assert made is not None
    proxy = Proxy(server_address())
    with connecting_with(HOST="127.0.0.1", PORT=str(proxy.port)):  # the line; threads find the server itself
        task = asyncio.create_task(made.run())
        await until(lambda: made.is_free)
    try:
        store = make_store(anna.owner_id, anna.token, line=made)
        await store.commit_trade(*first)  # the statement is prepared
        proxy.lose_answers()
        committing = asyncio.create_task(store.commit_trade(*given))
        async with asyncio.timeout(5):
            while not await is_journaled(other, given):
                assert not committing.done()
                await asyncio.sleep(0.01)
        proxy.cut()
        proxy.resume()
        await committing
        assert made.inserted == 1
        await store.flush()
    finally:
        await end_tasks((task,))
        proxy.close()
    assert await orders_of(threads, given) == 2


async def is_journaled(other: psycopg.AsyncConnection[Any], given: tuple[Any, list[Any], Any]) -> bool:
    key = given[1][0].client_order_id
    found = await other.execute("SELECT 1 FROM bots_journaledintent WHERE client_order_id = %s", [key])
    is_there = await found.fetchone() is not None
    await other.rollback()
    return is_there


async def end_backend(other: psycopg.AsyncConnection[Any], line: JournalLine) -> None:
    assert line._connection is not None
    pid = line._connection.info.backend_pid
    await other.execute("SELECT pg_terminate_backend(%s, 5000)", [pid])
