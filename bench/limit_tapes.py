"""Markets for the bench of limit orders, played under virtual time: recordings of real ones, and made ones.

A made market is a book around a middle that walks at random, and takers who arrive by chance. In a toxic one the walk
has a momentum, and takers know of it: they buy before the price rises and sell before it falls.
"""

from __future__ import annotations

import asyncio
import heapq
import math
import os
from collections.abc import Callable, Iterator, Mapping
from decimal import Decimal
from pathlib import Path
from random import Random

import msgspec

from trading.instruments import Market
from trading.marketdata.book import Book
from trading.marketdata.replay_sources import open_sources
from trading.messages import PublicTrade
from trading.ports import FeedSink

ROOT = Path(__file__).resolve().parent.parent
RECORDINGS = "binance_three_markets"
MADE_SECONDS = 1800.0
STEP_SECONDS = 0.2
LEVELS = 5

# What happens next: when (ns), and the call that tells the sink of it.
Tape = Iterator[tuple[int, Callable[[], None]]]


class VirtualClock:
    """The Clock port on a heap; time passes only by :meth:`advance`."""

    def __init__(self, now_ns: int = 1) -> None:
        self._now_ns = now_ns
        self._count = 0
        self._sleepers: list[tuple[int, int, asyncio.Future[None]]] = []

    def monotonic_ns(self) -> int:
        return self._now_ns

    def time_ns(self) -> int:
        return self._now_ns

    async def sleep(self, seconds: float) -> None:
        future: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self._count += 1
        heapq.heappush(self._sleepers, (self._now_ns + max(0, int(seconds * 1e9)), self._count, future))
        await future

    async def settle(self) -> None:
        """Let everything that is ready run, without letting time pass."""
        ready = asyncio.get_running_loop()._ready  # type: ignore[attr-defined]
        await asyncio.sleep(0)
        while ready:  # noqa: ASYNC110
            await asyncio.sleep(0)

    async def advance(self, to_ns: int) -> None:
        """Let time pass to a moment, waking who sleeps until then, one after the other."""
        while self._sleepers and self._sleepers[0][0] <= to_ns:
            at_ns, _, future = heapq.heappop(self._sleepers)
            if future.done():
                continue
            self._now_ns = max(self._now_ns, at_ns)
            future.set_result(None)
            await self.settle()
        self._now_ns = max(self._now_ns, to_ns)


class Stage(msgspec.Struct, frozen=True, kw_only=True):
    """A market to play: ``play`` connects a tape to a sink, ``quantity`` is what is worked in it (its own unit)."""

    name: str
    market: Market
    quantity: Decimal
    every_seconds: float
    play: Callable[[FeedSink, VirtualClock], tuple[Book, Tape]]


def recorded_stages() -> list[Stage]:
    """Return the recordings there are (ARB_DATA_DIR, default ../shared/data)."""
    folder = Path(os.environ.get("ARB_DATA_DIR") or ROOT.parent / "shared" / "data") / RECORDINGS
    wanted: list[tuple[str, str, str, Mapping[str, Decimal], Decimal]] = [
        ("BTC/USDT spot, recorded", "binance:BTC/USDT", "spot_btcusdt_20240808.gz",
         {"tick": Decimal("0.01"), "lot": Decimal("0.00001")}, Decimal("0.1")),
        ("BTC/USDT perpetual, recorded", "binanceusdm:BTC/USDT:USDT", "usdm_btcusdt_20240808.gz",
         {"tick": Decimal("0.1"), "lot": Decimal("0.001")}, Decimal("0.1")),
        ("BTC/USD coin-margined, recorded", "binancecoinm:BTC/USD:BTC", "coinm_btcusd_perp_20240808.gz",
         {"tick": Decimal("0.1"), "lot": Decimal(1)}, Decimal(50)),
    ]  # fmt: skip
    return [
        _recorded(name, symbol, folder / file, terms, quantity)
        for name, symbol, file, terms, quantity in wanted
        if (folder / file).exists()
    ]


def _recorded(name: str, symbol: str, path: Path, terms: Mapping[str, Decimal], quantity: Decimal) -> Stage:
    (named,) = open_sources([(symbol, path)], [])
    market = msgspec.structs.replace(named.markets[0], **terms)

    def play(sink: FeedSink, clock: VirtualClock) -> tuple[Book, Tape]:
        (source,) = open_sources([(symbol, path)], [])
        source.markets = (market,)
        source.connect(sink)

        def tape() -> Tape:
            for record in source.records():
                yield record.received_ns, lambda record=record: source.play(record)  # type: ignore[misc]

        return source.books[market.key], tape()

    return Stage(name=name, market=market, quantity=quantity, every_seconds=20.0, play=play)


class Flow(msgspec.Struct, frozen=True, kw_only=True):
    """How a made market moves: middle and spread in ticks, ``walk`` ticks a step, ``momentum`` ticks a step at its
    usual size, ``knowing`` the share of takers' choice of side that follows it, ``takers`` a second."""

    middle: float = 1527.5
    spread: float = 9.0
    walk: float = 0.25
    momentum: float = 0.0
    knowing: float = 0.0
    takers: float = 0.6
    size: float = 400.0


def made_stages(seed: int, seconds: float = MADE_SECONDS) -> list[Stage]:
    """Return a market whose takers know nothing, and one whose takers do."""
    return [
        _made("made, takers know nothing", Flow(), seed, seconds),
        _made("made, takers know where it goes", Flow(momentum=0.06, knowing=0.9), seed + 1, seconds),
    ]


def _made(name: str, flow: Flow, seed: int, seconds: float) -> Stage:
    market = Market(
        exchange="made", symbol="ABC/USDT", native_id="ABCUSDT", base="ABC", quote="USDT", tick=Decimal("0.01"),
        lot=Decimal("0.1"), min_amount=Decimal("0.1"), min_notional=Decimal(5),
    )  # fmt: skip

    def play(sink: FeedSink, clock: VirtualClock) -> tuple[Book, Tape]:
        book = Book(market)
        return book, _walk(sink, book, clock, flow, Random(seed), seconds)

    return Stage(name=name, market=market, quantity=Decimal(300), every_seconds=20.0, play=play)


def _walk(sink: FeedSink, book: Book, clock: VirtualClock, flow: Flow, random: Random, seconds: float) -> Tape:
    middle, momentum = flow.middle, 0.0
    tick = float(book.market.tick)

    def show(bid: int, ask: int, sizes: list[float]) -> None:
        book.bids.replace([(round((bid - n) * tick, 8), sizes[n]) for n in range(LEVELS)])
        book.asks.replace([(round((ask + n) * tick, 8), sizes[LEVELS + n]) for n in range(LEVELS)])
        book.ready = True
        book.received_ns = clock.time_ns()
        sink.on_status(book.key, "live", "")
        sink.on_book(book)

    def print_trade(price: int, size: float, side: str) -> None:
        now = clock.time_ns()
        sink.on_trade(PublicTrade(book.key, round(price * tick, 8), size, side, now, now))  # type: ignore[arg-type]

    for step in range(int(seconds / STEP_SECONDS)):
        at_ns = 1 + int(step * STEP_SECONDS * 1e9)
        # The momentum fades over some ten seconds, and is renewed as much.
        momentum = 0.98 * momentum + math.sqrt(1 - 0.98**2) * random.gauss(0.0, flow.momentum)
        middle = max(flow.middle / 2, middle + momentum + random.gauss(0.0, flow.walk))
        bid, ask = math.floor(middle - flow.spread / 2), math.ceil(middle + flow.spread / 2)
        sizes = [round(random.lognormvariate(math.log(flow.size), 0.5), 1) for _ in range(2 * LEVELS)]
        yield at_ns, lambda bid=bid, ask=ask, sizes=sizes: show(bid, ask, sizes)  # type: ignore[misc]
        if random.random() < flow.takers * STEP_SECONDS:
            known = math.tanh(momentum / flow.momentum) if flow.momentum else 0.0
            buys = random.random() < 0.5 * (1 + flow.knowing * known)
            size = round(random.lognormvariate(math.log(flow.size / 2), 0.7), 1)
            price, side = (ask, "buy") if buys else (bid, "sell")
            yield at_ns + 1, lambda p=price, s=size, side=side: print_trade(p, s, side)  # type: ignore[misc]
