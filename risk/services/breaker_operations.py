"""What operators do with circuit breakers: trip, reset, extend, and set the rules. Each with a reason, audited."""

from __future__ import annotations

import math
import time
from collections.abc import Mapping
from decimal import Decimal

from django.apps import apps
from django.contrib.auth.models import User
from django.core.exceptions import ValidationError
from django.db import transaction
from django.db.models import Q

from risk.models import BreakerSettings, CircuitBreaker
from risk.models.breaker_settings import EDITABLE
from risk.models.breakers import KEY_LENGTH, OWNED, REASON_LENGTH
from risk.policy import breakers as policy
from risk.policy.breakers import MAX_COOLDOWN_SECONDS, MIN_COOLDOWN_SECONDS, Breaker, BreakerEvent, Scope
from risk.policy.rulebook import DEFAULTS
from risk.policy.triggers import Trigger
from risk.services.audit import audit_record, permission_check
from risk.services.breakers import breaker_lock, breaker_make, key_check, owner_of, step_take
from risk.services.reasons import reason_clean
from risk.services.setting_rows import row_set

OPERATE = "risk.operate_circuitbreaker"
SETTINGS = "risk.change_breakersettings"
Seconds = float | Decimal | None


def breaker_trip(
    *, actor: User, breaker: CircuitBreaker, reason: str, seconds: Seconds = None, seen_version: int
) -> Breaker:
    """Open a breaker by hand, for ``seconds`` or as long as its rules say.

    Raises
    ------
    ValidationError
        With field, limit and what was given; or, its code "stale", if the breaker changed since ``seen_version``; or
        if it is open for longer already.
    """
    return _operate(actor, breaker, BreakerEvent.OPERATOR_TRIP, reason, seconds, seen_version)


def breaker_reset(*, actor: User, breaker: CircuitBreaker, reason: str, seen_version: int) -> Breaker:
    """Close a breaker by hand, at once and at the full size; raises ValidationError like :func:`breaker_trip`."""
    return _operate(actor, breaker, BreakerEvent.RESET, reason, None, seen_version)


def breaker_extend(
    *, actor: User, breaker: CircuitBreaker, reason: str, seconds: Seconds, seen_version: int
) -> Breaker:
    """Add seconds to a cool-down; one that is over goes on from now. Raises like :func:`breaker_trip`."""
    if seconds is None:
        raise ValidationError({"seconds": f"Say by how many seconds; {_bounds()}."}, code="required")
    return _operate(actor, breaker, BreakerEvent.EXTEND, reason, seconds, seen_version)


def breaker_open(*, actor: User, scope: str, key: str, reason: str, seconds: Seconds = None) -> Breaker:
    """Open the breaker of anything that is there by hand, whether or not it ever tripped.

    Raises
    ------
    ValidationError
        With field, limit and what was given; also if nothing of the name is there, or it is open for longer already.
    """
    permission_check(actor=actor, permission=OPERATE)
    wanted, key = scope_clean(scope, key)
    why, duration = reason_clean(reason, most=REASON_LENGTH), seconds_clean(seconds)
    with transaction.atomic():
        row = breaker_lock(scope=wanted, key=key) or breaker_make(scope=wanted, key=key)
        return _apply(row, actor, BreakerEvent.OPERATOR_TRIP, why, duration)


def settings_ensure() -> None:
    """Make the rows of scopes that have none yet, with the defaults; idempotent."""
    there = set(BreakerSettings.objects.values_list("scope", flat=True))
    missing = [_default(scope) for scope in Scope if scope.value not in there]
    if missing:
        BreakerSettings.objects.bulk_create(missing, ignore_conflicts=True)


def settings_update(*, actor: User, scope: str, values: Mapping[str, object], seen_version: int) -> BreakerSettings:
    """Set rules of a scope that are still as the actor saw them.

    Raises
    ------
    ValidationError
        By field, with the limits and what was given; or if somebody changed them since ``seen_version``.
    """
    permission_check(actor=actor, permission=SETTINGS)
    if unknown := values.keys() - EDITABLE:
        raise TypeError(f"BreakerSettings: cannot set {', '.join(sorted(unknown))}")
    settings_ensure()
    with transaction.atomic():
        row = settings_lock(scope=scope, seen_version=seen_version)
        row_set(row, actor=actor, values=values)
    return row


def settings_lock(*, scope: str, seen_version: int | None) -> BreakerSettings:
    """Lock a scope's settings until the end of the transaction; raises ValidationError if they changed meanwhile."""
    row = BreakerSettings.objects.select_for_update(of=("self",)).filter(scope=scope).first()
    if row is None:
        raise ValidationError({"scope": f"Must be one of {', '.join(Scope)} (given {scope[:40]!r})."}, code="scope")
    if row.version != seen_version:
        raise ValidationError(
            f"Somebody changed these settings meanwhile: they are at version {row.version}, you saw {seen_version}. "
            "Open them again.",
            code="stale",
        )
    return row


# --- checks of what was given --------------------------------------------------------------------------------------


def seconds_clean(seconds: Seconds) -> float | None:
    """Return a cool-down in seconds; raises ValidationError on the field ``seconds``."""
    if seconds is None:
        return None
    # A Decimal that signals would raise when compared.
    number = math.nan if isinstance(seconds, Decimal) and not seconds.is_finite() else seconds
    if not MIN_COOLDOWN_SECONDS <= number <= MAX_COOLDOWN_SECONDS:
        raise ValidationError({"seconds": f"{_bounds()} (given {str(seconds)[:40]})."}, code="range")
    return float(number)


def scope_clean(scope: str, key: str) -> tuple[Scope, str]:
    """Return the scope and key of something that is there; raises ValidationError on ``scope`` or ``key``."""
    key = key.strip()
    try:
        wanted = Scope(scope)
    except ValueError:
        raise ValidationError({"scope": f"Must be one of {', '.join(Scope)} (given {scope[:40]!r})."}) from None
    try:
        key_check(wanted, key)
    except ValueError as problem:
        text = str(problem).partition(": ")[2]
        raise ValidationError({"key": f"{text[:1].upper()}{text[1:]}."}, code="invalid") from None
    if wanted in OWNED:
        owner_of(wanted, key)
        return wanted, str(int(key))
    exchange, _, pair = key.partition(":") if wanted is Scope.PAIR_ON_EXCHANGE else (key, "", key)
    if wanted in {Scope.EXCHANGE, Scope.PAIR_ON_EXCHANGE} and not _there("Exchange", Q(code=exchange)):
        raise ValidationError({"key": f"There is no exchange {exchange[:40]!r}; {_SHAPES[wanted]}."}, code="unknown")
    base, _, quote = pair.partition("/")
    if wanted in {Scope.PAIR, Scope.PAIR_ON_EXCHANGE} and not _there("TradingPair", Q(base=base, quote=quote)):
        raise ValidationError({"key": f"There is no pair {pair[:40]!r}; {_SHAPES[wanted]}."}, code="unknown")
    return wanted, key


_SHAPES = {
    Scope.EXCHANGE: "write its code, such as binance",
    Scope.PAIR: "write it as BTC/USDT",
    Scope.PAIR_ON_EXCHANGE: "write it as binance:BTC/USDT",
}


def _there(model: str, condition: Q) -> bool:
    return bool(apps.get_model("bots", model)._default_manager.filter(condition).exists())


# --- one order -----------------------------------------------------------------------------------------------------


def _operate(
    actor: User, breaker: CircuitBreaker, event: BreakerEvent, reason: str, seconds: Seconds, seen_version: int
) -> Breaker:
    permission_check(actor=actor, permission=OPERATE)
    why, duration = reason_clean(reason, most=REASON_LENGTH), seconds_clean(seconds)
    with transaction.atomic():
        row = breaker_lock(scope=Scope(breaker.scope), key=breaker.key)
        if row is None:
            raise ValidationError(f"There is no circuit breaker of {breaker} any more.", code="gone")
        if row.version != seen_version:
            raise ValidationError(
                f"This changed meanwhile (version {row.version}, you saw {seen_version}). "
                f"{policy.describe(row.to_policy(), time.time_ns())} Look at it again.",
                code="stale",
            )
        return _apply(row, actor, event, why, duration)


def _apply(row: CircuitBreaker, actor: User, event: BreakerEvent, reason: str, seconds: float | None) -> Breaker:
    now_ns = time.time_ns()
    before = policy.describe(row.to_policy(), now_ns)
    said = policy.refusal(row.to_policy(), event, now_ns)
    if said:
        raise ValidationError(f"{said}", code="refused")
    trigger = Trigger.OPERATOR.value if event is BreakerEvent.OPERATOR_TRIP else ""
    try:
        moved = step_take(row, event, now_ns=now_ns, reason=reason, trigger=trigger, seconds=seconds, actor=actor)
    except ValueError as problem:
        text = str(problem).partition(": ")[2]
        raise ValidationError({"seconds": f"{text[:1].upper()}{text[1:]}."}, code="range") from None
    if not moved:
        raise ValidationError(f"{before} That is longer than asked for: nothing changed.", code="refused")
    verb = {BreakerEvent.OPERATOR_TRIP: "Tripped", BreakerEvent.RESET: "Reset", BreakerEvent.EXTEND: "Extended"}[event]
    message = f"{verb}. Before: {before} Now: {policy.describe(row.to_policy(), now_ns)} Reason: {reason}"
    audit_record(actor=actor, subject=row, message=message)
    return row.to_policy()


def _default(scope: Scope) -> BreakerSettings:
    row = BreakerSettings(scope=scope.value)
    row.take(DEFAULTS[scope])
    return row


def _bounds() -> str:
    return f"Must be between {MIN_COOLDOWN_SECONDS:g} and {MAX_COOLDOWN_SECONDS:.0f} seconds"


__all__ = [
    "KEY_LENGTH", "OPERATE", "SETTINGS", "breaker_extend", "breaker_open", "breaker_reset", "breaker_trip",
    "settings_ensure", "settings_lock", "settings_update",
]  # fmt: skip
