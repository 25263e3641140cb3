"""What an order really cost: measured on its way, split so that the parts add up, told once it has filled."""

from __future__ import annotations

from decimal import Decimal

import msgspec
import pytest

from risk.policy.realised import WIDE
from tests.engine.worlds import World
from trading.execution.realised import average
from trading.messages import LegSlippageRecord, OrderState

D = Decimal


def told(world: World, side: str, attempt: int = 0) -> LegSlippageRecord:
    (found,) = [
        record
        for record in world.store.slippage.values()
        if record.execution.side == side and record.attempt == attempt
    ]
    return found


async def test_a_hand_worked_leg_is_split_by_where_it_lost() -> None:
    world = World(faulty=True)
    venue, commit = world.one_venue, world.store.commit_trade
    venue._markets[world.alpha.key] = msgspec.structs.replace(world.alpha, taker_fee=D("0.0015"))  # 10 bps assumed

    async def slow_commit(*args: object) -> None:
        await commit(*args)  # type: ignore[arg-type]
        world.show(world.alpha, "49990", "50005", "0.1")  # behind it 50006

    world.store.commit_trade = slow_commit  # type: ignore[assignment, method-assign]
    await world.start()
    await world.edge()  # decided at an ask of 50000 for all of it
    assert len(venue.sent) == 1
    world.show(world.alpha, "49990", "50008", "0.05")  # in flight; behind it 50009
    await world.clock.run_until(lambda: not world.engine.status().open_trades)

    size = D("0.1980")  # 10 000 at the sell's limit of 50489.90, in whole lots
    buy = told(world, "buy")
    leg, parts = buy.execution, buy.slippage
    sent = WIDE.divide(D("0.1") * 50005 + (size - D("0.1")) * 50006, size)
    filled = WIDE.divide(D("0.05") * 50008 + (size - D("0.05")) * 50009, size)
    assert (leg.quantity, leg.decided_price, leg.sent_best, leg.arrival_best) == (size, 50000, 50005, 50008)
    assert abs(leg.sent_price - sent) < D("1e-20")
    assert abs(leg.filled_price - filled) < D("1e-20")
    # Of 50000: 5.494949 before sending, 3 in flight, a walk of 0.747475 where the book had shown 0.494949, and 5 bps
    # of the 50008.747475 that it was in the end.
    assert parts.before_send_bps == D("1.098990")
    assert parts.in_flight_bps == D("0.6")
    assert parts.depth_bps == D("0.050505")
    assert abs(parts.fee_bps - D("5.000875")) < D("0.0001"), "paid in BTC, in its smallest unit"
    assert parts.total_bps == parts.before_send_bps + parts.in_flight_bps + parts.depth_bps + parts.fee_bps
    assert buy.fees_unvalued == 0
    assert (buy.exchange, buy.pair, buy.account_id, buy.bot_id) == ("alpha", "BTC/USDT", 11, 1)
    assert buy.at_ns == world.clock.time_ns() - world.clock.monotonic_ns() + 1, "it left at once"

    sell = told(world, "sell")
    assert (sell.execution.decided_price, sell.execution.filled_price) == (50500, 50500)
    assert sell.slippage.total_bps == 0
    assert sell.trade_id == buy.trade_id
    await world.stop()


async def test_a_part_that_fills_is_held_against_the_price_of_that_part() -> None:
    world = World(faulty=True)
    world.one_venue.script = ["half"]
    await world.start()
    world.show(world.beta, "50500", "50510")
    world.show(world.alpha, "49990", "50000", "0.1")  # the other half would cost 50001
    await world.clock.settle()
    await world.clock.run_until(lambda: not world.engine.status().open_trades)
    first = told(world, "buy")
    half = world.one_venue.sent[0].quantity / 2 // D("0.0001") * D("0.0001")
    assert (first.execution.quantity, first.execution.decided_price) == (half, 50000)
    assert first.slippage.total_bps == 0
    repair = told(world, "buy", attempt=1)
    assert repair.execution.quantity == world.one_venue.sent[0].quantity - half
    assert repair.execution.charged_bps == 0
    await world.stop()


async def test_what_the_book_no_longer_holds_is_taken_at_the_limit() -> None:
    assert average(((100.0, 1.0), (101.0, 4.0)), D(2), D(110)) == D("100.5")
    assert average(((100.0, 1.0),), D(2), D(110)) == 105
    assert average((), D(2), D(110)) == 110


async def test_an_order_whose_answer_is_lost_arrived_at_the_price_it_left_at() -> None:
    world = World(faulty=True)
    world.one_venue.script = ["lose_answer"]
    await world.start()
    await world.edge()
    world.show(world.alpha, "49990", "50004")
    await world.clock.run_until(lambda: not world.engine.status().open_trades)
    buy = told(world, "buy")
    assert (buy.execution.sent_best, buy.execution.arrival_best) == (50000, 50000)
    assert buy.execution.filled_price == 50004
    assert (buy.slippage.in_flight_bps, buy.slippage.depth_bps) == (0, D("0.8"))
    await world.stop()


async def test_a_late_fill_tells_it_anew() -> None:
    world = World(faulty=True)
    await world.start()
    await world.trade()
    before = told(world, "buy")
    order_id = before.client_order_id
    event = world.one_venue._orders[order_id]
    late = msgspec.structs.replace(event.fills[0], exchange_trade_id="late-1", quantity=D("0.1"), price=D(50100))
    saga = world.engine.trades.of_order(order_id)
    assert saga is not None
    saga.on_event(
        msgspec.structs.replace(event, filled=event.filled + D("0.1"), fills=(late,))  # type: ignore[operator]
    )
    after = told(world, "buy")
    assert after.execution.quantity == before.execution.quantity + D("0.1")
    assert after.at_ns == before.at_ns
    assert after.slippage.total_bps > before.slippage.total_bps
    await world.stop()


@pytest.mark.parametrize("asset", ["BNB", ""])
async def test_a_fee_without_a_price_is_left_out_and_counted(asset: str) -> None:
    world = World(faulty=True)
    world.one_venue._money.book = lambda *_: (D("0.5"), asset)  # type: ignore[assignment, method-assign]
    await world.start()
    await world.trade()
    buy = told(world, "buy")
    assert (buy.fees_unvalued, buy.execution.expected_fee, buy.execution.paid_fee) == (1, 0, 0)
    assert buy.slippage.fee_bps == 0
    await world.stop()


async def test_half_of_what_was_taken_off_the_edge_is_charged_to_each_leg() -> None:
    from trading.config import RatingRules, RiskPicture

    world = World(faulty=True)
    world.config = msgspec.structs.replace(world.config, risk=RiskPicture(rating=RatingRules()))
    world.engine = world.make_engine()
    await world.start()
    await world.trade()
    (decision,) = [one for one in world.store.decisions if one.trade_id]
    assert decision.assessment is not None
    costs = decision.assessment.costs_bps
    half = (costs["drift_bps"] + costs["impact_bps"]) / 2
    for side in ("buy", "sell"):
        record = told(world, side)
        assert float(record.execution.charged_bps) == pytest.approx(half, abs=1e-6)
        assert half > 0
        assert record.slippage.surprise_bps == record.slippage.total_bps - record.execution.charged_bps
    await world.stop()


async def test_paper_orders_are_not_measured() -> None:
    world = World()
    await world.start()
    await world.trade()
    assert world.store.fills
    assert world.store.slippage == {}
    await world.stop()


async def test_orders_of_an_earlier_process_are_not_measured_but_their_repairs_are() -> None:
    world = World(faulty=True)
    world.one_venue.script = ["silent"]
    await world.start()
    await world.edge()
    await world.clock.run_until(lambda: len(world.store.slippage) == 1)
    assert world.task is not None
    world.task.cancel()
    world.store.slippage.clear()
    world.one_venue.unspoken.clear()
    world.one_venue._orders[world.one_venue.sent[0].client_order_id] = msgspec.structs.replace(
        world.one_venue._orders[world.one_venue.sent[0].client_order_id],
        state=OrderState.CANCELLED, filled=D(0), fills=(),
    )  # fmt: skip
    world.engine = world.make_engine(token=4)
    await world.start()
    world.show(world.alpha, "49990", "50000")
    world.show(world.beta, "50500", "50510")
    await world.clock.run_until(lambda: world.store.slippage)
    assert {record.attempt for record in world.store.slippage.values()} == {1}
    await world.stop()
