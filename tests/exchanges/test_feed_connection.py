"""The WebSocket connection over real sockets, and its pacing on a hand-moved clock."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import asynccontextmanager
from typing import Any

import pytest
from picows import WSCloseCode, WSFrame, WSListener, WSMsgType, WSTransport, ws_create_server

from tests.exchanges.feed_servers import until
from trading.clock import SystemClock
from trading.exchanges.connection import (
    UNKNOWN_TIMEOUTS,
    Connection,
    ConnectionSettings,
    Pacer,
    allowed_silence,
    spread,
)
from trading.exchanges.snapshots import WeightBudget

FAST = ConnectionSettings(
    silence_timeout=0.4, first_backoff=0.01, max_backoff=0.04, connect_timeout=1.0, sends_per_second=1_000.0
)


class Session(WSListener):
    """One accepted connection of the test's server."""

    def __init__(self, server: Server) -> None:
        self.server = server
        self.received: list[bytes] = []
        self.pings = 0
        self.closed_with: WSCloseCode | None = None
        self.transport: WSTransport | None = None

    def on_ws_connected(self, transport: WSTransport) -> None:
        self.transport = transport
        self.server.sessions.append(self)
        self.server.on_connected(transport)

    def on_ws_frame(self, transport: WSTransport, frame: WSFrame) -> None:
        if frame.msg_type == WSMsgType.CLOSE:
            self.closed_with = frame.get_close_code()
            transport.disconnect()
        elif frame.msg_type == WSMsgType.PING:
            self.pings += 1
            if self.server.answers_pings:
                transport.send_pong(frame.get_payload_as_bytes())
        else:
            self.received.append(frame.get_payload_as_bytes())
            if self.received[-1] == b"ping" and self.server.answers_pings:
                self.send(b"pong")

    def send(self, data: bytes, **options: Any) -> None:
        assert self.transport is not None
        self.transport.send(WSMsgType.TEXT, data, **options)


class Server:
    def __init__(self) -> None:
        self.sessions: list[Session] = []
        self.answers_pings = True
        self.on_connected: Callable[[WSTransport], None] = lambda transport: None
        self.url = ""

    @property
    def last(self) -> Session:
        return self.sessions[-1]


@asynccontextmanager
async def serving() -> AsyncIterator[Server]:
    server = Server()
    listening = await ws_create_server(lambda request: Session(server), "127.0.0.1", 0, enable_auto_pong=False)
    server.url = f"ws://127.0.0.1:{listening.sockets[0].getsockname()[1]}/stream"
    try:
        yield server
    finally:
        for session in server.sessions:
            if session.transport is not None:
                session.transport.disconnect(graceful=False)
        listening.close()


class Client:
    """A connection, what it received and why it went down."""

    def __init__(self, url: str, settings: ConnectionSettings = FAST, **options: Any) -> None:
        self.messages: list[bytes] = []
        self.reasons: list[str] = []
        self.first = [b"subscribe"]
        self.connection = Connection(
            "test",
            url,
            clock=SystemClock(),
            settings=settings,
            on_message=options.pop("on_message", lambda data, received_ns: self.messages.append(data)),
            on_open=lambda: list(self.first),
            on_down=self.reasons.append,
            **options,
        )

    @asynccontextmanager
    async def running(self) -> AsyncIterator[Connection]:
        task = asyncio.ensure_future(self.connection.run())
        try:
            yield self.connection
        finally:
            task.cancel()
            with pytest.raises(asyncio.CancelledError):
                await task


async def test_messages_arrive_with_their_wall_time() -> None:
    seen: list[tuple[bytes, int]] = []
    async with serving() as server:
        client = Client(server.url, on_message=lambda data, received_ns: seen.append((data, received_ns)))
        async with client.running():
            await until(lambda: server.sessions)
            before = SystemClock().time_ns()
            server.last.send(b"hello")
            await until(lambda: seen)
            assert seen[0][0] == b"hello"
            assert before <= seen[0][1] <= SystemClock().time_ns()


async def test_subscriptions_are_sent_again_after_a_reconnect() -> None:
    async with serving() as server:
        client = Client(server.url)
        async with client.running() as connection:
            for turn in range(1, 4):
                await until(lambda turn=turn: len(server.sessions) == turn and server.last.received == [b"subscribe"])
                assert server.last.transport is not None
                server.last.transport.disconnect(graceful=False)
            await until(lambda: connection.connects == 4)
            assert len(client.reasons) == 3


async def test_a_close_frame_is_told_with_its_code_and_reason() -> None:
    async with serving() as server:
        client = Client(server.url)
        async with client.running():
            await until(lambda: server.sessions)
            assert server.last.transport is not None
            server.last.transport.send_close(WSCloseCode.SERVICE_RESTART, b"maintenance")
            await until(lambda: client.reasons)
            assert "1012" in client.reasons[0]
            assert "maintenance" in client.reasons[0]


async def test_a_message_in_several_frames_is_put_together() -> None:
    async with serving() as server:
        client = Client(server.url)
        async with client.running():
            await until(lambda: server.sessions)
            transport = server.last.transport
            assert transport is not None
            transport.send(WSMsgType.TEXT, b"one ", fin=False)
            transport.send(WSMsgType.CONTINUATION, b"two ", fin=False)
            transport.send_ping(b"between")
            transport.send(WSMsgType.CONTINUATION, b"three", fin=True)
            server.last.send(b"next")
            await until(lambda: len(client.messages) == 2)
            assert client.messages == [b"one two three", b"next"]


@pytest.mark.parametrize("frames", [1, 5])
async def test_a_message_above_the_limit_ends_the_connection(frames: int) -> None:
    async with serving() as server:
        client = Client(server.url, ConnectionSettings(max_message_bytes=10_000, first_backoff=0.01, max_backoff=0.02))
        async with client.running() as connection:
            await until(lambda: server.sessions)
            transport = server.last.transport
            assert transport is not None
            part = b"x" * (12_000 // frames)
            transport.send(WSMsgType.TEXT, part, fin=frames == 1)
            for number in range(2, frames + 1):
                transport.send(WSMsgType.CONTINUATION, part, fin=number == frames)
            await until(lambda: client.reasons)
            assert client.messages == []
            await until(lambda: connection.connects == 2)


async def test_a_message_above_the_limit_ends_the_connection_also_when_it_comes_with_the_handshake() -> None:
    def greet(transport: WSTransport) -> None:
        transport.send(WSMsgType.TEXT, b"x" * 6_000, fin=False)
        transport.send(WSMsgType.CONTINUATION, b"x" * 6_000, fin=True)

    async with serving() as server:
        server.on_connected = greet
        client = Client(server.url, ConnectionSettings(max_message_bytes=10_000, first_backoff=0.01, max_backoff=0.02))
        async with client.running():
            await until(lambda: client.reasons, seconds=3)
            assert "longer than 10000 bytes" in client.reasons[0]
            assert client.messages == []


async def test_a_peer_that_says_nothing_at_all_is_left() -> None:
    async with serving() as server:
        server.answers_pings = False
        client = Client(server.url)
        async with client.running() as connection:
            await until(lambda: client.reasons)
            assert "nothing received for" in client.reasons[0]
            assert server.sessions[0].pings >= 1
            assert connection.silences == 1


async def test_a_quiet_peer_that_answers_pings_is_kept() -> None:
    async with serving() as server:
        client = Client(server.url)
        async with client.running() as connection:
            await until(lambda: server.sessions and server.last.pings >= 4)
            assert connection.silences == 0
            assert connection.connects == 1


async def test_the_exchanges_own_ping_is_used_and_its_answer_is_no_data() -> None:
    settings = ConnectionSettings(silence_timeout=0.4, ping=b"ping", first_backoff=0.01, max_backoff=0.02)
    async with serving() as server:
        client = Client(server.url, settings)
        async with client.running() as connection:
            await until(lambda: server.sessions and server.last.received.count(b"ping") >= 4)
            assert server.last.pings == 0
            assert connection.silences == 0
            # After data the answers to pings alone do not keep it alive.
            for _ in range(200):
                server.last.send(b"data")
            await until(lambda: client.reasons)
            assert "no data" in client.reasons[0]


async def test_a_burst_and_then_nothing_is_no_pace_to_judge_by() -> None:
    def answer_and_show(transport: WSTransport) -> None:
        for _ in range(10):
            transport.send(WSMsgType.TEXT, b"data")

    settings = ConnectionSettings(silence_timeout=0.2, first_backoff=0.01, max_backoff=0.02)
    async with serving() as server:
        server.on_connected = answer_and_show
        client = Client(server.url, settings)
        async with client.running():
            await until(lambda: len(client.reasons) == 2)
        silences = [float(reason.removeprefix("no data for ").split()[0]) for reason in client.reasons]
        assert silences[0] >= 4 * settings.silence_timeout
        assert silences[1] >= 8 * settings.silence_timeout


@pytest.mark.parametrize(
    ("looks", "finds", "seconds"),
    [(1, 1, 20.0), (40, 10, 20.0), (11, 11, 5.0), (1_000, 950, 5.0), (100, 50, 20.0), (2_000, 20, 60.0)],
)
def test_a_stream_is_judged_by_the_gaps_it_usually_leaves(looks: int, finds: int, seconds: float) -> None:
    assert allowed_silence(5.0, looks, finds, UNKNOWN_TIMEOUTS) == pytest.approx(seconds)


async def test_a_busy_connection_is_pinged_where_the_exchange_asks_for_it() -> None:
    settings = ConnectionSettings(silence_timeout=5.0, ping=b"ping", ping_interval=0.05)
    async with serving() as server:
        client = Client(server.url, settings)
        async with client.running():
            await until(lambda: server.sessions)

            async def busy() -> None:
                while b"ping" not in server.last.received:
                    server.last.send(b"data")
                    await asyncio.sleep(0.01)

            await asyncio.wait_for(busy(), 10)


async def test_a_bug_in_a_handler_is_counted_and_the_connection_comes_back() -> None:
    heard: list[bytes] = []

    def handle(data: bytes, received_ns: int) -> None:
        heard.append(data)
        if data == b"bad":
            raise KeyError("a bug of ours")

    async with serving() as server:
        client = Client(server.url, on_message=handle)
        async with client.running() as connection:
            await until(lambda: server.sessions)
            server.last.send(b"bad")
            await until(lambda: connection.connects == 2)
            server.last.send(b"good")
            await until(lambda: b"good" in heard)
            assert connection.handler_errors == 1
            assert "KeyError" in client.reasons[0]


@pytest.mark.parametrize(
    "url", ["ws://127.0.0.1:1/stream", "wss://127.0.0.1:1/stream", "ws://", "http://127.0.0.1:1/x"]
)
async def test_what_cannot_be_connected_to_is_told_and_tried_again(url: str) -> None:
    client = Client(url)
    async with client.running() as connection:
        await until(lambda: connection.failed_connects >= 3)
        assert all("cannot connect" in reason for reason in client.reasons)
        assert url in client.reasons[0]


async def test_tls_is_spoken_for_wss() -> None:
    async with serving() as server:
        client = Client(server.url.replace("ws://", "wss://"))
        async with client.running():
            await until(lambda: client.reasons)
            assert server.sessions == []


async def test_nothing_is_sent_while_not_connected() -> None:
    client = Client("ws://127.0.0.1:1/stream")
    assert client.connection.send(b"late") is False


async def test_cancelling_says_goodbye() -> None:
    async with serving() as server:
        client = Client(server.url)
        async with client.running():
            # The server has a session before the client has one, and who is still shaking hands says no goodbye.
            await until(lambda: client.connection.is_open)
        assert not client.connection.is_open
        await until(lambda: server.last.closed_with == WSCloseCode.GOING_AWAY)


def test_it_runs_on_uvloop_too() -> None:
    import uvloop

    async def exchange() -> list[bytes]:
        async with serving() as server:
            client = Client(server.url)
            async with client.running():
                await until(lambda: server.sessions)
                server.last.send(b"hello")
                await until(lambda: client.messages)
            return client.messages

    runner = asyncio.Runner(loop_factory=uvloop.new_event_loop)
    with runner:
        assert runner.run(exchange()) == [b"hello"]


# Pacing, on a clock that only sleeping moves


class SleepingClock:
    def __init__(self) -> None:
        self.now = 0
        self.slept: list[float] = []

    def monotonic_ns(self) -> int:
        return self.now

    def time_ns(self) -> int:
        return self.now

    async def sleep(self, seconds: float) -> None:
        self.slept.append(seconds)
        self.now += int(seconds * 1e9)
        await asyncio.sleep(0)


async def test_backoff_doubles_up_to_its_limit_and_jitters_below_it() -> None:
    clock = SleepingClock()
    jitters: Iterator[float] = iter([0.0, 1.0] * 50)
    client = Client("ws://127.0.0.1:1/stream", ConnectionSettings(first_backoff=1.0, max_backoff=8.0))
    connection = Connection(
        "test", client.connection.url, clock=clock, settings=client.connection._settings,
        on_message=lambda data, received_ns: None, on_open=list, on_down=client.reasons.append,
        jitter=lambda: next(jitters),
    )  # fmt: skip
    task = asyncio.ensure_future(connection.run())
    await until(lambda: len(clock.slept) >= 6)
    task.cancel()
    await asyncio.gather(task, return_exceptions=True)
    assert clock.slept[:6] == [0.5, 2.0, 2.0, 8.0, 4.0, 8.0]


async def test_a_pacer_spaces_what_shares_it() -> None:
    clock = SleepingClock()
    pacer = Pacer(clock, per_second=4.0)
    for _ in range(3):
        await pacer.wait()
    assert clock.slept == [0.25, 0.25]


async def test_request_weight_is_spent_at_once_while_there_is_some_and_refilled_by_the_minute() -> None:
    clock = SleepingClock()
    budget = WeightBudget(clock, per_minute=600)
    for _ in range(12):
        await budget.take(50)
    assert clock.slept == []
    await budget.take(50)
    assert clock.slept == [5.0]
    budget.block(30.0)
    await budget.take(50)
    assert clock.slept[-1] == 35.0


def test_jitter_differs_between_connections_and_moments() -> None:
    clock = SleepingClock()
    one, two = spread("one", clock), spread("two", clock)
    values = []
    for _ in range(50):
        clock.now += 1_000
        values += [one(), two()]
    assert all(0 <= value < 1 for value in values)
    assert len(set(values)) == 100
