"""What an exchange closes by itself (a liquidation, a deleveraging, a settlement): found by the trade that held it.

An execution is a trade's only where that can't be doubted: the trade holds all that our books explain of the position,
and no more was closed than that. Then it is booked as the trade's own at once, and the trade goes on from there: what
is closed is over, what is left is protected anew, a pair sells what its short hedged no longer. Everything else is
alarmed, compared, and left to a person.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from decimal import Decimal

import msgspec

from trading.execution.basis_trade import BasisTrade
from trading.execution.closed_words import closed_words
from trading.execution.desk import Desk
from trading.execution.reconciliation import FORCED
from trading.execution.ticket import Ticket
from trading.execution.trade import Trade
from trading.execution.trades import Trades
from trading.instruments import holding_of
from trading.messages import MADE_BY_EXCHANGE, Fill, Forced, OrderEvent, OrderKind
from trading.portfolio import Purse

ZERO = Decimal(0)


class ForcedClosures:
    """Hands the executions of an exchange's own orders to the trades of one engine. ``look_soon`` has accounts compared
    as soon as may be."""

    def __init__(self, desk: Desk, trades: Trades, look_soon: Callable[[], None]) -> None:
        self._desk = desk
        self._trades = trades
        self._look_soon = look_soon

    def on_event(self, purse: Purse, event: OrderEvent) -> None:
        """Take what an account's stream, or a sweep of what it missed, says of an order that is not ours."""
        for fill in event.fills:
            if not fill.forced or self._is_known(fill):
                continue
            if purse.paper:
                self._share_out(purse, fill)
                continue
            explained = self._explained(purse, fill)
            # What a sweep tells again may be of long ago: a comparison knows what is booked already.
            differing = self._desk.holdings.differences
            is_news = event.source == "stream" and (fill.account_id, _holding(fill)) not in differing
            holder = self._holder(purse, fill, explained) if is_news else None
            self._alarm(fill, holder)
            if holder is not None:
                self._hand_over(holder, fill)
            self._look_soon()  # what it cost besides is told by the exchange's statement

    def _explained(self, purse: Purse, fill: Fill) -> Decimal:
        """Return what is explained of the position that an execution has closed some of."""
        known = self._desk.holdings.explained(fill.account_id, _holding(fill))
        if known is not None:
            return known
        # Before an account's first comparison, which then begins without what is closed now, only trades explain it.
        held = (trade.contracts(fill.market) for trade in self._holders(purse))
        is_long = fill.position_side == "long"
        return sum((one for one in held if not fill.position_side or (one > 0) is is_long), ZERO)

    def _share_out(self, purse: Purse, fill: Fill) -> None:
        """Let the trades that hold paper money's position have their shares of what was closed, oldest first."""
        left, number = fill.quantity, 0
        for trade in self._holders(purse):
            held = trade.contracts(fill.market)
            share = min(left, abs(held)) if held * _signed(fill) < 0 else ZERO
            if not share:
                continue
            name = f"{fill.exchange_trade_id}-{number}" if number else fill.exchange_trade_id
            fee = None if fill.fee is None else fill.fee * share / fill.quantity
            part = msgspec.structs.replace(fill, exchange_trade_id=name, quantity=share, fee=fee)
            self._alarm(part, trade)
            self._hand_over(trade, part)
            left, number = left - share, number + 1

    def on_compared(self, purse: Purse, fills: Sequence[Fill], books: Mapping[str, Decimal]) -> bool:
        """Take what a comparison found that nobody has told, oldest first; ``books`` has what is explained, by holding.
        Return whether any of it was a trade's: then the books have changed."""
        left, taken = dict(books), False
        for fill in sorted(fills, key=lambda fill: fill.exchange_ns):
            holding = _holding(fill)
            holder = None if self._is_known(fill) else self._holder(purse, fill, left.get(holding, ZERO))
            if holder is not None and self._hand_over(holder, fill):
                self._alarm(fill, holder)
                left[holding] = left.get(holding, ZERO) + _signed(fill)
                taken = True
        return taken

    def _is_known(self, fill: Fill) -> bool:
        """Return whether a trade owns an execution already."""
        return any(
            order.intent.market == fill.market
            and order.intent.account_id == fill.account_id
            and fill.exchange_trade_id in order.fills
            for trade in self._trades.followed()
            for order in trade.orders.values()
            if order.intent.kind in MADE_BY_EXCHANGE
        )

    def _holder(self, purse: Purse, fill: Fill, explained: Decimal) -> Trade | None:
        """Return the trade whose position an execution has closed, or some of it; None where that isn't certain."""
        change = _signed(fill)
        if explained * change >= 0 or abs(change) > abs(explained):
            return None
        if fill.market in self._desk.holdings.in_flight(fill.account_id):
            return None
        found = [trade for trade in self._holders(purse) if trade.contracts(fill.market) == explained]
        return found[0] if len(found) == 1 else None

    def _holders(self, purse: Purse) -> list[Trade]:
        """Return the trades that may hold something of an account's on purpose."""
        return [
            trade
            for trade in self._trades.followed()
            if isinstance(trade, Ticket | BasisTrade) and not trade.finished and purse in trade.terms.purses.values()
        ]

    def _hand_over(self, trade: Trade, fill: Fill) -> bool:
        """Let a trade own an execution; return whether it had room for it."""
        words = f"{closed_words(OrderKind(fill.forced))}: its order {fill.exchange_order_id} ({fill.client_order_id})"
        if not trade.take_closed(fill, words):
            return False
        task = self._trades.tasks.get(trade.record.trade_id)
        if task is None:
            self._trades.settle_again(trade)
        else:  # it may have looked at what it holds a moment ago
            task.add_done_callback(lambda _: self._trades.settle_again(trade))
        return True

    def _alarm(self, fill: Fill, holder: Trade | None) -> None:
        whose = "its account is compared" if holder is None else f"trade {holder.record.trade_id} held it"
        what = FORCED[Forced(fill.forced)][1]
        self._desk.alarm(
            f"account {fill.account_id}: {what[0].lower()}{what[1:]}: {fill.side} {fill.quantity:f} of "
            f"{_holding(fill)} at {fill.price:f} (order {fill.client_order_id}); {whose}"
        )


def _holding(fill: Fill) -> str:
    return holding_of(fill.market, fill.position_side)


def _signed(fill: Fill) -> Decimal:
    return fill.quantity if fill.side == "buy" else -fill.quantity
