"""A contract traded by hand: what the confirmation says of margin and liquidation, and what the exchange then does."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Iterator

import pytest
import pytest_asyncio
from playwright.async_api import Page, expect

from bots.models import Bot, Command
from bots.services.margins import margins_refresh
from tests.browser.conftest import OpenPage
from tests.browser.floor import Floor, ask, eventually, open_floor
from tests.browser.server import LiveServer
from tests.browser.test_trade_page import LIVE, PAPER, PATIENCE_MS, done, ticket
from tests.exchangesim.simulator import Simulator, running_simulator

pytestmark = [
    pytest.mark.browser,
    pytest.mark.django_db(transaction=True),
    pytest.mark.asyncio(loop_scope="session"),
    pytest.mark.timeout(240),
]

NAME, SYMBOL = "binanceusdm", "BTC/USDT:USDT"


@pytest.fixture(scope="module")
def simulator() -> Iterator[Simulator]:
    with running_simulator("--exchanges", NAME, "--no-limits") as running:
        running.set_mark(NAME, SYMBOL, "50000")
        yield running


@pytest_asyncio.fixture(loop_scope="session")
async def floor(server: LiveServer, simulator: Simulator) -> AsyncIterator[Floor]:
    async with open_floor(simulator, NAME, SYMBOL) as floor:
        told = await ask(lambda: margins_refresh(exchange=floor.account.exchange))
        assert "1 markets changed" in told
        yield floor


async def open_started(open_page: OpenPage, address: str) -> Page:
    page = await open_page(address=address, ready="#desk:not([aria-busy])")
    await expect(page.locator("#market")).to_have_value(SYMBOL)
    await page.get_by_role("button", name="Start trading by hand").click()
    mode = address.partition("mode=")[2]
    bots = Bot.objects.filter(strategy="manual", mode=mode)
    await eventually(lambda: list(bots.values_list("observed_state", flat=True)), ["running"])
    await expect(page.locator("#quote [data-ask]")).to_have_text("50,005", timeout=PATIENCE_MS)
    return page


async def review(page: Page, side: str, *, amount: str, leverage: str, stop_loss: str = "") -> None:
    await page.check("[name=order][value=market]")
    for name, text in (("amount", amount), ("leverage", leverage), ("stop-loss", stop_loss)):
        await page.fill(f"#{name}", text)
    await page.get_by_role("button", name=side, exact=True).click()


def line(page: Page, name: str) -> str:
    return f"#confirm [data-estimate] div:has(dt:text-is('{name}')) dd"


@pytest.mark.parametrize("address", [LIVE, PAPER], ids=["live", "paper"])
async def test_the_confirmation_says_where_it_would_be_liquidated_and_a_later_stop_is_refused(
    floor: Floor, open_page: OpenPage, address: str
) -> None:
    await ask(lambda: floor.account.__class__.objects.update(isolated_markets=[SYMBOL]))
    page = await open_started(open_page, address)
    await review(page, "Long…", amount="0.1", leverage="10")
    # Isolated: 0.9 of 50,005 by 0.996.
    await expect(page.locator(line(page, "Liquidation"))).to_contain_text("45,185.3", timeout=PATIENCE_MS)
    await expect(page.locator(line(page, "Margin"))).to_contain_text("500.05 USDT")
    await expect(page.locator(line(page, "Leverage"))).to_have_text("10×")
    await page.locator("#confirm [data-cancel]").click()

    await review(page, "Long…", amount="0.1", leverage="10", stop_loss="15")
    refusals = page.locator("#confirm [data-refusals]")
    await expect(refusals).to_contain_text("where the position would be liquidated", timeout=PATIENCE_MS)
    await expect(page.locator("#confirm [data-confirm]")).to_have_attribute("aria-disabled", "true")
    await page.locator("#confirm [data-cancel]").click()
    await expect(page.locator("#stop_loss-error")).to_contain_text("The stop-loss must be above about 45185")

    await review(page, "Long…", amount="0.1", leverage="126")
    await expect(refusals).to_contain_text("Must be 1 to 125", timeout=PATIENCE_MS)
    assert not await ask(Command.objects.filter(kind=Command.Kind.MANUAL_TRADE).exists)


async def test_the_exchange_then_tells_the_price_that_was_said(floor: Floor, open_page: OpenPage) -> None:
    await asyncio.to_thread(floor.simulator.transfer, floor.keys, "USDT", "-998000")
    page = await open_started(open_page, LIVE)
    await eventually(lambda: floor.account.balances.filter(asset="USDT").values_list("free", flat=True).first(), 2000)
    # 0.15 coins for 7,500.75 behind a wallet of 2,000.
    await review(page, "Long…", amount="0.15", leverage="5")
    said = page.locator(line(page, "Liquidation"))
    await expect(said).to_contain_text("≈", timeout=PATIENCE_MS)
    estimate = float((await said.inner_text()).strip("≈ ").replace(",", ""))
    await page.locator("#confirm [data-confirm]").click()
    await done(ticket(page))
    (position,) = floor.simulator.positions(NAME, api_key=floor.keys.api_key)
    assert (position["quantity"], position["leverage"]) == ("0.15", 5)
    # By the list's fee, which is a basis point dearer than what this exchange takes.
    assert 0 <= estimate - float(position["liquidation_price"]) < 10
    row = page.locator("#positions tbody tr")
    await expect(row.locator("[data-label=Leverage]")).to_have_text("5×")
