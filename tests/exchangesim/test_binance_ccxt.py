"""The unmodified ccxt and ccxt.pro as clients of the simulated Binance, over real sockets."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from decimal import Decimal
from typing import Any

import ccxt
import ccxt.pro
import pytest

from tests.exchangesim.clients import binance_client
from tests.exchangesim.simulator import Credentials, Simulator, shared_simulator  # noqa: F401

SYMBOL = "BTC/USDT"
WAIT = 20.0


@pytest.fixture
def simulator(shared_simulator: Simulator) -> Simulator:  # noqa: F811
    shared_simulator.clear_faults()
    return shared_simulator


@pytest.fixture
def account(simulator: Simulator) -> Credentials:
    return simulator.account("binance", balances={"USDT": "1000000", "BTC": "2"})


@pytest.fixture
async def client(simulator: Simulator, account: Credentials) -> AsyncIterator[ccxt.pro.binance]:
    async with binance_client(simulator, account) as client:
        await client.load_markets()
        yield client


@pytest.fixture
def book(simulator: Simulator) -> Simulator:
    """The simulator with a fixed BTC/USDT book: 1 BTC at each of two prices a side."""
    simulator.set_book(
        "binance",
        SYMBOL,
        bids=[("59990.00", "1"), ("59980.00", "1")],
        asks=[("60000.00", "1"), ("60010.00", "1")],
    )
    return simulator


async def test_markets_load_with_ticks_lots_and_fees(client: ccxt.pro.binance) -> None:
    market = client.market(SYMBOL)
    assert market["spot"]
    assert market["precision"]["price"] == 0.01
    assert market["precision"]["amount"] == 0.00001
    assert market["limits"]["cost"]["min"] == 5
    assert client.market("BTC/USDC")["quote"] == "USDC"
    fees = await client.fetch_trading_fees()
    assert fees[SYMBOL]["taker"] == 0.0004


async def test_public_data_is_consistent(client: ccxt.pro.binance) -> None:
    book = await client.fetch_order_book("ETH/USDT", 10)
    assert len(book["bids"]) == 10
    assert book["bids"][0][0] < book["asks"][0][0]
    assert abs(await client.fetch_time() - client.milliseconds()) < 5000
    tickers = await client.fetch_bids_asks(["ETH/USDT", SYMBOL])
    assert tickers["ETH/USDT"]["bid"] < tickers["ETH/USDT"]["ask"]
    assert (await client.fetch_ticker("SOL/USDT"))["last"] > 0
    trades = await _until(lambda: client.fetch_trades("ETH/USDT"), bool)
    assert {trade["side"] for trade in trades} <= {"buy", "sell"}


async def test_watched_order_book_equals_the_fetched_one(simulator: Simulator, client: ccxt.pro.binance) -> None:
    for _ in range(20):
        await asyncio.wait_for(client.watch_order_book("ETH/USDT"), WAIT)
    simulator.call("POST", "/market", {"exchange": "binance", "symbol": "ETH/USDT", "frozen": True})
    try:
        fetched = await client.fetch_order_book("ETH/USDT", 1000)
        while client.orderbooks["ETH/USDT"]["nonce"] < fetched["nonce"]:
            await asyncio.wait_for(client.watch_order_book("ETH/USDT"), WAIT)
        watched = client.orderbooks["ETH/USDT"]
        assert [list(level) for level in watched["bids"]] == fetched["bids"]
        assert [list(level) for level in watched["asks"]] == fetched["asks"]
    finally:
        simulator.call("POST", "/market", {"exchange": "binance", "symbol": "ETH/USDT", "frozen": False})


async def test_a_gap_in_the_diffs_is_noticed_by_ccxt(simulator: Simulator, client: ccxt.pro.binance) -> None:
    await asyncio.wait_for(client.watch_order_book("SOL/USDT"), WAIT)
    simulator.fault("gap", exchange="binance", operation="solusdt@depth@100ms", count=1)
    with pytest.raises(ccxt.ChecksumError):
        await _watch_many(client, "SOL/USDT")


async def test_bids_asks_and_trades_are_watched(client: ccxt.pro.binance) -> None:
    ticker = (await asyncio.wait_for(client.watch_bids_asks(["ETH/USDT"]), WAIT))["ETH/USDT"]
    assert ticker["bid"] < ticker["ask"]
    trades = await asyncio.wait_for(client.watch_trades("ETH/USDT"), WAIT)
    assert trades[-1]["symbol"] == "ETH/USDT"


async def test_a_limit_order_rests_reserves_and_is_cancelled(book: Simulator, client: ccxt.pro.binance) -> None:
    before = (await client.fetch_balance())["USDT"]
    order = await client.create_order(SYMBOL, "limit", "buy", 0.5, 50000, {"clientOrderId": "rest1"})
    assert order["status"] == "open"
    assert order["clientOrderId"] == "rest1"
    held = (await client.fetch_balance())["USDT"]
    assert Decimal(str(held["used"])) - Decimal(str(before["used"])) == 25000
    assert [o["id"] for o in await client.fetch_open_orders(SYMBOL)] == [order["id"]]
    found = await client.fetch_order(None, SYMBOL, {"clientOrderId": "rest1"})
    assert found["id"] == order["id"]
    cancelled = await client.cancel_order(order["id"], SYMBOL)
    assert cancelled["status"] == "canceled"
    assert (await client.fetch_balance())["USDT"] == before
    with pytest.raises(ccxt.OrderNotFound):
        await client.cancel_order(order["id"], SYMBOL)


async def test_an_ioc_order_fills_in_part_and_expires(
    book: Simulator, client: ccxt.pro.binance, account: Credentials
) -> None:
    order = await client.create_order(SYMBOL, "limit", "buy", 1.5, 60000, {"timeInForce": "IOC"})
    assert (order["status"], order["filled"], order["remaining"]) == ("expired", 1.0, 0.5)
    assert order["average"] == 60000
    assert order["fee"]["currency"] == "BTC"
    assert book.balances(account)["BTC"]["total"] == "2.9996"
    assert book.balances(account)["USDT"]["locked"] == "0"
    trades = await client.fetch_my_trades(SYMBOL)
    assert [(t["price"], t["amount"], t["takerOrMaker"]) for t in trades] == [(60000.0, 1.0, "taker")]


async def test_a_fok_order_fills_whole_or_not_at_all(book: Simulator, client: ccxt.pro.binance) -> None:
    order = await client.create_order(SYMBOL, "limit", "buy", 2.5, 60010, {"timeInForce": "FOK"})
    assert (order["status"], order["filled"]) == ("expired", 0.0)
    order = await client.create_order(SYMBOL, "limit", "buy", 1.2, 60010, {"timeInForce": "FOK"})
    assert (order["status"], order["filled"]) == ("closed", 1.2)


async def test_a_market_order_takes_base_or_quote(book: Simulator, client: ccxt.pro.binance) -> None:
    order = await client.create_order(SYMBOL, "market", "sell", 1.5)
    assert (order["status"], order["filled"]) == ("closed", 1.5)
    assert order["cost"] == 59990 + 0.5 * 59980
    order = await client.create_order(SYMBOL, "market", "buy", None, None, {"quoteOrderQty": 12000})
    assert (order["status"], order["filled"], order["cost"]) == ("closed", 0.2, 12000.0)


async def test_a_post_only_order_that_would_take_is_refused(book: Simulator, client: ccxt.pro.binance) -> None:
    with pytest.raises(ccxt.OrderImmediatelyFillable, match="immediately match"):
        await client.create_order(SYMBOL, "limit", "buy", 0.1, 60000, {"postOnly": True})
    order = await client.create_order(SYMBOL, "limit", "buy", 0.1, 59999.99, {"postOnly": True})
    assert order["status"] == "open" or (await client.fetch_order(order["id"], SYMBOL))["status"] == "open"
    await client.cancel_all_orders(SYMBOL)


@pytest.mark.parametrize(
    ("arguments", "error", "text"),
    [
        (("limit", "buy", 0.1, 100000, {}), ccxt.InsufficientFunds, "insufficient balance"),
        (("limit", "buy", 0.00001, 60000, {}), ccxt.BadRequest, "-1013.*NOTIONAL"),
        # (ccxt makes InvalidOrder or BadRequest of -1013 by its text)
        (("limit", "buy", 10000, 60000, {}), ccxt.InvalidOrder, "-1013.*LOT_SIZE"),
        (("limit", "buy", 0.001, 900000, {}), ccxt.InvalidOrder, "PERCENT_PRICE_BY_SIDE"),
    ],
)
async def test_refusals_have_the_documented_codes(
    book: Simulator, arguments: tuple[Any, ...], error: type[Exception], text: str
) -> None:
    poor = book.account("binance", balances={"USDT": "1000"})
    async with binance_client(book, poor) as client:
        with pytest.raises(error, match=text):
            await client.create_order(SYMBOL, *arguments)


async def test_a_client_id_is_unique_among_open_orders_only(book: Simulator, client: ccxt.pro.binance) -> None:
    order = await client.create_order(SYMBOL, "limit", "buy", 0.01, 50000, {"clientOrderId": "once"})
    with pytest.raises(ccxt.InvalidOrder, match="Duplicate order sent"):
        await client.create_order(SYMBOL, "limit", "buy", 0.01, 50000, {"clientOrderId": "once"})
    await client.cancel_order(order["id"], SYMBOL)
    again = await client.create_order(SYMBOL, "limit", "buy", 0.01, 50000, {"clientOrderId": "once"})
    assert again["id"] != order["id"]
    await client.cancel_order(again["id"], SYMBOL)


async def test_wrong_keys_and_clocks_are_refused(simulator: Simulator, account: Credentials) -> None:
    wrong = Credentials("binance", account.api_key, "not the secret")
    async with binance_client(simulator, wrong, fetchCurrencies=False) as client:
        with pytest.raises(ccxt.ExchangeError, match="-1022"):
            await client.fetch_balance()
    async with binance_client(simulator, Credentials("binance", "unknown", "x"), fetchCurrencies=False) as client:
        with pytest.raises(ccxt.AuthenticationError, match="-2015"):
            await client.fetch_balance()
    simulator.fault("clock_shift", exchange="binance", parameters={"ms": -5000})
    async with binance_client(simulator, account, fetchCurrencies=False) as client:
        with pytest.raises(ccxt.InvalidNonce, match="-1021"):
            await client.fetch_balance()
        await client.load_time_difference()
        client.options["adjustForTimeDifference"] = True
        assert (await client.fetch_balance())["USDT"]["total"] == 1000000
    simulator.clear_faults()


async def test_a_key_without_trade_permission_may_only_read(simulator: Simulator) -> None:
    reader = simulator.account("binance", balances={"USDT": "1000"}, permissions=("read",))
    async with binance_client(simulator, reader) as client:
        assert (await client.fetch_balance())["USDT"]["free"] == 1000
        # ccxt takes -2015 after a first success for a rate limit: the code is what counts.
        with pytest.raises(ccxt.BaseError, match="-2015"):
            await client.create_order(SYMBOL, "limit", "buy", 0.01, 50000)


async def test_orders_over_the_websocket(book: Simulator, client: ccxt.pro.binance) -> None:
    order = await client.create_order_ws(SYMBOL, "limit", "buy", 0.01, 50000, {"newClientOrderId": "ws1"})
    assert order["status"] == "open"
    assert (await client.fetch_order_ws(order["id"], SYMBOL))["clientOrderId"] == "ws1"
    assert len(await client.fetch_open_orders_ws(SYMBOL)) == 1
    assert (await client.cancel_order_ws(order["id"], SYMBOL))["status"] == "canceled"
    filled = await client.create_order_ws(SYMBOL, "limit", "sell", 0.25, 59990, {"timeInForce": "IOC"})
    assert (filled["status"], filled["filled"]) == ("closed", 0.25)
    assert (await client.fetch_my_trades_ws(SYMBOL))[-1]["amount"] == 0.25
    # ccxt does not parse the spot form of this answer; it hands it through.
    balances = (await client.fetch_balance_ws())["info"]["balances"]
    assert {"asset": "BTC", "free": "1.75000000", "locked": "0.00000000"} in balances


async def test_unread_parameters_are_refused_on_the_websocket_too(book: Simulator, client: ccxt.pro.binance) -> None:
    with pytest.raises(ccxt.BadRequest, match="-1104"):
        await client.create_order_ws(SYMBOL, "limit", "buy", 0.01, 50000, {"clientOrderId": "leaks"})


async def test_orders_trades_and_balances_are_watched(book: Simulator, client: ccxt.pro.binance) -> None:
    watches = [
        asyncio.create_task(client.watch_orders(SYMBOL)),
        asyncio.create_task(client.watch_my_trades(SYMBOL)),
        asyncio.create_task(client.watch_balance()),
    ]
    await _until(lambda: _value(client.clients), lambda clients: any("ws-api" in url for url in clients))
    ready = client.client(client.urls["api"]["ws"]["ws-api"]["spot"])
    await _until(lambda: _value(ready.subscriptions), lambda subscriptions: subscriptions.get("spot"))
    placed = await client.create_order(SYMBOL, "limit", "sell", 0.1, 59990, {"timeInForce": "IOC"})
    orders, trades, balance = await asyncio.wait_for(asyncio.gather(*watches), WAIT)
    assert orders[-1]["id"] == placed["id"]
    while orders[-1]["status"] != "closed":
        orders = await asyncio.wait_for(client.watch_orders(SYMBOL), WAIT)
    assert trades[-1]["order"] == placed["id"]
    assert trades[-1]["fee"]["currency"] == "USDT"
    while balance["BTC"]["total"] != 1.9:
        balance = await asyncio.wait_for(client.watch_balance(), WAIT)


async def _watch_many(client: ccxt.pro.binance, symbol: str) -> None:
    for _ in range(50):
        await asyncio.wait_for(client.watch_order_book(symbol), WAIT)


async def _value(value: Any) -> Any:
    return value


async def _until(ask: Any, good: Any) -> Any:
    """Ask again until the answer is good."""
    deadline = asyncio.get_running_loop().time() + WAIT
    while True:
        answer = await ask()
        if good(answer):
            return answer
        assert asyncio.get_running_loop().time() < deadline, f"still {answer!r}"
        await asyncio.sleep(0.05)
