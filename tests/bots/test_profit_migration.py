"""Installations from before running totals get theirs from the trades they have."""

from __future__ import annotations

from datetime import timedelta

import pytest
from django.apps import apps
from django.db import connection
from django.db.migrations.executor import MigrationExecutor
from django.utils import timezone

from bots.models import ALL_TIME, Exchange, ProfitTotal, Trade, span_start
from tests.bots.world import D, World

pytestmark = [pytest.mark.django_db(transaction=True), pytest.mark.database]

BEFORE, AFTER = [("bots", "0002_exchange_markets")], [("bots", "0004_profit_totals_fill")]


def migrate(targets: list[tuple[str, str]]) -> None:
    MigrationExecutor(connection).migrate(targets)


@pytest.fixture
def latest() -> None:
    yield
    executor = MigrationExecutor(connection)
    executor.migrate(executor.loader.graph.leaf_nodes())


def test_trades_of_before_are_told_apart_and_summed(latest):
    world = World()
    bot = world.bot(world.anna)
    now = timezone.now()
    world.closed_trade(bot, profit="0.000000000000000001", closed_at=now)
    world.closed_trade(bot, profit="2", closed_at=now - timedelta(days=30))
    world.closed_trade(bot, profit="40", closed_at=now, mode="paper")
    Exchange.objects.update(environment="testnet")
    real = world.closed_trade(bot, profit="-7", closed_at=now)
    world.closed_trade(bot, profit="100", closed_at=now, mode="paper", quote="USDC")

    migrate(BEFORE)
    with connection.cursor() as cursor:
        cursor.execute("SELECT DISTINCT mode FROM bots_trade ORDER BY mode")
        assert [mode for (mode,) in cursor.fetchall()] == ["live", "paper"]
    migrate(AFTER)
    migrate(MigrationExecutor(connection).loader.graph.leaf_nodes())  # the models are those of today

    span = span_start(now)
    assert Trade.objects.get(trade_id=real.trade_id).mode == "testnet"
    found = {(row.mode, row.quote, row.start): row.profit for row in ProfitTotal.objects.all()}
    assert found == {
        ("testnet", "USDT", ALL_TIME): D("-4.999999999999999999"),
        ("testnet", "USDT", span): D("-6.999999999999999999"),
        ("paper", "USDT", ALL_TIME): D(40),
        ("paper", "USDT", span): D(40),
        ("paper", "USDC", ALL_TIME): D(100),
        ("paper", "USDC", span): D(100),
    }
    assert set(ProfitTotal.objects.values_list("owner", "bot")) == {(world.anna.pk, bot.pk)}
    assert apps.get_model("bots", "ProfitTotal") is ProfitTotal
