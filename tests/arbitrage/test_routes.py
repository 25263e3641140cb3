"""Which markets may be compared with which."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.arbitrage.builders import market
from trading.arbitrage.routes import AssetEquivalence, route_refusal, two_leg_routes

EXCHANGES = st.sampled_from(["binance", "okx", "bybit", "kraken"])
SYMBOLS = st.sampled_from(
    ["BTC/USDT", "BTC/USDT:USDT", "BTC/USDC", "BTC/USD", "BTC/USD:BTC", "ETH/USDT", "ETH/BTC", "BTC/EUR"]
)
MARKETS = st.lists(st.builds(market, EXCHANGES, SYMBOLS, active=st.booleans()), max_size=12)


def keys(markets: list[object], **options: object) -> set[str]:
    return {route.key for route in two_leg_routes(markets, **options)}  # type: ignore[arg-type]


def test_both_directions_between_exchanges_and_between_markets_of_one_exchange() -> None:
    spot, perpetual, other = market("binance"), market("binance", "BTC/USDT:USDT"), market("okx")
    assert keys([spot, perpetual, other]) == {
        f"{a.key}>{b.key}" for a in (spot, perpetual, other) for b in (spot, perpetual, other) if a is not b
    }


@pytest.mark.parametrize("quote", ["USD", "USDC", "EUR"])
def test_dollars_of_different_issuers_are_different_assets(quote: str) -> None:
    assert keys([market("binance", "BTC/USDT"), market("coinbase", f"BTC/{quote}")]) == set()


def test_declared_equal_assets_may_be_compared_and_no_others() -> None:
    markets = [market("a", "BTC/USDT"), market("b", "BTC/USD"), market("c", "BTC/USDC")]
    found = keys(markets, equal=AssetEquivalence.parse(["USD=USDT"]))
    assert found == {"a:BTC/USDT>b:BTC/USD", "b:BTC/USD>a:BTC/USDT"}


def test_equivalence_is_transitive_in_whatever_order_it_is_declared() -> None:
    equal = AssetEquivalence.parse(["USD=USDT", "USDC=BUSD", "USDT=USDC"])
    assert len({equal.canonical(asset) for asset in ("USD", "USDT", "USDC", "BUSD")}) == 1
    assert equal.canonical("EUR") == "EUR"


@pytest.mark.parametrize("text", ["", "USD", "USD=", "=USDT", "USD=US DT"])
def test_a_declaration_that_is_none_is_refused_with_what_was_given(text: str) -> None:
    with pytest.raises(ValueError, match="treat-as-equal: must look like USD=USDT"):
        AssetEquivalence.parse([text])


@pytest.mark.parametrize(
    ("buy", "sell", "reason"),
    [
        (market(), market(), "same market"),
        (market("a", active=False), market("b"), "a:BTC/USDT: the market is not active"),
        (market("a"), market("b", active=False), "b:BTC/USDT: the market is not active"),
        (market("a"), market("b", "ETH/USDT"), "base assets differ"),
        (market("a"), market("b", "BTC/USDC"), "quote assets differ"),
    ],
)
def test_refusal_names_what_stands_in_the_way(buy: object, sell: object, reason: str) -> None:
    assert reason in route_refusal(buy, sell)  # type: ignore[arg-type]


@given(MARKETS)
def test_routes_are_exactly_the_pairs_nothing_speaks_against(markets: list[object]) -> None:
    unique = {one.key: one for one in markets}  # type: ignore[attr-defined]
    expected = {
        f"{buy.key}>{sell.key}"  # type: ignore[attr-defined]
        for buy in unique.values()
        for sell in unique.values()
        if not route_refusal(buy, sell)  # type: ignore[arg-type]
    }
    assert keys(markets) == expected
