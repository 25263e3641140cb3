"""Readers of the three recording formats, and what they say of a wrong file."""

from __future__ import annotations

import gzip
import json
from functools import partial
from pathlib import Path
from typing import Any

import pytest
import zstandard
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.exchanges.feed_servers import market
from trading.marketdata import recording
from trading.marketdata.recording import NotARecording, Record, RecordingHeader, header_as_dict, open_recording

# Without a time in it: the contents name their tests, and names must be the same in every process.
packed = partial(gzip.compress, mtime=0)


def zipped(path: Path, *lines: bytes) -> Path:
    path.write_bytes(gzip.compress(b"".join(line + b"\n" for line in lines)))
    return path


def cryptofeed(path: Path, *entries: Any) -> Path:
    data = b"".join((entry if isinstance(entry, bytes) else json.dumps(entry).encode()) + b"\n" for entry in entries)
    path.write_bytes(zstandard.ZstdCompressor().compress(data))
    return path


HEADER = {"t": "header", "format": 2, "exchange": "BYBIT", "config": {}}


def ours(*markets: Any, connections: tuple[str, ...] = ()) -> bytes:
    header = RecordingHeader(arb_record=1, exchange="binance", markets=markets, connections=connections)
    return json.dumps(header_as_dict(header)).encode()


def test_lines_are_read_in_order_and_snapshots_are_told_from_frames(tmp_path: Path) -> None:
    path = zipped(
        tmp_path / "a.gz",
        b'1723161253937085768 {"stream":"x"}',
        b"",
        b'1723161254206652067 {"lastUpdateId":5,"bids":[]}',
    )
    records = open_recording(path)
    assert records.format == "lines"
    assert list(records) == [
        Record(1723161253937085768, "", "frame", b'{"stream":"x"}'),
        Record(1723161254206652067, "", "snapshot", b'{"lastUpdateId":5,"bids":[]}'),
    ]
    assert len(list(records)) == 2, "a recording can be read again"


def test_our_format_carries_markets_and_marks(tmp_path: Path) -> None:
    btc = market("BTCUSDT", exchange="binance")
    path = zipped(
        tmp_path / "a.gz", ours(btc), b'5 @spot {"a":1}', b'6 #binance:BTC/USDT {"lastUpdateId":1}', b"7 pong"
    )
    records = open_recording(path)
    assert records.format == "arb"
    assert records.markets == (btc,)
    assert records.exchange == "binance"
    assert list(records) == [
        Record(5, "spot", "frame", b'{"a":1}'),
        Record(6, "binance:BTC/USDT", "snapshot", b'{"lastUpdateId":1}'),
        Record(7, "", "frame", b"pong"),
    ]


def test_marks_that_say_nothing_may_be_left_out(tmp_path: Path) -> None:
    btc = market("BTCUSDT", exchange="binance")
    path = zipped(tmp_path / "a.gz", ours(btc, connections=("spot",)), b'5 {"a":1}', b'6 {"lastUpdateId":1}')
    assert [(record.hint, record.kind) for record in open_recording(path)] == [
        ("spot", "frame"),
        ("binance:BTC/USDT", "snapshot"),
    ]


def test_cryptofeed_frames_carry_the_address_of_their_connection(tmp_path: Path) -> None:
    path = cryptofeed(
        tmp_path / "a.jsonl.zst",
        HEADER,
        {
            "t": "http",
            "conn": "X.http.1",
            "ts": 1.5,
            "url": "https://x/api/v3/depth?symbol=BTCUSDT",
            "data": '{"lastUpdateId":1}',
        },
        {"t": "http", "conn": "X.http.1", "ts": 1.6, "url": "https://x/api/v3/exchangeInfo", "data": "{}"},
        {"t": "connect", "conn": "X.ws.2", "ts": 1786310818.2235148, "addr": "wss://x/v5/public/linear"},
        {"t": "send", "conn": "X.ws.2", "ts": 2.0, "addr": "wss://x", "data": "{}"},
        {"t": "recv", "conn": "X.ws.2", "ts": 1786310819.1234567, "data": '{"topic":"é"}'},
    )
    records = open_recording(path)
    assert (records.format, records.exchange) == ("cryptofeed", "BYBIT")
    assert list(records) == [
        Record(1_500_000_000, "https://x/api/v3/depth?symbol=BTCUSDT", "snapshot", b'{"lastUpdateId":1}'),
        Record(1786310819123456700, "wss://x/v5/public/linear", "frame", '{"topic":"é"}'.encode()),
    ]
    assert [url for url, _ in records.http_bodies()] == [
        "https://x/api/v3/depth?symbol=BTCUSDT",
        "https://x/api/v3/exchangeInfo",
    ]


@pytest.mark.parametrize(
    ("content", "said"),
    [
        (b"", "neither a gzip nor a zstd file"),
        (b"hello there", "neither a gzip nor a zstd file"),
        (packed(b""), "the recording is empty"),
        (packed(b"hello there\n"), "line 1: '<received ns> <json>' was expected"),
        (packed(b"-5 {}\n"), "line 1"),
        (packed(b"123456789012345678901234567890 {}\n"), "line 1"),
        (packed(b"5\n"), "line 1"),
        (packed(b'{"arb_record":99,"exchange":"x"}\n'), "format 99"),
        (packed(b'{"something":"else"}\n'), "the header line cannot be read"),
        (packed(b"5 {}\n" * 100)[:-20], "damaged or cut off"),
        (zstandard.ZstdCompressor().compress(b"not json\n"), "the first line is not JSON"),
        (zstandard.ZstdCompressor().compress(b'{"t":"recv"}\n'), "no recording header"),
        (zstandard.ZstdCompressor().compress(b""), "the recording is empty"),
        (b"\x28\xb5\x2f\xfdgarbage", "damaged or cut off"),
    ],
)
def test_a_wrong_file_is_refused_in_one_sentence(tmp_path: Path, content: bytes, said: str) -> None:
    path = tmp_path / "wrong"
    path.write_bytes(content)
    with pytest.raises(NotARecording) as caught:
        list(open_recording(path))
    assert said in str(caught.value)
    assert str(path) in str(caught.value)
    assert "\n" not in str(caught.value)


def test_a_missing_file_and_a_folder_are_refused_in_one_sentence(tmp_path: Path) -> None:
    for path in (tmp_path / "none.gz", tmp_path):
        with pytest.raises(NotARecording, match="cannot be opened"):
            open_recording(path)


def test_a_line_without_end_is_not_read_into_memory(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(recording, "MAX_LINE", 1_000)
    path = zipped(tmp_path / "a.gz", b"5 " + b"x" * 2_000)
    with pytest.raises(NotARecording, match="longer than 1000 bytes"):
        open_recording(path)


@settings(max_examples=150, deadline=None)
@given(content=st.binary(max_size=200), wrap=st.sampled_from(["bare", "gzip", "zstd", "gzip cut"]))
def test_any_bytes_give_records_or_one_sentence(
    tmp_path_factory: pytest.TempPathFactory, content: bytes, wrap: str
) -> None:
    path = tmp_path_factory.mktemp("any") / "file"
    match wrap:
        case "bare":
            path.write_bytes(content)
        case "gzip":
            path.write_bytes(gzip.compress(content))
        case "gzip cut":
            path.write_bytes(gzip.compress(content)[: len(content)])
        case _:
            path.write_bytes(zstandard.ZstdCompressor().compress(content))
    sentence = ""
    try:
        for record in open_recording(path):
            assert record.received_ns >= 0
    except NotARecording as error:
        sentence = str(error)
    assert "\n" not in sentence


def test_a_line_that_is_no_record_comes_as_a_frame_nobody_can_read_and_the_rest_follows(tmp_path: Path) -> None:
    lines = zipped(tmp_path / "a.gz", b'5 {"a":1}', b"\x00garbage", b"", b'7 {"lastUpdateId":1}', b"-1 x", b'8 {"b":2}')
    records = open_recording(lines)
    assert list(records) == [
        Record(5, "", "frame", b'{"a":1}'),
        Record(5, "", "frame", b"\x00garbage"),
        Record(7, "", "snapshot", b'{"lastUpdateId":1}'),
        Record(7, "", "frame", b"-1 x"),
        Record(8, "", "frame", b'{"b":2}'),
    ]
    assert "a.gz, line 2: '<received ns> <json>' was expected" in records.wrong_line


def test_an_event_that_cannot_be_read_comes_as_a_frame_of_the_connection_before_it(tmp_path: Path) -> None:
    path = cryptofeed(
        tmp_path / "a.jsonl.zst",
        HEADER,
        {"t": "connect", "conn": "X.ws.2", "ts": 1, "addr": "wss://x/spot"},
        {"t": "recv", "conn": "X.ws.2", "ts": 2, "data": "{}"},
        ["no", "event"],
        {"t": "recv", "conn": "X.ws.2", "ts": 3, "data": "[]"},
    )
    records = open_recording(path)
    assert list(records) == [
        Record(2_000_000_000, "wss://x/spot", "frame", b"{}"),
        Record(2_000_000_000, "wss://x/spot", "frame", b'["no", "event"]'),
        Record(3_000_000_000, "wss://x/spot", "frame", b"[]"),
    ]
    assert "a.jsonl.zst, line 4: not a recorded event" in records.wrong_line
