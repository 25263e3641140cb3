"""Limits of exposure: what may be unhedged counts in full, and until somebody has looked."""

from __future__ import annotations

from decimal import Decimal

import msgspec

from risk.policy.threshold import Day
from tests.engine.worlds import MONEY, FaultyVenue, World, spot
from trading.execution.exposures import exposures
from trading.messages import TradeState, WorstCase

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


async def test_what_an_earlier_process_left_exposed_counts_until_somebody_has_looked() -> None:
    for name, check in (
        ("max_exposure_asset", "asset_exposure"),
        ("max_exposure_exchange", "exchange_exposure"),
        ("max_exposure_account", "account_exposure"),
        ("max_exposure_global", "total_exposure"),
    ):
        world = World(faulty=True, **{name: D(15_000)})
        left = WorstCase(
            trade_id="of-before", base="BTC", quote="USDT", notional=D(9_900), exchanges=("alpha",), accounts=(11,),
            paper=False,
        )  # fmt: skip
        before = world.config
        world.config = msgspec.structs.replace(before, left_exposed=(left,))
        world.engine = world.make_engine()
        await world.start()
        await world.edge()
        said = await world.decided()
        assert said.check == check, said.verdict.reason
        world.engine.update(before)
        await world.no_edge()
        assert (await world.trade()).state is TradeState.CLOSED
        await world.stop()


async def test_a_bot_that_is_started_again_has_its_exposed_trade_looked_at() -> None:
    world = two_bots(max_exposure_global=D(15_000))
    await world.start()
    await stuck(world)
    assert (await refusal(world))[0] == "total_exposure"
    first, second = world.config.bots
    world.engine.update(msgspec.structs.replace(world.config, bots=(second,)))
    assert (await refusal(world))[0] == "total_exposure"  # who stops it has not hedged it yet
    world.engine.update(msgspec.structs.replace(world.config, bots=(first, second)))
    assert not world.engine.trades.unhedged()
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


async def both_at_once(**limits: object) -> World:
    """Let two bots see an edge each, of another pair, before the store has made the first one's trade durable."""
    world = World(faulty=True, **limits)
    ether = [spot(exchange, "ETH/USDT") for exchange in ("alpha", "beta")]
    world.venues = {
        account_id: FaultyVenue(
            account_id, one.exchange, [one, other], {**MONEY, "ETH": D(1000)}, book_of=world.live_book,
            clock=world.clock, watch=world._watch,
        )
        for account_id, one, other in ((11, world.alpha, ether[0]), (12, world.beta, ether[1]))
    }  # fmt: skip
    second = msgspec.structs.replace(world.bot, bot_id=2, name="second", markets=tuple(ether))
    world.config = msgspec.structs.replace(world.config, bots=(world.bot, second))
    world.engine = world.make_engine()
    await world.start()
    for cheap, dear, price in ((world.alpha, world.beta, 50_000), (*ether, 2_500)):
        world.show(cheap, f"{price - 1}", f"{price}", "50")
        world.show(dear, f"{price * 1.01}", f"{price * 1.01 + 1}", "50")
    await world.clock.settle()
    await world.clock.run_until(lambda: world.store.trades and not world.engine.status().open_trades)
    return world


def refused_of_second(world: World) -> tuple[str, str]:
    one = next(one for one in world.store.decisions if one.opportunity.bot_id == 2)
    return one.check, one.verdict.reason


async def test_of_two_pairs_at_once_both_are_traded() -> None:
    world = await both_at_once()
    assert {record.bot_id for record in world.store.trades.values()} == {1, 2}
    await world.stop()


async def test_a_trade_that_is_not_durable_yet_counts_against_the_owners_next_one() -> None:
    for name, check in (
        ("max_exposure_exchange", "exchange_exposure"),
        ("max_exposure_account", "account_exposure"),
        ("max_exposure_global", "total_exposure"),
    ):
        world = await both_at_once(**{name: D(15_000)})
        await world.decided()
        said, reason = refused_of_second(world)
        assert said == check, reason
        await world.stop()


async def test_orders_that_have_not_left_yet_count_against_the_owners_next_trade() -> None:
    world = await both_at_once(max_orders_per_minute=3)
    await world.decided()
    check, reason = refused_of_second(world)
    assert check == "order_rate", reason
    assert reason.startswith("It would be 4 orders within a minute; at most 3 are allowed")
    await world.stop()


async def test_an_owners_last_slot_for_an_open_trade_is_taken_once() -> None:
    world = await both_at_once(max_open_trades=5, max_open_trades_together=1)
    await world.decided()
    check, reason = refused_of_second(world)
    assert (check, reason) == ("open_trades", "1 trades of the owner's bots are open; at most 1 are allowed.")
    await world.stop()


async def test_an_owners_daily_loss_stops_the_bot_that_lost_nothing() -> None:
    world = World(faulty=True, max_daily_loss=D(1_000), max_daily_loss_together=D(1_000))
    number = world.clock.time_ns() // (86_400 * 10**9)
    today = {"simulated": {"USDT": Day(number=number, realised=D(-1_000))}}
    world.config = msgspec.structs.replace(world.config, today=today)
    world.engine = world.make_engine(token=4)
    await world.start()
    await world.edge()
    said = await world.decided()
    assert said.check == "daily_loss"
    assert said.verdict.reason.startswith("Today's loss of the owner's bots is 1000 USDT")
    await world.clock.advance(86_400)
    await world.no_edge()
    assert (await world.trade()).state is TradeState.CLOSED
    await world.stop()
