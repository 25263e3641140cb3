"""Saves a row only when it is right as a whole, and hands bad input back field by field."""

from __future__ import annotations

from collections.abc import Mapping

from django.core.exceptions import ValidationError
from django.db import IntegrityError, models, transaction


def save_checked(row: models.Model) -> None:
    """Validate and save a row; nothing is saved when something is wrong.

    Raises
    ------
    ValidationError
        With one sentence for each field; also when another process took a unique value a moment ago.
    """
    row.full_clean()
    try:
        with transaction.atomic():
            row.save()
    except IntegrityError:
        # Somebody else saved the same between the check and the insert: the check now says what is taken.
        row.full_clean()
        raise


def assign(row: models.Model, values: Mapping[str, object], allowed: frozenset[str]) -> list[str]:
    """Set columns and return the names of those that changed; raises TypeError for one that may not be set."""
    unknown = values.keys() - allowed
    if unknown:
        raise TypeError(f"{type(row).__name__}: cannot set {', '.join(sorted(unknown))}")
    changed = [name for name, value in values.items() if getattr(row, name) != value]
    for name in changed:
        setattr(row, name, values[name])
    return changed


def refuse(message: str, *, field: str | None = None, code: str = "refused") -> ValidationError:
    """Return the error of a refused operation, to be raised."""
    error = ValidationError(message, code=code)
    return ValidationError({field: error}) if field else error
