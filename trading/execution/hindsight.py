"""What an opportunity would have earned had it been taken a second later: the same size through the books of then."""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Callable

from trading.arbitrage.depth import BaseLevels, Filled, LegTerms, fill
from trading.execution.desk import Desk
from trading.marketdata.hub import ANY_AGE
from trading.messages import Decision, LegQuote, Opportunity

LATER_SECONDS = 1.0
MAX_WAITING = 200  # as many walks may come at once; beyond, decisions are told of at once and without


class Hindsight:
    """Keeps an engine's decisions for LATER_SECONDS, then hands each to ``tell`` with what it would earn now.

    That is None where a book is not one to trade on any more, or no longer holds the quantity.
    """

    def __init__(self, desk: Desk, tell: Callable[[Decision, float | None], None]) -> None:
        self._desk = desk
        self._tell = tell
        self._waiting: deque[tuple[int, Decision]] = deque()  # with the monotonic time each is due
        self._came = asyncio.Event()
        self._closed = False

    def add(self, decision: Decision) -> None:
        """Look at a decision's opportunity again in LATER_SECONDS."""
        if self._closed or len(self._waiting) >= MAX_WAITING:
            self._tell(decision, None)
            return
        self._waiting.append((decision.opportunity.detected_monotonic_ns + int(LATER_SECONDS * 1e9), decision))
        self._came.set()

    async def run(self) -> None:
        """Look at what is due until cancelled."""
        clock = self._desk.clock
        while True:
            await self._came.wait()
            while self._waiting:
                due, decision = self._waiting[0]
                wait_ns = due - clock.monotonic_ns()
                if wait_ns > 0:
                    await clock.sleep(wait_ns / 1e9)
                    continue
                self._waiting.popleft()
                self._tell(decision, self.profit_now(decision.opportunity))
            self._came.clear()

    def close(self) -> None:
        """Hand over what still waits, without a look; nothing waits from now on."""
        self._closed = True
        while self._waiting:
            self._tell(self._waiting.popleft()[1], None)

    def profit_now(self, found: Opportunity) -> float | None:
        """Return what the same quantities would earn in the present books, in the quote asset after both fees."""
        bought, sold = self._walk(found.buy), self._walk(found.sell)
        if bought is None or sold is None:
            return None
        unit = sold.vwap * (1.0 - found.sell.fee_rate) - bought.vwap * (1.0 + found.buy.fee_rate)
        return unit * found.quantity

    def _walk(self, leg: LegQuote) -> Filled | None:
        market = self._desk.markets.get(leg.market)
        book = None if market is None else self._desk.fresh_book(market, ANY_AGE)
        if market is None or book is None or not leg.quantity > 0.0:
            return None
        side = book.asks if leg.side == "buy" else book.bids
        return fill(BaseLevels(side, LegTerms.of(market, leg.fee_rate)), leg.quantity)
