"""Changes to limits, each audited, none over another's head."""

from __future__ import annotations

from decimal import Decimal

from django.contrib.auth.models import User
from django.core.exceptions import ValidationError
from django.db import transaction

from risk.models import RiskLimit
from risk.services.audit import ADDITION, CHANGE, DELETION, audit_record, permission_check


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
    permission_check(actor=actor, permission="risk.add_risklimit")
    limit = RiskLimit(scope=scope, rule=rule, value=value, owner_id=owner_id, bot_id=bot_id, note=note)
    with transaction.atomic():
        limit.full_clean()
        limit.save()
        audit_record(actor=actor, subject=limit, message=f"Set to {limit.value}.", flag=ADDITION)
    return limit


def limit_update(*, actor: User, limit: RiskLimit, value: Decimal, note: str, seen_version: int) -> RiskLimit:
    """Change a limit that is still as the actor saw it.

    Raises
    ------
    ValidationError
        If the value is out of the rule's range, or somebody changed the limit since ``seen_version``.
    """
    permission_check(actor=actor, permission="risk.change_risklimit")
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
        audit_record(
            actor=actor,
            subject=stored,
            message=f"Changed from {before:f} to {stored.value} (version {stored.version}).",
            flag=CHANGE,
        )
    return stored


def limit_delete(*, actor: User, limit: RiskLimit) -> None:
    """Remove a limit."""
    permission_check(actor=actor, permission="risk.delete_risklimit")
    with transaction.atomic():
        audit_record(actor=actor, subject=limit, message=f"Removed; it was {limit.value:f}.", flag=DELETION)
        limit.delete()
