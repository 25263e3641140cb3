"""Protection that leaves beside the entry of a contract: sized to what filled, and gone when nothing did."""

from __future__ import annotations

import asyncio

import pytest

from tests.engine.contract_world import ContractWorld
from tests.engine.ticket_world import DESK
from tests.engine.worlds import D
from trading.messages import AccountPosition, AccountPositions, OrderKind, OrderState, PlaceResult, TradeState
from trading.tickets import WorkingStyle

pytestmark = pytest.mark.asyncio

TAKE_PROFIT, STOP_LOSS = OrderKind.TAKE_PROFIT, OrderKind.STOP_LOSS


async def test_entry_and_protection_are_acknowledged_within_one_round_trip() -> None:
    world = ContractWorld()
    await world.begin()
    begun = world.clock.monotonic_ns()
    ticket = await world.held()
    assert (world.clock.monotonic_ns() - begun) / 1e9 <= 2 * world.venue._one_way + 0.020
    assert len(set(world.venue.times.values())) == 1, "all three left together"
    assert [intent.quantity for intent in world.protective()] == [D("0.1")] * 2
    assert all(intent.reduce_only for intent in world.protective())
    standing = world.record(ticket.record.trade_id).standing
    assert standing.protected_by == "exchange"
    steps = [(step.step, step.text) for step in standing.progress]
    assert [step for step, _ in steps] == ["connecting", "placing order", "placing protection", "done"]
    assert ("placing protection", "sent beside the order") in steps
    assert not ticket.protection.is_watching
    world.contracts.fire(TAKE_PROFIT, "51000")
    record = await world.ended(ticket)
    assert (record.state, record.reason) == (TradeState.CLOSED, "the take-profit filled 0.1")
    assert not world.venue.resting
    world.check_nothing_held()
    await world.stop()


async def test_a_short_position_is_protected_by_purchases() -> None:
    world = ContractWorld()
    await world.begin()
    ticket = await world.held(side="sell", limit_cap=D(49500), take_profit=D(49000), stop_loss=D(51000))
    assert {intent.side for intent in world.protective()} == {"buy"}
    world.contracts.fire(STOP_LOSS, "51000")
    assert (await world.ended(ticket)).state is TradeState.CLOSED
    assert world.contracts.position() == 0
    await world.stop()


async def test_what_filled_in_part_is_protected_in_its_size() -> None:
    world = ContractWorld()
    await world.begin()
    world.venue.script = ["half"]
    ticket = await world.held()
    assert [intent.quantity for intent in world.protective()] == [D("0.1"), D("0.1"), D("0.05"), D("0.05")]
    assert {intent.quantity for intent in world.venue.resting.values()} == {D("0.05")}
    assert world.record(ticket.record.trade_id).standing.protected_by == "exchange"
    await world.stop()


@pytest.mark.parametrize("word", ["reject", "none", "lose_request"])
async def test_an_entry_that_filled_nothing_leaves_nothing(word: str) -> None:
    world = ContractWorld()
    await world.begin()
    world.venue.script = [word]
    opened = await world.open()
    await world.clock.run_until(lambda: world.record(opened.trade_id).state is TradeState.FAILED)
    assert len(world.venue.protected) == 1
    assert not world.venue.resting
    assert world.states(TAKE_PROFIT) == world.states(STOP_LOSS) == [OrderState.CANCELLED]
    assert world.contracts.position() == 0
    world.check_nothing_held()
    await world.stop()


async def test_what_was_refused_beside_the_entry_is_placed_after_its_fill() -> None:
    world = ContractWorld()
    await world.begin()
    world.venue.refuse = {TAKE_PROFIT, STOP_LOSS}
    opening = asyncio.ensure_future(world.engine.open_ticket(DESK, world.asked()))
    await world.clock.run_until(lambda: world.states(STOP_LOSS)[:1] == [OrderState.FAILED])
    world.venue.refuse = set()
    await world.clock.run_until(opening.done)
    trade_id = opening.result().trade_id
    await world.clock.run_until(lambda: world.record(trade_id).state is TradeState.HOLDING)
    assert world.record(trade_id).standing.protected_by == "exchange"
    assert len(world.venue.resting) == 2
    await world.stop()


async def test_half_a_pair_does_not_stay_and_what_is_refused_twice_is_held_by_the_engine() -> None:
    world = ContractWorld()
    await world.begin()
    world.venue.refuse = {STOP_LOSS}
    ticket = await world.held()
    standing = world.record(ticket.record.trade_id).standing
    assert standing.protected_by == "engine"
    assert "refused the stop-loss" in standing.protection_note
    assert any("refused the stop-loss" in alarm for alarm in world.alarms)
    assert not world.venue.resting
    world.show(world.alpha, "48990", "49000")
    assert (await world.ended(ticket)).state is TradeState.CLOSED
    await world.stop()


async def test_a_lost_answer_is_found_out_and_not_sent_again() -> None:
    world = ContractWorld()
    await world.begin()
    world.venue.lose = {TAKE_PROFIT}
    ticket = await world.held()
    assert world.record(ticket.record.trade_id).standing.protected_by == "exchange"
    assert len(world.protective()) == 2, "never sent again"
    await world.stop()


async def test_a_lost_answer_of_the_entry_leaves_the_protection_where_it_is() -> None:
    world = ContractWorld()
    await world.begin()
    world.venue.script = ["lose_answer"]
    ticket = await world.held()
    assert world.record(ticket.record.trade_id).standing.held == D("0.1")
    assert len(world.protective()) == 2
    assert len(world.venue.resting) == 2
    await world.stop()


async def test_a_level_reached_while_the_entry_is_not_known_ends_flat() -> None:
    world = ContractWorld()
    await world.begin()
    world.venue.script = ["silent"]
    opened = await world.open()
    await world.clock.run_until(lambda: len(world.venue.resting) == 2 and world.contracts.position())
    world.contracts.fire(STOP_LOSS, "49000")
    await world.clock.settle()
    world.venue.speak()
    await world.clock.run_until(lambda: world.record(opened.trade_id).state is TradeState.CLOSED)
    assert world.contracts.position() == 0
    assert not world.venue.resting
    assert world.record(opened.trade_id).residual_base == 0
    await world.stop()


async def test_a_level_reached_before_anything_is_held_is_held_by_the_engine() -> None:
    world = ContractWorld()
    await world.begin()
    place = world.venue.place

    async def late(intent: object) -> PlaceResult:
        if intent.kind is OrderKind.LIMIT:  # type: ignore[attr-defined]
            while len(world.venue.resting) < 2:
                await world.clock.sleep(0.001)
            world.contracts.fire(STOP_LOSS, "49000")
            world.venue.refuse = {STOP_LOSS}
        return await place(intent)  # type: ignore[arg-type]

    world.venue.place = late  # type: ignore[method-assign, assignment]
    ticket = await world.held()
    standing = world.record(ticket.record.trade_id).standing
    assert standing.protected_by == "engine"
    assert any("refused the stop-loss" in alarm for alarm in world.alarms)
    assert not world.venue.resting
    await world.stop()


class TestItWaitsForTheFill:
    """Where what is too much could close something else, or an order may take its time."""

    async def test_beside_another_position_in_the_contract(self) -> None:
        world = ContractWorld()
        await world.begin()
        self.tell(world, "0.3")
        await self.check(world)

    async def test_while_positions_are_not_told(self) -> None:
        world = ContractWorld()
        await super(ContractWorld, world).begin()
        await self.check(world)

    async def test_beside_another_trade_in_the_contract(self) -> None:
        world = ContractWorld()
        await world.begin()
        await world.held(command_id=1)
        world.venue.protected.clear()
        await self.check(world, command_id=2)

    async def test_with_a_level_that_is_reached(self) -> None:
        world = ContractWorld()
        await world.begin()
        await self.check(world, take_profit=D(49980))

    async def test_of_an_order_that_is_worked_in_the_spread(self) -> None:
        world = ContractWorld()
        await world.begin()
        opened = await world.open(style=WorkingStyle())
        await world.clock.run_until(lambda: "PLACED" in world.store.states.values())
        assert world.record(opened.trade_id).state is TradeState.OPEN
        assert world.venue.protected == []
        await world.stop()

    @staticmethod
    def tell(world: ContractWorld, quantity: str) -> None:
        position = AccountPosition(market=world.alpha.key, side="both", quantity=D(quantity), entry_price=D(50_000))
        now = world.clock.time_ns()
        world.venue._tell_any(AccountPositions(account_id=11, positions=(position,), received_ns=now))  # type: ignore[arg-type]

    @staticmethod
    async def check(world: ContractWorld, **changes: object) -> None:
        began = len(world.venue.sent)
        ticket = await world.held(**changes)
        (pair,) = world.venue.protected
        entered = max(world.venue.times[intent.client_order_id] for intent in world.venue.sent[began:])
        assert all(world.venue.times[intent.client_order_id] > entered for intent in pair if intent is not None)
        assert world.record(ticket.record.trade_id).standing.protected_by == "exchange"
        await world.stop()


async def test_a_store_that_takes_nothing_sends_nothing() -> None:
    world = ContractWorld()
    await world.begin()
    world.store.available = False
    opened = await world.open()
    assert opened.refusal
    assert world.venue.sent == world.venue.protected == []
    assert not world.store.intents
    await world.stop()
