"""Secrets go in, are used by the engine alone, and are found nowhere else."""

from __future__ import annotations

import io
import logging
import traceback

import pytest
from cryptography.fernet import Fernet
from django.contrib.admin.models import LogEntry
from django.core.exceptions import FieldError, ImproperlyConfigured, ValidationError
from django.core.management import CommandError, call_command
from django.urls import reverse

from bots import vault
from bots.models import Bot, Exchange, ExchangeAccount
from bots.services.accounts import (
    account_arm,
    account_create,
    account_delete,
    account_update,
    credentials_clear,
    credentials_rotate,
    credentials_set,
)
from bots.services.bots import bot_start
from bots.services.engine import engine_config
from bots.services.positions import positions_apply
from tests.bots.world import START_NS, D
from trading.config import Credentials
from trading.exchanges.binance.orders import BinanceOrders
from trading.messages import AccountPosition, AccountPositions

pytestmark = [pytest.mark.django_db, pytest.mark.database]

ED25519_KEY = (
    "-----BEGIN PRIVATE KEY-----\n"
    "MC4CAQAwBQYDK2VwBCIEIJ+DYvh6SEqVTm50DFtMDoQikTmiCqirVv9mWG9qfSnF\n"
    "-----END PRIVATE KEY-----\n"
)
CANARY_KEY = "canary-key-3f9c2b7e11"
CANARY_SECRET = "canary-secret-88aa01d4c2"
CANARY_PASSPHRASE = "canary-phrase-7b7b7b"
CANARIES = (CANARY_KEY, CANARY_SECRET, CANARY_PASSPHRASE)
CREDENTIALS = Credentials(api_key=CANARY_KEY, secret=CANARY_SECRET, passphrase=CANARY_PASSPHRASE)


def assert_no_canary(text, where):
    for canary in CANARIES:
        assert canary not in text, f"{where} shows a secret"
    # Nor most of one.
    assert CANARY_SECRET[:-4] not in text, where


@pytest.fixture
def account(world):
    return world.account(world.anna, credentials=CREDENTIALS)


def test_engine_alone_gets_what_was_stored(world, account):
    bot = world.bot(world.anna)
    bot_start(bot=bot, actor=world.anna)
    config = engine_config(owner_id=world.anna.pk, token=7)
    given = {entry.account_id: entry.credentials for entry in config.accounts}
    assert given[account.pk] == CREDENTIALS
    assert_no_canary(repr(config), "the configuration's repr")
    assert_no_canary(str(config), "the configuration's str")


def test_canaries_are_in_no_page_log_message_or_dump(world, anna, operator, caplog):
    caplog.set_level(logging.DEBUG)
    form = {
        "exchange": world.exchanges["alpha"].pk, "label": "Canary", "enabled": "on", "paper_balances": "{}",
        "api_key": CANARY_KEY, "secret": CANARY_SECRET, "passphrase": CANARY_PASSPHRASE,
    }  # fmt: skip
    bad = anna.post(reverse("admin:bots_exchangeaccount_add"), form | {"label": ""})
    assert bad.status_code == 200
    assert_no_canary(bad.content.decode(), "the form after an error")
    added = anna.post(reverse("admin:bots_exchangeaccount_add"), form, follow=True)
    assert_no_canary(added.content.decode(), "the page after saving")
    account = ExchangeAccount.objects.get(label="Canary")

    for client in (anna, operator):
        for name, args in (
            ("changelist", []),
            ("change", [account.pk]),
            ("history", [account.pk]),
            ("delete", [account.pk]),
        ):
            page = client.get(reverse(f"admin:bots_exchangeaccount_{name}", args=args))
            assert page.status_code == 200
            assert_no_canary(page.content.decode(), name)
            assert account.credentials not in page.content.decode()
    dump = io.StringIO()
    call_command("dumpdata", stdout=dump)
    assert "Canary" in dump.getvalue()
    assert_no_canary(dump.getvalue(), "the database dump")
    for record in caplog.records:
        assert_no_canary(f"{record.getMessage()} {record.__dict__}", f"the log of {record.name}")
    for entry in LogEntry.objects.all():
        assert_no_canary(f"{entry.object_repr} {entry.change_message}", "the audit log")
    assert_no_canary(f"{account!r} {account} {vars(account)}", "the row")


@pytest.mark.parametrize("pasted", [ED25519_KEY, ED25519_KEY.replace("\n", ""), ED25519_KEY.replace("\n", " \r\n")])
def test_a_private_key_is_whole_however_its_lines_came(world, pasted):
    account = world.account(world.anna, credentials=Credentials(api_key=CANARY_KEY, secret=pasted))
    kept = vault.unseal(account.pk, account.credentials)
    assert BinanceOrders("ws://127.0.0.1:1", kept, lambda: 0).logon("1")


def test_errors_do_not_repeat_what_was_given(world):
    with pytest.raises(ValidationError) as caught:
        world.account(world.anna, credentials=Credentials(api_key=CANARY_KEY, secret=f"{CANARY_SECRET} with spaces"))
    assert_no_canary("".join(traceback.format_exception(caught.value)), "the traceback")
    assert not ExchangeAccount.objects.exists(), "half an account was saved"


def test_unreadable_ciphertext_says_so_without_its_text(world, account, settings):
    settings.ARB_FIELD_KEYS = [Fernet.generate_key().decode()]
    with pytest.raises(vault.CredentialsUnreadable, match="set them again") as caught:
        vault.unseal(account.pk, account.credentials)
    text = "".join(traceback.format_exception(caught.value))
    assert_no_canary(text, "the traceback")
    assert account.credentials not in text


def test_ciphertext_moved_to_another_account_opens_nothing(world, account):
    other = world.account(world.ben)
    with pytest.raises(vault.CredentialsUnreadable, match="another account"):
        vault.unseal(other.pk, account.credentials)


@pytest.mark.parametrize("keys", [[], ["too-short"], [None]])
def test_wrong_field_keys_are_named_without_being_shown(settings, keys):
    settings.ARB_FIELD_KEYS = keys
    with pytest.raises(ImproperlyConfigured, match="ARB_FIELD_KEYS") as caught:
        vault.seal(1, CREDENTIALS)
    assert "too-short" not in "".join(traceback.format_exception(caught.value))


def test_rotation_reads_old_keys_and_writes_the_newest(world, account, settings):
    new = Fernet.generate_key().decode()
    old = settings.ARB_FIELD_KEYS
    settings.ARB_FIELD_KEYS = [new, *old]
    assert credentials_rotate() == 1
    settings.ARB_FIELD_KEYS = [new]
    account.refresh_from_db()
    assert vault.unseal(account.pk, account.credentials) == CREDENTIALS


def test_rotation_with_a_missing_key_changes_nothing(world, account, settings):
    world.account(world.ben)
    before = list(ExchangeAccount.objects.order_by("pk").values_list("credentials", flat=True))
    settings.ARB_FIELD_KEYS = [Fernet.generate_key().decode()]
    with pytest.raises(vault.CredentialsUnreadable):
        credentials_rotate()
    assert list(ExchangeAccount.objects.order_by("pk").values_list("credentials", flat=True)) == before


def test_rotate_command_says_how_many_or_why_not(world, account, settings, capsys):
    settings.ARB_FIELD_KEYS = [Fernet.generate_key().decode(), *settings.ARB_FIELD_KEYS]
    call_command("credentials_rotate")
    assert "Credentials of 1 accounts" in capsys.readouterr().out
    settings.ARB_FIELD_KEYS = [Fernet.generate_key().decode()]
    with pytest.raises(CommandError, match="Nothing was changed"):
        call_command("credentials_rotate")


def test_same_key_in_two_accounts_or_of_two_users_is_refused(world, account):
    for owner, label in ((world.anna, "Second"), (world.ben, "Bens")):
        with pytest.raises(ValidationError, match="already used by another account"):
            world.account(owner, label=label, credentials=Credentials(api_key=CANARY_KEY, secret="another-secret"))
    assert ExchangeAccount.objects.count() == 1
    # The same account may set the same key with a new secret.
    credentials_set(
        account=account, actor=world.anna, credentials=Credentials(api_key=CANARY_KEY, secret="new-secret-1234")
    )


@pytest.mark.parametrize(
    ("credentials", "field"),
    [
        (Credentials(api_key="", secret="s" * 20), "api_key"),
        (Credentials(api_key="k" * 20, secret=""), "secret"),
        (Credentials(api_key="k" * 20, secret="with space inside"), "secret"),
        (Credentials(api_key="k" * 300, secret="s" * 20), "api_key"),
        (Credentials(api_key="short", secret="s" * 20), "api_key"),
        (Credentials(api_key="ключ-ключ-ключ", secret="s" * 20), "api_key"),
        (Credentials(api_key="same-same-same", secret="same-same-same"), "secret"),
        (Credentials(api_key="k" * 20, secret="s" * 20, passphrase="p" * 300), "passphrase"),
    ],
)
def test_what_cannot_be_a_key_is_refused_by_field(world, credentials, field):
    with pytest.raises(ValidationError) as caught:
        world.account(world.anna, credentials=credentials)
    assert list(caught.value.error_dict) == [field]


def test_pasted_spaces_and_newlines_around_are_trimmed(world):
    account = world.account(
        world.anna, credentials=Credentials(api_key=f"  {CANARY_KEY}\n", secret=f"{CANARY_SECRET}\t")
    )
    stored = vault.unseal(account.pk, account.credentials)
    assert (stored.api_key, stored.secret) == (CANARY_KEY, CANARY_SECRET)
    assert account.key_last4 == CANARY_KEY[-4:]


def test_columns_of_secrets_cannot_be_searched(world, account, operator):
    for lookup in ("startswith", "contains", "exact", "regex", "gt", "in"):
        with pytest.raises(FieldError, match="encrypted"):
            list(ExchangeAccount.objects.filter(**{f"credentials__{lookup}": "g"}))
    for query in ("credentials__startswith", "key_fingerprint__startswith", "owner__password__startswith"):
        answer = operator.get(reverse("admin:bots_exchangeaccount_changelist"), {query: "a"})
        assert answer.status_code in (302, 400), query


def test_new_key_disarms(world, account):
    account_arm(account=account, actor=world.anna)
    assert account.armed_for_live
    credentials_set(account=account, actor=world.anna, credentials=world.credentials())
    account.refresh_from_db()
    assert not account.armed_for_live


def test_arming_asks_for_credentials_and_the_installations_yes(world, settings):
    paper = world.account(world.anna, credentials=None)
    with pytest.raises(ValidationError, match="no credentials"):
        account_arm(account=paper, actor=world.anna)
    world.exchanges["live"] = world.exchange("live", environment=Exchange.Environment.LIVE)
    live = world.account(world.anna, "live")
    with pytest.raises(ValidationError, match="ARB_ALLOW_LIVE_ORDERS=1"):
        account_arm(account=live, actor=world.anna)
    settings.ARB_ALLOW_LIVE_ORDERS = True
    assert account_arm(account=live, actor=world.anna).armed_for_live
    assert LogEntry.objects.filter(change_message="Armed for live.").count() == 1


def test_clearing_forgets_the_key_so_that_it_can_be_used_again(world, account):
    credentials_clear(account=account, actor=world.anna)
    account.refresh_from_db()
    assert (account.credentials, account.key_fingerprint, account.key_last4) == (None, None, "")
    world.account(world.ben, credentials=CREDENTIALS)


def test_account_with_a_history_is_disabled_instead_of_deleted(busy_world):
    account = ExchangeAccount.objects.filter(owner=busy_world.anna).first()
    account_delete(account=account, actor=busy_world.anna)
    account.refresh_from_db()
    assert not account.enabled
    assert not account.has_credentials
    unused = busy_world.account(busy_world.anna, label="Unused")
    held = AccountPosition(market="alpha:BTC/USDT", side="both", quantity=D(1))
    told = AccountPositions(account_id=unused.pk, positions=(held,), received_ns=START_NS)
    assert positions_apply(owner_id=busy_world.anna.pk, token=busy_world.token(busy_world.anna), told=[told]) == 1
    account_delete(account=unused, actor=busy_world.anna)
    assert not ExchangeAccount.objects.filter(label="Unused").exists()


@pytest.mark.parametrize(
    "amounts", [{"USDT": "-1"}, {"USDT": "NaN"}, {"USDT": "1e400"}, {"USDT": 5}, ["USDT"], {"USDT": "1,5"}]
)
def test_paper_balances_are_amounts(world, amounts):
    with pytest.raises(ValidationError) as caught:
        world.account(world.anna, credentials=None, paper_balances=amounts)
    assert list(caught.value.error_dict) == ["paper_balances"]


def test_paper_balances_reach_the_engine_as_decimals(world):
    for code in world.exchanges:
        world.account(world.anna, code, credentials=None, paper_balances={"USDT": "10000.50"})
    bot = world.bot(world.anna, mode=Bot.Mode.PAPER)
    bot_start(bot=bot, actor=world.anna)
    [first, second] = engine_config(owner_id=world.anna.pk).accounts
    assert first.paper_balances == second.paper_balances == {"USDT": D("10000.50")}
    assert first.credentials is None


def test_account_changes_wake_and_are_audited(world, account):
    account_update(account=account, actor=world.anna, label="Renamed")
    assert LogEntry.objects.latest("id").change_message == "Changed label."
    with pytest.raises(TypeError, match="cannot set"):
        account_update(account=account, actor=world.anna, owner=world.ben)
    with pytest.raises(ValidationError):
        account_create(owner=world.anna, actor=world.anna, exchange=world.exchanges["alpha"], label="Renamed")
