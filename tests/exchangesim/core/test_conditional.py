"""Conditional orders and order lists: what they wait for, reserve, end and survive."""

from __future__ import annotations

from decimal import Decimal
from pathlib import Path

import pytest

from exchangesim.core.accounts import Account
from exchangesim.core.exchange import SimExchange
from exchangesim.core.faults import FaultRegistry
from exchangesim.core.irregular import Irregular
from exchangesim.core.order_lists import NewList
from exchangesim.core.orders import CloseReason, ExecutionType, NewOrder, Order, Reject, Rejected, Side, Status
from exchangesim.core.policy import ExchangePolicy
from exchangesim.core.state import Store
from tests.exchangesim.core.venue import (
    NATIVE,
    Heard,
    above,
    below,
    buy,
    levels,
    make_account,
    make_exchange,
    sell,
    totals,
)

D = Decimal


@pytest.fixture
def exchange() -> SimExchange:
    """A market whose last price is 100, with 10 BTC at each of two prices a side."""
    exchange = make_exchange()
    set_book(exchange)
    return exchange


@pytest.fixture
def account(exchange: SimExchange) -> Account:
    return make_account(exchange, USDT="10000", BTC="10")


def set_book(exchange: SimExchange) -> None:
    exchange.apply_levels(
        NATIVE, levels(("99.5", "10"), ("95", "10")), levels(("100.5", "10"), ("105", "10")), replace=True
    )


def trade_at(exchange: SimExchange, price: str) -> None:
    """Let a trade between others happen at this price."""
    exchange.played_trade(NATIVE, D(price), D("0.01"), Side.BUY)


def locked(account: Account, asset: str) -> Decimal:
    return account.balance(asset).locked


def oco(exchange: SimExchange, account: Account, **fields: object) -> tuple[Order, Order]:
    """Place 2 BTC to sell at 104, or at the market once 96 is reached; return both legs."""
    legs = (sell("104", "2", post_only=True), sell(None, "2", trigger=below("96")))
    placed = exchange.lists.place(account, NewList(legs=legs, **fields))  # type: ignore[arg-type]
    first, second = (order for order in exchange.lists.orders(placed) if order.id in placed.legs)
    return first, second


@pytest.mark.parametrize(
    ("new", "misses", "hits", "price"),
    [
        (sell(None, "2", trigger=below("96")), "96.5", "96", "99.5"),
        (sell("95", "2", trigger=below("96")), "96.5", "90", "99.5"),
        (sell(None, "2", trigger=above("104")), "103.5", "104", "99.5"),
        (buy("110", "2", trigger=above("104")), "103.5", "106", "100.5"),
        (buy(None, "2", trigger=below("96")), "96.5", "95", "100.5"),
    ],
    ids=["stop sell", "stop limit sell", "take profit sell", "stop limit buy", "take profit buy"],
)
def test_a_conditional_order_waits_outside_the_book_until_a_trade_reaches_it(
    exchange: SimExchange, account: Account, new: NewOrder, misses: str, hits: str, price: str
) -> None:
    before, book = totals(exchange), exchange.markets[NATIVE].compute_top()
    order = exchange.place(account, new)
    assert (order.status, order.idle, order.is_open) == (Status.NEW, True, True)
    assert exchange.markets[NATIVE].compute_top() == book
    assert locked(account, order.reserved_asset) == order.reserved > 0
    trade_at(exchange, misses)
    assert order.idle
    trade_at(exchange, hits)
    assert (order.status, order.idle, order.filled_quote) == (Status.FILLED, False, 2 * D(price))
    assert locked(account, order.reserved_asset) == 0
    assert totals(exchange) == before


def test_a_triggered_limit_order_rests_where_the_market_left_it(exchange: SimExchange, account: Account) -> None:
    order = exchange.place(account, sell("97", "2", trigger=below("98")))
    exchange.apply_levels(NATIVE, [], [], replace=True)
    trade_at(exchange, "97.5")
    assert (order.status, order.idle) == (Status.NEW, False)
    assert exchange.markets[NATIVE].book.asks.best == D("97")
    exchange.cancel(account, order_id=order.id)
    assert (order.status, locked(account, "BTC")) == (Status.CANCELED, 0)


def test_a_waiting_order_is_found_and_cancelled(exchange: SimExchange, account: Account) -> None:
    order = exchange.place(account, buy(None, "2", trigger=above("104"), client_id="mine"))
    assert (locked(account, "USDT"), exchange.shelf.open(account)) == (D("208"), [order])
    exchange.cancel(account, client_id="mine")
    assert (order.status, order.idle, locked(account, "USDT")) == (Status.CANCELED, True, 0)
    trade_at(exchange, "105")
    assert order.filled == 0


@pytest.mark.parametrize(
    ("new", "reason"),
    [
        (sell(None, "2", trigger=below("100")), Reject.WOULD_TRIGGER),
        (buy(None, "2", trigger=above("99")), Reject.WOULD_TRIGGER),
        (sell(None, "2", trigger=below("96.2")), Reject.PRICE_TICK),
        (sell("96.2", "2", trigger=below("96")), Reject.PRICE_TICK),
        (sell(None, "11", trigger=below("96")), Reject.INSUFFICIENT_BALANCE),
        (buy(None, "100", trigger=above("104")), Reject.INSUFFICIENT_BALANCE),
        (sell(None, "0.05", trigger=below("96")), Reject.NOTIONAL_TOO_SMALL),
    ],
    ids=["at once", "buy at once", "trigger off tick", "price off tick", "no base", "no quote", "too small"],
)
def test_a_conditional_order_is_refused(exchange: SimExchange, account: Account, new: NewOrder, reason: Reject) -> None:
    with pytest.raises(Rejected) as refused:
        exchange.place(account, new)
    assert refused.value.reason is reason
    assert (exchange.shelf.open(account), locked(account, "BTC"), locked(account, "USDT")) == ([], 0, 0)


def test_only_so_many_conditional_orders_may_be_open(account: Account) -> None:
    exchange = make_exchange(policy=ExchangePolicy(max_conditional=2, max_lists=1))
    account = make_account(exchange)
    for _ in range(2):
        exchange.place(account, sell(None, "1", trigger=below("96")))
    with pytest.raises(Rejected) as refused:
        exchange.place(account, sell(None, "1", trigger=below("96")))
    assert refused.value.reason is Reject.TOO_MANY_CONDITIONAL


def test_one_that_reserves_nothing_fails_when_the_funds_are_gone(exchange: SimExchange, account: Account) -> None:
    heard = Heard()
    order = exchange.place(account, sell(None, "2", trigger=below("96", reserves=False)))
    assert locked(account, "BTC") == 0
    exchange.transfer(account, "BTC", D("-9"))
    exchange.listeners.append(heard)
    trade_at(exchange, "95.5")
    assert (order.status, order.close_reason, order.filled) == (Status.EXPIRED, CloseReason.REFUSED, 0)
    assert heard.statuses == [(order.id, ExecutionType.EXPIRED, "EXPIRED")]


def test_one_trigger_sets_off_the_next(exchange: SimExchange, account: Account) -> None:
    first = exchange.place(account, sell(None, "10", trigger=below("99.5")))
    bob = make_account(exchange, "bob")
    second = exchange.place(bob, sell(None, "5", trigger=below("99")))
    third = exchange.place(bob, sell(None, "1", trigger=below("94")))
    exchange.apply_levels(NATIVE, levels(("99.5", "5"), ("98", "50")), [])
    trade_at(exchange, "99.5")
    assert (first.status, second.status, third.idle) == (Status.FILLED, Status.FILLED, True)
    assert first.filled_quote == 5 * D("99.5") + 5 * D("98")


def test_a_mark_price_triggers_what_watches_it(exchange: SimExchange, account: Account) -> None:
    marks = {NATIVE: D("100")}
    exchange.price_sources["mark"] = lambda market: marks[market.native]
    with pytest.raises(Rejected):
        exchange.place(account, sell(None, "2", trigger=below("101", source="mark")))
    order = exchange.place(account, sell(None, "2", trigger=below("96", source="mark")))
    trade_at(exchange, "90")
    assert order.idle, "the last price is not what it watches"
    exchange.triggers.observe(NATIVE, D("96.5"), "mark")
    assert order.idle
    exchange.triggers.observe(NATIVE, D("95.5"), "mark")
    assert order.status is Status.FILLED


# Order lists


def test_the_legs_of_a_pair_share_a_reservation_and_stand_where_they_should(
    exchange: SimExchange, account: Account
) -> None:
    limit, stop = oco(exchange, account)
    assert (limit.idle, stop.idle, limit.is_open, stop.is_open) == (False, True, True, True)
    assert locked(account, "BTC") == D("2")
    assert exchange.markets[NATIVE].book.asks.total(D("104")) == 2


def test_a_buying_pair_reserves_what_the_more_costly_leg_needs(exchange: SimExchange, account: Account) -> None:
    legs = (buy("96", "2", post_only=True), buy("106", "2", trigger=above("104")))
    placed = exchange.lists.place(account, NewList(legs=legs))
    limit, stop = exchange.lists.orders(placed)
    assert locked(account, "USDT") == D("212")
    exchange.market_trade(NATIVE, Side.SELL, D("21"))  # 10 at 99.5, 2 of the leg at 96, 9 at 95
    assert (limit.status, stop.status, locked(account, "USDT")) == (Status.FILLED, Status.EXPIRED, 0)
    assert account.free("USDT") == D("10000") - 192


def test_a_leg_that_fills_in_part_ends_the_other(exchange: SimExchange, account: Account) -> None:
    heard = Heard()
    limit, stop = oco(exchange, account)
    exchange.listeners.append(heard)
    exchange.market_trade(NATIVE, Side.BUY, D("10.5"))
    assert (limit.status, limit.filled) == (Status.PARTIALLY_FILLED, D("0.5"))
    assert (stop.status, stop.close_reason, stop.idle) == (Status.EXPIRED, CloseReason.OTHER_LEG, True)
    assert [event for event in heard.events if "balances" not in event][:3] == [
        "TRADE:PARTIALLY_FILLED",
        "EXPIRED:EXPIRED",
        "list done",
    ]
    assert locked(account, "BTC") == D("1.5")
    trade_at(exchange, "90")
    assert stop.filled == 0
    exchange.cancel(account, order_id=limit.id)
    assert locked(account, "BTC") == 0


def test_a_leg_that_is_triggered_ends_the_other_and_uses_its_reservation(
    exchange: SimExchange, account: Account
) -> None:
    before = totals(exchange)
    exchange.transfer(account, "BTC", D("-8"))
    limit, stop = oco(exchange, account)
    assert account.free("BTC") == 0
    trade_at(exchange, "96")
    assert (limit.status, limit.close_reason) == (Status.EXPIRED, CloseReason.OTHER_LEG)
    assert (stop.status, stop.filled_quote) == (Status.FILLED, D("199"))
    assert exchange.markets[NATIVE].book.asks.total(D("104")) == 0
    assert (locked(account, "BTC"), totals(exchange)["BTC"]) == (0, before["BTC"] - 8)
    assert exchange.lists.open_lists(account) == []


@pytest.mark.parametrize("which", [0, 1])
def test_cancelling_a_leg_cancels_the_pair(exchange: SimExchange, account: Account, which: int) -> None:
    legs = oco(exchange, account)
    exchange.cancel(account, order_id=legs[which].id, cancel_client_id="why")
    assert [leg.status for leg in legs] == [Status.CANCELED] * 2
    assert {leg.cancel_client_id for leg in legs} == {"why"}
    assert (locked(account, "BTC"), exchange.lists.open_lists(account)) == (0, [])


@pytest.mark.parametrize(
    ("legs", "reason"),
    [
        ((sell("99", "2"), sell(None, "2", trigger=below("96"))), Reject.PRICE_RELATION),
        ((sell("104", "2"), sell(None, "2", trigger=below("101"))), Reject.PRICE_RELATION),
        ((sell("104", "2"), sell(None, "2", trigger=above("105"))), Reject.PRICE_RELATION),
        ((buy("104", "2"), buy(None, "2", trigger=above("105"))), Reject.PRICE_RELATION),
        ((sell("104", "11"), sell(None, "11", trigger=below("96"))), Reject.INSUFFICIENT_BALANCE),
        (
            (sell("104", "2", client_id="a"), sell(None, "2", trigger=below("96"), client_id="a")),
            Reject.DUPLICATE_CLIENT_ID,
        ),
    ],
    ids=["limit below", "stop above", "both above", "limit buy above", "no funds", "same id"],
)
def test_a_pair_is_refused_whole(
    exchange: SimExchange, account: Account, legs: tuple[NewOrder, NewOrder], reason: Reject
) -> None:
    with pytest.raises(Rejected) as refused:
        exchange.lists.place(account, NewList(legs=legs))
    assert refused.value.reason is reason
    assert (exchange.shelf.open(account), exchange.lists.open_lists(account)) == ([], [])


def test_a_list_id_is_unique_among_open_lists(exchange: SimExchange, account: Account) -> None:
    limit, _ = oco(exchange, account, client_id="pair")
    with pytest.raises(Rejected) as refused:
        oco(exchange, account, client_id="pair")
    assert refused.value.reason is Reject.DUPLICATE_LIST_ID
    exchange.cancel(account, order_id=limit.id)
    oco(exchange, account, client_id="pair")


def test_pending_legs_come_when_the_working_order_is_filled(exchange: SimExchange, account: Account) -> None:
    limit, stop = oco(exchange, account, working=buy("99", "3"))
    working = next(order for order in exchange.shelf.open(account) if order.side is Side.BUY)
    assert (limit.status, stop.status, locked(account, "BTC")) == (Status.PENDING_NEW, Status.PENDING_NEW, 0)
    exchange.market_trade(NATIVE, Side.SELL, D("12"))
    assert (working.status, limit.status) == (Status.PARTIALLY_FILLED, Status.PENDING_NEW)
    exchange.market_trade(NATIVE, Side.SELL, D("1"))
    assert (working.status, limit.status, stop.status) == (Status.FILLED, Status.NEW, Status.NEW)
    assert locked(account, "BTC") == D("2")
    assert exchange.markets[NATIVE].book.asks.total(D("104")) == 2
    trade_at(exchange, "96")
    assert (limit.status, stop.status) == (Status.EXPIRED, Status.FILLED)


def test_a_working_order_that_fills_at_once_brings_the_legs_at_once(exchange: SimExchange, account: Account) -> None:
    limit, stop = oco(exchange, account, working=buy("101", "3", tif="IOC"))
    assert (limit.status, stop.status, limit.idle, stop.idle) == (Status.NEW, Status.NEW, False, True)


@pytest.mark.parametrize("by_user", [True, False], ids=["cancelled", "expired"])
def test_pending_legs_end_with_the_working_order(exchange: SimExchange, account: Account, by_user: bool) -> None:
    working = buy("98", "3") if by_user else buy("98", "3", tif="IOC")
    limit, stop = oco(exchange, account, working=working)
    if by_user:
        exchange.cancel(account, order_id=exchange.shelf.open(account)[0].id)
    status = Status.CANCELED if by_user else Status.EXPIRED
    assert (limit.status, stop.status) == (status, status)
    assert (exchange.shelf.open(account), exchange.lists.open_lists(account)) == ([], [])
    assert (locked(account, "BTC"), locked(account, "USDT")) == (0, 0)


def test_cancelling_a_pending_leg_cancels_the_working_order(exchange: SimExchange, account: Account) -> None:
    _, stop = oco(exchange, account, working=buy("98", "3"))
    exchange.cancel(account, order_id=stop.id)
    assert (exchange.shelf.open(account), locked(account, "USDT")) == ([], 0)
    assert exchange.markets[NATIVE].book.bids.total(D("98")) == 0


@pytest.mark.parametrize("late", [False, True], ids=["refused", "fired"])
def test_a_pending_stop_that_the_price_has_passed(late: bool) -> None:
    exchange = make_exchange(policy=ExchangePolicy(late_triggers_fire=late))
    set_book(exchange)
    account = make_account(exchange)
    limit, stop = oco(exchange, account, working=buy("99", "3"))
    exchange.apply_levels(NATIVE, levels(("94", "50")), [])
    exchange.market_trade(NATIVE, Side.SELL, D("25"))  # through the working order, down to 94
    if late:
        assert (limit.status, stop.status) == (Status.EXPIRED, Status.FILLED)
    else:
        assert {limit.close_reason, stop.close_reason} == {CloseReason.REFUSED}
    assert locked(account, "BTC") == 0


def test_legs_may_take_what_the_working_order_brought(exchange: SimExchange) -> None:
    account = make_account(exchange, USDT="10000")
    limit, stop = oco(exchange, account, working=buy("101", "3"), legs_take_fill=True)
    assert account.balance("BTC").total == D("2.994"), "3 less the fee"
    assert (limit.quantity, stop.quantity, locked(account, "BTC")) == (D("2.99"), D("2.99"), D("2.99"))


def test_legs_that_cannot_be_paid_for_end(exchange: SimExchange) -> None:
    account = make_account(exchange, USDT="10000")
    heard = Heard()
    exchange.listeners.append(heard)
    legs = (sell("104", "3", post_only=True), sell(None, "3", trigger=below("96")))
    placed = exchange.lists.place(account, NewList(legs=legs, working=buy("101", "3")))
    working, limit, stop = exchange.lists.orders(placed)
    assert working.status is Status.FILLED
    assert (limit.close_reason, stop.close_reason) == (CloseReason.REFUSED, CloseReason.REFUSED)
    assert heard.events.count("list done") == 1


def test_an_overfill_comes_when_a_stop_is_triggered_not_before() -> None:
    faults = FaultRegistry()
    exchange = make_exchange()
    exchange.irregular = Irregular("test", faults)
    set_book(exchange)
    account = make_account(exchange)
    faults.add({"kind": "overfill", "parameters": {"quantity": "0.5"}})
    order = exchange.place(account, sell(None, "2", trigger=below("96")))
    assert order.filled == 0
    trade_at(exchange, "96")
    assert order.filled >= D("2.5")


def test_a_late_stop_of_a_half_filled_order_fires_without_another_trade() -> None:
    exchange = make_exchange(policy=ExchangePolicy(late_triggers_fire=True))
    set_book(exchange)
    account = make_account(exchange)
    limit, stop = oco(exchange, account, working=buy("99", "3"), legs_take_fill=True)
    exchange.apply_levels(NATIVE, levels(("94", "50")), [])
    exchange.market_trade(NATIVE, Side.SELL, D("11"))  # 1 of the working order's 3
    trade_at(exchange, "95.5")
    assert (limit.status, stop.status) == (Status.PENDING_NEW, Status.PENDING_NEW)
    exchange.cancel(account, order_id=exchange.shelf.open(account)[0].id)
    assert (stop.status, stop.filled) == (Status.FILLED, D("0.99"))


# Durability


def test_waiting_orders_and_lists_survive_a_kill(tmp_path: Path) -> None:
    store = Store(tmp_path)
    exchange = make_exchange(store=store)
    set_book(exchange)
    account = make_account(exchange)
    alone = exchange.place(account, sell(None, "1", trigger=below("97"), client_id="alone"))
    limit, stop = oco(exchange, account, client_id="pair")
    pending, _ = oco(exchange, account, client_id="later", working=buy("90", "3"))
    store._db.close()  # nothing else is said to it, as when the process is killed

    again = make_exchange(store=Store(tmp_path))
    set_book(again)
    account = again.accounts["alice"]
    found = {order.id: order for order in again.shelf.open(account)}
    assert (found[alone.id].idle, found[stop.id].idle, found[limit.id].idle) == (True, True, False)
    assert found[pending.id].status is Status.PENDING_NEW
    assert [one.client_id for one in again.lists.open_lists(account)] == ["pair", "later"]
    assert locked(account, "BTC") == D("3")
    trade_at(again, "95.5")
    assert (found[alone.id].status, found[stop.id].status) == (Status.FILLED, Status.FILLED)
    assert found[limit.id].status is Status.EXPIRED
    kept = again.lists.find(account, client_id="pair")
    assert kept is not None
    assert not kept.is_open
    assert again.store.order_lists("test", open_only=True)[0].client_id == "later"
