"""How much a price moves now: an exponentially weighted volatility from the stream of trades."""

from __future__ import annotations

import math

from risk.policy.numbers import BPS, require

NS = 1_000_000_000
# A trade this many half-lives after the last sample finds 0.1 % of the weight left: nothing to build on.
GAP_HALF_LIVES = 10


class Ewma:
    """Volatility of one market in basis points per square root of a second.

    Squared log returns and the seconds they took are both summed with weights that halve every ``half_life_s``:

        S <- S d + r^2,   T <- T d + dt,   d = 0.5 ** (dt / half_life),   sigma = sqrt(S / T)

    For trades at even distances this is RiskMetrics' EWMA (J.P. Morgan, Technical Document, 4th ed. 1996, 5.2) with
    lambda = d; the sum of times in place of a count makes it hold for uneven ones, as variance grows with time.

    Worked: half-life 1 s, returns of 3 and then 4 bps, a second each. S = 9 x 0.5 + 16 = 20.5, T = 0.5 + 1 = 1.5,
    sigma = sqrt(13.667) = 3.697 bps.

    Parameters
    ----------
    half_life_s
        Seconds after which a return weighs half.
    sample_s
        Shortest time a return is taken over; trades in between are passed over. From trade to trade prices bounce
        between bid and ask, which is no movement but counts as one (Roll 1984), the more the finer the sampling.
    min_samples
        Returns before there is an estimate.
    clamp_sigmas, free_bps
        A return is cut to ``clamp_sigmas`` times what the estimate expects of its time, and never below ``free_bps``.
        The reference price moves by the cut return: a wrong print costs two cut returns, a real jump is caught up
        with in a few samples.

    A first print that is wrong leaves the estimate too high for some half-lives: the cautious side.
    """

    __slots__ = (
        "_at_ns", "_clamp_sigmas", "_free_bps", "_gap_ns", "_half_life_ns", "_log_bps", "_min_samples", "_sample_ns",
        "_samples", "_squares", "_times",
    )  # fmt: skip

    def __init__(
        self,
        *,
        half_life_s: float = 60.0,
        sample_s: float = 1.0,
        min_samples: int = 30,
        clamp_sigmas: float = 8.0,
        free_bps: float = 5.0,
    ) -> None:
        require("half_life_s", half_life_s, 0.1, 86400.0)
        require("sample_s", sample_s, 0.001, half_life_s)
        require("min_samples", min_samples, 1, 100_000)
        require("clamp_sigmas", clamp_sigmas, 1.0, 1000.0)
        require("free_bps", free_bps, 0.01, 10_000.0)
        self._half_life_ns = half_life_s * NS
        self._sample_ns = int(sample_s * NS)
        self._gap_ns = int(GAP_HALF_LIVES * half_life_s * NS)
        self._min_samples = min_samples
        self._clamp_sigmas = clamp_sigmas
        self._free_bps = free_bps
        self._at_ns: int | None = None
        self._log_bps = 0.0
        self._samples = 0
        self._squares = 0.0
        self._times = 0.0

    def on_trade(self, price: float, at_ns: int) -> None:
        """Take in one trade; ``at_ns`` in nanoseconds of any one clock.

        Passed over: a price that is not a positive finite number, and a trade out of order. One that is out of order
        by more than the gap shows that the clock was wrong, and starts the estimate anew, as a long silence does.
        """
        if not 0.0 < price < math.inf:
            return
        if self._at_ns is None:
            self._restart(price, at_ns)
            return
        elapsed = at_ns - self._at_ns
        if elapsed < self._sample_ns:
            if elapsed < -self._gap_ns:
                self._restart(price, at_ns)
            return
        if elapsed > self._gap_ns:
            self._restart(price, at_ns)
            return
        seconds = elapsed / NS
        # Logarithms are subtracted, as the quotient of two extreme prices would overflow.
        move = math.log(price) * BPS - self._log_bps
        most = self._free_bps
        if abs(move) > most:
            if self._times:
                most = max(most, self._clamp_sigmas * math.sqrt(self._squares / self._times * seconds))
            move = min(max(move, -most), most)
        decay = 0.5 ** (elapsed / self._half_life_ns)
        self._squares = self._squares * decay + move * move
        self._times = self._times * decay + seconds
        self._log_bps += move
        self._at_ns = at_ns
        self._samples += 1

    def sigma(self, now_ns: int | None = None) -> float | None:
        """Return basis points per square root of a second, or None while nothing can be said.

        That is before ``min_samples`` returns, and, if ``now_ns`` is given on the clock of the trades, when the last
        one is longer ago than the gap.
        """
        if self._at_ns is None or self._samples < self._min_samples:
            return None
        if now_ns is not None and now_ns - self._at_ns > self._gap_ns:
            return None
        return math.sqrt(self._squares / self._times)

    def _restart(self, price: float, at_ns: int) -> None:
        self._at_ns = at_ns
        self._log_bps = math.log(price) * BPS
        self._samples = 0
        self._squares = self._times = 0.0
