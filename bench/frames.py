"""Synthetic Binance depth frames: the same bytes for every client of one benchmark run.

The mix follows what the recording of BTC/USDT spot of 2024-08-08 has per diff (40 % new prices, 38 % removals of known
prices, 12 % new sizes, 10 % removals of prices that were not there), and like there most changes are near the touch.
"""

from __future__ import annotations

import json
import random
from dataclasses import dataclass
from itertools import count

NEW, REMOVED, RESIZED = 0.40, 0.38, 0.12  # the rest removes prices the book does not hold
TICK = 0.01
START_LEVELS = 1_000


@dataclass(frozen=True)
class Frames:
    """``snapshots`` by symbol (REST bodies), ``first`` the diff of each that follows, ``diffs`` in sending order."""

    symbols: tuple[str, ...]
    snapshots: dict[str, bytes]
    first: tuple[bytes, ...]
    diffs: tuple[bytes, ...]
    first_ids: dict[str, int]
    last_ids: dict[str, int]
    final_tops: dict[str, tuple[float, float]]
    changes: int  # levels in all of ``first`` and ``diffs``


class _Market:
    def __init__(self, symbol: str, mid: int, source: random.Random) -> None:
        self.symbol = symbol
        self.source = source
        self.mid = mid  # in ticks
        self.update_id = 1_000
        self.changes = 0
        self.sides: tuple[dict[int, str], dict[int, str]] = ({}, {})
        for index, side in enumerate(self.sides):
            while len(side) < START_LEVELS:
                side[self._price(index, START_LEVELS * 2)] = self._size()

    def _price(self, index: int, reach: float) -> int:
        distance = 1 + int(self.source.expovariate(1 / reach))
        return self.mid - distance if index == 0 else self.mid + distance

    def _size(self) -> str:
        return f"{self.source.randint(1, 9_999_999) / 100_000:.8f}"

    def snapshot(self) -> bytes:
        sides = [
            [[_text(price), side[price]] for price in sorted(side, reverse=index == 0)]
            for index, side in enumerate(self.sides)
        ]
        return json.dumps(
            {"lastUpdateId": self.update_id, "bids": sides[0], "asks": sides[1]}, separators=(",", ":")
        ).encode()

    def diff(self, most: int) -> bytes:
        """Change 1 to ``most`` levels a side."""
        first = self.update_id + 1
        sides = [self._changes(index, self.source.randint(1, most)) for index in (0, 1)]
        self.changes += len(sides[0]) + len(sides[1])
        self.update_id += len(sides[0]) + len(sides[1])
        data = {
            "e": "depthUpdate",
            "E": 1_723_161_255_208 + self.update_id,
            "s": self.symbol,
            "U": first,
            "u": self.update_id,
            "b": sides[0],
            "a": sides[1],
        }
        return json.dumps(
            {"stream": f"{self.symbol.lower()}@depth@100ms", "data": data}, separators=(",", ":")
        ).encode()

    def _changes(self, index: int, levels: int) -> list[list[str]]:
        side = self.sides[index]
        changed: dict[int, str] = {}
        while len(changed) < levels:
            draw = self.source.random()
            price = self._price(index, 200)
            if draw < NEW:
                if price not in side:
                    changed[price] = self._size()
            elif draw < NEW + REMOVED + RESIZED:
                known = self._near(index, price)
                if known is not None and known not in changed:
                    changed[known] = "0.00000000" if draw < NEW + REMOVED else self._size()
            elif price not in side:
                changed[price] = "0.00000000"
        for price, size in changed.items():
            if float(size) > 0:
                side[price] = size
            else:
                side.pop(price, None)
        return [[_text(price), changed[price]] for price in sorted(changed, reverse=index == 0)]

    def _near(self, index: int, price: int) -> int | None:
        """Find a known price at or beyond a drawn one, as cancellations cluster where orders are."""
        side = self.sides[index]
        step = -1 if index == 0 else 1
        return next((known for known in range(price, price + 50 * step, step) if known in side), None)

    def top(self) -> tuple[float, float]:
        return float(_text(max(self.sides[0]))), float(_text(min(self.sides[1])))


def _text(ticks: int) -> str:
    return f"{ticks * TICK:.8f}"


def make_frames(markets: int, messages: int, *, levels: int = 10, seed: int = 7) -> Frames:
    """Build ``messages`` diffs of 1 to ``levels`` changes a side over ``markets`` markets, in turn."""
    source = random.Random(seed)
    made = [
        _Market(f"C{number:03d}USDT", 2_000_000 + 1_000 * number, source) for number, _ in zip(count(), range(markets))
    ]
    snapshots = {market.symbol: market.snapshot() for market in made}
    first = tuple(market.diff(levels) for market in made)
    first_ids = {market.symbol: market.update_id for market in made}
    diffs = tuple(made[index % markets].diff(levels) for index in range(messages))
    return Frames(
        symbols=tuple(market.symbol for market in made),
        snapshots=snapshots,
        first=first,
        diffs=diffs,
        first_ids=first_ids,
        last_ids={market.symbol: market.update_id for market in made},
        final_tops={market.symbol: market.top() for market in made},
        changes=sum(market.changes for market in made),
    )
