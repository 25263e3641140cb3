"""What an operator decides about an order whose fate could not be proven.

A decision is checked against what the order is and, where it names an order of the exchange, against what the exchange
says; what passes becomes an ordinary event of the order, so that its trade settles and hedges what follows.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterable, MutableMapping, Sequence
from decimal import Decimal
from enum import StrEnum

import msgspec

from trading.execution.desk import Desk
from trading.execution.ids import is_ours
from trading.execution.order import Order
from trading.execution.takeup import StoredOrder
from trading.execution.trade import Trade
from trading.execution.trades import Trades
from trading.messages import Fill, OrderEvent, OrderIntent, OrderState, TradeMode, TradeRecord, TradeState
from trading.portfolio import Purse
from trading.ports import LeaseLost, StoreUnavailable, Venue

ZERO = Decimal(0)
MARGIN_NS = 60 * 10**9  # exchanges' clocks differ from ours
NO_ANSWER = "The exchange does not answer now; nothing is changed, try again."
Left = tuple[TradeRecord, Sequence[StoredOrder], str]


class DecisionKind(StrEnum):
    ABSENT = "absent"  # the exchange never had it
    ADOPT = "adopt"  # it is this order of the exchange's
    FILLED = "filled"  # it filled like this, and works no more


class OrderDecision(msgspec.Struct, frozen=True, kw_only=True):
    """What a person says became of an order. ``fills`` are theirs (FILLED), ``cause`` goes to the order's history."""

    client_order_id: str
    kind: DecisionKind
    exchange_order_id: str = ""
    fills: tuple[Fill, ...] = ()
    cause: str


class Decisions:
    """Carries out decisions for one engine, one at a time.

    ``left`` are the trades that could not be taken up (their account is not in use): decisions on their orders are
    booked all the same. ``take_up`` takes up an unfinished trade that this engine does not follow.
    """

    def __init__(
        self,
        desk: Desk,
        trades: Trades,
        prefix: str,
        left: Callable[[], MutableMapping[str, Left]],
        take_up: Callable[[Iterable[tuple[TradeRecord, Sequence[StoredOrder]]]], None],
    ) -> None:
        self._desk = desk
        self._trades = trades
        self._prefix = prefix
        self._left = left
        self._take_up = take_up
        self._one_at_a_time = asyncio.Lock()

    async def decide(self, decision: OrderDecision) -> str:
        """Book a decision; return an empty string, or one sentence why it was not booked."""
        async with self._one_at_a_time:
            try:
                found = await self._find(decision.client_order_id)
            except (StoreUnavailable, LeaseLost) as error:
                return f"The order can't be read now: {error}."
            if found is None:
                return "No trade of this owner has this order: look at the order's page again."
            saga, order, venue = found
            event = await self._event(decision, order, venue)
            if isinstance(event, str):
                return event
            if moved := _moved_on(order):  # the stream may have told meanwhile
                return moved
            if saga is None:
                self._book_left(order, event)
            else:
                self._trades.on_event(event)
                self._trades.settle_again(saga)
            return ""

    # -- finding it -----------------------------------------------------------------------------------------------

    async def _find(self, client_id: str) -> tuple[Trade | None, Order, Venue | None] | None:
        followed = self._followed(client_id)
        if followed is None and self._left_order(client_id) is None:
            stored = await self._desk.store.trade_of(client_id)
            if stored is None:
                return None
            order = next(_restored(row) for row in stored[1] if row[0].client_order_id == client_id)
            if _moved_on(order):  # a finished trade is left alone
                return None, order, None
            self._take_up([stored])
            followed = self._followed(client_id)
        return followed or self._left_order(client_id)

    def _followed(self, client_id: str) -> tuple[Trade, Order, Venue | None] | None:
        saga = self._trades.of_order(client_id)
        if saga is None:
            return None
        order = saga.orders[client_id]
        return saga, order, self._desk.venues.get(saga.purse_of(order))

    def _left_order(self, client_id: str) -> tuple[None, Order, Venue | None] | None:
        for record, rows, _ in self._left().values():
            for row in rows:
                if row[0].client_order_id == client_id:
                    purse = Purse(row[0].account_id, record.mode == TradeMode.PAPER)
                    return None, _restored(row), self._desk.venues.get(purse)
        return None

    # -- judging it -----------------------------------------------------------------------------------------------

    async def _event(self, decision: OrderDecision, order: Order, venue: Venue | None) -> OrderEvent | str:
        """Return the event the decision amounts to, or why it can't be."""
        if moved := _moved_on(order):
            return moved
        if decision.kind is DecisionKind.ABSENT:
            if order.claimed:
                return f"The exchange has named {order.claimed:f} of it as filled: it was there, so name its fills."
            return self._make(decision, order, OrderState.FAILED, ())
        if decision.kind is DecisionKind.FILLED:
            if refusal := fills_refusal(order, decision.fills):
                return refusal
            return self._closed(decision, order, decision.fills)
        if venue is None:
            account = order.intent.account_id
            return (
                f"Account {account} is not connected, so the exchange can't be asked: mark it absent or name its fills."
            )
        return await self._adopted(decision, order, venue)

    async def _adopted(self, decision: OrderDecision, order: Order, venue: Venue) -> OrderEvent | str:
        wanted, intent = decision.exchange_order_id, order.intent
        told = await venue.query(intent)
        if told is not None and told.exchange_order_id:
            if told.exchange_order_id != wanted:
                return f"The exchange has our order as {told.exchange_order_id} (given {wanted}): adopt that one."
            return msgspec.structs.replace(told, source="operator", cause=decision.cause)
        open_orders = await venue.open_orders()
        if open_orders is None:
            return NO_ANSWER
        for event in open_orders:
            if event.exchange_order_id == wanted:
                if self._is_another(event.client_order_id, intent):
                    return f"Order {wanted} belongs to our order {event.client_order_id}."
                return (
                    f"Order {wanted} is still open on {event.market}: "
                    "cancel it on the exchange, then adopt what it filled."
                )
        fills = await self._executions(wanted, intent, venue)
        if isinstance(fills, str):
            return fills
        return self._closed(decision, order, fills)

    async def _executions(self, wanted: str, intent: OrderIntent, venue: Venue) -> tuple[Fill, ...] | str:
        """Return what an order of the exchange's executed, as our order's fills."""
        markets = [intent.market]
        markets += [one.key for one in self._desk.markets.values() if one.exchange == venue.exchange]
        for market in dict.fromkeys(markets):
            told = await venue.trades(market, intent.created_ns - MARGIN_NS)
            if told is None:
                if market == intent.market:
                    return NO_ANSWER
                continue
            fills = [fill for fill in told if fill.exchange_order_id == wanted]
            if not fills:
                continue
            if market != intent.market:
                return f"Order {wanted} is on {market}, ours is on {intent.market}."
            for fill in fills:
                if fill.side != intent.side:
                    return f"Order {wanted} is a {fill.side}, ours is a {intent.side}."
                if self._is_another(fill.client_order_id, intent):
                    return f"Order {wanted} belongs to our order {fill.client_order_id}."
            return tuple(msgspec.structs.replace(fill, client_order_id=intent.client_order_id) for fill in fills)
        return (
            f"Order {wanted} is not open and has executed nothing on {intent.market} since ours was made: "
            "if the exchange shows that it ended unfilled, mark ours absent."
        )

    def _is_another(self, client_id: str, intent: OrderIntent) -> bool:
        return client_id != intent.client_order_id and is_ours(client_id, self._prefix, self._desk.owner_id)

    def _closed(self, decision: OrderDecision, order: Order, fills: tuple[Fill, ...]) -> OrderEvent | str:
        """Return the event of an order that has these fills, with those known, and works no more."""
        total = _total(order, fills)
        if total < order.claimed:
            return f"The exchange has named {order.claimed:f} as filled, the fills come to {total:f}: name all of them."
        state = OrderState.FILLED if total >= order.intent.quantity else OrderState.CANCELLED
        return self._make(decision, order, state, fills)

    def _make(self, decision: OrderDecision, order: Order, state: OrderState, fills: tuple[Fill, ...]) -> OrderEvent:
        intent = order.intent
        return OrderEvent(
            account_id=intent.account_id,
            market=intent.market,
            client_order_id=intent.client_order_id,
            exchange_order_id=decision.exchange_order_id,
            state=state,
            filled=_total(order, fills),
            fills=fills,
            source="operator",
            cause=decision.cause,
            received_ns=self._desk.clock.time_ns(),
        )

    # -- without a trade that follows it ----------------------------------------------------------------------------

    def _book_left(self, order: Order, event: OrderEvent) -> None:
        """Book it in the store, and mark the trade unfinished: whoever can take it up settles and hedges it then."""
        order.apply(event)
        self._desk.store.record_event(event, order.state.value)
        left = self._left()
        for trade_id, (record, rows, why) in list(left.items()):
            if not any(intent.client_order_id == event.client_order_id for intent, _, _ in rows):
                continue
            decided = [
                (intent, order.state.value, (*past, event)) if intent.client_order_id == event.client_order_id else row
                for row in rows
                for intent, _, past in [row]
            ]
            waiting = msgspec.structs.replace(
                record, state=TradeState.REPAIRING, closed_ns=0, reason=f"an order was decided; not settled: {why}"
            )
            left[trade_id] = (waiting, decided, why)
            self._desk.store.record_trade(waiting)


def _restored(row: StoredOrder) -> Order:
    intent, stored, past = row
    order = Order(intent, OrderState(stored))
    for event in past:
        order.restore(event)
    return order


def fills_refusal(order: Order, fills: Sequence[Fill]) -> str:
    """Return why fills a person names can't be those of an order, or an empty string."""
    intent = order.intent
    if not fills:
        return "Name at least one fill; an order without any is marked absent."
    if len({fill.exchange_trade_id for fill in fills}) != len(fills):
        return "Each fill needs an exchange trade id of its own: one is given twice."
    for fill in fills:
        if fill.side != intent.side:
            return f"Fill {fill.exchange_trade_id} is a {fill.side}, the order is a {intent.side}."
    total = _total(order, fills)
    if total > intent.quantity:
        return f"The order is for {intent.quantity:f}: its fills may not come to more (given {total:f})."
    return ""


def _total(order: Order, fills: Iterable[Fill]) -> Decimal:
    """Return what an order has filled with these fills and those known, each counted once."""
    every = {fill.exchange_trade_id: fill.quantity for fill in (*order.fills.values(), *fills)}
    return sum(every.values(), ZERO)


def _moved_on(order: Order) -> str:
    if order.state is OrderState.DISPUTED:
        return ""
    return f"The order is no longer disputed: it is {order.state.value}, {order.filled:f} filled."
