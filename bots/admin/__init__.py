"""The operators' and users' admin pages. Pages read through scoped querysets and write through services."""

from bots.admin import (
    accounts,
    api,
    assets,
    basis,
    bots,
    differences,
    orders,
    positions,
    rebalancing,
    system,
    tickets,
    trading,
    venues,
)

__all__ = [
    "accounts", "api", "assets", "basis", "bots", "differences", "orders", "positions", "rebalancing", "system",
    "tickets", "trading", "venues",
]  # fmt: skip
