"""The real clock. The only file in trading that asks the machine for the time."""

from __future__ import annotations

import asyncio
import time

# A machine that is suspended (a laptop's lid, a virtual machine moved elsewhere) stops CLOCK_MONOTONIC: after it wakes,
# books would seem young and a lease held that ran out meanwhile. CLOCK_BOOTTIME is the same clock with that time in it.
# Neither stands still while a process is stopped by a signal. Where there is none, suspending is not noticed.
_STEADY = getattr(time, "CLOCK_BOOTTIME", time.CLOCK_MONOTONIC)


class SystemClock:
    """Clock port on the machine's clocks and the running event loop."""

    def monotonic_ns(self) -> int:
        return time.clock_gettime_ns(_STEADY)

    def time_ns(self) -> int:
        return time.time_ns()

    async def sleep(self, seconds: float) -> None:
        await asyncio.sleep(seconds)
