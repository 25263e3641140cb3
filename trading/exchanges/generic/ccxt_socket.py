"""An account's connection for orders through ccxt.pro's WebSocket methods, where we have none of our own.

It has a ccxt client to itself: the private stream closes its client's sockets whenever it begins anew, and orders under
way would lose their answers. The rules are those of :mod:`trading.exchanges.order_socket`.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable
from typing import Any

from trading.config import AccountConfig
from trading.exchanges.ccxt_client import make_client
from trading.exchanges.generic.ccxt_line import NS, REQUEST, Line, Request
from trading.exchanges.generic.dialect import Dialect
from trading.exchanges.generic.socket_methods import SocketMethods
from trading.exchanges.order_socket import FAILURES_ALLOWED, LOGON_SECONDS, LOOK_SECONDS, NotWritten
from trading.exchanges.order_wire import Answered
from trading.exchanges.protection import Exits
from trading.exchanges.retries import Backoff, Jitter
from trading.execution.waiting import Signal, first_of
from trading.instruments import Market
from trading.messages import OrderIntent, OrdersBy
from trading.ports import Clock
from trading.tasks import end_tasks

logger = logging.getLogger(__name__)

CONNECT_SECONDS = 15.0  # ccxt itself gives up after 10
DRAIN_SECONDS = 0.1
FIRST_BACKOFF_SECONDS, LONGEST_BACKOFF_SECONDS = 0.25, 30.0
STABLE_SECONDS = 10.0  # a connection that lived this long starts the pauses anew


def order_client(account: AccountConfig, dialect: Dialect, source: Any, now_ms: Callable[[], int]) -> Any:
    """Return a ccxt client for orders, with the markets of ``source``, that signs with the exchange's time."""
    client = make_client(
        account.exchange, account.credentials, options=dialect.options, timeout_ms=dialect.timeout_ms()
    )
    client.set_markets_from_exchange(source)
    client.milliseconds = now_ms
    client.seconds = lambda: now_ms() // 1000
    watch, fetch = client.watch, client.fetch

    def noted_watch(
        url: str, message_hash: str, message: Any = None, subscribe_hash: Any = None, subscription: Any = None
    ) -> Any:
        request = REQUEST.get()
        if request is not None:
            request.line.leave(request, url, message_hash, message, subscribe_hash)
        return watch(url, message_hash, message, subscribe_hash, subscription)

    async def refused_fetch(url: str, method: str = "GET", headers: Any = None, body: Any = None) -> Any:
        if REQUEST.get() is not None:  # to be asked for a token, an order goes another way
            raise NotWritten("ccxt would ask the exchange by REST first")
        return await fetch(url, method, headers, body)

    client.watch, client.fetch = noted_watch, refused_fetch
    return client


class CcxtSocket:
    """Keeps the connection until cancelled; like :class:`~trading.exchanges.order_socket.OrderSocket` in what it is
    given and tells. ``client`` is for it alone, and closed with it; ``describe`` makes an error fit to be shown."""

    protects = False

    def __init__(
        self,
        client: Any,
        methods: SocketMethods,
        clock: Clock,
        *,
        timeout_seconds: float,
        jitter: Jitter,
        describe: Callable[[BaseException], str],
        on_path: Callable[[OrdersBy, str], None],
        on_open: Callable[[], None],
        on_refused: Callable[[], None],
    ) -> None:
        self.counters = dict.fromkeys(("order_reconnects", "order_renewals", "order_garbage", "order_strays"), 0)
        self._client = client
        self._methods = methods
        self._clock = clock
        self._timeout_ns = int(timeout_seconds * NS)
        self._describe = describe
        self._on_path = on_path
        self._on_open = on_open
        self._on_refused = on_refused
        self._wake = Signal()
        self._line: Line | None = None
        self._failures = 0
        self._backoff = Backoff(FIRST_BACKOFF_SECONDS, LONGEST_BACKOFF_SECONDS, jitter)

    @property
    def is_ready(self) -> bool:
        return self._line is not None and self._line.ready

    def prepare(self, intent: OrderIntent, market: Market) -> None:
        """Do nothing: ccxt writes what it builds."""

    def is_prepared(self, intent: OrderIntent) -> bool:
        return False

    def place(self, intent: OrderIntent, market: Market, *, at_once: bool) -> Request | None:
        """Hand a placement to ccxt, which writes it when it likes; None when it can't leave here, so that it may go
        another way."""
        return self._send(intent, market, lambda client: self._methods.place(client, intent, market), is_order=True)

    def cancel(self, intent: OrderIntent, market: Market) -> Request | None:
        if not self._methods.cancels:
            return None
        return self._send(intent, market, lambda client: self._methods.cancel(client, intent, market), is_order=False)

    def protect(self, exits: Exits, market: Market) -> Request | None:
        return None

    async def answer(self, sent: Request) -> Answered:
        """Return the answer to a request; raise Unanswered when there will be none, NotWritten when it never left."""
        try:
            return await sent.answer
        finally:
            sent.line.forget(sent)

    async def run(self) -> None:
        """Connect and stay connected until cancelled."""
        try:
            while True:
                began = self._clock.monotonic_ns()
                await self._session()
                if self._clock.monotonic_ns() - began > STABLE_SECONDS * NS:
                    self._backoff.reset()
                await self._clock.sleep(self._backoff.next())
        finally:
            await self._client.close()

    def _send(
        self, intent: OrderIntent, market: Market, call: Callable[[Any], Any], *, is_order: bool
    ) -> Request | None:
        line = self._line
        if line is None or not line.ready:
            return None
        now = self._clock.monotonic_ns()
        request = Request(line, intent, market, is_order=is_order, now_ns=now, until_ns=now + self._timeout_ns)
        line.send(request, call)
        return request

    async def _session(self) -> None:
        """Connect, log on and look after the connection until it is lost and all it owes is settled."""
        line = self._line = Line(
            self._client, self._methods, self._clock, self.counters, describe=self._describe, on_lost=self._on_lost
        )
        renewal: asyncio.Task[None] | None = None
        try:
            await self._begin(line)
            while not line.lost.is_set() or (line.requests and line.is_open):
                await self._wake.wait(self._clock, DRAIN_SECONDS if line.lost.is_set() else LOOK_SECONDS)
                line.look()
                if line.ready and (renewal is None or renewal.done()):
                    renewal = asyncio.get_running_loop().create_task(self._log_on(line))
        except asyncio.CancelledError:
            line.lost.set()  # nobody is to be told of it
            raise
        finally:
            line.lose(line.reason or "the account is closed")
            line.ready = False
            await end_tasks(() if renewal is None else (renewal,))
            await line.close()

    async def _begin(self, line: Line) -> None:
        await first_of(line.dial(), self._clock.sleep(CONNECT_SECONDS))
        if line.lost.is_set() or not line.is_open:
            line.fail(f"no connection within {CONNECT_SECONDS:.0f} s")
            return
        self._on_open()
        await self._log_on(line)
        if line.lost.is_set():
            return
        line.ready = True
        self._failures = 0
        self._on_path(OrdersBy.WEBSOCKET, "")

    async def _log_on(self, line: Line) -> None:
        """Log on, or renew a logon; the line is lost when that isn't taken."""
        task = asyncio.ensure_future(self._methods.log_on(self._client))
        try:
            await first_of(asyncio.wait({task}), self._clock.sleep(LOGON_SECONDS))
            if not task.done():
                line.fail(f"the logon was not answered within {LOGON_SECONDS:.0f} s")
            elif task.cancelled():
                line.fail("the connection was lost before it was logged on")
            elif (error := task.exception()) is not None:
                self._on_refused()  # it may be for our clock
                line.fail(f"the logon was refused: {self._describe(error)}")
        finally:
            await end_tasks((task,))

    def _on_lost(self, reason: str, was_ready: bool) -> None:
        self._wake.notify()
        self.counters["order_reconnects"] += was_ready
        self._failures += 1
        if self._failures >= FAILURES_ALLOWED:
            self._on_path(OrdersBy.REST, f"{self._failures} connections for orders failed in a row: {reason}")
        else:
            self._on_path(OrdersBy.RECONNECTING, reason)
