"""The way of a message to and from a simulated exchange: latency and injected faults, for every face alike."""

from __future__ import annotations

import asyncio
import contextlib
from collections import deque
from collections.abc import Awaitable, Callable, Coroutine
from dataclasses import dataclass, field, replace
from typing import NamedTuple

import msgspec
from aiohttp import WSMsgType, web

from exchangesim.core.clock import Clock
from exchangesim.core.faults import Fault, FaultRegistry, Stage
from exchangesim.core.latency import Latency
from exchangesim.core.reads import ReadLag

HANG_SECONDS = 120.0  # longer than any client waits
LONGEST_BAN_SECONDS = 3 * 86_400.0
MAX_BACKLOG = 20_000  # messages a slow reader may fall behind before it is cut off


Refuse = Callable[[str, float], "Answer"]
"""From a reason (see ``faults.REASONS``) and for how many seconds to an answer in the exchange's own form."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Call:
    """A request on its way in: ``operation`` is what faults name, ``POST /api/v3/order`` or ``order.place``."""

    operation: str
    symbol: str = ""
    api_key: str = ""
    refuse: Refuse | None = field(default=None, compare=False)
    """Makes the face's own refusal; None where a face can't refuse this way."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Answer:
    """What goes back. For calls on a WebSocket only ``body`` counts."""

    body: bytes
    status: int = 200
    headers: dict[str, str] = field(default_factory=dict)
    content_type: str = "application/json"
    reset_after: int | None = None
    """Reset the connection after so many bytes of the body."""


class Lost(Exception):
    """The answer never leaves. ``reset`` says that the connection is cut rather than silent."""

    def __init__(self, *, reset: bool) -> None:
        super().__init__("answer lost")
        self.reset = reset


class Transit:
    """Latency and faults of one exchange."""

    def __init__(
        self,
        exchange: str,
        *,
        faults: FaultRegistry,
        latency: Latency,
        clock: Clock,
        reads: ReadLag | None = None,
    ) -> None:
        self.exchange, self.faults, self.latency, self.clock = exchange, faults, latency, clock
        self._reads = reads or ReadLag()
        self._late: set[asyncio.Task[None]] = set()

    async def carry(self, call: Call, handle: Callable[[], Answer]) -> Answer:
        """Bring a call to ``handle`` and its answer back, with the delays and faults that apply. Raises Lost."""
        await _pause(self.latency.seconds("request"))
        fault = self._strike(Stage.REQUEST, call)
        lag_ms = 0.0
        if fault is not None:
            if fault.kind == "drop_request":
                raise _lost(fault)
            if fault.kind == "late_request":
                self._handle_later(fault, handle)
                raise _lost(fault)
            if fault.kind in ("error", "refuse"):
                if fault.parameters["apply"]:
                    fault.unheard.append(_text(handle()))
                return _error(fault) if fault.kind == "error" else _refused(call, fault.text("reason"), 0.0)
            if fault.kind == "throttle":
                refused = self._throttled(fault, call)
                if refused is not None:
                    return refused
            elif fault.kind == "duplicate_request":
                fault.unheard.append(_text(handle()))
            elif fault.kind == "read_lag":
                lag_ms = fault.number("ms")
            else:
                await _pause(fault.number("ms") / 1000)
        with self._reads.behind(lag_ms):
            answer = handle()
        fault = self._strike(Stage.RESPONSE, call, answer.body)
        if fault is not None:
            if fault.kind == "drop_response":
                fault.unheard.append(_text(answer))
                raise _lost(fault)
            if fault.kind == "delay_response":
                await _pause(fault.number("ms") / 1000)
            else:
                answer = _spoilt(fault, call, answer)
        await _pause(self.latency.seconds("response"))
        return answer

    def keep(self, work: Coroutine[None, None, None]) -> None:
        """Do something whose end nobody waits for."""
        task = asyncio.ensure_future(work)
        self._late.add(task)
        task.add_done_callback(self._late.discard)

    def _handle_later(self, fault: Fault, handle: Callable[[], Answer]) -> None:
        async def later() -> None:
            await _pause(fault.number("ms") / 1000)
            fault.unheard.append(_text(handle()))

        self.keep(later())

    def _throttled(self, fault: Fault, call: Call) -> Answer | None:
        """Refuse a call while a throttle lasts; None, and the fault is spent, once its time is over."""
        now, memory = self.clock.monotonic(), fault.memory
        until = memory.get("until")
        if until is None:
            until = memory["until"] = now + fault.number("retry_after")
        elif isinstance(until, float) and now >= until:
            fault.count = fault.hits
            return None
        ignored = memory["ignored"] = int(str(memory.get("ignored", -1))) + 1
        if ignored > fault.number("tolerated"):
            bans = memory["bans"] = int(str(memory.get("bans", 0))) + 1
            length = fault.number("ban") * 2 ** min(bans - 1, 30)
            until = memory["until"] = now + min(length, LONGEST_BAN_SECONDS)
            return _refused(call, "banned", until - now)
        assert isinstance(until, float)
        return _refused(call, "rate_limited", until - now)

    async def serve_http(self, request: web.Request, call: Call, handle: Callable[[], Answer]) -> web.StreamResponse:
        """Carry an HTTP call and make its response; a lost answer hangs or resets the connection."""
        try:
            answer = await self.carry(call, handle)
        except Lost as lost:
            if not lost.reset:
                await asyncio.sleep(HANG_SECONDS)
            if request.transport is not None:
                request.transport.abort()
            return web.Response(status=500)
        headers = {**answer.headers, "Content-Type": answer.content_type}
        if answer.reset_after is not None:
            return await _cut_short(request, answer, headers)
        return web.Response(body=answer.body, status=answer.status, headers=headers)

    def _strike(self, stage: Stage, call: Call, message: bytes = b"") -> Fault | None:
        return self.faults.strike(
            stage,
            exchange=self.exchange,
            operation=call.operation,
            symbol=call.symbol,
            api_key=call.api_key,
            message=message,
        )


class _Due(NamedTuple):
    at: float
    payload: bytes


class StreamConnection:
    """One client's WebSocket: ordered sending with latency and faults, without ever waiting for the reader.

    ``send`` never blocks and never raises; a reader that falls too far behind is cut off, as real exchanges do.
    """

    def __init__(self, transit: Transit, socket: web.WebSocketResponse, request: web.Request) -> None:
        self._transit, self._socket, self._request = transit, socket, request
        self._outbox: deque[_Due] = deque()
        self._wake = asyncio.Event()
        self._tasks: set[asyncio.Task[None]] = set()
        self._repeated: dict[str, bytes] = {}
        self.closing = False
        self.remote = request.remote or ""

    def send_market(self, payload: bytes, *, operation: str, symbol: str) -> None:
        """Send market data; ``operation`` is the stream's name."""
        self._send_stage(Stage.MARKET, "market", payload, operation, symbol, "")

    def send_event(self, payload: bytes, *, operation: str, symbol: str = "", api_key: str = "") -> None:
        """Send a private event; ``operation`` is the event's name."""
        self._send_stage(Stage.EVENT, "event", payload, operation, symbol, api_key)

    def send_answer(self, payload: bytes) -> None:
        """Send an answer to a call; faults and latency of calls are ``carry``'s."""
        self._put(payload, 0.0)

    def start_call(self, call: Call, handle: Callable[[], Answer]) -> None:
        """Carry a call that came on this socket and send its answer; calls do not wait for one another.

        One that has arrived is carried out even when the socket is lost meanwhile.
        """

        async def run() -> None:
            try:
                answer = await self._transit.carry(call, handle)
            except Lost as lost:
                if lost.reset:
                    self.abort()
                return
            if answer.reset_after is not None:
                await self._cut_frame(answer)
            else:
                self.send_answer(answer.body)

        self._transit.keep(run())

    def abort(self) -> None:
        """Cut the connection without a close frame."""
        self.closing = True
        self._wake.set()
        if self._request.transport is not None:
            self._request.transport.abort()

    async def serve(self, receive: Callable[[str], Awaitable[None] | None], *, ping_seconds: float | None) -> None:
        """Hand each text message to ``receive`` until the socket closes; ping the client every so often."""
        self._keep(self._write())
        if ping_seconds is not None:
            self._keep(self._ping(ping_seconds))
        try:
            async for message in self._socket:
                if message.type is WSMsgType.TEXT:
                    outcome = receive(message.data)
                    if outcome is not None:
                        await outcome
                elif message.type is WSMsgType.ERROR:
                    break
        finally:
            self.closing = True
            for task in list(self._tasks):
                task.cancel()
            await asyncio.gather(*self._tasks, return_exceptions=True)

    def start_closing(self, code: int = 1000, reason: str = "") -> None:
        """Close politely, soon, whatever is queued."""
        self._outbox.clear()
        self._keep(self.close(code, reason))

    async def close(self, code: int = 1000, reason: str = "") -> None:
        """Close politely, after what is queued has been sent."""
        if not self.closing and not self._outbox:
            await self._socket.close(code=code, message=reason.encode())

    def _send_stage(
        self, stage: Stage, direction: str, payload: bytes, operation: str, symbol: str, api_key: str
    ) -> None:
        if self.closing:
            return
        delay = self._transit.latency.seconds(direction)
        fault = self._transit.faults.strike(
            stage,
            exchange=self._transit.exchange,
            operation=operation,
            symbol=symbol,
            api_key=api_key,
            message=payload,
        )
        again = self._repeated.pop(operation, None) if self._repeated else None
        if fault is None:
            self._put(payload, delay)
        elif fault.kind in ("drop_event", "gap", "silent"):
            return
        elif fault.kind == "duplicate_event":
            self._put(payload, delay)
            self._put(payload, delay)
        elif fault.kind == "disconnect":
            self.abort()
        elif fault.kind == "corrupt":
            self._put(payload[: len(payload) // 2], delay)
        elif fault.kind == "edit":
            self._put(_edited(fault, payload), delay)
        elif fault.kind == "repeat_market":
            self._put(payload, delay)
            self._repeated[operation] = payload
        elif fault.kind == "delay_event":  # later ones overtake it: that is the point
            self._keep(self._send_later(payload, fault.number("ms") / 1000))
        else:
            self._put(payload, delay + fault.number("ms") / 1000)
        if again is not None:
            self._put(again, delay)

    def _put(self, payload: bytes, delay: float) -> None:
        if self.closing:
            return
        if len(self._outbox) >= MAX_BACKLOG:
            self.abort()
            return
        # In order: what is due earlier waits for what was queued before it.
        self._outbox.append(_Due(self._transit.clock.monotonic() + delay if delay else 0.0, payload))
        self._wake.set()

    async def _send_later(self, payload: bytes, delay: float) -> None:
        await asyncio.sleep(delay)
        self._put(payload, 0.0)

    async def _write(self) -> None:
        try:
            while True:
                if not self._outbox:
                    self._wake.clear()
                    await self._wake.wait()
                    if self.closing:
                        return
                    continue
                due = self._outbox[0]
                wait = due.at - self._transit.clock.monotonic()
                if wait > 0:
                    await asyncio.sleep(wait)
                self._outbox.popleft()
                await self._socket.send_frame(due.payload, WSMsgType.TEXT)
        except (ConnectionError, RuntimeError):
            self.closing = True

    async def _cut_frame(self, answer: Answer) -> None:
        """Begin to send an answer of less than 64 KiB and cut the connection in the middle of it."""
        length, transport = len(answer.body), self._request.transport
        if transport is not None and not self.closing:
            header = bytes((0x81, length)) if length < 126 else b"\x81\x7e" + length.to_bytes(2, "big")  # RFC 6455, 5.2
            transport.write(header + answer.body[: answer.reset_after])
            await asyncio.sleep(0.05)  # let it arrive, so that the client is in the middle of the frame
        self.abort()

    async def _ping(self, seconds: float) -> None:
        with contextlib.suppress(ConnectionError, RuntimeError):
            while True:
                await asyncio.sleep(seconds)
                await self._socket.ping(str(self._transit.clock.time_ms()).encode())

    def _keep(self, work: Awaitable[None]) -> None:
        task = asyncio.ensure_future(work)
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)


def _error(fault: Fault) -> Answer:
    headers = fault.parameters["headers"]
    assert isinstance(headers, dict)
    body = fault.text("body")
    html = "<html><body><h1>Service Unavailable</h1></body></html>"
    content_type = fault.text("content_type") or ("application/json" if body.startswith("{") else "text/html")
    return Answer(
        status=int(fault.number("status")),
        body=(body or html).encode(),
        headers={str(name): str(value) for name, value in headers.items()},
        content_type=content_type,
    )


def _lost(fault: Fault) -> Lost:
    return Lost(reset=fault.text("how") == "reset")


def _text(answer: Answer) -> str:
    return answer.body.decode(errors="replace")


def _refused(call: Call, reason: str, seconds: float) -> Answer:
    if call.refuse is None:
        return Answer(body=b"", status=503)
    return call.refuse(reason, seconds)


def _spoilt(fault: Fault, call: Call, answer: Answer) -> Answer:
    """Return an answer as a fault of the way back leaves it."""
    if fault.kind == "truncate_body":
        return replace(answer, body=answer.body[: int(fault.number("bytes"))])
    if fault.kind == "replace_body":
        status = int(fault.number("status")) or answer.status
        return replace(answer, body=fault.text("body").encode(), status=status)
    if fault.kind == "reset_body":
        return replace(answer, reset_after=int(fault.number("bytes")))
    if fault.kind == "edit":
        return replace(answer, body=_edited(fault, answer.body))
    kept = fault.memory.setdefault((call.operation, call.symbol, call.api_key), answer)
    assert isinstance(kept, Answer)
    return kept


def _edited(fault: Fault, payload: bytes) -> bytes:
    """Return a JSON message whose named fields have other values; ``result.status`` names the one in ``result``."""
    wanted = fault.parameters["set"]
    assert isinstance(wanted, dict)

    def edit(value: object, within: str = "") -> object:
        if isinstance(value, dict):
            return {
                name: wanted.get(f"{within}.{name}", wanted[name] if name in wanted else edit(inner, name))
                for name, inner in value.items()
            }
        return [edit(inner, within) for inner in value] if isinstance(value, list) else value

    return msgspec.json.encode(edit(msgspec.json.decode(payload)))


async def _cut_short(request: web.Request, answer: Answer, headers: dict[str, str]) -> web.StreamResponse:
    response = web.StreamResponse(status=answer.status, headers=headers)
    response.content_length = len(answer.body)
    await response.prepare(request)
    with contextlib.suppress(ConnectionError):
        await response.write(answer.body[: answer.reset_after])
        await asyncio.sleep(0.05)  # let it arrive, so that the client is in the middle of the body
    if request.transport is not None:
        request.transport.abort()
    return response


async def _pause(seconds: float) -> None:
    if seconds > 0:
        await asyncio.sleep(seconds)
