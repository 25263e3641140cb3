"""Sums of before contracts were compared leave them out: they are made anew."""

from __future__ import annotations

from datetime import timedelta

import pytest
from django.db import connection, transaction
from django.db.migrations.executor import MigrationExecutor
from django.utils import timezone

from bots.models import LedgerCheckpoint
from bots.services import ledger_sums
from tests.bots.test_reconciliation import SWAP, Bench
from tests.bots.world import D, World

pytestmark = [pytest.mark.django_db(transaction=True), pytest.mark.database]

BEFORE = [("bots", "0013_adaptive_limits")]


@pytest.fixture
def latest() -> None:
    yield
    executor = MigrationExecutor(connection)
    executor.migrate(executor.loader.graph.leaf_nodes())


def test_a_checkpoint_that_leaves_contracts_out_is_forgotten_and_others_stay(latest, monkeypatch) -> None:
    world = World()
    bench = Bench(world)
    bench.contracts("buy", "0.5")
    other = world.bot(world.ben).accounts.first()
    monkeypatch.setattr(ledger_sums, "SETTLED", timedelta(0))
    for account in (bench.account, other):
        for _ in range(2):
            with transaction.atomic():
                ledger_sums.checkpoint_move(account_id=account.pk)
    mark = LedgerCheckpoint.objects.get(account=bench.account)
    LedgerCheckpoint.objects.filter(pk=mark.pk).update(sums={"USDT": "-3"}, next_at=timezone.now())  # as before
    assert SWAP not in bench.ledger()

    executor = MigrationExecutor(connection)
    executor.migrate(BEFORE)
    executor = MigrationExecutor(connection)
    executor.migrate(executor.loader.graph.leaf_nodes())

    assert bench.ledger() == {"USDT": D(-3), SWAP: D("0.5")}
    assert list(LedgerCheckpoint.objects.values_list("account", flat=True)) == [other.pk]
