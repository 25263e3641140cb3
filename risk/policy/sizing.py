"""How large a trade may be now: its limit times five factors, each in [0, 1] and each shown.

The size is rounded to both markets' lots by the caller, downwards. A measurement that is not a number, infinite or
negative gives its factor's worst value, never a larger size.

The functions that take figures and return figures are also compiled, see :mod:`risk.policy.slippage`.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping
from typing import NamedTuple

import msgspec

from risk.policy.numbers import BPS, require, share, unit

ROOT_OF_A_MINUTE = math.sqrt(60.0)


class SizingRules(msgspec.Struct, frozen=True, kw_only=True):
    """How the factors are made; ValueError names the setting that is out of range.

    Attributes
    ----------
    depth_share
        How much of the thinner book's depth may be taken, in [0, 1].
    band_bps
        The depth counted is what stands within this distance of the best price.
    volatility_target_bps
        Volatility per square root of a minute up to which the full size is traded.
    volatility_floor
        Smallest volatility factor.
    volatility_unknown
        Factor while the volatility is not known yet.
    reward_full
        Net edge as a multiple of the demanded one at which the reward factor is 1.
    reward_floor
        Reward factor at exactly the demanded edge.
    score_floor
        Smallest score factor; a score of 0 is a veto and stays 0.
    """

    depth_share: float = 0.25
    band_bps: float = 10.0
    volatility_target_bps: float = 10.0
    volatility_floor: float = 0.1
    volatility_unknown: float = 0.5
    reward_full: float = 2.0
    reward_floor: float = 0.5
    score_floor: float = 0.1

    def __post_init__(self) -> None:
        require("depth_share", self.depth_share, 0.0, 1.0)
        require("band_bps", self.band_bps, 0.01, 1000.0)
        require("volatility_target_bps", self.volatility_target_bps, 0.01, 10_000.0)
        require("volatility_floor", self.volatility_floor, 0.0, 1.0)
        require("volatility_unknown", self.volatility_unknown, 0.0, 1.0)
        require("reward_full", self.reward_full, 1.0, 1000.0)
        require("reward_floor", self.reward_floor, 0.0, 1.0)
        require("score_floor", self.score_floor, 0.0, 1.0)


class SizingInputs(msgspec.Struct, frozen=True, kw_only=True, gc=False):
    """What one evaluation knows. Notionals in the quote asset, edges in basis points.

    ``sigma`` is the larger of both markets' volatilities in basis points per square root of a second, None while it
    is not known. ``score`` and ``breaker_factor`` are in [0, 1].
    """

    limit_notional: float
    depth_buy_notional: float
    depth_sell_notional: float
    sigma: float | None
    net_bps: float
    min_net_bps: float
    score: float
    breaker_factor: float


class Factors(NamedTuple):
    """What a limit is multiplied by, in the order of the formula."""

    depth: float
    volatility: float
    reward: float
    score: float
    breaker: float


class Sizing(msgspec.Struct, frozen=True):
    """The notional that may be traded, and the factors that made it of the limit, in the order of the formula."""

    notional: float
    factors: Mapping[str, float]


def band_notional(levels: Iterable[tuple[float, float]], band_bps: float) -> float:
    """Return the quote notional that stands within ``band_bps`` of the best price.

    ``levels`` are (price, base quantity) from the best price outwards.

    >>> band_notional([(100.0, 1.0), (100.05, 2.0), (100.2, 4.0)], 10.0)
    300.1
    """
    total = best = most = 0.0
    for price, quantity in levels:
        if not best:
            best, most = price, price * band_bps / BPS
        if not (abs(price - best) <= most and quantity >= 0.0):
            break
        total += price * quantity
    return total


def depth_factor(limit_notional: float, depth_buy: float, depth_sell: float, depth_share: float) -> float:
    """Return the share of the limit that ``depth_share`` of the thinner book covers, at most 1.

    Worked: a limit of 1000, books of 8000 and 2000, a share of 0.25: 0.25 x 2000 / 1000 = 0.5.
    """
    return min(share(depth_share * depth_buy, limit_notional), share(depth_share * depth_sell, limit_notional))


def volatility_factor(sigma: float | None, rules: SizingRules) -> float:
    """Return target over current volatility within [``volatility_floor``, 1].

    Volatility targeting (Moreira and Muir 2017, "Volatility-Managed Portfolios", with the standard deviation in
    place of the variance): the same risk at half the size when prices move twice as much. A minute's volatility is a
    second's times sqrt(60).

    Worked: 2 bps per root second are 15.49 per root minute; a target of 10: 10 / 15.49 = 0.6455.
    """
    if sigma is None:
        return rules.volatility_unknown
    if not sigma >= 0.0:
        return min(rules.volatility_floor, rules.volatility_unknown)
    current = sigma * ROOT_OF_A_MINUTE
    target = rules.volatility_target_bps
    return 1.0 if current <= target else max(rules.volatility_floor, target / current)


def reward_factor(net_bps: float, min_net_bps: float, rules: SizingRules) -> float:
    """Return a factor that rises with the net edge from ``reward_floor`` at the demanded edge to 1; 0 below it.

    Linear, as the growth-optimal stake is in the edge (Kelly 1956). A demanded edge of 0 or less asks for any edge:
    every positive one has the full factor.

    Worked: floor 0.5, full at twice the demanded 8 bps, an edge of 12 bps: 0.5 + 0.5 x (12 - 8) / (16 - 8) = 0.75.
    """
    demanded = 0.0 if min_net_bps < 0.0 else min_net_bps
    if not demanded <= net_bps < math.inf:
        return 0.0
    span = (rules.reward_full - 1.0) * demanded
    excess = net_bps - demanded
    if excess < span:
        return rules.reward_floor + (1.0 - rules.reward_floor) * (excess / span)
    return 1.0 if net_bps > 0.0 else rules.reward_floor


def score_factor(score: float, rules: SizingRules) -> float:
    """Return the score, at least ``score_floor`` unless it is 0: a floor does not lift a veto."""
    clamped = unit(score)
    return max(clamped, rules.score_floor) if clamped else 0.0


def factors(inputs: SizingInputs, rules: SizingRules) -> Factors:
    """Return what a limit is multiplied by."""
    return Factors(
        depth_factor(
            inputs.limit_notional, inputs.depth_buy_notional, inputs.depth_sell_notional, rules.depth_share
        ),
        volatility_factor(inputs.sigma, rules),
        reward_factor(inputs.net_bps, inputs.min_net_bps, rules),
        score_factor(inputs.score, rules),
        unit(inputs.breaker_factor),
    )  # fmt: skip


def notional(limit: float, shares: Factors) -> float:
    """Return a limit times its factors."""
    # Without a limit that is a positive number the depth factor is 0, and nothing may be multiplied by an infinite one.
    product = shares.depth * shares.volatility * shares.reward * shares.score * shares.breaker
    return limit * product if shares.depth else 0.0


def size(inputs: SizingInputs, rules: SizingRules) -> Sizing:
    """Return the notional that may be traded: limit x depth x volatility x reward x score x breaker.

    Worked: a limit of 1000 with the factors 0.5, 0.6455, 0.75, 0.8 and 1: 1000 x 0.19365 = 193.65.
    """
    shares = factors(inputs, rules)
    return Sizing(notional(inputs.limit_notional, shares), shares._asdict())
