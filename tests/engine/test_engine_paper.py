"""The engine on paper venues: from a changed book to a closed trade."""

from __future__ import annotations

from decimal import Decimal

from tests.engine.worlds import World
from trading.messages import OrderState, TradeState

D = Decimal


async def test_edge_becomes_a_closed_trade() -> None:
    world = World()
    await world.start()
    await world.edge()
    await world.clock.run_until(lambda: not world.engine.status().open_trades)
    (trade,) = world.store.trades.values()
    assert trade.state is TradeState.CLOSED
    assert trade.mode == "paper"
    assert trade.residual_base == 0
    assert set(world.store.states.values()) == {OrderState.FILLED}
    await world.stop()
