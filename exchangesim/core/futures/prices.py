"""Index price, mark price and funding rate of one contract.

The mark price is the median of three: the index with the funding still to come, the index with the contract's average
basis, and the last trade. Sources: https://www.binance.com/en/support/faq/360033525071 (mark price) and
https://www.binance.com/en/support/faq/360033525031 (funding rate).
"""

from __future__ import annotations

import math
from decimal import ROUND_HALF_EVEN, Decimal

from exchangesim.core.futures.positions import PLACES
from exchangesim.core.market import SimMarket
from exchangesim.core.orders import ZERO

BASIS_SECONDS = 150.0
"""Time constant of the average basis in the mark price."""
DAILY_PART_MS = 8 * 3_600_000
INTEREST = Decimal("0.0001")
"""Interest rate of eight hours."""
CLAMP = Decimal("0.0005")
LARGEST_RATE = Decimal("0.02")


class ContractPrices:
    """What one contract is valued at; brought up to date by ``step``."""

    def __init__(self, market: SimMarket) -> None:
        self.market = market
        self.index = self.mark = market.last_price
        self.rate = INTEREST
        """Funding rate as it stands for the next funding time: longs pay shorts when it is above zero."""
        self.fixed_mark: Decimal | None = None
        """Mark and index price set by hand."""
        self.fixed_rate: Decimal | None = None
        self._basis = ZERO
        self._premium_sum, self._premiums = ZERO, 0
        self._stepped_ms = 0

    def step(self, now_ms: int, index: Decimal | None, until_funding_ms: int, interval_ms: int) -> None:
        """Take the market as it is now; ``index`` None values the contract by its own book."""
        market = self.market
        self.index = _rounded(market.mid if index is None else index)
        basis = market.mid - self.index
        seconds = (now_ms - self._stepped_ms) / 1000 if self._stepped_ms else math.inf
        weight = Decimal(repr(1 - math.exp(-max(0.0, seconds) / BASIS_SECONDS)))
        self._basis += (basis - self._basis) * weight
        self._stepped_ms = now_ms
        self._premium_sum += basis / self.index
        self._premiums += 1
        self.rate = self._rate(interval_ms) if self.fixed_rate is None else self.fixed_rate
        if self.fixed_mark is not None:
            self.mark = self.index = self.fixed_mark
            return
        funded = self.index * (1 + self.rate * Decimal(until_funding_ms) / Decimal(interval_ms))
        self.mark = _rounded(sorted((funded, self.index + self._basis, market.last_price))[1])

    def fund(self) -> None:
        """Begin a new funding interval."""
        self._premium_sum, self._premiums = ZERO, 0

    def _rate(self, interval_ms: int) -> Decimal:
        premium = self._premium_sum / self._premiums
        interest = INTEREST * Decimal(interval_ms) / DAILY_PART_MS
        rate = premium + min(CLAMP, max(-CLAMP, interest - premium))
        return _rounded(min(LARGEST_RATE, max(-LARGEST_RATE, rate)))


def _rounded(value: Decimal) -> Decimal:
    return value.quantize(PLACES, ROUND_HALF_EVEN)
