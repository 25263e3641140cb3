"""The last known market data of a process."""

from __future__ import annotations

import asyncio

import pytest

from bots import live_cache
from bots.live_cache import FORGET_SECONDS, LastKnown
from tests.live.items import feed, publish, quote, trade


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
    [task] = [task for loop, task in live_cache._listeners.items() if loop is asyncio.get_running_loop()]
    try:
        async with asyncio.timeout(10):
            while not live_cache.last_known.latest("quote"):
                await publish(quote())
                await asyncio.sleep(0.01)
    finally:
        task.cancel()
