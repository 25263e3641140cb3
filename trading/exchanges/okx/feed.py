"""Live market data of OKX."""

from __future__ import annotations

from collections.abc import Callable, Sequence

from trading.config import ExchangeSpec
from trading.exchanges.connection import ConnectionSettings
from trading.exchanges.okx.protocol import OkxProtocol
from trading.exchanges.streaming import Operation, Route, SocketFeed, StreamLimits, Tap
from trading.instruments import Market, MarketKind
from trading.marketdata.protocol import MarketDataProtocol
from trading.ports import Clock, FeedSink

# 3 new connections a second per address; 480 subscribe and unsubscribe requests an hour per connection, 64 KB each. The
# number of channels per connection is not limited by the page: 300 (100 markets) keeps one socket's loss bearable.
LIMITS = StreamLimits(
    topics_per_connection=300,
    topics_per_request=100,
    sends_per_second=3.0,
    connects_per_second=2.5,
    source="https://www.okx.com/docs-v5/en/#overview-websocket",
)

# "ping" is answered by "pong"; a connection that carries nothing for 30 s is closed.
PING = b"ping"

BASE_PATH = "/ws/v5"  # ccxt counts it to the host
PUBLIC_PATH = "/ws/v5/public"
STREAM_HOSTS = {"live": "wss://ws.okx.com:8443", "testnet": "wss://wspap.okx.com:8443"}

CHANNELS = ("books", "bbo-tbt", "trades")


class OkxVenue:
    """OKX as :class:`trading.exchanges.streaming.StreamVenue`."""

    limits = LIMITS

    def __init__(self, spec: ExchangeSpec, connection: ConnectionSettings) -> None:
        self.connection = connection
        host = spec.urls.get("ws") or STREAM_HOSTS["testnet" if spec.environment == "testnet" else "live"]
        self._url = host.rstrip("/").removesuffix(BASE_PATH) + PUBLIC_PATH

    def protocol(self, kind: MarketKind, sink: FeedSink) -> MarketDataProtocol:
        return OkxProtocol(sink)

    def routes(self, kind: MarketKind) -> Sequence[Route]:
        return (Route(name=kind, url=self._url, channels=CHANNELS),)

    def topic(self, channel: str, market: Market) -> str:
        return f'{{"channel":"{channel}","instId":"{market.native_id}"}}'

    def request(self, operation: Operation, topics: Sequence[str]) -> bytes:
        return f'{{"op":"{operation}","args":[{",".join(topics)}]}}'.encode()

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
    """Return the feed of an OKX exchange; ``spec.urls`` may point it at another host serving the same paths."""
    settings = connection or ConnectionSettings(ping=PING, sends_per_second=LIMITS.sends_per_second)
    return SocketFeed(spec.code, OkxVenue(spec, settings), sink, clock, tap=tap, jitter=jitter)
