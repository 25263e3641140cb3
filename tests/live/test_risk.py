"""Circuit breakers and switches on the live page: who sees which, and what may be asked of them."""

from __future__ import annotations

import json
from typing import Any

import pytest
from django.contrib.admin.models import LogEntry
from django.contrib.auth.models import Group, User
from django.test import Client
from msgspec import convert

from bots import live_schema
from bots.live_snapshot import snapshot
from bots.services.roles import OPERATORS, USERS, roles_sync
from risk.models import BreakerEvent, CircuitBreaker, TradingSwitch, TradingSwitchEvent
from risk.policy.breakers import BreakerEvent as E
from risk.policy.breakers import Scope
from risk.services.breakers import breaker_event
from risk.services.switch import switch_set
from tests.live.desk import Desk, make_desk, make_user

pytestmark = [pytest.mark.django_db, pytest.mark.database]


@pytest.fixture
def desk(db: None) -> Desk:
    desk = make_desk()
    roles_sync()
    desk.user.groups.add(Group.objects.get(name=USERS))
    return desk


@pytest.fixture
def operator(desk: Desk) -> User:
    user = make_user("oscar")
    user.groups.add(Group.objects.get(name=OPERATORS))
    return user


def ask(user: User | None, path: str, **body: Any) -> tuple[int, dict[str, Any]]:
    client = Client()
    if user is not None:
        client.force_login(user)
    answer = client.post(f"/api/live/{path}", body, content_type="application/json")
    return answer.status_code, answer.json()


def trip(scope: Scope, key: str, reason: str = "Three losses in a row.", **values: Any) -> None:
    breaker_event(scope=scope, key=key, event=E.TRIP, reason=reason, trigger="losses", seconds=600, **values)


def keys(owner: User, kind: str) -> list[str]:
    data = convert(snapshot(owner_id=owner.pk), live_schema.Snapshot)
    return sorted(f"{row.scope}:{row.key}" for row in getattr(data, kind))


# --- who sees which ------------------------------------------------------------------------------------------------


def test_a_snapshot_has_everybodys_breakers_and_ones_own(desk: Desk) -> None:
    ben = make_desk("ben")
    account = desk.accounts["okx-sim"]
    trip(Scope.GLOBAL, "")
    trip(Scope.EXCHANGE, "okx-sim")
    trip(Scope.PAIR, "BTC/USDT")
    trip(Scope.PAIR_ON_EXCHANGE, "okx-sim:BTC/USDT")
    public = ["exchange:okx-sim", "global:", "pair:BTC/USDT", "pair_on_exchange:okx-sim:BTC/USDT"]
    for scope, key in ((Scope.OWNER, desk.user.pk), (Scope.BOT, desk.bot.pk), (Scope.ACCOUNT, account.pk)):
        trip(scope, str(key))
    own = [f"account:{account.pk}", f"bot:{desk.bot.pk}", f"owner:{desk.user.pk}"]
    assert keys(desk.user, "breakers") == sorted(public + own)
    assert keys(ben.user, "breakers") == public


def test_a_breaker_is_shown_in_words_without_the_figures_that_tripped_it(desk: Desk) -> None:
    account = desk.accounts["okx-sim"]
    trip(Scope.ACCOUNT, str(account.pk), figures={"loss": "1234.5678"})
    trip(Scope.PAIR_ON_EXCHANGE, "okx-sim:BTC/USDT", figures={"loss": "1234.5678"})
    shown = snapshot(owner_id=desk.user.pk)["breakers"]
    assert [row["name"] for row in shown] == ["account main on okx-sim", "BTC/USDT on okx-sim"]
    assert {row["state"] for row in shown} == {"open"}
    assert {row["reason"] for row in shown} == {"Three losses in a row."}
    assert "1234" not in json.dumps(shown)


def test_a_cool_down_that_is_over_is_half_open_and_a_ramp_has_its_share(desk: Desk) -> None:
    long_ago = 1_700_000_000 * 10**9
    trip(Scope.EXCHANGE, "okx-sim", now_ns=long_ago)
    trip(Scope.PAIR, "BTC/USDT", now_ns=long_ago)
    for event in (E.PROBE_CLAIMED, E.CLEAN):
        breaker_event(scope=Scope.PAIR, key="BTC/USDT", event=event, holder="engine", now_ns=long_ago + 700 * 10**9)
    shown = {row["scope"]: row for row in snapshot(owner_id=desk.user.pk)["breakers"]}
    assert [shown["exchange"][field] for field in ("state", "share", "until")] == ["half_open", 0.0, None]
    assert [shown["pair"][field] for field in ("state", "share", "until")] == ["ramping", 0.25, None]


def test_a_snapshot_has_the_switches_over_ones_bots_alone(desk: Desk, operator: User) -> None:
    ben = make_desk("ben")
    turn: dict[str, Any] = {"actor": operator, "state": "reduce_only", "reason": "quarter's end", "seen_version": 0}
    switch_set(scope="global", **turn)
    switch_set(scope="owner", owner_id=desk.user.pk, **turn)
    switch_set(scope="bot", bot_id=desk.bot.pk, **turn)
    assert keys(desk.user, "switches") == sorted(["global:", f"owner:{desk.user.pk}", f"bot:{desk.bot.pk}"])
    assert keys(ben.user, "switches") == ["global:"]


def test_buttons_are_there_for_whom_they_work(desk: Desk, operator: User) -> None:
    pages = {}
    for user in (desk.user, operator, make_user("carl")):
        client = Client()
        client.force_login(user)
        pages[user.username] = client.get(f"/live/?owner={user.pk}").text
    have = {
        name: [part in page for part in ("data-trip", "data-switch-to", "data-may-everybody")]
        for name, page in pages.items()
    }
    assert have == {"alice": [False, True, False], "oscar": [True, True, True], "carl": [False, False, False]}


# --- breakers ------------------------------------------------------------------------------------------------------


def test_an_operator_trips_extends_and_resets_with_the_history_written(desk: Desk, operator: User) -> None:
    at = {"scope": "exchange", "key": "okx-sim"}
    status, answer = ask(operator, "breakers/trip", **at, reason="odd prices", seconds=60, version=0)
    assert (status, answer["breaker"]["state"], answer["breaker"]["version"]) == (200, "open", 1)
    until = answer["breaker"]["until"]
    status, answer = ask(operator, "breakers/extend", **at, reason="still odd", seconds=30, version=1)
    assert (status, round(answer["breaker"]["until"] - until)) == (200, 30)
    status, answer = ask(operator, "breakers/reset", **at, reason="prices are right again", version=2)
    assert (status, answer["breaker"]["state"], answer["breaker"]["share"]) == (200, "closed", 1.0)
    history = BreakerEvent.objects.order_by("version").values_list("event", "reason", "actor__username")
    assert list(history) == [
        ("operator_trip", "odd prices", "oscar"),
        ("extend", "still odd", "oscar"),
        ("reset", "prices are right again", "oscar"),
    ]
    # A page knows no closed ones: it trips one that was tripped before as it trips a new one.
    status, answer = ask(operator, "breakers/trip", **at, reason="again", version=0)
    assert (status, answer["breaker"]["state"]) == (200, "open")


def test_a_second_click_and_a_stale_page_change_nothing(desk: Desk, operator: User) -> None:
    trip(Scope.EXCHANGE, "okx-sim")
    body = {"scope": "exchange", "key": "okx-sim", "reason": "checked", "version": 1}
    assert ask(operator, "breakers/reset", **body)[0] == 200
    status, answer = ask(operator, "breakers/reset", **body)
    assert status == 409
    assert "version 2, you saw 1" in answer["errors"]["__all__"][0]
    assert BreakerEvent.objects.count() == 2


@pytest.mark.parametrize(
    ("action", "change", "field", "said"),
    [
        ("trip", {"reason": "  "}, "reason", "Say why"),
        ("trip", {"seconds": 0.5}, "seconds", "given 0.5"),
        ("extend", {"seconds": None}, "seconds", "Say by how many"),
        ("trip", {"scope": "galaxy"}, "scope", "galaxy"),
        ("trip", {"key": "kraken"}, "key", "kraken"),
        ("reset", {"version": "1"}, "__all__", "version"),
        ("reset", {"extra": 1}, "__all__", "extra"),
    ],
)
def test_what_is_wrong_is_said_by_field(
    desk: Desk, operator: User, action: str, change: dict[str, Any], field: str, said: str
) -> None:
    trip(Scope.EXCHANGE, "okx-sim")
    body = {"scope": "exchange", "key": "okx-sim", "reason": "why", "version": 1, **change}
    status, answer = ask(operator, f"breakers/{action}", **body)
    assert status == 400
    assert said in answer["errors"][field][0]
    assert BreakerEvent.objects.count() == 1


def test_users_may_not_operate_breakers_even_their_own(desk: Desk) -> None:
    for scope, key in (("owner", str(desk.user.pk)), ("exchange", "okx-sim")):
        status, answer = ask(desk.user, "breakers/trip", scope=scope, key=key, reason="please", version=0)
        assert status == 403
        assert "permission" in answer["errors"]["__all__"][0]
    assert not CircuitBreaker.objects.exists()


def test_an_order_needs_a_session_a_token_and_post(desk: Desk, operator: User) -> None:
    assert ask(None, "breakers/reset")[0] == 401
    strict = Client(enforce_csrf_checks=True)
    strict.force_login(operator)
    assert strict.post("/api/live/switch", {}, content_type="application/json").status_code == 403
    strict.cookies.clear()
    client = Client()
    client.force_login(operator)
    assert client.get("/api/live/breakers/trip").status_code == 405
    assert ask(operator, "switch", reason="x" * 5000)[0] == 413
    assert client.post("/api/live/switch", b"{", content_type="application/json").status_code == 400


# --- the switch ----------------------------------------------------------------------------------------------------


def test_an_owner_turns_what_is_theirs_and_resumes_with_a_reason(desk: Desk) -> None:
    at = {"scope": "bot", "key": str(desk.bot.pk)}
    status, answer = ask(desk.user, "switch", **at, state="kill", reason="odd fills", version=0)
    assert (status, answer["switch"]["state"], answer["switch"]["version"]) == (200, "kill", 1)
    status, answer = ask(desk.user, "switch", **at, state="normal", reason="", version=1)
    assert (status, list(answer["errors"])) == (400, ["reason"])
    status, answer = ask(desk.user, "switch", **at, state="normal", reason="fills explained", version=0)
    assert status == 409
    status, answer = ask(desk.user, "switch", **at, state="normal", reason="fills explained", version=1)
    assert (status, answer["switch"]["state"]) == (200, "normal")
    assert [turn.reason for turn in TradingSwitchEvent.objects.order_by("version")] == ["odd fills", "fills explained"]
    assert LogEntry.objects.filter(user=desk.user).count() == 2


def test_nobody_turns_what_is_anothers_or_everybodys(desk: Desk) -> None:
    ben = make_desk("ben")
    ben.user.groups.add(Group.objects.get(name=USERS))
    for scope, key in (("owner", str(desk.user.pk)), ("bot", str(desk.bot.pk)), ("global", "")):
        assert ask(ben.user, "switch", scope=scope, key=key, state="kill", reason="mine", version=0)[0] == 403
    assert not TradingSwitch.objects.exists()


def test_an_id_that_is_none_is_refused(desk: Desk, operator: User) -> None:
    for key in ("", "one", "9" * 30, "-1", "²"):
        status, answer = ask(operator, "switch", scope="owner", key=key, state="kill", reason="why", version=0)
        assert (status, list(answer["errors"])) == (400, ["key"])
