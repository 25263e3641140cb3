"""Waiting for something to happen, but not for ever, on the Clock port."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable

from trading.ports import Clock
from trading.tasks import end_tasks


class Signal:
    """A repeatable wake-up: a waiter sees every notification since it last looked, as one."""

    __slots__ = ("_event",)

    def __init__(self) -> None:
        self._event = asyncio.Event()

    def notify(self) -> None:
        self._event.set()

    async def wait(self, clock: Clock, seconds: float) -> bool:
        """Wait until notified or until ``seconds`` passed; return whether notified."""
        if not self._event.is_set() and seconds > 0:
            await first_of(self._event.wait(), clock.sleep(seconds))
        notified = self._event.is_set()
        self._event.clear()
        return notified


async def first_of(*awaitables: Awaitable[object]) -> None:
    """Return when the first of them is done; cancel the others."""
    tasks = [asyncio.ensure_future(awaitable) for awaitable in awaitables]
    try:
        await asyncio.wait(tasks, return_when=asyncio.FIRST_COMPLETED)
    finally:
        await end_tasks(tasks)
