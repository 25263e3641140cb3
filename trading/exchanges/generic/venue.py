"""A real account on one exchange behind the Venue port: orders through ccxt, events from its private stream.

No method raises for what an exchange answers or fails to answer. A placement is sent once; what its raw answer proves
is looked up in the exchange's own outcome table, and everything that proves nothing is UNKNOWN.
"""

from __future__ import annotations

import asyncio
import importlib
import logging
from collections import OrderedDict
from collections.abc import Iterable, Sequence
from decimal import Decimal
from typing import Any

import msgspec

from trading.config import AccountConfig
from trading.exchanges.addresses import Addresses
from trading.exchanges.ccxt_client import (
    HttpAnswer,
    NamelessOrder,
    folder_of,
    make_client,
    measure_offset,
    never_left,
    unsafe_to_order,
)
from trading.exchanges.generic.calls import Calls, Reply, Value
from trading.exchanges.generic.dialect import Dialect, Figures, Names, executed, plain
from trading.exchanges.generic.scrub import Scrubber
from trading.exchanges.generic.stream import PrivateStream
from trading.exchanges.retries import Backoff, Jitter, Trouble
from trading.execution.waiting import Signal
from trading.instruments import Market
from trading.messages import (
    AccountBalance,
    Fill,
    KnownOrder,
    OrderEvent,
    OrderIntent,
    OrderKind,
    OrderState,
    Outcome,
    PlaceResult,
    StreamState,
)
from trading.ports import Clock, VenueListener
from trading.tasks import end_tasks

logger = logging.getLogger(__name__)

NS_PER_MS = 1_000_000
OWN_ORDERS_KEPT = 10_000
RAW_KEPT = 4_000
SWEEP_MARGIN_MS = 60_000  # how far before the last moment known good a sweep looks, for lag and clocks
REFRESH_SECONDS = 30.0
RESTART_SECONDS = 5.0
FIRST_PREPARE_SECONDS, LONGEST_PREPARE_SECONDS = 0.5, 30.0
ALARM_OFFSET_MS = 500
# Whether a refusal speaks of money: asked for once too often, balances cost a question.
WORDS_OF_MONEY = ("balance", "insufficient", "funds")


def dialect_class(ccxt_id: str) -> type[Dialect]:
    """Return what knows an exchange's peculiarities."""
    folder = folder_of(ccxt_id)
    if folder == "generic":
        return Dialect
    module = importlib.import_module(f"trading.exchanges.{folder}.venue")
    found: type[Dialect] = getattr(module, f"{folder.capitalize()}Dialect")
    return found


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
    if account.credentials is None:
        raise ValueError(f"account {account.label}: has no credentials, so it can only trade on paper")
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
            raise ValueError(f"account {account.label}: has no credentials")
        self.account_id = account.account_id
        self.exchange = account.exchange.code
        self._account = account
        self._clock = clock
        self._names = Names(account.account_id)
        self._names.add(markets)
        self.dialect = dialect_class(account.exchange.ccxt_id)(self._names)
        self.absence_seconds = self.dialect.absence_seconds()
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
        self._own: OrderedDict[str, str] = OrderedDict()  # exchange order id to our client id, newest last
        self._touched: dict[str, Market] = {}  # markets with orders of ours since the start
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
        self.offset_ms = 0

    def add_markets(self, markets: Iterable[Market]) -> None:
        """Learn further markets."""
        self._names.add(markets)

    # -- life ---------------------------------------------------------------------------------------------------

    def recall(self, orders: Sequence[KnownOrder]) -> None:
        """Sweep the markets of these orders too when the stream first comes up, from the newest of them on."""
        for order in orders:
            market = self._names.market(order.market)
            if market is not None:
                self._touched[market.key] = market
            if order.exchange_order_id:
                self._own_order(order.exchange_order_id, order.client_order_id)
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
        first.set()
        while True:
            try:
                async with asyncio.TaskGroup() as group:
                    group.create_task(self._stream.run())
                    group.create_task(self._refresh())
            except* Exception as problems:  # a bug, and nobody hears the stream: that must not look live
                logger.exception("account %s: its own code broke, it begins again", self.account_id)
                self._on_state("failed", self._describe(problems.exceptions[0]))
            await self._clock.sleep(RESTART_SECONDS)

    async def _prepare(self) -> bool:
        try:
            await self._calls.budget.wait_question(self.dialect.cost("balances"))
            await self._client.load_markets()
            self._learn_offset(_or_raise(await self._ask_time()))
            for balance in _or_raise(await self._calls.ask("balances", self._fetch_balances)):
                self._tell(balance)
        except Exception as error:
            self._on_state("failed", self._describe(error))
            return False
        self._ready = True
        return True

    async def _ask_time(self) -> Reply[int]:
        return await self._calls.ask("time", lambda: measure_offset(self._client, self._clock), method="GET")

    def _learn_offset(self, offset_ms: int) -> None:
        """Take note of how the exchange's clock differs; the client signs with its time from now on."""
        if abs(offset_ms) > ALARM_OFFSET_MS and abs(offset_ms - self.offset_ms) > ALARM_OFFSET_MS:
            logger.warning("account %s: clock differs from %s by %s ms", self.account_id, self.exchange, offset_ms)
        self.offset_ms = offset_ms

    async def _refresh(self) -> None:
        """Now and then measure the clock, which drifts, and ask for all balances: a pushed figure may be lost."""
        while True:
            await self._doubted.wait(self._clock, REFRESH_SECONDS)
            reply = await self._ask_time()
            if reply.value is None:
                logger.info("account %s: the exchange's time not had: %s", self.account_id, self._describe(reply.error))
            else:
                self._learn_offset(reply.value)
            for balance in await self.balances():
                self._tell(balance)
            if self._calls.trading_key.reason and not self._calls.trading_key.refusal():
                self._calls.trading_key.try_again()
                self._stream.renew("the API key was refused for orders; it is tried again")

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

    async def place(self, intent: OrderIntent) -> PlaceResult:
        market = self._names.market(intent.market)
        refusal = self._local_refusal(intent, market)
        if refusal:
            self._calls.budget.release(intent.client_order_id)
            return PlaceResult(outcome=Outcome.REJECTED, code="LOCAL", message=refusal)
        assert market is not None
        wait = self._calls.budget.use(intent.client_order_id, self.dialect.cost("place"))
        if wait > 0:
            message = f"the request budget of {self.exchange} is used up for {wait:.2f} s"
            return PlaceResult(outcome=Outcome.REJECTED, code="BUDGET", message=message)
        self._touched[market.key] = market
        answer = HttpAnswer(naming=self.dialect.wire_id(intent))
        reply = await self._calls.once("place", answer, lambda: self.dialect.create_order(self._client, intent, market))
        return self._place_result(intent, reply)

    async def cancel(self, intent: OrderIntent) -> PlaceResult:
        """Ask to cancel. PLACED: the request was taken; REJECTED: the exchange has no such open order, so query it."""
        market = self._names.market(intent.market)
        if market is None or not self._ready:
            return PlaceResult(outcome=Outcome.REJECTED, code="LOCAL", message=f"{intent.market}: account not ready")
        reply = await self._calls.ask(
            "cancel",
            lambda: self.dialect.cancel_order(self._client, intent, market),
            method=self.dialect.cancels_by,
        )
        if reply.error is None:
            return PlaceResult(outcome=Outcome.PLACED, exchange_order_id=reply.reading.exchange_order_id)
        gone = reply.reading.code in self.dialect.not_found | self.dialect.gone and reply.trouble is not Trouble.KEY
        return PlaceResult(
            outcome=Outcome.REJECTED if gone and reply.answer.status < 500 else Outcome.UNKNOWN,
            code=reply.reading.code,
            message=self._scrub(reply.reading.message) or self._describe(reply.error),
        )

    async def query(self, intent: OrderIntent) -> OrderEvent | None:
        """Ask by client order id; None when the exchange has no such order, an UNKNOWN event when no answer proves
        anything."""
        market = self._names.market(intent.market)
        if market is None or not self._ready:
            return self._no_answer(intent, f"{intent.market}: the account is not ready")
        reply = await self._calls.ask("order", lambda: self.dialect.fetch_order(self._client, intent, market))
        if reply.error is None:
            if reply.value is not None:
                self._remember(reply.value)
                return self._stamp(reply.value)
            return None
        if reply.answer.status and reply.reading.code in self.dialect.not_found:
            return None
        return self._no_answer(intent, reply.reading.message or self._describe(reply.error))

    async def open_orders(self) -> Sequence[OrderEvent] | None:
        """Return all open orders of the account, ours or not; None when the exchange doesn't answer."""
        if not self._ready:
            return None
        reply = await self._calls.ask("open_orders", lambda: self.dialect.fetch_open_orders(self._client))
        if reply.value is None:
            logger.info("account %s: open orders not had: %s", self.account_id, self._describe(reply.error))
            return None
        return [self._stamp(self._named(event)) for event in reply.value]

    async def trades(self, market: str, since_ns: int) -> Sequence[Fill] | None:
        """Return the account's executions in a market since a moment; None when the exchange doesn't tell them all."""
        known = self._names.market(market)
        if known is None or not self._ready:
            return None
        since_ms = since_ns // NS_PER_MS + self.offset_ms
        reply = await self._calls.ask(
            "fills", lambda: self.dialect.fetch_fills(self._client, known, since_ms, self._own)
        )
        if reply.value is None:
            logger.info("account %s: trades not had: %s", self.account_id, self._describe(reply.error))
        return reply.value

    async def balances(self) -> Sequence[AccountBalance]:
        """Return the exchange's figures; empty when it doesn't answer."""
        reply = await self._calls.ask("balances", self._fetch_balances)
        if reply.value is None:
            logger.info("account %s: balances not had: %s", self.account_id, self._describe(reply.error))
        return reply.value or ()

    # -- placing ------------------------------------------------------------------------------------------------

    def _local_refusal(self, intent: OrderIntent, market: Market | None) -> str:
        """Return why the order can't be sent as it stands; then not one byte of it leaves."""
        if not self._ready:
            return "the account is not ready"
        if refused := self._calls.reading_key.refusal() or self._calls.trading_key.refusal():
            return refused
        if unsafe := unsafe_to_order(self._client, self.dialect.timeout_ms()):
            return unsafe
        if market is None:
            return f"{intent.market}: not a market of this account"
        if market.kind != "spot":
            return f"{intent.market}: real orders are sent to spot markets only"
        if intent.kind is not OrderKind.LIMIT or intent.price <= 0 or intent.quantity <= 0:
            return f"only limit orders with a price and a quantity are sent (given {intent.price}, {intent.quantity})"
        if refused := self.dialect.local_refusal(intent):
            return refused
        if not self.dialect.takes(self._client, intent.time_in_force):
            return f"{self.exchange} takes no {intent.time_in_force.value} orders: one would rest on its book"
        try:
            price = Decimal(self._client.price_to_precision(market.symbol, plain(intent.price)))
            quantity = Decimal(self._client.amount_to_precision(market.symbol, plain(intent.quantity)))
        except Exception as error:
            return f"{intent.market}: {self._describe(error)}"
        if (price, quantity) != (intent.price, intent.quantity):
            return (
                f"price {intent.price} and quantity {intent.quantity} don't fit the exchange's grid "
                f"(it would send {price} and {quantity}); load its markets again"
            )
        return ""

    def _place_result(self, intent: OrderIntent, reply: Reply[Any]) -> PlaceResult:
        answer, error, reading = reply.answer, reply.error, reply.reading
        raw = self._scrub(answer.body)[:RAW_KEPT]
        if not answer.sent or isinstance(error, NamelessOrder):
            return PlaceResult(outcome=Outcome.REJECTED, code="LOCAL", message=self._describe(error))
        if not answer.status:
            if error is not None and never_left(error):
                return PlaceResult(outcome=Outcome.REJECTED, code="NOT_SENT", message=self._describe(error))
            return PlaceResult(outcome=Outcome.UNKNOWN, code="NO_ANSWER", message=self._describe(error))
        order = reply.value or {}
        order_id = reading.exchange_order_id or (str(order.get("id") or "") if error is None else "")
        ours = reading.client_order_id in {"", intent.client_order_id}
        if 200 <= answer.status < 300 and order_id and not reading.code and ours:
            self._own_order(order_id, intent.client_order_id)
            events = self._answer_events(intent, answer.body, order)
            return PlaceResult(outcome=Outcome.PLACED, exchange_order_id=order_id, events=events, raw=raw)
        outcome, meaning = self.dialect.table.judge(answer.status, reading.code, reading.message)
        message = self._scrub(reading.message) or f"HTTP {answer.status}"
        if meaning and meaning.lower() not in message.lower():
            message = f"{message} ({meaning})"
        if any(word in message.lower() for word in WORDS_OF_MONEY):
            self._doubted.notify()  # what is to be sent next is planned with the balances as they are
        return PlaceResult(outcome=outcome, code=reading.code or str(answer.status), message=message, raw=raw)

    def _answer_events(self, intent: OrderIntent, body: str, order: Any) -> tuple[OrderEvent, ...]:
        try:
            events = self.dialect.answer_events(intent, body, order)
        except (ValueError, KeyError, TypeError) as error:
            # It is placed; what it filled will come by the stream or by asking.
            logger.warning("account %s: an order's answer can't be read: %s", self.account_id, type(error).__name__)
            return ()
        return tuple(self._stamp(event) for event in events)

    # -- events -------------------------------------------------------------------------------------------------

    def _on_items(self, items: Iterable[OrderEvent | Figures]) -> None:
        for item in items:
            if isinstance(item, OrderEvent):
                event = self._named(item)
                self._remember(event)
                self._tell(self._stamp(event))
            else:
                self._tell(self._balance(item, self._clock.time_ns()))

    async def _sweep(self, since_ms: int) -> None:
        """Report what the stream may have missed: open orders, and executions on the markets traded since then."""
        self._on_items(
            _or_raise(await self._calls.ask("open_orders", lambda: self.dialect.fetch_open_orders(self._client)))
        )
        for market in list(self._touched.values()):
            await self._sweep_fills(market, since_ms + self.offset_ms - SWEEP_MARGIN_MS)
        for balance in _or_raise(await self._calls.ask("balances", self._fetch_balances)):
            self._tell(balance)

    async def _sweep_fills(self, market: Market, since_ms: int) -> None:
        reply = await self._calls.ask(
            "fills", lambda: self.dialect.fetch_fills(self._client, market, since_ms, self._own)
        )
        for fill in _or_raise(reply):
            if fill.client_order_id:
                self._tell(self._stamp(executed(fill, "query")))

    def _on_state(self, state: str, reason: str) -> None:
        if refused := self._calls.key_refused:
            state, reason = "failed", refused
        now = self._clock.time_ns()
        self._tell(StreamState(account_id=self.account_id, state=state, reason=reason, received_ns=now))

    def _named(self, event: OrderEvent) -> OrderEvent:
        """Put our client order id to an event that only has the exchange's."""
        ours = self._own.get(event.exchange_order_id, "")
        if event.client_order_id or not ours:
            return event
        fills = tuple(msgspec.structs.replace(fill, client_order_id=ours) for fill in event.fills)
        return msgspec.structs.replace(event, client_order_id=ours, fills=fills)

    def _remember(self, event: OrderEvent) -> None:
        if event.exchange_order_id and event.client_order_id:
            self._own_order(event.exchange_order_id, event.client_order_id)

    def _own_order(self, exchange_order_id: str, client_order_id: str) -> None:
        self._own[exchange_order_id] = client_order_id
        self._own.move_to_end(exchange_order_id)
        while len(self._own) > OWN_ORDERS_KEPT:
            self._own.popitem(last=False)

    async def _fetch_balances(self) -> list[AccountBalance]:
        # Stamped with the time of asking: figures pushed meanwhile are newer.
        asked_ns = self._clock.time_ns()
        found = {figures.asset: figures for figures in await self.dialect.fetch_balances(self._client)}
        # Exchanges leave out, or list by the hundred, what is zero: of the assets we trade, zero is a figure.
        wanted = self._names.assets()
        kept = [figures for figures in found.values() if figures.asset in wanted or figures.free or figures.used]
        kept += [Figures(asset, Decimal(0), Decimal(0)) for asset in sorted(wanted - found.keys())]
        return [self._balance(figures, asked_ns) for figures in kept]

    def _balance(self, figures: Figures, at_ns: int) -> AccountBalance:
        return AccountBalance(
            account_id=self.account_id,
            asset=figures.asset,
            free=figures.free,
            used=figures.used,
            received_ns=at_ns,
        )

    def _stamp(self, event: OrderEvent) -> OrderEvent:
        return msgspec.structs.replace(event, received_ns=self._clock.time_ns())

    def _no_answer(self, intent: OrderIntent, cause: str) -> OrderEvent:
        return OrderEvent(
            account_id=self.account_id,
            market=intent.market,
            client_order_id=intent.client_order_id,
            state=OrderState.UNKNOWN,
            source="query",
            cause=self._scrub(cause),
            received_ns=self._clock.time_ns(),
        )

    def _tell(self, message: OrderEvent | AccountBalance | StreamState) -> None:
        if self._listener is not None:
            self._listener(message)

    def _describe(self, error: BaseException | None) -> str:
        return self._scrub.error(error)


def _or_raise(reply: Reply[Value]) -> Value:
    if reply.error is not None:
        raise reply.error
    assert reply.value is not None
    return reply.value
