"""Whether this code and the database's schema belong together."""

from __future__ import annotations

from functools import lru_cache

from django.db import connection
from django.db.migrations.loader import MigrationLoader
from django.db.migrations.recorder import MigrationRecorder

OURS = ("bots", "risk")


def schema_fault() -> str:
    """Return why nothing may be traded on this schema, or an empty string.

    Code that is older than the schema may leave out what the newer relies on, and code that is newer finds no column:
    either way an order could be sent whose row says too little. Reads one small table.
    """
    applied = {key for key in MigrationRecorder(connection).applied_migrations() if key[0] in OURS}
    known = _known()
    if ahead := sorted(applied - known):
        return f"the database is ahead of this code (migration {_names(ahead)}): start the newer version"
    if missing := sorted(known - applied):
        return f"the database is behind this code (migration {_names(missing)} is missing): ./arb migrate"
    return ""


@lru_cache(maxsize=1)
def _known() -> frozenset[tuple[str, str]]:
    return frozenset(key for key in MigrationLoader(None).disk_migrations if key[0] in OURS)


def _names(keys: list[tuple[str, str]]) -> str:
    return ", ".join(f"{app}.{name}" for app, name in keys)
