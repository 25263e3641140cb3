"""What proves that an order never was: and what, found beside it, leaves the decision to a person."""

from __future__ import annotations

import json
from collections.abc import Sequence
from decimal import Decimal

import msgspec
import pytest

from tests.engine.worlds import FaultyVenue, World
from trading.messages import AccountBalance, Fill, OrderEvent
from trading.messages import OrderState as S
from trading.messages import TradeState as T

D = Decimal


async def world_with_a_lost_request(**bot: object) -> World:
    world = World(faulty=True, **bot)
    world.other_venue.script = ["lose_request"]
    await world.start()
    return world


async def end(world: World) -> OrderEvent:
    """Let the trade end; return the event that ended the order whose request was lost."""
    await world.edge()
    await world.clock.run_until(lambda: world.store.trades and not world.engine.status().open_trades, 2000)
    lost = next(intent for intent in world.store.intents.values() if (intent.leg, intent.attempt) == (1, 0))
    return world.store.events[lost.client_order_id][-1]


def evidence(event: OrderEvent) -> dict[str, list[str]]:
    found: dict[str, list[str]] = {}
    for finding in json.loads(event.raw)["evidence"]:
        found.setdefault(finding["question"], []).append(finding["answer"])
    return found


def foreign_fill(world: World, **changes: object) -> Fill:
    settings: dict[str, object] = {
        "account_id": 12, "market": world.beta.key, "exchange_trade_id": "f1", "exchange_order_id": "x1",
        "client_order_id": "", "side": "sell", "price": D(50500), "quantity": D("0.1"), "fee": D(1),
        "fee_asset": "USDT", "liquidity": "taker", "exchange_ns": world.clock.time_ns(), **changes,
    }  # fmt: skip
    return Fill(**settings)  # type: ignore[arg-type]


def show_trades(venue: FaultyVenue, *fills: Fill) -> None:
    async def trades(market: str, since_ns: int) -> Sequence[Fill]:
        return fills

    venue.trades = trades  # type: ignore[method-assign]


async def test_absence_is_proven_by_four_answers_and_kept_with_the_order() -> None:
    world = await world_with_a_lost_request()
    event = await end(world)
    assert event.state is S.FAILED
    found = evidence(event)
    assert set(found) == {"query", "open_orders", "trades", "balances"}
    assert found["balances"] == ["0 BTC beyond the executions known"]
    (record,) = world.store.trades.values()
    assert record.state is T.CLOSED
    await world.stop()


@pytest.mark.parametrize("question", ["open_orders", "trades", "balances"])
async def test_without_an_answer_nothing_is_proven(question: str) -> None:
    world = await world_with_a_lost_request()
    answers: list[bool] = []
    real = getattr(world.other_venue, question)

    async def silent(*args: object) -> object:
        answers.append(world.clock.time_ns() > 0)
        if len(answers) < 4:
            return () if question == "balances" else None
        return await real(*args)

    setattr(world.other_venue, question, silent)
    event = await end(world)
    assert event.state is S.FAILED
    assert len(answers) >= 4  # an account that answers orders slowly is asked for balances now and then, too
    await world.stop()


async def test_an_account_that_never_answers_is_a_dispute() -> None:
    world = await world_with_a_lost_request()

    async def silent(*args: object) -> None:
        return None

    world.other_venue.open_orders = silent  # type: ignore[method-assign,assignment]
    event = await end(world)
    assert event.state is S.DISPUTED
    assert evidence(event)["open_orders"] == ["no answer"]
    await world.stop()


async def test_an_execution_that_carries_our_id_is_the_order() -> None:
    world = await world_with_a_lost_request()
    await world.edge()
    await world.clock.run_until(lambda: len(world.store.intents) == 2)
    lost = next(intent for intent in world.store.intents.values() if intent.leg == 1)
    show_trades(world.other_venue, foreign_fill(world, client_order_id=lost.client_order_id, quantity=lost.quantity))
    await world.clock.run_until(lambda: not world.engine.status().open_trades, 2000)
    assert world.store.states[lost.client_order_id] is S.FILLED
    assert len([intent for intent in world.store.intents.values() if intent.leg == 1]) == 1
    await world.stop()


async def test_an_execution_nobody_claims_leaves_it_to_a_person() -> None:
    world = await world_with_a_lost_request()
    show_trades(
        world.other_venue, foreign_fill(world), foreign_fill(world, exchange_trade_id="f2", exchange_order_id="x2")
    )
    event = await end(world)
    assert event.state is S.DISPUTED
    assert "executions that no order of ours explains" in event.cause
    candidates = json.loads(event.raw)["candidates"]
    assert [candidate["exchange_order_id"] for candidate in candidates] == ["x1", "x2"]
    (record,) = world.store.trades.values()
    assert record.state is T.EXPOSED
    assert world.engine.status().bots[0].observed == "blocked"
    # Nothing was sent to even it out: it may be even.
    assert len(world.store.intents) == 2
    await world.stop()


@pytest.mark.parametrize(
    "changes",
    [{"side": "buy"}, {"price": D(50000)}, {"quantity": D(3)}, {"client_order_id": "somebody's"}],
    ids=["other side", "beyond the limit", "too large", "of another order"],
)
async def test_an_execution_that_cannot_be_the_order_s_is_no_hindrance(changes: dict[str, object]) -> None:
    world = await world_with_a_lost_request()
    show_trades(world.other_venue, foreign_fill(world, **changes))
    assert (await end(world)).state is S.FAILED
    await world.stop()


async def test_an_open_order_without_an_id_leaves_it_to_a_person() -> None:
    world = await world_with_a_lost_request()

    async def open_orders() -> Sequence[OrderEvent]:
        return [
            OrderEvent(
                account_id=12, market=world.beta.key, client_order_id="", exchange_order_id="x7", state=S.PLACED,
                source="query",
            )
        ]  # fmt: skip

    world.other_venue.open_orders = open_orders  # type: ignore[method-assign]
    event = await end(world)
    assert event.state is S.DISPUTED
    assert "without a client order id" in event.cause
    await world.stop()


async def test_a_balance_that_moved_as_if_executed_is_a_dispute() -> None:
    world = await world_with_a_lost_request()
    real = world.other_venue.balances

    async def balances() -> Sequence[AccountBalance]:
        found = await real()
        return [
            msgspec.structs.replace(balance, free=balance.free - D("0.1")) if balance.asset == "BTC" else balance
            for balance in found
        ]

    await world.edge()
    world.other_venue.balances = balances  # type: ignore[method-assign]
    event = await end(world)
    assert event.state is S.DISPUTED
    assert "BTC changed by -0.1 more" in event.cause
    await world.stop()


async def test_a_balance_that_moved_the_other_way_is_no_hindrance() -> None:
    world = await world_with_a_lost_request()
    real = world.other_venue.balances

    async def balances() -> Sequence[AccountBalance]:  # a deposit meanwhile
        return [msgspec.structs.replace(balance, free=balance.free + D(1)) for balance in await real()]

    await world.edge()
    world.other_venue.balances = balances  # type: ignore[method-assign]
    assert (await end(world)).state is S.FAILED
    await world.stop()
