"""The demo: simulated exchanges, users with bots, and the whole platform around them, on data of its own."""

from __future__ import annotations

import asyncio
import secrets
import shutil
import sys
import time
from collections.abc import Mapping
from decimal import Decimal
from pathlib import Path
from typing import Any

import msgspec
from django.conf import settings
from django.core.management import call_command

from arbplatform.memory import tree_megabytes
from arbplatform.parts import WebServer
from arbplatform.runall import Runner
from arbplatform.simulator import Simulator
from arbplatform.start import ROLES, end_old_leases, only_one, parts_for
from bots import selectors
from bots.services.demo import DemoExchange, DemoUser, demo_accounts, demo_seed
from bots.services.markets import KINDS, SPOT
from trading.config import Credentials, ExchangeSpec
from trading.exchanges.markets import load_markets
from trading.execution.views import plain
from trading.messages import TradeMode

NAMES = {
    "binance": "Binance (simulated)",
    "okx": "OKX (simulated)",
    "bybit": "Bybit (simulated)",
    "binanceusdm": "Binance USD-M futures (simulated)",
}
DATABASE_FILES = ("arb.sqlite3", "arb.sqlite3-wal", "arb.sqlite3-shm")
EXCHANGES_FOLDER = "exchanges"
SUFFIX = "-sim"
# What every bot finds on every exchange.
BALANCES = {"USDT": "250000", "USDC": "50000", "BTC": "3", "ETH": "60", "SOL": "1200"}
# No bot trades contracts: what is there is for trades by hand with leverage.
CONTRACT_BALANCES = {"USDT": "50000"}
TAKER_BPS, MAKER_BPS = Decimal(4), Decimal(2)
RESTARTS = 3
MEMORY_EVERY_SECONDS = 2.0


class Demo:
    """One run of the demo."""

    def __init__(self, *, host: str, port: int, quiet: bool) -> None:
        """``quiet`` keeps standard output for the result: everything else goes to standard error."""
        self._host, self._port = host, port
        self._say_to = sys.stderr if quiet else sys.stdout
        self._state: Path = settings.ARB_STATE_DIR
        self._simulator = Simulator(self._state / EXCHANGES_FOLDER, options=simulator_options())
        self._restarts = 0
        self._memory: float | None = None
        self._measured_at = 0.0

    def run(self, *, seconds: float | None, fresh: bool) -> tuple[int, dict[str, Any]]:
        """Run until a signal or for ``seconds``; return the exit code and what came of it."""
        with only_one(self._state):
            if fresh:
                self._forget()
            parts = parts_for(ROLES, host=self._host, port=self._port)
            web = next(part for part in parts if isinstance(part, WebServer))
            first = not (self._state / DATABASE_FILES[0]).exists()
            if first:
                self._say("Setting up the demo: database, simulated exchanges, users and bots ...")
            began = time.monotonic()
            try:
                self._simulator.start()
                call_command("migrate", interactive=False, verbosity=0)
                self._simulator.wait_ready()
                end_old_leases()
                users = seed(self._simulator)
                began = time.monotonic()
                code = Runner(parts, say=self._say).run(
                    seconds=seconds, started=lambda: self._greet(web.url, users), look=self._look
                )
            finally:
                clean = self._simulator.stop()
            if not clean:
                self._say("arb: the simulated exchanges had to be killed")
            return code, self._result(time.monotonic() - began)

    def _forget(self) -> None:
        """Begin with no data. The generated secrets stay: they open nothing that is left."""
        for name in DATABASE_FILES:
            (self._state / name).unlink(missing_ok=True)
        shutil.rmtree(self._state / EXCHANGES_FOLDER, ignore_errors=True)

    def _greet(self, url: str, users: list[DemoUser]) -> None:
        self._say(f"\n  Live page  {url}/live/\n  Admin      {url}/admin/\n")
        made = [user for user in users if user.password]
        for user in made:
            self._say(f"  Sign in as {user.username:10} password {user.password}   ({user.role})")
        if len(made) < len(users):
            known = ", ".join(user.username for user in users if not user.password)
            self._say(f"  {known}: passwords as before (--fresh starts anew and shows new ones)")
        self._say("\n  Trades appear by themselves. Ctrl-C stops everything.\n")

    def _look(self) -> str:
        """Twice a second: keep the exchanges up, measure memory."""
        now = time.monotonic()
        if now - self._measured_at >= MEMORY_EVERY_SECONDS:
            self._measured_at = now
            self._memory = max(filter(None, (self._memory, tree_megabytes())), default=None)
        if self._simulator.is_alive():
            return ""
        if self._restarts >= RESTARTS:
            return f"the simulated exchanges ended {RESTARTS + 1} times; see {self._state / EXCHANGES_FOLDER}"
        self._restarts += 1
        self._say("arb: the simulated exchanges ended; starting them again")
        self._simulator.start()
        self._simulator.wait_ready()
        return ""

    def _result(self, seconds: float) -> dict[str, Any]:
        totals = selectors.totals()
        return {
            "trades": totals.trades,
            "orders": totals.orders,
            "fills": totals.fills,
            "net_profit": _texts(totals.net_profit.get(TradeMode.SIMULATED, {})),
            "paper_profit": _texts(totals.net_profit.get(TradeMode.PAPER, {})),
            "unresolved_orders": totals.unresolved_orders,
            "seconds": round(seconds, 1),
            "memory_mb": self._memory,
        }

    def _say(self, text: str) -> None:
        print(text, file=self._say_to, flush=True)


def seed(simulator: Simulator) -> list[DemoUser]:
    """Make users, accounts and bots for the simulated exchanges where they are missing; return the users."""
    exchanges = asyncio.run(_exchanges(simulator))
    users = demo_seed(exchanges=exchanges, credentials=_new_credentials)
    for account in demo_accounts():
        name = _simulated_name(account.exchange)
        simulator.put_account(name, account.credentials, CONTRACT_BALANCES if name in KINDS else BALANCES)
    return users


async def _exchanges(simulator: Simulator) -> list[DemoExchange]:
    return list(await asyncio.gather(*(_exchange(name, urls) for name, urls in simulator.urls.items())))


async def _exchange(name: str, urls: Mapping[str, str]) -> DemoExchange:
    spec = ExchangeSpec(code=f"{name}{SUFFIX}", ccxt_id=name, environment="simulated", urls=urls)
    # Exchanges tell a customer's fees in private answers, which not all of them have: we set these, so we know.
    markets = [
        msgspec.structs.replace(market, taker_fee=TAKER_BPS / 10_000, maker_fee=MAKER_BPS / 10_000)
        for market in await load_markets(spec, kinds=KINDS.get(name, SPOT))
    ]
    return DemoExchange(spec.code, NAMES.get(name, name), name, dict(spec.urls), markets)


def simulator_options() -> tuple[str, ...]:
    """Return what the simulated exchanges are started with, to go with what is seeded."""
    return ("--exchanges", ",".join(NAMES), "--taker-bps", str(TAKER_BPS), "--maker-bps", str(MAKER_BPS))


def summary(result: dict[str, Any]) -> str:
    """Return a result as one readable line."""
    return (
        f"{result['trades']} trades, {result['orders']} orders, {result['fills']} fills, "
        f"net profit {_words(result['net_profit'])} (on paper {_words(result['paper_profit'])}), "
        f"{result['unresolved_orders']} unresolved orders, {result['seconds']} s, {result['memory_mb']} MB"
    )


def _texts(profits: Mapping[str, Decimal]) -> dict[str, str]:
    return {quote: plain(total) for quote, total in profits.items()}


def _words(profits: Mapping[str, str]) -> str:
    return ", ".join(f"{amount} {quote}" for quote, amount in profits.items()) or "none yet"


def _new_credentials(exchange: str, username: str) -> Credentials:
    passphrase = secrets.token_urlsafe(12) if _simulated_name(exchange) == "okx" else ""  # the one that asks for it
    return Credentials(api_key=secrets.token_hex(16), secret=secrets.token_hex(32), passphrase=passphrase)


def _simulated_name(code: str) -> str:
    return code.removesuffix(SUFFIX)
