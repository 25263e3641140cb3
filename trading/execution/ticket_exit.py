"""How one ticket's position is brought down: because its owner asked, a level was reached, or it is too much."""

from __future__ import annotations

from decimal import Decimal
from typing import TYPE_CHECKING

from risk.policy.switch import Action, verdict
from trading.execution.placing import LAST_ATTEMPT
from trading.execution.position import OPPOSITE
from trading.execution.progress import PLACING_ORDER
from trading.execution.protection import WORDS
from trading.execution.result import ZERO
from trading.execution.working import Worked
from trading.instruments import Side, lot_quantity
from trading.messages import TradeState
from trading.tickets import CLOSE_LEG, STOP_LOSS_LEG, ClosingTerms, WorkingStyle

if TYPE_CHECKING:
    from trading.execution.ticket import Ticket

KILLED_SECONDS = 0.5  # how often a close that the trading switch forbids looks whether it may go on
CLOSE_PAUSES = (0.5, 1.0, 2.0, 5.0)  # between attempts to close what has to be closed
LAST_LEG = 35
CLOSE_LEGS = (CLOSE_LEG, *range(STOP_LOSS_LEG + 1, LAST_LEG + 1))
AT_ONCE = WorkingStyle(kind="market")
SURPLUS = "more was closed than there was"
LATE = "it filled after it had ended"


class Exit:
    """``stuck`` says why what is held can't be closed, ``cause`` why it was."""

    def __init__(self, ticket: Ticket) -> None:
        self._ticket = ticket
        self.stuck = ""
        self.cause = ""
        self._failed = 0  # attempts in a row

    def ask(self, closing: ClosingTerms) -> str:
        """Ask to bring the position down; return why not, or an empty string."""
        ticket = self._ticket
        if closing.command_id and closing.command_id in ticket.standing.carried_out:
            return ""  # it was, by a process that died before it could say so
        if ticket.finished:
            return f"Trade {ticket.record.trade_id} has ended: it holds nothing to close."
        if ticket.holds and ticket.position().whole(ticket.market) < ticket.least():
            return f"Trade {ticket.record.trade_id} holds less than {ticket.market.key} takes as an order."
        carried_out = (*ticket.standing.carried_out, closing.command_id) if closing.command_id else ()
        ticket.tell(closing=closing, carried_out=carried_out or ticket.standing.carried_out)
        if closing.command_id:
            ticket.report.begin_close(closing.command_id)
        ticket.store()
        ticket.workings.stop(closing.cause)
        return ""

    def due(self, held: Decimal) -> ClosingTerms | None:
        """Return how the position is to be brought down, if it is."""
        ticket = self._ticket
        if held < ticket.least():
            return None
        if ticket.standing.closing is None:
            cause, keep, protection = "", ZERO, ticket.protection
            if ticket.has_ended:
                cause = LATE
            elif (reached := protection.reached) is not None:
                cause = f"the {WORDS[reached]} at {protection.levels[reached].normalize():f} was reached"
            elif held > ticket.asked.quantity:
                cause, keep = "more filled than was asked for", ticket.asked.quantity
            if cause:
                ticket.tell(closing=ClosingTerms(keep=keep, style=AT_ONCE, cause=cause))
        return ticket.standing.closing

    async def close(self, closing: ClosingTerms, held: Decimal) -> bool:
        """Close down to what is to be kept, once what protects it is gone; return whether there is more to do."""
        ticket = self._ticket
        quantity = lot_quantity(held - closing.keep, ticket.market)
        if quantity < ticket.least():
            self._is_done()
            return True
        self.cause = closing.cause
        ticket.restate(TradeState.REPAIRING)
        if await self._is_killed() or await ticket.withdraw():
            return True
        ticket.report.step(PLACING_ORDER)
        worked = await self._work(OPPOSITE[ticket.asked.side], quantity, closing.style, closing.limit_cap)
        if worked is None:
            return False
        if worked.filled >= quantity or closing.command_id:
            self._is_done(worked.reason and f"{worked.filled:f} of {quantity:f} were closed: {worked.reason}")
            if worked.filled < quantity:
                ticket.report.fall_short(ticket.note)
        elif not worked.filled:
            await self._wait(worked.reason)
        return True

    async def take_back(self, surplus: Decimal) -> bool:
        """Undo what was closed beyond what there was, such as by a take-profit and a stop-loss that both filled.

        Of a contract that was somebody else's on the same side, since an exchange closes no more than a side holds, so
        it is opened again. An order that only reduces would be refused, or close the other side.
        """
        ticket = self._ticket
        ticket.desk.alarm(f"trade {ticket.record.trade_id}: {SURPLUS}, {surplus:f} too much; it is taken back")
        ticket.note = SURPLUS
        ticket.restate(TradeState.REPAIRING)
        if await self._is_killed() or await ticket.withdraw():
            return True
        worked = await self._work(ticket.asked.side, surplus, AT_ONCE, None, reduces=False)
        if worked is None:
            return False
        if not worked.filled:
            await self._wait(worked.reason)
        return True

    async def _work(
        self, side: Side, quantity: Decimal, style: WorkingStyle, cap: Decimal | None, *, reduces: bool = True
    ) -> Worked | None:
        """Work a quantity that closes, or undoes closing; None once the trade has no more ids for such orders."""
        ticket = self._ticket
        leg = next((leg for leg in CLOSE_LEGS if ticket.placing.next_attempt(leg) <= LAST_ATTEMPT), None)
        if leg is None:
            self.stuck = "its closing orders have used up their ids"
            return None
        ticket.promise(ZERO)
        protection = ticket.protection

        def worst() -> Decimal:
            if cap is not None:
                return cap
            return protection.cap(protection.closing_price(side) or ticket.price(), side)

        worked = await ticket.workings.work(
            ticket.market,
            ticket.purse,
            side,
            quantity,
            style,
            leg=leg,
            reduce_only=reduces and ticket.market.kind != "spot",
            cap=worst,
            why_stop=lambda: ticket.desk.halted,
        )
        ticket.count(worked)
        return worked

    def _is_done(self, note: str = "") -> None:
        self._ticket.note = note
        self._failed = 0
        self._ticket.protection.reached = None
        self._ticket.tell(closing=None)

    async def _wait(self, why: str) -> None:
        """Try again in a moment: what has to go is not kept because the book was thin."""
        ticket = self._ticket
        ticket.note = why
        pause = CLOSE_PAUSES[min(self._failed, len(CLOSE_PAUSES) - 1)]
        self._failed += 1
        if self._failed == 1:
            ticket.desk.alarm(f"trade {ticket.record.trade_id} could not be closed at once: {why}")
        ticket.restate(TradeState.REPAIRING)
        await ticket.desk.clock.sleep(pause)

    async def _is_killed(self) -> bool:
        """Wait a moment if trading is killed; what protects the position stays where it is meanwhile."""
        ticket = self._ticket
        switched = verdict(ticket.desk.switch_of(ticket.record.bot_id), Action.REDUCE)
        if switched.allowed:
            return False
        ticket.note = switched.reason.rstrip(".")
        ticket.restate(TradeState.REPAIRING)
        await ticket.desk.clock.sleep(KILLED_SECONDS)
        return True
