"""A disputed order is decided by a person: booked once, by the ordinary path, and its trade settles and hedges."""

from __future__ import annotations

import asyncio
from decimal import Decimal

import msgspec
import pytest

from tests.engine.worlds import World
from trading.execution.decisions import DecisionKind, OrderDecision
from trading.messages import Fill, OrderState, TradeState

D = Decimal


async def disputed_world(buy: str = "lose_answer") -> tuple[World, str]:
    """A trade whose sell filled and whose buy nobody can prove anything about; returns the buy's id."""
    world = World(faulty=True)
    world.one_venue.script = [buy]
    world.one_venue.answers_queries = False
    await world.start()
    record = await world.trade()
    (client_id,) = world.engine.status().unresolved_orders
    assert world.store.states[client_id] is OrderState.DISPUTED
    assert record.state is TradeState.EXPOSED
    return world, client_id


def decision(client_id: str, kind: DecisionKind, **changes: object) -> OrderDecision:
    return OrderDecision(client_order_id=client_id, kind=kind, cause="decision #1: a test", **changes)  # type: ignore[arg-type]


async def decide(world: World, asked: OrderDecision) -> str:
    """Let the engine carry a decision out, and what follows from it come to its end."""
    deciding = asyncio.ensure_future(world.engine.decide(asked))
    await world.clock.run_until(deciding.done)
    await world.clock.run_until(lambda: not world.engine.status().open_trades)
    return deciding.result()


def fill_of(world: World, client_id: str, **changes: object) -> Fill:
    intent = world.store.intents[client_id]
    values: dict[str, object] = {
        "account_id": intent.account_id,
        "market": intent.market,
        "exchange_trade_id": "typed-1",
        "exchange_order_id": "",
        "client_order_id": client_id,
        "side": intent.side,
        "price": intent.price,
        "quantity": intent.quantity,
        "fee": D(0),
        "fee_asset": "USDT",
        "liquidity": "",
        "exchange_ns": intent.created_ns,
        **changes,
    }
    return Fill(**values)  # type: ignore[arg-type]


async def test_absent_books_a_failure_and_hedges_the_other_leg() -> None:
    world, client_id = await disputed_world("lose_request")
    sent = len(world.other_venue.sent) + len(world.one_venue.sent)
    assert await decide(world, decision(client_id, DecisionKind.ABSENT)) == ""
    assert world.store.states[client_id] is OrderState.FAILED
    assert world.store.events[client_id][-1].source == "operator"
    assert len(world.other_venue.sent) + len(world.one_venue.sent) == sent + 1  # the sold leg is bought back
    record = next(iter(world.store.trades.values()))
    assert record.state is TradeState.CLOSED
    world.check_nothing_held()
    await world.stop()


async def test_a_decision_hedges_though_nothing_followed_the_trades_markets_any_more() -> None:
    world, client_id = await disputed_world("lose_request")
    world.engine.update(msgspec.structs.replace(world.config, bots=()))  # its bot was stopped meanwhile
    assert world.engine.status().bots == []
    deciding = asyncio.ensure_future(world.engine.decide(decision(client_id, DecisionKind.ABSENT)))
    await world.clock.run_until(deciding.done)
    await world.edge()
    await world.clock.run_until(lambda: not world.engine.status().open_trades)
    record = next(iter(world.store.trades.values()))
    assert record.state is TradeState.CLOSED, record.reason
    assert record.residual_base == 0
    await world.stop()


async def test_a_second_decision_is_told_what_the_order_is_now() -> None:
    world, client_id = await disputed_world("lose_request")
    assert await decide(world, decision(client_id, DecisionKind.ABSENT)) == ""
    answer = await decide(world, decision(client_id, DecisionKind.ABSENT))
    assert answer == "The order is no longer disputed: it is FAILED, 0 filled."
    await world.stop()


async def test_typed_fills_are_booked_and_close_the_trade() -> None:
    world, client_id = await disputed_world()
    fills = (fill_of(world, client_id),)
    assert await decide(world, decision(client_id, DecisionKind.FILLED, fills=fills)) == ""
    assert world.store.states[client_id] is OrderState.FILLED
    record = next(iter(world.store.trades.values()))
    assert (record.state, record.residual_base) == (TradeState.CLOSED, D(0))
    world.check_result(record)
    world.check_nothing_held()
    await world.stop()


async def test_fills_short_of_the_quantity_leave_it_cancelled_and_the_rest_is_hedged() -> None:
    world, client_id = await disputed_world("lose_request")
    part = world.store.intents[client_id].quantity / 2 // D("0.0001") * D("0.0001")
    fills = (fill_of(world, client_id, quantity=part),)
    assert await decide(world, decision(client_id, DecisionKind.FILLED, fills=fills)) == ""
    assert world.store.states[client_id] is OrderState.CANCELLED
    assert next(iter(world.store.trades.values())).state is TradeState.CLOSED
    await world.stop()


async def test_a_fee_that_is_not_known_is_fine() -> None:
    world, client_id = await disputed_world()
    fills = (fill_of(world, client_id, fee=None, fee_asset=""),)
    assert await decide(world, decision(client_id, DecisionKind.FILLED, fills=fills)) == ""
    record = next(iter(world.store.trades.values()))
    assert (record.state, record.reason) == (TradeState.CLOSED, "the fees of 1 fills are not known yet")
    await world.stop()


@pytest.mark.parametrize(
    ("changes", "answer"),
    [
        ({"quantity": D(99)}, "may not come to more (given 99)"),
        ({"side": "sell"}, "is a sell, the order is a buy"),
    ],
)
async def test_fills_that_cannot_be_are_refused(changes, answer) -> None:
    world, client_id = await disputed_world()
    fills = (fill_of(world, client_id, **changes),)
    assert answer in await decide(world, decision(client_id, DecisionKind.FILLED, fills=fills))
    assert world.store.states[client_id] is OrderState.DISPUTED
    await world.stop()


async def test_adopting_asks_the_exchange_and_books_what_it_says() -> None:
    world, client_id = await disputed_world()
    world.one_venue.answers_queries = True
    asked = decision(client_id, DecisionKind.ADOPT, exchange_order_id=f"paper-{client_id}")
    assert await decide(world, asked) == ""
    assert world.store.states[client_id] is OrderState.FILLED
    assert world.store.events[client_id][-1].source == "operator"
    world.check_money()
    world.check_nothing_held()
    await world.stop()


async def test_adopting_by_its_executions_when_the_exchange_has_lost_our_id() -> None:
    world, client_id = await disputed_world()
    # The exchange answers that it does not know our id, and lists the executions under its own.
    orders = world.one_venue._orders
    orders["by-exchange"] = orders.pop(client_id)
    renamed = [msgspec.structs.replace(fill, client_order_id="") for fill in orders["by-exchange"].fills]
    orders["by-exchange"] = msgspec.structs.replace(orders["by-exchange"], fills=tuple(renamed))
    world.one_venue.answers_queries = True
    asked = decision(client_id, DecisionKind.ADOPT, exchange_order_id=f"paper-{client_id}")
    assert await decide(world, asked) == ""
    assert world.store.states[client_id] is OrderState.FILLED
    world.check_money()
    await world.stop()


async def test_adopting_what_the_exchange_does_not_have_is_refused() -> None:
    world, client_id = await disputed_world("lose_request")
    world.one_venue.answers_queries = True
    answer = await decide(world, decision(client_id, DecisionKind.ADOPT, exchange_order_id="nowhere"))
    assert "has executed nothing" in answer
    assert world.store.states[client_id] is OrderState.DISPUTED
    await world.stop()


async def test_adopting_another_order_of_ours_or_of_another_side_is_refused() -> None:
    world, client_id = await disputed_world("lose_request")
    world.one_venue.answers_queries = True
    other_id = world.other_venue.sent[0].client_order_id
    (mine,) = world.other_venue._orders[other_id].fills
    intent = world.store.intents[client_id]
    for changes, answer in (
        ({"side": "buy", "client_order_id": other_id}, f"belongs to our order {other_id}"),
        ({"side": "sell", "client_order_id": ""}, "is a sell, ours is a buy"),
    ):
        strange = msgspec.structs.replace(
            mine, market=intent.market, account_id=intent.account_id, exchange_order_id="x-9", **changes
        )
        world.one_venue._orders["x"] = msgspec.structs.replace(
            world.other_venue._orders[other_id], fills=(strange,), market=intent.market
        )
        assert answer in await decide(world, decision(client_id, DecisionKind.ADOPT, exchange_order_id="x-9"))
    assert world.store.states[client_id] is OrderState.DISPUTED
    await world.stop()


async def test_an_absence_is_refused_when_the_exchange_has_named_a_quantity() -> None:
    world, client_id = await disputed_world()
    saga = world.engine.trades.of_order(client_id)
    assert saga is not None
    saga.orders[client_id]._claimed = D("0.1")
    assert "named 0.1 of it as filled" in await decide(world, decision(client_id, DecisionKind.ABSENT))
    await world.stop()


async def test_an_order_nobody_knows_is_refused() -> None:
    world = World(faulty=True)
    await world.start()
    assert "No trade of this owner" in await decide(world, decision("x", DecisionKind.ABSENT))
    await world.stop()


async def test_without_a_venue_absent_and_filled_work_and_adopting_says_why_not() -> None:
    world, client_id = await disputed_world("lose_request")
    await world.stop()
    record = next(iter(world.store.trades.values()))
    world.store.trades[record.trade_id] = msgspec.structs.replace(record, state=TradeState.OPEN)
    del world.venues[11]
    world.config = msgspec.structs.replace(world.config, bots=())
    world.engine = world.make_engine(token=4)
    await world.start()
    answer = await decide(world, decision(client_id, DecisionKind.ADOPT, exchange_order_id="x-1"))
    assert answer.startswith("Account 11 is not connected")
    assert await decide(world, decision(client_id, DecisionKind.ABSENT)) == ""
    assert world.store.states[client_id] is OrderState.FAILED
    # Whoever can take the trade up settles it then.
    assert world.store.trades[record.trade_id].state is TradeState.REPAIRING
    answer = await decide(world, decision(client_id, DecisionKind.ABSENT))
    assert answer == "The order is no longer disputed: it is FAILED, 0 filled."
    await world.stop()


async def test_a_decision_that_comes_while_the_engine_starts_waits_until_trades_are_taken_up() -> None:
    world, client_id = await disputed_world("lose_request")
    await world.stop()
    world.engine = world.make_engine(token=4)
    deciding = asyncio.ensure_future(world.engine.decide(decision(client_id, DecisionKind.ABSENT)))
    await world.clock.settle()
    assert not deciding.done()
    await world.start()
    await world.clock.run_until(deciding.done)
    await world.clock.run_until(lambda: not world.engine.status().open_trades)
    assert deciding.result() == ""
    assert world.store.states[client_id] is OrderState.FAILED
    assert next(iter(world.store.trades.values())).state is not TradeState.REPAIRING
    assert not world.engine.status().unresolved_orders
    await world.stop()
