"""The demo end to end: real exchanges' protocols, trades by themselves, a clean end, and a second start."""

from __future__ import annotations

import json
import os
import re
import signal
import socket
from decimal import Decimal
from pathlib import Path

import pytest

from arbplatform.memory import process_tree
from tests.platform.processes import Command, answers, manage

PASSWORD = re.compile(r"password (\S+)")


@pytest.fixture(scope="module")
def played(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, dict, str]:
    """A state directory in which the demo has run once, its result, and what it said."""
    state = tmp_path_factory.mktemp("demo") / "state"
    done = manage(state, "demo", "--seconds", "15", "--json", "--port", "0", timeout=90)
    assert done.returncode == 0, done.stderr
    return state, json.loads(done.stdout.strip().splitlines()[-1]), done.stderr


def test_trades_happen_and_no_order_is_left_unresolved(played) -> None:
    _, result, _ = played
    assert result["trades"] > 0
    assert result["orders"] >= result["trades"]
    assert result["fills"] > 0
    assert result["unresolved_orders"] == 0
    assert Decimal(result["net_profit"]["USDT"]).is_finite()
    assert result["seconds"] >= 15


def test_standard_output_is_the_result_alone(played) -> None:
    state, _, _ = played
    done = manage(state, "demo", "--seconds", "1", "--json", "--port", "0", timeout=90)
    assert set(json.loads(done.stdout)) >= {
        "trades", "orders", "fills", "net_profit", "unresolved_orders", "seconds",
    }  # fmt: skip


def test_everything_together_takes_less_than_600_megabytes(played) -> None:
    memory = played[1]["memory_mb"]
    assert memory is None or memory < 600  # None: a system that does not tell


def test_nothing_fails_on_the_way(played) -> None:
    assert "Traceback" not in played[2]
    assert " ERROR " not in played[2]


def test_passwords_are_generated_and_told_once(played) -> None:
    state, _, said = played
    passwords = PASSWORD.findall(said)
    assert len(passwords) == 3
    assert len(set(passwords)) == 3
    with Command(state, "demo", "--port", "0") as running:
        running.wait_ready()
        assert not PASSWORD.search(running.said)
        assert not any(password in running.said for password in passwords)
        assert running.stop() == 0


def test_a_second_start_goes_on_with_the_same_data(played) -> None:
    state, result, _ = played
    with Command(state, "demo", "--port", "0") as running:
        url = running.wait_ready()
        assert answers(url + "/admin/login/")
        assert running.stop(signal.SIGTERM) == 0
        totals = re.search(r"arb: (\d+) trades", running.said)
    assert totals is not None
    assert int(totals[1]) >= result["trades"]


def test_it_says_so_and_starts_them_again_when_the_exchanges_die(played) -> None:
    state, _, _ = played
    with Command(state, "demo", "--port", "0") as running:
        url = running.wait_ready()
        (child,) = [pid for pid in process_tree(running.process.pid) if pid != running.process.pid]
        os.kill(child, signal.SIGKILL)
        running.wait_said("starting them again")
        assert answers(url + "/healthz")
        assert running.stop() == 0


def test_after_being_killed_it_takes_up_what_was_left_and_trades_on(played) -> None:
    state, result, _ = played
    with Command(state, "demo", "--port", "0") as running:
        running.wait_ready()
        running.wait_said("Trades appear")
        running.process.kill()
        running.process.wait()
    done = manage(state, "demo", "--seconds", "12", "--json", "--port", "0", timeout=90)
    assert done.returncode == 0, done.stderr
    after = json.loads(done.stdout)
    assert after["trades"] > result["trades"]
    assert after["unresolved_orders"] == 0


def test_a_used_port_is_one_sentence_and_starts_nothing(tmp_path: Path) -> None:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        done = manage(tmp_path / "state", "demo", "--port", str(taken.getsockname()[1]))
    assert done.returncode == 1
    assert done.stderr.startswith("arb: port ")
    assert done.stderr.count("\n") == 1
    assert not list((tmp_path / "state").glob("**/*.sqlite3"))


@pytest.mark.parametrize("seconds", ["0", "-1", "nan", "inf"])
def test_an_absurd_duration_is_refused(tmp_path: Path, seconds: str) -> None:
    done = manage(tmp_path / "state", "demo", f"--seconds={seconds}", "--port", "0")
    assert done.returncode == 1
    assert "--seconds must be above 0" in done.stderr


def test_the_demo_never_touches_a_configured_installation(played, tmp_path: Path) -> None:
    state, _, _ = played
    done = manage(
        state, "demo", "--seconds", "1", "--json", "--port", "0", timeout=90,
        DATABASE_URL="postgres://nobody@127.0.0.1:1/real", REDIS_URL="redis://127.0.0.1:1/0", ARB_ENV="production",
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
