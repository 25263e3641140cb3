"""What people ask of an engine is carried out once, against exchanges that speak the real protocols."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator, Callable
from decimal import Decimal
from typing import Any

import pytest
import pytest_asyncio

from bots.engine_host import owner as owner_module
from bots.engine_host.commands import CommandRunner
from bots.models import Bot, Command, Difference, Exchange, ExchangeAccount, Order, Trade
from bots.services.bots import bot_start
from bots.services.commands import command_create, commands_pending
from bots.services.differences import difference_adopt, difference_dismiss, reconcile_request
from bots.services.disputes import order_adopt, order_mark_absent
from bots.services.events import events_apply
from bots.services.leases import lease_release
from bots.services.ledger_sums import ledger_balances
from tests.bots.durable import trade_commit
from tests.exchangesim.simulator import Simulator, shared_simulator  # noqa: F401
from tests.host.test_host import eventually, hosting, observed  # noqa: F401
from trading.config import Credentials, ExchangeSpec
from trading.exchanges.binance.venue import BinanceDialect
from trading.exchanges.ccxt_client import make_client
from trading.execution.memory_store import MemoryStore
from trading.execution.tickets import Opened
from trading.messages import OrderState

pytestmark = [pytest.mark.django_db(transaction=True), pytest.mark.database]

D = Decimal


class Place:
    """anna's two accounts at a simulated exchange, and a client of hers that is not the platform."""

    def __init__(self, world: Any, simulator: Simulator, threads: Any) -> None:
        self.world, self.simulator, self.threads = world, simulator, threads
        self.urls = {"rest": simulator.rest["binance"], "ws": simulator.ws["binance"]}
        self.keys = {}
        Exchange.objects.update(urls=self.urls)
        for code in ("alpha", "beta"):
            keys = simulator.account("binance", balances={"USDT": "200000", "BTC": "4"})
            self.keys[code] = Credentials(api_key=keys.api_key, secret=keys.secret)
            world.account(world.anna, code, credentials=self.keys[code])
        self.bot = world.bot(world.anna, mode="live", min_net_edge_bps=D(900), max_edge_bps=D(1000))
        self.account = ExchangeAccount.objects.get(owner=world.anna, exchange__code="alpha")

    async def ask(self, work: Callable[..., Any], **arguments: Any) -> Any:
        return await self.threads.run(lambda: work(**arguments))

    async def by_hand(self, side: str, quantity: str, price: str, **params: str) -> str:
        """Place an order with anna's key past the platform; returns the exchange's id."""
        spec = ExchangeSpec(code="alpha", ccxt_id="binance", environment="simulated", urls=self.urls)
        client = make_client(spec, self.keys["alpha"], options=BinanceDialect.options)
        try:
            await client.load_markets()
            order = await client.create_order("BTC/USDT", "limit", side, quantity, price, params)
            return str(order["id"])
        finally:
            await client.close()

    async def show(self, bid: str = "59980", ask: str = "59990") -> None:
        await asyncio.to_thread(self.simulator.set_book, "binance", "BTC/USDT", bids=[(bid, "5")], asks=[(ask, "5")])

    async def breathe(self) -> None:
        """Keep the book moving behind its best prices: a feed needs changes to know that it follows."""
        size = 0
        while True:
            size = size % 9 + 1
            await asyncio.to_thread(
                self.simulator.set_book, "binance", "BTC/USDT",
                bids=[("59980", "5"), ("40000", str(size))], asks=[("59990", "5"), ("80000", str(size))],
            )  # fmt: skip
            await asyncio.sleep(0.1)

    def transfer(self, asset: str, amount: str) -> None:
        body = {"exchange": "binance", "api_key": self.keys["alpha"].api_key, "asset": asset, "amount": amount}
        self.simulator.call("POST", "/transfers", body)

    def open_causes(self) -> dict[str, str]:
        rows = Difference.objects.filter(account=self.account, state=Difference.State.OPEN)
        return dict(rows.values_list("key", "cause"))

    async def compare(self) -> str:
        """Ask for a comparison and return what was answered."""
        command = await self.ask(reconcile_request, owner_id=self.world.anna.pk, actor=self.world.anna)
        await eventually(self.ask, lambda: Command.objects.get(pk=command.pk).status, "done")
        return await self.ask(lambda: Command.objects.get(pk=command.pk).result)

    def held(self) -> dict[str, Decimal]:
        """Return what the exchange holds, by asset."""
        answer = self.simulator.call("GET", f"/accounts/binance/{self.keys['alpha'].api_key}")
        totals = {asset: D(row["total"]) for asset, row in answer["balances"].items()}
        return {asset: total for asset, total in totals.items() if total}


@pytest_asyncio.fixture
async def place(world, shared_simulator, threads) -> AsyncIterator[Place]:  # noqa: F811
    yield await threads.run(lambda: Place(world, shared_simulator, threads))


async def running(place: Place, hosting: Callable[..., Any]) -> None:  # noqa: F811
    """Start a host and the bot, and wait for the first comparison of both accounts."""
    hosting()
    await place.ask(bot_start, bot=place.bot, actor=place.world.anna)
    accounts = ExchangeAccount.objects.filter(owner=place.world.anna)
    await eventually(place.ask, lambda: accounts.filter(opened_at__isnull=False).count(), 2)
    await eventually(place.ask, lambda: set(accounts.values_list("observed_state", flat=True)), {"live"})


async def test_a_deposit_and_trades_by_hand_are_recognised_and_adopted(place, hosting) -> None:  # noqa: F811
    await place.show()
    await running(place, hosting)
    assert await place.ask(lambda: ledger_balances(account_id=place.account.pk)) == place.held()
    place.transfer("USDT", "12.5")
    place.transfer("ETH", "3")
    assert await place.compare() == "2 of 2 live accounts compared, 2 differences."
    assert await place.ask(place.open_causes) == {"USDT": "deposit", "ETH": "deposit"}

    def adopt() -> None:
        for row in Difference.objects.filter(state=Difference.State.OPEN):
            difference_adopt(difference=row, actor=place.world.anna)

    await place.ask(adopt)
    await place.by_hand("buy", "0.01", "60000", timeInForce="IOC")
    resting = await place.by_hand("buy", "0.02", "50000")
    await place.compare()
    assert await place.ask(place.open_causes) == {
        "USDT": "manual_trade", "BTC": "manual_trade", resting: "foreign_order",
    }  # fmt: skip
    assert await place.ask(lambda: ExchangeAccount.objects.get(pk=place.account.pk).foreign_orders) == 1

    def settle() -> None:
        rows = Difference.objects.filter(state=Difference.State.OPEN)
        difference_dismiss(difference=rows.get(key=resting), actor=place.world.anna, reason="mine")
        adopt()

    await place.ask(settle)
    await place.compare()
    assert await place.ask(place.open_causes) == {}
    assert await place.ask(lambda: ledger_balances(account_id=place.account.pk)) == place.held()
    account = await place.ask(lambda: ExchangeAccount.objects.get(pk=place.account.pk))
    assert account.matched_at == account.reconciled_at
    assert account.swept_at is not None


def disputed(place: Place) -> Order:
    """A trade of a former engine: its buy on alpha is disputed, its sell on beta never was."""
    world, owner = place.world, place.world.anna
    token = world.lease(owner, "former host")
    trade = world.trade(place.bot, token, quantity=D("0.05"))
    intents = world.intents(place.bot, trade, created_ns=time.time_ns())
    trade_commit(owner_id=owner.pk, token=token, trade=trade, intents=intents)
    events_apply(
        owner_id=owner.pk,
        batch=[
            (world.event(intents[0], OrderState.UNKNOWN, exchange_order_id=""), "UNKNOWN"),
            (world.event(intents[0], OrderState.DISPUTED, exchange_order_id=""), "DISPUTED"),
            (world.event(intents[1], OrderState.FAILED, exchange_order_id=""), "FAILED"),
        ],
    )
    lease_release(owner_id=owner.pk, holder="former host", token=token)
    return Order.objects.select_related("market__exchange").get(client_order_id=intents[0].client_order_id)


async def test_adopting_asks_the_exchange_books_and_hedges(place, hosting) -> None:  # noqa: F811
    await place.show()
    breathing = asyncio.create_task(place.breathe())
    exchange_id = await place.by_hand("buy", "0.05", "60000", timeInForce="IOC")
    order = await place.ask(disputed, place=place)
    hosting()
    anna = place.world.anna
    wrong = await place.ask(order_adopt, order=order, actor=anna, reason="a guess", exchange_order_id="424242")
    await eventually(place.ask, lambda: Command.objects.get(pk=wrong.pk).status, "failed")
    said = await place.ask(lambda: Command.objects.get(pk=wrong.pk).result)
    assert "has executed nothing" in said or "does not answer now" in said  # the account may be connecting yet

    async def adopt() -> str:
        command = await place.ask(
            order_adopt, order=order, actor=anna, reason="on its page", exchange_order_id=exchange_id
        )
        await eventually(place.ask, lambda: Command.objects.get(pk=command.pk).status != "pending", True)
        return await place.ask(lambda: Command.objects.get(pk=command.pk).result)

    async with asyncio.timeout(60):
        while "does not answer now" in (said := await adopt()):  # noqa: ASYNC110 (it waits for a connection)
            await asyncio.sleep(0.2)
    assert said == "Booked: the order is FILLED, 0.05 of 0.05 filled."
    trade = Trade.objects.filter(pk=order.trade_id)
    await eventually(place.ask, lambda: trade.values_list("state", flat=True).get(), "CLOSED")
    orders = await place.ask(lambda: list(Order.objects.order_by("pk").values_list("side", "state")))
    assert orders[0] == ("buy", "FILLED")
    assert ("sell", "FILLED") in orders[2:]  # what was bought has been sold again
    breathing.cancel()


async def test_marking_absent_works_while_the_exchange_is_away(place, hosting) -> None:  # noqa: F811
    await place.ask(lambda: Exchange.objects.update(urls={"rest": "http://127.0.0.1:9", "ws": "ws://127.0.0.1:9"}))
    order = await place.ask(disputed, place=place)
    hosting()
    command = await place.ask(order_mark_absent, order=order, actor=place.world.anna, reason="never there")
    await eventually(place.ask, lambda: Command.objects.get(pk=command.pk).status, "done")
    states = await place.ask(lambda: set(Order.objects.values_list("state", flat=True)))
    assert states == {"FAILED"}
    trade = Trade.objects.filter(pk=order.trade_id)
    await eventually(place.ask, lambda: trade.values_list("state", flat=True).get(), "FAILED")


async def test_while_an_engine_stops_its_bot_says_how_much_is_unresolved(place, hosting, monkeypatch) -> None:  # noqa: F811
    monkeypatch.setattr(owner_module, "DRAIN_SECONDS", 4.0)
    await place.ask(lambda: Exchange.objects.update(urls={"rest": "http://127.0.0.1:9", "ws": "ws://127.0.0.1:9"}))

    def unknown() -> None:
        order = disputed(place)
        Order.objects.filter(pk=order.pk).update(state=OrderState.UNKNOWN.value)

    await place.ask(unknown)
    host = hosting()
    await place.ask(bot_start, bot=place.bot, actor=place.world.anna)
    await eventually(place.ask, observed(place.bot), "blocked")
    seen: set[tuple[str, str]] = set()

    def look() -> bool:
        row = Bot.objects.values_list("observed_state", "observed_reason").get(pk=place.bot.pk)
        seen.add(row)
        return row[0] == "stopped"

    host.request_stop()
    await eventually(place.ask, look, True)
    assert ("stopping", "stopping, 1 unresolved") in seen
    last = await place.ask(lambda: Bot.objects.get(pk=place.bot.pk).observed_reason)
    assert last == "1 orders are unresolved"
    states = ExchangeAccount.objects.values_list("observed_state", flat=True)
    await eventually(place.ask, lambda: set(states.all()), {"idle"})


async def test_a_command_that_was_answered_since_it_was_read_is_not_carried_out_again(place: Place) -> None:
    class Refusing:
        """An engine that refuses what is asked of it, and counts how often it was."""

        times = 0

        async def open_ticket(self, bot_id: int, asked: Any) -> Opened:
            self.times += 1
            return Opened(check="limits", refusal="It is too much.")

    payload = {
        "bot_id": 1, "market": "alpha:BTC/USDT", "account_id": 1, "side": "buy", "quantity": "1", "order": "market",
    }  # fmt: skip
    command = await place.ask(
        command_create, owner_id=place.world.anna.pk, actor=None, kind=Command.Kind.MANUAL_TRADE, payload=payload
    )
    engine: Any = Refusing()
    runner = CommandRunner(engine, MemoryStore(), place.threads)
    read = await place.ask(commands_pending, owner_id=place.world.anna.pk)
    assert [one.pk for one in read] == [command.pk]
    await runner.take(read)
    await eventually(place.ask, lambda: Command.objects.get(pk=command.pk).status, "failed")
    while runner._running:  # noqa: ASYNC110
        await asyncio.sleep(0.01)
    await runner.take(read)
    await runner.close()
    assert engine.times == 1
