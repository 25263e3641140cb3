"""The hub: one feed per exchange and one state per market, shared by every bot of the process."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable, Iterator, Mapping

import msgspec

from trading.basis import Funding
from trading.instruments import Market
from trading.marketdata.book import Book
from trading.marketdata.climate import Climate
from trading.messages import BookTop, PublicTrade
from trading.ports import Clock, Feed, FeedSink
from trading.tasks import end_tasks

logger = logging.getLogger(__name__)

NS_PER_MS = 1_000_000
LIVE = "live"
ANY_AGE = float("inf")
LONGEST_INTERVAL_NS = 8 * 3600 * 10**9  # between two payments of funding; more lies between them after a lost stream

FeedFactory = Callable[[str, FeedSink], Feed]


class Debounce(msgspec.Struct, frozen=True, kw_only=True):
    """Which changes of the best prices a listener hears of at once.

    A change that comes within ``cooldown_ms`` of the last call, or moves neither best price by ``min_change_bps`` of
    what the listener last saw, waits: the listener is called with the latest state when the cool-down ends, or
    ``trailing_ms`` after the first small change. Nothing is lost, only put together.
    """

    cooldown_ms: float = 0.0
    min_change_bps: float = 0.0
    trailing_ms: float = 100.0


class HubSettings(msgspec.Struct, frozen=True, kw_only=True):
    """``restart_seconds`` is the pause after a feed failed with a bug of its own.

    ``max_book_lag_ms`` is how long the exchange's best-price stream may run ahead of the book before the book counts
    as frozen: a book follows its best prices within its own interval (100 ms on Binance).
    """

    debounce: Debounce = Debounce()
    restart_seconds: float = 5.0
    max_book_lag_ms: float = 2_000.0


class MarketState:
    """What is known of one market now. Changed in place; read it, do not keep copies.

    ``bid`` .. ``ask_size`` are the best prices, from whichever is newer: the exchange's own best-price stream or the
    book (0.0 where a side is empty or unknown). ``received_ns`` is wall time for records, ``received_monotonic_ns``
    what ages are counted from; ``exchange_ns`` is on the exchange's clock and must not be compared with ours.
    """

    __slots__ = (
        "ahead", "ask", "ask_size", "bid", "bid_size", "book", "book_monotonic_ns", "climate", "exchange_ns", "funding",
        "funding_monotonic_ns", "key", "last_trade", "market", "reason", "received_monotonic_ns", "received_ns",
        "status", "subscriptions",
    )  # fmt: skip

    def __init__(self, market: Market, book: Book) -> None:
        self.market = market
        self.key = book.key
        self.book = book
        self.bid = self.bid_size = self.ask = self.ask_size = 0.0
        self.exchange_ns = 0
        self.received_ns = 0
        self.received_monotonic_ns = 0
        self.book_monotonic_ns = 0
        self.ahead = False  # listeners heard of best prices that the book did not hold yet
        self.status = "connecting"
        self.reason = "not heard of yet"
        self.last_trade: PublicTrade | None = None
        self.funding: Funding | None = None  # of a perpetual, as the exchange last said
        self.funding_monotonic_ns = 0
        self.climate = Climate(market)
        self.subscriptions: tuple[Subscription, ...] = ()

    def top(self) -> BookTop:
        """Return the best prices as a value."""
        return BookTop(self.key, self.bid, self.bid_size, self.ask, self.ask_size, self.exchange_ns, self.received_ns)

    @property
    def delay_ns(self) -> int | None:
        """Local minus exchange time of the last message: its travel time plus the clocks' difference, never an age."""
        return self.received_ns - self.exchange_ns if self.exchange_ns and self.received_ns else None


Listener = Callable[[MarketState], None]
TradeListener = Callable[[PublicTrade], None]


class Subscription:
    """One listener's interest in one market; hand it back to :meth:`MarketHub.unsubscribe`."""

    __slots__ = ("_hub", "_seen_ask", "_seen_bid", "_seen_ns", "_timer", "debounce", "listener", "on_trade", "state")

    def __init__(
        self,
        hub: MarketHub,
        state: MarketState,
        listener: Listener,
        debounce: Debounce,
        on_trade: TradeListener | None = None,
    ) -> None:
        self._hub = hub
        self.state = state
        self.listener = listener
        self.on_trade = on_trade
        self.debounce = debounce
        self._seen_bid = self._seen_ask = 0.0
        self._seen_ns = -(1 << 62)
        self._timer: asyncio.TimerHandle | None = None

    def offer(self, now_ns: int) -> None:
        """Deliver a change now, or leave it to the trailing call."""
        settings = self.debounce
        cooled = now_ns - self._seen_ns >= settings.cooldown_ms * NS_PER_MS
        if cooled and (settings.min_change_bps <= 0 or self._moved(settings.min_change_bps)):
            self.deliver(now_ns)
            return
        self._hub.debounced += 1
        if self._timer is None:
            wait_ms = settings.trailing_ms if cooled else settings.cooldown_ms - (now_ns - self._seen_ns) / NS_PER_MS
            self._timer = asyncio.get_running_loop().call_later(wait_ms / 1000, self._trail)

    def _moved(self, min_change_bps: float) -> bool:
        share = min_change_bps * 1e-4
        return (
            abs(self.state.bid - self._seen_bid) >= self._seen_bid * share
            or abs(self.state.ask - self._seen_ask) >= self._seen_ask * share
        )

    def _trail(self) -> None:
        self._timer = None
        self._hub.trailing += 1
        self.deliver(self._hub.monotonic_ns())

    def deliver(self, now_ns: int) -> None:
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None
        state = self.state
        self._seen_bid, self._seen_ask, self._seen_ns = state.bid, state.ask, now_ns
        self._hub.delivered += 1
        try:
            self.listener(state)
        except Exception:
            # One bot's bug must not take the feed from the others.
            self._hub.listener_errors += 1
            logger.exception("a listener of %s failed", state.key)

    def tell_trade(self, trade: PublicTrade) -> None:
        if self.on_trade is None:
            return
        try:
            self.on_trade(trade)
        except Exception:
            self._hub.listener_errors += 1
            logger.exception("a listener of trades of %s failed", self.state.key)

    def cancel(self) -> None:
        """Call the listener no more, not even for the change that is just being told to one after the other."""
        self.listener = _tell_nobody
        self.on_trade = None
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None


def _tell_nobody(state: MarketState) -> None:
    """Stand in for a listener that is gone."""


class MarketHub:
    """Shares feeds between bots. Lives on one event loop; nothing here is thread-safe.

    Parameters
    ----------
    feed_factory
        Called with an exchange's code and the sink to report to; returns a feed that is not running yet.
    """

    def __init__(self, clock: Clock, feed_factory: FeedFactory, settings: HubSettings | None = None) -> None:
        self._clock = clock
        self.monotonic_ns = clock.monotonic_ns
        self._feed_factory = feed_factory
        self._settings = settings or HubSettings()
        self._max_book_lag_ns = int(self._settings.max_book_lag_ms * NS_PER_MS)
        self._states: dict[str, MarketState] = {}
        self._feeds: dict[str, Feed] = {}
        self._tasks: dict[str, asyncio.Task[None]] = {}
        self.updates = 0
        self.unchanged = 0
        self.superseded = 0
        self.debounced = 0
        self.trailing = 0
        self.delivered = 0
        self.trades = 0
        self.status_changes = 0
        self.listener_errors = 0
        self.feed_failures = 0

    # Subscriptions

    def subscribe(
        self,
        market: Market,
        listener: Listener,
        *,
        debounce: Debounce | None = None,
        on_trade: TradeListener | None = None,
    ) -> Subscription:
        """Follow a market; the listener is called whenever its best prices or its status change, ``on_trade`` for each
        public trade.

        The first subscription of a market adds it to its exchange's feed, the first of an exchange starts the feed.
        Must be called on the event loop.
        """
        state = self._states.get(market.key)
        if state is None:
            feed = self._feeds.get(market.exchange)
            if feed is None:
                feed = self._feeds[market.exchange] = self._feed_factory(market.exchange, self)
            state = self._states[market.key] = MarketState(market, feed.add(market))
            if market.exchange not in self._tasks:
                task = asyncio.get_running_loop().create_task(self._supervise(market.exchange, feed))
                self._tasks[market.exchange] = task
        subscription = Subscription(self, state, listener, debounce or self._settings.debounce, on_trade)
        state.subscriptions = (*state.subscriptions, subscription)
        return subscription

    def unsubscribe(self, subscription: Subscription) -> None:
        """Stop calling a listener. A market without listeners leaves its feed, a feed without markets ends."""
        subscription.cancel()
        state = subscription.state
        if subscription not in state.subscriptions:
            return
        state.subscriptions = tuple(other for other in state.subscriptions if other is not subscription)
        if state.subscriptions or self._states.get(state.key) is not state:
            return
        del self._states[state.key]
        exchange = state.market.exchange
        self._feeds[exchange].remove(state.key)
        if not any(other.market.exchange == exchange for other in self._states.values()):
            del self._feeds[exchange]
            task = self._tasks.pop(exchange, None)
            if task is not None:
                task.cancel()

    async def close(self) -> None:
        """Stop every feed and forget every subscription."""
        for state in self._states.values():
            for subscription in state.subscriptions:
                subscription.cancel()
        tasks = list(self._tasks.values())
        self._states.clear()
        self._feeds.clear()
        self._tasks.clear()
        await end_tasks(tasks)

    # Reading

    def state(self, key: str) -> MarketState:
        """Return a subscribed market's state; raise KeyError for any other."""
        return self._states[key]

    def states(self) -> Iterator[MarketState]:
        yield from list(self._states.values())

    def age_ms(self, state: MarketState) -> float:
        """Milliseconds since anything was received about the market's prices; infinite when nothing ever was."""
        if not state.received_monotonic_ns:
            return float("inf")
        return (self.monotonic_ns() - state.received_monotonic_ns) / NS_PER_MS

    def tradable(self, state: MarketState, max_age_ms: float) -> bool:
        """Whether prices may be traded on: feed live, book whole, uncrossed and following, both sides, not too old."""
        book = state.book
        if not (state.status == LIVE and book.ready and 0 < state.bid < state.ask):
            return False
        if book.bids.best >= book.asks.best > 0:
            return False
        lag_ns = state.received_monotonic_ns - state.book_monotonic_ns if book.top_version > book.version else 0
        return lag_ns <= self._max_book_lag_ns and (max_age_ms == ANY_AGE or self.age_ms(state) <= max_age_ms)

    def counters(self) -> dict[str, int | float]:
        """Counts of the hub, and of each feed as ``<exchange>.<name>``."""
        counts: dict[str, int | float] = {
            "updates": self.updates,
            "unchanged": self.unchanged,
            "superseded": self.superseded,
            "debounced": self.debounced,
            "trailing": self.trailing,
            "delivered": self.delivered,
            "trades": self.trades,
            "status_changes": self.status_changes,
            "listener_errors": self.listener_errors,
            "feed_failures": self.feed_failures,
        }
        for exchange, feed in self._feeds.items():
            counts.update({f"{exchange}.{name}": value for name, value in feed.counters().items()})
        return counts

    def feed_counters(self, exchange: str) -> Mapping[str, int | float]:
        return self._feeds[exchange].counters()

    # FeedSink: called by the feeds, on this loop

    def on_book(self, book: Book) -> None:
        state = self._states.get(book.key)
        if state is None:
            return
        self.updates += 1
        now = state.received_monotonic_ns = state.book_monotonic_ns = self.monotonic_ns()
        state.received_ns = book.received_ns
        state.exchange_ns = book.exchange_ns
        if book.top_version > book.version:
            self.superseded += 1  # the best-price stream is ahead of the book
            return
        bids, asks = book.bids, book.asks
        bid = bids.best
        ask = asks.best
        bid_size = bids.best_size
        ask_size = asks.best_size
        same = bid == state.bid and ask == state.ask and bid_size == state.bid_size and ask_size == state.ask_size
        # Best prices that were heard of before the book had them are news again: only now is there depth behind them.
        if same and not state.ahead:
            self.unchanged += 1
            return
        state.ahead = False
        state.bid, state.bid_size, state.ask, state.ask_size = bid, bid_size, ask, ask_size
        state.climate.on_top(bid, ask, now)
        for subscription in state.subscriptions:
            subscription.offer(now)

    def on_top(
        self, key: str, bid: float, bid_size: float, ask: float, ask_size: float, exchange_ns: int, received_ns: int
    ) -> None:
        state = self._states.get(key)
        if state is None:
            return
        self.updates += 1
        book = state.book
        if book.top_version < book.version:
            self.superseded += 1  # the book is ahead of the best-price stream
            return
        now = state.received_monotonic_ns = self.monotonic_ns()
        state.received_ns = received_ns
        if exchange_ns:
            state.exchange_ns = exchange_ns
        if bid == state.bid and ask == state.ask and bid_size == state.bid_size and ask_size == state.ask_size:
            self.unchanged += 1
            return
        state.bid, state.bid_size, state.ask, state.ask_size = bid, bid_size, ask, ask_size
        state.ahead = bid != book.bids.best or ask != book.asks.best
        for subscription in state.subscriptions:
            subscription.offer(now)

    def on_trade(self, trade: PublicTrade) -> None:
        self.trades += 1
        state = self._states.get(trade.market)
        if state is not None:
            state.last_trade = trade
            state.climate.on_trade(trade.price, trade.size, self.monotonic_ns())
            for subscription in state.subscriptions:
                subscription.tell_trade(trade)

    def on_funding(self, funding: Funding) -> None:
        """Keep what an exchange says; the interval is what lies between two payments it has named."""
        state = self._states.get(funding.market)
        if state is None:
            return
        known = state.funding
        interval = funding.interval_ns if known is None else known.interval_ns
        if known is not None and 0 < funding.next_ns - known.next_ns <= LONGEST_INTERVAL_NS:
            interval = funding.next_ns - known.next_ns
        state.funding = (
            funding if interval == funding.interval_ns else msgspec.structs.replace(funding, interval_ns=interval)
        )
        state.funding_monotonic_ns = self.monotonic_ns()

    def funding_age_seconds(self, state: MarketState) -> float:
        """Return the seconds since funding was last heard of; infinite when it never was."""
        if not state.funding_monotonic_ns:
            return float("inf")
        return (self.monotonic_ns() - state.funding_monotonic_ns) / 1e9

    def on_status(self, key: str, status: str, reason: str) -> None:
        state = self._states.get(key)
        if state is None:
            return
        changed = status != state.status
        state.status, state.reason = status, reason
        if changed:
            self.status_changes += 1
            now = self.monotonic_ns()
            for subscription in state.subscriptions:
                subscription.deliver(now)

    # Feeds

    async def _supervise(self, exchange: str, feed: Feed) -> None:
        """Run a feed; a feed that fails with a bug is reported down and started again, the others run on."""
        while True:
            try:
                await feed.run()
                reason = "the feed ended"
            except Exception as error:
                logger.exception("the feed of %s failed", exchange)
                reason = f"the feed failed: {type(error).__name__}"
            self.feed_failures += 1
            for state in list(self._states.values()):
                if state.market.exchange == exchange:
                    state.book.reset()
                    self.on_status(state.key, "down", reason)
            await self._clock.sleep(self._settings.restart_seconds)
