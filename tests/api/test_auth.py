"""Who may ask the API: sessions with their CSRF token, tokens, and nobody else."""

from __future__ import annotations

from datetime import timedelta

import pytest
from django.contrib.auth import get_user_model
from django.contrib.auth.models import Group
from django.core.exceptions import PermissionDenied, ValidationError
from django.test import Client
from django.urls import reverse
from django.utils import timezone

from bots.api import auth
from bots.models import ApiToken
from bots.services.api_tokens import api_token_create, api_token_revoke, token_digest
from bots.services.roles import USERS, roles_sync
from tests.api.conftest import Caller
from tests.live.desk import Desk, make_user

pytestmark = [pytest.mark.django_db(transaction=True), pytest.mark.database]


def token_of(desk: Desk, **more) -> tuple[ApiToken, str]:
    return api_token_create(owner=desk.user, actor=desk.user, name="a program", **more)


def test_nobody_is_told_to_sign_in(desk: Desk) -> None:
    for address in ("/api/bots", "/api/dashboard?mode=paper", "/api/orders", "/api/manual-trade/1"):
        answer = Caller().get(address)
        assert answer.status_code == 401
        assert "Bearer" in answer["WWW-Authenticate"]


def test_an_expired_session_is_told_to_sign_in_whatever_it_sends(alice: Caller, order) -> None:
    alice.client.logout()
    assert alice.post("/api/manual-trade", order()).status_code == 401
    assert alice.post("/api/manual-trade", "garbage", key=None).status_code == 401


def test_a_page_needs_its_csrf_token_and_a_program_does_not(desk: Desk) -> None:
    page = Caller(desk.user, csrf=True)
    address = f"/api/bots/{desk.bot.pk}/stop"
    assert page.post(address).status_code == 403
    page.client.get("/live/")  # sets the cookie
    csrf = page.client.cookies["arb_csrf"].value
    assert page.post(address, **{"X-CSRFToken": csrf}).status_code == 202
    _, secret = token_of(desk)
    assert Caller(token=secret, csrf=True).post(address).status_code == 202


def test_a_token_is_its_owner_and_only_its_hash_is_kept(desk: Desk) -> None:
    row, secret = token_of(desk)
    assert secret.startswith(row.prefix)
    assert row.digest == token_digest(secret)
    assert secret not in str(ApiToken.objects.values_list().get())
    assert [bot["name"] for bot in Caller(token=secret).get("/api/bots").json()["items"]] == ["alice's majors"]
    row.refresh_from_db()
    assert row.last_used_at is not None


@pytest.mark.parametrize("end", ["revoked", "expired", "owner gone"])
def test_a_token_that_has_ended_opens_nothing(desk: Desk, end: str) -> None:
    row, secret = token_of(desk, expires_at=timezone.now() + timedelta(days=1))
    program = Caller(token=secret)
    assert program.get("/api/bots").status_code == 200
    if end == "revoked":
        assert api_token_revoke(token=row, actor=desk.user)
        assert not api_token_revoke(token=row, actor=desk.user)
    elif end == "expired":
        ApiToken.objects.update(expires_at=timezone.now() - timedelta(seconds=1))
    else:
        get_user_model().objects.update(is_active=False)
    assert program.get("/api/bots").status_code == 401


@pytest.mark.parametrize("header", ["Bearer", "Bearer ", "Basic YTpi", "Bearer wrong", "arb_x", "Bearer \u00ff\ufffd"])
def test_a_header_that_is_there_decides_and_no_session_stands_in(desk: Desk, header: str) -> None:
    caller = Caller(desk.user)
    caller.headers = {"Authorization": header}
    assert caller.get("/api/bots").status_code == 401


def test_wrong_tokens_are_slowed_down_and_right_ones_go_on(desk: Desk) -> None:
    _, secret = token_of(desk)
    right = Caller(token=secret)
    assert right.get("/api/bots").status_code == 200
    for number in range(auth.WRONG_TOKENS):
        assert Caller(token=f"arb_{number}").get("/api/bots").status_code == 401
    refused = Caller(token="arb_one-more").get("/api/bots")
    assert refused.status_code == 429
    assert 0 < int(refused["Retry-After"]) <= auth.WRONG_SECONDS
    assert right.get("/api/bots").status_code == 200
    assert Caller(desk.user).get("/api/bots").status_code == 200


def test_a_minute_later_tokens_are_looked_for_again() -> None:
    now = 1000.0
    watch = auth.WrongTokens(monotonic=lambda: now)
    for _ in range(auth.WRONG_TOKENS):
        watch.not_found("here", "digest")
    assert watch.wait("here", "another") > 0
    assert watch.wait("elsewhere", "another") == 0
    now += auth.WRONG_SECONDS
    assert watch.wait("here", "another") == 0


def test_a_token_is_made_by_its_owner_only(desk: Desk) -> None:
    operator = make_user("olivia", operator=True)
    with pytest.raises(PermissionDenied):
        api_token_create(owner=desk.user, actor=operator, name="borrowed")
    with pytest.raises(ValidationError, match="future"):
        token_of(desk, expires_at=timezone.now() - timedelta(days=1))
    row, _ = token_of(desk)
    assert api_token_revoke(token=row, actor=operator)  # taking one back is an operator's too


def test_operators_may_name_an_owner_and_others_may_not(desk: Desk) -> None:
    other, operator = make_user("bob"), make_user("olivia", operator=True)
    query = {"owner": desk.user.pk}
    addresses = ("/api/bots", "/api/orders", "/api/trades", "/api/positions", "/api/balances", "/api/opportunities")
    for address in addresses:
        assert Caller(other).get(address, **query).status_code == 403
        assert Caller(operator).get(address, **query).status_code == 200
    assert Caller(other).get("/api/dashboard", mode="paper", **query).status_code == 403
    assert Caller(operator).get("/api/dashboard", mode="paper", **query).json()["bots"][0]["name"] == "alice's majors"
    assert Caller(operator).get("/api/bots", owner=10**9).status_code == 403


def test_the_admin_shows_a_token_once(desk: Desk) -> None:
    roles_sync()
    desk.user.is_staff = True
    desk.user.save()
    desk.user.groups.add(Group.objects.get(name=USERS))
    browser = Client()
    browser.force_login(desk.user)
    made = browser.post(reverse("admin:bots_apitoken_add"), {"name": "ticker", "expires_at_0": "", "expires_at_1": ""})
    assert made.status_code == 200
    assert "no-store" in made["Cache-Control"]
    secret = made.context["token"].secret
    assert secret in made.content.decode()
    row = ApiToken.objects.get()
    assert Caller(token=secret).get("/api/bots").status_code == 200
    for page in ("changelist", "change"):
        address = reverse(f"admin:bots_apitoken_{page}", args=[row.pk] if page == "change" else [])
        assert secret not in browser.get(address).content.decode()
    browser.post(reverse("admin:bots_apitoken_revoke", args=[row.pk]))
    assert Caller(token=secret).get("/api/bots").status_code == 401
