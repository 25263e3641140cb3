"""What there is to do, and whether the books are in order."""

from __future__ import annotations

from datetime import timedelta

from django.db.models import Exists, F, OuterRef, Q, QuerySet
from django.db.models.functions import Now
from django.utils import timezone

from bots.fields import MoneySum
from bots.models import (
    UNFINISHED_ORDERS,
    UNFINISHED_TRADES,
    Bot,
    Command,
    JournaledIntent,
    LedgerLine,
    Order,
    OwnerLease,
    Trade,
)
from trading.messages import TradeState

INTENT_STAYS = timedelta(minutes=1)


def bots_desired(*, owner_id: int) -> list[Bot]:
    """Return the bots of an owner that should run."""
    return list(Bot.objects.filter(owner_id=owner_id, desired_state=Bot.Desired.RUNNING).order_by("pk"))


def trades_unfinished() -> QuerySet[Trade]:
    """Return the trades an engine has to take up: not at their end, or with an order that is not."""
    unresolved = Order.objects.filter(state__in=UNFINISHED_ORDERS, trade__isnull=False)
    return Trade.objects.filter(Q(state__in=UNFINISHED_TRADES) | Q(pk__in=unresolved.values("trade")))


def trades_left_exposed(*, owner_id: int) -> list[Trade]:
    """Return an owner's exposed trades whose bots nobody has started again since, oldest first, with their orders.

    Of a bot that is stopped its last start counts: who stops it has not hedged anything yet.
    """
    rows = Trade.objects.filter(owner_id=owner_id, state=TradeState.EXPOSED).exclude(
        bot__desired_state=Bot.Desired.RUNNING, closed_at__lt=F("bot__desired_at")
    )
    found = list(rows.select_related("bot").prefetch_related("orders__market__exchange").order_by("pk"))
    stopped = {trade.bot_id for trade in found if trade.bot.desired_state != Bot.Desired.RUNNING}
    if not stopped:
        return found
    starts = Command.objects.filter(owner_id=owner_id, kind=Command.Kind.BOT_START, payload__bot_id__in=list(stopped))
    started = dict(starts.order_by("id").values_list("payload__bot_id", "created_at"))
    return [
        trade
        for trade in found
        if trade.bot_id not in stopped or trade.bot_id not in started or trade.closed_at is None
        or trade.closed_at >= started[trade.bot_id]
    ]  # fmt: skip


def engine_owners() -> list[int]:
    """Return the owners that need an engine and have none: a bot should run or a trade or order is unfinished, be it
    only journaled, and nobody holds the lease by the database's clock."""
    leased = OwnerLease.objects.filter(owner=OuterRef("owner_id"), expires_at__gt=Now())
    wanting = Bot.objects.filter(desired_state=Bot.Desired.RUNNING, owner__is_active=True)
    unresolved = Order.objects.filter(state__in=UNFINISHED_ORDERS)
    found: set[int] = set()
    for rows in (wanting, unresolved, trades_unfinished(), JournaledIntent.objects.all()):
        found |= set(rows.filter(~Exists(leased)).order_by().values_list("owner_id", flat=True).distinct())
    return sorted(found)


def intents_left() -> list[tuple[int, str]]:
    """Return what has stayed in the journal for longer than INTENT_STAYS, by owner and trade: an engine that runs, or
    begins, unfolds it at once, unless something is broken."""
    left = JournaledIntent.objects.filter(created_at__lt=timezone.now() - INTENT_STAYS)
    return list(left.order_by("pk").values_list("owner_id", "trade_id"))


def ledger_unbalanced(*, limit: int = 100) -> list[tuple[int, str]]:
    """Return ledger entries, by id and asset, whose lines do not sum to zero: empty unless something is broken."""
    sums = LedgerLine.objects.order_by().values_list("entry_id", "asset").annotate(total=MoneySum("amount"))
    return [(entry, asset) for entry, asset, total in sums if total][:limit]
