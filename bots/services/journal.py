"""The engine's only awaited write: an intent as one row, inserted by one statement that checks what only it can.

The statement inserts nothing unless everything is right, and is a transaction of its own; who wants to know what was
wrong asks for it afterwards. What the row becomes is ``services.unfolding``'s.
"""

from __future__ import annotations

from collections.abc import Collection, Iterator, Sequence
from contextlib import contextmanager
from functools import lru_cache
from itertools import count
from typing import Any, NamedTuple

from django.db import IntegrityError, connection, transaction
from django.db.models import Model
from django.utils import timezone
from psycopg import RawCursor

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
from bots.services import locks
from bots.services.guard import guarded
from bots.services.intents import Intent, Kind, command_claim
from bots.venue_keys import markets_by_key
from risk.models import TradingSwitch
from risk.policy.switch import PERMITTED, Action, verdict
from risk.selectors import switch_over
from trading.messages import OrderState
from trading.ports import SwitchedOff


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


class _Shape(NamedTuple):
    """What the text of the statement depends on."""

    is_entry: bool
    opens: bool
    accounts: int
    markets: int
    orders: int
    has_command: bool


def journal_commit(*, owner_id: int, token: int, intent: Intent) -> None:
    """Make an intent durable under the lease's token.

    The same commit a second time (an answer to COMMIT was lost) changes nothing.

    Raises
    ------
    LeaseLost
        If the token is not the present one or has expired: send nothing.
    StoreUnavailable
        If the database cannot be reached or does not answer (SwitchedOff: if the trading switch forbids it): send
        nothing.
    ValueError
        If it names a market, account, bot, command or trade that is not there or not the owner's.
    IntegrityError
        If another intent has its trade, an order's id or attempt, or its command.
    """

    def write() -> None:
        if not _insert(owner_id, token, intent):
            _insert_or_say_why(owner_id, token, intent)

    guarded(write)


def _insert(owner_id: int, token: int, intent: Intent) -> bool:
    sql, parameters = journal_statement(owner_id=owner_id, token=token, intent=intent)
    connection.ensure_connection()
    with connection.wrap_database_errors:
        return _executed(sql, parameters)


def journal_statement(*, owner_id: int, token: int, intent: Intent) -> tuple[str, list[Any]]:
    """Return the statement that inserts the row, and its parameters.

    It does so if everything is as it must be: the token is the present one and has not expired (its row stays locked
    until the commit), the trading switch lets the intent through, bot, accounts and command are the owner's, the
    markets exist, the trade is new or there already, ids, attempts and command are new.
    """
    parameters: list[Any] = [
        owner_id, token, intent.trade.bot_id, intent.trade.trade_id, intent.kind, intent.key, intent.claims,
        intent.body, connection.ops.adapt_datetimefield_value(timezone.now()),
    ]  # fmt: skip
    parameters += intent.accounts
    for key in intent.markets:
        exchange, _, symbol = key.partition(":")
        parameters += [exchange, symbol]
    for order, slot in zip(intent.orders, intent.slots, strict=True):
        parameters += [order.client_order_id, f" {order.client_order_id} "]
        if intent.kind == Kind.FURTHER:
            parameters += [order.leg, order.attempt, f" {slot} "]
    if intent.command_id:
        parameters += [intent.command_id, f" {command_claim(intent.command_id)} "]
    shape = _Shape(
        intent.kind == Kind.ENTRY, intent.opens, len(intent.accounts), len(intent.markets), len(intent.orders),
        bool(intent.command_id),
    )  # fmt: skip
    return _statement(shape, DIALECTS[connection.vendor]), parameters


def _executed(sql: str, parameters: Sequence[Any]) -> bool:
    """Run the statement past Django's cursor, which would parse and plan it anew each time."""
    raw = connection.connection
    if connection.vendor == "sqlite":
        return bool(raw.execute(sql, parameters).fetchall())
    with _preparing(raw), RawCursor(raw) as cursor:
        return cursor.execute(sql, parameters, prepare=True).fetchone() is not None


@contextmanager
def _preparing(raw: Any) -> Iterator[None]:
    """Let statements be prepared, which Django turns off: planning this one anew costs more than running it does."""
    before, raw.prepare_threshold = raw.prepare_threshold, 0
    try:
        yield
    finally:
        raw.prepare_threshold = before


@lru_cache(maxsize=64)
def _statement(shape: _Shape, dialect: Dialect) -> str:
    numbers = count(1)

    def value(kind: str) -> str:
        name = f"{dialect.marker}{next(numbers)}"
        return f"{name}::{kind}" if dialect.casts else name

    owner, token, bot, trade = value("bigint"), value("bigint"), value("bigint"), value("varchar")
    row = ", ".join([value("varchar"), value("varchar"), value("text"), value("text"), value("timestamptz")])
    accounts = ", ".join(value("bigint") for _ in range(shape.accounts))
    journal, materialized = _table(JournaledIntent), "AS MATERIALIZED" if dialect.casts else "AS"
    conditions = [f"(SELECT count(*) FROM account) = {shape.accounts}"]
    for _ in range(shape.markets):
        conditions.append(
            f"EXISTS (SELECT 1 FROM {_table(Exchange)} exchange JOIN {_table(Market)} market ON market.exchange_id ="
            f" exchange.id WHERE exchange.code = {value('varchar')} AND market.symbol = {value('varchar')})"
        )
    forbidding = [f"'{state.value}'" for state, may in PERMITTED.items() if _action(shape.opens) not in may]
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
    fence = dialect.fence.format(token=token, now=dialect.now)

    def kept(name: str) -> str:
        return f"{dialect.keep} {name}" if dialect.keep else ""

    # Without a lease there is no row to insert from. The lock keeps anybody from taking the lease over until the
    # commit; bot and accounts are looked at behind it, and stay.
    return f"""
        WITH lease {materialized} (
            SELECT 1 FROM {_table(OwnerLease)} WHERE owner_id = {owner} AND {fence} {dialect.lock}),
        bot {materialized} (
            SELECT 1 FROM lease, {_table(Bot)} own WHERE own.id = {bot} AND own.owner_id = {owner} {kept("own")}),
        account {materialized} (
            SELECT 1 FROM lease, {_table(ExchangeAccount)} own
            WHERE own.id IN ({accounts}) AND own.owner_id = {owner} {kept("own")})
        INSERT INTO {journal} (owner_id, token, trade_id, kind, client_order_id, claims, body, created_at)
        SELECT {owner}, {token}, {trade}, {row} FROM lease, bot WHERE {" AND ".join(conditions)}
        ON CONFLICT (client_order_id) DO NOTHING RETURNING id"""


def _table(model: type[Model]) -> str:
    return f'"{model._meta.db_table}"'


def _action(opens: bool) -> Action:
    return Action.OPEN if opens else Action.REDUCE


# --- where nothing was inserted ------------------------------------------------------------------------------------


def _insert_or_say_why(owner_id: int, token: int, intent: Intent) -> None:
    """Go through what the statement asks one by one; insert the row after all where nothing is wrong any more."""
    trade, bot_id = intent.trade, intent.trade.bot_id
    with transaction.atomic():
        locks.lease_lock(owner_id=owner_id, token=token)
        if intent.kind == Kind.FURTHER and not _is_known(owner_id, intent):
            raise ValueError(f"trade_id: the owner has no trade {trade.trade_id!r} of bot {bot_id}")
        judged = verdict(switch_over(owner_id=owner_id, bot_id=bot_id), _action(intent.opens))
        if not judged.allowed:
            raise SwitchedOff(judged.reason)
        _owned_check(Bot, [bot_id], owner_id, "bot_id")
        _owned_check(ExchangeAccount, intent.accounts, owner_id, "account_id")
        if intent.command_id:
            _owned_check(Command, [intent.command_id], owner_id, "command_id")
        markets = markets_by_key(set(intent.markets))
        for key in intent.markets:
            if key not in markets:
                raise ValueError(f"market: no market {key!r} is known")
        if not _is_committed(owner_id, token, intent) and not _insert(owner_id, token, intent):
            raise IntegrityError(
                f"duplicate intent of trade {trade.trade_id!r}: another one has it, or one of its orders' ids and "
                f"attempts or its command ({intent.claims.strip()})"
            )


def _is_known(owner_id: int, intent: Intent) -> bool:
    whose = {"trade_id": intent.trade.trade_id, "owner_id": owner_id}
    return (
        Trade.objects.filter(**whose, bot_id=intent.trade.bot_id).exists()
        or JournaledIntent.objects.filter(**whose, kind=Kind.ENTRY).exists()
    )


def _owned_check(
    model: type[Bot] | type[ExchangeAccount] | type[Command], ids: Collection[int], owner_id: int, field: str
) -> None:
    found = set(model.objects.filter(pk__in=ids, owner_id=owner_id).order_by().values_list("pk", flat=True))
    if found != set(ids):
        raise ValueError(f"{field}: {sorted(set(ids) - found)} is not of owner {owner_id}")


def _is_committed(owner_id: int, token: int, intent: Intent) -> bool:
    """Return whether this very intent is in the journal, or its orders are there just as they are to be sent now and
    nobody has given them up."""
    same = {"owner_id": owner_id, "token": token, "client_order_id": intent.key, "body": intent.body}
    if JournaledIntent.objects.filter(**same).exists():
        return True
    wanted = {(order.client_order_id, order.side, order.price, order.quantity) for order in intent.orders}
    rows = Order.objects.filter(
        owner_id=owner_id,
        lease_token=token,
        trade__trade_id=intent.trade.trade_id,
        client_order_id__in=[order.client_order_id for order in intent.orders],
        state=OrderState.SENDING.value,
    )
    return set(rows.values_list("client_order_id", "side", "price", "quantity")) == wanted
