"""One trade from its committed intents to its result: a saga that owns its orders, repairs and outcome.

Everything it decides is recomputed from the orders' fills, so it can be taken up by another process at any point.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterable
from decimal import Decimal

import msgspec

from trading.execution.desk import Desk, TradeTerms
from trading.execution.exposure import Exposure
from trading.execution.footprints import Footprint
from trading.execution.ids import client_order_id
from trading.execution.ladder import Rung
from trading.execution.order import Order
from trading.execution.repair import Leg, RepairOrder, candidates, is_dust
from trading.execution.reserving import needed, spent
from trading.execution.resolver import Patience, Resolution
from trading.execution.result import Result, Tally, result, tally
from trading.execution.states import LIVE, RESTING
from trading.execution.views import trade_view
from trading.instruments import Side
from trading.messages import (
    FINISHED_TRADES,
    OrderEvent,
    OrderIntent,
    OrderState,
    Outcome,
    PlaceResult,
    TradeRecord,
    TradeState,
)
from trading.portfolio import InsufficientFunds, Purse
from trading.ports import LeaseLost, StoreUnavailable

OLDEST_DECISION_SECONDS = 2.0
MAX_REPAIRS = 24  # orders a trade may send beyond its first ones, however many seconds and money are left
REPAIR_PAUSE_SECONDS = 0.05
REFUSED_SECONDS = 1.0  # a market that refused a repair is left alone so long: another way out goes first
SHOW_SECONDS = 0.5  # how often a trade that waits on its ladder shows what it holds unhedged
STORE_PAUSE_SECONDS = 0.5  # after the store did not take a repair
EXPOSURE_STEP = Decimal("1e-6")
LAST_ATTEMPT = 35  # what a client order id has room for
FEE_QUESTIONS = 2  # a fill's fee may come later than the fill; ask so often before closing without it
FEE_PAUSE_SECONDS = 1.0


class Saga:
    """A trade.

    ``register`` is told of each order once, before it is sent, so that events find their way here. ``on_change`` is
    called after every event that changed something, ``on_late_news`` when a finished trade turns out to have traded
    more, or a disputed order has ended after all: its owner is to run :meth:`settle` again. ``held`` are legs that
    wait for what the others fill: they are sent for as much, as the first step of the ladder.
    """

    def __init__(
        self,
        desk: Desk,
        terms: TradeTerms,
        record: TradeRecord,
        orders: Iterable[Order],
        *,
        on_change: Callable[[Saga], None],
        on_late_news: Callable[[Saga], None],
        register: Callable[[Order, Saga], None],
        patience: Patience | None = None,
        held: Iterable[OrderIntent] = (),
    ) -> None:
        self.desk = desk
        self.terms = terms
        self.record = record
        self._held = {intent.leg: intent for intent in held}
        self._exposure = Exposure(record.exposure, desk.clock.monotonic_ns())
        self.orders: dict[str, Order] = {}
        self.finished = False
        self._patience = patience or Patience()
        self._resolutions: dict[str, Resolution] = {}
        self._on_change = on_change
        self._register = register
        self._on_late_news = on_late_news
        self._notes: list[str] = []
        self._stem = ""  # what further orders of this trade are named after
        self._causes: dict[str, str] = {}  # the last cause the exchange (or we) gave, by client order id
        for order in orders:
            self._add(order)
        # Its record says so, and nothing it owns may still change it: all that can come is late news.
        self.finished = record.state in FINISHED_TRADES and all(order.settled for order in self.orders.values())
        self._repairs = sum(1 for order in self.orders.values() if order.intent.attempt > 0)
        self._refused: dict[str, tuple[int, str]] = {}  # by market, when (monotonic) a repair was last refused, and why
        self._in_doubt: dict[int, int] = {}  # by leg, the last attempt whose commit the store would not confirm
        self._exposure.tell(self.tally(), desk.clock.monotonic_ns())

    def _add(self, order: Order) -> None:
        client_id = order.intent.client_order_id
        self.orders[client_id] = order
        purse = self.purse_of(order)
        self._resolutions[client_id] = Resolution(self.desk, order, purse, self._patience)
        self._register(order, self)
        if order.settled:
            return
        intent = order.intent
        self.desk.explained.begin(client_id, purse)
        if order.state not in RESTING:  # one that rests since before this process took nothing from books it has seen
            self.desk.footprints.begin(client_id, Footprint(intent.market, intent.side, purse.paper))
        if intent.reserve_asset:
            self.desk.portfolio.adopt(client_id, purse, intent.reserve_asset, intent.reserve_amount)

    # -- what happens to it -------------------------------------------------------------------------------------

    async def send_and_settle(self, decided_ns: int, committed_ns: int) -> None:
        """Send the first intents, decided and committed at these (monotonic) times, together; see the trade through.

        Prices of a decision that had to wait (for the store, or because the machine stood still) are not sent: the
        orders are void, provably, and so is the trade.
        """
        orders = list(self.orders.values())
        self._check_sending()
        self.desk.stages.record_ns("committed_to_sent", self.desk.clock.monotonic_ns() - committed_ns)
        await asyncio.gather(*(self._send_decided(order, decided_ns) for order in orders))
        await self.settle()

    async def settle(self) -> None:
        """Bring every order to its end, repair what is unhedged, state the result. Callable again after late fills."""
        self.finished = False
        await self._resolve_all()
        while await self._repair():
            await self._resolve_all()
        await self._ask_for_fees()
        self._close()

    def on_event(self, event: OrderEvent) -> None:
        """Book what the exchange said about one of this trade's orders."""
        order = self.orders[event.client_order_id]
        was_settled = order.settled
        change = order.apply(event)
        if not change.anything and order.settled is was_settled:  # a total that is named settles what ended before
            return
        if event.cause:
            self._causes[event.client_order_id] = event.cause
        self.desk.store.record_event(event, order.state.value)
        if change.alarm:
            self.desk.alarm(change.alarm)
        purse, market = self.purse_of(order), self.desk.markets[order.intent.market]
        if change.new_fills:
            for fill in change.new_fills:
                self.desk.explained.book(purse, market, fill)
            self._exposure.tell(self.tally(), self.desk.clock.monotonic_ns())
            if order.sent_ns:
                self.desk.stages.record_ns("sent_to_filled", self.desk.clock.monotonic_ns() - order.sent_ns)
        for fill in change.late_fees:
            self.desk.explained.book_fee(purse, fill)
        if order.settled and not was_settled:
            self.desk.explained.end(event.client_order_id, purse, self.desk.clock.time_ns())
            self.desk.portfolio.settle(event.client_order_id, spent(order, market), self.desk.clock.time_ns())
            if order.state is OrderState.FAILED:
                self.desk.footprints.forget(event.client_order_id)  # it never reached the book
            else:
                self.desk.footprints.end(event.client_order_id, self.desk.clock.monotonic_ns())
        self._resolutions[event.client_order_id].changed.notify()
        # Life in a disputed order, even by a fill that is known already, is a reason to ask again: nobody else would.
        undisputed = change.before is OrderState.DISPUTED and change.after is not OrderState.DISPUTED
        # So is a total that has grown: its fill may never be told.
        ended_late = self.finished and (bool(change.new_fills) or undisputed or order.settled is not was_settled)
        if self.finished and (ended_late or change.late_fees):
            self._restate()
        self.publish()
        self._on_change(self)
        if ended_late:
            self._on_late_news(self)

    def wake(self, purse: Purse) -> None:
        """Ask about this account's unsettled orders now: its private stream is back, and may have missed something."""
        for resolution in self._resolutions.values():
            if self.purse_of(resolution.order) == purse and not resolution.order.settled:
                resolution.ask_now()

    def purse_of(self, order: Order) -> Purse:
        """Return whose money an order of this trade uses."""
        return self.terms.purses[self.desk.markets[order.intent.market].exchange]

    def market_keys(self) -> set[str]:
        return {order.intent.market for order in self.orders.values()} | {leg.market for leg in self._legs()}

    def _legs(self) -> list[Leg]:
        """Return the trade's legs: those sent, those held back, and what its route names besides."""
        first = [order.intent for order in self.orders.values() if order.intent.attempt == 0]
        known = {intent.leg: intent for intent in (*self._held.values(), *first)}
        legs = [
            Leg(leg=intent.leg, market=intent.market, side=intent.side, limit=intent.price) for intent in known.values()
        ]
        buy, _, sell = self.record.route.partition(":")[2].partition(">")
        sides: tuple[tuple[str, Side], ...] = ((buy, "buy"), (sell, "sell"))
        for number, (market, side) in enumerate(sides):
            if number not in known and market in self.desk.markets:  # held back by an earlier process
                legs.append(Leg(leg=number, market=market, side=side, limit=None))
        return sorted(legs, key=lambda leg: leg.leg)

    # -- steps --------------------------------------------------------------------------------------------------

    def _check_sending(self) -> None:
        """Raise LeaseLost if nothing may be sent. The row says SENDING: the next holder finds that nothing arrived."""
        if self.desk.halted:
            raise LeaseLost(self.desk.halted)
        if not self.desk.may_send():  # the process may have stood still since the commit
            raise LeaseLost("the lease has run out and was not renewed in time")

    async def _send_decided(self, order: Order, decided_ns: int) -> None:
        """Send one order unless its decision is too old.

        Looked at for each order just before it leaves: a process may stand still between two of them, for longer than
        its lease lives.
        """
        age = (self.desk.clock.monotonic_ns() - decided_ns) / 1e9
        if age > OLDEST_DECISION_SECONDS:
            cause = f"void: not sent, the decision was {age:.1f} s old (at most {OLDEST_DECISION_SECONDS:.0f} s)"
            self.desk.release_budget(order.intent)
            self.on_event(self._event(order.intent, OrderState.FAILED, cause=cause))
            return
        await self._send(order)

    async def _send(self, order: Order) -> None:
        self._check_sending()
        intent = order.intent
        purse = self.purse_of(order)
        clock = self.desk.clock
        order.sent_ns = clock.monotonic_ns()
        try:
            answer = await self.desk.venues[purse].place(intent)
        except asyncio.CancelledError:
            self.on_event(self._event(intent, OrderState.UNKNOWN, cause="the process stopped waiting for the answer"))
            raise
        except Exception as error:
            # The port promises not to raise; a venue that does has a bug, and its order an unknown outcome.
            self.desk.alarm(f"order {intent.client_order_id}: venue raised {type(error).__name__}")
            answer = PlaceResult(outcome=Outcome.UNKNOWN, message=f"venue raised {type(error).__name__}")
        taken_ns = clock.monotonic_ns() - order.sent_ns
        self.desk.stages.record_ns("sent_to_answered", taken_ns)
        self.desk.note_answer(purse, taken_ns / 1e9)
        self._book_answer(intent, answer)

    def _book_answer(self, intent: OrderIntent, answer: PlaceResult) -> None:
        state = {
            Outcome.PLACED: OrderState.PLACED,
            Outcome.REJECTED: OrderState.FAILED,
            Outcome.UNKNOWN: OrderState.UNKNOWN,
        }[answer.outcome]
        cause = " ".join(part for part in (answer.code, answer.message) if part)
        self.on_event(
            self._event(
                intent,
                state,
                cause=cause if state is not OrderState.PLACED else "",
                exchange_order_id=answer.exchange_order_id,
                raw=answer.raw,
            )
        )
        for event in answer.events:
            self.on_event(event)

    def _event(
        self, intent: OrderIntent, state: OrderState, *, cause: str, exchange_order_id: str = "", raw: str = ""
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
            received_ns=self.desk.clock.time_ns(),
        )

    async def _resolve_all(self) -> None:
        """Return once no order has anything more to find out; one in dispute may show life while others are asked."""
        while left := [resolution for resolution in self._resolutions.values() if not resolution.at_end]:
            await asyncio.gather(*(resolution.run(self.on_event) for resolution in left))

    async def _repair(self) -> bool:
        """Send one completing, undoing or hedging order if one is due; return whether one was sent."""
        if self.blocked or self._is_dust():
            return False
        self._release_held()
        self._climb(0)
        if not self._first_of_held():
            self._restate(TradeState.REPAIRING)
        why = "no price within the cap of what may be paid"
        at_ns = shown_ns = self.desk.clock.monotonic_ns()
        while not self.desk.halted and not self.blocked and not self._is_dust():
            seconds = self.record.repair_ms / 1000
            if self._repairs >= MAX_REPAIRS or self.terms.ladder.rung(seconds) is Rung.ASK:
                self._note(f"{why}, after {seconds:.0f} s and {self._repairs} orders")
                return False
            pause = REPAIR_PAUSE_SECONDS
            for wanted in candidates(self.desk, self.terms, self.tally(), self.result().profit, self._legs(), seconds):
                if refusal := self._refusal(wanted.market.key):
                    why = refusal
                    continue
                try:
                    if await self._send_repair(wanted):
                        self._climb(self.desk.clock.monotonic_ns() - at_ns)
                        return True
                except StoreUnavailable:
                    why = "the store could not take the repair"
                    pause = STORE_PAUSE_SECONDS
                    break
            await self.desk.clock.sleep(pause)
            now_ns = self.desk.clock.monotonic_ns()
            self._climb(now_ns - at_ns)
            at_ns = now_ns
            if now_ns - shown_ns >= SHOW_SECONDS * 1e9:
                shown_ns = now_ns
                self.desk.store.record_trade(self.record)  # so that a restart knows how far it had climbed
                self.publish()
        return False

    def _is_dust(self) -> bool:
        return is_dust(self.tally(), [self.desk.markets[key] for key in sorted(self.market_keys())])

    def _climb(self, passed_ns: int) -> None:
        """Count time on the ladder; it is kept with the trade, so that a restart does not begin it anew."""
        self.record = msgspec.structs.replace(
            self.record,
            repair_ms=self.record.repair_ms + passed_ns // 1_000_000,
            exposure=self._exposed_so_far(),
        )

    def _first_of_held(self) -> bool:
        """Return whether all that is missing is a leg that was held back for the other to fill first."""
        sent = {order.intent.leg for order in self.orders.values()}
        return self._repairs == 0 and any(leg.leg not in sent for leg in self._legs())

    def _release_held(self) -> None:
        """Give back what was reserved for legs that waited: the repair that sends them reserves what it needs."""
        for intent in self._held.values():
            self.desk.portfolio.settle(intent.client_order_id, Decimal(0), self.desk.clock.time_ns())
            self.desk.release_budget(intent)

    async def _send_repair(self, wanted: RepairOrder) -> bool:
        attempt = self._next_attempt(wanted.leg)
        if attempt > LAST_ATTEMPT:
            self._note(f"leg {wanted.leg} has used up its attempts")
            return False
        self._stem = self._stem or self.desk.ids.for_orders_of(self.record.trade_id)
        client_id = client_order_id(self._stem, wanted.leg, attempt)
        venue = self.desk.venues[wanted.purse]
        if (wait := venue.reserve_order(client_id)) > 0:
            self._note(f"the request budget of {wanted.market.exchange} was used up for {wait:.2f} s")
            return False
        decided_ns, now = self.desk.clock.monotonic_ns(), self.desk.clock.time_ns()
        asset, amount = needed(wanted.market, wanted.side, wanted.quantity, wanted.price)
        intent = OrderIntent(
            client_order_id=client_id,
            trade_id=self.record.trade_id,
            account_id=wanted.purse.account_id,
            market=wanted.market.key,
            leg=wanted.leg,
            attempt=attempt,
            side=wanted.side,
            price=wanted.price,
            quantity=wanted.quantity,
            deadline_ns=now + int(self.terms.order_timeout_ms * 1e6),
            created_ns=now,
            reserve_asset=asset,
            reserve_amount=amount,
        )
        try:
            self.desk.portfolio.reserve(intent.client_order_id, wanted.purse, asset, amount)
        except InsufficientFunds as error:
            self._note(str(error))
            venue.release_order(client_id)
            return False
        try:
            await self.desk.store.commit_repair(self.record, intent)
        except BaseException:
            venue.release_order(client_id)
            # It may be durable all the same: its id is not used for another order.
            self._in_doubt[wanted.leg] = attempt
            self.desk.portfolio.settle(intent.client_order_id, Decimal(0), now)
            raise
        self._repairs += attempt > 0
        self._held.pop(wanted.leg, None)  # its reservation is the order's own from here on
        order = Order(intent, OrderState.SENDING)
        self._add(order)
        self._check_sending()
        await self._send_decided(order, decided_ns)
        if order.state is OrderState.FAILED and order.sent_ns:
            self._refused[wanted.market.key] = (self.desk.clock.monotonic_ns(), self._causes.get(client_id, ""))
        return True

    def _refusal(self, market: str) -> str:
        """Say that a market has refused a repair a moment ago, as it most likely would the next; empty if not."""
        at_ns, cause = self._refused.get(market, (None, ""))
        if at_ns is None or self.desk.clock.monotonic_ns() - at_ns >= REFUSED_SECONDS * 1e9:
            return ""
        return f"{market} refused the last order: {cause}"

    def _next_attempt(self, leg: int) -> int:
        attempts = [order.intent.attempt for order in self.orders.values() if order.intent.leg == leg]
        return 1 + max([-1, *attempts, self._in_doubt.get(leg, -1)])

    async def _ask_for_fees(self) -> None:
        """Ask for fees that fills came without; the trade closes without them if the exchange is slow to tell."""
        for _ in range(FEE_QUESTIONS):
            pending = [resolution for resolution in self._resolutions.values() if resolution.order.fee_pending]
            if not pending:
                return
            await self.desk.clock.sleep(FEE_PAUSE_SECONDS)
            for resolution in pending:
                event = await resolution.query()
                if event is not None:
                    self.on_event(event)

    # -- what it comes to ---------------------------------------------------------------------------------------

    @property
    def blocked(self) -> str:
        """Why nothing more may be sent for this trade: an order's outcome is not known, or more filled than ordered."""
        for client_id, order in self.orders.items():
            if order.state in LIVE or not order.settled:
                return f"order {client_id} is {order.state.value}"
            if order.overfilled:
                return f"order {client_id} filled more than was ordered"
        return ""

    def tally(self) -> Tally:
        return tally(self.orders.values(), self.desk.markets)

    def result(self) -> Result:
        return result(self.tally(), self.record.base, self.record.quote, self.desk.value)

    def worst_residual(self) -> Decimal:
        """Return the larger of the two residuals possible, counting open orders as filled or not, in base units."""
        low = high = self.tally().residual
        for order in self.orders.values():
            rest = (order.most - order.filled) * self.desk.markets[order.intent.market].contract_size
            if order.intent.side == "buy":
                high += rest
            else:
                low -= rest
        return high if abs(high) >= abs(low) else low

    def _exposed_so_far(self) -> Decimal:
        return self._exposure.total(self.desk.clock.monotonic_ns()).quantize(EXPOSURE_STEP)

    def _close(self) -> None:
        self._release_held()
        self.finished = True
        self._restate()
        self.publish()
        self._on_change(self)

    def _restate(self, state: TradeState | None = None) -> None:
        """Recompute the record from the fills and queue it."""
        outcome = self.result()
        traded = bool(outcome.tally.bought or outcome.tally.sold)
        reasons = []
        if state is None:
            if self.blocked:
                state = TradeState.EXPOSED
                reasons.append(self.blocked)
                worst = self.worst_residual()
                if worst:
                    reasons.append(f"up to {abs(worst):f} {self.record.base} unhedged")
            elif not traded:
                state = TradeState.FAILED
                reasons.append(self._why_nothing())
            elif outcome.residual and not self._is_dust():
                state = TradeState.EXPOSED
                word = "bought and not sold" if outcome.residual > 0 else "sold and not bought"
                reasons.append(f"{abs(outcome.residual):f} {self.record.base} {word}")
                reasons += self._notes[-1:]
            else:
                state = TradeState.CLOSED
                if outcome.residual:
                    reasons.append(
                        f"{outcome.residual:f} {self.record.base} stays as inventory, below the smallest order"
                    )
        if outcome.tally.fees_pending:
            reasons.append(f"the fees of {outcome.tally.fees_pending} fills are not known yet")
        for asset, amount in outcome.unvalued.items():
            reasons.append(f"fees of {amount:f} {asset} have no price in {self.record.quote}")
        finished = state not in {TradeState.OPEN, TradeState.REPAIRING}
        self.record = msgspec.structs.replace(
            self.record,
            state=state,
            closed_ns=(self.record.closed_ns or self.desk.clock.time_ns()) if finished else 0,
            realised_profit=outcome.profit if traded and finished else None,
            residual_base=outcome.residual,
            fees=dict(outcome.tally.fees),
            reason="; ".join(reasons),
            exposure=self._exposed_so_far(),
            # What happens to a trade that came out even is another descent, with a ladder of its own.
            repair_ms=0 if state is TradeState.CLOSED else self.record.repair_ms,
        )
        self.desk.store.record_trade(self.record)

    def _why_nothing(self) -> str:
        causes = [
            f"{order.intent.side} on {order.intent.market}: {self._causes[client_id]}"
            for client_id, order in self.orders.items()
            if client_id in self._causes
        ]
        return "; ".join(causes) or "the orders ended unfilled"

    def publish(self) -> None:
        self.desk.publisher.publish(
            self.desk.owner_id,
            "trade",
            self.record.trade_id,
            trade_view(self.record, self.terms, self.orders.values(), self._exposed_so_far()),
        )

    def _note(self, text: str) -> None:
        if text not in self._notes:
            self._notes.append(text)
