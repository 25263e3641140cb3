"""The long-running parts of an installation, each with the same small face: start, stop, wait.

Every part runs on threads of its own and leaves signals to :mod:`arbplatform.runall`, so the same parts make one
embedded process or several separate ones.
"""

from __future__ import annotations

import errno
import logging
import os
import socket
import threading
from collections.abc import Callable, Sequence
from typing import Any, Protocol

from celery import beat
from celery.worker import state as worker_state
from django.conf import settings
from django.core.exceptions import ImproperlyConfigured
from uvicorn import Config, Server

from arbplatform.celery import app

logger = logging.getLogger("arb")

QUEUES = ("tasks", "engines")
MAX_PORT = 65535


class Part(Protocol):
    """Something that runs until it is told to stop; ``failure`` says why it ended by itself."""

    name: str
    failure: str

    def start(self) -> None:
        """Start and return; raise ImproperlyConfigured with one sentence if it cannot."""

    def request_stop(self) -> None:
        """Begin to end; returns at once."""

    def join(self, timeout: float) -> bool:
        """Wait for the end; False if it has not come within ``timeout`` seconds."""

    def is_alive(self) -> bool: ...


class ThreadPart:
    """A part whose work is one function on one thread. An exception in it is logged and ends the part."""

    name = "part"

    def __init__(self) -> None:
        self.failure = ""
        self._thread = threading.Thread(target=self._run, name=self.name, daemon=True)

    def start(self) -> None:
        self._thread.start()

    def join(self, timeout: float) -> bool:
        if self._thread.ident is not None:
            self._thread.join(timeout)
        return not self._thread.is_alive()

    def is_alive(self) -> bool:
        return self._thread.is_alive()

    def _run(self) -> None:
        try:
            self.work()
        except Exception as problem:
            self.failure = f"{type(problem).__name__}: {problem}"
            logger.exception("%s failed", self.name)

    def work(self) -> None:
        raise NotImplementedError


def web_config(*, compress: bool = True) -> Config:
    """Return how pages and WebSockets are served. Frames are compressed where the client can (permessage-deflate)."""
    return Config(
        "arbplatform.asgi:application",
        http="h11",
        ws="websockets-sansio",
        ws_max_size=64 * 1024,
        ws_per_message_deflate=compress,
        lifespan="off",
        log_config=None,
        access_log=False,
        server_header=False,
        forwarded_allow_ips="",  # who is asking is the proxy's word only where settings say there is one
        proxy_headers=False,
        timeout_graceful_shutdown=2,
    )


class WebServer(ThreadPart):
    """Pages and WebSockets. The address is taken before anything else starts, so a used port is said at once."""

    name = "web"

    def __init__(self, host: str, port: int) -> None:
        super().__init__()
        self._socket = bind(host, port)
        self.host, self.port = host, int(self._socket.getsockname()[1])
        self._server: Server | None = None
        self._stopping = threading.Event()

    @property
    def url(self) -> str:
        """The address a browser on this machine reaches it by."""
        host = {"0.0.0.0": "127.0.0.1", "::": "[::1]"}.get(self.host, self.host)  # noqa: S104 (read, not bound)
        return f"http://{f'[{host}]' if ':' in host and host[0] != '[' else host}:{self.port}"

    def work(self) -> None:
        self._server = Server(web_config())
        if not self._stopping.is_set():
            self._server.run(sockets=[self._socket])

    def request_stop(self) -> None:
        self._stopping.set()
        if self._server is not None:
            self._server.should_exit = True
        else:
            self._socket.close()


class TaskWorker(ThreadPart):
    """Celery's worker with a pool of threads. One worker a process: the queues it reads are the application's."""

    name = "worker"

    def __init__(self, queues: Sequence[str] = QUEUES, concurrency: int = 4) -> None:
        super().__init__()
        self._queues, self._concurrency = list(queues), concurrency

    def work(self) -> None:
        app.finalize()
        worker_state.should_stop = None
        worker = app.WorkController(
            hostname=f"{'-'.join(self._queues)}-{os.getpid()}@{socket.gethostname()}",
            pool_cls="threads",
            concurrency=self._concurrency,
            queues=self._queues,
            loglevel="WARNING",
            # Workers need not know of each other: the database decides who runs what.
            without_gossip=True,
            without_mingle=True,
            without_heartbeat=settings.ARB_SHAPE == "embedded",
        )
        worker.start()
        if worker.exitcode:
            raise RuntimeError(f"the task worker ended with code {worker.exitcode}; the lines above say why")

    def request_stop(self) -> None:
        worker_state.should_stop = 0  # what Celery's own signal handler sets: finish what runs, take nothing new


class Beat(ThreadPart):
    """Celery's scheduler, with the schedules operators edit in the admin."""

    name = "beat"

    def __init__(self) -> None:
        super().__init__()
        # It sleeps between two looks at the schedule and cannot be woken: the sleep bounds how long a stop takes.
        self._service = beat.Service(app, max_interval=1, scheduler_cls=settings.CELERY_BEAT_SCHEDULER)

    def work(self) -> None:
        self._service.start()

    def request_stop(self) -> None:
        self._service.stop()


class Engines:
    """The engine host of this process. It runs inside a Celery task; this part only ends it, before the worker."""

    name = "engines"
    failure = ""

    def __init__(self, stop: Callable[[], Any], wait: Callable[[float], bool]) -> None:
        self._stop, self._wait = stop, wait

    def start(self) -> None:
        pass

    def request_stop(self) -> None:
        self._stop()

    def join(self, timeout: float) -> bool:
        return self._wait(timeout)

    def is_alive(self) -> bool:
        return True


def bind(host: str, port: int) -> socket.socket:
    """Return a listening socket.

    Raises
    ------
    ImproperlyConfigured
        If the address cannot be had, with the cure.
    """
    if not 0 <= port <= MAX_PORT:  # getaddrinfo would take it modulo 65536
        raise ImproperlyConfigured(f"--port must be from 0 to {MAX_PORT} (given {port})")
    try:
        family, kind, protocol, _, address = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)[0]
        taken = socket.socket(family, kind, protocol)
        try:
            taken.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            taken.bind(address)
            taken.listen(1024)
        except OSError:
            taken.close()
            raise
    except OSError as problem:
        if problem.errno == errno.EADDRINUSE:
            raise ImproperlyConfigured(
                f"port {port} on {host} is in use by another program: stop that one, or give another with --port"
            ) from None
        raise ImproperlyConfigured(
            f"cannot listen on {host} port {port} ({problem.strerror}): give another with --host and --port"
        ) from None
    return taken
