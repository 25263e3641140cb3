"""The simulated exchanges as a child process of ours."""

from __future__ import annotations

import contextlib
import json
import os
import secrets
import select
import subprocess
import sys
import time
import urllib.error
import urllib.request
from collections.abc import Mapping
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

from django.core.exceptions import ImproperlyConfigured

from arbplatform.state import REPOSITORY, make_directory
from trading.config import Credentials

READY_SECONDS = 60.0
STOP_SECONDS = 20.0
TOKEN_FILE = "control-token"  # noqa: S105 (the file's name)
LOG_FILE = "simulator.log"


class Simulator:
    """`python -m exchangesim` with its accounts, orders and prices kept in ``state``."""

    def __init__(self, state: Path, *, options: tuple[str, ...] = ()) -> None:
        self._state = state
        self._options = options
        self._process: subprocess.Popen[bytes] | None = None
        self._ports: dict[str, int] = {}
        self._token = ""
        self.control = ""
        self.urls: dict[str, dict[str, str]] = {}

    def start(self) -> None:
        """Start it; :meth:`wait_ready` says when it can be used. Ports stay the same when it is started again."""
        make_directory(self._state)
        token_file = self._state / TOKEN_FILE
        if not token_file.exists():
            token_file.touch(mode=0o600)
            token_file.write_text(secrets.token_urlsafe(32))
        self._token = token_file.read_text().strip()
        command = [
            sys.executable, "-m", "exchangesim",
            "--state", str(self._state), "--parent-pid", str(os.getpid()), "--control-token-file", str(token_file),
            *self._options,
            *(part for name, port in self._ports.items() for part in (f"--{name}-port", str(port))),
        ]  # fmt: skip
        with (self._state / LOG_FILE).open("ab") as log:
            # A session of its own: Ctrl-C in the terminal reaches us alone, and the exchanges stay while engines drain.
            self._process = subprocess.Popen(
                command, cwd=REPOSITORY, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=log,
                start_new_session=True,
            )  # fmt: skip

    def wait_ready(self) -> None:
        """Return once every exchange answers.

        Raises
        ------
        ImproperlyConfigured
            If it ends or does not say so in time, with what it said last.
        """
        line = self._read_line()
        try:
            ready = json.loads(line)
            self.control = ready["control"]
            self.urls = {name: _hosts(addresses) for name, addresses in ready["exchanges"].items()}
        except (ValueError, KeyError, TypeError):
            self.stop()
            raise ImproperlyConfigured(f"the simulated exchanges did not start: {self._last_words()}") from None
        self._ports = {
            name: urlsplit(url).port or 0
            for name, url in [("control", self.control), *((name, urls["rest"]) for name, urls in self.urls.items())]
        }

    def _read_line(self) -> bytes:
        assert self._process is not None
        assert self._process.stdout is not None
        output = self._process.stdout
        until = time.monotonic() + READY_SECONDS
        line = b""
        while not line.endswith(b"\n") and (left := until - time.monotonic()) > 0:
            if not select.select([output], [], [], left)[0]:
                break
            piece = os.read(output.fileno(), 65536)
            if not piece:
                break
            line += piece
        return line

    def is_alive(self) -> bool:
        return self._process is not None and self._process.poll() is None

    def put_account(self, exchange: str, credentials: Credentials, balances: Mapping[str, str]) -> None:
        """Let an account in; one the exchange knows keeps its balances."""
        body = {
            "exchange": exchange,
            "api_key": credentials.api_key,
            "secret": credentials.secret,
            "passphrase": credentials.passphrase,
            "balances": dict(balances),
        }
        self._post("/accounts", body)

    def _post(self, path: str, body: Mapping[str, Any]) -> Any:
        request = urllib.request.Request(  # noqa: S310 (our own child's address)
            self.control + path,
            data=json.dumps(body).encode(),
            headers={"Authorization": f"Bearer {self._token}", "Content-Type": "application/json"},
        )
        try:
            with urllib.request.urlopen(request, timeout=10) as answer:  # noqa: S310
                return json.load(answer)
        except urllib.error.HTTPError as problem:
            said = json.loads(problem.read() or b"{}").get("error", problem.reason)
            raise ImproperlyConfigured(f"the simulated exchanges refused {path}: {said}") from None
        except OSError as problem:
            raise ImproperlyConfigured(f"the simulated exchanges do not answer: {problem}") from None

    def stop(self) -> bool:
        """End it; False if it had to be killed."""
        if self._process is None:
            return True
        clean = True
        if self._process.poll() is None:
            self._process.terminate()
            try:
                self._process.wait(STOP_SECONDS)
            except subprocess.TimeoutExpired:
                clean = False
                self._process.kill()
                self._process.wait()
        if self._process.stdout is not None:
            self._process.stdout.close()
        return clean

    def _last_words(self) -> str:
        with contextlib.suppress(OSError):
            lines = (self._state / LOG_FILE).read_text(errors="replace").split("\n")
            said = [line.strip() for line in lines if line.strip()]
            if said:
                return f"{said[-1]} (all of it is in {self._state / LOG_FILE})"
        return "they said nothing"


def _hosts(addresses: Mapping[str, str]) -> dict[str, str]:
    """Return REST and WebSocket addresses without paths, which each exchange's own code adds."""
    parts = {name: urlsplit(addresses[name]) for name in ("rest", "ws")}
    return {name: f"{part.scheme}://{part.netloc}" for name, part in parts.items()}
