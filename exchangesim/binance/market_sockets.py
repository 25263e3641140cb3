"""The stream sockets ``/ws``, ``/ws/<stream>`` and ``/stream?streams=``: subscribing and its errors."""

from __future__ import annotations

from collections import deque
from collections.abc import Sequence
from typing import Any

import msgspec
from aiohttp import web

from exchangesim.binance.streams import Listener, Streams
from exchangesim.core.transit import StreamConnection, Transit
from exchangesim.face import SocketAction

PING_SECONDS = 20.0
MAX_STREAMS = 1024
_METHODS = ("SUBSCRIBE", "UNSUBSCRIBE", "LIST_SUBSCRIPTIONS", "SET_PROPERTY", "GET_PROPERTY")

encode = msgspec.json.encode


class _Refused(Exception):
    def __init__(self, code: int, msg: str) -> None:
        super().__init__(msg)
        self.code, self.msg = code, msg


class MarketSockets:
    """Serves market data sockets."""

    # /stream/ws is not the exchange's: some clients know spot sockets by "/stream" in the address.
    paths: Sequence[str] = ("/ws", "/ws/{streams:.+}", "/stream", "/stream/ws", "/stream/ws/{streams:.+}")
    messages_per_second = 5

    def __init__(self, streams: Streams, transit: Transit, *, limits: bool) -> None:
        self._streams, self._transit, self._limits = streams, transit, limits
        self._open: set[StreamConnection] = set()

    def add_routes(self, app: web.Application) -> None:
        for path in self.paths:
            app.router.add_get(path, self._serve)

    async def close(self) -> None:
        for connection in list(self._open):
            connection.abort()

    def disturb(self, action: SocketAction) -> int:
        """See ``Face.disturb``; no market socket is logged in, so nothing of them expires."""
        connections = [] if action == "expire" else list(self._open)
        for connection in connections:
            if action == "cut":
                connection.abort()
            elif action == "close":
                connection.start_closing(1001)
            else:
                connection.send_answer(encode({"e": "serverShutdown", "E": self._transit.clock.time_ms()}))
        return len(connections)

    async def _serve(self, http: web.Request) -> web.StreamResponse:
        combined = http.path.endswith("/stream")
        names = http.query.get("streams", "") if combined else self._named(http)
        # Names in the address that are no streams are accepted and stay silent (clients number their sockets so).
        wanted = [name for name in names.split("/") if self._streams.is_valid(name)]
        if len(wanted) > MAX_STREAMS:
            return web.Response(status=400)
        socket = web.WebSocketResponse(compress=False, max_msg_size=64 * 1024)
        await socket.prepare(http)
        connection = StreamConnection(self._transit, socket, http)
        listener = Listener(connection, combined=combined)
        recent: deque[float] = deque(maxlen=self.messages_per_second)
        self._open.add(connection)
        self._streams.subscribe(listener, wanted)

        def receive(text: str) -> None:
            now = self._transit.clock.monotonic()
            if self._limits and len(recent) == self.messages_per_second and now - recent[0] < 1:
                connection.abort()
                return
            recent.append(now)
            connection.send_answer(encode(self._answer(listener, text)))

        try:
            await connection.serve(receive, ping_seconds=PING_SECONDS)
        finally:
            self._open.discard(connection)
            self._streams.unsubscribe(listener, list(listener.streams))
        return socket

    def _named(self, http: web.Request) -> str:
        """Return the streams that the address of a socket of raw messages names, divided by slashes."""
        return http.match_info.get("streams", "")

    def _answer(self, listener: Listener, text: str) -> dict[str, object]:
        try:
            message = msgspec.json.decode(text)
        except msgspec.MsgspecError:
            return {"error": {"code": 3, "msg": "Invalid JSON: expected value at line 1 column 1"}}
        identity = message.get("id") if isinstance(message, dict) else None
        try:
            return {"result": self._carry_out(listener, message), "id": identity}
        except _Refused as refused:
            return {"error": {"code": refused.code, "msg": refused.msg}, "id": identity}

    def _carry_out(self, listener: Listener, message: Any) -> object:
        if not isinstance(message, dict) or "method" not in message:
            raise _Refused(2, "Invalid request: missing field `method` at line 1 column 2")
        identity, method, given = message.get("id"), message["method"], message.get("params", [])
        usable = identity is None or (isinstance(identity, int) and not isinstance(identity, bool))
        if not usable and not (isinstance(identity, str) and len(identity) <= 36):
            raise _Refused(2, "Invalid request: request ID must be an unsigned integer")
        if method not in _METHODS:
            expected = ", ".join(f"`{name}`" for name in _METHODS)
            raise _Refused(
                2, f"Invalid request: unknown variant `{method}`, expected one of {expected} at line 1 column 28"
            )
        if method == "LIST_SUBSCRIPTIONS":
            return list(listener.streams)
        if method in ("SET_PROPERTY", "GET_PROPERTY"):
            return self._property(listener, method, given)
        if not isinstance(given, list) or not all(isinstance(name, str) for name in given):
            raise _Refused(2, "Invalid request: params must be an array of strings")
        if method == "UNSUBSCRIBE":
            self._streams.unsubscribe(listener, given)
            return None
        if not all(self._streams.is_valid(name) for name in given):
            raise _Refused(2, "Invalid request: invalid stream")
        if len({*listener.streams, *given}) > MAX_STREAMS:
            raise _Refused(2, "Invalid request: too many streams")
        self._streams.subscribe(listener, given)
        return None

    def _property(self, listener: Listener, method: str, given: Any) -> object:
        if not isinstance(given, list) or not given or not isinstance(given[0], str):
            raise _Refused(2, "Invalid request: property name must be a string")
        if given[0] != "combined":
            raise _Refused(0, "Unknown property")
        if method == "GET_PROPERTY":
            return listener.combined
        if len(given) != 2:
            raise _Refused(2, "Invalid request: too many parameters")
        if not isinstance(given[1], bool):
            raise _Refused(1, "Invalid value type: expected Boolean")
        listener.combined = given[1]
        return None
