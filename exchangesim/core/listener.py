"""What a simulated exchange tells those who listen to it."""

from __future__ import annotations

from decimal import Decimal

from exchangesim.core.accounts import Account
from exchangesim.core.market import SimMarket
from exchangesim.core.order_lists import OrderList
from exchangesim.core.orders import BookChange, Execution, Order, PublicTrade


class ExchangeListener:
    """What a face may hear. Calls are synchronous; objects passed may change after the call returns."""

    def on_book(self, market: SimMarket, change: BookChange) -> None:
        """Levels changed; ``market.update_id`` is ``change.last_id``."""

    def on_top(self, market: SimMarket) -> None:
        """The best bid or ask, or a quantity there, changed: see ``market.top`` (None when a side is empty)."""

    def on_trades(self, market: SimMarket, trades: tuple[PublicTrade, ...]) -> None:
        """One taker's trades, in the order they matched."""

    def on_order(self, account: Account, order: Order, execution: Execution) -> None: ...

    def on_list(self, account: Account, order_list: OrderList) -> None:
        """An order list has begun, its pending legs have been placed, or it is done (``is_open``)."""

    def on_balances(self, account: Account, assets: tuple[str, ...], time_ms: int) -> None:
        """An order changed these balances."""

    def on_transfer(self, account: Account, asset: str, delta: Decimal, time_ms: int) -> None:
        """Funds came in or went out, not by an order."""
