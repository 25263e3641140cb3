"""The demo's rows: made once, kept, followed to new addresses."""

from __future__ import annotations

import io

import pytest
from django.contrib.auth import authenticate
from django.contrib.auth.models import User
from django.core.exceptions import ValidationError
from django.core.management import call_command

from bots.models import Bot, Command, Exchange, ExchangeAccount
from bots.selectors import manual_markets
from bots.selectors.desks import desk_accounts
from bots.services.bots import bot_stop
from bots.services.demo import DemoExchange, demo_accounts, demo_seed
from bots.services.engine import engine_config
from bots.services.exchanges import exchange_create
from tests.bots.world import market
from trading.config import Credentials

pytestmark = [pytest.mark.django_db, pytest.mark.database]


def exchanges(port=9001):
    return [
        DemoExchange(
            code,
            code.title(),
            "binance",
            {"rest": f"http://127.0.0.1:{port}", "ws": f"ws://127.0.0.1:{port}"},
            [market(code), market(code, "ETH"), market(code, "BTC", "USDC")],
        )
        for code in ("one-sim", "two-sim", "three-sim")
    ]


def credentials(code, username):
    return Credentials(api_key=f"key-of-{username}-{code}", secret=f"secret-of-{username}-{code}")


def seed(port=9001):
    return demo_seed(exchanges=exchanges(port), credentials=credentials)


def test_first_start_makes_an_operator_two_users_and_running_bots(db):
    users = seed()
    assert [(user.username, user.role) for user in users] == [
        ("operator", "operator"),
        ("anna", "user"),
        ("ben", "user"),
    ]
    for user in users:
        found = authenticate(username=user.username, password=user.password)
        assert found is not None
        assert found.is_staff
        assert found.is_superuser == (user.role == "operator")
    assert len({user.password for user in users}) == 3
    assert min(len(user.password) for user in users) >= 12
    modes = list(
        Bot.objects.order_by("owner__username", "name").values_list("owner__username", "mode", "desired_state")
    )
    assert modes == [("anna", "live", "running"), ("ben", "live", "running"), ("ben", "paper", "running")]
    assert all(str(pair).endswith("/USDT") for bot in Bot.objects.all() for pair in bot.pairs.all())


def test_engines_find_everything_to_run(db):
    seed()
    for user in User.objects.filter(is_superuser=False):
        config = engine_config(owner_id=user.pk, token=1)
        assert len(config.bots) == Bot.objects.filter(owner=user).count()
        for bot in config.bots:
            assert len(bot.accounts) == 3
            assert len(bot.markets) == 6
        live = [account for account in config.accounts if account.credentials]
        assert {account.credentials for account in live} == {
            credentials(account.exchange.code, user.username) for account in live
        }


def test_every_account_trades_by_hand_on_paper_too(db):
    seed()
    for account in ExchangeAccount.objects.all():
        assert {"USDT", "BTC"} <= account.paper_balances.keys(), account


def test_contracts_are_for_trades_by_hand_and_no_bots(db):
    contract = market("perp-sim", symbol="BTC/USDT:USDT", kind="linear", settle="USDT")
    urls = {"rest": "http://127.0.0.1:9009", "ws": "ws://127.0.0.1:9009"}
    perp = DemoExchange("perp-sim", "Perp", "binanceusdm", urls, [contract])
    demo_seed(exchanges=[*exchanges(), perp], credentials=credentials)
    accounts = ExchangeAccount.objects.filter(exchange__code="perp-sim")
    assert [account.owner.username for account in accounts.order_by("pk")] == ["anna", "ben"]
    assert not Bot.objects.filter(accounts__in=accounts).exists()
    assert [account.paper_balances for account in accounts] == [{"USDT": "25000"}] * 2
    assert "perp-sim" in {account.exchange for account in demo_accounts()}
    for account in accounts:
        for mode in ("paper", "live"):
            assert account in desk_accounts(owner_id=account.owner_id, mode=mode)
        assert "BTC/USDT:USDT" in {one["symbol"] for one in manual_markets(account=account, search="")}
    for user in User.objects.filter(is_superuser=False):
        for bot in engine_config(owner_id=user.pk, token=1).bots:
            assert (len(bot.accounts), len(bot.markets)) == (3, 6), "as without it"


def test_second_start_keeps_passwords_bots_and_what_was_stopped(db):
    passwords = {user.username: user.password for user in seed()}
    stopped = Bot.objects.get(owner__username="anna")
    bot_stop(bot=stopped, actor=None)
    before = (Bot.objects.count(), ExchangeAccount.objects.count(), Command.objects.count())

    again = seed(port=9555)

    assert [user.password for user in again] == [None, None, None]
    for username, password in passwords.items():
        assert authenticate(username=username, password=password) is not None
    stopped.refresh_from_db()
    assert stopped.desired_state == "stopped"
    assert (Bot.objects.count(), ExchangeAccount.objects.count(), Command.objects.count()) == before
    assert {exchange.urls["rest"] for exchange in Exchange.objects.all()} == {"http://127.0.0.1:9555"}


def test_keys_for_the_simulated_exchanges_can_be_read_again(db):
    seed()
    accounts = demo_accounts()
    assert len(accounts) == 6
    for account in accounts:
        assert account.credentials == credentials(account.exchange, account.username)
        assert "secret-of" not in repr(account)


def test_keys_of_real_exchanges_are_never_given_out(world):
    world.exchanges["real"] = world.exchange("real", environment="live")
    world.account(world.anna, "real")
    assert demo_accounts() == []


def test_nothing_is_stored_in_clear(db):
    users = seed()
    dump = io.StringIO()
    call_command("dumpdata", stdout=dump)
    for user in users:
        assert user.password not in dump.getvalue()
    assert "secret-of" not in dump.getvalue()
    assert "key-of" not in dump.getvalue()


def test_demo_refuses_a_database_in_which_its_names_are_real_exchanges(db):
    exchange_create(actor=None, code="one-sim", name="Real", ccxt_id="binance", environment="live")
    with pytest.raises(ValidationError, match="ARB_STATE_DIR"):
        seed()
    assert not User.objects.exists()
