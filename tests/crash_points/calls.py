"""Calls of the database from a process that may be killed in them: run on the real threads, one at a time.

A killed process's call ends where it is. Before its COMMIT the connection is closed, as the operating system closes a
dead process's, and the database undoes what was done; after it, what was done counts.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterator
from concurrent.futures import Executor
from contextlib import contextmanager, suppress
from contextvars import ContextVar, copy_context
from typing import TYPE_CHECKING, Any
from unittest.mock import patch

from django.db import connections
from django.db.backends.base.base import BaseDatabaseWrapper

from tests.crash_points.points import Kind
from tests.simulation.loop import PROCESS, VirtualLoop

if TYPE_CHECKING:
    from tests.crash_points.world import Engine, RealWorld


class Killed(BaseException):
    """The process is gone. Of this kind, because nothing of its own code hears of that."""


class Call:
    """One call of a process. All but the loop's own steps happen on the thread that works, while the loop stands."""

    def __init__(self, world: RealWorld, process: Engine, what: str) -> None:
        self.world = world
        self.process = process
        self.what = what
        self.commits = 0
        self.is_killed = False

    def commit(self, connection: BaseDatabaseWrapper, commit: Callable[[], None]) -> None:
        """Commit, or die before or after it."""
        if self.is_killed:
            connection.connection.close()
            raise Killed
        self.commits += 1
        if self.world.is_struck(self.process, Kind.UNDONE, self.what):
            self.is_killed = True
            connection.connection.close()
            raise Killed
        commit()
        self.end_of_work()
        if self.is_killed:
            raise Killed

    def end_of_work(self) -> None:
        if self.world.is_struck(self.process, Kind.DURABLE, self.what):
            self.is_killed = True

    def run(self, work: Callable[[], Any]) -> Any:
        """Do the work on the database's thread; return what it returns, raise what it raises."""
        CALL.set(self)
        try:
            value = work()
        except BaseException:
            if not self.is_killed:
                raise
            value = None
        finally:
            CALL.set(None)
        if self.is_killed:
            with suppress(Exception):
                connections.close_all()
        elif not self.commits:
            self.end_of_work()
        return value


CALL: ContextVar[Call | None] = ContextVar("call", default=None)


@contextmanager
def watched_commits() -> Iterator[None]:
    """Let the COMMIT of every call of a process be a point it may die at."""
    original = BaseDatabaseWrapper._commit

    def commit(self: BaseDatabaseWrapper) -> None:
        call = CALL.get()
        if call is None:
            original(self)
        else:
            call.commit(self, lambda: original(self))

    with patch.object(BaseDatabaseWrapper, "_commit", commit):
        yield


def _name(work: Callable[..., Any]) -> str:
    """Return who asks: the method a closure was made in."""
    return work.__qualname__.partition(".<locals>")[0]


class DatabaseLoop(VirtualLoop):
    """A virtual loop whose time stands still while a thread works on the database.

    A call takes its way there and back, in which other things happen; what it does there happens at one moment.
    """

    world: RealWorld

    def run_in_executor(  # type: ignore[override]
        self, executor: Executor | None, func: Callable[..., Any], *args: Any
    ) -> asyncio.Future[Any]:
        process: Engine = PROCESS.get()  # type: ignore[assignment]
        if executor is None or process is None:
            raise RuntimeError(f"only an engine's calls of the database are expected on threads, not {func}")
        world = self.world
        working = world.threads.instead or executor
        context = copy_context()
        answer = self.create_future()
        call = Call(world, process, _name(args[0] if args else func))

        def deliver(value: Any, problem: BaseException | None) -> None:
            if answer.done() or not process.alive:
                return
            if problem is None:
                answer.set_result(value)
            else:
                answer.set_exception(problem)

        def arrive() -> None:
            value, problem = None, None
            try:
                value = working.submit(context.run, call.run, lambda: func(*args)).result()
            except BaseException as error:
                problem = error
            if call.is_killed:
                world.kill(process, "call")
            world.log("called", process.name, call.what, type(problem).__name__ if problem else "")
            self.outside(world.database_delay(), deliver, value, problem)

        def leave() -> None:
            if world.is_struck(process, Kind.ASKED, call.what):
                world.kill(process, "asked")
            elif world.is_struck(process, Kind.LATE, call.what):
                world.stand_still(process, arrive)
            else:
                arrive()

        self.outside(world.database_delay(), leave)
        return answer
