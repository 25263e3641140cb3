"""Market data that is lost, old, crossed, frozen or absurd: no book is traded on until it is the exchange's again."""

from __future__ import annotations

from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager
from decimal import Decimal
from typing import Any

import pytest

from tests.exchanges.feed_servers import RecordingSink, until
from tests.exchanges.test_feeds_simulator import (
    BOOK_OPERATIONS,
    EXCHANGES,
    becomes_equal,
    feed_of,
    freeze,
    market,
    running,
    spec,
)
from tests.exchangesim.simulator import Simulator, every_exchange  # noqa: F401
from trading.clock import SystemClock
from trading.exchanges.registry import feed_factory
from trading.exchanges.streaming import SocketFeed
from trading.marketdata.book import Book
from trading.marketdata.hub import MarketHub, MarketState

BIDS = {"binance": "b", "binanceusdm": "b", "okx": "bids", "bybit": "b"}


@pytest.fixture
def simulator(every_exchange: Simulator) -> Iterator[Simulator]:  # noqa: F811
    every_exchange.clear_faults()
    for name in EXCHANGES:
        freeze(every_exchange, name, False)
    yield every_exchange
    every_exchange.clear_faults()


class Followed:
    """A feed with one book, and all it told."""

    def __init__(self, simulator: Simulator, name: str) -> None:
        self.simulator, self.name = simulator, name
        self.sink = RecordingSink()  # which fails on a book that is reported crossed or half
        self.feed: SocketFeed = feed_of(simulator, name, self.sink)
        self.book: Book = self.feed.add(market(name))

    def on_book(self, kind: str, *, count: int | None = 1, **parameters: Any) -> None:
        """Let something happen to the messages that carry the book."""
        self.simulator.fault(
            kind,
            stage="market",
            exchange=self.name,
            operation=f"*{BOOK_OPERATIONS[self.name]}*",
            parameters=parameters,
            **({} if count is None else {"count": count}),
        )

    async def ready(self) -> None:
        await until(lambda: self.book.ready, say=self.say)

    async def comes_back(self) -> None:
        """The book is the exchange's, level by level."""
        await self.ready()
        await becomes_equal(self.simulator, self.name, self.book)

    def count(self, name: str) -> float:
        return self.feed.counters()[name]

    def hits(self) -> int:
        return int(self.simulator.faults()[0]["hits"])

    def say(self) -> object:
        return self.sink.statuses, self.feed.counters()


@asynccontextmanager
async def followed(simulator: Simulator, name: str) -> AsyncIterator[Followed]:
    made = Followed(simulator, name)
    async with running(made.feed):
        # Past the messages that the snapshot made needless: one of those may be missing without a gap.
        await until(lambda: made.book.ready and made.sink.books > 5, say=made.say)
        yield made


@asynccontextmanager
async def in_hub(simulator: Simulator, name: str) -> AsyncIterator[tuple[MarketHub, MarketState]]:
    clock = SystemClock()
    hub = MarketHub(clock, feed_factory({f"{name}-sim": spec(simulator, name)}, clock))
    try:
        state = hub.subscribe(market(name), lambda _: None).state
        await until(lambda: hub.tradable(state, 2_000), say=hub.counters)
        yield hub, state
    finally:
        await hub.close()


@pytest.mark.parametrize("name", EXCHANGES)
async def test_fault_46_a_gap_takes_the_book_down_until_it_is_whole(simulator: Simulator, name: str) -> None:
    async with followed(simulator, name) as it:
        told = len(it.sink.statuses)
        it.on_book("gap")
        await until(lambda: it.count("sequence_gaps") >= 1, say=it.say)
        await it.comes_back()
        since = [status for _, status, _ in it.sink.statuses[told:]]
        assert since[-1] == "live"
        assert since[0] != "live", "between the two it was not traded on"


async def test_fault_47_a_snapshot_older_than_the_stream_is_fetched_again(simulator: Simulator) -> None:
    simulator.fault("stale_answer", exchange="binance", operation="GET /api/v3/depth")
    async with followed(simulator, "binance") as it:
        await until(lambda: it.sink.books > 10)
        it.on_book("gap")
        await until(lambda: it.hits() >= 2, say=it.say)
        assert not it.book.ready
        simulator.clear_faults()
        await it.comes_back()


@pytest.mark.parametrize("name", ["okx", "bybit"])
async def test_fault_47_an_old_message_told_again_does_not_spoil_the_book(simulator: Simulator, name: str) -> None:
    async with followed(simulator, name) as it:
        it.on_book("repeat_market")
        await until(lambda: it.hits() == 1)
        books = it.sink.books
        await until(lambda: it.sink.books > books + 5, say=it.say)
        await it.comes_back()


@pytest.mark.parametrize("name", EXCHANGES)
async def test_fault_48_a_crossed_book_is_not_reported(simulator: Simulator, name: str) -> None:
    async with followed(simulator, name) as it:
        far = str(int(Decimal(simulator.market(name, market(name).symbol)["last"]) * 2))
        level = [far, "1", "0", "1"] if name == "okx" else [far, "1"]
        it.on_book("edit", set={BIDS[name]: [level]})
        await until(lambda: it.count("crossed") >= 1 or it.sink.status(it.book.key) != "live", say=it.say)
        await it.comes_back()


@pytest.mark.parametrize("name", EXCHANGES)
async def test_fault_48_a_book_with_an_empty_side_is_not_traded_on(simulator: Simulator, name: str) -> None:
    async with in_hub(simulator, name) as (hub, state):
        ask = str(simulator.market(name, market(name).symbol)["asks"][0][0])
        simulator.set_book(name, market(name).symbol, bids=[], asks=[(ask, "1")])
        await until(lambda: not hub.tradable(state, 60_000))
        freeze(simulator, name, False)
        await until(lambda: hub.tradable(state, 2_000), say=hub.counters)


@pytest.mark.parametrize("name", EXCHANGES)
async def test_fault_49_a_book_that_stands_still_is_too_old_though_its_socket_lives(
    simulator: Simulator, name: str
) -> None:
    async with in_hub(simulator, name) as (hub, state):
        simulator.fault("silent", stage="market", exchange=name)
        await until(lambda: not hub.tradable(state, 500))
        assert state.status == "live", "its socket is open, its pings are answered"
        simulator.clear_faults()
        await until(lambda: hub.tradable(state, 2_000), say=hub.counters)


async def test_fault_50_a_book_guarded_by_a_checksum_only_is_not_believed_when_it_is_wrong(
    simulator: Simulator,
) -> None:
    async with followed(simulator, "okx") as it:
        it.on_book("edit", count=2, set={"seqId": None, "prevSeqId": None, "checksum": 12345})
        await until(lambda: it.sink.status(it.book.key) != "live", say=it.say)
        await it.comes_back()


@pytest.mark.parametrize(
    ("name", "price"),
    [("binance", "0"), ("binance", "1e-30"), ("okx", "0"), ("okx", "NaN"), ("bybit", "NaN"), ("bybit", "1e-30")],
)
async def test_fault_51_an_absurd_price_is_refused(simulator: Simulator, name: str, price: str) -> None:
    async with followed(simulator, name) as it:
        level = [price, "1", "0", "1"] if name == "okx" else [price, "1"]
        it.on_book("edit", set={BIDS[name]: [level]})
        await until(lambda: it.count("bad_messages") >= 1, say=it.say)
        await it.comes_back()


@pytest.mark.parametrize(
    ("name", "action"),
    # Bybit and Binance USD-M close connections without a notice.
    [
        (name, action)
        for name in EXCHANGES
        for action in ("close", "notice")
        if action == "close" or name not in {"bybit", "binanceusdm"}
    ],
)
async def test_fault_42_market_data_outlives_the_end_of_its_connection(
    simulator: Simulator, name: str, action: str
) -> None:
    async with followed(simulator, name) as it:
        simulator.disturb(name, action)
        if action == "notice":
            simulator.disturb(name, "close")
        await until(lambda: it.count("connects") == 2, say=it.say)
        await it.comes_back()
