"""Limits of exchanges, pairs and lists reach the engine's decisions, and a refusal says whose limit it was."""

from __future__ import annotations

from decimal import Decimal

import msgspec
import pytest

from risk.policy.limits import RouteLimits
from tests.engine.worlds import World

D = Decimal
ALPHA, GAMMA, BTC = "exchange alpha", "exchange gamma", "pair BTC/USDT"


async def refusals(world: World) -> dict[str, str]:
    """The reasons of refused opportunities, by check; they are recorded a moment later."""
    await world.decided()
    return {
        decision.check: decision.verdict.reason
        for decision in world.store.decisions
        if not decision.verdict.allowed
    }  # fmt: skip


async def test_an_exchanges_trade_amount_sizes_its_trades() -> None:
    world = World(exchange_limits={"beta": RouteLimits(source="exchange beta", max_trade_notional=D(2_000))})
    await world.start()
    record = await world.trade()
    assert D(1_900) < record.quantity * D(50_500) <= D(2_000)
    await world.stop()


@pytest.mark.parametrize(
    ("limits", "check", "reason"),
    [
        (
            {"exchange_limits": {"alpha": RouteLimits(source=ALPHA, min_net_edge_bps=500.0)}},
            "min_net_edge", "at least 500.00 bps is wanted (exchange alpha).",
        ),
        (
            {"pair_limits": {"BTC/USDT": RouteLimits(source=BTC, max_exposure_asset=D(100))}},
            "asset_exposure", "at most 100 USDT are allowed (pair BTC/USDT).",
        ),
        (
            {"max_exposure_exchange": D(300), "limit_sources": {"max_exposure_exchange": "owner anna"}},
            "exchange_exposure", "at most 300 USDT are allowed (owner anna).",
        ),
        (
            {"allowed_pairs": frozenset({"ETH/USDT"}), "limit_sources": {"allowed_pairs": "everybody"}},
            "allowed_pair", "BTC/USDT is not among the pairs that may be traded: ETH/USDT (everybody).",
        ),
    ],
    ids=["exchange", "pair", "owner", "list"],
)  # fmt: skip
async def test_a_refusal_names_the_layer(limits: dict[str, object], check: str, reason: str) -> None:
    world = World(**limits)
    await world.start()
    await world.edge()
    given = await refusals(world)
    assert list(given) == [check]
    assert given[check].endswith(reason)
    assert not world.store.trades
    await world.stop()


async def test_limits_of_exchanges_the_route_does_not_touch_leave_it_alone() -> None:
    world = World(
        exchange_limits={"gamma": RouteLimits(source=GAMMA, min_net_edge_bps=500.0)},
        pair_limits={"ETH/USDT": RouteLimits(source="pair ETH/USDT", min_net_edge_bps=500.0)},
    )
    await world.start()
    await world.trade()
    await world.stop()


async def test_changed_limits_of_an_exchange_hold_for_the_next_opportunity() -> None:
    world = World()
    await world.start()
    await world.trade()
    await world.no_edge()
    await world.clock.advance(90)  # until the books no longer show the first trade's own orders
    world.store.decisions.clear()
    tight = {"alpha": RouteLimits(source=ALPHA, min_net_edge_bps=500.0)}
    bot = msgspec.structs.replace(world.bot, exchange_limits=tight)
    world.engine.update(msgspec.structs.replace(world.config, bots=(bot,)))
    await world.edge()
    assert list(await refusals(world)) == ["min_net_edge"]
    assert len(world.store.trades) == 1

    world.engine.update(world.config)
    await world.no_edge()
    await world.edge()
    await world.clock.run_until(lambda: len(world.store.trades) == 2 and not world.engine.status().open_trades)
    await world.stop()
