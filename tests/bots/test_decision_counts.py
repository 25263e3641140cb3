"""Counts of decisions are added once, to the hour they belong to, and kept for a month."""

from __future__ import annotations

import time
from datetime import timedelta

import pytest
from django.utils import timezone

from bots.engine_host.counts import CountQueue
from bots.models import CountWriter, DecisionCount
from bots.services.decision_counts import (
    HOUR_NS,
    KEEP_COUNTS_FOR,
    CountBatch,
    counts_add,
    counts_prune,
    writers_prune,
)
from bots.tasks import prune_decisions

pytestmark = [pytest.mark.django_db, pytest.mark.database]


def batch(counts, number=1, writer="one", hour=None):
    hour = time.time_ns() // HOUR_NS if hour is None else hour
    return CountBatch(writer, number, {(key, hour): count for key, count in counts.items()})


def stored():
    rows = DecisionCount.objects.order_by("bot_id", "base", "check_name", "hour")
    return [(row.bot_id, row.base, row.check_name, row.count) for row in rows]


def test_batches_add_up(world):
    bot = world.bot(world.anna)
    for number in (1, 2, 3):
        counts = world.counts(bot, "book_age", 5) | world.counts(bot, "", 1) | world.counts(bot, "size", 2, base="ETH")
        assert counts_add(owner_id=world.anna.pk, batch=batch(counts, number)) == 8
    assert stored() == [(bot.pk, "BTC", "", 3), (bot.pk, "BTC", "book_age", 15), (bot.pk, "ETH", "size", 6)]
    assert CountWriter.objects.get().number == 3


def test_a_repeated_batch_adds_nothing_and_another_writers_is_its_own(world):
    bot = world.bot(world.anna)
    counts = world.counts(bot, "book_age", 5)
    for _ in range(3):
        counts_add(owner_id=world.anna.pk, batch=batch(counts, 1))
    assert stored() == [(bot.pk, "BTC", "book_age", 5)]
    # The former holder of a lease tells its last ones after the new one has begun.
    counts_add(owner_id=world.anna.pk, batch=batch(counts, 1, writer="two"))
    counts_add(owner_id=world.anna.pk, batch=batch(counts, 2))
    assert stored() == [(bot.pk, "BTC", "book_age", 15)]


def test_a_batch_that_breaks_half_way_leaves_nothing_and_is_added_whole_the_next_time(world, monkeypatch):
    from bots.services import decision_counts

    bot = world.bot(world.anna)
    counts = {
        key: count for number in range(5) for key, count in world.counts(bot, "size", 1, base=f"C{number}").items()
    }
    monkeypatch.setattr(decision_counts, "ROWS_AT_ONCE", 2)
    add, calls = decision_counts._add, []

    def broken(rows):
        calls.append(rows)
        if len(calls) == 2:
            raise ValueError("half way")
        add(rows)

    monkeypatch.setattr(decision_counts, "_add", broken)
    with pytest.raises(ValueError, match="half way"):
        counts_add(owner_id=world.anna.pk, batch=batch(counts))
    assert stored() == []
    assert not CountWriter.objects.exists()
    assert counts_add(owner_id=world.anna.pk, batch=batch(counts)) == 5
    assert len(stored()) == 5


def test_counts_of_bots_that_are_gone_or_anothers_are_left_out(world):
    bot, bens, gone = world.bot(world.anna), world.bot(world.ben), world.bot(world.anna, "Gone")
    counts = world.counts(bot, "", 1) | world.counts(bens, "", 2) | world.counts(gone, "", 4)
    gone.delete()
    assert counts_add(owner_id=world.anna.pk, batch=batch(counts)) == 1
    assert stored() == [(bot.pk, "BTC", "", 1)]


def test_a_deleted_bot_takes_its_counts_with_it(world):
    bot = world.bot(world.anna)
    counts_add(owner_id=world.anna.pk, batch=batch(world.counts(bot, "", 1)))
    bot.delete()
    assert stored() == []


def test_each_hour_has_its_own_count(world):
    bot = world.bot(world.anna)
    for number, hour in enumerate((400_000, 400_000, 400_001), start=1):
        counts_add(owner_id=world.anna.pk, batch=batch(world.counts(bot, "size", 1), number, hour=hour))
    rows = list(DecisionCount.objects.order_by("hour").values_list("count", "hour"))
    assert [count for count, _ in rows] == [2, 1]
    assert rows[1][1] - rows[0][1] == timedelta(hours=1)
    assert all((at.minute, at.second, at.microsecond) == (0, 0, 0) for _, at in rows)


def test_old_counts_go_by_age_and_by_number_whole_hours_at_a_time(world):
    bot, other = world.bot(world.anna), world.bot(world.anna, "Other")
    hour = timezone.now().replace(minute=0, second=0, microsecond=0)
    ages = [timedelta(), timedelta(hours=1), timedelta(hours=2), KEEP_COUNTS_FOR + timedelta(hours=1)]
    DecisionCount.objects.bulk_create(
        DecisionCount(
            owner=world.anna, bot=one, base=base, quote="USDT", hour=hour - age, check_name="size", count=1
        )
        for one in (bot, other) for age in ages for base in ("BTC", "ETH")
    )  # fmt: skip
    assert counts_prune(bot_id=bot.pk) == 2
    assert counts_prune(bot_id=bot.pk, keep=3) == 4  # of the hour that is half beyond, all goes
    assert DecisionCount.objects.filter(bot=bot).count() == 2
    assert DecisionCount.objects.filter(bot=other).count() == 8
    prune_decisions()
    assert DecisionCount.objects.filter(bot=other).count() == 6


def test_writers_are_forgotten_with_what_they_counted(world):
    bot = world.bot(world.anna)
    counts_add(owner_id=world.anna.pk, batch=batch(world.counts(bot), writer="old"))
    counts_add(owner_id=world.anna.pk, batch=batch(world.counts(bot), writer="new"))
    CountWriter.objects.filter(writer="old").update(at=timezone.now() - KEEP_COUNTS_FOR - timedelta(hours=1))
    assert writers_prune() == 1
    assert CountWriter.objects.get().writer == "new"


def test_the_queue_gives_the_same_batch_until_it_is_written_and_gathers_the_rest(world):
    bot = world.bot(world.anna)
    queue = CountQueue()
    assert (queue.next_batch(), len(queue)) == (None, 0)
    queue.add(world.counts(bot, "size", 1), HOUR_NS)
    first = queue.next_batch()
    for _ in range(1000):
        queue.add(world.counts(bot, "size", 2), HOUR_NS)
    assert queue.next_batch() is first
    assert (sum(first.counts.values()), len(queue)) == (1, 2)
    queue.written()
    second = queue.next_batch()
    assert (second.writer, second.number, sum(second.counts.values())) == (first.writer, 2, 2000)
    queue.written()
    assert queue.next_batch() is None
