"""Repairs: what is sent is an order its market takes."""

from __future__ import annotations

from decimal import Decimal

from tests.engine.worlds import World
from trading.execution.planner import terms_of
from trading.execution.purses import purses_of
from trading.execution.repair import Leg, candidates
from trading.execution.result import Tally

D = Decimal


async def test_a_repair_is_large_enough_at_its_own_price() -> None:
    # Sold 0.0001 at 50000: worth 5 at the entry and more at the cap, but less at the price that is asked now.
    world = World(faulty=True)
    await world.start()
    world.show(world.alpha, "49960", "49970")
    world.show(world.beta, "49960", "49970")
    await world.clock.settle()
    purses = purses_of(world.bot, world.config)
    assert not isinstance(purses, str)
    terms = terms_of(world.bot, purses.by_exchange, paper=False)
    tally = Tally(sold=D("0.0001"), received=D("5"))
    legs = [
        Leg(leg=0, market=world.alpha.key, side="buy", limit=D("50000")),
        Leg(leg=1, market=world.beta.key, side="sell", limit=D("50000")),
    ]
    for seconds in (0.0, 2.9, 3.0, 29.0):
        for order in candidates(world.engine.desk, terms, tally, D(0), legs, seconds):
            assert order.quantity * order.price >= order.market.min_notional
    await world.stop()
