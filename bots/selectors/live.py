"""What the live page shows of one owner, in the shapes of docs/live-messages.md. Quotes and feeds are not stored."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Collection, Iterable, Sequence
from decimal import Decimal
from typing import Any

from bots.fields import exact_sum
from bots.models import UNFINISHED_TRADES, Balance, Bot, Decision, Fill, Order, Trade
from bots.selectors.pairs import pairs_data
from bots.selectors.profits import profit_lines
from bots.selectors.risk import breakers_data, switches_data
from bots.selectors.totals import figures_today
from bots.times import unix
from trading.messages import TradeState

TRADES = 50
OPPORTUNITIES = 50
# Of these the newest of each route is shown.
DECISIONS_READ = 500


def live_snapshot(*, owner_id: int) -> dict[str, Any]:
    """Return bots, opportunities, trades, balances, profit points, risk and today's figures of one owner."""
    profits = profit_lines(owner_id=owner_id)
    return {
        "bots": [bot_data(bot) for bot in Bot.objects.filter(owner_id=owner_id)],
        "opportunities": opportunities_data(owner_id=owner_id),
        "trades": trades_data(trades_shown(owner_id=owner_id)),
        "balances": [
            balance_data(balance)
            for balance in Balance.objects.filter(owner_id=owner_id, account__enabled=True).select_related(
                "account__exchange"
            )
        ],
        "pnl": profits.points,
        "breakers": [row.data for row in breakers_data(owner_id=owner_id)],
        "switches": [row.data for row in switches_data(owner_id=owner_id)],
        "figures": figures_today(owner_id=owner_id, profits=profits.today),
    }


def bot_data(bot: Bot) -> dict[str, Any]:
    return {
        "id": bot.pk,
        "name": bot.name,
        "mode": bot.mode,
        "desired": bot.desired_state,
        "observed": bot.observed_state,
        "reason": bot.observed_reason,
    }


def opportunities_data(*, owner_id: int) -> list[dict[str, Any]]:
    """Return the newest decision of each bot's route, newest first."""
    rows = Decision.objects.filter(owner_id=owner_id).select_related("bot").order_by("-id")[:DECISIONS_READ]
    newest: dict[tuple[int, str, str], Decision] = {}
    for row in rows:
        newest.setdefault((row.bot_id, row.buy_market, row.sell_market), row)
    return [opportunity_data(row) for row in list(newest.values())[:OPPORTUNITIES]]


def opportunity_data(row: Decision) -> dict[str, Any]:
    """Return one decision; needs ``bot`` loaded."""
    return {
        "bot_id": row.bot_id,
        "bot": row.bot.name,
        "buy": row.buy_market,
        "sell": row.sell_market,
        "quantity": row.quantity,
        "buy_vwap": row.buy_vwap,
        "sell_vwap": row.sell_vwap,
        "gross_bps": row.gross_bps,
        "net_bps": row.net_bps,
        "profit": row.profit,
        "quote": row.quote,
        "book_age_ms": row.book_age_ms,
        "taken": row.taken,
        "check": row.check_name,
        "reason": row.reason,
        "at": unix(row.at),
    }


def trades_shown(*, owner_id: int, modes: Collection[str] | None = None) -> list[Trade]:
    """Return the newest trades (of some trade modes), then what is older and not finished or unhedged."""
    trades = Trade.objects.filter(owner_id=owner_id).order_by("-id")
    trades = trades.select_related("bot", "basis__spot__exchange", "basis__perp__exchange")
    if modes is not None:
        trades = trades.filter(mode__in=modes)
    newest = list(trades[:TRADES])
    if len(newest) < TRADES:
        return newest
    older = trades.filter(pk__lt=newest[-1].pk)
    for state in (*UNFINISHED_TRADES, TradeState.EXPOSED):
        # A query each: for several states at once SQLite would walk all the trades in the order of their ids.
        newest += older.filter(state=state)[:TRADES]
    return newest


def trades_data(trades: Iterable[Trade]) -> list[dict[str, Any]]:
    """Return trades with their legs and how their pairs stand; three queries. Needs ``bot`` and ``basis`` loaded."""
    rows = list(trades)
    orders: defaultdict[int | None, list[Order]] = defaultdict(list)
    found = Order.objects.filter(trade__in=rows).select_related("market__exchange")
    for order in found.order_by("leg", "attempt", "pk"):
        orders[order.trade_id].append(order)
    fees: defaultdict[int | None, dict[str, Decimal]] = defaultdict(dict)
    fills = Fill.objects.filter(order__trade__in=rows, fee__isnull=False)
    for order_id, asset, fee in fills.values_list("order", "fee_asset", "fee"):
        fees[order_id][asset] = exact_sum([fees[order_id].get(asset, Decimal(0)), fee or Decimal(0)])
    pairs = pairs_data(rows, orders)
    return [
        _trade_data(row, [_leg_data(order, fees[order.pk]) for order in orders[row.pk]], pairs.get(row.pk))
        for row in rows
    ]


def _trade_data(trade: Trade, legs: Sequence[dict[str, Any]], pair: dict[str, Any] | None) -> dict[str, Any]:
    return {
        "id": trade.trade_id,
        "bot_id": trade.bot_id,
        "bot": trade.bot.name,
        "route": trade.route,
        "state": trade.state,
        "mode": trade.mode,
        "quantity": f"{trade.quantity:f}",
        "base": trade.base,
        "quote": trade.quote,
        "expected_bps": f"{trade.expected_net_bps:f}",
        "expected_profit": f"{trade.expected_profit:f}",
        "profit": None if trade.realised_profit is None else f"{trade.realised_profit:f}",
        "residual": f"{trade.residual_base:f}",
        "exposure": f"{trade.exposure:f}",
        "reason": trade.reason,
        "opened_at": unix(trade.opened_at),
        "closed_at": None if trade.closed_at is None else unix(trade.closed_at),
        "legs": list(legs),
        "pair": pair,
    }


def _leg_data(order: Order, fees: dict[str, Decimal]) -> dict[str, Any]:
    # One leg pays in one asset; where an exchange mixes two, the first is shown and both are on the order's page.
    asset = next(iter(fees), "")
    return {
        "leg": order.leg,
        "attempt": order.attempt,
        "exchange": order.market.exchange.code,
        "symbol": order.market.symbol,
        "side": order.side,
        "price": f"{order.price:f}",
        "quantity": f"{order.quantity:f}",
        "filled": f"{order.filled:f}",
        "average": None if order.average_price is None else f"{order.average_price:f}",
        "fee": f"{fees[asset]:f}" if asset else None,
        "fee_asset": asset,
        "state": order.state,
        "client_order_id": order.client_order_id,
        "path": order.path,
    }


def balance_data(balance: Balance) -> dict[str, Any]:
    """Return one balance; needs ``account.exchange`` loaded."""
    return {
        "account_id": balance.account_id,
        "account": balance.account.label,
        "exchange": balance.account.exchange.code,
        "asset": balance.asset,
        "free": f"{balance.free:f}",
        "used": f"{balance.used:f}",
        "at": unix(balance.at),
    }
