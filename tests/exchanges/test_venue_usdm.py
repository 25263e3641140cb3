"""Binance USD-M futures behind the venue: reductions, hedge mode, margin, the listen key and what was missed."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from decimal import Decimal

import pytest
import pytest_asyncio

from tests.exchanges.venue_rig import Rig
from tests.exchangesim.simulator import running_simulator
from trading.exchanges.binance_usdm import venue as usdm
from trading.execution.ids import client_order_id
from trading.messages import (
    AccountBalance,
    AccountPositions,
    Fill,
    IncomeKind,
    OrderEvent,
    OrderIntent,
    OrderKind,
    Outcome,
    TimeInForce,
)
from trading.messages import OrderState as S

D = Decimal
pytestmark = pytest.mark.asyncio(loop_scope="module")


@pytest_asyncio.fixture(loop_scope="module", params=["rest", "websocket"])
async def rig(request: pytest.FixtureRequest) -> AsyncIterator[Rig]:
    # An exchange for each: it counts by address, and starting so many accounts within a minute is more than it allows.
    with running_simulator("--exchanges", "binanceusdm") as simulator:
        rig = await Rig.make(simulator, "binanceusdm", path=request.param)
        yield rig
        await rig.close()


def positions(rig: Rig) -> dict[str, Decimal]:
    rows = rig.simulator.positions(rig.name, api_key=rig.keys.api_key)
    return {row["side"]: D(row["quantity"]) for row in rows}


async def test_a_reduction_never_opens_the_other_side(rig: Rig) -> None:
    alone = await rig.venue.place(rig.intent("sell", price="49000", reduce_only=True))
    assert (alone.outcome, alone.code) == (Outcome.REJECTED, "-2022")
    await rig.venue.place(rig.intent(quantity="0.5"))
    reduced = rig.intent("sell", quantity="0.9", price="49000", reduce_only=True)
    assert (await rig.venue.place(reduced)).outcome is Outcome.PLACED
    await rig.until(lambda: sum(fill.quantity for fill in rig.fills(reduced).values()) == D("0.5"))
    assert positions(rig) == {}


async def test_in_hedge_mode_each_order_says_which_position_it_is_for(rig: Rig) -> None:
    await rig.venue._client.fapiPrivatePostPositionSideDual({"dualSidePosition": "true"})
    long, short = rig.intent(quantity="0.2"), rig.intent("sell", quantity="0.3", price="49000")
    refused = await rig.venue.place(long)  # the mode was changed behind our back
    assert (refused.outcome, refused.code) == (Outcome.REJECTED, "-4061")
    await rig.until(lambda: rig.venue.dialect.hedged)  # type: ignore[attr-defined]
    again = rig.intent(quantity="0.2")
    for intent in (again, short):
        assert (await rig.venue.place(intent)).outcome is Outcome.PLACED
    assert {side: abs(quantity) for side, quantity in positions(rig).items()} == {"LONG": D("0.2"), "SHORT": D("0.3")}
    for intent in (
        rig.intent("sell", quantity="0.2", price="49000", reduce_only=True),
        rig.intent(quantity="0.3", price="51000", reduce_only=True),
    ):
        assert (await rig.venue.place(intent)).outcome is Outcome.PLACED
    assert positions(rig) == {}


async def test_in_hedge_mode_both_sides_are_told_apart_with_their_own_figures(rig: Rig) -> None:
    begun_ns = rig.intent().created_ns - 10**9
    rig.simulator.hedge(rig.keys)
    await rig.venue.dialect.fetch_settings(rig.venue._client)
    assert await rig.venue.set_leverage(rig.market.key, 10) == ""
    long, short = rig.intent(quantity="0.4"), rig.intent("sell", quantity="0.3", price="49000")
    closing = rig.intent("sell", quantity="0.1", price="49000", reduce_only=True)
    for intent in (long, short, closing):
        assert (await rig.venue.place(intent)).outcome is Outcome.PLACED
        await rig.until(lambda intent=intent: rig.fills(intent))
    sides = {"long": {long.client_order_id, closing.client_order_id}, "short": {short.client_order_id}}
    told = [fill for intent in (long, short, closing) for fill in rig.fills(intent).values()]
    listed = await rig.venue.trades(rig.market.key, begun_ns)
    assert listed
    for fills in (told, listed):
        assert {side: {fill.client_order_id for fill in fills if fill.position_side == side} for side in sides} == sides
    found = {one.side: one for one in await rig.venue.positions() or ()}
    truth = {row["side"].lower(): row for row in rig.simulator.positions(rig.name, api_key=rig.keys.api_key)}
    assert {side: one.quantity for side, one in found.items()} == {"long": D("0.3"), "short": D("-0.3")}
    for side, one in found.items():
        assert one.entry_price == D(truth[side]["entry_price"])
        assert one.unrealized_pnl == one.quantity * (D(50_000) - one.entry_price)
        assert (one.leverage, one.margin) == (10, "cross")
    assert found["long"].entry_price != found["short"].entry_price


async def test_in_hedge_mode_the_side_that_the_exchange_closes_is_told(rig: Rig) -> None:
    begun_ns = rig.intent().created_ns - 10**9
    rig.simulator.hedge(rig.keys)
    await rig.venue.dialect.fetch_settings(rig.venue._client)
    for intent in (rig.intent(quantity="0.4"), rig.intent("sell", quantity="0.4", price="49000")):
        assert (await rig.venue.place(intent)).outcome is Outcome.PLACED
    rig.simulator.deleverage(rig.keys, rig.market.symbol, "0.1", side="SHORT")

    def forced() -> list[Fill]:
        events = [message for message in rig.told if isinstance(message, OrderEvent)]
        return [fill for event in events for fill in event.fills if fill.forced]

    await rig.until(forced)
    listed = await rig.venue.trades(rig.market.key, begun_ns)
    assert listed
    for fills in (forced(), [fill for fill in listed if fill.forced]):
        assert [(fill.side, fill.position_side, fill.quantity) for fill in fills] == [("buy", "short", D("0.1"))]


async def test_a_post_only_order_that_would_take_is_refused(rig: Rig) -> None:
    taking = await rig.venue.place(rig.intent(time_in_force=TimeInForce.POST_ONLY))
    assert (taking.outcome, taking.code) == (Outcome.REJECTED, "-5022")
    resting = rig.intent(price="49000", time_in_force=TimeInForce.POST_ONLY)
    assert (await rig.venue.place(resting)).outcome is Outcome.PLACED
    opened = await rig.venue.open_orders()
    assert opened is not None
    assert [(event.client_order_id, event.market) for event in opened] == [(resting.client_order_id, rig.market.key)]


async def test_what_a_position_binds_is_told_after_its_fill(rig: Rig) -> None:
    intent = rig.intent(quantity="0.4")
    await rig.venue.place(intent)
    await rig.until(lambda: rig.fills(intent))

    def told() -> Decimal:
        figures = [m for m in rig.told if isinstance(m, AccountBalance) and m.asset == "USDT"]
        return figures[-1].used

    await rig.until(lambda: told() > 900)  # a twentieth of 20,000 at the exchange's own leverage


async def test_an_expired_listen_key_is_made_anew_and_what_was_missed_is_swept(rig: Rig) -> None:
    known = rig.intent(quantity="0.1")
    await rig.venue.place(known)
    await rig.until(lambda: rig.fills(known))
    assert rig.simulator.disturb(rig.name, "expire", rig.keys.api_key) >= 1
    missed = rig.intent(quantity="0.2")
    assert (await rig.venue.place(missed)).outcome is Outcome.PLACED
    await rig.until(lambda: rig.states[-2:] == ["down", "live"])
    await rig.until(lambda: sum(fill.quantity for fill in rig.fills(missed).values()) == D("0.2"))


async def test_a_lost_answer_is_unknown_and_asking_resolves_it(rig: Rig) -> None:
    rig.fault_on_order("drop_response", how="reset")
    intent = rig.intent(quantity="0.1")
    assert (await rig.venue.place(intent)).outcome is Outcome.UNKNOWN
    asked = await rig.venue.query(intent)
    assert asked is not None
    assert (asked.state, asked.filled) == (S.FILLED, D("0.1"))
    assert len(rig.orders_at_exchange(intent)) == 1
    rig.simulator.clear_faults()


async def test_a_position_is_told_as_the_exchange_shows_it(rig: Rig) -> None:
    assert await rig.venue.set_leverage(rig.market.key, 5) == ""
    intent = rig.intent(quantity="0.4")
    await rig.venue.place(intent)

    def told() -> list[AccountPositions]:
        return [message for message in rig.told if isinstance(message, AccountPositions) and message.positions]

    await rig.until(told)
    (position,) = told()[-1].positions
    (truth,) = rig.simulator.positions(rig.name, api_key=rig.keys.api_key)
    assert (position.market, position.side, position.quantity) == (rig.market.key, "both", D("0.4"))
    assert (position.entry_price, position.mark_price) == (D(truth["entry_price"]), D(50_000))
    assert (position.leverage, position.margin, position.unrealized_pnl) == (5, "cross", D(0))
    await rig.venue.place(rig.intent("sell", quantity="0.4", price="49000", reduce_only=True))
    await rig.until(lambda: not [m for m in rig.told if isinstance(m, AccountPositions)][-1].positions)


async def test_a_leverage_is_set_once_and_again_when_somebody_changed_it(rig: Rig) -> None:
    client, calls = rig.venue._client, []
    post = client.fapiPrivatePostLeverage

    async def counted(parameters: dict[str, object]) -> object:
        calls.append(parameters["leverage"])
        return await post(parameters)

    client.fapiPrivatePostLeverage = counted
    native = rig.venue._names.market(rig.market.key).native_id  # type: ignore[union-attr]
    for leverage in (7, 7, 8, 8):
        assert await rig.venue.set_leverage(rig.market.key, leverage) == ""
    assert calls == [7, 8]
    await post({"symbol": native, "leverage": 9})  # by hand, past the platform
    await rig.until(lambda: not rig.venue.dialect.has_leverage(rig.market, 8))
    assert await rig.venue.set_leverage(rig.market.key, 8) == ""
    await rig.venue.set_leverage(rig.market.key, 126)  # refused: what holds now is not known
    assert await rig.venue.set_leverage(rig.market.key, 8) == ""
    assert calls == [7, 8, 8, 126, 8]
    rig.simulator.disturb(rig.name, "cut", rig.keys.api_key)  # changes may be missed
    await rig.until(lambda: not rig.venue.dialect.has_leverage(rig.market, 8))


async def test_positions_read_while_a_leverage_is_set_do_not_take_it_back(rig: Rig) -> None:
    await rig.venue.set_leverage(rig.market.key, 7)
    client = rig.venue._client
    read = client.fapiPrivateV2GetPositionRisk

    async def read_and_wait(parameters: dict[str, object]) -> object:
        rows = await read(parameters)
        await rig.venue.set_leverage(rig.market.key, 8)
        return rows

    client.fapiPrivateV2GetPositionRisk = read_and_wait
    await rig.venue.dialect.fetch_positions(client)
    assert rig.venue.has_leverage(rig.market.key, 8)


async def test_a_leverage_the_exchange_does_not_take_is_said_with_its_reason(rig: Rig) -> None:
    why = await rig.venue.set_leverage(rig.market.key, 126)
    assert "126" in why
    assert "not valid" in why


def protective(rig: Rig, entry: OrderIntent, kind: OrderKind, trigger: str, leg: int, **changes: object) -> OrderIntent:
    """A protective order of a long position of half a coin."""
    return rig.intent(
        "sell",
        quantity="0.5",
        price=trigger,
        client_order_id=client_order_id(entry.trade_id, leg, 0),
        trade_id=entry.trade_id,
        leg=leg,
        kind=kind,
        trigger=D(trigger),
        reduce_only=True,
        time_in_force=TimeInForce.GTC,
        **changes,
    )


async def test_a_take_profit_is_triggered_by_the_mark_price_and_told_by_every_way(rig: Rig) -> None:
    entry = rig.intent(quantity="0.5")
    await rig.venue.place(entry)
    profit = protective(rig, entry, OrderKind.TAKE_PROFIT, "51000", 2)
    stop = protective(rig, entry, OrderKind.STOP_LOSS, "49000", 3)
    assert [answer.outcome for answer in await rig.venue.protect(profit, stop)] == [Outcome.PLACED] * 2
    opened = await rig.venue.open_orders()
    assert opened is not None
    assert {event.client_order_id for event in opened} == {profit.client_order_id, stop.client_order_id}
    waiting = await rig.venue.query(stop)
    assert waiting is not None
    assert (waiting.state, waiting.filled) == (S.PLACED, 0)
    rig.simulator.set_mark(rig.name, rig.market.symbol, "51000")
    await rig.until(lambda: any(event.state is S.FILLED for event in rig.events(profit)))
    await rig.until(lambda: sum(fill.quantity for fill in rig.fills(profit).values()) == D("0.5"))
    asked = await rig.venue.query(profit)
    assert asked is not None
    assert (asked.state, asked.filled) == (S.FILLED, D("0.5"))
    assert {fill.exchange_trade_id for fill in asked.fills} == set(rig.fills(profit))
    assert positions(rig) == {}
    # With the position gone the exchange may have taken the stop away itself; either way it stands no more.
    await rig.venue.cancel(stop)
    gone = await rig.venue.query(stop)
    assert gone is not None
    assert (gone.state, gone.filled) == (S.CANCELLED, 0)
    await rig.until(lambda: any(event.state is S.CANCELLED for event in rig.events(stop)))


async def test_a_protective_order_is_refused_with_its_code_lost_and_found_again(rig: Rig) -> None:
    entry = rig.intent(quantity="0.5")
    await rig.venue.place(entry)
    reached = protective(rig, entry, OrderKind.TAKE_PROFIT, "49000", 2)
    (refused,) = await rig.venue.protect(reached, None)
    assert (refused.outcome, refused.code) == (Outcome.REJECTED, "-2021")
    assert await rig.venue.query(reached) is None
    rig.simulator.fault(
        "drop_response",
        exchange=rig.name,
        operation="POST /fapi/v1/algoOrder",
        api_key=rig.keys.api_key,
        count=1,
        parameters={"how": "reset"},
    )
    lost = protective(rig, entry, OrderKind.STOP_LOSS, "49000", 3)
    (answer,) = await rig.venue.protect(None, lost)
    assert answer.outcome is Outcome.UNKNOWN
    asked = await rig.venue.query(lost)
    assert asked is not None
    assert asked.state is S.PLACED
    assert (await rig.venue.cancel(lost)).outcome is Outcome.PLACED
    assert (await rig.venue.cancel(lost)).outcome is Outcome.REJECTED


# --- what the ledger is made of ------------------------------------------------------------------------------------


def wallet(rig: Rig) -> Decimal:
    return D(rig.simulator.balances(rig.keys)["USDT"]["total"])


async def totals(rig: Rig) -> dict[str, Decimal]:
    return {balance.asset: balance.total for balance in await rig.venue.balances()}


@pytest.mark.parametrize("mark", ["40000", "60000"])
async def test_the_wallet_is_told_whatever_a_position_gains_or_loses_meanwhile(rig: Rig, mark: str) -> None:
    before = await totals(rig)
    assert before["USDT"] == wallet(rig)
    await rig.venue.place(rig.intent(quantity="1"))
    rig.simulator.set_mark(rig.name, rig.market.symbol, mark)
    after = await totals(rig)
    assert after["USDT"] == wallet(rig) == before["USDT"] - 20  # the fee
    rig.show_book()


async def test_what_a_fill_realised_is_told_by_the_stream_and_by_asking(rig: Rig) -> None:
    begun_ns = rig.intent().created_ns
    bought, sold = rig.intent(quantity="0.5"), rig.intent("sell", quantity="0.3", price="49000")
    for intent in (bought, sold):
        assert (await rig.venue.place(intent)).outcome is Outcome.PLACED
        await rig.until(lambda intent=intent: rig.fills(intent))
    told = {**rig.fills(bought), **rig.fills(sold)}
    listed = await rig.venue.trades(rig.market.key, begun_ns - 10**9)
    assert listed is not None
    assert {fill.exchange_trade_id: fill.realized_pnl for fill in listed} == {
        trade_id: fill.realized_pnl for trade_id, fill in told.items()
    }
    assert sum(fill.realized_pnl or 0 for fill in rig.fills(sold).values()) == D("0.3") * -10
    assert {fill.realized_pnl for fill in rig.fills(bought).values()} == {D(0)}
    assert {fill.forced for fill in told.values()} == {""}
    assert {fill.position_side for fill in (*told.values(), *listed)} == {""}, "there is one position"


async def test_funding_is_a_line_with_an_id_of_its_own_however_it_is_paged(
    rig: Rig, monkeypatch: pytest.MonkeyPatch
) -> None:
    begun_ns = rig.intent().created_ns - 10**9
    assert await rig.venue.incomes(begun_ns) == []
    await rig.venue.place(rig.intent(quantity="0.5"))
    for rate in ("0.001", "-0.0005", "0.0001"):
        rig.simulator.fund(rig.name, rig.market.symbol, rate)
        await asyncio.sleep(0.005)  # each at a moment of its own
    listed = await rig.venue.incomes(begun_ns)
    assert listed is not None
    assert [one.amount for one in listed] == [D(-25), D("12.5"), D("-2.5")]
    assert {(one.kind, one.asset, one.market) for one in listed} == {(IncomeKind.FUNDING, "USDT", rig.market.key)}
    assert len({one.transaction_id for one in listed}) == 3
    monkeypatch.setattr(usdm, "PAGE", 2)
    assert await rig.venue.incomes(begun_ns) == listed
    last = listed[-1]
    assert await rig.venue.incomes(last.exchange_ns) == [last]


async def test_a_position_in_a_market_not_followed_is_told_by_its_key(rig: Rig) -> None:
    rig.simulator.set_book(rig.name, "ETH/USDT:USDT", bids=[("2999", "9")], asks=[("3000", "9")])
    order = {"symbol": "ETHUSDT", "side": "SELL", "type": "MARKET", "quantity": "2"}
    await rig.venue._client.fapiPrivatePostOrder(order)
    found = await rig.venue.positions()
    assert found is not None
    assert [(one.market, one.quantity) for one in found] == [(f"{rig.venue.exchange}:ETH/USDT:USDT", D(-2))]


async def test_a_liquidation_is_told_as_one_by_the_stream_by_asking_and_in_the_statement(rig: Rig) -> None:
    begun_ns = rig.intent().created_ns - 10**9
    await rig.venue.place(rig.intent(quantity="1"))
    rig.simulator.transfer(rig.keys, "USDT", f"-{wallet(rig) - 5000}")
    rig.simulator.set_mark(rig.name, rig.market.symbol, "45000")

    def forced() -> list[Fill]:
        events = [message for message in rig.told if isinstance(message, OrderEvent)]
        return [fill for event in events for fill in event.fills if fill.forced]

    await rig.until(forced)
    assert positions(rig) == {}
    assert {fill.forced for fill in forced()} == {"liquidation"}
    assert all(fill.client_order_id.startswith("autoclose-") for fill in forced())
    listed = await rig.venue.trades(rig.market.key, begun_ns)
    assert listed is not None
    of_orders = {fill.exchange_trade_id: fill.forced for fill in listed}
    assert {of_orders[fill.exchange_trade_id] for fill in forced()} == {"liquidation"}
    assert sorted(of_orders.values()) == ["", "liquidation"]
    incomes = await rig.venue.incomes(begun_ns)
    assert incomes is not None
    assert {one.kind for one in incomes} == {IncomeKind.INSURANCE}
    assert await rig.venue.positions() == []
    rig.show_book()


async def test_a_deleveraging_is_told_as_one(rig: Rig) -> None:
    begun_ns = rig.intent().created_ns - 10**9
    await rig.venue.place(rig.intent(quantity="0.5"))
    rig.simulator.deleverage(rig.keys, rig.market.symbol, "0.2")

    def forced() -> list[Fill]:
        events = [message for message in rig.told if isinstance(message, OrderEvent)]
        return [fill for event in events for fill in event.fills if fill.forced]

    await rig.until(forced)
    assert {(fill.forced, fill.client_order_id) for fill in forced()} == {("deleveraging", "adl_autoclose")}
    listed = await rig.venue.trades(rig.market.key, begun_ns)
    assert listed is not None
    assert [(fill.forced, fill.quantity) for fill in listed if fill.forced] == [("deleveraging", D("0.2"))]
    assert await rig.venue.incomes(begun_ns) == []


@pytest.mark.parametrize(
    ("client_id", "why"),
    [
        ("autoclose-1700000000000", "liquidation"),
        ("adl_autoclose", "deleveraging"),
        ("settlement_autoclose-1", "settlement"),
        ("my-autoclose-", ""),
        ("", ""),
    ],
)
async def test_whose_order_it_was_is_told_by_its_name(client_id: str, why: str) -> None:
    assert usdm.forced_of(client_id) == why
