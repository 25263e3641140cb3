"""How much a trade held unhedged, and for how long: notional times seconds, from its fills alone."""

from __future__ import annotations

from decimal import Decimal

from trading.execution.result import Tally

ZERO = Decimal(0)
NS = Decimal(10**9)


class Exposure:
    """The integral of a trade's unhedged notional over time, in quote times seconds.

    It is told the tally after every change; between two tellings the residual stands still.
    """

    __slots__ = ("_at_ns", "_sum", "notional")

    def __init__(self, before: Decimal, now_ns: int) -> None:
        """``before`` is what an earlier process counted; ``now_ns`` is monotonic, as all times here."""
        self._sum = before
        self._at_ns = now_ns
        self.notional = ZERO

    def tell(self, tally: Tally, now_ns: int) -> None:
        """Take over what is unhedged from now on."""
        self._sum = self.total(now_ns)
        self._at_ns = now_ns
        entry = tally.entry_price
        self.notional = ZERO if entry is None else abs(tally.residual) * entry

    def total(self, now_ns: int) -> Decimal:
        """Return quote times seconds until ``now_ns``, exact to the nanosecond."""
        return self._sum + self.notional * max(0, now_ns - self._at_ns) / NS
