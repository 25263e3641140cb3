"""Real messages and answers of the exchanges, read as order events, fills and balances."""

from __future__ import annotations

import json
from decimal import Decimal
from typing import Any

import pytest

from tests.execution.makers import intent
from tests.recordings import recording
from trading.exchanges.binance.venue import BinanceDialect
from trading.exchanges.bybit.venue import BybitDialect
from trading.exchanges.generic.dialect import Acknowledged, Figures, Names
from trading.exchanges.okx.venue import OkxDialect
from trading.instruments import Market
from trading.messages import OrderEvent, Outcome
from trading.messages import OrderState as S

pytestmark = pytest.mark.recordings
D = Decimal


def load(name: str) -> Any:
    return json.loads(recording(f"order_json/{name}").read_text())


def names() -> Names:
    known = Names(5)
    known.add(
        Market(exchange="x", symbol=f"{base}/USDT", native_id=native, base=base, quote="USDT")
        for base, native in (("ETH", "ETHUSDT"), ("BTC", "BTC-USDT"))
    )
    return known


def only_event(items: object) -> OrderEvent:
    assert isinstance(items, list)
    (event,) = items
    assert isinstance(event, OrderEvent)
    assert event.account_id == 5
    return event


def wrapped(name: str) -> dict[str, object]:
    return {"subscriptionId": 0, "event": load(f"binance/spot/user_data_json/{name}.json")}


def test_binance_trade() -> None:
    event = only_event(BinanceDialect(names()).read_stream(wrapped("execution_report_trade")))
    assert (event.state, event.filled, event.market) == (S.FILLED, D(1), "x:ETH/USDT")
    (fill,) = event.fills
    assert (fill.exchange_trade_id, fill.price, fill.quantity) == ("98765432", D(2500), D(1))
    assert (fill.fee, fill.fee_asset, fill.liquidity, fill.side) == (D("0.001"), "ETH", "maker", "buy")
    assert event.client_order_id == fill.client_order_id == "x-TD67BGP9-T0000000000000"


@pytest.mark.parametrize(
    ("name", "state"),
    [
        ("execution_report_new", S.PLACED),
        ("execution_report_canceled", S.CANCELLED),
        ("execution_report_expired", S.CANCELLED),
    ],
)
def test_binance_states_without_fills(name: str, state: S) -> None:
    event = only_event(BinanceDialect(names()).read_stream(wrapped(name)))
    assert (event.state, event.fills) == (state, ())
    assert event.filled is not None
    assert event.exchange_order_id


def test_binance_wrapped_messages() -> None:
    dialect = BinanceDialect(names())
    only_event(dialect.read_stream(load("binance/spot/user_data_json/execution_report_wrapped.json")))
    position = dialect.read_stream(load("binance/spot/user_data_json/account_position_wrapped.json"))
    assert position == [Figures("ETH", D(10000), D(0))]
    for name in ("balance_update_wrapped", "list_status_wrapped"):
        assert dialect.read_stream(load(f"binance/spot/user_data_json/{name}.json")) == []


def test_binance_full_answer() -> None:
    body = recording("order_json/binance/spot/http_json/new_order_full_response.json").read_text()
    dialect = BinanceDialect(names())
    assert dialect.read(body).exchange_order_id == "28"
    (event,) = dialect.answer_events(intent("10", side="sell"), body, None)
    assert (event.state, event.filled, len(event.fills)) == (S.FILLED, D(10), 5)
    assert sum(fill.quantity for fill in event.fills) == D(10)
    assert {fill.fee_asset for fill in event.fills} == {"USDT"}
    assert event.fills[0].fee == D(4)
    assert len({fill.exchange_trade_id for fill in event.fills}) == 5


def test_binance_answers_to_questions() -> None:
    dialect = BinanceDialect(names())
    (row,) = load("binance/spot/http_json/account_trades_response.json")
    fill = dialect._fill(row, "ours")
    assert (fill.fee, fill.fee_asset, fill.side, fill.liquidity) == (D("10.1"), "BNB", "buy", "taker")
    event = dialect._event(
        load("binance/spot/http_json/order_response.json"), "m", "myOrder1", (), "query", "updateTime"
    )
    assert (event.state, event.filled) == (S.PLACED, 0)


def test_okx_orders() -> None:
    dialect = OkxDialect(names())
    event = only_event(dialect.read_stream(load("okx/ws_orders_ioc.json")))
    assert (event.state, event.filled, event.market) == (S.PARTIALLY_FILLED, D("0.02"), "x:BTC/USDT")
    (fill,) = event.fills
    assert (fill.exchange_trade_id, fill.price, fill.quantity) == ("1518905531", D("50100.5"), D("0.02"))
    # This example predates the field that names a single execution's fee: it is not known yet, never a guess.
    assert fill.fee is None
    # Orders of other kinds of markets are read, and named as the exchange names them.
    swap = only_event(dialect.read_stream(load("okx/ws_orders.json")))
    assert (swap.state, swap.market) == (S.FILLED, "BTC-USDT-SWAP")
    pending = load("okx/http_get_orders_pending.json")["data"]
    assert pending
    assert all(dialect._event(row, (), "query").exchange_order_id for row in pending)


def test_okx_placement_answers() -> None:
    dialect = OkxDialect(names())
    row = load("okx/http_place_order_response.json")
    placed = dialect.read(json.dumps({"code": "0", "msg": "", "data": [row]}))
    assert (placed.code, placed.exchange_order_id) == ("", "12345678901234567890")
    # The envelope says success, the order inside it was refused.
    refused = dialect.read(recording("order_json/okx/http_place_algo_order_rejected.json").read_text())
    assert (refused.code, refused.exchange_order_id) == ("51000", "")
    assert dialect.table.judge(200, refused.code, refused.message)[0] is Outcome.REJECTED


def test_okx_balances() -> None:
    dialect = OkxDialect(names())
    told = dialect.read_stream(load("okx/ws_account.json"))
    assert told is not None
    assert told[:2] == [Figures("USDT", D("100.52768569797846"), D(0)), Figures("BTC", D("0.0000000051"), D(0))]
    asked = dialect._figures(load("okx/http_get_account_balance.json")["data"])
    assert asked == [Figures("USDT", D("94.42612990333333"), D("5.468566666666667"))]


def test_bybit_messages() -> None:
    dialect = BybitDialect(names())
    # The examples are of derivatives: other categories are not ours to read.
    assert dialect.read_stream(load("bybit/ws_account_execution.json")) == []
    assert dialect.read_stream(load("bybit/ws_account_order.json")) == []
    spot_execution = load("bybit/ws_account_execution.json")
    spot_execution["data"][0]["category"] = "spot"
    event = only_event(dialect.read_stream(spot_execution))
    (fill,) = event.fills
    assert (fill.price, fill.quantity, fill.fee) == (D("95900.1"), D("0.5"), D("26.3725275"))
    assert (fill.side, fill.liquidity) == ("sell", "taker")
    spot_order = load("bybit/ws_account_order_filled.json")
    spot_order["data"][0]["category"] = "spot"
    filled = only_event(dialect.read_stream(spot_order))
    assert (filled.state, filled.filled) == (S.FILLED, D("0.100"))
    assert isinstance((dialect.read_stream(load("bybit/ws_subscription_ack.json")) or [None])[0], Acknowledged)


def test_binance_counts_are_read_from_headers() -> None:
    dialect = BinanceDialect(names())
    headers = {"X-MBX-USED-WEIGHT-1M": "57", "x-mbx-order-count-10s": "3", "X-MBX-ORDER-COUNT-1D": "9", "Date": "x"}
    assert dialect.used(headers) == {"weight": 57, "orders": 3}
    assert dialect.used({"x-mbx-used-weight-1m": "x"}) == {}


def test_bybit_balances() -> None:
    dialect = BybitDialect(names())
    told = dialect.read_stream(load("bybit/ws_account_wallet.json"))
    # What the exchange itself calls available to withdraw.
    assert told == [
        Figures("BTC", D("0.00092964"), D("0.0001")),
        Figures("USDT", D("9519.89806037"), D("127.8573161")),
    ]
    asked = {
        figures.asset: figures
        for figures in dialect._figures(load("bybit/http_get_wallet_balance.json")["result"]["list"])
    }
    assert asked["USDT"].free == D("1000.50")


def test_bybit_answers_to_questions() -> None:
    dialect = BybitDialect(names())
    for row in load("bybit/http_get_orders_realtime.json")["result"]["list"]:
        assert dialect._event(row, (), "query").state is S.PLACED
    fills = [dialect._fill(row) for row in load("bybit/http_get_executions.json")["result"]["list"]]
    assert (fills[0].fee, fills[0].fee_asset) == (D("0.0150"), "USDT")
    assert fills[0].liquidity == "maker"
