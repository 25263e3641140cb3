"""Find out what became of one order: stream events first, then questions by client id, with backoff.

An order that was asked to rest is not asked about while its account's private stream lives: the stream tells of its
fills and its end. Past its deadline, or once it is unwanted, it is cancelled, and asked about only if the stream stays
silent after that.

An answer that the exchange does not know the order proves nothing by itself: requests are delayed, backends lag.
Absence is proven when the request can no longer arrive (its window, the backend's timeout and a margin have passed,
``venue.absence_seconds``), two questions after that were answered with "not found", the account's open orders and
executions show nothing that could be it, and its balances hold nothing that the fills we know of don't explain.
What speaks against it, or cannot be had, leaves the order UNKNOWN, and in the end DISPUTED: a person decides, with
the evidence. Only what carries our own id is ever taken for the order.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Sequence
from decimal import Decimal
from typing import TypeVar

import msgspec

from trading.execution.desk import Desk
from trading.execution.evidence import Evidence, candidate_of_order, candidates_of_fills
from trading.execution.order import Order
from trading.execution.states import MAY_REST, RESTING, is_terminal
from trading.execution.waiting import Signal
from trading.messages import Fill, OrderEvent, OrderState, Outcome, PlaceResult
from trading.portfolio import Purse
from trading.ports import Venue

NOT_FOUNDS_FOR_PROOF = 2
# Executions are asked for from this long before the order was made: clocks differ.
TRADES_MARGIN_NS = 60 * 10**9
OVERDUE_SECONDS = 0.01  # beyond its deadline, so that it has passed when it is looked at

ReportEvent = Callable[[OrderEvent], None]
Value = TypeVar("Value")


class Patience(msgspec.Struct, frozen=True):
    """How long to wait for what, in seconds."""

    unknown_first: float = 0.2  # before the first question about an order without an answer
    placed_first: float = 1.0  # before the first question about an order the exchange acknowledged
    longest: float = 10.0  # between two questions
    between_proofs: float = 2.0  # between the questions that prove an order absent
    dispute: float = 300.0  # without any proof, an operator decides


class Resolution:
    """One order on its way to being settled. ``report`` books an event exactly as one from a stream."""

    def __init__(self, desk: Desk, order: Order, purse: Purse, patience: Patience) -> None:
        self.desk = desk
        self.order = order
        self.purse = purse
        self.venue: Venue = desk.venues[purse]
        self.patience = patience
        self.changed = Signal()
        self.evidence = Evidence()
        self.gave_up = ""  # why a terminal order's missing fills are waited for no longer
        self._not_found = 0
        self._contradicted = ""  # what speaks against the absence of an order that nobody finds
        self._ask_now = False
        self._unwanted = False  # it is to be cancelled, and then to be gone
        self._cancelled = False  # that was asked for
        self._begun_ns = desk.clock.monotonic_ns()

    def ask_now(self) -> None:
        """Ask without waiting for the next turn."""
        self._ask_now = True
        self.changed.notify()

    def abandon(self) -> None:
        """Have the order cancelled, if it should turn out to rest: nobody works it any more."""
        self._unwanted = True

    async def cancel(self, report: ReportEvent) -> None:
        """Ask to cancel the order; from now on :meth:`run` sees to it that it ends."""
        self._unwanted = self._cancelled = True
        self.changed.notify()
        for event in (await self._cancel()).events:
            report(event)

    def _age(self) -> float:
        """Return the seconds since the order was sent, or was taken up from a process that may have sent it.

        Never by the wall clock: a step of it would prove an order absent too early, or leave it open for hours.
        """
        return (self.desk.clock.monotonic_ns() - (self.order.sent_ns or self._begun_ns)) / 1e9

    async def run(self, report: ReportEvent) -> None:
        """Return once the order is settled or disputed."""
        delay = self._first_delay()
        while not self._done():
            known = (self.order.state, self._cancelled)
            notified = await self.changed.wait(self.desk.clock, delay)
            if notified and not self._ask_now:
                if (self.order.state, self._cancelled) != known:
                    delay = self._first_delay()
                continue
            if not self._ask_now and self._rests_heard():
                if self._unwanted or self._overdue():
                    await self.cancel(report)
                delay = self._first_delay()
                continue
            self._ask_now = False
            await self._ask(report)
            if self._done():
                return
            if self._age() > self.patience.dispute:
                if is_terminal(self.order.state):
                    self.gave_up = (
                        f"order {self.order.intent.client_order_id}: the exchange names more than its fills show"
                    )
                    self.desk.alarm(self.gave_up)
                    return
                report(self._disputed(self._contradicted or "no proof of what became of the order in time"))
                return
            delay = self._next_delay(delay)

    @property
    def at_end(self) -> bool:
        """Whether there is nothing more to find out, as far as questions go."""
        return self._done() or bool(self.gave_up)

    def _next_delay(self, delay: float) -> float:
        """Return how long to wait for the next question: longer each time, but not beyond what absence waits for."""
        delay = min(self.patience.longest, delay * 2)
        if self.order.state not in {OrderState.SENDING, OrderState.UNKNOWN}:
            return delay
        left = self.venue.absence_seconds - self._age()
        if left > 0:
            return min(delay, left)
        return min(delay, self.patience.between_proofs) if self._not_found else delay

    def _done(self) -> bool:
        return self.order.settled or self.order.state is OrderState.DISPUTED

    def _overdue(self) -> bool:
        """Return whether the order rests on the book past its deadline."""
        return self.order.state in RESTING and self.desk.clock.time_ns() > self.order.intent.deadline_ns

    def _first_delay(self) -> float:
        if self.order.state in {OrderState.SENDING, OrderState.UNKNOWN}:
            return self.patience.unknown_first
        if self._rests_heard():  # looked at again now and then: the stream may be lost meanwhile
            if self._unwanted:
                return 0.0
            left = (self.order.intent.deadline_ns - self.desk.clock.time_ns()) / 1e9
            return min(self.patience.longest, max(0.0, left) + OVERDUE_SECONDS)
        return self.patience.placed_first

    def _rests_heard(self) -> bool:
        """Return whether the order rests as it was asked to, and the stream would tell if it no longer did."""
        return (
            not self._cancelled
            and self.order.state in RESTING
            and self.order.intent.time_in_force in MAY_REST
            and self.purse in self.desk.live_purses
        )

    async def _ask(self, report: ReportEvent) -> None:
        # Asked for until it is gone: a cancellation may be lost, and asking twice does no harm.
        if self._overdue() or (self._unwanted and self.order.state in RESTING):
            for event in (await self._cancel()).events:
                report(event)
            if self._done():  # the cancellation's answer told all there is to know
                return
        event_or_none = await self.query()
        if event_or_none is not None:
            if event_or_none.state is not OrderState.UNKNOWN:
                self._not_found = 0
            self._note("query", event_or_none.cause or f"the order is {event_or_none.state.value}")
            report(event_or_none)
            return
        self._note("query", "the exchange knows no order with this client order id")
        if self._age() < self.venue.absence_seconds or self._done():
            return
        self._not_found += 1
        if self._not_found < NOT_FOUNDS_FOR_PROOF:
            return
        if self.order.state in {OrderState.SENDING, OrderState.UNKNOWN} and not self.order.fills:
            if await self._is_absent(report):
                cause = (
                    "absent: unknown to the exchange after every window has passed, no executions, balances explained"
                )
                report(self._own_event(OrderState.FAILED, cause, self.evidence.raw()))
            elif self.evidence.candidates and not self._done():
                report(self._disputed(self._contradicted))
        else:
            report(self._disputed("the exchange no longer knows an order it had acknowledged"))

    async def _is_absent(self, report: ReportEvent) -> bool:
        """Look for the order where its id may be missing; what does carry its id is reported."""
        self._contradicted = ""
        return await self._not_open(report) and await self._not_executed(report) and await self._balances_explained()

    async def _not_open(self, report: ReportEvent) -> bool:
        intent = self.order.intent
        found = await self._asked("open_orders", self.venue.open_orders())
        if found is None:
            return False
        here = [event for event in found if event.market == intent.market]
        for event in here:
            if event.client_order_id == intent.client_order_id:
                self._note("open_orders", f"the order is open as {event.exchange_order_id}")
                report(event)
                return False
        nameless = [event for event in here if not event.client_order_id]
        self.evidence.consider(candidate_of_order(event) for event in nameless)
        self._note("open_orders", f"{len(here)} open on {intent.market}, {len(nameless)} of them without a client id")
        if nameless:
            self._contradicted = "an open order without a client order id may be this one"
        return not nameless

    async def _not_executed(self, report: ReportEvent) -> bool:
        intent = self.order.intent
        since_ns = intent.created_ns - TRADES_MARGIN_NS
        fills = await self._asked("trades", self.venue.trades(intent.market, since_ns))
        if fills is None:
            return False
        ours = tuple(fill for fill in fills if fill.client_order_id == intent.client_order_id)
        if ours:
            self._note("trades", f"{len(ours)} executions carry the order's id")
            report(
                msgspec.structs.replace(self._own_event(OrderState.PARTIALLY_FILLED, ""), fills=ours, source="query")
            )
            return False
        alike = [fill for fill in fills if not fill.client_order_id and self._could_be_ours(fill)]
        self.evidence.consider(candidates_of_fills(alike))
        self._note("trades", f"{len(fills)} executions since it was made, {len(alike)} of them may be its")
        if alike:
            self._contradicted = "executions that no order of ours explains may be this one's"
        return not alike

    def _could_be_ours(self, fill: Fill) -> bool:
        intent = self.order.intent
        within = fill.price <= intent.price if intent.side == "buy" else fill.price >= intent.price
        return fill.side == intent.side and within and fill.quantity <= intent.quantity

    async def _balances_explained(self) -> bool:
        intent = self.order.intent
        market = self.desk.markets[intent.market]
        if market.kind != "spot":
            self._note("balances", f"{market.kind} markets move margins, which prove nothing")
            return True
        found = await self._asked("balances", self.venue.balances())
        if found is None:
            return False
        figures = next((balance for balance in found if balance.asset == market.base), None)
        if figures is None:
            self._note("balances", f"not had for {market.base}")
            return False
        judged = self.desk.explained.judge(self.purse, figures)
        if judged is None:
            self._note("balances", f"no figure of {market.base} is known from before the order")
            return True
        sign = 1 if intent.side == "buy" else -1
        self._note("balances", f"{judged.amount:f} {market.base} beyond the executions known")
        if sign * judged.amount >= market.lot:
            self._contradicted = (
                f"the account's {market.base} changed by {judged.amount:f} more than the executions known explain"
            )
            return False
        return True

    async def _asked(self, question: str, answer: Awaitable[Sequence[Value] | None]) -> Sequence[Value] | None:
        """Return an answer, or None without one; a venue that raises has a bug, and has proven nothing."""
        self._count_question()
        try:
            found = await answer
        except Exception as error:
            self._note(question, self._raised(error))
            return None
        if found is None:
            self._note(question, "no answer")
        return found

    def _count_question(self) -> None:
        self.order.questions += 1
        self.desk.status_questions += 1

    def _note(self, question: str, answer: str) -> None:
        self.evidence.note(self.desk.clock.time_ns(), question, answer)

    def _disputed(self, cause: str) -> OrderEvent:
        return self._own_event(OrderState.DISPUTED, cause, self.evidence.raw())

    async def query(self) -> OrderEvent | None:
        """Ask the venue; one that raises has a bug, and has proven nothing."""
        self._count_question()
        try:
            return await self.venue.query(self.order.intent)
        except Exception as error:
            return self._own_event(OrderState.UNKNOWN, self._raised(error))

    async def _cancel(self) -> PlaceResult:
        try:
            return await self.venue.cancel(self.order.intent)
        except Exception as error:
            return PlaceResult(outcome=Outcome.UNKNOWN, message=self._raised(error))

    def _raised(self, error: Exception) -> str:
        cause = f"venue raised {type(error).__name__}"
        self.desk.alarm(f"order {self.order.intent.client_order_id}: {cause}")
        return cause

    def _own_event(self, state: OrderState, cause: str, raw: str = "") -> OrderEvent:
        intent = self.order.intent
        return OrderEvent(
            account_id=intent.account_id,
            market=intent.market,
            client_order_id=intent.client_order_id,
            state=state,
            filled=Decimal(0) if state is OrderState.FAILED else None,
            source="engine",
            cause=cause,
            raw=raw,
            received_ns=self.desk.clock.time_ns(),
        )
