"""How Binance writes things: numbers, orders, trades, books, exchange information."""

from __future__ import annotations

from collections.abc import Iterable
from decimal import ROUND_DOWN, Decimal

from exchangesim.core.accounts import Account
from exchangesim.core.coins import Coin
from exchangesim.core.exchange import SimExchange
from exchangesim.core.order_lists import OrderList
from exchangesim.core.orders import (
    ZERO,
    CloseReason,
    Execution,
    ExecutionType,
    Fill,
    Order,
    OrderType,
    Side,
    Status,
)
from exchangesim.core.rules import SymbolRules

_PLACES = Decimal("0.00000001")

_EXPIRY_REASONS = {
    CloseReason.IOC_REST: "UNFILLED_IOC_QUANTITY_EXPIRED",
    CloseReason.FOK_UNFILLED: "UNFILLED_FOK_ORDER_EXPIRED",
    CloseReason.MARKET_REST: "INSUFFICIENT_LIQUIDITY",
    CloseReason.OTHER_LEG: "OCO_TRIGGER",
    CloseReason.WORKING_ENDED: "OTO_PHASE_ONE_EXPIRED",
    CloseReason.REFUSED: "REJECTED",
}


def number(value: Decimal) -> str:
    """Write an amount with eight decimal places, as Binance does; more exact ones are cut."""
    if int(value.as_tuple().exponent) < -8:
        value = value.quantize(_PLACES, ROUND_DOWN)
    return f"{value:.8f}"


def order_type(order: Order) -> str:
    if order.trigger is None:
        return "LIMIT_MAKER" if order.post_only else str(order.type)
    kind = "STOP_LOSS" if (order.side is Side.BUY) == order.trigger.rises else "TAKE_PROFIT"
    return f"{kind}_LIMIT" if order.type is OrderType.LIMIT else kind


def list_id(order: Order) -> int:
    return order.list_id or -1


def working_time(order: Order) -> int:
    """Return when the order went to the book, -1 while it waits."""
    return -1 if order.idle else order.working_ms or order.created_ms


def _stop_price(order: Order) -> dict[str, str]:
    return {} if order.trigger is None else {"stopPrice": number(order.trigger.price)}


# Answers


def ack(order: Order) -> dict[str, object]:
    return {
        "symbol": order.native,
        "orderId": order.id,
        "orderListId": list_id(order),
        "clientOrderId": order.client_id,
        "transactTime": order.updated_ms,
    }


def result(order: Order) -> dict[str, object]:
    answer = {
        **ack(order),
        "price": number(order.price),
        "origQty": number(order.quantity),
        "executedQty": number(order.filled),
        "origQuoteOrderQty": number(order.quote_quantity),
        "cummulativeQuoteQty": number(order.filled_quote),
        "status": order.status,
        "timeInForce": order.time_in_force,
        "type": order_type(order),
        "side": order.side,
        **_stop_price(order),
        "workingTime": working_time(order),
        "selfTradePreventionMode": "NONE",
    }
    if order.status is Status.EXPIRED and order.close_reason in _EXPIRY_REASONS:
        answer["expiryReason"] = _EXPIRY_REASONS[order.close_reason]
    return answer


def full(order: Order, fills: Iterable[Fill]) -> dict[str, object]:
    return {
        **result(order),
        "fills": [
            {
                "price": number(fill.price),
                "qty": number(fill.quantity),
                "commission": number(fill.fee),
                "commissionAsset": fill.fee_asset,
                "tradeId": fill.trade_id,
            }
            for fill in fills
        ],
    }


def cancelled(order: Order) -> dict[str, object]:
    return {
        "symbol": order.native,
        "origClientOrderId": order.client_id,
        "orderId": order.id,
        "orderListId": list_id(order),
        "clientOrderId": order.cancel_client_id,
        "transactTime": order.updated_ms,
        "price": number(order.price),
        "origQty": number(order.quantity),
        "executedQty": number(order.filled),
        "origQuoteOrderQty": number(order.quote_quantity),
        "cummulativeQuoteQty": number(order.filled_quote),
        "status": order.status,
        "timeInForce": order.time_in_force,
        "type": order_type(order),
        "side": order.side,
        **_stop_price(order),
        "selfTradePreventionMode": "NONE",
    }


def queried(order: Order) -> dict[str, object]:
    answer = {
        "symbol": order.native,
        "orderId": order.id,
        "orderListId": list_id(order),
        "clientOrderId": order.client_id,
        "price": number(order.price),
        "origQty": number(order.quantity),
        "executedQty": number(order.filled),
        "cummulativeQuoteQty": number(order.filled_quote),
        "status": order.status,
        "timeInForce": order.time_in_force,
        "type": order_type(order),
        "side": order.side,
        "stopPrice": number(ZERO),
        **_stop_price(order),
        "icebergQty": number(ZERO),
        "time": order.created_ms,
        "updateTime": order.updated_ms,
        "isWorking": not order.idle,
        "workingTime": working_time(order),
        "origQuoteOrderQty": number(order.quote_quantity),
        "selfTradePreventionMode": "NONE",
    }
    if order.status is Status.EXPIRED and order.close_reason in _EXPIRY_REASONS:
        answer["expiryReason"] = _EXPIRY_REASONS[order.close_reason]
    return answer


def order_list(found: OrderList, orders: Iterable[Order]) -> dict[str, object]:
    """Write a list as answers do; its event has the same in short names."""
    return {
        "orderListId": found.id,
        "contingencyType": "OTO" if found.working else "OCO",
        "listStatusType": "EXEC_STARTED" if found.is_open else "ALL_DONE",
        "listOrderStatus": "EXECUTING" if found.is_open else "ALL_DONE",
        "listClientOrderId": found.client_id,
        "transactionTime": found.updated_ms,
        "symbol": found.native,
        "orders": [{"symbol": o.native, "orderId": o.id, "clientOrderId": o.client_id} for o in orders],
    }


def account_trade(fill: Fill, order: Order | None) -> dict[str, object]:
    return {
        "symbol": fill.native,
        "id": fill.trade_id,
        "orderId": fill.order_id,
        "orderListId": -1 if order is None else list_id(order),
        "price": number(fill.price),
        "qty": number(fill.quantity),
        "quoteQty": number(fill.quote_quantity),
        "commission": number(fill.fee),
        "commissionAsset": fill.fee_asset,
        "time": fill.time_ms,
        "isBuyer": fill.side is Side.BUY,
        "isMaker": fill.maker,
        "isBestMatch": True,
    }


def account_information(account: Account, exchange: SimExchange) -> dict[str, object]:
    rates = next(iter(exchange.markets.values())).rules
    return {
        "makerCommission": int(rates.maker_fee * 10_000),
        "takerCommission": int(rates.taker_fee * 10_000),
        "buyerCommission": 0,
        "sellerCommission": 0,
        "commissionRates": {
            "maker": number(rates.maker_fee),
            "taker": number(rates.taker_fee),
            "buyer": number(ZERO),
            "seller": number(ZERO),
        },
        "canTrade": "trade" in account.permissions,
        "canWithdraw": "withdraw" in account.permissions,
        "canDeposit": True,
        "brokered": False,
        "requireSelfTradePrevention": False,
        "preventSor": False,
        "updateTime": account.updated_ms,
        "accountType": "SPOT",
        "balances": [{"asset": asset, **_balance(account, asset)} for asset in assets(exchange, account)],
        "permissions": ["SPOT"],
        "uid": account.uid,
    }


def assets(exchange: SimExchange, account: Account) -> list[str]:
    """Return every asset listed here or held by the account."""
    listed = (asset for market in exchange.markets.values() for asset in (market.rules.base, market.rules.quote))
    return list(dict.fromkeys([*listed, *account.balances]))


def coin(coin: Coin, account: Account) -> dict[str, object]:
    """Describe a coin as ``capital/config/getall`` does.

    Source: https://developers.binance.com/docs/wallet/capital/all-coins-info
    """
    zero = "0"
    return {
        "coin": coin.code,
        "depositAllEnable": coin.deposit,
        "withdrawAllEnable": coin.withdraw,
        "name": coin.code,
        **_balance(account, coin.code),
        **dict.fromkeys(("freeze", "withdrawing", "ipoing", "ipoable", "storage"), zero),
        "isLegalMoney": False,
        "trading": True,
        "networkList": [
            {
                "network": coin.network,
                "coin": coin.code,
                "withdrawIntegerMultiple": "0.00000001",
                "isDefault": True,
                "depositEnable": coin.deposit,
                "withdrawEnable": coin.withdraw,
                "depositDesc": "" if coin.deposit else "Wallet Maintenance, Deposit Suspended",
                "withdrawDesc": "" if coin.withdraw else "Wallet Maintenance, Withdrawal Suspended",
                "specialTips": "",
                "name": coin.network,
                "resetAddressStatus": False,
                "addressRegex": "",
                "memoRegex": "",
                "withdrawFee": zero,
                "withdrawMin": "0.00000001",
                "withdrawMax": "10000000",
                "withdrawInternalMin": "0.00000001",
                "minConfirm": 1,
                "unLockConfirm": 0,
                "sameAddress": False,
                "withdrawTag": False,
                "estimatedArrivalTime": 1,
                "busy": False,
                "contractAddressUrl": "",
                "contractAddress": coin.contract,
            }
        ],
    }


def _balance(account: Account, asset: str) -> dict[str, str]:
    held = account.balances.get(asset)
    return {
        "free": number(ZERO if held is None else held.free),
        "locked": number(ZERO if held is None else held.locked),
    }


_DISCOUNT: dict[str, object] = {
    "enabledForAccount": False,
    "enabledForSymbol": False,
    "discountAsset": "BNB",
    "discount": "0.75000000",
}


def commission(rules: SymbolRules) -> dict[str, object]:
    none = {side: number(ZERO) for side in ("maker", "taker", "buyer", "seller")}
    return {
        "symbol": rules.native,
        "standardCommission": {**none, "maker": number(rules.maker_fee), "taker": number(rules.taker_fee)},
        "specialCommission": none,
        "taxCommission": none,
        "discount": _DISCOUNT,
    }


def order_commission(rules: SymbolRules) -> dict[str, object]:
    """Write the rates an order would pay, as ``order/test`` with ``computeCommissionRates`` does."""
    none = {"maker": number(ZERO), "taker": number(ZERO)}
    return {
        "standardCommissionForOrder": {"maker": number(rules.maker_fee), "taker": number(rules.taker_fee)},
        "specialCommissionForOrder": none,
        "taxCommissionForOrder": none,
        "discount": _DISCOUNT,
    }


# Events of the user data stream


def execution_report(order: Order, execution: Execution, now_ms: int) -> dict[str, object]:
    """Write one execution; to be called while the order is as the execution left it."""
    fill = execution.fill
    cancel = execution.type is ExecutionType.CANCELED
    last_quote = ZERO if fill is None else fill.quote_quantity
    event: dict[str, object] = {
        "e": "executionReport",
        "E": now_ms,
        "s": order.native,
        "c": (order.cancel_client_id or order.client_id) if cancel else order.client_id,
        "S": order.side,
        "o": order_type(order),
        "f": order.time_in_force,
        "q": number(order.quantity),
        "p": number(order.price),
        "P": number(ZERO if order.trigger is None else order.trigger.price),
        "F": number(ZERO),
        "g": list_id(order),
        "C": order.client_id if cancel else "",
        # An order that was triggered is told of as new once more, now on the book.
        "x": ExecutionType.NEW if execution.type is ExecutionType.TRIGGERED else execution.type,
        "X": order.status,
        "r": "NONE",
        "i": order.id,
        "l": number(ZERO if fill is None else fill.quantity),
        "z": number(order.filled),
        "L": number(ZERO if fill is None else fill.price),
        "n": "0" if fill is None else number(fill.fee),
        "N": None if fill is None else fill.fee_asset,
        "T": execution.time_ms,
        "t": -1 if fill is None else fill.trade_id,
        "I": execution.id,
        "w": order.is_open and not order.idle,
        "m": fill is not None and fill.maker,
        "M": fill is not None,
        "O": order.created_ms,
        "Z": number(order.filled_quote),
        "Y": number(last_quote),
        "Q": number(order.quote_quantity),
        "V": "NONE",
    }
    if not order.idle:
        event["W"] = working_time(order)
    if execution.type is ExecutionType.EXPIRED:
        event["eR"] = _EXPIRY_REASONS[order.close_reason]
    return event


def list_status(found: OrderList, orders: Iterable[Order], now_ms: int) -> dict[str, object]:
    return {
        "e": "listStatus",
        "E": now_ms,
        "s": found.native,
        "g": found.id,
        "c": "OTO" if found.working else "OCO",
        "l": "EXEC_STARTED" if found.is_open else "ALL_DONE",
        "L": "EXECUTING" if found.is_open else "ALL_DONE",
        "r": "NONE",
        "C": found.client_id,
        "T": found.updated_ms,
        "O": [{"s": order.native, "i": order.id, "c": order.client_id} for order in orders],
    }


def account_position(account: Account, assets: Iterable[str], time_ms: int, now_ms: int) -> dict[str, object]:
    return {
        "e": "outboundAccountPosition",
        "E": now_ms,
        "u": time_ms,
        "B": [
            {"a": asset, "f": balance["free"], "l": balance["locked"]}
            for asset in assets
            for balance in (_balance(account, asset),)
        ],
    }


def balance_update(asset: str, delta: Decimal, time_ms: int, now_ms: int) -> dict[str, object]:
    return {"e": "balanceUpdate", "E": now_ms, "a": asset, "d": number(delta), "T": time_ms}
