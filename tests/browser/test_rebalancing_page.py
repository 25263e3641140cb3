"""Requests to rebalance on their page: read, approved, refused; on a phone, in the dark, by the keyboard."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
from channels.db import database_sync_to_async
from playwright.async_api import Page, expect

from bots import live_cache
from bots.models import Command
from bots.services.commands import command_finish
from bots.services.rebalancing import rebalance_cancel, rebalances_follow
from risk.models import RebalanceRequest
from tests.bots.test_rebalancing import Scene
from tests.bots.world import World
from tests.browser.conftest import PHONE, OpenPage, Watched
from tests.browser.test_look import CONTRAST
from tests.live.desk import PASSWORD
from tests.live.items import quote

pytestmark = [
    pytest.mark.browser,
    pytest.mark.django_db(transaction=True),
    pytest.mark.asyncio(loop_scope="session"),
]

ADDRESS = "/desk/rebalancing/"
READY = "#rebalancing:not([aria-busy])"
PATIENCE_MS = 60_000


def proposed() -> tuple[Scene, RebalanceRequest]:
    """Anna's desk, with one proposal of the platform's."""
    live_cache.last_known.remember([quote(code, bid=49_995.0, ask=50_005.0) for code in ("alpha", "beta")])
    scene = Scene(World())
    scene.anna.set_password(PASSWORD)
    scene.anna.save()
    return scene, scene.sale()


@pytest.fixture
def ask() -> Callable[..., Any]:
    return lambda work, *given, **named: database_sync_to_async(work)(*given, **named)


async def opened(open_page: OpenPage, **options: Any) -> Page:
    return await open_page(user="anna", address=ADDRESS, ready=READY, **options)


async def test_a_proposal_is_read_and_approved(server: Any, open_page: OpenPage, ask: Callable[..., Any]) -> None:
    _, sale = await ask(proposed)
    page = await opened(open_page)
    card = page.locator("[data-open] .request")
    await expect(card).to_contain_text("Sell 0.1 BTC")
    await expect(card).to_contain_text("100.0 % → 50.0 %")
    await expect(card).to_contain_text("11 bps")
    await expect(page.locator("#connection [data-word]")).to_have_text("Polling")
    await card.get_by_role("button", name="Approve").focus()
    await page.keyboard.press("Enter")
    dialog = page.locator("#decide-dialog")
    await expect(dialog).to_contain_text("Approve: Sell 0.1 BTC")
    await page.keyboard.type("Go on.")
    await page.keyboard.press("Enter")
    await expect(dialog).to_be_hidden(timeout=PATIENCE_MS)
    await expect(card.locator(".badge")).to_have_text("running", timeout=PATIENCE_MS)
    await expect(card.get_by_role("button")).to_have_count(0)
    command = await ask(lambda: Command.objects.get(idempotency_key=f"rebalance-{sale.pk}"))

    def end() -> int:
        command_finish(command_id=command.pk, failed=True, result="Trading is switched to killed.")
        return rebalances_follow()

    assert await ask(end) == 1
    ended = page.locator("[data-ended] .request")
    await expect(ended).to_contain_text("Trading is switched to killed.", timeout=PATIENCE_MS)
    await expect(ended.locator(".badge")).to_have_text("failed")


async def test_what_somebody_else_decided_meanwhile_is_told(
    server: Any, open_page: OpenPage, watched: Watched, ask: Callable[..., Any]
) -> None:
    scene, sale = await ask(proposed)
    watched.expected = ("Failed to load resource",)
    page = await opened(open_page)
    await page.locator("[data-open] .request").get_by_role("button", name="Reject").click()
    dialog = page.locator("#decide-dialog")
    await dialog.get_by_role("button", name="Reject").click()
    await expect(dialog.locator("[data-failure]")).to_contain_text("Say why", timeout=PATIENCE_MS)
    await ask(rebalance_cancel, request_id=sale.pk, actor=scene.operator, reason="Not now.")
    await dialog.locator("input").fill("Too late.")
    await dialog.get_by_role("button", name="Reject").click()
    await expect(dialog.locator("[data-failure]")).to_contain_text(
        "It is cancelled already by operator (Not now)", timeout=PATIENCE_MS
    )
    await page.keyboard.press("Escape")
    await expect(page.locator("[data-ended] .request")).to_contain_text("Not now.", timeout=PATIENCE_MS)
    assert await ask(lambda: RebalanceRequest.objects.get(pk=sale.pk).state) == "CANCELLED"


@pytest.mark.parametrize("scheme", ["light", "dark"])
async def test_it_reads_well_on_a_phone(server: Any, open_page: OpenPage, ask: Callable[..., Any], scheme: str) -> None:
    await ask(proposed)
    page = await opened(open_page, viewport=PHONE, color_scheme=scheme)
    await expect(page.locator("[data-open] .request")).to_be_visible()
    assert await page.evaluate("document.documentElement.scrollWidth <= innerWidth")
    worst = await page.evaluate(CONTRAST)
    assert worst["ratio"] >= 4.5, worst
