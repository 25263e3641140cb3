"""What all accounts of a process share that reach one exchange from one address: its limits by address, its pauses."""

from __future__ import annotations

import asyncio
from collections.abc import Mapping

from trading.exchanges.budget import Bucket, Budget, Pause, Window
from trading.exchanges.shares import SharedCounter, Shares
from trading.ports import Clock
from trading.tasks import end_tasks


class _Shared:
    """Buckets and pause of one exchange and address."""

    def __init__(self, pause: Pause, shares: Shares | None) -> None:
        self.pause = pause
        self.shares = shares
        self.buckets: dict[str, Bucket] = {}


class Addresses:
    """Makes each account's budget. One for a process; ``address`` names where its requests come from.

    With a ``counter`` the limits by address are shared with other processes that name the same address.
    """

    def __init__(self, clock: Clock, *, address: str = "", counter: SharedCounter | None = None) -> None:
        self._clock = clock
        self._address = address
        self._counter = counter
        self._shared: dict[str, _Shared] = {}
        self._tasks: list[asyncio.Task[None]] = []

    def budget(self, exchange: str, windows: Mapping[str, Window]) -> Budget:
        """Return the budget of one account on an exchange (by code); with a counter, from within an event loop."""
        shared = self._shared.get(exchange)
        if shared is None:
            shared = self._shared[exchange] = self._make(exchange)
        for name, window in windows.items():
            if window.counts == "address" and name not in shared.buckets:
                part = None if shared.shares is None else shared.shares.slice_of(name, window)
                shared.buckets[name] = Bucket(window, self._clock, part)
        return Budget(
            {name: window for name, window in windows.items() if window.counts == "account"},
            self._clock,
            shared={name: bucket for name, bucket in shared.buckets.items() if name in windows},
            pause=shared.pause,
        )

    async def close(self) -> None:
        """Stop sharing."""
        tasks, self._tasks = self._tasks, []
        await end_tasks(tasks)

    def _make(self, exchange: str) -> _Shared:
        pause = Pause(self._clock)
        if self._counter is None:
            return _Shared(pause, None)
        shares = Shares(f"{exchange}:{self._address}", self._counter, self._clock, pause)
        self._tasks.append(asyncio.get_running_loop().create_task(shares.run(), name=f"shares-{exchange}"))
        return _Shared(pause, shares)
