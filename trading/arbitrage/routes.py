"""Two-leg routes: which ordered pairs of markets may be compared and traded against each other."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Sequence

import msgspec

from trading.instruments import Market

__all__ = ["NO_EQUIVALENCE", "AssetEquivalence", "Route", "route_refusal", "two_leg_routes"]


class AssetEquivalence:
    """Quote assets an operator declared to be worth the same.

    USD, USDT and USDC are different assets: comparing them without saying so turns their own exchange rate into
    profit that is not there. Nothing is equal unless it stands in here.
    """

    __slots__ = ("_canonical",)

    def __init__(self, groups: Iterable[Iterable[str]] = ()) -> None:
        self._canonical: dict[str, str] = {}
        for group in groups:
            self._join(tuple(group))

    @classmethod
    def parse(cls, declarations: Iterable[str]) -> AssetEquivalence:
        """Read declarations such as ``USD=USDT`` or ``USD=USDT=USDC``.

        Raises
        ------
        ValueError
            If a declaration doesn't name at least two assets.
        """
        groups = []
        for text in declarations:
            names = [name.strip().upper() for name in text.split("=")]
            if len(names) < 2 or not all(name.isalnum() for name in names):
                raise ValueError(f"treat-as-equal: must look like USD=USDT (given {text[:40]!r})")
            groups.append(names)
        return cls(groups)

    def canonical(self, asset: str) -> str:
        """Return the name that stands for everything equal to ``asset``."""
        return self._canonical.get(asset, asset)

    def _join(self, assets: Sequence[str]) -> None:
        names = {self.canonical(asset) for asset in assets}
        name = min(names)
        for asset in (*assets, *(known for known, to in self._canonical.items() if to in names)):
            self._canonical[asset] = name


NO_EQUIVALENCE = AssetEquivalence()


class Route(msgspec.Struct, frozen=True):
    """Buy base on one market, sell it on another; ``quote`` is the bought market's quote asset."""

    buy: Market
    sell: Market

    @property
    def base(self) -> str:
        return self.buy.base

    @property
    def quote(self) -> str:
        return self.buy.quote

    @property
    def key(self) -> str:
        """``<buy market key>><sell market key>``."""
        return f"{self.buy.key}>{self.sell.key}"


def route_refusal(buy: Market, sell: Market, equal: AssetEquivalence = NO_EQUIVALENCE) -> str:
    """Say in one sentence why these two markets are no route, or return an empty string when they are one."""
    if buy.key == sell.key:
        return f"{buy.key}: buying and selling on the same market is no route"
    for market in (buy, sell):
        if not market.active:
            return f"{market.key}: the market is not active"
    if buy.base != sell.base:
        return f"{buy.key} and {sell.key}: base assets differ ({buy.base}, {sell.base})"
    if equal.canonical(buy.quote) != equal.canonical(sell.quote):
        return f"{buy.key} and {sell.key}: quote assets differ ({buy.quote}, {sell.quote})"
    return ""


def two_leg_routes(markets: Iterable[Market], equal: AssetEquivalence = NO_EQUIVALENCE) -> tuple[Route, ...]:
    """Return every ordered pair of ``markets`` that :func:`route_refusal` has nothing against, in the order given."""
    groups: dict[tuple[str, str], list[Market]] = defaultdict(list)
    for market in {market.key: market for market in markets}.values():
        groups[market.base, equal.canonical(market.quote)].append(market)
    return tuple(
        Route(buy, sell)
        for group in groups.values()
        for buy in group
        for sell in group
        if not route_refusal(buy, sell, equal)
    )
