"""A request budget of our own: client libraries' throttles delay orders for nothing (reference figures: 250 ms each).

No stretch as long as a window ever holds more than its limit, wherever the exchange lets its own windows begin. An
order never waits for budget: it is refused at once, provably unsent. Questions wait.

What an exchange counts by address is one bucket for all accounts that leave by it, and so is the pause after a 429 or
418; what it counts by account is a bucket of the account. :mod:`trading.exchanges.addresses` hands the shared ones out.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Mapping
from typing import Literal, Protocol

import msgspec

from trading.ports import Clock

RESERVED_SECONDS = 5.0  # longer than an intent takes to be made durable
JITTER_SECONDS = 0.1  # requests sent further apart than a window may arrive within it
TINY = 1e-9  # sums of costs are floats

Counts = Literal["account", "address"]


class Window(msgspec.Struct, frozen=True):
    """``limit`` units in ``seconds``; ``kept`` of them are left to orders, questions may not take them.

    ``counts`` says what the exchange counts by: the account, or the address requests come from.
    """

    limit: float
    seconds: float
    kept: float = 0.0
    counts: Counts = "account"


class Slice(Protocol):
    """What this process may still take of a window it shares with other processes."""

    def wait(self, cost: float, *, keep: bool) -> float:
        """Return the seconds until ``cost`` may be taken, 0.0 for now."""

    def take(self, cost: float) -> None: ...


class Bucket:
    """One window that slides: what was taken of it counts for its whole length, what is held for a request that is yet
    to be sent counts until then. ``shared`` is asked too where other processes use the same address."""

    def __init__(self, window: Window, clock: Clock, shared: Slice | None = None) -> None:
        self.window = window
        self._clock = clock
        self._shared = shared
        self._length_ns = int((window.seconds + JITTER_SECONDS) * 1e9)
        self._taken: deque[tuple[int, float]] = deque()  # monotonic time and cost, oldest first
        self._sum = 0.0
        self._held = 0.0

    def wait(self, cost: float, *, keep: bool) -> float:
        """Return the seconds until ``cost`` may be taken; ``keep`` leaves what is kept for orders."""
        self._forget_old()
        missing = self._sum + self._held + cost + (self.window.kept if keep else 0.0) - self.window.limit
        own = self._until_free(missing) if missing > TINY else 0.0
        return own if self._shared is None else max(own, self._shared.wait(cost, keep=keep))

    def take(self, cost: float) -> None:
        """Take ``cost`` for a request that is sent now."""
        self._add(cost)
        if self._shared is not None:
            self._shared.take(cost)

    def hold(self, cost: float) -> None:
        """Set ``cost`` aside for a request that will be sent."""
        self._held += cost
        if self._shared is not None:
            self._shared.take(cost)

    def drop(self, cost: float, *, sent: bool) -> None:
        """Hold ``cost`` no longer: its request is sent now, or won't be."""
        self._held -= cost
        if sent:
            self._add(cost)

    def correct(self, used: float) -> None:
        """Take over the exchange's own count of what was used; others may use the same address."""
        self._forget_old()
        if used > self._sum:
            self._add(used - self._sum)

    def _add(self, cost: float) -> None:
        self._taken.append((self._clock.monotonic_ns(), cost))
        self._sum += cost

    def _forget_old(self) -> None:
        oldest = self._clock.monotonic_ns() - self._length_ns
        while self._taken and self._taken[0][0] <= oldest:
            self._sum -= self._taken.popleft()[1]
        if not self._taken:
            self._sum = 0.0  # sums of floats drift

    def _until_free(self, missing: float) -> float:
        now = self._clock.monotonic_ns()
        for at, cost in self._taken:
            missing -= cost
            if missing <= TINY:
                return (at + self._length_ns - now) / 1e9 + 1e-6
        return self.window.seconds


class Pause:
    """The time before which nothing is sent: the exchange said so."""

    def __init__(self, clock: Clock) -> None:
        self._clock = clock
        self._until_ns = 0

    def extend(self, seconds: float) -> None:
        self._until_ns = max(self._until_ns, self._clock.monotonic_ns() + int(seconds * 1e9))

    def left(self) -> float:
        """Return the seconds the pause still lasts."""
        return max(0.0, (self._until_ns - self._clock.monotonic_ns()) / 1e9)


class Budget:
    """What an account may send now, by the exchange's documented limits, corrected by what its answers report.

    ``shared`` are the buckets it has in common with other accounts, by window, and ``pause`` their common pause.
    """

    def __init__(
        self,
        windows: Mapping[str, Window],
        clock: Clock,
        *,
        shared: Mapping[str, Bucket] | None = None,
        pause: Pause | None = None,
    ) -> None:
        self._buckets = {name: Bucket(window, clock) for name, window in windows.items()} | dict(shared or {})
        self._clock = clock
        self._pause = pause or Pause(clock)
        self._reserved: dict[str, tuple[int, Mapping[str, float]]] = {}  # by name: monotonic time, costs; oldest first
        self.refused = 0

    def try_order(self, costs: Mapping[str, float]) -> float:
        """Take the cost of an order; return 0.0, or the seconds until it could be taken (then nothing is taken)."""
        wait = self._wait(costs, keep=False)
        if wait > 0:
            self.refused += 1
            return wait
        self._take(costs)
        return 0.0

    def reserve(self, name: str, costs: Mapping[str, float]) -> float:
        """Take the cost of an order that will be sent soon, as :meth:`try_order` does; once for each name."""
        self._forget_old()
        if name in self._reserved:
            return 0.0
        wait = self._wait(costs, keep=False)
        if wait > 0:
            self.refused += 1
            return wait
        for window, cost in costs.items():
            self._buckets[window].hold(cost)
        self._reserved[name] = (self._clock.monotonic_ns(), dict(costs))
        return 0.0

    def release(self, name: str) -> None:
        """Give back what was reserved under a name and not used."""
        self._forget_old()
        self._drop(self._reserved.pop(name, (0, {}))[1], sent=False)

    def use(self, name: str, costs: Mapping[str, float]) -> float:
        """Let an order go on what was reserved under its name, or take its cost now: 0.0, or the seconds to wait.

        An order doesn't go during a pause, whatever it had reserved before.
        """
        self._forget_old()
        if (paused := self._pause.left()) > 0:
            self.refused += 1
            return paused
        reserved = self._reserved.pop(name, None)
        if reserved is None:
            return self.try_order(costs)
        self._drop(reserved[1], sent=True)
        return 0.0

    async def wait_question(self, costs: Mapping[str, float], at_most: float | None = None) -> float:
        """Take the cost of a question, waiting for it: 0.0, or the seconds it would take beyond ``at_most`` seconds.

        A ban may last for days; who asks is better told so than left waiting.
        """
        waited = 0.0
        while (wait := self._wait(costs, keep=True)) > 0:
            if at_most is not None and waited + wait > at_most:
                return wait
            await self._clock.sleep(wait)
            waited += wait
        self._take(costs)
        return 0.0

    def pause(self, seconds: float) -> None:
        """Send nothing for so long: the exchange said so (429, 418)."""
        self._pause.extend(seconds)

    def correct(self, name: str, used: float) -> None:
        """Take over the exchange's own count of what was used of a window."""
        bucket = self._buckets.get(name)
        if bucket is not None:
            bucket.correct(used)

    def _forget_old(self) -> None:
        """Drop reservations that have aged: whoever made them has died or changed its mind."""
        oldest = self._clock.monotonic_ns() - int(RESERVED_SECONDS * 1e9)
        while self._reserved:
            name, (at, costs) = next(iter(self._reserved.items()))
            if at >= oldest:
                return
            del self._reserved[name]
            self._drop(costs, sent=False)

    def _wait(self, costs: Mapping[str, float], *, keep: bool) -> float:
        return max((self._pause.left(), *(self._buckets[name].wait(cost, keep=keep) for name, cost in costs.items())))

    def _take(self, costs: Mapping[str, float]) -> None:
        for name, cost in costs.items():
            self._buckets[name].take(cost)

    def _drop(self, costs: Mapping[str, float], *, sent: bool) -> None:
        for name, cost in costs.items():
            self._buckets[name].drop(cost, sent=sent)
