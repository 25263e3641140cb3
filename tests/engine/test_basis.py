"""Spot against a perpetual: entered together, held on purpose, closed together, with what went wrong repaired."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable
from decimal import Decimal

import msgspec
import pytest
import pytest_asyncio

from risk.policy.switch import SwitchState, TradingState
from tests.engine.basis_world import RULES, BasisWorld
from trading.margin import tiers_of
from trading.messages import (
    AccountIncome,
    IncomeKind,
    OrderKind,
    OrderState,
    TradeState,
)
from trading.tickets import ClosingTerms

D = Decimal


@pytest_asyncio.fixture
async def world() -> AsyncIterator[BasisWorld]:
    world = BasisWorld()
    await world.begin()
    yield world
    await world.stop()


async def test_a_pair_is_entered_held_and_closed_when_the_prices_meet(world: BasisWorld) -> None:
    trade = await world.held()
    assert world.perp_venue.leverages == [(world.perp.key, 1)]
    spot, perp = world.sent()
    assert (spot.side, perp.side, spot.quantity, perp.quantity) == ("buy", "sell", D("0.198"), D("0.198"))
    # A tenth of a percent of what was bought went as its fee.
    assert world.coins() == D("0.198") * D("0.999")
    assert world.position() == D("-0.198")
    standing = world.pair
    assert (standing.spot_price, standing.perp_price) == (D(50_000), D(50_500))
    # 1 % between the prices, less twice 0.1 % and 0.05 % of 1 + 1.01
    assert standing.entry_bps == D("69.95")
    assert trade.worst_residual() == 0
    assert world.record.realised_profit is None
    await world.clock.advance(5)
    assert world.record.state is TradeState.HOLDING

    await world.meet()
    record = await world.ended()
    assert record.state is TradeState.CLOSED
    assert "exit edge" in record.reason
    closing = [intent for intent in world.sent() if intent.leg >= 2]
    assert [(intent.side, intent.reduce_only) for intent in closing] == [("sell", False), ("buy", True)]
    world.check_profit(record)
    # 100 USDT of each bitcoin between the prices, less fees: 0.1 % twice, 0.05 % twice
    assert record.realised_profit is not None
    assert D(68) < record.realised_profit < D(70)
    world.check_nothing_held()


async def test_both_legs_of_entry_and_exit_leave_together(world: BasisWorld) -> None:
    await world.held()
    await world.meet()
    await world.ended()
    spot_entry, perp_entry, spot_exit, perp_exit = world.sent()
    assert spot_entry.created_ns == perp_entry.created_ns
    assert spot_exit.created_ns == perp_exit.created_ns


@pytest.mark.parametrize(
    ("rate", "check"),
    [(-2e-4, "funding"), (1e-4, "")],
    ids=["shorts pay more than the bot pays", "longs pay"],
)
async def test_funding_decides_whether_a_pair_is_entered(rate: float, check: str) -> None:
    world = BasisWorld()
    await world.begin()
    world.fund(rate)
    await world.widen()
    decision = await world.decided()
    assert decision.check == check or (not check and world.store.trades)
    assert bool(world.store.trades) is not bool(check)
    await world.stop()


async def test_a_pair_is_entered_once_its_funding_allows_it_though_no_price_moves(world: BasisWorld) -> None:
    world.fund(-2e-4)
    await world.widen()
    assert (await world.decided()).check == "funding"
    world.fund(1e-4)
    await world.clock.run_until(lambda: world.store.trades, 2)


async def test_a_leverage_that_is_lost_just_after_it_was_set_is_set_again_though_no_price_moves(
    world: BasisWorld,
) -> None:
    venue, lost = world.perp_venue, [True]
    set_leverage = venue.set_leverage

    async def set_and_lose(market: str, leverage: int) -> str:
        why = await set_leverage(market, leverage)
        if lost and lost.pop():
            venue.changed.add(market)
        return why

    venue.set_leverage = set_and_lose  # type: ignore[method-assign]
    await world.widen()
    assert (await world.decided()).check == "leverage"
    await world.clock.run_until(lambda: world.store.trades, 4)
    assert venue.leverages == [(world.perp.key, 1)] * 2


async def test_a_stale_funding_figure_opens_nothing(world: BasisWorld) -> None:
    await world.clock.advance(RULES.max_funding_age_seconds + 1)
    await world.widen()
    decision = await world.decided()
    assert decision.check == "funding"
    assert "11." in decision.verdict.reason
    assert "old" in decision.verdict.reason
    assert not world.store.trades


async def test_an_edge_that_pays_two_fees_but_not_four_is_refused_with_its_figures(world: BasisWorld) -> None:
    await world.show_basis("49990", "50000", "50150", "50160")
    decision = await world.decided()
    assert decision.check == "entry_edge"
    assert "-2.01 bps (30.00 less 30.02 of fees and 2.00 of reserve, funding +0.00)" in decision.verdict.reason
    assert not world.store.trades


async def test_a_leverage_the_exchange_refuses_enters_nothing(world: BasisWorld) -> None:
    world.perp_venue.refuses_leverage = "leverage 1 is not valid"
    await world.widen()
    assert (await world.decided()).check == "leverage"
    world.perp_venue.sent.clear()
    await world.show_basis("49990", "50000", "50505", "50515")
    decision = await world.decided()
    assert (decision.check, decision.verdict.reason) == ("leverage", "Leverage 1 is not valid.")
    assert not world.store.trades


async def test_a_leverage_that_somebody_has_changed_is_set_again_before_the_next_entry(world: BasisWorld) -> None:
    await world.held()
    await world.meet()
    await world.ended()
    assert len(world.perp_venue.leverages) == 1
    world.store.trades.clear()
    world.perp_venue.changed.add(world.perp.key)
    await world.clock.advance(60)
    world.fund(1e-4)
    await world.held()
    assert world.perp_venue.leverages == [(world.perp.key, 1)] * 2


async def test_an_entry_binds_the_margin_of_its_leverage_and_no_more() -> None:
    world = BasisWorld(rules=msgspec.structs.replace(RULES, leverage=4))
    await world.begin()
    # A fourth of 10,000, and fees: the whole of it would be more than there is.
    await world.perp_venue.leave("USDT", D(2_700))
    trade = await world.held()
    (sold,) = [order.intent for order in trade.orders.values() if order.intent.side == "sell"]
    assert sold.quantity == D("0.198")
    worse = D("50505") - sold.price  # than the middle: lost at once
    assert (
        sold.reserve_amount
        == sold.quantity * sold.price * (world.perp.most_with_fee - D("0.75")) + sold.quantity * worse
    )
    await world.stop()


async def test_a_perpetual_is_held_once(world: BasisWorld) -> None:
    await world.held()
    world.fund(1e-4)
    await world.show_basis("49990", "50000", "50600", "50610")
    decision = await world.decided()
    assert decision.check == "held"
    assert len(world.store.trades) == 1


async def test_a_position_of_somebody_elses_is_not_added_to(world: BasisWorld) -> None:
    world.perp_venue._money.book(world.perp, "sell", D("0.5"), D(50_000), D(0))
    world.perp_venue.tell_positions()
    await world.widen()
    decision = await world.decided()
    assert decision.check == "held"
    assert not world.store.trades


# -- entries that go wrong -----------------------------------------------------------------------------------------


async def test_a_perpetual_leg_that_half_fills_is_completed(world: BasisWorld) -> None:
    world.perp_venue.script = ["half"]
    await world.held()
    assert world.position() == D("-0.198")
    assert [intent.quantity for intent in world.perp_venue.sent] == [D("0.198"), D("0.099")]


async def test_a_leg_that_waits_for_the_less_certain_one_keeps_to_its_own_limit() -> None:
    """Its cap starts from that, not from what spot cost: the difference between the two is what is traded."""
    world = BasisWorld(leg_policy="uncertain_first", completion_seconds=60.0, unwind_seconds=120.0)
    await world.begin()
    world.show(world.alpha, "49990", "50000", size="0.5")
    world.show(world.perp, "50500", "50510")
    await world.clock.settle()
    await world.clock.run_until(lambda: any(one.state is TradeState.HOLDING for one in world.store.trades.values()))
    spot, perp = world.sent()
    assert perp.created_ns > spot.created_ns
    assert perp.price >= D("50480")
    assert perp.quantity == spot.quantity
    await world.stop()


async def test_a_perpetual_leg_whose_price_has_gone_is_not_completed_but_undone(world: BasisWorld) -> None:
    world.perp_venue.script = ["none"]
    await world.widen()
    await world.clock.run_until(lambda: world.perp_venue.sent)
    # Still above what spot cost, but 60 bps below what was entered on: selling spot again is the cheaper way.
    await world.show_basis("49990", "50000", "50180", "50190")
    record = await world.ended()
    assert record.state is TradeState.CLOSED
    assert len(world.perp_venue.sent) == 1
    assert [intent.side for intent in world.spot_venue.sent] == ["buy", "sell"]
    world.check_profit(record)


async def test_a_spot_leg_that_fails_is_completed(world: BasisWorld) -> None:
    world.spot_venue.script = ["reject"]
    await world.held()
    assert world.coins() == D("0.198") * D("0.999")


async def test_a_spot_leg_that_can_not_be_had_undoes_the_short_with_reducing_orders(world: BasisWorld) -> None:
    world.spot_venue.script = ["reject"] * 40
    await world.widen()
    record = await world.ended()
    assert record.state is TradeState.CLOSED
    assert world.position() == 0
    undone = [intent for intent in world.perp_venue.sent if intent.side == "buy"]
    assert undone
    assert all(intent.reduce_only for intent in undone)
    world.check_profit(record)


async def test_an_entry_whose_answer_is_lost_is_neither_sent_again_nor_forgotten(world: BasisWorld) -> None:
    world.perp_venue.script = ["lose_answer"]
    await world.widen()
    await world.clock.run_until(lambda: any(one.state is TradeState.HOLDING for one in world.store.trades.values()))
    assert len(world.perp_venue.sent) == 1
    assert world.position() == D("-0.198")


# -- while it is held ----------------------------------------------------------------------------------------------


async def test_a_pair_is_taken_up_by_another_process_and_closed_there(world: BasisWorld) -> None:
    await world.held()
    await world.die()
    await world.rise()
    await world.clock.run_until(lambda: world.trade_now().holds and not world.engine.status().open_trades)
    await world.clock.advance(10)
    assert world.record.state is TradeState.HOLDING
    assert len(world.sent()) == 2
    await world.meet()
    record = await world.ended()
    assert record.state is TradeState.CLOSED
    world.check_profit(record)


async def test_what_is_held_of_the_spot_leg_is_promised_to_nobody_else(world: BasisWorld) -> None:
    trade = await world.held()
    purse = trade.terms.purses["alpha"]
    free = world.engine.desk.portfolio.free(purse, "BTC")
    assert free == world.spot_venue.money()["BTC"] - trade.pair().spot
    await world.die()
    await world.rise()
    await world.clock.run_until(lambda: world.trade_now().holds and not world.engine.status().open_trades)
    assert world.engine.desk.portfolio.free(purse, "BTC") == free


async def test_funding_that_turns_closes_the_pair(world: BasisWorld) -> None:
    await world.held()
    world.fund(-5e-4)
    record = await world.ended()
    await world.clock.run_until(lambda: world.record.state is TradeState.CLOSED)
    record = world.record
    assert "funding is -5.00 bps an interval, below -1.00 bps" in record.reason
    world.check_profit(record)


async def test_a_funding_figure_that_grew_old_closes_nothing(world: BasisWorld) -> None:
    await world.held()
    await world.clock.advance(120)
    assert world.record.state is TradeState.HOLDING


async def test_the_longest_holding_time_closes_the_pair() -> None:
    world = BasisWorld(rules=msgspec.structs.replace(RULES, max_hold_hours=0.02))
    await world.begin()
    await world.held()
    await world.clock.advance(60)
    assert world.record.state is TradeState.HOLDING
    await world.clock.run_until(lambda: world.record.state is TradeState.CLOSED, 60)
    assert "at most 0.02 h" in world.record.reason
    world.check_profit(world.record)
    await world.stop()


async def test_thin_margin_closes_the_pair_of_a_stopped_bot_too(world: BasisWorld) -> None:
    await world.held()
    world.engine.update(msgspec.structs.replace(world.config, bots=()))
    world.perp_venue.tell_positions(mark="50000", liquidation="51000")
    await world.clock.run_until(lambda: world.record.state is TradeState.CLOSED)
    assert "200 bps from liquidation" in world.record.reason


async def test_pages_are_told_how_a_pair_stands(world: BasisWorld) -> None:
    trade = await world.held()
    world.perp_venue.tell_positions(mark="50000", liquidation="60000")
    await world.clock.advance(3)
    told = next(view["pair"] for view in world.pages.of("trade") if view["id"] == trade.record.trade_id)
    assert isinstance(told, dict)
    assert (told["spot"], told["perp"], told["held"]) == (world.alpha.key, world.perp.key, "0.197802")
    assert (told["spot_price"], told["perp_price"], told["liquidation_bps"]) == ("50000", "50500", 2000.0)
    assert D(told["exit_bps"]) == world.pair.exit_bps
    assert told["closing"] == ""


async def test_a_stopped_bot_keeps_its_pair_until_it_is_asked_to_close_it(world: BasisWorld) -> None:
    await world.held()
    world.engine.update(msgspec.structs.replace(world.config, bots=()))
    await world.meet()
    await world.clock.advance(30)
    assert world.record.state is TradeState.HOLDING
    assert await world.close() == ""
    record = await world.ended()
    assert record.state is TradeState.CLOSED
    assert record.reason.startswith("its owner closed it")
    world.check_profit(record)


async def test_the_funding_that_was_paid_is_part_of_the_result(world: BasisWorld) -> None:
    trade = await world.held()
    line = AccountIncome(
        account_id=12, kind=IncomeKind.FUNDING, transaction_id="1", market=world.perp.key, asset="USDT",
        amount=D("1.25"), exchange_ns=world.next_funding_ns,
    )  # fmt: skip
    other = msgspec.structs.replace(line, transaction_id="2", market="beta:ETH/USDT:USDT")
    cost = msgspec.structs.replace(line, transaction_id="3", kind=IncomeKind.INSURANCE)
    world.perp_venue.paid = [line, other, cost]
    await world.clock.run_until(lambda: world.pair.funding == D("1.25"), 120)
    assert "funding 1.25 USDT" in trade.record.reason
    world.fund(1e-4)
    await world.meet()
    record = await world.ended()
    assert "1.25 USDT of funding" in record.reason
    world.check_profit(record, funding="1.25")


async def test_on_paper_funding_is_estimated_from_the_rates() -> None:
    world = BasisWorld(real=False)
    await world.begin()
    await world.widen()
    await world.clock.run_until(lambda: any(one.state is TradeState.HOLDING for one in world.store.trades.values()))
    world.fund(2e-4, mark=50_500.0)
    await world.clock.run_until(lambda: world.pair.funding, 120)
    assert world.pair.funding == D("0.198") * D("50500") * D("0.0002")
    assert world.pair.is_estimated
    await world.clock.advance(60)
    assert world.pair.funding == D("0.198") * D("50500") * D("0.0002")
    await world.stop()


async def test_on_paper_a_short_is_liquidated_and_its_spot_leg_sold() -> None:
    world = BasisWorld(
        real=False, margin="12000", tiers=tiers_of([(D(0), D(1_000_000), D("0.01"), 20)]),
        rules=msgspec.structs.replace(RULES, min_liquidation_bps=0.0),
    )  # fmt: skip
    await world.begin()
    await world.widen()
    await world.clock.run_until(lambda: any(one.state is TradeState.HOLDING for one in world.store.trades.values()))
    world.fund(1e-4, mark=90_000.0)
    # The book stays where it is, all but for something that moves in it; the mark price does not.
    await world.show_basis("49990", "50000", "50500", "50510.1")
    await world.clock.advance(2)
    assert world.record.state is TradeState.HOLDING
    world.fund(1e-4, mark=120_000.0)
    await world.show_basis("49990", "50000", "50500", "50510.2")
    await world.clock.run_until(lambda: world.record.state is TradeState.CLOSED)
    record = world.record
    assert "0.198 liquidated by the exchange at price 109981" in record.reason
    (made,) = [intent for intent in world.store.intents.values() if intent.kind is OrderKind.LIQUIDATION]
    assert (made.account_id, made.side, made.quantity) == (12, "buy", D("0.198"))
    assert record.realised_profit is not None
    assert -12_000 < record.realised_profit < -11_500  # what stood behind it
    await world.stop()


# -- exits that go wrong -------------------------------------------------------------------------------------------


@pytest.mark.parametrize("leg", ["spot", "perp"])
@pytest.mark.parametrize("word", ["half", "none", "reject", "lose_answer"])
async def test_an_exit_of_which_one_leg_fails_is_completed(world: BasisWorld, leg: str, word: str) -> None:
    await world.held()
    (world.spot_venue if leg == "spot" else world.perp_venue).script = [word]
    await world.meet()
    await world.clock.run_until(lambda: world.record.state is TradeState.CLOSED)
    world.check_profit(world.record)
    assert world.coins() < D("0.0001")


async def test_an_exit_that_fills_nothing_keeps_the_pair_whole_and_tries_again(world: BasisWorld) -> None:
    await world.held()
    world.spot_venue.script, world.perp_venue.script = ["none"], ["none"]
    await world.meet()
    await world.clock.run_until(lambda: world.record.state is TradeState.CLOSED)
    assert [intent.leg for intent in world.sent()] == [0, 1, 2, 3, 4, 5]
    world.check_profit(world.record)


async def test_an_exit_is_finished_by_the_next_process(world: BasisWorld) -> None:
    await world.held()
    terms = ClosingTerms(cause="its owner closed it", command_id=5)
    closing = asyncio.ensure_future(world.engine.close_ticket(world.record.trade_id, terms))
    await world.clock.run_until(lambda: len(world.sent()) == 4)
    await world.die()
    assert closing.result() == ""
    await world.rise()
    await world.clock.run_until(lambda: world.record.state is TradeState.CLOSED)
    world.check_profit(world.record)
    assert all(state in {OrderState.FILLED, OrderState.CANCELLED} for state in world.store.states.values())


async def test_thin_books_close_a_pair_in_parts_that_match(world: BasisWorld) -> None:
    """Each book holds 0.05 within the tolerance; what lies beyond is not paid for."""
    await world.held()

    def show(step: int) -> None:
        for market, bid, ask in ((world.alpha, 50_000 + step, 50_010 + step), (world.perp, 49_990, 50_000 - step)):
            book = world.feeds[market.exchange].books[market.key]
            book.bids.replace([(float(bid), 0.05), (40_000.0, 50.0)])
            book.asks.replace([(float(ask), 0.05), (60_000.0, 50.0)])
            world.feeds[market.exchange].sink.on_book(book)

    show(0)
    assert await world.close() == ""
    for step in range(1, 12):
        await world.clock.advance(2)
        show(step)
    await world.clock.run_until(lambda: world.record.state is TradeState.CLOSED)
    parts = [intent for intent in world.sent() if intent.leg >= 2]
    assert len(parts) == 8
    assert all(intent.quantity <= D("0.05") for intent in parts)
    assert [intent.leg for intent in parts] == [2, 3, 4, 5, 6, 7, 8, 9]
    world.check_profit(world.record)


async def test_a_command_that_is_given_twice_closes_once(world: BasisWorld) -> None:
    await world.held()
    assert await world.close(command=9) == ""
    assert await world.close(command=9) == ""
    record = await world.ended()
    assert record.state is TradeState.CLOSED
    assert "has ended" in await world.close(command=10)


# -- what others do ------------------------------------------------------------------------------------------------


async def see(world: BasisWorld, condition: Callable[[], bool]) -> None:
    """Tell positions now and then until something comes of it."""
    for _ in range(40):
        if condition():
            return
        world.perp_venue.tell_positions()
        await world.clock.advance(1)
    raise AssertionError(f"nothing came of it: {world.record}")


async def test_a_liquidated_perpetual_has_its_spot_leg_sold(world: BasisWorld) -> None:
    trade = await world.held()
    world.perp_venue.liquidate(world.perp.key, D("0.198"))
    await see(world, lambda: world.record.state is TradeState.CLOSED)
    assert world.coins() < D("0.0001")
    assert world.pair.outside == D("0.198")
    assert "closed by others" in trade.record.reason
    assert any("the spot leg is sold" in alarm for alarm in world.alarms)
    assert [intent.side for intent in world.perp_venue.sent] == ["sell"]


async def test_a_part_that_was_liquidated_has_its_part_of_the_spot_leg_sold(world: BasisWorld) -> None:
    trade = await world.held()
    world.perp_venue.liquidate(world.perp.key, D("0.098"))
    await see(world, lambda: world.pair.outside == D("0.098"))
    await world.clock.run_until(lambda: len(world.spot_venue.sent) == 2 and trade.holds)
    pair = trade.pair()
    assert pair.perp == D("0.1")
    assert abs(pair.spot - D("0.1")) < D("0.0003")
    await world.meet()
    await world.clock.run_until(lambda: world.record.state is TradeState.CLOSED)
    assert world.position() == 0
    assert world.coins() < D("0.0001")


@pytest.mark.parametrize("compared", [True, False], ids=["after the first comparison", "before it"])
async def test_a_liquidation_is_heard_by_the_stream_and_priced_as_it_was(world: BasisWorld, compared: bool) -> None:
    await world.held()
    await world.clock.advance(20)  # the account is compared once
    holdings = world.engine.desk.holdings
    if not compared:
        holdings._before.clear()
    explained = holdings.explained(world.perp_venue.account_id, world.perp.key)
    assert explained == (D("-0.198") if compared else None)
    told_ns = world.clock.monotonic_ns()
    world.perp_venue.tell_liquidated(world.perp.key, D("0.1"), "60000")
    world.perp_venue.tell_liquidated(world.perp.key, D("0.098"), "61000", number=2)
    await world.clock.run_until(lambda: len(world.spot_venue.sent) == 2)
    assert world.clock.monotonic_ns() - told_ns < 1e9  # no reading of positions was waited for, nor a grace
    record = await world.ended()
    assert record.state is TradeState.CLOSED
    assert "0.198 liquidated by the exchange at price 60494.94949495" in record.reason
    assert world.pair.outside == 0
    assert [intent.side for intent in world.perp_venue.sent] == ["sell"]  # nothing opens it anew
    made = [intent for intent in world.store.intents.values() if intent.kind is OrderKind.LIQUIDATION]
    assert [(intent.leg, intent.attempt, intent.price) for intent in made] == [(35, 0, D(60000)), (35, 1, D(61000))]
    world.check_profit(record)


async def test_what_readings_took_for_closed_by_others_becomes_the_execution_that_is_told_later(
    world: BasisWorld,
) -> None:
    trade = await world.held()
    world.perp_venue.liquidate(world.perp.key, D("0.098"))
    await see(world, lambda: world.pair.outside == D("0.098"))
    await world.clock.run_until(lambda: trade.holds)
    fill = world.perp_venue.forced_fill(world.perp.key, D("0.098"), "60000", D("0.5"))
    purse = trade.terms.purses["beta"]
    assert world.engine.forced.on_compared(purse, [fill], {world.perp.key: D("-0.198")})
    assert not world.engine.forced.on_compared(purse, [fill], {world.perp.key: D("-0.198")})  # it is known
    assert (world.pair.outside, trade.pair().perp) == (0, D("0.1"))
    await world.clock.run_until(lambda: trade.holds)
    assert [intent.side for intent in world.spot_venue.sent] == ["buy", "sell"]


async def test_a_liquidated_pair_is_taken_up_by_the_next_process(world: BasisWorld) -> None:
    await world.held()
    await world.clock.advance(20)
    world.perp_venue.tell_liquidated(world.perp.key, D("0.198"), "60000")
    await world.die()
    await world.rise()
    record = await world.ended()
    assert record.state is TradeState.CLOSED
    assert "0.198 liquidated by the exchange at price 60000" in record.reason
    world.check_profit(record)


async def test_a_long_position_beside_the_short_one_takes_nothing_from_it(world: BasisWorld) -> None:
    """In hedge mode somebody's long position makes the account's sum smaller, and the pair's short one no smaller."""
    venue, key = world.perp_venue, world.perp.key
    venue.long = D(0)
    trade = await world.held()
    await world.clock.advance(20)  # the account is compared once
    venue.long = D("0.1")
    for _ in range(4):
        venue.tell_positions()
        await world.clock.advance(2)
    assert world.engine.desk.holdings.differences == {(venue.account_id, f"{key} long"): D("0.1")}
    assert (trade.holds, world.pair.outside) == (True, 0)
    assert [intent.side for intent in world.spot_venue.sent] == ["buy"]


async def test_a_short_one_that_is_gone_is_missed_though_as_much_of_a_long_one_is_gone_with_it(
    world: BasisWorld,
) -> None:
    """In hedge mode somebody closes both sides: the account's sum stays what it was."""
    venue, symbol = world.perp_venue, world.perp.symbol
    venue.long = D(0)
    await world.held()
    world.store.opened[12] = {**world.store.opened[12], f"{symbol} long": D("0.198")}  # as adopting does
    venue.long = D("0.198")
    looking = asyncio.ensure_future(world.engine.reconcile())
    await world.clock.run_until(looking.done)
    venue.tell_positions()
    await world.clock.advance(5)
    assert world.engine.desk.holdings.differences == {}
    venue.long = D(0)
    venue.liquidate(world.perp.key, D("0.198"))
    await see(world, lambda: world.record.state is TradeState.CLOSED)
    assert world.pair.outside == D("0.198")
    assert world.coins() < D("0.0001")
    assert [intent.side for intent in venue.sent] == ["sell"]


async def test_where_the_bot_wants_that_a_liquidated_pair_waits_for_its_owner() -> None:
    world = BasisWorld(rules=msgspec.structs.replace(RULES, close_orphan=False))
    await world.begin()
    await world.held()
    world.perp_venue.liquidate(world.perp.key, D("0.198"))
    await see(world, lambda: world.record.state is TradeState.EXPOSED)
    assert "bought and not sold" in world.record.reason
    assert [intent.side for intent in world.spot_venue.sent] == ["buy"]
    assert [bot.observed for bot in world.engine.status().bots] == ["blocked"]
    await world.stop()


# -- the trading switch --------------------------------------------------------------------------------------------


def switch(world: BasisWorld, state: TradingState) -> None:
    turned = SwitchState(state=state, source="everybody", reason="a test")
    world.store.switch = turned
    risk = msgspec.structs.replace(world.config.risk, switches={None: turned})
    world.config = msgspec.structs.replace(world.config, risk=risk)
    world.engine.update(world.config)


async def test_reduce_only_enters_nothing_and_lets_a_pair_be_closed(world: BasisWorld) -> None:
    await world.held()
    switch(world, TradingState.REDUCE_ONLY)
    await world.meet()
    record = await world.ended()
    assert record.state is TradeState.CLOSED
    world.fund(1e-4)
    await world.widen()
    assert (await world.decided()).check == "switch"
    assert len(world.store.trades) == 1


async def test_a_kill_holds_a_pair_that_is_to_be_closed_and_no_longer(world: BasisWorld) -> None:
    await world.held()
    switch(world, TradingState.KILL)
    assert await world.close() == ""
    await world.clock.advance(60)
    assert len(world.sent()) == 2
    assert world.record.state is TradeState.REPAIRING
    switch(world, TradingState.NORMAL)
    record = await world.ended()
    assert record.state is TradeState.CLOSED
    world.check_profit(record)
