"""The trading switch in a running engine: reduce only opens nothing and repairs; killed sends nothing at all."""

from __future__ import annotations

from decimal import Decimal

import msgspec

from risk.policy.switch import NORMAL, SwitchState, TradingState
from tests.engine.worlds import World
from trading.config import RiskPicture
from trading.messages import TradeState

D = Decimal
REDUCE = SwitchState(state=TradingState.REDUCE_ONLY, source="everybody", reason="Maintenance.")
KILL = SwitchState(state=TradingState.KILL, source="bot first", reason="Fire.")


def turn(world: World, switch: SwitchState) -> None:
    """Turn it as an operator does: in the store, and with the configuration that is read soon after."""
    world.store.switch = switch
    risk = RiskPicture(switches={None: NORMAL, 1: switch})
    world.engine.update(msgspec.structs.replace(world.engine.config, risk=risk))


async def test_reduce_only_opens_nothing_and_a_turn_back_trades_again() -> None:
    world = World(faulty=True)
    await world.start()
    turn(world, REDUCE)
    await world.edge()
    decision = await world.decided()
    assert decision.check == "switch"
    assert decision.verdict.reason == "Trading is switched to reduce only for everybody: Maintenance."
    turn(world, NORMAL)
    await world.no_edge()
    assert (await world.trade()).state is TradeState.CLOSED
    await world.stop()


async def test_reduce_only_lets_a_trade_be_completed() -> None:
    world = World(faulty=True)
    await world.start()
    world.other_venue.script = ["none"]
    await world.edge()
    turn(world, REDUCE)
    await world.clock.run_until(lambda: not world.engine.status().open_trades)
    (record,) = world.store.trades.values()
    assert (record.state, record.residual_base) == (TradeState.CLOSED, 0)
    await world.stop()


async def test_killed_sends_not_even_repairs_and_gives_the_ladder_its_time_back() -> None:
    world = World(faulty=True)
    await world.start()
    world.other_venue.script = ["none"]
    await world.edge()
    turn(world, KILL)
    sent = len(world.one_venue.sent) + len(world.other_venue.sent)
    await world.clock.advance(300)  # far more than the ladder has
    assert len(world.one_venue.sent) + len(world.other_venue.sent) == sent
    (record,) = world.store.trades.values()
    assert record.state is TradeState.REPAIRING
    assert record.reason == "Trading is switched to killed for bot first: Fire"
    assert record.repair_ms < 1000
    assert record.exposure > 300 * 1000  # what is unhedged meanwhile is counted
    turn(world, NORMAL)
    await world.clock.run_until(lambda: not world.engine.status().open_trades)
    (record,) = world.store.trades.values()
    assert (record.state, record.residual_base, record.reason) == (TradeState.CLOSED, 0, "")
    await world.stop()


async def test_a_switch_the_engine_has_not_heard_of_stops_it_at_the_store() -> None:
    world = World(faulty=True)
    await world.start()
    world.store.switch = KILL
    await world.edge()
    assert (await world.decided()).check == "switch"
    assert world.one_venue.sent == world.other_venue.sent == []
    assert world.engine.desk.portfolio.reservations == {}
    world.store.switch = NORMAL
    await world.clock.advance(5)
    await world.no_edge()
    assert (await world.trade()).state is TradeState.CLOSED
    await world.stop()
