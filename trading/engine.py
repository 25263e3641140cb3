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
from typing import TypeVar

import msgspec

from trading.arbitrage.detector import Detector
from trading.basis import Closing
from trading.config import OwnerConfig
from trading.execution import bots as observed
from trading.execution.accounts import Accounts
from trading.execution.basis_desk import BasisDesk, Offer
from trading.execution.basis_trade import BasisTrade
from trading.execution.bots import BotStatus, RunningBot
from trading.execution.breakers import BreakerDesk
from trading.execution.decisions import Decisions, OrderDecision
from trading.execution.desk import Desk
from trading.execution.forced import ForcedClosures
from trading.execution.gate import Gate, Refusal
from trading.execution.ids import Ids, check_prefix, is_ours
from trading.execution.lag import LoopLag
from trading.execution.notices import Notices
from trading.execution.opening import Opening
from trading.execution.pace import Pace
from trading.execution.past import Past, StoredTrade
from trading.execution.rating import Rating
from trading.execution.reconciler import Outcome, Reconciler
from trading.execution.reconciliation import assets_of
from trading.execution.resolver import Patience
from trading.execution.roster import Roster
from trading.execution.ticket_gate import TicketGate
from trading.execution.tickets import Opened, Tickets
from trading.execution.trade import Trade
from trading.execution.trades import Trades
from trading.execution.waiting import first_of
from trading.instruments import Market
from trading.marketdata.hub import MarketHub, MarketState, Subscription
from trading.messages import Opportunity, OrderEvent, PublicTrade, TradeState
from trading.portfolio import Purse
from trading.ports import Clock, LeaseLost, Publisher, Store, StoreUnavailable, Venue
from trading.tasks import end_tasks
from trading.tickets import ClosingTerms, TicketTerms

Value = TypeVar("Value")

STORE_RETRY_SECONDS = 1.0
ENDS = "The engine ends before it has begun; ask again."


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
    """What is seen of one account: its stream's state or ``blocked``, why, and when it was last swept.

    Of an account that is live the reason says how its orders leave.
    """

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
            watch=self._watch,
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
            follow=self._follow_known,
        )
        self.accounts = Accounts(
            self.desk,
            config,
            venues,
            on_order=self._on_order_event,
            on_live=self._on_live,
            on_change=self._observe_bots,
            on_positions=self._on_positions,
            paper_one_way_seconds=paper_one_way_seconds,
        )
        self.basis = BasisDesk(
            self.desk,
            self.trades,
            follow=self._follow,
            funding_age=hub.funding_age_seconds,
            bot_of=lambda bot_id: self.roster.get(bot_id),  # noqa: PLW0108 (it is made after this)
            again=self._evaluate,
        )
        self.roster = Roster(
            self.desk,
            self.detector,
            self.basis,
            open_purse=self.accounts.open,
            purse_fault=self._purse_fault,
            on_resumed=self._look_at_all,
            unsettled=self.trades.unsettled,
            follow=self._follow_all,
            on_started=lambda bot: self.trades.look_at(bot.bot_id, bot.exposed),
        )
        self.breakers = BreakerDesk(
            self.desk,
            f"{config.owner_id}:{config.lease_token}",
            followed=lambda: [subscription.state for subscription in self._subscriptions.values()],
            on_change=self._observe_bots,
        )
        self.reconciler = Reconciler(
            self.desk,
            self._prefix,
            in_flight=self._in_flight,
            activity=lambda purse: (self.desk.ids.sequence, self._order_events[purse]),
            on_order=self._on_order_event,
            on_change=self._observe_bots,
            on_quiet_over=self._look_at_everything,
            on_difference=self.breakers.on_difference,
            on_open_orders=self._on_open_orders,
            on_forced=lambda *found: self.forced.on_compared(*found),  # noqa: PLW0108 (it is made after this)
        )
        self.forced = ForcedClosures(self.desk, self.trades, self.reconciler.look_soon)
        self.pace = Pace(self.desk, self._observe_bots)
        self.lag = LoopLag(clock, self._observe_bots, config.max_loop_lag_seconds)
        self.past = Past(
            self.desk,
            self.trades,
            self.accounts,
            self.reconciler,
            config=lambda: self.config,
            follow=self._follow,
            read_trade=self._read_trade,
            is_over=lambda: bool(self.halted) or self._stopped.is_set(),
            on_change=self._observe_bots,
        )
        self.desk.holdings.in_flight = self._contracts_in_flight
        self.desk.holdings.on_difference = lambda account_id: self.reconciler.look_soon()
        self.decisions = Decisions(self.desk, self.trades, self._prefix, lambda: self.past.left, self.past.take_up)
        self.notices = Notices(self.desk, self.detector.take_counts)
        self.desk.on_answer = self.breakers.on_answer
        self.rating = Rating(self.desk)
        self.gate = Gate(self.desk, self.trades, self.lag, self.reconciler, self.breakers, self.rating)
        self.tickets = Tickets(
            self.desk,
            self.trades,
            self.accounts,
            self.breakers,
            TicketGate(self.desk, self.trades, self.lag, self.reconciler, self.breakers),
            config=lambda: self.config,
            bot_of=self.roster.get,
            purse_fault=self._purse_fault,
            follow=self._follow,
            read_trade=self._read_trade,
            is_ours=lambda client_id: is_ours(client_id, self._prefix, config.owner_id),
        )
        self.opening = Opening(self.desk, self.trades, self.breakers, self.notices, self.halt)
        self._order_events: Counter[Purse] = Counter()
        self._subscriptions: dict[str, Subscription] = {}
        self._running = False
        self._stopping = False
        self._stopped = asyncio.Event()
        self._started = asyncio.Event()  # trades of before are taken up
        self._take_risk(config, self.breakers.mark())
        self.breakers.begin(config.today, config.results)

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
                self.past.take_up(found)
                self._started.set()
                self._apply_bots()
                watchers = (
                    self.reconciler.run(),
                    self.pace.run(),
                    self.lag.run(),
                    self.breakers.run(),
                    self.notices.run(),
                    self.notices.look_back(),
                    self.basis.run(),
                    self.basis.fund(),
                )
                watching = [asyncio.create_task(watcher) for watcher in watchers]
                try:
                    await self._stopped.wait()
                finally:
                    await end_tasks(watching)
        finally:
            await self._shut_down()

    async def stop(self, drain_seconds: float = 10.0) -> EngineStatus:
        """Open no more trades, give open ones time to finish, then stop; return what was left open."""
        self._stopping = self.desk.stopping = True
        for bot in self.roster:
            bot.kept = True
            self.roster.stop(bot)
        self.trades.look_again()
        tasks = list(self.trades.tasks.values())
        if tasks and not self.halted:
            await first_of(asyncio.wait(tasks), self._clock.sleep(drain_seconds))
        left = self.status()
        self._stopped.set()
        return left

    def update(
        self, config: OwnerConfig, venues: Mapping[int, Venue] | None = None, *, mark: int | None = None
    ) -> None:
        """Take a new configuration: bots start, stop or change without a restart, accounts are added.

        The owner, the prefix and the lease token stay what they are. Venues of new real accounts come with it.
        ``mark`` is what ``breakers.mark()`` said before the configuration was read.
        """
        if (config.owner_id, config.lease_token) != (self.config.owner_id, self.config.lease_token):
            raise ValueError(
                "config: the owner and the lease token belong to the engine; make a new one to change them"
            )
        self.config = config
        self._take_risk(config, self.breakers.mark() if mark is None else mark)
        self.trades.look_again()
        self.accounts.configure(config, venues or {})
        self._learn_markets()
        if self._running and not self._stopping:
            self.past.retry()
            self._apply_bots()

    def _take_risk(self, config: OwnerConfig, mark: int) -> None:
        self.desk.switch_of = config.risk.switch
        self.trades.left_exposed = config.left_exposed
        self.breakers.configure(config.risk, mark)
        self.rating.rules, self.rating.learned = config.risk.rating, config.risk.learned

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
                **self.accounts.order_counters(),
                "late_ticks": self.lag.late_ticks,
                "status_questions": self.desk.status_questions,
                **{f"detector_{name}": count for name, count in self.detector.counters().items()},
            },
            latency=self.desk.stages.summary(),
        )

    async def decide(self, decision: OrderDecision) -> str:
        """Book what an operator decided about a disputed order; return one sentence why not, or an empty string."""
        # Before, the trade would be taken up twice, the second time as it was before the decision.
        if not await self._has_begun():
            return ENDS
        return self.halted or await self.decisions.decide(decision)

    async def open_ticket(self, bot_id: int, asked: TicketTerms) -> Opened:
        """Open a trade by hand; return its id once its first order is durable, else why there is none."""
        if not await self._has_begun():
            return Opened(check="engine", refusal=ENDS)
        if self.halted or self._stopping:
            return Opened(check="engine", refusal=self.halted or "The engine ends; ask again.")
        return await self.tickets.open(bot_id, asked)

    async def close_ticket(self, trade_id: str, closing: ClosingTerms) -> str:
        """Begin to close what a trade by hand, or a pair, holds; return one sentence why not, or an empty string."""
        if not await self._has_begun():
            return ENDS
        if self.halted:
            return self.halted
        trade = self.trades.trade_of(trade_id)
        if isinstance(trade, BasisTrade):
            return self.basis.close(trade, Closing(cause=closing.cause, must=True, command_id=closing.command_id))
        return self.tickets.close(trade_id, closing)

    async def _has_begun(self) -> bool:
        """Wait until trades of before are taken up; False if the engine ends first."""
        await first_of(self._started.wait(), self._stopped.wait())
        return self._started.is_set()

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
            elif state == observed.LIVE:
                reason = self.accounts.order_path(purse)
            views[purse.account_id] = AccountView(
                state=observed.STARTING if starting else state,
                reason=reason,
                swept_ns=self.accounts.swept.get(purse, 0),
            )
        return views

    def _in_flight(self, purse: Purse) -> frozenset[str] | None:
        """Return the assets that disputed orders of an account may have moved; None while orders are under way."""
        if self.past.is_reading or any(purse in saga.terms.purses.values() for saga in self.trades.under_way()):
            return None
        markets = self.past.left_orders(purse)
        for client_id, holder in self.trades.unresolved.items():
            saga = self.trades.of_order(client_id)
            if holder == purse and saga is not None:
                markets.append(saga.orders[client_id].intent.market)
        known = [self.desk.markets[key] for key in markets if key in self.desk.markets]
        return frozenset(asset for market in known for asset in assets_of(market))

    def _contracts_in_flight(self, account_id: int) -> frozenset[str]:
        """Return the markets of an account in which an order of ours may have filled without our knowing of it."""
        left = [self.past.left_orders(purse) for purse in self.desk.venues if purse.account_id == account_id]
        ours = [
            order.intent.market
            for trade in self.trades.followed()
            for order in trade.orders.values()
            if order.intent.account_id == account_id and order.unresolved
        ]
        return frozenset(ours).union(*left)

    async def _shut_down(self) -> None:
        self._stopping = True
        for key in list(self._subscriptions):
            self._unfollow(key)
        await self.past.close()
        await self.tickets.close_down()
        await self.trades.cancel()
        await self.accounts.close()
        self.notices.close()
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

    def _follow_known(self, key: str) -> None:
        market = self.desk.markets.get(key)
        if market is not None:
            self._follow(market)

    def _follow_all(self, markets: Iterable[Market]) -> None:
        for market in markets:
            self._follow(market)

    def _unfollow(self, key: str) -> None:
        self._hub.unsubscribe(self._subscriptions.pop(key))

    def _watch(
        self,
        market: Market,
        on_change: Callable[[], None],
        on_trade: Callable[[PublicTrade], None] | None = None,
    ) -> Callable[[], None]:
        subscription = self._hub.subscribe(market, lambda state: on_change(), on_trade=on_trade)
        return lambda: self._hub.unsubscribe(subscription)

    def _state_of(self, market: Market) -> MarketState | None:
        subscription = self._subscriptions.get(market.key)
        return None if subscription is None else subscription.state

    def _apply_bots(self) -> None:
        """Make the running bots those of the configuration, and follow the markets they and open trades need."""
        self.roster.apply(self.config)
        used = {market.key for bot in self.roster for market in bot.config.markets}
        followed = (*self.trades.under_way(), *self.trades.holding())
        used |= {market for trade in followed for market in trade.market_keys()}
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
        if why := self.past.fault(purse):
            return why, False
        if why := self.reconciler.fault(purse):
            return why, self.reconciler.is_reading(purse)
        if why := self.pace.fault(purse) or self.lag.fault():
            return why, False
        return self.accounts.fault(purse), self.accounts.is_starting(purse)

    def _on_positions(self, purse: Purse) -> None:
        """Show the tickets of a purse with the exchange's figures of their positions."""
        for ticket in self.trades.tickets():
            if ticket.purse == purse and ticket.market.kind != "spot" and not ticket.finished:
                ticket.publish()
        self.basis.on_positions(purse)

    def _on_live(self, purse: Purse) -> None:
        self.trades.wake(purse)
        self.tickets.on_live(purse)

    def _on_open_orders(self, purse: Purse, events: Sequence[OrderEvent]) -> None:
        self.tickets.on_open_orders(purse, events)

    def _observe_bots(self) -> None:
        self.roster.observe_all()

    def _on_order_event(self, purse: Purse, event: OrderEvent) -> None:
        self._order_events[purse] += 1
        if self.trades.on_event(event):
            return
        if is_ours(event.client_order_id, self._prefix, self.config.owner_id):
            self.counters["orphan_events"] += 1
            self.past.reopen(purse, event)
        else:
            self.counters["foreign_events"] += 1
            self.forced.on_event(purse, event)

    # -- decisions ----------------------------------------------------------------------------------------------

    def _on_market(self, state: MarketState) -> None:
        self._evaluate(state.key)

    def _evaluate(self, market: str) -> None:
        if self._stopping or self.halted:
            return
        for offer in self.basis.on_change(market):
            self._consider_pair(offer)
        opportunities = self.detector.on_change(market)
        if not opportunities:
            return
        judged = [(bot, found) for found in opportunities if (bot := self.roster.get(found.bot_id)) is not None]
        for bot, found in self.gate.ranked(judged):
            try:
                self._consider(bot, found)
            except Exception as error:
                self.roster.fail(bot, error)

    def _consider_pair(self, offer: Offer) -> None:
        """Judge a pair that could be entered; enter it if nothing speaks against it."""
        bot = self.roster.get(offer.found.bot_id)
        if bot is None:
            return
        try:
            refusal: Refusal | None = None
            if offer.check:
                refusal = Refusal(offer.check, offer.why)
            elif (judged := self.gate.judge(bot, offer.found)) is not None:
                is_refused = isinstance(judged, Refusal)
                refusal = judged if is_refused else self.opening.open(bot, judged, offer.terms)  # type: ignore[assignment, arg-type]
            if refusal is not None:
                self.notices.refused(bot, offer.found, refusal)
        except Exception as error:
            self.roster.fail(bot, error)

    def _consider(self, bot: RunningBot, found: Opportunity) -> None:
        """Judge an opportunity; start a trade if nothing speaks against it."""
        judged = self.gate.judge(bot, found)
        if judged is None:
            return
        refusal = judged if isinstance(judged, Refusal) else self.opening.open(bot, judged)
        if refusal is not None:
            self.notices.refused(bot, found, refusal)

    # -- trades -------------------------------------------------------------------------------------------------

    def _on_trade_done(self, bot_id: int, trade: str, route: str) -> None:
        if self.past.done(trade):
            self.roster.observe_all()
        self.roster.trade_done(bot_id, trade, route)

    def _on_trade_failure(self, bot_id: int, trade: str, error: Exception) -> None:
        self._alarm(f"trade {trade} stopped on its way: {type(error).__name__}: {error}")
        bot = self.roster.get(bot_id)
        if bot is not None:
            self.roster.fail(bot, error)

    def _on_trade_change(self, saga: Trade) -> None:
        """Keep bot states in step: an exposed trade blocks its bot until an operator has looked."""
        bot = self.roster.get(saga.record.bot_id)
        if saga.finished:
            self.breakers.on_result(saga)
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

    async def _read_trade(self, client_id: str) -> StoredTrade | None:
        return await self._from_store(lambda: self._store.trade_of(client_id), "a finished trade")
