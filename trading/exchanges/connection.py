"""One WebSocket connection that stays up: reconnects, notices a silent peer, paces what it sends."""

from __future__ import annotations

import asyncio
import logging
from collections import deque
from collections.abc import Callable, Iterable, Sequence
from zlib import crc32

import msgspec
from picows import WSCloseCode, WSError, WSFrame, WSListener, WSMsgType, WSTransport, ws_connect

from trading.exchanges.cork import Cork
from trading.ports import Clock
from trading.tasks import end_tasks

logger = logging.getLogger(__name__)

NS = 1_000_000_000
TEXT = WSMsgType.TEXT  # looked up for every frame

# The watchdog looks this often within ``silence_timeout``. A data stream that has been delivering is called silent
# after this many of the gaps it usually leaves between looks that find data, so that a quiet market is not taken for a
# dead peer, nor a dead peer for a quiet market. Looks count, not messages: a subscription brings a burst of them
# (answers, snapshots, what came late), which says nothing of the pace.
LOOKS = 5
USUAL_GAPS = 20
MAX_DATA_SILENCE = 60.0
# Until this many looks found data the pace is not known, and the silence allowed is a multiple of ``silence_timeout``.
KNOWN_AFTER = 10
UNKNOWN_TIMEOUTS = 4.0


class ConnectionSettings(msgspec.Struct, frozen=True, kw_only=True):
    """How a connection behaves; durations in seconds.

    ``silence_timeout`` is how long nothing at all may arrive (after half of it we ping), and the least time without
    data after which a stream that was delivering is called silent. ``ping`` is the exchange's own ping message; None
    sends WebSocket pings. ``ping_interval`` pings a busy connection too, where an exchange asks for that.
    ``carries_data`` is False where data comes only when asked for, so that its absence says nothing.
    """

    silence_timeout: float = 5.0
    connect_timeout: float = 5.0
    ping: bytes | None = None
    ping_interval: float | None = None
    first_backoff: float = 0.25
    max_backoff: float = 30.0
    stable_after: float = 10.0  # a connection that lived this long starts the backoff anew
    max_message_bytes: int = 16 * 1024 * 1024
    max_queued_sends: int = 10_000
    sends_per_second: float = 4.0
    carries_data: bool = True


class Pacer:
    """Spaces actions that share a limit, such as connection attempts from one address."""

    def __init__(self, clock: Clock, per_second: float) -> None:
        self._clock = clock
        self._interval_ns = int(NS / per_second)
        self._next_ns = 0

    async def wait(self) -> None:
        """Return when the next action may be taken; calls are served in turn."""
        now = self._clock.monotonic_ns()
        due = max(now, self._next_ns)
        self._next_ns = due + self._interval_ns
        if due > now:
            await self._clock.sleep((due - now) / NS)


def spread(name: str, clock: Clock) -> Callable[[], float]:
    """Return a jitter source in [0, 1) that differs between connections and attempts without a random generator."""

    def jitter() -> float:
        return crc32(f"{name}:{clock.monotonic_ns()}".encode()) / 2**32

    return jitter


def allowed_silence(timeout: float, looks: int, finds: int, patience: float) -> float:
    """Return for how many seconds a stream that delivered may deliver nothing.

    ``finds`` of its ``looks``, the last among them, found data; ``patience`` is what is allowed, in timeouts, while
    that is too little to know its pace.
    """
    if finds > KNOWN_AFTER:
        usual_gap = timeout / LOOKS * (looks - finds) / finds
        return min(max(timeout, USUAL_GAPS * usual_gap), MAX_DATA_SILENCE)
    return min(patience * timeout, MAX_DATA_SILENCE)


class Connection:
    """Keeps one WebSocket open until cancelled.

    Parameters
    ----------
    url
        ``ws://`` or ``wss://``; the scheme decides about TLS.
    on_message
        Called for every data message with its bytes and the wall time in nanoseconds.
    on_open
        Called when connected; returns the messages to send first (subscriptions).
    on_down
        Called with one sentence whenever the connection is lost or cannot be made.
    pacer
        Shared between the connections of one exchange: its limit on new connections.
    jitter
        Source of numbers in [0, 1) that spreads reconnections.
    """

    def __init__(
        self,
        name: str,
        url: str,
        *,
        clock: Clock,
        settings: ConnectionSettings,
        on_message: Callable[[bytes, int], None],
        on_open: Callable[[], Iterable[bytes]],
        on_down: Callable[[str], None],
        pacer: Pacer | None = None,
        jitter: Callable[[], float] | None = None,
    ) -> None:
        self.name = name
        self.url = url
        self._clock = clock
        self._settings = settings
        self._on_message = on_message
        self._on_open = on_open
        self._on_down = on_down
        self._pacer = pacer
        self._jitter = jitter or spread(name, clock)
        self._transport: WSTransport | None = None
        self._cork: Cork | None = None
        self._queue: deque[bytes] = deque()
        self._queued = asyncio.Event()
        self._drop_reason = ""
        self._failures = 0
        self._patience = UNKNOWN_TIMEOUTS  # doubled by each stream that fell silent before its pace was known
        self.signs = 0  # pongs and other signs of life
        self.connects = 0
        self.disconnects = 0
        self.failed_connects = 0
        self.silences = 0
        self.handler_errors = 0

    @property
    def is_open(self) -> bool:
        return self._transport is not None

    def counters(self) -> dict[str, int]:
        return {
            "connects": self.connects,
            "disconnects": self.disconnects,
            "failed_connects": self.failed_connects,
            "silences": self.silences,
            "handler_errors": self.handler_errors,
        }

    def send(self, message: bytes) -> bool:
        """Queue a message; it leaves at the exchange's message rate. False when not connected or the queue is full."""
        if self._transport is None or len(self._queue) >= self._settings.max_queued_sends:
            return False
        self._queue.append(message)
        self._queued.set()
        return True

    def send_now(self, messages: Sequence[bytes]) -> bool:
        """Write messages before anything queued, and together; False, and nothing was written, when not connected."""
        transport, cork = self._transport, self._cork
        if transport is None or cork is None:
            return False
        if len(messages) == 1:
            transport.send(TEXT, messages[0])
            return True
        cork.hold()
        try:
            for message in messages:
                transport.send(TEXT, message)
        finally:
            cork.release()
        return True

    def drop(self, reason: str) -> None:
        """Give this socket up and connect again."""
        if self._transport is not None:
            self._drop_reason = reason
            self._transport.disconnect(graceful=False)

    async def run(self) -> None:
        """Connect, and connect again whenever the connection is lost, until cancelled."""
        while True:
            if self._pacer is not None:
                await self._pacer.wait()
            opened_ns = self._clock.monotonic_ns()
            reason = await self._session()
            if self._clock.monotonic_ns() - opened_ns > self._settings.stable_after * NS:
                self._failures = 0
            self._failures += 1
            self._on_down(reason)
            await self._clock.sleep(self._backoff())

    def _backoff(self) -> float:
        settings = self._settings
        longest = min(settings.max_backoff, settings.first_backoff * 2.0 ** min(self._failures - 1, 30))
        return longest * (0.5 + 0.5 * self._jitter())

    async def _session(self) -> str:
        """Hold one connection; return why it ended."""
        listener = _Listener(self)
        try:
            async with asyncio.timeout(self._settings.connect_timeout):
                transport, _ = await ws_connect(
                    lambda: listener,
                    self.url,
                    websocket_handshake_timeout=self._settings.connect_timeout,
                    max_frame_size=self._settings.max_message_bytes,
                )
        except TimeoutError:
            self.failed_connects += 1
            return f"no connection to {self.url} within {self._settings.connect_timeout:g} s"
        except (OSError, WSError, ValueError) as error:
            self.failed_connects += 1
            return f"cannot connect to {self.url}: {_describe(error)}"
        self.connects += 1
        self._drop_reason = ""
        self._queue.clear()
        self._transport = transport
        self._cork = Cork(transport.underlying_transport)
        helpers = [
            asyncio.create_task(self._send_queued(transport)),
            asyncio.create_task(self._watch(transport, listener)),
        ]
        try:
            for message in self._on_open():
                self.send(message)
            await transport.wait_disconnected()
            return self._drop_reason or listener.close_reason or "the exchange closed the connection"
        except asyncio.CancelledError:
            transport.send_close(WSCloseCode.GOING_AWAY)
            raise
        except (OSError, WSError) as error:
            return f"connection lost: {_describe(error)}"
        except Exception as error:
            # A bug of ours in a message handler: say so loudly, keep the feed going on a fresh connection.
            self.handler_errors += 1
            logger.exception("%s: a message could not be handled, reconnecting", self.name)
            return f"a message could not be handled: {type(error).__name__}"
        finally:
            self._transport = None
            self._cork.close()
            self._cork = None
            self.disconnects += 1
            await end_tasks(helpers)
            transport.disconnect(graceful=False)

    async def _send_queued(self, transport: WSTransport) -> None:
        pacer = Pacer(self._clock, self._settings.sends_per_second)
        while True:
            await self._queued.wait()
            while self._queue:
                await pacer.wait()
                if not self._queue:
                    break
                transport.send(WSMsgType.TEXT, self._queue.popleft())
            self._queued.clear()

    async def _watch(self, transport: WSTransport, listener: _Listener) -> None:
        """Ping a quiet peer; drop it when nothing comes at all, or when a stream that delivered no longer does."""
        settings = self._settings
        tick = settings.silence_timeout / LOOKS
        last_alive = last_data = last_ping = previous = self._clock.monotonic_ns()
        messages = 0
        looks = looks_at_data = finds = 0  # from the first look that found data on
        signs = self.signs
        answers = 0  # pings sent that a text message may answer: that message is no data
        while True:
            await self._clock.sleep(tick)
            now = self._clock.monotonic_ns()
            stalled = now - previous > 3 * tick * NS
            previous = now
            if stalled:
                # We were the ones who stood still: what arrived meanwhile has not been read yet.
                last_alive = max(last_alive, now - int(tick * NS))
                last_data = max(last_data, now - int(tick * NS))
            new = listener.messages - messages
            if new > answers:
                finds += 1
                looks_at_data = looks = looks + 1
                last_data = last_alive = now
                answers = 0
            else:
                looks += 1 if finds else 0
                if new or self.signs != signs:
                    last_alive = now
                    answers -= new
            messages, signs = listener.messages, self.signs
            quiet = (now - last_alive) / NS
            if quiet > settings.silence_timeout:
                self.silences += 1
                self.drop(f"nothing received for {quiet:.1f} s")
                return
            if finds and settings.carries_data:
                known = finds > KNOWN_AFTER
                if known:
                    self._patience = UNKNOWN_TIMEOUTS
                silent = (now - last_data) / NS
                if silent > allowed_silence(settings.silence_timeout, looks_at_data, finds, self._patience):
                    self.silences += 1
                    if not known:
                        self._patience = min(2 * self._patience, MAX_DATA_SILENCE)
                    self.drop(f"no data for {silent:.1f} s, though the connection stands")
                    return
            interval = settings.ping_interval
            if quiet > settings.silence_timeout / 2 or (interval is not None and now - last_ping > interval * NS):
                last_ping = now
                if settings.ping is None:
                    transport.send_ping()
                else:
                    answers += 1
                    transport.send(WSMsgType.TEXT, settings.ping)


class _Listener(WSListener):
    """picows' callbacks. A message in several frames is put together; control frames are signs of life."""

    def __init__(self, connection: Connection) -> None:
        self._connection = connection
        self._on_message = connection._on_message
        self._time_ns = connection._clock.time_ns
        self._limit = connection._settings.max_message_bytes
        self._parts: list[bytes] = []
        self.messages = 0
        self.close_reason = ""

    def on_ws_frame(self, transport: WSTransport, frame: WSFrame) -> None:
        if frame.msg_type is TEXT and frame.fin:
            self.messages += 1
            self._on_message(frame.get_payload_as_bytes(), self._time_ns())
        else:
            self._on_other(transport, frame)

    def _on_other(self, transport: WSTransport, frame: WSFrame) -> None:
        kind = frame.msg_type
        if kind in (TEXT, WSMsgType.BINARY, WSMsgType.CONTINUATION):
            self._parts.append(frame.get_payload_as_bytes())
            if sum(map(len, self._parts)) > self._limit:
                # Not by Connection.drop: what comes with the handshake comes before there is a session to drop.
                self.close_reason = f"a message is longer than {self._limit} bytes"
                transport.disconnect(graceful=False)
            elif frame.fin:
                whole = b"".join(self._parts)
                self._parts.clear()
                self.messages += 1
                self._on_message(whole, self._time_ns())
        elif kind is WSMsgType.CLOSE:
            text = frame.get_close_message() or b""
            self.close_reason = f"closed by the exchange: {_code(frame)} {text[:120].decode(errors='replace')}".rstrip()
            transport.disconnect()
        else:
            self._connection.signs += 1


def _code(frame: WSFrame) -> str:
    code = frame.get_close_code()
    return str(getattr(code, "value", code))


def _describe(error: BaseException) -> str:
    text = str(error).strip().replace("\n", " ")
    return f"{type(error).__name__}: {text}"[:200] if text else type(error).__name__
