"""Tickets in the database: the engine's values as a row beside the trade's, and back."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import msgspec
from django.utils import timezone

from bots.models import Market, Ticket, Trade
from trading.instruments import money, positive
from trading.messages import TradeRecord
from trading.tickets import ClosingTerms, TicketStanding, TicketStep, TicketTerms, WorkingStyle

NOTE_LENGTH = 500


def ticket_columns(record: TradeRecord) -> dict[str, Any]:
    """Return the columns of a new ticket's row, without its trade and market; raises ValueError if an amount is out of
    range."""
    asked = record.ticket
    assert asked is not None
    return {
        "command_id": asked.command_id or None,
        "account_id": asked.account_id,
        "side": asked.side,
        "quantity": positive(asked.quantity, field="quantity"),
        "style": msgspec.to_builtins(asked.style),
        "limit_cap": positive(asked.limit_cap, field="limit_cap"),
        "take_profit": None if asked.take_profit is None else positive(asked.take_profit, field="take_profit"),
        "stop_loss": None if asked.stop_loss is None else positive(asked.stop_loss, field="stop_loss"),
        "leverage": asked.leverage,
        "wanted_path": asked.path,
        "is_close_only": asked.is_close_only,
        **standing_columns(record.standing or TicketStanding()),
    }


def ticket_insert(*, trade: Trade, record: TradeRecord, markets: Mapping[str, Market]) -> None:
    """Write a new trade's ticket, if it has one, in the transaction that writes the trade."""
    if record.ticket is not None:
        Ticket.objects.create(
            owner_id=trade.owner_id, trade=trade, market=markets[record.ticket.market], **ticket_columns(record)
        )


def ticket_update(*, trade: Trade, record: TradeRecord) -> None:
    """Store how a trade's ticket stands now."""
    if record.standing is not None:
        values = standing_columns(record.standing)
        Ticket.objects.filter(trade=trade).update(**values, updated_at=timezone.now())


def standing_columns(standing: TicketStanding) -> dict[str, Any]:
    """Return the columns that say how a ticket stands; raises ValueError if an amount is out of range."""
    improvement = standing.improvement
    return {
        "entry_price": None if standing.entry_price is None else money(standing.entry_price, field="entry_price"),
        "held": money(standing.held, field="held"),
        "protected_by": standing.protected_by,
        "protection_note": standing.protection_note[:NOTE_LENGTH],
        "improvement": None if improvement is None else money(improvement, field="improvement"),
        "fallback_quantity": money(standing.fallback_quantity, field="fallback_quantity"),
        "status_questions": standing.status_questions,
        "path": standing.path,
        "progress": [msgspec.to_builtins(step) for step in standing.progress],
        "closing": None if standing.closing is None else msgspec.to_builtins(standing.closing),
        "carried_out": list(standing.carried_out),
    }


def terms_of_ticket(row: Ticket, market: str) -> TicketTerms:
    """Return what a ticket's row says was asked for."""
    return TicketTerms(
        market=market,
        account_id=row.account_id,
        side=row.side,  # type: ignore[arg-type]
        quantity=row.quantity,
        style=msgspec.convert(row.style, WorkingStyle),
        limit_cap=row.limit_cap,
        take_profit=row.take_profit,
        stop_loss=row.stop_loss,
        leverage=row.leverage,
        path=row.wanted_path,
        command_id=row.command_id or 0,
        is_close_only=row.is_close_only,
    )


def standing_of_ticket(row: Ticket) -> TicketStanding:
    """Return how a ticket stood when its row was last written."""
    return TicketStanding(
        held=row.held,
        entry_price=row.entry_price,
        protected_by=row.protected_by,
        protection_note=row.protection_note,
        improvement=row.improvement,
        fallback_quantity=row.fallback_quantity,
        status_questions=row.status_questions,
        path=row.path,
        progress=msgspec.convert(row.progress, tuple[TicketStep, ...]),
        closing=None if row.closing is None else msgspec.convert(row.closing, ClosingTerms),
        carried_out=tuple(row.carried_out),
    )
