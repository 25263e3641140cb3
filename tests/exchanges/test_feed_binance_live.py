"""The Binance feed over real sockets: books follow the exchange through losses, silence and restarts."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import pytest
from aiohttp import web

from tests.exchanges.feed_servers import BinanceServer, RecordingSink, market, until
from trading.clock import SystemClock
from trading.exchanges.binance.feed import create_feed
from trading.exchanges.connection import ConnectionSettings
from trading.exchanges.streaming import SocketFeed

FAST = ConnectionSettings(
    silence_timeout=0.5, first_backoff=0.01, max_backoff=0.05, connect_timeout=2.0, sends_per_second=200.0
)


@asynccontextmanager
async def running(server: BinanceServer, sink: RecordingSink, **options: object) -> AsyncIterator[SocketFeed]:
    feed = create_feed(server.spec(), sink, SystemClock(), connection=FAST, **options)  # type: ignore[arg-type]
    feed._pacer._interval_ns = 0  # the real limit on new connections is one a second
    task = asyncio.ensure_future(feed.run())
    try:
        yield feed
    finally:
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task


@asynccontextmanager
async def changing(server: BinanceServer) -> AsyncIterator[None]:
    task = asyncio.ensure_future(server.keep_changing())
    try:
        yield
    finally:
        task.cancel()
        await asyncio.gather(task, return_exceptions=True)


async def test_book_equals_the_exchange_after_snapshot_and_diffs() -> None:
    sink = RecordingSink()
    async with BinanceServer() as server, running(server, sink) as feed:
        book = feed.add(market())
        async with changing(server):
            await until(lambda: book.ready)
            await server.change(bids={"99.95": "3"}, asks={"100.10": "0", "100.05": "7"})
        await until(lambda: book.update_id == server.books["BTCUSDT"].update_id)
        assert server.books["BTCUSDT"].equals(book)
        assert (book.bids.best, book.asks.best, book.asks.best_size) == (99.95, 100.05, 7.0)
        assert sink.status(book.key) == "live"
        assert feed.counters()["sequence_gaps"] == 0


async def test_diffs_that_arrive_while_the_snapshot_is_fetched_are_applied() -> None:
    sink = RecordingSink()
    async with BinanceServer() as server, running(server, sink) as feed:
        book = feed.add(market())

        async def meanwhile(symbol: str) -> None:
            await server.change(asks={"100.10": "42"})

        server.before_snapshot = meanwhile
        await until(lambda: "btcusdt@depth@100ms" in server.subscribed())
        await server.change(bids={"99.90": "9"})
        await until(lambda: book.ready and book.asks.best_size == 42)
        assert server.books["BTCUSDT"].equals(book)


async def test_a_lost_diff_takes_the_book_down_until_a_new_snapshot() -> None:
    sink = RecordingSink()
    async with BinanceServer() as server, running(server, sink) as feed:
        book = feed.add(market())
        async with changing(server):
            await until(lambda: book.ready)
            server.change_silently(asks={"100.10": "0"})
            await until(lambda: feed.counters()["sequence_gaps"] == 1)
            await until(lambda: book.ready)
        await until(lambda: book.update_id == server.books["BTCUSDT"].update_id)
        assert server.books["BTCUSDT"].equals(book)
        assert any("gap" in reason for reason in sink.reasons("connecting"))


async def test_a_cut_socket_is_reported_down_and_comes_back() -> None:
    sink = RecordingSink()
    async with BinanceServer() as server, running(server, sink) as feed:
        book = feed.add(market())
        async with changing(server):
            await until(lambda: book.ready)
            server.abort()
            await until(lambda: sink.status(book.key) == "down" or server.connections == 2)
            assert sink.reasons("down")
            await until(lambda: server.connections == 2 and book.ready)
        await until(lambda: server.books["BTCUSDT"].equals(book))


async def test_a_silent_peer_is_noticed_and_left() -> None:
    sink = RecordingSink()
    async with BinanceServer() as server, running(server, sink) as feed:
        book = feed.add(market())
        async with changing(server):
            await until(lambda: book.ready)
            server.frozen = True
            await until(lambda: sink.status(book.key) == "down")
            assert not book.ready
            assert feed.counters()["silences"] >= 1
            server.frozen = False
            await until(lambda: book.ready)
        assert any("nothing received" in reason or "no data" in reason for reason in sink.reasons("down"))


async def test_a_frozen_stream_with_live_pings_is_noticed_and_left() -> None:
    sink = RecordingSink()
    async with BinanceServer() as server, running(server, sink) as feed:
        book = feed.add(market())
        async with changing(server):
            await until(lambda: book.ready)
            await asyncio.sleep(0)
        # Nothing changes any more, but the server still answers pings.
        await until(lambda: any("no data" in reason for reason in sink.reasons("down")))
        assert feed.counters()["silences"] >= 1


async def test_a_quiet_market_is_not_taken_for_a_dead_peer() -> None:
    sink = RecordingSink()
    async with BinanceServer() as server, running(server, sink) as feed:
        feed.add(market())
        await until(lambda: feed.counters()["connections_open"] == 1)
        await asyncio.sleep(3 * FAST.silence_timeout)
        assert feed.counters()["silences"] == 0
        assert server.connections == 1


async def test_an_exchange_that_is_down_at_start_is_reported_and_retried() -> None:
    sink = RecordingSink()
    server = BinanceServer()
    async with server:
        pass  # learn a port, then leave it closed
    async with running(server, sink) as feed:
        book = feed.add(market())
        await until(lambda: sink.status(book.key) == "down")
        assert "cannot connect" in sink.reasons("down")[0]
        await until(lambda: feed.counters()["failed_connects"] >= 2)
        async with server, changing(server):
            await until(lambda: book.ready)


async def test_markets_come_and_go_on_one_socket() -> None:
    sink = RecordingSink()
    async with BinanceServer("BTCUSDT", "ETHUSDT") as server, running(server, sink) as feed:
        btc = feed.add(market("BTCUSDT"))
        async with changing(server):
            await until(lambda: btc.ready)
            eth = feed.add(market("ETHUSDT"))
            await until(lambda: eth.ready)
            assert server.connections == 1
            feed.remove(btc.key)
            await until(lambda: not any(stream.startswith("btcusdt") for stream in server.subscribed()))
            before = eth.update_id
            await until(lambda: eth.update_id > before)
            assert feed.counters()["markets"] == 1


async def test_a_full_socket_is_followed_by_another() -> None:
    sink = RecordingSink()
    symbols = ("BTCUSDT", "ETHUSDT", "SOLUSDT")
    async with BinanceServer(*symbols) as server:
        feed = create_feed(server.spec(), sink, SystemClock(), connection=FAST)
        feed._pacer._interval_ns = 0
        feed._venue.limits = _with_topics(feed, 6)  # two markets of three streams
        books = [feed.add(market(symbol)) for symbol in symbols]
        task = asyncio.ensure_future(feed.run())
        async with changing(server):
            await until(lambda: all(book.ready for book in books))
        assert server.connections == 2
        assert feed.counters()["connections_open"] == 2
        task.cancel()
        await asyncio.gather(task, return_exceptions=True)


def _with_topics(feed: SocketFeed, topics: int) -> object:
    import msgspec

    return msgspec.structs.replace(feed._venue.limits, topics_per_connection=topics)


@pytest.mark.parametrize(
    ("answer", "said"),
    [
        (lambda: web.Response(status=500, text="<html>oops</html>"), "HTTP 500"),
        (lambda: web.Response(status=429, headers={"Retry-After": "0"}), "HTTP 429"),
    ],
)
async def test_a_refused_snapshot_is_asked_for_again(answer: object, said: str) -> None:
    sink = RecordingSink()
    async with BinanceServer() as server, running(server, sink) as feed:
        server.snapshot_answers.append(answer())  # type: ignore[operator]
        book = feed.add(market())
        async with changing(server):
            await until(lambda: book.ready)
        assert server.snapshots_served == 2
        assert any(said in reason for reason in sink.reasons("connecting"))


async def test_a_damaged_snapshot_is_counted_and_asked_for_again() -> None:
    sink = RecordingSink()
    async with BinanceServer() as server, running(server, sink) as feed:
        server.snapshot_answers.append(web.Response(text='{"lastUpdateId": 5, "bids": [["NaN","1"]], "asks": []}'))
        book = feed.add(market())
        async with changing(server):
            await until(lambda: book.ready)
        assert feed.counters()["bad_messages"] == 1


async def test_damaged_frames_between_good_ones_leave_the_feed_running() -> None:
    sink = RecordingSink()
    async with BinanceServer() as server, running(server, sink) as feed:
        book = feed.add(market())
        async with changing(server):
            await until(lambda: book.ready)
            for socket in server.sockets:
                await socket.send_str("{" * 50_000)
                await socket.send_str('{"stream":"btcusdt@depth@100ms","data":{"u":"x"}}')
                await socket.send_bytes(b"\xff\x00garbage")
            await until(lambda: feed.counters()["bad_messages"] == 3, say=feed.counters)
            before = book.update_id
            await until(lambda: book.update_id > before)
        assert server.connections == 1


async def test_the_tap_sees_frames_and_snapshots_as_received() -> None:
    seen: list[tuple[int, str, str, bytes]] = []
    sink = RecordingSink()
    async with (
        BinanceServer() as server,
        running(server, sink, tap=lambda *record: seen.append(record)) as feed,
    ):
        book = feed.add(market())
        async with changing(server):
            await until(lambda: book.ready)
    kinds = {kind for _, _, kind, _ in seen}
    assert kinds == {"frame", "snapshot"}
    assert {hint for _, hint, kind, _ in seen if kind == "snapshot"} == {book.key}
