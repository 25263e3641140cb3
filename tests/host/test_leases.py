"""Leases as a host holds them: renewed by a thread, fenced by our own clock."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from unittest import mock

import pytest
from django.db import OperationalError, connections

from bots.engine_host import leases as leases_module
from bots.engine_host.leases import Lease, LeaseKeeper
from bots.models import OwnerLease
from bots.services.leases import lease_take
from trading.clock import SystemClock

pytestmark = [pytest.mark.django_db(transaction=True), pytest.mark.database]


class Keeping:
    def __init__(self, clock, seconds: float, holder: str = "host-1") -> None:
        self.lost: list[Lease] = []
        self.told = threading.Event()
        self.keeper = LeaseKeeper(holder=holder, clock=clock, on_lost=self._on_lost, seconds=seconds)

    def _on_lost(self, lease: Lease) -> None:
        self.lost.append(lease)
        self.told.set()


@pytest.fixture
def keeping() -> Iterator[Keeping]:
    keeping = Keeping(SystemClock(), seconds=1.0)
    keeping.keeper.start()
    yield keeping
    keeping.keeper.stop()


def test_of_two_hosts_one_has_the_lease(world) -> None:
    first, second = Keeping(SystemClock(), 60), Keeping(SystemClock(), 60, "host-2")
    lease = first.keeper.take(world.anna.pk)
    assert lease is not None
    assert lease.is_held()
    assert second.keeper.take(world.anna.pk) is None


def test_a_released_lease_is_free_at_once_with_a_higher_token(world) -> None:
    first, second = Keeping(SystemClock(), 60), Keeping(SystemClock(), 60, "host-2")
    lease = first.keeper.take(world.anna.pk)
    first.keeper.release(lease)
    assert not lease.is_held()
    taken = second.keeper.take(world.anna.pk)
    assert taken is not None
    assert taken.token > lease.token


def test_a_renewed_lease_outlives_its_first_term(world, keeping) -> None:
    lease = keeping.keeper.take(world.anna.pk)
    first_fence = lease.fenced_at_ns
    waiting = threading.Event()
    for _ in range(300):
        if lease.fenced_at_ns > first_fence + int(1e9):
            break
        waiting.wait(0.01)
    assert lease.fenced_at_ns > first_fence + int(1e9)
    assert lease.is_held()
    assert lease_take(owner_id=world.anna.pk, holder="host-2") is None


def test_the_fence_falls_before_the_database_lets_another_in(world, hand_clock) -> None:
    keeping = Keeping(hand_clock, 10.0)
    lease = keeping.keeper.take(world.anna.pk)
    hand_clock.advance(7.9)
    assert lease.is_held()
    hand_clock.advance(0.2)
    assert not lease.is_held()


def test_a_lease_taken_over_is_told_to_the_host(world, keeping) -> None:
    lease = keeping.keeper.take(world.anna.pk)
    OwnerLease.objects.filter(owner=world.anna).update(holder="host-2", token=lease.token + 1)
    assert keeping.told.wait(10)
    assert keeping.lost == [lease]
    assert not lease.is_held()
    assert "taken over" in lease.lost


def test_with_the_database_away_the_lease_is_lost_at_the_fence_not_before(world, keeping) -> None:
    lease = keeping.keeper.take(world.anna.pk)
    with mock.patch.object(leases_module, "leases_renew", side_effect=OperationalError("gone")):
        assert keeping.told.wait(10)
        assert keeper_time() >= lease.fenced_at_ns
    assert "could not be renewed in time" in lease.lost


def keeper_time() -> int:
    return SystemClock().monotonic_ns()


def test_a_short_outage_costs_nothing(world, keeping) -> None:
    lease = keeping.keeper.take(world.anna.pk)
    real, failures = leases_module.leases_renew, iter([OperationalError("gone")])

    def renew(**values):
        for failure in failures:
            raise failure
        return real(**values)

    fence = lease.fenced_at_ns
    with mock.patch.object(leases_module, "leases_renew", side_effect=renew):
        waiting = threading.Event()
        for _ in range(300):
            if lease.fenced_at_ns > fence:
                break
            waiting.wait(0.01)
    assert lease.is_held()
    assert keeping.lost == []


def test_releasing_a_lost_lease_leaves_the_new_holder_alone(world) -> None:
    first, second = Keeping(SystemClock(), 60), Keeping(SystemClock(), 60, "host-2")
    lease = first.keeper.take(world.anna.pk)
    OwnerLease.objects.filter(owner=world.anna).update(expires_at="2000-01-01T00:00Z")
    taken = second.keeper.take(world.anna.pk)
    first.keeper.release(lease)
    assert OwnerLease.objects.get(owner=world.anna).token == taken.token
    assert lease_take(owner_id=world.anna.pk, holder="host-3") is None
    connections.close_all()
