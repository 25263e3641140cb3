"""From the click to a trade by hand that stands with its take-profit and stop-loss: the whole way of a request.

The platform's own web server and an engine host, each on its thread as in an embedded installation, with the configured
kind of database, in one of its own; the simulated exchange is a process of its own and takes LATENCY_MS for each
request, half of it on the way there, half on the way back. A round is one ``POST /api/manual-trade`` as the panel sends
it, on Binance spot (whose pair of protective orders is one request) or on USD-M futures (two requests at once), with
leverage. It is closed by ``POST /api/manual-trade/close`` before the next.

``click_to_accepted`` ends with the answer to the request, ``click_to_entry_sent`` when the venue is asked for the
entry, ``entry`` is from there to the exchange's answer, ``protection`` from that to its answers for take-profit and
stop-loss (0 if it had given them before: on USD-M futures they leave beside the entry), ``total`` ends with the last.
Milliseconds of wall time. The target is two of the exchange's round trips and OVERHEAD_MS.
"""

from __future__ import annotations

import asyncio
import contextlib
import http.client
import json
import threading
import time
from collections.abc import Callable, Iterator, Mapping
from itertools import count
from statistics import median
from typing import TYPE_CHECKING, Any
from urllib.parse import urlsplit

import uvloop
from django.contrib.auth import get_user_model
from django.db import connection
from django.test import override_settings

from arbplatform.parts import WebServer
from bench.snapshot import own_database
from bots.engine_host.database import DatabaseThreads
from bots.engine_host.host import EngineHost
from bots.models import Bot, Command, Trade
from bots.services.accounts import account_create
from bots.services.api_tokens import api_token_create
from bots.services.exchanges import exchange_create, markets_sync
from bots.services.installation import installation_get
from bots.services.margins import margins_refresh
from bots.services.tickets import manual_bot
from trading.config import Credentials, ExchangeSpec
from trading.exchanges.generic.venue import CcxtVenue
from trading.exchanges.markets import load_markets
from trading.messages import OrderIntent, Outcome, PlaceResult

if TYPE_CHECKING:
    from tests.exchangesim.simulator import Simulator

ROUNDS = 20
WARM_UP = 2
LATENCY_MS = 50.0
OVERHEAD_MS = 20.0
ROUND_TRIPS = 2
START_SECONDS = 90.0
ROUND_SECONDS = 15.0
LOOK_SECONDS = 0.05
BREATH_SECONDS = 0.1
ENTRY_PRICES = ("50000", "50001")
CLOSING_PRICES = ("50400", "50401")  # beyond the fees of both, short of the take-profit
TAKE_PROFIT, STOP_LOSS = "51000", "49000"
STAGES = ("click_to_accepted", "click_to_entry_sent", "entry", "protection", "total")
# What is traded, by the exchange's name: the symbol, the side and what the panel adds.
MARKETS: Mapping[str, tuple[str, str, Mapping[str, Any]]] = {
    "binance": ("BTC/USDT", "buy", {}),
    "binanceusdm": ("BTC/USDT:USDT", "long", {"leverage": 5}),
}
BALANCES = {"binance": {"USDT": "1000000", "BTC": "10"}, "binanceusdm": {"USDT": "1000000"}}
MEMORY_LAYER = {"default": {"BACKEND": "arbplatform.channel_layers.LoopSafeInMemoryChannelLayer"}}
Moments = dict[str, int]
_numbers = count(1)


class Watch:
    """When the venue was asked for each kind of order and when it had the answer; it changes nothing."""

    def __init__(self) -> None:
        self.moments: Moments = {}
        self.standing = threading.Event()

    def clear(self) -> None:
        self.moments, self.standing = {}, threading.Event()

    def _look(self) -> None:
        if {"entry_answered", "protected"} <= self.moments.keys():
            self.standing.set()

    @contextlib.contextmanager
    def watching(self) -> Iterator[None]:
        place, protect = CcxtVenue.place, CcxtVenue.protect

        async def placing(venue: CcxtVenue, intent: OrderIntent) -> PlaceResult:
            self.moments.setdefault("entry_sent", time.monotonic_ns())
            result = await place(venue, intent)
            if result.outcome is Outcome.PLACED:
                self.moments.setdefault("entry_answered", time.monotonic_ns())
                self._look()
            return result

        async def protecting(
            venue: CcxtVenue, take_profit: OrderIntent | None, stop_loss: OrderIntent | None
        ) -> tuple[PlaceResult, ...]:
            results = await protect(venue, take_profit, stop_loss)
            if len(results) == 2 and all(one.outcome is Outcome.PLACED for one in results):
                self.moments.setdefault("protected", time.monotonic_ns())
                self._look()
            return results

        setattr(CcxtVenue, "place", placing)  # noqa: B010 (mypy would have it that methods are not assigned)
        setattr(CcxtVenue, "protect", protecting)  # noqa: B010
        try:
            yield
        finally:
            setattr(CcxtVenue, "place", place)  # noqa: B010
            setattr(CcxtVenue, "protect", protect)  # noqa: B010


class Panel:
    """Who clicks: a connection to the web server that stands before, as a browser's does."""

    def __init__(self, port: int, token: str) -> None:
        self._connection = http.client.HTTPConnection("127.0.0.1", port, timeout=ROUND_SECONDS)
        self._headers = {"Authorization": f"Bearer {token}", "Content-Type": "application/json"}

    def open(self) -> None:
        """Connect anew: the server ends connections that were idle for seconds."""
        self._connection.close()
        self._connection.connect()

    def post(self, path: str, data: Mapping[str, Any]) -> dict[str, Any]:
        """Return the answer to what was accepted; raise RuntimeError for anything else."""
        headers = {**self._headers, "Idempotency-Key": f"bench-{next(_numbers)}"}
        self._connection.request("POST", path, json.dumps(data), headers)
        answer = self._connection.getresponse()
        body = answer.read()
        if answer.status != 202:
            raise RuntimeError(f"{path}: {answer.status} {body[:300].decode(errors='replace')}")
        return dict(json.loads(body))

    def close(self) -> None:
        self._connection.close()


class Desk:
    """An owner with an account on each exchange and a started bot for trades by hand."""

    def __init__(self, simulator: Simulator) -> None:
        installation_get()
        owner = get_user_model().objects.create_user("bench")
        self.accounts: dict[str, int] = {}
        for name in MARKETS:
            urls = {"rest": _origin(simulator.rest[name]), "ws": _origin(simulator.ws[name])}
            spec = ExchangeSpec(code=f"{name}-sim", ccxt_id=name, environment="simulated", urls=urls)
            exchange = exchange_create(
                actor=None, code=spec.code, name=name, ccxt_id=name, environment=spec.environment, urls=urls
            )
            kinds = frozenset({"linear"}) if name == "binanceusdm" else frozenset({"spot"})
            markets_sync(exchange=exchange, markets=asyncio.run(load_markets(spec, kinds=kinds)))
            keys = simulator.account(name, balances=BALANCES[name])
            credentials = Credentials(api_key=keys.api_key, secret=keys.secret)
            account = account_create(owner=owner, actor=None, exchange=exchange, label="bench", credentials=credentials)
            self.accounts[name] = account.pk
            margins_refresh(exchange=exchange)  # a leverage is allowed by the tiers of its contract
        bot = manual_bot(owner=owner, mode="live")
        # Not by its service: that calls the workers, which have nothing to do with this database.
        Bot.objects.filter(pk=bot.pk).update(desired_state=Bot.Desired.RUNNING)
        _, self.token = api_token_create(owner=owner, actor=None, name="bench")


def _origin(url: str) -> str:
    parts = urlsplit(url)
    return f"{parts.scheme}://{parts.netloc}"


class Prices:
    """The exchange's best prices, and books that move behind them: a feed needs changes to know that it follows."""

    def __init__(self, simulator: Simulator) -> None:
        self._simulator = simulator
        self._best = ENTRY_PRICES

    async def run(self) -> None:
        size = 0
        while True:
            size = size % 9 + 1
            bid, ask = self._best
            for name, (symbol, _, _) in MARKETS.items():
                await asyncio.to_thread(
                    self._simulator.set_book, name, symbol, bids=[(bid, "5"), ("40000", f"{size}")],
                    asks=[(ask, "5"), ("80000", f"{size}")],
                )  # fmt: skip
            await asyncio.sleep(BREATH_SECONDS)

    async def become(self, prices: tuple[str, str]) -> None:
        """Move the market, and wait until everybody has seen it."""
        self._best = prices
        await asyncio.sleep(5 * BREATH_SECONDS)


class Rounds:
    """Trades one after the other, each at a profit: a row of losses would trip a breaker."""

    def __init__(self, desk: Desk, panel: Panel, watch: Watch, threads: DatabaseThreads, prices: Prices) -> None:
        self._prices = prices
        self._desk = desk
        self._panel = panel
        self._watch = watch
        self._threads = threads

    async def first(self, name: str, hosting: asyncio.Task[None]) -> None:
        """Trade once the engine is ready to."""
        until = time.monotonic() + START_SECONDS
        while True:
            if hosting.done():
                raise RuntimeError("the host ended before it traded")
            try:
                await self.trade(name)
                return
            except RuntimeError:
                if time.monotonic() > until:
                    raise
                await asyncio.sleep(1.0)

    async def trade(self, name: str) -> dict[str, float]:
        """Click, wait until it stands protected, close it; return milliseconds by stage."""
        symbol, side, more = MARKETS[name]
        data = {
            "mode": "live", "account_id": self._desk.accounts[name], "symbol": symbol, "side": side, "amount": "0.01",
            "order": "market", "take_profit": TAKE_PROFIT, "stop_loss": STOP_LOSS, **more,
        }  # fmt: skip
        watch = self._watch
        await self._prices.become(ENTRY_PRICES)
        watch.clear()
        await asyncio.to_thread(self._panel.open)
        clicked = time.monotonic_ns()
        command = await asyncio.to_thread(self._panel.post, "/api/manual-trade", data)
        accepted = time.monotonic_ns()
        if not await asyncio.to_thread(watch.standing.wait, ROUND_SECONDS):
            told = await self._threads.run(lambda: _answer(command["command_id"]))
            raise RuntimeError(
                f"{name}: not protected within {ROUND_SECONDS:.0f} s: {told}; seen {sorted(watch.moments)}"
            )
        seen = dict(watch.moments)
        trade_id = await self._until(_held_trade, command["command_id"])
        await self._prices.become(CLOSING_PRICES)
        await asyncio.to_thread(self._panel.open)
        await asyncio.to_thread(self._panel.post, "/api/manual-trade/close", {"trade_id": trade_id, "order": "market"})
        await self._until(_is_closed, trade_id)
        parts = {
            "click_to_accepted": accepted - clicked,
            "click_to_entry_sent": seen["entry_sent"] - clicked,
            "entry": seen["entry_answered"] - seen["entry_sent"],
            "protection": max(seen["protected"] - seen["entry_answered"], 0),
            "total": max(seen["protected"], seen["entry_answered"]) - clicked,
        }
        return {stage: ns / 1e6 for stage, ns in parts.items()}

    async def _until(self, read: Callable[..., Any], *arguments: object) -> Any:
        async with asyncio.timeout(ROUND_SECONDS):
            while not (found := await self._threads.run(lambda: read(*arguments))):  # noqa: ASYNC110 (a database)
                await asyncio.sleep(LOOK_SECONDS)
        return found


def _answer(command_id: int) -> str:
    command = Command.objects.get(pk=command_id)
    return f"{command.status} {command.result}"


def _held_trade(command_id: int) -> str:
    found = Trade.objects.filter(ticket__command_id=command_id, state="HOLDING").values_list("trade_id", flat=True)
    return found.first() or ""


def _is_closed(trade_id: str) -> bool:
    return Trade.objects.filter(trade_id=trade_id, state="CLOSED").exists()


async def _host_and_trade(
    simulator: Simulator, prices: Prices, rounds: Rounds, watch: Watch, times: int
) -> dict[str, list[dict[str, float]]]:
    host = EngineHost()
    with watch.watching():
        hosting = asyncio.create_task(host.run())
        breathing = asyncio.create_task(prices.run())
        try:
            for name in MARKETS:
                await rounds.first(name, hosting)
            half = LATENCY_MS / 2
            for name in MARKETS:
                await asyncio.to_thread(simulator.latency, name, request_ms=half, response_ms=half, event_ms=half)
            found: dict[str, list[dict[str, float]]] = {name: [] for name in MARKETS}
            for number in range(WARM_UP + times):
                for name in MARKETS:
                    stages = await rounds.trade(name)
                    if number >= WARM_UP:
                        found[name].append(stages)
            return found
        finally:
            breathing.cancel()
            host.request_stop()
            await asyncio.gather(hosting, breathing, return_exceptions=True)


def measure(*, rounds: int = ROUNDS) -> dict[str, Any]:
    """Measure on the present database, which must be empty; durations are milliseconds."""
    try:
        from tests.exchangesim.simulator import running_simulator  # noqa: PLC0415 (needs the tests' packages)
    except ImportError as problem:
        raise SystemExit(f"arb: this benchmark needs the tests' packages ({problem}): ./arb test --help") from None
    with (
        override_settings(REDIS_URL="", CHANNEL_LAYERS=MEMORY_LAYER, ALLOWED_HOSTS=["127.0.0.1"]),
        running_simulator("--exchanges", ",".join(MARKETS), "--no-limits") as simulator,
        contextlib.ExitStack() as stack,
    ):
        for name, (symbol, _, _) in MARKETS.items():
            if ":" in symbol:  # contracts are kept to prices near the mark
                simulator.set_mark(name, symbol, ENTRY_PRICES[0])
        desk = Desk(simulator)
        server = WebServer("127.0.0.1", 0)
        server.start()
        stack.callback(server.join, ROUND_SECONDS)
        stack.callback(server.request_stop)
        panel, threads, watch = Panel(server.port, desk.token), DatabaseThreads("bench"), Watch()
        stack.callback(threads.close)
        stack.callback(panel.close)
        with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
            prices = Prices(simulator)
            driver = Rounds(desk, panel, watch, threads, prices)
            found = runner.run(_host_and_trade(simulator, prices, driver, watch, rounds))
    target = ROUND_TRIPS * LATENCY_MS + OVERHEAD_MS
    figures = {
        name: {stage: round(median(one[stage] for one in trades), 1) for stage in STAGES}
        for name, trades in found.items()
    }
    return {
        "database": connection.vendor,
        "rounds": rounds,
        "latency_ms": LATENCY_MS,
        "target_ms": target,
        "p50_ms": figures,
        "worst_total_ms": {name: round(max(one["total"] for one in trades), 1) for name, trades in found.items()},
        "met": {name: one["total"] <= target for name, one in figures.items()},
    }


def run(work: Callable[[], dict[str, Any]] = measure) -> dict[str, Any]:
    """Measure in a database of its own."""
    with own_database():
        return work()


def table(result: Mapping[str, Any]) -> str:
    """Return the result as the Markdown table of docs/execution.md."""
    rows = [
        f"Click to entry, take-profit and stop-loss acknowledged, medians of {result['rounds']} trades on "
        f"{result['database']}, the exchange {result['latency_ms']:g} ms away (there and back), milliseconds.",
        "",
        "| market | " + " | ".join(stage.replace("_", " ") for stage in STAGES) + " | worst |",
        "|---|" + "---:|" * (len(STAGES) + 1),
    ]
    for name, one in result["p50_ms"].items():
        figures = [*(one[stage] for stage in STAGES), result["worst_total_ms"][name]]
        rows.append(f"| {name} | " + " | ".join(f"{figure:.1f}" for figure in figures) + " |")
    words = ", ".join(f"{name} {'met' if met else 'missed'}" for name, met in result["met"].items())
    rows += ["", f"Target, {ROUND_TRIPS} round trips and {OVERHEAD_MS:g} ms, {result['target_ms']:g}: {words}."]
    return "\n".join(rows)
