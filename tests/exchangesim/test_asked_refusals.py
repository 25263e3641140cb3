"""Faults of the wire on every face: refusals in the exchange's own words, throttles, late, doubled and stale calls."""

from __future__ import annotations

import asyncio
import json
import time
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import aiohttp
import pytest
import pytest_asyncio

from exchangesim.core.faults import REASONS
from tests.exchangesim.raw_socket import eventually, raw_socket
from tests.exchangesim.simulator import (
    ControlFailure,
    Credentials,
    Simulator,
    running_simulator,
    shared_simulator,  # noqa: F401
)

NAMES = ("binance", "okx", "bybit")
TIME_PATHS = {"binance": "/api/v3/time", "okx": "/api/v5/public/time", "bybit": "/v5/market/time"}
# HTTP status and code of each reason, as the exchanges document them.
WANTED: dict[str, dict[str, tuple[int, object]]] = {
    "backend_timeout": {"binance": (400, -1007), "okx": (200, "50004"), "bybit": (200, 10000)},
    "unexpected": {"binance": (400, -1006), "okx": (500, "50026"), "bybit": (200, 170007)},
    "busy": {"binance": (503, -1008), "okx": (503, "50013"), "bybit": (429, 429)},
    "maintenance": {"binance": (503, -1016), "okx": (503, "50001"), "bybit": (200, 10016)},
    "rate_limited": {"binance": (429, -1003), "okx": (429, "50011"), "bybit": (200, 10006)},
    "banned": {"binance": (418, -1003), "okx": (429, "50011"), "bybit": (403, 10018)},
    "duplicate_client_id": {"binance": (400, -2010), "okx": (200, "51016"), "bybit": (200, 170141)},
    "insufficient_balance": {"binance": (400, -2010), "okx": (200, "51008"), "bybit": (200, 170131)},
    "market_closed": {"binance": (400, -2010), "okx": (200, "51022"), "bybit": (200, 170157)},
    "account_restricted": {"binance": (400, -2010), "okx": (200, "50007"), "bybit": (200, 10027)},
    "key_revoked": {"binance": (401, -2015), "okx": (401, "50111"), "bybit": (200, 10003)},
    "ip_not_allowed": {"binance": (401, -2015), "okx": (401, "50110"), "bybit": (200, 10010)},
    "permission": {"binance": (401, -2015), "okx": (401, "50120"), "bybit": (200, 10005)},
}

pytestmark = pytest.mark.asyncio(loop_scope="module")


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def session() -> AsyncIterator[aiohttp.ClientSession]:
    async with aiohttp.ClientSession() as opened:
        opened._retry_connection = False  # else a GET that is lost is sent again, unasked
        yield opened


@pytest.fixture
def simulator(shared_simulator: Simulator) -> Simulator:  # noqa: F811
    shared_simulator.clear_faults()
    return shared_simulator


async def ask_time(simulator: Simulator, session: aiohttp.ClientSession, name: str) -> tuple[int, Any, Any]:
    async with session.get(simulator.rest[name] + TIME_PATHS[name]) as answer:
        return answer.status, json.loads(await answer.read()), answer.headers


def code_of(body: Any) -> object:
    if body.get("data") and "sCode" in body["data"][0]:
        return body["data"][0]["sCode"]
    return body["code"] if "code" in body else body["retCode"]


@pytest.mark.parametrize("name", NAMES)
async def test_every_reason_has_its_documented_form(
    simulator: Simulator, session: aiohttp.ClientSession, name: str
) -> None:
    assert WANTED.keys() == set(REASONS)
    for reason, faces in WANTED.items():
        simulator.fault("refuse", exchange=name, operation="GET *", count=1, parameters={"reason": reason})
        status, body, _ = await ask_time(simulator, session, name)
        assert (status, code_of(body)) == faces[name], reason
        assert body.get("msg") or body.get("retMsg") or body["data"][0]["sMsg"]
    assert (await ask_time(simulator, session, name))[0] == 200


async def test_a_throttle_lasts_its_time_and_grows_to_a_ban_when_ignored(
    simulator: Simulator, session: aiohttp.ClientSession
) -> None:
    throttle = {"retry_after": 600, "tolerated": 1, "ban": 600}
    simulator.fault("throttle", exchange="binance", operation="GET *", parameters=throttle)
    answers = [await ask_time(simulator, session, "binance") for _ in range(4)]
    assert [status for status, _, _ in answers] == [429, 429, 418, 418]
    assert 590 <= int(answers[0][2]["Retry-After"]) <= 600
    until = [int(body["msg"].split("banned until ")[1].split(".")[0]) for _, body, _ in answers[2:]]
    assert 590_000 < until[1] - until[0] < 610_000, "the second ban is twice the first"
    simulator.clear_faults()
    simulator.fault("throttle", exchange="binance", operation="GET *", parameters={"retry_after": 0.3})
    assert (await ask_time(simulator, session, "binance"))[0] == 429
    async with asyncio.timeout(60):
        status = 429
        while status == 429:
            await asyncio.sleep(0.05)
            status, _, _ = await ask_time(simulator, session, "binance")
    assert status == 200
    assert simulator.faults()[0]["count"], "spent, once its time is over"


@pytest.mark.parametrize("name", NAMES)
async def test_a_late_request_is_handled_after_its_client_has_gone(
    simulator: Simulator, session: aiohttp.ClientSession, name: str
) -> None:
    simulator.fault("late_request", exchange=name, operation="GET *", count=1, parameters={"ms": 20})
    with pytest.raises(aiohttp.ClientError):
        await ask_time(simulator, session, name)
    await eventually(lambda: bool(simulator.faults()[0]["unheard"]))
    assert code_of({"code": 0, **json.loads(simulator.faults()[0]["unheard"][0])}) in (0, "0")


@pytest.mark.parametrize("name", NAMES)
async def test_a_stale_answer_repeats_the_first(
    simulator: Simulator, session: aiohttp.ClientSession, name: str
) -> None:
    simulator.fault("stale_answer", exchange=name, operation="GET *")
    first = await ask_time(simulator, session, name)
    assert (await ask_time(simulator, session, name))[1] == first[1]
    simulator.clear_faults()
    assert (await ask_time(simulator, session, name))[1] != first[1]


@pytest.mark.parametrize("name", NAMES)
async def test_a_body_is_cut_in_the_middle_or_edited(
    simulator: Simulator, session: aiohttp.ClientSession, name: str
) -> None:
    simulator.fault("reset_body", exchange=name, operation="GET *", count=1, parameters={"bytes": 5})
    with pytest.raises(aiohttp.ClientError):
        await ask_time(simulator, session, name)
    changed = dict.fromkeys(("serverTime", "ts", "timeSecond"), "never")
    simulator.fault("edit", exchange=name, operation="GET *", count=1, parameters={"set": changed})
    assert "never" in str((await ask_time(simulator, session, name))[1])


@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize("action", ["cut", "close"])
async def test_public_sockets_are_cut_or_closed(simulator: Simulator, name: str, action: str) -> None:
    path = {"binance": "/ws", "okx": "/public", "bybit": "/v5/public/spot"}[name]
    async with raw_socket(simulator.ws[name] + path) as socket:
        assert simulator.disturb(name, action) == 1
        code, _ = await socket.closed()
        assert code == {"cut": 1006, "close": 1001}[action]


async def test_a_notice_comes_before_the_end(simulator: Simulator) -> None:
    async with raw_socket(simulator.ws["binance"] + "/ws") as socket:
        simulator.disturb("binance", "notice")
        assert (await socket.next())["e"] == "serverShutdown"
    async with raw_socket(simulator.ws["okx"] + "/public") as socket:
        simulator.disturb("okx", "notice")
        assert (await socket.next())["code"] == "64008"


@pytest.mark.parametrize("name", NAMES)
async def test_the_judge_sees_manual_orders_and_late_executions(simulator: Simulator, name: str) -> None:
    simulator.set_book(name, "BTC/USDT", bids=[("49990", "1")], asks=[("50000", "1")])
    keys: Credentials = simulator.account(name, balances={"USDT": "100000"})
    order = simulator.place_by_hand(keys, "BTC/USDT", "BUY", "0.5", "40000")
    fill = simulator.execute(name, order["id"], "0.1")
    assert (fill["quantity"], fill["price"]) == ("0.1", "40000")
    (row,) = simulator.orders(name, api_key=keys.api_key)
    assert (row["status"], row["filled"]) == ("PARTIALLY_FILLED", "0.1")
    simulator.set_rules(name, "BTC/USDT", min_notional="1000000")
    assert simulator.market(name, "BTC/USDT")["tick"]
    simulator.set_rules(name, "BTC/USDT", min_notional="0")


async def test_what_the_exchange_cannot_do_is_refused_in_one_sentence(simulator: Simulator) -> None:
    keys = simulator.account("bybit", balances={"USDT": "1"})
    market = {"exchange": "bybit", "symbol": "BTC/USDT"}
    wrong: list[tuple[str, dict[str, Any], int]] = [
        ("/sockets", {"exchange": "bybit", "action": "notice"}, 409),
        ("/sockets", {"exchange": "bybit", "action": "shout"}, 400),
        ("/keys", {"exchange": "bybit", "api_key": "nobody's"}, 404),
        ("/executions", {"exchange": "bybit", "order_id": "1", "quantity": "1"}, 404),
        ("/executions", {"exchange": "bybit", "order_id": "one", "quantity": "1"}, 404),
        ("/market", {**market, "rules": {"colour": "1"}}, 400),
        ("/market", {**market, "rules": {"tick": "-1"}}, 400),
        ("/market", {**market, "rules": {"tick": "0"}}, 400),
    ]
    order = {**market, "api_key": keys.api_key, "quantity": "1", "price": "50000"}
    wrong += [("/orders", {**order, "side": "BUY"}, 409), ("/orders", {**order, "side": "UP"}, 400)]
    for path, body, status in wrong:
        with pytest.raises(ControlFailure) as failure:
            simulator.call("POST", path, body)
        assert failure.value.status == status, (path, body)
        assert str(failure.value)


async def test_a_key_stays_revoked_when_the_exchange_starts_again(
    session: aiohttp.ClientSession, tmp_path: Path
) -> None:
    arguments = ("--exchanges", "okx", "--state", str(tmp_path))
    with running_simulator(*arguments) as before:
        keys = before.account("okx", balances={"USDT": "1"})
        before.revoke(keys)
    with running_simulator(*arguments) as after:
        stamp = {"OK-ACCESS-KEY": keys.api_key, "OK-ACCESS-SIGN": "x", "OK-ACCESS-PASSPHRASE": "x"}
        headers = {**stamp, "OK-ACCESS-TIMESTAMP": str(time.time())}
        async with session.get(after.rest["okx"] + "/api/v5/account/balance", headers=headers) as answer:
            assert json.loads(await answer.read())["code"] == "50111"
