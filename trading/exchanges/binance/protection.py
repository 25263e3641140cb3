"""Binance's protective orders on spot: an order list of two, or one order alone.

The take-profit is a ``LIMIT_MAKER`` at its level: it stands in the book before the price comes, is never filled at a
worse price, and doesn't count towards the five conditional orders a symbol may have. The stop-loss is a
``STOP_LOSS_LIMIT`` whose limit is the cap: at its trigger it takes everything down to the cap, and what the book does
not hold by then rests at the cap, where it is seen. A ``STOP_LOSS`` would sell at any price.

Sources: binance-spot-api-docs, rest-api.md and web-socket-api.md, order lists; filters.md, MAX_NUM_ALGO_ORDERS.
"""

from __future__ import annotations

from collections.abc import Mapping
from decimal import Decimal
from typing import Any

from trading.exchanges.generic.dialect import Reading, plain
from trading.exchanges.protection import Exits
from trading.messages import OrderIntent, OrderKind

LIST, SINGLE = "orderList.place.oco", "order.place"
# Parameters whose values are the same for all orders of a kind; the others are figures and names.
FIXED = ("Type", "type", "TimeInForce", "timeInForce", "side")


def method_of(exits: Exits) -> str:
    return LIST if exits.is_pair else SINGLE


def parameters(exits: Exits) -> dict[str, str]:
    """Return what says which orders these are, beside the symbol and what every request has."""
    first = exits.intents[0]
    common = {"side": first.side.upper(), "quantity": plain(first.quantity)}
    if not exits.is_pair:
        return common | {_single(name): value for name, value in _leg(first).items()}
    for intent in exits.intents:
        # The profit of a sell lies above its loss, that of a buy below.
        place = "above" if (intent.kind is OrderKind.TAKE_PROFIT) == (intent.side == "sell") else "below"
        common |= {place + name: value for name, value in _leg(intent).items()}
    return common


def is_fixed(name: str) -> bool:
    """Return whether a parameter's value is the same for all orders like this one."""
    return name.endswith(FIXED)


def read_legs(data: Mapping[str, Any], exits: Exits, whole: Reading) -> tuple[Reading, ...]:
    """Return what the answer to an order list says of each of its orders."""
    ids = {str(row.get("clientOrderId") or ""): str(row.get("orderId") or "") for row in data.get("orders") or ()}
    return tuple(
        Reading(whole.code, whole.message, ids.get(intent.client_order_id, ""), intent.client_order_id)
        for intent in exits.intents
    )


def _leg(intent: OrderIntent) -> dict[str, str]:
    trigger = plain(intent.trigger or Decimal(0))
    if intent.kind is OrderKind.TAKE_PROFIT:
        return {"Type": "LIMIT_MAKER", "Price": trigger, "ClientOrderId": intent.client_order_id}
    return {
        "Type": "STOP_LOSS_LIMIT",
        "StopPrice": trigger,
        "Price": plain(intent.price),
        "TimeInForce": "GTC",
        "ClientOrderId": intent.client_order_id,
    }


def _single(name: str) -> str:
    return "newClientOrderId" if name == "ClientOrderId" else name[0].lower() + name[1:]
