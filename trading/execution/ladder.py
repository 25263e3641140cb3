"""How a trade that holds something unhedged comes out of it: which rung it stands on, and what it may pay there.

COMPLETE sends only the leg that is missing, at a cap that widens from that leg's own limit to the repair tolerance.
HEDGE takes the cheapest of completing, undoing and a third exchange, at a cap that widens further. ASK sends nothing:
the trade is exposed, and a person decides. Seconds count only while something may be sent: a trade whose order's
outcome is not known is frozen, and so is its ladder.
"""

from __future__ import annotations

from decimal import Decimal
from enum import Enum, auto

import msgspec

from trading.instruments import Side

BPS = Decimal(10_000)


class Rung(Enum):
    COMPLETE = auto()
    HEDGE = auto()
    ASK = auto()


class Ladder(msgspec.Struct, frozen=True, kw_only=True):
    """A trade's budgets. Seconds are spent on the ladder; tolerances are basis points of the residual's entry price.

    ``max_loss`` is the most the whole trade may lose, in its quote asset, for the sake of being hedged; None leaves
    that to the tolerances.
    """

    completion_seconds: float = 3.0
    unwind_seconds: float = 30.0  # from the beginning, completion included
    completion_bps: float = 30.0
    unwind_bps: float = 100.0
    max_loss: Decimal | None = None

    def rung(self, seconds: float) -> Rung:
        """Return where a trade stands after so many seconds on the ladder."""
        if seconds < self.completion_seconds:
            return Rung.COMPLETE
        return Rung.HEDGE if seconds < self.unwind_seconds else Rung.ASK

    def cap(self, side: Side, entry: Decimal, first: Decimal | None, seconds: float) -> Decimal:
        """Return the worst price of a repair on ``side`` after so many seconds.

        ``entry`` is what the residual cost (or brought), ``first`` the limit of the leg that is to be completed: the
        cap starts there, and at the entry where there is no such leg.
        """
        narrow = worse(entry, self.completion_bps, side)
        if self.rung(seconds) is Rung.COMPLETE:
            return _between(entry if first is None else first, narrow, seconds / self.completion_seconds)
        wide = worse(entry, max(self.unwind_bps, self.completion_bps), side)
        rest = self.unwind_seconds - self.completion_seconds
        return _between(narrow, wide, (seconds - self.completion_seconds) / rest if rest > 0 else 1.0)

    def affordable(
        self, side: Side, quantity: Decimal, entry: Decimal, profit: Decimal, fee_rate: Decimal
    ) -> Decimal | None:
        """Return the price at which the repair of ``quantity`` base makes the trade lose ``max_loss``; None: any.

        ``profit`` is the trade's so far, with the residual valued at its entry. Below that price a sale, above it a
        purchase, would lose more; zero or less means that no sale can.
        """
        if self.max_loss is None:
            return None
        room = profit + self.max_loss
        if side == "sell":
            return (entry - room / quantity) / (1 - fee_rate)
        return (entry + room / quantity) / (1 + fee_rate)


def worse(price: Decimal, tolerance_bps: float, side: Side) -> Decimal:
    """Return ``price`` less (a sale) or plus (a purchase) so many basis points."""
    share = Decimal(repr(tolerance_bps)) / BPS
    return price * (1 - share) if side == "sell" else price * (1 + share)


def tighter(side: Side, *prices: Decimal | None) -> Decimal:
    """Return the strictest of some caps: the highest a sale, the lowest a purchase must keep to."""
    known = [price for price in prices if price is not None]
    return max(known) if side == "sell" else min(known)


def _between(start: Decimal, end: Decimal, share: float) -> Decimal:
    return start + (end - start) * Decimal(repr(min(max(share, 0.0), 1.0)))
