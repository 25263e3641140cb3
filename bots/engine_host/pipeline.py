"""Prepared statements over a PostgreSQL connection, sent within the call and answered by one look at the socket.

psycopg makes and closes the connection. What goes over it meanwhile goes by libpq's pipeline mode: psycopg's own calls
touch much code on their way, which after a pause is in no cache of the processor's.
"""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Sequence
from itertools import count
from typing import Any

import psycopg
from psycopg.pq import ConnStatus, ExecStatus

Text = tuple[str, Sequence[Any]]  # a statement that says the types of its parameters, and these


class Failed(Exception):
    """The server refused a statement of a batch, and ran none behind it; or the connection was lost."""


class Pipeline:
    """Batches of statements, answered in their order. Belongs to one event loop.

    A batch is a transaction of its own, unless one was begun and has not ended. ``lost`` is set once the connection is
    of no more use; what is under way fails then.
    """

    def __init__(self, connection: psycopg.AsyncConnection[Any]) -> None:
        """``connection`` must be in autocommit mode, with nothing under way; it is closed by its owner."""
        self.lost = asyncio.Event()
        self._connection = connection
        self._pg = connection.pgconn
        self._loop = asyncio.get_running_loop()
        self._numbers = count()
        self._names: dict[str, bytes] = {}
        self._waiting: deque[asyncio.Future[list[int]]] = deque()
        self._rows: list[int] = []  # of the batch whose answers come in
        self._refused = ""
        self._socket = self._pg.socket
        self._pg.nonblocking = 1
        self._pg.enter_pipeline_mode()
        self._loop.add_reader(self._socket, self._read)

    def send(self, *batch: Text) -> asyncio.Future[list[int]]:
        """Send a batch; return, once it is answered, the number of rows of each statement that returns any.

        The future fails with :class:`Failed`. Cancelling it changes nothing for the server.
        """
        future: asyncio.Future[list[int]] = self._loop.create_future()
        future.add_done_callback(_seen)
        try:
            texts = [(sql, [_encoded(one) for one in parameters]) for sql, parameters in batch]
        except ValueError as problem:
            future.set_exception(Failed(str(problem)))
            return future
        if self.lost.is_set():
            future.set_exception(Failed("the connection is lost"))
            return future
        self._waiting.append(future)
        try:
            for sql, parameters in texts:
                self._pg.send_query_prepared(self._prepared(sql), parameters)
            self._pg.pipeline_sync()
            if self._pg.flush():
                self._loop.add_writer(self._socket, self._write)
        except psycopg.Error as problem:
            self.give_up(str(problem))
        return future

    async def cancel(self, seconds: float) -> None:
        """Have the server give up what is under way, and wait for its end; give the connection up if it stays silent
        for so long."""
        try:
            async with asyncio.timeout(seconds):
                await self._connection.cancel_safe(timeout=seconds)
                await self.send()  # answers keep their order
        except (TimeoutError, Failed, psycopg.Error):
            self.give_up("the server did not give up a statement")

    def give_up(self, why: str) -> None:
        """Take no more; what is under way fails."""
        if self.lost.is_set():
            return
        self.lost.set()
        self._loop.remove_reader(self._socket)
        self._loop.remove_writer(self._socket)
        while self._waiting:
            _fail(self._waiting.popleft(), why)

    def _prepared(self, sql: str) -> bytes:
        name = self._names.get(sql)
        if name is None:
            name = self._names[sql] = b"arb_%d" % next(self._numbers)
            self._pg.send_prepare(name, sql.encode())
        return name

    def _write(self) -> None:
        try:
            if not self._pg.flush():
                self._loop.remove_writer(self._socket)
        except psycopg.Error as problem:
            self.give_up(str(problem))

    def _read(self) -> None:
        try:
            self._pg.consume_input()
            while not self._pg.is_busy():
                result = self._pg.get_result()
                if result is not None:
                    self._take(result.status, result)
                elif not self._waiting:
                    break
        except psycopg.Error as problem:
            self.give_up(str(problem))
        if self._pg.status != ConnStatus.OK:
            self.give_up(self._refused or "the server closed the connection")

    def _take(self, status: int, result: Any) -> None:
        if status == ExecStatus.TUPLES_OK:
            self._rows.append(result.ntuples)
        elif status == ExecStatus.FATAL_ERROR:
            self._refused = result.get_error_message()
        elif status == ExecStatus.PIPELINE_SYNC:
            rows, refused = self._rows, self._refused
            self._rows, self._refused = [], ""
            future = self._waiting.popleft()
            if refused:
                self._names.clear()  # what a refused statement was to prepare is not there
                _fail(future, refused)
            elif not future.done():
                future.set_result(rows)


def _encoded(value: Any) -> bytes:
    encoded = str(value).encode()
    if b"\0" in encoded:  # libpq would end the text there
        raise ValueError("a text has a NUL character")
    return encoded


def _fail(future: asyncio.Future[list[int]], why: str) -> None:
    if not future.done():
        future.set_exception(Failed(why.strip().partition("\n")[0]))


def _seen(future: asyncio.Future[list[int]]) -> None:
    """Let one that nobody waits for fail without a word."""
    if not future.cancelled():
        future.exception()
