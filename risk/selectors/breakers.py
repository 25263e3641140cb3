"""Which breakers are not closed, and by which rules they go."""

from __future__ import annotations

from collections.abc import Collection

from django.db.models import Q

from risk.models import BreakerSettings, CircuitBreaker
from risk.policy.breakers import Breaker, BreakerRules, BreakerState, Scope
from risk.policy.rulebook import DEFAULTS, ScopeRules


def breakers_tripped(*, owner_id: int | None = None) -> list[Breaker]:
    """Return all breakers that are not closed, in one query; with an owner, the shared ones and the owner's own.

    Those whose time is over come as they are stored: :func:`risk.policy.breakers.settled` says what they are now.
    """
    rows = CircuitBreaker.objects.exclude(state=BreakerState.CLOSED.value).order_by("pk")
    if owner_id is not None:
        rows = rows.filter(Q(owner__isnull=True) | Q(owner_id=owner_id))
    return [row.to_policy() for row in rows]


def breakers_over(owner_id: int | None, *, also: Collection[int] = ()) -> list[CircuitBreaker]:
    """Return the rows of breakers that are not closed, and of those in ``also`` (row ids); one query.

    Of exchanges, pairs and everything they are all there; of owners, bots and accounts those of ``owner_id``, for None
    all.
    """
    rows = CircuitBreaker.objects.filter(~Q(state=BreakerState.CLOSED.value) | Q(pk__in=also)).order_by("pk")
    return list(rows if owner_id is None else rows.filter(Q(owner=None) | Q(owner=owner_id)))


def breakers_since(*, owner_id: int) -> dict[tuple[Scope, str], int]:
    """Return when the shared breakers and an owner's own last changed, in nanoseconds since the epoch; one query."""
    rows = CircuitBreaker.objects.filter(Q(owner__isnull=True) | Q(owner_id=owner_id)).order_by()
    return {(Scope(scope), key): at_ns for scope, key, at_ns in rows.values_list("scope", "key", "since_ns")}


def breaker_settings() -> dict[Scope, ScopeRules]:
    """Return the rules of every scope: as operators have set them, else the defaults."""
    stored = {Scope(row.scope): row.to_policy() for row in BreakerSettings.objects.all()}
    return {scope: stored.get(scope, DEFAULTS[scope]) for scope in Scope}


def breaker_rules() -> dict[Scope, BreakerRules]:
    """Return how the breakers of every scope open and come back, as :func:`risk.policy.gate.verdict` takes it."""
    return {scope: rules.breaker for scope, rules in breaker_settings().items()}
