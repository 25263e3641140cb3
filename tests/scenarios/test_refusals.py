"""What no exchange should be sent an order for: a quote too good to be true, a market that is halted."""

from __future__ import annotations

import pytest

from risk.policy.breakers import BreakerRules, BreakerState, Scope
from tests.exchangesim.simulator import Simulator
from tests.scenarios.stage import BTC, EDGE, NAMES, pair_rules, profit_of, quiet, staged
from trading.config import RiskPicture
from trading.messages import TradeState


async def test_a_quote_that_is_too_good_is_refused_with_its_figures(simulator: Simulator) -> None:
    async with staged(simulator, risk=RiskPicture(rules=quiet()), max_edge_bps=30.0) as stage:
        decision = await stage.refused("binance", "okx", check="max_edge")
        assert decision.verdict.figures["gross_bps"] == pytest.approx(40.0, abs=0.05)
        assert decision.verdict.reason == (
            "The edge before fees is 40.0 bps, above 30.0 bps: too good to be true, "
            "check that both markets trade the same asset."
        )
        assert [stage.orders(name) for name in NAMES] == [0, 0, 0]
        await stage.win("binance", "okx", edge=EDGE * 5 / 8)  # 25 bps: the same route at a price one can believe


async def test_a_halted_markets_rejections_stop_the_pair_there(simulator: Simulator) -> None:
    rules = pair_rules(BreakerRules(cooldown_seconds=600.0), rejects=1)
    # Whatever else was bought meanwhile is sold again at once.
    async with staged(simulator, risk=rules, unwind_tolerance_bps=200.0) as stage:
        simulator.call("POST", "/market", {"exchange": "okx", "symbol": BTC, "halted": True})
        try:
            stage.books.edge(BTC, "binance", "okx")
            await stage.until(stage.tripped, "the breaker trips")
            ((scope, key),) = stage.tripped()
            assert (scope, key) == (Scope.PAIR_ON_EXCHANGE, "okx-sim:BTC/USDT")
            assert stage.store.breakers[scope, key].state is BreakerState.OPEN
            await stage.until(lambda: not stage.engine.status().open_trades, "the trade is finished")
            await stage.calm(BTC)
            (record,) = stage.store.trades.values()
            assert (record.state, record.residual_base) == (TradeState.CLOSED, 0)
            assert profit_of(record) < 0
            await stage.refused("binance", "okx", check="breaker")
            await stage.win("binance", "bybit")
        finally:
            simulator.call("POST", "/market", {"exchange": "okx", "symbol": BTC, "halted": False})
