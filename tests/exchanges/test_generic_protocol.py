"""Frames through ccxt.pro's message handlers: no socket, no event loop, and no exception for bad input."""

from __future__ import annotations

import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.exchanges.feed_frames import JudgingSink, assert_sound
from tests.recordings import recording
from trading.exchanges.generic.protocol import CcxtProtocol
from trading.exchanges.registry import protocol_for
from trading.instruments import Market
from trading.marketdata.recording import Record, open_recording
from trading.marketdata.replay_sources import ReplaySource, open_sources


def market(exchange: str, symbol: str, native_id: str) -> Market:
    base, _, quote = symbol.partition("/")
    return Market(exchange=exchange, symbol=symbol, native_id=native_id, base=base, quote=quote)


BTC = market("poloniex", "BTC/USDT", "BTC_USDT")


def frame(value: object) -> bytes:
    return json.dumps(value).encode()


def book_lv2(action: str, *, symbol: str = "BTC_USDT", bids: Any = (), asks: Any = ()) -> bytes:
    entry = {"symbol": symbol, "createTime": 4, "asks": asks, "bids": bids, "lastId": 1, "id": 2, "ts": 5}
    return frame({"channel": "book_lv2", "data": [entry], "action": action})


@pytest.fixture
def sink() -> JudgingSink:
    return JudgingSink()


@pytest.fixture
def poloniex(sink: JudgingSink) -> CcxtProtocol:
    protocol = CcxtProtocol("poloniex", "spot", sink)
    protocol.add(BTC)
    return protocol


def test_exchanges_without_a_folder_are_decoded_by_ccxt(sink: JudgingSink) -> None:
    assert isinstance(protocol_for("poloniex", "spot", sink), CcxtProtocol)
    with pytest.raises(ValueError, match="no exchange 'nasdaq'"):
        protocol_for("nasdaq", "spot", sink)


def test_a_snapshot_and_an_update_make_the_book(poloniex: CcxtProtocol) -> None:
    book = poloniex.add(BTC)
    assert not book.ready
    poloniex.on_frame(book_lv2("snapshot", bids=[["99", "1"], ["98", "2"]], asks=[["101", "1.5"]]), 7)
    assert (book.ready, book.received_ns, book.exchange_ns) == (True, 7, 5_000_000)
    poloniex.on_frame(book_lv2("update", bids=[["99", "0"]], asks=[["100", "3"]]), 8)
    assert (book.bids.best, book.bids.best_size, book.asks.best, book.asks.best_size) == (98.0, 2.0, 100.0, 3.0)
    assert poloniex.counters["messages"] == 2


def test_an_update_before_the_snapshot_makes_no_book(poloniex: CcxtProtocol) -> None:
    poloniex.on_frame(book_lv2("update", bids=[["99", "1"]], asks=[["100", "3"]]), 8)
    assert not poloniex.add(BTC).ready


def test_a_market_nobody_follows_is_counted_as_unknown(poloniex: CcxtProtocol) -> None:
    poloniex.on_frame(book_lv2("snapshot", symbol="ETH_USDT", bids=[["9", "1"]], asks=[["10", "1"]]), 1)
    assert poloniex.counters["unknown_symbols"] == 1
    poloniex.on_frame(book_lv2("snapshot", bids=[["99", "1"]], asks=[["101", "1"]]), 2)
    poloniex.remove(BTC.key)
    poloniex.on_frame(book_lv2("snapshot", bids=[["99", "1"]], asks=[["101", "1"]]), 3)
    assert poloniex.counters["unknown_symbols"] == 2


def test_a_crossed_book_is_not_shown(poloniex: CcxtProtocol) -> None:
    poloniex.on_frame(book_lv2("snapshot", bids=[["101", "1"]], asks=[["100", "1"]]), 1)
    assert not poloniex.add(BTC).ready
    assert poloniex.counters["crossed"] == 1


def test_each_trade_is_told_once(poloniex: CcxtProtocol, sink: JudgingSink) -> None:
    for number, side in enumerate(("sell", "buy", "buy"), start=1):
        trade = {"symbol": "BTC_USDT", "amount": "200", "quantity": "2", "takerSide": side, "createTime": number,
                 "price": "100", "id": str(number), "ts": number}  # fmt: skip
        poloniex.on_frame(frame({"channel": "trades", "data": [trade]}), number)
    assert [(trade.side, trade.price, trade.size) for trade in sink.trades] == [
        ("sell", 100.0, 2.0), ("buy", 100.0, 2.0), ("buy", 100.0, 2.0),
    ]  # fmt: skip


@pytest.mark.parametrize(
    ("data", "reason"),
    [
        (b"", "not JSON"),
        (b"\xff\xfe", "not JSON"),
        (b'{"channel": NaN}', "not JSON"),
        (b"[1, 2]", "a list where an object was expected"),
        (b'{"channel":"nobody","data":[1]}', "ccxt cannot read it (TypeError"),
        (book_lv2("snapshot", bids=[["-1", "1"]], asks=[["2", "1"]]), "book: price -1.0 or size 1.0 is out of bounds"),
    ],
)
def test_what_cannot_be_read_is_counted_with_the_reason(poloniex: CcxtProtocol, data: bytes, reason: str) -> None:
    poloniex.on_frame(data, 1)
    assert poloniex.counters["bad_messages"] == 1
    assert [known for known in poloniex.bad_reasons if known.startswith(reason)]
    assert not poloniex.add(BTC).ready


def test_a_book_that_was_reset_waits_for_the_next_snapshot(poloniex: CcxtProtocol, sink: JudgingSink) -> None:
    book = poloniex.add(BTC)
    poloniex.on_frame(book_lv2("snapshot", bids=[["99", "1"]], asks=[["101", "1"]]), 1)
    poloniex.reset()
    assert (book.ready, book.bids.best) == (False, 0.0)
    poloniex.on_frame(book_lv2("update", bids=[["99", "1"]], asks=[["101", "1"]]), 2)
    assert not book.ready
    poloniex.on_frame(book_lv2("snapshot", bids=[["99", "1"]], asks=[["101", "1"]]), 3)
    assert book.ready


JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False, allow_infinity=False) | st.text(max_size=6),
    lambda inner: (
        st.lists(inner, max_size=4)
        | st.dictionaries(st.sampled_from(["symbol", "asks", "bids", "ts", "id", "price", "event", "data"]), inner)
    ),
    max_leaves=15,
)
SHARED = CcxtProtocol("poloniex", "spot", JudgingSink())
SHARED_BOOK = SHARED.add(BTC)


@given(
    st.binary(max_size=40)
    | st.builds(frame, JSON)
    | st.builds(
        lambda channel, action, data: frame({"channel": channel, "action": action, "data": data}),
        st.sampled_from(["book_lv2", "trades", "ticker", "auth", "orders", "candles_day_1"]),
        st.sampled_from(["snapshot", "update"]),
        JSON | st.lists(JSON, max_size=3),
    )
    | st.builds(
        lambda bids, asks, action: book_lv2(action, bids=bids, asks=asks),
        st.lists(st.lists(JSON | st.sampled_from(["1", "2", "-1", "1e400", "NaN", "0"]), max_size=3), max_size=4),
        st.lists(st.lists(JSON | st.sampled_from(["3", "4", "-1", "inf", "0"]), max_size=3), max_size=4),
        st.sampled_from(["snapshot", "update"]),
    )
)
def test_no_frame_raises_or_makes_an_unsound_book(data: bytes) -> None:
    SHARED.on_frame(data, 1)
    if SHARED_BOOK.ready:
        assert_sound(SHARED_BOOK)


# Books that start from a REST snapshot: KuCoin

COIN = market("kucoin", "BTC/USDT", "BTC-USDT")


def level2(sequence: int, *, bids: Any = (), asks: Any = ()) -> bytes:
    changes = {
        "bids": [[price, size, str(sequence)] for price, size in bids],
        "asks": [[price, size, str(sequence)] for price, size in asks],
    }
    data = {"sequenceStart": sequence, "sequenceEnd": sequence, "symbol": "BTC-USDT", "changes": changes}
    return frame(
        {"type": "message", "topic": "/market/level2:BTC-USDT", "subject": "trade.l2update", "data": data}
    )  # fmt: skip


def snapshot(sequence: int) -> bytes:
    data = {"time": 5, "sequence": str(sequence), "bids": [["99", "1"]], "asks": [["101", "1"]]}
    return frame({"code": "200000", "data": data})


@pytest.fixture
def kucoin(sink: JudgingSink) -> CcxtProtocol:
    protocol = CcxtProtocol("kucoin", "spot", sink)
    protocol.add(COIN)
    return protocol


def test_a_snapshot_is_wanted_and_continued_by_the_updates_after_it(kucoin: CcxtProtocol) -> None:
    book = kucoin.add(COIN)
    kucoin.on_frame(level2(10, bids=[("98", "7")]), 1)
    kucoin.on_frame(level2(11, bids=[("99.5", "2")]), 2)
    assert (book.ready, list(kucoin.snapshots_wanted())) == (False, [COIN.key])
    kucoin.on_snapshot(COIN.key, snapshot(10), 3)
    assert (book.ready, list(kucoin.snapshots_wanted())) == (True, [])
    assert list(book.bids.levels()) == [(99.5, 2.0), (99.0, 1.0)]
    kucoin.on_frame(level2(12, asks=[("100", "4")]), 4)
    assert (book.asks.best, book.update_id) == (100.0, 12)


def test_a_snapshot_that_comes_before_the_first_update_is_kept_for_it(kucoin: CcxtProtocol) -> None:
    kucoin.on_snapshot(COIN.key, snapshot(10), 1)
    assert not kucoin.add(COIN).ready
    kucoin.on_frame(level2(11, bids=[("99.5", "2")]), 2)
    assert kucoin.add(COIN).bids.best == 99.5


def test_a_snapshot_older_than_the_first_update_starts_no_book(kucoin: CcxtProtocol) -> None:
    kucoin.on_frame(level2(10, bids=[("98", "7")]), 1)
    kucoin.on_snapshot(COIN.key, snapshot(5), 2)
    assert (kucoin.add(COIN).ready, list(kucoin.snapshots_wanted())) == (False, [COIN.key])
    kucoin.on_snapshot(COIN.key, snapshot(10), 3)
    assert kucoin.add(COIN).ready


@pytest.mark.parametrize("body", [b"", b"nonsense", b"[]", b'{"code":"200000","data":{"bids":[["x"]]}}'])
def test_a_snapshot_that_cannot_be_read_is_counted(kucoin: CcxtProtocol, body: bytes) -> None:
    kucoin.on_frame(level2(10), 1)
    kucoin.on_snapshot(COIN.key, body, 2)
    assert kucoin.counters["bad_messages"] == 1
    assert not kucoin.add(COIN).ready


# ccxt's checksums: Bitget


# Whole recordings


def followed(name: str, sink: JudgingSink) -> ReplaySource:
    (source,) = open_sources([], [recording(f"raw_frames/{name}.jsonl.zst")])
    source.connect(sink)
    for record in source.records():
        source.play(record)
    return source


@pytest.mark.recordings
@pytest.mark.parametrize(
    ("name", "received", "books", "trades"),
    [
        # Of the 295 and 7 messages of these channels one each confirms the subscription.
        ("POLONIEX", 302, 295 - 1, 7 - 1),
        # Its trades are arrays without names, which ccxt reads no more; its best prices come without sizes.
        ("BITGET", 1_157, 637, 0),
    ],
)
def test_every_book_message_of_a_recording_changes_a_book(
    name: str, received: int, books: int, trades: int, sink: JudgingSink
) -> None:
    source = followed(name, sink)
    assert source.counters["messages"] == received
    assert not any(count for counter, count in source.counters.items() if counter != "messages")
    assert (len(sink.books), len(sink.trades), len(sink.tops)) == (books, trades, 0)
    assert all(book.ready for book in source.books.values())


@pytest.mark.recordings
def test_books_of_a_recording_follow_their_snapshots(sink: JudgingSink) -> None:
    source = followed("KUCOIN", sink)
    sequences: dict[str, int] = {}
    level2 = wanted = 0
    for record in source.records():
        message = json.loads(record.data)
        if record.kind == "snapshot":
            sequences[record.hint.partition("symbol=")[2]] = int(message["data"]["sequence"])
            wanted += 1  # the book it starts, or the update before it that waited for it
        elif message.get("subject") == "trade.l2update":
            level2 += 1
            begun = sequences.get(message["data"]["symbol"])
            wanted += begun is not None and message["data"]["sequenceEnd"] > begun
    assert (source.counters["messages"], level2) == (4_721, 3_853)
    assert not any(count for counter, count in source.counters.items() if counter != "messages")
    assert len(sink.books) == wanted
    assert len(sink.trades) == 18


def bitget_spot() -> list[Record]:
    records = open_recording(recording("raw_frames/BITGET.jsonl.zst"))
    return sorted((record for record in records if "spot" in record.hint), key=lambda record: record.received_ns)


@pytest.mark.recordings
def test_a_lost_update_of_a_real_recording_is_found_by_ccxts_checksum(sink: JudgingSink) -> None:
    protocol = CcxtProtocol("bitget", "spot", sink)
    eos = protocol.add(market("bitget", "EOS/USDT", "EOSUSDT"))
    updates = 0
    for record in bitget_spot():
        if b'"update"' in record.data and b'"books"' in record.data and b'"EOSUSDT"' in record.data:
            updates += 1
            if updates == 10:
                continue
        protocol.on_frame(record.data, record.received_ns)
        if updates == 11:
            break
    assert protocol.counters["sequence_gaps"] == 1
    assert list(protocol.resubscribes_wanted()) == [eos.key]
    assert not eos.ready
