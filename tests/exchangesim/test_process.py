"""The simulator as a process: starting, refusing to start, going on after a kill, stopping, its control port."""

from __future__ import annotations

import gzip
import json
import os
import signal
import socket
import subprocess
import sys
import time
import urllib.error
import urllib.request
from pathlib import Path

import pytest

from tests.exchangesim.raw_binance import raw_binance
from tests.exchangesim.simulator import (
    ROOT,
    ControlFailure,
    Simulator,
    running_simulator,
    shared_simulator,  # noqa: F401
)


def run(*arguments: str, **environment: str) -> subprocess.CompletedProcess[str]:
    """Run a simulator that is expected to end by itself."""
    return subprocess.run(
        [sys.executable, "-m", "exchangesim", *arguments],
        cwd=ROOT,
        env={**os.environ, **environment},
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )


def test_the_ready_line_names_every_address() -> None:
    done = run("--time-limit", "0.2", "--symbols", "BTC/USDT")
    assert done.returncode == 0, done.stderr
    (line,) = done.stdout.splitlines()
    ready = json.loads(line)
    assert sorted(ready["exchanges"]) == ["binance", "bybit", "okx"]
    for urls in ready["exchanges"].values():
        assert urls["rest"].startswith("http://127.0.0.1:")
        assert urls["ws"].startswith("ws://127.0.0.1:")
    assert ready["control"].startswith("http://127.0.0.1:")
    assert len(ready["control_token"]) >= 24, "made, for none was given"


def test_a_given_control_token_is_not_told() -> None:
    done = run("--time-limit", "0.1", "--exchanges", "binance", EXCHANGESIM_CONTROL_TOKEN="given-from-outside")
    assert "control_token" not in json.loads(done.stdout)
    assert "given-from-outside" not in done.stdout + done.stderr


def _in_use(tmp_path: Path) -> tuple[str, ...]:
    listener = socket.create_server(("127.0.0.1", 0))
    _in_use.listener = listener  # type: ignore[attr-defined]  # kept open while the simulator runs
    return ("--exchanges", "binance", "--binance-port", str(listener.getsockname()[1]))


def _unwritable(tmp_path: Path) -> tuple[str, ...]:
    (tmp_path / "file").write_text("")
    return ("--state", str(tmp_path / "file" / "state"))


def _no_recording(tmp_path: Path) -> tuple[str, ...]:
    (tmp_path / "notes.txt").write_text("no recording")
    return ("--play", f"binance={tmp_path / 'notes.txt'}")


@pytest.mark.parametrize(
    ("arguments", "says"),
    [
        (_in_use, "is in use"),
        (_unwritable, "cannot make the directory"),
        (_no_recording, "neither a gzip nor a zstd"),
        (("--play", "binance=/nowhere/at.all"), "cannot be opened"),
        (("--play", "okx=file", "--exchanges", "binance"), "not among the --exchanges"),
        (("--play", "nothing"), "not like binance=FILE"),
        (("--exchanges", "binance,nyse"), "there is no exchange 'nyse'"),
        (("--exchanges", ","), "at least one"),
        (("--symbols", "BTCUSDT"), "not like BTC/USDT"),
        (("--symbols", "FOO/USDT"), "no price is known for FOO"),
        (("--symbols", "FOO/FOO"), "same asset"),
        (("--taker-bps", "NaN"), "not a number from 0 to 1000"),
        (("--latency-ms", "-1"), "not a number from 0 to 60000"),
        (("--binance-port", "99999"), "not a whole number"),
        (("--control-token-file", "/nowhere"), "cannot be read"),
    ],
)
def test_a_wrong_start_ends_at_once_with_one_clear_sentence(tmp_path: Path, arguments: object, says: str) -> None:
    given = arguments(tmp_path) if callable(arguments) else arguments
    assert isinstance(given, tuple)
    done = run(*given, "--time-limit", "5")
    assert done.returncode == 2
    assert done.stdout == ""
    assert says in done.stderr
    assert "Traceback" not in done.stderr


def test_a_new_coin_starts_at_the_given_price() -> None:
    with running_simulator("--exchanges", "binance", "--symbols", "FOO/USDT=1.25") as simulator:
        market = simulator.market("binance", "FOO/USDT")
        assert abs(float(market["last"]) - 1.25) < 0.01
        assert len(market["bids"]) > 10


@pytest.mark.parametrize("signum", [signal.SIGTERM, signal.SIGINT])
def test_a_signal_stops_it_quickly_even_with_clients(signum: signal.Signals) -> None:
    with running_simulator("--exchanges", "binance") as simulator:
        host, port = simulator.rest["binance"].removeprefix("http://").split(":")
        with socket.create_connection((host, int(port))) as client:
            client.sendall(
                b"GET /ws/btcusdt@bookTicker HTTP/1.1\r\nHost: x\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n"
                b"Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\nSec-WebSocket-Version: 13\r\n\r\n"
            )
            assert client.recv(1000).startswith(b"HTTP/1.1 101")
            start = time.monotonic()
            simulator.process.send_signal(signum)
            assert simulator.process.wait(timeout=5) == 0
            assert time.monotonic() - start < 3


def test_it_stops_when_its_parent_is_gone() -> None:
    starter = (
        "import subprocess, sys\n"
        "p = subprocess.Popen([sys.executable, '-m', 'exchangesim', '--exchanges', 'binance', '--time-limit', '60',"
        " '--parent-pid', str(__import__('os').getpid())], stdout=subprocess.PIPE)\n"
        "p.stdout.readline()\n"
        "print(p.pid, flush=True)\n"
    )
    done = subprocess.run(
        [sys.executable, "-c", starter], cwd=ROOT, capture_output=True, text=True, timeout=60, check=True
    )
    pid = int(done.stdout)
    deadline = time.monotonic() + 10
    while Path(f"/proc/{pid}").exists() and "Z" not in Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2][:3]:
        assert time.monotonic() < deadline, "still running"
        time.sleep(0.05)


async def test_a_killed_exchange_goes_on_with_what_it_had_told(tmp_path: Path) -> None:
    arguments = ("--exchanges", "binance", "--state", str(tmp_path), "--symbols", "BTC/USDT")
    with running_simulator(*arguments) as first:
        first.set_book("binance", "BTC/USDT", bids=[("59990", "1")], asks=[("60000", "1")])
        account = first.account("binance", balances={"USDT": "100000"})
        async with raw_binance(first, account) as client:
            resting = await client.order(price="50000", quantity="0.5", newClientOrderId="resting")
            filled = await client.order(price="60000", quantity="0.25", timeInForce="IOC")
            first.kill()
        balances_told = {"BTC": "0.2499", "USDT": "60000"}
    with running_simulator(*arguments) as second:
        balances = second.balances(account)
        assert balances["BTC"]["free"] == balances_told["BTC"]
        assert balances["USDT"] == {"free": balances_told["USDT"], "locked": "25000", "total": "85000"}
        async with raw_binance(second, account) as client:
            found = await client.signed("GET", "/api/v3/order", symbol="BTCUSDT", origClientOrderId="resting")
            assert found.json["status"] == "NEW"
            old = await client.signed("GET", "/api/v3/order", symbol="BTCUSDT", orderId=filled.json["orderId"])
            assert old.json["status"] == "FILLED"
            newer = await client.order(price="50000", quantity="0.1")
            assert newer.json["orderId"] > filled.json["orderId"] > resting.json["orderId"]
            cancelled = await client.signed("DELETE", "/api/v3/order", symbol="BTCUSDT", origClientOrderId="resting")
            assert cancelled.json["status"] == "CANCELED"


def test_a_state_in_use_is_refused(tmp_path: Path) -> None:
    with running_simulator("--exchanges", "binance", "--state", str(tmp_path)):
        done = run("--exchanges", "binance", "--state", str(tmp_path), "--time-limit", "5")
        assert done.returncode == 2
        assert "one simulator only" in done.stderr


async def test_a_recording_is_an_exchanges_market_and_the_others_stay_synthetic(tmp_path: Path) -> None:
    path = tmp_path / "recording.gz"
    snapshot = {"lastUpdateId": 10, "bids": [["49999.5", "1"]], "asks": [["50000.5", "1"], ["50001", "2"]]}
    update = {"e": "depthUpdate", "s": "BTCUSDT", "U": 11, "u": 11, "b": [["50000", "3"]], "a": []}
    lines = [f"1 {json.dumps(snapshot, separators=(',', ':'))}", f"2 {json.dumps({'data': update})}"]
    path.write_bytes(gzip.compress("\n".join(lines).encode()))
    with running_simulator("--exchanges", "binance,okx", "--play", f"binance={path}", "--once") as simulator:
        account = simulator.account("binance", balances={"USDT": "100000"})
        async with raw_binance(simulator, account) as client:
            symbols = (await client.get("/api/v3/exchangeInfo")).json["symbols"]
            assert [symbol["symbol"] for symbol in symbols] == ["BTCUSDT"]
            deadline = time.monotonic() + 10
            while simulator.market("binance", "BTC/USDT")["bids"][0] != ["50000", "3"]:
                assert time.monotonic() < deadline
            order = await client.order(price="50001", quantity="1.5", timeInForce="IOC")
            assert [fill["price"] for fill in order.json["fills"]] == ["50000.50000000", "50001.00000000"]
        assert len(simulator.market("okx", "BTC/USDT")["bids"]) > 20


# Control port


@pytest.fixture
def control(shared_simulator: Simulator) -> Simulator:  # noqa: F811
    shared_simulator.clear_faults()
    return shared_simulator


def test_without_the_token_only_health_answers(control: Simulator) -> None:
    with urllib.request.urlopen(f"{control.control}/health", timeout=10) as answer:
        assert json.loads(answer.read())["ok"] is True
    for token in ("", "wrong", control.token + "x"):
        request = urllib.request.Request(
            f"{control.control}/orders?exchange=binance", headers={"Authorization": f"Bearer {token}"}
        )
        with pytest.raises(urllib.error.HTTPError) as refused:
            urllib.request.urlopen(request, timeout=10)
        assert refused.value.code == 401


@pytest.mark.parametrize(
    ("method", "path", "body", "status", "says"),
    [
        ("POST", "/accounts", {"exchange": "nyse", "api_key": "k", "secret": "s"}, 404, "no exchange 'nyse'"),
        ("POST", "/accounts", {"exchange": "binance", "api_key": "", "secret": "s"}, 400, "api_key"),
        ("POST", "/accounts", {"exchange": "binance", "secret": "s"}, 400, "api_key"),
        ("POST", "/accounts", {"exchange": "binance", "api_key": "k", "secret": "s", "coins": 1}, 400, "coins"),
        (
            "POST",
            "/accounts",
            {"exchange": "binance", "api_key": "k", "secret": "s", "balances": {"BTC": "-1"}},
            400,
            "balances.BTC",
        ),
        (
            "POST",
            "/accounts",
            {"exchange": "binance", "api_key": "k", "secret": "s", "balances": {"BTC": "NaN"}},
            400,
            "balances.BTC",
        ),
        (
            "POST",
            "/accounts",
            {"exchange": "binance", "api_key": "k", "secret": "s", "permissions": ["fly"]},
            400,
            "fly",
        ),
        ("POST", "/accounts", 7, 400, "Expected"),
        ("GET", "/accounts/binance/nobody", None, 404, "no account"),
        ("GET", "/orders", None, 404, "no exchange ''"),
        ("GET", "/orders?exchange=binance&limit=0", None, 400, "limit"),
        ("GET", "/orders?exchange=binance&symbol=X/Y", None, 404, "no market 'X/Y'"),
        ("GET", "/fills?exchange=binance&from_id=x", None, 400, "from_id"),
        ("POST", "/faults", {"kind": "explode"}, 400, "explode"),
        ("DELETE", "/faults/999", None, 404, "no fault"),
        ("POST", "/latency", {"request_ms": -1}, 400, "request_ms"),
        ("POST", "/market", {"exchange": "binance", "symbol": "BTC/USDT", "bids": [["1", "-1"]]}, 400, "bids"),
        ("POST", "/market", {"exchange": "binance", "symbol": "BTC/USDT", "bids": [["0.001", "1"]]}, 400, "steps"),
        (
            "POST",
            "/market",
            {"exchange": "binance", "symbol": "BTC/USDT", "bids": [["2", "1"]], "asks": [["1", "1"]]},
            400,
            "below the best ask",
        ),
        (
            "POST",
            "/market",
            {"exchange": "binance", "symbol": "BTC/USDT", "trade": {"side": "UP", "quantity": "1"}},
            400,
            "BUY or SELL",
        ),
        ("GET", "/nothing", None, 404, "/nothing"),
    ],
)
def test_wrong_control_requests_get_one_sentence(
    control: Simulator, method: str, path: str, body: object, status: int, says: str
) -> None:
    with pytest.raises(ControlFailure, match=says) as refused:
        control.call(method, path, body)
    assert refused.value.status == status


def test_an_account_is_made_once_and_keeps_its_balances(control: Simulator) -> None:
    account = control.account("binance", balances={"USDT": "10"})
    control.account("binance", api_key=account.api_key, secret=account.secret, balances={"USDT": "1000"})
    assert control.balances(account) == {"USDT": {"free": "10", "locked": "0", "total": "10"}}


def test_transfers_move_funds_but_not_below_zero(control: Simulator) -> None:
    account = control.account("okx", balances={"BTC": "1"})
    body = {"exchange": "okx", "api_key": account.api_key, "asset": "BTC"}
    control.call("POST", "/transfers", {**body, "amount": "-0.4"})
    assert control.balances(account)["BTC"]["free"] == "0.6"
    with pytest.raises(ControlFailure, match="cannot take") as refused:
        control.call("POST", "/transfers", {**body, "amount": "-0.7"})
    assert refused.value.status == 409


def test_secrets_are_never_told(control: Simulator) -> None:
    account = control.account("okx", balances={"BTC": "1"}, secret="a-secret-that-must-not-show")
    told = json.dumps(control.call("GET", f"/accounts/okx/{account.api_key}"))
    assert "must-not-show" not in told
    assert "passphrase" not in told


def test_a_frozen_market_stands_as_set_and_thaws(control: Simulator) -> None:
    market = control.set_book("bybit", "ETH/USDT", bids=[("2500", "1")], asks=[("2501.5", "2")])
    assert (market["bids"], market["asks"], market["frozen"]) == ([["2500", "1"]], [["2501.5", "2"]], True)
    control.call("POST", "/market", {"exchange": "bybit", "symbol": "ETH/USDT", "frozen": False})
    deadline = time.monotonic() + 10
    while len(control.market("bybit", "ETH/USDT")["bids"]) < 10:
        assert time.monotonic() < deadline
        time.sleep(0.02)
