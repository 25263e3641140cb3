"""Ways to take the database from a process: lock it, fill it, make it read-only, cut the network to it."""

from __future__ import annotations

import sqlite3
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import psycopg
from django.db import connection, connections

from tests.crash.proxy import Proxy
from tests.crash.stage import database_url


def server_address() -> tuple[str, int]:
    """Return where the PostgreSQL server of this run listens."""
    given = connections.settings["default"]
    host = given["HOST"] if given["HOST"] and not given["HOST"].startswith("/") else "127.0.0.1"
    return host, int(given["PORT"] or 5432)


@contextmanager
def locked_database() -> Iterator[None]:
    """Hold SQLite's one writer's lock."""
    locking = sqlite3.connect(connection.settings_dict["NAME"], isolation_level=None, timeout=30)
    locking.execute("BEGIN EXCLUSIVE")
    try:
        yield
    finally:
        locking.execute("ROLLBACK")
        locking.close()


def is_free() -> bool:
    """Return whether nobody holds SQLite's one writer's lock now."""
    trying = sqlite3.connect(connection.settings_dict["NAME"], isolation_level=None, timeout=0.2)
    try:
        trying.execute("BEGIN IMMEDIATE")
        trying.execute("ROLLBACK")
    except sqlite3.OperationalError:
        return False
    finally:
        trying.close()
    return True


@contextmanager
def connecting_with(**changes: Any) -> Iterator[None]:
    """Let connections that are opened inside be opened with other settings. OPTIONS are added to those there are."""
    settings = connections.settings["default"]
    before = {name: settings[name] for name in changes}
    for name, value in changes.items():
        settings[name] = {**settings[name], **value} if isinstance(value, dict) else value
    try:
        yield
    finally:
        settings.update(before)


@contextmanager
def through_proxy() -> Iterator[Proxy]:
    """Lead connections that are opened inside through a network that can be broken; PostgreSQL only."""
    proxy = Proxy(server_address())
    try:
        with connecting_with(HOST="127.0.0.1", PORT=str(proxy.port)):
            yield proxy
    finally:
        proxy.close()


@contextmanager
def full_or_read_only() -> Iterator[None]:
    """Give connections that are opened inside a disk without room (SQLite) or a server that only reads."""
    if connection.vendor == "sqlite":
        start = connections.settings["default"]["OPTIONS"]["init_command"]
        with connecting_with(OPTIONS={"init_command": f"{start} PRAGMA max_page_count=1;"}):
            yield
    else:
        with connecting_with(OPTIONS={"options": "-c default_transaction_read_only=on"}):
            yield


@contextmanager
def undoing(table: str, code: str, times: int) -> Iterator[Callable[[], int]]:
    """Let the first ``times`` inserts into a table end with an SQLSTATE; PostgreSQL only.

    Yields what tells how many inserts there were, those that were undone too: sequences are not.
    """
    with psycopg.connect(database_url(), autocommit=True) as other:
        other.execute("CREATE SEQUENCE undone")
        other.execute(
            f"""CREATE FUNCTION undo() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN
                IF nextval('undone') <= {times} THEN RAISE EXCEPTION 'undone' USING ERRCODE = '{code}'; END IF;
                RETURN NULL; END $$""".encode()
        )
        other.execute(
            f"CREATE TRIGGER undo BEFORE INSERT ON {table} FOR EACH STATEMENT EXECUTE FUNCTION undo()".encode()
        )

        def counted() -> int:
            row = other.execute("SELECT CASE WHEN is_called THEN last_value ELSE 0 END FROM undone").fetchone()
            assert row is not None
            return int(row[0])

        try:
            yield counted
        finally:
            other.execute("DROP FUNCTION undo CASCADE")
            other.execute("DROP SEQUENCE undone")


def give_back_room() -> None:
    """Leave no free pages inside SQLite's file, so that a disk without room is felt at once."""
    if connection.vendor == "sqlite":
        with connection.cursor() as cursor:
            cursor.execute("VACUUM")
