"""Binance market data messages, decoded straight to numbers. Field letters are the exchange's.

Source: https://developers.binance.com/docs/binance-spot-api-docs/web-socket-streams and the USD-M and COIN-M pages
beside it. Only what is used is decoded; msgspec skips the rest.
"""

from __future__ import annotations

import msgspec
from msgspec import Raw, Struct, field

from trading.marketdata.protocol import Level, Milliseconds, SequenceId, Size


class Depth(Struct, gc=False):
    """A diff of the book (``<symbol>@depth@100ms``). ``pu`` exists on futures only."""

    first: SequenceId = field(name="U")
    last: SequenceId = field(name="u")
    bids: list[Level] = field(name="b")
    asks: list[Level] = field(name="a")
    event_ms: Milliseconds = field(name="E")
    previous: SequenceId = field(name="pu", default=0)


class PartialDepth(Struct, gc=False):
    """The top of the book, whole (``<symbol>@depth20``), as spot sends it."""

    last: SequenceId = field(name="lastUpdateId")
    bids: list[Level]
    asks: list[Level]


class Snapshot(Struct, gc=False):
    """Body of the REST depth endpoints; ``E`` exists on futures only."""

    last: SequenceId = field(name="lastUpdateId")
    bids: list[Level]
    asks: list[Level]
    event_ms: Milliseconds = field(name="E", default=0)


class BookTicker(Struct, gc=False):
    """Best bid and ask (``<symbol>@bookTicker``); spot gives no time. A side without orders has price and size 0."""

    update_id: SequenceId = field(name="u")
    bid: Size = field(name="b")
    bid_size: Size = field(name="B")
    ask: Size = field(name="a")
    ask_size: Size = field(name="A")
    event_ms: Milliseconds = field(name="E", default=0)


class Trade(Struct, gc=False):
    """``aggTrade`` and ``trade``; ``m`` says the buyer was the maker, so that the taker sold."""

    price: Size = field(name="p")
    size: Size = field(name="q")
    trade_ms: Milliseconds = field(name="T")
    buyer_is_maker: bool = field(name="m")


class MarkPrice(Struct, gc=False):
    """``<symbol>@markPrice@1s``: the mark price, the funding rate and when it is paid next.

    A contract with a delivery date has no funding: its rate is empty, its next payment at 0.
    """

    mark: Size = field(name="p")
    rate: str = field(name="r")
    next_ms: Milliseconds = field(name="T")
    event_ms: Milliseconds = field(name="E")


class DepthFrame(Struct, gc=False):
    data: Depth


class PartialDepthFrame(Struct, gc=False):
    data: PartialDepth


class BookTickerFrame(Struct, gc=False):
    data: BookTicker


class TradeFrame(Struct, gc=False):
    data: Trade


class MarkPriceFrame(Struct, gc=False):
    data: MarkPrice


class Envelope(Struct, gc=False):
    """Any frame: a combined-stream envelope, a raw payload (``e`` and ``s``), or an answer to a request."""

    stream: str = ""
    data: Raw = Raw()
    event: str = field(name="e", default="")
    symbol: str = field(name="s", default="")
    update_id: Raw = field(name="u", default=Raw())
    ask_size: Raw = field(name="A", default=Raw())
    error: Raw = Raw()
    code: Raw = Raw()
    result: Raw = Raw()


decode_depth = msgspec.json.Decoder(Depth, strict=False).decode
decode_partial = msgspec.json.Decoder(PartialDepth, strict=False).decode
decode_snapshot = msgspec.json.Decoder(Snapshot, strict=False).decode
decode_ticker = msgspec.json.Decoder(BookTicker, strict=False).decode
decode_mark = msgspec.json.Decoder(MarkPrice, strict=False).decode
decode_trade = msgspec.json.Decoder(Trade, strict=False).decode
decode_depth_frame = msgspec.json.Decoder(DepthFrame, strict=False).decode
decode_partial_frame = msgspec.json.Decoder(PartialDepthFrame, strict=False).decode
decode_ticker_frame = msgspec.json.Decoder(BookTickerFrame, strict=False).decode
decode_trade_frame = msgspec.json.Decoder(TradeFrame, strict=False).decode
decode_mark_frame = msgspec.json.Decoder(MarkPriceFrame, strict=False).decode
decode_envelope = msgspec.json.Decoder(Envelope, strict=False).decode
