"""How long, how often and how much a three-leg cycle was in profit, before fees and regardless of depth.

The overlap of a cycle runs from the moment all three markets have quoted to the last quote of the exchange: the three
are of one exchange and one recording, so a market that falls silent before the end still stands there (two recordings
of a two-leg route may end at different times). A state is what the cycle's best prices are after a quote of any
replayed market of the exchange, and the median is over these states: quiet times count by what passes on the exchange.
"""

from __future__ import annotations

from typing import NamedTuple

from trading.arbitrage.cycles import Cycle, gross_rate
from trading.arbitrage.depth import BPS
from trading.marketdata.replay_statistics import NS, ExchangeQuotes, TopOfMarket

__all__ = ["CycleEdge", "Episode"]


class Episode(NamedTuple):
    """A maximal interval of edge above zero."""

    start_ns: int
    end_ns: int


class CycleEdge:
    """Statistics of one cycle; ``tops`` are in the order of its legs, ``quotes`` those of its exchange."""

    __slots__ = (
        "_counts", "_rate", "_since", "_tops", "best_ns", "best_rate", "cycle", "finished", "profit_start_ns", "quotes",
        "start_ns",
    )  # fmt: skip

    def __init__(self, cycle: Cycle, tops: tuple[TopOfMarket, ...], quotes: ExchangeQuotes) -> None:
        self.cycle = cycle
        self.quotes = quotes
        self._tops = tops
        self.restart()

    def restart(self) -> None:
        """Forget everything: a market turned out to publish its best prices itself."""
        self.start_ns: int | None = None
        self.finished: list[Episode] = []
        self.profit_start_ns: int | None = None
        self.best_rate: float | None = None
        self.best_ns = 0
        self._rate: float | None = None
        self._since = 0  # the state since which the rate holds
        self._counts: dict[float, int] = {}  # states by rate

    def on_quote(self, top: TopOfMarket, now_ns: int) -> None:
        """Take the new best prices of one of the three markets, already counted in ``quotes``."""
        rate = gross_rate(self.cycle, self._tops)
        if self.start_ns is None:
            if rate is None:
                return
            self.start_ns = now_ns
        if rate == self._rate:
            return
        self._count_states(self.quotes.count - self._since)
        self._rate, self._since = rate, self.quotes.count
        if rate is not None and (self.best_rate is None or rate > self.best_rate):
            self.best_rate, self.best_ns = rate, now_ns
        profit = rate is not None and rate > 1.0
        if profit and self.profit_start_ns is None:
            self.profit_start_ns = now_ns
        elif not profit and self.profit_start_ns is not None:
            self.finished.append(Episode(self.profit_start_ns, now_ns))
            self.profit_start_ns = None

    def _count_states(self, states: int) -> None:
        if self._rate is not None and states:
            self._counts[self._rate] = self._counts.get(self._rate, 0) + states

    @property
    def episodes(self) -> tuple[Episode, ...]:
        if self.profit_start_ns is None:
            return tuple(self.finished)
        return (*self.finished, Episode(self.profit_start_ns, self.quotes.last_ns))

    @property
    def overlap_seconds(self) -> float:
        return 0.0 if self.start_ns is None else (self.quotes.last_ns - self.start_ns) / NS

    @property
    def seconds_in_profit(self) -> float:
        return sum(episode.end_ns - episode.start_ns for episode in self.episodes) / NS

    @property
    def share(self) -> float:
        """Fraction of the overlap in profit."""
        overlap = self.overlap_seconds
        return self.seconds_in_profit / overlap if overlap else 0.0

    @property
    def best_bps(self) -> float | None:
        """Highest edge seen, negative if it never paid; None if the three markets never quoted together."""
        return None if self.best_rate is None else (self.best_rate - 1.0) * BPS

    @property
    def states(self) -> int:
        """States in which all three markets had quoted."""
        return sum(self._states().values())

    @property
    def median_bps(self) -> float | None:
        """Median edge over the states; None if there were none."""
        counts = self._states()
        total = sum(counts.values())
        if not total:
            return None
        middle, passed = [], 0
        wanted = ((total - 1) // 2, total // 2)
        for rate in sorted(counts):
            middle += [rate for index in wanted if passed <= index < passed + counts[rate]]
            passed += counts[rate]
        return (sum(middle) / 2 - 1.0) * BPS

    def _states(self) -> dict[float, int]:
        counts = dict(self._counts)
        if self._rate is not None:
            counts[self._rate] = counts.get(self._rate, 0) + self.quotes.count - self._since + 1
        return counts
