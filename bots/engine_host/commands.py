"""Carries out what pages asked of an owner's engine: commands that do more than ask for a fresh configuration."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Iterable

from bots.engine_host.database import DatabaseThreads
from bots.models import BY_HAND, Command
from bots.services.commands import command_finish
from bots.services.disputes import order_decided, order_decision_of
from bots.services.tickets import request_too_old, ticket_closing_of, ticket_of_command, ticket_terms_of
from trading.engine import Engine
from trading.ports import Store, StoreUnavailable
from trading.tasks import end_tasks

logger = logging.getLogger("arb.engine")

WORKED = frozenset({Command.Kind.ORDER_DECIDE, Command.Kind.RECONCILE, *BY_HAND})


class CommandRunner:
    """Runs one owner's commands beside its engine, each once at a time; one that cannot be answered stays pending."""

    def __init__(self, engine: Engine, store: Store, control: DatabaseThreads) -> None:
        self._engine = engine
        self._store = store
        self._control = control
        self._running: dict[int, asyncio.Task[None]] = {}
        self._answered: set[int] = set()
        self._doubted: set[int] = set()  # of which the store could not say whether they became durable

    async def take(self, commands: Iterable[Command]) -> None:
        """Answer the commands that the configuration just read has answered, and begin the others."""
        answered = []
        for command in commands:
            if command.kind in WORKED:
                self._begin(command)
            else:
                answered.append(command.pk)
        if answered:

            def write() -> None:
                for command_id in answered:
                    command_finish(command_id=command_id)

            await self._control.run(write)

    def hurry(self, commands: Iterable[Command]) -> bool:
        """Begin at once what a person waits for; False if some of it has to wait until the engine knows its bot."""
        known = True
        for command in commands:
            bot_id = command.payload.get("bot_id")
            if command.kind == Command.Kind.MANUAL_CLOSE or self._engine.roster.get(bot_id) is not None:
                self._begin(command)
            else:
                known = False
        return known

    async def close(self) -> None:
        """Leave what is under way to the next holder of the lease."""
        await end_tasks(self._running.values())

    def _begin(self, command: Command) -> None:
        # One that was answered since it was read still says that it waits.
        if command.pk not in self._running and command.pk not in self._answered:
            self._running[command.pk] = asyncio.create_task(self._run(command), name=f"command-{command.pk}")

    async def _run(self, command: Command) -> None:
        try:
            if command.kind == Command.Kind.ORDER_DECIDE:
                await self._decide(command)
            elif command.kind == Command.Kind.MANUAL_TRADE:
                await self._trade(command)
            elif command.kind == Command.Kind.MANUAL_CLOSE:
                await self._close_trade(command)
            else:
                await self._reconcile(command)
            self._answered.add(command.pk)
        except StoreUnavailable as problem:
            self._doubted.add(command.pk)
            logger.warning("command %s is not answered yet: %s", command.pk, problem)
        except Exception as problem:
            logger.exception("command %s failed", command.pk)
            why = f"It failed ({type(problem).__name__}: {problem})."
            await self._control.run(lambda: command_finish(command_id=command.pk, failed=True, result=why))
            self._answered.add(command.pk)
        finally:
            self._running.pop(command.pk, None)

    async def _decide(self, command: Command) -> None:
        decision = await self._control.run(lambda: order_decision_of(command))
        problem = await self._engine.decide(decision)
        await self._store.flush()  # what was decided is durable before it is called done
        await self._control.run(lambda: order_decided(command_id=command.pk, problem=problem))

    async def _trade(self, command: Command) -> None:
        """Open a trade by hand. One that a process before has made durable is done, whatever became of it since."""
        done, problem = command.trade_of_ticket or "", ""  # type: ignore[attr-defined]  # as commands_pending reads it
        if command.pk in self._doubted:
            done = await self._control.run(lambda: ticket_of_command(command))
        if not done and not (problem := request_too_old(command)):
            bot_id, asked = ticket_terms_of(command)
            opened = await self._engine.open_ticket(bot_id, asked)
            done, problem = opened.trade_id, opened.refusal
            if done:
                await self._store.flush()  # its rows are there before it is called done
        await self._control.run(lambda: command_finish(command_id=command.pk, failed=not done, result=done or problem))

    async def _close_trade(self, command: Command) -> None:
        trade_id, closing = ticket_closing_of(command)
        problem = await self._engine.close_ticket(trade_id, closing)
        await self._store.flush()  # that it is asked for is durable before it is called done
        await self._control.run(
            lambda: command_finish(command_id=command.pk, failed=bool(problem), result=problem or trade_id)
        )

    async def _reconcile(self, command: Command) -> None:
        outcomes = await self._engine.reconcile()
        done = [outcome for outcome in outcomes if outcome.compared]
        found = sum(outcome.differences for outcome in done)
        parts = [f"{len(done)} of {len(outcomes)} live accounts compared, {found} differences."]
        parts += [f"Account {one.account_id}: {one.why}." for one in outcomes if not one.compared]
        await self._control.run(lambda: command_finish(command_id=command.pk, result=" ".join(parts)))
