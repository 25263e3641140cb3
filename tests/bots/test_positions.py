"""Positions as exchanges tell them, stored: the newest reading is all there is, and nobody older undoes it."""

from __future__ import annotations

from decimal import Decimal
from typing import Any

import pytest
from django.urls import reverse

from bots.live_desk import Prices, positions
from bots.models import Bot, ExchangeAccount, Market, Position, Ticket, Trade
from bots.selectors.dashboard import holdings
from bots.services.exchanges import markets_sync
from bots.services.leases import lease_release
from bots.services.positions import positions_apply
from bots.times import from_ns
from tests.bots.world import SECOND, START_NS, World, market
from trading.messages import AccountPosition, AccountPositions

pytestmark = [pytest.mark.django_db, pytest.mark.database]

D = Decimal
KEY = "alpha:BTC/USDT:USDT"


def perpetual(base: str = "BTC") -> Any:
    return market("alpha", base, symbol=f"{base}/USDT:USDT", native_id=f"{base}USDT_P", kind="linear", settle="USDT")


class Bench:
    """One owner's account on an exchange with two perpetuals."""

    def __init__(self, world: World) -> None:
        markets_sync(
            exchange=world.exchanges["alpha"],
            markets=[market("alpha"), market("alpha", "ETH"), perpetual(), perpetual("ETH")],
        )
        self.world = world
        self.owner = world.anna
        self.bot = world.bot(world.anna)
        self.account = ExchangeAccount.objects.get(owner=world.anna, exchange__code="alpha")
        self.token = world.lease(world.anna)

    def told(self, *positions: AccountPosition, after: int = 0, **changes: Any) -> AccountPositions:
        values = {"account_id": self.account.pk, "positions": positions, "received_ns": START_NS + after * SECOND}
        return AccountPositions(**(values | changes))

    def apply(self, *told: AccountPositions, token: int | None = None) -> int:
        return positions_apply(owner_id=self.owner.pk, token=self.token if token is None else token, told=told)

    def rows(self) -> dict[tuple[str, str], Decimal]:
        rows = Position.objects.order_by("pk").values_list("market__symbol", "side", "quantity")
        return {(symbol, side): quantity for symbol, side, quantity in rows}


def position(quantity: str, key: str = KEY, side: str = "both", **figures: Any) -> AccountPosition:
    return AccountPosition(market=key, side=side, quantity=D(quantity), **figures)


@pytest.fixture
def bench(world: World) -> Bench:
    return Bench(world)


def test_every_figure_is_kept_with_the_moment_of_asking(bench: Bench) -> None:
    figures: dict[str, Any] = {
        "entry_price": D("50000.123456789"), "mark_price": D("50010.5"), "liquidation_price": D("41000.000000000001"),
        "unrealized_pnl": D("-5.19"), "leverage": 20, "margin": "isolated",
    }  # fmt: skip
    assert bench.apply(bench.told(position("-0.5", **figures))) == 1
    (row,) = Position.objects.all()
    assert (row.owner, row.account, row.market.symbol) == (bench.owner, bench.account, "BTC/USDT:USDT")
    assert (row.side, row.quantity, row.at) == ("both", D("-0.5"), from_ns(START_NS))
    figures["margin_mode"] = figures.pop("margin")
    assert {name: getattr(row, name) for name in figures} == figures


def test_a_position_that_is_gone_is_a_row_of_0_that_no_older_reading_brings_back(bench: Bench) -> None:
    bench.apply(bench.told(position("0.5", leverage=3), position("2", "alpha:ETH/USDT:USDT")))
    assert bench.apply(bench.told(position("2", "alpha:ETH/USDT:USDT"), after=5)) == 2
    assert bench.rows() == {("BTC/USDT:USDT", "both"): D(0), ("ETH/USDT:USDT", "both"): D(2)}
    gone = Position.objects.get(quantity=0)
    assert (gone.leverage, gone.at) == (None, from_ns(START_NS + 5 * SECOND))
    assert bench.apply(bench.told(position("0.5"), after=4)) == 0
    assert bench.apply(bench.told(after=9)) == 1  # what was gone already stays as it is
    assert not Position.objects.held().exists()


def test_sides_are_rows_of_their_own_and_of_a_batch_the_newest_reading_counts(bench: Bench) -> None:
    both = bench.told(position("1", side="long"), position("-2", side="short"), after=1)
    bench.apply(both, bench.told(position("9", side="long")))
    assert bench.rows() == {("BTC/USDT:USDT", "long"): D(1), ("BTC/USDT:USDT", "short"): D(-2)}


def test_an_engine_whose_lease_has_passed_on_writes_nothing(bench: Bench) -> None:
    bench.apply(bench.told(position("1")))
    lease_release(owner_id=bench.owner.pk, holder="host-1", token=bench.token)
    newer = bench.world.lease(bench.owner, "host-2")
    assert bench.apply(bench.told(position("7"), after=60)) == 0
    assert bench.apply(bench.told(position("2"), after=30), token=newer) == 1
    assert bench.rows() == {("BTC/USDT:USDT", "both"): D(2)}


def test_what_cannot_be_stored_is_left_out_and_leaves_the_rest_and_what_was(bench: Bench) -> None:
    bench.apply(bench.told(position("1")))
    absurd = position("2", entry_price=D("1e25"))
    others = bench.told(position("3", side="sideways"), position("4", "alpha:XRP/USDT:USDT"), absurd,
                        position("5", "alpha:ETH/USDT:USDT"), after=1)  # fmt: skip
    assert bench.apply(others) == 1
    assert bench.rows() == {("BTC/USDT:USDT", "both"): D(1), ("ETH/USDT:USDT", "both"): D(5)}


def test_anothers_account_and_anothers_market_are_not_written(bench: Bench) -> None:
    bens = bench.world.account(bench.world.ben)
    assert bench.apply(bench.told(position("1"), account_id=bens.pk)) == 0
    assert bench.apply(bench.told(position("1", "beta:BTC/USDT"))) == 0
    assert not Position.objects.exists()


def test_the_page_shows_open_ones_and_all_on_request(bench: Bench, anna: Any) -> None:
    bench.apply(bench.told(position("0.25", leverage=7, liquidation_price=D(41000)), position("-3", KEY, "short")))
    bench.apply(bench.told(position("0.25", leverage=7, liquidation_price=D(41000)), after=1))
    address = reverse("admin:bots_position_changelist")
    shown = anna.get(address)
    assert [row.quantity for row in shown.context["cl"].queryset] == [D("0.25")]
    assert "7×" in shown.content.decode()
    assert "41000" in shown.content.decode()
    assert anna.get(address, {"shown": "all"}).context["cl"].queryset.count() == 2
    row = Position.objects.held().get()
    assert anna.get(reverse("admin:bots_position_change", args=[row.pk])).status_code == 200


@pytest.mark.parametrize(("mode", "told"), [("simulated", True), ("paper", False)])
def test_a_ticket_shows_the_exchanges_figures_and_their_age_without_an_engine(
    bench: Bench, anna: Any, mode: str, told: bool
) -> None:
    record = bench.world.trade(bench.bot, bench.token, mode=mode)
    trade = Trade.objects.create(
        owner=bench.owner, trade_id=record.trade_id, bot=Bot.objects.get(pk=bench.bot.pk), route="by hand", base="BTC",
        quote="USDT", state="HOLDING", mode=mode, quantity=D("0.5"), expected_net_bps=0, expected_profit=0,
        lease_token=bench.token, opened_at=from_ns(START_NS),
    )  # fmt: skip
    held = Ticket.objects.create(
        owner=bench.owner, trade=trade, account=bench.account, market=Market.objects.get(symbol="BTC/USDT:USDT"),
        side="sell", quantity=D("0.5"), limit_cap=D(49000), entry_price=D(50000), held=D("0.5"), leverage=3,
    )  # fmt: skip
    bench.apply(bench.told(position("-0.8", leverage=10, liquidation_price=D(54321), mark_price=D(49900))))
    bench.apply(bench.told(position("1", "alpha:ETH/USDT:USDT"), after=-1))  # older: not stored
    (shown,) = positions(holdings([held]), Prices(())).items
    if told:
        figures = (shown.leverage, shown.liquidation_price, shown.mark_price, shown.unrealized_pnl, shown.figures_at)
        assert figures == (10, "54321", "49900", "50", START_NS / 1e9)
    else:
        figures = (shown.leverage, shown.liquidation_price, shown.mark_price, shown.unrealized_pnl, shown.figures_at)
        assert figures == (3, None, None, None, None)
    quoted = Prices([{"market": KEY, "symbol": "BTC/USDT:USDT", "bid": 49989.0, "ask": 49990.0, "status": "live",
                      "received_at": 1.0}])  # fmt: skip
    assert positions(holdings([held]), quoted).items[0].mark_price == "49990"
    (listed,) = anna.get("/api/positions").json()["items"]
    assert (listed["leverage"], listed["figures_at"]) == ((10, START_NS / 1e9) if told else (3, None))
