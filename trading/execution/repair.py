"""What to do about legs that filled unequally: the orders that complete or undo, each within its price cap."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from decimal import ROUND_CEILING, Decimal

import msgspec

from trading.arbitrage.depth import BaseLevels, LegTerms, fill
from trading.execution.desk import Desk, TradeTerms
from trading.execution.ladder import Rung, tighter
from trading.execution.reserving import needed
from trading.execution.result import Tally
from trading.instruments import Market, Side, limit_price, lot_quantity, order_quantity
from trading.portfolio import Purse

BPS = Decimal(10_000)


class Leg(msgspec.Struct, frozen=True, kw_only=True):
    """A leg of a trade, sent or still to be sent; ``limit`` is its first order's, None if that is not known."""

    leg: int
    market: str
    side: Side
    limit: Decimal | None


class RepairOrder(msgspec.Struct, frozen=True, kw_only=True):
    """A wanted repair: ``quantity`` in the market's own unit, ``price`` its limit; ``net_price`` ranks it."""

    leg: int
    market: Market
    purse: Purse
    side: Side
    price: Decimal
    quantity: Decimal
    net_price: float


def smallest_order(market: Market, price: Decimal) -> Decimal:
    """Return the least quantity (own unit) the market takes at ``price``."""
    least = max(market.lot, market.min_amount)
    if market.min_notional > 0:
        unit_value = market.contract_size if market.kind == "inverse" else price * market.contract_size
        lots = market.min_notional / unit_value / market.lot
        least = max(least, lots.to_integral_value(ROUND_CEILING) * market.lot)
    return least


def is_enough(market: Market, quantity: Decimal, price: Decimal) -> bool:
    """Return whether ``quantity``, whole lots, is at least :func:`smallest_order`."""
    if quantity <= 0 or quantity < market.min_amount:
        return False
    least = market.min_notional
    if least <= 0:
        return True
    value = quantity * market.contract_size
    return (value if market.kind == "inverse" else value * price) >= least


def is_dust(tally: Tally, markets: Iterable[Market]) -> bool:
    """Return whether no market of the trade takes an order as small as the residual."""
    entry = tally.entry_price
    if entry is None:
        return True
    size = abs(tally.residual)
    for market in markets:
        quantity = lot_quantity(order_quantity(market, size, entry), market)
        if is_enough(market, quantity, entry):
            return False
    return True


def candidates(
    desk: Desk,
    terms: TradeTerms,
    tally: Tally,
    profit: Decimal,
    legs: Sequence[Leg],
    seconds: float,
    *,
    reduces: Callable[[Market, Side], bool] = lambda market, side: False,
    reference: Callable[[Market, Side], Decimal | None] = lambda market, side: None,
) -> list[RepairOrder]:
    """Return what can be sent now, after ``seconds`` on the ladder, best net price first.

    A residual that was bought is sold, one that was sold is bought: where the missing leg was to trade, where it was
    bought (which undoes it), or on another of the bot's markets of the same kind and assets. At first only the
    missing leg may be sent, and only while no other way out is the cheaper one: its price may still come back.
    ``profit`` is the trade's so far, with its residual at the entry price. ``reduces`` tells the orders that only
    close a position, for which no money has to be free, ``reference`` the price that stands for the entry's on a market
    whose prices are another kind's: caps start from it, and prices are ranked by it. The limit stands just beyond the
    worst price the book asks for, never beyond the cap.
    """
    entry = tally.entry_price
    if entry is None:
        raise ValueError("residual: zero, there is nothing to repair")
    side: Side = "sell" if tally.residual > 0 else "buy"
    size = abs(tally.residual)
    missing = {leg.market for leg in legs if leg.side == side}
    first = next((leg.limit for leg in legs if leg.side == side), None)
    found: list[RepairOrder] = []
    ranks: dict[str, float] = {}  # by market
    for place in _everywhere(desk, terms, legs):
        market = desk.markets[place.market]
        purse = terms.purses.get(market.exchange)
        if purse is None or purse not in desk.live_purses:
            continue
        own = reference(market, side) or entry
        cap = terms.ladder.cap(side, own, first, seconds)
        affordable = terms.ladder.affordable(side, size, own, profit, market.taker_fee)
        limit = tighter(side, cap, affordable)
        most = (
            size
            if limit <= 0 or reduces(market, side)
            else affordable_size(desk, market, purse, side, size, limit, terms.leverage)
        )
        order = _price(desk, terms, market, purse, side, most, limit, place.leg)
        if order is not None:
            found.append(order)
            ranks[market.key] = order.net_price / float(own)
    found.sort(key=lambda order: ranks[order.market.key], reverse=side == "sell")
    if terms.ladder.rung(seconds) is Rung.COMPLETE:
        return [order for order in found[:1] if order.market.key in missing]
    return found


def _everywhere(desk: Desk, terms: TradeTerms, legs: Sequence[Leg]) -> list[Leg]:
    """Return the trade's own markets, and the bot's others that trade the same: each of those is a leg of its own."""
    own = [desk.markets[leg.market] for leg in legs]
    alike = {(market.base, market.quote, market.kind) for market in own}
    places = {leg.market: leg for leg in reversed(legs)}
    number = 1 + max(leg.leg for leg in legs)
    for key in terms.markets:
        market = desk.markets.get(key)
        if key in places or market is None or (market.base, market.quote, market.kind) not in alike:
            continue
        places[key] = Leg(leg=number, market=key, side=legs[0].side, limit=None)
        number += 1
    return list(places.values())


def affordable_size(
    desk: Desk,
    market: Market,
    purse: Purse,
    side: Side,
    size: Decimal,
    cap: Decimal,
    leverage: int | None = None,
) -> Decimal:
    """Return what an account has the money for at ``cap``, of ``size`` base units.

    It may hold less than the residual, if its fee was taken from what it bought: then what it holds.
    """
    quantity = order_quantity(market, Decimal(1), cap)
    asset, amount = needed(market, side, quantity, cap, leverage=leverage, mark=desk.middle(market))
    return min(size, desk.portfolio.free(purse, asset) / amount)


def _price(
    desk: Desk, terms: TradeTerms, market: Market, purse: Purse, side: Side, size: Decimal, cap: Decimal, leg: int
) -> RepairOrder | None:
    if cap <= 0:
        return None
    book = desk.fresh_book(market, terms.max_book_age_ms)
    quantity = lot_quantity(order_quantity(market, size, cap), market)
    if book is None or quantity <= 0:
        return None
    if desk.own_trace(market, side, purse):
        return None  # the order that left the residual took from what this book may still show
    book_side = book.bids if side == "sell" else book.asks
    best = book_side.best
    beyond_cap = best < cap if side == "sell" else best > cap
    if best <= 0 or beyond_cap:
        return None
    walked = fill(BaseLevels(book_side, LegTerms.of(market)), float(size))
    worst = Decimal(repr(walked.worst_price)) if walked is not None else cap
    share = Decimal(repr(terms.price_tolerance_bps)) / BPS
    wanted = tighter(side, cap, worst * (1 - share) if side == "sell" else worst * (1 + share))
    price = limit_price(market, wanted, side)
    if not is_enough(market, quantity, price):  # the exchange values it at its limit
        price = limit_price(market, cap, side)
        if not is_enough(market, quantity, price):
            return None
    fee = float(market.taker_fee)
    vwap = walked.vwap if walked is not None else best
    return RepairOrder(
        leg=leg,
        market=market,
        purse=purse,
        side=side,
        price=price,
        quantity=quantity,
        net_price=vwap * (1 - fee) if side == "sell" else vwap * (1 + fee),
    )
