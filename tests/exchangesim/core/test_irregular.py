"""What an engine should not do: it is booked to the last digit all the same."""

from __future__ import annotations

from decimal import Decimal

import pytest

from exchangesim.core.clock import ManualClock
from exchangesim.core.exchange import SimExchange
from exchangesim.core.faults import FaultRegistry
from exchangesim.core.irregular import Irregular
from exchangesim.core.orders import Rejected, Status
from exchangesim.core.policy import ExchangePolicy
from tests.exchangesim.core.venue import NATIVE, PRICE, RULES, buy, make_account, sell, totals

D = Decimal


@pytest.fixture
def faults() -> FaultRegistry:
    return FaultRegistry()


@pytest.fixture
def exchange(faults: FaultRegistry) -> SimExchange:
    made = SimExchange(
        "test",
        [RULES],
        {RULES.symbol: PRICE},
        clock=ManualClock(),
        policy=ExchangePolicy(client_ids_unique_forever=True),
        irregular=Irregular("test", faults),
    )
    made.apply_levels(NATIVE, [(D(99), D(10))], [(D(101), D(10))])
    return made


def test_an_overfill_is_paid_for_and_booked(exchange: SimExchange, faults: FaultRegistry) -> None:
    alice = make_account(exchange, BTC="5", USDT="1000")
    before = totals(exchange)
    faults.add({"kind": "overfill", "count": 1, "parameters": {"quantity": "0.5"}})
    order = exchange.place(alice, buy("101", "2"))
    assert (order.status, order.filled) == (Status.FILLED, D("2.5"))
    assert sum(fill.quantity for fill in exchange.shelf.fills(alice)) == D("2.5")
    assert alice.balance("USDT").total == 1000 - D("2.5") * 101
    assert alice.balance("USDT").locked == 0
    assert totals(exchange) == before


def test_a_cancelled_order_can_be_executed_late(exchange: SimExchange) -> None:
    alice = make_account(exchange, BTC="5", USDT="1000")
    before = totals(exchange)
    order = exchange.place(alice, buy("90", "2"))
    exchange.cancel(alice, order_id=order.id)
    exchange.execute(order, D("0.75"))
    assert (order.status, order.filled) == (Status.CANCELED, D("0.75"))
    assert alice.balance("USDT").total == 1000 - D("0.75") * 90
    exchange.execute(order, D("1.25"), D("89.5"))
    assert order.status is Status.FILLED
    assert totals(exchange) == before
    with pytest.raises(Rejected, match="USDT more"):
        exchange.execute(order, D("1000"))


def test_an_execution_of_a_resting_order_takes_it_off_the_book(exchange: SimExchange) -> None:
    alice = make_account(exchange, BTC="5", USDT="1000")
    order = exchange.place(alice, buy("100", "2"))
    exchange.execute(order, D("0.5"))
    assert (order.status, exchange.markets[NATIVE].book.bids.best) == (Status.PARTIALLY_FILLED, D(100))
    exchange.execute(order, D("1.5"))
    assert exchange.markets[NATIVE].book.bids.best == D(99)
    assert exchange.shelf.open(alice) == []
    assert alice.balance("USDT").locked == 0


def test_fees_differ_from_the_schedule_and_are_taken(exchange: SimExchange, faults: FaultRegistry) -> None:
    alice = make_account(exchange, BTC="5", USDT="1000", BNB="1")
    before = totals(exchange)
    faults.add({"kind": "fee", "count": 1, "parameters": {"times": 3}})
    order = exchange.place(alice, buy("101", "1"))
    assert order.fees == {"BTC": D("0.006")}
    faults.add({"kind": "fee", "count": 1, "parameters": {"asset": "BNB", "price": "500"}})
    order = exchange.place(alice, sell("99", "1"))
    assert order.fees == {"BNB": D("0.000396")}
    assert alice.free("BNB") == 1 - D("0.000396")
    assert totals(exchange) == before


def test_an_order_is_reshaped_or_meets_a_thinner_book(exchange: SimExchange, faults: FaultRegistry) -> None:
    alice = make_account(exchange, BTC="5", USDT="1000")
    steps = {"price_step": "10", "quantity_step": "1"}
    faults.add({"kind": "reshape", "count": 1, "parameters": steps})
    order = exchange.place(alice, buy("98.5", "2.5"))
    assert (order.price, order.quantity) == (D(90), D(2))
    faults.add({"kind": "cut_depth", "count": 1, "parameters": {"quantity": "0.4"}})
    order = exchange.place(alice, buy("101", "2", tif="IOC"))
    assert (order.status, order.filled) == (Status.EXPIRED, D("0.4"))


def test_a_closed_id_is_taken_again_only_by_fault(exchange: SimExchange, faults: FaultRegistry) -> None:
    alice = make_account(exchange, BTC="5", USDT="1000")
    exchange.place(alice, buy("101", "1", client_id="one"))
    with pytest.raises(Rejected):
        exchange.place(alice, buy("101", "1", client_id="one"))
    faults.add({"kind": "reuse_client_id", "count": 1})
    exchange.place(alice, buy("101", "1", client_id="one"))
    assert len(exchange.shelf.stored(alice)) == 2


def test_reads_lag_and_catch_up(exchange: SimExchange) -> None:
    alice = make_account(exchange, BTC="5", USDT="1000")
    clock = exchange.clock
    assert isinstance(clock, ManualClock)
    filled = exchange.place(alice, buy("101", "1"))
    resting = exchange.place(alice, buy("90", "1"))
    clock.advance(1)
    with exchange.reads.behind(2000):
        assert exchange.shelf.find(alice, order_id=filled.id) is None
        assert (exchange.shelf.open(alice), exchange.shelf.stored(alice), exchange.shelf.fills(alice)) == ([], [], [])
    with exchange.reads.behind(500):
        assert exchange.shelf.find(alice, order_id=filled.id) is filled
        assert exchange.shelf.open(alice) == [resting]
        assert len(exchange.shelf.fills(alice)) == 1
    assert len(exchange.shelf.stored(alice)) == 2


def test_a_busted_trade_moves_back_what_it_moved(exchange: SimExchange) -> None:
    alice = make_account(exchange, BTC="5", USDT="1000")
    before, held = totals(exchange), {asset: balance.total for asset, balance in alice.balances.items()}
    order = exchange.place(alice, buy("101", "2"))
    (fill,) = exchange.shelf.fills(alice)
    exchange.bust(order, fill.trade_id)
    assert (order.status, order.filled, exchange.shelf.fills(alice)) == (Status.CANCELED, 0, [])
    assert {asset: balance.total for asset, balance in alice.balances.items()} == held
    assert totals(exchange) == before
    with pytest.raises(Rejected, match="no execution"):
        exchange.bust(order, fill.trade_id)


def test_an_order_that_is_rolled_back_never_was(exchange: SimExchange) -> None:
    alice = make_account(exchange, BTC="5", USDT="1000")
    before, held = totals(exchange), {asset: balance.total for asset, balance in alice.balances.items()}
    filled = exchange.place(alice, buy("101", "1", client_id="one"))
    resting = exchange.place(alice, buy("90", "1", client_id="two"))
    exchange.execute(resting, D("0.25"))
    for order in (filled, resting):
        exchange.roll_back(order)
        assert exchange.shelf.find(alice, order_id=order.id) is None
        assert exchange.shelf.find(alice, client_id=order.client_id) is None
    assert (exchange.shelf.open(alice), exchange.shelf.fills(alice)) == ([], [])
    assert exchange.markets[NATIVE].book.bids.best == D(99)
    assert {asset: balance.total for asset, balance in alice.balances.items()} == held
    assert alice.balance("USDT").locked == 0
    assert totals(exchange) == before
