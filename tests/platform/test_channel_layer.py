"""The embedded channel layer across threads and event loops."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Iterator

import pytest
from channels.layers import InMemoryChannelLayer

from arbplatform.channel_layers import LoopSafeInMemoryChannelLayer


class LoopThread:
    """An event loop on a thread of its own."""

    def __init__(self) -> None:
        self.loop = asyncio.new_event_loop()
        self._thread = threading.Thread(target=self.loop.run_forever, daemon=True)
        self._thread.start()

    def call(self, coroutine, timeout: float = 10):
        return asyncio.run_coroutine_threadsafe(coroutine, self.loop).result(timeout)

    def close(self) -> None:
        self.loop.call_soon_threadsafe(self.loop.stop)
        self._thread.join(10)
        self.loop.close()


@pytest.fixture
def other() -> Iterator[LoopThread]:
    thread = LoopThread()
    yield thread
    thread.close()


async def join(layer: LoopSafeInMemoryChannelLayer, group: str) -> str:
    channel = await layer.new_channel()
    await layer.group_add(group, channel)
    return channel


async def test_a_message_from_the_same_loop_arrives() -> None:
    layer = LoopSafeInMemoryChannelLayer()
    channel = await join(layer, "g")
    await layer.group_send("g", {"type": "x", "n": 1})
    assert await layer.receive(channel) == {"type": "x", "n": 1}


async def test_a_waiting_receiver_is_woken_by_a_sender_on_another_loop(other: LoopThread) -> None:
    layer = LoopSafeInMemoryChannelLayer()
    channel = await join(layer, "g")
    waiting = asyncio.create_task(layer.receive(channel))
    await asyncio.sleep(0)  # it waits now, and this loop has nothing else that would wake it
    loop = asyncio.get_running_loop()
    sender = loop.run_in_executor(None, other.call, layer.group_send("g", {"type": "x"}))
    assert await asyncio.wait_for(waiting, 5) == {"type": "x"}
    await sender


async def test_every_member_of_a_group_hears_it_whatever_its_loop(other: LoopThread) -> None:
    layer = LoopSafeInMemoryChannelLayer()
    here = await join(layer, "g")
    loop = asyncio.get_running_loop()
    there = await loop.run_in_executor(None, other.call, join(layer, "g"))
    await layer.group_send("g", {"type": "x"})
    assert await layer.receive(here) == {"type": "x"}
    assert await loop.run_in_executor(None, other.call, layer.receive(there)) == {"type": "x"}


async def test_messages_from_one_sender_keep_their_order(other: LoopThread) -> None:
    layer = LoopSafeInMemoryChannelLayer(capacity=1000)
    channel = await join(layer, "g")

    async def send() -> None:
        for n in range(200):
            await layer.group_send("g", {"type": "x", "n": n})

    loop = asyncio.get_running_loop()
    sender = loop.run_in_executor(None, other.call, send())
    received = [(await asyncio.wait_for(layer.receive(channel), 5))["n"] for _ in range(200)]
    await sender
    assert received == list(range(200))


async def test_a_full_receiver_holds_nobody_up() -> None:
    layer = LoopSafeInMemoryChannelLayer(capacity=2)
    slow, quick = await join(layer, "g"), await join(layer, "g")
    for n in range(5):
        await layer.group_send("g", {"type": "x", "n": n})
        assert (await layer.receive(quick))["n"] == n
    assert [(await layer.receive(slow))["n"] for _ in range(2)] == [0, 1]


async def test_a_receiver_whose_loop_has_ended_is_forgotten() -> None:
    layer = LoopSafeInMemoryChannelLayer()
    gone = LoopThread()
    loop = asyncio.get_running_loop()
    await loop.run_in_executor(None, gone.call, join(layer, "g"))
    await loop.run_in_executor(None, gone.close)
    await layer.group_send("g", {"type": "x"})
    assert not layer.groups.get("g")


async def test_leaving_the_last_group_frees_the_channel() -> None:
    layer = LoopSafeInMemoryChannelLayer()
    channel = await join(layer, "g")
    await layer.group_discard("g", channel)
    assert layer._loops == {}
    assert layer.groups == {}


async def test_what_the_sender_changes_afterwards_reaches_nobody() -> None:
    layer = LoopSafeInMemoryChannelLayer()
    channel = await join(layer, "g")
    message = {"type": "x", "items": [{"n": 1}]}
    await layer.group_send("g", message)
    message["items"][0]["n"] = 2
    assert await layer.receive(channel) == {"type": "x", "items": [{"n": 1}]}


async def test_receivers_of_one_loop_share_one_copy(other: LoopThread) -> None:
    layer = LoopSafeInMemoryChannelLayer()
    first, second = await join(layer, "g"), await join(layer, "g")
    loop = asyncio.get_running_loop()
    for send in (layer.group_send, lambda *sent: loop.run_in_executor(None, other.call, layer.group_send(*sent))):
        await send("g", {"type": "x"})
        assert await layer.receive(first) is await layer.receive(second)


async def test_a_sender_that_gave_up_waiting_for_a_busy_loop_is_not_told(other: LoopThread) -> None:
    layer = LoopSafeInMemoryChannelLayer()
    loop = asyncio.get_running_loop()
    channel = await loop.run_in_executor(None, other.call, join(layer, "g"))
    go_on = threading.Event()
    other.loop.call_soon_threadsafe(go_on.wait)
    with pytest.raises(TimeoutError):
        async with asyncio.timeout(0.01):
            await layer.group_send("g", {"type": "x"})
    go_on.set()
    assert await loop.run_in_executor(None, other.call, layer.receive(channel)) == {"type": "x"}


async def test_what_expired_is_looked_for_once_a_second_not_with_each_message(monkeypatch: pytest.MonkeyPatch) -> None:
    layer = LoopSafeInMemoryChannelLayer()
    looks = 0

    def look(self: InMemoryChannelLayer) -> None:
        nonlocal looks
        looks += 1

    monkeypatch.setattr(InMemoryChannelLayer, "_clean_expired", look)
    now = 100.0
    monkeypatch.setattr("arbplatform.channel_layers.time.monotonic", lambda: now)
    channel = await join(layer, "g")
    for now, looked in ((100.0, 1), (100.9, 1), (101.1, 2)):  # noqa: B007 (read by the clock above)
        await layer.group_send("g", {"type": "x"})
        await layer.receive(channel)
        assert looks == looked
