"""A row is inserted unless it is there, in one statement, whichever database it is."""

from __future__ import annotations

import pytest
from django.contrib.auth import get_user_model
from django.db import IntegrityError, transaction

from bots.models import ApiAnswer, Command
from bots.services.inserting import insert_unless_there

pytestmark = [pytest.mark.django_db, pytest.mark.database]


def test_a_new_row_is_inserted_with_what_its_fields_make_of_it(django_assert_num_queries) -> None:
    owner = get_user_model().objects.create_user("anna")
    command = Command(owner=owner, kind=Command.Kind.RELOAD, payload={"n": ["1", None]}, idempotency_key="k")
    with django_assert_num_queries(1):
        assert insert_unless_there(command)
    stored = Command.objects.get(idempotency_key="k")
    assert (stored.pk, stored.payload, stored.status) == (command.pk, {"n": ["1", None]}, "pending")
    assert stored.created_at == command.created_at
    command.status = Command.Status.DONE
    command.save()
    assert Command.objects.get().status == "done", "it is the same row that is saved then"


def test_one_that_is_there_stays_as_it_is_and_the_transaction_goes_on() -> None:
    owner = get_user_model().objects.create_user("anna")
    assert insert_unless_there(ApiAnswer(owner=owner, key="k", content="first"))
    with transaction.atomic():
        assert not insert_unless_there(ApiAnswer(owner=owner, key="k", content="second"))
        assert ApiAnswer.objects.get().content == "first"


def test_what_is_wrong_otherwise_is_raised() -> None:
    owner = get_user_model().objects.create_user("anna")
    with pytest.raises(IntegrityError), transaction.atomic():
        insert_unless_there(Command(owner=owner, kind="nonsense", idempotency_key="k"))
