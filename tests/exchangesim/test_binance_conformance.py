"""Every spot answer and event we have a real example of has its keys and types."""

from __future__ import annotations

import json
from collections.abc import AsyncIterator
from typing import Any

import pytest

from tests.exchangesim.conformance import differences
from tests.exchangesim.raw_binance import RawBinance, raw_binance
from tests.exchangesim.simulator import Credentials, Simulator, shared_simulator  # noqa: F401
from tests.recordings import recording

pytestmark = pytest.mark.recordings

# Documented fields that the examples, taken from older or shortened messages, do not show.
EXPIRY = {"expiryReason"}  # "Conditional fields in Order Responses": when an order has expired
SHORTENED_REPORT = {"F", "g", "I", "M", "Y", "Q", "W", "V"}  # in the full example, left out in the shortened ones


def real(name: str) -> Any:
    return json.loads(recording(f"order_json/binance/spot/{name}").read_text())


@pytest.fixture
def simulator(shared_simulator: Simulator) -> Simulator:  # noqa: F811
    shared_simulator.set_book(
        "binance", "BTC/USDT", bids=[("59990", "1"), ("59980", "1")], asks=[("60000", "1"), ("60010", "1")]
    )
    return shared_simulator


@pytest.fixture
def account(simulator: Simulator) -> Credentials:
    return simulator.account("binance", balances={"USDT": "1000000", "BTC": "10"})


@pytest.fixture
async def binance(simulator: Simulator, account: Credentials) -> AsyncIterator[RawBinance]:
    async with raw_binance(simulator, account) as client:
        yield client


@pytest.mark.parametrize(
    ("example", "path", "parameters"),
    [
        ("ping_response", "/api/v3/ping", {}),
        ("server_time_response", "/api/v3/time", {}),
        ("depth_response", "/api/v3/depth", {"symbol": "BTCUSDT"}),
        ("avg_price_response", "/api/v3/avgPrice", {"symbol": "BTCUSDT"}),
        ("book_ticker_response", "/api/v3/ticker/bookTicker", {"symbol": "BTCUSDT"}),
        ("ticker_price_response", "/api/v3/ticker/price", {"symbol": "BTCUSDT"}),
        ("ticker_24hr_response", "/api/v3/ticker/24hr", {"symbol": "BTCUSDT"}),
        ("trades_response", "/api/v3/trades", {"symbol": "BTCUSDT"}),
        ("klines_response", "/api/v3/klines", {"symbol": "BTCUSDT", "interval": "1m"}),
    ],
)
async def test_public_answers(
    simulator: Simulator, binance: RawBinance, example: str, path: str, parameters: dict[str, str]
) -> None:
    simulator.trade("binance", "BTC/USDT", "BUY", "0.001")
    reply = await binance.get(path, **parameters)
    assert reply.status == 200
    assert differences(reply.json, real(f"http_json/{example}.json")) == []


async def test_exchange_information(binance: RawBinance) -> None:
    reply = await binance.get("/api/v3/exchangeInfo")
    # "sors": present only where smart order routing is. The example's rate limits and filters are empty lists.
    assert differences(reply.json, real("http_json/exchange_info_response.json"), missing={"sors"}) == []
    one = await binance.get("/api/v3/exchangeInfo", symbol="BTCUSDT")
    filters = {row["filterType"]: row for row in one.json["symbols"][0]["filters"]}
    assert filters["PRICE_FILTER"]["tickSize"] == "0.01000000"
    assert filters["LOT_SIZE"]["stepSize"] == "0.00001000"
    assert filters["NOTIONAL"]["minNotional"] == "5.00000000"


async def test_order_answers(binance: RawBinance) -> None:
    filled = await binance.order(price="60010", quantity="1.5")
    full = real("http_json/new_order_full_response.json")
    assert differences(filled.json, full) == []
    assert [fill["price"] for fill in filled.json["fills"]] == ["60000.00000000", "60010.00000000"]

    resting = await binance.order(price="50000", quantity="0.1", newClientOrderId="myOrder1", newOrderRespType="RESULT")
    assert differences(resting.json, {key: value for key, value in full.items() if key != "fills"}) == []
    acknowledged = await binance.order(price="50000", quantity="0.1", newOrderRespType="ACK")
    assert sorted(acknowledged.json) == ["clientOrderId", "orderId", "orderListId", "symbol", "transactTime"]

    queried = await binance.signed("GET", "/api/v3/order", symbol="BTCUSDT", origClientOrderId="myOrder1")
    assert differences(queried.json, real("http_json/order_response.json")) == []
    listed = await binance.signed("GET", "/api/v3/openOrders", symbol="BTCUSDT")
    assert differences(listed.json, real("http_json/open_orders_response.json")) == []
    cancelled = await binance.signed("DELETE", "/api/v3/order", symbol="BTCUSDT", origClientOrderId="myOrder1")
    assert differences(cancelled.json, real("http_json/cancel_order_response.json")) == []
    all_cancelled = await binance.signed("DELETE", "/api/v3/openOrders", symbol="BTCUSDT")
    assert differences(all_cancelled.json, real("http_json/cancel_open_orders_response.json")) == []
    everything = await binance.signed("GET", "/api/v3/allOrders", symbol="BTCUSDT")
    assert differences(everything.json, real("http_json/all_orders_response.json"), extra=EXPIRY) == []


async def test_account_answers(simulator: Simulator, binance: RawBinance) -> None:
    await binance.order(price="60000", quantity="0.1", timeInForce="IOC")
    account = await binance.signed("GET", "/api/v3/account")
    assert differences(account.json, real("http_json/account_response.json")) == []
    trades = await binance.signed("GET", "/api/v3/myTrades", symbol="BTCUSDT")
    assert differences(trades.json, real("http_json/account_trades_response.json")) == []


async def test_user_data_events(simulator: Simulator, account: Credentials, binance: RawBinance) -> None:
    async with binance.socket("/ws-api/v3") as socket:
        answer = await socket.call("userDataStream.subscribe.signature", **socket.sign())
        assert answer["result"] == {"subscriptionId": 0}

        resting = await binance.order(price="50000", quantity="0.1")
        new = await socket.event("executionReport", x="NEW")
        assert differences(new, real("user_data_json/execution_report_wrapped.json")) == []
        position = await socket.event("outboundAccountPosition")
        assert differences(position, real("user_data_json/account_position_wrapped.json")) == []
        assert differences(position["event"], real("user_data_json/account_position.json")) == []

        await binance.signed("DELETE", "/api/v3/order", symbol="BTCUSDT", orderId=resting.json["orderId"])
        report = (await socket.event("executionReport", x="CANCELED"))["event"]
        # "C" is the cancelled order's id, "c" the cancel's own; the shortened example has neither filled.
        expected = {**real("user_data_json/execution_report_canceled.json"), "C": "name"}
        assert (
            differences({**report, "c": "name", "C": "name"}, {**expected, "c": "name"}, extra=SHORTENED_REPORT) == []
        )
        assert report["C"] == resting.json["clientOrderId"]
        assert report["c"] != report["C"]

        await binance.order(price="60000", quantity="0.4")
        report = (await socket.event("executionReport", x="TRADE"))["event"]
        assert differences(report, real("user_data_json/execution_report_trade.json"), extra=SHORTENED_REPORT) == []

        await binance.order(price="60000", quantity="5", timeInForce="IOC")
        report = (await socket.event("executionReport", x="EXPIRED"))["event"]
        assert differences(report, real("user_data_json/execution_report_expired.json"), extra=SHORTENED_REPORT) == []

        transfer = {"exchange": "binance", "api_key": account.api_key, "asset": "BTC", "amount": "0.5"}
        simulator.call("POST", "/transfers", transfer)
        update = await socket.event("balanceUpdate")
        assert differences(update, real("user_data_json/balance_update_wrapped.json")) == []
        assert differences(update["event"], real("user_data_json/balance_update.json")) == []
