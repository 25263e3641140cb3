"""How the rules treat figures: settings out of range are refused, broken measurements count as the worst."""

from __future__ import annotations

import math

BPS = 1e4


def require(name: str, value: float, low: float, high: float) -> None:
    """Raise ValueError unless ``low <= value <= high``; NaN is never within."""
    if not low <= value <= high:
        raise ValueError(f"{name} is {value}; it must lie between {low:g} and {high:g}.")


def unit(value: float) -> float:
    """Return ``value`` clamped to [0, 1]; 0.0 for NaN."""
    if not value > 0.0:
        return 0.0
    return 1.0 if value > 1.0 else value


def share(value: float, full: float) -> float:
    """Return how much of ``full`` is there, at most 1.0; 0.0 where either is not a positive finite number.

    >>> share(30.0, 40.0), share(80.0, 40.0), share(float("inf"), 40.0)
    (0.75, 1.0, 0.0)
    """
    if not (0.0 < value < math.inf and 0.0 < full < math.inf):
        return 0.0
    return 1.0 if value >= full else value / full
