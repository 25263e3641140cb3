"""What this process hears for its pages: every group of the channel layer once, whoever is told of it.

Last known quotes, feeds and engines' health are kept for snapshots: none of these is in the database. Whoever publishes
sends each at least once a second, so a process that has just begun to listen knows them all a second later. Health is
its owner's: an owner's group is heard while a page shows it, or somebody has asked for it lately.
"""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import Callable, Iterable, Mapping
from contextlib import suppress
from typing import Any, Protocol

from channels.layers import get_channel_layer

logger = logging.getLogger(__name__)

PUBLIC_GROUP = "live.public"


def owner_group(owner_id: int) -> str:
    """Return the channel-layer group of one owner's updates."""
    return f"live.owner.{owner_id}"


PUBLIC_KEPT = frozenset({"quote", "feed"})
OWNERS_KEPT = frozenset({"health"})
KEPT_KINDS = PUBLIC_KEPT | OWNERS_KEPT
# A market that is no longer published is forgotten; until then the page shows its age.
FORGET_SECONDS = 300.0
# Markets of every exchange together; beyond it the longest unchanged goes.
MAX_ITEMS = 5_000
LISTEN_AGAIN_SECONDS = 1.0
# An owner nobody has asked for in this time is no longer listened to.
OWNER_SECONDS = 120.0
OWNERS_LOOK_SECONDS = 5.0
NEW_SECONDS = 3.0
QUOTES_WAIT_SECONDS = 1.5
MAX_STREAMS = 16  # of one group: publishers come and go


class LastKnown:
    """Latest item of each kind and key, bounded in number and in age. Written on one thread, read on any."""

    def __init__(self, *, max_items: int = MAX_ITEMS, wall_time: Callable[[], float] = time.time) -> None:
        self._max_items = max_items
        self._wall_time = wall_time
        # By kind, then by key: when it came, and its data; the longest unchanged first.
        self._items: dict[str, dict[str, tuple[float, Mapping[str, Any]]]] = {kind: {} for kind in KEPT_KINDS}

    def remember(self, items: Iterable[Mapping[str, Any]]) -> None:
        """Keep what is not stored of a published batch; the rest is not this cache's business."""
        now = self._wall_time()
        for item in items:
            known = self._items.get(item["kind"])
            if known is not None:
                known.pop(item["key"], None)
                known[item["key"]] = (now, item["data"])
        for known in self._items.values():
            while known and _oldest(known)[1] < now - FORGET_SECONDS:
                del known[_oldest(known)[0]]
        for _ in range(sum(map(len, self._items.values())) - self._max_items):
            longest = min((known for known in self._items.values() if known), key=lambda known: _oldest(known)[1])
            del longest[_oldest(longest)[0]]

    def latest(self, kind: str) -> list[Mapping[str, Any]]:
        """Return the last data of every key of ``kind`` that was published lately."""
        oldest = self._wall_time() - FORGET_SECONDS
        # The list first, in one step: snapshots are read on other threads while more is remembered.
        return [data for at, data in list(self._items.get(kind, {}).values()) if at >= oldest]

    def get(self, kind: str, key: str) -> Mapping[str, Any] | None:
        """Return the last data of one key, None if it was not published lately."""
        found = self._items.get(kind, {}).get(key)
        return found[1] if found is not None and found[0] >= self._wall_time() - FORGET_SECONDS else None

    def clear(self) -> None:
        for known in self._items.values():
            known.clear()


def _oldest(known: Mapping[str, tuple[float, Mapping[str, Any]]]) -> tuple[str, float]:
    key = next(iter(known))
    return key, known[key][0]


last_known = LastKnown()


class Listener(Protocol):
    """Who is told of what is published, on the loop that hears it. Listeners share the items and don't change them."""

    def hear(self, items: Iterable[Mapping[str, Any]]) -> None: ...

    def missed(self) -> None:
        """Something was published that this process did not hear."""


class NotHeard(Exception):
    """The channel layer is away: what is published does not reach this process now."""


class _Group:
    """One group of the channel layer, heard once for all who listen.

    A message is ``items``, and optionally ``stream`` and ``number`` to notice lost ones by.
    """

    def __init__(self, name: str, kept: frozenset[str]) -> None:
        self._name, self._kept = name, kept
        self._listeners: dict[Listener, frozenset[str] | None] = {}
        self._streams: dict[str, int] = {}
        self._trial: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self.asked_at = time.monotonic()
        self.task = asyncio.get_running_loop().create_task(self._hear(), name=f"live-{name}")

    @property
    def is_wanted(self) -> bool:
        return bool(self._listeners) or time.monotonic() - self.asked_at < OWNER_SECONDS

    def add(self, listener: Listener, kinds: frozenset[str] | None) -> None:
        """Tell ``listener`` of items from now on: of these kinds, or of all."""
        self._listeners[listener] = kinds

    def remove(self, listener: Listener) -> None:
        if self._listeners.pop(listener, None) is not None:
            self.asked_at = time.monotonic()  # a page that is loaded again comes back in a moment

    async def heard(self) -> None:
        """Return once the group is heard.

        Raises
        ------
        NotHeard
            If the channel layer is away.
        """
        try:
            await asyncio.shield(self._trial)
        except asyncio.CancelledError:
            raise
        except Exception as problem:  # each layer raises errors of its own
            raise NotHeard(f"{type(problem).__name__}: {problem}") from problem

    async def _hear(self) -> None:
        while True:
            try:
                await self._hear_until_it_fails()
            except Exception as problem:
                # Redis is away, say: quotes in snapshots grow old, which pages show; everything else goes on.
                logger.warning("live pages: the channel layer failed (%s); trying again", problem)
                if self._trial.done():
                    self._trial = asyncio.get_running_loop().create_future()
                self._trial.set_exception(problem)
                self._trial.exception()  # known, also where nobody waits
            await asyncio.sleep(LISTEN_AGAIN_SECONDS)

    async def _hear_until_it_fails(self) -> None:
        layer = get_channel_layer()
        if layer is None:
            raise NotHeard("no channel layer is configured")
        channel = await layer.new_channel("live")
        await layer.group_add(self._name, channel)
        try:
            if self._trial.done():  # it had failed
                self._trial = asyncio.get_running_loop().create_future()
                self._streams.clear()
                self._miss()
            self._trial.set_result(None)
            while True:
                self._tell(await layer.receive(channel))
        finally:
            await layer.group_discard(self._name, channel)

    def _tell(self, message: Mapping[str, Any]) -> None:
        items = message.get("items", ())
        last_known.remember(item for item in items if item["kind"] in self._kept)
        if self._has_gap(message.get("stream"), message.get("number")):
            self._miss()
        # Chosen once for all who want the same: there may be thousands of quotes, and hundreds of pages without any.
        chosen: dict[frozenset[str] | None, Any] = {None: items}
        for listener, kinds in list(self._listeners.items()):
            if kinds not in chosen:
                chosen[kinds] = [item for item in items if item["kind"] in (kinds or ())]
            if chosen[kinds]:
                listener.hear(chosen[kinds])

    def _has_gap(self, stream: str | None, number: int | None) -> bool:
        """Return whether a message of its stream is missing before this one."""
        if stream is None or number is None:
            return False
        last = self._streams.pop(stream, None)
        self._streams[stream] = number
        while len(self._streams) > MAX_STREAMS:
            del self._streams[next(iter(self._streams))]
        return last is not None and number != last + 1

    def _miss(self) -> None:
        for listener in list(self._listeners):
            listener.missed()


class _Ear:
    """What one event loop of this process listens to."""

    def __init__(self) -> None:
        self.since = time.monotonic()
        self._public: _Group | None = None
        self._owners: dict[int, _Group] = {}
        self._looking: asyncio.Task[None] | None = None

    def public(self) -> _Group:
        if self._public is None:
            self._public = _Group(PUBLIC_GROUP, PUBLIC_KEPT)
        return self._public

    def owner(self, owner_id: int) -> _Group:
        group = self._owners.get(owner_id)
        if group is None:
            group = self._owners[owner_id] = _Group(owner_group(owner_id), OWNERS_KEPT)
            if self._looking is None or self._looking.done():
                self._looking = asyncio.get_running_loop().create_task(self._look(), name="live-owners")
        group.asked_at = time.monotonic()
        return group

    def leave(self, listener: Listener, owner_id: int) -> None:
        for group in (self._public, self._owners.get(owner_id)):
            if group is not None:
                group.remove(listener)

    def stop(self) -> None:
        groups = [*self._owners.values(), *([] if self._public is None else [self._public])]
        for task in (*(group.task for group in groups), self._looking):
            if task is not None:
                with suppress(RuntimeError):  # its loop has ended, and the task with it
                    task.cancel()

    async def _look(self) -> None:
        """End what nobody wants any more."""
        while self._owners:
            await asyncio.sleep(OWNERS_LOOK_SECONDS)
            for owner_id, group in list(self._owners.items()):
                if not group.is_wanted:
                    group.task.cancel()
                    del self._owners[owner_id]


_ears: dict[asyncio.AbstractEventLoop, _Ear] = {}


def ensure_listening() -> None:
    """Make this process follow the public group, so that it can answer snapshots also when no socket is open here."""
    _ear().public()


def follow_owner(owner_id: int) -> None:
    """Listen to everybody's and an owner's engine as well, for the next two minutes."""
    ear = _ear()
    ear.public()
    ear.owner(owner_id)


def is_new() -> bool:
    """Return whether this process began to listen a moment ago, so that it may not have been told everything yet."""
    return time.monotonic() - _ear().since < NEW_SECONDS


async def quotes_heard() -> None:
    """Listen for quotes until there are some; a process that has just begun to is told all of them within a second."""
    ensure_listening()
    until = time.monotonic() + QUOTES_WAIT_SECONDS
    while not last_known.latest("quote") and is_new() and time.monotonic() < until:  # noqa: ASYNC110
        await asyncio.sleep(0.05)


async def join(listener: Listener, *, owner_id: int, public_kinds: frozenset[str] | None = None) -> None:
    """Tell ``listener`` of what is published to an owner and to everybody; return once both are heard.

    ``public_kinds`` are the kinds it wants of what is everybody's; None means all.

    Raises
    ------
    NotHeard
        If the channel layer is away; ``listener`` is then told nothing.
    """
    ear = _ear()
    public, owners = ear.public(), ear.owner(owner_id)
    public.add(listener, public_kinds)
    owners.add(listener, None)
    try:
        await public.heard()
        await owners.heard()
    except BaseException:
        ear.leave(listener, owner_id)
        raise


def leave(listener: Listener, *, owner_id: int) -> None:
    """Tell it no more."""
    _ear().leave(listener, owner_id)


def stop_listening() -> None:
    """End what this process listens with."""
    for ear in _ears.values():
        ear.stop()
    _ears.clear()


def _ear() -> _Ear:
    loop = asyncio.get_running_loop()
    for known in [known for known in _ears if known.is_closed()]:
        del _ears[known]
    return _ears.setdefault(loop, _Ear())
