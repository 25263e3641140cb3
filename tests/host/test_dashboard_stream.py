"""What an engine in a host tells the dashboard: its health, and a trade by hand from the API to its protection."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import Any

import msgspec
import pytest
from channels.layers import channel_layers, get_channel_layer

from bots.live_cache import owner_group
from bots.live_desk_schema import EngineHealth, Order, Position, Progress
from bots.live_schema import Trade
from tests.api.conftest import Caller
from tests.exchangesim.simulator import shared_simulator  # noqa: F401
from tests.host.test_commands import Place, place  # noqa: F401
from tests.host.test_host import hosting  # noqa: F401
from tests.host.test_tickets import Prices, patient, prices  # noqa: F401

pytestmark = [pytest.mark.django_db(transaction=True), pytest.mark.database]

TYPES = {"health": EngineHealth, "order": Order, "position": Position, "progress": Progress, "trade": Trade}


class Heard:
    """An owner's items as they are published; each must be what its type says."""

    def __init__(self) -> None:
        self.items: list[tuple[str, Any]] = []
        self.task: asyncio.Task[None]

    def start(self, owner_id: int) -> None:
        self.task = asyncio.create_task(self.follow(owner_id))

    async def follow(self, owner_id: int) -> None:
        layer = get_channel_layer()
        assert layer is not None
        channel = await layer.new_channel("test")
        await layer.group_add(owner_group(owner_id), channel)
        while True:
            for item in (await layer.receive(channel))["items"]:
                if item["kind"] in TYPES:
                    self.items.append((item["kind"], msgspec.convert(item["data"], TYPES[item["kind"]])))

    async def until(self, kind: str, wanted: Callable[[Any], bool]) -> Any:
        async with asyncio.timeout(60):
            while True:
                if self.task.done():
                    self.task.result()  # raises what was wrong with an item
                for name, data in self.items:
                    if name == kind and wanted(data):
                        return data
                await asyncio.sleep(0.02)


async def test_a_trade_by_hand_is_told_from_the_request_to_its_protection(
    place: Place,  # noqa: F811
    prices: Prices,  # noqa: F811
    hosting: Callable[..., Any],  # noqa: F811
) -> None:
    channel_layers.backends.clear()
    anna = place.world.anna
    heard = Heard()
    heard.start(anna.pk)
    try:

        def fund() -> None:
            place.account.paper_balances = {"USDT": "100000", "BTC": "1"}
            place.account.save()

        await place.ask(fund)
        hosting(lease_seconds=60.0)

        def ask() -> int:
            body = {
                "mode": "paper", "account_id": place.account.pk, "symbol": "BTC/USDT", "side": "buy", "amount": "0.05",
                "order": "market", "take_profit": "61000", "stop_loss": "59000",
            }  # fmt: skip
            answer = Caller(anna).post("/api/manual-trade", body, key="by hand")
            assert answer.status_code == 202, answer.content
            return int(answer.json()["command_id"])

        command = await place.ask(ask)
        ended = await heard.until("progress", lambda one: one.command_id == command and one.step in {"done", "failed"})
        assert (ended.step, ended.path) == ("done", "paper"), ended.message
        held = await heard.until("position", lambda position: position.protected_by == "engine")
        assert (held.side, held.take_profit, held.stop_loss) == ("long", "61000", "59000")
        order = await heard.until("order", lambda order: order.status == "FILLED")
        assert (order.trade_id, order.account) == (held.trade_id, held.account)
        health = await heard.until("health", lambda health: any(one.state == "live" for one in health.accounts))
        [account] = [one for one in health.accounts if one.account_id == place.account.pk]
        assert (account.environment, account.path) == ("paper", "paper")
        assert {stage.stage for stage in health.stages} >= {"book_to_decision", "sent_to_answered"}

        def shown() -> Any:
            return Caller(anna).get("/api/dashboard", mode="paper").json()

        dashboard = await place.ask(shown)
        assert [one["trade_id"] for one in dashboard["positions"]["items"]] == [held.trade_id]
        assert "done" in {one["step"] for one in dashboard["progress"]}
    finally:
        heard.task.cancel()
