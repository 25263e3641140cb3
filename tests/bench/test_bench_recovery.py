"""The recovery benchmark kills hosts, leaves orders behind and prints what it measured; no figure is judged here."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from bench.recovery import PRICES, measure, table

pytestmark = [pytest.mark.django_db(transaction=True), pytest.mark.database]


def test_left_orders_are_found_again_by_the_next_host(tmp_path: Path) -> None:
    figures = measure(tmp_path, orders=6)
    for kind in PRICES:
        assert figures[kind]["unfinished"] >= 6
        assert figures[kind]["settled_s"] >= figures[kind]["trading_s"]
    assert json.loads(json.dumps(figures)) == figures
    assert len(table(figures).splitlines()) == 5
