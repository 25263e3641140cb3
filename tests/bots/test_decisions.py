"""Decisions are sampled and bounded; what was taken is never sampled away."""

from __future__ import annotations

import itertools
import time

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from bots.models import Decision
from bots.services import decisions as service
from bots.services.decisions import DecisionSampler, decisions_prune, decisions_store, later_profits_store
from tests.bots.world import SECOND
from trading.messages import Assessment

pytestmark = [pytest.mark.django_db, pytest.mark.database]


def now_ns():
    return time.time_ns()


def test_refusals_are_kept_once_a_second_for_each_route_and_check(world):
    bot = world.bot(world.anna)
    sampler = DecisionSampler(sample_seconds=1.0)
    start = now_ns() - 100 * SECOND
    batch = [world.decision(bot, check="size", at_ns=start + step * SECOND // 10) for step in range(30)]
    batch += [
        world.decision(bot, check="edge", at_ns=start),
        world.decision(bot, check="size", route="other", at_ns=start),
    ]

    assert decisions_store(owner_id=world.anna.pk, decisions=batch, sampler=sampler) == 5
    assert (sampler.seen, sampler.kept) == (32, 5)
    row = Decision.objects.filter(check_name="size").order_by("id")[0]
    assert (row.reason, row.figures, row.taken, row.net_bps) == ("too small", {"net_bps": "4.2"}, False, 4.2)


def test_what_was_far_from_the_wanted_edge_is_kept_more_thinly(world):
    bot = world.bot(world.anna)
    start = now_ns() - 100 * SECOND

    def batch(net_bps, route):
        made = [
            world.decision(bot, check="c", at_ns=start + step * SECOND, net_bps=net_bps, route=route)
            for step in range(30)
        ]
        return [msgspec.structs.replace(decision, wanted_bps=10.0) for decision in made]

    sampler = DecisionSampler()
    near, far, odd = batch(5.0, "near"), batch(4.9, "far"), batch(float("nan"), "odd")
    assert [sum(map(sampler.keeps, some)) for some in (near, far, odd)] == [30, 3, 3]


def test_a_decision_is_stored_with_all_its_figures(world):
    bot = world.bot(world.anna)
    assessment = Assessment(
        notional=1500.5,
        factors={"volatility": 0.5},
        score=0.75,
        components={"depth": 0.9},
        costs_bps={"drift": 1.25, "odd": float("nan")},
    )
    decision = msgspec.structs.replace(
        world.decision(bot, check="score", at_ns=now_ns()), assessment=assessment, later_profit=-3.5
    )
    assert decisions_store(owner_id=world.anna.pk, decisions=[decision], sampler=DecisionSampler()) == 1
    row = Decision.objects.get()
    assert (row.buy_fee_rate, row.sell_fee_rate, row.buy_age_ms, row.sell_age_ms) == (0.001, 0.001, 12.0, 12.0)
    assert (row.notional, row.score, row.later_profit) == (1500.5, 0.75, -3.5)
    assert (row.factors, row.components) == ({"volatility": "0.5"}, {"depth": "0.9"})
    assert row.costs == {"drift": "1.25", "odd": "nan"}


def test_what_was_not_sized_or_looked_at_again_is_empty(world):
    bot = world.bot(world.anna)
    odd = msgspec.structs.replace(world.decision(bot, check="c", at_ns=now_ns()), later_profit=float("inf"))
    decisions_store(owner_id=world.anna.pk, decisions=[odd], sampler=DecisionSampler())
    row = Decision.objects.get()
    assert (row.notional, row.score, row.factors, row.later_profit) == (None, None, {}, None)


def test_a_later_profit_reaches_the_owners_own_decision_only(world):
    bot = world.bot(world.anna)
    taken = world.decision(bot, trade_id="t1", at_ns=now_ns())
    decisions_store(owner_id=world.anna.pk, decisions=[taken], sampler=DecisionSampler())
    assert later_profits_store(owner_id=world.ben.pk, later=[("t1", 1.0)]) == 0
    assert later_profits_store(owner_id=world.anna.pk, later=[("t1", float("nan")), ("t2", 1.0)]) == 0
    assert later_profits_store(owner_id=world.anna.pk, later=[("t1", 2.5)]) == 1
    assert Decision.objects.get().later_profit == 2.5


def test_taken_ones_are_all_kept(world):
    bot = world.bot(world.anna)
    at = now_ns()
    batch = [world.decision(bot, trade_id=f"trade-{number}", at_ns=at) for number in range(10)]
    assert decisions_store(owner_id=world.anna.pk, decisions=batch, sampler=DecisionSampler()) == 10


def test_a_clock_set_back_does_not_silence_a_route(world):
    bot = world.bot(world.anna)
    sampler = DecisionSampler()
    assert sampler.keeps(world.decision(bot, check="size", at_ns=1000 * SECOND))
    assert sampler.keeps(world.decision(bot, check="size", at_ns=500 * SECOND))
    assert not sampler.keeps(world.decision(bot, check="size", at_ns=500 * SECOND + 1))


def test_sampler_itself_is_bounded(world):
    bot = world.bot(world.anna)
    sampler = DecisionSampler()
    sampler.max_keys = 50
    for number in range(500):
        sampler.keeps(world.decision(bot, check="size", route=f"route-{number}"))
    assert len(sampler._last) == 50


def test_table_never_grows_beyond_its_bound(world, monkeypatch):
    monkeypatch.setattr(service, "PRUNE_EVERY", 20)
    bot, other = world.bot(world.anna), world.bot(world.anna, "Other")
    sampler = DecisionSampler(sample_seconds=0)
    at = now_ns()
    decisions_store(
        owner_id=world.anna.pk,
        decisions=[world.decision(other, check="c", at_ns=at)],
        sampler=sampler,
        keep_per_bot=100,
    )
    largest = 0
    for batch in range(40):
        made = [world.decision(bot, check="c", at_ns=at + batch * 10 + number) for number in range(10)]
        decisions_store(owner_id=world.anna.pk, decisions=made, sampler=sampler, keep_per_bot=100)
        largest = max(largest, Decision.objects.filter(bot=bot).count())
    assert 100 <= largest <= 120
    newest = Decision.objects.filter(bot=bot).order_by("-id").first()
    assert newest.at == max(Decision.objects.filter(bot=bot).values_list("at", flat=True))
    assert Decision.objects.filter(bot=other).count() == 1


def test_old_ones_are_pruned_by_age(world):
    bot = world.bot(world.anna)
    old = now_ns() - 10 * 86_400 * SECOND
    sampler = DecisionSampler()
    decisions_store(owner_id=world.anna.pk, decisions=[world.decision(bot, check="c", at_ns=now_ns())], sampler=sampler)
    decisions_store(owner_id=world.anna.pk, decisions=[world.decision(bot, check="d", at_ns=old)], sampler=sampler)
    assert decisions_prune(bot_id=bot.pk) == 1
    assert Decision.objects.get().check_name == "c"


def test_figures_that_are_not_numbers_do_not_break_the_batch(world):
    bot = world.bot(world.anna)
    odd = world.decision(bot, check="c", at_ns=now_ns(), net_bps=float("nan"), net_profit=float("inf"))
    assert decisions_store(owner_id=world.anna.pk, decisions=[odd], sampler=DecisionSampler()) == 1
    row = Decision.objects.get()
    assert (row.net_bps, row.profit) == (0.0, 0.0)


def test_decisions_of_a_deleted_or_foreign_bot_are_left_out(world):
    bot, bens = world.bot(world.anna), world.bot(world.ben)
    gone = world.decision(bot, check="c", at_ns=now_ns())
    foreign = world.decision(bens, check="c", at_ns=now_ns())
    bot.delete()
    assert decisions_store(owner_id=world.anna.pk, decisions=[gone, foreign], sampler=DecisionSampler()) == 0
    assert not Decision.objects.exists()


@given(steps=st.lists(st.integers(0, 3 * SECOND), max_size=60))
def test_kept_refusals_of_a_route_are_at_least_the_interval_apart(steps):
    from tests.bots.world import World

    class Bot:
        pk, owner_id = 1, 1

    world = World.__new__(World)
    sampler = DecisionSampler(sample_seconds=1.0)
    kept, at = [], SECOND
    for step in steps:
        at += step
        if sampler.keeps(world.decision(Bot, check="c", at_ns=at)):
            kept.append(at)
    assert all(later - earlier >= SECOND for earlier, later in itertools.pairwise(kept))
