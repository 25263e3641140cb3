"""One warm connection for an account's orders, and a second one while the first is being replaced.

A request is written at once; or, so that the legs of a trade leave together, with the next one that is to be written at
once, when the turn of the event loop ends at the latest. One that was written, or may have been in part, is answered,
or its waiter gets :class:`Unanswered`: its outcome is not known. Only where nothing was written (``None`` instead of a
:class:`Sent`, or :class:`NotWritten`) may it go another way.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable, Iterable, Sequence
from typing import TypeVar

import msgspec

from trading.exchanges.connection import Connection
from trading.exchanges.order_wire import Answered, Ending, LoggedOn, OrderWire
from trading.exchanges.protection import Exits
from trading.exchanges.retries import Jitter
from trading.execution.waiting import Signal
from trading.instruments import Market
from trading.messages import OrderIntent, OrdersBy
from trading.ports import Clock
from trading.tasks import end_tasks

logger = logging.getLogger(__name__)

NS = 1_000_000_000
Subject = TypeVar("Subject", OrderIntent, Exits)
FAILURES_ALLOWED = 5  # in a row; then the account is said to trade over REST
LOOK_SECONDS = 1.0
LOGON_SECONDS = 10.0
PREPARED_SECONDS = 0.25  # a request has the time in it at which it was built
RENEW_EARLY_SECONDS = 1_800.0  # before the exchange would end a connection for its age


class Unanswered(ConnectionError):
    """A request was written and no answer to it will be read: what became of it is not known."""


class NotWritten(ConnectionError):
    """The connection was lost before a request was written: not one byte of it left."""


class Sent(msgspec.Struct):
    """A request that was written, or is at the end of this turn of the event loop at the latest."""

    identity: str
    answer: asyncio.Future[Answered]
    waiting: dict[str, Waiting]


class Waiting(msgspec.Struct):
    """Who waits for an answer, and until when (monotonic)."""

    answer: asyncio.Future[Answered]
    until_ns: int


class Prepared(msgspec.Struct, frozen=True, gc=False):
    """A placement that was built ahead, at this (monotonic) time."""

    intent: OrderIntent
    at_ns: int
    identity: str
    message: bytes


class Line:
    """One connection with its logon and the answers that are awaited on it."""

    def __init__(self, owner: OrderSocket, name: str, wire: OrderWire, clock: Clock, jitter: Jitter) -> None:
        self._owner = owner
        self._wire = wire
        self._clock = clock
        self.waiting: dict[str, Waiting] = {}
        self._outgoing: dict[str, bytes] = {}  # by identity, in the order they were given
        self.ready = False
        self.retired = False
        self.ended: Ending | None = None
        self.opened_ns = 0
        self.connection = Connection(
            name,
            wire.url,
            clock=clock,
            settings=wire.settings,
            on_message=self._on_message,
            on_open=self._on_open,
            on_down=self._on_down,
            jitter=jitter,
        )

    def write(self, identity: str, message: bytes, timeout_ns: int, *, at_once: bool) -> Sent | None:
        """Write a request, or take it to be written when this turn of the event loop ends; None when not connected."""
        if not self.connection.is_open:
            return None
        if at_once and not self._outgoing:
            failure = self._send((message,))
            waiting = self._expect(identity, timeout_ns)  # no answer is read before this turn ends
            if failure is not None:
                _fail(waiting, failure)
        else:
            waiting = self._expect(identity, timeout_ns)
            self._outgoing[identity] = message
            if at_once:
                self._flush()
            elif len(self._outgoing) == 1:
                asyncio.get_running_loop().call_soon(self._flush)
        return Sent(identity, waiting.answer, self.waiting)

    def _expect(self, identity: str, timeout_ns: int) -> Waiting:
        answer = asyncio.get_running_loop().create_future()
        self.waiting[identity] = waiting = Waiting(answer, self._clock.monotonic_ns() + timeout_ns)
        return waiting

    def _flush(self) -> None:
        """Write what was given, but for what nobody waits for any longer."""
        outgoing, self._outgoing = self._outgoing, {}
        wanted = [name for name in outgoing if name in self.waiting and not self.waiting[name].answer.done()]
        failure = self._send([outgoing[name] for name in wanted]) if wanted else None
        if failure is not None:
            for name in wanted:
                _fail(self.waiting[name], failure)

    def _send(self, messages: Sequence[bytes]) -> Exception | None:
        """Write messages together; return what those who wait for the answers are told if that failed."""
        try:
            if self.connection.send_now(messages):
                return None
        except Exception as error:  # part of it may have left
            logger.exception("%s: writing failed", self.connection.name)
            reason = f"writing failed: {type(error).__name__}"
            self.connection.drop(reason)
            self.lose(reason)
            return Unanswered(reason)
        return NotWritten("the connection was lost before the request was written")

    def look(self, now_ns: int) -> None:
        """Give up what was awaited for too long, and a logon that is not answered."""
        for waiting in [one for one in self.waiting.values() if one.until_ns <= now_ns]:
            _fail(waiting, Unanswered("no answer in time"))
        if self.connection.is_open and not self.ready and now_ns - self.opened_ns > LOGON_SECONDS * NS:
            self.connection.drop(f"the logon was not answered within {LOGON_SECONDS:.0f} s")

    def lose(self, reason: str) -> None:
        """Nothing more is answered on this connection."""
        self.ready = False
        for name in self._outgoing:
            if name in self.waiting:
                _fail(self.waiting[name], NotWritten(reason))
        for waiting in list(self.waiting.values()):
            _fail(waiting, Unanswered(reason))

    def _on_open(self) -> Iterable[bytes]:
        self.opened_ns = self._clock.monotonic_ns()
        self.ended = None
        self._owner.on_open()
        logon = self._wire.logon(self._owner.next_identity())
        if logon is not None:
            return [logon]
        self._become_ready()
        return []

    def _become_ready(self) -> None:
        self.ready = True
        self._owner.on_ready(self)

    def _on_message(self, message: bytes, _received_ns: int) -> None:
        try:
            news = self._wire.read(message)
        except (ValueError, KeyError, TypeError, msgspec.MsgspecError) as error:
            # It may have been the answer to any of what is awaited.
            self._owner.counters["order_garbage"] += 1
            self.connection.drop(f"an answer can't be read ({type(error).__name__})")
            return
        if isinstance(news, Answered):
            waiting = self.waiting.get(news.identity)
            if waiting is None:
                self._owner.counters["order_strays"] += 1
            elif not waiting.answer.done():
                waiting.answer.set_result(news)
            if news.ending:
                self._end(Ending(news.ending))
        elif isinstance(news, LoggedOn):
            if news.refusal:
                self._owner.on_refused()
                self.connection.drop(f"the logon was refused: {news.refusal}")
            else:
                self._become_ready()
        elif isinstance(news, Ending):
            self._end(news)

    def _end(self, ending: Ending) -> None:
        self.ended = ending
        self._owner.wake.notify()

    def _on_down(self, reason: str) -> None:
        was_ready = self.ready
        self.lose(reason)
        self._owner.on_down(self, reason, was_ready=was_ready)


class OrderSocket:
    """Keeps an account's order connection until cancelled.

    ``on_path`` is told how orders leave and why not by WebSocket; ``on_open`` that a connection was made, which
    exchanges charge for; ``on_refused`` that a logon was refused, maybe for our clock. ``timeout_seconds`` is for how
    long an answer is waited for.
    """

    def __init__(
        self,
        name: str,
        wire: OrderWire,
        clock: Clock,
        *,
        timeout_seconds: float,
        jitter: Jitter,
        on_path: Callable[[OrdersBy, str], None],
        on_open: Callable[[], None],
        on_refused: Callable[[], None],
    ) -> None:
        self.on_open = on_open
        self.on_refused = on_refused
        self.wake = Signal()
        self.counters = dict.fromkeys(("order_reconnects", "order_renewals", "order_garbage", "order_strays"), 0)
        self._name = name
        self._wire = wire
        self._clock = clock
        self._timeout_ns = int(timeout_seconds * NS)
        self._jitter = jitter
        self._on_path = on_path
        self._lines: dict[Line, asyncio.Task[None]] = {}
        self._current: Line | None = None
        self._failures = 0
        self._prefix = f"{clock.time_ns() // 1_000_000:x}"  # ids of an earlier process don't come again
        self._number = 0
        self._prepared: dict[str, Prepared] = {}  # by client order id

    @property
    def protects(self) -> bool:
        """Whether protective orders go over such a connection at all."""
        return self._wire.protects

    @property
    def is_ready(self) -> bool:
        return self._current is not None and self._current.ready

    def next_identity(self) -> str:
        self._number += 1
        return f"{self._prefix}{self._number}"

    def prepare(self, intent: OrderIntent, market: Market) -> None:
        """Build a placement that is about to be asked for; it is of use for ``PREPARED_SECONDS``."""
        if self.is_ready and (built := self._built(self._wire.place, intent, market)) is not None:
            self._prepared[intent.client_order_id] = Prepared(intent, self._clock.monotonic_ns(), *built)

    def place(self, intent: OrderIntent, market: Market, *, at_once: bool) -> Sent | None:
        """Write a placement, at once or with what else is given in this turn of the event loop; None when it can't
        leave here, so that it may go another way."""
        is_prepared = self.is_prepared(intent)
        ready, line = self._prepared.pop(intent.client_order_id, None), self._current
        if not is_prepared or ready is None or line is None:
            return self._write(self._wire.place, intent, market, at_once=at_once)
        return line.write(ready.identity, ready.message, self._timeout_ns, at_once=at_once)

    def is_prepared(self, intent: OrderIntent) -> bool:
        """Return whether a placement was built for this very intent and can be written now."""
        ready = self._prepared.get(intent.client_order_id)
        if ready is None or ready.intent is not intent or self._is_stale(ready, self._clock.monotonic_ns()):
            return False
        line = self._current
        return line is not None and line.ready and line.connection.is_open

    def cancel(self, intent: OrderIntent, market: Market) -> Sent | None:
        return self._write(self._wire.cancel, intent, market)

    def protect(self, exits: Exits, market: Market) -> Sent | None:
        return self._write(self._wire.protect, exits, market)

    async def answer(self, sent: Sent) -> Answered:
        """Return the answer to a request; raise Unanswered when there will be none, NotWritten when it never left."""
        try:
            return await sent.answer
        finally:
            sent.waiting.pop(sent.identity, None)

    async def run(self) -> None:
        """Connect and stay connected, before a connection ends by a new one, until cancelled."""
        try:
            self._add_line()
            while True:
                await self.wake.wait(self._clock, LOOK_SECONDS)
                self._look()
        finally:
            lines, self._lines, self._current = self._lines, {}, None
            for line in lines:
                line.lose("the account is closed")
            await end_tasks(lines.values())

    def on_ready(self, line: Line) -> None:
        """A line is logged on: it carries the orders from now on, and any other may go."""
        if line.retired:
            return
        self._failures = 0
        self._current = line
        for other in self._lines:
            other.retired = other is not line
        self._on_path(OrdersBy.WEBSOCKET, "")

    def on_down(self, line: Line, reason: str, *, was_ready: bool) -> None:
        if line.retired:
            return
        self.counters["order_reconnects"] += was_ready
        if line is not self._current and self.is_ready:
            return  # a successor that did not make it: the line it was to replace still stands
        self._failures += 1
        if self._failures >= FAILURES_ALLOWED:
            self._on_path(OrdersBy.REST, f"{self._failures} connections for orders failed in a row: {reason}")
        else:
            self._on_path(OrdersBy.RECONNECTING, reason)

    def _write(
        self, build: Callable[[Subject, Market, str], bytes], subject: Subject, market: Market, *, at_once: bool = False
    ) -> Sent | None:
        line = self._current
        if line is None or not line.ready:
            return None
        built = self._built(build, subject, market)
        return None if built is None else line.write(*built, self._timeout_ns, at_once=at_once)

    def _built(
        self, build: Callable[[Subject, Market, str], bytes], subject: Subject, market: Market
    ) -> tuple[str, bytes] | None:
        """Return the id of a request and its message; None for one that can't be written."""
        identity = self.next_identity()
        try:
            return identity, build(subject, market, identity)
        except Exception as error:  # for one the exchange doesn't take so, and for a bug: not one byte of it has left
            logger.warning("%s: a request can't be written, it goes by REST: %r", self._name, error)
            return None

    def _is_stale(self, ready: Prepared, now_ns: int) -> bool:
        return now_ns - ready.at_ns > PREPARED_SECONDS * NS

    def _look(self) -> None:
        now = self._clock.monotonic_ns()
        self._prepared = {name: one for name, one in self._prepared.items() if not self._is_stale(one, now)}
        for line, task in list(self._lines.items()):
            line.look(now)
            if task.done() and not task.cancelled():
                task.result()  # Connection.run raises for bugs only
            if line.retired and not line.waiting:
                task.cancel()
                del self._lines[line]
        current = self._current
        if current is not None and current.ready and len(self._lines) == 1 and self._is_due(current, now):
            self.counters["order_renewals"] += 1
            self._add_line()

    def _is_due(self, line: Line, now_ns: int) -> bool:
        lives = self._wire.lives_seconds
        too_old = lives is not None and now_ns - line.opened_ns > (lives - RENEW_EARLY_SECONDS) * NS
        return too_old or line.ended is not None

    def _add_line(self) -> None:
        line = Line(self, self._name, self._wire, self._clock, self._jitter)
        self._lines[line] = asyncio.get_running_loop().create_task(line.connection.run())


def _fail(waiting: Waiting, error: Exception) -> None:
    if not waiting.answer.done():
        waiting.answer.set_exception(error)
