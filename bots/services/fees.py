"""Sums of fees are moved on once a minute, so that a page adds up only the newest."""

from __future__ import annotations

from django.db.models import Max
from django.utils import timezone

from bots.models import FeeCheckpoint, LedgerEntry, LedgerLine
from bots.selectors.fees import fees_added, fees_between, stored_fees
from bots.services.ledger_sums import SETTLED


def fees_roll_up() -> int:
    """Move every owner's sums on to the newest line that is surely committed; returns how many were moved."""
    owners = LedgerEntry.objects.order_by().values_list("owner_id", flat=True).distinct()
    return sum(_move(owner_id) for owner_id in owners)


def _move(owner_id: int) -> bool:
    now = timezone.now()
    newest = LedgerLine.objects.order_by().aggregate(newest=Max("pk"))["newest"] or 0
    mark, is_new = FeeCheckpoint.objects.get_or_create(
        owner_id=owner_id, defaults={"next_line": newest, "next_at": now}
    )
    if is_new or now - mark.next_at < SETTLED:
        return False
    moved = {"line": mark.next_line, "next_line": newest, "next_at": now}
    if mark.next_line > mark.line:
        added = fees_between(owner_id, after=mark.line, up_to=mark.next_line)
        sums = fees_added(stored_fees(mark), added)
        moved["sums"] = {mode: {asset: f"{total:f}" for asset, total in of.items()} for mode, of in sums.items()}
    # Two workers at once: the second finds that the sums have moved.
    return bool(FeeCheckpoint.objects.filter(pk=mark.pk, line=mark.line, next_at=mark.next_at).update(**moved))
