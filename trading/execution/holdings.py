"""Positions in contracts as the exchanges tell them, each reading compared with what they should be.

Where an account holds both sides of a contract apart, each is a holding of its own (:func:`~trading.instruments.
holding_of`): what is missing of one is never made up for by the other.

What they should be is the ledger's figure of the last comparison (:mod:`trading.execution.reconciler`) and the fills
booked since. A reading and the news of a fill come by different ways, in any order. So a position is called unexplained
only when nothing of ours is in flight in its market and a later reading, GRACE_SECONDS after the first, says the same;
then the account is compared again, which books it as a difference.
"""

from __future__ import annotations

from collections.abc import Callable, Container, Iterable, Mapping
from decimal import Decimal

from trading.instruments import POSITION_SIDES, Market, contract_of, holding_of
from trading.messages import AccountPosition, AccountPositions, Fill
from trading.portfolio import Purse
from trading.ports import Clock, Venue

ZERO = Decimal(0)
GRACE_SECONDS = 3.0
Key = tuple[int, str]


async def read_holdings(venue: Venue) -> Mapping[str, Decimal] | None:
    """Ask what an account has: by asset, and of contracts by the name of the holding; what is short is negative.

    None without an answer.
    """
    balances, positions = await venue.balances(), await venue.positions()
    if not balances or positions is None:
        return None
    held = {balance.asset: balance.total for balance in balances}
    for position in positions:
        name = holding_of(position.market.partition(":")[2], position.side)
        held[name] = held.get(name, ZERO) + position.quantity
    return {name: amount for name, amount in held.items() if amount}


class Holdings:
    """The newest reading of each purse, and what it shows beyond our books."""

    def __init__(self, clock: Clock) -> None:
        self._clock = clock
        self._told: dict[Purse, AccountPositions] = {}
        self._booked: dict[Key, Decimal] = {}  # by (account, holding): what fills have moved since this process began
        self._before: dict[int, dict[str, Decimal]] = {}  # by account and holding: the ledger's figure less those
        self._suspected: dict[Key, tuple[Decimal, int]] = {}  # theirs less ours, and since when (monotonic)
        self.differences: dict[Key, Decimal] = {}
        """Theirs less ours by (account, holding), of positions that our books don't explain."""
        self.in_flight: Callable[[int], Container[str]] = lambda account_id: ()
        """The markets of an account in which an order of ours may have done what we don't know of."""
        self.on_difference: Callable[[int], None] = lambda account_id: None
        """Told of an account whose difference is new, or another one than before."""

    def positions(self, purse: Purse) -> tuple[AccountPosition, ...]:
        told = self._told.get(purse)
        return () if told is None else told.positions

    def told_ns(self, purse: Purse) -> int:
        """Return when a purse's positions were asked for (wall clock); 0 while they are not known."""
        told = self._told.get(purse)
        return 0 if told is None else told.received_ns

    def of(self, purse: Purse, market: str, side: str) -> AccountPosition | None:
        """Return a purse's position in a market; ``side`` is ``long`` or ``short``."""
        for position in self.positions(purse):
            its = position.side if position.side != "both" else "long" if position.quantity > 0 else "short"
            if (position.market, its) == (market, side):
                return position
        return None

    def explained(self, account_id: int, holding: str) -> Decimal | None:
        """Return what our books hold of a contract, negative when short; None before an account's first comparison."""
        before = self._before.get(account_id)
        return None if before is None else before.get(holding, ZERO) + self._booked.get((account_id, holding), ZERO)

    def difference(self, account_id: int, market: str, side: str) -> Decimal:
        """Return theirs less ours of the position that holds a market's side, be it the account's one position there;
        0 where our books explain it."""
        found = (self.differences.get((account_id, name)) for name in (holding_of(market, side), market))
        return next((amount for amount in found if amount), ZERO)

    def differs(self, account_id: int, market: str) -> bool:
        """Return whether any position of an account in a market is not what our books explain."""
        return any((account_id, holding_of(market, side)) in self.differences for side in ("both", *POSITION_SIDES))

    def book(self, purse: Purse, market: Market, fill: Fill) -> None:
        """Count what a fill moved."""
        if market.kind == "spot" or purse.paper:
            return
        key = (purse.account_id, holding_of(fill.market, fill.position_side))
        self._booked[key] = self._booked.get(key, ZERO) + (fill.quantity if fill.side == "buy" else -fill.quantity)

    def agree(self, account_id: int, ledger: Mapping[str, Decimal]) -> None:
        """Begin from what the ledger says of an account's contracts, by holding; every fill booked is in it."""
        booked = {holding: moved for (account, holding), moved in self._booked.items() if account == account_id}
        self._before[account_id] = {
            holding: ledger.get(holding, ZERO) - booked.get(holding, ZERO) for holding in ledger.keys() | booked.keys()
        }
        for purse, told in self._told.items():
            if purse.account_id == account_id and not purse.paper:
                self._compare(purse, told)

    def on_positions(self, purse: Purse, told: AccountPositions) -> bool:
        """Take a reading; return False if a newer one is known."""
        known = self._told.get(purse)
        if known is not None and known.received_ns > told.received_ns:
            return False
        self._told[purse] = told
        if not purse.paper:
            self._compare(purse, told)
        return True

    def _compare(self, purse: Purse, told: AccountPositions) -> None:
        account_id = purse.account_id
        before = self._before.get(account_id)
        if before is None:
            return
        theirs: dict[str, Decimal] = {}
        for position in told.positions:
            name = holding_of(position.market, position.side)
            theirs[name] = theirs.get(name, ZERO) + position.quantity
        in_flight = self.in_flight(account_id)
        for holding in self._named(account_id, (*before, *theirs)):
            key = (account_id, holding)
            amount = theirs.get(holding, ZERO) - before.get(holding, ZERO) - self._booked.get(key, ZERO)
            if not amount:
                self._suspected.pop(key, None)
                self.differences.pop(key, None)
            elif contract_of(holding) not in in_flight:
                self._suspect(key, amount)

    def _named(self, account_id: int, named: Iterable[str]) -> set[str]:
        known = (*self._booked, *self._suspected, *self.differences)
        return {*named, *(holding for account, holding in known if account == account_id)}

    def _suspect(self, key: Key, amount: Decimal) -> None:
        now = self._clock.monotonic_ns()
        suspected, since = self._suspected.get(key, (None, now))
        if suspected != amount:
            self._suspected[key] = (amount, now)
        elif now - since >= GRACE_SECONDS * 1e9 and self.differences.get(key) != amount:
            self.differences[key] = amount
            self.on_difference(key[0])
