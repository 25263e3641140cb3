"""What every durable write of the engine has around it: repetition is harmless, an absent database is a value."""

from __future__ import annotations

from collections.abc import Callable
from typing import TypeVar

from django.db import IntegrityError, InterfaceError, InternalError, OperationalError

from trading.ports import StoreUnavailable

Result = TypeVar("Result")

# What a database raises that is away or takes nothing; InternalError is PostgreSQL's word on a server that only reads.
AWAY = (OperationalError, InterfaceError, InternalError)


def guarded(work: Callable[[], Result]) -> Result:
    """Run a transaction; raise StoreUnavailable when the database is away, locked or full."""
    try:
        return work()
    except AWAY as problem:
        raise StoreUnavailable(f"the database takes no work now: {problem}") from problem


def committed_once(work: Callable[[], None], is_done: Callable[[], bool]) -> None:
    """Run a transaction that may have been committed before (the answer to COMMIT was lost): then it is done."""

    def attempt() -> None:
        try:
            work()
        except IntegrityError:
            if not is_done():
                raise

    guarded(attempt)


def retried_once(work: Callable[[], Result]) -> Result:
    """Run a transaction that inserts what is missing; again if somebody else inserted the same meanwhile."""

    def attempt() -> Result:
        try:
            return work()
        except IntegrityError:
            return work()

    return guarded(attempt)
