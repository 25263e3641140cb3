"""Pages on which money is decided, as a person uses them."""

from __future__ import annotations

import json
from typing import Any

import pytest
from asgiref.sync import sync_to_async
from django.contrib.auth.models import Group
from django.utils import timezone
from playwright.async_api import Page, expect

from bots.models import Command, Difference, ExchangeAccount, Order, OrderEvent
from bots.services.roles import USERS, roles_sync
from tests.browser.conftest import PHONE, OpenPage
from tests.browser.test_look import CONTRAST, picture
from tests.live.desk import PASSWORD, Desk

pytestmark = [
    pytest.mark.browser,
    pytest.mark.django_db(transaction=True),
    pytest.mark.asyncio(loop_scope="session"),
]

EVIDENCE = {
    "evidence": [
        {"at": 1_764_088_205_120_000_000, "question": "query", "answer": "no such order, twice after the window"},
        {"at": 1_764_088_206_120_000_000, "question": "open_orders", "answer": "1 open, none with our id"},
        {"at": 1_764_088_207_120_000_000, "question": "trades", "answer": "2 executions of no order of ours"},
        {"at": 1_764_088_208_120_000_000, "question": "balances", "answer": "0.01 BTC more than our orders explain"},
    ],
    "candidates": [
        {"exchange_order_id": "28457193", "side": "buy", "price": "50000.1", "quantity": "0.01", "filled": "0.01"}
    ],
}  # fmt: skip


@sync_to_async
def disputed(desk: Desk) -> Order:
    """Let alice have her role, and one order that nobody could prove anything about."""
    roles_sync()
    desk.user.is_staff = True
    desk.user.save()
    desk.user.groups.add(Group.objects.get(name=USERS))
    trade = desk.trade(profit=None, state="EXPOSED", mode="simulated")
    order = Order.objects.get(trade=trade, leg=0)
    order.fills.all().delete()
    Order.objects.filter(pk=order.pk).update(state="DISPUTED", filled=0, average_price=None)
    for number, (before, after) in enumerate([("SENDING", "UNKNOWN"), ("UNKNOWN", "DISPUTED")]):
        raw = json.dumps(EVIDENCE) if after == "DISPUTED" else ""
        OrderEvent.objects.create(
            order=order, from_state=before, to_state=after, reported_state=after, source="engine",
            cause="no proof of what became of the order in time" if raw else "timed out", raw=raw,
            digest=str(number), at=timezone.now(),
        )  # fmt: skip
    return order


@sync_to_async
def differing(desk: Desk) -> None:
    account = desk.accounts["binance-sim"]
    now = timezone.now()
    ExchangeAccount.objects.filter(pk=account.pk).update(
        observed_state="blocked", observed_reason="the exchange has 1 orders of ours that the database does not know",
        observed_at=now, swept_at=now, reconciled_at=now, foreign_orders=1,
    )  # fmt: skip
    for kind, key, cause, figures in (
        ("balance", "USDT", "deposit", {"ours": "1000", "theirs": "1250.5", "amount": "250.5", "asset": "USDT"}),
        ("balance", "BTC", "manual_trade", {"ours": "1.5", "theirs": "1.49", "amount": "-0.01", "asset": "BTC"}),
        ("foreign_order", "28457200", "foreign_order", {"market": "binance-sim:BTC/USDT"}),
        ("unknown_order", "testq00000b0000020000005001x", "unknown_order", {"market": "binance-sim:BTC/USDT"}),
    ):
        Difference.objects.create(
            owner=desk.user, account=account, kind=kind, key=key, cause=cause, first_seen=now, last_seen=now,
            suggestion=f"Looks like a {cause}: adopt it if it is one.", **figures,
        )  # fmt: skip


async def admin_page(open_page: OpenPage, address: str, **options: Any) -> Page:
    """Open a page of the admin, signing in through its form."""
    page = await open_page(None, address=address, **options)
    await page.fill("input[name=username]", "alice")
    await page.fill("input[name=password]", PASSWORD)
    await page.locator("button[type=submit]").first.click()
    await page.wait_for_url(f"**{address}")
    return page


async def test_a_disputed_order_is_decided_on_its_page(desk: Desk, open_page: OpenPage) -> None:
    order = await disputed(desk)
    page = await admin_page(open_page, "/admin/")
    card = page.locator("#dashboard-cards a", has_text="Disputed orders")
    await expect(card).to_contain_text("1")
    await picture(page, "dashboard")
    await page.locator("nav, #nav-sidebar").get_by_role("link", name="Disputed orders").first.click()
    await picture(page, "disputed-list")
    await page.get_by_role("link", name=order.client_order_id).click()
    dispute = page.locator("#dispute")
    await expect(dispute).to_contain_text("0.01 BTC more than our orders explain")
    await expect(dispute).to_contain_text("28457193")
    await full_picture(page, "disputed-order")

    filled = page.locator("#decide-filled")
    for label, value in (
        ("Exchange trade id", "t-1"), ("Quantity", "0.02"), ("Price", "50000.1"), ("Time, UTC", "2026-11-25 10:00:00"),
    ):  # fmt: skip
        await filled.get_by_label(label, exact=True).first.fill(value)
    await filled.get_by_label("Reason").fill("as the exchange shows it")
    await filled.get_by_role("button", name="Mark filled").click()
    alert = page.locator("#decide-filled [role=alert]")
    await expect(alert).to_be_visible()
    await expect(filled.get_by_label("Quantity", exact=True).first).to_have_value("0.02")
    await full_picture(page, "disputed-refused")

    adopt = page.locator("#decide-adopt")
    await adopt.get_by_label("Exchange order id").fill("28457193")
    await adopt.get_by_label("Reason").fill("quantity and time are ours")
    await adopt.get_by_role("button", name="Adopt").click()
    await expect(page.locator("#dispute")).to_contain_text("Pending")
    await expect(page.locator("#decide-adopt")).to_have_count(0)
    await full_picture(page, "disputed-asked")
    command = await sync_to_async(lambda: Command.objects.get(kind=Command.Kind.ORDER_DECIDE))()
    assert command.payload["exchange_order_id"] == "28457193"


async def test_differences_are_listed_and_adopted(desk: Desk, open_page: OpenPage) -> None:
    await disputed(desk)
    await differing(desk)
    page = await admin_page(open_page, "/admin/bots/difference/")
    await expect(page.locator("#result_list tbody tr")).to_have_count(4)
    await full_picture(page, "differences")
    await page.get_by_role("link", name="Balance USDT").click()
    await full_picture(page, "difference")
    await page.get_by_role("button", name="Adopt").click()
    await expect(page.locator("body")).to_contain_text("is adopted.")
    await expect(page.get_by_role("button", name="Adopt")).to_have_count(0)
    await page.goto(page.url.partition("/admin/")[0] + "/admin/bots/exchangeaccount/")
    await full_picture(page, "accounts")
    await expect(page.locator("body")).to_contain_text("Blocked")
    await page.get_by_role("link", name="main").first.click()
    await full_picture(page, "account")


@pytest.mark.parametrize("scheme", ["light", "dark"])
async def test_the_disputed_page_can_be_read_on_a_phone(desk: Desk, open_page: OpenPage, scheme: str) -> None:
    order = await disputed(desk)
    address = f"/admin/bots/order/{order.pk}/change/"
    page = await admin_page(open_page, address, viewport=PHONE, color_scheme=scheme)
    await full_picture(page, f"disputed-phone-{scheme}")
    worst = await page.evaluate(
        CONTRAST.replace("document.body, NodeFilter", 'document.querySelector("#dispute"), NodeFilter')
    )
    assert worst["ratio"] >= 4.5, worst


async def full_picture(page: Page, name: str) -> None:
    """Take a picture of a page that scrolls inside its window."""
    size = page.viewport_size
    assert size is not None
    await page.set_viewport_size({"width": size["width"], "height": 2400 if size["width"] > 500 else 4000})
    await picture(page, name)
    await page.set_viewport_size(size)
