"""The rating of an opportunity in one call of compiled code: both books read, then the policy's own formulas.

The formulas are those of :mod:`risk.policy` and of :mod:`trading.arbitrage.depth`, compiled from their source: here are
only the order in which they are asked and what they are given. numba does not notice when a function's callee in
another file changes, so what it keeps on disk goes by the sources of all of them.
"""

from __future__ import annotations

import hashlib
import math
from collections.abc import Callable
from enum import IntEnum
from pathlib import Path
from typing import Any, NamedTuple

import msgspec
import numpy as np
from numba import from_dtype, types
from numba.extending import register_jitable

from risk.policy import numbers, score, sizing, slippage
from trading.arbitrage import depth
from trading.config import RatingRules
from trading.marketdata import compiled as books

LEVELS = 20  # of a book that are looked at: what a bot trades stands in the first few
UNKNOWN_VOLUME = 0.25  # share of the volume wanted that is assumed before trades have been heard for a minute
UNKNOWN = math.nan

for _formula in (
    numbers.share, numbers.unit,
    sizing.band_notional, sizing.depth_factor, sizing.volatility_factor, sizing.reward_factor, sizing.score_factor,
    sizing.factors, sizing.notional,
    score.profit, score.liquidity, score.volatility, score.success_rate, score.conditions, score.total_of,
    score.value_of, score._left, score._spread,
    slippage.estimate, slippage.threshold_bps, slippage.judged, slippage._largest, slippage._drift, slippage._visible,
    slippage._walk, slippage._further, slippage._root,
    depth.walked,
):  # fmt: skip
    register_jitable(_formula)

SOURCES = (numbers, sizing, score, slippage, depth, books)


class Ending(IntEnum):
    """What came of a rating; all but the first refuse."""

    RATED = 0
    NOTHING_LEFT = 1  # of the size
    SLIPPAGE = 2
    BOOKS_TOO_THIN = 3
    COSTS = 4  # leave too little of the edge


def weather_array(
    *, latency: float, error_share: float, sigma: float | None, volume: float | None, usual_spread: float | None
) -> Any:
    """Return what changes slowly about one leg's market and account as compiled code takes it: NaN is not known."""
    known = [UNKNOWN if figure is None else figure for figure in (sigma, volume, usual_spread)]
    return np.array([latency, error_share, *known])


class Components(NamedTuple):
    """As :class:`risk.policy.score.Components`."""

    profit: float
    liquidity: float
    volatility: float
    success: float
    conditions: float


class Figures(NamedTuple):
    """What a rating worked out, as far as it came; NaN beyond.

    ``wanted`` is the base quantity before slippage, ``judged`` what slippage leaves of it, ``costs`` the slippage of
    that. ``net_bps`` is the edge after fees of that size, ``left_bps`` what drift and impact leave of it.
    """

    factors: sizing.Factors
    score: float
    components: Components
    wanted: float
    judged: slippage.Judged
    costs: slippage.Costs
    net_bps: float
    left_bps: float
    demanded_bps: float


def figures_of(array: Any) -> Figures:
    """Read what compiled code wrote."""
    figures = array.tolist()
    return Figures(
        sizing.Factors(*figures[:5]),
        figures[5],
        Components(*figures[6:11]),
        figures[11],
        slippage.Judged(figures[12], slippage.Costs(*figures[13:17]), figures[17]),
        slippage.Costs(*figures[18:22]),
        *figures[22:],
    )


class Health(NamedTuple):
    """As :class:`risk.policy.score.ExchangeHealth`."""

    latency_ms: float
    error_rate: float
    book_age_ms: float
    breaker_factor: float
    spread_bps: float
    usual_spread_bps: float | None


class Inputs(NamedTuple):
    """As :class:`risk.policy.sizing.SizingInputs`."""

    limit_notional: float
    depth_buy_notional: float
    depth_sell_notional: float
    sigma: float | None
    net_bps: float
    min_net_bps: float
    score: float
    breaker_factor: float


_PARTS = {"sizing": sizing.SizingRules, "scales": score.ScoreScales, "weights": score.ScoreWeights,
          "slippage": slippage.SlippageRules}  # fmt: skip
_RULES = np.dtype(
    [(part, [(name, "f8") for name in rules.__struct_fields__]) for part, rules in _PARTS.items()]
)  # fmt: skip


def rules_array(rules: RatingRules) -> Any:
    """Return rules as compiled code takes them: one record, its fields by the names they have here."""
    return np.array([tuple(msgspec.structs.astuple(getattr(rules, part)) for part in _PARTS)], _RULES)


@register_jitable
def levels_of(side: Any, sign: float, contract_size: float, inverse: float, top: float, top_size: float) -> Any:
    """Return the nearest levels as (price, base quantity), as :class:`trading.arbitrage.depth.BaseLevels` has them."""
    levels = [(0.0, 0.0)] * min(LEVELS, int(side[0]))
    at, number = books.PAIRS + 2 * int(side[0]), 0
    while at > books.PAIRS and number < LEVELS:
        at -= 2
        price, size = sign * side[at], side[at + 1]
        if top > 0.0 and side[at] >= sign * top:
            if price != top:
                continue
            size = min(size, top_size)
        levels[number] = (price, size * contract_size / price if inverse else size * contract_size)
        number += 1
    return levels[:number] if number < len(levels) else levels


@register_jitable
def known(figure: float) -> float | None:
    return None if math.isnan(figure) else figure


@register_jitable
def health_of(weather: Any, age_ms: float, breaker_factor: float, bid: float, ask: float) -> Health:
    spread = (ask - bid) / bid * 1e4
    return Health(weather[0] * 1e3, weather[1], age_ms, breaker_factor, spread, known(weather[4]))


@register_jitable
def floor_of(figure: float) -> float:
    """Return the whole number below, NaN where rounding may have moved the figure past one."""
    if not 0.0 <= figure < 1e12:
        return UNKNOWN
    whole = math.floor(figure)
    doubt = 1e-6 + figure * 1e-12
    return float(whole) if doubt < figure - whole < 1.0 - doubt else UNKNOWN


@register_jitable
def whole_numbers(
    units: Any, notional: float, quantity: float, buy_worst: float, sell_worst: float
) -> tuple[float, float, float]:
    """Return the ticks of both limits and the steps of the quantity; no steps where decimals might come to others."""
    limit, step = units[8], units[9]
    buy_tick, sell_tick = units[2], units[6]
    buy_ticks = floor_of(buy_worst * units[3] / buy_tick)
    sell_ticks = floor_of(sell_worst * units[7] / sell_tick) + 1.0
    dearest = max(buy_ticks * buy_tick, sell_ticks * sell_tick)
    clear = step > 0.0 and notional < limit * (1.0 - 1e-9) and buy_ticks > 0.0 and sell_ticks > 0.0
    if not clear:
        return 0.0, 0.0, 0.0
    steps = floor_of(notional / dearest / step)
    walked = quantity / step
    most = float(math.floor(walked + 0.5))
    if math.isnan(steps) or abs(walked - most) > 1e-6 + walked * 1e-12:
        return 0.0, 0.0, 0.0
    return buy_ticks, sell_ticks, min(steps, most)


def _rate(
    asks: Any, bids: Any, buy_weather: Any, sell_weather: Any, units: Any, record: Any, out: Any,
    net_bps: float, min_net_bps: float, breaker_factor: float,
    vwap: float, quantity: float, buy_fee: float, sell_fee: float, buy_age_ms: float, sell_age_ms: float,
    buy_bid: float, buy_ask: float, sell_bid: float, sell_ask: float,
    buy_top: float, buy_top_size: float, sell_top: float, sell_top_size: float,
    wins: float, losses: float, extra_bps: float, factor: float,
) -> tuple[int, float, float, float, float, float, float]:  # fmt: skip
    limit = units[8]
    out[:] = UNKNOWN
    rules = record[0]
    scales = rules.scales
    buy = levels_of(asks, -1.0, units[0], units[1], buy_top, buy_top_size)
    sell = levels_of(bids, 1.0, units[4], units[5], sell_top, sell_top_size)
    buy_band = sizing.band_notional(buy, rules.sizing.band_bps)
    sell_band = sizing.band_notional(sell, rules.sizing.band_bps)
    # The larger volatility; not known while one is not.
    unknown = math.isnan(buy_weather[2]) or math.isnan(sell_weather[2])
    sigma = known(UNKNOWN if unknown else max(buy_weather[2], sell_weather[2]))
    assumed = UNKNOWN_VOLUME * scales.volume_full * limit
    buy_volume = assumed if math.isnan(buy_weather[3]) else buy_weather[3]
    sell_volume = assumed if math.isnan(sell_weather[3]) else sell_weather[3]
    health: Any = (
        health_of(buy_weather, buy_age_ms, breaker_factor, buy_bid, buy_ask),
        health_of(sell_weather, sell_age_ms, breaker_factor, sell_bid, sell_ask),
    )
    components: Any = Components(
        score.profit(net_bps, scales),
        score.liquidity(min(buy_band, sell_band), min(buy_volume, sell_volume), limit, scales),
        score.volatility(sigma, scales),
        score.success_rate(wins, losses, scales.prior_wins, scales.prior_losses),
        score.conditions(health, scales),
    )
    value = score.value_of(components, rules.weights)
    inputs: Any = Inputs(limit, buy_band, sell_band, sigma, net_bps, min_net_bps, value, breaker_factor)
    shares = sizing.factors(inputs, rules.sizing)
    sized = sizing.notional(limit, shares)
    out[0], out[1], out[2], out[3], out[4] = shares
    out[5] = value
    out[6], out[7], out[8], out[9], out[10] = components

    wanted = min(sized / vwap, quantity)
    if not wanted > 0.0:
        return 1, 0.0, 0.0, 0.0, 0.0, 0.0, 0.0
    out[11] = wanted
    latency_buy, latency_sell = buy_weather[0], sell_weather[0]
    judged = slippage.judged(buy, sell, wanted, latency_buy, latency_sell, sigma, rules.slippage, net_bps, factor)
    costs = judged.costs
    out[12] = judged.limit_bps
    out[13], out[14], out[15], out[16] = costs
    out[17] = judged.share
    if not judged.share:
        return 2, 0.0, 0.0, 0.0, 0.0, 0.0, 0.0
    size = wanted * judged.share
    if judged.share < 1.0:
        cut = slippage.estimate(buy, sell, size, latency_buy, latency_sell, sigma, rules.slippage)
        if not math.isnan(cut.total_bps):
            costs = cut
    out[18], out[19], out[20], out[21] = costs
    bought, _, buy_worst = depth.walked(buy, size)
    sold, _, sell_worst = depth.walked(sell, size)
    if math.isnan(bought) or math.isnan(sold):
        return 3, 0.0, 0.0, 0.0, 0.0, 0.0, 0.0
    # The edge after fees, in basis points of what buying the size costs before them; then what drift and impact leave.
    net = (sold * (1.0 - sell_fee) - bought * (1.0 + buy_fee)) / bought * 1e4
    left = net - costs.drift_bps - costs.impact_bps
    demanded = min_net_bps + extra_bps
    out[22], out[23], out[24] = net, left, demanded
    notional = size * vwap
    buy_ticks, sell_ticks, steps = whole_numbers(units, notional, quantity, buy_worst, sell_worst)
    return 0 if left >= demanded else 4, notional, buy_worst, sell_worst, buy_ticks, sell_ticks, steps


def _kept(function: Callable[..., Any]) -> Any:
    """Compile for the one signature there is, and keep the machine code for as long as all sources stay the same."""
    digest = hashlib.sha256()
    for module in SOURCES:
        digest.update(Path(module.__file__ or "").read_bytes())
    function.__qualname__ = f"rate_{digest.hexdigest()[:16]}"
    array = books.Floats
    signature = types.Tuple((types.int64, *[types.float64] * 6))(  # type: ignore[no-untyped-call]
        *[array] * 5, from_dtype(_RULES)[::1], array, *[types.float64] * 21
    )
    return books.compiled(signature)(function)


rate = _kept(_rate)
