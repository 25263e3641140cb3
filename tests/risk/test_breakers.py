"""Circuit breakers in the database: one state for every process, a complete history, and nothing half saved."""

from __future__ import annotations

import threading
from datetime import timedelta
from decimal import Decimal
from functools import partial
from typing import Any

import pytest
from django.contrib.admin.models import LogEntry
from django.contrib.auth.models import Group
from django.core.exceptions import PermissionDenied, ValidationError
from django.db import IntegrityError, connection, transaction
from django.utils import timezone
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from bots.services.roles import OPERATORS
from risk.models import BreakerEvent, BreakerSettings, CircuitBreaker
from risk.policy.breakers import SECOND_NS, Breaker, BreakerRules, BreakerState, Scope, after
from risk.policy.breakers import BreakerEvent as E
from risk.policy.gate import Breakers, Leg, keys_of
from risk.policy.rulebook import DEFAULTS
from risk.selectors import breaker_rules, breaker_settings, breakers_tripped
from risk.services.breaker_operations import (
    breaker_extend,
    breaker_open,
    breaker_reset,
    breaker_trip,
    settings_ensure,
    settings_update,
)
from risk.services.breakers import breaker_event, breaker_events_prune
from risk.times import to_ns

probe_claim = partial(breaker_event, event=E.PROBE_CLAIMED)

pytestmark = [pytest.mark.django_db, pytest.mark.database]

S = BreakerState
D = Decimal
NOW = 1_796_000_000 * SECOND_NS
RULES = BreakerRules()
BINANCE: dict[str, Any] = {"scope": Scope.EXCHANGE, "key": "binance"}


def trip(now_ns: int = NOW, **changes: Any) -> Breaker:
    values = {"event": E.TRIP, "reason": "3 trades lost.", "trigger": "consecutive_losses", "now_ns": now_ns}
    return breaker_event(**(BINANCE | values | changes))


def send(event: E, now_ns: int = NOW, **changes: Any) -> Breaker:
    return breaker_event(**(BINANCE | {"event": event, "now_ns": now_ns} | changes))


def steps(**of: Any) -> list[tuple[str, str, str]]:
    return list(BreakerEvent.objects.filter(**of).order_by("id").values_list("event", "from_state", "to_state"))


def row(**of: Any) -> CircuitBreaker:
    return CircuitBreaker.objects.get(**of)


# --- what the engine tells ------------------------------------------------------------------------------------------


def test_a_trip_makes_the_row_and_its_history() -> None:
    breaker = trip(figures={"losses": 3, "age": float("nan"), "huge": 10**400, "loss": "1.50"}, event_id="t1:loss")
    assert (breaker.state, breaker.trips, breaker.version) == (S.OPEN, 1, 1)
    event = BreakerEvent.objects.get()
    assert (event.event, event.from_state, event.to_state, event.version) == ("trip", "closed", "open", 1)
    assert (event.until_ns, event.actor, event.reason) == (breaker.until_ns, None, "3 trades lost.")
    assert event.figures == {"losses": 3, "age": "nan", "huge": str(10**400)[:64], "loss": "1.50"}


def test_what_changes_nothing_leaves_no_trace() -> None:
    assert send(E.CLEAN) == Breaker(**BINANCE)
    assert not CircuitBreaker.objects.exists()
    opened = trip()
    assert send(E.COOLED) == send(E.CLEAN) == send(E.PROBE_CLAIMED, holder="t1") == opened
    assert BreakerEvent.objects.count() == 1


def test_an_event_told_twice_is_taken_once_by_each_breaker() -> None:
    opened = trip(event_id="trade 7 ended")
    again = trip(NOW + 5 * SECOND_NS, event_id="trade 7 ended")
    assert again == opened
    other = trip(scope=Scope.PAIR, key="BTC/USDT", event_id="trade 7 ended")
    assert other.state is S.OPEN
    assert BreakerEvent.objects.count() == 2
    late = trip(NOW + 5 * SECOND_NS, event_id="trade 8 ended")
    assert late.until_ns == NOW + 305 * SECOND_NS


def test_the_whole_way_back_is_durable_at_every_point() -> None:
    """After each event everything is read anew, as after a restart, and equals what the policy alone would say."""
    now = NOW + 400 * SECOND_NS
    way: list[tuple[E, int, dict[str, Any]]] = [
        (E.TRIP, NOW, {"reason": "Lost.", "trigger": "window_loss"}),
        (E.COOLED, now, {}),
        (E.PROBE_CLAIMED, now, {"holder": "t1"}),
        (E.PROBE_LAPSED, now, {"holder": "t1"}),
        (E.PROBE_CLAIMED, now, {"holder": "t2"}),
        (E.CLEAN, now, {"holder": "t2"}),
        *[(E.CLEAN, now, {})] * 4,
        (E.LOSS, now, {}),
        *[(E.CLEAN, now, {})] * 9,
    ]
    wanted = Breaker(**BINANCE)
    states = []
    for event, at_ns, more in way:
        wanted = after(wanted, event, RULES, at_ns, **more)
        assert send(event, at_ns, **more) == wanted
        assert row().to_policy() == wanted
        assert breakers_tripped() == ([] if wanted.state is S.CLOSED else [wanted])
        states.append((wanted.state.value, wanted.step))
    assert states[-1] == ("closed", 0)
    assert ("ramping", 1) in states
    versions = list(BreakerEvent.objects.order_by("id").values_list("version", flat=True))
    assert versions == list(range(1, len(way) + 1)), "the history has every step"


@settings(max_examples=15, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    st.lists(
        st.tuples(st.sampled_from(list(E)), st.integers(0, 400), st.sampled_from(["", "anna", "ben"])), max_size=25
    )
)
def test_what_is_stored_is_what_the_policy_says(events: list[tuple[E, int, str]]) -> None:
    with transaction.atomic():
        wanted, now = Breaker(**BINANCE), NOW
        for event, seconds, holder in events:
            now += seconds * SECOND_NS
            more = {"holder": holder, "seconds": 77 if event is E.EXTEND else None, "reason": "Why."}
            wanted = after(wanted, event, RULES, now, **more)
            assert send(event, now, **more) == wanted
        assert breakers_tripped() == ([] if wanted.state is S.CLOSED else [wanted])
        assert BreakerEvent.objects.count() == wanted.version
        transaction.set_rollback(True)


def test_of_two_who_want_the_probe_the_second_is_told_who_has_it() -> None:
    trip()
    later = NOW + 301 * SECOND_NS
    assert probe_claim(**BINANCE, holder="t1", now_ns=later).holder == "t1"
    assert probe_claim(**BINANCE, holder="t2", now_ns=later).holder == "t1"
    assert probe_claim(**BINANCE, holder="t2", now_ns=later + 61 * SECOND_NS).holder == "t2"


def test_owners_are_kept_with_what_is_theirs(world: Any) -> None:
    bot = world.bot(world.anna)
    trip(scope=Scope.BOT, key=str(bot.pk))
    trip(scope=Scope.OWNER, key=str(world.ben.pk), owner_id=world.ben.pk)
    trip(owner_id=world.ben.pk)
    assert row(scope="bot").owner == world.anna
    assert row(scope="owner").owner == world.ben
    assert row(scope="exchange").owner is None, "an exchange is everybody's"


@pytest.mark.parametrize(
    ("bad", "text"),
    [
        ({"key": ""}, "key: must be the exchange's"),
        ({"scope": Scope.GLOBAL}, "key: must be empty"),
        ({"key": "x" * 129}, "at most 128"),
        ({"key": "a\x00b"}, "plain characters"),
        ({"holder": "x" * 65}, r"holder: at most 64 characters \(given 65\)"),
        ({"event_id": "x" * 129}, "event_id: at most 128"),
        ({"seconds": float("nan")}, r"seconds: must be between 1 and 604800 \(given nan\)"),
        ({"seconds": 315_360_000}, r"given 315360000\)"),
    ],
)
def test_what_cannot_be_is_refused_and_nothing_is_saved(bad: dict[str, Any], text: str) -> None:
    with pytest.raises(ValueError, match=text):
        trip(**bad)
    assert not CircuitBreaker.objects.exists()


def test_a_breaker_of_a_bot_that_is_not_there_is_refused() -> None:
    for key in ("99", "x", "9" * 30, "-1", "٣"):
        with pytest.raises(ValidationError, match="There is no bot with the id"):
            trip(scope=Scope.BOT, key=key)
    assert not CircuitBreaker.objects.exists()


def test_a_register_fed_from_the_database_refuses_the_trade() -> None:
    trip()
    known = Breakers()
    known.sync(breakers_tripped(), known.mark())
    keys = keys_of(owner_id=1, bot_id=2, legs=[Leg(3, "binance", "BTC/USDT")])
    gate = known.gate(keys, breaker_rules(), "t1", NOW)
    assert (gate.allowed, gate.until) == (False, NOW + 300 * SECOND_NS)


# --- the database itself --------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "bad",
    [
        {"scope": "planet"}, {"state": "ajar"}, {"scope": "global"}, {"key": ""}, {"state": "open"}, {"until_ns": 5},
        {"state": "probing", "until_ns": 5}, {"holder": "t1"}, {"step": 1}, {"scope": "bot", "key": "4"},
    ],
    ids=str,
)  # fmt: skip
def test_the_database_keeps_states_that_can_be(bad: dict[str, Any]) -> None:
    with pytest.raises(IntegrityError), transaction.atomic():
        CircuitBreaker.objects.create(**({"scope": "exchange", "key": "binance"} | bad))


def test_there_is_one_row_of_a_scope_and_key() -> None:
    trip()
    with pytest.raises(IntegrityError), transaction.atomic():
        CircuitBreaker.objects.create(scope="exchange", key="binance")


def test_history_is_never_changed() -> None:
    trip()
    event = BreakerEvent.objects.get()
    event.reason = "Something else."
    with pytest.raises(TypeError, match="append-only"):
        event.save()


# --- several at once ------------------------------------------------------------------------------------------------


def at_once(*works: Any) -> list[Any]:
    """Run each in a thread with a connection of its own, all from the same moment on, and return their results."""
    barrier = threading.Barrier(len(works))
    results: list[Any] = [None] * len(works)

    def run(number: int, work: Any) -> None:
        try:
            barrier.wait(20)
            results[number] = work()
        except BaseException as problem:
            results[number] = problem
        finally:
            connection.close()

    threads = [threading.Thread(target=run, args=pair) for pair in enumerate(works)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(60)
    return results


@pytest.mark.django_db(transaction=True)
def test_of_two_processes_that_claim_a_probe_at_once_one_wins() -> None:
    later = NOW
    trip()
    for _ in range(5):
        later += 1000 * SECOND_NS
        claims = [partial(probe_claim, **BINANCE, holder=name, now_ns=later) for name in ("a", "b")]
        seen = at_once(*claims)
        assert seen[0] == seen[1] == row().to_policy()
        assert seen[0].holder in {"a", "b"}
    assert len(steps(event="probe_claimed")) == 5


@pytest.mark.django_db(transaction=True)
def test_trips_at_once_make_one_row_and_a_complete_history() -> None:
    seen = at_once(*[partial(trip, NOW + extra, event_id=f"t{extra}") for extra in range(4)])
    stored = row().to_policy()
    # One that comes behind a later one changes nothing, which is no fault.
    assert {breaker.state for breaker in seen} == {S.OPEN}
    assert stored.trips == 1
    assert stored.until_ns == NOW + 3 + 300 * SECOND_NS
    versions = list(BreakerEvent.objects.order_by("version").values_list("version", flat=True))
    assert versions == list(range(1, stored.version + 1))


@pytest.mark.django_db(transaction=True)
def test_one_event_told_by_two_processes_at_once_is_taken_once() -> None:
    seen = at_once(*[partial(trip, NOW + extra, event_id="trade 7 ended") for extra in (0, SECOND_NS)])
    assert seen[0] == seen[1]
    assert BreakerEvent.objects.count() == 1


@pytest.mark.django_db(transaction=True)
def test_of_two_operators_at_once_the_second_is_told(world: Any) -> None:
    trip(to_ns(timezone.now()))
    breaker = row()
    both = at_once(
        lambda: breaker_reset(actor=world.operator, breaker=breaker, reason="Fine again.", seen_version=1),
        lambda: breaker_extend(actor=world.operator, breaker=breaker, reason="Not yet.", seconds=600, seen_version=1),
    )
    refused = [one for one in both if isinstance(one, ValidationError)]
    assert len(refused) == 1, both
    assert "This changed meanwhile (version 2, you saw 1). The circuit breaker of" in refused[0].messages[0]
    assert row().version == 2
    assert BreakerEvent.objects.count() == 2


# --- operators ------------------------------------------------------------------------------------------------------


def audited() -> list[str]:
    return list(LogEntry.objects.order_by("id").values_list("change_message", flat=True))


def test_operators_trip_extend_and_reset_with_a_reason(world: Any) -> None:
    opened = breaker_open(actor=world.operator, scope="exchange", key="alpha", reason=" Odd  prices. ", seconds=60)
    assert (opened.state, opened.reason, opened.trigger, opened.trips) == (S.OPEN, "Odd prices.", "operator", 0)
    longer = breaker_extend(actor=world.operator, breaker=row(), reason="Still odd.", seconds=D(60), seen_version=1)
    assert longer.until_ns == (opened.until_ns or 0) + 60 * SECOND_NS
    closed = breaker_reset(actor=world.operator, breaker=row(), reason="Fine again.", seen_version=2)
    assert (closed.state, closed.version) == (S.CLOSED, 3)
    again = breaker_trip(actor=world.operator, breaker=row(), reason="Odd again.", seen_version=3)
    assert again.until_ns is not None
    history = BreakerEvent.objects.order_by("id")
    assert [(one.event, one.reason, one.actor.username) for one in history] == [
        ("operator_trip", "Odd prices.", "operator"),
        ("extend", "Still odd.", "operator"),
        ("reset", "Fine again.", "operator"),
        ("operator_trip", "Odd again.", "operator"),
    ]
    assert [message.partition(".")[0] for message in audited()] == ["Tripped", "Extended", "Reset", "Tripped"]
    assert "Reason: Still odd." in audited()[1]


def test_only_operators_may(world: Any) -> None:
    trip()
    breaker = row()
    for service, more in (
        (breaker_trip, {"breaker": breaker, "seen_version": 1}),
        (breaker_reset, {"breaker": breaker, "seen_version": 1}),
        (breaker_extend, {"breaker": breaker, "seconds": 60, "seen_version": 1}),
        (breaker_open, {"scope": "exchange", "key": "alpha"}),
    ):
        with pytest.raises(PermissionDenied):
            service(actor=world.anna, reason="I want to.", **more)
    with pytest.raises(PermissionDenied):
        settings_update(actor=world.anna, scope="bot", values={}, seen_version=1)
    assert (row().version, audited()) == (1, [])
    world.anna.groups.add(Group.objects.get(name=OPERATORS))
    operator = type(world.anna).objects.get(pk=world.anna.pk)
    assert breaker_reset(actor=operator, breaker=breaker, reason="Fine.", seen_version=1).state is S.CLOSED


@pytest.mark.parametrize("reason", ["", "   ", "x" * 201, "tab\x07bell"])
def test_a_reason_is_asked_for(world: Any, reason: str) -> None:
    trip()
    with pytest.raises(ValidationError) as refused:
        breaker_reset(actor=world.operator, breaker=row(), reason=reason, seen_version=1)
    assert list(refused.value.error_dict) == ["reason"]
    assert (row().version, audited()) == (1, [])


@pytest.mark.parametrize(
    "seconds", [0, -5, D("NaN"), D("sNaN"), D("Infinity"), D("1e400"), 315_360_000, float("nan"), D("0.5"), None]
)
def test_a_cool_down_that_cannot_be_is_refused_by_field(world: Any, seconds: Any) -> None:
    trip(to_ns(timezone.now()))
    with pytest.raises(ValidationError) as refused:
        breaker_extend(actor=world.operator, breaker=row(), reason="Longer.", seconds=seconds, seen_version=1)
    assert list(refused.value.error_dict) == ["seconds"]
    assert "between 1 and 604800 seconds" in refused.value.messages[0]
    assert (row().version, audited()) == (1, [])


def test_extending_beyond_seven_days_is_refused_by_field(world: Any) -> None:
    trip(to_ns(timezone.now()))
    with pytest.raises(ValidationError) as refused:
        breaker_extend(actor=world.operator, breaker=row(), reason="Long.", seconds=604_800, seen_version=1)
    assert "at most 604800 s are allowed (given 604800)" in refused.value.message_dict["seconds"][0]


def test_what_an_operator_asks_in_vain_is_said(world: Any) -> None:
    opened = trip(to_ns(timezone.now()))
    with pytest.raises(ValidationError, match=r"is open until .* longer than asked for: nothing changed"):
        breaker_trip(actor=world.operator, breaker=row(), reason="Stop.", seconds=10, seen_version=1)
    assert row().to_policy() == opened
    breaker_reset(actor=world.operator, breaker=row(), reason="Fine.", seen_version=1)
    with pytest.raises(ValidationError, match=r"is closed\. Then reset changes nothing"):
        breaker_reset(actor=world.operator, breaker=row(), reason="Fine.", seen_version=2)


@pytest.mark.parametrize(
    ("scope", "key", "field"),
    [
        ("planet", "", "scope"), ("global", "x", "key"), ("exchange", "", "key"), ("exchange", "gamma", "key"),
        ("pair", "BTCUSDT", "key"), ("pair", "BTC/EUR", "key"), ("pair_on_exchange", "alpha:BTC/EUR", "key"),
        ("pair_on_exchange", "gamma:BTC/USDT", "key"), ("bot", "999", "key"), ("account", "1.5", "key"),
        ("owner", "anna", "key"),
    ],
)  # fmt: skip
def test_only_what_is_there_can_be_tripped(world: Any, scope: str, key: str, field: str) -> None:
    with pytest.raises(ValidationError) as refused:
        breaker_open(actor=world.operator, scope=scope, key=key, reason="Stop.")
    assert list(refused.value.error_dict) == [field]
    assert not CircuitBreaker.objects.exists()


def test_each_scope_can_be_tripped_by_hand(world: Any) -> None:
    bot = world.bot(world.anna)
    account = bot.accounts.first()
    for scope, key in (
        ("global", ""), ("owner", str(world.anna.pk)), ("bot", f"0{bot.pk}"), ("account", str(account.pk)),
        ("exchange", "alpha"), ("pair", "BTC/USDT"), ("pair_on_exchange", " alpha:BTC/USDT "),
    ):  # fmt: skip
        assert breaker_open(actor=world.operator, scope=scope, key=key, reason="Stop.").state is S.OPEN
    assert row(scope="bot").key == str(bot.pk), "as the engine names it"
    assert [one.scope for one in breakers_tripped()] == list(Scope)


# --- settings -------------------------------------------------------------------------------------------------------


def test_without_settings_the_defaults_hold_and_the_rows_say_the_same() -> None:
    assert breaker_settings() == DEFAULTS
    settings_ensure()
    settings_ensure()
    assert BreakerSettings.objects.count() == len(Scope)
    assert breaker_settings() == DEFAULTS


def test_settings_are_changed_and_audited(world: Any) -> None:
    values = {"cooldown_seconds": D("90.5"), "steps": "10 100", "window_loss": D(40), "error_rate": None}
    changed = settings_update(actor=world.operator, scope="exchange", values=values, seen_version=1)
    assert changed.version == 2
    rules = breaker_settings()[Scope.EXCHANGE]
    assert (rules.breaker.cooldown_seconds, rules.breaker.steps) == (90.5, (0.1, 1.0))
    assert (rules.triggers.window_loss, rules.triggers.error_rate) == (D(40), None)
    assert audited()[-1] == (
        "Changed cooldown_seconds from 300 to 90.5, error_rate from 0.5 to off, steps from 25 50 100 to 10 100, "
        "window_loss from off to 40 (version 2)."
    )
    assert trip().until_ns == NOW + round(90.5 * SECOND_NS)
    same = settings_update(actor=world.operator, scope="exchange", values=values, seen_version=2)
    assert same.version == 2


@pytest.mark.parametrize(
    ("values", "field"),
    [
        ({"cooldown_seconds": D("NaN")}, "cooldown_seconds"), ({"cooldown_seconds": D("1e400")}, "cooldown_seconds"),
        ({"cooldown_seconds": D(-1)}, "cooldown_seconds"), ({"cooldown_seconds": D(315_360_000)}, "cooldown_seconds"),
        ({"max_cooldown_seconds": D(299)}, "max_cooldown_seconds"), ({"cooldown_growth": D("0.5")}, "cooldown_growth"),
        ({"steps": "50 25 100"}, "steps"), ({"steps": "1,5 100"}, "steps"), ({"steps": "NaN"}, "steps"),
        ({"steps": ""}, "steps"), ({"error_rate": D(2)}, "error_rate"), ({"floor": D(0)}, "floor"),
        ({"floor": D(10), "ceiling": D(9)}, "ceiling"), ({"window_loss": D(-5)}, "window_loss"),
        ({"consecutive_losses": 0}, "consecutive_losses"), ({"latency_ms": D("Infinity")}, "latency_ms"),
        ({"cooldown_seconds": None}, "cooldown_seconds"),
    ],
    ids=str,
)  # fmt: skip
def test_settings_that_cannot_be_are_refused_by_field(world: Any, values: dict[str, Any], field: str) -> None:
    with pytest.raises(ValidationError) as refused:
        settings_update(actor=world.operator, scope="exchange", values=values, seen_version=1)
    assert list(refused.value.error_dict) == [field]
    assert breaker_settings() == DEFAULTS
    assert audited() == []


def test_settings_over_anothers_head_are_refused(world: Any) -> None:
    settings_update(actor=world.operator, scope="bot", values={"clean_per_step": 5}, seen_version=1)
    with pytest.raises(ValidationError, match=r"they are at version 2, you saw 1"):
        settings_update(actor=world.operator, scope="bot", values={"clean_per_step": 9}, seen_version=1)
    assert breaker_rules()[Scope.BOT].clean_per_step == 5


def test_the_database_keeps_settings_that_can_be(db: None) -> None:
    settings_ensure()
    for bad in (
        {"cooldown_seconds": 0}, {"max_cooldown_seconds": 5}, {"cooldown_growth": D("0.5")}, {"clean_per_step": 0},
        {"floor": 0}, {"ceiling": 1}, {"error_rate": 2}, {"window_loss": 0}, {"share_of_equity": 2},
        {"max_cooldown_seconds": 315_360_000},
    ):  # fmt: skip
        with pytest.raises(IntegrityError), transaction.atomic():
            BreakerSettings.objects.filter(scope="bot").update(**bad)


# --- retention ------------------------------------------------------------------------------------------------------


def test_old_history_goes_and_the_last_events_of_each_breaker_stay() -> None:
    now = timezone.now()
    old = to_ns(now - timedelta(days=100))
    for number in range(30):
        trip(old + number * SECOND_NS)
    for number in range(3):
        trip(old + number * SECOND_NS, key="okx")
    trip(to_ns(now))
    assert breaker_events_prune(now=now) == 11
    kept = BreakerEvent.objects.filter(breaker__key="binance").order_by("version").values_list("version", flat=True)
    assert list(kept) == list(range(12, 32))
    assert BreakerEvent.objects.filter(breaker__key="okx").count() == 3
    assert breaker_events_prune(now=now) == 0
    assert row(key="binance").version == 31


def test_a_retention_that_cannot_be_is_refused() -> None:
    with pytest.raises(ValueError, match=r"must not be negative \(given -1, 20\)"):
        breaker_events_prune(days=-1)
