"""Rebalancing over HTTP: listed, proposed and decided on once, and what is refused."""

from __future__ import annotations

from typing import Any

import pytest

from bots import live_cache
from bots.models import Command
from risk.models import RebalanceRequest
from tests.api.conftest import Caller, fields
from tests.bots.conftest import world  # noqa: F401
from tests.bots.test_rebalancing import Scene, scene  # noqa: F401
from tests.live.items import quote

pytestmark = [pytest.mark.django_db, pytest.mark.database]

ADDRESS = "/api/rebalancing"


@pytest.fixture(autouse=True)
def quotes(_fresh_process: None) -> None:
    live_cache.last_known.remember([quote(code, bid=49_995.0, ask=50_005.0) for code in ("alpha", "beta")])


def proposal(scene: Scene, **changes: Any) -> dict[str, Any]:  # noqa: F811
    data = {
        "kind": "convert", "account_id": scene.alpha.pk, "symbol": "BTC/USDT", "side": "sell", "amount": "0.1",
        "reason": "Alpha has too much.",
    }  # fmt: skip
    return {name: value for name, value in {**data, **changes}.items() if value is not None}


def test_what_the_platform_proposed_is_listed_and_approved_once(scene: Scene) -> None:  # noqa: F811
    sale = scene.sale()
    anna = Caller(scene.anna)
    (listed,) = anna.get(ADDRESS).json()["items"]
    assert (listed["id"], listed["state"], listed["side"], listed["amount"]) == (sale.pk, "PROPOSED", "sell", "0.1")
    assert (listed["cost_bps"], listed["value"], listed["environment"]) == ("11", "5000", "simulated")
    assert listed["may"] == ["approve", "reject", "cancel"]
    assert listed["effects"][0]["after"] == "0.5000"
    first = anna.post(f"{ADDRESS}/{sale.pk}/approve", {"note": "Yes."}, key="one")
    assert (first.status_code, first.json()["state"], first.json()["may"]) == (200, "RUNNING", [])
    again = anna.post(f"{ADDRESS}/{sale.pk}/approve", {"note": "Yes."}, key="one")
    assert (again.json(), again["Idempotency-Replayed"]) == (first.json(), "true")
    late = Caller(scene.operator).post(f"{ADDRESS}/{sale.pk}/approve", {}, key="two")
    assert late.status_code == 409
    assert "It is running already" in late.json()["detail"]
    assert Command.objects.filter(kind="manual_trade").count() == 1
    assert [step["to_state"] for step in anna.get(f"{ADDRESS}/{sale.pk}").json()["history"]] == [
        "PROPOSED", "APPROVED", "RUNNING",
    ]  # fmt: skip


def test_a_proposal_is_anothers_to_approve(scene: Scene) -> None:  # noqa: F811
    scene.hold(scene.alpha, "0.2", "0")
    scene.start()
    anna, operator = Caller(scene.anna), Caller(scene.operator)
    made = anna.post(ADDRESS, proposal(scene), key="one")
    assert made.status_code == 201
    assert (made.json()["proposed_by"], made.json()["is_own"], made.json()["may"]) == ("anna", True, ["cancel"])
    assert anna.post(ADDRESS, proposal(scene), key="one").json() == made.json()
    twice = anna.post(ADDRESS, proposal(scene), key="two")
    assert (twice.status_code, RebalanceRequest.objects.count()) == (409, 1)
    one = f"{ADDRESS}/{made.json()['id']}"
    own = anna.post(f"{one}/approve", {})
    assert own.status_code == 409
    assert "another person" in own.json()["detail"]
    assert operator.get(ADDRESS, owner=scene.anna.pk).json()["items"][0]["may"] == ["approve", "reject", "cancel"]
    rejected = operator.post(f"{one}/reject", {"reason": "Not now."})
    assert (rejected.json()["state"], rejected.json()["outcome"]) == ("REJECTED", "Not now.")
    assert anna.get(ADDRESS, only_open="true").json()["items"] == []


def test_others_find_nothing(scene: Scene) -> None:  # noqa: F811
    sale = scene.sale()
    ben = Caller(scene.world.ben)
    assert ben.get(ADDRESS).json()["items"] == []
    assert ben.get(ADDRESS, owner=scene.anna.pk).status_code == 403
    assert ben.get(f"{ADDRESS}/{sale.pk}").status_code == 404
    for name, data in (("approve", {}), ("reject", {"reason": "No."}), ("cancel", {"reason": "No."})):
        assert ben.post(f"{ADDRESS}/{sale.pk}/{name}", data).status_code == 404
    assert Caller().get(ADDRESS).status_code == 401
    assert RebalanceRequest.objects.get().state == "PROPOSED"


@pytest.mark.parametrize(
    ("changes", "field"),
    [
        ({"kind": "swap"}, "kind"), ({"amount": 1}, "amount"), ({"amount": "7"}, "amount"), ({"side": None}, "side"),
        ({"symbol": "ETH/BTC"}, "symbol"), ({"reason": " "}, "reason"), ({"account_id": 10**9}, "account_id"),
        ({"kind": "move", "asset": "BTC"}, "to_account_id"), ({"much": "x"}, "much"),
    ],
)  # fmt: skip
def test_what_is_wrong_is_told_by_field(scene: Scene, changes: dict[str, Any], field: str) -> None:  # noqa: F811
    scene.hold(scene.alpha, "0.2", "0")
    answer = Caller(scene.anna).post(ADDRESS, proposal(scene, **changes))
    assert answer.status_code == 400
    assert field in fields(answer)


def test_a_reason_is_wanted_and_what_cannot_be_is_a_conflict(scene: Scene) -> None:  # noqa: F811
    sale = scene.sale()
    anna = Caller(scene.anna)
    assert "reason" in fields(anna.post(f"{ADDRESS}/{sale.pk}/reject", {"reason": ""}))
    scene.hold(scene.alpha, "0.01", "0")
    short = anna.post(f"{ADDRESS}/{sale.pk}/approve", {})
    assert short.status_code == 409
    assert "0.01 free" in short.json()["detail"]
    assert anna.post(f"{ADDRESS}/{sale.pk}/moved", {"reason": "Done."}).status_code == 409
    assert anna.post(f"{ADDRESS}/{sale.pk}/approve", {}, key=None).status_code == 400
