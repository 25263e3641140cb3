"""Unmodified ccxt and ccxt.pro against the simulated OKX: markets, orders, balances, streams."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from decimal import Decimal
from typing import Any

import ccxt
import pytest

from tests.exchangesim.okx_client import okx_client, okx_simulator, still_book
from tests.exchangesim.raw_socket import eventually
from tests.exchangesim.simulator import Credentials, Simulator

__all__ = ["okx_simulator"]
SYMBOL = "AAA/USDT"


@pytest.fixture
def credentials(okx_simulator: Simulator) -> Credentials:
    still_book(okx_simulator)
    return okx_simulator.account("okx", balances={"USDT": "10000", "AAA": "100"})


@pytest.fixture
async def client(okx_simulator: Simulator, credentials: Credentials) -> AsyncIterator[Any]:
    async with okx_client(okx_simulator, credentials) as client:
        yield client
        for order in await client.fetch_open_orders():  # the next test's still book is to hold nothing else
            await client.cancel_order(order["id"], order["symbol"])


async def test_load_markets_knows_ticks_lots_and_currencies(client: Any) -> None:
    market = client.markets["BTC/USDT"]
    assert (market["precision"]["amount"], market["precision"]["price"]) == (1e-08, 0.1)
    assert market["limits"]["amount"]["min"] == 1e-05
    assert market["active"]
    assert set(client.symbols) == {"BTC/USDT", "ETH/USDT", "AAA/USDT"}
    assert {"BTC", "USDT"} <= set(client.currencies)


async def test_markets_can_be_read_without_keys(okx_simulator: Simulator) -> None:
    async with okx_client(okx_simulator) as anonymous:
        assert "BTC/USDT" in anonymous.symbols
        assert (await anonymous.fetch_ticker("BTC/USDT"))["bid"] > 0
        assert (await anonymous.fetch_status())["status"] == "ok"
        assert await anonymous.fetch_time() > 0


async def test_limit_order_rests_reserves_and_cancels(client: Any, okx_simulator: Simulator, credentials: Any) -> None:
    placed = await client.create_order(SYMBOL, "limit", "buy", 0.5, 99.0, {"clientOrderId": "rest1"})
    fetched = await client.fetch_order(placed["id"], SYMBOL)
    assert (fetched["status"], fetched["price"], fetched["amount"], fetched["filled"]) == ("open", 99.0, 0.5, 0.0)
    assert fetched["clientOrderId"] == "rest1"
    assert okx_simulator.balances(credentials)["USDT"]["locked"] == "49.5"
    balance = await client.fetch_balance()
    assert (balance["USDT"]["free"], balance["USDT"]["total"]) == (9950.5, 10000.0)
    assert [order["id"] for order in await client.fetch_open_orders(SYMBOL)] == [placed["id"]]

    await client.cancel_order(placed["id"], SYMBOL)
    assert (await client.fetch_order(placed["id"], SYMBOL))["status"] == "canceled"
    assert await client.fetch_open_orders(SYMBOL) == []
    after = okx_simulator.balances(credentials)["USDT"]
    assert (Decimal(after["free"]), Decimal(after["locked"])) == (10_000, 0)


async def test_orders_are_found_and_cancelled_by_client_id(client: Any) -> None:
    placed = await client.create_order(SYMBOL, "limit", "buy", 0.5, 99.0, {"clientOrderId": "byClient"})
    fetched = await client.fetch_order(None, SYMBOL, {"clientOrderId": "byClient"})
    assert fetched["id"] == placed["id"]
    cancelled = await client.cancel_order(None, SYMBOL, {"clientOrderId": "byClient"})
    assert cancelled["id"] == placed["id"]


async def test_immediate_or_cancel_fills_what_is_there_and_ends(client: Any) -> None:
    placed = await client.create_order(SYMBOL, "limit", "buy", 3, 100.1, {"timeInForce": "IOC"})
    order = await client.fetch_order(placed["id"], SYMBOL)
    assert (order["status"], order["filled"], order["average"]) == ("canceled", 1.0, 100.1)
    assert order["timeInForce"] == "IOC"
    assert order["info"]["cancelSource"] == "14"
    assert order["fee"] == {"cost": 0.001, "currency": "AAA"}


async def test_fill_or_kill_fills_whole_or_not_at_all(client: Any) -> None:
    killed = await client.create_order(SYMBOL, "limit", "buy", 3, 100.1, {"timeInForce": "FOK"})
    order = await client.fetch_order(killed["id"], SYMBOL)
    assert (order["status"], order["filled"], order["info"]["cancelSource"]) == ("canceled", 0.0, "13")
    filled = await client.create_order(SYMBOL, "limit", "buy", 3, 100.2, {"timeInForce": "FOK"})
    order = await client.fetch_order(filled["id"], SYMBOL)
    assert (order["status"], order["filled"]) == ("closed", 3.0)


async def test_post_only_that_would_take_is_cancelled_by_the_exchange(client: Any) -> None:
    placed = await client.create_order(SYMBOL, "limit", "buy", 1, 100.1, {"postOnly": True})
    order = await client.fetch_order(placed["id"], SYMBOL)
    assert (order["status"], order["filled"], order["info"]["cancelSource"]) == ("canceled", 0.0, "31")
    resting = await client.create_order(SYMBOL, "limit", "buy", 1, 100.0, {"postOnly": True})
    assert (await client.fetch_order(resting["id"], SYMBOL))["status"] == "open"
    await client.cancel_order(resting["id"], SYMBOL)


async def test_market_orders_by_base_and_by_quote_amount(client: Any) -> None:
    sold = await client.create_order(SYMBOL, "market", "sell", 2)
    order = await client.fetch_order(sold["id"], SYMBOL)
    assert (order["status"], order["filled"]) == ("closed", 2.0)
    assert order["average"] == pytest.approx((99.9 + 99.8) / 2)
    assert order["fee"] == {"cost": pytest.approx(0.1997), "currency": "USDT"}
    bought = await client.create_market_buy_order_with_cost(SYMBOL, 50)
    order = await client.fetch_order(bought["id"], SYMBOL)
    assert order["status"] == "closed"
    assert 49.9 < order["filled"] * order["average"] <= 50


async def test_fills_are_listed_with_fees_and_liquidity(
    client: Any, okx_simulator: Simulator, credentials: Credentials
) -> None:
    taken = await client.create_order(SYMBOL, "limit", "buy", 1, 100.1)
    made = await client.create_order(SYMBOL, "limit", "buy", 1, 100.0)
    okx_simulator.trade("okx", SYMBOL, "SELL", "1", "100")
    trades = await client.fetch_my_trades(SYMBOL)
    assert [(trade["order"], trade["takerOrMaker"]) for trade in trades] == [
        (taken["id"], "taker"),
        (made["id"], "maker"),
    ]
    assert [trade["fee"] for trade in trades] == [
        {"cost": 0.001, "currency": "AAA"},
        {"cost": 0.0002, "currency": "AAA"},
    ]
    assert len(okx_simulator.fills("okx", api_key=credentials.api_key)) == 2


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


async def test_orders_go_over_the_socket_too(client: Any) -> None:
    placed = await client.create_order_ws(SYMBOL, "limit", "buy", 0.5, 99.0, {"clOrdId": "socket1"})
    assert (await client.fetch_order(placed["id"], SYMBOL))["clientOrderId"] == "socket1"
    edited = await client.edit_order_ws(placed["id"], SYMBOL, "limit", "buy", 0.4, 98.0)
    assert edited["id"] == placed["id"]
    order = await client.fetch_order(placed["id"], SYMBOL)
    assert (order["price"], order["amount"]) == (98.0, 0.4)
    await client.cancel_order_ws(placed["id"], SYMBOL)
    assert (await client.fetch_order(placed["id"], SYMBOL))["status"] == "canceled"
    client.options["createOrderWs"]["op"] = "order"
    single = await client.create_order_ws(SYMBOL, "limit", "buy", 0.5, 99.0)
    await client.cancel_orders_ws([single["id"]], SYMBOL)
    assert await client.fetch_open_orders(SYMBOL) == []


async def test_private_streams_tell_orders_fills_and_balances(client: Any) -> None:
    orders = asyncio.create_task(client.watch_orders(SYMBOL))
    trades = asyncio.create_task(client.watch_my_trades(SYMBOL))
    balances = asyncio.create_task(client.watch_balance())
    assert (await balances)["USDT"]["total"] == 10000.0
    await _subscribed(client, {"orders:AAA-USDT", "orders::myTrades::AAA/USDT"})
    changed = asyncio.create_task(client.watch_balance())

    placed = await client.create_order(SYMBOL, "limit", "buy", 1, 100.1)
    (trade,) = await trades
    assert (trade["order"], trade["amount"], trade["price"]) == (placed["id"], 1.0, 100.1)
    states = [order["status"] for order in await orders]
    while states[-1] != "closed":
        states += [order["status"] for order in await client.watch_orders(SYMBOL)]
    assert states[0] in ("open", "closed")
    await changed
    while client.balance["AAA"]["total"] != 100.999:
        await client.watch_balance()
    assert client.balance["USDT"]["total"] == pytest.approx(10000 - 100.1)


async def test_watched_and_fetched_books_are_the_exchanges_own(client: Any, okx_simulator: Simulator) -> None:
    await client.watch_order_book("BTC/USDT")
    await client.watch_order_book("BTC/USDT")
    okx_simulator.set_book("okx", "BTC/USDT", bids=[("60000", "1.5"), ("59999.9", "2")], asks=[("60000.1", "0.25")])
    book = okx_simulator.market("okx", "BTC/USDT")
    own = {side: [[float(price), float(size)] for price, size in book[side]] for side in ("bids", "asks")}
    assert own == {"bids": [[60000.0, 1.5], [59999.9, 2.0]], "asks": [[60000.1, 0.25]]}
    watched: Any = {}
    while {side: [list(level) for level in watched.get(side, [])] for side in own} != own:
        watched = await client.watch_order_book("BTC/USDT")
    fetched = await client.fetch_order_book("BTC/USDT")
    assert {side: [level[:2] for level in fetched[side]] for side in own} == own
    shallow = await client.fetch_order_book("BTC/USDT", 1)
    assert {side: [level[:2] for level in shallow[side]] for side in own} == {side: own[side][:1] for side in own}
    okx_simulator.call("POST", "/market", {"exchange": "okx", "symbol": "BTC/USDT", "frozen": False})


async def test_tickers_trades_and_best_prices_are_streamed(client: Any, okx_simulator: Simulator) -> None:
    ticker = await client.watch_ticker(SYMBOL)
    assert (ticker["bid"], ticker["ask"]) == (99.9, 100.1)
    assert (await client.watch_bids_asks([SYMBOL]))[SYMBOL]["ask"] == 100.1
    trades = asyncio.create_task(client.watch_trades(SYMBOL))
    url = client.urls["api"]["ws"] + "/public"
    await eventually(lambda: "trades:AAA/USDT" in client.clients[url].subscriptions)
    assert (await client.watch_order_book(SYMBOL, 5))["bids"][0][0] == 99.9  # answered after the subscription before
    okx_simulator.trade("okx", SYMBOL, "BUY", "0.5")
    (trade,) = await trades
    assert (trade["price"], trade["amount"], trade["side"]) == (100.1, 0.5, "buy")
    assert (await client.fetch_trades(SYMBOL))[-1]["id"] == trade["id"]
    await client.un_watch_order_book(SYMBOL, {"depth": "books5"})
    await client.un_watch_trades(SYMBOL)
    await client.un_watch_ticker(SYMBOL)


async def _subscribed(client: Any, hashes: set[str]) -> None:
    """Wait until the client has sent these subscriptions and the server has had time to act on what it read first."""
    url = client.urls["api"]["ws"] + "/private"
    await eventually(lambda: hashes <= set(client.clients[url].subscriptions))
    # Requests are answered in order: once this one is, the subscriptions before it are in force.
    with pytest.raises(ccxt.OrderNotFound):
        await client.cancel_order_ws("1", SYMBOL)


@pytest.mark.parametrize("over_socket", [False, True])
@pytest.mark.parametrize(
    ("arguments", "error", "code"),
    [
        (("limit", "buy", 200, 99.0), ccxt.InsufficientFunds, "51008"),
        (("limit", "buy", 1, 9900.0), ccxt.InvalidOrder, "51006"),
        (("market", "sell", 10_000), ccxt.ExchangeError, "51005"),
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
    with pytest.raises(ccxt.InvalidOrder, match="51016"):
        await client.create_order(SYMBOL, "limit", "buy", 1, 99.0, {"clientOrderId": "once"})


async def test_unknown_orders_are_not_found(client: Any) -> None:
    with pytest.raises(ccxt.OrderNotFound, match="51603"):
        await client.fetch_order("77", SYMBOL)
    with pytest.raises(ccxt.OrderNotFound, match="51400"):
        await client.cancel_order("77", SYMBOL)


async def test_another_accounts_order_is_not_found(client: Any, okx_simulator: Simulator) -> None:
    placed = await client.create_order(SYMBOL, "limit", "buy", 0.5, 99.0)
    stranger = okx_simulator.account("okx", balances={"USDT": "1"})
    async with okx_client(okx_simulator, stranger) as other:
        with pytest.raises(ccxt.OrderNotFound):
            await other.cancel_order(placed["id"], SYMBOL)
    await client.cancel_order(placed["id"], SYMBOL)


async def test_fees_are_what_the_account_is_told(client: Any) -> None:
    fee = await client.fetch_trading_fee(SYMBOL)
    assert (fee["maker"], fee["taker"]) == (0.0002, 0.001)
