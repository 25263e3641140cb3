"""Requests to rebalance in the admin: read, decided on with a reason, proposed by hand, one's own only."""

from __future__ import annotations

from decimal import Decimal
from typing import Any

import pytest
from django.test import Client
from django.urls import reverse

from bots.models import Bot, Command, Market
from risk.models import RebalanceRequest
from tests.bots.test_rebalancing import Scene, _quotes, scene  # noqa: F401

pytestmark = [pytest.mark.django_db]

LIST = reverse("admin:risk_rebalancerequest_changelist")


def address(row: RebalanceRequest, name: str = "change") -> str:
    view = "admin:risk_rebalancerequest_change" if name == "change" else f"admin:risk_rebalance_{name}"
    return reverse(view, args=[row.pk])


def decided(client: Client, row: RebalanceRequest, name: str, reason: str = "") -> str:
    answer = client.post(address(row, name), {"reason": reason}, follow=True)
    assert answer.redirect_chain == [(address(row), 302)]
    return " ".join(str(message) for message in answer.context["messages"])


def test_an_operator_reads_and_approves(scene: Scene, operator: Client) -> None:  # noqa: F811
    sale = scene.sale()
    listed = operator.get(LIST, {"state__exact": "PROPOSED", "kind__exact": "convert"}).text
    assert "Sell 0.1 BTC" in listed
    assert "11 bps" in listed
    shown = operator.get(address(sale)).text
    for text in ("100.0 %", "50.0 %", "Approve and convert now", "the platform", sale.reason.split(";")[0]):
        assert text in shown
    assert decided(operator, sale, "approve", "Yes.") == f"{sale} is running."
    assert "is running already" in decided(operator, sale, "approve")
    assert Command.objects.filter(kind="manual_trade").count() == 1
    after = operator.get(address(sale)).text
    assert "Approve and convert now" not in after
    assert "The engine was asked to convert it." in after


def test_a_refusal_says_why_and_changes_nothing(scene: Scene, operator: Client) -> None:  # noqa: F811
    sale = scene.sale()
    Bot.objects.filter(strategy="manual").update(desired_state="stopped")
    assert "Start trading by hand first" in decided(operator, sale, "approve")
    assert "Say why" in decided(operator, sale, "reject")
    assert decided(operator, sale, "reject", "Not now.") == f"{sale} is rejected."
    assert RebalanceRequest.objects.get().outcome == "Not now."


def test_owners_decide_on_theirs_and_others_find_nothing(scene: Scene, anna: Client, ben: Client) -> None:  # noqa: F811
    sale = scene.sale()
    assert "Sell 0.1 BTC" in anna.get(LIST).text
    assert "Sell 0.1 BTC" not in ben.get(LIST).text
    assert ben.get(address(sale)).status_code == 404
    for name in ("approve", "reject", "cancel", "moved"):
        assert ben.post(address(sale, name), {"reason": "No."}).status_code == 404
        assert anna.get(address(sale, name)).status_code == 405
    assert decided(anna, sale, "cancel", "Not now.") == f"{sale} is cancelled."


def form(scene: Scene, **changes: Any) -> dict[str, Any]:  # noqa: F811
    market = Market.objects.get(exchange=scene.alpha.exchange, symbol="BTC/USDT")
    values = {
        "kind": "convert", "account": scene.alpha.pk, "market": market.pk, "side": "sell", "amount": "0.1",
        "reason": "Too much of it.", "to_account": "", "asset": "",
    }  # fmt: skip
    return {**values, **changes}


def test_a_proposal_by_hand_is_anothers_to_approve(scene: Scene, anna: Client, operator: Client) -> None:  # noqa: F811
    scene.hold(scene.alpha, "0.2", "0")
    scene.start()
    add = reverse("admin:risk_rebalancerequest_add")
    assert anna.get(add).status_code == 200
    assert anna.post(add, form(scene)).status_code == 302
    row = RebalanceRequest.objects.get()
    assert (row.proposed_by, row.owner, row.amount) == (scene.anna, scene.anna, Decimal("0.1"))
    shown = anna.get(address(row)).text
    assert "another person has to approve it" in shown
    assert "Approve and convert now" not in shown
    assert "another person" in decided(anna, row, "approve")
    assert decided(operator, row, "approve") == f"{row} is running."


@pytest.mark.parametrize(
    ("changes", "field"),
    [
        ({"amount": "9"}, "amount"),
        ({"amount": "x"}, "amount"),
        ({"kind": "move"}, "to_account"),
        ({"market": ""}, "market"),
    ],
)
def test_a_wrong_proposal_is_told_on_its_field(
    scene: Scene,  # noqa: F811
    anna: Client,
    changes: dict[str, Any],
    field: str,
) -> None:
    scene.hold(scene.alpha, "0.2", "0")
    answer = anna.post(reverse("admin:risk_rebalancerequest_add"), form(scene, **changes))
    assert answer.status_code == 200
    assert field in answer.context["adminform"].form.errors
    assert not RebalanceRequest.objects.exists()


def test_a_move_is_approved_and_said_to_be_made(scene: Scene, anna: Client, operator: Client) -> None:  # noqa: F811
    scene.hold(scene.alpha, "0.2", "0")
    given = form(scene, kind="move", to_account=scene.beta.pk, asset="BTC", market="", side="")
    assert anna.post(reverse("admin:risk_rebalancerequest_add"), given).status_code == 302
    row = RebalanceRequest.objects.get()
    assert decided(operator, row, "approve") == f"{row} is approved."
    assert "It was moved" in anna.get(address(row)).text
    assert decided(anna, row, "moved", "By hand.") == f"{row} is done."
