"""Turns of the trading switch: always with a reason, audited, none over another's head."""

from __future__ import annotations

from typing import Any

from django.apps import apps
from django.contrib.auth.models import User
from django.core.exceptions import PermissionDenied, ValidationError
from django.db import transaction

from risk.models import TradingSwitch, TradingSwitchEvent
from risk.models.switch import REASON_LENGTH
from risk.policy.switch import TradingState, is_stricter
from risk.services.audit import audit_record, permission_check
from risk.services.reasons import reason_clean
from risk.services.revision import revision_bump

OPERATE_ALL = "bots.operate_all"
SET = "risk.set_tradingswitch"


def switch_set(
    *,
    actor: User | None,
    scope: str,
    state: str,
    reason: str,
    seen_version: int | None,
    owner_id: int | None = None,
    bot_id: int | None = None,
) -> TradingSwitch:
    """Turn the switch of a scope that still stands as the actor saw it; ``actor`` None is the platform itself.

    ``seen_version`` is 0 where there was no switch yet. Owners turn what is theirs, but not looser than an operator
    has it; operators turn everything.

    Raises
    ------
    PermissionDenied
        If the scope is not the actor's.
    ValidationError
        Without a reason, if it stands there already, if an operator holds it stricter, or if somebody turned it since
        ``seen_version``; nothing is saved.
    """
    permission_check(actor=actor, permission=SET)
    operates = actor is None or actor.has_perm(OPERATE_ALL)
    if not operates:
        _owner_check(actor, scope, owner_id, bot_id)
    words = reason_clean(reason, most=REASON_LENGTH)
    if state not in TradingSwitch.State.values:
        raise ValidationError({"state": f"One of {', '.join(TradingSwitch.State.values)} (given {state[:20]!r})."})
    with transaction.atomic():
        revision_bump()
        rows = TradingSwitch.objects.select_for_update(of=("self",))
        switch = rows.filter(scope=scope, owner=owner_id, bot=bot_id).first()
        if switch is None:
            switch = TradingSwitch(scope=scope, owner_id=owner_id, bot_id=bot_id, version=0)
        _as_seen(switch, seen_version)
        before = switch.state
        if before == state and (not operates or switch.operator_state == state):
            raise ValidationError({"state": f"It is at {switch.get_state_display().lower()} already."})
        if operates:
            switch.operator_state = state
        elif is_stricter(TradingState(switch.operator_state), TradingState(state)):
            held = TradingSwitch.State(switch.operator_state).label.lower()
            raise ValidationError({"state": f"An operator has set {held}: only an operator can make it looser."})
        switch.state, switch.reason, switch.changed_by = state, words, actor
        switch.version += 1
        switch.full_clean()
        switch.save()
        TradingSwitchEvent.objects.create(
            switch=switch, version=switch.version, from_state=before, to_state=state, reason=words, by=actor
        )
        label = TradingSwitch.State(before).label.lower()
        audit_record(
            actor=actor,
            subject=switch,
            message=f"Turned from {label} to {switch.get_state_display().lower()}: {words}",
        )
    return switch


def _owner_check(actor: User | None, scope: str, owner_id: int | None, bot_id: int | None) -> None:
    bots: Any = apps.get_model("bots", "Bot")
    mine = actor is not None and (
        (scope == TradingSwitch.Scope.OWNER and owner_id == actor.pk and bot_id is None)
        or (
            scope == TradingSwitch.Scope.BOT
            and owner_id is None
            and bots._default_manager.filter(pk=bot_id, owner=actor.pk).exists()
        )
    )
    if not mine:
        raise PermissionDenied("This belongs to another user.")


def _as_seen(switch: TradingSwitch, seen_version: int | None) -> None:
    if switch.version != seen_version:
        who = switch.changed_by or "the platform"
        raise ValidationError(
            f"Somebody turned this switch meanwhile: it is at {switch.get_state_display().lower()} now, by {who} "
            f"({switch.reason}; version {switch.version}, you saw {seen_version}). Open it again."
            if switch.version
            else f"This switch was removed meanwhile (you saw version {seen_version}). Open it again.",
            code="stale",
        )
