"""Unmodified ccxt and ccxt.pro against the simulated Bybit: markets, orders, balances, streams."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from decimal import Decimal
from typing import Any

import ccxt
import pytest

from tests.exchangesim.bybit_client import bybit_client, bybit_simulator, still_book
from tests.exchangesim.raw_socket import eventually
from tests.exchangesim.simulator import Credentials, Simulator

__all__ = ["bybit_simulator"]
SYMBOL = "AAA/USDT"
ANY_STATE = {"acknowledged": True}
"""ccxt's consent to order/realtime knowing only the newest 500 closed orders."""


@pytest.fixture
def credentials(bybit_simulator: Simulator) -> Credentials:
    still_book(bybit_simulator)
    return bybit_simulator.account("bybit", balances={"USDT": "10000", "AAA": "100"})


@pytest.fixture
async def client(bybit_simulator: Simulator, credentials: Credentials) -> AsyncIterator[Any]:
    async with bybit_client(bybit_simulator, credentials) as client:
        yield client
        await client.cancel_all_orders()  # the next test's still book is to hold nothing else


async def test_load_markets_knows_ticks_lots_and_currencies(client: Any) -> None:
    market = client.markets["BTC/USDT"]
    assert (market["precision"]["amount"], market["precision"]["price"]) == (1e-06, 0.1)
    assert (market["limits"]["amount"]["min"], market["limits"]["cost"]["min"]) == (1e-06, 5.0)
    assert market["active"]
    assert set(client.symbols) == {"BTC/USDT", "ETH/USDT", "AAA/USDT"}
    assert {"BTC", "USDT"} <= set(client.currencies)


async def test_markets_can_be_read_without_keys(bybit_simulator: Simulator) -> None:
    async with bybit_client(bybit_simulator) as anonymous:
        assert "BTC/USDT" in anonymous.symbols
        assert (await anonymous.fetch_ticker("BTC/USDT"))["bid"] > 0
        assert await anonymous.fetch_time() > 0


async def test_limit_order_rests_reserves_and_cancels(
    client: Any, bybit_simulator: Simulator, credentials: Credentials
) -> None:
    placed = await client.create_order(SYMBOL, "limit", "buy", 0.5, 99.0, {"clientOrderId": "rest-1"})
    fetched = await client.fetch_order(placed["id"], SYMBOL, ANY_STATE)
    assert (fetched["status"], fetched["price"], fetched["amount"], fetched["filled"]) == ("open", 99.0, 0.5, 0.0)
    assert fetched["clientOrderId"] == "rest-1"
    balance = await client.fetch_balance()
    assert (balance["USDT"]["used"], balance["USDT"]["free"], balance["USDT"]["total"]) == (49.5, 9950.5, 10000.0)
    assert [order["id"] for order in await client.fetch_open_orders(SYMBOL)] == [placed["id"]]

    await client.cancel_order(placed["id"], SYMBOL)
    assert (await client.fetch_order(placed["id"], SYMBOL, ANY_STATE))["status"] == "canceled"
    assert await client.fetch_open_orders(SYMBOL) == []
    after = bybit_simulator.balances(credentials)["USDT"]
    assert (Decimal(after["free"]), Decimal(after["locked"])) == (10_000, 0)


async def test_orders_are_found_and_cancelled_by_client_id(client: Any) -> None:
    placed = await client.create_order(SYMBOL, "limit", "buy", 0.5, 99.0, {"clientOrderId": "by-client_1"})
    (found,) = await client.fetch_open_orders(SYMBOL, params={"orderLinkId": "by-client_1"})
    assert found["id"] == placed["id"]
    cancelled = await client.cancel_order("", SYMBOL, {"orderLinkId": "by-client_1"})
    assert cancelled["id"] == placed["id"]


async def test_immediate_or_cancel_fills_what_is_there_and_ends(client: Any) -> None:
    placed = await client.create_order(SYMBOL, "limit", "buy", 3, 100.1, {"timeInForce": "IOC"})
    order = await client.fetch_order(placed["id"], SYMBOL, ANY_STATE)
    assert (order["info"]["orderStatus"], order["filled"], order["average"]) == ("PartiallyFilledCanceled", 1.0, 100.1)
    assert order["fee"] == {"cost": 0.001, "currency": "AAA"}
    nothing = await client.create_order(SYMBOL, "limit", "buy", 3, 100.1, {"timeInForce": "IOC"})
    order = await client.fetch_order(nothing["id"], SYMBOL, ANY_STATE)
    assert (order["info"]["orderStatus"], order["info"]["rejectReason"]) == ("Cancelled", "EC_NoImmediateQtyToFill")


async def test_fill_or_kill_fills_whole_or_not_at_all(client: Any) -> None:
    killed = await client.create_order(SYMBOL, "limit", "buy", 3, 100.1, {"timeInForce": "FOK"})
    order = await client.fetch_order(killed["id"], SYMBOL, ANY_STATE)
    assert (order["status"], order["filled"]) == ("canceled", 0.0)
    assert order["info"]["rejectReason"] == "EC_CancelForNoFullFill"
    filled = await client.create_order(SYMBOL, "limit", "buy", 3, 100.2, {"timeInForce": "FOK"})
    order = await client.fetch_order(filled["id"], SYMBOL, ANY_STATE)
    assert (order["status"], order["filled"]) == ("closed", 3.0)


async def test_post_only_that_would_take_is_cancelled_by_the_exchange(client: Any) -> None:
    placed = await client.create_order(SYMBOL, "limit", "buy", 1, 100.1, {"postOnly": True})
    order = await client.fetch_order(placed["id"], SYMBOL, ANY_STATE)
    assert (order["status"], order["filled"]) == ("canceled", 0.0)
    assert order["info"]["rejectReason"] == "EC_PostOnlyWillTakeLiquidity"
    resting = await client.create_order(SYMBOL, "limit", "buy", 1, 100.0, {"postOnly": True})
    order = await client.fetch_order(resting["id"], SYMBOL, ANY_STATE)
    assert (order["status"], order["timeInForce"]) == ("open", "PO")


async def test_market_orders_by_base_and_by_quote_amount(client: Any) -> None:
    sold = await client.create_order(SYMBOL, "market", "sell", 2)
    order = await client.fetch_order(sold["id"], SYMBOL, ANY_STATE)
    assert (order["status"], order["filled"]) == ("closed", 2.0)
    assert order["average"] == pytest.approx((99.9 + 99.8) / 2)
    assert order["fee"] == {"cost": pytest.approx(0.1997), "currency": "USDT"}
    bought = await client.create_market_buy_order_with_cost(SYMBOL, 50)
    order = await client.fetch_order(bought["id"], SYMBOL, ANY_STATE)
    assert order["status"] == "closed"
    assert 49.9 < order["cost"] <= 50
    by_base = await client.create_order(SYMBOL, "market", "buy", 0.3)
    assert (await client.fetch_order(by_base["id"], SYMBOL, ANY_STATE))["filled"] == 0.3


async def test_fills_are_listed_with_fees_and_liquidity(
    client: Any, bybit_simulator: Simulator, credentials: Credentials
) -> None:
    taken = await client.create_order(SYMBOL, "limit", "buy", 1, 100.1)
    made = await client.create_order(SYMBOL, "limit", "buy", 1, 100.0)
    bybit_simulator.trade("bybit", SYMBOL, "SELL", "1", "100")
    trades = await client.fetch_my_trades(SYMBOL)
    assert [(trade["order"], trade["takerOrMaker"]) for trade in trades] == [
        (taken["id"], "taker"),
        (made["id"], "maker"),
    ]
    assert [(trade["fee"]["cost"], trade["fee"]["currency"]) for trade in trades] == [(0.001, "AAA"), (0.0002, "AAA")]
    assert len(bybit_simulator.fills("bybit", api_key=credentials.api_key)) == 2


async def test_closed_and_cancelled_orders_are_listed_apart(client: Any) -> None:
    filled = await client.create_order(SYMBOL, "limit", "buy", 1, 100.1)
    open_order = await client.create_order(SYMBOL, "limit", "buy", 1, 99)
    await client.cancel_order(open_order["id"], SYMBOL)
    assert [order["id"] for order in await client.fetch_closed_orders(SYMBOL)] == [filled["id"]]
    assert [order["id"] for order in await client.fetch_canceled_orders(SYMBOL)] == [open_order["id"]]


async def test_batches_place_and_cancel(client: Any) -> None:
    orders = await client.create_orders(
        [{"symbol": SYMBOL, "type": "limit", "side": "buy", "amount": 0.5, "price": price} for price in (98, 97)]
    )
    ids = [order["id"] for order in orders]
    assert {order["id"] for order in await client.fetch_open_orders(SYMBOL)} == set(ids)
    await client.cancel_orders(ids, SYMBOL)
    assert await client.fetch_open_orders(SYMBOL) == []


async def test_all_orders_of_a_market_can_be_cancelled_at_once(client: Any) -> None:
    for price in (98, 97):
        await client.create_order(SYMBOL, "limit", "buy", 0.5, price)
    other = await client.create_order("BTC/USDT", "limit", "buy", 0.001, 30_000)
    assert len(await client.cancel_all_orders(SYMBOL)) == 2
    assert [order["id"] for order in await client.fetch_open_orders()] == [other["id"]]
    await client.cancel_all_orders()
    assert await client.fetch_open_orders() == []


async def test_orders_go_over_the_socket_too(client: Any) -> None:
    placed = await client.create_order_ws(SYMBOL, "limit", "buy", 0.5, 99.0, {"clientOrderId": "socket-1"})
    assert placed["clientOrderId"] == "socket-1"
    await client.edit_order_ws(placed["id"], SYMBOL, "limit", "buy", 0.4, 98.0)
    order = await client.fetch_order(placed["id"], SYMBOL, ANY_STATE)
    assert (order["price"], order["amount"], order["status"]) == (98.0, 0.4, "open")
    await client.cancel_order_ws(placed["id"], SYMBOL)
    assert (await client.fetch_order(placed["id"], SYMBOL, ANY_STATE))["status"] == "canceled"


async def test_an_order_can_be_edited_over_rest(client: Any) -> None:
    placed = await client.create_order(SYMBOL, "limit", "buy", 0.5, 99.0)
    await client.edit_order(placed["id"], SYMBOL, "limit", "buy", 1.0, 99.5)
    order = await client.fetch_order(placed["id"], SYMBOL, ANY_STATE)
    assert (order["price"], order["amount"]) == (99.5, 1.0)


async def test_private_streams_tell_orders_fills_and_balances(client: Any, bybit_simulator: Simulator) -> None:
    watches = [
        asyncio.create_task(watch)
        for watch in (client.watch_orders(SYMBOL), client.watch_my_trades(SYMBOL), client.watch_balance())
    ]
    url = f"{bybit_simulator.ws['bybit']}/v5/private"
    wanted = {"orders:AAA/USDT", "myTrades:AAA/USDT", "balances:unified"}
    await eventually(lambda: url in client.clients and wanted <= set(client.clients[url].subscriptions))
    await _answered(client, url)

    placed = await client.create_order(SYMBOL, "limit", "buy", 1, 100.1)
    orders, (trade,), _ = await asyncio.gather(*watches)
    assert (trade["order"], trade["amount"], trade["price"]) == (placed["id"], 1.0, 100.1)
    assert (trade["fee"]["cost"], trade["fee"]["currency"]) == (0.001, "AAA")
    while orders[-1]["status"] != "closed":
        orders = await client.watch_orders(SYMBOL)
    while client.balance["unified"].get("AAA", {}).get("total") != 100.999:
        await client.watch_balance()
    assert client.balance["unified"]["USDT"]["total"] == pytest.approx(10000 - 100.1)


async def _answered(client: Any, url: str) -> None:
    """Wait until the server has answered a ping, and so all that was sent before it."""
    connection = client.clients[url]
    before = connection.lastPong
    await connection.send({"op": "ping", "req_id": "now"})
    await eventually(lambda: connection.lastPong != before)


async def test_watched_and_fetched_books_are_the_exchanges_own(client: Any, bybit_simulator: Simulator) -> None:
    await client.watch_order_book("BTC/USDT")
    await client.watch_order_book("BTC/USDT")
    bybit_simulator.set_book("bybit", "BTC/USDT", bids=[("60000", "1.5"), ("59999.9", "2")], asks=[("60000.1", "0.25")])
    book = bybit_simulator.market("bybit", "BTC/USDT")
    own = {side: [[float(price), float(size)] for price, size in book[side]] for side in ("bids", "asks")}
    assert own == {"bids": [[60000.0, 1.5], [59999.9, 2.0]], "asks": [[60000.1, 0.25]]}
    watched: Any = {}
    while {side: [list(level) for level in watched.get(side, [])] for side in own} != own:
        watched = await client.watch_order_book("BTC/USDT")
    fetched = await client.fetch_order_book("BTC/USDT")
    assert {side: [level[:2] for level in fetched[side]] for side in own} == own
    bybit_simulator.call("POST", "/market", {"exchange": "bybit", "symbol": "BTC/USDT", "frozen": False})


async def test_tickers_trades_and_best_prices_are_streamed(client: Any, bybit_simulator: Simulator) -> None:
    assert (await client.watch_ticker(SYMBOL))["last"] > 0
    best = (await client.watch_bids_asks([SYMBOL]))[SYMBOL]
    assert (best["bid"], best["ask"]) == (99.9, 100.1)
    trades = asyncio.create_task(client.watch_trades(SYMBOL))
    url = f"{bybit_simulator.ws['bybit']}/v5/public/spot"
    await eventually(lambda: "trade:AAA/USDT" in client.clients[url].subscriptions)
    await _answered(client, url)
    bybit_simulator.trade("bybit", SYMBOL, "BUY", "0.5")
    (trade,) = await trades
    assert (trade["price"], trade["amount"], trade["side"]) == (100.1, 0.5, "buy")
    assert (await client.fetch_trades(SYMBOL))[-1]["id"] == trade["id"]
    await client.un_watch_trades(SYMBOL)


@pytest.mark.parametrize("over_socket", [False, True])
@pytest.mark.parametrize(
    ("arguments", "error", "code"),
    [
        (("limit", "buy", 200, 99.0), ccxt.InsufficientFunds, "170131"),
        (("limit", "buy", 0.01, 99.0), ccxt.InvalidOrder, "170140"),
        (("limit", "buy", 1, 9900.0), ccxt.InvalidOrder, "170372"),
        (("market", "sell", 10_000), ccxt.InvalidOrder, "170124"),
    ],
)
async def test_refused_orders_raise_ccxts_errors(
    client: Any, arguments: Any, error: type[Exception], code: str, over_socket: bool
) -> None:
    create = client.create_order_ws if over_socket else client.create_order
    with pytest.raises(error, match=code):
        await create(SYMBOL, *arguments)
    assert await client.fetch_open_orders(SYMBOL) == []


async def test_client_ids_are_never_taken_twice(client: Any) -> None:
    await client.create_order(SYMBOL, "limit", "buy", 1, 100.1, {"clientOrderId": "once"})
    with pytest.raises(ccxt.InvalidOrder, match="170141"):
        await client.create_order(SYMBOL, "limit", "buy", 1, 99.0, {"clientOrderId": "once"})


async def test_unknown_orders_are_not_found(client: Any) -> None:
    with pytest.raises(ccxt.OrderNotFound):
        await client.fetch_order("77", SYMBOL, ANY_STATE)
    with pytest.raises(ccxt.OrderNotFound, match="170213"):
        await client.cancel_order("77", SYMBOL)


async def test_another_accounts_order_is_not_found(client: Any, bybit_simulator: Simulator) -> None:
    placed = await client.create_order(SYMBOL, "limit", "buy", 0.5, 99.0)
    stranger = bybit_simulator.account("bybit", balances={"USDT": "1"})
    async with bybit_client(bybit_simulator, stranger) as other:
        with pytest.raises(ccxt.OrderNotFound):
            await other.cancel_order(placed["id"], SYMBOL)


async def test_fees_are_what_the_account_is_told(client: Any) -> None:
    fee = await client.fetch_trading_fee(SYMBOL)
    assert (fee["maker"], fee["taker"]) == (0.0002, 0.001)
