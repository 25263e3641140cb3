"""Our three feeds against the simulated exchanges: books equal to the exchange's REST depth, through faults."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager
from typing import Any

import aiohttp
import msgspec
import pytest

from tests.exchanges.feed_servers import RecordingSink, until
from tests.exchangesim.simulator import EVERY_EXCHANGE, Simulator, running_simulator
from trading.clock import SystemClock
from trading.config import ExchangeSpec
from trading.exchanges.registry import feed_factory, feed_for, protocol_for
from trading.exchanges.streaming import SocketFeed
from trading.instruments import Market
from trading.marketdata.book import Book
from trading.marketdata.hub import MarketHub, MarketState

DEPTH_PATHS = {
    "binance": "/api/v3/depth?symbol=BTCUSDT&limit=1000",
    "okx": "/api/v5/market/books?instId=BTC-USDT&sz=400",
    "bybit": "/v5/market/orderbook?category=spot&symbol=BTCUSDT&limit=50",
    "binanceusdm": "/fapi/v1/depth?symbol=BTCUSDT&limit=1000",
}
# The channel the book comes by, as the simulator names its operations.
BOOK_OPERATIONS = {
    "binance": "btcusdt@depth@100ms",
    "okx": "books",
    "bybit": "orderbook.50.BTCUSDT",
    "binanceusdm": "btcusdt@depth@100ms",
}
EXCHANGES = ("binance", "binanceusdm", "bybit", "okx")


def spec(simulator: Simulator, exchange: str) -> ExchangeSpec:
    return ExchangeSpec(
        code=f"{exchange}-sim",
        ccxt_id=exchange,
        environment="simulated",
        urls={"rest": simulator.rest[exchange], "ws": simulator.ws[exchange]},
    )


def market(exchange: str, symbol: str = "BTC/USDT") -> Market:
    base, quote = symbol.split("/")
    if exchange == "binanceusdm":
        return Market(
            exchange=f"{exchange}-sim",
            symbol=f"{symbol}:{quote}",
            native_id=f"{base}{quote}",
            base=base,
            quote=quote,
            settle=quote,
            kind="linear",
        )
    native_id = f"{base}-{quote}" if exchange == "okx" else f"{base}{quote}"
    return Market(exchange=f"{exchange}-sim", symbol=symbol, native_id=native_id, base=base, quote=quote)


@asynccontextmanager
async def running(feed: SocketFeed) -> AsyncIterator[SocketFeed]:
    task = asyncio.ensure_future(feed.run())
    try:
        yield feed
    finally:
        task.cancel()
        await asyncio.gather(task, return_exceptions=True)


def feed_of(simulator: Simulator, exchange: str, sink: RecordingSink, **options: Any) -> SocketFeed:
    feed = feed_for(spec(simulator, exchange), sink, SystemClock(), **options)
    assert isinstance(feed, SocketFeed)
    feed._pacer._interval_ns = 0  # the real limit on new connections is for real exchanges
    return feed


async def rest_depth(simulator: Simulator, exchange: str) -> dict[str, dict[float, float]]:
    async with (
        aiohttp.ClientSession() as session,
        session.get(simulator.rest[exchange] + DEPTH_PATHS[exchange]) as response,
    ):
        body = await response.json(content_type=None)
    if exchange == "okx":
        body = body["data"][0]
    elif exchange == "bybit":
        body = {"bids": body["result"]["b"], "asks": body["result"]["a"]}
    return {side: {float(level[0]): float(level[1]) for level in body[side]} for side in ("bids", "asks")}


def held(book: Book) -> dict[str, dict[float, float]]:
    return {"bids": dict(book.bids.levels()), "asks": dict(book.asks.levels())}


@pytest.fixture
def simulator() -> Iterator[Simulator]:
    """One a test: a fault must not meet the last test's connection, nor a snapshot the last test's request weights."""
    with running_simulator(*EVERY_EXCHANGE) as running:
        yield running


def freeze(simulator: Simulator, exchange: str, frozen: bool = True) -> None:
    simulator.call("POST", "/market", {"exchange": exchange, "symbol": market(exchange).symbol, "frozen": frozen})


async def becomes_equal(simulator: Simulator, exchange: str, book: Book) -> None:
    """Freeze the market and wait until the book is the exchange's."""
    freeze(simulator, exchange)
    wanted = await rest_depth(simulator, exchange)  # once: it doesn't change, and each asking has its weight
    await until(lambda: book.ready and held(book) == wanted, say=lambda: (held(book), wanted))
    freeze(simulator, exchange, False)


@pytest.mark.parametrize("exchange", EXCHANGES)
async def test_book_equals_the_exchanges_depth(simulator: Simulator, exchange: str) -> None:
    sink = RecordingSink()
    async with running(feed_of(simulator, exchange, sink)) as feed:
        book = feed.add(market(exchange))
        await until(
            lambda: book.ready and sink.books > 20 and len(sink.tops) > 5, say=lambda: (sink.statuses, feed.counters())
        )
        await becomes_equal(simulator, exchange, book)
        counters = feed.counters()
    for name in ("bad_messages", "sequence_gaps", "unknown_symbols", "crossed", "refused"):
        assert counters[name] == 0, name


@pytest.mark.parametrize("exchange", EXCHANGES)
async def test_public_trades_arrive_with_the_takers_side(simulator: Simulator, exchange: str) -> None:
    sink = RecordingSink()
    async with running(feed_of(simulator, exchange, sink)) as feed:
        book = feed.add(market(exchange))
        await until(lambda: book.ready)
        symbol = market(exchange).symbol  # one level: what takes from several is told as several
        simulator.set_book(exchange, symbol, bids=[("50000", "5")], asks=[("50010", "5")])
        simulator.trade(exchange, symbol, "SELL", "0.123")
        await until(lambda: any(trade.side == "sell" and trade.size == 0.123 for trade in sink.trades))


@pytest.mark.parametrize("exchange", EXCHANGES)
async def test_a_gap_is_noticed_and_the_book_comes_back_equal(simulator: Simulator, exchange: str) -> None:
    sink = RecordingSink()
    async with running(feed_of(simulator, exchange, sink)) as feed:
        book = feed.add(market(exchange))
        await until(lambda: book.ready)
        seen = book.version
        await until(lambda: book.version > seen)  # a frame that the snapshot covers would not be missed
        simulator.fault("gap", exchange=exchange, operation=f"*{BOOK_OPERATIONS[exchange]}*", count=1)
        await until(lambda: feed.counters()["sequence_gaps"] >= 1, say=feed.counters)
        await until(lambda: book.ready, say=lambda: (sink.statuses, feed.counters()))
        await becomes_equal(simulator, exchange, book)


@pytest.mark.parametrize("exchange", EXCHANGES)
async def test_a_cut_connection_comes_back_equal(simulator: Simulator, exchange: str) -> None:
    sink = RecordingSink()
    async with running(feed_of(simulator, exchange, sink)) as feed:
        book = feed.add(market(exchange))
        await until(lambda: book.ready)
        simulator.fault("disconnect", exchange=exchange, stage="market", count=1)
        await until(lambda: sink.reasons("down"))
        await until(lambda: book.ready, say=lambda: (sink.statuses, feed.counters()))
        await becomes_equal(simulator, exchange, book)
        assert feed.counters()["connects"] == 2


@pytest.mark.parametrize("exchange", EXCHANGES)
async def test_a_silent_stream_is_left_and_comes_back_equal(simulator: Simulator, exchange: str) -> None:
    sink = RecordingSink()
    feed = feed_of(simulator, exchange, sink)
    feed._venue.connection = msgspec.structs.replace(feed._venue.connection, silence_timeout=1.0)
    async with running(feed):
        book = feed.add(market(exchange))
        await until(lambda: book.ready and sink.books > 30)
        simulator.fault("silent", exchange=exchange, stage="market")
        await until(lambda: sink.status(book.key) == "down", say=feed.counters)
        assert not book.ready
        assert feed.counters()["silences"] >= 1
        simulator.clear_faults()
        await until(lambda: book.ready, seconds=60, say=lambda: (sink.statuses, feed.counters()))
        await becomes_equal(simulator, exchange, book)


@pytest.mark.parametrize("exchange", EXCHANGES)
async def test_a_corrupt_message_is_counted_and_the_book_stays_right(simulator: Simulator, exchange: str) -> None:
    sink = RecordingSink()
    async with running(feed_of(simulator, exchange, sink)) as feed:
        book = feed.add(market(exchange))
        await until(lambda: book.ready)
        simulator.fault("corrupt", exchange=exchange, stage="market", count=3)
        await until(lambda: feed.counters()["bad_messages"] >= 3, say=feed.counters)
        await becomes_equal(simulator, exchange, book)


@pytest.mark.parametrize("exchange", EXCHANGES)
async def test_several_markets_share_one_socket(simulator: Simulator, exchange: str) -> None:
    sink = RecordingSink()
    async with running(feed_of(simulator, exchange, sink)) as feed:
        books = [feed.add(market(exchange, symbol)) for symbol in ("BTC/USDT", "ETH/USDT", "SOL/USDT")]
        await until(lambda: all(book.ready for book in books), say=lambda: (sink.statuses, feed.counters()))
        assert feed.counters()["connections"] == 1


async def test_a_tapped_feed_is_replayed_to_the_same_book(simulator: Simulator) -> None:
    taken: list[tuple[int, str, str, bytes]] = []
    sink = RecordingSink()
    feed = feed_of(simulator, "binance", sink, tap=lambda *record: taken.append(record))
    async with running(feed):
        book = feed.add(market("binance"))
        await until(lambda: book.ready and sink.books > 20)
    again = protocol_for("binance", "spot", RecordingSink())
    copy = again.add(market("binance"))
    for received_ns, hint, kind, data in taken:
        assert json.loads(data)
        if kind == "frame":
            again.on_frame(data, received_ns)
        else:
            again.on_snapshot(hint, data, received_ns)
    assert copy.ready
    assert held(copy) == held(book)


async def test_the_hub_makes_every_exchange_tradable_and_shares_its_feeds(simulator: Simulator) -> None:
    specs = {f"{exchange}-sim": spec(simulator, exchange) for exchange in EXCHANGES}
    clock = SystemClock()
    hub = MarketHub(clock, feed_factory(specs, clock))
    heard: dict[str, int] = {}

    def listen(state: MarketState) -> None:
        heard[state.key] = heard.get(state.key, 0) + 1

    try:
        states = [hub.subscribe(market(exchange), listen).state for exchange in EXCHANGES for _ in range(2)]
        await until(lambda: all(hub.tradable(state, max_age_ms=1_000) for state in states), say=hub.counters)
        await until(lambda: all(heard.get(state.key, 0) > 10 for state in states))
        assert all(state.delay_ns is not None for state in states)
        assert hub.counters()["listener_errors"] == 0
        simulator.fault("disconnect", exchange="okx", stage="market", count=1)
        okx = hub.state("okx-sim:BTC/USDT")
        await until(lambda: okx.status == "down")
        assert not hub.tradable(okx, max_age_ms=60_000)
        assert hub.state("bybit-sim:BTC/USDT").status == "live"
        await until(lambda: hub.tradable(okx, max_age_ms=1_000))
    finally:
        await hub.close()
