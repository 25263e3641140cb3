"""The risk app's models, a file an idea."""

from risk.models.breaker_settings import BreakerSettings
from risk.models.breakers import BreakerEvent, CircuitBreaker
from risk.models.limits import RiskLimit
from risk.models.pairs import AllowedPair
from risk.models.rating_settings import ScoringSettings, SizingSettings, SlippageSettings
from risk.models.rebalancing import Approval, RebalanceEvent, RebalanceRequest, RebalanceSettings
from risk.models.revision import RiskRevision
from risk.models.slippage_stat import SlippageStat
from risk.models.switch import TradingSwitch, TradingSwitchEvent

__all__ = [
    "AllowedPair", "Approval", "BreakerEvent", "BreakerSettings", "CircuitBreaker", "RebalanceEvent",
    "RebalanceRequest", "RebalanceSettings", "RiskLimit", "RiskRevision",
    "ScoringSettings", "SizingSettings", "SlippageSettings", "SlippageStat", "TradingSwitch", "TradingSwitchEvent",
]  # fmt: skip
