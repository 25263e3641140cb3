"""A TCP relay in a process of its own that notes when each order's bytes are read from the client's socket.

    python -m bench.order_relay REST_PORT WS_PORT

Prints the two ports it listens on as JSON. Then it answers each line on its input with one of its own: ``polling`` or
``sleeping`` with the same, once it waits in that way for the next order; ``seen`` with what it has seen since the last
one: monotonic nanoseconds by client order id. Orders that one read brings have one time.

*Sleeping* it waits in ``epoll_wait``, and whoever sends pays for waking it, on another core, which a network card would
not ask for. *Polling* it asks again and again without waiting, so that nobody has to wake it, until an order has come,
for ``POLL_SECONDS`` at the longest; then it sleeps again.
"""

from __future__ import annotations

import json
import re
import select
import socket
import sys
import time
from collections.abc import Callable

READ_BYTES = 65_536
POLL_SECONDS = 0.05
ORDER_ID = re.compile(rb"newClientOrderId(?:=|\":\")([A-Za-z0-9]+)")
_seen: dict[str, int] = {}
Look = Callable[[bytes, int], None]


def _note(text: bytes, at_ns: int) -> None:
    if b"order.place" in text or b"POST /api/v3/order" in text or b"newClientOrderId=" in text:
        for found in ORDER_ID.finditer(text):
            _seen.setdefault(found[1].decode(), at_ns)


class Frames:
    """A client's WebSocket frames (RFC 6455, 5.2), unmasked, behind its handshake."""

    def __init__(self) -> None:
        self._buffer = b""
        self._open = False

    def feed(self, data: bytes, at_ns: int) -> None:
        self._buffer += data
        if not self._open:
            _, end, rest = self._buffer.partition(b"\r\n\r\n")
            if not end:
                return
            self._open, self._buffer = True, rest
        while (frame := self._next()) is not None:
            _note(frame, at_ns)

    def _next(self) -> bytes | None:
        buffer = self._buffer
        if len(buffer) < 2:
            return None
        length, start = buffer[1] & 0x7F, 2
        if length > 125:
            wide = 2 if length == 126 else 8
            length, start = int.from_bytes(buffer[2 : 2 + wide], "big"), 2 + wide
        if len(buffer) < start + 4 + length:
            return None
        mask, body = buffer[start : start + 4], buffer[start + 4 : start + 4 + length]
        self._buffer = buffer[start + 4 + length :]
        key = (mask * (length // 4 + 1))[:length]
        return (int.from_bytes(body, "big") ^ int.from_bytes(key, "big")).to_bytes(length, "big")


class Relay:
    """All connections and the command input, in one thread."""

    def __init__(self) -> None:
        self._epoll = select.epoll()
        self._handlers: dict[int, Callable[[], None]] = {}
        self._polls_until_ns = 0
        self._known = 0  # orders seen before it polled
        self._stopped = False
        self._watch(sys.stdin.fileno(), self._command)

    def listen(self, target: int, looker: Callable[[], Look]) -> int:
        """Pass what comes to a port of ours, which is returned, on to ``target``; show a client's bytes to a looker."""
        server = socket.create_server(("127.0.0.1", 0))

        def accept() -> None:
            client, _ = server.accept()
            upstream = socket.create_connection(("127.0.0.1", target))
            for one in (client, upstream):
                one.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            look = looker()
            self._watch(client.fileno(), lambda: self._pass_on(client, upstream, look))
            self._watch(upstream.fileno(), lambda: self._pass_on(upstream, client, None))

        self._watch(server.fileno(), accept)
        return int(server.getsockname()[1])

    def run(self) -> None:
        """Serve until the input ends."""
        while not self._stopped:
            polls = len(_seen) == self._known and time.monotonic_ns() < self._polls_until_ns
            for handle, _ in self._epoll.poll(0 if polls else None):
                if handler := self._handlers.get(handle):
                    handler()

    def _watch(self, handle: int, handler: Callable[[], None]) -> None:
        self._handlers[handle] = handler
        self._epoll.register(handle, select.EPOLLIN)

    def _pass_on(self, source: socket.socket, sink: socket.socket, look: Look | None) -> None:
        try:
            data = source.recv(READ_BYTES)
            at_ns = time.monotonic_ns()
            if data:
                if look is not None:  # before it is passed on: what is answered has been noted
                    look(data, at_ns)
                sink.sendall(data)
                return
        except OSError:
            pass
        for one in (source, sink):
            self._handlers.pop(one.fileno(), None)
            one.close()

    def _command(self) -> None:
        command = answer = sys.stdin.readline().strip()
        if command == "seen":
            answer = json.dumps(_seen)
            _seen.clear()
        self._polls_until_ns = time.monotonic_ns() + int(POLL_SECONDS * 1e9) if command == "polling" else 0
        self._known = len(_seen)
        self._stopped = not command
        print(answer, flush=True)


def main() -> None:
    relay = Relay()
    rest, ws = (int(port) for port in sys.argv[1:3])
    print(json.dumps([relay.listen(rest, lambda: _note), relay.listen(ws, lambda: Frames().feed)]), flush=True)
    relay.run()


if __name__ == "__main__":
    main()
