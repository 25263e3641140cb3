"""How large an opportunity may be traded now and how good it is: what the policy's formulas ask for, gathered."""

from __future__ import annotations

from collections.abc import Mapping
from functools import cache
from typing import Any

import numpy as np

from risk.policy import score as scoring
from risk.policy import slippage
from risk.policy.realised import Learned
from risk.policy.verdict import Verdict
from trading.config import RatingRules
from trading.execution.bots import RunningBot
from trading.execution.desk import Desk
from trading.execution.planner import Sized
from trading.execution.route_terms import RouteLeg, RouteTerms
from trading.marketdata.hub import MarketState
from trading.messages import Assessment, Opportunity

WEATHER_NS = 100_000_000
FIGURES = 25  # that compiled code writes
UNKNOWN_LATENCY_SECONDS = 0.25  # before an account's first answer


class Rated(Sized, frozen=True, gc=False):
    """An opportunity's size and what it came of; words are made of it only for what is recorded. Zeros where nothing is
    left.

    ``figures`` are what compiled code wrote, ``extra_bps`` the edge demanded for slippage
    seen.
    """

    ending: int
    extra_bps: float
    figures: Any

    @property
    def refused(self) -> bool:
        return self.ending != 0

    @property
    def assessment(self) -> Assessment:
        """Return how the opportunity was sized and rated."""
        found = _compiled().figures_of(self.figures)
        return Assessment(
            notional=self.notional,
            factors=found.factors._asdict(),
            score=found.score,
            components=found.components._asdict(),
            costs_bps=self._costs(found),
        )

    def refusal(self) -> tuple[str, Verdict]:
        """Return the check that refuses the opportunity, and its verdict."""
        endings, found = _compiled().Ending, _compiled().figures_of(self.figures)
        if self.ending == endings.NOTHING_LEFT:
            factors = found.factors._asdict()
            nothing = min(factors, key=lambda name: factors[name])
            why = f"Nothing is left of the size: the {nothing} factor is {factors[nothing]:.3f}."
            return "sizing", Verdict(allowed=False, reason=why, figures=factors)
        if self.ending == endings.SLIPPAGE:
            return "slippage", slippage.verdict_of(found.judged, found.wanted)
        if self.ending == endings.BOOKS_TOO_THIN:
            return "slippage", Verdict(allowed=False, reason="The books no longer hold the size.", figures={})
        why = (
            f"Of {found.net_bps:.2f} bps after fees {found.left_bps:.2f} bps are left after drift "
            f"({found.costs.drift_bps:.2f}) and impact ({found.costs.impact_bps:.2f}); at least "
            f"{found.demanded_bps:.2f} bps are wanted"
            f"{f', {self.extra_bps:.2f} of them for slippage seen' if self.extra_bps else ''}."
        )
        return "expected_costs", Verdict(allowed=False, reason=why, figures=self._costs(found))

    def _costs(self, found: Any) -> dict[str, float]:
        """Return the costs that were worked out, by name."""
        endings = _compiled().Ending
        if self.ending == endings.NOTHING_LEFT:
            return {}
        costs = found.judged.costs if self.ending == endings.SLIPPAGE else found.costs
        named = {name: float(figure) for name, figure in slippage.figures_of(found.judged.limit_bps, costs).items()}
        if self.ending in {endings.RATED, endings.COSTS}:
            named |= {
                "net_bps": found.net_bps, "after_costs_bps": found.left_bps, "demanded_bps": found.demanded_bps
            }  # fmt: skip
        return named


class Rating:
    """Rates the opportunities of one engine. ``learned`` is what realised slippage has taught, by market."""

    def __init__(self, desk: Desk) -> None:
        self._desk = desk
        self._rules: RatingRules | None = None
        self._record: Any = None  # the rules, as compiled code takes them
        self._rate: Any = None
        self._no_legs = Learned(0.0, 1.0)
        self.learned: Mapping[str, Learned] = {}
        # What changes slowly, by route: when it was looked at, and what it was of each leg.
        self._weather: dict[str, tuple[int, Any, Any]] = {}

    @property
    def rules(self) -> RatingRules | None:
        """What opportunities are rated by; without it they are not."""
        return self._rules

    @rules.setter
    def rules(self, rules: RatingRules | None) -> None:
        if rules is not None and rules != self._rules:
            self._record, self._rate = _compiled().rules_array(rules), _compiled().rate
            self._no_legs = Learned(rules.slippage.edge_floor_bps, 1.0)
        self._rules = rules

    def rate(
        self,
        bot: RunningBot,
        route: RouteTerms,
        found: Opportunity,
        buying: MarketState,
        selling: MarketState,
        now_ns: int,
        *,
        breaker_factor: float,
        min_net_bps: float,
    ) -> Rated:
        """Return the size and the score of an opportunity, and what of them refuses it; ``now_ns`` is monotonic.

        ``min_net_bps`` is the edge demanded of it after fees. Its own figures are of the size the books offer; costs
        and edge are worked out again for the size that is left.
        """
        buy, sell = route.buy, route.sell
        buy_lesson = sell_lesson = self._no_legs
        if self.learned:
            buy_lesson = self.learned.get(buy.lesson, buy_lesson)
            sell_lesson = self.learned.get(sell.lesson, sell_lesson)
        extra = buy_lesson.extra_edge_bps + sell_lesson.extra_edge_bps
        factor = min(buy_lesson.threshold_factor, sell_lesson.threshold_factor)
        wins, losses = bot.record_of(found.route, route.record)
        # Where the book is not the newest word on its best price, or counts contracts, the newest word is minded.
        buy_top = buy_size = sell_top = sell_size = 0.0
        if buying.ahead or not buy.spot:
            buy_top, buy_size = buying.ask, buying.ask_size
        if selling.ahead or not sell.spot:
            sell_top, sell_size = selling.bid, selling.bid_size
        weather = self._weather.get(found.route)
        if weather is None or now_ns - weather[0] >= WEATHER_NS:
            weather = (now_ns, self._look(buy, buying, now_ns), self._look(sell, selling, now_ns))
            self._weather[found.route] = weather
        figures = np.empty(FIGURES)
        ending, notional, buy_worst, sell_worst, buy_ticks, sell_ticks, steps = self._rate(
            buying.book.asks.cells, selling.book.bids.cells,
            weather[1], weather[2],
            route.units, self._record, figures,
            found.net_bps, min_net_bps, breaker_factor,
            found.buy.vwap, found.quantity, found.buy.fee_rate, found.sell.fee_rate,
            found.buy.book_age_ms, found.sell.book_age_ms,
            buying.bid, buying.ask, selling.bid, selling.ask,
            buy_top, buy_size, sell_top, sell_size,
            wins, losses, extra, factor,
        )  # fmt: skip
        return Rated(notional, (buy_worst, sell_worst), buy_ticks, sell_ticks, steps, ending, extra, figures)

    def candidate(self, bot: RunningBot, found: Opportunity) -> scoring.Candidate:
        """Return what ranks an opportunity among those that want the same balance."""
        route = bot.route(self._desk, found)
        buying, selling = self._desk.market_state(route.buy.market), self._desk.market_state(route.sell.market)
        if buying is None or selling is None:
            return scoring.Candidate(key=found.route, expected_profit=0.0, liquidity=0.0, score=0.0)
        rated = self.rate(
            bot, route, found, buying, selling, self._desk.clock.monotonic_ns(), breaker_factor=1.0, min_net_bps=0.0
        )
        figures = _compiled().figures_of(rated.figures)
        return scoring.Candidate(
            key=found.route,
            expected_profit=found.net_profit,
            liquidity=figures.components.liquidity,
            score=figures.score,
        )

    def _look(self, leg: RouteLeg, state: MarketState, now_ns: int) -> Any:
        """Return what changes slowly about a leg's market and account."""
        desk, climate = self._desk, state.climate
        return _compiled().weather_array(
            latency=desk.answer_seconds.get(leg.purse, UNKNOWN_LATENCY_SECONDS),
            error_share=desk.error_share.get(leg.purse, 0.0),
            sigma=climate.sigma(now_ns),
            volume=climate.volume_a_day(now_ns),
            usual_spread=climate.usual_spread_bps(now_ns),
        )


@cache
def _compiled() -> Any:
    from trading.execution import rating_compiled  # noqa: PLC0415 (costly to import)

    return rating_compiled
