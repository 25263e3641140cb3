"""Changes to limits, each audited, none over another's head."""

from __future__ import annotations

from decimal import Decimal

from django.contrib.admin.models import ADDITION, CHANGE, DELETION, LogEntry
from django.contrib.auth.models import User
from django.core.exceptions import PermissionDenied, ValidationError
from django.db import transaction

from risk.models import RiskLimit


def limit_create(
    *,
    actor: User,
    scope: str,
    rule: str,
    value: Decimal,
    owner_id: int | None = None,
    bot_id: int | None = None,
    note: str = "",
) -> RiskLimit:
    """Set a limit that was not there; raises ValidationError and then saves nothing."""
    _permission_check(actor, "risk.add_risklimit")
    limit = RiskLimit(scope=scope, rule=rule, value=value, owner_id=owner_id, bot_id=bot_id, note=note)
    with transaction.atomic():
        limit.full_clean()
        limit.save()
        _audit(actor, limit, ADDITION, f"Set to {limit.value}.")
    return limit


def limit_update(*, actor: User, limit: RiskLimit, value: Decimal, note: str, seen_version: int) -> RiskLimit:
    """Change a limit that is still as the actor saw it.

    Raises
    ------
    ValidationError
        If the value is out of the rule's range, or somebody changed the limit since ``seen_version``.
    """
    _permission_check(actor, "risk.change_risklimit")
    with transaction.atomic():
        stored = RiskLimit.objects.select_for_update(of=("self",)).get(pk=limit.pk)
        if stored.version != seen_version:
            raise ValidationError(
                f"Somebody changed this limit meanwhile: it is {stored.value:f} now (version {stored.version}, "
                f"you saw {seen_version}). Open it again.",
                code="stale",
            )
        before = stored.value
        stored.value, stored.note = value, note
        stored.full_clean()
        stored.version = seen_version + 1
        stored.save()
        _audit(actor, stored, CHANGE, f"Changed from {before:f} to {stored.value} (version {stored.version}).")
    return stored


def limit_delete(*, actor: User, limit: RiskLimit) -> None:
    """Remove a limit."""
    _permission_check(actor, "risk.delete_risklimit")
    with transaction.atomic():
        _audit(actor, limit, DELETION, f"Removed; it was {limit.value:f}.")
        limit.delete()


def _permission_check(actor: User, permission: str) -> None:
    if not actor.has_perm(permission):
        raise PermissionDenied(f"You need the permission {permission} for this.")


def _audit(actor: User, limit: RiskLimit, flag: int, message: str) -> None:
    LogEntry.objects.log_actions(actor.pk, [limit], flag, change_message=message, single_object=True)
