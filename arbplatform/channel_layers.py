"""The embedded channel layer: in memory, and safe to send to from any thread and event loop."""

from __future__ import annotations

import asyncio
import contextlib
import time
from collections.abc import Iterable
from typing import Any

import msgspec
from channels.layers import InMemoryChannelLayer

# Between two looks for messages and memberships that have expired.
CLEAN_SECONDS = 1.0


class LoopSafeInMemoryChannelLayer(InMemoryChannelLayer):
    """In-memory layer whose receivers wake at once, whichever thread or loop sends.

    The stock layer puts messages into an ``asyncio.Queue`` from the sender's thread; the receiver's loop isn't told
    and finds them at its next wake-up (measured: 51 ms later on average). Here each channel remembers the loop it is
    received on, and a message for it is put into the queue on that loop.

    A message to a group is copied once for each loop, through its bytes as a layer in between would (tuples arrive as
    lists), not once for each receiver: receivers share it and must not change it.
    """

    def __init__(self, **kwargs: Any) -> None:
        super().__init__(**kwargs)
        self._loops: dict[str, asyncio.AbstractEventLoop] = {}
        self._clean_at = 0.0

    async def new_channel(self, prefix: str = "specific.") -> str:
        channel: str = await super().new_channel(prefix)
        self._loops[channel] = asyncio.get_running_loop()
        return channel

    async def receive(self, channel: str) -> dict[str, Any]:
        self._loops[channel] = asyncio.get_running_loop()
        message: dict[str, Any] = await super().receive(channel)
        return message

    async def send(self, channel: str, message: dict[str, Any]) -> None:
        loop = self._loops.get(channel)
        if loop is None or loop is asyncio.get_running_loop():
            await super().send(channel, message)
        elif loop.is_running():
            future = asyncio.run_coroutine_threadsafe(super().send(channel, message), loop)
            await asyncio.wrap_future(future)
        else:
            self._forget(channel)  # its receiver is gone

    async def group_send(self, group: str, message: dict[str, Any]) -> None:
        assert isinstance(message, dict), "message is not a dict"
        self.require_valid_group_name(group)
        # A copy: other threads join and leave while we send. One visit to each loop, however many receive there: a
        # busy loop lets the sender wait once, not once for each page.
        here = asyncio.get_running_loop()
        by_loop: dict[asyncio.AbstractEventLoop, list[str]] = {}
        for channel in list(self.groups.get(group, ())):
            by_loop.setdefault(self._loops.get(channel, here), []).append(channel)
        packed = msgspec.msgpack.encode(message) if by_loop else b""
        for loop, channels in by_loop.items():
            if loop is here:
                self._deliver(channels, packed)
            elif loop.is_running():
                delivered = here.create_future()
                loop.call_soon_threadsafe(self._deliver_for, channels, packed, here, delivered)
                await delivered
            else:
                for channel in channels:
                    self._forget(channel)  # their receiver is gone

    def _deliver(self, channels: Iterable[str], packed: bytes) -> None:
        """Put a message into the queues of channels that this thread's loop receives."""
        message = msgspec.msgpack.decode(packed)
        until = time.time() + self.expiry
        for channel in channels:
            queue = self.channels.get(channel)
            if queue is None:
                queue = self.channels.setdefault(channel, asyncio.Queue(maxsize=self.get_capacity(channel)))
            # A receiver that doesn't keep up misses messages; it sees a gap and asks for a snapshot.
            with contextlib.suppress(asyncio.QueueFull):
                queue.put_nowait((until, message))

    def _deliver_for(
        self, channels: list[str], packed: bytes, sender: asyncio.AbstractEventLoop, delivered: asyncio.Future[None]
    ) -> None:
        """Deliver, and tell the sender on its own loop."""
        try:
            self._deliver(channels, packed)
        finally:
            with contextlib.suppress(RuntimeError):  # the sender's loop has ended meanwhile
                sender.call_soon_threadsafe(_settle, delivered)

    def _clean_expired(self) -> None:
        # The stock layer looks at every channel and every group each time anybody receives: with hundreds of pages
        # that was a tenth of the server's time.
        now = time.monotonic()
        if now >= self._clean_at:
            self._clean_at = now + CLEAN_SECONDS
            super()._clean_expired()

    async def group_discard(self, group: str, channel: str) -> None:
        await super().group_discard(group, channel)
        if not any(channel in members for members in list(self.groups.values())):
            self._loops.pop(channel, None)

    async def flush(self) -> None:
        await super().flush()
        self._loops.clear()

    def _forget(self, channel: str) -> None:
        self._loops.pop(channel, None)
        self.channels.pop(channel, None)
        self._remove_from_groups(channel)


def _settle(delivered: asyncio.Future[None]) -> None:
    if not delivered.done():  # its sender gave up waiting
        delivered.set_result(None)
