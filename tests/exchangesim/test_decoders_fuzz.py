"""Nothing that comes in makes the simulated Binance or the recording readers fall over."""

from __future__ import annotations

import gzip
import json
from pathlib import Path
from typing import Any

import msgspec
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from exchangesim.binance.calls import Calls
from exchangesim.binance.errors import ApiError
from exchangesim.binance.limits import BinanceLimits
from exchangesim.binance.market_sockets import MarketSockets
from exchangesim.binance.operations import Operation, Request
from exchangesim.binance.parameters import Parameters
from exchangesim.binance.streams import Listener, Streams
from exchangesim.core.clock import ManualClock
from exchangesim.core.exchange import SimExchange
from exchangesim.core.faults import FaultRegistry
from exchangesim.core.latency import Latency
from exchangesim.core.orders import NewOrder
from exchangesim.core.policy import POLICIES
from exchangesim.core.recordings import Reader, RecordingError
from exchangesim.core.transit import Transit
from tests.exchangesim.core.venue import RULES, D, levels, totals

texts = st.text(max_size=12) | st.from_regex(r"[0-9]{1,25}(\.[0-9]{0,25})?", fullmatch=True)
known = st.sampled_from(
    ["BTCUSDT", "BUY", "SELL", "LIMIT", "MARKET", "LIMIT_MAKER", "GTC", "IOC", "FOK", "FULL", "1", "100", "0.5", "101"]
)
names = st.sampled_from(
    [
        "symbol",
        "symbols",
        "side",
        "type",
        "timeInForce",
        "quantity",
        "quoteOrderQty",
        "price",
        "newClientOrderId",
        "origClientOrderId",
        "newOrderRespType",
        "orderId",
        "fromId",
        "limit",
        "startTime",
        "endTime",
        "interval",
        "recvWindow",
        "timestamp",
        "subscriptionId",
        "cancelRestrictions",
        "omitZeroBalances",
    ]
)
parameters = st.dictionaries(names, texts | known, max_size=8)
json_values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False, allow_infinity=False) | st.text(max_size=8),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=8), inner, max_size=3),
    max_leaves=8,
)


def make_calls() -> Calls:
    clock = ManualClock()
    exchange = SimExchange("test", [RULES], {RULES.symbol: D(100)}, clock=clock, policy=POLICIES["binance"])
    exchange.apply_levels(RULES.native, levels(("99", "1")), levels(("101", "1")))
    exchange.put_account("key", "secret", balances={"USDT": D(10_000), "BTC": D(10)})
    return Calls(exchange, BinanceLimits(clock, enforce=False))


CALLS = make_calls()
BEFORE = totals(CALLS.exchange)


@given(given_parameters=parameters, operation=st.sampled_from(CALLS.operations))
@settings(max_examples=150, deadline=None)
def test_any_parameters_give_an_answer_or_a_documented_error(
    given_parameters: dict[str, str], operation: Operation
) -> None:
    account = CALLS.exchange.accounts["key"]
    stamp = str(CALLS.exchange.clock.time_ms())
    request = Request(address="x", given={"timestamp": stamp, **given_parameters}, session=account)
    refused: ApiError | None = None
    try:
        msgspec.json.encode(CALLS.carry_out(operation, request)[0])
    except ApiError as error:
        refused = error
    assert refused is None or (refused.code < -999 and refused.msg)
    assert totals(CALLS.exchange) == BEFORE


@given(given_parameters=parameters)
@settings(max_examples=120, deadline=None)
def test_an_order_that_is_read_is_finite_and_positive_or_refused_later(given_parameters: dict[str, str]) -> None:
    order = {"symbol": "BTCUSDT", "side": "BUY", "type": "LIMIT", "timeInForce": "GTC", "price": "1", "quantity": "1"}
    try:
        new, _ = CALLS.trading.read_order(Parameters({**order, **given_parameters}))
    except ApiError:
        return
    assert isinstance(new, NewOrder)
    for amount in (new.price, new.quantity, new.quote_quantity):
        assert amount is None or (amount.is_finite() and amount >= 0)


@given(text=st.text(max_size=60) | json_values.map(json.dumps))
@settings(max_examples=120, deadline=None)
def test_any_control_frame_gets_an_answer(text: str) -> None:
    sockets, listener = _sockets()
    answer = sockets._answer(listener, text)
    assert ("result" in answer) != ("error" in answer)


@given(
    method=st.sampled_from(["SUBSCRIBE", "UNSUBSCRIBE", "SET_PROPERTY", "GET_PROPERTY", "LIST_SUBSCRIPTIONS"]),
    params=json_values
    | st.lists(st.sampled_from(["btcusdt@depth", "btcusdt@depth5@100ms", "x@trade", "@"]), max_size=4),
)
@settings(max_examples=100, deadline=None)
def test_any_subscription_gets_an_answer(method: str, params: Any) -> None:
    sockets, listener = _sockets()
    answer = sockets._answer(listener, json.dumps({"method": method, "params": params, "id": 1}))
    assert answer["id"] == 1
    assert listener.combined in (True, False)


def _sockets() -> tuple[MarketSockets, Listener]:
    class NoCadence:
        def mark(self, _: object) -> None: ...

    exchange = CALLS.exchange
    streams = Streams(exchange)
    streams.cadences = dict.fromkeys(streams.cadences, NoCadence())  # type: ignore[arg-type]  # no event loop here
    transit = Transit("test", faults=FaultRegistry(), latency=Latency(), clock=exchange.clock)
    return MarketSockets(streams, transit, limits=False), Listener(None, combined=False)  # type: ignore[arg-type]


messages = json_values.map(json.dumps) | st.builds(
    lambda stream, bids, asks, last: json.dumps(
        {"stream": stream, "data": {"e": "depthUpdate", "s": "BTCUSDT", "U": 1, "u": last, "b": bids, "a": asks}}
    ),
    st.text(max_size=5),
    st.lists(st.lists(texts, max_size=3), max_size=3) | json_values,
    st.lists(st.lists(texts, max_size=3), max_size=3) | json_values,
    st.integers(0, 9) | json_values,
)


@pytest.mark.parametrize("exchange", ["binance", "okx", "bybit"])
@given(lines=st.lists(st.tuples(st.integers(0, 10**18), messages), max_size=6))
@settings(max_examples=40, deadline=None)
def test_any_recorded_messages_are_read_or_counted(
    tmp_path_factory: pytest.TempPathFactory, exchange: str, lines: list[tuple[int, str]]
) -> None:
    path = tmp_path_factory.mktemp("fuzz") / "recording.gz"
    path.write_bytes(gzip.compress("".join(f"{ns} {text}\n" for ns, text in lines).encode(), compresslevel=1))
    reader = Reader(path, exchange)
    for event in reader:
        assert event.native
    assert reader.bad <= len(lines)


@given(content=st.binary(max_size=200), packed=st.booleans())
@settings(max_examples=60, deadline=None)
def test_any_bytes_are_a_recording_or_refused(
    tmp_path_factory: pytest.TempPathFactory, content: bytes, packed: bool
) -> None:
    path: Path = tmp_path_factory.mktemp("fuzz") / "file"
    path.write_bytes(gzip.compress(content, compresslevel=1) if packed else content)
    refusal = ""
    try:
        list(Reader(path, "binance"))
    except RecordingError as error:
        refusal = str(error)
    assert "\n" not in refusal
