"""What changes of risk is on the pages within a second, by a real host and through the channel layer."""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import AsyncIterator, Awaitable, Callable
from typing import Any

import pytest
import pytest_asyncio
from channels.layers import channel_layers, get_channel_layer

from bots.engine_host import host as host_module
from bots.engine_host.host import EngineHost
from bots.engine_host.risk import RiskReporter
from bots.live_cache import PUBLIC_GROUP, owner_group
from bots.live_schema import check_item
from risk.models import CircuitBreaker
from risk.policy.breakers import SECOND_NS, BreakerEvent, BreakerNews, Scope
from risk.services import hints
from risk.services.breaker_operations import breaker_open, breaker_reset
from risk.services.breakers import breaker_event
from risk.services.switch import switch_set
from tests.bots.world import World
from trading.clock import SystemClock

pytestmark = [pytest.mark.django_db(transaction=True), pytest.mark.database]

logger = logging.getLogger("tests.risk")
PATIENCE_SECONDS = 20.0
RISK_KINDS = ("breaker", "switch")


class Listener:
    """A group's pages: the items of risk that reach them."""

    def __init__(self, group: str) -> None:
        self._group = group
        self._items: list[dict[str, Any]] = []

    async def start(self) -> None:
        self._layer = get_channel_layer()
        assert self._layer is not None
        self._channel = await self._layer.new_channel("test")
        await self._layer.group_add(self._group, self._channel)

    async def item(self) -> dict[str, Any]:
        async with asyncio.timeout(PATIENCE_SECONDS):
            while not self._items:
                message = await self._layer.receive(self._channel)
                self._items += [item for item in message["items"] if item["kind"] in RISK_KINDS]
        item = self._items.pop(0)
        check_item(item["kind"], item["key"], item["data"])
        return item


@pytest_asyncio.fixture
async def host(transactional_db: None) -> AsyncIterator[EngineHost]:
    channel_layers.backends.clear()
    host = EngineHost()
    task = asyncio.create_task(host.run())
    yield host
    host.request_stop()
    await asyncio.wait_for(task, 30)
    channel_layers.backends.clear()


@pytest_asyncio.fixture
async def listen(host: EngineHost) -> Callable[[str], Awaitable[Listener]]:
    async def listen(group: str) -> Listener:
        listener = Listener(group)
        await listener.start()
        return listener

    return listen


async def test_a_tripped_and_reset_breaker_is_on_everybodys_page_at_once(world: World, threads, listen) -> None:
    everybody = await listen(PUBLIC_GROUP)
    begun = time.monotonic()
    await threads.run(lambda: breaker_open(actor=world.operator, scope="exchange", key="alpha", reason="odd prices"))
    item = await everybody.item()
    took = time.monotonic() - begun
    logger.info("a trip was published after %.0f ms", took * 1e3)
    assert took < 5.0
    assert (item["key"], item["data"]["state"], item["data"]["reason"]) == ("exchange:alpha", "open", "odd prices")
    row = await threads.run(CircuitBreaker.objects.get)
    await threads.run(lambda: breaker_reset(actor=world.operator, breaker=row, reason="checked", seen_version=1))
    item = await everybody.item()
    assert (item["key"], item["data"]["state"], item["data"]["version"]) == ("exchange:alpha", "closed", 2)


async def test_without_hints_it_is_there_a_moment_later(world: World, threads, listen, monkeypatch) -> None:
    monkeypatch.setattr(hints, "RISK_GROUP", "nobody")
    everybody = await listen(PUBLIC_GROUP)
    begun = time.monotonic()
    await threads.run(lambda: breaker_open(actor=world.operator, scope="exchange", key="alpha", reason="odd prices"))
    assert (await everybody.item())["key"] == "exchange:alpha"
    logger.info("without a hint a trip was published after %.0f ms", (time.monotonic() - begun) * 1e3)


async def test_with_hints_no_look_is_needed(world: World, threads, listen, host, monkeypatch) -> None:
    everybody = await listen(PUBLIC_GROUP)
    turn = {"actor": world.operator, "scope": "global", "reason": "a drill"}
    await threads.run(lambda: switch_set(**turn, state="reduce_only", seen_version=0))
    assert (await everybody.item())["data"]["state"] == "reduce_only"
    # From its next pause on it only wakes for hints.
    monkeypatch.setattr(host_module, "RISK_SECONDS", 3600.0)
    await asyncio.sleep(1.0)
    for version, state in enumerate(("kill", "normal"), start=1):
        await threads.run(lambda: switch_set(**turn, state=state, seen_version=version))  # noqa: B023 (run at once)
        assert (await everybody.item())["data"]["state"] == state


async def test_what_an_engine_trips_is_told_as_soon_as_it_is_durable(world: World, threads, listen, make_store) -> None:
    token = await threads.run(lambda: world.lease(world.anna))
    store = make_store(world.anna.pk, token)
    anna = await listen(owner_group(world.anna.pk))
    begun = time.monotonic()
    news = BreakerNews(
        scope=Scope.OWNER, key=str(world.anna.pk), event=BreakerEvent.TRIP, at_ns=time.time_ns(), reason="Three losses."
    )
    await store.move_breaker(news)
    item = await anna.item()
    took = time.monotonic() - begun
    logger.info("an engine's trip was published after %.0f ms", took * 1e3)
    assert took < 5.0
    assert (item["data"]["name"], item["data"]["state"], item["data"]["reason"]) == (
        "owner anna",
        "open",
        "Three losses.",
    )


async def test_what_is_ones_own_goes_to_its_owner_alone(world: World, threads, listen) -> None:
    bot = await threads.run(lambda: world.bot(world.anna))
    account = await threads.run(bot.accounts.first)
    anna, ben, everybody = [
        await listen(group) for group in (owner_group(world.anna.pk), owner_group(world.ben.pk), PUBLIC_GROUP)
    ]

    def change() -> None:
        for scope, key in (("owner", world.anna.pk), ("bot", bot.pk), ("account", account.pk)):
            breaker_open(actor=world.operator, scope=scope, key=str(key), reason="a loss of 1234.5")
        for ids in ({"scope": "owner", "owner_id": world.anna.pk}, {"scope": "bot", "bot_id": bot.pk}):
            switch_set(actor=world.operator, state="kill", reason="a loss of 1234.5", seen_version=0, **ids)
        breaker_open(actor=world.operator, scope="owner", key=str(world.ben.pk), reason="the last one")
        breaker_open(actor=world.operator, scope="pair", key="BTC/USDT", reason="the last one")

    await threads.run(change)
    seen = {(item["kind"], item["key"]) for item in [await anna.item() for _ in range(5)]}
    assert seen == {
        ("breaker", f"owner:{world.anna.pk}"), ("breaker", f"bot:{bot.pk}"), ("breaker", f"account:{account.pk}"),
        ("switch", f"owner:{world.anna.pk}"), ("switch", f"bot:{bot.pk}"),
    }  # fmt: skip
    # What is published last is the first that the others hear of.
    assert (await ben.item())["key"] == f"owner:{world.ben.pk}"
    assert (await everybody.item())["key"] == "pair:BTC/USDT"


class Clock(SystemClock):
    """Wall time that is moved by hand."""

    now_ns = 1_760_000_000 * SECOND_NS

    def time_ns(self) -> int:
        return self.now_ns


class Told:
    """A publisher that keeps what it is given."""

    def __init__(self) -> None:
        self.items: list[tuple[int | None, str, str]] = []

    def publish(self, owner: int | None, kind: str, key: str, data: Any) -> None:
        self.items.append((owner, key, data["state"]))

    def take(self) -> list[tuple[int | None, str, str]]:
        taken, self.items = self.items, []
        return taken


async def test_only_what_changed_is_told_and_a_cool_down_ends_by_time_alone(world: World, threads) -> None:
    clock, told = Clock(), Told()
    reporter = RiskReporter(told, clock, threads)

    def trip() -> None:
        breaker_event(
            scope=Scope.EXCHANGE, key="alpha", event=BreakerEvent.TRIP, now_ns=clock.now_ns, seconds=60, reason="why"
        )

    await threads.run(trip)
    await reporter.read()
    reporter.tell()
    assert told.take() == [(None, "exchange:alpha", "open")]
    reporter.tell()
    await reporter.read()
    reporter.tell()
    assert told.take() == []
    clock.now_ns += 60 * SECOND_NS
    reporter.tell()
    assert told.take() == [(None, "exchange:alpha", "half_open")]
    row = await threads.run(CircuitBreaker.objects.get)
    await threads.run(lambda: breaker_reset(actor=world.operator, breaker=row, reason="checked", seen_version=1))
    for _ in range(2):
        await reporter.read()
        reporter.tell()
    assert told.take() == [(None, "exchange:alpha", "closed")]
