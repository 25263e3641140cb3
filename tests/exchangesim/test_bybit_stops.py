"""Conditional orders of the simulated Bybit and the exits of limit orders, with the real ccxt as client."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from typing import Any

import ccxt
import ccxt.pro
import pytest

from tests.exchangesim.bybit_client import bybit_client, bybit_simulator, bybit_socket  # noqa: F401
from tests.exchangesim.simulator import Credentials, Simulator

SYMBOL = "AAA/USDT"
WAIT = 20.0
EXITS = {"takeProfit": {"triggerPrice": 110}, "stopLoss": {"triggerPrice": 90}}


@pytest.fixture
def simulator(bybit_simulator: Simulator) -> Simulator:  # noqa: F811
    bybit_simulator.clear_faults()
    go_to(bybit_simulator, 100)
    return bybit_simulator


def go_to(simulator: Simulator, price: int) -> None:
    """Let the market stand and trade at a price, with 20 AAA a side."""
    simulator.set_book("bybit", SYMBOL, bids=[(f"{price - 1}", "20")], asks=[(f"{price}", "20")])
    simulator.trade("bybit", SYMBOL, "BUY", "0.1")


@pytest.fixture
def account(simulator: Simulator) -> Credentials:
    return simulator.account("bybit", balances={"USDT": "10000", "AAA": "10"})


@pytest.fixture
async def client(simulator: Simulator, account: Credentials) -> AsyncIterator[ccxt.pro.bybit]:
    async with bybit_client(simulator, account) as client:
        yield client
        for kind in ("Order", "tpslOrder", "StopOrder", "BidirectionalTpslOrder"):
            await client.cancel_all_orders(SYMBOL, {"orderFilter": kind})


@pytest.mark.parametrize(
    ("arguments", "params", "kind", "locked", "reached", "average"),
    [
        (("market", "sell", 2), {"stopLossPrice": 90}, "tpslOrder", {"AAA": 2}, 89, 88),
        (("limit", "sell", 2, 80), {"stopLossPrice": 90}, "tpslOrder", {"AAA": 2}, 89, 88),
        (("market", "sell", 2), {"takeProfitPrice": 110}, "tpslOrder", {"AAA": 2}, 111, 110),
        (("limit", "buy", 2, 120), {"stopLossPrice": 110}, "tpslOrder", {"USDT": 240}, 112, 112),
        (("market", "sell", 2), {"triggerPrice": 90}, "StopOrder", {"AAA": 0}, 89, 88),
        (("limit", "buy", 2, 120), {"triggerPrice": 110}, "StopOrder", {"USDT": 0}, 112, 112),
    ],
    ids=["stop", "stop limit", "take profit", "stop buy", "conditional", "conditional buy"],
)
async def test_a_conditional_order_waits_and_is_triggered(
    simulator: Simulator,
    client: ccxt.pro.bybit,
    arguments: tuple[Any, ...],
    params: dict[str, Any],
    kind: str,
    locked: dict[str, float],
    reached: int,
    average: int,
) -> None:
    placed = await client.create_order(SYMBOL, *arguments, params=params)
    (waiting,) = await client.fetch_open_orders(SYMBOL)
    assert (waiting["id"], waiting["status"]) == (placed["id"], "open")
    assert (waiting["info"]["orderStatus"], waiting["triggerPrice"]) == ("Untriggered", next(iter(params.values())))
    assert [one["id"] for one in await client.fetch_open_orders(SYMBOL, params={"orderFilter": kind})] == [placed["id"]]
    assert await client.fetch_open_orders(SYMBOL, params={"orderFilter": "Order"}) == []
    held = (await client.fetch_balance())["used"]
    assert {asset: held[asset] for asset in locked} == locked
    go_to(simulator, reached)
    done = (await client.fetch_closed_orders(SYMBOL))[-1]
    assert (done["id"], done["status"], done["filled"], done["average"]) == (placed["id"], "closed", 2, average)
    assert await client.fetch_open_orders(SYMBOL) == []


async def test_a_waiting_order_is_cancelled_as_what_it_is(client: ccxt.pro.bybit) -> None:
    tpsl = await client.create_order(SYMBOL, "market", "sell", 2, None, {"stopLossPrice": 90})
    stop = await client.create_order(SYMBOL, "market", "sell", 2, None, {"triggerPrice": 90})
    with pytest.raises(ccxt.OrderNotFound):
        await client.cancel_order(tpsl["id"], SYMBOL)
    await client.cancel_order(tpsl["id"], SYMBOL, {"orderFilter": "tpslOrder"})
    await client.cancel_order(stop["id"], SYMBOL, {"trigger": True})
    assert await client.fetch_open_orders(SYMBOL) == []
    ended = await client.fetch_canceled_orders(SYMBOL)
    assert {one["id"] for one in ended} <= {tpsl["id"], stop["id"]}
    history = await client.private_get_v5_order_history({"category": "spot", "symbol": "AAAUSDT"})
    assert {row["orderStatus"] for row in history["result"]["list"]} == {"Deactivated"}
    assert (await client.fetch_balance())["used"]["AAA"] == 0


async def test_a_stop_order_without_funds_is_rejected_when_it_is_triggered(
    simulator: Simulator, client: ccxt.pro.bybit, account: Credentials
) -> None:
    placed = await client.create_order(SYMBOL, "market", "sell", 2, None, {"triggerPrice": 90})
    simulator.transfer(account, "AAA", "-9")
    go_to(simulator, 89)
    history = await client.private_get_v5_order_history({"category": "spot", "orderId": placed["id"]})
    assert [row["orderStatus"] for row in history["result"]["list"]] == ["Rejected"]


@pytest.mark.parametrize(
    ("arguments", "params", "error"),
    [
        (("market", "sell", 11), {"stopLossPrice": 90}, ccxt.InsufficientFunds),
        (("market", "sell", 2), {"stopLossPrice": 100}, ccxt.BadRequest),
        (("market", "sell", 0.0001), {"triggerPrice": 90}, ccxt.InvalidOrder),
        (("limit", "buy", 2, 95), {"takeProfit": {"triggerPrice": 94}}, ccxt.BadRequest),
        (("limit", "buy", 2, 95), {"stopLoss": {"triggerPrice": 96}}, ccxt.BadRequest),
    ],
    ids=["no funds", "at the price", "small", "profit below", "loss above"],
)
async def test_what_cannot_be_is_refused(
    client: ccxt.pro.bybit, arguments: tuple[Any, ...], params: dict[str, Any], error: type[Exception]
) -> None:
    with pytest.raises(error):
        await client.create_order(SYMBOL, *arguments, params=params)
    assert await client.fetch_open_orders(SYMBOL) == []


# Exits of a limit order


async def test_exits_come_when_the_limit_order_is_filled(simulator: Simulator, client: ccxt.pro.bybit) -> None:
    placed = await client.create_order(SYMBOL, "limit", "buy", 2, 100, EXITS)
    entry = (await client.fetch_closed_orders(SYMBOL))[-1]
    assert (entry["id"], entry["takeProfitPrice"], entry["stopLossPrice"]) == (placed["id"], 110, 90)
    exits = await client.fetch_open_orders(SYMBOL)
    assert {(one["side"], one["triggerPrice"], one["amount"]) for one in exits} == {
        ("sell", 110, 1.998),
        ("sell", 90, 1.998),
    }
    assert {one["info"]["stopOrderType"] for one in exits} == {"BidirectionalTpslOrder"}
    assert (await client.fetch_balance())["used"]["AAA"] == 1.998, "once for both"
    go_to(simulator, 89)
    assert await client.fetch_open_orders(SYMBOL) == []
    history = await client.private_get_v5_order_history({"category": "spot", "symbol": "AAAUSDT"})
    told = {(row["triggerPrice"], row["orderStatus"]) for row in history["result"]["list"]}
    assert told == {("0", "Filled"), ("90", "Filled"), ("110", "Deactivated")}
    assert (await client.fetch_balance())["used"]["AAA"] == 0


async def test_exits_wait_for_the_order_and_end_with_it(simulator: Simulator, client: ccxt.pro.bybit) -> None:
    placed = await client.create_order(SYMBOL, "limit", "buy", 2, 95, EXITS)
    (entry,) = await client.fetch_open_orders(SYMBOL)
    assert (entry["id"], entry["stopLossPrice"]) == (placed["id"], 90)
    await client.cancel_order(placed["id"], SYMBOL)
    history = await client.private_get_v5_order_history({"category": "spot", "symbol": "AAAUSDT"})
    assert [row["orderId"] for row in history["result"]["list"]] == [placed["id"]], "the exits never were"


async def test_what_a_cancelled_order_has_brought_is_protected(simulator: Simulator, client: ccxt.pro.bybit) -> None:
    simulator.set_book("bybit", SYMBOL, bids=[("99", "20")], asks=[("100", "0.5"), ("105", "20")])
    placed = await client.create_order(SYMBOL, "limit", "buy", 2, 100, {"stopLoss": {"triggerPrice": 90, "price": 85}})
    assert [one["id"] for one in await client.fetch_open_orders(SYMBOL)] == [placed["id"]]
    await client.cancel_order(placed["id"], SYMBOL)
    (stop,) = await client.fetch_open_orders(SYMBOL)
    assert (stop["amount"], stop["price"], stop["info"]["stopOrderType"]) == (0.499, 85, "tpslOrder")


async def test_cancelling_an_exit_cancels_the_other(client: ccxt.pro.bybit) -> None:
    await client.create_order(SYMBOL, "limit", "buy", 2, 100, EXITS)
    exits = await client.fetch_open_orders(SYMBOL)
    await client.cancel_order(exits[0]["id"], SYMBOL, {"orderFilter": "BidirectionalTpslOrder"})
    assert await client.fetch_open_orders(SYMBOL) == []


# Streams and faults


async def test_the_order_topic_tells_of_waiting_and_of_the_trigger(
    simulator: Simulator, client: ccxt.pro.bybit, account: Credentials
) -> None:
    async with bybit_socket(simulator, "private", account) as socket:
        await socket.send({"op": "subscribe", "args": ["order"]})
        await socket.until(lambda message: message.get("op") == "subscribe")
        await client.create_order(SYMBOL, "limit", "buy", 2, 100, EXITS)
        go_to(simulator, 89)
        rows = []
        while len(rows) < 7:
            rows += (await socket.until(lambda message: message.get("topic") == "order"))["data"]
    told = [(row["triggerPrice"], row["orderStatus"]) for row in rows]
    assert told == [
        ("0", "New"),
        ("0", "Filled"),
        ("110", "Untriggered"),
        ("90", "Untriggered"),
        ("110", "Deactivated"),
        ("90", "New"),
        ("90", "Filled"),
    ]


async def test_watched_orders_tell_of_the_trigger(simulator: Simulator, client: ccxt.pro.bybit) -> None:
    watch = asyncio.create_task(client.watch_orders(SYMBOL))
    deadline = asyncio.get_running_loop().time() + WAIT
    while not watch.done():  # ccxt does not say when it hears; what is placed before that is not told
        assert asyncio.get_running_loop().time() < deadline
        placed = await client.create_order(SYMBOL, "market", "sell", 0.1, None, {"stopLossPrice": 90})
        await asyncio.wait([watch], timeout=0.2)
    orders = watch.result()
    assert (orders[-1]["status"], orders[-1]["triggerPrice"]) == ("open", 90)
    go_to(simulator, 89)
    while not any(one["id"] == placed["id"] and one["status"] == "closed" for one in client.orders):
        assert asyncio.get_running_loop().time() < deadline + WAIT
        await asyncio.sleep(0.05)


async def test_faults_strike_conditional_orders(simulator: Simulator, client: ccxt.pro.bybit) -> None:
    simulator.fault(
        "refuse",
        exchange="bybit",
        operation="POST /v5/order/create",
        parameters={"reason": "backend_timeout", "apply": True},
        count=1,
    )
    with pytest.raises(ccxt.BaseError, match="10000"):
        await client.create_order(SYMBOL, "market", "sell", 2, None, {"stopLossPrice": 90})
    assert len(await client.fetch_open_orders(SYMBOL)) == 1
