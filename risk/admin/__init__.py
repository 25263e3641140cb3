"""The risk app's admin pages, a file an idea; importing them registers them."""

from risk.admin import breaker_settings, breakers, limits, pairs, rating_settings, slippage, switch

__all__ = ["breaker_settings", "breakers", "limits", "pairs", "rating_settings", "slippage", "switch"]
