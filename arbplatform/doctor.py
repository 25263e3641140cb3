"""Checks of an installation: what is wrong, and what cures it."""

from __future__ import annotations

import asyncio
import shutil
import stat
import sys
import time
import uuid
from collections.abc import Callable, Iterator
from dataclasses import asdict, dataclass
from datetime import UTC, datetime
from typing import Any

from channels.layers import get_channel_layer
from django.conf import settings
from django.core.checks import run_checks
from django.core.exceptions import ImproperlyConfigured
from django.db import DatabaseError, connection
from django.db.migrations.executor import MigrationExecutor

from arbplatform.celery import app
from arbplatform.logs import redact
from arbplatform.state import SECRETS_FILE, make_directory
from bots import selectors, vault
from bots.models import Exchange, ExchangeAccount, OwnerLease
from trading.config import ExchangeSpec
from trading.exchanges.markets import probe

BROKER_SECONDS = 3.0
# Exchanges refuse requests whose timestamp is off by more than their window (Binance 5 s by default, and at most 1 s
# ahead of its clock); a second of our own leaves room for the network.
MAX_CLOCK_OFFSET_SECONDS = 1.0
MIN_FREE_MEGABYTES = 200


@dataclass(frozen=True)
class Check:
    """One line: what was looked at, whether it is in order, what was seen, and the cure if it isn't."""

    name: str
    ok: bool
    detail: str
    cure: str = ""


def diagnose() -> list[Check]:
    """Run every check; one that cannot be run is one that failed."""
    found: list[Check] = [*_guarded("Python", python), *_guarded("settings", configuration)]
    found += _guarded("state directory", state_directory)
    found += _guarded("secrets", secrets_set)
    reachable = list(_guarded("database", database))
    found += reachable
    if all(check.ok for check in reachable):
        found += _guarded("migrations", migrations)
    found += _guarded("broker", broker)
    found += _guarded("channel layer", channel_layer)
    if all(check.ok for check in found if check.name in {"database", "migrations"}):
        found += _guarded("credentials", credentials)
        found += _guarded("clock", clock)
        found += _guarded("exchanges", exchanges)
        found += _guarded("engines", engines)
    return found


def as_json(checks: list[Check]) -> dict[str, Any]:
    rows = [asdict(check) | ({"cure": ""} if check.ok else {}) for check in checks]
    return {"ok": all(check.ok for check in checks), "checks": rows}


def _guarded(name: str, look: Callable[[], Iterator[Check]]) -> Iterator[Check]:
    try:
        yield from look()
    except Exception as problem:
        yield Check(
            name, False, f"{type(problem).__name__}: {first_line(problem)}", "see the message; then run it again"
        )


def first_line(problem: BaseException) -> str:
    lines = redact(str(problem)).strip().splitlines()
    return lines[0] if lines else type(problem).__name__


def python() -> Iterator[Check]:
    version = ".".join(map(str, sys.version_info[:3]))
    yield Check("Python", sys.version_info >= (3, 11), f"{version} in {sys.prefix}", "install Python 3.11 or newer")


def configuration() -> Iterator[Check]:
    serious = [message for message in run_checks() if message.is_serious()]
    for message in serious:
        yield Check("settings", False, str(message.msg), str(message.hint or ""))
    if not serious:
        orders = "live orders allowed" if settings.ARB_ALLOW_LIVE_ORDERS else "no live orders"
        yield Check("settings", True, f"{settings.ARB_ENV}, {settings.ARB_SHAPE}, {orders}")


def state_directory() -> Iterator[Check]:
    directory = settings.ARB_STATE_DIR
    try:
        make_directory(directory)
    except ImproperlyConfigured as problem:
        yield Check("state directory", False, str(problem), "set ARB_STATE_DIR to a directory that can be written")
        return
    free = shutil.disk_usage(directory).free // 2**20
    yield Check(
        "state directory", free >= MIN_FREE_MEGABYTES, f"{directory}, {free} MB free", "free some space on that disk"
    )


def secrets_set() -> Iterator[Check]:
    if not settings.ARB_SECRETS_GENERATED:
        yield Check("secrets", True, f"from the environment, {len(settings.ARB_FIELD_KEYS)} field keys")
        return
    path = settings.ARB_STATE_DIR / SECRETS_FILE
    open_to_others = stat.S_IMODE(path.stat().st_mode) & 0o077
    yield Check(
        "secrets", not open_to_others, f"generated, in {path}" + (", readable by others" if open_to_others else ""),
        f"chmod 600 {path}",
    )  # fmt: skip


def database() -> Iterator[Check]:
    # A pool would try again in the background and only tell that it took too long.
    connection.settings_dict.get("OPTIONS", {}).pop("pool", None)
    began = time.perf_counter()
    try:
        with connection.cursor() as cursor:
            cursor.execute("SELECT 1")
    except DatabaseError as problem:
        yield Check("database", False, first_line(problem), "start the database, or correct DATABASE_URL")
        return
    took_ms = (time.perf_counter() - began) * 1000
    version = ".".join(map(str, connection.get_database_version()))
    yield Check("database", True, f"{connection.display_name} {version}, answers in {took_ms:.1f} ms")


def migrations() -> Iterator[Check]:
    executor = MigrationExecutor(connection)
    waiting = len(executor.migration_plan(executor.loader.graph.leaf_nodes()))
    yield Check("migrations", not waiting, f"{waiting} not applied" if waiting else "all applied", "./arb migrate")


def broker() -> Iterator[Check]:
    if settings.ARB_SHAPE == "embedded":
        yield Check("broker", True, "in the process")
        return
    url = redact(settings.CELERY_BROKER_URL)
    try:
        with app.connection_for_write() as opened:
            opened.ensure_connection(max_retries=0, timeout=BROKER_SECONDS)
    except Exception as problem:  # each transport raises errors of its own
        yield Check("broker", False, f"{url}: {first_line(problem)}", "start it, or correct CELERY_BROKER_URL")
        return
    yield Check("broker", True, url)


def channel_layer() -> Iterator[Check]:
    where = redact(settings.REDIS_URL) if settings.REDIS_URL else "in the process"

    async def round_trip() -> float:
        layer = get_channel_layer()
        assert layer is not None
        began = time.perf_counter()
        async with asyncio.timeout(BROKER_SECONDS):
            group = f"doctor.{uuid.uuid4().hex}"
            channel = await layer.new_channel()
            await layer.group_add(group, channel)
            await layer.group_send(group, {"type": "doctor"})
            await layer.receive(channel)
            await layer.group_discard(group, channel)
        return (time.perf_counter() - began) * 1000

    try:
        took_ms = asyncio.run(round_trip())
    except Exception as problem:  # each layer raises errors of its own
        yield Check("channel layer", False, f"{where}: {first_line(problem)}", "start Redis, or correct REDIS_URL")
        return
    yield Check("channel layer", True, f"{where}, a message takes {took_ms:.1f} ms")


def credentials() -> Iterator[Check]:
    unreadable = []
    count = 0
    for account in ExchangeAccount.objects.filter(credentials__isnull=False):
        count += 1
        try:
            vault.unseal(account.pk, account.credentials or "")
        except vault.CredentialsUnreadable:
            unreadable.append(account.label)
    if unreadable:
        yield Check(
            "credentials", False, f"{len(unreadable)} of {count} accounts cannot be read: {', '.join(unreadable[:5])}",
            "put the key they were encrypted with back into ARB_FIELD_KEYS, or enter them again",
        )  # fmt: skip
    else:
        yield Check("credentials", True, f"{count} accounts, all readable" if count else "no account has any yet")


def clock() -> Iterator[Check]:
    if connection.vendor != "postgresql":
        yield Check("clock", True, "the database is on this machine; exchanges' clocks are compared below")
        return
    with connection.cursor() as cursor:
        before = time.time()
        cursor.execute("SELECT clock_timestamp()")
        there: datetime = cursor.fetchone()[0]
        middle = (before + time.time()) / 2
    offset = there.astimezone(UTC).timestamp() - middle
    yield Check(
        "clock", abs(offset) <= MAX_CLOCK_OFFSET_SECONDS, f"the database's is {offset * 1000:+.0f} ms from ours",
        "synchronise both machines' clocks (chrony, systemd-timesyncd)",
    )  # fmt: skip


def exchanges() -> Iterator[Check]:
    specs = [row.to_engine() for row in Exchange.objects.filter(enabled=True)]
    if not specs:
        yield Check("exchanges", True, "none yet; add one in the admin, or look at ./arb demo")
        return

    async def look() -> list[Check]:
        return list(await asyncio.gather(*(exchange(spec) for spec in specs)))

    yield from asyncio.run(look())


async def exchange(spec: ExchangeSpec) -> Check:
    """Ask an exchange for its time: whether it is reached, and how far its clock is from ours."""
    name = f"exchange {spec.code}"
    reached, offset_ms, why = await probe(spec)
    if not reached:
        cure = (
            "start the simulated exchanges (./arb demo runs its own)"
            if spec.environment == "simulated"
            else "check the network and the exchange's status page, or disable the exchange in the admin"
        )
        return Check(name, False, f"not reached: {redact(why)}", cure)
    good = abs(offset_ms) <= MAX_CLOCK_OFFSET_SECONDS * 1000
    cure = "synchronise this machine's clock (chrony, systemd-timesyncd)"
    return Check(name, good, f"reached, its clock is {offset_ms:+d} ms from ours", cure)


def engines() -> Iterator[Check]:
    waiting = selectors.engine_owners()
    held = OwnerLease.objects.exclude(holder="").filter(expires_at__gt=datetime.now(UTC)).count()
    if waiting and held == 0:
        yield Check("engines", True, f"{len(waiting)} owners wait for an engine: nothing runs now (./arb up)")
    else:
        yield Check("engines", True, f"{held} owners' engines run, {len(waiting)} wait")
    if left := selectors.intents_left():
        told = f"{len(left)} intents stay in the journal, the first of owner {left[0][0]}, trade {left[0][1]}"
        yield Check(
            "journal", False, told, "start an engine host (./arb up); its log says what keeps it from unfolding"
        )
