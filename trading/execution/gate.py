"""Whether an opportunity becomes a trade: every check in its order, the first that refuses is the reason."""

from __future__ import annotations

from collections.abc import Sequence
from decimal import Decimal

import msgspec

from risk.policy.gate import Gate as Breakers
from risk.policy.limits import Situation, first_refusal
from risk.policy.score import rank
from risk.policy.switch import NORMAL
from risk.policy.switch import verdict as switch_verdict
from risk.policy.verdict import Verdict
from trading.basis import BASIS
from trading.execution.bots import RUNNING, RunningBot
from trading.execution.breakers import BreakerDesk
from trading.execution.desk import Desk
from trading.execution.lag import LoopLag
from trading.execution.planner import Plan, plan, proposal_of
from trading.execution.rating import Rated, Rating
from trading.execution.reconciler import Reconciler
from trading.execution.route_terms import RouteLeg, RouteTerms
from trading.execution.trades import Trades
from trading.marketdata.hub import ANY_AGE, MarketState
from trading.messages import Assessment, Opportunity, TradeMode


class Refusal(msgspec.Struct, frozen=True):
    """The check that refused, its verdict or its one sentence, and how the opportunity was sized and rated by then."""

    check: str
    why: str | Verdict
    assessment: Assessment | None = None


class Passed(msgspec.Struct, frozen=True, gc=False):
    """The trade to make, and how its opportunity was rated."""

    plan: Plan
    rated: Rated | None = None

    @property
    def assessment(self) -> Assessment | None:
        """Return how the opportunity was sized and rated, where it was."""
        return None if self.rated is None else self.rated.assessment


class Gate:
    """Judges the opportunities of one engine's bots. It reserves and sends nothing."""

    def __init__(
        self,
        desk: Desk,
        trades: Trades,
        lag: LoopLag,
        reconciler: Reconciler,
        breakers: BreakerDesk,
        rating: Rating,
    ) -> None:
        self._desk = desk
        self._trades = trades
        self._lag = lag
        self._reconciler = reconciler
        self._breakers = breakers
        self._rating = rating

    def ranked(self, found: Sequence[tuple[RunningBot, Opportunity]]) -> Sequence[tuple[RunningBot, Opportunity]]:
        """Return opportunities of one moment in the order in which they may take balances: the worthiest first."""
        if self._rating.rules is None or len(found) < 2:
            return found
        by_route = {one[1].route: one for one in found}
        return [by_route[best.key] for best in rank(self._rating.candidate(*one) for one in found)]

    def judge(self, bot: RunningBot, found: Opportunity) -> Passed | Refusal | None:
        """Return the trade to make, or what speaks against it; None while its route is busy or rests (counted)."""
        bot.counters["opportunities"] += 1
        if found.route in bot.busy_routes:
            bot.counters["refused_route_busy"] += 1
            self._desk.tally.add(found, "route_busy")
            return None
        if bot.cooling.get(found.route, 0) > found.detected_monotonic_ns:
            bot.counters["refused_cooldown"] += 1
            self._desk.tally.add(found, "cooldown")
            return None
        if bot.observed != RUNNING:
            return Refusal("bot_state", f"The bot is {bot.observed}: {bot.reason}.")
        if why := bot.untradable.get(found.route):
            return Refusal("tradability", why)
        if why := self._lag.fault():  # the bot's state may not show it yet
            return Refusal("loop_lag", sentence(why))
        switch = self._desk.switch_of(bot.config.bot_id)
        if switch is not NORMAL and not (switched := switch_verdict(switch)).allowed:
            return Refusal("switch", switched)
        desk = self._desk
        route = bot.route(desk, found)
        now_ns = desk.clock.monotonic_ns()
        buying = self._leg(route.buy, now_ns)
        if isinstance(buying, Refusal):
            return buying
        selling = self._leg(route.sell, now_ns)
        if isinstance(selling, Refusal):
            return selling
        breakers = self._breakers.gate(route.keys)
        if not breakers.allowed:
            return Refusal("breaker", Verdict(allowed=False, reason=breakers.reason, until=breakers.until))
        return self._sized(bot, found, route, buying, selling, breakers, now_ns)

    def _sized(
        self,
        bot: RunningBot,
        found: Opportunity,
        route: RouteTerms,
        buying: MarketState,
        selling: MarketState,
        breakers: Breakers,
        now_ns: int,
    ) -> Passed | Refusal:
        """Size an opportunity that nothing speaks against so far, and hold it against the limits."""
        limits = route.limits
        most = limits.max_trade_notional
        demanded = limits.min_net_edge_bps * breakers.edge_factor
        if breakers.edge_factor > 1.0 and not found.net_bps >= demanded:
            return Refusal(
                "breaker",
                f"The edge after fees is {found.net_bps:.2f} bps; a probe wants at least {demanded:.2f} bps. "
                f"{breakers.reason}",
            )
        rated: Rated | None = None
        # A pair is sized and judged by its own rules: what rates routes knows neither its exit nor its funding.
        is_basis = bot.config.strategy == BASIS
        if self._rating.rules is not None and not is_basis:
            rated = self._rating.rate(
                bot, route, found, buying, selling, now_ns, breaker_factor=breakers.factor, min_net_bps=demanded
            )  # fmt: skip
            if rated.refused:
                return Refusal(*rated.refusal(), rated.assessment)
        elif breakers.factor < 1.0:
            most *= Decimal(repr(breakers.factor))
        planned = plan(self._desk, route, found, most, sized=rated, smallest=breakers.probe)
        if isinstance(planned, str):
            return Refusal("size", planned, None if rated is None else rated.assessment)
        exposed = None
        desk = self._desk
        if route.limits_exposures:
            exposed = self._trades.exposures(found.quote, paper=bot.terms.paper)
        situation = bot.situation(found.quote, desk.clock.time_ns(), desk.orders_last_minute(now_ns), exposed)
        if is_basis and (held := self._trades.held_by(bot.config.bot_id)):
            situation = msgspec.structs.replace(situation, open_trades=len(bot.open_trades | held))
        if limits.max_open_trades_together is not None or limits.max_daily_loss_together is not None:
            situation = together(situation, self._trades, self._breakers, bot.purses.mode, found.quote)
        check, verdict = first_refusal(
            proposal_of(desk, route, planned, buying, selling), situation, limits, route.rules
        )
        if check:
            return Refusal(check, verdict, None if rated is None else rated.assessment)
        return Passed(planned, rated)

    def _leg(self, leg: RouteLeg, now_ns: int) -> Refusal | MarketState:
        """Return the market of a leg as it is now, unless something of it speaks against a trade."""
        state = self._desk.market_state(leg.market)
        if state is None or not self._desk.tradable(state, ANY_AGE):
            return Refusal("market", f"{leg.market.key}: its book is not one to trade on now.")
        if self._reconciler.quieted and (why := self._reconciler.needs_quiet(leg.purse)):
            return Refusal("comparison", sentence(why))
        if trace := self._desk.footprints.refusal(leg.footprint, state.book_monotonic_ns, now_ns):
            return Refusal("own_order", sentence(trace))
        return state


def together(situation: Situation, trades: Trades, breakers: BreakerDesk, mode: TradeMode, quote: str) -> Situation:
    """Return a situation with what all the owner's bots have open, and have earned today, with one kind of money."""
    return msgspec.structs.replace(
        situation,
        open_together=trades.open_together(paper=mode == TradeMode.PAPER),
        realised_together=breakers.realised_today(mode, quote),
    )


def sentence(why: str) -> str:
    return f"{why[0].upper()}{why[1:]}."
