"""Live updates for pages: the latest value of each key, ten times a second at most."""

from __future__ import annotations

import asyncio
import logging
from collections import defaultdict
from collections.abc import Mapping
from typing import Any

from channels.layers import BaseChannelLayer, get_channel_layer

from bots.live_cache import PUBLIC_GROUP
from bots.live_snapshot import owner_group

logger = logging.getLogger("arb.publisher")

_Key = tuple[int | None, str, str]


class ChannelPublisher:
    """Publisher port on Django Channels.

    ``publish`` only writes into a dictionary, so it costs the engine nothing and cannot fail. :meth:`run` sends what
    has gathered to the groups of everybody and of each owner. When the channel layer is away, values wait (the newest
    of each key) and go out when it is back.
    """

    interval_seconds = 0.1
    send_timeout_seconds = 2.0
    retry_seconds = 1.0
    max_waiting = 20_000  # keys; beyond it the longest unsent go
    batch = 500  # items a message; a page's frame may hold several

    def __init__(self, *, stream: str, layer: BaseChannelLayer | None = None) -> None:
        """``stream`` names this publisher; with each message's number it lets a page notice that one was lost."""
        self._stream = stream
        self._layer = layer or get_channel_layer()
        self._waiting: dict[_Key, Mapping[str, object]] = {}
        self._numbers: defaultdict[str, int] = defaultdict(int)
        self._failing = False
        self.dropped = 0

    def publish(self, owner: int | None, kind: str, key: str, data: Mapping[str, object]) -> None:
        at = (owner, kind, key)
        # Re-inserting keeps the dictionary in the order of the last change, so the bound drops the oldest.
        self._waiting.pop(at, None)
        self._waiting[at] = data
        if len(self._waiting) > self.max_waiting:
            del self._waiting[next(iter(self._waiting))]
            self.dropped += 1

    async def run(self) -> None:
        """Send until cancelled; what waits then is sent by :meth:`flush`."""
        while True:
            await asyncio.sleep(self.retry_seconds if self._failing else self.interval_seconds)
            await self.flush()

    async def flush(self) -> None:
        """Send what waits now. Never raises for a channel layer that is away."""
        if not self._waiting or self._layer is None:
            return
        taken, self._waiting = self._waiting, {}
        by_owner: defaultdict[int | None, list[dict[str, Any]]] = defaultdict(list)
        for (owner, kind, key), data in taken.items():
            by_owner[owner].append({"kind": kind, "key": key, "data": data})
        for owner, items in by_owner.items():
            group = PUBLIC_GROUP if owner is None else owner_group(owner)
            try:
                for start in range(0, len(items), self.batch):
                    await self._send(group, items[start : start + self.batch])
            except (OSError, TimeoutError, ConnectionError) as problem:
                self._fail(problem)
                self._put_back(taken)
                return
            except Exception as problem:  # a client library's own errors (redis.RedisError) are not OSError
                self._fail(problem)
                self._put_back(taken)
                return
        if self._failing:
            self._failing = False
            logger.info("live pages are reached again")

    async def _send(self, group: str, items: list[dict[str, Any]]) -> None:
        self._numbers[group] += 1
        stream = f"{self._stream}:{group}"
        message = {"type": "live.items", "items": items, "stream": stream, "number": self._numbers[group]}
        async with asyncio.timeout(self.send_timeout_seconds):
            await self._layer.group_send(group, message)

    def _put_back(self, taken: dict[_Key, Mapping[str, object]]) -> None:
        """Let what was not sent wait again, unless a newer value has come meanwhile."""
        self._waiting = {**taken, **self._waiting}
        while len(self._waiting) > self.max_waiting:
            del self._waiting[next(iter(self._waiting))]
            self.dropped += 1

    def _fail(self, problem: Exception) -> None:
        if not self._failing:
            self._failing = True
            logger.warning(
                "live pages are not reached, trading goes on: the channel layer failed (%s: %s)",
                type(problem).__name__,
                problem,
            )
