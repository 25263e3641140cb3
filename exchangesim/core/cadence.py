"""Conflated sending: what changed is sent at most once in a fixed interval, at the interval's ticks."""

from __future__ import annotations

import asyncio
from collections.abc import Callable


class Cadence:
    """Calls what was marked since the last tick, once each, at multiples of ``seconds``; sleeps when nothing is."""

    def __init__(self, seconds: float) -> None:
        self._seconds = seconds
        self._marked: dict[Callable[[], None], None] = {}
        self._timer: asyncio.TimerHandle | None = None

    def mark(self, send: Callable[[], None]) -> None:
        self._marked[send] = None
        if self._timer is None:
            loop = asyncio.get_running_loop()
            self._timer = loop.call_later(self._seconds - loop.time() % self._seconds, self._tick)

    def forget(self, send: Callable[[], None]) -> None:
        self._marked.pop(send, None)

    def close(self) -> None:
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None
        self._marked.clear()

    def _tick(self) -> None:
        self._timer = None
        marked, self._marked = self._marked, {}
        for send in marked:
            send()
