"""ccxt.pro's WebSocket orders on exchanges nobody simulates: real ccxt against a server that keeps what it is sent and
answers in the documented shapes."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator, Callable
from decimal import Decimal
from typing import Any

import ccxt.pro
import pytest
import pytest_asyncio
from aiohttp import WSMsgType, web

from tests.exchanges.dialect_bench import Bench
from tests.exchanges.venue_rig import WAIT_SECONDS
from trading.clock import SystemClock
from trading.exchanges.generic.ccxt_line import REQUEST
from trading.exchanges.generic.ccxt_socket import CcxtSocket
from trading.exchanges.generic.dialect import Dialect, Names
from trading.exchanges.generic.dialects import dialect_class
from trading.exchanges.generic.socket_methods import METHODS, WITHOUT
from trading.exchanges.order_socket import FAILURES_ALLOWED
from trading.execution.ids import client_order_id, trade_id
from trading.messages import OrdersBy, Outcome, TimeInForce

D = Decimal
EXCHANGES = ("kraken", *METHODS)
ORDER_ID = "OEKVV2-IH52O"


def answer(name: str, message: dict[str, Any]) -> list[Any]:
    """What an exchange says to a logon, an order that it takes, or a cancellation."""
    match name:
        case "kraken":
            result = {"order_id": ORDER_ID, "cl_ord_id": "x"}
            return [{"method": message["method"], "req_id": message["req_id"], "result": result, "success": True}]
        case "gate" | "gateeu":
            identity = message["payload"]["req_id"]
            header = {"status": "200", "channel": message["channel"], "event": "api"}
            if message["channel"] == "spot.login":
                return [{"request_id": identity, "header": header, "data": {"result": {"api_key": "k", "uid": "1"}}}]
            asked = message["payload"]["req_param"]
            receipt = {"request_id": identity, "ack": True, "header": header, "data": {"result": asked}}
            done = {**asked, "id": ORDER_ID, "text": asked.get("text", "")}
            return [receipt, {"request_id": identity, "ack": False, "header": header, "data": {"result": done}}]
        case "okxus" | "myokx":
            if message["op"] == "login":
                return [{"event": "login", "code": "0", "msg": ""}]
            row = {"ordId": ORDER_ID, "clOrdId": message["args"][0]["clOrdId"], "sCode": "0", "sMsg": ""}
            return [{"id": message["id"], "op": message["op"], "code": "0", "msg": "", "data": [row]}]
        case "bybiteu" | "bybitid":
            if message["op"] == "auth":
                return [{"retCode": 0, "retMsg": "OK", "op": "auth", "connId": "c"}]
            data = {"orderId": ORDER_ID, "orderLinkId": message["args"][0]["orderLinkId"]}
            return [{"reqId": message["reqId"], "retCode": 0, "retMsg": "OK", "op": message["op"], "data": data}]
        case "hitbtc" | "bequant":
            if message["method"] == "login":
                return [{"jsonrpc": "2.0", "result": True}]
            result = {"id": ORDER_ID, "client_order_id": message["params"]["client_order_id"], "status": "new"}
            return [{"jsonrpc": "2.0", "result": result, "id": message["id"]}]
        case "cryptocom":
            result = {"order_id": ORDER_ID, "client_oid": message.get("params", {}).get("client_oid")}
            method = message["method"]
            return [{"id": int(message["id"]), "method": method, "code": 0, "result": result}]
        case "poloniex":
            if message["event"] == "subscribe":
                return [{"channel": "auth", "data": {"success": True, "ts": 1}}]
            row = {"orderId": ORDER_ID, "clientOrderId": message["params"]["clientOrderId"], "message": "", "code": 200}
            return [{"id": message["id"], "data": [row]}]
    raise AssertionError(name)


REFUSALS: dict[str, Callable[[dict[str, Any]], dict[str, Any]]] = {
    "kraken": lambda message: {
        "method": "add_order",
        "req_id": message["req_id"],
        "error": "EOrder:Insufficient funds",
        "success": False,
    },
    "gate": lambda message: {
        "request_id": message["payload"]["req_id"],
        "header": {"status": "400", "channel": "spot.order_place", "event": "api"},
        "data": {"errs": {"label": "BALANCE_NOT_ENOUGH", "message": "Not enough balance"}},
    },
    "okxus": lambda message: {
        "id": message["id"],
        "op": "order",
        "code": "1",
        "msg": "",
        "data": [{"ordId": "", "sCode": "51008", "sMsg": "Insufficient balance"}],
    },
    "bybiteu": lambda message: {
        "reqId": message["reqId"],
        "retCode": 170131,
        "retMsg": "Insufficient balance.",
        "op": "order.create",
        "data": {},
    },
    "hitbtc": lambda message: {
        "jsonrpc": "2.0",
        "error": {"code": 20001, "message": "Insufficient funds", "description": "no"},
        "id": message["id"],
    },
    "cryptocom": lambda message: {
        "id": int(message["id"]),
        "method": "private/create-order",
        "code": 306,
        "message": "INSUFFICIENT_AVAILABLE_BALANCE",
    },
    "poloniex": lambda message: {
        "id": message["id"],
        "data": [{"orderId": "0", "clientOrderId": "x", "message": "Balance insufficient", "code": 21301}],
    },
}
# Only where there is a table of outcomes is a refusal more than "not known".
PROVEN = {"kraken": "EOrder:Insufficient funds", "gate": "BALANCE_NOT_ENOUGH"}


class Socket:
    """The exchange: keeps every message, says what ``answer`` says unless ``says`` says otherwise."""

    def __init__(self, name: str) -> None:
        self.name = name
        self.url = ""
        self.messages: list[dict[str, Any]] = []
        self.says: Callable[[dict[str, Any]], list[Any]] = lambda message: answer(name, message)
        self.tokens = 0

    @property
    def orders(self) -> list[dict[str, Any]]:
        """The messages that log nothing on."""
        logons = ("login", "auth", "subscribe", "public/auth", "spot.login")
        fields = ("op", "method", "event", "channel")
        return [one for one in self.messages if not any(one.get(field) in logons for field in fields)]

    async def serve(self, request: web.Request) -> web.StreamResponse:
        if request.headers.get("Upgrade", "").lower() != "websocket":
            self.tokens += request.path.endswith("GetWebSocketsToken")
            result = {"token": f"token-{self.tokens}", "expires": 900}
            return web.json_response({"error": [], "retCode": 0, "result": result})
        socket = web.WebSocketResponse()
        await socket.prepare(request)
        async for received in socket:
            if received.type is WSMsgType.TEXT and received.data.startswith("{"):
                message = json.loads(received.data)
                if "ping" in (message.get(field) for field in ("op", "method", "event")):
                    continue
                self.messages.append(message)
                for said in self.says(message):
                    await socket.send_str(said if isinstance(said, str) else json.dumps(said))
        return socket


class SocketBench(Bench):
    """A venue whose connection for orders stands at a :class:`Socket`."""

    def __init__(self, name: str, socket: Socket) -> None:
        super().__init__(name, socket, socket.url.replace("http", "ws"))
        self.socket = socket

    @property
    def keeper(self) -> CcxtSocket:
        found = self.venue._orders._socket
        assert isinstance(found, CcxtSocket)
        return found

    async def open(self) -> None:
        self.venue._orders.open(lambda: SystemClock().time_ns() // 1_000_000)
        await self.until(lambda: self.keeper.is_ready)

    async def until(self, condition: Callable[[], object]) -> None:
        async with asyncio.timeout(WAIT_SECONDS):
            while not condition():  # noqa: ASYNC110  (ccxt tells nobody of what is waited for)
                await asyncio.sleep(0.02)


async def benched(name: str) -> AsyncIterator[SocketBench]:
    socket = Socket(name)
    application = web.Application()
    application.router.add_route("*", "/{path:.*}", socket.serve)
    runner = web.AppRunner(application, shutdown_timeout=0.1)
    await runner.setup()
    site = web.TCPSite(runner, "127.0.0.1", 0)
    await site.start()
    socket.url = f"http://127.0.0.1:{runner.addresses[0][1]}"
    bench = SocketBench(name, socket)
    try:
        await bench.open()
        yield bench
    finally:
        await bench.venue.close()
        await runner.cleanup()


@pytest_asyncio.fixture(params=EXCHANGES)
async def bench(request: pytest.FixtureRequest) -> AsyncIterator[SocketBench]:
    async for made in benched(request.param):
        yield made


def on(*names: str) -> pytest.MarkDecorator:
    """Go through these exchanges only."""
    return pytest.mark.parametrize("bench", names, indirect=True)


def leaves(value: Any) -> list[Any]:
    inner = value.values() if isinstance(value, dict) else value if isinstance(value, list) else None
    return [value] if inner is None else [leaf for one in inner for leaf in leaves(one)]


def test_every_exchange_with_such_methods_has_a_row_or_a_reason() -> None:
    has = {
        name
        for name in ccxt.pro.exchanges
        if (client := getattr(ccxt.pro, name)()).has.get("createOrderWs") or client.has.get("cancelOrderWs")
    }
    assert has == {*EXCHANGES, *WITHOUT}


def test_rows_are_found_by_their_exchange() -> None:
    for name in EXCHANGES:
        dialect: Dialect = dialect_class(name)(Names(1))
        assert dialect.socket_methods(getattr(ccxt.pro, name)()) is not None, name
    for name in set(WITHOUT) - {"binance", "binanceusdm", "okx", "bybit"}:
        assert Dialect(Names(1)).socket_methods(getattr(ccxt.pro, name)()) is None, name


@pytest.mark.parametrize("side", ["buy", "sell"])
async def test_an_order_says_our_id_our_figures_and_is_taken(bench: SocketBench, side: str) -> None:
    intent = bench.intent(side=side)
    result = await bench.venue.place(intent)
    assert (result.outcome, result.exchange_order_id, result.path) == (Outcome.PLACED, ORDER_ID, "websocket")
    (order,) = bench.socket.orders
    said = leaves(order)
    assert any(bench.venue.dialect.wire_id(intent) in leaf for leaf in said if isinstance(leaf, str))
    numbers = [D(str(leaf)) for leaf in said if isinstance(leaf, int | float) or str(leaf).replace(".", "").isdigit()]
    assert {intent.price, intent.quantity} <= set(numbers)
    assert "clientOrderId" not in json.dumps(order) or bench.name == "poloniex", "a name the exchange doesn't know"
    assert side in json.dumps(order).lower()
    counters = bench.venue.counters()
    assert (counters["orders_by_websocket"], counters["orders_by_rest"]) == (1, 0)


@pytest.mark.parametrize("time_in_force", [TimeInForce.IOC, TimeInForce.GTC, TimeInForce.POST_ONLY])
async def test_every_time_in_force_arrives(bench: SocketBench, time_in_force: TimeInForce) -> None:
    assert (await bench.venue.place(bench.intent(time_in_force=time_in_force))).outcome is Outcome.PLACED
    (order,) = bench.socket.orders
    match bench.name:
        case "kraken":
            terms = order["params"]
            said = "PO" if terms.get("post_only") is True else terms["time_in_force"]
        case "gate" | "gateeu":
            said = order["payload"]["req_param"]["time_in_force"].replace("poc", "PO")
        case "okxus" | "myokx":
            (terms,) = order["args"]
            said = {"ioc": "IOC", "limit": "GTC", "post_only": "PO"}[terms["ordType"]]
        case "bybiteu" | "bybitid":
            (terms,) = order["args"]
            said = terms["timeInForce"].replace("PostOnly", "PO")
        case "hitbtc" | "bequant":
            said = "PO" if order["params"].get("post_only") is True else order["params"]["time_in_force"]
        case "cryptocom":
            names = {"IMMEDIATE_OR_CANCEL": "IOC", "GOOD_TILL_CANCEL": "GTC"}
            said = "PO" if order["params"].get("exec_inst") else names[order["params"]["time_in_force"]]
        case "poloniex":
            said = "PO" if order["params"]["type"] == "LIMIT_MAKER" else order["params"]["timeInForce"]
    assert said.lower() == time_in_force.value.lower()


async def test_orders_one_after_the_other_are_each_written(bench: SocketBench) -> None:
    for attempt in range(3):
        client_id = client_order_id(trade_id("t0ab", 7, 3, 43), 1, attempt)
        result = await bench.venue.place(bench.intent(client_order_id=client_id))
        assert (result.outcome, result.path) == (Outcome.PLACED, "websocket")
    assert len(bench.socket.orders) == 3


@pytest.mark.parametrize("bench", sorted(REFUSALS), indirect=True)
async def test_a_refusal_is_judged_by_our_tables(bench: SocketBench) -> None:
    bench.socket.says = lambda message: [REFUSALS[bench.name](message)]
    result = await bench.venue.place(bench.intent())
    assert result.path == "websocket"
    if bench.name in PROVEN:
        assert (result.outcome, result.code) == (Outcome.REJECTED, PROVEN[bench.name])
    else:
        assert result.outcome is Outcome.UNKNOWN
    assert bench.keeper.is_ready
    assert len(bench.socket.orders) == 1


async def test_garbage_and_silence_leave_it_unknown(bench: SocketBench) -> None:
    bench.socket.says = lambda message: ['{"cut": "shor']
    result = await bench.venue.place(bench.intent())
    assert (result.outcome, result.path) == (Outcome.UNKNOWN, "websocket")
    assert bench.venue.counters()["order_garbage"] == 1
    bench.socket.says = lambda message: answer(bench.name, message)
    await bench.until(lambda: bench.keeper.is_ready)
    bench.keeper._timeout_ns = 10**8
    bench.socket.says = lambda message: []
    result = await bench.venue.place(bench.intent())
    assert (result.outcome, result.code, result.path) == (Outcome.UNKNOWN, "NO_ANSWER", "websocket")
    assert len(bench.socket.orders) == 2
    line = bench.keeper._line
    assert line is not None
    assert (line.requests, set(line.socket.futures) - {"authenticated"}) == ([], set()), "nothing is left behind"


async def test_a_cancellation_names_our_id_or_goes_by_rest(bench: SocketBench) -> None:
    intent = bench.intent()
    cancelled: list[str] = []

    async def by_rest(*_: object) -> None:
        cancelled.append(intent.client_order_id)

    bench.venue.dialect.cancel_order = by_rest  # type: ignore[method-assign]
    await bench.venue.cancel(intent)
    if bench.name in {"cryptocom", "poloniex"}:
        assert (bench.socket.orders, cancelled) == ([], [intent.client_order_id])
        return
    (message,) = bench.socket.orders
    assert bench.venue.dialect.wire_id(intent) in json.dumps(message)
    assert "null" not in json.dumps(message)
    assert cancelled == []


@on("kraken")
async def test_krakens_order_has_a_deadline_and_its_fee_in_the_quote_asset(bench: SocketBench) -> None:
    await bench.venue.place(bench.intent())
    (order,) = bench.socket.orders
    assert set(order) == {"method", "params", "req_id"}, "what stands beside the parameters is refused"
    assert order["params"]["deadline"].endswith("Z")
    assert order["params"]["fee_preference"] == "quote"
    assert order["params"]["token"] == "token-1"


@on("kraken")
async def test_krakens_token_is_had_anew_before_it_ends_and_no_order_waits_for_it(bench: SocketBench) -> None:
    client = bench.keeper._client
    held = client.clients[client.urls["api"]["ws"]["private"]]
    held.subscriptions["authenticated"]["start"] -= 901
    await bench.until(lambda: held.subscriptions["authenticated"]["token"] == "token-2")
    await bench.until(
        lambda: client.clients[client.urls["api"]["ws"]["private"]].subscriptions["authenticated"]["token"] == "token-2"
    )
    assert (await bench.venue.place(bench.intent())).path == "websocket"
    assert bench.socket.orders[-1]["params"]["token"] == "token-2"


@on("okxus", "myokx")
async def test_a_request_on_a_connection_that_is_logged_on_has_a_deadline(bench: SocketBench) -> None:
    await bench.venue.place(bench.intent())
    (order,) = bench.socket.orders
    assert (order["op"], order["args"][0]["instId"]) == ("order", bench.market.native_id)
    late = int(order["expTime"]) - SystemClock().time_ns() // 1_000_000
    assert 0 < late <= 5_000


class Unfit:
    """ccxt's method as it must not write."""

    def __init__(self, bench: SocketBench, how: str) -> None:
        self.client = bench.keeper._client
        self.how = how
        self.plain = self.client.create_order_ws

    async def __call__(self, symbol: str, kind: str, side: str, amount: str, price: str, params: Any) -> Any:
        match self.how:
            case "price":
                price = "50000.02"
            case "quantity":
                amount = "0.12345679"
            case "name":
                params = {**params, "orderLinkId": "somebody-elses"}
            case "question":
                await self.client.fetch(f"{self.client.urls['api']['private']}/v5/user/query-api")
            case "late":  # after ccxt has taken it, before it is written
                asyncio.get_running_loop().call_soon(REQUEST.get().fail, "the test gives it up")  # type: ignore[union-attr]
            case "hang":
                await asyncio.Event().wait()
            case "number":
                self.client.clients[self.client.urls["api"]["ws"]["private"]["trade"]].future("1")
                self.client.options["requestId"] = 0
        return await self.plain(symbol, kind, side, amount, price, params)


@on("bybitid")
@pytest.mark.parametrize("how", ["price", "quantity", "name", "question", "late", "hang", "number"])
async def test_what_is_not_the_order_is_not_written_and_goes_by_rest(bench: SocketBench, how: str) -> None:
    """Another figure, another's id, a question first, too late, nothing at all, the number of a request under way."""
    by_rest: list[str] = []

    async def create_order(*_: object) -> dict[str, str]:
        by_rest.append(how)
        return {}

    bench.venue.dialect.create_order = create_order  # type: ignore[method-assign,assignment]
    unfit = bench.keeper._client.create_order_ws = Unfit(bench, how)
    await bench.venue.place(bench.intent())
    assert (bench.socket.orders, by_rest) == ([], [how])
    counters = bench.venue.counters()
    assert (counters["orders_by_websocket"], counters["orders_by_rest"], counters["order_fallbacks"]) == (0, 1, 1)
    bench.keeper._client.create_order_ws = unfit.plain
    await bench.until(lambda: bench.keeper.is_ready)
    assert (await bench.venue.place(bench.intent(quantity=D("0.5")))).path == "websocket"
    (order,) = bench.socket.orders  # had the first been written, it would have come before
    assert order["args"][0]["qty"] == "0.5"


@on("bybitid")
async def test_a_peer_that_answers_no_ping_is_given_up(bench: SocketBench) -> None:
    told: list[str] = []
    bench.venue._orders._tell = lambda by, reason: told.append(reason)
    bench.keeper._client.streaming["keepAlive"] = 20
    bench.keeper._line.fail("the test ends it")  # type: ignore[union-attr]
    await bench.until(lambda: any("keepalive" in reason for reason in told))


@on("bybitid")
async def test_a_logon_that_is_refused_leaves_orders_to_rest_and_says_why(bench: SocketBench) -> None:
    refusal = {"retCode": 10003, "retMsg": "API key canary-key is invalid", "op": "auth", "connId": "c"}
    bench.socket.says = lambda message: [refusal]
    told: list[tuple[OrdersBy, str]] = []
    bench.venue._orders._tell = lambda by, reason: told.append((by, reason))
    bench.keeper._line.fail("the test ends it")  # type: ignore[union-attr]
    await bench.until(lambda: len(told) >= FAILURES_ALLOWED)
    assert [by for by, _ in told[:FAILURES_ALLOWED]] == [OrdersBy.RECONNECTING] * 4 + [OrdersBy.REST]
    assert "failed in a row" in told[FAILURES_ALLOWED - 1][1]
    assert "10003" in told[FAILURES_ALLOWED - 1][1]
    assert "canary" not in repr(told)
    bench.socket.says = lambda message: answer(bench.name, message)
    await bench.until(lambda: told[-1][0] is OrdersBy.WEBSOCKET)
    assert bench.keeper.is_ready
