"""Engines hosted by a real Celery worker, called by real messages."""

from __future__ import annotations

import subprocess
import sys
import threading
from collections.abc import Callable, Iterator
from datetime import timedelta

import pytest
from django.db import connections
from django.utils import timezone

from arbplatform.celery import app
from arbplatform.parts import TaskWorker
from bots.engine_host import process
from bots.models import Bot, Decision, OwnerLease
from bots.services.bots import bot_start
from bots.services.decisions import decision_row
from bots.tasks import host_engines, offer_engines, prune_decisions
from tests.bots.world import World

pytestmark = [pytest.mark.django_db(transaction=True), pytest.mark.database]


others_returned = threading.Event()


@app.task(name="tests.after_the_others")
def after_the_others() -> None:
    others_returned.set()


@pytest.fixture
def bot(world: World) -> Bot:
    return world.bot(world.anna, mode="paper")


@pytest.fixture
def queue() -> Iterator[Callable[[], list[dict]]]:
    """Return a function that takes what waits in the engines' queue."""
    with app.connection_for_read() as connection:
        channel = connection.default_channel

        bound = app.amqp.queues["engines"](channel)
        bound.declare()
        bound.purge()

        def take() -> list[dict]:
            found = []
            while (message := bound.get()) is not None:
                message.ack()
                found.append(message.headers)
            return found

        yield take


@pytest.fixture
def worker(transactional_db: None) -> Iterator[TaskWorker]:
    process.allow()
    with app.connection_for_read() as connection:
        for name in ("tasks", "engines"):  # what other tests of this process asked for is not this one's work
            bound = app.amqp.queues[name](connection.default_channel)
            bound.declare()
            bound.purge()
    worker = TaskWorker(["tasks", "engines"], concurrency=4)
    worker.start()
    yield worker
    process.stop()
    assert process.wait(30)
    worker.request_stop()
    assert worker.join(30)
    assert worker.failure == ""
    connections.close_all()


def wait(condition: Callable[[], bool], seconds: float = 60.0) -> None:
    pause = threading.Event()
    for _ in range(int(seconds / 0.02)):
        if condition():
            return
        pause.wait(0.02)
    pytest.fail(f"it did not come about within {seconds} s")


def leased(bot: Bot) -> bool:
    return OwnerLease.objects.filter(owner=bot.owner, expires_at__gt=timezone.now()).exists()


def test_services_find_our_application_in_any_thread() -> None:
    # A process of its own: here a worker may have made the application known.
    code = (
        "import threading, django; django.setup(); from celery import current_app; "
        "thread = threading.Thread(target=lambda: print(current_app.main, current_app.conf.broker_url)); "
        "thread.start(); thread.join()"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=60, check=True)
    assert done.stdout.split() == ["arbplatform", app.conf.broker_url]


def test_nobody_is_called_while_no_owner_needs_an_engine(bot, queue) -> None:
    assert offer_engines() == 0
    assert queue() == []


def test_an_owner_without_an_engine_makes_one_call_that_expires(bot, queue) -> None:
    bot_start(bot=bot, actor=None)
    assert offer_engines() == 1
    (headers,) = queue()
    assert headers["task"] == "bots.tasks.host_engines"
    assert headers["expires"] is not None


def test_a_called_worker_hosts_the_owner_until_it_is_stopped(bot, worker) -> None:
    bot_start(bot=bot, actor=None)
    assert offer_engines() == 1
    wait(lambda: leased(bot))
    assert offer_engines() == 0
    process.stop()
    assert process.wait(30)
    assert not leased(bot)


def test_the_same_message_ten_times_makes_one_host(bot, worker) -> None:
    bot_start(bot=bot, actor=None)
    for _ in range(10):
        host_engines.delay()
    wait(lambda: leased(bot))
    first = OwnerLease.objects.get(owner=bot.owner).token
    others_returned.clear()
    # Queued behind the nine; a thread is left for it once they have returned.
    after_the_others.apply_async(queue="engines")
    assert others_returned.wait(20)
    assert OwnerLease.objects.get(owner=bot.owner).token == first


def test_a_message_after_the_stop_starts_nothing(bot, worker) -> None:
    process.stop()
    bot_start(bot=bot, actor=None)
    assert process.run_host() is False
    assert not leased(bot)


def test_old_decisions_are_pruned(world, bot) -> None:
    for age in (timedelta(days=30), timedelta(seconds=1)):
        at_ns = int((timezone.now() - age).timestamp() * 1e9)
        decision_row(owner_id=bot.owner_id, decision=world.decision(bot, check="size", at_ns=at_ns)).save()
    assert prune_decisions() == 1
    assert Decision.objects.count() == 1
