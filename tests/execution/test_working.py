"""A quantity worked into a market as a limit order in the spread, and what it does when things go otherwise."""

from __future__ import annotations

import asyncio
from decimal import Decimal

import pytest

from tests.execution.limit_world import PURSE, LimitWorld
from trading.execution.working import Step
from trading.messages import OrderState as S

D = Decimal


async def resting(**options: object) -> LimitWorld:
    """A world whose first limit order rests: a sale of 1 at 15.24 between 15.23 and 15.32, but for ``options``."""
    world = LimitWorld(**options)  # type: ignore[arg-type]
    world.show("15.23", "15.32")
    world.keep_fresh()
    world.begin()
    await world.clock.run_until(world.exchange.resting)
    return world


async def test_it_rests_in_the_spread_and_fills_without_a_question() -> None:
    world = await resting()
    await world.clock.advance(8)
    assert world.prices == [("15.24", "GTC")]
    world.exchange.fill()
    worked = await world.end()
    assert (worked.filled, worked.average, worked.reason) == (D(1), D("15.24"), "")
    assert (worked.attempts, worked.reprices, worked.fallback_quantity) == (1, 0, D(0))
    assert (worked.questions, world.exchange.questions) == (0, [])
    assert worked.reference_price == D("15.23")
    assert worked.improvement == D("0.01")
    assert 8 <= worked.seconds < 9
    world.check(worked)


async def test_a_purchase_improves_on_what_it_would_have_taken_from_the_book() -> None:
    world = LimitWorld("buy", "6")
    world.show_levels([(15.23, 5.0)], [(15.32, 2.0), (15.40, 10.0)])
    world.begin()
    await world.clock.run_until(world.exchange.resting)
    world.exchange.fill()
    worked = await world.end()
    assert world.prices == [("15.30", "GTC")]
    # 2 at 15.32 and 4 at 15.40, against 6 at 15.30
    assert worked.reference_price is not None
    assert float(worked.reference_price) == pytest.approx((2 * 15.32 + 4 * 15.40) / 6)
    assert worked.improvement is not None
    assert float(worked.improvement) == pytest.approx(2 * 15.32 + 4 * 15.40 - 6 * 15.30)
    world.check(worked)


async def test_a_book_that_holds_less_gives_no_reference() -> None:
    world = LimitWorld("buy", "60")
    world.show_levels([(15.23, 5.0)], [(15.32, 2.0)])
    world.begin()
    await world.clock.run_until(world.exchange.resting)
    world.exchange.fill()
    worked = await world.end()
    assert (worked.reference_price, worked.improvement) == (None, None)
    world.check(worked)


async def test_what_is_left_at_its_timeout_goes_to_the_market() -> None:
    world = await resting()
    await world.clock.advance(3)
    world.exchange.fill(D("0.4"))
    worked = await world.end()
    # 15.23 less 10 bps is 15.21477, on the tick and not below
    assert world.prices == [("15.24", "GTC"), ("15.22", "IOC")]
    assert world.exchange.placed[1].quantity == D("0.6")
    assert (worked.filled, worked.fallback_quantity, worked.attempts) == (D(1), D("0.6"), 2)
    assert [step for step, _ in world.steps] == [Step.PLACED, Step.CANCELLING, Step.FALLBACK]
    assert worked.questions == 0
    assert 10 <= worked.seconds < 11
    world.check(worked)


async def test_without_a_fallback_it_says_why_it_ended() -> None:
    world = await resting(fallback=False, sell_seconds=4.0)
    worked = await world.end()
    assert (worked.filled, worked.reason) == (D(0), "not filled within 4 s")
    assert worked.improvement == 0
    world.check(worked)


async def test_it_follows_the_book_so_often_and_no_more() -> None:
    world = await resting(max_reprices=2)
    for bid, ask in (("15.33", "15.42"), ("15.43", "15.52"), ("15.53", "15.62")):
        world.show(bid, ask)
        await world.clock.advance(1)
    assert world.prices == [("15.24", "GTC"), ("15.34", "GTC"), ("15.44", "GTC")]
    world.exchange.fill()
    worked = await world.end()
    assert (worked.reprices, worked.filled, worked.questions) == (2, D(1), 0)
    world.check(worked)


async def test_it_does_not_move_for_less_than_the_threshold() -> None:
    world = await resting(reprice_ticks=2)
    world.show("15.25", "15.34")  # 15.26 would be the price: two ticks on
    await world.clock.advance(2)
    assert len(world.prices) == 1
    world.show("15.26", "15.35")
    await world.clock.advance(1)
    assert world.prices[1:] == [("15.27", "GTC")]
    world.exchange.fill()
    world.check(await world.end())


async def test_it_does_not_flee_from_its_own_order() -> None:
    world = await resting()
    bids = [(15.23, 5.0)]
    world.show_levels(bids, [(15.24, 1.0), (15.32, 5.0)])  # the ask is all ours
    await world.clock.advance(3)
    world.exchange.fill(D("0.5"))
    world.show_levels(bids, [(15.24, 0.5), (15.32, 5.0)])
    await world.clock.advance(3)
    assert len(world.prices) == 1
    world.show_levels([(15.10, 5.0)], [(15.24, 3.0), (15.32, 5.0)])  # others have joined it: theirs is the touch now
    await world.clock.advance(1)
    assert world.prices[1:] == [("15.12", "GTC")]  # 15.24 less 85 % of 0.14 is 15.121
    world.exchange.fill()
    world.check(await world.end())


async def test_two_workings_do_not_chase_each_other() -> None:
    world = await resting(max_reprices=5)
    other = asyncio.ensure_future(
        world.saga.workings.work(world.market, PURSE, "sell", D(2), world.style, leg=1, cap=D(1))
    )
    await world.clock.advance(1)
    # Both stand at 15.24, three of it: the book's ask is theirs.
    world.show_levels([(15.23, 5.0)], [(15.24, 3.0), (15.32, 5.0)])
    await world.clock.advance(4)
    assert world.prices == [("15.24", "GTC"), ("15.24", "GTC")]
    world.exchange.fill()
    await world.clock.run_until(other.done)
    assert (await world.end()).filled == 1
    assert other.result().filled == 2


@pytest.mark.parametrize("word", ["fill_first", "part_first"])
async def test_filled_while_cancelling_is_as_good_as_before(word: str) -> None:
    world = await resting()
    world.exchange.cancelling = [word]
    worked = await world.end()
    assert worked.filled == 1
    assert worked.fallback_quantity == (D(0) if word == "fill_first" else D("0.5"))
    assert worked.questions == 0
    assert not world.alarms
    world.check(worked)


async def test_a_lost_cancellation_is_sent_again() -> None:
    world = await resting()
    world.exchange.cancelling = ["lose_request"]
    worked = await world.end()
    assert len(world.exchange.cancels) == 2
    assert worked.filled == 1
    world.check(worked)


async def test_the_answer_to_a_cancellation_is_not_needed() -> None:
    world = await resting()
    world.exchange.cancelling = ["lose_answer"]
    worked = await world.end()
    assert (worked.filled, worked.questions) == (D(1), 0)
    world.check(worked)


async def test_a_silent_stream_is_made_up_for_by_questions() -> None:
    world = await resting()
    world.exchange.mute = True
    world.exchange.fill(D("0.5"))
    worked = await world.end()
    world.exchange.mute = False
    assert worked.filled == 1
    assert worked.questions >= 1
    world.check(worked)


@pytest.mark.parametrize("word", ["lose_answer", "lose_request"])
async def test_nothing_is_sent_while_an_outcome_is_not_known(word: str) -> None:
    world = LimitWorld(sell_seconds=2.0)
    world.exchange.placing = [word]
    world.exchange.mute = True
    world.show("15.23", "15.32")
    world.keep_fresh()
    world.begin()
    await world.clock.run_until(lambda: any(order.state is S.UNKNOWN for order in world.saga.orders.values()))
    world.show("15.43", "15.52")  # it would have moved
    await world.clock.advance(0.1)
    assert len(world.exchange.placed) == 1
    world.exchange.mute = False
    worked = await world.end()
    assert worked.filled == 1
    assert world.prices[-1][1] == "IOC"
    world.check(worked)


async def test_an_order_refused_by_the_exchange_goes_to_the_market_at_once() -> None:
    world = LimitWorld()
    world.exchange.placing = ["refuse"]
    world.show("15.23", "15.32")
    world.begin()
    worked = await world.end()
    assert world.prices == [("15.24", "GTC"), ("15.22", "IOC")]
    assert (worked.filled, worked.fallback_quantity) == (D(1), D(1))
    assert worked.seconds < 1
    world.check(worked)


async def test_what_is_refused_twice_says_so() -> None:
    world = LimitWorld()
    world.exchange.placing = ["refuse", "refuse"]
    world.show("15.23", "15.32")
    world.begin()
    worked = await world.end()
    assert (worked.filled, worked.reason) == (D(0), "-2010 not now")
    world.check(worked)


async def test_an_order_that_the_exchange_cancels_goes_to_the_market() -> None:
    world = await resting()
    world.exchange.end()
    worked = await world.end(2)
    assert worked.fallback_quantity == 1
    world.check(worked)


async def test_without_a_fresh_book_it_rests_until_its_timeout_and_ends_there() -> None:
    world = await resting()
    world.lose_feed()
    await world.clock.advance(8)
    assert len(world.prices) == 1
    worked = await world.end()
    assert worked.reason == "no fresh book of alpha:BTC/USDT"
    assert [tif for _, tif in world.prices] == ["GTC"]
    world.check(worked)


async def test_a_book_that_never_comes_sends_nothing() -> None:
    world = LimitWorld(sell_seconds=3.0)
    world.begin()
    worked = await world.end(4)
    assert (worked.attempts, worked.reason) == (0, "no fresh book of alpha:BTC/USDT")
    world.check(worked)


async def test_a_crossed_book_is_no_book() -> None:
    world = await resting()
    world.show("15.50", "15.40")
    await world.clock.advance(3)
    assert len(world.prices) == 1
    world.exchange.fill()
    world.check(await world.end())


async def test_a_cap_holds_the_limit_and_the_fallback() -> None:
    world = await resting(cap="15.30")
    assert world.prices == [("15.30", "GTC")]
    worked = await world.end()
    assert worked.reason == "the best price 15.23 is beyond the cap of 15.30"
    assert len(world.prices) == 1
    world.check(worked)


async def test_a_cap_may_widen() -> None:
    world = LimitWorld(reprice_bps=1.0)
    world.show("15.23", "15.32")
    world.keep_fresh()
    began = world.seconds()

    def cap() -> Decimal:
        return D("15.31") if world.seconds() - began < 2 else D("15.20")

    world.cap = cap  # type: ignore[assignment]
    world.begin()
    await world.clock.advance(1.5)
    assert world.prices == [("15.31", "GTC")]
    await world.clock.advance(1.5)
    assert world.prices[1:] == [("15.24", "GTC")]
    world.cap = D("15.20")
    world.exchange.fill()
    world.check(await world.end())


async def test_dust_is_not_sent() -> None:
    world = await resting(market={"min_notional": D(5)})
    world.exchange.fill(D("0.9"))
    worked = await world.end()
    assert worked.filled == D("0.9")
    assert worked.reason == "0.100 is left, less than alpha:BTC/USDT takes"
    world.check(worked)


async def test_a_market_style_takes_from_the_book_within_the_cap_at_once() -> None:
    world = LimitWorld("sell", cap="15.01", kind="market")
    world.show("15.23", "15.32")
    world.begin()
    worked = await world.end(1)
    assert world.prices == [("15.01", "IOC")]
    assert worked.fallback_quantity == 1
    world.check(worked)


async def test_a_market_that_holds_less_leaves_the_rest() -> None:
    world = LimitWorld("sell", cap="15.01", kind="market")
    world.exchange.ioc = D("0.3")
    world.show("15.23", "15.32")
    world.begin()
    worked = await world.end(1)
    assert (worked.filled, worked.reason) == (D("0.3"), "the book held no more within the cap")
    world.check(worked)


async def test_it_waits_for_the_money_that_a_cancelled_order_gives_back() -> None:
    world = LimitWorld("sell", "1000")
    world.show("15.23", "15.32", 5000.0)
    world.keep_fresh()
    world.begin()
    await world.clock.run_until(world.exchange.resting)
    told = world.exchange.tell_balances
    world.exchange.free["BTC"] -= 1000  # held by what rests
    told()
    world.exchange.tell_balances = lambda: None  # type: ignore[method-assign]
    world.show("15.43", "15.52", 5000.0)
    await world.clock.run_until(lambda: world.exchange.cancels)
    await world.clock.advance(0.5)
    assert len(world.prices) == 1
    world.exchange.free["BTC"] += 1000
    world.exchange.tell_balances = told  # type: ignore[method-assign]
    told()
    await world.clock.run_until(world.exchange.resting, 1)
    assert world.prices[1:] == [("15.44", "GTC")]
    world.exchange.fill()
    world.check(await world.end())


async def test_money_that_never_comes_ends_it() -> None:
    world = LimitWorld("sell", "2000")
    world.show("15.23", "15.32")
    world.keep_fresh()
    world.begin()
    worked = await world.end(5)
    assert (worked.attempts, worked.reason) == (0, "the order could not be sent")
    assert "2000" in world.saga.placing.last_note
    world.check(worked)


@pytest.mark.parametrize("after", [0.0, 0.005, 0.015, 0.025, 3.0])
async def test_it_can_be_stopped_at_any_moment(after: float) -> None:
    world = LimitWorld()
    world.show("15.23", "15.32")
    world.keep_fresh()
    world.begin()
    await world.clock.advance(after)
    world.saga.workings.stop("the user asked for it")
    worked = await world.end(5)
    assert (worked.filled, worked.reason) == (D(0), "the user asked for it")
    assert [tif for _, tif in world.prices] in ([], ["GTC"])
    world.check(worked)


async def test_a_reason_to_stop_that_turns_up_meanwhile_is_noticed() -> None:
    world = await resting()
    world.why_stop = "trading is killed"
    worked = await world.end(2)
    assert worked.reason == "trading is killed"
    world.check(worked)


async def test_a_lost_lease_sends_nothing_more_not_even_a_cancellation() -> None:
    world = await resting()
    world.desk.halted = "another holder"
    worked = await world.end(2)
    assert worked.reason == "another holder"
    assert world.exchange.cancels == []
    assert len(world.exchange.resting()) == 1


async def test_a_store_that_is_down_for_a_while_only_delays_it() -> None:
    world = LimitWorld()
    world.store.available = False
    world.show("15.23", "15.32")
    world.keep_fresh()
    world.begin()
    await world.clock.advance(1)
    assert world.prices == []
    world.store.available = True
    await world.clock.run_until(world.exchange.resting, 1)
    world.exchange.fill()
    world.check(await world.end())


async def test_more_than_was_ordered_ends_it() -> None:
    world = await resting()
    (kept,) = world.exchange.resting()
    world.exchange._execute(kept, D("1.5"), D("15.24"))
    kept.status = S.FILLED
    world.exchange._tell(kept)
    worked = await world.end(2)
    assert worked.filled == D("1.5")
    assert len(world.prices) == 1
