"""One trade of a real engine on a real database, and what starts after it was killed."""

from __future__ import annotations

import asyncio
import time
from collections import Counter
from collections.abc import Callable, Sequence
from concurrent.futures import Executor, Future, ThreadPoolExecutor
from typing import Any, TypeVar

from django.db import connections

from bots.engine_host.database import DatabaseThreads
from bots.engine_host.leases import RENEW_SHARE, Lease, LeaseKeeper
from bots.engine_host.store import FLUSH_SECONDS, DjangoStore
from bots.services.engine import engine_config
from bots.services.leases import leases_end
from tests.crash_points import judge
from tests.crash_points.calls import DatabaseLoop
from tests.crash_points.ground import Ground
from tests.crash_points.points import Kind, Point
from tests.simulation.database import Database
from tests.simulation.loop import START_NS, VirtualClock
from tests.simulation.venue import SimVenue
from tests.simulation.world import SUPERVISED_EVERY, Body, D, HandFeed, Pages, Send, World
from trading import engine as engines
from trading.marketdata.hub import MarketHub
from trading.messages import LegPolicy, OrderIntent

T = TypeVar("T")

SEED = 2  # of delays and of the exchanges, which are two
# Longer than in life, because the database's clock goes on by itself while a busy machine computes. Virtual seconds.
LEASE_SECONDS = 60.0
STANDSTILL_SECONDS = LEASE_SECONDS + 10.0
RESTART_SECONDS = 1.0
EDGE_AT, EDGE_BPS, EDGE_SECONDS = 8.0, 80, 0.5  # after the first comparison, which opens the ledger
LATENESS = (0.05, 1.0, 8.0)  # of a call after the takeover; each in turn
LONGEST_TRADE = 600.0
POLL_SECONDS = 0.02
COMPARED_SECONDS = 12.0  # in which an engine that came to rest has compared its accounts


class HereAndNow(Executor):
    """Does the work of a thread on the caller's."""

    def submit(self, fn: Callable[..., T], /, *args: Any, **kwargs: Any) -> Future[T]:
        done: Future[T] = Future()
        try:
            done.set_result(fn(*args, **kwargs))
        except BaseException as problem:
            done.set_exception(problem)
        return done


class Threads:
    """The threads that every run of a process shares, each with its connection: a run then opens none.

    With ``one_thread`` everything is done on the loop's own, over one connection: where many processes wait for a
    processor, each passing from thread to thread is a turn in their queue.
    """

    def __init__(self, *, one_thread: bool = False) -> None:
        self.commits = DatabaseThreads("commit", 4)
        self.writes = DatabaseThreads("write")
        self.control = DatabaseThreads("host")
        self._desk: Executor = ThreadPoolExecutor(1, thread_name_prefix="desk")
        self.instead = HereAndNow() if one_thread else None

    def ask(self, work: Callable[[], T]) -> T:
        """Let something outside the engines (the lease's keeper, the judge) work on the database."""
        return (self.instead or self._desk).submit(work).result()

    def close(self) -> None:
        for threads in (self.commits, self.writes, self.control):
            threads.close()
        self._desk.submit(connections.close_all).result()
        self._desk.shutdown()


class Engine(Body):
    """A process with an engine, under a lease."""

    def __init__(self, name: str, generation: int, clock: VirtualClock, keeper: LeaseKeeper, lease: Lease) -> None:
        super().__init__(name, generation, lease.token)
        self.clock = clock
        self.keeper = keeper
        self.lease = lease
        self.passed: Counter[Kind] = Counter()
        self.called: list[Point] = []  # every point in calls of the database, in order
        self.from_step = 0  # where the path that is looked at begins


class RealWorld(World):
    """A world in which one trade happens, killed at the ``planned`` points."""

    make_loop = DatabaseLoop
    make_store = DjangoStore
    make_venue = SimVenue
    by_hand = False  # whether the trade is made by hand, not by a bot that looks for edges

    def __init__(self, ground: Ground, threads: Threads, planned: Sequence[Point] = ()) -> None:
        super().__init__(SEED, planned=False)
        self.loop.world = self  # type: ignore[attr-defined]
        self.ground = ground
        self.threads = threads
        self.planned = list(planned)
        self.reached: list[Point] = []
        self.accounts = dict(ground.accounts)
        self.embedded = False  # of the model's lease; here the database has it
        self.leg_policy = LegPolicy.TOGETHER
        self.depth = D("0.2")
        self.first_at = int(time.time())  # the database's own clock is real: both begin at the same time
        self._late: list[Callable[[], None]] = []
        self.begun = False
        self.path: tuple[Point, ...] = ()

    # -- time

    @property
    def _ahead(self) -> int:
        return self.first_at - START_NS // 10**9

    def exchange_ns(self, at: float | None = None) -> int:
        return super().exchange_ns(at) + self._ahead * 10**9

    def seconds_of(self, ns: int) -> float:  # type: ignore[override]
        return World.seconds_of(ns - self._ahead * 10**9)

    # -- points

    def is_struck(self, process: Engine, kind: Kind, what: str) -> bool:
        """Count a process's passing; return whether it is to end (or stand still) here."""
        process.passed[kind] += 1
        point = Point(process.generation, kind.value, process.passed[kind], what)
        if self.begun:
            process.called.append(point)
        return self._strikes(process, kind, process.passed[kind])

    def _strikes(self, process: Engine, kind: Kind, number: int) -> bool:
        for point in self.planned:
            if (point.generation, point.kind, point.number) == (process.generation, kind.value, number):
                self.reached.append(point)
                return True
        return False

    def database_delay(self) -> float:
        return self._database_delay()

    def stand_still(self, process: Engine, call: Callable[[], None]) -> None:
        """Let a process stand still for longer than its lease lives; its call arrives after the takeover."""
        self.pause(process, STANDSTILL_SECONDS)
        self._late.append(call)
        self.loop.outside(RESTART_SECONDS, self._end_lease, process)

    def kill(self, body: Body, point: str) -> None:
        if body.alive:
            super().kill(body, point)
            self.loop.outside(RESTART_SECONDS, self._end_lease, body)

    def _end_lease(self, body: Body) -> None:
        """What a killed process held is over, as it is when its lease has run out."""
        if body is self.newest:
            self.threads.ask(leases_end)

    # -- processes

    def _supervise(self) -> None:
        self.loop.outside(SUPERVISED_EVERY, self._supervise)
        newest = self.newest
        if newest is not None and newest.alive and not newest.paused:
            return  # it holds the lease
        name = f"engine{len(self.bodies) + 1}"
        clock = VirtualClock(self.loop)
        clock.wall_offset = self._ahead
        keeper = LeaseKeeper(holder=name, clock=clock, on_lost=self._lease_lost, seconds=LEASE_SECONDS)
        lease = self.threads.ask(lambda: keeper.take(self.ground.owner.pk))
        if lease is None:
            return
        body = Engine(name, len(self.bodies) + 1, clock, keeper, lease)
        for point in self.planned:
            if (point.generation, point.kind) == (body.generation, Kind.AWAIT.value):
                body.kill_at = point.number
                body.on_kill = lambda: self._die_at_await(body)
        self.bodies.append(body)
        self.log("started", name)
        for call in self._late:
            self.loop.outside(LATENESS[sum(point.number for point in self.reached) % len(LATENESS)], call)
        self._late.clear()
        self.loop.inside(body, 0.0, self._begin, body)

    def _die_at_await(self, body: Engine) -> None:
        self._strikes(body, Kind.AWAIT, body.steps)
        self.kill(body, "await")

    def _lease_lost(self, lease: Lease) -> None:
        """Called on the desk's thread, while the loop stands still."""
        body = next(body for body in self.bodies if body.lease is lease)  # type: ignore[attr-defined]
        if body.engine is not None:
            self.loop.inside(body, 0.0, body.engine.halt, lease.lost)

    def _renew(self, body: Engine) -> None:
        if body.lease.lost:
            return
        self.loop.inside(body, LEASE_SECONDS * RENEW_SHARE, self._renew, body)
        self.threads.ask(lambda: body.keeper._renew([body.lease]))

    async def _life(self, body: Engine) -> None:  # type: ignore[override]
        """Run an engine as the host does."""
        threads, lease = self.threads, body.lease
        self.loop.inside(body, LEASE_SECONDS * RENEW_SHARE, self._renew, body)
        store = self.make_store(lease=lease, clock=body.clock, commits=threads.commits, writes=threads.writes)
        body.store = store  # type: ignore[assignment]
        body.tasks.append(self.loop.create_task(store.run()))
        config = await threads.control.run(lambda: engine_config(owner_id=self.ground.owner.pk, token=lease.token))
        hub = body.hub = MarketHub(body.clock, lambda _, sink: HandFeed(sink, self, body))
        body.venues = {
            code: self.make_venue(self, body, self.links[code], account, self.markets[code].key)
            for code, account in self.accounts.items()
        }
        engine = body.engine = engines.Engine(
            config,
            hub,
            {venue.account_id: venue for venue in body.venues.values()},
            store,
            Pages(),
            body.clock,
            on_alarm=lambda text: self._alarm(body, text),
            may_send=lease.is_held,
        )
        await self.started(body)
        try:
            await engine.run()
        except Exception as error:
            self.anomaly(f"engine_error: {type(error).__name__}: {error}")
        await store.flush(None if lease.lost else FLUSH_SECONDS)
        self.log("ended", body.name, engine.halted)
        body.ended = True
        body.alive = False
        if not lease.lost:
            self.anomaly(f"engine_error: {body.name} ended, and nobody asked it to")

    async def started(self, body: Engine) -> None:
        """Begin what a host does beside its engine."""

    # -- what leaves

    def note_sent(self, venue: SimVenue, intent: OrderIntent) -> None:
        self.log("send", venue.process.name, intent.client_order_id, venue.exchange, intent.side, str(intent.quantity))
        process: Engine = venue.process  # type: ignore[assignment]
        for problem in self.threads.ask(lambda: list(judge.at_send(process.token, intent))):
            self.anomaly(problem)
        if any(send.intent.client_order_id == intent.client_order_id for send in self.sends):
            self.anomaly(f"sent_twice: {intent.client_order_id}")
        self.sends.append(Send(self.loop.time(), process.name, venue.exchange, intent))

    def note_cancel(self, venue: SimVenue, intent: OrderIntent) -> None:
        self.log("cancel", venue.process.name, intent.client_order_id)

    # -- the history

    def is_settled(self, body: Body | None) -> bool:
        """Whether an engine has nothing under way and nothing unwritten."""
        if body is None or not body.alive or body.paused or body.engine is None or body.store is None:
            return False
        accounts, trades = body.engine.accounts.summary(), body.engine.trades
        live = bool(accounts) and all(state == "live" for state in accounts.values())
        return live and not (trades.tasks or trades.unresolved or body.store.waiting)

    def _at_rest(self) -> bool:
        others = any(other.alive and other is not self.newest for other in self.bodies)
        return self.is_settled(self.newest) and not self.in_flight and not others

    async def _happen(self) -> None:
        self.begin()
        await asyncio.sleep(EDGE_AT)
        self.begun = True
        for body in self.bodies:
            body.from_step = body.steps  # type: ignore[attr-defined]
        await self.happen_once()
        newest = self.newest
        self.path = () if newest is None else self._path_of(newest)  # type: ignore[arg-type]
        await self.come_to_rest()
        await asyncio.sleep(COMPARED_SECONDS)

    async def happen_once(self) -> None:
        """Let the trade happen; return once it is over."""
        self.edge("alpha", "beta", EDGE_BPS, EDGE_SECONDS, 0)
        end = self.loop.time() + LONGEST_TRADE
        await asyncio.sleep(EDGE_SECONDS)
        while not self._at_rest() and self.loop.time() < end:  # noqa: ASYNC110 - nothing tells of rest
            await asyncio.sleep(POLL_SECONDS)

    def _path_of(self, body: Engine) -> tuple[Point, ...]:
        """Return every point the newest engine has passed, from the offer (or its own start) to its rest."""
        awaits = [
            Point(body.generation, Kind.AWAIT.value, number) for number in range(body.from_step + 1, body.steps + 1)
        ]
        return (*awaits, *body.called)

    def judge(self) -> None:
        self.database = self.threads.ask(lambda: judge.read(Database(self.loop.time), self.markets))
        super().judge()
        for problem in self.threads.ask(lambda: list(judge.books(self))):
            self.anomaly(problem)
        for body in self.bodies:
            if body.store is not None and body.store.refused:  # type: ignore[attr-defined]
                self.anomaly(f"refused: the database took {body.store.refused} records of {body.name} never")
        if len(self.reached) != len(self.planned):
            self.anomaly(f"not_reached: of {[str(point) for point in self.planned]} only {len(self.reached)}")
