"""A trade's missing leg as an adaptive limit order: once, before the ladder completes it at the market's price."""

from __future__ import annotations

from collections.abc import Sequence
from decimal import Decimal
from typing import TYPE_CHECKING

import msgspec

from risk.policy.switch import Action, verdict
from trading.execution.fitting import fitted_to_trade, part_of, words
from trading.execution.ladder import tighter
from trading.execution.pricing import WorkingStyle
from trading.execution.repair import Leg, affordable_size, smallest_order
from trading.execution.result import tally
from trading.instruments import Side, lot_quantity, order_quantity
from trading.portfolio import Purse

if TYPE_CHECKING:
    from trading.execution.saga import Saga

SHORTEST_SECONDS = 0.2  # for less an order is not worth its way


class Completing:
    """What one trade may still do to have its missing leg filled in the spread."""

    def __init__(self, trade: Saga) -> None:
        self._trade = trade
        self._desk = trade.desk
        self._over = False  # a part of it did not fill, or was begun by nobody knows whom

    async def work(self, legs: Sequence[Leg]) -> bool:
        """Work what the missing leg lacks, for what is left of the completion time; return whether anything was sent.

        How it is worked follows the score and the liquidity of the trade's opportunity. A part of it, where the market
        is thin: the next call works the next part, if this one filled. Its cap is the ladder's, and widens with it.
        Whatever is left after that is the ladder's.
        """
        trade, desk = self._trade, self._desk
        style, seconds = trade.terms.completion, trade.record.repair_ms / 1000
        left = trade.terms.ladder.completion_seconds - seconds
        if style is None or self._over or left < SHORTEST_SECONDS or desk.stopping:
            return False
        start = trade.tally()
        entry = start.entry_price
        if entry is None:
            return False
        side: Side = "sell" if start.residual > 0 else "buy"
        leg = next((leg for leg in legs if leg.side == side), None)
        if leg is None:
            return False
        market = desk.markets[leg.market]
        purse = trade.terms.purses[market.exchange]
        if not self._may_begin(leg, purse):
            return False
        began_ns, known = desk.clock.monotonic_ns(), frozenset(trade.orders)

        def cap() -> Decimal:
            on_ladder = seconds + (desk.clock.monotonic_ns() - began_ns) / 1e9
            size = abs(trade.tally().residual)
            within = trade.terms.ladder.cap(side, entry, leg.limit, on_ladder)
            if not size:
                return within
            profit = trade.result().profit
            return tighter(side, within, trade.terms.ladder.affordable(side, size, entry, profit, market.taker_fee))

        def why_stop() -> str:
            switched = verdict(desk.switch_of(trade.record.bot_id), Action.REDUCE)
            if not switched.allowed:
                return switched.reason
            if desk.stopping:
                return "the engine stops"
            first = [order for client_id, order in trade.orders.items() if client_id in known]
            if tally(first, desk.markets).residual != start.residual:
                return "more filled of the other orders"
            return ""

        if cap() <= 0:
            return False
        size = affordable_size(desk, market, purse, side, abs(start.residual), cap())
        smallest = smallest_order(market, cap())
        quantity = lot_quantity(order_quantity(market, size, cap()), market)
        if quantity < smallest:
            return False
        self._over = True
        fitted = fitted_to_trade(style, trade.record)
        quantity = part_of(quantity, fitted.size, market, smallest)
        cut = _cut(fitted.style, side, left)
        worked = await trade.workings.work(
            market,
            purse,
            side,
            quantity,
            cut,
            leg=leg.leg,
            note=words(cut, side, score=trade.record.score, liquidity=trade.record.liquidity),
            cap=cap,
            why_stop=why_stop,
        )
        self._over = worked.filled < quantity
        return worked.attempts > 0

    def _may_begin(self, leg: Leg, purse: Purse) -> bool:
        """Return whether the market can be worked in now; the ladder waits until it can."""
        desk, market = self._desk, self._desk.markets[leg.market]
        if purse not in desk.live_purses or desk.fresh_book(market, self._trade.terms.max_book_age_ms) is None:
            return False
        return not desk.own_trace(market, leg.side, purse)


def _cut(style: WorkingStyle, side: Side, left: float) -> WorkingStyle:
    seconds = min(style.seconds(side), left)
    return msgspec.structs.replace(style, buy_seconds=seconds, sell_seconds=seconds, fallback=False)
