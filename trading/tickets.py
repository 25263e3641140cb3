"""What a trade made by hand is: the ticket's terms, how it stands, and how far its parts have come. Frozen values.

A ticket is a trade (:class:`trading.messages.TradeRecord`) with one leg: an entry, its protection, a position that is
held on purpose, and a close. Prices are quote per base, quantities in the market's own unit.
"""

from __future__ import annotations

from decimal import Decimal
from typing import Literal

import msgspec

from trading.execution.pricing import WorkingStyle
from trading.instruments import Side

__all__ = [
    "CAP_BPS", "CLOSE_LEG", "ENTRY_LEG", "PROTECTION_LEGS", "STOP_LOSS_LEG", "TAKE_PROFIT_LEG", "ClosingTerms",
    "TicketStanding", "TicketStep", "TicketTerms", "WorkingStyle",
]  # fmt: skip

# The legs of a ticket's orders, as numbered in their rows and ids.
ENTRY_LEG, CLOSE_LEG, TAKE_PROFIT_LEG, STOP_LOSS_LEG = 0, 1, 2, 3
PROTECTION_LEGS = frozenset({TAKE_PROFIT_LEG, STOP_LOSS_LEG})
# How far beyond the best price an order by hand may be filled if no price was given; a stop-loss beyond its trigger.
CAP_BPS = Decimal(100)


class TicketTerms(msgspec.Struct, frozen=True, kw_only=True):
    """What was asked for. It never changes; ``command_id`` is the command that asked (0: none).

    ``side`` is the entry's, ``limit_cap`` the worst price it may pay (0: CAP_BPS beyond the best one when it is
    opened). ``take_profit`` and ``stop_loss`` are prices.
    ``adapts`` says what of its style is fitted to the book when it is opened: ``price`` where it stands in the spread,
    ``style`` its times as well; then ``liquidity`` is what it was fitted to, and nothing is left to be.
    ``is_close_only`` says that the entry opens nothing to be held: a spot sale, inventory that is converted, or a
    closing order on a position that no ticket holds. It ends once the entry has been worked. ``path`` is ``auto`` or
    ``websocket``.
    """

    market: str
    account_id: int
    side: Side
    quantity: Decimal
    style: WorkingStyle = WorkingStyle()
    limit_cap: Decimal = Decimal(0)
    take_profit: Decimal | None = None
    stop_loss: Decimal | None = None
    leverage: int | None = None
    path: str = "auto"
    command_id: int = 0
    is_close_only: bool = False
    adapts: Literal["nothing", "price", "style"] = "nothing"
    liquidity: float | None = None


class TicketStep(msgspec.Struct, frozen=True, kw_only=True):
    """One step of a ticket's progress. ``state`` is ``done``, ``now`` or ``failed``; ``at`` seconds since the epoch,
    ``ms`` how long it took, or has taken so far. ``command_id`` is that of the close it belongs to (0: the entry)."""

    step: str  # "connecting", "withdrawing protection", "placing order", "placing protection", "done", "failed"
    state: str
    at: float
    ms: float = 0.0
    text: str = ""
    command_id: int = 0


class ClosingTerms(msgspec.Struct, frozen=True, kw_only=True):
    """How a position is being brought down to ``keep`` (own unit), and why; durable before its first order is sent.

    Whoever asks says how much is to go, ``quantity`` (None: all of it); what is then kept is the engine's to work out.
    ``limit_cap`` is the worst price that may be had; None while the price is whatever the style's own cap allows.
    """

    keep: Decimal = Decimal(0)
    quantity: Decimal | None = None
    style: WorkingStyle = WorkingStyle()
    limit_cap: Decimal | None = None
    cause: str = ""
    command_id: int = 0


class TicketStanding(msgspec.Struct, frozen=True, kw_only=True):
    """How a ticket stands: what is told to pages and kept for the next process.

    ``held`` is the position now, unsigned (its side is the entry's), ``entry_price`` the entry's average price.
    ``protected_by`` is ``exchange``, ``engine`` or empty, ``protection_note`` why it is not as it should be.
    ``improvement`` is what working the orders earned against taking the book at once, in the quote asset,
    ``fallback_quantity`` what had to take it all the same, ``status_questions`` how often an order's state had to be
    asked for. ``path`` is how its orders went: ``websocket``, ``rest`` or ``paper``. ``carried_out`` are the commands
    that were, beside the one in the terms. ``progress`` has the steps of the entry, then those of the last close.
    """

    held: Decimal = Decimal(0)
    entry_price: Decimal | None = None
    protected_by: str = ""
    protection_note: str = ""
    improvement: Decimal | None = None
    fallback_quantity: Decimal = Decimal(0)
    status_questions: int = 0
    path: str = ""
    progress: tuple[TicketStep, ...] = ()
    closing: ClosingTerms | None = None
    carried_out: tuple[int, ...] = ()
