"""What compiled code takes of a depth frame is what the decoder reads, to the last bit; all else it leaves alone."""

from __future__ import annotations

import json
from typing import Any

import numpy as np
import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from tests.exchanges.feed_frames import JudgingSink, dump, spot
from trading.exchanges.binance import compiled
from trading.exchanges.binance.compiled import read_depth_frame
from trading.exchanges.binance.messages import decode_depth_frame
from trading.exchanges.binance.protocol import MOST_LEVELS, BinanceProtocol
from trading.marketdata.book import Book
from trading.marketdata.protocol import DECODE_ERRORS

PAIRS = np.zeros(2 * MOST_LEVELS)
KNOWN = 160


def frame(bids: list[list[str]], asks: list[list[str]], first: int = KNOWN + 1, **more: Any) -> bytes:
    data = {"e": "depthUpdate", "E": 1_672_515_782_136, "s": "BNBBTC", "U": first, "u": first + 4, **more}
    return dump({"stream": "bnbbtc@depth@100ms", "data": {**data, "b": bids, "a": asks}})


ORDINARY = frame([["0.0024", "10"], ["0.00239000", "0.00000000"]], [["0.0026", "100.5"]])


def a_book() -> Book:
    book = Book(spot("BNBBTC"))
    book.bids.replace([(0.00239, 3.0), (0.0022, 1.0)])
    book.asks.replace([(0.0027, 3.0), (0.0028, 1.0)])
    return book


def taken(data: bytes, book: Book) -> tuple[int, ...]:
    """Read a frame and apply it to a book, whatever its place in the chain; return its ids and time, if it was read."""
    first, last, previous, event_ms, bids, levels = read_depth_frame(data, PAIRS)
    if last < 0:
        return ()
    book.apply_pairs(PAIRS, bids, levels)
    return first, last, previous, event_ms


def judge(data: bytes) -> bool:
    """Compare compiled code with the decoder and a book of its own; return whether it took the frame."""
    book, own = a_book(), a_book()
    found = taken(data, book)
    if found:
        depth = decode_depth_frame(data).data  # raises if the decoder would have refused it
        assert found == (depth.first, depth.last, depth.previous, depth.event_ms)
        own.bids.apply(depth.bids)
        own.asks.apply(depth.asks)
    for side, other in ((book.bids, own.bids), (book.asks, own.asks)):
        assert (side.best, side.best_size) == (other.best, other.best_size)
        assert list(side.levels()) == list(other.levels())
    return bool(found)


def test_an_ordinary_frame_is_taken() -> None:
    book = a_book()
    assert taken(ORDINARY, book) == (161, 165, 0, 1_672_515_782_136)
    assert (book.bids.best, book.bids.best_size, book.asks.best, book.asks.best_size) == (0.0024, 10.0, 0.0026, 100.5)
    assert list(book.bids.levels()) == [(0.0024, 10.0), (0.0022, 1.0)]
    assert list(book.asks.levels()) == [(0.0026, 100.5), (0.0027, 3.0), (0.0028, 1.0)]


def test_futures_name_the_update_before() -> None:
    data = frame([["0.0024", "10"]], [], first=KNOWN + 9, T=1_672_515_782_130, pu=KNOWN)
    assert taken(data, a_book()) == (KNOWN + 9, KNOWN + 13, KNOWN, 1_672_515_782_136)
    assert judge(data)


def test_a_book_makes_room_for_what_a_frame_brings() -> None:
    book = a_book()
    many = [[f"{number}.5", "1.0"] for number in range(1, 200)]
    assert taken(frame(many, many[:3]), book)
    assert (len(book.bids), len(book.asks), book.bids.best, book.asks.best) == (201, 5, 199.5, 0.0027)


def test_more_levels_than_it_reads_are_left() -> None:
    assert not judge(frame([[f"{number}.5", "0"] for number in range(MOST_LEVELS + 1)], []))


@pytest.mark.parametrize(
    "level",
    [
        ["1e-3", "1"], ["-1", "1"], ["0", "1"], ["", "1"], ["1", ""], ["01", "1"], ["1.", "1"], [".5", "1"],
        ["NaN", "1"], ["1", "-0"], ["1", "inf"], ["1 ", "1"], ["1_0", "1"], ["1", "1" * 40],
        ["9" * 16, "1"], ["1", "0." + "3" * 17], ["1"], ["1", "1", "1"], [1.5, 2], [None, "1"],
    ],
    ids=str,
)  # fmt: skip
def test_unusual_numbers_are_left_to_the_decoder(level: list[Any]) -> None:
    assert not judge(frame([level], []))
    assert not judge(frame([], [["0.0026", "1"], level]))


@pytest.mark.parametrize(
    "data",
    [
        b"", b"{", b'{"stream":"', ORDINARY[:-1], ORDINARY + b" ", ORDINARY + b"\0", ORDINARY.replace(b",", b", ", 1),
        ORDINARY.replace(b"bnbbtc@", "币@".encode()), ORDINARY.replace(b"BNBBTC", b"BNB\\u0042TC"),
        ORDINARY.replace(b'"e":', b'"\\":'), ORDINARY.replace(b'"e":"depthUpdate"', b'"e":null'),
        ORDINARY.replace(b'"U":161', b'"U":0161'), ORDINARY.replace(b'"U":161', b'"U":161,"U":161'),
        ORDINARY.replace(b'"U":161,', b""), ORDINARY.replace(b'"E":1672515782136,', b""),
        ORDINARY.replace(b'"u":165', b'"u":1650000000000000000000'),
    ],
    ids=range(16),
)  # fmt: skip
def test_unusual_frames_are_left_to_the_decoder(data: bytes) -> None:
    assert not judge(data)


DIGITS = st.text("0123456789", min_size=1, max_size=12)
DECIMAL = st.one_of(
    st.builds("{}.{}".format, DIGITS, DIGITS),
    st.builds("{}.{:08d}".format, st.integers(0, 10**9), st.integers(0, 10**8 - 1)),
    st.integers(0, 2**60).map(str),
    st.floats(0, 1e16).map(repr),
    st.text("0123456789.eE+-", max_size=6),
)
LEVELS = st.lists(st.lists(DECIMAL, min_size=2, max_size=2), max_size=8)


@settings(max_examples=200, deadline=None)
@given(bids=LEVELS, asks=LEVELS)
def test_any_levels_have_the_decoders_values_or_are_left(bids: list[list[str]], asks: list[list[str]]) -> None:
    judge(frame(bids, asks))


@settings(max_examples=150, deadline=None)
@given(whole=st.integers(0, 10**7), fraction=st.integers(0, 10**8 - 1))
def test_numbers_as_the_exchange_writes_them_are_taken_to_the_last_bit(whole: int, fraction: int) -> None:
    text = f"{whole}.{fraction:08d}"
    book = a_book()
    assert taken(frame([["0.0021", text]], []), book)
    assert book.bids.size_at(0.0021) == float(text)


DAMAGE = st.tuples(st.integers(0, len(ORDINARY) - 1), st.binary(max_size=2), st.integers(0, 2))


@settings(max_examples=600, deadline=None)
@given(changes=st.lists(DAMAGE, min_size=1, max_size=3))
@example(changes=[(len(ORDINARY) - 1, b"", 1)])
def test_no_damaged_frame_is_taken_that_the_decoder_refuses_or_reads_otherwise(
    changes: list[tuple[int, bytes, int]],
) -> None:
    data = ORDINARY
    for at, put, drop in changes:
        data = data[:at] + put + data[at + drop :]
    try:
        judge(data)
    except DECODE_ERRORS as error:
        pytest.fail(f"taken, but the decoder says: {error}")


@settings(max_examples=200, deadline=None)
@given(text=st.text(st.sampled_from('0159."[]{},:-eEuUpb \\'), max_size=40), at=st.integers(0, len(ORDINARY)))
def test_punctuation_in_any_place_is_judged_as_the_decoder_does(text: str, at: int) -> None:
    try:
        judge(ORDINARY[:at] + text.encode() + ORDINARY[at:])
    except DECODE_ERRORS as error:
        pytest.fail(f"taken, but the decoder says: {error}")


def test_a_followed_market_is_kept_by_compiled_code_and_goes_on_where_a_frame_is_unusual() -> None:
    sink = JudgingSink()
    protocol = BinanceProtocol(sink)
    book = protocol.add(spot("BNBBTC"))
    protocol.on_frame(frame([], [], first=KNOWN - 10), 1)
    protocol.on_snapshot(
        book.key, dump({"lastUpdateId": KNOWN, "bids": [["0.0024", "1"]], "asks": [["0.0026", "1"]]}), 2
    )
    protocol.on_frame(frame([["0.0025", "2.5"]], []), 3)
    assert (book.update_id, book.received_ns, book.bids.best) == (165, 3, 0.0025)
    spaced = json.dumps(json.loads(frame([["0.0025", "0.0"]], [["0.00255", "1e1"]], first=166))).encode()
    protocol.on_frame(spaced, 4)
    assert (book.update_id, book.bids.best, book.asks.best, book.asks.best_size) == (170, 0.0024, 0.00255, 10.0)
    protocol.on_frame(frame([["0.0023", "4"]], [["0.00255", "0"]], first=171), 5)
    assert (book.update_id, book.asks.best, len(book.bids)) == (175, 0.0026, 2)
    assert protocol.counters["bad_messages"] == 0
    protocol.on_frame(frame([["0.0023", "5"]], [], first=170), 6)
    assert (book.update_id, book.bids.size_at(0.0023), protocol.counters["stale_dropped"]) == (175, 4.0, 1)
    protocol.on_frame(frame([["0.0026", "4"]], [], first=176), 7)
    assert (book.ready, protocol.counters["crossed"]) == (False, 1)


def test_a_frame_that_skips_updates_is_a_gap_and_changes_nothing() -> None:
    protocol = BinanceProtocol(JudgingSink())
    book = protocol.add(spot("BNBBTC"))
    protocol.on_frame(frame([], [], first=KNOWN - 10), 1)
    protocol.on_snapshot(
        book.key, dump({"lastUpdateId": KNOWN, "bids": [["0.0024", "1"]], "asks": [["0.0026", "1"]]}), 2
    )
    protocol.on_frame(frame([["0.0025", "2"]], [], first=KNOWN + 2), 3)
    assert (book.ready, book.bids.best, protocol.counters["sequence_gaps"]) == (False, 0.0, 1)


def test_machine_code_that_is_kept_calls_none_of_another_file() -> None:
    # What numba keeps is thrown away when its own file changes, not when that of an inlined function does.
    functions = {name: value.py_func for name, value in vars(compiled).items() if hasattr(value, "py_func")}
    assert "read_depth_frame" in functions
    assert [name for name, function in functions.items() if function.__code__.co_filename != compiled.__file__] == []
