"""The inside of a book side, compiled: levels in flat memory, changed in place.

Importing this takes half a second and some 80 MB (numba), so it is imported when the first book is made, not before.
The machine code is kept beside the source, or in the user's cache folder where that cannot be written.

A side is one array of floats: how many levels there are, a cell of nothing, then pairs of key and size. Keys are
prices on the bid side and negated prices on the ask side, ascending, so that the best is the LAST: most changes are
near it, and little has to move. Fifty books of a thousand boxed levels do not fit a processor's caches, and it is
their misses that cost (docs/performance.md); the ends of a hundred such arrays do.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from numba import njit, types

PAIRS = 2  # where they begin

Floats = types.float64[::1]
_ReadOnly = types.Array(types.float64, 1, "C", readonly=True)
_Applied = types.Tuple((types.boolean, *[types.float64] * 2))  # type: ignore[no-untyped-call]
_BothApplied = types.Tuple((types.boolean, *[types.float64] * 4))  # type: ignore[no-untyped-call]


def compiled(signature: Any) -> Callable[[Callable[..., Any]], Any]:
    """Compile a function for one signature, and keep the machine code for the next process.

    What is kept is used until the function's own file changes. So it may call compiled functions of that file only: of
    another file's it would go on using those it was compiled with.
    """

    def decorate(function: Callable[..., Any]) -> Any:
        try:
            return njit(signature, cache=True)(function)
        except RuntimeError:  # no folder in which it could be kept
            return njit(signature)(function)

    return decorate


@njit(inline="always")
def has_room(side: Any, number: int) -> bool:
    """Whether ``number`` more levels fit into a side."""
    return bool(PAIRS + 2 * (int(side[0]) + number) <= side.size)


@njit(inline="always")
def place(side: Any, key: float, size: float, high: int) -> int:
    """Set the size of one key; 0 removes it. There must be room.

    No key at ``high`` or beyond is below this one. Returns where it stands, or would: the ``high`` of a lower key.
    """
    count = int(side[0])
    # Down in steps that double, then the half that holds it: near keys are found in a few looks.
    step = 2
    low = high - step
    while low > 0 and side[PAIRS + 2 * low] >= key:
        high = low
        step += step
        low = high - step
    low = max(low, 0)
    while low < high:
        middle = (low + high) >> 1
        if side[PAIRS + 2 * middle] < key:
            low = middle + 1
        else:
            high = middle
    at, end = PAIRS + 2 * low, PAIRS + 2 * count
    if low < count and side[at] == key:
        if size > 0.0:
            side[at + 1] = size
            return low
        for cell in range(at, end - 2):
            side[cell] = side[cell + 2]
        side[0] = count - 1
    elif size > 0.0:
        for cell in range(end - 1, at - 1, -1):
            side[cell + 2] = side[cell]
        side[at] = key
        side[at + 1] = size
        side[0] = count + 1
    return low


@njit(inline="always")
def place_all(side: Any, sign: float, changes: Any, begin: int, end: int) -> None:
    """Place prices and sizes, in turn in ``changes`` from level ``begin`` to before ``end``. There must be room."""
    last, high = 0.0, 0
    for level in range(begin, end):
        key = sign * changes[2 * level]
        # Exchanges send a side from its best price outwards, so the search goes on where the last one ended.
        if level == begin or key >= last:
            high = int(side[0])
        high = place(side, key, changes[2 * level + 1], high)
        last = key


@njit(inline="always")
def best_of(side: Any, sign: float) -> Any:
    """Return the best price and its size; both 0.0 when the side is empty."""
    end = PAIRS + 2 * int(side[0])
    if end == PAIRS:
        return 0.0, 0.0
    return sign * side[end - 2], side[end - 1]


@compiled(_Applied(Floats, types.float64, _ReadOnly))
def apply_levels(side: Any, sign: float, changes: Any) -> Any:
    """Apply ``changes``, prices and sizes in turn; return True and the best price and size.

    Returns False, having changed nothing, when there may not be room for all of them.
    """
    number = changes.size // 2
    if not has_room(side, number):
        return False, 0.0, 0.0
    place_all(side, sign, changes, 0, number)
    best, size = best_of(side, sign)
    return True, best, size


@compiled(_BothApplied(Floats, Floats, Floats, types.int64, types.int64))
def apply_both(bids: Any, asks: Any, changes: Any, bid_levels: int, levels: int) -> Any:
    """Apply ``changes``, ``bid_levels`` of the bids and then up to ``levels`` of the asks, to both sides of a book.

    Returns True, the best bid and its size, the best ask and its size; False, having changed nothing, when there may
    not be room for all of them.
    """
    if not (has_room(bids, bid_levels) and has_room(asks, levels - bid_levels)):
        return False, 0.0, 0.0, 0.0, 0.0
    place_all(bids, 1.0, changes, 0, bid_levels)
    place_all(asks, -1.0, changes, bid_levels, levels)
    bid, bid_size = best_of(bids, 1.0)
    ask, ask_size = best_of(asks, -1.0)
    return True, bid, bid_size, ask, ask_size
