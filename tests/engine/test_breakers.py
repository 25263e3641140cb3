"""Circuit breakers in a running engine: losses trip them, time and clean trades bring the size back, step by step."""

from __future__ import annotations

from decimal import Decimal

import msgspec

from risk.policy.breakers import Breaker, BreakerEvent, BreakerNews, BreakerRules, BreakerState, Scope, settled
from risk.policy.rulebook import DEFAULTS, ScopeRules
from risk.policy.threshold import Day, ThresholdRules
from risk.policy.triggers import Trigger, TriggerRules, Trip
from tests.engine.worlds import OWNER, World
from trading.config import PastResult, RiskPicture
from trading.messages import TradeRecord, TradeState
from trading.ports import StoreUnavailable

D = Decimal
RULES = BreakerRules(
    cooldown_seconds=60.0, clean_per_step=2, steps=(0.25, 0.5, 1.0), probe_edge_factor=1.5, probe_seconds=30.0
)


def picture(**triggers: object) -> RiskPicture:
    """Rules that trip the bot's breaker alone."""
    quiet = {scope: ScopeRules(breaker=RULES) for scope in Scope}
    return RiskPicture(rules={**quiet, Scope.BOT: ScopeRules(breaker=RULES, triggers=TriggerRules(**triggers))})  # type: ignore[arg-type]


def world_with(risk: RiskPicture, **options: object) -> World:
    world = World(faulty=True, max_repair_loss=D(10_000), unwind_tolerance_bps=2000.0, **options)  # type: ignore[arg-type]
    world.config = msgspec.structs.replace(world.config, risk=risk)
    world.store.breaker_rules = risk.rules
    world.engine = world.make_engine()
    return world


async def finish(world: World) -> TradeRecord:
    await world.clock.run_until(lambda: world.store.trades and not world.engine.status().open_trades)
    return list(world.store.trades.values())[-1]


async def show_edge(world: World) -> None:
    """Show an edge in books that are new enough to show what our last trade left of them."""
    await world.clock.advance(5)
    await world.no_edge()
    await world.edge()


async def lose(world: World) -> TradeRecord:
    """Let a trade's second leg fill only after the edge has gone."""
    world.other_venue.script = ["none"]
    before = len(world.store.trades)
    await show_edge(world)
    assert len(world.store.trades) == before + 1, world.store.decisions[-1:]
    await world.no_edge()
    record = await finish(world)
    assert record.realised_profit is not None
    assert record.realised_profit < 0
    return record


async def win(world: World) -> TradeRecord:
    before = len(world.store.trades)
    await show_edge(world)
    assert len(world.store.trades) == before + 1, world.store.decisions[-1:]
    record = await finish(world)
    assert record.realised_profit is not None
    assert record.realised_profit > 0
    return record


def bots_breaker(world: World) -> Breaker:
    return world.store.breakers[Scope.BOT, "1"]


async def test_losses_in_a_row_stop_the_bot_and_the_size_comes_back_in_steps() -> None:
    world = world_with(picture(consecutive_losses=2))
    await world.start()
    full = (await win(world)).quantity
    await lose(world)
    await lose(world)
    await world.clock.settle()
    assert bots_breaker(world).state is BreakerState.OPEN
    assert "2 trades in a row ended at a loss" in bots_breaker(world).reason

    trades = len(world.store.trades)
    await show_edge(world)
    assert (await world.decided()).check == "breaker"
    assert "circuit breaker of bot 1 is open until" in (await world.decided()).verdict.reason
    assert (await world.decided()).verdict.until == bots_breaker(world).until_ns

    await world.no_edge()
    await world.clock.advance(61)
    await show_edge(world)  # the first opportunity after the cool-down claims the probe
    assert len(world.store.trades) == trades
    assert "One trade may claim its probe" in (await world.decided()).verdict.reason
    await world.clock.advance(0.1)
    assert bots_breaker(world).state is BreakerState.PROBING
    probe = await win(world)
    assert probe.quantity == D("0.0001")  # the least both markets take: 5 USDT, one lot
    await world.clock.settle()
    assert bots_breaker(world).state is BreakerState.RAMPING
    sizes = [(await win(world)).quantity for _ in range(7)]
    step = D("0.0001")
    assert sizes[:2] == [full / 4 // step * step] * 2
    assert sizes[2:4] == [full / 2 // step * step] * 2
    assert sizes[4:] == [full] * 3
    await world.clock.settle()
    assert bots_breaker(world).state is BreakerState.CLOSED
    await world.stop()


async def test_a_loss_drops_a_step_and_a_lost_probe_cools_down_for_longer() -> None:
    world = world_with(picture(consecutive_losses=1))
    await world.start()
    await lose(world)
    await world.clock.advance(61)
    await show_edge(world)
    await world.clock.advance(0.1)
    await lose(world)
    await world.clock.settle()
    breaker = bots_breaker(world)
    assert (breaker.state, breaker.trips) == (BreakerState.OPEN, 2)
    assert breaker.until_ns is not None
    assert (breaker.until_ns - world.clock.time_ns()) / 1e9 > 100  # twice the first one's 60 s
    await world.stop()


async def test_repairs_of_open_trades_go_on_while_a_breaker_is_open() -> None:
    world = world_with(picture())
    await world.start()
    world.other_venue.script = ["none"]
    await world.edge()
    world.engine.breakers._trip((Scope.GLOBAL, ""), Trip(trigger=Trigger.OPERATOR, reason="Stop."), "")
    record = await finish(world)
    assert record.state is TradeState.CLOSED
    assert len(world.other_venue.sent) == 2  # the leg, and what made up for it
    await world.stop()


async def test_what_another_process_trips_holds_here_and_its_reset_lets_go() -> None:
    world = world_with(picture())
    await world.start()
    elsewhere = BreakerNews(
        scope=Scope.EXCHANGE, key="beta", event=BreakerEvent.OPERATOR_TRIP, at_ns=world.clock.time_ns(), reason="Fire."
    )
    tripped = world.store.breaker_moved(elsewhere)
    world.engine.update(
        msgspec.structs.replace(world.engine.config, risk=msgspec.structs.replace(picture(), tripped=(tripped,)))
    )
    await world.edge()
    assert world.store.trades == {}
    assert "exchange beta is open" in (await world.decided()).verdict.reason
    world.store.breaker_moved(msgspec.structs.replace(elsewhere, event=BreakerEvent.RESET))
    world.engine.update(msgspec.structs.replace(world.engine.config, risk=picture()))
    await world.no_edge()
    assert (await world.trade()).state is TradeState.CLOSED
    await world.stop()


async def test_a_restart_finds_the_breaker_as_it_was() -> None:
    world = world_with(picture(consecutive_losses=1))
    await world.start()
    await lose(world)
    await world.clock.settle()
    await world.stop()
    tripped = tuple(breaker for breaker in world.store.breakers.values() if breaker.state is not BreakerState.CLOSED)
    world.config = msgspec.structs.replace(
        world.config, risk=msgspec.structs.replace(world.config.risk, tripped=tripped)
    )
    world.engine = world.make_engine(token=4)
    await world.start()
    await world.clock.advance(10)  # the first comparison with the exchanges is over
    trades = len(world.store.trades)
    await show_edge(world)
    assert len(world.store.trades) == trades
    assert (await world.decided()).check == "breaker"
    await world.stop()


def restarted(*profits: int, **triggers: object) -> World:
    """Return a world whose engine starts after trades of the bot with these results."""
    world = world_with(picture(**triggers))
    results = tuple(
        PastResult(trade_id=f"of-before-{n}", at_ns=world.clock.time_ns() - 60 * 10**9, profit=D(profit),
                   keys=((Scope.BOT, "1"),))
        for n, profit in enumerate(profits)
    )  # fmt: skip
    world.config = msgspec.structs.replace(world.config, results=results)
    world.engine = world.make_engine(token=4)
    return world


async def test_losses_of_before_a_restart_go_on_counting() -> None:
    world = restarted(-5, 7, -5, consecutive_losses=2)
    await world.start()
    await world.clock.advance(10)
    assert not world.store.breakers
    await lose(world)
    await world.clock.settle()
    assert "2 trades in a row ended at a loss" in bots_breaker(world).reason
    await world.stop()


async def test_rules_of_another_scope_change_and_what_was_counted_stays() -> None:
    world = world_with(picture(consecutive_losses=2))
    await world.start()
    await lose(world)
    changed = {**picture(consecutive_losses=2).rules, Scope.PAIR: ScopeRules(triggers=TriggerRules(rejects=3))}
    world.engine.update(msgspec.structs.replace(world.engine.config, risk=RiskPicture(rules=changed)))
    world.store.breaker_rules = changed
    await lose(world)
    await world.clock.settle()
    assert "2 trades in a row ended at a loss" in bots_breaker(world).reason
    await world.stop()


async def test_a_trip_that_died_with_its_process_is_made_up_for() -> None:
    world = restarted(-5, -5, window_loss=D(10))
    await world.start()
    await world.clock.advance(1)
    assert (bots_breaker(world).state, bots_breaker(world).trigger) == (BreakerState.OPEN, "window_loss")
    await world.stop()
    world = restarted(-5, -5, 1, window_loss=D(10))  # it traded on: whoever saw that trip has made it durable
    await world.start()
    await world.clock.advance(1)
    assert not world.store.breakers
    await world.stop()


async def test_a_database_that_is_away_delays_the_row_and_not_the_stop() -> None:
    world = world_with(picture(consecutive_losses=1))
    await world.start()
    moved = world.store.breaker_moved
    away = True

    def refusing(news: BreakerNews) -> Breaker:
        if away:
            raise StoreUnavailable("the database is away")
        return moved(news)

    world.store.breaker_moved = refusing  # type: ignore[method-assign]
    await lose(world)
    assert world.store.breakers == {}
    trades = len(world.store.trades)
    await show_edge(world)
    assert len(world.store.trades) == trades
    assert (await world.decided()).check == "breaker"
    away = False
    await world.clock.advance(2)
    assert bots_breaker(world).state is BreakerState.OPEN
    await world.stop()


async def test_the_days_loss_is_measured_from_its_peak_and_stops_the_owner_until_midnight() -> None:
    threshold = ThresholdRules(share_of_equity=D(0), share_of_profit=D("0.5"), floor=D(30), ceiling=D(10_000))
    quiet = {scope: ScopeRules(breaker=RULES) for scope in Scope}
    rules = {**quiet, Scope.OWNER: ScopeRules(breaker=RULES, threshold=threshold)}
    world = world_with(RiskPicture(rules=rules))
    await world.start()
    won = (await win(world)).realised_profit
    assert won is not None
    lost = D(0)
    while -lost < 30 + won:
        profit = (await lose(world)).realised_profit
        assert profit is not None
        lost += profit
        await world.clock.settle()
        allowed = max(D(30), won / 2)
        owner = world.store.breakers.get((Scope.OWNER, str(OWNER)))
        assert (owner is not None) == (-lost >= allowed)
        if owner is not None:
            break
    assert owner is not None
    assert "below its peak" in owner.reason
    day = 86_400 * 10**9
    assert owner.until_ns == (world.clock.time_ns() // day + 1) * day
    await world.stop()


async def test_a_restart_remembers_how_high_the_day_was() -> None:
    threshold = ThresholdRules(share_of_equity=D(0), share_of_profit=D(0), floor=D(5_000))
    quiet = {scope: ScopeRules(breaker=RULES) for scope in Scope}
    world = world_with(RiskPicture(rules={**quiet, Scope.OWNER: ScopeRules(breaker=RULES, threshold=threshold)}))
    number = world.clock.time_ns() // (86_400 * 10**9)
    # Of bots that do not run any more, too: it is the owner's day.
    today = {"simulated": {"USDT": Day(number=number, realised=D(1_000), peak=D(6_000))}}
    world.config = msgspec.structs.replace(world.config, today=today)
    world.engine = world.make_engine(token=4)
    await world.start()
    loss = (await lose(world)).realised_profit
    await world.clock.settle()
    assert loss is not None
    owner = world.store.breakers[Scope.OWNER, str(OWNER)]
    assert owner.state is BreakerState.OPEN
    assert owner.reason.startswith(f"Today's result is {1_000 + loss:f}, {5_000 - loss:f} below its peak")
    await world.stop()


async def test_one_legged_trades_and_a_dead_feed_trip_where_they_happen() -> None:
    rules = {
        **{scope: ScopeRules(breaker=RULES) for scope in Scope},
        Scope.PAIR_ON_EXCHANGE: ScopeRules(breaker=RULES, triggers=TriggerRules(stale_seconds=5.0)),
        Scope.BOT: ScopeRules(breaker=RULES, triggers=TriggerRules(one_legged=2)),
    }
    world = world_with(RiskPicture(rules=rules))
    await world.start()
    await lose(world)
    await world.clock.settle()
    assert (Scope.BOT, "1") not in world.store.breakers
    await lose(world)
    await world.clock.settle()
    assert "filled on one side only" in bots_breaker(world).reason
    world.feeds["beta"].sink.on_status(world.beta.key, "down", "the connection was closed")
    await world.clock.advance(8)
    stale = world.store.breakers[Scope.PAIR_ON_EXCHANGE, "beta:BTC/USDT"]
    assert (stale.state, stale.trigger) == (BreakerState.OPEN, "stale")
    assert (Scope.PAIR_ON_EXCHANGE, "alpha:BTC/USDT") not in world.store.breakers
    await world.stop()


async def test_a_feed_that_stays_down_keeps_its_breaker_open_with_one_alarm_and_few_rows() -> None:
    rules = {
        **{scope: ScopeRules(breaker=RULES) for scope in Scope},
        Scope.PAIR_ON_EXCHANGE: ScopeRules(breaker=RULES, triggers=TriggerRules(stale_seconds=5.0)),
    }
    world = world_with(RiskPicture(rules=rules))
    told: list[BreakerNews] = []
    moved = world.store.breaker_moved

    def counted(news: BreakerNews) -> Breaker:
        told.append(news)
        return moved(news)

    world.store.breaker_moved = counted  # type: ignore[method-assign]
    await world.start()
    await world.no_edge()
    world.feeds["beta"].sink.on_status(world.beta.key, "down", "the connection was closed")
    for _ in range(60):
        await world.clock.advance(10)
        if told:
            stale = world.store.breakers[Scope.PAIR_ON_EXCHANGE, "beta:BTC/USDT"]
            assert settled(stale, world.clock.time_ns()).state is BreakerState.OPEN
            assert stale.trips == 1
    assert 10 <= len(told) <= 12  # each minute: its cool-down is 60 s
    assert len([alarm for alarm in world.alarms if "circuit breaker" in alarm]) == 1
    await world.stop()


async def test_rejected_orders_and_unanswered_ones_count_at_the_exchange() -> None:
    rules = {
        **{scope: ScopeRules(breaker=RULES) for scope in Scope},
        Scope.ACCOUNT: ScopeRules(breaker=RULES, triggers=TriggerRules(rejects=2, rejects_seconds=600.0)),
    }
    world = world_with(RiskPicture(rules=rules))
    await world.start()
    world.other_venue.script = ["reject", "reject"]
    await world.edge()
    await finish(world)
    assert world.store.breakers[Scope.ACCOUNT, "12"].trigger == "rejects"
    assert (Scope.ACCOUNT, "11") not in world.store.breakers
    await world.stop()


async def test_paper_trades_tell_only_of_their_own_bot() -> None:
    world = World()
    world.config = msgspec.structs.replace(world.config, risk=RiskPicture(rules=DEFAULTS))
    await world.start()
    record = await world.trade()
    saga = world.engine.trades.of_order(next(iter(world.store.intents)))
    assert saga is not None
    assert saga.record.trade_id == record.trade_id
    assert world.engine.breakers._keys_of_trade(saga) == ((Scope.BOT, "1"),)
    await world.stop()


async def test_an_event_the_store_will_never_take_holds_up_no_other() -> None:
    world = world_with(picture(consecutive_losses=1, one_legged=1))
    await world.start()
    moved = world.store.breaker_moved

    def refusing(news: BreakerNews) -> Breaker:
        if news.trigger == "one_legged":
            raise ValueError("key: no such bot")
        return moved(news)

    world.store.breaker_moved = refusing  # type: ignore[method-assign]
    await lose(world)
    await world.clock.advance(2)
    assert any("one_legged" not in alarm and "is not stored: ValueError" in alarm for alarm in world.alarms)
    assert bots_breaker(world).trigger == "consecutive_losses"
    await world.stop()
