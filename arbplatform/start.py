"""What a start is made of: which parts, on which address, and that the state directory is ours alone."""

from __future__ import annotations

import fcntl
import os
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

from django.conf import settings
from django.core.exceptions import ImproperlyConfigured
from django.db import connection

from arbplatform.parts import Beat, Engines, Part, TaskWorker, WebServer
from arbplatform.state import make_directory
from bots.services.leases import leases_end

ROLES = ("web", "worker", "engine", "beat")
DEFAULT_HOST, DEFAULT_PORT = "127.0.0.1", 8000
LOCK_FILE = "running.lock"


def parts_for(roles: Sequence[str], *, host: str, port: int) -> list[Part]:
    """Return the parts of ``roles``, the pages first so that a used port is said before anything runs.

    Raises
    ------
    ImproperlyConfigured
        If they cannot run so, with the cure.
    """
    if settings.ARB_SHAPE == "embedded" and set(roles) != set(ROLES):
        raise ImproperlyConfigured(
            "embedded, everything is one process, so --role cannot split it: "
            "set DATABASE_URL (PostgreSQL) and REDIS_URL to run roles separately"
        )
    parts: list[Part] = []
    if "web" in roles:
        parts.append(WebServer(host, port))
    queues = [queue for role, queue in (("worker", "tasks"), ("engine", "engines")) if role in roles]
    if queues:
        # The engine host takes one thread for good; a second hears the hints meant for it.
        parts.append(TaskWorker(queues, concurrency=2 * len(queues)))
    if "beat" in roles:
        parts.append(Beat())
    if "engine" in roles:
        from bots.engine_host import process  # noqa: PLC0415 (engine and exchanges; only hosts need them)

        process.allow()
        parts.append(Engines(process.stop, process.wait))
    return parts


def end_old_leases() -> None:
    """End the leases of a predecessor that was killed, where nobody else can be running on this database."""
    if settings.ARB_SHAPE == "embedded" and connection.vendor == "sqlite":
        leases_end()


@contextmanager
def only_one(directory: Path) -> Iterator[None]:
    """Hold the state directory for this process.

    Raises
    ------
    ImproperlyConfigured
        If another process runs on it: two embedded platforms would not hear of each other.
    """
    make_directory(directory)
    with (directory / LOCK_FILE).open("a+") as file:
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            file.seek(0)
            raise ImproperlyConfigured(
                f"process {file.read().strip() or 'of another terminal'} runs on {directory} already: "
                "stop it first, or set ARB_STATE_DIR to another directory"
            ) from None
        file.truncate(0)
        file.write(str(os.getpid()))
        file.flush()
        yield
