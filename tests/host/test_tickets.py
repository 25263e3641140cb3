"""Trades by hand from the request to their end: a host, the database, and a simulated Binance on the wire."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable
from contextlib import suppress
from decimal import Decimal
from typing import Any

import pytest
import pytest_asyncio
from django.core.exceptions import ValidationError

from bots.models import Bot, Command, Fill, Order, Ticket, Trade
from bots.services.bots import bot_start
from bots.services.tickets import manual_bot, manual_close_request, manual_trade_request
from tests.api.conftest import Caller
from tests.exchangesim.simulator import shared_simulator  # noqa: F401
from tests.host.test_commands import Place, place  # noqa: F401
from tests.host.test_host import eventually, hosting  # noqa: F401

pytestmark = [pytest.mark.django_db(transaction=True), pytest.mark.database]

D = Decimal


class Prices:
    """The exchange's best prices, and a book that moves behind them: a feed needs changes to know that it follows."""

    def __init__(self, place: Place) -> None:  # noqa: F811
        self._place = place
        self.best = ("59980", "59990")

    async def run(self) -> None:
        size = 0
        while True:
            size = size % 9 + 1
            bid, ask = self.best
            await asyncio.to_thread(
                self._place.simulator.set_book, "binance", "BTC/USDT",
                bids=[(bid, "5"), ("40000", str(size))], asks=[(ask, "5"), ("80000", str(size))],
            )  # fmt: skip
            await asyncio.sleep(0.1)


@pytest_asyncio.fixture
async def prices(place: Place) -> AsyncIterator[Prices]:  # noqa: F811
    prices = Prices(place)
    moving = asyncio.create_task(prices.run())
    yield prices
    moving.cancel()
    with suppress(asyncio.CancelledError):
        await moving


@pytest.fixture(autouse=True)
def patient(settings: Any) -> None:
    """A loaded machine stands still now and then; here that is no reason to refuse a trade."""
    settings.ARB_MAX_LOOP_LAG_SECONDS = 60.0


def wanted(place: Place, **changes: Any) -> dict[str, Any]:  # noqa: F811
    return {
        "mode": "paper", "account_id": place.account.pk, "symbol": "BTC/USDT", "side": "buy", "amount": "0.05",
        "order": "market", "take_profit": "61000", "stop_loss": "59000", **changes,
    }  # fmt: skip


async def asked(place: Place, key: str = "one", **changes: Any) -> Command:  # noqa: F811
    anna = place.world.anna
    data = wanted(place, **changes)
    return await place.ask(manual_trade_request, owner=anna, actor=anna, data=data, idempotency_key=key)


async def result_of(place: Place, command: Command, status: str = "done") -> str:  # noqa: F811
    rows = Command.objects.filter(pk=command.pk)
    await eventually(place.ask, lambda: rows.exclude(status="pending").exists(), True)
    found = await place.ask(rows.get)
    assert found.status == status, found.result
    return found.result


async def is_in(place: Place, trade_id: str, state: str) -> None:  # noqa: F811
    rows = Trade.objects.filter(trade_id=trade_id)
    await eventually(place.ask, lambda: rows.values_list("state", flat=True).get(), state)


def paper_money(place: Place) -> None:  # noqa: F811
    place.account.paper_balances = {"USDT": "100000", "BTC": "1"}
    place.account.save()


async def test_a_paper_ticket_takes_its_profit(
    place: Place,  # noqa: F811
    prices: Prices,
    hosting: Callable[..., Any],  # noqa: F811
) -> None:
    await place.ask(paper_money, place=place)
    hosting(lease_seconds=60.0)
    command = await asked(place)
    again = await asked(place)
    assert again.pk == command.pk, "a double click is one request"
    trade_id = await result_of(place, command)
    await is_in(place, trade_id, "HOLDING")
    ticket = await place.ask(lambda: Ticket.objects.get(trade__trade_id=trade_id))
    assert (ticket.protected_by, ticket.path, ticket.command_id) == ("engine", "paper", command.pk)
    assert ticket.held == D("0.04995")
    assert ticket.entry_price == D("59990")
    assert [step["step"] for step in ticket.progress][-1] == "done"
    prices.best = ("61000", "61010")
    await is_in(place, trade_id, "CLOSED")
    trade = await place.ask(lambda: Trade.objects.get(trade_id=trade_id))
    assert trade.realised_profit == D("0.04995") * 61000 * D("0.999") - D("0.05") * 59990
    assert await place.ask(Ticket.objects.count) == 1
    assert await place.ask(lambda: Ticket.objects.get().held) < D("0.00001")


async def test_a_ticket_on_a_simulated_exchange_is_closed_by_its_owner(
    place: Place,  # noqa: F811
    prices: Prices,
    hosting: Callable[..., Any],  # noqa: F811
) -> None:
    anna = place.world.anna
    with pytest.raises(ValidationError, match="Start trading by hand first"):
        await asked(place, mode="live")
    bot: Bot = await place.ask(manual_bot, owner=anna, mode="live")
    await place.ask(bot_start, bot=bot, actor=anna)
    hosting(lease_seconds=60.0)
    await eventually(place.ask, lambda: bool(place.account.balances.count()), True)
    command = await asked(place, mode="live", key="two")
    trade_id = await result_of(place, command)
    await is_in(place, trade_id, "HOLDING")
    before = place.held()
    assert before["BTC"] == D("4.05") - await place.ask(base_fees)
    with pytest.raises(ValidationError, match="At most the"):
        await place.ask(
            manual_close_request, owner=anna, actor=anna, idempotency_key="three",
            data={"trade_id": trade_id, "order": "market", "amount": "1"},
        )  # fmt: skip
    closing = await place.ask(
        manual_close_request, owner=anna, actor=anna, idempotency_key="four",
        data={"trade_id": trade_id, "order": "market"},
    )  # fmt: skip
    assert await result_of(place, closing) == trade_id
    await is_in(place, trade_id, "CLOSED")

    def shown(pk: int) -> list[str]:
        """The steps that the API and a page that opens now tell of a command."""
        caller = Caller(anna)
        followed = caller.get(f"/api/manual-trade/{pk}").json()["progress"]
        (listed,) = [
            one for one in caller.get("/api/dashboard", mode="live").json()["progress"] if one["command_id"] == pk
        ]
        assert listed == followed
        assert followed["trade_id"] == trade_id
        return [step["step"] for step in followed["steps"] if step["state"] == "done"]

    names = ["withdrawing protection", "placing order", "done"]
    await eventually(place.ask, lambda: shown(closing.pk), names)
    assert await place.ask(shown, pk=command.pk) == ["connecting", "placing order", "placing protection", "done"]
    assert abs(place.held()["BTC"] - D(4)) < D("0.0001")
    assert await place.ask(lambda: Order.objects.unfinished().count()) == 0


def base_fees() -> Decimal:
    return sum(Fill.objects.filter(fee_asset="BTC").values_list("fee", flat=True), D(0))


async def test_a_held_ticket_outlives_its_host(
    place: Place,  # noqa: F811
    prices: Prices,
    hosting: Callable[..., Any],  # noqa: F811
) -> None:
    await place.ask(paper_money, place=place)
    host = hosting(lease_seconds=60.0)
    trade_id = await result_of(place, await asked(place))
    await is_in(place, trade_id, "HOLDING")
    host.request_stop()
    await asyncio.wait_for(hosting.hosts[0][1], 30)
    assert await place.ask(lambda: Trade.objects.get(trade_id=trade_id).state) == "HOLDING"
    hosting(lease_seconds=60.0)
    await eventually(place.ask, lambda: Bot.objects.get(strategy="manual").observed_state, "running")
    prices.best = ("58900", "58910")
    await is_in(place, trade_id, "CLOSED")
    trade = await place.ask(lambda: Trade.objects.get(trade_id=trade_id))
    assert "stop-loss" in trade.reason
