"""The revision grows with every change that is kept, and makes changes at the same time wait for each other."""

from __future__ import annotations

import threading
from collections.abc import Callable
from decimal import Decimal

import pytest
from django.core.exceptions import ValidationError
from django.db import connection, transaction

from bots.models import TradingPair
from risk.models import RiskLimit, RiskRevision, TradingSwitch
from risk.selectors import risk_revision
from risk.services.limits import limit_create, limit_delete, limit_update
from risk.services.pairs import pair_allow, pair_disallow
from risk.services.revision import revision_bump
from risk.services.switch import switch_set

D = Decimal
database = pytest.mark.database


@pytest.mark.django_db
@database
def test_every_kind_of_change_counts(world, django_assert_num_queries):
    actor = world.operator
    numbers = [risk_revision()]

    def counted(change):
        numbers.append(risk_revision())
        return change

    limit = counted(limit_create(actor=actor, scope="global", rule="max_open_trades", value=D(3)))
    counted(limit_update(actor=actor, limit=limit, value=D(2), note="", seen_version=1))
    counted(limit_delete(actor=actor, limit=limit, seen_version=2))
    allowed = counted(pair_allow(actor=actor, scope="global", pair_id=TradingPair.objects.first().pk))
    counted(pair_disallow(actor=actor, allowed=allowed, last_seen=True))
    counted(switch_set(actor=actor, scope="global", state="kill", reason="Why not.", seen_version=0))
    assert numbers == list(range(7))
    with django_assert_num_queries(1):
        risk_revision()


@pytest.mark.django_db
@database
def test_a_refused_change_counts_nothing(world):
    actor = world.operator
    limit = limit_create(actor=actor, scope="global", rule="max_open_trades", value=D(3))
    pair = TradingPair.objects.first()
    allowed = pair_allow(actor=actor, scope="global", pair_id=pair.pk)
    before = risk_revision()
    for refused in (
        lambda: limit_create(actor=actor, scope="global", rule="max_open_trades", value=D(0)),
        lambda: limit_update(actor=actor, limit=limit, value=D(2), note="", seen_version=7),
        lambda: limit_delete(actor=actor, limit=limit, seen_version=7),
        lambda: pair_allow(actor=actor, scope="global", pair_id=pair.pk),
        lambda: pair_disallow(actor=actor, allowed=allowed, last_seen=False),
        lambda: switch_set(actor=actor, scope="global", state="kill", reason="", seen_version=0),
        lambda: switch_set(actor=actor, scope="global", state="kill", reason="Why not.", seen_version=4),
    ):
        with pytest.raises(ValidationError):
            refused()
    assert risk_revision() == before


@pytest.mark.django_db
@database
def test_the_revision_is_one_row_that_comes_with_the_first_change():
    assert risk_revision() == 0
    with transaction.atomic():
        revision_bump()
        revision_bump()
    assert list(RiskRevision.objects.values_list("pk", "number")) == [(1, 2)]


def at_once(*changes: Callable[[], object]) -> list[object]:
    """Make changes at the same time, each on a connection of its own; return what each gave or raised."""
    barrier = threading.Barrier(len(changes))
    results: list[object] = [None] * len(changes)

    def run(number: int, change: Callable[[], object]) -> None:
        try:
            connection.ensure_connection()
            barrier.wait(30)
            results[number] = change()
        except ValidationError as refused:
            results[number] = refused
        finally:
            connection.close()

    threads = [threading.Thread(target=run, args=each) for each in enumerate(changes)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(60)
    return results


def told(results: list[object]) -> str:
    """Return what the one who came second was told."""
    [refused] = [result for result in results if isinstance(result, ValidationError)]
    return " ".join(refused.messages)


@pytest.mark.django_db(transaction=True)
@database
def test_of_two_operators_at_once_the_second_is_told(world):
    actor = world.operator
    limit = limit_create(actor=actor, scope="global", rule="max_open_trades", value=D(9))
    results = at_once(
        *(
            lambda value=value: limit_update(actor=actor, limit=limit, value=D(value), note="", seen_version=1)
            for value in (5, 7)
        )
    )
    stored = RiskLimit.objects.get()
    assert stored.version == 2
    assert f"it is {stored.value:.0f} now (version 2, you saw 1)" in told(results)
    assert risk_revision() == 2


@pytest.mark.django_db(transaction=True)
@database
def test_limits_that_contradict_each_other_are_not_set_side_by_side(world):
    actor = world.operator
    results = at_once(
        lambda: limit_create(actor=actor, scope="global", rule="min_net_edge_bps", value=D(60)),
        lambda: limit_create(
            actor=actor, scope="exchange", rule="max_edge_bps", value=D(50), exchange_id=world.exchanges["alpha"].pk
        ),
    )
    assert RiskLimit.objects.count() == 1
    message = told(results)
    assert "60" in message
    assert "50" in message
    assert risk_revision() == 1


@pytest.mark.django_db(transaction=True)
@database
def test_of_two_first_turns_of_a_switch_one_is_told(world):
    actor = world.operator
    results = at_once(
        *(
            lambda state=state: switch_set(
                actor=actor, scope="global", state=state, reason=f"To {state}.", seen_version=0
            )
            for state in ("kill", "reduce_only")
        )
    )
    switch = TradingSwitch.objects.get()
    assert f"by operator (To {switch.state}.; version 1, you saw 0)" in told(results)
    assert switch.events.count() == 1
