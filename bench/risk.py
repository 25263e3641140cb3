"""The whole gate of an opportunity: breakers, rating, size, slippage, plan and limits, in a running engine.

An engine with one bot on two paper accounts and books of 50 levels a side, no database anywhere. Every kind of limit is
set, and 100 limits of exchanges and pairs stand beside the bot's own; 100 circuit breakers that are not closed stand
over other things, which is the usual case, and in a second run one of the route's own ramps. Opportunities come from
the real detector, and both books change before each judgement. Times are CPU time of the thread for one judgement, in
microseconds; asking for that time twice, about a microsecond, is in it (``clock_us``).

``p50_us`` and ``p99_us`` are of :meth:`trading.execution.gate.Gate.judge`, with all it does: the state of bot, markets
and accounts, breakers, rating, the plan of both orders in decimals, exposures and limits. ``policy_p50_us`` is of the
rules of risk alone: breakers, sizing, slippage and score of both books, limits. The parts are measured each on its own,
in the same run.
"""

from __future__ import annotations

import asyncio
import gc
import itertools
from collections.abc import Callable, Mapping
from decimal import Decimal
from statistics import median, quantiles
from time import thread_time_ns
from typing import Any

from risk.policy.breakers import Breaker, BreakerState, Scope
from risk.policy.limits import RouteLimits, first_refusal
from trading.clock import SystemClock
from trading.config import AccountConfig, BotConfig, ExchangeSpec, OwnerConfig, RatingRules, RiskPicture
from trading.engine import Engine
from trading.execution.gate import Passed
from trading.execution.memory_store import MemoryStore
from trading.execution.planner import plan, proposal_of
from trading.instruments import Market
from trading.marketdata.book import Book
from trading.marketdata.hub import MarketHub
from trading.messages import Opportunity
from trading.ports import FeedSink

JUDGEMENTS = 20_000
WARMING = 2_000
BREAKERS = 100
LIMITS = 100  # of exchanges and pairs
OTHERS = [f"C{number}" for number in range(LIMITS)]  # assets
LEVELS = 50
TARGET_US = 25.0


class Still:
    """A feed whose books are written once."""

    def __init__(self, sink: FeedSink) -> None:
        self.sink = sink
        self.books: dict[str, Book] = {}

    def add(self, market: Market) -> Book:
        return self.books.setdefault(market.key, Book(market))

    def remove(self, key: str) -> None: ...

    async def run(self) -> None:
        await asyncio.get_running_loop().create_future()

    def counters(self) -> Mapping[str, int | float]:
        return {}


class Nobody:
    """A publisher nobody listens to."""

    def publish(self, owner: int | None, kind: str, key: str, data: Mapping[str, object]) -> None: ...


def market(exchange: str) -> Market:
    return Market(
        exchange=exchange, symbol="BTC/USDT", native_id="BTCUSDT", base="BTC", quote="USDT", tick=Decimal("0.01"),
        lot=Decimal("0.00001"), min_amount=Decimal("0.00001"), min_notional=Decimal(5), taker_fee=Decimal("0.001"),
    )  # fmt: skip


def further(source: str) -> RouteLimits:
    """What an exchange or a pair adds: looser than the bot's own, so that the size is that of its limit."""
    return RouteLimits(source=source, max_trade_notional=Decimal(20_000), max_edge_bps=500.0)


def tripped(ramping: bool) -> tuple[Breaker, ...]:
    """Breakers that are not closed: over exchanges that are not traded on, and one over the route if asked for."""
    others = [
        Breaker(scope=Scope.PAIR_ON_EXCHANGE, key=f"gamma:C{number}/USDT", state=BreakerState.RAMPING, version=1)
        for number in range(BREAKERS - ramping)
    ]
    own = [Breaker(scope=Scope.PAIR, key="BTC/USDT", state=BreakerState.RAMPING, step=1, version=1)]
    return (*others, *(own if ramping else []))


async def measured(*, ramping: bool) -> dict[str, float]:
    """Judge one opportunity again and again; return percentiles and the medians of its parts in microseconds."""
    clock = SystemClock()
    feeds: dict[str, Still] = {}
    hub = MarketHub(clock, lambda code, sink: feeds.setdefault(code, Still(sink)))
    markets = (market("alpha"), market("beta"))
    money = {"BTC": Decimal(100), "USDT": Decimal(10_000_000)}
    accounts = tuple(
        AccountConfig(
            account_id=number, label=code, credentials=None, paper_balances=money,
            exchange=ExchangeSpec(code=code, ccxt_id="binance", environment="simulated"),
        )
        for number, code in ((11, "alpha"), (12, "beta"))
    )  # fmt: skip
    bot = BotConfig(
        bot_id=1, name="bench", mode="paper", markets=markets, accounts={"alpha": 11, "beta": 12},
        max_trade_notional=Decimal(10_000), max_book_age_ms=1e9, max_daily_loss=Decimal(1000),
        max_quote_deviation_bps=1000.0, max_exposure_asset=Decimal(10**6), max_exposure_exchange=Decimal(10**6),
        max_exposure_account=Decimal(10**6), max_exposure_global=Decimal(10**6), max_unhedged=Decimal(10**6),
        max_orders_per_minute=1000, allowed_pairs=frozenset(f"{base}/USDT" for base in ("BTC", *OTHERS)),
        exchange_limits={code: further(f"exchange {code}") for code in ("alpha", "beta")},
        pair_limits={f"{base}/USDT": further(f"pair {base}/USDT") for base in ("BTC", *OTHERS[: LIMITS - 3])},
    )  # fmt: skip
    risk = RiskPicture(rating=RatingRules(), tripped=tripped(ramping))
    config = OwnerConfig(
        owner_id=1, id_prefix="risk", lease_token=1, accounts=accounts, bots=(bot,), risk=risk,
        max_loop_lag_seconds=1e9,
    )  # fmt: skip
    engine = Engine(config, hub, {}, MemoryStore(), Nobody(), clock)
    # What would be traded is only judged here.
    found: list[Opportunity] = []
    engine._consider = lambda bot, opportunity: found.append(opportunity)  # type: ignore[method-assign]
    running = asyncio.create_task(engine.run())
    await asyncio.sleep(0.2)
    for one, middle in zip(markets, (50_000.0, 50_300.0), strict=True):
        feed = feeds[one.exchange]
        book = feed.books[one.key]
        book.bids.replace([(middle - 1 - step, 0.3) for step in range(LEVELS)])
        book.asks.replace([(middle + 1 + step, 0.3) for step in range(LEVELS)])
        book.ready = True
        book.received_ns = clock.time_ns()
        feed.sink.on_status(one.key, "live", "")
        feed.sink.on_book(book)
    await asyncio.sleep(0.2)
    opportunity, running_bot = found[-1], engine.roster.get(1)
    assert running_bot is not None
    judged = engine.gate.judge(running_bot, opportunity)
    if not isinstance(judged, Passed):
        raise RuntimeError(f"the opportunity is not one to trade: {judged}")
    route = running_bot.route(engine.desk, opportunity)
    most = running_bot.config.max_trade_notional
    states = [engine.desk.market_state(one) for one in markets]
    proposal = proposal_of(engine.desk, route, judged.plan, *states)
    situation = running_bot.situation(opportunity.quote, clock.time_ns(), 0, None)

    def policy() -> None:
        engine.breakers.gate(route.keys)
        engine.rating.rate(
            running_bot, route, opportunity, *states, clock.monotonic_ns(), breaker_factor=1.0, min_net_bps=2.0
        )
        first_refusal(proposal, situation, route.limits, route.rules)

    books = [feeds[one.exchange].books[one.key] for one in markets]
    sizes = itertools.cycle([0.3, 0.31, 0.29])

    def change() -> None:
        """Change a level of each side that a judgement reads; the best prices stay."""
        size = next(sizes)
        for book, (bid, ask) in zip(books, [(49_996.0, 50_004.0), (50_296.0, 50_304.0)], strict=True):
            book.bids.apply([(bid, size)])
            book.asks.apply([(ask, size)])

    parts = {
        "gate": lambda: engine.gate.judge(running_bot, opportunity),
        "policy": policy,
        "limits": lambda: first_refusal(proposal, situation, route.limits, route.rules),
        "clock": lambda: None,
        "breakers": lambda: engine.breakers.gate(route.keys),
        "rating": lambda: engine.rating.rate(
            running_bot, route, opportunity, *states, clock.monotonic_ns(), breaker_factor=1.0, min_net_bps=2.0
        ),
        "plan": lambda: plan(engine.desk, route, opportunity, most, sized=judged.rated),
    }
    figures: dict[str, float] = {}
    for name, work in parts.items():
        times = timed(work, change)
        figures[f"{name}_p50_us"] = round(median(times) / 1e3, 2)
        if name == "gate":
            figures["gate_p99_us"] = round(quantiles(times, n=100)[98] / 1e3, 2)
    await engine.stop(0.0)
    await running
    await hub.close()
    return figures


def timed(work: Any, change: Callable[[], None]) -> list[int]:
    """Return the nanoseconds of each call, after some that warm up, with no collection of garbage within.

    ``change`` is called before each, and not measured.
    """
    for _ in range(WARMING):
        work()
    gc.collect()
    gc.disable()
    times = []
    try:
        for _ in range(JUDGEMENTS):
            change()
            before = thread_time_ns()
            work()
            times.append(thread_time_ns() - before)
    finally:
        gc.enable()
    return times


def run() -> dict[str, Any]:
    """Return ``p50_us`` and ``p99_us`` of the whole gate, its parts, and the same with a breaker that ramps."""
    usual = asyncio.run(measured(ramping=False))
    ramping = asyncio.run(measured(ramping=True))
    return {
        "p50_us": usual["gate_p50_us"],
        "p99_us": usual["gate_p99_us"],
        "policy_p50_us": usual["policy_p50_us"],
        "target_us": TARGET_US,
        "clock_us": usual.pop("clock_p50_us"),
        "parts_us": {name.removesuffix("_p50_us"): usual[name] for name in usual if name.endswith("_p50_us")},
        "ramping_p50_us": ramping["gate_p50_us"],
        "breakers": BREAKERS,
        "limits": LIMITS,
        "judgements": JUDGEMENTS,
    }


def table(figures: dict[str, Any]) -> str:
    """Return the figures for people."""
    lines = [
        f"one judgement: {figures['p50_us']:.1f} us at the median, {figures['p99_us']:.1f} us at the 99th percentile "
        f"(target: {figures['target_us']:.0f} us at the median)",
        f"with one of the route's breakers ramping: {figures['ramping_p50_us']:.1f} us",
        f"of it breakers, sizing, slippage, score and limits, without freshness, planning and exposures: "
        f"{figures['policy_p50_us']:.1f} us",
        "parts, each on its own:",
    ]
    lines += [f"  {name:10} {value:6.1f} us" for name, value in figures["parts_us"].items()]
    return "\n".join(lines)
