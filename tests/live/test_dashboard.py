"""The live dashboard's socket: what a desk is sent, in which messages, and that each is as its schema says."""

from __future__ import annotations

import asyncio
import json
import time
from decimal import Decimal
from typing import Any

import msgspec
import pytest
from channels.db import database_sync_to_async
from django.utils import timezone

from bots import live_cache, live_schema
from bots.dashboard_consumer import DashboardConsumer
from bots.live_desk_schema import BATCHED, Batch, check_frame
from bots.live_socket import (
    MAX_INPUT_CHARACTERS,
    MAX_INPUTS_PER_WINDOW,
    NOT_ALLOWED,
    NOT_UNDERSTOOD,
    SIGNED_OUT,
    TOO_MANY_MESSAGES,
)
from bots.models import BasisPosition, Bot, Market, Order, Position, Ticket
from bots.selectors.dashboard import ORDERS
from bots.selectors.live import trades_data, trades_shown
from bots.services.tickets import manual_bot
from tests.live.conftest import Connect, Page
from tests.live.desk import Desk, make_desk, make_user
from tests.live.items import pnl, position, publish, quote, trade
from trading.basis import BasisRules

pytestmark = [pytest.mark.django_db(transaction=True), pytest.mark.database]


@pytest.fixture
def open_desk(connect: Connect):
    """Return a function that opens a dashboard and reads up to its snapshot."""

    async def opened(user: Any, mode: str = "paper", more: str = "") -> tuple[Page, Any]:
        page = await connect(user, f"?mode={mode}{more}", path="/ws/live-dashboard", check=check_frame)
        return page, await page.frame("snapshot")

    return opened


async def message(page: Page, kind: str, **wanted: Any) -> dict[str, Any]:
    """Return the data of the next message of a kind with these values, alone or in a batch."""
    while True:
        name, data = await page.named_frame()
        found = data.items if isinstance(data, Batch) else [type("Alone", (), {"type": name, "data": data})]
        for item in found:
            if item.type != kind:
                continue
            got = item.data if isinstance(item.data, dict) else json.loads(page.raw)["data"]
            if all(got[key] == value for key, value in wanted.items()):
                return got


def ticket(desk: Desk, *, held: str = "0.5", side: str = "buy", mode: str = "paper") -> Ticket:
    """Hold a position made by hand at 50,000."""
    made = desk.trade(state="HOLDING", profit=None, mode=mode)
    account = desk.accounts["binance-sim"]
    return Ticket.objects.create(
        owner=desk.user, trade=made, account=account, market=desk.markets["binance-sim"], side=side,
        quantity=Decimal(held), limit_cap=Decimal(50_100), entry_price=Decimal(50_000), held=Decimal(held),
        take_profit=Decimal(52_000), protected_by="engine",
    )  # fmt: skip


def held_pair(desk: Desk, *, mode: str = "paper") -> BasisPosition:
    """Hold spot of the first exchange against a perpetual of the second."""
    made = desk.trade(state="HOLDING", profit=None, mode=mode)
    spot, other = desk.markets["okx-sim"], desk.markets["binance-sim"]
    perp = Market.objects.create(
        exchange=other.exchange, symbol="BTC/USDT:USDT", native_id="BTCUSDT-perp", base=other.base, quote=other.quote,
        settle=other.quote, kind="linear", tick=other.tick, lot=other.lot, taker_fee=other.taker_fee,
        maker_fee=other.maker_fee,
    )  # fmt: skip
    made.orders.filter(market=other).update(market=perp)
    return BasisPosition.objects.create(
        owner=desk.user, trade=made, spot=spot, perp=perp, rules=msgspec.to_builtins(BasisRules()), funding_rate=1e-4,
        held=Decimal("0.01"), spot_price=Decimal(50_000), perp_price=Decimal(50_400), entry_bps=Decimal("40.5"),
    )  # fmt: skip


def health(
    desk: Desk, *, at: float | None = None, state: str = "live", reason: str = "", **more: Any
) -> dict[str, Any]:
    accounts = [
        {
            "account_id": account.pk, "account": account.label, "exchange": code, "environment": "paper",
            "state": state, "reason": reason, "path": "paper", "path_reason": "", "answer_ms": None,
        }
        for code, account in desk.accounts.items()
    ]  # fmt: skip
    data = {
        "owner_id": desk.user.pk, "at": time.time() if at is None else at, "halted": "", "stopping": False, "lag": "",
        "open_trades": 0, "unresolved_orders": 0, "accounts": accounts,
        "stages": [{"stage": "book_to_decision", "count": 3, "p50_us": 20, "p99_us": 60, "max_us": 70}],
    } | more  # fmt: skip
    return {"kind": "health", "key": str(desk.user.pk), "data": data}


async def know(*quotes: dict[str, Any]) -> None:
    """Let this process hear quotes."""
    live_cache.last_known.remember(quotes)


async def test_who_is_not_signed_in_gets_nothing(connect: Connect) -> None:
    page = await connect(None, "?mode=paper", path="/ws/live-dashboard", check=check_frame)
    assert await page.closed() == SIGNED_OUT


@pytest.mark.parametrize("query", ["", "?mode=", "?mode=both", "?mode=paper%00"])
async def test_a_desk_there_is_not_is_refused_with_its_choices(desk: Desk, connect: Connect, query: str) -> None:
    page = await connect(desk.user, query, path="/ws/live-dashboard", check=check_frame)
    assert "paper, live" in (await page.frame("error")).message
    assert await page.closed() == NOT_UNDERSTOOD


async def test_another_users_desk_is_the_operators_only(desk: Desk, connect: Connect, open_desk: Any) -> None:
    other = await database_sync_to_async(make_user)("bob")
    operator = await database_sync_to_async(make_user)("olivia", operator=True)
    refused = await connect(other, f"?mode=paper&owner={desk.user.pk}", path="/ws/live-dashboard", check=check_frame)
    assert await refused.closed() == NOT_ALLOWED
    _, shown = await open_desk(operator, more=f"&owner={desk.user.pk}")
    assert [bot.name for bot in shown.bots] == ["alice's majors"]


async def test_the_snapshot_values_what_is_stored_at_the_newest_quotes(desk: Desk, open_desk: Any) -> None:
    await know(quote(bid=49_999.0, ask=50_001.0))

    def stored() -> None:
        desk.trade(profit="0.25")
        ticket(desk, held="0.5")

    await database_sync_to_async(stored)()
    _, shown = await open_desk(desk.user)
    [line] = shown.balance
    assert (line.environment, line.quote) == ("paper", "USDT")
    assert Decimal(line.wallet_balance) == 2 * (Decimal("60000.25") + Decimal("1.5") * 50_000)
    # A long position would be closed at the bid; on spot it is in the wallet already.
    assert Decimal(line.unrealized_pnl) == Decimal("-0.5")
    assert Decimal(line.net_balance) == Decimal(line.wallet_balance)
    assert Decimal(line.realized_pnl) == Decimal("0.25")
    [held] = shown.positions.items
    assert (held.side, held.size, held.mark_price, held.protected_by) == ("long", "0.5", "49999", "engine")
    assert shown.positions.count == 1
    assert [order.status for order in shown.orders] == ["FILLED"] * 4
    assert shown.connection.state == "yellow"


async def test_what_has_no_quote_is_named_and_not_guessed(desk: Desk, open_desk: Any) -> None:
    _, shown = await open_desk(desk.user)
    [line] = shown.balance
    assert line.unvalued == ["BTC"]
    assert Decimal(line.wallet_balance) == 2 * Decimal("60000.25")


async def test_paper_and_what_is_sent_to_exchanges_are_never_on_one_desk(desk: Desk, open_desk: Any) -> None:
    def stored() -> None:
        desk.trade(mode="paper", profit="1")
        desk.trade(mode="simulated", profit="2")
        desk.trade(mode="testnet", profit="4")

    await database_sync_to_async(stored)()
    page, shown = await open_desk(desk.user)
    assert [one.mode for one in shown.trades] == ["paper"]
    _, others = await open_desk(desk.user, "live")
    assert {one.mode for one in others.trades} == {"simulated", "testnet"}
    assert [(line.environment, Decimal(line.realized_pnl)) for line in others.balance] == [
        ("simulated", Decimal(2)), ("testnet", Decimal(4)),
    ]  # fmt: skip
    await publish(trade("live-one", mode="simulated"), trade("paper-one", mode="paper"), owner=desk.user.pk)
    assert (await message(page, "trade"))["id"] == "paper-one"


async def test_an_accounts_money_is_real_while_a_live_bot_runs_on_it(desk: Desk, open_desk: Any) -> None:
    def go_live() -> None:
        desk.bot.mode, desk.bot.desired_state = "live", "running"
        desk.bot.save()

    await database_sync_to_async(go_live)()
    _, shown = await open_desk(desk.user, "live")
    [line] = shown.balance
    assert line.environment == "simulated"
    _, paper = await open_desk(desk.user, "paper")
    assert paper.balance == []


async def test_trades_by_hand_make_the_money_of_accounts_with_a_key_real(desk: Desk, open_desk: Any) -> None:
    keyed, without = desk.accounts.values()

    def by_hand() -> None:
        desk.bot.accounts.clear()
        keyed.credentials, keyed.key_fingerprint = "sealed", "print"
        keyed.save()
        for mode in ("live", "paper"):
            manual = manual_bot(owner=desk.user, mode=mode)
            Bot.objects.filter(pk=manual.pk).update(desired_state="running")

    await database_sync_to_async(by_hand)()
    for mode, account, environment in (("live", keyed, "simulated"), ("paper", without, "paper")):
        _, shown = await open_desk(desk.user, mode)
        assert [(one.account_id, one.environment) for one in shown.connection.accounts] == [(account.pk, environment)]
        assert {line.environment for line in shown.balance} == {environment}


async def test_a_trade_tells_its_orders_too_in_one_batch(desk: Desk, open_desk: Any) -> None:
    page, _ = await open_desk(desk.user)
    await publish(trade("t-1"), owner=desk.user.pk)
    _, batch = await page.named_frame("batch")
    assert [item.type for item in batch.items] == ["trade", "orders"]
    orders = batch.items[1].data["items"]
    assert [(order["side"], order["account"], order["path"]) for order in orders] == [
        ("buy", "main", "paper"), ("sell", "main", "paper"),
    ]  # fmt: skip


async def test_a_single_change_leaves_alone(desk: Desk, open_desk: Any) -> None:
    page, _ = await open_desk(desk.user)
    await publish(
        {"kind": "progress", "key": "t", "data": {"trade_id": "t", "command_id": 7, "step": "connecting", "steps": [
            {"step": "connecting", "state": "now", "at": time.time(), "ms": 0.0, "text": ""}], "path": "paper",
            "message": ""}},
        owner=desk.user.pk,
    )  # fmt: skip
    name, data = await page.named_frame("progress")
    assert (name, data.command_id) == ("progress", 7)


async def test_a_balance_that_changes_is_valued_and_told(desk: Desk, open_desk: Any) -> None:
    await know(quote(bid=50_000.0, ask=50_000.0))
    page, before = await open_desk(desk.user)
    account = desk.accounts["binance-sim"]
    data = {"account_id": account.pk, "account": "main", "exchange": "binance-sim", "asset": "BTC", "free": "2",
            "used": "0.5", "at": time.time()}  # fmt: skip
    await publish({"kind": "balance", "key": f"{account.pk}:BTC", "data": data}, owner=desk.user.pk)
    line = await message(page, "balance")
    assert Decimal(line["wallet_balance"]) - Decimal(before.balance[0].wallet_balance) == 50_000


async def test_a_position_follows_the_quotes_and_is_gone_when_closed(desk: Desk, open_desk: Any) -> None:
    await know(quote(bid=50_000.0, ask=50_001.0))
    page, shown = await open_desk(desk.user)
    assert shown.positions.count == 0
    await publish(position("0.5"), owner=desk.user.pk)
    assert (await message(page, "positions", count=1))["items"][0]["unrealized_pnl"] == "0"
    await know(quote(bid=50_100.0, ask=50_101.0))
    while (held := await message(page, "positions"))["items"][0]["unrealized_pnl"] != "50":
        assert held["count"] == 1
    await publish(position("0"), owner=desk.user.pk)
    assert (await message(page, "positions", count=0))["items"] == []


async def test_a_contract_that_is_not_known_here_is_read_from_what_is_stored(desk: Desk, open_desk: Any) -> None:
    page, _ = await open_desk(desk.user)
    await publish(position("3", symbol="BTC/USDT:USDT"), owner=desk.user.pk)
    assert (await page.frame("snapshot")).positions.count == 0  # nothing of it is stored here


async def test_a_result_brings_profit_and_the_fees_that_were_paid(desk: Desk, open_desk: Any) -> None:
    page, _ = await open_desk(desk.user)
    await publish(pnl("12.5"), owner=desk.user.pk)
    assert (await message(page, "balance"))["realized_pnl"] == "12.5"


async def test_the_connection_turns_with_what_the_engine_says(
    desk: Desk, open_desk: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    page, shown = await open_desk(desk.user)
    assert (shown.connection.state, shown.connection.engine) == ("yellow", None)
    await publish(health(desk), owner=desk.user.pk)
    told = await message(page, "connection", state="green")
    assert [one["state"] for one in told["accounts"]] == ["live", "live"]
    assert told["stages"][0]["stage"] == "book_to_decision"
    await publish(health(desk, state="down", reason="the stream was lost"), owner=desk.user.pk)
    assert "the stream was lost" in (await message(page, "connection", state="red"))["reason"]
    await publish(health(desk, at=time.time() - 60), owner=desk.user.pk)
    assert "No engine runs" in (await message(page, "connection", state="yellow"))["reason"]


async def test_many_changes_become_few_frames(desk: Desk, open_desk: Any) -> None:
    page, _ = await open_desk(desk.user)
    started, frames, last = time.monotonic(), 0, ""
    for number in range(200):
        await publish(pnl(str(number + 1)), trade("t", profit=str(number + 1)), owner=desk.user.pk)
        await asyncio.sleep(0.002)
    while last != "200":
        _, data = await page.named_frame("batch")
        frames += 1
        last = next((item.data["profit"] for item in data.items if item.type == "trade"), last)
    assert frames <= (time.monotonic() - started) / DashboardConsumer.frame_interval_seconds + 2


async def test_a_lost_batch_brings_a_snapshot(desk: Desk, open_desk: Any) -> None:
    page, _ = await open_desk(desk.user)
    await publish(pnl("1"), owner=desk.user.pk, stream="engine:one", number=1)
    await publish(pnl("2"), owner=desk.user.pk, stream="engine:one", number=3)
    await page.frame("snapshot")


async def test_what_was_published_before_a_page_was_opened_and_stored_after_it_shows(
    desk: Desk, open_desk: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(DashboardConsumer, "again_seconds", 0.5)
    made = await database_sync_to_async(desk.trade)(state="OPEN", profit=None, mode="paper")
    await database_sync_to_async(made.orders.update)(state="SENDING")
    page, shown = await open_desk(desk.user)
    assert {order.status for order in shown.orders} == {"SENDING"}
    await database_sync_to_async(made.orders.update)(state="FILLED")
    again = await page.frame("snapshot")
    assert {order.status for order in again.orders} == {"FILLED"}


async def test_what_was_published_before_it_was_stored_follows_the_snapshot(desk: Desk, open_desk: Any) -> None:
    page, _ = await open_desk(desk.user)
    await publish(pnl("7"), owner=desk.user.pk)
    await message(page, "balance", realized_pnl="7")
    await page.say(text='{"type": "snapshot"}')
    shown = await page.frame("snapshot")
    assert all(line.realized_pnl == "0" for line in shown.balance)  # not stored yet
    assert (await message(page, "balance"))["realized_pnl"] == "7"


async def test_others_hear_nothing_of_it(desk: Desk, open_desk: Any) -> None:
    other = await database_sync_to_async(make_desk)("bob")
    page, _ = await open_desk(other.user)
    await publish(trade("private"), health(desk), position("1"), pnl("3"), owner=desk.user.pk)
    await publish(trade("own"), owner=other.user.pk)
    assert (await message(page, "trade"))["id"] == "own"


@pytest.mark.parametrize("text", ["garbage", "[1]", '{"type": "order"}', "x" * (MAX_INPUT_CHARACTERS + 1), "\x00"])
async def test_garbage_is_answered_and_the_page_goes_on(desk: Desk, open_desk: Any, text: str) -> None:
    page, _ = await open_desk(desk.user)
    await page.say(text=text)
    assert (await page.frame("error")).message
    await page.say(text='{"type": "snapshot"}')
    await page.frame("snapshot")


async def test_who_asks_without_end_is_closed(desk: Desk, open_desk: Any) -> None:
    page, _ = await open_desk(desk.user)
    for _ in range(MAX_INPUTS_PER_WINDOW + 1):
        await page.say(binary=b"\x00")
    assert await page.closed() == TOO_MANY_MESSAGES


async def test_the_end_of_the_session_closes_it(desk: Desk, connect: Connect, monkeypatch: pytest.MonkeyPatch) -> None:
    from django.test import Client

    monkeypatch.setattr(DashboardConsumer, "session_check_seconds", 0.05)
    client = Client()
    page = await connect(desk.user, "?mode=paper", client=client, path="/ws/live-dashboard", check=check_frame)
    await page.frame("snapshot")
    await database_sync_to_async(client.logout)()
    assert await page.closed() == SIGNED_OUT


async def test_a_silent_desk_says_that_it_lives(desk: Desk, open_desk: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(DashboardConsumer, "heartbeat_seconds", 0.1)
    page, _ = await open_desk(desk.user)
    await page.frame("heartbeat")


def test_every_batched_type_has_a_name_in_the_schema() -> None:
    from bots.live_desk_schema import json_schema

    published = json_schema()
    assert {one["properties"]["type"]["const"] for one in published["oneOf"]} >= BATCHED.keys()
    assert {one["properties"]["type"]["const"] for one in published["$defs"]["BatchItem"]["oneOf"]} == BATCHED.keys()


async def test_what_is_left_of_a_closed_trade_is_no_position(desk: Desk, open_desk: Any) -> None:
    def close() -> None:
        made = ticket(desk, held="0.000006")
        made.trade.state = "CLOSED"
        made.trade.save(update_fields=["state"])

    await database_sync_to_async(close)()
    _, shown = await open_desk(desk.user)
    assert (shown.positions.count, shown.positions.items) == (0, [])


async def test_a_third_leg_of_a_route_is_no_take_profit(desk: Desk, open_desk: Any) -> None:
    page, _ = await open_desk(desk.user)
    item = trade("routed")
    item["data"]["legs"].append({**item["data"]["legs"][1], "leg": 2, "client_order_id": "third"})
    await publish(item, owner=desk.user.pk)
    orders = (await message(page, "orders"))["items"]
    assert {order["id"]: order["type"] for order in orders}["third"] == "limit"


async def test_an_order_of_a_bots_tells_how_it_left(desk: Desk, open_desk: Any) -> None:
    page, _ = await open_desk(desk.user, mode="live")
    item = trade("routed")
    item["data"]["mode"] = "simulated"
    for leg, path in zip(item["data"]["legs"], ("websocket", "rest"), strict=True):
        leg["path"] = path
    await publish(item, owner=desk.user.pk)
    orders = (await message(page, "orders"))["items"]
    assert [(order["path"], order["by_hand"]) for order in orders] == [("websocket", False), ("rest", False)]


async def test_a_stored_order_of_a_bots_knows_it_too(desk: Desk, open_desk: Any) -> None:
    def trade_by_bot() -> None:
        made = desk.trade(mode="simulated")
        Order.objects.filter(trade=made, leg=0).update(path="websocket")
        Order.objects.filter(trade=made, leg=1).update(path="rest")

    await database_sync_to_async(trade_by_bot)()
    _, shown = await open_desk(desk.user, mode="live")
    assert {(order.side, order.path, order.by_hand) for order in shown.orders} == {
        ("buy", "websocket", False), ("sell", "rest", False),
    }  # fmt: skip


async def test_orders_by_hand_keep_their_place_however_much_bots_trade(desk: Desk, open_desk: Any) -> None:
    def trade_a_lot() -> set[str]:
        held = ticket(desk)
        for _ in range(ORDERS):
            desk.trade()  # two orders each
        return set(held.trade.orders.values_list("client_order_id", flat=True))

    by_hand = await database_sync_to_async(trade_a_lot)()
    _, shown = await open_desk(desk.user)
    assert {order.id for order in shown.orders if order.by_hand} == by_hand
    assert sum(not order.by_hand for order in shown.orders) == ORDERS


@pytest.mark.parametrize(("mode", "distance"), [("simulated", 2000.0), ("paper", None)])
def test_a_pair_is_told_with_how_far_it_is_from_its_liquidation(db: None, mode: str, distance: float | None) -> None:
    """Of real money alone: what an exchange tells of an account is no paper position."""
    desk = make_desk("alice")
    row = held_pair(desk, mode=mode)
    Position.objects.create(
        owner=desk.user, account=desk.accounts["binance-sim"], market=row.perp, side="both", quantity=Decimal("-0.01"),
        mark_price=Decimal(50_000), liquidation_price=Decimal(60_000), at=timezone.now(),
    )  # fmt: skip
    (shown,) = trades_data(trades_shown(owner_id=desk.user.pk))
    told = msgspec.convert(shown, live_schema.Trade).pair
    assert told is not None
    assert (told.spot, told.perp) == ("okx-sim:BTC/USDT", "binance-sim:BTC/USDT:USDT")
    assert (told.entry_bps, told.exit_bps, told.liquidation_bps) == ("40.5", None, distance)
    desk.trade()
    assert trades_data(trades_shown(owner_id=desk.user.pk))[0]["pair"] is None
