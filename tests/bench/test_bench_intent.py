"""The intent benchmark runs, commits what it says and prints what it measured; no figure is judged here."""

from __future__ import annotations

import json

import pytest
from django.db import connection

from bench.intent import measure, table
from bots.models import Decision, Order, OrderEvent, Trade

pytestmark = [pytest.mark.django_db(transaction=True), pytest.mark.database]


def test_it_commits_whole_intents_and_bare_rows_in_turn() -> None:
    try:
        figures = measure(commits=5, warm_up=1)
        assert [model.objects.count() for model in (Trade, Order, OrderEvent, Decision)] == [6, 12, 24, 6]
        with connection.cursor() as cursor:
            cursor.execute("SELECT count(*) FROM bench_bare")
            assert cursor.fetchone() == (6,)
    finally:
        with connection.cursor() as cursor:
            cursor.execute("DROP TABLE IF EXISTS bench_bare")
    assert figures["ratio"] > 0
    assert json.loads(json.dumps(figures)) == figures
    assert len(table(figures).splitlines()) == 6
