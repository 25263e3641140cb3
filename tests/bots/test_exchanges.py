"""What exchanges list becomes markets, assets and pairs; a second time nothing changes."""

from __future__ import annotations

import pytest
from django.core.exceptions import PermissionDenied, ValidationError

from bots.models import Asset, Exchange, Market, TradingPair
from bots.services.bots import bot_start
from bots.services.exchanges import exchange_create, exchange_update, markets_sync
from tests.bots.world import D, market

pytestmark = [pytest.mark.django_db, pytest.mark.database]


@pytest.fixture
def exchange(db):
    return exchange_create(actor=None, code="gamma", name="Gamma", ccxt_id="okx", environment="testnet")


def listing(**changes):
    return [market("gamma", **changes), market("gamma", "ETH"), market("gamma", "BTC", "USDC")]


def test_first_sync_writes_markets_assets_and_pairs(exchange):
    assert markets_sync(exchange=exchange, markets=listing()) == (3, 0, 0, 0)
    assert set(Asset.objects.values_list("code", flat=True)) == {"BTC", "ETH", "USDT", "USDC"}
    assert {str(pair) for pair in TradingPair.objects.all()} == {"BTC/USDT", "ETH/USDT", "BTC/USDC"}


def test_engine_gets_back_what_was_listed(exchange):
    contract = market(
        "gamma", symbol="BTC/USDT:USDT", settle="USDT", kind="linear", contract_size=D("0.001"), maker_fee=D("-0.0001")
    )
    markets_sync(exchange=exchange, markets=[*listing(), contract])
    rows = {row.symbol: row.to_engine() for row in Market.objects.select_related("exchange")}
    assert rows == {item.symbol: item for item in [*listing(), contract]}


def test_second_sync_changes_nothing_and_keeps_the_rows(exchange, django_assert_max_num_queries):
    markets_sync(exchange=exchange, markets=listing())
    before = list(Market.objects.order_by("pk").values())
    with django_assert_max_num_queries(10):
        assert markets_sync(exchange=exchange, markets=listing()) == (0, 0, 0, 0)
    assert list(Market.objects.order_by("pk").values()) == before


def test_changes_are_taken_and_vanished_markets_deactivated(exchange):
    markets_sync(exchange=exchange, markets=listing())
    assert markets_sync(exchange=exchange, markets=listing(tick=D("0.1"))[:2]) == (0, 1, 1, 0)
    assert Market.objects.get(symbol="BTC/USDT").tick == D("0.1")
    assert not Market.objects.get(symbol="BTC/USDC").active
    assert markets_sync(exchange=exchange, markets=listing()) == (0, 2, 0, 0)
    assert Market.objects.get(symbol="BTC/USDC").active


def test_empty_answer_deactivates_nothing(exchange):
    markets_sync(exchange=exchange, markets=listing())
    assert markets_sync(exchange=exchange, markets=[]) == (0, 0, 0, 0)
    assert Market.objects.filter(active=True).count() == 3


@pytest.mark.parametrize(
    "changes",
    [
        {"tick": D(0)}, {"lot": D("-1")}, {"taker_fee": D("0.5")}, {"tick": D("NaN")}, {"min_notional": D("1e30")},
        {"kind": "odd"},
    ],
)  # fmt: skip
def test_absurd_market_is_left_out_and_the_rest_is_taken(exchange, changes):
    assert markets_sync(exchange=exchange, markets=listing(**changes)).refused == 1
    assert not Market.objects.filter(symbol="BTC/USDT").exists()
    assert Market.objects.count() == 2


def test_market_that_became_absurd_stops_trading(exchange):
    markets_sync(exchange=exchange, markets=listing())
    markets_sync(exchange=exchange, markets=listing(tick=D(0)))
    row = Market.objects.get(symbol="BTC/USDT")
    assert (row.active, row.tick) == (False, D("0.01"))


@pytest.mark.parametrize(
    ("values", "field"),
    [
        ({"code": "Bad Code"}, "code"),
        ({"code": ""}, "code"),
        ({"code": "x" * 33}, "code"),
        ({"environment": "space"}, "environment"),
        ({"environment": "simulated"}, "urls"),
        ({"urls": {"rest": "ftp://host"}}, "urls"),
        ({"ccxt_id": "a b"}, "ccxt_id"),
    ],
)
def test_bad_exchange_is_refused_by_field(db, values, field):
    good = {"code": "new", "name": "New", "ccxt_id": "okx", "environment": "live"}
    with pytest.raises(ValidationError) as caught:
        exchange_create(actor=None, **(good | values))
    assert list(caught.value.error_dict) == [field]
    assert not Exchange.objects.exists()


def test_users_may_not_change_exchanges(world):
    with pytest.raises(PermissionDenied):
        exchange_update(exchange=world.exchanges["alpha"], actor=world.anna, enabled=False)
    with pytest.raises(PermissionDenied):
        exchange_create(actor=world.anna, code="new", name="N", ccxt_id="okx", environment="live")


def test_change_wakes_the_engines_that_use_the_exchange(world, monkeypatch, django_capture_on_commit_callbacks):
    from bots.services import hints

    woken = []
    monkeypatch.setattr(hints, "_send", lambda owner_id, by_hand: woken.append(owner_id))
    bot_start(bot=world.bot(world.anna), actor=world.anna)
    world.bot(world.ben)
    with django_capture_on_commit_callbacks(execute=True):
        exchange_update(exchange=world.exchanges["alpha"], actor=world.operator, name="Alpha 2")
    assert woken == [world.anna.pk]
