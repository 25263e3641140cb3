"""Recording a running exchange, and replaying what was written."""

from __future__ import annotations

import asyncio
import gzip
import json
from io import StringIO
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import pytest
from django.core.management import CommandError, call_command

from tests.exchangesim.simulator import Simulator, running_simulator
from trading.clock import SystemClock
from trading.config import ExchangeSpec
from trading.instruments import Market
from trading.marketdata.recorder import RecordingWriter, record
from trading.marketdata.recording import RecordingHeader, open_recording

MARKET = Market(exchange="binance", symbol="BTC/USDT", native_id="BTCUSDT", base="BTC", quote="USDT")
HEADER = RecordingHeader(arb_record=1, exchange="binance", ccxt_id="binance", markets=(MARKET,))


@pytest.fixture(scope="module")
def exchanges() -> Any:
    with running_simulator("--symbols", "BTC/USDT,ETH/USDT") as simulator:
        yield simulator


def spec(simulator: Simulator, exchange: str) -> ExchangeSpec:
    urls = {"rest": host(simulator.rest[exchange]), "ws": host(simulator.ws[exchange])}
    return ExchangeSpec(code=exchange, ccxt_id=exchange, environment="simulated", urls=urls)


def host(url: str) -> str:
    """Leave the path out, as ExchangeSpec wants it."""
    parts = urlsplit(url)
    return f"{parts.scheme}://{parts.netloc}"


class CountingClock(SystemClock):
    """Tells when it has been asked for the time so often: a feed asks once a message."""

    def __init__(self, calls: int) -> None:
        self.left = calls
        self.reached = asyncio.Event()

    def time_ns(self) -> int:
        self.left -= 1
        if self.left == 0:
            self.reached.set()
        return super().time_ns()


def command(name: str, *arguments: str) -> str:
    out = StringIO()
    call_command(name, *arguments, stdout=out)
    return out.getvalue()


@pytest.mark.parametrize("exchange", ["binance", "okx", "bybit"])
def test_what_a_feed_received_replays_without_a_gap(exchanges: Simulator, exchange: str, tmp_path: Path) -> None:
    path = tmp_path / f"{exchange}.gz"
    summary = asyncio.run(record(spec(exchanges, exchange), ["BTC/USDT", "ETH/USDT"], 2.0, path, SystemClock()))
    assert summary.notes == ()
    assert summary.markets == (f"{exchange}:BTC/USDT", f"{exchange}:ETH/USDT")
    assert summary.frames > 20
    assert (summary.snapshots > 0) == (exchange == "binance")
    replayed = json.loads(command("replay", "--file", str(path), "--json"))
    assert replayed["messages"] == summary.frames + summary.snapshots
    assert (replayed["bad_messages"], replayed["sequence_gaps"], replayed["notes"]) == (0, 0, [])


@pytest.mark.django_db
def test_two_exchanges_recorded_by_the_command_are_compared_by_the_replay(exchanges: Simulator, tmp_path: Path) -> None:
    for exchange in ("okx", "bybit"):
        where = ("--rest", exchanges.rest[exchange], "--ws", exchanges.ws[exchange])
        what = ("--exchange", exchange, "--symbols", "BTC/USDT", "--seconds", "2")
        printed = json.loads(command("record", *what, *where, "--out", str(tmp_path / f"{exchange}.gz"), "--json"))
        assert printed["frames"] > 10
    markets = ("--market", f"okx:BTC/USDT={tmp_path}/okx.gz", "--file", f"{tmp_path}/bybit.gz")
    routes = json.loads(command("replay", *markets, "--json"))["routes"]
    assert {(row["buy"], row["sell"]) for row in routes} == {
        ("okx:BTC/USDT", "bybit:BTC/USDT"),
        ("bybit:BTC/USDT", "okx:BTC/USDT"),
    }


def test_a_message_is_written_as_it_came(tmp_path: Path) -> None:
    writer = RecordingWriter(tmp_path / "file.gz", HEADER)
    writer.write(17, "linear trades", "frame", b'{"a":\r\n "b c"}')
    writer.write(18, "binance:BTC/USDT", "snapshot", b'{"lastUpdateId":1}')
    assert not (tmp_path / "file.gz").exists()
    writer.close()
    records = list(open_recording(tmp_path / "file.gz"))
    assert [(one.received_ns, one.hint, one.kind) for one in records] == [
        (17, "linear_trades", "frame"),
        (18, "binance:BTC/USDT", "snapshot"),
    ]
    assert json.loads(records[0].data) == {"a": "b c"}
    assert open_recording(tmp_path / "file.gz").markets == (MARKET,)
    assert [path.name for path in tmp_path.iterdir()] == ["file.gz"]


def test_a_recording_is_never_overwritten(tmp_path: Path) -> None:
    path = tmp_path / "file.gz"
    path.write_bytes(gzip.compress(b"precious"))
    with pytest.raises(FileExistsError, match="exists already"):
        RecordingWriter(path, HEADER)
    assert gzip.decompress(path.read_bytes()) == b"precious"


def test_an_interrupted_recording_keeps_what_came(exchanges: Simulator, tmp_path: Path) -> None:
    path = tmp_path / "file.gz"

    async def interrupted() -> None:
        clock = CountingClock(30)
        task = asyncio.ensure_future(record(spec(exchanges, "bybit"), ["BTC/USDT"], 600.0, path, clock))
        await clock.reached.wait()
        task.cancel()
        await asyncio.gather(task, return_exceptions=True)

    asyncio.run(interrupted())
    assert len(list(open_recording(path))) >= 20
    assert not path.with_name("file.gz.part").exists()


def test_an_exchange_that_is_not_there_leaves_no_file(tmp_path: Path) -> None:
    down = ExchangeSpec(
        code="okx",
        ccxt_id="okx",
        environment="simulated",
        urls={"rest": "http://127.0.0.1:9", "ws": "ws://127.0.0.1:9"},
    )
    with pytest.raises(ConnectionError, match="exchange okx"):
        asyncio.run(record(down, ["BTC/USDT"], 1.0, tmp_path / "file.gz", SystemClock()))
    assert list(tmp_path.iterdir()) == []


@pytest.mark.django_db
@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (("--exchange", "nasdaq", "--symbols", "A/B", "--out", "x"), "no exchange is set up here as 'nasdaq'"),
        (
            ("--exchange", "binance", "--symbols", "A/B", "--out", "x", "--rest", "http://127.0.0.1:9"),
            "belong together",
        ),
    ],
)
def test_wrong_input_is_one_sentence_and_exit_code_2(arguments: tuple[str, ...], said: str) -> None:
    with pytest.raises(CommandError) as refusal:
        command("record", *arguments)
    assert said in str(refusal.value)
    assert refusal.value.returncode == 2


@pytest.mark.django_db
def test_an_unknown_symbol_and_a_folder_that_is_not_there_are_named(exchanges: Simulator, tmp_path: Path) -> None:
    where = (
        "--exchange",
        "bybit",
        "--rest",
        host(exchanges.rest["bybit"]),
        "--ws",
        host(exchanges.ws["bybit"]),
        "--seconds",
        "1",
    )
    with pytest.raises(CommandError, match=r"bybit has no market 'XYZ/USDT'; it has BTC/USDT, ETH/USDT"):
        command("record", *where, "--symbols", "XYZ/USDT", "--out", str(tmp_path / "file.gz"))
    with pytest.raises(CommandError, match=r"--out: .*nowhere/file.gz cannot be written \(No such file or directory\)"):
        command("record", *where, "--symbols", "BTC/USDT", "--out", str(tmp_path / "nowhere" / "file.gz"))
    assert list(tmp_path.iterdir()) == []
