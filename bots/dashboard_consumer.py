"""The live dashboard's WebSocket: a snapshot, then balances, positions, orders, trades and progress as they change.

Messages are described in docs/live-dashboard.md and typed in :mod:`bots.live_desk_schema`.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Iterable, Mapping
from math import inf
from typing import Any

import msgspec
from channels.db import database_sync_to_async

from bots.live_changes import REPLAY_SECONDS, DeskChanges
from bots.live_dashboard import connection_now, dashboard, prices_now
from bots.live_desk import MODES
from bots.live_socket import PageSocket
from bots.selectors.dashboard import costs_read
from trading.messages import OrderState

# What everybody is told and a desk shows; quotes and feeds are read where this process keeps them.
PUBLIC_KINDS = frozenset({"breaker", "switch"})
VALUED = frozenset({"position", "balance", "pnl"})
ENDED = frozenset({OrderState.FILLED.value, OrderState.CANCELLED.value, OrderState.FAILED.value})


class DashboardConsumer(PageSocket):
    """One open dashboard. ``?mode=paper`` or ``live``."""

    public_kinds = PUBLIC_KINDS
    # Between two valuations at the newest quotes.
    mark_seconds = 0.5
    # Between two looks whether the engine still speaks; at once when it does.
    connect_seconds = 1.0
    # What is stored may be so much older than what was published, of which a page that has just been opened heard
    # nothing: orders that its first snapshot shows on their way are looked at once more.
    again_seconds = REPLAY_SECONDS

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self._mode = ""
        self._changes = DeskChanges("paper")
        self._mark_at = self._connect_at = self._again_at = inf
        self._is_first = True

    def query_refusal(self) -> str:
        mode = self.query("mode")
        if mode not in MODES:
            return f"mode: one of {', '.join(MODES)} (given {str(mode)[:40]!r}); open /ws/live-dashboard?mode=paper"
        self._mode = mode
        self._changes = DeskChanges(mode)
        return ""

    def connected(self, user: Any, owner: Any) -> Mapping[str, Any]:
        return {
            "user": user.get_username(),
            "owner": owner.get_username(),
            "owner_id": owner.pk,
            "mode": self._mode,
            "server_time": time.time(),
        }

    def take(self, items: Iterable[Mapping[str, Any]]) -> bool:
        for item in items:
            # Positions and balances are told with what they are worth now, not when they are next valued.
            if item["kind"] in VALUED:
                self._mark_at = 0.0
            elif item["kind"] == "health":
                self._connect_at = 0.0
        return self._changes.take(items)

    def has_changes(self) -> bool:
        return bool(self._changes)

    async def send_changes(self) -> None:
        if self._changes.money_changed and self._changes.money is not None:
            self._changes.money_changed = False
            await database_sync_to_async(costs_read)(self._changes.money, owner_id=self.owner_id, mode=self._mode)
        messages = self._changes.messages()
        if len(messages) == 1:
            await self.send_frame(*messages[0])
        elif messages:
            await self.send_frame("batch", {"items": [{"type": kind, "data": data} for kind, data in messages]})

    async def snapshot(self) -> Mapping[str, Any]:
        shown, money = await database_sync_to_async(dashboard)(owner_id=self.owner_id, mode=self._mode)
        self._changes.begin(shown, money)
        now = asyncio.get_running_loop().time()
        self._mark_at, self._connect_at = now + self.mark_seconds, now + self.connect_seconds
        if self._is_first and any(order.status not in ENDED for order in shown.orders):
            self._again_at = now + self.again_seconds
        self._is_first = False
        if self._changes.is_missing:
            self.want_snapshot()
        return msgspec.to_builtins(shown)

    def look_in(self) -> float:
        return min(self._mark_at, self._connect_at, self._again_at) - asyncio.get_running_loop().time()

    def look(self) -> None:
        """Value the desk at the newest quotes, and look whether the engine still speaks."""
        changes, now = self._changes, asyncio.get_running_loop().time()
        if now >= self._again_at:
            self._again_at = inf
            self.want_snapshot()
        if now >= self._mark_at:
            self._mark_at = now + self.mark_seconds
            changes.mark(prices_now())
        if now >= self._connect_at:
            self._connect_at = now + self.connect_seconds
            if changes.money is not None:
                accounts, wanted = changes.money.accounts, changes.is_wanted
                changes.connect(connection_now(self.owner_id, self._mode, accounts, is_wanted=wanted, now=time.time()))
