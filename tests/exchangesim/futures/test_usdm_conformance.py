"""Every USD-M answer and event we have a real example of has its keys and types."""

from __future__ import annotations

import json
from collections.abc import AsyncIterator, Iterator
from typing import Any

import pytest

from tests.exchangesim.conformance import differences
from tests.exchangesim.raw_binance import RawBinance, raw_binance
from tests.exchangesim.simulator import Simulator, running_simulator
from tests.recordings import recording

pytestmark = pytest.mark.recordings

# Documented keys that the examples, taken from older or shortened messages, do not show.
DOCUMENTED = frozenset(
    {
        "cumQty",  # New Order
        "feeBurn",  # Account Information V2, and of its positions:
        *(f"positions[].{name}" for name in ("breakEvenPrice", "isolatedMargin", "isolatedWallet", "notional")),
        # Current All Algo Open Orders
        *(
            f"[].{name}"
            for name in [
                "actualOrderId",
                "actualPrice",
                "closePosition",
                "goodTillDate",
                "icebergQuantity",
                "orderType",
                "price",
                "priceMatch",
                "priceProtect",
                "selfTradePreventionMode",
                "triggerTime",
            ]
        ),
        "ap",  # Mark Price Stream, since 2026
        "X",  # of the trade stream
        *(f"o.{name}" for name in ("er", "gtd", "pm")),  # Event: Order Update
        "a.P[].ma",  # Event: Balance and Position Update
    }
)
# Keys of the examples that the documentation gives otherwise, or for other cases.
OTHER_VERSIONS = frozenset(
    {
        "time",  # of queried orders
        "[].type",  # "orderType" in the documentation, and in what ccxt reads
        "st",  # undocumented
        "ps",  # the pair, of delivery contracts
        "o.AP",  # of trailing stops
        "o.cr",
        "o.N",  # not pushed without a commission
        "o.n",
        *(f"o.{name}" for name in ("act", "ap", "aq", "rm")),  # of conditional orders that were triggered, or failed
    }
)

EXCHANGE, SYMBOL = "binanceusdm", "BTC/USDT:USDT"


def real(name: str) -> Any:
    return json.loads(recording(f"order_json/binance/futures/{name}.json").read_text())


@pytest.fixture(scope="module")
def simulator() -> Iterator[Simulator]:
    with running_simulator("--exchanges", EXCHANGE) as running:
        running.set_book(EXCHANGE, SYMBOL, bids=[("59995", "9")], asks=[("60005", "9")])
        running.set_mark(EXCHANGE, SYMBOL, "60000")
        yield running


@pytest.fixture
async def client(simulator: Simulator) -> AsyncIterator[RawBinance]:
    async with raw_binance(simulator, simulator.account(EXCHANGE, balances={"USDT": "10000"})) as raw:
        yield raw


MARKET = {"symbol": "BTCUSDT", "type": "MARKET", "side": "BUY", "quantity": "0.1", "newOrderRespType": "RESULT"}
STOP = {"symbol": "BTCUSDT", "type": "STOP_MARKET", "side": "SELL", "algoType": "CONDITIONAL", "quantity": "0.1"}


async def test_answers(client: RawBinance) -> None:
    order = (await client.signed("POST", "/fapi/v1/order", **MARKET)).json
    await client.signed("POST", "/fapi/v1/algoOrder", triggerPrice="58000", **STOP)
    found = {
        "order_response": order,
        "balance": (await client.signed("GET", "/fapi/v2/balance")).json,
        "account_info_v2": (await client.signed("GET", "/fapi/v2/account")).json,
        "position_risk": (await client.signed("GET", "/fapi/v2/positionRisk")).json,
        "open_algo_orders": (await client.signed("GET", "/fapi/v1/openAlgoOrders")).json,
    }
    for name, ours in found.items():
        assert differences(ours, real(f"http_json/{name}"), extra=DOCUMENTED, missing=OTHER_VERSIONS) == [], name


@pytest.mark.parametrize(
    ("example", "stream"),
    [
        ("agg_trade_stream", "aggTrade"),
        ("book_ticker_stream", "bookTicker"),
        ("depth_update_stream", "depth@100ms"),
        ("mark_price_stream", "markPrice@1s"),
        ("ticker_stream", "ticker"),
        ("trade_stream", "trade"),
    ],
)
async def test_market_streams(client: RawBinance, example: str, stream: str) -> None:
    async with client.socket(f"/ws/ethusdt@{stream}") as socket:
        ours = await socket.receive()
        assert differences(ours, real(f"market_data_json/{example}"), extra=DOCUMENTED, missing=OTHER_VERSIONS) == []


async def test_user_data(client: RawBinance, simulator: Simulator) -> None:
    assert client.credentials is not None
    headers = {"X-MBX-APIKEY": client.credentials.api_key}
    key = (await client._send("POST", "/fapi/v1/listenKey", headers)).json["listenKey"]
    async with client.socket(f"/private/ws?listenKey={key}") as socket:
        await client.signed("POST", "/fapi/v1/order", **MARKET)
        names = ("order_update_new", "account_update", "order_update_trade")
        found = {name: await socket.receive() for name in names}
        algo = (await client.signed("POST", "/fapi/v1/algoOrder", triggerPrice="58000", **STOP)).json
        found["algo_update_new"] = await socket.receive()
        await client.signed("DELETE", "/fapi/v1/algoOrder", algoId=algo["algoId"])
        found["algo_update_canceled"] = await socket.receive()
    for name, ours in found.items():
        assert differences(ours, real(f"user_data_json/{name}"), extra=DOCUMENTED, missing=OTHER_VERSIONS) == [], name
