"""The events of the user data stream."""

from __future__ import annotations

from collections.abc import Iterable
from decimal import Decimal

from exchangesim.binance.codec import number
from exchangesim.binance_usdm.codec import (
    algo_force,
    algo_type,
    amount,
    order_type,
    price,
    time_in_force,
    working_type,
)
from exchangesim.core.accounts import Account
from exchangesim.core.futures.algo_orders import AlgoOrder
from exchangesim.core.futures.exchange import FuturesExchange
from exchangesim.core.futures.margin import AccountMargin
from exchangesim.core.futures.positions import Position
from exchangesim.core.orders import ZERO, CloseReason, Execution, ExecutionType, Order, Side
from exchangesim.core.rules import SymbolRules
from exchangesim.core.text import plain

_EXECUTIONS = {ExecutionType.LIQUIDATED: "CALCULATED", ExecutionType.AMENDED: "AMENDMENT"}
_EXPIRY_REASONS = {
    CloseReason.NOTHING_TO_REDUCE: "8",
    CloseReason.LIQUIDATION: "3",
    CloseReason.IOC_REST: "5",
    CloseReason.MARKET_REST: "6",
}


def order_update(
    order: Order, execution: Execution, rules: SymbolRules, now_ms: int, algo: AlgoOrder | None = None
) -> dict[str, object]:
    """Write one execution; to be called while the order is as the execution left it. ``algo`` is what it was."""
    fill = execution.fill
    bound = order.remaining * order.price if order.is_open else ZERO
    body: dict[str, object] = {
        "s": order.native,
        "c": order.client_id,
        "S": order.side,
        "o": order_type(order),
        "f": "IOC" if order.liquidation else time_in_force(order),
        "q": amount(rules, order.quantity),
        "p": price(rules, order.price),
        "ap": price(rules, order.average or ZERO),
        "sp": price(rules, ZERO if algo is None else algo.terms.trigger_price),
        "x": _EXECUTIONS.get(execution.type, str(execution.type)),
        "X": order.status,
        "i": order.id,
        "l": amount(rules, ZERO if fill is None else fill.quantity),
        "z": amount(rules, order.filled),
        "L": price(rules, ZERO if fill is None else fill.price),
        "T": execution.time_ms,
        "t": 0 if fill is None else fill.trade_id,
        "b": plain(bound if order.side is Side.BUY else ZERO),
        "a": plain(bound if order.side is Side.SELL else ZERO),
        "m": fill is not None and fill.maker,
        "R": order.reduce_only,
        "wt": "CONTRACT_PRICE" if algo is None else working_type(algo),
        "ot": order_type(order) if algo is None else algo_type(algo),
        "ps": order.position_side,
        "cp": algo is not None and algo.terms.close_position,
        "rp": plain(ZERO if fill is None else fill.realized),
        "pP": algo is not None and algo.terms.protected,
        "si": 0,
        "ss": 0,
        "V": "EXPIRE_MAKER",
        "pm": "NONE",
        "gtd": 0,
        "er": _EXPIRY_REASONS.get(order.close_reason, "0"),
    }
    if fill is not None:
        body |= {"n": plain(fill.fee), "N": fill.fee_asset}
    return {"e": "ORDER_TRADE_UPDATE", "T": execution.time_ms, "E": now_ms, "o": body}


def algo_update(algo: AlgoOrder, rules: SymbolRules, now_ms: int) -> dict[str, object]:
    terms = algo.terms
    body: dict[str, object] = {
        "caid": algo.client_id,
        "aid": algo.id,
        "at": "CONDITIONAL",
        "o": algo_type(algo),
        "s": algo.native,
        "S": terms.side,
        "ps": terms.position_side,
        "f": algo_force(algo),
        "q": amount(rules, terms.quantity or ZERO),
        "X": algo.status,
        "ai": str(algo.order_id or ""),
        "tp": price(rules, terms.trigger_price),
        "p": price(rules, terms.price or ZERO),
        "V": "EXPIRE_MAKER",
        "wt": working_type(algo),
        "pm": "NONE",
        "cp": terms.close_position,
        "pP": terms.protected,
        "R": terms.reduce_only or terms.close_position,
        "tt": algo.triggered_ms,
        "gtd": 0,
    }
    if algo.order_id:
        body |= {
            "ap": price(rules, algo.average),
            "aq": amount(rules, algo.filled),
            "act": "MARKET" if terms.price is None else "LIMIT",
        }
    if algo.reason:
        body["rm"] = algo.reason
    return {"e": "ALGO_UPDATE", "T": algo.updated_ms, "E": now_ms, "o": body}


def account_update(
    exchange: FuturesExchange,
    account: Account,
    reason: str,
    assets: Iterable[str],
    positions: Iterable[Position],
    change: Decimal,
    time_ms: int,
) -> dict[str, object]:
    """Write what wallets and positions now are; to be called while they are so."""
    isolated: dict[str, Decimal] = {}
    for position in exchange.positions(account):
        quote = exchange.markets[position.native].rules.quote
        isolated[quote] = isolated.get(quote, ZERO) + position.isolated_wallet
    return {
        "e": "ACCOUNT_UPDATE",
        "T": time_ms,
        "E": exchange.clock.time_ms(),
        "a": {
            "B": [
                {
                    "a": asset,
                    "wb": number(account.free(asset)),
                    "cw": number(account.free(asset) - isolated.get(asset, ZERO)),
                    "bc": plain(change),
                }
                for asset in assets
            ],
            "P": [_position(exchange, account, position) for position in positions],
            "m": reason,
        },
    }


def _position(exchange: FuturesExchange, account: Account, position: Position) -> dict[str, object]:
    rules = exchange.markets[position.native].rules
    isolated = position.native in exchange.settings(account).isolated
    return {
        "s": position.native,
        "pa": amount(rules, position.quantity),
        "ep": price(rules, position.entry_price),
        "bep": price(rules, position.break_even_price),
        "cr": number(position.realized),
        "up": number(position.unrealized(exchange.mark(position.native))),
        "mt": "isolated" if isolated else "cross",
        "iw": number(position.isolated_wallet),
        "ps": position.side,
        "ma": rules.quote,
    }


def leverage_update(native: str, leverage: int, time_ms: int, now_ms: int) -> dict[str, object]:
    return {"e": "ACCOUNT_CONFIG_UPDATE", "E": now_ms, "T": time_ms, "ac": {"s": native, "l": leverage}}


def margin_call(margin: AccountMargin, now_ms: int) -> dict[str, object]:
    return {
        "e": "MARGIN_CALL",
        "E": now_ms,
        "cw": number(margin.cross_wallet),
        "p": [
            {
                "s": figure.position.native,
                "ps": figure.position.side,
                "pa": amount(figure.rules, figure.position.quantity),
                "mt": "ISOLATED" if figure.isolated else "CROSSED",
                "iw": number(figure.position.isolated_wallet),
                "mp": number(figure.mark),
                "up": number(figure.unrealized),
                "mm": number(figure.maintenance),
            }
            for figure in margin.positions
            if figure.position.quantity
        ],
    }
