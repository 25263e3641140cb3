"""What the ledger says an account holds, without adding up all of it each time."""

from __future__ import annotations

from datetime import timedelta
from decimal import Decimal

from django.db.models import Max
from django.utils import timezone

from bots.fields import MoneySum, exact_sum
from bots.models import LedgerCheckpoint, LedgerLine
from trading.instruments import money
from trading.messages import TradeMode

# Lines get their number before they are committed: no transaction of ours is open for so long.
SETTLED = timedelta(minutes=5)


def ledger_balances(*, account_id: int) -> dict[str, Decimal]:
    """Return what the ledger says of an account's real money, by asset, and of contracts by symbol; no paper."""
    mark = LedgerCheckpoint.objects.filter(account=account_id).first()
    if mark is None:
        return _sums(account_id, after=0)
    return _added(mark, _sums(account_id, after=mark.line))


def checkpoint_move(*, account_id: int) -> None:
    """Move an account's sums on. Runs in a transaction that holds the account's lock."""
    now = timezone.now()
    mark = LedgerCheckpoint.objects.filter(account=account_id).first()
    if mark is None:
        mark = LedgerCheckpoint(account_id=account_id)
    elif now - mark.next_at < SETTLED:
        return
    elif mark.next_line > mark.line:
        sums = _added(mark, _sums(account_id, after=mark.line, up_to=mark.next_line))
        mark.line, mark.sums = mark.next_line, {asset: f"{total:f}" for asset, total in sums.items()}
    mark.next_line = LedgerLine.objects.order_by().aggregate(newest=Max("pk"))["newest"] or 0
    mark.next_at = now
    mark.save()


def _added(mark: LedgerCheckpoint, sums: dict[str, Decimal]) -> dict[str, Decimal]:
    known = {asset: money(total, field=asset) for asset, total in mark.sums.items()}
    totals = {
        asset: exact_sum([known.get(asset, Decimal(0)), sums.get(asset, Decimal(0))]) for asset in {*known, *sums}
    }
    return {asset: total for asset, total in totals.items() if total}


def _sums(account_id: int, *, after: int, up_to: int | None = None) -> dict[str, Decimal]:
    lines = LedgerLine.objects.filter(pk__gt=after, entry__account=account_id, book=LedgerLine.Book.ACCOUNT)
    if up_to is not None:
        lines = lines.filter(pk__lte=up_to)
    lines = lines.exclude(entry__fill__order__trade__mode=TradeMode.PAPER.value)
    sums = lines.order_by().values_list("asset").annotate(total=MoneySum("amount"))
    return {asset: total for asset, total in sums if total}
