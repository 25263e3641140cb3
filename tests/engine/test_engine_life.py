"""The engine as a whole: what starts, stops, blocks and refuses, and why."""

from __future__ import annotations

import asyncio
from decimal import Decimal

import msgspec
import pytest

from tests.engine.worlds import World, spec, spot
from trading.config import BotConfig
from trading.execution.hindsight import LATER_SECONDS
from trading.messages import OrderState as S
from trading.messages import TradeState as T

D = Decimal


async def started(**bot: object) -> World:
    world = World(faulty=True, **bot)
    await world.start()
    return world


def bot_of(world: World, bot_id: int = 1) -> tuple[str, str]:
    status = next(status for status in world.engine.status().bots if status.bot_id == bot_id)
    return status.observed, status.reason


async def checks(world: World) -> list[str]:
    await world.clock.advance(LATER_SECONDS)  # so long a refusal waits to be recorded
    return [decision.check for decision in world.store.decisions]


async def test_a_stale_book_trades_nothing() -> None:
    world = await started(max_book_age_ms=500.0)
    world.show(world.beta, "50500", "50510")
    await world.clock.advance(0.6)
    world.show(world.alpha, "49990", "50000")
    await world.clock.settle()
    assert world.store.trades == {}
    assert await checks(world) == ["book_age"]
    assert world.pages.of("opportunity")[0]["check"] == "book_age"
    await world.stop()


async def test_a_market_that_is_not_live_trades_nothing() -> None:
    world = await started()
    world.show(world.beta, "50500", "50510")
    world.feeds["beta"].sink.on_status(world.beta.key, "stale", "silent")
    world.show(world.alpha, "49990", "50000")
    world.feeds["beta"].sink.on_status(world.beta.key, "stale", "silent")
    await world.clock.settle()
    assert world.store.trades == {}
    await world.stop()


async def test_an_edge_too_good_to_be_true_is_refused() -> None:
    world = await started(max_edge_bps=50.0)
    await world.edge()
    assert world.store.trades == {}
    assert await checks(world) == ["max_edge"]
    await world.stop()


async def test_an_account_whose_stream_is_down_takes_no_trades() -> None:
    world = await started()
    world.other_venue.lose_stream()
    assert bot_of(world)[0] == "blocked"
    await world.edge()
    assert world.store.trades == {}
    assert await checks(world) == ["bot_state"]
    world.other_venue.regain_stream()
    assert bot_of(world) == ("running", "")
    # The edge that stood there all the while is seen now.
    await world.clock.run_until(lambda: world.store.trades and not world.engine.status().open_trades)
    await world.stop()


async def test_a_lost_stream_is_made_good_by_asking_when_it_is_back() -> None:
    world = await started()
    world.one_venue.script = ["silent"]
    await world.edge()
    await world.clock.advance(0.1)
    began = world.clock.monotonic_ns()
    world.one_venue.lose_stream()
    world.one_venue.regain_stream()
    await world.clock.run_until(lambda: not world.engine.status().open_trades)
    assert world.clock.monotonic_ns() - began < 0.5 * 10**9
    world.check_money()
    await world.stop()


async def test_no_durable_intent_no_order() -> None:
    world = await started()
    world.store.available = False
    await world.edge()
    await world.clock.settle()
    assert world.one_venue.sent == world.other_venue.sent == []
    assert world.engine.desk.portfolio.reservations == {}
    assert (await checks(world))[-1] == "store"
    world.store.available = True
    world.show(world.alpha, "49980", "49999")
    await world.clock.run_until(lambda: world.store.trades and not world.engine.status().open_trades)
    assert next(iter(world.store.trades.values())).state is T.CLOSED
    await world.stop()


async def test_a_lost_lease_stops_sending_at_once() -> None:
    world = await started()
    world.store.lease_held = False
    await world.edge()
    await world.clock.settle()
    assert world.one_venue.sent == world.other_venue.sent == []
    assert "lease" in world.engine.halted
    assert world.engine.desk.portfolio.reservations == {}
    assert world.task is not None
    await world.task
    assert bot_of(world)[0] == "stopped"


async def test_a_lease_lost_between_commit_and_sending_sends_nothing() -> None:
    world = await started()
    commit = world.store.commit_trade

    async def lose(*arguments: object) -> None:
        await commit(*arguments)  # type: ignore[arg-type]
        world.engine.halt("another host has it")

    world.store.commit_trade = lose  # type: ignore[method-assign, assignment]
    await world.edge()
    assert world.one_venue.sent == world.other_venue.sent == []
    assert world.task is not None
    await world.task
    # The next holder finds two orders that may have been sent, and proves that they were not.
    assert set(world.store.states.values()) == {S.SENDING}


async def test_a_lease_that_ran_out_unnoticed_is_noticed_before_each_order_leaves() -> None:
    """The process stood still after its commit: nobody has told the engine anything, only the clock knows."""
    world = await started()
    asked: list[bool] = []

    def may_send() -> bool:
        asked.append(not asked)  # once: before all of them are sent; not again before the first
        return asked[-1]

    world.engine.desk.may_send = may_send
    await world.edge()
    assert world.one_venue.sent == world.other_venue.sent == []
    assert len(asked) > 1
    assert "run out" in world.engine.halted
    assert world.task is not None
    await world.task
    assert set(world.store.states.values()) == {S.SENDING}


async def test_a_lease_lost_before_a_repair_leaves_the_trade_to_the_next_holder() -> None:
    world = await started()
    world.other_venue.script = ["none"]
    await world.edge()
    world.store.lease_held = False
    assert world.task is not None
    await world.clock.run_until(world.task.done)
    (record,) = world.store.trades.values()
    assert record.state in {T.OPEN, T.REPAIRING}
    assert len(world.store.intents) == 2


async def test_one_trade_a_route_at_a_time() -> None:
    world = await started(max_open_trades=5)
    await world.edge()
    for ask in ("49999", "49998", "49997"):
        world.show(world.alpha, "49990", ask)
        await world.clock.settle()
    assert len(world.store.trades) == 1
    assert world.engine.status().bots[0].counters["refused_route_busy"] >= 3
    await world.stop()


async def test_a_route_cools_down() -> None:
    world = await started(cooldown_ms=5_000.0)
    await world.trade()
    world.show(world.alpha, "49990", "49999")
    await world.clock.settle()
    assert len(world.store.trades) == 1
    await world.clock.advance(5)
    world.show(world.alpha, "49990", "49998")
    await world.clock.settle()
    assert len(world.store.trades) == 2
    await world.stop()


async def test_trades_are_cut_to_what_both_accounts_can_pay() -> None:
    world = World(faulty=True, max_trade_notional=D(200_000))
    world.one_venue._money.free["USDT"] = D(20_000)
    await world.start()
    record = await world.trade()
    assert record.state is T.CLOSED
    assert D("0.39") < record.quantity < D("0.4")
    assert world.one_venue.money()["USDT"] >= 0
    await world.stop()


async def test_an_account_without_money_refuses_with_a_reason() -> None:
    world = World(faulty=True)
    world.one_venue._money.free["USDT"] = D(1)
    await world.start()
    await world.edge()
    assert await checks(world) == ["size"]
    assert "alpha:BTC/USDT takes orders of at least" in world.store.decisions[0].verdict.reason or (
        "below one lot" in world.store.decisions[0].verdict.reason
    )
    await world.stop()


async def test_stop_drains_open_trades() -> None:
    world = await started()
    await world.edge()
    assert world.engine.status().open_trades
    stopping = asyncio.ensure_future(world.engine.stop(drain_seconds=5))
    await world.clock.run_until(stopping.done)
    left = stopping.result()
    assert left.open_trades == []
    assert next(iter(world.store.trades.values())).state is T.CLOSED
    assert world.task is not None
    await world.task
    assert bot_of(world)[0] == "stopped"


async def test_stop_reports_what_it_had_to_leave_open() -> None:
    world = await started()
    world.other_venue.script = ["lose_request"]
    await world.edge()
    stopping = asyncio.ensure_future(world.engine.stop(drain_seconds=1))
    await world.clock.run_until(stopping.done)
    assert len(stopping.result().open_trades) == 1
    assert world.task is not None
    await world.task
    assert S.UNKNOWN in world.store.states.values() or S.SENDING in world.store.states.values()


async def test_update_starts_changes_and_stops_bots_without_a_restart() -> None:
    world = World(faulty=True)
    both = world.config
    world.config = msgspec.structs.replace(both, bots=())
    world.engine = world.make_engine()
    await world.start()
    assert world.engine.status().bots == []
    world.engine.update(both)
    await world.clock.settle()
    assert bot_of(world) == ("running", "")
    stricter = msgspec.structs.replace(world.bot, min_net_edge_bps=500.0, max_edge_bps=1000.0)
    world.engine.update(msgspec.structs.replace(both, bots=(stricter,)))
    await world.edge()
    assert world.store.trades == {}
    world.engine.update(both)
    world.show(world.alpha, "49990", "49999")
    await world.clock.settle()
    assert len(world.store.trades) == 1
    # A bot stopped with a trade open lets it finish.
    world.engine.update(msgspec.structs.replace(both, bots=()))
    assert bot_of(world)[0] == "stopping"
    await world.clock.run_until(lambda: not world.engine.status().open_trades)
    assert next(iter(world.store.trades.values())).state is T.CLOSED
    assert world.engine.status().bots == []
    assert world.pages.latest[7, "bot", "1"]["observed"] == "stopped"
    await world.stop()


async def test_update_may_not_change_the_lease() -> None:
    world = await started()
    with pytest.raises(ValueError, match="lease token"):
        world.engine.update(msgspec.structs.replace(world.config, lease_token=99))
    await world.stop()


async def test_a_bot_that_raises_stops_alone() -> None:
    world = World(faulty=True)
    other = msgspec.structs.replace(world.bot, bot_id=2, name="second", max_trade_notional=D(5_000))
    world.config = msgspec.structs.replace(world.config, bots=(world.bot, other))
    world.engine = world.make_engine()
    await world.start()
    broken = world.engine.roster.get(1)
    broken.limits = None  # type: ignore[assignment]
    await world.edge()
    await world.clock.run_until(lambda: world.store.trades and not world.engine.status().open_trades)
    assert bot_of(world, 1)[0] == "failed"
    assert bot_of(world, 2)[0] == "running"
    assert {record.bot_id for record in world.store.trades.values()} == {2}
    await world.stop()


async def test_a_bot_without_an_account_on_an_exchange_says_so() -> None:
    world = World(faulty=True, accounts={"alpha": 11})
    await world.start()
    state, reason = bot_of(world)
    assert state == "failed"
    assert "beta" in reason
    await world.stop()


async def test_the_days_loss_stops_the_bot() -> None:
    world = await started(max_daily_loss=D(100), realised_today={"simulated": {"USDT": D("-99")}})
    world.other_venue.script = ["none"]
    await world.edge()
    world.show(world.beta, "49900", "49910")
    await world.clock.run_until(lambda: world.store.trades and not world.engine.status().open_trades)
    (record,) = world.store.trades.values()
    assert record.realised_profit is not None
    assert record.realised_profit < -1
    await world.clock.advance(0.01)  # books of the moment its last order ended are not traded on
    await world.edge()
    assert (await checks(world))[-1] == "daily_loss"
    # A new day starts from zero.
    await world.clock.advance(86_400)
    world.show(world.alpha, "49990", "49999")
    world.show(world.beta, "50500", "50510")
    await world.clock.settle()
    assert len(world.store.trades) == 2
    await world.stop()


async def test_foreign_orders_are_counted_and_never_touched() -> None:
    world = await started()
    theirs = await world.one_venue.balances()
    from tests.execution.makers import event

    world.one_venue._tell(event(S.PLACED, client_order_id="x-somebody-else", account_id=11))
    assert world.engine.status().counters["foreign_events"] == 1
    assert await world.one_venue.balances() == theirs
    await world.stop()


async def test_latencies_are_measured_by_stage() -> None:
    world = await started()
    await world.trade()
    latency = world.engine.status().latency
    assert {name for name, figures in latency.items() if figures["count"]} == {
        "book_to_decision",
        "decision_to_committed",
        "committed_to_sent",
        "sent_to_answered",
        "sent_to_filled",
    }
    assert latency["sent_to_answered"]["p50_us"] >= 40_000
    await world.stop()


async def test_pages_are_told_of_bots_trades_and_balances() -> None:
    world = await started()
    record = await world.trade()
    (page,) = world.pages.of("trade")
    assert page["state"] == "CLOSED"
    assert Decimal(str(page["profit"])) == record.realised_profit
    assert [leg["state"] for leg in page["legs"]] == ["FILLED", "FILLED"]  # type: ignore[index, attr-defined]
    assert {page["asset"] for page in world.pages.of("balance")} == {"BTC", "USDT"}
    assert world.pages.of("bot")[0]["observed"] == "running"
    assert world.pages.of("opportunity")[0]["taken"] is True
    await world.stop()


# -- real or paper ----------------------------------------------------------------------------------------------


def live_world(**changes: object) -> World:
    world = World(faulty=True)
    accounts = tuple(
        world.account(account_id, code, exchange=spec(code, "live"), armed_for_live=True)
        for account_id, code in ((11, "alpha"), (12, "beta"))
    )
    settings: dict[str, object] = {"accounts": accounts, "live_allowed": True, **changes}
    world.config = msgspec.structs.replace(world.config, **settings)
    world.engine = world.make_engine()
    return world


async def traded_for_real(world: World) -> bool:
    await world.start()
    await world.trade()
    await world.stop()
    real = len(world.one_venue.sent) + len(world.other_venue.sent)
    assert real in {0, 2}
    (record,) = world.store.trades.values()
    assert record.mode == ("live" if real else "paper")
    return bool(real)


async def test_three_yeses_send_real_orders() -> None:
    assert await traded_for_real(live_world())


async def test_without_the_installations_yes_it_is_paper() -> None:
    assert not await traded_for_real(live_world(live_allowed=False))


async def test_without_the_bots_yes_it_is_paper() -> None:
    world = live_world()
    paper = msgspec.structs.replace(world.bot, mode="paper")
    world.config = msgspec.structs.replace(world.config, bots=(paper,))
    world.engine = world.make_engine()
    assert not await traded_for_real(world)


async def test_one_account_not_armed_puts_both_legs_on_paper() -> None:
    world = live_world()
    first, second = world.config.accounts
    second = msgspec.structs.replace(second, armed_for_live=False)
    world.config = msgspec.structs.replace(world.config, accounts=(first, second))
    world.engine = world.make_engine()
    assert not await traded_for_real(world)


async def test_real_money_never_trades_against_a_simulated_exchange() -> None:
    world = live_world()
    first, second = world.config.accounts
    second = msgspec.structs.replace(second, exchange=spec("beta", "simulated"))
    world.config = msgspec.structs.replace(world.config, accounts=(first, second))
    world.engine = world.make_engine()
    await world.start()
    state, reason = bot_of(world)
    assert state == "failed"
    assert "simulated money" in reason
    await world.stop()


async def test_paper_and_real_money_of_one_account_are_apart() -> None:
    world = World(faulty=True)
    on_paper = msgspec.structs.replace(world.bot, bot_id=2, name="second", mode="paper")
    world.config = msgspec.structs.replace(world.config, bots=(world.bot, on_paper))
    world.engine = world.make_engine()
    await world.start()
    await world.edge()
    await world.clock.run_until(lambda: not world.engine.status().open_trades)
    modes = {record.bot_id: record.mode for record in world.store.trades.values()}
    assert modes == {1: "simulated", 2: "paper"}
    real = {intent.client_order_id for intent in world.one_venue.sent + world.other_venue.sent}
    real_trade = next(record.trade_id for record in world.store.trades.values() if record.mode != "paper")
    assert {client_id[: len(real_trade)] for client_id in real} == {real_trade}
    await world.stop()


async def test_bots_of_other_pairs_share_an_account() -> None:
    world = World(faulty=True)
    ether = [spot(code, "ETH/USDT") for code in ("alpha", "beta")]
    for venue, market in zip((world.one_venue, world.other_venue), ether, strict=True):
        venue.add_markets([market])
        venue._money.free["ETH"] = D(100)
    second = BotConfig(
        bot_id=2,
        name="ether",
        mode="live",
        markets=tuple(ether),
        accounts={"alpha": 11, "beta": 12},
        max_trade_notional=D(10_000),
        max_book_age_ms=1e9,
    )
    world.config = msgspec.structs.replace(world.config, bots=(world.bot, second))
    world.engine = world.make_engine()
    await world.start()
    world.show(ether[0], "2990", "3000", size="50")
    world.show(ether[1], "3030", "3031", size="50")
    await world.edge()
    await world.clock.run_until(lambda: len(world.store.trades) == 2 and not world.engine.status().open_trades)
    assert {record.base for record in world.store.trades.values()} == {"BTC", "ETH"}
    assert all(record.state is T.CLOSED for record in world.store.trades.values())
    await world.stop()


async def test_the_next_trade_waits_for_a_book_that_knows_of_our_last_order() -> None:
    world = await started()
    await world.trade()
    await world.clock.advance(0.001)
    world.show(world.alpha, "49990", "49999")  # the bought side is new, the sold one is from before our order
    await world.clock.settle()
    assert len(world.store.trades) == 1
    assert world.engine.status().bots[0].counters["refused_own_order"] >= 1
    world.show(world.beta, "50500.5", "50510")
    await world.clock.run_until(lambda: len(world.store.trades) == 2)
    await world.stop()


async def test_a_leg_without_request_budget_keeps_the_other_from_being_sent() -> None:
    world = await started()
    asked: list[str] = []
    released: list[str] = []

    def none_left(client_order_id: str) -> float:
        asked.append(client_order_id)
        return 1.5

    world.other_venue.reserve_order = none_left  # type: ignore[method-assign]
    world.one_venue.release_order = released.append  # type: ignore[method-assign]
    await world.edge()
    assert (await checks(world))[-1] == "request_budget"
    assert world.store.decisions[-1].verdict.reason == "The request budget of beta is used up for 1.50 s."
    assert world.one_venue.sent == world.other_venue.sent == []
    assert len(asked) == len(released) >= 1
    assert world.engine.desk.portfolio.reservations == {}
    await world.stop()
