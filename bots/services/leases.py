"""The right to send orders for an owner. Each step is one conditional UPDATE on the database's clock."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import UTC, datetime, timedelta
from typing import Any

from django.db import transaction
from django.db.models import DurationField, ExpressionWrapper, F, Q, Value
from django.db.models.functions import Greatest, Now
from django.utils import timezone

from bots.models import OwnerLease

# A killed host's owners wait for this long at most before another host may take them. Half of it would lose leases to a
# machine that is merely busy: see engine_host.leases for the arithmetic.
LEASE_SECONDS = 4.0
# Before any lease: what a row starts with.
_NEVER = datetime(1970, 1, 1, tzinfo=UTC)
# Where tokens begin to count; what is counted in seconds from here fits a client order id for sixty years.
_TOKENS_SINCE = datetime(2025, 1, 1, tzinfo=UTC)


def _from_now(seconds: float) -> ExpressionWrapper[Any]:
    return ExpressionWrapper(
        Now() + Value(timedelta(seconds=seconds), output_field=DurationField()),
        output_field=OwnerLease._meta.get_field("expires_at"),
    )


def lease_take(*, owner_id: int, holder: str, ttl_seconds: float = LEASE_SECONDS) -> int | None:
    """Take the lease if nobody holds it now.

    ``holder`` names one process's life (host, process and a random part), never two. Returns the fencing token,
    greater than every one before it, or None while somebody holds it, be it ``holder`` itself.

    Client order ids are made of tokens, and a database restored from a backup has forgotten the newest of them: so a
    token is at least the seconds that have passed since 2025, which no earlier one can be.
    """
    if not holder or ttl_seconds <= 0:
        raise ValueError(f"a lease needs a holder and a time above zero (given {holder!r}, {ttl_seconds} s)")
    OwnerLease.objects.get_or_create(owner_id=owner_id, defaults={"expires_at": _NEVER})
    seconds = int((timezone.now() - _TOKENS_SINCE).total_seconds())
    with transaction.atomic():
        taken = OwnerLease.objects.filter(owner_id=owner_id, expires_at__lte=Now()).update(
            holder=holder, token=Greatest(F("token") + 1, seconds), expires_at=_from_now(ttl_seconds), taken_at=Now()
        )
        # The row is ours until commit, so this reads the token the UPDATE made.
        return OwnerLease.objects.values_list("token", flat=True).get(owner_id=owner_id) if taken else None


def leases_renew(*, holder: str, tokens: Mapping[int, int], ttl_seconds: float = LEASE_SECONDS) -> set[int]:
    """Prolong leases that are still held, in one statement; ``tokens`` is by owner.

    Returns the owners whose lease is held on; one that has expired or was taken is missing: stop sending at once.
    """
    wanted = Q(pk__in=[])
    for owner_id, token in tokens.items():
        wanted |= Q(owner_id=owner_id, token=token)
    held = OwnerLease.objects.filter(wanted, holder=holder, expires_at__gt=Now())
    if held.update(expires_at=_from_now(ttl_seconds)) == len(tokens):
        return set(tokens)
    return set(held.values_list("owner_id", flat=True))


def lease_release(*, owner_id: int, holder: str, token: int) -> bool:
    """Give the lease back so that another can take it now; False when it was no longer held. The token stays."""
    return bool(
        OwnerLease.objects.filter(owner_id=owner_id, holder=holder, token=token, expires_at__gt=Now()).update(
            expires_at=Now()
        )
    )


def leases_end() -> int:
    """End every lease now; returns how many were held.

    Only for a process that knows it is alone on this database (the embedded platform holds its state directory's
    lock): what a killed predecessor held need not run out first.
    """
    return OwnerLease.objects.filter(expires_at__gt=Now()).update(expires_at=Now())
