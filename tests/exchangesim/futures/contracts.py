"""A small exchange of contracts in memory for tests of the core, and what it holds in all."""

from __future__ import annotations

from dataclasses import dataclass, field
from decimal import Decimal
from typing import Any

from exchangesim.core.accounts import Account
from exchangesim.core.clock import ManualClock
from exchangesim.core.futures.algo_orders import AlgoOrder
from exchangesim.core.futures.exchange import FuturesExchange, FuturesListener
from exchangesim.core.futures.margin import AccountMargin
from exchangesim.core.futures.positions import Position
from exchangesim.core.orders import Execution, NewOrder, Order, OrderType, PositionSide, Side, TimeInForce
from exchangesim.core.policy import ExchangePolicy
from exchangesim.core.rules import SymbolRules
from exchangesim.core.state import Store

D = Decimal
NATIVE = "BTCUSDT"
PRICE = D("50000")

RULES = SymbolRules(
    exchange="test",
    symbol="BTC/USDT:USDT",
    native=NATIVE,
    base="BTC",
    quote="USDT",
    tick=D("0.1"),
    lot=D("0.001"),
    min_quantity=D("0.001"),
    max_quantity=D("1000"),
    min_notional=D("5"),
    maker_fee=D("0.0002"),
    taker_fee=D("0.0005"),
    price_band=D("5"),
    liquidation_fee=D("0.0125"),
)


def make_contracts(
    *, store: Store | None = None, rules: SymbolRules = RULES, price: Decimal = PRICE
) -> FuturesExchange:
    """An exchange with one contract whose mark price is held at ``price``, and a deep book a tick around it."""
    exchange = FuturesExchange(
        rules.exchange,
        [rules],
        {rules.symbol: price},
        store=store,
        clock=ManualClock(),
        policy=ExchangePolicy(),
    )
    set_price(exchange, price)
    return exchange


def set_price(exchange: FuturesExchange, price: Decimal, *, depth: str = "1000") -> None:
    """Move mark price and book together."""
    tick = RULES.tick
    exchange.apply_levels(NATIVE, [(price - tick, D(depth))], [(price + tick, D(depth))], replace=True)
    exchange.set_mark(NATIVE, price)


def make_account(exchange: FuturesExchange, name: str = "alice", wallet: str = "10000") -> Account:
    account, _ = exchange.put_account(name, "secret", balances={"USDT": D(wallet)})
    return account


def order(side: Side, quantity: str, price: str | None = None, **fields: Any) -> NewOrder:
    """Price None is a market order; ``tif`` and ``position`` are short for the time in force and the position side."""
    return NewOrder(
        native=NATIVE,
        side=side,
        type=OrderType.MARKET if price is None else OrderType.LIMIT,
        price=None if price is None else D(price),
        quantity=D(quantity),
        time_in_force=TimeInForce(fields.pop("tif", "GTC")),
        position_side=PositionSide(fields.pop("position", "BOTH")),
        **fields,
    )


@dataclass
class Heard(FuturesListener):
    """Keeps what an exchange of contracts tells, in order."""

    events: list[str] = field(default_factory=list)

    def on_order(self, account: Account, order: Order, execution: Execution) -> None:
        self.events.append(f"{execution.type}:{order.status}")

    def on_margin(
        self, account: Account, reason: str, positions: tuple[Position, ...], change: Decimal, time_ms: int
    ) -> None:
        self.events.append(f"{reason}:{change.normalize():f}")

    def on_algo(self, account: Account, algo: AlgoOrder) -> None:
        self.events.append(f"{algo.terms.source}:{algo.status}")

    def on_margin_call(self, account: Account, margin: AccountMargin, time_ms: int) -> None:
        self.events.append("MARGIN_CALL")


def worth(exchange: FuturesExchange) -> Decimal:
    """Return what everybody holds together at the mark price: users, the fees taken, and the market's own side."""
    users = sum((account.free("USDT") for account in exchange.accounts.values()), D(0))
    open_profit = sum((p.unrealized(exchange.mark(p.native)) for p in exchange.positions()), D(0))
    market = exchange.market_flow.get("USDT", D(0)) + exchange.market_flow.get("BTC", D(0)) * exchange.mark(NATIVE)
    return users + open_profit + exchange.fees.get("USDT", D(0)) + market
