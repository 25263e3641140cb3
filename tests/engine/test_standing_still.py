"""Processes that stand still and clocks that step prove nothing, and send nothing late."""

from __future__ import annotations

import pytest

from tests.engine.test_recovery import die, mortal_world, take_over
from tests.engine.worlds import World
from trading.messages import OrderIntent, OrderState, PlaceResult


async def test_a_process_that_stands_still_between_two_orders_does_not_send_the_second() -> None:
    world = World(faulty=True)
    place = world.one_venue.place

    async def place_and_stand_still(intent: OrderIntent) -> PlaceResult:
        world.clock._now += 60 * 10**9
        return await place(intent)

    world.one_venue.place = place_and_stand_still  # type: ignore[method-assign]
    await world.start()
    await world.edge()
    await world.clock.run_until(lambda: world.store.trades and not world.engine.status().open_trades)
    await world.stop()

    first = [intent for intent in world.other_venue.sent if intent.attempt == 0]
    assert first == []
    (void,) = [client_id for client_id, state in world.store.states.items() if state is OrderState.FAILED]
    assert "not sent" in world.store.events[void][-1].cause
    assert void not in world.engine.desk.portfolio.reservations


@pytest.mark.parametrize("step", [-3600, 3600])
async def test_a_step_of_the_wall_clock_neither_hastens_nor_delays_the_proof_of_absence(step: int) -> None:
    world = mortal_world(("lose_request",), ())
    await world.start()
    await world.edge()
    await die(world)
    begun = world.clock.monotonic_ns()
    time_ns = world.clock.time_ns
    world.clock.time_ns = lambda: time_ns() + step * 10**9  # type: ignore[method-assign]
    await take_over(world, token=4)
    await world.clock.run_until(lambda: not world.engine.status().open_trades, 300)
    await world.stop()

    lost = world.one_venue.sent[0].client_order_id
    assert world.store.states[lost] is OrderState.FAILED
    denied = [at for at in world.one_venue.denials if at - begun >= world.one_venue.absence_seconds * 1e9]
    assert len(denied) >= 2
