"""Live updates: the newest value of each key, in batches, whatever the channel layer does."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator
from itertools import pairwise
from random import Random

import pytest
from channels.layers import get_channel_layer

from arbplatform.channel_layers import LoopSafeInMemoryChannelLayer
from bots.engine_host.publisher import ChannelPublisher
from tests.simulation.loop import VirtualLoop
from trading.tasks import end_tasks


class Flaky(LoopSafeInMemoryChannelLayer):
    """A layer that can be switched off."""

    away = False

    async def group_send(self, group, message):
        if self.away:
            raise ConnectionError("no route to the layer")
        await super().group_send(group, message)


class Page:
    def __init__(self, layer, channel: str) -> None:
        self._layer, self._channel = layer, channel

    async def message(self) -> dict:
        return await self._layer.receive(self._channel)

    async def items(self) -> list[tuple[str, str, dict]]:
        return [(item["kind"], item["key"], item["data"]) for item in (await self.message())["items"]]


async def page(layer, group: str) -> Page:
    channel = await layer.new_channel()
    await layer.group_add(group, channel)
    return Page(layer, channel)


@pytest.fixture
def layer() -> Flaky:
    return Flaky()


@pytest.fixture
def publisher(layer: Flaky) -> ChannelPublisher:
    return ChannelPublisher(stream="host-1", layer=layer)


async def test_of_each_key_only_the_newest_value_is_sent(layer, publisher) -> None:
    everybody = await page(layer, "live.public")
    for bid in (1, 2, 3):
        publisher.publish(None, "quote", "a:BTC/USDT", {"bid": bid})
    publisher.publish(None, "quote", "b:BTC/USDT", {"bid": 9})
    await publisher.flush()
    assert await everybody.items() == [("quote", "a:BTC/USDT", {"bid": 3}), ("quote", "b:BTC/USDT", {"bid": 9})]


async def test_an_owner_hears_only_what_is_theirs(layer, publisher) -> None:
    anna, ben = await page(layer, "live.owner.1"), await page(layer, "live.owner.2")
    publisher.publish(1, "bot", "7", {"name": "Anna's"})
    publisher.publish(2, "bot", "8", {"name": "Ben's"})
    await publisher.flush()
    assert await anna.items() == [("bot", "7", {"name": "Anna's"})]
    assert await ben.items() == [("bot", "8", {"name": "Ben's"})]


async def test_messages_are_numbered_for_each_group_so_that_a_loss_is_noticed(layer, publisher) -> None:
    anna, everybody = await page(layer, "live.owner.1"), await page(layer, "live.public")
    for value in range(3):
        publisher.publish(1, "bot", "7", {"value": value})
        publisher.publish(None, "quote", "a", {"value": value})
        await publisher.flush()
    for listener in (anna, everybody):
        messages = [await listener.message() for _ in range(3)]
        assert [message["number"] for message in messages] == [1, 2, 3]
        assert len({message["stream"] for message in messages}) == 1


async def test_a_large_batch_is_split(layer, publisher) -> None:
    everybody = await page(layer, "live.public")
    publisher.batch = 10
    for number in range(25):
        publisher.publish(None, "quote", str(number), {"n": number})
    await publisher.flush()
    assert [len(await everybody.items()) for _ in range(3)] == [10, 10, 5]


async def test_what_the_layer_did_not_take_is_sent_when_it_is_back_unless_newer_came(layer, publisher) -> None:
    everybody = await page(layer, "live.public")
    layer.away = True
    publisher.publish(None, "quote", "old", {"n": 1})
    publisher.publish(None, "quote", "changed", {"n": 1})
    await publisher.flush()
    publisher.publish(None, "quote", "changed", {"n": 2})
    layer.away = False
    await publisher.flush()
    assert sorted(await everybody.items()) == [("quote", "changed", {"n": 2}), ("quote", "old", {"n": 1})]


async def test_while_the_layer_is_away_the_oldest_keys_go_first(layer, publisher) -> None:
    everybody = await page(layer, "live.public")
    publisher.max_waiting = 3
    layer.away = True
    for number in range(3):
        publisher.publish(None, "quote", str(number), {})
    await publisher.flush()
    publisher.publish(None, "quote", "0", {})  # the newest now
    publisher.publish(None, "quote", "3", {})
    layer.away = False
    await publisher.flush()
    keys = {key for _, key, _ in await everybody.items()}
    assert {"0", "3"} <= keys
    assert len(keys) == 3
    assert publisher.dropped == 1


async def test_an_outage_is_logged_once(layer, publisher, caplog) -> None:
    layer.away = True
    for number in range(5):
        publisher.publish(None, "quote", "a", {"n": number})
        await publisher.flush()
    assert len([record for record in caplog.records if "not reached" in record.getMessage()]) == 1


class Timed(LoopSafeInMemoryChannelLayer):
    """A layer that notes when each group was told, by the clock of the loop."""

    def __init__(self) -> None:
        super().__init__()
        self.told: list[tuple[float, str]] = []

    async def group_send(self, group, message):
        self.told.append((asyncio.get_running_loop().time(), group))
        await super().group_send(group, message)

    def gaps(self, group: str) -> list[float]:
        times = [at for at, name in self.told if name == group]
        return [later - earlier for earlier, later in pairwise(times)]


@pytest.fixture
def virtual() -> Iterator[VirtualLoop]:
    loop = VirtualLoop(Random(0), step_seconds=0.0)
    yield loop
    loop.close()


def test_what_happens_alone_waits_a_moment_and_what_keeps_happening_an_interval(virtual: VirtualLoop) -> None:
    layer = Timed()

    async def scene() -> None:
        publisher = ChannelPublisher(stream="host-1", layer=layer)
        running = asyncio.create_task(publisher.run())
        await asyncio.sleep(5)
        published_at = virtual.time()
        publisher.publish(1, "trade", "t", {})
        for number in range(200):  # a second of quotes
            publisher.publish(None, "quote", "a", {"n": number})
            await asyncio.sleep(0.005)
        await asyncio.sleep(1)
        await end_tasks((running,), again=0.05)
        [alone] = [at for at, group in layer.told if group == "live.owner.1"]
        assert alone - published_at == pytest.approx(publisher.gather_seconds)
        gaps = layer.gaps("live.public")
        assert len(gaps) >= 8
        assert min(gaps) >= publisher.interval_seconds - publisher.gather_seconds / 2
        assert max(gaps) <= publisher.interval_seconds + publisher.gather_seconds

    virtual.run_until_complete(scene())


def test_owners_whose_news_come_apart_are_told_apart(virtual: VirtualLoop) -> None:
    layer = Timed()

    async def scene() -> None:
        publisher = ChannelPublisher(stream="host-1", layer=layer)
        running = asyncio.create_task(publisher.run())
        for turn in range(3):
            for owner in range(10):
                publisher.publish(owner, "health", str(owner), {"turn": turn})
                await asyncio.sleep(0.1)
        await end_tasks((running,), again=0.05)
        assert len({round(at, 3) for at, _ in layer.told}) == len(layer.told)

    virtual.run_until_complete(scene())


async def test_one_owners_flood_costs_no_other_owners_news(layer, publisher) -> None:
    ben = await page(layer, "live.owner.2")
    publisher.max_waiting = 3
    publisher.publish(2, "bot", "8", {"name": "Ben's"})
    for number in range(10):
        publisher.publish(1, "bot", str(number), {})
    await publisher.flush()
    assert await ben.items() == [("bot", "8", {"name": "Ben's"})]
    assert publisher.dropped == 8


@pytest.mark.services
async def test_it_ends_while_it_sends_through_redis() -> None:
    # A cancellation that meets a send is lost in redis-py's use of asyncio.wait_for (Python 3.11): without a second
    # one the publisher went on, and its host did not end.
    layer = get_channel_layer()
    for number in range(60):
        publisher = ChannelPublisher(stream=f"host-{number}", layer=layer)
        publisher.interval_seconds = publisher.gather_seconds = 0.0
        running = asyncio.create_task(publisher.run())
        feeding = asyncio.create_task(keep_publishing(publisher))
        await asyncio.sleep(0.002 + number / 30_000)
        await end_tasks((running, feeding), again=0.05)
        assert running.cancelled()
    await layer.flush()


async def keep_publishing(publisher: ChannelPublisher) -> None:
    while True:
        publisher.publish(None, "quote", "a:BTC/USDT", {"text": "x" * 2_000})
        await asyncio.sleep(0)
