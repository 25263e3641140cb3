"""What a face is: one exchange's wire protocol over a ``SimExchange``.

Adding an exchange is adding a folder with a face class and a row in ``exchangesim.server.FACES``. A face

- adds its HTTP and WebSocket handlers to the application it is given (``add_routes``),
- hears the exchange (it is an ``ExchangeListener``, registered by the server before ``start``),
- answers every call through ``transit`` (``serve_http`` for HTTP, ``StreamConnection.start_call`` for calls on a
  socket), and sends every stream message through a ``StreamConnection``, so that latency and faults apply to all
  faces alike,
- checks signatures, windows and limits itself, as its exchange documents them, and maps ``Reject`` to its codes.

Listener calls come in the middle of an operation: render the message there and then (the objects change later); the
connection sends it after the operation is committed.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from itertools import count
from typing import Generic, Literal, Protocol, TypeVar

from aiohttp import web

from exchangesim.core.accounts import Account
from exchangesim.core.exchange import SimExchange
from exchangesim.core.listener import ExchangeListener
from exchangesim.core.transit import StreamConnection, Transit

SocketAction = Literal["cut", "close", "notice", "expire"]


class NoSuchNotion(Exception):
    """The exchange has nothing of the kind; the text is one sentence."""


class Face(ExchangeListener):
    """Base of the faces; see the module's text."""

    exchange_class: type[SimExchange] = SimExchange
    """What kind of venue speaks this protocol."""

    def __init__(self, exchange: SimExchange, transit: Transit, *, limits: bool = True) -> None:
        """``limits`` False counts requests but refuses none for their number."""
        self.exchange = exchange
        self.transit = transit
        self.limits = limits

    def add_routes(self, app: web.Application) -> None:
        """Add the face's handlers to its own application (one port per exchange)."""
        raise NotImplementedError

    async def start(self) -> None:
        """Start what runs by itself (conflated streams)."""

    async def close(self) -> None:
        """Stop it, and close the clients' sockets."""

    def disturb(self, action: SocketAction, api_key: str) -> int:
        """Do something to the clients' sockets; returns to how many.

        ``cut`` resets them, ``close`` closes them as the exchange does at a connection's end of life, ``notice`` says
        that this is near, ``expire`` ends what a login or subscription allowed. ``api_key`` picks an account's private
        sockets, ``*`` everybody's, the public ones too. Raises NoSuchNotion where the exchange knows no such thing.
        """
        raise NotImplementedError

    def addresses(self, host: str) -> dict[str, str]:
        """Return the base addresses to print, given ``127.0.0.1:port``; a face may add more than these two."""
        return {"rest": f"http://{host}", "ws": f"ws://{host}"}


class Session(Protocol):
    """One client's socket, as a :class:`SessionFace` sees it."""

    connection: StreamConnection
    account: Account | None

    def receive(self, text: str) -> None:
        """Handle one text message of the client."""

    def end(self) -> None:
        """Leave everything subscribed; the socket is gone."""


AnySession = TypeVar("AnySession", bound=Session)


class SessionFace(Face, Generic[AnySession]):
    """A face that numbers and keeps its clients' sockets, and looks after them in a task of its own (``_sweep``)."""

    def __init__(self, exchange: SimExchange, transit: Transit, *, limits: bool = True) -> None:
        super().__init__(exchange, transit, limits=limits)
        self.sessions: set[AnySession] = set()
        self._numbers = count(1)
        self._sweeper: asyncio.Task[None] | None = None

    async def start(self) -> None:
        self._sweeper = asyncio.create_task(self._sweep())

    async def close(self) -> None:
        if self._sweeper is not None:
            self._sweeper.cancel()
        for session in list(self.sessions):
            session.connection.abort()

    def _disturbed(self, api_key: str) -> list[AnySession]:
        """Return the sockets that ``disturb`` means."""
        return [
            session
            for session in self.sessions
            if api_key == "*" or (session.account is not None and session.account.api_key == api_key)
        ]

    async def _sweep(self) -> None:
        """Cut silent sockets, again and again."""
        raise NotImplementedError

    async def _serve_session(
        self, request: web.Request, make: Callable[[StreamConnection, int], AnySession]
    ) -> web.WebSocketResponse:
        """Serve a client's socket until it ends; ``make`` is given its connection and its number."""
        socket = web.WebSocketResponse(compress=False, max_msg_size=1 << 20)
        await socket.prepare(request)
        connection = StreamConnection(self.transit, socket, request)
        session = make(connection, next(self._numbers))
        self.sessions.add(session)
        try:
            await connection.serve(session.receive, ping_seconds=None)
        finally:
            self.sessions.discard(session)
            session.end()
        return socket
