"""The trading switch: reasons always, owners over what is theirs, operators over all, never over another's head."""

from __future__ import annotations

import pytest
from django.contrib.admin.models import LogEntry
from django.core.exceptions import PermissionDenied, ValidationError
from django.db import IntegrityError, transaction

from risk.models import TradingSwitch, TradingSwitchEvent
from risk.policy.switch import NORMAL, TradingState
from risk.selectors import switches_of
from risk.services.switch import switch_set

pytestmark = [pytest.mark.django_db, pytest.mark.database]


@pytest.fixture
def scene(world):
    return world, world.bot(world.anna)


def turn(actor, state, *, seen=0, scope="global", reason="Looking into it.", **subject):
    return switch_set(actor=actor, scope=scope, state=state, reason=reason, seen_version=seen, **subject)


def states(owner_id):
    return {bot: switch.state.value for bot, switch in switches_of(owner_id).items()}


def test_without_switches_everything_is_normal(scene):
    world, _ = scene
    assert switches_of(world.anna.pk) == {None: NORMAL}


def test_the_strictest_of_all_scopes_holds(scene, django_assert_num_queries):
    world, bot = scene
    second = world.bot(world.anna, name="Second")
    turn(world.operator, "reduce_only", scope="owner", owner_id=world.anna.pk, reason="Fees changed.")
    turn(world.operator, "kill", scope="bot", bot_id=bot.pk)
    switch = turn(world.operator, "kill", scope="bot", bot_id=second.pk)
    turn(world.operator, "normal", scope="bot", bot_id=second.pk, seen=switch.version)
    with django_assert_num_queries(1):
        annas = switches_of(world.anna.pk)
    assert states(world.anna.pk) == {None: "reduce_only", bot.pk: "kill", second.pk: "reduce_only"}
    assert (annas[second.pk].source, annas[second.pk].reason) == ("owner anna", "Fees changed.")
    assert states(world.ben.pk) == {None: "normal"}

    turn(world.operator, "kill")
    assert set(states(world.anna.pk).values()) == {"kill"}
    assert switches_of(world.ben.pk)[None].source == "everybody"


def test_each_turn_is_kept_and_audited(scene):
    world, _ = scene
    turn(world.operator, "kill", reason="  Keys \n leaked. ")
    switch = turn(world.operator, "normal", seen=1, reason="New keys.")
    assert (switch.state, switch.reason, switch.changed_by, switch.version) == (
        "normal",
        "New keys.",
        world.operator,
        2,
    )
    turns = [(row.from_state, row.to_state, row.reason, row.by) for row in switch.events.order_by("version")]
    assert turns == [
        ("normal", "kill", "Keys leaked.", world.operator),
        ("kill", "normal", "New keys.", world.operator),
    ]
    messages = LogEntry.objects.filter(content_type__model="tradingswitch").order_by("id")
    assert messages.values_list("change_message", flat=True).last() == "Turned from killed to normal: New keys."
    with pytest.raises(TypeError, match="written once"):
        switch.events.first().save()


@pytest.mark.parametrize("reason", ["", "   ", "\n", "x" * 201, "a\u202eb"])
@pytest.mark.parametrize("state", ["kill", "normal"])
def test_every_turn_needs_a_reason(scene, reason, state):
    world, _ = scene
    seen = turn(world.operator, "reduce_only").version
    with pytest.raises(ValidationError) as refused:
        turn(world.operator, state, seen=seen, reason=reason)
    assert list(refused.value.message_dict) == ["reason"]
    assert TradingSwitch.objects.get().state == "reduce_only"
    assert TradingSwitchEvent.objects.count() == 1


def test_a_turn_over_anothers_head_is_refused_with_where_it_stands(scene):
    world, _ = scene
    turn(world.operator, "kill", reason="Keys leaked.")
    for seen in (0, 2, None):
        with pytest.raises(ValidationError, match=r"at killed now, by operator \(Keys leaked\.; version 1"):
            turn(world.operator, "normal", seen=seen)
    assert TradingSwitch.objects.get().state == "kill"
    with pytest.raises(ValidationError, match="removed meanwhile"):
        turn(world.operator, "normal", seen=3, scope="owner", owner_id=world.anna.pk)


def test_owners_turn_what_is_theirs_and_nothing_else(scene):
    world, bot = scene
    bens = world.bot(world.ben)
    turn(world.anna, "kill", scope="bot", bot_id=bot.pk)
    turn(world.anna, "reduce_only", scope="owner", owner_id=world.anna.pk)
    turn(world.anna, "normal", scope="bot", bot_id=bot.pk, seen=1)
    assert states(world.anna.pk) == {None: "reduce_only", bot.pk: "reduce_only"}
    for subject in (
        {"scope": "global"},
        {"scope": "owner", "owner_id": world.ben.pk},
        {"scope": "owner", "owner_id": world.anna.pk, "bot_id": bens.pk},
        {"scope": "bot", "bot_id": bens.pk},
        {"scope": "bot", "bot_id": bot.pk, "owner_id": world.ben.pk},
        {"scope": "bot"},
    ):
        with pytest.raises(PermissionDenied):
            turn(world.anna, "kill", **subject)
    assert TradingSwitch.objects.count() == 2
    world.anna.groups.clear()
    with pytest.raises(PermissionDenied):
        turn(type(world.anna).objects.get(pk=world.anna.pk), "kill", scope="bot", bot_id=bot.pk, seen=2)


def test_an_owner_may_be_stricter_than_the_operator_but_not_looser(scene):
    world, _ = scene
    subject = {"scope": "owner", "owner_id": world.anna.pk}
    turn(world.operator, "reduce_only", **subject)
    turn(world.anna, "kill", seen=1, **subject)
    with pytest.raises(ValidationError, match="An operator has set reduce only"):
        turn(world.anna, "normal", seen=2, **subject)
    turn(world.anna, "reduce_only", seen=2, **subject)
    turn(world.operator, "normal", seen=3, **subject)
    turn(world.anna, "kill", seen=4, **subject)
    turn(world.operator, "kill", seen=5, reason="Stays so.", **subject)
    with pytest.raises(ValidationError, match="An operator has set killed"):
        turn(world.anna, "normal", seen=6, **subject)


def test_a_second_click_changes_nothing(scene):
    world, _ = scene
    turn(world.operator, "kill")
    with pytest.raises(ValidationError, match="at killed already"):
        turn(world.operator, "kill", seen=1)
    with pytest.raises(ValidationError, match="at normal already"):
        turn(world.operator, "normal", scope="owner", owner_id=world.anna.pk)
    assert TradingSwitchEvent.objects.count() == 1


def test_the_platform_itself_may_turn_it(scene):
    world, _ = scene
    switch = turn(None, "kill", reason="Balances do not add up.")
    assert (switch.changed_by, switch.operator_state) == (None, TradingState.KILL)
    with pytest.raises(ValidationError, match="by the platform"):
        turn(world.operator, "normal", seen=0)


@pytest.mark.parametrize("bad", [{"state": "paused"}, {"scope": "owner"}, {"scope": "bot"}, {"scope": "planet"}])
def test_bad_turns_save_nothing(scene, bad):
    world, _ = scene
    with pytest.raises(ValidationError):
        turn(world.operator, **{"state": "kill"} | bad)
    assert not TradingSwitch.objects.exists()


def test_the_database_keeps_one_switch_of_a_scope_and_its_reason(scene):
    world, _ = scene
    turn(world.operator, "kill")
    with pytest.raises(IntegrityError), transaction.atomic():
        TradingSwitch.objects.create(reason="Another.")
    with pytest.raises(IntegrityError), transaction.atomic():
        TradingSwitch.objects.create(scope="owner", owner=world.anna)
    with pytest.raises(IntegrityError), transaction.atomic():
        TradingSwitch.objects.create(scope="owner", owner=world.anna, reason="R.", state="paused")
