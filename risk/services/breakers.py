"""Circuit breakers made durable: what happens to one is a step of its row and a line of its history, or neither.

Every process comes here with what it sees; the row's lock puts that in one order. Operators' services are in
``risk.services.breaker_operations``.
"""

from __future__ import annotations

import time
from collections.abc import Mapping
from datetime import datetime, timedelta

from django.apps import apps
from django.contrib.auth import get_user_model
from django.contrib.auth.models import User
from django.core.exceptions import ValidationError
from django.db import models, transaction
from django.utils import timezone

from risk.models import BreakerEvent, CircuitBreaker
from risk.models.breakers import KEY_LENGTH, OWNED, REASON_LENGTH
from risk.policy import breakers as policy
from risk.policy.breakers import Breaker, Scope
from risk.selectors.breakers import breaker_rules
from risk.services.revision import revision_bump
from risk.times import from_ns

HOLDER_LENGTH = 64
EVENT_ID_LENGTH = 128
# How long a breaker's history is kept, and how many of its last events whatever their age.
KEEP_DAYS, KEEP_EVENTS = 90, 20
# What makes a row for a breaker that has none: nothing else can happen to a closed one.
_OPENING = frozenset({policy.BreakerEvent.TRIP, policy.BreakerEvent.OPERATOR_TRIP})


def breaker_event(
    *,
    scope: Scope,
    key: str,
    event: policy.BreakerEvent,
    now_ns: int | None = None,
    reason: str = "",
    trigger: str = "",
    seconds: float | None = None,
    holder: str = "",
    owner_id: int | None = None,
    figures: Mapping[str, object] | None = None,
    event_id: str = "",
) -> Breaker:
    """Let something happen to a breaker and return its durable state; what changes nothing leaves no trace.

    One transaction of its own. Within a larger one its row stays locked until that ends: then always take the breakers
    of one event in the same order.

    Parameters
    ----------
    now_ns
        When it happened, in nanoseconds since the epoch; by default now.
    reason
        One sentence; what is longer than the column is cut.
    seconds
        A trip's cool-down instead of the rules'.
    owner_id
        Whose owner, bot or account it is; looked up when it is not given.
    event_id
        Names what happened, so that what is told again changes nothing; several breakers may be told of the same.

    Raises
    ------
    ValueError
        If the key, the holder or the event's id does not fit, or ``seconds`` is out of bounds.
    ValidationError
        If a row is to be made for an owner, bot or account that is not there.
    """
    key_check(scope, key)
    for name, text, length in (("holder", holder, HOLDER_LENGTH), ("event_id", event_id, EVENT_ID_LENGTH)):
        if len(text) > length:
            raise ValueError(f"{name}: at most {length} characters (given {len(text)})")
    at_ns = time.time_ns() if now_ns is None else now_ns
    with transaction.atomic():
        row = breaker_lock(scope=scope, key=key)
        if row is None:
            if event not in _OPENING:
                return Breaker(scope=scope, key=key)
            row = breaker_make(scope=scope, key=key, owner_id=owner_id)
        if event_id and BreakerEvent.objects.filter(breaker=row, event_id=event_id).exists():
            return row.to_policy()
        step_take(
            row,
            event,
            now_ns=at_ns,
            reason=" ".join(reason.split())[:REASON_LENGTH],
            trigger=trigger,
            seconds=seconds,
            holder=holder,
            figures=figures,
            event_id=event_id,
        )
        return row.to_policy()


def breaker_events_prune(*, days: int = KEEP_DAYS, keep: int = KEEP_EVENTS, now: datetime | None = None) -> int:
    """Delete events older than ``days``, never one of a breaker's last ``keep``; returns how many."""
    if not (days >= 0 and keep >= 0):
        raise ValueError(f"days and keep: must not be negative (given {days}, {keep})")
    before = (now or timezone.now()) - timedelta(days=days)
    deleted = 0
    for breaker_id in (
        BreakerEvent.objects.filter(at__lt=before).order_by().values_list("breaker", flat=True).distinct()
    ):
        events = BreakerEvent.objects.filter(breaker_id=breaker_id)
        last = list(events.order_by("-version").values_list("pk", flat=True)[:keep])
        deleted += events.filter(at__lt=before).exclude(pk__in=last).delete()[0]
    return deleted


# --- what the operators' services share ----------------------------------------------------------------------------


def breaker_lock(*, scope: Scope, key: str) -> CircuitBreaker | None:
    """Lock a breaker's row until the end of the transaction and return it; None when it never tripped."""
    rows = CircuitBreaker.objects.select_for_update(of=("self",), no_key=True)
    return rows.filter(scope=scope.value, key=key).first()


def breaker_make(*, scope: Scope, key: str, owner_id: int | None = None) -> CircuitBreaker:
    """Make a closed breaker's row, unless somebody else just has, and return it locked."""
    if scope not in OWNED:
        owner_id = None
    elif owner_id is None:
        owner_id = owner_of(scope, key)
    row = CircuitBreaker(scope=scope.value, key=key, owner_id=owner_id)
    CircuitBreaker.objects.bulk_create([row], ignore_conflicts=True)
    made = breaker_lock(scope=scope, key=key)
    if made is None:
        raise ValidationError(f"No circuit breaker can be made of {row.to_policy().name}.", code="invalid")
    return made


def step_take(
    row: CircuitBreaker,
    event: policy.BreakerEvent,
    *,
    now_ns: int,
    reason: str,
    trigger: str = "",
    seconds: float | None = None,
    holder: str = "",
    figures: Mapping[str, object] | None = None,
    event_id: str = "",
    actor: User | None = None,
) -> bool:
    """Move a locked row on by an event and write its history; False, and nothing written, if nothing changes."""
    before = row.to_policy()
    after = policy.after(
        before,
        event,
        breaker_rules()[before.scope],
        now_ns,
        reason=reason,
        trigger=trigger,
        seconds=seconds,
        holder=holder,
    )
    if after == before:
        return False
    row.take(after)
    row.save()
    BreakerEvent.objects.create(
        breaker=row,
        at=from_ns(now_ns),
        event=event.value,
        from_state=policy.settled(before, now_ns).state.value if event not in _TIMES else before.state.value,
        to_state=after.state.value,
        step=after.step,
        until_ns=after.until_ns,
        version=after.version,
        reason=reason,
        trigger=trigger,
        holder=holder,
        actor=actor,
        figures=_plain(figures or {}),
        event_id=event_id or None,
    )
    revision_bump()
    return True


_TIMES = frozenset({policy.BreakerEvent.COOLED, policy.BreakerEvent.PROBE_LAPSED})


def key_check(scope: Scope, key: str) -> None:
    """Raise ValueError unless a breaker of ``scope`` can have this key at all."""
    if (scope is Scope.GLOBAL) != (key == ""):
        wanted = "empty for the scope global" if scope is Scope.GLOBAL else f"the {scope.value.replace('_', ' ')}'s"
        raise ValueError(f"key: must be {wanted} (given {key[:KEY_LENGTH]!r})")
    if len(key) > KEY_LENGTH or not key.isprintable() or key != key.strip():
        raise ValueError(f"key: must be at most {KEY_LENGTH} plain characters (given {key[:KEY_LENGTH]!r})")


def owner_of(scope: Scope, key: str) -> int:
    """Return whose an owner, bot or account is; raises ValidationError, on the field ``key``, if it is not there."""
    model: type[models.Model] = (
        get_user_model()
        if scope is Scope.OWNER
        else apps.get_model("bots", "Bot" if scope is Scope.BOT else "ExchangeAccount")
    )
    found = None
    # No id has more digits; a longer number would be too large for the database's own.
    if key.isascii() and key.isdecimal() and len(key) < 19:
        column = "pk" if scope is Scope.OWNER else "owner"
        found = model._default_manager.filter(pk=int(key)).values_list(column, flat=True).first()
    if found is None:
        raise ValidationError({"key": f"There is no {scope.value} with the id {key[:40]!r}."}, code="unknown")
    return int(found)


def _plain(figures: Mapping[str, object]) -> dict[str, object]:
    """Return figures as every database's JSON takes them: it knows no NaN and no infinity."""
    return {name: value if _fits(value) else str(value)[:64] for name, value in figures.items()}


def _fits(value: object) -> bool:
    if isinstance(value, bool | str) or value is None:
        return True
    return isinstance(value, int | float) and abs(value) < 2**63
