"""The engine host of this process: at most one, started by a task, ended by whoever owns the signals."""

from __future__ import annotations

import asyncio
import logging
import threading

import uvloop

from bots.engine_host.host import EngineHost

logger = logging.getLogger("arb.host")

_lock = threading.Lock()
_host: EngineHost | None = None
_stopping = False
_idle = threading.Event()
_idle.set()


def run_host() -> bool:
    """Host engines until :func:`stop`; False at once if this process hosts already (it is woken) or is stopping.

    Called again by a redelivered message it changes nothing: who may run an owner's engine is the lease's matter.
    """
    global _host  # noqa: PLW0603 (one a process is the point)
    with _lock:
        if _stopping:
            return False
        if _host is not None:
            _host.wake()
            return False
        host = _host = EngineHost()
        _idle.clear()
    try:
        with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
            runner.run(host.run())
    finally:
        with _lock:
            _host = None
        _idle.set()
    return True


def stop() -> None:
    """Ask the host to drain its engines and end, and start no other in this process."""
    global _stopping  # noqa: PLW0603
    with _lock:
        _stopping = True
        if _host is not None:
            _host.request_stop()


def wait(timeout: float) -> bool:
    """Wait until no host runs; False if one still does after ``timeout`` seconds."""
    return _idle.wait(timeout)


def allow() -> None:
    """Let hosts be started again after :func:`stop`."""
    global _stopping  # noqa: PLW0603
    with _lock:
        _stopping = False
