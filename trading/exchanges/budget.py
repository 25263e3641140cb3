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
        self._limit = window.limit
        self._clock = clock
        self._shared = shared
        self._length_ns = int((window.seconds + JITTER_SECONDS) * 1e9)
        self._taken: deque[tuple[int, float]] = deque()  # monotonic time and cost, oldest first
        self._sum = 0.0
        self._held = 0.0

    def wait(self, cost: float, *, keep: bool) -> float:
        """Return the seconds until ``cost`` may be taken; ``keep`` leaves what is kept for orders."""
        wanted = self._held + cost + (self.window.kept if keep else 0.0) - self._limit
        own = 0.0
        if self._sum + wanted > TINY:  # what is old by now is in the sum until somebody wants its place
            self._forget_old()
            own = self._until_free(self._sum + wanted)
        return own if self._shared is None else max(own, self._shared.wait(cost, keep=keep))

    def take(self, cost: float, now_ns: int) -> None:
        """Take ``cost`` for a request that is sent now."""
        self._taken.append((now_ns, cost))
        self._sum += cost
        if self._shared is not None:
            self._shared.take(cost)

    def hold(self, cost: float) -> None:
        """Set ``cost`` aside for a request that will be sent."""
        self._held += cost
        if self._shared is not None:
            self._shared.take(cost)

    def drop(self, cost: float) -> None:
        """Hold ``cost`` no longer: its request won't be sent."""
        self._held -= cost

    def use(self, cost: float, now_ns: int) -> None:
        """Take ``cost`` that was held, for a request that is sent now."""
        self._held -= cost
        self._taken.append((now_ns, cost))
        self._sum += cost

    def correct(self, used: float) -> None:
        """Take over the exchange's own count of what was used; others may use the same address."""
        self._forget_old()
        if used > self._sum:
            self._taken.append((self._clock.monotonic_ns(), used - self._sum))
            self._sum = used

    def _forget_old(self) -> None:
        oldest = self._clock.monotonic_ns() - self._length_ns
        while self._taken and self._taken[0][0] <= oldest:
            self._sum -= self._taken.popleft()[1]
        if not self._taken:
            self._sum = 0.0  # sums of floats drift

    def _until_free(self, missing: float) -> float:
        if missing <= TINY:
            return 0.0
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
        self.until_ns = 0  # monotonic

    def extend(self, seconds: float) -> None:
        self.until_ns = max(self.until_ns, self._clock.monotonic_ns() + int(seconds * 1e9))

    def left(self) -> float:
        """Return the seconds the pause still lasts."""
        return max(0.0, (self.until_ns - self._clock.monotonic_ns()) / 1e9)


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
        return self._try_now(costs, self._clock.monotonic_ns())

    @property
    def has_reserved(self) -> bool:
        """Whether orders are to be sent whose cost is reserved."""
        return bool(self._reserved)

    def reserve(self, name: str, costs: Mapping[str, float]) -> float:
        """Take the cost of an order that will be sent soon, as :meth:`try_order` does; once for each name."""
        now = self._clock.monotonic_ns()
        self._forget_old(now)
        if name in self._reserved:
            return 0.0
        wait = self._wait(costs, keep=False)
        if wait > 0:
            self.refused += 1
            return wait
        for window, cost in costs.items():
            self._buckets[window].hold(cost)
        self._reserved[name] = (now, dict(costs))
        return 0.0

    def release(self, name: str) -> None:
        """Give back what was reserved under a name and not used."""
        self._forget_old(self._clock.monotonic_ns())
        self._drop(self._reserved.pop(name, (0, {}))[1])

    def use(self, name: str, costs: Mapping[str, float]) -> float:
        """Let an order go on what was reserved under its name, or take its cost now: 0.0, or the seconds to wait.

        An order doesn't go during a pause, whatever it had reserved before.
        """
        now = self._clock.monotonic_ns()
        if self._reserved:
            self._forget_old(now)
        if name not in self._reserved:
            return self._try_now(costs, now)
        if self._pause.until_ns > now:
            self.refused += 1
            return self._pause.left()
        for window, cost in self._reserved.pop(name)[1].items():
            self._buckets[window].use(cost, now)
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
        self._take(costs, self._clock.monotonic_ns())
        return 0.0

    def pause(self, seconds: float) -> None:
        """Send nothing for so long: the exchange said so (429, 418)."""
        self._pause.extend(seconds)

    def note(self, costs: Mapping[str, float]) -> None:
        """Count what was sent without asking first."""
        known = {name: cost for name, cost in costs.items() if name in self._buckets}
        self._take(known, self._clock.monotonic_ns())

    def correct(self, name: str, used: float) -> None:
        """Take over the exchange's own count of what was used of a window."""
        bucket = self._buckets.get(name)
        if bucket is not None:
            bucket.correct(used)

    def _forget_old(self, now_ns: int) -> None:
        """Drop reservations that have aged: whoever made them has died or changed its mind."""
        oldest = now_ns - int(RESERVED_SECONDS * 1e9)
        while self._reserved:
            name, (at, costs) = next(iter(self._reserved.items()))
            if at >= oldest:
                return
            del self._reserved[name]
            self._drop(costs)

    def _try_now(self, costs: Mapping[str, float], now_ns: int) -> float:
        wait = (self._pause.until_ns - now_ns) / 1e9
        for window, cost in costs.items():
            if (own := self._buckets[window].wait(cost, keep=False)) > wait:
                wait = own
        if wait > 0:
            self.refused += 1
            return wait
        for window, cost in costs.items():
            self._buckets[window].take(cost, now_ns)
        return 0.0

    def _wait(self, costs: Mapping[str, float], *, keep: bool) -> float:
        return max((self._pause.left(), *(self._buckets[name].wait(cost, keep=keep) for name, cost in costs.items())))

    def _take(self, costs: Mapping[str, float], now_ns: int) -> None:
        for name, cost in costs.items():
            self._buckets[name].take(cost, now_ns)

    def _drop(self, costs: Mapping[str, float]) -> None:
        for name, cost in costs.items():
            self._buckets[name].drop(cost)
