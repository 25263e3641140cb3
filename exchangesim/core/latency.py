"""How long things take on the way to, inside and from a simulated exchange."""

from __future__ import annotations

import random
from dataclasses import dataclass, field, fields


@dataclass(slots=True, kw_only=True)
class Latency:
    """Milliseconds per direction; each delay is uniform within ``jitter`` (a fraction) of its figure."""

    request_ms: float = 0.0
    """From the client's socket to the matching engine."""
    response_ms: float = 0.0
    """From the engine to the client's socket, for answers."""
    event_ms: float = 0.0
    """The same for private stream events."""
    market_ms: float = 0.0
    """The same for market data."""
    jitter: float = 0.0
    draws: random.Random = field(default_factory=lambda: random.Random(0), repr=False)

    def update(self, **figures: float) -> None:
        """Change some figures. Raises ValueError, one sentence, for an unknown name or a bad value."""
        allowed = set(self.figures())
        for name, value in figures.items():
            if name not in allowed:
                raise ValueError(f"Latency has no figure {name!r}; there are {', '.join(sorted(allowed))}.")
            if isinstance(value, bool) or not isinstance(value, int | float) or not 0 <= value <= 60_000:
                raise ValueError(f"Latency {name} must be a number between 0 and 60000, not {value!r}.")
            setattr(self, name, float(value))

    def seconds(self, direction: str) -> float:
        """Return one delay in seconds for ``request``, ``response``, ``event`` or ``market``."""
        figure: float = getattr(self, f"{direction}_ms")
        if figure and self.jitter:
            figure *= 1 + self.draws.uniform(-self.jitter, self.jitter)
        return max(0.0, figure) / 1000

    def figures(self) -> dict[str, float]:
        return {f.name: getattr(self, f.name) for f in fields(self) if f.name != "draws"}
