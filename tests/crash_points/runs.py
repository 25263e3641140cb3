"""Trades to kill an engine in, the points of each, and the runs."""

from __future__ import annotations

import gc
import logging
import time
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any

from django.db import connection

from tests.crash_points.by_hand import CLOSED_BY_HAND, PROFIT_TAKEN, HandWorld
from tests.crash_points.calls import watched_commits
from tests.crash_points.ground import Ground
from tests.crash_points.guarding import ENGINE, PAIR, SEPARATE
from tests.crash_points.points import Kind, Point
from tests.crash_points.world import EDGE_AT, SEED, RealWorld, Threads
from tests.simulation.exchange import Refused, Turn
from tests.simulation.venue import Kept, Plan, SimVenue
from tests.simulation.world import D, Outcome, World, quiet_garbage

Prepare = Callable[[Any], None]
COLLECT_EVERY = 25  # runs between two collections of garbage
MUTE_SECONDS = 3.0


def _evenly(world: RealWorld) -> None:
    """Both legs fill."""


def _one_leg_fails(world: RealWorld) -> None:
    world.place_plans[2] = (":", Plan(refuse=Refused("-2010", "insufficient balance")))


def _one_leg_half(world: RealWorld) -> None:
    world.place_plans[1] = (":", Plan(turn=Turn(most=D("0.5"), pieces=2)))


def _answer_lost(world: RealWorld) -> None:
    """The first order is executed, its answer and its stream are silent: only a question tells."""
    world.place_plans[1] = (":", Plan(answer_lost=True, reset_after=0.05))

    def mute(venue: SimVenue, kept: list[Kept]) -> list[Kept]:
        return [] if EDGE_AT <= world.loop.time() <= EDGE_AT + MUTE_SECONDS else kept

    world.stream_hooks.append(mute)


def _request_lost(world: RealWorld) -> None:
    """The first order never arrives: its absence has to be proven, then the other leg is undone."""
    world.place_plans[1] = (":", Plan(request_lost=True, reset_after=0.05))


TRADES: dict[str, Prepare] = {
    "evenly": _evenly,
    "one_leg_fails": _one_leg_fails,
    "one_leg_half": _one_leg_half,
    "answer_lost": _answer_lost,
    "request_lost": _request_lost,
}


def _by_hand(guarding: str, ending: str, *, is_silent: bool = False) -> Prepare:
    """A trade by hand, protected by a pair, by separate orders or by the engine; ``is_silent``: nobody answers to its
    first protection."""

    def prepare(world: HandWorld) -> None:
        world.guarding, world.ending = guarding, ending
        if is_silent:
            world.protect_plans.append(Plan(answer_lost=True, reset_after=0.05))

    return prepare


HAND_TRADES: dict[str, Prepare] = {
    f"hand_{guarding}_{ending}": _by_hand(guarding, ending)
    for guarding in (PAIR, SEPARATE, ENGINE)
    for ending in (CLOSED_BY_HAND, PROFIT_TAKEN)
} | {"hand_pair_unanswered": _by_hand(PAIR, PROFIT_TAKEN, is_silent=True)}
ALL_TRADES = TRADES | HAND_TRADES


@dataclass(frozen=True)
class Run:
    """What one run came to. ``path`` has every point of its newest engine, ``states`` every state of any order."""

    outcome: Outcome
    path: tuple[Point, ...]
    sends: int
    states: frozenset[str]


@dataclass
class Totals:
    """What many runs came to. ``failing`` has (trade, points, anomaly)."""

    points: Counter[str] = field(default_factory=Counter)  # runs by kind of their (last) point
    trades: Counter[str] = field(default_factory=Counter)  # states trades ended in
    failing: list[tuple[str, str, str]] = field(default_factory=list)
    seconds: float = 0.0

    @property
    def tried(self) -> int:
        return sum(self.points.values())

    def add(self, trade: str, planned: Sequence[Point], outcome: Outcome) -> None:
        last = planned[-1]
        self.points[last.kind if last.generation == 1 else f"{last.kind}@recovery"] += 1
        self.trades += outcome.trades or Counter({"none": 1})
        where = ", then ".join(map(str, planned))
        self.failing += [(trade, where, anomaly) for anomaly in outcome.anomalies]

    def lines(self) -> Iterator[str]:
        yield f"{self.tried} points tried, {len(self.failing)} anomalies, {self.seconds:.0f} s"
        yield f"by kind: {', '.join(f'{count} {kind}' for kind, count in sorted(self.points.items()))}"
        yield f"trades: {', '.join(f'{count} {state}' for state, count in sorted(self.trades.items()))}"
        yield from (f"  {trade}, {where}: {anomaly}" for trade, where, anomaly in self.failing)


class Runner:
    """Runs on the present connection's database."""

    def __init__(self, world: type[RealWorld] = RealWorld, *, one_thread: bool = False) -> None:
        self._world = world
        self._ground = Ground(World(SEED, planned=False).markets.values())
        self._threads = Threads(one_thread=one_thread)
        self._runs = 0

    def run(self, trade: str, planned: Sequence[Point] = ()) -> Run:
        """Let a trade happen and be killed at the planned points."""
        self._runs += 1
        if self._runs % COLLECT_EVERY == 0:
            gc.collect()
        make_world = HandWorld if trade in HAND_TRADES else self._world
        self._ground.clear(by_hand=make_world.by_hand)
        world = make_world(self._ground, self._threads, planned)
        ALL_TRADES[trade](world)
        outcome = world.run()
        states = frozenset(state.value for history in world.database.history.values() for state in history)
        return Run(outcome, world.path, len(world.sends), states)

    def path(self, trade: str, planned: Sequence[Point] = ()) -> tuple[Point, ...]:
        """Return every point of the trade's path; with ``planned``, of the engine that starts after these.

        Raises
        ------
        AssertionError
            If this run itself shows an anomaly.
        """
        run = self.run(trade, planned)
        if run.outcome.anomalies:
            raise AssertionError(f"{trade}, {[str(point) for point in planned]}: {run.outcome.anomalies}")
        return run.path

    def try_all(
        self,
        totals: Totals,
        trade: str,
        plans: Sequence[Sequence[Point]],
        say: Callable[[str], None] = lambda text: None,
    ) -> None:
        """Run each plan and add what came of it."""
        began = time.monotonic()
        for planned in plans:
            outcome = self.run(trade, planned).outcome
            totals.add(trade, planned, outcome)
            for anomaly in outcome.anomalies:
                say(f"{trade}, {', then '.join(map(str, planned))}: {anomaly}")
        totals.seconds += time.monotonic() - began

    def close(self) -> None:
        self._threads.close()


@contextmanager
def quick_commits() -> Iterator[None]:
    """Let new connections to PostgreSQL not wait for the disk: processes die here, machines do not."""
    if connection.vendor != "postgresql":
        yield
        return
    database = str(connection.settings_dict["NAME"])
    name = connection.ops.quote_name(database)
    with connection.cursor() as cursor:
        cursor.execute(f"ALTER DATABASE {name} SET synchronous_commit TO off")
    try:
        yield
    finally:
        with connection.cursor() as cursor:
            cursor.execute(f"ALTER DATABASE {name} RESET synchronous_commit")
            # What a killed process left behind may not have ended yet, and would keep the database from being deleted.
            cursor.execute(
                "SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE datname = %s AND pid <> pg_backend_pid()",
                [database],
            )


@contextmanager
def running(world: type[RealWorld] = RealWorld, *, one_thread: bool = False) -> Iterator[Runner]:
    """Make rows and threads for many runs; what engines would log stays silent."""
    disabled = logging.root.manager.disable
    logging.disable(logging.CRITICAL)
    try:
        with quick_commits(), watched_commits(), quiet_garbage():
            runner = Runner(world, one_thread=one_thread)
            try:
                yield runner
            finally:
                runner.close()
    finally:
        logging.disable(disabled)


def sampled(path: Sequence[Point], every: int, calls_every: int = 1) -> list[Point]:
    """Return every so manieth await, and of each other kind every so manieth point."""
    found = []
    for kind in Kind:
        points = [point for point in path if point.kind == kind.value]
        step = every if kind is Kind.AWAIT else calls_every
        found += points[min(step // 2, len(points) - 1) :: step] if points else []
    return found


def spread(points: Sequence[Point], count: int) -> list[Point]:
    """Return ``count`` of the points, evenly spread."""
    return [points[(2 * number + 1) * len(points) // (2 * count)] for number in range(min(count, len(points)))]


def recovery_plans(runner: Runner, trade: str, path: Sequence[Point], *, first: int, every: int) -> list[list[Point]]:
    """Return plans that kill twice: at ``first`` points of a path that leave something durable, each with every so
    manieth point of the recovery from it."""
    durable = [point for point in path if point.kind == Kind.DURABLE.value]
    return [
        [one, another]
        for one in spread(durable, first)
        for another in sampled(runner.path(trade, [one]), every, calls_every=max(1, every // 4))
    ]
