"""Markets by the engine's name for them (``exchange:symbol``)."""

from __future__ import annotations

from collections.abc import Collection

from django.db.models import Q

from bots.models import Market


def markets_by_key(keys: Collection[str]) -> dict[str, Market]:
    """Return the rows by market key in one query; unknown keys are missing."""
    wanted = Q(pk__in=[])
    for key in keys:
        exchange, _, symbol = key.partition(":")
        wanted |= Q(exchange__code=exchange, symbol=symbol)
    rows = Market.objects.filter(wanted).select_related("exchange").order_by()
    return {f"{row.exchange.code}:{row.symbol}": row for row in rows}
