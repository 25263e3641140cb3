"""What pages and the API ask of an owner's engine: a row that the holder of the lease carries out once."""

from __future__ import annotations

import secrets
from typing import Any

from django.contrib.auth.models import User
from django.db import transaction
from django.utils import timezone

from bots.models import Command
from bots.services.hints import engine_hint
from bots.services.validation import refuse

RESULT_LENGTH = 2000


def command_create(
    *, owner_id: int, actor: User | None, kind: str, payload: dict[str, Any], idempotency_key: str | None = None
) -> Command:
    """Ask for something and wake the engine. The same idempotency key again returns the first command.

    Raises
    ------
    ValidationError
        If the key was used for something else.
    """
    command, created = Command.objects.get_or_create(
        idempotency_key=idempotency_key or secrets.token_hex(16),
        defaults={"owner_id": owner_id, "kind": kind, "payload": payload, "requested_by": actor},
    )
    if not created and (command.owner_id, command.kind, command.payload) != (owner_id, kind, payload):
        raise refuse(f"The idempotency key {idempotency_key!r} was used for another request: use a new one.")
    engine_hint(owner_id)
    return command


def commands_pending(*, owner_id: int) -> list[Command]:
    """Return what waits for an owner's engine, oldest first."""
    return list(Command.objects.filter(owner_id=owner_id, status=Command.Status.PENDING).order_by("id")[:500])


def command_finish(*, command_id: int, failed: bool = False, result: str = "") -> bool:
    """Record how a command ended; False when it had ended before."""
    status = Command.Status.FAILED if failed else Command.Status.DONE
    with transaction.atomic():
        return bool(
            Command.objects.filter(pk=command_id, status=Command.Status.PENDING).update(
                status=status, result=result[:RESULT_LENGTH], finished_at=timezone.now()
            )
        )
