"""Hosts the engines of many owners in one process, each under its owner's lease."""

from __future__ import annotations

import asyncio
import logging
import os
import random
import secrets
import socket
from collections.abc import Callable
from contextlib import suppress
from functools import partial
from importlib import import_module

from channels.layers import get_channel_layer
from django.conf import settings

from bots import selectors
from bots.engine_host.database import DatabaseThreads
from bots.engine_host.journal_line import journal_line
from bots.engine_host.leases import Lease, LeaseKeeper
from bots.engine_host.markets import MarketReporter
from bots.engine_host.owner import Ended, OwnerRun, Shared, observe_failed
from bots.engine_host.publisher import ChannelPublisher
from bots.engine_host.risk import RiskReporter
from bots.engine_host.schema import schema_fault
from bots.engine_host.shared_counter import shared_counter
from bots.heap import set_heap_aside
from bots.services.hints import ENGINE_GROUP
from bots.services.leases import LEASE_SECONDS
from risk.selectors import risk_revision
from risk.services.hints import RISK_GROUP
from trading.clock import SystemClock
from trading.config import ExchangeSpec
from trading.exchanges.addresses import Addresses
from trading.exchanges.registry import feed_factory
from trading.marketdata.hub import MarketHub
from trading.ports import Clock, StoreUnavailable
from trading.tasks import end_tasks

COMPILED = (
    "trading.marketdata.compiled",
    "trading.exchanges.binance.compiled",
    "trading.execution.rating_compiled",
)
logger = logging.getLogger("arb.host")

RISK_SECONDS = 0.5  # how often it is asked whether limits, breakers or switches have changed
LOOK_SECONDS = 0.25  # how soon an owner without an engine is found when no hint comes
FIRST_PAUSE_SECONDS, LAST_PAUSE_SECONDS = 1.0, 60.0  # before an engine that broke is started again
COMMIT_THREADS = 4
LAST_WRITES_SECONDS = 5.0


class EngineHost:
    """Takes owners that need an engine and runs them until told to stop."""

    def __init__(self, *, clock: Clock | None = None, lease_seconds: float = LEASE_SECONDS) -> None:
        self._clock = clock or SystemClock()
        self._lease_seconds = lease_seconds
        # One process's life: the random part keeps a process that got a dead one's number from renewing its leases.
        self.holder = f"{socket.gethostname()[:64]}:{os.getpid()}:{secrets.token_hex(4)}"
        self._capacity = settings.ARB_ENGINES_PER_HOST
        self._loop: asyncio.AbstractEventLoop | None = None
        self._wake = asyncio.Event()
        self._risk_changed = asyncio.Event()
        self._stopping = False
        self._runs: dict[int, OwnerRun] = {}
        self._tasks: dict[int, asyncio.Task[None]] = {}
        self._pauses: dict[int, tuple[float, float]] = {}  # by owner: seconds to pause, not before
        self._away = False
        self._schema_fault = ""
        self.looks = 0  # times the database was asked for owners

    # Callable from any thread

    def wake(self) -> None:
        """Look for owners now."""
        self._call(self._wake.set)

    def request_stop(self) -> None:
        """Drain every engine, give the leases back and end."""
        self._stopping = True
        self._call(self._wake.set)

    def _call(self, function: Callable[[], object]) -> None:
        if self._loop is not None:
            with suppress(RuntimeError):  # it has ended
                self._loop.call_soon_threadsafe(function)

    # On the loop

    async def run(self) -> None:
        """Host until :meth:`request_stop`."""
        # Before any lease is held: on a new machine, compiling takes longer than a lease lasts.
        for name in COMPILED:
            import_module(name)
        set_heap_aside()
        self._loop = asyncio.get_running_loop()
        self._keeper = LeaseKeeper(
            holder=self.holder, clock=self._clock, on_lost=self._lease_lost, seconds=self._lease_seconds
        )
        self._publisher = publisher = ChannelPublisher(stream=self.holder)
        specs: dict[str, ExchangeSpec] = {}
        self._counter = shared_counter()
        hub = MarketHub(self._clock, feed_factory(specs, self._clock, jitter=random.random))
        line = journal_line()
        self._shared = Shared(
            clock=self._clock,
            hub=hub,
            publisher=publisher,
            specs=specs,
            addresses=Addresses(self._clock, address=settings.ARB_EGRESS_ADDRESS, counter=self._counter),
            commits=DatabaseThreads("commit", COMMIT_THREADS),
            line=line,
            writes=DatabaseThreads("write"),
            control=DatabaseThreads("host"),
            on_moved=self._moved,
        )
        helpers = [
            asyncio.create_task(publisher.run(), name="publisher"),
            asyncio.create_task(MarketReporter(hub, publisher, self._clock).run(), name="markets"),
            asyncio.create_task(self._listen(), name="hints"),
            asyncio.create_task(self._watch_risk(), name="risk"),
        ]
        if line is not None:
            helpers.append(asyncio.create_task(line.run(), name="journal-line"))
        self._keeper.start()
        logger.info("hosting engines as %s", self.holder)
        try:
            while not self._stopping:
                await self._look()
                self._wake.clear()
                with suppress(TimeoutError):
                    async with asyncio.timeout(LOOK_SECONDS):
                        await self._wake.wait()
        finally:
            await self._end(helpers)

    async def _look(self) -> None:
        try:
            owners = await self._shared.control.run(selectors.engine_owners)
        except StoreUnavailable as problem:
            if not self._away:
                logger.error("no new engines while the database is away: %s", problem)
            self._away = True
            return
        if self._away:
            logger.info("the database is back")
            self._away = False
        self.looks += 1
        if any(run.restarting for run in self._runs.values()):
            return  # an exchange's feed is made anew once nobody uses the old one
        now = asyncio.get_running_loop().time()
        for owner_id in owners:
            if self._stopping or len(self._runs) >= self._capacity:
                return
            if owner_id in self._runs or self._pauses.get(owner_id, (0.0, 0.0))[1] > now:
                continue
            try:
                if not await self._schema_fits():
                    return
                lease = await self._shared.control.run(partial(self._keeper.take, owner_id))
            except StoreUnavailable:
                return
            if lease is not None:
                run = self._runs[owner_id] = OwnerRun(lease, self._shared)
                self._tasks[owner_id] = asyncio.create_task(self._host(run), name=f"owner-{owner_id}")

    async def _schema_fits(self) -> bool:
        """Say once why no engine starts on this schema; asked before each lease, which is rare enough."""
        fault = await self._shared.control.run(schema_fault)
        if fault and fault != self._schema_fault:
            logger.error("no engine is started: %s", fault)
        self._schema_fault = fault
        return not fault

    async def _host(self, run: OwnerRun) -> None:
        """Run one owner's engine; whatever breaks it stops nobody else's."""
        owner_id = run.owner_id
        logger.info("owner %s: engine starts with lease token %s", owner_id, run.lease.token)
        try:
            ended = await run.run()
            why = f": {run.restarting}" if ended is Ended.RESTARTING else ""
            logger.info("owner %s: engine ended: %s%s", owner_id, ended.value, why)
            self._pauses.pop(owner_id, None)
        except StoreUnavailable as problem:
            logger.error("owner %s: engine not started: %s", owner_id, problem)
            self._pause(owner_id)
        except Exception as problem:
            logger.exception("owner %s: the engine failed", owner_id)
            self._pause(owner_id)
            reason = f"The engine failed ({type(problem).__name__}: {problem}); it is started again soon."
            with suppress(StoreUnavailable):
                await self._shared.control.run(lambda: observe_failed(owner_id, reason))
        finally:
            with suppress(StoreUnavailable):
                await self._shared.control.run(lambda: self._keeper.release(run.lease))
            self._runs.pop(owner_id, None)
            self._tasks.pop(owner_id, None)
            self._wake.set()

    def _moved(self, exchange: str) -> None:
        """Begin every engine that uses an exchange again: it is reached at other addresses now."""
        for run in self._runs.values():
            if run.uses(exchange):
                run.request_restart(f"the addresses of exchange {exchange} have changed")

    def _pause(self, owner_id: int) -> None:
        pause = min(self._pauses.get(owner_id, (FIRST_PAUSE_SECONDS / 2, 0.0))[0] * 2, LAST_PAUSE_SECONDS)
        self._pauses[owner_id] = (pause, asyncio.get_running_loop().time() + pause)

    def _lease_lost(self, lease: Lease) -> None:
        """Called on the keeper's thread."""

        def wake() -> None:
            run = self._runs.get(lease.owner_id)
            if run is not None:
                run.wake()

        self._call(wake)

    async def _watch_risk(self) -> None:
        """Wake every engine when limits, breakers or switches have changed, and tell the pages.

        A hint brings it at once; hints may be lost, the look is not.
        """
        seen: int | None = None
        reporter = RiskReporter(self._shared.publisher, self._clock, self._shared.control)
        while True:
            self._risk_changed.clear()
            with suppress(StoreUnavailable):
                revision = await self._shared.control.run(risk_revision)
                if revision != seen:
                    for run in self._runs.values():
                        run.wake()
                    await reporter.read()
                    seen = revision
            reporter.tell()
            with suppress(TimeoutError):
                async with asyncio.timeout(RISK_SECONDS):
                    await self._risk_changed.wait()

    async def _listen(self) -> None:
        """Wake whoever a hint names. A hint that is lost costs a second, nothing else."""
        layer = get_channel_layer()
        while layer is not None:
            try:
                channel = await layer.new_channel("engines")
                await layer.group_add(ENGINE_GROUP, channel)
                await layer.group_add(RISK_GROUP, channel)
                try:
                    while True:
                        hint = await layer.receive(channel)
                        if hint["type"] == "risk.hint":
                            self._risk_changed.set()
                            continue
                        run = self._runs.get(hint.get("owner_id"))
                        if run is None:
                            self._wake.set()  # an owner who needs an engine now
                        elif hint.get("by_hand"):
                            run.hurry()
                        else:
                            run.wake()
                            self._wake.set()
                finally:
                    await layer.group_discard(ENGINE_GROUP, channel)
                    await layer.group_discard(RISK_GROUP, channel)
            except Exception as problem:  # each layer raises errors of its own
                logger.warning("hints are not heard (%s); looking every %s s", problem, LOOK_SECONDS)
                await asyncio.sleep(1.0)

    async def _end(self, helpers: list[asyncio.Task[None]]) -> None:
        for run in self._runs.values():
            run.request_stop()
        if self._tasks:
            await asyncio.wait(list(self._tasks.values()))
        if self._shared.finishing:
            await asyncio.wait(self._shared.finishing, timeout=LAST_WRITES_SECONDS)
        await end_tasks([*helpers, *self._shared.finishing])
        await self._shared.hub.close()
        await self._shared.addresses.close()
        if self._counter is not None:
            await self._counter.close()
        with suppress(TimeoutError):
            async with asyncio.timeout(1.0):
                await self._publisher.flush()
        loop = asyncio.get_running_loop()
        await loop.run_in_executor(None, self._keeper.stop)
        for threads in (self._shared.commits, self._shared.writes, self._shared.control):
            await loop.run_in_executor(None, threads.close)
        logger.info("host ended")
