"""How a request meets Django under ASGI: all of its middleware and its view in one visit to one thread."""

from __future__ import annotations

from collections.abc import AsyncIterator, Awaitable, Callable
from concurrent.futures import ThreadPoolExecutor
from contextlib import asynccontextmanager
from typing import Any

from asgiref.sync import ThreadSensitiveContext, sync_to_async
from django.core.handlers.asgi import ASGIHandler
from django.http import HttpRequest, HttpResponseBase

IDLE_THREADS = 8


class Threads:
    """One for each request at a time, as many as it takes; some are kept for the requests after."""

    def __init__(self) -> None:
        self._idle: list[ThreadPoolExecutor] = []

    @asynccontextmanager
    async def lent(self) -> AsyncIterator[None]:
        """Let the block's thread-sensitive work run on a thread that is nobody else's."""
        thread = self._idle.pop() if self._idle else ThreadPoolExecutor(1, "request")
        is_free = False
        try:
            async with ThreadSensitiveContext(executor=thread):
                yield
            is_free = True
        finally:  # one whose request was broken off may be busy with it still
            if is_free and len(self._idle) < IDLE_THREADS:
                self._idle.append(thread)
            else:
                thread.shutdown(wait=False)


class OneVisitHandler(ASGIHandler):
    """Django's handler with its middleware in synchronous form, called once.

    Middleware and views here are synchronous. Each middleware in the asynchronous chain goes to the request's thread
    and back for itself, twice, which costs a request more than its queries; a view that is asynchronous is waited for
    on the server's loop, as before.
    """

    def __init__(self) -> None:
        super().__init__()
        self._threads = Threads()

    def load_middleware(self, is_async: bool = False) -> None:
        super().load_middleware(is_async=False)

    async def __call__(
        self, scope: dict[str, Any], receive: Callable[[], Awaitable[Any]], send: Callable[[Any], Awaitable[None]]
    ) -> None:
        if scope["type"] != "http":
            raise ValueError(f"Django answers HTTP only, not {scope['type']}.")
        async with self._threads.lent():
            await self.handle(scope, receive, send)

    async def get_response_async(self, request: HttpRequest) -> HttpResponseBase:
        response: HttpResponseBase = await sync_to_async(self.get_response, thread_sensitive=True)(request)
        return response
