"""What was found out about an order whose fate is not known: kept with its end, or shown to whoever has to decide."""

from __future__ import annotations

from collections.abc import Iterable
from decimal import Decimal

import msgspec

from trading.messages import Fill, OrderEvent

FINDINGS_KEPT = 40
CANDIDATES_KEPT = 10


class Finding(msgspec.Struct, frozen=True):
    """One question and its answer. ``question`` is query, open_orders, trades, balances or window."""

    at: int  # wall nanoseconds
    question: str
    answer: str


class Candidate(msgspec.Struct, frozen=True, kw_only=True):
    """An order or execution on the exchange that nobody claims and that could be the one sought."""

    exchange_order_id: str
    side: str
    price: Decimal
    quantity: Decimal
    filled: Decimal


class Evidence:
    """The findings about one order, newest last; the same answer again only moves its time."""

    def __init__(self) -> None:
        self._findings: list[Finding] = []
        self.candidates: list[Candidate] = []

    def note(self, at_ns: int, question: str, answer: str) -> None:
        """Add an answer."""
        self._findings = [one for one in self._findings if (one.question, one.answer) != (question, answer)]
        self._findings.append(Finding(at_ns, question, answer))
        del self._findings[:-FINDINGS_KEPT]

    def consider(self, candidates: Iterable[Candidate]) -> None:
        """Remember candidates, each exchange order once."""
        known = {candidate.exchange_order_id for candidate in self.candidates}
        for candidate in candidates:
            if candidate.exchange_order_id not in known and len(self.candidates) < CANDIDATES_KEPT:
                known.add(candidate.exchange_order_id)
                self.candidates.append(candidate)

    def raw(self) -> str:
        """Return everything as JSON, for an order event's ``raw``."""
        return msgspec.json.encode({"evidence": self._findings, "candidates": self.candidates}).decode()


def candidate_of_order(event: OrderEvent) -> Candidate:
    """Return an open order that nobody claims as a candidate; an event names neither price nor side."""
    filled = event.filled or Decimal(0)
    return Candidate(
        exchange_order_id=event.exchange_order_id, side="", price=Decimal(0), quantity=Decimal(0), filled=filled
    )


def candidates_of_fills(fills: Iterable[Fill]) -> list[Candidate]:
    """Return executions that nobody claims as candidates, one an exchange order."""
    by_order: dict[str, list[Fill]] = {}
    for fill in fills:
        by_order.setdefault(fill.exchange_order_id, []).append(fill)
    found = []
    for order_id, parts in by_order.items():
        quantity = sum((part.quantity for part in parts), Decimal(0))
        cost = sum((part.price * part.quantity for part in parts), Decimal(0))
        found.append(
            Candidate(
                exchange_order_id=order_id,
                side=parts[0].side,
                price=cost / quantity,
                quantity=quantity,
                filled=quantity,
            )
        )
    return found
