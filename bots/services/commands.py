"""What pages and the API ask of an owner's engine: a row that the holder of the lease carries out once."""

from __future__ import annotations

import secrets
from collections.abc import Collection, Mapping
from functools import lru_cache
from typing import Any

from django.contrib.auth.models import User
from django.db import transaction
from django.db.models import F, QuerySet
from django.utils import timezone

from bots.models import BY_HAND, Command
from bots.services.hints import engine_hint
from bots.services.inserting import insert_unless_there
from bots.services.validation import refuse
from bots.services.written import Written

RESULT_LENGTH = 2000


def command_create(
    *, owner_id: int, actor: User | None, kind: str, payload: dict[str, Any], idempotency_key: str | None = None
) -> Command:
    """Ask for something and wake the engine. The same idempotency key again returns the first command.

    ``asked`` in a payload is what makes two requests the same; without it all of the payload does.

    Raises
    ------
    ValidationError
        If the key was used for something else.
    """
    key = idempotency_key or secrets.token_hex(16)
    command = Command(owner_id=owner_id, kind=kind, payload=payload, requested_by=actor, idempotency_key=key)
    if not insert_unless_there(command):
        known = command_known(owner_id=owner_id, kind=kind, payload=payload, idempotency_key=key)
        assert known is not None  # commands are kept for good
        command = known
    engine_hint(owner_id, by_hand=kind in BY_HAND)
    return command


def command_known(*, owner_id: int, kind: str, payload: Mapping[str, Any], idempotency_key: str) -> Command | None:
    """Return the command whose key this is, None if it is new; raises ValidationError if it asks for something else."""
    known = Command.objects.filter(idempotency_key=idempotency_key).first()
    if known is None:
        return None
    if (known.owner_id, known.kind, _asked(known.payload)) != (owner_id, kind, _asked(payload)):
        raise refuse(f"The idempotency key {idempotency_key!r} was used for another request: use a new one.")
    return known


def _asked(payload: Mapping[str, Any]) -> Any:
    return payload.get("asked", payload)


def commands_pending(*, owner_id: int, kinds: Collection[str] = ()) -> list[Command]:
    """Return what waits for an owner's engine, oldest first; only of some ``kinds`` where they are given.

    ``trade_of_ticket`` of each is the id of the trade that it has led to already, None if there is none.
    """
    return _pending(frozenset(kinds))(owner_id)


@lru_cache(maxsize=4)
def _pending(kinds: frozenset[str]) -> Written[Command]:
    def rows(owner: int) -> QuerySet[Command]:
        waiting = Command.objects.filter(owner=owner, status=Command.Status.PENDING).order_by("id")
        wanted = waiting.filter(kind__in=sorted(kinds)) if kinds else waiting
        return wanted.annotate(trade_of_ticket=F("ticket__trade__trade_id"))[:500]

    return Written(rows, int)


def command_finish(*, command_id: int, failed: bool = False, result: str = "") -> bool:
    """Record how a command ended; False when it had ended before."""
    status = Command.Status.FAILED if failed else Command.Status.DONE
    with transaction.atomic():
        return bool(
            Command.objects.filter(pk=command_id, status=Command.Status.PENDING).update(
                status=status, result=result[:RESULT_LENGTH], finished_at=timezone.now()
            )
        )
