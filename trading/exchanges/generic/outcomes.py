"""Outcomes for exchanges without a folder of their own: only what HTTP itself promises."""

from __future__ import annotations

from trading.exchanges.outcomes import OutcomeRow, Table
from trading.messages import Outcome

# RFC 6585 section 4: 429 is sent instead of processing the request.
TABLE = Table(
    [OutcomeRow(outcome=Outcome.REJECTED, http=429, meaning="too many requests", source="RFC 6585, section 4")]
)
