"""Whatever users and the market do, the exchange stays consistent."""

from __future__ import annotations

from decimal import Decimal
from typing import Any

from hypothesis import HealthCheck, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, rule

from exchangesim.core.accounts import Account
from exchangesim.core.order_lists import NewList, OrderList
from exchangesim.core.orders import NewOrder, Order, OrderType, Rejected, Side, Status, TimeInForce, Trigger
from exchangesim.core.policy import ExchangePolicy
from tests.exchangesim.core.venue import NATIVE, Heard, make_account, make_exchange, totals

D = Decimal
prices = st.integers(180, 220).map(lambda ticks: D(ticks) / 2)
quantities = st.integers(1, 500).map(lambda lots: D(lots) / 100)
sides = st.sampled_from(Side)
names = st.sampled_from(["alice", "bob", "carol"])


class Exchange(RuleBasedStateMachine):
    """Random orders, cancels, quotes and trades against a few accounts of modest means."""

    policy = ExchangePolicy()

    @initialize()
    def start(self) -> None:
        self.exchange = make_exchange(policy=self.policy)
        self.heard = Heard()
        self.exchange.listeners.append(self.heard)
        self.accounts: dict[str, Account] = {
            name: make_account(self.exchange, name, USDT="1000", BTC="10") for name in ("alice", "bob", "carol")
        }
        self.before = totals(self.exchange)
        self.orders: list[Order] = []
        self.lists: list[OrderList] = []
        self.mirror: dict[Side, dict[Decimal, Decimal]] = {Side.BUY: {}, Side.SELL: {}}
        self.followed = self.exchange.markets[NATIVE].update_id

    @rule(
        name=names,
        side=sides,
        price=prices,
        quantity=quantities,
        force=st.sampled_from(TimeInForce),
        post_only=st.booleans(),
    )
    def limit(
        self, name: str, side: Side, price: Decimal, quantity: Decimal, force: TimeInForce, post_only: bool
    ) -> None:
        if post_only:
            force = TimeInForce.GTC
        self._place(
            name,
            NewOrder(
                native=NATIVE,
                side=side,
                type=OrderType.LIMIT,
                time_in_force=force,
                price=price,
                quantity=quantity,
                post_only=post_only,
            ),
        )

    @rule(name=names, side=sides, quantity=quantities, by_quote=st.booleans())
    def market(self, name: str, side: Side, quantity: Decimal, by_quote: bool) -> None:
        self._place(
            name,
            NewOrder(
                native=NATIVE,
                side=side,
                type=OrderType.MARKET,
                quantity=None if by_quote else quantity,
                quote_quantity=quantity * 100 if by_quote else None,
            ),
        )

    @rule(
        name=names,
        side=sides,
        at=prices,
        rises=st.booleans(),
        price=st.none() | prices,
        quantity=quantities,
        reserves=st.booleans(),
    )
    def conditional(
        self,
        name: str,
        side: Side,
        at: Decimal,
        rises: bool,
        price: Decimal | None,
        quantity: Decimal,
        reserves: bool,
    ) -> None:
        trigger = Trigger(price=at, rises=rises, reserves=reserves)
        self._place(name, _order(side, price, quantity, trigger=trigger))

    @rule(
        name=names,
        side=sides,
        limit=prices,
        stop=prices,
        stop_limit=st.none() | prices,
        quantity=quantities,
        working=st.none() | prices,
    )
    def pair(
        self,
        name: str,
        side: Side,
        limit: Decimal,
        stop: Decimal,
        stop_limit: Decimal | None,
        quantity: Decimal,
        working: Decimal | None,
    ) -> None:
        trigger = Trigger(price=stop, rises=side is Side.BUY)
        new = NewList(
            legs=(
                _order(side, limit, quantity, post_only=True),
                _order(side, stop_limit, quantity, trigger=trigger),
            ),
            working=None if working is None else _order(side.opposite, working, quantity * 2),
            legs_take_fill=working is not None and quantity > 2,
        )
        try:
            placed = self.exchange.lists.place(self.accounts[name], new)
        except Rejected:
            return
        self.lists.append(placed)
        self.orders += self.exchange.lists.orders(placed)

    @rule(choice=st.integers(0, 1_000_000))
    def cancel(self, choice: int) -> None:
        still_open = [order for order in self.orders if order.is_open]
        if still_open:
            order = still_open[choice % len(still_open)]
            self.exchange.cancel(self.exchange.accounts[order.api_key], order_id=order.id)
            assert order.status is Status.CANCELED

    @rule(
        bids=st.lists(st.tuples(prices, st.integers(0, 500).map(lambda lots: D(lots) / 100)), max_size=4),
        asks=st.lists(st.tuples(prices, st.integers(0, 500).map(lambda lots: D(lots) / 100)), max_size=4),
        replace=st.booleans(),
    )
    def quote(self, bids: list[tuple[Decimal, Decimal]], asks: list[tuple[Decimal, Decimal]], replace: bool) -> None:
        self.exchange.apply_levels(NATIVE, bids, asks, replace=replace)

    @rule(side=sides, quantity=quantities)
    def trade(self, side: Side, quantity: Decimal) -> None:
        assert self.exchange.market_trade(NATIVE, side, quantity) <= quantity

    @rule(price=prices, quantity=quantities, side=sides)
    def played(self, price: Decimal, quantity: Decimal, side: Side) -> None:
        before = sum(trade.quantity for trade in self.heard.trades)
        waiting = [order for order in self.orders if order.is_open and order.idle]
        self.exchange.played_trade(NATIVE, price, quantity, side)
        triggered = [order for order in waiting if not (order.is_open and order.idle)]
        added = sum(trade.quantity for trade in self.heard.trades) - before
        assert added == quantity or (triggered and added > quantity)

    def _place(self, name: str, new: NewOrder) -> None:
        try:
            order = self.exchange.place(self.accounts[name], new)
        except Rejected:
            return
        self.orders.append(order)
        if new.price is not None and new.trigger is None:
            at_limit = new.price * order.filled
            better = at_limit - order.filled_quote if new.side is Side.BUY else order.filled_quote - at_limit
            assert better >= 0, "never worse than the limit"

    @invariant()
    def funds_are_conserved(self) -> None:
        assert totals(self.exchange) == self.before

    @invariant()
    def no_balance_is_negative_and_locks_are_what_open_orders_reserve(self) -> None:
        for account in self.accounts.values():
            for asset, balance in account.balances.items():
                assert balance.free >= 0
                reserved = sum(
                    (o.reserved for o in self.exchange.shelf.open(account) if o.reserved_asset == asset), D(0)
                )
                assert balance.locked == reserved

    @invariant()
    def an_open_order_reserves_what_its_rest_needs(self) -> None:
        paired = {order_id for pair in self.lists if pair.is_open for order_id in pair.legs}
        for order in self.orders:
            if order.id not in paired:
                assert order.reserved == _needed(order)

    @invariant()
    def the_legs_of_a_list_share_one_reservation(self) -> None:
        for pair in self.lists:
            orders = {order.id: order for order in self.exchange.lists.orders(pair)}
            legs = [orders[order_id] for order_id in pair.legs]
            working = orders.get(pair.working)
            assert sum(1 for leg in legs if leg.filled) <= 1, "never both"
            if not pair.is_open:
                assert sum(1 for order in orders.values() if order.is_open) <= 1
            elif working is not None and working.is_open:
                assert all(leg.status is Status.PENDING_NEW and not leg.reserved for leg in legs)
            else:
                assert all(leg.status is Status.NEW for leg in legs)
                assert sum(leg.reserved for leg in legs) == max(_needed(leg) for leg in legs)

    @invariant()
    def no_order_waits_for_what_has_come(self) -> None:
        last = self.exchange.markets[NATIVE].last_price
        for order in self.orders:
            if order.is_open and order.idle and order.status is not Status.PENDING_NEW:
                assert order.trigger is not None
                assert not order.trigger.reached(last)

    @invariant()
    def the_book_is_not_crossed_and_holds_every_open_order(self) -> None:
        book = self.exchange.markets[NATIVE].book
        if book.bids.best is not None and book.asks.best is not None:
            assert book.bids.best < book.asks.best
        resting = {order.id for order in book.resting()}
        assert resting == {order.id for order in self.orders if order.is_open and not order.idle}
        for side in (book.bids, book.asks):
            for level in side.levels.values():
                assert level.total > 0
                ahead = [order.ahead for order in level.orders]
                assert ahead == sorted(ahead), "who came later has no less in front"
                assert all(value <= level.market for value in ahead)

    @invariant()
    def fills_sum_to_what_orders_say(self) -> None:
        filled: dict[int, Decimal] = {}
        amount: dict[int, Decimal] = {}
        for fill in self.exchange.store.fills("test", limit=100_000):
            filled[fill.order_id] = filled.get(fill.order_id, D(0)) + fill.quantity
            amount[fill.order_id] = amount.get(fill.order_id, D(0)) + fill.quote_quantity
        for order in self.orders:
            assert filled.get(order.id, D(0)) == order.filled <= order.quantity
            assert amount.get(order.id, D(0)) == order.filled_quote
            if order.status is Status.FILLED:
                assert order.remaining == 0
            stored = self.exchange.store.order("test", order.id)
            assert stored is not None
            assert (stored.status, stored.filled) == (order.status, order.filled)

    @invariant()
    def a_book_kept_from_the_changes_equals_the_exchanges(self) -> None:
        for change in self.heard.changes:
            assert change.first_id == self.followed + 1
            self.followed = change.last_id
            for side, rows in ((Side.BUY, change.bids), (Side.SELL, change.asks)):
                for price, quantity in rows:
                    if quantity:
                        self.mirror[side][price] = quantity
                    else:
                        self.mirror[side].pop(price, None)
        self.heard.changes.clear()
        book = self.exchange.markets[NATIVE].book
        for side in (book.bids, book.asks):
            assert self.mirror[side.side] == {price: level.total for price, level in side.levels.items()}


def _order(side: Side, price: Decimal | None, quantity: Decimal, **fields: Any) -> NewOrder:
    type_ = OrderType.MARKET if price is None else OrderType.LIMIT
    return NewOrder(native=NATIVE, side=side, type=type_, price=price, quantity=quantity, **fields)


def _needed(order: Order) -> Decimal:
    trigger = order.trigger
    if not order.is_open or order.status is Status.PENDING_NEW:
        return D(0)
    if trigger is not None and order.idle and not trigger.reserves:
        return D(0)
    price = trigger.price if trigger is not None and order.type is OrderType.MARKET else order.price
    return order.remaining * price if order.side is Side.BUY else order.remaining


class LenientExchange(Exchange):
    """One that accepts post-only orders and late triggers and deals with them then, as OKX and Bybit do."""

    policy = ExchangePolicy(post_only_refused=False, late_triggers_fire=True)


SETTINGS = settings(
    max_examples=60, stateful_step_count=40, deadline=None, suppress_health_check=[HealthCheck.too_slow]
)
TestExchange, TestLenientExchange = Exchange.TestCase, LenientExchange.TestCase
TestExchange.settings = TestLenientExchange.settings = SETTINGS
