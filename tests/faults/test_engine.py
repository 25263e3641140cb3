"""Whole trades through faults of one exchange: the engine adopts, completes, undoes, or stops and says why.

Real feeds, real orders, real streams; what the exchanges executed is what was booked, and their balances moved by that.
Where an exchange's own form of a fault is gone through with its venue alone, one exchange is enough here.
"""

from __future__ import annotations

from decimal import Decimal
from typing import Any

import msgspec
import pytest

from tests.engine.test_engine_simulated import Stage, staged
from tests.exchangesim.simulator import Simulator
from tests.faults.wire import shared_simulator  # noqa: F401
from trading.execution.resolver import Patience
from trading.messages import OrderState, TradeRecord, TradeState

D = Decimal
SHORT_ABSENCE = 0.8  # seconds; the windows themselves are looked at in test_lost_orders


@pytest.fixture(params=["rest", "websocket"], autouse=True)
def path(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> str:
    """How orders leave."""
    monkeypatch.setattr(Stage, "path", request.param)
    return str(request.param)


def pair_of(name: str) -> tuple[str, str]:
    """The exchange that misbehaves, where the bot buys, and a sound one."""
    return name, "okx" if name != "okx" else "bybit"


def on_order(stage: Stage, kind: str, **parameters: Any) -> None:
    name = stage.pair[0]
    stage.simulator.fault(
        kind, exchange=name, operation=stage.place_operation(name), api_key=stage.keys[name].api_key, count=1,
        parameters=parameters,
    )  # fmt: skip


def in_engine(stage: Stage, kind: str, **parameters: Any) -> None:
    name = stage.pair[0]
    stage.simulator.fault(
        kind, stage="engine", exchange=name, api_key=stage.keys[name].api_key, count=1, parameters=parameters
    )


def believe_absence_soon(stage: Stage) -> None:
    for venue in stage.engine.desk.venues.values():
        venue.absence_seconds = SHORT_ABSENCE
    stage.engine.trades._patience = Patience(longest=0.5)


def complete_for(stage: Stage, seconds: float) -> None:
    """Let trades wait so long for their missing leg before they are undone."""
    (bot,) = stage.engine.config.bots
    bots = (msgspec.structs.replace(bot, completion_seconds=seconds),)
    stage.engine.update(msgspec.structs.replace(stage.engine.config, bots=bots))


def orders(stage: Stage, name: str) -> list[dict[str, Any]]:
    return stage.simulator.orders(name, api_key=stage.keys[name].api_key)


async def traded(stage: Stage) -> TradeRecord:
    """Open the edge, and let the one trade it leads to come to its end."""
    stage.open_edge()
    await stage.until(lambda: stage.store.trades and not stage.engine.status().open_trades)
    (record,) = stage.store.trades.values()
    return record


def check_hedged(stage: Stage, record: TradeRecord) -> None:
    """All that was bought was sold, each order was sent once under an id of its own, and nothing is held back."""
    assert (record.state, record.residual_base) == (TradeState.CLOSED, 0), record.reason
    stage.check_books_and_balances()
    for name in stage.pair:
        ids = [row["client_id"] for row in orders(stage, name)]
        assert len(set(ids)) == len(ids)
        assert set(ids) <= stage.store.intents.keys()
    assert stage.engine.desk.portfolio.reservations == {}
    assert stage.engine.status().unresolved_orders == []


@pytest.mark.parametrize("name", ["binance"])
async def test_fault_02_a_leg_that_never_arrived_is_proven_absent_and_completed(
    shared_simulator: Simulator,  # noqa: F811
    name: str,
) -> None:
    async with staged(shared_simulator, pair_of(name)) as stage:
        believe_absence_soon(stage)
        on_order(stage, "drop_request", how="reset")
        record = await traded(stage)
        check_hedged(stage, record)
        lost = [client_id for client_id, states in stage.store.history.items() if OrderState.UNKNOWN in states]
        assert [stage.store.states[client_id] for client_id in lost] == [OrderState.FAILED]
        assert lost[0] not in {row["client_id"] for one in stage.pair for row in orders(stage, one)}


@pytest.mark.parametrize("name", ["okx"])
async def test_fault_03_a_leg_that_arrives_late_is_adopted(shared_simulator: Simulator, name: str) -> None:  # noqa: F811
    async with staged(shared_simulator, pair_of(name)) as stage:
        on_order(stage, "late_request", ms=900)
        record = await traded(stage)
        check_hedged(stage, record)
        assert sum(len(orders(stage, one)) for one in stage.pair) == 2, "nothing was sent in its place"


@pytest.mark.parametrize("name", ["bybit"])
async def test_fault_06_a_leg_the_exchange_dropped_is_proven_absent_and_completed(
    shared_simulator: Simulator,  # noqa: F811
    name: str,
) -> None:
    async with staged(shared_simulator, pair_of(name)) as stage:
        believe_absence_soon(stage)
        on_order(stage, "refuse", reason="backend_timeout")
        check_hedged(stage, await traded(stage))


@pytest.mark.parametrize("name", ["binance"])
async def test_fault_14_a_leg_without_money_is_made_up_for(
    shared_simulator: Simulator,  # noqa: F811
    name: str,
) -> None:
    async with staged(shared_simulator, pair_of(name)) as stage:
        keys = stage.keys[name]
        silent = shared_simulator.fault("silent", stage="event", exchange=name, api_key=keys.api_key)
        shared_simulator.transfer(keys, "USDT", "-99900")
        complete_for(stage, 1.0)
        record = await traded(stage)
        shared_simulator.call("DELETE", f"/faults/{silent}")
        shared_simulator.transfer(keys, "USDT", "99900")
        check_hedged(stage, record)
        assert len(orders(stage, stage.pair[1])) == 2, "sold, and bought back where it was sold"


@pytest.mark.parametrize("name", ["okx"])
async def test_fault_17_a_leg_that_is_acknowledged_and_then_not_found_is_waited_for(
    shared_simulator: Simulator,  # noqa: F811
    name: str,
) -> None:
    async with staged(shared_simulator, pair_of(name)) as stage:
        key = stage.keys[name].api_key
        shared_simulator.fault("read_lag", exchange=name, operation="GET *", api_key=key, parameters={"ms": 1500})
        shared_simulator.fault("silent", stage="event", exchange=name, api_key=key)
        on_order(stage, "edit", set={"fills": [], "status": "NEW", "executedQty": "0"})
        record = await traded(stage)
        check_hedged(stage, record)
        assert sum(len(orders(stage, one)) for one in stage.pair) == 2


async def made_up_for(stage: Stage) -> None:
    """The exchange takes no order of ours; what the other one sold is bought back where it was sold."""
    complete_for(stage, 1.0)
    record = await traded(stage)
    assert orders(stage, stage.pair[0]) == []
    check_hedged(stage, record)


async def test_fault_10_a_leg_refused_for_a_rate_limit_is_made_up_for(
    shared_simulator: Simulator,  # noqa: F811
) -> None:
    async with staged(shared_simulator, ("okx", "bybit")) as stage:
        shared_simulator.fault(
            "throttle", exchange="okx", operation=stage.place_operation("okx"), parameters={"retry_after": 30}
        )
        await made_up_for(stage)


async def test_fault_32_a_leg_on_a_halted_market_is_made_up_for(
    shared_simulator: Simulator,  # noqa: F811
) -> None:
    halt = {"exchange": "bybit", "symbol": "BTC/USDT"}
    async with staged(shared_simulator, ("bybit", "okx")) as stage:
        shared_simulator.call("POST", "/market", {**halt, "halted": True})
        try:
            await made_up_for(stage)
        finally:
            shared_simulator.call("POST", "/market", {**halt, "halted": False})


async def test_fault_34_a_leg_of_a_restricted_account_is_made_up_for(
    shared_simulator: Simulator,  # noqa: F811
) -> None:
    async with staged(shared_simulator, ("binance", "okx")) as stage:
        shared_simulator.fault(
            "refuse",
            exchange="binance",
            operation=stage.place_operation("binance"),
            parameters={"reason": "account_restricted"},
        )
        await made_up_for(stage)
        (bot,) = stage.engine.status().bots
        assert bot.observed == "blocked"
        assert "-2010" in bot.reason


@pytest.mark.parametrize("name", ["bybit"])
async def test_fault_20_a_fill_after_the_end_of_its_order_is_booked_and_hedged(
    shared_simulator: Simulator,  # noqa: F811
    name: str,
) -> None:
    async with staged(shared_simulator, pair_of(name)) as stage:
        in_engine(stage, "cut_depth", quantity="0.05")
        check_hedged(stage, await traded(stage))
        (first, *_) = [row for row in orders(stage, name) if row["status"] == "EXPIRED"]
        sent = sum(len(orders(stage, one)) for one in stage.pair)
        shared_simulator.execute(name, first["id"], "0.03", "50000")
        await stage.until(
            lambda: sum(len(orders(stage, one)) for one in stage.pair) > sent and not stage.engine.status().open_trades
        )
        (record,) = stage.store.trades.values()
        check_hedged(stage, record)


@pytest.mark.parametrize("name", ["bybit"])
async def test_fault_26_a_leg_that_found_less_is_completed_or_undone(
    shared_simulator: Simulator,  # noqa: F811
    name: str,
) -> None:
    async with staged(shared_simulator, pair_of(name)) as stage:
        in_engine(stage, "cut_depth", quantity="0.05")
        check_hedged(stage, await traded(stage))


async def stops(stage: Stage, sent: int) -> None:
    """More was executed than ordered: all of it is booked, and nothing more is sent."""
    record = await traded(stage)
    assert record.state is TradeState.EXPOSED
    assert "more than was ordered" in record.reason
    assert any("overfill" in alarm for alarm in stage.alarms)
    stage.check_books_and_balances()
    assert sum(len(orders(stage, one)) for one in stage.pair) == sent
    assert [bot.observed for bot in stage.engine.status().bots] != ["running"]


@pytest.mark.parametrize("name", ["okx"])
async def test_fault_27_an_overfill_is_booked_and_stops_the_bot(shared_simulator: Simulator, name: str) -> None:  # noqa: F811
    async with staged(shared_simulator, pair_of(name)) as stage:
        in_engine(stage, "overfill", quantity="0.02")
        await stops(stage, sent=2)


@pytest.mark.parametrize("name", ["binance", "okx"])
async def test_fault_16_an_id_accepted_twice_is_booked_twice_and_stops_the_bot(
    shared_simulator: Simulator,  # noqa: F811
    name: str,
) -> None:
    async with staged(shared_simulator, pair_of(name)) as stage:
        if name != "binance":
            in_engine(stage, "reuse_client_id")
        on_order(stage, "duplicate_request")
        await stops(stage, sent=3)


@pytest.mark.parametrize("name", ["okx"])
async def test_fault_35_an_account_whose_key_is_gone_trades_no_more(shared_simulator: Simulator, name: str) -> None:  # noqa: F811
    async with staged(shared_simulator, pair_of(name)) as stage:
        shared_simulator.revoke(stage.keys[name])
        await stage.until(lambda: [bot.observed for bot in stage.engine.status().bots] != ["running"])
        stage.open_edge()
        await stage.until(lambda: stage.store.decisions)
        assert stage.store.trades == {}
        assert sum(len(orders(stage, one)) for one in stage.pair) == 0
        shared_simulator.revoke(stage.keys[name], False)
        await stage.until(lambda: [bot.observed for bot in stage.engine.status().bots] == ["running"])


@pytest.mark.parametrize("name", ["binance"])
async def test_fault_37_an_order_placed_by_hand_is_counted_and_left_alone(
    shared_simulator: Simulator,  # noqa: F811
    name: str,
) -> None:
    async with staged(shared_simulator, pair_of(name)) as stage:
        keys = stage.keys[name]
        by_hand = shared_simulator.place_by_hand(keys, "BTC/USDT", "BUY", "0.01", "41000")
        await stage.until(lambda: stage.engine.status().counters.get("foreign_events"))
        stage.open_edge()
        await stage.until(lambda: stage.store.trades and not stage.engine.status().open_trades)
        (record,) = stage.store.trades.values()
        assert (record.state, record.residual_base) == (TradeState.CLOSED, 0)
        stage.check_books_and_balances()
        (theirs,) = [row for row in orders(stage, name) if row["id"] == by_hand["id"]]
        assert theirs["status"] == "NEW"


@pytest.mark.parametrize("name", ["binance"])
async def test_fault_38_an_acknowledged_leg_the_exchange_lost_is_disputed(
    shared_simulator: Simulator,  # noqa: F811
    name: str,
) -> None:
    async with staged(shared_simulator, pair_of(name)) as stage:
        believe_absence_soon(stage)
        key = stage.keys[name].api_key
        shared_simulator.fault("silent", stage="event", exchange=name, api_key=key)
        shared_simulator.fault("read_lag", exchange=name, operation="GET *", api_key=key, parameters={"ms": 60_000})
        on_order(stage, "edit", set={"fills": [], "status": "NEW", "executedQty": "0"})
        stage.open_edge()
        await stage.until(lambda: orders(stage, name))
        (lost,) = orders(stage, name)
        shared_simulator.roll_back(name, lost["id"])
        record = await traded(stage)
        stage.check_books_and_balances()
        if record.state is TradeState.CLOSED:  # the balances proved that nothing was bought: then it was made up for
            check_hedged(stage, record)
        else:
            assert record.state is TradeState.EXPOSED
            assert stage.store.states[lost["client_id"]] is OrderState.DISPUTED
            assert [bot.observed for bot in stage.engine.status().bots] != ["running"]
        assert lost["client_id"] not in {row["client_id"] for one in stage.pair for row in orders(stage, one)}


@pytest.mark.parametrize("name", ["bybit"])
async def test_fault_55_one_exchange_that_is_cut_off_starts_no_trade(
    shared_simulator: Simulator,  # noqa: F811
    name: str,
) -> None:
    async with staged(shared_simulator, pair_of(name)) as stage:
        config = stage.engine.config
        (bot,) = config.bots
        young = msgspec.structs.replace(bot, max_book_age_ms=500.0)
        stage.engine.update(msgspec.structs.replace(config, bots=(young,)))
        for where in ({}, {"stage": "market"}, {"stage": "event"}):
            kind = "silent" if where else "drop_request"
            shared_simulator.fault(kind, exchange=name, **where)
        cut = stage.hub.state(f"{name}-sim:BTC/USDT")
        sound = stage.hub.state(f"{stage.pair[1]}-sim:BTC/USDT")
        await stage.until(lambda: not stage.hub.tradable(cut, 500))
        stage.open_edge()
        await stage.until(lambda: sound.bid >= 50200)
        seen = sound.book.version
        await stage.until(lambda: sound.book.version > seen + 10)
        assert stage.store.trades == {}
        assert orders(stage, stage.pair[1]) == []
