"""One trade from its committed intents to its result: a saga that owns its orders, repairs and outcome.

Everything it decides is recomputed from the orders' fills, so it can be taken up by another process at any point.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterable, Mapping
from decimal import Decimal

from trading.execution.desk import Desk, TradeTerms
from trading.execution.exposure import Exposure
from trading.execution.footprints import Footprint
from trading.execution.order import Order
from trading.execution.realised import Measure, Realised
from trading.execution.repair import is_dust
from trading.execution.repairs import Repairs
from trading.execution.reserving import spent
from trading.execution.resolver import Patience, Resolution
from trading.execution.result import Result, Tally, result, tally
from trading.execution.sender import Sender
from trading.execution.statement import Standing, stated
from trading.execution.states import LIVE, RESTING
from trading.execution.views import trade_view
from trading.messages import FINISHED_TRADES, OrderEvent, OrderIntent, OrderState, TradeRecord, TradeState
from trading.portfolio import Purse

EXPOSURE_STEP = Decimal("1e-6")
FEE_QUESTIONS = 2  # a fill's fee may come later than the fill; ask so often before closing without it
FEE_PAUSE_SECONDS = 1.0


class Saga:
    """A trade.

    ``register`` is told of each order once, before it is sent, so that events find their way here. ``on_change`` is
    called after every event that changed something, ``on_late_news`` when a finished trade turns out to have traded
    more, or a disputed order has ended after all: its owner is to run :meth:`settle` again. ``held`` are legs that
    wait for what the others fill: they are sent for as much, as the first step of the ladder. ``measures`` are what
    was seen of the first orders when they were decided.
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
        measures: Mapping[str, Measure] | None = None,
    ) -> None:
        self.desk = desk
        self.terms = terms
        self.record = record
        self._exposure = Exposure(record.exposure, desk.clock.monotonic_ns())
        self.orders: dict[str, Order] = {}
        self.finished = False
        self._patience = patience or Patience()
        self._resolutions: dict[str, Resolution] = {}
        self._on_change = on_change
        self._register = register
        self._on_late_news = on_late_news
        self.realised = Realised(desk, measures or {})
        self._sender = Sender(desk, self.on_event, self.realised)
        self._causes: dict[str, str] = {}  # the last cause the exchange (or we) gave, by client order id
        for order in orders:
            self._add(order)
        # Its record says so, and nothing it owns may still change it: all that can come is late news.
        self.finished = record.state in FINISHED_TRADES and all(order.settled for order in self.orders.values())
        self._repairs = Repairs(self, held)
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
        self._sender.check()
        self.desk.stages.record_ns("committed_to_sent", self.desk.clock.monotonic_ns() - committed_ns)
        await asyncio.gather(*(self._sender.send(order, self.purse_of(order), decided_ns) for order in orders))
        await self.settle()

    async def settle(self) -> None:
        """Bring every order to its end, repair what is unhedged, state the result. Callable again after late fills."""
        self.finished = False
        await self._resolve_all()
        while await self._repairs.send_next():
            await self._resolve_all()
        await self._ask_for_fees()
        self._close()

    def on_event(self, event: OrderEvent) -> None:
        """Book what the exchange said about one of this trade's orders."""
        order = self.orders[event.client_order_id]
        was_settled = order.settled
        self.realised.hear(order, event)
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
        if order.settled:
            self.realised.tell(order, self.record)
        self._resolutions[event.client_order_id].changed.notify()
        # Life in a disputed order, even by a fill that is known already, is a reason to ask again: nobody else would.
        undisputed = change.before is OrderState.DISPUTED and change.after is not OrderState.DISPUTED
        # So is a total that has grown: its fill may never be told.
        ended_late = self.finished and (bool(change.new_fills) or undisputed or order.settled is not was_settled)
        if self.finished and (ended_late or change.late_fees):
            self.restate()
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
        return {order.intent.market for order in self.orders.values()} | {leg.market for leg in self._repairs.legs()}

    # -- steps --------------------------------------------------------------------------------------------------

    async def send_repair(self, order: Order, decided_ns: int) -> None:
        """Send a further order, durable as SENDING, decided at this (monotonic) time."""
        self._add(order)
        self._sender.check()
        await self._sender.send(order, self.purse_of(order), decided_ns)

    async def _resolve_all(self) -> None:
        """Return once no order has anything more to find out; one in dispute may show life while others are asked."""
        while left := [resolution for resolution in self._resolutions.values() if not resolution.at_end]:
            await asyncio.gather(*(resolution.run(self.on_event) for resolution in left))

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

    def exposed_so_far(self) -> Decimal:
        """Return notional times seconds unhedged until now, in quote."""
        return self._exposure.total(self.desk.clock.monotonic_ns()).quantize(EXPOSURE_STEP)

    def is_dust(self) -> bool:
        """Return whether no market of the trade takes an order as small as its residual."""
        return is_dust(self.tally(), [self.desk.markets[key] for key in sorted(self.market_keys())])

    def cause_of(self, client_order_id: str) -> str:
        """Return the last cause given for what an order did, empty if none was."""
        return self._causes.get(client_order_id, "")

    def _close(self) -> None:
        self._repairs.release_held()
        self.finished = True
        self.restate()
        self.publish()
        self._on_change(self)

    def restate(self, state: TradeState | None = None) -> None:
        """Recompute the record from the fills and queue it."""
        standing = Standing(
            result=self.result(),
            blocked=self.blocked,
            worst=self.worst_residual(),
            is_dust=self.is_dust(),
            causes=[
                f"{order.intent.side} on {order.intent.market}: {self._causes[client_id]}"
                for client_id, order in self.orders.items()
                if client_id in self._causes
            ],
            note=self._repairs.note,
        )
        now_ns = self.desk.clock.time_ns()
        self.record = stated(self.record, standing, now_ns=now_ns, exposure=self.exposed_so_far(), state=state)
        self.desk.store.record_trade(self.record)

    def publish(self) -> None:
        self.desk.publisher.publish(
            self.desk.owner_id,
            "trade",
            self.record.trade_id,
            trade_view(self.record, self.terms, self.orders.values(), self.exposed_so_far()),
        )
