"""How an account's orders and cancellations leave: by WebSocket while a connection stands, by REST otherwise.

The connection is our own where we speak the exchange's messages, ccxt.pro's where ccxt does.

The way is chosen once, as an order leaves. One that was written is never sent another way: without an answer its
outcome is not known, whichever way it went.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable
from typing import Any, Protocol

from trading.config import AccountConfig
from trading.exchanges.ccxt_client import CURRENT_ANSWER, unsafe_to_order
from trading.exchanges.generic.ccxt_socket import CcxtSocket, order_client
from trading.exchanges.generic.dialect import Dialect, Raw
from trading.exchanges.generic.scrub import Scrubber
from trading.exchanges.order_socket import NotWritten, OrderSocket
from trading.exchanges.order_wire import Answered
from trading.exchanges.protection import Exits
from trading.exchanges.retries import Jitter
from trading.instruments import Market
from trading.messages import PROTECTIVE, OrderIntent, OrdersBy
from trading.ports import Clock
from trading.tasks import end_tasks

logger = logging.getLogger(__name__)

RESTART_SECONDS = 5.0


class Refused(Exception):
    """The exchange answered a request on the order connection with an error; the raw answer says which."""


class UnsafeClient(Exception):
    """The REST client would not do as it is told: nothing was sent; the text says why."""


class OrderConnection(Protocol):
    """An account's connection for orders. What it takes, it gives something for, which is waited for with ``answer``;
    None says that nothing was taken and nothing will be written."""

    @property
    def counters(self) -> dict[str, int]: ...

    @property
    def protects(self) -> bool: ...

    def prepare(self, intent: OrderIntent, market: Market) -> None:
        """Make ready what :meth:`place` will write, where that can be done ahead."""

    def is_prepared(self, intent: OrderIntent) -> bool:
        """Return whether :meth:`place` would take what was made ready."""

    def place(self, intent: OrderIntent, market: Market, *, at_once: bool) -> Any: ...

    def cancel(self, intent: OrderIntent, market: Market) -> Any: ...

    def protect(self, exits: Exits, market: Market) -> Any: ...

    async def answer(self, sent: Any) -> Answered: ...

    async def run(self) -> None: ...


class OrderPaths:
    """One account's. ``on_path`` is told of every change of the way; ``on_open`` that a connection was made,
    ``on_refused`` that its logon was refused."""

    def __init__(
        self,
        account: AccountConfig,
        client: Any,
        dialect: Dialect,
        clock: Clock,
        *,
        scrub: Scrubber,
        jitter: Jitter,
        on_path: Callable[[OrdersBy, str], None],
        on_open: Callable[[], None],
        on_refused: Callable[[], None],
    ) -> None:
        self.by = OrdersBy.REST
        self.reason = ""
        self._account = account
        self._client = client
        self._dialect = dialect
        self._clock = clock
        self._scrub = scrub
        self._jitter = jitter
        self._tell = on_path
        self._on_open = on_open
        self._on_refused = on_refused
        self._socket: OrderConnection | None = None
        self._task: asyncio.Task[None] | None = None
        self._counts = dict.fromkeys(("orders_by_websocket", "orders_by_rest", "order_fallbacks"), 0)

    def counters(self) -> dict[str, int]:
        """Return orders by path, those that went by REST though a connection is kept for them, and its troubles."""
        return self._counts | ({} if self._socket is None else self._socket.counters)

    def open(self, now_ms: Callable[[], int]) -> None:
        """Begin to keep a connection where the exchange has one; the client's markets are loaded."""
        account = self._account
        assert account.credentials is not None
        if not account.websocket_orders:
            return
        try:
            wire = self._dialect.order_wire(self._client, account.credentials, now_ms)
        except ValueError as error:
            self._on_path(OrdersBy.REST, str(error))
            return
        methods = None if wire is not None else self._dialect.socket_methods(self._client)
        timeout = self._dialect.timeout_ms() / 1000
        if wire is not None:
            self._socket = OrderSocket(
                f"account {account.account_id}: orders",
                wire,
                self._clock,
                timeout_seconds=timeout,
                jitter=self._jitter,
                on_path=self._on_path,
                on_open=self._on_open,
                on_refused=self._on_refused,
            )
        elif methods is not None:
            self._socket = CcxtSocket(
                order_client(account, self._dialect, self._client, now_ms),
                methods,
                self._clock,
                timeout_seconds=timeout,
                jitter=self._jitter,
                describe=self._scrub.error,
                on_path=self._on_path,
                on_open=self._on_open,
                on_refused=self._on_refused,
            )
        if self._socket is not None:
            self._task = asyncio.get_running_loop().create_task(self._run(self._socket))

    async def close(self) -> None:
        task, self._task = self._task, None
        if task is not None:
            await end_tasks((task,))

    def prepare(self, intent: OrderIntent, market: Market) -> None:
        """Make a placement ready that is about to be written."""
        if self._socket is not None:
            self._socket.prepare(intent, market)

    def is_prepared(self, intent: OrderIntent) -> bool:
        """Return whether a placement was made ready and would leave by WebSocket now."""
        return self._socket is not None and self._socket.is_prepared(intent)

    def write(self, intent: OrderIntent, market: Market, *, at_once: bool) -> Any:
        """Write a placement, now or (not ``at_once``) with what else is given in this turn of the event loop.

        Returns what :meth:`place` is to be given; None when it can't leave by WebSocket.
        """
        return None if self._socket is None else self._socket.place(intent, market, at_once=at_once)

    async def place(self, sent: Any, intent: OrderIntent, market: Market) -> Raw | None:
        """Wait for the answer to a placement that :meth:`write` wrote; send it by REST if it did not leave there."""
        if (came := await self._went(sent, 1)) is not None:
            return came.order
        self._goes_by_rest(1, is_fallback=self._socket is not None)
        return await self._dialect.create_order(self._client, intent, market)

    async def protect(self, exits: Exits, market: Market) -> None:
        """Send protective orders in one request, as :meth:`place` sends an order."""
        socket = self._socket if self._socket is not None and self._socket.protects else None
        sent = None if socket is None else socket.protect(exits, market)
        if await self._went(sent, len(exits.intents)) is not None:
            return
        self._goes_by_rest(len(exits.intents), is_fallback=socket is not None)
        await self._dialect.create_exits(self._client, exits, market)

    async def cancel(self, intent: OrderIntent, market: Market) -> None:
        """Ask to cancel; a cancellation may be asked for again, on either way."""
        socket = self._socket
        if socket is not None and intent.kind in PROTECTIVE and not socket.protects:
            socket = None
        sent = None if socket is None else socket.cancel(intent, market)
        if sent is None:
            await self._dialect.cancel_order(self._client, intent, market)
        else:
            await self._answered(sent)  # not written, it is asked for again as any other cancellation that failed

    async def _went(self, sent: Any, orders: int) -> Answered | None:
        """Return the answer to what was given to the connection; None when it did not leave there."""
        if sent is None:
            return None
        answer = CURRENT_ANSWER.get()
        assert answer is not None
        answer.path = "websocket"
        self._counts["orders_by_websocket"] += orders
        try:
            return await self._answered(sent)
        except NotWritten:
            self._counts["orders_by_websocket"] -= orders
            answer.sent = False
            return None

    def _goes_by_rest(self, orders: int, *, is_fallback: bool) -> None:
        """Note that orders leave by REST; raise UnsafeClient where they must not."""
        answer = CURRENT_ANSWER.get()
        assert answer is not None
        if unsafe := unsafe_to_order(self._client, self._dialect.timeout_ms()):
            raise UnsafeClient(unsafe)
        self._counts["orders_by_rest"] += orders
        self._counts["order_fallbacks"] += orders * is_fallback
        answer.path = "rest"

    async def _answered(self, sent: Any) -> Answered:
        """Put the answer where the call's raw answer is kept; raise Refused for an error, Unanswered without one."""
        answer = CURRENT_ANSWER.get()
        assert answer is not None
        assert self._socket is not None
        answer.sent = True
        came = await self._socket.answer(sent)
        answer.status, answer.body, answer.headers = came.status, came.body, came.headers
        reading = self._dialect.read(came.body)
        if came.status >= 400 or reading.code:
            raise Refused(f"{reading.code} {reading.message}".strip())
        return came

    async def _run(self, socket: OrderConnection) -> None:
        while True:
            try:
                await socket.run()
            except Exception as error:  # a bug: orders go by REST until it begins anew
                logger.exception("account %s: the order connection's own code broke", self._account.account_id)
                self._on_path(OrdersBy.REST, self._scrub.error(error))
            await self._clock.sleep(RESTART_SECONDS)

    def _on_path(self, by: OrdersBy, reason: str) -> None:
        reason = self._scrub(reason)
        if by is not self.by:
            level = logging.WARNING if by is OrdersBy.REST else logging.INFO
            logger.log(level, "account %s: orders leave by %s %s", self._account.account_id, by.value, reason)
        self.by, self.reason = by, reason
        self._tell(by, reason)
