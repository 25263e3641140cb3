"""How Binance writes markets: exchange information, books, public trades, tickers, candles."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import replace
from decimal import Decimal

from exchangesim.binance.codec import number
from exchangesim.binance.order_reader import TYPES
from exchangesim.core.exchange import SimExchange
from exchangesim.core.market import Candle, SimMarket
from exchangesim.core.orders import ZERO, PublicTrade, Side
from exchangesim.core.policy import POLICIES
from exchangesim.core.rules import SymbolRules

ORDER_TYPES = list(TYPES)
RATE_LIMITS: list[dict[str, object]] = [
    {"rateLimitType": "REQUEST_WEIGHT", "interval": "MINUTE", "intervalNum": 1, "limit": 6000},
    {"rateLimitType": "ORDERS", "interval": "SECOND", "intervalNum": 10, "limit": 100},
    {"rateLimitType": "ORDERS", "interval": "DAY", "intervalNum": 1, "limit": 200000},
    {"rateLimitType": "RAW_REQUESTS", "interval": "MINUTE", "intervalNum": 5, "limit": 61000},
]


def levels(given: Iterable[tuple[Decimal, Decimal]]) -> list[list[str]]:
    return [[number(price), number(quantity)] for price, quantity in given]


def exchange_information(exchange: SimExchange, markets: Iterable[SimMarket], *, sets: bool) -> dict[str, object]:
    return {
        "timezone": "UTC",
        "serverTime": exchange.clock.time_ms(),
        "rateLimits": RATE_LIMITS,
        "exchangeFilters": [],
        "symbols": [symbol_information(market, sets=sets) for market in markets],
    }


def symbol_information(market: SimMarket, *, sets: bool = True) -> dict[str, object]:
    rules = market.rules
    return {
        "symbol": rules.native,
        "status": "HALT" if market.halted else "TRADING",
        "baseAsset": rules.base,
        "baseAssetPrecision": 8,
        "quoteAsset": rules.quote,
        "quotePrecision": 8,
        "quoteAssetPrecision": 8,
        "baseCommissionPrecision": 8,
        "quoteCommissionPrecision": 8,
        "orderTypes": ORDER_TYPES,
        "icebergAllowed": False,
        "ocoAllowed": True,
        "otoAllowed": True,
        "opoAllowed": False,
        "quoteOrderQtyMarketAllowed": True,
        "allowTrailingStop": False,
        "cancelReplaceAllowed": False,
        "amendAllowed": False,
        "pegInstructionsAllowed": False,
        "isSpotTradingAllowed": True,
        "isMarginTradingAllowed": False,
        "filters": _filters(rules),
        "permissions": [],
        "permissionSets": [["SPOT"]] if sets else [],
        "defaultSelfTradePreventionMode": "NONE",
        "allowedSelfTradePreventionModes": ["NONE"],
    }


def _filters(rules: SymbolRules) -> list[dict[str, object]]:
    up, down = f"{rules.price_band:f}", f"{1 / rules.price_band:.4f}"
    return [
        {
            "filterType": "PRICE_FILTER",
            "minPrice": number(rules.tick),
            "maxPrice": "1000000.00000000",
            "tickSize": number(rules.tick),
        },
        {
            "filterType": "LOT_SIZE",
            "minQty": number(rules.min_quantity),
            "maxQty": number(rules.max_quantity),
            "stepSize": number(rules.lot),
        },
        {"filterType": "ICEBERG_PARTS", "limit": 10},
        {
            "filterType": "MARKET_LOT_SIZE",
            "minQty": number(ZERO),
            "maxQty": number(rules.max_quantity),
            "stepSize": number(ZERO),
        },
        {"filterType": "TRAILING_DELTA", **dict.fromkeys(("minTrailingAboveDelta", "minTrailingBelowDelta"), 10)}
        | dict.fromkeys(("maxTrailingAboveDelta", "maxTrailingBelowDelta"), 2000),
        {
            "filterType": "PERCENT_PRICE_BY_SIDE",
            "bidMultiplierUp": up,
            "bidMultiplierDown": down,
            "askMultiplierUp": up,
            "askMultiplierDown": down,
            "avgPriceMins": 5,
        },
        {
            "filterType": "NOTIONAL",
            "minNotional": number(rules.min_notional),
            "applyMinToMarket": True,
            "maxNotional": "9000000.00000000",
            "applyMaxToMarket": False,
            "avgPriceMins": 5,
        },
        {"filterType": "MAX_NUM_ORDERS", "maxNumOrders": rules.max_open_orders},
        {"filterType": "MAX_NUM_ORDER_LISTS", "maxNumOrderLists": POLICIES["binance"].max_lists},
        {"filterType": "MAX_NUM_ALGO_ORDERS", "maxNumAlgoOrders": POLICIES["binance"].max_conditional},
    ]


def public_trade(trade: PublicTrade) -> dict[str, object]:
    return {
        "id": trade.id,
        "price": number(trade.price),
        "qty": number(trade.quantity),
        "quoteQty": number(trade.price * trade.quantity),
        "time": trade.time_ms,
        "isBuyerMaker": trade.taker_side is Side.SELL,
        "isBestMatch": True,
    }


def aggregate(trades: Iterable[PublicTrade]) -> list[dict[str, object]]:
    """Join trades of one taker at one price, keyed as the aggTrade stream and list key them."""
    joined: list[dict[str, object]] = []
    total = ZERO
    for trade in trades:
        if joined and joined[-1]["a"] == trade.aggregate_id:
            total += trade.quantity
            joined[-1].update(q=number(total), l=trade.id)
            continue
        total = trade.quantity
        joined.append(
            {
                "a": trade.aggregate_id,
                "p": number(trade.price),
                "q": number(total),
                "f": trade.id,
                "l": trade.id,
                "T": trade.time_ms,
                "m": trade.taker_side is Side.SELL,
                "M": True,
            }
        )
    return joined


def day_ticker(market: SimMarket, now_ms: int) -> dict[str, object]:
    day = market.day(now_ms)
    change = day.close - day.open
    bid, bid_size, ask, ask_size = market.top or (ZERO, ZERO, ZERO, ZERO)
    first = market.trades[0].id if market.trades else -1
    last = market.trades[-1] if market.trades else None
    average = day.quote_volume / day.volume if day.volume else day.close
    return {
        "symbol": market.native,
        "priceChange": number(change),
        "priceChangePercent": f"{change / day.open * 100:.3f}",
        "weightedAvgPrice": number(average),
        "prevClosePrice": number(day.open),
        "lastPrice": number(day.close),
        "lastQty": number(last.quantity if last else ZERO),
        "bidPrice": number(bid),
        "bidQty": number(bid_size),
        "askPrice": number(ask),
        "askQty": number(ask_size),
        "openPrice": number(day.open),
        "highPrice": number(day.high),
        "lowPrice": number(day.low),
        "volume": number(day.volume),
        "quoteVolume": number(day.quote_volume),
        "openTime": min(day.open_ms, now_ms),
        "closeTime": now_ms,
        "firstId": last.id - day.trades + 1 if last and day.trades else first,
        "lastId": last.id if last else -1,
        "count": day.trades,
    }


def ticker_event(market: SimMarket, now_ms: int) -> dict[str, object]:
    day = day_ticker(market, now_ms)
    keys = (
        ("p", "priceChange"),
        ("P", "priceChangePercent"),
        ("w", "weightedAvgPrice"),
        ("x", "prevClosePrice"),
        ("c", "lastPrice"),
        ("Q", "lastQty"),
        ("b", "bidPrice"),
        ("B", "bidQty"),
        ("a", "askPrice"),
        ("A", "askQty"),
        ("o", "openPrice"),
        ("h", "highPrice"),
        ("l", "lowPrice"),
        ("v", "volume"),
        ("q", "quoteVolume"),
        ("O", "openTime"),
        ("C", "closeTime"),
        ("F", "firstId"),
        ("L", "lastId"),
        ("n", "count"),
    )
    return {"e": "24hrTicker", "E": now_ms, "s": market.native, **{short: day[long] for short, long in keys}}


def book_ticker(market: SimMarket) -> dict[str, object]:
    bid, bid_size, ask, ask_size = market.top or (ZERO, ZERO, ZERO, ZERO)
    return {
        "symbol": market.native,
        "bidPrice": number(bid),
        "bidQty": number(bid_size),
        "askPrice": number(ask),
        "askQty": number(ask_size),
    }


def klines(market: SimMarket, minutes: int, *, start_ms: int | None, end_ms: int | None, limit: int) -> list[object]:
    """Return candles of so many minutes, from the minutes that had trades, oldest first."""
    length = minutes * 60_000
    rows: dict[int, Candle] = {}
    for c in market.candles:
        opened = c.open_ms - c.open_ms % length
        if (start_ms is not None and opened < start_ms) or (end_ms is not None and opened > end_ms):
            continue
        row = rows.get(opened)
        rows[opened] = replace(c, open_ms=opened) if row is None else row.joined(c)
    found = sorted(rows.items())
    found = found[:limit] if start_ms is not None else found[-limit:]
    return [
        [
            opened,
            *map(number, (row.open, row.high, row.low, row.close, row.volume)),
            opened + length - 1,
            number(row.quote_volume),
            row.trades,
            number(row.taker_buy_volume),
            number(row.taker_buy_quote_volume),
            "0",
        ]
        for opened, row in found
    ]
