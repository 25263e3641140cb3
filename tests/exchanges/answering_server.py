"""An exchange of a few answers: an HTTP server that says what it was told to, and keeps what it was asked."""

from __future__ import annotations

import json
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from typing import Any
from urllib.parse import parse_qsl

from aiohttp import web


class Asked:
    """One request: its parameters from query or body, whichever form that has."""

    def __init__(self, method: str, path: str, parameters: Mapping[str, Any], headers: Mapping[str, str]) -> None:
        self.method = method
        self.path = path
        self.parameters = parameters
        self.headers = headers

    @property
    def operation(self) -> str:
        return f"{self.method} {self.path}"


class AnsweringServer:
    """``answers`` maps "METHOD /path" to what is said: a value that is sent as JSON or text, or (status, value)."""

    def __init__(self) -> None:
        self.answers: dict[str, Any] = {}
        self.asked: list[Asked] = []
        self.url = ""

    def of(self, operation: str) -> list[Asked]:
        return [asked for asked in self.asked if asked.operation == operation]

    async def _answer(self, request: web.Request) -> web.Response:
        text = await request.text()
        parameters: dict[str, Any] = dict(request.query)
        if text.startswith("{"):
            parameters.update(json.loads(text))
        elif text:
            parameters.update(parse_qsl(text))
        asked = Asked(request.method, request.path, parameters, dict(request.headers))
        self.asked.append(asked)
        answer = self.answers.get(asked.operation, (404, {"unexpected": asked.operation}))
        status, value = answer if isinstance(answer, tuple) else (200, answer)
        body = value if isinstance(value, str) else json.dumps(value)
        return web.Response(status=status, text=body, content_type="application/json")


@asynccontextmanager
async def answering_server() -> AsyncIterator[AnsweringServer]:
    server = AnsweringServer()
    application = web.Application()
    application.router.add_route("*", "/{path:.*}", server._answer)
    runner = web.AppRunner(application)
    await runner.setup()
    try:
        site = web.TCPSite(runner, "127.0.0.1", 0)
        await site.start()
        server.url = f"http://127.0.0.1:{runner.addresses[0][1]}"
        yield server
    finally:
        await runner.cleanup()
