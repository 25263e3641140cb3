"""The order connection, our own and ccxt's: kept, renewed, lost and won back, and what becomes of orders meanwhile."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Sequence

import msgspec
import pytest
import pytest_asyncio
from aiohttp import web

from tests.exchanges.venue_rig import CCXT_WAYS, WAIT_SECONDS, Rig
from tests.exchangesim.simulator import Simulator, shared_simulator  # noqa: F401
from trading.clock import SystemClock
from trading.config import Credentials
from trading.exchanges.binance.orders import BinanceOrders
from trading.exchanges.generic.ccxt_line import Line as CcxtLine
from trading.exchanges.generic.ccxt_socket import CcxtSocket
from trading.exchanges.order_socket import FAILURES_ALLOWED, PREPARED_SECONDS, Line, OrderSocket
from trading.messages import OrdersBy, OrderState, Outcome, TimeInForce

SOCKET_WAYS = ("binance-websocket", "binance-ed25519", "okx-websocket", "bybit-websocket")


def on(*ways: str) -> pytest.MarkDecorator:
    """Go through these ways only."""
    return pytest.mark.parametrize("rig", ways, indirect=True)


@pytest_asyncio.fixture(params=(*SOCKET_WAYS, *CCXT_WAYS))
async def rig(request: pytest.FixtureRequest, shared_simulator: Simulator) -> AsyncIterator[Rig]:  # noqa: F811
    shared_simulator.clear_faults()
    rig = await Rig.of(shared_simulator, request.param)
    yield rig
    shared_simulator.clear_faults()
    await rig.close()


def current_line(rig: Rig) -> Line | CcxtLine:
    socket = rig.venue._orders._socket
    assert isinstance(socket, OrderSocket | CcxtSocket)
    line = socket._current if isinstance(socket, OrderSocket) else socket._line
    assert line is not None
    return line


def noted_writes(line: Line | CcxtLine) -> list[int]:
    """Return how many messages each write of a line of our own has, from now on."""
    assert isinstance(line, Line)
    seen: list[int] = []
    send = line.connection.send_now

    def noting(messages: Sequence[bytes]) -> bool:
        seen.append(len(messages))
        return send(messages)

    line.connection.send_now = noting  # type: ignore[method-assign]
    return seen


async def placed(rig: Rig) -> str:
    """Place an order that is taken; return the path it went."""
    result = await rig.venue.place(rig.intent(quantity="0.01"))
    assert result.outcome is Outcome.PLACED
    return result.path


async def test_orders_live_and_die_by_the_stream_without_a_question(rig: Rig) -> None:
    filled = rig.intent(quantity="0.01")
    resting = rig.intent(price="40000", time_in_force=TimeInForce.GTC)
    assert (await rig.venue.place(filled)).path == "websocket"
    assert (await rig.venue.place(resting)).path == "websocket"
    await rig.until(lambda: OrderState.FILLED in {event.state for event in rig.events(filled)})
    await rig.until(lambda: OrderState.PLACED in {event.state for event in rig.events(resting)})
    assert (await rig.venue.cancel(resting)).outcome is Outcome.PLACED
    await rig.until(lambda: OrderState.CANCELLED in {event.state for event in rig.events(resting)})
    counters = rig.venue.counters()
    assert (counters["orders_by_websocket"], counters["orders_by_rest"]) == (2, 0)
    assert counters["order_queries"] == 0


@on(*SOCKET_WAYS)
async def test_a_prepared_order_leaves_within_the_call(rig: Rig) -> None:
    writes = noted_writes(current_line(rig))
    intent = rig.intent(quantity="0.01")
    rig.venue.prepare(intent)
    assert writes == []
    answering = rig.venue.write(intent)
    assert writes == [1]
    assert answering is not None
    result = await answering
    assert (result.outcome, result.path) == (Outcome.PLACED, "websocket")
    assert rig.venue.write(intent) is None, "it is written once"
    counters = rig.venue.counters()
    assert (counters["orders_by_websocket"], counters["orders_by_rest"]) == (1, 0)


@on(*SOCKET_WAYS)
async def test_prepared_legs_leave_together(rig: Rig) -> None:
    writes = noted_writes(current_line(rig))
    intents = [rig.intent(quantity="0.01"), rig.intent(quantity="0.02")]
    for intent in intents:
        assert rig.venue.reserve_order(intent.client_order_id) == 0.0
        rig.venue.prepare(intent)
    answering = [rig.venue.write(intent) for intent in intents]
    assert writes == [2]
    assert [(await one).outcome for one in answering if one is not None] == [Outcome.PLACED] * 2


@on(*SOCKET_WAYS)
async def test_only_what_was_prepared_for_this_order_and_moment_is_written(rig: Rig) -> None:
    socket, line = rig.venue._orders._socket, current_line(rig)
    assert isinstance(socket, OrderSocket)
    writes = noted_writes(line)
    intent = rig.intent(quantity="0.01")
    assert rig.venue.write(intent) is None, "nothing was prepared"
    rig.venue.prepare(intent)
    changed = msgspec.structs.replace(intent, quantity=intent.quantity * 2)
    assert rig.venue.write(changed) is None, "another order was, under the same id"
    (ready,) = socket._prepared.values()
    late = ready.at_ns - int(PREPARED_SECONDS * 1e9) - 1
    socket._prepared[intent.client_order_id] = msgspec.structs.replace(ready, at_ns=late)
    assert rig.venue.write(intent) is None, "its time is of too long ago"
    assert writes == []
    first = socket._number
    assert (await rig.venue.place(intent)).outcome is Outcome.PLACED
    assert socket._number == first + 1, "built anew"

    further = rig.intent(quantity="0.01")
    rig.venue.prepare(further)
    line.ready = False
    assert rig.venue.write(further) is None, "nothing takes it now"
    assert (await rig.venue.place(further)).path == "rest"
    line.ready = True


async def test_a_lost_connection_sends_orders_by_rest_until_it_is_back(rig: Rig) -> None:
    assert await placed(rig) == "websocket"
    rig.simulator.disturb(rig.name, "cut", rig.keys.api_key)
    await rig.until(lambda: rig.paths[-1:] == [OrdersBy.RECONNECTING])
    assert await placed(rig) == "rest"
    await rig.until(lambda: rig.paths[-1:] == [OrdersBy.WEBSOCKET])
    assert await placed(rig) == "websocket"
    counters = rig.venue.counters()
    assert (counters["order_fallbacks"], counters["order_reconnects"]) == (1, 1)


async def test_an_order_under_way_when_the_connection_is_lost_is_not_sent_again(rig: Rig) -> None:
    rig.fault_on_order("delay_request", ms=5000)
    intent = rig.intent(quantity="0.01")
    placing = asyncio.ensure_future(rig.venue.place(intent))
    await SystemClock().sleep(0.2)
    rig.simulator.disturb(rig.name, "cut", rig.keys.api_key)
    result = await asyncio.wait_for(placing, WAIT_SECONDS)
    assert (result.outcome, result.code, result.path) == (Outcome.UNKNOWN, "NO_ANSWER", "websocket")
    assert rig.venue.counters()["orders_by_rest"] == 0


@on("binance-websocket", "binance-ed25519", "okx-websocket")  # Bybit gives no notice but in an answer
async def test_a_notice_brings_a_second_connection_before_the_first_ends(rig: Rig) -> None:
    socket = rig.venue._orders._socket
    assert isinstance(socket, OrderSocket)
    rig.simulator.disturb(rig.name, "notice")
    async with asyncio.timeout(WAIT_SECONDS):
        while not rig.venue.counters()["order_renewals"] or len(socket._lines) > 1:
            assert await placed(rig) == "websocket"
            await SystemClock().sleep(0.2)
    assert await placed(rig) == "websocket"
    assert rig.paths.count(OrdersBy.RECONNECTING) == 0


@on("okx-ccxt")  # ccxt takes the notice for an error of everything that is awaited
async def test_a_notice_to_ccxt_ends_its_connection_and_no_order_is_lost(rig: Rig) -> None:
    rig.fault_on_order("delay_response", ms=500)
    under_way = asyncio.ensure_future(rig.venue.place(rig.intent(quantity="0.01")))
    await SystemClock().sleep(0.1)
    rig.simulator.disturb(rig.name, "notice")
    await rig.until(lambda: OrdersBy.RECONNECTING in rig.paths)
    answered = await under_way
    assert (answered.outcome, answered.path) == (Outcome.PLACED, "websocket")
    await rig.until(lambda: rig.paths[-1:] == [OrdersBy.WEBSOCKET])
    assert await placed(rig) == "websocket"


@on("binance-websocket", "binance-ed25519")  # the others don't say for how long they keep a connection
async def test_a_connection_is_renewed_before_it_is_too_old(rig: Rig) -> None:
    socket = rig.venue._orders._socket
    assert isinstance(socket, OrderSocket)
    assert socket._wire.lives_seconds == 86_400
    first = socket._current
    assert first is not None
    first.opened_ns -= int(85_000 * 1e9)
    async with asyncio.timeout(WAIT_SECONDS):
        while socket._current is first or len(socket._lines) > 1:
            await SystemClock().sleep(0.05)
    assert await placed(rig) == "websocket"
    assert rig.paths.count(OrdersBy.RECONNECTING) == 0


async def test_a_cancelled_placement_has_left_and_is_not_sent_again(rig: Rig) -> None:
    rig.fault_on_order("delay_response", ms=300)
    intent = rig.intent(quantity="0.01")
    placing = asyncio.ensure_future(rig.venue.place(intent))
    await SystemClock().sleep(0.1)
    placing.cancel()
    await asyncio.gather(placing, return_exceptions=True)
    assert placing.cancelled()
    await rig.until(lambda: OrderState.FILLED in {event.state for event in rig.events(intent)})
    assert len(rig.orders_at_exchange(intent)) == 1
    async with asyncio.timeout(WAIT_SECONDS):  # its answer comes, and nobody waits for it
        while rig.venue.counters()["order_strays"] == 0:
            await SystemClock().sleep(0.05)


# Elsewhere each request is signed, or a logon is good for longer than the clock is off here.
@on("okx-websocket", "okx-ccxt")
async def test_a_logon_refused_for_our_clock_has_the_clock_measured(rig: Rig) -> None:
    rig.simulator.fault("clock_shift", exchange=rig.name, parameters={"ms": 120_000})
    rig.simulator.disturb(rig.name, "cut", rig.keys.api_key)
    await rig.until(lambda: rig.paths[-1:] == [OrdersBy.RECONNECTING])
    await rig.until(lambda: rig.paths[-1:] == [OrdersBy.WEBSOCKET])
    assert abs(rig.venue.offset_ms - 120_000) < 1_000


@on(*SOCKET_WAYS)
async def test_two_legs_leave_in_one_go(rig: Rig) -> None:
    """Both are written at once: nothing runs between the two, nor do they leave as two packets."""
    seen = noted_writes(current_line(rig))
    first, second = rig.intent(quantity="0.01"), rig.intent("sell", quantity="0.01", price="49990")
    for intent in (first, second):  # a trade has the budget of all its legs before one leaves
        assert rig.venue.reserve_order(intent.client_order_id) == 0
    results = await asyncio.gather(rig.venue.place(first), rig.venue.place(second))
    assert seen == [2]
    assert {result.outcome for result in results} == {Outcome.PLACED}


@on(*SOCKET_WAYS)
async def test_an_order_alone_is_written_in_the_call(rig: Rig) -> None:
    seen = noted_writes(current_line(rig))
    placing = asyncio.ensure_future(rig.venue.place(rig.intent(quantity="0.01")))
    at_the_turn: list[int] = []
    asyncio.get_running_loop().call_soon(lambda: at_the_turn.extend(seen))
    assert (await placing).outcome is Outcome.PLACED
    assert at_the_turn == [1]


@on(*SOCKET_WAYS)
async def test_a_leg_whose_other_one_stays_behind_leaves_when_the_turn_ends(rig: Rig) -> None:
    seen = noted_writes(current_line(rig))
    leg, other = rig.intent(quantity="0.01"), rig.intent("sell", quantity="0.01", price="49990")
    for intent in (leg, other):
        assert rig.venue.reserve_order(intent.client_order_id) == 0
    assert (await rig.venue.place(leg)).outcome is Outcome.PLACED
    assert seen == [1]


@on(*SOCKET_WAYS)
async def test_an_order_whose_write_breaks_may_have_left(rig: Rig) -> None:
    line = current_line(rig)
    assert isinstance(line, Line)

    def breaking(messages: Sequence[bytes]) -> bool:
        raise BufferError("the test breaks it")

    line.connection.send_now = breaking  # type: ignore[method-assign]
    intent = rig.intent(quantity="0.01")
    result = await rig.venue.place(intent)
    assert (result.outcome, result.code, result.path) == (Outcome.UNKNOWN, "NO_ANSWER", "websocket")
    assert rig.venue.counters()["orders_by_rest"] == 0
    await rig.until(lambda: rig.paths[-1:] == [OrdersBy.RECONNECTING])


async def test_an_order_that_was_not_written_yet_goes_by_rest(rig: Rig) -> None:
    """The connection is lost between the call and the write: not one byte of the order left."""
    line = current_line(rig)
    cut = line._on_down if isinstance(line, Line) else line.lose
    intent = rig.intent(quantity="0.01")
    assert rig.venue.reserve_order("another") == 0  # so that it waits for another one
    placing = asyncio.ensure_future(rig.venue.place(intent))
    asyncio.get_running_loop().call_soon(cut, "the test cuts it")
    result = await placing
    assert (result.outcome, result.path) == (Outcome.PLACED, "rest")
    assert len(rig.orders_at_exchange(intent)) == 1
    assert rig.venue.counters()["orders_by_websocket"] == 0


async def test_after_failures_in_a_row_it_says_rest_and_comes_back() -> None:
    """An exchange that can't be reached for a while."""

    async def serve(request: web.Request) -> web.WebSocketResponse:
        socket = web.WebSocketResponse()
        await socket.prepare(request)
        async for _ in socket:
            pass
        return socket

    app = web.Application()
    app.router.add_get("/{path:.*}", serve)
    runner = web.AppRunner(app, shutdown_timeout=0.1)
    await runner.setup()
    site = web.TCPSite(runner, "127.0.0.1", 0)
    await site.start()
    port = runner.addresses[0][1]
    await site.stop()
    wire = BinanceOrders(f"ws://127.0.0.1:{port}/ws-api/v3", Credentials(api_key="k", secret="s"), lambda: 0)
    wire.settings = msgspec.structs.replace(wire.settings, first_backoff=0.02, max_backoff=0.05)
    told: list[tuple[OrdersBy, str]] = []
    news = asyncio.Event()

    def on_path(by: OrdersBy, reason: str) -> None:
        told.append((by, reason))
        news.set()

    socket = OrderSocket(
        "orders",
        wire,
        SystemClock(),
        timeout_seconds=5,
        jitter=lambda: 0.5,
        on_path=on_path,
        on_open=lambda: None,
        on_refused=lambda: None,
    )
    running = asyncio.ensure_future(socket.run())
    try:
        async with asyncio.timeout(WAIT_SECONDS):
            while not any(by is OrdersBy.REST for by, _ in told):
                news.clear()
                await news.wait()
        assert [by for by, _ in told] == [OrdersBy.RECONNECTING] * (FAILURES_ALLOWED - 1) + [OrdersBy.REST]
        assert "failed in a row" in told[-1][1]
        assert not socket.is_ready
        await web.TCPSite(runner, "127.0.0.1", port).start()
        async with asyncio.timeout(WAIT_SECONDS):
            while told[-1][0] is not OrdersBy.WEBSOCKET:
                news.clear()
                await news.wait()
        assert socket.is_ready
    finally:
        running.cancel()
        await asyncio.gather(running, return_exceptions=True)
        await runner.cleanup()
