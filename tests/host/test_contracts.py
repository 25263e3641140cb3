"""A contracts account from end to end: a host, the database, and a simulated Binance USD-M exchange on the wire."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable
from contextlib import suppress
from decimal import Decimal
from typing import Any

import pytest
import pytest_asyncio

from bots.models import (
    Command,
    Difference,
    ExchangeAccount,
    Income,
    LedgerEntry,
    Order,
    OrderEvent,
    Position,
    Ticket,
    Trade,
)
from bots.selectors import ledger_unbalanced
from bots.services.bots import bot_start
from bots.services.differences import difference_adopt, reconcile_request
from bots.services.exchanges import exchange_create, markets_sync
from bots.services.ledger_sums import ledger_balances
from bots.services.margins import margins_refresh
from bots.services.tickets import manual_bot, manual_trade_request
from tests.exchangesim.simulator import Simulator, running_simulator
from tests.host.test_host import eventually, hosting  # noqa: F401
from trading.config import Credentials
from trading.exchanges.binance_usdm.venue import BinanceUsdmDialect
from trading.exchanges.budget import Window
from trading.exchanges.markets import load_markets

pytestmark = [pytest.mark.django_db(transaction=True), pytest.mark.database]

D = Decimal
NAME, SYMBOL = "binanceusdm", "BTC/USDT:USDT"


class Place:
    """anna's account at a simulated exchange of contracts, and her desk for trades by hand."""

    def __init__(self, world: Any, simulator: Simulator, threads: Any) -> None:
        self.anna, self.simulator, self.threads = world.anna, simulator, threads
        urls = {"rest": simulator.rest[NAME], "ws": simulator.ws[NAME]}
        exchange = exchange_create(
            actor=None, code="usdm", name="USD-M", ccxt_id=NAME, environment="simulated", urls=urls
        )
        listed = asyncio.run(load_markets(exchange.to_engine(), kinds=frozenset({"linear"})))
        markets_sync(exchange=exchange, markets=[market for market in listed if market.symbol == SYMBOL])
        world.exchanges["usdm"] = exchange
        self.keys = simulator.account(NAME, balances={"USDT": "100000"})
        credentials = Credentials(api_key=self.keys.api_key, secret=self.keys.secret)
        self.account: ExchangeAccount = world.account(world.anna, "usdm", credentials=credentials)
        margins_refresh(exchange=exchange)  # a leverage is allowed by its contract's tiers
        bot_start(bot=manual_bot(owner=world.anna, mode="live"), actor=world.anna)
        simulator.set_mark(NAME, SYMBOL, "50000")

    async def ask(self, work: Callable[..., Any], **arguments: Any) -> Any:
        return await self.threads.run(lambda: work(**arguments))

    async def breathe(self) -> None:
        """Keep the book moving behind its best prices: a feed needs changes to know that it follows."""
        size = 0
        while True:
            size = size % 9 + 1
            bids, asks = [("49990", "5"), ("49000", str(size))], [("50000", "5"), ("51000", str(size))]
            await asyncio.to_thread(self.simulator.set_book, NAME, SYMBOL, bids=bids, asks=asks)
            await asyncio.sleep(0.1)

    async def opened(self) -> None:
        """Wait until the first comparison has opened the account's ledger."""
        rows = ExchangeAccount.objects.filter(pk=self.account.pk, opened_at__isnull=False)
        await eventually(self.ask, rows.count, 1)

    async def buy(self, amount: str = "0.1", **more: str) -> str:
        """Open a position by hand, a long one unless another side is named, and return its trade."""
        data = {
            "mode": "live", "account_id": self.account.pk, "symbol": SYMBOL, "side": "buy", "amount": amount,
            "order": "market", "leverage": 5, **more,
        }  # fmt: skip
        key = f"{data['side']} {amount}"
        command = await self.ask(manual_trade_request, owner=self.anna, actor=self.anna, data=data, idempotency_key=key)
        trade = await self.result_of(command)
        await eventually(self.ask, lambda: Trade.objects.get(trade_id=trade).state, "HOLDING")
        return trade

    async def result_of(self, command: Command) -> str:
        rows = Command.objects.filter(pk=command.pk)
        await eventually(self.ask, rows.exclude(status="pending").count, 1)
        done = await self.ask(rows.get)
        assert done.status == "done", done.result
        return done.result

    async def compare(self) -> dict[str, tuple[str, str]]:
        """Ask for a comparison; return what is open afterwards, by asset or contract."""
        command = await self.ask(reconcile_request, owner_id=self.anna.pk, actor=self.anna)
        result = await self.result_of(command)
        assert result.startswith("1 of 1 live accounts compared"), result
        rows = Difference.objects.filter(state=Difference.State.OPEN)
        return await self.ask(lambda: {row.key: (row.kind, row.cause) for row in rows.all()})

    async def ledger(self) -> dict[str, Decimal]:
        return await self.ask(lambda: ledger_balances(account_id=self.account.pk))

    def wallet(self) -> Decimal:
        return D(self.simulator.balances(self.keys)["USDT"]["total"])

    async def position(self, quantity: str) -> Position:
        """Wait until what is stored of the position is this quantity, and return it."""
        rows = Position.objects.filter(account=self.account, side="both")
        await eventually(self.ask, lambda: list(rows.values_list("quantity", flat=True)), [D(quantity)])
        return await self.ask(rows.get)


@pytest_asyncio.fixture
async def place(world: Any, threads: Any, monkeypatch: pytest.MonkeyPatch) -> AsyncIterator[Place]:
    # Tests compare an account more often within a minute than people do, and than its exchange would answer.
    monkeypatch.setattr(BinanceUsdmDialect, "windows", {"weight": Window(1e6, 60), "orders": Window(1e6, 10)})
    monkeypatch.setattr(BinanceUsdmDialect, "used", lambda self, headers: {})
    with running_simulator("--exchanges", NAME, "--no-limits") as simulator:
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


async def test_a_trade_its_funding_and_a_restart_leave_rows_and_lines_once(
    place: Place,
    hosting: Callable[..., Any],  # noqa: F811
) -> None:
    host = hosting(lease_seconds=60.0)
    await place.opened()
    await place.buy()
    row = await place.position("0.1")
    assert (row.entry_price, row.leverage, row.margin_mode) == (D(50000), 5, "cross")
    place.simulator.fund(NAME, SYMBOL, "0.001")
    assert await place.compare() == {}
    assert await place.ledger() == {"USDT": place.wallet(), SYMBOL: D("0.1")}
    host.request_stop()
    await asyncio.wait_for(hosting.hosts[0][1], 30)
    place.simulator.fund(NAME, SYMBOL, "-0.002")  # while no engine runs
    hosting(lease_seconds=60.0)
    account = ExchangeAccount.objects.filter(pk=place.account.pk)
    await eventually(place.ask, lambda: account.get().observed_state, "live")
    for _ in range(2):
        assert await place.compare() == {}
    paid = await place.ask(lambda: list(Income.objects.order_by("pk").values_list("amount", flat=True)))
    assert paid == [D(-5), D(10)]
    assert await place.ledger() == {"USDT": place.wallet(), SYMBOL: D("0.1")}
    assert await place.ask(ledger_unbalanced) == []


async def test_entry_and_protection_are_rows_of_one_commit_and_stand_for_the_next_holder(
    place: Place,
    hosting: Callable[..., Any],  # noqa: F811
) -> None:
    host = hosting(lease_seconds=60.0)
    await place.opened()
    trade = await place.buy(take_profit="51000", stop_loss="49000")

    def rows() -> list[tuple[int, str, str, Decimal, Any]]:
        return list(Order.objects.order_by("pk").values_list("leg", "kind", "state", "quantity", "trigger"))

    standing = [
        (0, "limit", "FILLED", D("0.1"), None),
        (2, "take_profit", "PLACED", D("0.1"), D(51000)),
        (3, "stop_loss", "PLACED", D("0.1"), D(49000)),
    ]
    await eventually(place.ask, rows, standing)
    first = await place.ask(lambda: list(Ticket.objects.get(trade__trade_id=trade).progress))
    assert [step["text"] for step in first if step["step"] == "placing protection"] == ["sent beside the order"], first
    began = await place.ask(
        lambda: list(OrderEvent.objects.filter(order__leg__gt=0).order_by("pk").values_list("to_state", flat=True)[:4])
    )
    assert sorted(began) == ["PENDING", "PENDING", "SENDING", "SENDING"]
    host.request_stop()
    await asyncio.wait_for(hosting.hosts[0][1], 30)
    hosting(lease_seconds=60.0)
    account = ExchangeAccount.objects.filter(pk=place.account.pk)
    await eventually(place.ask, lambda: account.get().observed_state, "live")
    assert await place.compare() == {}
    assert await place.ask(rows) == standing, "what stands is not placed again"
    place.simulator.set_mark(NAME, SYMBOL, "51000")
    await eventually(place.ask, lambda: Trade.objects.get(trade_id=trade).state, "CLOSED")
    assert [row[2] for row in await place.ask(rows)] == ["FILLED", "FILLED", "CANCELLED"]
    assert await place.ask(ledger_unbalanced) == []


async def test_a_liquidation_ends_its_ticket_and_is_booked_to_the_last_cent(
    place: Place,
    hosting: Callable[..., Any],  # noqa: F811
) -> None:
    hosting(lease_seconds=60.0)
    await place.opened()
    trade = await place.buy()
    await place.position("0.1")
    place.simulator.transfer(place.keys, "USDT", f"-{place.wallet() - 1200}")
    assert await place.compare() == {"USDT": ("balance", "withdrawal")}

    def adopt() -> None:
        for row in Difference.objects.filter(state=Difference.State.OPEN):
            difference_adopt(difference=row, actor=place.anna, reason="as the exchange says")

    await place.ask(adopt)
    assert await place.compare() == {}
    place.simulator.set_mark(NAME, SYMBOL, "37900")
    await eventually(place.ask, lambda: Trade.objects.get(trade_id=trade).state, "CLOSED")
    await place.position("0")
    assert await place.compare() == {}
    assert await place.ledger() == {"USDT": place.wallet()}
    row, order, cost = await place.ask(
        lambda: (Trade.objects.get(trade_id=trade), Order.objects.get(kind="liquidation"), Income.objects.get())
    )
    assert row.reason.startswith("0.1 liquidated by the exchange at price 49990")
    assert (order.trade_id, order.state, order.filled, order.side) == (row.pk, "FILLED", D("0.1"), "sell")
    assert (cost.kind, cost.amount < 0) == ("insurance", True)
    causes = await place.ask(lambda: set(LedgerEntry.objects.values_list("cause", flat=True)))
    assert causes == {"withdrawal", "fill", "fee", "realised", "opening", "insurance"}
    assert await place.ask(ledger_unbalanced) == []


async def test_a_liquidation_of_what_no_ticket_holds_alone_is_adopted_by_a_person(
    place: Place,
    hosting: Callable[..., Any],  # noqa: F811
) -> None:
    hosting(lease_seconds=60.0)
    await place.opened()
    trade = await place.buy()
    await place.position("0.1")
    place.simulator.place_by_hand(place.keys, SYMBOL, "BUY", "0.1", "50500")
    place.simulator.transfer(place.keys, "USDT", f"-{place.wallet() - 2400}")

    def adopt() -> None:
        for row in Difference.objects.filter(state=Difference.State.OPEN):
            difference_adopt(difference=row, actor=place.anna, reason="as the exchange says")

    assert (await place.compare()).keys() == {SYMBOL, "USDT"}
    await place.ask(adopt)
    assert await place.compare() == {}
    place.simulator.set_mark(NAME, SYMBOL, "37900")
    await place.position("0")
    assert await place.compare() == {SYMBOL: ("position", "liquidation"), "USDT": ("balance", "liquidation")}
    await place.ask(adopt)
    assert await place.compare() == {}
    assert await place.ledger() == {"USDT": place.wallet()}
    assert await place.ask(lambda: Trade.objects.get(trade_id=trade).state) == "HOLDING"
    causes = await place.ask(lambda: set(LedgerEntry.objects.values_list("cause", flat=True)))
    assert {"forced", "insurance", "fill", "fee", "opening"} <= causes
    assert await place.ask(ledger_unbalanced) == []
