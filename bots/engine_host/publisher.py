"""Live updates for pages: the latest value of each key, to each group ten times a second at most."""

from __future__ import annotations

import asyncio
import logging
from collections import defaultdict
from collections.abc import Iterable, Mapping
from typing import Any

from channels.layers import BaseChannelLayer, get_channel_layer

from bots.live_cache import PUBLIC_GROUP, owner_group

logger = logging.getLogger("arb.publisher")

_Items = dict[tuple[str, str], Mapping[str, object]]  # by kind and key, the longest unchanged first


class ChannelPublisher:
    """Publisher port on Django Channels.

    ``publish`` only writes into a dictionary, so it costs the engine nothing and cannot fail. :meth:`run` sends what
    has gathered to the groups of everybody and of each owner: a moment after it came, unless the group was told
    something within the last ``interval_seconds``. So what happens alone does not wait for the end of an interval, and
    groups are told one after another instead of all at once. When the channel layer is away, values wait (the newest of
    each key) and go out when it is back.
    """

    interval_seconds = 0.1  # from one message of a group to its next
    gather_seconds = 0.02  # what belongs together comes in moments
    send_timeout_seconds = 2.0
    retry_seconds = 1.0
    max_waiting = 20_000  # keys; beyond it the longest unsent of the group with most of them go
    batch = 500  # items a message; a page's frame may hold several

    def __init__(self, *, stream: str, layer: BaseChannelLayer | None = None) -> None:
        """``stream`` names this publisher; with each message's number it lets a page notice that one was lost."""
        self._stream = stream
        self._layer = layer or get_channel_layer()
        self._waiting: dict[int | None, _Items] = {}  # by owner
        self._count = 0  # keys that wait
        self._filled = asyncio.Event()
        self._sent_at: dict[int | None, float] = {}  # within the last interval
        self._numbers: defaultdict[str, int] = defaultdict(int)
        self._failing = False
        self.dropped = 0

    def publish(self, owner: int | None, kind: str, key: str, data: Mapping[str, object]) -> None:
        items = self._waiting.get(owner)
        if items is None:
            items = self._waiting[owner] = {}
            self._filled.set()
        # Re-inserting keeps the dictionary in the order of the last change, so the bound drops the oldest.
        if items.pop((kind, key), None) is None:
            self._count += 1
        items[kind, key] = data
        self._bound()

    async def run(self) -> None:
        """Send until cancelled; what waits then is sent by :meth:`flush`."""
        loop = asyncio.get_running_loop()
        while True:
            await self._filled.wait()
            await asyncio.sleep(self.retry_seconds if self._failing else self.gather_seconds)
            now = loop.time()
            # Half a moment early counts as due: otherwise what is published every interval would be sent less often.
            since = now - self.interval_seconds + self.gather_seconds / 2
            self._sent_at = {owner: at for owner, at in self._sent_at.items() if at > since}
            due = [owner for owner in self._waiting if owner not in self._sent_at]
            self._sent_at.update(dict.fromkeys(due, now))
            await self._send_to(due)
            if not self._waiting:
                self._filled.clear()

    async def flush(self) -> None:
        """Send what waits now. Never raises for a channel layer that is away."""
        await self._send_to(list(self._waiting))

    async def _send_to(self, owners: Iterable[int | None]) -> None:
        taken = {owner: self._waiting.pop(owner) for owner in owners}
        if not taken or self._layer is None:
            return
        self._count -= sum(map(len, taken.values()))
        # All groups at once: one that is slow to take its message keeps no other waiting.
        sending = [
            self._send_group(
                PUBLIC_GROUP if owner is None else owner_group(owner),
                [{"kind": kind, "key": key, "data": data} for (kind, key), data in items.items()],
            )
            for owner, items in taken.items()
        ]
        problems = [one for one in await asyncio.gather(*sending, return_exceptions=True) if one is not None]
        if problems:
            # A client library's own errors (redis.RedisError) are not OSError, so any counts.
            self._fail(problems[0])
            self._put_back(taken)
            return
        if self._failing:
            self._failing = False
            logger.info("live pages are reached again")

    async def _send_group(self, group: str, items: list[dict[str, Any]]) -> None:
        for start in range(0, len(items), self.batch):
            await self._send(group, items[start : start + self.batch])

    async def _send(self, group: str, items: list[dict[str, Any]]) -> None:
        self._numbers[group] += 1
        stream = f"{self._stream}:{group}"
        message = {"type": "live.items", "items": items, "stream": stream, "number": self._numbers[group]}
        async with asyncio.timeout(self.send_timeout_seconds):
            await self._layer.group_send(group, message)

    def _put_back(self, taken: Mapping[int | None, _Items]) -> None:
        """Let what was not sent wait again, unless a newer value has come meanwhile."""
        for owner, items in taken.items():
            newer = self._waiting.get(owner, {})
            self._waiting[owner] = {**items, **newer}
            self._count += len(self._waiting[owner]) - len(newer)
        self._filled.set()
        self._bound()

    def _bound(self) -> None:
        while self._count > self.max_waiting:
            most = max(self._waiting.values(), key=len)
            del most[next(iter(most))]
            self._count -= 1
            self.dropped += 1

    def _fail(self, problem: BaseException) -> None:
        if not self._failing:
            self._failing = True
            logger.warning(
                "live pages are not reached, trading goes on: the channel layer failed (%s: %s)",
                type(problem).__name__,
                problem,
            )
