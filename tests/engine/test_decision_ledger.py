"""What an engine tells of its decisions: every one counted once, refusals with what they would have earned later."""

from __future__ import annotations

import asyncio
from collections import Counter

import pytest

from tests.engine.worlds import OWNER, D, World
from trading.execution.hindsight import LATER_SECONDS, MAX_WAITING
from trading.execution.notices import COUNT_SECONDS
from trading.messages import AT_DEPTH, COMPARED, PAID, DecisionKey
from trading.ports import LeaseLost, StoreUnavailable


def key(check: str, bot_id: int = 1) -> DecisionKey:
    return DecisionKey(bot_id, "BTC", "USDT", check)


async def refusing_world(**bot: object) -> World:
    """A world whose bot refuses every edge as too good to be true."""
    world = World(max_edge_bps=50.0, **bot)
    await world.start()
    return world


async def test_everything_judged_is_counted_and_adds_up_to_what_the_detector_found() -> None:
    world = await refusing_world()
    for _ in range(7):
        await world.edge()
        await world.no_edge()
    await world.clock.advance(COUNT_SECONDS)
    counts = world.store.counts
    found = world.engine.detector.opportunities
    assert counts[key("max_edge")] == counts[key(PAID)] == found >= 7
    assert counts[key(COMPARED)] == world.engine.detector.evaluated
    assert len([one for one in world.store.decisions if one.check == "max_edge"]) < found  # of which a few are recorded
    await world.stop()


async def test_counts_are_told_as_differences_and_the_rest_at_the_end() -> None:
    world = await refusing_world()
    told: list[Counter[DecisionKey]] = []
    record = world.store.record_counts
    world.store.record_counts = lambda counts: (told.append(Counter(counts)), record(counts))  # type: ignore[assignment,func-returns-value]
    for _ in range(3):
        await world.edge()
        await world.no_edge()
        await world.clock.advance(COUNT_SECONDS)
    await world.edge()
    before = world.store.counts[key("max_edge")]
    await world.stop()
    assert world.store.counts[key("max_edge")] == world.engine.detector.opportunities > before
    assert sum(told, Counter()) == world.store.counts
    assert len(told) >= 4


async def test_a_trade_counts_as_one_and_what_its_route_meets_meanwhile_as_busy_or_resting() -> None:
    world = World(faulty=True, cooldown_ms=60_000.0)
    world.one_venue.script = ["silent"]
    await world.start()
    await world.edge()
    world.show(world.beta, "50501", "50511")
    await world.clock.settle()
    world.one_venue.speak()
    await world.clock.run_until(lambda: not world.engine.status().open_trades)
    world.show(world.beta, "50502", "50512")
    await world.clock.settle()
    await world.stop()
    counts = world.store.counts
    assert (counts[key("")], counts[key("route_busy")], counts[key("cooldown")]) == (1, 1, 1)
    judged = sum(count for at, count in counts.items() if at.check not in {COMPARED, PAID})
    assert judged == world.engine.detector.opportunities == counts[key(PAID)]


@pytest.mark.parametrize(("error", "check"), [(StoreUnavailable("away"), "store"), (LeaseLost("gone"), "lease")])
async def test_what_passed_every_check_and_could_not_be_made_durable_is_counted(error: Exception, check: str) -> None:
    world = World()
    await world.start()

    async def refuse(*_: object) -> None:
        raise error

    world.store.commit_trade = refuse  # type: ignore[method-assign]
    await world.edge()
    await world.stop()
    assert world.store.counts[key(check)] >= 1
    assert key("") not in world.store.counts


async def test_a_refusal_is_recorded_a_second_late_with_what_it_would_have_earned_by_then() -> None:
    world = await refusing_world()
    await world.edge()
    assert world.store.decisions == []
    assert world.pages.of("opportunity")[0]["check"] == "max_edge"  # pages hear of it at once
    world.show(world.beta, "50400", "50510")
    await world.clock.advance(LATER_SECONDS)
    first = world.store.decisions[0]
    found = first.opportunity
    # Bought at 50,000 and sold at 50,400 by then, each with a fee of a thousandth.
    assert first.later_profit == pytest.approx(found.quantity * (50_400 * 0.999 - 50_000 * 1.001))
    assert found.net_profit == pytest.approx(found.quantity * (50_500 * 0.999 - 50_000 * 1.001))
    assert first.wanted_bps == world.bot.min_net_edge_bps
    await world.stop()


async def test_what_is_no_longer_to_be_had_earns_nothing_that_could_be_named() -> None:
    world = await refusing_world()
    await world.edge()
    world.feeds["beta"].sink.on_status(world.beta.key, "stale", "silent")
    await world.clock.advance(LATER_SECONDS)
    assert [one.later_profit for one in world.store.decisions] == [None] * len(world.store.decisions) != []
    await world.stop()


async def test_a_book_that_no_longer_holds_the_size_gives_no_profit() -> None:
    world = await refusing_world()
    await world.edge()
    feed = world.feeds["beta"]
    book = feed.books[world.beta.key]
    book.bids.replace([(50_500.0, 0.0001)])
    await world.clock.advance(LATER_SECONDS)
    assert world.store.decisions[0].later_profit is None
    await world.stop()


async def test_a_trade_learns_later_what_it_would_have_earned_a_second_after() -> None:
    world = World()
    await world.start()
    record = await world.trade()
    await world.clock.advance(LATER_SECONDS)
    (taken,) = [one for one in world.store.decisions if one.trade_id == record.trade_id]
    assert taken.later_profit == pytest.approx(taken.opportunity.net_profit)  # paper fills leave the books alone
    await world.stop()


async def test_what_waits_when_the_engine_ends_is_recorded_without() -> None:
    world = await refusing_world()
    await world.edge()
    assert world.store.decisions == []
    await world.stop()
    assert {one.check for one in world.store.decisions} == {"max_edge"}
    assert {one.later_profit for one in world.store.decisions} == {None}


async def test_no_more_wait_than_there_is_room_for_and_the_others_are_recorded_at_once() -> None:
    world = await refusing_world()
    await world.edge()
    hindsight = world.engine.notices._hindsight
    (waiting, *_) = [decision for _, decision in hindsight._waiting]
    for _ in range(2 * MAX_WAITING):
        hindsight.add(waiting)
    assert len(hindsight._waiting) == MAX_WAITING
    assert len(world.store.decisions) > MAX_WAITING
    await world.clock.advance(LATER_SECONDS)
    assert not hindsight._waiting
    await world.stop()


async def test_a_halted_engine_still_tells_what_it_counted() -> None:
    world = await refusing_world()
    await world.edge()
    world.engine.halt("taken over")
    await asyncio.wait_for(world.task, 10)  # type: ignore[arg-type]
    assert world.store.counts[key("max_edge")] >= 1
    await world.hub.close()


async def test_depth_that_does_not_hold_what_the_top_promised_is_counted_for_its_bot() -> None:
    world = World(terms={"min_notional": D(10**9)})
    await world.start()
    await world.edge()
    await world.stop()
    counts = world.store.counts
    assert counts[key(AT_DEPTH + "below_min_notional")] == counts[key(PAID)] > 0
    assert (OWNER, "opportunity") not in {(owner, kind) for owner, kind, _ in world.pages.latest}
