"""What a simulated exchange must not forget: accounts, balances, orders, fills and counters, in one SQLite file.

Every operation is one transaction, committed before its answer leaves, so an exchange that is killed goes on with
exactly what it had told its users.
"""

from __future__ import annotations

import sqlite3
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from decimal import Decimal
from pathlib import Path
from typing import TypeVar

import msgspec

from exchangesim.core.accounts import Account, Balance
from exchangesim.core.futures.algo_orders import AlgoOrder
from exchangesim.core.order_lists import OrderList
from exchangesim.core.orders import Fill, Order

Body = TypeVar("Body")

_SCHEMA = """
CREATE TABLE IF NOT EXISTS accounts (
    exchange TEXT, api_key TEXT, body BLOB NOT NULL, PRIMARY KEY (exchange, api_key));
CREATE TABLE IF NOT EXISTS balances (
    exchange TEXT, api_key TEXT, asset TEXT, free TEXT NOT NULL, locked TEXT NOT NULL,
    PRIMARY KEY (exchange, api_key, asset)) WITHOUT ROWID;
CREATE TABLE IF NOT EXISTS orders (
    exchange TEXT, id INTEGER, api_key TEXT NOT NULL, native TEXT NOT NULL, client_id TEXT NOT NULL,
    open INTEGER NOT NULL, created_ms INTEGER NOT NULL, body BLOB NOT NULL, PRIMARY KEY (exchange, id)) WITHOUT ROWID;
CREATE INDEX IF NOT EXISTS orders_client ON orders (exchange, api_key, client_id);
CREATE INDEX IF NOT EXISTS orders_open ON orders (exchange, open) WHERE open = 1;
CREATE INDEX IF NOT EXISTS orders_closed ON orders (exchange, id) WHERE open = 0;
CREATE TABLE IF NOT EXISTS fills (
    exchange TEXT, trade_id INTEGER, order_id INTEGER, api_key TEXT NOT NULL, native TEXT NOT NULL,
    time_ms INTEGER NOT NULL, body BLOB NOT NULL, PRIMARY KEY (exchange, trade_id, order_id)) WITHOUT ROWID;
CREATE INDEX IF NOT EXISTS fills_order ON fills (exchange, order_id);
CREATE TABLE IF NOT EXISTS lists (
    exchange TEXT, id INTEGER, api_key TEXT NOT NULL, native TEXT NOT NULL, client_id TEXT NOT NULL,
    open INTEGER NOT NULL, created_ms INTEGER NOT NULL, body BLOB NOT NULL, PRIMARY KEY (exchange, id)) WITHOUT ROWID;
CREATE INDEX IF NOT EXISTS lists_client ON lists (exchange, api_key, client_id);
CREATE TABLE IF NOT EXISTS algos (
    exchange TEXT, id INTEGER, api_key TEXT NOT NULL, native TEXT NOT NULL, client_id TEXT NOT NULL,
    open INTEGER NOT NULL, created_ms INTEGER NOT NULL, body BLOB NOT NULL, PRIMARY KEY (exchange, id)) WITHOUT ROWID;
CREATE INDEX IF NOT EXISTS algos_client ON algos (exchange, api_key, client_id);
CREATE TABLE IF NOT EXISTS entries (
    exchange TEXT, id INTEGER, api_key TEXT NOT NULL, native TEXT NOT NULL, kind TEXT NOT NULL, asset TEXT NOT NULL,
    amount TEXT NOT NULL, time_ms INTEGER NOT NULL, trade_id INTEGER NOT NULL,
    PRIMARY KEY (exchange, id)) WITHOUT ROWID;
CREATE INDEX IF NOT EXISTS entries_account ON entries (exchange, api_key, id);
CREATE TABLE IF NOT EXISTS facts (exchange TEXT, name TEXT, body BLOB NOT NULL, PRIMARY KEY (exchange, name));
"""


class StateError(Exception):
    """The state directory cannot be used; the text is one sentence for the operator."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Entry:
    """One change of an account's wallet as its statement lists it; ``trade_id`` 0 where no trade was the cause."""

    id: int
    api_key: str
    native: str
    kind: str
    asset: str
    amount: Decimal
    time_ms: int
    trade_id: int = 0


class _StoredAccount(msgspec.Struct):
    uid: int
    secret: str
    passphrase: str
    permissions: list[str]
    updated_ms: int
    revoked: bool = False


class Store:
    """The state of all exchanges of one simulator. ``directory`` None keeps it in memory."""

    def __init__(self, directory: Path | None = None, *, keep_closed: int | None = None) -> None:
        """``keep_closed`` closed orders an exchange are kept: 100,000 on disk, 20,000 in memory unless given."""
        self.keep_closed = keep_closed or (20_000 if directory is None else 100_000)
        path = ":memory:"
        if directory is not None:
            try:
                directory.mkdir(parents=True, exist_ok=True)
            except OSError as error:
                raise StateError(f"--state {directory}: cannot make the directory ({error.strerror}).") from None
            path = str(directory / "exchangesim.sqlite3")
        try:
            self._db = sqlite3.connect(path, isolation_level=None, timeout=1.0)
            # WAL with NORMAL survives the death of this process; only a power cut may lose the last transactions.
            self._db.execute("PRAGMA journal_mode=WAL")
            self._db.execute("PRAGMA synchronous=NORMAL")
            if directory is not None:
                # One simulator per state: a second one would hand out the same ids.
                self._db.execute("PRAGMA locking_mode=EXCLUSIVE")
                self._db.execute("BEGIN EXCLUSIVE")
                self._db.execute("COMMIT")
            self._db.executescript(_SCHEMA)
        except sqlite3.Error as error:
            raise StateError(
                f"--state {directory}: cannot use {path} ({error}); it must be writable and used by one simulator only."
            ) from None

    def close(self) -> None:
        self._db.close()

    # Writing

    def commit(
        self,
        exchange: str,
        *,
        orders: Iterable[Order] = (),
        lists: Iterable[OrderList] = (),
        algos: Iterable[AlgoOrder] = (),
        fills: Iterable[Fill] = (),
        accounts: Iterable[Account] = (),
        facts: Iterable[tuple[str, object]] = (),
        entries: Iterable[Entry] = (),
    ) -> None:
        """Write changed things in one transaction."""
        encode = msgspec.json.encode
        db = self._db
        db.execute("BEGIN")
        try:
            for table, things in (("orders", orders), ("lists", lists), ("algos", algos)):
                db.executemany(
                    f"INSERT OR REPLACE INTO {table} VALUES (?, ?, ?, ?, ?, ?, ?, ?)",  # noqa: S608
                    [
                        (exchange, t.id, t.api_key, t.native, t.client_id, int(t.is_open), t.created_ms, encode(t))
                        for t in things
                    ],
                )
            db.executemany(
                "INSERT OR REPLACE INTO fills VALUES (?, ?, ?, ?, ?, ?, ?)",
                [(exchange, f.trade_id, f.order_id, f.api_key, f.native, f.time_ms, encode(f)) for f in fills],
            )
            for account in accounts:
                stored = _StoredAccount(
                    account.uid,
                    account.secret,
                    account.passphrase,
                    sorted(account.permissions),
                    account.updated_ms,
                    account.revoked,
                )
                db.execute(
                    "INSERT OR REPLACE INTO accounts VALUES (?, ?, ?)", (exchange, account.api_key, encode(stored))
                )
                db.executemany(
                    "INSERT OR REPLACE INTO balances VALUES (?, ?, ?, ?, ?)",
                    [
                        (exchange, account.api_key, asset, str(balance.free), str(balance.locked))
                        for asset, balance in account.balances.items()
                    ],
                )
            db.executemany(
                "INSERT OR REPLACE INTO facts VALUES (?, ?, ?)",
                [(exchange, name, encode(value)) for name, value in facts],
            )
            db.executemany(
                "INSERT INTO entries VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?)",
                [
                    (exchange, e.id, e.api_key, e.native, e.kind, e.asset, str(e.amount), e.time_ms, e.trade_id)
                    for e in entries
                ],
            )
        except BaseException:
            db.execute("ROLLBACK")
            raise
        db.execute("COMMIT")

    def forget(self, exchange: str, *, order_id: int, trade_id: int | None = None) -> None:
        """Take away one fill of an order, or, without ``trade_id``, the order itself."""
        if trade_id is None:
            self._db.execute("DELETE FROM orders WHERE exchange = ? AND id = ?", (exchange, order_id))
        else:
            self._db.execute(
                "DELETE FROM fills WHERE exchange = ? AND trade_id = ? AND order_id = ?", (exchange, trade_id, order_id)
            )

    def prune(self, exchange: str) -> None:
        """Forget the oldest closed orders beyond ``keep_closed``, and their fills."""
        row = self._db.execute(
            "SELECT id FROM orders INDEXED BY orders_closed WHERE exchange = ? AND open = 0 "
            "ORDER BY id DESC LIMIT 1 OFFSET ?",
            (exchange, self.keep_closed),
        ).fetchone()
        if row is not None:
            self._db.execute("DELETE FROM orders WHERE exchange = ? AND open = 0 AND id <= ?", (exchange, row[0]))
            self._db.execute("DELETE FROM fills WHERE exchange = ? AND order_id <= ?", (exchange, row[0]))
        for table in ("lists", "algos"):
            self._db.execute(
                f"DELETE FROM {table} WHERE exchange = ? AND open = 0 AND id <= "  # noqa: S608
                f"(SELECT max(id) FROM {table} WHERE exchange = ?) - ?",
                (exchange, exchange, self.keep_closed),
            )
        row = self._db.execute(
            "SELECT id FROM entries WHERE exchange = ? ORDER BY id DESC LIMIT 1 OFFSET ?", (exchange, self.keep_closed)
        ).fetchone()
        if row is not None:
            self._db.execute("DELETE FROM entries WHERE exchange = ? AND id <= ?", (exchange, row[0]))

    # Reading

    def accounts(self, exchange: str) -> list[Account]:
        found = []
        for api_key, body in self._db.execute("SELECT api_key, body FROM accounts WHERE exchange = ?", (exchange,)):
            stored = msgspec.json.decode(body, type=_StoredAccount)
            account = Account(
                api_key=api_key,
                uid=stored.uid,
                secret=stored.secret,
                passphrase=stored.passphrase,
                permissions=frozenset(stored.permissions),
                updated_ms=stored.updated_ms,
                revoked=stored.revoked,
            )
            for asset, free, locked in self._db.execute(
                "SELECT asset, free, locked FROM balances WHERE exchange = ? AND api_key = ?", (exchange, api_key)
            ):
                account.balances[asset] = Balance(Decimal(free), Decimal(locked))
            found.append(account)
        return found

    def open_orders(self, exchange: str) -> list[Order]:
        rows = self._db.execute("SELECT body FROM orders WHERE exchange = ? AND open = 1 ORDER BY id", (exchange,))
        return [msgspec.json.decode(body, type=Order) for (body,) in rows]

    def order(self, exchange: str, order_id: int) -> Order | None:
        return self._one("orders", Order, "id = ?", exchange, order_id)

    def order_by_client_id(self, exchange: str, api_key: str, client_id: str) -> Order | None:
        """Return the newest order that carried this client id."""
        return self._one("orders", Order, "api_key = ? AND client_id = ?", exchange, api_key, client_id)

    def orders(
        self,
        exchange: str,
        *,
        api_key: str | None = None,
        native: str | None = None,
        from_id: int | None = None,
        below_id: int | None = None,
        start_ms: int | None = None,
        end_ms: int | None = None,
        closed_only: bool = False,
        newest: bool = True,
        limit: int = 500,
    ) -> list[Order]:
        """Return orders, oldest first; of more than ``limit`` the newest, or the oldest when not ``newest``."""
        where, values = _where(exchange, api_key, native, start_ms, end_ms, "created_ms")
        if from_id is not None:
            where, values = [*where, "id >= ?"], [*values, from_id]
        if below_id is not None:
            where, values = [*where, "id < ?"], [*values, below_id]
        if closed_only:
            where = [*where, "open = 0"]
        return self._several("orders", Order, where, values, newest=newest, limit=limit)

    def fills(
        self,
        exchange: str,
        *,
        api_key: str | None = None,
        native: str | None = None,
        order_id: int | None = None,
        from_id: int | None = None,
        below_id: int | None = None,
        start_ms: int | None = None,
        end_ms: int | None = None,
        newest: bool = True,
        limit: int = 500,
    ) -> list[Fill]:
        """Return fills by trade id, oldest first; limited as ``orders`` is."""
        where, values = _where(exchange, api_key, native, start_ms, end_ms, "time_ms")
        if order_id is not None:
            where, values = [*where, "order_id = ?"], [*values, order_id]
        if from_id is not None:
            where, values = [*where, "trade_id >= ?"], [*values, from_id]
        if below_id is not None:
            where, values = [*where, "trade_id < ?"], [*values, below_id]
        direction = "DESC" if newest else "ASC"
        rows = self._db.execute(
            f"SELECT body FROM fills WHERE {' AND '.join(where)} "  # noqa: S608
            f"ORDER BY trade_id {direction}, order_id {direction} LIMIT ?",
            [*values, limit],
        ).fetchall()
        found = [msgspec.json.decode(body, type=Fill) for (body,) in rows]
        return found[::-1] if newest else found

    def order_list(self, exchange: str, list_id: int) -> OrderList | None:
        return self._one("lists", OrderList, "id = ?", exchange, list_id)

    def order_list_by_client_id(self, exchange: str, api_key: str, client_id: str) -> OrderList | None:
        """Return the newest list that carried this client id."""
        return self._one("lists", OrderList, "api_key = ? AND client_id = ?", exchange, api_key, client_id)

    def order_lists(
        self,
        exchange: str,
        *,
        api_key: str | None = None,
        native: str | None = None,
        from_id: int | None = None,
        start_ms: int | None = None,
        end_ms: int | None = None,
        open_only: bool = False,
        newest: bool = True,
        limit: int = 500,
    ) -> list[OrderList]:
        """Return order lists, oldest first; limited as ``orders`` is."""
        where, values = _where(exchange, api_key, native, start_ms, end_ms, "created_ms")
        if from_id is not None:
            where, values = [*where, "id >= ?"], [*values, from_id]
        if open_only:
            where = [*where, "open = 1"]
        return self._several("lists", OrderList, where, values, newest=newest, limit=limit)

    def algo(self, exchange: str, algo_id: int) -> AlgoOrder | None:
        return self._one("algos", AlgoOrder, "id = ?", exchange, algo_id)

    def algo_by_client_id(self, exchange: str, api_key: str, client_id: str) -> AlgoOrder | None:
        """Return the newest conditional order on contracts that carried this client id."""
        return self._one("algos", AlgoOrder, "api_key = ? AND client_id = ?", exchange, api_key, client_id)

    def algos(
        self,
        exchange: str,
        *,
        api_key: str | None = None,
        native: str | None = None,
        start_ms: int | None = None,
        end_ms: int | None = None,
        from_id: int | None = None,
        open_only: bool = False,
        newest: bool = True,
        limit: int = 100_000,
    ) -> list[AlgoOrder]:
        """Return conditional orders on contracts, oldest first; limited as ``orders`` is."""
        where, values = _where(exchange, api_key, native, start_ms, end_ms, "created_ms")
        if from_id is not None:
            where, values = [*where, "id >= ?"], [*values, from_id]
        if open_only:
            where = [*where, "open = 1"]
        return self._several("algos", AlgoOrder, where, values, newest=newest, limit=limit)

    def entries(
        self,
        exchange: str,
        *,
        api_key: str,
        native: str | None = None,
        kind: str | None = None,
        start_ms: int | None = None,
        end_ms: int | None = None,
        newest: bool = True,
        limit: int = 100,
    ) -> list[Entry]:
        """Return an account's statement, oldest first; limited as ``orders`` is."""
        where, values = _where(exchange, api_key, native, start_ms, end_ms, "time_ms")
        if kind is not None:
            where, values = [*where, "kind = ?"], [*values, kind]
        rows = self._db.execute(
            "SELECT id, api_key, native, kind, asset, amount, time_ms, trade_id FROM entries "  # noqa: S608
            f"WHERE {' AND '.join(where)} ORDER BY id {'DESC' if newest else 'ASC'} LIMIT ?",
            [*values, limit],
        ).fetchall()
        found = [
            Entry(
                id=row[0],
                api_key=row[1],
                native=row[2],
                kind=row[3],
                asset=row[4],
                amount=Decimal(row[5]),
                time_ms=row[6],
                trade_id=row[7],
            )
            for row in rows
        ]
        return found[::-1] if newest else found

    def facts(self, exchange: str, prefix: str) -> dict[str, object]:
        """Return all facts whose name starts with ``prefix``, by what follows it."""
        rows = self._db.execute(
            "SELECT name, body FROM facts WHERE exchange = ? AND substr(name, 1, ?) = ?",
            (exchange, len(prefix), prefix),
        )
        return {name[len(prefix) :]: msgspec.json.decode(body) for name, body in rows}

    def fact(self, exchange: str, name: str) -> object:
        row = self._db.execute("SELECT body FROM facts WHERE exchange = ? AND name = ?", (exchange, name)).fetchone()
        return None if row is None else msgspec.json.decode(row[0])

    def _one(self, table: str, kind: type[Body], where: str, *values: object) -> Body | None:
        """Return the newest row of an exchange (the first value) that meets a condition."""
        row = self._db.execute(
            f"SELECT body FROM {table} WHERE exchange = ? AND {where} ORDER BY id DESC LIMIT 1",  # noqa: S608
            values,
        ).fetchone()
        return None if row is None else msgspec.json.decode(row[0], type=kind)

    def _several(
        self, table: str, kind: type[Body], where: Sequence[str], values: Sequence[object], *, newest: bool, limit: int
    ) -> list[Body]:
        """Return rows, oldest first; of more than ``limit`` the newest, or the oldest when not ``newest``."""
        rows = self._db.execute(
            f"SELECT body FROM {table} WHERE {' AND '.join(where)} ORDER BY id {'DESC' if newest else 'ASC'} LIMIT ?",  # noqa: S608
            [*values, limit],
        ).fetchall()
        found = [msgspec.json.decode(body, type=kind) for (body,) in rows]
        return found[::-1] if newest else found


def _where(
    exchange: str, api_key: str | None, native: str | None, start_ms: int | None, end_ms: int | None, time_column: str
) -> tuple[list[str], list[object]]:
    where: list[str] = ["exchange = ?"]
    values: list[object] = [exchange]
    conditions: Sequence[tuple[str, object]] = (
        ("api_key = ?", api_key),
        ("native = ?", native),
        (f"{time_column} >= ?", start_ms),
        (f"{time_column} <= ?", end_ms),
    )
    for condition, value in conditions:
        if value is not None:
            where.append(condition)
            values.append(value)
    return where, values


class Counter:
    """Numbers that keep growing across restarts.

    A block is reserved in the store before its numbers are used, so a kill skips some numbers but repeats none.
    """

    def __init__(self, store: Store, exchange: str, name: str, *, first: int = 1, block: int = 1000) -> None:
        self._store, self._exchange, self._name, self._block = store, exchange, f"counter:{name}", block
        kept = store.fact(exchange, self._name)
        self._next = kept if isinstance(kept, int) else first
        self._ceiling = self._next

    @property
    def last(self) -> int:
        """The number most recently given out."""
        return self._next - 1

    def take(self, count: int = 1) -> int:
        """Return the first of ``count`` consecutive new numbers."""
        first = self._next
        self._next += count
        if self._next > self._ceiling:
            self._ceiling = self._next + self._block
            self._store.commit(self._exchange, facts=[(self._name, self._ceiling)])
        return first
