"""The orders of one exchange: those that are open, those that closed lately, and the store's for all others.

What queries show lags behind when :class:`exchangesim.core.reads.ReadLag` says so.
"""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Iterator
from typing import Any

from exchangesim.core.accounts import Account
from exchangesim.core.clock import Clock
from exchangesim.core.orders import Fill, Order
from exchangesim.core.reads import ReadLag
from exchangesim.core.state import Store

RECENT_ORDERS = 2000  # closed orders kept in memory; older ones are read from the store


class OrderShelf:
    """Open orders in the order they came, and where to find all others."""

    def __init__(self, name: str, store: Store, clock: Clock, reads: ReadLag) -> None:
        self._name = name
        self._store = store
        self._clock = clock
        self._reads = reads
        self._open: dict[int, Order] = {}
        self._open_client_ids: dict[tuple[str, str], Order] = {}
        self._recent: OrderedDict[int, Order] = OrderedDict()

    def __iter__(self) -> Iterator[Order]:
        """Go through the open orders, everybody's, as they are now."""
        return iter(tuple(self._open.values()))

    def add(self, order: Order) -> None:
        self._open[order.id] = order
        if order.client_id:
            self._open_client_ids[order.api_key, order.client_id] = order

    def close(self, order: Order) -> bool:
        """Move an order from the open ones to the recent ones; return False when it had been."""
        if self._open.pop(order.id, None) is None:
            return False
        self._open_client_ids.pop((order.api_key, order.client_id), None)
        self._recent[order.id] = order
        if len(self._recent) > RECENT_ORDERS:
            self._recent.popitem(last=False)
        return True

    def lose(self, order: Order) -> None:
        """Forget a closed order, here and in the store."""
        self._recent.pop(order.id, None)
        self._store.forget(self._name, order_id=order.id)

    def has_open(self, api_key: str, client_id: str) -> bool:
        return (api_key, client_id) in self._open_client_ids

    def find(
        self,
        account: Account,
        *,
        native: str | None = None,
        order_id: int | None = None,
        client_id: str | None = None,
    ) -> Order | None:
        """Return the account's order by id, or the newest one by client id (an open one first), else None."""
        order: Order | None = None
        if order_id is not None:
            order = self.any(order_id)
        elif client_id:
            order = self._open_client_ids.get((account.api_key, client_id))
            order = order or self._store.order_by_client_id(self._name, account.api_key, client_id)
        if order is not None and self._reads.hides(order.created_ms, self._clock.time_ms()):
            return None
        if order is None or order.api_key != account.api_key or (native is not None and order.native != native):
            return None
        return order

    def any(self, order_id: int) -> Order | None:
        """Return an order by id, whoever's it is."""
        return self._open.get(order_id) or self._recent.get(order_id) or self._store.order(self._name, order_id)

    def open(self, account: Account, native: str | None = None) -> list[Order]:
        """Return the account's open orders, oldest first."""
        now = self._clock.time_ms()
        return [
            order
            for order in self._open.values()
            if order.api_key == account.api_key
            and (native is None or order.native == native)
            and not self._reads.hides(order.created_ms, now)
        ]

    def stored(self, account: Account, **filters: Any) -> list[Order]:
        """Return an account's stored orders as a query shows them; filters are ``Store.orders``'s."""
        now = self._clock.time_ms()
        found = self._store.orders(self._name, api_key=account.api_key, **filters)
        return [order for order in found if not self._reads.hides(order.created_ms, now)]

    def fills(self, account: Account, **filters: Any) -> list[Fill]:
        """Return an account's stored fills as a query shows them; filters are ``Store.fills``'s."""
        now = self._clock.time_ms()
        found = self._store.fills(self._name, api_key=account.api_key, **filters)
        return [fill for fill in found if not self._reads.hides(fill.time_ms, now)]
