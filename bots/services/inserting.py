"""Inserts a row unless it is there: one statement, where asking first and inserting under a savepoint takes four.

And changes one: while a person waits, Django takes longer to write such statements than to run them.
"""

from __future__ import annotations

from django.db import connection
from django.db.models import Field, Model


def insert_unless_there(row: Model) -> bool:
    """Insert an unsaved row and return True; False, and nothing is written, if one of its unique values is taken.

    A transaction that is inserting the same is waited for, and counts if it commits. The row has its primary key
    after that. Everything else that is wrong with it raises as when it is saved.
    """
    meta = row._meta
    key = meta.pk
    assert key is not None
    fields: list[Field[object, object]] = [field for field in meta.concrete_fields if not field.primary_key]
    values = [field.get_db_prep_save(field.pre_save(row, add=True), connection) for field in fields]
    columns = ", ".join(f'"{field.column}"' for field in fields)
    sql = (
        f'INSERT INTO "{meta.db_table}" ({columns}) VALUES ({", ".join(["%s"] * len(fields))}) '  # noqa: S608
        f'ON CONFLICT DO NOTHING RETURNING "{key.column}"'
    )
    with connection.cursor() as cursor:
        cursor.execute(sql, values)
        found = cursor.fetchone()
    if found is None:
        return False
    setattr(row, key.attname, found[0])
    row._state.adding, row._state.db = False, connection.alias
    return True


def update_columns(row: Model, *names: str) -> None:
    """Write the named fields of a stored row as they stand."""
    meta = row._meta
    key = meta.pk
    assert key is not None
    fields = [field for field in meta.concrete_fields if field.name in names]
    values = [field.get_db_prep_save(getattr(row, field.attname), connection) for field in fields]
    columns = ", ".join(f'"{field.column}" = %s' for field in fields)
    sql = f'UPDATE "{meta.db_table}" SET {columns} WHERE "{key.column}" = %s'  # noqa: S608
    with connection.cursor() as cursor:
        cursor.execute(sql, [*values, row.pk])
