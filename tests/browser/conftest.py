from __future__ import annotations

import os
import shutil
from collections.abc import AsyncIterator, Awaitable, Callable
from typing import Any

import pytest
import pytest_asyncio
from playwright.async_api import Browser, ConsoleMessage, Page, async_playwright

from bots import live_cache
from tests.browser.server import LiveServer
from tests.live.desk import PASSWORD, Desk, make_desk

ARGUMENTS = [
    "--no-sandbox",
    "--disable-gpu",
    "--disable-quic",
    "--no-first-run",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
]
DESKTOP = {"width": 1440, "height": 1000}
PHONE = {"width": 360, "height": 780}
OpenPage = Callable[..., Awaitable[Page]]


def find_chromium() -> str:
    """Return the browser's path; skips the test when there is none, or fails it where nothing may be skipped."""
    if given := os.environ.get("ARB_CHROMIUM"):  # what `./arb test` found or installed
        return given
    for name in ("chromium", "chromium-browser", "google-chrome", "google-chrome-stable"):
        path = shutil.which(name)
        if path:
            return path
    message = "no Chromium on PATH: apt-get install chromium"
    if os.environ.get("CI") == "true":
        pytest.fail(message)
    pytest.skip(message)


@pytest.fixture(scope="session")
def chromium() -> str:
    return find_chromium()


@pytest_asyncio.fixture(scope="session", loop_scope="session")
async def browser(chromium: str) -> AsyncIterator[Browser]:
    async with async_playwright() as playwright:
        browser = await playwright.chromium.launch(executable_path=chromium, args=ARGUMENTS)
        yield browser
        await browser.close()


@pytest_asyncio.fixture(scope="session", loop_scope="session")
async def session_server() -> AsyncIterator[LiveServer]:
    from arbplatform.asgi import application

    server = LiveServer(application)
    await server.start()
    yield server
    await server.stop()


@pytest_asyncio.fixture(loop_scope="session")
async def server(session_server: LiveServer, transactional_db: None) -> AsyncIterator[LiveServer]:
    live_cache.last_known.clear()
    yield session_server
    session_server.gate.sockets_allowed = True


@pytest.fixture
def desk(transactional_db: None) -> Desk:
    return make_desk()


class Watched:
    """What a page complained about; anything that is not expected fails the test."""

    def __init__(self) -> None:
        self.complaints: list[str] = []
        self.expected: tuple[str, ...] = ()

    def watch(self, page: Page) -> None:
        page.on("pageerror", lambda error: self.complaints.append(f"error: {error}"))
        page.on("console", self._console)

    def _console(self, message: ConsoleMessage) -> None:
        if message.type in {"error", "warning"}:
            self.complaints.append(f"{message.type}: {message.text}")

    @property
    def unexpected(self) -> list[str]:
        return [said for said in self.complaints if not any(part in said for part in self.expected)]


@pytest.fixture
def watched() -> Watched:
    return Watched()


@pytest_asyncio.fixture(loop_scope="session")
async def open_page(browser: Browser, server: LiveServer, watched: Watched) -> AsyncIterator[OpenPage]:
    """Return a function that opens a page (the live one) as a user, signing in through the form, once it is ready."""
    contexts = []

    async def open_page(
        user: str | None = "alice",
        *,
        address: str = "/live/",
        ready: str = "#live:not([aria-busy])",
        before: Any = None,
        **options: Any,
    ) -> Page:
        context = await browser.new_context(**{"viewport": DESKTOP, **options})
        context.set_default_timeout(15_000)
        contexts.append(context)
        page = await context.new_page()
        watched.watch(page)
        if before is not None:
            await before(page)
        await page.goto(server.url + address)
        if user is not None:
            await page.fill("#id_username", user)
            await page.fill("#id_password", PASSWORD)
            await page.click("button[type=submit]")
            await page.wait_for_selector(ready)
        return page

    yield open_page
    for context in contexts:
        await context.close()
    assert watched.unexpected == []
