"""The unmodified ccxt and ccxt.pro ``binanceusdm`` as clients of the simulated USD-M, over real sockets."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from decimal import Decimal
from pathlib import Path
from typing import Any

import ccxt
import ccxt.pro
import pytest

from tests.exchangesim.clients import usdm_client
from tests.exchangesim.simulator import Credentials, Simulator, running_simulator

EXCHANGE, SYMBOL = "binanceusdm", "BTC/USDT:USDT"
WAIT = 30.0


@pytest.fixture(scope="module")
def shared() -> Iterator[Simulator]:
    with running_simulator("--exchanges", EXCHANGE, "--taker-bps", "5") as running:
        yield running


@pytest.fixture
def simulator(shared: Simulator) -> Simulator:
    """The simulator with a fixed BTC book, 1 BTC at each of two prices a side, and the mark price between them."""
    shared.clear_faults()
    price(shared, "60000")
    return shared


@pytest.fixture
def account(simulator: Simulator) -> Credentials:
    return simulator.account(EXCHANGE, balances={"USDT": "10000"})


@pytest.fixture
async def client(simulator: Simulator, account: Credentials) -> AsyncIterator[ccxt.pro.binanceusdm]:
    async with usdm_client(simulator, account) as client:
        await client.load_markets()
        yield client


def price(simulator: Simulator, middle: str) -> None:
    """Move book and mark price."""
    mid = Decimal(middle)
    simulator.set_book(
        EXCHANGE,
        SYMBOL,
        bids=[(str(mid - 5), "1"), (str(mid - 10), "1")],
        asks=[(str(mid + 5), "1"), (str(mid + 10), "1")],
    )
    simulator.set_mark(EXCHANGE, SYMBOL, middle)


async def until(ask: Callable[[], Awaitable[Any]], good: Callable[[Any], Any]) -> Any:
    """Ask again until the answer is good."""
    deadline = asyncio.get_running_loop().time() + WAIT
    while True:
        answer = await ask()
        if good(answer):
            return answer
        assert asyncio.get_running_loop().time() < deadline, f"still {answer!r}"
        await asyncio.sleep(0.05)


async def test_markets_load_as_linear_contracts(client: ccxt.pro.binanceusdm) -> None:
    market = client.market(SYMBOL)
    assert (market["swap"], market["linear"], market["settle"], market["contractSize"]) == (True, True, "USDT", 1)
    assert (market["precision"]["price"], market["precision"]["amount"]) == (0.1, 0.001)
    assert market["limits"]["cost"]["min"] == 50
    assert set(client.symbols) == {"BTC/USDT:USDT", "ETH/USDT:USDT", "SOL/USDT:USDT"}
    tiers = (await client.fetch_leverage_tiers())[SYMBOL]
    assert (tiers[0]["maxLeverage"], tiers[0]["maintenanceMarginRate"]) == (125, 0.004)
    assert (await client.fetch_trading_fee(SYMBOL))["taker"] == 0.0005


async def test_public_data(client: ccxt.pro.binanceusdm, simulator: Simulator) -> None:
    assert (await client.fetch_order_book(SYMBOL, 5))["bids"] == [[59995, 1], [59990, 1]]
    rate = await client.fetch_funding_rate(SYMBOL)
    assert (rate["markPrice"], rate["indexPrice"]) == (60000, 60000)
    assert rate["fundingTimestamp"] > client.milliseconds()
    assert (await client.fetch_mark_price(SYMBOL))["markPrice"] == 60000
    book = await client.fetch_bids_asks(["ETH/USDT:USDT"])
    assert 0 < book["ETH/USDT:USDT"]["bid"] < book["ETH/USDT:USDT"]["ask"]
    trades = await until(lambda: client.fetch_trades("ETH/USDT:USDT"), bool)
    assert trades[0]["price"] > 0


async def test_a_position_from_entry_to_exit(client: ccxt.pro.binanceusdm, simulator: Simulator) -> None:
    await client.set_leverage(10, SYMBOL)
    order = await client.create_order(SYMBOL, "market", "buy", 0.1)
    assert (order["status"], order["average"], order["filled"]) == ("closed", 60005, 0.1)
    (position,) = await client.fetch_positions([SYMBOL])
    assert (position["side"], position["contracts"], position["entryPrice"]) == ("long", 0.1, 60005)
    assert (position["unrealizedPnl"], position["markPrice"]) == (-0.5, 60000)
    assert (position["initialMargin"], position["marginMode"]) == (600, "cross")
    price(simulator, "61000")
    closing = await client.create_order(SYMBOL, "market", "sell", 0.1, None, {"reduceOnly": True})
    assert closing["average"] == 60995
    assert await client.fetch_positions([SYMBOL]) == []
    # 0.1 x 990 profit; 5 bps of 6,000.5 and 6,099.5 are the fees
    balance = await client.fetch_balance()
    assert balance["USDT"]["total"] == pytest.approx(10000 + 99 - 3.00025 - 3.04975, abs=1e-9)
    trades = await client.fetch_my_trades(SYMBOL)
    assert [trade["info"]["realizedPnl"] for trade in trades] == ["0.00000000", "99.00000000"]
    kinds = [row["info"]["incomeType"] for row in await client.fetch_ledger("USDT")]
    assert sorted(kinds) == ["COMMISSION", "COMMISSION", "REALIZED_PNL"]


async def test_ccxt_computes_the_liquidation_price_that_it_is_told(
    client: ccxt.pro.binanceusdm, simulator: Simulator
) -> None:
    """It has a formula of its own for account answers: an independent check of ours."""
    await client.set_leverage(10, SYMBOL)
    small = simulator.account(EXCHANGE, balances={"USDT": "1000"})
    async with usdm_client(simulator, small) as other:
        await other.load_markets()
        for side in ("buy", "sell"):
            await other.create_order(SYMBOL, "market", side, 0.1 if side == "buy" else 0.2)
            (told,) = await other.fetch_positions([SYMBOL])
            (found,) = [
                p for p in await other.fetch_positions([SYMBOL], {"method": "account", "useV2": True}) if p["contracts"]
            ]
            assert told["liquidationPrice"] == pytest.approx(found["liquidationPrice"], abs=0.1)
            assert (told["liquidationPrice"] < 60000) == (told["side"] == "long")


async def test_limit_orders_are_asked_for_cancelled_and_batched(client: ccxt.pro.binanceusdm) -> None:
    order = await client.create_order(SYMBOL, "limit", "buy", 0.01, 59000, {"clientOrderId": "first"})
    assert (await client.fetch_order(order["id"], SYMBOL))["clientOrderId"] == "first"
    assert (await client.fetch_balance())["USDT"]["used"] == pytest.approx(29.5)  # 590 at leverage 20
    assert len(await client.fetch_open_orders(SYMBOL)) == 1
    assert (await client.cancel_order(order["id"], SYMBOL))["status"] == "canceled"
    row = {"symbol": SYMBOL, "type": "limit", "side": "buy", "amount": 0.01}
    placed = await client.create_orders(
        [{**row, "price": 59000}, {**row, "price": 60005, "params": {"postOnly": True}}, {**row, "price": 59100}]
    )
    assert sorted(each["status"] for each in placed) == ["open", "open", "rejected"]
    await client.cancel_orders([placed[-1]["id"]], SYMBOL)
    assert len(await client.fetch_open_orders(SYMBOL)) == 1
    await client.cancel_all_orders(SYMBOL)
    assert await client.fetch_open_orders(SYMBOL) == []
    assert {o["status"] for o in await client.fetch_orders(SYMBOL)} == {"canceled"}


@pytest.mark.parametrize(
    ("order", "code"),
    [
        (("limit", "buy", 0.0001, 59000), "-4003|amount"),
        (("limit", "buy", 0.001, 48000), "-4016"),
        (("limit", "buy", 5, 59000), "-2019"),
        (("market", "sell", 0.01, None, {"reduceOnly": True}), "-2022"),
        (("market", "buy", 0.01, None, {"positionSide": "LONG"}), "-4061"),
        (("limit", "buy", 0.01, 60005, {"postOnly": True}), "-5022"),
        (("limit", "buy", 2, 60005, {"timeInForce": "FOK"}), "-2019|-5021"),
        (("market", "sell", 0.01, None, {"stopLossPrice": 61000}), "-2021"),
    ],
    ids=["small", "far", "margin", "reduce", "side", "maker", "fok", "trigger"],
)
async def test_orders_are_refused_with_the_exchanges_codes(
    client: ccxt.pro.binanceusdm, order: tuple[Any, ...], code: str
) -> None:
    with pytest.raises(ccxt.BaseError, match=code):
        await client.create_order(SYMBOL, *order)


async def test_settings_are_read_and_set(client: ccxt.pro.binanceusdm) -> None:
    await client.set_leverage(7, SYMBOL)
    assert (await client.fetch_leverage(SYMBOL))["longLeverage"] == 7
    await client.set_margin_mode("isolated", SYMBOL)
    assert (await client.fetch_margin_mode(SYMBOL))["marginMode"] == "isolated"
    await client.set_position_mode(True)
    assert (await client.fetch_position_mode(SYMBOL))["hedged"]
    with pytest.raises(ccxt.BaseError, match="-4059"):
        await client.set_position_mode(True)
    with pytest.raises(ccxt.BaseError, match="-4028"):
        await client.fapiPrivatePostLeverage({"symbol": "BTCUSDT", "leverage": 126})
    for side in ("LONG", "SHORT"):
        await client.create_order(
            SYMBOL, "market", "buy" if side == "LONG" else "sell", 0.01, None, {"positionSide": side}
        )
    positions = await client.fetch_positions([SYMBOL])
    assert {(p["side"], p["hedged"], p["marginMode"]) for p in positions} == {
        ("long", True, "isolated"),
        ("short", True, "isolated"),
    }
    with pytest.raises(ccxt.BaseError, match="-4068"):
        await client.set_position_mode(False)
    await client.add_margin(SYMBOL, 5, {"positionSide": "LONG"})
    (long,) = [p for p in await client.fetch_positions([SYMBOL]) if p["side"] == "long"]
    assert Decimal(long["info"]["isolatedWallet"]) == Decimal("600.05") / 7 + 5 or long["collateral"] > 90


async def test_a_stop_and_a_take_profit_from_placing_to_the_hit(
    client: ccxt.pro.binanceusdm, simulator: Simulator
) -> None:
    """ccxt sends them to the algo service, with its ids and its statuses."""
    await client.create_order(SYMBOL, "market", "buy", 0.1)
    closing = {"closePosition": True, "workingType": "MARK_PRICE", "priceProtect": True}
    stop = await client.create_order(SYMBOL, "market", "sell", None, None, {**closing, "stopLossPrice": 58000})
    profit = await client.create_order(SYMBOL, "market", "sell", None, None, {**closing, "takeProfitPrice": 62000})
    assert stop["info"]["algoStatus"] == "NEW"
    opened = await client.fetch_open_orders(SYMBOL, params={"trigger": True})
    assert {(o["id"], o["triggerPrice"]) for o in opened} == {(stop["id"], 58000), (profit["id"], 62000)}
    assert await client.fetch_open_orders(SYMBOL) == []
    price(simulator, "62000")
    found = await client.fetch_order(profit["id"], SYMBOL, {"trigger": True})
    assert found["info"]["algoStatus"] == "FINISHED"
    assert await client.fetch_positions([SYMBOL]) == []
    became = await client.fetch_order(found["info"]["actualOrderId"], SYMBOL)
    assert (became["status"], became["average"]) == ("closed", 61995)
    other = await client.fetch_order(stop["id"], SYMBOL, {"trigger": True})
    assert other["info"]["algoStatus"] == "EXPIRED"
    with pytest.raises(ccxt.BaseError, match="-2011"):
        await client.cancel_order(stop["id"], SYMBOL, {"trigger": True})
    waiting = await client.create_order(SYMBOL, "market", "buy", 0.1, None, {"triggerPrice": 64000})
    await client.cancel_order(waiting["id"], SYMBOL, {"trigger": True})
    assert await client.fetch_open_orders(SYMBOL, params={"trigger": True}) == []


async def test_conditional_orders_are_not_taken_by_the_old_endpoint(client: ccxt.pro.binanceusdm) -> None:
    with pytest.raises(ccxt.BaseError, match="-4120"):
        await client.fapiPrivatePostOrder(
            {"symbol": "BTCUSDT", "side": "SELL", "type": "STOP_MARKET", "stopPrice": "58000", "quantity": "0.1"}
        )


async def test_funding_is_told_and_listed(client: ccxt.pro.binanceusdm, simulator: Simulator) -> None:
    await client.create_order(SYMBOL, "market", "sell", 0.1)
    before = (await client.fetch_balance())["USDT"]["total"]
    simulator.fund(EXCHANGE, SYMBOL, "0.0005")
    assert (await client.fetch_balance())["USDT"]["total"] == pytest.approx(before + 3)  # 0.1 x 60,000 x 0.05 %
    paid = await client.fetch_funding_history(SYMBOL)
    assert [row["amount"] for row in paid] == [3]
    assert (await client.fetch_funding_rate_history(SYMBOL))[-1]["fundingRate"] == 0.0005


async def test_orders_over_the_websocket(client: ccxt.pro.binanceusdm) -> None:
    order = await client.create_order_ws(SYMBOL, "limit", "buy", 0.01, 59000, {"newClientOrderId": "ws1"})
    assert order["status"] == "open"
    assert (await client.cancel_order_ws(order["id"], SYMBOL))["status"] == "canceled"
    filled = await client.create_order_ws(SYMBOL, "market", "buy", 0.1)
    assert (filled["status"], filled["average"]) == ("closed", 60005)
    (position,) = await client.fetch_positions_ws([SYMBOL])
    assert (position["side"], position["contracts"]) == ("long", 0.1)
    stop = await client.create_order_ws(SYMBOL, "market", "sell", 0.1, None, {"stopLossPrice": 58000})
    assert stop["triggerPrice"] == 58000
    await client.cancel_order_ws(stop["id"], SYMBOL, {"trigger": True})
    with pytest.raises(ccxt.BaseError, match="-2019"):
        await client.create_order_ws(SYMBOL, "limit", "buy", 5, 59000)
    assert (await client.fetch_balance_ws())["USDT"]["used"] == pytest.approx(300)


async def test_orders_positions_and_balances_are_watched(
    client: ccxt.pro.binanceusdm, simulator: Simulator, account: Credentials
) -> None:
    assert await asyncio.wait_for(client.watch_positions([SYMBOL]), WAIT) == []  # what there is comes first
    watches = [
        asyncio.create_task(client.watch_orders(SYMBOL)),
        asyncio.create_task(client.watch_positions([SYMBOL])),
        asyncio.create_task(client.watch_balance()),
        asyncio.create_task(client.watch_my_trades(SYMBOL)),
    ]
    await until(lambda: value(client.clients), lambda clients: any("/private/ws" in url for url in clients))
    await until(lambda: value(sockets(client)), bool)
    placed = await client.create_order(SYMBOL, "market", "buy", 0.1)
    orders, positions, balance, trades = await asyncio.wait_for(asyncio.gather(*watches), WAIT)
    while orders[-1]["status"] != "closed":
        orders = await asyncio.wait_for(client.watch_orders(SYMBOL), WAIT)
    assert (orders[-1]["id"], orders[-1]["average"]) == (placed["id"], 60005)
    assert (positions[-1]["side"], positions[-1]["contracts"], positions[-1]["entryPrice"]) == ("long", 0.1, 60005)
    assert balance["USDT"]["total"] == pytest.approx(10000 - 3.00025)
    assert trades[-1]["fee"]["cost"] == pytest.approx(3.00025)

    stop = await client.create_order(SYMBOL, "market", "sell", 0.1, None, {"stopLossPrice": 59000, "reduceOnly": True})
    orders = await asyncio.wait_for(client.watch_orders(SYMBOL), WAIT)
    assert (orders[-1]["id"], orders[-1]["triggerPrice"]) == (stop["id"], 59000)
    price(simulator, "58000")
    simulator.trade(EXCHANGE, SYMBOL, "SELL", "0.01")
    while not any(o["status"] == "closed" and o["reduceOnly"] for o in orders):
        orders = await asyncio.wait_for(client.watch_orders(SYMBOL), WAIT)
    await until(lambda: value(simulator.positions(EXCHANGE, api_key=account.api_key)), lambda held: not held)


async def test_a_liquidation_is_told(client: ccxt.pro.binanceusdm, simulator: Simulator) -> None:
    poor = simulator.account(EXCHANGE, balances={"USDT": "400"})
    async with usdm_client(simulator, poor) as other:
        await other.load_markets()
        watch = asyncio.create_task(other.watch_orders(SYMBOL))
        await until(lambda: value(sockets(other)), bool)
        await other.create_order(SYMBOL, "market", "buy", 0.1)
        orders = await asyncio.wait_for(watch, WAIT)
        price(simulator, "56000")  # (6,000.5 - 397) / 0.0996 = 56,260
        while not any(str(o["clientOrderId"]).startswith("autoclose-") and o["status"] == "closed" for o in orders):
            orders = await asyncio.wait_for(other.watch_orders(SYMBOL), WAIT)
        liquidation = orders[-1]["info"]
        assert (liquidation["o"], liquidation["x"], liquidation["S"]) == ("LIQUIDATION", "CALCULATED", "SELL")
        assert await other.fetch_positions([SYMBOL]) == []
        assert (await other.fetch_balance())["USDT"]["total"] == 0


async def test_market_streams(client: ccxt.pro.binanceusdm, simulator: Simulator) -> None:
    book = await asyncio.wait_for(client.watch_order_book("ETH/USDT:USDT"), WAIT)
    for _ in range(20):
        book = await asyncio.wait_for(client.watch_order_book("ETH/USDT:USDT"), WAIT)
    assert book["bids"][0][0] < book["asks"][0][0]
    assert (await asyncio.wait_for(client.watch_mark_price(SYMBOL), WAIT))["markPrice"] == 60000
    assert (await asyncio.wait_for(client.watch_trades("ETH/USDT:USDT"), WAIT))[-1]["price"] > 0
    assert (await asyncio.wait_for(client.watch_ticker("ETH/USDT:USDT"), WAIT))["last"] > 0
    await asyncio.wait_for(client.watch_bids_asks(["ETH/USDT:USDT"]), WAIT)


async def test_faults_strike_the_calls_of_contracts(
    client: ccxt.pro.binanceusdm, simulator: Simulator, account: Credentials
) -> None:
    simulator.fault("drop_response", exchange=EXCHANGE, operation="POST /fapi/v1/order", count=1)
    client.timeout = 1500
    with pytest.raises(ccxt.NetworkError):
        await client.create_order(SYMBOL, "market", "buy", 0.1)
    client.timeout = 10_000
    assert [p["quantity"] for p in simulator.positions(EXCHANGE, api_key=account.api_key)] == ["0.1"]
    simulator.fault(
        "refuse",
        exchange=EXCHANGE,
        operation="order.place",
        count=1,
        parameters={"reason": "insufficient_balance"},
    )
    with pytest.raises(ccxt.BaseError, match="-2019"):
        await client.create_order_ws(SYMBOL, "limit", "buy", 0.01, 59000)
    assert all(fault["hits"] == 1 for fault in simulator.faults())


async def test_positions_are_there_after_a_kill(tmp_path: Path) -> None:
    arguments = ("--exchanges", EXCHANGE, "--state", str(tmp_path))
    with running_simulator(*arguments) as first:
        price(first, "60000")
        account = first.account(EXCHANGE, balances={"USDT": "10000"})
        async with usdm_client(first, account) as client:
            await client.load_markets()
            await client.set_leverage(5, SYMBOL)
            await client.create_order(SYMBOL, "market", "sell", 0.1)
            await client.create_order(SYMBOL, "market", "buy", 0.1, None, {"stopLossPrice": 90000})
            balance = await client.fetch_balance()
        first.kill()
    with running_simulator(*arguments) as second:
        price(second, "60000")
        async with usdm_client(second, account) as client:
            await client.load_markets()
            (position,) = await client.fetch_positions([SYMBOL])
            assert (position["side"], position["contracts"], position["entryPrice"]) == ("short", 0.1, 59995)
            assert (await client.fetch_balance())["USDT"] == balance["USDT"]
            assert len(await client.fetch_open_orders(SYMBOL, params={"trigger": True})) == 1


async def value(of: Any) -> Any:
    return of


def sockets(client: ccxt.pro.binanceusdm) -> list[Any]:
    """Return the client's user data sockets that are open."""
    return [c for url, c in client.clients.items() if "/private/ws" in url and c.isConnected]
