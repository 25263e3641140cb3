"""How a style is fitted to its occasion: an opportunity's rating, or the book an entry by hand meets."""

from __future__ import annotations

from decimal import Decimal
from typing import Literal

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from trading.execution.fitting import depth_within, fitted_to_book, fitted_to_trade, part_of, words
from trading.execution.pricing import WorkingStyle, adapted
from trading.instruments import Market
from trading.marketdata.book import BookSide
from trading.messages import TradeRecord, TradeState
from trading.tickets import TicketTerms

D = Decimal
MARKET = Market(exchange="x", symbol="A/B", native_id="AB", base="A", quote="B", lot=D("0.1"))
RECORD = TradeRecord(
    trade_id="t", bot_id=1, route="r", base="A", quote="B", state=TradeState.OPEN, mode="paper", quantity=D(1),
    expected_net_bps=D(0), expected_profit=D(0), opened_ns=0,
)  # fmt: skip


def asks(*levels: tuple[float, float]) -> BookSide:
    side = BookSide(-1)
    side.replace(levels)
    return side


def asked(adapts: Literal["nothing", "price", "style"] = "style", **changes: object) -> TicketTerms:
    terms = {"market": "x:A/B", "account_id": 1, "side": "buy", "quantity": D(10), "adapts": adapts, **changes}
    return TicketTerms(**terms)  # type: ignore[arg-type]


def test_a_trade_that_was_not_rated_is_worked_as_its_bot_wants() -> None:
    style = WorkingStyle(sell_share=0.4)
    assert fitted_to_trade(style, RECORD) == (style, 1)


@pytest.mark.parametrize(("score", "liquidity"), [(0.9, 0.8), (0.1, 0.9), (0.9, 0.0), (1.0, 1.0), (1.0000001, 1.0)])
def test_a_rated_one_by_its_score_and_its_liquidity(score: float, liquidity: float) -> None:
    rated = msgspec.structs.replace(RECORD, score=score, liquidity=liquidity)
    wanted = adapted(WorkingStyle(), confidence=min(score, 1.0), liquidity=liquidity)
    assert fitted_to_trade(WorkingStyle(), rated) == wanted


def test_only_what_stands_near_the_best_price_counts() -> None:
    side = asks((100.0, 3.0), (100.05, 2.0), (100.1, 1.0), (100.2, 50.0))
    assert depth_within(side, 10.0) == 6.0
    assert depth_within(side, 0.0) == 3.0
    assert depth_within(asks(), 10.0) == 0.0
    bids = BookSide(1)
    bids.replace([(100.0, 3.0), (99.9, 4.0), (99.8, 5.0)])
    assert depth_within(bids, 10.0) == 7.0


def test_a_deep_book_makes_an_entry_eager_and_a_thin_one_patient() -> None:
    deep, thin = fitted_to_book(asked(), asks((100.0, 40.0))), fitted_to_book(asked(), asks((100.0, 2.0)))
    assert (deep.style.buy_share, deep.style.buy_seconds) == (pytest.approx(0.9), pytest.approx(7.5))
    assert (thin.style.buy_share < 0.75, thin.style.buy_seconds > 15) == (True, True)
    assert (deep.liquidity, thin.liquidity) == (1.0, 0.05)
    assert deep.quantity == thin.quantity == 10
    assert fitted_to_book(deep, asks((100.0, 2.0))) == deep, "it is fitted once"


def test_times_that_were_given_stay() -> None:
    own = WorkingStyle(buy_seconds=40.0, sell_seconds=40.0)
    fitted = fitted_to_book(asked("price", style=own), asks((100.0, 40.0))).style
    assert (fitted.buy_share, fitted.buy_seconds, fitted.sell_seconds) == (pytest.approx(0.9), 40.0, 40.0)


@pytest.mark.parametrize("terms", [asked("nothing"), asked(style=WorkingStyle(kind="market"))], ids=["not", "market"])
def test_nothing_else_is_touched(terms: TicketTerms) -> None:
    assert fitted_to_book(terms, asks((100.0, 40.0))) is terms


@given(
    quantity=st.integers(1, 1000).map(lambda lots: D(lots) / 10),
    share=st.decimals("0.25", "1", places=6),
    smallest=st.integers(1, 50).map(lambda lots: D(lots) / 10),
)
def test_neither_part_is_smaller_than_the_market_takes(quantity: Decimal, share: Decimal, smallest: Decimal) -> None:
    part = part_of(quantity, share, MARKET, smallest)
    assert part % MARKET.lot == 0
    assert 0 < part <= quantity
    if part != quantity:
        assert part >= smallest
        assert quantity - part >= smallest
        assert part <= quantity * share
    elif share < 1 and quantity >= 10 * smallest and quantity * (1 - share) >= smallest:
        raise AssertionError("it could have been parted")


def test_words_say_what_was_chosen_and_why() -> None:
    style = WorkingStyle()
    assert words(style, "sell") == "a limit that gives up 85% of the spread, for at most 10.0 s"
    assert words(style, "buy", liquidity=0.5).endswith("for at most 15.0 s (liquidity 0.50)")
    assert words(style, "buy", liquidity=0.25, score=0.8).endswith("(score 0.80, liquidity 0.25)")
    assert words(WorkingStyle(kind="market"), "buy") == "at the market, capped"
