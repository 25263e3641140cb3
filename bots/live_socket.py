"""What the WebSockets of live pages share: who may open one, numbered frames, limits, the end of the session.

A page gets a snapshot, then what changed, at most ten frames a second; whatever comes in between is merged.
"""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import Callable, Iterable, Mapping
from contextlib import suppress
from math import inf
from typing import Any
from urllib.parse import parse_qs

import msgspec
from channels.consumer import get_handler_name
from channels.db import database_sync_to_async
from channels.exceptions import StopConsumer
from channels.generic.websocket import AsyncWebsocketConsumer

from bots import live_cache, live_snapshot
from bots.live_sessions import session_watch

logger = logging.getLogger(__name__)

# Close codes; 4000-4999 are an application's own (RFC 6455, section 7.4.2).
SIGNED_OUT = 4401
NOT_UNDERSTOOD = 4400
NOT_ALLOWED = 4403
TOO_MANY_MESSAGES = 4429
TRY_AGAIN_LATER = 1013

# The only thing a page may say is {"type": "snapshot"}.
MAX_INPUT_CHARACTERS = 256
INPUT_WINDOW_SECONDS = 10.0
MAX_INPUTS_PER_WINDOW = 30


class PageSocket(AsyncWebsocketConsumer):
    """One open page; subclasses say what it is sent."""

    # What a page is sent of that which is everybody's; None: all of it.
    public_kinds: frozenset[str] | None = None
    frame_interval_seconds = 0.1
    heartbeat_seconds = 2.0
    snapshot_interval_seconds = 1.0
    session_check_seconds = 5.0
    # A page that takes nothing for this long is gone or hopeless; it may come back and start with a snapshot.
    send_timeout_seconds = 20.0

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self.owner_id = 0
        self._sequence = 0
        self._snapshot_wanted = True
        self._snapshot_not_before = 0.0
        self._wake = asyncio.Event()
        self._sending = asyncio.Lock()  # frames leave in the order of their numbers
        self._tasks: list[asyncio.Task[None]] = []
        self._inputs_since = 0.0
        self._inputs = 0
        self._closed = False

    async def __call__(self, scope: Any, receive: Callable[[], Any], send: Callable[[Any], Any]) -> None:
        # Unlike Channels' own: no channel of the page's, what is published comes through this process's ear; and old
        # database connections are not closed before each message, on a thread. Who reads the database here
        # (database_sync_to_async) closes its own. Both together were more than half of a server's time.
        self.scope, self.base_send = scope, send
        try:
            while True:
                message = await receive()
                await getattr(self, get_handler_name(message))(message)
        except StopConsumer:
            pass
        finally:
            self._let_go()

    async def connect(self) -> None:
        # Accepted first even when refused: a browser is only told the close code of a socket that was open.
        await self.accept()
        user = self.scope.get("user")
        if user is None or not user.is_authenticated:
            await self._close(SIGNED_OUT)
            return
        owner = await database_sync_to_async(live_snapshot.find_owner)(user=user, requested=self.query("owner"))
        if owner is None:
            await self._close(NOT_ALLOWED)
            return
        self.owner_id = owner.pk
        if refusal := self.query_refusal():
            await self.send_frame("error", {"message": refusal})
            await self._close(NOT_UNDERSTOOD)
            return
        try:
            await live_cache.join(self, owner_id=owner.pk, public_kinds=self.public_kinds)
        except live_cache.NotHeard as problem:
            logger.warning("live page: the channel layer failed (%s); the page will poll", problem)
            await self._close(TRY_AGAIN_LATER)
            return
        await self.send_frame("connected", self.connected(user, owner))
        self._start(self._pump(), "live-pump")
        self._start(self._watch_session(), "live-session")

    # --- what a page is sent: for subclasses -----------------------------------------------------------------------

    def query_refusal(self) -> str:
        """Return why the address asks for what there is not, or an empty string; the owner is known."""
        return ""

    def connected(self, user: Any, owner: Any) -> Mapping[str, Any]:
        """Return the data of the first frame."""
        raise NotImplementedError

    def take(self, items: Iterable[Mapping[str, Any]]) -> bool:
        """Keep published items for the next frame; False if there were too many, so that a snapshot is due."""
        raise NotImplementedError

    def has_changes(self) -> bool:
        """Return whether something waits to be sent."""
        raise NotImplementedError

    async def send_changes(self) -> None:
        """Send what waits, in one frame."""
        raise NotImplementedError

    async def snapshot(self) -> Mapping[str, Any]:
        """Return the data of a snapshot. What is pending may be newer, so it is kept and follows."""
        raise NotImplementedError

    def look_in(self) -> float:
        """Return in how many seconds there may be changes that nobody tells of."""
        return inf

    def look(self) -> None:
        """Look for changes that nobody tells of."""

    # --- life ------------------------------------------------------------------------------------------------------

    def query(self, name: str) -> str | None:
        """Return a parameter of the address."""
        values = parse_qs(self.scope.get("query_string", b"").decode("ascii", "replace")).get(name)
        return values[0] if values else None

    def _let_go(self) -> None:
        self._closed = True
        live_cache.leave(self, owner_id=self.owner_id)
        for task in self._tasks:
            task.cancel()

    async def receive(self, text_data: str | None = None, bytes_data: bytes | None = None) -> None:
        if self._closed:
            return
        now = asyncio.get_running_loop().time()
        if now - self._inputs_since >= INPUT_WINDOW_SECONDS:
            self._inputs_since, self._inputs = now, 0
        self._inputs += 1
        if self._inputs > MAX_INPUTS_PER_WINDOW:
            await self.send_frame(
                "error",
                {
                    "message": f"more than {MAX_INPUTS_PER_WINDOW} messages in {INPUT_WINDOW_SECONDS:.0f} s: "
                    "the socket is closed; open it again and ask less often"
                },
            )
            await self._close(TOO_MANY_MESSAGES)
            return
        refusal = input_refusal(text_data)
        if refusal:
            await self.send_frame("error", {"message": refusal})
            return
        # Answered by the pump; requests in between share the answer.
        self.want_snapshot()

    def hear(self, items: Iterable[Mapping[str, Any]]) -> None:
        """Take published items and see to it that they are sent."""
        if not self.take(items):
            self.want_snapshot()
        self._wake.set()

    def missed(self) -> None:
        """Make good what was lost on its way here."""
        self.want_snapshot()

    def want_snapshot(self) -> None:
        """Send a snapshot at once, or when the last one is a second old."""
        self._snapshot_wanted = True
        self._wake.set()

    def _start(self, coroutine: Any, name: str) -> None:
        task = asyncio.get_running_loop().create_task(coroutine, name=name)
        task.add_done_callback(self._task_ended)
        self._tasks.append(task)

    def _task_ended(self, task: asyncio.Task[None]) -> None:
        if task.cancelled() or task.exception() is None or self._closed:
            return
        if isinstance(task.exception(), OSError | TimeoutError):  # the page is gone, or takes nothing any more
            logger.info("live page: a page of user %s went away", self.scope["user"].pk)
        else:
            logger.error("live page: %s failed; the socket is closed", task.get_name(), exc_info=task.exception())
        self._tasks.append(asyncio.get_running_loop().create_task(self._close(1011)))

    async def _pump(self) -> None:
        """Send what is due, then rest one frame interval; whatever comes meanwhile is merged into the next frame."""
        loop = asyncio.get_running_loop()
        heartbeat_at = loop.time() + self.heartbeat_seconds
        while not self._closed:
            until = min(heartbeat_at, self._snapshot_not_before) if self._snapshot_wanted else heartbeat_at
            await self._wait_for_work(min(until - loop.time(), self.look_in()))
            if self.look_in() <= 0:
                self.look()
            now = loop.time()
            if self._snapshot_wanted and now >= self._snapshot_not_before:
                self._snapshot_not_before = now + self.snapshot_interval_seconds
                self._snapshot_wanted = False
                await self._send_snapshot()
            elif self.has_changes():
                await self.send_changes()
            elif now >= heartbeat_at:
                await self.send_frame("heartbeat", {"server_time": time.time()})
            else:
                continue
            heartbeat_at = loop.time() + self.heartbeat_seconds
            await asyncio.sleep(self.frame_interval_seconds)

    async def _wait_for_work(self, seconds: float) -> None:
        if self.has_changes() or seconds <= 0:
            return
        self._wake.clear()
        try:
            async with asyncio.timeout(seconds):
                await self._wake.wait()
        except TimeoutError:
            pass

    async def _send_snapshot(self) -> None:
        try:
            data = await self.snapshot()
        except Exception:
            logger.exception("live page: the snapshot could not be read")
            self._snapshot_wanted = True
            self._snapshot_not_before = asyncio.get_running_loop().time() + 2 * self.snapshot_interval_seconds
            await self.send_frame("error", {"message": "The snapshot could not be read; trying again in 2 s."})
            return
        await self.send_frame("snapshot", data)

    async def _watch_session(self) -> None:
        """Close the socket when its session ends: logout, expiry, changed password, deactivated user."""
        session_key, user_id = self.scope["session"].session_key, self.scope["user"].pk
        while True:
            await asyncio.sleep(self.session_check_seconds)
            try:
                valid = await session_watch().is_valid(session_key, user_id)
            except Exception as error:
                # Who cannot be checked is not shown anything; the page polls and comes back.
                logger.warning("live page: the session could not be checked (%s); the socket is closed", error)
                await self._close(TRY_AGAIN_LATER)
                return
            if not valid:
                await self._close(SIGNED_OUT)
                return

    async def send_frame(self, kind: str, data: Mapping[str, Any]) -> None:
        async with self._sending, asyncio.timeout(self.send_timeout_seconds):
            if self._closed:
                return
            self._sequence += 1
            frame = {"type": kind, "data": data, "timestamp": time.time(), "sequence": self._sequence}
            await self.send(text_data=msgspec.json.encode(frame).decode())

    async def _close(self, code: int) -> None:
        if self._closed:
            return
        self._closed = True
        with suppress(OSError):  # it went away by itself
            await self.close(code=code)


def input_refusal(text: str | None) -> str:
    """Return why a page's message is not understood, or an empty string when it asks for a snapshot."""
    if text is None:
        return 'binary messages are not understood; send {"type": "snapshot"} as text'
    if len(text) > MAX_INPUT_CHARACTERS:
        return f"a message has at most {MAX_INPUT_CHARACTERS} characters (given {len(text)})"
    try:
        message = msgspec.json.decode(text)
    except ValueError:
        return 'the message is not JSON; the only one understood is {"type": "snapshot"}'
    if not isinstance(message, dict) or message.get("type") != "snapshot":
        return 'the only message understood is {"type": "snapshot"}'
    return ""
