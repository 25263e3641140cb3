"""What one market is like lately: how much its price moves, how much is traded, how wide it usually quotes."""

from __future__ import annotations

import math

from risk.policy.volatility import Ewma
from trading.instruments import Market

NS = 1_000_000_000
DAY_SECONDS = 86_400.0
SPREAD_EVERY_NS = NS  # a spread is sampled at most so often: what is usual does not change within a second
LEAST_SECONDS = 60.0  # of trades or spreads before anything is said of them


class Decayed:
    """A sum whose parts weigh half after ``half_life_s``, and the time it was gathered in, weighed alike.

    Worked: half-life 60 s, 4 at once, 6 after a minute: (4 x 0.5 + 6) / (0 x 0.5 + 60) = 0.1333 a second.
    """

    __slots__ = ("_at_ns", "_half_life_ns", "_sum", "seconds")

    def __init__(self, half_life_s: float) -> None:
        self._half_life_ns = half_life_s * NS
        self._at_ns: int | None = None
        self._sum = 0.0
        self.seconds = 0.0

    def add(self, amount: float, at_ns: int) -> None:
        """Add what came at a (monotonic) moment; what is no finite number of 0 or more is left out."""
        if not 0.0 <= amount < math.inf:
            return
        elapsed = 0 if self._at_ns is None else max(at_ns - self._at_ns, 0)
        decay = 0.5 ** (elapsed / self._half_life_ns)
        self._sum = self._sum * decay + amount
        self.seconds = self.seconds * decay + elapsed / NS
        self._at_ns = at_ns

    def rate(self, now_ns: int) -> float | None:
        """Return the amount a second, None before LEAST_SECONDS of it."""
        if self._at_ns is None:
            return None
        elapsed = max(now_ns - self._at_ns, 0)
        decay = 0.5 ** (elapsed / self._half_life_ns)
        seconds = self.seconds * decay + elapsed / NS
        return self._sum * decay / seconds if seconds >= LEAST_SECONDS else None


class Climate:
    """Of one market; fed by the hub, read by every engine of the process. Times are monotonic."""

    __slots__ = ("_contract_size", "_inverse", "_spread_at_ns", "_spreads", "_volume", "volatility")

    def __init__(self, market: Market) -> None:
        self._contract_size = float(market.contract_size)
        self._inverse = market.kind == "inverse"
        self.volatility = Ewma()
        self._volume = Decayed(1800.0)
        self._spreads = Decayed(600.0)
        self._spread_at_ns: int | None = None

    def on_trade(self, price: float, size: float, now_ns: int) -> None:
        """Take in a public trade; ``size`` in the market's own unit."""
        self.volatility.on_trade(price, now_ns)
        value = self._contract_size * size
        self._volume.add(value if self._inverse else value * price, now_ns)

    def on_top(self, bid: float, ask: float, now_ns: int) -> None:
        """Take in best prices, at most one pair a second."""
        before = self._spread_at_ns
        if before is not None and now_ns - before < SPREAD_EVERY_NS:
            return
        if not 0.0 < bid < ask < math.inf:
            return
        self._spread_at_ns = now_ns
        stood = 0.0 if before is None else (now_ns - before) / NS
        self._spreads.add((ask - bid) / bid * 1e4 * stood, now_ns)

    def sigma(self, now_ns: int) -> float | None:
        """Return the volatility in basis points per square root of a second, None while it is not known."""
        return self.volatility.sigma(now_ns)

    def volume_a_day(self, now_ns: int) -> float | None:
        """Return what is traded in 24 hours at the present pace, in quote; None while it is not known."""
        rate = self._volume.rate(now_ns)
        return None if rate is None else rate * DAY_SECONDS

    def usual_spread_bps(self, now_ns: int) -> float | None:
        """Return the spread averaged over time, None while it is not known."""
        return self._spreads.rate(now_ns)
