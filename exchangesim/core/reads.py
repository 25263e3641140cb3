"""Queries that lag behind the matching engine: what they show is as of some time ago."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator


class ReadLag:
    """By how much the query that is answered now lags; none as a rule."""

    def __init__(self) -> None:
        self.ms = 0.0

    @contextlib.contextmanager
    def behind(self, ms: float) -> Iterator[None]:
        """Let what is read inside the block (synchronously) show nothing younger than this."""
        self.ms = ms
        try:
            yield
        finally:
            self.ms = 0.0

    def hides(self, happened_ms: int, now_ms: int) -> bool:
        return self.ms > 0 and now_ms - happened_ms < self.ms
