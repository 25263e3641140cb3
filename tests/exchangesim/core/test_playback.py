"""Playing recordings: the exchange's book is the recording's, and users' orders match against it."""

from __future__ import annotations

import asyncio
import gzip
import json
from decimal import Decimal
from functools import partial
from pathlib import Path
from typing import Any

import pytest
import zstandard

from exchangesim.core.clock import ManualClock
from exchangesim.core.exchange import SimExchange
from exchangesim.core.orders import NewOrder, OrderType, Side, TimeInForce
from exchangesim.core.playback import Player, Recording, open_recording
from exchangesim.core.recordings import PlayedBook, Reader, RecordingError, unified_symbol
from exchangesim.core.rules import make_rules
from tests.recordings import recording as real_recording

# Without a time in it: the contents name their tests, and names must be the same in every process.
packed = partial(gzip.compress, mtime=0)
D = Decimal
NATIVE = "BTCUSDT"


def line(ns: int, message: object, mark: str = "") -> str:
    return f"{ns} {mark}{json.dumps(message, separators=(',', ':'))}\n"


def diff(first: int, last: int, bids: list[list[str]], asks: list[list[str]]) -> dict[str, Any]:
    data = {"e": "depthUpdate", "E": 1, "s": NATIVE, "U": first, "u": last, "b": bids, "a": asks}
    return {"stream": "btcusdt@depth@100ms", "data": data}


SNAPSHOT = {"lastUpdateId": 10, "bids": [["99.0", "1"], ["98.0", "1"]], "asks": [["101.0", "1"], ["102.0", "1"]]}


def write(path: Path, *lines: str) -> Path:
    with gzip.open(path, "wt") as file:
        file.writelines(lines)
    return path


def build(recording: Recording, **options: Any) -> tuple[SimExchange, Player]:
    rules = [
        recording.adapt(make_rules(recording.exchange, symbol, price=price))
        for symbol, price in recording.prices.items()
    ]
    exchange = SimExchange(recording.exchange, rules, recording.prices, clock=ManualClock())
    return exchange, Player(exchange, recording, **options)


def ioc(native: str, side: Side, price: str, quantity: str, **fields: Any) -> NewOrder:
    return NewOrder(
        native=native,
        side=side,
        type=OrderType.LIMIT,
        time_in_force=fields.pop("tif", TimeInForce.IOC),
        price=D(price),
        quantity=D(quantity),
        **fields,
    )


def tops(exchange: SimExchange, count: int = 3) -> tuple[list[tuple[Decimal, Decimal]], list[tuple[Decimal, Decimal]]]:
    book = exchange.markets[NATIVE].book
    return book.bids.top(count), book.asks.top(count)


@pytest.fixture
def simple(tmp_path: Path) -> Recording:
    return open_recording(
        write(
            tmp_path / "simple.gz",
            line(1, diff(8, 9, [["97.0", "5"]], [])),  # older than the snapshot
            line(2, diff(10, 11, [["99.0", "2"]], [])),  # the first newer one comes before it
            line(3, SNAPSHOT),
            line(4, diff(12, 12, [], [["101.0", "3"]])),
            line(5, diff(13, 13, [], [["101.0", "0"]])),
            line(6, diff(14, 14, [], [["101.0", "4"]])),
        ),
        "binance",
    )


def test_changes_are_chained_to_their_snapshot(simple: Recording) -> None:
    exchange, player = build(simple)
    player.prepare()
    assert tops(exchange)[0] == [(D(99), D(1)), (D(98), D(1))], "the older change is in the snapshot already"
    player.apply(next(player._events))
    assert tops(exchange)[0][0] == (D(99), D(2))


def test_what_users_take_stays_taken_until_the_level_goes(simple: Recording) -> None:
    exchange, player = build(simple)
    player.prepare()
    player.apply(next(player._events))
    account, _ = exchange.put_account("key", "secret", balances={"USDT": D(10_000)})
    order = exchange.place(account, ioc(NATIVE, Side.BUY, "101", "0.75"))
    assert order.filled == D("0.75")
    assert tops(exchange)[1][0] == (D(101), D("0.25"))
    player.apply(next(player._events))
    assert tops(exchange)[1][0] == (D(101), D("2.25")), "of the recorded 3"
    player.apply(next(player._events))
    assert tops(exchange)[1][0] == (D(102), D(1))
    player.apply(next(player._events))
    assert tops(exchange)[1][0] == (D(101), D(4)), "a new level is whole"


def test_a_recorded_trade_fills_the_orders_it_reaches(tmp_path: Path) -> None:
    def trade(price: str, quantity: str, maker_buys: bool) -> dict[str, Any]:
        return {"data": {"e": "trade", "s": NATIVE, "t": 1, "p": price, "q": quantity, "m": maker_buys}}

    recording = open_recording(
        write(
            tmp_path / "trades.gz",
            line(1, SNAPSHOT),
            line(2, trade("99.0", "0.4", True)),
            line(3, trade("99.0", "1.0", True)),
            line(4, trade("98.5", "1.0", True)),
        ),
        "binance",
    )
    exchange, player = build(recording)
    player.prepare()
    account, _ = exchange.put_account("key", "secret", balances={"USDT": D(10_000)})
    order = exchange.place(account, ioc(NATIVE, Side.BUY, "99", "1", tif=TimeInForce.GTC))
    player.apply(next(player._events))
    assert order.filled == 0, "1 stood in front, 0.6 does now"
    player.apply(next(player._events))
    assert order.filled == D("0.4")
    player.apply(next(player._events))
    assert order.filled == D(1), "a trade below reaches a bid above"
    assert [trade.quantity for trade in exchange.markets[NATIVE].trades if trade.price == D("98.5")] == [D("0.4")]


async def test_a_recording_starts_over_or_ends(simple: Recording) -> None:
    exchange, player = build(simple, speed=1e9, loop=False)
    player.prepare()
    await player.run()
    assert player.rounds == 1
    assert tops(exchange)[1][0] == (D(101), D(4)), "the last book stays"

    exchange, player = build(simple, speed=1e9, loop=True)
    player.prepare()
    task = asyncio.create_task(player.run())
    async with asyncio.timeout(20):
        while player.rounds < 3:  # noqa: ASYNC110  (the player has no event to wait for)
            await asyncio.sleep(0)
    task.cancel()
    assert tops(exchange)[0][0][0] == D(99)


async def test_time_between_messages_is_kept_and_divided_by_the_speed(tmp_path: Path) -> None:
    second = 1_000_000_000
    path = write(
        tmp_path / "slow.gz",
        line(second, SNAPSHOT),
        line(2 * second, diff(11, 11, [["98.5", "1"]], [])),
        line(32 * second, diff(12, 12, [["98.6", "1"]], [])),
    )
    _, player = build(open_recording(path, "binance"), speed=100.0, loop=False)
    player.prepare()
    loop = asyncio.get_running_loop()
    start = loop.time()
    await player.run()
    assert loop.time() - start >= 0.3


def test_our_own_record_format_is_read(tmp_path: Path) -> None:
    header = {
        "arb_record": 1,
        "exchange": "binance",
        "connections": ["wss://stream.binance.com/stream"],
        "markets": [{"key": "binance:BTC/USDT"}, {"key": "binance:ETH/USDT"}],
    }
    path = write(
        tmp_path / "own.gz",
        json.dumps(header) + "\n",
        line(1, {"lastUpdateId": 5, "bids": [["10.5", "1"]], "asks": [["10.6", "1"]]}, "#binance:ETH/USDT "),
        line(2, SNAPSHOT, "#binance:BTC/USDT "),
        line(3, diff(11, 11, [["99.5", "1"]], [])),
        line(4, diff(12, 12, [["99.9", "9"]], []), "@wss://fstream.binance.com/stream "),
    )
    recording = open_recording(path, "binance")
    assert recording.prices == {"ETH/USDT": D("10.55"), "BTC/USDT": D(100)}
    exchange, player = build(recording)
    player.prepare()
    player.play_all()
    assert tops(exchange)[0][0] == (D("99.5"), D(1)), "and the futures connection is not taken for spot"


@pytest.mark.parametrize(
    ("content", "says"),
    [
        (b"plain text, not packed", "neither a gzip nor a zstd"),
        (packed(b"not a line of a recording\n"), "line 1, is not"),
        (packed(line(1, SNAPSHOT).encode() * 50)[:-20], "damaged or cut off"),
        (packed(b'{"arb_record": 2}\n'), "format 2"),
        (packed(b'{"arb_record": 1, "markets": 7}\n'), "header"),
        (packed(line(1, {"data": {"e": "bookTicker"}}).encode()), "no whole spot book"),
        (zstandard.compress(b"not json\n"), "line 1, is not a recorded event"),
        (b"", "neither"),
    ],
)
def test_what_is_no_recording_is_refused_in_one_sentence(tmp_path: Path, content: bytes, says: str) -> None:
    path = tmp_path / "file"
    path.write_bytes(content)
    with pytest.raises(RecordingError, match=says) as refused:
        open_recording(path, "binance")
    assert "\n" not in str(refused.value)


def test_a_missing_file_is_refused_in_one_sentence(tmp_path: Path) -> None:
    with pytest.raises(RecordingError, match="cannot be opened"):
        open_recording(tmp_path / "none", "binance")


def test_messages_that_make_no_sense_are_counted_and_passed_over(tmp_path: Path) -> None:
    path = write(
        tmp_path / "bad.gz",
        line(1, SNAPSHOT),
        line(2, diff(11, 11, [["NaN", "1"]], [])),
        line(3, diff(12, 12, [["-5", "1"]], [])),
        line(4, diff(13, 13, [["99.5", "-1"]], [])),
        line(5, diff(14, 14, [["99.5"]], [])),  # type: ignore[list-item]
        "6 {broken\n",
        line(7, diff(15, 15, [["99.5", "1"]], [])),
    )
    reader = Reader(path, "binance")
    assert len([event for event in reader if isinstance(event, PlayedBook)]) == 2
    assert reader.bad == 5


def test_names_are_split_at_known_quote_assets() -> None:
    assert unified_symbol("BTCUSDT") == "BTC/USDT"
    assert unified_symbol("BLZETH") == "BLZ/ETH"
    assert unified_symbol("BTC-USDC") == "BTC/USDC"
    assert unified_symbol("BTCUSD_PERP") is None


@pytest.mark.recordings
def test_the_real_binance_recording_gives_the_book_its_own_book_ticker_shows() -> None:
    path = real_recording("binance_three_markets/spot_btcusdt_20240808.gz")
    recording = open_recording(path, "binance")
    assert recording.prices == {"BTC/USDT": D("61837.635")}
    tickers: dict[int, tuple[str, str, str, str]] = {}
    with gzip.open(path, "rt") as file:
        for text in file:
            data = json.loads(text.partition(" ")[2]).get("data", {})
            if "e" not in data and "B" in data:
                tickers[data["u"]] = (data["b"], data["B"], data["a"], data["A"])
    exchange, player = build(recording)
    compared = 0
    player.prepare()
    market = exchange.markets[NATIVE]
    for event in player._events:
        if not isinstance(event, PlayedBook):
            continue
        player.apply(event)
        ticker = tickers.get(event.last_id or 0)
        if ticker is not None:
            assert market.top == tuple(D(text) for text in ticker)
            compared += 1
    assert compared > 500
    assert player.played > 3000


@pytest.mark.recordings
@pytest.mark.parametrize(
    ("name", "exchange", "symbols"),
    [
        ("BINANCE", "binance", {"NKN/USDT", "BLZ/ETH", "LRC/BTC", "RUNE/EUR"}),
        ("OKX", "okx", {"BTC/USDT"}),
        ("BYBIT", "bybit", {"BTC/USDT", "ETH/USDT"}),
    ],
)
def test_real_cryptofeed_recordings_play(name: str, exchange: str, symbols: set[str]) -> None:
    recording = open_recording(real_recording(f"raw_frames/{name}.jsonl.zst"), exchange)
    assert set(recording.prices) == symbols
    venue, player = build(recording)
    player.prepare()
    player.play_all()
    assert player.played > 90
    for market in venue.markets.values():
        top = market.top
        assert top is not None
        assert top[0] < top[2]
        assert top[0] % market.rules.tick == 0
    if name != "BINANCE":
        assert any(market.trades for market in venue.markets.values())


@pytest.mark.recordings
def test_an_order_placed_into_a_real_recording_fills_at_the_recorded_prices() -> None:
    recording = open_recording(real_recording("binance_three_markets/spot_btcusdt_20240808.gz"), "binance")
    exchange, player = build(recording)
    player.prepare()
    account, _ = exchange.put_account("key", "secret", balances={"USDT": D(1_000_000)})
    before = exchange.markets[NATIVE].book.asks.top(2)
    quantity = before[0][1] + D("0.00001")
    order = exchange.place(account, ioc(NATIVE, Side.BUY, str(before[1][0]), str(quantity)))
    assert order.filled == quantity
    assert order.filled_quote == before[0][0] * before[0][1] + before[1][0] * D("0.00001")
