"""How long, how often and how much a pair of markets was in profit, before fees and regardless of depth.

The edge of buying on one market and selling on another is ``bid of the sold / ask of the bought - 1``, from the best
prices last published on each. The overlap of a pair runs from the moment both have quoted to the last quote of the one
that ends first; an episode is a maximal interval of edge above zero within it. Intervals end at the quote that closes
them, so times are those of receipt, to the nanosecond.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Protocol

from trading.arbitrage.routes import Route
from trading.instruments import Market

__all__ = ["Edge", "EdgeStatistics", "ExchangeQuotes", "RouteEdge", "TopOfMarket"]

NS = 1_000_000_000


class ExchangeQuotes:
    """How often the markets of an exchange have quoted, and when last."""

    __slots__ = ("count", "last_ns")

    def __init__(self) -> None:
        self.count = 0
        self.last_ns = 0


class TopOfMarket:
    """Best prices of one market as its statistics see them.

    They come from the exchange's own best-price stream where the recording has one, else from the book.
    """

    __slots__ = ("ask", "bid", "from_stream", "key", "quotes")

    def __init__(self, key: str, quotes: ExchangeQuotes) -> None:
        self.key = key
        self.bid = 0.0
        self.ask = 0.0
        self.from_stream = False
        self.quotes = quotes


class Edge(Protocol):
    """Statistics that follow the best prices of some markets."""

    def restart(self) -> None:
        """Forget everything: a market turned out to publish its best prices itself."""

    def on_quote(self, top: TopOfMarket, now_ns: int) -> None:
        """Take the new best prices of one of the markets."""


class _Tally:
    __slots__ = ("best", "episodes", "in_profit", "last_ns", "profit_ns")

    def __init__(self) -> None:
        self.episodes = 0
        self.profit_ns = 0
        self.in_profit = False
        self.best: float | None = None  # ratio of bid to ask
        self.last_ns = 0

    def copy_from(self, other: _Tally) -> None:
        self.episodes = other.episodes
        self.profit_ns = other.profit_ns
        self.in_profit = other.in_profit
        self.best = other.best
        self.last_ns = other.last_ns


class RouteEdge:
    """Statistics of one ordered pair of markets."""

    __slots__ = ("_running", "_settled", "_turn", "buy", "route", "sell", "start_ns")

    def __init__(self, route: Route, buy: TopOfMarket, sell: TopOfMarket) -> None:
        self.route = route
        self.buy = buy
        self.sell = sell
        self.restart()

    def restart(self) -> None:
        """Forget everything: a market turned out to publish its best prices itself."""
        self.start_ns: int | None = None
        # What one market quotes after the other's last quote lies outside the overlap, and which quote was the last
        # shows only later. So the running tally is settled whenever the other market quotes again.
        self._running = _Tally()
        self._settled = _Tally()
        self._turn: TopOfMarket | None = None

    def on_quote(self, top: TopOfMarket, now_ns: int) -> None:
        """Take the new best prices of one of the two markets."""
        running = self._running
        if self._turn is not top:
            if self._turn is not None and self.start_ns is not None:
                self._settled.copy_from(running)
            self._turn = top
        if self.start_ns is None:
            if not (self.buy.ask and self.sell.bid):
                return
            self.start_ns = running.last_ns = self._settled.last_ns = now_ns
        if running.in_profit:
            running.profit_ns += now_ns - running.last_ns
        running.last_ns = now_ns
        bid, ask = self.sell.bid, self.buy.ask
        if not (bid and ask):  # a side is empty, or its book was lost
            running.in_profit = False
            return
        ratio = bid / ask
        if running.best is None or ratio > running.best:
            running.best = ratio
        profit = bid > ask
        if profit and not running.in_profit:
            running.episodes += 1
        running.in_profit = profit

    @property
    def overlap_seconds(self) -> float:
        return self._overlap_ns / NS

    @property
    def episodes(self) -> int:
        return self._settled.episodes

    @property
    def seconds_in_profit(self) -> float:
        return self._settled.profit_ns / NS

    @property
    def share(self) -> float:
        """Fraction of the overlap in profit."""
        return self._settled.profit_ns / self._overlap_ns if self._overlap_ns else 0.0

    @property
    def overlap_end_ns(self) -> int:
        """When the overlap ended; 0 if the markets never overlapped."""
        return self._settled.last_ns if self._overlap_ns else 0

    @property
    def _overlap_ns(self) -> int:
        return 0 if self.start_ns is None else self._settled.last_ns - self.start_ns

    @property
    def best_bps(self) -> float | None:
        """Highest edge seen in the overlap, negative if it never paid; None if the markets never overlapped."""
        best = self._settled.best
        return None if best is None else (best - 1.0) * 1e4


class EdgeStatistics:
    """The statistics of a replay: best prices by market, and the edges that follow them.

    ``markets`` are all markets of the replay; edges of other kinds are told of them by :meth:`follow`.
    """

    def __init__(self, routes: Iterable[Route], markets: Iterable[Market] = ()) -> None:
        self._tops: dict[str, TopOfMarket] = {}
        self._quotes: dict[str, ExchangeQuotes] = {}
        self._edges: dict[str, list[Edge]] = {}
        self.edges: list[RouteEdge] = []
        for market in markets:
            self.top(market)
        for route in routes:
            edge = RouteEdge(route, self.top(route.buy), self.top(route.sell))
            self.edges.append(edge)
            self.follow(edge, (route.buy, route.sell))

    def top(self, market: Market) -> TopOfMarket:
        """Return where a market's best prices stand."""
        top = self._tops.get(market.key)
        if top is None:
            top = self._tops[market.key] = TopOfMarket(market.key, self.quotes(market.exchange))
            self._edges[market.key] = []
        return top

    def quotes(self, exchange: str) -> ExchangeQuotes:
        """Return the count of an exchange's quotes."""
        return self._quotes.setdefault(exchange, ExchangeQuotes())

    def follow(self, edge: Edge, markets: Iterable[Market]) -> None:
        """Tell ``edge`` of every quote of these markets."""
        for market in markets:
            self.top(market)
            self._edges[market.key].append(edge)

    def on_book(self, key: str, bid: float, ask: float, now_ns: int) -> None:
        """Take a book's best prices; they count until the market publishes its best prices itself."""
        top = self._tops.get(key)
        if top is not None and not top.from_stream:
            self._quote(top, bid, ask, now_ns)

    def on_stream(self, key: str, bid: float, ask: float, now_ns: int) -> None:
        """Take best prices as the exchange published them."""
        top = self._tops.get(key)
        if top is None:
            return
        if not top.from_stream:
            top.from_stream = True
            for edge in self._edges[key]:
                edge.restart()
        self._quote(top, bid, ask, now_ns)

    def on_lost(self, key: str, now_ns: int) -> None:
        """Take back a book's prices: it may not be read until it is whole again."""
        top = self._tops.get(key)
        if top is not None and not top.from_stream and (top.bid or top.ask):
            self._quote(top, 0.0, 0.0, now_ns)

    def _quote(self, top: TopOfMarket, bid: float, ask: float, now_ns: int) -> None:
        top.bid, top.ask = bid, ask
        top.quotes.count += 1
        top.quotes.last_ns = now_ns
        for edge in self._edges[top.key]:
            edge.on_quote(top, now_ns)
