"""How much memory this process and its children really take."""

from __future__ import annotations

import contextlib
import os
from pathlib import Path

PROC = Path("/proc")


def process_tree(root: int) -> list[int]:
    """Return ``root`` and all its descendants; only ``root`` where the system has no /proc."""
    children: dict[int, list[int]] = {}
    for entry in PROC.glob("[0-9]*/stat"):
        with contextlib.suppress(OSError, ValueError, IndexError):
            # The name in parentheses may hold spaces; the parent is the second field after it.
            parent = int(entry.read_text().rpartition(")")[2].split()[1])
            children.setdefault(parent, []).append(int(entry.parent.name))
    found, waiting = [], [root]
    while waiting:
        pid = waiting.pop()
        found.append(pid)
        waiting += children.get(pid, [])
    return found


def tree_megabytes(root: int | None = None) -> float | None:
    """Return the proportional set size of the process tree in MB (shared pages counted once), None if unknown."""
    total = 0
    for pid in process_tree(root or os.getpid()):
        with contextlib.suppress(OSError, ValueError, IndexError):
            for line in (PROC / str(pid) / "smaps_rollup").read_text().splitlines():
                if line.startswith("Pss:"):
                    total += int(line.split()[1])
    return round(total / 1024, 1) if total else None
