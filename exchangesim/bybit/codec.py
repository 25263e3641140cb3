"""Core objects as Bybit v5 writes them. Pure functions; figures are strings, times of events integers in streams.

Field sets follow the v5 documentation for the spot category of a unified account, plus the fields that other
categories carry and clients expect to find (``tpslMode``, ``createType``), which are empty or at their default here.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from decimal import Decimal
from typing import Any

from exchangesim.bybit.stops import stop_type
from exchangesim.core.accounts import Account, Balance
from exchangesim.core.coins import Coin
from exchangesim.core.market import Candle, SimMarket
from exchangesim.core.orders import CloseReason, Fill, Order, OrderType, PublicTrade, Side, Status
from exchangesim.core.rules import SymbolRules
from exchangesim.core.text import plain
from exchangesim.core.window import Levels

Json = dict[str, Any]
UsdPrice = Callable[[str], Decimal | None]
"""Price of an asset in US dollars, None when nothing tells it."""

SIDES = {Side.BUY: "Buy", Side.SELL: "Sell"}
_REJECT_REASONS = {
    CloseReason.NONE: "EC_NoError",
    CloseReason.REQUESTED: "EC_PerCancelRequest",
    CloseReason.IOC_REST: "EC_NoImmediateQtyToFill",
    CloseReason.MARKET_REST: "EC_NoImmediateQtyToFill",
    CloseReason.FOK_UNFILLED: "EC_CancelForNoFullFill",
    CloseReason.POST_ONLY_WOULD_TAKE: "EC_PostOnlyWillTakeLiquidity",
    CloseReason.OTHER_LEG: "EC_NoError",
    CloseReason.WORKING_ENDED: "EC_NoError",
    CloseReason.REFUSED: "EC_NoEnoughQtyToFill",
}


_UNUSED = frozenset({CloseReason.REQUESTED, CloseReason.OTHER_LEG, CloseReason.WORKING_ENDED})
"""Why a conditional order may have ended that was not triggered."""


def instrument(rules: SymbolRules, number: int, *, trading: bool) -> Json:
    return {
        "symbol": rules.native,
        "symbolId": number,
        "baseCoin": rules.base,
        "quoteCoin": rules.quote,
        "innovation": "0",
        "status": "Trading" if trading else "Closed",
        "marginTrading": "none",
        "stTag": "0",
        "lotSizeFilter": {
            "basePrecision": plain(rules.lot),
            "quotePrecision": "0.0000001",
            "minOrderQty": plain(rules.min_quantity),
            "maxOrderQty": plain(rules.max_quantity),
            "minOrderAmt": plain(rules.min_notional),
            "maxOrderAmt": "4000000",
            "maxLimitOrderQty": plain(rules.max_quantity),
            "maxMarketOrderQty": plain(rules.max_quantity),
            "postOnlyMaxLimitOrderSize": plain(rules.max_quantity),
        },
        "priceFilter": {"tickSize": plain(rules.tick)},
        "riskParameters": {"priceLimitRatioX": "0.01", "priceLimitRatioY": "0.02"},
        "symbolType": "",
    }


def levels(pairs: Levels) -> list[list[str]]:
    return [[plain(price), plain(total)] for price, total in pairs]


def book_data(native: str, shown: tuple[Levels, Levels], update: int, sequence: int) -> Json:
    bids, asks = shown
    return {"s": native, "b": levels(bids), "a": levels(asks), "u": update, "seq": sequence}


def rest_ticker(market: SimMarket, day: Candle, usd_price: UsdPrice) -> Json:
    top = market.top
    return {
        "symbol": market.native,
        "bid1Price": plain(top[0]) if top else "",
        "bid1Size": plain(top[1]) if top else "",
        "ask1Price": plain(top[2]) if top else "",
        "ask1Size": plain(top[3]) if top else "",
    } | stream_ticker(market, day, usd_price)


def stream_ticker(market: SimMarket, day: Candle, usd_price: UsdPrice) -> Json:
    """Return the data of the spot ``tickers`` topic, which carries no bid and ask."""
    change = (market.last_price - day.open) / day.open if day.open else Decimal(0)
    usd = usd_price(market.rules.base)
    return {
        "symbol": market.native,
        "lastPrice": plain(market.last_price),
        "highPrice24h": plain(day.high),
        "lowPrice24h": plain(day.low),
        "prevPrice24h": plain(day.open),
        "volume24h": plain(day.volume),
        "turnover24h": plain(day.quote_volume),
        "price24hPcnt": plain(round(change, 4)),
        "usdIndexPrice": plain(usd) if usd is not None else "",
    }


def rest_trade(native: str, trade: PublicTrade) -> Json:
    return {
        "execId": str(trade.id),
        "symbol": native,
        "price": plain(trade.price),
        "size": plain(trade.quantity),
        "side": SIDES[trade.taker_side],
        "time": str(trade.time_ms),
        "isBlockTrade": False,
        "isRPITrade": False,
        "seq": str(trade.id),
    }


def stream_trade(native: str, trade: PublicTrade) -> Json:
    return {
        "i": str(trade.id),
        "T": trade.time_ms,
        "p": plain(trade.price),
        "v": plain(trade.quantity),
        "S": SIDES[trade.taker_side],
        "seq": trade.id,
        "s": native,
        "BT": False,
        "RPI": False,
    }


def order_status(order: Order) -> str:
    if order.idle:
        return "Untriggered" if order.is_open else "Deactivated" if order.close_reason in _UNUSED else "Rejected"
    if order.is_open:
        return "PartiallyFilled" if order.filled else "New"
    if order.status is Status.FILLED:
        return "Filled"
    return "PartiallyFilledCanceled" if order.filled else "Cancelled"


def order(order: Order) -> Json:
    """Return an order as order/realtime and order/history list it."""
    by_quote = bool(order.quote_quantity)
    is_market = order.type is OrderType.MARKET
    remaining = order.remaining if order.is_open and not by_quote else Decimal(0)
    leaves_value = order.quote_quantity - order.filled_quote if by_quote else remaining * order.price
    fees = {asset: plain(fee) for asset, fee in order.fees.items()}
    return {
        "orderId": str(order.id),
        "orderLinkId": order.client_id,
        "blockTradeId": "",
        "symbol": order.native,
        "price": plain(order.price),
        "qty": plain(order.quote_quantity if by_quote else order.quantity),
        "side": SIDES[order.side],
        "isLeverage": "0",
        "positionIdx": 0,
        "orderStatus": order_status(order),
        "cancelType": "CancelByUser" if order.close_reason is CloseReason.REQUESTED else "UNKNOWN",
        "rejectReason": "EC_NoError"
        if order.filled and order.close_reason is CloseReason.IOC_REST
        else _REJECT_REASONS[order.close_reason],
        "avgPrice": _average(order),
        "leavesQty": plain(remaining),
        "leavesValue": plain(leaves_value) if order.is_open else "0",
        "cumExecQty": plain(order.filled),
        "cumExecValue": plain(order.filled_quote),
        "cumExecFee": plain(sum(order.fees.values(), Decimal(0))),
        "cumFeeDetail": fees,
        "timeInForce": _time_in_force(order),
        "orderType": "Market" if is_market else "Limit",
        "stopOrderType": stop_type(order),
        "orderIv": "",
        "marketUnit": ("quoteCoin" if by_quote else "baseCoin") if is_market else "",
        "slippageToleranceType": "UNKNOWN",
        "slippageTolerance": "",
        "triggerPrice": "0" if order.trigger is None else plain(order.trigger.price),
        "takeProfit": order.tags.get("takeProfit", "0"),
        "stopLoss": order.tags.get("stopLoss", "0"),
        "tpTriggerBy": "",
        "slTriggerBy": "",
        "triggerDirection": 0,
        "triggerBy": "",
        "ocoTriggerBy": "",
        "lastPriceOnCreated": order.tags.get("last_price", ""),
        "basePrice": order.tags.get("last_price", ""),
        "reduceOnly": False,
        "closeOnTrigger": False,
        "smpType": "None",
        "smpGroup": 0,
        "smpOrderId": "",
        "tpslMode": "",
        "tpLimitPrice": order.tags.get("tpLimitPrice", "0"),
        "slLimitPrice": order.tags.get("slLimitPrice", "0"),
        "placeType": "",
        "createdTime": str(order.created_ms),
        "updatedTime": str(order.updated_ms),
        "extraFees": "",
    }


def order_event(subject: Order, rules: SymbolRules) -> Json:
    """Return one row of the ``order`` topic."""
    body = order(subject)
    return body | {
        "category": "spot",
        "createType": "CreateByUser",
        "feeCurrency": fee_asset(subject.side, rules),
        "closedPnl": "0",
    }


def execution(fill: Fill, order: Order, rules: SymbolRules, leaves: Decimal) -> Json:
    """Return one row of execution/list. ``leaves`` is the base quantity the order had left after this fill."""
    return {
        "symbol": fill.native,
        "orderId": str(fill.order_id),
        "orderLinkId": fill.client_id,
        "side": SIDES[fill.side],
        "orderPrice": plain(order.price),
        "orderQty": plain(order.quote_quantity or order.quantity),
        "leavesQty": plain(leaves),
        "createType": "CreateByUser",
        "orderType": "Market" if order.type is OrderType.MARKET else "Limit",
        "stopOrderType": stop_type(order),
        "execFee": plain(fill.fee),
        "execId": str(fill.trade_id),
        "execPrice": plain(fill.price),
        "execQty": plain(fill.quantity),
        "execType": "Trade",
        "execValue": plain(fill.quote_quantity),
        "execTime": str(fill.time_ms),
        "feeCurrency": fill.fee_asset,
        "isMaker": fill.maker,
        "feeRate": plain(rules.maker_fee if fill.maker else rules.taker_fee),
        "tradeIv": "",
        "markIv": "",
        "markPrice": "",
        "indexPrice": "",
        "underlyingPrice": "",
        "blockTradeId": "",
        "closedSize": "",
        "extraFees": "",
        "seq": fill.trade_id,
    }


def execution_event(fill: Fill, order: Order, rules: SymbolRules) -> Json:
    """Return one row of the ``execution`` topic; ``order`` is the order right after this fill."""
    return execution(fill, order, rules, max(order.remaining, Decimal(0))) | {
        "category": "spot",
        "isLeverage": "0",
        "marketUnit": "",
        "execPnl": "0",
    }


def fast_execution_event(fill: Fill) -> Json:
    """Return one row of the ``execution.fast`` topic."""
    return {
        "category": "spot",
        "symbol": fill.native,
        "execId": str(fill.trade_id),
        "execPrice": plain(fill.price),
        "execQty": plain(fill.quantity),
        "orderId": str(fill.order_id),
        "isMaker": fill.maker,
        "orderLinkId": fill.client_id,
        "side": SIDES[fill.side],
        "execTime": str(fill.time_ms),
        "seq": fill.trade_id,
    }


def coin(asset: str, balance: Balance, usd_price: UsdPrice) -> Json:
    """Return one coin of a wallet. ``availableToWithdraw`` is empty since Bybit deprecated it: use ``locked``."""
    price = usd_price(asset)
    total = plain(balance.total)
    return {
        "coin": asset,
        "equity": total,
        "usdValue": plain(balance.total * price) if price is not None else "0",
        "walletBalance": total,
        "locked": plain(balance.locked),
        "availableToWithdraw": "",
        "availableToBorrow": "",
        "borrowAmount": "0",
        "accruedInterest": "0",
        "totalOrderIM": "0",
        "totalPositionIM": "0",
        "totalPositionMM": "0",
        "unrealisedPnl": "0",
        "cumRealisedPnl": "0",
        "bonus": "0",
        "collateralSwitch": True,
        "marginCollateral": True,
        "spotBorrow": "0",
        "spotHedgingQty": "0",
    }


def wallet(owner: Account, assets: Iterable[str] | None, usd_price: UsdPrice) -> Json:
    """Return the account of account/wallet-balance and the ``wallet`` topic; ``assets`` None means all held."""
    wanted = None if assets is None else set(assets)
    coins = [
        coin(asset, balance, usd_price)
        for asset, balance in owner.balances.items()
        if (asset in wanted if wanted is not None else balance.total > 0)
    ]
    total = free = Decimal(0)
    for asset, balance in owner.balances.items():
        price = usd_price(asset)
        if price is not None:
            total += balance.total * price
            free += balance.free * price
    return {
        "accountType": "UNIFIED",
        "accountIMRate": "0",
        "accountIMRateByMp": "0",
        "accountMMRate": "0",
        "accountMMRateByMp": "0",
        "accountLTV": "0",
        "totalEquity": plain(total),
        "totalWalletBalance": plain(total),
        "totalMarginBalance": plain(total),
        "totalAvailableBalance": plain(free),
        "totalPerpUPL": "0",
        "totalInitialMargin": "0",
        "totalInitialMarginByMp": "0",
        "totalMaintenanceMargin": "0",
        "totalMaintenanceMarginByMp": "0",
        "coin": coins,
    }


def account_info(time_ms: int) -> Json:
    return {
        "unifiedMarginStatus": 6,
        "marginMode": "REGULAR_MARGIN",
        "isMasterTrader": False,
        "spotHedgingStatus": "OFF",
        "updatedTime": str(time_ms),
        "dcpStatus": "OFF",
        "timeWindow": 10,
        "smpGroup": 0,
    }


def key_info(owner: Account) -> Json:
    """Return user/query-api: what this key may do."""
    may_trade, may_withdraw = "trade" in owner.permissions, "withdraw" in owner.permissions
    return {
        "id": str(owner.uid),
        "note": "",
        "apiKey": owner.api_key,
        "readOnly": 0 if may_trade else 1,
        "secret": "",
        "permissions": {
            "ContractTrade": [],
            "Spot": ["SpotTrade"] if may_trade else [],
            "Wallet": ["Withdraw"] if may_withdraw else [],
            "Options": [],
            "Derivatives": [],
            "CopyTrading": [],
            "BlockTrade": [],
            "Exchange": [],
            "NFT": [],
            "Affiliate": [],
            "Earn": [],
        },
        "ips": ["*"],
        "type": 1,
        "deadlineDay": 90,
        "expiredAt": "2030-01-01T00:00:00Z",
        "createdAt": "2024-01-01T00:00:00Z",
        "unified": 0,
        "uta": 1,
        "userID": owner.uid,
        "inviterID": 0,
        "vipLevel": "No VIP",
        "mktMakerLevel": "0",
        "affiliateID": 0,
        "rsaPublicKey": "",
        "isMaster": True,
        "parentUid": "0",
        "kycLevel": "LEVEL_1",
        "kycRegion": "",
    }


def fee_rate(rules: SymbolRules) -> Json:
    return {
        "symbol": rules.native,
        "takerFeeRate": plain(rules.taker_fee),
        "makerFeeRate": plain(rules.maker_fee),
        "baseCoin": "",
    }


def coin_info(coin: Coin) -> Json:
    """Return one row of asset/coin/query-info: the coin on its network.

    Source: https://bybit-exchange.github.io/docs/v5/asset/coin-info
    """
    return {
        "name": coin.code,
        "coin": coin.code,
        "remainAmount": "10000000",
        "chains": [
            {
                "chainType": coin.network,
                "confirmation": "1",
                "withdrawFee": "0",
                "depositMin": "0",
                "withdrawMin": "0",
                "chain": coin.network,
                "chainDeposit": str(int(coin.deposit)),
                "chainWithdraw": str(int(coin.withdraw)),
                "minAccuracy": "8",
                "withdrawPercentageFee": "0",
                "contractAddress": coin.contract,
                "safeConfirmNumber": "1",
                "withdrawMax": "10000000",
            }
        ],
    }


def fee_asset(side: Side, rules: SymbolRules) -> str:
    """Return the asset fees are taken in: what the order receives."""
    return rules.base if side is Side.BUY else rules.quote


def _average(order: Order) -> str:
    average = order.average
    return "" if average is None else plain(round(average, 12))


def _time_in_force(order: Order) -> str:
    if order.type is OrderType.MARKET:
        return "IOC"
    return "PostOnly" if order.post_only else order.time_in_force.value
