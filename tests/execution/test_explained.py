"""Balances against fills: what is explained, what is not, and what can't be said."""

from __future__ import annotations

from decimal import Decimal

from tests.engine.worlds import spot
from trading.execution.explained import Explained
from trading.messages import AccountBalance, Fill
from trading.portfolio import Purse

D = Decimal
PURSE = Purse(11, False)
MARKET = spot("alpha")


def figure(asset: str, free: str, at: int, used: str = "0") -> AccountBalance:
    return AccountBalance(account_id=11, asset=asset, free=D(free), used=D(used), received_ns=at)


def fill(quantity: str, *, side: str = "buy", fee: str | None = "0", fee_asset: str = "BTC") -> Fill:
    return Fill(
        account_id=11, market=MARKET.key, exchange_trade_id="1", exchange_order_id="x", client_order_id="c",
        side=side, price=D(100), quantity=D(quantity), fee=None if fee is None else D(fee), fee_asset=fee_asset,  # type: ignore[arg-type]
        liquidity="", exchange_ns=0,
    )  # fmt: skip


def test_nothing_is_said_without_a_figure_from_before() -> None:
    explained = Explained()
    explained.begin("a", PURSE)
    explained.on_balance(PURSE, figure("BTC", "10", 1))
    assert explained.judge(PURSE, figure("BTC", "11", 2)) is None


def test_fills_and_fees_explain_what_moved_to_the_last_digit() -> None:
    explained = Explained()
    explained.on_balance(PURSE, figure("BTC", "10", 1))
    explained.on_balance(PURSE, figure("USDT", "1000", 1))
    explained.begin("a", PURSE)
    explained.book(PURSE, MARKET, fill("2", fee=None))
    explained.book_fee(PURSE, fill("2", fee="0.002"))
    base = explained.judge(PURSE, figure("BTC", "11.5", 5, used="0.498"))
    quote = explained.judge(PURSE, figure("USDT", "800", 5))
    assert base is not None
    assert quote is not None
    assert (base.amount, quote.amount) == (0, 0)


def test_an_execution_nobody_knows_of_is_unexplained() -> None:
    explained = Explained()
    explained.on_balance(PURSE, figure("BTC", "10", 1))
    explained.begin("a", PURSE)
    explained.on_balance(PURSE, figure("BTC", "11", 2))  # not a baseline: an order is on its way
    judged = explained.judge(PURSE, figure("BTC", "11", 3))
    assert judged is not None
    assert (judged.baseline, judged.amount) == (10, 1)


def test_a_quiet_account_takes_every_figure_as_it_is() -> None:
    explained = Explained()
    explained.on_balance(PURSE, figure("BTC", "10", 1))
    explained.begin("a", PURSE)
    explained.book(PURSE, MARKET, fill("2"))
    explained.end("a", PURSE, now_ns=50)
    explained.on_balance(PURSE, figure("BTC", "10", 40))  # asked for before the order ended
    judged = explained.judge(PURSE, figure("BTC", "12", 45))
    assert judged is not None
    assert judged.amount == 0
    explained.on_balance(PURSE, figure("BTC", "17", 60))  # with a deposit of five
    explained.begin("b", PURSE)
    judged = explained.judge(PURSE, figure("BTC", "17", 70))
    assert judged is not None
    assert judged.amount == 0


def test_accounts_are_apart() -> None:
    explained = Explained()
    explained.begin("a", Purse(12, False))
    explained.on_balance(PURSE, figure("BTC", "10", 1))
    assert explained.judge(PURSE, figure("BTC", "10", 2)) is not None
