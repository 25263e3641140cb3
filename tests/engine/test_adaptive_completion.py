"""A missing leg worked as a limit order in the spread before the ladder completes it at the market's price."""

from __future__ import annotations

from decimal import Decimal

import msgspec
import pytest

from risk.policy.score import ScoreScales
from risk.policy.switch import SwitchState, TradingState
from tests.engine.test_rating import LOOSE
from tests.engine.test_recovery import die, mortal_world, take_over
from tests.engine.worlds import World
from trading.config import RatingRules, RiskPicture
from trading.execution.pricing import WorkingStyle, adapted, limit_price_in_spread
from trading.marketdata.climate import NS
from trading.messages import OrderIntent, PublicTrade, TimeInForce
from trading.messages import OrderState as S
from trading.messages import TradeState as T

D = Decimal
GTC, IOC = TimeInForce.GTC, TimeInForce.IOC


def adaptive(**bot: object) -> World:
    """A world where the sale on beta is refused at first: its leg is missing."""
    world = World(faulty=True, adaptive_completion=True, **bot)  # type: ignore[arg-type]
    world.other_venue.script = ["reject"]
    return world


def completing(world: World) -> list[OrderIntent]:
    return [intent for intent in world.store.intents.values() if intent.attempt]


async def rests(world: World) -> OrderIntent:
    """Let the trade begin, until its missing leg rests on beta, where 50500 is bid and 50510 is asked."""
    await world.start()
    await world.edge()
    await world.clock.run_until(
        lambda: [one for one in completing(world) if world.store.states[one.client_order_id] is S.PLACED]
    )
    (intent,) = completing(world)
    return intent


def trade(world: World, price: float, size: float = 10.0) -> None:
    """Let a buyer print on beta."""
    world.feeds["beta"].sink.on_trade(PublicTrade(world.beta.key, price, size, "buy", 0, 0))


async def end(world: World, seconds: float = 600.0) -> None:
    await world.clock.run_until(lambda: not world.engine.status().open_trades, seconds)


async def test_the_missing_leg_fills_in_the_spread_without_a_question() -> None:
    world = adaptive()
    intent = await rests(world)
    # 50510 less 85 % of 10 is 50501.50
    assert (intent.market, intent.side, intent.price, intent.time_in_force) == (
        "beta:BTC/USDT", "sell", D("50501.50"), GTC,
    )  # fmt: skip
    trade(world, 50505.0)
    await end(world)
    (record,) = world.store.trades.values()
    assert record.state is T.CLOSED
    assert [intent.time_in_force for intent in completing(world)] == [GTC]
    assert world.engine.status().counters["status_questions"] == 0
    sold = [fill for fill in world.store.fills.values() if fill.side == "sell"]
    assert {(fill.price, fill.liquidity) for fill in sold} == {(D("50501.50"), "maker")}
    world.check_result(record)
    world.check_money()
    world.check_nothing_held()
    await world.stop()


async def test_what_does_not_fill_in_time_is_the_ladders() -> None:
    world = adaptive()
    intent = await rests(world)
    began = world.clock.monotonic_ns()
    await end(world)
    (record,) = world.store.trades.values()
    assert record.state is T.CLOSED
    assert [one.time_in_force for one in completing(world)] == [GTC, IOC]
    assert world.store.states[intent.client_order_id] is S.CANCELLED
    assert 2.8 < (world.clock.monotonic_ns() - began) / 1e9 < 4  # the completion time is 3 s
    world.check_result(record)
    world.check_money()
    world.check_nothing_held()
    await world.stop()


async def test_a_part_that_filled_is_not_sent_again() -> None:
    world = adaptive()
    intent = await rests(world)
    trade(world, 50505.0, 0.05)
    await end(world)
    (record,) = world.store.trades.values()
    assert record.state is T.CLOSED
    assert record.residual_base == 0
    assert [one.quantity for one in completing(world)] == [intent.quantity, intent.quantity - D("0.05")]
    world.check_result(record)
    world.check_money()
    await world.stop()


async def test_its_cap_is_the_ladders_and_widens_with_it() -> None:
    world = adaptive()
    await world.start()
    await world.edge()
    world.show(world.alpha, "49000", "50000")
    world.show(world.beta, "49900", "49910")  # far below the sale's limit of some 50489
    await world.clock.run_until(lambda: completing(world))
    (first,) = completing(world)
    assert first.time_in_force is GTC
    assert first.price > D("50480")
    await world.clock.advance(1.5)
    prices = [one.price for one in completing(world)]
    assert len(prices) > 1
    assert prices == sorted(prices, reverse=True)
    assert min(prices) >= D("50000") * (1 - D("0.003"))
    await end(world)
    world.check_money()
    await world.stop()


async def test_by_default_the_ladder_completes_at_once() -> None:
    world = World(faulty=True)
    world.other_venue.script = ["reject"]
    await world.start()
    record = await world.trade()
    assert record.state is T.CLOSED
    assert [intent.time_in_force for intent in completing(world)] == [IOC]
    await world.stop()


async def test_a_leg_that_was_only_held_back_goes_at_once() -> None:
    world = World(faulty=True, adaptive_completion=True, leg_policy="uncertain_first")
    await world.start()
    record = await world.trade()
    assert record.state is T.CLOSED
    assert {intent.time_in_force for intent in world.store.intents.values()} == {IOC}
    await world.stop()


async def test_its_time_is_the_styles_if_that_is_shorter() -> None:
    world = adaptive(working=WorkingStyle(sell_seconds=1.0))
    await rests(world)
    began = world.clock.monotonic_ns()
    await end(world)
    # A second, and until the book that has not changed since is believed to show nothing of ours.
    assert (world.clock.monotonic_ns() - began) / 1e9 < 2.5
    assert [one.time_in_force for one in completing(world)] == [GTC, IOC]
    await world.stop()


async def test_a_switch_that_is_killed_takes_it_off_the_book() -> None:
    world = adaptive()
    await rests(world)
    world.engine.desk.switch_of = lambda bot_id: SwitchState(state=TradingState.KILL, reason="enough")
    await world.clock.advance(1.5)
    assert not await world.other_venue.open_orders()
    assert [one.time_in_force for one in completing(world)] == [GTC]
    await world.stop()


async def test_an_engine_that_stops_leaves_nothing_resting() -> None:
    world = adaptive()
    await rests(world)
    await world.stop()
    assert not await world.other_venue.open_orders()


@pytest.mark.parametrize("filled", [0.0, 0.05, 10.0])
async def test_what_rested_when_its_process_died_is_cancelled_and_counted(filled: float) -> None:
    world = mortal_world(adaptive_completion=True)
    world.other_venue.script = ["reject"]
    intent = await rests(world)
    await die(world)
    if filled:
        trade(world, 50505.0, filled)
    await take_over(world, 4)
    await end(world)
    (record,) = world.store.trades.values()
    assert record.state is T.CLOSED
    assert record.residual_base == 0
    assert world.store.states[intent.client_order_id] is (S.FILLED if filled > 1 else S.CANCELLED)
    assert not await world.other_venue.open_orders()
    world.check_result(record)
    world.check_money()
    await world.stop()


async def test_a_resting_order_is_asked_about_once_its_stream_is_down() -> None:
    world = adaptive(
        completion_seconds=60.0, unwind_seconds=120.0, working=WorkingStyle(sell_seconds=60.0, max_reprices=0)
    )
    await rests(world)
    await world.clock.advance(8)
    assert world.engine.status().counters["status_questions"] == 0
    world.other_venue.lose_stream()
    await world.clock.advance(15)
    asked = world.engine.status().counters["status_questions"]
    assert asked >= 1
    world.other_venue.regain_stream()
    await world.clock.advance(1)
    after = world.engine.status().counters["status_questions"]
    assert after == asked + 1  # what may have been missed
    await world.clock.advance(10)
    trade(world, 50505.0)
    await end(world)
    assert world.engine.status().counters["status_questions"] == after
    (record,) = world.store.trades.values()
    assert record.state is T.CLOSED
    world.check_money()
    await world.stop()


THIN = ScoreScales(depth_full=1e5, volume_full=1e6)
AMPLE = ScoreScales(depth_full=0.01, volume_full=0.01, prior_wins=1000.0, volatility_unknown=1.0, spread_unknown=1.0)


def rated(world: World, scales: ScoreScales) -> World:
    """Let the world's opportunities be rated by these scales, and all markets be traded in."""
    rules = RatingRules(slippage=LOOSE, scales=scales)
    world.config = msgspec.structs.replace(world.config, risk=RiskPicture(rating=rules))
    world.engine = world.make_engine()
    starting = world.start

    async def start() -> None:
        await starting()
        for key in (world.alpha.key, world.beta.key):
            state = world.hub.state(key)
            assert state is not None
            for second in range(-200, 0):
                state.climate.on_trade(50_000.0, 10.0, second * NS)

    world.start = start  # type: ignore[method-assign]
    return world


def how_worked(world: World, intent: OrderIntent) -> str:
    """What the history says of an order's placement."""
    return next((one.cause for one in world.store.events.get(intent.client_order_id, ()) if one.cause), "")


def style_of(world: World) -> WorkingStyle:
    """The style that the stored score and liquidity of the only trade ask for."""
    (record,) = world.store.trades.values()
    assert record.score is not None
    assert record.liquidity is not None
    return adapted(WorkingStyle(), confidence=record.score, liquidity=record.liquidity).style


@pytest.mark.parametrize(("scales", "eager"), [(THIN, False), (AMPLE, True)], ids=["thin", "ample"])
async def test_how_it_is_worked_follows_the_opportunitys_score_and_liquidity(scales: ScoreScales, eager: bool) -> None:
    world = rated(adaptive(completion_seconds=60.0, unwind_seconds=120.0), scales)
    intent = await rests(world)
    style = style_of(world)
    assert (style.sell_share > 0.85) is eager
    assert (style.sell_seconds < 10) is eager
    price = limit_price_in_spread(world.beta, D(50_500), D(50_510), "sell", style.share("sell"), cap=D(1))
    assert intent.price == price != D("50501.50")
    told = f"gives up {style.sell_share:.0%} of the spread, for at most {style.sell_seconds:.1f} s (score 0."
    assert told in how_worked(world, intent)
    await world.stop()


async def test_in_a_thin_market_a_part_is_worked_after_the_other_and_all_of_it_ends_in_the_spread() -> None:
    world = rated(adaptive(), THIN)
    first = await rests(world)
    (record,) = world.store.trades.values()
    assert record.quantity / 4 <= first.quantity < record.quantity / 3
    while world.engine.status().open_trades:
        trade(world, 50_510.0)
        await world.clock.advance(0.1)
        world.show(world.beta, "50500", "50510")  # which shows nothing of ours: the next part may go
    (record,) = world.store.trades.values()
    assert (record.state, record.residual_base) == (T.CLOSED, 0)
    assert len(completing(world)) > 2
    assert {one.time_in_force for one in completing(world)} == {GTC}
    world.check_result(record)
    world.check_money()
    world.check_nothing_held()
    await world.stop()


async def test_a_part_that_did_not_fill_leaves_the_rest_to_the_ladder() -> None:
    world = rated(adaptive(), THIN)
    first = await rests(world)
    await end(world)
    (record,) = world.store.trades.values()
    assert record.state is T.CLOSED
    assert [(one.time_in_force, one.quantity) for one in completing(world)] == [
        (GTC, first.quantity), (IOC, record.quantity),
    ]  # fmt: skip
    world.check_money()
    await world.stop()


async def test_the_next_process_works_it_as_the_last_one_did() -> None:
    world = mortal_world(adaptive_completion=True, completion_seconds=60.0, unwind_seconds=120.0)
    world.other_venue.script = ["reject"]
    rated(world, THIN)
    first = await rests(world)
    await die(world)
    await take_over(world, 4)
    await world.clock.run_until(lambda: [how_worked(world, one) for one in completing(world)][1:] > [""])
    again = completing(world)[1]
    assert (again.time_in_force, again.quantity) == (GTC, first.quantity)
    assert how_worked(world, again) == how_worked(world, first)
    await world.stop()
