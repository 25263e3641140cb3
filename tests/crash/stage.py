"""Owners with bots on three simulated exchanges, in a database that other processes share, and hosts to run them.

The database is the connection's own: a test's, or one made for a run. Hosts are real processes (``nursery``).
"""

from __future__ import annotations

import asyncio
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Mapping
from pathlib import Path
from types import TracebackType
from typing import Any
from urllib.parse import quote, urlsplit, urlunsplit

from django.conf import settings
from django.contrib.auth.models import User
from django.db import connection

from bots.models import Bot, ExchangeAccount, Order, OwnerLease, TradingPair
from bots.services.accounts import account_create
from bots.services.bots import bot_create, bot_start
from bots.services.demo import pairs_across
from bots.services.exchanges import exchange_create, markets_sync
from bots.services.installation import installation_get
from bots.services.tickets import manual_bot
from tests.exchanges.venue_rig import spec_of
from tests.exchangesim.simulator import ROOT, Simulator
from trading.config import Credentials
from trading.exchanges.markets import load_markets

NAMES = ("binance", "okx", "bybit")
SUFFIX = "-sim"
BALANCES = {"USDT": "1000000", "BTC": "20", "ETH": "300", "SOL": "6000"}
WAIT_SECONDS = 60.0
# No fees, quick quotes and some way to the exchange: trades all the time, and most kills fall into some.
SIMULATOR_OPTIONS = (
    "--symbols", "BTC/USDT,ETH/USDT,SOL/USDT", "--taker-bps", "0", "--maker-bps", "0", "--interval", "0.1",
    "--levels", "10", "--latency-ms", "15", "--no-limits", "--time-limit", "36000",
)  # fmt: skip


class Nursery:
    """Starts and ends hosts. All are killed at the end."""

    def __init__(self, log: Path, environment: Mapping[str, str] | None = None) -> None:
        self.log = log
        self._file = log.open("ab")
        self._process = subprocess.Popen(
            [sys.executable, "-m", "tests.crash.nursery"],
            cwd=ROOT,
            env={**host_environment(), **(environment or {})},
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=self._file,
            text=True,
        )
        self._started: list[int] = []
        if self._line() != "ready":
            self.close()
            raise RuntimeError(f"hosts cannot be started: {log.read_text()[-2000:]}")

    def start(self) -> int:
        """Start a host; return its process id."""
        assert self._process.stdin is not None
        self._process.stdin.write("start\n")
        self._process.stdin.flush()
        pid = int(self._line())
        self._started.append(pid)
        return pid

    def kill(self, pid: int, number: int = signal.SIGKILL) -> None:
        """Send a signal; after SIGKILL return once the process is gone."""
        if pid not in self._started:
            raise ValueError(f"process {pid} is no host of ours")
        os.kill(pid, number)
        if number == signal.SIGKILL:
            self._started.remove(pid)
            until(lambda: not _is_alive(pid), "the killed host is gone")

    def stop(self, pid: int) -> None:
        """Let a host drain and end."""
        os.kill(pid, signal.SIGTERM)
        until(lambda: not _is_alive(pid), "the stopped host has ended")
        self._started.remove(pid)

    def close(self) -> None:
        for pid in list(self._started):
            if _is_alive(pid):
                self.kill(pid)
        assert self._process.stdin is not None
        self._process.stdin.close()
        self._process.wait(30)
        self._file.close()

    def _line(self) -> str:
        assert self._process.stdout is not None
        return self._process.stdout.readline().strip()


class Stage:
    """A simulator, owners whose bots should run, and a nursery."""

    def __init__(
        self,
        folder: Path,
        *,
        owners: int = 1,
        by_hand: bool = False,
        host_environment: Mapping[str, str] | None = None,
    ) -> None:
        """With ``by_hand`` no bot looks for edges; each owner's bot for trades by hand runs, with real orders."""
        state = folder / "exchanges"
        state.mkdir()
        self.simulator = Simulator("--state", str(state), *SIMULATOR_OPTIONS)
        self.owners: list[User] = []
        self.keys: dict[int, tuple[str, str]] = {}  # by account: simulated exchange, API key
        try:
            self._seed(owners, by_hand=by_hand)
            self.nursery = Nursery(folder / "hosts.log", host_environment)
        except BaseException:
            self.simulator.stop()
            raise

    def __enter__(self) -> Stage:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.nursery.close()
        self.simulator.stop()

    def _seed(self, owners: int, *, by_hand: bool) -> None:
        installation_get()
        exchanges = []
        for name in NAMES:
            spec = spec_of(self.simulator, name)
            exchange = exchange_create(
                actor=None, code=spec.code, name=name, ccxt_id=name, environment="simulated",
                urls={kind: _origin(url) for kind, url in spec.urls.items()},
            )  # fmt: skip
            markets_sync(exchange=exchange, markets=asyncio.run(load_markets(spec)))
            exchanges.append(exchange)
        pairs: list[TradingPair] = pairs_across(exchanges)
        for number in range(owners):
            owner = User.objects.create_user(f"crash-{number}")
            accounts = [self._account(owner, exchange) for exchange in exchanges]
            bot = bot_create(
                owner=owner, actor=None, name="crash", pairs=pairs, accounts=accounts, mode=Bot.Mode.LIVE,
                min_net_edge_bps="0.5", max_trade_notional="500", max_open_trades=5, cooldown_ms=0,
            )  # fmt: skip
            bot_start(bot=manual_bot(owner=owner, mode=Bot.Mode.LIVE) if by_hand else bot, actor=None)
            self.owners.append(owner)

    def _account(self, owner: User, exchange: Any) -> ExchangeAccount:
        name = exchange.code.removesuffix(SUFFIX)
        keys = self.simulator.account(name, balances=BALANCES)
        credentials = Credentials(api_key=keys.api_key, secret=keys.secret, passphrase=keys.passphrase)
        account = account_create(owner=owner, actor=None, exchange=exchange, label="crash", credentials=credentials)
        self.keys[account.pk] = (name, keys.api_key)
        return account

    # -- what there is to see -------------------------------------------------------------------------------------

    def arrived(self, least_token: int = 0) -> int:
        """Return how many orders have been committed under this lease token or a later one."""
        return Order.objects.filter(lease_token__gte=least_token).count()

    def tokens(self) -> dict[int, int]:
        return dict(OwnerLease.objects.values_list("owner_id", "token"))

    def freeze(self) -> None:
        """Let prices stand still, so that no bot finds anything more."""
        for name in NAMES:
            for symbol in ("BTC/USDT", "ETH/USDT", "SOL/USDT"):
                self.simulator.call("POST", "/market", {"exchange": name, "symbol": symbol, "frozen": True})

    def stop_bots(self) -> None:
        """Let no engine open another trade, as an operator would who needs peace."""
        Bot.objects.update(desired_state=Bot.Desired.STOPPED)


def host_environment() -> dict[str, str]:
    """Return the environment in which a process works on this connection's database with this run's secrets."""
    environment = {key: value for key, value in os.environ.items() if key not in {"DJANGO_SETTINGS_MODULE"}}
    # Hints are not what is looked at; without them everything has to be found in the database.
    for name in ("REDIS_URL", "CELERY_BROKER_URL"):
        environment.pop(name, None)
    return environment | {
        "DJANGO_SETTINGS_MODULE": "arbplatform.settings",
        "ARB_DOTENV": "",
        "ARB_STATE_DIR": str(settings.ARB_STATE_DIR),
        "DATABASE_URL": database_url(),
        "ARB_LOG_LEVEL": "INFO",
    }


def database_url(host: str = "", port: int = 0) -> str:
    """Return the URL of this connection's database; PostgreSQL's by way of another address if one is given."""
    name = str(connection.settings_dict["NAME"])
    if connection.vendor == "sqlite":
        return f"sqlite:///{name}"
    parts = urlsplit(settings.DATABASE_URL)
    if host:
        user = parts.username or str(connection.settings_dict["USER"]) or os.environ.get("USER", "root")
        password = f":{quote(parts.password)}" if parts.password else ""
        return urlunsplit((parts.scheme, f"{quote(user)}{password}@{host}:{port}", f"/{name}", "", ""))
    # An empty host (a socket in the file system) is written with three slashes, which urlunsplit leaves out.
    return f"{parts.scheme}://{parts.netloc}/{name}{'?' + parts.query if parts.query else ''}"


def _origin(url: str) -> str:
    parts = urlsplit(url)
    return f"{parts.scheme}://{parts.netloc}"


def until(condition: Callable[[], object], what: str, seconds: float = WAIT_SECONDS) -> float:
    """Wait for a condition; return how long it took. Raises AssertionError naming what did not come."""
    began = time.monotonic()
    while not condition():
        if time.monotonic() - began > seconds:
            raise AssertionError(f"{what}: not within {seconds:.0f} s")
        time.sleep(0.02)
    return time.monotonic() - began


def _is_alive(pid: int) -> bool:
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    try:
        state = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0]
    except OSError:  # no /proc here, or gone meanwhile
        return True
    return state != "Z"
