"""Forms: bad input comes back with a clear sentence, good input goes through the services, buttons work."""

from __future__ import annotations

import pytest
from django.contrib.admin.models import LogEntry
from django.urls import reverse

from bots.models import Bot, Exchange, ExchangeAccount
from bots.services.bots import bot_start
from risk.models import RiskLimit
from tests.bots.test_isolation import bot_form

pytestmark = [pytest.mark.django_db]


@pytest.fixture
def bot(world):
    return world.bot(world.anna)


def errors(answer):
    assert answer.status_code == 200, "the form was taken"
    return {field: " ".join(texts) for field, texts in answer.context["adminform"].form.errors.items()}


def change(bot):
    return reverse("admin:bots_bot_change", args=[bot.pk])


@pytest.mark.parametrize("text", ["NaN", "-1", "1e400", "0", "Infinity", "1,5", "１０００", "", "abc", "1e20"])
def test_bad_notional_is_refused_and_nothing_is_saved(world, bot, anna, text):
    given = errors(anna.post(change(bot), bot_form(world, world.anna, max_trade_notional=text)))
    assert list(given) == ["max_trade_notional"]
    if text:
        assert "given" in given["max_trade_notional"]
    bot.refresh_from_db()
    assert (bot.name, bot.max_trade_notional) == ("Wide net", 1000)


@pytest.mark.parametrize(
    ("values", "field", "message"),
    [
        ({"min_net_edge_bps": "300"}, "min_net_edge_bps", "below the maximum edge of 200"),
        ({"max_book_age_ms": "-5"}, "max_book_age_ms", ""),
        ({"completion_seconds": "31"}, "completion_seconds", "at most the unwind time of 30 seconds (given 31)"),
        ({"unwind_tolerance_bps": "29"}, "repair_tolerance_bps", "at most the unwind tolerance of 29 basis points"),
        ({"unwind_seconds": "601"}, "unwind_seconds", "between 1 and 600 seconds"),
        ({"max_repair_loss": "-1"}, "max_repair_loss", "of the quote asset"),
        ({"limit_sell_seconds": "0"}, "limit_sell_seconds", "between 1 and 600 seconds (given 0)"),
        ({"leg_policy": "any"}, "leg_policy", "not one of the available choices"),
        ({"max_book_age_ms": "1e9"}, "max_book_age_ms", "whole number"),
        ({"max_open_trades": "101"}, "max_open_trades", "between 1 and 100 trades (given 101)"),
        ({"name": "x" * 65}, "name", "64"),
        ({"name": "a\u202eb"}, "name", "U+202E"),
        ({"name": "a\x00b"}, "name", "Null"),
        ({"mode": "wild"}, "mode", "not one of the available choices"),
        ({"pairs": ["999999"]}, "pairs", "not one of the available choices"),
        ({"pairs": []}, "pairs", "required"),
        ({"accounts": ["x"]}, "accounts", ""),
    ],
)
def test_each_bad_field_says_what_is_wrong(world, bot, anna, values, field, message):
    given = errors(anna.post(change(bot), bot_form(world, world.anna, **values)))
    assert list(given) == [field]
    assert message in given[field]


def test_what_a_service_refuses_is_an_error_of_the_form(world, bot, anna):
    second = world.account(world.anna, "alpha", label="Second")
    accounts = [*bot.accounts.values_list("pk", flat=True), second.pk]
    given = errors(anna.post(change(bot), bot_form(world, world.anna, accounts=accounts)))
    assert "one account on Alpha" in given["accounts"]
    assert bot.accounts.count() == 2
    assert not LogEntry.objects.filter(change_message__startswith="Changed").exists()


def test_good_change_is_saved_once_and_audited_once(world, bot, anna):
    answer = anna.post(change(bot), bot_form(world, world.anna, name="Renamed", mode="live", min_net_edge_bps="3.50"))
    assert answer.status_code == 302
    bot.refresh_from_db()
    assert (bot.name, str(bot.min_net_edge_bps)) == ("Renamed", "3.5")
    entries = LogEntry.objects.filter(content_type__model="bot", action_flag=2)
    assert [entry.change_message for entry in entries] == ["Changed name, min_net_edge_bps."]


def test_saving_unchanged_changes_nothing(world, bot, anna):
    before = LogEntry.objects.count()
    values = bot_form(world, world.anna, name=bot.name, mode=bot.mode)
    assert anna.post(change(bot), values).status_code == 302
    assert LogEntry.objects.count() == before


def test_names_are_escaped(world, bot, anna):
    anna.post(change(bot), bot_form(world, world.anna, name="<script>alert(1)</script>"))
    assert Bot.objects.get().name == "<script>alert(1)</script>"
    for address in (reverse("admin:bots_bot_changelist"), change(bot)):
        assert "<script>alert(1)" not in anna.get(address).content.decode()


def test_row_button_page_button_and_list_action_start_and_stop(world, bot, anna):
    listing = reverse("admin:bots_bot_changelist")
    start = reverse("admin:bots_bot_start", args=[bot.pk])
    assert f'formaction="{start}"' in anna.get(listing).content.decode()
    assert "is being started" in anna.post(start, follow=True).content.decode()
    bot.refresh_from_db()
    assert bot.desired_state == "running"

    stop = reverse("admin:bots_bot_stop", args=[bot.pk])
    assert f'action="{stop}"' in anna.get(change(bot)).content.decode()
    answer = anna.post(stop, {"next": change(bot)})
    assert answer["Location"] == change(bot)
    bot.refresh_from_db()
    assert bot.desired_state == "stopped"

    anna.post(listing, {"action": "bots_start", "_selected_action": [bot.pk]})
    bot.refresh_from_db()
    assert bot.desired_state == "running"


@pytest.mark.parametrize("address", ["https://evil.example/", "//evil.example", "/live/", "javascript:alert(1)"])
def test_buttons_return_to_our_pages_only(world, bot, anna, address):
    answer = anna.post(reverse("admin:bots_bot_stop", args=[bot.pk]), {"next": address})
    assert answer["Location"] == reverse("admin:bots_bot_changelist")


def test_refused_start_says_why_on_the_page(world, bot, anna):
    ExchangeAccount.objects.update(enabled=False)
    answer = anna.post(reverse("admin:bots_bot_start", args=[bot.pk]), follow=True)
    assert "is disabled" in answer.content.decode()
    bot.refresh_from_db()
    assert bot.desired_state == "stopped"


def test_running_bot_is_not_deleted_and_says_why(world, bot, anna):
    bot_start(bot=bot, actor=world.anna)
    answer = anna.post(reverse("admin:bots_bot_delete", args=[bot.pk]), {"post": "yes"}, follow=True)
    assert "stop it and wait" in answer.content.decode()
    assert Bot.objects.filter(pk=bot.pk).exists()
    anna.post(reverse("admin:bots_bot_stop", args=[bot.pk]))
    anna.post(reverse("admin:bots_bot_delete", args=[bot.pk]), {"post": "yes"})
    assert not Bot.objects.filter(pk=bot.pk).exists()


def test_account_form_keeps_the_stored_key_when_left_empty(world, anna):
    account = world.account(world.anna)
    before = account.credentials
    values = {
        "label": "Renamed",
        "enabled": "on",
        "paper_balances": "{}",
        "api_key": "",
        "secret": "",
        "passphrase": "",
    }
    assert anna.post(reverse("admin:bots_exchangeaccount_change", args=[account.pk]), values).status_code == 302
    account.refresh_from_db()
    assert (account.label, account.credentials) == ("Renamed", before)


@pytest.mark.parametrize(
    "values", [{"api_key": "only-the-key-1"}, {"secret": "only-the-secret"}, {"passphrase": "only"}]
)
def test_half_of_the_credentials_is_refused(world, anna, values):
    account = world.account(world.anna)
    form = {"label": "Main", "enabled": "on", "paper_balances": "{}"} | values
    given = errors(anna.post(reverse("admin:bots_exchangeaccount_change", args=[account.pk]), form))
    assert "together" in " ".join(given.values())


def test_taken_key_is_an_error_of_its_field(world, anna):
    taken = world.credentials()
    world.account(world.ben, credentials=taken)
    form = {
        "exchange": world.exchanges["alpha"].pk, "label": "Mine", "enabled": "on", "paper_balances": "{}",
        "api_key": taken.api_key, "secret": "a-secret-of-mine",
    }  # fmt: skip
    given = errors(anna.post(reverse("admin:bots_exchangeaccount_add"), form))
    assert "already used by another account" in given["api_key"]
    assert not ExchangeAccount.objects.filter(owner=world.anna).exists()


@pytest.mark.parametrize(
    "urls",
    [
        '{"rest": "file:///etc/passwd"}', '{"rest": "http://user:pw@host"}', '{"rest": "http://host/path"}',
        '{"rest": "http://host:99999"}', '{"other": "http://host"}', '["http://host"]', '{"ws": "http://host"}',
        '{"rest": 5}', "not json", '{"rest": "http://[::1"}',
    ],
)  # fmt: skip
def test_exchange_urls_are_hosts_and_nothing_else(world, operator, urls):
    form = {"code": "new", "name": "New", "ccxt_id": "okx", "environment": "simulated", "enabled": "on", "urls": urls}
    assert list(errors(operator.post(reverse("admin:bots_exchange_add"), form))) == ["urls"]
    assert not Exchange.objects.filter(code="new").exists()


def limit_form(**changes):
    return {
        "scope": "global",
        "rule": "max_trade_notional",
        "value": "500",
        "note": "",
        "owner": "",
        "bot": "",
    } | changes


def test_limits_are_set_changed_and_audited(world, operator):
    assert operator.post(reverse("admin:risk_risklimit_add"), limit_form()).status_code == 302
    limit = RiskLimit.objects.get()
    address = reverse("admin:risk_risklimit_change", args=[limit.pk])
    assert operator.post(address, {"value": "400", "note": "calmer", "seen_version": "1"}).status_code == 302
    limit.refresh_from_db()
    assert (limit.value, limit.version) == (400, 2)
    messages = list(LogEntry.objects.order_by("id").values_list("change_message", flat=True))[-2:]
    assert messages[0].startswith("Set to 500")
    assert messages[1].startswith("Changed from 500")

    stale = operator.post(address, {"value": "900", "note": "", "seen_version": "1"})
    assert "Somebody changed this limit meanwhile" in errors(stale)["__all__"]
    limit.refresh_from_db()
    assert limit.value == 400


@pytest.mark.parametrize(
    "values",
    [
        {"value": "NaN"}, {"value": "-1"}, {"value": "1e400"}, {"value": "0"}, {"scope": "owner"}, {"scope": "bot"},
        {"rule": "max_fun"}, {"value": ""},
    ],
)  # fmt: skip
def test_bad_limits_are_refused(world, operator, values):
    errors(operator.post(reverse("admin:risk_risklimit_add"), limit_form(**values)))
    assert not RiskLimit.objects.exists()


def test_second_limit_of_a_rule_is_refused_with_the_cure(world, operator):
    operator.post(reverse("admin:risk_risklimit_add"), limit_form())
    given = errors(operator.post(reverse("admin:risk_risklimit_add"), limit_form(value="5")))
    assert "change that one" in " ".join(given.values())
