"""What one ticket says of itself: the steps of its entry and of its last close, why it stands as it does, its views."""

from __future__ import annotations

from typing import TYPE_CHECKING

from trading.execution.closed_words import what_was_closed
from trading.execution.order import Order
from trading.execution.progress import PLACING_ORDER, WITHDRAWING, Progress, steps_of
from trading.execution.protection import WORDS
from trading.execution.result import ZERO
from trading.execution.ticket_views import order_view, position_view, progress_view
from trading.execution.views import View, trade_view
from trading.instruments import base_quantity
from trading.messages import PROTECTIVE, TradeState
from trading.tickets import TicketStep

if TYPE_CHECKING:
    from trading.execution.ticket import Ticket


class Report:
    """Keeps the steps in the ticket's standing, and tells pages."""

    def __init__(self, ticket: Ticket) -> None:
        self._ticket = ticket
        self._clock = ticket.desk.clock
        steps = ticket.standing.progress
        self._entry = Progress(self._clock, steps_of(steps, 0))
        last = steps[-1].command_id if steps else 0
        self._close = Progress(self._clock, steps_of(steps, last), last) if last else None

    # -- how far it has come ----------------------------------------------------------------------------------------

    @property
    def steps(self) -> tuple[TicketStep, ...]:
        return (*self._entry.steps, *(() if self._close is None else self._close.steps))

    def step(self, name: str, text: str = "") -> None:
        """Show the step it has come to: of a close that was asked for, else of the entry."""
        progress = self._entry if self._close is None or self._close.has_ended else self._close
        if progress.step(name, text):
            self._ticket.tell(progress=self.steps, path=self.path())
            self._ticket.store()
            self._publish_progress()

    def begin_close(self, command_id: int) -> None:
        """Show that a close was asked for."""
        self._close = Progress(self._clock, command_id=command_id)
        self.step(WITHDRAWING if self._ticket.protection.orders() else PLACING_ORDER)

    def fall_short(self, why: str) -> None:
        """Say why a close that was asked for leaves something."""
        if self._close is not None:
            self._close.fail(why)

    def end(self, state: TradeState) -> None:
        """Say what became of the entry, and of a close that was asked for: of that, too, if nothing was ever held."""
        reason = self.reason(state)
        if state in {TradeState.HOLDING, TradeState.CLOSED}:
            self._entry.done(reason)
        else:
            self._entry.fail(reason)
        if self._close is None:
            return
        if state is TradeState.EXPOSED:
            self._close.fail(reason)
        else:
            self._close.done(reason)

    # -- why --------------------------------------------------------------------------------------------------------

    def reason(self, state: TradeState) -> str:
        ticket = self._ticket
        if state is TradeState.EXPOSED:
            why, worst = ticket.blocked or ticket.exit.stuck, ticket.worst_residual()
            return f"{why}; up to {abs(worst):f} {ticket.record.base} are held" if worst else why
        if state is TradeState.FAILED:
            return ticket.refused or ticket.note or "; ".join(ticket.causes()) or "nothing was filled"
        reasons = [ticket.note] if ticket.note else []
        if state is TradeState.CLOSED and (why := self._why_closed()):
            reasons.insert(0, why)
        reasons = [*what_was_closed(ticket.orders.values()), *reasons]
        tally = ticket.tally()
        if tally.fees_pending and state is TradeState.CLOSED:
            reasons.append(f"the fees of {tally.fees_pending} fills are not known yet")
        for asset, amount in ticket.result().unvalued.items():
            reasons.append(f"fees of {amount:f} {asset} have no price in {ticket.record.quote}")
        held = ticket.position().held
        if state is TradeState.CLOSED and held and not ticket.asked.is_close_only:
            reasons.append(f"{held:f} stays, below the smallest order")
        return "; ".join(reasons)

    def _why_closed(self) -> str:
        orders = self._ticket.orders.values()
        filled = [order for order in orders if order.intent.kind in PROTECTIVE and order.fills]
        if not filled:
            return self._ticket.exit.cause
        return " and ".join(f"the {WORDS[order.intent.kind]} filled {order.filled.normalize():f}" for order in filled)

    # -- to pages ---------------------------------------------------------------------------------------------------

    def path(self) -> str:
        """Return how its orders go: paper, or as the last of them did."""
        ticket = self._ticket
        if ticket.purse.paper:
            return "paper"
        return next((order.path for order in reversed(ticket.orders.values()) if order.path), ticket.standing.path)

    def publish(self) -> None:
        """Tell how it stands."""
        ticket, desk, standing = self._ticket, self._ticket.desk, self._ticket.standing
        if ticket.is_durable:
            view = trade_view(ticket.record, ticket.terms, ticket.orders.values(), ZERO)
            self._tell("trade", ticket.record.trade_id, view)
        self._publish_progress()
        if ticket.asked.is_close_only:
            return
        side = ticket.asked.side
        mark = ticket.protection.closing_price()
        gain = None
        if mark is not None and standing.entry_price and ticket.market.kind != "inverse":
            size = base_quantity(ticket.market, standing.held, mark)
            gain = (mark - standing.entry_price) * size * (1 if side == "buy" else -1)
        position = position_view(
            ticket.record,
            ticket.asked,
            standing,
            account=ticket.terms.account,
            mark=mark,
            gain=gain,
            told=desk.holdings.of(ticket.purse, ticket.market.key, "long" if side == "buy" else "short"),
            told_ns=desk.holdings.told_ns(ticket.purse),
        )
        self._tell("position", ticket.record.trade_id, position)

    def publish_order(self, order: Order) -> None:
        ticket = self._ticket
        path = "paper" if ticket.purse.paper else order.path
        account, now_ns = ticket.terms.account, self._clock.time_ns()
        view = order_view(order, ticket.record, account=account, path=path, at_ns=now_ns)
        self._tell("order", order.intent.client_order_id, view)

    def _publish_progress(self) -> None:
        ticket = self._ticket
        trade_id, reason, path = ticket.record.trade_id, ticket.record.reason, ticket.standing.path
        view = progress_view(trade_id, ticket.asked.command_id, self._entry.steps, path, reason)
        self._tell("progress", trade_id, view)
        if self._close is not None:
            command_id = self._close.command_id
            view = progress_view(trade_id, command_id, self._close.steps, path, reason)
            self._tell("progress", f"command-{command_id}", view)

    def _tell(self, kind: str, key: str, view: View) -> None:
        self._ticket.desk.publisher.publish(self._ticket.desk.owner_id, kind, key, view)
