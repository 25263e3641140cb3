"""The engine's durable writes about trades: intents before anything is sent, results after."""

from __future__ import annotations

from collections.abc import Sequence

from django.db import transaction

from bots.services import locks
from bots.services.balances import balances_apply
from bots.services.decisions import DecisionSampler, decisions_store
from bots.services.events import events_apply
from bots.services.guard import guarded
from bots.services.intents import Kind, intent_of
from bots.services.journal import journal_commit
from bots.services.profits import Result, profits_move, result_of
from bots.services.stored import known_orders, open_trades, trade_of
from bots.services.trade_rows import trade_update
from bots.services.unfolding import intent_unfold, intents_unfold
from trading.messages import Decision, OrderIntent, TradeRecord

# What the engine's store adapter calls.
__all__ = [
    "DecisionSampler", "balances_apply", "decisions_store", "events_apply", "intent_unfold", "intents_unfold",
    "known_orders", "open_trades", "protection_commit", "repair_commit", "trade_commit", "trade_of", "trades_apply",
]  # fmt: skip


def trade_commit(
    *, owner_id: int, token: int, trade: TradeRecord, intents: Sequence[OrderIntent], decision: Decision | None = None
) -> None:
    """Make a trade, its first orders and their reservations durable as one journaled intent.

    Unfolded, the orders have been PENDING and are SENDING under the fencing token, both in one step. A reservation is
    the order's own reserve columns for as long as it may live. The same commit a second time (an answer to COMMIT was
    lost) changes nothing.

    Raises
    ------
    LeaseLost
        If the token is not the present one or has expired: send nothing.
    StoreUnavailable
        If the database cannot be reached or does not answer (SwitchedOff: if the trading switch forbids it): send
        nothing.
    ValueError
        If an intent names a market, account or bot that is not the owner's, or a value is one that no row could hold.
    """
    intent = intent_of(kind=Kind.ENTRY, trade=trade, orders=intents, decision=decision)
    journal_commit(owner_id=owner_id, token=token, intent=intent)


def repair_commit(*, owner_id: int, token: int, trade: TradeRecord, intent: OrderIntent) -> None:
    """Make one further order of a trade durable, under the rules of :func:`trade_commit`."""
    protection_commit(owner_id=owner_id, token=token, trade=trade, intents=[intent])


def protection_commit(*, owner_id: int, token: int, trade: TradeRecord, intents: Sequence[OrderIntent]) -> None:
    """Make further orders of a trade that belong together durable, all or none, under the rules of
    :func:`trade_commit`; with them the trade's state."""
    intent = intent_of(kind=Kind.FURTHER, trade=trade, orders=intents)
    journal_commit(owner_id=owner_id, token=token, intent=intent)


def trades_apply(*, owner_id: int, token: int, trades: Sequence[TradeRecord]) -> int:
    """Store the newest state and result of each trade; returns how many rows changed.

    Records come in the order they were made, so the last one of a trade counts. A trade that went on never becomes
    OPEN again; a late fill may still move a closed one. Once the lease has a later token than ``token`` nothing is
    stored: its holder has taken the trades up, and states them from the fills itself.
    """
    newest = {trade.trade_id: trade for trade in trades}

    def write() -> int:
        with transaction.atomic():
            if locks.lease_passed_on(owner_id=owner_id, token=token):
                return 0
            rows = locks.trades_lock(owner_id=owner_id, trade_ids=newest.keys())
            moves: list[tuple[Result | None, Result | None]] = []
            for trade_id, row in rows.items():
                before = result_of(row)
                if trade_update(row, newest[trade_id]):
                    moves.append((before, result_of(row)))
            profits_move(owner_id=owner_id, moves=moves)
            return len(moves)

    return guarded(write)
