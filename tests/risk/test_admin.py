"""The risk pages: bad input comes back with a sentence and saves nothing, the second of two operators is told."""

from __future__ import annotations

from decimal import Decimal

import pytest
from django.contrib.admin.models import LogEntry
from django.urls import reverse

from bots.models import TradingPair
from bots.services.bots import bot_start
from risk.models import AllowedPair, RiskLimit, TradingSwitch
from risk.selectors import risk_revision
from risk.services.limits import limit_create, limit_update
from risk.services.pairs import pair_allow, pair_disallow
from risk.services.switch import switch_set

pytestmark = [pytest.mark.django_db, pytest.mark.database]

D = Decimal


def page(model, name, *args):
    return reverse(f"admin:risk_{model}_{name}", args=args)


def errors(answer):
    assert answer.status_code == 200, "the form was taken"
    return {field: " ".join(texts) for field, texts in answer.context["adminform"].form.errors.items()}


def limit_form(**changes):
    empty = dict.fromkeys(("owner", "bot", "exchange", "pair", "note"), "")
    return {"scope": "global", "rule": "max_exposure_asset", "value": "500", **empty} | changes


def limit(world, rule="max_trade_notional", value="500", scope="global", **subject):
    return limit_create(actor=world.operator, scope=scope, rule=rule, value=D(value), **subject)


def pair(base="BTC"):
    return TradingPair.objects.get(base=base, quote="USDT")


# --- limits --------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("NaN", "given 'NaN'"), ("Infinity", "given 'Infinity'"), ("1,5", "given '1,5'"), ("1_000", "given '1_000'"),
        ("１０", "given '１０'"), ("abc", "given 'abc'"), ("1e400", "below 1000000000 (given 1e400)"),
        ("-1e400", "(given -1e400)"), ("1e-400", "decimal places (given 1e-400)"), ("-1", "(given -1)"),
        ("0", "(given 0)"), ("-0", "(given -0)"),
        ("100000001", "between 0.000001 and 100000000 of the quote asset (given 100000001)"),
        ("0.0000001", "6 decimal places (given 0.0000001)"), ("", "required"),
    ],
)  # fmt: skip
def test_a_bad_value_says_what_was_given_and_saves_nothing(world, operator, text, message):
    given = errors(operator.post(page("risklimit", "add"), limit_form(value=text)))
    assert list(given) == ["value"]
    assert message in given["value"]
    assert not RiskLimit.objects.exists()
    assert risk_revision() == 0
    assert not LogEntry.objects.filter(content_type__model="risklimit").exists()


def test_the_form_says_in_what_each_rule_is_given_and_over_whom_it_counts(world, operator):
    shown = operator.get(page("risklimit", "add")).content.decode()
    assert "Maximum unhedged (of the quote asset times seconds, 0 to 100000000)" in shown
    assert "Maximum open trades (trades, 1 to 100)" in shown
    assert "count all trades of a bot's owner, whatever the scope" in shown


@pytest.mark.parametrize("scope", ["owner", "bot", "exchange", "pair", "planet"])
def test_a_scope_without_its_subject_is_refused(world, operator, scope):
    assert errors(operator.post(page("risklimit", "add"), limit_form(scope=scope)))
    assert not RiskLimit.objects.exists()


def test_a_subject_of_another_scope_is_refused(world, operator):
    form = limit_form(scope="exchange", exchange=world.exchanges["alpha"].pk, pair=pair().pk)
    assert "and no other" in " ".join(errors(operator.post(page("risklimit", "add"), form)).values())


def test_limits_of_an_exchange_and_a_pair_are_set(world, operator):
    alpha = world.exchanges["alpha"]
    for form in (limit_form(scope="exchange", exchange=alpha.pk), limit_form(scope="pair", pair=pair().pk)):
        assert operator.post(page("risklimit", "add"), form).status_code == 302
    assert {row.source for row in RiskLimit.objects.all()} == {"exchange alpha", "pair BTC/USDT"}
    listing = operator.get(page("risklimit", "changelist")).content.decode()
    assert "exchange alpha" in listing
    assert "at most 500 of the quote asset" in listing
    given = errors(operator.post(page("risklimit", "add"), limit_form(scope="pair", pair=pair().pk)))
    assert "change that one" in given["__all__"]
    given = errors(
        operator.post(page("risklimit", "add"), limit_form(scope="pair", pair=pair().pk, rule="cooldown_ms"))
    )
    assert "of a bot as a whole" in given["rule"]


def test_a_minimum_above_the_maximum_is_an_error_of_the_value(world, operator):
    limit(world, "max_edge_bps", "50", "exchange", exchange_id=world.exchanges["alpha"].pk)
    given = errors(operator.post(page("risklimit", "add"), limit_form(rule="min_net_edge_bps", value="60")))
    assert given == {"value": "Must be at most the maximum edge of 50 basis points for exchange alpha (given 60)."}
    assert RiskLimit.objects.count() == 1


def test_the_second_of_two_operators_is_told_what_the_first_has_set(world, operator):
    row = limit(world)
    address = page("risklimit", "change", row.pk)
    form = operator.get(address).context["adminform"].form
    seen = {"value": form["value"].value(), "note": "", "seen_version": form["seen_version"].value()}
    assert seen["value"] == "500"
    assert operator.post(address, seen | {"value": "400"}).status_code == 302
    given = errors(operator.post(address, seen | {"value": "900"}))
    assert "it is 400 now (version 2, you saw 1)" in given["__all__"]
    given = errors(operator.post(address, {"value": "900", "note": ""}))
    assert "it is 400 now" in given["__all__"]
    row.refresh_from_db()
    assert (row.value, row.version) == (400, 2)


def test_deleting_a_limit_names_the_running_bots_it_is_over(world, operator):
    bot = world.bot(world.anna)
    world.bot(world.ben, name="Idle")
    bot_start(bot=bot, actor=world.anna)
    row = limit(world)
    address = page("risklimit", "delete", row.pk)
    html = operator.get(address).content.decode()
    assert "Wide net (anna)" in html
    assert "Idle" not in html
    assert "at most 500 of the quote asset" in html
    assert RiskLimit.objects.exists(), "asking removes nothing"

    limit_update(actor=world.operator, limit=row, value=D(400), note="", seen_version=1)
    answer = operator.post(address, {"post": "yes", "seen_version": "1"}, follow=True)
    assert "it is 400 now" in answer.content.decode()
    assert "it is 400 now" in operator.post(address, {"post": "yes"}, follow=True).content.decode()
    assert RiskLimit.objects.exists()

    assert 'name="seen_version" value="2"' in operator.get(address).content.decode()
    operator.post(address, {"post": "yes", "seen_version": "2"})
    assert not RiskLimit.objects.exists()
    entries = LogEntry.objects.filter(content_type__model="risklimit", action_flag=3)
    assert [entry.change_message for entry in entries] == ["Removed; it was 400."]


def test_users_see_the_limits_over_them_and_change_none(world, anna):
    mine = limit(world, scope="owner", owner_id=world.anna.pk)
    limit(world, scope="owner", owner_id=world.ben.pk)
    limit(world, scope="exchange", exchange_id=world.exchanges["alpha"].pk)
    assert anna.get(page("risklimit", "changelist")).context["cl"].queryset.count() == 2
    html = anna.get(page("risklimit", "change", mine.pk))
    assert html.status_code == 200
    assert "seen_version" not in html.content.decode()
    assert anna.post(page("risklimit", "change", mine.pk), {"value": "9", "seen_version": "1"}).status_code == 403
    assert anna.post(page("risklimit", "delete", mine.pk), {"post": "yes"}).status_code == 403


def test_a_bots_page_says_which_limit_binds_and_whose_it_is(world, anna, operator):
    bot = world.bot(world.anna, max_trade_notional="1000")
    limit(world, value="700")
    limit(world, value="300", scope="owner", owner_id=world.anna.pk)
    limit(world, value="200", scope="exchange", exchange_id=world.exchanges["beta"].pk)
    pair_allow(actor=world.operator, scope="global", pair_id=pair().pk)
    for client in (anna, operator):
        html = client.get(reverse("admin:bots_bot_change", args=[bot.pk])).content.decode()
        assert "<b>Maximum trade notional</b>: at most 300 of the quote asset <small>(owner anna)</small>" in html
        beta = "<b>Maximum trade notional (exchange beta)</b>: at most 200 of the quote asset"
        assert f"{beta} <small>(exchange beta)</small>" in html
        assert "<b>Minimum net edge</b>: at least 2 basis points <small>(the bot&#x27;s own setting)</small>" in html
        assert "<b>Allowed pairs</b>: BTC/USDT <small>(everybody)</small>" in html


# --- allowed pairs -------------------------------------------------------------------------------------------------


def test_pairs_are_put_on_a_list_and_taken_off(world, operator):
    form = {"scope": "owner", "owner": world.anna.pk, "bot": "", "pair": pair().pk, "note": ""}
    assert operator.post(page("allowedpair", "add"), form).status_code == 302
    assert "already" in errors(operator.post(page("allowedpair", "add"), form))["__all__"]
    assert errors(operator.post(page("allowedpair", "add"), form | {"owner": ""}))
    row = AllowedPair.objects.get()

    bot_start(bot=world.bot(world.anna), actor=world.anna)
    address = page("allowedpair", "delete", row.pk)
    html = operator.get(address).content.decode()
    assert "last pair on the list" in html
    assert "Wide net (anna)" in html
    operator.post(address, {"post": "yes", "last_seen": "yes"})
    assert not AllowedPair.objects.exists()


def test_a_pair_that_became_the_last_is_asked_about_again(world, operator):
    rows = [pair_allow(actor=world.operator, scope="global", pair_id=pair(base).pk) for base in ("BTC", "ETH")]
    address = page("allowedpair", "delete", rows[0].pk)
    assert 'name="last_seen" value=""' in operator.get(address).content.decode()
    pair_disallow(actor=world.operator, allowed=rows[1], last_seen=False)
    answer = operator.post(address, {"post": "yes", "last_seen": ""}, follow=True)
    assert "may trade every pair" in answer.content.decode()
    assert AllowedPair.objects.get() == rows[0]


def test_users_see_the_lists_over_them_and_change_none(world, anna):
    row = pair_allow(actor=world.operator, scope="global", pair_id=pair().pk)
    pair_allow(actor=world.operator, scope="owner", owner_id=world.ben.pk, pair_id=pair().pk)
    assert anna.get(page("allowedpair", "changelist")).context["cl"].queryset.count() == 1
    assert anna.get(page("allowedpair", "change", row.pk)).status_code == 200
    assert anna.get(page("allowedpair", "add")).status_code == 403
    assert anna.post(page("allowedpair", "delete", row.pk), {"post": "yes"}).status_code == 403


# --- switch --------------------------------------------------------------------------------------------------------


def switch_form(**changes):
    return {
        "scope": "global", "owner": "", "bot": "", "state": "kill", "reason": "Keys leaked.", "seen_version": "0",
    } | shown(0) | changes  # fmt: skip


def shown(turns):
    """What a browser sends of the history below the form."""
    return {"events-TOTAL_FORMS": turns, "events-INITIAL_FORMS": turns}


def test_a_switch_is_turned_with_a_reason_and_its_history_shown(world, operator):
    assert operator.post(page("tradingswitch", "add"), switch_form()).status_code == 302
    switch = TradingSwitch.objects.get()
    assert "Killed" in operator.get(page("tradingswitch", "changelist")).content.decode()
    address = page("tradingswitch", "change", switch.pk)
    form = operator.get(address).context["adminform"].form
    assert (form["reason"].value(), form["seen_version"].value()) == ("", 1)

    resume = {"state": "normal", "reason": "", "seen_version": "1"} | shown(1)
    assert "required" in errors(operator.post(address, resume))["reason"]
    assert operator.post(address, resume | {"reason": "New keys."}).status_code == 302
    switch.refresh_from_db()
    assert (switch.state, switch.changed_by) == ("normal", world.operator)
    html = operator.get(address).content.decode()
    assert "Keys leaked." in html
    assert "New keys." in html
    assert operator.post(page("tradingswitch", "delete", switch.pk), {"post": "yes"}).status_code == 403


def test_the_second_of_two_turns_is_told_where_it_stands(world, operator):
    switch = switch_set(
        actor=world.anna, scope="owner", owner_id=world.anna.pk, state="kill", reason="A.", seen_version=0
    )
    switch_set(
        actor=world.anna, scope="owner", owner_id=world.anna.pk, state="reduce_only", reason="Calmer.", seen_version=1
    )
    form = {"state": "normal", "reason": "All well.", "seen_version": "1"} | shown(1)
    given = errors(operator.post(page("tradingswitch", "change", switch.pk), form))
    assert "at reduce only now, by anna (Calmer.; version 2, you saw 1)" in given["__all__"]
    given = errors(operator.post(page("tradingswitch", "add"), switch_form(scope="owner", owner=world.anna.pk)))
    assert "turn that one" in given["__all__"]
    switch.refresh_from_db()
    assert switch.state == "reduce_only"


def test_users_turn_their_own_switches_only(world, anna, ben):
    bot, bens = world.bot(world.anna), world.bot(world.ben)
    over_all = switch_set(actor=world.operator, scope="global", state="reduce_only", reason="Fees.", seen_version=0)
    add = page("tradingswitch", "add")
    assert anna.get(add).status_code == 200
    assert anna.post(add, switch_form(scope="bot", bot=bot.pk)).status_code == 302
    assert "scope" in errors(anna.post(add, switch_form()))
    assert "bot" in errors(anna.post(add, switch_form(scope="bot", bot=bens.pk)))
    assert "owner" in errors(anna.post(add, switch_form(scope="owner", owner=world.ben.pk)))
    assert TradingSwitch.objects.count() == 2

    mine = TradingSwitch.objects.get(bot=bot)
    listed = anna.get(page("tradingswitch", "changelist")).context["cl"].queryset
    assert set(listed) == {mine, over_all}
    assert set(ben.get(page("tradingswitch", "changelist")).context["cl"].queryset) == {over_all}
    assert anna.get(page("tradingswitch", "change", over_all.pk)).status_code == 200
    loosen = {"state": "normal", "reason": "I want to.", "seen_version": "1"} | shown(1)
    assert anna.post(page("tradingswitch", "change", over_all.pk), loosen).status_code == 403
    assert ben.post(page("tradingswitch", "change", mine.pk), loosen).status_code in {302, 403, 404}
    mine.refresh_from_db()
    assert mine.state == "kill"
    assert anna.post(page("tradingswitch", "change", mine.pk), loosen).status_code == 302
