"""The pages of the trading desk: whose they are, which mode they are about, what may be traded on them."""

from __future__ import annotations

import re
from decimal import Decimal

import pytest
from django.test import Client

from bots.models import Asset, Bot, Exchange, ExchangeAccount, Market, TradingPair
from tests.live.desk import Desk, make_desk, make_user

pytestmark = pytest.mark.django_db


@pytest.fixture
def desk(db: None) -> Desk:
    return make_desk()


@pytest.fixture
def page(desk: Desk) -> Client:
    client = Client()
    client.force_login(desk.user)
    return client


def list_market(code: str, base: str, quote: str = "USDT", *, settle: str | None = None, **more: object) -> Market:
    """Add a market on an exchange there is."""
    for asset in (base, quote):
        Asset.objects.get_or_create(code=asset)
    symbol = f"{base}/{quote}" + (f":{settle}" if settle else "")
    facts = {
        "tick": "0.01",
        "lot": "0.001",
        "taker_fee": "0.001",
        "maker_fee": "0.001",
        "kind": "linear" if settle else "spot",
    }
    return Market.objects.create(
        exchange=Exchange.objects.get(code=code), symbol=symbol, native_id=symbol.replace("/", ""), base_id=base,
        quote_id=quote, settle_id=settle, **{**facts, **more},
    )  # fmt: skip


def symbols(page: Client, account: ExchangeAccount, search: str = "") -> list[str]:
    answer = page.get("/desk/markets/", {"account": account.pk, "search": search})
    assert answer.status_code == 200
    return [market["symbol"] for market in answer.json()["markets"]]


@pytest.mark.parametrize("address", ["/desk/", "/desk/trade/", "/desk/rebalancing/"])
def test_a_desk_asks_to_sign_in_and_is_its_owners(page: Client, desk: Desk, address: str) -> None:
    assert Client().get(address).headers["Location"] == f"/sign-in/?next={address}"
    other = make_user("bob")
    assert f'data-owner="{desk.user.pk}"' in page.get(address).text
    assert page.get(address, {"owner": other.pk}).status_code == 403
    assert page.post(address).status_code == 405


def test_the_mode_is_said_and_one_that_is_none_is_not_found(page: Client) -> None:
    for mode in ("paper", "live"):
        shown = page.get("/desk/", {"mode": mode}).text
        assert f'data-mode="{mode}"' in shown
        assert re.search(rf'data-mode-link="{mode}" aria-current="true"', shown)
    answer = page.get("/desk/", {"mode": "margin"})
    assert answer.status_code == 404


def test_without_a_mode_the_dashboard_shows_what_there_is_and_the_panel_is_on_paper(page: Client, desk: Desk) -> None:
    assert 'data-mode="paper"' in page.get("/desk/").text
    Bot.objects.filter(pk=desk.bot.pk).update(mode="live")
    assert 'data-mode="live"' in page.get("/desk/").text
    assert 'data-mode="paper"' in page.get("/desk/trade/").text  # nobody trades live by mistake
    Bot.objects.create(owner=desk.user, name="Manual live", mode="live", strategy="manual", desired_state="running")
    assert 'data-mode="live"' in page.get("/desk/trade/").text


def test_live_is_offered_on_accounts_with_a_key_only(page: Client, desk: Desk) -> None:
    account = desk.accounts["okx-sim"]
    assert "has an API key" in page.get("/desk/trade/", {"mode": "live"}).text
    ExchangeAccount.objects.filter(pk=account.pk).update(credentials="sealed", key_fingerprint="f" * 64)
    shown = page.get("/desk/trade/", {"mode": "live"}).text
    options = re.findall(r'<option value="(\d+)" data-environment="simulated" data-armed="no">', shown)
    assert options == [str(account.pk)]
    assert len(re.findall(r"<option value=.*data-armed", page.get("/desk/trade/").text)) == 2


def test_an_operator_looks_at_another_desk_and_does_not_trade_on_it(desk: Desk) -> None:
    client = Client()
    client.force_login(make_user("olga", operator=True))
    answer = client.get("/desk/trade/", {"mode": "paper"})
    assert answer.headers["Location"] == f"/desk/trade/?mode=paper&owner={desk.user.pk}"
    shown = client.get(answer.headers["Location"]).text
    assert 'id="trade"' not in shown
    assert "data-own" not in shown.replace("data-owner", "")
    assert "Only its owner trades by hand" in shown


def test_markets_are_searched_by_symbol_and_asset(page: Client, desk: Desk) -> None:
    for base in ("ETH", "WBTC"):
        list_market("okx-sim", base)
        desk.bot.pairs.add(TradingPair.objects.create(base_id=base, quote_id="USDT"))
    list_market("okx-sim", "BTC", settle="USDT")
    account = desk.accounts["okx-sim"]
    assert symbols(page, account) == ["BTC/USDT", "BTC/USDT:USDT", "ETH/USDT", "WBTC/USDT"]
    assert symbols(page, account, "btc") == ["BTC/USDT", "BTC/USDT:USDT", "WBTC/USDT"]
    assert symbols(page, account, "BTC/USDT:USDT")[0] == "BTC/USDT:USDT"  # exactly this one comes first
    assert symbols(page, account, "btc usdt")[0] == "BTC/USDT"
    assert symbols(page, account, "nothing") == []
    assert symbols(page, account, "%_'\"\\") == []
    assert symbols(page, desk.accounts["binance-sim"]) == ["BTC/USDT"]


def test_only_what_can_be_followed_and_traded_is_offered(page: Client, desk: Desk) -> None:
    account = desk.accounts["okx-sim"]
    list_market("okx-sim", "DOGE")  # of no bot's pair
    TradingPair.objects.create(base_id="DOGE", quote_id="USDT")
    assert symbols(page, account) == ["BTC/USDT"]
    desk.bot.pairs.clear()
    assert symbols(page, account) == ["BTC/USDT", "DOGE/USDT"]  # no bot's pairs: all there are
    Market.objects.filter(symbol="DOGE/USDT").update(active=False)
    assert symbols(page, account) == ["BTC/USDT"]


def test_a_market_comes_with_what_its_sizes_must_keep_to(page: Client, desk: Desk) -> None:
    market = list_market(
        "okx-sim", "BTC", settle="USDT", contract_size=Decimal("0.01"), min_amount=Decimal(1), min_notional=Decimal(5)
    )
    answer = page.get("/desk/markets/", {"account": desk.accounts["okx-sim"].pk, "search": ":USDT"})
    assert answer.json()["markets"][-1:] == [
        {
            "key": "okx-sim:BTC/USDT:USDT", "id": market.pk, "exchange": "okx-sim", "symbol": "BTC/USDT:USDT",
            "kind": "linear", "base": "BTC", "quote": "USDT", "settle": "USDT", "contract_size": "0.01",
            "tick": "0.01", "lot": "0.001", "min_amount": "1", "min_notional": "5",
        }
    ]  # fmt: skip


@pytest.mark.parametrize("account", ["", "0", "x", "99999999999999999999", "-1"])
def test_markets_of_no_account_are_not_found(page: Client, account: str) -> None:
    assert page.get("/desk/markets/", {"account": account}).status_code == 404


def test_markets_of_anothers_account_are_not_told(page: Client) -> None:
    other = make_desk("bob")
    assert page.get("/desk/markets/", {"account": other.accounts["okx-sim"].pk}).status_code == 404
    assert Client().get("/desk/markets/", {"account": other.accounts["okx-sim"].pk}).status_code == 401
