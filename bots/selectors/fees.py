"""What an owner's fills paid in fees, by whose money and asset, without adding up all of them each time."""

from __future__ import annotations

from collections import defaultdict
from decimal import Decimal

from bots.fields import MoneySum, exact_sum, plain
from bots.models import FeeCheckpoint, LedgerLine
from trading.instruments import money

# By trade mode, then by asset.
Fees = dict[str, dict[str, Decimal]]


def fee_totals(*, owner_id: int) -> Fees:
    """Return the fees of all fills of our orders; rebates count negative."""
    mark = FeeCheckpoint.objects.filter(owner=owner_id).first()
    if mark is None:
        return fees_between(owner_id, after=0)
    return fees_added(stored_fees(mark), fees_between(owner_id, after=mark.line))


def fees_between(owner_id: int, *, after: int, up_to: int | None = None) -> Fees:
    """Return the fees of ledger lines after one line, up to another."""
    lines = LedgerLine.objects.filter(
        pk__gt=after, book=LedgerLine.Book.FEES, entry__owner=owner_id, entry__fill__order__trade__isnull=False
    )
    if up_to is not None:
        lines = lines.filter(pk__lte=up_to)
    rows = lines.order_by().values_list("entry__fill__order__trade__mode", "asset").annotate(total=MoneySum("amount"))
    found: defaultdict[str, dict[str, Decimal]] = defaultdict(dict)
    for mode, asset, total in rows:
        found[mode][asset] = plain(total)
    return dict(found)


def stored_fees(mark: FeeCheckpoint) -> Fees:
    """Return the sums of a checkpoint."""
    return {
        mode: {asset: money(total, field=asset) for asset, total in sums.items()} for mode, sums in mark.sums.items()
    }


def fees_added(some: Fees, others: Fees) -> Fees:
    """Return both together."""
    zero = Decimal(0)
    return {
        mode: {
            asset: plain(exact_sum([some.get(mode, {}).get(asset, zero), others.get(mode, {}).get(asset, zero)]))
            for asset in {*some.get(mode, {}), *others.get(mode, {})}
        }
        for mode in {*some, *others}
    }
