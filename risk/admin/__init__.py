"""The risk app's admin pages, a file an idea; importing them registers them."""

from risk.admin import breaker_settings, breakers, limits, pairs, switch

__all__ = ["breaker_settings", "breakers", "limits", "pairs", "switch"]
