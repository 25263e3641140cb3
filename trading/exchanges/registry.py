"""Which folder speaks for which exchange: adding an exchange is adding a folder."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from importlib import import_module
from types import MappingProxyType
from typing import cast

from trading.config import AccountConfig, ExchangeSpec
from trading.exchanges.addresses import Addresses
from trading.exchanges.binance.protocol import BinanceProtocol
from trading.exchanges.bybit.protocol import BybitProtocol
from trading.exchanges.okx.protocol import OkxProtocol
from trading.exchanges.streaming import Tap
from trading.instruments import Market, MarketKind
from trading.marketdata.protocol import MarketDataProtocol
from trading.ports import Clock, Feed, FeedSink, Venue

# ccxt id -> folder under trading/exchanges. ccxt splits Binance by kind of market, the folder does not.
FOLDERS: Mapping[str, str] = MappingProxyType(
    {"binance": "binance", "binanceusdm": "binance", "binancecoinm": "binance", "okx": "okx", "bybit": "bybit"}
)
GENERIC = "generic"


def feed_for(
    spec: ExchangeSpec,
    sink: FeedSink,
    clock: Clock,
    *,
    tap: Tap | None = None,
    jitter: Callable[[], float] | None = None,
) -> Feed:
    """Return the feed of an exchange, not running yet: ours where it has a folder, ccxt.pro's otherwise.

    ``tap`` is called with every raw message (recording); ``jitter`` gives numbers in [0, 1) that spread reconnections.
    """
    # Imported on use: the generic feed pulls in all of ccxt, which takes a second and 60 MB.
    module = import_module(f"trading.exchanges.{FOLDERS.get(spec.ccxt_id, GENERIC)}.feed")
    return cast(Feed, module.create_feed(spec, sink, clock, tap=tap, jitter=jitter))


def feed_factory(
    specs: Mapping[str, ExchangeSpec], clock: Clock, *, jitter: Callable[[], float] | None = None
) -> Callable[[str, FeedSink], Feed]:
    """Return the hub's factory over exchanges by code; ``specs`` may gain exchanges while running."""

    def make(exchange: str, sink: FeedSink) -> Feed:
        return feed_for(specs[exchange], sink, clock, jitter=jitter)

    return make


def venue_for(
    account: AccountConfig,
    markets: Iterable[Market],
    clock: Clock,
    *,
    addresses: Addresses | None = None,
    jitter: Callable[[], float] | None = None,
) -> Venue:
    """Return the venue of a real account, not started yet.

    ``addresses`` is the process's own, so that accounts share what an exchange counts by address; ``jitter`` gives
    numbers in [0, 1) that spread what is tried again.

    Raises
    ------
    ValueError
        If the account has no credentials, or ccxt doesn't know its exchange.
    """
    # Imported on use, as the generic feed is.
    module = import_module("trading.exchanges.generic.venue")
    return cast(Venue, module.build_venue(account, markets, clock, addresses=addresses, jitter=jitter))


def protocol_for(ccxt_id: str, kind: MarketKind, sink: FeedSink) -> MarketDataProtocol:
    """Return the sans-IO decoder of one kind of market: ours where the exchange has a folder, ccxt.pro's otherwise.

    Raises
    ------
    ValueError
        If ccxt.pro doesn't know the exchange either.
    """
    match FOLDERS.get(ccxt_id):
        case "binance":
            return BinanceProtocol(sink, kind)
        case "okx":
            return OkxProtocol(sink)
        case "bybit":
            return BybitProtocol(sink, kind)
    # Imported on use, as the generic feed is.
    module = import_module(f"trading.exchanges.{GENERIC}.protocol")
    return cast(MarketDataProtocol, module.CcxtProtocol(ccxt_id, kind, sink))
