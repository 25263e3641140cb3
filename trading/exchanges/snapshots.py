"""Fetches REST depth snapshots within an exchange's request weight."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING

import aiohttp
import msgspec

from trading.instruments import Market, MarketKind
from trading.ports import Clock

if TYPE_CHECKING:
    from trading.exchanges.streaming import SocketFeed

NS = 1_000_000_000
MAX_BODY_BYTES = 16 * 1024 * 1024
TOO_MANY_REQUESTS = (418, 429)  # Binance: 429 over the limit, 418 banned for going on


class SnapshotLimits(msgspec.Struct, frozen=True, kw_only=True):
    """How many levels to ask for, what that costs, and what a minute allows (``source`` says so).

    ``share`` of the minute's weight is ours; the rest is left to orders and account requests of the same address.
    """

    levels: int
    weight: int
    weight_per_minute: int
    share: float = 0.5
    source: str


class WeightBudget:
    """A token bucket of request weight, full at the start."""

    def __init__(self, clock: Clock, per_minute: float) -> None:
        self._clock = clock
        self._rate = per_minute / 60
        self._capacity = per_minute
        self._tokens = per_minute
        self._updated_ns = clock.monotonic_ns()

    async def take(self, weight: float) -> None:
        """Return when ``weight`` may be spent; takers are served in turn."""
        self._refill()
        self._tokens -= weight
        if self._tokens < 0:
            await self._clock.sleep(-self._tokens / self._rate)

    def block(self, seconds: float) -> None:
        """Spend nothing for a while: the exchange said to wait."""
        self._refill()
        self._tokens = min(self._tokens, -seconds * self._rate)

    def _refill(self) -> None:
        now = self._clock.monotonic_ns()
        self._tokens = min(self._capacity, self._tokens + (now - self._updated_ns) / NS * self._rate)
        self._updated_ns = now


class SnapshotFetcher:
    """Fetches the snapshots a feed wants, a few at a time, each again with backoff until its book took it."""

    def __init__(
        self,
        clock: Clock,
        limits: dict[MarketKind, SnapshotLimits],
        *,
        concurrency: int = 4,
        timeout_seconds: float = 5.0,
        first_backoff: float = 0.25,
        max_backoff: float = 15.0,
    ) -> None:
        self._clock = clock
        self._limits = limits
        self._budgets = {
            kind: WeightBudget(clock, limit.weight_per_minute * limit.share) for kind, limit in limits.items()
        }
        self._slots = asyncio.Semaphore(concurrency)
        self._timeout = aiohttp.ClientTimeout(total=timeout_seconds)
        self._first_backoff = first_backoff
        self._max_backoff = max_backoff
        self._woken = asyncio.Event()
        self._running: dict[str, asyncio.Task[None]] = {}
        self._feed: SocketFeed | None = None
        self._fetched = 0
        self._failed = 0

    def attach(self, feed: SocketFeed) -> None:
        self._feed = feed

    def wake(self) -> None:
        self._woken.set()

    def counters(self) -> dict[str, int]:
        return {"snapshots": self._fetched, "snapshots_failed": self._failed}

    async def run(self) -> None:
        assert self._feed is not None, "attach the fetcher to a feed first"
        feed = self._feed
        async with (
            aiohttp.ClientSession(timeout=self._timeout, auto_decompress=True) as session,
            asyncio.TaskGroup() as group,
        ):
            while True:
                for market in feed.snapshots_wanted():
                    if market.key not in self._running:
                        task = group.create_task(self._fetch(session, feed, market), name=f"snapshot {market.key}")
                        self._running[market.key] = task
                await self._woken.wait()
                self._woken.clear()

    async def _fetch(self, session: aiohttp.ClientSession, feed: SocketFeed, market: Market) -> None:
        backoff = self._first_backoff
        try:
            while True:
                async with self._slots:
                    await self._budgets[market.kind].take(self._limits[market.kind].weight)
                    reason = await self._attempt(session, feed, market)
                if not any(wanted.key == market.key for wanted in feed.snapshots_wanted()):
                    return
                if reason:
                    self._failed += 1
                    feed.snapshot_failed(market, reason)
                await self._clock.sleep(backoff)
                backoff = min(self._max_backoff, backoff * 2)
        finally:
            del self._running[market.key]

    async def _attempt(self, session: aiohttp.ClientSession, feed: SocketFeed, market: Market) -> str:
        """Fetch once and hand over; return what went wrong, or an empty string."""
        url = feed._venue.snapshot_url(market)
        if url is None:
            return "this exchange has no depth snapshots"
        try:
            async with session.get(url) as response:
                if response.status in TOO_MANY_REQUESTS:
                    seconds = _retry_after(response.headers.get("Retry-After"))
                    self._budgets[market.kind].block(seconds)
                    return f"depth snapshot refused with HTTP {response.status}: waiting {seconds:g} s as asked"
                body = await _body(response)
                if response.status != 200:
                    return f"depth snapshot refused with HTTP {response.status}: {body[:120].decode(errors='replace')}"
        except (aiohttp.ClientError, TimeoutError, OSError, ValueError) as error:
            return f"depth snapshot failed: {type(error).__name__} {error}"[:200].rstrip()
        self._fetched += 1
        feed.deliver_snapshot(market, body, self._clock.time_ns())
        return ""


async def _body(response: aiohttp.ClientResponse) -> bytes:
    parts: list[bytes] = []
    size = 0
    async for part in response.content.iter_chunked(65_536):
        size += len(part)
        if size > MAX_BODY_BYTES:
            raise ValueError(f"the answer is longer than {MAX_BODY_BYTES} bytes")
        parts.append(part)
    return b"".join(parts)


def _retry_after(header: str | None) -> float:
    """Read the seconds of a Retry-After header; a minute where it says nothing usable."""
    if header is not None and header.isdigit():
        return min(float(header), 3_600.0)
    return 60.0
