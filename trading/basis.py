"""What a spot-against-perpetual trade is: its rules, its terms, how it stands. Frozen values.

The pair is spot bought and as much of a linear perpetual sold short. Edges are basis points of the spot leg's notional
at entry, rates are fractions of notional, money is in the quote asset.
"""

from __future__ import annotations

from decimal import Decimal

import msgspec

__all__ = [
    "BASIS", "PERP_CLOSE_LEG", "PERP_LEG", "SPOT_CLOSE_LEG", "SPOT_LEG", "BasisRules", "BasisStanding", "BasisTerms",
    "Closing", "Funding",
]  # fmt: skip

BASIS = "basis"  # a bot's strategy
# The legs of its orders, as numbered in their rows and ids; further closing legs follow in pairs.
SPOT_LEG, PERP_LEG, SPOT_CLOSE_LEG, PERP_CLOSE_LEG = 0, 1, 2, 3
EIGHT_HOURS_NS = 8 * 3600 * 10**9


class Funding(msgspec.Struct, frozen=True, gc=False):
    """What an exchange says of a perpetual's funding.

    ``rate`` is what longs pay shorts at ``next_ns`` (negative: shorts pay longs), ``mark`` the price it is paid on.
    ``interval_ns`` is the time between two payments, eight hours where the exchange has shown no other.
    """

    market: str
    rate: float
    mark: float
    next_ns: int
    exchange_ns: int
    received_ns: int
    interval_ns: int = EIGHT_HOURS_NS


class BasisRules(msgspec.Struct, frozen=True, kw_only=True):
    """When a bot enters a pair and when it leaves it; a trade keeps those it was opened with.

    ``exit_bps`` is what the whole trade would earn if it were closed now: from there on it is. ``min_funding_bps`` is
    the least rate an interval that is entered on and held at (negative: the most it pays); ``funding_hours`` how far
    ahead funding is counted on at entry. ``min_liquidation_bps`` is how near the mark price may come to the position's
    liquidation. ``close_orphan`` says that the spot leg is sold once the perpetual one was closed from outside.
    """

    min_entry_bps: float = 10.0
    exit_bps: float = 5.0
    min_funding_bps: float = 0.0
    funding_hours: float = 0.0
    slippage_bps: float = 2.0
    max_hold_hours: float = 168.0
    leverage: int = 1
    min_liquidation_bps: float = 500.0
    max_funding_age_seconds: float = 10.0
    close_orphan: bool = True


class BasisTerms(msgspec.Struct, frozen=True, kw_only=True):
    """What was entered on. It never changes; ``spot`` and ``perp`` are market keys, ``funding_rate`` the one seen."""

    spot: str
    perp: str
    rules: BasisRules
    funding_rate: float = 0.0


class Closing(msgspec.Struct, frozen=True, kw_only=True):
    """Why a pair is being closed; ``must`` says that it is however the prices stand. Durable with the first order."""

    cause: str
    must: bool
    command_id: int = 0


class BasisStanding(msgspec.Struct, frozen=True, kw_only=True):
    """How it stands: what is told to pages and kept for the next process.

    ``held`` is what is hedged now, in base units; the prices are the entries' averages, ``entry_bps`` their difference
    less the fees of all four legs. ``funding`` is what was received so far, counted until ``funding_ns``
    (``is_estimated``: on paper, from the rates). ``exit_bps`` is what closing at ``exit_ns`` would have earned in all.
    ``outside`` is what of the perpetual position (base units) was closed by others than us, at about
    ``outside_price``, while spot could be sold at ``outside_spot``. ``carried_out`` are the commands that were.
    """

    held: Decimal = Decimal(0)
    spot_price: Decimal | None = None
    perp_price: Decimal | None = None
    entry_bps: Decimal | None = None
    funding: Decimal = Decimal(0)
    funding_ns: int = 0
    is_estimated: bool = False
    exit_bps: Decimal | None = None
    exit_ns: int = 0
    closing: Closing | None = None
    outside: Decimal = Decimal(0)
    outside_price: Decimal | None = None
    outside_spot: Decimal | None = None
    carried_out: tuple[int, ...] = ()
