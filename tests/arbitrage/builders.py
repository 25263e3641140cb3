"""Markets, books and states for the tests of detection."""

from __future__ import annotations

from dataclasses import dataclass
from decimal import Decimal

from trading.instruments import Market, MarketKind
from trading.marketdata.book import Book, BookSide

D = Decimal
Levels = list[tuple[float, float]]


def market(exchange: str = "one", symbol: str = "BTC/USDT", **changes: object) -> Market:
    pair, _, settle = symbol.partition(":")
    base, quote = pair.split("/")
    kind: MarketKind = "spot" if not settle else ("inverse" if settle == base else "linear")
    values: dict[str, object] = {
        "exchange": exchange,
        "symbol": symbol,
        "native_id": base + quote,
        "base": base,
        "quote": quote,
        "settle": settle or None,
        "kind": kind,
        "tick": D("0.01"),
        "lot": D("0.001") if kind == "spot" else D(1),
        "taker_fee": D(0),
    }
    return Market(**{**values, **changes})  # type: ignore[arg-type]


def side(sign: int, levels: Levels) -> BookSide:
    made = BookSide(sign)
    made.replace(levels)
    return made


def asks(levels: Levels) -> BookSide:
    return side(-1, levels)


def bids(levels: Levels) -> BookSide:
    return side(+1, levels)


@dataclass
class State:
    """A hub's state of one market, as the detector reads it."""

    market: Market
    book: Book
    bid: float = 0.0
    bid_size: float = 0.0
    ask: float = 0.0
    ask_size: float = 0.0
    received_monotonic_ns: int = 0
    status: str = "live"

    def show(self, bid_levels: Levels, ask_levels: Levels) -> None:
        """Put levels into the book and take its best prices over, as a hub does."""
        self.book.bids.replace(bid_levels)
        self.book.asks.replace(ask_levels)
        self.book.ready = True
        self.bid, self.bid_size = self.book.bids.best, self.book.bids.best_size
        self.ask, self.ask_size = self.book.asks.best, self.book.asks.best_size


def state(of: Market) -> State:
    return State(of, Book(of))
