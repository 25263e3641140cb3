"""Amending an open order in place: price, quantity, reservation, place in the queue, matching anew."""

from __future__ import annotations

from decimal import Decimal

import pytest

from exchangesim.core.accounts import Account
from exchangesim.core.amend import amend
from exchangesim.core.exchange import SimExchange
from exchangesim.core.listener import ExchangeListener
from exchangesim.core.orders import (
    CloseReason,
    Execution,
    ExecutionType,
    NewOrder,
    Order,
    OrderType,
    Reject,
    Rejected,
    Side,
    Status,
)
from exchangesim.core.rules import make_rules

NATIVE = "AAA-USDT"


def D(text: str) -> Decimal:
    return Decimal(text)


class Heard(ExchangeListener):
    """Notes what happens to orders."""

    def __init__(self) -> None:
        self.types: list[ExecutionType] = []

    def on_order(self, account: Account, order: Order, execution: Execution) -> None:
        self.types.append(execution.type)


@pytest.fixture
def exchange() -> SimExchange:
    rules = make_rules("okx", "AAA/USDT", price=D("100"), taker_bps=D("10"), maker_bps=D("10"))
    venue = SimExchange("okx", [rules], {"AAA/USDT": D("100")})
    venue.apply_levels(NATIVE, [(D("99"), D("1"))], [(D("101"), D("1")), (D("102"), D("1"))])
    return venue


@pytest.fixture
def account(exchange: SimExchange) -> Account:
    return exchange.put_account("key", "secret", balances={"USDT": D("1000"), "AAA": D("10")})[0]


def place(exchange: SimExchange, account: Account, **fields: object) -> Order:
    wanted = {
        "native": NATIVE,
        "side": Side.BUY,
        "type": OrderType.LIMIT,
        "price": D("98"),
        "quantity": D("2"),
    } | fields
    return exchange.place(account, NewOrder(**wanted))  # type: ignore[arg-type]


def test_a_new_price_and_quantity_move_the_reservation(exchange: SimExchange, account: Account) -> None:
    heard = Heard()
    order = place(exchange, account)
    exchange.listeners.append(heard)
    amend(exchange, account, order, price=D("97"), quantity=D("3"))
    assert (order.price, order.quantity, order.is_open) == (D("97"), D("3"), True)
    assert (account.balances["USDT"].locked, account.balances["USDT"].free) == (D("291"), D("709"))
    assert exchange.markets[NATIVE].book.bids.total(D("98")) == 0
    assert exchange.markets[NATIVE].book.bids.total(D("97")) == 3
    assert heard.types == [ExecutionType.AMENDED]
    assert exchange.shelf.find(account, order_id=order.id) is order


def test_shrinking_keeps_the_place_in_the_queue_and_growing_loses_it(exchange: SimExchange, account: Account) -> None:
    first, second = place(exchange, account), place(exchange, account)
    queue = exchange.markets[NATIVE].book.bids.levels[D("98")].orders
    amend(exchange, account, first, quantity=D("1"))
    assert list(queue) == [first, second]
    amend(exchange, account, first, quantity=D("4"))
    assert list(exchange.markets[NATIVE].book.bids.levels[D("98")].orders) == [second, first]


def test_an_order_amended_into_the_other_side_trades(exchange: SimExchange, account: Account) -> None:
    order = place(exchange, account)
    amend(exchange, account, order, price=D("101"))
    assert (order.status, order.filled) == (Status.PARTIALLY_FILLED, D("1"))
    assert account.balances["USDT"].locked == D("101")
    assert exchange.markets[NATIVE].book.bids.best == D("101")


def test_a_post_only_order_amended_into_the_other_side_is_cancelled(exchange: SimExchange, account: Account) -> None:
    order = place(exchange, account, post_only=True)
    amend(exchange, account, order, price=D("101"))
    assert (order.status, order.close_reason) == (Status.CANCELED, CloseReason.POST_ONLY_WOULD_TAKE)
    assert account.balances["USDT"].locked == 0


@pytest.mark.parametrize(
    ("price", "quantity", "reason"),
    [
        ("97.005", None, Reject.PRICE_TICK),
        ("1", None, Reject.PRICE_BAND),
        (None, "0.0001", Reject.QUANTITY_TOO_SMALL),
        (None, "100", Reject.INSUFFICIENT_BALANCE),
        (None, "1", Reject.BAD_QUANTITY),
    ],
)
def test_a_refused_amendment_changes_nothing(
    exchange: SimExchange, account: Account, price: str | None, quantity: str | None, reason: Reject
) -> None:
    order = place(exchange, account)
    exchange.market_trade(NATIVE, Side.SELL, D("2"))  # takes the market's 1 at 99, then 1 of the order at 98
    before = (order.price, order.quantity, order.filled, order.reserved, account.balances["USDT"].locked)
    assert order.filled == 1
    with pytest.raises(Rejected) as refused:
        amend(exchange, account, order, price=price and D(price), quantity=quantity and D(quantity))  # type: ignore[arg-type]
    assert refused.value.reason is reason
    assert before == (order.price, order.quantity, order.filled, order.reserved, account.balances["USDT"].locked)


def test_a_closed_order_cannot_be_amended(exchange: SimExchange, account: Account) -> None:
    order = place(exchange, account)
    exchange.cancel(account, order_id=order.id)
    with pytest.raises(Rejected) as refused:
        amend(exchange, account, order, price=D("97"))
    assert refused.value.reason is Reject.ORDER_CLOSED
