"""The engine's only awaited write: an intent as one row, inserted by one statement that checks what only it can.

The statement (of ``services.journal_sql``) inserts nothing unless everything is right, and is a transaction of its own;
who wants to know what was wrong asks for it afterwards. What the row becomes is ``services.unfolding``'s.
"""

from __future__ import annotations

from collections.abc import Collection, Iterator, Sequence
from contextlib import contextmanager
from typing import Any

from django.db import IntegrityError, connection, transaction
from psycopg import RawCursor

from bots.models import (
    Bot,
    Command,
    ExchangeAccount,
    JournaledIntent,
    Order,
    Trade,
)  # fmt: skip
from bots.services import locks
from bots.services.guard import guarded
from bots.services.intents import Intent, Kind
from bots.services.journal_sql import insert_statement
from bots.venue_keys import markets_by_key
from risk.policy.switch import verdict
from risk.selectors import switch_over
from trading.messages import OrderState
from trading.ports import SwitchedOff


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
    sql, parameters = insert_statement(owner_id=owner_id, token=token, intent=intent)
    connection.ensure_connection()
    with connection.wrap_database_errors:
        return _executed(sql, parameters)


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


# --- where nothing was inserted ------------------------------------------------------------------------------------


def _insert_or_say_why(owner_id: int, token: int, intent: Intent) -> None:
    """Go through what the statement asks one by one; insert the row after all where nothing is wrong any more."""
    trade, bot_id = intent.trade, intent.trade.bot_id
    with transaction.atomic():
        locks.lease_lock(owner_id=owner_id, token=token)
        if intent.kind == Kind.FURTHER and not _is_known(owner_id, intent):
            raise ValueError(f"trade_id: the owner has no trade {trade.trade_id!r} of bot {bot_id}")
        judged = verdict(switch_over(owner_id=owner_id, bot_id=bot_id), intent.action)
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
