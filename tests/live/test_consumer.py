"""The live page's socket: who gets what, how often, and what is answered to nonsense."""

from __future__ import annotations

import asyncio
import time

import pytest
from channels.db import database_sync_to_async
from channels.layers import channel_layers
from channels.testing import WebsocketCommunicator
from django.conf import settings
from django.test import Client

from arbplatform.channel_layers import LoopSafeInMemoryChannelLayer
from bots import live_cache, selectors
from bots.consumers import LiveConsumer
from bots.live_socket import (
    MAX_INPUT_CHARACTERS,
    MAX_INPUTS_PER_WINDOW,
    NOT_ALLOWED,
    SIGNED_OUT,
    TOO_MANY_MESSAGES,
    TRY_AGAIN_LATER,
)
from bots.selectors.live import TRADES
from tests.live.conftest import Connect
from tests.live.desk import Desk, make_desk, make_user
from tests.live.items import feed, pnl, publish, quote, trade

pytestmark = [pytest.mark.django_db(transaction=True), pytest.mark.database]


async def test_who_is_not_signed_in_is_told_so_and_closed(connect: Connect) -> None:
    page = await connect(None)
    assert await page.closed() == SIGNED_OUT


async def test_a_page_of_another_site_gets_no_socket(desk: Desk) -> None:
    from arbplatform.asgi import application

    client = Client()
    await database_sync_to_async(client.force_login)(desk.user)
    cookies = "; ".join(f"{name}={morsel.value}" for name, morsel in client.cookies.items())
    headers = [(b"cookie", cookies.encode()), (b"origin", b"https://evil.example")]
    accepted, _ = await WebsocketCommunicator(application, "/ws/live/", headers=headers).connect(timeout=10)
    assert not accepted


async def test_the_snapshot_comes_first_and_shows_the_desk(desk: Desk, connect: Connect) -> None:
    await database_sync_to_async(desk.trade)(profit="0.25")
    await database_sync_to_async(desk.decision)()
    page = await connect(desk.user)
    connected = await page.frame()
    assert (connected.user, connected.owner, connected.mode) == ("alice", "alice", settings.ARB_SHAPE)
    snapshot = await page.frame()
    [shown] = snapshot.trades
    assert shown.profit is not None
    assert float(shown.profit) == 0.25
    assert [(leg.side, leg.exchange, leg.state) for leg in shown.legs] == [
        ("buy", "binance-sim", "FILLED"),
        ("sell", "okx-sim", "FILLED"),
    ]
    assert [bot.name for bot in snapshot.bots] == ["alice's majors"]
    assert [opportunity.check for opportunity in snapshot.opportunities] == ["edge"]
    assert len(snapshot.balances) == 4
    assert [float(point.total) for point in snapshot.pnl] == [0.25]
    assert snapshot.figures.trades == 1


async def test_an_old_trade_that_is_not_finished_is_in_the_snapshot(desk: Desk, connect: Connect) -> None:
    def old_and_many_new() -> set[str]:
        old = [
            desk.trade(state="EXPOSED", profit=None, residual="0.01"),
            desk.trade(state="REPAIRING", profit=None),
            desk.trade(state="CLOSED"),
        ]
        for _ in range(TRADES):
            desk.trade()
        return {trade.trade_id for trade in old[:2]}

    unfinished = await database_sync_to_async(old_and_many_new)()
    page = await connect(desk.user)
    shown = (await page.frame("snapshot")).trades
    assert len(shown) == TRADES + 2
    assert {trade.id for trade in shown if trade.state != "CLOSED"} == unfinished


async def test_what_is_published_arrives_without_asking(desk: Desk, connect: Connect) -> None:
    page = await connect(desk.user)
    await page.frame("snapshot")
    await publish(trade("t-1"), owner=desk.user.pk)
    assert (await page.item("trade"))["id"] == "t-1"


async def test_market_data_goes_to_everybody_and_a_trade_to_its_owner_only(desk: Desk, connect: Connect) -> None:
    other = await database_sync_to_async(make_user)("bob")
    page, others_page = await connect(desk.user), await connect(other)
    await page.frame("snapshot")
    await others_page.frame("snapshot")
    await publish(trade("private"), pnl("1"), owner=desk.user.pk)
    await publish(quote())
    assert (await page.item("trade"))["id"] == "private"
    # The other page gets the quote, sent later, and nothing before it.
    [only] = (await others_page.frame("update")).items
    assert only.kind == "quote"


async def test_many_changes_become_few_frames_and_the_latest_value_wins(desk: Desk, connect: Connect) -> None:
    page = await connect(desk.user)
    await page.frame("snapshot")
    started = time.monotonic()
    frames, last = 0, 0.0
    for number in range(200):
        await publish(quote(bid=float(number + 1)), quote("okx-sim", bid=float(number + 1)))
        await asyncio.sleep(0.002)
    while last < 200.0:
        update = await page.frame("update")
        frames += 1
        assert len(update.items) <= 2
        last = max(item.data["bid"] for item in update.items)
    elapsed = time.monotonic() - started
    assert frames <= elapsed / LiveConsumer.frame_interval_seconds + 2
    assert await page.is_quiet()


async def test_a_silent_socket_says_that_it_lives(
    desk: Desk, connect: Connect, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(LiveConsumer, "heartbeat_seconds", 0.1)
    page = await connect(desk.user)
    await page.frame("snapshot")
    first = await page.frame("heartbeat")
    assert (await page.frame("heartbeat")).server_time > first.server_time


async def test_a_page_may_ask_for_a_snapshot(desk: Desk, connect: Connect, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(LiveConsumer, "snapshot_interval_seconds", 0.0)
    page = await connect(desk.user)
    assert (await page.frame("snapshot")).trades == []
    await database_sync_to_async(desk.trade)()
    await page.say(text='{"type": "snapshot"}')
    assert len((await page.frame("snapshot")).trades) == 1


async def test_requests_that_come_together_share_one_snapshot(
    desk: Desk, connect: Connect, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(LiveConsumer, "snapshot_interval_seconds", 0.4)
    read, times = selectors.live_snapshot, []

    def timed(*, owner_id: int):
        times.append(time.monotonic())
        return read(owner_id=owner_id)

    monkeypatch.setattr(selectors, "live_snapshot", timed)
    page = await connect(desk.user)
    await page.frame("snapshot")
    for _ in range(5):
        await page.say(text='{"type": "snapshot"}')
    await page.frame("snapshot")
    assert await page.is_quiet()
    assert len(times) == 2
    assert times[1] - times[0] > 0.35  # and the next is not read before its time


@pytest.mark.parametrize(
    ("text", "binary", "said"),
    [
        ("hello", None, "not JSON"),
        ('{"type": "subscribe"}', None, "only message understood"),
        ('{"type": ["snapshot"]}', None, "only message understood"),
        ("[]", None, "only message understood"),
        (None, b"\x00\x01", "binary"),
        ('{"type": "snapshot", "x": "' + "x" * MAX_INPUT_CHARACTERS + '"}', None, f"at most {MAX_INPUT_CHARACTERS}"),
    ],
)
async def test_anything_else_is_answered_with_one_sentence(
    desk: Desk, connect: Connect, text: str | None, binary: bytes | None, said: str
) -> None:
    page = await connect(desk.user)
    await page.frame("snapshot")
    await page.say(text=text, binary=binary)
    assert said in (await page.frame("error")).message
    await publish(quote())
    assert (await page.item("quote"))["market"] == "binance-sim:BTC/USDT"  # and the socket lives on


async def test_a_page_that_floods_the_server_is_closed(desk: Desk, connect: Connect) -> None:
    page = await connect(desk.user)
    for _ in range(MAX_INPUTS_PER_WINDOW + 1):
        await page.say(text="x")
    assert await page.closed() == TOO_MANY_MESSAGES


@pytest.mark.parametrize("end", ["logout", "deactivated", "password"])
async def test_the_socket_closes_when_the_session_ends(
    desk: Desk, connect: Connect, monkeypatch: pytest.MonkeyPatch, end: str
) -> None:
    monkeypatch.setattr(LiveConsumer, "session_check_seconds", 0.05)
    client = Client()
    page = await connect(desk.user, client=client)
    await page.frame("snapshot")

    def end_session() -> None:
        if end == "logout":
            client.logout()
        elif end == "deactivated":
            desk.user.is_active = False
            desk.user.save()
        else:
            desk.user.set_password("another long password")
            desk.user.save()

    await database_sync_to_async(end_session)()
    assert await page.closed() == SIGNED_OUT


async def test_a_session_that_goes_on_keeps_its_socket(
    desk: Desk, connect: Connect, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(LiveConsumer, "session_check_seconds", 0.02)
    page = await connect(desk.user)
    await page.frame("snapshot")
    assert await page.is_quiet()  # several checks long
    await publish(quote())
    await page.item("quote")


@pytest.mark.parametrize("requested", ["{other}", "0", "-1", "x", "99999999999999999999999"])
async def test_the_desk_of_another_user_is_refused(desk: Desk, connect: Connect, requested: str) -> None:
    other = await database_sync_to_async(make_user)("bob")
    page = await connect(other, f"?owner={requested.format(other=desk.user.pk)}")
    assert await page.closed() == NOT_ALLOWED


async def test_an_operator_sees_the_desk_asked_for(desk: Desk, connect: Connect) -> None:
    await database_sync_to_async(desk.trade)()
    operator = await database_sync_to_async(make_user)("olga", operator=True)
    page = await connect(operator, f"?owner={desk.user.pk}")
    assert (await page.frame("connected")).owner == "alice"
    assert len((await page.frame("snapshot")).trades) == 1
    await publish(trade("t-2"), owner=desk.user.pk)
    assert (await page.item("trade"))["id"] == "t-2"


async def test_two_pages_of_one_owner_both_hear(desk: Desk, connect: Connect) -> None:
    pages = [await connect(desk.user), await connect(desk.user)]
    for page in pages:
        await page.frame("snapshot")
    await publish(trade("t-3"), owner=desk.user.pk)
    assert [(await page.item("trade"))["id"] for page in pages] == ["t-3", "t-3"]


async def test_a_lost_batch_is_made_good_by_a_snapshot(
    desk: Desk, connect: Connect, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(LiveConsumer, "snapshot_interval_seconds", 0.0)
    page = await connect(desk.user)
    await page.frame("snapshot")
    await publish(pnl("1"), owner=desk.user.pk, stream="engine-1:owner", number=1)
    await publish(quote(), stream="engine-1:public", number=7)
    assert await page.item("quote")
    await database_sync_to_async(desk.trade)()  # told in the batch that is lost, number 2
    await publish(pnl("3"), owner=desk.user.pk, stream="engine-1:owner", number=3)
    assert len((await page.frame("snapshot")).trades) == 1


async def test_a_snapshot_knows_the_market_data_published_before(desk: Desk, connect: Connect) -> None:
    first = await connect(desk.user)
    await first.frame("snapshot")
    await publish(quote(), feed())
    await first.item("feed")
    second = await connect(desk.user)
    snapshot = await second.frame("snapshot")
    assert [known.market for known in snapshot.quotes] == ["binance-sim:BTC/USDT"]
    assert [known.exchange for known in snapshot.feeds] == ["binance-sim"]


async def test_a_snapshot_that_cannot_be_read_is_said_and_tried_again(
    desk: Desk, connect: Connect, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(LiveConsumer, "snapshot_interval_seconds", 0.05)
    read = selectors.live_snapshot
    failures = iter([OSError("database is away")])

    def sometimes(*, owner_id: int):
        for failure in failures:
            raise failure
        return read(owner_id=owner_id)

    monkeypatch.setattr(selectors, "live_snapshot", sometimes)
    page = await connect(desk.user)
    assert "could not be read" in (await page.frame("error")).message
    assert [bot.id for bot in (await page.frame("snapshot")).bots] == [desk.bot.pk]


async def test_the_operators_own_desk_is_shown_when_none_is_asked_for(connect: Connect) -> None:
    operator = await database_sync_to_async(make_user)("olga", operator=True)
    await database_sync_to_async(make_desk)("bob")
    page = await connect(operator)
    assert (await page.frame("connected")).owner == "olga"
    assert (await page.frame("snapshot")).bots == []


async def test_a_page_that_left_is_told_nothing_more(desk: Desk, connect: Connect) -> None:
    page = await connect(desk.user)
    await page.frame("snapshot")
    [listener] = live_cache._ear().owner(desk.user.pk)._listeners
    assert isinstance(listener, LiveConsumer)
    await page.leave()
    assert not live_cache._ear().owner(desk.user.pk)._listeners
    assert not live_cache._ear().public()._listeners


class AwayLayer(LoopSafeInMemoryChannelLayer):
    async def group_add(self, group: str, channel: str) -> None:
        raise ConnectionError("no route to the layer")


async def test_without_a_channel_layer_the_page_is_sent_away_to_poll(desk: Desk, connect: Connect) -> None:
    channel_layers.backends["default"] = AwayLayer()
    page = await connect(desk.user)
    assert await page.closed() == TRY_AGAIN_LATER
