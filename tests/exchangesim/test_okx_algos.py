"""Algo orders of the simulated OKX, with the real ccxt as client."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from typing import Any

import ccxt
import ccxt.pro
import pytest

from tests.exchangesim.okx_client import okx_call, okx_client, okx_simulator, okx_socket, order  # noqa: F401
from tests.exchangesim.simulator import Credentials, Simulator

SYMBOL, NATIVE = "AAA/USDT", "AAA-USDT"
WAIT = 20.0
OCO = {
    "instId": NATIVE,
    "tdMode": "cash",
    "side": "sell",
    "ordType": "oco",
    "sz": "2",
    "tpTriggerPx": "110",
    "tpOrdPx": "-1",
    "slTriggerPx": "90",
    "slOrdPx": "-1",
}


@pytest.fixture
def simulator(okx_simulator: Simulator) -> Simulator:  # noqa: F811
    okx_simulator.clear_faults()
    go_to(okx_simulator, 100)
    return okx_simulator


def go_to(simulator: Simulator, price: int) -> None:
    """Let the market stand and trade at a price, with 20 AAA a side."""
    bid, ask = f"{price - 1}", f"{price}"
    simulator.set_book("okx", SYMBOL, bids=[(bid, "20")], asks=[(ask, "20")])
    simulator.trade("okx", SYMBOL, "BUY", "0.1")


@pytest.fixture
def account(simulator: Simulator) -> Credentials:
    return simulator.account("okx", balances={"USDT": "10000", "AAA": "10"})


@pytest.fixture
async def client(simulator: Simulator, account: Credentials) -> AsyncIterator[ccxt.pro.okx]:
    async with okx_client(simulator, account) as client:
        yield client


async def algo(client: ccxt.pro.okx, algo_id: str) -> dict[str, Any]:
    return dict((await client.fetch_order(algo_id, SYMBOL, {"trigger": True}))["info"])


@pytest.mark.parametrize(
    ("arguments", "params", "kind", "reached", "average"),
    [
        (("market", "sell", 2), {"stopLossPrice": 90}, "conditional", 89, 88),
        (("limit", "sell", 2, 80), {"stopLossPrice": 90}, "conditional", 89, 88),
        (("market", "sell", 2), {"takeProfitPrice": 110}, "conditional", 111, 110),
        (("market", "sell", 2), {"takeProfitPrice": 110, "stopLossPrice": 90}, "oco", 89, 88),
        (("market", "sell", 2), {"takeProfitPrice": 110, "stopLossPrice": 90}, "oco", 112, 111),
        (("market", "buy", 2), {"stopLossPrice": 110, "tgtCcy": "base_ccy"}, "conditional", 111, 111),
        (("market", "sell", 2), {"triggerPrice": 90}, "trigger", 89, 88),
        (("limit", "buy", 2, 120), {"triggerPrice": 110}, "trigger", 112, 112),
    ],
    ids=["stop", "stop limit", "take profit", "oco falls", "oco rises", "stop buy", "trigger", "trigger buy"],
)
async def test_an_algo_order_waits_and_becomes_an_order(
    simulator: Simulator,
    client: ccxt.pro.okx,
    arguments: tuple[Any, ...],
    params: dict[str, Any],
    kind: str,
    reached: int,
    average: int,
) -> None:
    placed = await client.create_order(SYMBOL, *arguments, params=params)
    waiting = await client.fetch_open_orders(SYMBOL, params={"ordType": kind})
    assert [(one["id"], one["status"], one["info"]["ordType"]) for one in waiting] == [(placed["id"], "open", kind)]
    assert await client.fetch_open_orders(SYMBOL) == [], "it is no order yet"
    assert (await client.fetch_balance())["used"]["AAA"] == 0, "nothing is frozen"
    with pytest.raises(ccxt.OrderNotFound):
        await client.fetch_order(placed["id"], SYMBOL)
    go_to(simulator, reached)
    told = await algo(client, placed["id"])
    assert (told["state"], told["actualSz"]) == ("effective", "2")
    assert int(told["triggerTime"]) >= int(told["cTime"])
    became = await client.fetch_order(told["ordId"], SYMBOL)
    assert (became["filled"], became["average"], became["info"]["algoId"]) == (2, average, placed["id"])
    assert await client.fetch_open_orders(SYMBOL, params={"ordType": kind}) == []
    done = await client.private_get_trade_orders_algo_history({"ordType": kind, "state": "effective"})
    assert placed["id"] in [row["algoId"] for row in done["data"]]
    # ccxt takes the algo order's id for the order's own where an order has both.
    closed = [one["info"]["ordId"] for one in await client.fetch_closed_orders(SYMBOL)]
    assert closed == [told["ordId"]], "the other leg is none"


async def test_an_algo_order_is_cancelled(client: ccxt.pro.okx) -> None:
    placed = await client.create_order(SYMBOL, "market", "sell", 2, None, {"stopLossPrice": 90})
    await client.cancel_order(placed["id"], SYMBOL, {"trigger": True})
    assert (await algo(client, placed["id"]))["state"] == "canceled"
    assert await client.fetch_open_orders(SYMBOL, params={"ordType": "conditional"}) == []
    with pytest.raises(ccxt.OrderNotFound, match="51400"):
        await client.cancel_order(placed["id"], SYMBOL, {"trigger": True})
    assert await client.fetch_canceled_orders(SYMBOL) == [], "it never was an order"


async def test_one_that_cannot_be_paid_for_fails(
    simulator: Simulator, client: ccxt.pro.okx, account: Credentials
) -> None:
    placed = await client.create_order(SYMBOL, "market", "sell", 2, None, {"stopLossPrice": 90})
    simulator.transfer(account, "AAA", "-9")
    go_to(simulator, 89)
    told = await algo(client, placed["id"])
    assert (told["state"], told["failCode"], told["ordId"]) == ("order_failed", "51008", "")


@pytest.mark.parametrize(
    ("changes", "code"),
    [
        ({"slTriggerPx": "101"}, "51280"),
        ({"tpTriggerPx": "99"}, "51279"),
        ({"side": "buy", "tgtCcy": "base_ccy"}, "51277"),
        ({"ordType": "conditional", "tpTriggerPx": "", "slTriggerPx": "101"}, "51280"),
        ({"slTriggerPx": ""}, "50014"),
        ({"slTriggerPx": "x"}, "51000"),
        ({"slTriggerPxType": "mark"}, "51000"),
        ({"sz": "0.0000001"}, "51020"),
        ({"ordType": "move_order_stop"}, "51000"),
        ({"algoClOrdId": "not good"}, "51000"),
    ],
    ids=["stop above", "profit below", "buy", "one way", "one only", "no number", "mark", "small", "type", "id"],
)
async def test_an_algo_order_is_refused(
    simulator: Simulator, account: Credentials, changes: dict[str, str], code: str
) -> None:
    body = {name: value for name, value in {**OCO, **changes}.items() if value}
    _, answer = await okx_call(simulator, account, "POST", "/api/v5/trade/order-algo", body)
    assert (answer["data"][0]["sCode"] if answer["data"] else answer["code"]) == code


async def test_a_clients_id_finds_an_algo_order_and_is_unique(simulator: Simulator, account: Credentials) -> None:
    body = {**OCO, "algoClOrdId": "mine1"}
    _, placed = await okx_call(simulator, account, "POST", "/api/v5/trade/order-algo", body)
    assert placed["data"][0]["sCode"] == "0"
    _, again = await okx_call(simulator, account, "POST", "/api/v5/trade/order-algo", body)
    assert again["data"][0]["sCode"] == "51065"
    _, found = await okx_call(simulator, account, "GET", "/api/v5/trade/order-algo?algoClOrdId=mine1")
    assert found["data"][0]["algoId"] == placed["data"][0]["algoId"]
    _, both = await okx_call(simulator, account, "GET", "/api/v5/trade/orders-algo-pending?ordType=conditional,oco")
    assert [row["algoClOrdId"] for row in both["data"]] == ["mine1"]
    for query, code in (("", "50014"), ("?ordType=nonsense", "51000")):
        _, refused = await okx_call(simulator, account, "GET", f"/api/v5/trade/orders-algo-pending{query}")
        assert refused["code"] == code
    _, refused = await okx_call(simulator, account, "GET", "/api/v5/trade/orders-algo-history?ordType=oco")
    assert refused["code"] == "50015"
    gone = [{"instId": NATIVE, "algoClOrdId": "mine1"}, {"instId": NATIVE, "algoId": "5"}]
    _, cancelled = await okx_call(simulator, account, "POST", "/api/v5/trade/cancel-algos", gone)
    assert (cancelled["code"], [row["sCode"] for row in cancelled["data"]]) == ("2", ["0", "51400"])


# Exits attached to an order


async def test_attached_exits_come_when_the_order_is_filled(simulator: Simulator, client: ccxt.pro.okx) -> None:
    placed = await client.create_order(
        SYMBOL,
        "limit",
        "buy",
        2,
        99.5,
        {"takeProfit": {"triggerPrice": 110}, "stopLoss": {"triggerPrice": 90, "price": 85}},
    )
    found = await client.fetch_order(placed["id"], SYMBOL)
    assert (found["status"], found["stopLossPrice"], found["takeProfitPrice"]) == ("open", 90, 110)
    assert await client.fetch_open_orders(SYMBOL, params={"ordType": "oco"}) == []
    simulator.trade("okx", SYMBOL, "SELL", "2")
    (exits,) = await client.fetch_open_orders(SYMBOL, params={"ordType": "oco"})
    assert (exits["side"], exits["amount"], exits["info"]["slOrdPx"]) == ("sell", 1.999, "85"), "2 less the fee"
    assert (
        exits["info"]["algoId"]
        == (await client.fetch_order(placed["id"], SYMBOL))["info"]["attachAlgoOrds"][0]["attachAlgoId"]
    )
    go_to(simulator, 89)
    sold = await client.fetch_order((await algo(client, exits["id"]))["ordId"], SYMBOL)
    assert (sold["status"], sold["filled"], sold["average"]) == ("closed", 1.999, 88)


async def test_a_limit_take_profit_stands_in_the_book(simulator: Simulator, client: ccxt.pro.okx) -> None:
    await client.create_order(
        SYMBOL,
        "limit",
        "buy",
        2,
        100,
        {"takeProfit": {"triggerPrice": 110, "price": 110}, "stopLoss": {"triggerPrice": 90}},
    )
    (resting,) = await client.fetch_open_orders(SYMBOL)
    assert (resting["side"], resting["price"], resting["amount"]) == ("sell", 110, 1.998)
    go_to(simulator, 89)
    assert await client.fetch_open_orders(SYMBOL) == []
    last = (await client.fetch_my_trades(SYMBOL))[-1]
    assert (last["side"], last["amount"], last["price"]) == ("sell", 1.998, 88)


async def test_attached_exits_end_with_an_order_that_brought_nothing(
    simulator: Simulator, client: ccxt.pro.okx
) -> None:
    exits = {"takeProfit": {"triggerPrice": 110}, "stopLoss": {"triggerPrice": 90}}
    placed = await client.create_order(SYMBOL, "limit", "buy", 2, 95, exits)
    await client.cancel_order(placed["id"], SYMBOL)
    market = await client.create_order(SYMBOL, "market", "buy", 1, None, exits)
    assert (await client.fetch_order(market["id"], SYMBOL))["status"] == "closed"
    (left,) = await client.fetch_open_orders(SYMBOL, params={"ordType": "oco"})
    assert left["amount"] == 0.999
    await client.cancel_order(left["id"], SYMBOL, {"trigger": True})


# Streams and faults


async def test_watched_algo_orders(simulator: Simulator, client: ccxt.pro.okx) -> None:
    algos = {"trigger": True, "type": "spot"}
    watch = asyncio.create_task(client.watch_orders(SYMBOL, params=algos))
    deadline = asyncio.get_running_loop().time() + WAIT
    while not watch.done():  # ccxt does not say when it hears; what is placed before that is not told
        assert asyncio.get_running_loop().time() < deadline
        placed = await client.create_order(SYMBOL, "market", "sell", 0.1, None, {"stopLossPrice": 90})
        await asyncio.wait([watch], timeout=0.2)
    assert watch.result()[-1]["status"] == "open"
    go_to(simulator, 89)
    while not any(one["id"] == placed["id"] and one["info"]["state"] == "effective" for one in client.triggerOrders):
        assert asyncio.get_running_loop().time() < deadline + WAIT
        await asyncio.sleep(0.05)


async def test_both_channels_tell_their_part(simulator: Simulator, account: Credentials) -> None:
    async with (
        okx_socket(simulator, "private", account) as private,
        okx_socket(simulator, "business", account) as business,
    ):
        for socket, channel in ((private, "orders"), (business, "orders-algo")):
            await socket.send({"op": "subscribe", "args": [{"channel": channel, "instType": "SPOT"}]})
            await socket.until(lambda message: message.get("event") == "channel-conn-count")
        exits = {"tpTriggerPx": "110", "tpOrdPx": "-1", "slTriggerPx": "90", "slOrdPx": "-1"}
        body = {**order(px="100", sz="2"), "attachAlgoOrds": [exits]}
        await private.send({"id": "1", "op": "order", "args": [body]})
        states = [(await private.until(lambda m: "data" in m and "arg" in m))["data"][0]["state"] for _ in range(2)]
        assert states == ["live", "filled"]
        live = (await business.until(lambda m: "data" in m))["data"][0]
        assert (live["state"], live["ordType"], live["sz"]) == ("live", "oco", "1.998")
        go_to(simulator, 89)
        rows = [(await private.until(lambda m: "data" in m and "arg" in m))["data"][0] for _ in range(2)]
        assert [row["state"] for row in rows] == ["live", "filled"]
        done = (await business.until(lambda m: "data" in m))["data"][0]
        assert (done["state"], done["actualSide"], done["ordId"]) == ("effective", "sl", rows[0]["ordId"])


async def test_faults_strike_algo_orders(simulator: Simulator, client: ccxt.pro.okx) -> None:
    simulator.fault(
        "refuse",
        exchange="okx",
        operation="POST /api/v5/trade/order-algo",
        parameters={"reason": "backend_timeout", "apply": True},
        count=1,
    )
    with pytest.raises(ccxt.BaseError, match="50004"):
        await client.create_order(SYMBOL, "market", "sell", 2, None, {"stopLossPrice": 90})
    (found,) = await client.fetch_open_orders(SYMBOL, params={"ordType": "conditional"})
    await client.cancel_order(found["id"], SYMBOL, {"trigger": True})
