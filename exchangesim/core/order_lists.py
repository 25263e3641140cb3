"""Order lists: legs of which one ends the other, alone or behind a working order that must fill first.

An OCO pair is a list of two legs: when one is triggered or begins to fill, the other is ended, and a leg that is
cancelled takes the other along. With a working order the legs are pending until it is filled whole, and end with it.
The legs share one reservation, as large as the more costly of them needs.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from decimal import Decimal
from typing import TYPE_CHECKING

from exchangesim.core.accounts import Account
from exchangesim.core.checks import check_funds
from exchangesim.core.market import SimMarket
from exchangesim.core.matching import floor_to
from exchangesim.core.orders import (
    ZERO,
    CloseReason,
    ExecutionType,
    NewOrder,
    Order,
    Reject,
    Rejected,
    Side,
    Status,
    Trigger,
)

if TYPE_CHECKING:
    from exchangesim.core.exchange import SimExchange


@dataclass(frozen=True, slots=True, kw_only=True)
class NewList:
    """An order list as asked for: one or two ``legs``, for the same market and side, and the order before them."""

    legs: tuple[NewOrder, ...]
    working: NewOrder | None = None
    client_id: str = ""
    legs_take_fill: bool = False
    """The legs sell (or buy back) what the working order has brought, whatever their own quantity says."""
    tags: dict[str, str] = field(default_factory=dict)


@dataclass(slots=True, kw_only=True)
class OrderList:
    """An accepted order list. Done (not ``is_open``) as soon as at most one of its orders is left."""

    id: int
    client_id: str
    api_key: str
    native: str
    legs: list[int]
    """Order ids."""
    working: int = 0
    """Id of the working order; zero without one."""
    legs_take_fill: bool = False
    is_open: bool = True
    created_ms: int
    updated_ms: int
    tags: dict[str, str] = field(default_factory=dict)

    @property
    def order_ids(self) -> list[int]:
        return [self.working, *self.legs] if self.working else self.legs


class OrderLists:
    """The order lists of one exchange. A part of ``SimExchange``, hence the use of what that keeps to itself."""

    def __init__(self, exchange: SimExchange) -> None:
        self._exchange = exchange
        self._ids = exchange._counter("list", exchange.policy.first_list_id)
        found = exchange.store.order_lists(exchange.name, open_only=True, limit=1_000_000)
        self._open = {order_list.id: order_list for order_list in found}

    # Asking

    def open_lists(self, account: Account, native: str | None = None) -> list[OrderList]:
        """Return the account's open lists, oldest first."""
        return [
            found
            for found in self._open.values()
            if found.api_key == account.api_key and (native is None or found.native == native)
        ]

    def find(self, account: Account, *, list_id: int | None = None, client_id: str | None = None) -> OrderList | None:
        """Return the account's list by id, or the newest by client id."""
        store, name = self._exchange.store, self._exchange.name
        found: OrderList | None = None
        if list_id is not None:
            found = self._open.get(list_id) or store.order_list(name, list_id)
        elif client_id:
            stored = store.order_list_by_client_id(name, account.api_key, client_id)
            found = None if stored is None else self._open.get(stored.id, stored)
        return found if found is not None and found.api_key == account.api_key else None

    def orders(self, order_list: OrderList) -> list[Order]:
        """Return the list's orders, the working one first; those that were lost are left out."""
        found = (self._exchange.shelf.any(order_id) for order_id in order_list.order_ids)
        return [order for order in found if order is not None]

    # Placing

    def check(self, account: Account, new: NewList) -> SimMarket:
        """Make every check that ``place`` makes. Raises Rejected."""
        exchange, working = self._exchange, new.working
        members = (new.working, *new.legs) if working is not None else new.legs
        for count, member in enumerate(members):
            assert member is not None
            market = exchange.check_terms(account, member, besides=count)
        ids = [member.client_id for member in members if member is not None and member.client_id]
        if len(set(ids)) < len(ids):
            raise Rejected(Reject.DUPLICATE_CLIENT_ID, "Two orders of the list have the same client order id.")
        opened = self.open_lists(account, market.native)
        if len(opened) >= exchange.policy.max_lists:
            raise Rejected(Reject.TOO_MANY_LISTS, f"{len(opened)} order lists are open in {market.native}.")
        if new.client_id and any(other.client_id == new.client_id for other in self.open_lists(account)):
            raise Rejected(Reject.DUPLICATE_LIST_ID, f"List id {new.client_id!r} is taken.")
        if working is None:
            trigger = new.legs[0].trigger
            if len(new.legs) == 1 and trigger is not None:
                exchange.check_trigger(market, trigger)
            _check_relation(new.legs, market.last_price)
            _shared_need(new.legs, market, account)
            exchange.check_post_only(market, *new.legs)
        else:
            _check_relation(new.legs, None)
            check_funds(working, market, account)
            exchange.check_post_only(market, working)
        return market

    def place(self, account: Account, new: NewList) -> OrderList:
        """Accept a list, and match what of it goes to the book at once. Raises Rejected before anything exists."""
        exchange = self._exchange
        market, settlement, now = self.check(account, new), exchange._settlement, exchange.clock.time_ms()
        list_id = self._ids.take()
        working = None if new.working is None else exchange.make_order(account, new.working, now, list_id=list_id)
        legs = [exchange.make_order(account, leg, now, list_id=list_id) for leg in new.legs]
        order_list = self._open[list_id] = OrderList(
            id=list_id,
            client_id=new.client_id or exchange.policy.make_list_id(list_id),
            api_key=account.api_key,
            native=market.native,
            legs=[leg.id for leg in legs],
            working=0 if working is None else working.id,
            legs_take_fill=new.legs_take_fill,
            created_ms=now,
            updated_ms=now,
            tags=dict(new.tags),
        )
        if working is None:
            self._hold(account, market, legs, now)
        else:
            assert new.working is not None
            settlement.reserve(account, working, check_funds(new.working, market, account))
            settlement.report(account, working, ExecutionType.NEW, now)
            for leg in legs:
                leg.idle, leg.status = True, Status.PENDING_NEW
                settlement.report(account, leg, ExecutionType.NEW, now)
        settlement.report_list(account, order_list, now)
        for order in legs if working is None else [working]:
            if not order.idle:
                exchange._work(account, market, order, now)
        exchange._finish(market, now)
        if working is not None:
            exchange.overfill(working)
        return order_list

    def cancel(self, account: Account, order_list: OrderList, *, cancel_client_id: str = "") -> None:
        """Cancel all of an open list. Raises Rejected: ORDER_CLOSED."""
        first = next((order for order in self.orders(order_list) if order.is_open), None)
        if first is None or not order_list.is_open:
            raise Rejected(Reject.ORDER_CLOSED, "The order list is done.")
        self._exchange.cancel(account, order_id=first.id, cancel_client_id=cancel_client_id)

    # What follows from what happened to its orders

    def follow(self, now: int) -> bool:
        """Do what the lists say about the orders that the running operation has touched.

        Returns whether pending legs were placed.
        """
        placed = False
        while (list_id := self._exchange._settlement.next_listed()) is not None:
            order_list = self._open.get(list_id)
            if order_list is not None:
                placed = self._follow(order_list, now) or placed
        return placed

    def begin(self, order: Order, now: int) -> None:
        """End the other legs of a leg that is about to be triggered, so that it can have what they reserved."""
        order_list = self._open.get(order.list_id)
        if order_list is not None:
            others = [other for other in self.orders(order_list) if other.id != order.id]
            self._end(order_list, others, Status.EXPIRED, CloseReason.OTHER_LEG, now, order)

    def _follow(self, order_list: OrderList, now: int) -> bool:
        orders = {order.id: order for order in self.orders(order_list)}
        working = orders.pop(order_list.working, None)
        legs = list(orders.values())
        if working is not None and working.is_open:
            ended = next((leg for leg in legs if not leg.is_open), None)
            if ended is not None:
                self._end_others(order_list, ended, Status.CANCELED, CloseReason.REQUESTED, now)
            return False
        if any(leg.status is Status.PENDING_NEW for leg in legs):
            brought = working is not None and working.filled > 0 and order_list.legs_take_fill
            if working is not None and (working.status is Status.FILLED or brought):
                return self._activate(order_list, working, legs, now)
            status = Status.EXPIRED if working is None else working.status
            status = Status.CANCELED if status is Status.CANCELED else Status.EXPIRED
            self._end_all(order_list, legs, status, CloseReason.WORKING_ENDED, now, working)
            return False
        # One that is triggered has ended the others already: what it leaves of itself rests.
        begun = next((leg for leg in legs if leg.filled or _is_triggered(leg)), None)
        begun = begun or next((leg for leg in legs if not leg.is_open), None)
        if begun is not None:
            requested = begun.status is Status.CANCELED and not begun.filled
            status, reason = (
                (Status.CANCELED, CloseReason.REQUESTED) if requested else (Status.EXPIRED, CloseReason.OTHER_LEG)
            )
            self._end_others(order_list, begun, status, reason, now)
        elif len(legs) < 2 and not any(leg.idle for leg in legs):
            self._done(order_list, now)
        return False

    def _activate(self, order_list: OrderList, working: Order, legs: list[Order], now: int) -> bool:
        """Place the pending legs, or end them when they can no longer be placed; tells which."""
        exchange = self._exchange
        account, market = exchange.accounts[order_list.api_key], exchange.markets[order_list.native]
        if order_list.legs_take_fill:
            brought = working.filled - working.fees.get(market.rules.base, ZERO) * (working.side is Side.BUY)
            for leg in legs:
                leg.quantity = floor_to(brought, market.rules.lot)
        wanted = tuple(exchange.as_new(leg) for leg in legs)
        try:
            if not exchange.policy.late_triggers_fire:
                _check_relation(wanted, market.last_price)
            _shared_need(wanted, market, account)
            exchange.check_post_only(market, *wanted)
        except Rejected:
            self._end_all(order_list, legs, Status.EXPIRED, CloseReason.REFUSED, now, None)
            return False
        for leg in legs:
            leg.status, leg.idle = Status.NEW, leg.trigger is not None
            leg.working_ms = 0 if leg.idle else now
        self._hold(account, market, legs, now)
        exchange._settlement.report_list(account, order_list, now)
        for leg in legs:
            if not leg.idle:
                exchange._work(account, market, leg, now)
        return True

    def _hold(self, account: Account, market: SimMarket, legs: list[Order], now: int) -> None:
        """Reserve for the legs together, tell of each, and let the conditional ones wait."""
        exchange = self._exchange
        holder = next((leg for leg in legs if leg.trigger is None), legs[0])
        needed = _shared_need(tuple(exchange.as_new(leg) for leg in legs), market, account)
        exchange._settlement.reserve(account, holder, needed)
        for leg in legs:
            exchange._settlement.report(account, leg, ExecutionType.NEW, now)
            if leg.trigger is not None:
                exchange.arm(leg)

    def _end_others(self, order_list: OrderList, begun: Order, status: Status, reason: CloseReason, now: int) -> None:
        others = [order for order in self.orders(order_list) if order.id != begun.id]
        self._end_all(order_list, others, status, reason, now, begun)

    def _end_all(
        self,
        order_list: OrderList,
        orders: list[Order],
        status: Status,
        reason: CloseReason,
        now: int,
        cause: Order | None,
    ) -> None:
        self._end(order_list, orders, status, reason, now, cause)
        if cause is not None and cause.is_open and not cause.idle and cause.reserved:  # it held the more costly leg's
            account = self._exchange.accounts[order_list.api_key]
            self._exchange._settlement.reserve(account, cause, _need_of_rest(cause))
        self._done(order_list, now)

    def _end(
        self,
        order_list: OrderList,
        orders: list[Order],
        status: Status,
        reason: CloseReason,
        now: int,
        cause: Order | None,
    ) -> None:
        exchange = self._exchange
        account = exchange.accounts[order_list.api_key]
        for order in orders:
            if order.is_open:
                if cause is not None and status is Status.CANCELED:
                    order.cancel_client_id = cause.cancel_client_id
                if not order.idle:
                    exchange.markets[order.native].book.side(order.side).remove_if_there(order)
                exchange._settlement.end(account, order, status, reason, now)

    def _done(self, order_list: OrderList, now: int) -> None:
        if self._open.pop(order_list.id, None) is not None:
            order_list.is_open = False
            account = self._exchange.accounts[order_list.api_key]
            self._exchange._settlement.report_list(account, order_list, now)


def _is_triggered(leg: Order) -> bool:
    return leg.trigger is not None and not leg.idle


def _need_of_rest(order: Order) -> Decimal:
    return order.remaining * order.price if order.side is Side.BUY else order.remaining


def _shared_need(legs: tuple[NewOrder, ...], market: SimMarket, account: Account) -> Decimal:
    """Return what the more costly leg reserves; conditional ones may reserve nothing. Raises Rejected when short."""
    reserving = [leg for leg in legs if leg.trigger is None or leg.trigger.reserves]
    return max((check_funds(leg, market, account) for leg in reserving), default=ZERO)


def _check_relation(legs: tuple[NewOrder, ...], last: Decimal | None) -> None:
    """Refuse two legs of which not one waits for a rise and one, below it, for a fall; from ``last``, when given.

    A resting limit leg waits for the price to come to it: a sell for a rise, a buy for a fall. Raises Rejected.
    """
    if len(legs) < 2:
        return
    ways = [(leg.side is Side.SELL, leg.price) if leg.trigger is None else _way(leg.trigger) for leg in legs]
    above = [price for rises, price in ways if rises and price is not None]
    below = [price for rises, price in ways if not rises and price is not None]
    if len(above) != 1 or len(below) != 1 or above <= below or (last is not None and not below[0] < last < above[0]):
        around = "" if last is None else f", on either side of the last price {last}"
        raise Rejected(Reject.PRICE_RELATION, f"One leg must be above the other{around}.")


def _way(trigger: Trigger) -> tuple[bool, Decimal | None]:
    return trigger.rises, trigger.price
