"""How rows of settings are changed: checked, their version counted, everybody told, audited with before and after."""

from __future__ import annotations

from collections.abc import Mapping
from decimal import Decimal

from django.contrib.auth.models import User

from risk.models import BreakerSettings
from risk.models.rating_settings import RatingSettings
from risk.services.audit import audit_record
from risk.services.revision import revision_bump


def row_set(row: BreakerSettings | RatingSettings, *, actor: User, values: Mapping[str, object]) -> None:
    """Set columns of a locked row and save it, unless they are what they were; in the caller's transaction.

    Raises
    ------
    ValidationError
        By field, with the limits and what was given: then nothing is saved.
    """
    before = {name: getattr(row, name) for name in values}
    for name, value in values.items():
        setattr(row, name, value)
    row.full_clean()
    changed = [name for name in sorted(values) if getattr(row, name) != before[name]]
    if not changed:
        return
    row.version += 1
    row.save()
    revision_bump()
    steps = [f"{name} from {shown(before[name])} to {shown(getattr(row, name))}" for name in changed]
    audit_record(actor=actor, subject=row, message=f"Changed {', '.join(steps)} (version {row.version}).")


def shown(value: object) -> str:
    """Return a setting as people read it."""
    if isinstance(value, Decimal):
        return f"{value:f}".rstrip("0").rstrip(".") if "." in f"{value:f}" else f"{value:f}"
    if value is None or value is False:
        return "off"
    return "on" if value is True else str(value)
