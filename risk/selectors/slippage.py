"""What realised slippage has taught about each market."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import timedelta
from typing import NamedTuple

from django.db.models import Sum
from django.utils import timezone

from risk.models import SlippageSettings, SlippageStat
from risk.models.slippage_stat import rollup_of
from risk.policy.realised import Learned, Rollup, learned


class Lesson(NamedTuple):
    """What is learned from a market's legs of the days looked back on, and whether they are enough."""

    rollup: Rollup
    learned: Learned
    suffices: bool


def market_lessons() -> Mapping[str, Lesson]:
    """Return each market's lesson by ``<exchange>:<pair>``, in two queries; markets without legs are missing."""
    settings = SlippageSettings.objects.first() or SlippageSettings()
    rules = settings.to_policy()
    rows = (
        SlippageStat.objects.filter(hour__gt=timezone.now() - timedelta(days=settings.days))
        .order_by()
        .values_list("exchange", "pair")
        .annotate(Sum("legs"), Sum("surprise"), Sum("squares"))
    )
    found = {}
    for exchange, pair, *sums in rows:
        rollup = rollup_of(*map(int, sums))
        if rollup.count:
            found[f"{exchange}:{pair}"] = Lesson(rollup, learned(rollup, rules), rollup.count >= rules.min_sample)
    return found


def lessons() -> dict[str, Learned]:
    """Return what the engine is told to demand of each market, by ``<exchange>:<pair>``."""
    return {market: lesson.learned for market, lesson in market_lessons().items()}
