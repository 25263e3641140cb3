"""Whether an opportunity becomes a trade: every check in its order, the first that refuses is the reason."""

from __future__ import annotations

import msgspec

from risk.policy.limits import first_refusal
from risk.policy.verdict import Verdict
from trading.execution import bots as observed
from trading.execution.bots import RunningBot
from trading.execution.desk import Desk
from trading.execution.lag import LoopLag
from trading.execution.planner import Plan, plan, proposal_of
from trading.execution.reconciler import Reconciler
from trading.messages import Assessment, LegQuote, Opportunity

ANY_AGE = float("inf")


class Refusal(msgspec.Struct, frozen=True):
    """The check that refused, its verdict or its one sentence, and how the opportunity was sized and rated by then."""

    check: str
    why: str | Verdict
    assessment: Assessment | None = None


class Gate:
    """Judges the opportunities of one engine's bots. It reserves and sends nothing."""

    def __init__(self, desk: Desk, lag: LoopLag, reconciler: Reconciler) -> None:
        self._desk = desk
        self._lag = lag
        self._reconciler = reconciler

    def judge(self, bot: RunningBot, found: Opportunity) -> Plan | Refusal | None:
        """Return the trade to make, or what speaks against it; None while its route is busy or rests (counted)."""
        bot.counters["opportunities"] += 1
        if found.route in bot.busy_routes:
            bot.counters["refused_route_busy"] += 1
            return None
        if bot.cooling.get(found.route, 0) > found.detected_monotonic_ns:
            bot.counters["refused_cooldown"] += 1
            return None
        if bot.observed != observed.RUNNING:
            return Refusal("bot_state", f"The bot is {bot.observed}: {bot.reason}.")
        if why := bot.untradable.get(found.route):
            return Refusal("tradability", why)
        if why := self._lag.fault():  # the bot's state may not show it yet
            return Refusal("loop_lag", _sentence(why))
        for leg in (found.buy, found.sell):
            if refusal := self._leg(bot, leg):
                return refusal
        planned = plan(self._desk, bot.terms, found, bot.config.max_trade_notional)
        if isinstance(planned, str):
            return Refusal("size", planned)
        situation = bot.situation(found.quote, self._desk.clock.time_ns())
        check, verdict = first_refusal(proposal_of(self._desk, bot.config, planned), situation, bot.limits)
        return Refusal(check, verdict) if check else planned

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
