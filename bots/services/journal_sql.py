"""The statements that make an intent durable, whole or in two parts.

Whole, it is one statement, a transaction of its own, that inserts the row only if everything is right. In two parts of
one transaction, the first locks what must stay as it is and asks what is known of an intent before it is written out;
the second asks the rest and inserts. Both parts together ask what the whole does.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from functools import lru_cache
from itertools import count
from typing import Any, NamedTuple

from django.db import connection
from django.db.models import Model
from django.utils import timezone

from bots.models import (
    Bot,
    Command,
    Exchange,
    ExchangeAccount,
    JournaledIntent,
    Market,
    Order,
    OwnerLease,
    Ticket,
    Trade,
)  # fmt: skip
from bots.services.intents import Intent, Kind, command_claim
from risk.models import TradingSwitch
from risk.policy.switch import PERMITTED, Action


class Dialect(NamedTuple):
    """What the databases say differently. ``fence`` is what a lease must be, beside the owner's."""

    marker: str
    now: str
    lock: str
    keep: str  # the row may not be deleted before the commit
    within: str  # the place of a text in another one
    casts: bool
    fence: str = "token = {token} AND expires_at > {now}"


DIALECTS = {
    # The clock is read after the wait for the lease's row.
    "postgresql": Dialect("$", "clock_timestamp()", "FOR NO KEY UPDATE", "FOR KEY SHARE OF", "strpos", casts=True),
    # One writer at a time is all the lock there is; the format is that of Django's Now().
    "sqlite": Dialect("?", "STRFTIME('%Y-%m-%d %H:%M:%f', 'NOW')", "", "", "instr", casts=False),
}


class Standing(NamedTuple):
    """What is known of an intent before it is written out: whose it is, under which lease, and where it goes."""

    owner_id: int
    token: int
    bot_id: int
    accounts: tuple[int, ...]
    markets: tuple[str, ...]


class Statement(NamedTuple):
    """A statement in the database's own words, with its parameters."""

    sql: str
    parameters: list[Any]


class _Shape(NamedTuple):
    """What the text of a statement depends on. ``is_held``: the first part has asked and locked already."""

    is_entry: bool
    action: Action
    accounts: int
    markets: int
    orders: int
    has_command: bool
    is_held: bool


def standing_of(*, owner_id: int, token: int, intent: Intent) -> Standing:
    """Return what would have been known of an intent ahead."""
    return Standing(owner_id, token, intent.trade.bot_id, tuple(intent.accounts), tuple(intent.markets))


def hold_statement(standing: Standing) -> Statement:
    """Return the first part: one row if the token is the lease's present one and has not expired, bot and accounts are
    the owner's and the markets exist. The lease is locked, bot and accounts stay, until the transaction ends."""
    parameters = [standing.owner_id, standing.token, standing.bot_id, *standing.accounts, *_split(standing.markets)]
    dialect = DIALECTS[connection.vendor]
    return Statement(_hold(len(standing.accounts), len(standing.markets), dialect), parameters)


def insert_statement(*, owner_id: int, token: int, intent: Intent, is_held: bool = False) -> Statement:
    """Return the statement that inserts the row; the second part where the first has returned its row (``is_held``).

    It does so if everything is as it must be: the token is the present one and has not expired (its row stays locked
    until the commit), the trading switch lets the intent through, bot, accounts and command are the owner's, the
    markets exist, the trade is new or there already, ids, attempts and command are new.
    """
    parameters: list[Any] = [
        owner_id, token, intent.trade.bot_id, intent.trade.trade_id, intent.kind, intent.key, intent.claims,
        intent.body, connection.ops.adapt_datetimefield_value(timezone.now()),
    ]  # fmt: skip
    if not is_held:
        parameters += [*intent.accounts, *_split(intent.markets)]
    for order, slot in zip(intent.orders, intent.slots, strict=True):
        parameters += [order.client_order_id, f" {order.client_order_id} "]
        if intent.kind == Kind.FURTHER:
            parameters += [order.leg, order.attempt, f" {slot} "]
    if intent.command_id:
        parameters += [intent.command_id, f" {command_claim(intent.command_id)} "]
    shape = _Shape(
        intent.kind == Kind.ENTRY, intent.action, len(intent.accounts), len(intent.markets), len(intent.orders),
        bool(intent.command_id), is_held,
    )  # fmt: skip
    return Statement(_insert(shape, DIALECTS[connection.vendor]), parameters)


def _split(markets: Sequence[str]) -> Iterator[str]:
    for key in markets:
        exchange, _, symbol = key.partition(":")
        yield from (exchange, symbol)


class _Values:
    """Gives each parameter of a statement its place, in the order they are asked for."""

    def __init__(self, dialect: Dialect) -> None:
        self._dialect = dialect
        self._numbers = count(1)

    def __call__(self, kind: str) -> str:
        name = f"{self._dialect.marker}{next(self._numbers)}"
        return f"{name}::{kind}" if self._dialect.casts else name


@lru_cache(maxsize=64)
def _hold(accounts: int, markets: int, dialect: Dialect) -> str:
    value = _Values(dialect)
    owner, token, bot = value("bigint"), value("bigint"), value("bigint")
    locks = _locks(owner, token, bot, [value("bigint") for _ in range(accounts)], dialect)
    conditions = [_all_accounts(accounts), *(_market(value) for _ in range(markets))]
    return f"WITH {locks} SELECT 1 FROM lease, bot WHERE {' AND '.join(conditions)}"


@lru_cache(maxsize=64)
def _insert(shape: _Shape, dialect: Dialect) -> str:
    value = _Values(dialect)
    owner, token, bot, trade = value("bigint"), value("bigint"), value("bigint"), value("varchar")
    row = ", ".join([value("varchar"), value("varchar"), value("text"), value("text"), value("timestamptz")])
    journal = _table(JournaledIntent)
    if shape.is_held:
        # The lease is locked, but may have run out since.
        fence = dialect.fence.format(token=token, now=dialect.now)
        sources, conditions = "", []
        source = f"(SELECT 1 FROM {_table(OwnerLease)} WHERE owner_id = {owner} AND {fence}) lease"
    else:
        locks = _locks(owner, token, bot, [value("bigint") for _ in range(shape.accounts)], dialect)
        sources, source = f"WITH {locks}", "lease, bot"
        conditions = [_all_accounts(shape.accounts), *(_market(value) for _ in range(shape.markets))]
    forbidding = [f"'{state.value}'" for state, may in PERMITTED.items() if shape.action not in may]
    conditions.append(
        f"NOT EXISTS (SELECT 1 FROM {_table(TradingSwitch)} WHERE state IN ({', '.join(forbidding)})"
        f" AND (scope = 'global' OR owner_id = {owner} OR bot_id = {bot}))"
    )
    ids, taken, attempts = [], [], []
    for _ in range(shape.orders):
        ids.append(value("varchar"))
        taken.append(f"{dialect.within}(claims, {value('text')}) > 0")
        if not shape.is_entry:
            attempts.append(f"leg = {value('int')} AND attempt = {value('int')}")
            taken.append(f"(trade_id = {trade} AND {dialect.within}(claims, {value('text')}) > 0)")
    conditions.append(f"NOT EXISTS (SELECT 1 FROM {_table(Order)} WHERE client_order_id IN ({', '.join(ids)}))")
    known = f"SELECT 1 FROM {_table(Trade)} WHERE trade_id = {trade}"
    if shape.is_entry:
        conditions.append(f"NOT EXISTS ({known})")
        taken.append(f"trade_id = {trade}")
    else:
        whose = f"owner_id = {owner} AND bot_id = {bot}"
        entered = f"SELECT 1 FROM {journal} WHERE trade_id = {trade} AND owner_id = {owner} AND kind = '{Kind.ENTRY}'"
        conditions.append(f"(EXISTS ({known} AND {whose}) OR EXISTS ({entered}))")
        conditions.append(
            f"NOT EXISTS (SELECT 1 FROM {_table(Order)} WHERE trade_id = (SELECT id FROM {_table(Trade)}"
            f" WHERE trade_id = {trade}) AND ({' OR '.join(attempts)}))"
        )
    if shape.has_command:
        command = value("bigint")
        taken.append(f"{dialect.within}(claims, {value('text')}) > 0")
        conditions.append(f"EXISTS (SELECT 1 FROM {_table(Command)} WHERE id = {command} AND owner_id = {owner})")
        conditions.append(f"NOT EXISTS (SELECT 1 FROM {_table(Ticket)} WHERE command_id = {command})")
    conditions.append(f"NOT EXISTS (SELECT 1 FROM {journal} WHERE {' OR '.join(taken)})")
    return f"""
        {sources}
        INSERT INTO {journal} (owner_id, token, trade_id, kind, client_order_id, claims, body, created_at)
        SELECT {owner}, {token}, {trade}, {row} FROM {source} WHERE {" AND ".join(conditions)}
        ON CONFLICT (client_order_id) DO NOTHING RETURNING id"""


def _locks(owner: str, token: str, bot: str, accounts: Sequence[str], dialect: Dialect) -> str:
    """Return the tables ``lease``, ``bot`` and ``account`` of a statement: what of them is as it must be.

    Without a lease there is no row of any. The lock keeps anybody from taking the lease over until the commit; bot and
    accounts are looked at behind it, and stay.
    """
    fence = dialect.fence.format(token=token, now=dialect.now)
    materialized = "AS MATERIALIZED" if dialect.casts else "AS"

    def kept(name: str) -> str:
        return f"{dialect.keep} {name}" if dialect.keep else ""

    return f"""lease {materialized} (
            SELECT 1 FROM {_table(OwnerLease)} WHERE owner_id = {owner} AND {fence} {dialect.lock}),
        bot {materialized} (
            SELECT 1 FROM lease, {_table(Bot)} own WHERE own.id = {bot} AND own.owner_id = {owner} {kept("own")}),
        account {materialized} (
            SELECT 1 FROM lease, {_table(ExchangeAccount)} own
            WHERE own.id IN ({", ".join(accounts)}) AND own.owner_id = {owner} {kept("own")})"""


def _all_accounts(accounts: int) -> str:
    return f"(SELECT count(*) FROM account) = {accounts}"


def _market(value: _Values) -> str:
    return (
        f"EXISTS (SELECT 1 FROM {_table(Exchange)} exchange JOIN {_table(Market)} market ON market.exchange_id ="
        f" exchange.id WHERE exchange.code = {value('varchar')} AND market.symbol = {value('varchar')})"
    )


def _table(model: type[Model]) -> str:
    return f'"{model._meta.db_table}"'
