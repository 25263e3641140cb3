"""The live feed shared by every exchange with a protocol of ours: sockets, subscriptions, snapshots around it.

What differs between exchanges is data (:class:`Route`, :class:`StreamLimits`) and three small methods
(:class:`StreamVenue`); decoding is the protocol's.
"""

from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from typing import Literal, Protocol

import msgspec

from trading.exchanges.connection import NS, Connection, ConnectionSettings, Pacer
from trading.exchanges.snapshots import SnapshotFetcher
from trading.instruments import Market, MarketKind
from trading.marketdata.book import Book
from trading.marketdata.protocol import MarketDataProtocol
from trading.ports import Clock, FeedSink

Operation = Literal["subscribe", "unsubscribe"]

# (received wall ns, connection or market key, "frame" or "snapshot", bytes): what a recorder hooks into.
Tap = Callable[[int, str, str, bytes], None]

# A book that is not ready this long after its subscription is subscribed again.
UNREADY_SECONDS = 10.0
# A book that did not change for this long, while its best prices went on, has lost its channel: others of the socket
# keep the connection's watchdog content.
FROZEN_SECONDS = 10.0
FROZEN = "the book no longer follows its best prices"
CHECK_SECONDS = 2.0
# A book that needs a new subscription again and again waits longer each time: exchanges count subscriptions.
FIRST_RENEWAL_PAUSE, LONGEST_RENEWAL_PAUSE = 1.0, 300.0
FORGET_RENEWALS_AFTER = 600.0


class StreamLimits(msgspec.Struct, frozen=True, kw_only=True):
    """What an exchange allows on its market data sockets, with the page that says so."""

    topics_per_connection: int
    topics_per_request: int
    topic_chars_per_connection: int = 1_000_000
    sends_per_second: float
    connects_per_second: float
    source: str


class Route(msgspec.Struct, frozen=True, kw_only=True):
    """One socket address and what is subscribed there per market; ``carries_book`` when the book depends on it."""

    name: str
    url: str
    channels: tuple[str, ...]
    carries_book: bool = True


class StreamVenue(Protocol):
    """What a feed needs to know of one exchange."""

    limits: StreamLimits
    connection: ConnectionSettings

    def protocol(self, kind: MarketKind, sink: FeedSink) -> MarketDataProtocol: ...

    def routes(self, kind: MarketKind) -> Sequence[Route]:
        """Sockets of one kind of market; the book's channel is the first channel of the route that carries it."""

    def topic(self, channel: str, market: Market) -> str:
        """Name a channel of a market as subscription requests spell it."""

    def request(self, operation: Operation, topics: Sequence[str]) -> bytes: ...

    def snapshot_url(self, market: Market) -> str | None:
        """REST address of the depth snapshot a book starts from; None where the stream brings it."""


class SocketFeed:
    """Feed port on WebSockets: many markets on each socket, more sockets where the exchange's limits ask for them."""

    def __init__(
        self,
        name: str,
        venue: StreamVenue,
        sink: FeedSink,
        clock: Clock,
        *,
        snapshots: SnapshotFetcher | None = None,
        tap: Tap | None = None,
        jitter: Callable[[], float] | None = None,
    ) -> None:
        self.name = name
        self._venue = venue
        self._sink = sink
        self._clock = clock
        self._snapshots = snapshots
        self._tap = tap
        self._jitter = jitter
        self._protocols: dict[MarketKind, MarketDataProtocol] = {}
        self._markets: dict[str, Market] = {}
        self._shards: list[Shard] = []
        self._pacer = Pacer(clock, venue.limits.connects_per_second)
        self._work = asyncio.Event()
        self._tasks: asyncio.TaskGroup | None = None
        self._subscribed_ns: dict[str, int] = {}
        self._changed: dict[str, tuple[int, int]] = {}  # a book's version and when it was last up to date
        self._renewals: dict[str, tuple[int, int]] = {}  # how often a book was subscribed anew, and when last
        if snapshots is not None:
            snapshots.attach(self)

    # Feed port

    def add(self, market: Market) -> Book:
        protocol = self._protocol(market.kind)
        book = protocol.add(market)
        if market.key in self._markets:
            return book
        self._markets[market.key] = market
        for route in self._venue.routes(market.kind):
            topics = [self._venue.topic(channel, market) for channel in route.channels]
            self._shard_for(route, protocol, topics).add(market.key, topics)
        return book

    def remove(self, key: str) -> None:
        market = self._markets.pop(key, None)
        if market is None:
            return
        for shard in list(self._shards):
            shard.remove(key)
            if not shard.topics:
                self._shards.remove(shard)
                shard.stop()
        self._protocols[market.kind].remove(key)
        self._subscribed_ns.pop(key, None)
        self._changed.pop(key, None)
        self._renewals.pop(key, None)

    async def run(self) -> None:
        async with asyncio.TaskGroup() as group:
            self._tasks = group
            try:
                for shard in self._shards:
                    shard.start(group)
                if self._snapshots is not None:
                    group.create_task(self._snapshots.run(), name=f"{self.name} snapshots")
                group.create_task(self._look_after(), name=f"{self.name} books")
                await self._resubscribe()
            finally:
                self._tasks = None

    def counters(self) -> Mapping[str, int | float]:
        total: Counter[str] = Counter()
        for protocol in self._protocols.values():
            total.update(protocol.counters)
        for shard in self._shards:
            total.update(shard.connection.counters())
        if self._snapshots is not None:
            total.update(self._snapshots.counters())
        total["connections"] = len(self._shards)
        total["connections_open"] = sum(shard.connection.is_open for shard in self._shards)
        total["markets"] = len(self._markets)
        total["books_ready"] = sum(book.ready for book in self._books())
        return dict(total)

    # What snapshots need

    def snapshots_wanted(self) -> list[Market]:
        return [
            self._markets[key]
            for protocol in self._protocols.values()
            for key in protocol.snapshots_wanted()
            if key in self._markets
        ]

    def deliver_snapshot(self, market: Market, data: bytes, received_ns: int) -> None:
        if market.key not in self._markets:
            return
        if self._tap is not None:
            self._tap(received_ns, market.key, "snapshot", data)
        self._protocols[market.kind].on_snapshot(market.key, data, received_ns)

    def snapshot_failed(self, market: Market, reason: str) -> None:
        if market.key in self._markets:
            self._sink.on_status(market.key, "connecting", reason)

    # Inside

    def _books(self) -> Iterator[Book]:
        for market in self._markets.values():
            yield self._protocols[market.kind].add(market)  # adding again only finds it

    def _protocol(self, kind: MarketKind) -> MarketDataProtocol:
        protocol = self._protocols.get(kind)
        if protocol is None:
            protocol = self._protocols[kind] = self._venue.protocol(kind, self._sink)
            protocol.wake = self._wake
        return protocol

    def _wake(self) -> None:
        self._work.set()
        if self._snapshots is not None:
            self._snapshots.wake()

    def _shard_for(self, route: Route, protocol: MarketDataProtocol, topics: Sequence[str]) -> Shard:
        for shard in self._shards:
            if shard.route == route and shard.has_room(topics):
                return shard
        name = f"{self.name} {route.name} {sum(shard.route == route for shard in self._shards) + 1}"
        shard = Shard(name, route, protocol, self)
        self._shards.append(shard)
        if self._tasks is not None:
            shard.start(self._tasks)
        return shard

    async def _resubscribe(self) -> None:
        """Give books that lost their place a new subscription, whose first message is a snapshot."""
        while True:
            await self._work.wait()
            self._work.clear()
            for protocol in self._protocols.values():
                for key in list(protocol.resubscribes_wanted()):
                    if self._renew(key):
                        protocol.resubscribed(key)

    def _renew(self, key: str, *, whole: bool = False) -> bool:
        """Subscribe a book anew, or all of its market; False when that was too lately or the socket is not open."""
        now = self._clock.monotonic_ns()
        times, last = self._renewals.get(key, (0, now))
        if now - last > FORGET_RENEWALS_AFTER * NS:
            times = 0
        # The exponent has an end: a market that never comes is asked for every five minutes, and 2.0**1024 overflows.
        if times and now - last < min(LONGEST_RENEWAL_PAUSE, FIRST_RENEWAL_PAUSE * 2.0 ** min(times, 30)) * NS:
            return False
        shards = [shard for shard in self._shards if shard.route.carries_book and key in shard.topics]
        if not any(shard.renew(key, whole=whole) for shard in shards):
            return False
        self._renewals[key] = (times + 1, now)
        return True

    async def _look_after(self) -> None:
        """Subscribe again what was subscribed and still has no book.

        The exchange may have lost the request, or refused it for another market named in it, so all of it is asked for.
        """
        while True:
            await self._clock.sleep(CHECK_SECONDS)
            self._work.set()
            if self._snapshots is not None:
                self._snapshots.wake()
            now = self._clock.monotonic_ns()
            waiting = {market.key for market in self.snapshots_wanted()}
            for book in list(self._books()):
                if book.key not in self._markets:
                    continue  # whoever heard of another's state left this one
                if book.ready:
                    self._subscribed_ns.pop(book.key, None)
                    if self._is_frozen(book, now):
                        self._note_subscribed([book.key])
                        self._renew(book.key)
                        self._protocols[book.market.kind].reset(book.key, FROZEN, "connecting")
                elif book.key in waiting:
                    self._note_subscribed([book.key])  # its diffs arrive, it is the snapshot's turn that has not come
                elif now - self._subscribed_ns.get(book.key, now) > UNREADY_SECONDS * NS:
                    self._renew(book.key, whole=True)

    def _is_frozen(self, book: Book, now: int) -> bool:
        version, since = self._changed.get(book.key, (-1, now))
        if book.version != version or book.top_version <= book.version:
            self._changed[book.key] = (book.version, now)
            return False
        return now - since > FROZEN_SECONDS * NS

    def _note_subscribed(self, keys: Iterable[str]) -> None:
        now = self._clock.monotonic_ns()
        for key in keys:
            self._subscribed_ns[key] = now


class Shard:
    """One socket and the markets on it."""

    def __init__(self, name: str, route: Route, protocol: MarketDataProtocol, feed: SocketFeed) -> None:
        self.route = route
        self.topics: dict[str, Sequence[str]] = {}
        self._protocol = protocol
        self._feed = feed
        self._venue = feed._venue
        self._task: asyncio.Task[None] | None = None
        self.connection = Connection(
            name,
            route.url,
            clock=feed._clock,
            settings=feed._venue.connection,
            on_message=protocol.on_frame if feed._tap is None else self._tapped(feed._tap),
            on_open=self._on_open,
            on_down=self._on_down,
            pacer=feed._pacer,
            jitter=feed._jitter,
        )

    def start(self, group: asyncio.TaskGroup) -> None:
        self._task = group.create_task(self.connection.run(), name=self.connection.name)

    def stop(self) -> None:
        if self._task is not None:
            self._task.cancel()

    def has_room(self, topics: Sequence[str]) -> bool:
        limits = self._venue.limits
        all_topics = [topic for listed in (*self.topics.values(), topics) for topic in listed]
        return (
            len(all_topics) <= limits.topics_per_connection
            and sum(len(topic) + 3 for topic in all_topics) <= limits.topic_chars_per_connection
        )

    def add(self, key: str, topics: Sequence[str]) -> None:
        self.topics[key] = topics
        if self.connection.is_open:
            self._send("subscribe", topics)
            self._subscribed([key])

    def remove(self, key: str) -> None:
        topics = self.topics.pop(key, None)
        if topics is not None and self.connection.is_open:
            self._send("unsubscribe", topics)

    def renew(self, key: str, *, whole: bool = False) -> bool:
        if not self.connection.is_open:
            return False
        topics = self.topics[key] if whole else self.topics[key][:1]
        self._send("unsubscribe", topics)
        self._send("subscribe", topics)
        self._subscribed([key])
        return True

    def _send(self, operation: Operation, topics: Sequence[str]) -> None:
        for request in self._requests(operation, topics):
            self.connection.send(request)

    def _requests(self, operation: Operation, topics: Sequence[str]) -> Iterator[bytes]:
        step = self._venue.limits.topics_per_request
        for start in range(0, len(topics), step):
            yield self._venue.request(operation, topics[start : start + step])

    def _subscribed(self, keys: Iterable[str]) -> None:
        if self.route.carries_book:
            self._feed._note_subscribed(keys)

    def _on_open(self) -> Iterator[bytes]:
        if self.route.carries_book:
            for key in list(self.topics):
                self._feed._sink.on_status(key, "connecting", "connected, waiting for the book")
        self._subscribed(self.topics)
        return self._requests("subscribe", [topic for topics in self.topics.values() for topic in topics])

    def _on_down(self, reason: str) -> None:
        if self.route.carries_book:
            for key in list(self.topics):
                self._feed._subscribed_ns.pop(key, None)
                if key in self.topics:  # whoever heard of another's state may have left this one
                    self._protocol.reset(key, reason)

    def _tapped(self, tap: Tap) -> Callable[[bytes, int], None]:
        on_frame = self._protocol.on_frame
        name = self.route.name

        def on_message(data: bytes, received_ns: int) -> None:
            tap(received_ns, name, "frame", data)
            on_frame(data, received_ns)

        return on_message
