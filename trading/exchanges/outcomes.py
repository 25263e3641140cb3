"""What an exchange's answer to a placement proves, by our own tables of (HTTP status, code, text).

Client libraries' exception classes mix "did not happen" with "no idea". Only a row may call a placement rejected; what
no row names is UNKNOWN, which costs a question, while a wrong REJECTED costs a second order.
"""

from __future__ import annotations

from collections.abc import Iterable

import msgspec

from trading.messages import Outcome


class OutcomeRow(msgspec.Struct, frozen=True, kw_only=True):
    """One documented answer. ``http``, ``code`` and ``text`` (a part of the message) match when given.

    ``meaning`` is the exchange's own name or text; ``source`` says where that is documented.
    """

    outcome: Outcome
    meaning: str
    source: str
    http: int | None = None
    code: str | None = None
    text: str | None = None

    def matches(self, http: int, code: str, message: str) -> bool:
        return (
            (self.http is None or self.http == http)
            and (self.code is None or self.code == code)
            and (self.text is None or self.text.lower() in message.lower())
        )


class Table:
    """An exchange's rows, looked through in order; the first that matches decides."""

    def __init__(self, rows: Iterable[OutcomeRow]) -> None:
        self.rows = tuple(rows)

    def judge(self, http: int, code: str, message: str) -> tuple[Outcome, str]:
        """Return the outcome and its meaning; UNKNOWN for server errors always, and for what no row names."""
        if http >= 500:
            return Outcome.UNKNOWN, f"HTTP {http}"
        for row in self.rows:
            if row.matches(http, code, message):
                return row.outcome, row.meaning
        return Outcome.UNKNOWN, "no documented meaning"


def rejected(source: str, codes: Iterable[tuple[str, str]]) -> list[OutcomeRow]:
    """Make rows of codes that prove the order was not placed."""
    return [OutcomeRow(outcome=Outcome.REJECTED, code=code, meaning=text, source=source) for code, text in codes]


def unknown(source: str, codes: Iterable[tuple[str, str]]) -> list[OutcomeRow]:
    """Make rows of codes that say, or amount to, "the outcome is not known"; they stand before what might hide them."""
    return [OutcomeRow(outcome=Outcome.UNKNOWN, code=code, meaning=text, source=source) for code, text in codes]
