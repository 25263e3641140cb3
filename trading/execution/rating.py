"""How large an opportunity may be traded now and how good it is: what the policy's formulas ask for, gathered."""

from __future__ import annotations

from collections.abc import Mapping
from itertools import islice
from typing import NamedTuple

from risk.policy import score as scoring
from risk.policy import sizing, slippage
from risk.policy.realised import Learned
from risk.policy.verdict import Verdict
from trading.arbitrage.depth import BaseLevels, Filled, LegTerms, fill
from trading.config import RatingRules
from trading.execution.bots import RunningBot
from trading.execution.desk import Desk
from trading.instruments import Market
from trading.marketdata.hub import MarketState
from trading.messages import Assessment, LegQuote, Opportunity
from trading.portfolio import Purse

LEVELS = 20  # of a book that are looked at: what a bot trades stands in the first few
WEATHER_NS = 100_000_000
UNKNOWN_LATENCY_SECONDS = 0.25  # before an account's first answer
UNKNOWN_VOLUME = 0.25  # share of the volume wanted that is assumed before trades have been heard for a minute


class Rated(NamedTuple):
    """An opportunity's assessment, and the check that refuses it (empty if none does) with its verdict.

    ``worst`` are the prices that buying and selling the size reach in the books.
    """

    assessment: Assessment
    check: str = ""
    verdict: Verdict | None = None
    worst: tuple[float, float] | None = None


class Weather(NamedTuple):
    """What changes slowly about one leg's market and account; looked at WEATHER_NS apart."""

    seen_ns: int
    latency: float
    error_share: float
    sigma: float | None
    volume: float | None
    usual_spread: float | None


class Side(NamedTuple):
    """One leg's market as it is now; ``band`` is the notional within the sizing rules' band."""

    state: MarketState
    levels: list[tuple[float, float]]
    band: float
    weather: Weather


class Rating:
    """Rates the opportunities of one engine. ``learned`` is what realised slippage has taught, by market."""

    def __init__(self, desk: Desk) -> None:
        self._desk = desk
        self.rules: RatingRules | None = None
        self.learned: Mapping[str, Learned] = {}
        self._terms: dict[str, LegTerms] = {}
        self._weather: dict[tuple[str, Purse], Weather] = {}

    def rate(
        self, rules: RatingRules, bot: RunningBot, found: Opportunity, *, breaker_factor: float, min_net_bps: float
    ) -> Rated | None:
        """Return the size and the score of an opportunity, and what of them refuses it; None without its books.

        ``min_net_bps`` is the edge demanded of it after fees. Its own figures are of the size the books offer; costs
        and edge are worked out again for the size that is left.
        """
        buy, sell = self._side(rules, bot, found.buy), self._side(rules, bot, found.sell)
        if buy is None or sell is None:
            return None
        limit = float(bot.limits_on(found).max_trade_notional)
        score = self._score(rules, bot, found, (buy, sell), limit, breaker_factor)
        sized = sizing.size(
            sizing.SizingInputs(
                limit_notional=limit,
                depth_buy_notional=buy.band,
                depth_sell_notional=sell.band,
                sigma=_worst(buy.weather.sigma, sell.weather.sigma),
                net_bps=found.net_bps,
                min_net_bps=min_net_bps,
                score=score.value,
                breaker_factor=breaker_factor,
            ),
            rules.sizing,
        )
        return self._with_costs(rules, found, buy, sell, sized, score, min_net_bps)

    def worth(self, rules: RatingRules, bot: RunningBot, found: Opportunity) -> float:
        """Return what ranks an opportunity among those that want the same balance."""
        buy, sell = self._side(rules, bot, found.buy), self._side(rules, bot, found.sell)
        if buy is None or sell is None:
            return 0.0
        score = self._score(rules, bot, found, (buy, sell), float(bot.limits_on(found).max_trade_notional), 1.0)
        return scoring.worth(
            scoring.Candidate(
                key=found.route,
                expected_profit=found.net_profit,
                liquidity=score.components["liquidity"],
                score=score.value,
            )
        )

    def _side(self, rules: RatingRules, bot: RunningBot, leg: LegQuote) -> Side | None:
        market = self._desk.markets[leg.market]
        state = self._desk.market_state(market)
        if state is None:
            return None
        levels = self._levels(market, state, leg.side)
        return Side(
            state=state,
            levels=levels,
            band=sizing.band_notional(levels, rules.sizing.band_bps),
            weather=self._weather_of(market, state, bot.terms.purses[market.exchange]),
        )

    def _levels(self, market: Market, state: MarketState, side: str) -> list[tuple[float, float]]:
        """Return (price, base quantity) from the best price outwards."""
        taken = state.book.asks if side == "buy" else state.book.bids
        if market.kind == "spot" and not state.ahead:
            return taken.nearest(LEVELS)
        terms = self._terms.get(market.key)
        if terms is None or terms.lot != market.lot:
            terms = self._terms[market.key] = LegTerms.of(market)
        best, size = (state.ask, state.ask_size) if side == "buy" else (state.bid, state.bid_size)
        return list(islice(BaseLevels(taken, terms, best, size), LEVELS))

    def _weather_of(self, market: Market, state: MarketState, purse: Purse) -> Weather:
        now_ns = self._desk.clock.monotonic_ns()
        known = self._weather.get((market.key, purse))
        if known is not None and now_ns - known.seen_ns < WEATHER_NS:
            return known
        climate = state.climate
        known = self._weather[market.key, purse] = Weather(
            seen_ns=now_ns,
            latency=self._desk.answer_seconds.get(purse, UNKNOWN_LATENCY_SECONDS),
            error_share=self._desk.error_share.get(purse, 0.0),
            sigma=climate.sigma(now_ns),
            volume=climate.volume_a_day(now_ns),
            usual_spread=climate.usual_spread_bps(now_ns),
        )
        return known

    def _score(
        self,
        rules: RatingRules,
        bot: RunningBot,
        found: Opportunity,
        sides: tuple[Side, Side],
        limit: float,
        breaker_factor: float,
    ) -> scoring.Score:
        scales = rules.scales
        assumed = UNKNOWN_VOLUME * scales.volume_full * limit
        volumes = [assumed if side.weather.volume is None else side.weather.volume for side in sides]
        wins, losses = bot.record_of(found.route)
        health = [
            scoring.ExchangeHealth(
                latency_ms=side.weather.latency * 1e3,
                error_rate=side.weather.error_share,
                book_age_ms=leg.book_age_ms,
                breaker_factor=breaker_factor,
                spread_bps=(side.state.ask - side.state.bid) / side.state.bid * 1e4,
                usual_spread_bps=side.weather.usual_spread,
            )
            for side, leg in zip(sides, _legs(found), strict=True)
        ]
        components = scoring.Components(
            profit=scoring.profit(found.net_bps, scales),
            liquidity=scoring.liquidity(min(sides[0].band, sides[1].band), min(volumes), limit, scales),
            volatility=scoring.volatility(_worst(sides[0].weather.sigma, sides[1].weather.sigma), scales),
            success=scoring.success_rate(wins, losses, scales.prior_wins, scales.prior_losses),
            conditions=scoring.conditions(health, scales),
        )
        return scoring.score(components, rules.weights)

    def _with_costs(
        self,
        rules: RatingRules,
        found: Opportunity,
        buy: Side,
        sell: Side,
        sized: sizing.Sizing,
        score: scoring.Score,
        min_net_bps: float,
    ) -> Rated:
        """Cut the size to what slippage allows, and take off the edge what the size costs beyond its walk."""

        def rated(
            notional: float,
            costs: Mapping[str, float],
            check: str = "",
            why: Verdict | None = None,
            worst: tuple[float, float] | None = None,
        ) -> Rated:
            assessment = Assessment(
                notional=notional, factors=sized.factors, score=score.value, components=score.components,
                costs_bps=costs,
            )  # fmt: skip
            return Rated(assessment, check, why, worst)

        wanted = min(sized.notional / found.buy.vwap, found.quantity)
        if not wanted > 0.0:
            nothing = min(sized.factors, key=lambda name: sized.factors[name])
            why = Verdict(
                allowed=False,
                reason=f"Nothing is left of the size: the {nothing} factor is {sized.factors[nothing]:.3f}.",
                figures=dict(sized.factors),
            )
            return rated(0.0, {}, "sizing", why)
        no_legs = Learned(rules.slippage.edge_floor_bps, 1.0)
        lessons = [self.learned.get(_lesson(self._desk.markets[leg.market]), no_legs) for leg in _legs(found)]
        extra = sum(lesson.extra_edge_bps for lesson in lessons)
        sigma = _worst(buy.weather.sigma, sell.weather.sigma)
        verdict = slippage.judge(
            buy.levels,
            sell.levels,
            wanted,
            latency_s_buy=buy.weather.latency,
            latency_s_sell=sell.weather.latency,
            sigma=sigma,
            rules=rules.slippage,
            expected_profit_bps=found.net_bps,
            factor=min(lesson.threshold_factor for lesson in lessons),
        )
        costs = {name: float(value) for name, value in verdict.figures.items()}
        if not verdict.allowed:
            return rated(0.0, costs, "slippage", verdict)
        size = wanted * verdict.factor
        if verdict.factor < 1.0:
            estimate = slippage.expected(
                buy.levels, sell.levels, size,
                latency_s_buy=buy.weather.latency, latency_s_sell=sell.weather.latency, sigma=sigma,
                rules=rules.slippage,
            )  # fmt: skip
            if estimate is not None:
                costs |= {
                    "slippage_bps": estimate.total_bps,
                    "walk_bps": estimate.walk_bps,
                    "drift_bps": estimate.drift_bps,
                    "impact_bps": estimate.impact_bps,
                }
        bought, sold = fill(buy.levels, size), fill(sell.levels, size)
        if bought is None or sold is None:
            why = Verdict(allowed=False, reason="The books no longer hold the size.", figures={})
            return rated(0.0, costs, "slippage", why)
        net = _net_bps(bought, sold, found)
        drift, impact = costs["drift_bps"], costs["impact_bps"]
        left = net - drift - impact
        demanded = min_net_bps + extra
        costs |= {"net_bps": net, "after_costs_bps": left, "demanded_bps": demanded}
        notional = size * found.buy.vwap
        if not left >= demanded:
            why = Verdict(
                allowed=False,
                reason=f"Of {net:.2f} bps after fees {left:.2f} bps are left after drift ({drift:.2f}) "
                f"and impact ({impact:.2f}); at least {demanded:.2f} bps are wanted"
                f"{f', {extra:.2f} of them for slippage seen' if extra else ''}.",
                figures=costs,
            )
            return rated(notional, costs, "expected_costs", why)
        return rated(notional, costs, worst=(bought.worst_price, sold.worst_price))


def _legs(found: Opportunity) -> tuple[LegQuote, LegQuote]:
    return found.buy, found.sell


def _lesson(market: Market) -> str:
    return f"{market.exchange}:{market.base}/{market.quote}"


def _worst(*sigmas: float | None) -> float | None:
    """Return the larger volatility; not known while one is not."""
    known = [sigma for sigma in sigmas if sigma is not None]
    return max(known) if len(known) == len(sigmas) else None


def _net_bps(bought: Filled, sold: Filled, found: Opportunity) -> float:
    """Return the edge after fees of a size, in basis points of what buying it costs before them."""
    received = sold.notional * (1.0 - found.sell.fee_rate)
    paid = bought.notional * (1.0 + found.buy.fee_rate)
    return (received - paid) / bought.notional * 1e4
