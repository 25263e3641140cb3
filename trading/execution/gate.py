"""Whether an opportunity becomes a trade: every check in its order, the first that refuses is the reason."""

from __future__ import annotations

from collections.abc import Sequence
from decimal import Decimal

import msgspec

from risk.policy.gate import Gate as Breakers
from risk.policy.limits import first_refusal
from risk.policy.switch import verdict as switch_verdict
from risk.policy.verdict import Verdict
from trading.execution import bots as observed
from trading.execution.bots import RunningBot
from trading.execution.breakers import BreakerDesk
from trading.execution.desk import Desk
from trading.execution.exposures import are_limited, exposures
from trading.execution.lag import LoopLag
from trading.execution.planner import Plan, plan, proposal_of
from trading.execution.rating import Rating
from trading.execution.reconciler import Reconciler
from trading.execution.trades import Trades
from trading.messages import Assessment, LegQuote, Opportunity

ANY_AGE = float("inf")


class Refusal(msgspec.Struct, frozen=True):
    """The check that refused, its verdict or its one sentence, and how the opportunity was sized and rated by then."""

    check: str
    why: str | Verdict
    assessment: Assessment | None = None


class Passed(msgspec.Struct, frozen=True):
    """The trade to make, and how its opportunity was sized and rated."""

    plan: Plan
    assessment: Assessment | None = None


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
        rules = self._rating.rules
        if rules is None or len(found) < 2:
            return found
        return sorted(found, key=lambda one: (-self._rating.worth(rules, *one), one[1].route))

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
        if bot.observed != observed.RUNNING:
            return Refusal("bot_state", f"The bot is {bot.observed}: {bot.reason}.")
        if why := bot.untradable.get(found.route):
            return Refusal("tradability", why)
        if why := self._lag.fault():  # the bot's state may not show it yet
            return Refusal("loop_lag", _sentence(why))
        switched = switch_verdict(self._desk.switch_of(bot.config.bot_id))
        if not switched.allowed:
            return Refusal("switch", switched)
        for leg in (found.buy, found.sell):
            if refusal := self._leg(bot, leg):
                return refusal
        keys = self._breakers.keys_of(bot, found)
        breakers = self._breakers.gate(keys)
        if not breakers.allowed:
            return Refusal("breaker", Verdict(allowed=False, reason=breakers.reason, until=breakers.until))
        return self._sized(bot, found, breakers)

    def _sized(self, bot: RunningBot, found: Opportunity, breakers: Breakers) -> Passed | Refusal:
        """Size an opportunity that nothing speaks against so far, and hold it against the limits."""
        limits = bot.limits_on(found)
        most = limits.max_trade_notional
        demanded = limits.min_net_edge_bps * breakers.edge_factor
        assessment: Assessment | None = None
        worst: tuple[float, float] | None = None
        if breakers.edge_factor > 1.0 and not found.net_bps >= demanded:
            return Refusal(
                "breaker",
                f"The edge after fees is {found.net_bps:.2f} bps; a probe wants at least {demanded:.2f} bps. "
                f"{breakers.reason}",
            )
        rules = self._rating.rules
        if rules is not None:
            rated = self._rating.rate(rules, bot, found, breaker_factor=breakers.factor, min_net_bps=demanded)
            if rated is None:
                return Refusal("market", "A book of the route is gone.")
            assessment, worst = rated.assessment, rated.worst
            if rated.verdict is not None and rated.check:
                return Refusal(rated.check, rated.verdict, assessment)
            most = min(most, Decimal(repr(assessment.notional)))
        elif breakers.factor < 1.0:
            most *= Decimal(repr(breakers.factor))
        planned = plan(self._desk, bot.terms, found, most, worst=worst, smallest=breakers.probe)
        if isinstance(planned, str):
            return Refusal("size", planned, assessment)
        exposed = None
        if are_limited(limits):
            exposed = exposures(self._desk, self._trades.unhedged(), found.quote, paper=bot.terms.paper)
        now_ns = self._desk.clock.time_ns()
        situation = bot.situation(found.quote, now_ns, self._desk.orders_last_minute(), exposed)
        check, verdict = first_refusal(proposal_of(self._desk, bot.config, planned), situation, limits)
        return Refusal(check, verdict, assessment) if check else Passed(planned, assessment)

    def _leg(self, bot: RunningBot, leg: LegQuote) -> Refusal | None:
        market = self._desk.markets[leg.market]
        purse = bot.terms.purses[market.exchange]
        if self._desk.fresh_book(market, ANY_AGE) is None:
            return Refusal("market", f"{leg.market}: its book is not one to trade on now.")
        if why := self._reconciler.needs_quiet(purse):
            return Refusal("comparison", _sentence(why))
        if trace := self._desk.own_trace(market, leg.side, purse):
            return Refusal("own_order", _sentence(trace))
        return None


def _sentence(why: str) -> str:
    return f"{why[0].upper()}{why[1:]}."
