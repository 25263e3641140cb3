"""Journaled intents become the rows of trades and orders: behind the orders, or by whoever has to know of them first.

Whoever reads orders to decide something (a new holder of the lease, a comparison with an exchange, a deletion) unfolds
first. Of two that unfold one intent the second waits for the first, and finds nothing left to do.
"""

from __future__ import annotations

import logging

from django.db import transaction

from bots.models import JournaledIntent, Trade
from bots.services import locks
from bots.services.basis_rows import basis_insert
from bots.services.decisions import decision_row
from bots.services.guard import guarded
from bots.services.intents import Body, Kind, body_of, decision_of
from bots.services.profits import profits_move, result_of
from bots.services.ticket_rows import ticket_insert
from bots.services.trade_rows import orders_insert, trade_columns, trade_update
from bots.services.validation import refuse
from bots.venue_keys import markets_by_key
from trading.ports import StoreUnavailable

logger = logging.getLogger("arb.store")


def intents_unfold(*, owner_id: int) -> int:
    """Unfold all that an owner has in the journal; returns how many.

    One that cannot be unfolded, which is a bug, stays there and is logged; the comparison with its account then finds
    its orders as ours and unknown, and blocks the account.

    Raises
    ------
    StoreUnavailable
        If the database is away.
    """
    rows = JournaledIntent.objects.filter(owner_id=owner_id).order_by("pk").values_list("client_order_id", flat=True)
    done = 0
    for key in guarded(lambda: list(rows)):
        try:
            done += intent_unfold(owner_id=owner_id, client_order_id=key)
        except StoreUnavailable:
            raise
        except Exception as problem:
            logger.exception("owner %s: the intent of order %s stays in the journal: %s", owner_id, key, problem)
    return done


def intents_settle(*, owner_id: int) -> None:
    """Unfold all of an owner, and let no further intent become durable until the end of the transaction: what its rows
    refer to may be deleted once they don't.

    Raises
    ------
    ValidationError
        If one cannot be unfolded.
    """
    locks.lease_hold(owner_id=owner_id)
    intents_unfold(owner_id=owner_id)
    if JournaledIntent.objects.filter(owner_id=owner_id).exists():
        raise refuse("An intent in the journal could not be unfolded (the log says why): nothing is deleted meanwhile.")


def intent_unfold(*, owner_id: int, client_order_id: str) -> bool:
    """Unfold the intent of an order (the first of its intent) in one transaction; False if the journal has none.

    Raises
    ------
    StoreUnavailable
        If the database is away; it stays in the journal.
    """

    def write() -> bool:
        with transaction.atomic():
            row = locks.intent_lock(owner_id=owner_id, client_order_id=client_order_id)
            if row is None:
                return False
            _rows_write(row, body_of(row))
            rows = JournaledIntent.objects.filter(pk=row.pk)
            rows._raw_delete(rows.db)  # nothing refers to it
            return True

    return guarded(write)


def _rows_write(row: JournaledIntent, body: Body) -> None:
    """Write the rows an intent stands for, as they were when it became durable."""
    record = body.trade
    keys = {order.market for order in body.orders}
    if row.kind == Kind.ENTRY:
        keys |= {record.ticket.market} if record.ticket is not None else set()
        keys |= {record.basis.spot, record.basis.perp} if record.basis is not None else set()
    markets = markets_by_key(keys)
    if row.kind == Kind.ENTRY:
        trade = Trade(**trade_columns(record), owner_id=row.owner_id, lease_token=row.token)
        trade.save(force_insert=True)
        ticket_insert(trade=trade, record=record, markets=markets)
        basis_insert(trade=trade, record=record, markets=markets)
        decision = decision_of(body)
        if decision is not None:
            decision_row(owner_id=row.owner_id, decision=decision).save(force_insert=True)
    else:
        trade = locks.trades_lock(owner_id=row.owner_id, trade_ids=[record.trade_id])[record.trade_id]
        before = result_of(trade)
        if trade_update(trade, record):
            profits_move(owner_id=row.owner_id, moves=[(before, result_of(trade))])
    orders_insert(trade, body.orders, markets, token=row.token, at=row.created_at)
