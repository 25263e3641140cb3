"""Of hosts on one database one sends for an owner: whatever becomes of it, the next takes over and the last is silent.

Real processes, real sockets; the simulated exchanges' books say what arrived and in which order.
"""

from __future__ import annotations

import signal
import sqlite3
import sys
import time
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path
from urllib.parse import urlsplit

import pytest
from django.conf import settings
from django.contrib.auth.models import User
from django.db import connection
from django.utils import timezone

from bots.models import Bot, Difference, Fill, Order, OwnerLease
from bots.services.differences import difference_dismiss
from bots.services.leases import LEASE_SECONDS, leases_end
from tests.crash.broken import is_free, locked_database, server_address
from tests.crash.judge import verdict
from tests.crash.loop import QUIET_SECONDS, is_quiet
from tests.crash.proxy import Proxy
from tests.crash.stage import NAMES, Nursery, Stage, database_url, until
from trading.execution.ids import parse
from trading.execution.reconciliation import DifferenceKind

pytestmark = [pytest.mark.django_db(transaction=True), pytest.mark.database, pytest.mark.timeout(900)]

LOG_SHOWN = 8_000  # characters
ENOUGH = 6  # orders that show that a host trades


@pytest.fixture
def stage(transactional_db: None, tmp_path: Path) -> Iterator[Stage]:
    with Stage(tmp_path) as stage:
        yield stage
        sys.stderr.write(stage.nursery.log.read_text()[-LOG_SHOWN:])  # which is shown where the test failed


def trades(stage: Stage, beyond: int = 0, count: int = ENOUGH) -> tuple[int, int]:
    """Wait for orders under a token beyond another; return the process that holds the lease, and its token."""
    until(
        lambda: stage.arrived(beyond + 1) >= count, f"{count} orders under a token beyond {beyond}", QUIET_SECONDS
    )  # what was in flight has to be proven absent first, which takes 25 s and more
    lease = OwnerLease.objects.get()
    return int(lease.holder.split(":")[1]), lease.token


def executed(stage: Stage) -> int:
    return sum(len(stage.simulator.orders(name)) for name in NAMES)


def judged(stage: Stage, host: int) -> None:
    """Let ``host`` bring everything to its end, then judge."""
    stage.stop_bots()
    until(is_quiet, "every order has ended", QUIET_SECONDS)
    stage.nursery.stop(host)
    assert verdict(stage)["problems"] == []


def test_a_killed_hosts_owner_is_taken_over_once_its_lease_has_run_out(stage: Stage) -> None:
    first = stage.nursery.start()
    assert trades(stage)[0] == first
    second = stage.nursery.start()
    killed_at = timezone.now()
    lease = OwnerLease.objects.get()
    stage.nursery.kill(first)
    process, token = trades(stage, lease.token, 1)
    assert process == second
    assert token > lease.token
    taken_at = OwnerLease.objects.get().taken_at
    assert taken_at is not None
    assert taken_at >= lease.expires_at
    assert taken_at > killed_at
    until(lambda: Bot.objects.get().observed_state == Bot.Observed.RUNNING, "the bot is seen to run")
    judged(stage, second)


def test_fault_59_of_hosts_started_together_one_trades(stage: Stage) -> None:
    hosts = {stage.nursery.start() for _ in range(3)}
    process, token = trades(stage)
    assert process in hosts
    for other in hosts - {process}:
        stage.nursery.kill(other)
    assert trades(stage, 0, 2 * ENOUGH) == (process, token)
    judged(stage, process)


def stop_outside_of_a_transaction(stage: Stage, process: int) -> None:
    """Let a host stand still; on SQLite at a moment at which it holds no lock.

    PostgreSQL ends the session of a process that stands still in the middle of a transaction. The lock such a process
    holds on a file nobody can break: others send nothing until it wakes, which is right, and not what is looked at.
    """
    for _ in range(100):
        stage.nursery.kill(process, signal.SIGSTOP)
        if connection.vendor != "sqlite" or is_free():
            return
        stage.nursery.kill(process, signal.SIGCONT)
        time.sleep(0.05)
    raise AssertionError("the host was found in the middle of a transaction a hundred times")


def test_fault_60_a_host_that_stood_still_sends_nothing_when_it_wakes(stage: Stage) -> None:
    hosts = {stage.nursery.start(), stage.nursery.start()}
    process, token = trades(stage)
    for _ in range(2):
        stop_outside_of_a_transaction(stage, process)
        other = trades(stage, token)
        assert other[0] != process
        stage.nursery.kill(process, signal.SIGCONT)  # in the middle of whatever it was doing
        assert trades(stage, token, 2 * ENOUGH) == other
        process, token = other
    for well in hosts - {process}:
        stage.nursery.stop(well)  # and ends as it is told
    judged(stage, process)


@pytest.mark.services
def test_a_host_cut_off_from_the_database_falls_silent_and_is_replaced(stage: Stage, tmp_path: Path) -> None:
    proxy = Proxy(server_address())
    far = Nursery(tmp_path / "far.log", {"DATABASE_URL": database_url("127.0.0.1", proxy.port)})
    try:
        cut_off = far.start()
        process, token = trades(stage)
        assert process == cut_off
        proxy.silence()
        near = stage.nursery.start()
        taken = trades(stage, token)
        assert taken[0] == near
        proxy.resume()  # its last writes pass now; they say what exchanges said, and send nothing
        assert trades(stage, token, 3 * ENOUGH) == taken
        far.stop(cut_off)
        judged(stage, near)
    finally:
        proxy.close()
        far.close()


@pytest.mark.sqlite  # where one writer locks out the others
def test_a_database_locked_for_longer_than_a_lease_stops_sending_until_it_is_free(stage: Stage) -> None:
    host = stage.nursery.start()
    _, token = trades(stage)
    with locked_database():
        time.sleep(LEASE_SECONDS)  # what is waited for is the lease's own end
        before = executed(stage)
        time.sleep(1.0)
        assert executed(stage) == before
    trades(stage, token)
    judged(stage, host)


@pytest.mark.sqlite  # a PostgreSQL backup is restored by stopping the server
def test_fault_68_after_a_restored_backup_no_id_is_used_twice_and_nothing_is_booked_wrongly(
    stage: Stage, tmp_path: Path
) -> None:
    host = stage.nursery.start()
    trades(stage)
    stage.nursery.kill(host)
    backup = sqlite3.connect(tmp_path / "backup.sqlite3")
    with closing(sqlite3.connect(connection.settings_dict["NAME"])) as live:
        live.backup(backup)
    leases_end()
    host = stage.nursery.start()
    _, forgotten = trades(stage, OwnerLease.objects.get().token)
    stage.nursery.kill(host)
    connection.close()
    with closing(sqlite3.connect(connection.settings_dict["NAME"])) as live:
        backup.backup(live)
    backup.close()
    leases_end()
    host = stage.nursery.start()
    strangers = Difference.objects.filter(kind=DifferenceKind.UNKNOWN_ORDER)
    until(strangers.exists, "what the database does not know is shown", QUIET_SECONDS)
    operator = User.objects.create_superuser("operator")

    def trades_again() -> bool:
        """An operator looks at each, and says so; only then its account trades."""
        for row in strangers.filter(state=Difference.State.OPEN):
            difference_dismiss(difference=row, actor=operator, reason="restored from a backup")
        return stage.arrived(forgotten + 1) >= ENOUGH

    until(trades_again, "orders under a token of the restored database", 2 * QUIET_SECONDS)
    stage.stop_bots()
    until(is_quiet, "every order has ended", QUIET_SECONDS)
    stage.nursery.stop(host)

    known = set(Order.objects.values_list("client_order_id", flat=True))
    sent = [order["client_id"] for name in NAMES for order in stage.simulator.orders(name, limit="100000")]
    assert len(sent) == len(set(sent))
    lost = {name for name in sent if name not in known}
    assert lost  # what the backup did not know
    assert {parse(name).token for name in lost} <= {forgotten}
    problems = [text for text in verdict(stage)["problems"] if not any(name in text for name in lost)]
    # Executions of forgotten orders stand in nobody's ledger: the difference of the balances says so, as it must.
    assert [text for text in problems if not text.startswith(("account ", "fill "))] == []
    booked = set(Fill.objects.filter(order__isnull=False).values_list("exchange_order_id", flat=True))
    theirs = {
        order["id"] for name in NAMES for order in stage.simulator.orders(name, limit="100000")
        if order["client_id"] in lost
    }  # fmt: skip
    assert not booked & theirs


@pytest.mark.services
def test_fault_69_with_redis_away_trading_goes_on(transactional_db: None, tmp_path: Path) -> None:
    redis = urlsplit(settings.REDIS_URL)
    proxy = Proxy((redis.hostname or "127.0.0.1", redis.port or 6379))
    url = redis._replace(netloc=f"127.0.0.1:{proxy.port}").geturl()
    try:
        with Stage(tmp_path, host_environment={"REDIS_URL": url}) as stage:
            host = stage.nursery.start()
            process, token = trades(stage)
            for broken in (proxy.silence, proxy.cut):
                before = stage.arrived()
                broken()
                assert trades(stage, 0, before + ENOUGH) == (process, token)
            proxy.close()  # nothing listens there any more
            assert trades(stage, 0, stage.arrived() + ENOUGH) == (process, token)
            judged(stage, host)
    finally:
        proxy.close()
