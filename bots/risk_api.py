"""What the live page asks of circuit breakers and trading switches; described in docs/live-messages.md.

The services judge who may do what; here is only asked whose breaker it is, so that nobody learns of another's.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import wraps

import msgspec
from django.contrib.auth.models import User
from django.core.exceptions import NON_FIELD_ERRORS, PermissionDenied, ValidationError
from django.http import HttpRequest, HttpResponse
from django.urls import path
from django.views.decorators.cache import never_cache
from django.views.decorators.http import require_POST

from bots.api.live import json_response
from bots.models.base import sees_everything
from bots.selectors.risk import breaker_items, switch_items
from risk.models import CircuitBreaker, TradingSwitch
from risk.models.breakers import OWNED
from risk.services.audit import permission_check
from risk.services.breaker_operations import (
    OPERATE,
    breaker_extend,
    breaker_open,
    breaker_reset,
    breaker_trip,
    scope_clean,
)
from risk.services.breakers import owner_of
from risk.services.switch import switch_set

MAX_BODY_BYTES = 4_096
MAX_ID_DIGITS = 18
CONFLICTS = frozenset({"stale", "refused", "gone"})
View = Callable[..., HttpResponse]


class BreakerOrder(msgspec.Struct, forbid_unknown_fields=True):
    """What is asked of one breaker; ``version`` is the one that was seen, 0 for none: a page knows no closed ones."""

    scope: str
    key: str
    reason: str
    version: int
    seconds: float | None = None


class SwitchOrder(msgspec.Struct, forbid_unknown_fields=True):
    """Where one switch is to stand; ``version`` is the one that was seen, 0 where there was none."""

    scope: str
    key: str
    state: str
    reason: str
    version: int


def answered(view: View) -> View:
    """Answer what is refused as errors by field."""

    @wraps(view)
    def wrapped(request: HttpRequest, **kwargs: str) -> HttpResponse:
        if not request.user.is_authenticated:
            return _errors("Your session has ended; sign in again.", 401)
        if int(request.META.get("CONTENT_LENGTH") or 0) > MAX_BODY_BYTES:
            return _errors(f"At most {MAX_BODY_BYTES} bytes are taken.", 413)
        try:
            return view(request, **kwargs)
        except msgspec.ValidationError as problem:
            return _errors(f"The request is not understood: {problem}.", 400)
        except msgspec.DecodeError:
            return _errors("The request is not JSON.", 400)
        except PermissionDenied as refusal:
            return _errors(str(refusal) or "You may not do this.", 403)
        except ValidationError as refusal:
            return json_response({"errors": _by_field(refusal)}, status=_status(refusal))

    return wrapped


@never_cache
@require_POST
@answered
def breaker_order(request: HttpRequest, action: str) -> HttpResponse:
    """Trip, reset or extend a breaker, as operators may; answers the breaker as it is now."""
    order = msgspec.json.decode(request.body, type=BreakerOrder)
    actor = request.user
    assert isinstance(actor, User)
    permission_check(actor=actor, permission=OPERATE)
    scope, key = scope_clean(order.scope, order.key)
    if scope in OWNED and not sees_everything(actor) and owner_of(scope, key) != actor.pk:
        raise PermissionDenied("This belongs to another user.")
    row = CircuitBreaker.objects.filter(scope=scope.value, key=key).first()
    seen = {"actor": actor, "reason": order.reason, "seen_version": order.version}
    if action == "trip" and (row is None or not order.version):
        breaker_open(actor=actor, scope=scope.value, key=key, reason=order.reason, seconds=order.seconds)
    elif row is None:
        raise ValidationError("It never tripped.", code="gone")
    elif action == "trip":
        breaker_trip(breaker=row, seconds=order.seconds, **seen)
    elif action == "extend":
        breaker_extend(breaker=row, seconds=order.seconds, **seen)
    else:
        breaker_reset(breaker=row, **seen)
    rows = CircuitBreaker.objects.filter(scope=scope.value, key=key)
    return json_response({"breaker": breaker_items(rows)[0].data})


@never_cache
@require_POST
@answered
def switch_order(request: HttpRequest) -> HttpResponse:
    """Turn a trading switch, as its owner or an operator; answers the switch as it stands now."""
    order = msgspec.json.decode(request.body, type=SwitchOrder)
    actor = request.user
    assert isinstance(actor, User)
    switch = switch_set(
        actor=actor,
        scope=order.scope,
        state=order.state,
        reason=order.reason,
        seen_version=order.version,
        owner_id=_id(order.key) if order.scope == TradingSwitch.Scope.OWNER else None,
        bot_id=_id(order.key) if order.scope == TradingSwitch.Scope.BOT else None,
    )
    rows = TradingSwitch.objects.filter(pk=switch.pk).select_related("owner", "bot")
    return json_response({"switch": switch_items(rows)[0].data})


def _id(key: str) -> int:
    if not (key.isascii() and key.isdecimal() and len(key) <= MAX_ID_DIGITS):
        raise ValidationError({"key": f"Must be an id (given {key[:40]!r})."})
    return int(key)


def _errors(message: str, status: int) -> HttpResponse:
    return json_response({"errors": {NON_FIELD_ERRORS: [message]}}, status=status)


def _by_field(refusal: ValidationError) -> dict[str, list[str]]:
    if hasattr(refusal, "error_dict"):
        return dict(refusal.message_dict)
    return {NON_FIELD_ERRORS: list(refusal.messages)}


def _status(refusal: ValidationError) -> int:
    """Return 409 for what has changed meanwhile or cannot be done now, 400 for what was given wrongly."""
    return 409 if getattr(refusal, "code", None) in CONFLICTS else 400


urlpatterns = [
    path(f"breakers/{action}", breaker_order, {"action": action}, name=f"breaker-{action}")
    for action in ("trip", "reset", "extend")
] + [path("switch", switch_order, name="switch-set")]
