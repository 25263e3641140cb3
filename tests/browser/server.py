"""The platform's real ASGI application behind real sockets, with a gate that can cut them."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import uvicorn


class Gate:
    """An ASGI application in front of the real one: cuts its WebSockets, or lets none through."""

    def __init__(self, application: Any) -> None:
        self._application = application
        self._sockets: set[asyncio.Task[Any]] = set()
        self.sockets_allowed = True

    async def __call__(self, scope: Any, receive: Any, send: Any) -> None:
        if scope["type"] != "websocket":
            await self._application(scope, receive, send)
            return
        if not self.sockets_allowed:
            await receive()
            await send({"type": "websocket.close", "code": 1013})
            return
        task = asyncio.current_task()
        assert task is not None
        self._sockets.add(task)
        try:
            await self._application(scope, receive, send)
        except asyncio.CancelledError:
            await send({"type": "websocket.close", "code": 1012})
        finally:
            self._sockets.discard(task)

    def cut_sockets(self) -> None:
        for task in self._sockets:
            task.cancel()


class QuietServer(uvicorn.Server):
    @contextmanager
    def capture_signals(self) -> Iterator[None]:
        yield  # the test run keeps its own


class LiveServer:
    """A server on 127.0.0.1 in the running event loop; it can be stopped and started again on the same port."""

    def __init__(self, application: Any) -> None:
        self.gate = Gate(application)
        self.port = 0
        self._server: uvicorn.Server | None = None
        self._task: asyncio.Task[None] | None = None

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.port}"

    async def start(self) -> None:
        config = uvicorn.Config(
            self.gate,
            host="127.0.0.1",
            port=self.port,
            lifespan="off",
            log_config=None,
            timeout_graceful_shutdown=1,
        )
        self._server = QuietServer(config)
        self._task = asyncio.create_task(self._server.serve())
        async with asyncio.timeout(20):
            while not self._server.started:  # noqa: ASYNC110 - uvicorn has a flag, not an event
                await asyncio.sleep(0.01)
        self.port = self._server.servers[0].sockets[0].getsockname()[1]

    async def stop(self) -> None:
        if self._server is None or self._task is None:
            return
        self._server.should_exit = True
        await self._task
        self._server = self._task = None
