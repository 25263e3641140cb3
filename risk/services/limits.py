"""Changes to limits, each audited, none over another's head."""

from __future__ import annotations

from decimal import Decimal

from django.contrib.auth.models import User
from django.core.exceptions import ValidationError
from django.db import transaction

from risk.models import RiskLimit
from risk.rules import figure
from risk.selectors import limits_overlapping
from risk.services.audit import ADDITION, CHANGE, DELETION, audit_record, permission_check
from risk.services.revision import revision_bump

LOWEST_EDGE, HIGHEST_EDGE = "min_net_edge_bps", "max_edge_bps"


def limit_create(
    *,
    actor: User,
    scope: str,
    rule: str,
    value: Decimal,
    owner_id: int | None = None,
    bot_id: int | None = None,
    exchange_id: int | None = None,
    pair_id: int | None = None,
    note: str = "",
) -> RiskLimit:
    """Set a limit that was not there; raises ValidationError and then saves nothing."""
    permission_check(actor=actor, permission="risk.add_risklimit")
    limit = RiskLimit(
        scope=scope,
        rule=rule,
        value=value,
        owner_id=owner_id,
        bot_id=bot_id,
        exchange_id=exchange_id,
        pair_id=pair_id,
        note=note,
    )
    with transaction.atomic():
        revision_bump()
        limit.full_clean()
        _contradiction_check(limit)
        limit.save()
        audit_record(actor=actor, subject=limit, message=f"Set to {figure(limit.value)}.", flag=ADDITION)
    return limit


def limit_update(*, actor: User, limit: RiskLimit, value: Decimal, note: str, seen_version: int | None) -> RiskLimit:
    """Change a limit that is still as the actor saw it.

    Raises
    ------
    ValidationError
        If the value is out of the rule's range or contradicts another limit, or somebody changed or removed the limit
        since ``seen_version``.
    """
    permission_check(actor=actor, permission="risk.change_risklimit")
    with transaction.atomic():
        revision_bump()
        stored = _as_seen(limit, seen_version)
        before = stored.value
        stored.value, stored.note = value, note
        stored.full_clean()
        _contradiction_check(stored)
        stored.version += 1
        stored.save()
        audit_record(
            actor=actor,
            subject=stored,
            message=f"Changed from {figure(before)} to {figure(stored.value)} (version {stored.version}).",
            flag=CHANGE,
        )
    return stored


def limit_delete(*, actor: User, limit: RiskLimit, seen_version: int | None) -> None:
    """Remove a limit that is still as the actor saw it; raises ValidationError and then removes nothing."""
    permission_check(actor=actor, permission="risk.delete_risklimit")
    with transaction.atomic():
        revision_bump()
        stored = _as_seen(limit, seen_version)
        audit_record(actor=actor, subject=stored, message=f"Removed; it was {figure(stored.value)}.", flag=DELETION)
        stored.delete()


def _as_seen(limit: RiskLimit, seen_version: int | None) -> RiskLimit:
    """Return the stored limit, locked; refuse it if it is no longer what the actor saw."""
    stored = RiskLimit.objects.select_for_update(of=("self",)).filter(pk=limit.pk).first()
    if stored is None:
        raise ValidationError("Somebody removed this limit meanwhile.", code="stale")
    if stored.version != seen_version:
        raise ValidationError(
            f"Somebody changed this limit meanwhile: it is {figure(stored.value)} now (version {stored.version}, "
            f"you saw {seen_version}). Open it again.",
            code="stale",
        )
    return stored


def _contradiction_check(limit: RiskLimit) -> None:
    """Refuse a minimum edge above a maximum edge where both could bind the same trade: nothing could be traded.

    What bots' owners have set does not count here: it must not keep an operator from tightening.
    """
    if limit.rule not in {LOWEST_EDGE, HIGHEST_EDGE}:
        return
    is_lowest = limit.rule == LOWEST_EDGE
    for other in limits_overlapping(limit, rule=HIGHEST_EDGE if is_lowest else LOWEST_EDGE):
        low, high = (limit.value, other.value) if is_lowest else (other.value, limit.value)
        if low > high:
            words = f"{other.get_rule_display().lower()} of {figure(other.value)} basis points for {other.source}"
            raise ValidationError(
                {"value": f"Must be at {'most' if is_lowest else 'least'} the {words} (given {figure(limit.value)})."},
                code="contradiction",
            )
