"""Positions as the exchange tells them: the newest reading counts, and each is compared with what our books explain."""

from __future__ import annotations

from dataclasses import dataclass
from decimal import Decimal
from itertools import count
from typing import Any

import pytest

from trading.execution.holdings import GRACE_SECONDS, Holdings
from trading.instruments import Market
from trading.messages import AccountPosition, AccountPositions, Fill
from trading.portfolio import Purse

D = Decimal
KEY = "usdm:BTC/USDT:USDT"
PURSE = Purse(1, False)
_ids = count(1)
MARKET = Market(
    exchange="usdm", symbol="BTC/USDT:USDT", native_id="BTCUSDT", base="BTC", quote="USDT", kind="linear",
    tick=D("0.1"), lot=D("0.001"),
)  # fmt: skip


@dataclass
class Hands:
    """A clock that stands until it is moved."""

    now: int = 0

    def monotonic_ns(self) -> int:
        return self.now

    def time_ns(self) -> int:
        return self.now

    async def sleep(self, seconds: float) -> None:
        raise AssertionError("nothing here waits")


def fill(side: str, quantity: str, position_side: str = "") -> Fill:
    return Fill(
        position_side=position_side,
        account_id=1, market=KEY, exchange_trade_id=f"{next(_ids)}", exchange_order_id="1", client_order_id="",
        side=side, price=D(100), quantity=D(quantity), fee=None, fee_asset="", liquidity="taker", exchange_ns=0,
    )  # type: ignore[arg-type]  # fmt: skip


class Book:
    """Holdings of one account whose ledger has been compared once, and what was told of it."""

    def __init__(self, ledger: str | None = "0") -> None:
        self.clock = Hands()
        self.told: list[int] = []
        self.in_flight: set[str] = set()
        self.holdings = Holdings(self.clock)
        self.holdings.in_flight = lambda account_id: self.in_flight
        self.holdings.on_difference = self.told.append
        if ledger is not None:
            self.agree(ledger)

    def agree(self, ledger: str) -> None:
        self.holdings.agree(1, {KEY: D(ledger)} if D(ledger) else {})

    def book(self, *fills: tuple[str, str], **changes: Any) -> None:
        for side, quantity in fills:
            self.holdings.book(changes.get("purse", PURSE), changes.get("market", MARKET), fill(side, quantity))

    def tell(self, *quantities: str, after: float = 0.0) -> None:
        self.clock.now += int(after * 1e9)
        positions = tuple(AccountPosition(market=KEY, side="both", quantity=D(one)) for one in quantities)
        told = AccountPositions(account_id=1, positions=positions, received_ns=self.clock.now)
        self.holdings.on_positions(PURSE, told)


def test_a_position_that_ledger_and_fills_explain_is_no_difference() -> None:
    book = Book("1.5")
    book.book(("buy", "3"), ("sell", "1"))
    book.tell("3.5")
    book.tell("3.5", after=60)
    assert (book.told, book.holdings.differences) == ([], {})


@pytest.mark.parametrize(("told", "amount"), [(("5",), D(2)), ((), D(-3)), (("-3",), D(-6))])
def test_what_books_do_not_explain_is_told_once_after_the_grace(told: tuple[str, ...], amount: Decimal) -> None:
    book = Book()
    book.book(("buy", "3"))
    book.tell(*told)
    book.tell(*told, after=GRACE_SECONDS / 2)
    assert book.told == []
    book.tell(*told, after=GRACE_SECONDS)
    book.tell(*told, after=GRACE_SECONDS)
    assert book.told == [1]
    assert book.holdings.differences == {(1, KEY): amount}
    book.tell("3", after=1)
    assert book.holdings.differences == {}


def test_a_difference_that_changes_is_told_again() -> None:
    book = Book()
    for quantity in ("1", "1", "2", "2"):
        book.tell(quantity, after=GRACE_SECONDS)
    assert (book.told, book.holdings.differences) == ([1, 1], {(1, KEY): D(2)})


def test_a_fill_that_comes_later_than_the_reading_is_no_difference() -> None:
    book = Book()
    book.tell("3")
    book.book(("buy", "3"))
    book.tell("3", after=60)
    assert book.told == []


def test_a_comparison_that_books_a_difference_ends_it() -> None:
    """What a person adopts is in the ledger; fills booked before are in it too, and count no second time."""
    book = Book()
    book.book(("buy", "3"))
    for _ in range(2):
        book.tell("4", after=GRACE_SECONDS)
    assert book.holdings.differences == {(1, KEY): D(1)}
    book.agree("4")
    assert book.holdings.differences == {}
    book.book(("sell", "1"))
    book.tell("3", after=60)
    assert book.holdings.differences == {}


def test_nothing_is_said_before_the_first_comparison_or_while_an_orders_outcome_is_not_known() -> None:
    book = Book(ledger=None)
    book.tell("3")
    book.tell("3", after=60)
    book.agree("0")
    book.in_flight = {KEY}
    book.tell("3", after=60)
    book.tell("3", after=60)
    assert (book.told, book.holdings.differences) == ([], {})


def test_paper_and_spot_fills_move_no_position() -> None:
    book = Book()
    spot = Market(
        exchange="usdm", symbol="BTC/USDT", native_id="BTCUSDT", base="BTC", quote="USDT", tick=D("0.1"), lot=D("0.1")
    )
    book.book(("buy", "3"), purse=Purse(1, True))
    book.book(("buy", "3"), market=spot)
    book.tell(after=60)
    book.tell(after=60)
    assert book.told == []


def test_an_older_reading_changes_nothing_and_each_side_is_found() -> None:
    holdings = Holdings(Hands())
    assert (holdings.positions(PURSE), holdings.told_ns(PURSE)) == ((), 0)
    long = AccountPosition(market=KEY, side="long", quantity=D(2), leverage=5)
    short = AccountPosition(market=KEY, side="short", quantity=D(-1))
    newest = AccountPositions(account_id=1, positions=(long, short), received_ns=9)
    assert holdings.on_positions(PURSE, newest)
    assert not holdings.on_positions(PURSE, AccountPositions(account_id=1, positions=(), received_ns=8))
    assert holdings.told_ns(PURSE) == 9
    assert holdings.of(PURSE, KEY, "long") is long
    assert holdings.of(PURSE, KEY, "short") is short
    one_way = AccountPosition(market=KEY, side="both", quantity=D(-1))
    assert holdings.on_positions(PURSE, AccountPositions(account_id=1, positions=(one_way,), received_ns=10))
    assert holdings.of(PURSE, KEY, "short") is one_way
    assert holdings.of(PURSE, KEY, "long") is None


# -- both sides of a contract, in hedge mode -------------------------------------------------------------------------


class Hedged(Book):
    """The holdings of an account that holds 2 long and 3 short of one contract, by our fills."""

    def __init__(self) -> None:
        super().__init__()
        for side, quantity, position_side in (("buy", "2", "long"), ("sell", "3", "short")):
            self.holdings.book(PURSE, MARKET, fill(side, quantity, position_side))

    def show(self, long: str, short: str, after: float = GRACE_SECONDS) -> None:
        self.clock.now += int(after * 1e9)
        positions = tuple(
            AccountPosition(market=KEY, side=side, quantity=D(quantity))
            for side, quantity in (("long", long), ("short", short))
            if D(quantity)
        )
        self.holdings.on_positions(
            PURSE, AccountPositions(account_id=1, positions=positions, received_ns=self.clock.now)
        )


def test_each_side_is_explained_by_its_own_fills() -> None:
    book = Hedged()
    assert book.holdings.explained(1, f"{KEY} long") == 2
    assert book.holdings.explained(1, f"{KEY} short") == -3
    assert book.holdings.explained(1, KEY) == 0
    for _ in range(2):
        book.show("2", "-3")
    assert (book.told, book.holdings.differences) == ([], {})


@pytest.mark.parametrize(
    ("long", "short", "amounts"),
    [
        ("0", "-1", {"long": D(-2), "short": D(2)}),  # both smaller by as much: what is long less short is as before
        ("5", "-6", {"long": D(3), "short": D(-3)}),
        ("2", "0", {"short": D(3)}),
    ],
    ids=["both smaller", "both larger", "one gone"],
)
def test_what_happens_to_one_side_is_not_made_up_for_by_the_other(
    long: str, short: str, amounts: dict[str, Decimal]
) -> None:
    book = Hedged()
    for _ in range(2):
        book.show(long, short)
    assert set(book.told) == {1}
    assert book.holdings.differences == {(1, f"{KEY} {side}"): amount for side, amount in amounts.items()}
    assert book.holdings.differs(1, KEY)
    assert {side: book.holdings.difference(1, KEY, side) for side in ("long", "short")} == {
        side: amounts.get(side, 0) for side in ("long", "short")
    }
    book.show("2", "-3")
    assert book.holdings.differences == {}
    assert not book.holdings.differs(1, KEY)


def test_while_an_orders_outcome_is_not_known_neither_side_of_its_market_is_judged() -> None:
    book = Hedged()
    book.in_flight = {KEY}
    for _ in range(2):
        book.show("0", "-1")
    assert book.told == []


def test_in_one_way_mode_a_side_is_that_of_the_one_position() -> None:
    book = Book("-2")
    for _ in range(2):
        book.tell("-0.5", after=GRACE_SECONDS)
    assert book.holdings.difference(1, KEY, "short") == D("1.5")
    assert book.holdings.differs(1, KEY)
