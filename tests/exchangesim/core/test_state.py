"""What a simulated exchange keeps when it is stopped, or killed."""

from __future__ import annotations

from decimal import Decimal
from itertools import pairwise
from pathlib import Path

import pytest

from exchangesim.core.exchange import SimExchange
from exchangesim.core.orders import Side, Status
from exchangesim.core.state import Counter, StateError, Store
from tests.exchangesim.core.venue import NATIVE, buy, levels, make_account, make_exchange, sell, totals

D = Decimal


def trade_a_little(exchange: SimExchange) -> None:
    exchange.apply_levels(NATIVE, levels(("99", "1")), levels(("101", "1")))
    alice, bob = make_account(exchange, "alice"), make_account(exchange, "bob")
    exchange.place(alice, buy("100", "2", client_id="resting"))
    exchange.place(bob, sell("100", "0.5", tif="IOC", client_id="taken"))
    exchange.place(bob, buy("101", "0.25"))
    exchange.cancel(bob, order_id=exchange.place(bob, buy("90", "1")).id)


def test_accounts_orders_and_fills_survive_without_a_goodbye(tmp_path: Path) -> None:
    first = make_exchange(store=Store(tmp_path))
    trade_a_little(first)
    before = totals(first)
    balances = {name: dict(account.balances) for name, account in first.accounts.items()}
    orders, fills = first.store.orders("test"), first.store.fills("test")
    first.store._db.close()  # no more than the end of a killed process does

    second = make_exchange(store=Store(tmp_path))
    assert totals(second) == before
    assert {name: dict(account.balances) for name, account in second.accounts.items()} == balances
    assert second.store.orders("test") == orders
    assert second.store.fills("test") == fills


def test_open_orders_are_in_the_book_again_and_can_fill_or_be_cancelled(tmp_path: Path) -> None:
    first = make_exchange(store=Store(tmp_path))
    trade_a_little(first)
    first.store.close()

    second = make_exchange(store=Store(tmp_path))
    alice = second.accounts["alice"]
    (order,) = second.shelf.open(alice)
    assert (order.client_id, order.status, order.filled) == ("resting", Status.PARTIALLY_FILLED, D("0.5"))
    assert second.markets[NATIVE].book.bids.top(1) == levels(("100", "1.5"))
    second.place(second.accounts["bob"], sell("100", "0.5"))
    assert order.filled == D(1)
    second.cancel(alice, client_id="resting")
    assert alice.balance("USDT").locked == 0


def test_ids_keep_growing_over_restarts(tmp_path: Path) -> None:
    ids: list[tuple[int, int, int]] = []
    for _ in range(3):
        exchange = make_exchange(store=Store(tmp_path))
        exchange.apply_levels(NATIVE, levels(("99", "1")), levels(("101", "1")))
        account = exchange.accounts.get("alice") or make_account(exchange)
        order = exchange.place(account, buy("101", "0.5"))
        assert order.last_fill is not None
        ids.append((order.id, order.last_fill.trade_id, exchange.markets[NATIVE].update_id))
        exchange.store._db.close()
    for earlier, later in pairwise(ids):
        assert all(old < new for old, new in zip(earlier, later, strict=True))


def test_an_account_made_again_keeps_its_balances_and_takes_the_new_secret(tmp_path: Path) -> None:
    exchange = make_exchange(store=Store(tmp_path))
    make_account(exchange, USDT="5")
    account, made = exchange.put_account("alice", "another", balances={"USDT": D(1000)}, permissions=["read"])
    assert not made
    assert account.balance("USDT").total == 5
    exchange.store.close()
    kept = make_exchange(store=Store(tmp_path)).accounts["alice"]
    assert (kept.secret, kept.permissions, kept.balance("USDT").total) == ("another", {"read"}, D(5))


def test_one_state_serves_one_simulator(tmp_path: Path) -> None:
    store = Store(tmp_path)
    with pytest.raises(StateError, match="one simulator only"):
        Store(tmp_path)
    store.close()
    Store(tmp_path).close()


def test_a_state_that_cannot_be_written_is_refused_in_one_sentence(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(StateError, match="cannot make the directory"):
        Store(tmp_path / "file" / "below")
    (tmp_path / "exchangesim.sqlite3").write_bytes(b"not a database at all, but long enough to be read as one" * 20)
    with pytest.raises(StateError, match="cannot use"):
        Store(tmp_path)


def test_a_counter_never_repeats_even_when_its_block_is_lost(tmp_path: Path) -> None:
    store = Store(tmp_path)
    counter = Counter(store, "test", "order", first=100, block=10)
    given = [counter.take() for _ in range(25)]
    assert given == list(range(100, 125))
    assert Counter(store, "test", "order", first=100, block=10).take() > given[-1]
    assert counter.take(5) == 125
    assert counter.last == 129


def test_old_closed_orders_are_forgotten_and_open_ones_are_not() -> None:
    exchange = make_exchange(store=Store(keep_closed=3))
    account = make_account(exchange)
    resting = exchange.place(account, buy("50", "1"))
    exchange.apply_levels(NATIVE, (), levels(("101", "100")))
    closed = [exchange.place(account, buy("101", "0.1")) for _ in range(6)]
    exchange.store.prune("test")
    assert [order.id for order in exchange.store.orders("test")] == [resting.id, *(o.id for o in closed[-3:])]
    assert {fill.order_id for fill in exchange.store.fills("test")} == {order.id for order in closed[-3:]}


def test_orders_and_fills_are_listed_oldest_first_from_either_end() -> None:
    exchange = make_exchange()
    account = make_account(exchange)
    exchange.apply_levels(NATIVE, (), levels(("101", "100")))
    ids = [exchange.place(account, buy("101", "0.1")).id for _ in range(5)]
    store = exchange.store
    assert [order.id for order in store.orders("test", limit=2)] == ids[-2:]
    assert [order.id for order in store.orders("test", from_id=ids[1], newest=False, limit=2)] == ids[1:3]
    assert [fill.order_id for fill in store.fills("test", limit=2)] == ids[-2:]
    assert [fill.order_id for fill in store.fills("test", order_id=ids[0])] == ids[:1]
    assert store.orders("test", api_key="nobody") == []


def test_a_market_trade_without_users_writes_nothing_but_counters() -> None:
    exchange = make_exchange()
    exchange.apply_levels(NATIVE, levels(("99", "1")), levels(("101", "1")))
    assert exchange.market_trade(NATIVE, Side.BUY, D("0.5")) == D("0.5")
    assert exchange.store.fills("test") == []
    assert exchange.markets[NATIVE].last_price == 101
