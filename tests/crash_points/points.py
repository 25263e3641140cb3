"""Where a process is killed, by name and number, so that one point is one run."""

from __future__ import annotations

from dataclasses import dataclass
from enum import Enum


class Kind(Enum):
    """What of a process is counted, and what becomes of it there."""

    AWAIT = "await"  # one resumption of a task, or one callback: the process does not live to see it
    ASKED = "asked"  # one call of the database: the process is gone before it gets there
    UNDONE = "undone"  # one COMMIT: everything before it was done, the connection is gone, the database undoes it
    DURABLE = "durable"  # one COMMIT, or the end of a call without one: it counts, the answer reaches nobody
    LATE = "late"  # one call: the process stands still, another takes over, then the call arrives; then it goes on


@dataclass(frozen=True, slots=True, order=True)
class Point:
    """The ``number``-th of its kind in the process of a generation (1: the first engine, 2: who recovers)."""

    generation: int
    kind: str
    number: int
    what: str = ""  # the call, for people

    def __str__(self) -> str:
        return f"{self.kind} {self.number} of engine {self.generation}{f' ({self.what})' if self.what else ''}"
