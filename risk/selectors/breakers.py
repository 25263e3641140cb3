"""Which breakers are not closed, and by which rules they go."""

from __future__ import annotations

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


def breaker_settings() -> dict[Scope, ScopeRules]:
    """Return the rules of every scope: as operators have set them, else the defaults."""
    stored = {Scope(row.scope): row.to_policy() for row in BreakerSettings.objects.all()}
    return {scope: stored.get(scope, DEFAULTS[scope]) for scope in Scope}


def breaker_rules() -> dict[Scope, BreakerRules]:
    """Return how the breakers of every scope open and come back, as :func:`risk.policy.gate.verdict` takes it."""
    return {scope: rules.breaker for scope, rules in breaker_settings().items()}
