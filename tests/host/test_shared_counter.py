"""Limits by address among processes, through a real Redis."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from uuid import uuid4

import pytest
import pytest_asyncio
from django.conf import settings

from bots.engine_host.shared_counter import RedisCounter, shared_counter
from trading.clock import SystemClock
from trading.exchanges.addresses import Addresses
from trading.exchanges.budget import Window
from trading.exchanges.shares import CounterAway

WINDOWS = {"weight": Window(limit=400, seconds=3600, kept=40, counts="address")}


@pytest_asyncio.fixture
async def counters() -> AsyncIterator[list[RedisCounter]]:
    """Counters of several processes of one installation."""
    prefix = f"{settings.ARB_REDIS_PREFIX}-{uuid4().hex[:8]}"
    made = [RedisCounter(settings.REDIS_URL, prefix) for _ in range(3)]
    yield made
    for counter in made:
        await counter.close()


@pytest.mark.services
async def test_takers_at_the_same_moment_never_get_more_than_there_is(counters: list[RedisCounter]) -> None:
    had = await asyncio.gather(*(counter.take("x", 7, 30.0, 400.0, 60.0) for counter in counters for _ in range(10)))
    # Which of them come first is not said: thirteen get all they ask for, one what is left, the others nothing.
    assert sorted(had, reverse=True) == [30.0] * 13 + [10.0] + [0.0] * 16
    assert await counters[0].take("x", 7, 30.0, 400.0, 60.0) == 0
    assert await counters[1].take("x", 8, 30.0, 400.0, 60.0) == 30
    assert await counters[1].take("y", 7, 30.0, 400.0, 60.0) == 30


@pytest.mark.services
async def test_a_count_lapses_after_its_period(counters: list[RedisCounter]) -> None:
    await counters[0].take("short", 1, 30.0, 400.0, 0.2)
    (key,) = await counters[0]._redis.keys(f"{counters[0]._prefix}:limit:short:*")
    assert 0 < await counters[0]._redis.pttl(key) <= 1_600


@pytest.mark.services
async def test_a_pause_is_told_to_all_and_only_made_longer(counters: list[RedisCounter]) -> None:
    assert await counters[0].paused("x") == 0
    await counters[0].pause("x", 60)
    await counters[1].pause("x", 5)
    assert 50 < await counters[2].paused("x") <= 60
    await counters[1].pause("x", 300)
    assert 250 < await counters[2].paused("x") <= 300


@pytest.mark.services
async def test_processes_share_a_window(counters: list[RedisCounter]) -> None:
    clock = SystemClock()
    processes = [Addresses(clock, address="a", counter=counter) for counter in counters]
    budgets = [process.budget("binance", WINDOWS) for process in processes]
    parts = [process._shared["binance"].buckets["weight"]._shared for process in processes]
    async with asyncio.timeout(60):
        while not all(part is not None and part.active for part in parts):  # type: ignore[attr-defined]  # noqa: ASYNC110
            await asyncio.sleep(0.02)
    taken = 0.0
    idle = 0
    async with asyncio.timeout(60):
        while idle < 20:
            got = 0.0
            for budget in budgets:
                if budget.try_order({"weight": 10.0}) == 0:
                    got += 10
            taken += got
            idle = 0 if got else idle + 1
            await asyncio.sleep(0.02)
    for process in processes:
        await process.close()
    assert 400 - 3 * 20 <= taken <= 400


async def test_a_redis_that_is_away_is_said_to_be_so_without_its_address() -> None:
    counter = RedisCounter("redis://user:canary-secret@127.0.0.1:1/0", "x")
    with pytest.raises(CounterAway) as away:
        await counter.take("x", 1, 1.0, 1.0, 1.0)
    assert "canary" not in str(away.value)
    await counter.close()


@pytest.mark.skipif(bool(settings.REDIS_URL), reason="there is a Redis")
def test_without_a_redis_nothing_is_shared() -> None:
    assert shared_counter() is None
