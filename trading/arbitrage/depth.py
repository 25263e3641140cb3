"""What the books' depth pays: the joint walk of two books, VWAPs, impact, lots.

Everything here is in base units and floats. Levels are ``(price, base quantity)`` pairs from the best price outwards;
`BaseLevels` makes them from a book, converting contracts: a linear contract is ``contract_size`` base, an
inverse one is ``contract_size / price`` base at each level's own price.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Iterator
from decimal import Decimal
from enum import StrEnum

import msgspec

from trading.instruments import Market, common_step
from trading.marketdata.book import BookSide

__all__ = [
    "BPS", "BaseLevels", "Filled", "JointQuote", "LegTerms", "Limits", "PairTerms", "Refusal", "best_overlap", "fill",
    "impact_bps", "joint_walk", "quantity_within", "vwap",
]  # fmt: skip

BPS = 1e4
# Sums of floats miss a whole lot by some units in the last place; a billionth of a lot is nobody's money.
LOT_NOISE = 1e-9
# The same for quantities: below this share of the wanted quantity nothing is missing.
FILL_NOISE = 1e-12


class Refusal(StrEnum):
    """Why two books give no trade."""

    EMPTY = "a side of the book is empty"
    NO_EDGE = "the books' best prices do not pay the fees and the demanded edge"
    BELOW_LOT = "the profitable quantity is below one lot"
    BELOW_MIN_AMOUNT = "the profitable quantity is below the market's minimum amount"
    BELOW_MIN_NOTIONAL = "the profitable quantity is below the market's minimum notional"


class LegTerms(msgspec.Struct, frozen=True):
    """A market's terms as the walk needs them, made once per route.

    ``fee`` is a fraction of notional; ``lot`` and ``min_amount`` are in the market's own unit, ``lot_size`` is one lot
    in base (in quote on an inverse market).
    """

    market: str
    inverse: bool
    contract_size: float
    fee: float
    lot: Decimal
    lot_size: Decimal
    min_amount: float
    min_notional: float

    @classmethod
    def of(cls, market: Market, fee: float | None = None) -> LegTerms:
        """Read a market's terms; ``fee`` overrides its taker fee."""
        return cls(
            market=market.key,
            inverse=market.kind == "inverse",
            contract_size=float(market.contract_size),
            fee=float(market.taker_fee) if fee is None else fee,
            lot=market.lot,
            lot_size=market.lot * market.contract_size,
            min_amount=float(market.min_amount),
            min_notional=float(market.min_notional),
        )


class PairTerms(msgspec.Struct, frozen=True):
    """Both legs' terms, and the base step that fits both (None when a leg is inverse: its step is in quote)."""

    buy: LegTerms
    sell: LegTerms
    step: Decimal | None

    @classmethod
    def of(cls, buy: LegTerms, sell: LegTerms) -> PairTerms:
        """Combine two legs' terms."""
        if buy.inverse or sell.inverse:
            return cls(buy, sell, None)
        return cls(buy, sell, common_step(buy.lot_size, sell.lot_size))


class Limits(msgspec.Struct, frozen=True):
    """What the walk must keep to.

    ``max_quantity`` is in base units, ``max_notional`` in quote (of the buy leg, before fees).

    Two different edges are demanded, both net of both fees and in basis points of the buy notional:
    ``min_marginal_bps`` of the last unit taken (0: the walk ends where one more unit would pay nothing, which is
    where profit is highest), ``min_net_bps`` of the whole quantity (a walk goes on below that edge at the margin as
    long as the average stays above it).
    """

    min_net_bps: float = 0.0
    min_marginal_bps: float = 0.0
    max_quantity: float = math.inf
    max_notional: float = math.inf


UNLIMITED = Limits()


class Filled(msgspec.Struct, frozen=True, gc=False):
    """A base quantity walked on one side: quote paid or received before fees, best and worst price reached."""

    quantity: float
    notional: float
    best_price: float
    worst_price: float

    @property
    def vwap(self) -> float:
        return self.notional / self.quantity

    @property
    def impact_bps(self) -> float:
        """Distance of the VWAP from the best price, never negative."""
        return abs(self.vwap / self.best_price - 1.0) * BPS


class JointQuote(msgspec.Struct, frozen=True, gc=False):
    """The most profitable matched quantity of two books.

    ``quantity`` is the base quantity both legs have, ``buy`` and ``sell`` what each leg walks (they differ from it by
    less than a lot, and only on routes with an inverse leg), ``buy_order`` and ``sell_order`` the same in the market's
    own unit: whole lots, as the float nearest to the decimal, so ``Decimal(repr(x))`` is exact. Edges are basis
    points of the buy notional, ``net_profit`` is in quote after both fees. A leg's limit is its ``worst_price``.
    """

    quantity: float
    buy: Filled
    sell: Filled
    buy_order: float
    sell_order: float
    gross_bps: float
    net_bps: float
    net_profit: float


class BaseLevels:
    """A book side as (price, base quantity) pairs from the best price outwards, read anew by every iteration.

    ``top`` and ``top_size`` (own unit) are the newest best the exchange reported when that is newer than the book:
    levels better than it are gone already, and the level at it holds no more than ``top_size``.
    """

    __slots__ = ("side", "terms", "top", "top_size")

    def __init__(self, side: BookSide, terms: LegTerms, top: float = 0.0, top_size: float = math.inf) -> None:
        self.side = side
        self.terms = terms
        self.top = top
        self.top_size = top_size

    def __iter__(self) -> Iterator[tuple[float, float]]:
        sign, contract_size, inverse = self.side.sign, self.terms.contract_size, self.terms.inverse
        best = sign * self.top if self.top else math.inf
        for price, own_size in self.side.levels():
            size = own_size
            if sign * price >= best:
                if price != self.top:
                    continue
                size = min(size, self.top_size)
            yield price, size * contract_size / price if inverse else size * contract_size


def fill(levels: Iterable[tuple[float, float]], quantity: float) -> Filled | None:
    """Walk ``quantity`` base units; None when the levels hold less.

    >>> fill([(100.0, 1.0), (101.0, 4.0)], 2.0)
    Filled(quantity=2.0, notional=201.0, best_price=100.0, worst_price=101.0)
    """
    notional, best, worst = walked(levels, quantity)
    return None if math.isnan(notional) else Filled(quantity, notional, best, worst)


def walked(levels: Iterable[tuple[float, float]], quantity: float) -> tuple[float, float, float]:
    """Return the notional of ``quantity`` base units, the best and the worst price; NaN if the levels hold less.

    Also compiled, for the gate of every trade (trading/execution/rating_compiled.py).
    """
    remaining, notional, best, worst = quantity, 0.0, 0.0, 0.0
    noise = quantity * FILL_NOISE
    for price, size in levels:
        best, worst = best or price, price
        if size >= remaining - noise:
            return notional + remaining * price, best, worst
        notional += size * price
        remaining -= size
    return math.nan, best, worst


def vwap(levels: Iterable[tuple[float, float]], quantity: float) -> float | None:
    """Return the average price of ``quantity`` base units, None when the levels hold less."""
    filled = fill(levels, quantity)
    return None if filled is None else filled.vwap


def impact_bps(levels: Iterable[tuple[float, float]], quantity: float) -> float | None:
    """Return how far the VWAP of ``quantity`` stands from the best price, in basis points; None as in :func:`vwap`."""
    filled = fill(levels, quantity)
    return None if filled is None else filled.impact_bps


def quantity_within(levels: Iterable[tuple[float, float]], band_bps: float) -> float:
    """Return the base quantity that stands within ``band_bps`` of the best price.

    >>> quantity_within([(100.0, 1.0), (100.05, 2.0), (100.2, 4.0)], 10.0)
    3.0
    """
    total, best = 0.0, 0.0
    for price, size in levels:
        best = best or price
        if abs(price - best) > best * band_bps / BPS:
            break
        total += size
    return total


def best_overlap(
    asks: Iterable[tuple[float, float]],
    bids: Iterable[tuple[float, float]],
    *,
    buy_fee: float,
    sell_fee: float,
    limits: Limits = UNLIMITED,
) -> float | None:
    """Return the most profitable base quantity within ``limits``, before lots; 0.0 for no edge, None for no levels.

    One unit bought at ask ``a`` and sold at bid ``b`` nets ``b (1 - sell_fee) - a (1 + buy_fee)``. Asks rise and bids
    fall along the walk, so that only shrinks: taking every unit that still pays is optimal, and the first that does
    not ends the walk.

    Asks 100 x 1, 101 x 1, 103 x 1 against bids 102 x 1.5, 101.5 x 5, no fees: the units pay 2 (one), 1 (a half),
    0.5 (a half), then 101.5 - 103 is a loss, so 2 units. At 50 bps a leg they pay 0.99, -0.015, so 1 unit.

    >>> best_overlap([(100, 1), (101, 1), (103, 1)], [(102, 1.5), (101.5, 5)], buy_fee=0, sell_fee=0)
    2.0
    >>> best_overlap([(100, 1), (101, 1), (103, 1)], [(102, 1.5), (101.5, 5)], buy_fee=0.005, sell_fee=0.005)
    1.0
    """
    ask_levels, bid_levels = iter(asks), iter(bids)
    ask, ask_left = next(ask_levels, (0.0, 0.0))
    bid, bid_left = next(bid_levels, (0.0, 0.0))
    if not ask or not bid:
        return None
    pays, costs = 1.0 - sell_fee, 1.0 + buy_fee
    marginal, average = limits.min_marginal_bps / BPS, limits.min_net_bps / BPS
    quantity = cost = 0.0
    slack = 0.0  # net profit above what the demanded average asks of the quantity so far
    while True:
        unit = bid * pays - ask * costs
        if unit <= 0.0 or unit < marginal * ask:
            break
        surplus = unit - average * ask
        take = min(ask_left, bid_left)
        allowed = min(limits.max_quantity - quantity, (limits.max_notional - cost) / ask)
        if surplus < 0.0:
            allowed = min(allowed, slack / -surplus)
        if allowed <= take:
            quantity += max(allowed, 0.0)
            break
        quantity += take
        cost += take * ask
        slack += take * surplus
        ask_left -= take
        bid_left -= take
        if ask_left <= 0.0:
            ask, ask_left = next(ask_levels, (0.0, 0.0))
        if bid_left <= 0.0:
            bid, bid_left = next(bid_levels, (0.0, 0.0))
        if not ask or not bid:
            break
    return quantity


def joint_walk(
    asks: BaseLevels, bids: BaseLevels, terms: PairTerms, limits: Limits = UNLIMITED
) -> JointQuote | Refusal:
    """Price the most profitable matched quantity of two books, in whole lots of both markets.

    ``asks`` is the bought market's side, ``bids`` the sold one's.

    Spot and linear legs take the largest quantity that is a whole number of lots of both. An inverse leg is a whole
    number of contracts whose base amount depends on the prices: the leg with the coarser lot is rounded first, the
    other takes the lots that fit into it, and what stays unmatched (less than one finer lot) earns nothing here.
    """
    buy, sell = terms.buy, terms.sell
    wanted = best_overlap(asks, bids, buy_fee=buy.fee, sell_fee=sell.fee, limits=limits)
    if wanted is None:
        return Refusal.EMPTY
    if wanted <= 0.0:
        return Refusal.NO_EDGE
    if terms.step is not None:
        quantity = _whole(wanted, terms.step, limits.max_quantity)
        bought, sold = fill(asks, quantity), fill(bids, quantity)
        buy_order, sell_order = _order_size(buy, quantity), _order_size(sell, quantity)
    # The coarser lot first: the leg with the finer one then misses it by less than its own lot.
    elif _lot_in_base(buy, asks) >= _lot_in_base(sell, bids):
        buy_order, bought = _lots(buy, asks, wanted)
        sell_order, sold = _lots(sell, bids, bought.quantity if bought else 0.0)
    else:
        sell_order, sold = _lots(sell, bids, wanted)
        buy_order, bought = _lots(buy, asks, sold.quantity if sold else 0.0)
    if bought is None or sold is None or not buy_order or not sell_order:
        return Refusal.BELOW_LOT
    if buy_order < buy.min_amount or sell_order < sell.min_amount:
        return Refusal.BELOW_MIN_AMOUNT
    if bought.notional < buy.min_notional or sold.notional < sell.min_notional:
        return Refusal.BELOW_MIN_NOTIONAL
    buy_price, sell_price = bought.vwap, sold.vwap
    quantity = min(bought.quantity, sold.quantity)
    net = sell_price * (1.0 - sell.fee) - buy_price * (1.0 + buy.fee)
    return JointQuote(
        quantity=quantity,
        buy=bought,
        sell=sold,
        buy_order=buy_order,
        sell_order=sell_order,
        gross_bps=(sell_price / buy_price - 1.0) * BPS,
        net_bps=net / buy_price * BPS,
        net_profit=net * quantity,
    )


def _lot_in_base(terms: LegTerms, levels: BaseLevels) -> float:
    lot = float(terms.lot_size)
    return lot / levels.side.best if terms.inverse else lot


def _whole(amount: float, step: Decimal, cap: float = math.inf) -> float:
    """Round down to the step, to the float nearest to the decimal result, and never over ``cap``."""
    count = math.floor(amount / float(step) + LOT_NOISE)
    result = float(count * step)
    return result if result <= cap else float((count - 1) * step)


def _order_size(terms: LegTerms, base: float) -> float:
    """Convert a base quantity that is whole lots of a spot or linear market into the market's own unit."""
    return float(round(base / float(terms.lot_size)) * terms.lot)


def _lots(terms: LegTerms, levels: BaseLevels, base: float) -> tuple[float, Filled | None]:
    """Round a base quantity down to one market's lots; return its own unit and what that walks."""
    if not terms.inverse:
        quantity = _whole(base, terms.lot_size)
        return (_order_size(terms, quantity), fill(levels, quantity)) if quantity else (0.0, None)
    filled = fill(levels, base) if base else None
    if filled is None:
        return 0.0, None
    quote = _whole(filled.notional, terms.lot_size)
    if not quote:
        return 0.0, None
    return _order_size(terms, quote), fill(levels, _base_of_quote(levels, quote))


def _base_of_quote(levels: Iterable[tuple[float, float]], quote: float) -> float:
    """Return the base quantity that ``quote`` buys or sells along the levels."""
    remaining, quantity = quote, 0.0
    for price, size in levels:
        if size * price >= remaining:
            return quantity + remaining / price
        quantity += size
        remaining -= size * price
    return quantity
