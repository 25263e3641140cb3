"""Whether a trade by hand may be opened: the same rules as for an opportunity's, but those about its edge."""

from __future__ import annotations

from decimal import Decimal
from statistics import median

import msgspec

from risk.policy.limits import LegNeed, Proposal, first_refusal
from risk.policy.switch import verdict as switch_verdict
from risk.policy.verdict import Verdict
from trading.execution import bots as observed
from trading.execution.bots import RunningBot
from trading.execution.breakers import BreakerDesk
from trading.execution.desk import Desk
from trading.execution.exposures import are_limited
from trading.execution.gate import Refusal, sentence, together
from trading.execution.lag import LoopLag
from trading.execution.reconciler import Reconciler
from trading.execution.repair import smallest_order
from trading.execution.reserving import needed
from trading.execution.route_terms import limits_at
from trading.execution.trades import Trades
from trading.instruments import Market, base_quantity, lot_quantity
from trading.messages import TradeMode
from trading.portfolio import Purse
from trading.tickets import TicketTerms


class TicketGate:
    """Judges what is asked for by hand. It reserves and sends nothing."""

    def __init__(self, desk: Desk, trades: Trades, lag: LoopLag, reconciler: Reconciler, breakers: BreakerDesk) -> None:
        self._desk = desk
        self._trades = trades
        self._lag = lag
        self._reconciler = reconciler
        self._breakers = breakers

    def is_comparing(self, purse: Purse) -> bool:
        """Return whether an account begins no trade only because it is being compared with its exchange."""
        return bool(self._reconciler.needs_quiet(purse))

    def judge(self, bot: RunningBot, asked: TicketTerms, purse: Purse, mode: TradeMode) -> Refusal | None:
        """Return what speaks against it, or None."""
        if bot.observed != observed.RUNNING:
            return Refusal("bot_state", f"The bot {bot.config.name} is {bot.observed}: {bot.reason}.")
        if why := self._lag.fault():
            return Refusal("loop_lag", sentence(why))
        switched = switch_verdict(self._desk.switch_of(bot.config.bot_id))
        if not switched.allowed:
            return Refusal("switch", switched)
        market = self._desk.markets[asked.market]
        if self._desk.fresh_book(market, float("inf")) is None:
            return Refusal("market", f"{market.key}: its book is not one to trade on now.")
        if why := self._reconciler.needs_quiet(purse):
            return Refusal("comparison", sentence(why))
        breakers = self._breakers.gate(self._breakers.keys_at(bot.config.bot_id, purse.account_id, market))
        if not breakers.allowed:
            return Refusal("breaker", Verdict(allowed=False, reason=breakers.reason, until=breakers.until))
        if refusal := _size(asked, market):
            return Refusal("size", refusal)
        limits = limits_at(bot.config, bot.limits, [market.exchange], f"{market.base}/{market.quote}")
        if breakers.factor < 1.0:
            most = limits.max_trade_notional * Decimal(repr(breakers.factor))
            limits = msgspec.structs.replace(
                limits, max_trade_notional=most, sources={**limits.sources, "max_trade_notional": breakers.reason}
            )
        # A trade by hand has no edge to judge.
        limits = msgspec.structs.replace(limits, min_net_edge_bps=float("-inf"), max_edge_bps=float("inf"))
        now_ns = self._desk.clock.time_ns()
        exposed = None
        if are_limited(limits):
            exposed = self._trades.exposures(market.quote, paper=purse.paper)
        sent = self._desk.orders_last_minute(self._desk.clock.monotonic_ns())
        situation = bot.situation(market.quote, now_ns, sent, exposed)
        held = self._trades.held_by(bot.config.bot_id)
        situation = msgspec.structs.replace(
            situation,
            open_trades=len(bot.open_trades | held),
            realised_today=bot.realised(market.quote, now_ns, mode),
        )
        situation = together(situation, self._trades, self._breakers, mode, market.quote)
        check, verdict = first_refusal(self._proposal(bot, asked, market, purse), situation, limits)
        return Refusal(check, verdict) if check else None

    def _proposal(self, bot: RunningBot, asked: TicketTerms, market: Market, purse: Purse) -> Proposal:
        desk = self._desk
        price = asked.limit_cap
        asset, amount = needed(
            market, asked.side, asked.quantity, price, leverage=asked.leverage, mark=desk.middle(market)
        )
        if asked.is_close_only and market.kind != "spot":
            amount = Decimal(0)  # it reduces
        state = desk.market_state(market)
        age_ns = desk.clock.monotonic_ns() - (state.received_monotonic_ns if state is not None else 0)
        base = base_quantity(market, asked.quantity, price)
        return Proposal(
            notional=asked.quantity * market.contract_size if market.kind == "inverse" else base * price,
            quote=market.quote,
            gross_bps=0.0,
            net_bps=0.0,
            book_age_ms=age_ns / 1e6,
            quote_deviation_bps=_deviation(desk, bot, market),
            needs=(
                LegNeed(
                    account=str(purse.account_id),
                    asset=asset,
                    needed=amount,
                    free=desk.portfolio.free(purse, asset),
                ),
            ),
            base=market.base,
            exchanges=(market.exchange,),
            accounts=(str(purse.account_id),),
            orders=1 + sum(level is not None for level in (asked.take_profit, asked.stop_loss)),
        )


def _deviation(desk: Desk, bot: RunningBot, traded: Market) -> float:
    """Return how far a market's mid stands from the median of the bot's live markets of its pair, in bps."""
    alike = [one for one in bot.config.markets if (one.base, one.quote) == (traded.base, traded.quote)]
    mids = [mid for one in alike if (mid := desk.mid(one)) is not None]
    own = desk.mid(traded)
    return abs(own / median(mids) - 1) * 1e4 if mids and own is not None else 0.0


def _size(asked: TicketTerms, market: Market) -> str:
    """Return why the market takes no order of this size, or an empty string; services say it before."""
    if asked.quantity <= 0 or lot_quantity(asked.quantity, market) != asked.quantity:
        return f"{market.key} takes whole lots of {market.lot:f}; {asked.quantity:f} were given."
    least = smallest_order(market, asked.limit_cap)
    if asked.quantity < least:
        return f"{market.key} takes orders of at least {least:f}; {asked.quantity:f} were given."
    return ""
