"""Conditional orders on contracts: what they wait for, what becomes of them, and that a kill loses none."""

from __future__ import annotations

from decimal import Decimal
from pathlib import Path
from typing import Any

import pytest

from exchangesim.core.futures.algo_orders import AlgoStatus, NewAlgo
from exchangesim.core.orders import PositionSide, Reject, Rejected, Side, Status
from exchangesim.core.state import Store
from tests.exchangesim.futures.contracts import NATIVE, Heard, make_account, make_contracts, order, set_price

D = Decimal
BUY, SELL = Side.BUY, Side.SELL


def algo(side: Side, trigger: str, quantity: str | None = None, **terms: Any) -> NewAlgo:
    """A stop by the mark price that closes the position, unless told otherwise."""
    return NewAlgo(
        native=NATIVE,
        side=side,
        trigger_price=D(trigger),
        quantity=None if quantity is None else D(quantity),
        takes_profit=terms.pop("takes_profit", False),
        source=terms.pop("source", "mark"),
        **terms,
    )


def test_a_stop_closes_the_position_when_the_mark_price_is_reached() -> None:
    exchange, heard = make_contracts(), Heard()
    account = make_account(exchange)
    exchange.place(account, order(BUY, "0.1"))
    stop = exchange.algos.place(account, algo(SELL, "49000"))
    profit = exchange.algos.place(account, algo(SELL, "52000", takes_profit=True))
    set_price(exchange, D("49000.1"))
    assert (stop.status, profit.status) == (AlgoStatus.NEW, AlgoStatus.NEW)
    exchange.listeners.append(heard)
    set_price(exchange, D("49000"))
    assert exchange.positions(account) == []
    assert (stop.status, profit.status) == (AlgoStatus.FINISHED, AlgoStatus.EXPIRED)
    assert (stop.filled, stop.average) == (D("0.1"), D("48999.9"))
    became = exchange.shelf.any(stop.order_id)
    assert became is not None
    assert (became.client_id, became.reduce_only) == (stop.client_id, True)
    assert heard.events == [
        "mark:TRIGGERING",
        "mark:TRIGGERED",
        "NEW:NEW",
        "ORDER:0",
        "TRADE:FILLED",
        "mark:FINISHED",
        "mark:EXPIRED",
    ]


@pytest.mark.parametrize(
    ("side", "takes_profit", "trigger", "reached"),
    [
        (SELL, False, "49000", "48999"),
        (SELL, True, "51000", "51001"),
        (BUY, False, "51000", "51001"),
        (BUY, True, "49000", "48999"),
    ],
    ids=["stop-sell", "profit-sell", "stop-buy", "profit-buy"],
)
def test_stops_and_take_profits_wait_on_opposite_sides(
    side: Side, takes_profit: bool, trigger: str, reached: str
) -> None:
    exchange = make_contracts()
    account = make_account(exchange)
    waiting = exchange.algos.place(account, algo(side, trigger, "0.1", takes_profit=takes_profit))
    set_price(exchange, D(reached))
    assert waiting.status is AlgoStatus.FINISHED
    with pytest.raises(Rejected) as refused:
        exchange.algos.place(account, algo(side, trigger, "0.1", takes_profit=takes_profit))
    assert refused.value.reason is Reject.WOULD_TRIGGER


def test_a_stop_by_the_last_price_does_not_hear_the_mark_price() -> None:
    exchange = make_contracts()
    account = make_account(exchange)
    exchange.place(account, order(BUY, "0.1"))
    stop = exchange.algos.place(account, algo(SELL, "49000", source="last"))
    set_price(exchange, D("48000"))
    assert stop.status is AlgoStatus.NEW
    exchange.market_trade(NATIVE, SELL, D("0.01"))
    assert stop.status is AlgoStatus.FINISHED


def test_a_protected_stop_is_not_triggered_while_last_and_mark_price_are_far_apart() -> None:
    exchange = make_contracts()
    account = make_account(exchange)
    exchange.place(account, order(BUY, "0.1"))
    stop = exchange.algos.place(account, algo(SELL, "49000", "0.1", protected=True))
    exchange.set_mark(NATIVE, D("47000"))  # last: 50,000.1
    assert stop.status is AlgoStatus.EXPIRED
    assert exchange.positions(account)


def test_what_is_refused_when_it_is_triggered_says_why() -> None:
    exchange = make_contracts()
    account = make_account(exchange, wallet="100")
    reducing = exchange.algos.place(account, algo(SELL, "49000", "0.1", reduce_only=True))
    large = exchange.algos.place(account, algo(SELL, "49000", "1"))
    set_price(exchange, D("48000"))
    assert (reducing.status, reducing.reason) == (AlgoStatus.REJECTED, "Reduce Only reject")
    assert large.status is AlgoStatus.REJECTED
    assert "margin" in large.reason
    assert exchange.positions(account) == []


def test_a_closing_order_needs_something_to_close() -> None:
    exchange = make_contracts()
    account = make_account(exchange)
    with pytest.raises(Rejected) as refused:
        exchange.algos.place(account, algo(SELL, "49000"))
    assert refused.value.reason is Reject.NO_POSITION
    entry = exchange.place(account, order(BUY, "0.1", "49500"))
    stop = exchange.algos.place(account, algo(SELL, "49000"))  # beside the order that is to open the position
    with pytest.raises(Rejected) as refused:
        exchange.algos.place(account, algo(SELL, "48000"))
    assert refused.value.reason is Reject.CLOSE_POSITION_TAKEN
    exchange.cancel(account, order_id=entry.id)
    assert stop.status is AlgoStatus.EXPIRED


def test_a_stop_limit_rests_and_its_conditional_order_finishes_with_it() -> None:
    exchange = make_contracts()
    account = make_account(exchange)
    exchange.place(account, order(BUY, "0.1"))
    stop = exchange.algos.place(account, algo(SELL, "49000", "0.1", price=D("49500"), reduce_only=True))
    set_price(exchange, D("49000"))
    assert stop.status is AlgoStatus.TRIGGERED
    became = exchange.shelf.find(account, order_id=stop.order_id)
    assert became is not None
    assert became.status is Status.NEW
    exchange.cancel(account, order_id=became.id)
    assert stop.status is AlgoStatus.FINISHED
    assert exchange.positions(account)[0].side is PositionSide.BOTH


def test_conditional_orders_survive_a_kill(tmp_path: Path) -> None:
    store = Store(tmp_path)
    exchange = make_contracts(store=store)
    account = make_account(exchange)
    exchange.place(account, order(BUY, "0.2"))
    waiting = exchange.algos.place(account, algo(SELL, "48000", client_id="mine"))
    resting = exchange.algos.place(account, algo(SELL, "49000", "0.1", price=D("49500"), reduce_only=True))
    gone = exchange.algos.place(account, algo(BUY, "55000", "0.1"))
    exchange.algos.cancel(account, algo_id=gone.id)
    set_price(exchange, D("49000"))
    assert resting.status is AlgoStatus.TRIGGERED
    store.close()

    again = make_contracts(store=Store(tmp_path), price=D("49000"))
    account = again.accounts["alice"]
    assert [a.client_id for a in again.algos.open_orders(account)] == ["mine"]
    known = again.algos.find(account, algo_id=gone.id)
    assert known is not None
    assert known.status is AlgoStatus.CANCELED
    set_price(again, D("49600"))  # fills what rests
    set_price(again, D("48000"))
    statuses = [a.status for a in again.store.algos(again.name, api_key="alice")]
    assert statuses == [AlgoStatus.FINISHED, AlgoStatus.FINISHED, AlgoStatus.CANCELED]
    assert again.positions(account) == []
    assert waiting.id == again.store.algos(again.name, api_key="alice")[0].id
