"""Whatever users, prices and funding do, contracts make and lose nothing: one's gain is another's loss."""

from __future__ import annotations

from decimal import Decimal

from hypothesis import HealthCheck, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, rule

from exchangesim.core.futures.algo_orders import NewAlgo
from exchangesim.core.orders import NewOrder, OrderType, PositionSide, Rejected, Side, TimeInForce
from tests.exchangesim.futures.contracts import NATIVE, make_account, make_contracts, set_price, worth

D = Decimal
NAMES = ("alice", "bob", "carol")
names = st.sampled_from(NAMES)
quantities = st.integers(1, 400).map(lambda lots: D(lots) / 1000)
prices = st.integers(420_000, 580_000).map(lambda ticks: D(ticks) / 10)


class Contracts(RuleBasedStateMachine):
    """Random orders, price moves and fundings against accounts of modest means: one hedged, one isolated."""

    @initialize()
    def start(self) -> None:
        self.exchange = make_contracts()
        self.accounts = {name: make_account(self.exchange, name, "2000") for name in NAMES}
        self.exchange.set_hedged(self.accounts["bob"], True)
        self.exchange.set_isolated(self.accounts["carol"], NATIVE, True)
        for account in self.accounts.values():
            self.exchange.set_leverage(account, NATIVE, 50)
        self.brought = D("6000")

    @rule(
        name=names,
        side=st.sampled_from(Side),
        quantity=quantities,
        price=st.none() | prices,
        reduce_only=st.booleans(),
        force=st.sampled_from(TimeInForce),
        long=st.booleans(),
    )
    def order(
        self,
        name: str,
        side: Side,
        quantity: Decimal,
        price: Decimal | None,
        reduce_only: bool,
        force: TimeInForce,
        long: bool,
    ) -> None:
        hedged = PositionSide.LONG if long else PositionSide.SHORT
        try:
            self.exchange.place(
                self.accounts[name],
                NewOrder(
                    native=NATIVE,
                    side=side,
                    type=OrderType.MARKET if price is None else OrderType.LIMIT,
                    price=price,
                    quantity=quantity,
                    time_in_force=TimeInForce.GTC if price is None else force,
                    reduce_only=reduce_only,
                    position_side=hedged if name == "bob" else PositionSide.BOTH,
                ),
            )
        except Rejected:
            return

    @rule(
        name=names,
        side=st.sampled_from(Side),
        quantity=st.none() | quantities,
        price=prices,
        takes_profit=st.booleans(),
        source=st.sampled_from(["last", "mark"]),
        long=st.booleans(),
    )
    def conditional(
        self,
        name: str,
        side: Side,
        quantity: Decimal | None,
        price: Decimal,
        takes_profit: bool,
        source: str,
        long: bool,
    ) -> None:
        hedged = PositionSide.LONG if long else PositionSide.SHORT
        try:
            self.exchange.algos.place(
                self.accounts[name],
                NewAlgo(
                    native=NATIVE,
                    side=side,
                    takes_profit=takes_profit,
                    trigger_price=price,
                    source=source,
                    quantity=quantity,
                    position_side=hedged if name == "bob" else PositionSide.BOTH,
                ),
            )
        except Rejected:
            return

    @rule(price=prices, depth=st.sampled_from(["0.05", "1000"]))
    def move(self, price: Decimal, depth: str) -> None:
        set_price(self.exchange, price, depth=depth)

    @rule(rate=st.integers(-200, 200).map(lambda parts: D(parts) / 10_000))
    def fund(self, rate: Decimal) -> None:
        self.exchange.set_rate(NATIVE, rate)
        self.exchange.fund(NATIVE)

    @rule(name=names, amount=st.integers(-500, 500).map(D))
    def transfer(self, name: str, amount: Decimal) -> None:
        try:
            self.exchange.transfer(self.accounts[name], "USDT", amount)
        except Rejected:
            return
        self.brought += amount

    @invariant()
    def nothing_is_made_or_lost(self) -> None:
        assert abs(worth(self.exchange) - self.brought) < D("1e-12")

    @invariant()
    def the_market_holds_what_users_owe(self) -> None:
        held = sum((position.quantity for position in self.exchange.positions()), D(0))
        assert held + self.exchange.market_flow.get("BTC", D(0)) == 0

    @invariant()
    def statements_add_up_to_wallets(self) -> None:
        for name, account in self.accounts.items():
            entries = self.exchange.store.entries(self.exchange.name, api_key=name, limit=100_000)
            assert account.free("USDT") == 2000 + sum((entry.amount for entry in entries), D(0))

    @invariant()
    def hedged_positions_keep_their_sides_and_reduce_only_orders_their_bounds(self) -> None:
        for position in self.exchange.positions():
            assert position.side is not PositionSide.LONG or position.quantity > 0
            assert position.side is not PositionSide.SHORT or position.quantity < 0
        for account in self.accounts.values():
            left: dict[tuple[PositionSide, Side], Decimal] = {}
            for order in self.exchange.shelf.open(account):
                if order.reduce_only:
                    key = (order.position_side, order.side)
                    left[key] = left.get(key, D(0)) + order.remaining
            for (position_side, side), quantity in left.items():
                assert quantity <= self.exchange.position(account, NATIVE, position_side).reducible(side)

    @invariant()
    def nobody_is_left_below_maintenance_margin(self) -> None:
        self.exchange.tick()
        for account in self.accounts.values():
            margin = self.exchange.margin(account, "USDT")
            assert not margin.cross_maintenance or margin.cross_balance > margin.cross_maintenance
            assert account.free("USDT") >= 0 or margin.positions


TestContracts = Contracts.TestCase
TestContracts.settings = settings(
    max_examples=60, stateful_step_count=30, deadline=None, suppress_health_check=list(HealthCheck)
)
