"""What may be spent: down by our own word, up only by the exchange's."""

from __future__ import annotations

from decimal import Decimal

import pytest
from hypothesis import given
from hypothesis import strategies as st

from trading.messages import AccountBalance
from trading.portfolio import InsufficientFunds, Portfolio, Purse

D = Decimal
PURSE = Purse(1, False)


def figures(free: str, at: int, used: str = "0", asset: str = "USDT") -> AccountBalance:
    return AccountBalance(account_id=1, asset=asset, free=D(free), used=D(used), received_ns=at)


def with_money(free: str = "100") -> Portfolio:
    portfolio = Portfolio()
    portfolio.on_balance(PURSE, figures(free, 1))
    return portfolio


def test_nothing_is_free_before_the_exchange_has_spoken() -> None:
    assert Portfolio().free(PURSE, "USDT") == 0
    with pytest.raises(InsufficientFunds, match=r"0 USDT free; 1 are needed"):
        Portfolio().reserve("a", PURSE, "USDT", D(1))


def test_a_reservation_is_held_until_its_order_is_settled() -> None:
    portfolio = with_money()
    portfolio.reserve("a", PURSE, "USDT", D(60))
    assert portfolio.free(PURSE, "USDT") == 40
    with pytest.raises(InsufficientFunds):
        portfolio.reserve("b", PURSE, "USDT", D("40.01"))
    # New figures don't end it: the order's outcome may still be unknown.
    portfolio.on_balance(PURSE, figures("100", 5))
    assert portfolio.free(PURSE, "USDT") == 40
    portfolio.settle("a", D(0), 6)
    assert portfolio.free(PURSE, "USDT") == 100


def test_what_was_spent_stays_deducted_until_newer_figures() -> None:
    portfolio = with_money()
    portfolio.reserve("a", PURSE, "USDT", D(60))
    portfolio.settle("a", D(50), 10)
    assert portfolio.free(PURSE, "USDT") == 50
    portfolio.on_balance(PURSE, figures("100", 9))  # asked for before the fill was known
    assert portfolio.free(PURSE, "USDT") == 50
    portfolio.on_balance(PURSE, figures("50", 11))
    assert portfolio.free(PURSE, "USDT") == 50


def test_older_figures_are_ignored() -> None:
    portfolio = with_money()
    portfolio.on_balance(PURSE, figures("70", 10))
    assert not portfolio.on_balance(PURSE, figures("100", 5))
    assert portfolio.free(PURSE, "USDT") == 70


def test_paper_and_real_money_are_apart() -> None:
    portfolio = with_money()
    portfolio.on_balance(Purse(1, True), figures("5", 1))
    portfolio.reserve("a", Purse(1, True), "USDT", D(5))
    assert portfolio.free(PURSE, "USDT") == 100
    assert portfolio.free(Purse(1, True), "USDT") == 0


def test_an_order_reserves_once_and_settles_once() -> None:
    portfolio = with_money()
    portfolio.reserve("a", PURSE, "USDT", D(10))
    with pytest.raises(ValueError, match="holds a reservation"):
        portfolio.reserve("a", PURSE, "USDT", D(10))
    portfolio.adopt("a", PURSE, "USDT", D(10))
    portfolio.settle("a", D(0), 1)
    portfolio.settle("a", D(10), 1)
    assert portfolio.free(PURSE, "USDT") == 100


amounts = st.decimals("0", "50", places=8)


@given(
    st.lists(
        st.one_of(
            st.tuples(st.just("reserve"), st.integers(0, 5), amounts),
            st.tuples(st.just("settle"), st.integers(0, 5), amounts),
            st.tuples(st.just("figures"), st.just(0), amounts),
        ),
        max_size=40,
    )
)
def test_free_is_never_negative_and_never_above_the_exchanges_word(steps: list[tuple[str, int, Decimal]]) -> None:
    portfolio = with_money()
    said = D(100)
    now = 1
    held: dict[str, Decimal] = {}
    for step, which, amount in steps:
        now += 1
        name = f"order-{which}"
        if step == "figures":
            said = amount
            portfolio.on_balance(PURSE, figures(str(amount), now))
        elif step == "settle":
            portfolio.settle(name, min(amount, held.pop(name, D(0))), now)
        elif name not in held:
            free = portfolio.free(PURSE, "USDT")
            if amount > free:
                with pytest.raises(InsufficientFunds):
                    portfolio.reserve(name, PURSE, "USDT", amount)
            else:
                portfolio.reserve(name, PURSE, "USDT", amount)
                held[name] = amount
        assert 0 <= portfolio.free(PURSE, "USDT") <= said
        assert portfolio.reserved(PURSE, "USDT") == sum(held.values())
