"""Request limits that an exchange counts by address, shared by all processes through Redis."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from typing import Any, TypeVar

from django.conf import settings
from redis.asyncio import Redis
from redis.exceptions import RedisError

from trading.exchanges.shares import CounterAway

ANSWER_SECONDS = 1.0  # a Redis that takes longer counts as away: slices are taken well ahead of their use

# Takes of what is left of a period's limit, and lets the count lapse once the period is over everywhere.
TAKE = """
local taken = tonumber(redis.call('GET', KEYS[1]) or '0')
local had = math.min(tonumber(ARGV[1]), tonumber(ARGV[2]) - taken)
if had <= 0 then return '0' end
redis.call('SET', KEYS[1], string.format('%.9f', taken + had), 'PX', ARGV[3])
return string.format('%.9f', had)
"""
# A pause is only ever made longer.
PAUSE = """
if redis.call('PTTL', KEYS[1]) < tonumber(ARGV[1]) then redis.call('SET', KEYS[1], '1', 'PX', ARGV[1]) end
"""

Answer = TypeVar("Answer")


class RedisCounter:
    """A SharedCounter on Redis; each operation is one atomic step there."""

    def __init__(self, url: str, prefix: str) -> None:
        self._redis: Redis = Redis.from_url(url, socket_timeout=ANSWER_SECONDS, socket_connect_timeout=ANSWER_SECONDS)
        self._prefix = prefix
        self._take: Any = self._redis.register_script(TAKE)
        self._pause: Any = self._redis.register_script(PAUSE)

    async def take(self, key: str, period: int, amount: float, limit: float, seconds: float) -> float:
        keys = [f"{self._prefix}:limit:{key}:{period}"]
        # Taken ahead for the next period, it has to last until that one's end.
        lasts_ms = int(seconds * 3000) + 1000
        return float(await _answer(lambda: self._take(keys=keys, args=[amount, limit, lasts_ms])))

    async def pause(self, key: str, seconds: float) -> None:
        await _answer(lambda: self._pause(keys=[f"{self._prefix}:pause:{key}"], args=[max(1, int(seconds * 1000))]))

    async def paused(self, key: str) -> float:
        left_ms = await _answer(lambda: self._redis.pttl(f"{self._prefix}:pause:{key}"))
        return max(0.0, left_ms / 1000)

    async def close(self) -> None:
        await self._redis.aclose()


async def _answer(call: Callable[[], Awaitable[Answer]]) -> Answer:
    try:
        return await call()
    except (RedisError, OSError, TimeoutError) as problem:
        raise CounterAway(type(problem).__name__) from None


def shared_counter() -> RedisCounter | None:
    """Return the counter of this installation's processes; None without a Redis, where there is only one process."""
    if not settings.REDIS_URL:
        return None
    return RedisCounter(settings.REDIS_URL, settings.ARB_REDIS_PREFIX)
