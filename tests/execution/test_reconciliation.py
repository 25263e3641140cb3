"""Comparing books with an exchange: whatever happened, adopting what is found makes the two equal."""

from __future__ import annotations

from decimal import Decimal

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.engine.worlds import spot
from trading.execution.ids import client_order_id, is_ours, trade_id
from trading.execution.reconciliation import (
    LOOK_BACK_NS,
    MARGIN_NS,
    DifferenceCause,
    DifferenceKind,
    Executions,
    Expected,
    Reading,
    compare,
    effects,
)
from trading.instruments import Market
from trading.messages import AccountIncome, Fill, Forced, IncomeKind, OrderEvent, OrderState

D = Decimal
MARKET = spot("alpha")
MARKETS = {MARKET.key: MARKET}
OPENED_NS = 1_000
OURS = client_order_id(trade_id("test", 7, 3, 1), 0, 0)
STRAY = client_order_id(trade_id("test", 7, 2, 9), 0, 0)


def ours(client_id: str) -> bool:
    return is_ours(client_id, "test", 7)


def execution(number: int = 1, client_id: str = "", side: str = "buy", **changes: object) -> Fill:
    values: dict[str, object] = {
        "account_id": 1,
        "market": MARKET.key,
        "exchange_trade_id": f"t{number}",
        "exchange_order_id": f"x{client_id}{number}",
        "client_order_id": client_id,
        "side": side,
        "price": D("50000.01"),
        "quantity": D("0.0123"),
        "fee": D("0.6"),
        "fee_asset": "USDT",
        "liquidity": "taker",
        "exchange_ns": OPENED_NS + 1,
        **changes,
    }
    return Fill(**values)  # type: ignore[arg-type]


def order(client_id: str = "", exchange_id: str = "x-9") -> OrderEvent:
    return OrderEvent(
        account_id=1, market=MARKET.key, client_order_id=client_id, exchange_order_id=exchange_id,
        state=OrderState.PLACED, source="query",
    )  # fmt: skip


def books(**changes: object) -> Expected:
    return Expected(**{"account_id": 1, "opened_ns": OPENED_NS, "balances": {"USDT": D(100)}, **changes})  # type: ignore[arg-type]


def test_the_first_look_opens_the_ledger_with_what_is_there() -> None:
    found = compare(
        books(opened_ns=0, balances={"BTC": D("0.5"), "ETH": D(1)}),
        Reading(balances={"BTC": D(2), "USDT": D("0.00000001")}),
        MARKETS,
        ours,
    )
    assert found.opening == {"BTC": D("1.5"), "ETH": D(-1), "USDT": D("0.00000001")}
    assert found.differences == ()
    assert not found.balances_compared


def test_the_ledger_is_not_opened_while_orders_may_move_it() -> None:
    found = compare(books(opened_ns=0), Reading(balances={"BTC": D(2)}), MARKETS, ours, frozenset({"BTC"}))
    assert found.opening is None


def test_an_execution_of_ours_that_is_not_booked_is_news_and_no_question() -> None:
    known = books(orders={"x-7": OURS}, client_ids=frozenset({OURS}))
    unnamed = execution(exchange_order_id="x-7")  # an exchange that leaves the client's id out
    found = compare(known, Reading(balances={"USDT": D(3)}, executions=Executions(fills=(unnamed,))), MARKETS, ours)
    assert [fill.client_order_id for fill in found.missing_fills] == [OURS]
    assert found.differences == ()
    assert not found.balances_compared


def test_a_booked_execution_is_no_news() -> None:
    fill = execution(client_id=OURS)
    known = books(client_ids=frozenset({OURS}), fills={(fill.market, fill.exchange_trade_id): fill.exchange_ns})
    found = compare(known, Reading(balances={"USDT": D(100)}, executions=Executions(fills=(fill,))), MARKETS, ours)
    assert (found.missing_fills, found.differences) == ((), ())
    assert found.balances_compared


def test_an_order_of_ours_that_no_book_knows_is_told_apart_from_a_foreign_one() -> None:
    reading = Reading(balances={"USDT": D(100)}, open_orders=(order(STRAY), order("by-hand", "x-1"), order(OURS)))
    found = compare(books(client_ids=frozenset({OURS})), reading, MARKETS, ours)
    assert [(one.kind, one.key) for one in found.differences] == [
        (DifferenceKind.UNKNOWN_ORDER, STRAY),
        (DifferenceKind.FOREIGN_ORDER, "x-1"),
    ]
    assert found.foreign_orders == 1
    assert [event.client_order_id for event in found.open_ours] == [OURS]


def test_an_execution_of_an_order_no_book_knows_names_the_order_and_the_cause() -> None:
    fill = execution(client_id=STRAY)
    theirs = {"USDT": D(100) + effects(fill, MARKET)["USDT"], "BTC": fill.quantity}
    found = compare(books(), Reading(balances=theirs, executions=Executions(fills=(fill,))), MARKETS, ours)
    assert {(one.kind, one.cause) for one in found.differences} == {
        (DifferenceKind.UNKNOWN_ORDER, DifferenceCause.UNKNOWN_ORDER),
        (DifferenceKind.BALANCE, DifferenceCause.UNKNOWN_ORDER),
    }
    assert STRAY in {one.key for one in found.differences}


def test_causes_are_told_from_what_explains_the_amount() -> None:
    by_hand = execution()
    theirs = {"USDT": D(100) + effects(by_hand, MARKET)["USDT"], "BTC": by_hand.quantity, "ETH": D(2), "XRP": D("1e-8")}
    reading = Reading(balances=theirs, executions=Executions(fills=(by_hand,)))
    found = compare(books(balances={"USDT": D(100), "SOL": D(4)}), reading, MARKETS, ours)
    assert {one.asset: one.cause for one in found.differences} == {
        "USDT": DifferenceCause.MANUAL_TRADE,
        "BTC": DifferenceCause.MANUAL_TRADE,
        "ETH": DifferenceCause.DEPOSIT,
        "SOL": DifferenceCause.WITHDRAWAL,
        "XRP": DifferenceCause.ROUNDING,
    }


def test_a_fee_that_is_not_known_yet_may_be_the_cause() -> None:
    found = compare(books(fees_pending=2), Reading(balances={"USDT": D("99.4")}), MARKETS, ours)
    assert [(one.cause, one.amount) for one in found.differences] == [(DifferenceCause.FEE, D("-0.6"))]


def test_a_trade_by_hand_before_the_ledger_was_opened_explains_nothing() -> None:
    early = execution(exchange_ns=OPENED_NS - 1)
    found = compare(books(), Reading(balances={"USDT": D(90)}, executions=Executions(fills=(early,))), MARKETS, ours)
    assert [one.cause for one in found.differences] == [DifferenceCause.WITHDRAWAL]


HOUR_NS = 3600 * 10**9


def looked_at(
    listed: tuple[Fill, ...],
    *,
    markets: frozenset[str] = frozenset({MARKET.key}),
    due: frozenset[tuple[str, str]] = frozenset({(MARKET.key, "t1")}),
) -> Reading:
    """An account whose executions were asked for since an hour, and whose balance is not what our books say."""
    executions = Executions(fills=listed, markets=markets, since_ns=HOUR_NS, due=due)
    return Reading(balances={"USDT": D(99)}, executions=executions)


def booked(fill: Fill) -> Expected:
    fills = {(fill.market, fill.exchange_trade_id): fill.exchange_ns}
    return books(since_ns=HOUR_NS + LOOK_BACK_NS, client_ids=frozenset({OURS}), fills=fills)


def test_fault_39_an_execution_the_exchange_no_longer_lists_was_taken_back() -> None:
    fill = execution(client_id=OURS, exchange_ns=HOUR_NS + LOOK_BACK_NS)
    found = compare(booked(fill), looked_at(()), MARKETS, ours)
    taken, balance = found.differences
    assert (taken.kind, taken.cause, taken.market) == (
        DifferenceKind.TAKEN_BACK,
        DifferenceCause.TAKEN_BACK,
        fill.market,
    )
    assert taken.key.startswith("t1 ")
    assert (balance.kind, balance.cause, balance.amount) == (
        DifferenceKind.BALANCE,
        DifferenceCause.TAKEN_BACK,
        D(-1),
    )
    assert "adopt" in taken.suggestion
    assert "adopt" in balance.suggestion


@pytest.mark.parametrize(
    ("made_ns", "listed", "markets", "due"),
    [
        (HOUR_NS + LOOK_BACK_NS, True, {MARKET.key}, {(MARKET.key, "t1")}),  # it is listed
        (HOUR_NS + LOOK_BACK_NS, False, {MARKET.key}, set()),  # a list may lag so far behind
        (HOUR_NS + MARGIN_NS - 1, False, {MARKET.key}, {(MARKET.key, "t1")}),  # perhaps from before the span asked for
        (HOUR_NS + LOOK_BACK_NS, False, set(), {(MARKET.key, "t1")}),  # nobody asked for its market
    ],
)
def test_fault_39_a_list_that_lags_or_was_not_asked_for_takes_nothing_back(
    made_ns: int, listed: bool, markets: set[str], due: set[tuple[str, str]]
) -> None:
    fill = execution(client_id=OURS, exchange_ns=made_ns)
    reading = looked_at((fill,) if listed else (), markets=frozenset(markets), due=frozenset(due))
    found = compare(booked(fill), reading, MARKETS, ours)
    assert [one.cause for one in found.differences] == [DifferenceCause.WITHDRAWAL]


def test_a_trade_by_hand_of_before_the_last_match_explains_nothing() -> None:
    early = execution(exchange_ns=HOUR_NS + LOOK_BACK_NS - MARGIN_NS - 1)
    found = compare(booked(execution(client_id=OURS, exchange_ns=0)), looked_at((early,)), MARKETS, ours)
    assert [one.cause for one in found.differences] == [DifferenceCause.WITHDRAWAL]


ASSETS = st.sampled_from(["BTC", "USDT", "ETH", "BNB"])
AMOUNTS = st.decimals(min_value="-99999999999", max_value="99999999999", places=12)
HOLDINGS = st.dictionaries(ASSETS, AMOUNTS)


@st.composite
def executions(draw: st.DrawFn) -> list[Fill]:
    count = draw(st.integers(0, 5))
    return [
        execution(
            number,
            side=draw(st.sampled_from(["buy", "sell"])),
            price=draw(st.decimals(min_value="0.01", max_value="99999", places=2)),
            quantity=draw(st.decimals(min_value="0.0001", max_value="999", places=4)),
            fee=draw(st.none() | st.decimals(min_value="-1", max_value="9", places=9)),
            fee_asset=draw(ASSETS),
        )
        for number in range(count)
    ]


@settings(max_examples=300, database=None, deadline=None)
@given(HOLDINGS, HOLDINGS, executions(), st.frozensets(ASSETS, max_size=2))
def test_adopting_every_difference_makes_the_books_equal_to_the_exchange(ledger, theirs, fills, left_out) -> None:
    reading = Reading(
        balances={asset: amount for asset, amount in theirs.items() if amount},
        executions=Executions(fills=tuple(fills)),
    )
    expected = books(balances={asset: amount for asset, amount in ledger.items() if amount})
    found = compare(expected, reading, MARKETS, ours, left_out)
    adopted = dict(expected.balances)
    for one in found.differences:
        assert one.kind is DifferenceKind.BALANCE
        assert one.asset not in left_out
        assert one.amount  # none without an amount
        assert one.theirs - one.ours == one.amount
        adopted[one.asset] = adopted.get(one.asset, D(0)) + one.amount
    for asset in {*adopted, *theirs} - left_out:
        assert adopted.get(asset, D(0)) == theirs.get(asset, D(0))
    again = compare(books(balances=adopted), reading, MARKETS, ours, left_out)
    assert again.differences == ()


@settings(max_examples=300, database=None, deadline=None)
@given(HOLDINGS, executions())
def test_trades_by_hand_are_recognised_whatever_they_were(ledger, fills) -> None:
    theirs = dict(ledger)
    for fill in fills:
        for asset, change in effects(fill, MARKET).items():
            theirs[asset] = theirs.get(asset, D(0)) + change
    reading = Reading(
        balances={asset: amount for asset, amount in theirs.items() if amount},
        executions=Executions(fills=tuple(fills)),
    )
    expected = books(balances={asset: amount for asset, amount in ledger.items() if amount})
    found = compare(expected, reading, MARKETS, ours)
    assert {one.cause for one in found.differences} <= {DifferenceCause.MANUAL_TRADE}


@settings(max_examples=200, database=None, deadline=None)
@given(HOLDINGS, HOLDINGS)
def test_an_opened_ledger_is_equal_to_the_exchange_at_once(ledger, theirs) -> None:
    reading = Reading(balances={asset: amount for asset, amount in theirs.items() if amount})
    opening = compare(books(opened_ns=0, balances=ledger), reading, MARKETS, ours).opening
    assert opening is not None
    opened = {asset: ledger.get(asset, D(0)) + opening.get(asset, D(0)) for asset in {*ledger, *theirs, *opening}}
    assert compare(books(balances=opened), reading, MARKETS, ours).differences == ()


# --- contracts -----------------------------------------------------------------------------------------------------

SWAP = "BTC/USDT:USDT"
PERPETUAL = Market(
    exchange="alpha", symbol=SWAP, native_id="BTCUSDT", base="BTC", quote="USDT", settle="USDT", kind="linear",
    tick=D("0.1"), lot=D("0.001"), min_amount=D("0.001"), min_notional=D(5), taker_fee=D("0.0005"),
)  # fmt: skip
CONTRACTS = {**MARKETS, PERPETUAL.key: PERPETUAL}


def swap(number: int = 1, **changes: object) -> Fill:
    return execution(number, market=PERPETUAL.key, quantity=D("0.5"), **changes)


def found_in(theirs: dict[str, Decimal], *fills: Fill, ledger: dict[str, Decimal] | None = None, **more: object):
    expected = books(balances={"USDT": D(100)} if ledger is None else ledger, **more)
    reading = Reading(balances=theirs, exchange="alpha", executions=Executions(fills=fills))
    return {one.asset: one for one in compare(expected, reading, CONTRACTS, ours).differences}


def test_a_contract_moves_its_holding_and_its_fee_only() -> None:
    assert effects(swap(side="sell"), PERPETUAL) == {SWAP: D("-0.5"), "USDT": D("-0.6")}


def test_a_position_that_fills_explain_is_no_difference_and_one_too_much_is_named_with_its_market() -> None:
    assert found_in({"USDT": D(100), SWAP: D("0.5")}, ledger={"USDT": D(100), SWAP: D("0.5")}) == {}
    one = found_in({"USDT": D(100), SWAP: D("0.5")}, ledger={"USDT": D(100), SWAP: D("0.2")})[SWAP]
    assert (one.kind, one.market, one.ours, one.theirs, one.amount) == (
        DifferenceKind.POSITION, PERPETUAL.key, D("0.2"), D("0.5"), D("0.3"),
    )  # fmt: skip
    assert one.cause is DifferenceCause.UNEXPLAINED


@pytest.mark.parametrize(
    ("forced", "cause"),
    [
        ("", DifferenceCause.MANUAL_TRADE),
        (Forced.LIQUIDATION.value, DifferenceCause.LIQUIDATION),
        (Forced.DELEVERAGING.value, DifferenceCause.DELEVERAGING),
        (Forced.SETTLEMENT.value, DifferenceCause.SETTLEMENT),
    ],
)
def test_who_closed_a_position_is_told_from_the_executions(forced: str, cause: DifferenceCause) -> None:
    fill = swap(side="sell", forced=forced)
    found = found_in({"USDT": D("99.4")}, fill, ledger={"USDT": D(100), SWAP: D("0.5")})
    assert {asset: one.cause for asset, one in found.items()} == {SWAP: cause, "USDT": cause}
    assert ("is left" in found[SWAP].suggestion) is False
    partly = found_in({"USDT": D("99.4")}, fill, ledger={"USDT": D(100), SWAP: D("0.7")})[SWAP]
    assert partly.cause is cause
    assert "-0.2 is left" in partly.suggestion


@settings(max_examples=200, database=None, deadline=None)
@given(st.lists(st.tuples(st.sampled_from(["buy", "sell"]), st.decimals("0.001", "9", places=3)), max_size=8))
def test_fills_of_ours_explain_the_position_they_leave_whatever_they_were(trades: list[tuple[str, Decimal]]) -> None:
    ledger = {"USDT": D(100)}
    for number, (side, quantity) in enumerate(trades):
        fill = execution(number, client_id=OURS, market=PERPETUAL.key, side=side, quantity=quantity, fee=None)
        for asset, change in effects(fill, PERPETUAL).items():
            ledger[asset] = ledger.get(asset, D(0)) + change
    net = sum((quantity if side == "buy" else -quantity for side, quantity in trades), D(0))
    theirs = {"USDT": D(100)} | ({SWAP: net} if net else {})
    assert found_in(theirs, ledger=ledger) == {}


def test_what_an_execution_realised_moves_the_settle_asset() -> None:
    fill = swap(side="sell", realized_pnl=D("-10"))
    assert effects(fill, PERPETUAL) == {SWAP: D("-0.5"), "USDT": D("-10.6")}


def income(number: int = 1, amount: str = "-2", kind: IncomeKind = IncomeKind.FUNDING, **changes: object):
    values: dict[str, object] = {
        "account_id": 1, "kind": kind, "transaction_id": str(number), "asset": "USDT", "amount": D(amount),
        "exchange_ns": OPENED_NS + 5, **changes,
    }  # fmt: skip
    return AccountIncome(**values)  # type: ignore[arg-type]


def listed(*incomes: AccountIncome, usdt: str, fills: tuple[Fill, ...] = (), **ledger: object):
    reading = Reading(balances={"USDT": D(usdt)}, exchange="alpha", executions=Executions(fills=fills, incomes=incomes))
    return compare(books(**ledger), reading, CONTRACTS, ours)


def test_new_lines_of_the_statement_are_news_and_count_at_once() -> None:
    known = frozenset({("funding", "1")})
    found = listed(income(1), income(2, "-3"), income(3, "1"), usdt="98", incomes=known)
    assert [one.transaction_id for one in found.incomes] == ["2", "3"]
    assert found.differences == ()
    assert found.balances_compared
    unexplained = listed(income(2, "-3"), usdt="98")
    assert [(one.ours, one.amount) for one in unexplained.differences] == [(D(97), D(1))]


def test_lines_well_before_the_opening_are_no_news_and_those_around_it_are() -> None:
    opened = 10 * MARGIN_NS
    early, close = income(1, exchange_ns=opened - 2 * MARGIN_NS), income(2, exchange_ns=opened - MARGIN_NS // 2)
    assert listed(early, close, usdt="98", opened_ns=opened, since_ns=opened).incomes == (close,)


def test_what_a_liquidation_cost_is_booked_as_the_statement_shows_it_and_the_rest_is_for_a_person() -> None:
    fill = swap(side="sell", forced=Forced.LIQUIDATION.value, realized_pnl=D("-40"))
    cost = income(9, "-1.5", IncomeKind.INSURANCE)
    found = listed(cost, usdt="57.9", fills=(fill,), balances={"USDT": D(100), SWAP: D("0.5")})
    assert found.incomes == (cost,)
    assert found.forced == (fill,)
    by_asset = {one.asset: one for one in found.differences}
    assert {one.cause for one in by_asset.values()} == {DifferenceCause.LIQUIDATION}
    assert by_asset["USDT"].amount == D("-40.6")
    assert "is left" not in by_asset["USDT"].suggestion
    partly = listed(usdt="57.9", fills=(fill,), balances={"USDT": D(100), SWAP: D("0.5")})
    assert "-1.5 is left" in {one.asset: one for one in partly.differences}["USDT"].suggestion


# --- both sides of a contract --------------------------------------------------------------------------------------

LONG, SHORT = f"{SWAP} long", f"{SWAP} short"


def test_each_side_of_a_contract_is_a_holding_of_its_own() -> None:
    assert effects(swap(side="sell", position_side="short"), PERPETUAL) == {SHORT: D("-0.5"), "USDT": D("-0.6")}
    ledger = {"USDT": D(100), LONG: D(2), SHORT: D(-2)}
    assert found_in({"USDT": D(100), LONG: D(2), SHORT: D(-2)}, ledger=ledger) == {}


def test_both_sides_closed_by_hand_are_two_differences_though_their_sum_is_as_before() -> None:
    ledger = {"USDT": D(100), LONG: D("0.5"), SHORT: D("-0.5")}
    closing = swap(1, side="sell", position_side="long"), swap(2, side="buy", position_side="short")
    found = found_in({"USDT": D("98.8")}, *closing, ledger=ledger)
    assert {asset: (one.kind, one.market, one.amount) for asset, one in found.items() if asset != "USDT"} == {
        LONG: (DifferenceKind.POSITION, PERPETUAL.key, D("-0.5")),
        SHORT: (DifferenceKind.POSITION, PERPETUAL.key, D("0.5")),
    }
    assert {one.cause for one in found.values()} == {DifferenceCause.MANUAL_TRADE}


def test_the_side_that_the_exchange_closed_is_named_with_the_cause_and_the_other_is_not() -> None:
    ledger = {"USDT": D(100), LONG: D("0.5"), SHORT: D("-0.5")}
    fill = swap(side="sell", position_side="long", forced=Forced.LIQUIDATION.value)
    found = found_in({"USDT": D("99.4"), SHORT: D("-0.5")}, fill, ledger=ledger)
    assert {asset: one.cause for asset, one in found.items()} == {
        LONG: DifferenceCause.LIQUIDATION,
        "USDT": DifferenceCause.LIQUIDATION,
    }
    assert f"-0.5 {LONG}" in found[LONG].suggestion


def apart(theirs: dict[str, Decimal], left_out: frozenset[str] = frozenset(), **ours_: str):
    expected = books(balances={name.replace("_", " ").replace("SWAP", SWAP): D(text) for name, text in ours_.items()})
    return compare(expected, Reading(balances=theirs, exchange="alpha"), CONTRACTS, ours, left_out)


@pytest.mark.parametrize(
    ("ours_", "theirs", "moved"),
    [
        ({"SWAP": "-1"}, {LONG: D(2), SHORT: D(-3)}, {SWAP: D(1), LONG: D(2), SHORT: D(-3)}),
        ({"SWAP": "2", "SWAP_long": "1"}, {LONG: D(3)}, {SWAP: D(-2), LONG: D(2)}),
        ({"SWAP": "2", "SWAP_long": "-2"}, {}, {SWAP: D(-2), LONG: D(2)}),  # what was held has been closed since
    ],
    ids=["both", "one", "none"],
)
def test_what_books_hold_as_one_becomes_of_the_sides_that_come_to_the_same(
    ours_: dict[str, str], theirs: dict[str, Decimal], moved: dict[str, Decimal]
) -> None:
    found = apart(theirs, **ours_)
    assert (found.told_apart, found.differences) == (moved, ())


def test_what_does_not_come_to_the_same_or_may_be_moving_stays_as_it_is() -> None:
    other = apart({LONG: D(2), SHORT: D(-2)}, SWAP="-1")
    assert other.told_apart == {}
    assert {one.asset: one.amount for one in other.differences} == {SWAP: D(1), LONG: D(2), SHORT: D(-2)}
    in_dispute = apart({LONG: D(2), SHORT: D(-3)}, frozenset({SWAP, LONG, SHORT}), SWAP="-1")
    assert (in_dispute.told_apart, in_dispute.differences) == ({}, ())
    one_way = apart({SWAP: D(-1)}, SWAP="-1")
    assert (one_way.told_apart, one_way.differences) == ({}, ())
