"""Whose a row is, beside the risk app's record of who changed what."""

from __future__ import annotations

from django.contrib.auth.models import User
from django.core.exceptions import PermissionDenied

from bots.models import sees_everything
from risk.services.audit import ADDITION, CHANGE, DELETION, audit_record, permission_check

__all__ = ["ADDITION", "CHANGE", "DELETION", "audit_record", "owner_check", "permission_check"]


def owner_check(*, actor: User | None, owner_id: int) -> None:
    """Refuse an actor who is neither the owner nor an operator.

    Raises
    ------
    PermissionDenied
        Without a word about whose the row is.
    """
    if actor is not None and actor.pk != owner_id and not sees_everything(actor):
        raise PermissionDenied("This belongs to another user.")
