"""A network between a process and its database that can go silent: connections stay open, nothing passes."""

from __future__ import annotations

import selectors
import socket
import threading
from contextlib import suppress

CHUNK = 65_536


class Proxy:
    """Forwards 127.0.0.1 to a PostgreSQL server on a thread of its own."""

    def __init__(self, target: tuple[str, int] | str) -> None:
        """``target`` is host and port, or the path of a socket."""
        self._target = target
        self._listening = socket.create_server(("127.0.0.1", 0))
        self.port: int = self._listening.getsockname()[1]
        self._silent = threading.Event()
        self._losing = threading.Event()
        self._ended = threading.Event()
        self._servers: set[socket.socket] = set()
        self._peers: dict[socket.socket, socket.socket] = {}
        self._thread = threading.Thread(target=self._run, daemon=True)
        self._thread.start()

    def silence(self) -> None:
        """Let nothing pass in either direction."""
        self._silent.set()

    def resume(self) -> None:
        """Let everything pass again."""
        self._silent.clear()
        self._losing.clear()

    def lose_answers(self) -> None:
        """Let what clients ask pass, and nothing of what they are answered."""
        self._losing.set()

    def cut(self) -> None:
        """End the connections there are; new ones are taken."""
        for one in list(self._peers):
            with suppress(OSError):
                one.shutdown(socket.SHUT_RDWR)

    def close(self) -> None:
        self._ended.set()
        self._thread.join(10)

    def _connect(self) -> socket.socket:
        if isinstance(self._target, str):
            server = socket.socket(socket.AF_UNIX)
            server.connect(self._target)
            return server
        return socket.create_connection(self._target)

    def _run(self) -> None:
        with selectors.DefaultSelector() as waiting, self._listening:
            waiting.register(self._listening, selectors.EVENT_READ)
            while not self._ended.is_set():
                ready = waiting.select(0.02)
                if self._silent.is_set():
                    self._ended.wait(0.02)  # what has come waits in the sockets
                    continue
                for key, _ in ready:
                    source = key.fileobj
                    assert isinstance(source, socket.socket)
                    if source is self._listening:
                        client, _ = source.accept()
                        server = self._connect()
                        self._peers[client], self._peers[server] = server, client
                        self._servers.add(server)
                        waiting.register(client, selectors.EVENT_READ)
                        waiting.register(server, selectors.EVENT_READ)
                    elif source in self._peers:
                        self._forward(source, waiting)
            for one in list(self._peers):
                one.close()

    def _forward(self, source: socket.socket, waiting: selectors.BaseSelector) -> None:
        try:
            data = source.recv(CHUNK)
            if data and self._losing.is_set() and source in self._servers:
                return
            if data:
                self._peers[source].sendall(data)
                return
        except OSError:
            pass
        for one in (source, self._peers.pop(source)):
            self._peers.pop(one, None)
            waiting.unregister(one)
            one.close()
