"""Take-profit and stop-loss of one ticket: orders on the exchange where it has them, else levels the engine watches.

Both levels stand in the ticket's row, so a new process knows them. While the entry is still being worked, and wherever
the exchange cannot or will not hold them, the engine watches the best prices and says which level was reached.
"""

from __future__ import annotations

from collections.abc import Callable
from decimal import Decimal
from typing import TYPE_CHECKING

from trading.execution.order import Order
from trading.execution.placing import LAST_ATTEMPT
from trading.execution.position import OPPOSITE
from trading.execution.progress import PLACING_PROTECTION
from trading.execution.states import FAILED, FILLED, PARTIAL, RESTING
from trading.instruments import Side, limit_price
from trading.marketdata.hub import LIVE
from trading.messages import PROTECTIVE, OrderEvent, OrderIntent, OrderKind, OrderState, TimeInForce
from trading.ports import StoreUnavailable
from trading.tickets import CAP_BPS, STOP_LOSS_LEG, TAKE_PROFIT_LEG

if TYPE_CHECKING:
    from trading.execution.ticket import Ticket

BPS = Decimal(10_000)
YEAR_NS = 365 * 24 * 3600 * 10**9
KEPT_NS = 10 * YEAR_NS  # a protective order has no deadline of its own
BUDGET_SECONDS, BUDGET_PAUSE = 5.0, 0.1
GONE_QUESTIONS, GONE_PAUSE_SECONDS = 2, 1.0

LEGS = {OrderKind.TAKE_PROFIT: TAKE_PROFIT_LEG, OrderKind.STOP_LOSS: STOP_LOSS_LEG}
WORDS = {OrderKind.TAKE_PROFIT: "take-profit", OrderKind.STOP_LOSS: "stop-loss"}
EXCHANGE, ENGINE = "exchange", "engine"


class Protection:
    """``on_reached`` is called once when the engine's own watch sees a level reached."""

    def __init__(self, ticket: Ticket, on_reached: Callable[[], None]) -> None:
        self._ticket = ticket
        self._desk = ticket.desk
        self._on_reached = on_reached
        self._unwatch: Callable[[], None] | None = None
        self.reached: OrderKind | None = None
        self._given_up = ""  # why the exchange is not asked again to hold the levels
        asked = ticket.asked
        levels = ((OrderKind.TAKE_PROFIT, asked.take_profit), (OrderKind.STOP_LOSS, asked.stop_loss))
        self.levels = {kind: level for kind, level in levels if level is not None}

    @property
    def side(self) -> Side:
        """Of the orders that protect."""
        return OPPOSITE[self._ticket.asked.side]

    # -- the engine's own watch -----------------------------------------------------------------------------------

    def watch(self) -> None:
        """Look at the best prices from now on, whenever they change."""
        if self.levels and self._unwatch is None:
            self._unwatch = self._desk.watch(self._ticket.market, self.look)
            self.look()

    @property
    def is_watching(self) -> bool:
        return self._unwatch is not None

    def unwatch(self) -> None:
        if self._unwatch is not None:
            self._unwatch()
            self._unwatch = None

    def look(self) -> None:
        """See whether a level is reached: by the best price that closing would get."""
        if self.reached is not None or self._ticket.position().whole(self._ticket.market) <= 0:
            return
        price = self.closing_price()
        if price is not None and (kind := self.reached_at(price)) is not None:
            self.reached = kind
            self._on_reached()

    def reached_at(self, price: Decimal) -> OrderKind | None:
        """Return the level that a price has reached."""
        for kind, level in self.levels.items():
            # Of a long position the profit is taken above, the loss stopped below; of a short one the other way.
            above = (kind is OrderKind.TAKE_PROFIT) == (self.side == "sell")
            if price >= level if above else price <= level:
                return kind
        return None

    def closing_price(self, side: Side | None = None) -> Decimal | None:
        """Return the best price an order that closes would meet; None while the market is not live."""
        state = self._desk.market_state(self._ticket.market)
        if state is None or state.status != LIVE:
            return None
        best = state.bid if (side or self.side) == "sell" else state.ask
        return Decimal(repr(best)) if best > 0 else None

    # -- orders on the exchange -----------------------------------------------------------------------------------

    def orders(self) -> list[Order]:
        """Return the protective orders that may still do something."""
        orders = self._ticket.orders.values()
        return [order for order in orders if order.intent.kind in PROTECTIVE and not order.settled]

    def is_filling(self) -> bool:
        """Return whether the exchange is filling one of them."""
        return any(order.state is PARTIAL for order in self.orders())

    def stands(self, quantity: Decimal) -> bool:
        """Return whether a position of ``quantity`` is protected as was asked."""
        by = self._ticket.standing.protected_by
        if not self.levels:
            return True
        if by == ENGINE:
            return self.is_watching
        return by == EXCHANGE and self._rests(quantity)

    def _rests(self, quantity: Decimal) -> bool:
        """Return whether the exchange holds an order of this size for each level."""
        resting = [order for order in self.orders() if order.state in RESTING]
        sized = all(order.intent.quantity - order.filled == quantity for order in resting)
        return sized and {order.intent.kind for order in resting} == set(self.levels)

    def give_back(self, intents: dict[OrderKind, OrderIntent]) -> None:
        """Take back what did not become durable for certain: its ids are not used again."""
        self.release(intents)
        for intent in intents.values():
            self._ticket.placing.doubt(intent.leg, intent.attempt)

    def recognise(self, quantity: Decimal) -> None:
        """Take what left beside the entry, or by a process before, for the protection of ``quantity``, if it is all
        there and of that size."""
        ticket = self._ticket
        if self.levels and not ticket.standing.protected_by and self._rests(quantity):
            how = "sent beside the order" if ticket.beside.has_left else "it stands already"
            ticket.report.step(PLACING_PROTECTION, how)
            self.unwatch()
            ticket.tell(protected_by=EXCHANGE, protection_note="")

    async def place(self, quantity: Decimal) -> None:
        """Protect ``quantity``: by the exchange if it takes the orders, else by the engine's watch from now on."""
        ticket = self._ticket
        ticket.report.step(PLACING_PROTECTION)
        why = self._given_up or self.cannot()
        if not why:
            why = await self._send(quantity)
        if not why:
            self.unwatch()
            ticket.tell(protected_by=EXCHANGE, protection_note="")
            return
        if self.orders():
            return  # one of them stands, or its fate is not known: it is withdrawn first
        native = bool(self._desk.venues[ticket.purse].protects)
        ticket.tell(protected_by=ENGINE, protection_note=why if native else "")
        self.watch()

    def cannot(self) -> str:
        if not self._desk.venues[self._ticket.purse].protects:
            return f"{self._ticket.market.exchange} holds no protective orders"
        if any(self._ticket.placing.next_attempt(LEGS[kind]) > LAST_ATTEMPT for kind in self.levels):
            return "the protective orders of this trade have used up their ids"
        return ""

    async def _send(self, quantity: Decimal) -> str:
        """Send the orders together; return an empty string if they stand, else why they don't."""
        ticket, desk = self._ticket, self._desk
        intents = self.intents(quantity)
        for intent in intents.values():
            if not await self._budget(intent):
                self.release(intents)
                return f"the request budget of {ticket.market.exchange} is used up"
        try:
            await desk.store.commit_protection(ticket.record, tuple(intents.values()))
        except BaseException as error:
            self.give_back(intents)
            if isinstance(error, StoreUnavailable):
                return f"the store could not take the protective orders: {error}"
            raise
        orders = {kind: ticket.adopt(Order(intent, OrderState.SENDING)) for kind, intent in intents.items()}
        await ticket.send_protection(orders.get(OrderKind.TAKE_PROFIT), orders.get(OrderKind.STOP_LOSS))
        await ticket.know_all()
        for kind, order in orders.items():
            if order.state is FAILED or (order.settled and order.state is not FILLED):
                cause = ticket.cause_of(order.intent.client_order_id) or "no reason was given"
                self._given_up = f"the exchange refused the {WORDS[kind]}: {cause}"
                desk.alarm(f"trade {ticket.record.trade_id}: {self._given_up}; the engine watches its levels instead")
                return self._given_up
        return ""

    def intents(self, quantity: Decimal) -> dict[OrderKind, OrderIntent]:
        ticket, market = self._ticket, self._ticket.market
        now = self._desk.clock.time_ns()
        ids = {kind: ticket.placing.next_id(LEGS[kind]) for kind in self.levels}
        intents = {}
        for kind, level in self.levels.items():
            linked = next((other for its, other in ids.items() if its is not kind), "")
            intents[kind] = OrderIntent(
                client_order_id=ids[kind],
                trade_id=ticket.record.trade_id,
                account_id=ticket.purse.account_id,
                market=market.key,
                leg=LEGS[kind],
                attempt=ticket.placing.next_attempt(LEGS[kind]),
                side=self.side,
                kind=kind,
                time_in_force=TimeInForce.GTC,
                price=level if kind is OrderKind.TAKE_PROFIT else self.cap(level),
                quantity=quantity,
                reduce_only=market.kind != "spot",
                trigger=level,
                linked=linked,
                deadline_ns=now + KEPT_NS,
                created_ns=now,
            )
        return intents

    def cap(self, price: Decimal, side: Side | None = None) -> Decimal:
        """Return the worst price that a close beginning at ``price`` may be filled at, on the tick."""
        side = side or self.side
        reach = price * CAP_BPS / BPS
        worst = limit_price(self._ticket.market, price - reach if side == "sell" else price + reach, side)
        return max(worst, self._ticket.market.tick)

    async def _budget(self, intent: OrderIntent) -> bool:
        venue, clock = self._desk.venues[self._ticket.purse], self._desk.clock
        until_ns = clock.monotonic_ns() + int(BUDGET_SECONDS * 1e9)
        while venue.reserve_order(intent.client_order_id) > 0:
            if clock.monotonic_ns() >= until_ns:
                return False
            await clock.sleep(BUDGET_PAUSE)
        return True

    def release(self, intents: dict[OrderKind, OrderIntent]) -> None:
        for intent in intents.values():
            self._desk.release_budget(intent)

    async def check(self) -> None:
        """Ask the exchange whether the orders that should stand there do; what is gone is booked as cancelled."""
        for order in self.orders():
            if order.state in RESTING:
                await self._check(order)

    async def _check(self, order: Order) -> None:
        ticket, intent = self._ticket, order.intent
        for _ in range(GONE_QUESTIONS):
            event = await ticket.ask(order)
            if event is not None:
                ticket.on_event(event)
                return
            await self._desk.clock.sleep(GONE_PAUSE_SECONDS)
        fills = await self._desk.venues[ticket.purse].trades(intent.market, intent.created_ns)
        if fills is None:
            return  # not told: it counts as standing, and is asked for again with the next news
        own = tuple(fill for fill in fills if fill.client_order_id == intent.client_order_id)
        ticket.on_event(
            OrderEvent(
                account_id=intent.account_id,
                market=intent.market,
                client_order_id=intent.client_order_id,
                state=OrderState.CANCELLED,
                filled=order.filled if not own else sum((fill.quantity for fill in own), Decimal(0)),
                fills=own,
                source="engine",
                cause="gone: the exchange no longer knows it",
                received_ns=self._desk.clock.time_ns(),
            )
        )
