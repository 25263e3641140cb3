"""Positions, margin, funding and liquidation, with figures worked out by hand."""

from __future__ import annotations

from decimal import Decimal
from pathlib import Path

import pytest

from exchangesim.core.futures.liquidation import deleverage
from exchangesim.core.futures.margin import liquidation_price
from exchangesim.core.orders import PositionSide, Reject, Rejected, Side, Status
from exchangesim.core.state import Store
from tests.exchangesim.futures.contracts import (
    NATIVE,
    Heard,
    make_account,
    make_contracts,
    order,
    set_price,
    worth,
)

D = Decimal
BUY, SELL = Side.BUY, Side.SELL


def test_opening_adding_reducing_and_turning_a_position() -> None:
    exchange = make_contracts()
    account = make_account(exchange)
    position = exchange.position(account, NATIVE, PositionSide.BOTH)

    exchange.place(account, order(BUY, "0.1"))  # at 50,000.1
    assert (position.quantity, position.entry_price) == (D("0.1"), D("50000.1"))
    set_price(exchange, D("50300"))
    exchange.place(account, order(BUY, "0.2"))  # at 50,300.1
    # (0.1 x 50,000.1 + 0.2 x 50,300.1) / 0.3
    assert (position.quantity, position.entry_price) == (D("0.3"), D("50200.1"))
    assert position.unrealized(D("50300")) == D("29.97")  # 0.3 x 99.9

    set_price(exchange, D("51000"))
    exchange.place(account, order(SELL, "0.1"))  # at 50,999.9: realises 0.1 x 799.8
    assert (position.quantity, position.entry_price, position.realized) == (D("0.2"), D("50200.1"), D("79.98"))

    exchange.place(account, order(SELL, "0.5"))  # closes 0.2, opens 0.3 short at 50,999.9
    assert (position.quantity, position.entry_price) == (D("-0.3"), D("50999.9"))
    assert position.realized == D("239.94")  # 79.98 + 0.2 x 799.8
    # Fees of 5 bps on what was traded: 0.1 x 50,000.1 + 0.2 x 50,300.1 + 0.6 x 50,999.9
    fees = (D("5000.01") + D("10060.02") + D("30599.94")) * D("0.0005")
    assert account.free("USDT") == D("10000") + D("239.94") - fees


def test_margin_and_what_is_available() -> None:
    exchange = make_contracts()
    account = make_account(exchange, wallet="1000")
    exchange.set_leverage(account, NATIVE, 10)
    exchange.place(account, order(BUY, "0.1", "49000"))
    margin = exchange.margin(account, "USDT")
    assert (margin.orders_initial, margin.positions_initial, margin.available) == (D("490"), 0, D("510"))

    exchange.place(account, order(SELL, "0.05"))  # at 49,999.9, bound by the larger side alone
    margin = exchange.margin(account, "USDT")
    wallet = D("1000") - D("2499.995") * D("0.0005")
    assert margin.wallet == wallet.quantize(D("0.00000001"))
    assert margin.positions_initial == D("250")  # 0.05 x 50,000 / 10
    assert margin.orders_initial == 0 + max(D("2400") - D("2500"), 0)  # bought, it is 2,400 long at most
    assert margin.maintenance == D("10")  # 2,500 x 0.4 %
    assert margin.available == margin.wallet + margin.unrealized - 250
    with pytest.raises(Rejected) as refused:
        exchange.place(account, order(SELL, "0.2"))
    assert refused.value.reason is Reject.INSUFFICIENT_BALANCE


def test_an_order_may_bind_all_that_is_available() -> None:
    exchange = make_contracts()
    account = make_account(exchange, wallet="500")
    exchange.set_leverage(account, NATIVE, 10)
    resting = exchange.place(account, order(BUY, "0.1", "49000", tif="GTC"))
    assert resting.is_open
    assert exchange.margin(account, "USDT").available == 10
    with pytest.raises(Rejected) as refused:
        exchange.place(account, order(BUY, "0.01", "49000", tif="GTC"))
    assert refused.value.reason is Reject.INSUFFICIENT_BALANCE


@pytest.mark.parametrize(
    ("side", "wallet", "leverage", "expected"),
    [
        # Long 0.1 at 50,000.1, wallet 1,000 - 2.500005 fee: (5,000.01 - 997.499995) / (0.1 - 0.1 x 0.004)
        (BUY, "1000", 10, "40185.8434"),
        # Short 0.1 at 49,999.9, wallet 1,000 - 2.499995 fee: (-4,999.99 - 997.500005) / (-0.1 - 0.1 x 0.004)
        (SELL, "1000", 10, "59735.9562"),
        (BUY, "10000", 10, "0"),  # more than enough for any price
    ],
    ids=["long", "short", "none"],
)
def test_the_liquidation_price_of_a_cross_position(side: Side, wallet: str, leverage: int, expected: str) -> None:
    exchange = make_contracts()
    account = make_account(exchange, wallet=wallet)
    exchange.set_leverage(account, NATIVE, leverage)
    exchange.place(account, order(side, "0.1"))
    margin = exchange.margin(account, "USDT")
    assert liquidation_price(margin, margin.positions[0]).quantize(D("0.0001")) == D(expected)


def test_a_position_is_liquidated_at_its_liquidation_price_and_not_before() -> None:
    exchange, heard = make_contracts(), Heard()
    account = make_account(exchange, wallet="1000")
    exchange.place(account, order(BUY, "0.1"))
    resting = exchange.place(account, order(BUY, "0.01", "39000", tif="GTC"))
    exchange.listeners.append(heard)
    set_price(exchange, D("40200"))
    assert exchange.positions(account)
    assert heard.events == ["MARGIN_CALL"]
    before = worth(exchange)

    set_price(exchange, D("40185"))
    assert exchange.positions(account) == []
    assert resting.status is Status.CANCELED
    # Left of 997.499995 after 0.1 x (40,184.9 - 50,000.1) and 5 bps of 4,018.49: the clearance fee takes it all.
    assert heard.events[1:] == [
        "CANCELED:CANCELED",
        "NEW:NEW",
        "ORDER:0",
        "LIQUIDATED:FILLED",
        "INSURANCE_CLEAR:-13.97075",
    ]
    assert account.free("USDT") == 0
    assert worth(exchange) == before
    kinds = [entry.kind for entry in exchange.store.entries(exchange.name, api_key="alice")]
    assert kinds == ["COMMISSION", "REALIZED_PNL", "COMMISSION", "INSURANCE_CLEAR"]


def test_a_gap_through_the_bankruptcy_price_leaves_an_empty_wallet_and_no_debt() -> None:
    exchange = make_contracts()
    account = make_account(exchange, wallet="1000")
    exchange.place(account, order(BUY, "0.1"))
    before = worth(exchange)
    set_price(exchange, D("30000"), depth="0.02")  # less in the book than there is to close
    assert exchange.positions(account) == []
    assert account.free("USDT") == 0
    assert worth(exchange) == before


def test_an_isolated_position_loses_its_own_margin_alone() -> None:
    exchange = make_contracts()
    account = make_account(exchange, wallet="1000")
    exchange.set_isolated(account, NATIVE, True)
    exchange.set_leverage(account, NATIVE, 50)
    exchange.place(account, order(BUY, "0.1"))  # 0.1 x 50,000.1 / 50
    position = exchange.positions(account)[0]
    assert position.isolated_wallet == D("100.0002")
    margin = exchange.margin(account, "USDT")
    assert margin.available == margin.cross_wallet == account.free("USDT") - D("100.0002")
    # (5,000.01 - 100.0002) / 0.0996
    price = liquidation_price(margin, margin.positions[0])
    assert price.quantize(D("0.001")) == D("49196.886")
    exchange.add_margin(account, NATIVE, PositionSide.BOTH, D("50"))
    set_price(exchange, D("49190"))
    assert exchange.positions(account)
    exchange.add_margin(account, NATIVE, PositionSide.BOTH, D("20"))
    cross = account.free("USDT") - D("170.0002")
    before = worth(exchange)
    set_price(exchange, D("40000"))
    assert exchange.positions(account) == []
    assert account.free("USDT") == cross
    assert worth(exchange) == before


def test_funding_goes_from_longs_to_shorts() -> None:
    exchange = make_contracts()
    long, short = make_account(exchange, "long"), make_account(exchange, "short")
    exchange.place(long, order(BUY, "0.2"))
    exchange.place(short, order(SELL, "0.5"))
    wallets = long.free("USDT"), short.free("USDT")
    before, market = worth(exchange), exchange.market_flow["USDT"]
    exchange.set_rate(NATIVE, D("0.0003"))
    exchange.fund(NATIVE)
    assert long.free("USDT") == wallets[0] - D("3")  # 0.2 x 50,000 x 0.03 %
    assert short.free("USDT") == wallets[1] + D("7.5")
    assert exchange.market_flow["USDT"] == market - D("4.5")  # the market's own 0.3 long pays
    assert worth(exchange) == before
    assert [rate.rate for rate in exchange.funding_rates(NATIVE)] == [D("0.0003")]
    entry = exchange.store.entries(exchange.name, api_key="long", kind="FUNDING_FEE")[-1]
    assert (entry.amount, entry.native) == (D("-3"), NATIVE)


def test_funding_happens_at_its_time_once() -> None:
    exchange = make_contracts()
    account = make_account(exchange)
    exchange.place(account, order(BUY, "0.2"))
    due = exchange.next_funding_ms
    exchange.clock.advance((due - exchange.clock.time_ms()) / 1000 - 1)  # type: ignore[attr-defined]
    exchange.tick()
    assert exchange.funding_rates(NATIVE) == ()
    exchange.clock.advance(1)  # type: ignore[attr-defined]
    exchange.tick()
    exchange.tick()
    assert len(exchange.funding_rates(NATIVE)) == 1
    assert exchange.next_funding_ms == due + 8 * 3_600_000


def test_a_reduce_only_order_trades_no_more_than_the_position() -> None:
    exchange = make_contracts()
    account = make_account(exchange)
    with pytest.raises(Rejected) as refused:
        exchange.place(account, order(SELL, "0.1", reduce_only=True))
    assert refused.value.reason is Reject.REDUCE_ONLY
    exchange.place(account, order(BUY, "0.1"))
    with pytest.raises(Rejected):
        exchange.place(account, order(BUY, "0.1", reduce_only=True))
    first = exchange.place(account, order(SELL, "0.06", "51000", reduce_only=True))
    second = exchange.place(account, order(SELL, "0.06", "52000", reduce_only=True))
    assert second.quantity == D("0.04")  # what the first leaves
    exchange.place(account, order(SELL, "0.03"))  # by another order
    assert (first.quantity, second.quantity) == (D("0.06"), D("0.01"))
    exchange.place(account, order(SELL, "0.07"))
    assert (first.status, second.status) == (Status.EXPIRED, Status.EXPIRED)
    assert exchange.positions(account) == []


def test_hedged_positions_stand_side_by_side() -> None:
    exchange = make_contracts()
    account = make_account(exchange)
    exchange.set_hedged(account, True)
    with pytest.raises(Rejected) as refused:
        exchange.place(account, order(BUY, "0.1"))
    assert refused.value.reason is Reject.POSITION_SIDE
    exchange.place(account, order(BUY, "0.1", position="LONG"))
    exchange.place(account, order(SELL, "0.04", position="SHORT"))
    assert {(p.side, p.quantity) for p in exchange.positions(account)} == {
        (PositionSide.LONG, D("0.1")),
        (PositionSide.SHORT, D("-0.04")),
    }
    with pytest.raises(Rejected):
        exchange.set_hedged(account, False)
    closing = exchange.place(account, order(SELL, "0.3", position="LONG"))
    assert (closing.quantity, closing.reduce_only) == (D("0.1"), True)
    assert [p.side for p in exchange.positions(account)] == [PositionSide.SHORT]


def test_a_position_may_not_be_larger_than_its_leverage_allows() -> None:
    exchange = make_contracts()
    account = make_account(exchange, wallet="10000000")
    exchange.set_leverage(account, NATIVE, 100)  # up to 800,000
    with pytest.raises(Rejected) as refused:
        exchange.place(account, order(BUY, "17"))
    assert refused.value.reason is Reject.POSITION_LIMIT
    exchange.place(account, order(BUY, "15.9"))
    with pytest.raises(Rejected) as refused:
        exchange.set_leverage(account, NATIVE, 125)
    assert refused.value.reason is Reject.POSITION_LIMIT


def test_positions_settings_and_orders_survive_a_kill(tmp_path: Path) -> None:
    store = Store(tmp_path)
    exchange = make_contracts(store=store)
    account = make_account(exchange)
    exchange.set_leverage(account, NATIVE, 7)
    exchange.place(account, order(BUY, "0.1"))
    resting = exchange.place(account, order(SELL, "0.05", "55000", reduce_only=True))
    exchange.fund(NATIVE)
    before, wallet = exchange.positions(account), account.free("USDT")
    store.close()  # every operation is durable when it returns

    again = make_contracts(store=Store(tmp_path))
    account = again.accounts["alice"]
    assert again.positions(account) == before
    assert account.free("USDT") == wallet
    assert again.settings(account).leverage(NATIVE) == 7
    assert len(again.funding_rates(NATIVE)) == 1
    kept = again.shelf.open(account)[0]
    assert (kept.id, kept.reduce_only) == (resting.id, True)
    again.place(account, order(SELL, "0.1"))
    assert (again.positions(account), kept.status) == ([], Status.EXPIRED)


def test_deleveraging_closes_a_part_under_the_exchanges_own_id_and_conserves_what_there_is() -> None:
    exchange, heard = make_contracts(), Heard()
    account = make_account(exchange, wallet="10000")
    exchange.place(account, order(BUY, "0.3"))
    before = worth(exchange)
    exchange.listeners.append(heard)
    for quantity, left in (("0.1", "0.2"), ("0.2", "0")):  # one name for every such order
        (position,) = exchange.positions(account)
        done = deleverage(exchange, account, position, D(quantity))
        assert (done.client_id, done.status, done.filled) == ("adl_autoclose", Status.FILLED, D(quantity))
        assert sum((held.quantity for held in exchange.positions(account)), D(0)) == D(left)
    assert worth(exchange) == before
    assert "INSURANCE_CLEAR" not in heard.events
