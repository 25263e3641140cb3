"""Conditional orders and order lists of the simulated Binance: the real ccxt as client, and its WebSocket API raw."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import ccxt
import ccxt.pro
import pytest

from tests.exchangesim.clients import binance_client
from tests.exchangesim.raw_binance import raw_binance
from tests.exchangesim.simulator import Credentials, Simulator, running_simulator, shared_simulator  # noqa: F401

SYMBOL, NATIVE = "BTC/USDT", "BTCUSDT"
WAIT = 20.0
OCO = {
    "symbol": NATIVE,
    "side": "SELL",
    "quantity": "0.5",
    "aboveType": "LIMIT_MAKER",
    "abovePrice": "61000",
    "belowType": "STOP_LOSS_LIMIT",
    "belowStopPrice": "59000",
    "belowPrice": "58000",
    "belowTimeInForce": "GTC",
}
OTOCO = {
    "symbol": NATIVE,
    "workingType": "LIMIT",
    "workingSide": "BUY",
    "workingPrice": "60000",
    "workingQuantity": "0.5",
    "workingTimeInForce": "GTC",
    "pendingSide": "SELL",
    "pendingQuantity": "0.4",
    "pendingAboveType": "LIMIT_MAKER",
    "pendingAbovePrice": "61000",
    "pendingBelowType": "STOP_LOSS",
    "pendingBelowStopPrice": "59000",
}


@pytest.fixture
def simulator(shared_simulator: Simulator) -> Simulator:  # noqa: F811
    """A simulator whose BTC/USDT stands at 60000, with 5 BTC at each price."""
    shared_simulator.clear_faults()
    stand(shared_simulator)
    return shared_simulator


def stand(simulator: Simulator) -> None:
    bids = [("59990.00", "5"), ("59980.00", "5")]
    simulator.set_book("binance", SYMBOL, bids=bids, asks=[("60000.00", "5"), ("60010.00", "5")])
    simulator.trade("binance", SYMBOL, "BUY", "0.001")


def fall(simulator: Simulator, price: str = "58900.00") -> None:
    """Let the market stand and trade at a lower price."""
    simulator.set_book("binance", SYMBOL, bids=[(price, "5")], asks=[("60000.00", "5")])
    simulator.trade("binance", SYMBOL, "SELL", "0.001")


@pytest.fixture
def account(simulator: Simulator) -> Credentials:
    return simulator.account("binance", balances={"USDT": "1000000", "BTC": "2"})


@pytest.fixture
async def client(simulator: Simulator, account: Credentials) -> AsyncIterator[ccxt.pro.binance]:
    async with binance_client(simulator, account) as client:
        await client.load_markets()
        yield client
        if await client.fetch_open_orders(SYMBOL):  # the next test's market is to be its own
            await client.cancel_all_orders(SYMBOL)


@pytest.mark.parametrize(
    ("arguments", "params", "kind", "locked"),
    [
        (("market", "sell", 0.5), {"stopLossPrice": 59000}, "STOP_LOSS", {"BTC": 0.5}),
        (("limit", "sell", 0.5, 58000), {"triggerPrice": 59000}, "STOP_LOSS_LIMIT", {"BTC": 0.5}),
        (("market", "sell", 0.5), {"takeProfitPrice": 61000}, "TAKE_PROFIT", {"BTC": 0.5}),
        (("limit", "buy", 0.5, 59500), {"takeProfitPrice": 59000}, "TAKE_PROFIT_LIMIT", {"USDT": 29750}),
        (("limit", "buy", 0.5, 62000), {"stopLossPrice": 61000}, "STOP_LOSS_LIMIT", {"USDT": 31000}),
    ],
    ids=["stop", "stop limit", "take profit", "take profit limit buy", "stop limit buy"],
)
async def test_a_conditional_order_is_placed_found_and_cancelled(
    client: ccxt.pro.binance,
    arguments: tuple[Any, ...],
    params: dict[str, Any],
    kind: str,
    locked: dict[str, float],
) -> None:
    order = await client.create_order(SYMBOL, *arguments, params=params)
    trigger = next(iter(params.values()))
    assert (order["status"], order["triggerPrice"], order["info"]["type"]) == ("open", trigger, kind)
    assert order["info"]["workingTime"] == -1
    found = await client.fetch_open_orders(SYMBOL)
    assert [(one["id"], one["triggerPrice"]) for one in found] == [(order["id"], trigger)]
    assert found[0]["info"]["isWorking"] is False
    held = (await client.fetch_balance())["used"]
    assert {asset: held[asset] for asset in locked} == locked
    assert (await client.cancel_order(order["id"], SYMBOL))["status"] == "canceled"
    assert (await client.fetch_balance())["used"]["BTC"] == 0


async def test_a_stop_that_is_reached_sells(simulator: Simulator, client: ccxt.pro.binance) -> None:
    market = await client.create_order(SYMBOL, "market", "sell", 0.5, None, {"stopLossPrice": 59000})
    limit = await client.create_order(SYMBOL, "limit", "sell", 0.5, 58950, {"stopLossPrice": 59000})
    fall(simulator)
    sold, resting = await client.fetch_order(market["id"], SYMBOL), await client.fetch_order(limit["id"], SYMBOL)
    assert (sold["status"], sold["filled"], sold["average"]) == ("closed", 0.5, 58900)
    assert (resting["status"], resting["filled"], resting["info"]["isWorking"]) == ("open", 0, True)
    assert int(resting["info"]["workingTime"]) >= int(resting["info"]["time"])
    assert (await client.fetch_order_book(SYMBOL))["asks"][0][:2] == [58950, 0.5]
    await client.cancel_order(limit["id"], SYMBOL)


@pytest.mark.parametrize(
    ("arguments", "params", "error", "text"),
    [
        (("market", "sell", 0.5), {"stopLossPrice": 60500}, ccxt.OrderImmediatelyFillable, "trigger immediately"),
        (("market", "sell", 0.5), {"takeProfitPrice": 59000}, ccxt.OrderImmediatelyFillable, "trigger immediately"),
        (("market", "sell", 3), {"stopLossPrice": 59000}, ccxt.InsufficientFunds, "insufficient balance"),
        (("limit", "sell", 0.5, 58000), {"stopLossPrice": 59000, "timeInForce": "X"}, ccxt.BadRequest, "-1115"),
    ],
    ids=["stop above", "profit below", "no funds", "time in force"],
)
async def test_a_conditional_order_is_refused(
    client: ccxt.pro.binance,
    arguments: tuple[Any, ...],
    params: dict[str, Any],
    error: type[Exception],
    text: str,
) -> None:
    with pytest.raises(error, match=text):
        await client.create_order(SYMBOL, *arguments, params=params)
    assert await client.fetch_open_orders(SYMBOL) == []


async def test_no_more_than_five_conditional_orders_a_market(client: ccxt.pro.binance) -> None:
    for _ in range(5):
        await client.create_order(SYMBOL, "market", "sell", 0.01, None, {"stopLossPrice": 59000})
    with pytest.raises(ccxt.ExchangeError, match="MAX_NUM_ALGO_ORDERS"):
        await client.create_order(SYMBOL, "market", "sell", 0.01, None, {"stopLossPrice": 59000})
    await client.cancel_all_orders(SYMBOL)
    assert await client.fetch_open_orders(SYMBOL) == []


# Order lists


async def test_an_oco_pair_is_placed_asked_after_and_cancelled(client: ccxt.pro.binance) -> None:
    placed = await client.private_post_orderlist_oco({**OCO, "listClientOrderId": "pair"})
    assert (placed["contingencyType"], placed["listStatusType"], placed["listOrderStatus"]) == (
        "OCO",
        "EXEC_STARTED",
        "EXECUTING",
    )
    stop, limit = placed["orderReports"]
    assert (stop["type"], stop["stopPrice"], stop["price"]) == ("STOP_LOSS_LIMIT", "59000.00000000", "58000.00000000")
    assert (limit["type"], limit["price"], limit["status"]) == ("LIMIT_MAKER", "61000.00000000", "NEW")
    assert (await client.fetch_balance())["used"]["BTC"] == 0.5, "both legs sell the same half"
    orders = await client.fetch_open_orders(SYMBOL)
    assert {order["info"]["orderListId"] for order in orders} == {placed["orderListId"]}
    by_id = {"orderListId": placed["orderListId"]}
    assert await client.private_get_orderlist(by_id) == await client.private_get_orderlist(
        {"origClientOrderId": "pair"}
    )
    assert [one["orderListId"] for one in await client.private_get_openorderlist()] == [placed["orderListId"]]
    gone = await client.private_delete_orderlist({"symbol": NATIVE, **by_id})
    assert (gone["listStatusType"], [report["status"] for report in gone["orderReports"]]) == (
        "ALL_DONE",
        ["CANCELED", "CANCELED"],
    )
    assert (await client.private_get_openorderlist(), await client.fetch_open_orders(SYMBOL)) == ([], [])
    assert [one["listOrderStatus"] for one in await client.private_get_allorderlist()] == ["ALL_DONE"]
    with pytest.raises(ccxt.OrderNotFound):
        await client.private_delete_orderlist({"symbol": NATIVE, **by_id})
    with pytest.raises(ccxt.OrderNotFound):
        await client.private_get_orderlist({"orderListId": "999999"})


async def test_the_deprecated_form_makes_the_same_pair(client: ccxt.pro.binance) -> None:
    old = {"symbol": NATIVE, "side": "SELL", "quantity": "0.5", "price": "61000", "stopPrice": "59000"}
    placed = await client.private_post_order_oco(
        {**old, "stopLimitPrice": "58000", "stopLimitTimeInForce": "GTC", "newOrderRespType": "FULL"}
    )
    assert [report["type"] for report in placed["orderReports"]] == ["STOP_LOSS_LIMIT", "LIMIT_MAKER"]
    await client.cancel_all_orders(SYMBOL)
    placed = await client.private_post_order_oco(old)
    assert [report["type"] for report in placed["orderReports"]] == ["STOP_LOSS", "LIMIT_MAKER"]
    cancelled = await client.private_delete_order({"symbol": NATIVE, "orderId": placed["orders"][1]["orderId"]})
    assert len(cancelled["orderReports"]) == 2, "one leg takes the other along"
    assert await client.fetch_open_orders(SYMBOL) == []


async def test_a_leg_that_trades_in_part_ends_the_stop(simulator: Simulator, client: ccxt.pro.binance) -> None:
    plain = {**OCO, "belowType": "STOP_LOSS", "belowPrice": None, "belowTimeInForce": None}
    placed = await client.private_post_orderlist_oco(_given(plain))
    stop, limit = (order["orderId"] for order in placed["orders"])
    simulator.set_book("binance", SYMBOL, bids=[("60900.00", "5")], asks=[("61500.00", "5")])
    simulator.trade("binance", SYMBOL, "BUY", "0.2")
    assert (await client.fetch_order(limit, SYMBOL))["filled"] == 0.2
    ended = await client.fetch_order(stop, SYMBOL)
    assert (ended["status"], ended["info"]["expiryReason"]) == ("expired", "OCO_TRIGGER")
    assert await client.private_get_openorderlist() == []
    assert (await client.fetch_balance())["used"]["BTC"] == 0.3
    assert (await client.fetch_my_trades(SYMBOL))[-1]["info"]["orderListId"] == placed["orderListId"]


async def test_a_stop_that_is_reached_ends_the_limit(simulator: Simulator, client: ccxt.pro.binance) -> None:
    placed = await client.private_post_orderlist_oco(OCO)
    stop, limit = (order["orderId"] for order in placed["orders"])
    fall(simulator)
    sold, ended = await client.fetch_order(stop, SYMBOL), await client.fetch_order(limit, SYMBOL)
    assert (sold["status"], sold["average"]) == ("closed", 58900)
    assert (ended["status"], ended["info"]["expiryReason"]) == ("expired", "OCO_TRIGGER")


@pytest.mark.parametrize(
    ("changes", "code"),
    [
        ({"abovePrice": "59500"}, "-2010.*relationship"),
        ({"belowStopPrice": "60500"}, "-2010.*relationship"),
        ({"quantity": "3"}, "insufficient balance"),
        ({"belowType": "LIMIT_MAKER", "belowStopPrice": None, "belowTimeInForce": None}, "-1168"),
        ({"belowType": "MARKET"}, "-1158"),
        ({"side": "BUY"}, "-1165"),
        ({"aboveType": "STOP_LOSS", "abovePrice": None, "aboveStopPrice": "61000"}, "-1197"),
        ({"belowType": "TAKE_PROFIT_LIMIT"}, "-1199"),
        ({"belowTimeInForce": None}, "-1102.*belowTimeInForce"),
        ({"belowStopPrice": None}, "-1102.*belowStopPrice"),
        ({"aboveStopPrice": "61000"}, "-1106.*aboveStopPrice"),
        ({"aboveTrailingDelta": "10"}, "-1104"),
    ],
    ids=lambda value: value if isinstance(value, str) else None,
)
async def test_a_pair_that_breaks_a_rule_is_refused_whole(
    client: ccxt.pro.binance, changes: dict[str, Any], code: str
) -> None:
    with pytest.raises(ccxt.BaseError, match=code):
        await client.private_post_orderlist_oco(_given({**OCO, **changes}))
    assert await client.fetch_open_orders(SYMBOL) == []


async def test_an_entry_with_its_protection_is_one_request(simulator: Simulator, client: ccxt.pro.binance) -> None:
    placed = await client.private_post_orderlist_otoco({**OTOCO, "workingPrice": "59985"})
    working, stop, limit = placed["orderReports"]
    assert [report["status"] for report in (working, stop, limit)] == ["NEW", "PENDING_NEW", "PENDING_NEW"]
    assert placed["contingencyType"] == "OTO"
    simulator.trade("binance", SYMBOL, "SELL", "5.4")
    assert (await client.fetch_order(stop["orderId"], SYMBOL))["info"]["status"] == "PENDING_NEW", "partly filled"
    simulator.trade("binance", SYMBOL, "SELL", "0.2")
    statuses = [(await client.fetch_order(one["orderId"], SYMBOL))["info"]["status"] for one in (working, stop, limit)]
    assert statuses == ["FILLED", "NEW", "NEW"]
    assert (await client.fetch_balance())["used"]["BTC"] == 0.4
    fall(simulator)
    statuses = [(await client.fetch_order(one["orderId"], SYMBOL))["info"]["status"] for one in (stop, limit)]
    assert statuses == ["FILLED", "EXPIRED"]


async def test_an_entry_that_fills_at_once_answers_with_pending_legs(client: ccxt.pro.binance) -> None:
    placed = await client.private_post_orderlist_otoco(OTOCO)
    assert [report["status"] for report in placed["orderReports"]] == ["FILLED", "PENDING_NEW", "PENDING_NEW"]
    assert [order["status"] for order in await client.fetch_open_orders(SYMBOL)] == ["open", "open"]
    await client.cancel_all_orders(SYMBOL)


async def test_an_entry_that_expires_takes_its_protection_along(client: ccxt.pro.binance) -> None:
    placed = await client.private_post_orderlist_otoco({**OTOCO, "workingPrice": "59000", "workingTimeInForce": "IOC"})
    reasons = [(await client.fetch_order(one["orderId"], SYMBOL))["info"]["expiryReason"] for one in placed["orders"]]
    assert reasons == ["UNFILLED_IOC_QUANTITY_EXPIRED", "OTO_PHASE_ONE_EXPIRED", "OTO_PHASE_ONE_EXPIRED"]


async def test_one_order_may_trigger_one_other(simulator: Simulator, client: ccxt.pro.binance) -> None:
    oto = {name: value for name, value in OTOCO.items() if not name.startswith("pending")}
    pending = {"pendingType": "MARKET", "pendingSide": "SELL", "pendingQuantity": "0.1"}
    placed = await client.private_post_orderlist_oto({**oto, **pending})
    assert (await client.fetch_order(placed["orders"][1]["orderId"], SYMBOL))["status"] == "closed"
    assert await client.private_get_openorderlist() == []


# Streams and the WebSocket API


async def test_watched_orders_tell_of_the_trigger(simulator: Simulator, client: ccxt.pro.binance) -> None:
    watch = asyncio.create_task(client.watch_orders(SYMBOL))
    deadline = asyncio.get_running_loop().time() + WAIT
    while True:  # ccxt does not say when it hears; what is placed before that is not told
        assert asyncio.get_running_loop().time() < deadline
        placed = await client.create_order(SYMBOL, "market", "sell", 0.5, None, {"stopLossPrice": 59000})
        await asyncio.wait([watch], timeout=0.5)
        if watch.done():
            break
        await client.cancel_order(placed["id"], SYMBOL)
    await _until(lambda: _cached(client, placed["id"]) == ("open", 59000))
    fall(simulator)
    await _until(lambda: _cached(client, placed["id"]) == ("closed", 59000))


async def test_stops_are_placed_over_the_websocket(simulator: Simulator, client: ccxt.pro.binance) -> None:
    # By Binance's own name: ccxt sends its unified one along here, which is refused as unread.
    placed = await client.create_order_ws(SYMBOL, "market", "sell", 0.5, None, {"stopPrice": 59000})
    assert [one["id"] for one in await client.fetch_open_orders_ws(SYMBOL)] == [placed["id"]]
    fall(simulator)
    assert (await client.fetch_order(placed["id"], SYMBOL))["average"] == 58900


async def test_the_websocket_api_places_lists_and_the_stream_tells_of_them(
    simulator: Simulator, account: Credentials
) -> None:
    async with raw_binance(simulator, account) as binance, binance.socket("/ws-api/v3") as socket:
        await socket.call("userDataStream.subscribe.signature", **socket.sign())
        answer = await socket.call("orderList.place.oco", **socket.sign(**OCO))
        assert answer["status"] == 200
        assert {row["count"] for row in answer["rateLimits"] if row["rateLimitType"] == "ORDERS"} == {2}
        list_id = answer["result"]["orderListId"]
        reports = [(await socket.event("executionReport"))["event"] for _ in range(2)]
        assert [(report["o"], report["x"], report["g"]) for report in reports] == [
            ("STOP_LOSS_LIMIT", "NEW", list_id),
            ("LIMIT_MAKER", "NEW", list_id),
        ]
        assert (reports[0]["P"], reports[0]["w"], "W" in reports[0]) == ("59000.00000000", False, False)
        begun = (await socket.event("listStatus"))["event"]
        assert (begun["g"], begun["c"], begun["l"], begun["L"]) == (list_id, "OCO", "EXEC_STARTED", "EXECUTING")
        assert [order["i"] for order in begun["O"]] == [order["orderId"] for order in answer["result"]["orders"]]
        status = await socket.call("orderList.status", **socket.sign(orderListId=list_id))
        assert status["result"]["listOrderStatus"] == "EXECUTING"
        assert len((await socket.call("openOrderLists.status", **socket.sign()))["result"]) == 1
        fall(simulator)
        ended = (await socket.event("executionReport", x="EXPIRED"))["event"]
        assert (ended["o"], ended["eR"]) == ("LIMIT_MAKER", "OCO_TRIGGER")
        working = (await socket.event("executionReport", x="NEW"))["event"]
        assert (working["o"], working["w"], working["W"] > 0) == ("STOP_LOSS_LIMIT", True, True)
        assert (await socket.event("executionReport", x="TRADE"))["event"]["X"] == "FILLED"
        assert (await socket.event("listStatus"))["event"]["L"] == "ALL_DONE"
        stand(simulator)
        again = await socket.call("orderList.place.otoco", **socket.sign(**{**OTOCO, "workingPrice": "59000"}))
        gone = await socket.call(
            "orderList.cancel", **socket.sign(symbol=NATIVE, orderListId=again["result"]["orderListId"])
        )
        assert [report["status"] for report in gone["result"]["orderReports"]] == ["CANCELED"] * 3
        assert len((await socket.call("allOrderLists", **socket.sign()))["result"]) == 2


async def test_faults_strike_order_lists(simulator: Simulator, client: ccxt.pro.binance) -> None:
    simulator.fault(
        "refuse",
        exchange="binance",
        operation="POST /api/v3/orderList/oco",
        parameters={"reason": "backend_timeout", "apply": True},
        count=1,
    )
    with pytest.raises(ccxt.RequestTimeout):
        await client.private_post_orderlist_oco({**OCO, "listClientOrderId": "unknown"})
    found = await client.private_get_orderlist({"origClientOrderId": "unknown"})
    assert found["listOrderStatus"] == "EXECUTING", "it was placed all the same"
    await client.cancel_all_orders(SYMBOL)


async def test_stops_and_pairs_survive_a_kill(tmp_path: Path) -> None:
    far = {"abovePrice": "150000", "belowStopPrice": "20000", "belowPrice": "15000"}  # out of a new market's way
    with running_simulator("--exchanges", "binance", "--state", str(tmp_path)) as first:
        stand(first)
        account = first.account("binance", balances={"USDT": "1000000", "BTC": "2"})
        async with binance_client(first, account) as client:
            await client.load_markets()
            await client.create_order(SYMBOL, "market", "sell", 0.25, None, {"stopLossPrice": 20000})
            placed = await client.private_post_orderlist_oco({**OCO, **far})
        first.kill()
    with running_simulator("--exchanges", "binance", "--state", str(tmp_path)) as second:
        stand(second)
        async with binance_client(second, account) as client:
            await client.load_markets()
            assert len(await client.fetch_open_orders(SYMBOL)) == 3
            assert (await client.fetch_balance())["used"]["BTC"] == 0.75
            fall(second, "19000.00")
            assert await client.fetch_open_orders(SYMBOL) == []
            done = await client.private_get_orderlist({"orderListId": placed["orderListId"]})
            assert done["listOrderStatus"] == "ALL_DONE"
        assert second.balances(account)["BTC"]["total"] == "1.25"


def _cached(client: ccxt.pro.binance, order_id: str) -> tuple[Any, Any] | None:
    """Return status and trigger price of an order as the stream has told them."""
    found = [one for one in client.orders or [] if one["id"] == order_id]
    return (found[-1]["status"], found[-1]["triggerPrice"]) if found else None


def _given(parameters: dict[str, Any]) -> dict[str, Any]:
    return {name: value for name, value in parameters.items() if value is not None}


async def _until(condition: Any) -> None:
    deadline = asyncio.get_running_loop().time() + WAIT
    while not condition():
        assert asyncio.get_running_loop().time() < deadline, "the condition has not come about"
        await asyncio.sleep(0.05)
