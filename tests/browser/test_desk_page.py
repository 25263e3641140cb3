"""The live dashboard in a real browser, fed through the real channel layer and the database."""

from __future__ import annotations

import asyncio
import json
import time
from typing import Any

import pytest
from channels.db import database_sync_to_async
from django.contrib.auth import get_user_model
from django.contrib.sessions.models import Session
from playwright.async_api import Page, WebSocketRoute, expect

from bots.dashboard_consumer import DashboardConsumer
from bots.models import Command, Ticket, Trade
from risk.services.breaker_operations import breaker_open
from risk.services.switch import switch_set
from tests.browser.conftest import DESKTOP, PHONE, OpenPage, Watched
from tests.browser.server import LiveServer
from tests.browser.test_live_page import says
from tests.browser.test_look import CONTRAST, picture
from tests.live.desk import Desk, make_user
from tests.live.items import feed, pair, publish, quote, trade
from tests.live.test_dashboard import health, held_pair, position, ticket

pytestmark = [
    pytest.mark.browser,
    pytest.mark.django_db(transaction=True),
    pytest.mark.asyncio(loop_scope="session"),
]

CUT = ("WebSocket connection to", "Failed to load resource")
PAPER, LIVE = "/desk/?mode=paper", "/desk/?mode=live"


async def open_desk(open_page: OpenPage, user: str = "alice", address: str = PAPER, **options: Any) -> Page:
    return await open_page(user, address=address, ready="#desk:not([aria-busy])", **options)


def figure(page: Page, name: str, environment: str = "paper") -> Any:
    return page.locator(f".money[data-environment={environment}] [data-figure={name}] .value")


async def test_it_shows_what_is_stored(desk: Desk, open_page: OpenPage) -> None:
    await database_sync_to_async(ticket)(desk)
    await database_sync_to_async(desk.trade)(profit="0.25")
    await database_sync_to_async(desk.decision)()
    page = await open_desk(open_page)
    held = page.locator("#positions tbody tr")
    await expect(held).to_have_count(1)
    await expect(held).to_contain_text("binance-sim · main · paper")
    await expect(held.locator("[data-label=Entry]")).to_have_text("50,000")
    await expect(held.locator("[data-label=Size]")).to_have_text("0.5")
    await expect(held.locator("[data-label='Take profit']")).to_have_text("52,000")
    await expect(held.locator("[data-label='Protected by']")).to_have_text("engine")
    await expect(page.locator("#orders tbody tr")).to_have_count(4)
    await expect(page.locator("#orders tbody tr").first).to_contain_text("filled")
    await expect(page.locator("#trades .trade")).to_have_count(2)
    await expect(page.locator("#opportunities .opportunity")).to_have_count(1)
    await expect(figure(page, "realized_pnl")).to_have_text("+0.25")
    await expect(page.locator("[data-chart] canvas")).to_have_count(1)
    await page.locator("#balances summary").click()
    await expect(page.locator("#balances tbody tr")).to_have_count(4)


async def test_an_empty_desk_says_what_to_do(db: None, open_page: OpenPage) -> None:
    await database_sync_to_async(make_user)("alice")
    page = await open_desk(open_page)
    for panel, said in {
        "positions": "Trade by hand on the Trade page",
        "orders": "No orders yet",
        "trades": "Trade by hand, or start a bot",
        "health": "Start a bot",
        "latency": "Measured once",
        "money": "No paper money yet",
    }.items():
        await expect(page.locator(f"#{panel} [data-empty]")).to_contain_text(said)
        await expect(page.locator(f"#{panel} [data-empty]")).to_be_visible()
    await picture(page, "desk-empty")


async def test_positions_orders_and_balances_move_by_themselves(desk: Desk, open_page: OpenPage) -> None:
    await database_sync_to_async(ticket)(desk)
    page = await open_desk(open_page)
    await page.evaluate("window.sameDocument = true")
    held = page.locator("#positions tbody tr")
    await publish(quote(bid=50_100.0, ask=50_101.0))
    await expect(held.locator("[data-label=Mark]")).to_have_text("50,100")
    await expect(held.locator("[data-label='Unrealised PnL']")).to_have_text("+50 (+0.20 %)")
    await expect(held.locator("[data-label='Unrealised PnL']")).to_have_attribute("data-sign", "plus")
    await expect(figure(page, "unrealized_pnl")).to_have_text("+50")
    await publish(quote(bid=49_900.0, ask=49_901.0))
    await expect(figure(page, "unrealized_pnl")).to_have_text("−50")
    await publish(position("0.25", trade_id="another", side="short", entry="49000"), owner=desk.user.pk)
    await expect(held).to_have_count(2)
    await publish(trade("by-bot", state="OPEN", profit=None), owner=desk.user.pk)
    await expect(page.locator("#orders tbody tr")).to_have_count(4)
    await expect(page.locator("#orders [data-meta]")).to_have_text("1 open, 3 recent")
    await publish(position("0", trade_id="another", side="short", entry="49000"), owner=desk.user.pk)
    await expect(held).to_have_count(1)
    assert await page.evaluate("window.sameDocument")


async def test_a_pair_shows_both_legs_its_edges_and_what_threatens_it(desk: Desk, open_page: OpenPage) -> None:
    await database_sync_to_async(held_pair)(desk)
    page = await open_desk(open_page)
    row = page.locator("#pairs tbody tr")
    await expect(row).to_have_count(1)
    for label, said in {
        "Spot leg": "50,000long on okx-sim", "Perpetual leg": "50,400short on binance-sim", "Held": "0.01BTC",
        "Entry edge": "+40.50 bps", "Exit edge now": "–", "Funding": "0USDT", "To liquidation": "–",
    }.items():  # fmt: skip
        await expect(row.locator(f"[data-label='{label}']")).to_have_text(said)
    trade_id = await database_sync_to_async(lambda: Trade.objects.get().trade_id)()
    await publish(pair(trade_id, exit_bps="-4.25", liquidation_bps=950.0), owner=desk.user.pk)
    await expect(row.locator("[data-label='Exit edge now']")).to_have_text("−4.25 bps")
    await expect(row.locator("[data-label=Funding]")).to_have_text("+0.125USDT, estimated")
    await expect(row.locator("[data-label='To liquidation']")).to_have_text("9.5 %")
    await expect(row.locator("[data-label='To liquidation']")).to_have_attribute("data-sign", "minus")  # it is near
    await row.get_by_role("button").click()
    dialog = page.locator("#close-dialog")
    await expect(dialog.locator("[data-title]")).to_have_text("Close pair BTC/USDT")
    await expect(dialog.locator("[data-about]")).to_contain_text("closing now would earn −4.25 bps in all")
    await expect(dialog.locator("[data-choice]")).to_be_hidden()
    await picture(page, "desk-close-pair")
    await dialog.get_by_role("button", name="Close pair").click()
    await expect(dialog.get_by_role("button", name="Done")).to_be_visible()
    (asked,) = await database_sync_to_async(lambda: list(Command.objects.all()))()
    assert (asked.kind, asked.payload["trade_id"], asked.payload["quantity"]) == ("manual_close", trade_id, None)
    await publish(pair(trade_id, closing="its owner closed it"), owner=desk.user.pk)
    await expect(row.locator("[data-label=State]")).to_have_text("closing")
    await expect(row.locator(".p-close button")).to_be_hidden()
    await publish(pair(trade_id, state="CLOSED"), owner=desk.user.pk)
    await expect(page.locator("#pairs")).to_be_hidden()


async def test_money_of_two_environments_is_named_and_never_added(desk: Desk, open_page: OpenPage) -> None:
    for mode, profit in (("paper", "1.5"), ("simulated", "0.25"), ("testnet", "-0.75")):
        await database_sync_to_async(desk.trade)(profit=profit, mode=mode)
    page = await open_desk(open_page, address=LIVE)
    await expect(page.locator(".money h3")).to_have_text(["testnet, USDT", "simulated, USDT"])
    await expect(figure(page, "realized_pnl", "testnet")).to_have_text("−0.75")
    await expect(figure(page, "realized_pnl", "simulated")).to_have_text("+0.25")
    await page.get_by_role("link", name="Paper", exact=True).click()
    await expect(figure(page, "realized_pnl", "paper")).to_have_text("+1.5")
    await expect(page.locator(".money")).to_have_count(1)
    await expect(page.get_by_role("link", name="Paper", exact=True)).to_have_attribute("aria-current", "true")


async def test_the_light_says_why(desk: Desk, open_page: OpenPage) -> None:
    page = await open_desk(open_page)
    await says(page, "warn", "Degraded", "No engine runs")
    await publish(feed("binance-sim"), feed("okx-sim"))
    await publish(health(desk), owner=desk.user.pk)
    await says(page, "good", "Live", "engine running, 2 exchanges live, orders on paper · last frame")
    rows = page.locator("#health table").first.locator("tbody tr")
    await expect(rows).to_have_count(2)
    await expect(page.locator("#health table").last.locator("tbody tr")).to_have_count(2)
    await expect(page.locator("#latency tbody tr")).to_have_text(["book to decision20 µs60 µs70 µs3"])
    await publish(health(desk, state="down", reason="the key was refused twice"), owner=desk.user.pk)
    await says(page, "bad", "Trouble", "the key was refused twice")
    await expect(page.locator("#announcer")).to_contain_text("Trouble")


async def test_breakers_and_the_switch_stand_above_everything(desk: Desk, open_page: OpenPage) -> None:
    page = await open_desk(open_page)
    banner = page.locator("#banner")
    await expect(banner).to_be_hidden()
    await database_sync_to_async(stop_everything)(desk)
    await page.reload()
    await expect(banner.locator("li")).to_have_count(2)
    await expect(banner).to_contain_text("reduce only")
    await expect(banner).to_contain_text("hands off")
    await expect(banner).to_contain_text("probes in")


async def test_a_cut_socket_is_polled_for_said_and_healed(
    desk: Desk, open_page: OpenPage, server: LiveServer, watched: Watched
) -> None:
    watched.expected = CUT
    page = await open_desk(open_page)
    await expect(page.locator("#connection [data-reason]")).to_contain_text("last frame")
    server.gate.sockets_allowed = False
    server.gate.cut_sockets()
    await expect(page.locator("#connection [data-reason]")).to_contain_text("the live socket is cut: polling every 2 s")
    await expect(page.locator("#announcer")).to_contain_text("polling")
    await database_sync_to_async(ticket)(desk)
    await expect(page.locator("#positions tbody tr")).to_have_count(1)  # polled
    await picture(page, "desk-polling")
    server.gate.sockets_allowed = True
    await expect(page.locator("#connection [data-reason]")).to_contain_text("last frame")
    await publish(position("0.25", trade_id="pushed"), owner=desk.user.pk)
    await expect(page.locator("#positions tbody tr")).to_have_count(2)


async def test_without_a_server_the_last_figures_stay_and_are_marked(
    desk: Desk, open_page: OpenPage, server: LiveServer, watched: Watched
) -> None:
    watched.expected = CUT
    await database_sync_to_async(ticket)(desk)
    page = await open_desk(open_page)
    await expect(page.locator("#positions tbody tr")).to_have_count(1)
    await server.stop()
    await says(page, "bad", "Disconnected", "the server does not answer; last figures")
    await expect(page.locator("#desk[data-cut-off]")).to_have_count(1)
    await expect(page.locator("#positions tbody tr")).to_have_count(1)
    await server.start()
    await expect(page.locator("#connection [data-reason]")).to_contain_text("last frame")
    await expect(page.locator("#desk[data-cut-off]")).to_have_count(0)


async def test_a_gap_in_the_numbers_is_healed_by_a_snapshot(desk: Desk, open_page: OpenPage) -> None:
    asked: list[str] = []
    lost = asyncio.Event()

    async def lossy(page: Page) -> None:
        async def route(socket: WebSocketRoute) -> None:
            upstream = socket.connect_to_server()

            def down(text: str | bytes) -> None:
                frame = json.loads(text)
                told = frame["data"]["items"] if frame["type"] == "batch" else [frame]
                if not lost.is_set() and any(item["type"] == "trade" for item in told):
                    lost.set()
                else:
                    socket.send(text)

            def up(text: str | bytes) -> None:
                asked.append(str(text))
                upstream.send(text)

            upstream.on_message(down)
            socket.on_message(up)

        await page.route_web_socket("**/ws/live-dashboard**", route)

    page = await open_desk(open_page, before=lossy)
    await database_sync_to_async(desk.trade)(profit="0.25")
    await publish(trade("lost"), owner=desk.user.pk)
    await asyncio.wait_for(lost.wait(), 30)
    await publish(position("0.25"), owner=desk.user.pk)
    await expect(page.locator("#trades .trade")).not_to_have_count(0)  # the stored one: the snapshot has come
    assert json.loads(asked[0]) == {"type": "snapshot"}


async def test_a_session_that_ends_elsewhere_ends_here(
    desk: Desk, open_page: OpenPage, watched: Watched, monkeypatch: pytest.MonkeyPatch
) -> None:
    watched.expected = CUT
    monkeypatch.setattr(DashboardConsumer, "session_check_seconds", 0.1)
    page = await open_desk(open_page)
    await database_sync_to_async(Session.objects.all().delete)()
    await says(page, "bad", "Signed out", "sign in again")
    await page.locator("#sign-in-again").click()
    await page.wait_for_url("**/sign-in/?next=/desk/**")


async def test_an_operator_sees_another_desk_and_closes_nothing_on_it(desk: Desk, open_page: OpenPage) -> None:
    await database_sync_to_async(ticket)(desk)
    await database_sync_to_async(make_user)("olga", operator=True)
    page = await open_desk(open_page, "olga", f"{PAPER}&owner={desk.user.pk}")
    await expect(page.locator("#positions tbody tr")).to_have_count(1)
    await expect(page.locator("#positions button")).to_have_count(0)
    await expect(page.locator("#owner")).to_have_value(str(desk.user.pk))


def stop_everything(desk: Desk) -> None:
    """Turn the desk's switch, and trip a breaker."""
    operator = get_user_model().objects.create_superuser("root")
    switch_set(
        actor=operator, scope="owner", owner_id=desk.user.pk, state="reduce_only", reason="hands off", seen_version=0
    )
    breaker_open(actor=operator, scope="pair", key="BTC/USDT", reason="looks odd", seconds=600)


def hold(desk: Desk) -> None:
    """Hold a long position, and a short one with everything a position may have."""
    ticket(desk, held="0.25")
    short = ticket(desk, held="12345.678", side="sell")
    Ticket.objects.filter(pk=short.pk).update(
        leverage=20, stop_loss="53000.5", protected_by="", protection_note="refused: too near the price"
    )
    desk.trade(profit="-12345.678901")
    desk.decision()


async def fill(desk: Desk) -> None:
    """Show one of everything, with long names and every tone."""
    await publish(
        quote("binance-sim", bid=50_030.0, ask=50_031.5), feed("binance-sim"),
        feed("okx-sim", status="stale", reason="no message for 6 s, and before that it said little for a long time"),
    )  # fmt: skip
    stages = [
        {"stage": name, "count": 123_456, "p50_us": 20, "p99_us": 61_234, "max_us": 71_234_567}
        for name in ("book_to_decision", "decision_to_committed", "sent_to_answered")
    ]
    await publish(
        *[trade(f"t-{number}", opened_at=time.time() - number) for number in range(12)],
        trade("open", state="OPEN", profit=None),
        pair("held"),
        health(desk, state="blocked", reason="account main: the key may not trade here", stages=stages),
        owner=desk.user.pk,
    )  # fmt: skip


async def filled(desk: Desk, open_page: OpenPage, **options: Any) -> Page:
    await database_sync_to_async(hold)(desk)
    page = await open_desk(open_page, **options)
    await fill(desk)
    await expect(page.locator("#positions tbody tr")).to_have_count(2)
    await expect(page.locator("#trades .trade")).to_have_count(17)
    await expect(page.locator("#latency tbody tr")).to_have_count(3)
    await expect(page.locator("#health tbody tr")).to_have_count(4)
    return page


# What stands further right than its panel, but for what scrolls or ends in an ellipsis by design.
CUT_OFF = """() => [...document.querySelectorAll(".panel, .tile, .top, .bar")].flatMap((panel) =>
  [...panel.querySelectorAll("td, th, button, .button, .badge, .value, input, select")]
    .filter((node) => node.checkVisibility() && node.getClientRects().length && !node.closest("#positions .scroll"))
    .filter((node) => node.getBoundingClientRect().right > panel.getBoundingClientRect().right + 0.5)
    .map((node) => `${node.className || node.tagName}: ${node.textContent}`))"""
WIDTHS = (2200, 1600, 1440, 1280, 1200, 1024, 768, 640, 390, 360, 320)


async def test_no_width_scrolls_sideways_or_cuts_off(desk: Desk, open_page: OpenPage) -> None:
    page = await filled(desk, open_page)
    for width in WIDTHS:
        await page.set_viewport_size({"width": width, "height": 800})
        await picture(page, f"desk-width-{width}")
        assert await page.evaluate("document.documentElement.scrollWidth") <= width
        assert (width, await page.evaluate(CUT_OFF)) == (width, [])


@pytest.mark.parametrize("scheme", ["light", "dark"])
@pytest.mark.parametrize("viewport", [DESKTOP, PHONE], ids=["desktop", "phone"])
async def test_every_text_can_be_read(desk: Desk, open_page: OpenPage, scheme: str, viewport: dict[str, int]) -> None:
    page = await filled(desk, open_page, viewport=viewport, color_scheme=scheme, reduced_motion="reduce")
    await picture(page, f"desk-{scheme}-{viewport['width']}")
    worst = await page.evaluate(CONTRAST)
    assert worst["ratio"] >= 4.5, worst


async def test_it_works_by_keyboard_and_its_parts_have_names(desk: Desk, open_page: OpenPage) -> None:
    page = await filled(desk, open_page)
    names = (
        "Pairs",
        "Positions",
        "Orders",
        "Trades",
        "Running PnL",
        "Exchange health",
        "Latency per stage",
        "Opportunities",
    )
    for name in names:
        await expect(page.get_by_role("region", name=name, exact=True)).to_have_count(1)
    await expect(page.get_by_role("heading", level=1)).to_have_text("Trading desk of alice, paper")
    await page.keyboard.press("Tab")
    await expect(page.locator(".skip")).to_be_focused()
    reached = set()
    for _ in range(45):
        await page.keyboard.press("Tab")
        reached.add(
            await page.evaluate(
                "(document.activeElement.getAttribute('aria-label') || document.activeElement.textContent).trim()"
            )
        )
        outline = await page.evaluate("getComputedStyle(document.activeElement).outlineStyle")
        assert outline != "none" or await page.evaluate("document.activeElement === document.body")
    assert {"Paper", "Live", "New trade", "Desk", "Why no trades?"} <= reached
    assert "Close long BTC/USDT on binance-sim" in reached
    await page.get_by_role("button", name="Close long BTC/USDT on binance-sim").focus()
    await page.keyboard.press("Enter")
    await expect(page.locator("#close-dialog [data-confirm]")).to_be_focused()
    await page.keyboard.press("Escape")
    await expect(page.get_by_role("button", name="Close long BTC/USDT on binance-sim")).to_be_focused()
