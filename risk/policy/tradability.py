"""Whether two exchanges mean the same coin by a code, and whether what a route trades can be moved at all.

A ticker is no identity: exchanges list different coins under one name, and a price far off is the first sign of it.
A frozen wallet is the second reason for a price far off: where a coin can't be withdrawn, its price there is its own.
"""

from __future__ import annotations

from collections.abc import Sequence
from enum import StrEnum

import msgspec

from risk.policy.verdict import ALLOWED, Verdict

# OKX names some contracts by their last digits only; six hexadecimal ones agree by chance once in 17 million.
LEAST_DIGITS = 6


class Ruling(StrEnum):
    """What an operator has said of a code at one exchange."""

    NONE = ""
    SAME = "same"  # it means this installation's asset of that code
    OTHER = "other"  # another coin of the name


class Network(msgspec.Struct, frozen=True, kw_only=True):
    """One network an exchange takes a coin on. ``contract`` is empty for a network's own coin, or where untold.

    ``deposit`` and ``withdraw`` are None where the exchange does not say.
    """

    name: str
    contract: str = ""
    deposit: bool | None = None
    withdraw: bool | None = None


class Listing(msgspec.Struct, frozen=True, kw_only=True):
    """What is known of a coin at one exchange; without networks nothing was ever told."""

    exchange: str
    asset: str
    networks: tuple[Network, ...] = ()
    ruling: Ruling = Ruling.NONE

    @property
    def can_deposit(self) -> bool | None:
        return _any_open([network.deposit for network in self.networks])

    @property
    def can_withdraw(self) -> bool | None:
        return _any_open([network.withdraw for network in self.networks])


class RouteMarkets(msgspec.Struct, frozen=True, kw_only=True):
    """A two-leg route: ``base`` is bought for ``quote`` on one exchange and sold for it on another.

    ``halted`` names the markets that their exchanges list and do not trade now.
    """

    base_bought: Listing
    base_sold: Listing
    quote_paid: Listing
    quote_received: Listing
    halted: tuple[str, ...] = ()


class Sameness(StrEnum):
    SAME = "same"
    DIFFERENT = "different"
    UNKNOWN = "unknown"


def sameness(one: Listing, other: Listing, *, confirmed: bool = False) -> tuple[Sameness, str]:
    """Return whether two exchanges mean one coin, and why in a few words.

    An operator's word comes first (``confirmed``: of the asset everywhere). Then contracts: one that agrees on a
    network both know proves it; if none agrees and one differs, they are two coins. A coin without a contract on a
    network both know is that network's own.
    """
    for listing in (one, other):
        if listing.ruling is Ruling.OTHER:
            return Sameness.DIFFERENT, f"an operator has said that {listing.exchange} means another coin by it"
    if all(confirmed or listing.ruling is Ruling.SAME for listing in (one, other)):
        return Sameness.SAME, "an operator has confirmed it"
    theirs = {network.name: network.contract for network in other.networks}
    differing = ""
    for network in one.networks:
        if network.name not in theirs:
            continue
        mine, yours = _plain(network.contract), _plain(theirs[network.name])
        if not mine and not yours:
            return Sameness.SAME, f"it is the own coin of {network.name} on both"
        if _agree(mine, yours):
            return Sameness.SAME, f"its contract on {network.name} is the same"
        if mine and yours:
            differing = f"its contracts on {network.name} differ: {network.contract}, {theirs[network.name]}"
    if differing:
        return Sameness.DIFFERENT, differing
    return Sameness.UNKNOWN, "no network or contract that both exchanges tell agrees"


def market_status(route: RouteMarkets) -> Verdict:
    """Refuse a route through a market that its exchange has halted."""
    if route.halted:
        return Verdict(
            allowed=False, reason=f"{' and '.join(route.halted)}: trading is halted by the exchange.", figures={}
        )
    return ALLOWED


def known_different(route: RouteMarkets, confirmed: frozenset[str]) -> Verdict:
    """Refuse two coins of one name, whoever's money it is."""
    return _identity(route, confirmed, Sameness.DIFFERENT)


def known_same(route: RouteMarkets, confirmed: frozenset[str]) -> Verdict:
    """Refuse coins that are not known to be one: for real money."""
    return _identity(route, confirmed, Sameness.UNKNOWN)


def _identity(route: RouteMarkets, confirmed: frozenset[str], refused: Sameness) -> Verdict:
    for one, other in ((route.base_bought, route.base_sold), (route.quote_paid, route.quote_received)):
        if one.exchange == other.exchange:
            continue
        found, why = sameness(one, other, confirmed=one.asset in confirmed)
        if found is refused:
            named = f"{one.asset} on {one.exchange} and on {other.exchange}"
            reason = (
                f"{named}: two different coins, {why}."
                if found is Sameness.DIFFERENT
                else f"{named}: not known to be the same coin, {why}; an operator can confirm it under Assets."
            )
            return Verdict(allowed=False, reason=reason, figures={"asset": one.asset})
    return ALLOWED


def wallets(route: RouteMarkets) -> Verdict:
    """Refuse a route whose coins can't go back to where they are needed: a wallet on the way is closed.

    What was bought must be able to leave where it was bought and arrive where it was sold, and the proceeds the other
    way round; otherwise inventory piles up, and the difference in price is that of a coin locked in. A wallet of
    which nothing is told does not refuse.
    """
    if route.base_bought.exchange == route.base_sold.exchange:
        return ALLOWED
    steps: Sequence[tuple[Listing, str, bool | None]] = (
        (route.base_bought, "withdrawals", route.base_bought.can_withdraw),
        (route.base_sold, "deposits", route.base_sold.can_deposit),
        (route.quote_received, "withdrawals", route.quote_received.can_withdraw),
        (route.quote_paid, "deposits", route.quote_paid.can_deposit),
    )
    for listing, what, is_open in steps:
        if is_open is False:
            return Verdict(
                allowed=False,
                reason=f"{listing.asset} on {listing.exchange}: {what} are suspended, so what is traded can't be "
                "brought back.",
                figures={"asset": listing.asset, "exchange": listing.exchange, "closed": what},
            )
    return ALLOWED


def _any_open(states: Sequence[bool | None]) -> bool | None:
    if any(state is True for state in states):
        return True
    return False if states and all(state is False for state in states) else None


def _plain(contract: str) -> str:
    """Return a contract as it is compared: hexadecimal addresses are written in either case, others are not."""
    text = contract.strip()
    return text.lower() if text[:2].lower() == "0x" else text


def _agree(one: str, other: str) -> bool:
    if not one or not other:
        return False
    if one == other:
        return True
    short, long = sorted((one, other), key=len)
    return LEAST_DIGITS <= len(short) < len(long) and long.lower().endswith(short.lower().removeprefix("0x"))
