"""A small exchange in memory for tests of the core, and a listener that keeps all it hears."""

from __future__ import annotations

from dataclasses import dataclass, field
from decimal import Decimal
from typing import Any

from exchangesim.core.accounts import Account
from exchangesim.core.clock import ManualClock
from exchangesim.core.exchange import SimExchange
from exchangesim.core.listener import ExchangeListener
from exchangesim.core.market import SimMarket
from exchangesim.core.order_lists import OrderList
from exchangesim.core.orders import (
    BookChange,
    Execution,
    ExecutionType,
    NewOrder,
    Order,
    OrderType,
    PublicTrade,
    Side,
    TimeInForce,
    Trigger,
)
from exchangesim.core.policy import ExchangePolicy
from exchangesim.core.rules import SymbolRules
from exchangesim.core.state import Store

D = Decimal
NATIVE = "BTCUSDT"
PRICE = D("100")

RULES = SymbolRules(
    exchange="test",
    symbol="BTC/USDT",
    native=NATIVE,
    base="BTC",
    quote="USDT",
    tick=D("0.5"),
    lot=D("0.01"),
    min_quantity=D("0.01"),
    max_quantity=D("2000"),
    min_notional=D("5"),
    maker_fee=D("0.001"),
    taker_fee=D("0.002"),
)


def make_exchange(
    *, store: Store | None = None, policy: ExchangePolicy | None = None, rules: SymbolRules = RULES
) -> SimExchange:
    return SimExchange(
        rules.exchange,
        [rules],
        {rules.symbol: PRICE},
        store=store,
        clock=ManualClock(),
        policy=policy or ExchangePolicy(),
    )


def make_account(exchange: SimExchange, name: str = "alice", **balances: str) -> Account:
    funds = {asset: D(amount) for asset, amount in (balances or {"USDT": "100000", "BTC": "100"}).items()}
    account, _ = exchange.put_account(name, "secret", balances=funds)
    return account


def levels(*rows: tuple[str, str]) -> list[tuple[Decimal, Decimal]]:
    return [(D(price), D(quantity)) for price, quantity in rows]


def buy(price: str | None, quantity: str | None, **fields: Any) -> NewOrder:
    return _order(Side.BUY, price, quantity, **fields)


def sell(price: str | None, quantity: str | None, **fields: Any) -> NewOrder:
    return _order(Side.SELL, price, quantity, **fields)


def above(price: str, **fields: Any) -> Trigger:
    """Return a trigger that waits for a rise to this price."""
    return Trigger(price=D(price), rises=True, **fields)


def below(price: str, **fields: Any) -> Trigger:
    """Return a trigger that waits for a fall to this price."""
    return Trigger(price=D(price), rises=False, **fields)


def _order(side: Side, price: str | None, quantity: str | None, **fields: Any) -> NewOrder:
    """Price None is a market order; ``tif`` and ``quote`` are short for the time in force and the quote amount."""
    quote = fields.pop("quote", None)
    return NewOrder(
        native=NATIVE,
        side=side,
        type=OrderType.MARKET if price is None else OrderType.LIMIT,
        price=None if price is None else D(price),
        quantity=None if quantity is None else D(quantity),
        quote_quantity=None if quote is None else D(quote),
        time_in_force=TimeInForce(fields.pop("tif", "GTC")),
        **fields,
    )


@dataclass
class Heard(ExchangeListener):
    """Keeps what an exchange tells, in order, as short texts and as values."""

    events: list[str] = field(default_factory=list)
    changes: list[BookChange] = field(default_factory=list)
    trades: list[PublicTrade] = field(default_factory=list)
    statuses: list[tuple[int, ExecutionType, str]] = field(default_factory=list)

    def on_book(self, market: SimMarket, change: BookChange) -> None:
        self.events.append("book")
        self.changes.append(change)

    def on_top(self, market: SimMarket) -> None:
        self.events.append("top")

    def on_trades(self, market: SimMarket, trades: tuple[PublicTrade, ...]) -> None:
        self.events.append("trades")
        self.trades += trades

    def on_order(self, account: Account, order: Order, execution: Execution) -> None:
        self.events.append(f"{execution.type}:{order.status}")
        self.statuses.append((order.id, execution.type, str(order.status)))

    def on_list(self, account: Account, order_list: OrderList) -> None:
        self.events.append("list" if order_list.is_open else "list done")

    def on_balances(self, account: Account, assets: tuple[str, ...], time_ms: int) -> None:
        self.events.append("balances")


def totals(exchange: SimExchange) -> dict[str, Decimal]:
    """Return all there is of each asset: users' funds, fees taken and what the market's side has won."""
    sums: dict[str, Decimal] = {}
    for account in exchange.accounts.values():
        for asset, balance in account.balances.items():
            sums[asset] = sums.get(asset, D(0)) + balance.total
    for ledger in (exchange.fees, exchange.market_flow):
        for asset, amount in ledger.items():
            sums[asset] = sums.get(asset, D(0)) + amount
    return {asset: amount for asset, amount in sums.items() if amount}
