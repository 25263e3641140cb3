"""Rebalancing from the proposal to its end: a host, the database, and a simulated Binance on the wire."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable
from contextlib import suppress
from decimal import Decimal
from typing import Any

import pytest
import pytest_asyncio

from bots import live_cache
from bots.models import Balance, Command, ExchangeAccount, LedgerEntry, Order, Ticket
from bots.selectors.dashboard import held_tickets
from bots.services.bots import bot_start
from bots.services.rebalancing import rebalance_approve, rebalances_follow, rebalances_propose
from bots.services.tickets import manual_bot
from risk.models import RebalanceRequest
from risk.services.switch import switch_set
from tests.exchangesim.simulator import shared_simulator  # noqa: F401
from tests.host.test_commands import Place, place  # noqa: F401
from tests.host.test_host import eventually, hosting  # noqa: F401
from tests.live.items import quote

pytestmark = [pytest.mark.django_db(transaction=True), pytest.mark.database]

D = Decimal


@pytest.fixture(autouse=True)
def patient(settings: Any) -> None:
    """A loaded machine stands still now and then; here that is no reason to refuse a trade."""
    settings.ARB_MAX_LOOP_LAG_SECONDS = 60.0


@pytest_asyncio.fixture
async def short(place: Place) -> AsyncIterator[Place]:  # noqa: F811
    """anna's alpha has 4 BTC and nothing to buy with, beta is as it should be; the book moves."""
    await asyncio.to_thread(place.transfer, "USDT", "-200000")
    await asyncio.to_thread(place.transfer, "BTC", "-3.9")
    moving = asyncio.create_task(place.breathe())
    yield place
    moving.cancel()
    with suppress(asyncio.CancelledError):
        await moving


async def begun(short: Place, hosting: Callable[..., Any]) -> RebalanceRequest:  # noqa: F811
    """Start everything and let the platform propose."""
    hosting(lease_seconds=60.0)
    await short.ask(bot_start, bot=short.bot, actor=short.world.anna)
    accounts = ExchangeAccount.objects.filter(owner=short.world.anna)
    await eventually(short.ask, lambda: accounts.filter(opened_at__isnull=False).count(), 2)
    await eventually(short.ask, lambda: set(accounts.values_list("observed_state", flat=True)), {"live"})
    bot = await short.ask(manual_bot, owner=short.world.anna, mode="live")
    await short.ask(bot_start, bot=bot, actor=short.world.anna)
    await eventually(short.ask, lambda: Balance.objects.filter(account__in=accounts, asset="BTC").count(), 2)
    live_cache.last_known.clear()
    live_cache.last_known.remember([quote(code, bid=59_980.0, ask=59_990.0) for code in ("alpha", "beta")])
    found = await short.ask(rebalances_propose, owner_id=short.world.anna.pk)
    (row,) = [one for one in found if one.account_id == short.account.pk]
    return row


async def ended(short: Place, row: RebalanceRequest) -> RebalanceRequest:
    def state() -> bool:
        rebalances_follow()
        return not RebalanceRequest.objects.get(pk=row.pk).is_open

    await eventually(short.ask, state, True, seconds=120)
    found: RebalanceRequest = await short.ask(lambda: RebalanceRequest.objects.select_related("trade").get(pk=row.pk))
    return found


async def test_an_approved_conversion_is_filled_and_balances_are_nearer_to_the_target(
    short: Place,
    hosting: Callable[..., Any],  # noqa: F811
) -> None:
    row = await begun(short, hosting)
    assert (row.kind, row.side, row.asset, row.state) == ("convert", "sell", "BTC", "PROPOSED")
    before = await asyncio.to_thread(short.held)
    assert before == {"BTC": D("0.1")}
    await short.ask(rebalance_approve, request_id=row.pk, actor=short.world.operator, note="Go on.")
    done = await ended(short, row)
    assert done.state == "DONE", done.outcome
    after = await asyncio.to_thread(short.held)
    assert after["BTC"] == before["BTC"] - row.amount
    assert done.filled == row.amount
    assert done.realised_price is not None
    assert D("59900") < done.realised_price < D("60100")
    assert set(done.fees) == {"USDT"}
    base = after["BTC"] * 59_985
    assert abs(base / (base + after["USDT"]) - D("0.5")) < D("0.01"), "it was all BTC, and is half of it now"

    def stored() -> None:
        ticket = Ticket.objects.get(trade=done.trade)
        assert ticket.style["kind"] == "adaptive"
        assert (ticket.take_profit, ticket.stop_loss, ticket.held, ticket.is_close_only) == (None, None, 0, True)
        assert ticket.improvement == done.improvement
        assert not held_tickets(owner_id=short.world.anna.pk).exists(), "no page offers to close it"
        assert ticket.trade.residual_base == 0
        assert ticket.trade.realised_profit == -D(done.fees["USDT"]), "its cost is booked"
        orders = Order.objects.filter(trade=done.trade)
        assert set(orders.values_list("side", flat=True)) == {"sell"}
        assert LedgerEntry.objects.filter(fill__order__in=orders, cause="fill").exists()
        assert Command.objects.get(pk=done.command_id).result == done.trade.trade_id
        assert [event.to_state for event in done.events.all()] == ["PROPOSED", "APPROVED", "RUNNING", "DONE"]

    await short.ask(stored)
    assert await short.ask(rebalances_follow) == 0


async def test_what_is_switched_off_is_not_converted(
    short: Place,
    hosting: Callable[..., Any],  # noqa: F811
) -> None:
    await short.ask(
        switch_set, actor=short.world.operator, scope="global", state="kill", reason="A look.", seen_version=0
    )
    row = await begun(short, hosting)
    await short.ask(rebalance_approve, request_id=row.pk, actor=short.world.operator)
    done = await ended(short, row)
    assert done.state == "FAILED"
    assert "killed" in done.outcome
    assert await asyncio.to_thread(short.held) == {"BTC": D("0.1")}
    assert not await short.ask(Order.objects.exists)
