"""A profitable day raises the loss that stops trading by the share the formula gives, and it stops exactly there."""

from __future__ import annotations

from decimal import Decimal

from risk.policy.breakers import BreakerState, Scope
from risk.policy.rulebook import ScopeRules
from risk.policy.threshold import ThresholdRules, loss_threshold
from tests.exchangesim.simulator import Simulator
from tests.scenarios.stage import NAMES, OWNER, Stage, profit_of, quiet, staged
from trading.config import RiskPicture

D = Decimal
DAY_NS = 86_400 * 10**9
KEY = (Scope.OWNER, str(OWNER))
# Of some 6 million USDT in all accounts 60 may be lost a day, and half of what the day has earned on top.
RULES = ThresholdRules(share_of_equity=D("0.00001"), share_of_profit=D("0.5"), floor=D(10), ceiling=D(1_000))


def equity(stage: Stage) -> Decimal:
    """Return what the exchanges say the accounts hold, BTC at the mid price that the engine takes."""
    mid = stage.engine.desk.value("BTC", "USDT")
    assert mid is not None
    held = [stage.simulator.balances(stage.keys[name]) for name in NAMES]
    return sum((D(one["USDT"]["total"]) + D(one["BTC"]["total"]) * mid for one in held), D(0))


async def lose_until_stopped(stage: Stage) -> tuple[Decimal, Decimal, Decimal]:
    """Lose until the owner's breaker trips; return the drawdown before and after the last trade, and the threshold."""
    peak = realised = sum((profit_of(record) for record in stage.store.trades.values()), D(0))
    stage.dear("binance", times=15)
    while True:
        before = peak - realised
        realised += profit_of(await stage.lose("binance", "okx"))
        # The breaker is tripped where the trade's end is told, before anybody sees the trade finished.
        if (tripped := stage.engine.breakers.tripped([KEY])) and tripped[0].state is BreakerState.OPEN:
            await stage.until(lambda: KEY in stage.store.breakers, "the breaker is in the store")
            stage.simulator.clear_faults()
            (figures,) = stage.store.figures[KEY]
            assert (D(str(figures["realised"])), D(str(figures["peak"]))) == (realised, peak)
            threshold = D(str(figures["threshold"]))
            assert threshold == loss_threshold(D(str(figures["equity"])), peak, RULES)
            assert abs(D(str(figures["equity"])) / equity(stage) - 1) < D("0.003")  # the mid moves with the edge
            return before, peak - realised, threshold


async def test_a_day_without_profit_stops_at_the_share_of_equity(simulator: Simulator) -> None:
    rules = quiet(owner=ScopeRules(threshold=RULES))
    async with staged(simulator, risk=RiskPicture(rules=rules)) as stage:
        before, after, threshold = await lose_until_stopped(stage)
        assert before < threshold <= after
        assert abs(threshold - RULES.share_of_equity * equity(stage)) < 1


async def test_a_profitable_day_may_lose_half_its_profit_more(simulator: Simulator) -> None:
    rules = quiet(owner=ScopeRules(threshold=RULES))
    async with staged(simulator, risk=RiskPicture(rules=rules)) as stage:
        earned = sum([profit_of(await stage.win("binance", "okx")) for _ in range(3)], D(0))
        assert earned > 80
        before, after, threshold = await lose_until_stopped(stage)
        assert before < threshold <= after
        # Losses went on beyond what would have stopped a day without profit.
        assert before > RULES.share_of_equity * equity(stage)
        raised = threshold - RULES.share_of_equity * equity(stage)
        assert abs(raised - earned / 2) < 1

        breaker = stage.store.breakers[KEY]
        assert breaker.until_ns is not None
        assert breaker.until_ns % DAY_NS < 10**9  # until midnight UTC, to the rounding of a float of seconds
        decision = await stage.refused("okx", "bybit", check="breaker")
        assert f"owner {OWNER} is open until" in decision.verdict.reason
        assert "below its peak" in decision.verdict.reason
