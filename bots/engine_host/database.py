"""Database work off the event loop, on threads that keep their connections."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import TypeVar

from django.db import connection, connections

from bots.services.guard import AWAY
from trading.ports import StoreUnavailable

T = TypeVar("T")
CLOSE_SECONDS = 30.0


class DatabaseThreads:
    """Run functions on ``workers`` threads, each with a database connection of its own that stays open.

    Opening a connection costs more than most of what runs here, so it is given up only when it has failed.
    """

    def __init__(self, name: str, workers: int = 1) -> None:
        # SQLite has one writer at a time; more threads would only wait for each other inside it.
        count = workers if connection.vendor == "postgresql" else 1
        self._executor = ThreadPoolExecutor(count, thread_name_prefix=name)
        self._count = count

    async def run(self, work: Callable[[], T]) -> T:
        """Return what ``work`` returns.

        Raises
        ------
        StoreUnavailable
            If the database cannot be reached or does not take the work now.
        """
        return await asyncio.get_running_loop().run_in_executor(self._executor, reconnecting, work)

    def close(self) -> None:
        """Let running work finish, then close the threads' connections and end them."""
        # Each thread waits for all the others, so that each takes exactly one of these.
        everybody = threading.Barrier(self._count)

        def end() -> None:
            everybody.wait(CLOSE_SECONDS)
            connections.close_all()

        for closing in [self._executor.submit(end) for _ in range(self._count)]:
            closing.result()
        self._executor.shutdown(wait=True)


def reconnecting(work: Callable[[], T]) -> T:
    """Run database work; give up the connection where it has failed, so that the next call opens a new one."""
    try:
        return work()
    except StoreUnavailable:
        connections.close_all()
        raise
    except AWAY as problem:
        connections.close_all()
        raise StoreUnavailable(f"the database does not answer: {str(problem).strip().splitlines()[0]}") from problem
