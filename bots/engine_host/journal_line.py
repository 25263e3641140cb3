"""A connection of the event loop's own for the statement that makes intents durable: no way to a thread and back.

It is for the good case alone. Whatever else happens (nothing was inserted, an error, a lost connection, a statement
that is under way already) is left to the threads: the same intent once more changes nothing, and is told why not.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Coroutine
from typing import Any

import psycopg
from django.db import connection

from bots.engine_host.pipeline import Failed, Pipeline
from bots.services.intents import Intent
from bots.services.journal import journal_statement

logger = logging.getLogger("arb.store")

RETRY_SECONDS = 2.0
CANCEL_SECONDS = 10.0


class JournalLine:
    """Inserts intents over one PostgreSQL connection, one at a time. Belongs to one event loop."""

    def __init__(self) -> None:
        self._connection: psycopg.AsyncConnection[Any] | None = None
        self._pipeline: Pipeline | None = None
        self._busy = False
        self.inserted = 0

    @property
    def is_free(self) -> bool:
        """Whether an intent would be sent at once."""
        return self._pipeline is not None and not self._busy

    def insert(self, owner_id: int, token: int, intent: Intent) -> Coroutine[Any, Any, bool]:
        """Send the intent, unless the line is not free; return what waits for whether it is durable for sure, by this
        very statement."""
        pipeline = self._pipeline
        if pipeline is None or self._busy:
            return _not_sent()
        statement = journal_statement(owner_id=owner_id, token=token, intent=intent)
        self._busy = True
        return self._inserted(pipeline, pipeline.send(statement))

    async def _inserted(self, pipeline: Pipeline, sent: asyncio.Future[list[int]]) -> bool:
        try:
            rows = await sent
        except Failed as problem:
            logger.info("an intent goes by a thread: %s", problem)
            return False
        except asyncio.CancelledError:
            # A row that comes all the same is there before the caller gives the orders up.
            await pipeline.cancel(CANCEL_SECONDS)
            raise
        finally:
            self._busy = False
        self.inserted += rows[0]
        return rows[0] == 1

    async def run(self) -> None:
        """Keep a connection until cancelled."""
        try:
            while True:
                try:
                    pipeline = await self._connect()
                except (psycopg.Error, OSError) as problem:
                    logger.debug("no connection of the loop's own: %s", problem)
                    await asyncio.sleep(RETRY_SECONDS)
                    continue
                await pipeline.lost.wait()
                await self._close()
        finally:
            await self._close()

    async def _connect(self) -> Pipeline:
        """Connect as Django's connections do."""
        parameters = connection.get_connection_params()
        for name in ("cursor_factory", "context", "prepare_threshold"):
            parameters.pop(name, None)
        self._connection = await psycopg.AsyncConnection.connect(**parameters, autocommit=True)
        self._pipeline = Pipeline(self._connection)
        return self._pipeline

    async def _close(self) -> None:
        pipeline, self._pipeline = self._pipeline, None
        if pipeline is not None:
            pipeline.give_up("it is closed")
        if self._connection is not None:
            await self._connection.close()


async def _not_sent() -> bool:
    return False


def journal_line() -> JournalLine | None:
    """Return a line to be run where the database is PostgreSQL; SQLite's writes are a thread's."""
    return JournalLine() if connection.vendor == "postgresql" else None
