"""Live market data of Bybit spot, linear and inverse."""

from __future__ import annotations

import json
from collections.abc import Callable, Sequence

from trading.config import ExchangeSpec
from trading.exchanges.bybit.protocol import BybitProtocol
from trading.exchanges.connection import ConnectionSettings
from trading.exchanges.streaming import Operation, Route, SocketFeed, StreamLimits, Tap
from trading.instruments import Market, MarketKind
from trading.marketdata.protocol import MarketDataProtocol
from trading.ports import Clock, FeedSink

# Spot takes 10 args a request; one public connection takes 21,000 characters of args; 500 connections per 5 minutes.
LIMITS = StreamLimits(
    topics_per_connection=1_000,
    topics_per_request=10,
    topic_chars_per_connection=21_000,
    sends_per_second=10.0,
    connects_per_second=1.0,
    source="https://bybit-exchange.github.io/docs/v5/ws/connect",
)

# Asked for every 20 seconds, also on a busy connection.
PING = b'{"op":"ping"}'
PING_INTERVAL = 20.0

STREAM_HOSTS = {"live": "wss://stream.bybit.com", "testnet": "wss://stream-testnet.bybit.com"}

# 50 levels every 20 ms rather than 200 every 100 or 200 ms: age costs more than depth beyond 50 levels.
CHANNELS = ("orderbook.50", "orderbook.1", "publicTrade")


class BybitVenue:
    """Bybit as :class:`trading.exchanges.streaming.StreamVenue`."""

    limits = LIMITS

    def __init__(self, spec: ExchangeSpec, connection: ConnectionSettings) -> None:
        self.connection = connection
        host = spec.urls.get("ws") or STREAM_HOSTS["testnet" if spec.environment == "testnet" else "live"]
        self._host = host.rstrip("/")

    def protocol(self, kind: MarketKind, sink: FeedSink) -> MarketDataProtocol:
        return BybitProtocol(sink, kind)

    def routes(self, kind: MarketKind) -> Sequence[Route]:
        return (Route(name=kind, url=f"{self._host}/v5/public/{kind}", channels=CHANNELS),)

    def topic(self, channel: str, market: Market) -> str:
        return f"{channel}.{market.native_id}"

    def request(self, operation: Operation, topics: Sequence[str]) -> bytes:
        return json.dumps({"op": operation, "args": list(topics)}, separators=(",", ":")).encode()

    def snapshot_url(self, market: Market) -> None:
        return None


def create_feed(
    spec: ExchangeSpec,
    sink: FeedSink,
    clock: Clock,
    *,
    connection: ConnectionSettings | None = None,
    tap: Tap | None = None,
    jitter: Callable[[], float] | None = None,
) -> SocketFeed:
    """Return the feed of a Bybit exchange; ``spec.urls`` may point it at another host serving the same paths."""
    settings = connection or ConnectionSettings(
        ping=PING, ping_interval=PING_INTERVAL, sends_per_second=LIMITS.sends_per_second
    )
    return SocketFeed(spec.code, BybitVenue(spec, settings), sink, clock, tap=tap, jitter=jitter)
