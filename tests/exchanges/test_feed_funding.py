"""What Binance's perpetuals say of their funding, from the frame to the hub."""

from __future__ import annotations

import json

import pytest

from tests.engine.basis_world import perpetual
from tests.engine.worlds import HandFeed, VirtualClock
from tests.exchanges.feed_frames import JudgingSink
from trading.basis import EIGHT_HOURS_NS, Funding
from trading.config import ExchangeSpec
from trading.exchanges.binance.feed import BinanceVenue
from trading.exchanges.binance.protocol import BinanceProtocol
from trading.exchanges.connection import ConnectionSettings
from trading.instruments import MarketKind
from trading.marketdata.hub import MarketHub
from trading.ports import FeedSink

MS = 10**6
EVENT = {
    "e": "markPriceUpdate", "E": 1_700_000_000_000, "s": "BTCUSDT", "p": "50001.50000000", "ap": "50001.5",
    "P": "50000.0", "i": "50000.10000000", "r": "0.00010000", "T": 1_700_006_400_000,
}  # fmt: skip


def told_by(event: dict[str, object], *, raw: bool = False) -> tuple[list[Funding], int]:
    sink = JudgingSink()
    protocol = BinanceProtocol(sink, "linear")
    protocol.add(perpetual("binanceusdm"))
    frame = event if raw else {"stream": "btcusdt@markPrice@1s", "data": event}
    protocol.on_frame(json.dumps(frame, separators=(",", ":")).encode(), 77)
    return sink.fundings, protocol.counters["bad_messages"]


@pytest.mark.parametrize("raw", [False, True])
def test_a_mark_price_frame_tells_rate_mark_and_the_next_payment(raw: bool) -> None:
    (told,), malformed = told_by(EVENT, raw=raw)
    assert malformed == 0
    assert told == Funding(
        "binanceusdm:BTC/USDT:USDT", 1e-4, 50_001.5, 1_700_006_400_000 * MS, 1_700_000_000_000 * MS, 77
    )


@pytest.mark.parametrize("changes", [{"r": "", "T": 0}, {"r": ""}])
def test_a_contract_with_a_delivery_date_has_no_funding(changes: dict[str, object]) -> None:
    assert told_by({**EVENT, **changes}) == ([], 0)


@pytest.mark.parametrize(
    "changes",
    [{"r": "1.5"}, {"r": "nan"}, {"r": "much"}, {"p": "0"}, {"p": "-1"}, {"p": "nan"}, {"T": -1}, {"r": None}],
)
def test_a_rate_no_market_has_is_refused(changes: dict[str, object]) -> None:
    told, malformed = told_by({**EVENT, **changes})
    assert told == []
    assert malformed == 1


@pytest.mark.parametrize(
    ("environment", "kind", "channel", "is_asked"),
    [
        ("live", "linear", "markPrice@1s", True),
        ("testnet", "linear", "markPrice@1s", True),
        ("live", "spot", "markPrice@1s", False),
        ("live", "inverse", "markPrice@1s", False),
    ],
)
def test_only_usd_m_is_asked_for_it_and_never_on_the_book_s_connection(
    environment: str, kind: MarketKind, channel: str, is_asked: bool
) -> None:
    spec = ExchangeSpec(code="one", ccxt_id="binanceusdm", environment=environment)
    routes = BinanceVenue(spec, ConnectionSettings(sends_per_second=1.0)).routes(kind)
    assert any(channel in route.channels for route in routes) is is_asked
    if environment == "live":
        assert not any(channel in route.channels and route.carries_book for route in routes)


async def test_the_hub_keeps_the_newest_with_its_age_and_learns_the_interval() -> None:
    clock = VirtualClock()
    sinks: list[FeedSink] = []

    def feed(exchange: str, sink: FeedSink) -> HandFeed:
        sinks.append(sink)
        return HandFeed(sink)

    hub = MarketHub(clock, feed)
    market = perpetual("beta")
    state = hub.subscribe(market, lambda state: None).state
    assert state.funding is None
    assert hub.funding_age_seconds(state) == float("inf")
    hour = 3600 * 10**9
    sinks[0].on_funding(Funding(market.key, 1e-4, 50_000.0, 8 * hour, 0, 0))
    await clock.advance(3)
    assert hub.funding_age_seconds(state) == 3.0
    assert state.funding is not None
    assert state.funding.interval_ns == EIGHT_HOURS_NS
    sinks[0].on_funding(Funding(market.key, 2e-4, 50_000.0, 12 * hour, 0, 0))
    assert (state.funding.rate, state.funding.interval_ns) == (2e-4, 4 * hour)
    sinks[0].on_funding(Funding(market.key, 3e-4, 50_000.0, 12 * hour, 0, 0))
    assert (state.funding.rate, state.funding.interval_ns) == (3e-4, 4 * hour)
    # Two payments may lie between two readings: that is no interval of twice eight hours.
    sinks[0].on_funding(Funding(market.key, 3e-4, 50_000.0, 28 * hour, 0, 0))
    assert state.funding.interval_ns == 4 * hour
    sinks[0].on_funding(Funding("beta:ETH/USDT:USDT", 3e-4, 50_000.0, 28 * hour, 0, 0))
    await hub.close()
