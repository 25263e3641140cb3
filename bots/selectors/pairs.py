"""How spot-against-perpetual trades stand, as docs/live-messages.md describes it."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from bots.models import BasisPosition, Order, Position, Trade
from bots.services.basis_rows import standing_of_basis
from trading.arbitrage.basis import liquidation_distance
from trading.execution.pair_view import pair_view
from trading.messages import FINISHED_TRADES, TradeMode


def pairs_data(trades: Sequence[Trade], orders: Mapping[int | None, Sequence[Order]]) -> dict[int, dict[str, Any]]:
    """Return how the pairs among trades stand, by the trade's primary key; one query if real money holds one.

    Needs ``basis`` with its markets and their exchanges loaded. ``orders`` are by trade.
    """
    pairs: dict[int, BasisPosition] = {trade.pk: trade.basis for trade in trades if hasattr(trade, "basis")}
    # Paper money's position is not what an exchange tells of the account.
    open_ = [one for one in trades if one.state not in FINISHED_TRADES and one.mode != TradeMode.PAPER]
    accounts = {
        order.trade_id: order.account_id
        for trade in open_
        for order in orders.get(trade.pk, ())
        if trade.pk in pairs and order.market_id == pairs[trade.pk].perp_id
    }
    shorts = Position.objects.filter(account__in=accounts.values(), quantity__lt=0) if accounts else ()
    told = {(row.account_id, row.market_id): row for row in shorts}
    found = {}
    for trade_id, row in pairs.items():
        short = told.get((accounts.get(trade_id, 0), row.perp_id))
        distance = None
        if short is not None and short.mark_price and short.liquidation_price:
            distance = liquidation_distance(float(short.mark_price), float(short.liquidation_price))
        spot, perp = (f"{market.exchange.code}:{market.symbol}" for market in (row.spot, row.perp))
        found[trade_id] = dict(pair_view(spot, perp, standing_of_basis(row), liquidation_bps=distance))
    return found
