"""Markets by name and by recorded instrument definitions."""

from __future__ import annotations

import contextlib
import json
from decimal import Decimal

import pytest
from hypothesis import given
from hypothesis import strategies as st

from trading.marketdata.replay_definitions import recorded_markets
from trading.marketdata.replay_markets import MarketNameError, market_from_name, recorder_name


@pytest.mark.parametrize(
    ("name", "native_id", "kind", "contract_size"),
    [
        ("binance:BTC/USDT", "BTCUSDT", "spot", "1"),
        ("binanceusdm:BTC/USDT:USDT", "BTCUSDT", "linear", "1"),
        ("binancecoinm:BTC/USD:BTC", "BTCUSD_PERP", "inverse", "100"),
        ("binancecoinm:ETH/USD:ETH", "ETHUSD_PERP", "inverse", "10"),
        ("binancecoinm:BTC/USD:BTC-241227", "BTCUSD_241227", "inverse", "100"),
        ("okx:BTC/USDT", "BTC-USDT", "spot", "1"),
        ("okx:BTC/USDT:USDT", "BTC-USDT-SWAP", "linear", "0.01"),
        ("okx:BTC/USD:BTC-220527", "BTC-USD-220527", "inverse", "100"),
        ("bybit:BTC/USDT:USDT", "BTCUSDT", "linear", "1"),
        ("bybit:BTC/USD:BTC", "BTCUSD", "inverse", "1"),
        ("poloniex:BCH/BTC", "BCH_BTC", "spot", "1"),
        ("kucoin:ANKR/BTC", "ANKR-BTC", "spot", "1"),
        ("bitget:EOS/USDT", "EOSUSDT", "spot", "1"),
        ("bitget:UNI/USDT:USDT", "UNIUSDT", "linear", "1"),
    ],
)
def test_names_follow_each_exchange_s_rules(name: str, native_id: str, kind: str, contract_size: str) -> None:
    market = market_from_name(name)
    assert market.key == name
    assert (market.native_id, market.kind, market.contract_size) == (native_id, kind, Decimal(contract_size))


@pytest.mark.parametrize(
    ("name", "said"),
    [
        ("", "must look like"),
        ("binance", "must look like"),
        ("binance:BTCUSDT", "must look like"),
        ("binance:BTC/USDT:", "must look like"),
        ("nasdaq:BTC/USDT", "'nasdaq' has no reader; there are binance,"),
        ("binancecoinm:BTC/USDT:USDT", "of binancecoinm only inverse markets can be read"),
        ("kraken:BTC/USD", "'kraken' has no reader"),
        ("poloniex:BTC/USDT:USDT", "of poloniex only spot markets can be read"),
        ("bitget:BTC/USD:BTC", "of bitget only spot and linear markets can be read"),
        ("okx:PEPE/USDT:USDT", "contract size of 'okx:PEPE/USDT:USDT' is not known"),
        ("bybit:BTC/USD:BTC-241227", "instrument definitions only"),
    ],
)
def test_a_name_that_names_nothing_is_refused_with_the_reason(name: str, said: str) -> None:
    with pytest.raises(MarketNameError, match="market: ") as refusal:
        market_from_name(name)
    assert said in str(refusal.value)


@given(st.text(max_size=60))
def test_any_text_is_a_market_or_a_refusal(text: str) -> None:
    with contextlib.suppress(MarketNameError):
        assert market_from_name(text).key == text


SPOT = {
    "symbol": "BTCUSDT",
    "status": "TRADING",
    "baseAsset": "BTC",
    "quoteAsset": "USDT",
    "filters": [
        {"filterType": "PRICE_FILTER", "tickSize": "0.01000000"},
        {"filterType": "LOT_SIZE", "minQty": "0.00010000", "stepSize": "0.00001000"},
        {"filterType": "NOTIONAL", "minNotional": "5.00000000"},
    ],
}
INVERSE = {
    "symbol": "BTCUSD_241227",
    "contractStatus": "TRADING",
    "contractSize": 100,
    "baseAsset": "BTC",
    "quoteAsset": "USD",
    "marginAsset": "BTC",
    "filters": [
        {"filterType": "PRICE_FILTER", "tickSize": "0.1"},
        {"filterType": "LOT_SIZE", "minQty": "1", "stepSize": "1"},
    ],
}
BYBIT = {
    "symbol": "BTCUSDT",
    "status": "Trading",
    "baseCoin": "BTC",
    "quoteCoin": "USDT",
    "settleCoin": "USDT",
    "deliveryTime": "0",
    "priceFilter": {"tickSize": "0.10"},
    "lotSizeFilter": {"qtyStep": "0.001", "minOrderQty": "0.001", "minNotionalValue": "5"},
}
OKX = {
    "instId": "BTC-USD-220527",
    "instType": "FUTURES",
    "uly": "BTC-USD",
    "settleCcy": "BTC",
    "ctVal": "100",
    "ctMult": "1",
    "tickSz": "0.1",
    "lotSz": "1",
    "minSz": "1",
    "state": "live",
}
POLONIEX = {
    "symbol": "BCH_BTC",
    "baseCurrencyName": "BCH",
    "quoteCurrencyName": "BTC",
    "state": "NORMAL",
    "symbolTradeLimit": {"priceScale": 6, "quantityScale": 2, "minQuantity": "0.01", "minAmount": "0.00001"},
}
BITGET = {
    "symbolName": "EOSUSDT",
    "baseCoin": "EOS",
    "quoteCoin": "USDT",
    "minTradeAmount": "2",
    "priceScale": "4",
    "quantityScale": "3",
    "status": "online",
}
BITGET_LINEAR = {
    "symbol": "BTCUSDT_UMCBL",
    "baseCoin": "BTC",
    "quoteCoin": "USDT",
    "minTradeNum": "0.001",
    "priceEndStep": "5",
    "pricePlace": "1",
    "volumePlace": "3",
}
KUCOIN = {
    "symbol": "BCHSV-USDT",
    "baseCurrency": "BSV",
    "quoteCurrency": "USDT",
    "baseMinSize": "0.001",
    "quoteMinSize": "0.05",
    "baseIncrement": "0.00000001",
    "priceIncrement": "0.001",
    "enableTrading": True,
}


def body(value: object) -> bytes:
    return json.dumps(value).encode()


@pytest.mark.parametrize(
    ("exchange", "url", "answer", "symbol", "recorder", "lot", "contract_size"),
    [
        ("binance", "https://x/api/v3/exchangeInfo", {"symbols": [SPOT]}, "BTC/USDT", "BTC-USDT", "0.00001", "1"),
        (
            "binancecoinm",
            "https://x/dapi/v1/exchangeInfo",
            {"symbols": [INVERSE]},
            "BTC/USD:BTC-241227",
            "BTC-USD-24Z27",
            "1",
            "100",
        ),
        (
            "bybit",
            "https://x/v5/market/instruments-info?category=linear",
            {"result": {"list": [BYBIT]}},
            "BTC/USDT:USDT",
            "BTC-USDT-PERP",
            "0.001",
            "1",
        ),
        (
            "okx",
            "https://x/api/v5/public/instruments?instType=FUTURES",
            {"data": [OKX]},
            "BTC/USD:BTC-220527",
            "BTC-USD-22K27",
            "1",
            "100",
        ),
        ("poloniex", "https://api.poloniex.com/markets", [POLONIEX], "BCH/BTC", "BCH-BTC", "0.01", "1"),
        (
            "bitget",
            "https://x/api/spot/v1/public/products",
            {"data": [BITGET]},
            "EOS/USDT",
            "EOS-USDT",
            "0.001",
            "1",
        ),
        (
            "bitget",
            "https://x/api/mix/v1/market/contracts?productType=umcbl",
            {"data": [BITGET_LINEAR]},
            "BTC/USDT:USDT",
            "BTC-USDT-PERP",
            "0.001",
            "1",
        ),
        (
            "kucoin",
            "https://api.kucoin.com/api/v1/symbols",
            {"data": [KUCOIN]},
            "BSV/USDT",
            "BSV-USDT",
            "0.00000001",
            "1",
        ),
    ],
)
def test_recorded_definitions_become_markets(
    exchange: str, url: str, answer: object, symbol: str, recorder: str, lot: str, contract_size: str
) -> None:
    markets = recorded_markets(exchange, [(url, body(answer))])
    assert list(markets) == [symbol]
    market = markets[symbol]
    assert (market.exchange, market.lot, market.contract_size) == (exchange, Decimal(lot), Decimal(contract_size))
    assert recorder_name(market) == recorder
    assert market.active


@pytest.mark.parametrize(
    ("url", "answer", "native_id", "tick"),
    [
        ("https://api.poloniex.com/markets", [POLONIEX], "BCH_BTC", "0.000001"),
        ("https://x/api/spot/v1/public/products", {"data": [BITGET]}, "EOSUSDT", "0.0001"),
        ("https://x/api/mix/v1/market/contracts?productType=umcbl", {"data": [BITGET_LINEAR]}, "BTCUSDT", "0.5"),
        ("https://api.kucoin.com/api/v1/symbols", {"data": [KUCOIN]}, "BCHSV-USDT", "0.001"),
    ],
)
def test_native_names_are_those_the_frames_carry_and_ticks_are_exact(
    url: str, answer: object, native_id: str, tick: str
) -> None:
    (market,) = recorded_markets("x", [(url, body(answer))]).values()
    assert (market.native_id, market.tick) == (native_id, Decimal(tick))


ODD = st.recursive(
    st.none() | st.booleans() | st.integers() | st.text(max_size=8),
    lambda inner: (
        st.lists(inner, max_size=3) | st.dictionaries(st.sampled_from([*SPOT, *BYBIT, *OKX, *POLONIEX, *BITGET]), inner)
    ),
    max_leaves=12,
)


@given(
    st.sampled_from(
        [
            "/exchangeInfo",
            "/instruments-info",
            "/public/instruments",
            "api.poloniex.com/markets",
            "/spot/v1/public/products",
            "/mix/v1/market/contracts?productType=umcbl",
            "api.kucoin.com/api/v1/symbols",
            "/depth",
        ]
    ),
    ODD | st.dictionaries(st.sampled_from(["symbols", "data", "result"]), st.lists(ODD, max_size=3)),
    st.sampled_from([SPOT, BYBIT, OKX, POLONIEX, BITGET, BITGET_LINEAR, KUCOIN]),
    st.sampled_from(sorted({*SPOT, *BYBIT, *OKX, *POLONIEX, *BITGET, *BITGET_LINEAR, *KUCOIN})),
    ODD,
)
def test_odd_definitions_are_left_out_and_break_nothing(
    path: str, answer: object, entry: dict[str, object], field: str, value: object
) -> None:
    recorded_markets("binance", [(path, body(answer)), ("/nothing", b"\xff not json")])
    spoilt = {**entry, field: value}
    for wrapped in ({"symbols": [spoilt]}, {"data": [spoilt]}, {"result": {"list": [spoilt]}}, [spoilt]):
        recorded_markets("binance", [(path, body(wrapped))])
