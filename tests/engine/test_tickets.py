"""Trades made by hand: entry, protection, holding, close, in the engine with virtual time."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Sequence

import msgspec
import pytest

from risk.policy.switch import SwitchState, TradingState
from tests.engine.ticket_world import AT_ONCE, DESK, TicketWorld
from tests.engine.worlds import D
from trading.execution.pricing import limit_price_in_spread
from trading.execution.progress import steps_of
from trading.execution.ticket import Ticket
from trading.execution.tickets import COMPARED_SECONDS
from trading.execution.trades import Trades
from trading.messages import AccountBalance, OrderEvent, OrderKind, OrderState, TradeState
from trading.tickets import ClosingTerms, WorkingStyle

pytestmark = pytest.mark.asyncio


async def test_a_paper_ticket_is_held_by_the_engine_and_its_take_profit_earns() -> None:
    world = TicketWorld()
    await world.begin()
    ticket = await world.held()
    record = world.record(ticket.record.trade_id)
    assert (record.standing.protected_by, record.standing.entry_price) == ("engine", D(50000))
    assert record.standing.held == D("0.0999")  # the fee was taken in base
    assert world.engine.status().open_trades == []
    world.show(world.alpha, "51000", "51010")
    await world.ended(ticket)
    record = world.record(ticket.record.trade_id)
    assert record.state is TradeState.CLOSED
    # 0.0999 sold at 51000 less 10 bps, for 0.1 bought at 50000.
    assert record.realised_profit == D("0.0999") * 51000 * D("0.999") - D(5000)
    assert "take-profit" in record.reason
    await world.stop()


async def test_a_stop_loss_of_the_engine_closes_at_a_loss() -> None:
    world = TicketWorld()
    await world.begin()
    ticket = await world.held()
    world.show(world.alpha, "48900", "48910")
    record = await world.ended(ticket)
    assert record.state is TradeState.CLOSED
    assert record.realised_profit is not None
    assert record.realised_profit < -100
    await world.stop()


async def test_what_the_exchange_holds_is_placed_at_once_and_ends_the_ticket() -> None:
    world = TicketWorld(real=True)
    await world.begin()
    ticket = await world.held()
    (pair,) = world.venue.protected
    assert [intent.trigger for intent in pair] == [D(51000), D(49000)]
    assert [intent.quantity for intent in pair] == [D("0.0999")] * 2
    assert [intent.linked for intent in pair] == [pair[1].client_order_id, pair[0].client_order_id]
    assert world.record(ticket.record.trade_id).standing.protected_by == "exchange"
    world.venue.trigger(OrderKind.TAKE_PROFIT, "51000")
    record = await world.ended(ticket)
    assert (record.state, record.reason) == (TradeState.CLOSED, "the take-profit filled 0.0999")
    assert not world.venue.resting
    world.check_nothing_held()
    await world.stop()


async def test_entry_and_protection_are_acknowledged_within_two_round_trips() -> None:
    world = TicketWorld(real=True)
    await world.begin()
    begun = world.clock.monotonic_ns()
    ticket = await world.held()
    round_trip = 2 * world.venue._one_way
    assert (world.clock.monotonic_ns() - begun) / 1e9 <= 2 * round_trip + 0.020
    arrived = {world.venue.times[intent.client_order_id] for intent in world.venue.protected[0]}
    assert len(arrived) == 1, "take-profit and stop-loss leave together"
    steps = [step.step for step in world.record(ticket.record.trade_id).standing.progress]
    assert steps == ["connecting", "placing order", "placing protection", "done"]
    await world.stop()


async def test_a_close_withdraws_what_protects_and_sells() -> None:
    world = TicketWorld(real=True)
    await world.begin()
    ticket = await world.held()
    assert await world.close(ticket) == ""
    record = await world.ended(ticket)
    assert record.state is TradeState.CLOSED
    assert not world.venue.resting
    assert world.sold() == D("0.0999")
    world.check_nothing_held()
    await world.stop()


def _closing(world: TicketWorld, ticket: Ticket) -> list[tuple[str, str]]:
    """Return the steps of the close that command 2 asks for, as stored; pages were told the same."""
    stored = steps_of(world.record(ticket.record.trade_id).standing.progress, 2)
    (told,) = [view for view in world.pages.of("progress") if view["command_id"] == 2]
    assert told["trade_id"] == ticket.record.trade_id
    assert [(step["step"], step["state"]) for step in told["steps"]] == [(step.step, step.state) for step in stored]
    assert all(step.ms > 0 for step in stored if step.step == "withdrawing protection")
    return [(step.step, step.state) for step in stored]


async def test_a_close_has_steps_of_its_own_each_with_its_time() -> None:
    world = TicketWorld(real=True)
    await world.begin()
    ticket = await world.held()
    entered = steps_of(world.record(ticket.record.trade_id).standing.progress, 0)
    await world.close(ticket)
    await world.ended(ticket)
    assert _closing(world, ticket) == [("withdrawing protection", "done"), ("placing order", "done"), ("done", "done")]
    record = world.record(ticket.record.trade_id)
    assert record.standing.progress[-1].text == "closing was asked for"
    assert steps_of(record.standing.progress, 0) == entered, "the entry's stay as they were"
    await world.stop()


async def test_the_rest_of_a_part_closed_is_protected_as_a_step_of_the_close() -> None:
    world = TicketWorld(real=True)
    await world.begin()
    ticket = await world.held()
    await world.close(ticket, keep=D("0.04"))
    await world.clock.run_until(lambda: world.sold() > 0 and ticket.holds)
    assert [step for step, _ in _closing(world, ticket)] == [
        "withdrawing protection", "placing order", "placing protection", "done",
    ]  # fmt: skip
    await world.stop()


async def test_a_close_of_what_the_engine_watches_withdraws_nothing() -> None:
    world = TicketWorld()
    await world.begin()
    ticket = await world.held()
    await world.close(ticket)
    await world.ended(ticket)
    assert _closing(world, ticket) == [("placing order", "done"), ("done", "done")]
    await world.stop()


async def test_a_close_that_leaves_something_says_so_as_its_last_step() -> None:
    world = TicketWorld(real=True)
    await world.begin()
    ticket = await world.held()
    world.venue.script = ["half"]
    await world.close(ticket)
    await world.clock.run_until(lambda: world.sold() > 0 and ticket.holds)
    assert _closing(world, ticket) == [
        ("withdrawing protection", "done"), ("placing order", "failed"), ("failed", "failed"),
    ]  # fmt: skip
    text = world.record(ticket.record.trade_id).standing.progress[-1].text
    assert "of 0.0999 were closed" in text
    assert len(world.venue.resting) == 2, "what is left is protected again"
    await world.stop()


async def test_a_close_goes_on_in_the_next_process_where_its_steps_had_come_to() -> None:
    world = TicketWorld(real=True)
    await world.begin()
    ticket = await world.held()
    terms = ClosingTerms(style=AT_ONCE, cause="closing was asked for", command_id=2)
    closing = asyncio.ensure_future(world.engine.close_ticket(ticket.record.trade_id, terms))
    await world.clock.run_until(lambda: bool(world.venue.cancelled))  # asked to withdraw, not answered
    world.venue._listener = None
    await world.die()
    await asyncio.gather(closing, return_exceptions=True)
    await world.rise()
    world.show(world.alpha, "49990", "50000")
    await world.clock.run_until(lambda: world.record(ticket.record.trade_id).state is TradeState.CLOSED)
    assert [step for step, _ in _closing(world, ticket)] == ["withdrawing protection", "placing order", "done"]
    assert world.sold() == D("0.0999")
    await world.stop()


async def test_a_part_is_closed_and_the_rest_is_protected_again() -> None:
    world = TicketWorld(real=True)
    await world.begin()
    ticket = await world.held()
    assert await world.close(ticket, keep=D("0.04")) == ""
    await world.clock.run_until(lambda: world.sold() > 0 and ticket.holds)
    assert world.record(ticket.record.trade_id).standing.held == D("0.04")
    assert {intent.quantity for intent in world.venue.resting.values()} == {D("0.04")}
    await world.stop()


async def test_refused_protection_is_alarmed_and_held_by_the_engine() -> None:
    world = TicketWorld(real=True)
    await world.begin()
    world.venue.refuse = {OrderKind.STOP_LOSS}
    ticket = await world.held()
    standing = world.record(ticket.record.trade_id).standing
    assert standing.protected_by == "engine"
    assert "refused the stop-loss" in standing.protection_note
    assert any("refused the stop-loss" in alarm for alarm in world.alarms)
    assert not world.venue.resting, "half of the pair does not stay"
    world.show(world.alpha, "48990", "49000")
    record = await world.ended(ticket)
    assert record.state is TradeState.CLOSED
    await world.stop()


async def test_a_lost_answer_freezes_the_ticket_until_it_is_known() -> None:
    world = TicketWorld(real=True)
    await world.begin()
    world.venue.lose = {OrderKind.TAKE_PROFIT}
    ticket = await world.held()
    assert world.record(ticket.record.trade_id).standing.protected_by == "exchange"
    assert len(world.venue.protected) == 1, "never sent again"
    await world.stop()


async def test_both_filled_is_alarmed_and_the_surplus_is_taken_back() -> None:
    world = TicketWorld(real=True, protects=("stops",))
    await world.begin()
    ticket = await world.held()
    world.venue.trigger(OrderKind.TAKE_PROFIT, "51000")
    world.venue.trigger(OrderKind.STOP_LOSS, "49000")
    record = await world.ended(ticket)
    assert record.state is TradeState.CLOSED
    assert abs(world.bought() - world.sold()) < D("0.001")
    assert any("more was closed than there was" in alarm for alarm in world.alarms)
    await world.stop()


async def test_a_held_position_stops_neither_draining_nor_comparing() -> None:
    world = TicketWorld(real=True)
    await world.begin()
    await world.held()
    outcomes = await _ran(world, world.engine.reconcile())
    assert [outcome.compared for outcome in outcomes] == [True, True]
    assert world.engine.status().open_trades == []
    assert world.engine.roster.get(DESK).observed == "running"
    await world.stop()
    assert len(world.venue.resting) == 2, "what protects it stays on the exchange"


async def _ran(world: TicketWorld, work):
    task = asyncio.ensure_future(work)
    await world.clock.run_until(task.done)
    return task.result()


async def test_a_sale_of_inventory_ends_closed() -> None:
    world = TicketWorld()
    await world.begin()
    opened = await world.open(side="sell", limit_cap=D("49500"), take_profit=None, stop_loss=None, is_close_only=True)
    ticket = world.engine.trades.ticket_of(opened.trade_id)
    record = await world.ended(ticket)
    assert record.state is TradeState.CLOSED
    assert record.standing.held == 0
    await world.stop()


async def test_of_two_asked_for_at_once_the_second_meets_what_the_first_will_hold() -> None:
    world = TicketWorld(real=True, max_exposure_account=D(9_000))
    await world.begin()
    # 5000 USDT each, at most; neither has an order yet when the other is judged.
    opening = [asyncio.ensure_future(world.engine.open_ticket(DESK, world.asked(command_id=n))) for n in (1, 2)]
    await world.clock.run_until(lambda: all(one.done() for one in opening))
    first, second = (one.result() for one in opening)
    assert first.trade_id, first
    assert second.check == "account_exposure", second
    await world.stop()


@pytest.mark.parametrize(("side", "cap"), [("sell", "49500"), ("buy", "50500")])
async def test_inventory_that_is_converted_is_no_position(side: str, cap: str) -> None:
    world = TicketWorld()
    await world.begin()
    opened = await world.open(side=side, limit_cap=D(cap), take_profit=None, stop_loss=None, is_close_only=True)
    ticket = world.engine.trades.ticket_of(opened.trade_id)
    assert ticket.worst_residual() == 0, "it is hedged by nothing, and need not be"
    record = await world.ended(ticket)
    assert record.state is TradeState.CLOSED
    assert (record.standing.held, record.residual_base, ticket.worst_residual()) == (0, 0, 0)
    (fee,) = record.fees.values()
    assert fee > 0
    assert record.realised_profit < 0, "what it cost is booked"
    assert not world.pages.of("position"), "no page shows it as one"
    assert not ticket.protection.orders()
    await world.stop()


async def test_a_refusal_names_the_limit_and_what_was_given() -> None:
    world = TicketWorld()
    await world.begin()
    opened = await world.open(quantity=D("100"), limit_cap=D("50000"))
    assert opened.check == "trade_amount"
    assert "5000000" in opened.refusal
    assert "1000000" in opened.refusal
    assert not world.store.trades
    await world.stop()


async def _being_compared(world: TicketWorld, seconds: float) -> asyncio.Task[object]:
    """Let the exchange take so long to tell its balances that the account is being compared now."""
    tell = world.venue.balances

    async def slowly() -> Sequence[AccountBalance]:
        await world.clock.sleep(seconds)
        return await tell()

    world.venue.balances = slowly  # type: ignore[method-assign]
    world.engine.reconciler._compared.clear()  # as after a start, when an account is kept quiet for it
    comparing = asyncio.ensure_future(world.engine.reconcile())
    await world.clock.run_until(lambda: bool(world.engine.reconciler.quieted))
    return comparing


async def test_a_ticket_waits_while_its_account_is_being_compared() -> None:
    world = TicketWorld(real=True)
    await world.begin()
    comparing = await _being_compared(world, 1.0)
    opening = asyncio.ensure_future(world.engine.open_ticket(DESK, world.asked(limit_cap=D(0))))
    await world.clock.advance(0.5)
    assert not opening.done()
    assert not world.venue.sent
    world.show(world.alpha, "49590", "49600")
    await world.clock.run_until(opening.done)
    opened = opening.result()
    assert opened.trade_id, opened
    assert world.venue.account_id not in {purse.account_id for purse in world.engine.reconciler.quieted}
    (entry,) = world.venue.sent
    assert entry.price == D("50096"), "1 % beyond the price at the time it went, not when it was asked for"
    comparing.cancel()
    await world.stop()


async def test_a_comparison_that_lasts_refuses_a_ticket_after_some_seconds() -> None:
    world = TicketWorld(real=True)
    await world.begin()
    comparing = await _being_compared(world, 60.0)
    before_ns = world.clock.monotonic_ns()
    opened = await world.open()
    assert (opened.trade_id, opened.check) == ("", "comparison")
    assert "it is being compared with its exchange" in opened.refusal
    assert COMPARED_SECONDS <= (world.clock.monotonic_ns() - before_ns) / 1e9 < COMPARED_SECONDS + 1
    assert not world.venue.sent
    comparing.cancel()
    await world.stop()


async def test_what_a_comparison_finds_refuses_the_ticket_that_has_waited_for_it() -> None:
    world = TicketWorld(real=True)
    await world.begin()
    comparing = await _being_compared(world, 1.0)
    opening = asyncio.ensure_future(world.engine.open_ticket(DESK, world.asked()))
    await world.clock.advance(0.5)
    (purse,) = world.engine.reconciler.quieted
    world.engine.reconciler.meet_stranger(purse, "of-ours-and-in-no-book", world.alpha.key)
    await world.clock.run_until(opening.done)
    opened = opening.result()
    assert (opened.trade_id, opened.check) == ("", "account")
    assert "orders of ours that the database does not know" in opened.refusal
    assert not world.venue.sent
    comparing.cancel()
    await world.stop()


async def test_a_late_fill_of_a_closed_ticket_is_booked_alarmed_and_closed() -> None:
    world = TicketWorld(real=True)
    await world.begin()
    ticket = await world.held()
    await world.close(ticket)
    await world.ended(ticket)
    entry = next(order for order in ticket.orders.values() if order.intent.leg == 0)
    (known,) = entry.fills.values()
    late = msgspec.structs.replace(known, exchange_trade_id="late", quantity=D("0.05"), fee=D(0))
    world.engine.trades.on_event(
        OrderEvent(
            account_id=11,
            market=world.alpha.key,
            client_order_id=entry.intent.client_order_id,
            state=OrderState.FILLED,
            fills=(late,),
            source="query",
        )
    )
    await world.clock.run_until(lambda: ticket.finished)
    assert any("late fill" in alarm for alarm in world.alarms)
    # More filled than was ordered is for a person, as with any trade.
    record = world.record(ticket.record.trade_id)
    assert record.state is TradeState.EXPOSED
    assert "filled more than was ordered" in record.reason
    await world.stop()


async def test_a_late_fill_within_the_order_is_closed_again() -> None:
    world = TicketWorld(real=True)
    await world.begin()
    world.venue.script = ["half"]
    ticket = await world.held(take_profit=None, stop_loss=None)
    await world.close(ticket)
    await world.ended(ticket)
    sold = world.sold()
    entry = next(order for order in ticket.orders.values() if order.intent.leg == 0)
    (known,) = entry.fills.values()
    late = msgspec.structs.replace(known, exchange_trade_id="late", quantity=D("0.02"), fee=D(0))
    event = OrderEvent(
        account_id=11,
        market=world.alpha.key,
        client_order_id=entry.intent.client_order_id,
        state=OrderState.CANCELLED,
        fills=(late,),
        source="query",
    )
    world.engine.trades.on_event(event)
    await world.clock.run_until(lambda: world.sold() > sold and ticket.finished)
    assert world.sold() - sold == D("0.02")
    assert world.record(ticket.record.trade_id).state is TradeState.CLOSED
    await world.stop()


async def test_an_order_that_protects_nothing_is_cancelled_at_the_next_comparison() -> None:
    world = TicketWorld(real=True)
    await world.begin()
    ticket = await world.held()
    pair = list(world.venue.resting.values())
    await world.close(ticket)
    await world.ended(ticket)
    for intent in pair:  # the exchange has it open again, whatever it said
        world.venue.resting[intent.client_order_id] = intent
        world.venue._orders[intent.client_order_id] = world.venue._state(intent, OrderState.PLACED)
    await _ran(world, world.engine.reconcile())
    await world.clock.run_until(lambda: not world.venue.resting)
    assert any("protects nothing that is held" in alarm for alarm in world.alarms)
    await world.stop()


async def test_what_is_gone_after_a_lost_stream_is_placed_again() -> None:
    world = TicketWorld(real=True)
    await world.begin()
    ticket = await world.held()
    world.venue.lose_stream()
    world.venue.lose_track(OrderKind.TAKE_PROFIT)
    world.venue.lose_track(OrderKind.STOP_LOSS)
    world.venue.regain_stream()
    await world.clock.run_until(lambda: len(world.venue.resting) == 2 and ticket.holds)
    assert len(world.venue.protected) == 2
    await world.stop()


async def test_killed_means_no_new_ticket_and_no_close_and_the_protection_stays() -> None:
    world = TicketWorld(real=True)
    await world.begin()
    ticket = await world.held()
    killed = SwitchState(state=TradingState.KILL, source="everybody", reason="a test")
    world.engine.desk.switch_of = lambda bot_id: killed
    assert "killed" in await world.close(ticket)
    opened = await world.open(command_id=5)
    assert (opened.check, opened.trade_id) == ("switch", "")
    assert len(world.venue.resting) == 2
    reduce = SwitchState(state=TradingState.REDUCE_ONLY, source="everybody", reason="a test")
    world.engine.desk.switch_of = lambda bot_id: reduce
    assert (await world.open(command_id=6)).check == "switch"
    assert await world.close(ticket) == ""
    assert (await world.ended(ticket)).state is TradeState.CLOSED
    await world.stop()


async def test_one_command_is_one_ticket() -> None:
    world = TicketWorld()
    await world.begin()
    first = asyncio.ensure_future(world.engine.open_ticket(DESK, world.asked()))
    second = asyncio.ensure_future(world.engine.open_ticket(DESK, world.asked()))
    await world.clock.run_until(lambda: first.done() and second.done())
    assert first.result() == second.result()
    assert (await world.open()).trade_id == first.result().trade_id
    assert len(world.store.trades) == 1
    other = await world.open(command_id=2)
    assert other.trade_id != first.result().trade_id, "two requests are two tickets"
    await world.stop()


async def test_what_is_held_is_not_sold_by_others() -> None:
    world = TicketWorld()
    await world.begin()
    ticket = await world.held()
    purse = ticket.purse
    portfolio = world.engine.desk.portfolio
    assert portfolio.total(purse, "BTC") - portfolio.free(purse, "BTC") == D("0.0999")
    await world.close(ticket)
    await world.ended(ticket)
    assert portfolio.reservations == {}
    await world.stop()


async def test_a_deposit_while_a_position_stands_is_no_mystery_later() -> None:
    world = TicketWorld(real=True)
    await world.begin()
    ticket = await world.held()
    venue, explained = world.venue, world.engine.desk.explained
    await world.clock.advance(1)
    venue._money.free["BTC"] += D(3)  # somebody deposits
    for balance in await venue.balances():
        venue._tell(balance)
    await world.clock.advance(1)
    figures = next(one for one in await venue.balances() if one.asset == "BTC")
    judged = explained.judge(ticket.purse, figures)
    assert judged is not None
    assert judged.amount == 0
    await world.stop()


async def test_a_ticket_that_was_being_sent_is_settled_by_one_task_in_the_next_process(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """What the restart means for its order is news of it, which is no reason for a second task beside the first."""
    world = TicketWorld(real=True)
    await world.begin()
    opening = asyncio.ensure_future(world.engine.open_ticket(DESK, world.asked()))
    await world.clock.run_until(lambda: bool(world.venue.times))  # it is there, and not answered
    world.venue._listener = None
    store = world.store
    events, history = ({key: list(found) for key, found in kept.items()} for kept in (store.events, store.history))
    states = dict(store.states)
    await world.die()
    opening.cancel()
    store.events, store.history, store.states = events, history, states  # a killed process writes nothing more
    assert OrderState.SENDING in store.states.values()
    begun: list[bool] = []
    run = Trades.run

    def counted(trades: Trades, bot_id: int, trade_id: str, route: str, work: Awaitable[None]) -> None:
        begun.append(trade_id in trades.tasks)
        run(trades, bot_id, trade_id, route, work)

    monkeypatch.setattr(Trades, "run", counted)
    await world.rise()
    world.show(world.alpha, "49990", "50000")
    await world.clock.run_until(lambda: [one.state for one in world.store.trades.values()] == [TradeState.HOLDING])
    await world.clock.advance(1)
    assert begun
    assert not any(begun)
    assert len(world.venue.protected) == 1
    assert len(world.venue.resting) == 2
    await world.stop()


@pytest.mark.parametrize(("size", "share", "seconds"), [("5", "90%", "7.5"), ("0.02", "41%", "21.8")])
async def test_an_adaptive_entry_is_as_eager_as_the_book_is_deep(size: str, share: str, seconds: str) -> None:
    world = TicketWorld(real=True)
    await world.begin()
    world.show(world.alpha, "49990", "50000", size)
    world.feeds["alpha"].books[world.alpha.key].asks.replace([(50_000.0, float(size))])
    opening = asyncio.ensure_future(world.engine.open_ticket(DESK, world.asked(style=WorkingStyle(), adapts="style")))
    await world.clock.run_until(opening.done)
    trade_id = opening.result().trade_id
    await world.clock.run_until(lambda: "PLACED" in world.store.states.values())
    (intent,) = world.store.intents.values()
    style = world.record(trade_id).ticket.style
    assert f"{style.buy_share:.0%}" == share
    assert intent.price == limit_price_in_spread(world.alpha, D(49990), D(50000), "buy", style.buy_share, D(50500))
    told = f"a limit that gives up {share} of the spread, for at most {seconds} s (liquidity "
    steps = {step.step: step.text for step in world.record(trade_id).standing.progress}
    assert steps["placing order"].startswith(told)
    assert next(one.cause for one in world.store.events[intent.client_order_id] if one.cause).startswith(told)
    await world.stop()
