"""Coins as exchanges tell them, operators' words about them, and the routes they leave out: real ccxt, real faces."""

from __future__ import annotations

import asyncio

import pytest
from django.core.exceptions import PermissionDenied, ValidationError
from django.urls import reverse

from bots.models import Asset, Bot, ExchangeAccount, ListedAsset, Market
from bots.services.accounts import account_create
from bots.services.bots import bot_start, bot_update
from bots.services.engine import engine_config
from bots.services.exchanges import markets_sync
from bots.services.wallets import asset_confirm, listing_rule, listings_store, wallets_refresh
from risk.policy.tradability import Listing, Network, Sameness, sameness
from tests.bots.world import World, market
from tests.exchangesim.simulator import Simulator, shared_simulator  # noqa: F401 (a fixture)
from trading.config import Credentials, ExchangeSpec
from trading.exchanges.wallets import load_coins

pytestmark = [pytest.mark.django_db, pytest.mark.database]

THERE = "alpha:BTC/USDT>beta:BTC/USDT"
BACK = "beta:BTC/USDT>alpha:BTC/USDT"
TETHER = "0xdac17f958d2ee523a2206206994597c13d831ec7"


def told(contract: str = TETHER, **changes: bool) -> dict[str, tuple[Network, ...]]:
    """What an exchange tells of the coins it trades; ``changes`` are of BTC's wallet."""
    btc = {"deposit": True, "withdraw": True, **changes}
    return {
        "BTC": (Network(name="BTC", **btc),),
        "ETH": (Network(name="ERC20", deposit=True, withdraw=True),),
        "USDT": (Network(name="ERC20", contract=contract, deposit=True, withdraw=True),),
    }


@pytest.fixture
def bot(world: World) -> Bot:
    bot = world.bot(world.anna)
    bot_start(bot=bot, actor=world.anna)
    for exchange in world.exchanges.values():
        listings_store(exchange=exchange, found=told())
    return bot


def config(bot: Bot):
    (found,) = engine_config(owner_id=bot.owner_id).bots
    return found


def test_known_coins_with_open_wallets_leave_no_route_out(bot):
    assert dict(config(bot).untradable) == dict(config(bot).unproven) == {}


def test_before_exchanges_have_told_anything_real_money_waits(bot):
    ListedAsset.objects.all().delete()
    assert dict(config(bot).untradable) == {}
    assert set(config(bot).unproven) == {THERE, BACK}
    assert "BTC on alpha and on beta" in config(bot).unproven[THERE]


def test_another_contract_is_another_coin_for_everybody(world, bot):
    listings_store(exchange=world.exchanges["beta"], found=told("0x" + "1" * 40))
    assert set(config(bot).untradable) == {THERE, BACK}
    assert "USDT on alpha and on beta: two different coins" in config(bot).untradable[THERE]


def test_a_closed_wallet_stops_the_way_that_needs_it(world, bot):
    listings_store(exchange=world.exchanges["alpha"], found=told(withdraw=False))
    refused = config(bot).untradable
    # Bought on alpha it could not leave; bought on beta and sold on alpha it need not.
    assert set(refused) == {THERE}
    assert "BTC on alpha: withdrawals are suspended" in refused[THERE]
    bot_update(bot=bot, actor=world.anna, require_open_wallets=False)
    assert dict(config(bot).untradable) == {}


def test_a_halted_market_is_watched_and_not_traded(world, bot):
    markets_sync(exchange=world.exchanges["beta"], markets=[market("beta", active=False), market("beta", "ETH")])
    running = config(bot)
    assert {item.key for item in running.markets} == {"alpha:BTC/USDT", "beta:BTC/USDT"}
    assert running.untradable[THERE] == "beta:BTC/USDT: trading is halted by the exchange."


def test_a_market_that_vanished_is_not_watched(world, bot):
    markets_sync(exchange=world.exchanges["beta"], markets=[market("beta", "ETH")])
    assert {item.key for item in config(bot).markets} == {"alpha:BTC/USDT"}
    row = Market.objects.get(exchange=world.exchanges["beta"], symbol="BTC/USDT")
    assert (row.active, row.listed) == (False, False)


def test_an_operators_word_is_above_contracts(world, bot):
    listings_store(exchange=world.exchanges["beta"], found=told("0x" + "1" * 40))
    asset_confirm(actor=world.operator, asset=Asset.objects.get(code="USDT"), confirmed=True, name="Tether", note="ok")
    assert dict(config(bot).untradable) == {}
    listing = ListedAsset.objects.get(exchange=world.exchanges["beta"], asset="USDT")
    listing_rule(actor=world.operator, listing=listing, ruling="other", note="a namesake")
    assert "an operator has said" in config(bot).untradable[THERE]


def test_what_is_not_answered_stays_as_it_was_told(world, bot):
    before = list(ListedAsset.objects.order_by("pk").values())
    assert "can't be loaded" in wallets_refresh(exchange=world.exchanges["alpha"])  # nobody listens there
    assert list(ListedAsset.objects.order_by("pk").values()) == before


def test_an_answer_without_news_changes_nothing_but_its_age(world, bot):
    row = ListedAsset.objects.get(exchange=world.exchanges["alpha"], asset="BTC")
    assert listings_store(exchange=world.exchanges["alpha"], found=told()) == 0
    again = ListedAsset.objects.get(pk=row.pk)
    assert again.networks == row.networks
    assert again.read_at > row.read_at


def test_only_operators_say_what_a_coin_is(world, bot):
    listing = ListedAsset.objects.first()
    with pytest.raises(PermissionDenied):
        listing_rule(actor=world.anna, listing=listing, ruling="same", note="mine")
    with pytest.raises(PermissionDenied):
        asset_confirm(actor=world.anna, asset=listing.asset, confirmed=True, name="", note="")
    with pytest.raises(ValidationError):
        listing_rule(actor=world.operator, listing=listing, ruling="maybe", note="?")


def page(listing: ListedAsset) -> str:
    return reverse("admin:bots_listedasset_change", args=[listing.pk])


def test_a_ruling_needs_a_reason_and_the_second_operator_is_told(world, bot, client):
    client.force_login(world.operator)
    listing = ListedAsset.objects.get(exchange=world.exchanges["beta"], asset="USDT")
    refused = client.post(page(listing), {"ruling": "other", "note": " ", "seen": ""})
    assert "Say why" in refused.content.decode()
    assert client.post(page(listing), {"ruling": "other", "note": "a namesake", "seen": ""}).status_code == 302
    late = client.post(page(listing), {"ruling": "same", "note": "looked it up", "seen": ""})
    assert "Somebody changed this meanwhile" in late.content.decode()
    listing.refresh_from_db()
    assert (listing.ruling, listing.note) == ("other", "a namesake")


def test_pages_show_networks_wallets_and_the_routes_left_out(world, bot, client):
    client.force_login(world.operator)
    listings_store(exchange=world.exchanges["alpha"], found=told(withdraw=False))
    listed = client.get(reverse("admin:bots_listedasset_changelist")).content.decode()
    assert TETHER in listed
    assert "withdrawals suspended" in listed
    asset = client.get(reverse("admin:bots_asset_change", args=["BTC"])).content.decode()
    assert "withdrawals suspended" in asset
    client.force_login(world.anna)
    own = client.get(reverse("admin:bots_bot_change", args=[bot.pk])).content.decode()
    assert "BTC on alpha: withdrawals are suspended" in own


def spec(simulator: Simulator, name: str) -> ExchangeSpec:
    rest = simulator.rest[name]
    urls = {"rest": rest, "ws": rest.replace("http", "ws")}
    return ExchangeSpec(code=name, ccxt_id=name, environment="simulated", urls=urls)


@pytest.fixture
def coins(shared_simulator: Simulator):  # noqa: F811
    """Ask an exchange for its coins with an account's key, as ccxt reads them."""
    simulator = shared_simulator

    def ask(name: str) -> dict[str, tuple[Network, ...]]:
        keys = simulator.account(name)
        credentials = Credentials(api_key=keys.api_key, secret=keys.secret, passphrase=keys.passphrase)
        return asyncio.run(load_coins(spec(simulator, name), credentials))

    return ask


def test_the_three_exchanges_mean_the_same_coins(coins):
    found = {name: coins(name) for name in ("binance", "okx", "bybit")}
    for code in ("BTC", "ETH", "USDT"):
        listings = [Listing(exchange=name, asset=code, networks=told[code]) for name, told in found.items()]
        for one in listings:
            assert one.can_deposit
            assert one.can_withdraw
            assert all(sameness(one, other)[0] is Sameness.SAME for other in listings)


@pytest.mark.parametrize("name", ["binance", "okx", "bybit"])
def test_a_frozen_wallet_and_another_contract_are_read(shared_simulator: Simulator, coins, name: str):  # noqa: F811
    usual = coins(name)["USDT"]
    shared_simulator.set_coin(name, "USDT", contract="0x" + "2" * 40, deposit=False, withdraw=False)
    try:
        (network,) = coins(name)["USDT"]
    finally:
        shared_simulator.set_coin(name, "USDT", contract=usual[0].contract, deposit=True, withdraw=True)
    assert (network.deposit, network.withdraw, network.contract) == (False, False, "0x" + "2" * 40)


def test_nobody_is_told_without_a_key(shared_simulator: Simulator):  # noqa: F811
    assert asyncio.run(load_coins(spec(shared_simulator, "okx"), None)) == {}


def test_a_refresh_asks_with_an_accounts_key_and_stores(world, shared_simulator: Simulator):  # noqa: F811
    exchange = world.exchanges["alpha"]
    exchange.urls = dict(spec(shared_simulator, "binance").urls)
    exchange.save()
    assert "holders of a key only" in wallets_refresh(exchange=exchange)
    keys = shared_simulator.account("binance")
    credentials = Credentials(api_key=keys.api_key, secret=keys.secret, passphrase=keys.passphrase)
    account_create(owner=world.anna, actor=world.anna, exchange=exchange, label="Main", credentials=credentials)
    assert ExchangeAccount.objects.count() == 1
    assert "3 changed" in wallets_refresh(exchange=exchange)
    assert set(ListedAsset.objects.values_list("asset", flat=True)) == {"BTC", "ETH", "USDT"}
