"""What operators set for sizing, slippage, scoring and rebalancing.

Checked as the policy checks it, audited, nobody overruled.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import TypeVar

from django.contrib.auth.models import User
from django.core.exceptions import ValidationError
from django.db import transaction

from risk.models import RebalanceSettings, ScoringSettings, SizingSettings, SlippageSettings
from risk.models.rating_settings import ONLY, RatingSettings
from risk.services.audit import permission_check
from risk.services.setting_rows import row_set, shown

Settings = TypeVar("Settings", bound=RatingSettings)
Values = Mapping[str, object]


def sizing_update(*, actor: User, values: Values, seen_version: int) -> SizingSettings:
    """Set rules of sizing that are still as the actor saw them; nothing is saved if any of them can't be.

    Raises
    ------
    ValidationError
        By field, with the limits and what was given; or, its code "stale", if somebody changed them since
        ``seen_version``: then it names what they are now.
    """
    return rating_update(SizingSettings, actor=actor, values=values, seen_version=seen_version)


def slippage_update(*, actor: User, values: Values, seen_version: int) -> SlippageSettings:
    """Set rules of slippage; raises like :func:`sizing_update`."""
    return rating_update(SlippageSettings, actor=actor, values=values, seen_version=seen_version)


def scoring_update(*, actor: User, values: Values, seen_version: int) -> ScoringSettings:
    """Set weights and scales of the score; raises like :func:`sizing_update`."""
    return rating_update(ScoringSettings, actor=actor, values=values, seen_version=seen_version)


def rebalance_update(*, actor: User, values: Values, seen_version: int) -> RebalanceSettings:
    """Set when and what the platform proposes to rebalance; raises like :func:`sizing_update`."""
    return rating_update(RebalanceSettings, actor=actor, values=values, seen_version=seen_version)


def settings_ensure(model: type[Settings]) -> Settings:
    """Return the one row of some settings, made with the defaults if it was not there; idempotent."""
    row = model._default_manager.filter(scope=ONLY).first()
    if row is None:
        model._default_manager.bulk_create([model()], ignore_conflicts=True)
        row = model._default_manager.get(scope=ONLY)
    return row


def settings_lock(model: type[Settings], *, seen_version: int | None, values: Values) -> Settings:
    """Lock the row until the end of the transaction; raises ValidationError if it changed since ``seen_version``."""
    row = model._default_manager.select_for_update(of=("self",)).get(scope=ONLY)
    if row.version != seen_version:
        others = [
            f"{name} is {shown(getattr(row, name))}"
            for name in sorted(values.keys() & model.editable())
            if getattr(row, name) != values[name]
        ]
        now = ", ".join(others) if others else "they are what you want them to be"
        raise ValidationError(
            f"Somebody changed these settings meanwhile (version {row.version}, you saw {seen_version}): {now} now. "
            "Open them again.",
            code="stale",
        )
    return row


def rating_update(model: type[Settings], *, actor: User, values: Values, seen_version: int) -> Settings:
    """Set some columns of one of the three; see :func:`sizing_update`."""
    permission_check(actor=actor, permission=f"risk.change_{model._meta.model_name}")
    if unknown := values.keys() - model.editable():
        raise TypeError(f"{model.__name__}: cannot set {', '.join(sorted(unknown))}")
    with transaction.atomic():
        settings_ensure(model)
        row = settings_lock(model, seen_version=seen_version, values=values)
        row_set(row, actor=actor, values=values)
    return row
