"""Whatever a user asks of the admin, the rows are their own."""

from __future__ import annotations

import json

import pytest
from django.contrib.admin.models import LogEntry
from django.test import Client
from django.urls import reverse

from bots.models import (
    Balance,
    Bot,
    Command,
    Decision,
    Difference,
    ExchangeAccount,
    Fill,
    Income,
    LedgerEntry,
    Order,
    Position,
    Trade,
)
from bots.services.bots import bot_start
from tests.bots.conftest import signed_in

pytestmark = [pytest.mark.django_db, pytest.mark.database]

OWNED = [
    Balance,
    Bot,
    Command,
    Decision,
    Difference,
    ExchangeAccount,
    Fill,
    Income,
    LedgerEntry,
    Order,
    Position,
    Trade,
]
by_name = pytest.mark.parametrize("model", OWNED, ids=lambda model: model.__name__)


@pytest.fixture
def two_desks(busy_world):
    """Both owners have rows in every table, with names that give them away."""
    for owner in (busy_world.anna, busy_world.ben):
        bot = Bot.objects.get(owner=owner)
        Bot.objects.filter(pk=bot.pk).update(name=f"bot-of-{owner.username}")
        ExchangeAccount.objects.filter(owner=owner, exchange__code="alpha").update(label=f"account-of-{owner.username}")
        bot.refresh_from_db()
        bot_start(bot=bot, actor=owner)
    return busy_world


def page(model, name, *args):
    return reverse(f"admin:bots_{model._meta.model_name}_{name}", args=args)


@by_name
def test_lists_and_selectors_hold_own_rows_only(two_desks, ben, model):
    assert set(model.objects.for_user(two_desks.ben)) == set(model.objects.filter(owner=two_desks.ben))
    listed = ben.get(page(model, "changelist")).context["cl"].queryset
    assert listed.count() == model.objects.filter(owner=two_desks.ben).count() > 0
    assert {row.owner_id for row in listed} == {two_desks.ben.pk}


@by_name
def test_anothers_row_is_not_found_by_its_address(two_desks, ben, model):
    annas = model.objects.filter(owner=two_desks.anna).first()
    for name in ("change", "history", "delete"):
        answer = ben.get(page(model, name, annas.pk))
        # Where nobody deletes, that is said before anything is looked up.
        assert answer.status_code in ((404, 403) if name == "delete" else (404,)), name
        assert "bot-of-anna" not in answer.content.decode()
    assert ben.get(page(model, "change", 10**9)).status_code == 404


@by_name
def test_nobody_sees_anything_without_signing_in(two_desks, model):
    answer = Client().get(page(model, "changelist"))
    assert answer.status_code == 302
    assert reverse("admin:login") in answer["Location"] or "login" in answer["Location"]
    from django.contrib.auth.models import AnonymousUser

    assert not model.objects.for_user(AnonymousUser()).exists()


@by_name
def test_pages_of_one_user_do_not_name_the_other(two_desks, ben, model):
    html = ben.get(page(model, "changelist")).content.decode()
    for trace in ("bot-of-anna", "account-of-anna", ">anna<"):
        assert trace not in html, "lists, filters and links show another user's rows"
    row = model.objects.filter(owner=two_desks.ben).first()
    html = ben.get(page(model, "change", row.pk)).content.decode()
    for trace in ("bot-of-anna", "account-of-anna", ">anna<"):
        assert trace not in html


@by_name
def test_a_users_pages_do_not_link_to_accounts_they_may_not_open(two_desks, ben, operator, model):
    row = model.objects.filter(owner=two_desks.ben).first()
    users = reverse("admin:auth_user_changelist")
    assert users not in ben.get(page(model, "change", row.pk)).content.decode()
    assert ">ben<" in operator.get(page(model, "change", row.pk)).content.decode()


def test_search_and_filters_by_anothers_id_find_nothing(two_desks, ben):
    annas = Bot.objects.get(owner=two_desks.anna)
    for query in ({"q": "bot-of-anna"}, {"bot__id__exact": annas.pk}):
        answer = ben.get(page(Trade, "changelist"), query)
        assert answer.status_code == 200
        assert not answer.context["cl"].queryset.filter(owner=two_desks.anna).exists()
    assert ben.get(page(Trade, "changelist"), {"q": "bot-of-anna"}).context["cl"].queryset.count() == 0


@pytest.mark.parametrize(
    "query", ["owner__password__startswith", "owner__username__startswith", "bot__owner__id__exact"]
)
def test_filters_do_not_reach_into_other_tables(two_desks, ben, operator, query):
    for client in (ben, operator):
        assert client.get(page(Trade, "changelist"), {query: "a"}).status_code in (302, 400)


def autocomplete(client, model, field, term=""):
    query = {"app_label": "bots", "model_name": model, "field_name": field, "term": term}
    return json.loads(client.get(reverse("admin:autocomplete"), query).content)


def test_autocomplete_offers_own_accounts_only(two_desks, ben, operator):
    texts = [row["text"] for row in autocomplete(ben, "bot", "accounts")["results"]]
    assert len(texts) == 2
    assert not any("anna" in text for text in texts)
    assert autocomplete(ben, "bot", "accounts", "account-of-anna")["results"] == []
    assert len(autocomplete(operator, "bot", "accounts")["results"]) == 4


def bot_form(world, desk, **changes):
    accounts = ExchangeAccount.objects.filter(owner=desk)
    pair = Bot.objects.first().pairs.first()
    values = {
        "name": "New", "strategy": "cross_exchange", "mode": "paper", "pairs": [pair.pk],
        "accounts": [account.pk for account in accounts], "min_net_edge_bps": "2", "max_edge_bps": "200",
        "max_trade_notional": "1000", "max_open_trades": "1", "price_tolerance_bps": "2", "repair_tolerance_bps": "30",
        "leg_policy": "together", "completion_seconds": "3", "unwind_tolerance_bps": "100", "unwind_seconds": "30",
        "max_book_age_ms": "1000", "cooldown_ms": "250", "order_timeout_ms": "15000",
        "limit_buy_seconds": "15", "limit_sell_seconds": "10",
        "basis_exit_bps": "5", "basis_min_funding_bps": "0", "basis_funding_hours": "0", "basis_slippage_bps": "2",
        "basis_max_hold_hours": "168", "basis_leverage": "1", "basis_min_liquidation_bps": "500",
        "basis_close_orphan": "on", "require_open_wallets": "on",
    }  # fmt: skip
    return values | changes


def test_anothers_account_in_ones_own_form_is_no_choice(two_desks, ben):
    answer = ben.post(page(Bot, "add"), bot_form(two_desks, two_desks.anna))
    assert answer.status_code == 200
    assert "not one of the available choices" in str(answer.context["adminform"].form.errors["accounts"])
    assert not Bot.objects.filter(name="New").exists()


def test_a_forged_owner_is_ignored(two_desks, ben):
    answer = ben.post(page(Bot, "add"), bot_form(two_desks, two_desks.ben, owner=two_desks.anna.pk))
    assert answer.status_code == 302
    assert Bot.objects.get(name="New").owner == two_desks.ben


def test_operator_makes_a_bot_for_a_user_and_cannot_mix_owners(two_desks, operator):
    mixed = operator.post(page(Bot, "add"), bot_form(two_desks, two_desks.ben, owner=two_desks.anna.pk))
    assert "owner only" in str(mixed.context["adminform"].form.errors["accounts"])
    assert operator.post(
        page(Bot, "add"), bot_form(two_desks, two_desks.ben, owner=two_desks.ben.pk)
    ).status_code == 302  # fmt: skip
    assert Bot.objects.get(name="New").owner == two_desks.ben


def test_forged_ids_in_a_list_action_reach_nothing(two_desks, ben):
    annas, bens = Bot.objects.get(owner=two_desks.anna), Bot.objects.get(owner=two_desks.ben)
    ben.post(page(Bot, "changelist"), {"action": "bots_stop", "_selected_action": [annas.pk, bens.pk]})
    annas.refresh_from_db()
    bens.refresh_from_db()
    assert (annas.desired_state, bens.desired_state) == ("running", "stopped")


@pytest.mark.parametrize("verb", ["start", "stop"])
def test_anothers_bot_cannot_be_started_or_stopped(two_desks, ben, verb):
    annas = Bot.objects.get(owner=two_desks.anna)
    assert ben.post(page(Bot, verb, annas.pk)).status_code == 404
    assert Bot.objects.get(pk=annas.pk).desired_state == "running"


@pytest.mark.parametrize("verb", ["start", "stop"])
def test_state_changes_only_by_post_with_a_csrf_token(two_desks, ben, verb):
    bens = Bot.objects.get(owner=two_desks.ben)
    assert ben.get(page(Bot, verb, bens.pk)).status_code == 405
    strict = Client(enforce_csrf_checks=True)
    strict.force_login(two_desks.ben)
    assert strict.post(page(Bot, verb, bens.pk)).status_code == 403
    assert Bot.objects.get(pk=bens.pk).desired_state == "running"


def test_user_who_may_only_look_cannot_start(two_desks):
    from django.contrib.auth.models import Permission

    two_desks.ben.groups.clear()
    two_desks.ben.user_permissions.add(Permission.objects.get(codename="view_bot"))
    bens = Bot.objects.get(owner=two_desks.ben)
    client = signed_in(two_desks.ben)
    assert client.post(page(Bot, "stop", bens.pk)).status_code == 403
    assert Bot.objects.get(pk=bens.pk).desired_state == "running"


def test_venues_are_read_only_for_users(two_desks, ben):
    for name in ("exchange", "asset", "tradingpair", "market"):
        assert ben.get(reverse(f"admin:bots_{name}_changelist")).status_code == 200
        assert ben.get(reverse(f"admin:bots_{name}_add")).status_code == 403
    for name in ("auth_user", "auth_group", "django_celery_beat_periodictask", "bots_ownerlease", "admin_logentry"):
        assert ben.get(reverse(f"admin:{name}_changelist")).status_code == 403


def test_limits_bind_and_are_shown_but_not_changed_by_users(two_desks, ben):
    from risk.models import RiskLimit

    RiskLimit.objects.create(rule="max_open_trades", value=1)
    RiskLimit.objects.create(rule="max_open_trades", value=1, scope="owner", owner=two_desks.anna)
    answer = ben.get(reverse("admin:risk_risklimit_changelist"))
    assert answer.context["cl"].queryset.count() == 1
    assert ben.get(reverse("admin:risk_risklimit_add")).status_code == 403


def test_landing_page_and_its_figures_are_ones_own(two_desks, ben, operator):
    assert "0 of 1" in ben.get(reverse("admin:index")).content.decode()
    assert "0 of 2" in operator.get(reverse("admin:index")).content.decode()


def test_refused_look_ups_are_logged(two_desks, ben, caplog):
    annas = Trade.objects.filter(owner=two_desks.anna).first()
    ben.get(page(Trade, "change", annas.pk))
    assert any("not theirs to see" in record.getMessage() for record in caplog.records)
    assert not LogEntry.objects.filter(user=two_desks.ben, content_type__model="trade").exists()
