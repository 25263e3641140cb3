"""The REST API's transport: from an HTTP request to a call and back."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from urllib.parse import parse_qsl

import msgspec
from aiohttp import web

from exchangesim.binance.errors import ApiError
from exchangesim.binance.operations import CallTable, Operation, Request
from exchangesim.core.transit import Answer, Call, Transit

KEY_HEADER = "X-MBX-APIKEY"


class Rest:
    """Routes of the REST API."""

    def __init__(self, calls: CallTable, transit: Transit) -> None:
        self._calls, self._transit = calls, transit

    def add_routes(self, app: web.Application) -> None:
        for operation in self._calls.operations:
            if operation.rest:
                method, path = operation.rest.split(" ")
                app.router.add_route(method, path, self._handler(operation))

    def _handler(self, operation: Operation) -> Callable[[web.Request], Awaitable[web.StreamResponse]]:
        async def handle(http: web.Request) -> web.StreamResponse:
            request = await _read(http)
            call = Call(
                operation=operation.rest,
                symbol=request.given.get("symbol", ""),
                api_key=request.api_key or "",
                refuse=lambda reason, seconds: self._refused(
                    self._calls.asked_for(reason, seconds, self._transit.clock.time_ms()), request
                ),
            )
            return await self._transit.serve_http(http, call, lambda: self._answer(operation, request))

        return handle

    def _answer(self, operation: Operation, request: Request) -> Answer:
        try:
            value, account = self._calls.carry_out(operation, request)
            body, status = msgspec.json.encode(value), 200
            counted = account.api_key if account is not None and operation.order else None
        except ApiError as error:
            return self._refused(error, request)
        return _answer(body, status, self._calls.limits.headers(request.address, counted))

    def _refused(self, error: ApiError, request: Request) -> Answer:
        headers = self._calls.limits.headers(request.address)
        if error.retry_after:
            headers["Retry-After"] = str(error.retry_after)
        return _answer(msgspec.json.encode(error.body()), error.status, headers)


def _answer(body: bytes, status: int, headers: dict[str, str]) -> Answer:
    return Answer(body=body, status=status, headers=headers, content_type="application/json;charset=UTF-8")


async def _read(http: web.Request) -> Request:
    """Gather parameters from query and form body; what is signed is both as they were sent, without the signature."""
    query = http.raw_path.partition("?")[2]
    body = (await http.read()).decode(errors="replace") if http.can_read_body else ""
    pairs = [*parse_qsl(query, keep_blank_values=True), *parse_qsl(body, keep_blank_values=True)]
    given = dict(pairs)
    return Request(
        address=http.remote or "",
        given=given,
        api_key=http.headers.get(KEY_HEADER),
        payload=_unsigned(query) + _unsigned(body),
        signature=given.get("signature"),
    )


def _unsigned(text: str) -> str:
    return "&".join(part for part in text.split("&") if not part.startswith("signature="))
