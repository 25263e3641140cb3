"""One market of one exchange: its book, its tape of trades, its day's figures."""

from __future__ import annotations

from collections import deque
from collections.abc import Iterable
from dataclasses import dataclass
from decimal import Decimal
from functools import reduce

from exchangesim.core.book import Book
from exchangesim.core.orders import ZERO, PublicTrade, Side
from exchangesim.core.rules import SymbolRules

MINUTE_MS = 60_000


@dataclass(slots=True)
class Candle:
    """One minute of trades."""

    open_ms: int
    open: Decimal
    high: Decimal
    low: Decimal
    close: Decimal
    volume: Decimal = ZERO
    quote_volume: Decimal = ZERO
    trades: int = 0
    taker_buy_volume: Decimal = ZERO
    taker_buy_quote_volume: Decimal = ZERO

    def add(self, trade: PublicTrade) -> None:
        self.high = max(self.high, trade.price)
        self.low = min(self.low, trade.price)
        self.close = trade.price
        amount = trade.price * trade.quantity
        self.volume += trade.quantity
        self.quote_volume += amount
        self.trades += 1
        if trade.taker_side is Side.BUY:
            self.taker_buy_volume += trade.quantity
            self.taker_buy_quote_volume += amount

    def joined(self, later: Candle) -> Candle:
        """Return this candle and a later one as one."""
        return Candle(
            open_ms=self.open_ms,
            open=self.open,
            high=max(self.high, later.high),
            low=min(self.low, later.low),
            close=later.close,
            volume=self.volume + later.volume,
            quote_volume=self.quote_volume + later.quote_volume,
            trades=self.trades + later.trades,
            taker_buy_volume=self.taker_buy_volume + later.taker_buy_volume,
            taker_buy_quote_volume=self.taker_buy_quote_volume + later.taker_buy_quote_volume,
        )


class SimMarket:
    """State of one market. ``SimExchange`` is what changes it; faces read it."""

    def __init__(self, rules: SymbolRules, *, last_price: Decimal, tape: int = 1000) -> None:
        self.rules = rules
        self.book = Book()
        self.last_price = last_price
        self.band_price: Decimal | None = None
        """What limit prices must not be too far from; None: the last price."""
        self.trades: deque[PublicTrade] = deque(maxlen=tape)
        """The newest public trades, oldest first."""
        self.candles: deque[Candle] = deque(maxlen=24 * 60)
        self.update_id = 0
        """Id of the newest published level change."""
        self.halted = False
        self.top: tuple[Decimal, Decimal, Decimal, Decimal] | None = None
        """Published best bid, its quantity, best ask, its quantity; None while a side is empty."""
        self.changed_ms = 0

    @property
    def native(self) -> str:
        return self.rules.native

    @property
    def mid(self) -> Decimal:
        """Middle of best bid and ask, or the last price when a side is empty."""
        bid, ask = self.book.bids.best, self.book.asks.best
        return self.last_price if bid is None or ask is None else (bid + ask) / 2

    def compute_top(self) -> tuple[Decimal, Decimal, Decimal, Decimal] | None:
        bids, asks = self.book.bids.top(1), self.book.asks.top(1)
        return (*bids[0], *asks[0]) if bids and asks else None

    def record(self, trades: Iterable[PublicTrade]) -> None:
        """Put trades on the tape and into the day's figures."""
        for trade in trades:
            self.trades.append(trade)
            self.last_price = trade.price
            minute = trade.time_ms - trade.time_ms % MINUTE_MS
            if not self.candles or self.candles[-1].open_ms != minute:
                self.candles.append(Candle(minute, trade.price, trade.price, trade.price, trade.price))
            self.candles[-1].add(trade)

    def day(self, now_ms: int) -> Candle:
        """Return the last 24 hours as one candle (of the time the simulator has run)."""
        since = now_ms - 24 * 60 * MINUTE_MS
        kept = [candle for candle in self.candles if candle.open_ms >= since]
        if not kept:
            price = self.last_price
            return Candle(now_ms, price, price, price, price)
        return reduce(Candle.joined, kept)
