"""Whether sessions still sign their users in, asked for many at once."""

from __future__ import annotations

import asyncio
from datetime import timedelta
from typing import Any

import pytest
from channels.db import database_sync_to_async
from django.contrib.sessions.models import Session
from django.test import Client
from django.utils import timezone

from bots import live_snapshot
from bots.live_sessions import SessionWatch
from bots.live_snapshot import Asked, sessions_valid
from tests.live.desk import make_user

pytestmark = [pytest.mark.django_db, pytest.mark.database]


def sign_in(name: str) -> tuple[Any, Asked]:
    user, client = make_user(name), Client()
    client.force_login(user)
    return user, (client.session.session_key, user.pk)


def expire(asked: Asked) -> None:
    Session.objects.filter(session_key=asked[0]).update(expire_date=timezone.now() - timedelta(seconds=1))


def test_all_are_answered_with_two_queries(django_assert_num_queries: Any) -> None:
    asked = [sign_in(f"user{number}")[1] for number in range(5)]
    with django_assert_num_queries(2):
        assert sessions_valid(asked) == set(asked)


def test_a_session_counts_for_its_own_user_only() -> None:
    (anna, annas), (ben, bens) = sign_in("anna"), sign_in("ben")
    assert sessions_valid([(annas[0], ben.pk), (bens[0], anna.pk), annas]) == {annas}


def test_what_ended_is_told_apart_from_what_stands() -> None:
    _, stands = sign_in("stands")
    _, expired = sign_in("expired")
    expire(expired)
    inactive, deactivated = sign_in("deactivated")
    inactive.is_active = False
    inactive.save()
    changed, with_old_password = sign_in("changed")
    changed.set_password("another long password")
    changed.save()
    gone, deleted = sign_in("deleted")
    gone.delete()
    _, tampered = sign_in("tampered")
    Session.objects.filter(session_key=tampered[0]).update(session_data="e30:forged:signature")
    asked = [stands, expired, deactivated, with_old_password, deleted, tampered, (None, stands[1]), ("none", stands[1])]
    assert sessions_valid(asked) == {stands}


@pytest.mark.django_db(transaction=True)
async def test_pages_that_ask_together_are_answered_together(monkeypatch: pytest.MonkeyPatch) -> None:
    _, stands = await database_sync_to_async(sign_in)("anna")
    times = 0

    def counted(asked: Any) -> set[Asked]:
        nonlocal times
        times += 1
        return sessions_valid(asked)

    monkeypatch.setattr(live_snapshot, "sessions_valid", counted)
    watch = SessionWatch()
    answers = await asyncio.gather(*(watch.is_valid(*asked) for asked in (stands, stands, ("ended", stands[1]))))
    assert (answers, times) == ([True, True, False], 1)
