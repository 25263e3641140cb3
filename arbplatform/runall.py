"""Run parts together until a signal, then stop them in order: engines, worker, beat, pages."""

from __future__ import annotations

import logging
import os
import signal
import sys
import threading
import time
from collections.abc import Callable, Sequence
from types import FrameType

from arbplatform.parts import Part

logger = logging.getLogger("arb")

STOP_SIGNALS = (signal.SIGINT, signal.SIGTERM)
# What an engine may need to resolve the orders it has in flight, and the rest to finish what it does.
STOP_SECONDS = {"engines": 40.0}
DEFAULT_STOP_SECONDS = 8.0
JOIN_STEP_SECONDS = 0.5


class Runner:
    """Own the process's signals, start ``parts`` in order and stop them in ``stop_order``.

    The first SIGINT or SIGTERM drains and ends with exit code 0; the second ends the process at once.
    """

    def __init__(self, parts: Sequence[Part], *, say: Callable[[str], None] | None = None) -> None:
        self._parts = list(parts)
        self._say = say or (lambda text: print(text, file=sys.stderr, flush=True))  # noqa: T201
        self._stop = threading.Event()
        self._signals = 0

    def request_stop(self) -> None:
        """End as the first signal does."""
        self._stop.set()

    def run(
        self,
        *,
        seconds: float | None = None,
        started: Callable[[], None] | None = None,
        look: Callable[[], str] | None = None,
    ) -> int:
        """Run until a signal, ``seconds`` (if given), or the end of a part; return the exit code.

        ``look`` is called twice a second; a text it returns is the reason to stop with exit code 1.
        """
        previous = {number: signal.signal(number, self._on_signal) for number in STOP_SIGNALS}
        begun: list[Part] = []
        problem = ""
        try:
            for part in self._parts:
                part.start()
                begun.append(part)
            if started is not None:
                started()
            problem = self._watch(begun, seconds, look)
        finally:
            clean = self._stop_all(begun)
            for number, handler in previous.items():
                signal.signal(number, handler)
        if problem:
            self._say(f"arb: {problem}")
        return 1 if problem or not clean else 0

    def _watch(self, parts: Sequence[Part], seconds: float | None, look: Callable[[], str] | None) -> str:
        until = None if seconds is None else time.monotonic() + seconds
        while not self._stop.is_set():
            left = 0.5 if until is None else min(0.5, until - time.monotonic())
            if left <= 0:
                break
            if self._stop.wait(left):
                break
            for part in parts:
                if not part.is_alive():
                    return f"{part.name} ended by itself ({part.failure or 'no reason given'}); everything is stopped"
            if look is not None and (reason := look()):
                return reason
        return ""

    def _stop_all(self, parts: Sequence[Part]) -> bool:
        clean = True
        for part in sorted(parts, key=_stop_rank):
            part.request_stop()
            if not _ended(part, STOP_SECONDS.get(part.name, DEFAULT_STOP_SECONDS)):
                self._say(f"arb: {part.name} did not end in time; what it left open is resolved at the next start")
                clean = False
        return clean

    def _on_signal(self, number: int, frame: FrameType | None) -> None:
        self._signals += 1
        if self._signals > 1:
            os.write(2, b"arb: forced to end; what was left open is resolved at the next start\n")
            os._exit(128 + number)
        os.write(2, b"arb: stopping (once more to force it)\n")
        self._stop.set()


def _ended(part: Part, seconds: float) -> bool:
    """Wait for a part's end in short steps: a signal that comes just before a wait begins is heard after it."""
    until = time.monotonic() + seconds
    while not part.join(max(0.0, min(JOIN_STEP_SECONDS, until - time.monotonic()))):
        if time.monotonic() >= until:
            return False
    return True


_STOP_ORDER = ("engines", "worker", "beat", "web")


def _stop_rank(part: Part) -> int:
    return _STOP_ORDER.index(part.name) if part.name in _STOP_ORDER else len(_STOP_ORDER)
