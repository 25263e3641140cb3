"""Trades and orders in the database: the engine's values as columns and rows."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from datetime import datetime
from typing import Any

from bots.models import Market, Order, Trade
from bots.services.basis_rows import basis_update
from bots.services.events import history_add
from bots.services.order_columns import order_columns
from bots.services.ticket_rows import ticket_update
from bots.times import from_ns
from trading.instruments import money, positive
from trading.messages import OrderIntent, OrderState, TradeRecord, TradeState

REASON_LENGTH = 500


def trade_columns(trade: TradeRecord) -> dict[str, Any]:
    """Return the columns of a new trade's row; raises ValueError if an amount is out of range."""
    return {
        "trade_id": trade.trade_id,
        "bot_id": trade.bot_id,
        "route": trade.route,
        "base": trade.base,
        "quote": trade.quote,
        "mode": trade.mode,
        "quantity": positive(trade.quantity, field="quantity"),
        "expected_net_bps": money(trade.expected_net_bps, field="expected_net_bps"),
        "expected_profit": money(trade.expected_profit, field="expected_profit"),
        "opened_at": from_ns(trade.opened_ns),
        **result_columns(trade),
    }


def result_columns(trade: TradeRecord) -> dict[str, Any]:
    """Return the columns that change while a trade goes on; raises ValueError if an amount is out of range."""
    profit = trade.realised_profit
    return {
        "state": trade.state.value,
        "realised_profit": None if profit is None else money(profit, field="realised_profit"),
        "residual_base": money(trade.residual_base, field="residual_base"),
        "fees": {asset: f"{money(fee, field='fees'):f}" for asset, fee in trade.fees.items()},
        "exposure": money(trade.exposure, field="exposure"),
        "repair_ms": trade.repair_ms,
        "reason": trade.reason[:REASON_LENGTH],
        "closed_at": from_ns(trade.closed_ns) if trade.closed_ns else None,
    }


def trade_update(row: Trade, trade: TradeRecord) -> bool:
    """Store a trade's newer state and result; False if nothing of its own row changed.

    A trade that went on never becomes OPEN again.
    """
    if trade.state is TradeState.OPEN and row.state != TradeState.OPEN:
        return False
    changed = []
    for column, value in result_columns(trade).items():
        if getattr(row, column) != value:
            setattr(row, column, value)
            changed.append(column)
    if changed:
        row.save(update_fields=changed)
    ticket_update(trade=row, record=trade)
    basis_update(trade=row, record=trade)
    return bool(changed)


def orders_insert(
    trade: Trade, intents: Sequence[OrderIntent], markets: Mapping[str, Market], *, token: int, at: datetime
) -> None:
    """Write orders SENDING, with both steps that led there: PENDING, and SENDING under the lease's token."""
    orders = [
        Order(
            **order_columns(intent),
            owner_id=trade.owner_id,
            trade=trade,
            market=markets[intent.market],
            state=OrderState.SENDING.value,
            lease_token=token,
            updated_at=at,
        )
        for intent in intents
    ]
    Order.objects.bulk_create(orders)
    steps = (("", OrderState.PENDING), (OrderState.PENDING.value, OrderState.SENDING))
    history_add(
        [(order, before, after) for order in orders for before, after in steps],
        cause=f"intent under lease token {token}",
        at=at,
    )
