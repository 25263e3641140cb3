"""Allowed pairs: a list forbids what is not on it, lists intersect, and the last pair is not removed unawares."""

from __future__ import annotations

from decimal import Decimal

import pytest
from django.core.exceptions import PermissionDenied, ValidationError
from django.db import IntegrityError, transaction
from django.db.models import ProtectedError

from bots.models import Asset, TradingPair
from bots.services.bots import bot_start
from bots.services.engine import engine_config
from risk.models import AllowedPair
from risk.selectors import AllowedPairs, is_last_pair, pairs_allowed
from risk.services.pairs import pair_allow, pair_disallow

pytestmark = [pytest.mark.django_db, pytest.mark.database]

D = Decimal


@pytest.fixture
def scene(world):
    Asset.objects.create(code="SOL")
    TradingPair.objects.create(base_id="SOL", quote_id="USDT")
    return world, world.bot(world.anna)


def allow(world, base, scope="global", **subject):
    pair = TradingPair.objects.get(base=base, quote="USDT")
    return pair_allow(actor=world.operator, scope=scope, pair_id=pair.pk, **subject)


def test_without_a_list_every_pair_is_allowed(scene):
    world, bot = scene
    allow(world, "ETH", "owner", owner_id=world.ben.pk)
    assert pairs_allowed(owner_id=world.anna.pk, bot_id=bot.pk) is None


def test_lists_intersect(scene, django_assert_num_queries):
    world, bot = scene
    allow(world, "BTC")
    allow(world, "ETH")
    allow(world, "ETH", "owner", owner_id=world.anna.pk)
    allow(world, "SOL", "owner", owner_id=world.anna.pk)
    with django_assert_num_queries(1):
        annas = pairs_allowed(owner_id=world.anna.pk, bot_id=bot.pk)
    assert annas == AllowedPairs(frozenset({"ETH/USDT"}), "everybody, owner anna")
    assert pairs_allowed(owner_id=world.ben.pk, bot_id=0).pairs == {"BTC/USDT", "ETH/USDT"}

    allow(world, "BTC", "bot", bot_id=bot.pk)
    nothing = pairs_allowed(owner_id=world.anna.pk, bot_id=bot.pk)
    assert nothing.pairs == frozenset(), "lists that share no pair allow none, not all"


def test_the_engine_is_told(scene):
    world, bot = scene
    bot_start(bot=bot, actor=world.anna)
    assert engine_config(owner_id=world.anna.pk).bots[0].allowed_pairs is None
    allow(world, "ETH", "bot", bot_id=bot.pk)
    [config] = engine_config(owner_id=world.anna.pk).bots
    assert config.allowed_pairs == {"ETH/USDT"}
    assert config.limit_sources == {"allowed_pairs": "bot Wide net"}


def test_the_last_pair_is_not_removed_unawares(scene):
    world, _ = scene
    btc, eth = allow(world, "BTC"), allow(world, "ETH")
    assert not is_last_pair(btc)
    pair_disallow(actor=world.operator, allowed=eth, last_seen=False)
    assert is_last_pair(btc)
    with pytest.raises(ValidationError, match="may trade every pair"):
        pair_disallow(actor=world.operator, allowed=btc, last_seen=False)
    with pytest.raises(ValidationError, match="removed this pair meanwhile"):
        pair_disallow(actor=world.operator, allowed=eth, last_seen=False)
    assert AllowedPair.objects.get() == btc
    pair_disallow(actor=world.operator, allowed=btc, last_seen=True)
    assert not AllowedPair.objects.exists()


def test_only_operators_change_lists(scene):
    world, bot = scene
    pair = TradingPair.objects.first()
    with pytest.raises(PermissionDenied):
        pair_allow(actor=world.anna, scope="bot", bot_id=bot.pk, pair_id=pair.pk)
    allowed = allow(world, "BTC")
    with pytest.raises(PermissionDenied):
        pair_disallow(actor=world.anna, allowed=allowed, last_seen=True)


@pytest.mark.parametrize("subject", [{"scope": "owner"}, {"scope": "bot"}, {"scope": "planet"}, {"pair_id": 10**6}])
def test_bad_rows_are_refused(scene, subject):
    world, _ = scene
    values = {"scope": "global", "pair_id": TradingPair.objects.first().pk} | subject
    with pytest.raises(ValidationError):
        pair_allow(actor=world.operator, **values)
    assert not AllowedPair.objects.exists()


def test_a_pair_is_on_a_list_once_and_stays_while_it_is(scene):
    world, _ = scene
    btc = allow(world, "BTC")
    with pytest.raises(ValidationError, match="allowed for everybody already"):
        allow(world, "BTC")
    with pytest.raises(IntegrityError), transaction.atomic():
        AllowedPair.objects.create(pair=btc.pair)
    with pytest.raises(ProtectedError):
        btc.pair.delete()
