"""Replay recordings through the live decoders, books and detector, and say what they would have earned.

Records of all files are played in the order they were received. Edges are statistics of the best prices, before fees
(see :mod:`trading.marketdata.replay_statistics`); trades come from the detector at the given fee, priced from the depth
of the books, each quoted quantity taken once (see :mod:`trading.marketdata.replay_trades`). Only trades within the
overlap of a route's markets count: a market whose recording has ended still shows its last book.
"""

from __future__ import annotations

import asyncio
import heapq
import math
from collections.abc import Iterator, Mapping, Sequence
from decimal import Decimal
from itertools import combinations

import msgspec

from trading.arbitrage.cycles import three_leg_cycles
from trading.arbitrage.depth import Limits
from trading.arbitrage.detector import Detector
from trading.arbitrage.routes import NO_EQUIVALENCE, AssetEquivalence, route_refusal, two_leg_routes
from trading.basis import Funding
from trading.config import BotConfig
from trading.instruments import Market
from trading.marketdata.book import Book
from trading.marketdata.hub import LIVE, Debounce, MarketHub, MarketState
from trading.marketdata.recording import NotARecording, Record
from trading.marketdata.replay_cycles import CycleEdge, Episode
from trading.marketdata.replay_sources import ReplaySource
from trading.marketdata.replay_statistics import EdgeStatistics
from trading.marketdata.replay_trades import RouteTaker
from trading.messages import PublicTrade
from trading.ports import Clock

__all__ = ["CycleRow", "ReplayOptions", "ReplayReport", "RouteRow", "replay"]

# Notional a replayed bot may trade when nothing is said: more than any book holds.
NO_LIMIT = Decimal(10) ** 15
MAX_NOTES = 20


class ReplayOptions(msgspec.Struct, frozen=True, kw_only=True):
    """What to ask of the recording.

    ``fee_bps`` is charged on each leg's notional, ``min_edge_bps`` is the net edge a trade must have, ``max_notional``
    the most a trade may buy (quote).
    """

    fee_bps: float = 10.0
    min_edge_bps: float = 0.0
    max_notional: Decimal = NO_LIMIT
    equal: AssetEquivalence = NO_EQUIVALENCE

    def __post_init__(self) -> None:
        if not (math.isfinite(self.fee_bps) and 0 <= self.fee_bps < 10_000):
            raise ValueError(f"fee-bps: must be at least 0 and below 10000 (given {self.fee_bps})")
        if not (math.isfinite(self.min_edge_bps) and 0 <= self.min_edge_bps < 10_000):
            raise ValueError(f"min-edge-bps: must be at least 0 and below 10000 (given {self.min_edge_bps})")
        if not (self.max_notional.is_finite() and self.max_notional > 0):
            raise ValueError(f"max-notional: must be above 0 (given {self.max_notional})")


class RouteRow(msgspec.Struct, frozen=True, kw_only=True):
    """One ordered pair of markets. Edge figures are before fees, trades and ``net`` (in ``quote``) after them."""

    buy: str
    sell: str
    overlap_seconds: float
    episodes: int
    seconds_in_profit: float
    share: float
    best_bps: float | None
    trades: int
    net: float
    quote: str


class CycleRow(msgspec.Struct, frozen=True, kw_only=True):
    """One three-leg cycle of an exchange, from the best prices and before fees. ``assets`` is USDT>BTC>BCH>USDT.

    ``best_ns`` is when the best edge was first seen, ``states`` how many the median is of, ``intervals`` when the
    episodes were; they are not printed.
    """

    exchange: str
    assets: str
    overlap_seconds: float
    episodes: int
    seconds_in_profit: float
    share: float
    best_bps: float | None
    median_bps: float | None
    best_ns: int
    states: int
    intervals: tuple[Episode, ...]


class ReplayReport(msgspec.Struct, frozen=True, kw_only=True):
    """Result of a replay. ``messages_per_second`` is how fast it ran; ``notes`` says what the figures leave out."""

    messages: int
    bad_messages: int
    sequence_gaps: int
    messages_per_second: float
    routes: tuple[RouteRow, ...]
    notes: tuple[str, ...] = ()
    cycles: tuple[CycleRow, ...] = ()


class _ReplayClock:
    """The recording's time: that of the record being played."""

    def __init__(self) -> None:
        self.now_ns = 0

    def monotonic_ns(self) -> int:
        return self.now_ns

    def time_ns(self) -> int:
        return self.now_ns

    async def sleep(self, seconds: float) -> None:
        raise RuntimeError("a replay does not wait")


class _ReplayFeed:
    """A recording as a feed of the hub: its books change while the replay plays, not by themselves."""

    def __init__(self, sources: Sequence[ReplaySource]) -> None:
        self._sources = sources

    def add(self, market: Market) -> Book:
        return next(source.books[market.key] for source in self._sources if market.key in source.books)

    def remove(self, key: str) -> None:
        """A recording goes on whether anybody listens or not."""

    async def run(self) -> None:
        await asyncio.Event().wait()

    def counters(self) -> Mapping[str, int | float]:
        return {}


class _Session:
    """Between the decoders and the hub: statistics and trades see what the hub sees."""

    def __init__(self, sources: Sequence[ReplaySource], options: ReplayOptions, clock: _ReplayClock) -> None:
        markets = tuple(market for source in sources for market in source.markets)
        self._clock = clock
        self.routes = two_leg_routes(markets, options.equal)
        self.statistics = EdgeStatistics(self.routes, markets)
        self.cycles = []
        for cycle in three_leg_cycles(markets):
            followed = tuple(leg.market for leg in cycle.legs)
            edge = CycleEdge(cycle, tuple(map(self.statistics.top, followed)), self.statistics.quotes(cycle.exchange))
            self.statistics.follow(edge, followed)
            self.cycles.append(edge)
        for source in sources:
            source.connect(self)
        self.hub = MarketHub(clock, lambda exchange, sink: _ReplayFeed(sources))
        for market in markets:
            self.hub.subscribe(market, self._on_change, debounce=Debounce())
        self.detector = Detector(lambda market: self.hub.state(market.key), clock)
        self.detector.add_bot(
            BotConfig(
                bot_id=1,
                name="replay",
                mode="paper",
                markets=markets,
                accounts={},
                min_net_edge_bps=options.min_edge_bps,
                max_trade_notional=options.max_notional,
            ),
            options.equal,
        )
        limits = Limits(min_net_bps=options.min_edge_bps, max_notional=float(options.max_notional))
        self.takers: dict[tuple[str, str], RouteTaker] = {}
        # When each trade of a route was taken, and its net. Where the overlap ends shows only at the end.
        self.trades: dict[tuple[str, str], list[tuple[int, float]]] = {}
        self._takers_through: dict[str, list[RouteTaker]] = {}
        for route in self.routes:
            buy, sell = route.buy.key, route.sell.key
            taker = RouteTaker(route, self.hub.state(buy).book, self.hub.state(sell).book, limits)
            self.takers[buy, sell] = taker
            self.trades[buy, sell] = []
            for key in (buy, sell):
                self._takers_through.setdefault(key, []).append(taker)

    # FeedSink

    def on_book(self, book: Book) -> None:
        self.statistics.on_book(book.key, book.bids.best, book.asks.best, self._clock.now_ns)
        for taker in self._takers_through.get(book.key, ()):
            taker.on_book(book.key)
        self.hub.on_book(book)

    def on_top(
        self, key: str, bid: float, bid_size: float, ask: float, ask_size: float, exchange_ns: int, received_ns: int
    ) -> None:
        self.statistics.on_stream(key, bid, ask, received_ns)
        self.hub.on_top(key, bid, bid_size, ask, ask_size, exchange_ns, received_ns)

    def on_trade(self, trade: PublicTrade) -> None:
        self.hub.on_trade(trade)

    def on_funding(self, funding: Funding) -> None:
        self.hub.on_funding(funding)

    def on_status(self, key: str, status: str, reason: str) -> None:
        if status != LIVE:
            self.statistics.on_lost(key, self._clock.now_ns)
        self.hub.on_status(key, status, reason)

    def _on_change(self, state: MarketState) -> None:
        for found in self.detector.on_change(state.key):
            buy, sell = self.hub.state(found.buy.market), self.hub.state(found.sell.market)
            quote = self.takers[buy.key, sell.key].take((buy.ask, buy.ask_size), (sell.bid, sell.bid_size))
            if quote is not None:
                self.trades[buy.key, sell.key].append((self._clock.now_ns, quote.net_profit))


async def replay(sources: Sequence[ReplaySource], options: ReplayOptions, clock: Clock) -> ReplayReport:
    """Play recordings and report. ``clock`` only tells how fast it went.

    Raises
    ------
    NotARecording
        If not one record of any file could be read, or they give no price of any market.
    """
    fee = Decimal(repr(options.fee_bps)) / 10_000
    for source in sources:
        source.markets = tuple(msgspec.structs.replace(market, taker_fee=fee) for market in source.markets)
    recorded = _ReplayClock()
    session = _Session(sources, options, recorded)
    started = clock.monotonic_ns()
    messages = 0
    for received_ns, _, source, record in heapq.merge(*map(_stamped, range(len(sources)), sources)):
        recorded.now_ns = received_ns
        source.play(record)
        messages += 1
    seconds = (clock.monotonic_ns() - started) / 1e9
    if session.hub.listener_errors:
        raise RuntimeError(f"detection failed {session.hub.listener_errors} times during the replay; see the log")
    if not messages:
        raise NotARecording("; ".join(source.damage for source in sources if source.damage) or "nothing was recorded")
    if not any(state.received_ns for state in session.hub.states()):
        raise NotARecording("; ".join(source.fruitless for source in sources))
    counters = [source.counters for source in sources]
    report = ReplayReport(
        messages=messages,
        bad_messages=sum(one["bad_messages"] for one in counters),
        sequence_gaps=sum(one["sequence_gaps"] for one in counters),
        messages_per_second=round(messages / seconds, 1) if seconds > 0 else 0.0,
        routes=tuple(_rows(session)),
        notes=tuple(_notes(sources, session, options)[:MAX_NOTES]),
        cycles=tuple(map(_cycle_row, session.cycles)),
    )
    await session.hub.close()
    return report


def _rows(session: _Session) -> Iterator[RouteRow]:
    for edge in session.statistics.edges:
        trades = session.trades[edge.route.buy.key, edge.route.sell.key]
        nets = [net for taken_ns, net in trades if taken_ns <= edge.overlap_end_ns]
        yield RouteRow(
            buy=edge.route.buy.key,
            sell=edge.route.sell.key,
            overlap_seconds=edge.overlap_seconds,
            episodes=edge.episodes,
            seconds_in_profit=edge.seconds_in_profit,
            share=edge.share,
            best_bps=edge.best_bps,
            trades=len(nets),
            net=sum(nets, 0.0),
            quote=edge.route.quote,
        )


def _cycle_row(edge: CycleEdge) -> CycleRow:
    return CycleRow(
        exchange=edge.cycle.exchange,
        assets=edge.cycle.path,
        overlap_seconds=edge.overlap_seconds,
        episodes=len(edge.episodes),
        seconds_in_profit=edge.seconds_in_profit,
        share=edge.share,
        best_bps=edge.best_bps,
        median_bps=edge.median_bps,
        best_ns=edge.best_ns,
        states=edge.states,
        intervals=edge.episodes,
    )


def _notes(sources: Sequence[ReplaySource], session: _Session, options: ReplayOptions) -> list[str]:
    """Say what is not in the figures: damaged files, books that never came together, pairs not compared."""
    notes = [f"read in part: {source.damage}" for source in sources if source.damage]
    notes += [
        f"read as a bad message: {source.recording.wrong_line}" for source in sources if source.recording.wrong_line
    ]
    notes += [
        f"{state.key}: no whole book at the end ({state.reason})"
        for state in session.hub.states()
        if state.status != LIVE
    ]
    for source in sources:
        notes += source.notes
        notes += [f"{source.recording.path}: bad message, {count} times: {why}" for why, count in source.bad_reasons]
    markets = [market for source in sources for market in source.markets]
    for one, other in combinations(markets, 2):
        if one.base == other.base and (refusal := route_refusal(one, other, options.equal)):
            notes.append(f"not compared: {refusal}")
    return notes


def _stamped(order: int, source: ReplaySource) -> Iterator[tuple[int, int, ReplaySource, Record]]:
    for record in source.records():
        yield record.received_ns, order, source, record
