"""What owners may want of their bots, and what is refused with a reason."""

from __future__ import annotations

import threading
from datetime import UTC, datetime, timedelta

import pytest
from django.contrib.admin.models import LogEntry
from django.core.exceptions import PermissionDenied, ValidationError
from django.db import connection, transaction
from django.utils import timezone

from bots.models import Bot, Command, ExchangeAccount, Market, Order, OwnerLease, Trade, TradingPair
from bots.selectors import engine_owners
from bots.services import hints
from bots.services.accounts import account_update
from bots.services.bots import bot_create, bot_delete, bot_observe, bot_start, bot_stop, bot_update
from bots.services.commands import command_create, command_finish, commands_pending
from bots.services.engine import engine_config
from bots.services.exchanges import exchange_update
from bots.times import to_ns
from risk.policy.breakers import BreakerEvent, Scope
from risk.policy.threshold import Day
from risk.services.breakers import breaker_event
from tests.bots.world import D

pytestmark = [pytest.mark.database]
database = pytest.mark.django_db


@pytest.fixture
def woken(monkeypatch):
    owners: list[int] = []
    monkeypatch.setattr(hints, "_send", lambda owner_id, by_hand: owners.append(owner_id))
    return owners


@database
def test_start_wants_it_tells_the_engine_and_is_audited(world, woken, django_capture_on_commit_callbacks):
    bot = world.bot(world.anna)
    with django_capture_on_commit_callbacks(execute=True):
        assert bot_start(bot=bot, actor=world.anna)
    bot.refresh_from_db()
    assert (bot.desired_state, bot.observed_state) == ("running", "stopped")
    [command] = commands_pending(owner_id=world.anna.pk)
    assert (command.kind, command.payload, command.requested_by) == ("bot_start", {"bot_id": bot.pk}, world.anna)
    assert LogEntry.objects.latest("id").change_message == "Started."
    assert woken == [world.anna.pk]


@database
def test_second_click_has_no_second_effect(world):
    bot = world.bot(world.anna)
    stale = Bot.objects.get(pk=bot.pk)
    assert bot_start(bot=bot, actor=world.anna)
    assert not bot_start(bot=stale, actor=world.anna)
    assert bot_stop(bot=stale, actor=world.anna)
    assert not bot_stop(bot=bot, actor=world.anna)
    assert list(Command.objects.order_by("id").values_list("kind", flat=True)) == ["bot_start", "bot_stop"]


@database
def test_hint_is_sent_only_if_the_change_is_kept(world, woken, django_capture_on_commit_callbacks):
    bot = world.bot(world.anna)
    with django_capture_on_commit_callbacks(execute=True), transaction.atomic():
        bot_start(bot=bot, actor=world.anna)
        transaction.set_rollback(True)
    assert woken == []
    assert Bot.objects.get(pk=bot.pk).desired_state == "stopped"


def _exchange(code, **values):
    return lambda world, bot: exchange_update(exchange=world.exchanges[code], actor=None, **values)


@database
@pytest.mark.parametrize(
    ("spoil", "message"),
    [
        (lambda world, bot: bot.accounts.clear(), "at least an account"),
        (lambda world, bot: bot.pairs.clear(), "at least a pair"),
        (lambda world, bot: ExchangeAccount.objects.update(enabled=False), "is disabled"),
        (_exchange("beta", enabled=False), "exchange Beta is disabled"),
        (lambda world, bot: Market.objects.filter(exchange__code="beta").update(active=False), "two markets"),
        (
            lambda world, bot: ExchangeAccount.objects.update(credentials=None, key_fingerprint=None),
            "no credentials, which live mode needs",
        ),
        (_exchange("alpha", environment="live"), "ARB_ALLOW_LIVE_ORDERS"),
    ],
)  # fmt: skip
def test_bot_that_could_not_trade_does_not_start_and_says_why(world, spoil, message):
    bot = world.bot(world.anna)
    spoil(world, bot)
    with pytest.raises(ValidationError, match=message):
        bot_start(bot=bot, actor=world.anna)
    assert Bot.objects.get(pk=bot.pk).desired_state == "stopped"
    assert not Command.objects.exists()


@database
def test_live_exchange_needs_three_yeses(world, settings):
    bot = world.bot(world.anna)
    exchange_update(exchange=world.exchanges["alpha"], actor=None, environment="live", urls={})
    settings.ARB_ALLOW_LIVE_ORDERS = True
    with pytest.raises(ValidationError, match="not armed for live"):
        bot_start(bot=bot, actor=world.anna)
    ExchangeAccount.objects.filter(exchange__code="alpha").update(armed_for_live=True)
    assert bot_start(bot=bot, actor=world.anna)
    assert engine_config(owner_id=world.anna.pk).live_allowed


@database
def test_paper_needs_no_credentials(world):
    for code in world.exchanges:
        world.account(world.anna, code, credentials=None)
    assert bot_start(bot=world.bot(world.anna, mode="paper"), actor=world.anna)


@database
def test_others_may_not_touch_a_bot_operators_may(world):
    bot = world.bot(world.anna)
    for service in (bot_start, bot_stop, bot_delete):
        with pytest.raises(PermissionDenied):
            service(bot=bot, actor=world.ben)
    with pytest.raises(PermissionDenied):
        bot_update(bot=bot, actor=world.ben, name="Mine now")
    assert bot_start(bot=bot, actor=world.operator)


@database
def test_accounts_are_the_owners_own_and_one_an_exchange(world):
    bens = world.account(world.ben)
    with pytest.raises(ValidationError, match="owner only"):
        bot_create(owner=world.anna, actor=world.anna, name="x", pairs=[], accounts=[bens])
    two = [world.account(world.anna, label=label) for label in ("One", "Two")]
    with pytest.raises(ValidationError, match="one account on Alpha"):
        bot_create(owner=world.anna, actor=world.anna, name="x", pairs=[], accounts=two)
    assert not Bot.objects.exists(), "a refused bot was saved"


@database
@pytest.mark.parametrize(
    ("values", "field"),
    [
        ({"min_net_edge_bps": "-1"}, "min_net_edge_bps"),
        ({"min_net_edge_bps": "NaN"}, "min_net_edge_bps"),
        ({"min_net_edge_bps": "50", "max_edge_bps": "40"}, "min_net_edge_bps"),
        ({"max_trade_notional": "0"}, "max_trade_notional"),
        ({"max_trade_notional": "1e400"}, "max_trade_notional"),
        ({"max_edge_bps": "20000"}, "max_edge_bps"),
        ({"max_book_age_ms": 0}, "max_book_age_ms"),
        ({"max_open_trades": 0}, "max_open_trades"),
        ({"order_timeout_ms": 10}, "order_timeout_ms"),
        ({"mode": "reckless"}, "mode"),
        ({"name": ""}, "name"),
        ({"name": "n" * 65}, "name"),
        ({"name": "evil\u202egnp"}, "name"),
        ({"name": "nul\x00"}, "name"),
    ],
)
def test_bad_parameters_are_refused_by_field_with_the_limit(world, values, field):
    bot = world.bot(world.anna)
    with pytest.raises(ValidationError) as caught:
        bot_update(bot=bot, actor=world.anna, **values)
    assert list(caught.value.error_dict) == [field]
    assert Bot.objects.get(pk=bot.pk).min_net_edge_bps == D(2)


@database
def test_range_error_names_limits_unit_and_what_was_given(world):
    with pytest.raises(ValidationError, match=r"Must be between 1 and 100000000 of the quote asset \(given 0.5\)"):
        world.bot(world.anna, max_trade_notional="0.5")


@database
def test_running_bot_cannot_be_changed_into_one_that_cannot_run(world):
    bot = world.bot(world.anna)
    bot_start(bot=bot, actor=world.anna)
    with pytest.raises(ValidationError, match="at least a pair"), transaction.atomic():
        bot_update(bot=bot, actor=world.anna, pairs=[])
    assert bot.pairs.count() == 1


@database
def test_bot_with_trades_is_kept(busy_world):
    bot = Bot.objects.get(owner=busy_world.anna)
    with pytest.raises(ValidationError, match="1 trades, which are kept"):
        bot_delete(bot=bot, actor=busy_world.anna)
    fresh = busy_world.bot(busy_world.anna, "Fresh")
    bot_delete(bot=fresh, actor=busy_world.anna)
    assert not Bot.objects.filter(name="Fresh").exists()


@database
def test_observation_is_written_when_it_is_new(world):
    bot = world.bot(world.anna)
    assert bot_observe(bot_id=bot.pk, state="blocked", reason="x" * 900)
    assert not bot_observe(bot_id=bot.pk, state="blocked", reason="x" * 900)
    assert bot_observe(bot_id=bot.pk, state="running")
    bot.refresh_from_db()
    assert (bot.observed_state, bot.observed_reason) == ("running", "")
    with pytest.raises(ValidationError, match="observed state"):
        bot_observe(bot_id=bot.pk, state="dancing")


@database
def test_same_idempotency_key_is_one_command(world):
    ask = {"owner_id": world.anna.pk, "actor": world.anna, "kind": "reload", "payload": {}, "idempotency_key": "k1"}
    assert command_create(**ask) == command_create(**ask)
    with pytest.raises(ValidationError, match="used for another request"):
        command_create(**(ask | {"owner_id": world.ben.pk}))
    [command] = commands_pending(owner_id=world.anna.pk)
    assert command_finish(command_id=command.pk, result="done")
    assert not command_finish(command_id=command.pk, failed=True)
    assert commands_pending(owner_id=world.anna.pk) == []


@database
def test_configuration_holds_what_runs_and_nothing_more(world):
    running, stopped = world.bot(world.anna), world.bot(world.anna, "Stopped")
    bens = world.bot(world.ben)
    for bot in (running, bens):
        bot_start(bot=bot, actor=bot.owner)

    config = engine_config(owner_id=world.anna.pk, token=3)

    assert [bot.bot_id for bot in config.bots] == [running.pk]
    assert stopped.pk not in [bot.bot_id for bot in config.bots]
    assert config.lease_token == 3
    assert len(config.id_prefix) == 4
    assert config.id_prefix == engine_config(owner_id=world.ben.pk).id_prefix
    [bot] = config.bots
    assert sorted(market.key for market in bot.markets) == ["alpha:BTC/USDT", "beta:BTC/USDT"]
    assert set(bot.accounts) == {"alpha", "beta"}
    assert {account.account_id for account in config.accounts} == set(bot.accounts.values())
    assert (bot.min_net_edge_bps, bot.max_trade_notional, bot.cooldown_ms) == (2.0, D(1000), 250.0)


@database
def test_broken_account_blocks_its_bots_only(world, settings):
    whole = world.bot(world.anna)
    broken_account = world.account(world.anna, label="Broken")
    broken = bot_create(
        owner=world.anna,
        actor=world.anna,
        name="Broken",
        mode="live",
        pairs=TradingPair.objects.filter(base="BTC"),
        accounts=[broken_account, ExchangeAccount.objects.get(owner=world.anna, exchange__code="beta")],
    )
    for bot in (whole, broken):
        bot_start(bot=bot, actor=world.anna)
    ExchangeAccount.objects.filter(pk=broken_account.pk).update(credentials="gAAAA-not-ours")

    config = engine_config(owner_id=world.anna.pk)

    assert [bot.bot_id for bot in config.bots] == [whole.pk]
    broken.refresh_from_db()
    assert broken.observed_state == "blocked"
    assert "cannot be decrypted" in broken.observed_reason


@database
def test_account_that_is_disabled_is_told_to_its_bot(world):
    bot = world.bot(world.anna)
    bot_start(bot=bot, actor=world.anna)
    account_update(account=bot.accounts.first(), actor=world.anna, enabled=False)
    assert engine_config(owner_id=world.anna.pk).bots == ()
    bot.refresh_from_db()
    assert bot.observed_reason == "Account Main is disabled."


@database
def test_accounts_with_unfinished_orders_are_watched_after_their_bot_stopped(world):
    from tests.bots.durable import trade_commit

    bot = world.bot(world.anna)
    token = world.lease(world.anna)
    trade = world.trade(bot, token)
    trade_commit(owner_id=world.anna.pk, token=token, trade=trade, intents=world.intents(bot, trade))
    ExchangeAccount.objects.update(enabled=False)

    config = engine_config(owner_id=world.anna.pk)

    assert config.bots == ()
    assert {account.account_id for account in config.accounts} == set(bot.accounts.values_list("pk", flat=True))
    assert {market.key for market in config.markets} == {"alpha:BTC/USDT", "beta:BTC/USDT"}


@database
def test_trade_not_at_its_end_is_taken_up_though_its_orders_are_and_its_bot_stopped(world):
    from tests.bots.durable import trade_commit

    bot = world.bot(world.anna)
    token = world.lease(world.anna)
    trade = world.trade(bot, token)
    trade_commit(owner_id=world.anna.pk, token=token, trade=trade, intents=world.intents(bot, trade))
    Order.objects.update(state="FILLED")
    OwnerLease.objects.all().delete()

    config = engine_config(owner_id=world.anna.pk)

    assert engine_owners() == [world.anna.pk]
    assert {market.key for market in config.markets} == {"alpha:BTC/USDT", "beta:BTC/USDT"}
    assert {account.account_id for account in config.accounts} == set(bot.accounts.values_list("pk", flat=True))


@database
def test_day_that_began_before_the_engine_started_counts_against_the_daily_loss(world):
    bot = world.bot(world.anna)
    now = timezone.now()
    midnight = now.replace(hour=0, minute=0, second=0, microsecond=0)
    for loss, closed, mode in [
        ("-3", midnight, "simulated"),
        ("-4.5", now, "simulated"),
        ("-100", midnight - timedelta(seconds=1), "simulated"),
        ("1000", now, "paper"),
    ]:
        world.closed_trade(bot, profit=loss, closed_at=closed, mode=mode)
    bot_start(bot=bot, actor=world.anna)

    [config] = engine_config(owner_id=world.anna.pk).bots

    assert config.realised_today == {"simulated": {"USDT": D("-7.5")}, "paper": {"USDT": D(1000)}}


@database
def test_the_owners_day_is_that_of_all_bots_and_remembers_how_high_it_was(world):
    one, stopped = world.bot(world.anna), world.bot(world.anna, name="stopped since")
    midnight = timezone.now().replace(hour=0, minute=0, second=0, microsecond=0)
    number = (midnight - datetime(1970, 1, 1, tzinfo=UTC)).days
    for bot, profit, seconds in [
        (one, "500", -1),
        (one, "100", 0),
        (stopped, "60.5", 299),  # of the same five minutes
        (stopped, "-40", 300),
        (one, "-1000", 600),
        (one, "30", 900),
    ]:
        world.closed_trade(bot, profit=profit, closed_at=midnight + timedelta(seconds=seconds))
    world.closed_trade(one, profit="-2", closed_at=midnight, mode="paper")
    world.closed_trade(world.bot(world.ben), profit="9999", closed_at=midnight)
    bot_start(bot=one, actor=world.anna)

    today = engine_config(owner_id=world.anna.pk, starting=True).today

    assert today == {
        "simulated": {"USDT": Day(number=number, realised=D("-849.5"), peak=D("160.5"))},
        "paper": {"USDT": Day(number=number, realised=D(-2), peak=D(0))},
    }


@database
def test_trade_exposed_since_the_bot_was_started_blocks_it_until_it_is_started_again(world):
    from tests.bots.durable import trade_commit

    bot = world.bot(world.anna)
    token = world.lease(world.anna)
    bot_start(bot=bot, actor=world.anna)
    trades = [world.trade(bot, token) for _ in range(3)]
    for trade in trades:
        trade_commit(owner_id=world.anna.pk, token=token, trade=trade, intents=world.intents(bot, trade))
    before, since, closed = (Trade.objects.filter(trade_id=trade.trade_id) for trade in trades)
    before.update(state="EXPOSED", reason="long ago", closed_at=bot.desired_at - timedelta(seconds=1))
    since.update(state="EXPOSED", reason="0.1 BTC bought and not sold", closed_at=timezone.now())
    closed.update(state="CLOSED", closed_at=timezone.now())

    [config] = engine_config(owner_id=world.anna.pk).bots
    assert config.exposed == {trades[1].trade_id: "0.1 BTC bought and not sold"}

    bot_stop(bot=bot, actor=world.anna)
    bot_start(bot=bot, actor=world.anna)
    [config] = engine_config(owner_id=world.anna.pk).bots
    assert config.exposed == {}


@database
def test_what_a_trade_left_exposed_counts_until_its_bot_is_started_again_though_it_was_stopped(world):
    from tests.bots.durable import trade_commit

    bot = world.bot(world.anna)
    token = world.lease(world.anna)
    bot_start(bot=bot, actor=world.anna)
    trade = world.trade(bot, token)
    intents = world.intents(bot, trade)
    trade_commit(owner_id=world.anna.pk, token=token, trade=trade, intents=intents)
    Order.objects.update(state="FILLED")
    Trade.objects.update(
        state="EXPOSED",
        reason="bought and not sold",
        residual_base=D("0.1"),
        closed_at=timezone.now(),
        mode="simulated",
    )

    [left] = engine_config(owner_id=world.anna.pk).left_exposed
    assert left.trade_id == trade.trade_id
    assert left.notional == D("0.1") * max(intent.price for intent in intents)
    assert (left.exchanges, left.paper) == (("alpha", "beta"), False)
    assert set(left.accounts) == {intent.account_id for intent in intents}

    Order.objects.filter(side="buy").update(state="DISPUTED", filled=0)
    [disputed] = engine_config(owner_id=world.anna.pk).left_exposed
    rest = next(intent.quantity for intent in intents if intent.side == "buy")
    assert disputed.notional == (D("0.1") + rest) * max(intent.price for intent in intents)

    bot_stop(bot=bot, actor=world.anna)
    config = engine_config(owner_id=world.anna.pk)
    assert config.bots == ()
    assert config.left_exposed == (disputed,)

    bot_start(bot=bot, actor=world.anna)
    assert engine_config(owner_id=world.anna.pk).left_exposed == ()
    bot_stop(bot=bot, actor=world.anna)
    assert engine_config(owner_id=world.anna.pk).left_exposed == ()


@database
def test_an_engine_that_starts_is_told_the_results_since_each_breaker_last_changed(world):
    bot = world.bot(world.anna)
    now = timezone.now()
    first, second = (
        world.closed_trade(bot, profit=profit, closed_at=now - timedelta(minutes=minutes))
        for profit, minutes in (("-3", 9), ("-4.5", 5))
    )
    paper = world.closed_trade(bot, profit="-1", closed_at=now - timedelta(minutes=2), mode="paper")
    world.closed_trade(world.bot(world.ben), profit="-7", closed_at=now)
    tripped = {"scope": Scope.PAIR_ON_EXCHANGE, "key": "alpha:BTC/USDT", "event": BreakerEvent.TRIP, "reason": "a test"}
    breaker_event(**tripped, now_ns=to_ns(now - timedelta(minutes=7)))

    found = engine_config(owner_id=world.anna.pk, starting=True).results

    assert [(one.trade_id, one.profit) for one in found] == [
        (first.trade_id, D(-3)), (second.trade_id, D("-4.5")), (paper.trade_id, D(-1)),
    ]  # fmt: skip
    key = (Scope.PAIR_ON_EXCHANGE, "alpha:BTC/USDT")
    others = {(Scope.BOT, str(bot.pk)), (Scope.PAIR_ON_EXCHANGE, "beta:BTC/USDT"), (Scope.PAIR, "BTC/USDT")}
    assert others <= set(found[0].keys)
    assert key not in found[0].keys, "it has tripped since"
    assert {key, *others} <= set(found[1].keys)
    assert found[2].keys == ((Scope.BOT, str(bot.pk)),)
    assert engine_config(owner_id=world.anna.pk).results == ()


@database
def test_deactivated_owners_bots_do_not_run(world):
    bot_start(bot=world.bot(world.anna), actor=world.anna)
    world.anna.is_active = False
    world.anna.save()
    assert engine_config(owner_id=world.anna.pk).bots == ()


@pytest.mark.django_db(transaction=True)
def test_two_tabs_that_start_at_once_make_one_command(world):
    bot = world.bot(world.anna)
    results: list[bool] = []
    barrier = threading.Barrier(2)

    def start() -> None:
        try:
            mine = Bot.objects.get(pk=bot.pk)
            barrier.wait()
            results.append(bot_start(bot=mine, actor=world.anna))
        finally:
            connection.close()

    threads = [threading.Thread(target=start) for _ in range(2)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(30)
    assert sorted(results) == [False, True]
    assert Command.objects.count() == 1
