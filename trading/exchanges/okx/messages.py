"""OKX v5 market data messages, decoded straight to numbers.

Source: https://www.okx.com/docs-v5/en/#order-book-trading-market-data-ws-order-book-channel
"""

from __future__ import annotations

from typing import Annotated, Literal

import msgspec
from msgspec import Struct, field

from trading.marketdata.protocol import Milliseconds, Price, Size

# Counts from -1 (a snapshot has no previous) and may restart lower after maintenance.
SequenceNumber = Annotated[int, msgspec.Meta(ge=-1, le=2**62)]


class Level(Struct, array_like=True, gc=False):
    """``[price, size, "0", number of orders]``; what follows the first two is not used."""

    price: Price
    size: Size


class LevelText(Struct, array_like=True, gc=False):
    """A level as written: the checksum is over the written digits."""

    price: str
    size: str


class BookData(Struct, gc=False):
    """One change of a book. Recordings of 2022 have a checksum and no ids; since June 2026 the checksum is 0."""

    bids: list[Level]
    asks: list[Level]
    exchange_ms: Milliseconds = field(name="ts")
    sequence: SequenceNumber | None = field(name="seqId", default=None)
    previous: SequenceNumber | None = field(name="prevSeqId", default=None)
    checksum: int = 0


class BookFrame(Struct, gc=False):
    """``books`` and its kin (``action`` says what), ``books5`` and ``bbo-tbt`` (no action, always whole)."""

    data: list[BookData]
    action: Literal["snapshot", "update", ""] = ""


class TextBookData(Struct, gc=False):
    bids: list[LevelText]
    asks: list[LevelText]


class TextBookFrame(Struct, gc=False):
    data: list[TextBookData]


class TradeData(Struct, gc=False):
    price: Price = field(name="px")
    size: Size = field(name="sz")
    side: Literal["buy", "sell"]
    exchange_ms: Milliseconds = field(name="ts")


class TradeFrame(Struct, gc=False):
    data: list[TradeData]


class Argument(Struct, gc=False):
    channel: str = ""
    native_id: str = field(name="instId", default="")


class Envelope(Struct, gc=False):
    """Any frame: ``event`` answers a request or gives notice, ``arg`` names a channel."""

    arg: Argument | None = None
    event: str = ""
    code: str = ""
    message: str = field(name="msg", default="")


decode_book = msgspec.json.Decoder(BookFrame, strict=False).decode
decode_book_text = msgspec.json.Decoder(TextBookFrame, strict=False).decode
decode_trade = msgspec.json.Decoder(TradeFrame, strict=False).decode
decode_envelope = msgspec.json.Decoder(Envelope, strict=False).decode
