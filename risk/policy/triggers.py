"""What trips a breaker: evidence counted about one scope, without a clock of its own.

A watch is told what happened and when (wall time in nanoseconds) and answers with a trip or None; its caller makes the
trip durable. After a trip the evidence of that kind is counted anew, so that one loss never trips twice.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Mapping
from decimal import Context, Decimal
from enum import StrEnum
from math import inf
from statistics import median
from typing import Literal

import msgspec

from risk.policy.breakers import DAY_SECONDS, SECOND_NS, within

# Wide enough for sums of numeric(38, 18); Python's default of 28 digits would round silently.
EXACT = Context(prec=80)
MAX_COUNT = 10_000
Answer = Literal["ok", "error", "rejected"]


class Trigger(StrEnum):
    """Why a breaker tripped, in one word. The last three are not counted by a watch."""

    CONSECUTIVE_LOSSES = "consecutive_losses"
    WINDOW_LOSS = "window_loss"
    ERROR_RATE = "error_rate"
    REJECTS = "rejects"
    STALE = "stale"
    LATENCY = "latency"
    ONE_LEGGED = "one_legged"
    RECONCILIATION = "reconciliation"
    DAILY_LOSS = "daily_loss"
    PROBE = "probe"
    OPERATOR = "operator"


class Trip(msgspec.Struct, frozen=True, kw_only=True):
    """That a breaker is to open: why, in one sentence with the figures, and for how long if not as its rules say."""

    trigger: Trigger
    reason: str
    figures: Mapping[str, float | int | str] = {}
    seconds: float | None = None


class TriggerRules(msgspec.Struct, frozen=True, kw_only=True):
    """When a scope's breaker trips; None switches a trigger off. Raises ValueError for what can't be.

    Attributes
    ----------
    consecutive_losses
        Trades in a row that ended below zero.
    window_loss, window_seconds
        Net loss of the trades that ended within the window, in the quote asset.
    error_rate, error_sample
        Share of errors among the last ``error_sample`` answers, in (0, 1]; asked once there are so many.
    rejects, rejects_seconds
        Orders the exchange rejected within the time.
    stale_seconds
        Age of the newest data.
    latency_ms, latency_sample
        Median of the last ``latency_sample`` answers' times; asked once there are so many.
    one_legged, one_legged_seconds
        Trades that filled on one side only within the time.
    reconciliation_difference
        A difference between our books and an exchange's trips at once.
    """

    consecutive_losses: int | None = None
    window_loss: Decimal | None = None
    window_seconds: float = 3600.0
    error_rate: float | None = None
    error_sample: int = 20
    rejects: int | None = None
    rejects_seconds: float = 60.0
    stale_seconds: float | None = None
    latency_ms: float | None = None
    latency_sample: int = 20
    one_legged: int | None = None
    one_legged_seconds: float = 3600.0
    reconciliation_difference: bool = False

    def __post_init__(self) -> None:
        for field in ("consecutive_losses", "rejects", "one_legged"):
            count = getattr(self, field)
            if count is not None:
                within(field, count, 1, 1000)
        for field in ("window_seconds", "rejects_seconds", "one_legged_seconds"):
            within(field, getattr(self, field), 1, DAY_SECONDS)
        for field in ("error_sample", "latency_sample"):
            within(field, getattr(self, field), 1, 1000)
        if self.window_loss is not None and not (self.window_loss.is_finite() and self.window_loss > 0):
            raise ValueError(f"window_loss: must be above 0 and finite (given {self.window_loss})")
        if self.error_rate is not None:
            within("error_rate", self.error_rate, 0.01, 1)
        if self.stale_seconds is not None:
            within("stale_seconds", self.stale_seconds, 0.1, 3600)
        if self.latency_ms is not None:
            within("latency_ms", self.latency_ms, 1, 60_000)


class Watch:
    """The evidence about one scope and key, and the rules it is judged by."""

    def __init__(self, rules: TriggerRules) -> None:
        self.rules = rules
        self.reset()

    def reset(self) -> None:
        """Forget everything counted."""
        self._losses = 0
        self._results: deque[tuple[int, Decimal]] = deque()
        self._net = Decimal(0)
        self._answers: deque[bool] = deque(maxlen=self.rules.error_sample)
        self._rejected: deque[int] = deque()
        self._latencies: deque[float] = deque(maxlen=self.rules.latency_sample)
        self._one_legged: deque[int] = deque()
        self._stale_trip_ns: int | None = None

    def note_result(self, profit: Decimal, now_ns: int) -> Trip | None:
        """Count a finished trade's result in the quote asset; raises ValueError unless it is finite."""
        if not profit.is_finite():
            raise ValueError(f"profit: must be finite (given {profit})")
        self._losses = self._losses + 1 if profit < 0 else 0
        self._results.append((now_ns, profit))
        self._net = EXACT.add(self._net, profit)
        oldest = now_ns - _ns(self.rules.window_seconds)
        while self._results and (self._results[0][0] <= oldest or len(self._results) > MAX_COUNT):
            self._net = EXACT.subtract(self._net, self._results.popleft()[1])
        trip = self._consecutive() or self._window()
        if trip is not None:
            self._losses = 0
            self._results.clear()
            self._net = Decimal(0)
        return trip

    def note_answer(self, answer: Answer, latency_ms: float | None, now_ns: int) -> Trip | None:
        """Count an exchange's answer, or that none came; ``latency_ms`` None is one that was not measured.

        A rejected order is no error of the exchange: it is an answer, and counts among the rejects.
        """
        rules = self.rules
        if rules.error_rate is not None:
            self._answers.append(answer == "error")
            errors, asked = sum(self._answers), len(self._answers)
            if asked >= rules.error_sample and errors / asked >= rules.error_rate:
                self._answers.clear()
                return Trip(
                    trigger=Trigger.ERROR_RATE,
                    reason=f"{errors} of the last {asked} answers were errors; "
                    f"{rules.error_rate:.0%} or more stop trading.",
                    figures={"errors": errors, "answers": asked, "error_rate": rules.error_rate},
                )
        if answer == "rejected" and rules.rejects is not None:
            count = _counted(self._rejected, rules.rejects_seconds, now_ns)
            if count >= rules.rejects:
                self._rejected.clear()
                return Trip(
                    trigger=Trigger.REJECTS,
                    reason=f"{count} orders were rejected within {rules.rejects_seconds:g} s; "
                    f"{rules.rejects} stop trading.",
                    figures={"rejects": count, "seconds": rules.rejects_seconds},
                )
        return self._latency(latency_ms)

    def note_stale(self, seconds: float, now_ns: int) -> Trip | None:
        """Look at the age of the newest data; may be told as often as it is looked at."""
        limit = self.rules.stale_seconds
        # Compared as "not within": an age that is not a number is stale.
        if limit is None or seconds <= limit:
            self._stale_trip_ns = None
            return None
        if self._stale_trip_ns is not None and now_ns - self._stale_trip_ns <= _ns(limit):
            return None
        self._stale_trip_ns = now_ns
        return Trip(
            trigger=Trigger.STALE,
            reason=f"The newest data is {seconds:.1f} s old; at most {limit:g} s are allowed.",
            figures={"seconds": seconds, "stale_seconds": limit},
        )

    def note_one_legged(self, now_ns: int) -> Trip | None:
        """Count a trade of which only one side filled."""
        rules = self.rules
        if rules.one_legged is None:
            return None
        count = _counted(self._one_legged, rules.one_legged_seconds, now_ns)
        if count < rules.one_legged:
            return None
        self._one_legged.clear()
        return Trip(
            trigger=Trigger.ONE_LEGGED,
            reason=f"{count} trades filled on one side only within {rules.one_legged_seconds:g} s; "
            f"{rules.one_legged} stop trading.",
            figures={"one_legged": count, "seconds": rules.one_legged_seconds},
        )

    def note_difference(self, now_ns: int, what: str = "") -> Trip | None:
        """Take notice of a new difference between our books and an exchange's."""
        if not self.rules.reconciliation_difference:
            return None
        reason = f"Our books differ from the exchange's{f': {what}' if what else ''}."
        return Trip(trigger=Trigger.RECONCILIATION, reason=reason, figures={"what": what})

    def _consecutive(self) -> Trip | None:
        most = self.rules.consecutive_losses
        if most is None or self._losses < most:
            return None
        return Trip(
            trigger=Trigger.CONSECUTIVE_LOSSES,
            reason=f"{self._losses} trades in a row ended at a loss; {most} stop trading.",
            figures={"losses": self._losses, "consecutive_losses": most},
        )

    def _window(self) -> Trip | None:
        most = self.rules.window_loss
        if most is None or -self._net < most:
            return None
        return Trip(
            trigger=Trigger.WINDOW_LOSS,
            reason=f"{-self._net:f} were lost within {self.rules.window_seconds:g} s; {most:f} stop trading.",
            figures={
                "loss": str(-self._net),
                "window_loss": str(most),
                "seconds": self.rules.window_seconds,
                "trades": len(self._results),
            },
        )

    def _latency(self, latency_ms: float | None) -> Trip | None:
        limit = self.rules.latency_ms
        if limit is None or latency_ms is None:
            return None
        # Not a number, or negative by a clock set back: the worst is taken of it.
        self._latencies.append(latency_ms if latency_ms >= 0 else inf)
        if len(self._latencies) < self.rules.latency_sample:
            return None
        middle = median(self._latencies)
        if middle <= limit:
            return None
        count = len(self._latencies)
        self._latencies.clear()
        return Trip(
            trigger=Trigger.LATENCY,
            reason=f"The median of the last {count} answers took {middle:.0f} ms; at most {limit:g} ms are allowed.",
            figures={"median_ms": middle if middle < inf else "inf", "latency_ms": limit, "answers": count},
        )


def _counted(times: deque[int], seconds: float, now_ns: int) -> int:
    """Add an event to those of the last ``seconds`` and return how many they are."""
    times.append(now_ns)
    while times and times[0] <= now_ns - _ns(seconds):
        times.popleft()
    return len(times)


def _ns(seconds: float) -> int:
    return round(seconds * SECOND_NS)
