"""The Binance protocol itself: signatures, windows, error codes, limits, stream frames, sessions."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator
from decimal import Decimal
from itertools import pairwise
from typing import Any

import aiohttp
import pytest
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat, PublicFormat

from tests.exchangesim.raw_binance import RawBinance, RawSocket, raw_binance, sign
from tests.exchangesim.simulator import (
    Credentials,
    Simulator,
    running_simulator,
    shared_simulator,  # noqa: F401
)

SYMBOL = "BTC/USDT"


@pytest.fixture
def simulator(shared_simulator: Simulator) -> Simulator:  # noqa: F811
    shared_simulator.clear_faults()
    shared_simulator.set_book(
        "binance", SYMBOL, bids=[("59990", "1"), ("59980", "1")], asks=[("60000", "1"), ("60010", "1")]
    )
    return shared_simulator


@pytest.fixture
def account(simulator: Simulator) -> Credentials:
    return simulator.account("binance", balances={"USDT": "1000000", "BTC": "10"})


@pytest.fixture
async def binance(simulator: Simulator, account: Credentials) -> AsyncIterator[RawBinance]:
    async with raw_binance(simulator, account) as client:
        yield client


def ed25519_account(simulator: Simulator) -> Credentials:
    """Register the public half of a new key pair; return the private half."""
    key = Ed25519PrivateKey.generate()
    public = key.public_key().public_bytes(Encoding.PEM, PublicFormat.SubjectPublicKeyInfo).decode()
    registered = simulator.account("binance", balances={"USDT": "1000000", "BTC": "10"}, secret=public)
    private = key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption()).decode()
    return Credentials("binance", registered.api_key, private)


async def _subscribe_often(socket: RawSocket) -> None:
    for _ in range(20):
        await socket.subscribe("btcusdt@trade")


async def _receive_for_ever(socket: RawSocket) -> None:
    while True:
        await socket.receive()


def code(body: Any) -> int:
    return int(body["code"])


# Signed requests


@pytest.mark.parametrize(
    ("change", "status", "expected"),
    [
        ({"signature": "0" * 64}, 400, -1022),
        ({"timestamp": None}, 400, -1102),
        ({"timestamp": "soon"}, 400, -1100),
        ({"timestamp": int(time.time() * 1000) - 3_600_000}, 400, -1021),
        ({"timestamp": int(time.time() * 1000) + 3_600_000}, 400, -1021),
        ({"recvWindow": 60001}, 400, -1131),
        ({"recvWindow": "x"}, 400, -1100),
        ({"surprise": 1}, 400, -1104),
    ],
)
async def test_a_signed_request_must_be_signed_fresh_and_known(
    binance: RawBinance, change: dict[str, Any], status: int, expected: int
) -> None:
    reply = await binance.signed("GET", "/api/v3/account", **change)
    assert (reply.status, code(reply.json)) == (status, expected)


async def test_the_signature_covers_every_byte_of_the_query(binance: RawBinance, account: Credentials) -> None:
    query = f"symbol=BTCUSDT&timestamp={int(time.time() * 1000)}"
    signature = sign(query, account.secret)
    headers = {"X-MBX-APIKEY": account.api_key}
    for sent, status in ((query, 200), (query.replace("BTCUSDT", "ETHUSDT"), 400)):
        url = f"{binance.rest}/api/v3/openOrders?{sent}&signature={signature.upper()}"
        async with binance.session.get(url, headers=headers) as answer:
            assert answer.status == status


async def test_parameters_may_come_in_the_body(binance: RawBinance, account: Credentials) -> None:
    stamp = int(time.time() * 1000)
    body = f"symbol=BTCUSDT&side=BUY&type=LIMIT&timeInForce=GTC&price=50000&quantity=0.01&timestamp={stamp}"
    async with binance.session.post(
        f"{binance.rest}/api/v3/order",
        data=f"{body}&signature={sign(body, account.secret)}",
        headers={"X-MBX-APIKEY": account.api_key, "Content-Type": "application/x-www-form-urlencoded"},
    ) as answer:
        assert (answer.status, (await answer.json())["status"]) == (200, "NEW")


async def test_keys_must_be_given_and_known(simulator: Simulator, binance: RawBinance) -> None:
    async with binance.session.get(f"{binance.rest}/api/v3/account?timestamp=1&signature=x") as answer:
        assert (answer.status, code(await answer.json())) == (401, -2014)
    async with raw_binance(simulator, Credentials("binance", "unknown", "secret")) as stranger:
        reply = await stranger.signed("GET", "/api/v3/account")
        assert (reply.status, code(reply.json)) == (401, -2015)


async def test_ed25519_keys_sign_requests(simulator: Simulator) -> None:
    async with raw_binance(simulator, ed25519_account(simulator)) as client:
        assert (await client.signed("GET", "/api/v3/account")).status == 200
        reply = await client.signed("GET", "/api/v3/account", signature="bm90IGEgc2lnbmF0dXJl")
        assert code(reply.json) == -1022


# Orders: what the gateway refuses


@pytest.mark.parametrize(
    ("order", "expected", "text"),
    [
        ({"symbol": None, "price": "1", "quantity": "1"}, -1102, "'symbol'"),
        ({"symbol": "NOSUCH", "price": "1", "quantity": "1"}, -1121, "Invalid symbol"),
        ({"symbol": "btcusdt", "price": "1", "quantity": "1"}, -1100, "'symbol'"),
        ({"side": "HOLD", "price": "1", "quantity": "1"}, -1117, "side"),
        ({"type": "GUESS", "price": "1", "quantity": "1"}, -1116, "orderType"),
        ({"type": "STOP_LOSS", "quantity": "1"}, -1106, "'timeInForce'"),
        ({"type": "STOP_LOSS", "quantity": "1", "timeInForce": None}, -1102, "'stopPrice'"),
        ({"price": "50000", "quantity": "1", "stopPrice": "5"}, -1106, "'stopPrice'"),
        ({"timeInForce": None, "price": "1", "quantity": "1"}, -1102, "'timeInForce'"),
        ({"timeInForce": "DAY", "price": "1", "quantity": "1"}, -1115, "timeInForce"),
        ({"quantity": "1"}, -1102, "'price'"),
        ({"price": "50000"}, -1102, "'quantity'"),
        ({"price": "50000", "quantity": ""}, -1105, "'quantity' was empty"),
        ({"price": "50000", "quantity": "-1"}, -1100, "'quantity'"),
        ({"price": "50000", "quantity": "1e3"}, -1100, "'quantity'"),
        ({"price": "NaN", "quantity": "1"}, -1100, "'price'"),
        ({"price": "50000", "quantity": "0.123456789"}, -1111, "'quantity' has too much precision"),
        ({"price": "50000.001", "quantity": "1"}, -1013, "PRICE_FILTER"),
        ({"price": "50000", "quantity": "0.000001"}, -1013, "LOT_SIZE"),
        ({"price": "50000", "quantity": "0.0000151"}, -1013, "LOT_SIZE"),
        ({"price": "50000", "quantity": "0.00009"}, -1013, "NOTIONAL"),
        ({"price": "1000000", "quantity": "1"}, -1013, "PERCENT_PRICE_BY_SIDE"),
        ({"price": "0", "quantity": "1"}, -1013, "price"),
        ({"price": "60000", "quantity": "100"}, -2010, "insufficient balance"),
        ({"price": "60000", "quantity": "1", "newClientOrderId": "no spaces"}, -1100, "newClientOrderId"),
        ({"price": "60000", "quantity": "1", "newClientOrderId": "x" * 37}, -1100, "newClientOrderId"),
        ({"price": "60000", "quantity": "1", "quoteOrderQty": "5"}, -1106, "'quoteOrderQty'"),
        ({"type": "MARKET", "quantity": "1"}, -1106, "'timeInForce'"),
        ({"type": "MARKET", "timeInForce": None}, -1102, "'quantity' or 'quoteOrderQty'"),
        ({"type": "MARKET", "timeInForce": None, "quantity": "9000.1"}, -1013, "MARKET_LOT_SIZE"),
        ({"type": "LIMIT_MAKER", "timeInForce": None, "price": "60000", "quantity": "1"}, -2010, "immediately match"),
        ({"price": "60000", "quantity": "1", "newOrderRespType": "SOME"}, -1130, "newOrderRespType"),
    ],
)
async def test_wrong_orders_get_the_documented_codes(
    simulator: Simulator, account: Credentials, binance: RawBinance, order: dict[str, Any], expected: int, text: str
) -> None:
    reply = await binance.order(**order)
    assert (reply.status, code(reply.json)) == (400, expected)
    assert text in reply.json["msg"]
    assert simulator.orders("binance", api_key=account.api_key) == []


async def test_a_test_order_is_checked_and_not_placed(
    simulator: Simulator, account: Credentials, binance: RawBinance
) -> None:
    order = {"symbol": "BTCUSDT", "side": "BUY", "type": "LIMIT", "timeInForce": "GTC", "price": "60000"}
    good = await binance.signed("POST", "/api/v3/order/test", **order, quantity="1")
    assert (good.status, good.json) == (200, {})
    bad = await binance.signed("POST", "/api/v3/order/test", **order, quantity="100")
    assert code(bad.json) == -2010
    assert simulator.orders("binance", api_key=account.api_key) == []


async def test_orders_not_there_have_their_own_codes(binance: RawBinance) -> None:
    assert code((await binance.signed("GET", "/api/v3/order", symbol="BTCUSDT", orderId=1)).json) == -2013
    assert code((await binance.signed("DELETE", "/api/v3/order", symbol="BTCUSDT", orderId=1)).json) == -2011
    assert code((await binance.signed("DELETE", "/api/v3/openOrders", symbol="BTCUSDT")).json) == -2011
    assert code((await binance.signed("GET", "/api/v3/order", symbol="BTCUSDT")).json) == -1102


async def test_a_halted_market_is_closed(simulator: Simulator, binance: RawBinance) -> None:
    simulator.call("POST", "/market", {"exchange": "binance", "symbol": SYMBOL, "halted": True})
    try:
        reply = await binance.order(price="50000", quantity="1")
        assert reply.json == {"code": -2010, "msg": "Market is closed."}
        information = await binance.get("/api/v3/exchangeInfo", symbol="BTCUSDT")
        assert information.json["symbols"][0]["status"] == "HALT"
    finally:
        simulator.call("POST", "/market", {"exchange": "binance", "symbol": SYMBOL, "halted": False})


# Limits


async def test_answers_carry_weight_and_order_counts(binance: RawBinance) -> None:
    before = int((await binance.get("/api/v3/ping")).headers["X-MBX-USED-WEIGHT-1M"])
    after = int((await binance.get("/api/v3/depth", symbol="BTCUSDT", limit=1000)).headers["X-MBX-USED-WEIGHT-1M"])
    assert after - before == 50 or after <= 60, "or a new minute began"
    resting = await binance.order(price="50000", quantity="0.01")
    assert int(resting.headers["X-MBX-ORDER-COUNT-10S"]) == 1
    assert int(resting.headers["X-MBX-ORDER-COUNT-1D"]) == 1
    filled = await binance.order(price="60000", quantity="0.01")
    assert int(filled.headers["X-MBX-ORDER-COUNT-1D"]) == 1, "an order that trades does not count"


async def test_too_much_weight_is_429_then_418() -> None:
    with running_simulator("--exchanges", "binance") as simulator:
        account = simulator.account("binance")
        async with raw_binance(simulator, account) as client:
            statuses = []
            for _ in range(60):
                reply = await client.get("/api/v3/depth", symbol="BTCUSDT", limit=5000)
                statuses.append(reply.status)
                if reply.status == 429:
                    assert code(reply.json) == -1003
                    assert 1 <= int(reply.headers["Retry-After"]) <= 60
                if reply.status == 418:
                    break
            assert statuses[0] == 200
            assert 429 in statuses
            assert reply.status == 418
            assert "banned until" in reply.json["msg"]
            assert int(reply.headers["Retry-After"]) > 60
            banned = await client.signed("GET", "/api/v3/account")
            assert banned.status == 418
            with pytest.raises(aiohttp.WSServerHandshakeError, match="418"):
                await client.session.ws_connect(f"{client.ws}/ws-api/v3")


async def test_too_many_unfilled_orders_are_refused(simulator: Simulator, binance: RawBinance) -> None:
    for _ in range(2):  # twice, for a window may end in between
        replies = [await binance.order(price="50000", quantity="0.001") for _ in range(101)]
        refused = [reply for reply in replies if reply.status == 429]
        if refused:
            break
        await binance.signed("DELETE", "/api/v3/openOrders", symbol="BTCUSDT")
    assert code(refused[0].json) == -1015
    assert "100 orders per 10 SECOND" in refused[0].json["msg"]
    assert int(refused[0].headers["Retry-After"]) >= 1


# Market streams


async def test_diffs_chain_and_rebuild_the_book(simulator: Simulator, binance: RawBinance) -> None:
    async with binance.socket("/ws/ethusdt@depth@100ms") as socket:
        events = [await socket.receive() for _ in range(3)]
        snapshot = (await binance.get("/api/v3/depth", symbol="ETHUSDT", limit=5000)).json
        while events[-1]["u"] <= snapshot["lastUpdateId"]:
            events.append(await socket.receive())
        events += [await socket.receive() for _ in range(10)]
        simulator.call("POST", "/market", {"exchange": "binance", "symbol": "ETH/USDT", "frozen": True})
        final = (await binance.get("/api/v3/depth", symbol="ETHUSDT", limit=5000)).json
        while events[-1]["u"] < final["lastUpdateId"]:
            events.append(await socket.receive())
    simulator.call("POST", "/market", {"exchange": "binance", "symbol": "ETH/USDT", "frozen": False})
    for earlier, later in pairwise(events):
        assert later["U"] == earlier["u"] + 1
    newer = [event for event in events if event["u"] > snapshot["lastUpdateId"]]
    assert newer[0]["U"] <= snapshot["lastUpdateId"] + 1
    for side, short in (("bids", "b"), ("asks", "a")):
        levels = dict(snapshot[side])
        for event in newer:
            for price, quantity in event[short]:
                if Decimal(quantity):
                    levels[price] = quantity
                else:
                    levels.pop(price, None)
        assert levels == dict(final[side])


async def test_raw_and_combined_sockets_send_their_forms(simulator: Simulator, binance: RawBinance) -> None:
    names = "ethusdt@bookTicker/solusdt@depth5@100ms"
    async with binance.socket(f"/stream?streams={names}") as socket:
        seen: dict[str, Any] = {}
        while len(seen) < 2:
            message = await socket.receive()
            assert sorted(message) == ["data", "stream"]
            seen[message["stream"]] = message["data"]
    assert sorted(seen["ethusdt@bookTicker"]) == ["A", "B", "a", "b", "s", "u"]
    assert sorted(seen["solusdt@depth5@100ms"]) == ["asks", "bids", "lastUpdateId"]
    assert len(seen["solusdt@depth5@100ms"]["bids"]) == 5
    async with binance.socket("/ws") as socket:
        assert await socket.subscribe("btcusdt@aggTrade", "btcusdt@trade") == {"result": None, "id": 1}
        simulator.trade("binance", SYMBOL, "SELL", "0.5")
        events = {event["e"]: event for event in [await socket.receive(), await socket.receive()]}
    assert (events["trade"]["q"], events["trade"]["m"]) == ("0.50000000", True)
    assert events["aggTrade"]["f"] == events["aggTrade"]["l"] == events["trade"]["t"]


async def test_a_takers_pieces_at_one_price_are_one_aggregate_trade(simulator: Simulator, binance: RawBinance) -> None:
    for _ in range(2):
        await binance.order(side="SELL", price="59995", quantity="0.25")
    async with binance.socket("/ws/btcusdt@aggTrade") as socket:
        simulator.trade("binance", SYMBOL, "BUY", "0.6")
        first, second = await socket.receive(), await socket.receive()
    assert (first["p"], first["q"], first["l"] - first["f"]) == ("59995.00000000", "0.50000000", 1)
    assert (second["p"], second["q"]) == ("60000.00000000", "0.10000000")


async def test_subscriptions_are_listed_ended_and_checked(binance: RawBinance) -> None:
    async with binance.socket("/ws") as socket:
        await socket.subscribe("nosuch@depth", "btcusdt@trade")
        call = {"method": "LIST_SUBSCRIPTIONS", "id": 7}
        await socket.socket.send_json(call)
        assert await socket.receive() == {"result": ["nosuch@depth", "btcusdt@trade"], "id": 7}
        await socket.socket.send_json({"method": "UNSUBSCRIBE", "params": ["btcusdt@trade"], "id": 8})
        assert await socket.receive() == {"result": None, "id": 8}
        assert (await socket.subscribe("btcusdt@nonsense"))["error"]["code"] == 2


@pytest.mark.parametrize(
    ("frame", "expected"),
    [
        ("not json", 3),
        ("[1, 2]", 2),
        ('{"id": 1}', 2),
        ('{"method": "EXPLODE", "id": 1}', 2),
        ('{"method": "SUBSCRIBE", "params": 7, "id": 1}', 2),
        ('{"method": "SUBSCRIBE", "params": [7], "id": 1}', 2),
        ('{"method": "SUBSCRIBE", "params": ["btcusdt@trade"], "id": {}}', 2),
        ('{"method": "SET_PROPERTY", "params": ["colour", true], "id": 1}', 0),
        ('{"method": "SET_PROPERTY", "params": ["combined", 3], "id": 1}', 1),
        ('{"method": "GET_PROPERTY", "params": [], "id": 1}', 2),
    ],
)
async def test_wrong_control_frames_get_an_error_and_the_socket_lives(
    binance: RawBinance, frame: str, expected: int
) -> None:
    async with binance.socket("/ws") as socket:
        await socket.socket.send_str(frame)
        assert (await socket.receive())["error"]["code"] == expected
        assert (await socket.subscribe("btcusdt@trade"))["result"] is None


async def test_more_than_five_frames_a_second_cut_the_socket(binance: RawBinance) -> None:
    async with binance.socket("/ws") as socket:
        with pytest.raises((ConnectionError, aiohttp.ClientError)):
            await _subscribe_often(socket)


# The WebSocket API


async def test_public_calls_and_rate_limits_over_the_websocket(binance: RawBinance) -> None:
    async with binance.socket("/ws-api/v3") as socket:
        answer = await socket.call("time")
        assert answer["status"] == 200
        assert answer["rateLimits"][-1]["rateLimitType"] == "REQUEST_WEIGHT"
        assert "rateLimits" not in await socket.call("ping", returnRateLimits=False)
        assert (await socket.call("v3/depth", symbol="BTCUSDT", limit=5))["result"]["bids"][0][0] == "59990.00000000"
        assert (await socket.call("nonsense"))["status"] == 400
        wrong = await socket.call("depth", symbol="NOSUCH")
        assert (wrong["status"], wrong["error"]["code"]) == (400, -1121)


async def test_a_logged_on_session_trades_unsigned_and_hears_its_account(simulator: Simulator) -> None:
    async with raw_binance(simulator, ed25519_account(simulator)) as client, client.socket("/ws-api/v3") as socket:
        order = {"symbol": "BTCUSDT", "side": "SELL", "type": "LIMIT", "timeInForce": "IOC", "price": "59990"}
        early = await socket.call("order.place", **order, quantity="0.1", timestamp=int(time.time() * 1000))
        assert (early["status"], early["error"]["code"]) == (401, -2014)
        assert (await socket.call("userDataStream.subscribe"))["status"] == 401
        status = (await socket.call("session.logon", **socket.sign()))["result"]
        assert client.credentials is not None
        assert status["apiKey"] == client.credentials.api_key
        assert (await socket.call("userDataStream.subscribe"))["result"] == {"subscriptionId": 0}
        again = await socket.call("userDataStream.subscribe")
        assert again["error"]["code"] == -2035
        placed = await socket.call("order.place", **order, quantity="0.1", timestamp=int(time.time() * 1000))
        assert (placed["status"], placed["result"]["status"]) == (200, "FILLED")
        assert placed["rateLimits"][0]["rateLimitType"] == "ORDERS"
        report = await socket.event("executionReport", x="TRADE")
        assert report["event"]["i"] == placed["result"]["orderId"]
        assert (await socket.call("session.status"))["result"]["userDataStream"] is True
        await socket.call("session.logout")
        ended = await socket.event("eventStreamTerminated")
        assert ended["subscriptionId"] == 0
        late = await socket.call("order.place", **order, quantity="0.1", timestamp=int(time.time() * 1000))
        assert late["status"] == 401


async def test_hmac_keys_cannot_log_on_but_sign_each_call(binance: RawBinance) -> None:
    async with binance.socket("/ws-api/v3") as socket:
        assert (await socket.call("session.logon", **socket.sign()))["error"]["code"] == -4056
        answer = await socket.call("account.status", **socket.sign())
        assert {"asset": "BTC", "free": "10.00000000", "locked": "0.00000000"} in answer["result"]["balances"]
        wrong = {**socket.sign(), "signature": "00"}
        assert (await socket.call("account.status", **wrong))["error"]["code"] == -1022


async def test_one_socket_may_hear_several_accounts(simulator: Simulator, binance: RawBinance) -> None:
    other = simulator.account("binance", balances={"USDT": "1000000"})
    async with binance.socket("/ws-api/v3") as socket:
        await socket.call("userDataStream.subscribe.signature", **socket.sign())
        socket.credentials = other
        second = await socket.call("userDataStream.subscribe.signature", **socket.sign())
        assert second["result"] == {"subscriptionId": 1}
        async with raw_binance(simulator, other) as client:
            await client.order(price="50000", quantity="0.1")
        assert (await socket.event("executionReport"))["subscriptionId"] == 1
        await socket.call("userDataStream.unsubscribe", subscriptionId=1)
        assert (await socket.event("eventStreamTerminated"))["subscriptionId"] == 1
        assert (await socket.call("session.subscriptions"))["result"] == [{"subscriptionId": 0}]


@pytest.mark.parametrize(
    "frame", ["{", "[]", '{"id": 1}', '{"id": 1, "method": 3}', '{"id":1,"method":"time","params":[]}']
)
async def test_wrong_api_frames_get_an_error_and_the_socket_lives(binance: RawBinance, frame: str) -> None:
    async with binance.socket("/ws-api/v3") as socket:
        await socket.socket.send_str(frame)
        assert (await socket.receive())["status"] == 400
        assert (await socket.call("time"))["status"] == 200


# Faults and latency, over real sockets


async def test_a_lost_answer_leaves_an_order_that_lives(
    simulator: Simulator, account: Credentials, binance: RawBinance
) -> None:
    simulator.fault("drop_response", operation="POST /api/v3/order", count=1, parameters={"how": "reset"})
    with pytest.raises(aiohttp.ClientError):
        await binance.order(price="50000", quantity="0.1", newClientOrderId="lost")
    found = await binance.signed("GET", "/api/v3/order", symbol="BTCUSDT", origClientOrderId="lost")
    assert found.json["status"] == "NEW"


async def test_a_lost_request_leaves_nothing(simulator: Simulator, binance: RawBinance) -> None:
    simulator.fault("drop_request", operation="POST /api/v3/order", symbol="BTCUSDT", count=1)
    with pytest.raises(TimeoutError):
        await asyncio.wait_for(binance.order(price="50000", quantity="0.1", newClientOrderId="gone"), 0.5)
    found = await binance.signed("GET", "/api/v3/order", symbol="BTCUSDT", origClientOrderId="gone")
    assert code(found.json) == -2013


@pytest.mark.parametrize("apply", [True, False])
async def test_an_unknown_outcome_may_have_been_carried_out_or_not(
    simulator: Simulator, binance: RawBinance, apply: bool
) -> None:
    body = '{"code":-1007,"msg":"Timeout waiting for response from backend server."}'
    parameters = {"status": 504, "body": body, "apply": apply}
    simulator.fault("error", operation="POST /api/v3/order", count=1, parameters=parameters)
    client_id = f"unknown{apply}"
    reply = await binance.order(price="50000", quantity="0.1", newClientOrderId=client_id)
    assert (reply.status, code(reply.json)) == (504, -1007)
    found = await binance.signed("GET", "/api/v3/order", symbol="BTCUSDT", origClientOrderId=client_id)
    assert (found.status == 200) is apply


async def test_a_body_is_cut_and_html_comes_instead(simulator: Simulator, binance: RawBinance) -> None:
    simulator.fault("truncate_body", operation="POST /api/v3/order", count=1)
    cut = await binance.order(price="50000", quantity="0.1")
    assert cut.status == 200
    with pytest.raises(ValueError, match=r"delimiter|Unterminated|Expecting"):
        _ = cut.json
    simulator.fault("error", operation="POST /api/v3/order", count=1, parameters={"status": 502})
    bad = await binance.order(price="50000", quantity="0.1")
    assert bad.status == 502
    assert bad.headers["Content-Type"].startswith("text/html")


async def test_a_request_delayed_beyond_its_window_is_refused(simulator: Simulator, binance: RawBinance) -> None:
    simulator.fault("delay_request", operation="POST /api/v3/order", count=1, parameters={"ms": 300})
    reply = await binance.order(price="50000", quantity="0.1", recvWindow=200)
    assert code(reply.json) == -1021


async def test_private_events_are_dropped_doubled_and_cut(simulator: Simulator, binance: RawBinance) -> None:
    async with binance.socket("/ws-api/v3") as socket:
        await socket.call("userDataStream.subscribe.signature", **socket.sign())
        simulator.fault("drop_event", operation="executionReport", count=1)
        simulator.fault("duplicate_event", operation="executionReport", skip=0, count=1)
        await binance.order(price="60000", quantity="0.1", timeInForce="IOC")  # NEW is dropped, TRADE comes twice
        first = await socket.event("executionReport")
        second = await socket.event("executionReport")
        assert first == second
        assert first["event"]["x"] == "TRADE"
        simulator.fault("disconnect", operation="executionReport", stage="event", count=1)
        await binance.order(price="50000", quantity="0.1")
        with pytest.raises((ConnectionError, aiohttp.ClientError)):
            await socket.event("executionReport")


async def test_a_silent_market_keeps_its_socket_open(simulator: Simulator, binance: RawBinance) -> None:
    async with binance.socket("/ws/solusdt@bookTicker") as socket:
        await socket.receive()
        fault = simulator.fault("silent", operation="solusdt@bookTicker", stage="market")
        with pytest.raises(TimeoutError):
            await asyncio.wait_for(_receive_for_ever(socket), 0.7)
        simulator.call("DELETE", f"/faults/{fault}")
        assert (await socket.receive())["s"] == "SOLUSDT"


async def test_latency_delays_answers_and_keeps_their_order(simulator: Simulator, binance: RawBinance) -> None:
    loop = asyncio.get_running_loop()
    simulator.latency("binance", request_ms=60, response_ms=60, event_ms=50)
    try:
        async with binance.socket("/ws-api/v3") as socket:
            await socket.call("userDataStream.subscribe.signature", **socket.sign())
            start = loop.time()
            await binance.order(price="60000", quantity="0.1", timeInForce="IOC")
            assert loop.time() - start >= 0.12
            kinds = [(await socket.event("executionReport"))["event"]["x"] for _ in range(2)]
            assert kinds == ["NEW", "TRADE"]
    finally:
        simulator.latency("binance", request_ms=0, response_ms=0, event_ms=0)
