"""Trades by hand over HTTP: what is accepted once, and what is refused with its field, limit and what was given."""

from __future__ import annotations

import json
import time
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import pytest
from django.conf import settings
from django.db import connection
from django.test import Client

from bots import live_cache
from bots.models import Bot, Command
from bots.services.api_tokens import api_token_create
from bots.services.commands import command_finish
from tests.api.conftest import Caller, fields
from tests.live.desk import Desk, make_desk, make_user

pytestmark = [pytest.mark.django_db(transaction=True), pytest.mark.database]


def test_a_trade_is_accepted_and_can_be_followed(desk: Desk, alice: Caller, order) -> None:
    answer = alice.post("/api/manual-trade", order(take_profit_percent="2", stop_loss="49000"), key="first")
    assert answer.status_code == 202
    told = answer.json()
    assert (told["status"], told["idempotency_key"]) == ("pending", "first")
    assert told["estimate"]["environment"] == "paper"
    command = Command.objects.get(pk=told["command_id"], kind="manual_trade")
    assert command.payload["quantity"] == "0.01"
    assert Bot.objects.get(strategy="manual").desired_state == "running"
    followed = alice.get(f"/api/manual-trade/{command.pk}").json()
    assert (followed["status"], followed["progress"]["step"]) == ("pending", "connecting")
    command_finish(command_id=command.pk, failed=True, result="The limit of the day is reached.")
    followed = alice.get(f"/api/manual-trade/{command.pk}").json()
    assert (followed["progress"]["step"], followed["progress"]["message"]) == (
        "failed",
        "The limit of the day is reached.",
    )


def test_trading_by_hand_is_started_by_a_program_once(desk: Desk, alice: Caller) -> None:
    first = alice.post("/api/manual-trade/start", {"mode": "paper"}, key="yes")
    assert first.status_code == 202
    bot = Bot.objects.get(strategy="manual", mode="paper", owner=desk.user)
    assert (first.json()["id"], first.json()["desired"], bot.desired_state) == (bot.pk, "running", "running")
    assert alice.post("/api/manual-trade/start", {"mode": "paper"}, key="yes").json() == first.json()
    assert alice.post("/api/manual-trade/start", {"mode": "paper"}, key="again").json()["changed"] is False
    assert alice.post("/api/manual-trade/start", {"mode": "live"}, key="yes").status_code == 409
    assert Command.objects.filter(kind="bot_start", payload__bot_id=bot.pk).count() == 1
    assert "data-running" in alice.client.get("/desk/trade/", {"mode": "paper"}).text


def test_a_click_takes_few_queries(desk: Desk, order, django_assert_max_num_queries: Any) -> None:
    _, token = api_token_create(owner=desk.user, actor=None, name="program")
    program = Caller(token=token)
    program.post("/api/manual-trade", order())  # starts the bot
    # Who asks, the answer's row, what is asked for, the balance (and whether any is known), the command, the answer;
    # SQLite counts the transaction's beginning too.
    with django_assert_max_num_queries(8):
        assert program.post("/api/manual-trade", order()).status_code == 202


@pytest.mark.usefixtures("desk")
def test_what_keeps_it_from_being_started_is_told_and_leaves_nothing(alice: Caller) -> None:
    refused = alice.post("/api/manual-trade/start", {"mode": "live"})
    assert refused.status_code == 409
    assert "credentials" in refused.json()["detail"]  # no account has a key
    assert alice.post("/api/manual-trade/start", {"mode": "both"}).status_code == 400
    assert not Bot.objects.filter(strategy="manual").exists()


def test_nobody_else_starts_it(desk: Desk) -> None:
    answer = Caller(make_user("bob")).post(f"/api/manual-trade/start?owner={desk.user.pk}", {"mode": "paper"})
    assert answer.status_code == 403
    assert not Bot.objects.filter(strategy="manual").exists()


def test_others_cannot_follow_it(desk: Desk, alice: Caller, order) -> None:
    number = alice.post("/api/manual-trade", order()).json()["command_id"]
    assert Caller(make_user("bob")).get(f"/api/manual-trade/{number}").status_code == 404
    operator = Caller(make_user("olivia", operator=True))
    assert operator.get(f"/api/manual-trade/{number}", owner=desk.user.pk).status_code == 200


def test_a_double_click_is_one_order(alice: Caller, order) -> None:
    body = order()
    first, again = alice.post("/api/manual-trade", body, key="k"), alice.post("/api/manual-trade", body, key="k")
    assert first.json() == again.json()
    assert Command.objects.filter(kind="manual_trade").count() == 1
    # The same in another spelling is the same.
    spelled = json.dumps(dict(reversed(body.items())), indent=3)
    assert alice.post("/api/manual-trade", spelled, key="k").json() == first.json()


def test_two_tabs_at_one_moment_are_one_order(desk: Desk, order) -> None:
    body = order()

    def tab(_: int) -> dict[str, Any]:
        try:
            return Caller(desk.user).post("/api/manual-trade", body, key="both").json()
        finally:
            connection.close()

    with ThreadPoolExecutor(4) as pool:
        told = list(pool.map(tab, range(4)))
    assert {answer["command_id"] for answer in told} == {told[0]["command_id"]}
    assert Command.objects.filter(kind="manual_trade").count() == 1


def test_a_key_used_again_for_something_else_is_refused_and_nothing_is_sent(alice: Caller, order) -> None:
    alice.post("/api/manual-trade", order(), key="k")
    for body in (order(amount="0.02"), order(side="sell")):
        assert alice.post("/api/manual-trade", body, key="k").status_code == 409
    assert alice.post("/api/manual-trade-ws", order(), key="k").status_code == 409
    assert alice.post("/api/manual-trade/close", {"trade_id": "x"}, key="k").status_code == 409
    assert Command.objects.filter(kind__startswith="manual").count() == 1


@pytest.mark.parametrize(
    ("changes", "field", "limit"),
    [
        pytest.param({"amount": "0.000001"}, "amount", "0.00001", id="below-minimum"),
        pytest.param({"amount": "0.0123456"}, "amount", "0.00001", id="off-step"),
        pytest.param({"amount": "1000"}, "amount", "60000.25", id="insufficient-balance"),
        pytest.param({"amount": "0"}, "amount", "", id="zero"),
        pytest.param({"amount": "-1"}, "amount", "", id="negative"),
        pytest.param({"amount": "NaN"}, "amount", "", id="nan"),
        pytest.param({"amount": "1e400"}, "amount", "", id="huge"),
        pytest.param({"amount": 0.01}, "amount", "", id="a-number"),
        pytest.param({"amount": "1_0"}, "amount", "", id="underscore"),
        pytest.param({"amount": "9" * 65}, "amount", "64", id="too-long"),
        pytest.param({"leverage": 0}, "leverage", "1", id="leverage-zero"),
        pytest.param({"leverage": 1001}, "leverage", "1000", id="leverage-high"),
        pytest.param({"leverage": 5}, "leverage", "1", id="leverage-on-spot"),
        pytest.param({"leverage": "5"}, "leverage", "", id="leverage-text"),
        pytest.param({"take_profit": "49000"}, "take_profit", "50007.5", id="profit-on-the-wrong-side"),
        pytest.param({"stop_loss": "51000"}, "stop_loss", "50007.5", id="loss-on-the-wrong-side"),
        pytest.param({"stop_loss_percent": "100"}, "stop_loss_percent", "100", id="all-lost"),
        pytest.param({"take_profit": "52000.05"}, "take_profit", "0.1", id="off-tick"),
        pytest.param({"symbol": "DOGE/USDT"}, "symbol", "", id="unknown-symbol"),
        pytest.param({"symbol": ""}, "symbol", "1", id="no-symbol"),
        pytest.param({"symbol": "x" * 65}, "symbol", "64", id="long-symbol"),
        pytest.param({"account_id": 10**9}, "account_id", "", id="unknown-account"),
        pytest.param({"account_id": 2**70}, "account_id", str(2**63 - 1), id="no-id"),
        pytest.param({"mode": "live"}, "mode", "paper", id="mode-mismatch"),
        pytest.param({"mode": "both"}, "mode", "'paper' or 'live'", id="no-mode"),
        pytest.param({"side": "short"}, "side", "buy, sell, long", id="short-on-spot"),
        pytest.param({"side": "up"}, "side", "'buy', 'sell', 'long' or 'short'", id="no-side"),
        pytest.param({"order": "stop"}, "order", "'adaptive' or 'market'", id="no-order"),
        pytest.param({"timeout_seconds": 601}, "timeout_seconds", "600", id="timeout"),
        pytest.param({"price": "1"}, "price", "", id="unknown-field"),
    ],
)
def test_bad_input_is_told_by_field(alice: Caller, order, changes: dict[str, Any], field: str, limit: str) -> None:
    answer = alice.post("/api/manual-trade", order(**changes))
    assert answer.status_code == 400
    error = fields(answer)[field]
    assert error["limit"] == limit
    assert error["message"]
    assert not Command.objects.filter(kind="manual_trade").exists()


@pytest.mark.parametrize("missing", ["mode", "account_id", "symbol", "side", "amount"])
def test_what_is_missing_is_named(alice: Caller, order, missing: str) -> None:
    assert missing in fields(alice.post("/api/manual-trade", order(**{missing: None})))


@pytest.mark.parametrize("body", ["", "garbage", "[]", "null", '"x"', "{", "[" * 10_000, "\x00", '{"amount": NaN}'])
def test_what_is_not_an_object_of_json_is_refused(alice: Caller, body: str) -> None:
    assert alice.post("/api/manual-trade", body).status_code == 400


@pytest.mark.parametrize("kind", ["text/plain", "multipart/form-data", "application/x-www-form-urlencoded"])
def test_what_is_not_called_json_is_refused_and_nothing_is_sent(desk: Desk, order, kind: str) -> None:
    alice = Client(enforce_csrf_checks=True)  # the token is looked for in forms, too
    alice.force_login(desk.user)
    alice.cookies[settings.CSRF_COOKIE_NAME] = token = "x" * 32
    headers = {"Idempotency-Key": "k", "X-CSRFToken": token}
    told = alice.post("/api/manual-trade", json.dumps(order()).encode(), content_type=kind, headers=headers)
    assert (told.status_code, told["Content-Type"]) == (415, "application/problem+json")
    (error,) = told.json()["errors"]
    assert (error["field"], error["limit"], error["given"]) == ("Content-Type", "application/json", kind)
    assert not Command.objects.exists()


def test_a_megabyte_is_refused_and_others_go_on(alice: Caller, order) -> None:
    large = json.dumps(order(symbol="x" * 1_000_000))
    for address in (
        "/api/manual-trade",
        "/api/manual-trade/close",
        "/api/manual-trade-ws",
        "/api/manual-trade/estimate",
    ):
        assert alice.post(address, large).status_code == 413
    assert alice.post("/api/manual-trade", order()).status_code == 202


def test_anothers_account_and_trade_are_not_there(desk: Desk, alice: Caller, order) -> None:
    other = make_desk("bob")
    body = order(account_id=other.accounts["binance-sim"].pk)
    assert "account_id" in fields(alice.post("/api/manual-trade", body))
    theirs = other.trade(state="HOLDING")
    assert "trade_id" in fields(alice.post("/api/manual-trade/close", {"trade_id": theirs.trade_id}))


def test_an_estimate_does_nothing_and_says_what_speaks_against_it(alice: Caller, order) -> None:
    told = alice.post("/api/manual-trade/estimate", order(order="market")).json()
    assert (told["price"], told["notional"], told["path"]) == ("50010", "500.1", "paper")
    assert told["refusals"] == []
    refused = alice.post("/api/manual-trade/estimate", order(amount="0.0123456")).json()
    assert "0.00001" in refused["refusals"][0]
    assert not Command.objects.exists()
    assert not Bot.objects.filter(strategy="manual").exists()


def test_websocket_only_is_refused_while_the_accounts_connection_does_not_stand(
    desk: Desk, alice: Caller, order
) -> None:
    refused = alice.post("/api/manual-trade-ws", order(mode="live"))
    assert refused.status_code == 409
    assert "engine does not run" in refused.json()["detail"]
    account = desk.accounts["binance-sim"]
    told = {
        "account_id": account.pk, "account": "main", "exchange": "binance-sim", "environment": "simulated",
        "state": "live", "reason": "", "path": "rest", "path_reason": "the connection was lost", "answer_ms": 5.0,
    }  # fmt: skip
    data = {"owner_id": desk.user.pk, "at": time.time(), "accounts": [told]}
    live_cache.last_known.remember([{"kind": "health", "key": str(desk.user.pk), "data": data}])
    refused = alice.post("/api/manual-trade-ws", order(mode="live"))
    assert "the connection was lost" in fields(refused)["account_id"]["message"]
    assert not Command.objects.exists()


def test_only_an_operator_asks_for_another(desk: Desk, order) -> None:
    body = order()
    address = f"/api/manual-trade?owner={desk.user.pk}"
    assert Caller(make_user("bob")).post(address, body).status_code == 403
    assert Caller(make_user("olivia", operator=True)).post(address, body).status_code == 202
    assert Command.objects.get(kind="manual_trade").owner_id == desk.user.pk
