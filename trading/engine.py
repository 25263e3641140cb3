"""One owner's engine: markets in, opportunities judged, trades executed, nothing lost.

The host constructs it while it holds the owner's lease::

    engine = Engine(config, hub, venues, store, publisher, clock)
    await engine.run()          # until stop(), or until the lease is lost (then engine.halted says so)

``venues`` maps account ids to real accounts' venues (trading.exchanges.generic.venue.build_venue); paper venues the
engine makes itself. A lease token belongs to one Engine object: ids of orders are derived from it.
"""

from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import Awaitable, Callable, Iterable, Mapping, Sequence
from decimal import Decimal
from typing import TypeVar

import msgspec

from risk.policy.limits import first_refusal
from risk.policy.verdict import ALLOWED, Verdict
from trading.arbitrage.detector import Detector
from trading.config import OwnerConfig
from trading.execution import bots as observed
from trading.execution.accounts import Accounts
from trading.execution.bots import BotStatus, RunningBot
from trading.execution.decisions import Decisions, OrderDecision
from trading.execution.desk import Desk
from trading.execution.footprints import Footprint
from trading.execution.ids import Ids, check_prefix, is_ours
from trading.execution.lag import LoopLag
from trading.execution.order import Order
from trading.execution.pace import Pace
from trading.execution.planner import Plan, intents_of, less_certain, plan, proposal_of, record_of
from trading.execution.reconciler import Outcome, Reconciler
from trading.execution.resolver import Patience
from trading.execution.roster import Roster
from trading.execution.saga import Saga
from trading.execution.takeup import StoredOrder, take_up
from trading.execution.trades import Trades
from trading.execution.views import opportunity_view
from trading.execution.waiting import first_of
from trading.instruments import Market
from trading.marketdata.hub import MarketHub, MarketState, Subscription
from trading.messages import (
    Decision,
    LegPolicy,
    Opportunity,
    OrderEvent,
    OrderIntent,
    OrderState,
    TradeRecord,
    TradeState,
)
from trading.portfolio import InsufficientFunds, Purse
from trading.ports import Clock, LeaseLost, Publisher, Store, StoreUnavailable, Venue
from trading.tasks import end_tasks

Value = TypeVar("Value")

NOTE_EVERY_NS = 250_000_000  # a route's same refusal is recorded and shown at most this often; all are counted
STORE_RETRY_SECONDS = 1.0


class EngineStatus(msgspec.Struct, frozen=True, kw_only=True):
    """What an engine is doing now. ``latency`` has one histogram summary a stage, in microseconds."""

    halted: str
    stopping: bool
    bots: Sequence[BotStatus]
    accounts: Mapping[str, str]  # "<account id> paper|real" to its stream's state
    open_trades: Sequence[str]
    unresolved_orders: Sequence[str]
    counters: Mapping[str, int]
    latency: Mapping[str, Mapping[str, int]]


class AccountView(msgspec.Struct, frozen=True):
    """What is seen of one account: its stream's state or ``blocked``, why, and when it was last swept."""

    state: str
    reason: str
    swept_ns: int


class Engine:
    """One owner's bots and accounts. All methods are for the event loop that runs it."""

    def __init__(
        self,
        config: OwnerConfig,
        hub: MarketHub,
        venues: Mapping[int, Venue],
        store: Store,
        publisher: Publisher,
        clock: Clock,
        *,
        patience: Patience | None = None,
        paper_one_way_seconds: float | None = None,
        on_alarm: Callable[[str], None] | None = None,
        may_send: Callable[[], bool] = lambda: True,
    ) -> None:
        """``may_send`` is asked directly before each order leaves: False once the lease may have passed on."""
        self.config = config
        self._prefix = check_prefix(config.id_prefix.lower())
        self._hub = hub
        self._store = store
        self._publisher = publisher
        self._clock = clock
        self._on_alarm = on_alarm
        self.counters: Counter[str] = Counter()
        self.desk = Desk(
            owner_id=config.owner_id,
            ids=Ids(self._prefix, config.owner_id, config.lease_token),
            store=store,
            publisher=publisher,
            clock=clock,
            state_of=self._state_of,
            tradable=hub.tradable,
            on_alarm=self._alarm,
            may_send=may_send,
        )
        self.detector = Detector(self._follow, clock)
        self.trades = Trades(
            self.desk,
            patience,
            on_change=self._on_trade_change,
            on_lost=self.halt,
            on_failure=self._on_trade_failure,
            on_done=self._on_trade_done,
        )
        self.accounts = Accounts(
            self.desk,
            config,
            venues,
            on_order=self._on_order_event,
            on_live=self.trades.wake,
            on_change=self._observe_bots,
            paper_one_way_seconds=paper_one_way_seconds,
        )
        self.roster = Roster(
            self.desk,
            self.detector,
            open_purse=self.accounts.open,
            purse_fault=self._purse_fault,
            on_resumed=self._look_at_all,
            unsettled=self.trades.unsettled,
        )
        self.decisions = Decisions(self.desk, self.trades, self._prefix, lambda: self._left, self._take_up)
        self.reconciler = Reconciler(
            self.desk,
            self._prefix,
            in_flight=self._in_flight,
            activity=lambda purse: (self.desk.ids.sequence, self._order_events[purse]),
            on_order=self._on_order_event,
            on_change=self._observe_bots,
            on_quiet_over=self._look_at_everything,
        )
        self.pace = Pace(self.desk, self._observe_bots)
        self.lag = LoopLag(clock, self._observe_bots, config.max_loop_lag_seconds)
        self._order_events: Counter[Purse] = Counter()
        self._subscriptions: dict[str, Subscription] = {}
        self._taking_up: dict[str, set[Purse]] = {}
        self._left: dict[str, tuple[TradeRecord, Sequence[StoredOrder], str]] = {}  # not taken up, and why
        self._reopening: dict[str, list[OrderEvent]] = {}  # events of trades that are being read from the store
        self._readers: set[asyncio.Task[None]] = set()
        self._noted: dict[tuple[str, str], int] = {}
        self._running = False
        self._stopping = False
        self._stopped = asyncio.Event()
        self._started = asyncio.Event()  # trades of before are taken up

    # -- life ---------------------------------------------------------------------------------------------------

    @property
    def halted(self) -> str:
        """Why this engine may send nothing more (its lease is lost); empty while it may."""
        return self.desk.halted

    async def run(self) -> None:
        """Start accounts, take up what is unfinished, trade; return once stopped or halted."""
        self._running = True
        self._learn_markets()
        try:
            found = await self._from_store(self._store.open_trades, "trades of before")
            known = await self._from_store(self._store.known_orders, "orders of before")
            if found is not None and known is not None:
                self.accounts.remember(known)
                self._take_up(found)
                self._started.set()
                self._apply_bots()
                watchers = (self.reconciler.run(), self.pace.run(), self.lag.run())
                watching = [asyncio.create_task(watcher) for watcher in watchers]
                try:
                    await self._stopped.wait()
                finally:
                    await end_tasks(watching)
        finally:
            await self._shut_down()

    async def stop(self, drain_seconds: float = 10.0) -> EngineStatus:
        """Open no more trades, give open ones time to finish, then stop; return what was left open."""
        self._stopping = True
        for bot in self.roster:
            bot.kept = True
            self.roster.stop(bot)
        tasks = list(self.trades.tasks.values())
        if tasks and not self.halted:
            await first_of(asyncio.wait(tasks), self._clock.sleep(drain_seconds))
        left = self.status()
        self._stopped.set()
        return left

    def update(self, config: OwnerConfig, venues: Mapping[int, Venue] | None = None) -> None:
        """Take a new configuration: bots start, stop or change without a restart, accounts are added.

        The owner, the prefix and the lease token stay what they are. Venues of new real accounts come with it.
        """
        if (config.owner_id, config.lease_token) != (self.config.owner_id, self.config.lease_token):
            raise ValueError(
                "config: the owner and the lease token belong to the engine; make a new one to change them"
            )
        self.config = config
        self.accounts.configure(config, venues or {})
        self._learn_markets()
        if self._running and not self._stopping:
            left, self._left = self._left, {}
            self._take_up((record, rows) for record, rows, _ in left.values())
            self._apply_bots()

    def status(self) -> EngineStatus:
        """Return bots' states and reasons, open trades, unresolved orders, counters and latencies."""
        return EngineStatus(
            halted=self.halted,
            stopping=self._stopping,
            bots=self.roster.statuses(),
            accounts=self.accounts.summary(),
            open_trades=sorted(self.trades.tasks),
            unresolved_orders=sorted(self.trades.unresolved),
            counters={
                **(self.counters + self.accounts.counters + self.trades.counters),
                "late_ticks": self.lag.late_ticks,
                **{f"detector_{name}": count for name, count in self.detector.counters().items()},
            },
            latency=self.desk.stages.summary(),
        )

    async def decide(self, decision: OrderDecision) -> str:
        """Book what an operator decided about a disputed order; return one sentence why not, or an empty string."""
        # Before, the trade would be taken up twice, the second time as it was before the decision.
        await first_of(self._started.wait(), self._stopped.wait())
        if not self._started.is_set():
            return "The engine ends before it has begun; ask again."
        return self.halted or await self.decisions.decide(decision)

    async def reconcile(self) -> Sequence[Outcome]:
        """Compare every live account with its exchange now."""
        return await self.reconciler.look()

    def account_views(self) -> Mapping[int, AccountView]:
        """Return what is seen of each account's real money, and why it takes no new trades if it does not."""
        views = {}
        for purse, stream in self.accounts.streams.items():
            if purse.paper:
                continue
            why, starting = self._purse_fault(purse)
            state, _, reason = stream.partition(": ")
            if state == observed.LIVE and why:
                state, reason = observed.BLOCKED, why
            views[purse.account_id] = AccountView(
                state=observed.STARTING if starting else state,
                reason=reason,
                swept_ns=self.accounts.swept.get(purse, 0),
            )
        return views

    def _in_flight(self, purse: Purse) -> frozenset[str] | None:
        """Return the assets that disputed orders of an account may have moved; None while orders are under way."""
        if self._readers or any(purse in saga.terms.purses.values() for saga in self.trades.under_way()):
            return None
        assets: set[str] = set()
        for client_id, holder in self.trades.unresolved.items():
            saga = self.trades.of_order(client_id)
            if holder == purse and saga is not None:
                market = self.desk.markets[saga.orders[client_id].intent.market]
                assets |= {market.base, market.quote}
        for record, rows, _ in self._left.values():
            for intent, _, _ in rows if purse in _purses_of(record, rows) else ():
                if intent.account_id == purse.account_id and intent.market in self.desk.markets:
                    market = self.desk.markets[intent.market]
                    assets |= {market.base, market.quote}
        return frozenset(assets)

    async def _shut_down(self) -> None:
        self._stopping = True
        for key in list(self._subscriptions):
            self._unfollow(key)
        await end_tasks(self._readers)
        await self.trades.cancel()
        await self.accounts.close()
        self.roster.observe_all()
        if not self.halted:
            try:
                await self._store.flush()
            except (StoreUnavailable, LeaseLost) as error:
                self._alarm(f"what was queued for the store may be lost: {error}")

    def halt(self, reason: str) -> None:
        """Send nothing more, whatever is under way: the lease is lost. For the store's word and the host's alike."""
        if self.halted:
            return
        self.desk.halted = reason
        self._alarm(f"the lease is lost, nothing more is sent: {reason}")
        self._stopped.set()

    def _alarm(self, text: str) -> None:
        self.counters["alarms"] += 1
        if self._on_alarm is not None:
            self._on_alarm(text)

    # -- markets and bots ---------------------------------------------------------------------------------------

    def _learn_markets(self) -> None:
        for market in (*self.config.markets, *(market for bot in self.config.bots for market in bot.markets)):
            self.desk.markets[market.key] = market

    def _follow(self, market: Market) -> MarketState:
        subscription = self._subscriptions.get(market.key)
        if subscription is None:
            subscription = self._subscriptions[market.key] = self._hub.subscribe(market, self._on_market)
        return subscription.state

    def _unfollow(self, key: str) -> None:
        self._hub.unsubscribe(self._subscriptions.pop(key))

    def _state_of(self, market: Market) -> MarketState | None:
        subscription = self._subscriptions.get(market.key)
        return None if subscription is None else subscription.state

    def _apply_bots(self) -> None:
        """Make the running bots those of the configuration, and follow the markets they and open trades need."""
        self.roster.apply(self.config)
        used = {market.key for bot in self.roster for market in bot.config.markets}
        used |= {market for saga in self.trades.under_way() for market in saga.market_keys()}
        for key in [key for key in self._subscriptions if key not in used]:
            self._unfollow(key)

    def _look_at_everything(self) -> None:
        for bot in self.roster:
            self._look_at_all(bot)

    def _look_at_all(self, bot: RunningBot) -> None:
        """Evaluate a bot's markets soon: prices that stood still while it could not trade would go unseen."""

        def look() -> None:
            for market in bot.config.markets:
                self._evaluate(market.key)

        asyncio.get_running_loop().call_soon(look)

    def _purse_fault(self, purse: Purse) -> tuple[str, bool]:
        """Return why an account takes no new trades, or an empty string; and whether it is only starting."""
        for client_id, holder in self.trades.unresolved.items():
            if holder == purse:
                return f"account {purse.account_id}: the outcome of order {client_id} is not known", False
        for trade, purses in self._taking_up.items():
            if purse in purses and not self.trades.is_harmless(trade):
                return f"account {purse.account_id}: trade {trade} of before is being settled", False
        for record, rows, why in self._left.values():
            if purse in _purses_of(record, rows):
                return f"account {purse.account_id}: {why}", False
        if why := self.reconciler.fault(purse):
            return why, self.reconciler.is_reading(purse)
        if why := self.pace.fault(purse) or self.lag.fault():
            return why, False
        return self.accounts.fault(purse), self.accounts.is_starting(purse)

    def _observe_bots(self) -> None:
        self.roster.observe_all()

    def _on_order_event(self, purse: Purse, event: OrderEvent) -> None:
        self._order_events[purse] += 1
        if self.trades.on_event(event):
            return
        if is_ours(event.client_order_id, self._prefix, self.config.owner_id):
            self.counters["orphan_events"] += 1
            self._reopen(purse, event)
        else:
            self.counters["foreign_events"] += 1

    def _reopen(self, purse: Purse, event: OrderEvent) -> None:
        """Take up the finished trade an event belongs to: what it says may be news, and news is hedged."""
        client_id = event.client_order_id
        if self.reconciler.knows_stranger(client_id):
            self._store.record_event(event, event.state.value)
            return
        waiting = self._reopening.get(client_id)
        if waiting is not None:
            waiting.append(event)
            return
        self._reopening[client_id] = [event]
        task = asyncio.get_running_loop().create_task(self._read_trade(purse, client_id))
        self._readers.add(task)
        task.add_done_callback(self._readers.discard)

    async def _read_trade(self, purse: Purse, client_id: str) -> None:
        found = await self._from_store(lambda: self._store.trade_of(client_id), "a finished trade")
        events = self._reopening.pop(client_id)
        if self.halted or self._stopped.is_set():
            return
        if found is None:
            self.reconciler.meet_stranger(purse, client_id, events[0].market)
            self._alarm(f"order {client_id} carries an id of this installation, but the store does not know it")
            self._observe_bots()
            for event in events:
                self._store.record_event(event, event.state.value)
            return
        record, rows = found
        if self.trades.of_order(client_id) is None:
            taken = take_up(self.config, record, rows, self.desk.markets)
            if isinstance(taken, str):
                self._alarm(taken)
                for event in events:  # what it filled is booked all the same
                    self._store.record_event(event, event.state.value)
                return
            terms, orders, _ = taken
            for order in orders:
                self._follow(self.desk.markets[order.intent.market])
            saga = self.trades.saga(terms, record, orders)
            # A process may have died between writing a late fill and what it made of the trade.
            if saga.finished and saga.tally().residual == record.residual_base:
                self.trades.listen(saga)
            else:
                self.trades.run(record.bot_id, record.trade_id, record.route, saga.settle())
        for event in events:
            self.trades.on_event(event)

    # -- decisions ----------------------------------------------------------------------------------------------

    def _on_market(self, state: MarketState) -> None:
        self._evaluate(state.key)

    def _evaluate(self, market: str) -> None:
        if self._stopping or self.halted:
            return
        for found in self.detector.on_change(market):
            bot = self.roster.get(found.bot_id)
            if bot is None:
                continue
            try:
                self._consider(bot, found)
            except Exception as error:
                self.roster.fail(bot, error)

    def _consider(self, bot: RunningBot, found: Opportunity) -> None:
        """Judge an opportunity; start a trade if nothing speaks against it."""
        bot.counters["opportunities"] += 1
        if found.route in bot.busy_routes:
            bot.counters["refused_route_busy"] += 1
            return
        if bot.cooling.get(found.route, 0) > found.detected_monotonic_ns:
            bot.counters["refused_cooldown"] += 1
            return
        if bot.observed != observed.RUNNING:
            self._refuse(bot, found, "bot_state", f"The bot is {bot.observed}: {bot.reason}.")
            return
        if why := bot.untradable.get(found.route):
            self._refuse(bot, found, "tradability", why)
            return
        if why := self.lag.fault():  # the bot's state may not show it yet
            self._refuse(bot, found, "loop_lag", f"{why[0].upper()}{why[1:]}.")
            return
        for leg in (found.buy, found.sell):
            if self.desk.fresh_book(self.desk.markets[leg.market], float("inf")) is None:
                self._refuse(bot, found, "market", f"{leg.market}: its book is not one to trade on now.")
                return
            market = self.desk.markets[leg.market]
            if why := self.reconciler.needs_quiet(bot.terms.purses[market.exchange]):
                self._refuse(bot, found, "comparison", f"{why[0].upper()}{why[1:]}.")
                return
            if trace := self.desk.own_trace(market, leg.side, bot.terms.purses[market.exchange]):
                self._refuse(bot, found, "own_order", f"{trace[0].upper()}{trace[1:]}.")
                return
        planned = plan(self.desk, bot.terms, found, bot.config.max_trade_notional)
        if isinstance(planned, str):
            self._refuse(bot, found, "size", planned)
            return
        situation = bot.situation(found.quote, self._clock.time_ns())
        check, verdict = first_refusal(proposal_of(self.desk, bot.config, planned), situation, bot.limits)
        if check:
            self._refuse(bot, found, check, verdict)
            return
        self._open(bot, planned)

    def _refuse(self, bot: RunningBot, found: Opportunity, check: str, why: str | Verdict) -> None:
        bot.counters[f"refused_{check}"] += 1
        last = self._noted.get((found.route, check))
        if last is not None and found.detected_monotonic_ns - last < NOTE_EVERY_NS:
            return
        self._noted[found.route, check] = found.detected_monotonic_ns
        verdict = Verdict(allowed=False, reason=why) if isinstance(why, str) else why
        self._note_decision(bot, Decision(opportunity=found, verdict=verdict, check=check), record=True)

    def _note_decision(self, bot: RunningBot, decision: Decision, *, record: bool) -> None:
        if record:
            self._store.record_decision(decision)
        view = opportunity_view(decision, bot.config.name)
        self._publisher.publish(self.config.owner_id, "opportunity", decision.opportunity.route, view)

    def _open(self, bot: RunningBot, planned: Plan) -> None:
        found = planned.opportunity
        now = self._clock.time_ns()
        trade = self.desk.ids.next_trade()
        intents = intents_of(planned, trade, now, bot.config.order_timeout_ms)
        held = intents[:0]
        if bot.config.leg_policy == LegPolicy.UNCERTAIN_FIRST:
            first = less_certain(self.desk, planned)
            intents, held = (intents[first],), tuple(intent for intent in intents if intent.leg != first)
        reserved: list[OrderIntent] = []
        for intent in (*intents, *held):
            purse = planned.legs[intent.leg].purse
            try:
                self.desk.portfolio.reserve(intent.client_order_id, purse, intent.reserve_asset, intent.reserve_amount)
            except InsufficientFunds as error:
                self._release(reserved)
                self._refuse(bot, found, "free_balance", f"{error}.")
                return
            reserved.append(intent)
        for intent in (*intents, *held):
            purse = planned.legs[intent.leg].purse
            wait = self.desk.venues[purse].reserve_order(intent.client_order_id)
            if wait > 0:
                self._release(reserved)
                why = f"The request budget of {intent.market.partition(':')[0]} is used up for {wait:.2f} s."
                self._refuse(bot, found, "request_budget", why)
                return
        for intent in intents:
            footprint = Footprint(intent.market, intent.side, bot.purses.paper)
            self.desk.footprints.begin(intent.client_order_id, footprint)
        record = record_of(planned, bot.config, trade, bot.purses.mode, now)
        decision = Decision(opportunity=found, verdict=ALLOWED, check="", trade_id=trade)
        bot.counters["trades"] += 1
        bot.open_trades.add(trade)
        bot.busy_routes[found.route] = trade
        monotonic = self._clock.monotonic_ns()
        age_ns = int(min(found.buy.book_age_ms, found.sell.book_age_ms) * 1e6)
        self.desk.stages.record_ns("book_to_decision", monotonic - found.detected_monotonic_ns + age_ns)
        self.trades.run(
            bot.config.bot_id, trade, found.route, self._execute(bot, record, intents, held, decision, monotonic)
        )

    def _release(self, intents: Iterable[OrderIntent]) -> None:
        for intent in intents:
            self.desk.portfolio.settle(intent.client_order_id, Decimal(0), self._clock.time_ns())
            self.desk.footprints.forget(intent.client_order_id)
            self.desk.release_budget(intent)

    # -- trades -------------------------------------------------------------------------------------------------

    async def _execute(
        self,
        bot: RunningBot,
        record: TradeRecord,
        intents: Sequence[OrderIntent],
        held: Sequence[OrderIntent],
        decision: Decision,
        decided_ns: int,
    ) -> None:
        """Make the intents durable, then send them and see the trade through; legs held back follow what these fill."""
        try:
            await self._commit(record, intents, held, decision)
        except StoreUnavailable as error:
            self._refuse(bot, decision.opportunity, "store", f"The store can't make the intents durable: {error}.")
            return
        except LeaseLost as error:
            self.halt(str(error))
            return
        committed_ns = self._clock.monotonic_ns()
        self.desk.stages.record_ns("decision_to_committed", committed_ns - decided_ns)
        self._note_decision(bot, decision, record=False)
        saga = self.trades.saga(bot.terms, record, [Order(intent, OrderState.SENDING) for intent in intents], held)
        saga.publish()
        await saga.send_and_settle(decided_ns, committed_ns)

    async def _commit(
        self, record: TradeRecord, intents: Sequence[OrderIntent], held: Sequence[OrderIntent], decision: Decision
    ) -> None:
        """Make the intents durable; whatever keeps the store from it, they are not sent and hold nothing."""
        try:
            await self._store.commit_trade(record, intents, decision)
        except BaseException:
            self._release((*intents, *held))
            raise

    def _on_trade_done(self, bot_id: int, trade: str, route: str) -> None:
        if self._taking_up.pop(trade, None) is not None:
            self.roster.observe_all()
        self.roster.trade_done(bot_id, trade, route)

    def _on_trade_failure(self, bot_id: int, trade: str, error: Exception) -> None:
        self._alarm(f"trade {trade} stopped on its way: {type(error).__name__}: {error}")
        bot = self.roster.get(bot_id)
        if bot is not None:
            self.roster.fail(bot, error)

    def _on_trade_change(self, saga: Saga) -> None:
        """Keep bot states in step: an exposed trade blocks its bot until an operator has looked."""
        bot = self.roster.get(saga.record.bot_id)
        if bot is not None and saga.finished:
            bot.count_result(saga.record, self._clock.time_ns())
            trade = saga.record.trade_id
            if saga.record.state is TradeState.EXPOSED:
                bot.block(trade, saga.record.reason)
            else:
                bot.faults.pop(trade, None)
        self.roster.observe_all()

    # -- start --------------------------------------------------------------------------------------------------

    async def _from_store(self, read: Callable[[], Awaitable[Value]], what: str) -> Value | None:
        """Ask the store until it answers; None when stopped before."""
        while not self._stopped.is_set():
            try:
                return await read()
            except StoreUnavailable as error:
                self._alarm(f"{what} can't be read yet: {error}")
                await first_of(self._stopped.wait(), self._clock.sleep(STORE_RETRY_SECONDS))
            except LeaseLost as error:
                self.halt(str(error))
        return None

    def _take_up(self, found: Iterable[tuple[TradeRecord, Sequence[StoredOrder]]]) -> None:
        """Settle unfinished trades of before; their accounts take no new trades until that is done.

        Those that can't be taken up are tried again with the next configuration.
        """
        for record, rows in found:
            for intent, _, _ in rows:
                self.desk.ids.met(intent.client_order_id)
            taken = take_up(self.config, record, rows, self.desk.markets)
            if isinstance(taken, str):
                self._leave(record, rows, taken)
                continue
            terms, orders, events = taken
            purses = _purses_of(record, rows)
            try:
                for exchange, purse in terms.purses.items():
                    if purse in purses:
                        self.accounts.open(purse, exchange)
            except ValueError as error:
                self._leave(record, rows, f"trade {record.trade_id} can't be taken up: {error}")
                continue
            for order in orders:
                self._follow(self.desk.markets[order.intent.market])
            saga = self.trades.saga(terms, record, orders)
            for event in events:
                saga.on_event(event)
            self._taking_up[record.trade_id] = purses
            self.trades.run(record.bot_id, record.trade_id, record.route, saga.settle())

    def _leave(self, record: TradeRecord, rows: Sequence[StoredOrder], why: str) -> None:
        """Leave a trade alone: what its orders have done, or may do yet, is not known here."""
        self._left[record.trade_id] = record, rows, why
        self._alarm(why)


def _purses_of(record: TradeRecord, rows: Sequence[StoredOrder]) -> set[Purse]:
    return {Purse(intent.account_id, record.mode == "paper") for intent, _, _ in rows}
