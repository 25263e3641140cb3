"""Live market data of Binance spot, USD-M and COIN-M."""

from __future__ import annotations

import itertools
import json
from collections.abc import Callable, Mapping, Sequence
from types import MappingProxyType

from trading.config import ExchangeSpec
from trading.exchanges.binance.protocol import BinanceProtocol
from trading.exchanges.connection import ConnectionSettings
from trading.exchanges.snapshots import SnapshotFetcher, SnapshotLimits
from trading.exchanges.streaming import Operation, Route, SocketFeed, StreamLimits, Tap
from trading.instruments import Market, MarketKind
from trading.marketdata.protocol import MarketDataProtocol
from trading.ports import Clock, FeedSink

# 1,024 streams and 5 incoming messages a second per connection, 300 connections per 5 minutes per address; futures
# allow 1,024 streams and 10 messages. We stay below.
LIMITS = StreamLimits(
    topics_per_connection=1_000,
    topics_per_request=200,
    sends_per_second=4.0,
    connects_per_second=1.0,
    source="https://developers.binance.com/docs/binance-spot-api-docs/web-socket-streams",
)

SNAPSHOT_LIMITS: Mapping[MarketKind, SnapshotLimits] = MappingProxyType(
    {
        "spot": SnapshotLimits(
            levels=1_000,
            weight=50,
            weight_per_minute=6_000,
            source="https://developers.binance.com/docs/binance-spot-api-docs/rest-api/market-data-endpoints#order-book",
        ),
        "linear": SnapshotLimits(
            levels=1_000,
            weight=20,
            weight_per_minute=2_400,
            source="https://developers.binance.com/docs/derivatives/usds-margined-futures/market-data/rest-api/Order-Book",
        ),
        "inverse": SnapshotLimits(
            levels=1_000,
            weight=20,
            weight_per_minute=2_400,
            source="https://developers.binance.com/docs/derivatives/coin-margined-futures/market-data/rest-api/Order-Book",
        ),
    }
)

# Hosts by environment and kind of market.
STREAM_HOSTS: Mapping[str, Mapping[MarketKind, str]] = MappingProxyType(
    {
        "live": {
            "spot": "wss://stream.binance.com:9443",
            "linear": "wss://fstream.binance.com",
            "inverse": "wss://dstream.binance.com",
        },
        "testnet": {
            "spot": "wss://stream.testnet.binance.vision",
            "linear": "wss://fstream.binancefuture.com",
            "inverse": "wss://dstream.binancefuture.com",
        },
    }
)
REST_HOSTS: Mapping[str, Mapping[MarketKind, str]] = MappingProxyType(
    {
        "live": {
            "spot": "https://api.binance.com",
            "linear": "https://fapi.binance.com",
            "inverse": "https://dapi.binance.com",
        },
        "testnet": {
            "spot": "https://testnet.binance.vision",
            "linear": "https://testnet.binancefuture.com",
            "inverse": "https://testnet.binancefuture.com",
        },
    }
)
DEPTH_PATHS: Mapping[MarketKind, str] = MappingProxyType(
    {"spot": "/api/v3/depth", "linear": "/fapi/v1/depth", "inverse": "/dapi/v1/depth"}
)

BOOK_CHANNELS = ("depth@100ms", "bookTicker")
TRADE_CHANNELS = ("aggTrade",)
FUNDING_CHANNELS = ("markPrice@1s",)  # of USD-M


class BinanceVenue:
    """Binance as :class:`trading.exchanges.streaming.StreamVenue`."""

    limits = LIMITS

    def __init__(self, spec: ExchangeSpec, connection: ConnectionSettings) -> None:
        self.connection = connection
        self._spec = spec
        self._request_ids = itertools.count(1)

    def _host(self, hosts: Mapping[str, Mapping[MarketKind, str]], override: str, kind: MarketKind) -> str:
        given = self._spec.urls.get(override)
        if given:
            return given.rstrip("/")
        return hosts["testnet" if self._spec.environment == "testnet" else "live"][kind]

    def protocol(self, kind: MarketKind, sink: FeedSink) -> MarketDataProtocol:
        return BinanceProtocol(sink, kind)

    def routes(self, kind: MarketKind) -> Sequence[Route]:
        host = self._host(STREAM_HOSTS, "ws", kind)
        slow = (*TRADE_CHANNELS, *FUNDING_CHANNELS) if kind == "linear" else TRADE_CHANNELS
        if kind == "linear" and self._spec.environment == "live":
            # Since April 2026 USD-M serves books and trades at different addresses:
            # https://developers.binance.com/docs/derivatives/usds-margined-futures/websocket-market-streams/Important-WebSocket-Change-Notice
            return (
                Route(name="linear", url=f"{host}/public/stream", channels=BOOK_CHANNELS),
                Route(name="linear trades", url=f"{host}/market/stream", channels=slow, carries_book=False),
            )
        return (Route(name=kind, url=f"{host}/stream", channels=(*BOOK_CHANNELS, *slow)),)

    def topic(self, channel: str, market: Market) -> str:
        return f"{market.native_id.lower()}@{channel}"

    def request(self, operation: Operation, topics: Sequence[str]) -> bytes:
        message = {"method": operation.upper(), "params": list(topics), "id": next(self._request_ids)}
        return json.dumps(message, separators=(",", ":")).encode()

    def snapshot_url(self, market: Market) -> str:
        host = self._host(REST_HOSTS, "rest", market.kind)
        levels = SNAPSHOT_LIMITS[market.kind].levels
        return f"{host}{DEPTH_PATHS[market.kind]}?symbol={market.native_id}&limit={levels}"


def create_feed(
    spec: ExchangeSpec,
    sink: FeedSink,
    clock: Clock,
    *,
    connection: ConnectionSettings | None = None,
    tap: Tap | None = None,
    jitter: Callable[[], float] | None = None,
) -> SocketFeed:
    """Return the feed of a Binance exchange; ``spec.urls`` may point it at another host serving the same paths."""
    settings = connection or ConnectionSettings(sends_per_second=LIMITS.sends_per_second)
    fetcher = SnapshotFetcher(clock, dict(SNAPSHOT_LIMITS))
    return SocketFeed(spec.code, BinanceVenue(spec, settings), sink, clock, snapshots=fetcher, tap=tap, jitter=jitter)
