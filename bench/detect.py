"""Bytes received to decision: decode, book, hub and detector over four exchanges, at 10, 100 and 1,000 pairs.

Every frame goes the way a live one goes from the socket on: the exchange's decoder with its sequence check, the book,
the hub, and the detector, whose answer (opportunities or none) is there when the call returns. The same frames are
also sent through decoder and book alone, so that the part of hub and detector shows. Times are CPU time of the
thread, so that what else the machine does is not in them. Garbage is collected between runs, not within them. Figures
are medians over the runs, which take turns between the numbers of pairs.
"""

from __future__ import annotations

import asyncio
import gc
from collections.abc import Mapping, Sequence
from decimal import Decimal
from statistics import median, quantiles
from time import thread_time_ns
from typing import Any

from bench.detect_frames import Message, make_messages
from trading.arbitrage.detector import Detector
from trading.basis import Funding
from trading.clock import SystemClock
from trading.config import BotConfig
from trading.exchanges.registry import protocol_for
from trading.instruments import Market, MarketKind
from trading.marketdata.book import Book
from trading.marketdata.hub import Debounce, MarketHub, MarketState
from trading.messages import PublicTrade
from trading.ports import FeedSink

PAIRS = (10, 100, 1_000)
FRAMES = 20_000
RUNS = 5
WARMING_ROUNDS = 20
GROWTHS = ("p50", "p99", "books_p50")
FEE = Decimal("0.0004")
# Exchange, kind of market, how its symbols look, how it names them.
EXCHANGES: Sequence[tuple[str, MarketKind, str, str]] = (
    ("binance", "spot", "{base}/USDT", "{base}USDT"),
    ("binanceusdm", "linear", "{base}/USDT:USDT", "{base}USDT"),
    ("okx", "spot", "{base}/USDT", "{base}-USDT"),
    ("bybit", "spot", "{base}/USDT", "{base}USDT"),
)
KINDS: Mapping[str, MarketKind] = {exchange: kind for exchange, kind, _, _ in EXCHANGES}


class BooksOnly:
    """A sink that ends at the book."""

    def on_book(self, book: Book) -> None: ...

    def on_top(
        self, key: str, bid: float, bid_size: float, ask: float, ask_size: float, exchange_ns: int, received_ns: int
    ) -> None: ...

    def on_trade(self, trade: PublicTrade) -> None: ...

    def on_funding(self, funding: Funding) -> None: ...

    def on_status(self, key: str, status: str, reason: str) -> None: ...


class BenchFeed:
    """One exchange's feed without a socket: the benchmark hands it the bytes."""

    def __init__(self, exchange: str, sink: FeedSink) -> None:
        self.protocol = protocol_for(exchange, KINDS[exchange], sink)

    def add(self, market: Market) -> Book:
        return self.protocol.add(market)

    def remove(self, key: str) -> None:
        self.protocol.remove(key)

    async def run(self) -> None:
        await asyncio.Event().wait()

    def counters(self) -> Mapping[str, int | float]:
        return self.protocol.counters

    def send(self, message: Message) -> None:
        if message.is_snapshot:
            self.protocol.on_snapshot(message.market.key, message.data, 1)
        else:
            self.protocol.on_frame(message.data, 1)


def pair_markets(number: int) -> list[Market]:
    """Return one asset's markets on the four exchanges."""
    base = f"C{number:04d}"
    return [
        Market(
            exchange=exchange,
            symbol=symbol.format(base=base),
            native_id=native.format(base=base),
            base=base,
            quote="USDT",
            settle="USDT" if kind == "linear" else None,
            kind=kind,
            lot=Decimal("0.001"),
            taker_fee=FEE,
        )
        for exchange, kind, symbol, native in EXCHANGES
    ]


class Course:
    """A number of followed pairs, of which some are active: markets and messages."""

    def __init__(self, pairs: int, active: int, frames: int) -> None:
        self.pairs, self.active = pairs, active
        by_pair = [pair_markets(number) for number in range(pairs)]
        self.markets = [market for markets in by_pair for market in markets]
        # The first rounds over all pairs are not timed: books as they open are unlike books that have lived.
        warming = WARMING_ROUNDS * active
        opening, following = make_messages(by_pair, warming + frames, active)
        self.before, self.timed = [*opening, *following[:warming]], following[warming:]


def timed_run(course: Course, feeds: Mapping[str, BenchFeed]) -> list[int]:
    """Send a course's timed frames; return the nanoseconds of CPU each took."""
    frames = [(feeds[message.market.exchange].protocol.on_frame, message.data) for message in course.timed]
    took = [0] * len(frames)
    gc.collect()
    gc.disable()
    try:
        for index, (on_frame, data) in enumerate(frames):
            began = thread_time_ns()
            on_frame(data, 1)
            took[index] = thread_time_ns() - began
    finally:
        gc.enable()
    for exchange, feed in feeds.items():
        counts = feed.protocol.counters
        if counts["bad_messages"] or counts["sequence_gaps"] or counts["crossed"] or counts["unknown_symbols"]:
            raise RuntimeError(f"the benchmark's own frames are not in order on {exchange}: {counts}")
    return took


def run_books(course: Course) -> list[int]:
    """Decoder and book only."""
    feeds = {exchange: BenchFeed(exchange, BooksOnly()) for exchange in KINDS}
    for market in course.markets:
        feeds[market.exchange].add(market)
    for message in course.before:
        feeds[message.market.exchange].send(message)
    return timed_run(course, feeds)


async def run_whole(course: Course) -> tuple[list[int], dict[str, int]]:
    """Bytes to decision; returns the times and what the detector counted meanwhile."""
    feeds: dict[str, BenchFeed] = {}
    clock = SystemClock()

    def make_feed(exchange: str, sink: FeedSink) -> BenchFeed:
        feeds[exchange] = BenchFeed(exchange, sink)
        return feeds[exchange]

    hub = MarketHub(clock, make_feed)

    def on_change(state: MarketState) -> None:
        detector.on_change(state.key)

    for market in course.markets:
        hub.subscribe(market, on_change, debounce=Debounce())
    detector = Detector(lambda market: hub.state(market.key), clock)
    detector.add_bot(
        BotConfig(
            bot_id=1, name="bench", mode="paper", markets=tuple(course.markets), accounts={}, min_net_edge_bps=0.0
        )
    )
    for message in course.before:
        feeds[message.market.exchange].send(message)
    evaluated, opportunities = detector.evaluated, detector.opportunities
    took = timed_run(course, feeds)
    if hub.listener_errors:
        raise RuntimeError("the detector failed; the log says why")
    await hub.close()
    return took, {
        "evaluated": detector.evaluated - evaluated,
        "opportunities": detector.opportunities - opportunities,
    }


def run(*, frames: int = FRAMES, runs: int = RUNS, pairs: Sequence[int] = PAIRS) -> dict[str, Any]:
    """Measure; durations are microseconds of CPU time a frame.

    ``results`` has a row per number of pairs followed and active. ``p50_growth`` and ``p99_growth`` compare the most
    pairs with the fewest under the same traffic: what following more costs. The ``_all_active`` ones let traffic spread
    over all pairs, so that every frame finds its market's data gone from the processor's caches.
    """
    fewest = pairs[0]
    courses = [Course(count, fewest, frames) for count in pairs] + [Course(count, count, frames) for count in pairs[1:]]
    figures: list[dict[str, list[float]]] = [{"p50_us": [], "p99_us": [], "books_p50_us": []} for _ in courses]
    counts: list[dict[str, int]] = [{} for _ in courses]
    for _ in range(runs):
        for place, course in enumerate(courses):
            took, counts[place] = asyncio.run(run_whole(course))
            figures[place]["p50_us"].append(_percentile(took, 50))
            figures[place]["p99_us"].append(_percentile(took, 99))
            figures[place]["books_p50_us"].append(_percentile(run_books(course), 50))
    rows = [
        {
            "pairs": course.pairs,
            "active": course.active,
            "markets": len(course.markets),
            "routes": len(course.markets) * (len(EXCHANGES) - 1),
            **{name: round(median(values), 2) for name, values in mine.items()},
            **counted,
        }
        for course, mine, counted in zip(courses, figures, counts, strict=True)
    ]
    same = rows[len(pairs) - 1]
    return {
        "exchanges": len(EXCHANGES),
        "frames": frames,
        "runs": runs,
        "results": rows,
        **{f"{name}_growth": round(same[f"{name}_us"] / rows[0][f"{name}_us"], 2) for name in GROWTHS},
        **{f"{name}_growth_all_active": round(rows[-1][f"{name}_us"] / rows[0][f"{name}_us"], 2) for name in GROWTHS},
    }


def table(result: Mapping[str, Any]) -> str:
    """Return the result as text lines."""
    columns = ("pairs", "active", "markets", "routes", "p50_us", "p99_us", "books_p50_us", "evaluated", "opportunities")
    lines = [
        f"Bytes received to decision, {result['exchanges']} exchanges, {result['frames']} frames, "
        f"medians of {result['runs']} runs, microseconds of CPU a frame",
        "  ".join(f"{name:>12}" for name in columns),
        *("  ".join(f"{row[name]:>12}" for name in columns) for row in result["results"]),
    ]
    for suffix, traffic in (("", "the same traffic"), ("_all_active", "traffic on all of them")):
        grown = ", ".join(f"{name.replace('_', ' ')} x {result[f'{name}_growth{suffix}']:.2f}" for name in GROWTHS)
        lines.append(
            f"From {result['results'][0]['pairs']} to {result['results'][-1]['pairs']} pairs, {traffic}: {grown}"
        )
    return "\n".join(lines)


def _percentile(took: Sequence[int], percent: int) -> float:
    return quantiles(took, n=100, method="inclusive")[percent - 1] / 1000
