"""Every admin page opens with data on it, and is quick about it."""

from __future__ import annotations

import time

import pytest
from django.contrib import admin
from django.contrib.admin.models import LogEntry
from django.urls import reverse
from django.utils import timezone
from django_celery_beat.models import CrontabSchedule, IntervalSchedule, PeriodicTask
from msgspec import structs

from bots.models import Bot, Decision, Installation, Order, Trade, TradingPair
from bots.services.api_tokens import api_token_create
from bots.services.bots import bot_start
from bots.services.decisions import DecisionSampler, decisions_store
from bots.services.installation import installation_get
from bots.services.wallets import listings_store
from risk.models import AllowedPair, RiskLimit, SlippageStat
from risk.policy.breakers import BreakerEvent, Scope
from risk.policy.tradability import Network
from risk.services.breaker_operations import settings_ensure
from risk.services.breakers import breaker_event
from risk.services.switch import switch_set
from trading.messages import Assessment

pytestmark = [pytest.mark.django_db]

MODELS = sorted(admin.site._registry, key=lambda model: model._meta.label)


def page(model, name, *args):
    return reverse(f"admin:{model._meta.app_label}_{model._meta.model_name}_{name}", args=args)


@pytest.fixture
def full_world(busy_world):
    installation_get()
    api_token_create(owner=busy_world.operator, actor=busy_world.operator, name="a program")
    RiskLimit.objects.create(rule="max_trade_notional", value=500)
    settings_ensure()
    SlippageStat.objects.create(pair="BTC/USDT", exchange="alpha", hour=timezone.now(), legs=3)
    breaker_event(scope=Scope.EXCHANGE, key="alpha", event=BreakerEvent.TRIP, reason="Errors.", trigger="error_rate")
    AllowedPair.objects.create(pair=TradingPair.objects.first())
    switch_set(actor=busy_world.operator, scope="global", state="reduce_only", reason="A look.", seen_version=0)
    coins = {"BTC": (Network(name="BTC", deposit=True),), "USDT": (Network(name="ERC20", contract="0x01"),)}
    listings_store(exchange=busy_world.exchanges["alpha"], found=coins)
    every = IntervalSchedule.objects.create(every=5, period="seconds")
    CrontabSchedule.objects.create(minute="0")
    PeriodicTask.objects.create(name="tick", task="bots.tasks.tick", interval=every)
    bot_start(bot=Bot.objects.filter(owner=busy_world.anna).get(), actor=busy_world.anna)
    return busy_world


@pytest.mark.database
@pytest.mark.parametrize("model", MODELS, ids=lambda model: model._meta.label)
def test_operator_opens_list_search_and_row(full_world, operator, model):
    listing = operator.get(page(model, "changelist"))
    assert listing.status_code == 200
    assert operator.get(page(model, "changelist"), {"q": "a'; DROP TABLE <b>{{ 7 }}"}).status_code == 200

    rows = model._default_manager.all()
    assert rows, f"the world has no {model._meta.label}: this test would look at nothing"
    assert operator.get(page(model, "change", rows[0].pk)).status_code == 200
    assert operator.get(page(model, "history", rows[0].pk)).status_code == 200


@pytest.mark.parametrize("model", MODELS, ids=lambda model: model._meta.label)
def test_operator_opens_the_add_page_where_there_is_one(full_world, operator, model):
    may_add = admin.site._registry[model].has_add_permission
    request = operator.get(page(model, "changelist")).wsgi_request
    expected = 200 if may_add(request) else 403
    assert operator.get(page(model, "add")).status_code == expected


@pytest.mark.parametrize("model", MODELS, ids=lambda model: model._meta.label)
def test_user_opens_what_the_role_may_see_and_nothing_else(full_world, anna, model):
    opts = model._meta
    may_see = full_world.anna.has_perm(f"{opts.app_label}.view_{opts.model_name}")
    assert anna.get(page(model, "changelist")).status_code == (200 if may_see else 403)


@pytest.mark.parametrize(
    "name", ["bot", "trade", "order", "fill", "decision", "difference", "balance", "exchangeaccount", "market"]
)
def test_lists_take_as_many_queries_for_many_rows(full_world, operator, name, django_assert_max_num_queries):
    with django_assert_max_num_queries(30):
        assert operator.get(reverse(f"admin:bots_{name}_changelist")).status_code == 200


def test_landing_page_shows_what_is_running_and_earned(full_world, operator):
    html = operator.get(reverse("admin:index")).content.decode()
    assert "Bots running" in html
    assert "0 of 2" in html
    assert "Exposed trades" in html


def test_amounts_are_shown_without_trailing_zeros(full_world, operator):
    html = operator.get(reverse("admin:bots_fill_changelist")).content.decode()
    assert "60000" in html
    assert "60000.0" not in html
    assert "E+" not in html


def test_orders_page_tells_its_story(full_world, operator):
    order = Order.objects.filter(side="buy").first()
    html = operator.get(reverse("admin:bots_order_change", args=[order.pk])).content.decode()
    for step in ("Pending", "Pending → Sending", "Sending → Filled"):
        assert step in html
    assert f"t1-{order.client_order_id}" in html


def test_rows_link_to_each_other(full_world, operator):
    trade = Trade.objects.first()
    orders = operator.get(reverse("admin:bots_order_changelist")).content.decode()
    assert reverse("admin:bots_trade_change", args=[trade.pk]) in orders
    legs = operator.get(reverse("admin:bots_trade_change", args=[trade.pk])).content.decode()
    assert trade.orders.first().client_order_id in legs


@pytest.mark.parametrize(
    "name", ["trade", "order", "fill", "decision", "difference", "ledgerentry", "balance", "command"]
)
def test_history_cannot_be_edited_even_by_a_superuser(full_world, operator, name):
    model = next(model for model in MODELS if model._meta.model_name == name)
    row = model._default_manager.first()
    assert operator.post(page(model, "change", row.pk), {"state": "FILLED"}).status_code == 403
    assert operator.post(page(model, "delete", row.pk), {"post": "yes"}).status_code == 403
    assert operator.post(page(model, "add"), {}).status_code == 403


def test_installation_has_one_row(full_world):
    assert Installation.objects.count() == 1
    assert LogEntry.objects.exists()


def test_a_decision_shows_how_it_was_rated_and_what_it_would_have_earned(world, anna):
    bot = world.bot(world.anna)
    assessment = Assessment(
        notional=1500.5,
        factors={"volatility": 0.4375},
        score=0.75,
        components={"depth": 0.875},
        costs_bps={"drift": 1.125},
    )
    decision = structs.replace(
        world.decision(bot, check="book_age", at_ns=time.time_ns()), assessment=assessment, later_profit=-3.5
    )
    decisions_store(owner_id=world.anna.pk, decisions=[decision], sampler=DecisionSampler())
    row = Decision.objects.get()
    listed = anna.get(reverse("admin:bots_decision_changelist")).text
    page = anna.get(reverse("admin:bots_decision_change", args=[row.pk])).text
    for shown in ("0.75", "1500.5 USDT", "-3.5 USDT"):
        assert shown in listed
        assert shown in page
    for shown in ("volatility", "0.4375", "depth", "0.875", "drift", "1.125", "net bps", "10.00 bps", "12 ms",
                  "The book is too old", "maximum book age"):  # fmt: skip
        assert shown in page


def test_a_decision_that_was_neither_sized_nor_rated_has_a_page(world, anna):
    bot = world.bot(world.anna)
    for decision in (world.decision(bot, check="market", at_ns=time.time_ns()), world.decision(bot, trade_id="t")):
        decisions_store(owner_id=world.anna.pk, decisions=[decision], sampler=DecisionSampler())
    for row in Decision.objects.all():
        assert "not sized" in anna.get(reverse("admin:bots_decision_change", args=[row.pk])).text
