"""The risk app's models, a file an idea."""

from risk.models.limits import RiskLimit

__all__ = ["RiskLimit"]
