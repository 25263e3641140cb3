"""How good an opportunity is, in [0, 1], and which of several that want the same balance goes first.

Every component is in [0, 1]. A measurement that is not a number, infinite or negative makes its component 0.
The functions that take figures and return figures are also compiled, see :mod:`risk.policy.slippage`.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping

import msgspec

from risk.policy.numbers import require, share, unit


class ScoreWeights(msgspec.Struct, frozen=True, kw_only=True):
    """Weights of the components, of any scale; ValueError names the one out of range, or says that all are 0."""

    profit: float = 0.3
    liquidity: float = 0.2
    volatility: float = 0.15
    success: float = 0.2
    conditions: float = 0.15

    def __post_init__(self) -> None:
        for name in self.__struct_fields__:
            require(name, getattr(self, name), 0.0, 1000.0)
        # Below this sum the weights themselves would be lost in rounding.
        if not self.total >= 1e-6:
            raise ValueError(f"The weights add up to {self.total:g}; at least one of them must be above 0.")

    @property
    def total(self) -> float:
        return total_of(self)


def total_of(weights: ScoreWeights) -> float:
    """Return the sum of all weights."""
    return weights.profit + weights.liquidity + weights.volatility + weights.success + weights.conditions


class ScoreScales(msgspec.Struct, frozen=True, kw_only=True):
    """Where the components saturate; ValueError names the setting that is out of range.

    Attributes
    ----------
    profit_full_bps
        Net edge from which the profit component is 1.
    depth_full, volume_full
        Depth in both books' bands, and traded volume of 24 hours, as multiples of the largest trade allowed, from
        which the liquidity component is 1.
    volatility_half_bps
        Volatility per square root of a second at which its component is 0.5.
    volatility_unknown, spread_unknown
        What stands for a volatility or a usual spread that is not known yet.
    prior_wins, prior_losses
        Trades a pair is taken to have won and lost before its first one.
    latency_worst_ms, errors_worst, book_age_worst_ms
        Where an exchange's health is 0: order latency, share of failed requests, age of the book.
    """

    profit_full_bps: float = 30.0
    depth_full: float = 4.0
    volume_full: float = 1000.0
    volatility_half_bps: float = 2.0
    volatility_unknown: float = 0.5
    spread_unknown: float = 0.5
    prior_wins: float = 4.0
    prior_losses: float = 4.0
    latency_worst_ms: float = 1000.0
    errors_worst: float = 0.2
    book_age_worst_ms: float = 2000.0

    def __post_init__(self) -> None:
        require("profit_full_bps", self.profit_full_bps, 0.01, 10_000.0)
        require("depth_full", self.depth_full, 0.01, 1e6)
        require("volume_full", self.volume_full, 0.01, 1e9)
        require("volatility_half_bps", self.volatility_half_bps, 0.001, 10_000.0)
        require("volatility_unknown", self.volatility_unknown, 0.0, 1.0)
        require("spread_unknown", self.spread_unknown, 0.0, 1.0)
        require("prior_wins", self.prior_wins, 0.01, 1e6)
        require("prior_losses", self.prior_losses, 0.01, 1e6)
        require("latency_worst_ms", self.latency_worst_ms, 1.0, 600_000.0)
        require("errors_worst", self.errors_worst, 0.001, 1.0)
        require("book_age_worst_ms", self.book_age_worst_ms, 1.0, 600_000.0)


class ExchangeHealth(msgspec.Struct, frozen=True, kw_only=True, gc=False):
    """How an exchange does now. ``breaker_factor`` is in [0, 1]; ``usual_spread_bps`` is None until it is known."""

    latency_ms: float
    error_rate: float
    book_age_ms: float
    breaker_factor: float
    spread_bps: float
    usual_spread_bps: float | None = None


class Components(msgspec.Struct, frozen=True, kw_only=True, gc=False):
    """The parts of a score, each in [0, 1]."""

    profit: float
    liquidity: float
    volatility: float
    success: float
    conditions: float


class Score(msgspec.Struct, frozen=True):
    """A score in [0, 1] and the components it was made of, by the names of their weights."""

    value: float
    components: Mapping[str, float]


class Candidate(msgspec.Struct, frozen=True, kw_only=True):
    """An opportunity that wants a balance. ``expected_profit`` is in one currency for all that are compared.

    ``liquidity`` is the liquidity component, ``key`` unique among them.
    """

    key: str
    expected_profit: float
    liquidity: float
    score: float


def profit(net_bps: float, scales: ScoreScales) -> float:
    """Return the net edge as a share of ``profit_full_bps``. Worked: 12 of 30 bps are 0.4."""
    return share(net_bps, scales.profit_full_bps)


def liquidity(depth_notional: float, volume_notional: float, limit_notional: float, scales: ScoreScales) -> float:
    """Return the geometric mean of depth and volume against what the largest trade asks for.

    ``depth_notional`` is the thinner book's within the band, ``volume_notional`` the lesser market's of 24 hours. The
    geometric mean, as one does not make up for the other: without either the component is 0.

    Worked: a limit of 1000 asks for a depth of 4000 and a volume of 1 000 000. A depth of 1000 is 0.25 of it and a
    volume of 360 000 is 0.36: sqrt(0.25 x 0.36) = 0.3.
    """
    return math.sqrt(
        share(depth_notional, limit_notional * scales.depth_full)
        * share(volume_notional, limit_notional * scales.volume_full)
    )


def volatility(sigma: float | None, scales: ScoreScales) -> float:
    """Return half / (half + sigma): 1 in a still market, 0.5 at ``volatility_half_bps``, towards 0 beyond.

    Worked: a half at 2 and a volatility of 6 bps per root second: 2 / 8 = 0.25.
    """
    if sigma is None:
        return scales.volatility_unknown
    if not 0.0 <= sigma < math.inf:
        return 0.0
    return scales.volatility_half_bps / (scales.volatility_half_bps + sigma)


def success_rate(wins: float, losses: float, prior_wins: float, prior_losses: float) -> float:
    """Return the mean of the Beta posterior: (prior_wins + wins) / (prior_wins + prior_losses + wins + losses).

    The conjugate prior of a success rate (Gelman et al., Bayesian Data Analysis, 3rd ed., 2.4): the prior's trades
    are added to the real ones, so that the first few do not decide.

    Worked: a prior of 4 and 4, one win: 5 / 9 = 0.556 and not 1; 96 wins of 100: 100 / 108 = 0.926.
    """
    if not (wins >= 0.0 and losses >= 0.0 and prior_wins >= 0.0 and prior_losses >= 0.0):
        return 0.0
    return share(prior_wins + wins, prior_wins + prior_losses + wins + losses)


def conditions(health: Iterable[ExchangeHealth], scales: ScoreScales) -> float:
    """Return the worst figure of the worst exchange: a trade is as sound as its weakest part. 0 without any exchange.

    Latency, errors and book age fall in a straight line from 1 at 0 to 0 at their worst; the breaker's factor counts
    as it is; a spread wider than usual counts as usual over current.

    Worked: 200 of 1000 ms is 0.8, 2 % of 20 % errors 0.9, 500 of 2000 ms 0.75, a closed breaker 1, a spread of 2 bps
    where 1.2 are usual 0.6: 0.6.
    """
    worst = math.inf
    for exchange in health:
        worst = min(
            worst,
            _left(exchange.latency_ms, scales.latency_worst_ms),
            _left(exchange.error_rate, scales.errors_worst),
            _left(exchange.book_age_ms, scales.book_age_worst_ms),
            exchange.breaker_factor if exchange.breaker_factor >= 0.0 else 0.0,
            _spread(exchange.spread_bps, exchange.usual_spread_bps, scales.spread_unknown),
        )
    return unit(worst) if worst < math.inf else 0.0


def score(components: Components, weights: ScoreWeights) -> Score:
    """Return the weighted mean of the components, or 0 where conditions are 0, whatever their weight.

    A mean lets a strong part make up for a weak one; nothing makes up for an exchange that is down.

    Worked: profit 0.4, liquidity 0.3, volatility 0.25, success 0.6, conditions 0.6 with the default weights:
    0.12 + 0.06 + 0.0375 + 0.12 + 0.09 = 0.4275.
    """
    parts = {name: unit(getattr(components, name)) for name in Components.__struct_fields__}
    return Score(value_of(components, weights), parts)


def value_of(components: Components, weights: ScoreWeights) -> float:
    """Return the value of :func:`score`."""
    conditions = unit(components.conditions)
    if not conditions:
        return 0.0
    weighted = (
        weights.profit * unit(components.profit)
        + weights.liquidity * unit(components.liquidity)
        + weights.volatility * unit(components.volatility)
        + weights.success * unit(components.success)
        + weights.conditions * conditions
    )
    return unit(weighted / total_of(weights))


def worth(candidate: Candidate) -> float:
    """Return the liquidity-adjusted expected profit x score; 0 where there is no profit or a figure is broken.

    Worked: 12 USDT at a liquidity of 0.5 and a score of 0.4: 2.4; 5 USDT at 0.9 and 0.8: 3.6 goes first.
    """
    if not 0.0 < candidate.expected_profit < math.inf:
        return 0.0
    return candidate.expected_profit * unit(candidate.liquidity) * unit(candidate.score)


def rank(candidates: Iterable[Candidate]) -> list[Candidate]:
    """Return the candidates in the order in which they may take the balance: by worth, ties by key."""
    return sorted(candidates, key=lambda candidate: (-worth(candidate), candidate.key))


def _left(value: float, worst: float) -> float:
    return 1.0 - value / worst if value >= 0.0 else 0.0


def _spread(current: float, usual: float | None, unknown: float) -> float:
    if not 0.0 <= current < math.inf:
        return 0.0
    if usual is None:
        return unknown
    if not 0.0 <= usual < math.inf:
        return 0.0
    return 1.0 if current <= usual else usual / current
