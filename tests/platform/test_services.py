"""The platform as separate processes on PostgreSQL and Redis: pages, tasks, beat, and two engine processes."""

from __future__ import annotations

import signal
import threading
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from pathlib import Path

import pytest
from django.conf import settings
from django.db import connection
from django.utils import timezone

from arbplatform.demo import seed, simulator_options
from arbplatform.simulator import Simulator
from bots import selectors
from bots.models import Bot, OwnerLease, Trade
from bots.services.bots import bot_stop
from tests.platform.processes import Command, answers, manage

pytestmark = [pytest.mark.django_db(transaction=True), pytest.mark.services]


@pytest.fixture
def exchanges(tmp_path: Path) -> Iterator[Simulator]:
    simulator = Simulator(tmp_path / "exchanges", options=simulator_options())
    simulator.start()
    simulator.wait_ready()
    yield simulator
    simulator.stop()


@pytest.fixture
def role(tmp_path: Path) -> Iterator[Callable[..., Command]]:
    """Return a function that starts one role on this test's database."""
    values = connection.settings_dict
    url = f"postgres://{values['USER']}:{values['PASSWORD']}@{values['HOST']}:{values['PORT']}/{values['NAME']}"
    given = {
        "DATABASE_URL": url,
        "REDIS_URL": settings.REDIS_URL,
        "CELERY_BROKER_URL": settings.CELERY_BROKER_URL,
        "ARB_REDIS_PREFIX": settings.CELERY_BROKER_TRANSPORT_OPTIONS["global_keyprefix"].rstrip(":"),
        "ARB_FIELD_KEYS": ",".join(settings.ARB_FIELD_KEYS),
        "SECRET_KEY": settings.SECRET_KEY,
    }
    with ExitStack() as stack:

        def start(name: str, *more: str) -> Command:
            arguments = ("up", "--role", name, "--no-migrate", *more)
            return stack.enter_context(Command(tmp_path / "state", *arguments, **given))

        start.environment = given
        yield start


def wait(condition: Callable[[], bool], what: str, seconds: float = 60.0) -> None:
    pause = threading.Event()
    for _ in range(int(seconds / 0.1)):
        if condition():
            return
        pause.wait(0.1)
    pytest.fail(f"not within {seconds} s: {what}")


def holders() -> set[str]:
    """Return the process numbers that hold a lease now."""
    rows = OwnerLease.objects.filter(expires_at__gt=timezone.now()).values_list("holder", flat=True)
    return {holder.split(":")[1] for holder in rows}


def test_roles_run_apart_and_a_killed_engine_is_followed_by_another(exchanges, role, tmp_path) -> None:
    seed(exchanges)
    web = role("web", "--port", "0")
    worker, beat = role("worker"), role("beat")
    first = role("engine")
    assert answers(web.wait_ready() + "/admin/login/")
    wait(Trade.objects.exists, "the first trade")
    assert holders() == {str(first.process.pid)}

    second = role("engine")
    second.wait_said("running engine")
    first.process.kill()
    first.process.wait()
    wait(lambda: holders() == {str(second.process.pid)}, "the second engine process holds the leases")
    newest = Trade.objects.order_by("-pk").values_list("pk", flat=True)[0]
    wait(lambda: Trade.objects.filter(pk__gt=newest).exists(), "a trade by the second engine process")

    doctor = manage(tmp_path / "state", "doctor", **role.environment)
    assert doctor.returncode == 0, doctor.stdout

    for bot in Bot.objects.all():
        bot_stop(bot=bot, actor=None)
    wait(lambda: selectors.totals().unresolved_orders == 0, "every order is resolved")
    for running in (second, worker, beat, web):
        assert running.stop(signal.SIGTERM) == 0, running.said
        assert "Traceback" not in running.said
    assert holders() == set()
