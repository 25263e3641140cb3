"""Three-leg routes: three markets of one exchange that turn an asset into more of itself.

A cycle pays when giving one unit of an asset through its three legs returns more than one. Its edge is

    (rate of leg 1) x (rate of leg 2) x (rate of leg 3) - 1

where buying base has the rate ``1 / (ask (1 + fee))`` and selling base ``bid (1 - fee)``: fees are charged on the
notional, as :mod:`trading.arbitrage.depth` does. Only the best prices are looked at, and nothing is executed.
"""

from __future__ import annotations

import math
from collections import defaultdict
from collections.abc import Iterable, Iterator, Sequence
from itertools import combinations
from typing import Protocol

import msgspec

from trading.arbitrage.depth import BPS
from trading.instruments import Market, Side

__all__ = ["Cycle", "CycleLeg", "CycleQuote", "Prices", "Top", "gross_rate", "quote_cycle", "three_leg_cycles"]


class Prices(Protocol):
    """Best prices of a market; 0.0 where a side is empty."""

    @property
    def bid(self) -> float: ...
    @property
    def ask(self) -> float: ...


class Top(Prices, Protocol):
    """Best prices and what stands there, in base units. :class:`trading.messages.BookTop` is one."""

    @property
    def bid_size(self) -> float: ...
    @property
    def ask_size(self) -> float: ...


class CycleLeg(msgspec.Struct, frozen=True):
    """One order of a cycle: buying gives quote for base, selling gives base for quote."""

    market: Market
    side: Side

    @property
    def gives(self) -> str:
        return self.market.quote if self.side == "buy" else self.market.base

    @property
    def takes(self) -> str:
        return self.market.base if self.side == "buy" else self.market.quote


class Cycle(msgspec.Struct, frozen=True):
    """Three legs on one exchange; each gives what the one before it took, and the last takes what the first gave."""

    legs: tuple[CycleLeg, CycleLeg, CycleLeg]

    @property
    def exchange(self) -> str:
        return self.legs[0].market.exchange

    @property
    def asset(self) -> str:
        """What the cycle starts from and ends in."""
        return self.legs[0].gives

    @property
    def path(self) -> str:
        """The assets in turn: ``USDT>BTC>BCH>USDT``."""
        return ">".join([self.asset, *(leg.takes for leg in self.legs)])


class CycleQuote(msgspec.Struct, frozen=True, gc=False):
    """What a cycle pays at the best prices. Edges are basis points of the amount given, amounts in ``Cycle.asset``.

    ``amount`` is the most that can be given so that no leg needs more than the quantity at its best price; ``profit``
    is what comes back beyond it, after fees (negative for a loss).
    """

    gross_bps: float
    net_bps: float
    amount: float
    profit: float


def three_leg_cycles(markets: Iterable[Market]) -> tuple[Cycle, ...]:
    """Return every cycle of three active spot markets of one exchange, both ways round, each once.

    Derivatives are left out: trading them exchanges no asset. A cycle starts from the asset that is quote of both its
    markets (USDT in BTC/USDT, BCH/BTC, BCH/USDT), or from the first by name where none is.
    """
    by_exchange: dict[str, list[Market]] = defaultdict(list)
    for market in {market.key: market for market in markets}.values():
        if market.kind == "spot" and market.active and market.base != market.quote:
            by_exchange[market.exchange].append(market)
    return tuple(cycle for group in by_exchange.values() for cycle in _cycles_of(group))


def _cycles_of(markets: Sequence[Market]) -> Iterator[Cycle]:
    """Find triangles by the pairs of markets that meet in an asset and a third one that closes them."""
    between: dict[frozenset[str], list[Market]] = defaultdict(list)
    neighbours: dict[str, set[str]] = defaultdict(set)
    for market in markets:
        between[frozenset((market.base, market.quote))].append(market)
        neighbours[market.base].add(market.quote)
        neighbours[market.quote].add(market.base)
    for first in sorted(neighbours):
        # Each triangle is found at the first of its assets by name only.
        for second, third in combinations(sorted(asset for asset in neighbours[first] if asset > first), 2):
            if third not in neighbours[second]:
                continue
            for one in between[frozenset((first, second))]:
                for two in between[frozenset((second, third))]:
                    for three in between[frozenset((third, first))]:
                        yield from _both_ways((one, two, three))


def _both_ways(markets: tuple[Market, Market, Market]) -> Iterator[Cycle]:
    quotes = [market.quote for market in markets]
    start = max(sorted(set(quotes)), key=quotes.count)
    for order in (markets, markets[::-1]):
        # A rotation whose first market holds the start asset, and whose last does too.
        first = next(i for i in range(3) if all(start in (order[j].base, order[j].quote) for j in (i, i - 1)))
        asset, legs = start, []
        for market in order[first:] + order[:first]:
            leg = CycleLeg(market, "buy" if market.quote == asset else "sell")
            legs.append(leg)
            asset = leg.takes
        yield Cycle((legs[0], legs[1], legs[2]))


def gross_rate(cycle: Cycle, tops: Sequence[Prices]) -> float | None:
    """Return what one unit becomes before fees at the best prices of the legs' markets; None if a side is empty."""
    rate = 1.0
    for leg, top in zip(cycle.legs, tops, strict=True):
        if leg.side == "buy":
            if not top.ask:
                return None
            rate /= top.ask
        else:
            if not top.bid:
                return None
            rate *= top.bid
    return rate


def quote_cycle(cycle: Cycle, tops: Sequence[Top], fees: Sequence[float] | None = None) -> CycleQuote | None:
    """Price a cycle at the best prices of its legs' markets.

    ``tops`` are in the order of the legs. ``fees`` are fractions of notional by leg, the markets' taker fees if left
    out. Returns None when a side that is needed is empty.
    """
    gross = gross_rate(cycle, tops)
    if gross is None:
        return None
    rates = fees if fees is not None else [float(leg.market.taker_fee) for leg in cycle.legs]
    net, amount = 1.0, math.inf
    for leg, top, fee in zip(cycle.legs, tops, rates, strict=True):
        # ``net`` is how much of what this leg gives one unit of the start asset has become.
        if leg.side == "buy":
            amount = min(amount, top.ask * (1.0 + fee) * top.ask_size / net)
            net /= top.ask * (1.0 + fee)
        else:
            amount = min(amount, top.bid_size / net)
            net *= top.bid * (1.0 - fee)
    return CycleQuote((gross - 1.0) * BPS, (net - 1.0) * BPS, amount, (net - 1.0) * amount)
