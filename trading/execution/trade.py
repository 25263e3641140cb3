"""What every trade is: orders that are durable before they leave, the events booked on them, and what they come to.

What a trade does about it is its own kind's matter: :class:`trading.execution.saga.Saga` hedges an opportunity's legs,
:class:`trading.execution.ticket.Ticket` holds and protects what was traded by hand,
:class:`trading.execution.basis_trade.BasisTrade` holds a pair of legs that hedge each other. Everything is recomputed
from the orders' fills, so a trade can be taken up by another process at any point.
"""

from __future__ import annotations

import asyncio
from abc import ABC, abstractmethod
from collections.abc import Callable, Iterable, Mapping, Sequence
from decimal import Decimal

import msgspec

from trading.execution.desk import Desk, TradeTerms
from trading.execution.exposure import Exposure
from trading.execution.footprints import Footprint
from trading.execution.order import Change, Order
from trading.execution.placing import LAST_ATTEMPT, Placing
from trading.execution.realised import Measure, Realised
from trading.execution.reserving import spent
from trading.execution.resolver import Patience, Resolution
from trading.execution.result import Result, Tally, result, tally
from trading.execution.sender import Sender
from trading.execution.states import LIVE, MAY_REST, RESTING
from trading.execution.workings import Workings
from trading.instruments import Market, Side
from trading.messages import (
    FINISHED_TRADES,
    Fill,
    OrderEvent,
    OrderIntent,
    OrderKind,
    OrderState,
    TradeRecord,
    TradeState,
)
from trading.portfolio import Purse

EXPOSURE_STEP = Decimal("1e-6")
FEE_QUESTIONS = 2  # a fill's fee may come later than the fill; ask so often before closing without it
FEE_PAUSE_SECONDS = 1.0


class Trade(ABC):
    """One trade of an engine's.

    ``register`` is told of each order once, before it is sent, so that events find their way here. ``on_change`` is
    called after every event that changed something, ``on_late_news`` when a trade that nobody is working on turns out
    to have work to do: its owner is to run :meth:`settle` again. ``measures`` are what was seen of the first orders
    when they were decided.
    """

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
        self.placing = Placing(self)
        self.workings = Workings(self)
        self._exposure.tell(self.unhedged(), desk.clock.monotonic_ns())

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

    @abstractmethod
    async def settle(self) -> None:
        """See the trade through as far as it goes by itself. Callable again at any time after that."""

    @abstractmethod
    def restate(self, state: TradeState | None = None) -> None:
        """Recompute the record from the fills and queue it; ``state`` is given while the trade is under way."""

    @abstractmethod
    def publish(self) -> None:
        """Tell pages how it stands."""

    @abstractmethod
    def market_keys(self) -> set[str]:
        """Return the markets it has orders on, or may yet."""

    def is_one_legged(self) -> bool:
        """Return whether only one of the legs that were to hedge each other has filled."""
        return False

    @property
    def holds(self) -> bool:
        """Whether it holds a position on purpose, and nothing is in flight."""
        return False

    @property
    def unsettled(self) -> int:
        """How many of its orders may still do something that has to be waited for."""
        return sum(not order.settled for order in self.orders.values())

    async def commit(self, *intents: OrderIntent) -> None:
        """Make further orders durable, all or none; raises StoreUnavailable or LeaseLost."""
        if len(intents) == 1:
            await self.desk.store.commit_repair(self.record, intents[0])
        else:
            await self.desk.store.commit_protection(self.record, intents)

    def has_news(self, change: Change, order: Order, *, has_ended: bool) -> bool:
        """Return whether what an event changed asks for work that nobody may be doing; ``has_ended`` says that nothing
        more is to come of the order, which was not known before."""
        # Life in a disputed order, even by a fill that is known already, is a reason to ask again: nobody else would.
        undisputed = change.before is OrderState.DISPUTED and change.after is not OrderState.DISPUTED
        return self.finished and (bool(change.new_fills) or undisputed or has_ended)

    def on_event(self, event: OrderEvent) -> None:
        """Book what the exchange said about one of this trade's orders."""
        order = self.orders[event.client_order_id]
        was_settled = order.settled
        self.realised.hear(order, event)
        change = order.apply(event)
        if not change.anything and order.settled is was_settled:  # a total that is named settles what ended before
            if event.path:  # the stream was first to tell of it, and does not know how it left
                self.desk.store.record_event(event, order.state.value)
            return
        if event.cause:
            self._causes[event.client_order_id] = event.cause
        if order.note and change.before is OrderState.SENDING:  # whoever is the first to tell of it
            event = msgspec.structs.replace(event, cause="; ".join(part for part in (event.cause, order.note) if part))
        self.desk.store.record_event(event, order.state.value)
        if change.alarm:
            self.desk.alarm(change.alarm)
        purse, market = self.purse_of(order), self.desk.markets[order.intent.market]
        if change.new_fills:
            for fill in change.new_fills:
                self.desk.explained.book(purse, market, fill)
                self.desk.holdings.book(purse, market, fill)
            self._exposure.tell(self.unhedged(), self.desk.clock.monotonic_ns())
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
        elif order.state in RESTING and order.intent.time_in_force in MAY_REST:
            # What it met is taken; while it rests, others take from it.
            self.desk.footprints.end(event.client_order_id, self.desk.clock.monotonic_ns())
        if order.settled:
            self.realised.tell(order, self.record)
        self._resolutions[event.client_order_id].changed.notify()
        self.workings.notify()
        # A total that has grown is news too: its fill may never be told.
        news = self.has_news(change, order, has_ended=order.settled is not was_settled)
        if self.finished and (news or change.late_fees):
            self.restate()
        self.publish()
        self._on_change(self)
        if news:
            self._on_late_news(self)

    # -- what its exchange closes by itself ---------------------------------------------------------------------

    def contracts(self, market: str) -> Decimal:
        """Return what its fills hold in a market, in the market's own unit; negative when short."""
        total = Decimal(0)
        for order in self.orders.values():
            if order.intent.market == market:
                total += order.filled if order.intent.side == "buy" else -order.filled
        return total

    def closing_legs(self, market: Market) -> Iterable[int]:
        """Return the numbers of the legs that what the exchange closes in a contract is booked as.

        They begin where the trade's own closing orders end: one of those may be being made durable at this moment.
        """
        return ()

    def take_closed(self, fill: Fill, words: str) -> bool:
        """Own an execution by which the exchange closed some of what it holds; return whether there was room for it.

        It becomes an order of its own, filled, whose first event makes it durable.
        """
        market = self.desk.markets[fill.market]
        legs = (leg for leg in self.closing_legs(market) if self.placing.next_attempt(leg) <= LAST_ATTEMPT)
        leg = next(iter(legs), None)
        if leg is None:
            return False
        now = self.desk.clock.time_ns()
        intent = OrderIntent(
            client_order_id=self.placing.next_id(leg),
            trade_id=self.record.trade_id,
            account_id=fill.account_id,
            market=fill.market,
            leg=leg,
            attempt=self.placing.next_attempt(leg),
            side=fill.side,
            kind=OrderKind(fill.forced),
            price=fill.price,
            quantity=fill.quantity,
            reduce_only=True,
            deadline_ns=now,
            created_ns=now,
        )
        self._add(Order(intent, OrderState.SENDING))
        self.on_event(
            OrderEvent(
                account_id=fill.account_id,
                market=fill.market,
                client_order_id=intent.client_order_id,
                state=OrderState.FILLED,
                filled=fill.quantity,
                fills=(msgspec.structs.replace(fill, client_order_id=intent.client_order_id),),
                source="stream",
                cause=words,
                exchange_ns=fill.exchange_ns,
                received_ns=now,
                made=intent,
            )
        )
        return True

    def wake(self, purse: Purse) -> None:
        """Ask about this account's unsettled orders now: its private stream is back, and may have missed something."""
        for resolution in self._resolutions.values():
            if self.purse_of(resolution.order) == purse and not resolution.order.settled:
                resolution.ask_now()

    def purse_of(self, order: Order) -> Purse:
        """Return whose money an order of this trade uses."""
        return self.terms.purses[self.desk.markets[order.intent.market].exchange]

    # -- steps --------------------------------------------------------------------------------------------------

    async def send_further(self, orders: Sequence[Order], decided_ns: int) -> None:
        """Send further orders together, durable as SENDING, decided at this (monotonic) time."""
        for order in orders:
            self._add(order)
        self._sender.check()
        await asyncio.gather(*(self._sender.send(order, self.purse_of(order), decided_ns) for order in orders))

    async def resolve(self, order: Order) -> None:
        """Return once there is nothing more to find out about one order."""
        await self._resolutions[order.intent.client_order_id].run(self.on_event)

    async def cancel_order(self, order: Order) -> None:
        """Ask to cancel one order; :meth:`resolve` sees to it that it ends."""
        await self._resolutions[order.intent.client_order_id].cancel(self.on_event)

    def is_over(self, order: Order) -> bool:
        """Return whether nothing more can be found out about an order, settled or not."""
        return self._resolutions[order.intent.client_order_id].at_end

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

    def unhedged(self) -> Tally:
        """Return what of its fills is to be hedged."""
        return self.tally()

    def reduces(self, market: Market, side: Side) -> bool:
        """Return whether an order of its would only close what it holds of a contract."""
        return False

    def result(self) -> Result:
        return result(self.tally(), self.record.base, self.record.quote, self.desk.value)

    def worst_residual(self) -> Decimal:
        """Return the larger of the two residuals possible, counting open orders as filled or not, in base units."""
        low = high = self.unhedged().residual
        for order in self.orders.values():
            rest = (order.most - order.filled) * self.desk.markets[order.intent.market].contract_size
            if order.intent.side == "buy":
                high += rest
            else:
                low -= rest
        return high if abs(high) >= abs(low) else low

    def worst_notional(self) -> Decimal:
        """Return the most it may hold unhedged in its quote asset: at what it cost, or the dearest it may yet."""
        vwap = self.tally().vwap
        price = (
            vwap
            if vwap is not None
            else max((order.intent.price for order in self.orders.values()), default=Decimal(0))
        )
        return abs(self.worst_residual()) * price

    def exposed_so_far(self) -> Decimal:
        """Return notional times seconds unhedged until now, in quote."""
        return self._exposure.total(self.desk.clock.monotonic_ns()).quantize(EXPOSURE_STEP)

    def cause_of(self, client_order_id: str) -> str:
        """Return the last cause given for what an order did, empty if none was."""
        return self._causes.get(client_order_id, "")

    def causes(self) -> Sequence[str]:
        """Return what was said of orders, by side and market."""
        return [
            f"{order.intent.side} on {order.intent.market}: {self._causes[client_id]}"
            for client_id, order in self.orders.items()
            if client_id in self._causes
        ]
