"""Breakers in a running host: what operators do takes hold of its engine, and every step stands in the database."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable
from contextlib import suppress
from decimal import Decimal
from typing import Any
from urllib.parse import urlsplit

import pytest
import pytest_asyncio
from django.urls import reverse

from bots.models import Bot, Decision, Order, Trade
from bots.services.accounts import account_create
from bots.services.bots import bot_create, bot_start
from bots.services.demo import pairs_across
from bots.services.exchanges import exchange_create, markets_sync
from risk.models import BreakerEvent, BreakerSettings, CircuitBreaker
from risk.services.breaker_operations import breaker_open, breaker_reset, settings_ensure, settings_update
from risk.services.rating_settings import sizing_update
from tests.bots.conftest import signed_in
from tests.exchanges.venue_rig import spec_of
from tests.exchangesim.simulator import Simulator
from tests.host.conftest import make_store, threads, world  # noqa: F401
from tests.host.test_host import Ask, ask, eventually, hosting, observed  # noqa: F401
from tests.scenarios.stage import BTC, ETH, NAMES, Books
from trading.config import Credentials
from trading.exchanges.markets import load_markets
from trading.messages import OrderState, TradeState

pytestmark = [pytest.mark.django_db(transaction=True), pytest.mark.database]

D = Decimal
OKX_PAIR = "okx-sim:BTC/USDT"


class Floor:
    """anna's bot on the three simulated exchanges, and their books."""

    def __init__(self, world: Any, simulator: Simulator, ask: Ask) -> None:  # noqa: F811
        self.world, self.simulator, self.ask = world, simulator, ask
        self.books = Books(simulator, NAMES, (BTC, ETH))

    async def open(self) -> None:
        await self.books.show()
        listed = {name: await load_markets(spec_of(self.simulator, name)) for name in NAMES}
        self.bot = await self.ask(self._seed, listed=listed)
        self.breathing = asyncio.create_task(self.books.breathe())

    def _seed(self, listed: dict[str, Any]) -> Bot:
        anna = self.world.anna
        exchanges, accounts = [], []
        for name in NAMES:
            spec = spec_of(self.simulator, name)
            urls = {kind: "{0.scheme}://{0.netloc}".format(urlsplit(url)) for kind, url in spec.urls.items()}
            exchange = exchange_create(
                actor=None, code=spec.code, name=name, ccxt_id=name, environment="simulated", urls=urls
            )
            markets = [market for market in listed[name] if market.symbol in (BTC, ETH)]
            markets_sync(exchange=exchange, markets=markets)
            keys = self.simulator.account(name, balances={"USDT": "1000000", "BTC": "20", "ETH": "400"})
            credentials = Credentials(api_key=keys.api_key, secret=keys.secret, passphrase=keys.passphrase)
            account = account_create(owner=anna, actor=anna, exchange=exchange, label="Sim", credentials=credentials)
            exchanges.append(exchange)
            accounts.append(account)
        # At the limit's size, so that what breakers leave of it can be told exactly.
        sizing_update(actor=self.world.operator, values={"enabled": False}, seen_version=1)
        pairs = pairs_across(exchanges)
        assert {f"{pair.base_id}/{pair.quote_id}" for pair in pairs} == {BTC, ETH}
        return bot_create(
            owner=anna, actor=anna, name="Scenario", pairs=pairs, accounts=accounts, mode="live",
            max_trade_notional=D(10_000), max_open_trades=1, cooldown_ms=700, max_book_age_ms=10_000,
            completion_seconds=D(60), unwind_seconds=D(120),
        )  # fmt: skip

    async def close(self) -> None:
        self.breathing.cancel()
        with suppress(asyncio.CancelledError):
            await self.breathing
        self.simulator.clear_faults()

    async def start(self) -> None:
        await self.ask(bot_start, bot=self.bot, actor=self.bot.owner)
        await eventually(self.ask, observed(self.bot), "running")

    async def trade(self, buy: str, sell: str, symbol: str = BTC) -> Trade:
        """Show an edge until one more trade is there; return it once it has closed."""
        before = await self.ask(Trade.objects.count)
        self.books.edge(symbol, buy, sell)
        await eventually(self.ask, Trade.objects.count, before + 1)
        await eventually(self.ask, lambda: Trade.objects.order_by("id").last().state, TradeState.CLOSED.value)
        await self.calm(symbol)
        return await self.ask(lambda: Trade.objects.order_by("id").last())

    async def calm(self, symbol: str = BTC) -> None:
        self.books.calm(symbol)
        await self.books.show()


@pytest_asyncio.fixture
async def floor(world: Any, simulator: Simulator, ask: Ask) -> AsyncIterator[Floor]:  # noqa: F811
    simulator.clear_faults()
    floor = Floor(world, simulator, ask)
    await floor.open()
    yield floor
    await floor.close()


def refusals(check: str, market: str, after: int = 0) -> Callable[[], bool]:
    return lambda: Decision.objects.filter(pk__gt=after, check_name=check, sell_market=market).exists()


async def test_an_exchange_tripped_by_an_operator_takes_no_new_trade_and_repairs_go_on(
    floor: Floor,
    simulator: Simulator,
    hosting: Any,  # noqa: F811
    ask: Ask,  # noqa: F811
) -> None:
    hosting()
    await floor.start()
    # A trade whose second leg OKX does not fill: it is open, and tries to complete the leg again and again.
    simulator.fault("cut_depth", exchange="okx", symbol="BTC*", parameters={"quantity": "0"})
    floor.books.edge(BTC, "binance", "okx")
    await eventually(ask, lambda: list(Trade.objects.values_list("state", flat=True)), [TradeState.REPAIRING.value])

    operator = floor.world.operator
    await ask(breaker_open, actor=operator, scope="exchange", key="okx-sim", reason="Withdrawals stand still there.")
    # The bot may have one trade, so that this one waits for its turn until the breaker is known, and then for that.
    floor.books.edge(ETH, "binance", "okx")
    await eventually(ask, refusals("breaker", "okx-sim:ETH/USDT"), True)
    known_by = await ask(lambda: Order.objects.order_by("id").last().pk)
    await eventually(ask, lambda: Order.objects.filter(pk__gt=known_by, market__symbol=BTC).exists(), True)

    simulator.clear_faults()
    await eventually(ask, lambda: list(Trade.objects.values_list("state", flat=True)), [TradeState.CLOSED.value])
    last = await ask(lambda: Order.objects.select_related("market__exchange").order_by("id").last())
    assert (last.market.exchange.code, last.state) == ("okx-sim", OrderState.FILLED.value)
    assert last.pk > known_by
    await floor.calm(BTC)
    # The edge in ETH is still there, nothing else is open, and still it is refused.
    seen = await ask(lambda: Decision.objects.order_by("id").last().pk)
    await eventually(ask, refusals("breaker", "okx-sim:ETH/USDT", after=seen), True)
    assert await ask(Trade.objects.count) == 1

    row = await ask(CircuitBreaker.objects.get, scope="exchange", key="okx-sim")
    await ask(breaker_reset, actor=operator, breaker=row, reason="They move again.", seen_version=row.version)
    await eventually(ask, Trade.objects.count, 2)
    await eventually(ask, lambda: Trade.objects.order_by("id").last().state, TradeState.CLOSED.value)
    await floor.calm(ETH)
    again = await ask(lambda: Trade.objects.order_by("id").last())
    assert again.base == "ETH"
    assert again.quantity * 2_510 == pytest.approx(10_000, rel=D("0.01"))  # the full size at once

    def history() -> list[tuple[str, str, str]]:
        rows = BreakerEvent.objects.filter(breaker=row).order_by("id")
        return [(event.event, event.reason, event.actor.username) for event in rows.select_related("actor")]

    assert await ask(history) == [
        ("operator_trip", "Withdrawals stand still there.", "operator"),
        ("reset", "They move again.", "operator"),
    ]


async def test_every_step_back_stands_in_the_history_and_on_its_page(
    floor: Floor,
    simulator: Simulator,
    hosting: Any,  # noqa: F811
    ask: Ask,  # noqa: F811
) -> None:
    operator = floor.world.operator

    def rules() -> None:
        settings_ensure()
        row = BreakerSettings.objects.get(scope="pair_on_exchange")
        settings_update(
            actor=operator, scope=row.scope, seen_version=row.version,
            values={"cooldown_seconds": D(2), "clean_per_step": 1, "consecutive_losses": 2, "stale_seconds": None},
        )  # fmt: skip

    await ask(rules)
    hosting()
    await floor.start()
    simulator.fault("fee", exchange="okx", symbol="BTC*", parameters={"times": 30})
    # Two losses in a row at OKX, one at each of the others.
    await floor.trade("binance", "okx")
    await floor.trade("okx", "bybit")
    simulator.clear_faults()
    breaker = CircuitBreaker.objects.filter(scope="pair_on_exchange")
    await eventually(ask, lambda: list(breaker.values_list("key", "state")), [(OKX_PAIR, "open")])
    trades = [await floor.trade("binance", "okx") for _ in range(5)]
    await eventually(ask, lambda: list(breaker.values_list("key", "state")), [(OKX_PAIR, "closed")])
    probe, quarter, half, whole, after = (trade.quantity for trade in trades)
    assert probe < quarter / 10
    assert (quarter * 4 / whole, half * 2 / whole, after / whole) == (
        pytest.approx(1, rel=D("0.001")), pytest.approx(1, rel=D("0.001")), 1,
    )  # fmt: skip

    def history() -> list[tuple[str, str, str, int]]:
        rows = BreakerEvent.objects.filter(breaker__key=OKX_PAIR).order_by("id")
        return list(rows.values_list("event", "from_state", "to_state", "step"))

    assert await ask(history) == [
        ("trip", "closed", "open", 0),
        ("probe_claimed", "half_open", "probing", 0),
        ("clean", "probing", "ramping", 0),
        ("clean", "ramping", "ramping", 1),
        ("clean", "ramping", "ramping", 2),
        ("clean", "ramping", "closed", 0),
    ]

    def page() -> str:
        row = breaker.get(key=OKX_PAIR)
        answer = signed_in(operator).get(reverse("admin:risk_circuitbreaker_change", args=[row.pk]))
        assert answer.status_code == 200
        return answer.content.decode()

    shown = await ask(page)
    for step in ("2 trades in a row ended at a loss", "Half-open → Probing", "Probing → Ramping", "Ramping → Closed"):
        assert step in shown
