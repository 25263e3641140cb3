"""What the risk app knows, read for others, a file an idea."""

from risk.selectors.breakers import breaker_rules, breaker_settings, breakers_over, breakers_tripped
from risk.selectors.limits import (
    OWN_SETTING,
    AllowedPairs,
    LimitBounds,
    bots_running_under,
    is_last_pair,
    limit_bounds,
    limits_apply,
    limits_binding,
    limits_overlapping,
    pairs_allowed,
    risk_revision,
    switch_over,
    switches_of,
    switches_over,
)
from risk.selectors.rating import rating_rules
from risk.selectors.slippage import Lesson, lessons, market_lessons

__all__ = [
    "OWN_SETTING", "AllowedPairs", "Lesson", "LimitBounds", "bots_running_under", "breaker_rules",
    "breaker_settings", "breakers_over", "breakers_tripped", "is_last_pair", "lessons", "limit_bounds", "limits_apply",
    "limits_binding", "limits_overlapping", "market_lessons", "pairs_allowed", "rating_rules", "risk_revision",
    "switch_over", "switches_of", "switches_over",
]  # fmt: skip
