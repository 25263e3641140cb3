"""Time as a simulated exchange sees it."""

from __future__ import annotations

import time


class Clock:
    """The machine's clock, plus an offset with which an exchange's clock can be set wrong on purpose."""

    def __init__(self, offset_ms: int = 0) -> None:
        self.offset_ms = offset_ms

    def time_us(self) -> int:
        """Unix time in microseconds, as this exchange would stamp it."""
        return time.time_ns() // 1000 + self.offset_ms * 1000

    def time_ms(self) -> int:
        return self.time_us() // 1000

    def monotonic(self) -> float:
        """Seconds for ages, windows and latency; not touched by the offset."""
        return time.monotonic()


class ManualClock(Clock):
    """A clock that moves only when told: for deterministic tests and tapes."""

    def __init__(self, start_ms: int = 1_700_000_000_000) -> None:
        super().__init__()
        self._us = start_ms * 1000

    def advance(self, seconds: float) -> None:
        self._us += int(seconds * 1_000_000)

    def time_us(self) -> int:
        return self._us + self.offset_ms * 1000

    def monotonic(self) -> float:
        return self._us / 1_000_000
