"""The pages and their data: who may see what, what buttons do, what the answers carry."""

from __future__ import annotations

import re
import time

import msgspec
import pytest
from django.test import AsyncClient, Client
from django.urls import reverse

from bots import live_cache
from bots.live_schema import check_frame
from tests.live.desk import PASSWORD, Desk, make_desk, make_user
from tests.live.items import quote

pytestmark = pytest.mark.django_db


@pytest.fixture
def desk(db: None) -> Desk:
    return make_desk()


@pytest.fixture
def page(desk: Desk) -> Client:
    client = Client()
    client.force_login(desk.user)
    return client


def test_the_first_address_leads_to_the_live_page_and_that_to_sign_in() -> None:
    client = Client()
    assert client.get("/").headers["Location"] == "/live/"
    assert client.get("/live/").headers["Location"] == "/sign-in/?next=/live/"


def test_signing_in_leads_to_the_live_page(desk: Desk) -> None:
    client = Client()
    answer = client.post("/sign-in/", {"username": "alice", "password": PASSWORD})
    assert answer.headers["Location"] == "/live/"
    assert client.get("/live/").status_code == 200


def test_a_wrong_password_is_told_without_saying_which_part_was_wrong(desk: Desk) -> None:
    for name in ("alice", "nobody"):
        answer = Client().post("/sign-in/", {"username": name, "password": "wrong"})
        assert answer.status_code == 200
        assert "do not match an active account" in answer.text


def test_sign_in_does_not_lead_to_another_site(desk: Desk) -> None:
    answer = Client().post(
        "/sign-in/", {"username": "alice", "password": PASSWORD, "next": "https://evil.example/live/"}
    )
    assert answer.headers["Location"] == "/live/"


def test_signing_out_is_a_post_and_ends_the_session(page: Client) -> None:
    assert page.get("/sign-out/").status_code == 405
    assert page.post("/sign-out/").headers["Location"] == "/sign-in/"
    assert page.get("/live/").status_code == 302


@pytest.mark.parametrize("address", ["/live/", "/desk/", "/desk/trade/?mode=live", "/why/", "/sign-in/", "/nowhere/"])
def test_no_page_has_inline_script_or_style_and_the_policy_allows_none(page: Client, address: str) -> None:
    answer = page.get(address)
    policy = answer.headers["Content-Security-Policy"]
    assert "unsafe" not in policy
    assert "default-src 'self'" in policy
    assert not re.search(r"<script(?![^>]*\bsrc=)", answer.text)
    assert not re.search(r"<style|\sstyle=|\son[a-z]+=", answer.text)
    assert not re.search(r"(?:src|href|action)=[\"'](?:https?:)?//", answer.text)


def test_a_page_asks_for_a_desk_it_may_see(page: Client, desk: Desk) -> None:
    other = make_user("bob")
    assert f'data-owner="{desk.user.pk}"' in page.get("/live/").text
    answer = page.get(f"/live/?owner={other.pk}")
    assert answer.status_code == 403
    assert "Not allowed" in answer.text


def test_an_operator_is_shown_a_desk_that_has_bots_and_may_choose(desk: Desk) -> None:
    second = make_desk("bob")
    client = Client()
    client.force_login(make_user("olga", operator=True))
    answer = client.get("/live/")
    assert answer.headers["Location"] == f"/live/?owner={desk.user.pk}"
    shown = client.get(f"/live/?owner={second.user.pk}").text
    assert "desk of alice" in shown
    assert re.search(rf'<option value="{second.user.pk}" selected>', shown)


def test_a_user_is_not_shown_the_names_of_others(page: Client) -> None:
    make_desk("bob")
    assert "bob" not in page.get("/live/").text


def test_names_are_escaped(db: None) -> None:
    user = make_user("<b>eve</b>")
    client = Client()
    client.force_login(user)
    assert "<b>eve" not in client.get("/live/").text


def test_stop_and_start_are_wanted_of_the_bot(page: Client, desk: Desk) -> None:
    answer = page.post(reverse("bot-action", args=[desk.bot.pk, "start"]))
    desk.bot.refresh_from_db()
    assert answer.json()["desired"] == desk.bot.desired_state == "running"
    answer = page.post(reverse("bot-action", args=[desk.bot.pk, "stop"]))
    desk.bot.refresh_from_db()
    assert answer.json()["desired"] == desk.bot.desired_state == "stopped"


def test_a_bot_that_cannot_run_says_why(page: Client, desk: Desk) -> None:
    desk.bot.accounts.clear()
    answer = page.post(reverse("bot-action", args=[desk.bot.pk, "start"]))
    assert answer.status_code == 409
    assert answer.json()["error"].endswith(".")
    desk.bot.refresh_from_db()
    assert desk.bot.desired_state == "stopped"


def test_a_button_needs_the_pages_token_a_post_and_the_own_bot(page: Client, desk: Desk) -> None:
    address = reverse("bot-action", args=[desk.bot.pk, "start"])
    strict = Client(enforce_csrf_checks=True)
    strict.force_login(desk.user)
    assert strict.post(address).status_code == 403
    assert page.get(address).status_code == 405
    assert page.post(reverse("bot-action", args=[desk.bot.pk, "explode"])).status_code == 404
    assert Client().post(address).status_code == 401
    stranger = Client()
    stranger.force_login(make_user("bob"))
    assert stranger.post(address).status_code == 404
    desk.bot.refresh_from_db()
    assert desk.bot.desired_state == "stopped"


@pytest.mark.parametrize(
    ("address", "code", "said"), [("/nowhere/", 404, "no such page"), ("/live/?owner=0", 403, "Not allowed")]
)
def test_errors_have_pages_of_their_own(page: Client, address: str, code: int, said: str) -> None:
    answer = page.get(address)
    assert answer.status_code == code
    assert said in answer.text


def test_a_server_error_has_a_page_that_needs_nothing(page: Client, monkeypatch: pytest.MonkeyPatch) -> None:
    page.raise_request_exception = False
    monkeypatch.setattr("bots.live_snapshot.find_owner", None)  # whatever breaks
    answer = page.get("/live/")
    assert answer.status_code == 500
    assert "Something broke" in answer.text


@pytest.mark.parametrize("page_address", ["/live/", "/desk/", "/desk/trade/", "/why/"])
def test_every_static_file_a_page_names_is_there(page: Client, page_address: str) -> None:
    addresses = re.findall(r'(?:src|href)="(/static/[^"]+)"', page.get(page_address).text)
    for address in addresses:
        assert page.get(address).status_code == 200, address
    assert len(addresses) > 2


PAGES = ["/live/", "/desk/", "/desk/trade/", "/desk/rebalancing/", "/why/"]


@pytest.mark.parametrize("address", PAGES)
def test_each_page_leads_to_the_others(page: Client, address: str) -> None:
    shown = page.get(address).text
    links = re.findall(r'<a class="button quiet" href="([^"]+)"( aria-current="page")?>', shown)
    assert [link for link, _ in links] == PAGES
    assert [link for link, current in links if current] == [address]


class TestSnapshotForPolling:
    pytestmark = pytest.mark.django_db(transaction=True)

    @pytest.fixture
    def desk(self, transactional_db: None) -> Desk:
        return make_desk()

    async def test_it_answers_the_frame_the_socket_would_send(self, desk: Desk) -> None:
        live_cache.last_known.remember([quote()])
        client = AsyncClient()
        await client.aforce_login(desk.user)
        answer = await client.get("/api/live/snapshot")
        assert answer.status_code == 200
        assert answer.headers["Content-Type"] == "application/json"
        assert "no-store" in answer.headers["Cache-Control"]
        frame, data = check_frame(answer.content)
        assert frame.type == "snapshot"
        assert abs(frame.timestamp - time.time()) < 60
        assert [bot.name for bot in data.bots] == ["alice's majors"]
        assert [known.market for known in data.quotes] == ["binance-sim:BTC/USDT"]

    async def test_without_a_session_and_for_another_desk_it_refuses(self, desk: Desk) -> None:
        client = AsyncClient()
        assert (await client.get("/api/live/snapshot")).status_code == 401
        await client.aforce_login(desk.user)
        refused = await client.get(f"/api/live/snapshot?owner={desk.user.pk + 1}")
        assert refused.status_code == 403
        assert "operators" in msgspec.json.decode(refused.content)["error"]
        assert (await client.post("/api/live/snapshot")).status_code == 405
