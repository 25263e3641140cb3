"""An engine's spot-against-perpetual bots: what their pairs offer, and what becomes of the pairs they hold."""

from __future__ import annotations

import asyncio
import math
from collections.abc import Callable, Sequence
from decimal import Decimal

import msgspec

from trading.arbitrage.basis import (
    Entry,
    entry,
    expected_funding,
    funding_refusal,
    pair_refusal,
    shortfall,
    why_leave,
)
from trading.arbitrage.depth import BPS, BaseLevels, LegTerms, PairTerms, Refusal
from trading.arbitrage.opportunities import opportunity_of
from trading.basis import BasisTerms, Closing, Funding
from trading.config import BotConfig
from trading.execution.basis_exit import edge_now, held_now
from trading.execution.basis_trade import BasisTrade
from trading.execution.bots import RunningBot
from trading.execution.desk import Desk
from trading.execution.trades import Trades
from trading.instruments import Market
from trading.marketdata.hub import ANY_AGE, MarketState
from trading.messages import IncomeKind, Opportunity
from trading.portfolio import Purse
from trading.tasks import end_tasks

LOOK_SECONDS = 1.0  # how often pairs are looked at though no price has moved
SHOW_NS = 1_000_000_000  # a held pair is shown at most so often
STORE_NS = 60 * 10**9  # and how it stands is stored so often
PAID_NS = 5 * 10**9  # so long after a payment was due it is asked for
ASK_NS = 600 * 10**9  # and what was paid is asked for again so often,
NEWS_NS = 10 * 10**9  # or, after news of an account's positions, at most so often
LEVERAGE_SECONDS = 30.0  # before a leverage that was asked for in vain is asked for again,
LEVERAGE_KEPT_SECONDS = 1.0  # or one that was set and is not known to hold any more
FIGURE = Decimal("1e-6")
ZERO = Decimal(0)


class Offer(msgspec.Struct, frozen=True):
    """A pair that pays its entry's fees: as an opportunity, and why it is not entered all the same."""

    found: Opportunity
    terms: BasisTerms
    check: str = ""
    why: str = ""


class _Pair:
    """One bot's interest in one spot market and one perpetual."""

    __slots__ = ("bot", "buy", "name", "perp", "sell", "spot", "states", "terms")

    def __init__(self, bot: BotConfig, spot: Market, perp: Market, spot_state: MarketState, perp_state: MarketState):
        self.bot = bot
        self.spot, self.perp = spot, perp
        self.buy, self.sell = LegTerms.of(spot), LegTerms.of(perp)
        self.terms = PairTerms.of(self.buy, self.sell)
        self.name = f"{bot.bot_id}:{spot.key}>{perp.key}"
        self.states = spot_state, perp_state


class BasisDesk:
    """Finds entries for the basis bots of one engine, and looks after what they hold.

    ``follow`` has a market's data flow. ``funding_age`` tells the seconds since a market's funding was heard of.
    ``bot_of`` knows the bots that run, ``again`` has a market's pairs looked at once more.
    """

    def __init__(
        self,
        desk: Desk,
        trades: Trades,
        *,
        follow: Callable[[Market], MarketState],
        funding_age: Callable[[MarketState], float],
        bot_of: Callable[[int], RunningBot | None],
        again: Callable[[str], None],
    ) -> None:
        self._desk = desk
        self._trades = trades
        self._follow = follow
        self._funding_age = funding_age
        self._bot_of = bot_of
        self._again = again
        self._pairs: dict[str, list[_Pair]] = {}  # by market
        # By purse and perpetual: the leverage asked for last, until when (monotonic) it isn't again, why it is not so.
        self._leverage: dict[tuple[Purse, str], tuple[int, int, str]] = {}
        self._asking: set[asyncio.Task[None]] = set()
        self._shown: dict[str, int] = {}  # by trade, when (monotonic) it was last shown
        self._stored: dict[str, int] = {}
        self._asked: dict[str, int] = {}  # by trade, when (monotonic) its funding was last asked for
        self._due: dict[str, Funding] = {}  # by trade on paper, the payment that comes next
        self.evaluated = 0

    # -- entries ----------------------------------------------------------------------------------------------------

    def add_bot(self, bot: BotConfig) -> None:
        """Watch every pair of a bot's spot and perpetual markets; adding a bot again replaces it."""
        self.remove_bot(bot.bot_id)
        for spot in bot.markets:
            for perp in bot.markets:
                if pair_refusal(spot, perp):
                    continue
                pair = _Pair(bot, spot, perp, self._follow(spot), self._follow(perp))
                for key in (spot.key, perp.key):
                    self._pairs.setdefault(key, []).append(pair)

    def remove_bot(self, bot_id: int) -> None:
        """Look for no more entries for a bot."""
        for key, pairs in list(self._pairs.items()):
            kept = [pair for pair in pairs if pair.bot.bot_id != bot_id]
            if kept:
                self._pairs[key] = kept
            else:
                del self._pairs[key]

    def on_change(self, key: str) -> Sequence[Offer]:
        """Return what the pairs of a market offer now; look at those that are held."""
        for trade in self._trades.pairs():
            if key in {trade.basis.spot, trade.basis.perp}:
                self._look_at(trade)
        pairs = self._pairs.get(key)
        if pairs is None:
            return ()
        return [offer for pair in pairs if (offer := self._offer(pair)) is not None]

    def _offer(self, pair: _Pair) -> Offer | None:
        self.evaluated += 1
        buying, selling = pair.states
        rules = pair.bot.basis
        funding = selling.funding
        age = self._funding_age(selling)
        now_ns = self._desk.clock.time_ns()
        expected = 0.0 if funding is None else expected_funding(funding, now_ns, rules.funding_hours)
        if not buying.ask > 0 or not selling.bid > 0:
            return None
        # Below this nothing is said of it: its best prices do not even pay what is paid at once.
        paid_now = pair.buy.fee + pair.sell.fee
        if selling.bid / buying.ask - 1.0 + max(expected, 0.0) <= paid_now:
            return None
        if not all(self._desk.tradable(state, ANY_AGE) for state in (buying, selling)):
            return None
        asks = BaseLevels(buying.book.asks, pair.buy, buying.ask, buying.ask_size)
        bids = BaseLevels(selling.book.bids, pair.sell, selling.bid, selling.bid_size)
        most = float(pair.bot.max_trade_notional)
        priced = entry(asks, bids, rules, expected, most)
        if isinstance(priced, Refusal):
            priced = shortfall(asks, bids, rules, expected, most)  # a refusal with its figures
        if isinstance(priced, Refusal):
            return None
        check, why = self._refusal(pair, priced, funding, age)
        terms = BasisTerms(
            spot=pair.spot.key, perp=pair.perp.key, rules=rules, funding_rate=0.0 if funding is None else funding.rate
        )
        return Offer(self._opportunity(pair, priced), terms, check, why)

    def _refusal(self, pair: _Pair, priced: Entry, funding: Funding | None, age: float) -> tuple[str, str]:
        """Return the check that speaks against an entry, and why; both empty where none does."""
        rules = pair.bot.basis
        if why := funding_refusal(rules, funding, age):
            return "funding", why
        if priced.edge_bps < rules.min_entry_bps:
            return "entry_edge", (
                f"The entry edge is {priced.edge_bps:.2f} bps ({priced.gross_bps:.2f} less {priced.fees_bps:.2f} of "
                f"fees and {priced.reserve_bps:.2f} of reserve, funding {priced.funding_bps:+.2f}); "
                f"at least {rules.min_entry_bps:.2f} bps."
            )
        bot = self._bot_of(pair.bot.bot_id)
        purse = None if bot is None else bot.purses.by_exchange.get(pair.perp.exchange)
        if purse is None:
            return "bot_state", "The bot does not run."
        on_it = [trade for trade in self._trades.pairs() if trade.perp.key == pair.perp.key]
        if any(purse in trade.terms.purses.values() for trade in on_it):
            return "held", f"A pair with {pair.perp.key} is held on this account already."
        if not purse.paper and self._desk.holdings.differs(purse.account_id, pair.perp.key):
            return "held", f"The position in {pair.perp.key} is not what our fills explain."
        if not purse.paper and any(told.market == pair.perp.key for told in self._desk.holdings.positions(purse)):
            return "held", f"The account holds a position in {pair.perp.key} already."
        if why := self._leveraged(purse, pair.perp, rules.leverage):
            return "leverage", why
        return "", ""

    def _leveraged(self, purse: Purse, perp: Market, leverage: int) -> str:
        """Have the exchange hold a perpetual with the bot's leverage; return why it does not yet."""
        if self._desk.venues[purse].has_leverage(perp.key, leverage):
            return ""
        now = self._desk.clock.monotonic_ns()
        asked, until_ns, why = self._leverage.get((purse, perp.key), (0, 0, ""))
        if asked == leverage and now < until_ns:
            return why
        why = f"The leverage of {perp.key} is being set to {leverage}."
        self._keep_leverage(purse, perp, leverage, LEVERAGE_SECONDS, why)
        task = asyncio.get_running_loop().create_task(self._set_leverage(purse, perp, leverage))
        self._asking.add(task)
        task.add_done_callback(self._asking.discard)
        return why

    async def _set_leverage(self, purse: Purse, perp: Market, leverage: int) -> None:
        why = await self._desk.venues[purse].set_leverage(perp.key, leverage)
        if why:
            self._keep_leverage(purse, perp, leverage, LEVERAGE_SECONDS, f"{why[0].upper()}{why[1:]}.")
        else:
            unknown = f"The leverage of {perp.key} was set to {leverage}, but is not known to be that any more."
            self._keep_leverage(purse, perp, leverage, LEVERAGE_KEPT_SECONDS, unknown)
            self._again(perp.key)

    def _keep_leverage(self, purse: Purse, perp: Market, leverage: int, seconds: float, why: str) -> None:
        until_ns = self._desk.clock.monotonic_ns() + int(seconds * 1e9)
        self._leverage[purse, perp.key] = (leverage, until_ns, why)

    def _opportunity(self, pair: _Pair, priced: Entry) -> Opportunity:
        quote = priced.quote
        return opportunity_of(
            self._desk.clock,
            quote,
            pair.terms,
            (pair.states[0].received_monotonic_ns, pair.states[1].received_monotonic_ns),
            bot_id=pair.bot.bot_id,
            route=pair.name,
            assets=(pair.spot.base, pair.spot.quote),
            net_bps=priced.edge_bps,
            net_profit=priced.edge_bps / BPS * quote.buy.notional,
        )

    # -- what is held -----------------------------------------------------------------------------------------------

    async def run(self) -> None:
        """Look at what is held, and at what could be entered, until cancelled.

        Funding, leverage and the moment decide about an entry too, and none of them comes with a change of prices.
        """
        try:
            while True:
                await self._desk.clock.sleep(LOOK_SECONDS)
                for trade in self._trades.pairs():
                    self._look_at(trade)
                self._forget_ended()
                for key in {pair.perp.key: None for pairs in self._pairs.values() for pair in pairs}:
                    self._again(key)
        finally:
            await end_tasks(self._asking)

    async def fund(self) -> None:
        """Keep count of the funding that is paid until cancelled; an exchange that is slow to tell holds up no more."""
        while True:
            await self._desk.clock.sleep(LOOK_SECONDS)
            for trade in self._trades.pairs():
                await self._fund(trade)

    def _forget_ended(self) -> None:
        held = {trade.record.trade_id for trade in self._trades.pairs()}
        for name in self._shown.keys() - held:
            for table in (self._shown, self._stored, self._asked, self._due):
                table.pop(name, None)

    def on_positions(self, purse: Purse) -> None:
        """Compare what was told of an account's positions with the pairs held on it."""
        for trade in self._trades.pairs():
            if trade.terms.purses.get(trade.perp.exchange) != purse or purse.paper or trade.finished:
                continue
            # A payment makes the exchange tell of the account, though not of which market it was.
            asked = self._asked.get(trade.record.trade_id)
            if asked is not None and self._desk.clock.monotonic_ns() - asked >= NEWS_NS:
                del self._asked[trade.record.trade_id]
            excess = self._desk.holdings.difference(purse.account_id, trade.perp.key, "short")
            if excess <= 0:
                continue
            size = trade.perp.contract_size
            told = self._desk.holdings.of(purse, trade.perp.key, "short")
            # What still stands is not gone, whatever differs.
            left = ZERO if told is None else abs(told.quantity) * size
            gone = trade.pair().perp * size + trade.standing.outside - left
            perp, spot = self._desk.market_state(trade.perp), self._desk.market_state(trade.spot)
            price = None if perp is None or not perp.ask > 0 else Decimal(repr(perp.ask))
            bid = None if spot is None or not spot.bid > 0 else Decimal(repr(spot.bid))
            if trade.lose(min(excess * size, gone), price, bid):
                self._trades.settle_again(trade)

    def close(self, trade: BasisTrade, closing: Closing) -> str:
        """Begin to close a pair; return one sentence why not, or an empty string once that is under way."""
        if refusal := trade.close(closing):
            return refusal
        if not trade.finished:
            self._trades.settle_again(trade)
        return ""

    def _look_at(self, trade: BasisTrade) -> None:
        """Close a pair that is held if there is a reason, else show how it stands."""
        if not trade.holds or trade.record.trade_id in self._trades.tasks or self._desk.stopping or self._desk.halted:
            return
        perp = self._desk.market_state(trade.perp)
        bot = self._bot_of(trade.record.bot_id)
        held = held_now(trade, is_wanted=bot is not None and not bot.stopping)
        edge = edge_now(trade, held)
        funding, age = (None, math.inf) if perp is None else (perp.funding, self._funding_age(perp))
        why = why_leave(trade.basis.rules, held, funding, age, edge, self._desk.clock.time_ns())
        if why is not None:
            self.close(trade, why)
            return
        self._show(trade, edge)

    def _show(self, trade: BasisTrade, edge: float) -> None:
        now, name = self._desk.clock.monotonic_ns(), trade.record.trade_id
        if now - self._shown.get(name, -SHOW_NS) < SHOW_NS:
            return
        self._shown[name] = now
        exit_bps = None if math.isnan(edge) else Decimal(repr(edge)).quantize(FIGURE)
        trade.stand(exit_bps, self._desk.clock.time_ns(), is_stored=now - self._stored.get(name, -STORE_NS) >= STORE_NS)
        if now - self._stored.get(name, -STORE_NS) >= STORE_NS:
            self._stored[name] = now

    async def _fund(self, trade: BasisTrade) -> None:
        """Keep count of the funding a pair receives: as the exchange tells it, on paper from the rates."""
        if not trade.holds:
            return
        purse = trade.terms.purses[trade.perp.exchange]
        state = self._desk.market_state(trade.perp)
        funding = None if state is None else state.funding
        if purse.paper:
            self._estimate(trade, funding)
            return
        now, name = self._desk.clock.monotonic_ns(), trade.record.trade_id
        due = self._due.get(name)
        is_paid = due is not None and self._desk.clock.time_ns() >= due.next_ns + PAID_NS
        if funding is not None and (due is None or is_paid):
            self._due[name] = funding
        if not is_paid and now - self._asked.get(name, -ASK_NS) < ASK_NS:
            return
        self._asked[name] = now
        asked_ns = self._desk.clock.time_ns()
        told = await self._desk.venues[purse].incomes(trade.record.opened_ns)
        if told is not None and trade.holds:
            paid = [one for one in told if (one.kind, one.market) == (IncomeKind.FUNDING, trade.perp.key)]
            amount = sum((one.amount for one in paid if one.asset == trade.record.quote), ZERO)
            if amount != trade.standing.funding:
                trade.count_funding(amount, asked_ns, is_estimated=False)

    def _estimate(self, trade: BasisTrade, funding: Funding | None) -> None:
        """Count a payment on paper once its time has come: at the rate and mark price that were last told before it."""
        name, now_ns = trade.record.trade_id, self._desk.clock.time_ns()
        due = self._due.get(name)
        if due is not None and now_ns >= due.next_ns > trade.standing.funding_ns:
            notional = trade.pair().perp_base(trade.perp) * Decimal(repr(due.mark))
            amount = (notional * Decimal(repr(due.rate))).quantize(FIGURE)
            trade.count_funding(trade.standing.funding + amount, due.next_ns, is_estimated=True)
        if funding is not None and funding.next_ns > now_ns:
            self._due[name] = funding
