"""Widths, themes, contrast and the keyboard."""

from __future__ import annotations

import os
import time
from pathlib import Path
from typing import Any

import pytest
from playwright.async_api import Page, expect

from tests.browser.conftest import DESKTOP, PHONE, OpenPage
from tests.live.desk import Desk
from tests.live.items import bot, feed, item, pnl, publish, quote, trade

pytestmark = [
    pytest.mark.browser,
    pytest.mark.django_db(transaction=True),
    pytest.mark.asyncio(loop_scope="session"),
]

# Pictures of what these tests look at, for a person to look at too.
SHOTS = os.environ.get("ARB_SHOTS_DIR")

# The worst contrast of any text on the page, against the nearest painted background behind it (WCAG 2.2, 1.4.3).
CONTRAST = """() => {
  const parse = (text) => {
    const probe = document.createElement("canvas").getContext("2d", {willReadFrequently: true});
    probe.fillStyle = text; probe.fillRect(0, 0, 1, 1);
    return [...probe.getImageData(0, 0, 1, 1).data];
  };
  const luminance = ([r, g, b]) => [r, g, b].map((value) => value / 255)
    .map((value) => value <= 0.03928 ? value / 12.92 : ((value + 0.055) / 1.055) ** 2.4)
    .reduce((sum, value, part) => sum + value * [0.2126, 0.7152, 0.0722][part], 0);
  const behind = (node) => {
    for (let at = node; at; at = at.parentElement) {
      const colour = parse(getComputedStyle(at).backgroundColor);
      if (colour[3] === 255) return colour;
    }
    return [255, 255, 255, 255];
  };
  const walker = document.createTreeWalker(document.body, NodeFilter.SHOW_TEXT);
  let worst = {ratio: 21, text: ""};
  while (walker.nextNode()) {
    const node = walker.currentNode.parentElement;
    if (!walker.currentNode.data.trim() || !node.checkVisibility({visibilityProperty: true})) continue;
    if (node.closest("option, noscript, script, .visually-hidden, .skip")) continue;
    const pair = [luminance(parse(getComputedStyle(node).color)), luminance(behind(node))];
    const ratio = (Math.max(...pair) + 0.05) / (Math.min(...pair) + 0.05);
    if (ratio < worst.ratio) worst = {ratio, text: `${walker.currentNode.data.trim()} (${node.className})`};
  }
  return worst;
}"""


async def fill(desk: Desk) -> None:
    """Publish one of everything, with long names and every tone."""
    await publish(
        quote("binance-sim", bid=50_030.0, ask=50_031.5),
        quote("okx-sim", bid=50_000.25, ask=50_005.0),
        quote("a-rather-long-exchange-name", bid=50_000.0, ask=50_009.0, status="stale", received_at=time.time() - 90),
        quote("okx-sim", "1000PEPE/USDC:USDC", bid=0.0000123456, ask=0.0000123999),
        quote("bybit-sim", "1000PEPE/USDC:USDC", bid=0.0000123456, ask=0.0000123999, status="down"),
        feed("binance-sim"),
        feed("okx-sim", status="stale", reason="no message for 6 s"),
    )
    exposed = trade("exposed", state="EXPOSED", profit="-12345.678901", residual="0.01")
    exposed["data"]["reason"] = "the second leg found no taker at any cap; an operator decides what becomes of it"
    exposed["data"]["legs"][0].update(fee="0.00000968", fee_asset="1000PEPE")
    await publish(
        *[trade(f"t-{number}", opened_at=time.time() - number) for number in range(12)],
        exposed,
        decision(desk, taken=True),
        decision(desk, taken=False, sell="a-rather-long-exchange-name"),
        pnl("1234.5", at=time.time() - 60),
        pnl("-0.00001234", asset="USDC", at=time.time() - 60),
        pnl("12345.67", mode="simulated", at=time.time() - 60),
        pnl("-1", asset="USDC", mode="simulated", at=time.time() - 60),
        bot(
            desk.bot.pk, desk.bot.name, desired="running", observed="blocked", reason="account main: key may not trade"
        ),
        bot(
            999,
            "a-bot-with-a-name-as-long-as-one-may-be-and-then-a-little-longer-x",
            desired="running",
            observed="failed",
        ),
        owner=desk.user.pk,
    )


def decision(desk: Desk, *, taken: bool, sell: str = "okx-sim") -> dict[str, Any]:
    buy, sell = "binance-sim:1000PEPE/USDC:USDC", f"{sell}:1000PEPE/USDC:USDC"
    data = {
        "bot_id": desk.bot.pk, "bot": desk.bot.name, "buy": buy, "sell": sell, "quantity": 12345.678, "buy_vwap": 1.0,
        "sell_vwap": 1.1, "gross_bps": 123.45, "net_bps": 103.45, "profit": 1234.5678, "quote": "USDC",
        "book_age_ms": 3.0, "taken": taken, "check": "" if taken else "balance",
        "reason": "" if taken else "free USDC on binance-sim is 12.5 and the leg needs 12345.678", "at": time.time(),
    }  # fmt: skip
    return item("opportunity", f"{desk.bot.pk}:{buy}>{sell}", data)


async def ready(page: Page) -> None:
    await expect(page.locator(".pair")).to_have_count(2)
    await expect(page.locator(".trade")).to_have_count(13)
    await expect(page.locator("[data-legend] li")).to_have_count(2)
    await expect(page.locator(".bot")).to_have_count(2)
    await expect(page.locator(".opportunity")).to_have_count(2)


async def picture(page: Page, name: str) -> None:
    if SHOTS:
        await page.screenshot(path=str(Path(SHOTS) / f"{name}.png"))


WIDTHS = (2200, 1600, 1440, 1300, 1200, 1024, 768, 640, 360, 320)
# What stands further right than its panel, but for what scrolls or ends in an ellipsis by design.
CUT_OFF = """() => [...document.querySelectorAll(".panel, .tile, .top")].flatMap((panel) =>
  [...panel.querySelectorAll("td, th, button, .badge, .t-profit, .pair-edge, .edge, .value")]
    .filter((node) => node.checkVisibility() && node.getClientRects().length)
    .filter((node) => node.getBoundingClientRect().right > panel.getBoundingClientRect().right + 0.5)
    .map((node) => `${node.className || node.tagName}: ${node.textContent}`))"""
# Figures that run into their neighbour.
CROWDED = """() => [...document.querySelectorAll(
    "td.num, .t-profit, .t-quantity, .t-expected, .pair-edge, .opportunity .edge")]
  .filter((node) => node.checkVisibility() && node.scrollWidth > node.clientWidth + 1)
  .map((node) => `${node.className}: ${node.textContent}`)"""


async def test_no_width_scrolls_sideways_cuts_off_or_crowds(desk: Desk, open_page: OpenPage) -> None:
    page = await open_page()
    await fill(desk)
    await ready(page)
    for width in WIDTHS:
        await page.set_viewport_size({"width": width, "height": 800})
        await picture(page, f"width-{width}")
        assert await page.evaluate("document.documentElement.scrollWidth") <= width
        assert (width, await page.evaluate(CUT_OFF), await page.evaluate(CROWDED)) == (width, [], [])


@pytest.mark.parametrize("scheme", ["light", "dark"])
@pytest.mark.parametrize("viewport", [DESKTOP, PHONE], ids=["desktop", "phone"])
async def test_every_text_can_be_read(desk: Desk, open_page: OpenPage, scheme: str, viewport: dict[str, int]) -> None:
    page = await open_page(viewport=viewport, color_scheme=scheme, reduced_motion="reduce")
    await fill(desk)
    await ready(page)
    await picture(page, f"{scheme}-{viewport['width']}")
    worst = await page.evaluate(CONTRAST)
    assert worst["ratio"] >= 4.5, worst


async def test_the_theme_follows_the_system_until_it_is_chosen(desk: Desk, open_page: OpenPage) -> None:
    page = await open_page(color_scheme="dark")
    background = "getComputedStyle(document.body).backgroundColor"
    dark = await page.evaluate(background)
    await publish(pnl("1"), owner=desk.user.pk)
    await expect(page.locator(".swatch")).to_have_count(1)
    await page.emulate_media(color_scheme="light")
    light = await page.evaluate(background)
    assert light != dark
    await page.get_by_role("button", name="Switch to the dark theme").click()
    assert await page.evaluate(background) == dark
    await page.reload()
    assert await page.evaluate(background) == dark
    await page.get_by_role("button", name="Switch to the light theme").click()
    assert await page.evaluate(background) == light


async def test_the_page_works_by_keyboard(desk: Desk, open_page: OpenPage) -> None:
    page = await open_page()
    await publish(trade("t-1"), owner=desk.user.pk)
    await expect(page.locator(".trade")).to_have_count(1)
    await page.keyboard.press("Tab")
    await expect(page.locator(".skip")).to_be_focused()
    await expect(page.locator(".skip")).to_be_in_viewport()
    reached = set()
    for _ in range(20):
        await page.keyboard.press("Tab")
        reached.add(
            await page.evaluate("document.activeElement.id || document.activeElement.textContent.trim().slice(0, 12)")
        )
        outline = await page.evaluate("getComputedStyle(document.activeElement).outlineStyle")
        assert outline != "none" or await page.evaluate("document.activeElement === document.body")
    assert {"theme", "Sign out ali", "Start"} <= reached
    summary = page.locator(".trade summary")
    await summary.focus()
    await page.keyboard.press("Enter")
    await expect(page.locator(".trade .legs")).to_be_hidden()
    await publish(trade("t-1", profit="0.5"), owner=desk.user.pk)
    await expect(page.locator(".trade .t-profit")).to_have_text("+0.5 USDT")
    await expect(page.locator(".trade .legs")).to_be_hidden()  # an update does not open what was closed
    await expect(summary).to_be_focused()


async def test_parts_have_names_for_screen_readers(desk: Desk, open_page: OpenPage) -> None:
    page = await open_page()
    for name in ("Spreads", "Running PnL", "Trades", "Bots", "Opportunities", "Balances"):
        await expect(page.get_by_role("region", name=name, exact=True)).to_have_count(1)
    await expect(page.get_by_role("heading", level=1)).to_have_text("Live desk of alice")
    await publish(quote("binance-sim", bid=50_030.0), quote("okx-sim", ask=50_005.0))
    await expect(page.locator("td[data-best]").first).to_contain_text("(best bid)")
    assert await page.locator("button:not([aria-label]):empty").count() == 0
