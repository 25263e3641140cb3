"""Frames as the exchanges write them, made up for tests, and a judge of what protocols report."""

from __future__ import annotations

import json
import math
from typing import Any, Protocol
from zlib import crc32

from trading.basis import Funding
from trading.exchanges.binance.protocol import BinanceProtocol
from trading.exchanges.bybit.protocol import BybitProtocol
from trading.exchanges.okx.protocol import OkxProtocol
from trading.instruments import Market, MarketKind
from trading.marketdata.book import Book
from trading.messages import PublicTrade

Levels = list[list[str]]


class JudgingSink:
    """Takes reports and fails for any that a trader must never see."""

    def __init__(self) -> None:
        self.books: list[tuple[str, int]] = []
        self.tops: list[tuple[Any, ...]] = []
        self.trades: list[PublicTrade] = []
        self.statuses: list[tuple[str, str, str]] = []
        self.fundings: list[Funding] = []

    def on_book(self, book: Book) -> None:
        assert book.ready
        assert_sound(book)
        self.books.append((book.key, book.update_id))

    def on_top(
        self, key: str, bid: float, bid_size: float, ask: float, ask_size: float, exchange_ns: int, received_ns: int
    ) -> None:
        for figure in (bid, bid_size, ask, ask_size):
            assert math.isfinite(figure)
            assert figure >= 0
        assert not bid >= ask > 0
        assert 0 <= exchange_ns < 2**63
        self.tops.append((key, bid, bid_size, ask, ask_size))

    def on_trade(self, trade: PublicTrade) -> None:
        assert trade.price > 0
        assert math.isfinite(trade.price)
        assert math.isfinite(trade.size)
        assert trade.side in ("buy", "sell")
        self.trades.append(trade)

    def on_funding(self, funding: Funding) -> None:
        self.fundings.append(funding)

    def on_status(self, key: str, status: str, reason: str) -> None:
        assert status in ("connecting", "live", "stale", "down")
        assert (status == "live") == (reason == "")
        self.statuses.append((key, status, reason))


def assert_sound(book: Book) -> None:
    """A book that says it is ready is uncrossed, holds only finite positive numbers, and knows its best prices."""
    if not book.ready:
        return
    assert not book.crossed
    for side in (book.bids, book.asks):
        levels = list(side.levels())
        assert all(math.isfinite(price) and price > 0 and math.isfinite(size) and size > 0 for price, size in levels)
        assert levels == sorted(levels, reverse=side.sign > 0)
        assert (side.best, side.best_size) == (levels[0] if levels else (0.0, 0.0))


def dump(value: Any) -> bytes:
    return json.dumps(value, separators=(",", ":")).encode()


def spot(native_id: str, kind: MarketKind = "spot") -> Market:
    return Market(exchange="x", symbol=native_id, native_id=native_id, base="A", quote="B", kind=kind)


class Scenario(Protocol):
    """One exchange's protocol with a book made ready."""

    protocol: Any
    sink: JudgingSink
    book: Book

    def diff(self, bids: Levels, asks: Levels) -> bytes:
        """The next frame of the chain."""

    def frames(self) -> list[bytes]:
        """One good frame of every kind, for mutation."""

    def start(self) -> None:
        """Make the book ready again from nothing."""


BIDS: Levels = [["99.9", "1.5"], ["99.8", "2"], ["99.5", "3"]]
ASKS: Levels = [["100.1", "1"], ["100.2", "2.5"], ["100.5", "3"]]


class BinanceScenario:
    def __init__(self, kind: MarketKind = "spot") -> None:
        self.kind = kind
        self.sink = JudgingSink()
        self.protocol = BinanceProtocol(self.sink, kind)
        self.book = self.protocol.add(spot("BTCUSDT", kind))
        self.last = 0
        self.start()

    def start(self) -> None:
        self.last = 1_000
        self.protocol.on_frame(self.diff([], []), 1)
        self.protocol.on_snapshot(self.book.key, self.snapshot(self.last), 2)
        assert self.book.ready

    def snapshot(self, last: int, bids: Levels = BIDS, asks: Levels = ASKS) -> bytes:
        return dump({"lastUpdateId": last, "bids": bids, "asks": asks})

    def event(self, bids: Levels, asks: Levels) -> dict[str, Any]:
        first, previous = self.last + 1, self.last
        self.last += 5
        event = {
            "e": "depthUpdate",
            "E": 1_700_000_000_123,
            "s": "BTCUSDT",
            "U": first,
            "u": self.last,
            "b": bids,
            "a": asks,
        }
        return {**event, "pu": previous} if self.kind != "spot" else event

    def diff(self, bids: Levels, asks: Levels) -> bytes:
        return dump({"stream": "btcusdt@depth@100ms", "data": self.event(bids, asks)})

    def ticker(self, update_id: int, bid: str, ask: str) -> bytes:
        data = {"u": update_id, "s": "BTCUSDT", "b": bid, "B": "1", "a": ask, "A": "2"}
        return dump({"stream": "btcusdt@bookTicker", "data": data})

    def trade(self, price: str, size: str, buyer_is_maker: bool) -> bytes:
        data = {"e": "aggTrade", "E": 1, "s": "BTCUSDT", "a": 7, "p": price, "q": size, "T": 5, "m": buyer_is_maker}
        return dump({"stream": "btcusdt@aggTrade", "data": data})

    def frames(self) -> list[bytes]:
        last = self.last
        frames = [self.diff([["99.9", "0"], ["99.85", "4"]], [["100.1", "7"]]), dump(self.event([], [["100.3", "1"]]))]
        self.last = last
        return [
            *frames,
            self.ticker(last + 3, "99.9", "100.1"),
            self.trade("100", "0.5", True),
            dump({"stream": "btcusdt@depth20@100ms", "data": json.loads(self.snapshot(last + 1))}),
            dump({"result": None, "id": 1}),
            dump({"error": {"code": 2, "msg": "Invalid request"}, "id": 1}),
        ]


class OkxScenario:
    def __init__(self) -> None:
        self.sink = JudgingSink()
        self.protocol = OkxProtocol(self.sink)
        self.book = self.protocol.add(spot("BTC-USDT"))
        self.last = 0
        self.start()

    def start(self) -> None:
        self.last = 500
        self.protocol.on_frame(self.snapshot(), 1)
        assert self.book.ready

    def frame(self, action: str | None, previous: int, bids: Levels, asks: Levels, channel: str = "books") -> bytes:
        data = {
            "asks": [[*level, "0", "1"] for level in asks],
            "bids": [[*level, "0", "1"] for level in bids],
            "ts": "1700000000123",
            "checksum": 0,
            "prevSeqId": previous,
            "seqId": self.last,
        }
        head = {"arg": {"channel": channel, "instId": "BTC-USDT"}}
        return dump({**head, **({"action": action} if action else {}), "data": [data]})

    def snapshot(self) -> bytes:
        return self.frame("snapshot", -1, BIDS, ASKS)

    def diff(self, bids: Levels, asks: Levels) -> bytes:
        previous = self.last
        self.last += 3
        return self.frame("update", previous, bids, asks)

    def top(self, sequence: int, bid: str, ask: str) -> bytes:
        last, self.last = self.last, sequence
        try:
            return self.frame(None, -1, [[bid, "1"]], [[ask, "2"]], channel="bbo-tbt")
        finally:
            self.last = last

    def trade(self) -> bytes:
        data = {"instId": "BTC-USDT", "tradeId": "1", "px": "100", "sz": "0.5", "side": "sell", "ts": "1700000000123"}
        return dump({"arg": {"channel": "trades", "instId": "BTC-USDT"}, "data": [data]})

    def frames(self) -> list[bytes]:
        last = self.last
        update = self.diff([["99.9", "0"]], [["100.15", "7"]])
        self.last = last
        return [
            self.snapshot(),
            update,
            self.top(last + 1, "99.9", "100.1"),
            self.trade(),
            dump({"event": "subscribe", "arg": {"channel": "books", "instId": "BTC-USDT"}}),
            dump({"event": "error", "code": "60012", "msg": "Invalid request"}),
            b"pong",
        ]


class OkxChecksumScenario(OkxScenario):
    """As recordings of 2022 have it: no ids, a CRC32 over the written digits."""

    def __init__(self) -> None:
        self.sides: tuple[dict[str, str], dict[str, str]] = ({}, {})
        super().__init__()

    def start(self) -> None:
        self.sides = ({}, {})
        self.protocol.on_frame(self.checked("snapshot", BIDS, ASKS), 1)
        assert self.book.ready

    def diff(self, bids: Levels, asks: Levels) -> bytes:
        return self.checked("update", bids, asks)

    def checked(self, action: str, bids: Levels, asks: Levels) -> bytes:
        for side, changes in zip(self.sides, (bids, asks), strict=True):
            for price, size in changes:
                side[price] = size
                if float(size) == 0:
                    del side[price]
        bids_first = (
            sorted(self.sides[0].items(), key=lambda level: -float(level[0])),
            sorted(self.sides[1].items(), key=lambda level: float(level[0])),
        )
        parts = [":".join(side[place]) for place in range(25) for side in bids_first if place < len(side)]
        checksum = crc32(":".join(parts).encode())
        data = {
            "asks": [[*level, "0", "1"] for level in asks],
            "bids": [[*level, "0", "1"] for level in bids],
            "ts": "1652459225393",
            "checksum": checksum - 2**32 if checksum >= 2**31 else checksum,
        }
        return dump({"arg": {"channel": "books", "instId": "BTC-USDT"}, "action": action, "data": [data]})

    def frames(self) -> list[bytes]:
        saved = tuple(dict(side) for side in self.sides)
        frame = self.checked("update", [["99.9", "0"]], [["100.15", "7"]])
        self.sides = saved  # type: ignore[assignment]
        return [frame, self.trade()]


class BybitScenario:
    def __init__(self, kind: MarketKind = "spot") -> None:
        self.sink = JudgingSink()
        self.protocol = BybitProtocol(self.sink, kind)
        self.book = self.protocol.add(spot("BTCUSDT", kind))
        self.last = 0
        self.start()

    def start(self) -> None:
        self.last = 700
        self.protocol.on_frame(self.frame("snapshot", BIDS, ASKS), 1)
        assert self.book.ready

    def frame(self, kind: str, bids: Levels, asks: Levels, depth: int = 50, update_id: int | None = None) -> bytes:
        update_id = self.last if update_id is None else update_id
        data = {"s": "BTCUSDT", "b": bids, "a": asks, "u": update_id, "seq": 10 * update_id}
        return dump(
            {
                "topic": f"orderbook.{depth}.BTCUSDT",
                "type": kind,
                "ts": 1_700_000_000_125,
                "data": data,
                "cts": 1_700_000_000_123,
            }
        )

    def diff(self, bids: Levels, asks: Levels) -> bytes:
        self.last += 1
        return self.frame("delta", bids, asks)

    def ticker(self, kind: str, **fields: str) -> bytes:
        data = {"symbol": "BTCUSDT", **fields}
        return dump(
            {"topic": "tickers.BTCUSDT", "type": kind, "data": data, "cs": 10 * self.last, "ts": 1_700_000_000_125}
        )

    def trade(self) -> bytes:
        data = {"T": 1_700_000_000_120, "s": "BTCUSDT", "S": "Sell", "v": "0.5", "p": "100", "i": "x", "BT": False}
        return dump({"topic": "publicTrade.BTCUSDT", "type": "snapshot", "ts": 1, "data": [data]})

    def frames(self) -> list[bytes]:
        last = self.last
        delta = self.diff([["99.9", "0"]], [["100.15", "7"]])
        self.last = last
        return [
            self.frame("snapshot", BIDS, ASKS),
            delta,
            self.frame("snapshot", BIDS[:1], ASKS[:1], depth=1),
            self.ticker("snapshot", bid1Price="99.9", bid1Size="1", ask1Price="100.1", ask1Size="2"),
            self.trade(),
            dump({"success": True, "ret_msg": "", "conn_id": "c", "op": "subscribe"}),
            dump({"success": False, "ret_msg": "error:topic", "op": "subscribe"}),
            dump({"success": True, "ret_msg": "pong", "op": "ping"}),
        ]


SCENARIOS = {
    "binance spot": lambda: BinanceScenario("spot"),
    "binance linear": lambda: BinanceScenario("linear"),
    "binance inverse": lambda: BinanceScenario("inverse"),
    "okx": OkxScenario,
    "okx checksum": OkxChecksumScenario,
    "bybit": BybitScenario,
}
