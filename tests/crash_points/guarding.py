"""A modelled exchange that holds protective orders, and the venue that sends them.

``pair`` is one native pair: it locks the money once, and the end of one of the two, or its first fill, is the other's
end. ``separate`` are two orders that know nothing of each other and lock nothing. They wait at the exchange for their
price, unseen on the book, and then meet the book as a limit order does.
"""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from decimal import Decimal

from tests.simulation.exchange import OPEN, Exchange, Report, SimOrder, Turn
from tests.simulation.loop import Process
from tests.simulation.venue import Link, SimVenue
from tests.simulation.world import SYMBOL, World
from trading.exchanges.protection import NOTHING
from trading.messages import OrderIntent, OrderKind, PlaceResult

PAIR, SEPARATE, ENGINE = "pair", "separate", "engine"
PROTECTS = {PAIR: frozenset({"oco"}), SEPARATE: frozenset({"stops"}), ENGINE: NOTHING}


class GuardingExchange(Exchange):
    """``guards`` are the intents of protective orders it has taken, by client id."""

    def __init__(self, *args: object, **options: object) -> None:
        super().__init__(*args, **options)  # type: ignore[arg-type]
        self.guards: dict[str, OrderIntent] = {}
        self.paired: dict[str, str] = {}

    def guard(self, intents: Sequence[OrderIntent], *, pair: bool) -> list[Report]:
        """Take protective orders, all of them or none."""
        orders = []
        for number, intent in enumerate(intents):
            order = self._take(intent.client_order_id, SYMBOL, intent.side, intent.price, intent.quantity)
            if number or not pair:
                self._release(order)
            self.guards[order.client_id] = intent
            orders.append(order)
        if pair:
            one, other = (order.client_id for order in orders)
            self.paired.update({one: other, other: one})
        for order in orders:
            self._report(order, ())
        return [self.report(order) for order in orders]

    def guarding(self) -> list[SimOrder]:
        """Return the protective orders that wait."""
        return [order for order in self.open() if order.client_id in self.guards]

    def reach(self, bid: Decimal) -> None:
        """Let those whose level the best bid has reached meet the book. All of them sell."""
        for order in self.guarding():
            intent = self.guards[order.client_id]
            assert intent.trigger is not None
            is_profit = intent.kind is OrderKind.TAKE_PROFIT
            if order.status in OPEN and (bid >= intent.trigger if is_profit else bid <= intent.trigger):
                self._match(order, order.quantity - order.filled, Turn())
                if order.filled:
                    self._end_other(order.client_id)

    def cancel(self, client_id: str) -> None:
        super().cancel(client_id)
        self._end_other(client_id)

    def _end_other(self, client_id: str) -> None:
        other = self.by_client[self.paired[client_id]][-1] if client_id in self.paired else None
        if other is not None and other.status in OPEN:
            self._end(other, "CANCELED")


class GuardedVenue(SimVenue):
    """``guarding`` says what its exchange holds: a pair, separate orders, nothing."""

    def __init__(self, world: World, process: Process, link: Link, account_id: int, market: str) -> None:
        super().__init__(world, process, link, account_id, market)
        self.guarding: str = world.guarding  # type: ignore[attr-defined]
        self.protects = PROTECTS[self.guarding]

    async def protect(self, take_profit: OrderIntent | None, stop_loss: OrderIntent | None) -> tuple[PlaceResult, ...]:
        intents = [intent for intent in (take_profit, stop_loss) if intent is not None]
        if not self.protects:
            return await super().protect(take_profit, stop_loss)
        plan = self.world.plan_protect()  # type: ignore[attr-defined]
        for intent in intents:
            self.world.note_sent(self, intent)
        exchange = self.link.exchange
        assert isinstance(exchange, GuardingExchange)
        if self.guarding == PAIR:
            answer = await self.link.ask(self.process, "place", lambda: exchange.guard(intents, pair=True), plan)
            answers = answer if isinstance(answer, list) else [answer] * len(intents)
        else:
            one_by_one = [
                self.link.ask(
                    self.process, "place", lambda intent=intent: exchange.guard([intent], pair=False)[0], plan
                )
                for intent in intents
            ]
            answers = await asyncio.gather(*one_by_one)
        return tuple(self._result(intent, answer, plan) for intent, answer in zip(intents, answers, strict=True))
