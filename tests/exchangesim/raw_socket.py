"""A bare WebSocket client for tests that look at the frames themselves."""

from __future__ import annotations

import asyncio
import contextlib
import json
from collections.abc import AsyncIterator, Callable, Mapping
from typing import Any

import websockets

Message = dict[str, Any]
WAIT_SECONDS = 10.0


class RawSocket:
    """An open socket; ``seen`` keeps every message received, texts that are not JSON as strings."""

    def __init__(self, connection: websockets.ClientConnection) -> None:
        self._connection = connection
        self.seen: list[Any] = []

    async def send(self, message: object) -> None:
        await self._connection.send(message if isinstance(message, str | bytes) else json.dumps(message))

    async def next(self) -> Any:
        """Return the next message; fails when none comes within seconds."""
        text = await asyncio.wait_for(self._connection.recv(), WAIT_SECONDS)
        try:
            message = json.loads(text)
        except ValueError:
            message = text
        self.seen.append(message)
        return message

    async def until(self, wanted: Callable[[Any], bool]) -> Any:
        """Return the first message from now on that ``wanted`` accepts."""
        while True:
            message = await self.next()
            if wanted(message):
                return message

    async def closed(self) -> tuple[int | None, str]:
        """Wait until the server closes; returns its close code and reason."""
        with contextlib.suppress(websockets.ConnectionClosed):
            while True:
                await asyncio.wait_for(self._connection.recv(), WAIT_SECONDS)
        return self._connection.close_code, self._connection.close_reason or ""


@contextlib.asynccontextmanager
async def raw_socket(url: str) -> AsyncIterator[RawSocket]:
    async with websockets.connect(url, ping_interval=None, max_size=None) as connection:
        yield RawSocket(connection)


class RebuiltBook:
    """A book kept from a stream's messages alone; ``names`` are the keys of bids and asks in its rows."""

    def __init__(self, names: tuple[str, str] = ("bids", "asks")) -> None:
        self._names = names
        self.sides: dict[str, dict[str, str]] = {"bids": {}, "asks": {}}

    def apply(self, row: Mapping[str, Any], *, snapshot: bool = False) -> None:
        """Apply levels [price, quantity, ...]; quantity zero takes a level away, which must have been there."""
        for name, levels in zip(self._names, self.sides.values(), strict=True):
            if snapshot:
                levels.clear()
            for price, quantity, *_ in row[name]:
                if float(quantity) == 0:
                    assert price in levels, f"level {price} is taken away but was never there"
                    del levels[price]
                else:
                    levels[price] = quantity

    @property
    def is_crossed(self) -> bool:
        bids, asks = self.sides["bids"], self.sides["asks"]
        return bool(bids and asks) and max(map(float, bids)) >= min(map(float, asks))


async def eventually(condition: Callable[[], bool]) -> None:
    """Return once a condition holds that another task or process brings about; fails when it does not."""
    deadline = asyncio.get_running_loop().time() + WAIT_SECONDS
    while True:
        if condition():
            return
        assert asyncio.get_running_loop().time() < deadline, "the condition has not come about"
        await asyncio.sleep(0.01)
