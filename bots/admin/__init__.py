"""The operators' and users' admin pages. Pages read through scoped querysets and write through services."""

from bots.admin import accounts, assets, bots, differences, orders, system, trading, venues

__all__ = ["accounts", "assets", "bots", "differences", "orders", "system", "trading", "venues"]
