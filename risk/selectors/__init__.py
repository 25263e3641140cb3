"""What the risk app knows, read for others: limits and circuit breakers."""

from risk.selectors.breakers import breaker_rules, breaker_settings, breakers_tripped
from risk.selectors.limits import MONEY_RULES, limits_apply, resolved_limits

__all__ = [
    "MONEY_RULES", "breaker_rules", "breaker_settings", "breakers_tripped", "limits_apply", "resolved_limits",
]  # fmt: skip
