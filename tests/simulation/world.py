"""One history: exchanges, a database, processes that come and go, and what a seed lets happen to them."""

from __future__ import annotations

import asyncio
import gc
import signal
import sys
import warnings
from collections import Counter
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from decimal import Decimal
from random import Random
from types import FrameType

from tests.simulation import checks
from tests.simulation.database import COMMIT_SECONDS, Backup, Database, Lease, SimStore
from tests.simulation.exchange import Exchange, Report, SimOrder
from tests.simulation.faults import BY_NAME, FAULTS, make_way
from tests.simulation.incidents import POINTS, Incident
from tests.simulation.loop import START_NS, Process, VirtualClock, VirtualLoop
from tests.simulation.redis import Reach, SimRedis
from tests.simulation.venue import Kept, Link, Plan, SimVenue
from trading.config import AccountConfig, BotConfig, Credentials, ExchangeSpec, OwnerConfig
from trading.engine import Engine
from trading.instruments import Market
from trading.marketdata.book import Book
from trading.marketdata.hub import MarketHub
from trading.messages import LegPolicy, OrderIntent, TradeState
from trading.ports import FeedSink, LeaseLost, Publisher, StoreUnavailable

D = Decimal
OWNER, PREFIX = 7, "simu"
SYMBOL = "BTC/USDT"
MONEY = {"BTC": D(10), "USDT": D(1_000_000), "BNB": D(100)}
MIDDLE = D(50_000)
TAKEN_EACH_TICK = 0.3  # the chance that a taker meets an order of ours at rest when books are shown again
LOT, MIN_NOTIONAL, FEE = D("0.0001"), D(5), D("0.001")
BOOK_EVERY = 2.5  # seconds between books without news
SUPERVISED_EVERY = 0.25
MOST_CPU_SECONDS = 30  # of one history, which takes some milliseconds; the first compiles the books
RESTORING_SECONDS = 2.0  # a backup does not come back within the second it was taken in
LONGEST = 900.0  # virtual seconds a history may take to come to rest once everything is whole again


@dataclass(slots=True)
class Send:
    """A placement as it left."""

    at: float
    process: str
    exchange: str
    intent: OrderIntent


class Body(Process):
    """A process with an engine in it."""

    def __init__(self, name: str, generation: int, token: int) -> None:
        super().__init__(name)
        self.generation = generation
        self.token = token
        self.ended = False
        self.stood_still, self.woke_at = 0.0, -1.0  # for how long it did the last time, and until when
        self.engine: Engine | None = None
        self.hub: MarketHub | None = None
        self.store: SimStore | None = None
        self.clock: VirtualClock | None = None
        self.venues: dict[str, SimVenue] = {}
        self.feeds: list[HandFeed] = []
        self.tasks: list[asyncio.Task[None]] = []


class HandFeed:
    """A Feed that shows what the history shows."""

    def __init__(self, sink: FeedSink, world: World, body: Body) -> None:
        self.sink = sink
        self.world = world
        self.body = body
        self.books: dict[str, Book] = {}
        body.feeds.append(self)

    def add(self, market: Market) -> Book:
        book = self.books.setdefault(market.key, Book(market))
        self.world.loop.outside(0.001, self.world.publish, market.exchange)
        return book

    def remove(self, key: str) -> None:
        """The exchange's market goes on without us."""

    async def run(self) -> None:
        await asyncio.get_running_loop().create_future()

    def counters(self) -> Mapping[str, int | float]:
        return {}

    def show(self, key: str, bids: list[tuple[float, float]], asks: list[tuple[float, float]], status: str) -> None:
        book = self.books.get(key)
        if book is None or self.body.clock is None:
            return
        if status != "live":
            book.reset()
            self.sink.on_status(key, status, "gap")
            return
        book.bids.replace(bids)
        book.asks.replace(asks)
        book.ready = True
        book.received_ns = self.body.clock.time_ns()
        self.sink.on_status(key, "live", "")
        self.sink.on_book(book)


class Pages:
    """A Publisher whose pages nobody reads."""

    def publish(self, owner: int | None, kind: str, key: str, data: Mapping[str, object]) -> None:
        """Nothing depends on it."""


@dataclass(slots=True)
class Outcome:
    """What a history came to."""

    seed: int
    anomalies: list[str]
    faults: Counter[str]
    crash_points: Counter[str]
    trades: Counter[str]
    seconds: float
    trace: list[tuple[object, ...]] = field(default_factory=list)

    def lines(self) -> Iterator[str]:
        for at, *what in self.trace:
            yield f"{at:12.6f}  {'  '.join(str(one) for one in what)}"


class World:
    """Everything in one history. Faults change its fields; nothing in it is drawn but from ``random``."""

    make_loop = VirtualLoop
    make_exchange = Exchange

    def __init__(self, seed: int, fault: str | None = None, *, planned: bool = True) -> None:
        """``fault`` is the only one to happen; without ``planned`` nothing happens but what the caller does."""
        self.seed = seed
        self.random = Random(seed)
        random = self.random
        self.loop = self.make_loop(Random(seed + 1), random.choice((0.0, 2e-5, 2e-4, 2e-3)))
        self.trace: list[tuple[object, ...]] = []
        self.anomalies: list[str] = []
        self.injected: Counter[str] = Counter()
        self.crashed: Counter[str] = Counter()
        self.crossed: Counter[tuple[int, str]] = Counter()
        self.in_flight = 0
        self.sends: list[Send] = []
        self.asked_at: dict[str, float] = {}  # when the commit of each order was asked for
        self.liars: set[str] = set()  # client ids of orders the exchange itself told something wrong about
        self.healed = False
        self.over = False
        # the database
        self.database = Database(self.loop.time)
        self.database_latency = random.uniform(0.0005, 0.01)
        self.database_down = ""
        self.database_slow = 0.0
        self.commit_turns: list[Callable[[], str]] = []  # of the next commits: "", "lost", "durable", "retried"
        self.leases_cut: set[str] = set()
        self.restored = False  # an older backup of the database
        self.lost: set[str] = set()  # client ids of orders that a restored backup did not know
        self.redis: SimRedis | None = None  # what pages and shared limits go through, where there is one
        self.redis_edges: list[float] = []  # when there was something to trade while it was away
        self.embedded = random.random() < 0.5  # a restart on the same machine ends its predecessor's lease at once
        # the exchanges
        codes = ("alpha", "beta", "gamma") if random.random() < 0.15 else ("alpha", "beta")
        self.exchanges = {
            code: self.make_exchange(
                code, MONEY, now=self.loop.time, later=self.loop.outside, lot=LOT, min_notional=MIN_NOTIONAL, fee=FEE
            )
            for code in codes
        }
        self.links = {code: Link(self, exchange) for code, exchange in self.exchanges.items()}
        for code, exchange in self.exchanges.items():
            exchange.tell = self.links[code].publish
            exchange.on_late = self._late
        self.markets = {code: _market(code) for code in codes}
        self.database.markets = {market.key: market for market in self.markets.values()}
        self.accounts = {code: 11 + number for number, code in enumerate(codes)}
        self.middles = dict.fromkeys(codes, MIDDLE)
        self.leg_policy = random.choice((LegPolicy.TOGETHER, LegPolicy.TOGETHER, LegPolicy.UNCERTAIN_FIRST))
        self.depth = random.choice((D("0.02"), D("0.05"), D("0.2"), D("1")))
        # Of its own, so that what it draws changes nothing else in a history.
        self.takers = Random(seed + 2)
        self.adaptive = self.takers.random() < 0.4
        self.book_turns: dict[str, Callable[[Levels, Levels], tuple[Levels, Levels, str]]] = {}
        self.frozen: set[str] = set()
        # what is to happen
        self.place_plans: dict[int, tuple[str, Plan]] = {}
        self.place_turns: list[Callable[[SimVenue], Plan]] = []  # of any of the next placements
        self.cancel_turns: list[Callable[[SimVenue, OrderIntent], Plan]] = []
        self.query_turns: list[Callable[[SimVenue, OrderIntent], Plan | None]] = []
        self.stream_hooks: list[Callable[[SimVenue, list[Kept]], list[Kept]]] = []
        self.balance_holds: dict[str, float] = {}
        self.incidents: list[Incident] = []
        self.places = 0
        self.bodies: list[Body] = []
        self.stops: list[float] = []
        self.restart_after = 0.0
        self.active_until = 1.0 + random.uniform(4.0, 10.0)
        if planned:
            self._choose(fault)

    # -- the plan

    def _choose(self, fault: str | None) -> None:
        random = self.random
        some = random.choice((0, 1, 2, 2, 3, 4))
        chosen = random.sample(FAULTS, some) if fault is None else [BY_NAME[fault]]
        for one in chosen:
            one.arm(self, one.name)
        if fault is None and random.random() < 0.3:
            self.crash_somewhere("57_killed_anywhere")

    def crash_somewhere(self, fault: str) -> None:
        """Plan a crash at a point of the trade path, perhaps another in the recovery from it."""
        random = self.random
        for generation in (1,) if random.random() < 0.5 else (1, 2):
            point = random.choice(POINTS)
            nth = int(10 ** random.uniform(0.7, 2.7)) if point == "await" else random.choice((1, 1, 2, 3))
            if generation == 1:
                make_way(self, point)
            later = generation + (point == "trade_of:read" and generation == 1)  # an engine knows its own trades
            self.incidents.append(Incident(point, later, 1 if later > generation else nth, fault=fault))

    def inject(self, fault: str) -> None:
        if not fault.endswith(":"):  # what only makes room for the fault
            self.injected[fault] += 1
        self.log("fault", fault)

    def log(self, *what: object) -> None:
        if self.over:
            return
        self.trace.append((round(self.loop.time(), 9), *what))

    def anomaly(self, what: str) -> None:
        if self.over:
            return  # coroutines that are collected speak once more
        self.log("ANOMALY", what)
        if what not in self.anomalies:
            self.anomalies.append(what)

    # -- time

    def clock_of(self, process: Process) -> VirtualClock:
        assert isinstance(process, Body)
        assert process.clock is not None
        return process.clock

    def wall(self, venue: SimVenue) -> int:
        return self.clock_of(venue.process).time_ns()

    def exchange_ns(self, at: float | None = None) -> int:
        return START_NS + int((self.loop.time() if at is None else at) * 1e9)

    @staticmethod
    def seconds_of(ns: int) -> float:
        return (ns - START_NS) / 1e9

    def at(self, seconds: float, action: Callable[[], None]) -> None:
        """Do something at a time of the history."""
        self.loop.outside(max(0.0, seconds - self.loop.time()), action)

    # -- crashes

    def passes(self, process: Process, name: str) -> bool:
        """Note that a process crosses a point; return whether it lives on."""
        assert isinstance(process, Body)
        if not process.alive:
            return False
        generation = process.generation
        self.crossed[generation, name] += 1
        for incident in self.incidents:
            crossing = (incident.generation, incident.point, incident.nth)
            if crossing == (generation, name, self.crossed[generation, name]):
                self._befall(process, incident, name)
        return process.alive

    async def point(self, process: Process, name: str) -> None:
        """Cross a point, or stop there for good, or for a while."""
        if not self.passes(process, name):
            await self.loop.create_future()
        if process.paused:
            await asyncio.sleep(0)

    def _befall(self, body: Body, incident: Incident, name: str) -> None:
        if self.healed:
            return
        if incident.fault:
            self.inject(incident.fault)
        if incident.pause:
            self.pause(body, incident.pause)
        else:
            self.kill(body, name)

    def kill(self, body: Body, point: str) -> None:
        """End a process as SIGKILL does."""
        if not body.alive:
            return
        body.alive = False
        self.crashed[point if body.generation == 1 else f"{point}@recovery"] += 1
        self.log("killed", body.name, point)
        for venue in body.venues.values():
            if venue in venue.link.streams:
                venue.link.streams.remove(venue)
        if self.embedded:
            self.database.expires_at = min(self.database.expires_at, self.loop.time() + self.random.uniform(0.1, 2.0))

    def kill_newest(self, point: str) -> None:
        if self.newest is not None and not self.healed:
            self.kill(self.newest, point)

    def pause(self, body: Body, seconds: float) -> None:
        """Let a process stand still, as SIGSTOP or a stalled machine does."""
        if body.alive and not body.paused:
            body.paused = True
            body.stood_still = seconds
            self.log("paused", body.name, round(seconds, 3))
            self.loop.outside(seconds, self._resume, body)

    def _resume(self, body: Body) -> None:
        self.log("resumed", body.name)
        body.woke_at = self.loop.time()
        self.loop.resume(body)

    # -- processes

    @property
    def newest(self) -> Body | None:
        return self.bodies[-1] if self.bodies else None

    def _supervise(self) -> None:
        """Start an engine whenever nobody holds the lease, as the platform does."""
        self.loop.outside(SUPERVISED_EVERY, self._supervise)
        if self.database_down or self.loop.time() < self.restart_after:
            return
        name = f"engine{len(self.bodies) + 1}"
        token = self.database.take(name)
        if token is None:
            return
        body = Body(name, len(self.bodies) + 1, token)
        for incident in self.incidents:
            if (incident.point, incident.generation) == ("await", body.generation):
                body.kill_at = incident.nth
                body.on_kill = lambda incident=incident, body=body: self._befall(body, incident, "await")
        body.clock = VirtualClock(self.loop)
        if self.embedded and self.newest is not None and self.newest.clock is not None:
            body.clock.wall_offset = self.newest.clock.wall_offset  # the same machine
        self.bodies.append(body)
        self.log("started", name, token)
        self.loop.inside(body, 0.0, self._begin, body)

    def _begin(self, body: Body) -> None:
        body.tasks.append(self.loop.create_task(self._life(body)))

    async def _life(self, body: Body) -> None:
        assert body.clock is not None
        lease = Lease(self, body, body.token)
        store = body.store = SimStore(self, body, lease)
        body.tasks.append(self.loop.create_task(store.run()))
        hub = body.hub = MarketHub(body.clock, lambda _, sink: HandFeed(sink, self, body))
        body.venues = {
            code: SimVenue(self, body, self.links[code], account, self.markets[code].key)
            for code, account in self.accounts.items()
        }
        pages: Publisher = Pages()
        if self.redis is not None:
            reach = Reach(self.redis, body)
            pages = reach.pages
            body.tasks.append(self.loop.create_task(reach.pages.run()))
            for code, venue in body.venues.items():
                venue.budget = reach.budget(code)
        engine = body.engine = Engine(
            self._config(body.token),
            hub,
            {venue.account_id: venue for venue in body.venues.values()},
            store,
            pages,
            body.clock,
            on_alarm=lambda text: self._alarm(body, text),
        )
        body.tasks.append(self.loop.create_task(lease.keep(engine.halt)))
        try:
            await engine.run()
        except Exception as error:
            self.anomaly(f"engine_error: {type(error).__name__}: {error}")
        while store.waiting:  # the host writes what is left before it gives up the lease
            await body.clock.sleep(0.1)
        self.log("ended", body.name, engine.halted)
        body.ended = True
        if not lease.lost:
            self.database.release(body.token)
        body.alive = False  # nothing of it runs on

    def _alarm(self, body: Body, text: str) -> None:
        self.log("alarm", body.name, text)
        if "stopped on its way" in text or text.startswith("bot "):
            self.anomaly(f"engine_error: {text}")

    def broken(self, process: Process, error: Exception) -> None:
        """Note an exception of the engine's own code where nothing of the engine's would show it."""
        where = ""
        trace = error.__traceback__
        while trace is not None:
            where = f"{trace.tb_frame.f_code.co_name}:{trace.tb_lineno}"
            trace = trace.tb_next
        self.log("broken", process.name, where)
        self.anomaly(f"engine_error: {type(error).__name__}: {error} in {where}")

    def _config(self, token: int) -> OwnerConfig:
        exposed = {
            trade.trade_id: trade.reason for trade in self.database.trades.values() if trade.state is TradeState.EXPOSED
        }
        bot = BotConfig(
            bot_id=1,
            name="first",
            mode="live",
            markets=tuple(self.markets.values()),
            accounts=self.accounts,
            max_trade_notional=D(5_000),
            cooldown_ms=100.0,
            leg_policy=self.leg_policy,
            adaptive_completion=self.adaptive,
            max_book_age_ms=2 * BOOK_EVERY * 1000,
            exposed=exposed,
        )
        return OwnerConfig(
            owner_id=OWNER,
            id_prefix=PREFIX,
            lease_token=token,
            accounts=tuple(
                AccountConfig(
                    account_id=account,
                    label=code,
                    exchange=ExchangeSpec(code=code, ccxt_id="binance", environment="simulated"),
                    credentials=Credentials(api_key="key", secret="secret"),
                )
                for code, account in self.accounts.items()
            ),
            bots=(bot,),
        )

    def restore(self, backup: Backup) -> None:
        """Stop everything, and bring the database back as it was."""
        for body in self.bodies:
            self.kill(body, "await")
        self.restored = True
        before = set(self.database.intents)
        self.database.restore(backup)
        self.lost |= before - set(self.database.intents)
        self.log("restored", *sorted(self.lost))
        self.restart_after = max(self.restart_after, self.loop.time() + RESTORING_SECONDS)

    def stop_engine(self) -> None:
        """Ask the engine to drain and end, as a deployment does."""
        body = self.newest
        if body is not None and body.alive and body.engine is not None:
            body.tasks.append(body.context.run(self.loop.create_task, body.engine.stop(2.0)))

    # -- the database's way

    async def query_database(
        self, process: Process, work: Callable[[], object], *, commit: bool = False, lease: bool = False
    ) -> object:
        """Run ``work`` in the database and return what it returns; raise StoreUnavailable when no answer comes."""
        loop = self.loop
        answer: asyncio.Future[object] = loop.create_future()

        def deliver(value: object) -> None:
            if not answer.done() and process.alive:
                answer.set_result(value)

        turn = self.commit_turns.pop()() if commit and self.commit_turns else ""

        def arrive() -> None:
            value: object
            if self.database_down or (lease and process.name in self.leases_cut):
                value = StoreUnavailable(self.database_down or "no connection")
            elif turn == "lost":
                value = StoreUnavailable("the connection was lost at COMMIT")
            else:
                try:
                    value = work()
                except (LeaseLost, StoreUnavailable, ValueError) as error:
                    value = error
                if turn == "durable":
                    value = StoreUnavailable("the connection was lost at COMMIT")
            loop.outside(self._database_delay(), deliver, value)

        delay = self._database_delay() * (3 if turn == "retried" else 1)
        loop.outside(delay, arrive)
        if commit:
            loop.outside(COMMIT_SECONDS, deliver, StoreUnavailable("the database did not commit in time"))
        value = await answer
        if isinstance(value, Exception):
            raise value
        return value

    def _database_delay(self) -> float:
        random = self.random.random
        return self.database_latency * random() + (self.database_slow * random() if self.database_slow else 0.0)

    # -- what the venues ask

    def plan_place(self, venue: SimVenue, intent: OrderIntent) -> Plan:
        self.places += 1
        if self.healed:
            return Plan()
        fault, plan = self.place_plans.pop(self.places, ("", None))
        if plan is not None:
            self.inject(fault)
        elif self.place_turns and self.random.random() < 0.5:
            plan = self.place_turns.pop()(venue)
        else:
            return Plan()
        if plan.turn is not None and (plan.turn.late is not None or plan.turn.over or plan.turn.vanish_after):
            self.liars.add(intent.client_order_id)
        return plan

    def plan_cancel(self, venue: SimVenue, intent: OrderIntent) -> Plan:
        return self.cancel_turns.pop()(venue, intent) if self.cancel_turns and not self.healed else Plan()

    def plan_query(self, venue: SimVenue, intent: OrderIntent) -> Plan:
        for turn in self.query_turns if not self.healed else ():
            plan = turn(venue, intent)
            if plan is not None:
                return plan
        return Plan()

    def stream_turns(self, venue: SimVenue, report: Report) -> list[Kept]:
        kept = [Kept(report)]
        for hook in self.stream_hooks:
            kept = hook(venue, kept)
        return kept

    def balances_held_back(self, venue: SimVenue) -> bool:
        return self.loop.time() < self.balance_holds.get(venue.exchange, 0.0)

    def note_sent(self, venue: SimVenue, intent: OrderIntent) -> None:
        self.log(
            "send", venue.process.name, intent.client_order_id, venue.exchange, intent.side, intent.quantity,
            intent.price,
        )  # fmt: skip
        checks.at_send(self, venue, intent)
        self.sends.append(Send(self.loop.time(), venue.process.name, venue.exchange, intent))

    def note_accepted(self, exchange: Exchange, order: SimOrder) -> None:
        self.log("accepted", exchange.code, order.client_id, order.status, order.filled)

    def note_cancel(self, venue: SimVenue, intent: OrderIntent) -> None:
        self.log("cancel", venue.process.name, intent.client_order_id)
        checks.at_cancel(self, intent)

    def landed(self) -> None:
        self.in_flight -= 1

    def _late(self, change: int) -> None:
        self.in_flight += change

    # -- market data

    def levels(self, code: str) -> tuple[list[list[Decimal]], list[list[Decimal]]]:
        middle, depth = self.middles[code], self.depth
        bids = [[middle - D(5) - D(3) * step, depth * (1 + step)] for step in range(3)]
        asks = [[middle + D(5) + D(3) * step, depth * (1 + step)] for step in range(3)]
        return bids, asks

    def refresh(self, code: str) -> None:
        """Let others put their orders on the exchange's book again, around its present middle."""
        exchange = self.exchanges[code]
        exchange.bids, exchange.asks = self.levels(code)
        for order in exchange.resting():
            taken = self.takers.random() < TAKEN_EACH_TICK
            exchange.meet(order, D(self.takers.choice(("0.3", "1"))) if taken else D(0))
        self.publish(code)

    def publish(self, code: str) -> None:
        """Show a book to every process that follows it, on its way for some milliseconds."""
        if code in self.frozen or self.links[code].blocked:
            return
        exchange, key = self.exchanges[code], self.markets[code].key
        bids = [(float(price), float(size)) for price, size in exchange.bids]
        asks = [(float(price), float(size)) for price, size in exchange.asks]
        for order in exchange.resting():  # everybody sees it, and so do we
            own = (float(order.price), float(order.shown_quantity - order.filled))
            side = bids if order.side == "buy" else asks
            side.append((own[0], own[1] + sum(size for price, size in side if price == own[0])))
        status = "live"
        turn = self.book_turns.get(code)
        if turn is not None:
            bids, asks, status = turn(bids, asks)
        delay = self.links[code].delay()
        for body in self.bodies:
            for feed in body.feeds:
                if key in feed.books:
                    self.loop.inside(body, delay, feed.show, key, bids, asks, status)

    def _tick(self) -> None:
        self.loop.outside(BOOK_EVERY, self._tick)
        for code in self.exchanges:
            # A cent to and fro, so that it is news.
            self.middles[code] += D("0.01") if int(self.loop.time() / BOOK_EVERY) % 2 else D("-0.01")
            self.refresh(code)

    def edge(self, buy: str, sell: str, bps: int, seconds: float, after: int) -> None:
        """Let one exchange be cheaper than another by ``bps`` for a while; then both move to ``after`` bps."""
        self.log("edge", buy, sell, bps)
        self.middles[sell] = self.middles[buy] * (1 + D(bps) / 10_000)
        self.middles[sell] = self.middles[sell].quantize(D("0.01"))
        self.refresh(sell)
        self.refresh(buy)
        self.loop.outside(seconds, self._calm, buy, sell, after)

    def _calm(self, buy: str, sell: str, after: int) -> None:
        self.middles[buy] = self.middles[sell] = (self.middles[buy] * (1 + D(after) / 10_000)).quantize(D("0.01"))
        for code in self.exchanges:
            self.middles[code] = self.middles[buy]
            self.refresh(code)

    def _plan_edges(self) -> None:
        random = self.random
        codes = list(self.exchanges)
        at = random.uniform(0.8, 1.6)
        for _ in range(random.choice((1, 1, 2))):
            buy, sell = random.sample(codes, 2)
            bps, seconds = random.randint(40, 120), random.uniform(0.1, 1.5)
            after = random.choice((0, 10, 25, 60, 100, -10, -60))
            self.loop.outside(at, self.edge, buy, sell, bps, seconds, after)
            at += random.uniform(2.0, 6.0)

    # -- the end

    def heal(self) -> None:
        """Let everything be whole again: what is still open now has to come to its end."""
        self.log("healed")
        self.healed = True
        self.database_down, self.database_slow = "", 0.0
        if self.redis is not None:
            self.redis.away = ""
        self.commit_turns.clear()
        self.leases_cut.clear()
        self.book_turns.clear()
        self.frozen.clear()
        self.balance_holds.clear()
        self.stream_hooks.clear()
        for link in self.links.values():
            link.loss = link.slow = 0.0
            link.blocked, link.no_streams, link.down = False, False, None
            link.exchange.refusing = None
            link.exchange.forgets_closed = link.exchange.nameless = False
            link.exchange.blind_until = link.budget_from = 0.0
            link.exchange.hide_seconds = link.exchange.fills_hidden_seconds = 0.0
            for venue in list(link.streams):
                venue.lose_stream()  # whatever the stream kept to itself comes out in the sweep

    def _at_rest(self) -> bool:
        body = self.newest
        if body is None or not body.alive or body.engine is None or body.store is None or self.in_flight:
            return False
        if body.paused or body.store.waiting or body.engine.halted or not self.database.holds(body.token):
            return False
        if any(other.alive and other is not body for other in self.bodies):
            return False
        status = body.engine.status()
        live = bool(status.accounts) and all(state == "live" for state in status.accounts.values())
        return live and not status.open_trades and next(checks.unshown(self), None) is None

    def begin(self) -> None:
        """Open the markets and let the platform start an engine."""
        for code in self.exchanges:
            self.exchanges[code].bids, self.exchanges[code].asks = self.levels(code)
        self._supervise()
        self._tick()

    async def come_to_rest(self) -> None:
        """Return once nothing is open any more; an anomaly if that does not come."""
        rested = 0
        end = self.loop.time() + LONGEST
        while rested < 3:
            await asyncio.sleep(1.0)
            rested = rested + 1 if self._at_rest() else 0
            if self.loop.time() > end:
                self.anomaly("not_at_rest: something is still open long after everything was whole again")
                return

    async def _happen(self) -> None:
        self.begin()
        self._plan_edges()
        while self.active_until > self.loop.time():  # noqa: ASYNC110 (faults that begin may put it off)
            await asyncio.sleep(self.active_until - self.loop.time())
        self.heal()
        await self.come_to_rest()

    def judge(self) -> None:
        """Look at the whole history."""
        checks.at_end(self)
        for body in self.bodies:
            if body.hub is not None and (body.hub.listener_errors or body.hub.feed_failures):
                self.anomaly("engine_error: a listener or a feed of the hub raised")
        for error in self.loop.errors:
            self.anomaly(f"engine_error: {error}")

    def end(self) -> None:
        """Let nothing of it run any more."""
        for body in self.bodies:
            body.alive = False
        self.over = True
        self.loop.close()

    def run(self) -> Outcome:
        """Let the planned history happen and judge it."""
        try:
            self.loop.run_until_complete(self._happen())
            self.judge()
        except (RuntimeError, Endless) as error:
            self.anomaly(f"not_at_rest: {error}")
        finally:
            self.end()
        states = Counter(trade.state.value for trade in self.database.trades.values())
        return Outcome(self.seed, self.anomalies, self.injected, self.crashed, states, self.loop.time(), self.trace)


Levels = list[tuple[float, float]]


def _market(code: str) -> Market:
    return Market(
        exchange=code,
        symbol=SYMBOL,
        native_id="BTCUSDT",
        base="BTC",
        quote="USDT",
        tick=D("0.01"),
        lot=LOT,
        min_amount=LOT,
        min_notional=MIN_NOTIONAL,
        taker_fee=FEE,
        maker_fee=FEE,
    )


class Endless(KeyboardInterrupt):
    """A step that does not come to its end. Of this kind, because event loops and tasks let nothing else through."""


def _endless(signum: int, frame: FrameType | None) -> None:
    where = "" if frame is None else f" in {frame.f_code.co_name}:{frame.f_lineno}"
    raise Endless(f"{MOST_CPU_SECONDS} s of computing, and no end{where}")


def run_history(seed: int, fault: str | None = None) -> Outcome:
    """Run one history, on a main thread. Its garbage (killed processes' coroutines) is silent in
    :func:`quiet_garbage`."""
    before = signal.signal(signal.SIGPROF, _endless)
    signal.setitimer(signal.ITIMER_PROF, MOST_CPU_SECONDS)
    try:
        return World(seed, fault).run()
    finally:
        signal.setitimer(signal.ITIMER_PROF, 0)
        signal.signal(signal.SIGPROF, before)


@contextmanager
def quiet_garbage() -> Iterator[None]:
    """Keep Python from reporting what a killed process would have said on its way down, and collect only here."""
    before = sys.unraisablehook
    was_enabled = gc.isenabled()
    gc.disable()
    sys.unraisablehook = lambda _: None
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", RuntimeWarning)
            yield
            gc.collect()
    finally:
        sys.unraisablehook = before
        if was_enabled:
            gc.enable()
