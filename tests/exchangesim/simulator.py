"""A real simulator process for tests: start it on free ports, talk to its control port, stop it by its pid.

    with running_simulator("--exchanges", "binance") as simulator:
        simulator.account("binance", balances={"USDT": "10000"})
        simulator.rest["binance"]          # http://127.0.0.1:41234

``simulator`` and ``shared_simulator`` are pytest fixtures (one per test, one per module), ``every_exchange`` has USD-M
futures too (one per module); import them by name.
"""

from __future__ import annotations

import contextlib
import json
import os
import secrets
import select
import signal
import subprocess
import sys
import time
import urllib.error
import urllib.request
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest

ROOT = Path(__file__).resolve().parents[2]
START_SECONDS = 60.0
LIFETIME_SECONDS = 600  # a test run that is killed leaves nothing behind


@dataclass(frozen=True)
class Credentials:
    """Keys of an account at a simulated exchange."""

    exchange: str
    api_key: str
    secret: str = field(repr=False)
    passphrase: str = field(default="", repr=False)


class ControlFailure(Exception):
    """The control port refused; ``status`` is HTTP's."""

    def __init__(self, status: int, text: str) -> None:
        super().__init__(text)
        self.status = status


class Simulator:
    """A running ``python -m exchangesim`` and its control port."""

    def __init__(self, *arguments: str, token: str | None = None) -> None:
        self.token = token or secrets.token_urlsafe(24)
        self.process = subprocess.Popen(
            [
                sys.executable,
                "-m",
                "exchangesim",
                "--time-limit",
                str(LIFETIME_SECONDS),
                "--parent-pid",
                str(os.getpid()),
                *arguments,
            ],
            cwd=ROOT,
            env={**os.environ, "EXCHANGESIM_CONTROL_TOKEN": self.token},
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
        )
        try:
            self.ready = self._read_ready()
        except BaseException:
            self.kill()
            raise
        exchanges: dict[str, dict[str, str]] = self.ready["exchanges"]
        self.control: str = self.ready["control"]
        self.rest = {name: urls["rest"] for name, urls in exchanges.items()}
        self.ws = {name: urls["ws"] for name, urls in exchanges.items()}

    @property
    def pid(self) -> int:
        return self.process.pid

    def _read_ready(self) -> dict[str, Any]:
        assert self.process.stdout is not None
        assert self.process.stderr is not None
        deadline = time.monotonic() + START_SECONDS
        line = b""
        while not line.endswith(b"\n"):
            readable, _, _ = select.select([self.process.stdout], [], [], max(0.0, deadline - time.monotonic()))
            chunk = os.read(self.process.stdout.fileno(), 65_536) if readable else b""
            if not chunk:
                self.process.kill()
                raise RuntimeError(f"The simulator did not start: {self.process.stderr.read().decode()}")
            line += chunk
        ready: dict[str, Any] = json.loads(line)
        return ready

    # Control port

    def call(self, method: str, path: str, body: object = None) -> Any:
        """Send one request to the control port; raises ControlFailure for an answer that is not 2xx."""
        request = urllib.request.Request(
            self.control + path,
            method=method,
            data=None if body is None else json.dumps(body).encode(),
            headers={"Authorization": f"Bearer {self.token}", "Content-Type": "application/json"},
        )
        try:
            with urllib.request.urlopen(request, timeout=10) as answer:
                return json.loads(answer.read())
        except urllib.error.HTTPError as error:
            raise ControlFailure(error.code, json.loads(error.read())["error"]) from None

    def account(
        self,
        exchange: str,
        *,
        balances: dict[str, str] | None = None,
        api_key: str | None = None,
        secret: str | None = None,
        permissions: tuple[str, ...] = ("read", "trade"),
    ) -> Credentials:
        """Make an account (new keys unless given) with these balances."""
        credentials = Credentials(
            exchange=exchange,
            api_key=api_key or secrets.token_hex(16),
            secret=secret or secrets.token_hex(32),
            passphrase="passphrase" if exchange == "okx" else "",
        )
        self.call(
            "POST",
            "/accounts",
            {
                "exchange": exchange,
                "api_key": credentials.api_key,
                "secret": credentials.secret,
                "passphrase": credentials.passphrase,
                "balances": balances or {},
                "permissions": list(permissions),
            },
        )
        return credentials

    def balances(self, credentials: Credentials) -> dict[str, dict[str, str]]:
        """Return free, locked and total per asset, as decimal strings."""
        answer = self.call("GET", f"/accounts/{credentials.exchange}/{credentials.api_key}")
        return dict(answer["balances"])

    def orders(self, exchange: str, **query: str) -> list[dict[str, Any]]:
        return list(self.call("GET", f"/orders?exchange={exchange}{_query(query)}")["orders"])

    def fills(self, exchange: str, **query: str) -> list[dict[str, Any]]:
        return list(self.call("GET", f"/fills?exchange={exchange}{_query(query)}")["fills"])

    def fault(self, kind: str, **fields: Any) -> int:
        """Register a fault; returns its id."""
        return int(self.call("POST", "/faults", {"kind": kind, **fields})["id"])

    def faults(self) -> list[dict[str, Any]]:
        return list(self.call("GET", "/faults")["faults"])

    def clear_faults(self) -> None:
        self.call("DELETE", "/faults")

    def set_coin(self, exchange: str, code: str, **told: Any) -> None:
        """Change what an exchange tells of a coin: ``contract``, ``deposit``, ``withdraw``."""
        self.call("POST", "/coins", {"exchange": exchange, "code": code, **told})

    def market(self, exchange: str, symbol: str) -> dict[str, Any]:
        return dict(self.call("GET", f"/market?exchange={exchange}&symbol={symbol}"))

    def set_book(
        self, exchange: str, symbol: str, *, bids: list[tuple[str, str]], asks: list[tuple[str, str]]
    ) -> dict[str, Any]:
        """Freeze a market and give it exactly these levels (price, quantity)."""
        body = {"exchange": exchange, "symbol": symbol, "bids": bids, "asks": asks}
        return dict(self.call("POST", "/market", body))

    def trade(self, exchange: str, symbol: str, side: str, quantity: str, price: str | None = None) -> None:
        """Let an anonymous participant take from the book."""
        trade = {"side": side, "quantity": quantity, "price": price}
        self.call("POST", "/market", {"exchange": exchange, "symbol": symbol, "trade": trade})

    def place_by_hand(
        self,
        credentials: Credentials,
        symbol: str,
        side: str,
        quantity: str,
        price: str | None = None,
        position: str = "BOTH",
    ) -> dict[str, Any]:
        """Let the account's owner place an order at the exchange itself."""
        body = {"symbol": symbol, "side": side, "quantity": quantity, "price": price, "position_side": position}
        return dict(self.call("POST", "/orders", {**_account(credentials), **body}))

    def execute(self, exchange: str, order_id: str, quantity: str, price: str | None = None) -> dict[str, Any]:
        """Execute a quantity of an order whatever its state and size; returns the fill."""
        body = {"exchange": exchange, "order_id": order_id, "quantity": quantity, "price": price}
        return dict(self.call("POST", "/executions", body))

    def bust(self, exchange: str, order_id: str, trade_id: str) -> None:
        """Take back one execution."""
        self.call("POST", "/executions/bust", {"exchange": exchange, "order_id": order_id, "trade_id": trade_id})

    def roll_back(self, exchange: str, order_id: str) -> None:
        """Lose an order and all it executed."""
        self.call("POST", "/orders/roll_back", {"exchange": exchange, "order_id": order_id})

    def transfer(self, credentials: Credentials, asset: str, amount: str) -> None:
        """Deposit, or with a minus sign withdraw."""
        self.call("POST", "/transfers", {**_account(credentials), "asset": asset, "amount": amount})

    def revoke(self, credentials: Credentials, revoked: bool = True) -> None:
        self.call("POST", "/keys", {**_account(credentials), "revoked": revoked})

    def disturb(self, exchange: str, action: str, api_key: str = "*") -> int:
        """``cut``, ``close``, ``expire`` sockets or give ``notice``; returns how many there were."""
        return int(
            self.call("POST", "/sockets", {"exchange": exchange, "action": action, "api_key": api_key})["sockets"]
        )

    def set_rules(self, exchange: str, symbol: str, **rules: str) -> None:
        """Change ``tick``, ``lot``, ``min_quantity``, ``max_quantity``, ``min_notional`` or ``price_band``."""
        self.call("POST", "/market", {"exchange": exchange, "symbol": symbol, "rules": rules})

    def latency(self, exchange: str | None = None, **figures: float) -> None:
        """Set ``request_ms``, ``response_ms``, ``event_ms``, ``market_ms`` or ``jitter``."""
        self.call("POST", "/latency", {**figures, **({} if exchange is None else {"exchange": exchange})})

    # Contracts

    def positions(self, exchange: str, **query: str) -> list[dict[str, Any]]:
        """Return open positions; ``api_key`` and ``symbol`` pick some."""
        return list(self.call("GET", f"/positions?exchange={exchange}{_query(query)}")["positions"])

    def set_mark(self, exchange: str, symbol: str, price: str | None) -> dict[str, Any]:
        """Hold mark and index price; None lets them follow the market again."""
        return dict(self.call("POST", "/mark", {"exchange": exchange, "symbol": symbol, "price": price}))

    def fund(self, exchange: str, symbol: str, rate: str) -> None:
        """Let positions pay funding at this rate now."""
        self.call("POST", "/funding", {"exchange": exchange, "symbol": symbol, "rate": rate, "now": True})

    def deleverage(self, credentials: Credentials, symbol: str, quantity: str, side: str = "BOTH") -> dict[str, Any]:
        """Let the exchange close some of a position by itself, to cover another's loss."""
        body = {**_account(credentials), "symbol": symbol, "quantity": quantity, "side": side}
        return dict(self.call("POST", "/deleverage", body))

    def hedge(self, credentials: Credentials) -> None:
        """Let the account hold both sides of each contract apart."""
        self.call("POST", "/hedge", {**_account(credentials), "hedged": True})

    # Ending

    def stop(self) -> int:
        """Ask it to stop and wait; returns its exit code."""
        if self.process.poll() is None:
            self.process.send_signal(signal.SIGTERM)
        return self._wait()

    def kill(self) -> int:
        """Kill it, as a crash would."""
        if self.process.poll() is None:
            self.process.kill()
        return self._wait()

    def _wait(self) -> int:
        try:
            code = self.process.wait(timeout=60)
        except subprocess.TimeoutExpired:
            self.process.kill()
            self.process.wait()
            raise
        finally:
            for pipe in (self.process.stdout, self.process.stderr):
                if pipe is not None:
                    pipe.close()
        return code


def _account(credentials: Credentials) -> dict[str, str]:
    return {"exchange": credentials.exchange, "api_key": credentials.api_key}


def _query(query: dict[str, str]) -> str:
    return "".join(f"&{name}={value}" for name, value in query.items())


@contextlib.contextmanager
def running_simulator(*arguments: str, token: str | None = None) -> Iterator[Simulator]:
    """Run a simulator for the length of the block."""
    simulator = Simulator(*arguments, token=token)
    try:
        yield simulator
    finally:
        if simulator.process.poll() is None:
            simulator.stop()


EVERY_EXCHANGE = ("--exchanges", "binance,okx,bybit,binanceusdm")


@pytest.fixture
def simulator() -> Iterator[Simulator]:
    """A simulator of all spot exchanges for one test."""
    with running_simulator() as running:
        yield running


@pytest.fixture(scope="module")
def shared_simulator() -> Iterator[Simulator]:
    """A simulator of all spot exchanges for all tests of a module."""
    with running_simulator() as running:
        yield running


@pytest.fixture(scope="module")
def every_exchange() -> Iterator[Simulator]:
    """A simulator of the spot exchanges and of USD-M for all tests of a module."""
    with running_simulator(*EVERY_EXCHANGE) as running:
        yield running
