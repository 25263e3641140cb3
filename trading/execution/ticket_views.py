"""What pages are told of a ticket: its progress, its position, its orders. Amounts are strings, times Unix seconds."""

from __future__ import annotations

from collections.abc import Sequence
from decimal import Decimal

from trading.execution.order import Order
from trading.execution.views import View, plain
from trading.messages import AccountPosition, TradeRecord, TradeState
from trading.tickets import TicketStanding, TicketStep, TicketTerms

FIGURE = Decimal("1e-12")


def price(value: Decimal | None) -> str | None:
    return None if value is None else plain(value.quantize(FIGURE).normalize() if value else value)


def progress_view(trade_id: str, command_id: int, steps: Sequence[TicketStep], path: str, message: str) -> View:
    """Return how far what a command asked for has come: a trade, or the close of one."""
    return {
        "trade_id": trade_id,
        "command_id": command_id,
        "step": steps[-1].step if steps else "connecting",
        "steps": [
            {"step": one.step, "state": one.state, "at": one.at, "ms": one.ms, "text": one.text} for one in steps
        ],
        "path": path,
        "message": message,
    }


def position_view(
    record: TradeRecord,
    asked: TicketTerms,
    standing: TicketStanding,
    *,
    account: str,
    mark: Decimal | None,
    gain: Decimal | None,
    told: AccountPosition | None = None,
    told_ns: int = 0,
) -> View:
    """Return what a ticket holds; a ``size`` of 0 says that it is closed.

    ``told`` is the exchange's position in the contract, which may be more than this ticket's, as of ``told_ns``.
    """
    exchange, _, symbol = asked.market.partition(":")
    return {
        "id": record.trade_id,
        "trade_id": record.trade_id,
        "environment": record.mode,
        "account_id": asked.account_id,
        "account": account,
        "exchange": exchange,
        "symbol": symbol,
        "side": "long" if asked.side == "buy" else "short",
        "entry_price": price(standing.entry_price),
        "mark_price": price(mark),
        # What stays of a closed one is less than an order: money on the account, no position.
        "size": "0" if record.state is TradeState.CLOSED else plain(standing.held),
        "unrealized_pnl": price(gain),
        "quote": record.quote,
        "leverage": asked.leverage if told is None or told.leverage is None else told.leverage,
        "liquidation_price": price(None if told is None else told.liquidation_price),
        "take_profit": price(asked.take_profit),
        "stop_loss": price(asked.stop_loss),
        "protected_by": standing.protected_by,
        "protection_note": standing.protection_note,
        "opened_at": record.opened_ns / 1e9,
        "figures_at": None if told is None else told_ns / 1e9,
    }


def order_view(order: Order, record: TradeRecord, *, account: str, path: str, at_ns: int) -> View:
    """Return one order of a ticket."""
    intent = order.intent
    exchange, _, symbol = intent.market.partition(":")
    return {
        "id": intent.client_order_id,
        "trade_id": record.trade_id,
        "environment": record.mode,
        "exchange": exchange,
        "account": account,
        "symbol": symbol,
        "type": intent.kind.value,
        "side": intent.side,
        "status": order.state.value,
        "price": plain(intent.price),
        "trigger": price(intent.trigger),
        "amount": plain(intent.quantity),
        "filled": plain(order.filled),
        "remaining": plain(max(intent.quantity - order.filled, Decimal(0))),
        "average": price(order.average_price),
        "path": path,
        "by_hand": True,
        "at": at_ns / 1e9,
    }
