"""Redis as a history's processes meet it: shared counts and pages, away or emptied as the history wants it.

What runs on top is real: the slices of ``trading.exchanges.shares`` and the publisher of ``bots.engine_host``.
"""

from __future__ import annotations

import asyncio
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

import django
from django.apps import apps

from tests.simulation.loop import VirtualClock
from trading.exchanges.addresses import Addresses
from trading.exchanges.budget import Budget, Window
from trading.exchanges.shares import CounterAway, LocalCounter

if TYPE_CHECKING:
    from tests.simulation.world import Body, World

# As an exchange counts by address: enough for what a history sends, and of so short a time that slices lapse at once.
WINDOWS: Mapping[str, Window] = {"weight": Window(limit=40, seconds=1.0, kept=4, counts="address")}
ORDER_COSTS: Mapping[str, float] = {"weight": 1}


class SimRedis:
    """The server. ``away``: nothing reaches it; :meth:`flush`: it has forgotten everything."""

    def __init__(self, world: World) -> None:
        self._world = world
        self.away = ""
        self.messages = 0  # that reached pages
        self.flush()

    def flush(self) -> None:
        self._counter = LocalCounter(VirtualClock(self._world.loop))

    async def _reach(self) -> None:
        await asyncio.sleep(self._world.random.uniform(0.0002, 0.002))
        if self.away == "silent":
            await asyncio.sleep(self._world.random.uniform(1.0, 2.0))
        if self.away:
            raise CounterAway(self.away)

    # The SharedCounter port.

    async def take(self, key: str, period: int, amount: float, limit: float, seconds: float) -> float:
        await self._reach()
        return await self._counter.take(key, period, amount, limit, seconds)

    async def pause(self, key: str, seconds: float) -> None:
        await self._reach()
        await self._counter.pause(key, seconds)

    async def paused(self, key: str) -> float:
        await self._reach()
        return await self._counter.paused(key)

    # The channel layer.

    async def group_send(self, group: str, message: Mapping[str, Any]) -> None:
        try:
            await self._reach()
        except CounterAway as problem:
            raise ConnectionError(str(problem)) from None
        self.messages += 1


class Reach:
    """One process's connections: its pages, and its part of the limits by address."""

    def __init__(self, redis: SimRedis, body: Body) -> None:
        # Processes that only simulate know nothing of Django before.
        if not apps.ready:
            django.setup()
        from bots.engine_host.publisher import ChannelPublisher

        assert body.clock is not None
        self.pages = ChannelPublisher(stream=body.name, layer=redis)  # type: ignore[arg-type]
        self.addresses = Addresses(body.clock, counter=redis)

    def budget(self, exchange: str) -> Budget:
        return self.addresses.budget(exchange, WINDOWS)
