"""The live page in a real browser, fed through the real channel layer."""

from __future__ import annotations

import asyncio
import time

import pytest
from channels.db import database_sync_to_async
from playwright.async_api import Page, expect

from bots.models import Bot, Command, Trade
from bots.services.commands import command_finish
from tests.browser.conftest import OpenPage
from tests.browser.server import LiveServer
from tests.browser.test_look import picture
from tests.live.desk import Desk, make_user
from tests.live.items import bot, feed, pair, pnl, publish, quote, trade
from tests.live.test_dashboard import held_pair

pytestmark = [
    pytest.mark.browser,
    pytest.mark.django_db(transaction=True),
    pytest.mark.asyncio(loop_scope="session"),
]


async def test_signing_in_shows_what_is_stored(desk: Desk, open_page: OpenPage) -> None:
    await database_sync_to_async(desk.trade)(profit="0.25")
    await database_sync_to_async(desk.decision)()
    page = await open_page()
    assert page.url.endswith("/live/")
    row = page.locator(".trade")
    await expect(row).to_have_count(1)
    await expect(row.locator(".t-profit")).to_have_text("+0.25 USDT")
    await expect(row.locator(".t-route")).to_have_text("binance-sim → okx-sim")
    legs = row.locator(".legs tbody tr")
    await expect(legs).to_have_count(2)
    await expect(legs.nth(0)).to_contain_text("50,000.1")
    await expect(legs.nth(0)).to_contain_text("0.05 USDT")
    await expect(legs.nth(1).locator("td").first).to_have_text("sell")
    await expect(page.locator(".bot")).to_contain_text("alice's majors")
    await expect(page.locator(".opportunity .why")).to_have_text("net edge 1.1 bps is below the minimum of 2 bps")
    await expect(page.locator("#balances tbody tr")).to_have_count(4)
    await expect(page.locator("#balances tbody tr").last).to_contain_text("60,000.25")
    await expect(tile(page, "PnL today, USDT, paper")).to_contain_text("+0.25")
    await expect(tile(page, "Trades today")).to_contain_text("1")


async def test_an_empty_desk_says_what_to_do(desk: Desk, open_page: OpenPage) -> None:
    page = await open_page()
    for panel, said in {"spreads": "Start a bot", "trades": "No trades yet", "opportunities": "None yet"}.items():
        await expect(page.locator(f"#{panel} [data-empty]")).to_contain_text(said)
        await expect(page.locator(f"#{panel} [data-empty]")).to_be_visible()
    await expect(page.locator("#balances [data-empty]")).to_be_hidden()


async def test_a_trade_appears_by_itself_and_moves_the_figures(desk: Desk, open_page: OpenPage) -> None:
    await database_sync_to_async(desk.trade)(profit="0.25")
    page = await open_page()
    await page.evaluate("window.sameDocument = true")
    await expect(page.locator(".trade")).to_have_count(1)
    await publish(trade("new", state="OPEN", profit=None), owner=desk.user.pk)
    await expect(page.locator(".trade")).to_have_count(2)
    newest = page.locator(".trade").first
    await expect(newest.locator(".badge").first).to_have_text("open")
    await expect(newest.locator(".t-profit")).to_have_text("–")
    await expect(tile(page, "Open trades")).to_contain_text("1")
    await expect(tile(page, "Trades today")).to_contain_text("2")

    await publish(trade("new", profit="0.3125"), pnl("0.5625"), owner=desk.user.pk)
    await expect(newest.locator(".t-profit")).to_have_text("+0.3125 USDT")
    await expect(newest.locator(".t-profit")).to_have_attribute("data-sign", "plus")
    await expect(newest.locator(".badge").first).to_have_text("closed")
    await expect(page.locator(".trade")).to_have_count(2)
    await expect(tile(page, "Open trades")).to_contain_text("0")
    await expect(tile(page, "PnL today, USDT, paper")).to_contain_text("+0.5625")
    assert await page.evaluate("window.sameDocument")


async def test_the_profit_line_gets_a_point_for_each_result(desk: Desk, open_page: OpenPage) -> None:
    await database_sync_to_async(desk.trade)(profit="0.25")
    page = await open_page()
    chart = page.locator("[data-chart]")
    await expect(chart.locator("canvas")).to_have_count(1)
    before = int(await chart.get_attribute("data-points") or 0)
    for number in range(3):
        await publish(pnl(f"{number + 1}.5"), owner=desk.user.pk)
        await expect(chart).to_have_attribute("aria-label", f"Running profit: +{number + 1}.5 USDT paper")
    assert int(await chart.get_attribute("data-points") or 0) >= before + 3
    # Something of the line's colour is drawn.
    drawn = await page.evaluate(
        """() => {
          const canvas = document.querySelector("[data-chart] canvas");
          const swatch = getComputedStyle(document.querySelector(".swatch")).backgroundColor.match(/\\d+/g).map(Number);
          const data = canvas.getContext("2d").getImageData(0, 0, canvas.width, canvas.height).data;
          let hits = 0;
          const near = (i) => swatch.slice(0, 3).every((value, part) => Math.abs(data[i + part] - value) < 3);
          for (let i = 0; i < data.length; i += 4) if (data[i + 3] > 200 && near(i)) hits++;
          return hits;
        }"""
    )
    assert drawn > 50


async def test_bid_and_ask_of_each_exchange_with_the_best_edge(desk: Desk, open_page: OpenPage) -> None:
    page = await open_page()
    await publish(
        quote("binance-sim", bid=50_030.0, ask=50_031.5),
        quote("okx-sim", bid=50_000.25, ask=50_005.0),
        quote("okx-sim", "BTC/USDC", bid=49_000.0, ask=49_001.0),
        quote("okx-sim", "BTC/USDT:USDT", bid=50_001.0, ask=50_006.0),
    )
    pairs = page.locator(".pair")
    await expect(pairs).to_have_count(2)  # USDT and USDC are different assets
    usdt = pairs.filter(has_text="BTC/USDT")
    await expect(usdt.locator("tbody tr")).to_have_count(3)
    await expect(usdt.locator(".pair-route")).to_have_text("buy okx-sim → sell binance-sim")
    await expect(usdt.locator(".pair-edge")).to_have_text("+5.00 bps")
    await expect(usdt.locator("td[data-best]")).to_have_count(2)
    best_bid = usdt.locator("tbody tr", has_text="binance-sim").locator("td.bid")
    await expect(best_bid).to_have_attribute("data-best", "")
    await expect(best_bid).to_contain_text("50,030")
    await expect(usdt.locator("tbody th")).to_contain_text(["binance-sim", "okx-sim", "okx-sim perp"])
    usdc = pairs.filter(has_text="BTC/USDC")
    await expect(usdc.locator(".pair-route")).to_have_text("needs two live exchanges")
    await expect(tile(page, "Best edge now")).to_contain_text("+5.00 bps")


async def test_ages_grow_and_what_is_old_greys_out(desk: Desk, open_page: OpenPage) -> None:
    page = await open_page()
    await publish(quote("binance-sim"), quote("okx-sim", received_at=time.time() - 4))
    fresh, old = (page.locator(".pair tbody tr", has_text=name) for name in ("binance-sim", "okx-sim"))
    await expect(old).to_have_count(1)
    first = await old.locator(".age").inner_text()
    assert float(first.removesuffix(" s")) >= 4
    bright = await colour(page, ".pair tbody tr:nth-child(1) .price")
    await expect(old).to_have_class("old")
    await expect(old.locator(".age")).not_to_have_text(first)
    await expect(fresh).not_to_have_class("old")
    assert await colour(page, ".pair tbody tr.old .price") != bright
    await publish(quote("okx-sim"))
    await expect(old).not_to_have_class("old")


async def test_a_stale_feed_turns_the_indicator_yellow_with_the_reason(desk: Desk, open_page: OpenPage) -> None:
    page = await open_page()
    await publish(feed("binance-sim"), feed("okx-sim"))
    await says(page, "good", "Live", "2 feeds, 80 messages/s")
    await publish(feed("okx-sim", status="stale", reason="no message for 6 s"))
    await says(page, "warn", "Degraded", "okx-sim stale (no message for 6 s)")
    await publish(feed("binance-sim"), feed("okx-sim"))
    await says(page, "good", "Live", "2 feeds")


async def test_an_engine_that_reports_no_more_is_noticed(desk: Desk, open_page: OpenPage) -> None:
    page = await open_page()
    late = feed()
    late["data"]["at"] -= 5
    await publish(late)
    await says(page, "warn", "Degraded", "no engine reports")


async def test_the_buttons_start_and_stop_a_bot(desk: Desk, open_page: OpenPage) -> None:
    page = await open_page()
    button = page.get_by_role("button", name="Start alice's majors")
    await button.click()
    row = page.locator(".bot")
    await expect(row.locator(".badge").nth(1)).to_have_text("starting")
    assert (await stored(desk.bot)).desired_state == "running"
    name = desk.bot.name
    await publish(bot(desk.bot.pk, name, desired="running", observed="running"), owner=desk.user.pk)
    await expect(row.locator(".badge").nth(1)).to_have_text("running")
    await page.get_by_role("button", name="Stop alice's majors").press("Enter")
    await expect(page.get_by_role("button", name="Start alice's majors")).to_be_focused()
    assert (await stored(desk.bot)).desired_state == "stopped"


async def test_a_bot_that_cannot_start_says_why_beside_it(desk: Desk, open_page: OpenPage, watched) -> None:
    watched.expected = ("status of 409",)
    await database_sync_to_async(desk.bot.accounts.clear)()
    page = await open_page()
    await page.get_by_role("button", name="Start alice's majors").click()
    await expect(page.locator(".bot [role=alert]")).to_contain_text("Could not start:")
    assert (await stored(desk.bot)).desired_state == "stopped"


async def test_a_long_day_does_not_grow_the_page(desk: Desk, open_page: OpenPage) -> None:
    page = await open_page()
    for start in range(0, 300, 60):
        batch = [trade(f"t-{number:04}", opened_at=time.time() - 600 + number) for number in range(start, start + 60)]
        await publish(*batch, owner=desk.user.pk)
        await asyncio.sleep(0.15)
    await expect(page.locator(".trade").first.locator("details")).to_have_attribute("open", "")
    await expect(page.locator(".trade")).to_have_count(50)
    await expect(tile(page, "Trades today")).to_contain_text("300")


async def test_paper_and_simulated_money_are_two_figures_and_two_charts(desk: Desk, open_page: OpenPage) -> None:
    await database_sync_to_async(desk.trade)(profit="0.25")
    page = await open_page()
    chart, modes = page.locator("[data-chart]"), page.locator("[data-modes]")
    await expect(chart).to_have_attribute("aria-label", "Running profit: +0.25 USDT paper")
    await expect(modes).to_be_hidden()

    await publish(pnl("100", mode="simulated"), owner=desk.user.pk)
    await expect(tile(page, "PnL today, USDT, simulated").locator(".value")).to_have_text("+100")
    await expect(tile(page, "PnL today, USDT, paper").locator(".value")).to_have_text("+0.25")
    # The more real one is shown until the user says otherwise.
    await expect(chart).to_have_attribute("aria-label", "Running profit: +100 USDT simulated")
    await expect(modes.get_by_role("button")).to_have_text(["simulated", "paper"])
    await modes.get_by_role("button", name="paper").click()
    await expect(chart).to_have_attribute("aria-label", "Running profit: +0.25 USDT paper")
    await expect(modes.get_by_role("button", name="paper")).to_have_attribute("aria-pressed", "true")
    await publish(pnl("101", mode="simulated"), pnl("0.5"), owner=desk.user.pk)
    await expect(chart).to_have_attribute("aria-label", "Running profit: +0.5 USDT paper")


async def test_an_exposed_trade_stays_in_sight_and_is_counted(desk: Desk, open_page: OpenPage) -> None:
    page = await open_page()
    exposed = trade("exposed", state="EXPOSED", profit=None, residual="0.01", opened_at=time.time() - 3600)
    await publish(exposed, *[trade(f"t-{number}") for number in range(60)], owner=desk.user.pk)
    await expect(tile(page, "Exposure").locator(".value")).to_have_text("0.01 BTC")
    await expect(tile(page, "Exposure")).to_contain_text("paper, unhedged")
    await expect(tile(page, "Open trades")).to_contain_text("1 trade for an operator")
    await expect(page.locator(".trade[data-state=exposed] .reason")).to_contain_text("unhedged: 0.01 BTC")
    real = trade("real", state="EXPOSED", profit=None, residual="-2", mode="live")
    await publish(real, owner=desk.user.pk)
    await expect(tile(page, "Exposure").locator(".value")).to_have_text("−2 BTC")
    await expect(tile(page, "Exposure")).to_contain_text("live, unhedged, and 0.01 BTC paper")


async def test_an_update_changes_rows_in_place(desk: Desk, open_page: OpenPage) -> None:
    page = await open_page()
    await publish(quote("binance-sim"), quote("okx-sim"))
    await expect(page.locator(".pair tbody tr")).to_have_count(2)
    await page.evaluate("document.querySelectorAll('.pair tbody tr').forEach((row) => { row.kept = true; })")
    height = await page.evaluate("document.querySelector('.pair').offsetHeight")
    await publish(quote("binance-sim", bid=50_123.45), quote("okx-sim", bid=1.0))
    await expect(page.locator(".pair tbody")).to_contain_text("50,123.45")
    assert await page.evaluate("[...document.querySelectorAll('.pair tbody tr')].every((row) => row.kept)")
    assert await page.evaluate("document.querySelector('.pair').offsetHeight") == height


async def test_names_from_elsewhere_are_text(desk: Desk, open_page: OpenPage) -> None:
    page = await open_page()
    nasty = "<img src=x onerror=alert(1)>"
    item = trade("t-1")
    item["data"]["bot"] = nasty
    item["data"]["legs"][0]["exchange"] = nasty
    await publish(item, owner=desk.user.pk)
    await expect(page.locator(".trade .t-bot")).to_contain_text(nasty)
    assert await page.locator(".trade img").count() == 0


def tile(page: Page, label: str):
    return page.locator(".tile").filter(has=page.locator("dt", has_text=label))


async def colour(page: Page, selector: str) -> str:
    return await page.evaluate("(s) => getComputedStyle(document.querySelector(s)).color", selector)


async def says(page: Page, tone: str, word: str, reason: str) -> None:
    """Wait until the indicator shows this tone, word and reason."""
    await expect(page.locator("#connection")).to_have_attribute("data-tone", tone, timeout=20_000)
    await expect(page.locator("#connection [data-word]")).to_have_text(word)
    await expect(page.locator("#connection [data-reason]")).to_contain_text(reason)


@database_sync_to_async
def stored(row: Bot) -> Bot:
    return Bot.objects.get(pk=row.pk)


async def test_a_held_pair_shows_how_it_stands_below_its_orders(desk: Desk, open_page: OpenPage) -> None:
    page = await open_page()
    await publish(pair(is_estimated=False), trade("other"), owner=desk.user.pk)
    figures = page.locator(".trade[data-state=holding] .pair-figures div")
    await expect(figures).to_have_text(
        [
            "Spot leg50,000.5", "Perpetual leg50,500", "Entry edge+69.87 bps", "Exit edge now−4.25 bps",
            "Funding+0.125 USDT", "To liquidation45.1 %",
        ]
    )  # fmt: skip
    await expect(page.locator(".pair-figures:visible")).to_have_count(1)
    await publish(pair(state="CLOSED"), owner=desk.user.pk)
    await expect(page.locator(".pair-figures:visible")).to_have_count(0)


async def test_a_pair_is_closed_from_the_live_page_as_from_the_desk(
    desk: Desk, open_page: OpenPage, server: LiveServer
) -> None:
    await database_sync_to_async(held_pair)(desk)
    page = await open_page()
    requests: list[str] = []
    page.on("request", lambda one: one.method == "POST" and requests.append(one.url.removeprefix(server.url)))
    trade_id = await database_sync_to_async(lambda: Trade.objects.get().trade_id)()
    await publish(pair(trade_id), trade("other"), owner=desk.user.pk)
    close = page.locator(".trade").get_by_role("button", name="Close the pair BTC/USDT")
    await expect(close).to_have_count(1)
    await close.focus()
    await page.keyboard.press("Enter")
    dialog = page.locator("#close-dialog")
    await expect(dialog.locator("[data-title]")).to_have_text("Close pair BTC/USDT")
    await expect(dialog.locator("[data-about]")).to_contain_text("closing now would earn −4.25 bps in all")
    await expect(dialog.locator("[data-choice]")).to_be_hidden()
    assert requests == [], "nothing is sent before it is confirmed"
    await picture(page, "live-close-pair")
    await dialog.get_by_role("button", name="Close pair").dblclick()
    await expect(dialog.get_by_role("button", name="Done")).to_be_visible()
    assert requests == ["/api/manual-trade/close"]
    (asked,) = await database_sync_to_async(lambda: list(Command.objects.all()))()
    assert (asked.kind, asked.payload["trade_id"], asked.payload["quantity"]) == ("manual_close", trade_id, None)
    await database_sync_to_async(command_finish)(command_id=asked.pk, failed=True, result="The engine is away.")
    await expect(dialog.locator(".ticket .message")).to_have_text("The engine is away.")
    await publish(pair(trade_id, closing="its owner closed it"), owner=desk.user.pk)
    await dialog.get_by_role("button", name="Done").click()
    await expect(close).to_be_hidden()


async def test_who_only_looks_at_a_desk_closes_no_pair_on_it(desk: Desk, open_page: OpenPage) -> None:
    await database_sync_to_async(make_user)("olga", operator=True)
    page = await open_page("olga", address=f"/live/?owner={desk.user.pk}")
    await publish(pair(), owner=desk.user.pk)
    await expect(page.locator(".pair-figures:visible")).to_have_count(1)
    await expect(page.locator(".pair-close, #close-dialog")).to_have_count(0)
