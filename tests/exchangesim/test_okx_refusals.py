"""What the simulated OKX refuses, with which code, text and status: signatures, windows, parameters, limits."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Iterator
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from tests.exchangesim.okx_client import login, okx_call, okx_simulator, okx_socket, order, sign, still_book
from tests.exchangesim.raw_socket import raw_socket
from tests.exchangesim.simulator import Credentials, Simulator, running_simulator

__all__ = ["okx_simulator"]
BALANCE = "/api/v5/account/balance"
ORDER = "/api/v5/trade/order"


@pytest.fixture
def credentials(okx_simulator: Simulator) -> Credentials:
    still_book(okx_simulator)
    return okx_simulator.account("okx", balances={"USDT": "10000", "AAA": "10"})


@pytest.mark.parametrize(
    ("headers", "code"),
    [
        ({"OK-ACCESS-KEY": ""}, "50103"),
        ({"OK-ACCESS-PASSPHRASE": ""}, "50104"),
        ({"OK-ACCESS-SIGN": ""}, "50106"),
        ({"OK-ACCESS-TIMESTAMP": ""}, "50107"),
        ({"OK-ACCESS-TIMESTAMP": "yesterday"}, "50112"),
        ({"OK-ACCESS-KEY": "00000000-0000"}, "50111"),
        ({"OK-ACCESS-PASSPHRASE": "wrong"}, "50105"),
        ({"OK-ACCESS-SIGN": "AAAA"}, "50113"),
        ({"OK-ACCESS-SIGN": "\u00e9\u00e9"}, "50113"),
    ],
)
async def test_unsigned_and_missigned_requests_are_refused(
    okx_simulator: Simulator, credentials: Credentials, headers: dict[str, str], code: str
) -> None:
    status, answer = await okx_call(okx_simulator, credentials, "GET", BALANCE, headers=headers)
    assert (status, answer["code"], answer["data"]) == (401, code, [])
    assert credentials.secret not in str(answer)


async def test_the_signature_covers_method_path_query_and_body(
    okx_simulator: Simulator, credentials: Credentials
) -> None:
    stamp = f"{time.time():.3f}"
    for signed in (f"POST{BALANCE}", f"GET{BALANCE}?ccy=USDT", f"GET{BALANCE}x", f"GET{BALANCE}" + "{}"):
        headers = {"OK-ACCESS-TIMESTAMP": stamp, "OK-ACCESS-SIGN": sign(credentials.secret, stamp + signed)}
        _, answer = await okx_call(okx_simulator, credentials, "GET", BALANCE, headers=headers)
        assert answer["code"] == "50113"
    headers = {"OK-ACCESS-TIMESTAMP": stamp, "OK-ACCESS-SIGN": sign(credentials.secret, f"{stamp}GET{BALANCE}")}
    assert (await okx_call(okx_simulator, credentials, "GET", BALANCE, headers=headers))[0] == 200


@pytest.mark.parametrize(("late_ms", "code"), [(0, "0"), (25_000, "0"), (31_000, "50102"), (-31_000, "50102")])
async def test_requests_are_accepted_within_thirty_seconds(
    okx_simulator: Simulator, credentials: Credentials, late_ms: int, code: str
) -> None:
    _, answer = await okx_call(okx_simulator, credentials, "GET", BALANCE, late_ms=late_ms)
    assert answer["code"] == code


async def test_an_exchange_whose_clock_is_wrong_refuses_right_clocks(
    okx_simulator: Simulator, credentials: Credentials
) -> None:
    okx_simulator.fault("clock_shift", exchange="okx", parameters={"ms": 40_000})
    try:
        _, answer = await okx_call(okx_simulator, credentials, "GET", BALANCE)
    finally:
        okx_simulator.clear_faults()
    assert answer["code"] == "50102"


async def test_orders_past_their_deadline_are_not_placed(okx_simulator: Simulator, credentials: Credentials) -> None:
    past, future = str(int(time.time() * 1000) - 1000), str(int(time.time() * 1000) + 10_000)
    _, late = await okx_call(okx_simulator, credentials, "POST", ORDER, order(), headers={"expTime": past})
    assert (late["code"], late["data"]) == ("50036", [])
    _, good = await okx_call(okx_simulator, credentials, "POST", ORDER, order(), headers={"expTime": future})
    assert good["code"] == "0"
    assert len(okx_simulator.orders("okx", api_key=credentials.api_key)) == 1


async def test_keys_without_the_right_to_trade_may_only_read(okx_simulator: Simulator) -> None:
    reader = okx_simulator.account("okx", balances={"USDT": "100"}, permissions=("read",))
    assert (await okx_call(okx_simulator, reader, "GET", BALANCE))[1]["code"] == "0"
    status, answer = await okx_call(okx_simulator, reader, "POST", ORDER, order())
    assert (status, answer["code"]) == (401, "50120")
    _, config = await okx_call(okx_simulator, reader, "GET", "/api/v5/account/config")
    assert config["data"][0]["perm"] == "read_only"


@pytest.mark.parametrize(
    ("fields", "code"),
    [
        ({"instId": ""}, "50014"),
        ({"instId": "NO-SUCH"}, "51001"),
        ({"tdMode": ""}, "50014"),
        ({"tdMode": "cross"}, "51000"),
        ({"side": "hold"}, "51000"),
        ({"ordType": "oco"}, "51000"),
        ({"sz": ""}, "50014"),
        ({"sz": "0"}, "51000"),
        ({"sz": "-1"}, "51000"),
        ({"sz": "1e3"}, "51000"),
        ({"sz": "NaN"}, "51000"),
        ({"sz": "0.0001"}, "51020"),
        ({"sz": "1.0005"}, "51121"),
        ({"sz": "9001"}, "51005"),
        ({"px": ""}, "50014"),
        ({"px": "99.999"}, "51000"),
        ({"px": "1000"}, "51006"),
        ({"px": "1"}, "51006"),
        ({"sz": "1000"}, "51008"),
        ({"side": "sell", "sz": "11", "px": "110"}, "51008"),
        ({"clOrdId": "not-alphanumeric"}, "51000"),
        ({"clOrdId": "a" * 33}, "51000"),
        ({"tag": "x" * 17}, "51000"),
        ({"ordType": "market", "tgtCcy": "none"}, "51000"),
    ],
)
async def test_wrong_orders_are_refused_with_documented_codes(
    okx_simulator: Simulator, credentials: Credentials, fields: dict[str, str], code: str
) -> None:
    status, answer = await okx_call(okx_simulator, credentials, "POST", ORDER, order(**fields))
    (row,) = answer["data"]
    assert (status, answer["code"], row["sCode"], row["ordId"]) == (200, "1", code, "")
    assert row["sMsg"]
    assert okx_simulator.orders("okx", api_key=credentials.api_key) == []


async def test_a_batch_says_of_each_order_whether_it_was_placed(
    okx_simulator: Simulator, credentials: Credentials
) -> None:
    orders = [order(clOrdId="good"), order(clOrdId="bad", sz="0")]
    _, answer = await okx_call(okx_simulator, credentials, "POST", "/api/v5/trade/batch-orders", orders)
    assert answer["code"] == "2"
    assert [(row["clOrdId"], row["sCode"]) for row in answer["data"]] == [("good", "0"), ("bad", "51000")]
    _, answer = await okx_call(okx_simulator, credentials, "POST", "/api/v5/trade/batch-orders", [orders[1]])
    assert answer["code"] == "1"
    _, answer = await okx_call(okx_simulator, credentials, "POST", "/api/v5/trade/batch-orders", [order()] * 21)
    assert (answer["code"], answer["data"]) == ("51111", [])


async def test_closed_orders_cannot_be_cancelled_or_amended(okx_simulator: Simulator, credentials: Credentials) -> None:
    _, placed = await okx_call(okx_simulator, credentials, "POST", ORDER, order(ordType="ioc", px="100.1", sz="1"))
    reference = {"instId": "AAA-USDT", "ordId": placed["data"][0]["ordId"]}
    _, cancel = await okx_call(okx_simulator, credentials, "POST", "/api/v5/trade/cancel-order", reference)
    assert cancel["data"][0]["sCode"] == "51400"
    _, amend = await okx_call(
        okx_simulator, credentials, "POST", "/api/v5/trade/amend-order", reference | {"newSz": "2"}
    )
    assert amend["data"][0]["sCode"] == "51503"
    _, nameless = await okx_call(
        okx_simulator, credentials, "POST", "/api/v5/trade/cancel-order", {"instId": "AAA-USDT"}
    )
    assert nameless["data"][0]["sCode"] == "51407"


@pytest.mark.parametrize(
    ("path", "status", "code"),
    [
        ("/api/v5/nothing/here", 404, "404"),
        ("/api/v5/trade/batch-orders", 405, "50115"),
        ("/api/v5/public/instruments", 400, "50014"),
        ("/api/v5/public/instruments?instType=BONDS", 200, "51000"),
        ("/api/v5/market/ticker?instId=NO-SUCH", 200, "51001"),
        ("/api/v5/market/books?instId=AAA-USDT&sz=x", 200, "51000"),
    ],
)
async def test_wrong_public_requests_are_refused(okx_simulator: Simulator, path: str, status: int, code: str) -> None:
    got, answer = await okx_call(okx_simulator, None, "GET", path)
    assert (got, answer["code"]) == (status, code)


@pytest.mark.parametrize(("body", "code"), [("", "50000"), ("{", "50002"), ("[]", "50002"), ("null", "50002")])
async def test_bodies_that_are_no_order_are_refused(
    okx_simulator: Simulator, credentials: Credentials, body: str, code: str
) -> None:
    status, answer = await okx_call(okx_simulator, credentials, "POST", ORDER, body)
    assert (status, answer["code"]) == (400, code)


@pytest.fixture(scope="module")
def strict_simulator() -> Iterator[Simulator]:
    """An OKX that refuses what is over its limits."""
    with running_simulator("--exchanges", "okx", "--symbols", "AAA/USDT=100,BBB/USDT=100") as running:
        yield running


async def test_orders_over_the_limit_are_refused_on_socket_and_rest_alike(strict_simulator: Simulator) -> None:
    """Sixty in two seconds; the orders are sent at once, so that a slow machine does not stretch them over more."""
    credentials = strict_simulator.account("okx", balances={"USDT": "100000"})
    async with okx_socket(strict_simulator, "private", credentials) as socket:
        for number in range(130):
            await socket.send({"id": str(number), "op": "order", "args": [order(sz="0.1")]})
        answers = [await socket.next() for _ in range(130)]
        status, rest = await okx_call(strict_simulator, credentials, "POST", ORDER, order(sz="0.1"))
    codes = [answer["data"][0]["sCode"] for answer in answers]
    assert set(codes) == {"0", "50011"}
    assert codes[:60] == ["0"] * 60
    assert (status, rest["code"], rest["data"]) == (429, "50011", [])
    assert len(strict_simulator.orders("okx", api_key=credentials.api_key)) == codes.count("0")
    # Instruments are counted apart, and so are batches.
    _, other = await okx_call(strict_simulator, credentials, "POST", ORDER, order(instId="BBB-USDT", sz="0.1"))
    assert other["code"] == "0"
    _, batch = await okx_call(strict_simulator, credentials, "POST", "/api/v5/trade/batch-orders", [order(sz="0.1")])
    assert batch["code"] == "0"


async def test_reading_too_often_is_answered_429(strict_simulator: Simulator) -> None:
    credentials = strict_simulator.account("okx", balances={"USDT": "1"})
    answers = await asyncio.gather(*(okx_call(strict_simulator, credentials, "GET", BALANCE) for _ in range(40)))
    assert {(status, answer["code"]) for status, answer in answers} == {(200, "0"), (429, "50011")}


async def test_a_connection_may_change_its_subscriptions_480_times_an_hour(strict_simulator: Simulator) -> None:
    message = {"op": "unsubscribe", "args": [{"channel": "tickers", "instId": "AAA-USDT"}]}
    async with okx_socket(strict_simulator) as socket:
        for _ in range(480):
            await socket.send(message)
            assert (await socket.next())["event"] == "unsubscribe"
        await socket.send(message)
        assert (await socket.next())["code"] == "60014"


LOGIN_REFUSALS: list[tuple[dict[str, str], float, str]] = [
    ({"apiKey": "unknown"}, 0, "60005"),
    ({"sign": "AAAA"}, 0, "60007"),
    ({"passphrase": "wrong"}, 0, "60024"),
    ({"timestamp": "soon"}, 0, "60004"),
    ({"apiKey": ""}, 0, "60001"),
    ({}, 31, "60006"),
]


@pytest.mark.parametrize(("changed", "late", "code"), LOGIN_REFUSALS)
async def test_logins_are_refused_with_documented_codes(
    okx_simulator: Simulator, credentials: Credentials, changed: dict[str, str], late: float, code: str
) -> None:
    async with okx_socket(okx_simulator, "private") as socket:
        await socket.send(login(credentials, late_seconds=late, **changed))
        answer = await socket.next()
    assert (answer["event"], answer["code"]) == ("error", code)
    assert answer["connId"]


@pytest.mark.parametrize(
    ("url", "message", "code"),
    [
        ("public", {"op": "subscribe", "args": [{"channel": "orders", "instType": "SPOT"}]}, "60018"),
        ("public", {"op": "subscribe", "args": [{"channel": "books", "instId": "NO-SUCH"}]}, "60018"),
        ("public", {"op": "subscribe", "args": []}, "60012"),
        ("public", {"op": "sing", "args": [{}]}, "60012"),
        ("public", "{", "60012"),
        ("private", {"op": "subscribe", "args": [{"channel": "orders", "instType": "SPOT"}]}, "60011"),
        ("private", {"op": "subscribe", "args": [{"channel": "books", "instId": "AAA-USDT"}]}, "60018"),
        ("private", {"id": "1", "op": "order", "args": [order()]}, "60011"),
        ("public", {"id": "1", "op": "order", "args": [order()]}, "60012"),
    ],
)
async def test_wrong_socket_requests_are_answered_with_error_events(
    okx_simulator: Simulator, url: str, message: Any, code: str
) -> None:
    async with okx_socket(okx_simulator, url) as socket:
        await socket.send(message)
        answer = await socket.next()
    assert (answer["event"], answer["code"]) == ("error", code)


async def test_socket_orders_past_their_deadline_are_not_placed(
    okx_simulator: Simulator, credentials: Credentials
) -> None:
    async with okx_socket(okx_simulator, "private", credentials) as socket:
        past = str(int(time.time() * 1000) - 1000)
        await socket.send({"id": "7", "op": "order", "expTime": past, "args": [order()]})
        answer = await socket.next()
    assert (answer["id"], answer["code"], answer["data"]) == ("7", "50036", [])
    assert okx_simulator.orders("okx", api_key=credentials.api_key) == []


JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False) | st.text(max_size=20),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(max_size=8), inner, max_size=4),
    max_leaves=12,
)
FUZZ = settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])


ALGO = order(ordType="oco", side="sell", tpTriggerPx="110", tpOrdPx="-1", slTriggerPx="90", slOrdPx="-1")
ATTACHED = {name: value for name, value in ALGO.items() if name[:2] in ("tp", "sl")}


@FUZZ
@given(body=st.dictionaries(st.sampled_from(sorted([*ALGO, "algoClOrdId", "triggerPx", "orderPx"])), JSON, max_size=8))
async def test_no_algo_order_body_breaks_the_exchange(
    okx_simulator: Simulator, credentials: Credentials, body: dict[str, Any]
) -> None:
    status, answer = await okx_call(okx_simulator, credentials, "POST", "/api/v5/trade/order-algo", ALGO | body)
    assert status in (200, 400)
    assert answer["code"] in ("0", "1", "50002")
    assert all(row["sCode"] == "0" or row["sMsg"] for row in answer["data"])


@FUZZ
@given(exits=st.dictionaries(st.sampled_from(sorted([*ATTACHED, "tpOrdKind"])), JSON, max_size=4) | JSON)
async def test_no_attached_order_breaks_the_exchange(
    okx_simulator: Simulator, credentials: Credentials, exits: Any
) -> None:
    attached = [ATTACHED | exits] if isinstance(exits, dict) else exits
    body = order() | {"attachAlgoOrds": attached}
    status, answer = await okx_call(okx_simulator, credentials, "POST", ORDER, body)
    assert status in (200, 400)
    assert answer["code"] in ("0", "1", "50002")


@FUZZ
@given(body=st.dictionaries(st.sampled_from(sorted(order(clOrdId="x", tag="x", tgtCcy="x"))), JSON, max_size=8))
async def test_no_order_body_breaks_the_exchange(
    okx_simulator: Simulator, credentials: Credentials, body: dict[str, Any]
) -> None:
    status, answer = await okx_call(okx_simulator, credentials, "POST", ORDER, order() | body)
    assert status in (200, 400)
    assert answer["code"] in ("0", "1", "50002")
    assert all(row["sCode"] == "0" or row["sMsg"] for row in answer["data"])


@FUZZ
@given(messages=st.lists(JSON | st.text(max_size=40) | st.binary(max_size=20), max_size=5))
async def test_no_message_breaks_a_socket(okx_simulator: Simulator, messages: list[Any]) -> None:
    async with raw_socket(f"{okx_simulator.ws['okx']}/private") as socket:
        for message in messages:
            await socket.send(message)
            await socket.send({"op": message, "args": [message]} if not isinstance(message, bytes) else "x")
        await socket.send("ping")
        await socket.until(lambda answer: answer == "pong")
