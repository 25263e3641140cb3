"""Synthetic frames of one asset on four exchanges: the same bytes in every run.

Each frame changes ten levels a side near the touch. The exchanges' prices wander around one fair price with a lag of
their own, so that now and then one pair of them pays its fees.
"""

from __future__ import annotations

import json
import random
from dataclasses import dataclass, field

from trading.instruments import Market

TICK = 0.01
FAIR = 20_000.0  # ticks; 2 of them are a basis point
STEP = 0.6  # ticks the fair price moves at most between two frames of a pair
LAG = 5.0  # standard deviation, in ticks, of an exchange's price around the fair one
LEVELS = 50  # a side, at the start; books keep at most twice that
CHANGES = 10  # a side and frame
EXCHANGE_MS = 1_723_161_255_208


@dataclass(frozen=True)
class Message:
    """What an exchange sends: a frame of its socket, or the body of a snapshot of one market."""

    market: Market
    data: bytes
    is_snapshot: bool = False


@dataclass
class QuotedMarket:
    """One market as its exchange has it, and the frames that tell of it."""

    market: Market
    source: random.Random
    sequence: int = 1_000
    sides: tuple[dict[int, int], dict[int, int]] = field(default_factory=lambda: ({}, {}))

    def opening(self) -> list[Message]:
        """Return what brings a book to life: the exchange's own snapshot, or a REST one and the diff before it."""
        for index, side in enumerate(self.sides):
            for distance in range(1, LEVELS + 1):
                side[round(FAIR) + (distance if index else -distance)] = 50_000
        bids, asks = ([_level(price, size) for price, size in side.items()] for side in self.sides)
        if self.market.exchange == "okx":
            return [Message(self.market, self._okx("snapshot", bids, asks, -1))]
        if self.market.exchange == "bybit":
            return [Message(self.market, self._bybit("snapshot", bids, asks))]
        first = self._binance([], [])
        snapshot = _dump({"lastUpdateId": self.sequence, "bids": bids, "asks": asks})
        return [Message(self.market, first), Message(self.market, snapshot, is_snapshot=True)]

    def moved_to(self, fair: int) -> Message:
        """Put the touch around ``fair`` and change levels near it."""
        bids, asks = self._changes(0, fair), self._changes(1, fair)
        if self.market.exchange == "okx":
            return Message(self.market, self._okx("update", bids, asks, self.sequence))
        if self.market.exchange == "bybit":
            return Message(self.market, self._bybit("delta", bids, asks))
        return Message(self.market, self._binance(bids, asks))

    def _changes(self, index: int, fair: int) -> list[list[str]]:
        side, out = self.sides[index], 1 if index else -1
        changed = {price: 0 for price in side if (price - fair) * out < 1}
        distance = 0
        while len(changed) < CHANGES or distance == 0:
            distance += 1
            price = fair + out * distance
            if distance == 1 or self.source.random() < 0.6:
                changed[price] = self.source.randint(1_000, 90_000)
        for price, size in changed.items():
            if size:
                side[price] = size
            else:
                del side[price]
        while len(side) > 2 * LEVELS:
            far = max(side) if index else min(side)
            del side[far]
            changed[far] = 0
        return [_level(price, size) for price, size in changed.items()]

    def _binance(self, bids: list[list[str]], asks: list[list[str]]) -> bytes:
        previous, self.sequence = self.sequence, self.sequence + 7
        native = self.market.native_id
        data = {
            "e": "depthUpdate",
            "E": EXCHANGE_MS,
            "s": native,
            "U": previous + 1,
            "u": self.sequence,
            **({"pu": previous} if self.market.kind != "spot" else {}),
            "b": bids,
            "a": asks,
        }
        return _dump({"stream": f"{native.lower()}@depth@100ms", "data": data})

    def _okx(self, action: str, bids: list[list[str]], asks: list[list[str]], previous: int) -> bytes:
        self.sequence += 7
        data = {
            "asks": [[*level, "0", "1"] for level in asks],
            "bids": [[*level, "0", "1"] for level in bids],
            "ts": str(EXCHANGE_MS),
            "checksum": 0,
            "prevSeqId": previous,
            "seqId": self.sequence,
        }
        return _dump({"arg": {"channel": "books", "instId": self.market.native_id}, "action": action, "data": [data]})

    def _bybit(self, kind: str, bids: list[list[str]], asks: list[list[str]]) -> bytes:
        self.sequence += 1
        native = self.market.native_id
        data = {"s": native, "b": bids, "a": asks, "u": self.sequence, "seq": self.sequence}
        return _dump(
            {"topic": f"orderbook.200.{native}", "type": kind, "ts": EXCHANGE_MS, "data": data, "cts": EXCHANGE_MS}
        )


def make_messages(
    markets_by_pair: list[list[Market]], frames: int, active: int, seed: int = 11
) -> tuple[list[Message], list[Message]]:
    """Return the messages that open every book, and ``frames`` that follow; the first ``active`` pairs take turns."""
    source = random.Random(seed)
    quoted = [[QuotedMarket(market, source) for market in markets] for markets in markets_by_pair]
    opening = [message for pair in quoted for one in pair for message in one.opening()]
    fair = [FAIR] * active
    following = []
    for turn in range(frames):
        number = turn % active
        fair[number] += source.uniform(-STEP, STEP)
        following.append(source.choice(quoted[number]).moved_to(round(fair[number] + source.gauss(0, LAG))))
    return opening, following


def _dump(value: object) -> bytes:
    return json.dumps(value, separators=(",", ":")).encode()


def _level(price: int, size: int) -> list[str]:
    return [f"{price * TICK:.2f}", f"{size / 1000:.3f}"]
