"""Counts and sums over trades."""

from __future__ import annotations

from datetime import datetime
from decimal import Decimal
from typing import NamedTuple

from bots.models import Fill, Order, ProfitTotal, Trade
from bots.selectors.profits import Profits, midnight_utc, profits_ever
from bots.times import unix


class Totals(NamedTuple):
    """What came of everything so far; ``net_profit`` by trade mode and quote asset, after fees."""

    trades: int
    orders: int
    fills: int
    net_profit: Profits
    unresolved_orders: int


def totals(*, owner_id: int | None = None) -> Totals:
    """Return the totals of one owner, or of everybody.

    An order is unresolved while it is not in a terminal state: the exchange may hold it or may yet execute it.
    """
    trades, orders, fills = Trade.objects.all(), Order.objects.all(), Fill.objects.filter(order__isnull=False)
    profits = ProfitTotal.objects.all()
    if owner_id is not None:
        trades, orders = trades.filter(owner_id=owner_id), orders.filter(owner_id=owner_id)
        fills, profits = fills.filter(owner_id=owner_id), profits.filter(owner_id=owner_id)
    return Totals(
        trades=trades.count(),
        orders=orders.count(),
        fills=fills.count(),
        net_profit=profits_ever(profits),
        unresolved_orders=orders.unfinished().count(),
    )


def figures_today(*, owner_id: int, profits: Profits, now: datetime | None = None) -> dict[str, object]:
    """Return what a page cannot sum from its newest trades: since midnight UTC, trades opened and ``profits``."""
    midnight = midnight_utc(now)
    return {
        "since": unix(midnight),
        "trades": Trade.objects.filter(owner_id=owner_id, opened_at__gte=midnight).count(),
        "profit": {mode: _texts(sums) for mode, sums in profits.items()},
    }


def _texts(sums: dict[str, Decimal]) -> dict[str, str]:
    return {quote: f"{total:f}" for quote, total in sums.items()}
