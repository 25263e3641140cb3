"""How a pair is closed: how much at once, at what limits, and what that would earn."""

from __future__ import annotations

import math
from decimal import Decimal
from typing import TYPE_CHECKING

from trading.arbitrage.basis import Held, exit_edge, liquidation_distance
from trading.arbitrage.depth import BaseLevels, LegTerms, fill, quantity_within
from trading.basis import Closing
from trading.execution.ladder import worse
from trading.execution.pair import fees_in_quote
from trading.execution.placing import Placement
from trading.execution.repair import is_enough, smallest_order
from trading.instruments import Market, Side, common_step, limit_price

if TYPE_CHECKING:
    from trading.execution.basis_trade import BasisTrade


def levels_of(trade: BasisTrade, market: Market, side: Side) -> BaseLevels | None:
    """Return what an order of ``side`` would walk now; None while the market is not one to trade on."""
    book = trade.desk.fresh_book(market, trade.terms.max_book_age_ms)
    state = trade.desk.market_state(market)
    if book is None or state is None:
        return None
    if side == "sell":
        return BaseLevels(book.bids, LegTerms.of(market), state.bid, state.bid_size)
    return BaseLevels(book.asks, LegTerms.of(market), state.ask, state.ask_size)


def held_now(trade: BasisTrade, *, is_wanted: bool) -> Held:
    """Return a held pair as the rules look at it."""
    pair, standing = trade.pair(), trade.standing
    return Held(
        quantity=float(pair.perp_base(trade.perp)),
        spot_price=float(pair.spot_price or 0),
        perp_price=float(pair.perp_price or 0),
        fees=float(fees_in_quote(trade.orders.values(), trade.spot, trade.desk.value)),
        funding=float(standing.funding),
        opened_ns=trade.record.opened_ns,
        liquidation_bps=liquidation_bps(trade),
        is_wanted=is_wanted,
    )


def liquidation_bps(trade: BasisTrade) -> float | None:
    """Return how far the mark price is from the short's liquidation, in basis points; None while that is not told."""
    told = trade.desk.holdings.of(trade.terms.purses[trade.perp.exchange], trade.perp.key, "short")
    if told is None or not told.mark_price or not told.liquidation_price:
        return None
    return liquidation_distance(float(told.mark_price), float(told.liquidation_price))


def edge_now(trade: BasisTrade, held: Held) -> float:
    """Return the exit edge at the books of now, in basis points; NaN while they can't be traded on or hold too little.

    Where some of the pair was closed before, it is the edge of what is left, with all fees and funding.
    """
    spot, perp = levels_of(trade, trade.spot, "sell"), levels_of(trade, trade.perp, "buy")
    if spot is None or perp is None:
        return math.nan
    quantity, contracts = trade.whole()
    return exit_edge(held, spot, perp, float(quantity), float(contracts * trade.perp.contract_size))


def exit_orders(trade: BasisTrade, legs: tuple[int, int], closing: Closing) -> list[Placement] | str:
    """Return the two closing orders for what both books take within the caps, or one sentence why there are none."""
    for market, side in ((trade.spot, "sell"), (trade.perp, "buy")):
        purse = trade.terms.purses[market.exchange]
        if purse not in trade.desk.live_purses:
            return f"the account on {market.exchange} is not live"
        if trace := trade.desk.own_trace(market, side, purse):  # type: ignore[arg-type]
            return trace
    spot, perp = levels_of(trade, trade.spot, "sell"), levels_of(trade, trade.perp, "buy")
    if spot is None or perp is None:
        return f"{(trade.spot if spot is None else trade.perp).key}: its book is not one to trade on now"
    if not closing.must:
        rules, edge = trade.basis.rules, edge_now(trade, held_now(trade, is_wanted=True))
        if not edge >= rules.exit_bps:
            return f"its exit edge has gone, {edge:.2f} bps of {rules.exit_bps:.2f}"
    quantity, contracts = _sizes(trade, spot, perp)
    orders = [
        _placement(trade, legs[0], trade.spot, "sell", quantity, spot),
        _placement(trade, legs[1], trade.perp, "buy", contracts, perp),
    ]
    for order in orders:
        if not is_enough(order.market, order.quantity, order.price):
            return f"{order.market.key} holds less within the cap than it takes as an order"
    return orders


def _sizes(trade: BasisTrade, spot: BaseLevels, perp: BaseLevels) -> tuple[Decimal, Decimal]:
    """Return the quantities to close (own units): all, or what both books hold within the cap where that is less.

    What is left must be enough for another order.
    """
    quantity, contracts = trade.whole()
    size = trade.perp.contract_size
    band = trade.terms.ladder.completion_bps
    there = min(quantity_within(spot, band), quantity_within(perp, band))
    if there >= max(float(quantity), float(contracts * size)):
        return quantity, contracts
    step = common_step(trade.spot.lot, trade.perp.lot * size)
    part = int(there / float(step)) * step
    left = max(
        smallest_order(trade.spot, Decimal(repr(spot.top))),
        smallest_order(trade.perp, Decimal(repr(perp.top))) * size,
    )
    part = min(part, min(quantity, contracts * size) - left)
    part = max(int(part / step), 0) * step
    return part, part / size


def _placement(
    trade: BasisTrade, leg: int, market: Market, side: Side, quantity: Decimal, levels: BaseLevels
) -> Placement:
    """Return an order whose limit stands just beyond the worst price it is to meet, and within the cap."""
    best = Decimal(repr(levels.top))
    cap = worse(best, trade.terms.ladder.completion_bps, side)
    met = fill(levels, float(quantity * market.contract_size))
    beyond = cap if met is None else worse(Decimal(repr(met.worst_price)), trade.terms.price_tolerance_bps, side)
    wanted = max(beyond, cap) if side == "sell" else min(beyond, cap)
    return Placement(
        leg=leg,
        market=market,
        purse=trade.terms.purses[market.exchange],
        side=side,
        price=limit_price(market, wanted, side),
        quantity=quantity,
        reduce_only=trade.reduces(market, side),
    )
