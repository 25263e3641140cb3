"""Leverage brackets: how much leverage a position of some size may have, and what margin keeps it."""

from __future__ import annotations

from dataclasses import dataclass
from decimal import Decimal

D = Decimal


@dataclass(frozen=True, slots=True, kw_only=True)
class Bracket:
    """Notional amounts in quote units from ``floor`` (included) to ``cap``."""

    number: int
    leverage: int
    floor: Decimal
    cap: Decimal
    rate: Decimal
    """Maintenance margin per notional."""
    cum: Decimal
    """What is taken off, so that the margin does not jump from one bracket to the next."""


def _table(rows: tuple[tuple[int, int, str], ...]) -> tuple[Bracket, ...]:
    brackets: list[Bracket] = []
    floor, cum, last_rate = D(0), D(0), D(rows[0][2])
    for number, (cap, leverage, rate) in enumerate(rows, start=1):
        cum += floor * (D(rate) - last_rate)
        brackets.append(
            Bracket(number=number, leverage=leverage, floor=floor, cap=D(cap), rate=D(rate), cum=cum.normalize())
        )
        floor, last_rate = D(cap), D(rate)
    return tuple(brackets)


# Caps, leverages and rates of the same order as Binance's for its largest contracts, and for the others.
_LARGE = _table(
    (
        (300_000, 125, "0.004"),
        (800_000, 100, "0.005"),
        (3_000_000, 75, "0.0065"),
        (12_000_000, 50, "0.01"),
        (70_000_000, 25, "0.02"),
        (100_000_000, 20, "0.025"),
        (230_000_000, 10, "0.05"),
        (480_000_000, 5, "0.1"),
        (600_000_000, 4, "0.125"),
        (800_000_000, 3, "0.15"),
        (1_200_000_000, 2, "0.25"),
        (1_800_000_000, 1, "0.5"),
    )
)
_SMALL = _table(
    (
        (10_000, 75, "0.01"),
        (50_000, 50, "0.015"),
        (200_000, 25, "0.02"),
        (1_000_000, 10, "0.05"),
        (5_000_000, 5, "0.1"),
        (10_000_000, 2, "0.25"),
        (20_000_000, 1, "0.5"),
    )
)
_LARGE_BASES = frozenset({"BTC", "ETH"})


def brackets_of(base: str) -> tuple[Bracket, ...]:
    """Return the brackets of a base asset's contract, smallest first."""
    return _LARGE if base in _LARGE_BASES else _SMALL


def bracket_of(base: str, notional: Decimal) -> Bracket:
    """Return the bracket of a position's value (its sign does not matter); the last one has no end."""
    brackets = brackets_of(base)
    size = abs(notional)
    return next((bracket for bracket in brackets if size < bracket.cap), brackets[-1])


def maintenance(base: str, notional: Decimal) -> Decimal:
    """Return the margin below which a position of this value is liquidated."""
    bracket = bracket_of(base, notional)
    return abs(notional) * bracket.rate - bracket.cum


def most_notional(base: str, leverage: int) -> Decimal:
    """Return the largest position value that a leverage allows."""
    return max((bracket.cap for bracket in brackets_of(base) if bracket.leverage >= leverage), default=D(0))
