"""One holder at a time, tokens that only grow, and the database's clock deciding."""

from __future__ import annotations

import threading
from datetime import UTC, datetime, timedelta

import pytest
from django.contrib.auth.models import User
from django.db import connection
from django.utils import timezone

from bots.models import OwnerLease
from bots.services.leases import lease_release, lease_take, leases_renew

pytestmark = [pytest.mark.database]


@pytest.fixture
def owner(db):
    return User.objects.create_user("owner")


def expire(owner):
    OwnerLease.objects.filter(owner=owner).update(expires_at=timezone.now() - timedelta(days=1))


def renew(owner, holder, token, **options):
    return leases_renew(holder=holder, tokens={owner.pk: token}, **options) == {owner.pk}


@pytest.mark.django_db
class TestOneHolder:
    def test_free_lease_is_taken_with_a_token_of_the_time(self, owner):
        first = lease_take(owner_id=owner.pk, holder="a")
        assert 0 < (timezone.now() - datetime(2025, 1, 1, tzinfo=UTC)).total_seconds() - first < 600

    def test_token_of_a_restored_database_is_beyond_those_it_has_forgotten(self, owner):
        kept = lease_take(owner_id=owner.pk, holder="a")
        OwnerLease.objects.update(token=7)  # as the backup has it
        expire(owner)
        assert lease_take(owner_id=owner.pk, holder="b") >= kept

    def test_token_grows_even_if_the_clock_was_set_back(self, owner):
        lease_take(owner_id=owner.pk, holder="a")
        OwnerLease.objects.update(token=10**9)
        expire(owner)
        assert lease_take(owner_id=owner.pk, holder="b") == 10**9 + 1

    def test_held_lease_is_refused_to_others_and_to_its_holder(self, owner):
        lease_take(owner_id=owner.pk, holder="a")
        assert lease_take(owner_id=owner.pk, holder="b") is None
        assert lease_take(owner_id=owner.pk, holder="a") is None

    def test_tokens_grow_over_release_and_expiry(self, owner):
        tokens = []
        for holder in "abc":
            tokens.append(lease_take(owner_id=owner.pk, holder=holder))
            lease_release(owner_id=owner.pk, holder=holder, token=tokens[-1])
        tokens.append(lease_take(owner_id=owner.pk, holder="d"))
        expire(owner)
        tokens.append(lease_take(owner_id=owner.pk, holder="e"))
        assert tokens == sorted(set(tokens))
        assert len(tokens) == 5

    def test_renewal_prolongs_while_held_only(self, owner):
        token = lease_take(owner_id=owner.pk, holder="a", ttl_seconds=5)
        before = OwnerLease.objects.get().expires_at
        assert renew(owner, "a", token, ttl_seconds=50)
        assert OwnerLease.objects.get().expires_at - before > timedelta(seconds=40)
        expire(owner)
        assert not renew(owner, "a", token)

    def test_stale_holder_can_neither_renew_nor_release(self, owner):
        old = lease_take(owner_id=owner.pk, holder="a")
        expire(owner)
        new = lease_take(owner_id=owner.pk, holder="b")
        assert not renew(owner, "a", old)
        assert not lease_release(owner_id=owner.pk, holder="a", token=old)
        assert not renew(owner, "b", old)
        assert renew(owner, "b", new)

    def test_of_many_leases_renewed_at_once_the_lost_ones_are_left_out(self, owner):
        others = [User.objects.create_user(f"owner-{number}") for number in range(3)]
        tokens = {one.pk: lease_take(owner_id=one.pk, holder="a", ttl_seconds=5) for one in (owner, *others)}
        before = dict(OwnerLease.objects.values_list("owner_id", "expires_at"))
        expire(others[0])
        OwnerLease.objects.filter(owner=others[1]).update(holder="b", token=2)
        kept = leases_renew(holder="a", tokens=tokens, ttl_seconds=50)
        assert kept == {owner.pk, others[2].pk}
        after = dict(OwnerLease.objects.values_list("owner_id", "expires_at"))
        assert {pk for pk in after if after[pk] > before[pk]} == kept

    def test_expiry_is_by_the_databases_clock(self, owner, monkeypatch):
        token = lease_take(owner_id=owner.pk, holder="a", ttl_seconds=30)
        # This host's clock jumps a year: the lease stands.
        monkeypatch.setattr(timezone, "now", lambda: OwnerLease.objects.get().expires_at + timedelta(days=365))
        assert lease_take(owner_id=owner.pk, holder="b") is None
        assert renew(owner, "a", token)

    def test_lease_without_holder_or_time_is_an_error(self, owner):
        with pytest.raises(ValueError, match="holder"):
            lease_take(owner_id=owner.pk, holder="")
        with pytest.raises(ValueError, match="above zero"):
            lease_take(owner_id=owner.pk, holder="a", ttl_seconds=0)


@pytest.mark.django_db(transaction=True)
def test_of_many_takers_at_once_one_wins_each_round(owner):
    takers, rounds = 6, 5
    barrier = threading.Barrier(takers)
    won: list[list[int]] = [[] for _ in range(rounds)]
    errors: list[BaseException] = []

    def take(name: str) -> None:
        try:
            for number in range(rounds):
                barrier.wait()
                token = lease_take(owner_id=owner.pk, holder=name)
                if token is not None:
                    won[number].append(token)
                barrier.wait()
                if token is not None:
                    lease_release(owner_id=owner.pk, holder=name, token=token)
        except BaseException as problem:
            errors.append(problem)
            barrier.abort()
        finally:
            connection.close()

    threads = [threading.Thread(target=take, args=(f"taker-{number}",)) for number in range(takers)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(60)

    assert not errors
    assert [len(tokens) for tokens in won] == [1] * rounds
    assert won == sorted(won)
    assert len({token for [token] in won}) == rounds


@pytest.mark.django_db(transaction=True)
def test_commit_holds_the_lease_against_a_taker(owner):
    """A taker that comes while a commit runs waits for its end, so no order is written after the lease has changed."""
    from django.db import transaction

    from bots.services.locks import lease_lock

    token = lease_take(owner_id=owner.pk, holder="a")
    events: list[str] = []
    locked, expired = threading.Event(), threading.Event()

    def commit() -> None:
        try:
            with transaction.atomic():
                lease_lock(owner_id=owner.pk, token=token)
                locked.set()
                expired.wait(10)
                events.append("committed")
        finally:
            connection.close()

    def take() -> None:
        try:
            assert lease_release(owner_id=owner.pk, holder="a", token=token)
            assert (lease_take(owner_id=owner.pk, holder="b") or 0) > token
            events.append("taken")
        finally:
            connection.close()

    committer = threading.Thread(target=commit)
    committer.start()
    assert locked.wait(10)
    taker = threading.Thread(target=take)
    taker.start()
    taker.join(0.2)
    assert taker.is_alive(), "the lease changed hands under a running commit"
    expired.set()
    committer.join(10)
    taker.join(30)
    assert events == ["committed", "taken"]
