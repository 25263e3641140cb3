"""Where and when a process of a history dies or stands still."""

from __future__ import annotations

from dataclasses import dataclass

# Where a process may die or stand still, by name; "await" is any resumption of any task or callback of it.
POINTS = (
    "commit_trade:before", "commit_trade:durable", "commit_trade:after",
    "commit_repair:before", "commit_repair:durable", "commit_repair:after",
    "place:before", "place:at_exchange", "place:answered",
    "cancel:before", "cancel:answered", "query:before", "query:answered",
    "event:before", "event:after",
    "write_events:before", "write_events:durable", "write_trades:before", "write_trades:durable",
    "open_trades:read",
    "known_orders:read", "trade_of:read", "await",
)  # fmt: skip


@dataclass(slots=True)
class Incident:
    """A crash (or a pause of so many seconds) at the ``nth`` crossing of a point by the process of a generation."""

    point: str
    generation: int
    nth: int
    pause: float = 0.0
    fault: str = ""
