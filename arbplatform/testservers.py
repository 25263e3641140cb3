"""What the tests need from the machine: PostgreSQL, Redis and Chromium, found, started or installed.

Servers are started from the machine's binaries on a temporary folder and port, so that no test ever touches data that
is not its own; a server that already runs on its standard port is used only where there are no binaries.
"""

from __future__ import annotations

import contextlib
import glob
import os
import pwd
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

START_SECONDS = 30.0
INSTALL_SECONDS = 300.0

# Package names by package manager.
PACKAGES = {
    "postgresql": {"apt-get": "postgresql", "dnf": "postgresql-server", "apk": "postgresql"},
    "redis": {"apt-get": "redis-server", "dnf": "redis", "apk": "redis"},
    "chromium": {"apt-get": "chromium", "dnf": "chromium", "apk": "chromium"},
}
CHROMIUM_NAMES = ("chromium", "chromium-browser", "google-chrome", "google-chrome-stable", "chrome")


@dataclass(frozen=True)
class Missing:
    """Why a part cannot run, and how to get what it needs, in one line."""

    reason: str


def how_to_get(what: str) -> str:
    """Return the install command of this machine's package manager, Debian's if it has none we know."""
    manager = _package_manager() or "apt-get"
    return f"{manager} {'add' if manager == 'apk' else 'install'} {PACKAGES[what][manager]}"


def install(what: str) -> str:
    """Install a package if we are root; return why it could not be, or an empty string."""
    manager = _package_manager()
    if os.geteuid() != 0:
        return "not root"
    if manager is None:
        return "no package manager we know"
    package = PACKAGES[what][manager]
    commands = {
        "apt-get": [
            ["apt-get", "update", "-qq"],
            ["apt-get", "install", "-y", "-qq", "--no-install-recommends", package],
        ],
        "dnf": [["dnf", "install", "-y", "-q", package]],
        "apk": [["apk", "add", "--quiet", package]],
    }[manager]
    environment = {**os.environ, "DEBIAN_FRONTEND": "noninteractive"}
    for command in commands:
        try:
            done = subprocess.run(
                command,
                env=environment,
                stdin=subprocess.DEVNULL,
                capture_output=True,
                timeout=INSTALL_SECONDS,
                check=False,
            )
        except (OSError, subprocess.TimeoutExpired):
            return f"`{' '.join(command)}` did not finish"
        if done.returncode and command is commands[-1]:
            return f"`{' '.join(command)}` failed"
    return ""


def _package_manager() -> str | None:
    return next((name for name in ("apt-get", "dnf", "apk") if shutil.which(name)), None)


@contextlib.contextmanager
def postgresql() -> Iterator[str | Missing]:
    """Yield the URL of a PostgreSQL we may make databases on, or why there is none."""
    initdb = _postgresql_binary("initdb")
    if initdb is None and not (running := _running_postgresql()):
        refused = install("postgresql")
        initdb = _postgresql_binary("initdb")
        if initdb is None:
            why = f" ({refused})" if refused else ""
            yield Missing(f"PostgreSQL is absent{why}; get it with: {how_to_get('postgresql')}")
            return
    if initdb is None:
        yield running
        return
    with _temporary_folder() as folder:
        data, port, user = folder / "data", _free_port(), _server_user()
        made = subprocess.run(
            [initdb, "-D", data, "-A", "trust", "-U", "postgres", "-E", "UTF8", "--no-sync", "--no-instructions"],
            capture_output=True, text=True, check=False, cwd=folder, **user,
        )  # fmt: skip
        if made.returncode:
            yield Missing(f"PostgreSQL could not be set up ({_last_line(made.stderr)}); reinstall it")
            return
        command = [
            Path(initdb).with_name("postgres"), "-D", data, "-p", str(port), "-k", folder, "-h", "127.0.0.1",
            "-c", "fsync=off", "-c", "max_connections=100",
        ]  # fmt: skip
        with _server(command, folder, user, signal.SIGINT, lambda: _accepts(port)) as problem:
            yield (
                Missing(f"PostgreSQL did not start ({problem})")
                if problem
                else (f"postgres://postgres@127.0.0.1:{port}/postgres")
            )


@contextlib.contextmanager
def redis() -> Iterator[str | Missing]:
    """Yield the URL of a Redis of our own (or one that runs), or why there is none."""
    binary = shutil.which("redis-server") or shutil.which("valkey-server")
    if binary is None and not _answers_ping(6379):
        refused = install("redis")
        binary = shutil.which("redis-server") or shutil.which("valkey-server")
        if binary is None:
            why = f" ({refused})" if refused else ""
            yield Missing(f"Redis is absent{why}; get it with: {how_to_get('redis')}")
            return
    if binary is None:
        yield "redis://127.0.0.1:6379/15"
        return
    with _temporary_folder() as folder:
        port = _free_port()
        command = [
            binary, "--port", str(port), "--bind", "127.0.0.1", "--save", "", "--appendonly", "no", "--dir", folder,
        ]  # fmt: skip
        with _server(command, folder, _server_user(), signal.SIGTERM, lambda: _answers_ping(port)) as problem:
            yield Missing(f"Redis did not start ({problem})") if problem else f"redis://127.0.0.1:{port}/0"


def chromium() -> str | Missing:
    """Return the path of a Chromium, installing one if that is allowed, or why there is none."""
    found = _find_chromium()
    if found:
        return found
    refused = install("chromium")
    found = _find_chromium()
    if found:
        return found
    # Needs no root, only the network: the build that belongs to the browser driver.
    subprocess.run(
        [sys.executable, "-m", "playwright", "install", "chromium"],
        capture_output=True, check=False, timeout=INSTALL_SECONDS,
    )  # fmt: skip
    why = f" ({refused})" if refused else ""
    return _find_chromium() or Missing(f"Chromium is absent{why}; get it with: {how_to_get('chromium')}")


def _find_chromium() -> str | None:
    given = os.environ.get("ARB_CHROMIUM")
    if given and os.access(given, os.X_OK):
        return given
    on_path = next(filter(None, map(shutil.which, CHROMIUM_NAMES)), None)
    own = sorted(glob.glob(os.path.expanduser("~/.cache/ms-playwright/chromium-*/chrome-linux*/chrome")))
    return on_path or (own[-1] if own else None)


def _postgresql_binary(name: str) -> str | None:
    # Debian keeps servers of several versions off the PATH.
    candidates = sorted(glob.glob(f"/usr/lib/postgresql/*/bin/{name}"), key=_version_in_path, reverse=True)
    candidates += glob.glob(f"/usr/pgsql-*/bin/{name}") + glob.glob(f"/usr/libexec/postgresql*/{name}")
    found = shutil.which(name)
    return next((path for path in [*candidates, *([found] if found else [])] if os.access(path, os.X_OK)), None)


def _version_in_path(path: str) -> int:
    part = path.split("/")[4]
    return int(part) if part.isdecimal() else 0


def _running_postgresql() -> str:
    import psycopg  # noqa: PLC0415 (only where no server of our own can be started)

    url = "postgres://postgres@127.0.0.1:5432/postgres"
    try:
        with psycopg.connect(url, connect_timeout=2) as connection:
            row = connection.execute("SELECT rolcreatedb FROM pg_roles WHERE rolname = current_user").fetchone()
            return url if row and row[0] else ""
    except psycopg.Error:
        return ""


@contextlib.contextmanager
def _temporary_folder() -> Iterator[Path]:
    folder = Path(tempfile.mkdtemp(prefix="arb-test-"))
    try:
        user = _server_user()
        if user:
            os.chown(folder, int(user["user"]), int(user["group"]))
        yield folder
    finally:
        shutil.rmtree(folder, ignore_errors=True)


def _server_user() -> dict[str, int]:
    """Servers refuse to run as root, or should: the account to start them as."""
    if os.geteuid() != 0:
        return {}
    account = pwd.getpwnam("nobody")
    return {"user": account.pw_uid, "group": account.pw_gid}


@contextlib.contextmanager
def _server(
    command: Sequence[str | Path], folder: Path, user: dict[str, int], stop: int, ready: Callable[[], bool]
) -> Iterator[str]:
    """Run a server until the block ends; yield what went wrong, or an empty string once it is ready."""
    log = folder / "server.log"
    with log.open("wb") as output:
        process = subprocess.Popen(
            [str(part) for part in command], stdin=subprocess.DEVNULL, stdout=output, stderr=output,
            cwd=folder, start_new_session=True, **user,
        )  # fmt: skip
    try:
        until = time.monotonic() + START_SECONDS
        while not ready():
            if process.poll() is not None or time.monotonic() > until:
                yield _last_line(log.read_text(errors="replace")) or "no answer"
                return
            time.sleep(0.05)
        yield ""
    finally:
        if process.poll() is None:
            process.send_signal(stop)
            try:
                process.wait(10)
            except subprocess.TimeoutExpired:
                process.kill()
                process.wait()


def _free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


def _accepts(port: int) -> bool:
    """Whether PostgreSQL answers there: while it starts up it accepts connections and refuses them again."""
    import psycopg  # noqa: PLC0415

    try:
        psycopg.connect(f"postgres://postgres@127.0.0.1:{port}/postgres", connect_timeout=2).close()
    except psycopg.Error:
        return False
    return True


def _answers_ping(port: int) -> bool:
    try:
        with socket.create_connection(("127.0.0.1", port), timeout=2) as connection:
            connection.sendall(b"PING\r\n")
            return connection.recv(16).startswith(b"+PONG")
    except OSError:
        return False


def _last_line(text: str) -> str:
    lines = [line.strip() for line in text.splitlines() if line.strip()]
    return lines[-1] if lines else ""
