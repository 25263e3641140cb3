"""The API's own page: it stands without the internet, under the policy every page has."""

from __future__ import annotations

import pytest
from playwright.async_api import expect

from tests.browser.conftest import OpenPage
from tests.live.desk import Desk

pytestmark = [
    pytest.mark.browser,
    pytest.mark.django_db(transaction=True),
    pytest.mark.asyncio(loop_scope="session"),
]


async def test_the_api_is_described_without_anything_from_elsewhere(open_page: OpenPage, desk: Desk) -> None:
    page = await open_page(None, address="/api/docs")
    await expect(page.get_by_text("Arbitrage platform").first).to_be_visible()
    await expect(page.get_by_text("/api/manual-trade-ws").first).to_be_visible(timeout=30_000)
    loaded = await page.evaluate("performance.getEntriesByType('resource').map((one) => one.name)")
    origin = await page.evaluate("location.origin")
    assert [name for name in loaded if not name.startswith((origin, "data:"))] == []
