"""Requests to rebalance: proposed, decided on by a second person, ended. Each step under the row's lock, kept, audited.

What is asked of an engine, and what an exchange shows of it, is not this app's: :mod:`bots.services.rebalancing`.
"""

from __future__ import annotations

from collections.abc import Mapping
from datetime import datetime
from typing import Any

from django.contrib.auth.models import User
from django.core.exceptions import PermissionDenied, ValidationError
from django.db import IntegrityError, transaction
from django.utils import timezone

from risk.models import Approval, RebalanceEvent, RebalanceRequest
from risk.models.rebalancing import REASON_LENGTH
from risk.policy.rebalance_states import OPEN, RebalanceState, may_become
from risk.services.audit import ADDITION, audit_record, permission_check
from risk.services.reasons import reason_clean

OPERATE_ALL = "bots.operate_all"
PROPOSE = "risk.add_rebalancerequest"
DECIDE = "risk.decide_rebalancerequest"
State = RebalanceState


def subject_of(*, kind: str, account_id: int, to_account_id: int | None, asset: str, market_id: int | None) -> str:
    """Return what two open requests of an owner may not share: one market of an account, one asset on one way."""
    if kind == RebalanceRequest.Kind.CONVERT:
        return f"convert:{account_id}:{market_id}"
    return f"move:{account_id}:{to_account_id}:{asset}"


def request_propose(*, actor: User | None, values: Mapping[str, Any], expires_at: datetime) -> RebalanceRequest:
    """Propose something; ``values`` are the columns that say what, ``actor`` None is the platform.

    Raises
    ------
    PermissionDenied
        If it is another user's.
    ValidationError
        If the same is open already, or a column is wrong.
    """
    permission_check(actor=actor, permission=PROPOSE)
    row = RebalanceRequest(proposed_by=actor, expires_at=expires_at, **values)
    owner_check(actor, row)
    row.subject = subject_of(
        kind=row.kind, account_id=row.account_id, to_account_id=row.to_account_id, asset=row.asset,
        market_id=row.market_id,
    )  # fmt: skip
    try:
        with transaction.atomic():
            row.full_clean()
            row.save(force_insert=True)
            _note(row, "", actor, row.reason)
    except IntegrityError:  # the same was proposed a moment ago
        row.full_clean()
        raise
    audit_record(actor=actor, subject=row, flag=ADDITION, message=f"Proposed {row}: {row.reason}")
    return row


def request_approve(*, request_id: int, actor: User, note: str = "") -> RebalanceRequest:
    """Approve a request within the caller's transaction, which goes on to carry it out, and return it locked.

    Raises
    ------
    PermissionDenied
        If it is another user's.
    ValidationError
        If it is the actor's own proposal, has expired, or was decided on before: then it says by whom.
    """
    row = _decided(request_id, actor, State.APPROVED)
    if row.proposed_by_id == actor.pk:
        raise ValidationError("You have proposed it: another person has to approve it.", code="own")
    if row.expires_at <= timezone.now():
        raise ValidationError(f"It expired at {_moment(row.expires_at)}: propose it anew.", code="expired")
    text = reason_clean(note, most=REASON_LENGTH, required=False)
    Approval.objects.create(request=row, by=actor, decision=Approval.Decision.APPROVED, note=text)
    row.approved_at = timezone.now()
    request_step(row, State.APPROVED, actor=actor, text=text)
    return row


def request_reject(*, request_id: int, actor: User, reason: str) -> RebalanceRequest:
    """Reject a request; raises as :func:`request_approve`, and ValidationError without a reason."""
    text = reason_clean(reason, most=REASON_LENGTH)
    with transaction.atomic():
        row = _decided(request_id, actor, State.REJECTED)
        if row.proposed_by_id == actor.pk:
            raise ValidationError("You have proposed it: cancel it instead.", code="own")
        Approval.objects.create(request=row, by=actor, decision=Approval.Decision.REJECTED, note=text)
        request_step(row, State.REJECTED, actor=actor, text=text)
    return row


def request_cancel(*, request_id: int, actor: User, reason: str) -> RebalanceRequest:
    """Take a request back that nothing has come of yet; raises as :func:`request_reject`."""
    text = reason_clean(reason, most=REASON_LENGTH)
    with transaction.atomic():
        row = _decided(request_id, actor, State.CANCELLED)
        if row.sent_id is not None:
            raise ValidationError("It has left already: say that it was moved once it has arrived.", code="stale")
        request_step(row, State.CANCELLED, actor=actor, text=text)
    return row


def request_lock(request_id: int) -> RebalanceRequest:
    """Lock a request until the end of the transaction; raises RebalanceRequest.DoesNotExist."""
    return RebalanceRequest.objects.select_for_update(of=("self",)).get(pk=request_id)


def request_step(row: RebalanceRequest, state: RebalanceState, *, actor: User | None, text: str = "") -> None:
    """Bring a locked request to its next state, with whatever else was set on it.

    Raises
    ------
    ValidationError
        If that state can't follow: somebody was there before.
    """
    before = RebalanceState(row.state)
    if not may_become(before, state):
        raise ValidationError(_stands(row), code="stale")
    row.state = state.value
    row.outcome = text[:REASON_LENGTH] if state not in {State.APPROVED, State.RUNNING} else row.outcome
    if state not in OPEN:
        row.ended_at = timezone.now()
    row.save()
    _note(row, before.value, actor, text)
    audit_record(actor=actor, subject=row, message=f"{row.get_state_display()}.{f' {text}' if text else ''}")


def requests_expire() -> int:
    """End proposals nobody has decided on in their time; returns how many."""
    due = RebalanceRequest.objects.filter(state=State.PROPOSED.value, expires_at__lte=timezone.now())
    expired = 0
    for request_id in list(due.values_list("pk", flat=True)[:500]):
        with transaction.atomic():
            row = request_lock(request_id)
            if row.state == State.PROPOSED.value:  # not decided on meanwhile
                request_step(row, State.EXPIRED, actor=None, text="Nobody decided on it in its time.")
                expired += 1
    return expired


def owner_check(actor: User | None, row: RebalanceRequest) -> None:
    """Refuse an actor who is neither the owner nor an operator; raises PermissionDenied."""
    if actor is not None and actor.pk != row.owner_id and not actor.has_perm(OPERATE_ALL):
        raise PermissionDenied("This belongs to another user.")


def _decided(request_id: int, actor: User, state: RebalanceState) -> RebalanceRequest:
    """Lock a request that an actor may bring to a state; two of them at once: the second sees what the first did."""
    permission_check(actor=actor, permission=DECIDE)
    row = request_lock(request_id)
    owner_check(actor, row)
    if not may_become(RebalanceState(row.state), state):
        raise ValidationError(_stands(row), code="stale")
    return row


def _stands(row: RebalanceRequest) -> str:
    last = row.events.select_related("by").order_by("-pk").first()
    who = f" by {last.by}" if last is not None and last.by is not None else ""
    text = f" ({last.text.rstrip('.')})" if last is not None and last.text else ""
    return f"It is {row.get_state_display().lower()} already{who}{text}: nothing was changed."


def _note(row: RebalanceRequest, before: str, actor: User | None, text: str) -> None:
    RebalanceEvent.objects.create(
        request=row, from_state=before, to_state=row.state, by=actor, text=text[:REASON_LENGTH]
    )


def _moment(at: datetime) -> str:
    return f"{at:%Y-%m-%d %H:%M} UTC"
