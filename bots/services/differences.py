"""What people decide about differences between our books and an exchange."""

from __future__ import annotations

from django.contrib.auth.models import User
from django.db import transaction
from django.db.models.functions import Now
from django.utils import timezone

from bots.models import Command, Difference, LedgerEntry, OwnerLease
from bots.services import locks
from bots.services.audit import audit_record, owner_check, permission_check
from bots.services.commands import command_create
from bots.services.ledger import equity_book
from bots.services.ledger_sums import ledger_balances
from bots.services.validation import refuse
from trading.execution.reconciliation import OF_LEDGER

SETTLE = "bots.settle_difference"
REASON_LENGTH = 500
_CAUSES = {
    Difference.Cause.DEPOSIT.value: LedgerEntry.Cause.DEPOSIT,
    Difference.Cause.WITHDRAWAL.value: LedgerEntry.Cause.WITHDRAWAL,
    Difference.Cause.MANUAL_TRADE.value: LedgerEntry.Cause.MANUAL_TRADE,
    Difference.Cause.LIQUIDATION.value: LedgerEntry.Cause.FORCED,
    Difference.Cause.DELEVERAGING.value: LedgerEntry.Cause.FORCED,
    Difference.Cause.SETTLEMENT.value: LedgerEntry.Cause.FORCED,
}


def reason_clean(reason: str, *, required: bool = True) -> str:
    """Return a reason without surrounding space; raises ValidationError on the field ``reason``."""
    clean = " ".join(reason.split())
    if required and not clean:
        raise refuse("Say why in a few words: it is kept with your name.", field="reason")
    if len(clean) > REASON_LENGTH:
        raise refuse(f"At most {REASON_LENGTH} characters (given {len(clean)}).", field="reason")
    if not clean.isprintable():
        raise refuse("May not contain unprintable characters.", field="reason")
    return clean


def difference_adopt(*, difference: Difference, actor: User, reason: str = "") -> bool:
    """Bring the ledger to the exchange's figure; False when that was done already.

    Raises
    ------
    ValidationError
        If it is not a difference of balances or positions, or was closed otherwise.
    """
    _may(difference, actor)
    why = reason_clean(reason, required=False)
    with transaction.atomic():
        row = locks.difference_lock(difference_id=difference.pk)
        if row.state == Difference.State.ADOPTED:
            return False
        _open_check(row)
        if row.kind not in OF_LEDGER or not row.amount:
            raise refuse(
                "Only a difference of balances or positions can be adopted: dismiss this one after a look at it."
            )
        before = ledger_balances(account_id=row.account_id).get(row.asset, 0)
        equity_book(
            account=row.account,
            cause=_CAUSES.get(row.cause, LedgerEntry.Cause.CORRECTION),
            amounts={row.asset: row.amount},
            at=timezone.now(),
            difference=row,
        )
        _decide(row, Difference.State.ADOPTED, actor, why)
        after = ledger_balances(account_id=row.account_id).get(row.asset, 0)
        audit_record(
            actor=actor,
            subject=row,
            message=f"Adopted as {row.get_cause_display().lower()}: the ledger of account {row.account_id} goes from "
            f"{before:f} to {after:f} {row.asset}.{f' Reason: {why}' if why else ''}",
        )
    return True


def difference_dismiss(*, difference: Difference, actor: User, reason: str) -> bool:
    """Say that a difference is none: it is shown as open no more while it stays as it is. False when that was done.

    Raises ValidationError without a reason, or if it was closed otherwise.
    """
    _may(difference, actor)
    why = reason_clean(reason)
    with transaction.atomic():
        row = locks.difference_lock(difference_id=difference.pk)
        if row.state == Difference.State.DISMISSED:
            return False
        _open_check(row)
        _decide(row, Difference.State.DISMISSED, actor, why)
        audit_record(actor=actor, subject=row, message=f"Dismissed. Reason: {why}")
        if _is_hosted(row.owner_id):  # an account that it blocks is freed by the next comparison
            command_create(owner_id=row.owner_id, actor=actor, kind=Command.Kind.RECONCILE, payload={})
    return True


def reconcile_request(*, owner_id: int, actor: User) -> Command:
    """Ask the owner's engine to compare its accounts with their exchanges now.

    Raises ValidationError when no engine runs for the owner.
    """
    owner_check(actor=actor, owner_id=owner_id)
    permission_check(actor=actor, permission=SETTLE)
    if not _is_hosted(owner_id):
        raise refuse("No engine runs for this owner now: start a bot on the account first.")
    with transaction.atomic():
        return command_create(owner_id=owner_id, actor=actor, kind=Command.Kind.RECONCILE, payload={})


def _may(difference: Difference, actor: User) -> None:
    owner_check(actor=actor, owner_id=difference.owner_id)
    permission_check(actor=actor, permission=SETTLE)


def _open_check(row: Difference) -> None:
    if row.state == Difference.State.OPEN:
        return
    who = f" by {row.decided_by}" if row.decided_by else ""
    raise refuse(f"This difference is {row.get_state_display().lower()} already{who}.")


def _decide(row: Difference, state: str, actor: User, reason: str) -> None:
    row.state, row.decided_by, row.decided_at, row.reason = state, actor, timezone.now(), reason
    row.save(update_fields=["state", "decided_by", "decided_at", "reason"])


def _is_hosted(owner_id: int) -> bool:
    return OwnerLease.objects.filter(owner_id=owner_id, expires_at__gt=Now()).exists()
