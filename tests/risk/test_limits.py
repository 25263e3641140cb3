"""Limits: the tightest wins, and none ever loosens what an owner has set."""

from __future__ import annotations

from decimal import Decimal

import pytest
from django.core.exceptions import PermissionDenied, ValidationError
from django.db import IntegrityError, transaction
from hypothesis import given
from hypothesis import strategies as st

from bots.services.bots import bot_start
from bots.services.engine import engine_config
from risk.models import RiskLimit
from risk.rules import RULES
from risk.selectors import MONEY_RULES, limits_apply, resolved_limits
from risk.services.limits import limit_create, limit_delete, limit_update
from trading.config import BotConfig

pytestmark = [pytest.mark.django_db, pytest.mark.database]

D = Decimal
CONFIG = BotConfig(bot_id=1, name="b", mode="paper", markets=(), accounts={})
OFF = {name for name in RULES if getattr(CONFIG, name) is None}  # parameters only a limit switches on


@pytest.fixture
def scene(world):
    return world, world.bot(world.anna, max_trade_notional="1000", min_net_edge_bps="2")


def test_rules_are_parameters_of_a_bot(db):
    for rule in RULES.values():
        assert hasattr(CONFIG, rule.name)
        assert rule.low < rule.high


def test_tightest_of_all_scopes_wins_in_the_rules_own_direction(scene):
    world, bot = scene
    for scope, most, least in (("global", 500, 1), ("owner", 300, 3), ("bot", 400, 2)):
        subject = {
            "owner_id": world.anna.pk if scope == "owner" else None,
            "bot_id": bot.pk if scope == "bot" else None,
        }
        limit_create(actor=world.operator, scope=scope, rule="max_trade_notional", value=D(most), **subject)
        limit_create(actor=world.operator, scope=scope, rule="min_net_edge_bps", value=D(least), **subject)

    assert resolved_limits(owner_id=world.anna.pk, bot_id=bot.pk) == {
        "max_trade_notional": D(300),
        "min_net_edge_bps": D(3),
    }
    assert resolved_limits(owner_id=world.ben.pk, bot_id=0) == {"max_trade_notional": D(500), "min_net_edge_bps": D(1)}


def test_engine_is_told_the_limited_parameters(scene):
    world, bot = scene
    limit_create(actor=world.operator, scope="global", rule="max_trade_notional", value=D("250.5"))
    limit_create(actor=world.operator, scope="global", rule="max_open_trades", value=D(50))
    bot_start(bot=bot, actor=world.anna)
    [config] = engine_config(owner_id=world.anna.pk).bots
    assert config.max_trade_notional == D("250.5")
    assert config.max_open_trades == 1
    bot.refresh_from_db()
    assert bot.max_trade_notional == D(1000), "the owner's own figure stays"


@given(
    limits=st.dictionaries(
        st.sampled_from(sorted(RULES)), st.decimals(min_value=0, max_value=1000, places=3), max_size=len(RULES)
    )
)
def test_applied_limits_only_ever_tighten(limits):
    limited = limits_apply(CONFIG, limits)
    for name, rule in RULES.items():
        before, after = getattr(CONFIG, name), getattr(limited, name)
        if name in OFF and name in limits:
            assert D(str(after)) == limits[name]
            assert type(after) is (Decimal if name in MONEY_RULES else float)
            continue
        assert type(after) is type(before)
        if name not in limits:
            assert after == before
        elif rule.tighter == "lower":
            assert after <= before
            assert D(str(after)) <= limits[name]
        else:
            assert after >= before
            assert D(str(after)) >= limits[name]
    assert limits_apply(limited, limits) == limited


def test_only_operators_set_limits(scene):
    world, _ = scene
    with pytest.raises(PermissionDenied):
        limit_create(actor=world.anna, scope="global", rule="max_trade_notional", value=D(1))
    limit = limit_create(actor=world.operator, scope="global", rule="max_trade_notional", value=D(1))
    with pytest.raises(PermissionDenied):
        limit_update(actor=world.anna, limit=limit, value=D(5), note="", seen_version=1)
    with pytest.raises(PermissionDenied):
        limit_delete(actor=world.anna, limit=limit)


def test_change_over_anothers_head_is_refused(scene):
    world, _ = scene
    limit = limit_create(actor=world.operator, scope="global", rule="max_trade_notional", value=D(100))
    limit_update(actor=world.operator, limit=limit, value=D(200), note="", seen_version=1)
    with pytest.raises(ValidationError, match="it is 200"):
        limit_update(actor=world.operator, limit=limit, value=D(900), note="", seen_version=1)
    assert RiskLimit.objects.get().value == 200


@pytest.mark.parametrize(
    ("scope", "value"), [("global", "0"), ("global", "1e12"), ("global", "NaN"), ("owner", "5"), ("planet", "5")]
)
def test_bad_limit_is_refused(scene, scope, value):
    world, _ = scene
    with pytest.raises(ValidationError):
        limit_create(actor=world.operator, scope=scope, rule="max_trade_notional", value=D(value))
    assert not RiskLimit.objects.exists()


def test_database_keeps_one_limit_of_a_rule_in_a_scope(db):
    RiskLimit.objects.create(rule="cooldown_ms", value=5)
    with pytest.raises(IntegrityError), transaction.atomic():
        RiskLimit.objects.create(rule="cooldown_ms", value=6)
    with pytest.raises(IntegrityError), transaction.atomic():
        RiskLimit.objects.create(rule="max_edge_bps", value=6, scope="owner")
