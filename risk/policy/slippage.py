"""Slippage before a trade: what walking both books, the time in flight and the trade's own impact will cost.

Levels are sequences of (price, base quantity) from the best price outwards, floats. Figures are basis points of the
notional, both legs together, and costs are positive. Where a figure is broken or a book holds less than the size there
is no estimate, and no size.
"""

from __future__ import annotations

import math
from collections.abc import Sequence

import msgspec

from risk.policy.numbers import BPS, require
from risk.policy.verdict import Verdict

Levels = Sequence[tuple[float, float]]

# Inside a level the root is approached from below, doubling at worst: twenty steps from a start that is near already.
NEWTON_STEPS = 20
CLOSE = 1e-12


class SlippageRules(msgspec.Struct, frozen=True, kw_only=True):
    """What slippage is expected, allowed and learned from; ValueError names the setting that is out of range.

    Attributes
    ----------
    share_of_profit
        Share of the expected profit that slippage may take.
    cap_bps
        The most slippage allowed, whatever the profit.
    drift_sigmas
        Standard deviations of the price's move in flight that are charged. A normal move's mean size is
        sqrt(2 / pi) = 0.8 of them, the default.
    unknown_sigma_bps
        Volatility per root second assumed while it is not measured; 2 is 112 % a year.
    impact_coefficient
        Basis points that taking everything visible on one book would cost beyond the walk.
    min_sample
        Legs below which nothing is learned from realised slippage.
    edge_floor_bps, edge_cap_bps
        Bounds of the edge demanded on top because of realised slippage.
    threshold_floor
        Smallest factor realised slippage may put on the allowed slippage.
    """

    share_of_profit: float = 0.5
    cap_bps: float = 10.0
    drift_sigmas: float = 0.8
    unknown_sigma_bps: float = 2.0
    impact_coefficient: float = 1.0
    min_sample: int = 30
    edge_floor_bps: float = 0.0
    edge_cap_bps: float = 20.0
    threshold_floor: float = 0.25

    def __post_init__(self) -> None:
        require("share_of_profit", self.share_of_profit, 0.0, 1.0)
        require("cap_bps", self.cap_bps, 0.0, 1000.0)
        require("drift_sigmas", self.drift_sigmas, 0.0, 10.0)
        require("unknown_sigma_bps", self.unknown_sigma_bps, 0.0, 1000.0)
        require("impact_coefficient", self.impact_coefficient, 0.0, 1000.0)
        require("min_sample", self.min_sample, 1, 1_000_000)
        require("edge_floor_bps", self.edge_floor_bps, 0.0, 1000.0)
        require("edge_cap_bps", self.edge_cap_bps, 0.0, 1000.0)
        if self.edge_floor_bps > self.edge_cap_bps:
            raise ValueError(f"edge_floor_bps is {self.edge_floor_bps}, above edge_cap_bps of {self.edge_cap_bps}.")
        require("threshold_floor", self.threshold_floor, 0.0, 1.0)


class SlippageEstimate(msgspec.Struct, frozen=True, gc=False):
    """Expected slippage of both legs in basis points: by the walk, by drift in flight, by impact."""

    walk_bps: float
    drift_bps: float
    impact_bps: float
    total_bps: float

    @property
    def charge_bps(self) -> float:
        """What to take off a net edge that is made of VWAPs, and so has paid for the walk."""
        return self.drift_bps + self.impact_bps


def expected(
    levels_buy: Levels,
    levels_sell: Levels,
    size: float,
    *,
    latency_s_buy: float,
    latency_s_sell: float,
    sigma: float | None,
    rules: SlippageRules,
) -> SlippageEstimate | None:
    """Estimate the slippage of buying and selling ``size`` base units; None where that can't be done.

    - walk: the VWAP's distance from the best price.
    - drift: ``drift_sigmas`` x sigma x sqrt(latency), a move's size growing with the root of time (Bachelier 1900).
      Both legs' are added: prices that differ move towards each other, against both.
    - impact: ``impact_coefficient`` x sqrt(size / visible), the square-root law (Torre 1997; Almgren et al. 2005
      measured an exponent of 0.6). The law has volatility and daily volume for its scale; the book's visible
      quantity and the coefficient stand for them here, as those are known at every evaluation.

    Worked: asks 1 at 100 and 3 at 101, bids 4 at 110, a size of 2, 40 and 90 ms, 2 bps per root second, the default
    rules. VWAP 100.5: walk 50 + 0. Drift 0.8 x 2 x (0.2 + 0.3) = 0.8. Impact 2 x sqrt(2 / 4) = 1.4142. Total 52.2142.
    """
    if not 0.0 < size < math.inf:
        return None
    drift = _drift(latency_s_buy, latency_s_sell, sigma, rules)
    buy, sell = _walk(levels_buy, size), _walk(levels_sell, size)
    if drift is None or buy is None or sell is None:
        return None
    walk = buy[0] + sell[0]
    impact = rules.impact_coefficient * (math.sqrt(size / buy[1]) + math.sqrt(size / sell[1]))
    total = walk + drift + impact
    return SlippageEstimate(walk, drift, impact, total) if total < math.inf else None


def threshold_bps(expected_profit_bps: float, rules: SlippageRules, factor: float = 1.0) -> float:
    """Return the slippage allowed: a share of the expected profit, never above the cap, times a learned factor.

    Worked: 30 bps of profit, a share of 0.5, a cap of 10: min(10, 15) = 10; with a factor of 0.5: 5.
    """
    if not (0.0 < expected_profit_bps < math.inf and 0.0 < factor <= 1.0):
        return 0.0
    return min(rules.cap_bps, rules.share_of_profit * expected_profit_bps) * factor


def largest_size(
    levels_buy: Levels,
    levels_sell: Levels,
    wanted: float,
    *,
    latency_s_buy: float,
    latency_s_sell: float,
    sigma: float | None,
    rules: SlippageRules,
    limit_bps: float,
) -> float:
    """Return the largest size up to ``wanted`` whose expected slippage is within ``limit_bps``, to rounding; else 0.

    Slippage grows with the size, so both books are walked level by level to the piece where it passes the limit. There
    it is a - k / q + c sqrt(q), concave and rising: Newton's steps from the left never pass the root, and what they
    reach is within the limit whenever they end.

    Worked, without drift and impact: asks 1 at 100 and 3 at 101, bids 4 at 110, a limit of 50 bps. The VWAP may be
    100.5, so 100 + 101 (q - 1) = 100.5 q: q = 2.
    """
    drift = _drift(latency_s_buy, latency_s_sell, sigma, rules)
    if drift is None or not (0.0 < wanted < math.inf and drift <= limit_bps < math.inf):
        return 0.0
    visible_buy, visible_sell = _visible(levels_buy), _visible(levels_sell)
    if not (0.0 < visible_buy < math.inf and 0.0 < visible_sell < math.inf):
        return 0.0
    impact = rules.impact_coefficient * (1.0 / math.sqrt(visible_buy) + 1.0 / math.sqrt(visible_sell))
    buy, sell = _Side(levels_buy), _Side(levels_sell)
    if not (buy.advance() and sell.advance()):
        return 0.0
    flat, pull, low = drift - limit_bps, 0.0, 0.0
    while True:
        high = min(buy.reached, sell.reached, wanted)
        if high > low:
            if not flat - pull / high + impact * math.sqrt(high) <= 0.0:
                return _root(low, high, flat, pull, impact)
            low = high
        if high >= wanted:
            return wanted
        for side in (buy, sell):
            if side.reached <= high:
                if not side.advance():
                    return low
                flat += side.step
                # So that the sum goes on without a jump where the level begins.
                pull += side.step * high


def judge(
    levels_buy: Levels,
    levels_sell: Levels,
    wanted: float,
    *,
    latency_s_buy: float,
    latency_s_sell: float,
    sigma: float | None,
    rules: SlippageRules,
    expected_profit_bps: float,
    factor: float = 1.0,
) -> Verdict:
    """Allow ``wanted`` base units, or the share of them whose slippage is within the threshold, or refuse.

    ``factor`` is what realised slippage has taught, see :func:`risk.policy.realised.learned`.
    """
    limit = threshold_bps(expected_profit_bps, rules, factor)
    estimate = expected(
        levels_buy, levels_sell, wanted,
        latency_s_buy=latency_s_buy, latency_s_sell=latency_s_sell, sigma=sigma, rules=rules,
    )  # fmt: skip
    figures: dict[str, float | int | str] = {"slippage_limit_bps": limit}
    if estimate is not None:
        figures |= {
            "slippage_bps": estimate.total_bps,
            "walk_bps": estimate.walk_bps,
            "drift_bps": estimate.drift_bps,
            "impact_bps": estimate.impact_bps,
        }
        if estimate.total_bps <= limit:
            return Verdict(allowed=True, figures=figures)
    size = largest_size(
        levels_buy, levels_sell, wanted,
        latency_s_buy=latency_s_buy, latency_s_sell=latency_s_sell, sigma=sigma, rules=rules, limit_bps=limit,
    )  # fmt: skip
    given = "can't be estimated" if estimate is None else f"is {estimate.total_bps:.2f} bps"
    said = f"The expected slippage of {wanted:g} {given}; at most {limit:.2f} bps are allowed"
    share = min(size / wanted, 1.0) if size else 0.0
    if not share:
        return Verdict(allowed=False, reason=f"{said}, and no smaller size keeps to it.", factor=0.0, figures=figures)
    return Verdict(allowed=True, reason=f"{said}: resized to {size:g}.", factor=share, figures=figures)


def _drift(latency_s_buy: float, latency_s_sell: float, sigma: float | None, rules: SlippageRules) -> float | None:
    known = rules.unknown_sigma_bps if sigma is None else sigma
    if not (0.0 <= known < math.inf and 0.0 <= latency_s_buy < math.inf and 0.0 <= latency_s_sell < math.inf):
        return None
    return rules.drift_sigmas * known * (math.sqrt(latency_s_buy) + math.sqrt(latency_s_sell))


def _visible(levels: Levels) -> float:
    return sum([quantity for _, quantity in levels])


def _walk(levels: Levels, size: float) -> tuple[float, float] | None:
    """Return the VWAP's distance from the best price in bps and the visible quantity; None if the levels hold less."""
    reached = cost = best = 0.0
    for price, quantity in levels:
        if not (price > 0.0 and quantity >= 0.0):
            return None
        best = best or price
        # Distances from the best price instead of a VWAP: nothing is lost to rounding where the book is flat.
        if reached + quantity >= size:
            cost += (size - reached) * abs(price - best)
            visible = _visible(levels)
            return (cost / size / best * BPS, visible) if 0.0 < visible < math.inf else None
        cost += quantity * abs(price - best)
        reached += quantity
    return None


class _Side:
    """A walk down one side: the quantity reached with the present level, and the step from the level before, in bps."""

    __slots__ = ("best", "distance", "levels", "reached", "step")

    def __init__(self, levels: Levels) -> None:
        self.levels = iter(levels)
        self.best = self.distance = self.reached = self.step = 0.0

    def advance(self) -> bool:
        """Go on to the next level; False where there is none, or what stands there is broken."""
        price, quantity = next(self.levels, (0.0, 0.0))
        if not (price > 0.0 and quantity >= 0.0):
            return False
        self.best = self.best or price
        distance = abs(price - self.best) / self.best * BPS
        self.step = distance - self.distance
        self.distance = distance
        self.reached += quantity
        return True


def _root(low: float, high: float, flat: float, pull: float, impact: float) -> float:
    """Return q in [low, high] with flat - pull / q + impact sqrt(q) = 0, approached from the left."""
    if not pull < math.inf:
        return low
    if not pull > 0.0:
        # One price: only the impact grows. Without it the slippage does not change and can't have passed the limit.
        root = -flat / impact if flat < 0.0 < impact else 0.0
        return min(max(root * root, low), high)
    # The impact at the far end bounds it from above, which gives a start that is not beyond the root.
    rise = flat + impact * math.sqrt(high)
    quantity = max(low, min(pull / rise, high)) if rise > 0.0 else low
    for _ in range(NEWTON_STEPS):
        root = math.sqrt(quantity)
        excess = flat - pull / quantity + impact * root
        slope = pull / quantity / quantity + impact / (2.0 * root)
        if not (slope > 0.0 and -excess > CLOSE * quantity * slope):
            break
        quantity -= excess / slope
    return min(max(quantity, low), high)
