"""Running totals of realised profit: moved in the transaction that stores a trade's result."""

from __future__ import annotations

from collections.abc import Iterable
from datetime import datetime, timedelta
from decimal import Decimal
from typing import NamedTuple

from django.db.models import F, Value
from django.db.models.functions import Greatest
from django.utils import timezone

from bots.fields import MoneyAdd, MoneyField, exact_sum
from bots.models import ALL_TIME, ProfitTotal, Trade, span_start

# Pages look back 24 hours and never before midnight UTC.
KEEP_SPANS = timedelta(days=2)


class Result(NamedTuple):
    """What one trade adds, and when it closed."""

    bot_id: int
    mode: str
    quote: str
    profit: Decimal
    closed_at: datetime


class _Key(NamedTuple):
    bot_id: int
    mode: str
    quote: str
    start: datetime


class _Change(NamedTuple):
    profit: Decimal
    closed_at: datetime | None  # of the newest result added; None if results were only taken out


def result_of(trade: Trade) -> Result | None:
    """Return what a trade counts for; nothing while it has no result."""
    if trade.realised_profit is None or trade.closed_at is None:
        return None
    return Result(trade.bot_id, trade.mode, trade.quote, trade.realised_profit, trade.closed_at)


def profits_move(*, owner_id: int, moves: Iterable[tuple[Result | None, Result | None]]) -> None:
    """Take each trade's former result out of the totals and put its new one in.

    Call it in the transaction that stores the results, with the trades' rows locked: the same record stored twice
    then moves nothing the second time. Rows are locked in the order of their keys, and changed relative to what they
    hold, so that writers of the same bot wait for each other and neither is lost.
    """
    for key, change in sorted(_changes(moves).items()):
        _apply(owner_id, key, change)


def profits_prune() -> int:
    """Delete the spans that no page looks at any more; returns how many."""
    old = ProfitTotal.objects.filter(start__gt=ALL_TIME, start__lt=timezone.now() - KEEP_SPANS)
    return old.delete()[0]


def _changes(moves: Iterable[tuple[Result | None, Result | None]]) -> dict[_Key, _Change]:
    changes: dict[_Key, _Change] = {}
    for before, after in moves:
        if before == after:
            continue
        for result in (before, after):
            if result is None:
                continue
            # copy_negate, because the unary minus rounds to 28 digits.
            profit, closed_at = (
                (result.profit, result.closed_at) if result is after else (result.profit.copy_negate(), None)
            )
            for start in (ALL_TIME, span_start(result.closed_at)):
                key = _Key(result.bot_id, result.mode, result.quote, start)
                known = changes.get(key, _Change(Decimal(0), None))
                newest = max(filter(None, (known.closed_at, closed_at)), default=None)
                changes[key] = _Change(exact_sum([known.profit, profit]), newest)
    return changes


def _apply(owner_id: int, key: _Key, change: _Change) -> None:
    rows = ProfitTotal.objects.filter(**key._asdict())
    moved: dict[str, object] = {"profit": MoneyAdd(F("profit"), Value(change.profit, output_field=MoneyField()))}
    if change.closed_at is not None:
        moved["last_closed_at"] = Greatest(F("last_closed_at"), Value(change.closed_at))
    # Without a row there is nothing to take out of: a span that was pruned.
    if rows.update(**moved) or change.closed_at is None:
        return
    empty = ProfitTotal(owner_id=owner_id, profit=Decimal(0), last_closed_at=change.closed_at, **key._asdict())
    ProfitTotal.objects.bulk_create([empty], ignore_conflicts=True)
    rows.update(**moved)
