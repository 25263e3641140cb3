"""One simulated venue: accounts, orders and markets, and the listeners that hear what happens.

Everything here is synchronous and takes effect at once; latency, faults and wire formats are the faces' affair. Every
operation commits what it changed to the store before it returns, and tells listeners in the order things happened:
``on_order`` NEW, per match ``on_order`` TRADE, each followed by ``on_balances``; then the trades and the book's change.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from dataclasses import replace
from decimal import Decimal

from exchangesim.core.accounts import Account
from exchangesim.core.checks import check_funds, check_shape
from exchangesim.core.clock import Clock
from exchangesim.core.coins import Coins
from exchangesim.core.irregular import Irregular
from exchangesim.core.listener import ExchangeListener
from exchangesim.core.market import SimMarket
from exchangesim.core.matching import floor_to, match_quantity, quantity_worth, reachable
from exchangesim.core.order_lists import OrderLists
from exchangesim.core.order_shelf import OrderShelf
from exchangesim.core.orders import (
    ZERO,
    BookChange,
    CloseReason,
    Execution,
    ExecutionType,
    Fill,
    NewOrder,
    Order,
    OrderType,
    Reject,
    Rejected,
    Side,
    Status,
    TimeInForce,
    Trigger,
)
from exchangesim.core.policy import POLICIES, ExchangePolicy
from exchangesim.core.reads import ReadLag
from exchangesim.core.rules import SymbolRules
from exchangesim.core.settlement import Settlement
from exchangesim.core.state import Counter, Store
from exchangesim.core.triggers import LAST, Triggers


class SimExchange:
    """One venue. See the module's text for order of events and durability."""

    settlement_class: type[Settlement] = Settlement

    def __init__(
        self,
        name: str,
        rules: Iterable[SymbolRules],
        prices: Mapping[str, Decimal],
        *,
        store: Store | None = None,
        clock: Clock | None = None,
        policy: ExchangePolicy | None = None,
        irregular: Irregular | None = None,
    ) -> None:
        """``prices`` gives each market's last price to begin with, by unified symbol."""
        self.name = name
        self.clock = clock or Clock()
        self.store = store or Store()
        self.policy = policy or POLICIES.get(name, ExchangePolicy())
        self.irregular = irregular or Irregular(name)
        self.reads = ReadLag()
        self.listeners: list[ExchangeListener] = []
        self.markets: dict[str, SimMarket] = {}
        """By native name."""
        self.by_symbol: dict[str, SimMarket] = {}
        for rule in rules:
            market = SimMarket(rule, last_price=prices[rule.symbol])
            self.markets[rule.native] = self.by_symbol[rule.symbol] = market
        self.coins = Coins(
            asset for market in self.markets.values() for asset in (market.rules.base, market.rules.quote)
        )
        self.accounts: dict[str, Account] = {account.api_key: account for account in self.store.accounts(name)}
        counter = self._counter
        self._order_ids = counter("order", self.policy.first_order_id)
        self._trade_ids = counter("trade", self.policy.first_trade_id)
        self._aggregate_ids = counter("aggregate", self.policy.first_trade_id)
        self._execution_ids = counter("execution", 1)
        self._update_ids = {
            native: self._counter(f"update:{native}", self.policy.first_update_id, 100_000) for native in self.markets
        }
        self.shelf = OrderShelf(name, self.store, self.clock, self.reads)
        self._settlement = self.settlement_class(self)
        self.price_sources: dict[str, Callable[[SimMarket], Decimal]] = {LAST: lambda market: market.last_price}
        """What a trigger may watch; whoever adds a source tells ``triggers.observe`` when its price moves."""
        self.triggers: Triggers[Order] = Triggers(self._fire)
        self.lists = OrderLists(self)
        for market in self.markets.values():
            market.update_id = self._update_ids[market.native].take()
        for order in self.store.open_orders(name):
            if order.native in self.markets:
                self.shelf.add(order)
                if not order.idle:
                    self.markets[order.native].book.side(order.side).add(order)
                elif order.trigger is not None and order.status is not Status.PENDING_NEW:
                    self.arm(order)
        for market in self.markets.values():
            market.book.collect_changes()
            market.top = market.compute_top()

    @property
    def fees(self) -> dict[str, Decimal]:
        """Fees taken so far, by asset."""
        return self._settlement.fees

    @property
    def market_flow(self) -> dict[str, Decimal]:
        """What the market's own side has won from users (negative: lost) so far, by asset."""
        return self._settlement.market_flow

    # Accounts

    def put_account(
        self,
        api_key: str,
        secret: str,
        *,
        passphrase: str = "",
        balances: Mapping[str, Decimal] | None = None,
        permissions: Iterable[str] = ("read", "trade"),
    ) -> tuple[Account, bool]:
        """Make an account, or give an existing one new keys and permissions; balances are set only when it is made.

        Returns the account and whether it was made.
        """
        account = self.accounts.get(api_key)
        made = account is None
        if account is None:
            account = Account(api_key=api_key, uid=354_937_868 + len(self.accounts), secret=secret)
            account.updated_ms = self.clock.time_ms()
            self.accounts[api_key] = account
            for asset, amount in (balances or {}).items():
                account.credit(asset, amount)
        account.secret, account.passphrase, account.permissions = secret, passphrase, frozenset(permissions)
        self.store.commit(self.name, accounts=[account])
        return account, made

    def revoke(self, account: Account, revoked: bool) -> None:
        """Let a key no longer (or again) be known; sockets that are open are the face's affair."""
        account.revoked = revoked
        self.store.commit(self.name, accounts=[account])

    def transfer(self, account: Account, asset: str, delta: Decimal) -> None:
        """Add to or take from an account's free balance, as a deposit or withdrawal would. Raises Rejected."""
        if account.free(asset) + delta < 0:
            raise Rejected(
                Reject.INSUFFICIENT_BALANCE, f"{account.free(asset)} {asset} free, cannot take {-delta}.", asset=asset
            )
        account.credit(asset, delta)
        now = account.updated_ms = self.clock.time_ms()
        self.store.commit(self.name, accounts=[account])
        for listener in self.listeners:
            listener.on_transfer(account, asset, delta, now)

    # Orders

    def check(self, account: Account, new: NewOrder) -> SimMarket:
        """Make every check that ``place`` makes, without placing. Returns the market; raises Rejected."""
        market = self.check_terms(account, new)
        if new.trigger is not None:
            self.check_trigger(market, new.trigger)
            if not new.trigger.reserves:
                return market
        self.needed(account, new, market)
        self.check_post_only(market, new)
        return market

    def check_terms(self, account: Account, new: NewOrder, *, besides: int = 0) -> SimMarket:
        """Check all of an order but its funds and what the book says; ``besides`` others come with it."""
        if "trade" not in account.permissions:
            raise Rejected(Reject.PERMISSION, "This key may not trade.")
        market = self.markets.get(new.native)
        if market is None:
            raise Rejected(Reject.UNKNOWN_SYMBOL, f"There is no market {new.native!r}.")
        check_shape(new, market)
        if new.client_id and self._client_id_taken(account, new.client_id):
            raise Rejected(Reject.DUPLICATE_CLIENT_ID, f"Client order id {new.client_id!r} is taken.")
        open_here = [o for o in self.shelf if o.api_key == account.api_key and o.native == new.native]
        if len(open_here) + besides >= market.rules.max_open_orders:
            raise Rejected(Reject.TOO_MANY_OPEN_ORDERS, f"{len(open_here)} orders are open in {new.native}.")
        if new.trigger is not None:
            waiting = sum(1 for order in open_here if order.trigger is not None)
            if waiting >= self.policy.max_conditional:
                raise Rejected(Reject.TOO_MANY_CONDITIONAL, f"{waiting} conditional orders are open in {new.native}.")
        return market

    def check_trigger(self, market: SimMarket, trigger: Trigger) -> None:
        """Refuse a trigger that its price has reached already. Raises Rejected."""
        if trigger.reached(self.price_sources[trigger.source](market)):
            raise Rejected(Reject.WOULD_TRIGGER, f"The trigger price {trigger.price} is reached already.")

    def check_post_only(self, market: SimMarket, *orders: NewOrder) -> None:
        """Refuse post-only orders that would match, where the exchange does. Raises Rejected."""
        if self.policy.post_only_refused and any(new.post_only and self._would_take(new, market) for new in orders):
            raise Rejected(Reject.WOULD_TAKE, "A post-only order would match at once.")

    def place(self, account: Account, new: NewOrder) -> Order:
        """Accept, match, and rest or end an order; a conditional one waits. Returns it with its fate.

        Raises Rejected before it exists.
        """
        market = self.check(account, new)
        order = self._accept(account, market, self.irregular.reshape(account, new))
        self.overfill(order)
        return order

    def _accept(self, account: Account, market: SimMarket, new: NewOrder) -> Order:
        """Make an order of what was checked, match it, and rest or end it."""
        now = self.clock.time_ms()
        # Asked before it is among the open orders, which may count.
        needed = self.needed(account, new, market) if new.trigger is None or new.trigger.reserves else None
        order = self.make_order(account, new, now)
        if needed is not None:
            self._settlement.reserve(account, order, needed)
        self._settlement.report(account, order, ExecutionType.NEW, now)
        if order.idle:
            self.arm(order)
        else:
            self._work(account, market, order, now)
        self._finish(market, now)
        return order

    def make_order(self, account: Account, new: NewOrder, now: int, *, list_id: int = 0) -> Order:
        """Give an order its id and its place among the open ones; nothing is reserved, told or matched yet."""
        order_id = self._order_ids.take()
        market = self.markets[new.native]
        order = Order(
            id=order_id,
            client_id=new.client_id or self.policy.make_client_id(order_id),
            api_key=account.api_key,
            native=new.native,
            side=new.side,
            type=new.type,
            time_in_force=new.time_in_force,
            post_only=new.post_only,
            price=new.price if new.type is OrderType.LIMIT and new.price is not None else ZERO,
            quantity=new.quantity or ZERO,
            quote_quantity=new.quote_quantity or ZERO,
            created_ms=now,
            updated_ms=now,
            reserved_asset=market.rules.quote if new.side is Side.BUY else market.rules.base,
            tags=dict(new.tags),
            trigger=new.trigger,
            list_id=list_id,
            idle=new.trigger is not None,
            reduce_only=new.reduce_only,
            position_side=new.position_side,
            liquidation=new.liquidation,
        )
        self.shelf.add(order)
        return order

    def as_new(self, order: Order, *, trigger: bool = True) -> NewOrder:
        """Return what would have to be asked for to have this order's rest; without its trigger if not ``trigger``."""
        return NewOrder(
            native=order.native,
            side=order.side,
            type=order.type,
            time_in_force=order.time_in_force,
            price=order.price if order.type is OrderType.LIMIT else None,
            quantity=None if order.quote_quantity else order.remaining,
            quote_quantity=order.quote_quantity or None,
            post_only=order.post_only,
            trigger=order.trigger if trigger else None,
        )

    def arm(self, order: Order) -> None:
        """Let a conditional order wait for trades that come from now on."""
        self.triggers.arm(order, self._trade_ids.last)

    def overfill(self, order: Order) -> None:
        """Fill more of an order that has just gone to the book than was ordered, when that is asked for."""
        extra = ZERO if order.idle else self.irregular.overfill(order)
        if extra:
            self.execute(order, extra)

    def execute(self, order: Order, quantity: Decimal, price: Decimal | None = None) -> Fill:
        """Execute a quantity of an order against the market's own side whatever its state and size: no real exchange
        should, some have. It is booked like any other. ``price`` None is its limit. Raises Rejected for want of funds.
        """
        market, now = self.markets[order.native], self.clock.time_ms()
        fill = self._settlement.execute(market, order, price or order.price or market.last_price, quantity, now)
        if not order.is_open:
            market.book.side(order.side).remove_if_there(order)
        self._finish(market, now)
        return fill

    def bust(self, order: Order, trade_id: int) -> None:
        """Take back one execution of an order, as an exchange that finds it erroneous does; only balances are told.

        Raises Rejected: ORDER_NOT_FOUND without such an execution, INSUFFICIENT_BALANCE when its proceeds are spent.
        """
        fills = self.store.fills(self.name, order_id=order.id, newest=False, limit=10_000)
        fill = next((fill for fill in fills if fill.trade_id == trade_id), None)
        if fill is None:
            raise Rejected(Reject.ORDER_NOT_FOUND, f"Order {order.id} has no execution {trade_id}.")
        self._settlement.undo(order, fill, self.clock.time_ms())

    def roll_back(self, order: Order) -> None:
        """Come back without an order and its executions, as after an outage that lost them.

        Raises Rejected at the first execution whose proceeds are spent; those before it are taken back then.
        """
        account, market = self.accounts[order.api_key], self.markets[order.native]
        if order.is_open:
            market.book.side(order.side).remove_if_there(order)
            self._settlement.end(account, order, Status.CANCELED, CloseReason.NONE, self.clock.time_ms(), told=False)
        for fill in self.store.fills(self.name, order_id=order.id, newest=False, limit=10_000):
            self._settlement.undo(order, fill, self.clock.time_ms())
        self.shelf.lose(order)
        self.store.commit(self.name, accounts=[account])
        self._finish(market, self.clock.time_ms())

    def cancel(
        self,
        account: Account,
        *,
        native: str | None = None,
        order_id: int | None = None,
        client_id: str | None = None,
        cancel_client_id: str = "",
    ) -> Order:
        """Cancel an open order of the account. Raises Rejected: ORDER_NOT_FOUND, or ORDER_CLOSED with the order."""
        order = self.shelf.find(account, native=native, order_id=order_id, client_id=client_id)
        if order is None:
            raise Rejected(Reject.ORDER_NOT_FOUND, "There is no such order.")
        if not order.is_open:
            raise Rejected(Reject.ORDER_CLOSED, f"The order is {order.status}.", order=order)
        market = self.markets[order.native]
        now = self.clock.time_ms()
        order.cancel_client_id = cancel_client_id
        if not order.idle:
            market.book.side(order.side).remove(order)
        self._settlement.end(account, order, Status.CANCELED, CloseReason.REQUESTED, now)
        self._finish(market, now)
        return order

    # The market's own side

    def apply_levels(
        self,
        native: str,
        bids: Iterable[tuple[Decimal, Decimal]],
        asks: Iterable[tuple[Decimal, Decimal]],
        *,
        replace: bool = False,
    ) -> None:
        """Set the market's own quantity at prices (zero takes a level away); ``replace`` clears all others first.

        New quantity that crosses users' orders trades with them at their prices, as a taker would; quantity that
        crosses the market's own opposite side takes that side away, so the published book never stays crossed.
        """
        market = self.markets[native]
        now = self.clock.time_ms()
        wanted = {Side.BUY: dict(bids), Side.SELL: dict(asks)}
        for side, levels in wanted.items():
            own = market.book.side(side)
            if replace:
                for price in [p for p in own.levels if p not in levels]:
                    own.set_market(price, ZERO)
            for price, quantity in levels.items():
                level = own.levels.get(price)
                if level is not None and quantity < level.market:
                    own.set_market(price, quantity)
        for side, levels in wanted.items():
            own, opposite = market.book.side(side), market.book.side(side.opposite)
            for price, quantity in levels.items():
                level = own.levels.get(price)
                shown = ZERO if level is None else level.market
                if quantity <= shown:
                    continue
                target = quantity
                best = opposite.best
                if best is not None and opposite.crosses(best, price):
                    self._clear_crossed(market, side, price)
                    pieces = match_quantity(opposite, quantity - shown, price)
                    target -= self._settlement.settle(market, side, pieces, taker=None, now=now)
                    if opposite.best is not None and opposite.crosses(opposite.best, price):
                        target = shown
                own.set_market(price, target)
        self._finish(market, now)

    def market_trade(self, native: str, side: Side, quantity: Decimal, limit: Decimal | None = None) -> Decimal:
        """Let an anonymous participant take up to ``quantity``; returns what traded."""
        market = self.markets[native]
        now = self.clock.time_ms()
        pieces = match_quantity(market.book.side(side.opposite), quantity, limit)
        traded = self._settlement.settle(market, side, pieces, taker=None, now=now)
        self._finish(market, now)
        return traded

    def played_trade(self, native: str, price: Decimal, quantity: Decimal, taker_side: Side) -> None:
        """Put a recorded trade on the tape; users' orders that it would have reached are filled by it."""
        market = self.markets[native]
        now = self.clock.time_ms()
        pieces = market.book.side(taker_side.opposite).take_users(price, quantity)
        taken = self._settlement.settle(market, taker_side, iter(pieces), taker=None, now=now)
        if quantity > taken:
            self._settlement.print_trade(price, quantity - taken, taker_side, now)
        self._finish(market, now)

    def set_rules(self, native: str, **changes: Decimal) -> None:
        """Change tick, lot, smallest sizes or the price band of a market; open orders stay as they are."""
        market = self.markets[native]
        market.rules = replace(market.rules, **changes)  # type: ignore[arg-type]

    def set_halted(self, native: str, halted: bool) -> None:
        self.markets[native].halted = halted

    # Inside

    def _counter(self, name: str, first: int, block: int = 1000) -> Counter:
        return Counter(self.store, self.name, name, first=first, block=block)

    def _client_id_taken(self, account: Account, client_id: str) -> bool:
        if self.shelf.has_open(account.api_key, client_id):
            return True
        if not self.policy.client_ids_unique_forever:
            return False
        if self.store.order_by_client_id(self.name, account.api_key, client_id) is None:
            return False
        return not self.irregular.reuses_client_id(account)

    def needed(self, account: Account, new: NewOrder, market: SimMarket) -> Decimal:
        """Return how much of its asset an order locks. Raises Rejected when the account has less of it free."""
        return check_funds(new, market, account)

    def _would_take(self, new: NewOrder, market: SimMarket) -> bool:
        opposite = market.book.side(new.side.opposite)
        return opposite.best is not None and opposite.crosses(opposite.best, new.price)

    def _clear_crossed(self, market: SimMarket, side: Side, price: Decimal) -> None:
        opposite = market.book.side(side.opposite)
        for crossed in [p for p, _ in opposite.available(price)]:
            opposite.set_market(crossed, ZERO)

    def _work(self, account: Account, market: SimMarket, order: Order, now: int) -> None:
        """Match an order that has its funds reserved, and rest or end what is left of it."""
        opposite = market.book.side(order.side.opposite)
        limit = order.price if order.type is OrderType.LIMIT else None
        if order.post_only and self._would_take(self.as_new(order), market):
            self._settlement.end(account, order, Status.CANCELED, CloseReason.POST_ONLY_WOULD_TAKE, now)
            return
        if order.time_in_force is TimeInForce.FOK and reachable(opposite, limit) < order.quantity:
            self._settlement.end(account, order, Status.EXPIRED, CloseReason.FOK_UNFILLED, now)
            return
        if order.quote_quantity:  # nothing can come between, so the book of now says what the amount is worth
            order.quantity = quantity_worth(opposite, order.quote_quantity, market.rules.lot)
            if order.side is Side.SELL:
                order.quantity = min(order.quantity, floor_to(order.reserved, market.rules.lot))
        reach = self.irregular.depth(order)
        pieces = match_quantity(opposite, order.remaining if reach is None else min(reach, order.remaining), limit)
        self._settlement.settle(market, order.side, pieces, taker=order, now=now)
        self._rest_or_end(account, market, order, now)

    def _fire(self, order: Order) -> None:
        """Put a conditional order whose trigger has been reached to work, or end it for want of funds."""
        account, market, now = self.accounts[order.api_key], self.markets[order.native], self.clock.time_ms()
        self.lists.begin(order, now)
        self._settlement.release(account, order)
        try:
            needed = self.needed(account, self.as_new(order, trigger=False), market)
        except Rejected:
            self._settlement.end(account, order, Status.EXPIRED, CloseReason.REFUSED, now)
        else:
            self._settlement.reserve(account, order, needed)
            order.idle, order.working_ms = False, now
            self._settlement.report(account, order, ExecutionType.TRIGGERED, now)
            self._work(account, market, order, now)
        self._finish(market, now)
        self.overfill(order)

    def _rest_or_end(self, account: Account, market: SimMarket, order: Order, now: int) -> None:
        if not order.is_open:
            return
        if order.type is OrderType.MARKET:
            self._settlement.end(account, order, Status.EXPIRED, CloseReason.MARKET_REST, now)
        elif order.time_in_force is not TimeInForce.GTC:
            self._settlement.end(account, order, Status.EXPIRED, CloseReason.IOC_REST, now)
        else:
            market.book.side(order.side).add(order)

    def forget_open(self, order: Order) -> None:
        """Count an order that has closed as open no longer; nothing happens when it has been."""
        if self.shelf.close(order):
            self.triggers.disarm(order)

    def _finish(self, market: SimMarket, now: int) -> None:
        """Commit what the operation changed, tell of book and trades, and fire the triggers they have reached."""
        trades = self._settlement.take_trades()
        market.record(trades)
        placed = self.lists.follow(now)
        more = self._settlement.take_trades()  # of legs that a filled working order has let go
        market.record(more)
        trades += more
        self._settlement.commit()
        for listener in self.listeners if trades else ():
            listener.on_trades(market, trades)
        self._publish_book(market, now)
        if trades:
            self.triggers.on_trades(market.native, trades)
        if placed and self.policy.late_triggers_fire:
            self.triggers.observe(market.native, market.last_price, LAST)

    def _publish_book(self, market: SimMarket, now: int) -> None:
        bids, asks = market.book.collect_changes()
        if not bids and not asks:
            return
        count = len(bids) + len(asks)
        first = self._update_ids[market.native].take(count)
        market.update_id = first + count - 1
        market.changed_ms = now
        change = BookChange(first_id=first, last_id=market.update_id, bids=tuple(bids), asks=tuple(asks), time_ms=now)
        for listener in self.listeners:
            listener.on_book(market, change)
        top = market.compute_top()
        if top != market.top:
            market.top = top
            for listener in self.listeners:
                listener.on_top(market)

    # For the settlement of one operation

    def next_trade_id(self) -> int:
        return self._trade_ids.take()

    def next_aggregate_id(self) -> int:
        return self._aggregate_ids.take()

    def next_execution(self, type_: ExecutionType, now: int, fill: Fill | None = None) -> Execution:
        return Execution(id=self._execution_ids.take(), type=type_, time_ms=now, fill=fill)
