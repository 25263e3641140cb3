"""The live page's risk section: breakers and the switch, as operators and owners use them."""

from __future__ import annotations

import re
from typing import Any

import pytest
from asgiref.sync import sync_to_async
from django.contrib.auth.models import Group, User
from playwright.async_api import Page, Route, expect

from bots.selectors.risk import breakers_data
from bots.services.roles import OPERATORS, USERS, roles_sync
from risk.models import BreakerEvent, CircuitBreaker
from risk.policy.breakers import BreakerEvent as E
from risk.policy.breakers import Scope
from risk.services.breaker_operations import breaker_reset
from risk.services.breakers import breaker_event
from tests.browser.conftest import PHONE, OpenPage
from tests.browser.test_look import CONTRAST, CUT_OFF, picture
from tests.live.desk import Desk, make_user
from tests.live.items import item, publish

pytestmark = [
    pytest.mark.browser,
    pytest.mark.django_db(transaction=True),
    pytest.mark.asyncio(loop_scope="session"),
]

NARROW = {"width": 390, "height": 844}
DESKTOP = {"width": 1280, "height": 900}


@sync_to_async
def roles(desk: Desk) -> User:
    """Give alice her role, and make an operator."""
    roles_sync()
    desk.user.groups.add(Group.objects.get(name=USERS))
    operator = make_user("oscar")
    operator.groups.add(Group.objects.get(name=OPERATORS))
    return operator


@sync_to_async
def trip(scope: Scope, key: str, **values: Any) -> None:
    breaker_event(scope=scope, key=key, event=E.TRIP, **{"reason": "Three losses in a row.", "seconds": 3700, **values})


@sync_to_async
def ramp(key: str) -> None:
    """Let a pair's breaker come back to its first step."""
    past = 1_700_000_000 * 10**9
    breaker_event(scope=Scope.PAIR, key=key, event=E.TRIP, now_ns=past, seconds=60, reason="Prices went apart.")
    for event in (E.PROBE_CLAIMED, E.CLEAN):
        breaker_event(scope=Scope.PAIR, key=key, event=event, holder="engine", now_ns=past + 61 * 10**9)


async def confirm(page: Page, *, reason: str, seconds: str = "") -> None:
    await page.fill("#order-dialog [data-reason]", reason)
    if seconds:
        await page.fill("#order-dialog [data-seconds]", seconds)
    await page.click("#order-dialog [data-confirm]")


async def test_with_all_closed_there_is_one_quiet_line(desk: Desk, open_page: OpenPage) -> None:
    page = await open_page()
    await expect(page.locator("#risk [data-empty]")).to_have_text("All circuit breakers are closed.")
    await expect(page.locator("[data-switch-state]")).to_have_text("normal")
    await expect(page.locator(".breaker")).to_have_count(0)
    await expect(page.locator("[data-trip], [data-switch-to]")).to_have_count(0)  # alice has no role here


async def test_an_operator_trips_extends_and_resets_with_a_countdown(
    desk: Desk, open_page: OpenPage, watched: Any
) -> None:
    watched.expected = ("400 (Bad Request)",)
    await roles(desk)
    page = await open_page("oscar", address=f"/live/?owner={desk.user.pk}")
    await page.click("[data-trip]")
    await page.select_option("#order-dialog [data-subject]", f"bot:{desk.bot.pk}")
    await confirm(page, reason="", seconds="90")
    failure = page.locator("#order-dialog [data-failure]")
    await expect(failure).to_contain_text("Why: Say why")
    await expect(page.locator("#order-dialog [data-seconds]")).to_have_value("90")  # what was typed is kept
    await confirm(page, reason="odd fills")
    await expect(page.locator("#order-dialog")).to_be_hidden()
    row = page.locator(".breaker")
    await expect(row).to_have_attribute("data-state", "open")
    await expect(row).to_contain_text("odd fills")
    countdown = row.locator(".countdown")
    await expect(countdown).to_have_text(re.compile(r"probes in 1:[0-2]\d"))
    first = await countdown.inner_text()
    await expect(countdown).not_to_have_text(first)
    await expect(page.locator(".bot .held")).to_contain_text("breaker open until")

    await row.locator("[data-action=extend]").click()
    await confirm(page, reason="still odd", seconds="3600")
    await expect(countdown).to_have_text(re.compile(r"probes in 1:0\d:\d\d"))
    await row.locator("[data-action=reset]").click()
    await confirm(page, reason="explained")
    await expect(row).to_have_count(0)
    await expect(page.locator("#risk [data-empty]")).to_be_visible()
    await expect(page.locator(".bot .held")).to_be_hidden()
    history = await sync_to_async(lambda: list(BreakerEvent.objects.order_by("id").values_list("reason", flat=True)))()
    assert history == ["odd fills", "still odd", "explained"]


async def test_a_stale_page_is_told_so_in_the_dialog(desk: Desk, open_page: OpenPage, watched: Any) -> None:
    watched.expected = ("409 (Conflict)",)
    operator = await roles(desk)
    await trip(Scope.EXCHANGE, "okx-sim")
    page = await open_page("oscar", address=f"/live/?owner={desk.user.pk}")
    await page.click(".breaker [data-action=reset]")
    row = await sync_to_async(CircuitBreaker.objects.get)()
    await sync_to_async(breaker_reset)(actor=operator, breaker=row, reason="by another", seen_version=1)
    await confirm(page, reason="mine")
    await expect(page.locator("#order-dialog [data-failure]")).to_contain_text("This changed meanwhile")
    await expect(page.locator("#order-dialog [data-reason]")).to_have_value("mine")


async def test_a_closed_one_leaves_the_page_and_a_late_word_does_not_bring_it_back(
    desk: Desk, open_page: OpenPage
) -> None:
    await trip(Scope.EXCHANGE, "okx-sim")
    page = await open_page()
    await expect(page.locator(".breaker")).to_have_count(1)
    [late] = await sync_to_async(lambda: [row.data for row in breakers_data(owner_id=desk.user.pk)])()
    closed = {**late, "state": "closed", "share": 1.0, "until": None, "version": late["version"] + 1}
    await publish(item("breaker", "exchange:okx-sim", closed))
    await expect(page.locator(".breaker")).to_have_count(0)
    await publish(item("breaker", "exchange:okx-sim", late))
    await publish(
        item("breaker", "exchange:binance-sim", {**late, "key": "binance-sim", "name": "exchange binance-sim"})
    )
    await expect(page.locator(".breaker strong")).to_have_text(["exchange binance-sim"])


async def test_an_owner_kills_after_a_second_question_and_resumes_with_a_reason(
    desk: Desk, open_page: OpenPage, watched: Any
) -> None:
    watched.expected = ("400 (Bad Request)",)
    await roles(desk)
    page = await open_page()
    await expect(page.locator("[data-switch-scope] option")).to_have_text(["this desk", "bot alice's majors"])
    await page.click("[data-switch-to=kill]")
    await confirm(page, reason="odd fills")
    await expect(page.locator("#order-dialog [data-confirm]")).to_have_text("Yes, kill it now")
    await expect(page.locator("[data-switch-state]")).to_have_text("normal")
    await page.click("#order-dialog [data-confirm]")
    await expect(page.locator("[data-switch-state]")).to_have_text("killed")
    await expect(page.locator("[data-switch-why]")).to_have_text("killed for owner alice: odd fills")
    await expect(page.locator(".bot .held")).to_have_text("killed")
    await expect(page.locator("[data-switch-to=kill]")).to_have_attribute("aria-pressed", "true")
    await page.click("[data-switch-to=normal]")
    await confirm(page, reason="")
    await expect(page.locator("#order-dialog [data-failure]")).to_contain_text("Why: Say why")
    await page.keyboard.type("explained")  # the focus is where something is missing
    await page.keyboard.press("Enter")
    await expect(page.locator("[data-switch-state]")).to_have_text("normal")
    await expect(page.locator(".bot .held")).to_be_hidden()


async def test_an_order_left_while_it_is_sent_does_not_answer_in_the_next_ones_dialog(
    desk: Desk, open_page: OpenPage
) -> None:
    await roles(desk)
    page = await open_page()
    held: list[Route] = []

    async def hold(route: Route) -> None:
        held.append(route)

    await page.route(re.compile(r"/switch$"), hold)
    await page.click("[data-switch-to=reduce_only]")
    await confirm(page, reason="odd fills")
    await page.keyboard.press("Escape")
    await page.click("[data-switch-to=kill]")
    await page.fill("#order-dialog [data-reason]", "very odd fills")
    await held[0].continue_()
    await expect(page.locator("[data-switch-why]")).to_contain_text("odd fills")
    await expect(page.locator("#order-dialog")).to_be_visible()
    await expect(page.locator("#order-dialog [data-reason]")).to_have_value("very odd fills")
    await expect(page.locator("#order-dialog [data-confirm]")).to_have_text("Kill trading")


@pytest.mark.parametrize("scheme", ["light", "dark"])
@pytest.mark.parametrize("size", [DESKTOP, NARROW, PHONE], ids=["desktop", "narrow", "phone"])
async def test_the_section_is_readable_at_every_width_and_in_both_themes(
    desk: Desk, open_page: OpenPage, scheme: str, size: dict[str, int]
) -> None:
    await roles(desk)
    await trip(
        Scope.GLOBAL, "", reason="An operator's reason that is as long as reasons are when somebody explains. " * 2
    )
    await trip(Scope.EXCHANGE, "okx-sim", now_ns=1_700_000_000 * 10**9)
    await ramp("BTC/USDT")
    page = await open_page("oscar", address=f"/live/?owner={desk.user.pk}", viewport=size, color_scheme=scheme)
    states = page.locator(".breaker .badge")
    await expect(states).to_have_text(["open", "half-open", "ramping"])
    await expect(page.locator(".breaker").last).to_contain_text("25 % of the size")
    await picture(page, f"risk-{scheme}-{size['width']}")
    assert await page.evaluate(CUT_OFF) == []
    assert await page.evaluate("document.documentElement.scrollWidth <= innerWidth")
    assert (await page.evaluate(CONTRAST))["ratio"] >= 4.5
    await page.click("[data-switch-to=kill]")
    await picture(page, f"risk-dialog-{scheme}-{size['width']}")
    assert (await page.evaluate(CONTRAST))["ratio"] >= 4.5
    await page.keyboard.press("Escape")
    await expect(page.locator("#order-dialog")).to_be_hidden()
