"""One address, many processes: how much of a window that an exchange counts by address this process may use.

An order must not wait for a round trip to a counter, so nothing is asked when it is sent. A process takes a slice of
the window in advance, in the background, and spends it without asking; what is left of a slice lapses with the window's
period, so a process that dies takes nothing with it for long. All slices of a period together never exceed the window.

The price: idle processes hold slices nobody uses. A slice is a twentieth of the window, so it takes many of them.

While the counter is away every process goes by its own budget alone, which is what it would do without a counter, and
says so once.
"""

from __future__ import annotations

import logging
from collections.abc import Iterable
from typing import Protocol

from trading.exchanges.budget import Pause, Window
from trading.execution.waiting import Signal
from trading.ports import Clock

logger = logging.getLogger(__name__)

SLICES = 20  # of a window: what is taken at once is this part of it
LEAST_SLICE = 4.0  # but enough for some orders where the window is small
LOOK_SECONDS = 0.25  # how often slices are looked after, and other processes' pauses learnt
AWAY_SECONDS = 2.0  # between attempts to reach a counter that is away
SOON_SECONDS = 0.05  # until a slice that is asked for may be there
REMEMBERED_PAUSE_SECONDS = 1.0  # a pause this close to what is known is the same one


class CounterAway(Exception):
    """The counter can't be reached now."""


class SharedCounter(Protocol):
    """Counts what all processes take, by key and period. Every method raises CounterAway when it can't be reached."""

    async def take(self, key: str, period: int, amount: float, limit: float, seconds: float) -> float:
        """Take ``amount`` of what is left of ``limit`` in a period of ``seconds``; return what was had of it."""

    async def pause(self, key: str, seconds: float) -> None:
        """Tell everybody who asks that nothing may be sent for so long."""

    async def paused(self, key: str) -> float:
        """Return the seconds for which nothing may be sent."""


class LocalCounter:
    """A SharedCounter within one process."""

    def __init__(self, clock: Clock) -> None:
        self._clock = clock
        self._taken: dict[tuple[str, int], float] = {}
        self._pauses: dict[str, Pause] = {}

    async def take(self, key: str, period: int, amount: float, limit: float, seconds: float) -> float:
        taken = self._taken.get((key, period), 0.0)
        had = max(0.0, min(amount, limit - taken))
        self._taken = {
            known: value for known, value in self._taken.items() if known[0] != key or known[1] >= period - 1
        }
        self._taken[key, period] = taken + had
        return had

    async def pause(self, key: str, seconds: float) -> None:
        self._pauses.setdefault(key, Pause(self._clock)).extend(seconds)

    async def paused(self, key: str) -> float:
        known = self._pauses.get(key)
        return 0.0 if known is None else known.left()


class WindowSlice:
    """This process's part of one window: what it holds of the present period and of the next."""

    def __init__(self, key: str, window: Window, clock: Clock, wake: Signal) -> None:
        self.key = key
        self.window = window
        self.active = False  # False: the counter is away, so the process's own budget alone decides
        self._clock = clock
        self._wake = wake
        self._held: dict[int, float] = {}
        self._wanted = 0.0
        self._slice = min(window.limit, max(window.limit / SLICES, LEAST_SLICE))
        # Questions leave this of what is held to orders: an order finds a slice though the window is used up.
        self._kept = min(window.kept, self._slice / 2)
        self._exhausted = -1  # the period of which nothing was left

    def wait(self, cost: float, *, keep: bool) -> float:
        if not self.active:
            return 0.0
        period, left = self._now()
        held = self._held.get(period, 0.0)
        wanted = cost + (self._kept if keep else 0.0)
        if held >= wanted:
            return 0.0
        self._wanted = max(self._wanted, wanted)
        self._wake.notify()
        return left if self._exhausted == period else min(left, SOON_SECONDS)

    def take(self, cost: float) -> None:
        period, _ = self._now()
        # What is given back may be of a period that is over: it lapses rather than being spent twice.
        if period in self._held and cost > 0:
            self._held[period] -= cost
            if self._held[period] < self._slice / 2:
                self._wake.notify()

    async def fill(self, counter: SharedCounter) -> None:
        """Take slices so that half a one is at hand, and one of the next period before it begins."""
        period, left = self._now()
        self._held = {known: held for known, held in self._held.items() if known >= period}
        await self._top_up(counter, period, max(self._slice / 2, self._wanted))
        if left < max(2 * LOOK_SECONDS, self.window.seconds / 4):
            await self._top_up(counter, period + 1, self._slice / 2)
        self._wanted = 0.0
        self.active = True

    async def _top_up(self, counter: SharedCounter, period: int, least: float) -> None:
        held = self._held.get(period, 0.0)
        if held >= least or self._exhausted == period:
            return
        amount = max(self._slice, least - held)
        had = await counter.take(self.key, period, amount, self.window.limit, self.window.seconds)
        self._held[period] = self._held.get(period, 0.0) + had
        if had < amount:
            self._exhausted = period

    def _now(self) -> tuple[int, float]:
        """Return the present period's number and the seconds until it ends, by the wall clock, which all share."""
        length_ns = int(self.window.seconds * 1e9)
        now = self._clock.time_ns()
        return now // length_ns, (length_ns - now % length_ns) / 1e9


class Shares:
    """Keeps the slices of one exchange and address filled, and its pause common to all processes."""

    def __init__(self, key: str, counter: SharedCounter, clock: Clock, pause: Pause) -> None:
        self._key = key
        self._counter = counter
        self._clock = clock
        self._pause = pause
        self._wake = Signal()
        self._slices: list[WindowSlice] = []
        self._away = False
        self._told_until_ns = 0

    def slice_of(self, name: str, window: Window) -> WindowSlice:
        """Return this process's part of a window; it is filled from now on."""
        made = WindowSlice(f"{self._key}:{name}", window, self._clock, self._wake)
        self._slices.append(made)
        self._wake.notify()
        return made

    async def run(self) -> None:
        """Look after the slices until cancelled."""
        while True:
            if await self._look():
                await self._wake.wait(self._clock, LOOK_SECONDS)
            else:
                await self._clock.sleep(AWAY_SECONDS)

    async def _look(self) -> bool:
        """Fill what needs it; return whether the counter was reached."""
        try:
            await self._share_pause()
            for one in list(self._slices):
                await one.fill(self._counter)
        except CounterAway as problem:
            self._deactivate(self._slices)
            if not self._away:
                logger.warning(
                    "%s: request limits are this process's own while the counter is away: %s", self._key, problem
                )
            self._away = True
            return False
        if self._away:
            logger.info("%s: request limits are shared with other processes again", self._key)
            self._away = False
        return True

    async def _share_pause(self) -> None:
        theirs = await self._counter.paused(self._key)
        ours = self._pause.left()
        if ours > theirs + REMEMBERED_PAUSE_SECONDS:
            await self._counter.pause(self._key, ours)
        elif theirs > ours:
            self._pause.extend(theirs)

    @staticmethod
    def _deactivate(slices: Iterable[WindowSlice]) -> None:
        for one in slices:
            one.active = False
