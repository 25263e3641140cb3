"""A real account on one exchange behind the Venue port: orders through ccxt, events from its private stream.

No method raises for what an exchange answers or fails to answer. A placement is sent once; what its raw answer proves
is looked up in the exchange's own outcome table, and everything that proves nothing is UNKNOWN.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Coroutine, Iterable, Sequence
from typing import Any

import msgspec

from trading.config import AccountConfig
from trading.exchanges.addresses import Addresses
from trading.exchanges.ccxt_client import HttpAnswer, make_client
from trading.exchanges.generic.calls import Calls
from trading.exchanges.generic.dialect import FiguresChanged, Names, News, ToldInPart, executed
from trading.exchanges.generic.dialects import dialect_class
from trading.exchanges.generic.exchange_time import ExchangeTime
from trading.exchanges.generic.order_paths import OrderPaths
from trading.exchanges.generic.own_orders import OwnOrders
from trading.exchanges.generic.placing import Placing
from trading.exchanges.generic.questions import Questions, value_of
from trading.exchanges.generic.scrub import Scrubber
from trading.exchanges.generic.stream import PrivateStream
from trading.exchanges.protection import Exits, not_native, refused
from trading.exchanges.retries import Backoff, Jitter
from trading.execution.waiting import Signal
from trading.instruments import Market
from trading.messages import (
    AccountBalance,
    AccountIncome,
    AccountPosition,
    AccountPositions,
    Fill,
    KnownOrder,
    OrderEvent,
    OrderIntent,
    OrderKind,
    OrderPath,
    OrdersBy,
    Outcome,
    PlaceResult,
    StreamState,
)
from trading.ports import Clock, VenueListener
from trading.tasks import end_tasks

logger = logging.getLogger(__name__)

NS_PER_MS = 1_000_000
SWEEP_MARGIN_MS = 60_000  # how far before the last moment known good a sweep looks, for lag and clocks
REFRESH_SECONDS = 30.0
OWED_SECONDS = 1.0  # so long the stream has for the rest of what it began to tell; then it is asked for
RESTART_SECONDS = 5.0
FIRST_PREPARE_SECONDS, LONGEST_PREPARE_SECONDS = 0.5, 30.0


def build_venue(
    account: AccountConfig,
    markets: Iterable[Market],
    clock: Clock,
    *,
    addresses: Addresses | None = None,
    jitter: Jitter | None = None,
) -> CcxtVenue:
    """Make the venue of a real account; raise ValueError if it has no credentials or ccxt doesn't know the exchange.

    ``addresses`` is the process's own, so that accounts share what the exchange counts by address; ``jitter`` gives
    numbers in [0, 1) that spread what is tried again.
    """
    return CcxtVenue(account, markets, clock, addresses=addresses or Addresses(clock), jitter=jitter or _whole)


def _whole() -> float:
    """Jitter that spreads nothing: each pause is as long as it may be."""
    return 1.0


class CcxtVenue:
    """One account on one exchange."""

    def __init__(
        self, account: AccountConfig, markets: Iterable[Market], clock: Clock, *, addresses: Addresses, jitter: Jitter
    ) -> None:
        if account.credentials is None:
            raise ValueError(f"account {account.label}: has no credentials, so it can only trade on paper")
        self.account_id = account.account_id
        self.exchange = account.exchange.code
        self._clock = clock
        kind_of = dialect_class(account.exchange.ccxt_id)
        self._names = Names(account.account_id, kind_of.kind)
        self._names.add(markets)
        self.dialect = kind_of(self._names)
        self.protects = self.dialect.protects
        self.absence_seconds = self.dialect.absence_seconds()
        self._place_costs = self.dialect.cost("place")
        self._scrub = Scrubber(account.credentials)
        self._doubted = Signal()  # an answer says that our clock, or a balance we hold for true, is wrong
        self._calls = Calls(
            self.dialect,
            addresses.budget(account.exchange.code, self.dialect.windows),
            clock,
            self._scrub,
            jitter=jitter,
            on_key=self._on_key,
            on_clock=self._doubted.notify,
        )
        self._told_in_part = Signal()
        self._jitter = jitter
        self._client: Any = make_client(
            account.exchange,
            account.credentials,
            options=self.dialect.options,
            timeout_ms=self.dialect.timeout_ms(),
        )
        self._listener: VenueListener | None = None
        self._ready = False
        self._run_task: asyncio.Task[None] | None = None
        self._own = OwnOrders(self._names)
        self._time = ExchangeTime(
            self._client, self._calls, clock, self._scrub, account_id=self.account_id, exchange=self.exchange
        )
        self._questions = Questions(
            self._client, self.dialect, self._calls, self._names, self._own, clock, self._scrub, exchange=self.exchange
        )
        self._placing = Placing(
            self._client,
            self.dialect,
            clock,
            self._scrub,
            account_id=self.account_id,
            exchange=self.exchange,
            on_placed=self._own.add,
            on_money=self._doubted.notify,
            on_settings=self._doubt_settings,
        )
        self._stream = PrivateStream(
            self._client,
            self.dialect,
            clock,
            on_items=self._on_items,
            sweep=self._sweep,
            on_state=self._on_state,
            scrub=self._scrub,
            jitter=jitter,
        )
        self._orders = OrderPaths(
            account,
            self._client,
            self.dialect,
            clock,
            scrub=self._scrub,
            jitter=jitter,
            on_path=self._on_path,
            on_open=lambda: self._calls.budget.note(self.dialect.cost("logon")),
            on_refused=self._time.measure_soon,
        )
        self._queries = 0
        self._settings_doubted = False

    @property
    def offset_ms(self) -> int:
        """The exchange's time minus ours, as measured last."""
        return self._time.offset_ms

    def add_markets(self, markets: Iterable[Market]) -> None:
        """Learn further markets."""
        self._names.add(markets)

    # -- life ---------------------------------------------------------------------------------------------------

    def recall(self, orders: Sequence[KnownOrder]) -> None:
        """Sweep the markets of these orders too when the stream first comes up, from the newest of them on."""
        self._own.recall(orders)
        if orders:
            self._stream.good_until(min(order.since_ns for order in orders) // NS_PER_MS)

    async def start(self, listener: VenueListener) -> None:
        self._listener = listener
        first = asyncio.Event()
        self._run_task = asyncio.get_running_loop().create_task(self._run(first))
        await first.wait()

    async def close(self) -> None:
        task, self._run_task = self._run_task, None
        if task is not None:
            await end_tasks((task,))
        await self._orders.close()
        await self._time.close()
        self._listener = None
        self._ready = False
        try:
            await self._client.close()
        except Exception as error:
            logger.warning("account %s: closing failed: %s", self.account_id, self._describe(error))

    async def _run(self, first: asyncio.Event) -> None:
        """Prepare, then keep the private stream up and figures fresh, until cancelled."""
        backoff = Backoff(FIRST_PREPARE_SECONDS, LONGEST_PREPARE_SECONDS, self._jitter)
        while not await self._prepare():
            await self._clock.sleep(backoff.next())
        self._orders.open(self._time.now_ms)
        first.set()
        while True:
            try:
                async with asyncio.TaskGroup() as group:
                    group.create_task(self._stream.run())
                    group.create_task(self._refresh())
                    group.create_task(self._hear_out())
            except* Exception as problems:  # a bug, and nobody hears the stream: that must not look live
                logger.exception("account %s: its own code broke, it begins again", self.account_id)
                self._on_state("failed", self._describe(problems.exceptions[0]))
            await self._clock.sleep(RESTART_SECONDS)

    async def _prepare(self) -> bool:
        try:
            await self._calls.budget.wait_question(self.dialect.cost("balances"))
            await self._client.load_markets()
            self._time.learn(value_of(await self._time.ask()))
            await self._learn_settings()
            for balance in value_of(await self._questions.balances()):
                self._tell(balance)
        except Exception as error:
            self._on_state("failed", self._describe(error))
            return False
        self._ready = True
        return True

    async def _learn_settings(self) -> None:
        if "settings" not in self.dialect.costs:
            return
        await self._calls.budget.wait_question(self.dialect.cost("settings"))
        await self.dialect.fetch_settings(self._client)
        self._settings_doubted = False

    async def _refresh(self) -> None:
        """Now and then measure the clock, which drifts, and ask for all balances: a pushed figure may be lost."""
        while True:
            await self._doubted.wait(self._clock, REFRESH_SECONDS)
            await self._time.measure()
            if self._settings_doubted:
                try:
                    await self._learn_settings()
                except Exception as error:
                    logger.info("account %s: its settings not had: %s", self.account_id, self._describe(error))
            for balance in await self.balances():
                self._tell(balance)
            await self._tell_positions()
            if self._calls.trading_key.reason and not self._calls.trading_key.refusal():
                self._calls.trading_key.try_again()
                self._stream.renew("the API key was refused for orders; it is tried again")

    async def _hear_out(self) -> None:
        """Ask for what the stream tells in part only: its other messages are late, or lost."""
        while True:
            await self._told_in_part.wait(self._clock, REFRESH_SECONDS)  # what was asked for in vain is asked again
            if not self.dialect.owes_news():
                continue
            await self._clock.sleep(OWED_SECONDS)
            if not self.dialect.owes_news():
                continue
            reply = await self._questions.owed()
            if reply.value is None:
                logger.info("account %s: an order's news not had: %s", self.account_id, self._describe(reply.error))
            self._on_items(reply.value or ())

    def counters(self) -> dict[str, int]:
        """Return orders by path, what the order connection went through, and how often an order was asked about."""
        return {**self._orders.counters(), "order_queries": self._queries}

    def _on_path(self, by: OrdersBy, reason: str) -> None:
        now = self._clock.time_ns()
        self._tell(OrderPath(account_id=self.account_id, by=by, reason=reason, received_ns=now))

    def _on_key(self, why: str) -> None:
        """Stop the account while the exchange refuses its key; begin again once it is taken."""
        if why:
            logger.error("account %s: %s", self.account_id, why)
            self._on_state("failed", why)
        else:
            logger.warning("account %s: the exchange takes the API key again", self.account_id)
            self._stream.renew("the exchange takes the API key again")

    # -- the Venue port -----------------------------------------------------------------------------------------

    def reserve_order(self, client_order_id: str) -> float:
        return self._calls.budget.reserve(client_order_id, self.dialect.cost("place"))

    def release_order(self, client_order_id: str) -> None:
        self._calls.budget.release(client_order_id)

    def prepare(self, intent: OrderIntent) -> None:
        market = self._names.market(intent.market)
        if market is not None and intent.kind is OrderKind.LIMIT and not self._refusal(intent, market):
            self._orders.prepare(intent, market)

    def write(self, intent: OrderIntent) -> Coroutine[Any, Any, PlaceResult] | None:
        market = self._names.market(intent.market)
        budget = self._calls.budget
        if market is None or not self._orders.is_prepared(intent) or self._refusal(intent, market):
            return None
        if budget.use(intent.client_order_id, self._place_costs) > 0:
            return None
        return self._placed(intent, market, self._written(intent, market))

    async def place(self, intent: OrderIntent) -> PlaceResult:
        market = self._names.market(intent.market)
        budget = self._calls.budget
        refusal = self._refusal(intent, market)
        if intent.kind is not OrderKind.LIMIT:
            refusal = f"kind: only limit orders are placed so (given {intent.kind.value}); others protect a position"
        if refusal:
            budget.release(intent.client_order_id)
            return PlaceResult(outcome=Outcome.REJECTED, code="LOCAL", message=refusal)
        assert market is not None
        wait = budget.use(intent.client_order_id, self._place_costs)
        if wait > 0:
            message = f"the request budget of {self.exchange} is used up for {wait:.2f} s"
            return PlaceResult(outcome=Outcome.REJECTED, code="BUDGET", message=message)
        return await self._placed(intent, market, self._written(intent, market))

    def _written(self, intent: OrderIntent, market: Market) -> Any:
        # What doesn't need to be done before it leaves is done behind it. Where budget is reserved, another leg of the
        # trade is about to be given, and both leave together.
        return self._orders.write(intent, market, at_once=not self._calls.budget.has_reserved)

    async def _placed(self, intent: OrderIntent, market: Market, sent: Any) -> PlaceResult:
        self._own.touch(market)
        answer = HttpAnswer(naming=self.dialect.wire_id(intent))
        reply = await self._calls.once("place", answer, lambda: self._orders.place(sent, intent, market))
        return self._placing.result(intent, reply)

    async def protect(self, take_profit: OrderIntent | None, stop_loss: OrderIntent | None) -> tuple[PlaceResult, ...]:
        exits = Exits(take_profit, stop_loss)
        if not self.protects or not exits.intents:
            self._release(exits)
            return not_native(self.exchange, take_profit, stop_loss)
        if "stops" in self.protects:
            answers = await asyncio.gather(*(self._protect(one) for one in exits.apart()))
            return tuple(answer for answered in answers for answer in answered)
        return await self._protect(exits)

    async def _protect(self, exits: Exits) -> tuple[PlaceResult, ...]:
        """Send protective orders in one request, once."""
        first = exits.intents[0]
        market = self._names.market(first.market)
        reasons = (exits.refusal(), *(self._refusal(intent, market) for intent in exits.intents))
        if refusal := next(filter(None, reasons), ""):
            self._release(exits)
            return refused(refusal, *exits.intents)
        assert market is not None
        cost = self.dialect.cost("place")
        wait = max([self._calls.budget.use(intent.client_order_id, cost) for intent in exits.intents])
        if wait > 0:
            self._release(exits)
            message = f"the request budget of {self.exchange} is used up for {wait:.2f} s"
            return refused(message, *exits.intents, code="BUDGET")
        self._own.touch(market)
        answer = HttpAnswer(naming=self.dialect.wire_id(first))
        reply = await self._calls.once("place", answer, lambda: self._orders.protect(exits, market))
        readings = self.dialect.read_exits(reply.answer.body, exits)
        return tuple(
            self._placing.result(intent, msgspec.structs.replace(reply, reading=reading))
            for intent, reading in zip(exits.intents, readings, strict=True)
        )

    def _refusal(self, intent: OrderIntent, market: Market | None) -> str:
        """Return why an order can't be sent; then not one byte of it leaves."""
        if not self._ready:
            return "the account is not ready"
        calls = self._calls
        refused = calls.key_refused and (calls.reading_key.refusal() or calls.trading_key.refusal())
        return refused or self._placing.refusal(intent, market)

    def _doubt_settings(self) -> None:
        self._settings_doubted = True
        self._doubted.notify()

    def _release(self, exits: Exits) -> None:
        for intent in exits.intents:
            self._calls.budget.release(intent.client_order_id)

    def has_leverage(self, market: str, leverage: int) -> bool:
        known = self._names.market(market)
        return known is not None and self.dialect.has_leverage(known, leverage)

    async def set_leverage(self, market: str, leverage: int) -> str:
        known = self._names.market(market)
        if known is None or not self._ready:
            return f"{market}: the account is not ready"
        if known.kind == "spot":
            return "" if leverage == 1 else f"{market}: a spot market has no leverage"
        if self.has_leverage(market, leverage):
            return ""
        reply = await self._calls.ask(
            "leverage", lambda: self.dialect.set_leverage(self._client, known, leverage), method="POST"
        )
        if reply.error is None:
            return ""
        why = self._scrub(reply.reading.message) or self._describe(reply.error)
        return f"the leverage of {known.symbol} could not be set to {leverage}: {why}"

    async def cancel(self, intent: OrderIntent) -> PlaceResult:
        """Ask to cancel. PLACED: the request was taken; REJECTED: the exchange has no such open order, so query it."""
        market = self._names.market(intent.market)
        if market is None or not self._ready:
            return PlaceResult(outcome=Outcome.REJECTED, code="LOCAL", message=f"{intent.market}: account not ready")
        method = self.dialect.cancels_by
        reply = await self._calls.ask("cancel", lambda: self._orders.cancel(intent, market), method=method)
        if reply.error is None:
            return PlaceResult(outcome=Outcome.PLACED, exchange_order_id=reply.reading.exchange_order_id)
        return self._placing.not_cancelled(reply)

    async def query(self, intent: OrderIntent) -> OrderEvent | None:
        """Ask by client order id; None when the exchange has no such order, an UNKNOWN event when no answer proves
        anything."""
        self._queries += 1
        market = self._names.market(intent.market)
        if market is None or not self._ready:
            return self._questions.no_answer(intent, f"{intent.market}: the account is not ready")
        return await self._questions.order(intent, market)

    async def open_orders(self) -> Sequence[OrderEvent] | None:
        """Return all open orders of the account, ours or not; None when the exchange doesn't answer."""
        if not self._ready:
            return None
        reply = await self._questions.open_orders()
        if reply.value is None:
            logger.info("account %s: open orders not had: %s", self.account_id, self._describe(reply.error))
            return None
        return [self._questions.stamped(self._own.named(event)) for event in reply.value]

    async def trades(self, market: str, since_ns: int) -> Sequence[Fill] | None:
        """Return the account's executions in a market since a moment; None when the exchange doesn't tell them all."""
        known = self._names.market(market)
        if known is None or not self._ready:
            return None
        reply = await self._questions.fills(known, since_ns // NS_PER_MS + self.offset_ms)
        if reply.value is None:
            logger.info("account %s: trades not had: %s", self.account_id, self._describe(reply.error))
        return reply.value

    async def balances(self) -> Sequence[AccountBalance]:
        """Return the exchange's figures; empty when it doesn't answer."""
        reply = await self._questions.balances()
        if reply.value is None:
            logger.info("account %s: balances not had: %s", self.account_id, self._describe(reply.error))
        return reply.value or ()

    async def positions(self) -> Sequence[AccountPosition] | None:
        """Return the open positions in contracts by their markets' keys, those of markets we don't follow too."""
        if self.dialect.kind == "spot":
            return ()
        if not self._ready:
            return None
        reply = await self._questions.positions()
        if reply.value is None:
            logger.info("account %s: positions not had: %s", self.account_id, self._describe(reply.error))
        return reply.value

    async def incomes(self, since_ns: int) -> Sequence[AccountIncome] | None:
        """Return the lines of the exchange's statement since a moment; None when it doesn't tell them all."""
        if self.dialect.kind == "spot":
            return ()
        if not self._ready:
            return None
        reply = await self._questions.incomes(since_ns // NS_PER_MS + self.offset_ms)
        if reply.value is None:
            logger.info("account %s: its statement not had: %s", self.account_id, self._describe(reply.error))
        return reply.value

    # -- events -------------------------------------------------------------------------------------------------

    def _on_items(self, items: Iterable[News]) -> None:
        for item in items:
            if isinstance(item, FiguresChanged):
                self._doubted.notify()
            elif isinstance(item, ToldInPart):
                self._told_in_part.notify()
            elif isinstance(item, OrderEvent):
                event = self._own.named(item)
                self._own.remember(event)
                self._tell(self._questions.stamped(event))
            else:
                self._tell(self._questions.balance(item, self._clock.time_ns()))

    async def _sweep(self, since_ms: int) -> None:
        """Report what the stream may have missed: open orders, and executions on the markets traded since then."""
        opened: list[OrderEvent] = value_of(await self._questions.open_orders())
        self._on_items(opened)
        for market in self._own.markets:
            reply = await self._questions.fills(market, since_ms + self.offset_ms - SWEEP_MARGIN_MS)
            for fill in value_of(reply):
                if fill.client_order_id:
                    self._tell(self._questions.stamped(executed(fill, "query")))
        for balance in value_of(await self._questions.balances()):
            self._tell(balance)
        await self._tell_positions()

    async def _tell_positions(self) -> None:
        """Ask for the positions of an account that trades contracts, and tell them."""
        if self.dialect.kind == "spot":
            return
        asked_ns = self._clock.time_ns()  # figures pushed meanwhile are newer
        found = await self.positions()
        if found is not None:
            self._tell(AccountPositions(account_id=self.account_id, positions=tuple(found), received_ns=asked_ns))

    def _on_state(self, state: str, reason: str) -> None:
        if refused := self._calls.key_refused:
            state, reason = "failed", refused
        now = self._clock.time_ns()
        self._tell(StreamState(account_id=self.account_id, state=state, reason=reason, received_ns=now))

    def _tell(self, message: OrderEvent | AccountBalance | AccountPositions | StreamState | OrderPath) -> None:
        if self._listener is not None:
            self._listener(message)

    def _describe(self, error: BaseException | None) -> str:
        return self._scrub.error(error)
