"""Keeps an engine whose event loop stands still now and then from new trades, until it keeps time again.

What such a loop decides, it decides on books of a while ago, and its second leg may leave long after its first. A
machine short of processor time or memory shows itself here before anything else fails.
"""

from __future__ import annotations

from collections.abc import Callable

from trading.ports import Clock

TICK_SECONDS = 0.5
# A quarter of the time a decision may wait before it is sent: a leg that leaves so much later meets another market.
MAX_LAG_SECONDS = 0.5
STEADY_TICKS = 4  # in time, one after the other, before it counts as keeping time again


class LoopLag:
    """Measures by how much the loop oversleeps; ``on_change`` is called when :meth:`fault` has changed."""

    def __init__(self, clock: Clock, on_change: Callable[[], None], max_lag_seconds: float = MAX_LAG_SECONDS) -> None:
        self._clock = clock
        self._on_change = on_change
        self._limit_ns = int(max_lag_seconds * 1e9)
        self._due_ns = 0  # when the next tick should come; 0 while nobody measures
        self._late_ns = 0  # by how much the last late one was
        self._steady = STEADY_TICKS
        self.late_ticks = 0

    def fault(self) -> str:
        """Return why no new trade is begun as far as the loop goes, or an empty string; cheap, for every decision.

        A tick that is overdue counts at once: after a standstill, other callbacks may come before it.
        """
        if not self._due_ns:
            return ""
        overdue_ns = self._clock.monotonic_ns() - self._due_ns
        if overdue_ns <= self._limit_ns and self._steady >= STEADY_TICKS:
            return ""
        lag = max(overdue_ns, self._late_ns) / 1e9
        return (
            f"the engine stood still for {lag:.1f} s (at most {self._limit_ns / 1e9:.1f} s): its machine is short of "
            f"processor time or memory; it trades again once it has kept time for "
            f"{STEADY_TICKS * TICK_SECONDS:.0f} s"
        )

    async def run(self) -> None:
        """Measure until cancelled."""
        try:
            while True:
                self._due_ns = self._clock.monotonic_ns() + int(TICK_SECONDS * 1e9)
                await self._clock.sleep(TICK_SECONDS)
                self._tick()
        finally:
            self._due_ns = 0

    def _tick(self) -> None:
        late_ns = self._clock.monotonic_ns() - self._due_ns
        before = self._steady
        if late_ns > self._limit_ns:
            self._late_ns, self._steady = late_ns, 0
            self.late_ticks += 1
        else:
            self._steady = min(self._steady + 1, STEADY_TICKS)
        if (before >= STEADY_TICKS) != (self._steady >= STEADY_TICKS):
            self._on_change()
