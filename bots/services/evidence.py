"""What trades of before tell circuit breakers: an engine that starts goes on where the last one ended."""

from __future__ import annotations

from collections import defaultdict

from bots.models import Order, Trade
from bots.times import to_ns
from risk.policy.breakers import Scope
from risk.policy.gate import Key, Leg, keys_of
from risk.selectors.breakers import breakers_since
from trading.config import PastResult
from trading.messages import TradeMode

NEWEST = 500  # trades; losses in a row and those of a window are counted, not years


def past_results(*, owner_id: int) -> tuple[PastResult, ...]:
    """Return an owner's newest results, oldest first, each with the breakers that have not changed since.

    What came before a breaker's last change has led to it, or was forgiven with it.
    """
    newest = Trade.objects.filter(owner_id=owner_id, realised_profit__isnull=False, closed_at__isnull=False)
    rows = list(newest.order_by("-closed_at", "-id")[:NEWEST])
    legs: defaultdict[int, list[Leg]] = defaultdict(list)
    orders = Order.objects.filter(owner_id=owner_id, trade__in=[row.pk for row in rows]).order_by()
    columns = ("trade_id", "account_id", "market__exchange__code", "market__base_id", "market__quote_id")
    for trade, account, exchange, base, quote in orders.values_list(*columns).distinct():
        legs[trade].append(Leg(account, exchange, f"{base}/{quote}"))
    since = breakers_since(owner_id=owner_id)
    found = []
    for row in reversed(rows):
        assert row.realised_profit is not None
        assert row.closed_at is not None
        at_ns = to_ns(row.closed_at)
        keys: tuple[Key, ...] = keys_of(owner_id=owner_id, bot_id=row.bot_id, legs=legs[row.pk])
        if row.mode == TradeMode.PAPER:  # paper money tells of its bot alone
            keys = ((Scope.BOT, str(row.bot_id)),)
        found.append(
            PastResult(
                trade_id=row.trade_id,
                at_ns=at_ns,
                profit=row.realised_profit,
                keys=tuple(key for key in keys if since.get(key, 0) < at_ns),
            )
        )
    return tuple(found)
