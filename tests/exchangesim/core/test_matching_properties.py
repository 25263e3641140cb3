"""Whatever users and the market do, the exchange stays consistent."""

from __future__ import annotations

from decimal import Decimal

from hypothesis import HealthCheck, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, rule

from exchangesim.core.accounts import Account
from exchangesim.core.orders import NewOrder, Order, OrderType, Rejected, Side, Status, TimeInForce
from tests.exchangesim.core.venue import NATIVE, Heard, make_account, make_exchange, totals

D = Decimal
prices = st.integers(180, 220).map(lambda ticks: D(ticks) / 2)
quantities = st.integers(1, 500).map(lambda lots: D(lots) / 100)
sides = st.sampled_from(Side)
names = st.sampled_from(["alice", "bob", "carol"])


class Exchange(RuleBasedStateMachine):
    """Random orders, cancels, quotes and trades against a few accounts of modest means."""

    @initialize()
    def start(self) -> None:
        self.exchange = make_exchange()
        self.heard = Heard()
        self.exchange.listeners.append(self.heard)
        self.accounts: dict[str, Account] = {
            name: make_account(self.exchange, name, USDT="1000", BTC="10") for name in ("alice", "bob", "carol")
        }
        self.before = totals(self.exchange)
        self.orders: list[Order] = []
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
        self.exchange.played_trade(NATIVE, price, quantity, side)
        assert sum(trade.quantity for trade in self.heard.trades) - before == quantity

    def _place(self, name: str, new: NewOrder) -> None:
        try:
            order = self.exchange.place(self.accounts[name], new)
        except Rejected:
            return
        self.orders.append(order)
        if new.price is not None:
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
                    (o.reserved for o in self.exchange.open_orders(account) if o.reserved_asset == asset), D(0)
                )
                assert balance.locked == reserved

    @invariant()
    def an_open_order_reserves_what_its_rest_needs(self) -> None:
        for order in self.orders:
            needed = order.remaining * (order.price if order.side is Side.BUY else 1) if order.is_open else D(0)
            assert order.reserved == needed

    @invariant()
    def the_book_is_not_crossed_and_holds_every_open_order(self) -> None:
        book = self.exchange.markets[NATIVE].book
        if book.bids.best is not None and book.asks.best is not None:
            assert book.bids.best < book.asks.best
        resting = {order.id for order in book.resting()}
        assert resting == {order.id for order in self.orders if order.is_open}
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


TestExchange = Exchange.TestCase
TestExchange.settings = settings(
    max_examples=60, stateful_step_count=40, deadline=None, suppress_health_check=[HealthCheck.too_slow]
)
