"""The page that says why there were no trades, in a real browser: its figures, widths, themes and links."""

from __future__ import annotations

import pytest
from channels.db import database_sync_to_async
from playwright.async_api import Page, expect

from bots.models import Bot, DecisionCount
from bots.selectors import period_start
from tests.browser.conftest import DESKTOP, PHONE, OpenPage
from tests.browser.test_look import CONTRAST, picture
from tests.live.desk import Desk
from trading.messages import COMPARED, PAID

pytestmark = [
    pytest.mark.browser,
    pytest.mark.django_db(transaction=True),
    pytest.mark.asyncio(loop_scope="session"),
]

COUNTS = {COMPARED: 1_234_567, PAID: 4_000, "depth:no_edge": 900, "book_age": 2_500, "edge": 580, "": 20}


@database_sync_to_async
def count(desk: Desk) -> None:
    for pair, share in (("BTC", 1), ("1000PEPE", 2)):
        DecisionCount.objects.bulk_create(
            DecisionCount(
                owner=desk.user, bot=desk.bot, base=pair, quote="USDT", hour=period_start("today"), check_name=check,
                count=number // share,
            )
            for check, number in COUNTS.items()
        )  # fmt: skip
    desk.decision(reason="The older book is 1500 ms old; at most 1000 ms is allowed.")
    desk.trade(profit="0.25")
    Bot.objects.filter(pk=desk.bot.pk).update(name="a bot with a name as long as a name of a bot may be, and it is so")


async def from_live_page(open_page: OpenPage, **options: object) -> Page:
    page = await open_page(**options)
    await page.get_by_role("link", name="Why no trades?").click()
    await page.wait_for_selector("#why")
    return page


async def test_the_live_page_leads_to_the_funnel_and_that_to_one_bots(desk: Desk, open_page: OpenPage) -> None:
    await count(desk)
    page = await from_live_page(open_page)
    await expect(page.locator("h1")).to_have_text("Why no trades today?")
    steps = page.locator("#funnel tbody tr")
    await expect(steps).to_have_count(7)
    await expect(page.locator("#funnel [data-stage=compared] td").first).to_have_text("1,851,850")
    await expect(page.locator("#funnel [data-stage=traded] td").first).to_have_text("30")
    await expect(page.locator("#funnel [data-stage=profitable] td").first).to_have_text("1")
    await expect(page.locator("#reasons li").first).to_contain_text("The book is too old")
    await expect(page.locator("#latest")).to_contain_text("1500 ms old")
    await expect(page.locator("#by-pair tbody tr")).to_have_count(2)
    await page.get_by_label("When").select_option("day")
    await page.locator("select[name=bot]").select_option(str(desk.bot.pk))
    await page.get_by_role("button", name="Show").click()
    await expect(page.locator("h1")).to_have_text("Why no trades?")
    await expect(page.locator("select[name=bot]")).to_have_value(str(desk.bot.pk))
    await expect(page.locator("#funnel [data-stage=compared] td").first).to_have_text("1,851,850")


@pytest.mark.parametrize("theme", ["light", "dark"])
@pytest.mark.parametrize("size", [DESKTOP, PHONE], ids=["desktop", "phone"])
async def test_it_fits_and_can_be_read(desk: Desk, open_page: OpenPage, size: dict[str, int], theme: str) -> None:
    await count(desk)
    page = await from_live_page(open_page, viewport=size, color_scheme=theme)
    wide = await page.evaluate("document.documentElement.scrollWidth - document.documentElement.clientWidth")
    assert wide <= 0, f"the page is {wide} px wider than the window"
    worst = await page.evaluate(CONTRAST)
    assert worst["ratio"] >= 4.5, worst
    await picture(page, f"why-{theme}-{size['width']}")


async def test_an_empty_desk_says_what_to_do(desk: Desk, open_page: OpenPage) -> None:
    page = await from_live_page(open_page)
    await expect(page.locator("#empty")).to_contain_text("Start a bot")
