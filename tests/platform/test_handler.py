"""A request's middleware and view are one visit to one thread, which is kept for the requests after it."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Callable
from typing import Any

import pytest
from django.http import HttpRequest, HttpResponse
from django.urls import path

from arbplatform.handler import OneVisitHandler

pytestmark = pytest.mark.asyncio

seen: list[str] = []
together = threading.Barrier(3)


def note(get_response: Callable[[HttpRequest], HttpResponse]) -> Callable[[HttpRequest], HttpResponse]:
    def middleware(request: HttpRequest) -> HttpResponse:
        seen.append(threading.current_thread().name)
        return get_response(request)

    return middleware


def plain(request: HttpRequest) -> HttpResponse:
    seen.append(threading.current_thread().name)
    return HttpResponse("plain")


def met(request: HttpRequest) -> HttpResponse:
    together.wait(60)
    return HttpResponse("met")


async def waiting(request: HttpRequest) -> HttpResponse:
    await asyncio.sleep(0)
    return HttpResponse("waiting")


urlpatterns = [path("", plain), path("met", met), path("waiting", waiting)]


@pytest.fixture
def handler(settings: Any) -> OneVisitHandler:
    seen.clear()
    settings.ROOT_URLCONF = __name__
    settings.MIDDLEWARE = [f"{__name__}.note"] * 2
    return OneVisitHandler()


async def answer(handler: OneVisitHandler, where: str = "/") -> bytes:
    sent: list[dict[str, Any]] = []
    coming = [{"type": "http.request", "body": b"", "more_body": False}]

    async def receive() -> dict[str, Any]:
        if coming:
            return coming.pop()
        await asyncio.get_running_loop().create_future()
        raise AssertionError

    async def send(message: dict[str, Any]) -> None:
        sent.append(message)

    scope = {
        "type": "http", "http_version": "1.1", "method": "GET", "path": where, "query_string": b"", "headers": [],
        "scheme": "http", "server": ("127.0.0.1", 80), "client": ("127.0.0.1", 1), "root_path": "",
    }  # fmt: skip
    await handler(scope, receive, send)
    assert sent[0]["status"] == 200
    body = sent[1]["body"]
    assert isinstance(body, bytes)
    return body


async def test_middleware_and_view_are_on_one_thread_and_the_next_request_too(handler: OneVisitHandler) -> None:
    assert await answer(handler) == b"plain"
    assert await answer(handler) == b"plain"
    assert len(seen) == 6
    assert len(set(seen)) == 1


async def test_requests_at_one_moment_do_not_wait_for_each_other(handler: OneVisitHandler) -> None:
    assert await asyncio.gather(*(answer(handler, "/met") for _ in range(3))) == [b"met"] * 3


async def test_a_view_that_is_asynchronous_is_answered_too(handler: OneVisitHandler) -> None:
    assert await answer(handler, "/waiting") == b"waiting"


async def test_anything_but_http_is_refused(handler: OneVisitHandler) -> None:
    with pytest.raises(ValueError, match="HTTP only"):
        await handler({"type": "websocket"}, answer, answer)
