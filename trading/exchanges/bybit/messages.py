"""Bybit v5 market data messages, decoded straight to numbers.

Source: https://bybit-exchange.github.io/docs/v5/websocket/public/orderbook, .../trade and .../ticker
"""

from __future__ import annotations

from typing import Literal

import msgspec
from msgspec import Raw, Struct, field

from trading.marketdata.protocol import Level, Milliseconds, Price, SequenceId, Size


class BookData(Struct, gc=False):
    """``u`` counts the messages of one topic; ``seq`` is the matching engine's and compares topics."""

    bids: list[Level] = field(name="b")
    asks: list[Level] = field(name="a")
    update_id: SequenceId = field(name="u")
    sequence: SequenceId = field(name="seq", default=0)


class BookFrame(Struct, gc=False):
    data: BookData
    type: Literal["snapshot", "delta"]
    sent_ms: Milliseconds = field(name="ts")
    # When the matching engine produced it; the older of the two times.
    matched_ms: Milliseconds = field(name="cts", default=0)


class TradeData(Struct, gc=False):
    price: Price = field(name="p")
    size: Size = field(name="v")
    side: Literal["Buy", "Sell"] = field(name="S")
    exchange_ms: Milliseconds = field(name="T")


class TradeFrame(Struct, gc=False):
    data: list[TradeData]


class TickerData(Struct, gc=False):
    """The fields of ``tickers`` that give the best prices; a delta names only what changed, spot names none."""

    bid: Price | None = field(name="bid1Price", default=None)
    bid_size: Size | None = field(name="bid1Size", default=None)
    ask: Price | None = field(name="ask1Price", default=None)
    ask_size: Size | None = field(name="ask1Size", default=None)


class TickerFrame(Struct, gc=False):
    data: TickerData
    type: Literal["snapshot", "delta"]
    sent_ms: Milliseconds = field(name="ts")
    sequence: SequenceId = field(name="cs", default=0)


class Envelope(Struct, gc=False):
    """Any frame: ``topic`` names a stream, ``op`` (or ``success``) an answer."""

    topic: str = ""
    op: str = ""
    success: bool | None = None
    message: str = field(name="ret_msg", default="")
    data: Raw = Raw()


decode_book = msgspec.json.Decoder(BookFrame, strict=False).decode
decode_trade = msgspec.json.Decoder(TradeFrame, strict=False).decode
decode_ticker = msgspec.json.Decoder(TickerFrame, strict=False).decode
decode_envelope = msgspec.json.Decoder(Envelope, strict=False).decode
