"""Both sides of one contract at once: a host, the database, and a simulated Binance USD-M exchange in hedge mode."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable
from contextlib import suppress
from decimal import Decimal
from typing import Any

import pytest
import pytest_asyncio
from django.test import Client
from django.urls import reverse

from bots.models import Difference, ExchangeAccount, Fill, Order, Position, Trade
from bots.selectors import ledger_unbalanced
from bots.services.differences import difference_adopt
from tests.exchangesim.simulator import running_simulator
from tests.host.test_contracts import NAME, SYMBOL, Place, patient  # noqa: F401 (fixtures)
from tests.host.test_host import eventually, hosting  # noqa: F401
from trading.exchanges.binance_usdm.venue import BinanceUsdmDialect
from trading.exchanges.budget import Window

pytestmark = [pytest.mark.django_db(transaction=True), pytest.mark.database]

D = Decimal
LONG, SHORT = f"{SYMBOL} long", f"{SYMBOL} short"


@pytest_asyncio.fixture
async def place(world: Any, threads: Any, monkeypatch: pytest.MonkeyPatch) -> AsyncIterator[Place]:
    # Tests compare an account more often within a minute than people do, and than its exchange would answer.
    monkeypatch.setattr(BinanceUsdmDialect, "windows", {"weight": Window(1e6, 60), "orders": Window(1e6, 10)})
    monkeypatch.setattr(BinanceUsdmDialect, "used", lambda self, headers: {})
    with running_simulator("--exchanges", NAME, "--no-limits") as simulator:
        place = await threads.run(lambda: Place(world, simulator, threads))
        simulator.hedge(place.keys)
        breathing = asyncio.create_task(place.breathe())
        yield place
        breathing.cancel()
        with suppress(asyncio.CancelledError):
            await breathing


async def both(place: Place) -> tuple[str, str]:
    """Hold as much long as short, by hand; return both trades once their positions are stored."""
    await place.opened()
    long = await place.buy(take_profit="52000", stop_loss="47000")
    short = await place.buy(side="sell", take_profit="47000", stop_loss="52000")
    await sides(place, long="0.1", short="-0.1")
    return long, short


async def sides(place: Place, **held: str) -> None:
    """Wait until what is stored of the account's positions is this, by side; what is gone is a row of 0."""
    rows = Position.objects.filter(account=place.account).order_by("side")
    await eventually(
        place.ask,
        lambda: {row.side: row.quantity for row in rows.all()},
        {side: D(quantity) for side, quantity in held.items()},
    )


async def test_both_sides_have_rows_figures_and_lines_of_their_own_also_for_the_next_holder(
    place: Place,
    hosting: Callable[..., Any],  # noqa: F811
) -> None:
    host = hosting(lease_seconds=60.0)
    long, short = await both(place)
    place.simulator.set_mark(NAME, SYMBOL, "50100")
    await eventually(place.ask, lambda: set(Position.objects.values_list("mark_price", flat=True)), {D(50_100)})

    def shown() -> tuple[dict[str, Position], dict[str, dict[str, Any]], str]:
        client = Client()
        client.force_login(place.anna)
        listed = client.get("/api/positions").json()["items"]
        page = client.get(reverse("admin:bots_position_changelist")).content.decode()
        return {row.side: row for row in Position.objects.all()}, {one["side"]: one for one in listed}, page

    rows, listed, page = await place.ask(shown)
    figures = {side: (row.quantity, row.entry_price, row.unrealized_pnl, row.leverage) for side, row in rows.items()}
    assert figures == {
        "long": (D("0.1"), D(50_000), D(10), 5),
        "short": (D("-0.1"), D(49_990), D(-11), 5),
    }
    assert {side: (one["trade_id"], one["size"], one["entry_price"]) for side, one in listed.items()} == {
        "long": (long, "0.1", "50000"),
        "short": (short, "0.1", "49990"),
    }
    for side, one in listed.items():
        told = rows[side].liquidation_price
        assert (one["symbol"], one["leverage"]) == (SYMBOL, 5)
        assert (one["liquidation_price"] is None) is (told is None)
        assert one["unrealized_pnl"] is not None
    assert "Long" in page
    assert "Short" in page
    assert await place.compare() == {}
    assert await place.ledger() == {"USDT": place.wallet(), LONG: D("0.1"), SHORT: D("-0.1")}
    told = await place.ask(lambda: dict(Fill.objects.values_list("side", "position_side")))
    assert told == {"buy": "long", "sell": "short"}
    host.request_stop()
    await asyncio.wait_for(hosting.hosts[0][1], 30)
    place.simulator.deleverage(place.keys, SYMBOL, "0.1", side="SHORT")  # while no engine runs
    hosting(lease_seconds=60.0)
    await eventually(place.ask, lambda: Trade.objects.get(trade_id=short).state, "CLOSED")
    await sides(place, long="0.1", short="0")
    assert await place.compare() == {}
    assert await place.ask(lambda: Trade.objects.get(trade_id=long).state) == "HOLDING"
    assert await place.ledger() == {"USDT": place.wallet(), LONG: D("0.1")}
    standing = Order.objects.filter(state="PLACED").order_by("pk").values_list("trade__trade_id", "side", "trigger")
    assert await place.ask(lambda: set(standing)) == {(long, "sell", D(52_000)), (long, "sell", D(47_000))}
    assert await place.ask(ledger_unbalanced) == []


async def test_both_sides_closed_by_hand_are_rows_of_their_own_and_adopted_one_by_one(
    place: Place,
    hosting: Callable[..., Any],  # noqa: F811
) -> None:
    hosting(lease_seconds=60.0)
    await both(place)
    assert await place.compare() == {}
    for side, price, position in (("SELL", "49000", "LONG"), ("BUY", "51000", "SHORT")):
        place.simulator.place_by_hand(place.keys, SYMBOL, side, "0.04", price, position=position)
    await sides(place, long="0.06", short="-0.06")
    rows = Difference.objects.filter(state=Difference.State.OPEN, kind="position").order_by("key")
    await eventually(  # nobody asks for it
        place.ask,
        lambda: list(rows.values_list("key", "market", "ours", "theirs", "cause")),
        [
            (LONG, f"usdm:{SYMBOL}", D("0.1"), D("0.06"), "manual_trade"),
            (SHORT, f"usdm:{SYMBOL}", D("-0.1"), D("-0.06"), "manual_trade"),
        ],
    )

    def adopt(**which: str) -> None:
        for row in Difference.objects.filter(state=Difference.State.OPEN, **which):
            difference_adopt(difference=row, actor=place.anna, reason="closed by hand")

    await place.ask(adopt, key=SHORT)
    assert (await place.compare()).keys() == {LONG, "USDT"}
    await place.ask(adopt)
    assert await place.compare() == {}
    assert await place.ledger() == {"USDT": place.wallet(), LONG: D("0.06"), SHORT: D("-0.06")}
    matched = await place.ask(lambda: ExchangeAccount.objects.get(pk=place.account.pk).matched_at)
    assert matched is not None
    assert await place.ask(ledger_unbalanced) == []
