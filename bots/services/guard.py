"""What every durable write of the engine has around it: repetition is harmless, an absent database is a value."""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import TypeVar

from django.db import IntegrityError, InterfaceError, InternalError, OperationalError, connection

from trading.ports import StoreUnavailable

Result = TypeVar("Result")

# What a database raises that is away or takes nothing; InternalError is PostgreSQL's word on a server that only reads.
AWAY = (OperationalError, InterfaceError, InternalError)

# PostgreSQL's codes of a transaction that it undid as a whole, and that is to be run again: a serialization failure, a
# deadlock (PostgreSQL documentation, "Serialization Failure Handling").
UNDONE = frozenset({"40001", "40P01"})
# Tried again at once, the transaction may take the lock back before the one that it made room for has woken up.
PAUSES_SECONDS = (0.02, 0.2)
ATTEMPTS = len(PAUSES_SECONDS) + 1


def guarded(work: Callable[[], Result]) -> Result:
    """Run a transaction, again when the database undid it for the sake of another one.

    Raises
    ------
    StoreUnavailable
        If the database is away, locked or full, or has undone the transaction ATTEMPTS times.
    """
    for pause in (*PAUSES_SECONDS, None):
        try:
            return work()
        except AWAY as problem:
            # Within a transaction that goes on around this one, only all of it could be run again.
            if pause is None or connection.in_atomic_block or not _is_undone(problem):
                raise StoreUnavailable(f"the database takes no work now: {problem}") from problem
            time.sleep(pause)
    raise AssertionError("unreachable: the last attempt returns or raises")


def _is_undone(problem: Exception) -> bool:
    return getattr(problem.__cause__, "sqlstate", None) in UNDONE


def retried_once(work: Callable[[], Result]) -> Result:
    """Run a transaction that inserts what is missing; again if somebody else inserted the same meanwhile."""

    def attempt() -> Result:
        try:
            return work()
        except IntegrityError:
            return work()

    return guarded(attempt)
