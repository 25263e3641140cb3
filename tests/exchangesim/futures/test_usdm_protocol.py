"""What ccxt hides of USD-M: frames, raw bodies, logons by key pair, listen keys, and the platform's own feed on it."""

from __future__ import annotations

from collections.abc import AsyncIterator, Iterator
from decimal import Decimal
from typing import Any

import pytest
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat, PublicFormat

from tests.exchangesim.raw_binance import RawBinance, RawSocket, raw_binance
from tests.exchangesim.simulator import ControlFailure, Credentials, Simulator, running_simulator

EXCHANGE, SYMBOL = "binanceusdm", "BTC/USDT:USDT"


@pytest.fixture(scope="module")
def shared() -> Iterator[Simulator]:
    with running_simulator("--exchanges", EXCHANGE, "--funding-hours", "4") as running:
        yield running


@pytest.fixture
def simulator(shared: Simulator) -> Simulator:
    shared.clear_faults()
    shared.set_book(EXCHANGE, SYMBOL, bids=[("59995", "1")], asks=[("60005", "1")])
    shared.set_mark(EXCHANGE, SYMBOL, "60000")
    return shared


@pytest.fixture
async def client(simulator: Simulator) -> AsyncIterator[RawBinance]:
    key = Ed25519PrivateKey.generate()
    public = key.public_key().public_bytes(Encoding.PEM, PublicFormat.SubjectPublicKeyInfo).decode()
    private = key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption()).decode()
    made = simulator.account(EXCHANGE, balances={"USDT": "10000"}, secret=public)
    async with raw_binance(simulator, Credentials(EXCHANGE, made.api_key, private)) as raw:
        yield raw


@pytest.fixture
async def hmac_client(simulator: Simulator) -> AsyncIterator[RawBinance]:
    async with raw_binance(simulator, simulator.account(EXCHANGE, balances={"USDT": "10000"})) as raw:
        yield raw


MARKET = {"symbol": "BTCUSDT", "type": "MARKET", "quantity": "0.1", "newOrderRespType": "RESULT"}


async def event(socket: RawSocket, name: str) -> Any:
    """Return the next event of this name; others are dropped."""
    while True:
        message = await socket.receive()
        if message.get("e") == name:
            return message


async def listen_key(client: RawBinance, method: str = "POST") -> Any:
    assert client.credentials is not None
    headers = {"X-MBX-APIKEY": client.credentials.api_key}
    return (await client._send(method, "/fapi/v1/listenKey", headers)).json


async def test_a_key_pair_logs_on_and_its_calls_need_no_signature(client: RawBinance) -> None:
    async with client.socket("/ws-fapi/v1") as socket:
        refused = await socket.call("account.position", timestamp=socket.sign()["timestamp"])
        assert refused["error"]["code"] == -2014
        assert (await socket.call("session.logon", **socket.sign()))["result"]["apiKey"]
        now = socket.sign()["timestamp"]
        placed = await socket.call("order.place", side="BUY", timestamp=now, **MARKET)
        assert (placed["status"], placed["result"]["status"]) == (200, "FILLED")
        status = await socket.call("order.status", symbol="BTCUSDT", orderId=placed["result"]["orderId"], timestamp=now)
        assert status["result"]["avgPrice"] == "60005.0"
        (position,) = (await socket.call("v2/account.position", timestamp=now))["result"]
        assert (position["positionAmt"], position["entryPrice"]) == ("0.100", "60005.0")
        everywhere = (await socket.call("account.position", timestamp=now))["result"]
        assert {row["symbol"] for row in everywhere} == {"BTCUSDT", "ETHUSDT", "SOLUSDT"}


async def test_an_hmac_key_signs_each_call_and_may_not_log_on(hmac_client: RawBinance) -> None:
    async with hmac_client.socket("/ws-fapi/v1") as socket:
        assert (await socket.call("session.logon", **socket.sign()))["error"]["code"] == -4056
        placed = await socket.call("order.place", **socket.sign(side="SELL", **MARKET))
        assert placed["result"]["status"] == "FILLED"
        wrong = {**socket.sign(side="SELL", **MARKET), "quantity": "9"}
        assert (await socket.call("order.place", **wrong))["error"]["code"] == -1022


async def test_an_answer_asked_for_as_ack_says_nothing_of_the_fate(hmac_client: RawBinance) -> None:
    reply = await hmac_client.signed("POST", "/fapi/v1/order", side="BUY", **{**MARKET, "newOrderRespType": None})
    assert (reply.json["status"], reply.json["executedQty"]) == ("NEW", "0.000")
    assert reply.headers["X-MBX-ORDER-COUNT-10S"] == "1"


@pytest.mark.parametrize("path", ["/private/ws?listenKey={}", "/ws/{}", "/private/ws/{}"], ids=["query", "old", "path"])
async def test_events_of_a_trade_come_in_order(hmac_client: RawBinance, path: str) -> None:
    key = (await listen_key(hmac_client))["listenKey"]
    assert (await listen_key(hmac_client))["listenKey"] == key
    async with hmac_client.socket(path.format(key)) as socket:
        await hmac_client.signed("POST", "/fapi/v1/order", side="BUY", **MARKET)
        new, account, trade = [await socket.receive() for _ in range(3)]
        assert (new["e"], new["o"]["x"], new["o"]["X"]) == ("ORDER_TRADE_UPDATE", "NEW", "NEW")
        (balance,), (position,) = account["a"]["B"], account["a"]["P"]
        assert (account["a"]["m"], balance["a"], balance["wb"]) == ("ORDER", "USDT", "9997.59980000")
        assert (position["pa"], position["ep"], position["mt"], position["ps"]) == ("0.100", "60005.0", "cross", "BOTH")
        assert (trade["o"]["x"], trade["o"]["X"], trade["o"]["n"]) == ("TRADE", "FILLED", "2.4002")


async def test_settings_and_transfers_are_told(hmac_client: RawBinance, simulator: Simulator) -> None:
    assert hmac_client.credentials is not None
    key = (await listen_key(hmac_client))["listenKey"]
    async with hmac_client.socket(f"/private/stream?streams={key}") as socket:
        await hmac_client.signed("POST", "/fapi/v1/leverage", symbol="BTCUSDT", leverage=9)
        first = await socket.receive()
        assert (first["stream"], first["data"]["ac"]) == (key, {"s": "BTCUSDT", "l": 9})
        simulator.transfer(hmac_client.credentials, "USDT", "50")
        second = (await socket.receive())["data"]["a"]
        assert (second["m"], second["B"][0]["bc"], second["B"][0]["wb"]) == ("DEPOSIT", "50", "10050.00000000")


async def test_a_listen_key_that_is_over_says_so_and_is_not_kept(hmac_client: RawBinance, simulator: Simulator) -> None:
    assert hmac_client.credentials is not None
    key = (await listen_key(hmac_client))["listenKey"]
    assert (await listen_key(hmac_client, "PUT"))["listenKey"] == key
    async with hmac_client.socket(f"/private/ws?listenKey={key}") as socket:
        await socket.subscribe("btcusdt@markPrice@1s")  # the socket is served by now
        assert simulator.disturb(EXCHANGE, "expire", hmac_client.credentials.api_key) >= 1
        assert (await event(socket, "listenKeyExpired"))["listenKey"] == key
    assert (await listen_key(hmac_client, "PUT"))["code"] == -1125
    with pytest.raises(ControlFailure, match="no notice"):
        simulator.disturb(EXCHANGE, "notice")


async def test_a_cut_socket_of_one_account(hmac_client: RawBinance, simulator: Simulator) -> None:
    assert hmac_client.credentials is not None
    key = (await listen_key(hmac_client))["listenKey"]
    async with hmac_client.socket(f"/private/ws?listenKey={key}") as socket:
        await socket.subscribe("btcusdt@markPrice@1s")
        assert simulator.disturb(EXCHANGE, "cut", hmac_client.credentials.api_key) == 1
        with pytest.raises(ConnectionError):
            await event(socket, "nothing that would come")


async def test_each_depth_message_names_the_one_before_it(hmac_client: RawBinance) -> None:
    async with hmac_client.socket("/public/stream?streams=ethusdt@depth@100ms") as socket:
        first = (await socket.receive())["data"]
        snapshot = (await hmac_client.get("/fapi/v1/depth", symbol="ETHUSDT", limit=1000)).json
        last, book = first, {"b": dict(snapshot["bids"]), "a": dict(snapshot["asks"])}
        for _ in range(15):
            message = (await socket.receive())["data"]
            assert message["pu"] == last["u"]
            assert message["U"] <= message["u"]
            last = message
            if message["u"] >= snapshot["lastUpdateId"]:
                for side in ("b", "a"):
                    for price, quantity in message[side]:
                        book[side][price] = quantity
        bids = [Decimal(price) for price, quantity in book["b"].items() if Decimal(quantity)]
        asks = [Decimal(price) for price, quantity in book["a"].items() if Decimal(quantity)]
        assert max(bids) < min(asks)


async def test_market_streams_have_the_fields_of_contracts(hmac_client: RawBinance, simulator: Simulator) -> None:
    async with hmac_client.socket("/market/ws/btcusdt@markPrice@1s/btcusdt@aggTrade") as socket:
        mark = await event(socket, "markPriceUpdate")
        assert (mark["p"], mark["i"], mark["s"]) == ("60000.00000000", "60000.00000000", "BTCUSDT")
        assert mark["T"] % (4 * 3_600_000) == 0
        simulator.trade(EXCHANGE, SYMBOL, "BUY", "0.2")
        trade = await event(socket, "aggTrade")
        assert (trade["p"], trade["q"], trade["m"]) == ("60005.0", "0.200", False)
        assert "M" not in trade
    async with hmac_client.socket("/public/ws/ethusdt@bookTicker") as socket:
        ticker = await socket.receive()
        assert (ticker["e"], ticker["s"]) == ("bookTicker", "ETHUSDT")
        assert Decimal(ticker["b"]) < Decimal(ticker["a"])


async def test_the_control_port_shows_positions_and_sets_funding(hmac_client: RawBinance, simulator: Simulator) -> None:
    assert hmac_client.credentials is not None
    await hmac_client.signed("POST", "/fapi/v1/order", side="SELL", **MARKET)
    (position,) = simulator.positions(EXCHANGE, api_key=hmac_client.credentials.api_key)
    assert (position["quantity"], position["entry_price"], position["symbol"]) == ("-0.1", "59995", SYMBOL)
    assert simulator.set_mark(EXCHANGE, SYMBOL, "60100")["mark"] == "60100"
    (position,) = simulator.positions(EXCHANGE, api_key=hmac_client.credentials.api_key)
    assert position["unrealized"] == "-10.5"
    with pytest.raises(ControlFailure, match="fraction from -1 to 1"):
        simulator.fund(EXCHANGE, SYMBOL, "7")
    with pytest.raises(ControlFailure, match="no exchange of contracts"):
        simulator.positions("binance")
    with pytest.raises(ControlFailure, match="has no market"):
        simulator.set_mark(EXCHANGE, "BTC/USDT", "1")


async def test_the_mark_price_follows_index_and_book_when_let_go(simulator: Simulator, hmac_client: RawBinance) -> None:
    rows = {row["symbol"]: row for row in (await hmac_client.get("/fapi/v1/premiumIndex")).json}
    ether = rows["ETHUSDT"]
    mark, index = Decimal(ether["markPrice"]), Decimal(ether["indexPrice"])
    assert mark != index
    assert abs(mark / index - 1) < Decimal("0.02")
    assert abs(Decimal(ether["lastFundingRate"])) < Decimal("0.02")
    info = (await hmac_client.get("/fapi/v1/fundingInfo")).json
    assert info[0]["fundingIntervalHours"] == 4
