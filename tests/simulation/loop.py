"""An event loop without a machine under it: time jumps to the next timer, processes die and stand still on command."""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Callable
from contextvars import Context, ContextVar, copy_context
from heapq import heappop, heappush
from random import Random
from typing import Any

MOST_TURNS = 300_000  # of the loop in one history; an ordinary one takes some hundred
START_NS = 1_760_000_000 * 10**9


class Process:
    """A process as the operating system sees it: what its code has scheduled dies, or waits, with it.

    A killed process runs nothing more, not even its ``finally`` blocks. A paused one goes on where it stopped.
    """

    def __init__(self, name: str) -> None:
        self.name = name
        self.alive = True
        self.paused = False
        self.held: list[asyncio.Handle] = []
        self.steps = 0
        self.kill_at = 0  # the step (one resumption of a task, or one callback) it does not live to see; 0: none
        self.on_kill: Callable[[], None] = lambda: None
        self.context = copy_context()
        self.context.run(PROCESS.set, self)


PROCESS: ContextVar[Process | None] = ContextVar("process", default=None)
OUTSIDE: Context = copy_context()  # of everything that no crash of ours can stop: exchanges, networks, the database


class VirtualLoop(asyncio.BaseEventLoop):
    """Runs callbacks in the order asyncio promises; everything else is decided by ``random``.

    Each step of a process takes a random part of ``step_seconds``, so that news may arrive between any two of them.
    """

    def __init__(self, random: Random, step_seconds: float) -> None:
        super().__init__()
        self._now = 0.0
        self._random = random.random
        self._step_seconds = step_seconds
        self._turns = 0
        self._timers: list[tuple[float, int, asyncio.TimerHandle]] = []
        self._timers_made = 0
        self.errors: list[str] = []
        self.set_exception_handler(self._note)

    def time(self) -> float:
        return self._now

    def call_at(
        self, when: float, callback: Callable[..., Any], *args: Any, context: Context | None = None
    ) -> asyncio.TimerHandle:
        """As asyncio's, on a heap of our own: tuples compare without Python code, and equal times go in order."""
        timer = asyncio.TimerHandle(when, callback, args, self, context)
        self._timers_made += 1
        heappush(self._timers, (when, self._timers_made, timer))
        return timer

    def _timer_handle_cancelled(self, handle: asyncio.TimerHandle) -> None:
        """What is cancelled leaves the heap when its time has come."""

    def outside(self, seconds: float, callback: Callable[..., Any], *args: Any) -> asyncio.TimerHandle:
        """Call back after ``seconds``, whatever becomes of the process that asks for it."""
        return self.call_at(self._now + seconds, callback, *args, context=OUTSIDE)

    def inside(self, process: Process, seconds: float, callback: Callable[..., Any], *args: Any) -> None:
        """Call back in a process after ``seconds``, if it lives then, and once it runs."""
        self.call_at(self._now + seconds, callback, *args, context=process.context)

    def resume(self, process: Process) -> None:
        """Let a paused process go on."""
        process.paused = False
        held, process.held = process.held, []
        self._ready.extend(held)

    def _note(self, _: asyncio.AbstractEventLoop, problem: dict[str, Any]) -> None:
        if "was destroyed" not in problem["message"]:  # what a killed process leaves behind
            self.errors.append(f"{problem['message']}: {problem.get('exception')!r}")

    # What BaseEventLoop asks of its selector-based children.

    _ready: deque[asyncio.Handle]

    def _write_to_self(self) -> None:
        """Nobody sleeps in a system call here."""

    def _run_once(self) -> None:
        ready, timers = self._ready, self._timers
        self._turns += 1
        if self._turns > MOST_TURNS:
            raise RuntimeError("the history does not end: something goes round in a circle")
        while timers and timers[0][2]._cancelled:
            heappop(timers)
        if not ready:
            if not timers:
                raise RuntimeError("the simulation waits for something that nothing will bring about")
            self._now = max(self._now, timers[0][0])
        while timers and timers[0][0] <= self._now:
            ready.append(heappop(timers)[2])
        for _ in range(len(ready)):
            handle = ready.popleft()
            if handle._cancelled:
                continue
            process = handle._context.get(PROCESS)
            if process is not None:
                if not process.alive:
                    continue
                if process.paused:
                    process.held.append(handle)
                    continue
                process.steps += 1
                if process.steps == process.kill_at:
                    process.on_kill()
                    if not process.alive:
                        continue
                self._now += self._random() * self._step_seconds
            handle._run()


class VirtualClock:
    """The Clock port on the loop's time. ``wall_offset`` (seconds) is what somebody's hand has put it off by."""

    def __init__(self, loop: VirtualLoop) -> None:
        self._loop = loop
        self.wall_offset = 0.0

    def monotonic_ns(self) -> int:
        return int(self._loop.time() * 1e9) + 1

    def time_ns(self) -> int:
        return START_NS + int((self._loop.time() + self.wall_offset) * 1e9)

    async def sleep(self, seconds: float) -> None:
        await asyncio.sleep(seconds)
