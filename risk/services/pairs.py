"""Changes to the lists of pairs that may be traded, each audited."""

from __future__ import annotations

from django.contrib.auth.models import User
from django.core.exceptions import ValidationError
from django.db import transaction

from risk.models import AllowedPair
from risk.selectors import is_last_pair
from risk.services.audit import ADDITION, DELETION, audit_record, permission_check
from risk.services.revision import revision_bump


def pair_allow(
    *,
    actor: User,
    scope: str,
    pair_id: int,
    owner_id: int | None = None,
    bot_id: int | None = None,
    note: str = "",
) -> AllowedPair:
    """Put a pair on a scope's list; the first one of a scope forbids it all others. Raises ValidationError."""
    permission_check(actor=actor, permission="risk.add_allowedpair")
    allowed = AllowedPair(scope=scope, pair_id=pair_id, owner_id=owner_id, bot_id=bot_id, note=note)
    with transaction.atomic():
        revision_bump()
        allowed.full_clean()
        allowed.save()
        audit_record(actor=actor, subject=allowed, message=f"Allowed {allowed}.", flag=ADDITION)
    return allowed


def pair_disallow(*, actor: User, allowed: AllowedPair, last_seen: bool) -> None:
    """Take a pair off its list.

    Raises
    ------
    ValidationError
        If it is the last one, after which the scope may trade every pair, and the actor was not told (``last_seen``);
        or if somebody removed it already.
    """
    permission_check(actor=actor, permission="risk.delete_allowedpair")
    with transaction.atomic():
        revision_bump()
        stored = AllowedPair.objects.select_related("pair", "owner", "bot").filter(pk=allowed.pk).first()
        if stored is None:
            raise ValidationError("Somebody removed this pair meanwhile.", code="stale")
        if not last_seen and is_last_pair(stored):
            raise ValidationError(
                f"Somebody removed the others meanwhile: {stored.pair} is the last pair on this list, and without it "
                f"{stored.source} may trade every pair. Open it again.",
                code="stale",
            )
        audit_record(actor=actor, subject=stored, message=f"No longer allowed: {stored}.", flag=DELETION)
        stored.delete()
