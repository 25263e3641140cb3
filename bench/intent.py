"""What the durable intent adds before orders leave: a trade with two orders against a bare one-row commit.

Runs on the configured kind of database, SQLite or PostgreSQL, in a database of its own that is deleted afterwards. The
two alternate, one after the other, so that disk and machine are the same for both. ``bare`` goes from the event loop to
a database thread and back, as the intent does on SQLite; on PostgreSQL the loop has a connection for intents.
``intent`` is :meth:`DjangoStore.commit_trade` with all its checks (lease, ownership, markets, amounts): a trade, two
orders and the decision, journaled; ``bare`` is one INSERT of one short row in a transaction of its own, on a table
without indexes or references: the least a durable write can cost here. Between two rounds the intent is unfolded, as
behind orders; ``unfolded`` is the time until its rows are there.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Mapping, Sequence
from decimal import Decimal
from statistics import median, quantiles
from time import perf_counter, time_ns
from typing import Any

from django.contrib.auth import get_user_model
from django.db import connection

from bench.snapshot import own_database
from bots.engine_host.database import DatabaseThreads
from bots.engine_host.journal_line import journal_line
from bots.engine_host.leases import Lease
from bots.engine_host.store import DjangoStore
from bots.models import Bot, Exchange, ExchangeAccount, Order
from bots.services.exchanges import exchange_create, markets_sync
from bots.services.leases import lease_take
from trading import instruments
from trading.clock import SystemClock
from trading.execution.ids import client_order_id, trade_id
from trading.messages import Decision, LegQuote, Opportunity, OrderIntent, TradeRecord, TradeState, Verdict
from trading.tasks import end_tasks

COMMITS = 1_000
WARM_UP = 50
SYMBOL = "BTC/USDT"
LEASE_SECONDS = 3600.0
LEGS = (("one", "buy", "60000", "USDT", "30030"), ("two", "sell", "60030", "BTC", "0.5"))


class Desk:
    """An owner with a bot on two exchanges, and trades without end."""

    def __init__(self) -> None:
        self.owner = get_user_model().objects.create_user("bench")
        self.bot = Bot.objects.create(owner=self.owner, name="bench")
        self.accounts = {code: self._account(code) for code, *_ in LEGS}
        token = lease_take(owner_id=self.owner.pk, holder="bench", ttl_seconds=LEASE_SECONDS)
        assert token is not None
        self.token = token
        self._sequence = 0

    def _account(self, code: str) -> ExchangeAccount:
        exchange = exchange_create(
            actor=None,
            code=code,
            name=code.capitalize(),
            ccxt_id="binance",
            environment=Exchange.Environment.SIMULATED,
            urls={"rest": "http://127.0.0.1:9", "ws": "ws://127.0.0.1:9"},
        )
        market = instruments.Market(
            exchange=code,
            symbol=SYMBOL,
            native_id="BTCUSDT",
            base="BTC",
            quote="USDT",
            tick=Decimal("0.01"),
            lot=Decimal("0.00001"),
            min_notional=Decimal(5),
            taker_fee=Decimal("0.001"),
            maker_fee=Decimal("0.0008"),
        )
        markets_sync(exchange=exchange, markets=[market])
        return ExchangeAccount.objects.create(owner=self.owner, exchange=exchange, label="bench")

    def trade(self) -> tuple[TradeRecord, list[OrderIntent], Decision]:
        """Return a trade that was never seen before, as the engine makes it."""
        self._sequence += 1
        now = time_ns()
        trade = TradeRecord(
            trade_id=trade_id("test", self.owner.pk, self.token, self._sequence),
            bot_id=self.bot.pk,
            route=f"one:{SYMBOL}>two:{SYMBOL}",
            base="BTC",
            quote="USDT",
            state=TradeState.OPEN,
            mode="simulated",
            quantity=Decimal("0.5"),
            expected_net_bps=Decimal("4.2"),
            expected_profit=Decimal("12.6"),
            opened_ns=now,
        )
        intents = [
            OrderIntent(
                client_order_id=client_order_id(trade.trade_id, leg, 0),
                trade_id=trade.trade_id,
                account_id=self.accounts[exchange].pk,
                market=f"{exchange}:{SYMBOL}",
                leg=leg,
                attempt=0,
                side=side,  # type: ignore[arg-type]
                price=Decimal(price),
                quantity=trade.quantity,
                deadline_ns=now + 15_000_000_000,
                created_ns=now,
                reserve_asset=asset,
                reserve_amount=Decimal(amount),
            )
            for leg, (exchange, side, price, asset, amount) in enumerate(LEGS)
        ]
        return trade, intents, self._decision(trade, now)

    def _decision(self, trade: TradeRecord, now: int) -> Decision:
        buy, sell = (
            LegQuote(f"{exchange}:{SYMBOL}", side, 0.5, float(price), float(price), 0.001, 0.3, 12.0)  # type: ignore[arg-type]
            for exchange, side, price, *_ in LEGS
        )
        found = Opportunity(
            bot_id=trade.bot_id,
            route=trade.route,
            base="BTC",
            quote="USDT",
            buy=buy,
            sell=sell,
            quantity=0.5,
            gross_bps=24.2,
            net_bps=4.2,
            net_profit=12.6,
            detected_ns=now,
            detected_monotonic_ns=1,
        )
        return Decision(opportunity=found, verdict=Verdict(allowed=True, reason=""), check="", trade_id=trade.trade_id)


def bare_commit() -> None:
    """Commit one row."""
    with connection.cursor() as cursor:
        cursor.execute("INSERT INTO bench_bare (value) VALUES (%s)", ["bare"])


async def _alternate(desk: Desk, commits: int, warm_up: int) -> dict[str, list[float]]:
    clock = SystemClock()
    lease = Lease(desk.owner.pk, desk.token, clock.monotonic_ns() + int(LEASE_SECONDS * 1e9), clock)
    threads, writes = DatabaseThreads("commit"), DatabaseThreads("write")
    line = journal_line()
    store = DjangoStore(lease=lease, clock=clock, commits=threads, writes=writes, line=line)
    tasks = [asyncio.create_task(store.run())]
    if line is not None:
        tasks.append(asyncio.create_task(line.run()))
        while not line.is_free:  # noqa: ASYNC110 (it tells nobody)
            await asyncio.sleep(0.01)
    times: dict[str, list[float]] = {"bare": [], "intent": [], "unfolded": []}
    try:
        for number in range(warm_up + commits):
            trade = desk.trade()
            began = perf_counter()
            await threads.run(bare_commit)
            between = perf_counter()
            await store.commit_trade(*trade)
            ended = perf_counter()
            await store.flush()
            if number >= warm_up:
                times["bare"].append((between - began) * 1000)
                times["intent"].append((ended - between) * 1000)
                times["unfolded"].append((perf_counter() - ended) * 1000)
    finally:
        await end_tasks(tasks)
        loop = asyncio.get_running_loop()
        for one in (threads, writes):
            await loop.run_in_executor(None, one.close)
    return times


def measure(*, commits: int = COMMITS, warm_up: int = WARM_UP) -> dict[str, Any]:
    """Measure on the present database, in which it makes a desk and a table; durations are milliseconds."""
    desk = Desk()
    with connection.cursor() as cursor:
        cursor.execute("CREATE TABLE bench_bare (value text NOT NULL)")
    before = Order.objects.count()
    times = asyncio.run(_alternate(desk, commits, warm_up))
    made = Order.objects.count() - before
    if made != 2 * (commits + warm_up):
        raise RuntimeError(f"{commits + warm_up} commits made {made} orders; each makes 2")
    figures = {name: _figures(values) for name, values in times.items()}
    return {
        "database": connection.vendor,
        "commits": commits,
        **figures,
        "added_ms": round(median(times["intent"]) - median(times["bare"]), 3),
        "ratio": round(median(times["intent"]) / median(times["bare"]), 2),
    }


def _figures(values: Sequence[float]) -> dict[str, float]:
    cuts = quantiles(values, n=100)
    return {"p50_ms": round(median(values), 3), "p90_ms": round(cuts[89], 3), "p99_ms": round(cuts[98], 3)}


def run(work: Callable[[], dict[str, Any]] = measure) -> dict[str, Any]:
    """Measure in a database of its own."""
    with own_database():
        return work()


def table(result: Mapping[str, Any]) -> str:
    """Return the result as text lines."""
    columns = ("p50_ms", "p90_ms", "p99_ms")
    return "\n".join(
        [
            f"The intent of a trade with two orders on {result['database']}, {result['commits']} commits of each kind "
            "in turn, milliseconds",
            "  ".join(f"{name:>8}" for name in ("", *columns)),
            *(
                "  ".join([f"{kind:>8}", *(f"{result[kind][name]:>8}" for name in columns)])
                for kind in ("bare", "intent", "unfolded")
            ),
            f"added at the median: {result['added_ms']} ms; intent to bare: {result['ratio']}",
        ]
    )
