"""A small world for engines under test: virtual time, the real hub with a feed driven by hand, venues with faults."""

from __future__ import annotations

import asyncio
import heapq
from collections.abc import Callable, Mapping, Sequence
from decimal import Decimal

import msgspec

from trading.config import AccountConfig, BotConfig, Credentials, ExchangeSpec, OwnerConfig
from trading.engine import Engine
from trading.exchanges.paper import PaperVenue
from trading.execution.hindsight import LATER_SECONDS
from trading.execution.memory_store import MemoryStore
from trading.execution.resolver import Patience
from trading.instruments import Market
from trading.marketdata.book import Book
from trading.marketdata.hub import MarketHub
from trading.messages import (
    AccountBalance,
    Decision,
    OrderEvent,
    OrderIntent,
    OrderState,
    Outcome,
    PlaceResult,
    PublicTrade,
    StreamState,
    TradeRecord,
    TradeState,
)
from trading.ports import FeedSink, Venue

D = Decimal
OWNER = 7
START_NS = 1_760_000_000 * 10**9


class VirtualClock:
    """The Clock port on a heap: time passes only when nothing else is left to do."""

    def __init__(self) -> None:
        self._now = 0
        self._count = 0
        self._sleepers: list[tuple[int, int, asyncio.Future[None]]] = []

    def monotonic_ns(self) -> int:
        return self._now + 1

    def time_ns(self) -> int:
        return START_NS + self._now

    async def sleep(self, seconds: float) -> None:
        future = asyncio.get_running_loop().create_future()
        self._count += 1
        heapq.heappush(self._sleepers, (self._now + int(seconds * 1e9), self._count, future))
        await future

    async def settle(self) -> None:
        """Let everything that is ready run, without letting time pass."""
        loop = asyncio.get_running_loop()
        await asyncio.sleep(0)
        while loop._ready:  # type: ignore[attr-defined]  # noqa: ASYNC110
            await asyncio.sleep(0)

    async def run_until(self, condition: Callable[[], object], seconds: float = 600.0) -> None:
        """Let time pass until ``condition`` holds; fail after ``seconds`` of virtual time."""
        end = self._now + int(seconds * 1e9)
        await self.settle()
        while not condition():
            while self._sleepers and self._sleepers[0][2].done():
                heapq.heappop(self._sleepers)
            if not self._sleepers or self._sleepers[0][0] > end:
                raise AssertionError(f"did not come true within {seconds} virtual seconds: {condition}")
            at, _, future = heapq.heappop(self._sleepers)
            self._now = max(self._now, at)
            future.set_result(None)
            await self.settle()

    async def advance(self, seconds: float) -> None:
        """Let ``seconds`` pass."""
        done = asyncio.ensure_future(self.sleep(seconds))
        await self.run_until(done.done, seconds + 1)


class HandFeed:
    """A Feed whose books are written by the test."""

    def __init__(self, sink: FeedSink) -> None:
        self.sink = sink
        self.books: dict[str, Book] = {}

    def add(self, market: Market) -> Book:
        return self.books.setdefault(market.key, Book(market))

    def remove(self, key: str) -> None:
        """The exchange's market goes on without us."""

    async def run(self) -> None:
        await asyncio.get_running_loop().create_future()

    def counters(self) -> Mapping[str, int | float]:
        return {}


class Pages:
    """A Publisher that keeps the latest value of each key."""

    def __init__(self) -> None:
        self.latest: dict[tuple[int | None, str, str], Mapping[str, object]] = {}

    def publish(self, owner: int | None, kind: str, key: str, data: Mapping[str, object]) -> None:
        self.latest[owner, kind, key] = data

    def of(self, kind: str) -> list[Mapping[str, object]]:
        return [data for (_, its, _), data in self.latest.items() if its == kind]


class FaultyVenue(PaperVenue):
    """An exchange account that matches like the paper one, with faults on the way there and back.

    ``script`` gives what happens to the next placements, one word each: ``ok``, ``reject``, ``lose_answer`` (executed,
    UNKNOWN), ``lose_request`` (never arrived, UNKNOWN), ``half`` (half the quantity fills), ``none`` (nothing fills),
    ``silent`` (acknowledged, its events stay away until :meth:`speak`), ``raise`` (the venue has a bug).
    """

    absence_seconds = 25.0

    def __init__(self, *args: object, script: Sequence[str] = (), **options: object) -> None:
        super().__init__(*args, **options)  # type: ignore[arg-type]
        self.script = list(script)
        self.sent: list[OrderIntent] = []
        self.unspoken: list[OrderEvent] = []
        self.answers_queries = True
        self.denials: list[int] = []  # monotonic times of "no such order"

    async def close(self) -> None:
        """The engine goes; the exchange, and what rests on it, stays."""
        self._listener = None

    async def place(self, intent: OrderIntent) -> PlaceResult:
        self.sent.append(intent)
        # What is on its way to the exchange gets there even if whoever sent it dies meanwhile.
        return await asyncio.shield(asyncio.ensure_future(self._arrive(intent)))

    async def _arrive(self, intent: OrderIntent) -> PlaceResult:
        word = self.script.pop(0) if self.script else "ok"
        if word == "raise":
            raise RuntimeError("a bug in the venue")
        if word == "reject":
            return PlaceResult(outcome=Outcome.REJECTED, code="-2010", message="Account has insufficient balance")
        if word == "lose_request":
            await self._clock.sleep(15)
            return PlaceResult(outcome=Outcome.UNKNOWN, message="timed out")
        if word in {"lose_answer", "silent"}:
            listener, self._listener = self._listener, None
            await super().place(intent)
            self._listener = listener
            self.unspoken.append(self._orders[intent.client_order_id])
            if word == "silent":
                return PlaceResult(outcome=Outcome.PLACED, exchange_order_id=f"paper-{intent.client_order_id}")
            return PlaceResult(outcome=Outcome.UNKNOWN, message="timed out")
        if word in {"half", "none"}:
            market = self._markets[intent.market]
            part = intent.quantity / 2 // market.lot * market.lot if word == "half" else D(0)
            return await self._place_part(intent, part)
        return await super().place(intent)

    async def _place_part(self, intent: OrderIntent, quantity: Decimal) -> PlaceResult:
        if quantity:
            event = self._execute(msgspec.structs.replace(intent, quantity=quantity))
        else:
            event = self._execute(
                msgspec.structs.replace(intent, price=D("0.01") if intent.side == "buy" else D(10**9))
            )
        event = msgspec.structs.replace(event, state=OrderState.CANCELLED)
        self._orders[intent.client_order_id] = event
        self._tell(event)
        self._tell_balances(self._assets_of(self._markets[intent.market]))
        return PlaceResult(outcome=Outcome.PLACED, exchange_order_id=event.exchange_order_id, events=(event,))

    def speak(self) -> None:
        """Deliver what was held back, and the balances it led to."""
        for event in self.unspoken:
            self._tell(event)
            self._tell_balances(self._assets_of(self._markets[event.market]))
        self.unspoken.clear()

    async def query(self, intent: OrderIntent) -> OrderEvent | None:
        if not self.answers_queries:
            await self._clock.sleep(1)
            return OrderEvent(
                account_id=self.account_id,
                market=intent.market,
                client_order_id=intent.client_order_id,
                state=OrderState.UNKNOWN,
                source="query",
                cause="no answer",
            )
        event = await super().query(intent)
        if event is None:
            self.denials.append(self._clock.monotonic_ns())
        else:
            self._tell_balances(self._assets_of(self._markets[intent.market]))
        return event

    def lose_stream(self) -> None:
        self._tell_any(StreamState(account_id=self.account_id, state="down", reason="connection reset"))

    def regain_stream(self) -> None:
        self._tell_any(StreamState(account_id=self.account_id, state="live"))

    def _tell_any(self, message: OrderEvent | AccountBalance | StreamState) -> None:
        if self._listener is not None:
            self._listener(message)

    def money(self) -> dict[str, Decimal]:
        return dict(self._money.free)


def spot(exchange: str, symbol: str = "BTC/USDT", **terms: object) -> Market:
    base, _, quote = symbol.partition("/")
    settings: dict[str, object] = {
        "tick": D("0.01"),
        "lot": D("0.0001"),
        "min_amount": D("0.0001"),
        "min_notional": D(5),
        "taker_fee": D("0.001"),
        **terms,
    }
    return Market(exchange=exchange, symbol=symbol, native_id=base + quote, base=base, quote=quote, **settings)  # type: ignore[arg-type]


def spec(code: str, environment: str = "simulated") -> ExchangeSpec:
    return ExchangeSpec(code=code, ccxt_id="binance", environment=environment)


MONEY = {"BTC": D(10), "USDT": D(1_000_000)}


class World:
    """Two exchanges ``alpha`` and ``beta`` with one account each, one bot on BTC/USDT, and an engine for them."""

    def __init__(
        self,
        *,
        faulty: bool = False,
        third: bool = False,
        environment: str = "simulated",
        terms: Mapping[str, object] | None = None,
        **bot: object,
    ) -> None:
        self.clock = VirtualClock()
        self.feeds: dict[str, HandFeed] = {}
        self.hub = MarketHub(self.clock, self._feed)
        self.store = MemoryStore()
        self.pages = Pages()
        self.alarms: list[str] = []
        self.alpha, self.beta = spot("alpha", **(terms or {})), spot("beta", **(terms or {}))
        self.gamma = spot("gamma", **(terms or {}))  # a third exchange, where one is asked for
        settings: dict[str, object] = {
            "bot_id": 1,
            "name": "first",
            "mode": "live" if faulty else "paper",
            "markets": (self.alpha, self.beta, *([self.gamma] if third else [])),
            "accounts": {"alpha": 11, "beta": 12, **({"gamma": 13} if third else {})},
            "max_trade_notional": D(10_000),
            "cooldown_ms": 0.0,
            "max_book_age_ms": 1e9,
            **bot,
        }
        self.bot = BotConfig(**settings)  # type: ignore[arg-type]
        self.config = OwnerConfig(
            owner_id=OWNER,
            id_prefix="test",
            lease_token=3,
            accounts=(
                self.account(11, "alpha", exchange=spec("alpha", environment), armed_for_live=True),
                self.account(12, "beta", exchange=spec("beta", environment), armed_for_live=True),
                *([self.account(13, "gamma")] if third else []),
            ),
            bots=(self.bot,),
            live_allowed=environment == "live",
        )
        self.venues: dict[int, Venue] = {}
        if faulty:
            self.venues = {11: self.faulty_venue(11, self.alpha), 12: self.faulty_venue(12, self.beta)}
            if third:
                self.venues[13] = self.faulty_venue(13, self.gamma)
        self.engine = self.make_engine()
        self.task: asyncio.Task[None] | None = None

    def account(self, account_id: int, code: str, **changes: object) -> AccountConfig:
        settings: dict[str, object] = {
            "account_id": account_id,
            "label": f"account {account_id}",
            "exchange": spec(code),
            "credentials": Credentials(api_key="key", secret="secret"),
            "paper_balances": MONEY,
            **changes,
        }
        return AccountConfig(**settings)  # type: ignore[arg-type]

    def faulty_venue(self, account_id: int, market: Market) -> FaultyVenue:
        return FaultyVenue(
            account_id,
            market.exchange,
            [market],
            MONEY,
            book_of=self.live_book,
            clock=self.clock,
            watch=self._watch,
        )

    def _watch(
        self,
        market: Market,
        on_change: Callable[[], None],
        on_trade: Callable[[PublicTrade], None] | None = None,
    ) -> Callable[[], None]:
        subscription = self.hub.subscribe(market, lambda state: on_change(), on_trade=on_trade)
        return lambda: self.hub.unsubscribe(subscription)

    def live_book(self, market: Market) -> Book | None:
        feed = self.feeds.get(market.exchange)
        return feed.books.get(market.key) if feed else None

    def make_engine(self, token: int = 3) -> Engine:
        config = msgspec.structs.replace(self.config, lease_token=token)
        return Engine(
            config,
            self.hub,
            self.venues,
            self.store,
            self.pages,
            self.clock,
            patience=Patience(),
            on_alarm=self.alarms.append,
        )

    def _feed(self, exchange: str, sink: FeedSink) -> HandFeed:
        return self.feeds.setdefault(exchange, HandFeed(sink))

    async def start(self) -> None:
        self.task = asyncio.ensure_future(self.engine.run())
        await self.clock.settle()

    async def stop(self) -> None:
        stopping = asyncio.ensure_future(self.engine.stop(drain_seconds=0.5))
        await self.clock.run_until(stopping.done)
        if self.task is not None:
            await self.task
        await self.hub.close()

    def show(self, market: Market, bid: str, ask: str, size: str = "5") -> None:
        """Show a book with one level a side (and a worse one behind it) to everybody."""
        feed = self.feeds[market.exchange]
        book = feed.books[market.key]
        below, above = float(D(bid) - 1), float(D(ask) + 1)
        book.bids.replace([(float(bid), float(size)), (below, 50.0)])
        book.asks.replace([(float(ask), float(size)), (above, 50.0)])
        book.ready = True
        book.received_ns = self.clock.time_ns()
        feed.sink.on_status(market.key, "live", "")
        feed.sink.on_book(book)

    async def edge(self) -> None:
        """Let alpha's ask stand 100 bps below beta's bid: buy on alpha, sell on beta."""
        self.show(self.alpha, "49990", "50000")
        self.show(self.beta, "50500", "50510")
        await self.clock.settle()

    @property
    def one_venue(self) -> FaultyVenue:
        """The venue on alpha, where the bot buys."""
        venue = self.venues[11]
        assert isinstance(venue, FaultyVenue)
        return venue

    @property
    def other_venue(self) -> FaultyVenue:
        """The venue on beta, where the bot sells."""
        venue = self.venues[12]
        assert isinstance(venue, FaultyVenue)
        return venue

    async def trade(self, seconds: float = 600.0) -> TradeRecord:
        """Show an edge and let the trade it leads to come to its end."""
        await self.edge()
        await self.clock.run_until(lambda: self.store.trades and not self.engine.status().open_trades, seconds)
        return list(self.store.trades.values())[-1]

    def check_money(self) -> None:
        """What the accounts hold now is what they began with plus every fill booked, to the last digit."""
        expected = {"BTC": MONEY["BTC"] * 2, "USDT": MONEY["USDT"] * 2}
        for fill in self.store.fills.values():
            sign = 1 if fill.side == "buy" else -1
            expected["BTC"] += sign * fill.quantity
            expected["USDT"] -= sign * fill.quantity * fill.price
            assert fill.fee is not None
            expected[fill.fee_asset] -= fill.fee
        held = {asset: self.one_venue.money()[asset] + self.other_venue.money()[asset] for asset in expected}
        assert held == expected

    def check_result(self, record: TradeRecord) -> None:
        """The result is what the fills say: quote in less quote out, the rest and base fees at their own prices."""
        own = {intent.client_order_id for intent in self.store.intents.values() if intent.trade_id == record.trade_id}
        fills = [fill for fill in self.store.fills.values() if fill.client_order_id in own]
        bought = [fill for fill in fills if fill.side == "buy"]
        sold = [fill for fill in fills if fill.side == "sell"]
        paid, received = (sum((fill.price * fill.quantity for fill in side), D(0)) for side in (bought, sold))
        base_in, base_out = (sum((fill.quantity for fill in side), D(0)) for side in (bought, sold))
        residual = base_in - base_out
        assert record.residual_base == residual
        fees: dict[str, Decimal] = {}
        for fill in fills:
            assert fill.fee is not None
            fees[fill.fee_asset] = fees.get(fill.fee_asset, D(0)) + fill.fee
        assert record.fees == fees
        if not fills:
            assert record.realised_profit is None
            return
        entry = paid / base_in if residual > 0 else received / base_out if residual < 0 else D(0)
        vwap = (paid + received) / (base_in + base_out)
        profit = received - paid + residual * entry - fees.get("USDT", D(0)) - fees.get("BTC", D(0)) * vwap
        assert record.realised_profit is not None
        assert abs(record.realised_profit - profit) < D("1e-18")

    def check_nothing_held(self) -> None:
        """No reservation is left, no order unresolved, nothing blocked by a trade."""
        assert self.engine.desk.portfolio.reservations == {}
        assert self.engine.status().unresolved_orders == []
        assert self.store.unresolved == []

    async def decided(self) -> Decision:
        """Return the newest decision; refusals are recorded with what they would have earned a second later."""
        await self.clock.advance(LATER_SECONDS + 0.1)
        return self.store.decisions[-1]

    async def no_edge(self) -> None:
        self.show(self.alpha, "50000", "50010")
        self.show(self.beta, "50000", "50010")
        await self.clock.settle()

    def trade_states(self, trade_id: str) -> list[TradeState]:
        """The states a trade was recorded in, in order."""
        return self.store.trade_history[trade_id]
