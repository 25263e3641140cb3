"""The live page's WebSocket: a snapshot, then what changed.

Messages are described in docs/live-messages.md and typed in :mod:`bots.live_schema`.
"""

from __future__ import annotations

import time
from collections.abc import Iterable, Mapping
from typing import Any

from channels.db import database_sync_to_async
from django.conf import settings

from bots import live_snapshot
from bots.live_schema import ITEM_TYPES
from bots.live_socket import PageSocket


class PendingItems:
    """What a page has not been sent yet: the latest item of each kind and key.

    Bounded: beyond ``limit`` items nothing is kept and ``overflowed`` says that a snapshot is due instead.
    """

    def __init__(self, limit: int = 5_000) -> None:
        self._limit = limit
        self._items: dict[tuple[str, str], Mapping[str, Any]] = {}
        self.overflowed = False

    def __bool__(self) -> bool:
        return bool(self._items)

    def __len__(self) -> int:
        return len(self._items)

    def merge(self, items: Iterable[Mapping[str, Any]]) -> None:
        for item in items:
            self._items[item["kind"], item["key"]] = item
        if len(self._items) > self._limit:
            self._items.clear()
            self.overflowed = True

    def take(self) -> list[Mapping[str, Any]]:
        taken = list(self._items.values())
        self._items.clear()
        return taken


class LiveConsumer(PageSocket):
    """One open live page."""

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self._pending = PendingItems()

    def connected(self, user: Any, owner: Any) -> Mapping[str, Any]:
        return {
            "user": user.get_username(),
            "owner": owner.get_username(),
            "mode": settings.ARB_SHAPE,
            "server_time": time.time(),
        }

    def take(self, items: Iterable[Mapping[str, Any]]) -> bool:
        # Some kinds are the dashboard's only.
        self._pending.merge(item for item in items if item["kind"] in ITEM_TYPES)
        overflowed, self._pending.overflowed = self._pending.overflowed, False
        return not overflowed

    def has_changes(self) -> bool:
        return bool(self._pending)

    async def send_changes(self) -> None:
        await self.send_frame("update", {"items": self._pending.take()})

    async def snapshot(self) -> Mapping[str, Any]:
        return await database_sync_to_async(live_snapshot.snapshot)(owner_id=self.owner_id)
