"""Limits: the tightest wins, and none ever loosens what an owner has set."""

from __future__ import annotations

from decimal import Decimal

import pytest
from django.core.exceptions import PermissionDenied, ValidationError
from django.db import IntegrityError, transaction
from hypothesis import given
from hypothesis import strategies as st

from bots.models import TradingPair
from bots.services.bots import bot_start, bot_update
from bots.services.engine import engine_config
from risk.models import RiskLimit
from risk.policy.layers import Bound, LayerScope
from risk.policy.limits import ROUTE_RULES, RouteLimits
from risk.rules import RULES
from risk.selectors import (
    OWN_SETTING,
    LimitBounds,
    bots_running_under,
    limit_bounds,
    limits_apply,
    limits_binding,
    risk_revision,
)
from risk.services.limits import limit_create, limit_delete, limit_update
from trading.config import BotConfig

pytestmark = [pytest.mark.django_db, pytest.mark.database]

D = Decimal
CONFIG = BotConfig(bot_id=1, name="b", mode="paper", markets=(), accounts={})
OFF = {name for name in RULES if getattr(CONFIG, name) is None}  # parameters only a limit switches on


def bound(value, scope: str, subject: str = "") -> Bound:
    return Bound(value=D(value), scope=LayerScope(scope), subject=subject)


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

    annas = limit_bounds(owner_id=world.anna.pk, bot_id=bot.pk).everywhere
    assert {rule: (bound.value, bound.source) for rule, bound in annas.items()} == {
        "max_trade_notional": (D(300), "owner anna"),
        "min_net_edge_bps": (D(3), "owner anna"),
    }
    bens = limit_bounds(owner_id=world.ben.pk, bot_id=0).everywhere
    assert {rule: (bound.value, bound.source) for rule, bound in bens.items()} == {
        "max_trade_notional": (D(500), "everybody"),
        "min_net_edge_bps": (D(1), "everybody"),
    }


def test_exchanges_and_pairs_bind_the_routes_through_them(scene, django_assert_num_queries):
    world, bot = scene
    alpha, btc = world.exchanges["alpha"], TradingPair.objects.get(base="BTC", quote="USDT")
    eth = TradingPair.objects.get(base="ETH", quote="USDT")
    operator = world.operator
    limit_create(actor=operator, scope="exchange", rule="max_trade_notional", value=D(200), exchange_id=alpha.pk)
    limit_create(actor=operator, scope="pair", rule="max_exposure_asset", value=D(900), pair_id=btc.pk)
    limit_create(actor=operator, scope="pair", rule="max_exposure_asset", value=D(1), pair_id=eth.pk)
    limit_create(actor=operator, scope="global", rule="max_orders_per_minute", value=D(30))

    with django_assert_num_queries(1):
        bounds = limit_bounds(
            owner_id=world.anna.pk, bot_id=bot.pk, exchanges=["alpha", "beta"], pairs=["BTC/USDT", "BTC/EUR"]
        )
    assert {name: set(found) for name, found in bounds.exchanges.items()} == {"alpha": {"max_trade_notional"}}
    assert set(bounds.pairs) == {"BTC/USDT"}

    bot_start(bot=bot, actor=world.anna)
    [config] = engine_config(owner_id=world.anna.pk).bots
    assert config.exchange_limits == {"alpha": RouteLimits(source="exchange alpha", max_trade_notional=D(200))}
    assert config.pair_limits == {"BTC/USDT": RouteLimits(source="pair BTC/USDT", max_exposure_asset=D(900))}
    assert (config.max_trade_notional, config.max_orders_per_minute) == (D(1000), 30)
    assert config.limit_sources == {"max_orders_per_minute": "everybody"}


def test_the_page_says_what_binds_and_whose_it_is():
    bounds = LimitBounds(
        everywhere={"max_trade_notional": bound(500, "owner", "anna"), "max_edge_bps": bound(900, "global")},
        exchanges={"beta": {"max_trade_notional": bound(100, "exchange", "beta")}},
        pairs={"BTC/USDT": {"max_trade_notional": bound(600, "pair", "BTC/USDT")}},
    )
    own = {"max_trade_notional": D(1000), "max_edge_bps": D(200), "max_repair_loss": None}
    binding = [(row.rule.name, row.value, row.where, row.source) for row in limits_binding(bounds, own)]
    assert binding == [
        ("max_trade_notional", D(500), "", "owner anna"),
        ("max_trade_notional", D(100), "exchange beta", "exchange beta"),
        ("max_edge_bps", D(200), "", OWN_SETTING),
    ]


def test_open_trades_and_daily_loss_of_everybody_and_an_owner_are_over_all_bots_together(scene):
    world, bot = scene
    for scope, value, subject in (("global", 9, {}), ("owner", 4, {"owner_id": world.anna.pk})):
        for rule in ("max_open_trades", "max_daily_loss", "max_orders_per_minute"):
            limit_create(actor=world.operator, scope=scope, rule=rule, value=D(value), **subject)
    limit_create(actor=world.operator, scope="bot", rule="max_open_trades", value=D(2), bot_id=bot.pk)
    bot_update(bot=bot, actor=world.anna, max_open_trades=3)
    bot_start(bot=bot, actor=world.anna)
    [config] = engine_config(owner_id=world.anna.pk).bots
    assert (config.max_open_trades, config.max_open_trades_together) == (2, 4)
    assert (config.max_daily_loss, config.max_daily_loss_together) == (D(4), D(4))
    assert config.limit_sources["max_open_trades"] == f"bot {bot.name}"
    assert config.limit_sources["max_open_trades_together"] == "owner anna"
    assert config.limit_sources["max_daily_loss_together"] == "owner anna"


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
    bounds = LimitBounds(everywhere={name: bound(value, "global") for name, value in limits.items()})
    limited = limits_apply(CONFIG, bounds)
    for name, rule in RULES.items():
        before, after = getattr(CONFIG, name), getattr(limited, name)
        if name in OFF and name in limits:
            assert after == rule.native(limits[name])
            assert type(after) is type(rule.native(D(1)))
            assert limited.limit_sources[name] == "everybody"
            continue
        assert type(after) is type(before)
        assert (name in limited.limit_sources) == (after != before)
        if name not in limits:
            assert after == before
        elif rule.tighter == "lower":
            assert after <= before
            assert D(str(after)) <= limits[name]
        else:
            assert after >= before
            assert D(str(after)) >= limits[name]
    assert limits_apply(limited, bounds) == limited


def test_only_operators_set_limits(scene):
    world, _ = scene
    with pytest.raises(PermissionDenied):
        limit_create(actor=world.anna, scope="global", rule="max_trade_notional", value=D(1))
    limit = limit_create(actor=world.operator, scope="global", rule="max_trade_notional", value=D(1))
    with pytest.raises(PermissionDenied):
        limit_update(actor=world.anna, limit=limit, value=D(5), note="", seen_version=1)
    with pytest.raises(PermissionDenied):
        limit_delete(actor=world.anna, limit=limit, seen_version=1)


def test_change_over_anothers_head_is_refused(scene):
    world, _ = scene
    limit = limit_create(actor=world.operator, scope="global", rule="max_trade_notional", value=D(100))
    limit_update(actor=world.operator, limit=limit, value=D(200), note="", seen_version=1)
    with pytest.raises(ValidationError, match="it is 200"):
        limit_update(actor=world.operator, limit=limit, value=D(900), note="", seen_version=1)
    with pytest.raises(ValidationError, match="it is 200"):
        limit_delete(actor=world.operator, limit=limit, seen_version=1)
    assert RiskLimit.objects.get().value == 200
    limit_delete(actor=world.operator, limit=RiskLimit.objects.get(), seen_version=2)
    with pytest.raises(ValidationError, match="removed this limit"):
        limit_update(actor=world.operator, limit=limit, value=D(900), note="", seen_version=2)


@pytest.mark.parametrize(
    ("scope", "value"),
    [
        ("global", "0"), ("global", "1e12"), ("global", "1e400"), ("global", "-1"), ("global", "NaN"),
        ("global", "Infinity"), ("owner", "5"), ("bot", "5"), ("exchange", "5"), ("pair", "5"), ("planet", "5"),
    ],
)  # fmt: skip
def test_bad_limit_is_refused(scene, scope, value):
    world, _ = scene
    with pytest.raises(ValidationError):
        limit_create(actor=world.operator, scope=scope, rule="max_trade_notional", value=D(value))
    assert not RiskLimit.objects.exists()
    assert risk_revision() == 0


@pytest.mark.parametrize("rule", sorted(RULES))
def test_zero_is_taken_only_where_something_is_left_to_trade(scene, rule):
    world, _ = scene
    takes_zero = rule in {
        "max_unhedged", "min_net_edge_bps", "cooldown_ms", "price_tolerance_bps", "repair_tolerance_bps",
        "unwind_tolerance_bps", "max_repair_loss",
    }  # fmt: skip
    if takes_zero:
        assert limit_create(actor=world.operator, scope="global", rule=rule, value=D(0)).value == 0
        return
    with pytest.raises(ValidationError, match=r"\(given 0\)"):
        limit_create(actor=world.operator, scope="global", rule=rule, value=D(0))


def test_what_is_counted_is_whole(scene):
    world, _ = scene
    for rule in ("max_open_trades", "max_orders_per_minute"):
        with pytest.raises(ValidationError, match="whole number"):
            limit_create(actor=world.operator, scope="global", rule=rule, value=D("2.5"))


def test_an_exchange_has_limits_of_routes_only(scene):
    world, _ = scene
    for rule in RULES:
        subject = {"scope": "exchange", "exchange_id": world.exchanges["alpha"].pk}
        if rule in ROUTE_RULES:
            limit_create(actor=world.operator, rule=rule, value=RULES[rule].high, **subject)
        else:
            with pytest.raises(ValidationError, match="of a bot as a whole"):
                limit_create(actor=world.operator, rule=rule, value=RULES[rule].high, **subject)


# A minimum edge of 60 bps is there; who may not have a maximum of 50?
@pytest.mark.parametrize(
    ("lowest", "highest", "contradict"),
    [
        ("global", "global", True), ("global", "bot", True), ("exchange alpha", "global", True),
        ("owner anna", "owner anna", True), ("owner anna", "owner ben", False), ("owner anna", "bot", True),
        ("owner ben", "bot", False), ("bot", "owner anna", True), ("bot", "owner ben", False), ("bot", "bot", True),
        ("owner anna", "exchange alpha", True), ("exchange alpha", "exchange beta", True),
        ("exchange alpha", "pair", True), ("pair", "pair", True), ("pair", "other pair", False), ("bot", "pair", True),
    ],
)  # fmt: skip
def test_a_minimum_above_a_maximum_is_refused_where_both_could_bind(scene, lowest, highest, contradict):
    world, bot = scene
    pairs = {"pair": "BTC", "other pair": "ETH"}
    subjects = {
        "global": {"scope": "global"},
        "bot": {"scope": "bot", "bot_id": bot.pk},
        **{f"owner {user}": {"scope": "owner", "owner_id": getattr(world, user).pk} for user in ("anna", "ben")},
        **{f"exchange {code}": {"scope": "exchange", "exchange_id": row.pk} for code, row in world.exchanges.items()},
        **{
            name: {"scope": "pair", "pair_id": TradingPair.objects.get(base=base, quote="USDT").pk}
            for name, base in pairs.items()
        },
    }
    limit = limit_create(actor=world.operator, rule="min_net_edge_bps", value=D(60), **subjects[lowest])
    wanted = {"actor": world.operator, "rule": "max_edge_bps", "value": D(50), **subjects[highest]}
    if not contradict:
        other = limit_create(**wanted)
        limit_update(actor=world.operator, limit=limit, value=D(70), note="", seen_version=1)
        assert RiskLimit.objects.get(pk=other.pk).value == 50
        return
    with pytest.raises(ValidationError) as refused:
        limit_create(**wanted)
    [message] = refused.value.message_dict["value"]
    assert f"60 basis points for {limit.source} (given 50)" in message
    other = limit_create(**wanted | {"value": D(60)})
    with pytest.raises(ValidationError, match="at most the maximum edge of 60"):
        limit_update(actor=world.operator, limit=limit, value=D(61), note="", seen_version=1)
    assert {row.value for row in RiskLimit.objects.all()} == {60}
    limit_update(actor=world.operator, limit=other, value=D(80), note="", seen_version=1)
    limit_update(actor=world.operator, limit=limit, value=D(70), note="", seen_version=1)


def test_an_owners_own_setting_keeps_no_operator_from_tightening(scene):
    world, bot = scene
    assert bot.min_net_edge_bps == 2
    limit_create(actor=world.operator, scope="global", rule="max_edge_bps", value=D(1))


def test_running_bots_under_a_limit(scene):
    world, bot = scene
    world.bot(world.anna, name="Idle")
    bens = world.bot(world.ben)
    bot_start(bot=bot, actor=world.anna)
    bot_start(bot=bens, actor=world.ben)
    btc, eth = (TradingPair.objects.get(base=base, quote="USDT").pk for base in ("BTC", "ETH"))
    gamma = world.exchange("gamma").pk
    for subject, expected in (
        ({"scope": "global"}, ["Wide net (anna)", "Wide net (ben)"]),
        ({"scope": "owner", "owner_id": world.anna.pk}, ["Wide net (anna)"]),
        ({"scope": "bot", "bot_id": bens.pk}, ["Wide net (ben)"]),
        ({"scope": "exchange", "exchange_id": world.exchanges["alpha"].pk}, ["Wide net (anna)", "Wide net (ben)"]),
        ({"scope": "exchange", "exchange_id": gamma}, []),
        ({"scope": "pair", "pair_id": btc}, ["Wide net (anna)", "Wide net (ben)"]),
        ({"scope": "pair", "pair_id": eth}, []),
    ):
        assert bots_running_under(RiskLimit(rule="max_edge_bps", value=5, **subject)) == expected


def test_database_keeps_one_limit_of_a_rule_in_a_scope(db):
    RiskLimit.objects.create(rule="cooldown_ms", value=5)
    with pytest.raises(IntegrityError), transaction.atomic():
        RiskLimit.objects.create(rule="cooldown_ms", value=6)
    with pytest.raises(IntegrityError), transaction.atomic():
        RiskLimit.objects.create(rule="max_edge_bps", value=6, scope="owner")
    with pytest.raises(IntegrityError), transaction.atomic():
        RiskLimit.objects.create(rule="max_edge_bps", value=6, scope="exchange")
