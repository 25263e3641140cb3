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
from risk.policy.gate import FREE, Gate, Key, Leg, keys_of
from risk.policy.rulebook import ScopeRules
from risk.policy.threshold import Day, daily_loss, day_number
from risk.policy.triggers import Trigger, Trip, Watch
from trading.config import PastResult, RiskPicture
from trading.execution.desk import Desk
from trading.execution.trade import Trade
from trading.instruments import Market
from trading.marketdata.hub import LIVE, MarketState
from trading.messages import OrderIntent, Outcome, TradeState
from trading.portfolio import Purse
from trading.ports import LeaseLost, StoreUnavailable

LOOK_SECONDS = 1.0  # how often the age of data is looked at
LOOKS_AHEAD = 3  # before the end of its cool-down, a breaker whose data is still old is tripped again
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
            # What was counted under triggers that have not changed goes on counting.
            self._watches = {
                key: watch for key, watch in self._watches.items() if watch.rules == picture.rules[key[0]].triggers
            }

    # -- before a trade -----------------------------------------------------------------------------------------

    def keys_at(self, bot_id: int, account_id: int, market: Market) -> tuple[Key, ...]:
        """Return the keys of all breakers over a trade of one account on one market."""
        return keys_of(owner_id=self._desk.owner_id, bot_id=bot_id, legs=[_leg(account_id, market)])

    def gate(self, keys: Sequence[Key]) -> Gate:
        """Return what the breakers of a route allow; a free probe is claimed, for the next opportunity."""
        tripped = self._known.over(keys) if not self._ours else self.tripped(keys)
        if not tripped:
            return FREE
        found = gate.verdict(tripped, self._breaker_rules, self._holder, self._desk.clock.time_ns())
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

    def on_result(self, saga: Trade) -> None:
        """Count a finished trade once, and what a late fill changes of it as one more result."""
        record = saga.record
        keys = self._keys_of_trade(saga)
        now_ns = self._desk.clock.time_ns()
        trade = record.trade_id
        if trade not in self._legged and (record.state is TradeState.EXPOSED or saga.is_one_legged()):
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
        if record.ticket is not None and record.ticket.is_close_only:
            # Inventory was sold or converted: its cost is of the day, and no evidence against where it was done.
            self._give_back(trade, keys, "sold or converted inventory only")
            self._note_day(saga, news, now_ns)
            return
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

    def begin(self, today: Mapping[str, Mapping[str, Day]], results: Sequence[PastResult]) -> None:
        """Begin with what the owner's bots have earned and lost before this engine, today and lately.

        Where the newest result of a breaker trips it, the process that saw it died before that was durable.
        """
        self._days = {(mode, quote): day for mode, days in today.items() for quote, day in days.items()}
        last: dict[Key, tuple[Trip | None, str]] = {}
        for result in results:
            _remember(self._counted, result.trade_id, result.profit)
            for key in result.keys:
                last[key] = self._watch(key).note_result(result.profit, result.at_ns), result.trade_id
        for key, (trip, trade) in last.items():
            self._trip(key, trip, trade)

    def realised_today(self, mode: str, quote: str) -> Decimal:
        """Return the result of the present UTC day, of all the owner's bots."""
        day = self._days.get((mode, quote))
        return day.realised if day is not None and day.number == day_number(self._desk.clock.time_ns()) else ZERO

    def _note_day(self, saga: Trade, news: Decimal, now_ns: int) -> None:
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
            if state.status != LIVE and self._stays_open(key, now_ns):
                continue
            self._trip(key, self._watch(key).note_stale((monotonic_ns - since_ns) / 1e9, now_ns), "")

    def _stays_open(self, key: Key, now_ns: int) -> bool:
        """Return whether a breaker that old data has tripped is still open when it is looked at next."""
        breaker = self._breaker(key)
        return (
            breaker is not None
            and breaker.state is BreakerState.OPEN
            and breaker.trigger == Trigger.STALE
            and breaker.until_ns is not None
            and breaker.until_ns > now_ns + LOOKS_AHEAD * int(LOOK_SECONDS * 1e9)
        )

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
        before = self._breaker(key)
        if before is None or (before.state, before.trigger) != (BreakerState.OPEN, trip.trigger.value):
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

    def _give_back(self, trade_id: str, keys: Sequence[Key], what: str = "executed nothing") -> None:
        """Give back the probe of a trade that has shown nothing: ``what`` says why."""
        for key in keys:
            if self._probing.get(key) == trade_id:
                del self._probing[key]
                self._tell(key, BreakerEvent.PROBE_LAPSED, reason=f"Trade {trade_id} {what}.")

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

    def _keys_of_trade(self, saga: Trade) -> tuple[Key, ...]:
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
