"""Disputed orders: what is known is shown, a decision is checked, asked for once, and written down."""

from __future__ import annotations

import json
from decimal import Decimal
from typing import Any

import pytest
from django.contrib.admin.models import LogEntry
from django.core.exceptions import PermissionDenied, ValidationError
from django.db import connection
from django.urls import reverse

from bots.models import Command, Fill, Order
from bots.services.disputes import (
    FillText,
    evidence_of,
    order_adopt,
    order_decided,
    order_decision_of,
    order_mark_absent,
    order_mark_filled,
)
from bots.services.events import events_apply
from tests.bots.durable import trade_commit
from trading.execution.decisions import DecisionKind
from trading.messages import OrderIntent, OrderState

pytestmark = [pytest.mark.django_db, pytest.mark.database]

D = Decimal
EVIDENCE = {
    "evidence": [{"at": 1_760_000_000_000_000_000, "question": "open_orders", "answer": "two, <b>none</b> of ours"}],
    "candidates": [
        {"exchange_order_id": "x-1", "side": "buy", "price": "60000", "quantity": "0.5", "filled": "0.2"},
        {"exchange_order_id": "x-2", "side": "sell", "price": "60000", "quantity": "0.5", "filled": "0"},
    ],
}


class Case:
    """anna's trade, whose first order nobody could prove anything about."""

    def __init__(self, world: Any, raw: str = json.dumps(EVIDENCE)) -> None:
        self.world = world
        self.owner = world.anna
        self.bot = world.bot(world.anna)
        token = world.token(self.owner)
        trade = world.trade(self.bot, token)
        self.intents: list[OrderIntent] = world.intents(self.bot, trade)
        trade_commit(owner_id=self.owner.pk, token=token, trade=trade, intents=self.intents)
        self.say(OrderState.UNKNOWN)
        self.say(OrderState.DISPUTED, raw=raw, cause="no proof in time", source="engine")

    def say(self, state: OrderState, *fills: Any, **changes: Any) -> None:
        event = self.world.event(self.intents[0], state, *fills, **{"exchange_order_id": "", **changes})
        events_apply(owner_id=self.owner.pk, batch=[(event, state.value)])

    @property
    def order(self) -> Order:
        return Order.objects.select_related("market__exchange").get(client_order_id=self.intents[0].client_order_id)

    def booked(self, state: OrderState, command: Command) -> None:
        """Do what the engine does with a decision."""
        decision = order_decision_of(command)
        self.say(state, *decision.fills, source="operator", cause=decision.cause)
        order_decided(command_id=command.pk, problem="")


@pytest.fixture
def case(world) -> Case:
    return Case(world)


def typed(**changes: str) -> FillText:
    values = {
        "exchange_trade_id": "t-9", "quantity": "0.5", "price": "60000", "fee": "30", "fee_asset": "USDT",
        "at": "2025-10-09 08:53:21",
    }  # fmt: skip
    return FillText(**(values | changes))


def test_evidence_is_read_as_it_was_written(case) -> None:
    evidence = evidence_of(case.order)
    ((at, question, answer),) = evidence.asked
    assert (at.year, question, answer) == (2025, "open_orders", "two, <b>none</b> of ours")
    assert [row["exchange_order_id"] for row in evidence.candidates] == ["x-1", "x-2"]
    assert evidence.text == "no proof in time"


@pytest.mark.parametrize(
    "raw", ["", "plain words", "[]", '{"evidence": 7}', '{"evidence": [{}]}', '{"evidence": [{"at": 1e99}]}', "{" * 500]
)
def test_evidence_of_another_form_is_shown_as_text(world, raw) -> None:
    evidence = evidence_of(Case(world, raw).order)
    assert evidence.asked == ()
    assert raw in evidence.text
    assert "no proof in time" in evidence.text


def test_marking_absent_asks_once_and_is_written_down(case) -> None:
    command = order_mark_absent(order=case.order, actor=case.owner, reason=" seen on the  exchange ")
    decision = order_decision_of(command)
    assert (decision.kind, decision.client_order_id) == (DecisionKind.ABSENT, case.intents[0].client_order_id)
    with pytest.raises(ValidationError, match=f"being carried out already .#{command.pk}, absent, asked for by anna"):
        order_mark_absent(order=case.order, actor=case.owner, reason="again")
    assert Command.objects.filter(kind=Command.Kind.ORDER_DECIDE).count() == 1
    case.booked(OrderState.FAILED, command)
    command.refresh_from_db()
    assert (command.status, command.result) == ("done", "Booked: the order is FAILED, 0 of 0.5 filled.")
    with pytest.raises(ValidationError, match="no longer disputed: it is FAILED"):
        order_mark_absent(order=case.order, actor=case.owner, reason="again")
    logs = LogEntry.objects.filter(object_id=str(case.order.pk), user=case.owner).order_by("pk")
    said = [log.change_message for log in logs if "Decision" in log.change_message]
    assert "asked for: mark it absent. It was DISPUTED, 0 of 0.5 filled. Reason: seen on the exchange" in said[0]
    assert "is booked: it was DISPUTED, the order is FAILED" in said[1]


def test_a_refused_decision_can_be_followed_by_another(case) -> None:
    first = order_adopt(order=case.order, actor=case.owner, reason="this one", exchange_order_id="x-1")
    order_decided(command_id=first.pk, problem="Order x-1 is still open.")
    order_decided(command_id=first.pk, problem="told twice")
    first.refresh_from_db()
    assert (first.status, first.result) == ("failed", "Order x-1 is still open.")
    second = order_adopt(order=case.order, actor=case.owner, reason="this one", exchange_order_id="x-1")
    assert second.pk != first.pk
    assert second.status == "pending"


def test_a_decision_booked_by_a_process_that_died_is_done(case) -> None:
    command = order_mark_absent(order=case.order, actor=case.owner, reason="gone")
    case.say(OrderState.FAILED, source="operator", cause=order_decision_of(command).cause)
    order_decided(command_id=command.pk, problem="The order is no longer disputed: it is FAILED, 0 filled.")
    command.refresh_from_db()
    assert command.status == "done"


def test_an_order_that_is_disputed_again_can_be_decided_again(case) -> None:
    case.booked(OrderState.FAILED, order_mark_absent(order=case.order, actor=case.owner, reason="gone"))
    case.say(OrderState.PLACED, exchange_order_id="x-3")
    case.say(OrderState.DISPUTED, cause="vanished")
    assert order_mark_absent(order=case.order, actor=case.owner, reason="gone again").status == "pending"


def test_fills_reach_the_engine_as_they_were_typed(case) -> None:
    texts = [typed(quantity="0.2"), typed(exchange_trade_id="t-10", quantity="0.3", fee="", fee_asset="")]
    command = order_mark_filled(order=case.order, actor=case.owner, reason="the exchange's page", typed=texts)
    first, second = order_decision_of(command).fills
    assert (first.quantity, first.price, first.fee, first.fee_asset) == (D("0.2"), D(60000), D(30), "USDT")
    assert (second.fee, second.fee_asset, second.side) == (None, "", "buy")
    case.booked(OrderState.FILLED, command)
    assert (case.order.state, case.order.filled) == ("FILLED", D("0.5"))
    assert case.order.fills.count() == 2


@pytest.mark.parametrize(
    ("changes", "answer"),
    [
        ({"quantity": "NaN"}, "quantity: must be finite and below 1e20 (given 'NaN')"),
        ({"quantity": "Infinity"}, "quantity: must be finite"),
        ({"quantity": "-1"}, "quantity: must be above zero (given '-1')"),
        ({"quantity": "0"}, "quantity: must be above zero"),
        ({"quantity": "1e-400"}, "quantity: smaller than 1e-18"),
        ({"quantity": "1e400"}, "quantity: must be finite and below 1e20"),
        ({"quantity": "١"}, "quantity: not a number"),
        ({"quantity": "0,5"}, "quantity: not a number"),
        ({"quantity": "0.6"}, "The order is for 0.5: its fills may not come to more (given 0.6)."),
        ({"price": "60000.01"}, "price: at most the order's limit of 60000 (given 60000.01)"),
        ({"price": ""}, "price: not a number"),
        ({"fee": "NaN"}, "fee: must be finite"),
        ({"fee": "99999999"}, "fee: below the fill's worth of 30000.0 (given 99999999)"),
        ({"fee_asset": ""}, "fee asset: name the asset"),
        ({"exchange_trade_id": ""}, "exchange trade id: must be 1 to 64 characters"),
        ({"exchange_trade_id": "x" * 65}, "exchange trade id: must be 1 to 64 characters"),
        ({"at": "yesterday"}, "time: write it as"),
        ({"at": "2025-13-45 99:99:99"}, "time: write it as"),
        ({"at": "2025-10-01 00:00:00"}, "time: between the order's 2025-10-09 08:53:20 UTC and now"),
        ({"at": "2999-10-01 00:00:00"}, "time: between the order's"),
    ],
)
def test_a_figure_that_cannot_be_is_refused_with_field_limit_and_what_was_given(case, changes, answer) -> None:
    with pytest.raises(ValidationError) as problem:
        order_mark_filled(order=case.order, actor=case.owner, reason="typed", typed=[typed(**changes)])
    assert answer in " ".join(problem.value.messages)
    assert "fills" in problem.value.error_dict
    assert not Command.objects.filter(kind=Command.Kind.ORDER_DECIDE).exists()


def test_fills_are_each_named_once_and_belong_to_no_other_order(case) -> None:
    with pytest.raises(ValidationError, match="t-9 is given twice"):
        order_mark_filled(
            order=case.order, actor=case.owner, reason="x", typed=[typed(quantity="0.1"), typed(quantity="0.1")]
        )
    other = case.world.intents(case.bot, case.world.trade(case.bot, case.world.token(case.owner)))
    trade = case.world.trade(case.bot, case.world.token(case.owner), trade_id=other[0].trade_id)
    trade_commit(owner_id=case.owner.pk, token=case.world.token(case.owner), trade=trade, intents=other)
    fill = case.world.fill(other[0], exchange_trade_id="t-9")
    events_apply(owner_id=case.owner.pk, batch=[(case.world.event(other[0], OrderState.FILLED, fill), "FILLED")])
    with pytest.raises(ValidationError, match="t-9 is booked already, for order"):
        order_mark_filled(order=case.order, actor=case.owner, reason="x", typed=[typed()])
    with pytest.raises(ValidationError, match=f"Belongs to our order {other[0].client_order_id}"):
        order_adopt(order=case.order, actor=case.owner, reason="x", exchange_order_id=f"x-{other[0].client_order_id}")
    with pytest.raises(ValidationError, match="Name at least one fill"):
        order_mark_filled(order=case.order, actor=case.owner, reason="x")


def test_a_fill_of_the_account_that_belongs_to_no_order_can_be_chosen(case) -> None:
    fill = case.world.fill(case.intents[0], exchange_trade_id="t-77", client_order_id="", exchange_order_id="x-5")
    event = case.world.event(case.intents[0], OrderState.FILLED, fill, client_order_id="", exchange_order_id="x-5")
    events_apply(owner_id=case.owner.pk, batch=[(event, "FILLED")])
    row = Fill.objects.get()
    assert row.order is None
    command = order_mark_filled(order=case.order, actor=case.owner, reason="it is this", chosen=[row])
    case.booked(OrderState.FILLED, command)
    row.refresh_from_db()
    assert row.order == case.order
    assert Fill.objects.count() == 1
    with pytest.raises(ValidationError, match="not an unassigned buy"):
        order_mark_filled(order=case.order, actor=case.owner, reason="again", chosen=[row])


@pytest.mark.parametrize("given", ["", " ", "x" * 65, "a b", "a\x00"])
def test_an_exchange_order_id_that_cannot_be_is_refused(case, given) -> None:
    with pytest.raises(ValidationError, match="Must be 1 to 64 characters"):
        order_adopt(order=case.order, actor=case.owner, reason="x", exchange_order_id=given)


def test_a_candidate_of_the_other_side_is_refused(case) -> None:
    with pytest.raises(ValidationError, match="Is a sell, the order is a buy"):
        order_adopt(order=case.order, actor=case.owner, reason="x", exchange_order_id="x-2")


@pytest.mark.parametrize("reason", ["", "   ", "x" * 501, "a\x00b"])
def test_a_decision_needs_a_reason(case, reason) -> None:
    with pytest.raises(ValidationError) as problem:
        order_mark_absent(order=case.order, actor=case.owner, reason=reason)
    assert "reason" in problem.value.error_dict


def test_nobody_else_decides_and_an_operator_may(case) -> None:
    with pytest.raises(PermissionDenied):
        order_mark_absent(order=case.order, actor=case.world.ben, reason="mine now")
    case.owner.groups.clear()
    owner = type(case.owner).objects.get(pk=case.owner.pk)  # permissions are cached on the object
    with pytest.raises(PermissionDenied):
        order_mark_absent(order=case.order, actor=owner, reason="no role")
    assert order_mark_absent(order=case.order, actor=case.world.operator, reason="for anna").requested_by == (
        case.world.operator
    )


# --- pages ---------------------------------------------------------------------------------------------------------


def page(case: Case, name: str) -> str:
    return reverse(f"admin:bots_order_{name}", args=[case.order.pk])


def absent(reason: str = "seen on the exchange") -> dict[str, str]:
    return {"decision": "absent", "absent-reason": reason}


def filled(**changes: str) -> dict[str, str]:
    row = {
        "exchange_trade_id": "t-9", "quantity": "0.5", "price": "60000", "fee": "", "fee_asset": "",
        "at": "2025-10-09 08:53:21",
    } | changes  # fmt: skip
    return {
        "decision": "filled", "filled-reason": "typed", "fills-TOTAL_FORMS": "5", "fills-INITIAL_FORMS": "0",
        **{f"fills-0-{name}": value for name, value in row.items()},
    }  # fmt: skip


def test_the_page_shows_evidence_candidates_and_three_decisions(case, anna) -> None:
    html = anna.get(page(case, "change")).content.decode()
    assert "two, &lt;b&gt;none&lt;/b&gt; of ours" in html
    assert "x-1" in html
    for decision in ("absent", "adopt", "filled"):
        assert f'id="decide-{decision}"' in html


def test_an_order_that_is_not_disputed_has_no_decisions(case, anna) -> None:
    other = Order.objects.get(client_order_id=case.intents[1].client_order_id)
    html = anna.get(reverse("admin:bots_order_change", args=[other.pk])).content.decode()
    assert 'id="dispute"' not in html


def test_a_double_click_asks_once_and_the_second_is_told(case, anna) -> None:
    first = anna.post(page(case, "decide"), absent(), follow=True).content.decode()
    second = anna.post(page(case, "decide"), absent(), follow=True).content.decode()
    assert "is asked for" in first
    assert "Pending" in first
    assert 'id="decide-absent"' not in first
    assert "is being carried out already" in second
    assert Command.objects.filter(kind=Command.Kind.ORDER_DECIDE).count() == 1


def test_what_became_of_a_decision_is_shown(case, anna) -> None:
    anna.post(page(case, "decide"), absent())
    case.booked(OrderState.FAILED, Command.objects.get(kind=Command.Kind.ORDER_DECIDE))
    html = anna.get(page(case, "change")).content.decode()
    assert "Booked: the order is FAILED" in html
    assert "seen on the exchange" in html


def test_a_refused_entry_is_shown_with_its_reason_and_all_that_was_typed(case, anna) -> None:
    answer = anna.post(page(case, "decide"), filled(quantity="0.7", exchange_trade_id="typed-<i>"))
    html = answer.content.decode()
    assert answer.status_code == 200
    assert "may not come to more (given 0.7)" in html
    assert 'value="typed-&lt;i&gt;"' in html
    assert 'value="0.7"' in html
    assert not Command.objects.filter(kind=Command.Kind.ORDER_DECIDE).exists()


def test_fills_typed_into_the_page_are_asked_for(case, anna) -> None:
    anna.post(page(case, "decide"), filled())
    command = Command.objects.get(kind=Command.Kind.ORDER_DECIDE)
    assert [fill["quantity"] for fill in command.payload["fills"]] == ["0.5"]


@pytest.mark.parametrize("data", [{}, {"decision": "nonsense"}, {"decision": "filled"}, {"decision": "adopt"}])
def test_half_a_form_is_refused_and_breaks_nothing(case, anna, data) -> None:
    assert anna.post(page(case, "decide"), data).status_code == 200
    assert not Command.objects.filter(kind=Command.Kind.ORDER_DECIDE).exists()


def test_another_users_order_is_not_found_and_a_link_decides_nothing(case, ben, anna) -> None:
    assert ben.post(page(case, "decide"), absent()).status_code == 404
    assert anna.get(page(case, "decide")).status_code == 405
    case.owner.groups.clear()
    assert anna.post(page(case, "decide"), absent()).status_code in {403, 404}
    assert not Command.objects.filter(kind=Command.Kind.ORDER_DECIDE).exists()


def test_disputed_orders_are_counted_for_the_one_who_looks(case, anna, ben) -> None:
    cards = {card["title"]: card for card in anna.get(reverse("admin:index")).context["cards"]}
    assert cards["Disputed orders"]["value"] == 1
    listed = anna.get(cards["Disputed orders"]["href"]).context["cl"].queryset
    assert [row.pk for row in listed] == [case.order.pk]
    cards = {card["title"]: card for card in ben.get(reverse("admin:index")).context["cards"]}
    assert cards["Disputed orders"]["value"] == 0


def test_disputed_orders_are_counted_from_an_index_of_their_own(case) -> None:
    rows = Order.objects.for_user(case.owner).disputed()
    assert [row.pk for row in rows] == [case.order.pk]
    with connection.cursor() as cursor:
        if connection.vendor == "postgresql":
            cursor.execute("SET LOCAL enable_seqscan = off")  # few rows are read faster without any index
    assert "order_disputed" in rows.order_by().values("owner").explain()
