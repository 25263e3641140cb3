"""A thin book and a volatile spell shrink a trade, each by the factor that its formula gives of what was shown."""

from __future__ import annotations

import asyncio
import math
import random
from decimal import Decimal
from itertools import pairwise

import pytest

from risk.policy.sizing import ROOT_OF_A_MINUTE, SizingRules
from risk.policy.slippage import SlippageRules
from risk.policy.volatility import Ewma
from tests.exchangesim.simulator import Simulator
from tests.scenarios.stage import BTC, EDGE, SPREAD, Stage, quiet, staged
from trading.clock import SystemClock
from trading.config import RatingRules, RiskPicture
from trading.messages import Assessment, TradeRecord

D = Decimal
# Slippage is no bound here, so that the size is what the factors make of it.
LOOSE = SlippageRules(cap_bps=1000.0, share_of_profit=1.0, drift_sigmas=0.0, impact_coefficient=0.0)
LIMIT = 10_000
PACE_SECONDS = 0.1  # between public trades; the estimate takes a return every SAMPLE_SECONDS
SAMPLE_SECONDS = 0.05


def risk(**sizing: float) -> RiskPicture:
    return RiskPicture(rules=quiet(), rating=RatingRules(slippage=LOOSE, sizing=SizingRules(**sizing)))


async def sized(stage: Stage) -> tuple[TradeRecord, Assessment]:
    """Trade once, and check that the size is the limit times the factors; return both."""
    record = await stage.win("binance", "okx")
    dear = float(stage.books.fair[BTC] * (1 + EDGE))
    (decision,) = [decision for decision in stage.store.decisions if decision.trade_id == record.trade_id]
    shown = decision.assessment
    assert shown is not None
    assert shown.notional == pytest.approx(LIMIT * math.prod(shown.factors.values()))
    # Whole lots at the dearer limit, which stands 2 bps beyond the price walked.
    assert float(record.quantity) == pytest.approx(shown.notional / (dear * 0.9998), abs=2e-5)
    return record, shown


async def test_a_thin_book_shrinks_the_trade_to_its_share_of_the_depth(simulator: Simulator) -> None:
    async with staged(simulator, risk=risk()) as stage:
        deep, shown = await sized(stage)
        assert shown.factors["depth"] == 1.0

        stage.books.sizes["okx", BTC] = D("0.3")
        thin, shown = await sized(stage)
        # A quarter of 0.3 BTC at 50 200 are 3765 USDT of the 10 000 that the limit allows.
        assert shown.factors["depth"] == pytest.approx(0.25 * 0.3 * 50_200 / LIMIT, rel=2e-3)
        assert thin.quantity < deep.quantity / 2

        stage.books.sizes["okx", BTC] = D("0.03")
        _, shown = await sized(stage)
        assert shown.factors["depth"] == pytest.approx(0.25 * 0.03 * 50_200 / LIMIT, rel=2e-3)


class Tape:
    """Public trades at prices that walk, on two exchanges alike."""

    def __init__(self, stage: Stage, seed: int) -> None:
        self.stage = stage
        self.random = random.Random(seed)
        self.printed: list[tuple[float, float]] = []  # seconds, price

    async def walk(self, bps: float, trades: int) -> None:
        """Let so many trades happen, the price moving ``bps`` up or down between two.

        They are measured by themselves, since our own trades before were at prices far from theirs; and as in life,
        but for a pace that a test can wait for.
        """
        stage, books = self.stage, self.stage.books
        self.printed.clear()
        for name in ("binance", "okx"):
            climate = stage.hub.state(f"{name}-sim:{BTC}").climate
            climate.volatility = Ewma(half_life_s=3.0, sample_s=SAMPLE_SECONDS, min_samples=10)
        for _ in range(trades):
            up = self.random.choice((1, -1))
            fair = books.fair[BTC] = (books.fair[BTC] * (1 + up * D(repr(bps)) / 10_000)).quantize(D("0.1"))
            for name in ("binance", "okx"):
                books.prices[name, BTC] = ((fair * (1 - SPREAD)).quantize(D("0.1")), fair)
            await books.show()
            heard = stage.hub.trades
            for name in ("binance", "okx"):
                await asyncio.to_thread(stage.simulator.trade, name, BTC, "BUY", "0.001")
            await stage.until(lambda heard=heard: stage.hub.trades >= heard + 2, "the public trades are heard")
            self.printed.append((SystemClock().monotonic_ns() / 1e9, float(fair)))
            await SystemClock().sleep(PACE_SECONDS)
        await stage.calm(BTC)

    def sigma(self) -> float:
        """Return the walk's volatility in basis points per root second, every trade weighing alike."""
        tape = self.printed
        squares = sum((math.log(after / before) * 1e4) ** 2 for (_, before), (_, after) in pairwise(tape))
        return math.sqrt(squares / (tape[-1][0] - tape[0][0]))


async def test_a_volatile_spell_shrinks_the_trade_by_target_over_measured(simulator: Simulator) -> None:
    async with staged(simulator, risk=risk(volatility_floor=0.01)) as stage:
        unknown, shown = await sized(stage)
        assert shown.factors["volatility"] == SizingRules().volatility_unknown

        tape = Tape(stage, seed=1)
        await tape.walk(0.2, 20)
        calm, shown = await sized(stage)
        assert shown.factors["volatility"] == 1.0

        await tape.walk(4.0, 20)
        wild, shown = await sized(stage)
        measured = SizingRules().volatility_target_bps / ROOT_OF_A_MINUTE / shown.factors["volatility"]
        assert measured == pytest.approx(tape.sigma(), rel=0.35)
        assert shown.factors["volatility"] < 0.3
        assert wild.quantity < unknown.quantity < calm.quantity
