"""Who changed what, in Django's own log: one row for each effect of a service, never a secret in it."""

from __future__ import annotations

import logging

from django.contrib.admin.models import ADDITION, CHANGE, DELETION, LogEntry
from django.contrib.auth.models import User
from django.core.exceptions import PermissionDenied
from django.db import models

__all__ = ["ADDITION", "CHANGE", "DELETION", "audit_record", "permission_check"]

logger = logging.getLogger("arb.audit")


def audit_record(*, actor: User | None, subject: models.Model, message: str, flag: int = CHANGE) -> None:
    """Record an effect. ``actor`` None is the platform itself, whose changes go to the log file."""
    if actor is None:
        logger.info("%s %s: %s", subject._meta.verbose_name, subject.pk, message)
        return
    LogEntry.objects.log_actions(actor.pk, [subject], flag, change_message=message, single_object=True)


def permission_check(*, actor: User | None, permission: str) -> None:
    """Refuse an actor without a permission such as ``bots.change_exchange``; raises PermissionDenied."""
    if actor is not None and not actor.has_perm(permission):
        raise PermissionDenied(f"You need the permission {permission} for this.")
