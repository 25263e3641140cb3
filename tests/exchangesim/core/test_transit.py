"""Order and bounds of what a socket is sent."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest
from aiohttp import WSMsgType, web
from aiohttp.test_utils import TestClient, TestServer

from exchangesim.core import transit as transit_module
from exchangesim.core.clock import Clock
from exchangesim.core.faults import FaultRegistry
from exchangesim.core.latency import Latency
from exchangesim.core.transit import Answer, Call, Lost, StreamConnection, Transit


def make_transit() -> Transit:
    return Transit("test", faults=FaultRegistry(), latency=Latency(), clock=Clock())


class Server:
    """A WebSocket server that hands its connection to the test."""

    def __init__(self, transit: Transit) -> None:
        self.transit = transit
        self.connected: asyncio.Future[StreamConnection] = asyncio.get_running_loop().create_future()
        self.received: list[str] = []
        app = web.Application()
        app.router.add_get("/", self._serve)
        self.client = TestClient(TestServer(app))

    async def _serve(self, request: web.Request) -> web.StreamResponse:
        socket = web.WebSocketResponse(compress=False)
        await socket.prepare(request)
        connection = StreamConnection(self.transit, socket, request)
        self.connected.set_result(connection)
        await connection.serve(self.received.append, ping_seconds=None)
        return socket

    async def __aenter__(self) -> Server:
        await self.client.start_server()
        return self

    async def __aexit__(self, *_: object) -> None:
        await self.client.close()


async def test_messages_keep_their_order_whatever_their_delays() -> None:
    transit = make_transit()
    async with Server(transit) as server, server.client.ws_connect("/") as socket:
        connection = await server.connected
        transit.latency.update(event_ms=40, market_ms=0)
        connection.send_event(b"1", operation="event")
        connection.send_market(b"2", operation="market", symbol="X")
        connection.send_answer(b"3")
        assert [await socket.receive_str() for _ in range(3)] == ["1", "2", "3"]


async def test_a_delayed_event_is_overtaken() -> None:
    transit = make_transit()
    transit.faults.add({"kind": "delay_event", "count": 1, "parameters": {"ms": 30}})
    async with Server(transit) as server, server.client.ws_connect("/") as socket:
        connection = await server.connected
        connection.send_event(b"late", operation="event")
        connection.send_event(b"early", operation="event")
        assert [await socket.receive_str() for _ in range(2)] == ["early", "late"]


async def test_calls_on_a_socket_do_not_wait_for_one_another() -> None:
    transit = make_transit()
    transit.faults.add({"kind": "delay_request", "operation": "slow", "parameters": {"ms": 50}})
    async with Server(transit) as server, server.client.ws_connect("/") as socket:
        connection = await server.connected
        connection.start_call(Call(operation="slow"), lambda: Answer(body=b"slow"))
        connection.start_call(Call(operation="fast"), lambda: Answer(body=b"fast"))
        assert [await socket.receive_str() for _ in range(2)] == ["fast", "slow"]


async def test_a_reader_that_falls_behind_is_cut_off(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(transit_module, "MAX_BACKLOG", 100)
    transit = make_transit()
    async with Server(transit) as server, server.client.ws_connect("/") as socket:
        connection = await server.connected
        for _ in range(101):
            connection.send_market(b"x" * 1000, operation="market", symbol="X")
        assert connection.closing
        async with asyncio.timeout(10):
            while (await socket.receive()).type is WSMsgType.TEXT:
                pass


@pytest.mark.parametrize(
    ("fault", "outcome"),
    [
        ({"kind": "drop_request"}, "lost, not handled"),
        ({"kind": "drop_response"}, "lost, handled"),
        ({"kind": "error", "parameters": {"status": 418, "body": "{}"}}, "418, not handled"),
        ({"kind": "error", "parameters": {"status": 418, "body": "{}", "apply": True}}, "418, handled"),
        ({"kind": "truncate_body", "parameters": {"bytes": 3}}, "200 abc, handled"),
        ({"kind": "truncate_body", "parameters": {"bytes": -1}}, "200 abcde, handled"),
        ({"kind": "replace_body", "parameters": {"body": "other"}}, "200 other, handled"),
        ({"kind": "delay_response", "parameters": {"ms": 1}}, "200 abcdef, handled"),
    ],
)
async def test_what_each_call_fault_does(fault: dict[str, Any], outcome: str) -> None:
    transit = make_transit()
    transit.faults.add(fault)
    handled = []

    def handle() -> Answer:
        handled.append(1)
        return Answer(body=b"abcdef")

    try:
        answer = await transit.carry(Call(operation="x"), handle)
        got = f"{answer.status}" if answer.body == b"{}" else f"{answer.status} {answer.body.decode()}"
    except Lost:
        got = "lost"
    assert f"{got}, {'handled' if handled else 'not handled'}" == outcome
