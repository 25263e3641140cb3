"""The engine counts nanoseconds since the epoch, the database keeps instants in UTC with microseconds."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)


def from_ns(nanoseconds: int) -> datetime:
    """Return the instant, cut to microseconds; exact, without a float in between."""
    return _EPOCH + timedelta(microseconds=nanoseconds // 1000)


def to_ns(instant: datetime) -> int:
    """Return nanoseconds since the epoch."""
    return (instant - _EPOCH) // timedelta(microseconds=1) * 1000
