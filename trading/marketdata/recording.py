"""Recordings of market data: the writer behind ``./arb record``, and readers for three file formats.

Our format is gzip text. The first line is a JSON object ``{"arb_record": 1, "exchange": .., "markets": [..]}``; each
further line is ``<received ns> [@<connection>|#<market key>] <raw JSON>``: a frame as received, or (``#``) the body of
a REST snapshot. The mark is left out where it says nothing: on frames when the file holds one connection, on snapshots
when it holds one market. A file of one market is thus ``<ns> <JSON>`` lines, as other recorders write them.
"""

from __future__ import annotations

import gzip
import io
import json
import zlib
from collections.abc import Iterator, Mapping
from decimal import Decimal, InvalidOperation
from pathlib import Path
from typing import Any, BinaryIO, Literal, NamedTuple

import msgspec
import zstandard

from trading.instruments import Market

FORMAT_VERSION = 1
GZIP_MAGIC = b"\x1f\x8b"
ZSTD_MAGIC = b"\x28\xb5\x2f\xfd"
MAX_LINE = 64 * 1024 * 1024
# What the URL of a REST order book contains: Binance's, KuCoin's.
BOOK_PATHS = ("/depth", "/orderbook/level2")

Kind = Literal["frame", "snapshot"]


class NotARecording(ValueError):
    """The file is no recording, or a damaged one; the message says what is wrong in one sentence."""


class Record(NamedTuple):
    """One received message. ``hint`` is the connection (a name or its URL) of a frame, the key or URL of a snapshot."""

    received_ns: int
    hint: str
    kind: Kind
    data: bytes


class RecordingHeader(msgspec.Struct, frozen=True, kw_only=True):
    """First line of our own format."""

    arb_record: int
    exchange: str
    ccxt_id: str = ""
    markets: tuple[Market, ...] = ()
    connections: tuple[str, ...] = ()
    started_ns: int = 0


class Recording:
    """A recording opened for reading; iterate it for its records, in the order received.

    ``format`` is ``arb``, ``lines`` (gzip ``<ns> <json>``) or ``cryptofeed``; ``header`` our header where there is
    one; ``exchange`` the recorder's name for the exchange where it is known, ``subscribed`` its names of the markets it
    followed (cryptofeed only). Iterating reads the file as it goes and may be done more than once. A line that is no
    record comes as a frame of the time and connection before it, so that whoever decodes frames counts it as bad;
    ``wrong_line`` says of the first what was expected.
    """

    def __init__(self, path: str | Path) -> None:
        self.path = Path(path)
        self.header: RecordingHeader | None = None
        self.exchange = ""
        self.subscribed: tuple[str, ...] = ()
        self.wrong_line = ""
        self.format: Literal["arb", "lines", "cryptofeed"] = "lines"
        self._inspect()

    def __iter__(self) -> Iterator[Record]:
        return self._read_cryptofeed() if self.format == "cryptofeed" else self._read_lines()

    @property
    def markets(self) -> tuple[Market, ...]:
        return self.header.markets if self.header is not None else ()

    def http_bodies(self) -> Iterator[tuple[str, bytes]]:
        """Yield (URL, body) of every recorded HTTP answer: instrument definitions among them (cryptofeed only)."""
        if self.format != "cryptofeed":
            return
        for entry in self._entries():
            if entry.kind == "http":
                yield entry.url, entry.data.encode()

    # Opening

    def _inspect(self) -> None:
        first = self._first_line()
        if self.format == "cryptofeed":
            try:
                header = json.loads(first)
            except ValueError:
                raise NotARecording(
                    f"{self.path}: the first line is not JSON; a recording header was expected"
                ) from None
            if (
                not isinstance(header, dict)
                or header.get("t") != "header"
                or not isinstance(header.get("exchange"), str)
            ):
                raise NotARecording(f"{self.path}: the first line is no recording header with an exchange name")
            self.exchange = header["exchange"]
            self.subscribed = _subscriptions(header.get("config"))
            return
        if first.startswith(b"{"):
            try:
                self.header = _decode_header(first)
            except (msgspec.MsgspecError, InvalidOperation, UnicodeDecodeError) as error:
                raise NotARecording(f"{self.path}: the header line cannot be read ({error})") from None
            if self.header.arb_record != FORMAT_VERSION:
                raise NotARecording(
                    f"{self.path}: written in format {self.header.arb_record}, this program reads {FORMAT_VERSION}"
                )
            self.exchange = self.header.exchange
            self.format = "arb"
            return
        self._parse_line(first, 1)

    def _first_line(self) -> bytes:
        try:
            with self.path.open("rb") as file:
                magic = file.read(4)
        except OSError as error:
            raise NotARecording(f"{self.path}: cannot be opened ({error.strerror})") from None
        if magic == ZSTD_MAGIC:
            self.format = "cryptofeed"
        elif magic[:2] != GZIP_MAGIC:
            raise NotARecording(f"{self.path}: neither a gzip nor a zstd file, so no recording")
        for line in self._lines():
            return line
        raise NotARecording(f"{self.path}: the recording is empty")

    def _lines(self) -> Iterator[bytes]:
        try:
            with self._open() as file:
                while line := file.readline(MAX_LINE):
                    if len(line) == MAX_LINE:
                        raise NotARecording(f"{self.path}: a line is longer than {MAX_LINE} bytes, so no recording")
                    yield line
        except (OSError, EOFError, zlib.error, zstandard.ZstdError) as error:
            raise NotARecording(f"{self.path}: damaged or cut off ({error})") from None

    def _open(self) -> BinaryIO:
        if self.format == "cryptofeed":
            reader = zstandard.ZstdDecompressor().stream_reader(self.path.open("rb"), closefd=True)
            return io.BufferedReader(reader, 1 << 20)
        return gzip.open(self.path, "rb")  # type: ignore[return-value]

    # <ns> <json> lines, and our own format

    def _read_lines(self) -> Iterator[Record]:
        lines = enumerate(self._lines(), start=1)
        if self.header is not None:
            next(lines)
        last = Record(0, "", "frame", b"")
        for number, line in lines:
            if line.isspace():
                continue
            try:
                record = self._parse_line(line, number)
            except NotARecording as error:
                if not line.endswith(b"\n"):
                    raise  # the file was cut off within its last line
                self.wrong_line = self.wrong_line or str(error)
                record = last._replace(data=line.strip())  # a bad message like any other
            else:
                last = record if record.kind == "frame" else last._replace(received_ns=record.received_ns)
            yield record

    def _parse_line(self, line: bytes, number: int) -> Record:
        stamp, _, rest = line.partition(b" ")
        data = rest.strip()
        if not stamp.isdigit() or len(stamp) > 19 or not data:
            found = line[:40].decode(errors="replace")
            raise NotARecording(f"{self.path}, line {number}: '<received ns> <json>' was expected, found {found!r}")
        hint = ""
        kind: Kind = "frame"
        if data[:1] in (b"@", b"#"):
            mark, _, data = data.partition(b" ")
            hint = mark[1:].decode(errors="replace")
            kind = "snapshot" if mark[:1] == b"#" else "frame"
        elif data.startswith(b'{"lastUpdateId"'):
            kind = "snapshot"
            hint = self.header.markets[0].key if self.header is not None and self.header.markets else ""
        elif self.header is not None and self.header.connections:
            hint = self.header.connections[0]
        return Record(int(stamp), hint, kind, data)

    # cryptofeed

    def _entries(self) -> Iterator[_CryptofeedEntry]:
        last = _CryptofeedEntry(kind="recv")
        for number, line in enumerate(self._lines(), start=1):
            try:
                entry = _decode_entry(line)
            except (msgspec.MsgspecError, UnicodeDecodeError) as error:
                wrong = f"{self.path}, line {number}: not a recorded event ({error})"
                if not line.endswith(b"\n"):
                    raise NotARecording(wrong) from None  # the file was cut off within its last line
                self.wrong_line = self.wrong_line or wrong
                entry = msgspec.structs.replace(last, data=line.decode(errors="replace").strip())
            else:
                last = entry if entry.kind == "recv" else last
            yield entry

    def _read_cryptofeed(self) -> Iterator[Record]:
        addresses: dict[str, str] = {}
        for entry in self._entries():
            if entry.kind == "connect":
                addresses[entry.connection] = entry.address
            elif entry.kind == "recv":
                hint = addresses.get(entry.connection, entry.connection)
                yield Record(int(entry.seconds * 1_000_000_000), hint, "frame", entry.data.encode())
            elif entry.kind == "http" and any(path in entry.url for path in BOOK_PATHS):
                yield Record(int(entry.seconds * 1_000_000_000), entry.url, "snapshot", entry.data.encode())


class _CryptofeedEntry(msgspec.Struct, gc=False):
    kind: str = msgspec.field(name="t")
    connection: str = msgspec.field(name="conn", default="")
    seconds: Decimal = msgspec.field(name="ts", default=Decimal(0))
    address: str = msgspec.field(name="addr", default="")
    url: str = ""
    data: str = ""


def _subscriptions(config: object) -> tuple[str, ...]:
    """Return the market names of a cryptofeed header's channels."""
    channels = config.values() if isinstance(config, dict) else ()
    names = (name for channel in channels if isinstance(channel, list) for name in channel if isinstance(name, str))
    return tuple(dict.fromkeys(names))


_decode_entry = msgspec.json.Decoder(_CryptofeedEntry, strict=False).decode
_decode_header = msgspec.json.Decoder(RecordingHeader).decode


def open_recording(path: str | Path) -> Recording:
    """Open a recording of any of the three formats; raise :class:`NotARecording` for anything else."""
    return Recording(path)


def header_as_dict(header: RecordingHeader) -> Mapping[str, Any]:
    """Return the header as plain JSON values."""
    return msgspec.to_builtins(header)  # type: ignore[no-any-return]
