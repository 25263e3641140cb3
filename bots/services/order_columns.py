"""What an intent says of its order's row, whoever writes that."""

from __future__ import annotations

from typing import Any

from bots.times import from_ns
from trading.instruments import money, positive
from trading.messages import OrderIntent


def order_columns(intent: OrderIntent) -> dict[str, Any]:
    """Return the columns an intent fills in its order's row; raises ValueError if an amount is out of range."""
    return {
        "client_order_id": intent.client_order_id,
        "account_id": intent.account_id,
        "leg": intent.leg,
        "attempt": intent.attempt,
        "side": intent.side,
        "kind": intent.kind.value,
        "time_in_force": intent.time_in_force.value,
        "reduce_only": intent.reduce_only,
        "price": positive(intent.price, field="price"),
        "trigger": None if intent.trigger is None else positive(intent.trigger, field="trigger"),
        "linked": intent.linked,
        "quantity": positive(intent.quantity, field="quantity"),
        "deadline": from_ns(intent.deadline_ns),
        "reserve_asset": intent.reserve_asset,
        "reserve_amount": money(intent.reserve_amount, field="reserve_amount"),
        "created_at": from_ns(intent.created_ns),
    }
