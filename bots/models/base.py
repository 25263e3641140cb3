"""What the models share: rows scoped by owner, choices made of the engine's own enumerations."""

from __future__ import annotations

from enum import StrEnum
from typing import Any, Self, TypeVar

from django.conf import settings
from django.contrib.auth.models import AbstractBaseUser, AnonymousUser
from django.core.exceptions import ValidationError
from django.db import models

OPERATE_ALL = "bots.operate_all"

Row = TypeVar("Row", bound=models.Model)


def sees_everything(user: Any) -> bool:
    """Tell whether a user works on every owner's rows (operators and superusers)."""
    return bool(user.is_active and user.has_perm(OPERATE_ALL))


def choices(enumeration: type[StrEnum]) -> list[tuple[str, str]]:
    """Return an engine enumeration as model choices: PARTIALLY_FILLED is shown as "Partially filled"."""
    return [(member.value, member.value.replace("_", " ").capitalize()) for member in enumeration]


def one_of(field: str, enumeration: type[StrEnum] | type[models.TextChoices], name: str) -> models.CheckConstraint:
    """Return the constraint that a column holds one of an enumeration's values."""
    values = [str(member.value) for member in enumeration]
    return models.CheckConstraint(condition=models.Q(**{f"{field}__in": values}), name=name)


class OwnedQuerySet(models.QuerySet[Row]):
    """Rows that belong to a user."""

    def for_user(self, user: AbstractBaseUser | AnonymousUser) -> Self:
        """Return what ``user`` may see: everything for operators, their own rows for others, nothing for nobody."""
        if not user.is_authenticated:
            return self.none()
        return self.all() if sees_everything(user) else self.filter(owner_id=user.pk)


class Owned(models.Model):
    """A row with an owner. The owner outlives its rows: users with a history are deactivated, not deleted."""

    owner = models.ForeignKey(
        settings.AUTH_USER_MODEL, on_delete=models.PROTECT, related_name="+", help_text="The user it belongs to."
    )

    class Meta:
        abstract = True


class AppendOnly(models.Model):
    """A row that is written once. Changing one is a bug, not a permission."""

    class Meta:
        abstract = True

    def save(self, *args: Any, **kwargs: Any) -> None:
        if not self._state.adding:
            raise TypeError(f"{type(self).__name__} is append-only: row {self.pk} cannot be changed")
        super().save(*args, **kwargs)


def validate_plain_name(value: str) -> None:
    """Refuse control and direction-changing characters: a name must look like what it is."""
    bad = [char for char in value if not char.isprintable()]
    if bad:
        raise ValidationError(f"May not contain the character U+{ord(bad[0]):04X}.", code="unprintable")
