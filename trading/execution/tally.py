"""How many opportunities ended at which check, counted always, whatever is recorded of them."""

from __future__ import annotations

from collections import Counter

from trading.messages import DecisionKey, Opportunity


class Tally:
    """Counts of one engine since they were last taken."""

    def __init__(self) -> None:
        self._counts: Counter[DecisionKey] = Counter()

    def add(self, found: Opportunity, check: str) -> None:
        """Count an opportunity that ended at a check; "" for one that became a trade."""
        self._counts[DecisionKey(found.bot_id, found.base, found.quote, check)] += 1

    def take(self) -> dict[DecisionKey, int]:
        """Return the counts and begin anew."""
        taken, self._counts = dict(self._counts), Counter()
        return taken
