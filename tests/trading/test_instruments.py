"""Ticks, lots, contracts, and what may enter as money."""

from decimal import Decimal

import pytest
from hypothesis import given
from hypothesis import strategies as st

from trading.instruments import (
    Market,
    base_quantity,
    common_step,
    limit_price,
    lot_quantity,
    money,
    order_quantity,
    positive,
)

D = Decimal
steps = st.sampled_from([D("0.00001"), D("0.0002"), D("0.001"), D("0.25"), D("0.5"), D(1), D(3), D(10)])
amounts = st.decimals(min_value=D("0.000001"), max_value=D(10) ** 9, places=8)


def market(**changes: object) -> Market:
    values: dict[str, object] = {
        "exchange": "x",
        "symbol": "BTC/USDT",
        "native_id": "BTCUSDT",
        "base": "BTC",
        "quote": "USDT",
        "tick": D("0.01"),
        "lot": D("0.001"),
    }
    return Market(**{**values, **changes})  # type: ignore[arg-type]


@given(amounts, steps)
def test_limit_price_is_a_tick_and_never_worse_than_the_cap(price: Decimal, tick: Decimal) -> None:
    one = market(tick=tick)
    buy, sell = limit_price(one, price, "buy"), limit_price(one, price, "sell")
    assert buy <= price <= sell
    assert buy % tick == 0
    assert sell % tick == 0
    assert sell - buy <= tick


@given(amounts, steps, steps)
def test_lot_quantity_fits_both_markets_and_never_grows(quantity: Decimal, one: Decimal, other: Decimal) -> None:
    result = lot_quantity(quantity, market(lot=one), market(lot=other))
    assert result <= quantity
    assert result % one == 0
    assert result % other == 0
    assert quantity - result < common_step(one, other)


def test_common_step_of_half_and_fifth_is_one() -> None:
    assert common_step(D("0.5"), D("0.2")) == 1
    assert common_step(D("0.001"), D("0.0004")) == D("0.002")


def test_contracts_convert_by_hand_checked_examples() -> None:
    # Binance COIN-M BTC: 100 USD a contract; 12 contracts at 60,000 are 0.02 BTC.
    inverse = market(kind="inverse", contract_size=D(100))
    assert base_quantity(inverse, D(12), D(60000)) == D("0.02")
    assert order_quantity(inverse, D("0.02"), D(60000)) == 12
    # OKX BTC-USDT-SWAP: 0.01 BTC a contract.
    linear = market(kind="linear", contract_size=D("0.01"))
    assert base_quantity(linear, D(250), D(60000)) == D("2.5")
    assert order_quantity(linear, D("2.5"), D(60000)) == 250


@pytest.mark.parametrize(
    "given_value", ["NaN", "Infinity", "-Infinity", "1e400", "1e20", "1e-30", "abc", "", "1,5", "1_000", "１２"]
)
def test_money_refuses_what_the_database_cannot_hold(given_value: str) -> None:
    with pytest.raises(ValueError, match="price"):
        money(given_value, field="price")


def test_money_is_never_made_from_a_float() -> None:
    with pytest.raises(TypeError, match="float"):
        money(0.1)  # type: ignore[arg-type]


@pytest.mark.parametrize("given_value", ["0", "-1", "-0"])
def test_positive_refuses_zero_and_below(given_value: str) -> None:
    with pytest.raises(ValueError, match="amount: must be above zero"):
        positive(given_value, field="amount")
