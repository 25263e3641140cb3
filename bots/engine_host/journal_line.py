"""A connection of the event loop's own for the statement that makes intents durable: no way to a thread and back.

It is for the good case alone. Whatever else happens (nothing was inserted, an error, a lost connection, a statement
that is under way already) is left to the threads: the same intent once more changes nothing, and is told why not.
"""

from __future__ import annotations

import asyncio
import logging
from typing import Any

import psycopg
from django.db import connection

from bots.services.intents import Intent
from bots.services.journal import journal_statement

logger = logging.getLogger("arb.store")

RETRY_SECONDS = 2.0


class JournalLine:
    """Inserts intents over one PostgreSQL connection, one at a time. Belongs to one event loop."""

    def __init__(self) -> None:
        self._connection: psycopg.AsyncConnection[Any] | None = None
        self._cursor: psycopg.AsyncRawCursor[Any] | None = None
        self._lost = asyncio.Event()
        self._busy = False
        self.inserted = 0

    @property
    def is_free(self) -> bool:
        """Whether an intent would be sent at once."""
        return self._cursor is not None and not self._busy

    async def insert(self, owner_id: int, token: int, intent: Intent) -> bool:
        """Return whether the intent is durable for sure, by this very statement."""
        cursor = self._cursor
        if cursor is None or self._busy:
            return False
        sql, parameters = journal_statement(owner_id=owner_id, token=token, intent=intent)
        self._busy = True
        try:
            # What its caller waits for no longer is cancelled on the server, and its end waited for, by psycopg: a row
            # that comes all the same is there before the caller gives the orders up. A server that is silent is waited
            # for 10 s.
            await cursor.execute(sql, parameters, prepare=True)
        except psycopg.Error as problem:
            logger.info("an intent goes by a thread: %s", str(problem).strip().partition("\n")[0])
            return False
        finally:
            self._busy = False
            if self._connection is None or self._connection.closed:
                self._cursor = None
                self._lost.set()
        self.inserted += cursor.rowcount
        return cursor.rowcount == 1

    async def run(self) -> None:
        """Keep a connection until cancelled."""
        try:
            while True:
                self._lost.clear()
                try:
                    await self._connect()
                except (psycopg.Error, OSError) as problem:
                    logger.debug("no connection of the loop's own: %s", problem)
                    await asyncio.sleep(RETRY_SECONDS)
                    continue
                await self._lost.wait()
        finally:
            self._cursor = None
            if self._connection is not None:
                await self._connection.close()

    async def _connect(self) -> None:
        """Connect as Django's connections do, but let statements be prepared."""
        parameters = connection.get_connection_params()
        for name in ("cursor_factory", "context", "prepare_threshold"):
            parameters.pop(name, None)
        self._connection = await psycopg.AsyncConnection.connect(**parameters, autocommit=True)
        self._cursor = psycopg.AsyncRawCursor(self._connection)


def journal_line() -> JournalLine | None:
    """Return a line to be run where the database is PostgreSQL; SQLite's writes are a thread's."""
    return JournalLine() if connection.vendor == "postgresql" else None
