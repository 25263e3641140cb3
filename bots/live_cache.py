"""Last known quotes and feeds of this process, for snapshots.

Market data is not in the database. Whoever publishes sends every quote and feed at least once a second, so a process
that has just begun to listen knows them all a second later.
"""

from __future__ import annotations

import asyncio
import logging
import time
from collections import OrderedDict
from collections.abc import Callable, Iterable, Mapping
from typing import Any

from channels.layers import get_channel_layer

logger = logging.getLogger(__name__)

PUBLIC_GROUP = "live.public"
PUBLIC_KINDS = ("quote", "feed")
# A market that is no longer published is forgotten; until then the page shows its age.
FORGET_SECONDS = 300.0
# Markets of every exchange together; beyond it the longest unchanged goes.
MAX_ITEMS = 5_000
LISTEN_AGAIN_SECONDS = 1.0


class LastKnown:
    """Latest public item of each kind and key, bounded in number and in age."""

    def __init__(self, *, max_items: int = MAX_ITEMS, wall_time: Callable[[], float] = time.time) -> None:
        self._max_items = max_items
        self._wall_time = wall_time
        self._items: OrderedDict[tuple[str, str], tuple[float, Mapping[str, Any]]] = OrderedDict()

    def remember(self, items: Iterable[Mapping[str, Any]]) -> None:
        """Keep the public items of a published batch; others are not this cache's business."""
        now = self._wall_time()
        for item in items:
            if item["kind"] in PUBLIC_KINDS:
                key = (item["kind"], item["key"])
                self._items[key] = (now, item["data"])
                self._items.move_to_end(key)
        while len(self._items) > self._max_items:
            self._items.popitem(last=False)

    def latest(self, kind: str) -> list[Mapping[str, Any]]:
        """Return the last data of every key of ``kind`` that was published lately."""
        oldest = self._wall_time() - FORGET_SECONDS
        while self._items and next(iter(self._items.values()))[0] < oldest:
            self._items.popitem(last=False)
        return [data for (of, _), (_, data) in self._items.items() if of == kind]

    def clear(self) -> None:
        self._items.clear()


last_known = LastKnown()
_listeners: dict[asyncio.AbstractEventLoop, asyncio.Task[None]] = {}


def ensure_listening() -> None:
    """Make this process follow the public group, so that it can answer snapshots also when no socket is open here."""
    loop = asyncio.get_running_loop()
    for known in [known for known in _listeners if known.is_closed()]:
        del _listeners[known]
    task = _listeners.get(loop)
    if task is None or task.done():
        _listeners[loop] = loop.create_task(_listen(), name="live-cache")


async def _listen() -> None:
    while True:
        try:
            layer = get_channel_layer()
            if layer is None:
                return
            channel = await layer.new_channel("live-cache")
            await layer.group_add(PUBLIC_GROUP, channel)
            try:
                while True:
                    message = await layer.receive(channel)
                    last_known.remember(message.get("items", ()))
            finally:
                await layer.group_discard(PUBLIC_GROUP, channel)
        except Exception as error:
            # Redis is away, say: quotes in snapshots grow old, which pages show; everything else goes on.
            logger.warning("live cache: the channel layer failed (%s); trying again", error)
            await asyncio.sleep(LISTEN_AGAIN_SECONDS)
