"""Which orders at the exchange are ours, and in which markets they were."""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Mapping, Sequence

import msgspec

from trading.exchanges.generic.dialect import Names
from trading.instruments import Market
from trading.messages import KnownOrder, OrderEvent

ORDERS_KEPT = 10_000


class OwnOrders:
    """One account's, since the start or as recalled."""

    def __init__(self, names: Names) -> None:
        self._names = names
        self._ids: OrderedDict[str, str] = OrderedDict()  # exchange order id to our client id, newest last
        self._markets: dict[str, Market] = {}

    @property
    def ids(self) -> Mapping[str, str]:
        """Our client order ids by the exchange's."""
        return self._ids

    @property
    def markets(self) -> list[Market]:
        """The markets with orders of ours."""
        return list(self._markets.values())

    def recall(self, orders: Sequence[KnownOrder]) -> None:
        """Take over orders of an earlier process."""
        for order in orders:
            market = self._names.market(order.market)
            if market is not None:
                self.touch(market)
            if order.exchange_order_id:
                self.add(order.exchange_order_id, order.client_order_id)

    def touch(self, market: Market) -> None:
        """Note that an order of ours leaves for a market."""
        self._markets[market.key] = market

    def add(self, exchange_order_id: str, client_order_id: str) -> None:
        self._ids[exchange_order_id] = client_order_id
        self._ids.move_to_end(exchange_order_id)
        while len(self._ids) > ORDERS_KEPT:
            self._ids.popitem(last=False)

    def remember(self, event: OrderEvent) -> None:
        """Learn both ids from an event that has both."""
        if event.exchange_order_id and event.client_order_id:
            self.add(event.exchange_order_id, event.client_order_id)

    def named(self, event: OrderEvent) -> OrderEvent:
        """Put our client order id to an event that only has the exchange's."""
        ours = self._ids.get(event.exchange_order_id, "")
        if event.client_order_id or not ours:
            return event
        fills = tuple(msgspec.structs.replace(fill, client_order_id=ours) for fill in event.fills)
        return msgspec.structs.replace(event, client_order_id=ours, fills=fills)
