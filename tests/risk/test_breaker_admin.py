"""Circuit breakers in the admin: what operators order is carried out as a whole or not at all, and says why."""

from __future__ import annotations

import re
from typing import Any

import pytest
from django.contrib.admin.models import LogEntry
from django.contrib.messages import get_messages
from django.test import Client
from django.urls import reverse
from django.utils import timezone

from risk.models import BreakerEvent, BreakerSettings, CircuitBreaker
from risk.models.breaker_settings import EDITABLE
from risk.policy.breakers import SECOND_NS, BreakerState, Scope
from risk.policy.breakers import BreakerEvent as E
from risk.policy.rulebook import DEFAULTS
from risk.selectors import breaker_settings
from risk.services.breaker_operations import settings_ensure
from risk.services.breakers import breaker_event
from risk.times import to_ns
from tests.bots.conftest import signed_in

pytestmark = [pytest.mark.django_db, pytest.mark.database]

LISTING = "admin:risk_circuitbreaker_changelist"


def now_ns() -> int:
    return to_ns(timezone.now())


def trip(key: str = "alpha", scope: Scope = Scope.EXCHANGE, **more: Any) -> CircuitBreaker:
    values = {"event": E.TRIP, "reason": "3 trades lost.", "trigger": "consecutive_losses", "now_ns": now_ns()}
    breaker_event(scope=scope, key=key, **(values | more))
    return CircuitBreaker.objects.get(scope=scope, key=key)


def order(client: Client, name: str, *rows: CircuitBreaker, **given: str) -> Any:
    """Post an order as the page that shows ``rows`` as they are now would."""
    form = {"breaker": [str(row.pk) for row in rows], **{f"version-{row.pk}": str(row.version) for row in rows}}
    return client.post(reverse("admin:risk_circuitbreaker_order", args=[name]), form | given)


def errors(answer: Any) -> dict[str, str]:
    """What a page that was shown again says by field."""
    assert answer.status_code == 200, "the order was taken"
    return {field: " ".join(texts) for field, texts in answer.context["form"].errors.items()}


def said(answer: Any) -> str:
    return " ".join(str(message) for message in get_messages(answer.wsgi_request))


def state(row: CircuitBreaker) -> tuple[str, int]:
    row.refresh_from_db()
    return row.state, row.version


def text(answer: Any) -> str:
    assert answer.status_code == 200
    return re.sub(r"\s+", " ", re.sub(r"<[^>]+>", " ", answer.content.decode()))


# --- what is seen ---------------------------------------------------------------------------------------------------


def test_list_shows_state_size_reason_and_how_long(world: Any, operator: Client) -> None:
    trip("alpha")
    later = now_ns() - 400 * SECOND_NS
    trip("beta", now_ns=later)
    trip("BTC/USDT", Scope.PAIR, now_ns=later)
    for event, holder in ((E.PROBE_CLAIMED, "t1"), (E.CLEAN, "t1")):
        breaker_event(scope=Scope.PAIR, key="BTC/USDT", event=event, holder=holder)
    shown = text(operator.get(reverse(LISTING)))
    assert re.search(r"Exchange alpha – Open none 3 trades lost\. 20\S+ \S+ UTC, 5 min left", shown), shown
    assert re.search(r"Exchange beta – Half-open none 3 trades lost\.", shown), "its time is over"
    assert re.search(r"Pair BTC/USDT – Ramping 25 %", shown)


@pytest.mark.parametrize(
    ("query", "found"),
    [
        ({"scope__exact": "pair"}, ["BTC/USDT"]), ({"state__exact": "closed"}, ["beta"]), ({"q": "beta"}, ["beta"]),
        ({"q": "trades"}, ["alpha", "BTC/USDT"]), ({"scope__exact": "bot"}, []),
    ],
)  # fmt: skip
def test_list_is_filtered_and_searched(world: Any, operator: Client, query: dict[str, str], found: list[str]) -> None:
    trip("alpha")
    order(operator, "reset", trip("beta"), reason="Fine again.")
    trip("BTC/USDT", Scope.PAIR)
    assert [row.key for row in operator.get(reverse(LISTING), query).context["cl"].queryset] == found


def test_page_shows_the_history_newest_first(world: Any, operator: Client) -> None:
    row = trip()
    order(operator, "extend", row, reason="Look <b>first</b>.", seconds="60")
    row.refresh_from_db()
    order(operator, "reset", row, reason="Fine again.")
    answer = operator.get(reverse("admin:risk_circuitbreaker_change", args=[row.pk]))
    history = text(answer).partition("History At")[2]
    assert history.index("Fine again.") < history.index("Look") < history.index("3 trades lost.")
    assert "Open → Closed" in history
    assert "still Open" in history
    assert "<b>first</b>" not in answer.content.decode()
    whole = operator.get(reverse("admin:risk_breakerevent_changelist"), {"breaker__id__exact": row.pk})
    assert whole.context["cl"].queryset.count() == 3


def test_as_many_queries_for_many_rows(world: Any, operator: Client, django_assert_max_num_queries: Any) -> None:
    later = now_ns() - 400 * SECOND_NS
    for number in range(20):
        key = f"B{number}/USDT"
        trip(key, Scope.PAIR, now_ns=later)
        for event in (E.PROBE_CLAIMED, E.CLEAN):
            breaker_event(scope=Scope.PAIR, key=key, event=event, holder="t1")
    with django_assert_max_num_queries(15):
        assert "25 %" in text(operator.get(reverse(LISTING)))


def test_users_see_the_shared_ones_and_their_own(world: Any, anna: Client, ben: Client) -> None:
    bot = world.bot(world.anna)
    mine = [trip(str(bot.pk), Scope.BOT), trip(str(world.anna.pk), Scope.OWNER)]
    shared = [
        trip(),
        trip("", Scope.GLOBAL),
        trip("BTC/USDT", Scope.PAIR),
        trip("alpha:BTC/USDT", Scope.PAIR_ON_EXCHANGE),
    ]
    for name in ("circuitbreaker", "breakerevent"):
        listing = reverse(f"admin:risk_{name}_changelist")
        assert anna.get(listing).context["cl"].queryset.count() == 6
        assert ben.get(listing).context["cl"].queryset.count() == 4
    for row in mine:
        assert ben.get(reverse("admin:risk_circuitbreaker_change", args=[row.pk])).status_code == 404
        event = row.events.get()
        assert ben.get(reverse("admin:risk_breakerevent_change", args=[event.pk])).status_code == 404
        assert anna.get(reverse("admin:risk_breakerevent_change", args=[event.pk])).status_code == 200
    for row in shared:
        assert ben.get(reverse("admin:risk_circuitbreaker_change", args=[row.pk])).status_code == 200


def test_users_are_not_told_who_the_operator_is_nor_others_figures(world: Any, operator: Client, ben: Client) -> None:
    row = trip(figures={"loss": "123.45"})
    order(operator, "reset", row, reason="Fine again.")
    for address in (
        reverse("admin:risk_circuitbreaker_change", args=[row.pk]),
        reverse("admin:risk_breakerevent_changelist"),
        reverse("admin:risk_breakerevent_change", args=[row.events.last().pk]),
    ):
        shown = text(ben.get(address))
        assert "operator" not in shown.replace("an operator", "")
        assert "123.45" not in shown
        assert "3 trades lost." in shown


@pytest.mark.parametrize("lookup", ["actor__password__startswith", "breaker__owner__password__startswith"])
def test_filters_answer_nothing_about_others(world: Any, operator: Client, ben: Client, lookup: str) -> None:
    order(operator, "reset", trip(), reason="Fine again.")
    answer = ben.get(reverse("admin:risk_breakerevent_changelist"), {lookup: "m"})
    assert answer.status_code == 400


# --- orders ---------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", ["trip", "extend", "reset"])
def test_list_and_page_lead_to_a_page_that_asks_why(world: Any, operator: Client, name: str) -> None:
    row = trip()
    chosen = operator.post(reverse(LISTING), {"action": f"breakers_{name}", "_selected_action": [row.pk]})
    detail = operator.get(
        f"{reverse('admin:risk_circuitbreaker_change', args=[row.pk]).removesuffix('change/')}{name}/"
    )
    address = f"{reverse('admin:risk_circuitbreaker_order', args=[name])}?breaker={row.pk}"
    assert chosen["Location"] == detail["Location"] == address
    page = operator.get(address)
    assert f'name="version-{row.pk}" value="1"' in page.content.decode()
    assert "Reason" in text(page)
    assert state(row) == ("open", 1), "looking changes nothing"


def test_orders_are_carried_out_recorded_and_audited(world: Any, operator: Client) -> None:
    row = trip()
    until = row.until_ns
    answer = order(operator, "extend", row, reason="Still odd.", seconds="60.5")
    assert said(answer) == "Circuit breaker extended: exchange alpha."
    assert state(row) == ("open", 2)
    assert row.until_ns == until + 60_500_000_000
    order(operator, "reset", row, reason="Fine again.")
    assert state(row) == ("closed", 3)
    order(operator, "trip", row, reason="Odd again.", seconds="")
    assert state(row) == ("open", 4)
    assert (row.reason, row.trigger) == ("Odd again.", "operator")
    events = BreakerEvent.objects.order_by("id").values_list("event", "actor__username", "reason")
    assert list(events)[1:] == [
        ("extend", "operator", "Still odd."), ("reset", "operator", "Fine again."),
        ("operator_trip", "operator", "Odd again."),
    ]  # fmt: skip
    assert LogEntry.objects.count() == 3


def test_of_several_all_are_moved_or_none(world: Any, operator: Client) -> None:
    first, second = trip("alpha"), trip("beta")
    breaker_event(scope=Scope.EXCHANGE, key="beta", event=E.RESET, reason="Meanwhile.")
    given = errors(order(operator, "reset", first, second, reason="Fine again."))
    assert "(version 2, you saw 1). The circuit breaker of exchange beta is closed." in given["__all__"]
    assert state(first) == ("open", 1)
    assert LogEntry.objects.count() == 0
    second.refresh_from_db()
    trip("beta", now_ns=now_ns())
    second.refresh_from_db()
    order(operator, "reset", first, second, reason="Fine again.")
    assert (state(first), state(second)) == (("closed", 2), ("closed", 4))


@pytest.mark.parametrize("name", ["trip", "extend", "reset"])
@pytest.mark.parametrize("reason", ["", "  ", "x" * 201])
def test_an_order_without_a_fitting_reason_is_refused(world: Any, operator: Client, name: str, reason: str) -> None:
    row = trip()
    answer = order(operator, name, row, reason=reason, seconds="900")
    assert list(errors(answer)) == ["reason"]
    assert state(row) == ("open", 1)
    if name != "reset":
        assert 'value="900"' in answer.content.decode(), "what was typed is still there"


@pytest.mark.parametrize(
    ("seconds", "sentence"),
    [
        ("NaN", "Enter a plain number such as 0.25, with a point and without thousands marks (given 'NaN')."),
        ("1,5", "(given '1,5')"), ("1e400", "Must be below 1e9 (given 1e400)."), ("١٢", "(given '١٢')"),
        ("Infinity", "(given 'Infinity')"), ("0", "Must be between 1 and 604800 seconds (given 0)."),
        ("-60", "(given -60)"), ("315360000", "Must be between 1 and 604800 seconds (given 315360000)."),
        ("1.0000001", "At most 6 decimal places (given 1.0000001)."),
    ],
)  # fmt: skip
@pytest.mark.parametrize("name", ["trip", "extend"])
def test_seconds_that_cannot_be_are_refused_by_field(
    world: Any, operator: Client, name: str, seconds: str, sentence: str
) -> None:
    row = trip()
    given = errors(order(operator, name, row, reason="Longer.", seconds=seconds))
    assert list(given) == ["seconds"]
    assert sentence in given["seconds"]
    assert state(row) == ("open", 1)


def test_an_extension_has_to_say_how_long(world: Any, operator: Client) -> None:
    given = errors(order(operator, "extend", trip(), reason="Longer.", seconds=""))
    assert given == {"seconds": "Say by how many seconds; Must be between 1 and 604800 seconds."}


@pytest.mark.parametrize("version", ["0", "2", "", "x", "-1", "9" * 30])
def test_an_order_on_another_state_than_the_present_is_refused(world: Any, operator: Client, version: str) -> None:
    row = trip()
    answer = order(operator, "reset", row, reason="Fine again.", **{f"version-{row.pk}": version})
    assert "This changed meanwhile (version 1," in errors(answer)["__all__"]
    assert state(row) == ("open", 1)
    assert f'name="version-{row.pk}" value="1"' in answer.content.decode(), "the page shows the present state"


def test_the_second_of_two_operators_is_told_what_the_first_did(world: Any, operator: Client) -> None:
    row = trip()
    seen = CircuitBreaker.objects.get(pk=row.pk)
    order(operator, "reset", row, reason="Fine again.")
    given = errors(order(operator, "extend", seen, reason="Not yet.", seconds="60"))
    assert "The circuit breaker of exchange alpha is closed." in given["__all__"]
    assert state(row) == ("closed", 2)


@pytest.mark.parametrize("chosen", [[], ["0"], ["999"], ["x"], ["9" * 40], ["-1"]])
def test_an_order_on_nothing_is_refused(world: Any, operator: Client, chosen: list[str]) -> None:
    row = trip()
    address = reverse("admin:risk_circuitbreaker_order", args=["reset"])
    answer = operator.post(address, {"breaker": chosen, "reason": "Fine."})
    assert answer["Location"] == reverse(LISTING)
    assert "Choose 1 to 100 circuit breakers of this list" in said(answer)
    with_one = operator.post(address, {"breaker": [*chosen, "888"], "reason": "Fine.", f"version-{row.pk}": "1"})
    assert with_one.status_code == 302
    assert state(row) == ("open", 1)
    assert operator.get(reverse("admin:risk_circuitbreaker_order", args=["explode"])).status_code == 404


@pytest.mark.parametrize("name", ["trip", "extend", "reset"])
def test_users_give_no_orders(world: Any, anna: Client, name: str) -> None:
    row = trip(str(world.anna.pk), Scope.OWNER)
    assert order(anna, name, row, reason="I want to.", seconds="60").status_code == 403
    page = reverse("admin:risk_circuitbreaker_change", args=[row.pk]).removesuffix("change/")
    assert anna.get(f"{page}{name}/").status_code == 403
    assert anna.post(reverse("admin:risk_circuitbreaker_breaker_open_view"), {"scope": "global"}).status_code == 403
    listed = anna.post(reverse(LISTING), {"action": f"breakers_{name}", "_selected_action": [row.pk]})
    assert "order/" not in listed.get("Location", "")
    assert state(row) == ("open", 1)
    assert Client().get(reverse("admin:risk_circuitbreaker_order", args=[name])).status_code == 302


# --- by hand --------------------------------------------------------------------------------------------------------


def test_an_operator_trips_what_never_tripped(world: Any, operator: Client) -> None:
    address = reverse("admin:risk_circuitbreaker_breaker_open_view")
    assert "Trip a circuit breaker by hand" in text(operator.get(address))
    form = {"scope": "pair_on_exchange", "key": "alpha:BTC/USDT", "reason": "Odd prices.", "seconds": "60"}
    answer = operator.post(address, form)
    assert said(answer) == "The circuit breaker of pair on exchange alpha:BTC/USDT is tripped."
    row = CircuitBreaker.objects.get()
    assert (row.scope, row.state, row.reason) == ("pair_on_exchange", "open", "Odd prices.")
    again = errors(operator.post(address, form | {"seconds": "5"}))
    assert "longer than asked for: nothing changed." in again["__all__"]


@pytest.mark.parametrize(
    ("changes", "field", "sentence"),
    [
        ({"key": "gamma"}, "key", "There is no exchange 'gamma'; write its code, such as binance."),
        ({"key": ""}, "key", "Must be the exchange's (given '')."),
        ({"scope": "global"}, "key", "Must be empty for the scope global (given 'alpha')."),
        ({"scope": "planet"}, "scope", "planet"),
        ({"scope": ""}, "scope", "Must be one of global, owner"),
        ({"scope": "bot", "key": "NaN"}, "key", "There is no bot with the id 'NaN'."),
        ({"reason": ""}, "reason", "Say why"),
        ({"seconds": "1e400"}, "seconds", "(given 1e400)"),
    ],
)
def test_what_cannot_be_tripped_is_refused_by_field(
    world: Any, operator: Client, changes: dict[str, str], field: str, sentence: str
) -> None:
    form = {"scope": "exchange", "key": "alpha", "reason": "Odd.", "seconds": ""} | changes
    given = errors(operator.post(reverse("admin:risk_circuitbreaker_breaker_open_view"), form))
    assert list(given) == [field]
    assert sentence in given[field]
    assert not CircuitBreaker.objects.exists()


# --- settings -------------------------------------------------------------------------------------------------------


def settings_form(row: BreakerSettings, **changes: str) -> dict[str, str]:
    form = {name: "" if getattr(row, name) is None else str(getattr(row, name)) for name in EDITABLE}
    for name in ("daily_loss", "reconciliation_difference"):
        if form.pop(name) == "True":
            form[name] = "on"
    return form | {"seen_version": str(row.version)} | changes


def settings_row(scope: Scope = Scope.EXCHANGE) -> tuple[BreakerSettings, str]:
    settings_ensure()
    row = BreakerSettings.objects.get(scope=scope)
    return row, reverse("admin:risk_breakersettings_change", args=[row.pk])


def refused(answer: Any) -> dict[str, str]:
    assert answer.status_code == 200, "the form was taken"
    return {field: " ".join(texts) for field, texts in answer.context["adminform"].form.errors.items()}


def test_opening_the_list_makes_a_row_for_each_scope(world: Any, operator: Client, anna: Client) -> None:
    shown = text(operator.get(reverse("admin:risk_breakersettings_changelist")))
    assert BreakerSettings.objects.count() == len(Scope)
    assert "300 s, times 2 up to 14400 s" in shown
    assert anna.get(reverse("admin:risk_breakersettings_changelist")).status_code == 403


def test_settings_are_saved_once_and_audited(world: Any, operator: Client) -> None:
    row, address = settings_row()
    assert 'value="300"' in operator.get(address).content.decode()
    form = settings_form(row, cooldown_seconds="90", error_rate="", window_loss="12.5", steps="10 100", daily_loss="on")
    assert operator.post(address, form).status_code == 302
    rules = breaker_settings()[Scope.EXCHANGE]
    assert (rules.breaker.cooldown_seconds, rules.breaker.steps, rules.triggers.error_rate) == (90, (0.1, 1.0), None)
    assert rules.threshold is not None
    entry = LogEntry.objects.get()
    assert "cooldown_seconds from 300 to 90" in entry.change_message
    stale = refused(operator.post(address, form | {"cooldown_seconds": "5"}))
    assert "they are at version 2, you saw 1" in stale["__all__"]
    assert breaker_settings()[Scope.EXCHANGE] == rules


@pytest.mark.parametrize(
    ("changes", "field", "sentence"),
    [
        ({"cooldown_seconds": "NaN"}, "cooldown_seconds", "(given 'NaN')"),
        ({"cooldown_seconds": "1,5"}, "cooldown_seconds", "(given '1,5')"),
        ({"cooldown_seconds": "1e400"}, "cooldown_seconds", "Must be below 1e9 (given 1e400)."),
        ({"cooldown_seconds": "315360000"}, "cooldown_seconds", "Must be between 1 and 604800 (given 315360000)."),
        ({"max_cooldown_seconds": "299"}, "max_cooldown_seconds", "Must be between 300 and 604800 (given 299)."),
        ({"floor": "100", "ceiling": "99.5"}, "ceiling", "Must be at least the floor of 100 (given 99.5)."),
        ({"steps": "50 25 100"}, "steps", "(given 0.5, 0.25, 1)"),
        ({"steps": "1,5 100"}, "steps", "such as 25 50 100 (given '1,5 100')"),
        ({"consecutive_losses": "2.5"}, "consecutive_losses", "At most 0 decimal places (given 2.5)."),
        ({"consecutive_losses": "-1"}, "consecutive_losses", "-1"),
        ({"error_rate": "50"}, "error_rate", "Must be between 0.01 and 1 (given 50)."),
        ({"clean_per_step": ""}, "clean_per_step", "required"),
    ],
)
def test_settings_that_cannot_be_are_refused_by_field(
    world: Any, operator: Client, changes: dict[str, str], field: str, sentence: str
) -> None:
    row, address = settings_row()
    given = refused(operator.post(address, settings_form(row, **changes)))
    assert list(given) == [field]
    assert sentence in given[field]
    assert breaker_settings() == DEFAULTS
    assert not LogEntry.objects.exists()


def test_users_set_nothing(world: Any, anna: Client) -> None:
    row, address = settings_row()
    assert anna.post(address, settings_form(row, cooldown_seconds="5")).status_code == 403
    assert breaker_settings() == DEFAULTS


def test_an_operator_by_role_may_do_all_this(world: Any) -> None:
    from django.contrib.auth.models import Group

    from bots.services.roles import OPERATORS

    clerk = world.user("clerk")
    clerk.groups.add(Group.objects.get(name=OPERATORS))
    client = signed_in(clerk)
    row = trip(str(world.anna.pk), Scope.OWNER)
    order(client, "reset", row, reason="Fine again.")
    assert state(row) == (BreakerState.CLOSED.value, 2)
    settings_now, address = settings_row()
    assert client.post(address, settings_form(settings_now, cooldown_seconds="5")).status_code == 302
