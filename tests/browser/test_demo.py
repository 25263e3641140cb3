"""The whole platform as a newcomer starts it: `./arb demo`, and a trade that appears by itself."""

from __future__ import annotations

import json
import os
import queue
import re
import signal
import subprocess
import threading
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
from playwright.async_api import Browser, expect

from tests.browser.conftest import DESKTOP, Watched
from tests.browser.test_live_page import says, tile

REPOSITORY = Path(__file__).parents[2]
PICTURE = REPOSITORY / "docs" / "live.png"
UPDATE_PICTURE = os.environ.get("ARB_UPDATE_PICTURE") == "1"
START_SECONDS = 60
RUN_SECONDS = 150  # it stops by itself, whatever becomes of the test

pytestmark = [pytest.mark.browser, pytest.mark.timeout(300), pytest.mark.asyncio(loop_scope="session")]


class Demo:
    """`./arb demo` as a process of its own, with a database of its own."""

    def __init__(self, state: Path) -> None:
        environment = {**os.environ, "ARB_STATE_DIR": str(state), "ARB_DOTENV": ""}
        for name in ("DJANGO_SETTINGS_MODULE", "DATABASE_URL", "REDIS_URL", "CELERY_BROKER_URL"):
            environment.pop(name, None)  # those of the test run
        self._process = subprocess.Popen(
            [str(REPOSITORY / "arb"), "demo", "--port", "0", "--seconds", str(RUN_SECONDS), "--json"],
            cwd=REPOSITORY,
            env=environment,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )
        self.said: list[str] = []
        self._lines: queue.Queue[str | None] = queue.Queue()
        threading.Thread(target=self._read, daemon=True).start()
        self.url = self._wait_for(r"Live page\s+(http://\S+)/live/")
        self.password = self._wait_for(r"Sign in as anna\s+password (\S+)")

    def _read(self) -> None:
        assert self._process.stderr is not None
        for line in self._process.stderr:
            self._lines.put(line)
        self._lines.put(None)

    def _wait_for(self, pattern: str) -> str:
        deadline = time.monotonic() + START_SECONDS
        while True:
            line = self._lines.get(timeout=max(0.0, deadline - time.monotonic()))
            assert line is not None, "the demo ended:\n" + "".join(self.said)
            self.said.append(line)
            if found := re.search(pattern, line):
                return found.group(1)

    def stop(self) -> tuple[int, dict]:
        """Press Ctrl-C and return the exit code and the object printed last."""
        self._process.send_signal(signal.SIGINT)
        assert self._process.stdout is not None
        output = self._process.stdout.read()
        return self._process.wait(30), json.loads(output.splitlines()[-1])

    def end(self) -> None:
        if self._process.poll() is None:
            self._process.terminate()
            try:
                self._process.wait(20)
            except subprocess.TimeoutExpired:
                self._process.kill()


@pytest.fixture
def demo(chromium: str, tmp_path: Path) -> Iterator[Demo]:
    demo = Demo(tmp_path)
    yield demo
    demo.end()


async def test_a_newcomer_watches_a_trade_appear(demo: Demo, browser: Browser, watched: Watched) -> None:
    context = await browser.new_context(viewport=DESKTOP)
    page = await context.new_page()
    watched.watch(page)
    await page.goto(demo.url)
    await page.fill("#id_username", "anna")
    await page.fill("#id_password", demo.password)
    await page.click("button[type=submit]")
    await page.wait_for_selector("#live:not([aria-busy])")
    await says(page, "good", "Live", "3 feeds")

    shown = int(await tile(page, "Trades today").locator(".value").inner_text())
    newest = await page.locator(".trade .t-time").first.inner_text(timeout=60_000)
    await page.wait_for_function(
        "(shown) => Number(document.querySelector('.tile:nth-last-child(4) .value').textContent) > shown", arg=shown
    )
    await expect(page.locator(".trade .t-time").first).not_to_have_text(newest, timeout=30_000)
    legs = page.locator(".trade[data-state=closed]").first.locator(".legs tbody tr")
    await expect(legs.first).to_contain_text("filled")
    await expect(page.locator(".pair .badge", has_text="live").first).to_be_visible()
    await expect(page.locator("[data-chart] canvas")).to_have_count(1)
    if UPDATE_PICTURE:
        await page.wait_for_timeout(25_000)  # a line worth a picture
        await page.screenshot(path=str(PICTURE))
    await context.close()
    assert watched.complaints == []

    code, result = demo.stop()
    assert code == 0, "".join(demo.said)
    assert result["trades"] > shown
    assert result["unresolved_orders"] == 0
