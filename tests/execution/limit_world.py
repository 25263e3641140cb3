"""One trade that works a quantity into one market: virtual time, the real hub, saga and resolver, and an exchange
whose every move is the test's."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Mapping, Sequence
from decimal import Decimal

import msgspec

from tests.engine.worlds import HandFeed, VirtualClock
from trading.execution.desk import Desk, TradeTerms
from trading.execution.ids import Ids
from trading.execution.ladder import Ladder
from trading.execution.memory_store import MemoryStore
from trading.execution.order import Order
from trading.execution.pricing import WorkingStyle
from trading.execution.saga import Saga
from trading.execution.working import Step, Worked
from trading.instruments import Market, Side
from trading.marketdata.hub import MarketHub
from trading.messages import (
    AccountBalance,
    AccountIncome,
    AccountPosition,
    Fill,
    OrderEvent,
    OrderIntent,
    OrderState,
    Outcome,
    PlaceResult,
    PublicTrade,
    TimeInForce,
    TradeRecord,
    TradeState,
)
from trading.portfolio import Purse
from trading.ports import FeedSink

D = Decimal
ZERO, ALL = D(0), D(1)
PURSE = Purse(1, paper=False)
WAY = 0.01  # seconds to the exchange, and back


class Silent:
    """A Publisher nobody listens to."""

    def publish(self, owner: int | None, kind: str, key: str, data: Mapping[str, object]) -> None:
        """Nobody looks."""


class Kept(msgspec.Struct):
    """An order as the exchange has it."""

    intent: OrderIntent
    status: OrderState = OrderState.PLACED
    fills: list[Fill] = []

    @property
    def filled(self) -> Decimal:
        return sum((fill.quantity for fill in self.fills), ZERO)

    @property
    def left(self) -> Decimal:
        return self.intent.quantity - self.filled


class HandExchange:
    """A Venue whose resting orders fill when the test says so.

    ``placing`` and ``cancelling`` say what happens to the next requests, one word each. Placements: ``ok``,
    ``refuse``, ``lose_answer`` (it arrived, UNKNOWN), ``lose_request`` (it did not, UNKNOWN), ``fill`` (it met
    somebody at once). Cancellations: ``ok``, ``lose_answer``, ``lose_request``, ``fill_first`` (all of it fills before
    the request arrives, which is then refused), ``part_first`` (half of it does). ``ioc`` is the part of an IOC that
    fills.
    """

    account_id = 1
    exchange = "alpha"
    absence_seconds = 5.0

    def __init__(self, clock: VirtualClock, market: Market) -> None:
        self.clock = clock
        self.market = market
        self.orders: dict[str, Kept] = {}
        self.placed: list[OrderIntent] = []
        self.cancels: list[str] = []
        self.questions: list[str] = []
        self.placing: list[str] = []
        self.cancelling: list[str] = []
        self.ioc = D(1)
        self.mute = False  # its stream loses what happens
        self.free = {"BTC": D(1000), "USDT": D(10_000_000)}
        self.listener: Callable[[OrderEvent | AccountBalance], None] = lambda message: None
        self._trades = 0

    # -- what the market does

    def resting(self) -> list[Kept]:
        return [kept for kept in self.orders.values() if kept.status is OrderState.PLACED]

    def fill(self, share: Decimal = ALL) -> None:
        """Let somebody take a share of what rests (whole lots, at least one)."""
        for kept in self.resting():
            lots = max(1, int(kept.left * share / self.market.lot))
            self._execute(kept, lots * self.market.lot, kept.intent.price)
            self._tell(kept)

    def end(self) -> None:
        """Cancel what rests, as the exchange itself does now and then."""
        for kept in self.resting():
            kept.status = OrderState.CANCELLED
            self._tell(kept)

    def _execute(self, kept: Kept, quantity: Decimal, price: Decimal) -> None:
        intent = kept.intent
        self._trades += 1
        kept.fills.append(
            Fill(
                account_id=1,
                market=intent.market,
                exchange_trade_id=str(self._trades),
                exchange_order_id=f"x-{intent.client_order_id}",
                client_order_id=intent.client_order_id,
                side=intent.side,
                price=price,
                quantity=quantity,
                fee=ZERO,
                fee_asset="USDT",
                liquidity="maker",
                exchange_ns=self.clock.time_ns(),
            )
        )
        sign = 1 if intent.side == "buy" else -1
        self.free["BTC"] += sign * quantity
        self.free["USDT"] -= sign * quantity * price
        if kept.left == 0:
            kept.status = OrderState.FILLED

    def _event(self, kept: Kept, source: str) -> OrderEvent:
        state = kept.status
        if state is OrderState.PLACED and kept.fills:
            state = OrderState.PARTIALLY_FILLED
        return OrderEvent(
            account_id=1,
            market=kept.intent.market,
            client_order_id=kept.intent.client_order_id,
            exchange_order_id=f"x-{kept.intent.client_order_id}",
            state=state,
            filled=kept.filled,
            fills=tuple(kept.fills),
            source=source,
        )

    def _tell(self, kept: Kept) -> None:
        if not self.mute:
            self.listener(self._event(kept, "stream"))
            self.tell_balances()

    def tell_balances(self) -> None:
        for balance in self._balances():
            self.listener(balance)

    def _balances(self) -> list[AccountBalance]:
        now = self.clock.time_ns()
        return [
            AccountBalance(account_id=1, asset=asset, free=amount, used=ZERO, received_ns=now)
            for asset, amount in self.free.items()
        ]

    # -- the Venue port

    def prepare(self, intent: OrderIntent) -> None:
        pass

    def write(self, intent: OrderIntent) -> None:
        return None

    def reserve_order(self, client_order_id: str) -> float:
        return 0.0

    def release_order(self, client_order_id: str) -> None:
        """There is no budget."""

    async def place(self, intent: OrderIntent) -> PlaceResult:
        self.placed.append(intent)
        word = self.placing.pop(0) if self.placing else "ok"
        await self.clock.sleep(WAY)
        if word == "lose_request":
            return PlaceResult(outcome=Outcome.UNKNOWN, message="timed out")
        if word == "refuse":
            return PlaceResult(outcome=Outcome.REJECTED, code="-2010", message="not now")
        kept = self.orders[intent.client_order_id] = Kept(intent, fills=[])
        if word == "fill":
            self._execute(kept, intent.quantity, intent.price)
        elif intent.time_in_force is TimeInForce.IOC:
            lots = int(intent.quantity * self.ioc / self.market.lot)
            if lots:
                self._execute(kept, lots * self.market.lot, intent.price)
            if kept.left:
                kept.status = OrderState.CANCELLED
        self._tell(kept)
        await self.clock.sleep(WAY)
        if word == "lose_answer":
            return PlaceResult(outcome=Outcome.UNKNOWN, message="timed out")
        return PlaceResult(outcome=Outcome.PLACED, exchange_order_id=f"x-{intent.client_order_id}")

    async def cancel(self, intent: OrderIntent) -> PlaceResult:
        self.cancels.append(intent.client_order_id)
        word = self.cancelling.pop(0) if self.cancelling else "ok"
        await self.clock.sleep(WAY)
        kept = self.orders.get(intent.client_order_id)
        if word == "lose_request":
            return PlaceResult(outcome=Outcome.UNKNOWN, message="timed out")
        if word in {"fill_first", "part_first"} and kept is not None and kept.status is OrderState.PLACED:
            self.fill(D(1) if word == "fill_first" else D("0.5"))
        if kept is None or kept.status is not OrderState.PLACED:
            return PlaceResult(outcome=Outcome.REJECTED, code="-2011", message="Unknown order sent.")
        kept.status = OrderState.CANCELLED
        self._tell(kept)
        await self.clock.sleep(WAY)
        if word == "lose_answer":
            return PlaceResult(outcome=Outcome.UNKNOWN, message="timed out")
        return PlaceResult(outcome=Outcome.PLACED)

    async def query(self, intent: OrderIntent) -> OrderEvent | None:
        self.questions.append(intent.client_order_id)
        await self.clock.sleep(2 * WAY)
        kept = self.orders.get(intent.client_order_id)
        return None if kept is None else self._event(kept, "query")

    async def open_orders(self) -> Sequence[OrderEvent]:
        return [self._event(kept, "query") for kept in self.resting()]

    async def trades(self, market: str, since_ns: int) -> Sequence[Fill]:
        return [fill for kept in self.orders.values() for fill in kept.fills]

    async def balances(self) -> Sequence[AccountBalance]:
        return self._balances()

    async def positions(self) -> Sequence[AccountPosition]:
        return ()

    async def incomes(self, since_ns: int) -> Sequence[AccountIncome]:
        return ()


class LimitWorld:
    """A market at ``bid`` and ``ask``, an account on it, and a trade that works ``quantity`` into it."""

    def __init__(
        self,
        side: Side = "sell",
        quantity: str = "1",
        cap: str | None = None,
        *,
        market: Mapping[str, object] | None = None,
        **style: object,
    ) -> None:
        self.clock = VirtualClock()
        settings: dict[str, object] = {
            "exchange": "alpha",
            "symbol": "BTC/USDT",
            "native_id": "BTCUSDT",
            "base": "BTC",
            "quote": "USDT",
            "tick": D("0.01"),
            "lot": D("0.001"),
            "min_amount": D("0.001"),
            "min_notional": D("0.1"),
            **(market or {}),
        }
        self.market = Market(**settings)  # type: ignore[arg-type]
        self.side: Side = side
        self.quantity = D(quantity)
        self.cap = D(cap) if cap is not None else D(1000) if side == "buy" else D("0.01")
        self.style = WorkingStyle(**style)  # type: ignore[arg-type]
        self.exchange = HandExchange(self.clock, self.market)
        self.store = MemoryStore()
        self.alarms: list[str] = []
        self.steps: list[tuple[Step, str]] = []
        self.feed: HandFeed | None = None
        self.hub = MarketHub(self.clock, self._make_feed)
        self.subscription = self.hub.subscribe(self.market, lambda state: None)
        self.desk = Desk(
            owner_id=7,
            ids=Ids("test", 7, 3),
            store=self.store,
            publisher=Silent(),
            clock=self.clock,
            state_of=lambda market: self.subscription.state,
            tradable=self.hub.tradable,
            watch=self._watch,
            on_alarm=self.alarms.append,
        )
        self.desk.markets[self.market.key] = self.market
        self.desk.venues[PURSE] = self.exchange
        self.desk.live_purses.add(PURSE)
        self.exchange.listener = self._hear
        self.exchange.tell_balances()
        self.saga = Saga(
            self.desk,
            TradeTerms(
                bot_name="by hand",
                paper=False,
                purses={"alpha": PURSE},
                max_book_age_ms=1000.0,
                price_tolerance_bps=2.0,
                order_timeout_ms=15_000.0,
                ladder=Ladder(),
            ),
            self._record(),
            [],
            on_change=lambda saga: None,
            on_late_news=lambda saga: None,
            register=lambda order, saga: None,
        )
        self.task: asyncio.Task[Worked] | None = None
        self.why_stop = ""

    def _make_feed(self, exchange: str, sink: FeedSink) -> HandFeed:
        self.feed = HandFeed(sink)
        return self.feed

    def _watch(
        self,
        market: Market,
        on_change: Callable[[], None],
        on_trade: Callable[[PublicTrade], None] | None = None,
    ) -> Callable[[], None]:
        subscription = self.hub.subscribe(market, lambda state: on_change(), on_trade=on_trade)
        return lambda: self.hub.unsubscribe(subscription)

    def _record(self) -> TradeRecord:
        return TradeRecord(
            trade_id=self.desk.ids.next_trade(),
            bot_id=1,
            route="",
            base="BTC",
            quote="USDT",
            state=TradeState.OPEN,
            mode="simulated",
            quantity=self.quantity,
            expected_net_bps=ZERO,
            expected_profit=ZERO,
            opened_ns=0,
        )

    def _hear(self, message: OrderEvent | AccountBalance) -> None:
        if isinstance(message, AccountBalance):
            self.desk.explained.on_balance(PURSE, message)
            self.desk.portfolio.on_balance(PURSE, message)
        else:
            self.saga.on_event(message)

    # -- what a test does

    def show(self, bid: str, ask: str, size: float = 5.0, *deeper: tuple[float, float]) -> None:
        """Show a book: one level a side, and a deep one far behind it, unless ``deeper`` levels of bids are given."""
        assert self.feed is not None
        book = self.feed.books[self.market.key]
        below, above = float(bid) - 5, float(ask) + 5
        book.bids.replace([(float(bid), size), *(deeper or [(below, 500.0)])])
        book.asks.replace([(float(ask), size), (above, 500.0)])
        self._told()

    def show_levels(self, bids: list[tuple[float, float]], asks: list[tuple[float, float]]) -> None:
        assert self.feed is not None
        book = self.feed.books[self.market.key]
        book.bids.replace(bids)
        book.asks.replace(asks)
        self._told()

    def _told(self) -> None:
        assert self.feed is not None
        book = self.feed.books[self.market.key]
        book.ready = True
        book.received_ns = self.clock.time_ns()
        self.feed.sink.on_status(self.market.key, "live", "")
        self.feed.sink.on_book(book)

    def lose_feed(self) -> None:
        assert self.feed is not None
        self.feed.sink.on_status(self.market.key, "down", "cut")

    def keep_fresh(self) -> None:
        """Let the feed say now and then that nothing has changed."""

        async def tell() -> None:
            while True:
                await self.clock.sleep(0.3)
                assert self.feed is not None
                if self.subscription.state.status == "live":
                    self.feed.sink.on_book(self.feed.books[self.market.key])

        self._fresh = asyncio.ensure_future(tell())

    def begin(self) -> asyncio.Task[Worked]:
        self.task = asyncio.ensure_future(
            self.saga.workings.work(
                self.market,
                PURSE,
                self.side,
                self.quantity,
                self.style,
                leg=0,
                cap=self.cap,
                why_stop=lambda: self.why_stop,
                on_step=self._on_step,
            )
        )
        return self.task

    def _on_step(self, step: Step, order: Order) -> None:
        self.steps.append((step, str(order.intent.price)))

    async def end(self, seconds: float = 600.0) -> Worked:
        assert self.task is not None
        await self.clock.run_until(self.task.done, seconds)
        return self.task.result()

    @property
    def prices(self) -> list[tuple[str, str]]:
        """What was sent: the limit and its time in force."""
        return [(str(intent.price), intent.time_in_force.value) for intent in self.exchange.placed]

    def seconds(self) -> float:
        return self.clock.monotonic_ns() / 1e9

    def check(self, worked: Worked) -> None:
        """What must hold of every work, whatever happened on its way."""
        exchange = self.exchange
        filled = sum((kept.filled for kept in exchange.orders.values()), ZERO)
        assert worked.filled == filled <= self.quantity
        assert not exchange.resting()
        assert len(exchange.placed) == worked.attempts <= self.style.max_reprices + 2
        for intent in exchange.placed:
            assert intent.price <= self.cap if self.side == "buy" else intent.price >= self.cap
            assert intent.price % self.market.tick == 0
        assert (worked.reason == "") == (worked.filled == self.quantity)
        assert worked.questions == self.desk.status_questions
        assert not self.desk.portfolio.reservations
        assert not self.subscription.state.subscriptions[1:], "it still watches the market"
