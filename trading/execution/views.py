"""What pages are told, as docs/live-messages.md describes it. Amounts are strings, times Unix seconds."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from decimal import Decimal

from trading.config import AccountConfig, BotConfig
from trading.execution.desk import TradeTerms
from trading.execution.order import Order
from trading.messages import AccountBalance, Decision, TradeRecord

View = Mapping[str, object]


def plain(number: Decimal) -> str:
    """Return a decimal without exponent and without trailing zeros."""
    text = f"{number:f}"
    return (text.rstrip("0").rstrip(".") or "0") if "." in text else text


def trade_view(record: TradeRecord, terms: TradeTerms, orders: Iterable[Order], exposure: Decimal) -> View:
    """Return a trade as pages show it; ``exposure`` is notional times seconds unhedged until now."""
    return {
        "id": record.trade_id,
        "bot_id": record.bot_id,
        "bot": terms.bot_name,
        "route": record.route,
        "state": record.state.value,
        "mode": record.mode,
        "quantity": plain(record.quantity),
        "base": record.base,
        "quote": record.quote,
        "expected_bps": plain(record.expected_net_bps),
        "expected_profit": plain(record.expected_profit),
        "profit": None if record.realised_profit is None else plain(record.realised_profit),
        "residual": plain(record.residual_base),
        "exposure": plain(exposure),
        "reason": record.reason,
        "opened_at": record.opened_ns / 1e9,
        "closed_at": record.closed_ns / 1e9 if record.closed_ns else None,
        "legs": [_leg_view(order) for order in orders],
        "pair": None,
    }


def _leg_view(order: Order) -> View:
    intent = order.intent
    exchange, _, symbol = intent.market.partition(":")
    average = order.average_price
    fees = order.fees
    asset, fee = next(iter(fees.items()), ("", Decimal(0)))
    return {
        "leg": intent.leg,
        "attempt": intent.attempt,
        "exchange": exchange,
        "symbol": symbol,
        "side": intent.side,
        "price": plain(intent.price),
        "quantity": plain(intent.quantity),
        "filled": plain(order.filled),
        "average": None if average is None else plain(average.quantize(Decimal("1e-12")).normalize()),
        "fee": plain(fee),
        "fee_asset": asset,
        "state": order.state.value,
        "client_order_id": intent.client_order_id,
        "path": order.path,
    }


def opportunity_view(decision: Decision, bot_name: str) -> View:
    found = decision.opportunity
    return {
        "bot_id": found.bot_id,
        "bot": bot_name,
        "buy": found.buy.market,
        "sell": found.sell.market,
        "quantity": found.quantity,
        "buy_vwap": found.buy.vwap,
        "sell_vwap": found.sell.vwap,
        "gross_bps": found.gross_bps,
        "net_bps": found.net_bps,
        "profit": found.net_profit,
        "quote": found.quote,
        "book_age_ms": max(found.buy.book_age_ms, found.sell.book_age_ms),
        "taken": decision.verdict.allowed,
        "check": decision.check,
        "reason": decision.verdict.reason,
        "at": found.detected_ns / 1e9,
    }


def bot_view(bot: BotConfig, observed: str, reason: str) -> View:
    return {
        "id": bot.bot_id,
        "name": bot.name,
        "mode": bot.mode,
        "desired": "running",
        "observed": observed,
        "reason": reason,
    }


def balance_view(account: AccountConfig, balance: AccountBalance) -> View:
    return {
        "account_id": account.account_id,
        "account": account.label,
        "exchange": account.exchange.code,
        "asset": balance.asset,
        "free": plain(balance.free),
        "used": plain(balance.used),
        "at": balance.received_ns / 1e9,
    }
