"""Sans-IO market data: bytes in, book changes out. No sockets, no clock, no exceptions for bad input.

Each exchange has a class with this interface. The live feed puts a socket in front of it, a replay puts a file in
front of it; both run the same decoding and the same sequence checks. One instance serves one kind of market of one
exchange (spot, linear or inverse), because exchanges use the same native name on several of them (``BTCUSDT`` is a
spot market and a perpetual): frames of different kinds never share a connection, and so never share an instance.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping
from typing import Annotated, Generic, Protocol, TypeVar

import msgspec

from trading.instruments import Market
from trading.marketdata.book import Book
from trading.ports import FeedSink

# A decoder accepts only these. msgspec's lax mode reads "NaN" and "inf" as floats; the bounds refuse both (NaN fails
# every comparison), negatives, and magnitudes no real market has: the cheapest listed price is about 1e-12, the
# largest book sizes (units of SHIB-like tokens) are below 1e15.
Price = Annotated[float, msgspec.Meta(ge=1e-18, le=1e15)]
Size = Annotated[float, msgspec.Meta(ge=0.0, le=1e18)]
Level = tuple[Price, Size]
SequenceId = Annotated[int, msgspec.Meta(ge=0, le=2**62)]
# Milliseconds since the epoch, up to the year 2255; their nanoseconds fit 63 bits.
Milliseconds = Annotated[int, msgspec.Meta(ge=0, le=9_000_000_000_000)]

NS_PER_MS = 1_000_000
# What msgspec raises for bytes that are not the message: not JSON, wrong shape, out of bounds, no UTF-8, too deep.
DECODE_ERRORS = (msgspec.MsgspecError, UnicodeDecodeError, RecursionError)
MAX_REASONS = 64


class MarketDataProtocol(Protocol):
    """Market data of one kind of market of one exchange."""

    wake: Callable[[], None]
    last_error: str

    @property
    def counters(self) -> Mapping[str, int]:
        """Counts so far: ``messages``, ``bad_messages``, ``sequence_gaps``, ``stale_dropped``, ``resyncs``,
        ``unknown_symbols``, ``crossed``, ``refused`` (the exchange answered a request with an error)."""

    @property
    def bad_reasons(self) -> Mapping[str, int]:
        """How often each reason made a message bad."""

    def add(self, market: Market) -> Book:
        """Follow a market. Adding it again returns the same book."""

    def remove(self, key: str) -> None:
        """Stop following a market; its frames count as unknown from now on."""

    def on_frame(self, data: bytes, received_ns: int) -> None:
        """Take one WebSocket message. Bad input is counted in ``bad_messages``, never raised."""

    def on_snapshot(self, key: str, data: bytes, received_ns: int) -> None:
        """Take the body of a REST depth snapshot. Bad input is counted, never raised."""

    def snapshots_wanted(self) -> Collection[str]:
        """Keys of books that cannot become ready without a REST snapshot."""

    def resubscribes_wanted(self) -> Collection[str]:
        """Keys of books that cannot become ready without a new subscription (its first message is a snapshot)."""

    def resubscribed(self, key: str) -> None:
        """Tell that the book's channel was subscribed again."""

    def reset(self, key: str | None = None, reason: str = "disconnected", status: str = "down") -> None:
        """Forget one book or all and report ``status``: what follows starts anew."""


def count_reason(reasons: dict[str, int], reason: str) -> None:
    """Count a reason; reasons quote what was sent, so that a hostile peer could invent any number of them."""
    if reason not in reasons and len(reasons) >= MAX_REASONS:
        reason = "other"
    reasons[reason] = reasons.get(reason, 0) + 1


class ProtocolBase:
    """What the three protocols share: markets by native name, counters, the road from ready to not ready."""

    def __init__(self, sink: FeedSink) -> None:
        self.sink = sink
        self.books: dict[str, Book] = {}
        self._messages = 0
        self._bad = 0
        self._gaps = 0
        self._stale = 0
        self._resyncs = 0
        self._unknown = 0
        self._crossed = 0
        self._refused = 0
        self._reasons: dict[str, int] = {}
        self.last_error = ""
        # Called when a snapshot or a subscription comes to be wanted; the live feed hooks in here.
        self.wake: Callable[[], None] = _nothing

    @property
    def counters(self) -> dict[str, int]:
        return {
            "messages": self._messages,
            "bad_messages": self._bad,
            "sequence_gaps": self._gaps,
            "stale_dropped": self._stale,
            "resyncs": self._resyncs,
            "unknown_symbols": self._unknown,
            "crossed": self._crossed,
            "refused": self._refused,
        }

    @property
    def bad_reasons(self) -> Mapping[str, int]:
        return self._reasons

    def snapshots_wanted(self) -> Collection[str]:
        return ()

    def resubscribes_wanted(self) -> Collection[str]:
        return ()

    def resubscribed(self, key: str) -> None:
        """Nothing to note unless the exchange starts books by subscription."""

    def on_snapshot(self, key: str, data: bytes, received_ns: int) -> None:
        self._refuse_message("this exchange's books do not start from a REST snapshot")

    def _refuse_message(self, reason: str) -> None:
        self._bad += 1
        count_reason(self._reasons, reason)

    def _note_refusal(self, text: str) -> None:
        self._refused += 1
        self.last_error = text[:200]

    def _live(self, book: Book) -> None:
        book.ready = True
        self.sink.on_status(book.key, "live", "")

    def _forget(self, book: Book, reason: str, status: str = "connecting") -> None:
        book.reset()
        self.sink.on_status(book.key, status, reason)


class SubscribedMarket:
    """One market whose book starts with the first message of its subscription, and starts anew with another one."""

    __slots__ = ("_owner", "_sink", "book", "key", "wants_subscription")

    def __init__(self, owner: ProtocolBase, market: Market) -> None:
        self._owner = owner
        self._sink = owner.sink
        self.book = Book(market)
        self.key = market.key
        self.wants_subscription = False

    def restart(self, reason: str, status: str = "connecting") -> None:
        """Forget the book and its place in the chain."""
        self.wants_subscription = False
        self.book.top_version = 0
        self._owner._forget(self.book, reason, status)

    def _resync(self, reason: str) -> None:
        self._owner._resyncs += 1
        self.restart(reason)
        self.wants_subscription = True
        self._owner.wake()

    def _lost(self, reason: str) -> None:
        self._owner._gaps += 1
        self._resync(reason)

    def _refuse_change(self, reason: str) -> None:
        """Count a message of the book's channel that could not be read, and start anew."""
        self._owner._refuse_message(reason)
        if self.book.ready:  # the next change, which would show the gap, may be long in coming
            self._resync("a change of the book could not be read")

    def _crossed(self) -> None:
        book = self.book
        self._owner._crossed += 1
        self._resync(f"crossed: bid {book.bids.best} is not below ask {book.asks.best}")

    def _take_top(
        self, bid: float, bid_size: float, ask: float, ask_size: float, version: int, exchange_ms: int, received_ns: int
    ) -> None:
        """Report best prices that the exchange publishes apart from the book, unless they are old or crossed."""
        book = self.book
        if version < book.top_version:
            self._owner._stale += 1
        elif bid >= ask > 0:
            self._owner._crossed += 1
        else:
            book.top_version = version
            self._sink.on_top(self.key, bid, bid_size, ask, ask_size, exchange_ms * NS_PER_MS, received_ns)


AnyMarket = TypeVar("AnyMarket", bound=SubscribedMarket)


class SubscriptionProtocol(ProtocolBase, Generic[AnyMarket]):
    """A protocol whose books start by subscription, without a REST snapshot."""

    def __init__(self, sink: FeedSink) -> None:
        super().__init__(sink)
        self._markets: dict[str, AnyMarket] = {}  # by our key

    def reset(self, key: str | None = None, reason: str = "disconnected", status: str = "down") -> None:
        for market in list(self._markets.values()) if key is None else [self._markets[key]]:
            market.restart(reason, status)

    def resubscribes_wanted(self) -> Collection[str]:
        return [key for key, market in self._markets.items() if market.wants_subscription]

    def resubscribed(self, key: str) -> None:
        if key in self._markets:
            self._markets[key].wants_subscription = False


def _nothing() -> None:
    """Replays look for wanted snapshots by themselves."""
