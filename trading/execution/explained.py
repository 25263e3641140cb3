"""Whether an account's balances are explained by the fills we know of: what moves without one is somebody else's, or
an order of ours that we think was never executed.

A figure of an asset is taken as the baseline while no order of ours is on its way on that account, so deposits and
trades by hand become part of it by themselves. From the first order on its way the fills booked have to explain every
change, until all of them are settled again. Spot only: a contract moves a margin, not a holding.
"""

from __future__ import annotations

from collections.abc import Mapping
from decimal import Decimal

import msgspec

from trading.execution.reconciliation import effects
from trading.instruments import Market
from trading.messages import AccountBalance, Fill
from trading.portfolio import Purse

ZERO = Decimal(0)


class Unexplained(msgspec.Struct, frozen=True):
    """``amount`` more (or less) than the fills booked say; ``baseline`` is what they were counted from."""

    baseline: Decimal
    amount: Decimal


class Explained:
    """Baselines and booked changes of one owner's accounts. One event loop uses it."""

    def __init__(self) -> None:
        self._underway: dict[Purse, set[str]] = {}
        self._baselines: dict[tuple[Purse, str], Decimal] = {}
        self._booked: dict[tuple[Purse, str], Decimal] = {}
        self._settled_ns: dict[Purse, int] = {}
        self._read_ns: dict[tuple[Purse, str], int] = {}

    def begin(self, client_order_id: str, purse: Purse) -> None:
        """Note an order that is about to leave."""
        self._underway.setdefault(purse, set()).add(client_order_id)

    def end(self, client_order_id: str, purse: Purse, now_ns: int) -> None:
        """Note that an order is settled; figures asked for before this (wall) time may not show all of it."""
        underway = self._underway.get(purse)
        if underway is not None and client_order_id in underway:
            underway.discard(client_order_id)
            self._settled_ns[purse] = now_ns

    def book(self, purse: Purse, market: Market, fill: Fill) -> None:
        """Count what a fill moved."""
        if market.kind != "spot":
            return
        self._count(purse, effects(fill, market))

    def book_fee(self, purse: Purse, fill: Fill) -> None:
        """Count a fee that was told after its fill."""
        if fill.fee:
            self._count(purse, {fill.fee_asset: -fill.fee})

    def _count(self, purse: Purse, moved: Mapping[str, Decimal]) -> None:
        for asset, amount in moved.items():
            key = (purse, asset)
            self._booked[key] = self._booked.get(key, ZERO) + amount

    def on_balance(self, purse: Purse, balance: AccountBalance) -> None:
        """Take the exchange's figure as the baseline, if nothing of ours is on its way."""
        if self._underway.get(purse) or balance.received_ns <= self._settled_ns.get(purse, 0):
            return
        key = (purse, balance.asset)
        if balance.received_ns < self._read_ns.get(key, 0):
            return
        self._read_ns[key] = balance.received_ns
        self._baselines[key] = balance.free + balance.used
        self._booked.pop(key, None)

    def judge(self, purse: Purse, balance: AccountBalance) -> Unexplained | None:
        """Return what a figure shows beyond the fills booked; None without a baseline from before our orders."""
        key = (purse, balance.asset)
        baseline = self._baselines.get(key)
        if baseline is None:
            return None
        expected = baseline + self._booked.get(key, ZERO)
        return Unexplained(baseline, balance.free + balance.used - expected)
