"""Conditional orders on contracts, kept by a service of their own with ids and statuses of their own.

A conditional order binds nothing while it waits. When its trigger is reached it becomes an order like any other, which
is checked then.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from decimal import Decimal
from enum import StrEnum

from exchangesim.core.orders import ZERO, PositionSide, Side, TimeInForce, Trigger


class AlgoStatus(StrEnum):
    NEW = "NEW"
    TRIGGERING = "TRIGGERING"
    TRIGGERED = "TRIGGERED"
    """Its order is in the book, or was."""
    FINISHED = "FINISHED"
    """Its order has been filled, or ended otherwise."""
    CANCELED = "CANCELED"
    REJECTED = "REJECTED"
    """Its order was refused when it was triggered; see ``reason``."""
    EXPIRED = "EXPIRED"
    """Taken away by the exchange: the position that it was to close is gone."""


@dataclass(frozen=True, slots=True, kw_only=True)
class NewAlgo:
    """A conditional order as asked for."""

    native: str
    side: Side
    takes_profit: bool
    """Else it stops a loss; the two wait for their price from opposite sides."""
    trigger_price: Decimal
    source: str
    """The price it watches: ``last`` or ``mark``."""
    price: Decimal | None = None
    """None: a market order when it is triggered."""
    quantity: Decimal | None = None
    """None: all of the position (``close_position``)."""
    time_in_force: TimeInForce = TimeInForce.GTC
    post_only: bool = False
    position_side: PositionSide = PositionSide.BOTH
    reduce_only: bool = False
    protected: bool = False
    """Not triggered while last and mark price are far apart."""
    client_id: str = ""

    @property
    def close_position(self) -> bool:
        return self.quantity is None

    @property
    def trigger(self) -> Trigger:
        rises = (self.side is Side.BUY) != self.takes_profit
        return Trigger(price=self.trigger_price, rises=rises, source=self.source, reserves=False)


@dataclass(slots=True, kw_only=True)
class AlgoOrder:
    """An accepted conditional order. Changed in place."""

    id: int
    client_id: str
    api_key: str
    terms: NewAlgo
    created_ms: int
    updated_ms: int
    status: AlgoStatus = AlgoStatus.NEW
    triggered_ms: int = 0
    order_id: int = 0
    """The order it became; zero before that."""
    filled: Decimal = ZERO
    average: Decimal = ZERO
    reason: str = field(default="")

    @property
    def native(self) -> str:
        return self.terms.native

    @property
    def trigger(self) -> Trigger:
        return self.terms.trigger

    @property
    def waits(self) -> bool:
        return self.status is AlgoStatus.NEW

    @property
    def is_open(self) -> bool:
        """Whether it, or the order it became, may still change."""
        return self.status in (AlgoStatus.NEW, AlgoStatus.TRIGGERING, AlgoStatus.TRIGGERED)
