"""Margin before an order: the exchange's own examples, and what a simulated exchange does with the same order."""

from __future__ import annotations

from decimal import Decimal

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from exchangesim.core.accounts import Account
from exchangesim.core.futures.brackets import brackets_of
from exchangesim.core.futures.brackets import maintenance as simulated_maintenance
from exchangesim.core.futures.exchange import FuturesExchange
from exchangesim.core.futures.margin import Resting
from exchangesim.core.futures.margin import liquidation_price as told_price
from exchangesim.core.orders import PositionSide
from exchangesim.core.orders import Side as SimSide
from tests.exchangesim.futures.contracts import NATIVE, RULES, make_account, make_contracts, order, set_price
from trading.instruments import Side
from trading.margin import (
    Held,
    Tier,
    initial_margin,
    liquidation_price,
    maintenance,
    most_leverage,
    tiers_of,
)

D = Decimal
TIERS = tiers_of((bracket.floor, bracket.cap, bracket.rate, bracket.leverage) for bracket in brackets_of("BTC"))
CENT = D("0.01")


def test_the_exchange_s_own_example_of_two_positions_under_cross_margin() -> None:
    # https://www.binance.com/en/support/faq/b3c689c1f50a44cabb3a84e663b81d93: one wallet behind two longs.
    wallet = D("1535443.01")
    eth = liquidation_price(
        Held(D("3683.979"), D("3683.979") * D("1456.84")),
        wallet - D("71200.81144") - D("56354.57"),
        [Tier(D(0), D(10) ** 9, D("0.1"), 5, D(135_365))],
    )
    btc = liquidation_price(
        Held(D("109.488"), D("109.488") * D("32481.98")),
        wallet - D("356512.508") - D("448192.89"),
        [Tier(D(0), D(10) ** 9, D("0.025"), 20, D(16_300))],
    )
    assert eth is not None
    assert btc is not None
    assert (eth.quantize(CENT), btc.quantize(CENT)) == (D("1153.26"), D("26316.89"))


@pytest.mark.parametrize(
    ("quantity", "margin", "price"),
    [
        # One coin at 50,000 with a tenth of that behind it, the rate of the first tier 0.4 %: P (1 - 0.004) = 45,000.
        ("1", "5000", "45180.72"),
        # Short: P (1 + 0.004) = 55,000.
        ("-1", "5000", "54780.88"),
        # More behind it than it can lose.
        ("1", "50000", None),
        # A short can always lose it: P = 100,000 / 1.004.
        ("-1", "50000", "99601.59"),
    ],
)
def test_one_coin_by_hand(quantity: str, margin: str, price: str | None) -> None:
    found = liquidation_price(Held(D(quantity), D(quantity) * 50_000), D(margin), TIERS)
    assert (found and found.quantize(CENT)) == (D(price) if price else None)


def test_a_short_that_rises_into_the_next_tier_ends_by_that_tier_s_rate() -> None:
    # 5 coins at 50,000 are worth 250,000, of the first tier; at 60,000 they are worth 300,000, the end of it.
    held, margin = Held(D(-5), D(-250_000)), D(60_000)
    found = liquidation_price(held, margin, TIERS)
    assert found is not None
    assert found > 60_000, "so its value is of the second tier"
    # (250,000 + 60,000 + 300) / (5 x 1.005)
    assert found.quantize(CENT) == D("61751.24")
    assert maintenance(TIERS, 5 * found).quantize(CENT) == (margin + 250_000 - 5 * found).quantize(CENT)


def test_without_a_position_or_tiers_there_is_no_price() -> None:
    assert liquidation_price(Held(), D(1), TIERS) is None
    assert liquidation_price(Held(D(1), D(100)), D(1), ()) is None


@pytest.mark.parametrize(
    ("held", "side", "quantity", "price", "after"),
    [
        (Held(), "buy", "2", "100", Held(D(2), D(200))),
        (Held(D(2), D(200)), "buy", "1", "130", Held(D(3), D(330))),
        (Held(D(4), D(400)), "sell", "1", "130", Held(D(3), D(300))),
        (Held(D(2), D(200)), "sell", "3", "130", Held(D(-1), D(-130))),
        (Held(D(2), D(200)), "sell", "2", "130", Held(D(0), D(0))),
        (Held(D(-2), D(-200)), "sell", "1", "130", Held(D(-3), D(-330))),
    ],
)
def test_a_trade_opens_extends_reduces_or_turns_a_position(
    held: Held, side: Side, quantity: str, price: str, after: Held
) -> None:
    assert held.with_trade(side, D(quantity), D(price)) == after


def test_tiers_say_how_much_leverage_a_size_may_have() -> None:
    assert [most_leverage(TIERS, D(value)) for value in ("1", "300000", "300001", "900000")] == [125, 125, 100, 75]
    assert most_leverage(TIERS, D(10) ** 12) == 0
    assert most_leverage((), D(1)) == 0


@pytest.mark.parametrize(
    "rows",
    [
        [("5", "10", "0.01", 10)],
        [("0", "10", "0.01", 10), ("11", "20", "0.02", 5)],
        [("0", "10", "0.02", 10), ("10", "20", "0.01", 5)],
        [("0", "10", "1", 10)],
        [("0", "10", "0.01", 0)],
        [("0", "0", "0.01", 10)],
    ],
)
def test_figures_that_are_no_tiers_are_refused(rows: list[tuple[str, str, str, int]]) -> None:
    with pytest.raises(ValueError, match="tiers:"):
        tiers_of((D(floor), D(cap), D(rate), leverage) for floor, cap, rate, leverage in rows)


@given(st.decimals("0.01", "2000000000", places=2))
def test_maintenance_is_the_exchange_s_with_its_own_deductions(notional: Decimal) -> None:
    assert maintenance(TIERS, notional) == simulated_maintenance("BTC", notional)


def at_hand(side: Side, quantity: Decimal, leverage: int, wallet: Decimal, *, isolated: bool) -> tuple[
    FuturesExchange, Account, Held, Decimal
]:  # fmt: skip
    """Trade at the simulated exchange; return the position and the margin as they could be told before."""
    exchange = make_contracts()
    account = make_account(exchange, wallet=str(wallet))
    exchange.set_leverage(account, NATIVE, leverage)
    exchange.set_isolated(account, NATIVE, isolated)
    exchange.place(account, order(SimSide(side.upper()), str(quantity)))
    entry = exchange.mark(NATIVE) + (RULES.tick if side == "buy" else -RULES.tick)
    cost = quantity * entry
    margin = cost / leverage if isolated else wallet - cost * RULES.taker_fee
    return exchange, account, Held().with_trade(side, quantity, entry), margin


@pytest.mark.parametrize("isolated", [False, True], ids=["cross", "isolated"])
@pytest.mark.parametrize("side", ["buy", "sell"])
def test_the_simulated_exchange_tells_the_same_price_once_the_position_is_there(side: Side, isolated: bool) -> None:
    exchange, account, held, margin = at_hand(side, D(1), 10, D(6000), isolated=isolated)
    figures = exchange.margin(account, "USDT")
    found = liquidation_price(held, margin, TIERS)
    assert found is not None
    assert found.quantize(CENT) == told_price(figures, figures.positions[0]).quantize(CENT)


@settings(max_examples=40, deadline=None)
@given(
    side=st.sampled_from(["buy", "sell"]),
    quantity=st.decimals("0.1", "400", places=3),
    leverage=st.integers(1, 20),
    spare=st.decimals("0", "20000", places=2),
    isolated=st.booleans(),
)
def test_the_simulated_exchange_liquidates_there_and_not_before(
    side: Side, quantity: Decimal, leverage: int, spare: Decimal, isolated: bool
) -> None:
    wallet = quantity * 50_100 / leverage + quantity * 50_100 * RULES.taker_fee * 2 + spare + 1
    exchange, account, held, margin = at_hand(side, quantity, leverage, wallet.quantize(CENT), isolated=isolated)
    found = liquidation_price(held, margin, TIERS)
    if found is None or found > 10_000_000:
        assert side == "buy"
        found, before = D(1), D(1)
    else:
        before = found * (D("1.0001") if side == "buy" else D("0.9999"))
    set_price(exchange, before.quantize(RULES.tick), depth="100000")
    exchange.tick()
    assert len(exchange.positions(account)) == 1
    if before != found:
        set_price(
            exchange, (found * (D("0.9999") if side == "buy" else D("1.0001"))).quantize(RULES.tick), depth="100000"
        )
        exchange.tick()
        assert exchange.positions(account) == []


@given(
    side=st.sampled_from(["buy", "sell"]),
    quantity=st.decimals("0.001", "50", places=3),
    price=st.decimals("40000", "60000", places=1),
    leverage=st.integers(1, 20),
)
def test_an_order_is_never_said_to_bind_less_than_the_exchange_asks_for(
    side: Side, quantity: Decimal, price: Decimal, leverage: int
) -> None:
    exchange = make_contracts()
    account = make_account(exchange, wallet="10000000")
    exchange.set_leverage(account, NATIVE, leverage)
    resting = Resting(NATIVE, SimSide(side.upper()), PositionSide.BOTH, quantity * price)
    bound = exchange.margin(account, "USDT", resting).orders_initial
    mark = exchange.mark(NATIVE)
    lost = max(D(0), (price - mark if side == "buy" else mark - price) * quantity)
    assert initial_margin(side, quantity, price, leverage, mark) >= bound + lost
    assert initial_margin(side, quantity, price, None) >= initial_margin(side, quantity, price, leverage)
