"""What the page says and does when its connection is cut, comes back, falls silent or loses a frame."""

from __future__ import annotations

import asyncio
import json

import pytest
from channels.db import database_sync_to_async
from django.contrib.sessions.models import Session
from playwright.async_api import Page, WebSocketRoute, expect

from bots.consumers import LiveConsumer
from tests.browser.conftest import OpenPage, Watched
from tests.browser.server import LiveServer
from tests.browser.test_live_page import says
from tests.live.desk import Desk
from tests.live.items import publish, quote, trade

pytestmark = [
    pytest.mark.browser,
    pytest.mark.django_db(transaction=True),
    pytest.mark.asyncio(loop_scope="session"),
]

# What Chromium itself writes to the console about a server that is not there.
CUT = ("WebSocket connection to", "Failed to load resource")


async def test_without_a_socket_the_page_polls_and_says_so_until_it_is_back(
    desk: Desk, open_page: OpenPage, server: LiveServer, watched: Watched
) -> None:
    watched.expected = CUT
    page = await open_page()
    await says(page, "good", "Live", "")
    server.gate.sockets_allowed = False
    server.gate.cut_sockets()
    await says(page, "warn", "Degraded", "the live socket is cut: polling every 2 s")
    await database_sync_to_async(desk.trade)(profit="0.25")
    await expect(page.locator(".trade")).to_have_count(1)  # polled
    server.gate.sockets_allowed = True
    await says(page, "good", "Live", "")
    await publish(trade("after"), owner=desk.user.pk)
    await expect(page.locator(".trade")).to_have_count(2)  # pushed


async def test_without_a_server_the_page_is_red_and_recovers_with_a_snapshot(
    desk: Desk, open_page: OpenPage, server: LiveServer, watched: Watched
) -> None:
    watched.expected = CUT
    page = await open_page()
    await publish(quote())
    await expect(page.locator(".pair tbody tr")).to_have_count(1)
    await server.stop()
    await says(page, "bad", "Disconnected", "the server does not answer; last figures")
    await expect(page.locator("#announcer")).to_contain_text("Disconnected")
    assert await page.locator("#live[data-cut-off]").count() == 1
    await expect(page.locator(".pair tbody tr")).to_have_count(1)  # the last figures stay, greyed
    await database_sync_to_async(desk.trade)(profit="0.25")  # what happens meanwhile
    await server.start()
    await says(page, "good", "Live", "")
    await expect(page.locator(".trade")).to_have_count(1)
    assert await page.locator("#live[data-cut-off]").count() == 0


async def test_a_gap_in_the_numbers_is_healed_by_a_snapshot(desk: Desk, open_page: OpenPage) -> None:
    asked: list[str] = []
    lost = asyncio.Event()

    async def lossy(page: Page) -> None:
        async def route(socket: WebSocketRoute) -> None:
            upstream = socket.connect_to_server()

            def down(text: str | bytes) -> None:
                frame = json.loads(text)
                if frame["type"] == "update" and not lost.is_set():
                    lost.set()
                else:
                    socket.send(text)

            def up(text: str | bytes) -> None:
                asked.append(str(text))
                upstream.send(text)

            upstream.on_message(down)
            socket.on_message(up)

        await page.route_web_socket("**/ws/live/**", route)

    page = await open_page(before=lossy)
    await database_sync_to_async(desk.trade)(profit="0.25")
    await publish(trade("lost"), owner=desk.user.pk)
    await asyncio.wait_for(lost.wait(), 10)
    await publish(quote())
    await expect(page.locator(".trade")).to_have_count(1)  # the stored one: the snapshot has come
    assert [json.loads(text) for text in asked] == [{"type": "snapshot"}]


async def test_a_server_that_falls_silent_is_left(desk: Desk, open_page: OpenPage, watched: Watched) -> None:
    watched.expected = CUT
    silent: list[bool] = []

    async def mute(page: Page) -> None:
        async def route(socket: WebSocketRoute) -> None:
            upstream = socket.connect_to_server()
            upstream.on_message(lambda text: None if silent else socket.send(text))

        await page.route_web_socket("**/ws/live/**", route)

    page = await open_page(before=mute)
    await says(page, "good", "Live", "")
    silent.append(True)
    await says(page, "warn", "Degraded", "the server fell silent")
    silent.clear()
    await says(page, "good", "Live", "")


async def test_a_session_that_ends_elsewhere_ends_here(
    desk: Desk, open_page: OpenPage, watched: Watched, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(LiveConsumer, "session_check_seconds", 0.1)
    page = await open_page()
    await database_sync_to_async(Session.objects.all().delete)()
    await says(page, "bad", "Signed out", "sign in again")
    link = page.locator("#sign-in-again")
    await expect(link).to_be_visible()
    await link.click()
    await page.wait_for_url("**/sign-in/?next=/live/**")


async def test_when_polling_meets_an_ended_session_the_page_stops(
    desk: Desk, open_page: OpenPage, server: LiveServer, watched: Watched
) -> None:
    watched.expected = CUT
    page = await open_page()
    server.gate.sockets_allowed = False
    await database_sync_to_async(Session.objects.all().delete)()
    server.gate.cut_sockets()
    await says(page, "bad", "Signed out", "sign in again")
