"""Two coins of one name, or a hidden multiplier: what keeps them from being traded against each other.

Networks and contracts, as exchanges tell them, prove two coins one or two (tests/bots/test_tradability.py reads them
with the real clients); what they show is refused here, before any price is looked at. Where nothing is told, a price
far from the other's is refused, by the edge and by its distance from the pair's other markets.
"""

from __future__ import annotations

from decimal import Decimal

import pytest

from tests.engine.worlds import World, spot
from trading.arbitrage.routes import route_refusal
from trading.instruments import base_quantity

D = Decimal


async def looked_at(world: World, alpha: str, beta: str) -> str:
    """Show a price on each exchange and return the check that refused to trade between them; empty if none did."""
    await world.start()
    for market, price in ((world.alpha, alpha), (world.beta, beta)):
        world.show(market, str(D(price) * D("0.9999")), price)
    await world.clock.settle()
    await world.clock.advance(1)
    checks = [decision.check for decision in world.store.decisions]
    traded = bool(world.store.trades)
    await world.stop()
    assert traded is not bool(checks[0])
    return checks[0]


@pytest.mark.parametrize("beta", ["50000000", "66000", "51100"])
async def test_fault_52_another_coin_of_the_name_is_not_traded_for_its_price(beta: str) -> None:
    assert await looked_at(World(faulty=True), "50000", beta) == "max_edge"


async def test_fault_52_a_market_far_from_the_pairs_others_is_not_traded() -> None:
    world = World(faulty=True, max_quote_deviation_bps=20.0, max_edge_bps=1000.0)
    assert await looked_at(world, "50000", "50500") == "quote_deviation"


async def test_fault_52_a_difference_between_those_limits_is_traded() -> None:
    assert await looked_at(World(faulty=True), "50000", "50500") == ""


async def test_fault_52_a_route_between_other_coins_is_refused_at_any_price() -> None:
    world = World(faulty=True, untradable={"alpha:BTC/USDT>beta:BTC/USDT": "Two different coins."})
    assert await looked_at(world, "50000", "50500") == "tradability"


async def test_fault_52_the_way_back_is_a_route_of_its_own() -> None:
    world = World(faulty=True, untradable={"beta:BTC/USDT>alpha:BTC/USDT": "Two different coins."})
    assert await looked_at(world, "50000", "50500") == ""


@pytest.mark.parametrize(("environment", "check"), [("simulated", ""), ("live", "tradability")])
async def test_fault_52_coins_not_known_to_be_one_are_not_traded_with_real_money(environment: str, check: str) -> None:
    unproven = {"alpha:BTC/USDT>beta:BTC/USDT": "Not known to be the same coin."}
    world = World(faulty=True, environment=environment, unproven=unproven)
    assert await looked_at(world, "50000", "50500") == check


def test_fault_52_a_multiplier_in_the_name_is_another_asset() -> None:
    assert "1000SHIB" in route_refusal(spot("alpha", "1000SHIB/USDT"), spot("beta", "SHIB/USDT"))


def test_fault_52_a_contracts_multiplier_counts_in_its_size() -> None:
    thousand = spot("alpha", "SHIB/USDT", kind="linear", settle="USDT", contract_size=D(1000))
    assert base_quantity(thousand, D(3), D("0.00002")) == 3000
