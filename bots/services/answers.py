"""A request with an idempotency key is carried out once; the same one again is given the first answer."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from datetime import timedelta
from hashlib import sha256
from typing import Any, NamedTuple

from django.db import transaction
from django.utils import timezone

from bots.models import ApiAnswer
from bots.services.inserting import insert_unless_there, update_columns

# Commands keep their keys for good, so that even later nothing is sent twice.
KEEP = timedelta(days=7)


class KeyReused(Exception):
    """The idempotency key was used for another request."""


class Answer(NamedTuple):
    """What is answered, and whether that is what was answered before."""

    status: int
    data: Mapping[str, Any]
    is_repeated: bool


def answer_once(*, owner_id: int, key: str, content: str, perform: Callable[[], tuple[int, dict[str, Any]]]) -> Answer:
    """Carry a request out unless its key was used before; what ``perform`` raises leaves the key unused.

    The row of the answer is inserted first and in the same transaction, so of two requests with one key at one moment
    the second waits for the first. ``content`` is all that makes requests the same.

    Raises
    ------
    KeyReused
        If the key was used with other content.
    """
    digest = sha256(content.encode("utf-8", "surrogatepass")).hexdigest()
    with transaction.atomic():
        row = ApiAnswer(owner_id=owner_id, key=key, content=digest)
        if not insert_unless_there(row):
            known = ApiAnswer.objects.get(owner_id=owner_id, key=key)
            if known.content != digest:
                raise KeyReused(key)
            return Answer(known.status, known.answer, is_repeated=True)
        row.status, row.answer = perform()
        update_columns(row, "status", "answer")
    return Answer(row.status, row.answer, is_repeated=False)


def command_key(owner_id: int, key: str) -> str:
    """Return the key of the command of a request: clients' keys are their owner's, commands' keys are everybody's."""
    return sha256(f"{owner_id}:{key}".encode()).hexdigest()


def answers_prune() -> int:
    """Delete answers that nobody asks for again; returns how many."""
    return ApiAnswer.objects.filter(created_at__lt=timezone.now() - KEEP).delete()[0]
