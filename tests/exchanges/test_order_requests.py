"""What leaves on the order connection, compared with what ccxt.pro sends for the same order."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator, Coroutine
from decimal import Decimal
from typing import Any

import msgspec
import pytest
import pytest_asyncio
from aiohttp import WSMsgType, web
from hypothesis import given
from hypothesis import strategies as st

from tests.exchanges.venue_rig import ED25519_KEY
from trading.config import Credentials, ExchangeSpec
from trading.exchanges.binance.orders import SPOT, USD_M, BinanceOrders
from trading.exchanges.bybit.orders import BybitOrders
from trading.exchanges.ccxt_client import make_client
from trading.exchanges.generic.dialect import Names, plain
from trading.exchanges.generic.dialects import dialect_class
from trading.exchanges.okx.orders import OkxOrders
from trading.exchanges.order_wire import BLANK, Form
from trading.instruments import Market
from trading.messages import OrderIntent, TimeInForce

NOW_MS = 1_790_000_000_123
HMAC = Credentials(api_key="k" * 64, secret="s" * 64, passphrase="phrase")
ED25519 = Credentials(api_key="k" * 64, secret=ED25519_KEY)
CLIENT_ID = "arb1A0000000000001x0"
# The kinds of limit orders there are: side, time in force, price and quantity.
KINDS = [
    ("buy", TimeInForce.IOC, "50000.5", "0.0123"),
    ("sell", TimeInForce.FOK, "49999", "1"),
    ("buy", TimeInForce.GTC, "40000.1", "0.5"),
    ("sell", TimeInForce.GTC, "60000.1", "20"),
    ("sell", TimeInForce.POST_ONLY, "60000", "2.25"),
    ("buy", TimeInForce.POST_ONLY, "30000", "0.001"),
]
NATIVE = {"binance": "BTCUSDT", "okx": "BTC-USDT", "bybit": "BTCUSDT"}


class Recorder:
    """A WebSocket server that keeps the requests it is sent, and answers logons only."""

    def __init__(self) -> None:
        self.url = ""
        self.heard: asyncio.Queue[str] = asyncio.Queue()
        self.logons: list[str] = []

    async def serve(self, request: web.Request) -> web.WebSocketResponse:
        socket = web.WebSocketResponse()
        await socket.prepare(request)
        async for message in socket:
            if message.type is not WSMsgType.TEXT or not message.data.startswith("{"):
                continue
            operation = json.loads(message.data).get("op")
            if operation == "login":
                self.logons.append(message.data)
                await socket.send_str('{"event":"login","code":"0","msg":"","connId":"1"}')
            elif operation == "auth":
                self.logons.append(message.data)
                await socket.send_str('{"success":true,"retCode":0,"retMsg":"OK","op":"auth","connId":"1"}')
            else:
                self.heard.put_nowait(message.data)
        return socket


@pytest_asyncio.fixture
async def recorder() -> AsyncIterator[Recorder]:
    recorder = Recorder()
    app = web.Application()
    app.router.add_get("/{path:.*}", recorder.serve)
    runner = web.AppRunner(app)
    await runner.setup()
    await web.TCPSite(runner, "127.0.0.1", 0).start()
    recorder.url = f"ws://127.0.0.1:{runner.addresses[0][1]}"
    yield recorder
    await runner.cleanup()


def market_of(name: str, *, future: bool = False) -> Market:
    return Market(
        exchange=name,
        symbol="BTC/USDT:USDT" if future else "BTC/USDT",
        native_id=NATIVE[name],
        base="BTC",
        quote="USDT",
        settle="USDT" if future else None,
        kind="linear" if future else "spot",
    )


def client_of(name: str, recorder: Recorder, credentials: Credentials, market: Market, **options: Any) -> Any:
    """Return ccxt.pro's client as venues use it, with one market and a clock that stands still."""
    spec = ExchangeSpec(
        code=name, ccxt_id=name, environment="simulated", urls={"rest": "http://127.0.0.1:1", "ws": recorder.url}
    )
    client = make_client(spec, credentials, options={**dialect_class(name).options, **options})
    contract = market.settle is not None
    client.set_markets(
        [
            client.safe_market_structure(
                {
                    "id": market.native_id, "symbol": market.symbol, "base": "BTC", "quote": "USDT",
                    "baseId": "BTC", "quoteId": "USDT", "settle": market.settle, "settleId": market.settle,
                    "type": "swap" if contract else "spot", "spot": not contract, "swap": contract,
                    "contract": contract, "linear": contract, "inverse": False, "option": False, "active": True,
                    "precision": {"amount": "0.0001", "price": "0.1"},
                    "info": {"orderTypes": ["LIMIT", "LIMIT_MAKER", "MARKET"]},
                }
            )
        ]
    )  # fmt: skip
    client.milliseconds = lambda: NOW_MS
    client.seconds = lambda: NOW_MS // 1000
    return client


def intent_of(market: Market, side: str, time_in_force: TimeInForce, price: str, quantity: str) -> OrderIntent:
    return OrderIntent(
        client_order_id=CLIENT_ID,
        trade_id="t",
        account_id=1,
        market=market.key,
        leg=0,
        attempt=0,
        side="buy" if side == "buy" else "sell",
        time_in_force=time_in_force,
        price=Decimal(price),
        quantity=Decimal(quantity),
        deadline_ns=0,
        created_ns=0,
    )


async def heard_of(recorder: Recorder, client: Any, call: Coroutine[Any, Any, Any]) -> str:
    """Let ccxt send a request that is never answered; return its text."""
    task = asyncio.ensure_future(call)
    heard = asyncio.ensure_future(recorder.heard.get())
    try:
        await asyncio.wait([task, heard], timeout=30, return_when=asyncio.FIRST_COMPLETED)
        if task.done():
            task.result()
        assert heard.done(), "ccxt sent nothing"
        return heard.result()
    finally:
        task.cancel()
        heard.cancel()
        await asyncio.gather(task, return_exceptions=True)
        await client.close()


def compact(text: str | bytes) -> str:
    """A JSON text without the spaces between its parts: the order of names and the spelling of values stay."""
    return json.dumps(json.loads(text), separators=(",", ":"))


@pytest.mark.parametrize("future", [False, True], ids=["spot", "usd-m"])
@pytest.mark.parametrize("credentials", [HMAC, ED25519], ids=["hmac", "ed25519"])
@pytest.mark.parametrize(("side", "time_in_force", "price", "quantity"), KINDS)
async def test_binances_signed_placement_is_ccxts_to_the_byte(
    recorder: Recorder,
    credentials: Credentials,
    future: bool,
    side: str,
    time_in_force: TimeInForce,
    price: str,
    quantity: str,
) -> None:
    market = market_of("binance", future=future)
    client = client_of("binance", recorder, credentials, market, createOrderWs={"returnRateLimits": True})
    intent = intent_of(market, side, time_in_force, price, quantity)
    dialect = dialect_class("binance")(Names(1))
    params = dialect.order_params(intent)
    kind = dialect.order_type(intent)
    if future and time_in_force is TimeInForce.POST_ONLY:
        params, kind = {**params, "timeInForce": "GTX"}, "limit"
    theirs = await heard_of(
        recorder, client, client.create_order_ws(market.symbol, kind, side, quantity, price, params)
    )
    ours = binance(recorder, credentials, future).place(intent, market, json.loads(theirs)["id"])
    assert ours.decode() == compact(theirs)


@pytest.mark.parametrize("future", [False, True], ids=["spot", "usd-m"])
@pytest.mark.parametrize("credentials", [HMAC, ED25519], ids=["hmac", "ed25519"])
async def test_binances_signed_cancellation_is_ccxts_to_the_byte(
    recorder: Recorder, credentials: Credentials, future: bool
) -> None:
    market = market_of("binance", future=future)
    client = client_of("binance", recorder, credentials, market, cancelOrderWs={"returnRateLimits": True})
    intent = intent_of(market, *KINDS[0])
    params = dialect_class("binance")(Names(1)).cancel_params(intent)
    theirs = await heard_of(recorder, client, client.cancel_order_ws(None, market.symbol, params))
    ours = binance(recorder, credentials, future).cancel(intent, market, json.loads(theirs)["id"])
    assert ours.decode() == compact(theirs)


@pytest.mark.parametrize("code", [None, 10459], ids=["by name", "by code"])
@pytest.mark.parametrize(("side", "time_in_force", "price", "quantity"), KINDS)
async def test_okxs_placement_is_ccxts_but_for_its_deadline_and_the_brokers_tag(
    recorder: Recorder, code: int | None, side: str, time_in_force: TimeInForce, price: str, quantity: str
) -> None:
    market = market_of("okx")
    client = client_of("okx", recorder, HMAC, market, createOrderWs={"op": "order"})
    client.options["brokerId"] = None
    client.market(market.symbol)["instIdCode"] = code
    intent = intent_of(market, side, time_in_force, price, quantity)
    dialect = dialect_class("okx")(Names(1))
    kind, params = dialect.order_type(intent), dialect.order_params(intent)
    theirs = await heard_of(
        recorder, client, client.create_order_ws(market.symbol, kind, side, quantity, price, params)
    )
    ours = okx(recorder, code).place(intent, market, json.loads(theirs)["id"])
    assert without_deadline(ours) == compact(theirs)


async def test_okxs_cancellation_and_logon_are_ccxts(recorder: Recorder) -> None:
    market = market_of("okx")
    client = client_of("okx", recorder, HMAC, market)
    client.market(market.symbol)["instIdCode"] = 10459
    intent = intent_of(market, *KINDS[0])
    params = dialect_class("okx")(Names(1)).cancel_params(intent)
    theirs = await heard_of(recorder, client, client.cancel_order_ws(None, market.symbol, params))
    wire = okx(recorder, 10459)
    assert without_deadline(wire.cancel(intent, market, json.loads(theirs)["id"])) == compact(theirs)
    assert recorder.logons == [json.dumps(json.loads(wire.logon("0") or b""), separators=(",", ":"))]


@pytest.mark.parametrize(("side", "time_in_force", "price", "quantity"), KINDS)
async def test_bybits_placement_is_ccxts_to_the_byte(
    recorder: Recorder, side: str, time_in_force: TimeInForce, price: str, quantity: str
) -> None:
    market = market_of("bybit")
    client = client_of("bybit", recorder, HMAC, market)
    intent = intent_of(market, side, time_in_force, price, quantity)
    params = {**dialect_class("bybit")(Names(1)).order_params(intent), "clientOrderId": CLIENT_ID}
    del params["orderLinkId"]
    theirs = await heard_of(
        recorder, client, client.create_order_ws(market.symbol, "limit", side, quantity, price, params)
    )
    wire = BybitOrders(recorder.url, HMAC, lambda: NOW_MS)
    assert wire.place(intent, market, json.loads(theirs)["reqId"]).decode() == compact(theirs)
    assert recorder.logons == [(wire.logon("0") or b"").decode()]


async def test_bybits_cancellation_is_ccxts_to_the_byte(recorder: Recorder) -> None:
    market = market_of("bybit")
    client = client_of("bybit", recorder, HMAC, market)
    intent = intent_of(market, *KINDS[0])
    params = dialect_class("bybit")(Names(1)).cancel_params(intent)
    theirs = await heard_of(recorder, client, client.cancel_order_ws(None, market.symbol, params))
    wire = BybitOrders(recorder.url, HMAC, lambda: NOW_MS)
    assert wire.cancel(intent, market, json.loads(theirs)["reqId"]).decode() == compact(theirs)


@pytest.mark.parametrize("position_side", ["", "SHORT"])
async def test_a_position_is_reduced_as_ccxt_does_it(recorder: Recorder, position_side: str) -> None:
    market = market_of("binance", future=True)
    client = client_of("binance", recorder, HMAC, market, createOrderWs={"returnRateLimits": True})
    intent = msgspec.structs.replace(intent_of(market, *KINDS[0]), reduce_only=True)
    params = dialect_class("binance")(Names(1)).order_params(intent)
    params |= {"positionSide": position_side} if position_side else {"reduceOnly": True}
    theirs = await heard_of(
        recorder,
        client,
        client.create_order_ws(market.symbol, "limit", "buy", plain(intent.quantity), plain(intent.price), params),
    )
    wire = binance(recorder, HMAC, future=True)
    wire._position_side = lambda intent: position_side
    assert wire.place(intent, market, json.loads(theirs)["id"]).decode() == compact(theirs)


async def test_a_logged_on_request_is_the_signed_one_without_key_and_signature(recorder: Recorder) -> None:
    market = market_of("binance")
    intent = intent_of(market, *KINDS[0])
    signed = json.loads(binance(recorder, ED25519).place(intent, market, "1"))
    wire = BinanceOrders(recorder.url, ED25519, lambda: NOW_MS)
    logon = json.loads(wire.logon("0") or b"")
    assert (logon["method"], set(logon["params"])) == (
        "session.logon",
        {"apiKey", "recvWindow", "signature", "timestamp"},
    )
    for name in ("apiKey", "signature"):
        del signed["params"][name]
    assert json.loads(wire.place(intent, market, "1")) == signed


@pytest.mark.parametrize("name", ["a b", 'x","side":"SELL', "a&side=SELL", "ü", ""])
async def test_an_id_that_would_break_out_of_its_quotes_is_not_written(recorder: Recorder, name: str) -> None:
    market = market_of("binance")
    intent = msgspec.structs.replace(intent_of(market, *KINDS[0]), client_order_id=name)
    with pytest.raises(ValueError, match="client_order_id"):
        binance(recorder, HMAC).place(intent, market, "1")


@given(st.decimals(min_value="1e-18", max_value="1e19", allow_nan=False, allow_infinity=False))
def test_a_number_is_written_out_without_an_exponent_and_trailing_zeros(number: Decimal) -> None:
    text = f"{number:f}"
    assert plain(number) == (text.rstrip("0").rstrip(".") if "." in text else text)


def test_a_form_is_filled_in_again_and_again_with_as_many_values_as_it_has_blanks() -> None:
    form = Form(f"{BLANK}a%s{{0}}{BLANK}{BLANK}b")
    assert form.filled(("1", "", "3")) == b"1a%s{0}3b"
    assert form.filled(("x", "y", "z")) == b"xa%s{0}yzb"
    for values in (("1", "2"), ("1", "2", "3", "4")):
        with pytest.raises(ValueError, match="size"):
            form.filled(values)


async def test_other_private_keys_are_refused_without_being_shown() -> None:
    secret = "-----BEGIN PRIVATE KEY-----\nAAAA\n-----END PRIVATE KEY-----"
    with pytest.raises(ValueError, match="Ed25519") as refused:
        BinanceOrders("ws://127.0.0.1:1", Credentials(api_key="k", secret=secret), lambda: NOW_MS)
    assert "AAAA" not in str(refused.value)


def okx(recorder: Recorder, code: int | None) -> OkxOrders:
    return OkxOrders(recorder.url, HMAC, lambda: NOW_MS, lambda market: code)


def without_deadline(request: bytes) -> str:
    """An OKX request without the time it is good until, which ccxt leaves out."""
    fields = json.loads(request)
    assert fields.pop("expTime") == str(NOW_MS + 5_000)
    return json.dumps(fields, separators=(",", ":"))


def binance(recorder: Recorder, credentials: Credentials, future: bool = False) -> BinanceOrders:
    product = USD_M if future else SPOT
    wire = BinanceOrders(f"{recorder.url}/ws-api/v3", credentials, lambda: NOW_MS, product=product)
    wire._logs_on = False  # as ccxt does, which signs each request with either kind of key
    return wire
