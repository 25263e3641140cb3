"""Spot against a perpetual from end to end: a host, the database, and two simulated exchanges on the wire."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable
from contextlib import suppress
from decimal import Decimal
from typing import Any

import pytest
import pytest_asyncio

from bots.models import BasisPosition, Bot, Command, Difference, ExchangeAccount, Income, Order, Trade
from bots.selectors import ledger_unbalanced
from bots.services.bots import bot_start
from bots.services.differences import reconcile_request
from bots.services.exchanges import exchange_create, markets_sync
from bots.services.ledger_sums import ledger_balances
from bots.services.margins import margins_refresh
from tests.exchangesim.simulator import Simulator, running_simulator
from tests.host.test_host import eventually, hosting  # noqa: F401
from trading.basis import BASIS
from trading.config import Credentials
from trading.exchanges.binance.venue import BinanceDialect
from trading.exchanges.binance_usdm.venue import BinanceUsdmDialect
from trading.exchanges.budget import Window
from trading.exchanges.markets import load_markets

pytestmark = [pytest.mark.django_db(transaction=True), pytest.mark.database]

D = Decimal
SPOT, PERP = ("binance", "BTC/USDT"), ("binanceusdm", "BTC/USDT:USDT")
CODES = {"binance": "spot", "binanceusdm": "usdm"}
KINDS: dict[str, Any] = {"binance": frozenset({"spot"}), "binanceusdm": frozenset({"linear"})}
MONEY = {"binance": {"USDT": "100000", "BTC": "0"}, "binanceusdm": {"USDT": "100000"}}
MET = {SPOT: ("49990", "50000"), PERP: ("49990", "50000")}
APART = {SPOT: ("49990", "50000"), PERP: ("50500", "50510")}
LEFT = {SPOT: ("50000", "50010"), PERP: ("49990", "50000")}


class Place:
    """anna's account on each exchange, her bot that trades one against the other, and prices that a test moves."""

    def __init__(self, world: Any, simulator: Simulator, threads: Any) -> None:
        self.anna, self.simulator, self.threads = world.anna, simulator, threads
        self.prices = MET
        world.exchanges.clear()
        self.keys, self.accounts = {}, {}
        for name, symbol in (SPOT, PERP):
            urls = {"rest": simulator.rest[name], "ws": simulator.ws[name]}
            exchange = exchange_create(
                actor=None, code=CODES[name], name=CODES[name], ccxt_id=name, environment="simulated", urls=urls
            )
            listed = asyncio.run(load_markets(exchange.to_engine(), kinds=KINDS[name]))
            markets_sync(exchange=exchange, markets=[market for market in listed if market.symbol == symbol])
            world.exchanges[CODES[name]] = exchange
            keys = self.keys[name] = simulator.account(name, balances=MONEY[name])
            credentials = Credentials(api_key=keys.api_key, secret=keys.secret)
            self.accounts[name] = world.account(world.anna, CODES[name], credentials=credentials)
            if name == PERP[0]:
                margins_refresh(exchange=exchange)
        simulator.set_mark(*PERP, "50000")
        # Else it follows the difference to the index.
        simulator.call("POST", "/funding", {"exchange": PERP[0], "symbol": PERP[1], "rate": "0.0001"})
        self.bot: Bot = world.bot(
            world.anna, name="Carry", strategy=BASIS, min_net_edge_bps=D(20), basis_exit_bps=D(15),
            basis_min_funding_bps=D(-1), basis_leverage=2, max_trade_notional=D(5000), max_book_age_ms=60_000,
        )  # fmt: skip
        bot_start(bot=self.bot, actor=world.anna)

    async def ask(self, work: Callable[..., Any], **arguments: Any) -> Any:
        return await self.threads.run(lambda: work(**arguments))

    async def breathe(self) -> None:
        """Keep the books moving behind their best prices: a feed needs changes to know that it follows."""
        size = 0
        while True:
            size = size % 9 + 1
            for (name, symbol), (bid, ask) in self.prices.items():
                bids, asks = [(bid, "5"), ("40000", str(size))], [(ask, "5"), ("80000", str(size))]
                await asyncio.to_thread(self.simulator.set_book, name, symbol, bids=bids, asks=asks)
            await asyncio.sleep(0.1)

    async def opened(self) -> None:
        """Wait until the first comparison has opened both ledgers."""
        await eventually(self.ask, ExchangeAccount.objects.filter(opened_at__isnull=False).count, 2)

    async def state(self, wanted: str) -> Trade:
        """Wait until there is one trade, in this state, and return it."""
        await eventually(self.ask, lambda: list(Trade.objects.values_list("state", flat=True)), [wanted], seconds=120)
        return await self.ask(Trade.objects.get)

    async def compare(self) -> list[tuple[str, str]]:
        """Ask for a comparison of both accounts; return what differs afterwards."""
        command = await self.ask(reconcile_request, owner_id=self.anna.pk, actor=self.anna)
        rows = Command.objects.filter(pk=command.pk)
        await eventually(self.ask, rows.exclude(status="pending").count, 1)
        done = await self.ask(rows.get)
        assert done.result.startswith("2 of 2 live accounts compared"), done.result
        return await self.ask(
            lambda: list(Difference.objects.filter(state=Difference.State.OPEN).values_list("key", "cause"))
        )

    async def ledger(self, name: str) -> dict[str, Decimal]:
        return await self.ask(lambda: ledger_balances(account_id=self.accounts[name].pk))

    def wallets(self, name: str) -> dict[str, Decimal]:
        """Return what the exchange says is there, positions in contracts among it."""
        held = {asset: D(row["total"]) for asset, row in self.simulator.balances(self.keys[name]).items()}
        if name == PERP[0]:
            rows = self.simulator.positions(name, api_key=self.keys[name].api_key)
            held |= {row["symbol"]: D(row["quantity"]) for row in rows}
        return {asset: amount for asset, amount in held.items() if amount}

    async def check_books(self) -> None:
        """Both ledgers say what their exchanges say, to the last digit."""
        assert await self.compare() == []
        for name in CODES:
            assert await self.ledger(name) == self.wallets(name)
        assert await self.ask(ledger_unbalanced) == []


@pytest_asyncio.fixture
async def place(world: Any, threads: Any, monkeypatch: pytest.MonkeyPatch) -> AsyncIterator[Place]:
    # Tests compare accounts more often within a minute than people do, and than their exchanges would answer.
    for dialect in (BinanceDialect, BinanceUsdmDialect):
        monkeypatch.setattr(dialect, "windows", {"weight": Window(1e6, 60), "orders": Window(1e6, 10)})
        monkeypatch.setattr(dialect, "used", lambda self, headers: {})
    with running_simulator("--exchanges", "binance,binanceusdm", "--no-limits") as simulator:
        place = await threads.run(lambda: Place(world, simulator, threads))
        breathing = asyncio.create_task(place.breathe())
        yield place
        breathing.cancel()
        with suppress(asyncio.CancelledError):
            await breathing


@pytest.fixture(autouse=True)
def patient(settings: Any) -> None:
    """A loaded machine stands still now and then; here that is no reason to refuse a trade."""
    settings.ARB_MAX_LOOP_LAG_SECONDS = 60.0


async def test_a_pair_is_entered_held_over_a_restart_funded_left_and_booked(
    place: Place,
    hosting: Callable[..., Any],  # noqa: F811
) -> None:
    host = hosting(lease_seconds=60.0)
    await place.opened()
    place.prices = APART
    held = await place.state("HOLDING")
    await place.check_books()
    pair = await place.ask(BasisPosition.objects.get)
    assert (pair.trade_id, pair.spot_price, pair.perp_price) == (held.pk, D(50_000), D(50_500))
    assert place.wallets(PERP[0])[PERP[1]] == -held.quantity
    host.request_stop()
    await asyncio.wait_for(hosting.hosts[0][1], 30)
    await asyncio.to_thread(place.simulator.fund, *PERP, "0.0005")  # while no engine runs
    hosting(lease_seconds=60.0)
    paid = held.quantity * D(50_000) * D("0.0005")
    await eventually(place.ask, lambda: BasisPosition.objects.get().funding, paid, seconds=120)
    await asyncio.to_thread(place.simulator.fund, *PERP, "0.0002")
    paid += held.quantity * D(50_000) * D("0.0002")
    place.prices = LEFT
    closed = await place.state("CLOSED")
    await place.check_books()
    incomes = await place.ask(lambda: sum(Income.objects.values_list("amount", flat=True)))
    assert incomes == paid
    assert place.wallets(PERP[0]).keys() == {"USDT"}
    pair = await place.ask(BasisPosition.objects.get)
    gained = sum(place.wallets(name)["USDT"] for name in CODES) - 200_000
    left = place.wallets(SPOT[0]).get("BTC", D(0))
    assert (closed.residual_base, pair.held) == (left, 0)
    # What was paid while it was being left may be told later than it ended.
    assert abs(closed.realised_profit - pair.funding - (gained - paid) - left * pair.spot_price) < D("1e-8")
    orders = await place.ask(lambda: list(Order.objects.order_by("leg").values_list("leg", "side", "reduce_only")))
    assert orders == [(0, "buy", False), (1, "sell", False), (2, "sell", False), (3, "buy", True)]
    assert await place.ask(lambda: Bot.objects.get(pk=place.bot.pk).observed_state) == "running"


async def test_a_liquidated_pair_ends_without_a_difference(
    place: Place,
    hosting: Callable[..., Any],  # noqa: F811
) -> None:
    hosting(lease_seconds=60.0)
    await place.opened()
    place.prices = APART
    await place.state("HOLDING")
    wallet = place.wallets(PERP[0])["USDT"]
    place.simulator.transfer(place.keys[PERP[0]], "USDT", f"-{wallet - 3000}")
    assert await place.compare() == [("USDT", "withdrawal")]
    await asyncio.to_thread(place.simulator.set_mark, *PERP, "150000")
    closed = await place.state("CLOSED")
    assert "liquidated by the exchange at price 50510" in closed.reason
    made = await place.ask(lambda: Order.objects.filter(kind="liquidation").get())
    assert (made.leg, made.side, made.filled) == (35, "buy", closed.quantity)
    await eventually(place.ask, Income.objects.filter(kind="insurance").count, 1)
    assert await place.compare() == [("USDT", "withdrawal")]  # ours, and of before
    ledger, shown = await place.ledger(PERP[0]), place.wallets(PERP[0])
    assert ledger["USDT"] - shown["USDT"] == wallet - 3000
    assert await place.ledger(SPOT[0]) == place.wallets(SPOT[0])
    assert await place.ask(ledger_unbalanced) == []
