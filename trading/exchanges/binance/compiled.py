"""A Binance depth frame read by compiled code: no object is made of a number.

Reads only what Binance sends in the ordinary case: a combined frame without spaces, its numbers plain decimals. All
else, from an escaped character to a level too many, is left to the decoder of :mod:`.messages`, which judges it; so
nothing is taken here that it would refuse, and what is taken has the same value to the last bit (a mantissa of at most
2**53 and a power of ten of at most 10**22 are exact, and one division of exact numbers rounds correctly).
"""

from __future__ import annotations

from typing import Any

import numpy as np
from numba import njit, typeof, types

from trading.marketdata.compiled import Floats, compiled

_Bytes = typeof(b"")  # type: ignore[no-untyped-call]
_Read = types.UniTuple(types.int64, 6)  # type: ignore[no-untyped-call]
_LEFT = (-1, -1, -1, -1, 0, 0)

_EXACT = 2**53
_TEN_TO = np.array([10.0**power for power in range(23)])

_QUOTE, _COMMA, _COLON, _POINT = ord('"'), ord(","), ord(":"), ord(".")
_OPEN, _CLOSE, _BRACE_CLOSE = ord("["), ord("]"), ord("}")
_ZERO, _NINE, _BACKSLASH = ord("0"), ord("9"), ord("\\")
_LETTER_A, _LETTER_Z = ord("a"), ord("z")
_HEAD = np.frombuffer(b'{"stream":"', dtype=np.uint8).copy()
_NEXT = np.frombuffer(b'","data":{', dtype=np.uint8).copy()
# One letter a key; the key of two letters is apart from them.
_FIRST, _LAST, _EVENT, _BIDS, _ASKS = ord("U"), ord("u"), ord("E"), ord("b"), ord("a")
_PREVIOUS = ord("p") * 256 + ord("u")


@njit(inline="always")
def _integer(data: Any, at: int) -> Any:
    """Return the non-negative integer at ``at`` and where it ends, or -1 for what is none or may not fit."""
    value, start = np.int64(0), at
    while _ZERO <= data[at] <= _NINE:
        value = value * 10 + (np.int64(data[at]) - _ZERO)
        at += 1
    digits = at - start
    if digits == 0 or digits > 18 or (digits > 1 and data[start] == _ZERO):
        return -1, at
    return value, at


@njit(inline="always")
def _decimal(data: Any, at: int) -> Any:
    """Return the quoted decimal at ``at`` and what follows it, or -1.0 for any other text."""
    if data[at] != _QUOTE:
        return -1.0, at
    at += 1
    start = at
    mantissa, digits, zeros = np.int64(0), 0, 0
    while _ZERO <= data[at] <= _NINE:
        mantissa = mantissa * 10 + (np.int64(data[at]) - _ZERO)
        if mantissa > _EXACT:
            return -1.0, at
        at += 1
    if at == start or (at - start > 1 and data[start] == _ZERO):
        return -1.0, at
    if data[at] == _POINT:
        at += 1
        start = at
        while _ZERO <= data[at] <= _NINE:
            if data[at] == _ZERO:
                zeros += 1  # counts only when another digit follows
            else:
                for _ in range(zeros + 1):
                    mantissa *= 10
                    if mantissa > _EXACT:
                        return -1.0, at
                mantissa += np.int64(data[at]) - _ZERO
                digits += zeros + 1
                zeros = 0
                if mantissa > _EXACT or digits > 22:
                    return -1.0, at
            at += 1
        if at == start:
            return -1.0, at
    if data[at] != _QUOTE:
        return -1.0, at
    return mantissa / _TEN_TO[digits], at + 1


@njit(inline="always")
def _levels(data: Any, at: int, pairs: Any, number: int) -> Any:
    """Read ``[["price","size"],...]`` behind the ``number`` levels in ``pairs``; return how many there are then and
    what follows, or -1."""
    if data[at] != _OPEN:
        return -1, at
    at += 1
    if data[at] == _CLOSE:
        return number, at + 1
    while True:
        if data[at] != _OPEN or 2 * number == pairs.size:
            return -1, at
        price, at = _decimal(data, at + 1)
        # The bounds of trading.marketdata.protocol.Price and Size.
        if price < 1e-18 or price > 1e15 or data[at] != _COMMA:
            return -1, at
        size, at = _decimal(data, at + 1)
        if size < 0.0 or size > 1e18 or data[at] != _CLOSE:
            return -1, at
        pairs[2 * number] = price
        pairs[2 * number + 1] = size
        number += 1
        at += 1
        if data[at] == _CLOSE:
            return number, at + 1
        if data[at] != _COMMA:
            return -1, at
        at += 1


@njit(inline="always")
def _key(data: Any, at: int) -> Any:
    """Return a key of one or two letters as a number, and what follows its colon; -1 for any other key."""
    key = np.int64(0)
    while data[at] != _QUOTE:
        letter = np.int64(data[at])
        if key > 255 or not (_LETTER_A <= letter | 32 <= _LETTER_Z):
            return -1, at
        key = key * 256 + letter
        at += 1
    if key == 0 or data[at + 1] != _COLON:
        return -1, at
    return key, at + 2


@njit(inline="always")
def _skip(data: Any, at: int) -> int:
    """Return what follows a plain string or an integer, or -1."""
    if data[at] != _QUOTE:
        value, at = _integer(data, at)
        return at if value >= 0 else -1
    at += 1
    while data[at] != _QUOTE:
        if data[at] < 32 or data[at] > 126 or data[at] == _BACKSLASH:
            return -1
        at += 1
    return at + 1


@compiled(_Read(_Bytes, Floats))
def read_depth_frame(data: Any, pairs: Any) -> Any:
    """Read an ordinary frame: its levels, bids before asks, go to ``pairs``, prices and sizes in turn.

    Returns (first update id, last, the one before or 0, event time in ms, number of bids, of bids and asks). All is -1
    or 0 where the frame is not ordinary.
    """
    # Python ends every bytes object with a zero byte, which no rule takes: nothing is read beyond it.
    for at in range(len(_HEAD)):
        if data[at] != _HEAD[at]:
            return _LEFT
    at = _skip(data, len(_HEAD) - 1) - 1  # the closing quote of the stream's name
    if at < 0:
        return _LEFT
    for letter in _NEXT:
        if data[at] != letter:
            return _LEFT
        at += 1

    first, last, previous, event_ms = -1, -1, 0, -1
    bids, levels = -1, -1
    while True:
        if data[at] != _QUOTE:
            return _LEFT
        key, at = _key(data, at + 1)
        if key < 0:
            return _LEFT
        if key == _FIRST and first < 0:
            first, at = _integer(data, at)
            if first < 0:
                return _LEFT
        elif key == _LAST and last < 0:
            last, at = _integer(data, at)
            if last < 0:
                return _LEFT
        elif key == _PREVIOUS and previous == 0:
            previous, at = _integer(data, at)
            if previous < 0:
                return _LEFT
        elif key == _EVENT and event_ms < 0:
            event_ms, at = _integer(data, at)
            if event_ms < 0 or event_ms > 9_000_000_000_000:
                return _LEFT
        elif key == _BIDS and bids < 0 and levels < 0:
            bids, at = _levels(data, at, pairs, 0)
            if bids < 0:
                return _LEFT
        elif key == _ASKS and bids >= 0 and levels < 0:
            levels, at = _levels(data, at, pairs, bids)
            if levels < 0:
                return _LEFT
        elif key in (_FIRST, _LAST, _PREVIOUS, _EVENT, _BIDS, _ASKS):
            return _LEFT  # twice, or asks first
        else:
            at = _skip(data, at)
            if at < 0:
                return _LEFT
        if data[at] == _BRACE_CLOSE:
            break
        if data[at] != _COMMA:
            return _LEFT
        at += 1
    if data[at + 1] != _BRACE_CLOSE or at + 2 != len(data):
        return _LEFT
    if first < 0 or last < 0 or event_ms < 0 or levels < 0:
        return _LEFT
    return first, last, previous, event_ms, bids, levels
