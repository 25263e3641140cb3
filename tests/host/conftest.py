"""A small world on a database that threads can see, and the adapters of a host on it."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable
from contextlib import suppress
from typing import Any

import pytest
import pytest_asyncio

from bots.engine_host.database import DatabaseThreads
from bots.engine_host.journal_line import JournalLine
from bots.engine_host.leases import Lease
from bots.engine_host.store import DjangoStore
from tests.bots.world import World
from trading.clock import SystemClock


class HandClock(SystemClock):
    """Monotonic time that stands still until it is moved."""

    def __init__(self) -> None:
        self.now_ns = 1_000_000_000

    def monotonic_ns(self) -> int:
        return self.now_ns

    def advance(self, seconds: float) -> None:
        self.now_ns += int(seconds * 1e9)


@pytest.fixture
def world(transactional_db: None) -> World:
    return World()


@pytest.fixture
def hand_clock() -> HandClock:
    return HandClock()


@pytest_asyncio.fixture
async def threads(transactional_db: None) -> AsyncIterator[DatabaseThreads]:
    threads = DatabaseThreads("test", 2)
    yield threads
    await asyncio.get_running_loop().run_in_executor(None, threads.close)


@pytest_asyncio.fixture
async def make_store(threads: DatabaseThreads) -> AsyncIterator[Callable[..., DjangoStore]]:
    """Return a function that makes a running store for an owner and a token."""
    writers: dict[DjangoStore, asyncio.Task[None]] = {}

    def make(
        owner_id: int, token: int, clock: Any = None, fenced_in: float = 60.0, line: JournalLine | None = None
    ) -> DjangoStore:
        clock = clock or SystemClock()
        lease = Lease(owner_id, token, clock.monotonic_ns() + int(fenced_in * 1e9), clock)
        store = DjangoStore(lease=lease, clock=clock, commits=threads, writes=threads, line=line)
        writers[store] = asyncio.create_task(store.run())
        return store

    make.writers = writers  # type: ignore[attr-defined]
    yield make
    for writer in writers.values():
        writer.cancel()
        with suppress(asyncio.CancelledError):
            await writer


async def until(condition: Callable[[], bool], seconds: float = 60.0) -> None:
    """Wait for a condition; fail if it does not come."""
    async with asyncio.timeout(seconds):
        while not condition():  # noqa: ASYNC110 (conditions are the database's and other threads')
            await asyncio.sleep(0.01)
