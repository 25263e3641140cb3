"""One owner's engine for as long as this host holds the owner's lease."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable, Mapping
from contextlib import suppress
from dataclasses import dataclass, field
from decimal import Decimal
from enum import Enum
from typing import Any

import msgspec

from bots import selectors
from bots.engine_host.commands import CommandRunner
from bots.engine_host.database import DatabaseThreads
from bots.engine_host.health import report_health
from bots.engine_host.journal_line import JournalLine
from bots.engine_host.leases import Lease
from bots.engine_host.profit import RunningProfit
from bots.engine_host.store import FLUSH_SECONDS, DjangoStore
from bots.engine_host.venues import AccountVenues
from bots.models import BY_HAND, Bot, Command, ProfitTotal
from bots.services.accounts import account_observe, accounts_idle
from bots.services.bots import bot_observe
from bots.services.commands import commands_pending
from bots.services.engine import engine_config
from bots.services.unfolding import intents_unfold
from trading.config import ExchangeSpec, OwnerConfig
from trading.engine import AccountView, Engine, EngineStatus
from trading.exchanges.addresses import Addresses
from trading.execution.views import plain
from trading.marketdata.hub import MarketHub
from trading.ports import Clock, Publisher, StoreUnavailable
from trading.tasks import end_tasks

logger = logging.getLogger("arb.engine")

LOOK_SECONDS = 2.0  # how often the configuration is read without a hint
LINGER_SECONDS = 30.0  # a bot that is started again soon finds its accounts connected
DRAIN_SECONDS = 25.0  # in it Binance and Bybit prove an order absent whose answer was lost


class Ended(Enum):
    """Why an owner's engine ended."""

    NOTHING_TO_DO = "nothing to do"
    STOPPED = "stopped"
    RESTARTING = "restarting"
    LEASE_LOST = "lease lost"


@dataclass
class Shared:
    """What all engines of a host share."""

    clock: Clock
    hub: MarketHub
    publisher: Publisher
    specs: dict[str, ExchangeSpec]
    addresses: Addresses
    commits: DatabaseThreads
    line: JournalLine | None
    writes: DatabaseThreads
    control: DatabaseThreads
    # Told which exchange is reached at other addresses now: its feed has to be made anew.
    on_moved: Callable[[str], None]
    # Stores of engines that ended with records unwritten.
    finishing: set[asyncio.Task[None]] = field(default_factory=set)

    def learn(self, spec: ExchangeSpec) -> None:
        """Remember how an exchange is reached."""
        known = self.specs.get(spec.code)
        self.specs[spec.code] = spec
        if known is not None and known != spec:
            self.on_moved(spec.code)


class OwnerRun:
    """Runs an engine, keeps its configuration fresh, carries out commands, writes back what is observed."""

    def __init__(self, lease: Lease, shared: Shared) -> None:
        self.lease = lease
        self.owner_id = lease.owner_id
        self._shared = shared
        self._wake = asyncio.Event()
        self._asked = asyncio.Event()
        self._stopping = False
        self._exchanges: set[str] = set()
        self._observed: dict[int, tuple[str, str]] = {}
        self._accounts: dict[int, AccountView] = {}  # as last written
        self._profit: RunningProfit | None = None
        self._venues = AccountVenues(shared.clock, shared.addresses)
        self.restarting = ""  # why, once it ends to begin again with another configuration

    def wake(self) -> None:
        """Look at the database now; first for what a person waits for."""
        self._asked.set()
        self._wake.set()

    def hurry(self) -> None:
        """Look for what a person waits for; the configuration, which takes longer to read, is as it was."""
        self._asked.set()

    def request_stop(self) -> None:
        """Drain and end."""
        self._stopping = True
        self._wake.set()

    def request_restart(self, why: str) -> None:
        """Drain and end, to be taken up again at once."""
        self.restarting = self.restarting or why
        self._wake.set()

    def uses(self, exchange: str) -> bool:
        """Whether one of its accounts is on ``exchange``."""
        return exchange in self._exchanges

    # Publisher port: what the engine says passes through here on its way to the pages.

    def publish(self, owner: int | None, kind: str, key: str, data: Mapping[str, object]) -> None:
        if kind == "bot":
            self._observed[int(key)] = (str(data["observed"]), str(data["reason"]))
            self._wake.set()
        elif kind == "trade" and data.get("profit") is not None and self._profit is not None:
            mode, quote = str(data["mode"]), str(data["quote"])
            total = self._profit.take(key, mode, quote, Decimal(str(data["profit"])))
            if total is not None:
                at = data["closed_at"] or self._shared.clock.time_ns() / 1e9
                point = {"mode": mode, "quote": quote, "total": plain(total), "at": at}
                self._shared.publisher.publish(owner, "pnl", f"{mode}:{quote}", point)
        self._shared.publisher.publish(owner, kind, key, data)

    async def run(self) -> Ended:
        """Run until there is nothing to do, a stop is asked for, or the lease is lost.

        Raises what breaks the engine itself; a broken bot or account does not.
        """
        shared = self._shared
        self._profit = await shared.control.run(self._read_profit)
        config, _ = await self._read(starting=True)
        await self._venues.prepare(config)
        store = DjangoStore(
            lease=self.lease, clock=shared.clock, commits=shared.commits, writes=shared.writes, line=shared.line
        )
        engine = Engine(
            config,
            shared.hub,
            self._venues.update(config),
            store,
            self,
            shared.clock,
            on_alarm=lambda text: logger.warning("owner %s: %s", self.owner_id, text),
            may_send=self.lease.is_held,
        )
        self._commands = CommandRunner(engine, store, shared.control)
        writer = asyncio.create_task(store.run(), name=f"store-{self.owner_id}")
        running = asyncio.create_task(engine.run(), name=f"engine-{self.owner_id}")
        telling = asyncio.create_task(
            report_health(engine, shared.publisher, shared.clock), name=f"health-{self.owner_id}"
        )
        hurrying = asyncio.create_task(self._hurry(), name=f"hurry-{self.owner_id}")
        try:
            ended = await self._attend(engine, running)
            if ended is not Ended.LEASE_LOST:
                left = await self._drain(engine)
                if left.open_trades:
                    logger.warning("owner %s: %s trades are left open", self.owner_id, len(left.open_trades))
                await running
                await self._write_observed()
                await shared.control.run(lambda: accounts_idle(owner_id=self.owner_id))
            return ended
        finally:
            await end_tasks((hurrying,))
            await self._commands.close()
            await end_tasks((running, telling))
            finishing = asyncio.create_task(self._finish_writing(store, writer))
            if self.lease.lost:
                shared.finishing.add(finishing)
                finishing.add_done_callback(shared.finishing.discard)
            else:
                await finishing

    async def _drain(self, engine: Engine) -> EngineStatus:
        """Stop the engine; while its open trades settle, what is still unresolved is shown."""
        stopping = asyncio.create_task(engine.stop(DRAIN_SECONDS), name=f"drain-{self.owner_id}")
        try:
            while not stopping.done():
                engine.roster.observe_all()
                with suppress(StoreUnavailable):
                    await self._write_observed()
                await self._woken(stopping, LOOK_SECONDS)
            return await stopping
        finally:
            await end_tasks((stopping,))

    async def _finish_writing(self, store: DjangoStore, writer: asyncio.Task[None]) -> None:
        try:
            # With the lease lost the database may be away for long; what exchanges said is written when it is back.
            await store.flush(None if self.lease.lost else FLUSH_SECONDS)
        except StoreUnavailable as problem:
            logger.error("owner %s: %s; what exchanges know is read again at the next start", self.owner_id, problem)
        finally:
            writer.cancel()

    async def _attend(self, engine: Engine, running: asyncio.Task[None]) -> Ended:
        idle_since = None
        look_at = 0.0
        loop = asyncio.get_running_loop()
        while True:
            if not self.lease.is_held():
                # The thread that renews it may hang in a database that does not answer, and say nothing.
                self.lease.lost = self.lease.lost or "it could not be renewed in time"
                engine.halt(self.lease.lost)
                return Ended.LEASE_LOST
            if running.done():
                await running  # raises what broke it
                return Ended.LEASE_LOST if engine.halted else Ended.STOPPED
            if self._stopping:
                return Ended.STOPPED
            if self.restarting:
                return Ended.RESTARTING
            try:
                engine.roster.observe_all()  # how much of a stopping bot is unresolved changes without a word
                await self._write_observed()
                await self._write_accounts(engine.account_views())
                if loop.time() >= look_at:
                    await self._look(engine)
                    look_at = loop.time() + LOOK_SECONDS
            except StoreUnavailable:
                look_at = loop.time() + LOOK_SECONDS  # the store says so already; leases and trades are its matter
            idle = not engine.config.bots and not engine.config.accounts
            idle_since = (idle_since or loop.time()) if idle else None
            if idle_since is not None and loop.time() - idle_since >= LINGER_SECONDS:
                return Ended.NOTHING_TO_DO
            if await self._woken(running, look_at - loop.time()):
                look_at = 0.0

    async def _woken(self, running: asyncio.Task[Any], seconds: float) -> bool:
        """Wait for a wake-up, the engine's end, or the time of the next look; True after a wake-up."""
        waking = asyncio.create_task(self._wake.wait())
        await asyncio.wait({waking, running}, timeout=max(seconds, 0.0), return_when=asyncio.FIRST_COMPLETED)
        waking.cancel()
        woken = self._wake.is_set()
        self._wake.clear()
        return woken

    async def _hurry(self) -> None:
        """Begin what was asked for by hand as soon as a hint comes: reading the whole configuration takes longer."""
        while True:
            await self._asked.wait()
            self._asked.clear()
            with suppress(StoreUnavailable):  # the next look finds it
                found = await self._shared.commits.run(lambda: commands_pending(owner_id=self.owner_id, kinds=BY_HAND))
                if not self._commands.hurry(found):
                    self._wake.set()

    async def _look(self, engine: Engine) -> None:
        """Make the engine what the database says, and answer the commands that asked for it."""
        mark = engine.breakers.mark()  # what the engine learns of breakers meanwhile is newer than what is read
        config, commands = await self._read()
        if outdated := self._venues.outdated(config):
            self.request_restart(outdated)  # commands are answered by the engine that follows
            return
        config = _as_started(config, engine.config)
        if config != engine.config:
            await self._venues.prepare(config)
            engine.update(config, self._venues.update(config), mark=mark)
        else:
            # One that tripped and was reset since the last look is in neither of the two configurations.
            engine.breakers.configure(config.risk, mark)
        await self._commands.take(commands)

    async def _read(self, *, starting: bool = False) -> tuple[OwnerConfig, list[Command]]:
        def read() -> tuple[OwnerConfig, list[Command]]:
            # Commands first: what they asked for is then in the configuration.
            commands = commands_pending(owner_id=self.owner_id)
            return engine_config(owner_id=self.owner_id, token=self.lease.token, starting=starting), commands

        config, commands = await self._shared.control.run(read)
        self._exchanges = {account.exchange.code for account in config.accounts}
        for account in config.accounts:
            self._shared.learn(account.exchange)
        return config, commands

    async def _write_accounts(self, views: Mapping[int, AccountView]) -> None:
        changed = {account_id: view for account_id, view in views.items() if self._accounts.get(account_id) != view}
        if not changed:
            return

        def write() -> None:
            for account_id, view in changed.items():
                account_observe(account_id=account_id, state=view.state, reason=view.reason, swept_ns=view.swept_ns)

        await self._shared.control.run(write)
        self._accounts.update(changed)

    async def _write_observed(self) -> None:
        while self._observed:
            taken, self._observed = self._observed, {}

            def write(taken: dict[int, tuple[str, str]] = taken) -> None:
                for bot_id, (state, reason) in taken.items():
                    bot_observe(bot_id=bot_id, state=state, reason=reason)

            try:
                await self._shared.control.run(write)
            except StoreUnavailable:
                self._observed = {**taken, **self._observed}
                raise

    def _read_profit(self) -> RunningProfit:
        intents_unfold(owner_id=self.owner_id)
        # A finished trade with an order that is not is taken up too, and its result told again.
        known = selectors.trades_unfinished().filter(owner_id=self.owner_id, realised_profit__isnull=False)
        counted = {key: profit for key, profit in known.values_list("trade_id", "realised_profit") if profit}
        return RunningProfit(selectors.profits_ever(ProfitTotal.objects.filter(owner_id=self.owner_id)), counted)


def _as_started(config: OwnerConfig, running: OwnerConfig) -> OwnerConfig:
    """Return ``config`` with what was known of running bots' trades when they were started: they have counted since."""
    known = {
        bot.bot_id: {"realised_today": bot.realised_today, "record": bot.record, "exposed": bot.exposed}
        for bot in running.bots
    }
    bots = tuple(msgspec.structs.replace(bot, **known.get(bot.bot_id, {})) for bot in config.bots)
    return msgspec.structs.replace(config, bots=bots, today=running.today, results=running.results)


def observe_failed(owner_id: int, reason: str) -> None:
    """Tell the owner's bots that should run that their engine failed."""
    for bot in selectors.bots_desired(owner_id=owner_id):
        bot_observe(bot_id=bot.pk, state=Bot.Observed.FAILED, reason=reason)


__all__ = ["Ended", "OwnerRun", "Shared", "observe_failed"]
