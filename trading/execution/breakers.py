"""Circuit breakers as one engine sees and feeds them: asked before a trade, told what came of it.

What trips one holds here at once and is made durable by :meth:`BreakerDesk.run`; what other processes and operators do
comes with the configuration. Only new trades are ever asked about.
"""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Callable, Mapping, Sequence
from decimal import Decimal
from typing import TypeVar

import msgspec

from risk.policy import gate
from risk.policy.breakers import Breaker, BreakerEvent, BreakerNews, BreakerRules, BreakerState, Scope, after, refusal
from risk.policy.gate import Gate, Key, Leg, keys_of
from risk.policy.rulebook import ScopeRules
from risk.policy.threshold import Day, daily_loss
from risk.policy.triggers import Trigger, Trip, Watch
from trading.config import RiskPicture
from trading.execution.bots import RunningBot
from trading.execution.desk import Desk
from trading.execution.saga import Saga
from trading.instruments import Market
from trading.marketdata.hub import LIVE, MarketState
from trading.messages import Opportunity, OrderIntent, Outcome, TradeState
from trading.portfolio import Purse
from trading.ports import LeaseLost, StoreUnavailable

LOOK_SECONDS = 1.0  # how often the age of data is looked at
RETRY_SECONDS = 1.0  # after the store did not take an event
ANSWERS = {Outcome.PLACED: "ok", Outcome.REJECTED: "rejected", Outcome.UNKNOWN: "error"}
ZERO = Decimal(0)
OWN = frozenset({Scope.OWNER, Scope.BOT, Scope.ACCOUNT})  # whose breakers only their owner sees amounts of
MOST_REMEMBERED = 10_000  # trades, so that a late fill of one counts its difference
T = TypeVar("T")


class BreakerDesk:
    """``holder`` names this engine where it claims probes; ``followed`` are the markets whose data it trades on.

    ``on_change`` is called when something was tripped here.
    """

    def __init__(
        self,
        desk: Desk,
        holder: str,
        *,
        followed: Callable[[], Sequence[MarketState]],
        on_change: Callable[[], None],
    ) -> None:
        self._desk = desk
        self._holder = holder
        self._followed = followed
        self._on_change = on_change
        self._known = gate.Breakers()
        self._ours: dict[Key, Breaker] = {}  # as events made them that are not durable yet
        self._rules: Mapping[Scope, ScopeRules] = {}
        self._breaker_rules: Mapping[Scope, BreakerRules] = {}
        self._watches: dict[Key, Watch] = {}
        self._days: dict[tuple[str, str], Day] = {}  # by trade mode and quote asset
        self._counted: dict[str, Decimal] = {}  # profit counted of finished trades, by trade
        self._legged: dict[str, None] = {}  # trades that were counted as one-legged
        self._down_since: dict[str, int] = {}  # by market, when (monotonic) its feed was first seen to be down
        self._probing: dict[Key, str] = {}  # the trade that has our probe
        self._news: deque[BreakerNews] = deque()
        self._claims: deque[Breaker] = deque()
        self._wake = asyncio.Event()
        self._sequence = 0

    def mark(self) -> int:
        """Return what :meth:`configure` is given with a picture that is read after this."""
        return self._known.mark()

    def configure(self, picture: RiskPicture, mark: int) -> None:
        """Take over what was read of breakers and their rules."""
        self._known.sync(picture.tripped, mark)
        if picture.rules != self._rules:
            self._rules = picture.rules
            self._breaker_rules = {scope: rules.breaker for scope, rules in picture.rules.items()}
            self._watches.clear()

    # -- before a trade -----------------------------------------------------------------------------------------

    def keys_of(self, bot: RunningBot, found: Opportunity) -> tuple[Key, ...]:
        """Return the keys of all breakers over an opportunity's route."""
        keys = bot.breaker_keys.get(found.route)
        if keys is None:
            markets = [self._desk.markets[leg.market] for leg in (found.buy, found.sell)]
            legs = [_leg(bot.terms.purses[market.exchange].account_id, market) for market in markets]
            keys = keys_of(owner_id=self._desk.owner_id, bot_id=bot.config.bot_id, legs=legs)
            bot.breaker_keys[found.route] = keys
        return keys

    def gate(self, keys: Sequence[Key]) -> Gate:
        """Return what the breakers of a route allow; a free probe is claimed, for the next opportunity."""
        now_ns = self._desk.clock.time_ns()
        if not self._ours:
            found = self._known.gate(keys, self._breaker_rules, self._holder, now_ns)
        else:
            breakers = [breaker for key in keys if (breaker := self._breaker(key)) is not None]
            found = gate.verdict(breakers, self._breaker_rules, self._holder, now_ns)
        if found.claims and not self._claims:
            self._claims.extend(found.claims)
            self._wake.set()
        if found.probe and (trade := next((self._probing[key] for key in keys if key in self._probing), "")):
            return Gate(allowed=False, factor=0.0, reason=f"Trade {trade} is the probe; its result is waited for.")
        return found

    def opened(self, trade_id: str, keys: Sequence[Key]) -> None:
        """Note which trade has the probes of a route."""
        for key in keys:
            breaker = self._breaker(key)
            if breaker is not None and breaker.state is BreakerState.PROBING and breaker.holder == self._holder:
                self._probing[key] = trade_id

    def tripped(self, keys: Sequence[Key]) -> list[Breaker]:
        """Return the breakers of a route that are not closed."""
        return [breaker for key in keys if (breaker := self._breaker(key)) is not None]

    def _breaker(self, key: Key) -> Breaker | None:
        return self._ours.get(key) or self._known.get(*key)

    # -- evidence -----------------------------------------------------------------------------------------------

    def on_result(self, saga: Saga) -> None:
        """Count a finished trade once, and what a late fill changes of it as one more result."""
        record = saga.record
        keys = self._keys_of_trade(saga)
        now_ns = self._desk.clock.time_ns()
        trade = record.trade_id
        if trade not in self._legged and (record.state is TradeState.EXPOSED or _one_legged(saga)):
            _remember(self._legged, trade, None)
            for key in keys:
                self._trip(key, self._watch(key).note_one_legged(now_ns), trade)
        profit = record.realised_profit
        if profit is None:
            self._give_back(trade, keys)
            return
        counted = self._counted.get(trade)
        if counted == profit:
            return
        _remember(self._counted, trade, profit)
        news = profit - (counted or ZERO)
        event = BreakerEvent.LOSS if news < 0 else BreakerEvent.CLEAN
        for key in keys:
            self._probing.pop(key, None)
            breaker = self._breaker(key)
            if breaker is None or refusal(breaker, event, now_ns, holder=self._holder):
                continue
            reason = f"Trade {trade} ended at {profit:f} {record.quote}."
            if key[0] not in OWN:
                reason = "A trade ended at a loss." if news < 0 else "A trade ended without a loss."
            event_id = f"{trade}:{profit.normalize():f}"
            self._tell(key, event, reason=reason, trigger=Trigger.PROBE.value, event_id=event_id)
        for key in keys:
            self._trip(key, self._watch(key).note_result(news, now_ns), trade)
        self._note_day(saga, news, now_ns)

    def on_answer(self, intent: OrderIntent, outcome: Outcome, seconds: float) -> None:
        """Count what an exchange answered to an order, and how long it took."""
        market = self._desk.markets[intent.market]
        now_ns = self._desk.clock.time_ns()
        for key in _of_leg(_leg(intent.account_id, market)):
            trip = self._watch(key).note_answer(ANSWERS[outcome], seconds * 1e3, now_ns)  # type: ignore[arg-type]
            self._trip(key, trip, intent.client_order_id)

    def on_difference(self, purse: Purse, what: str) -> None:
        """Take notice of a new difference between our books and an account."""
        key = (Scope.ACCOUNT, str(purse.account_id))
        self._trip(key, self._watch(key).note_difference(self._desk.clock.time_ns(), what), "")

    def seed_day(self, mode: str, quote: str, realised: Decimal) -> None:
        """Begin the present day with what is known to have been earned in it."""
        now_ns = self._desk.clock.time_ns()
        self._days.setdefault((mode, quote), Day().noted(realised, now_ns))

    def _note_day(self, saga: Saga, news: Decimal, now_ns: int) -> None:
        record = saga.record
        key = (Scope.OWNER, str(self._desk.owner_id))
        day = self._days[record.mode, record.quote] = self._days.get((record.mode, record.quote), Day()).noted(
            news, now_ns
        )
        rules = self._rules[Scope.OWNER].threshold
        if rules is None or news >= 0:
            return
        equity = self._equity(record.quote, paper=saga.terms.paper)
        trip = daily_loss(equity=equity, realised=day.realised, peak=day.peak, rules=rules, now_ns=now_ns)
        self._trip(key, trip, record.trade_id)

    def _equity(self, quote: str, *, paper: bool) -> Decimal:
        """Return what the owner's accounts are worth in ``quote``; assets without a price here count nothing."""
        total = ZERO
        for purse, figures in self._desk.portfolio.figures():
            amount = figures.free + figures.used
            if purse.paper is paper and amount > 0:
                price = Decimal(1) if figures.asset == quote else self._desk.value(figures.asset, quote)
                total += amount * price if price is not None else ZERO
        return total

    def _look_at_ages(self) -> None:
        now_ns, monotonic_ns = self._desk.clock.time_ns(), self._desk.clock.monotonic_ns()
        for state in self._followed():
            if not state.received_monotonic_ns:  # it has never been live: nothing was traded on it
                continue
            # A market without news is no stale one as long as its feed lives: feeds have a watchdog of their own.
            since_ns = self._down_since.setdefault(state.key, monotonic_ns) if state.status != LIVE else monotonic_ns
            if state.status == LIVE:
                self._down_since.pop(state.key, None)
            key = (Scope.PAIR_ON_EXCHANGE, _pair_on_exchange(state.market))
            self._trip(key, self._watch(key).note_stale((monotonic_ns - since_ns) / 1e9, now_ns), "")

    def _watch(self, key: Key) -> Watch:
        watch = self._watches.get(key)
        if watch is None:
            watch = self._watches[key] = Watch(self._rules[key[0]].triggers)
        return watch

    # -- what comes of it ---------------------------------------------------------------------------------------

    def _trip(self, key: Key, trip: Trip | None, what: str) -> None:
        if trip is None:
            return
        self._sequence += 1
        if key[0] not in OWN and trip.trigger is Trigger.WINDOW_LOSS:
            trip = msgspec.structs.replace(trip, reason="More was lost within the rules' time than they allow.")
        self._desk.alarm(f"circuit breaker of {Breaker(scope=key[0], key=key[1]).name}: {trip.reason}")
        self._tell(
            key,
            BreakerEvent.TRIP,
            reason=trip.reason,
            trigger=trip.trigger.value,
            seconds=trip.seconds,
            figures={**trip.figures, **({"of": what} if what else {})},
            event_id=f"{self._holder}:{self._sequence}",
        )
        self._on_change()

    def _give_back(self, trade_id: str, keys: Sequence[Key]) -> None:
        """Give back the probe of a trade that executed nothing: it has shown nothing."""
        for key in keys:
            if self._probing.get(key) == trade_id:
                del self._probing[key]
                self._tell(key, BreakerEvent.PROBE_LAPSED, reason=f"Trade {trade_id} executed nothing.")

    def _tell(
        self,
        key: Key,
        event: BreakerEvent,
        *,
        reason: str,
        trigger: str = "",
        seconds: float | None = None,
        figures: Mapping[str, float | int | str] | None = None,
        event_id: str = "",
    ) -> None:
        """Let an event hold here at once, and queue it to be made durable."""
        now_ns = self._desk.clock.time_ns()
        news = BreakerNews(
            scope=key[0], key=key[1], event=event, at_ns=now_ns, reason=reason, trigger=trigger, seconds=seconds,
            holder=self._holder, figures=figures or {}, event_id=event_id,
        )  # fmt: skip
        before = self._breaker(key) or Breaker(scope=key[0], key=key[1])
        self._ours[key] = after(
            before, event, self._breaker_rules[key[0]], now_ns,
            reason=reason, trigger=trigger, seconds=seconds, holder=self._holder,
        )  # fmt: skip
        self._news.append(news)
        self._wake.set()

    async def run(self) -> None:
        """Make events durable, claim probes and look at the age of data, until cancelled."""
        look_ns = 0
        while True:
            try:
                await self._make_durable()
                await self._claim()
                pause = LOOK_SECONDS
            except StoreUnavailable:
                pause = RETRY_SECONDS
            except LeaseLost:
                return
            now_ns = self._desk.clock.monotonic_ns()
            if now_ns >= look_ns:
                look_ns = now_ns + int(LOOK_SECONDS * 1e9)
                self._look_at_ages()
            await self._pause(pause)

    async def _pause(self, seconds: float) -> None:
        waiting = asyncio.ensure_future(self._wake.wait())
        sleeping = asyncio.ensure_future(self._desk.clock.sleep(seconds))
        try:
            await asyncio.wait({waiting, sleeping}, return_when=asyncio.FIRST_COMPLETED)
        finally:
            waiting.cancel()
            sleeping.cancel()
        self._wake.clear()

    async def _make_durable(self) -> None:
        while self._news:
            news = self._news[0]
            breaker = await self._moved(news)
            self._news.popleft()
            key = (news.scope, news.key)
            if breaker is not None:
                self._known.put(breaker)
            if not any((later.scope, later.key) == key for later in self._news):
                self._ours.pop(key, None)

    async def _claim(self) -> None:
        while self._claims:
            wanted = self._claims[0]
            now_ns = self._desk.clock.time_ns()
            news = BreakerNews(
                scope=wanted.scope, key=wanted.key, event=BreakerEvent.PROBE_CLAIMED, at_ns=now_ns, holder=self._holder
            )
            breaker = await self._moved(news)
            self._claims.popleft()
            if breaker is not None:
                self._known.put(breaker)

    async def _moved(self, news: BreakerNews) -> Breaker | None:
        """Return a breaker as the store has moved it; None where it never will: the others go on."""
        try:
            return await self._desk.store.move_breaker(news)
        except (StoreUnavailable, LeaseLost):
            raise
        except Exception as error:  # such as a bot that was deleted meanwhile
            name = Breaker(scope=news.scope, key=news.key).name
            self._desk.alarm(
                f"circuit breaker of {name}: {news.event.value} is not stored: {type(error).__name__}: {error}"
            )
            return None

    def _keys_of_trade(self, saga: Saga) -> tuple[Key, ...]:
        """Return the keys of the breakers a trade tells something of; paper money tells of its bot alone."""
        if saga.terms.paper:
            return ((Scope.BOT, str(saga.record.bot_id)),)
        legs = [
            _leg(saga.terms.purses[market.exchange].account_id, market)
            for key in sorted(saga.market_keys())
            if (market := self._desk.markets.get(key)) is not None and market.exchange in saga.terms.purses
        ]
        return keys_of(owner_id=self._desk.owner_id, bot_id=saga.record.bot_id, legs=legs)


def _remember(counted: dict[str, T], trade_id: str, what: T) -> None:
    counted[trade_id] = what
    if len(counted) > MOST_REMEMBERED:
        counted.pop(next(iter(counted)))


def _leg(account_id: int, market: Market) -> Leg:
    return Leg(account_id, market.exchange, f"{market.base}/{market.quote}")


def _of_leg(leg: Leg) -> tuple[Key, ...]:
    return (
        (Scope.ACCOUNT, str(leg.account_id)),
        (Scope.EXCHANGE, leg.exchange),
        (Scope.PAIR_ON_EXCHANGE, f"{leg.exchange}:{leg.symbol}"),
    )


def _pair_on_exchange(market: Market) -> str:
    return f"{market.exchange}:{market.base}/{market.quote}"


def _one_legged(saga: Saga) -> bool:
    """Return whether of the first orders one side filled and the other did not at all."""
    filled = {"buy": ZERO, "sell": ZERO}
    for order in saga.orders.values():
        if order.intent.attempt == 0:
            filled[order.intent.side] += order.filled
    return any(filled.values()) and not all(filled.values())
