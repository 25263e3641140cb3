"""Booking of matches: fills, fees, balances, and the ledger that shows nothing is made or lost."""

from __future__ import annotations

from collections.abc import Iterator
from decimal import Decimal
from typing import TYPE_CHECKING

from exchangesim.core.accounts import Account
from exchangesim.core.book import Take
from exchangesim.core.futures.algo_orders import AlgoOrder
from exchangesim.core.market import SimMarket
from exchangesim.core.order_lists import OrderList
from exchangesim.core.orders import (
    ZERO,
    CloseReason,
    Execution,
    ExecutionType,
    Fill,
    Order,
    OrderType,
    PublicTrade,
    Reject,
    Rejected,
    Side,
    Status,
)
from exchangesim.core.state import Entry

if TYPE_CHECKING:
    from exchangesim.core.exchange import SimExchange


class Settlement:
    """Books the matches of one operation after another, and gathers what the operation changed."""

    def __init__(self, exchange: SimExchange) -> None:
        self._exchange = exchange
        self.fees: dict[str, Decimal] = _amounts(exchange.store.fact(exchange.name, "fees"))
        """Fees taken so far, by asset."""
        self.market_flow: dict[str, Decimal] = _amounts(exchange.store.fact(exchange.name, "market_flow"))
        """What the market's own side has won (or lost, negative) to users so far, by asset."""
        self._orders: dict[int, Order] = {}
        self._lists: dict[int, OrderList] = {}
        self._listed: dict[int, None] = {}
        self._fills: list[Fill] = []
        self._accounts: dict[str, Account] = {}
        self._trades: list[PublicTrade] = []
        self._reports: list[tuple[Account, Order, Execution]] = []

    def settle(
        self, market: SimMarket, side: Side, pieces: Iterator[Take], *, taker: Order | None, now: int
    ) -> Decimal:
        """Book each piece as it trades; ``taker`` None is the market's own. Returns the quantity that traded."""
        traded = ZERO
        aggregate_id, aggregate_price = 0, ZERO
        for piece in pieces:
            if piece.price != aggregate_price:
                aggregate_id, aggregate_price = self._exchange.next_aggregate_id(), piece.price
            trade = PublicTrade(
                id=self._exchange.next_trade_id(),
                aggregate_id=aggregate_id,
                price=piece.price,
                quantity=piece.quantity,
                taker_side=side,
                time_ms=now,
            )
            self._trades.append(trade)
            self._book(market, piece.maker, side.opposite, trade, maker=True)
            self._book(market, taker, side, trade, maker=False)
            traded += piece.quantity
        return traded

    def execute(self, market: SimMarket, order: Order, price: Decimal, quantity: Decimal, now: int) -> Fill:
        """Book a trade of an order with the market's own side beyond all rules; raises Rejected for want of funds."""
        account = self._exchange.accounts[order.api_key]
        given = market.rules.quote if order.side is Side.BUY else market.rules.base
        limited = order.side is Side.BUY and order.type is OrderType.LIMIT
        needed = quantity * (max(price, order.price) if limited else price if order.side is Side.BUY else Decimal(1))
        short = needed - order.reserved
        if short > account.free(given):
            raise Rejected(Reject.INSUFFICIENT_BALANCE, f"The execution needs {short:f} {given} more.", asset=given)
        if short > 0:
            account.reserve(given, short)
            order.reserved += short
        trade = PublicTrade(
            id=self._exchange.next_trade_id(),
            aggregate_id=self._exchange.next_aggregate_id(),
            price=price,
            quantity=quantity,
            taker_side=order.side,
            time_ms=now,
        )
        self._trades.append(trade)
        self._book(market, None, order.side.opposite, trade, maker=True)
        self._book(market, order, order.side, trade, maker=False)
        assert order.last_fill is not None
        return order.last_fill

    def undo(self, order: Order, fill: Fill, now: int) -> None:
        """Take back a user's side of a trade: what moved moves back. Raises Rejected when it has been spent."""
        account, rules = self._exchange.accounts[order.api_key], self._exchange.markets[order.native].rules
        amount = fill.quote_quantity
        buys = fill.side is Side.BUY
        received, gain, given, cost = (
            (rules.base, fill.quantity, rules.quote, amount)
            if buys
            else (rules.quote, amount, rules.base, fill.quantity)
        )
        back = gain - fill.fee if fill.fee_asset == received else gain
        if back > account.free(received):
            raise Rejected(Reject.INSUFFICIENT_BALANCE, f"{back:f} {received} are no longer free.", asset=received)
        account.credit(received, -gain)
        account.credit(fill.fee_asset, fill.fee)
        account.credit(given, cost)
        self.fees[fill.fee_asset] -= fill.fee
        self.market_flow[received] = self.market_flow.get(received, ZERO) + gain
        self.market_flow[given] = self.market_flow.get(given, ZERO) - cost
        order.filled -= fill.quantity
        order.filled_quote -= amount
        order.fees[fill.fee_asset] -= fill.fee
        order.last_fill = None
        if order.status is Status.FILLED:
            order.status = Status.CANCELED
        elif order.is_open and not order.filled:
            order.status = Status.NEW
        order.updated_ms = account.updated_ms = now
        self._exchange.store.forget(self._exchange.name, order_id=order.id, trade_id=fill.trade_id)
        self._exchange.store.commit(
            self._exchange.name,
            orders=[order],
            accounts=[account],
            facts=[("fees", self.fees), ("market_flow", self.market_flow)],
        )
        assets = tuple(dict.fromkeys((rules.base, rules.quote, fill.fee_asset)))
        for listener in self._exchange.listeners:
            listener.on_balances(account, assets, now)

    def print_trade(self, price: Decimal, quantity: Decimal, taker_side: Side, now: int) -> None:
        """Put a trade between anonymous participants on the tape."""
        self._trades.append(
            PublicTrade(
                id=self._exchange.next_trade_id(),
                aggregate_id=self._exchange.next_aggregate_id(),
                price=price,
                quantity=quantity,
                taker_side=taker_side,
                time_ms=now,
            )
        )

    def report(self, account: Account, order: Order, type_: ExecutionType, now: int, fill: Fill | None = None) -> None:
        """Note an execution and tell listeners of it and of the balances it moved."""
        order.updated_ms = account.updated_ms = now
        self._orders[order.id] = order
        self._accounts[account.api_key] = account
        if order.list_id:
            self._listed[order.list_id] = None
        execution = self._exchange.next_execution(type_, now, fill)
        rules = self._exchange.markets[order.native].rules
        for listener in self._exchange.listeners:
            listener.on_order(account, order, execution)
        assets = dict.fromkeys((rules.base, rules.quote, *([fill.fee_asset] if fill is not None else [])))
        for listener in self._exchange.listeners:
            listener.on_balances(account, tuple(assets), now)

    def end(
        self,
        account: Account,
        order: Order,
        status: Status,
        reason: CloseReason,
        now: int,
        *,
        told: bool = True,
    ) -> None:
        """Close an order before it is filled, releasing what it still reserves; ``told`` False says it to nobody."""
        self.release(account, order)
        order.status, order.close_reason = status, reason
        self._exchange.forget_open(order)
        type_ = ExecutionType.CANCELED if status is Status.CANCELED else ExecutionType.EXPIRED
        if told:
            self.report(account, order, type_, now)

    def report_list(self, account: Account, order_list: OrderList, now: int) -> None:
        """Note that an order list began or is done, and tell listeners of it."""
        order_list.updated_ms = now
        self._lists[order_list.id] = order_list
        for listener in self._exchange.listeners:
            listener.on_list(account, order_list)

    def next_listed(self) -> int | None:
        """Return the id of an order list one of whose orders was reported since it was last asked for."""
        return self._listed.popitem()[0] if self._listed else None

    def take_trades(self) -> tuple[PublicTrade, ...]:
        """Return the public trades made since the last call."""
        trades = tuple(self._trades)
        self._trades.clear()
        return trades

    def commit(self) -> None:
        """Make what changed durable."""
        if self._accounts or self._lists:
            self._exchange.store.commit(
                self._exchange.name,
                orders=self._orders.values(),
                lists=self._lists.values(),
                algos=self._changed_algos(),
                fills=self._fills,
                accounts=self._accounts.values(),
                facts=self._changed_facts(),
                entries=self._new_entries(),
            )
            self._orders.clear()
            self._lists.clear()
            self._fills.clear()
            self._accounts.clear()

    def _changed_facts(self) -> list[tuple[str, object]]:
        return [("fees", self.fees), ("market_flow", self.market_flow)] if self._fills else []

    def _changed_algos(self) -> list[AlgoOrder]:
        return []

    def _new_entries(self) -> list[Entry]:
        return []

    def _book(self, market: SimMarket, order: Order | None, side: Side, trade: PublicTrade, *, maker: bool) -> None:
        rules = market.rules
        amount = trade.price * trade.quantity
        received, given = (rules.base, rules.quote) if side is Side.BUY else (rules.quote, rules.base)
        gain, cost = (trade.quantity, amount) if side is Side.BUY else (amount, trade.quantity)
        if order is None:
            self.market_flow[received] = self.market_flow.get(received, ZERO) + gain
            self.market_flow[given] = self.market_flow.get(given, ZERO) - cost
            return
        account = self._exchange.accounts[order.api_key]
        rate = rules.maker_fee if maker else rules.taker_fee
        fee, fee_asset = round(gain * rate, rules.fee_places), received
        terms = self._exchange.irregular.fee(order)
        if terms is not None:
            fee = round(gain * rate * terms.times, rules.fee_places)
            other = round(amount * rate * terms.times / terms.price, rules.fee_places)
            if terms.asset and other <= account.free(terms.asset):  # an account that has too little pays as ever
                fee_asset, fee = terms.asset, other
        account.spend_locked(given, cost)
        order.reserved -= cost
        if side is Side.BUY and order.type is OrderType.LIMIT and trade.price < order.price:
            better = (order.price - trade.price) * trade.quantity
            account.release(given, better)
            order.reserved -= better
        account.credit(received, gain)
        account.credit(fee_asset, -fee)
        self.fees[fee_asset] = self.fees.get(fee_asset, ZERO) + fee
        fill = Fill(
            trade_id=trade.id,
            order_id=order.id,
            client_id=order.client_id,
            api_key=order.api_key,
            native=order.native,
            side=side,
            price=trade.price,
            quantity=trade.quantity,
            fee=fee,
            fee_asset=fee_asset,
            maker=maker,
            time_ms=trade.time_ms,
        )
        self._note(account, order, fill)

    def _note(self, account: Account, order: Order, fill: Fill, type_: ExecutionType = ExecutionType.TRADE) -> None:
        """Bring an order up to a fill whose funds have moved, and report it."""
        order.filled += fill.quantity
        order.filled_quote += fill.quote_quantity
        order.fees[fill.fee_asset] = order.fees.get(fill.fee_asset, ZERO) + fill.fee
        order.last_fill = fill
        self._fills.append(fill)
        if order.remaining <= 0:
            order.status = Status.FILLED
            self.release(account, order)
            self._exchange.forget_open(order)
        elif order.is_open:
            order.status = Status.PARTIALLY_FILLED
        self.report(account, order, type_, fill.time_ms, fill)

    def reserve(self, account: Account, order: Order, amount: Decimal) -> None:
        """Let an order hold exactly this much of its asset."""
        self.release(account, order)
        if amount:
            account.reserve(order.reserved_asset, amount)
        order.reserved = amount

    def release(self, account: Account, order: Order) -> None:
        if order.reserved > 0:
            account.release(order.reserved_asset, order.reserved)
            order.reserved = ZERO


def _amounts(kept: object) -> dict[str, Decimal]:
    return {asset: Decimal(text) for asset, text in kept.items()} if isinstance(kept, dict) else {}
