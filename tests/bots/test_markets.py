"""Operators get an exchange's markets by a button; a worker asks the exchange and says how it went."""

from __future__ import annotations

from decimal import Decimal

import pytest
from django.core.exceptions import PermissionDenied
from django.urls import reverse

from bots.models import Exchange, Market
from bots.services import markets
from bots.tasks import markets_refresh
from tests.exchangesim.simulator import Simulator, shared_simulator  # noqa: F401 (a fixture)

pytestmark = [pytest.mark.django_db(transaction=True)]


@pytest.fixture
def asked(monkeypatch):
    """Carry out at once what the broker would bring to a worker."""
    done: list[int] = []

    def run(exchange_id: int) -> None:
        done.append(exchange_id)
        markets_refresh(exchange_id)

    monkeypatch.setattr(markets, "_enqueue", run)
    return done


@pytest.fixture
def operator(client, django_user_model):
    user = django_user_model.objects.create_superuser("operator", password="x")
    client.force_login(user)
    return user


def exchange_form(code: str, name: str, rest: str, ws: str) -> dict[str, str]:
    return {
        "code": f"{code}-sim", "name": name, "ccxt_id": code, "environment": "simulated",
        "urls": f'{{"rest": "{rest}", "ws": "{ws}"}}', "enabled": "on",
    }  # fmt: skip


@pytest.mark.parametrize("code", ["binance", "okx", "bybit"])
def test_new_exchange_has_its_markets_loaded(client, operator, asked, shared_simulator: Simulator, code: str):  # noqa: F811
    rest = shared_simulator.rest[code]
    form = exchange_form(code, code.title(), rest, rest.replace("http", "ws"))
    response = client.post(reverse("admin:bots_exchange_add"), form)
    assert response.status_code == 302, response.context["errors"]

    exchange = Exchange.objects.get(code=f"{code}-sim")
    assert asked == [exchange.pk]
    listed = Market.objects.filter(exchange=exchange, active=True)
    assert {"BTC/USDT", "ETH/USDT"} <= set(listed.values_list("symbol", flat=True))
    assert f"{listed.count()} markets: {listed.count()} added" in exchange.markets_note
    page = client.get(reverse("admin:bots_exchange_change", args=[exchange.pk])).content.decode()
    assert "Load markets" in page
    assert exchange.markets_note in page


def test_known_fees_outlive_a_reload_by_the_button(client, operator, asked, shared_simulator: Simulator):  # noqa: F811
    client.post(
        reverse("admin:bots_exchange_add"),
        exchange_form("binance", "Binance", shared_simulator.rest["binance"], shared_simulator.ws["binance"]),
    )
    exchange = Exchange.objects.get()
    Market.objects.filter(symbol="BTC/USDT").update(taker_fee=Decimal("0.00042"), tick=Decimal("7"))

    client.post(reverse("admin:bots_exchange_markets", args=[exchange.pk]))

    market = Market.objects.get(symbol="BTC/USDT")
    assert market.taker_fee == Decimal("0.00042")
    assert market.tick != 7
    exchange.refresh_from_db()
    assert "0 added, 1 changed" in exchange.markets_note


def test_exchange_that_is_away_says_so_and_changes_nothing(client, operator, asked):
    client.post(
        reverse("admin:bots_exchange_add"),
        exchange_form("okx", "OKX", "http://127.0.0.1:9", "ws://127.0.0.1:9"),
    )
    exchange = Exchange.objects.get()
    assert exchange.markets_note.startswith("exchange okx-sim: its markets can't be loaded")
    assert not Market.objects.exists()


def test_loading_markets_is_for_operators_and_by_post_only(client, world, asked):
    client.force_login(world.operator)
    exchange = world.exchange("gamma")
    assert client.get(reverse("admin:bots_exchange_markets", args=[exchange.pk])).status_code == 405
    with pytest.raises(PermissionDenied):
        markets.markets_request(exchange=exchange, actor=world.anna)
    assert asked == []
