"""Bots, lists and the dashboard over HTTP."""

from __future__ import annotations

from decimal import Decimal

import msgspec
import pytest

from bots.live_desk_schema import Dashboard
from bots.models import ApiAnswer, Bot, Command
from tests.api.conftest import Caller, fields
from tests.live.desk import Desk, make_desk

pytestmark = [pytest.mark.django_db(transaction=True), pytest.mark.database]


def test_a_bot_starts_once_whatever_is_sent_twice(desk: Desk, alice: Caller) -> None:
    address = f"/api/bots/{desk.bot.pk}/start"
    first, again = alice.post(address, key="start"), alice.post(address, key="start")
    assert first.status_code == again.status_code == 202
    assert first.json() == again.json()
    assert "Idempotency-Replayed" not in first
    assert again["Idempotency-Replayed"] == "true"
    assert Command.objects.get().pk == first.json()["command_id"]
    assert alice.post(address).json()["changed"] is False  # another key: it runs already


def test_a_key_is_one_requests_and_its_owners(desk: Desk, alice: Caller) -> None:
    assert alice.post(f"/api/bots/{desk.bot.pk}/start", key="mine").status_code == 202
    refused = alice.post(f"/api/bots/{desk.bot.pk}/stop", key="mine")
    assert refused.status_code == 409
    assert fields(refused)["Idempotency-Key"]["given"] == "mine"
    assert Bot.objects.get().desired_state == "running"
    other = make_desk("bob")
    assert Caller(other.user).post(f"/api/bots/{other.bot.pk}/start", key="mine").status_code == 202
    assert Command.objects.count() == 2


@pytest.mark.parametrize("key", [None, " ", "x" * 65, " padded", "b\u00e4d"])
def test_a_key_must_be_there_and_be_one(desk: Desk, alice: Caller, key: str | None) -> None:
    refused = alice.post(f"/api/bots/{desk.bot.pk}/start", key=key)
    assert refused.status_code == 400
    assert "Idempotency-Key" in fields(refused)


def test_what_is_refused_leaves_its_key_unused(desk: Desk, alice: Caller) -> None:
    desk.bot.accounts.clear()
    address = f"/api/bots/{desk.bot.pk}/start"
    refused = alice.post(address, key="again")
    assert refused.status_code == 409
    assert "needs at least an account" in refused.json()["detail"]
    assert not ApiAnswer.objects.exists()
    desk.bot.accounts.set(desk.accounts.values())
    assert alice.post(address, key="again").status_code == 202


@pytest.mark.parametrize("bot_id", ["0", "-1", "x", str(2**63), "1.5"])
def test_bots_there_are_not_are_not_found(desk: Desk, alice: Caller, bot_id: str) -> None:
    assert alice.post(f"/api/bots/{bot_id}/start").status_code in {400, 404}


def test_another_users_bot_is_not_there(desk: Desk, alice: Caller) -> None:
    other = make_desk("bob")
    assert alice.post(f"/api/bots/{other.bot.pk}/start").status_code == 404
    assert Bot.objects.get(pk=other.bot.pk).desired_state == "stopped"


def test_lists_come_in_pages_newest_first(desk: Desk, alice: Caller) -> None:
    for _ in range(5):
        desk.trade()
    seen, before = [], None
    while True:
        query = {"limit": 2} | ({} if before is None else {"before": before})
        page = alice.get("/api/trades", **query).json()
        seen += [trade["id"] for trade in page["items"]]
        before = page["next"]
        if before is None:
            break
    assert len(seen) == len(set(seen)) == 5
    assert len(alice.get("/api/orders", limit=1).json()["items"]) == 1


def test_lists_are_of_one_mode_where_asked(desk: Desk, alice: Caller) -> None:
    desk.trade(mode="paper")
    desk.trade(mode="simulated")
    assert [one["mode"] for one in alice.get("/api/trades", mode="live").json()["items"]] == ["simulated"]
    assert {one["environment"] for one in alice.get("/api/orders", mode="paper").json()["items"]} == {"paper"}


@pytest.mark.parametrize(
    "query", ["limit=0", "limit=501", "limit=x", "before=0", "before=-1", "mode=both", "owner=0", "owner=x"]
)
def test_bad_queries_are_told(alice: Caller, query: str) -> None:
    refused = alice.get(f"/api/trades?{query}")
    assert refused.status_code == 400
    assert query.partition("=")[0] in fields(refused)


def test_the_dashboard_is_what_its_type_says(desk: Desk, alice: Caller) -> None:
    desk.trade()
    desk.decision()
    answer = alice.get("/api/dashboard", mode="paper")
    shown = msgspec.json.decode(answer.content, type=Dashboard)
    assert answer["Cache-Control"] == "no-store"
    assert Decimal(shown.balance[0].wallet_balance) == 2 * (Decimal("60000.25") + Decimal("1.5") * 50_005)
    assert (len(shown.trades), len(shown.orders), len(shown.opportunities)) == (1, 2, 1)
    assert alice.get("/api/dashboard").status_code == 400


def test_addresses_and_methods_there_are_not(alice: Caller) -> None:
    assert alice.get("/api/nothing/here").status_code == 404
    refused = alice.client.delete("/api/bots")
    assert (refused.status_code, refused["Content-Type"]) == (405, "application/problem+json")


def test_the_old_addresses_are_still_there(alice: Caller) -> None:
    assert alice.client.get("/api/live/snapshot").json()["type"] == "snapshot"
    assert alice.client.post("/api/live/switch", "{}", content_type="application/json").status_code == 400


def test_the_api_describes_itself(alice: Caller) -> None:
    document = Caller().client.get("/api/openapi.json").json()
    assert {"/api/manual-trade", "/api/manual-trade-ws", "/api/manual-trade/close", "/api/dashboard", "/api/bots"} <= (
        document["paths"].keys()
    )
    posts = [path["post"] for path in document["paths"].values() if "post" in path]
    assert all(
        any(one["name"] == "Idempotency-Key" and one["required"] for one in post["parameters"]) for post in posts
    )
    references = set(_references(document))
    assert {name.rpartition("/")[2] for name in references} <= document["components"]["schemas"].keys()


def _references(node: object) -> list[str]:
    if isinstance(node, dict):
        own = [node["$ref"]] if isinstance(node.get("$ref"), str) else []
        return own + [found for value in node.values() for found in _references(value)]
    return [found for value in node for found in _references(value)] if isinstance(node, list) else []
