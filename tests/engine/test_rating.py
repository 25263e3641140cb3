"""How large an opportunity is traded: thin books, restless prices and slippage seen each take their share of it."""

from __future__ import annotations

import math
from decimal import Decimal

import msgspec
import pytest

from risk.policy.realised import Learned
from risk.policy.score import ScoreWeights
from risk.policy.sizing import SizingRules
from risk.policy.slippage import SlippageRules
from tests.engine.worlds import World
from trading.config import RatingRules, RiskPicture
from trading.marketdata.climate import NS
from trading.messages import Assessment, TradeRecord

D = Decimal
LOOSE = SlippageRules(cap_bps=1000.0, share_of_profit=1.0, drift_sigmas=0.0, impact_coefficient=0.0)
RULES = RatingRules(slippage=LOOSE)


def world_with(rules: RatingRules = RULES, learned: dict[str, Learned] | None = None, **bot: object) -> World:
    world = World(**bot)  # type: ignore[arg-type]
    world.config = msgspec.structs.replace(world.config, risk=RiskPicture(rating=rules, learned=learned or {}))
    world.engine = world.make_engine()
    return world


async def traded(world: World, *, size: str = "5") -> tuple[TradeRecord, Assessment]:
    await world.start()
    world.show(world.alpha, "49990", "50000", size)
    world.show(world.beta, "50500", "50510", size)
    await world.clock.settle()
    await world.clock.run_until(lambda: world.store.trades and not world.engine.status().open_trades)
    (record,) = world.store.trades.values()
    assessment = (await world.decided()).assessment
    assert assessment is not None
    await world.stop()
    return record, assessment


async def test_the_size_is_the_limit_times_the_factors_shown() -> None:
    record, shown = await traded(world_with(), size="5")
    # Books of 250 000 USDT are deep enough; 80 bps after fees are far more than twice the 2 bps demanded; nothing is
    # known of the volatility. What is left is the score and the unknown volatility's half.
    assert shown.factors == {
        "depth": 1.0, "volatility": 0.5, "reward": 1.0, "score": pytest.approx(shown.score), "breaker": 1.0,
    }  # fmt: skip
    assert shown.notional == pytest.approx(10_000 * 0.5 * shown.score)
    weights = ScoreWeights()
    parts = msgspec.structs.asdict(weights)
    assert shown.score == pytest.approx(
        sum(parts[name] * shown.components[name] for name in parts) / sum(parts.values())
    )
    assert (
        record.quantity == D(int(shown.notional / (50_500 * 0.9998) * 10_000)) / 10_000
    )  # whole lots, at the dearer limit


async def test_a_thin_book_shrinks_the_trade() -> None:
    deep, _ = await traded(world_with(), size="5")
    world = world_with()

    def show_thin(market, bid, ask, size) -> None:
        """Without the worse level behind the best."""
        feed = world.feeds[market.exchange]
        book = feed.books[market.key]
        book.bids.replace([(float(bid), 0.4)])
        book.asks.replace([(float(ask), 0.4)])
        book.ready = True
        feed.sink.on_status(market.key, "live", "")
        feed.sink.on_book(book)

    world.show = show_thin  # type: ignore[method-assign]
    thin, shown = await traded(world)
    # A quarter of 0.4 x 50 000: half of the limit of 10 000.
    assert shown.factors["depth"] == pytest.approx(0.5, rel=0.02)
    assert thin.quantity < deep.quantity


async def test_a_restless_market_shrinks_the_trade_and_lowers_its_score() -> None:
    def with_moves(bps: float) -> World:
        world = world_with()
        starting = world.start

        async def start() -> None:
            await starting()
            state = world.hub.state(world.alpha.key)
            for key in (world.alpha.key, world.beta.key):
                state = world.hub.state(key)
                for second in range(-200, 0):
                    price = 50_000.0 * math.exp((second % 2) * bps / 1e4)
                    state.climate.on_trade(price, 1.0, second * NS)

        world.start = start  # type: ignore[method-assign]
        return world

    calm, calm_shown = await traded(with_moves(1.0))
    wild, wild_shown = await traded(with_moves(5.0))
    assert calm_shown.factors["volatility"] == 1.0
    assert wild_shown.factors["volatility"] == pytest.approx(10.0 / (5.0 * math.sqrt(60)), rel=0.05)
    assert wild_shown.components["volatility"] < calm_shown.components["volatility"]
    assert wild.quantity < calm.quantity


async def test_slippage_beyond_the_threshold_cuts_the_size_to_what_keeps_it() -> None:
    # The walk: 0.02 BTC at the best price, the rest one USDT worse, which is 0.2 bps a side at the most.
    strict = RatingRules(slippage=SlippageRules(cap_bps=0.1, drift_sigmas=0.0, impact_coefficient=0.0),
                         sizing=SizingRules(volatility_unknown=1.0, depth_share=1.0))  # fmt: skip
    record, shown = await traded(world_with(strict), size="0.02")
    assert shown.costs_bps["walk_bps"] == pytest.approx(0.1, rel=0.05)
    assert shown.costs_bps["slippage_limit_bps"] == pytest.approx(0.1)
    assert record.quantity * 50_000 < D(repr(shown.notional)) + 10
    loose, _ = await traded(world_with(), size="0.02")
    assert record.quantity < loose.quantity


async def test_drift_alone_beyond_the_threshold_refuses_with_its_figures() -> None:
    world = world_with(RatingRules(slippage=SlippageRules(cap_bps=0.5)))
    await world.start()
    await world.edge()
    decision = await world.decided()
    assert decision.check == "slippage"
    assert decision.verdict.figures["drift_bps"] == pytest.approx(0.8 * 2.0 * 2 * math.sqrt(0.25))
    await world.stop()


async def test_costs_are_charged_against_the_edge() -> None:
    costly = SlippageRules(cap_bps=1000.0, share_of_profit=1.0, drift_sigmas=0.0, impact_coefficient=300.0)
    world = world_with(RatingRules(slippage=costly), min_net_edge_bps=75.0)
    await world.start()
    await world.edge()
    decision = await world.decided()
    assert decision.check == "expected_costs"
    figures = decision.verdict.figures
    assert figures["after_costs_bps"] == pytest.approx(float(figures["net_bps"]) - float(figures["impact_bps"]))
    assert float(figures["after_costs_bps"]) < 75.0 < float(figures["net_bps"])
    await world.stop()


async def test_what_slippage_has_taught_is_demanded_on_top() -> None:
    taught = {"alpha:BTC/USDT": Learned(70.0, 1.0), "beta:BTC/USDT": Learned(20.0, 1.0)}
    world = world_with(learned=taught)
    await world.start()
    await world.edge()
    decision = await world.decided()
    assert decision.check == "expected_costs"
    assert "90.00 of them for slippage seen" in decision.verdict.reason
    await world.stop()


async def test_trades_lost_on_a_route_lower_its_score() -> None:
    route = "alpha:BTC/USDT>beta:BTC/USDT"
    _, fresh = await traded(world_with())
    _, proven = await traded(world_with(record={route: (96, 4)}))
    _, bad = await traded(world_with(record={route: (4, 96)}))
    assert bad.components["success"] < fresh.components["success"] == 0.5 < proven.components["success"]
    assert bad.notional < fresh.notional < proven.notional


async def test_of_two_bots_that_want_the_same_money_the_worthier_opportunity_goes_first() -> None:
    """Both see the same route; the second bot's limit is larger, and so is what its opportunity earns."""
    world = world_with()
    small = msgspec.structs.replace(world.bot, max_trade_notional=D(1000))
    large = msgspec.structs.replace(world.bot, bot_id=2, name="second", max_trade_notional=D(100_000))
    world.config = msgspec.structs.replace(world.config, bots=(small, large))
    world.engine = world.make_engine()
    await world.start()
    await world.edge()
    (record,) = world.store.trades.values()
    assert record.bot_id == 2
    await world.decided()
    checks = [decision.check for decision in world.store.decisions]
    assert sorted(checks) == ["", "own_order"]  # the other one would meet what this one left of the books
    await world.stop()
