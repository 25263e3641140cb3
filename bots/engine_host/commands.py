"""Carries out what pages asked of an owner's engine: commands that do more than ask for a fresh configuration."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Iterable

from bots.engine_host.database import DatabaseThreads
from bots.models import Command
from bots.services.commands import command_finish
from bots.services.disputes import order_decided, order_decision_of
from trading.engine import Engine
from trading.ports import Store, StoreUnavailable
from trading.tasks import end_tasks

logger = logging.getLogger("arb.engine")


class CommandRunner:
    """Runs one owner's commands beside its engine, each once at a time; one that cannot be answered stays pending."""

    def __init__(self, engine: Engine, store: Store, control: DatabaseThreads) -> None:
        self._engine = engine
        self._store = store
        self._control = control
        self._running: dict[int, asyncio.Task[None]] = {}

    async def take(self, commands: Iterable[Command]) -> None:
        """Answer the commands that the configuration just read has answered, and begin the others."""
        answered = []
        for command in commands:
            if command.kind in (Command.Kind.ORDER_DECIDE, Command.Kind.RECONCILE):
                self._begin(command)
            else:
                answered.append(command.pk)
        if answered:

            def write() -> None:
                for command_id in answered:
                    command_finish(command_id=command_id)

            await self._control.run(write)

    async def close(self) -> None:
        """Leave what is under way to the next holder of the lease."""
        await end_tasks(self._running.values())

    def _begin(self, command: Command) -> None:
        if command.pk not in self._running:
            self._running[command.pk] = asyncio.create_task(self._run(command), name=f"command-{command.pk}")

    async def _run(self, command: Command) -> None:
        try:
            if command.kind == Command.Kind.ORDER_DECIDE:
                await self._decide(command)
            else:
                await self._reconcile(command)
        except StoreUnavailable as problem:
            logger.warning("command %s is not answered yet: %s", command.pk, problem)
        except Exception as problem:
            logger.exception("command %s failed", command.pk)
            why = f"It failed ({type(problem).__name__}: {problem})."
            await self._control.run(lambda: command_finish(command_id=command.pk, failed=True, result=why))
        finally:
            self._running.pop(command.pk, None)

    async def _decide(self, command: Command) -> None:
        decision = await self._control.run(lambda: order_decision_of(command))
        problem = await self._engine.decide(decision)
        await self._store.flush()  # what was decided is durable before it is called done
        await self._control.run(lambda: order_decided(command_id=command.pk, problem=problem))

    async def _reconcile(self, command: Command) -> None:
        outcomes = await self._engine.reconcile()
        done = [outcome for outcome in outcomes if outcome.compared]
        found = sum(outcome.differences for outcome in done)
        parts = [f"{len(done)} of {len(outcomes)} live accounts compared, {found} differences."]
        parts += [f"Account {one.account_id}: {one.why}." for one in outcomes if not one.compared]
        await self._control.run(lambda: command_finish(command_id=command.pk, result=" ".join(parts)))
