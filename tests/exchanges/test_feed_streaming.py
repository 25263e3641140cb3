"""How the shared feed looks after its books: when it subscribes again, to what, and how often."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest
from aiohttp import web

from tests.exchanges.feed_servers import BinanceServer, RecordingSink, market, until
from tests.exchanges.test_feed_binance_live import changing, running
from trading.exchanges import streaming
from trading.exchanges.binance.feed import create_feed
from trading.exchanges.streaming import NS, Shard


class HandClock:
    """A clock the test moves; nobody sleeps on it."""

    def __init__(self) -> None:
        self.now = NS

    def monotonic_ns(self) -> int:
        return self.now

    def time_ns(self) -> int:
        return self.now

    async def sleep(self, seconds: float) -> None:
        await asyncio.Event().wait()


async def test_a_book_that_never_comes_is_asked_for_without_end(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(Shard, "renew", lambda shard, key, whole: True)
    clock = HandClock()
    feed = create_feed(BinanceServer().spec(), RecordingSink(), clock)
    book = feed.add(market())
    for _ in range(1_100):
        assert feed._renew(book.key)
        assert not feed._renew(book.key)
        clock.now += 301 * NS


def test_a_market_left_by_one_who_heard_of_another_is_no_error() -> None:
    class LeavingSink(RecordingSink):
        def on_status(self, key: str, status: str, reason: str) -> None:
            super().on_status(key, status, reason)
            feed.remove(eth.key if key == btc.key else btc.key)

    feed = create_feed(BinanceServer().spec(), LeavingSink(), HandClock())
    btc, eth = feed.add(market("BTCUSDT")), feed.add(market("ETHUSDT"))
    feed._shards[0]._on_down("disconnected")
    assert feed.counters()["markets"] == 1


class ForgetfulServer(BinanceServer):
    """Loses the first ``losses`` requests it is sent."""

    losses = 1

    async def _answer(self, socket: web.WebSocketResponse, request: dict[str, Any]) -> None:
        if len(self.requests) < self.losses:
            self.requests.append(request)
        else:
            await super()._answer(socket, request)


@pytest.fixture
def hurried(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(streaming, "CHECK_SECONDS", 0.01)
    monkeypatch.setattr(streaming, "UNREADY_SECONDS", 0.1)
    monkeypatch.setattr(streaming, "FROZEN_SECONDS", 0.1)


@pytest.mark.usefixtures("hurried")
async def test_a_lost_request_is_made_up_for_with_all_it_asked_for() -> None:
    async with ForgetfulServer() as server, running(server, RecordingSink()) as feed:
        book = feed.add(market())
        async with changing(server):
            await until(lambda: book.ready)
        assert server.subscribed() == {"btcusdt@depth@100ms", "btcusdt@bookTicker", "btcusdt@aggTrade"}


@pytest.mark.usefixtures("hurried")
async def test_a_book_that_waits_for_its_snapshot_is_not_subscribed_anew() -> None:
    async with BinanceServer() as server, running(server, RecordingSink()) as feed:
        server.snapshot_answers = [web.Response(status=503) for _ in range(3)]  # the third is asked for after 0.75 s
        book = feed.add(market())
        async with changing(server):
            await until(lambda: book.ready)
        assert server.snapshots_served == 4
        assert [request["method"] for request in server.requests] == ["SUBSCRIBE"]


@pytest.mark.usefixtures("hurried")
async def test_a_book_whose_channel_died_alone_is_subscribed_anew() -> None:
    sink = RecordingSink()
    depth = "btcusdt@depth@100ms"
    async with BinanceServer() as server, running(server, sink) as feed:
        book = feed.add(market())
        async with changing(server):
            await until(lambda: book.ready)
            server.subscriptions[server.sockets[0]].discard(depth)

            async def publish_best_prices() -> None:
                held = server.books["BTCUSDT"]
                best = {"s": "BTCUSDT", "b": "99.90", "B": "1", "a": "100.10", "A": "1"}
                while depth not in server.subscribed():
                    await server.send("btcusdt@bookTicker", {"u": held.update_id, **best})
                    await asyncio.sleep(0.01)

            await asyncio.wait_for(publish_best_prices(), 15)
            await until(lambda: book.ready)
            await until(lambda: book.update_id >= server.books["BTCUSDT"].update_id)
        assert streaming.FROZEN in sink.reasons("connecting")
        assert server.connections == 1
