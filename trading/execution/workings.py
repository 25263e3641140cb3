"""Quantities that a trade works into a market: each worked order is durable, attended to, and ends with its work."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from decimal import Decimal
from typing import TYPE_CHECKING

from trading.execution.order import Order
from trading.execution.placing import Placement
from trading.execution.pricing import WorkingStyle
from trading.execution.states import MAY_REST
from trading.execution.waiting import Signal
from trading.execution.working import Step, Worked, Working
from trading.instruments import Market, Side
from trading.messages import TimeInForce
from trading.portfolio import Purse
from trading.ports import StoreUnavailable
from trading.tasks import end_tasks

if TYPE_CHECKING:
    from trading.execution.trade import Trade

LEEWAY_SECONDS = 2.0  # an order outlives its work by so much at the most: then it is cancelled whoever sees to it


class Workings:
    """What one trade has at work."""

    def __init__(self, trade: Trade) -> None:
        self._trade = trade
        self._running: dict[Working, Signal] = {}

    async def work(
        self,
        market: Market,
        purse: Purse,
        side: Side,
        quantity: Decimal,
        style: WorkingStyle,
        *,
        leg: int,
        reduce_only: bool = False,
        note: str = "",
        cap: Decimal | Callable[[], Decimal],
        why_stop: Callable[[], str] = lambda: "",
        on_step: Callable[[Step, Order], None] = lambda step, order: None,
    ) -> Worked:
        """Work a quantity (the market's own unit) as orders of a leg; return once nothing of it rests.

        ``note`` says how, for the orders' history.

        Raises LeaseLost. A task that is cancelled leaves its order to whoever takes the trade up.
        """
        trade = self._trade
        changed = Signal()
        attending: list[asyncio.Task[None]] = []

        async def send(price: Decimal, quantity: Decimal, time_in_force: TimeInForce) -> Order | None:
            seconds = style.seconds(side) + LEEWAY_SECONDS if time_in_force in MAY_REST else None
            wanted = Placement(
                leg=leg,
                market=market,
                purse=purse,
                side=side,
                price=price,
                quantity=quantity,
                time_in_force=time_in_force,
                seconds=seconds,
                note=note,
                reduce_only=reduce_only,
            )
            try:
                order = await trade.placing.place(wanted)
            except StoreUnavailable:
                trade.placing.note("the store could not take the order")
                return None
            if order is not None:
                attending.append(asyncio.get_running_loop().create_task(attend(order)))
            return order

        async def attend(order: Order) -> None:
            await trade.resolve(order)
            changed.notify()

        working = Working(
            trade.desk,
            market,
            purse,
            side,
            quantity,
            style,
            cap=cap,
            send=send,
            cancel=trade.cancel_order,
            changed=changed,
            is_over=trade.is_over,
            why_stop=why_stop,
            cause_of=lambda order: trade.cause_of(order.intent.client_order_id),
            max_book_age_ms=trade.terms.max_book_age_ms,
            on_step=on_step,
        )
        self._running[working] = changed
        try:
            return await working.run()
        finally:
            del self._running[working]
            await end_tasks(attending)

    def notify(self) -> None:
        """Tell everything at work that an order of the trade has changed."""
        for changed in self._running.values():
            changed.notify()

    def stop(self, why: str) -> None:
        """End everything at work early: what rests is cancelled and confirmed."""
        for working in self._running:
            working.stop(why)
