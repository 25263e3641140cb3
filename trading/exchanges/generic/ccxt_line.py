"""One connection of ccxt.pro's that carries an account's orders: what is written on it, and which answer is whose.

ccxt's own word on an order is not asked for: it mixes "refused" with "no idea". Its requests are seen as they are
handed over and as they are written, its answers before it reads them, and matched by the request's number.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
from collections import deque
from collections.abc import Callable, Iterator, Mapping
from contextvars import ContextVar, copy_context
from decimal import Decimal, InvalidOperation
from typing import Any

import msgspec

from trading.exchanges.generic.socket_methods import SocketMethods
from trading.exchanges.order_socket import NotWritten, Unanswered
from trading.exchanges.order_wire import Answered
from trading.instruments import Market
from trading.messages import OrderIntent
from trading.ports import Clock

logger = logging.getLogger(__name__)

NS = 1_000_000_000
WRITE_SECONDS = 1.0  # for how long ccxt may take from the call to the write; then the order goes another way
PARSE_SECONDS = 1.0  # for how long ccxt may take to make an order of an answer that is here
STRAYS_KEPT = 1_000


class Request:
    """One order or cancellation on its way through ccxt. ``message`` is what ccxt wants to write, once it does."""

    def __init__(
        self, line: Line, intent: OrderIntent, market: Market, *, is_order: bool, now_ns: int, until_ns: int
    ) -> None:
        self.line = line
        self.intent = intent
        self.market = market
        self.is_order = is_order
        self.answer: asyncio.Future[Answered] = asyncio.get_running_loop().create_future()
        self.begun_ns = now_ns
        self.until_ns = until_ns
        self.name = ""
        self.message: Any = None
        self.written = False
        self.came: Answered | None = None
        self.came_ns = 0
        self.task: asyncio.Task[Any] | None = None

    def fail(self, reason: str) -> None:
        """Give it up: from now on it isn't written any more."""
        if not self.answer.done():
            self.answer.set_exception(Unanswered(reason) if self.written else NotWritten(reason))

    def settle(self, order: object = None) -> None:
        """Hand over the answer that came, with ccxt's order if ccxt made one of it."""
        if self.came is not None and not self.answer.done():
            made = order if isinstance(order, Mapping) else None
            self.answer.set_result(msgspec.structs.replace(self.came, order=made))


# The request whose ccxt method this task runs. ccxt writes in tasks of its own, which inherit it.
REQUEST: ContextVar[Request | None] = ContextVar("request", default=None)


class Line:
    """``on_lost`` is told once why the line carries no further order, and whether it did; what was written before may
    still be answered."""

    def __init__(
        self,
        client: Any,
        methods: SocketMethods,
        clock: Clock,
        counters: dict[str, int],
        *,
        describe: Callable[[BaseException], str],
        on_lost: Callable[[str, bool], None],
    ) -> None:
        self.ready = False
        self.reason = ""
        self.lost = asyncio.Event()
        self.requests: list[Request] = []
        self._client = client
        self._methods = methods
        self._clock = clock
        self._counters = counters
        self._describe = describe
        self._on_lost = on_lost
        self._left: deque[str] = deque(maxlen=STRAYS_KEPT)  # written, and given up before they were answered
        self._url = methods.address(client)
        self.socket = client.client(self._url)
        self._tap(self.socket)

    @property
    def is_open(self) -> bool:
        return not self.socket.closed()

    async def dial(self) -> None:
        """Connect; returns when connected or lost."""
        self._client.open()
        connected = asyncio.ensure_future(_done(self.socket.connect(self._client.session)))
        lost = asyncio.ensure_future(self.lost.wait())
        try:
            await asyncio.wait({connected, lost}, return_when=asyncio.FIRST_COMPLETED)
        finally:
            connected.cancel()
            lost.cancel()

    def send(self, request: Request, call: Callable[[Any], Any]) -> None:
        """Begin ccxt's method for a request."""
        context = copy_context()
        context.run(REQUEST.set, request)
        self.requests.append(request)
        task = asyncio.get_running_loop().create_task(call(self._client), context=context)
        request.task = task
        task.add_done_callback(lambda ended: self._ended(request, ended))

    def leave(self, request: Request, url: str, name: str, message: Any, subscription: object) -> None:
        """Take note of what ccxt is about to write for a request; raise NotWritten for what is not to be written."""
        if not self.ready or self.socket.closed() or self._client.clients.get(url) is not self.socket:
            raise NotWritten("the connection was lost before the request was written")
        if request.answer.done() or request.message is not None:
            raise NotWritten("the request was given up before it was written")
        methods = self._methods
        ours = methods.dialect.wire_id(request.intent)
        if not isinstance(message, dict) or not any(ours in text for text in _texts(message)):
            raise NotWritten("ccxt would write something else first, or leave our client order id out")
        if name in self.socket.futures:
            raise NotWritten("ccxt gave the number of a request that is under way")
        methods.complete(self._client, message, request.market)
        if request.is_order and not {request.intent.price, request.intent.quantity} <= _numbers(message):
            logger.warning("%s: ccxt would write another price or quantity", self._client.id)
            raise NotWritten("ccxt would write another price or quantity")
        self.socket.subscriptions.pop(subscription, None)  # of an earlier request: ccxt would write nothing
        request.name, request.message = str(name), message

    def look(self) -> None:
        """Give up what has taken too long."""
        now = self._clock.monotonic_ns()
        for request in list(self.requests):
            if request.came is not None and now - request.came_ns > PARSE_SECONDS * NS:
                request.settle()
            elif request.until_ns <= now:
                request.fail("no answer in time")
            elif not request.written and now - request.begun_ns > WRITE_SECONDS * NS:
                request.fail(f"not written within {WRITE_SECONDS:.0f} s")
                self.fail(f"ccxt did not write a request within {WRITE_SECONDS:.0f} s")

    def forget(self, request: Request) -> None:
        """Nobody waits for a request any longer."""
        if request not in self.requests:
            return
        self.requests.remove(request)
        if request.written and request.came is None:
            self._left.append(request.name)
        if request.task is not None:
            request.task.cancel()  # ccxt would wait for ever
        self.socket.subscriptions.pop(request.name, None)
        self.socket.futures.pop(request.name, None)

    def fail(self, reason: str) -> None:
        """Carry no further order."""
        if self.lost.is_set():
            return
        was_ready, self.ready = self.ready, False
        self.reason = reason
        self.lost.set()
        self._on_lost(reason, was_ready)

    def lose(self, reason: str) -> None:
        """Nothing more is answered on this connection."""
        self.fail(reason)
        for request in list(self.requests):
            request.fail(reason)

    async def close(self) -> None:
        if self._client.clients.get(self._url) is self.socket:
            del self._client.clients[self._url]
        with contextlib.suppress(Exception):
            await self.socket.close()

    # -- what ccxt's connection does ----------------------------------------------------------------------------

    def _tap(self, socket: Any) -> None:
        send, handle, reject = socket.send, socket.handle_text_or_binary_message, socket.reject

        async def noted_send(message: Any) -> None:
            request = REQUEST.get()
            if request is None:
                await send(message)
                return
            if request.answer.done():
                return  # nobody waits for it: it may have gone another way
            if socket.closed():
                request.fail("the connection was lost before the request was written")
                raise ConnectionError("the connection is closed")
            request.written = True
            await send(message)

        def noted_handle(data: Any) -> None:
            try:
                self._take(data)
            except (ValueError, KeyError, TypeError, msgspec.MsgspecError) as error:
                # It may have been the answer to any of what is awaited.
                self._counters["order_garbage"] += 1
                self.lose(f"an answer can't be read ({type(error).__name__})")
                return
            try:
                handle(data)
            except Exception as error:  # ccxt would go deaf
                logger.info("%s: ccxt could not read a message: %s", self._client.id, type(error).__name__)

        def noted_reject(result: Any, message_hash: Any = None) -> Any:
            if message_hash is None:  # all that is awaited: the connection, or its logon, is no more
                self.fail(self._describe(result) if isinstance(result, BaseException) else "ccxt gave it up")
            return reject(result, message_hash)

        socket.send, socket.handle_text_or_binary_message, socket.reject = noted_send, noted_handle, noted_reject

    def _take(self, data: Any) -> None:
        """Look for the request that a message answers; raise ValueError for an answer to none."""
        text = data.decode() if isinstance(data, bytes | bytearray) else str(data)
        if text in self._methods.words:
            return
        message = msgspec.json.decode(text)
        if not isinstance(message, dict):
            raise ValueError("not an object")
        name = str(message.get(self._methods.identity))
        request = next((one for one in self.requests if one.name == name and one.written), None)
        if request is None:
            if name in self._left:
                self._left.remove(name)
                self._counters["order_strays"] += 1
            elif self.requests and name in {"None", ""} and not self._methods.is_news(message):
                raise ValueError("an answer to nothing, maybe to what is awaited")
            return
        read = self._methods.read(message, text)
        if read is not None and request.came is None:
            request.came, request.came_ns = Answered(name, *read), self._clock.monotonic_ns()

    def _ended(self, request: Request, task: asyncio.Task[Any]) -> None:
        """ccxt's method has ended: on an answer, or without one, which says nothing about what was written."""
        error = None if task.cancelled() else task.exception()
        if request.came is not None:
            request.settle(None if task.cancelled() or error is not None else task.result())
        elif not request.written:
            request.fail(str(error) if isinstance(error, NotWritten) else f"ccxt did not write it: {error}")


async def _done(future: Any) -> None:
    await asyncio.wait({future})


def _texts(value: Any) -> list[str]:
    return [leaf for leaf in _leaves(value) if isinstance(leaf, str)]


def _numbers(value: Any) -> set[Decimal]:
    """Return every number a message says, as it will be written."""
    found = set()
    for leaf in _leaves(value):
        if isinstance(leaf, bool) or leaf is None:
            continue
        with contextlib.suppress(InvalidOperation):
            found.add(Decimal(str(leaf)))
    return found


def _leaves(value: Any) -> Iterator[Any]:
    if isinstance(value, Mapping):
        for inner in value.values():
            yield from _leaves(inner)
    elif isinstance(value, list | tuple):
        for inner in value:
            yield from _leaves(inner)
    else:
        yield value
