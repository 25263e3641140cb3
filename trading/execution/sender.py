"""Sends the orders of one trade: under the lease, on a decision that is not too old, each once; what came of it is an
event of the order's."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Coroutine
from decimal import Decimal
from typing import Any

from trading.execution.desk import Desk
from trading.execution.order import Order
from trading.execution.realised import Realised
from trading.messages import OrderEvent, OrderIntent, OrderState, Outcome, PlaceResult
from trading.portfolio import Purse
from trading.ports import LeaseLost
from trading.tasks import failing

OLDEST_DECISION_SECONDS = 2.0
_STATES = {
    Outcome.PLACED: OrderState.PLACED,
    Outcome.REJECTED: OrderState.FAILED,
    Outcome.UNKNOWN: OrderState.UNKNOWN,
}
# How an order left, as its history shows it.
_BY = {"websocket": "by WebSocket", "rest": "by REST"}


class Sender:
    """``report`` is told what becomes of an order, ``realised`` measures what it meets."""

    def __init__(self, desk: Desk, report: Callable[[OrderEvent], None], realised: Realised) -> None:
        self._desk = desk
        self._report = report
        self._realised = realised

    def check(self) -> None:
        """Raise LeaseLost if nothing may be sent. The row says SENDING: the next holder finds that nothing arrived."""
        if self._desk.halted:
            raise LeaseLost(self._desk.halted)
        if not self._desk.may_send():  # the process may have stood still since the commit
            raise LeaseLost("the lease has run out and was not renewed in time")

    def prepare(self, intent: OrderIntent, purse: Purse) -> None:
        """Let what sends an order get ready for it; one that can't is placed all the same."""
        try:
            self._desk.venues[purse].prepare(intent)
        except Exception as error:
            self._desk.alarm(f"order {intent.client_order_id}: preparing it raised {type(error).__name__}")

    def send(self, order: Order, purse: Purse, decided_ns: int) -> Coroutine[Any, Any, None]:
        """Send one order within this call, as far as its venue can, unless its decision (at this monotonic time) is too
        old: then it is void, provably. Return what waits for the answer and books it; it raises LeaseLost if nothing
        was sent.

        Looked at for each order just before it leaves: a process may stand still between two of them, for longer than
        its lease lives.
        """
        if self._is_void(order, decided_ns):
            return _nothing()
        try:
            self.check()
        except LeaseLost as error:
            return failing(error)
        now_ns = self._desk.clock.monotonic_ns()
        writing: Awaitable[PlaceResult] | None
        try:
            writing = self._desk.venues[purse].write(order.intent)
        except Exception as error:  # judged as if it had come later: it may have left
            writing = failing(error)
        if writing is None:
            return self._place(order, purse, decided_ns)
        self._note_leaving(order, now_ns)
        return self._booked(order, purse, writing)

    async def _place(self, order: Order, purse: Purse, decided_ns: int) -> None:
        """Send an order that did not leave at once; as much may have happened meanwhile as between any two."""
        if self._is_void(order, decided_ns):
            return
        self.check()
        self._note_leaving(order, self._desk.clock.monotonic_ns())
        await self._booked(order, purse, self._desk.venues[purse].place(order.intent))

    def _is_void(self, order: Order, decided_ns: int) -> bool:
        """Return whether an order's decision is too old to be sent; it has failed then."""
        age = (self._desk.clock.monotonic_ns() - decided_ns) / 1e9
        if age <= OLDEST_DECISION_SECONDS:
            return False
        cause = f"void: not sent, the decision was {age:.1f} s old (at most {OLDEST_DECISION_SECONDS:.0f} s)"
        self._desk.release_budget(order.intent)
        self._report(self._event(order.intent, OrderState.FAILED, cause=cause))
        return True

    def _note_leaving(self, order: Order, sent_ns: int) -> None:
        order.sent_ns = sent_ns
        self._desk.note_sent(order.intent.client_order_id)
        # Behind the order, and before any news: nothing has changed the book by then.
        asyncio.get_running_loop().call_soon(self._realised.leave, order.intent, self._desk.clock.time_ns())

    async def _booked(self, order: Order, purse: Purse, answering: Awaitable[PlaceResult]) -> None:
        """Book the answer to an order that is sent, or by the first step of what is waited for."""
        intent, clock = order.intent, self._desk.clock
        try:
            answer = await answering
        except asyncio.CancelledError:
            cause = "the process stopped waiting for the answer"
            self._report(self._event(intent, OrderState.UNKNOWN, cause=cause))
            raise
        except Exception as error:
            # The port promises not to raise; a venue that does has a bug, and its order an unknown outcome.
            self._desk.alarm(f"order {intent.client_order_id}: venue raised {type(error).__name__}")
            answer = PlaceResult(outcome=Outcome.UNKNOWN, message=f"venue raised {type(error).__name__}")
        order.path = answer.path
        taken_ns = clock.monotonic_ns() - order.sent_ns
        self._desk.stages.record_ns("sent_to_answered", taken_ns)
        self._desk.note_answer(purse, intent, answer.outcome, taken_ns / 1e9)
        self._book_answer(intent, answer)

    async def protect(self, take_profit: Order | None, stop_loss: Order | None, purse: Purse) -> None:
        """Send the protective orders of a position together, each once."""
        self.check()
        clock = self._desk.clock
        orders = [order for order in (take_profit, stop_loss) if order is not None]
        intents = [None if order is None else order.intent for order in (take_profit, stop_loss)]
        begun_ns = clock.monotonic_ns()
        for order in orders:
            order.sent_ns = begun_ns
            self._desk.note_sent(order.intent.client_order_id)
        try:
            answers = await self._desk.venues[purse].protect(intents[0], intents[1])
        except asyncio.CancelledError:
            cause = "the process stopped waiting for the answer"
            for order in orders:
                self._report(self._event(order.intent, OrderState.UNKNOWN, cause=cause))
            raise
        except Exception as error:
            self._desk.alarm(f"order {orders[0].intent.client_order_id}: venue raised {type(error).__name__}")
            answers = ()
        missing = PlaceResult(outcome=Outcome.UNKNOWN, message="the venue did not answer for it")
        taken_ns = clock.monotonic_ns() - begun_ns
        self._desk.stages.record_ns("sent_to_answered", taken_ns)
        for place, order in enumerate(orders):
            answer = answers[place] if place < len(answers) else missing
            order.path = answer.path
            self._desk.note_answer(purse, order.intent, answer.outcome, taken_ns / 1e9)
            self._book_answer(order.intent, answer)

    def _book_answer(self, intent: OrderIntent, answer: PlaceResult) -> None:
        state = _STATES[answer.outcome]
        cause = " ".join(part for part in (answer.code, answer.message) if part)
        by = _BY.get(answer.path, "")
        self._report(
            self._event(
                intent,
                state,
                cause=by if state is OrderState.PLACED else f"{cause} ({by})" if by else cause,
                exchange_order_id=answer.exchange_order_id,
                raw=answer.raw,
                path=answer.path,
            )
        )
        for event in answer.events:
            self._report(event)

    def _event(
        self,
        intent: OrderIntent,
        state: OrderState,
        *,
        cause: str,
        exchange_order_id: str = "",
        raw: str = "",
        path: str = "",
    ) -> OrderEvent:
        return OrderEvent(
            account_id=intent.account_id,
            market=intent.market,
            client_order_id=intent.client_order_id,
            exchange_order_id=exchange_order_id,
            state=state,
            filled=Decimal(0) if state is OrderState.FAILED else None,
            source="answer",
            cause=cause,
            raw=raw,
            path=path,
            received_ns=self._desk.clock.time_ns(),
        )


async def _nothing() -> None:
    """Wait for nothing: what there was to do is done."""
