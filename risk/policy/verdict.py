"""The value every risk rule returns. A rule never acts; its caller does."""

from __future__ import annotations

from collections.abc import Mapping

import msgspec


class Verdict(msgspec.Struct, frozen=True, kw_only=True):
    """What a rule says about a wanted action.

    Attributes
    ----------
    allowed
        False refuses the action as a whole.
    reason
        One sentence naming the rule, the limit and what was given; empty when allowed without remark.
    factor
        Share of the wanted size that may go through, in [0, 1]; 1.0 leaves the size alone.
    until
        Wall time in nanoseconds after which asking again may help, or None.
    figures
        The numbers the rule looked at, by name, for the decision's record.
    """

    allowed: bool
    reason: str = ""
    factor: float = 1.0
    until: int | None = None
    figures: Mapping[str, float | int | str] = {}


ALLOWED = Verdict(allowed=True)
