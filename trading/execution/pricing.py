"""Where a limit order stands in the spread, how far its market fallback may go, and how a style fits the occasion.

Pure arithmetic: nothing here knows a book, an order or the time.
"""

from __future__ import annotations

from decimal import ROUND_CEILING, ROUND_FLOOR, Decimal
from typing import Literal, NamedTuple

import msgspec

from trading.instruments import Market, Side, limit_price

BPS = Decimal(10_000)

# How far a style leans at the most: towards the other side by this share of what is left of the spread, or back to
# this share of its own; its time shrinks, or grows, by so much; and the least part of a size worked in a thin market.
MOST_EAGER = 0.6
LEAST_EAGER = 0.5
TIME_LEAN = 0.5
LEAST_SIZE = 0.25
AMPLE_DEPTH = 4.0  # of the quantity, near the best price: more makes a market no more liquid for it


class WorkingStyle(msgspec.Struct, frozen=True, kw_only=True):
    """How one quantity is worked into one market.

    ``adaptive`` rests a limit order in the spread: a purchase at the bid plus ``buy_share`` of the spread, a sale at
    the ask less ``sell_share``, for so many seconds in all. It is re-priced, at most ``max_reprices`` times, when the
    price it would have now differs from its own by more than ``reprice_ticks`` ticks and more than ``reprice_bps``,
    though never before it has rested ``rest_seconds``. What is left then goes, with ``fallback``, as an IOC at most
    ``fallback_bps`` beyond the best opposite price. ``market`` sends an IOC at the cap at once.
    """

    kind: Literal["adaptive", "market"] = "adaptive"
    buy_share: float = 0.75
    sell_share: float = 0.85
    buy_seconds: float = 15.0
    sell_seconds: float = 10.0
    max_reprices: int = 3
    reprice_ticks: int = 1
    reprice_bps: float = 1.0
    rest_seconds: float = 0.5
    fallback: bool = True
    fallback_bps: float = 10.0

    def __post_init__(self) -> None:
        for name in ("buy_share", "sell_share"):
            if not 0 <= getattr(self, name) <= 1:
                raise ValueError(f"{name}: must be 0 to 1, a share of the spread (given {getattr(self, name)!r})")
        for name in (
            "buy_seconds", "sell_seconds", "max_reprices", "reprice_ticks", "reprice_bps", "rest_seconds",
            "fallback_bps",
        ):  # fmt: skip
            if not 0 <= getattr(self, name) < float("inf"):
                raise ValueError(f"{name}: must be 0 or more (given {getattr(self, name)!r})")
        if self.kind not in {"adaptive", "market"}:
            raise ValueError(f"kind: must be adaptive or market (given {self.kind!r})")

    def share(self, side: Side) -> float:
        """Return how much of the spread an order of this side gives up."""
        return self.buy_share if side == "buy" else self.sell_share

    def seconds(self, side: Side) -> float:
        """Return for how long an order of this side is worked before its fallback."""
        return self.buy_seconds if side == "buy" else self.sell_seconds


class Adapted(NamedTuple):
    """A style made for an occasion, and what part of the wanted size is worked at once, in (0, 1]."""

    style: WorkingStyle
    size: Decimal


def limit_price_in_spread(
    market: Market, bid: Decimal, ask: Decimal, side: Side, share: float, cap: Decimal
) -> Decimal:
    """Return the price of a limit order that gives up ``share`` of the spread: from the bid for a purchase, from the
    ask for a sale.

    It is rounded to the tick towards filling (a purchase up, a sale down), but stays short of the other side's best
    price and within ``cap``, the worst price that may be paid or taken. A bid of 15.23 and an ask of 15.32, sold at
    85 % of the spread, are 15.2435, on a tick of 0.01 so 15.24:

    >>> market = Market(exchange="x", symbol="A/B", native_id="AB", base="A", quote="B", tick=Decimal("0.01"))
    >>> limit_price_in_spread(market, Decimal("15.23"), Decimal("15.32"), "sell", 0.85, cap=Decimal(15))
    Decimal('15.24')

    Raises
    ------
    ValueError
        If the prices are no spread, the share is no share, or no price on the tick is above zero and within the cap.
    """
    if not 0 < bid < ask:
        raise ValueError(f"bid: must be above zero and below the ask of {ask} (given {bid})")
    if not 0 <= share <= 1:
        raise ValueError(f"share: must be 0 to 1 (given {share!r})")
    given_up = (ask - bid) * Decimal(repr(share))
    tick = market.tick
    if side == "buy":
        towards_filling = _steps(bid + given_up, tick, ROUND_CEILING)
        short_of_other = _steps(ask, tick, ROUND_CEILING) - 1
        price = min(towards_filling, short_of_other) * tick
        price = min(price, limit_price(market, cap, side))
    else:
        towards_filling = _steps(ask - given_up, tick, ROUND_FLOOR)
        short_of_other = _steps(bid, tick, ROUND_FLOOR) + 1
        price = max(towards_filling, short_of_other) * tick
        price = max(price, limit_price(market, cap, side))
    if price <= 0:
        raise ValueError(f"price: nothing on the tick of {tick} is above zero and within the cap of {cap}")
    return price


def fallback_price(market: Market, best: Decimal, side: Side, fallback_bps: float, cap: Decimal) -> Decimal | None:
    """Return the limit of an IOC at most ``fallback_bps`` beyond the other side's ``best`` price, on the tick.

    None when the best price itself is beyond the cap: nothing would fill.
    """
    reach = best * Decimal(repr(fallback_bps)) / BPS
    if side == "buy":
        price = limit_price(market, min(best + reach, cap), side)
        return price if price >= best else None
    price = limit_price(market, max(best - reach, cap), side)
    return price if price <= best else None


def has_moved(market: Market, style: WorkingStyle, standing: Decimal, wanted: Decimal) -> bool:
    """Return whether the wanted price is so far from the one an order stands at that it is worth a new order."""
    distance = abs(wanted - standing)
    return distance > style.reprice_ticks * market.tick and distance > standing * Decimal(repr(style.reprice_bps)) / BPS


def liquidity_of(depth: float, quantity: float) -> float:
    """Return how liquid a market is for ``quantity``, 0 to 1, of the ``depth`` near its best price (the same unit).

    >>> liquidity_of(2.0, 1.0)
    0.5
    """
    if quantity <= 0:
        return 1.0
    return min(1.0, max(0.0, depth) / (AMPLE_DEPTH * quantity))


def adapted(style: WorkingStyle, *, confidence: float, liquidity: float) -> Adapted:
    """Return a style for an occasion: both figures are 0 to 1, and 0.5 leaves the style as it is.

    A confident, liquid one gives up more of the spread and waits less. The lower of the two figures decides, so that
    neither makes up for the other. One in doubt gives up less and waits longer; in a thin market it is smaller too,
    since what stands there is soon eaten.
    """
    for name, value in (("confidence", confidence), ("liquidity", liquidity)):
        if not 0 <= value <= 1:
            raise ValueError(f"{name}: must be 0 to 1 (given {value!r})")
    lean = 2 * min(confidence, liquidity) - 1

    def share(own: float) -> float:
        return own + lean * MOST_EAGER * (1 - own) if lean > 0 else own * (1 + lean * (1 - LEAST_EAGER))

    stretch = 1 - lean * TIME_LEAN
    changed = msgspec.structs.replace(
        style,
        buy_share=share(style.buy_share),
        sell_share=share(style.sell_share),
        buy_seconds=style.buy_seconds * stretch,
        sell_seconds=style.sell_seconds * stretch,
    )
    size = min(1.0, LEAST_SIZE + (1 - LEAST_SIZE) * liquidity / 0.5)
    return Adapted(changed, Decimal(repr(round(size, 6))))


def _steps(value: Decimal, step: Decimal, rounding: str) -> Decimal:
    return (value / step).to_integral_value(rounding=rounding)
