"""Slippage before a trade: what walking both books, the time in flight and the trade's own impact will cost.

Levels are sequences of (price, base quantity) from the best price outwards, floats. Figures are basis points of the
notional, both legs together, and costs are positive. Where a figure is broken or a book holds less than the size there
is no estimate, and no size.

What takes positional arguments and returns plain figures (``estimate``, ``judged``) is also compiled, from this very
source, for the gate of every trade (trading/execution/rating_compiled.py): loops over levels and floats, nothing else.
NaN says there that something can't be known.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import NamedTuple

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


class Costs(NamedTuple):
    """An estimate as compiled code has it: all NaN where there is none."""

    walk_bps: float
    drift_bps: float
    impact_bps: float
    total_bps: float


class Judged(NamedTuple):
    """The slippage allowed and expected, and the share of the size that keeps to it, in [0, 1]."""

    limit_bps: float
    costs: Costs
    share: float


class _Walked(NamedTuple):
    """A walk down one side: levels passed, the quantity they hold, the last one's distance from the best price and from
    the level before it, in bps. The quantity is NaN where there is no further level, or what stands there is broken.
    """

    levels: int
    quantity: float
    distance: float
    step: float


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
    costs = estimate(levels_buy, levels_sell, size, latency_s_buy, latency_s_sell, sigma, rules)
    return None if math.isnan(costs.total_bps) else SlippageEstimate(*costs)


def estimate(
    levels_buy: Levels,
    levels_sell: Levels,
    size: float,
    latency_s_buy: float,
    latency_s_sell: float,
    sigma: float | None,
    rules: SlippageRules,
) -> Costs:
    """Return what :func:`expected` says."""
    if not 0.0 < size < math.inf:
        return Costs(math.nan, math.nan, math.nan, math.nan)
    drift = _drift(latency_s_buy, latency_s_sell, sigma, rules)
    walk_buy, visible_buy = _walk(levels_buy, size)
    walk_sell, visible_sell = _walk(levels_sell, size)
    walk = walk_buy + walk_sell
    impact = rules.impact_coefficient * (math.sqrt(size / visible_buy) + math.sqrt(size / visible_sell))
    total = walk + drift + impact
    if not total < math.inf:
        return Costs(math.nan, math.nan, math.nan, math.nan)
    return Costs(walk, drift, impact, total)


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
    return _largest(levels_buy, levels_sell, wanted, drift, rules.impact_coefficient, limit_bps)


def _largest(
    levels_buy: Levels, levels_sell: Levels, wanted: float, drift: float, coefficient: float, limit_bps: float
) -> float:
    """Return what :func:`largest_size` says, of a drift in bps and the impact's coefficient."""
    if not (0.0 < wanted < math.inf and drift <= limit_bps < math.inf):
        return 0.0
    visible_buy, visible_sell = _visible(levels_buy), _visible(levels_sell)
    if not (0.0 < visible_buy < math.inf and 0.0 < visible_sell < math.inf):
        return 0.0
    impact = coefficient * (1.0 / math.sqrt(visible_buy) + 1.0 / math.sqrt(visible_sell))
    buy = _further(levels_buy, _Walked(0, 0.0, 0.0, 0.0))
    sell = _further(levels_sell, _Walked(0, 0.0, 0.0, 0.0))
    if math.isnan(buy.quantity) or math.isnan(sell.quantity):
        return 0.0
    flat, pull, low = drift - limit_bps, 0.0, 0.0
    while True:
        high = min(buy.quantity, sell.quantity, wanted)
        if high > low:
            if not flat - pull / high + impact * math.sqrt(high) <= 0.0:
                return _root(low, high, flat, pull, impact)
            low = high
        if high >= wanted:
            return wanted
        if buy.quantity <= high:
            buy = _further(levels_buy, buy)
            if math.isnan(buy.quantity):
                return low
            # So that the sum goes on without a jump where the level begins.
            flat, pull = flat + buy.step, pull + buy.step * high
        if sell.quantity <= high:
            sell = _further(levels_sell, sell)
            if math.isnan(sell.quantity):
                return low
            flat, pull = flat + sell.step, pull + sell.step * high


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
    found = judged(
        levels_buy, levels_sell, wanted, latency_s_buy, latency_s_sell, sigma, rules, expected_profit_bps, factor
    )
    return verdict_of(found, wanted)


def judged(
    levels_buy: Levels,
    levels_sell: Levels,
    wanted: float,
    latency_s_buy: float,
    latency_s_sell: float,
    sigma: float | None,
    rules: SlippageRules,
    expected_profit_bps: float,
    factor: float,
) -> Judged:
    """Return the figures of :func:`judge`."""
    limit = threshold_bps(expected_profit_bps, rules, factor)
    costs = estimate(levels_buy, levels_sell, wanted, latency_s_buy, latency_s_sell, sigma, rules)
    if costs.total_bps <= limit:
        return Judged(limit, costs, 1.0)
    drift = _drift(latency_s_buy, latency_s_sell, sigma, rules)
    size = _largest(levels_buy, levels_sell, wanted, drift, rules.impact_coefficient, limit)
    return Judged(limit, costs, min(size / wanted, 1.0) if size > 0.0 else 0.0)


def figures_of(limit: float, costs: Costs) -> dict[str, float | int | str]:
    """Return the slippage allowed and, where there is an estimate, expected, by name."""
    if math.isnan(costs.total_bps):
        return {"slippage_limit_bps": limit}
    return {
        "slippage_limit_bps": limit,
        "slippage_bps": costs.total_bps,
        "walk_bps": costs.walk_bps,
        "drift_bps": costs.drift_bps,
        "impact_bps": costs.impact_bps,
    }


def verdict_of(found: Judged, wanted: float) -> Verdict:
    """Say the figures of :func:`judge`."""
    limit, costs, share = found
    total = costs.total_bps
    figures = figures_of(limit, costs)
    if total <= limit:
        return Verdict(allowed=True, figures=figures)
    given = "can't be estimated" if math.isnan(total) else f"is {total:.2f} bps"
    said = f"The expected slippage of {wanted:g} {given}; at most {limit:.2f} bps are allowed"
    if not share:
        return Verdict(allowed=False, reason=f"{said}, and no smaller size keeps to it.", factor=0.0, figures=figures)
    return Verdict(allowed=True, reason=f"{said}: resized to {share * wanted:g}.", factor=share, figures=figures)


def _drift(latency_s_buy: float, latency_s_sell: float, sigma: float | None, rules: SlippageRules) -> float:
    known = rules.unknown_sigma_bps if sigma is None else sigma
    if not (0.0 <= known < math.inf and 0.0 <= latency_s_buy < math.inf and 0.0 <= latency_s_sell < math.inf):
        return math.nan
    return rules.drift_sigmas * known * (math.sqrt(latency_s_buy) + math.sqrt(latency_s_sell))


def _visible(levels: Levels) -> float:
    total = 0.0
    for _, quantity in levels:
        total += quantity
    return total


def _walk(levels: Levels, size: float) -> tuple[float, float]:
    """Return the VWAP's distance from the best price in bps and the visible quantity; NaN if the levels hold less."""
    reached = cost = best = 0.0
    for price, quantity in levels:
        if not (price > 0.0 and quantity >= 0.0):
            return math.nan, math.nan
        best = best or price
        # Distances from the best price instead of a VWAP: nothing is lost to rounding where the book is flat.
        if reached + quantity >= size:
            cost += (size - reached) * abs(price - best)
            visible = _visible(levels)
            return (cost / size / best * BPS, visible) if 0.0 < visible < math.inf else (math.nan, math.nan)
        cost += quantity * abs(price - best)
        reached += quantity
    return math.nan, math.nan


def _further(levels: Levels, walked: _Walked) -> _Walked:
    """Go on to the next level."""
    number = walked.levels
    if number == len(levels):
        return _Walked(number, math.nan, 0.0, 0.0)
    price, quantity = levels[number]
    if not (price > 0.0 and quantity >= 0.0):
        return _Walked(number, math.nan, 0.0, 0.0)
    best = levels[0][0]
    distance = abs(price - best) / best * BPS
    return _Walked(number + 1, walked.quantity + quantity, distance, distance - walked.distance)


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
