"""The day's loss that stops trading: it grows with equity and with what the day has earned, within bounds.

    threshold = min(ceiling, max(floor, share_of_equity * equity + share_of_profit * max(0, peak)))
    trips when  max(0, peak) - realised >= threshold

``peak`` is the highest the day's realised profit has been. By hand: 2 % of 10 000 of equity is 200; of a peak of 150
half, 75, is added: 275, between a floor of 50 and a ceiling of 500. From the peak of 150 that is reached at a realised
result of 150 - 275 = -125. Without the profit it would have been at -200: what was earned may be lost again in part,
and of what was there before less is.

Days are UTC. Everything is Decimal, in one quote asset.
"""

from __future__ import annotations

from decimal import Decimal

import msgspec

from risk.policy.breakers import DAY_SECONDS, MIN_COOLDOWN_SECONDS, SECOND_NS
from risk.policy.triggers import EXACT, Trigger, Trip

_DAY_NS = int(DAY_SECONDS) * SECOND_NS
_ZERO = Decimal(0)


class ThresholdRules(msgspec.Struct, frozen=True, kw_only=True):
    """Shares in [0, 1], bounds in the quote asset, 0 < floor <= ceiling; raises ValueError for what can't be."""

    share_of_equity: Decimal = Decimal("0.02")
    share_of_profit: Decimal = Decimal("0.5")
    floor: Decimal = Decimal(50)
    ceiling: Decimal = Decimal(10_000)

    def __post_init__(self) -> None:
        for field in ("share_of_equity", "share_of_profit"):
            share = _finite(field, getattr(self, field))
            if not 0 <= share <= 1:
                raise ValueError(f"{field}: must be between 0 and 1 (given {share})")
        # A floor of zero would trip before anything is lost.
        if _finite("floor", self.floor) <= 0:
            raise ValueError(f"floor: must be above 0 (given {self.floor})")
        if _finite("ceiling", self.ceiling) < self.floor:
            raise ValueError(f"ceiling: must be at least the floor of {self.floor:f} (given {self.ceiling})")


class Day(msgspec.Struct, frozen=True, kw_only=True):
    """A UTC day's realised profit and its peak, which starts at zero."""

    number: int = 0  # days since the epoch
    realised: Decimal = _ZERO
    peak: Decimal = _ZERO

    def noted(self, profit: Decimal, now_ns: int) -> Day:
        """Return the day with a trade's result in it, a new one after midnight; raises ValueError unless finite."""
        number = day_number(now_ns)
        # A result told late counts to the present day: losing it would be worse.
        before = self if number <= self.number else Day(number=number)
        realised = EXACT.add(before.realised, _finite("profit", profit))
        return Day(number=before.number, realised=realised, peak=max(before.peak, realised))


def day_number(now_ns: int) -> int:
    """Return which UTC day it is, in days since the epoch."""
    return now_ns // _DAY_NS


def loss_threshold(equity: Decimal, realised_peak: Decimal, rules: ThresholdRules) -> Decimal:
    """Return the drawdown from the day's peak that stops trading, in the quote asset.

    Raises
    ------
    ValueError
        If equity is negative or either is not finite.
    """
    if _finite("equity", equity) < 0:
        raise ValueError(f"equity: must not be negative (given {equity})")
    of_profit = EXACT.multiply(rules.share_of_profit, max(_ZERO, _finite("realised_peak", realised_peak)))
    wanted = EXACT.fma(rules.share_of_equity, equity, of_profit)
    return min(rules.ceiling, max(rules.floor, wanted))


def daily_loss(*, equity: Decimal, realised: Decimal, peak: Decimal, rules: ThresholdRules, now_ns: int) -> Trip | None:
    """Return a trip until midnight UTC once the day's drawdown from its peak has reached the threshold."""
    threshold = loss_threshold(equity, peak, rules)
    drawdown = EXACT.subtract(max(_ZERO, peak), _finite("realised", realised))
    if drawdown < threshold:
        return None
    left = (_DAY_NS - now_ns % _DAY_NS) / SECOND_NS
    return Trip(
        trigger=Trigger.DAILY_LOSS,
        reason=f"Today's result is {realised:f}, {drawdown:f} below its peak; "
        f"{threshold:f} below it stop trading until midnight UTC.",
        figures={"realised": str(realised), "peak": str(peak), "equity": str(equity), "threshold": str(threshold)},
        seconds=max(left, MIN_COOLDOWN_SECONDS),
    )


def _finite(field: str, value: Decimal) -> Decimal:
    if not value.is_finite():
        raise ValueError(f"{field}: must be finite (given {value})")
    return value
