"""The ccxt.pro feed: the real client against the simulated exchanges, and hand-fed updates."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

import ccxt.pro
import pytest

from tests.exchanges.feed_frames import JudgingSink, assert_sound
from tests.exchanges.feed_servers import RecordingSink, until
from tests.exchanges.test_feeds_simulator import held, market, rest_depth, spec
from tests.exchangesim.simulator import Simulator, shared_simulator
from trading.clock import SystemClock
from trading.config import ExchangeSpec
from trading.exchanges.generic.client import make_client
from trading.exchanges.generic.feed import GenericFeed, GenericSettings, create_feed
from trading.exchanges.registry import FOLDERS, feed_for
from trading.instruments import Market

__all__ = ["shared_simulator"]

FAST = GenericSettings(stale_seconds=0.4, renew_seconds=1.2, first_backoff=0.01, max_backoff=0.05, tick_seconds=0.02)


@asynccontextmanager
async def running(feed: GenericFeed) -> AsyncIterator[GenericFeed]:
    task = asyncio.ensure_future(feed.run())
    try:
        yield feed
    finally:
        task.cancel()
        await asyncio.gather(task, return_exceptions=True)


@pytest.mark.parametrize("exchange", ["binance", "bybit", "okx"])
async def test_ccxts_own_client_keeps_books_equal_to_the_exchanges(shared_simulator: Simulator, exchange: str) -> None:
    simulator = shared_simulator
    sink = RecordingSink()
    exchange_spec = spec(simulator, exchange)

    def client(spec: ExchangeSpec) -> Any:
        options = {"fetchMarkets": {"types": ["spot"]}, "fetchCurrencies": False, "fetchMargins": False}
        return make_client(spec, options)

    async with running(GenericFeed(exchange_spec, sink, SystemClock(), client=client)) as feed:
        books = [feed.add(market(exchange, symbol)) for symbol in ("BTC/USDT", "ETH/USDT")]
        await until(
            lambda: all(book.ready for book in books), seconds=40, say=lambda: (sink.statuses[-2:], feed.counters())
        )
        simulator.call("POST", "/market", {"exchange": exchange, "symbol": "BTC/USDT", "frozen": True})
        try:
            wanted = await rest_depth(simulator, exchange)
            for _ in range(200):
                if held(books[0]) == wanted:
                    break
                await asyncio.sleep(0.05)
                wanted = await rest_depth(simulator, exchange)
            assert held(books[0]) == wanted
        finally:
            simulator.call("POST", "/market", {"exchange": exchange, "symbol": "BTC/USDT", "frozen": False})


# A client the test feeds by hand: what ccxt.pro hands out, without its sockets


class HandClient:
    def __init__(self, **has: bool) -> None:
        self.has = {"watchOrderBookForSymbols": True, **has}
        self.markets = {"BTC/USDT": {}, "ETH/USDT": {}}
        self.updates: asyncio.Queue[Any] = asyncio.Queue()
        self.closed = False
        self.watched: list[Any] = []
        self.orderbooks: dict[str, Any] = {}
        self.fail_loading: Exception | None = None

    async def load_markets(self) -> Any:
        if self.fail_loading is not None:
            raise self.fail_loading
        return self.markets

    async def watch_order_book_for_symbols(self, symbols: list[str]) -> Any:
        self.watched.append(tuple(symbols))
        update = await self.updates.get()
        if isinstance(update, Exception):
            raise update
        return update

    async def watch_order_book(self, symbol: str) -> Any:
        return await self.watch_order_book_for_symbols([symbol])

    async def close(self) -> None:
        self.closed = True


class Hand:
    def __init__(self, **has: bool) -> None:
        self.has = has
        self.clients: list[HandClient] = []
        self.sink = JudgingSink()
        self.fail_loading: Exception | None = None
        self.feed = GenericFeed(
            ExchangeSpec(code="x", ccxt_id="kraken", environment="live"),
            self.sink,
            SystemClock(),
            client=self._client,
            settings=FAST,
        )
        self.book = self.feed.add(
            Market(exchange="x", symbol="BTC/USDT", native_id="BTCUSDT", base="BTC", quote="USDT")
        )

    def _client(self, spec: ExchangeSpec) -> HandClient:
        client = HandClient(**self.has)
        client.fail_loading = self.fail_loading
        self.clients.append(client)
        return client

    def book_update(self, **changes: Any) -> dict[str, Any]:
        update = {
            "symbol": "BTC/USDT",
            "bids": [[99.0, 1.0], [98.0, 2.0]],
            "asks": [[101.0, 1.0]],
            "timestamp": 5,
            "nonce": 7,
        }
        return {**update, **changes}

    def status(self) -> str:
        return self.sink.statuses[-1][1] if self.sink.statuses else ""


@pytest.fixture
async def hand() -> AsyncIterator[Hand]:
    hand = Hand()
    async with running(hand.feed):
        await until(lambda: hand.clients and hand.clients[-1].watched)
        yield hand


async def test_a_book_update_makes_the_book(hand: Hand) -> None:
    hand.clients[-1].updates.put_nowait(hand.book_update())
    await until(lambda: hand.book.ready)
    assert (hand.book.bids.best, hand.book.asks.best, hand.book.update_id) == (99.0, 101.0, 7)
    assert hand.book.exchange_ns == 5_000_000


@pytest.mark.parametrize(
    "changes",
    [
        {"bids": [[float("nan"), 1.0]]}, {"bids": [[99.0, float("inf")]]}, {"bids": [[-1.0, 1.0]]},
        {"asks": [["x", 1.0]]},
        {"asks": [[101.0, -1.0]]}, {"asks": [[101.0]]}, {"asks": [[None, None]]}, {"asks": None},
        {"bids": [[1e300, 1.0]]},
    ],
    ids=str,
)  # fmt: skip
async def test_nonsense_from_the_client_is_counted(hand: Hand, changes: dict[str, Any]) -> None:
    hand.clients[-1].updates.put_nowait(hand.book_update(**changes))
    await until(lambda: hand.feed.counters()["bad_messages"] == 1)
    assert not hand.book.ready
    hand.clients[-1].updates.put_nowait(hand.book_update())
    await until(lambda: hand.book.ready)


async def test_a_crossed_book_is_not_shown(hand: Hand) -> None:
    hand.clients[-1].updates.put_nowait(hand.book_update())
    await until(lambda: hand.book.ready)
    hand.clients[-1].updates.put_nowait(hand.book_update(bids=[[101.0, 1.0]]))
    await until(lambda: hand.feed.counters()["crossed"] == 1)
    assert not hand.book.ready
    assert hand.status() == "stale"


async def test_an_error_takes_the_books_down_and_a_new_client_is_made(hand: Hand) -> None:
    hand.clients[-1].updates.put_nowait(hand.book_update())
    await until(lambda: hand.book.ready)
    hand.clients[-1].updates.put_nowait(ccxt.pro.NetworkError("connection closed 1006"))
    await until(lambda: len(hand.clients) == 2 and hand.clients[-1].watched)
    assert hand.clients[0].closed
    assert hand.status() == "down"
    assert not hand.book.ready
    hand.clients[-1].updates.put_nowait(hand.book_update())
    await until(lambda: hand.book.ready)


async def test_a_silent_market_goes_stale_and_then_gets_a_new_client(hand: Hand) -> None:
    hand.clients[-1].updates.put_nowait(hand.book_update())
    await until(lambda: hand.book.ready)
    await until(lambda: hand.status() == "stale")
    assert not hand.book.ready
    await until(lambda: len(hand.clients) == 2)
    assert any("no book of x:BTC/USDT" in reason for _, status, reason in hand.sink.statuses if status == "down")


async def test_a_quiet_market_takes_the_others_down_ever_more_rarely() -> None:
    hand = Hand()
    hand.feed._settings = GenericSettings(
        stale_seconds=0.1, renew_seconds=0.2, first_backoff=0.001, max_backoff=0.002, tick_seconds=0.01
    )
    time, made = asyncio.get_running_loop().time, []
    async with running(hand.feed):
        for number in range(1, 5):
            await until(lambda number=number: len(hand.clients) == number and hand.clients[-1].watched)
            made.append(time())
            hand.clients[-1].updates.put_nowait(hand.book_update())
            if number == 3:
                await until(lambda: hand.status() == "live")
                hand.clients[-1].updates.put_nowait(hand.book_update(nonce=8))
        assert made[2] - made[1] > 0.4
        assert hand.feed._patience == {hand.book.key: 0.4}, "a change was heard: the usual time was enough again"


async def test_a_book_that_changed_without_waking_its_watcher_is_taken_too(hand: Hand) -> None:
    hand.clients[-1].updates.put_nowait(hand.book_update())
    await until(lambda: hand.book.ready)
    hand.clients[-1].orderbooks["BTC/USDT"] = hand.book_update(bids=[[99.5, 4.0]], nonce=8)
    await until(lambda: hand.book.bids.best == 99.5)
    taken = hand.feed.counters()["messages"]
    await asyncio.sleep(4 * FAST.tick_seconds)
    assert hand.feed.counters()["messages"] == taken, "the same book is not taken again and again"


async def test_markets_come_and_go(hand: Hand) -> None:
    eth = hand.feed.add(Market(exchange="x", symbol="ETH/USDT", native_id="ETHUSDT", base="ETH", quote="USDT"))
    client = hand.clients[-1]
    await until(lambda: client.watched[-1] == ("BTC/USDT", "ETH/USDT"))
    client.updates.put_nowait(hand.book_update(symbol="ETH/USDT"))
    await until(lambda: eth.ready)
    hand.feed.remove(hand.book.key)
    await until(lambda: client.watched[-1] == ("ETH/USDT",))
    client.updates.put_nowait(hand.book_update())
    await until(lambda: hand.feed.counters()["unknown_symbols"] == 1)


@pytest.mark.parametrize("symbol", ["SOL/USDT", "ETH/USDT"], ids=["unknown", "silent"])
async def test_a_market_left_by_one_who_heard_of_another_is_no_error(symbol: str) -> None:
    hand = Hand()
    other = hand.feed.add(Market(exchange="x", symbol=symbol, native_id="XUSDT", base="X", quote="USDT"))

    def leave(key: str, status: str, reason: str) -> None:
        hand.feed.remove(hand.book.key if key == other.key else other.key)

    hand.sink.on_status = leave  # type: ignore[method-assign]
    task = asyncio.ensure_future(hand.feed.run())
    await until(lambda: task.done() or hand.feed.counters()["markets"] == 1)
    await asyncio.wait([task], timeout=0.1)
    assert not task.done()
    task.cancel()
    await asyncio.gather(task, return_exceptions=True)


async def test_an_unknown_market_is_reported_and_the_others_go_on(hand: Hand) -> None:
    hand.feed.add(Market(exchange="x", symbol="NO/USDT", native_id="NOUSDT", base="NO", quote="USDT"))
    await until(lambda: ("x:NO/USDT", "down", "x has no market NO/USDT") in hand.sink.statuses)
    hand.clients[-1].updates.put_nowait(hand.book_update())
    await until(lambda: hand.book.ready)
    assert_sound(hand.book)


async def test_an_exchange_that_is_down_at_start_is_reported_and_retried() -> None:
    hand = Hand()
    hand.fail_loading = ccxt.pro.ExchangeNotAvailable("kraken GET https://... 503")
    async with running(hand.feed):
        await until(lambda: len(hand.clients) >= 3)
        assert hand.status() == "down"
        assert "ExchangeNotAvailable" in hand.sink.statuses[-1][2]
        hand.fail_loading = None
        await until(lambda: hand.clients[-1].watched)
        hand.clients[-1].updates.put_nowait(hand.book_update())
        await until(lambda: hand.book.ready)


async def test_exchanges_that_watch_one_market_at_a_time_are_followed_too() -> None:
    hand = Hand(watchOrderBookForSymbols=False)
    async with running(hand.feed):
        await until(lambda: hand.clients and hand.clients[-1].watched == [("BTC/USDT",)])
        hand.clients[-1].updates.put_nowait(hand.book_update())
        await until(lambda: hand.book.ready)


# Making clients and choosing feeds


@pytest.mark.parametrize(("ccxt_id", "watches_tops"), [("bybiteu", False), ("bybitid", False), ("okxus", True)])
async def test_best_prices_are_not_watched_where_ccxt_would_spoil_the_book(ccxt_id: str, watches_tops: bool) -> None:
    watched: set[str] = set()

    class Client(getattr(ccxt.pro, ccxt_id)):  # type: ignore[misc]
        async def load_markets(self, reload: bool = False, params: Any = None) -> Any:
            self.markets = {"BTC/USDT": {}}

        async def _watch(self, name: str) -> Any:
            watched.add(name)
            await asyncio.Event().wait()

        async def watch_order_book_for_symbols(self, *args: Any) -> Any:
            await self._watch("books")

        async def watch_bids_asks(self, *args: Any) -> Any:
            await self._watch("tops")

        async def watch_trades_for_symbols(self, *args: Any) -> Any:
            await self._watch("trades")

    spec = ExchangeSpec(code="x", ccxt_id=ccxt_id, environment="live")
    feed = GenericFeed(spec, JudgingSink(), SystemClock(), client=lambda spec: Client(), settings=FAST)
    feed.add(Market(exchange="x", symbol="BTC/USDT", native_id="BTCUSDT", base="BTC", quote="USDT"))
    async with running(feed):
        await until(lambda: "trades" in watched)
        assert ("tops" in watched) is watches_tops
        assert "books" in watched


def test_urls_are_pointed_elsewhere_with_their_paths_kept() -> None:
    urls = {"rest": "http://127.0.0.1:9001", "ws": "ws://127.0.0.1:9002"}
    for ccxt_id in ("kraken", "bybit", "gate", "kucoin"):
        client = make_client(ExchangeSpec(code="x", ccxt_id=ccxt_id, environment="simulated", urls=urls))
        found = list(_strings(client.urls["api"]))
        assert found
        assert all(url.startswith(("http://127.0.0.1:9001", "ws://127.0.0.1:9002")) for url in found)
    assert client.urls["api"] != {}


def _strings(value: Any) -> Any:
    if isinstance(value, dict):
        for inner in value.values():
            yield from _strings(inner)
    elif isinstance(value, str):
        yield value


def test_an_exchange_ccxt_does_not_know_is_refused_in_one_sentence() -> None:
    with pytest.raises(ValueError, match=r"nowhere: ccxt\.pro has no exchange 'atlantis'"):
        make_client(ExchangeSpec(code="nowhere", ccxt_id="atlantis", environment="live"))


async def test_an_exchange_ccxt_does_not_know_is_reported_down_and_disturbs_nothing() -> None:
    sink = JudgingSink()
    feed = GenericFeed(
        ExchangeSpec(code="x", ccxt_id="atlantis", environment="live"), sink, SystemClock(), settings=FAST
    )
    feed.add(Market(exchange="x", symbol="BTC/USDT", native_id="BTCUSDT", base="BTC", quote="USDT"))
    async with running(feed):
        await until(lambda: feed.counters()["reconnects"] >= 2)
    assert sink.statuses[-1][1:] == ("down", "x: ccxt.pro has no exchange 'atlantis' with WebSocket support")


def test_recording_through_ccxt_is_refused_in_one_sentence() -> None:
    kraken = ExchangeSpec(code="kraken", ccxt_id="kraken", environment="live")
    with pytest.raises(ValueError, match="recording needs a feed of our own"):
        create_feed(kraken, RecordingSink(), SystemClock(), tap=lambda *record: None)


@pytest.mark.parametrize("ccxt_id", [*sorted(FOLDERS), "kraken"])
async def test_every_exchange_gets_the_feed_of_its_folder(ccxt_id: str) -> None:
    feed = feed_for(ExchangeSpec(code="x", ccxt_id=ccxt_id, environment="live"), RecordingSink(), SystemClock())
    assert isinstance(feed, GenericFeed) == (ccxt_id not in FOLDERS)
