"""Latency histograms: fixed memory, logarithmic buckets, percentiles good to 10 %."""

from __future__ import annotations

import math
from collections.abc import Mapping

# Buckets grow by a quarter octave: the upper edge of bucket n is 2 ** (n / 4) us; 160 of them reach 12 days.
_PER_OCTAVE = 4
_BUCKETS = 160


class Histogram:
    """Durations in microseconds."""

    __slots__ = ("_counts", "count", "highest", "total")

    def __init__(self) -> None:
        self._counts = [0] * _BUCKETS
        self.count = 0
        self.total = 0
        self.highest = 0

    def record(self, microseconds: int) -> None:
        value = max(0, microseconds)
        bucket = 0 if value <= 1 else min(_BUCKETS - 1, math.ceil(math.log2(value) * _PER_OCTAVE))
        self._counts[bucket] += 1
        self.count += 1
        self.total += value
        self.highest = max(self.highest, value)

    def percentile(self, share: float) -> int:
        """Return an upper bound for the value below which ``share`` (0 to 1) of the durations lie; 0 without any."""
        if not self.count:
            return 0
        wanted = share * self.count
        seen = 0
        for bucket, count in enumerate(self._counts):
            seen += count
            if count and seen >= wanted:
                return min(self.highest, round(2 ** (bucket / _PER_OCTAVE)))
        return self.highest

    def summary(self) -> Mapping[str, int]:
        """Return ``count``, ``mean_us``, ``p50_us``, ``p99_us``, ``max_us``."""
        return {
            "count": self.count,
            "mean_us": self.total // self.count if self.count else 0,
            "p50_us": self.percentile(0.5),
            "p99_us": self.percentile(0.99),
            "max_us": self.highest,
        }


class Stages:
    """The stages of a trade, each a histogram: from a changed book to the last fill."""

    NAMES = ("book_to_decision", "decision_to_committed", "committed_to_sent", "sent_to_answered", "sent_to_filled")

    def __init__(self) -> None:
        self._histograms = {name: Histogram() for name in self.NAMES}

    def record_ns(self, stage: str, nanoseconds: int) -> None:
        self._histograms[stage].record(nanoseconds // 1000)

    def summary(self) -> Mapping[str, Mapping[str, int]]:
        return {name: histogram.summary() for name, histogram in self._histograms.items()}
