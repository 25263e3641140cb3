"""The live page's WebSocket: a snapshot, then what changed, at most ten frames a second.

Messages are described in docs/live-messages.md and typed in :mod:`bots.live_schema`.
"""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import Iterable, Mapping
from contextlib import suppress
from typing import Any
from urllib.parse import parse_qs

import msgspec
from channels.db import database_sync_to_async
from channels.generic.websocket import AsyncWebsocketConsumer
from django.conf import settings

from bots import live_snapshot
from bots.live_cache import PUBLIC_GROUP, ensure_listening

logger = logging.getLogger(__name__)

# Close codes; 4000-4999 are an application's own (RFC 6455, section 7.4.2).
SIGNED_OUT = 4401
NOT_ALLOWED = 4403
TOO_MANY_MESSAGES = 4429
TRY_AGAIN_LATER = 1013

# The only thing a page may say is {"type": "snapshot"}.
MAX_INPUT_CHARACTERS = 256
INPUT_WINDOW_SECONDS = 10.0
MAX_INPUTS_PER_WINDOW = 30


class PendingItems:
    """What a page has not been sent yet: the latest item of each kind and key.

    Bounded: beyond ``limit`` items nothing is kept and ``overflowed`` says that a snapshot is due instead.
    """

    def __init__(self, limit: int = 5_000) -> None:
        self._limit = limit
        self._items: dict[tuple[str, str], Mapping[str, Any]] = {}
        self.overflowed = False

    def __bool__(self) -> bool:
        return bool(self._items)

    def __len__(self) -> int:
        return len(self._items)

    def merge(self, items: Iterable[Mapping[str, Any]]) -> None:
        for item in items:
            self._items[item["kind"], item["key"]] = item
        if len(self._items) > self._limit:
            self._items.clear()
            self.overflowed = True

    def take(self) -> list[Mapping[str, Any]]:
        taken = list(self._items.values())
        self._items.clear()
        return taken


class LiveConsumer(AsyncWebsocketConsumer):
    """One open page."""

    frame_interval_seconds = 0.1
    heartbeat_seconds = 2.0
    snapshot_interval_seconds = 1.0
    session_check_seconds = 5.0
    # A page that takes nothing for this long is gone or hopeless; it may come back and start with a snapshot.
    send_timeout_seconds = 20.0

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self.groups: list[str] = []
        self.owner_id = 0
        self._sequence = 0
        self._pending = PendingItems()
        self._snapshot_wanted = True
        self._snapshot_not_before = 0.0
        self._wake = asyncio.Event()
        self._sending = asyncio.Lock()  # frames leave in the order of their numbers
        self._tasks: list[asyncio.Task[None]] = []
        self._streams: dict[str, int] = {}
        self._inputs_since = 0.0
        self._inputs = 0
        self._closed = False

    async def connect(self) -> None:
        # Accepted first even when refused: a browser is only told the close code of a socket that was open.
        await self.accept()
        user = self.scope.get("user")
        if user is None or not user.is_authenticated:
            await self._close(SIGNED_OUT)
            return
        owner = await database_sync_to_async(live_snapshot.find_owner)(user=user, requested=self._requested_owner())
        if owner is None:
            await self._close(NOT_ALLOWED)
            return
        self.owner_id = owner.pk
        try:
            for group in (PUBLIC_GROUP, live_snapshot.owner_group(owner.pk)):
                await self.channel_layer.group_add(group, self.channel_name)
                self.groups.append(group)
            ensure_listening()
        except (OSError, ConnectionError) as error:
            logger.warning("live page: the channel layer failed (%s); the page will poll", error)
            await self._close(TRY_AGAIN_LATER)
            return
        now = time.time()
        await self._send_frame(
            "connected",
            {
                "user": user.get_username(),
                "owner": owner.get_username(),
                "mode": settings.ARB_SHAPE,
                "server_time": now,
            },
        )
        self._start(self._pump(), "live-pump")
        self._start(self._watch_session(), "live-session")

    async def disconnect(self, code: int) -> None:
        self._closed = True
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
            await self._send_frame(
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
            await self._send_frame("error", {"message": refusal})
            return
        # Answered by the pump: at once, or when the last one is a second old; requests in between share the answer.
        self._snapshot_wanted = True
        self._wake.set()

    async def live_items(self, message: Mapping[str, Any]) -> None:
        """Take a published batch: ``items``, and optionally ``stream`` and ``number`` to notice lost batches by."""
        stream, number = message.get("stream"), message.get("number")
        if stream is not None and number is not None:
            last = self._streams.get(stream)
            self._streams[stream] = number
            if last is not None and number != last + 1:
                self._snapshot_wanted = True
            while len(self._streams) > 16:  # publishers come and go; the oldest is gone
                del self._streams[next(iter(self._streams))]
        self._pending.merge(message["items"])
        if self._pending.overflowed:
            self._pending.overflowed = False
            self._snapshot_wanted = True
        self._wake.set()

    def _requested_owner(self) -> str | None:
        values = parse_qs(self.scope.get("query_string", b"").decode("ascii", "replace")).get("owner")
        return values[0] if values else None

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
            await self._wait_for_work(until - loop.time())
            now = loop.time()
            if self._snapshot_wanted and now >= self._snapshot_not_before:
                self._snapshot_not_before = now + self.snapshot_interval_seconds
                self._snapshot_wanted = False
                await self._send_snapshot()
            elif self._pending:
                await self._send_frame("update", {"items": self._pending.take()})
            elif now >= heartbeat_at:
                await self._send_frame("heartbeat", {"server_time": time.time()})
            else:
                continue
            heartbeat_at = loop.time() + self.heartbeat_seconds
            await asyncio.sleep(self.frame_interval_seconds)

    async def _wait_for_work(self, seconds: float) -> None:
        if self._pending or seconds <= 0:
            return
        self._wake.clear()
        try:
            async with asyncio.timeout(seconds):
                await self._wake.wait()
        except TimeoutError:
            pass

    async def _send_snapshot(self) -> None:
        # What is pending may be newer than what the database read returns, so it is kept and follows.
        try:
            data = await database_sync_to_async(live_snapshot.snapshot)(owner_id=self.owner_id)
        except Exception:
            logger.exception("live page: the snapshot could not be read")
            self._snapshot_wanted = True
            self._snapshot_not_before = asyncio.get_running_loop().time() + 2 * self.snapshot_interval_seconds
            await self._send_frame("error", {"message": "The snapshot could not be read; trying again in 2 s."})
            return
        await self._send_frame("snapshot", data)

    async def _watch_session(self) -> None:
        """Close the socket when its session ends: logout, expiry, changed password, deactivated user."""
        check = database_sync_to_async(live_snapshot.session_is_valid)
        while True:
            await asyncio.sleep(self.session_check_seconds)
            try:
                valid = await check(session_key=self.scope["session"].session_key, user_id=self.scope["user"].pk)
            except Exception as error:
                # Who cannot be checked is not shown anything; the page polls and comes back.
                logger.warning("live page: the session could not be checked (%s); the socket is closed", error)
                await self._close(TRY_AGAIN_LATER)
                return
            if not valid:
                await self._close(SIGNED_OUT)
                return

    async def _send_frame(self, kind: str, data: Mapping[str, Any]) -> None:
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
