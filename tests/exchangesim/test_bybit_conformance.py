"""Every Bybit answer and event of which there is a real example has its keys and types in the simulator too.

Most examples are of contracts (category linear) whose messages carry a few keys more or other words in them than those
of spot orders; every such difference is named here with its reason.
"""

from __future__ import annotations

from collections.abc import AsyncIterator
from typing import Any

import pytest

from tests.exchangesim.bybit_client import (
    authentication,
    bybit_call,
    bybit_simulator,
    bybit_socket,
    command,
    order,
    still_book,
)
from tests.exchangesim.real_examples import Allowed, below, compare
from tests.exchangesim.simulator import Credentials, Simulator
from tests.recordings import recording

__all__ = ["bybit_simulator"]
pytestmark = pytest.mark.recordings

NEWER = "in the documentation, not in the example"
SPOT = "documented for spot; the example is of a contract"
NO_STOPS = "the example names triggers of attached stop orders, which ours has none of"
NULL = "the example has null, the documentation an empty text"
NUMBERS = "ids of spot orders and executions are numbers, those of contracts are not"
WORDS = "documented words (UNKNOWN, EC_NoError) where the example has an empty text"


@pytest.fixture
def credentials(bybit_simulator: Simulator) -> Credentials:
    still_book(bybit_simulator)
    return bybit_simulator.account("bybit", balances={"USDT": "10000", "AAA": "10"})


@pytest.fixture
async def events(bybit_simulator: Simulator, credentials: Credentials) -> AsyncIterator[list[Any]]:
    """Every private message of an order that fills and one that rests and is cancelled."""
    async with bybit_socket(bybit_simulator, "private", credentials) as socket:
        await socket.send({"op": "subscribe", "args": ["order", "execution", "wallet"]})
        filled = order(price="100.1", qty="0.5", orderLinkId="filled-1")
        await bybit_call(bybit_simulator, credentials, "POST", "/v5/order/create", filled)
        _, placed, _ = await bybit_call(
            bybit_simulator, credentials, "POST", "/v5/order/create", order(orderLinkId="rest-1")
        )
        reference = {"category": "spot", "symbol": "AAAUSDT", "orderId": placed["result"]["orderId"]}
        await bybit_call(bybit_simulator, credentials, "POST", "/v5/order/cancel", reference)
        await socket.until(lambda m: m.get("data", [{}])[0].get("orderStatus") == "Cancelled")
        await socket.until(lambda m: m.get("topic") == "wallet")
        yield socket.seen


def pushed(events: list[Any], topic: str, **fields: str) -> Any:
    """Return the first push of a topic whose first row has these fields."""
    for message in events:
        if message.get("topic") == topic:
            row = message["data"][0]
            if all(row.get(name) == value for name, value in fields.items()):
                return message
    raise AssertionError(f"no {topic} push with {fields}")


def test_every_example_is_compared() -> None:
    assert {path.name for path in recording("order_json/bybit").iterdir()} == {
        "http_get_executions.json",
        "http_get_fee_rate.json",
        "http_get_instruments_spot.json",
        "http_get_orders_history.json",
        "http_get_orders_realtime.json",
        "http_get_wallet_balance.json",
        "ws_account_execution.json",
        "ws_account_order.json",
        "ws_account_order_filled.json",
        "ws_account_wallet.json",
        "ws_auth_failure.json",
        "ws_auth_success.json",
        "ws_order_response.json",
        "ws_orderbook_delta.json",
        "ws_orderbook_snapshot.json",
        "ws_public_trade.json",
        "ws_subscription_ack.json",
        "ws_subscription_failure.json",
    }


async def test_instruments(bybit_simulator: Simulator) -> None:
    _, ours, _ = await bybit_call(bybit_simulator, None, "GET", "/v5/market/instruments-info?category=spot")
    extra = {"result.category": NEWER} | below("result.list[].", "symbolId stTag riskParameters symbolType", NEWER)
    sizes = "maxLimitOrderQty maxMarketOrderQty postOnlyMaxLimitOrderSize"
    extra |= below("result.list[].lotSizeFilter.", sizes, NEWER)
    compare("bybit/http_get_instruments_spot.json", ours, Allowed(extra))


async def test_fee_rate(bybit_simulator: Simulator, credentials: Credentials) -> None:
    _, ours, _ = await bybit_call(bybit_simulator, credentials, "GET", "/v5/account/fee-rate?category=spot")
    compare("bybit/http_get_fee_rate.json", ours)


async def test_wallet_balance(bybit_simulator: Simulator, credentials: Credentials) -> None:
    path = "/v5/account/wallet-balance?accountType=UNIFIED"
    _, ours, _ = await bybit_call(bybit_simulator, credentials, "GET", path)
    by_mp = "accountIMRateByMp accountMMRateByMp totalInitialMarginByMp totalMaintenanceMarginByMp"
    extra = below("result.list[].", by_mp, NEWER) | {"result.list[].coin[].spotHedgingQty": NEWER}
    unlike = below("result.list[].coin[].", "availableToWithdraw availableToBorrow", "deprecated: always empty now")
    compare("bybit/http_get_wallet_balance.json", ours, Allowed(extra, unlike=unlike))


async def test_executions(bybit_simulator: Simulator, credentials: Credentials) -> None:
    for link_id in ("first-1", "second-1"):
        filled = order(price="100.1", qty="0.1", orderLinkId=link_id)
        await bybit_call(bybit_simulator, credentials, "POST", "/v5/order/create", filled)
    _, ours, _ = await bybit_call(bybit_simulator, credentials, "GET", "/v5/execution/list?category=spot&limit=1")
    unlike = below("result.list[].", "markPrice indexPrice closedSize", SPOT)
    unlike |= {"result.nextPageCursor": "an opaque text; here a number"} | below(
        "result.list[].", "orderId execId", NUMBERS
    )
    compare("bybit/http_get_executions.json", ours, Allowed({"result.list[].extraFees": NEWER}, unlike=unlike))


ORDER_EXTRA = below(
    "result.list[].", "cumFeeDetail marketUnit slippageToleranceType slippageTolerance ocoTriggerBy basePrice", NEWER
) | {"result.category": NEWER, "result.list[].extraFees": NEWER}
ORDER_UNLIKE = below("result.list[].", "blockTradeId avgPrice orderIv", NULL) | below(
    "result.list[].", "tpTriggerBy slTriggerBy triggerBy tpslMode", NO_STOPS
)
ORDER_UNLIKE |= below("result.list[].", "smpOrderId placeType", "empty in the documentation's examples of plain orders")


async def test_open_orders(bybit_simulator: Simulator, credentials: Credentials) -> None:
    body = order(orderLinkId="open-order-1")
    await bybit_call(bybit_simulator, credentials, "POST", "/v5/order/create", body)
    _, ours, _ = await bybit_call(bybit_simulator, credentials, "GET", "/v5/order/realtime?category=spot")
    unlike = ORDER_UNLIKE | below("result.list[].", "cancelType rejectReason", WORDS)
    unlike |= {"result.list[].orderId": NUMBERS}
    compare("bybit/http_get_orders_realtime.json", ours, Allowed(ORDER_EXTRA, unlike=unlike))


async def test_order_history(bybit_simulator: Simulator, credentials: Credentials) -> None:
    _, placed, _ = await bybit_call(
        bybit_simulator, credentials, "POST", "/v5/order/create", order(orderLinkId="client-1")
    )
    reference = {"category": "spot", "symbol": "AAAUSDT", "orderId": placed["result"]["orderId"]}
    await bybit_call(bybit_simulator, credentials, "POST", "/v5/order/cancel", reference)
    _, ours, _ = await bybit_call(bybit_simulator, credentials, "GET", "/v5/order/history?category=spot")
    unlike = ORDER_UNLIKE | {
        "result.list[].orderId": NUMBERS,
        "result.list[].stopOrderType": NO_STOPS,
        "result.list[].rejectReason": WORDS,
    }
    compare("bybit/http_get_orders_history.json", ours, Allowed(ORDER_EXTRA, unlike=unlike))


async def test_execution_event(events: list[Any]) -> None:
    extra = below("data[].", "createType feeCurrency extraFees marketUnit execPnl", NEWER)
    unlike = below("data[].", "closedSize markPrice", SPOT) | {
        "data[].orderId": NUMBERS,
        "data[].execId": NUMBERS,
        "data[].stopOrderType": WORDS,
    }
    compare("bybit/ws_account_execution.json", pushed(events, "execution"), Allowed(extra, unlike=unlike))


EVENT_EXTRA = below(
    "data[].",
    "isLeverage cumFeeDetail marketUnit slippageToleranceType slippageTolerance ocoTriggerBy basePrice closedPnl "
    "extraFees",
    NEWER,
)


async def test_cancelled_order_event(events: list[Any]) -> None:
    ours = pushed(events, "order", orderStatus="Cancelled")
    unlike = {
        "data[].orderId": NUMBERS,
        "data[].avgPrice": "documented as empty for an order without fills",
        "data[].rejectReason": WORDS,
        **below("data[].", "blockTradeId orderIv smpOrderId", "empty in the documentation's example"),
        **below("data[].", "tpTriggerBy slTriggerBy triggerBy stopOrderType tpslMode placeType", NO_STOPS),
    }
    compare("bybit/ws_account_order.json", ours, Allowed(EVENT_EXTRA, unlike=unlike))


async def test_filled_order_event(events: list[Any]) -> None:
    ours = pushed(events, "order", orderStatus="Filled")
    unlike = {
        "data[].orderId": NUMBERS,
        "data[].rejectReason": WORDS,
        **below("data[].", "tpTriggerBy slTriggerBy triggerBy stopOrderType tpslMode placeType", NO_STOPS),
    }
    compare("bybit/ws_account_order_filled.json", ours, Allowed(EVENT_EXTRA, unlike=unlike))


async def test_wallet_event(events: list[Any]) -> None:
    by_mp = "accountIMRateByMp accountMMRateByMp totalInitialMarginByMp totalMaintenanceMarginByMp"
    extra = below("data[].", f"accountType totalPerpUPL {by_mp}", NEWER) | below(
        "data[].coin[].",
        "usdValue locked unrealisedPnl cumRealisedPnl bonus collateralSwitch marginCollateral spotHedgingQty",
        NEWER,
    )
    missing = {"data[].totalPerpUpl": "the documentation spells it totalPerpUPL"}
    unlike = {"data[].coin[].availableToWithdraw": "deprecated: always empty now"}
    compare("bybit/ws_account_wallet.json", pushed(events, "wallet"), Allowed(extra, missing, unlike))


async def test_book_topics(bybit_simulator: Simulator) -> None:
    """The examples are of level 1, which on spot has snapshots only; deltas come from 50 levels."""
    still_book(bybit_simulator)
    async with bybit_socket(bybit_simulator) as socket:
        await socket.send({"op": "subscribe", "args": ["orderbook.1.AAAUSDT", "orderbook.50.AAAUSDT"]})
        await socket.until(lambda m: m.get("topic") == "orderbook.50.AAAUSDT")
        bybit_simulator.set_book("bybit", "AAA/USDT", bids=[("99.7", "4")], asks=[("100.4", "1")])
        delta = await socket.until(lambda m: m.get("type") == "delta")
        snapshot = next(m for m in socket.seen if m.get("type") == "snapshot")
    compare("bybit/ws_orderbook_snapshot.json", snapshot, Allowed({"cts": NEWER}))
    compare("bybit/ws_orderbook_delta.json", delta, Allowed({"cts": NEWER}))


async def test_trade_topic(bybit_simulator: Simulator) -> None:
    still_book(bybit_simulator)
    async with bybit_socket(bybit_simulator) as socket:
        await socket.send({"op": "subscribe", "args": ["publicTrade.AAAUSDT"]})
        await socket.until(lambda m: m.get("op") == "subscribe")
        bybit_simulator.trade("bybit", "AAA/USDT", "BUY", "0.1")
        ours = await socket.next()
    unlike = {"data[].i": NUMBERS}
    compare("bybit/ws_public_trade.json", ours, Allowed(below("data[].", "RPI seq", NEWER), unlike=unlike))


async def test_order_answer(bybit_simulator: Simulator, credentials: Credentials) -> None:
    async with bybit_socket(bybit_simulator, "trade", credentials) as socket:
        await socket.send(command("order.create", "order-req-001", order(orderLinkId="client-order-1")))
        ours = await socket.next()
    compare("bybit/ws_order_response.json", ours, Allowed({"retExtInfo": NEWER, "header": NEWER}))


async def test_authentication_answers(bybit_simulator: Simulator, credentials: Credentials) -> None:
    """The examples mix the forms of the private URL (success) and of the trade URL (the rest), which is compared."""
    missing = {"success": "a key of the private URL; with it go ret_msg and conn_id, which the example does not have"}
    async with bybit_socket(bybit_simulator, "trade") as socket:
        await socket.send(authentication(credentials) | {"args": ["unknown", *authentication(credentials)["args"][1:]]})
        compare("bybit/ws_auth_failure.json", await socket.next(), Allowed(missing=missing))
        await socket.send(authentication(credentials))
        unlike = {"retMsg": "the documentation says OK"}
        compare("bybit/ws_auth_success.json", await socket.next(), Allowed(missing=missing, unlike=unlike))


async def test_subscription_answers(bybit_simulator: Simulator, credentials: Credentials) -> None:
    async with bybit_socket(bybit_simulator, "private", credentials) as socket:
        await socket.send({"op": "subscribe", "args": ["order"], "req_id": "sub-orderbook-1"})
        compare("bybit/ws_subscription_ack.json", await socket.next())
    async with bybit_socket(bybit_simulator) as socket:
        await socket.send({"op": "subscribe", "args": ["invalid.topic.BTCUSDT"]})
        compare("bybit/ws_subscription_failure.json", await socket.next())
