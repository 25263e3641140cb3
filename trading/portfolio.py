"""What an owner may spend: the exchanges' figures less everything we have promised since.

Worst case throughout. Free goes down by our own word (a reservation, a fill) and up only by the exchange's: a
reservation is held until its order is settled, and what was spent stays deducted until the exchange reports the
account's next figures. An order whose outcome is unknown keeps its reservation.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from decimal import Decimal

import msgspec

from trading.messages import AccountBalance

ZERO = Decimal(0)


class Purse(msgspec.Struct, frozen=True):
    """Whose money: an account's own, or its paper money."""

    account_id: int
    paper: bool


class Reservation(msgspec.Struct, frozen=True):
    """Money promised to one order, by its client order id."""

    purse: Purse
    asset: str
    amount: Decimal


class InsufficientFunds(Exception):
    """Less is free than the order needs."""


class _Asset:
    __slots__ = ("figures", "spent")

    def __init__(self) -> None:
        self.figures: AccountBalance | None = None
        self.spent: list[tuple[int, Decimal]] = []  # by settled orders the exchange's figures may not show yet

    def unseen(self) -> Decimal:
        return sum((amount for _, amount in self.spent), ZERO)


class Portfolio:
    """Balances and reservations of one owner. Not thread-safe; one event loop uses it."""

    def __init__(self) -> None:
        self._assets: dict[tuple[Purse, str], _Asset] = {}
        self._reservations: dict[str, Reservation] = {}
        self._reserved: dict[tuple[Purse, str], Decimal] = {}

    def on_balance(self, purse: Purse, balance: AccountBalance) -> bool:
        """Take the exchange's figures; return whether they changed. Older figures than those held are ignored."""
        asset = self._assets.setdefault((purse, balance.asset), _Asset())
        held = asset.figures
        if held is not None and balance.received_ns < held.received_ns:
            return False
        asset.figures = balance
        asset.spent = [(at_ns, amount) for at_ns, amount in asset.spent if at_ns > balance.received_ns]
        return held is None or held.free != balance.free or held.used != balance.used

    def free(self, purse: Purse, asset: str) -> Decimal:
        """Return what may be promised to a new order: never negative, zero when the exchange has named no figure."""
        key = (purse, asset)
        held = self._assets.get(key)
        if held is None or held.figures is None:
            return ZERO
        free = held.figures.free - self._reserved.get(key, ZERO)
        if held.spent:
            free -= held.unseen()
        return free if free > ZERO else ZERO

    def total(self, purse: Purse, asset: str) -> Decimal:
        """Return the exchange's free plus used."""
        held = self._assets.get((purse, asset))
        return ZERO if held is None or held.figures is None else held.figures.free + held.figures.used

    def reserve(self, client_order_id: str, purse: Purse, asset: str, amount: Decimal) -> None:
        """Promise ``amount`` to an order; raise InsufficientFunds, changing nothing, if it is not free."""
        if client_order_id in self._reservations:
            raise ValueError(f"client_order_id: {client_order_id} holds a reservation already")
        free = self.free(purse, asset)
        if amount > free:
            raise InsufficientFunds(f"account {purse.account_id} has {free:f} {asset} free; {amount:f} are needed")
        self.adopt(client_order_id, purse, asset, amount)

    def adopt(self, client_order_id: str, purse: Purse, asset: str, amount: Decimal) -> None:
        """Hold a reservation made before, without asking whether it is covered (orders taken up at start)."""
        if client_order_id in self._reservations:
            return
        self._reservations[client_order_id] = Reservation(purse, asset, amount)
        key = (purse, asset)
        self._reserved[key] = self._reserved.get(key, ZERO) + amount

    def settle(self, client_order_id: str, spent: Decimal, now_ns: int) -> None:
        """End an order's reservation; what it spent stays deducted until figures asked for after ``now_ns`` are in."""
        reservation = self._reservations.pop(client_order_id, None)
        if reservation is None:
            return
        key = (reservation.purse, reservation.asset)
        left = self._reserved[key] - reservation.amount
        if left:
            self._reserved[key] = left
        else:
            del self._reserved[key]
        if spent > 0:
            self._assets.setdefault(key, _Asset()).spent.append((now_ns, spent))

    def reserved(self, purse: Purse, asset: str) -> Decimal:
        return self._reserved.get((purse, asset), ZERO)

    @property
    def reservations(self) -> Mapping[str, Reservation]:
        return dict(self._reservations)

    def figures(self) -> Iterable[tuple[Purse, AccountBalance]]:
        """Yield the exchanges' last figures."""
        for (purse, _), asset in self._assets.items():
            if asset.figures is not None:
                yield purse, asset.figures
