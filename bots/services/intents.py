"""A trade's intent as one statement, which is one round trip: on PostgreSQL each further one would delay the orders.

What is checked and what is written are those of ``trades._insert_in_steps``: the rows are the same model instances.
Nothing is inserted unless everything is right, so the statement is a transaction of its own; who wants to know what
was wrong asks for it afterwards.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from functools import lru_cache
from itertools import count
from typing import Any

from django.db import connection
from django.db.models import Field, Model
from psycopg import RawCursor
from psycopg.types.json import Jsonb

from bots.models import Bot, Decision, Exchange, ExchangeAccount, Market, Order, OrderEvent, OwnerLease, Trade
from risk.models import TradingSwitch

# Columns the statement fills from rows it finds or makes.
_JOINED = {"trade_id", "market_id"}


def is_one_statement() -> bool:
    """Return whether the database takes an intent as one statement."""
    return connection.vendor == "postgresql"


def intent_insert(
    *,
    owner_id: int,
    token: int,
    trade: Trade,
    orders: Sequence[Order],
    market_keys: Sequence[str],
    steps: Sequence[OrderEvent],
    decision: Decision | None,
) -> bool:
    """Insert unsaved rows under the lease's token; False, and nothing is written, if anything is not as it must be.

    That is: the token is the present one and has not expired (its row stays locked until the commit), trading is
    switched to normal, bot and accounts are the owner's, the markets exist, the trade is new. ``market_keys`` go with
    ``orders``; ``steps`` are the history each of them gets.
    """
    parameters: list[Any] = [owner_id, token, trade.bot_id, owner_id, owner_id, trade.bot_id]
    for order, key in zip(orders, market_keys, strict=True):
        exchange, _, symbol = key.partition(":")
        parameters += [exchange, symbol, *_values(order, _order_fields())]
    parameters += _values(trade, _fields(Trade))
    for step in steps:
        parameters += _values(step, _fields(OrderEvent, "order_id"))
    if decision is not None:
        parameters += _values(decision, _fields(Decision))
    sql = _statement(len(orders), len(steps), decision is not None)
    connection.ensure_connection()
    with connection.wrap_database_errors, _preparing(connection.connection), RawCursor(connection.connection) as cursor:
        inserted = cursor.execute(sql, parameters, prepare=True).fetchone()
    return inserted is not None and inserted[0] == len(orders)


@contextmanager
def _preparing(raw: Any) -> Iterator[None]:
    """Let statements be prepared, which Django turns off: planning this one anew costs twice what running it does."""
    before, raw.prepare_threshold = raw.prepare_threshold, 0
    try:
        yield
    finally:
        raw.prepare_threshold = before


@lru_cache(maxsize=32)
def _statement(orders: int, steps: int, decision: bool) -> str:
    trade, order, step = _fields(Trade), _order_fields(), _fields(OrderEvent, "order_id")
    parts = [
        # Without a lease there is no row to insert from. The lock keeps anybody from taking the lease over until the
        # commit; the clock is read after the wait for it.
        f"""lease AS MATERIALIZED (
            SELECT 1 FROM {_table(OwnerLease)}
            WHERE owner_id = %s::bigint AND token = %s::bigint AND expires_at > clock_timestamp() FOR NO KEY UPDATE)""",
        f"bot AS (SELECT 1 FROM {_table(Bot)} WHERE id = %s::bigint AND owner_id = %s::bigint)",
        f"""switched AS (SELECT 1 FROM {_table(TradingSwitch)} WHERE state <> 'normal'
            AND (scope = 'global' OR owner_id = %s::bigint OR bot_id = %s::bigint))""",
        f"""leg AS MATERIALIZED (
            SELECT given.*, market.id AS market_id
            FROM (VALUES {_rows(order, orders, "%s::varchar", "%s::varchar")})
                AS given (n, exchange_code, market_symbol, {_names(order)})
            JOIN {_table(ExchangeAccount)} account ON account.id = given.account_id
                AND account.owner_id = given.owner_id
            JOIN {_table(Exchange)} exchange ON exchange.code = given.exchange_code
            JOIN {_table(Market)} market ON market.exchange_id = exchange.id
                AND market.symbol = given.market_symbol)""",
        f"""trade AS (
            INSERT INTO {_table(Trade)} ({_names(trade)})
            SELECT {_casts(trade)} FROM lease, bot
            WHERE NOT EXISTS (SELECT 1 FROM switched) AND (SELECT count(*) FROM leg) = {orders}
            ON CONFLICT (trade_id) DO NOTHING RETURNING id)""",
        f"""placed AS (
            INSERT INTO {_table(Order)} ({_names(order)}, trade_id, market_id)
            SELECT {_names(order, "leg.")}, trade.id, leg.market_id FROM trade, leg ORDER BY leg.n RETURNING id)""",
        f"""history AS (
            INSERT INTO {_table(OrderEvent)} (order_id, {_names(step)})
            SELECT placed.id, {_names(step, "step.")}
            FROM placed, (VALUES {_rows(step, steps)}) AS step (n, {_names(step)}) ORDER BY placed.id, step.n)""",
    ]
    if decision:
        fields = _fields(Decision)
        parts.append(f"taken AS (INSERT INTO {_table(Decision)} ({_names(fields)}) SELECT {_casts(fields)} FROM trade)")
    numbers = count(1)
    return re.sub("%s", lambda _: f"${next(numbers)}", f"WITH {', '.join(parts)} SELECT count(*) FROM placed")


def _order_fields() -> tuple[Field[Any, Any], ...]:
    return _fields(Order, *_JOINED)


@lru_cache
def _fields(model: type[Model], *without: str) -> tuple[Field[Any, Any], ...]:
    return tuple(
        field for field in model._meta.concrete_fields if not field.primary_key and field.column not in without
    )


def _values(row: Model, fields: Sequence[Field[Any, Any]]) -> list[Any]:
    return [Jsonb(value) if isinstance(value := getattr(row, field.attname), dict) else value for field in fields]


def _table(model: type[Model]) -> str:
    return f'"{model._meta.db_table}"'


def _names(fields: Sequence[Field[Any, Any]], prefix: str = "") -> str:
    return ", ".join(f'{prefix}"{field.column}"' for field in fields)


def _casts(fields: Sequence[Field[Any, Any]]) -> str:
    # Without the length: a cast to varchar(64) would cut what is too long, the column refuses it.
    return ", ".join(f"%s::{(field.db_type(connection) or '').partition('(')[0]}" for field in fields)


def _rows(fields: Sequence[Field[Any, Any]], number_of: int, *before: str) -> str:
    return ", ".join(f"({', '.join([str(number), *before, _casts(fields)])})" for number in range(number_of))
