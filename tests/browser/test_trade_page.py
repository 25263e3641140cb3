"""Trades made by hand, from the click to the exchange and back: the real page, host and simulated exchange."""

from __future__ import annotations

import json
import re
from collections.abc import AsyncIterator, Iterator
from typing import Any

import pytest
import pytest_asyncio
from django.contrib.sessions.models import Session
from playwright.async_api import Locator, Page, Route, expect

from bots.models import Bot, Command, Ticket
from tests.browser.conftest import OpenPage, Watched
from tests.browser.floor import SYMBOL, Floor, ask, eventually, open_floor
from tests.browser.server import LiveServer
from tests.exchangesim.simulator import Simulator, running_simulator

pytestmark = [
    pytest.mark.browser,
    pytest.mark.django_db(transaction=True),
    pytest.mark.asyncio(loop_scope="session"),
    pytest.mark.timeout(240),
]

LIVE, PAPER = "/desk/trade/?mode=live", "/desk/trade/?mode=paper"
PATIENCE_MS = 60_000
CUT = ("WebSocket connection to", "Failed to load resource")


@pytest.fixture(scope="module")
def simulator() -> Iterator[Simulator]:
    with running_simulator("--exchanges", "binance", "--no-limits") as running:
        yield running


@pytest_asyncio.fixture(loop_scope="session")
async def floor(server: LiveServer, simulator: Simulator) -> AsyncIterator[Floor]:
    async with open_floor(simulator) as floor:
        yield floor


async def open_panel(open_page: OpenPage, address: str, **options: Any) -> Page:
    page = await open_page(address=address, ready="#desk:not([aria-busy])", **options)
    await expect(page.locator("#market")).to_have_value(SYMBOL)
    return page


async def start(page: Page, mode: str) -> None:
    """Start trading by hand (for live: the third yes), and wait for the price that comes with it."""
    await page.get_by_role("button", name="Start trading by hand").click()
    if mode == "live":
        await expect(page.locator("#yeses [data-said]")).to_contain_text("All yeses are given")
    else:
        await expect(page.locator("#yeses")).to_be_hidden()
    await eventually(lambda: Bot.objects.get(strategy="manual", mode=mode).observed_state, "running")
    await expect(page.locator("#quote [data-ask]")).to_have_text("50,005", timeout=PATIENCE_MS)


async def fill(page: Page, *, amount: str = "0.01", order: str = "market", **more: str) -> None:
    await page.fill("#amount", amount)
    await page.check(f"[name=order][value={order}]")
    for name, text in more.items():
        await page.fill(f"#{name.replace('_', '-')}", text)


def ticket(page: Page) -> Locator:
    return page.locator("#progress .ticket").first


async def done(ticket: Locator) -> None:
    """Wait for the end of what a ticket shows; it must be a good one."""
    await expect(ticket).to_have_attribute("data-state", re.compile("done|failed"), timeout=PATIENCE_MS)
    assert await ticket.get_attribute("data-state") == "done", await ticket.inner_text()


async def confirm(page: Page, side: str = "Buy…") -> None:
    await page.get_by_role("button", name=side, exact=True).click()
    button = page.locator("#confirm [data-confirm]")
    await expect(button).not_to_have_attribute("aria-disabled", "true", timeout=PATIENCE_MS)
    await button.click()


async def test_a_trade_with_take_profit_and_stop_loss_from_the_click_to_the_take_profit(
    floor: Floor, open_page: OpenPage
) -> None:
    page = await open_panel(open_page, LIVE)
    await expect(page.locator("#panel header .badge")).to_have_text("simulated")
    await expect(page.locator("#yeses [data-said]")).to_contain_text("one is missing")
    await expect(page.get_by_role("button", name="Buy…", exact=True)).to_have_attribute("aria-disabled", "true")
    await start(page, "live")
    await fill(page, take_profit="1", stop_loss="2")
    await expect(page.locator("#take-profit-hint")).to_contain_text("50,505")

    await page.get_by_role("button", name="Buy…", exact=True).click()
    dialog = page.locator("#confirm")
    await expect(dialog.locator("[data-mode-line]")).to_contain_text("simulated exchange")
    await expect(dialog.locator("[data-estimate]")).to_contain_text("50,005")
    await expect(dialog.locator("[data-estimate]")).to_contain_text("USDT")
    await expect(dialog.locator("[data-confirm]")).to_be_focused()
    await dialog.locator("[data-confirm]").click()

    await done(ticket(page))
    steps = ticket(page).locator(".steps li")
    await expect(steps.locator(".step-name")).to_have_text(
        ["connecting", "placing order", "placing protection", "done"]
    )
    await expect(steps.nth(1).locator(".step-ms")).to_contain_text("ms")
    position = page.locator("#positions tbody tr")
    await expect(position).to_have_count(1)
    await expect(position).to_contain_text("50,005")
    await expect(position.locator("[data-label=Size]")).to_have_text("0.009996")  # less the fee in BTC
    await expect(position.locator("[data-label='Take profit']")).to_contain_text("50,505")
    await expect(position.locator("[data-label='Stop loss']")).to_contain_text("49,00")
    assert [fill["side"].lower() for fill in await floor.fills()] == ["buy"]

    floor.price = floor.price * 102 / 100  # beyond the take-profit
    await expect(position).to_have_count(0, timeout=PATIENCE_MS)
    await eventually(lambda: Ticket.objects.get().trade.state, "CLOSED")
    assert [fill["side"].lower() for fill in await floor.fills()] == ["buy", "sell"]
    result = await ask(lambda: Ticket.objects.select_related("trade").get().trade)
    assert result.realised_profit is not None
    assert result.realised_profit > 0

    await page.goto(page.url.replace("/desk/trade/", "/desk/"))
    await expect(page.locator("[data-environment=simulated] [data-figure=realized_pnl] .value")).to_contain_text("+")
    await expect(page.locator("#positions [data-empty]")).to_be_visible()
    await expect(page.locator("#trades .trade").first).to_contain_text("closed")


async def test_a_position_is_closed_by_its_button_on_paper(floor: Floor, open_page: OpenPage) -> None:
    page = await open_panel(open_page, PAPER)
    await fill(page)  # nothing is started: the first order does that
    await confirm(page)
    await done(ticket(page))
    await page.goto(page.url.replace("/desk/trade/", "/desk/"))
    position = page.locator("#positions tbody tr")
    await expect(position).to_have_count(1, timeout=PATIENCE_MS)
    await position.get_by_role("button", name="Close long BTC/USDT").click()
    dialog = page.locator("#close-dialog")
    await expect(dialog.locator("[data-about]")).to_contain_text("on binance-sim (paper), entered at 50,005")
    await page.keyboard.press("Escape")
    await expect(dialog).to_be_hidden()
    assert await ask(lambda: Command.objects.filter(kind="manual_close").count()) == 0
    await position.get_by_role("button", name="Close long BTC/USDT").click()
    await dialog.get_by_role("button", name="Close position").click()
    await done(dialog.locator(".ticket"))
    await dialog.get_by_role("button", name="Done").click()
    await expect(position).to_have_count(0)
    assert await floor.orders() == []  # paper: the exchange has heard of nothing


async def test_a_close_that_is_being_sent_keeps_its_dialog(floor: Floor, open_page: OpenPage) -> None:
    page = await open_panel(open_page, PAPER)
    await fill(page)
    await confirm(page)
    await done(ticket(page))
    held: list[Route] = []

    async def hold(route: Route) -> None:
        held.append(route)

    await page.route(re.compile(r"/api/manual-trade/close$"), hold)
    dialog = page.locator("#close-dialog")
    await page.locator("#positions .p-close button").click()
    await dialog.get_by_role("button", name="Close position").click()
    await expect(dialog.locator("[data-confirm]")).to_have_attribute("aria-disabled", "true")
    await dialog.get_by_role("button", name="Keep it").click()
    await expect(dialog).to_be_visible()  # too late to keep it
    await page.evaluate("document.querySelector('#close-dialog').close()")
    await page.locator("#positions .p-close button").click()
    await expect(dialog.locator("[data-confirm]")).not_to_have_attribute("aria-disabled", "true")
    await held[0].continue_()
    await expect(page.locator("#positions tbody tr")).to_have_count(0, timeout=PATIENCE_MS)
    await expect(dialog.locator(".ticket")).to_have_count(0)  # nothing of the other request in here
    assert await ask(lambda: Command.objects.filter(kind="manual_close").count()) == 1


async def test_a_double_click_is_one_order(floor: Floor, open_page: OpenPage) -> None:
    page = await open_panel(open_page, LIVE)
    await start(page, "live")
    await fill(page)
    await page.get_by_role("button", name="Buy…", exact=True).click()
    button = page.locator("#confirm [data-confirm]")
    await expect(button).not_to_have_attribute("aria-disabled", "true", timeout=PATIENCE_MS)
    await button.dblclick()
    await done(ticket(page))
    assert await ask(lambda: Command.objects.filter(kind="manual_trade").count()) == 1
    assert [order["side"].lower() for order in await floor.orders()] == ["buy"]


async def test_after_a_lost_answer_the_same_order_is_sent_again_under_its_key(
    floor: Floor, open_page: OpenPage, watched: Watched
) -> None:
    watched.expected = CUT
    page = await open_panel(open_page, PAPER)
    keys: list[str] = []

    async def lose(route: Route) -> None:
        keys.append(route.request.headers["idempotency-key"])
        if len(keys) == 1:
            await route.fetch()  # it arrives, and is done
            await route.abort()  # and nobody hears of it
        else:
            await route.continue_()

    await page.route("**/api/manual-trade", lose)
    await fill(page)
    await confirm(page)
    dialog = page.locator("#confirm")
    await expect(dialog.locator("[data-failure]")).to_contain_text("may have arrived")
    # Left, and the page loaded anew: the same trade is still the same order.
    await page.keyboard.press("Escape")
    await expect(page.locator("#trade > [data-failure]")).to_contain_text("had no answer")
    await page.reload()
    await expect(page.locator("#market")).to_have_value(SYMBOL)
    await fill(page)
    await confirm(page)
    await done(ticket(page))
    assert len(keys) == 2
    assert keys[0] == keys[1]
    assert await ask(lambda: Command.objects.filter(kind="manual_trade").count()) == 1


@pytest.mark.parametrize(
    ("fields", "place", "said"),
    [
        ({"amount": "0.00000001"}, "amount", "0.00000001"),
        ({"amount": "much"}, "amount", "much"),
        ({"take_profit": "-5"}, "take_profit", "5"),
        ({"amount": "500"}, "amount", "500"),
        ({"timeout": "0.5", "order": "adaptive"}, "timeout_seconds", "0.5"),
    ],
    ids=["below the minimum", "not a number", "negative", "more than there is", "not whole seconds"],
)
async def test_what_is_refused_is_said_at_its_field(
    floor: Floor, open_page: OpenPage, watched: Watched, fields: dict[str, str], place: str, said: str
) -> None:
    watched.expected = CUT
    page = await open_panel(open_page, PAPER)
    await start(page, "paper")
    await page.locator(".more summary").click()
    await fill(page, **fields)
    await page.get_by_role("button", name="Buy…", exact=True).click()
    dialog = page.locator("#confirm")
    if place != "timeout_seconds":  # the page itself sees that one
        await expect(dialog.locator("[data-refusals] li").first).to_be_visible(timeout=PATIENCE_MS)
        await expect(dialog.locator("[data-confirm]")).to_have_attribute("aria-disabled", "true")
        await dialog.get_by_role("button", name="Change it").click()
    field = page.locator(f"[data-field={place}]")
    await expect(field.locator("[data-error]")).to_contain_text(said)
    await expect(field.locator("input").first).to_be_focused()
    await expect(field.locator("input").first).to_have_attribute("aria-invalid", "true")
    assert await ask(Command.objects.filter(kind="manual_trade").count) == 0
    await field.locator("input").first.press_sequentially("1")
    await expect(field.locator("[data-error]")).to_be_hidden()


async def test_an_ended_session_is_said_and_nothing_is_sent(
    floor: Floor, open_page: OpenPage, watched: Watched
) -> None:
    watched.expected = CUT
    page = await open_panel(open_page, PAPER)
    await fill(page)
    await ask(Session.objects.all().delete)
    await page.get_by_role("button", name="Buy…", exact=True).click()
    dialog = page.locator("#confirm")
    await expect(dialog.locator("[data-failure]")).to_contain_text("session has ended", timeout=PATIENCE_MS)
    await expect(dialog.locator("[data-confirm]")).to_have_attribute("aria-disabled", "true")
    assert await ask(Command.objects.filter(kind="manual_trade").count) == 0
    await expect(page.locator("#sign-in-again")).to_be_visible(timeout=PATIENCE_MS)


async def test_progress_is_asked_for_while_the_socket_is_away(
    floor: Floor, open_page: OpenPage, server: LiveServer, watched: Watched
) -> None:
    watched.expected = CUT
    page = await open_panel(open_page, PAPER)
    server.gate.sockets_allowed = False
    server.gate.cut_sockets()
    await expect(page.locator("#connection [data-reason]")).to_contain_text("polling every 2 s")
    await fill(page)
    await confirm(page)
    await done(ticket(page))
    await expect(page.locator("#positions tbody tr")).to_have_count(1, timeout=PATIENCE_MS)


async def test_a_trade_by_keyboard_alone(floor: Floor, open_page: OpenPage) -> None:
    page = await open_panel(open_page, PAPER)
    await start(page, "paper")
    said: list[str] = []
    await page.expose_function("heard", lambda text: said.append(text))  # noqa: PLW0108 (playwright wants a function)
    await page.evaluate(
        """() => {
          const node = document.querySelector("#progress [data-announcer]");
          const watch = {childList: true, characterData: true, subtree: true};
          new MutationObserver(() => window.heard(node.textContent)).observe(node, watch);
        }"""
    )
    await tab_to(page, "#market")
    await page.keyboard.type("btc")
    await expect(page.locator("#market-list [role=option]").first).to_have_attribute("aria-selected", "true")
    assert await page.locator("#market").get_attribute("aria-activedescendant") == "market-0"
    await page.keyboard.press("Enter")
    await expect(page.locator("#market-list")).to_be_hidden()
    await expect(page.locator("#market")).to_have_value(SYMBOL)
    await tab_to(page, "#amount")
    await page.keyboard.type("0.01")
    await page.keyboard.press("Enter")  # in a field it sends nothing
    await expect(page.locator("#confirm")).to_be_hidden()
    await tab_to(page, "[name=order]:checked")
    await page.keyboard.press("ArrowDown")
    await expect(page.locator("[name=order][value=market]")).to_be_checked()
    await tab_to(page, "#take-profit")
    await page.keyboard.type("2")
    await tab_to(page, ".side-buy")
    await page.keyboard.press("Enter")
    button = page.locator("#confirm [data-confirm]")
    await expect(button).to_be_focused()
    await page.keyboard.press("Escape")
    await expect(page.locator("#confirm")).to_be_hidden()
    await expect(page.locator(".side-buy")).to_be_focused()  # back where it came from
    await page.keyboard.press("Enter")
    await expect(button).not_to_have_attribute("aria-disabled", "true", timeout=PATIENCE_MS)
    await page.keyboard.press("Enter")
    await expect(page.locator("#progress-title")).to_be_focused(timeout=PATIENCE_MS)
    await done(ticket(page))
    assert said[-1].endswith(": done")
    await tab_to(page, "#positions .p-close button")
    await page.keyboard.press("Enter")
    await expect(page.locator("#close-dialog [data-confirm]")).to_be_focused()
    await page.keyboard.press("Enter")
    await done(page.locator("#close-dialog .ticket"))
    await page.keyboard.press("Escape")
    await expect(page.locator("#positions tbody tr")).to_have_count(0)


async def test_a_confirmation_opened_again_at_once_can_be_confirmed(floor: Floor, open_page: OpenPage) -> None:
    page = await open_panel(open_page, PAPER)
    await start(page, "paper")
    await fill(page)
    await page.click(".side-buy")
    button = page.locator("#confirm [data-confirm]")
    await expect(button).to_be_focused()
    # In one task: the dialog's own news of its closing comes only after it has been opened again.
    await page.evaluate(
        """() => {
          document.querySelector("#confirm").close();
          document.querySelector(".side-buy").click();
        }"""
    )
    await expect(button).not_to_have_attribute("aria-disabled", "true", timeout=PATIENCE_MS)
    estimates = []
    page.on("request", lambda request: estimates.append(request.url) if request.url.endswith("/estimate") else None)
    await page.wait_for_timeout(7_000)
    assert 1 <= len(estimates) <= 3  # every 3 s, by one timer
    await button.click()
    await done(ticket(page))


async def test_going_back_while_an_order_is_being_sent_loses_sight_of_none(floor: Floor, open_page: OpenPage) -> None:
    page = await open_panel(open_page, PAPER)
    await start(page, "paper")
    held: list[Route] = []

    async def hold(route: Route) -> None:
        held.append(route)

    await page.route(re.compile(r"/api/manual-trade$"), hold)
    await fill(page)
    await page.click(".side-buy")
    await page.click("#confirm [data-confirm]:not([aria-disabled])")
    await expect(page.locator("#confirm [data-confirm]")).to_have_text("Sending…")
    await page.click("#confirm [data-cancel]")
    await expect(page.locator("#confirm")).to_be_visible()  # it waits for the answer
    await page.evaluate("document.querySelector('#confirm').close()")  # as a second Escape does in some browsers
    await page.fill("#amount", "0.02")
    await page.click(".side-buy")
    await expect(page.locator("#confirm [data-title]")).to_contain_text("0.02")
    await held[0].continue_()
    await done(ticket(page))
    await expect(page.locator("#confirm [data-title]")).to_contain_text("0.02")  # the other trade is still asked about
    await page.unroute(re.compile(r"/api/manual-trade$"))
    await page.click("#confirm [data-confirm]:not([aria-disabled])")
    await expect(page.locator("#progress .ticket")).to_have_count(2)
    await done(ticket(page))


async def tab_to(page: Page, selector: str, most: int = 40) -> None:
    """Press Tab until the element has the focus; each stop on the way can be seen."""
    for _ in range(most):
        if await page.evaluate("(selector) => document.activeElement.matches(selector)", selector):
            return
        await page.keyboard.press("Tab")
        outline = await page.evaluate("getComputedStyle(document.activeElement).outlineStyle")
        assert outline != "none", await page.evaluate("document.activeElement.outerHTML.slice(0, 200)")
    raise AssertionError(f"{selector} is not reached by {most} tabs")


async def test_requests_carry_a_key_and_the_pages_token(floor: Floor, open_page: OpenPage) -> None:
    page = await open_panel(open_page, PAPER)
    await start(page, "paper")
    seen: list[dict[str, Any]] = []
    page.on(
        "request",
        lambda request: (
            request.method == "POST"
            and "/api/manual-trade" in request.url
            and seen.append(
                {"headers": request.headers, "body": json.loads(request.post_data or "{}"), "url": request.url}
            )
        ),
    )
    await fill(page, take_profit="1")
    await confirm(page)
    await done(ticket(page))
    assert len({request["headers"]["idempotency-key"] for request in seen}) == len(seen)
    assert all(request["headers"].get("x-csrftoken") for request in seen)
    sent = [request["body"] for request in seen if request["url"].endswith("/api/manual-trade")]
    assert sent == [
        {
            "mode": "paper", "account_id": floor.account.pk, "symbol": SYMBOL, "side": "buy", "amount": "0.01",
            "order": "market", "take_profit_percent": "1",
        }
    ]  # fmt: skip


async def test_while_a_market_is_searched_no_other_is_traded(floor: Floor, open_page: OpenPage) -> None:
    page = await open_panel(open_page, PAPER)
    await fill(page)
    await page.locator("#market").press_sequentially("x")
    await page.get_by_role("button", name="Buy…", exact=True).click()
    await expect(page.locator("[data-field=symbol] [data-error]")).to_have_text("Choose a market from the list.")
    await expect(page.locator("#confirm")).to_be_hidden()
    await expect(page.locator("#market")).to_be_focused()
    await page.fill("#market", "btc/usdt")  # typed whole, and left: that is a choice too
    await page.keyboard.press("Tab")
    await expect(page.locator("#market")).to_have_value(SYMBOL)
    await page.fill("#market", "bt")
    await expect(page.locator("#market-list [role=option]").first).to_be_visible()
    await page.keyboard.press("Escape")  # what was chosen before is chosen again
    await expect(page.locator("#market")).to_have_value(SYMBOL)
