"""The engine compares its accounts with their exchanges: only when nothing moves, and what is a fact it books."""

from __future__ import annotations

import asyncio
from decimal import Decimal

import msgspec

from tests.engine.worlds import MONEY, OWNER, World
from trading.execution.ids import client_order_id, trade_id
from trading.execution.reconciler import PATIENT_ROUNDS
from trading.execution.reconciliation import (
    Difference,
    DifferenceCause,
    DifferenceKind,
    Executions,
    Expected,
    Findings,
    Reading,
    explained_contracts,
)  # fmt: skip
from trading.messages import AccountPosition, AccountPositions, Fill, Forced, OrderEvent, OrderState, TradeState
from trading.portfolio import Purse

D = Decimal
STRAY = client_order_id(trade_id("test", OWNER, 2, 5), 0, 0)


async def world_live(**options: object) -> World:
    world = World(faulty=True, **options)  # type: ignore[arg-type]
    world.store.markets = {market.key: market for market in (world.alpha, world.beta)}
    await world.start()
    return world


async def look(world: World) -> list[str]:
    """Compare all accounts now; return why any of them was not."""
    looking = asyncio.ensure_future(world.engine.reconcile())
    await world.clock.run_until(looking.done)
    return [outcome.why for outcome in looking.result()]


def causes(world: World, account: int = 11) -> dict[str, DifferenceCause]:
    return {found.key: found.cause for found in world.store.differences[account]}


async def test_the_first_look_opens_the_ledger_and_trading_keeps_it_equal() -> None:
    world = await world_live()
    assert await look(world) == ["", ""]
    assert world.store.opened == {11: MONEY, 12: MONEY}
    await world.trade()
    assert await look(world) == ["", ""]
    assert world.store.differences == {11: (), 12: ()}
    assert world.alarms == []
    await world.stop()


async def test_it_looks_by_itself_every_minute() -> None:
    world = await world_live()
    await world.clock.advance(200)
    assert world.engine.reconciler.counters["reconciliations"] == 2 * 4
    await world.stop()


async def test_a_deposit_is_seen_told_once_and_goes_when_the_books_follow() -> None:
    world = await world_live()
    await look(world)
    world.one_venue._money.free["USDT"] += D("12.5")
    await look(world)
    await look(world)
    assert causes(world) == {"USDT": DifferenceCause.DEPOSIT}
    assert [alarm for alarm in world.alarms if "differences" in alarm] == [
        "account 11: 1 new differences between our books and the exchange"
    ]
    world.store.opened[11] = {**world.store.opened[11], "USDT": MONEY["USDT"] + D("12.5")}
    await look(world)
    assert causes(world) == {}
    await world.stop()


async def test_a_fill_of_ours_that_nobody_told_is_booked_by_the_ordinary_path() -> None:
    world = await world_live()
    await look(world)
    record = await world.trade()
    venue = world.one_venue
    (first,) = venue._orders[venue.sent[0].client_order_id].fills
    late = msgspec.structs.replace(first, exchange_trade_id="late", quantity=D("0.0001"), fee=D(0))
    event = venue._orders[first.client_order_id]
    venue._orders[first.client_order_id] = msgspec.structs.replace(event, fills=(first, late))
    venue._money.free["BTC"] += late.quantity
    venue._money.free["USDT"] -= late.quantity * late.price
    await look(world)
    assert (11, late.market, "late") in world.store.fills
    assert any("late fill" in alarm for alarm in world.alarms)
    await world.clock.run_until(lambda: not world.engine.status().open_trades)
    await look(world)
    assert world.store.differences[11] == ()
    assert record.trade_id in world.store.trades
    await world.stop()


async def test_nothing_is_compared_while_an_order_is_under_way() -> None:
    world = await world_live()
    await look(world)
    world.one_venue.script = ["lose_request"]
    await world.edge()
    await world.clock.run_until(lambda: world.engine.status().open_trades)
    assert await look(world) == ["orders are under way"] * 2
    await world.stop()


async def test_assets_of_a_disputed_order_are_left_out_and_the_others_compared() -> None:
    world = await world_live()
    await look(world)
    world.one_venue.script = ["lose_request"]
    world.one_venue.answers_queries = False
    await world.trade()
    world.one_venue._money.free["ETH"] = D(3)
    world.one_venue._money.free["BTC"] += 1
    await look(world)
    assert causes(world) == {"ETH": DifferenceCause.DEPOSIT}
    await world.stop()


async def test_a_disputed_order_whose_executions_are_listed_is_no_question_any_more() -> None:
    world = await world_live()
    world.one_venue.script = ["lose_answer"]
    world.one_venue.answers_queries = False
    record = await world.trade()
    (client_id,) = world.engine.status().unresolved_orders
    assert world.store.states[client_id] is OrderState.DISPUTED
    await look(world)
    assert world.store.states[client_id] is OrderState.FILLED
    await world.clock.run_until(lambda: not world.engine.status().open_trades)
    assert world.store.trades[record.trade_id].state is TradeState.CLOSED
    await world.stop()


async def test_an_open_order_of_somebody_else_is_counted_and_not_touched(monkeypatch) -> None:
    world = await world_live()
    await look(world)
    foreign = OrderEvent(
        account_id=11, market=world.alpha.key, client_order_id="", exchange_order_id="x-1", state=OrderState.PLACED,
        source="query",
    )  # fmt: skip

    async def open_orders():
        return [foreign]

    async def cancel(intent):
        raise AssertionError("a foreign order was touched")

    monkeypatch.setattr(world.one_venue, "open_orders", open_orders)
    monkeypatch.setattr(world.one_venue, "cancel", cancel)
    await look(world)
    assert causes(world) == {"x-1": DifferenceCause.FOREIGN_ORDER}
    assert world.engine.account_views()[11].state == "live"
    await world.stop()


async def test_an_order_of_ours_nobody_knows_blocks_the_account_until_it_is_dismissed(monkeypatch) -> None:
    world = await world_live()
    await look(world)
    stray = Fill(
        account_id=11, market=world.alpha.key, exchange_trade_id="s-1", exchange_order_id="x-2", client_order_id=STRAY,
        side="buy", price=D(100), quantity=D("0.01"), fee=D(0), fee_asset="USDT", liquidity="taker",
        exchange_ns=world.clock.time_ns(),
    )  # fmt: skip
    real = world.one_venue.trades
    world.one_venue._money.free["BTC"] += stray.quantity
    world.one_venue._money.free["USDT"] -= stray.price * stray.quantity

    async def trades(market, since_ns):
        return [stray]

    monkeypatch.setattr(world.one_venue, "trades", trades)
    await look(world)
    assert causes(world) == dict.fromkeys([STRAY, "BTC", "USDT"], DifferenceCause.UNKNOWN_ORDER)
    view = world.engine.account_views()[11]
    assert view.state == "blocked"
    assert STRAY in view.reason
    (bot,) = world.engine.status().bots
    assert (bot.observed, bot.reason) == ("blocked", view.reason)
    world.one_venue._money.free["BTC"] -= stray.quantity
    world.one_venue._money.free["USDT"] += stray.price * stray.quantity
    monkeypatch.setattr(world.one_venue, "trades", real)
    await look(world)
    assert causes(world) == {STRAY: DifferenceCause.UNKNOWN_ORDER}
    assert world.engine.account_views()[11].state == "blocked"
    await world.stop()
    world.engine = world.make_engine(4)  # what another process found holds for this one
    await world.start()
    assert world.engine.account_views()[11].state == "blocked"
    world.store.differences[11] = ()
    await look(world)
    assert world.engine.account_views()[11].state == "live"
    await world.stop()


async def test_an_exchange_that_does_not_answer_leaves_everything_as_it_was(monkeypatch) -> None:
    world = await world_live()

    async def nothing():
        return None

    monkeypatch.setattr(world.one_venue, "open_orders", nothing)
    assert await look(world) == ["the exchange does not tell balances, positions and open orders", ""]
    assert list(world.store.opened) == [12]
    await world.stop()


async def test_figures_that_move_while_they_are_read_are_read_again(monkeypatch) -> None:
    world = await world_live()
    await look(world)
    venue, real = world.one_venue, world.one_venue.open_orders
    moved = []

    async def open_orders():
        if not moved:
            moved.append(1)
            venue._money.free["USDT"] += 1
        return await real()

    monkeypatch.setattr(venue, "open_orders", open_orders)
    assert await look(world) == ["", ""]
    assert causes(world) == {"USDT": DifferenceCause.DEPOSIT}
    await world.stop()


async def test_one_account_that_breaks_stops_no_other(monkeypatch) -> None:
    world = await world_live()

    async def broken():
        raise RuntimeError("a bug")

    monkeypatch.setattr(world.one_venue, "open_orders", broken)
    assert await look(world) == ["RuntimeError: a bug", ""]
    assert any("account 11 can't be reconciled" in alarm for alarm in world.alarms)
    await world.stop()


async def test_paper_accounts_are_not_compared() -> None:
    world = World()
    await world.start()
    await world.no_edge()
    assert await look(world) == []
    await world.stop()


async def test_executions_are_asked_for_only_when_balances_have_moved(monkeypatch) -> None:
    world = await world_live()
    await look(world)
    asked = []
    real = world.one_venue.trades

    async def trades(market, since_ns):
        asked.append(market)
        return await real(market, since_ns)

    monkeypatch.setattr(world.one_venue, "trades", trades)
    await look(world)
    assert asked == []
    world.one_venue._money.free["USDT"] += 1
    await look(world)
    await look(world)
    assert asked == [world.alpha.key]
    world.one_venue._money.free["ETH"] = D(1)  # no market of ours has it
    await look(world)
    assert asked == [world.alpha.key] * 2
    await world.stop()


async def test_an_account_is_not_traded_on_before_its_last_comparison_is_known() -> None:
    world = World(faulty=True)
    expected = world.store.expected
    known = asyncio.Event()

    async def slow(*rest, **options):
        await known.wait()
        return await expected(*rest, **options)

    world.store.expected = slow  # type: ignore[method-assign]
    await world.start()
    await world.edge()
    (bot,) = world.engine.status().bots
    assert (bot.observed, bot.reason) == ("starting", "account 11: what the last comparison found is being read")
    known.set()
    await world.clock.run_until(lambda: world.engine.status().bots[0].observed == "running")
    await world.stop()


async def test_an_order_of_ours_nobody_knows_that_fills_is_booked_shown_and_blocks_until_dismissed() -> None:
    world = await world_live()
    await look(world)
    fill = Fill(
        account_id=11, market=world.alpha.key, exchange_trade_id="s-1", exchange_order_id="x-2", client_order_id=STRAY,
        side="buy", price=D(100), quantity=D("0.01"), fee=D(0), fee_asset="USDT", liquidity="taker",
        exchange_ns=world.clock.time_ns(),
    )  # fmt: skip
    world.one_venue._money.free["BTC"] += fill.quantity
    world.one_venue._money.free["USDT"] -= fill.quantity * fill.price
    event = OrderEvent(
        account_id=11, market=fill.market, client_order_id=STRAY, exchange_order_id="x-2", state=OrderState.FILLED,
        filled=fill.quantity, fills=(fill,), source="stream",
    )  # fmt: skip
    world.one_venue._tell(event)
    # It is looked at before the minute is over; its execution is booked, so that no balance differs.
    await world.clock.run_until(lambda: causes(world), 5)
    assert causes(world) == {STRAY: DifferenceCause.UNKNOWN_ORDER}
    assert world.store.fills[11, fill.market, "s-1"] == fill
    assert world.engine.account_views()[11].state == "blocked"
    world.store.dismissed[11] = frozenset({("unknown_order", STRAY)})
    await look(world)
    assert world.engine.account_views()[11].state == "live"
    world.one_venue._tell(event)  # told again
    await world.clock.settle()
    assert world.engine.account_views()[11].state == "live"
    await world.stop()


async def test_fault_40_what_still_differs_once_lagging_balances_have_come_is_a_difference(monkeypatch) -> None:
    world = await world_live()
    await look(world)
    stale = await world.one_venue.balances()
    real = world.one_venue.balances
    await world.trade()
    world.one_venue._money.free["USDT"] += D("12.5")  # a deposit on top, which the figures that lag don't show either
    lags = True

    async def balances():
        return stale if lags else await real()

    monkeypatch.setattr(world.one_venue, "balances", balances)
    looking = asyncio.ensure_future(world.engine.reconcile())
    await world.clock.advance(1)
    assert not looking.done()
    assert causes(world) == {}, "amounts count only when they are still the same a while later"
    lags = False
    await world.clock.run_until(looking.done)
    assert causes(world) == {"USDT": DifferenceCause.DEPOSIT}
    (found,) = world.store.differences[11]
    assert found.amount == D("12.5")
    await world.stop()


async def test_balances_that_lag_behind_executions_are_no_difference(monkeypatch) -> None:
    world = await world_live()
    await look(world)
    stale = [msgspec.structs.replace(figures) for figures in await world.one_venue.balances()]
    real, asked = world.one_venue.balances, []

    async def balances():
        asked.append(1)
        return stale if len(asked) <= 2 else await real()

    await world.trade()
    asked.clear()
    monkeypatch.setattr(world.one_venue, "balances", balances)
    assert await look(world) == ["", ""]
    assert causes(world) == {}
    assert not any("differences" in alarm for alarm in world.alarms)
    await world.stop()


async def test_an_account_that_trades_all_the_time_is_kept_quiet_to_be_compared(monkeypatch) -> None:
    world = await world_live()
    await look(world)
    reconciler = world.engine.reconciler
    purse = next(purse for purse in world.engine.desk.live_purses if purse.account_id == 11)
    in_flight, said = reconciler._in_flight, set()

    def always_trading(asked: Purse) -> frozenset[str] | None:
        """Trades follow each other as long as new ones may begin."""
        said.add(reconciler.needs_quiet(purse))
        return None if asked == purse and not reconciler.needs_quiet(purse) else in_flight(asked)

    monkeypatch.setattr(reconciler, "_in_flight", always_trading)
    looks = [await look(world) for _ in range(PATIENT_ROUNDS + 1)]  # the engine's own rounds come between
    assert looks[0] == ["orders are under way", ""]
    assert ["", ""] in looks
    assert any(f"put off {PATIENT_ROUNDS} times" in why for why in said)
    assert not reconciler.needs_quiet(purse)
    assert await look(world) == ["orders are under way", ""]  # and is let alone again
    await world.stop()


async def test_no_trade_begins_while_an_account_is_kept_quiet_and_one_does_afterwards(monkeypatch) -> None:
    world = await world_live()
    monkeypatch.setattr(world.engine.reconciler, "_in_flight", lambda _: None)  # as if an order took long
    looking = asyncio.ensure_future(world.engine.reconcile())
    await world.clock.settle()
    await world.edge()
    assert not world.store.trades
    assert world.pages.of("opportunity")[-1]["check"] == "comparison"
    monkeypatch.undo()
    await world.clock.run_until(looking.done)
    await world.clock.run_until(lambda: world.store.trades)  # though prices have not moved since
    await world.stop()


async def test_fault_39_what_was_taken_back_before_the_books_were_opened_is_shown_and_stays(monkeypatch) -> None:
    world = await world_live()
    record = await world.trade()
    assert record.state is TradeState.CLOSED

    async def trades(market, since_ns):
        return []

    # As if the exchange had undone it: the execution is listed no more, and the balances are what they were before it.
    monkeypatch.setattr(world.one_venue, "trades", trades)
    await look(world)
    assert world.store.differences[11] == ()  # a list may lag behind so far
    assert world.store.opened[11]
    await world.clock.advance(130)
    (found,) = world.store.differences[11]
    assert found.cause is DifferenceCause.TAKEN_BACK
    await world.clock.advance(600)
    assert world.store.differences[11] == (found,)
    await world.stop()


# --- positions -----------------------------------------------------------------------------------------------------

PERPETUAL = "alpha:BTC/USDT:USDT"


def hold(world: World, monkeypatch, quantity: str | None) -> None:
    """Let the exchange show a position in a contract; None: it doesn't answer."""

    async def positions():
        return None if quantity is None else [AccountPosition(market=PERPETUAL, side="both", quantity=D(quantity))]

    monkeypatch.setattr(world.one_venue, "positions", positions)


def tell(world: World, quantity: str) -> None:
    """Let the exchange tell of a position by itself."""
    position = AccountPosition(market=PERPETUAL, side="both", quantity=D(quantity))
    told = AccountPositions(account_id=11, positions=(position,), received_ns=world.clock.time_ns())
    world.engine.desk.holdings.on_positions(Purse(11, False), told)


async def test_a_position_that_changes_between_comparisons_is_compared_at_once(monkeypatch) -> None:
    world = await world_live()
    await look(world)
    tell(world, "-0.5")
    await world.clock.advance(4)
    before = world.engine.reconciler.counters["reconciliations"]
    hold(world, monkeypatch, "-0.5")
    tell(world, "-0.5")
    await world.clock.advance(8)
    assert world.engine.reconciler.counters["reconciliations"] > before
    assert [one.kind for one in world.store.differences[11]] == [DifferenceKind.POSITION]
    assert world.engine.desk.holdings.differences == {(11, PERPETUAL): D("-0.5")}
    await world.stop()


def test_what_a_comparison_explains_of_contracts() -> None:
    """All but what differs, be it in the books yet or not; a disputed contract is as the books have it."""
    kept, moved, gone, disputed = (f"{coin}/USDT:USDT" for coin in ("BTC", "ETH", "SOL", "XRP"))
    reading = Reading(
        balances={"USDT": D(5), kept: D(3), moved: D(7), disputed: D(9)}, exchange="alpha", open_orders=(),
        executions=Executions(),
    )  # fmt: skip
    expected = Expected(account_id=11, balances={"USDT": D(5), kept: D(2), moved: D(4), gone: D(1), disputed: D(8)})
    differences = tuple(
        Difference(
            kind=DifferenceKind.POSITION, key=name, asset=name, cause=DifferenceCause.UNEXPLAINED, suggestion="",
            amount=amount,
        )
        for name, amount in ((moved, D(3)), (gone, D(-1)))
    )  # fmt: skip
    found = explained_contracts(expected, reading, Findings(differences=differences), frozenset({disputed, "XRP"}))
    assert found == {kept: D(3), moved: D(4), gone: D(1), disputed: D(8)}


async def test_a_position_no_fill_explains_is_a_difference_once_it_stands_and_goes_with_it(monkeypatch) -> None:
    world = await world_live()
    await look(world)
    hold(world, monkeypatch, "-0.5")
    begun_ns = world.clock.monotonic_ns()
    assert await look(world) == ["", ""]
    assert world.clock.monotonic_ns() - begun_ns >= 3e9  # it was looked at again before it was believed
    (found,) = world.store.differences[11]
    assert (found.kind, found.key, found.market, found.amount) == (
        DifferenceKind.POSITION, "BTC/USDT:USDT", PERPETUAL, D("-0.5"),
    )  # fmt: skip
    assert found.cause is DifferenceCause.UNEXPLAINED
    assert "account 11: 1 new differences between our books and the exchange" in world.alarms
    await look(world)
    assert [alarm for alarm in world.alarms if "a position of" in alarm] == [
        f"account 11: the exchange shows a position of -0.5 in {PERPETUAL}, our books explain 0 "
        "(likely cause: unexplained)"
    ]
    hold(world, monkeypatch, None)
    assert (await look(world))[0] == "the exchange does not tell balances, positions and open orders"
    assert len(world.store.differences[11]) == 1
    hold(world, monkeypatch, "0")
    await look(world)
    assert world.store.differences[11] == ()
    await world.stop()


async def test_a_position_of_before_the_first_comparison_is_part_of_the_opening(monkeypatch) -> None:
    world = await world_live()
    hold(world, monkeypatch, "0.25")
    await look(world)
    assert world.store.opened[11] == {**MONEY, "BTC/USDT:USDT": D("0.25")}
    tell(world, "0.25")
    await world.clock.advance(4)
    tell(world, "0.25")
    assert world.engine.desk.holdings.differences == {}, "what opened the books is explained"
    await look(world)
    assert world.store.differences[11] == ()
    await world.stop()


async def test_what_the_exchange_closed_by_itself_is_told_and_looked_at_soon(monkeypatch) -> None:
    world = await world_live()
    await look(world)
    hold(world, monkeypatch, "-0.5")
    fill = Fill(
        account_id=11, market=PERPETUAL, exchange_trade_id="forced-1", exchange_order_id="x", side="sell",
        client_order_id="autoclose-1", price=D(40000), quantity=D("0.5"), fee=D(0), fee_asset="USDT",
        liquidity="taker", exchange_ns=world.clock.time_ns(), forced=Forced.LIQUIDATION.value,
    )  # fmt: skip
    event = OrderEvent(
        account_id=11, market=PERPETUAL, client_order_id="autoclose-1", exchange_order_id="x", state=OrderState.FILLED,
        filled=D("0.5"), fills=(fill,), source="stream",
    )  # fmt: skip
    before = world.engine.reconciler.counters["reconciliations"]
    world.engine._on_order_event(Purse(11, False), event)
    assert any("liquidated" in alarm and "sell 0.5" in alarm for alarm in world.alarms)
    await world.clock.advance(8)
    assert world.engine.reconciler.counters["reconciliations"] == before + 2
    assert [one.kind for one in world.store.differences[11]] == [DifferenceKind.POSITION]
    await world.stop()
