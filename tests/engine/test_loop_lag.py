"""An engine whose event loop stands still begins no new trade until it keeps time again; what is open goes on."""

from __future__ import annotations

import asyncio
import time

from tests.engine.worlds import VirtualClock, World
from trading.clock import SystemClock
from trading.execution.lag import MAX_LAG_SECONDS, STEADY_TICKS, TICK_SECONDS, LoopLag
from trading.messages import TradeState

STEADY_SECONDS = (STEADY_TICKS + 1) * TICK_SECONDS


def stand_still(world: World, seconds: float) -> None:
    world.clock._now += int(seconds * 1e9)


async def test_fault_61_a_loop_that_stood_still_begins_no_trade_until_it_keeps_time() -> None:
    world = World(faulty=True)
    await world.start()
    await world.clock.advance(STEADY_SECONDS)
    stand_still(world, 3.0)
    await world.edge()  # comes before the loop's own tick does
    assert not world.store.trades
    (shown,) = world.pages.of("opportunity")
    assert shown["check"] == "loop_lag"
    assert "stood still for" in str(shown["reason"])
    await world.no_edge()
    await world.clock.advance(TICK_SECONDS)
    (status,) = world.engine.status().bots
    assert status.observed == "blocked"
    assert "kept time" in status.reason
    await world.clock.advance(STEADY_SECONDS)
    (status,) = world.engine.status().bots
    assert status.observed == "running"
    record = await world.trade()
    assert record.state is TradeState.CLOSED
    await world.stop()


async def test_what_is_open_is_repaired_while_the_loop_is_late() -> None:
    world = World(faulty=True)
    place = world.other_venue.place
    sent: list[bool] = []

    async def place_once_late(intent):
        stand_still(world, 1.0)  # within the time a decision may wait
        sent.append(bool(world.engine.lag.fault()))
        return await place(intent)

    world.one_venue.script.append("none")
    world.other_venue.place = place_once_late  # type: ignore[method-assign]
    await world.start()
    await world.clock.advance(STEADY_SECONDS)
    await world.edge()
    await world.clock.run_until(lambda: world.store.trades and not world.engine.status().open_trades)
    (record,) = world.store.trades.values()
    assert record.residual_base == 0
    assert True in sent
    await world.stop()


async def test_a_little_late_is_not_late() -> None:
    clock, changes = VirtualClock(), []
    lag = LoopLag(clock, lambda: changes.append(lag.fault()))
    task = asyncio.create_task(lag.run())
    await clock.settle()
    clock._now += int((TICK_SECONDS + MAX_LAG_SECONDS) * 1e9)
    assert lag.fault() == ""
    clock._now += 1
    assert lag.fault()
    await clock.advance(0)
    assert len(changes) == 1
    await clock.advance(STEADY_SECONDS)
    assert (lag.fault(), len(changes), lag.late_ticks) == ("", 2, 1)
    task.cancel()


async def test_a_loop_that_is_really_blocked_is_noticed_at_once_and_recovers() -> None:
    lag = LoopLag(SystemClock(), lambda: None)
    task = asyncio.create_task(lag.run())
    await asyncio.sleep(0)
    time.sleep(TICK_SECONDS + MAX_LAG_SECONDS + 0.1)  # noqa: ASYNC251 (this is the blocking that is looked at)
    assert "stood still" in lag.fault()
    async with asyncio.timeout(60):
        while lag.fault():  # noqa: ASYNC110 (there is no event: the fault ends with time)
            await asyncio.sleep(0.05)
    assert lag.late_ticks >= 1
    task.cancel()
