"""A query whose statement is written once finds what the queryset finds, on whichever thread it is asked."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor

import pytest
from django.contrib.auth import get_user_model
from django.db import connection
from django.db.models import F, QuerySet

from bots.models import ApiToken, Command
from bots.services.written import Written

pytestmark = [pytest.mark.django_db(transaction=True), pytest.mark.database]


def asked_of(owner_id: int, key: str) -> QuerySet[Command]:
    rows = Command.objects.filter(owner=owner_id, idempotency_key=key).annotate(whose=F("owner__username"))
    return rows.select_related("requested_by").order_by("id")


@pytest.fixture
def owners() -> list[int]:
    users = [get_user_model().objects.create_user(name) for name in ("anna", "ben")]
    for user in users:
        Command.objects.create(
            owner=user, requested_by=user, kind="reload", payload={"n": ["1", None]}, idempotency_key=user.username
        )
    return [user.pk for user in users]


def test_it_returns_the_rows_of_the_values_with_all_that_belongs_to_them(owners, django_assert_num_queries) -> None:
    written = Written(asked_of, int, str)
    for owner, name in zip(owners, ("anna", "ben"), strict=True):
        [known] = asked_of(owner, name)
        with django_assert_num_queries(1):
            [found] = written(owner, name)
            assert (found, found.payload, found.created_at) == (known, known.payload, known.created_at)
            assert (found.whose, found.requested_by.username) == (name, name)
        found.status = Command.Status.DONE
        found.save()  # it is stored already
    assert Command.objects.count() == 2


def test_nobody_gets_the_rows_of_another(owners) -> None:
    written = Written(asked_of, int, str)
    assert written(owners[0], "ben") == written(owners[0], "' OR 1=1 --") == written(owners[1], "anna") == []
    assert [one.owner_id for one in written(owners[1], "ben")] == [owners[1]]


def test_the_statement_is_written_once_for_all_threads(owners) -> None:
    made = []

    def make(owner_id: int, key: str) -> QuerySet[Command]:
        made.append(owner_id)
        return asked_of(owner_id, key)

    written = Written(make, int, str)
    written(owners[0], "anna")

    def other() -> list[int]:
        try:
            return [one.owner_id for one in written(owners[1], "ben")]
        finally:
            connection.close()

    with ThreadPoolExecutor(2) as pool:
        assert [work.result() for work in [pool.submit(other) for _ in range(4)]] == [[owners[1]]] * 4
    assert len(made) == 1


def test_a_value_that_the_statement_has_no_place_for_is_a_bug() -> None:
    with pytest.raises(AssertionError, match="stand for nothing"):
        Written(lambda digest: ApiToken.objects.filter(digest=digest.upper()), str)("x")
