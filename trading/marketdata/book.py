"""An L2 order book in floats, changed in place on the hot path."""

from __future__ import annotations

from bisect import bisect_left
from collections.abc import Callable, Iterable, Iterator, Sequence
from functools import cache, lru_cache
from itertools import chain, islice
from struct import Struct
from typing import Any

import numpy as np

from trading.instruments import Market

Level = tuple[float, float]  # (price, size), sizes in the market's own unit

LEAST_ROOM = 64  # levels a side has room for at first; the room doubles when they are more
FIRST_READ = 16  # levels read at once; a depth walk rarely needs more
_PAIRS = 2  # where they begin, as trading.marketdata.compiled has it


class BookSide:
    """One side of a book.

    ``cells`` holds its levels with the best last, for compiled code (see :mod:`trading.marketdata.compiled`); it is
    another array after :meth:`replace` and :meth:`make_room`. ``best`` and ``best_size`` are kept beside it; both are
    0.0 when the side is empty.
    """

    __slots__ = ("_apply", "best", "best_size", "cells", "sign")

    def __init__(self, sign: int) -> None:
        self.sign = float(sign)  # +1 bids, -1 asks
        self._apply, _ = _compiled()
        self.replace(())

    def replace(self, levels: Iterable[Level]) -> None:
        """Hold these levels and no others; of a price that comes twice the last size counts."""
        sign = self.sign
        held = sorted([(sign * price, size) for price, size in dict(levels).items() if size > 0])
        self._hold(len(held), list(chain.from_iterable(held)), 0)
        self.best, self.best_size = (sign * held[-1][0], held[-1][1]) if held else (0.0, 0.0)

    def apply(self, levels: Sequence[Level]) -> None:
        """Set the size of each price; size 0 removes it."""
        number = len(levels)
        changes = np.frombuffer(_packer(number)(*chain.from_iterable(levels)))
        done, best, size = self._apply(self.cells, self.sign, changes)
        if not done:
            self.make_room(number)
            _, best, size = self._apply(self.cells, self.sign, changes)
        self.best, self.best_size = best, size

    def make_room(self, number: int) -> None:
        """Have room for ``number`` more levels."""
        count = len(self)
        self._hold(count, self.cells[_PAIRS : _PAIRS + 2 * count], number)

    def _hold(self, count: int, pairs: Any, more: int) -> None:
        room = LEAST_ROOM
        while room < count + max(more, count // 4):
            room *= 2
        self.cells = np.zeros(_PAIRS + 2 * room)
        self.cells[0] = count
        self.cells[_PAIRS : _PAIRS + 2 * count] = pairs

    @property
    def keys(self) -> list[float]:
        """Live prices, ascending with the best LAST: prices on the bid side, negated prices on the ask side."""
        keys: list[float] = self.cells[_PAIRS : _PAIRS + 2 * len(self) : 2].tolist()
        return keys

    def size_at(self, price: float) -> float:
        """Return the size at a price, 0.0 where there is none."""
        keys, key = self.keys, self.sign * price
        at = bisect_left(keys, key)
        return float(self.cells[_PAIRS + 2 * at + 1]) if at < len(keys) and keys[at] == key else 0.0

    def levels(self, depth: int | None = None) -> Iterator[Level]:
        """Yield (price, size) from the best price outwards, at most ``depth`` of them."""
        return islice(self._walk(), depth)

    def nearest(self, depth: int) -> list[Level]:
        """Return :meth:`levels` as a list; read at once, where :meth:`levels` is for walks that end early."""
        end = _PAIRS + 2 * len(self)
        pairs = self.cells[max(end - 2 * depth, _PAIRS) : end].tolist()
        keys, sizes = pairs[-2::-2], pairs[::-2]
        return list(zip(keys if self.sign > 0 else [-key for key in keys], sizes, strict=True))

    def _walk(self) -> Iterator[Level]:
        cells, sign = self.cells, self.sign
        end, length = _PAIRS + 2 * len(self), 2 * FIRST_READ
        while end > _PAIRS:
            begin = max(end - length, _PAIRS)
            pairs = cells[begin:end].tolist()
            for at in range(len(pairs) - 2, -1, -2):
                yield sign * pairs[at], pairs[at + 1]
            end = begin
            length *= 4

    def __len__(self) -> int:
        return int(self.cells[0])


@lru_cache(1024)
def _packer(number: int) -> Callable[..., bytes]:
    return Struct(f"{2 * number}d").pack


@cache
def _compiled() -> tuple[Any, Any]:
    from trading.marketdata.compiled import apply_both, apply_levels  # noqa: PLC0415 (costly to import)

    return apply_levels, apply_both


class Book:
    """Both sides of one market, its sequence number and its times."""

    __slots__ = (
        "_apply_both", "asks", "bids", "exchange_ns", "key", "market", "ready", "received_ns", "top_version",
        "update_id", "version",
    )  # fmt: skip

    def __init__(self, market: Market) -> None:
        self.market = market
        self.key = market.key
        self.bids = BookSide(+1)
        self.asks = BookSide(-1)
        _, self._apply_both = _compiled()
        self.update_id = 0  # the chain the exchange's diffs form
        # How new the book and the exchange's separately published best prices are, on one scale: the larger one is
        # the newer. Both 0 where the exchange gives no such scale.
        self.version = 0
        self.top_version = 0
        self.exchange_ns = 0
        self.received_ns = 0
        self.ready = False  # False until a snapshot is in, and after a gap until the next one

    def apply_pairs(self, pairs: Any, bids: int, levels: int) -> None:
        """Apply the first ``levels`` of ``pairs``, floats of price and size in turn; the first ``bids`` are bids."""
        bid_side, ask_side = self.bids, self.asks
        done, bid, bid_size, ask, ask_size = self._apply_both(bid_side.cells, ask_side.cells, pairs, bids, levels)
        if not done:
            bid_side.make_room(bids)
            ask_side.make_room(levels - bids)
            _, bid, bid_size, ask, ask_size = self._apply_both(bid_side.cells, ask_side.cells, pairs, bids, levels)
        bid_side.best, bid_side.best_size, ask_side.best, ask_side.best_size = bid, bid_size, ask, ask_size

    def reset(self) -> None:
        """Forget everything: after a gap or a disconnect nothing in here may be traded on."""
        self.bids.replace(())
        self.asks.replace(())
        self.update_id = 0
        self.version = 0
        self.ready = False

    @property
    def crossed(self) -> bool:
        """Whether the best bid is not below the best ask; a book with an empty side is not crossed."""
        ask = self.asks.best
        return self.bids.best >= ask > 0
