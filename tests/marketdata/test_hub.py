"""The hub: sharing, staleness, which of two prices is the newer, debounce."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Mapping

import pytest

from tests.exchanges.feed_servers import market, until
from trading.instruments import Market
from trading.marketdata.book import Book
from trading.marketdata.hub import Debounce, HubSettings, MarketHub, MarketState
from trading.messages import PublicTrade
from trading.ports import FeedSink

MS = 1_000_000


class HandClock:
    """A clock the test moves; sleeping is real but short, so that restarts happen soon."""

    def __init__(self) -> None:
        self.now = 1_000_000_000

    def monotonic_ns(self) -> int:
        return self.now

    def time_ns(self) -> int:
        return 1_700_000_000_000_000_000 + self.now

    async def sleep(self, seconds: float) -> None:
        await asyncio.sleep(min(seconds, 0.001))


class HandFeed:
    """A feed whose market data the test supplies through the sink."""

    def __init__(self, sink: FeedSink) -> None:
        self.sink = sink
        self.books: dict[str, Book] = {}
        self.runs = 0
        self.running = False
        self.fail: Exception | None = None
        self.failing = asyncio.Event()

    def add(self, market: Market) -> Book:
        return self.books.setdefault(market.key, Book(market))

    def remove(self, key: str) -> None:
        del self.books[key]

    def counters(self) -> Mapping[str, int | float]:
        return {"messages": 3}

    async def run(self) -> None:
        self.runs += 1
        self.running = True
        try:
            await self.failing.wait()
            self.failing.clear()
            raise RuntimeError("a bug of the feed")
        finally:
            self.running = False

    def book(self, key: str, bid: float, ask: float, size: float = 1.0, version: int = 0) -> None:
        book = self.books[key]
        book.bids.replace([(bid, size), (bid - 1, 2.0)])
        book.asks.replace([(ask, size), (ask + 1, 2.0)])
        book.version = version or book.version + 1
        book.received_ns = 5
        if not book.ready:
            book.ready = True
            self.sink.on_status(key, "live", "")
        self.sink.on_book(book)

    def top(self, key: str, bid: float, ask: float, version: int, size: float = 1.0) -> None:
        self.books[key].top_version = version
        self.sink.on_top(key, bid, size, ask, size, 7, 8)


class Bench:
    """A hub with hand-fed feeds."""

    def __init__(self, settings: HubSettings | None = None) -> None:
        self.clock = HandClock()
        self.feeds: dict[str, HandFeed] = {}
        self.made = 0
        self.hub = MarketHub(self.clock, self._make, settings)
        self.heard: list[tuple[float, float]] = []

    def _make(self, exchange: str, sink: FeedSink) -> HandFeed:
        self.made += 1
        self.feeds[exchange] = HandFeed(sink)
        return self.feeds[exchange]

    def listen(self, state: MarketState) -> None:
        self.heard.append((state.bid, state.ask))


BTC = market("BTCUSDT", exchange="one")
ETH = market("ETHUSDT", exchange="one")
OTHER = market("BTCUSDT", exchange="two")


@pytest.fixture
async def bench() -> AsyncIterator[Bench]:
    bench = Bench()
    yield bench
    await bench.hub.close()


async def test_bots_share_one_feed_and_one_book_per_market(bench: Bench) -> None:
    first = bench.hub.subscribe(BTC, bench.listen)
    second = bench.hub.subscribe(BTC, bench.listen)
    bench.hub.subscribe(ETH, bench.listen)
    assert bench.made == 1
    assert first.state is second.state
    bench.feeds["one"].book(BTC.key, 100, 101)
    assert bench.heard[-2:] == [(100, 101)] * 2


async def test_the_last_listener_takes_the_market_off_and_the_last_market_ends_the_feed(bench: Bench) -> None:
    first = bench.hub.subscribe(BTC, bench.listen)
    second = bench.hub.subscribe(BTC, bench.listen)
    eth = bench.hub.subscribe(ETH, bench.listen)
    feed = bench.feeds["one"]
    await until(lambda: feed.running)
    bench.hub.unsubscribe(first)
    assert set(feed.books) == {BTC.key, ETH.key}
    bench.hub.unsubscribe(second)
    bench.hub.unsubscribe(second)
    assert set(feed.books) == {ETH.key}
    bench.hub.unsubscribe(eth)
    await until(lambda: not feed.running)
    with pytest.raises(KeyError):
        bench.hub.state(ETH.key)
    bench.hub.subscribe(BTC, bench.listen)
    assert bench.made == 2


async def test_unchanged_tops_are_dropped_and_counted(bench: Bench) -> None:
    bench.hub.subscribe(BTC, bench.listen)
    feed = bench.feeds["one"]
    for _ in range(3):
        feed.book(BTC.key, 100, 101)
    counters = bench.hub.counters()
    assert (counters["updates"], counters["unchanged"]) == (3, 2)
    assert bench.heard.count((100, 101)) == 1


async def test_a_book_that_catches_up_with_the_best_prices_is_heard(bench: Bench) -> None:
    bench.hub.subscribe(BTC, bench.listen)
    feed = bench.feeds["one"]
    feed.book(BTC.key, 100, 101, version=5)
    feed.top(BTC.key, 102, 103, version=6)
    heard = len(bench.heard)
    feed.book(BTC.key, 102, 103, version=6)
    assert bench.heard[heard:] == [(102, 103)]
    feed.book(BTC.key, 102, 103, version=7)
    assert len(bench.heard) == heard + 1


async def test_a_changed_size_is_a_change(bench: Bench) -> None:
    bench.hub.subscribe(BTC, bench.listen)
    feed = bench.feeds["one"]
    feed.book(BTC.key, 100, 101)
    heard = len(bench.heard)
    feed.book(BTC.key, 100, 101, size=2.0)
    assert len(bench.heard) == heard + 1


async def test_the_newer_of_book_and_best_price_stream_wins(bench: Bench) -> None:
    state = bench.hub.subscribe(BTC, bench.listen).state
    feed = bench.feeds["one"]
    feed.book(BTC.key, 100, 101, version=10)
    feed.top(BTC.key, 102, 103, version=12)
    assert (state.bid, state.ask) == (102, 103)
    feed.book(BTC.key, 100.5, 101.5, version=11)
    assert (state.bid, state.ask) == (102, 103)
    feed.book(BTC.key, 104, 105, version=13)
    assert (state.bid, state.ask) == (104, 105)
    feed.top(BTC.key, 99, 106, version=12)
    assert (state.bid, state.ask) == (104, 105)
    assert bench.hub.counters()["superseded"] == 2


async def test_age_counts_from_the_monotonic_clock_not_from_the_exchanges(bench: Bench) -> None:
    state = bench.hub.subscribe(BTC, bench.listen).state
    hub, feed = bench.hub, bench.feeds["one"]
    assert hub.age_ms(state) == float("inf")
    feed.book(BTC.key, 100, 101)
    state.exchange_ns = bench.clock.time_ns() + 3_600 * 1_000 * MS  # an exchange whose clock runs an hour ahead
    bench.clock.now += 400 * MS
    assert hub.age_ms(state) == 400
    assert hub.tradable(state, max_age_ms=400)
    assert not hub.tradable(state, max_age_ms=399)
    feed.book(BTC.key, 100, 101)  # the same prices again are news all the same
    assert hub.age_ms(state) == 0


@pytest.mark.parametrize(
    "spoil",
    [
        lambda feed, key: feed.sink.on_status(key, "down", "disconnected"),
        lambda feed, key: feed.sink.on_status(key, "stale", "silent"),
        lambda feed, key: setattr(feed.books[key], "ready", False),
        lambda feed, key: feed.top(key, 0.0, 101, version=99),
        lambda feed, key: feed.top(key, 100, 0.0, version=99),
    ],
    ids=["down", "stale", "book not ready", "no bid", "no ask"],
)
async def test_what_may_not_be_traded_on(bench: Bench, spoil: object) -> None:
    state = bench.hub.subscribe(BTC, bench.listen).state
    feed = bench.feeds["one"]
    feed.book(BTC.key, 100, 101)
    assert bench.hub.tradable(state, max_age_ms=1_000)
    spoil(feed, BTC.key)  # type: ignore[operator]
    assert not bench.hub.tradable(state, max_age_ms=1_000)


async def test_a_book_that_does_not_follow_its_best_prices_is_frozen(bench: Bench) -> None:
    state = bench.hub.subscribe(BTC, bench.listen).state
    feed = bench.feeds["one"]
    feed.book(BTC.key, 100, 101, version=1)
    bench.clock.now += 2_000 * MS
    feed.top(BTC.key, 100, 101, version=2, size=3.0)
    assert bench.hub.tradable(state, max_age_ms=1_000)
    bench.clock.now += MS
    feed.top(BTC.key, 100, 101, version=3, size=4.0)
    assert not bench.hub.tradable(state, max_age_ms=1_000)
    feed.book(BTC.key, 100, 101, version=3)
    assert bench.hub.tradable(state, max_age_ms=1_000)


async def test_listeners_hear_of_a_change_of_status(bench: Bench) -> None:
    statuses: list[tuple[str, str]] = []
    bench.hub.subscribe(BTC, lambda state: statuses.append((state.status, state.reason)))
    feed = bench.feeds["one"]
    feed.book(BTC.key, 100, 101)
    feed.sink.on_status(BTC.key, "down", "disconnected")
    feed.sink.on_status(BTC.key, "down", "still disconnected")
    assert statuses[-1] == ("down", "disconnected")
    assert bench.hub.state(BTC.key).reason == "still disconnected"


async def test_a_listener_that_fails_disturbs_nobody(bench: Bench) -> None:
    def fail(state: MarketState) -> None:
        raise RuntimeError("a bug of a bot")

    bench.hub.subscribe(BTC, fail)
    bench.hub.subscribe(BTC, bench.listen)
    bench.feeds["one"].book(BTC.key, 100, 101)
    assert bench.heard[-1] == (100, 101)
    assert bench.hub.counters()["listener_errors"] == 2  # the status and the prices


async def test_a_feed_that_fails_is_reported_down_and_started_again_and_others_run_on(bench: Bench) -> None:
    one = bench.hub.subscribe(BTC, bench.listen).state
    two = bench.hub.subscribe(OTHER, bench.listen).state
    feed = bench.feeds["one"]
    feed.book(BTC.key, 100, 101)
    bench.feeds["two"].book(OTHER.key, 100, 101)
    await until(lambda: feed.running)
    feed.failing.set()
    await until(lambda: feed.runs == 2)
    assert one.status == "down"
    assert "RuntimeError" in one.reason
    assert not one.book.ready
    assert two.status == "live"
    assert bench.feeds["two"].runs == 1


async def test_public_trades_are_kept_with_the_market(bench: Bench) -> None:
    state = bench.hub.subscribe(BTC, bench.listen).state
    trade = PublicTrade(BTC.key, 100.0, 0.5, "buy", 1, 2)
    bench.hub.on_trade(trade)
    assert state.last_trade is trade


async def test_public_trades_are_told_to_who_asked_and_a_bug_of_one_stops_no_other(bench: Bench) -> None:
    heard: list[PublicTrade] = []

    def fail(trade: PublicTrade) -> None:
        raise ValueError("a bug")

    bench.hub.subscribe(BTC, bench.listen, on_trade=fail)
    subscription = bench.hub.subscribe(BTC, bench.listen, on_trade=heard.append)
    bench.hub.subscribe(BTC, bench.listen)
    trade = PublicTrade(BTC.key, 100.0, 0.5, "buy", 1, 2)
    bench.hub.on_trade(trade)
    bench.hub.on_trade(PublicTrade(OTHER.key, 100.0, 0.5, "buy", 1, 2))
    assert heard == [trade]
    assert bench.hub.listener_errors == 1
    bench.hub.unsubscribe(subscription)
    bench.hub.on_trade(trade)
    assert heard == [trade]


async def test_market_data_of_unsubscribed_markets_is_ignored(bench: Bench) -> None:
    bench.hub.on_top("one:NO/USDT", 1, 1, 2, 1, 0, 0)
    bench.hub.on_book(Book(OTHER))
    bench.hub.on_status("one:NO/USDT", "live", "")
    assert bench.hub.counters()["updates"] == 0


# Debounce


async def test_changes_within_the_cooldown_are_put_together_and_the_last_is_not_lost(bench: Bench) -> None:
    state = bench.hub.subscribe(BTC, bench.listen, debounce=Debounce(cooldown_ms=20)).state
    feed = bench.feeds["one"]
    feed.book(BTC.key, 100, 101)
    bench.clock.now += 30 * MS
    bench.heard.clear()
    feed.book(BTC.key, 100.1, 101)
    for step in range(2, 6):
        bench.clock.now += MS
        feed.book(BTC.key, 100 + step / 10, 101)
    assert bench.heard == [(100.1, 101)]
    await until(lambda: len(bench.heard) == 2)
    assert bench.heard[-1] == (100.5, 101)
    assert state.bid == 100.5
    counters = bench.hub.counters()
    assert (counters["debounced"], counters["trailing"]) == (5, 1)


async def test_small_changes_wait_and_add_up(bench: Bench) -> None:
    bench.hub.subscribe(BTC, bench.listen, debounce=Debounce(min_change_bps=10, trailing_ms=20))
    feed = bench.feeds["one"]
    feed.book(BTC.key, 10_000, 10_001)
    bench.heard.clear()
    feed.book(BTC.key, 10_004, 10_005)  # 4 bps
    feed.book(BTC.key, 10_008, 10_009)  # 8 bps since the listener last heard
    assert bench.heard == []
    feed.book(BTC.key, 10_012, 10_013)  # 12 bps
    assert bench.heard == [(10_012, 10_013)]
    feed.book(BTC.key, 10_013, 10_014)
    await until(lambda: len(bench.heard) == 2)
    assert bench.heard[-1] == (10_013, 10_014)


async def test_each_listener_has_its_own_debounce(bench: Bench) -> None:
    calm: list[float] = []
    bench.hub.subscribe(BTC, lambda state: calm.append(state.bid), debounce=Debounce(cooldown_ms=60_000))
    bench.hub.subscribe(BTC, bench.listen)
    feed = bench.feeds["one"]
    for bid in (100, 100.1, 100.2):
        feed.book(BTC.key, bid, 101)
    assert bench.heard[-1] == (100.2, 101)
    assert 100.2 not in calm


async def test_an_unsubscribed_listener_is_not_called_late(bench: Bench) -> None:
    subscription = bench.hub.subscribe(BTC, bench.listen, debounce=Debounce(cooldown_ms=5))
    bench.hub.subscribe(BTC, lambda state: None)
    feed = bench.feeds["one"]
    feed.book(BTC.key, 100, 101)
    feed.book(BTC.key, 100.5, 101)
    bench.hub.unsubscribe(subscription)
    heard = len(bench.heard)
    await asyncio.sleep(0.02)
    assert len(bench.heard) == heard


async def test_a_listener_unsubscribed_by_another_is_not_called_any_more(bench: Bench) -> None:
    def leave(state: MarketState) -> None:
        bench.hub.unsubscribe(second)
        bench.hub.unsubscribe(third)

    bench.hub.subscribe(BTC, leave)
    second = bench.hub.subscribe(BTC, bench.listen)
    third = bench.hub.subscribe(BTC, bench.listen, debounce=Debounce(min_change_bps=1.0, trailing_ms=1.0))
    bench.feeds["one"].book(BTC.key, 100, 101)
    bench.feeds["one"].book(BTC.key, 100, 101, size=2.0)
    await asyncio.sleep(0.02)
    assert bench.heard == []


async def test_counters_carry_each_feeds_own(bench: Bench) -> None:
    bench.hub.subscribe(BTC, bench.listen)
    assert bench.hub.counters()["one.messages"] == 3
    assert bench.hub.feed_counters("one") == {"messages": 3}
