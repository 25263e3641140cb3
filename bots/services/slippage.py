"""Legs' slippage: stored as engines tell it, then rolled up by pair, exchange and hour, each leg once."""

from __future__ import annotations

import logging
from collections.abc import Sequence
from datetime import datetime, timedelta

from django.db import transaction
from django.db.models import QuerySet
from django.utils import timezone

from bots.models import LegSlippage, Order, Trade
from bots.services import locks
from bots.services.guard import guarded, retried_once
from bots.times import from_ns, to_ns
from risk.policy.realised import LegSlippage as Parts
from risk.policy.realised import RollupKey
from risk.services.slippage_stats import Sums, stats_move
from trading.instruments import money, positive
from trading.messages import LegSlippageRecord

logger = logging.getLogger("arb.store")

# Fills that come one by one have come by then; what comes later is counted by its difference.
SETTLE = timedelta(seconds=10)
BATCH = 500
KEEP_FOR = timedelta(days=90)

_PRICES = ("decided_price", "sent_price", "sent_best", "arrival_best", "filled_price")
_SUMS = ("expected_fee", "paid_fee", "charged_bps")
_PARTS = ("before_send_bps", "in_flight_bps", "depth_bps", "fee_bps", "total_bps", "surprise_bps")
_FIGURES = ("quantity", *_PRICES, *_SUMS, *_PARTS, "fees_unvalued")


def legs_store(*, owner_id: int, records: Sequence[LegSlippageRecord], now: datetime | None = None) -> int:
    """Store the newest record of each order, one row an order; returns how many rows are new or changed.

    The same record again changes nothing. Whoever's lease it was, what an order cost is a fact.

    Raises
    ------
    StoreUnavailable
        If the database is away; storing the records again is harmless.
    ValueError
        If a figure is out of range; then none of the records is stored.
    """
    newest = {record.client_order_id: record for record in records}
    figures = {client_id: _figures(record) for client_id, record in newest.items()}

    def write() -> int:
        due_at = (now or timezone.now()) + SETTLE
        with transaction.atomic():
            orders = locks.orders_lock(owner_id=owner_id, client_order_ids=newest.keys())
            trades = Trade.objects.in_bulk({order.trade_id for order in orders.values() if order.trade_id})
            known = {row.order_id: row for row in _locked().filter(order__in=orders.values())}
            new, changed = [], []
            for client_id, record in newest.items():
                order = orders.get(client_id)
                trade = trades.get(order.trade_id) if order is not None and order.trade_id is not None else None
                if order is None or trade is None:
                    logger.error("slippage of order %r is not stored: owner %s has none such", client_id, owner_id)
                elif order.pk not in known:
                    new.append(_row(order, trade, record, figures[client_id], due_at))
                elif _changed(known[order.pk], figures[client_id]):
                    known[order.pk].due_at = due_at
                    changed.append(known[order.pk])
            LegSlippage.objects.bulk_create(new)
            LegSlippage.objects.bulk_update(changed, [*_FIGURES, "due_at"])
            return len(new) + len(changed)

    return retried_once(write)


def slippage_roll_up(*, now: datetime | None = None) -> int:
    """Bring all legs that are due into the sums of their hours; returns how many.

    Each batch is one transaction: what a leg adds, and the note that it has, become durable together or not at all.
    Of two that do this at once the second waits at the first's rows and finds them no longer due.
    """
    moment = now or timezone.now()
    done = 0
    while taken := guarded(lambda: _roll_up(moment)):
        done += taken
    return done


def slippage_prune() -> int:
    """Delete legs of long ago that stand in the sums; returns how many."""
    return LegSlippage.objects.filter(due_at__isnull=True, at__lt=timezone.now() - KEEP_FOR).delete()[0]


def _roll_up(now: datetime) -> int:
    with transaction.atomic():
        rows = list(_locked().filter(due_at__lte=now)[:BATCH])
        changes: dict[RollupKey, Sums] = {}
        for row in rows:
            after = Sums.of(_parts(row))
            key = RollupKey.of(row.pair, row.exchange, to_ns(row.at))
            changes[key] = changes.get(key, Sums()).moved(Sums(*row.counted or ()), after)
            row.counted, row.due_at = list(after), None
        LegSlippage.objects.bulk_update(rows, ["counted", "due_at"])
        stats_move(changes)
        return len(rows)


def _locked() -> QuerySet[LegSlippage]:
    return LegSlippage.objects.select_for_update(no_key=True, of=("self",)).order_by("pk")


def _figures(record: LegSlippageRecord) -> dict[str, object]:
    execution, parts = record.execution, record.slippage
    return {
        "quantity": positive(execution.quantity, field="quantity"),
        **{name: positive(getattr(execution, name), field=name) for name in _PRICES},
        **{name: money(getattr(execution, name), field=name) for name in _SUMS},
        **{name: money(getattr(parts, name), field=name) for name in _PARTS},
        "fees_unvalued": record.fees_unvalued,
    }


def _row(
    order: Order, trade: Trade, record: LegSlippageRecord, figures: dict[str, object], due_at: datetime
) -> LegSlippage:
    return LegSlippage(
        owner_id=order.owner_id,
        order=order,
        trade=trade,
        exchange=record.exchange,
        pair=record.pair,
        at=from_ns(record.at_ns),
        due_at=due_at,
        **figures,
    )


def _changed(row: LegSlippage, figures: dict[str, object]) -> bool:
    changed = [name for name, value in figures.items() if getattr(row, name) != value]
    for name in changed:
        setattr(row, name, figures[name])
    return bool(changed)


def _parts(row: LegSlippage) -> Parts:
    return Parts(**{name: getattr(row, name) for name in _PARTS})
