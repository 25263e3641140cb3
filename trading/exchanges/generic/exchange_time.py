"""How an exchange's clock differs from ours: measured at the start, now and then, and when an answer doubts it."""

from __future__ import annotations

import asyncio
import logging
from typing import Any

from trading.exchanges.ccxt_client import measure_offset
from trading.exchanges.generic.calls import Calls, Reply
from trading.exchanges.generic.scrub import Scrubber
from trading.ports import Clock
from trading.tasks import end_tasks

logger = logging.getLogger(__name__)

NS_PER_MS = 1_000_000
ALARM_OFFSET_MS = 500


class ExchangeTime:
    """One account's; its ccxt client signs with what was measured last."""

    def __init__(
        self, client: Any, calls: Calls, clock: Clock, scrub: Scrubber, *, account_id: int, exchange: str
    ) -> None:
        self.offset_ms = 0
        self._client = client
        self._calls = calls
        self._clock = clock
        self._scrub = scrub
        self._account_id = account_id
        self._exchange = exchange
        self._measuring: asyncio.Task[None] | None = None

    def now_ms(self) -> int:
        """Return the exchange's time in milliseconds."""
        return self._clock.time_ns() // NS_PER_MS + self.offset_ms

    async def ask(self) -> Reply[int]:
        return await self._calls.ask("time", lambda: measure_offset(self._client, self._clock), method="GET")

    def learn(self, offset_ms: int) -> None:
        """Take note of how the exchange's clock differs."""
        if abs(offset_ms) > ALARM_OFFSET_MS and abs(offset_ms - self.offset_ms) > ALARM_OFFSET_MS:
            logger.warning("account %s: clock differs from %s by %s ms", self._account_id, self._exchange, offset_ms)
        self.offset_ms = offset_ms

    async def measure(self) -> None:
        reply = await self.ask()
        if reply.value is None:
            why = self._scrub.error(reply.error)
            logger.info("account %s: the exchange's time not had: %s", self._account_id, why)
        else:
            self.learn(reply.value)

    def measure_soon(self) -> None:
        """Measure beside whatever else goes on; nothing is asked that needs the key."""
        if self._measuring is None or self._measuring.done():
            self._measuring = asyncio.get_running_loop().create_task(self.measure())

    async def close(self) -> None:
        if self._measuring is not None:
            await end_tasks((self._measuring,))
