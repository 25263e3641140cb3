"""Limits of exposure: what may be unhedged counts in full, and until somebody has looked."""

from __future__ import annotations

from decimal import Decimal

import msgspec

from tests.engine.worlds import World
from trading.execution.exposures import exposures
from trading.messages import TradeState

D = Decimal


def two_bots(**second: object) -> World:
    """A bot whose trades get stuck, and one of the same accounts that has limits and trades another pair's route."""
    world = World(faulty=True, completion_seconds=1.0, unwind_seconds=2.0, unwind_tolerance_bps=0.0,
                  repair_tolerance_bps=0.0)  # fmt: skip
    other = msgspec.structs.replace(world.bot, bot_id=2, name="second", **second)
    world.config = msgspec.structs.replace(world.config, bots=(world.bot, other))
    world.engine = world.make_engine()
    return world


async def stuck(world: World) -> Decimal:
    """Leave the first bot's trade with a leg that filled and one that did not; return what is unhedged, in USDT."""
    second = world.engine.roster.get(2)
    assert second is not None
    second.faults["test"] = "it waits"
    world.engine.roster.observe_all()
    world.other_venue.script = ["none"]
    await world.edge()
    await world.no_edge()
    await world.clock.run_until(lambda: not world.engine.status().open_trades)
    (record,) = world.store.trades.values()
    assert record.state is TradeState.EXPOSED
    del second.faults["test"]
    world.engine.roster.observe_all()
    await world.clock.advance(10)
    return record.residual_base * D(50_000)


async def refusal(world: World) -> tuple[str, str]:
    await world.no_edge()
    await world.edge()
    await world.decided()
    decision = [one for one in world.store.decisions if one.opportunity.bot_id == 2][-1]
    return decision.check, decision.verdict.reason


async def test_a_residual_counts_against_every_limit_of_exposure() -> None:
    for name, check in (
        ("max_exposure_asset", "asset_exposure"),
        ("max_exposure_exchange", "exchange_exposure"),
        ("max_exposure_account", "account_exposure"),
        ("max_exposure_global", "total_exposure"),
    ):
        world = two_bots(**{name: D(15_000)})
        await world.start()
        held = await stuck(world)
        assert 9_000 < held < 10_000  # so that another trade of 10 000 is too much, and the first was not
        said, reason = await refusal(world)
        assert said == check, reason
        assert "15000 USDT" in reason
        await world.stop()


async def test_without_anything_held_the_same_limits_let_the_trade_pass() -> None:
    world = World(faulty=True, max_exposure_global=D(15_000), max_exposure_asset=D(15_000))
    await world.start()
    assert (await world.trade()).state is TradeState.CLOSED
    await world.stop()


async def test_an_order_of_unknown_outcome_counts_in_full_until_it_is_known() -> None:
    world = World(faulty=True)
    await world.start()
    world.one_venue.script = ["lose_answer"]
    world.other_venue.script = ["lose_request"]
    await world.edge()
    (record,) = world.store.trades.values()
    found = exposures(world.engine.desk, world.engine.trades.unhedged(), "USDT", paper=False)
    assert found.total >= record.quantity * D(50_000)
    assert found.by_asset == {"BTC": found.total}
    assert found.by_exchange == {"alpha": found.total, "beta": found.total}
    assert found.by_account == {"11": found.total, "12": found.total}
    await world.clock.run_until(lambda: not world.engine.status().open_trades)
    assert exposures(world.engine.desk, world.engine.trades.unhedged(), "USDT", paper=False).total == 0
    await world.stop()


async def test_orders_of_the_last_minute_are_counted_over_the_owner() -> None:
    world = World(faulty=True, max_orders_per_minute=3)
    await world.start()
    await world.trade()
    await world.clock.advance(5)
    await world.no_edge()
    await world.edge()
    assert (await world.decided()).check == "order_rate"
    await world.clock.advance(60)
    await world.no_edge()
    await world.edge()
    assert len(world.store.trades) == 2
    await world.stop()
