"""The risk app's models, a file an idea."""

from risk.models.breaker_settings import BreakerSettings
from risk.models.breakers import BreakerEvent, CircuitBreaker
from risk.models.limits import RiskLimit

__all__ = ["BreakerEvent", "BreakerSettings", "CircuitBreaker", "RiskLimit"]
