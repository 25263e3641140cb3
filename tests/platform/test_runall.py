"""The whole platform in one process: it starts, owns its signals, and ends in order."""

from __future__ import annotations

import signal
import socket
import subprocess
import sys
from pathlib import Path

import pytest
from django.core.exceptions import ImproperlyConfigured

from arbplatform.parts import bind
from tests.platform.processes import ROOT, Command, answers, environment, manage

SETTINGS = {"DJANGO_SETTINGS_MODULE": "arbplatform.settings"}
STUCK = """
import sys, time
from arbplatform.runall import Runner

class Stuck:
    name, failure = "engines", ""
    def start(self): print("started", flush=True)
    def request_stop(self): print("asked to stop", flush=True)
    def join(self, timeout): time.sleep(timeout); return False
    def is_alive(self): return True

sys.exit(Runner([Stuck()]).run())
"""
ENDS = """
import sys
from arbplatform.runall import Runner

class Ends:
    name, failure = "worker", "its broker is gone"
    def start(self): pass
    def request_stop(self): pass
    def join(self, timeout): return True
    def is_alive(self): return False

sys.exit(Runner([Ends()]).run())
"""


@pytest.fixture(scope="module")
def ready(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A state directory with a migrated database."""
    state = tmp_path_factory.mktemp("platform") / "state"
    done = manage(state, "migrate", "-v", "0")
    assert done.returncode == 0, done.stderr
    return state


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_it_serves_pages_and_ends_cleanly_on_a_signal(ready: Path, number: int) -> None:
    with Command(ready, "runall", "--port", "0") as running:
        url = running.wait_ready()
        assert answers(url + "/admin/login/")
        assert answers(url + "/static/admin/css/base.css")
        assert running.stop(number) == 0, running.said
        assert not answers(url + "/healthz")
        assert "Traceback" not in running.said


def test_a_port_in_use_is_one_sentence(ready: Path) -> None:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        port = taken.getsockname()[1]
        done = manage(ready, "runall", "--port", str(port))
    assert done.returncode == 1
    assert done.stderr == (
        f"arb: port {port} on 127.0.0.1 is in use by another program: stop that one, or give another with --port\n"
    )


@pytest.mark.parametrize("port", [-1, 65536, 99999])
def test_a_port_that_is_none_is_refused_instead_of_taken_modulo(port: int) -> None:
    with pytest.raises(ImproperlyConfigured, match=rf"--port must be from 0 to 65535 \(given {port}\)"):
        bind("127.0.0.1", port)


def test_a_second_platform_on_the_same_state_is_refused(ready: Path) -> None:
    with Command(ready, "runall", "--port", "0") as running:
        running.wait_ready()
        done = manage(ready, "runall", "--port", "0")
        assert done.returncode == 1
        assert f"process {running.process.pid} runs on" in done.stderr
        assert running.stop() == 0


def test_a_role_alone_needs_services(ready: Path) -> None:
    done = manage(ready, "up", "--role", "web", "--port", "0")
    assert done.returncode == 1
    assert done.stderr.startswith("arb: embedded, everything is one process")


def test_up_migrates_a_new_database_and_says_that_nobody_can_sign_in(tmp_path: Path) -> None:
    with Command(tmp_path / "state", "up", "--port", "0") as running:
        running.wait_ready()
        assert "createsuperuser" in running.said
        assert running.stop() == 0
    assert manage(tmp_path / "state", "migrate", "--check").returncode == 0


def test_up_with_a_database_that_is_away_is_one_sentence(tmp_path: Path) -> None:
    done = manage(
        tmp_path / "state", "up", "--port", "0",
        DATABASE_URL="postgres://arb:secret-password@127.0.0.1:1/arb", REDIS_URL="redis://127.0.0.1:1/0",
    )  # fmt: skip
    assert done.returncode == 1
    assert "arb: the database does not answer" in done.stderr
    assert "Traceback" not in done.stderr
    assert "secret-password" not in done.stderr


def test_up_refuses_unsafe_production_settings_before_it_asks_the_database(tmp_path: Path) -> None:
    done = manage(
        tmp_path / "state", "up", "--port", "0",
        ARB_ENV="production", DEBUG="1", SECRET_KEY="changeme", ALLOWED_HOSTS="*",
        DATABASE_URL="postgres://arb:pw@127.0.0.1:1/arb", REDIS_URL="redis://127.0.0.1:1/0",
    )  # fmt: skip
    assert done.returncode == 1
    for said in ("DEBUG is on in production", "SECRET_KEY is missing, a default", "ALLOWED_HOSTS is empty or has '*'"):
        assert said in done.stderr
    assert "database" not in done.stderr
    assert "Traceback" not in done.stderr


def test_a_second_signal_forces_the_end(tmp_path: Path) -> None:
    process = subprocess.Popen(
        [sys.executable, "-c", STUCK], cwd=ROOT, env=environment(tmp_path, **SETTINGS),
        stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True,
    )  # fmt: skip
    try:
        assert process.stdout.readline() == "started\n"
        process.send_signal(signal.SIGINT)
        assert process.stdout.readline() == "asked to stop\n"
        process.send_signal(signal.SIGINT)
        assert process.wait(10) == 128 + signal.SIGINT
        assert "forced to end" in process.stderr.read()
    finally:
        process.kill()
        process.communicate()


def test_a_part_that_ends_by_itself_stops_the_rest_and_is_named(tmp_path: Path) -> None:
    done = subprocess.run(
        [sys.executable, "-c", ENDS], cwd=ROOT, env=environment(tmp_path, **SETTINGS),
        capture_output=True, text=True, timeout=30, check=False,
    )  # fmt: skip
    assert done.returncode == 1
    assert done.stderr == "arb: worker ended by itself (its broker is gone); everything is stopped\n"
