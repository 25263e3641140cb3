"""The number engines look at to know whether limits, allowed pairs or switches have changed."""

from __future__ import annotations

from django.db.models import F

from risk.models import RiskRevision
from risk.services.hints import risk_hint

ROW = 1


def revision_bump() -> None:
    """Count a change, in its transaction and before anything else in it.

    The update holds the row until the commit: of two changes at once the second waits here and then judges what the
    first has left. Changes are an operator's doing and rare, so that nobody waits for long.
    """
    if not _count():
        _begin()
        _count()
    risk_hint()


def revision_hold() -> None:
    """Make other changes wait until the end of the transaction: for a form that tries a change before it makes it."""
    if not list(RiskRevision.objects.select_for_update().filter(pk=ROW)):
        _begin()


def _count() -> int:
    return RiskRevision.objects.filter(pk=ROW).update(number=F("number") + 1)


def _begin() -> None:
    """Insert the row; of two at once the second waits for the first, then finds it there."""
    RiskRevision.objects.bulk_create([RiskRevision(pk=ROW)], ignore_conflicts=True)
