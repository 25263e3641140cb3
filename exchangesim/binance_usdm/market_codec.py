"""How USD-M writes markets: exchange information, books, trades, mark prices and funding."""

from __future__ import annotations

from collections.abc import Iterable
from decimal import Decimal
from typing import Any

from exchangesim.binance import market_codec as spot
from exchangesim.binance.codec import number
from exchangesim.binance_usdm.codec import amount, price
from exchangesim.core.futures.exchange import FundingRate, FuturesExchange
from exchangesim.core.market import SimMarket
from exchangesim.core.orders import ZERO, PublicTrade, Side
from exchangesim.core.rules import SymbolRules
from exchangesim.core.text import plain

# Every type the exchange knows; conditional ones are taken by the algo service.
ORDER_TYPES = ["LIMIT", "MARKET", "STOP", "STOP_MARKET", "TAKE_PROFIT", "TAKE_PROFIT_MARKET", "TRAILING_STOP_MARKET"]
FORCES = ["GTC", "IOC", "FOK", "GTX", "GTD"]
RATE_LIMITS: list[dict[str, object]] = [
    {"rateLimitType": "REQUEST_WEIGHT", "interval": "MINUTE", "intervalNum": 1, "limit": 2400},
    {"rateLimitType": "ORDERS", "interval": "MINUTE", "intervalNum": 1, "limit": 1200},
    {"rateLimitType": "ORDERS", "interval": "SECOND", "intervalNum": 10, "limit": 300},
]
NEVER_MS = 4_133_404_800_000  # the delivery time of what is never delivered
LISTED_MS = 1_569_398_400_000
TRIGGER_PROTECT = Decimal("0.05")
"""How far mark and contract price may be apart for a protected conditional order to be triggered."""


def levels(rules: SymbolRules, given: Iterable[tuple[Decimal, Decimal]]) -> list[list[str]]:
    return [[price(rules, level), amount(rules, quantity)] for level, quantity in given]


def exchange_information(exchange: FuturesExchange) -> dict[str, object]:
    quotes = dict.fromkeys(market.rules.quote for market in exchange.markets.values())
    return {
        "timezone": "UTC",
        "serverTime": exchange.clock.time_ms(),
        "futuresType": "U_MARGINED",
        "rateLimits": RATE_LIMITS,
        "exchangeFilters": [],
        "assets": [{"asset": asset, "marginAvailable": True, "autoAssetExchange": "0"} for asset in quotes],
        "symbols": [_symbol(market) for market in exchange.markets.values()],
    }


def _symbol(market: SimMarket) -> dict[str, object]:
    rules = market.rules
    return {
        "symbol": rules.native,
        "pair": rules.native,
        "contractType": "PERPETUAL",
        "deliveryDate": NEVER_MS,
        "onboardDate": LISTED_MS,
        "status": "SETTLING" if market.halted else "TRADING",
        "maintMarginPercent": "2.5000",
        "requiredMarginPercent": "5.0000",
        "baseAsset": rules.base,
        "quoteAsset": rules.quote,
        "marginAsset": rules.quote,
        "pricePrecision": rules.price_places,
        "quantityPrecision": rules.quantity_places,
        "baseAssetPrecision": 8,
        "quotePrecision": 8,
        "underlyingType": "COIN",
        "underlyingSubType": ["PoW"] if rules.base == "BTC" else ["Layer-1"],
        "triggerProtect": f"{TRIGGER_PROTECT:.4f}",
        "liquidationFee": f"{rules.liquidation_fee:.6f}",
        "marketTakeBound": "0.05",
        "maxMoveOrderLimit": 10_000,
        "filters": _filters(rules),
        "orderTypes": ORDER_TYPES,
        "timeInForce": FORCES,
    }


def _filters(rules: SymbolRules) -> list[dict[str, object]]:
    tick, lot = plain(rules.tick), plain(rules.lot)
    quantities = {"minQty": plain(rules.min_quantity), "maxQty": plain(rules.max_quantity), "stepSize": lot}
    return [
        {"filterType": "PRICE_FILTER", "minPrice": tick, "maxPrice": "10000000", "tickSize": tick},
        {"filterType": "LOT_SIZE", **quantities},
        {"filterType": "MARKET_LOT_SIZE", **quantities},
        {"filterType": "MAX_NUM_ORDERS", "limit": rules.max_open_orders},
        {"filterType": "MAX_NUM_ALGO_ORDERS", "limit": rules.max_open_orders},
        {"filterType": "MIN_NOTIONAL", "notional": plain(rules.min_notional)},
        {
            "filterType": "PERCENT_PRICE",
            "multiplierUp": f"{rules.price_band:.4f}",
            "multiplierDown": f"{1 / rules.price_band:.4f}",
            "multiplierDecimal": "4",
        },
    ]


def depth(market: SimMarket, limit: int, now_ms: int) -> dict[str, object]:
    return {
        "lastUpdateId": market.update_id,
        "E": now_ms,
        "T": market.changed_ms,
        "bids": levels(market.rules, market.book.bids.top(limit)),
        "asks": levels(market.rules, market.book.asks.top(limit)),
    }


def public_trade(trade: PublicTrade, rules: SymbolRules) -> dict[str, object]:
    return {
        "id": trade.id,
        "price": price(rules, trade.price),
        "qty": amount(rules, trade.quantity),
        "quoteQty": plain(trade.price * trade.quantity),
        "time": trade.time_ms,
        "isBuyerMaker": trade.taker_side is Side.SELL,
    }


def aggregate(trades: Iterable[PublicTrade], rules: SymbolRules) -> list[dict[str, object]]:
    rows = spot.aggregate(trades)
    for row in rows:
        del row["M"]
        row["p"] = price(rules, Decimal(str(row["p"])))
        row["q"] = amount(rules, Decimal(str(row["q"])))
    return rows


def day_ticker(market: SimMarket, now_ms: int) -> dict[str, object]:
    row = spot.day_ticker(market, now_ms)
    for name in ("prevClosePrice", "bidPrice", "bidQty", "askPrice", "askQty"):
        del row[name]
    return row


def ticker_event(market: SimMarket, now_ms: int) -> dict[str, object]:
    event = spot.ticker_event(market, now_ms)
    for name in "xbBaA":
        del event[name]
    return event


def book_ticker(market: SimMarket) -> dict[str, object]:
    bid, bid_size, ask, ask_size = market.top or (ZERO, ZERO, ZERO, ZERO)
    rules = market.rules
    return {
        "symbol": market.native,
        "bidPrice": price(rules, bid),
        "bidQty": amount(rules, bid_size),
        "askPrice": price(rules, ask),
        "askQty": amount(rules, ask_size),
        "time": market.changed_ms,
        "lastUpdateId": market.update_id,
    }


def premium_index(exchange: FuturesExchange, market: SimMarket) -> dict[str, Any]:
    prices = exchange.prices[market.native]
    return {
        "symbol": market.native,
        "markPrice": number(prices.mark),
        "indexPrice": number(prices.index),
        "estimatedSettlePrice": number(prices.index),
        "lastFundingRate": number(prices.rate),
        "interestRate": "0.00010000",
        "nextFundingTime": exchange.next_funding_ms,
        "time": exchange.clock.time_ms(),
    }


def mark_event(exchange: FuturesExchange, market: SimMarket) -> dict[str, object]:
    row = premium_index(exchange, market)
    return {
        "e": "markPriceUpdate",
        "E": row["time"],
        "s": row["symbol"],
        "p": row["markPrice"],
        "ap": row["markPrice"],
        "P": row["estimatedSettlePrice"],
        "i": row["indexPrice"],
        "r": row["lastFundingRate"],
        "T": row["nextFundingTime"],
    }


def funding_rate(rate: FundingRate) -> dict[str, object]:
    return {
        "symbol": rate.native,
        "fundingTime": rate.time_ms,
        "fundingRate": number(rate.rate),
        "markPrice": number(rate.mark),
    }


def funding_info(market: SimMarket, hours: float) -> dict[str, object]:
    return {
        "symbol": market.native,
        "adjustedFundingRateCap": "0.02000000",
        "adjustedFundingRateFloor": "-0.02000000",
        "fundingIntervalHours": max(1, round(hours)),
        "disclaimer": False,
    }
