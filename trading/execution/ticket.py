"""A trade made by hand: an entry that is worked, its protection, a position held on purpose, and its close.

Everything is decided from the orders' fills and the record, so a ticket can be taken up by another process at any
point: what rests of an entry or a close is cancelled and confirmed first, what should protect it is asked for. While a
position is held nothing of the ticket runs; news of its orders, a level reached or a close asked for set it going
again. Nothing is sent while the outcome of one of its orders is not known.

What is done when stands here; how, in its parts: :class:`~trading.execution.ticket_entry.Entry`,
:class:`~trading.execution.protection.Protection`, :class:`~trading.execution.ticket_exit.Exit`, and
:class:`~trading.execution.ticket_report.Report`, which says it.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterable, Sequence
from decimal import Decimal
from typing import Any

import msgspec

from trading.execution.beside import Beside
from trading.execution.desk import Desk, TradeTerms
from trading.execution.order import Change, Order
from trading.execution.position import Position, position_of, result_of
from trading.execution.progress import CONNECTING
from trading.execution.protection import EXCHANGE, Protection
from trading.execution.repair import smallest_order
from trading.execution.resolver import Patience
from trading.execution.result import ZERO, Result
from trading.execution.states import LIVE, RESTING
from trading.execution.ticket_entry import Entry
from trading.execution.ticket_exit import AT_ONCE, CLOSE_LEGS, LATE, Exit
from trading.execution.ticket_report import Report
from trading.execution.trade import Trade
from trading.execution.waiting import Signal
from trading.execution.working import Worked
from trading.instruments import Market, base_quantity
from trading.messages import FINISHED_TRADES, PROTECTIVE, OrderEvent, OrderIntent, TradeRecord, TradeState
from trading.ports import LeaseLost, StoreUnavailable
from trading.tasks import end_tasks
from trading.tickets import ENTRY_LEG, ClosingTerms, TicketStanding

CHECK_SECONDS = 0.5  # how often it looks at its orders if nothing wakes it
FILLING_SECONDS = 5.0  # so long a protective order that has begun to fill is left to it
ENDED = frozenset({TradeState.CLOSED, TradeState.FAILED})


class Ticket(Trade):
    """A trade by hand. :meth:`settle` works until nothing is to be done but to hold, or until it has ended."""

    def __init__(
        self,
        desk: Desk,
        terms: TradeTerms,
        record: TradeRecord,
        orders: Iterable[Order],
        *,
        on_change: Callable[[Trade], None],
        on_late_news: Callable[[Trade], None],
        register: Callable[[Order, Trade], None],
        patience: Patience | None = None,
    ) -> None:
        if record.ticket is None:
            raise ValueError(f"trade {record.trade_id}: is no ticket")
        self.asked = record.ticket
        self.market = desk.markets[self.asked.market]
        self._changed = Signal()
        self._unwanted: set[str] = set()  # protective orders that are to go
        super().__init__(
            desk,
            terms,
            record,
            orders,
            on_change=on_change,
            on_late_news=on_late_news,
            register=register,
            patience=patience,
        )
        self.purse = terms.purses[self.market.exchange]
        self.is_durable = bool(self.orders)  # its trade has a row
        self.decided = asyncio.Event()  # once that is so, or never will be
        self._questions_before = self.standing.status_questions
        self.protection = Protection(self, self._on_reached)
        self.entry, self.exit, self.report, self.beside = Entry(self), Exit(self), Report(self), Beside(self)
        self.has_ended = record.state in ENDED
        self._doubted = bool(self.orders)  # what the exchange holds for it is to be asked
        self.refused = ""  # why the first order was not made durable
        self.note = ""  # why less was entered or closed than was asked for
        for order in self.orders.values():
            self._let_stand(order)

    # -- what it is -------------------------------------------------------------------------------------------------

    @property
    def standing(self) -> TicketStanding:
        return self.record.standing or TicketStanding()

    @property
    def holds(self) -> bool:
        """Whether it holds a position on purpose, and nothing is in flight."""
        return self.record.state is TradeState.HOLDING

    @property
    def refusal(self) -> str:
        """Why it was never made durable, and so nothing of it was sent."""
        return "" if self.is_durable else self.refused or self.note or "it was not sent"

    @property
    def unsettled(self) -> int:
        return sum(not order.settled and not self._is_standing(order) for order in self.orders.values())

    @property
    def blocked(self) -> str:
        for client_id, order in self.orders.items():
            if self._is_standing(order):
                continue
            if order.state in LIVE or not order.settled:
                return f"order {client_id} is {order.state.value}"
            if order.overfilled:
                return f"order {client_id} filled more than was ordered"
        return ""

    def position(self) -> Position:
        return position_of(self.orders.values(), self.market, self.asked.side)

    def result(self) -> Result:
        outcome = result_of(self.tally(), self.position(), self.market, self.asked.side, self.desk.value)
        # Inventory that was sold or converted is no position: what it cost is its fees.
        return msgspec.structs.replace(outcome, residual=ZERO) if self.asked.is_close_only else outcome

    def worst_residual(self) -> Decimal:
        """Return the largest position it may have, in base units; an order of its entry may fill yet."""
        if self.asked.is_close_only:
            return ZERO
        most = self.position().held
        for order in self.orders.values():
            if order.intent.leg == ENTRY_LEG:
                most += order.most - order.filled
        return base_quantity(self.market, most, self.price()) * (1 if self.asked.side == "buy" else -1)

    def worst_notional(self) -> Decimal:
        """Return what its position may come to; what is still to be entered counts from the beginning."""
        worst = super().worst_notional()
        if self.entry.is_over or self.finished or self.asked.is_close_only:
            return worst
        price = self.price()
        return max(worst, base_quantity(self.market, self.asked.quantity, price) * price)

    def exposed_so_far(self) -> Decimal:
        """Return 0: what is held on purpose does not wait to be hedged."""
        return ZERO

    def market_keys(self) -> set[str]:
        return {self.market.key}

    def closing_legs(self, market: Market) -> Iterable[int]:
        return reversed(CLOSE_LEGS) if market.key == self.market.key else ()

    def _is_standing(self, order: Order) -> bool:
        """Return whether an order protects the position and is to go on doing so."""
        return (
            order.intent.kind in PROTECTIVE
            and order.state in RESTING
            and order.intent.client_order_id not in self._unwanted
        )

    def _let_stand(self, order: Order) -> None:
        """Count an order that protects as under way no longer: it may stand for days, and balances move meanwhile."""
        if self._is_standing(order):
            self.desk.explained.end(order.intent.client_order_id, self.purse, self.desk.clock.time_ns())

    def price(self) -> Decimal:
        """Return what a unit of it cost, or would at most."""
        return self.position().entry_price or self.asked.limit_cap

    def least(self) -> Decimal:
        """Return the smallest position that can be closed."""
        price = self.protection.closing_price() or self.price()
        return smallest_order(self.market, price)

    # -- what is asked of it ----------------------------------------------------------------------------------------

    def close(self, closing: ClosingTerms) -> str:
        """Ask to bring the position down; :meth:`settle` is to run after that. Return why not, or an empty string."""
        refusal = self.exit.ask(closing)
        if not refusal:
            self._changed.notify()
        return refusal

    def doubt(self) -> None:
        """Ask the exchange, with the next :meth:`settle`, what of the protection stands: news may have been missed."""
        self._doubted = True

    def has_news(self, change: Change, order: Order, *, has_ended: bool) -> bool:
        self._changed.notify()
        news = bool(change.new_fills) or change.before is not change.after or has_ended
        return super().has_news(change, order, has_ended=has_ended) or (news and not self.finished)

    def on_event(self, event: OrderEvent) -> None:
        order = self.orders[event.client_order_id]
        filled = order.filled
        super().on_event(event)
        self._let_stand(order)
        if order.filled != filled and not self.finished:
            if order.intent.kind in PROTECTIVE and not self.entry.is_over:
                self.workings.stop("a level was reached")  # what left beside the entry closes what it has filled
            self._refresh()
            self.store()
        self.report.publish_order(order)

    def _on_reached(self) -> None:
        self.workings.stop("a level was reached")
        self._changed.notify()
        self._on_late_news(self)

    # -- its life ---------------------------------------------------------------------------------------------------

    def begin(self) -> None:
        """Show that it was asked for."""
        self.report.step(CONNECTING)

    async def settle(self) -> None:
        self.finished = False
        try:
            await self.know_all()
            while not self.desk.halted and not self.blocked and not self.exit.stuck and await self._go_on():
                await self.know_all()
            if not self.desk.halted:
                await self._end()
        finally:
            await self.beside.end()
            self.decided.set()

    async def _go_on(self) -> bool:
        """Do what is due next; return whether anything was."""
        if not self.entry.is_over:
            await self.entry.work()
            await self.beside.answered()
            return True
        if self.asked.is_close_only:
            return False
        position = self.position()
        held = position.whole(self.market)
        if (surplus := position.surplus(self.market)) >= self.least():
            return await self.exit.take_back(surplus)
        if self._doubted:
            self._doubted = False
            await self.protection.check()
            return True
        closing = self.exit.due(held)
        if closing is not None:
            return await self.exit.close(closing, held)
        if held < self.least():
            return await self.withdraw()
        if self.protection.is_filling() and await self._is_filled_soon():
            return True
        self.protection.recognise(held)
        if self.protection.stands(held):
            return False
        if not await self.withdraw():
            await self.protection.place(held)
        return True

    async def commit(self, *intents: OrderIntent) -> None:
        """Make orders durable; with the first of them the trade itself, and what protects it where that may leave
        with it."""
        if self.is_durable:
            await super().commit(*intents)
            return
        beside = self.beside.intents(intents[0].quantity)
        committing = self.desk.store.commit_trade(self.record, (*intents, *beside.values()), None)
        for intent in intents:
            self._sender.prepare(intent, self.purse)
        try:
            await committing
        except BaseException as error:
            self.protection.give_back(beside)
            if isinstance(error, StoreUnavailable | LeaseLost):
                self.refused = f"{error}"
            raise
        self.is_durable = True
        self.beside.own(beside)
        self.decided.set()

    async def send_further(self, orders: Sequence[Order], decided_ns: int) -> None:
        """Send further orders together; what protects the position follows the entry in the same breath."""
        self.beside.leave()
        await super().send_further(orders, decided_ns)

    # -- its orders -------------------------------------------------------------------------------------------------

    def adopt(self, order: Order) -> Order:
        """Own an order that is durable."""
        self._add(order)
        return order

    async def send_protection(self, take_profit: Order | None, stop_loss: Order | None) -> None:
        await self._sender.protect(take_profit, stop_loss, self.purse)

    async def ask(self, order: Order) -> OrderEvent | None:
        """Ask the exchange about an order; None if it does not know it."""
        return await self._resolutions[order.intent.client_order_id].query()

    async def withdraw(self) -> bool:
        """Cancel what protects the position, and wait until each order's end is known; whether there was any."""
        orders = self.protection.orders()
        if not orders:
            return False
        self._unwanted |= {order.intent.client_order_id for order in orders}
        await asyncio.gather(*(self.cancel_order(order) for order in orders if not order.settled))
        await self.know_all()
        self.tell(protected_by="")
        return True

    async def know_all(self) -> None:
        """Return once nothing more is to be found out about any order; what rests for nobody is cancelled."""
        while waiting := [order for order in self.orders.values() if self._is_open(order)]:
            for order in waiting:
                if order.state in RESTING and order.intent.client_order_id not in self._unwanted:
                    self._unwanted.add(order.intent.client_order_id)
                    await self.cancel_order(order)
            asking = [asyncio.ensure_future(self.resolve(order)) for order in waiting]
            try:
                while any(self._is_open(order) for order in waiting) and not self.desk.halted:
                    for task in asking:
                        if task.done():
                            task.result()
                    await self._changed.wait(self.desk.clock, CHECK_SECONDS)
            finally:
                await end_tasks(asking)
            if self.desk.halted:
                return

    def _is_open(self, order: Order) -> bool:
        return not self.is_over(order) and not self._is_standing(order)

    async def _is_filled_soon(self) -> bool:
        """Leave a protective order that has begun to fill to it for a while; whether anything came of that."""
        before = self.position().held
        await self._changed.wait(self.desk.clock, FILLING_SECONDS)
        return self.position().held != before

    def promise(self, quantity: Decimal) -> None:
        """Keep what is held from being sold by others; orders of the exchange's own lock it there."""
        self.desk.portfolio.settle(self.record.trade_id, ZERO, self.desk.clock.time_ns())
        if quantity > 0 and self.market.kind == "spot" and self.asked.side == "buy":
            self.desk.portfolio.adopt(self.record.trade_id, self.purse, self.market.base, quantity)

    # -- what it comes to -------------------------------------------------------------------------------------------

    def count(self, worked: Worked) -> None:
        """Add what working an order has gained, and remember why it went no further."""
        standing = self.standing
        improvement = standing.improvement
        if worked.improvement is not None and worked.filled:
            improvement = (improvement or ZERO) + worked.improvement
        self.note = worked.reason
        self.tell(improvement=improvement, fallback_quantity=standing.fallback_quantity + worked.fallback_quantity)

    async def _end(self) -> None:
        """State how it stands, now that nothing more is to be done."""
        state = self._state()
        if state is not TradeState.HOLDING:
            await self._ask_for_fees()
            state = self._state()  # a fee may have made what was held smaller
        if state is TradeState.HOLDING:
            by_exchange = self.standing.protected_by == EXCHANGE
            self.promise(ZERO if by_exchange else self.position().whole(self.market))
        else:
            self.promise(ZERO)
            self.protection.unwatch()
        self.finished = state in FINISHED_TRADES
        self.has_ended = state in ENDED
        self.report.end(state)
        self.restate(state)
        self.publish()
        self._on_change(self)

    def _state(self) -> TradeState:
        if self.blocked or self.exit.stuck:
            return TradeState.EXPOSED
        if not any(order.fills for order in self.orders.values()):
            return TradeState.FAILED
        position = self.position()
        if self.asked.is_close_only or position.whole(self.market) < self.least():
            return TradeState.CLOSED
        return TradeState.HOLDING

    def restate(self, state: TradeState | None = None) -> None:
        state = state or self._state()
        if self.has_ended and state is TradeState.HOLDING:  # that is not meant to be held
            state = TradeState.REPAIRING
            self.tell(closing=ClosingTerms(style=AT_ONCE, cause=LATE))
        finished = state in FINISHED_TRADES
        outcome = self.result()
        traded = bool(outcome.tally.bought or outcome.tally.sold)
        self._refresh()
        if finished:
            self.tell(protected_by="", closing=None)
        self.record = msgspec.structs.replace(
            self.record,
            state=state,
            closed_ns=(self.record.closed_ns or self.desk.clock.time_ns()) if finished else 0,
            realised_profit=outcome.profit if traded and finished else None,
            residual_base=outcome.residual,
            fees=dict(outcome.tally.fees),
            reason=self.report.reason(state),
        )
        self.store()

    def _refresh(self) -> None:
        """Take over what the fills say into how it stands."""
        position = self.position()
        self.tell(
            held=ZERO if self.asked.is_close_only else max(position.held, ZERO),
            entry_price=position.entry_price,
            status_questions=self._questions_before + sum(order.questions for order in self.orders.values()),
            progress=self.report.steps,
            path=self.report.path(),
        )

    def store(self) -> None:
        """Queue its record to be stored."""
        if self.is_durable:
            self.desk.store.record_trade(self.record)

    def tell(self, **changes: Any) -> None:
        """Change how it stands; stored with the next record."""
        self.record = msgspec.structs.replace(self.record, standing=msgspec.structs.replace(self.standing, **changes))

    def publish(self) -> None:
        self._refresh()
        self.report.publish()
