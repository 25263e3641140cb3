"""What there is to do, and whether the books are in order."""

from __future__ import annotations

from django.db.models import Exists, OuterRef, Q, QuerySet
from django.db.models.functions import Now

from bots.fields import MoneySum
from bots.models import UNFINISHED_ORDERS, UNFINISHED_TRADES, Bot, LedgerLine, Order, OwnerLease, Trade


def bots_desired(*, owner_id: int) -> list[Bot]:
    """Return the bots of an owner that should run."""
    return list(Bot.objects.filter(owner_id=owner_id, desired_state=Bot.Desired.RUNNING).order_by("pk"))


def trades_unfinished() -> QuerySet[Trade]:
    """Return the trades an engine has to take up: not at their end, or with an order that is not."""
    unresolved = Order.objects.filter(state__in=UNFINISHED_ORDERS, trade__isnull=False)
    return Trade.objects.filter(Q(state__in=UNFINISHED_TRADES) | Q(pk__in=unresolved.values("trade")))


def engine_owners() -> list[int]:
    """Return the owners that need an engine and have none: a bot should run or a trade or order is unfinished, and
    nobody holds the lease by the database's clock."""
    leased = OwnerLease.objects.filter(owner=OuterRef("owner_id"), expires_at__gt=Now())
    wanting = Bot.objects.filter(desired_state=Bot.Desired.RUNNING, owner__is_active=True)
    unresolved = Order.objects.filter(state__in=UNFINISHED_ORDERS)
    found: set[int] = set()
    for rows in (wanting, unresolved, trades_unfinished()):
        found |= set(rows.filter(~Exists(leased)).order_by().values_list("owner_id", flat=True).distinct())
    return sorted(found)


def ledger_unbalanced(*, limit: int = 100) -> list[tuple[int, str]]:
    """Return ledger entries, by id and asset, whose lines do not sum to zero: empty unless something is broken."""
    sums = LedgerLine.objects.order_by().values_list("entry_id", "asset").annotate(total=MoneySum("amount"))
    return [(entry, asset) for entry, asset, total in sums if total][:limit]
