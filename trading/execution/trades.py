"""An engine's trades: every saga under way or lately finished, found by order and by trade."""

from __future__ import annotations

import asyncio
from collections import Counter, OrderedDict
from collections.abc import Awaitable, Callable, Iterable, Mapping

from trading.execution.desk import Desk, TradeTerms
from trading.execution.order import Order
from trading.execution.realised import Measure
from trading.execution.resolver import Patience
from trading.execution.saga import Saga
from trading.messages import OrderEvent, OrderIntent, OrderState, TradeRecord, TradeState
from trading.portfolio import Purse
from trading.ports import LeaseLost
from trading.tasks import end_tasks

FINISHED_KEPT = 1000  # finished trades that still listen for late fills
OPEN_OUTCOME = frozenset({OrderState.UNKNOWN, OrderState.DISPUTED})


class Trades:
    """Owns the sagas and their tasks.

    ``on_change`` is called when a trade finished or an order's outcome became (or ceased to be) unknown, ``on_lost``
    when the store says that the lease is gone, ``on_failure`` when a trade's own code raised.
    """

    def __init__(
        self,
        desk: Desk,
        patience: Patience | None,
        *,
        on_change: Callable[[Saga], None],
        on_lost: Callable[[str], None],
        on_failure: Callable[[int, str, Exception], None],
        on_done: Callable[[int, str, str], None],
    ) -> None:
        self.counters: Counter[str] = Counter()
        self.unresolved: dict[str, Purse] = {}
        self.tasks: dict[str, asyncio.Task[None]] = {}
        self._desk = desk
        self._patience = patience
        self._on_change = on_change
        self._on_lost = on_lost
        self._on_failure = on_failure
        self._on_done = on_done
        self._by_order: dict[str, Saga] = {}
        self._by_trade: dict[str, Saga] = {}
        self._finished: OrderedDict[str, None] = OrderedDict()
        self._ending = False

    def saga(
        self,
        terms: TradeTerms,
        record: TradeRecord,
        orders: Iterable[Order],
        held: Iterable[OrderIntent] = (),
        measures: Mapping[str, Measure] | None = None,
    ) -> Saga:
        """Make a trade's saga; events of its orders reach it from now on. ``held`` legs wait for the others' fills."""
        saga = Saga(
            self._desk,
            terms,
            record,
            orders,
            on_change=self._note,
            on_late_news=self._late_news,
            register=self._register,
            patience=self._patience,
            held=held,
            measures=measures,
        )
        self._by_trade[record.trade_id] = saga
        return saga

    def listen(self, saga: Saga) -> None:
        """Keep a finished trade of before: a late fill of it is alarmed and hedged."""
        self._retire(saga.record.trade_id)

    def on_event(self, event: OrderEvent) -> bool:
        """Hand an event to its trade; return False when none of them has that order."""
        saga = self._by_order.get(event.client_order_id)
        if saga is None:
            return False
        saga.on_event(event)
        return True

    def of_order(self, client_order_id: str) -> Saga | None:
        """Return the trade that has an order, if it is still followed."""
        return self._by_order.get(client_order_id)

    def is_harmless(self, trade_id: str) -> bool:
        """Return whether nothing of a trade has filled and what became of each order is known: none holds up others.

        What it may still fill is reserved, as it was before.
        """
        saga = self._by_trade.get(trade_id)
        return saga is not None and not any(order.claimed or order.unresolved for order in saga.orders.values())

    def unsettled(self, bot_id: int) -> tuple[int, bool]:
        """Return how many orders of a bot's trades may still do something, and whether one of them has a task."""
        sagas = [saga for saga in self._by_trade.values() if saga.record.bot_id == bot_id]
        count = sum(not order.settled for saga in sagas for order in saga.orders.values())
        return count, any(saga.record.trade_id in self.tasks for saga in sagas)

    def settle_again(self, saga: Saga) -> None:
        """See a trade through once more, unless something does already."""
        record = saga.record
        if record.trade_id not in self.tasks and not self._desk.halted and not self._ending:
            self.run(record.bot_id, record.trade_id, record.route, saga.settle())

    def wake(self, purse: Purse) -> None:
        """Ask about every unsettled order of an account whose stream has come back."""
        for saga in self.under_way():
            saga.wake(purse)

    def under_way(self) -> list[Saga]:
        """Return the trades that have a task."""
        return [self._by_trade[trade] for trade in self.tasks if trade in self._by_trade]

    def unhedged(self) -> list[Saga]:
        """Return the trades that may hold something unhedged: those under way, and those left exposed."""
        exposed = [
            saga
            for trade in self._finished
            if trade not in self.tasks and (saga := self._by_trade[trade]).record.state is TradeState.EXPOSED
        ]
        return [*self.under_way(), *exposed]

    def run(self, bot_id: int, trade_id: str, route: str, work: Awaitable[None]) -> None:
        """Run a trade's work as a task; whatever it raises stops nothing else."""

        async def guarded() -> None:
            try:
                await work
            except LeaseLost as error:
                self._on_lost(str(error))
            except Exception as error:
                self._on_failure(bot_id, trade_id, error)
            finally:
                self.tasks.pop(trade_id, None)
                self._retire(trade_id)
                self._on_done(bot_id, trade_id, route)

        self.tasks[trade_id] = asyncio.get_running_loop().create_task(guarded())

    async def cancel(self) -> None:
        """Stop watching for good; orders stay as the store knows them."""
        self._ending = True
        await end_tasks(self.tasks.values())

    def _register(self, order: Order, saga: Saga) -> None:
        self._by_order[order.intent.client_order_id] = saga

    def _retire(self, trade_id: str) -> None:
        saga = self._by_trade.get(trade_id)
        if saga is None or not saga.finished:
            return
        self._finished[trade_id] = None
        self._finished.move_to_end(trade_id)
        while len(self._finished) > FINISHED_KEPT:
            oldest, _ = self._finished.popitem(last=False)
            for client_id in self._by_trade.pop(oldest).orders:
                self._by_order.pop(client_id, None)

    def _note(self, saga: Saga) -> None:
        changed = saga.finished
        for client_id, order in saga.orders.items():
            open_outcome = order.state in OPEN_OUTCOME
            if open_outcome and client_id not in self.unresolved:
                self.unresolved[client_id] = saga.purse_of(order)
                changed = True
            elif not open_outcome and self.unresolved.pop(client_id, None) is not None:
                changed = True
        if changed:
            self._on_change(saga)

    def _late_news(self, saga: Saga) -> None:
        """A finished trade is not what it was (alarmed already): settle it again, which hedges what is open."""
        self.counters["late_news"] += 1
        self.settle_again(saga)
