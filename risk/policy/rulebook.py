"""The rules of each scope's breakers: how they open and come back, what trips them, and the day's loss that does."""

from __future__ import annotations

from collections.abc import Mapping
from types import MappingProxyType

import msgspec

from risk.policy.breakers import BreakerRules, Scope
from risk.policy.threshold import ThresholdRules
from risk.policy.triggers import TriggerRules


class ScopeRules(msgspec.Struct, frozen=True, kw_only=True):
    """What operators set for a scope; without a threshold its breakers do not look at the day's loss."""

    breaker: BreakerRules = BreakerRules()
    triggers: TriggerRules = TriggerRules()
    threshold: ThresholdRules | None = None


# What holds until an operator says otherwise. A trigger is on where its evidence points: losses at a bot and at a
# pair on an exchange, answers and latency at an exchange, rejected orders and the books at an account. Of trades whose
# one leg finds nothing left there are some in every quick market, and repairs are made for them: only a flood trips.
DEFAULTS: Mapping[Scope, ScopeRules] = MappingProxyType(
    {
        Scope.GLOBAL: ScopeRules(),
        Scope.OWNER: ScopeRules(threshold=ThresholdRules()),
        Scope.BOT: ScopeRules(triggers=TriggerRules(consecutive_losses=5, one_legged=60, one_legged_seconds=60.0)),
        Scope.ACCOUNT: ScopeRules(triggers=TriggerRules(rejects=10, reconciliation_difference=True)),
        Scope.EXCHANGE: ScopeRules(triggers=TriggerRules(error_rate=0.5, latency_ms=5000.0)),
        Scope.PAIR: ScopeRules(triggers=TriggerRules(consecutive_losses=8)),
        Scope.PAIR_ON_EXCHANGE: ScopeRules(
            triggers=TriggerRules(
                consecutive_losses=4, rejects=5, stale_seconds=30.0, one_legged=60, one_legged_seconds=60.0
            )
        ),
    }
)
