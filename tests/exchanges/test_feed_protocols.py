"""What every protocol does with diffs, gaps, nonsense and numbers no market has."""

from __future__ import annotations

import random
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.exchanges.feed_frames import (
    SCENARIOS,
    BinanceScenario,
    BybitScenario,
    OkxChecksumScenario,
    OkxScenario,
    assert_sound,
    dump,
    spot,
)
from trading.exchanges.binance.protocol import BinanceProtocol
from trading.exchanges.registry import protocol_for

EVERY = pytest.mark.parametrize("name", sorted(SCENARIOS))


@EVERY
def test_a_diff_sets_and_removes_levels(name: str) -> None:
    scenario: Any = SCENARIOS[name]()
    scenario.protocol.on_frame(scenario.diff([["99.9", "0"], ["99.85", "4"]], [["100.1", "7.5"]]), 9)
    book = scenario.book
    assert list(book.bids.levels()) == [(99.85, 4.0), (99.8, 2.0), (99.5, 3.0)]
    assert list(book.asks.levels(1)) == [(100.1, 7.5)]
    assert book.received_ns == 9
    assert book.exchange_ns % 1_000_000_000 in (123_000_000, 393_000_000)


@EVERY
def test_a_missing_diff_takes_the_book_down(name: str) -> None:
    scenario: Any = SCENARIOS[name]()
    scenario.diff([["99.9", "3"]], [])
    scenario.protocol.on_frame(scenario.diff([["99.8", "5"]], []), 9)
    assert not scenario.book.ready
    assert scenario.protocol.counters["sequence_gaps"] == 1
    assert scenario.protocol.counters["resyncs"] == 1
    assert scenario.sink.statuses[-1][1] == "connecting"
    assert [*scenario.protocol.snapshots_wanted(), *scenario.protocol.resubscribes_wanted()] == [scenario.book.key]


@EVERY
def test_a_book_that_starts_anew_is_ready_again(name: str) -> None:
    scenario: Any = SCENARIOS[name]()
    scenario.protocol.reset(reason="disconnected")
    assert not scenario.book.ready
    assert scenario.sink.statuses[-1] == (scenario.book.key, "down", "disconnected")
    scenario.start()
    assert scenario.sink.statuses[-1][1] == "live"


@EVERY
def test_a_crossed_book_is_not_shown(name: str) -> None:
    scenario: Any = SCENARIOS[name]()
    reported = len(scenario.sink.books)
    scenario.protocol.on_frame(scenario.diff([["100.1", "1"]], []), 9)
    assert not scenario.book.ready
    assert scenario.protocol.counters["crossed"] == 1
    assert len(scenario.sink.books) == reported


@EVERY
@pytest.mark.parametrize(
    "level",
    [
        ["NaN", "1"], ["nan", "1"], ["99", "NaN"], ["inf", "1"], ["Infinity", "1"], ["-inf", "1"], ["99", "inf"],
        ["-1", "1"], ["0", "1"], ["99", "-0.5"], ["1e308", "1"], ["99", "1e300"], ["1e-300", "1"], ["1e400", "1"],
        ["", "1"], ["1,5", "1"], ["0x10", "1"], ["１", "1"], [None, "1"], [True, "1"], ["99", None], [], "99", {"p": 1},
    ],
    ids=str,
)  # fmt: skip
def test_numbers_no_market_has_are_refused(name: str, level: Any) -> None:
    scenario: Any = SCENARIOS[name]()
    frame = scenario.diff([["98.5", "1"]], []).replace(
        b'["98.5","1"', dump(level)[:-1] if isinstance(level, list) else dump(level), 1
    )
    before = scenario.protocol.counters["bad_messages"]
    scenario.protocol.on_frame(frame, 9)
    assert scenario.protocol.counters["bad_messages"] == before + 1
    assert scenario.protocol.bad_reasons
    assert not scenario.book.ready, "a change that could not be read leaves a book that is not known"
    assert_sound(scenario.book)


@EVERY
@pytest.mark.parametrize(
    "frame",
    [
        b"",
        b"{",
        b"null",
        b"[]",
        b"1",
        b'"text"',
        b"\xff\xfe\x00",
        b"{}",
        b"[" * 100_000,
        b'{"a":' * 5_000,
        b"\x00" * 64,
    ],
    ids=lambda frame: repr(frame[:8]),
)
def test_what_is_no_message_is_counted(name: str, frame: bytes) -> None:
    scenario: Any = SCENARIOS[name]()
    scenario.protocol.on_frame(frame, 9)
    assert scenario.protocol.counters["bad_messages"] == 1
    assert scenario.book.ready


@EVERY
def test_unknown_markets_are_counted_and_disturb_nothing(name: str) -> None:
    scenario: Any = SCENARIOS[name]()
    frame = scenario.diff([["99.9", "9"]], [])
    for own, other in ((b"BTC-USDT", b"XXX-USDT"), (b"BTCUSDT", b"XXXUSDT"), (b"btcusdt", b"xxxusdt")):
        frame = frame.replace(own, other)
    scenario.protocol.on_frame(frame, 9)
    assert scenario.protocol.counters["unknown_symbols"] == 1
    assert scenario.protocol.counters["bad_messages"] == 0
    assert scenario.book.ready
    assert scenario.book.bids.best_size == 1.5


@EVERY
def test_frames_of_a_removed_market_are_unknown(name: str) -> None:
    scenario: Any = SCENARIOS[name]()
    scenario.protocol.remove(scenario.book.key)
    scenario.protocol.remove(scenario.book.key)
    scenario.protocol.on_frame(scenario.diff([["99.9", "9"]], []), 9)
    assert scenario.protocol.counters["unknown_symbols"] == 1


@EVERY
def test_spaces_in_the_json_change_nothing(name: str) -> None:
    scenario: Any = SCENARIOS[name]()
    frame = scenario.diff([["99.9", "8"]], []).replace(b":", b": ").replace(b",", b", ").replace(b"{", b"{ ")
    frame = frame.replace(b"99.9: ", b"99.9:")
    scenario.protocol.on_frame(frame, 9)
    assert scenario.book.bids.best_size == 8.0


@EVERY
def test_adding_a_market_twice_keeps_its_book(name: str) -> None:
    scenario: Any = SCENARIOS[name]()
    assert scenario.protocol.add(scenario.book.market) is scenario.book


# Fuzz


def _mutate(frame: bytes, source: random.Random) -> bytes:
    """Damage a frame as transport, bugs and malice do: cut, swap, repeat, drop, replace numbers and names."""
    data = bytearray(frame)
    for _ in range(source.randint(1, 4)):
        if not data:
            break
        at = source.randrange(len(data))
        match source.randrange(8):
            case 0:
                data[at] = source.randrange(256)
            case 1:
                del data[at : at + source.randint(1, 30)]
            case 2:
                data[at:at] = data[at : at + source.randint(1, 40)]
            case 3:
                del data[at:]
            case 4:
                data[at:at] = source.choice(
                    [b"NaN", b"-", b"1e999", b"0", b'"', b"null", b"{}", b"[]", b"\\u0000", b"9" * 40]
                )
            case 5:
                digits = [place for place, byte in enumerate(data) if 48 <= byte <= 57]
                if digits:
                    data[source.choice(digits)] = 48 + source.randrange(10)
            case 6:
                wanted = source.choice([b'"b"', b'"a"', b'"bids"', b'"asks"', b'"u"', b'"U"', b'"data"', b'"seqId"'])
                data = bytearray(
                    bytes(data).replace(wanted, source.choice([b'"x"', b'"a"', b'"u"', wanted + b":[],"]), 1)
                )
            case 7:
                data = bytearray(bytes(data).replace(b'"', b"", 1) if source.random() < 0.5 else data + data)
    return bytes(data)


@EVERY
@settings(max_examples=300, deadline=None)
@given(seed=st.integers(0, 2**32 - 1))
def test_damaged_frames_never_raise_and_never_leave_an_unsound_book(name: str, seed: int) -> None:
    source = random.Random(seed)
    scenario: Any = SCENARIOS[name]()
    for _ in range(6):
        for frame in scenario.frames():
            scenario.protocol.on_frame(_mutate(frame, source), 9)
            assert_sound(scenario.book)
        scenario.protocol.on_snapshot(
            scenario.book.key,
            _mutate(dump({"lastUpdateId": 5, "bids": [["9", "1"]], "asks": [["10", "1"]]}), source),
            9,
        )
        assert_sound(scenario.book)
        scenario.protocol.on_frame(scenario.diff([["99.7", "1"]], [["100.3", "0"]]), 9)
        assert_sound(scenario.book)
    counters = scenario.protocol.counters
    assert counters["messages"] >= 6 * len(scenario.frames())
    assert len(scenario.protocol.bad_reasons) <= 65
    scenario.protocol.reset()
    scenario.start()  # whatever came, the market can be followed again


@EVERY
@settings(max_examples=100, deadline=None)
@given(frames=st.lists(st.binary(max_size=300), max_size=10))
def test_random_bytes_never_raise(name: str, frames: list[bytes]) -> None:
    scenario: Any = SCENARIOS[name]()
    for frame in frames:
        scenario.protocol.on_frame(frame, 9)
        scenario.protocol.on_snapshot(scenario.book.key, frame, 9)
        assert_sound(scenario.book)


changes = st.lists(
    st.tuples(st.integers(1, 40), st.integers(0, 3)).map(lambda change: (change[0], str(change[1]))), max_size=6
)


@EVERY
@settings(max_examples=60, deadline=None)
@given(diffs=st.lists(st.tuples(changes, changes), max_size=25))
def test_the_book_is_what_the_diffs_say(name: str, diffs: list[tuple[Any, Any]]) -> None:
    scenario: Any = SCENARIOS[name]()
    model: list[dict[float, float]] = [{99.9: 1.5, 99.8: 2.0, 99.5: 3.0}, {100.1: 1.0, 100.2: 2.5, 100.5: 3.0}]
    for bid_changes, ask_changes in diffs:
        bids = {f"{100 - step / 10:.1f}": size for step, size in bid_changes}
        asks = {f"{100 + step / 10:.1f}": size for step, size in ask_changes}
        for side, given_levels in zip(model, (bids, asks), strict=True):
            side.update({float(price): float(size) for price, size in given_levels.items()})
        scenario.protocol.on_frame(
            scenario.diff([list(level) for level in bids.items()], [list(level) for level in asks.items()]), 9
        )
    live = [{price: size for price, size in side.items() if size} for side in model]
    assert scenario.book.ready
    assert dict(scenario.book.bids.levels()) == live[0]
    assert dict(scenario.book.asks.levels()) == live[1]
    assert scenario.protocol.counters["sequence_gaps"] == 0


# Binance


def test_binance_waits_for_a_snapshot_that_reaches_the_first_diff() -> None:
    scenario = BinanceScenario()
    scenario.protocol.reset()
    scenario.last = 2_000
    assert scenario.protocol.snapshots_wanted() == []
    scenario.protocol.on_frame(scenario.diff([], []), 1)
    assert scenario.protocol.snapshots_wanted() == [scenario.book.key]
    scenario.protocol.on_snapshot(scenario.book.key, scenario.snapshot(1_999), 2)
    assert not scenario.book.ready
    assert scenario.protocol.snapshots_wanted() == [scenario.book.key]
    scenario.protocol.on_snapshot(scenario.book.key, scenario.snapshot(2_003), 2)
    assert scenario.book.ready
    assert scenario.book.update_id == 2_005
    assert scenario.protocol.snapshots_wanted() == []


def test_binance_applies_waiting_diffs_after_the_snapshot_and_drops_older_ones() -> None:
    scenario = BinanceScenario()
    scenario.protocol.reset()
    scenario.last = 2_000
    for size in ("1", "2", "3"):
        scenario.protocol.on_frame(scenario.diff([["99.9", size]], []), 1)
    scenario.protocol.on_snapshot(scenario.book.key, scenario.snapshot(2_010, [["99.9", "2"]]), 2)
    assert scenario.book.bids.best_size == 3.0
    assert scenario.book.update_id == 2_015


def test_binance_a_gap_among_the_waiting_diffs_asks_for_another_snapshot() -> None:
    scenario = BinanceScenario()
    scenario.protocol.reset()
    scenario.last = 2_000
    scenario.protocol.on_frame(scenario.diff([], []), 1)
    scenario.diff([], [])
    scenario.protocol.on_frame(scenario.diff([], []), 1)
    scenario.protocol.on_snapshot(scenario.book.key, scenario.snapshot(2_003), 2)
    assert not scenario.book.ready
    assert scenario.protocol.counters["sequence_gaps"] == 1
    assert scenario.protocol.snapshots_wanted() == [scenario.book.key]


def test_binance_a_snapshot_before_any_diff_waits_for_one() -> None:
    scenario = BinanceScenario()
    scenario.protocol.reset()
    scenario.protocol.on_snapshot(scenario.book.key, scenario.snapshot(3_000), 2)
    assert not scenario.book.ready
    scenario.last = 2_990
    scenario.protocol.on_frame(scenario.diff([], []), 3)  # before the snapshot
    assert not scenario.book.ready
    scenario.last = 2_998
    scenario.protocol.on_frame(scenario.diff([["99.9", "6"]], []), 3)
    assert scenario.book.ready
    assert scenario.book.bids.best_size == 6.0


def test_binance_repeated_diffs_are_dropped_as_stale() -> None:
    scenario = BinanceScenario()
    frame = scenario.diff([["99.9", "6"]], [])
    scenario.protocol.on_frame(frame, 3)
    scenario.protocol.on_frame(frame, 4)
    assert scenario.book.ready
    assert scenario.protocol.counters["stale_dropped"] == 1


def test_binance_best_prices_must_not_go_back() -> None:
    scenario = BinanceScenario()
    scenario.protocol.on_frame(scenario.ticker(2_000, "99.9", "100.1"), 1)
    scenario.protocol.on_frame(scenario.ticker(1_999, "99.8", "100.2"), 1)
    assert [top[1] for top in scenario.sink.tops] == [99.9]
    assert scenario.book.top_version == 2_000
    assert scenario.protocol.counters["stale_dropped"] == 1


def test_binance_crossed_best_prices_are_not_shown() -> None:
    scenario = BinanceScenario()
    scenario.protocol.on_frame(scenario.ticker(2_000, "100.1", "100.1"), 1)
    assert scenario.sink.tops == []
    assert scenario.protocol.counters["crossed"] == 1


@pytest.mark.parametrize(("buyer_is_maker", "side"), [(True, "sell"), (False, "buy")])
def test_binance_trades_carry_the_takers_side(buyer_is_maker: bool, side: str) -> None:
    scenario = BinanceScenario()
    scenario.protocol.on_frame(scenario.trade("100.05", "0.25", buyer_is_maker), 1)
    (trade,) = scenario.sink.trades
    assert (trade.price, trade.size, trade.side, trade.exchange_ns) == (100.05, 0.25, side, 5_000_000)


def test_binance_entries_at_price_zero_are_no_trades() -> None:
    scenario = BinanceScenario("linear")
    scenario.protocol.on_frame(scenario.trade("0", "0", True), 1)
    assert scenario.sink.trades == []
    assert scenario.protocol.counters["bad_messages"] == 0


def test_binance_payloads_without_an_envelope_are_read_too() -> None:
    scenario = BinanceScenario()
    scenario.protocol.on_frame(dump(scenario.event([["99.9", "6"]], [])), 3)
    assert scenario.book.bids.best_size == 6.0
    ticker = {"u": 5_000, "s": "BTCUSDT", "b": "99.9", "B": "1", "a": "100.1", "A": "2"}  # spot names no event
    scenario.protocol.on_frame(dump(ticker), 3)
    scenario.protocol.on_frame(dump({**ticker, "e": "bookTicker", "E": 5, "u": 5_001}), 3)
    scenario.protocol.on_frame(dump({"e": "trade", "E": 1, "s": "BTCUSDT", "p": "1", "q": "1", "T": 5, "m": True}), 3)
    assert len(scenario.sink.tops) == 2
    assert len(scenario.sink.trades) == 1


def test_binance_partial_depth_replaces_the_book() -> None:
    protocol = BinanceProtocol(scenario_sink := BinanceScenario().sink, "spot")
    book = protocol.add(spot("ETHUSDT"))
    for last, best in ((5, "9.5"), (7, "9.6"), (6, "9.1")):
        body = {"lastUpdateId": last, "bids": [[best, "1"]], "asks": [["10", "1"]]}
        protocol.on_frame(dump({"stream": "ethusdt@depth20@100ms", "data": body}), 1)
    assert list(book.bids.levels()) == [(9.6, 1.0)]
    assert protocol.counters["stale_dropped"] == 1
    assert (book.key, "live", "") in scenario_sink.statuses


def test_binance_refusals_are_kept_to_be_shown() -> None:
    scenario = BinanceScenario()
    scenario.protocol.on_frame(dump({"error": {"code": 2, "msg": "Invalid request"}, "id": 1}), 1)
    assert scenario.protocol.counters["refused"] == 1
    assert "Invalid request" in scenario.protocol.last_error


def test_a_market_of_another_kind_is_refused() -> None:
    for ccxt_id in ("binance", "bybit"):
        protocol = protocol_for(ccxt_id, "spot", BinanceScenario().sink)
        with pytest.raises(ValueError, match="linear market cannot be followed on a spot connection"):
            protocol.add(spot("BTCUSDT", "linear"))


# OKX


def test_okx_an_empty_update_keeps_the_chain() -> None:
    scenario = OkxScenario()
    scenario.protocol.on_frame(scenario.frame("update", scenario.last, [], []), 1)  # seqId equals prevSeqId when quiet
    scenario.protocol.on_frame(scenario.diff([["99.9", "4"]], []), 1)
    assert scenario.book.bids.best_size == 4.0


def test_okx_a_restarted_count_is_followed() -> None:
    scenario = OkxScenario()
    previous, scenario.last = scenario.last, 3
    scenario.protocol.on_frame(scenario.frame("update", previous, [["99.9", "4"]], []), 1)
    scenario.protocol.on_frame(scenario.diff([["99.9", "5"]], []), 1)
    assert scenario.book.bids.best_size == 5.0
    assert scenario.protocol.counters["sequence_gaps"] == 0


def test_okx_a_new_subscription_brings_the_book_back() -> None:
    scenario = OkxScenario()
    scenario.diff([], [])
    scenario.protocol.on_frame(scenario.diff([], []), 1)
    assert scenario.protocol.resubscribes_wanted() == [scenario.book.key]
    scenario.protocol.resubscribed(scenario.book.key)
    assert scenario.protocol.resubscribes_wanted() == []
    scenario.protocol.on_frame(scenario.diff([], []), 1)  # still under way when the request left
    assert not scenario.book.ready
    scenario.protocol.on_frame(scenario.snapshot(), 1)
    assert scenario.book.ready


def test_okx_best_prices_and_trades() -> None:
    scenario = OkxScenario()
    scenario.protocol.on_frame(scenario.top(900, "99.95", "100.05"), 1)
    scenario.protocol.on_frame(scenario.top(899, "99.90", "100.05"), 1)
    scenario.protocol.on_frame(scenario.trade(), 1)
    assert scenario.sink.tops == [(scenario.book.key, 99.95, 1.0, 100.05, 2.0)]
    assert scenario.sink.trades[0].side == "sell"


def test_okx_a_price_may_change_sides_within_a_checked_update() -> None:
    scenario = OkxChecksumScenario()
    scenario.protocol.on_frame(scenario.diff([["100.1", "2"]], [["100.1", "0"]]), 1)
    assert scenario.book.ready
    assert scenario.book.bids.best == 100.1


def test_okx_a_wrong_checksum_takes_the_book_down() -> None:
    scenario = OkxChecksumScenario()
    frame = scenario.diff([["99.9", "9"]], [])
    scenario.protocol.on_frame(frame.replace(b'"9","0"', b'"8","0"'), 1)
    assert not scenario.book.ready
    assert scenario.protocol.counters["sequence_gaps"] == 1


# Bybit


def test_bybit_a_snapshot_after_a_restart_of_the_service_replaces_the_book() -> None:
    scenario = BybitScenario()
    scenario.protocol.on_frame(scenario.frame("delta", [["98", "1"]], [["98.5", "1"]], update_id=1), 1)
    assert (scenario.book.bids.best, scenario.book.asks.best) == (98.0, 98.5)
    scenario.last = 1
    scenario.protocol.on_frame(scenario.diff([["98", "2"]], []), 1)
    assert scenario.book.bids.best_size == 2.0
    assert scenario.protocol.counters["sequence_gaps"] == 0


def test_bybit_repeated_deltas_are_dropped_as_stale() -> None:
    scenario = BybitScenario()
    frame = scenario.diff([["99.9", "6"]], [])
    scenario.protocol.on_frame(frame, 1)
    scenario.protocol.on_frame(frame, 1)
    assert scenario.protocol.counters["stale_dropped"] == 1
    assert scenario.book.ready


def test_bybit_ticker_deltas_change_only_what_they_name() -> None:
    scenario = BybitScenario("linear")
    whole = {"bid1Price": "99.9", "bid1Size": "1", "ask1Price": "100.1", "ask1Size": "2"}
    scenario.protocol.on_frame(scenario.ticker("snapshot", **whole), 1)
    scenario.protocol.on_frame(scenario.ticker("delta", ask1Price="100.2"), 1)
    scenario.protocol.on_frame(scenario.ticker("delta", lastPrice="100"), 1)
    assert [top[1:] for top in scenario.sink.tops] == [(99.9, 1.0, 100.1, 2.0), (99.9, 1.0, 100.2, 2.0)]


def test_bybit_level_one_gives_the_best_prices() -> None:
    scenario = BybitScenario()
    scenario.protocol.on_frame(
        scenario.frame("snapshot", [["99.95", "1"]], [["100.05", "2"]], depth=1, update_id=9_000), 1
    )
    assert scenario.sink.tops == [(scenario.book.key, 99.95, 1.0, 100.05, 2.0)]
    assert scenario.book.top_version == 90_000
    assert scenario.book.update_id == 700


def test_the_same_name_on_two_connections_is_two_markets() -> None:
    spot_side, linear = BybitScenario("spot"), BybitScenario("linear")
    spot_side.protocol.on_frame(spot_side.diff([["99.9", "77"]], []), 1)
    assert spot_side.book.bids.best_size == 77.0
    assert linear.book.bids.best_size == 1.5
