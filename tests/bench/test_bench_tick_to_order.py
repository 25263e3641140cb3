"""The benchmark of the whole way trades through a real host and its stages are all of it; no figure is judged here."""

from __future__ import annotations

import json

import pytest

from bench.tick_to_order import CONDITIONS, STAGES, measure, table
from bots.models import Order, Trade

pytestmark = [pytest.mark.django_db(transaction=True), pytest.mark.database]


def test_its_stages_add_up_to_the_way_from_the_frame_to_both_orders() -> None:
    figures = measure(rounds=3, warm_up=1)
    assert figures["count"] == 3
    assert Trade.objects.count() >= 4 * len(CONDITIONS)
    assert Order.objects.count() >= 2 * len(CONDITIONS) * figures["count"]
    for condition in CONDITIONS:
        stages = figures[condition]["stages"]
        assert list(stages) == list(STAGES)
        means = [stage["mean_ms"] for stage in stages.values()]
        assert all(mean > 0 for mean in means)
        assert sum(means) == pytest.approx(figures[condition]["total"]["mean_ms"], abs=0.005)
    assert json.loads(json.dumps(figures)) == figures
    assert all(f"| {name.replace('_', ' ')} |" in table(figures) for name in STAGES)
