"""Fits how an order is worked to its occasion: the score of an opportunity, or the book an entry by hand meets."""

from __future__ import annotations

from decimal import Decimal

import msgspec

from trading.execution.pricing import Adapted, WorkingStyle, adapted, liquidity_of
from trading.instruments import Market, Side, lot_quantity
from trading.marketdata.book import BookSide
from trading.messages import TradeRecord
from trading.tickets import TicketTerms

BPS = 10_000
UNCHANGED = Decimal(1)


def fitted_to_trade(style: WorkingStyle, record: TradeRecord) -> Adapted:
    """Return a style as the score and the liquidity of a trade's opportunity ask for; as it is if it was not rated."""
    if record.score is None or record.liquidity is None:
        return Adapted(style, UNCHANGED)
    return adapted(style, confidence=_share(record.score), liquidity=_share(record.liquidity))


def fitted_to_book(asked: TicketTerms, opposite: BookSide) -> TicketTerms:
    """Return the terms with their style fitted to what stands on the side their entry would take.

    That a person asked for it is all the confidence there is: the book's liquidity alone decides. How much is traded,
    and times that were given, are the person's.
    """
    if asked.adapts == "nothing" or asked.style.kind != "adaptive":
        return asked
    liquidity = liquidity_of(depth_within(opposite, asked.style.fallback_bps), float(asked.quantity))
    style = adapted(asked.style, confidence=1.0, liquidity=liquidity).style
    if asked.adapts == "price":
        own = asked.style
        style = msgspec.structs.replace(style, buy_seconds=own.buy_seconds, sell_seconds=own.sell_seconds)
    return msgspec.structs.replace(asked, style=style, adapts="nothing", liquidity=liquidity)


def depth_within(side: BookSide, bps: float) -> float:
    """Return what stands within so many basis points of a side's best price, in the market's own unit."""
    reach = side.best * bps / BPS
    total = 0.0
    for price, size in side.levels():
        if abs(price - side.best) > reach:
            break
        total += size
    return total


def part_of(quantity: Decimal, share: Decimal, market: Market, smallest: Decimal) -> Decimal:
    """Return the part of a quantity that is worked at once, in whole lots; all of it where either part would be
    smaller than the market takes."""
    part = lot_quantity(quantity * share, market)
    return quantity if part < smallest or quantity - part < smallest else part


def words(style: WorkingStyle, side: Side, *, liquidity: float | None = None, score: float | None = None) -> str:
    """Say how an order is worked, and what that was fitted to."""
    if style.kind == "market":
        return "at the market, capped"
    told = f"a limit that gives up {style.share(side):.0%} of the spread, for at most {style.seconds(side):.1f} s"
    figures = {"score": score, "liquidity": liquidity}
    known = ", ".join(f"{name} {figure:.2f}" for name, figure in figures.items() if figure is not None)
    return f"{told} ({known})" if known else told


def _share(figure: float) -> float:
    return min(1.0, max(0.0, figure))
