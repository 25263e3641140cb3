"""A pair that loses on one exchange is paused there, goes on elsewhere, and comes back there step by step."""

from __future__ import annotations

from decimal import Decimal

import pytest

from risk.policy.breakers import BreakerEvent, BreakerRules, BreakerState, Scope
from tests.exchangesim.simulator import Simulator
from tests.scenarios.stage import BTC, ETH, least_of, pair_rules, staged

D = Decimal
PAIR = (Scope.PAIR_ON_EXCHANGE, "binance-sim:BTC/USDT")


async def test_it_is_paused_there_and_goes_on_between_the_other_exchanges(simulator: Simulator) -> None:
    rules = pair_rules(BreakerRules(cooldown_seconds=600.0), consecutive_losses=3)
    async with staged(simulator, risk=rules, symbols=(BTC, ETH)) as stage:
        stage.dear("binance", BTC)
        # The others earn in between: three losses in a row are there where they come from alone.
        await stage.lose("binance", "okx")
        await stage.win("okx", "bybit")
        await stage.lose("bybit", "binance")
        await stage.win("bybit", "okx")
        assert stage.tripped() == []
        await stage.lose("binance", "okx")
        await stage.until(stage.tripped, "the breaker trips")
        assert stage.tripped() == [PAIR]
        assert stage.store.breakers[PAIR].state is BreakerState.OPEN
        assert stage.store.breakers[PAIR].reason == "3 trades in a row ended at a loss; 3 stop trading."

        orders = stage.orders("binance")
        for route in (("binance", "okx"), ("bybit", "binance")):
            decision = await stage.refused(*route, check="breaker")
            assert "pair on exchange binance-sim:BTC/USDT is open until" in decision.verdict.reason
            assert decision.verdict.until == stage.store.breakers[PAIR].until_ns
        assert stage.orders("binance") == orders
        await stage.win("okx", "bybit", BTC)
        await stage.win("binance", "okx", ETH)
        assert stage.tripped() == [PAIR]


async def test_it_comes_back_by_a_probe_and_a_quarter_and_a_half_of_the_size(simulator: Simulator) -> None:
    rules = BreakerRules(cooldown_seconds=3.0, clean_per_step=1, steps=(0.25, 0.5, 1.0), probe_seconds=30.0)
    async with staged(simulator, risk=pair_rules(rules, consecutive_losses=2)) as stage:
        full = (await stage.win("binance", "okx")).quantity
        stage.dear("binance")
        await stage.lose("binance", "okx")
        await stage.lose("bybit", "binance")
        await stage.until(stage.tripped, "the breaker trips")
        simulator.clear_faults()
        await stage.refused("binance", "okx", check="breaker")

        # What is refused while it cools down is traded as soon as it has, by the probe that the first look claims.
        probe = await stage.win("binance", "okx")
        assert probe.quantity == least_of(stage, "binance", "okx")
        quantities = [(await stage.win("binance", "okx")).quantity for _ in range(4)]
        lot = D("0.00001")
        assert [quantity // lot for quantity in quantities] == [
            full / 4 // lot, full / 2 // lot, full // lot, full // lot,
        ]  # fmt: skip
        await stage.until(lambda: not stage.tripped(), "the breaker closes")
        assert [(event, breaker.state, breaker.step) for event, breaker in stage.steps_of(PAIR)] == [
            (BreakerEvent.TRIP, BreakerState.OPEN, 0),
            (BreakerEvent.PROBE_CLAIMED, BreakerState.PROBING, 0),
            (BreakerEvent.CLEAN, BreakerState.RAMPING, 0),
            (BreakerEvent.CLEAN, BreakerState.RAMPING, 1),
            (BreakerEvent.CLEAN, BreakerState.RAMPING, 2),
            (BreakerEvent.CLEAN, BreakerState.CLOSED, 0),
        ]
        assert [breaker.version for _, breaker in stage.store.steps] == [1, 2, 3, 4, 5, 6]


async def test_a_probe_that_loses_cools_down_for_twice_as_long(simulator: Simulator) -> None:
    rules = BreakerRules(cooldown_seconds=1.0, clean_per_step=1, probe_seconds=30.0)
    async with staged(simulator, risk=pair_rules(rules, consecutive_losses=2)) as stage:
        stage.dear("binance")
        await stage.lose("binance", "okx")
        await stage.lose("bybit", "binance")
        await stage.lose("binance", "okx")
        await stage.until(lambda: stage.store.breakers[PAIR].trips == 2, "the breaker trips again")
        (_, first), _, (event, again) = stage.steps_of(PAIR)
        assert event is BreakerEvent.LOSS
        assert again.state is BreakerState.OPEN
        assert first.until_ns is not None
        assert again.until_ns is not None
        seconds = [(breaker.until_ns - breaker.since_ns) / 1e9 for breaker in (first, again)]  # type: ignore[operator]
        assert seconds == [pytest.approx(1.0), pytest.approx(2.0)]
