"""Rate limits: counting windows, and the ban of who goes on after being told to stop."""

from __future__ import annotations

from dataclasses import dataclass

from exchangesim.core.clock import Clock


@dataclass(frozen=True, slots=True)
class Spent:
    """The state of one window after a request."""

    allowed: bool
    used: int
    limit: int
    retry_after: float
    """Seconds until the window starts anew."""


class Window:
    """One documented limit: at most ``limit`` units per ``seconds``, counted per key (an address, an account).

    ``aligned`` windows start at multiples of their length on the exchange's clock, as Binance's do; others start with
    a key's first request.
    """

    def __init__(self, clock: Clock, *, limit: int, seconds: float, aligned: bool = True) -> None:
        self.limit, self.seconds, self.aligned = limit, seconds, aligned
        self._clock = clock
        self._windows: dict[str, tuple[float, int]] = {}

    def spend(self, key: str, amount: int = 1) -> Spent:
        """Count ``amount`` for ``key``. What is over the limit is counted too, as exchanges do."""
        now = self._clock.time_us() / 1e6
        start, used = self._windows.get(key, (float("-inf"), 0))
        if now - start >= self.seconds or now < start:
            start, used = (now - now % self.seconds if self.aligned else now), 0
            if len(self._windows) > 10_000:
                self._windows = {k: w for k, w in self._windows.items() if now - w[0] < self.seconds}
        used += amount
        self._windows[key] = (start, used)
        return Spent(used <= self.limit, used, self.limit, max(0.0, start + self.seconds - now))

    def used(self, key: str) -> int:
        return self.spend(key, 0).used


class Bans:
    """Bans an address that keeps sending after it was refused: longer each time, up to ``longest`` seconds."""

    def __init__(self, clock: Clock, *, tolerated: int, first: float, longest: float) -> None:
        self._clock, self._tolerated, self._first, self._longest = clock, tolerated, first, longest
        self._refused: dict[str, int] = {}
        self._until: dict[str, float] = {}
        self._times: dict[str, int] = {}

    def until(self, key: str) -> float | None:
        """Return when the key's ban ends (Unix seconds), or None when it is not banned."""
        until = self._until.get(key)
        if until is None or until <= self._clock.time_us() / 1e6:
            self._until.pop(key, None)
            return None
        return until

    def refuse(self, key: str) -> None:
        """Note a refusal; one more than tolerated in a row is a ban."""
        self._refused[key] = self._refused.get(key, 0) + 1
        if self._refused[key] > self._tolerated:
            times = self._times[key] = self._times.get(key, 0) + 1
            length = min(self._first * 2 ** (times - 1), self._longest)
            self._until[key] = self._clock.time_us() / 1e6 + length
            self._refused[key] = 0

    def allow(self, key: str) -> None:
        self._refused.pop(key, None)
