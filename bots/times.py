"""Instants as the engine, the database and live messages have them."""

from __future__ import annotations

from datetime import datetime

from risk.times import from_ns, to_ns

__all__ = ["from_ns", "to_ns", "unix"]


def unix(instant: datetime) -> float:
    """Return Unix seconds, as live messages carry them."""
    return instant.timestamp()
