"""A connection of the event loop's own for the statements that make intents durable: no way to a thread and back.

It is for the good case alone. Whatever else happens (nothing was inserted, an error, a lost connection, an intent that
is under way already) is left to the threads: the same intent once more changes nothing, and is told why not.

An intent that is expected is begun ahead: the server wakes, locks the lease and looks at bot, accounts and markets
while the intent is still being written out. Locks are held for as long as that takes, and given up by the server should
this process stand still.
"""

from __future__ import annotations

import asyncio
import logging
from typing import Any, NamedTuple

import psycopg
from django.db import connection

from bots.engine_host.pipeline import Failed, Pipeline
from bots.services.intents import Intent
from bots.services.journal_sql import Standing, hold_statement, insert_statement, standing_of

logger = logging.getLogger("arb.store")

RETRY_SECONDS = 2.0
HOLD_SECONDS = 0.05  # for which an expected intent is waited for
CANCEL_SECONDS = 10.0
# The longest time for which a process that stands still keeps a lease from others that waits to be taken over.
SERVER_HOLD_MS = 2_000

BEGIN, COMMIT, ROLLBACK = ("BEGIN", ()), ("COMMIT", ()), ("ROLLBACK", ())


class _Held(NamedTuple):
    """A transaction that was begun for an intent of this standing; ``answer`` is one row if nothing speaks against."""

    standing: Standing
    answer: asyncio.Future[list[int]]
    timer: asyncio.TimerHandle


class JournalLine:
    """Inserts intents over one PostgreSQL connection, one at a time. Belongs to one event loop."""

    def __init__(self) -> None:
        self._connection: psycopg.AsyncConnection[Any] | None = None
        self._pipeline: Pipeline | None = None
        self._held: _Held | None = None
        self._busy = False
        self.inserted = 0

    @property
    def is_free(self) -> bool:
        """Whether an intent would be sent at once."""
        return self._pipeline is not None and not self._busy

    def expect(self, standing: Standing) -> None:
        """Begin what an intent of this standing needs, which follows at once. Without effect while another one is
        expected or under way."""
        if self._pipeline is None or self._busy or self._held is not None:
            return
        answer = self._pipeline.send(BEGIN, hold_statement(standing))
        timer = asyncio.get_running_loop().call_later(HOLD_SECONDS, self._let_go)
        self._held = _Held(standing, answer, timer)

    async def insert(self, owner_id: int, token: int, intent: Intent) -> bool:
        """Return whether the intent is durable for sure, by this very statement."""
        standing = standing_of(owner_id=owner_id, token=token, intent=intent)
        self.expect(standing)
        pipeline, held = self._pipeline, self._held
        if pipeline is None or self._busy or held is None or held.standing != standing:
            return False
        held.timer.cancel()
        self._held, self._busy, rows = None, True, [0]
        try:
            statement = insert_statement(owner_id=owner_id, token=token, intent=intent, is_held=True)
            pipeline.look()
            if await held.answer == [1]:
                rows = await pipeline.send(statement, COMMIT)
        except Failed as problem:
            logger.info("an intent goes by a thread: %s", problem)
        except asyncio.CancelledError:
            # A row that comes all the same is there before the caller gives the orders up.
            await pipeline.cancel(CANCEL_SECONDS)
            raise
        finally:
            if rows != [1]:
                pipeline.send(ROLLBACK)
            self._busy = False
        self.inserted += rows == [1]
        return rows == [1]

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
        await self._connection.execute(f"SET idle_in_transaction_session_timeout = {SERVER_HOLD_MS}")
        self._pipeline = Pipeline(self._connection)
        return self._pipeline

    async def _close(self) -> None:
        if self._held is not None:
            self._held.timer.cancel()
            self._held = None
        pipeline, self._pipeline = self._pipeline, None
        if pipeline is not None:
            pipeline.give_up("it is closed")
        if self._connection is not None:
            await self._connection.close()

    def _let_go(self) -> None:
        """End what was begun for an intent that did not come."""
        self._held = None
        if self._pipeline is not None:
            self._pipeline.send(ROLLBACK)


def journal_line() -> JournalLine | None:
    """Return a line to be run where the database is PostgreSQL; SQLite's writes are a thread's."""
    return JournalLine() if connection.vendor == "postgresql" else None
