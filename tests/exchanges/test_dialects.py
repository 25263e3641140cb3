"""Kraken, Coinbase, KuCoin and Gate: real ccxt against answers of the documented shapes, on a local server."""

from __future__ import annotations

import base64
from collections.abc import AsyncIterator
from decimal import Decimal
from typing import Any

import pytest
import pytest_asyncio

from tests.exchanges.answering_server import answering_server
from tests.exchanges.dialect_bench import ID, UUID, Bench
from trading.clock import SystemClock
from trading.exchanges.ccxt_client import _names
from trading.exchanges.generic import venue as venue_module
from trading.exchanges.generic.dialect import Dialect
from trading.exchanges.registry import FOLDERS, GENERIC
from trading.execution.ids import client_order_id, trade_id
from trading.messages import OrderState as S
from trading.messages import Outcome, TimeInForce

D = Decimal
NAMES = ["kraken", "coinbase", "kucoin", "gate"]
EXCHANGE_ID = {
    "kraken": "OEKVV2-IH52O-TPL6GZ",
    "coinbase": "52cfe5e2-0b29-4c19",
    "kucoin": "5bd6e9286d99",
    "gate": "95282841887",
}

PLACE = {
    "kraken": "POST /0/private/AddOrder",
    "coinbase": "POST /api/v3/brokerage/orders",
    "kucoin": "POST /api/v1/hf/orders",
    "gate": "POST /api/v4/spot/orders",
}
GATE_ORDER = {
    "id": EXCHANGE_ID["gate"],
    "text": f"t-{ID}",
    "create_time_ms": 1637383156017,
    "update_time_ms": 1637383156018,
    "status": "cancelled",
    "currency_pair": "BTC_USD",
    "type": "limit",
    "account": "spot",
    "side": "buy",
    "amount": "0.5",
    "price": "50000",
    "time_in_force": "ioc",
    "left": "0.2",
    "fee_currency": "BTC",
    "finish_as": "ioc",
}
PLACED = {
    "kraken": {
        "error": [],
        "result": {"descr": {"order": "buy 0.5 XBTUSD @ limit 50000"}, "txid": [EXCHANGE_ID["kraken"]]},
    },
    "coinbase": {
        "success": True,
        "failure_reason": "UNKNOWN_FAILURE_REASON",
        "order_id": EXCHANGE_ID["coinbase"],
        "success_response": {
            "order_id": EXCHANGE_ID["coinbase"],
            "product_id": "BTC-USD",
            "side": "BUY",
            "client_order_id": UUID,
        },
        "order_configuration": None,
    },
    "kucoin": {"code": "200000", "data": {"orderId": EXCHANGE_ID["kucoin"], "clientOid": ID}},
    "gate": (201, GATE_ORDER),
}


def coinbase_refusal(reason: str, **more: str) -> dict[str, Any]:
    error = {"error": reason, "message": "no", "error_details": "", "new_order_failure_reason": reason, **more}
    return {"success": False, "failure_reason": "UNKNOWN_FAILURE_REASON", "order_id": "", "error_response": error}


ANSWERS: list[tuple[str, Any, Outcome, str]] = [
    ("kraken", {"error": ["EOrder:Insufficient funds"]}, Outcome.REJECTED, "EOrder:Insufficient funds"),
    ("kraken", {"error": ["EGeneral:Invalid arguments:volume"]}, Outcome.REJECTED, "EGeneral:Invalid arguments"),
    ("kraken", {"error": ["EGeneral:Invalid arguments:cl_ord_id"]}, Outcome.UNKNOWN, "EGeneral:Invalid arguments"),
    ("kraken", {"error": ["EService:Unavailable"]}, Outcome.UNKNOWN, "EService:Unavailable"),
    ("kraken", {"error": ["EService:Busy"]}, Outcome.UNKNOWN, "EService:Busy"),
    ("kraken", {"error": ["EGeneral:Internal error"]}, Outcome.UNKNOWN, "EGeneral:Internal error"),
    ("kraken", {"error": ["EService:Deadline elapsed"]}, Outcome.REJECTED, "EService:Deadline elapsed"),
    (
        "kraken",
        {"error": ["EService:Market in cancel_only mode"]},
        Outcome.REJECTED,
        "EService:Market in cancel_only mode",
    ),
    (
        "kraken",
        {"error": ["EOrder:Insufficient funds", "EService:Busy"]},
        Outcome.UNKNOWN,
        "EOrder:Insufficient funds;EService:Busy",
    ),
    ("kraken", {"error": ["EService:SomethingNew"]}, Outcome.UNKNOWN, "EService:SomethingNew"),
    ("kraken", {"error": [], "result": {}}, Outcome.UNKNOWN, "200"),
    ("kraken", (520, "<html>"), Outcome.UNKNOWN, "520"),
    ("coinbase", coinbase_refusal("INSUFFICIENT_FUND"), Outcome.REJECTED, "INSUFFICIENT_FUND"),
    ("coinbase", coinbase_refusal("UNKNOWN_FAILURE_REASON"), Outcome.UNKNOWN, "UNKNOWN_FAILURE_REASON"),
    (
        "coinbase",
        coinbase_refusal("UNKNOWN_FAILURE_REASON", preview_failure_reason="PREVIEW_INSUFFICIENT_FUND"),
        Outcome.REJECTED,
        "PREVIEW_INSUFFICIENT_FUND",
    ),
    ("coinbase", coinbase_refusal("DUPLICATE_CLIENT_ORDER_ID"), Outcome.UNKNOWN, "DUPLICATE_CLIENT_ORDER_ID"),
    ("coinbase", (401, "Unauthorized"), Outcome.REJECTED, "401"),
    ("coinbase", (403, {"error": "PERMISSION_DENIED", "message": "no"}), Outcome.REJECTED, "PERMISSION_DENIED"),
    ("coinbase", (500, {"error": "INTERNAL", "message": "no"}), Outcome.UNKNOWN, "INTERNAL"),
    ("coinbase", {"success": False}, Outcome.UNKNOWN, "200"),
    ("kucoin", {"code": "200004", "msg": "Balance insufficient!"}, Outcome.REJECTED, "200004"),
    ("kucoin", {"code": "400100", "msg": "Order size increment invalid."}, Outcome.REJECTED, "400100"),
    ("kucoin", {"code": "400100", "msg": "clientOid has been used"}, Outcome.UNKNOWN, "400100"),
    ("kucoin", {"code": "500000", "msg": "Internal Server Error"}, Outcome.UNKNOWN, "500000"),
    ("kucoin", {"code": "300000", "msg": "something"}, Outcome.UNKNOWN, "300000"),
    ("kucoin", (429, {"code": "429000", "msg": "Too many requests"}), Outcome.REJECTED, "429000"),
    ("kucoin", {"code": "200000", "data": None}, Outcome.UNKNOWN, "200"),
    ("gate", (400, {"label": "BALANCE_NOT_ENOUGH", "message": "no"}), Outcome.REJECTED, "BALANCE_NOT_ENOUGH"),
    ("gate", (400, {"label": "INVALID_PARAM_VALUE", "message": "no"}), Outcome.REJECTED, "INVALID_PARAM_VALUE"),
    ("gate", (400, {"label": "ORDER_EXISTS", "message": "no"}), Outcome.UNKNOWN, "ORDER_EXISTS"),
    ("gate", (500, {"label": "INTERNAL", "message": "no"}), Outcome.UNKNOWN, "INTERNAL"),
    ("gate", (400, {"label": "SERVER_ERROR", "message": "no"}), Outcome.UNKNOWN, "SERVER_ERROR"),
    ("gate", (400, {"label": "SOMETHING_NEW", "message": "no"}), Outcome.UNKNOWN, "SOMETHING_NEW"),
    ("gate", (502, "<html>"), Outcome.UNKNOWN, "502"),
]


@pytest_asyncio.fixture(params=NAMES)
async def bench(request: pytest.FixtureRequest) -> AsyncIterator[Bench]:
    async with answering_server() as server:
        bench = Bench(request.param, server)
        yield bench
        await bench.venue.close()


async def test_an_order_is_one_request_with_our_id_our_figures_and_its_time_in_force(bench: Bench) -> None:
    bench.server.answers[PLACE[bench.name]] = PLACED[bench.name]
    result = await bench.venue.place(bench.intent())
    assert (result.outcome, result.exchange_order_id) == (Outcome.PLACED, EXCHANGE_ID[bench.name])
    # Nothing is asked before: what ccxt would find out first is told to it.
    (sent,) = bench.server.asked
    assert sent.operation == PLACE[bench.name]
    wire = sent.parameters
    match bench.name:
        case "kraken":
            assert (wire["cl_ord_id"], wire["timeinforce"], wire["oflags"]) == (UUID, "IOC", "fciq")
            assert (wire["price"], wire["volume"], wire["pair"]) == ("50000.01", "0.12345678", "XXBTZUSD")
            assert wire["deadline"].endswith("Z")
            assert "userref" not in wire
        case "coinbase":
            limits = {"base_size": "0.12345678", "limit_price": "50000.01"}
            assert wire["client_order_id"] == UUID
            assert wire["order_configuration"] == {"sor_limit_ioc": limits}
        case "kucoin":
            assert (wire["clientOid"], wire["timeInForce"]) == (ID, "IOC")
            assert (wire["price"], wire["size"], wire["symbol"]) == ("50000.01", "0.12345678", "BTC-USD")
        case "gate":
            assert (wire["text"], wire["time_in_force"], wire["account"]) == (f"t-{ID}", "ioc", "spot")
            assert (wire["price"], wire["amount"], wire["currency_pair"]) == ("50000.01", "0.12345678", "BTC_USD")
            assert len(wire["text"].removeprefix("t-")) <= 28


@pytest.mark.parametrize("time_in_force", [TimeInForce.GTC, TimeInForce.POST_ONLY, TimeInForce.FOK])
async def test_every_time_in_force_arrives_or_is_not_sent(bench: Bench, time_in_force: TimeInForce) -> None:
    bench.server.answers[PLACE[bench.name]] = PLACED[bench.name]
    result = await bench.venue.place(bench.intent(time_in_force=time_in_force))
    if bench.name == "kraken" and time_in_force is TimeInForce.FOK:
        assert (result.outcome, result.code, bench.server.asked) == (Outcome.REJECTED, "LOCAL", [])
        return
    assert result.outcome is Outcome.PLACED
    (sent,) = bench.server.asked
    wire = sent.parameters
    said = {
        "kraken": ("timeinforce", {"GTC": "GTC"}),
        "kucoin": ("timeInForce", {"GTC": "GTC", "FOK": "FOK"}),
        "gate": ("time_in_force", {"GTC": "gtc", "FOK": "fok", "PO": "poc"}),
        "coinbase": ("", {}),
    }[bench.name]
    if time_in_force.value in said[1]:
        assert wire[said[0]] == said[1][time_in_force.value]
    elif bench.name == "coinbase":
        kind = "limit_limit_fok" if time_in_force is TimeInForce.FOK else "limit_limit_gtc"
        terms = wire["order_configuration"][kind]
        assert terms.get("post_only", False) is (time_in_force is TimeInForce.POST_ONLY)
    elif bench.name == "kraken":
        assert "post" in wire["oflags"].split(",")
    else:
        assert wire["postOnly"] is True


@pytest.mark.parametrize(("name", "answer", "outcome", "code"), ANSWERS)
async def test_what_an_answer_proves(name: str, answer: Any, outcome: Outcome, code: str) -> None:
    async with answering_server() as server:
        bench = Bench(name, server)
        server.answers[PLACE[name]] = answer
        result = await bench.venue.place(bench.intent())
        assert (result.outcome, result.code) == (outcome, code)
        assert len(server.asked) == 1  # never again, whatever it said
        assert "canary" not in repr(result)
        await bench.venue.close()


# -- questions ------------------------------------------------------------------------------------------------------

KRAKEN_ORDER = {
    "refid": None,
    "userref": None,
    "cl_ord_id": UUID,
    "status": "canceled",
    "reason": "User requested",
    "opentm": 1688666559.8974,
    "closetm": 1688666560.1,
    "descr": {"pair": "XBTUSD", "type": "buy", "ordertype": "limit", "price": "50000.0", "order": "buy 0.5"},
    "vol": "0.50000000",
    "vol_exec": "0.30000000",
    "cost": "15000",
    "fee": "15.0",
    "price": "50000.0",
    "trades": ["TCCCTY-WE2O6-P3NB37"],
}
KRAKEN_TRADE = {
    "ordertxid": EXCHANGE_ID["kraken"],
    "pair": "XXBTZUSD",
    "time": 1688667796.8802,
    "type": "buy",
    "ordertype": "limit",
    "price": "50000.00000",
    "cost": "15000.00000",
    "fee": "15.00000",
    "vol": "0.30000000",
    "maker": False,
    "trade_id": 93748276,
}
COINBASE_ORDER = {
    "order_id": EXCHANGE_ID["coinbase"],
    "product_id": "BTC-USD",
    "side": "BUY",
    "client_order_id": UUID,
    "status": "CANCELLED",
    "filled_size": "0.3",
    "created_time": "2023-01-16T23:37:23.947030Z",
    "last_fill_time": "2023-01-16T23:37:24.5Z",
    "cancel_message": "Internal error",
}
COINBASE_FILL = {
    "entry_id": "22222-2222222-22222222",
    "trade_id": "1111-11111-111111",
    "order_id": EXCHANGE_ID["coinbase"],
    "trade_time": "2023-01-16T23:37:24.5Z",
    "trade_type": "FILL",
    "price": "50000.00",
    "size": "0.3",
    "commission": "15.00",
    "product_id": "BTC-USD",
    "liquidity_indicator": "TAKER",
    "size_in_quote": False,
    "side": "BUY",
}
KUCOIN_ORDER = {
    "id": EXCHANGE_ID["kucoin"],
    "clientOid": ID,
    "symbol": "BTC-USD",
    "type": "limit",
    "side": "buy",
    "price": "50000",
    "size": "0.5",
    "dealSize": "0.3",
    "active": False,
    "timeInForce": "IOC",
    "createdAt": 1740711735178,
    "lastUpdatedAt": 1740711735179,
}
KUCOIN_FILL = {
    "id": 19814995255305,
    "orderId": EXCHANGE_ID["kucoin"],
    "tradeId": 11616378066388994,
    "symbol": "BTC-USD",
    "side": "buy",
    "liquidity": "taker",
    "price": "50000",
    "size": "0.3",
    "fee": "15",
    "feeCurrency": "USD",
    "createdAt": 1740711735178,
}
GATE_FILL = {
    "id": "1232893232",
    "create_time_ms": "1637383156017.446000",
    "order_id": EXCHANGE_ID["gate"],
    "side": "buy",
    "role": "taker",
    "amount": "0.3",
    "price": "50000",
    "fee": "0.0003",
    "fee_currency": "BTC",
    "point_fee": "0",
    "gt_fee": "0",
    "currency_pair": "BTC_USD",
    "text": f"t-{ID}",
}
QUESTIONS: dict[str, dict[str, Any]] = {
    "kraken": {
        "POST /0/private/OpenOrders": {"error": [], "result": {"open": {}}},
        "POST /0/private/ClosedOrders": {
            "error": [],
            "result": {"closed": {EXCHANGE_ID["kraken"]: KRAKEN_ORDER}, "count": 1},
        },
        "POST /0/private/QueryTrades": {"error": [], "result": {"TCCCTY-WE2O6-P3NB37": KRAKEN_TRADE}},
        "POST /0/private/TradesHistory": {
            "error": [],
            "result": {"trades": {"TCCCTY-WE2O6-P3NB37": KRAKEN_TRADE}, "count": 1},
        },
    },
    "coinbase": {
        "GET /api/v3/brokerage/orders/historical/batch": {"orders": [COINBASE_ORDER], "has_next": False, "cursor": ""},
        "GET /api/v3/brokerage/orders/historical/fills": {"fills": [COINBASE_FILL], "cursor": ""},
    },
    "kucoin": {
        f"GET /api/v1/hf/orders/client-order/{ID}": {"code": "200000", "data": KUCOIN_ORDER},
        "GET /api/v1/hf/fills": {"code": "200000", "data": {"items": [KUCOIN_FILL], "lastId": 19814995255305}},
    },
    "gate": {
        f"GET /api/v4/spot/orders/t-{ID}": GATE_ORDER,
        "GET /api/v4/spot/my_trades": [GATE_FILL],
    },
}
NO_SUCH_ORDER: dict[str, dict[str, Any]] = {
    "kraken": {
        "POST /0/private/OpenOrders": {"error": [], "result": {"open": {}}},
        "POST /0/private/ClosedOrders": {"error": [], "result": {"closed": {}, "count": 0}},
    },
    "coinbase": {"GET /api/v3/brokerage/orders/historical/batch": {"orders": [], "has_next": False, "cursor": ""}},
    "kucoin": {f"GET /api/v1/hf/orders/client-order/{ID}": {"code": "400100", "msg": "order_not_exist"}},
    "gate": {
        f"GET /api/v4/spot/orders/t-{ID}": (404, {"label": "ORDER_NOT_FOUND", "message": "Order not found"}),
        "GET /api/v4/spot/orders": [],
    },
}


async def test_an_order_is_found_by_our_id_with_its_fills(bench: Bench) -> None:
    bench.server.answers.update(QUESTIONS[bench.name])
    event = await bench.venue.query(bench.intent(quantity=D("0.5")))
    assert event is not None
    assert (event.state, event.filled, event.exchange_order_id) == (S.CANCELLED, D("0.3"), EXCHANGE_ID[bench.name])
    assert event.client_order_id == ID
    assert event.market == bench.market.key
    assert event.exchange_ns > 1_600_000_000 * 10**9
    (fill,) = event.fills
    assert (fill.price, fill.quantity, fill.side, fill.liquidity) == (D(50000), D("0.3"), "buy", "taker")
    fee = (D("0.0003"), "BTC") if bench.name == "gate" else (D(15), "USD")
    assert (fill.fee, fill.fee_asset) == fee
    assert (fill.client_order_id, fill.market) == (ID, bench.market.key)
    assert fill.exchange_ns > 1_600_000_000 * 10**9
    if bench.name == "kraken":
        assert all(asked.parameters["cl_ord_id"] == UUID for asked in bench.server.of("POST /0/private/ClosedOrders"))


async def test_an_unknown_order_is_not_found(bench: Bench) -> None:
    bench.server.answers.update(NO_SUCH_ORDER[bench.name])
    assert await bench.venue.query(bench.intent()) is None


async def test_an_answer_that_proves_nothing_is_not_not_found(bench: Bench) -> None:
    bench.server.answers.update(dict.fromkeys([*QUESTIONS[bench.name], *NO_SUCH_ORDER[bench.name]], (503, "<html>")))
    event = await bench.venue.query(bench.intent())
    assert event is not None
    assert event.state is S.UNKNOWN


async def test_executions_since_a_moment(bench: Bench) -> None:
    bench.server.answers.update(QUESTIONS[bench.name])
    bench.venue._own.add(EXCHANGE_ID[bench.name], ID)
    # Not a year ago: further than what one question spans, the same answer would be given several times.
    since = SystemClock().time_ns() - 3600 * 10**9
    if bench.name == "kraken":
        since = 1_688_660_000 * 10**9
    told = await bench.venue.trades(bench.market.key, since)
    assert told is not None
    (fill,) = told
    assert (fill.client_order_id, fill.quantity) == (ID, D("0.3"))


async def test_open_orders_are_ours_by_our_own_ids() -> None:
    rows: dict[str, dict[str, Any]] = {
        "kraken": {
            "POST /0/private/OpenOrders": {
                "error": [],
                "result": {"open": {EXCHANGE_ID["kraken"]: {**KRAKEN_ORDER, "status": "open"}}},
            }
        },
        "coinbase": {
            "GET /api/v3/brokerage/orders/historical/batch": {
                "orders": [{**COINBASE_ORDER, "status": "OPEN"}],
                "has_next": False,
            }
        },
        "kucoin": {
            "GET /api/v1/hf/orders/active/symbols": {"code": "200000", "data": {"symbols": ["BTC-USD"]}},
            "GET /api/v1/hf/orders/active": {"code": "200000", "data": [{**KUCOIN_ORDER, "active": True}]},
        },
        "gate": {
            "GET /api/v4/spot/open_orders": [
                {"currency_pair": "BTC_USD", "total": 1, "orders": [{**GATE_ORDER, "status": "open"}]}
            ]
        },
    }
    for name, answers in rows.items():
        async with answering_server() as server:
            bench = Bench(name, server)
            server.answers.update(answers)
            told = await bench.venue.open_orders()
            assert told is not None, name
            (event,) = told
            assert (event.client_order_id, event.exchange_order_id) == (ID, EXCHANGE_ID[name])
            assert (event.market, event.state, event.filled) == (bench.market.key, S.PARTIALLY_FILLED, D("0.3"))
            await bench.venue.close()


async def test_a_cancellation_names_the_order(bench: Bench) -> None:
    answers: dict[str, tuple[str, Any]] = {
        "kraken": ("POST /0/private/CancelOrder", {"error": [], "result": {"count": 1}}),
        "coinbase": (
            "POST /api/v3/brokerage/orders/batch_cancel",
            {"results": [{"success": True, "failure_reason": "X", "order_id": EXCHANGE_ID["coinbase"]}]},
        ),
        "kucoin": (f"DELETE /api/v1/hf/orders/client-order/{ID}", {"code": "200000", "data": {"clientOid": ID}}),
        "gate": (f"DELETE /api/v4/spot/orders/t-{ID}", GATE_ORDER),
    }
    operation, answer = answers[bench.name]
    bench.server.answers[operation] = answer
    bench.server.answers.update(QUESTIONS[bench.name] if bench.name == "coinbase" else {})
    result = await bench.venue.cancel(bench.intent())
    assert result.outcome is Outcome.PLACED
    (sent,) = bench.server.of(operation)
    if bench.name == "kraken":
        assert (sent.parameters["cl_ord_id"], "txid" in sent.parameters) == (UUID, False)
    if bench.name == "coinbase":
        assert sent.parameters["order_ids"] == [EXCHANGE_ID["coinbase"]]


async def test_krakens_stream_names_orders_by_our_id_and_not_by_their_reference_number() -> None:
    async with answering_server() as server:
        bench = Bench("kraken", server)
        raw = {
            "order_id": EXCHANGE_ID["kraken"],
            "cl_ord_id": UUID,
            "order_userref": 0,
            "exec_type": "trade",
            "exec_id": "TCCCTY-WE2O6-P3NB37",
            "order_status": "filled",
            "symbol": "BTC/USD",
            "side": "buy",
            "order_type": "limit",
            "limit_price": "50000",
            "last_price": "50000",
            "last_qty": "0.3",
            "order_qty": "0.3",
            "cum_qty": "0.3",
            "timestamp": "2023-09-22T10:33:05.709950Z",
        }
        client, dialect = bench.venue._client, bench.venue.dialect
        event = dialect.unified_event(client.parse_ws_order(raw), "stream")
        assert event is not None
        assert (event.client_order_id, event.market) == (ID, bench.market.key)
        execution = dialect.trade_event(client.parse_ws_trade(raw))
        assert execution is not None
        assert (execution.client_order_id, execution.fills[0].client_order_id) == (ID, ID)
        assert (execution.fills[0].quantity, execution.fills[0].price) == (D("0.3"), D(50000))
        foreign = dialect.unified_event(client.parse_ws_order({**raw, "cl_ord_id": None}), "stream")
        assert foreign is not None
        assert foreign.client_order_id == ""
        await bench.venue.close()


async def test_gate_finds_an_order_whose_own_id_is_forgotten() -> None:
    async with answering_server() as server:
        bench = Bench("gate", server)
        server.answers.update(NO_SUCH_ORDER["gate"])
        server.answers["GET /api/v4/spot/orders"] = [{**GATE_ORDER, "text": "t-other"}, GATE_ORDER]
        server.answers["GET /api/v4/spot/my_trades"] = [{**GATE_FILL, "fee": "0", "gt_fee": "0.01"}]
        event = await bench.venue.query(bench.intent())
        assert event is not None
        assert (event.exchange_order_id, event.filled) == (EXCHANGE_ID["gate"], D("0.3"))
        assert (event.fills[0].fee, event.fills[0].fee_asset) == (D("0.01"), "GT")
        await bench.venue.close()


async def test_an_id_that_does_not_fit_is_not_sent() -> None:
    too_great = client_order_id(trade_id("test", 36**5, 1, 1), 0, 0)
    for name in ("kraken", "coinbase"):
        async with answering_server() as server:
            bench = Bench(name, server)
            result = await bench.venue.place(bench.intent(client_order_id=too_great))
            assert (result.outcome, result.code) == (Outcome.REJECTED, "LOCAL")
            assert "owner must be below" in result.message
            assert server.asked == []
            await bench.venue.close()


async def test_no_order_leaves_without_our_id(monkeypatch: pytest.MonkeyPatch) -> None:
    # The generic dialect gives ccxt our id the unified way, which ccxt's Coinbase ignores for one of its own.
    monkeypatch.setattr(venue_module, "dialect_class", lambda ccxt_id: Dialect)
    async with answering_server() as server:
        bench = Bench("coinbase", server)
        server.answers[PLACE["coinbase"]] = PLACED["coinbase"]
        result = await bench.venue.place(bench.intent())
        assert (result.outcome, result.code, server.asked) == (Outcome.REJECTED, "LOCAL", [])
        assert "client order id" in result.message
        await bench.venue.close()


async def test_an_id_in_a_header_in_base64_is_seen() -> None:
    payload = base64.b64encode(b'{"client_order_id": "our-id"}').decode()
    assert _names("our-id", "https://x/v1/order/new", {"X-GEMINI-PAYLOAD": payload}, None)
    assert not _names("other", "https://x/v1/order/new", {"X-GEMINI-PAYLOAD": payload}, "not base64 at all")


async def test_limits_longer_than_the_exchanges_own(bench: Bench) -> None:
    dialect = bench.venue.dialect
    assert bench.venue._client.timeout >= (dialect.backend_seconds + 1) * 1000
    assert bench.venue.absence_seconds >= dialect.window_seconds + dialect.backend_seconds + 1
    # Every operation the venue asks for has its price.
    for operation in (
        "place",
        "cancel",
        "order",
        "order_page",
        "open_orders",
        "fills",
        "fills_page",
        "balances",
        "time",
    ):
        assert set(dialect.cost(operation)) <= set(dialect.windows), operation
        assert all(cost <= dialect.windows[name].limit for name, cost in dialect.cost(operation).items())


@pytest.mark.parametrize("name", NAMES)
def test_their_market_data_stays_generic(name: str) -> None:
    assert FOLDERS.get(name, GENERIC) == GENERIC
