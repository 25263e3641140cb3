"""How USD-M writes orders, trades, positions and accounts."""

from __future__ import annotations

from decimal import Decimal

from exchangesim.binance.codec import number
from exchangesim.core.accounts import Account
from exchangesim.core.futures.algo_orders import AlgoOrder
from exchangesim.core.futures.algos import MARK
from exchangesim.core.futures.brackets import brackets_of, most_notional
from exchangesim.core.futures.exchange import FuturesExchange
from exchangesim.core.futures.margin import AccountMargin, PositionMargin, liquidation_price
from exchangesim.core.orders import ZERO, Fill, Order, PositionSide, Side, Status
from exchangesim.core.rules import SymbolRules
from exchangesim.core.state import Entry
from exchangesim.core.text import plain


def price(rules: SymbolRules, value: Decimal) -> str:
    """Write a price with the market's own places; a mean with more than those keeps them."""
    places = max(rules.price_places, min(8, -int(value.normalize().as_tuple().exponent)))
    return f"{value:.{places}f}"


def amount(rules: SymbolRules, value: Decimal) -> str:
    return f"{value:.{rules.quantity_places}f}"


def time_in_force(order: Order) -> str:
    return "GTX" if order.post_only else str(order.time_in_force)


def order_type(order: Order) -> str:
    return "LIQUIDATION" if order.liquidation else str(order.type)


# Orders and trades


def placed(order: Order, rules: SymbolRules, *, acknowledged: bool = False) -> dict[str, object]:
    """Write an order as placing and cancelling answer; ``acknowledged`` says nothing of its fate."""
    filled, quote = (ZERO, ZERO) if acknowledged else (order.filled, order.filled_quote)
    return {
        "orderId": order.id,
        "symbol": order.native,
        "status": Status.NEW if acknowledged else order.status,
        "clientOrderId": order.client_id,
        "price": price(rules, order.price),
        "avgPrice": price(rules, quote / filled if filled else ZERO),
        "origQty": amount(rules, order.quantity),
        "executedQty": amount(rules, filled),
        "cumQty": amount(rules, filled),
        "cumQuote": plain(quote),
        "timeInForce": time_in_force(order),
        "type": order_type(order),
        "reduceOnly": order.reduce_only,
        "closePosition": False,
        "side": order.side,
        "positionSide": order.position_side,
        "stopPrice": price(rules, ZERO),
        "workingType": "CONTRACT_PRICE",
        "priceProtect": False,
        "origType": order_type(order),
        "priceMatch": "NONE",
        "selfTradePreventionMode": "EXPIRE_MAKER",
        "goodTillDate": 0,
        "updateTime": order.updated_ms,
    }


def queried(order: Order, rules: SymbolRules) -> dict[str, object]:
    return {**placed(order, rules), "time": order.created_ms}


def algo_type(algo: AlgoOrder) -> str:
    kind = "TAKE_PROFIT" if algo.terms.takes_profit else "STOP"
    return kind if algo.terms.price is not None else f"{kind}_MARKET"


def algo_force(algo: AlgoOrder) -> str:
    if algo.terms.close_position:
        return "GTE_GTC"
    return "GTX" if algo.terms.post_only else str(algo.terms.time_in_force)


def working_type(algo: AlgoOrder) -> str:
    return "MARK_PRICE" if algo.terms.source == MARK else "CONTRACT_PRICE"


def algo_order(algo: AlgoOrder, rules: SymbolRules) -> dict[str, object]:
    """Write a conditional order as placing and asking answer."""
    terms = algo.terms
    return {
        "algoId": algo.id,
        "clientAlgoId": algo.client_id,
        "algoType": "CONDITIONAL",
        "orderType": algo_type(algo),
        "symbol": algo.native,
        "side": terms.side,
        "positionSide": terms.position_side,
        "timeInForce": algo_force(algo),
        "quantity": amount(rules, terms.quantity or ZERO),
        "algoStatus": algo.status,
        "actualOrderId": str(algo.order_id or ""),
        "actualPrice": price(rules, algo.average),
        "triggerPrice": price(rules, terms.trigger_price),
        "price": price(rules, terms.price or ZERO),
        "icebergQuantity": None,
        "selfTradePreventionMode": "EXPIRE_MAKER",
        "workingType": working_type(algo),
        "priceMatch": "NONE",
        "closePosition": terms.close_position,
        "priceProtect": terms.protected,
        "reduceOnly": terms.reduce_only or terms.close_position,
        "createTime": algo.created_ms,
        "updateTime": algo.updated_ms,
        "triggerTime": algo.triggered_ms,
        "goodTillDate": 0,
    }


def user_trade(fill: Fill, rules: SymbolRules) -> dict[str, object]:
    return {
        "symbol": fill.native,
        "id": fill.trade_id,
        "orderId": fill.order_id,
        "side": fill.side,
        "price": price(rules, fill.price),
        "qty": amount(rules, fill.quantity),
        "realizedPnl": number(fill.realized),
        "quoteQty": plain(fill.quote_quantity),
        "commission": number(fill.fee),
        "commissionAsset": fill.fee_asset,
        "time": fill.time_ms,
        "positionSide": fill.position_side,
        "buyer": fill.side is Side.BUY,
        "maker": fill.maker,
    }


def income(entry: Entry) -> dict[str, object]:
    return {
        "symbol": entry.native,
        "incomeType": entry.kind,
        "income": number(entry.amount),
        "asset": entry.asset,
        "info": str(entry.trade_id or entry.kind),
        "time": entry.time_ms,
        "tranId": entry.id,
        "tradeId": str(entry.trade_id or ""),
    }


# Positions and accounts


def position_risk(account: AccountMargin, figure: PositionMargin) -> dict[str, object]:
    """Write a position as ``v3/positionRisk`` does."""
    position, rules = figure.position, figure.rules
    isolated = position.isolated_wallet + figure.unrealized if figure.isolated and position.quantity else ZERO
    return {
        "symbol": position.native,
        "positionSide": position.side,
        "positionAmt": amount(rules, position.quantity),
        "entryPrice": price(rules, position.entry_price),
        "breakEvenPrice": price(rules, position.break_even_price),
        "markPrice": number(figure.mark),
        "unRealizedProfit": number(figure.unrealized),
        "liquidationPrice": plain(liquidation_price(account, figure).quantize(Decimal("0.00000001"))),
        "isolatedMargin": number(isolated),
        "notional": number(figure.notional),
        "marginAsset": rules.quote,
        "isolatedWallet": number(position.isolated_wallet),
        "initialMargin": number(figure.initial + figure.orders_initial),
        "maintMargin": number(figure.maintenance),
        "positionInitialMargin": number(figure.initial),
        "openOrderInitialMargin": number(figure.orders_initial),
        "adl": 0,
        "bidNotional": number(figure.bid_notional),
        "askNotional": number(figure.ask_notional),
        "updateTime": position.updated_ms,
    }


def position_risk_v2(account: AccountMargin, figure: PositionMargin) -> dict[str, object]:
    row = position_risk(account, figure)
    names = (
        "symbol positionSide positionAmt entryPrice breakEvenPrice markPrice unRealizedProfit liquidationPrice "
        "isolatedMargin notional isolatedWallet updateTime"
    )
    return {
        **{name: row[name] for name in names.split()},
        "leverage": str(figure.leverage),
        "maxNotionalValue": plain(most_notional(figure.rules.base, figure.leverage)),
        "marginType": "isolated" if figure.isolated else "cross",
        "isAutoAddMargin": "false",
    }


def account_position(account: AccountMargin, figure: PositionMargin, *, full: bool) -> dict[str, object]:
    """Write a position as an account answer does; ``full`` is version 2."""
    row = position_risk(account, figure)
    names = (
        "symbol positionSide positionAmt isolatedMargin notional isolatedWallet initialMargin maintMargin updateTime"
    )
    short = {**{name: row[name] for name in names.split()}, "unrealizedProfit": row["unRealizedProfit"]}
    if not full:
        return short
    return {
        **short,
        "positionInitialMargin": row["positionInitialMargin"],
        "openOrderInitialMargin": row["openOrderInitialMargin"],
        "leverage": str(figure.leverage),
        "isolated": figure.isolated,
        "entryPrice": row["entryPrice"],
        "breakEvenPrice": row["breakEvenPrice"],
        "maxNotional": plain(most_notional(figure.rules.base, figure.leverage)),
        "bidNotional": row["bidNotional"],
        "askNotional": row["askNotional"],
    }


def _totals(margin: AccountMargin) -> dict[str, Decimal]:
    return {
        "InitialMargin": margin.positions_initial + margin.orders_initial,
        "MaintMargin": margin.maintenance,
        "WalletBalance": margin.wallet,
        "UnrealizedProfit": margin.unrealized,
        "MarginBalance": margin.balance,
        "PositionInitialMargin": margin.positions_initial,
        "OpenOrderInitialMargin": margin.orders_initial,
        "CrossWalletBalance": margin.cross_wallet,
        "CrossUnPnl": margin.cross_unrealized,
    }


def withdrawable(margin: AccountMargin) -> Decimal:
    """Return what may leave: unrealised profit binds margin, but is not paid out."""
    return max(ZERO, min(margin.available, margin.available - margin.cross_unrealized))


def account_information(
    exchange: FuturesExchange, account: Account, *, full: bool, every_position: bool
) -> dict[str, object]:
    """Write an account; in single-asset mode the totals are those of all assets, which are dollars here."""
    assets = quotes(exchange, account)
    margins = {asset: exchange.margin(account, asset) for asset in assets}
    totals: dict[str, Decimal] = {}
    for margin in margins.values():
        for name, value in _totals(margin).items():
            totals[name] = totals.get(name, ZERO) + value
    positions = [
        account_position(margins[figure.rules.quote], figure, full=full)
        for figure in position_margins(exchange, account, empty=every_position)
    ]
    answer: dict[str, object] = {f"total{name}": number(value) for name, value in totals.items()}
    answer |= {
        "availableBalance": number(sum((margin.available for margin in margins.values()), ZERO)),
        "maxWithdrawAmount": number(sum((withdrawable(margin) for margin in margins.values()), ZERO)),
        "assets": [
            {
                "asset": asset,
                **{name[0].lower() + name[1:]: number(value) for name, value in _totals(margin).items()},
                "availableBalance": number(margin.available),
                "maxWithdrawAmount": number(withdrawable(margin)),
                "marginAvailable": True,
                "updateTime": account.updated_ms,
            }
            for asset, margin in margins.items()
        ],
        "positions": positions,
    }
    if full:
        answer |= {
            "feeTier": 0,
            "feeBurn": False,
            "canTrade": "trade" in account.permissions,
            "canDeposit": True,
            "canWithdraw": "withdraw" in account.permissions,
            "updateTime": 0,
            "multiAssetsMargin": False,
            "tradeGroupId": -1,
        }
    return answer


def balances(exchange: FuturesExchange, account: Account) -> list[dict[str, object]]:
    rows: list[dict[str, object]] = []
    for asset in quotes(exchange, account):
        margin = exchange.margin(account, asset)
        rows.append(
            {
                "accountAlias": f"sim{account.uid}",
                "asset": asset,
                "balance": number(margin.wallet),
                "crossWalletBalance": number(margin.cross_wallet),
                "crossUnPnl": number(margin.cross_unrealized),
                "availableBalance": number(margin.available),
                "maxWithdrawAmount": number(withdrawable(margin)),
                "marginAvailable": True,
                "updateTime": account.updated_ms,
            }
        )
    return rows


def quotes(exchange: FuturesExchange, account: Account) -> list[str]:
    """Return every asset that is margin here or held by the account."""
    return list(dict.fromkeys([*(m.rules.quote for m in exchange.markets.values()), *account.balances]))


def position_margins(
    exchange: FuturesExchange, account: Account, native: str | None = None, *, empty: bool
) -> list[PositionMargin]:
    """Return the account's positions; with ``empty`` also those of every side that its position mode could hold."""
    figures = [
        figure
        for asset in dict.fromkeys(market.rules.quote for market in exchange.markets.values())
        for figure in exchange.margin(account, asset).positions
        if native is None or figure.position.native == native
    ]
    if not empty:
        return figures
    settings = exchange.settings(account)
    sides = (PositionSide.LONG, PositionSide.SHORT) if settings.hedged else (PositionSide.BOTH,)
    there = {(figure.position.native, figure.position.side) for figure in figures}
    for name, market in exchange.markets.items():
        for side in sides:
            if (native is None or native == name) and (name, side) not in there:
                figures.append(
                    PositionMargin(
                        position=exchange.position(account, name, side),
                        rules=market.rules,
                        leverage=settings.leverage(name),
                        isolated=name in settings.isolated,
                        mark=exchange.mark(name),
                        **dict.fromkeys(
                            (
                                "notional",
                                "unrealized",
                                "initial",
                                "maintenance",
                                "orders_initial",
                                "bid_notional",
                                "ask_notional",
                            ),
                            ZERO,
                        ),
                    )
                )
    return figures


def symbol_config(exchange: FuturesExchange, account: Account, native: str) -> dict[str, object]:
    settings, rules = exchange.settings(account), exchange.markets[native].rules
    leverage = settings.leverage(native)
    return {
        "symbol": native,
        "marginType": "ISOLATED" if native in settings.isolated else "CROSSED",
        "isAutoAddMargin": False,
        "leverage": leverage,
        "maxNotionalValue": plain(most_notional(rules.base, leverage)),
    }


def leverage_brackets(rules: SymbolRules) -> dict[str, object]:
    return {
        "symbol": rules.native,
        "notionalCoef": 1.0,
        "brackets": [
            {
                "bracket": bracket.number,
                "initialLeverage": bracket.leverage,
                "notionalCap": int(bracket.cap),
                "notionalFloor": int(bracket.floor),
                "maintMarginRatio": float(bracket.rate),
                "cum": float(bracket.cum),
            }
            for bracket in brackets_of(rules.base)
        ],
    }
