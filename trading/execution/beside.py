"""Protection that leaves beside the entry of a ticket, where the exchange holds it ahead of a position.

What is not filled of the entry is more than it may close. So it goes ahead only where there is nothing else that it
could close meanwhile, and only beside an entry that is over within a round trip. What it comes to is seen once the
entry is over: it stands (:meth:`trading.execution.protection.Protection.recognise`), or it is withdrawn and placed in
the size that filled.
"""

from __future__ import annotations

import asyncio
from collections.abc import Mapping
from decimal import Decimal
from typing import TYPE_CHECKING

from trading.execution.order import Order
from trading.messages import OrderIntent, OrderKind, OrderState
from trading.tasks import end_tasks

if TYPE_CHECKING:
    from trading.execution.ticket import Ticket

TURNS = 3  # of the event loop, in which the entry's bytes leave


class Beside:
    """``is_alone`` says that no other trade had anything in the contract when the ticket began, ``has_left`` that
    something left beside its entry."""

    def __init__(self, ticket: Ticket) -> None:
        self._ticket = ticket
        self._orders: dict[OrderKind, Order] = {}
        self._sending: asyncio.Task[None] | None = None
        self.is_alone = False
        self.has_left = False

    def intents(self, quantity: Decimal) -> dict[OrderKind, OrderIntent]:
        """Return the orders that are to leave beside an entry of ``quantity``, their budget taken; none where they
        have to wait for its fills."""
        ticket = self._ticket
        protection, venue = ticket.protection, ticket.desk.venues[ticket.purse]
        if not protection.levels or "ahead" not in venue.protects or not self._may_go():
            return {}
        intents = protection.intents(quantity)
        if any(venue.reserve_order(intent.client_order_id) > 0 for intent in intents.values()):
            protection.release(intents)
            return {}
        return intents

    def _may_go(self) -> bool:
        ticket, holdings = self._ticket, self._ticket.desk.holdings
        if ticket.asked.is_close_only or ticket.asked.style.kind != "market" or not self.is_alone:
            return False
        if not holdings.told_ns(ticket.purse) or ticket.protection.cannot():
            return False
        if any(one.market == ticket.market.key and one.quantity for one in holdings.positions(ticket.purse)):
            return False
        price = ticket.protection.closing_price()
        return price is not None and ticket.protection.reached_at(price) is None

    def own(self, intents: Mapping[OrderKind, OrderIntent]) -> None:
        """Own what is durable now."""
        self._orders = {kind: self._ticket.adopt(Order(intent, OrderState.SENDING)) for kind, intent in intents.items()}

    def leave(self) -> None:
        """Let it follow the entry that is about to be sent."""
        orders, self._orders = self._orders, {}
        if orders:
            self.has_left = True
            self._sending = asyncio.get_running_loop().create_task(self._send(orders))

    async def _send(self, orders: Mapping[OrderKind, Order]) -> None:
        for _ in range(TURNS):
            await asyncio.sleep(0)
        await self._ticket.send_protection(orders.get(OrderKind.TAKE_PROFIT), orders.get(OrderKind.STOP_LOSS))

    async def answered(self) -> None:
        """Return once it is answered."""
        sending, self._sending = self._sending, None
        if sending is not None:
            await sending

    async def end(self) -> None:
        """Wait for no answer any more."""
        if self._sending is not None:
            await end_tasks((self._sending,))
