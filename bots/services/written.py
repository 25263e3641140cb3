"""Queries whose statement is written once: while a person waits, Django takes longer to write one than to run it."""

from __future__ import annotations

from collections.abc import Callable
from copy import copy
from types import SimpleNamespace
from typing import Any, Generic, TypeVar

from django.db import connection
from django.db.models import Model, QuerySet
from django.db.models.query import ModelIterable

Row = TypeVar("Row", bound=Model)


class Written(Generic[Row]):
    """A queryset with places for values: ``make`` is called once with what stands for them, an int or a text each, as
    ``kinds`` say. It may filter by them and nothing else: what it makes of them in Python stays as it is.

    Called with the values it returns the rows, as the queryset would.
    """

    def __init__(self, make: Callable[..., QuerySet[Row]], *kinds: type[int] | type[str]) -> None:
        self._make = make
        # Of a value that nobody asks for, and that the database's own form is.
        self._places: list[Any] = [
            -(2**62) - number if kind is int else f"place {number} \x1a" for number, kind in enumerate(kinds)
        ]
        self._kept: tuple[Any, str, tuple[Any, ...]] | None = None

    def __call__(self, *values: int | str) -> list[Row]:
        kept, sql, parameters = self._kept = self._kept or self._write()
        given = dict(zip(self._places, values, strict=True))
        filled = tuple(given.get(one, one) if isinstance(one, int | str) else one for one in parameters)
        compiler = copy(kept)
        compiler.connection = connection  # of this thread
        compiler.as_sql = lambda: (sql, filled)
        # All that the iterable asks of a queryset.
        query = SimpleNamespace(get_compiler=lambda using: compiler)
        asked: Any = SimpleNamespace(db=connection.alias, query=query, _known_related_objects={})
        rows: ModelIterable[Row] = ModelIterable(asked)
        return list(rows)

    def _write(self) -> tuple[Any, str, tuple[Any, ...]]:
        compiler = self._make(*self._places).query.get_compiler(connection=connection)
        sql, parameters = compiler.as_sql()
        missing = [place for place in self._places if place not in parameters]
        assert not missing, f"{missing} stand for nothing in {sql}"
        return compiler, sql, parameters
