"""Whether an order fits the exchange's grid of prices and quantities, without asking ccxt to write it out each time."""

from __future__ import annotations

from decimal import Decimal
from typing import Any

from ccxt.base.decimal_to_precision import TICK_SIZE

from trading.instruments import Market
from trading.messages import OrderIntent

Grid = tuple[Decimal, Decimal] | None  # steps of price and quantity; None where ccxt counts digits instead


def on_grid(client: Any, known: dict[str, Grid], market: Market, intent: OrderIntent) -> bool:
    """Return whether price and quantity are whole steps as ccxt knows them; False: it isn't known to be so.

    ``known`` keeps the grids, by symbol.
    """
    if market.symbol in known:
        grid = known[market.symbol]
    else:
        grid = known[market.symbol] = _grid(client, market.symbol)
    return grid is not None and intent.price % grid[0] == 0 and intent.quantity % grid[1] == 0


def _grid(client: Any, symbol: str) -> Grid:
    precision = client.market(symbol).get("precision") or {}
    if client.precisionMode != TICK_SIZE or not precision.get("price") or not precision.get("amount"):
        return None
    tick, lot = Decimal(str(precision["price"])), Decimal(str(precision["amount"]))
    return (tick, lot) if tick > 0 and lot > 0 else None
