from __future__ import annotations

from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from typing import Any

import pytest
from channels.db import database_sync_to_async
from channels.layers import channel_layers
from channels.testing import WebsocketCommunicator
from django.conf import settings
from django.contrib.auth.models import AbstractBaseUser
from django.test import Client

from bots import live_cache
from bots.live_schema import check_frame
from tests.live.desk import Desk, make_desk

PATIENCE_SECONDS = 10
Connect = Callable[..., Awaitable["Page"]]


class Page:
    """A page's end of the socket. Every frame it receives is checked against the schema and its number."""

    def __init__(self, communicator: WebsocketCommunicator, check: Callable[..., Any]) -> None:
        self._communicator = communicator
        self._check = check
        self._sequence = 0
        self.raw = ""  # the last frame as it came

    async def frame(self, kind: str | None = None):
        """Return the data of the next frame, or of the next frame of one kind."""
        return (await self.named_frame(kind))[1]

    async def named_frame(self, kind: str | None = None):
        """Return type and data of the next frame, or of the next frame of one kind."""
        while True:
            self.raw = await self._communicator.receive_from(PATIENCE_SECONDS)
            frame, data = self._check(self.raw)
            assert frame.sequence == self._sequence + 1
            self._sequence = frame.sequence
            if kind is None or frame.type == kind:
                return frame.type, data

    async def item(self, kind: str) -> dict:
        """Return the data of the next item of a kind."""
        while True:
            for item in (await self.frame("update")).items:
                if item.kind == kind:
                    return item.data

    async def say(self, *, text: str | None = None, binary: bytes | None = None) -> None:
        await self._communicator.send_to(text_data=text, bytes_data=binary)

    async def closed(self) -> int:
        """Read on until the server closes the socket and return its code."""
        while True:
            message = await self._communicator.receive_output(PATIENCE_SECONDS)
            if message["type"] == "websocket.close":
                return message.get("code", 1000)

    async def is_quiet(self) -> bool:
        return await self._communicator.receive_nothing(timeout=0.3, interval=0.05)

    async def leave(self) -> None:
        await self._communicator.disconnect()


@pytest.fixture
def desk(transactional_db: None) -> Desk:
    return make_desk()


@pytest.fixture(autouse=True)
def _fresh_process() -> Iterator[None]:
    """Start like a process that has heard nothing yet, with a channel layer of this test's event loop."""
    channel_layers.backends.clear()
    live_cache.last_known.clear()
    yield
    channel_layers.backends.clear()
    live_cache.last_known.clear()


@pytest.fixture
async def connect(transactional_db: None) -> AsyncIterator[Connect]:
    """Return a function that opens the socket as a user (None: not signed in)."""
    from arbplatform.asgi import application

    pages: list[Page] = []

    async def open_page(
        user: AbstractBaseUser | None,
        query: str = "",
        *,
        client: Client | None = None,
        path: str = "/ws/live/",
        check: Callable[..., Any] = check_frame,
    ) -> Page:
        client = client or Client()
        if user is not None:
            await database_sync_to_async(client.force_login)(user)
        cookies = "; ".join(f"{name}={morsel.value}" for name, morsel in client.cookies.items())
        assert user is None or settings.SESSION_COOKIE_NAME in cookies
        headers = [(b"cookie", cookies.encode()), (b"origin", b"http://localhost"), (b"host", b"localhost")]
        communicator = WebsocketCommunicator(application, f"{path}{query}", headers=headers)
        accepted, _ = await communicator.connect(timeout=10)
        assert accepted
        pages.append(Page(communicator, check))
        return pages[-1]

    yield open_page
    for page in pages:
        await page.leave()
    live_cache.stop_listening()
