"""Small recordings made by the tests: Binance spot messages as ``<ns> <json>`` lines."""

from __future__ import annotations

import gzip
import json
from pathlib import Path

SECOND = 1_000_000_000
START = 1_700_000_000 * SECOND

Level = tuple[float, float]


class SpotTape:
    """A Binance spot market's messages: a snapshot, then diffs and best prices with the right update ids."""

    def __init__(self, native_id: str = "BTCUSDT") -> None:
        self.native_id = native_id
        self.update_id = 1000
        self.lines: list[tuple[int, str]] = []

    def snapshot(self, second: float, bids: list[Level], asks: list[Level]) -> SpotTape:
        """A REST snapshot, framed by the diff before it that shows the stream was running."""
        self.book(second - 0.001)
        return self._add(second, {"lastUpdateId": self.update_id, "bids": _text(bids), "asks": _text(asks)})

    def book(self, second: float, bids: list[Level] | None = None, asks: list[Level] | None = None) -> SpotTape:
        self.update_id += 1
        data = {
            "e": "depthUpdate",
            "E": 1,
            "s": self.native_id,
            "U": self.update_id,
            "u": self.update_id,
            "b": _text(bids or []),
            "a": _text(asks or []),
        }
        return self._add(second, {"stream": f"{self.native_id.lower()}@depth@100ms", "data": data})

    def ticker(self, second: float, bid: float, ask: float, size: float = 1.0) -> SpotTape:
        data = {"u": self.update_id, "s": self.native_id, "b": str(bid), "B": str(size), "a": str(ask), "A": str(size)}
        return self._add(second, {"stream": f"{self.native_id.lower()}@bookTicker", "data": data})

    def raw(self, second: float, text: str) -> SpotTape:
        self.lines.append((START + round(second * SECOND), text))
        return self

    def _add(self, second: float, message: object) -> SpotTape:
        return self.raw(second, json.dumps(message, separators=(",", ":")))

    def write(self, path: Path) -> Path:
        path.write_bytes(gzip.compress("".join(f"{ns} {text}\n" for ns, text in self.lines).encode()))
        return path


def _text(levels: list[Level]) -> list[list[str]]:
    return [[str(price), str(size)] for price, size in levels]
