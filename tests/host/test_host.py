"""Hosts take owners, one each; what users want becomes true, and what breaks stays where it broke."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable
from typing import Any

import pytest
import pytest_asyncio

from bots.engine_host import host as host_module
from bots.engine_host import owner as owner_module
from bots.engine_host.host import EngineHost
from bots.models import Bot, Command, OwnerLease
from bots.services.accounts import credentials_set
from bots.services.bots import bot_start, bot_stop
from tests.bots.world import World
from tests.host.conftest import until

pytestmark = [pytest.mark.django_db(transaction=True), pytest.mark.database]

Ask = Callable[..., Awaitable[Any]]


@pytest_asyncio.fixture
async def hosting() -> AsyncIterator[Callable[..., EngineHost]]:
    """Return a function that starts a host on this loop; all are stopped at the end."""
    hosts: list[tuple[EngineHost, asyncio.Task[None]]] = []

    def start(**options: Any) -> EngineHost:
        host = EngineHost(**options)
        hosts.append((host, asyncio.create_task(host.run())))
        return host

    start.hosts = hosts
    yield start
    for host, task in hosts:
        host.request_stop()
        await asyncio.wait_for(task, 30)


@pytest.fixture
def ask(threads) -> Ask:
    """Return a function that runs database work on a thread and returns its result."""

    async def ask(work: Callable[..., Any], **arguments: Any) -> Any:
        return await threads.run(lambda: work(**arguments))

    return ask


@pytest.fixture
def bot(world: World) -> Bot:
    return world.bot(world.anna, mode="paper")


async def eventually(ask: Ask, read: Callable[[], Any], wanted: Any, seconds: float = 60) -> None:
    """Wait until a read of the database returns ``wanted``."""
    seen = None
    try:
        async with asyncio.timeout(seconds):
            while (seen := await ask(read)) != wanted:  # noqa: ASYNC110 (it waits for a database)
                await asyncio.sleep(0.02)
    except TimeoutError:
        pytest.fail(f"still {seen!r} after {seconds} s, wanted {wanted!r}")


def observed(bot: Bot) -> Callable[[], str]:
    return lambda: Bot.objects.values_list("observed_state", flat=True).get(pk=bot.pk)


def holder(owner_id: int) -> Callable[[], str]:
    return lambda: OwnerLease.objects.values_list("holder", flat=True).get(owner_id=owner_id)


def token(owner_id: int) -> Callable[[], int]:
    return lambda: OwnerLease.objects.values_list("token", flat=True).get(owner_id=owner_id)


async def test_a_started_bot_runs_and_its_command_is_answered(bot, hosting, ask) -> None:
    host = hosting()
    await ask(bot_start, bot=bot, actor=bot.owner)
    await eventually(ask, observed(bot), "running")
    await eventually(ask, lambda: list(Command.objects.values_list("status", flat=True)), ["done"])
    assert await ask(holder(bot.owner_id)) == host.holder


async def test_a_stopped_bot_is_seen_stopped(bot, hosting, ask) -> None:
    hosting()
    await ask(bot_start, bot=bot, actor=bot.owner)
    await eventually(ask, observed(bot), "running")
    await ask(bot_stop, bot=bot, actor=bot.owner)
    await eventually(ask, observed(bot), "stopped")
    await eventually(ask, lambda: Command.objects.filter(status="done").count(), 2)


async def test_a_hint_is_enough_without_the_host_looking_by_itself(bot, hosting, ask, monkeypatch) -> None:
    monkeypatch.setattr(host_module, "LOOK_SECONDS", 3600.0)
    monkeypatch.setattr(owner_module, "LOOK_SECONDS", 3600.0)
    host = hosting()
    await until(lambda: host.looks > 0)  # its first look found nobody
    await ask(bot_start, bot=bot, actor=bot.owner)
    await eventually(ask, observed(bot), "running")
    await ask(bot_stop, bot=bot, actor=bot.owner)
    await eventually(ask, observed(bot), "stopped")


async def test_of_two_hosts_one_runs_the_owner_and_the_other_follows_it(bot, hosting, ask) -> None:
    hosts = [hosting(), hosting()]
    await ask(bot_start, bot=bot, actor=bot.owner)
    await eventually(ask, observed(bot), "running")
    first_holder, first_token = await ask(holder(bot.owner_id)), await ask(token(bot.owner_id))
    first = next(host for host in hosts if host.holder == first_holder)
    second = next(host for host in hosts if host is not first)
    assert [len(host._runs) for host in (first, second)] == [1, 0]
    first.request_stop()
    await eventually(ask, holder(bot.owner_id), second.holder)
    assert await ask(token(bot.owner_id)) > first_token
    await eventually(ask, observed(bot), "running")


async def test_a_host_whose_lease_was_taken_over_ends_that_engine_and_lets_it_be(bot, hosting, ask) -> None:
    host = hosting(lease_seconds=2.0)
    await ask(bot_start, bot=bot, actor=bot.owner)
    await eventually(ask, observed(bot), "running")
    await ask(
        lambda: OwnerLease.objects.filter(owner=bot.owner).update(
            holder="somebody else", token=99, expires_at="2100-01-01T00:00Z"
        )
    )
    await until(lambda: not host._runs)
    assert await ask(holder(bot.owner_id)) == "somebody else"
    assert await ask(token(bot.owner_id)) == 99


async def test_an_owner_whose_engine_breaks_is_told_and_others_run(world, bot, hosting, ask, monkeypatch) -> None:
    real = owner_module.Engine

    def engine(config, *rest, **options):
        if config.owner_id == bot.owner_id:
            raise RuntimeError("cannot be built")
        return real(config, *rest, **options)

    monkeypatch.setattr(owner_module, "Engine", engine)
    other = await ask(world.bot, owner=world.ben, name="Other", mode="paper")
    hosting()
    await ask(bot_start, bot=bot, actor=bot.owner)
    await ask(bot_start, bot=other, actor=world.ben)
    await eventually(ask, observed(bot), "failed")
    await eventually(ask, observed(other), "running")
    assert "cannot be built" in await ask(lambda: Bot.objects.get(pk=bot.pk).observed_reason)
    monkeypatch.setattr(owner_module, "Engine", real)
    await eventually(ask, observed(bot), "running")  # it is tried again by itself


async def test_new_credentials_begin_the_engine_again(world, hosting, ask) -> None:
    bot = await ask(world.bot, owner=world.anna, mode="live")
    hosting()
    await ask(bot_start, bot=bot, actor=world.anna)
    await eventually(ask, lambda: Command.objects.filter(status="done").count(), 1)
    before = await ask(token(world.anna.pk))
    account = await ask(bot.accounts.first)
    await ask(credentials_set, account=account, actor=world.anna, credentials=world.credentials())
    await eventually(ask, lambda: OwnerLease.objects.get(owner=world.anna).token > before, True)


async def test_a_stopped_host_gives_its_leases_back(bot, hosting, ask) -> None:
    host = hosting()
    await ask(bot_start, bot=bot, actor=bot.owner)
    await eventually(ask, observed(bot), "running")
    host.request_stop()
    await asyncio.wait_for(hosting.hosts[0][1], 30)
    before = await ask(token(bot.owner_id))
    second = hosting()
    await eventually(ask, holder(bot.owner_id), second.holder)
    assert await ask(token(bot.owner_id)) > before
