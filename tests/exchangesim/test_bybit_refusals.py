"""What the simulated Bybit refuses, with which code and status: signatures, windows, parameters, limits."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Iterator
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from tests.exchangesim.bybit_client import (
    authentication,
    bybit_call,
    bybit_simulator,
    bybit_socket,
    command,
    now_ms,
    order,
    sign,
    still_book,
)
from tests.exchangesim.raw_socket import raw_socket
from tests.exchangesim.simulator import Credentials, Simulator, running_simulator

__all__ = ["bybit_simulator"]
WALLET = "/v5/account/wallet-balance?accountType=UNIFIED"
CREATE = "/v5/order/create"


@pytest.fixture
def credentials(bybit_simulator: Simulator) -> Credentials:
    still_book(bybit_simulator)
    return bybit_simulator.account("bybit", balances={"USDT": "10000", "AAA": "10"})


@pytest.mark.parametrize(
    ("headers", "code"),
    [
        ({"X-BAPI-API-KEY": ""}, 10001),
        ({"X-BAPI-SIGN": ""}, 10001),
        ({"X-BAPI-TIMESTAMP": ""}, 10001),
        ({"X-BAPI-TIMESTAMP": "yesterday"}, 10001),
        ({"X-BAPI-API-KEY": "unknown"}, 10003),
        ({"X-BAPI-SIGN": "00"}, 10004),
        ({"X-BAPI-SIGN": "\u00e9\u00e9"}, 10004),
        ({"X-BAPI-RECV-WINDOW": "6000"}, 10004),
    ],
)
async def test_unsigned_and_missigned_requests_are_refused(
    bybit_simulator: Simulator, credentials: Credentials, headers: dict[str, str], code: int
) -> None:
    status, answer, _ = await bybit_call(bybit_simulator, credentials, "GET", WALLET, headers=headers)
    assert (status, answer["retCode"], answer["result"]) == (200, code, {})
    assert credentials.secret not in str(answer)


async def test_the_signature_covers_query_and_body(bybit_simulator: Simulator, credentials: Credentials) -> None:
    stamp = str(now_ms())
    for payload in ("accountType=UNIFIED&coin=BTC", "", "accountType=UNIFIED "):
        text = f"{stamp}{credentials.api_key}5000{payload}"
        headers = {"X-BAPI-TIMESTAMP": stamp, "X-BAPI-SIGN": sign(credentials.secret, text)}
        _, answer, _ = await bybit_call(bybit_simulator, credentials, "GET", WALLET, headers=headers)
        assert answer["retCode"] == 10004
    spaced = json.dumps(order(), indent=1)
    text = f"{stamp}{credentials.api_key}5000{json.dumps(order())}"
    headers = {"X-BAPI-TIMESTAMP": stamp, "X-BAPI-SIGN": sign(credentials.secret, text)}
    _, answer, _ = await bybit_call(bybit_simulator, credentials, "POST", CREATE, spaced, headers=headers)
    assert answer["retCode"] == 10004


@pytest.mark.parametrize(
    ("late_ms", "window_ms", "code"),
    [
        (0, 5000, 0),
        (4000, None, 0),
        (5500, None, 10002),
        (5500, 10_000, 0),
        (10_500, 10_000, 10002),
        (-500, 5000, 0),
        (-2000, 5000, 10002),
    ],
)
async def test_requests_are_accepted_within_their_window(
    bybit_simulator: Simulator, credentials: Credentials, late_ms: int, window_ms: int | None, code: int
) -> None:
    _, answer, _ = await bybit_call(bybit_simulator, credentials, "GET", WALLET, late_ms=late_ms, window_ms=window_ms)
    assert answer["retCode"] == code


async def test_keys_without_the_right_to_trade_may_only_read(bybit_simulator: Simulator) -> None:
    reader = bybit_simulator.account("bybit", balances={"USDT": "100"}, permissions=("read",))
    assert (await bybit_call(bybit_simulator, reader, "GET", WALLET))[1]["retCode"] == 0
    assert (await bybit_call(bybit_simulator, reader, "POST", CREATE, order()))[1]["retCode"] == 10005
    _, info, _ = await bybit_call(bybit_simulator, reader, "GET", "/v5/user/query-api")
    assert (info["result"]["readOnly"], info["result"]["permissions"]["Spot"]) == (1, [])
    async with bybit_socket(bybit_simulator, "trade", reader) as socket:
        await socket.send(command("order.create", "1", order()))
        assert (await socket.next())["retCode"] == 10005


@pytest.mark.parametrize("over_socket", [False, True])
@pytest.mark.parametrize(
    ("fields", "code"),
    [
        ({"category": "margin"}, 10001),
        ({"category": "linear"}, 10001),
        ({"symbol": ""}, 170105),
        ({"symbol": "NOSUCH"}, 170121),
        ({"side": "Hold"}, 170117),
        ({"orderType": "Stop"}, 170116),
        ({"timeInForce": "Forever"}, 170115),
        ({"qty": ""}, 170105),
        ({"qty": "0"}, 170130),
        ({"qty": "-1"}, 170130),
        ({"qty": "1e3"}, 170130),
        ({"qty": "NaN"}, 170130),
        ({"qty": "0.0001"}, 170136),
        ({"qty": "1.0005"}, 170137),
        ({"qty": "9001"}, 170124),
        ({"qty": "0.01"}, 170140),
        ({"price": ""}, 170105),
        ({"price": "99.999"}, 170134),
        ({"price": "1000"}, 170372),
        ({"price": "1"}, 170371),
        ({"qty": "1000"}, 170131),
        ({"side": "Sell", "qty": "11", "price": "110"}, 170131),
        ({"orderLinkId": "not allowed"}, 170130),
        ({"orderLinkId": "a" * 37}, 170130),
        ({"orderFilter": "tpslOrder"}, 170203),
        ({"orderFilter": "nonsense"}, 170202),
        ({"triggerPrice": "95"}, 170202),
        ({"takeProfit": "80"}, 170130),
        ({"stopLoss": "95"}, 170130),
        ({"takeProfit": "110", "orderType": "Market", "price": ""}, 10001),
        ({"takeProfit": "110", "tpOrderType": "Limit"}, 170130),
        ({"isLeverage": "1"}, 170036),
        ({"orderType": "Market", "marketUnit": "moon"}, 170130),
    ],
)
async def test_wrong_orders_are_refused_with_documented_codes(
    bybit_simulator: Simulator, credentials: Credentials, fields: dict[str, str], code: int, over_socket: bool
) -> None:
    if over_socket:
        async with bybit_socket(bybit_simulator, "trade", credentials) as socket:
            await socket.send(command("order.create", "1", order(**fields)))
            answer = await socket.next()
        assert answer["data"] == {}
    else:
        _, answer, _ = await bybit_call(bybit_simulator, credentials, "POST", CREATE, order(**fields))
    assert answer["retCode"] == code
    assert answer["retMsg"]
    assert bybit_simulator.orders("bybit", api_key=credentials.api_key) == []


async def test_a_batch_says_of_each_order_whether_it_was_placed(
    bybit_simulator: Simulator, credentials: Credentials
) -> None:
    requests = [order(orderLinkId="good"), order(orderLinkId="bad", qty="0")]
    body = {"category": "spot", "request": requests}
    _, answer, _ = await bybit_call(bybit_simulator, credentials, "POST", "/v5/order/create-batch", body)
    assert answer["retCode"] == 0
    assert [row["orderLinkId"] for row in answer["result"]["list"]] == ["good", "bad"]
    assert [row["orderId"] != "" for row in answer["result"]["list"]] == [True, False]
    assert [row["code"] for row in answer["retExtInfo"]["list"]] == [0, 170130]
    body["request"] = [order()] * 11
    _, answer, _ = await bybit_call(bybit_simulator, credentials, "POST", "/v5/order/create-batch", body)
    assert answer["retCode"] == 10001


@pytest.mark.parametrize("operation", ["cancel", "amend"])
async def test_closed_orders_cannot_be_cancelled_or_amended(
    bybit_simulator: Simulator, credentials: Credentials, operation: str
) -> None:
    filled = order(timeInForce="IOC", price="100.1", qty="1")
    _, placed, _ = await bybit_call(bybit_simulator, credentials, "POST", CREATE, filled)
    reference = {"category": "spot", "symbol": "AAAUSDT", "orderId": placed["result"]["orderId"], "qty": "2"}
    _, answer, _ = await bybit_call(bybit_simulator, credentials, "POST", f"/v5/order/{operation}", reference)
    assert answer["retCode"] == 170213


@pytest.mark.parametrize(
    ("path", "status", "code"),
    [
        ("/v5/nothing/here", 404, 10017),
        ("/v5/order/create", 404, 10017),
        ("/v5/market/tickers", 200, 10001),
        ("/v5/market/tickers?category=bonds", 200, 10001),
        ("/v5/market/orderbook?category=spot", 200, 170105),
        ("/v5/market/orderbook?category=spot&symbol=NOSUCH", 200, 170121),
        ("/v5/market/orderbook?category=spot&symbol=AAAUSDT&limit=x", 200, 10001),
    ],
)
async def test_wrong_public_requests_are_refused(bybit_simulator: Simulator, path: str, status: int, code: int) -> None:
    got, answer, _ = await bybit_call(bybit_simulator, None, "GET", path)
    assert (got, answer["retCode"]) == (status, code)


@pytest.mark.parametrize("body", ["", "{", "[]", "null", "7"])
async def test_bodies_that_are_no_order_are_refused(
    bybit_simulator: Simulator, credentials: Credentials, body: str
) -> None:
    status, answer, _ = await bybit_call(bybit_simulator, credentials, "POST", CREATE, body)
    assert (status, answer["retCode"]) == (200, 10001)


@pytest.fixture(scope="module")
def strict_simulator() -> Iterator[Simulator]:
    """A Bybit that refuses what is over its limits."""
    with running_simulator("--exchanges", "bybit", "--symbols", "AAA/USDT=100") as running:
        yield running


async def test_limits_are_told_in_headers_and_then_refused(strict_simulator: Simulator) -> None:
    """Twenty a second; the orders are sent at once, so that a slow machine does not stretch them over more."""
    credentials = strict_simulator.account("bybit", balances={"USDT": "100000"})
    answers = await asyncio.gather(
        *(bybit_call(strict_simulator, credentials, "POST", CREATE, order()) for _ in range(80))
    )
    assert {headers["X-Bapi-Limit"] for _, _, headers in answers} == {"20"}
    left = [int(headers["X-Bapi-Limit-Status"]) for _, answer, headers in answers if answer["retCode"] == 0]
    assert set(left) == set(range(20))
    refused = [(answer, headers) for _, answer, headers in answers if answer["retCode"] == 10006]
    assert refused
    for answer, headers in refused:
        assert headers["X-Bapi-Limit-Status"] == "0"
        assert int(headers["X-Bapi-Limit-Reset-Timestamp"]) > answer["time"] - 1000
    assert len(strict_simulator.orders("bybit", api_key=credentials.api_key)) == len(left)


async def test_socket_orders_share_the_limit_of_rest(strict_simulator: Simulator) -> None:
    credentials = strict_simulator.account("bybit", balances={"USDT": "100000"})
    async with bybit_socket(strict_simulator, "trade", credentials) as socket:
        await socket.send(command("order.create", "1", order()))
        first = await socket.next()
        _, _, headers = await bybit_call(strict_simulator, credentials, "POST", CREATE, order())
    assert int(first["header"]["X-Bapi-Limit-Status"]) == 19
    assert int(headers["X-Bapi-Limit-Status"]) in (18, 19)  # 19 when a new second has begun in between


async def test_socket_orders_over_the_limit_are_refused(strict_simulator: Simulator) -> None:
    credentials = strict_simulator.account("bybit", balances={"USDT": "100000"})
    async with bybit_socket(strict_simulator, "trade", credentials) as socket:
        for number in range(60):
            await socket.send(command("order.create", str(number), order()))
        answers = [await socket.next() for _ in range(60)]
    refused = [answer for answer in answers if answer["retCode"] == 10006]
    assert refused
    assert refused[0]["header"]["X-Bapi-Limit-Status"] == "0"


@pytest.mark.parametrize("path", ["private", "trade"])
async def test_authentication_is_refused_with_reasons(
    bybit_simulator: Simulator, credentials: Credentials, path: str
) -> None:
    unknown = authentication(credentials)
    unknown["args"][0] = "unknown"
    wrong = authentication(credentials)
    wrong["args"][2] = "00"
    expired = authentication(credentials, expires_in_ms=-1)
    for message, text, code in ((unknown, "apikey", 10003), (wrong, "sign", 10004), (expired, "expires", 10001)):
        async with bybit_socket(bybit_simulator, path) as socket:
            await socket.send(message)
            answer = await socket.next()
        if path == "private":
            assert not answer["success"]
            assert text in answer["ret_msg"]
        else:
            assert answer["retCode"] == code
        assert answer["op"] == "auth"


@pytest.mark.parametrize(
    ("path", "message", "reason"),
    [
        ("public/spot", {"op": "subscribe", "args": ["orderbook.7.AAAUSDT"]}, "handler not found"),
        ("public/spot", {"op": "subscribe", "args": ["orderbook.50"]}, "handler not found"),
        ("public/spot", {"op": "subscribe", "args": ["order"]}, "handler not found"),
        ("public/spot", {"op": "subscribe", "args": ["tickers.NOSUCH"]}, "Invalid symbol"),
        ("public/spot", {"op": "subscribe", "args": ["tickers.AAAUSDT"] * 11}, "args size"),
        ("public/spot", {"op": "subscribe", "args": []}, "args"),
        ("public/spot", {"op": "sing"}, "invalid op"),
        ("public/spot", "{", "invalid JSON"),
        ("private", {"op": "subscribe", "args": ["order"]}, "not authorized"),
    ],
)
async def test_wrong_socket_requests_are_answered_with_reasons(
    bybit_simulator: Simulator, path: str, message: Any, reason: str
) -> None:
    async with bybit_socket(bybit_simulator, path) as socket:
        await socket.send(message)
        answer = await socket.next()
    assert not answer["success"]
    assert reason in answer["ret_msg"]


async def test_private_topics_cannot_be_subscribed_whole_and_by_category_at_once(
    bybit_simulator: Simulator, credentials: Credentials
) -> None:
    async with bybit_socket(bybit_simulator, "private", credentials) as socket:
        await socket.send({"op": "subscribe", "args": ["order", "order.spot"]})
        assert not (await socket.next())["success"]
        await socket.send({"op": "subscribe", "args": ["ordre"]})
        assert "ordre" in (await socket.next())["ret_msg"]


@pytest.mark.parametrize(
    ("change", "code"),
    [
        ({"op": "order.sing"}, 10404),
        ({"args": []}, 10001),
        ({"header": {}}, 10001),
        ({"header": {"X-BAPI-TIMESTAMP": "1"}}, 10002),
    ],
)
async def test_wrong_order_commands_are_refused(
    bybit_simulator: Simulator, credentials: Credentials, change: dict[str, Any], code: int
) -> None:
    async with bybit_socket(bybit_simulator, "trade", credentials) as socket:
        await socket.send(command("order.create", "1", order()) | change)
        answer = await socket.next()
    assert (answer["reqId"], answer["retCode"]) == ("1", code)


async def test_request_ids_cannot_be_used_twice_and_orders_need_authentication(
    bybit_simulator: Simulator, credentials: Credentials
) -> None:
    async with bybit_socket(bybit_simulator, "trade") as socket:
        await socket.send(command("order.create", "1", order()))
        assert (await socket.next())["retCode"] == 10005
        await socket.send(authentication(credentials))
        assert (await socket.next())["retCode"] == 0
        await socket.send(authentication(credentials))
        assert (await socket.next())["retCode"] == 20001
        await socket.send(command("order.create", "1", order()))
        assert (await socket.next())["retCode"] == 0
        await socket.send(command("order.create", "1", order()))
        assert (await socket.next())["retCode"] == 20006


JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False) | st.text(max_size=20),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(max_size=8), inner, max_size=4),
    max_leaves=12,
)
FUZZ = settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
STOPS = ["triggerPrice", "takeProfit", "stopLoss", "tpOrderType", "tpLimitPrice"]
FIELDS = sorted([*order(), "orderLinkId", "marketUnit", "timeInForce", "isLeverage", "orderFilter", *STOPS])


@FUZZ
@given(body=st.dictionaries(st.sampled_from(FIELDS), JSON, max_size=8))
async def test_no_order_body_breaks_the_exchange(
    bybit_simulator: Simulator, credentials: Credentials, body: dict[str, Any]
) -> None:
    status, answer, _ = await bybit_call(bybit_simulator, credentials, "POST", CREATE, order() | body)
    assert status == 200
    assert answer["retCode"] == 0 or answer["retMsg"]


@FUZZ
@given(
    path=st.sampled_from(["public/spot", "private", "trade"]),
    messages=st.lists(JSON | st.text(max_size=40) | st.binary(max_size=20), max_size=5),
)
async def test_no_message_breaks_a_socket(bybit_simulator: Simulator, path: str, messages: list[Any]) -> None:
    async with raw_socket(f"{bybit_simulator.ws['bybit']}/v5/{path}") as socket:
        for message in messages:
            await socket.send(message)
            for operation in (message, "auth", "subscribe", "unsubscribe", "order.create"):
                if not isinstance(message, bytes):
                    await socket.send({"op": operation, "args": message, "header": message, "reqId": message})
        await socket.send({"op": "ping"})
        await socket.until(lambda m: isinstance(m, dict) and ("pong" in (m.get("op"), m.get("ret_msg"))))
