"""Core objects as OKX writes them. Pure functions; every figure is a string, as on the wire.

Field sets follow the v5 documentation (public data, order book trading, trading account). Fields that exist for
derivatives, margin or attached algo orders are there and empty, as they are for spot orders on the exchange.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from decimal import Decimal
from typing import Any

import msgspec

from exchangesim.core.book import BookSide
from exchangesim.core.market import Candle, SimMarket
from exchangesim.core.orders import CloseReason, Fill, Order, OrderType, PublicTrade, Side, Status, TimeInForce
from exchangesim.core.rules import SymbolRules
from exchangesim.core.text import plain
from exchangesim.core.window import Levels

Json = dict[str, Any]
UsdPrice = Callable[[str], Decimal | None]
"""Price of an asset in US dollars, None when nothing tells it."""

LISTED_MS = 1_548_133_413_000
_STATES = {
    Status.NEW: "live",
    Status.PARTIALLY_FILLED: "partially_filled",
    Status.FILLED: "filled",
    Status.CANCELED: "canceled",
    Status.EXPIRED: "canceled",
}
_CANCEL_SOURCES = {
    CloseReason.NONE: "",
    CloseReason.REQUESTED: "1",
    CloseReason.FOK_UNFILLED: "13",
    CloseReason.IOC_REST: "14",
    CloseReason.MARKET_REST: "14",
    CloseReason.POST_ONLY_WOULD_TAKE: "31",
}
_CANCEL_TEXTS = {
    "": "",
    "1": "Order canceled by user",
    "13": "Order canceled: FOK order was canceled due to incompletely filled",
    "14": "Order canceled: IOC order was partially canceled due to incompletely filled",
    "31": "The post-only order will take liquidity in taker orders",
}


def instrument(rules: SymbolRules, code: int, *, live: bool) -> Json:
    """Return one row of public/instruments. ``code`` is the number WebSocket orders may name instead of instId."""
    return {
        "alias": "",
        "auctionEndTime": "",
        "baseCcy": rules.base,
        "category": "1",
        "ctMult": "",
        "ctType": "",
        "ctVal": "",
        "ctValCcy": "",
        "expTime": "",
        "instFamily": "",
        "instId": rules.native,
        "instIdCode": code,
        "instType": "SPOT",
        "lever": "",
        "listTime": str(LISTED_MS),
        "lotSz": plain(rules.lot),
        "maxIcebergSz": plain(rules.max_quantity),
        "maxLmtAmt": "20000000",
        "maxLmtSz": plain(rules.max_quantity),
        "maxMktAmt": "1000000",
        "maxMktSz": "1000000",
        "maxStopSz": "1000000",
        "maxTriggerSz": plain(rules.max_quantity),
        "maxTwapSz": plain(rules.max_quantity),
        "minSz": plain(rules.min_quantity),
        "optType": "",
        "quoteCcy": rules.quote,
        "ruleType": "normal",
        "settleCcy": "",
        "state": "live" if live else "suspend",
        "stk": "",
        "tickSz": plain(rules.tick),
        "tradeQuoteCcyList": [rules.quote],
        "uly": "",
    }


def book_levels(side: BookSide, levels: Levels) -> list[list[str]]:
    """Return levels as [price, size, "0", number of orders]; the market's own liquidity counts as one order."""
    rows = []
    for price, total in levels:
        level = side.levels.get(price)
        count = 0 if not total else 1 if level is None else len(level.orders) + (level.market > 0)
        rows.append([plain(price), plain(total), "0", str(count)])
    return rows


def book_body(market: SimMarket, levels: tuple[Levels, Levels], time_ms: int) -> Json:
    """Return asks, bids and time; what else a channel carries is added by the channel."""
    bids, asks = levels
    return {
        "asks": book_levels(market.book.asks, asks),
        "bids": book_levels(market.book.bids, bids),
        "ts": str(time_ms),
    }


def ticker(market: SimMarket, day: Candle, time_ms: int) -> Json:
    top = market.top
    last = market.trades[-1] if market.trades else None
    return {
        "instType": "SPOT",
        "instId": market.native,
        "last": plain(market.last_price),
        "lastSz": plain(last.quantity) if last else "0",
        "askPx": plain(top[2]) if top else "",
        "askSz": plain(top[3]) if top else "",
        "bidPx": plain(top[0]) if top else "",
        "bidSz": plain(top[1]) if top else "",
        "open24h": plain(day.open),
        "high24h": plain(day.high),
        "low24h": plain(day.low),
        "sodUtc0": plain(day.open),
        "sodUtc8": plain(day.open),
        "volCcy24h": plain(day.quote_volume),
        "vol24h": plain(day.volume),
        "ts": str(time_ms),
    }


def trade(native: str, public: PublicTrade) -> Json:
    return {
        "instId": native,
        "tradeId": str(public.id),
        "px": plain(public.price),
        "sz": plain(public.quantity),
        "side": public.taker_side.lower(),
        "ts": str(public.time_ms),
        "source": "0",
    }


def aggregate_trades(native: str, trades: Iterable[PublicTrade]) -> list[Json]:
    """Merge matches of one taker at one price, as the ``trades`` channel does; ``tradeId`` is the last one's."""
    merged: list[tuple[PublicTrade, Decimal, int]] = []
    for public in trades:
        if merged and merged[-1][0].aggregate_id == public.aggregate_id and merged[-1][0].price == public.price:
            _, quantity, count = merged.pop()
            merged.append((public, quantity + public.quantity, count + 1))
        else:
            merged.append((public, public.quantity, 1))
    return [trade(native, public) | {"sz": plain(quantity), "count": str(count)} for public, quantity, count in merged]


def order_type(order: Order) -> str:
    """Return OKX's ``ordType``, which joins type, time in force and post-only in one word."""
    if order.type is OrderType.MARKET:
        return "market"
    if order.post_only:
        return "post_only"
    return {TimeInForce.GTC: "limit", TimeInForce.IOC: "ioc", TimeInForce.FOK: "fok"}[order.time_in_force]


def order(order: Order, rules: SymbolRules, last: Fill | None) -> Json:
    """Return an order as REST queries give it. ``last`` is its newest fill. Fees are negative when paid."""
    usual = rules.base if order.side is Side.BUY else rules.quote
    fee_asset = next(iter(order.fees), usual)
    source = _CANCEL_SOURCES.get(order.close_reason, "") if order.status in (Status.CANCELED, Status.EXPIRED) else ""
    by_quote = bool(order.quote_quantity)
    return {
        "accFillSz": plain(order.filled),
        "algoClOrdId": order.tags.get("algoClOrdId", ""),
        "algoId": str(order.list_id) if "leg" in order.tags else "",
        "attachAlgoClOrdId": "",
        "attachAlgoOrds": _attached(order),
        "avgPx": _average(order),
        "cTime": str(order.created_ms),
        "cancelSource": source,
        "cancelSourceReason": _CANCEL_TEXTS[source],
        "category": "normal",
        "ccy": "",
        "clOrdId": order.client_id,
        "fee": plain(-order.fees.get(fee_asset, Decimal(0))),
        "feeCcy": fee_asset,
        "fillPx": plain(last.price) if last else "",
        "fillSz": plain(last.quantity) if last else "0",
        "fillTime": str(last.time_ms) if last else "",
        "instId": order.native,
        "instType": "SPOT",
        "isTpLimit": "false",
        "lever": "",
        "linkedAlgoOrd": {"algoId": ""},
        "ordId": str(order.id),
        "ordType": order_type(order),
        "pnl": "0",
        "posSide": "net",
        "px": plain(order.price) if order.type is OrderType.LIMIT else "",
        "pxType": "",
        "pxUsd": "",
        "pxVol": "",
        "quickMgnType": "",
        "rebate": "0",
        "rebateCcy": rules.quote if order.side is Side.BUY else rules.base,
        "reduceOnly": "false",
        "side": order.side.lower(),
        "slOrdPx": "",
        "slTriggerPx": "",
        "slTriggerPxType": "",
        "source": "",
        "state": _STATES[order.status],
        "stpId": "",
        "stpMode": "cancel_maker",
        "sz": plain(order.quote_quantity if by_quote else order.quantity),
        "tag": order.tags.get("tag", ""),
        "tdMode": "cash",
        "tgtCcy": ("quote_ccy" if by_quote else "base_ccy") if order.type is OrderType.MARKET else "",
        "tpOrdPx": "",
        "tpTriggerPx": "",
        "tpTriggerPxType": "",
        "tradeId": str(last.trade_id) if last else "",
        "tradeQuoteCcy": rules.quote,
        "uTime": str(order.updated_ms),
    }


def _attached(order: Order) -> list[Json]:
    kept = order.tags.get("attached")
    return [] if kept is None else [msgspec.json.decode(kept) | {"attachAlgoId": str(order.list_id)}]


def order_event(
    subject: Order,
    rules: SymbolRules,
    fill: Fill | None,
    *,
    last_price: Decimal,
    usd_price: UsdPrice,
    request_id: str = "",
    amend_result: str = "",
) -> Json:
    """Return one row of the ``orders`` channel: the order after an event, and the fill if the event was one."""
    body = order(subject, rules, fill)
    quote_usd = usd_price(rules.quote)
    notional = subject.quote_quantity or subject.quantity * (subject.price or last_price)
    body.update(
        {
            "amendResult": amend_result,
            "amendSource": "",
            "code": "0",
            "execType": ("M" if fill.maker else "T") if fill else "",
            "fillFee": plain(-fill.fee) if fill else "0",
            "fillFeeCcy": fill.fee_asset if fill else "",
            "fillFwdPx": "",
            "fillIdxPx": "",
            "fillMarkPx": "",
            "fillMarkVol": "",
            "fillNotionalUsd": plain(fill.quote_quantity * quote_usd) if fill and quote_usd else "",
            "fillPnl": "0",
            "fillPxUsd": "",
            "fillPxVol": "",
            "lastPx": plain(last_price),
            "msg": "",
            "notionalUsd": plain(notional * quote_usd) if quote_usd else "",
            "reqId": request_id,
        }
    )
    return body


def fill(own: Fill, subject: Order | None) -> Json:
    """Return one row of trade/fills. ``billId`` orders them: trade ids grow, and self-trades differ by order."""
    return {
        "instType": "SPOT",
        "instId": own.native,
        "tradeId": str(own.trade_id),
        "ordId": str(own.order_id),
        "clOrdId": own.client_id,
        "billId": str(bill_id(own)),
        "subType": "1" if own.side is Side.BUY else "2",
        "tag": subject.tags.get("tag", "") if subject else "",
        "fillPx": plain(own.price),
        "fillSz": plain(own.quantity),
        "fillIdxPx": "",
        "fillPnl": "0",
        "fillPxVol": "",
        "fillPxUsd": "",
        "fillMarkVol": "",
        "fillFwdPx": "",
        "fillMarkPx": "",
        "side": own.side.lower(),
        "posSide": "net",
        "execType": "M" if own.maker else "T",
        "feeCcy": own.fee_asset,
        "fee": plain(-own.fee),
        "feeRate": plain(-(own.fee / _received(own)).normalize()) if _received(own) else "0",
        "ts": str(own.time_ms),
        "fillTime": str(own.time_ms),
        "tradeQuoteCcy": "",
    }


def fill_event(own: Fill) -> Json:
    """Return one row of the ``fills`` channel."""
    return {
        "instId": own.native,
        "fillSz": plain(own.quantity),
        "fillPx": plain(own.price),
        "side": own.side.lower(),
        "ts": str(own.time_ms),
        "ordId": str(own.order_id),
        "clOrdId": own.client_id,
        "tradeId": str(own.trade_id),
        "execType": "M" if own.maker else "T",
        "count": "1",
    }


def bill_id(own: Fill) -> int:
    """Return an id that orders fills and tells the two sides of a self-trade apart."""
    return own.trade_id * 2 + (own.side is Side.SELL)


def _average(order: Order) -> str:
    average = order.average
    return "" if average is None else plain(round(average, 12))


def _received(own: Fill) -> Decimal:
    return own.quantity if own.side is Side.BUY else own.quote_quantity
