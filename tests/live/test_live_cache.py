"""What a process hears for its pages, and the market data it knows."""

from __future__ import annotations

import asyncio
import sys
import threading
from collections.abc import AsyncIterator, Callable, Iterable, Mapping
from typing import Any

import pytest
from channels.layers import channel_layers

from arbplatform.channel_layers import LoopSafeInMemoryChannelLayer
from bots import live_cache
from bots.live_cache import FORGET_SECONDS, LastKnown, NotHeard
from tests.live.items import feed, pnl, publish, quote, trade


class Clock:
    now = 1_760_000_000.0

    def __call__(self) -> float:
        return self.now


def test_the_last_quote_of_each_market_is_known() -> None:
    known = LastKnown()
    known.remember([quote(bid=1.0), quote("okx-sim", bid=2.0)])
    known.remember([quote(bid=3.0)])
    assert {data["exchange"]: data["bid"] for data in known.latest("quote")} == {"binance-sim": 3.0, "okx-sim": 2.0}
    assert known.latest("feed") == []


def test_what_belongs_to_an_owner_is_not_kept() -> None:
    known = LastKnown()
    known.remember([trade(), feed()])
    assert known.latest("trade") == []
    assert len(known.latest("feed")) == 1


def test_the_longest_unchanged_goes_when_there_are_too_many() -> None:
    known = LastKnown(max_items=3)
    for number in range(3):
        known.remember([quote(f"e{number}")])
    known.remember([quote("e0")])
    known.remember([quote("e3")])
    assert {data["exchange"] for data in known.latest("quote")} == {"e0", "e2", "e3"}


def test_a_market_nobody_publishes_any_more_is_forgotten() -> None:
    clock = Clock()
    known = LastKnown(wall_time=clock)
    known.remember([quote("gone")])
    clock.now += FORGET_SECONDS - 1
    known.remember([quote("here")])
    clock.now += 2
    assert [data["exchange"] for data in known.latest("quote")] == ["here"]


@pytest.mark.database
async def test_a_process_without_an_open_page_learns_the_market_data_too() -> None:
    live_cache.ensure_listening()
    live_cache.ensure_listening()  # once is enough
    try:
        async with asyncio.timeout(10):
            while not live_cache.last_known.latest("quote"):
                await publish(quote())
                await asyncio.sleep(0.01)
    finally:
        live_cache.stop_listening()


def test_one_key_is_known_as_long_as_all_of_its_kind() -> None:
    clock = Clock()
    known = LastKnown(wall_time=clock)
    known.remember([quote("gone")])
    key = quote("gone")["key"]
    assert known.get("quote", key) is known.latest("quote")[0]
    assert known.get("quote", "another") is None
    assert known.get("feed", key) is None
    clock.now += FORGET_SECONDS + 1
    assert known.get("quote", key) is None


def test_it_is_read_on_another_thread_while_more_is_remembered() -> None:
    known = LastKnown()
    quotes = [quote(f"e{number}") for number in range(3_000)]
    known.remember(quotes)
    problems: list[BaseException] = []
    done = threading.Event()

    def read() -> None:
        try:
            while not done.is_set():
                known.latest("quote")
        except BaseException as problem:
            problems.append(problem)

    reader = threading.Thread(target=read)
    before = sys.getswitchinterval()
    sys.setswitchinterval(1e-6)
    try:
        reader.start()
        for _ in range(20):
            known.remember(quotes)
    finally:
        sys.setswitchinterval(before)
        done.set()
        reader.join(10)
    assert problems == []


class Hearer:
    """Who is told, and what of."""

    def __init__(self) -> None:
        self.items: list[tuple[str, str]] = []
        self.misses = 0

    def hear(self, items: Iterable[Mapping[str, Any]]) -> None:
        self.items += [(item["kind"], item["key"]) for item in items]

    def missed(self) -> None:
        self.misses += 1


class Flaky(LoopSafeInMemoryChannelLayer):
    """A layer that can be switched off."""

    away = False
    heard = 0

    async def group_add(self, group: str, channel: str) -> None:
        if self.away:
            raise ConnectionError("no route to the layer")
        await super().group_add(group, channel)

    async def receive(self, channel: str) -> dict[str, Any]:
        message = await super().receive(channel)
        if self.away:
            raise ConnectionError("no route to the layer")
        self.heard += 1
        return message


@pytest.fixture
async def layer() -> AsyncIterator[Flaky]:
    channel_layers.backends["default"] = made = Flaky()
    yield made
    live_cache.stop_listening()


async def until(done: Callable[[], object]) -> None:
    async with asyncio.timeout(10):
        while not done():  # noqa: ASYNC110
            await asyncio.sleep(0.005)


async def test_a_group_is_heard_once_for_all_its_pages(layer: Flaky) -> None:
    pages = [Hearer() for _ in range(3)]
    for page in pages:
        await live_cache.join(page, owner_id=7)
    await publish(trade("t"), owner=7)
    await publish(trade("another's"), owner=8)
    await publish(quote())
    await until(lambda: all(len(page.items) == 2 for page in pages))
    assert {kind for page in pages for kind, _ in page.items} == {"trade", "quote"}
    assert layer.heard == 2


async def test_of_what_is_everybodys_a_page_hears_the_kinds_it_wants(layer: Flaky) -> None:
    some, everything = Hearer(), Hearer()
    await live_cache.join(some, owner_id=7, public_kinds=frozenset({"feed"}))
    await live_cache.join(everything, owner_id=7)
    await publish(quote(), feed())
    await publish(quote())
    await until(lambda: len(everything.items) == 3)
    assert [kind for kind, _ in some.items] == ["feed"]


async def test_who_left_hears_no_more_and_is_not_kept(layer: Flaky) -> None:
    gone, here = Hearer(), Hearer()
    for page in (gone, here):
        await live_cache.join(page, owner_id=7)
    live_cache.leave(gone, owner_id=7)
    await publish(trade("t"), owner=7)
    await until(lambda: here.items)
    assert gone.items == []


async def test_a_lost_message_is_missed_by_all_who_listen_and_by_nobody_who_came_later(layer: Flaky) -> None:
    early, late = Hearer(), Hearer()
    await live_cache.join(early, owner_id=7)
    await publish(pnl("1"), owner=7, stream="engine:7", number=1)
    await publish(pnl("1"), owner=7, stream="another:7", number=9)
    await publish(pnl("3"), owner=7, stream="engine:7", number=3)
    await until(lambda: early.misses)
    await live_cache.join(late, owner_id=7)
    await publish(pnl("4"), owner=7, stream="engine:7", number=4)
    await until(lambda: late.items)
    assert (early.misses, late.misses) == (1, 0)


async def test_while_the_channel_layer_is_away_nobody_joins(layer: Flaky) -> None:
    layer.away = True
    page = Hearer()
    with pytest.raises(NotHeard, match="no route"):
        await live_cache.join(page, owner_id=7)
    layer.away = False


async def test_when_the_channel_layer_is_back_pages_know_that_they_missed_something(
    layer: Flaky, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(live_cache, "LISTEN_AGAIN_SECONDS", 0.01)
    page = Hearer()
    await live_cache.join(page, owner_id=7)
    layer.away = True
    await publish(trade("lost"), owner=7)
    await until(lambda: "live.owner.7" not in layer.groups)
    assert (page.items, page.misses) == ([], 0)
    layer.away = False
    await until(lambda: page.misses == 1)
    await publish(trade("heard"), owner=7)
    await until(lambda: page.items)
    assert [key for _, key in page.items] == ["heard"]


async def test_an_owner_is_heard_until_nobody_has_asked_for_a_while(
    layer: Flaky, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(live_cache, "OWNERS_LOOK_SECONDS", 0.01)
    page = Hearer()
    await live_cache.join(page, owner_id=7)
    live_cache.follow_owner(8)
    await until(lambda: layer.groups.keys() >= {"live.owner.7", "live.owner.8"})
    monkeypatch.setattr(live_cache, "OWNER_SECONDS", 0.0)
    await until(lambda: "live.owner.8" not in layer.groups)
    assert "live.owner.7" in layer.groups  # a page shows it
    live_cache.leave(page, owner_id=7)
    await until(lambda: "live.owner.7" not in layer.groups)
