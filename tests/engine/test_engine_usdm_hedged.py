"""Trades by hand on both sides of one contract at once: the whole engine against simulated Binance USD-M futures in
hedge mode."""

from __future__ import annotations

from collections.abc import AsyncIterator
from decimal import Decimal
from typing import Any

import pytest
import pytest_asyncio

from tests.engine.test_engine_usdm import NAME, SYMBOL, Stage
from tests.exchangesim.simulator import running_simulator
from trading.exchanges.binance_usdm.venue import BinanceUsdmDialect
from trading.exchanges.budget import Window
from trading.execution.reconciliation import DifferenceCause, DifferenceKind
from trading.messages import OrderKind, TradeState
from trading.portfolio import Purse
from trading.tickets import ClosingTerms, WorkingStyle

D = Decimal
LONG, SHORT = f"{SYMBOL} long", f"{SYMBOL} short"
PURSE = Purse(1, False)
pytestmark = pytest.mark.asyncio(loop_scope="module")
BARE: dict[str, Any] = {"take_profit": None, "stop_loss": None}
# The other way round, at levels of its own.
SELL: dict[str, Any] = {
    "side": "sell", "limit_cap": D("49500"), "take_profit": D("47000"), "stop_loss": D("53000"),
}  # fmt: skip


@pytest_asyncio.fixture(loop_scope="module")
async def stage(monkeypatch: pytest.MonkeyPatch) -> AsyncIterator[Stage]:
    # So many comparisons within a minute are more than the exchange would answer.
    monkeypatch.setattr(BinanceUsdmDialect, "windows", {"weight": Window(1e6, 60), "orders": Window(1e6, 10)})
    monkeypatch.setattr(BinanceUsdmDialect, "used", lambda self, headers: {})
    with running_simulator("--exchanges", NAME, "--no-limits") as simulator:
        stage = Stage(simulator, hedged=True)
        await stage.start()
        assert await stage.compared() == {}  # it opens the books
        yield stage
        await stage.stop()


def held(stage: Stage) -> dict[str, Decimal]:
    """Return what the exchange holds, by side."""
    rows = stage.simulator.positions(NAME, api_key=stage.keys.api_key)
    return {row["side"]: abs(D(row["quantity"])) for row in rows}


async def protection(stage: Stage) -> set[tuple[str, str, str, Decimal]]:
    """Return the conditional orders that wait at the exchange: side, position, trigger and quantity."""
    client = stage.engine.desk.venues[PURSE]._client  # type: ignore[attr-defined]
    rows = await client.fapiPrivateGetOpenAlgoOrders({})
    return {(row["side"], row["positionSide"], row["triggerPrice"].split(".")[0], D(row["quantity"])) for row in rows}


def state(stage: Stage, trade: str) -> TradeState:
    return stage.store.trades[trade].state


async def test_both_sides_are_held_shown_and_protected_apart_and_each_closes_alone(stage: Stage) -> None:
    long = await stage.hold(stop_loss=D("47500"))
    short = await stage.hold(quantity=D("0.2"), leverage=5, **SELL)
    assert held(stage) == {"LONG": D("0.5"), "SHORT": D("0.2")}
    assert await protection(stage) == {
        ("SELL", "LONG", "51000", D("0.5")),
        ("SELL", "LONG", "47500", D("0.5")),
        ("BUY", "SHORT", "47000", D("0.2")),
        ("BUY", "SHORT", "53000", D("0.2")),
    }
    stage.simulator.set_mark(NAME, SYMBOL, "50400")
    told = [one for one in await stage.engine.desk.venues[PURSE].positions() or () if one.quantity]
    assert {(one.side, one.quantity, one.entry_price, one.unrealized_pnl, one.leverage) for one in told} == {
        ("long", D("0.5"), D(50_000), D(200), 5),
        ("short", D("-0.2"), D(49_990), D(-82), 5),
    }
    assert await stage.compared() == {}
    assert stage.ledger() == {"USDT": stage.wallet(), LONG: D("0.5"), SHORT: D("-0.2")}
    pages = {trade: stage.pages.latest[7, "position", trade] for trade in (long, short)}
    assert {(one["side"], one["entry_price"], one["size"], one["leverage"]) for one in pages.values()} == {
        ("long", "50000", "0.5", 5),
        ("short", "49990", "0.2", 5),
    }
    stage.simulator.set_mark(NAME, SYMBOL, "51000")  # the long one's take-profit
    await stage.until(lambda: state(stage, long) is TradeState.CLOSED)
    assert held(stage) == {"SHORT": D("0.2")}
    assert await protection(stage) == {("BUY", "SHORT", "47000", D("0.2")), ("BUY", "SHORT", "53000", D("0.2"))}
    assert state(stage, short) is TradeState.HOLDING
    again = await stage.hold(**BARE)
    assert await stage.engine.close_ticket(short, ClosingTerms(style=WorkingStyle(kind="market"))) == ""
    await stage.until(lambda: state(stage, short) is TradeState.CLOSED)
    assert held(stage) == {"LONG": D("0.5")}
    assert await protection(stage) == set()
    assert state(stage, again) is TradeState.HOLDING
    assert await stage.compared() == {}
    assert stage.ledger() == {"USDT": stage.wallet(), LONG: D("0.5")}


async def test_both_sides_made_smaller_by_hand_are_two_differences_that_nobody_has_to_ask_for(stage: Stage) -> None:
    trades = [await stage.hold(**BARE), await stage.hold(**{**SELL, **BARE})]
    assert await stage.compared() == {}
    stage.simulator.place_by_hand(stage.keys, SYMBOL, "SELL", "0.2", "49000", position="LONG")
    stage.simulator.place_by_hand(stage.keys, SYMBOL, "BUY", "0.2", "51000", position="SHORT")
    await stage.until(lambda: len(stage.store.differences[1]) == 3)
    found = {one.key: one for one in stage.store.differences[1]}
    assert {key: (one.kind, one.cause) for key, one in found.items()} == {
        LONG: (DifferenceKind.POSITION, DifferenceCause.MANUAL_TRADE),
        SHORT: (DifferenceKind.POSITION, DifferenceCause.MANUAL_TRADE),
        "USDT": (DifferenceKind.BALANCE, DifferenceCause.MANUAL_TRADE),
    }
    assert [found[key].amount for key in (LONG, SHORT)] == [D("-0.2"), D("0.2")]
    assert {found[key].market for key in (LONG, SHORT)} == {stage.market.key}
    for holding, shown, explained in ((LONG, "0.300", "0.500"), (SHORT, "-0.300", "-0.500")):
        words = f"shows a position of {shown} in {stage.market.exchange}:{holding}, our books explain {explained}"
        assert any(words in alarm for alarm in stage.alarms), stage.alarms
    await stage.adopt()
    assert stage.ledger() == {"USDT": stage.wallet(), LONG: D("0.3"), SHORT: D("-0.3")}
    assert {state(stage, trade) for trade in trades} == {TradeState.HOLDING}


async def test_what_the_exchange_closes_of_one_side_is_that_tickets_and_nothing_of_the_others(stage: Stage) -> None:
    long, short = await stage.hold(), await stage.hold(**SELL)
    stage.simulator.deleverage(stage.keys, SYMBOL, "0.5", side="LONG")
    await stage.until(lambda: state(stage, long) is TradeState.CLOSED)
    assert stage.store.trades[long].reason.startswith("0.5 closed by the exchange to cover another's loss (ADL)")
    ticket = stage.engine.trades.ticket_of(short)
    assert ticket is not None
    assert (state(stage, short), ticket.position().held) == (TradeState.HOLDING, D("0.5"))
    assert await protection(stage) == {("BUY", "SHORT", "47000", D("0.5")), ("BUY", "SHORT", "53000", D("0.5"))}
    assert await stage.compared() == {}
    assert stage.ledger() == {"USDT": stage.wallet(), SHORT: D("-0.5")}


async def test_a_liquidation_of_both_sides_ends_both_tickets(stage: Stage) -> None:
    long, short = await stage.hold(**BARE), await stage.hold(**{**SELL, **BARE}, quantity=D("0.1"))
    await stage.leave("6500")
    stage.simulator.set_mark(NAME, SYMBOL, "33000")
    await stage.until(lambda: {state(stage, long), state(stage, short)} == {TradeState.CLOSED})
    assert [stage.store.trades[trade].reason.split(" at ")[0] for trade in (long, short)] == [
        "0.5 liquidated by the exchange",
        "0.1 liquidated by the exchange",
    ]
    made = [intent for intent in stage.store.intents.values() if intent.kind is OrderKind.LIQUIDATION]
    assert {(one.trade_id, one.side) for one in made} == {(long, "sell"), (short, "buy")}
    assert await stage.compared() == {}
    assert stage.ledger() == {"USDT": stage.wallet()}


async def test_what_the_exchange_closed_of_one_side_while_nobody_listened_ends_that_ticket(stage: Stage) -> None:
    long, short = await stage.hold(**BARE), await stage.hold(**{**SELL, **BARE})
    await stage.end()
    stage.simulator.deleverage(stage.keys, SYMBOL, "0.5", side="SHORT")
    await stage.run(2)
    await stage.until(lambda: state(stage, short) is TradeState.CLOSED)
    assert "closed by the exchange to cover another's loss" in stage.store.trades[short].reason
    assert state(stage, long) is TradeState.HOLDING
    assert await stage.compared() == {}
    assert stage.ledger() == {"USDT": stage.wallet(), LONG: D("0.5")}


async def test_what_was_closed_too_much_is_opened_on_its_own_side_again(stage: Stage) -> None:
    """Take-profit and stop-loss both fill: the second takes from another ticket's long position."""
    stage.simulator.fault(
        "error", exchange=NAME, operation="DELETE /fapi/v1/algoOrder", count=100,
        parameters={"status": 400, "body": '{"code":-1001,"msg":"Internal error"}'},
    )  # fmt: skip
    first = await stage.hold()
    other, short = await stage.hold(**BARE), await stage.hold(**{**SELL, **BARE})
    stage.simulator.set_mark(NAME, SYMBOL, "51000")
    stage.simulator.set_mark(NAME, SYMBOL, "49000")
    await stage.until(lambda: any("it is taken back" in alarm for alarm in stage.alarms))
    await stage.until(lambda: state(stage, first) is TradeState.CLOSED)
    stage.simulator.clear_faults()
    assert held(stage) == {"LONG": D("0.5"), "SHORT": D("0.5")}
    assert {state(stage, other), state(stage, short)} == {TradeState.HOLDING}
    assert await stage.compared() == {}
    assert stage.ledger() == {"USDT": stage.wallet(), LONG: D("0.5"), SHORT: D("-0.5")}
