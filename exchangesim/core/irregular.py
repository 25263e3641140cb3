"""What a matching engine should not do, and at times does: the faults of stage ENGINE, as the exchange asks for them.

Whatever comes of them is booked like everything else: orders, fills and balances of the exchange stay its truth.
"""

from __future__ import annotations

from dataclasses import replace
from decimal import Decimal
from typing import NamedTuple

from exchangesim.core.accounts import Account
from exchangesim.core.faults import Fault, FaultRegistry, Stage
from exchangesim.core.matching import floor_to
from exchangesim.core.orders import ZERO, NewOrder, Order


class FeeTerms(NamedTuple):
    """How an order's fees differ from the schedule. ``asset`` empty: in what is received."""

    times: Decimal
    asset: str
    price: Decimal


class Irregular:
    """The irregularities of one exchange; without a registry there are none."""

    def __init__(self, exchange: str, faults: FaultRegistry | None = None) -> None:
        self._exchange, self._faults = exchange, faults

    def reshape(self, account: Account, new: NewOrder) -> NewOrder:
        fault = self._strike("reshape", new.native, account.api_key)
        if fault is None:
            return new
        return replace(
            new,
            price=_floored(new.price, fault.text("price_step")),
            quantity=_floored(new.quantity, fault.text("quantity_step")),
        )

    def depth(self, order: Order) -> Decimal | None:
        """Return how much may trade at once; None: whatever the book holds."""
        fault = self._strike("cut_depth", order.native, order.api_key)
        return None if fault is None else Decimal(fault.text("quantity"))

    def overfill(self, order: Order) -> Decimal:
        """Return how much more than ordered is to be filled."""
        fault = self._strike("overfill", order.native, order.api_key)
        return ZERO if fault is None else Decimal(fault.text("quantity"))

    def fee(self, order: Order) -> FeeTerms | None:
        fault = self._strike("fee", order.native, order.api_key)
        if fault is None:
            return None
        return FeeTerms(Decimal(str(fault.parameters["times"])), fault.text("asset"), Decimal(fault.text("price")))

    def reuses_client_id(self, account: Account) -> bool:
        return self._strike("reuse_client_id", "", account.api_key) is not None

    def _strike(self, kind: str, native: str, api_key: str) -> Fault | None:
        if self._faults is None:
            return None
        return self._faults.strike(
            Stage.ENGINE, exchange=self._exchange, operation="order", symbol=native, api_key=api_key, kind=kind
        )


def _floored(value: Decimal | None, step: str) -> Decimal | None:
    return value if value is None or not Decimal(step) else floor_to(value, Decimal(step))
