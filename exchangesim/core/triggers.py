"""Conditional orders: which of them the watched prices have reached.

Knows nothing of accounts or books: whoever owns the orders says what it is to do with one whose time has come.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterable
from decimal import Decimal
from typing import Generic, Protocol, TypeVar

from exchangesim.core.orders import PublicTrade, Trigger

LAST = "last"


class Waiting(Protocol):
    """A conditional order, as far as this file goes."""

    @property
    def id(self) -> int: ...

    @property
    def native(self) -> str: ...

    @property
    def trigger(self) -> Trigger | None: ...


AnyOrder = TypeVar("AnyOrder", bound=Waiting)


class Triggers(Generic[AnyOrder]):
    """Orders that wait, by market; calls ``fire`` for each that is reached, one after the other.

    Prices come from ``on_trades`` (source ``last``) and ``observe`` (any source: a mark price, an index). What ``fire``
    brings about (trades, and so further orders that are reached) is looked at after it has returned, never inside it.
    """

    def __init__(self, fire: Callable[[AnyOrder], None]) -> None:
        self._fire = fire
        self._waiting: dict[str, dict[int, AnyOrder]] = {}
        self._armed: dict[int, int] = {}
        """By order id: the newest trade when it began to wait. Earlier trades do not reach it."""
        self._seen: deque[tuple[str, Callable[[AnyOrder, Trigger], bool]]] = deque()
        self._firing = False

    def arm(self, order: AnyOrder, last_trade_id: int) -> None:
        self._waiting.setdefault(order.native, {})[order.id] = order
        self._armed[order.id] = last_trade_id

    def disarm(self, order: AnyOrder) -> None:
        """Let an order wait no more; nothing happens when it does not."""
        self._waiting.get(order.native, {}).pop(order.id, None)
        self._armed.pop(order.id, None)

    def on_trades(self, native: str, trades: Iterable[PublicTrade]) -> None:
        """Fire what these trades of one market have reached, oldest order first."""
        seen = [(trade.id, trade.price) for trade in trades]
        self._look(
            native,
            lambda order, trigger: (
                trigger.source == LAST
                and any(id_ > self._armed[order.id] and trigger.reached(price) for id_, price in seen)
            ),
        )

    def observe(self, native: str, price: Decimal, source: str) -> None:
        """Fire what a price that is not the last trade's has reached."""
        self._look(native, lambda _, trigger: trigger.source == source and trigger.reached(price))

    def _look(self, native: str, reached: Callable[[AnyOrder, Trigger], bool]) -> None:
        if not self._waiting.get(native):
            return
        self._seen.append((native, reached))
        if self._firing:
            return
        self._firing = True
        try:
            while self._seen:
                native, reached = self._seen.popleft()
                while (order := self._first(native, reached)) is not None:
                    self.disarm(order)
                    self._fire(order)
        finally:
            self._firing = False

    def _first(self, native: str, reached: Callable[[AnyOrder, Trigger], bool]) -> AnyOrder | None:
        due = [
            order
            for order in self._waiting.get(native, {}).values()
            if order.trigger is not None and reached(order, order.trigger)
        ]
        return min(due, key=lambda order: order.id, default=None)
