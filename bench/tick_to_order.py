"""From a market frame to both orders on their sockets: the whole way of a trade through a running engine host.

A host of this process (``EngineHost``, on uvloop as hosts are) works for one bot on two simulated exchanges, which are
a process of their own, with the configured kind of database, in one of its own. Nothing of the way is left out or
replaced: feed, book, hub, detector, gate, the durable intent of both orders, venue, order WebSocket. The market that
is traded is frozen; each round moves one price so that one trade pays, on the one exchange and the other in turn, and
waits until it has settled. Market data comes ``MARKET_MS`` late, so that the call that moved the price is over then.
A market whose price jumps by a hundredth twice a second would rightly be expected to drift by more than that is worth:
``drift_sigmas`` is set to nothing, and all else of the rating is as it comes.

Rounds take turns: in ``still`` ones nothing else moves, and for half a second before the frame the process has done
nothing; in ``moving`` ones a second market, which another bot of the same owner watches, is quoted anew
``1 / QUOTE_SECONDS`` times a second on each exchange, book and best price. BTC/USDT had some 120 messages a second on
one exchange in a recorded quiet evening (../shared/data), so the second is what an engine at work is like.

``frame_to_detected`` begins where the connection is handed the frame of the book that made the opportunity, before it
is decoded; ``detected_to_decided`` is the gate, the plan and the reservations; ``decided_to_committed`` the commit and
the ways to the database and back, and what is done meanwhile; ``committed_to_written`` ends when the later of the two
orders has been handed to the system. ``total`` is all of it. Milliseconds of wall time, of each trade; the means of the
stages add up to the total's, medians need not.
"""

from __future__ import annotations

import asyncio
import contextlib
import time
from collections import Counter, deque
from collections.abc import Awaitable, Callable, Iterator, Mapping, Sequence
from decimal import Decimal
from itertools import pairwise
from statistics import fmean, median, quantiles
from typing import TYPE_CHECKING, Any
from urllib.parse import urlsplit

import uvloop
from django.contrib.auth import get_user_model
from django.db import connection
from django.test import override_settings

from bench.snapshot import own_database
from bots.engine_host.host import EngineHost
from bots.models import Bot, Decision
from bots.services.accounts import account_create
from bots.services.bots import bot_create
from bots.services.demo import pairs_across
from bots.services.exchanges import exchange_create, markets_sync
from bots.services.installation import installation_get
from risk.models import SlippageSettings
from risk.services.rating_settings import settings_ensure, slippage_update
from trading.config import Credentials, ExchangeSpec
from trading.exchanges.connection import Connection
from trading.exchanges.markets import load_markets
from trading.execution.bots import RunningBot
from trading.execution.gate import Passed, Refusal
from trading.execution.opening import Opening
from trading.execution.saga import Saga

if TYPE_CHECKING:
    from tests.exchangesim.simulator import Simulator

ROUNDS = 100
WARM_UP = 10
TARGET_MS = 2.0
STAGES = ("frame_to_detected", "detected_to_decided", "decided_to_committed", "committed_to_written")

EXCHANGES = ("binance", "okx")
SYMBOL, OTHER = "BTC/USDT", "ETH/USDT"
QUOTE_SECONDS = 0.02
CONDITIONS = ("moving", "still")
BALANCES = {"USDT": "10000000", "BTC": "200"}
SIMULATOR_OPTIONS = (
    "--symbols", f"{SYMBOL},{OTHER}", "--interval", str(QUOTE_SECONDS), "--taker-bps", "0", "--maker-bps", "0",
    "--no-limits",
)  # fmt: skip
MARKET_MS = 20
BID, ASK = "50000", "50001"
# A hundred basis points above the other's asks, and deep.
PAYING_BID, PAYING_ASK = "50500", "50501"
DEPTH = "5"

START_SECONDS = 90.0  # until the first trade; the host compiles, connects and compares balances before
ROUND_SECONDS = 1.5
MISSES_ALLOWED = 60
LOOK_SECONDS = 0.005
COOLDOWN_MS = 400  # a price pays once: prices are level again before its route has rested
PAUSE_SECONDS = 0.25  # and the route has rested before it pays again
MEMORY_LAYER = {"default": {"BACKEND": "arbplatform.channel_layers.LoopSafeInMemoryChannelLayer"}}


class Watch:
    """Notes when each thing happened to the trade under way; it changes nothing."""

    def __init__(self) -> None:
        self.settled: asyncio.Queue[tuple[dict[str, float], bool]] = asyncio.Queue()
        self._found: tuple[int, int] = (0, 0)  # frame and detection, monotonic
        self._writes: deque[tuple[int, bytes]] = deque(maxlen=100)

    @contextlib.contextmanager
    def watching(self) -> Iterator[None]:
        """Look at what the engine's parts are called with."""
        opening, sending, writing = Opening.open, Saga.send_and_settle, Connection.send_now

        def open_trade(parts: Opening, bot: RunningBot, passed: Passed) -> Refusal | None:
            found = passed.plan.opportunity
            desk = parts._desk
            states = [desk.market_state(desk.markets[leg.market]) for leg in (found.buy, found.sell)]
            # Wall time, as frames have it; the opportunity says its moment in both.
            frame_ns = max(state.received_ns for state in states if state is not None)
            detected_ns = found.detected_monotonic_ns
            self._found = (detected_ns - (found.detected_ns - frame_ns), detected_ns)
            return opening(parts, bot, passed)

        async def send_and_settle(saga: Saga, decided_ns: int, committed_ns: int, on_left: Callable[[], None]) -> None:
            moments = (*self._found, decided_ns, committed_ns)
            ids = [name.encode() for name in saga.orders]
            await sending(saga, decided_ns, committed_ns, on_left)
            self.settled.put_nowait(self._stages(moments, ids))

        def send_now(line: Connection, messages: Sequence[bytes]) -> bool:
            written = writing(line, messages)
            self._writes.append((time.monotonic_ns(), b"".join(messages)))
            return written

        patches: tuple[tuple[type, str, Callable[..., Any], Callable[..., Any]], ...] = (
            (Opening, "open", open_trade, opening),
            (Saga, "send_and_settle", send_and_settle, sending),
            (Connection, "send_now", send_now, writing),
        )
        for owner, name, noting, _ in patches:
            setattr(owner, name, noting)
        try:
            yield
        finally:
            for owner, name, _, original in patches:
                setattr(owner, name, original)

    def _stages(self, moments: tuple[int, ...], ids: Sequence[bytes]) -> tuple[dict[str, float], bool]:
        """Return milliseconds by stage, and whether both orders left by WebSocket."""
        written = [at for name in ids for at, messages in self._writes if name in messages]
        if len(written) != len(ids):
            return {}, False
        moments = (*moments, max(written))
        parts = [(after - before) / 1e6 for before, after in pairwise(moments)]
        return {**dict(zip(STAGES, parts, strict=True)), "total": sum(parts)}, True


def _seed(simulator: Simulator) -> None:
    """Make an owner with a bot that wants to run."""
    installation_get()
    users = get_user_model().objects
    owner = users.create_user("bench")
    slippage_update(
        actor=users.create_superuser("bench-operator"),
        values={"drift_sigmas": Decimal(0)},
        seen_version=settings_ensure(SlippageSettings).version,
    )
    exchanges, accounts = [], []
    for name in EXCHANGES:
        urls = {"rest": _origin(simulator.rest[name]), "ws": _origin(simulator.ws[name])}
        spec = ExchangeSpec(code=_code(name), ccxt_id=name, environment="simulated", urls=urls)
        exchange = exchange_create(
            actor=None, code=spec.code, name=name, ccxt_id=name, environment=spec.environment, urls=urls
        )
        markets_sync(exchange=exchange, markets=asyncio.run(load_markets(spec)))
        keys = simulator.account(name, balances=BALANCES)
        credentials = Credentials(api_key=keys.api_key, secret=keys.secret, passphrase=keys.passphrase)
        exchanges.append(exchange)
        accounts.append(
            account_create(owner=owner, actor=None, exchange=exchange, label="bench", credentials=credentials)
        )
    pairs = {str(pair.base): pair for pair in pairs_across(exchanges)}
    for symbol, edge in ((SYMBOL, "5"), (OTHER, "199")):
        bot_create(
            owner=owner, actor=None, name=symbol, pairs=[pairs[symbol.partition("/")[0]]], accounts=accounts,
            mode=Bot.Mode.LIVE, min_net_edge_bps=edge, max_trade_notional="1000", max_open_trades=5,
            cooldown_ms=COOLDOWN_MS,
        )  # fmt: skip
    # Not by their service: that calls the workers, which have nothing to do with this database.
    Bot.objects.update(desired_state=Bot.Desired.RUNNING)


def _origin(url: str) -> str:
    parts = urlsplit(url)
    return f"{parts.scheme}://{parts.netloc}"


def _code(name: str) -> str:
    return f"{name}-sim"


class Rounds:
    """Moves prices and collects what came of it."""

    def __init__(self, simulator: Simulator, host: EngineHost, watch: Watch) -> None:
        self._simulator = simulator
        self._host = host
        self._watch = watch
        self._number = 0
        self.missed = 0

    async def run(self, rounds: int, warm_up: int, hosting: asyncio.Task[None]) -> dict[str, list[dict[str, float]]]:
        """Return the stages of as many trades under each condition. Raises RuntimeError when the engine does not trade
        as it should."""
        for name in EXCHANGES:
            await asyncio.to_thread(self._simulator.latency, name, market_ms=MARKET_MS)
        until = time.monotonic() + START_SECONDS
        while await self._round() is None:
            if hosting.done():
                raise RuntimeError("the host ended before it traded")
            if time.monotonic() > until:
                raise RuntimeError(f"no trade by WebSocket within {START_SECONDS:.0f} s of the start")
        self.missed = 0
        trades: dict[str, list[dict[str, float]]] = {condition: [] for condition in CONDITIONS}
        for _ in range(warm_up + rounds):
            for condition in CONDITIONS:
                await self._let_move(condition == "moving")
                while (stages := await self._round()) is None:
                    self.missed += 1
                    if self.missed > MISSES_ALLOWED:
                        why = await asyncio.to_thread(_refusals)
                        raise RuntimeError(
                            f"{self.missed} opportunities were not traded on (refused by {why}): measure on a calmer "
                            "machine"
                        )
                trades[condition].append(stages)
        return {condition: stages[warm_up:] for condition, stages in trades.items()}

    async def _let_move(self, moves: bool) -> None:
        for name in EXCHANGES:
            market = {"exchange": name, "symbol": OTHER, "frozen": not moves}
            await asyncio.to_thread(self._simulator.call, "POST", "/market", market)

    async def _round(self) -> dict[str, float] | None:
        """Let one trade pay and settle; None when there was none, or its orders left by REST."""
        for name in EXCHANGES:
            await self._show(name, [(BID, DEPTH)], [(ASK, DEPTH)])
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(ROUND_SECONDS):
                while not all(self._is_level(name) for name in EXCHANGES):  # noqa: ASYNC110 (the hub tells nobody)
                    await asyncio.sleep(LOOK_SECONDS)
        await asyncio.sleep(PAUSE_SECONDS)
        while not self._watch.settled.empty():
            self._watch.settled.get_nowait()
        self._number += 1
        paying = EXCHANGES[self._number % len(EXCHANGES)]
        await self._show(paying, [(PAYING_BID, DEPTH)], [(PAYING_ASK, DEPTH)])
        try:
            stages, by_websocket = await asyncio.wait_for(self._watch.settled.get(), ROUND_SECONDS)
        except TimeoutError:
            return None
        return stages if by_websocket else None

    def _is_level(self, name: str) -> bool:
        shared = getattr(self._host, "_shared", None)  # None: it is compiling
        states = () if shared is None else shared.hub.states()
        level = (float(BID), float(ASK))
        return any(one.key == f"{_code(name)}:{SYMBOL}" and (one.bid, one.ask) == level for one in states)

    def _show(self, name: str, bids: list[tuple[str, str]], asks: list[tuple[str, str]]) -> Awaitable[object]:
        return asyncio.to_thread(self._simulator.set_book, name, SYMBOL, bids=bids, asks=asks)


def _refusals() -> str:
    """Return the checks that refused opportunities, each with how many of those whose decision was kept."""
    try:
        checks = Counter(Decision.objects.filter(taken=False).values_list("check_name", flat=True))
    finally:
        connection.close()
    return ", ".join(f"{check} {times}" for check, times in checks.most_common()) or "no check"


async def _host_and_trade(
    simulator: Simulator, rounds: int, warm_up: int
) -> tuple[dict[str, list[dict[str, float]]], int]:
    watch, host = Watch(), EngineHost()
    with watch.watching():
        hosting = asyncio.create_task(host.run())
        driver = Rounds(simulator, host, watch)
        try:
            return await driver.run(rounds, warm_up, hosting), driver.missed
        finally:
            host.request_stop()
            await hosting


def measure(*, rounds: int = ROUNDS, warm_up: int = WARM_UP) -> dict[str, Any]:
    """Measure on the present database, which must be empty; durations are milliseconds."""
    try:
        from tests.exchangesim.simulator import running_simulator  # noqa: PLC0415 (needs the tests' packages)
    except ImportError as problem:
        raise SystemExit(f"arb: this benchmark needs the tests' packages ({problem}): ./arb test --help") from None
    # What this engine says is for nobody: a Redis that others use does not hear it.
    with (
        override_settings(REDIS_URL="", CHANNEL_LAYERS=MEMORY_LAYER),
        running_simulator("--exchanges", ",".join(EXCHANGES), *SIMULATOR_OPTIONS) as simulator,
    ):
        _seed(simulator)
        with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
            trades, missed = runner.run(_host_and_trade(simulator, rounds, warm_up))
    return {
        "database": connection.vendor,
        "count": rounds,
        "missed": missed,
        "target_p50_ms": TARGET_MS,
        **{condition: _condition(trades[condition]) for condition in CONDITIONS},
    }


def _condition(trades: Sequence[Mapping[str, float]]) -> dict[str, Any]:
    figures = {name: _figures([trade[name] for trade in trades]) for name in (*STAGES, "total")}
    return {
        "stages": {name: figures[name] for name in STAGES},
        "total": figures["total"],
        "met": figures["total"]["p50_ms"] <= TARGET_MS,
    }


def _figures(values: Sequence[float]) -> dict[str, float]:
    p99 = quantiles(values, n=100, method="inclusive")[98]
    return {"mean_ms": round(fmean(values), 3), "p50_ms": round(median(values), 3), "p99_ms": round(p99, 3)}


def run(work: Callable[[], dict[str, Any]] = measure) -> dict[str, Any]:
    """Measure in a database of its own."""
    with own_database():
        return work()


def table(result: Mapping[str, Any]) -> str:
    """Return the result as the Markdown table of docs/execution.md."""
    rows = [
        f"Market frame to both orders written, {result['count']} trades of each kind in turn on {result['database']}, "
        "milliseconds.",
        "",
        "| stage | other market moving: p50 | p99 | mean | nothing else moving: p50 | p99 | mean |",
        "|---|---:|---:|---:|---:|---:|---:|",
    ]
    for name in (*STAGES, "total"):
        cells = [name.replace("_", " ")]
        for condition in CONDITIONS:
            one = result[condition]["total"] if name == "total" else result[condition]["stages"][name]
            cells += [f"{one[figure]:.3f}" for figure in ("p50_ms", "p99_ms", "mean_ms")]
        rows.append(f"| {' | '.join(cells)} |")
    outcomes = [f"{'met' if result[condition]['met'] else 'missed'} ({condition})" for condition in CONDITIONS]
    rows += ["", f"Target, p50 of the total at most {result['target_p50_ms']:g} ms: {', '.join(outcomes)}."]
    if result["database"] != "postgresql":
        rows += [f"Measured on {result['database']}; the target is for PostgreSQL (DATABASE_URL)."]
    return "\n".join(rows)
