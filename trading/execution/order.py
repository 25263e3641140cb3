"""An order as it is known now: its intent, its state, and the fills that are the only truth about quantities.

The view is a join of evidence: events may come in any order, twice, or late, and lead to the same view.
"""

from __future__ import annotations

from collections.abc import Iterable
from decimal import Decimal

import msgspec

from trading.execution.states import FAILED, FILLED, PARTIAL, PLACED, is_terminal, next_state, revives
from trading.messages import Fill, OrderEvent, OrderIntent, OrderState

ZERO = Decimal(0)


class Change(msgspec.Struct, frozen=True):
    """What one event did.

    ``new_fills`` were not known before, ``late_fees`` were known without their fee; ``alarm`` is a sentence for a
    person, or empty.
    """

    before: OrderState
    after: OrderState
    new_fills: tuple[Fill, ...] = ()
    late_fees: tuple[Fill, ...] = ()
    alarm: str = ""

    @property
    def anything(self) -> bool:
        return bool(self.before is not self.after or self.new_fills or self.late_fees or self.alarm)


class Order:
    """One order of ours. Changed only by :meth:`apply`."""

    __slots__ = (
        "_claimed",
        "_named_filled",
        "_total_named",
        "exchange_order_id",
        "fills",
        "intent",
        "note",
        "overfilled",
        "path",
        "questions",
        "sent_ns",
        "state",
    )

    def __init__(self, intent: OrderIntent, state: OrderState = OrderState.PENDING) -> None:
        self.intent = intent
        self.state = state
        self.exchange_order_id = ""
        self.fills: dict[str, Fill] = {}
        self.overfilled = False
        self.note = ""  # how it is worked, for its history
        self.path = ""  # how this process sent it: ``websocket``, ``rest``, or nowhere (paper)
        self.questions = 0  # how often an exchange was asked about it, by this process
        self.sent_ns = 0  # monotonic, when the request left; 0 if this process did not send it
        self._claimed: Decimal | None = None  # the largest cumulative quantity the exchange has named
        self._total_named = False  # whether a final report named its cumulative quantity
        self._named_filled = False  # whether one that called the order filled did: less than ordered, if it was cut

    def apply(self, event: OrderEvent) -> Change:
        """Book an event's fills, then move to the state the table allows."""
        before, was_settled = self.state, self.settled
        alarms = []
        self._note_figures(event)
        if event.state is FILLED and event.filled:  # of what is stored it is not known which report named the figure
            self._named_filled = True
        new_fills, late_fees = self._book(event.fills)
        # A terminal state whose fills are still to come is no surprise; a larger total may be told before its fill.
        if was_settled and (new_fills or self.filled < self.claimed):
            alarms.append(f"order {self.intent.client_order_id}: late fill after {before.value}")
        reported = self._reported(event)
        if revives(before, reported):
            alarms.append(f"order {self.intent.client_order_id}: was written off as failed, the exchange has it")
        following = next_state(before, reported)
        if following is None:
            following = before
            alarms.append(f"order {self.intent.client_order_id}: {reported.value} is illegal after {before.value}")
        self.state = self._with_fills(following)
        if self.filled > self.intent.quantity and not self.overfilled:
            self.overfilled = True
            alarms.append(
                f"order {self.intent.client_order_id}: filled {self.filled} of {self.intent.quantity} ordered: overfill"
            )
        return Change(before, self.state, new_fills, late_fees, "; ".join(alarms))

    def _note_figures(self, event: OrderEvent) -> None:
        if event.exchange_order_id:
            self.exchange_order_id = event.exchange_order_id
        if event.filled is not None and (self._claimed is None or event.filled > self._claimed):
            self._claimed = event.filled
        if is_terminal(event.state) and (event.filled is not None or event.state is not OrderState.CANCELLED):
            self._total_named = True

    def _book(self, fills: Iterable[Fill]) -> tuple[tuple[Fill, ...], tuple[Fill, ...]]:
        new: list[Fill] = []
        late_fees: list[Fill] = []
        for fill in fills:
            known = self.fills.get(fill.exchange_trade_id)
            if known is None:
                self.fills[fill.exchange_trade_id] = fill
                new.append(fill)
            elif known.fee is None and fill.fee is not None:
                self.fills[fill.exchange_trade_id] = fill
                late_fees.append(fill)
        return tuple(new), tuple(late_fees)

    def _reported(self, event: OrderEvent) -> OrderState:
        """Return the state an event speaks of; fills without any state of their own say "at least partly filled"."""
        if event.fills and event.state in {OrderState.UNKNOWN, OrderState.SENDING, PLACED}:
            return PARTIAL
        return event.state

    def _with_fills(self, state: OrderState) -> OrderState:
        filled = self.filled
        if filled <= 0:
            return state
        if filled >= self.intent.quantity:
            return FILLED
        if state in {OrderState.PENDING, OrderState.SENDING, OrderState.UNKNOWN, PLACED}:
            return PARTIAL
        if state is FAILED:
            return OrderState.CANCELLED
        return state

    @property
    def filled(self) -> Decimal:
        """Quantity filled, from fills alone."""
        return sum((fill.quantity for fill in self.fills.values()), ZERO)

    @property
    def claimed(self) -> Decimal:
        """The quantity the exchange says is filled; at least what the fills show.

        An order called filled without a figure has filled what was ordered; with one, that is all there is, though an
        exchange that cut the quantity names less.
        """
        if self.state is FILLED and not self._named_filled:
            return max(self._claimed or ZERO, self.intent.quantity, self.filled)
        return max(self._claimed or ZERO, self.filled)

    @property
    def cost(self) -> Decimal:
        """Sum of price times quantity of the fills."""
        return sum((fill.price * fill.quantity for fill in self.fills.values()), ZERO)

    @property
    def average_price(self) -> Decimal | None:
        """Volume-weighted price of the fills, or None without fills."""
        filled = self.filled
        return self.cost / filled if filled else None

    @property
    def fees(self) -> dict[str, Decimal]:
        """Known fees by asset (a rebate is negative)."""
        total: dict[str, Decimal] = {}
        for fill in self.fills.values():
            if fill.fee is not None and fill.fee != 0:
                total[fill.fee_asset] = total.get(fill.fee_asset, ZERO) + fill.fee
        return total

    @property
    def fee_pending(self) -> bool:
        return any(fill.fee is None for fill in self.fills.values())

    @property
    def settled(self) -> bool:
        """Return whether nothing more is to come: terminal, and every quantity the exchange named is in fills.

        A cancellation that does not say how much was filled before it leaves that question open.
        """
        if not is_terminal(self.state) or self.filled < self.claimed:
            return False
        return self._total_named or self.state is FILLED

    @property
    def unresolved(self) -> bool:
        return self.state in {OrderState.SENDING, OrderState.UNKNOWN, OrderState.DISPUTED}

    @property
    def most(self) -> Decimal:
        """The most this order may fill in the end: for the worst case of what is not settled."""
        return self.filled if self.settled else max(self.intent.quantity, self.filled)

    def restore(self, event: OrderEvent) -> None:
        """Take back what a store kept of this order: fills and figures. The stored state stands, but fills move it."""
        self._note_figures(event)
        self._book(event.fills)
        self.state = self._with_fills(self.state)
        self.overfilled = self.filled > self.intent.quantity  # alarmed when it was booked; the trade still has to ask
