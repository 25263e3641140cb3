"""Makes one further order of a trade durable, and sends it: its id, its reservation, its budget of requests."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from decimal import Decimal
from typing import TYPE_CHECKING

import msgspec

from trading.execution.ids import client_order_id
from trading.execution.order import Order
from trading.execution.reserving import needed
from trading.execution.states import MAY_REST
from trading.instruments import Market, Side
from trading.messages import MADE_BY_EXCHANGE, OrderIntent, OrderState, TimeInForce
from trading.portfolio import InsufficientFunds, Purse

if TYPE_CHECKING:
    from trading.execution.trade import Trade

LAST_ATTEMPT = 35  # what a client order id has room for


class Placement(msgspec.Struct, frozen=True, kw_only=True):
    """A wanted order: ``quantity`` in the market's own unit, ``price`` its limit; it is cancelled after ``seconds``
    (None: after its bot's order timeout)."""

    leg: int
    market: Market
    purse: Purse
    side: Side
    price: Decimal
    quantity: Decimal
    time_in_force: TimeInForce = TimeInForce.IOC
    seconds: float | None = None
    note: str = ""  # how it is worked, for its history
    reduce_only: bool = False  # it closes a position of its trade's: nothing is reserved for it on a derivative


class Placing:
    """Sends the orders of one trade beyond its first ones. ``count`` are those of them that were further attempts."""

    def __init__(self, trade: Trade) -> None:
        self._trade = trade
        self._desk = trade.desk
        sent = (order.intent for order in trade.orders.values() if order.intent.kind not in MADE_BY_EXCHANGE)
        self.count = sum(intent.attempt > 0 for intent in sent)
        self._notes: list[str] = []
        self._stem = ""  # what further orders of this trade are named after
        self._in_doubt: dict[int, int] = {}  # by leg, the last attempt whose commit the store would not confirm

    @property
    def last_note(self) -> str:
        """The last reason why an order was not sent."""
        return self._notes[-1] if self._notes else ""

    def note(self, text: str) -> None:
        if text not in self._notes:
            self._notes.append(text)

    async def place(self, wanted: Placement) -> Order | None:
        """Send an order, durable as SENDING; return it with what became of it, or None, with a note, if it was not.

        Raises StoreUnavailable or LeaseLost; then nothing was sent.
        """
        orders = await self.place_together([wanted])
        return orders[0] if orders else None

    async def place_together(self, wanted: Sequence[Placement]) -> list[Order]:
        """Send orders of different legs together, all or, with a note, none; see :meth:`place`."""
        trade, desk = self._trade, self._desk
        had: list[tuple[Placement, OrderIntent]] = []
        for one in wanted:
            intent = self._have(one)
            if intent is None:
                self._give_back(had)
                return []
            had.append((one, intent))
        decided_ns = desk.clock.monotonic_ns()
        try:
            await trade.commit(*(intent for _, intent in had))
        except BaseException:
            for one, intent in had:  # it may be durable all the same: its id is not used for another order
                self.doubt(one.leg, intent.attempt)
            self._give_back(had)
            raise
        orders = [Order(intent, OrderState.SENDING) for _, intent in had]
        for order, (one, _) in zip(orders, had, strict=True):
            order.note = one.note
        self.count += sum(order.intent.attempt > 0 for order in orders)
        await trade.send_further(orders, decided_ns)
        return orders

    def _have(self, wanted: Placement) -> OrderIntent | None:
        """Take the budget and the money of an order; return its intent, or None, with a note, if they are not had."""
        trade, desk = self._trade, self._desk
        attempt = self.next_attempt(wanted.leg)
        if attempt > LAST_ATTEMPT:
            self.note(f"leg {wanted.leg} has used up its attempts")
            return None
        client_id = self.next_id(wanted.leg)
        venue = desk.venues[wanted.purse]
        if (wait := venue.reserve_order(client_id)) > 0:
            self.note(f"the request budget of {wanted.market.exchange} was used up for {wait:.2f} s")
            return None
        now = desk.clock.time_ns()
        ticket = trade.record.ticket
        asset, amount = needed(
            wanted.market,
            wanted.side,
            wanted.quantity,
            wanted.price,
            leverage=trade.terms.leverage if ticket is None else ticket.leverage,
            mark=desk.middle(wanted.market),
        )
        if wanted.reduce_only:
            asset, amount = "", Decimal(0)
        seconds = trade.terms.order_timeout_ms / 1000 if wanted.seconds is None else wanted.seconds
        intent = OrderIntent(
            client_order_id=client_id,
            trade_id=trade.record.trade_id,
            account_id=wanted.purse.account_id,
            market=wanted.market.key,
            leg=wanted.leg,
            attempt=attempt,
            side=wanted.side,
            time_in_force=wanted.time_in_force,
            price=wanted.price,
            quantity=wanted.quantity,
            reduce_only=wanted.reduce_only,
            deadline_ns=now + int(seconds * 1e9),
            created_ns=now,
            reserve_asset=asset,
            reserve_amount=amount,
        )
        if not trade.terms.paper and wanted.time_in_force not in MAY_REST:
            trade.realised.decide(intent)  # one that rests slips nowhere, and would teach that nothing does
        try:
            if asset:
                desk.portfolio.reserve(intent.client_order_id, wanted.purse, asset, amount)
        except InsufficientFunds as error:
            self.note(str(error))
            venue.release_order(client_id)
            return None
        return intent

    def _give_back(self, had: Iterable[tuple[Placement, OrderIntent]]) -> None:
        for one, intent in had:
            self._desk.venues[one.purse].release_order(intent.client_order_id)
            self._desk.portfolio.settle(intent.client_order_id, Decimal(0), self._desk.clock.time_ns())

    def doubt(self, leg: int, attempt: int) -> None:
        """Note an attempt that may be durable though its commit failed: its id is not used again."""
        self._in_doubt[leg] = attempt

    def next_id(self, leg: int) -> str:
        """Return the client order id of a leg's next attempt."""
        self._stem = self._stem or self._desk.ids.for_orders_of(self._trade.record.trade_id)
        return client_order_id(self._stem, leg, self.next_attempt(leg))

    def next_attempt(self, leg: int) -> int:
        """Return the number of a leg's next attempt; above LAST_ATTEMPT there is none."""
        attempts = [order.intent.attempt for order in self._trade.orders.values() if order.intent.leg == leg]
        return 1 + max([-1, *attempts, self._in_doubt.get(leg, -1)])
