"""Counts of decisions: added once, whatever is repeated, and kept for a month.

A batch has its writer's name and a number. The writer's row holds the number of its newest batch and moves in the
transaction that adds the counts, so a batch that is there already adds nothing: the answer to a COMMIT may be lost.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from datetime import timedelta
from typing import Any

import msgspec
from django.db import connection, transaction
from django.utils import timezone

from bots.models import Bot, CountWriter, DecisionCount
from bots.services.guard import guarded, retried_once
from bots.times import from_ns
from trading.messages import DecisionKey

KEEP_COUNTS_FOR = timedelta(days=30)
KEEP_COUNTS_PER_BOT = 200_000
HOUR_NS = 3_600 * 10**9
ROWS_AT_ONCE = 500  # of seven parameters each; SQLite takes 32,766 in a statement
COLUMNS = ("owner_id", "bot_id", "base", "quote", "hour", "check_name", "count")


class CountBatch(msgspec.Struct, frozen=True):
    """What one writer adds at once: counts by key and by the hour they belong to (its number since the epoch)."""

    writer: str
    number: int  # rises with each of the writer's batches
    counts: Mapping[tuple[DecisionKey, int], int]


def counts_add(*, owner_id: int, batch: CountBatch) -> int:
    """Add a batch to the owner's counts, unless it is in them; returns how many were added up.

    Counts of bots that are gone, or are not the owner's, are left out.
    """

    def write() -> int:
        with transaction.atomic():
            if not _is_new(owner_id, batch):
                return 0
            rows = _rows(owner_id, batch)
            for start in range(0, len(rows), ROWS_AT_ONCE):
                _add(rows[start : start + ROWS_AT_ONCE])
            return sum(row[-1] for row in rows)

    # A bot may be deleted while it is counted for: then once more, without it.
    return retried_once(write)


def _is_new(owner_id: int, batch: CountBatch) -> bool:
    """Tell whether a batch is not in the counts, and remember that it is."""
    CountWriter.objects.bulk_create([CountWriter(owner_id=owner_id, writer=batch.writer)], ignore_conflicts=True)
    rows = CountWriter.objects.filter(writer=batch.writer, owner_id=owner_id, number__lt=batch.number)
    return bool(rows.update(number=batch.number, at=timezone.now()))


def _rows(owner_id: int, batch: CountBatch) -> list[tuple[Any, ...]]:
    """Return the columns of what to add, in the order of their keys, so that two writers lock in the same order."""
    bots = {key.bot_id for key, _ in batch.counts}
    known = set(Bot.objects.filter(owner_id=owner_id, pk__in=bots).values_list("pk", flat=True))
    sums: Counter[tuple[int, int, str, str, str]] = Counter()
    for (key, hour), count in batch.counts.items():
        if key.bot_id in known and count > 0:
            sums[key.bot_id, hour, key.base[:32], key.quote[:32], key.check[:64]] += count
    return [
        (owner_id, bot_id, base, quote, from_ns(hour * HOUR_NS), check, count)
        for (bot_id, hour, base, quote, check), count in sorted(sums.items())
    ]


def _add(rows: Sequence[tuple[Any, ...]]) -> None:
    # Django's bulk_create can replace what is there, not add to it.
    table = connection.ops.quote_name(DecisionCount._meta.db_table)
    places = ", ".join(["(%s, %s, %s, %s, %s, %s, %s)"] * len(rows))
    statement = (
        f"INSERT INTO {table} ({', '.join(COLUMNS)}) VALUES {places} "  # noqa: S608 - names are the model's
        f"ON CONFLICT (bot_id, hour, base, quote, check_name) DO UPDATE SET count = {table}.count + excluded.count"
    )
    values = [
        connection.ops.adapt_datetimefield_value(value) if column == "hour" else value
        for row in rows
        for column, value in zip(COLUMNS, row, strict=True)
    ]
    with connection.cursor() as cursor:
        cursor.execute(statement, values)


def counts_prune(*, bot_id: int, keep: int = KEEP_COUNTS_PER_BOT) -> int:
    """Delete a bot's counts older than KEEP_COUNTS_FOR, and whole hours beyond the newest ``keep`` rows."""

    def write() -> int:
        rows = DecisionCount.objects.filter(bot_id=bot_id)
        deleted = rows.filter(hour__lt=timezone.now() - KEEP_COUNTS_FOR).delete()[0]
        boundary = rows.order_by("-hour").values_list("hour", flat=True)[keep : keep + 1].first()
        return deleted + (rows.filter(hour__lte=boundary).delete()[0] if boundary is not None else 0)

    return guarded(write)


def writers_prune() -> int:
    """Forget writers that have not counted for as long as counts are kept; returns how many."""
    return guarded(lambda: CountWriter.objects.filter(at__lt=timezone.now() - KEEP_COUNTS_FOR).delete()[0])
