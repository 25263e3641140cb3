"""Counts that wait to be written: one batch on its way, and what came since for the next."""

from __future__ import annotations

import secrets
from collections import Counter
from collections.abc import Mapping

from bots.services.decision_counts import HOUR_NS, CountBatch
from trading.messages import DecisionKey


class CountQueue:
    """Makes numbered batches of what one store is told.

    A batch does not change once it was given out: whether an attempt to write it that failed was in fact written is
    known by its number. It takes as much room as there are keys and hours, however long the database is away.
    """

    def __init__(self) -> None:
        self._writer = secrets.token_hex(16)
        self._number = 0
        self._batch: CountBatch | None = None
        self._gathered: Counter[tuple[DecisionKey, int]] = Counter()

    def __len__(self) -> int:
        return len(self._gathered) + (0 if self._batch is None else len(self._batch.counts))

    def add(self, counts: Mapping[DecisionKey, int], at_ns: int) -> None:
        """Gather counts of the hour that ``at_ns`` (wall clock) is in."""
        hour = at_ns // HOUR_NS
        for key, count in counts.items():
            self._gathered[key, hour] += count

    def next_batch(self) -> CountBatch | None:
        """Return the batch to write, the same one until :meth:`written`; None if there is nothing to write."""
        if self._batch is None and self._gathered:
            self._number += 1
            self._batch, self._gathered = CountBatch(self._writer, self._number, self._gathered), Counter()
        return self._batch

    def written(self) -> None:
        """Forget the batch that was given out: it is in the database, or refused for good."""
        self._batch = None
