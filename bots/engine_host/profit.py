"""The running profit of one owner, kept while its trades close."""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Mapping
from decimal import Decimal

from bots.fields import exact_sum

# Trades whose result may still change (a late fill, a fee that came later).
REMEMBERED = 10_000


class RunningProfit:
    """Sums of realised profits by mode and quote asset, begun at the store's, moved by each trade's newest result."""

    def __init__(self, stored: Mapping[str, Mapping[str, Decimal]], counted: Mapping[str, Decimal]) -> None:
        """``stored`` is what the store has summed; ``counted`` which results of trades to be taken up are in it."""
        self._totals = {(mode, quote): total for mode, sums in stored.items() for quote, total in sums.items()}
        self._results: OrderedDict[str, Decimal] = OrderedDict(counted)

    def take(self, trade_id: str, mode: str, quote: str, profit: Decimal) -> Decimal | None:
        """Count a trade's result; return the new total of its mode and quote asset, or None if nothing changed."""
        before = self._results.get(trade_id)
        if before == profit:
            return None
        self._results[trade_id] = profit
        self._results.move_to_end(trade_id)
        if len(self._results) > REMEMBERED:
            self._results.popitem(last=False)
        key = (mode, quote)
        counted = [] if before is None else [before.copy_negate()]
        self._totals[key] = exact_sum([self._totals.get(key, Decimal(0)), profit, *counted])
        return self._totals[key]
