"""The server of the stream benchmark: the platform's web server, and a publisher as an engine host has it.

Started by bench.stream in a process of its own, on an empty database of its own: beside that of DATABASE_URL, else
SQLite. Pages hear through Redis where REDIS_URL is set, else in memory; no broker is used. Prints one line of JSON with
its port and the clients' sessions; then takes commands, a line each: ``publish SECONDS RATE`` (answers what was
published, and the process' time and memory), ``end``. When something fails it prints ``{"failed": reason}`` and ends.
"""

from __future__ import annotations

import asyncio
import atexit
import json
import os
import shutil
import signal
import sys
import tempfile
import threading
import time
import traceback
from contextlib import suppress
from typing import Any

# Before Django looks: what is written is this run's only.
os.environ["ARB_STATE_DIR"] = tempfile.mkdtemp(prefix="arb-bench-stream-")
atexit.register(shutil.rmtree, os.environ["ARB_STATE_DIR"], ignore_errors=True)
os.environ["ARB_DOTENV"] = ""
os.environ["CELERY_BROKER_URL"] = "memory://localhost/"
os.environ["DJANGO_SETTINGS_MODULE"] = "arbplatform.settings"
os.environ["ARB_LOG_LEVEL"] = "ERROR"
os.environ["ARB_REDIS_PREFIX"] = f"arb-bench-{os.getpid()}"

import django  # noqa: E402

django.setup()

from django.conf import settings  # noqa: E402
from django.contrib.auth import get_user_model  # noqa: E402
from django.db import connection  # noqa: E402
from django.test import Client  # noqa: E402
from uvicorn import Server  # noqa: E402

from arbplatform.parts import bind, web_config  # noqa: E402
from bench.snapshot import own_database  # noqa: E402
from bots.engine_host.publisher import ChannelPublisher  # noqa: E402

MARKETS = 40
QUOTES_PER_SECOND = 10
MARK = "bench"


def sign_in(owners: int) -> list[dict[str, Any]]:
    """Make owners and return each one's id and session cookie."""
    found = []
    for number in range(owners):
        user = get_user_model().objects.create_user(f"owner{number}")
        client = Client()
        client.force_login(user)
        found.append({"owner": user.pk, "session": client.cookies[settings.SESSION_COOKIE_NAME].value})
    return found


class Engines(threading.Thread):
    """Owners' engines as far as pages see them: a loop of its own with one publisher, as a host has it."""

    def __init__(self, owners: list[int]) -> None:
        super().__init__(name="engines", daemon=True)
        self._owners = owners
        self._loop = asyncio.new_event_loop()
        self._number = 0
        self.publisher: ChannelPublisher | None = None

    def run(self) -> None:
        asyncio.set_event_loop(self._loop)
        self._loop.run_until_complete(self._serve())

    async def _serve(self) -> None:
        self.publisher = ChannelPublisher(stream="bench")
        await asyncio.gather(self.publisher.run(), self._market())

    async def _market(self) -> None:
        """Quotes and health, as they come beside what is measured."""
        tick = 0
        while True:
            tick += 1
            for market in range(MARKETS):
                self._quote(market, 100.0 + tick % 50)
            if tick % QUOTES_PER_SECOND == 0:
                for owner in self._owners:
                    self._health(owner)
            await asyncio.sleep(1 / QUOTES_PER_SECOND)

    def publish(self, seconds: float, rate: float) -> dict[int, list[int]]:
        """Publish ``rate`` trades a second and owner; return the numbers of each owner's."""
        return asyncio.run_coroutine_threadsafe(self._publish(seconds, rate), self._loop).result()

    async def _publish(self, seconds: float, rate: float) -> dict[int, list[int]]:
        published: dict[int, list[int]] = {owner: [] for owner in self._owners}
        until = self._loop.time() + seconds
        due = self._loop.time()
        turn = 0
        while self._loop.time() < until:
            # Spread evenly: the owners' trades do not come in one burst.
            owner = self._owners[turn % len(self._owners)]
            turn += 1
            self._number += 1
            published[owner].append(self._number)
            self._trade(owner, self._number)
            due += 1 / (rate * len(self._owners))
            await asyncio.sleep(max(0.0, due - self._loop.time()))
        return published

    def _trade(self, owner: int, number: int) -> None:
        assert self.publisher is not None
        at = time.time()
        leg = {
            "attempt": 0, "exchange": "alpha", "symbol": "BTC/USDT", "price": "50000.1", "quantity": "0.01",
            "filled": "0.01", "average": "50000.1", "fee": "0.05", "fee_asset": "USDT", "state": "FILLED",
        }  # fmt: skip
        data = {
            "id": f"trade{number}", "bot_id": 1, "bot": "bench", "route": "1:alpha:BTC/USDT>beta:BTC/USDT",
            "state": "CLOSED", "mode": "paper", "quantity": "0.01", "base": "BTC", "quote": "USDT",
            "expected_bps": "5.5", "expected_profit": "0.275", "profit": "0.25", "residual": "0", "exposure": "0",
            "reason": f"{MARK}:{number}:{time.time_ns()}", "opened_at": at, "closed_at": at,
            "legs": [
                {**leg, "leg": side, "side": name, "client_order_id": f"o{number}L{side}"}
                for side, name in enumerate(("buy", "sell"))
            ],
        }  # fmt: skip
        self.publisher.publish(owner, "trade", f"trade{number}", data)

    def _quote(self, market: int, price: float) -> None:
        assert self.publisher is not None
        symbol = f"C{market}/USDT"
        data = {
            "market": f"alpha:{symbol}", "exchange": "alpha", "symbol": symbol, "bid": price, "bid_size": 1.0,
            "ask": price + 0.1, "ask_size": 1.0, "status": "live", "reason": "", "received_at": time.time(),
        }  # fmt: skip
        self.publisher.publish(None, "quote", data["market"], data)

    def _health(self, owner: int) -> None:
        assert self.publisher is not None
        data = {
            "owner_id": owner, "at": time.time(), "halted": "", "stopping": False, "lag": "", "open_trades": 0,
            "unresolved_orders": 0, "accounts": [], "stages": [],
        }  # fmt: skip
        self.publisher.publish(owner, "health", str(owner), data)


def resources() -> dict[str, float]:
    """Return this process's memory in MB and its CPU seconds so far."""
    with open("/proc/self/status", encoding="ascii") as status:
        kilobytes = next(int(line.split()[1]) for line in status if line.startswith("VmRSS"))
    return {"rss_mb": kilobytes / 1024, "cpu_s": time.process_time()}


def main() -> int:
    """Serve until told to end; return the exit code."""
    threading.excepthook = _thread_failed
    for name in (signal.SIGINT, signal.SIGTERM):  # told to end in any way, it drops its database
        signal.signal(name, signal.default_int_handler)
    if connection.vendor != "sqlite":
        connection.settings_dict["TEST"]["NAME"] = f"test_arb_bench_{os.getpid()}"
    try:
        with own_database():
            serve(int(sys.argv[1]), compress=sys.argv[2] == "compress")
    except Exception as problem:
        _tell_failure(problem)
        traceback.print_exc()
        return 1
    except KeyboardInterrupt:  # told to end, or a thread failed and has told why
        return 1
    return 0


def serve(owners: int, *, compress: bool) -> None:
    """Serve until told to end."""
    sessions = sign_in(owners)
    config = web_config(compress=compress)
    config.load()  # here, where what is wrong with the settings ends the process
    listening = bind("127.0.0.1", 0)
    server = Server(config)
    serving = threading.Thread(target=server.run, kwargs={"sockets": [listening]}, daemon=True)
    serving.start()
    while not server.started:
        if not serving.is_alive():
            raise RuntimeError("the web server did not start; the lines above say why")
        time.sleep(0.05)
    engines = Engines([one["owner"] for one in sessions])
    engines.start()
    _tell(
        {"port": listening.getsockname()[1], "sessions": sessions, "layer": layer_name(), "database": connection.vendor}
    )
    for line in sys.stdin:
        command, *values = line.split()
        if command == "end":
            break
        before = resources()
        published = engines.publish(*map(float, values))
        _tell({"published": published, "before": before, "after": resources()})
    server.should_exit = True
    serving.join(10)


def _tell(told: dict[str, Any]) -> None:
    print(json.dumps(told), flush=True)


def _tell_failure(problem: BaseException | None) -> None:
    with suppress(BrokenPipeError):  # nobody is left to be told
        _tell({"failed": f"{type(problem).__name__}: {problem}"})


def _thread_failed(failure: threading.ExceptHookArgs) -> None:
    """End the process, which waits for a command, with the reason."""
    _tell_failure(failure.exc_value)
    threading.__excepthook__(failure)
    os.kill(os.getpid(), signal.SIGINT)


def layer_name() -> str:
    return "redis" if settings.REDIS_URL else "in memory"


if __name__ == "__main__":
    code = main()
    # Its threads are at work to the last; the interpreter's own end would take from under them what they use.
    shutil.rmtree(os.environ["ARB_STATE_DIR"], ignore_errors=True)
    os._exit(code)
